"""Laying what a fork has changed on a directory of the user's own, as unstaged edits.

Decided here: what counts as a change of the fork, and when nothing may be written. A path may be written if the
directory holds there what the fork began with, what an earlier `apply` wrote, or what its own commits have and the fork
has since (`exchange.applied`); a path that holds what the fork has now is done already; anything else is a change of
the user's own, and then no path is written. What an earlier `apply` wrote and the fork has taken back since, is taken
back in the directory, too. Where the fork began with something uncommitted and its workspace has uncommitted changes,
the branch does not tell what the fork made of that: such a path is left as it is. What git leaves out of a sparse
checkout counts as there, with the content that the index names; only for that the index is read. Only files are
touched: the index, the hooks and the branches of a repository that the directory belongs to stay as they are, and no
git runs.

Called without a lock; reads commits only. No step follows a symbolic link of the directory. Each file is replaced whole
by a rename that takes out what was there: avfs looks at what comes out, and puts it back if the user has saved it
meanwhile, or if the look is cut short. A failure puts back what was written, from the vault's objects. A crash leaves
some files old and some new, perhaps with a file beside that was taken out (`.avfs-….tmp`): that may be the only place
of an edit that the user saved in this moment. The same command then completes the rest, and names such files in a
warning.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import (
    ApplyConflict,
    AvfsError,
    HostError,
    InvalidInput,
    NotAVault,
    ObjectMissing,
    PathNotFound,
    name_some,
    quote,
)
from avfs_git.faults import reach
from avfs_git.gitstore.compare.treediff import changed_file, diff_trees, sizes_here
from avfs_git.gitstore.config.gitconfig import read_config
from avfs_git.gitstore.formats.fullindex import INDEX_MAX, read_full_index
from avfs_git.gitstore.formats.index import BadIndex
from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_FILE, MODE_GITLINK, MODE_SYMLINK, MODE_TREE, find_entry
from avfs_git.gitstore.objects.blobfile import hash_file
from avfs_git.gitstore.objects.store import hash_object
from avfs_git.gitstore.repofile import read_plain_file
from avfs_git.gitstore.repository import find_git_dir
from avfs_git.host.files.beneath import (
    OPEN_LIST,
    RENAME_EXCHANGE,
    RENAME_NOREPLACE,
    Descriptor,
    chmod_at,
    open_at,
    open_beneath,
    rename_at,
)
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import host_errors, write_all
from avfs_git.model import ApplyResult, ChangedFile, ChangeKind, Warning
from avfs_git.paths import ROOT, Oid, TreePath, climb, components, join, maybe_oid, oid_of, show_path, split
from avfs_git.patterns import compiled
from avfs_git.vfs.layer.lower import read_target
from avfs_git.vfs.layer.readers import Directories
from avfs_git.workspace.exchange.applied import Held, Written, list_merged, note_applied, read_applied
from avfs_git.workspace.exchange.outgoing import log_apply
from avfs_git.workspace.exchange.shown import Recorded, Shown, read_permissions
from avfs_git.workspace.exchange.source import check_source
from avfs_git.workspace.vault.identity import find_making
from avfs_git.workspace.vault.revisions import resolve_revision
from avfs_git.workspace.vault.vault import OpenVault

_OTHER: Held = (0, "")
"""What git has no word for, a directory among them."""
_TEMPORARY = compiled(rb"\.avfs-[0-9a-f]{12}\.tmp")
_NO_FLAGS = frozenset({errno.EINVAL, errno.ENOSYS})
"""How the system says that it cannot exchange two names: some network file systems."""


def apply_fork(
    vault: OpenVault,
    fork: str,
    directory: Path,
    *,
    since: str | None = None,
    uncommitted: AbstractSet[TreePath] | None = frozenset(),
    paths: Sequence[TreePath] = (),
    dry_run: bool = False,
    ask: Callable[[Sequence[ChangedFile]], None] | None = None,
) -> ApplyResult:
    """Write what a fork's checkpoints have changed into a directory.

    Changes are counted from `since`, by default from what the fork began with. `uncommitted` are the paths at which the
    fork's workspace differs from its branch; None if that is not known. `ask` is called before anything is written, and
    may raise.

    Raises:
        ForkNotFound, CheckpointNotFound, PathNotFound: If there is no such fork, state or path, or no checkpoint.
        ApplyConflict: If the directory has changes of its own there; nothing was written.
        ObjectCorrupt: If no link can have the target that the fork has for one; nothing was written.
        CloneReplaced: If the directory is that of the vault's forks, and another repository is there now.
        InvalidInput: If the directory lies inside the source of the vault, or it is not known what the fork began with.
        HostError: If the directory cannot be read or written.
    """
    _check_top(vault, directory)
    check_source(vault.git_dir, vault.name, Path(os.path.realpath(directory)))
    head = resolve_revision(vault, "HEAD", fork=fork)
    start, below = (resolve_revision(vault, since, fork=fork), None) if since is not None else _beginning(vault, fork)
    applied = read_applied(vault, fork, directory)
    known = applied if since is None else {}
    old, new = vault.store.read_commit(start), vault.store.read_commit(head)
    for path in paths:
        is_known = any(find_entry(vault.store, commit.tree, path) for commit in (old, new))
        if not is_known and not any(one == path or one.startswith(path + b"/") for one in applied):
            raise PathNotFound(path)
    wanted = diff_trees(vault.store, old.tree, new.tree, paths=paths, size_of=sizes_here(vault.store))
    back = _list_taken_back(vault, new.tree, known, {change.path for change in wanted}, paths)
    merged = list_merged(vault, directory, below, head) if below is not None else {}
    unsettled = _list_unsettled(vault, below, old.tree, uncommitted)
    told = [_warn_unsettled(fork, TreePath(change.path)) for change in wanted if change.path in unsettled]
    wanted, back = ([change for change in listed if change.path not in unsettled] for listed in (wanted, back))
    shown = Shown(directory, vault.remote_environment or {})
    wanted, back = shown.as_written(wanted), shown.as_written(back)
    left: dict[TreePath, tuple[Held, ...]] = dict(applied)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    with host_errors(f"write into '{directory}'"), closing_fd(os.open(directory, flags)) as root:
        todo, warnings = _plan(vault, root, directory, shown, [*wanted, *back], known, merged, left)
        if not dry_run:
            if ask is not None:
                ask([change for change, _ in todo])
            try:
                if todo:
                    left |= {TreePath(one.path): (_held(one.new_mode, one.new_oid), held) for one, held in todo}
                    note_applied(vault, fork, directory, left)
                _write_all(vault, root, directory, todo, Recorded(vault, fork, head), applied, left)
                log_apply(vault, fork, directory, [change for change, _ in todo])
            finally:
                for change in back:  # there the directory has what the fork began with
                    if left.get(TreePath(change.path)) == (_held(change.new_mode, change.new_oid),):
                        del left[TreePath(change.path)]
                if left != applied or todo:
                    note_applied(vault, fork, directory, left)
    return ApplyResult(fork, directory, start.hex(), tuple(change for change, _ in todo), (*told, *warnings))


def _plan(
    vault: OpenVault,
    root: int,
    directory: Path,
    shown: Shown,
    wanted: Sequence[ChangedFile],
    known: Written,
    merged: Mapping[TreePath, Held],
    left: dict[TreePath, tuple[Held, ...]],
) -> tuple[list[tuple[ChangedFile, Held]], list[Warning]]:
    """List what has to be written, with what is there; take out of `left` what the user has brought to that state.

    Raises:
        ApplyConflict: If the directory has changes of its own there.
    """
    todo: list[tuple[ChangedFile, Held]] = []
    own: list[str] = []
    warnings: list[Warning] = []
    left_out: Mapping[bytes, Held] | None = None
    going = frozenset(change.path for change in wanted if change.new_oid is None)
    led = {above for change in wanted if change.new_oid is not None for above in climb(split(TreePath(change.path))[0])}
    for change in wanted:
        path = TreePath(change.path)
        if MODE_GITLINK in (change.old_mode, change.new_mode):
            text = f"'{show_path(path)}' is a submodule; it was left as it is"
            warnings.append(Warning("apply.submodule", text, path))
            continue
        held, after = _look(root, path, going, led), _held(change.new_mode, change.new_oid)
        counts_as = held
        if held is None and change.old_oid is not None:
            left_out = _list_left_out(vault, directory) if left_out is None else left_out
            counts_as = left_out.get(path)
            if counts_as is not None and after is None:
                text = (
                    f"git leaves '{show_path(path)}' out of the directory, and the fork has removed it; it was "
                    "left as it is"
                )
                warnings.append(Warning("apply.left_out", text, path))
                continue
        if held == after:
            if path in left:
                left[path] = (after,)
            continue
        before = [_held(change.old_mode, change.old_oid), *([merged[path]] if path in merged else [])]
        if not shown.is_any(counts_as, before) and not shown.is_any(held, known.get(path, ())):
            own.append(show_path(path))
        if change.new_mode == MODE_SYMLINK and change.new_oid is not None:
            read_target(vault.store, oid_of(change.new_oid))  # before anything is written
        todo.append((change, held))
    found = _list_left(root, [TreePath(change.path) for change in wanted])
    if own:
        raise ApplyConflict(os.fspath(directory), own, left=[show_path(path) for path in found])
    for path in found:
        text = f"'{show_path(path)}' may hold an edit of yours: an `apply` was killed and left it there"
        warnings.append(Warning("apply.left", text, path))
    return todo, warnings


def _list_left_out(vault: OpenVault, directory: Path) -> Mapping[bytes, Held]:
    """List a directory's files that git was told to leave out (`skip-worktree`), by its index; empty without one."""
    git_dir = find_git_dir(directory)
    try:
        data = read_plain_file(git_dir / "index", limit=INDEX_MAX) if git_dir is not None else b""
        index = read_full_index(data, git_dir, vault.store.read_tree) if git_dir is not None else None
    except (OSError, NotAVault, BadIndex, ObjectMissing):
        return {}
    entries = [index.entry(number) for number in range(len(index))] if index is not None else []
    return {entry.path: (entry.mode, entry.oid.hex()) for entry in entries if entry.is_left_out}


def _write_all(
    vault: OpenVault,
    root: int,
    directory: Path,
    todo: Sequence[tuple[ChangedFile, Held]],
    recorded: Recorded,
    applied: Written,
    left: dict[TreePath, tuple[Held, ...]],
) -> None:
    """Write what `_plan` lists, and note each path in `left`.

    Raises:
        ApplyConflict: If the user saved a file meanwhile; the others were written.
        HostError, ObjectMissing: If a file cannot be written; avfs puts back what it wrote, and names what it cannot.
        KeyboardInterrupt: If a signal ends the program; avfs puts back what it wrote.
    """
    own: list[str] = []
    done: list[tuple[ChangedFile, Held, int | None]] = []
    directories = _list_directories(root, [TreePath(change.path) for change, _ in todo])

    def forget(path: TreePath) -> None:
        left.pop(path)
        if path in applied:
            left[path] = applied[path]

    # What goes first: a directory may stand where a file was, and the reverse.
    ordered = sorted(todo, key=lambda each: each[0].kind is not ChangeKind.DELETED)
    for at, (change, held) in enumerate(ordered):
        path, permissions = TreePath(change.path), None
        try:
            reach("apply.next")
            permissions = _find_permissions(root, path)
            is_written = _write(vault, root, change, held, recorded=recorded)
            reach("apply.written")
        except BaseException as error:  # a signal, too: it may come before or after the file is written
            _remove_empty(root, split(path)[0])
            if _is_written(root, change):
                _put_back(vault, root, change, held, permissions)
            stay = [one for one in reversed(done) if not _put_back(vault, root, *one)]
            _put_back_directories(root, directories)
            for one, _ in [*ordered[at:], *(one[:2] for one in done if one not in stay)]:
                if TreePath(one.path) in left:
                    forget(TreePath(one.path))
            if not isinstance(error, (OSError, AvfsError)):
                raise
            raise _name_written(error, directory, path, [show_path(one.path) for one, _, _ in stay]) from error
        if is_written:
            left[path] = (_held(change.new_mode, change.new_oid),)
            done.append((change, held, permissions))
            continue
        own.append(show_path(path))
        forget(path)
    if own:
        found = [show_path(path) for path in _list_left(root, [TreePath(change.path) for change, _ in todo])]
        raise ApplyConflict(os.fspath(directory), own, written=len(todo) - len(own), left=found)


def _is_written(root: int, change: ChangedFile) -> bool:
    """Tell whether a directory has at a path what the fork has."""
    try:
        return _look(root, TreePath(change.path), frozenset(), frozenset()) == _held(change.new_mode, change.new_oid)
    except OSError:
        return False


def _put_back(vault: OpenVault, root: int, change: ChangedFile, held: Held, permissions: int | None) -> bool:
    """Bring a path to what it was before it was written.

    Return False if the user has saved the file since, or the disk refuses.
    """
    now = _held(change.new_mode, change.new_oid)
    before, after = (None if one is None else (one[0], oid_of(one[1])) for one in (now, held))
    try:
        return _write(vault, root, changed_file(TreePath(change.path), before, after), now, permissions)
    except (OSError, AvfsError):
        return False


def _list_directories(root: int, paths: Sequence[TreePath]) -> dict[TreePath, int]:
    """List the directories that lead to some paths, outer ones first, with their permissions."""
    found: dict[TreePath, int] = {}
    for path in paths:
        names = components(split(path)[0])
        for depth in range(1, len(names) + 1):
            above = TreePath(b"/".join(names[:depth]))
            if above not in found:
                try:
                    there = open_beneath(root, names[:depth])
                except OSError:  # not there
                    break
                found[above] = stat.S_IMODE(os.fstat(there.fd).st_mode)
    return found


def _put_back_directories(root: int, directories: Mapping[TreePath, int]) -> None:
    """Make directories that went with their last file, and give the ones made anew their old permissions."""
    for directory, mode in directories.items():
        above, name = split(directory)
        with suppress(OSError):  # a full disk, or the user has something else there
            parent = open_beneath(root, components(above))
            with suppress(FileExistsError):
                os.mkdir(name, dir_fd=parent.fd)
            if stat.S_IMODE(os.stat(name, dir_fd=parent.fd, follow_symlinks=False).st_mode) != mode:
                chmod_at(parent.fd, name, mode)


def _name_written(error: OSError | AvfsError, directory: Path, path: TreePath, stay: Sequence[str]) -> AvfsError:
    """Make the error that names the path that could not be written, and what stays written of the others."""
    failed = HostError(f"write '{show_path(path)}' in '{directory}'", error) if isinstance(error, OSError) else error
    failed.message += f"; these stay written: {name_some(stay)}" if stay else "; nothing was changed there"
    failed.args = (failed.message,)
    failed.details["written"] = list(stay)
    return failed


def _list_taken_back(
    vault: OpenVault, tree: Oid, known: Written, changed: AbstractSet[bytes], paths: Sequence[TreePath]
) -> list[ChangedFile]:
    """List what an earlier `apply` wrote and the fork, whose tree is given, has as it began with it again."""
    found: list[ChangedFile] = []
    for path, states in sorted(known.items()):
        if path in changed or (paths and not any(one in (ROOT, path) or path.startswith(one + b"/") for one in paths)):
            continue
        there = find_entry(vault.store, tree, path)
        entry = there if there is not None and there[0] != MODE_TREE else None
        now = None if entry is None else (entry[0], entry[1].hex())
        for state in states:
            if state != now:
                old = None if state is None else (state[0], oid_of(state[1]))
                found.append(changed_file(path, old, entry, vault.store.blob_size))
                break
    return found


def _check_top(vault: OpenVault, directory: Path) -> None:
    """Refuse a directory inside the source of the vault: the paths of a fork begin at its top."""
    url = read_config(vault.git_dir).get("remote.origin.url", [""])[-1]
    origin = vault.layout.read_origin() or (Path(url) if os.path.isabs(url) else None)
    if origin is None or (directory / ".git").exists():
        return
    top, place = Path(os.path.realpath(origin)), Path(os.path.realpath(directory))
    if top in place.parents:
        hint = f"Name its top: `--to {shlex.quote(os.fspath(top))}`."
        raise InvalidInput(
            f"{quote(os.fspath(directory))} is inside {quote(os.fspath(top))}, which the vault was made of", hint=hint
        )


def _beginning(vault: OpenVault, fork: str) -> tuple[Oid, Oid | None]:
    """Find the commit whose files a fork began with, and the commit at which its branch was then."""
    made = find_making(vault, fork, allow_newer=True)
    base, forked_at = (
        (maybe_oid(made.more.get(fact)) for fact in ("base", "forked_at")) if made is not None else (None, None)
    )
    if base is not None:
        return base, forked_at
    raise InvalidInput(f"nothing says what {quote(fork)} began with", hint="Name a state with `--since`.")


def _list_unsettled(
    vault: OpenVault, below: Oid | None, began: Oid, uncommitted: AbstractSet[TreePath] | None
) -> frozenset[bytes]:
    """List the paths that a fork began with uncommitted and that its branch may not have as its workspace has them.

    A commit of git's that leaves such a path out has it as it was before the fork: the fork has not taken it back.
    """
    if below is None or uncommitted == frozenset():
        return frozenset()
    mine = {change.path for change in diff_trees(vault.store, vault.store.read_commit(below).tree, began)}
    return frozenset(mine if uncommitted is None else mine & uncommitted)


def _warn_unsettled(fork: str, path: TreePath) -> Warning:
    text = f"'{show_path(path)}' was uncommitted when '{fork}' was made, and is uncommitted there; it was left as it is"
    return Warning("apply.uncommitted", text, path)


def _list_left(root: int, paths: Sequence[TreePath]) -> list[TreePath]:
    """List what an `apply` that was killed has left beside the files that it was to write."""
    found: list[TreePath] = []
    for directory in sorted({split(path)[0] for path in paths}):
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):  # a link is not followed
            place = open_beneath(root, components(directory))
            with closing_fd(os.open(b".", OPEN_LIST, dir_fd=place.fd)) as listed:
                names = sorted(os.fsencode(name) for name in os.listdir(listed))
            found += [join(directory, name) for name in names if _TEMPORARY.fullmatch(name)]
    return found


def _held(mode: int | None, oid: str | None) -> Held:
    return (mode, oid) if mode is not None and oid is not None else None


def _look(root: int, path: TreePath, going: frozenset[bytes], led: AbstractSet[bytes]) -> Held:
    """Tell what a directory holds at a path, in git's words, without the entries that go.

    A directory that leads to what the fork has (`led`) is no entry: each file below is looked at for itself.
    """
    directory, name = split(path)
    try:
        parent = open_beneath(root, components(directory))
        if stat.S_ISDIR(os.stat(name, dir_fd=parent.fd, follow_symlinks=False).st_mode):
            return None if path in led or _holds_only(open_beneath(parent.fd, [name]), path, going) else _OTHER
        return _look_at(parent.fd, name)
    except FileNotFoundError:
        return None
    except NotADirectoryError:  # a file, or a link, where the fork has a directory
        parts = components(path)
        return None if any(b"/".join(parts[:end]) in going for end in range(1, len(parts) + 1)) else _OTHER


def _look_at(directory: int, name: bytes) -> Held:
    """Tell what a name of a directory is, in git's words."""
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):
        return MODE_SYMLINK, hash_object(KIND_BLOB, os.fsencode(os.readlink(name, dir_fd=directory))).hex()
    if not stat.S_ISREG(status.st_mode):
        return _OTHER
    with closing_fd(open_at(directory, name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)) as fd:
        status = os.fstat(fd)
        mode = MODE_EXEC if status.st_mode & stat.S_IXUSR else MODE_FILE
        return mode, hash_file(fd, status.st_size).hex()


def _holds_only(directory: Descriptor, path: TreePath, going: frozenset[bytes]) -> bool:
    """Tell whether all that is in a directory goes."""
    directories = Directories(directory)
    pending = [ROOT]
    while pending:
        here = pending.pop()
        with (
            closing_fd(os.open(b".", OPEN_LIST, dir_fd=directories.get(here))) as listed,
            os.scandir(listed) as entries,
        ):
            found = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
        if not found or any(not is_dir and join(path, join(here, name)) not in going for name, is_dir in found):
            return False
        pending += [join(here, name) for name, is_dir in found if is_dir]
    return True


def _write(
    vault: OpenVault,
    root: int,
    change: ChangedFile,
    held: Held,
    permissions: int | None = None,
    *,
    recorded: Recorded | None = None,
) -> bool:
    """Bring one path to what the fork has.

    False, and nothing done, if it no longer is what it was when it was looked at.

    A file that is not there gets `permissions`, if they are given, else what is `recorded` of it, less what the user's
    umask takes away; so does a directory that leads to it.
    """
    path = TreePath(change.path)
    directory, name = split(path)
    temporary = b".avfs-%b.tmp" % os.urandom(6).hex().encode("ascii")
    if change.new_oid is None:
        with suppress(FileNotFoundError, NotADirectoryError):
            parent = open_beneath(root, components(directory))
            if held is not None and not _take_out(parent.fd, name, temporary, held):
                return False
            _remove_empty(root, directory)
        return True
    place, here = open_beneath(root, []), ROOT
    for part in components(directory):
        here = join(here, part)
        with suppress(FileExistsError):
            os.mkdir(part, recorded.of_directory(here) if recorded is not None else 0o777, dir_fd=place.fd)
        place = open_beneath(place.fd, [part])
    oid = oid_of(change.new_oid)
    try:
        if change.new_mode == MODE_SYMLINK:
            os.symlink(read_target(vault.store, oid), temporary, dir_fd=place.fd)
        else:
            is_exec = change.new_mode == MODE_EXEC
            kept = read_permissions(place.fd, name, is_exec=is_exec)
            kept = permissions if kept is None else kept
            usual = recorded.of_file(path, is_exec=is_exec) if recorded is not None else 0o777 if is_exec else 0o666
            created = usual if kept is None else kept & 0o700
            with closing_fd(
                open_at(place.fd, temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, created)
            ) as fd:
                if kept is not None and stat.S_IMODE(os.fstat(fd).st_mode) != kept:
                    os.fchmod(fd, kept)
                for piece in vault.store.stream_blob(oid):
                    write_all(fd, piece)
        reach("apply.made")
        return _put_in(place.fd, name, temporary) if held is None else _exchange(place.fd, name, temporary, held)
    finally:
        with suppress(OSError):
            os.unlink(temporary, dir_fd=place.fd)


def _find_permissions(root: int, path: TreePath) -> int | None:
    """Tell which permissions a file has; None if no file is there."""
    directory, name = split(path)
    try:
        parent = open_beneath(root, components(directory))
        status = os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stat.S_IMODE(status.st_mode) & 0o777 if stat.S_ISREG(status.st_mode) else None


def _put_in(directory: int, name: bytes, temporary: bytes) -> bool:
    """Give a file its name, if nothing has it."""
    try:
        rename_at(directory, temporary, directory, name, RENAME_NOREPLACE)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_FLAGS:
            raise
        with suppress(FileExistsError):
            os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
            return True
        return False
    return True


def _exchange(directory: int, name: bytes, temporary: bytes, held: Held) -> bool:
    """Put a file in the place of another one, if that is what it was; `temporary` is removed by the caller."""
    made = os.stat(temporary, dir_fd=directory, follow_symlinks=False).st_ino
    try:
        rename_at(directory, temporary, directory, name, RENAME_EXCHANGE)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in _NO_FLAGS:
            raise
        if _look_at(directory, name) != held:
            return False
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        return True
    is_same = False
    try:
        reach("apply.exchanged")
        is_same = _look_at(directory, temporary) == held
    finally:
        if not is_same:  # or unknown, because the look was cut short
            rename_at(directory, temporary, directory, name, RENAME_EXCHANGE)
            # it was saved once more in between
            if os.stat(temporary, dir_fd=directory, follow_symlinks=False).st_ino != made:
                rename_at(directory, temporary, directory, name, RENAME_EXCHANGE)
    return is_same


def _take_out(directory: int, name: bytes, temporary: bytes, held: Held) -> bool:
    """Remove a file, if it is what it was."""
    os.rename(name, temporary, src_dir_fd=directory, dst_dir_fd=directory)
    is_same = False
    try:
        reach("apply.taken_out")
        is_same = _look_at(directory, temporary) == held
    finally:
        if is_same or not _put_in(directory, name, temporary):
            os.unlink(temporary, dir_fd=directory)  # what is there now was saved after this
    return is_same


def _remove_empty(root: int, directory: TreePath) -> None:
    """Remove directories that hold nothing any more, as git does."""
    while directory:
        above, name = split(directory)
        try:
            parent = open_beneath(root, components(above))
            os.rmdir(name, dir_fd=parent.fd)
        except OSError:  # it holds something
            return
        directory = above

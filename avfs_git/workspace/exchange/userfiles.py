"""The files of a directory of the user's own, which programs may change meanwhile: looked at, and replaced.

Decided here: how `exchange.apply` writes there. No step follows a symbolic link of the directory. Each file is replaced
whole by a rename that takes out what was there: avfs looks at what comes out, and puts it back if the user has saved it
meanwhile, or if the look is cut short. A failure puts back what was written, from the vault's objects. A crash leaves
some files old and some new, perhaps with a file beside that was taken out (`.avfs-….tmp`): that may be the only place
of an edit that the user saved in this moment (`list_left`).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import ApplyConflict, AvfsError, HostError, name_some
from avfs_git.faults import reach
from avfs_git.gitstore.compare.treediff import changed_file
from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_FILE, MODE_SYMLINK
from avfs_git.gitstore.objects.blobfile import hash_file
from avfs_git.gitstore.objects.store import hash_object
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
from avfs_git.host.files.durable import write_all
from avfs_git.model import ChangedFile, ChangeKind
from avfs_git.paths import ROOT, TreePath, components, join, oid_of, show_path, split
from avfs_git.patterns import compiled
from avfs_git.vfs.layer.lower import read_target
from avfs_git.vfs.layer.readers import Directories
from avfs_git.workspace.exchange.applied import Held, Written, Wrote
from avfs_git.workspace.exchange.shown import Recorded, read_permissions
from avfs_git.workspace.vault.vault import OpenVault

_OTHER: Held = (0, "")
"""What git has no word for, a directory among them."""
_TEMPORARY = compiled(rb"\.avfs-[0-9a-f]{12}\.tmp")
_NO_FLAGS = frozenset({errno.EINVAL, errno.ENOSYS})
"""How the system says that it cannot exchange two names: some network file systems."""


def held_of(mode: int | None, oid: str | None) -> Held:
    """Tell what is at a path by git's mode and a blob's id; None without them."""
    return (mode, oid) if mode is not None and oid is not None else None


def look(root: int, path: TreePath, going: frozenset[bytes], led: AbstractSet[bytes]) -> Held:
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


def list_left(root: int, paths: Sequence[TreePath]) -> list[TreePath]:
    """List what an `apply` that was killed has left beside the files that it was to write."""
    found: list[TreePath] = []
    for directory in sorted({split(path)[0] for path in paths}):
        with suppress(FileNotFoundError, NotADirectoryError, PermissionError):  # a link is not followed
            place = open_beneath(root, components(directory))
            with closing_fd(os.open(b".", OPEN_LIST, dir_fd=place.fd)) as listed:
                names = sorted(os.fsencode(name) for name in os.listdir(listed))
            found += [join(directory, name) for name in names if _TEMPORARY.fullmatch(name)]
    return found


def write_changes(
    vault: OpenVault,
    root: int,
    directory: Path,
    todo: Sequence[tuple[ChangedFile, Held]],
    recorded: Recorded,
    applied: Written,
    left: dict[TreePath, Wrote],
) -> None:
    """Write what is planned, each with what is there, and note each path in `left`, which holds what may come of it.

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
            left[path] = left[path]._replace(states=(held_of(change.new_mode, change.new_oid),))
            done.append((change, held, permissions))
            continue
        own.append(show_path(path))
        forget(path)
    if own:
        found = [show_path(path) for path in list_left(root, [TreePath(change.path) for change, _ in todo])]
        raise ApplyConflict(os.fspath(directory), own, written=len(todo) - len(own), left=found)


def _is_written(root: int, change: ChangedFile) -> bool:
    """Tell whether a directory has at a path what the fork has."""
    try:
        return look(root, TreePath(change.path), frozenset(), frozenset()) == held_of(change.new_mode, change.new_oid)
    except OSError:
        return False


def _put_back(vault: OpenVault, root: int, change: ChangedFile, held: Held, permissions: int | None) -> bool:
    """Bring a path to what it was before it was written.

    Return False if the user has saved the file since, or the disk refuses.
    """
    now = held_of(change.new_mode, change.new_oid)
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

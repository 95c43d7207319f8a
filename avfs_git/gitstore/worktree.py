"""The git directory of a live tree: one of the repository's linked working trees (git-worktree(1)).

Decided here: which files make `worktrees/NAME/` a working tree for git, which of them are ours, and how its index is
replaced beside git's own processes. `workspace.gitdir` calls it with the workspace locked, so that one process of ours
at a time writes there; git may read and write at any moment.

    gitdir, commondir      written at each mount: where the tree is, where the repository is
    HEAD                   written once, git moves it from then on; names a commit while nothing shows the tree
                           (`step_aside`)
    locked                 keeps `git worktree prune` and `git gc` away while nothing is mounted
    index                  made when git first asks for it
    avfs                   says that the directory is ours; holds the name of the branch
    avfs-basis             the commit for which the index was made, while avfs or others have moved the branch past it
    avfs-forced            the files that are in history because the index has them: one after the other, ended by NUL

A new one is made elsewhere and renamed: git and avfs find all of these files or none. Where a power cut took some of
them, the next mount makes them again; the doctor puts the directory into the trash. Only `avfs-basis` is forced to
disk. What is staged may be lost in a power cut, as with git.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, suppress
from pathlib import Path

from avfs_git import faults
from avfs_git.errors import HostError, NotAVault
from avfs_git.gitstore.config.gitconfig import is_true, read_config
from avfs_git.gitstore.formats.fullindex import ReadTree, read_full_index
from avfs_git.gitstore.formats.index import BadIndex, CachedTree, GitIndex, find_cached_tree
from avfs_git.gitstore.formats.reflog import Logged, is_made_inside
from avfs_git.gitstore.indexmarks import look_for_marks
from avfs_git.gitstore.refs.logs import append_to, read_log
from avfs_git.gitstore.refs.refs import RefStore
from avfs_git.gitstore.repofile import list_worktree_dirs, open_plain_file, read_end, read_plain_file
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import fsync_dir, host_errors, sync_file, sync_files, write_all, write_file_atomically
from avfs_git.host.files.modes import make_dir, make_private_dirs, mode_below, open_file
from avfs_git.host.files.plainfile import open_plain
from avfs_git.host.files.removal import remove_tree
from avfs_git.paths import Oid, TreePath, oid_of
from avfs_git.patterns import compiled
from avfs_git.values import NamedTuple

_MARK = "avfs"
_STAGING = "avfs/worktrees"
"""Where one is made before it gets its name."""
_ASIDE = b"\naside\n"
"""Ends the mark while nothing shows the tree and HEAD does not name its branch."""
_BASIS, _FORCED = "avfs-basis", "avfs-forced"
_REBASES = ("rebase-merge", "rebase-apply")
_UNDER_WAY = {
    "rebase-merge": "rebase",
    "rebase-apply/applying": "am",
    "rebase-apply": "rebase",
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "BISECT_LOG": "bisect",
}
"""The files that say in the middle of which command git is; a rebase has some of the others, too."""
_NEW_INDEX = "index.avfs"
_NO_COMMIT = b"0" * 40
_REASON = b"avfs shows this tree when it is mounted\n"
_NOT_ASIDE = compiled(rb"refs/[^\n]+\n")
"""A mark of any other kind says that the tree stands aside, or is damaged and may have said so."""
_WHOLE_MARK = compiled(rb"refs/[^\n]+\n(aside\n)?")
_OID = compiled(rb"[0-9a-f]{40}")
_LOCK_WAIT_S = 1.0


class IndexBusy(Exception):
    """Git holds the index, or changed it while its successor was made.

    `is_locked` says that git holds it, and that the caller has waited for that.
    """

    def __init__(self, *, is_locked: bool = False) -> None:
        super().__init__()
        self.is_locked = is_locked


class Worktree:
    """One linked working tree of a repository. Opening it looks at nothing."""

    def __init__(self, git_dir: Path, name: str) -> None:
        """Name a working tree by its own directory in a repository."""
        self.git_dir = git_dir
        # Another working tree may have the name; a `%` that no encoding makes keeps ours apart.
        self.path = git_dir / "worktrees" / name
        if not self.is_there and _is_foreign(self.path):
            self.path = git_dir / "worktrees" / f"{name}%avfs"
        self.index = self.path / "index"
        self._made_mode: int | None = None

    def find_directory(self) -> Path | None:
        """Tell where the tree was shown the last time; None if it never was."""
        return _shown_at(self.path) if self.is_there else None

    @property
    def is_there(self) -> bool:
        """Whether it has been made."""
        return os.path.exists(f"{self.path}/{_MARK}")  # each command asks some ten times

    def prepare(self, ref: str, directory: Path) -> bytes:
        """Make the git directory of a tree that begins on a branch, or tell an older one where the tree is shown.

        Returns what the file `.git` in the tree has to hold.
        """
        with host_errors(f"make '{self.path}'"):
            if self.path.is_dir():
                self._note_aside(ref)
                self._fill(self.path, ref, directory)
            else:  # out of git's sight, so that it never finds half of one
                staging = self.git_dir / _STAGING / self.path.name
                with suppress(FileNotFoundError):
                    remove_tree(staging)
                make_private_dirs(staging.parent.parent)
                make_dir(staging.parent, exist_ok=True)
                staging.mkdir()
                staging.chmod(mode_below(self.git_dir))  # not those of where it is staged
                self._fill(staging, ref, directory)
                _sync(staging)  # before the rename: a power cut must not leave empty files, which git takes for damage
                faults.reach("worktree.made")
                make_dir(self.path.parent, exist_ok=True)
                os.rename(staging, self.path)
            # Git adds to a log that is there, also where `core.logAllRefUpdates` is off: avfs learns from both what git
            # has done.
            for top, name in ((self.git_dir, f"logs/{ref}"), (self.path, "logs/HEAD")):
                append_to(top, name, b"")
        return b"gitdir: " + os.fsencode(self.path.absolute()) + b"\n"

    def _fill(self, place: Path, ref: str, directory: Path) -> None:
        wanted = {
            "commondir": b"../..\n",
            "gitdir": os.fsencode(directory.absolute()) + b"/.git\n",
            "locked": _REASON,
            "HEAD": b"ref: " + os.fsencode(ref) + b"\n",
            _MARK: os.fsencode(ref) + b"\n",
        }
        is_aside = not _NOT_ASIDE.fullmatch(_read(place / _MARK))
        for name, data in wanted.items():
            held = _read(place / name)
            is_of_git = name == "HEAD" and _is_head(held) and (held.startswith(b"ref: ") or not is_aside)
            if held != data and not is_of_git:
                write_file_atomically(place / name, data, mode=self._mode() & 0o666, durable=False)
                faults.reach("worktree.wrote_one")

    def complete(self, ref: str) -> None:
        """Make whole, as the next mount does, what lacks some of its files while nothing shows the tree."""
        self.prepare(ref, _shown_at(self.path) or self.git_dir / _STAGING / "nowhere")
        self.step_aside()

    def step_aside(self) -> None:
        """Let git outside move or delete the branch while nothing shows the tree: HEAD names its commit meanwhile.

        Git takes a branch that some working tree's HEAD names for checked out, also where there is no such tree. A HEAD
        that git has moved to something else stays.
        """
        with host_errors(f"write '{self.path}'"):
            ref = self._read(_MARK).partition(b"\n")[0]
            head = RefStore(self.git_dir, recover=False).read(os.fsdecode(ref)) if ref else None
            if head is None or self._read("HEAD") != b"ref: " + ref + b"\n":
                return
            for name, data in ((_MARK, ref + _ASIDE), ("HEAD", head.hex().encode("ascii") + b"\n")):
                write_file_atomically(self.path / name, data, mode=self._mode() & 0o666, durable=False)
                faults.reach("worktree.stepping_aside")

    def _note_aside(self, ref: str) -> None:
        """Note for which commit the index was made, where the branch was moved while the tree stood aside."""
        made_for = self._aside_at()
        if made_for is not None and self.has_index and RefStore(self.git_dir, recover=False).read(ref) != made_for:
            self.note_move(made_for)

    def _aside_at(self) -> Oid | None:
        """Tell at which commit the branch was when the tree stepped aside; None if it has not."""
        held = self._read("HEAD").strip()
        return oid_of(held) if _OID.fullmatch(held) and not _NOT_ASIDE.fullmatch(self._read(_MARK)) else None

    def _read(self, name: str) -> bytes:
        return _read(self.path / name)

    def _mode(self) -> int:
        """Return the permissions of the repository: the server of a tree has no umask."""
        if self._made_mode is None:
            self._made_mode = self.git_dir.stat().st_mode & 0o777
        return self._made_mode

    def branch(self) -> str | None:
        """Name the ref that its HEAD stands for; None if HEAD is detached."""
        with host_errors(f"read '{self.path}'"):
            data = self._read("HEAD")
        return os.fsdecode(data[5:].strip()) if data.startswith(b"ref: ") else None

    def find_head(self) -> str | None:
        """Tell where git has put HEAD in this tree: a ref or the id of a commit.

        Return None if it is on the branch of the tree.
        """
        held, mark = self._read("HEAD"), self._read(_MARK)
        ref, _, rest = mark.partition(b"\n")
        is_own = held.strip() == b"ref: " + ref or (rest and _OID.fullmatch(held.strip()))
        if is_own or not _is_head(held) or not _WHOLE_MARK.fullmatch(mark):
            return None
        return os.fsdecode(held.removeprefix(b"ref:").strip())

    @property
    def is_rebasing(self) -> bool:
        """Whether git is in the middle of a rebase, which keeps HEAD detached."""
        return any((self.path / name).exists() for name in _REBASES)

    def find_rebased(self, ref: str) -> Oid | None:
        """Find where a branch was when git began to rebase it, and has to be when git ends that.

        Return None if git does not.
        """
        for name in _REBASES:
            at = self._read(f"{name}/orig-head").strip()
            if _OID.fullmatch(at) and self._read(f"{name}/head-name").strip() == os.fsencode(ref):
                return oid_of(at)
        return None

    @property
    def under_way(self) -> str | None:
        """The git command in the middle of which the tree is, as `rebase`, or None."""
        return next((command for name, command in _UNDER_WAY.items() if (self.path / name).exists()), None)

    def list_unmerged(self, read_tree: ReadTree) -> list[bytes]:
        """List the paths in conflict by git's index, whose entries are read only where one may be in conflict."""
        try:
            may_be = self.is_there and look_for_marks(self.index).is_unmerged
            index = self.read_entries(read_tree) if may_be else None
        except (BadIndex, HostError, NotAVault):  # git itself says so
            return []
        return (
            list(dict.fromkeys(index.paths[at] for at in range(len(index)) if index.entry(at).stage)) if index else []
        )

    def bring_head_back(self) -> None:
        """Put HEAD on the branch of the tree again.

        The index is brought up when git next asks.
        """
        with host_errors(f"write '{self.path}'"):
            at = self.find_head()
            if at is None:
                return
            commit = oid_of(at) if _OID.fullmatch(os.fsencode(at)) else RefStore(self.git_dir, recover=False).read(at)
            self.note_basis(commit)
            faults.reach("worktree.head_back")
            ref = self._read(_MARK).partition(b"\n")[0]
            write_file_atomically(self.path / "HEAD", b"ref: " + ref + b"\n", mode=self._mode() & 0o666, durable=False)

    def follow_rename(self, ref: str) -> None:
        """Say that the tree is of a branch, to which its own was renamed; does nothing where it is so."""
        mark = self._read(_MARK)
        own, _, rest = mark.partition(b"\n")
        if not _WHOLE_MARK.fullmatch(mark) or own == os.fsencode(ref):
            return
        mode = self._mode() & 0o666
        with host_errors(f"write '{self.path}'"):
            if self._read("HEAD") == b"ref: " + own + b"\n":  # no process that ended in order leaves it there
                write_file_atomically(self.path / "HEAD", b"ref: " + os.fsencode(ref) + b"\n", mode=mode, durable=False)
            faults.reach("worktree.renaming")
            write_file_atomically(self.path / _MARK, os.fsencode(ref) + b"\n" + rest, mode=mode, durable=False)

    def read_heads(self) -> list[Logged]:
        """List the reflog of its HEAD, the oldest first: each commit that was made or checked out in this tree."""
        return read_log(self.path / "logs" / "HEAD")

    def read_moves(self, ref: str) -> list[Logged]:
        """List what git's log says of a branch, the oldest first; empty where it keeps none."""
        return read_log(self.git_dir / "logs" / ref)

    def is_made_inside(self, ref: str, commit: Oid) -> bool:
        """Tell whether it was git in this tree that put a commit on a branch."""
        return is_made_inside(self.read_moves(ref), self.read_heads(), commit)

    # --- the commit of the index -------------------------------------------------------------------------------

    def note_move(self, head: Oid | None) -> None:
        """Remember from which commit the index is to follow, before others than git in this tree move its branch.

        Durable on return: an index that is taken for that of another commit shows everything between the two as staged.
        """
        if self.is_there and not (self.path / _BASIS).exists():
            self.note_basis(self._aside_at() or head)  # others may have moved the branch before

    def note_basis(self, head: Oid | None) -> None:
        """Remember from which commit the index is to follow, whatever was remembered before. Durable on return."""
        data = head.hex().encode("ascii") if head is not None else _NO_COMMIT
        if self._read(_BASIS) != data:
            write_file_atomically(self.path / _BASIS, data, mode=self._mode() & 0o666)

    def basis(self) -> tuple[bool, Oid | None]:
        """Tell whether the branch may have moved past the index, and the commit from which that is to follow."""
        with host_errors(f"read '{self.path}'"):
            data = self._read(_BASIS).strip()
        if not _OID.fullmatch(data):
            return False, None
        return True, None if data == _NO_COMMIT else oid_of(data)

    def clear_basis(self) -> None:
        """Note that the index is that of the branch's commit."""
        with host_errors(f"write '{self.path}'"):
            (self.path / _BASIS).unlink(missing_ok=True)

    # --- what is in history by the index alone ------------------------------------------------------------------

    def read_forced(self) -> frozenset[TreePath]:
        """List the files that were in history because the index had them, as `note_forced` had them."""
        with host_errors(f"read '{self.path}'"):
            return frozenset(TreePath(path) for path in self._read(_FORCED).split(b"\0") if path)

    def note_forced(self, paths: AbstractSet[TreePath]) -> None:
        """Remember which files are in history because the index has them."""
        if paths == self.read_forced():
            return
        with host_errors(f"write '{self.path}'"):
            data = b"".join(path + b"\0" for path in sorted(paths))
            write_file_atomically(self.path / _FORCED, data, mode=self._mode() & 0o666, durable=False)

    # --- the index ---------------------------------------------------------------------------------------------

    @property
    def has_index(self) -> bool:
        """Whether there is an index, and more than the empty file, or the zeros, that a power cut may leave."""
        with host_errors(f"read '{self.index}'"):
            try:
                fd = open_plain(self.index)
            except FileNotFoundError:
                return False
            with closing_fd(fd):
                return bool(os.read(fd, 4).strip(b"\0"))

    def read_index(self) -> tuple[bytes, os.stat_result] | None:
        """Read the file of the index, and what tells it from another; None without an index."""
        with host_errors(f"read '{self.index}'"):
            try:
                with open_plain_file(self.index) as file:
                    return file.read(), os.fstat(file.fileno())
            except FileNotFoundError:
                return None

    def read_cached_tree(self) -> CachedTree | None:
        """Read which tree the index says that its entries make up; None if its last MiB does not tell."""
        return find_cached_tree(read_end(self.index))

    def read_entries(self, read_tree: ReadTree, data: bytes | None = None) -> GitIndex | None:
        """Read all entries of the index, or of what `read_index` gave of it; None without an index.

        Raises:
            BadIndex: If it is damaged, or of a kind that is not understood.
        """
        if data is None:
            found = self.read_index() if self.is_there else None
            data = found[0] if found is not None else b""
        return read_full_index(data, self.path, read_tree) if data.strip(b"\0") else None

    @property
    def is_sparse(self) -> bool:
        """Whether it is a sparse checkout: there git takes no notice of `skip-worktree` on files that are present."""
        values = {**read_config(self.git_dir), **read_config(self.path, "config.worktree")}
        return is_true(values.get("core.sparsecheckout", ["false"])[-1])

    def replace_index(self, data: bytes, *, instead_of: os.stat_result | None, mtime_ns: int) -> None:
        """Replace the index as git does, under `index.lock`, if it is still what `read_index` gave.

        The lock is a second name of the new file: this identifies a lock that a killed avfs process left. Git looks at
        files that were changed at `mtime_ns` or later, so that it must not be later than when what the entries say was
        true. Waits 1 s for a lock of git's, and not at all for an older lock.

        Raises:
            IndexBusy: If git keeps it, or has changed it since.
        """
        new, lock = self.path / _NEW_INDEX, self.path / "index.lock"
        with host_errors(f"write '{self.index}'"):
            with suppress(FileNotFoundError):
                if new.samefile(lock):
                    lock.unlink()
            new.unlink(missing_ok=True)
            fd = open_file(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC)
            try:
                with closing_fd(fd):
                    write_all(fd, data)
                    os.utime(fd, ns=(mtime_ns, mtime_ns))
                    sync_file(fd)  # else a power cut may leave an empty file, which git takes for damage
                self._lock_index(new, lock)
                try:
                    faults.reach("worktree.index_locked")
                    if not _is_same(self.index, instead_of):
                        raise IndexBusy
                    lock.rename(self.index)
                except BaseException:
                    lock.unlink(missing_ok=True)
                    raise
            finally:
                new.unlink(missing_ok=True)

    @staticmethod
    def _lock_index(new: Path, lock: Path) -> None:
        until = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                os.link(new, lock)
            except FileExistsError:
                if time.monotonic() > until or _age(lock) > _LOCK_WAIT_S:
                    raise IndexBusy(is_locked=True) from None
                time.sleep(0.01)
            else:
                return

    # --- coming and going ----------------------------------------------------------------------------------------

    def put_away(self, place: Path) -> None:
        """Move everything out of git's sight, so that it can be brought back; does nothing if it is not there."""
        if not self.is_there:
            return
        with host_errors(f"put away '{self.path}'"):
            os.rename(self.path, place)
            faults.reach("worktree.put_away")
            try:
                fsync_dir(self.path.parent)
            except HostError as error:
                if error.errno != errno.ENOENT:  # `git gc` removes a directory of worktrees that is empty
                    raise

    def bring_back(self, place: Path) -> None:
        """Undo `put_away`; does nothing if nothing was put away there, or there is a newer one."""
        with suppress(FileNotFoundError), host_errors(f"bring back '{self.path}'"):
            if not self.path.exists() and place.exists():
                make_dir(self.path.parent, exist_ok=True)
                os.rename(place, self.path)
                faults.reach("worktree.brought_back")


def _sync(directory: Path) -> None:
    """Force the files of a directory to disk, and their names."""
    with ExitStack() as opened:
        files = [opened.enter_context(open_plain_file(path)) for path in sorted(directory.iterdir())]
        sync_files(*(file.fileno() for file in files))
    fsync_dir(directory)


def _read(path: Path) -> bytes:
    try:
        return read_plain_file(path)
    except (FileNotFoundError, NotAVault):
        return b""


def _age(path: Path) -> float:
    """Tell for how many seconds a file has been there as it is; 0 if it is not."""
    try:
        return time.time() - path.stat().st_ctime
    except FileNotFoundError:
        return 0.0


def _is_head(data: bytes) -> bool:
    return data.startswith((b"ref: refs/", *[b"%x" % digit for digit in range(16)]))


def _is_foreign(path: Path) -> bool:
    """Whether a working tree without our mark is not avfs's: git writes `locked` first, then `gitdir`, then `HEAD`."""
    reason = _read(path / "locked")
    return reason != _REASON and (bool(reason) or (bool(_read(path / "gitdir")) and (path / "HEAD").exists()))


def list_worktrees(git_dir: Path) -> frozenset[str]:
    """List the names under which `Worktree` may find a working tree of ours; of most repositories there are few."""
    return frozenset(os.path.basename(place).removesuffix("%avfs") for place in list_worktree_dirs(git_dir))


def list_linked(git_dir: Path) -> dict[Path, Path]:
    """List the working trees that git has made, and where the tree of each is."""
    found = {place: _shown_at(place) for place in _list_places(git_dir, ours=False)}
    return {place: where for place, where in found.items() if where is not None}


class CheckedOut(NamedTuple):
    """A working tree that has a branch checked out."""

    where: Path | None
    """Where it was shown, or made by git."""
    owner: str | None
    """The ref of the live tree that it is; None if git has made it."""
    under_way: str | None
    """Which command of git's, a rebase or a bisect, goes back to the branch at its end.

    None if HEAD names the branch.
    """


def find_checked_out(git_dir: Path, ref: str, *, but: Path) -> CheckedOut | None:
    """Find a working tree whose HEAD is a branch, or in which git rebases or bisects it.

    `but` is the directory of its own tree.

    Costs a stat of each working tree: a HEAD of another size names something else. Each checkpoint asks.
    """
    wanted = os.fsencode(ref)
    head = b"ref: " + wanted + b"\n"
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(git_dir / "worktrees") as entries:
        for entry in entries:
            with suppress(OSError):
                size = os.stat(f"{entry.path}/HEAD").st_size if entry.name != but.name else 0
                under_way = _find_under_way(Path(entry.path), wanted) if size == len(_NO_COMMIT) + 1 else None
                if under_way or (size == len(head) and _read(Path(entry.path, "HEAD")) == head):
                    place = Path(entry.path)
                    owner = os.fsdecode(_read(place / _MARK).partition(b"\n")[0])
                    if _read(place / "gitdir"):  # else it is half of one, which git passes over
                        return CheckedOut(_shown_at(place), owner or None, under_way)
    return None


def _find_under_way(place: Path, ref: bytes) -> str | None:
    """Name the command in a working tree without a branch that moves a branch at its end, or goes back to it."""
    for name in _REBASES:
        # `--update-refs` also moves the branches that it names, each in a line of its own.
        if _read(place / name / "head-name").strip() == ref or ref in _read(place / name / "update-refs").split(b"\n"):
            return "rebase"
    began = _read(place / "BISECT_START").strip()
    return "bisect" if began and ref == b"refs/heads/" + began.removeprefix(b"refs/heads/") else None


def list_shown_at(git_dir: Path, *, but: str) -> list[Path]:
    """List where the working trees of ours were shown the last time, without the one of a name."""
    found = [_shown_at(place) for place in _list_places(git_dir, ours=True) if place.name != but]
    return [where for where in found if where is not None]


def _list_places(git_dir: Path, *, ours: bool) -> list[Path]:
    """List the directories of our working trees, or of git's."""
    return [Path(place) for place in list_worktree_dirs(git_dir) if os.path.exists(f"{place}/{_MARK}") == ours]


def _shown_at(place: Path) -> Path | None:
    """Tell where the tree is by the note of git's in its directory; relative in some versions of git."""
    note = os.fsdecode(_read(place / "gitdir").removesuffix(b"\n"))
    return Path(os.path.normpath(place / note)).parent if note.endswith("/.git") and "\0" not in note else None


def read_heads_beside(git_dir: Path, since_ns: int) -> list[Logged]:
    """List what git's logs say of HEAD since then in the working trees that git itself has made (`git worktree add`).

    The logs have seconds only: a log that was last written before says nothing, even with that second in it.
    """
    found: list[Logged] = []
    for place in _list_places(git_dir, ours=False):
        log = place / "logs" / "HEAD"
        with suppress(FileNotFoundError, NotADirectoryError):
            if log.stat().st_mtime_ns >= since_ns:
                found += [logged for logged in read_log(log) if logged.when_s >= since_ns // 1_000_000_000]
    return found


def list_half_made(git_dir: Path) -> list[Path]:
    """List our directories below `worktrees/` that are damaged: a process died, or a power cut took files."""
    return [
        place
        for place in map(Path, list_worktree_dirs(git_dir))
        if ((place / _MARK).exists() or not _is_foreign(place))
        and not (
            all(_read(place / name).strip(b"\0") for name in ("gitdir", "commondir"))
            and _is_head(_read(place / "HEAD"))
            and _WHOLE_MARK.fullmatch(_read(place / _MARK))
        )
    ]


def _is_same(path: Path, known: os.stat_result | None) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return known is None
    return known is not None and all(
        getattr(found, name) == getattr(known, name) for name in ("st_ino", "st_mtime_ns", "st_size")
    )

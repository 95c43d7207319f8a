"""The commits whose sidecar counts: this vault's own, and commits fetched with their sidecars on request.

Decided here: whether the header `avfs-sidecar` of a commit means anything. It is only a pointer: every commit that a
clone, a fetch, a push or an import brings may carry one. So the vault notes each commit that it makes in
`avfs/commits`, which no git reads or writes, before a ref names the commit. `ObjectStore.read_commit` asks here.

The file is a table of fixed slots that is found by the commit's id: looking one up is one read, noting one is one write
and one fdatasync, for any number of commits. Usable from threads and processes; readers take no lock. A crash leaves a
noted commit that does not exist, or half a slot, which equals no id.
"""

from __future__ import annotations

import heapq
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from avfs_git.errors import AvfsError, FormatUnsupported, VaultError, quote
from avfs_git.faults import reach
from avfs_git.gitstore.formats.commits import Commit, parse_commit
from avfs_git.gitstore.formats.packfile import KIND_COMMIT
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import host_errors, sync_file, write_file_atomically
from avfs_git.host.files.plainfile import open_plain
from avfs_git.host.locks.flocks import held
from avfs_git.paths import Oid, oid_of
from avfs_git.values import replace

NAME = "avfs/commits"
_DIRECTORY = "avfs"

_NAMED = b"avfs-commits "
_MAGIC = (_NAMED + b"1\n").ljust(40, b"\0")
_SLOT = 40
"""Bytes of a slot: the id of a commit, and that of its sidecar commit or zeros; the first is the file's header."""
_WINDOW = 32
"""So many slots may hold a commit, from the slot of its id on; if all are taken, the table grows."""
_FIRST = 256
_NONE = bytes(20)
_STANDS_FOR = b"avfs-stands-for"
_HEX_SIZE = 40
_DAY_S = 86_400

Read = Callable[[Oid], tuple[int, bytes]]
"""Reads an object: its kind and content; raises AvfsError for a missing object."""


class OwnCommits:
    """The commits of one vault whose sidecar counts."""

    def __init__(self, git_dir: Path, read: Read) -> None:
        self._git_dir = git_dir
        self._path = os.fsencode(git_dir / NAME)
        self._read = read
        self._fd: int | None = None
        self._inode = 0
        self._lock = threading.Lock()

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._fd is not None:
                os.close(self._fd)
            self._fd, self._inode = None, 0

    def find(self, commit: Oid) -> Oid | None:
        """Find the sidecar of a commit; None if it has none that counts."""
        found = self._look(commit)
        return None if found == _NONE else found

    def has(self, commit: Oid) -> bool:
        """Tell whether this vault made a commit, or counts it as its own."""
        return self._look(commit) is not None

    def _look(self, commit: Oid) -> Oid | None:
        """Find what is noted of a commit: its sidecar, zeros if it has none; None if it is not noted."""
        with self._lock, host_errors("read which commits the vault has made"):
            while True:
                try:
                    status = os.stat(self._path)
                except FileNotFoundError:
                    return None
                if self._fd is None or self._inode != status.st_ino:  # the table has grown: it is another file
                    self._open()
                    continue
                assert self._fd is not None  # noqa: S101 - `_open` opened it
                first = _place(commit, _capacity(status.st_size))
                found = _find(os.pread(self._fd, _WINDOW * _SLOT, first), commit)
                return None if found is None else Oid(found[1])

    def _open(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        self._fd = open_plain(self._path)
        self._inode = os.fstat(self._fd).st_ino
        _check_header(self._path, os.pread(self._fd, _SLOT, 0))

    def add(self, commits: Mapping[Oid, Oid | None]) -> None:
        """Note commits, each with its sidecar; on disk on return.

        In a repository without avfs's directory it does nothing.

        Raises:
            HostError: If the disk refuses; nothing that was noted is gone.
            VaultError: If the table is of another version, or damaged.
        """
        if not commits:
            return
        with host_errors("note which commits the vault has made"), _locked(self._git_dir) as is_vault:
            if not is_vault:
                return
            try:
                fd = open_plain(self._path, os.O_RDWR)
            except FileNotFoundError:
                _write_table(self._git_dir, commits)
                return
            with closing_fd(fd):
                if not _put_all(self._path, fd, commits):
                    _write_table(self._git_dir, {**_read_all(fd), **commits})
                    return
                reach("commits.put")
                sync_file(fd, data_only=True)

    def mend(self, lost: Mapping[Oid, Oid | None]) -> None:
        """Make the table anew, of what is left in it and of what it has lost; on disk on return.

        Raises:
            HostError: If the disk refuses; the table is as it was.
            FormatUnsupported: If it is of another version.
        """
        with host_errors("note again which commits the vault has made"), _locked(self._git_dir):
            left: dict[Oid, Oid | None] = {}
            with suppress(FileNotFoundError), closing_fd(open_plain(self._path)) as fd:
                header = os.pread(fd, _SLOT, 0)
                if header.startswith(_NAMED):
                    _check_header(self._path, header)
                left = _read_all(fd)
            _write_table(self._git_dir, {**lost, **left})


def make_table(git_dir: Path) -> None:
    """Make the empty table of a new vault; an existing table stays. On disk on return."""
    with host_errors("note which commits the vault has made"), _locked(git_dir) as is_vault:
        if is_vault and not (git_dir / NAME).exists():
            _write_table(git_dir, {})


@contextmanager
def _locked(git_dir: Path) -> Iterator[bool]:
    """Keep other writers away: the file itself is another one after it has grown. False where there is no vault yet."""
    try:
        fd = os.open(git_dir / _DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        yield False
        return
    with held(fd):
        yield True


def _check_header(path: bytes, header: bytes) -> None:
    if header != _MAGIC:
        if not header.startswith(_NAMED):
            raise VaultError(
                f"{quote(os.fsdecode(path))} is damaged: it does not begin as such a table",
                hint="`avfs doctor --repair` makes it again from the operation log.",
            )
        raise FormatUnsupported(
            os.fsdecode(path), header[:20].decode("ascii", "replace").strip("\n\0"), "avfs-commits 1"
        )


def _capacity(size: int) -> int:
    """Tell at how many places of a table of so many bytes the slots of a commit may begin."""
    return max(1, size // _SLOT - _WINDOW)


def _place(commit: Oid, capacity: int) -> int:
    """Tell at which byte the slots of a commit begin."""
    return _SLOT * (1 + int.from_bytes(commit[:8], "big") % capacity)


def _find(window: bytes | bytearray, commit: bytes) -> tuple[int, bytes] | None:
    """Find a commit in the slots that may hold it: at which byte of them it is, and its sidecar."""
    at = window.find(commit)
    while at >= 0 and at % _SLOT:
        at = window.find(commit, at + 1)
    return None if at < 0 else (at, bytes(window[at + 20 : at + _SLOT]))


def _put_all(path: bytes, fd: int, commits: Mapping[Oid, Oid | None]) -> bool:
    """Write commits to their slots.

    Return False if the table has to be made anew: to grow, or because a commit gets another sidecar.

    A slot may stand in two sectors of the disk, and a power cut would leave half of the former sidecar in it.
    """
    _check_header(path, os.pread(fd, _SLOT, 0))
    capacity = _capacity(os.fstat(fd).st_size)
    for commit, sidecar in commits.items():
        first = _place(commit, capacity)
        window = os.pread(fd, _WINDOW * _SLOT, first)
        found = _find(window, commit) or _find(window, _NONE)
        if found is None or found[1] not in (_NONE, sidecar or _NONE):
            return False
        # Also what is there already: whether that reached the disk is not known.
        if os.pwrite(fd, commit + (sidecar or _NONE), first + found[0]) != _SLOT:
            raise OSError(5, "a slot was written in part")
    return True


def _read_all(fd: int) -> dict[Oid, Oid | None]:
    data = b""
    while piece := os.pread(fd, 1 << 20, len(data)):
        data += piece
    found: dict[Oid, Oid | None] = {}
    for at in range(_SLOT, len(data) - _SLOT + 1, _SLOT):
        commit, sidecar = data[at : at + 20], data[at + 20 : at + _SLOT]
        if commit != _NONE:
            found[Oid(commit)] = Oid(sidecar) if sidecar != _NONE else None
    return found


def _write_table(git_dir: Path, commits: Mapping[Oid, Oid | None]) -> None:
    capacity = _FIRST
    while capacity < 2 * len(commits):
        capacity *= 2
    while (data := _lay_out(commits, capacity)) is None:
        capacity *= 2
    write_file_atomically(git_dir / NAME, data, durable=True)


def _lay_out(commits: Mapping[Oid, Oid | None], capacity: int) -> bytes | None:
    data = bytearray(_MAGIC + bytes((capacity + _WINDOW - 1) * _SLOT))
    for commit, sidecar in commits.items():
        first = _place(commit, capacity)
        found = _find(data[first : first + _WINDOW * _SLOT], _NONE)
        if found is None:
            return None
        at = first + found[0]
        data[at : at + _SLOT] = commit + (sidecar or _NONE)
    return bytes(data)


# --- what counts although this vault has not made it -----------------------------------------------------------


def list_sidecars(
    read: Read, tips: Iterable[Oid], is_known: Callable[[Oid], bool], *, limit: int | None = None
) -> dict[Oid, Commit]:
    """List at most `limit` sidecar commits and ancestors, without known and missing ones."""
    found: dict[Oid, Commit] = {}
    waiting = deque(tips)
    while waiting and (limit is None or len(found) < limit):
        oid = waiting.popleft()
        if oid in found or is_known(oid):
            continue
        commit = _read_commit(read, oid)
        if commit is not None:
            found[oid] = commit
            waiting += commit.parents
    return found


def find_commits(read: Read, tips: Iterable[Oid], sidecars: Mapping[Oid, Commit]) -> dict[Oid, Oid]:
    """Find the commits that name sidecars in their headers, among those that some lead to.

    A commit is not older than its sidecar: so the walk ends where all are older than the first of these, by more than a
    day.
    """
    oldest_s = min((commit.committer.when_s for commit in sidecars.values()), default=0) - _DAY_S
    found: dict[Oid, Oid] = {}
    seen: set[Oid] = set()
    waiting: list[tuple[int, Oid, Commit]] = []

    def see(oid: Oid) -> None:
        if oid not in seen:
            seen.add(oid)
            commit = _read_commit(read, oid)
            if commit is not None:
                heapq.heappush(waiting, (-commit.committer.when_s, oid, commit))

    if sidecars:
        for oid in tips:
            see(oid)
    while waiting:
        _, oid, commit = heapq.heappop(waiting)
        if commit.committer.when_s < oldest_s:
            break
        if commit.sidecar in sidecars:
            assert commit.sidecar is not None  # noqa: S101 - a mapping of ids has none
            found[oid] = commit.sidecar
        for parent in commit.parents:
            see(parent)
    return found


def find_named(read: Read, oid: Oid) -> Oid | None:
    """Find the sidecar that the header of a commit names, not what is noted for it; None if it has no such header."""
    commit = _read_commit(read, oid)
    return commit.sidecar if commit is not None else None


def stand_for(commit: Commit, named: Iterable[Oid], parents: tuple[Oid, ...]) -> Commit:
    """Make a copy of a sidecar commit that another vault takes for the ones that commits name in their headers."""
    extra = tuple((_STANDS_FOR, oid.hex().encode("ascii")) for oid in sorted(set(named)))
    return replace(commit, parents=parents, sidecar=None, extra=extra)


def list_stood_for(commit: Commit) -> list[Oid]:
    """List the sidecars that such a copy says it is read for; none of any other commit."""
    found: list[Oid] = []
    for key, value in commit.extra:
        with suppress(ValueError):
            if key == _STANDS_FOR and len(value) == _HEX_SIZE:
                found.append(oid_of(value))
    return found


def _read_commit(read: Read, oid: Oid) -> Commit | None:
    """Read a commit without its noted sidecar; None if it is no commit, or missing."""
    with suppress(AvfsError):
        kind, data = read(oid)
        if kind == KIND_COMMIT:
            return parse_commit(data, oid)
    return None

"""A workspace shown by the kernel's overlayfs, without a session: the test mounts it, the test's process serves it.

Decided here: how a process comes to change a workspace through a mounted directory, so that faults can be armed in it.
The lower layer is the directory that the vault was made from: it holds what the fork began with.
"""

from __future__ import annotations

import ctypes
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from avfs_git import Avfs, Vault, Workspace
from avfs_git.host.files.closing import closing_fd
from avfs_git.workspace.opened.workspace import OpenWorkspace
from tests.support.capabilities import mount
from tests.support.faults import Files
from tests.support.overlay import mounted

_CLONE_NEWNS = 0x20000  # linux/sched.h
_MS_REC, _MS_PRIVATE = 16384, 1 << 18  # linux/mount.h


def read_shown(tree: Path) -> Files:
    """Describe what the kernel shows, as `read_files` describes what avfs does."""
    kinds = {stat.S_IFDIR: "directory", stat.S_IFREG: "file", stat.S_IFLNK: "symlink"}
    found: Files = {}
    pending = [b""]
    while pending:
        here = pending.pop()
        for name in os.listdir(os.path.join(os.fsencode(tree), here)):
            path = here + b"/" + name if here else name
            place = os.path.join(os.fsencode(tree), path)
            status = os.lstat(place)
            content = b""
            if stat.S_ISDIR(status.st_mode):
                pending.append(path)
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(place)
            else:
                with open(place, "rb") as file:
                    content = file.read()
            found[path] = (kinds[stat.S_IFMT(status.st_mode)], stat.S_IMODE(status.st_mode), content)
    return found


class Program:
    """What a program does in a tree at the n-th time that a point is passed; a fault handler.

    Attributes:
        written: What it has written.
    """

    def __init__(self, tree: Path, content: bytes, point: str, turn: int = 1, *, log: Path | None = None) -> None:
        self.written: set[bytes] = set()
        self._log = log
        self._tree = tree
        self._content = content
        self._point = point
        self._turn = turn

    def __call__(self, point: str) -> None:
        """Pass a point."""
        if point.replace("undo.", "restore.") == self._point:
            self._turn -= 1
            if not self._turn:
                self._write()

    def _write(self) -> None:
        """Write in place, replace by rename, make, write over what the base holds, and add to a directory."""
        tree = self._tree
        self._put(tree / "a", b"in place")
        (tree / "many").mkdir(exist_ok=True)
        self._put(tree / "many" / "other", b"added")
        self._put(tree / "beside", b"by rename")
        (tree / "beside").replace(tree / "uncommitted")
        self._put(tree / "secret.log", b"ignored")
        self._put(tree / "fresh", b"of nobody")

    def _put(self, path: Path, how: bytes) -> None:
        content = b"%s %s\n" % (self._content, how)
        path.write_bytes(content)
        self.written.add(content)
        if self._log is not None:
            with self._log.open("ab") as file:
                file.write(content)

    def read_log(self) -> None:
        """Learn what another process has written as this program."""
        if self._log is not None and self._log.exists():
            self.written |= set(self._log.read_bytes().splitlines(keepends=True))


@contextmanager
def private_mounts() -> Iterator[None]:
    """Let this thread, and what it starts, mount where nobody else sees it.

    A mount namespace that somebody makes at the same time would have a copy of the mount, and keep it in use.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    with closing_fd(os.open("/proc/thread-self/ns/mnt", os.O_RDONLY)) as before:
        assert libc.unshare(_CLONE_NEWNS) == 0
        assert mount("none", Path("/"), "", flags=_MS_REC | _MS_PRIVATE)
        try:
            yield
        finally:
            here = Path.cwd()
            assert libc.setns(before, _CLONE_NEWNS) == 0
            os.chdir(here)


@contextmanager
def mounted_layers(vault: Vault, lower: Path, point: Path) -> Iterator[None]:
    """Mount the layers of the fork `work`, for this thread and what it starts."""
    opened = opened_of(vault.workspace("work"))
    point.mkdir(exist_ok=True)
    upper, work, is_trusted = opened.layout.upper, opened.layout.work, opened.upper.marks.is_trusted
    with private_mounts(), mounted(lower, upper, work, point, is_trusted=is_trusted):
        yield


def opened_of(work: Workspace) -> OpenWorkspace:
    """Give what is open of a workspace."""
    return work._opened


def spell_for_users(work: Workspace) -> None:
    """Let the marks of an empty upper layer be those of ordinary users, where root made it."""
    opened = opened_of(work)
    for name in (b"user.avfs.marks", b"trusted.avfs.base"):
        os.removexattr(opened.layout.root, name)
    opened.layers.open(opened.state)
    opened.mode.renew()


@contextmanager
def serving(home: Path, point: Path) -> Iterator[Workspace]:
    """Serve the fork `work`, which is mounted there, as a session does: also one that goes on after another died.

    At the end it is gone as a session that is killed: nothing is given back.
    """
    with Avfs(home) as avfs, avfs.open_vault("v") as vault:
        work = vault.workspace("work")
        opened = opened_of(work)
        opened.show_at(point)
        opened.serve("test")
        yield work

"""libfuse: mounting and serving a tree through it, with every argument of its calls.

Decided here: how libfuse is set up, and how a failure is told. The binding (mfusepy) drops arguments that a filesystem
needs: the flags of a rename, without which RENAME_NOREPLACE destroys a file; the handle of a changed file, which is all
that is known of one without a name; and that one of two times is to be kept. `Calls` hands them on.
`session.serve.portable` calls `serve`. Importing this module loads the C library, and raises OSError where there is
none.

libfuse must not meet an exception: each becomes an errno (`fuse.errnos`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import mfusepy

from avfs_git.errors import MountError
from avfs_git.fuse.errnos import errno_of
from avfs_git.fuse.portable import PortableOperations
from avfs_git.vfs.tree.merged import MergedTree

_UTIME_NOW, _UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2  # utimensat(2)
_READING = frozenset(
    {"read", "readlink", "getxattr", "listxattr", "statfs", "lseek", "fsync", "fsyncdir", "init_fuse_2", "init_fuse_3"}
)
"""Calls without the tree's lock, which may wait long.

All others have it: a checkpoint is one moment for every writer.
"""


def _caller() -> tuple[int, int]:
    uid, gid, _ = mfusepy.fuse_get_context()
    return uid, gid


def serve(
    tree: MergedTree,
    directory: Path,
    *,
    source: str,
    read_only: bool = False,
    allow_other: bool = False,
    ready: Callable[[], None] | None = None,
) -> None:
    """Mount a tree and serve it until it is unmounted.

    libfuse handles SIGHUP, SIGINT and SIGTERM meanwhile: they end the mount.

    A thread of libfuse calls `ready` when programs can use the tree.
    """
    operations = PortableOperations(tree, _caller, ready)
    options: dict[str, Any] = {
        # Two names of one file are two files to libfuse and to the kernel behind it: what it remembers of one would be
        # wrong when the other is changed.
        "entry_timeout": 0, "attr_timeout": 0, "negative_timeout": 0, "use_ino": True, "default_permissions": True,
        "ro": read_only, "allow_other": allow_other, "subtype": "avfs", "fsname": _escape(source), "foreground": True,
    }  # fmt: skip
    # In the order in which the kernel asks: what waits for earlier writes by asking something (`host.files.flush`) is
    # answered after them. The interpreter runs one thread at a time anyhow.
    options["nothreads"] = True
    if mfusepy.fuse_version_major == 2:
        options["big_writes"] = True
    try:
        Calls(operations, os.fsencode(directory).decode("utf-8", "surrogateescape"), **options)
    except RuntimeError as error:  # libfuse has said why on stderr
        raise MountError(f"libfuse cannot mount at '{directory}'", details={"status": str(error)}) from error
    tree.pins.empty_attic()


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace(",", "\\,")


class Calls(mfusepy.FUSE):  # type: ignore[misc]  # the binding has no types
    """What libfuse calls; made and run by its constructor."""

    operations: PortableOperations

    def _wrapper(self, func: Callable[..., int | None], *args: Any, **_: Any) -> int:
        is_read = func.__name__ in _READING
        try:
            with nullcontext() if is_read else self.operations.tree.guard:
                return func(*args) or 0
        except Exception as error:  # noqa: BLE001 - one failing request must not end the tree for every program
            return -errno_of(error, func.__name__)

    def _text(self, path: bytes) -> str:
        return path.decode(self.encoding, self.errors)

    def _path(self, path: bytes | None) -> str | None:
        return None if path is None else self._text(path)

    def rename_fuse_3(self, old: bytes, new: bytes, flags: int) -> None:
        """Rename, with flags."""
        self.operations.rename(self._text(old), self._text(new), flags)

    def chmod_fuse_3(self, path: bytes | None, mode: int, fip: Any) -> None:
        """Set permission bits, also of what has no name."""
        self.operations.chmod(self._path(path), mode, _handle(fip))

    def chown_fuse_3(self, path: bytes | None, uid: int, gid: int, fip: Any) -> None:
        """Set the owner, also of what has no name."""
        self.operations.chown(self._path(path), _or_keep(uid), _or_keep(gid), _handle(fip))

    def truncate_fuse_3(self, path: bytes | None, length: int, fip: Any) -> None:
        """Set the size, also of what has no name."""
        self.operations.truncate(self._path(path), length, _handle(fip))

    def lseek(self, path: bytes | None, offset: int, whence: int, fip: Any) -> int:
        """Find the next data or hole; libfuse 2 does not ask."""
        return self.operations.lseek(self._path(path), offset, whence, fip.contents.fh)

    def utimens_fuse_2(self, path: bytes | None, buf: Any) -> None:
        """Set times, of which one may be kept."""
        self.utimens_fuse_3(path, buf, None)

    def utimens_fuse_3(self, path: bytes | None, buf: Any, fip: Any) -> None:
        """Set times, of which one may be kept, also of what has no name."""
        now_ns = time.time_ns()
        times = (_time(buf.contents.actime, now_ns), _time(buf.contents.modtime, now_ns)) if buf else (now_ns, now_ns)
        self.operations.utimens(self._path(path), times, _handle(fip))


def _handle(fip: Any) -> int | None:
    return fip.contents.fh if fip else None


def _or_keep(number: int) -> int:
    return -1 if number in (-1, 0xFFFF_FFFF) else number


def _time(moment: Any, now_ns: int) -> int | None:
    if moment.tv_nsec == _UTIME_OMIT:
        return None
    return now_ns if moment.tv_nsec == _UTIME_NOW else moment.tv_sec * 1_000_000_000 + moment.tv_nsec

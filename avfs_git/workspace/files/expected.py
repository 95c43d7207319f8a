"""Whether a file still holds the content that a caller has seen.

Decided here: how that is found out in a live tree. Programs there hold no lock of ours, so the answer is valid only
while the guard of the tree is held, and reading takes 0.5 ms for each MiB. So a caller checks twice: first without the
guard, then with it, where a file that was left alone in between is not read again. Called by `files` with the workspace
locked. Nothing here changes a file.
"""

from __future__ import annotations

import os
import stat
import time
from contextlib import suppress

from avfs_git.errors import ContentChanged
from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.objects.blobfile import SizeChanged, hash_file
from avfs_git.gitstore.objects.store import hash_object
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.flush import await_writes
from avfs_git.paths import TreePath
from avfs_git.values import NamedTuple
from avfs_git.vfs.scan.statcache import RACY_NS
from avfs_git.vfs.tree.merged import MergedTree, Node


class Seen(NamedTuple):
    """What tells that nothing was written to a file since it was looked at."""

    device: int
    ino: int
    size: int
    ctime_ns: int


def content_oid(merged: MergedTree, node: Node) -> str:
    """Compute the id that the content of a file has as a blob."""
    if node.lower is not None and not node.upper and node.lower.oid is not None:
        return node.lower.oid.hex()
    if node.kind == stat.S_IFLNK:
        return hash_object(KIND_BLOB, merged.attributes.readlink(node)).hex()
    if node.kind != stat.S_IFREG or not node.upper:
        return hash_object(KIND_BLOB, merged.contents.read_all(node)).hex()
    # In pieces: a large content at once takes memory, and programs in a live tree wait for each large copy in it.
    with closing_fd(merged.contents.open_file(node, os.O_RDONLY | os.O_NONBLOCK)) as fd:
        while True:
            with suppress(SizeChanged):  # it was cut short meanwhile
                return hash_file(fd, os.fstat(fd).st_size, goes_on=True).hex()


def check_expected(merged: MergedTree, path: TreePath, expect: str, seen: Seen | None = None) -> Seen | None:
    """Refuse if the content is not what the caller has seen; `""` means that nothing may be there.

    A file that looks as it did in an earlier check, which gave `seen`, is not read again.

    Raises:
        ContentChanged: If it is not.
    """
    try:
        node = merged.resolve(path)
    except FileNotFoundError:
        if expect:
            raise ContentChanged(b"/" + path, expect, None) from None
        return None
    now = _look(merged, node)
    if now is None or now != seen:
        actual = content_oid(merged, node) if not node.is_dir else "directory"
        if actual != expect:
            raise ContentChanged(b"/" + path, expect, actual)
    return now


def _look(merged: MergedTree, node: Node) -> Seen | None:
    """Look at a file before it is read; None if a later write might leave it looking the same."""
    if node.kind != stat.S_IFREG or not node.upper:
        return None
    with closing_fd(merged.contents.open_file(node, os.O_RDONLY | os.O_NONBLOCK)) as fd:
        await_writes(fd)  # a write moves the time of change when it begins
        found = os.fstat(fd)
    if found.st_ctime_ns > time.time_ns() - RACY_NS:
        return None
    return Seen(found.st_dev, found.st_ino, found.st_size, found.st_ctime_ns)

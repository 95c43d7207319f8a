"""Whether a file still holds the content that a caller has seen.

Decided here: how that is found out in a live tree. Programs there hold no lock of ours, so the answer is valid only while the
guard of the tree is held. The content is read before that, while programs go on; with the guard, a look at the file's times tells
whether it is still the same. Called by `files` with the workspace locked. Nothing here changes a file.
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
from avfs_git.paths import TreePath
from avfs_git.values import NamedTuple
from avfs_git.vfs.scan.statcache import RACY_NS
from avfs_git.vfs.tree.merged import Attr, MergedTree, Node


class Seen(NamedTuple):
    """What a file held at one moment."""

    oid: str
    attr: Attr
    """Its attributes before it was read."""


def content_oid(merged: MergedTree, node: Node) -> str:
    """Compute the id that the content of a file has as a blob."""
    if node.lower is not None and not node.upper and node.lower.oid is not None:
        return node.lower.oid.hex()
    if node.kind == stat.S_IFLNK:
        return hash_object(KIND_BLOB, merged.attributes.readlink(node)).hex()
    if node.kind != stat.S_IFREG or not node.upper:
        return hash_object(KIND_BLOB, merged.contents.read_all(node)).hex()
    # In pieces: a large content at once takes memory, and programs in a live tree wait for each large copy in it.
    fd = merged.contents.open_file(node, os.O_RDONLY | os.O_NONBLOCK)
    try:
        while True:
            with suppress(SizeChanged):  # it was cut short meanwhile
                return hash_file(fd, os.fstat(fd).st_size, goes_on=True).hex()
    finally:
        os.close(fd)


def look_ahead(merged: MergedTree, path: TreePath) -> Seen | None:
    """Read what is at a path, without the guard. Give None where `check_expected` need not read.

    A file that changed less than `RACY_NS` ago is read after that time: a later change may leave its times as they are.
    """
    try:
        node = merged.resolve(path)
        if not merged.is_shared or node.kind != stat.S_IFREG or not node.upper:
            return None
        attr = merged.attributes.getattr(node)
        wait_ns = attr.ctime_ns + RACY_NS - time.time_ns()
        if wait_ns > 0:
            time.sleep(min(wait_ns, RACY_NS) / 1e9)
            attr = merged.attributes.getattr(node)
        return Seen(content_oid(merged, node), attr)
    except OSError:  # `check_expected` says what is wrong
        return None


def check_expected(merged: MergedTree, path: TreePath, expect: str, seen: Seen | None = None) -> None:
    """Refuse if the content is not what the caller has seen; `""` means that nothing may be there.

    Raises:
        ContentChanged: If it is not.
    """
    try:
        node = merged.resolve(path)
    except FileNotFoundError:
        if expect:
            raise ContentChanged(b"/" + path, expect, None) from None
        return
    actual = _find_oid(merged, node, seen) if not node.is_dir else "directory"
    if actual != expect:
        raise ContentChanged(b"/" + path, expect, actual)


def _find_oid(merged: MergedTree, node: Node, seen: Seen | None) -> str:
    if seen is not None and node.kind == stat.S_IFREG:
        now, then = merged.attributes.getattr(node), seen.attr
        if (now.ino, now.size, now.mtime_ns, now.ctime_ns) == (then.ino, then.size, then.mtime_ns, then.ctime_ns):
            return seen.oid
    return content_oid(merged, node)

"""Tags and metadata of a path, which are extended attributes of its file or directory.

Decided here: what a change of them does, and which errors callers see. `vfs.tags` says which attributes they are:
programs in a live tree read and set them, and all that keeps attributes keeps them: checkpoints, forks, renames,
copies, merges, restores and undo. `workspace.files.files` calls this, and holds the workspace lock for a change.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence

from avfs_git.errors import AttributeRefused, PathUnsuitable, quote
from avfs_git.model import MetaEntry, PathMeta
from avfs_git.paths import TreePath
from avfs_git.vfs.tags import OVERLAY, TAGS, USER, attribute_of, check_tag, format_tags, tags_of
from avfs_git.vfs.tree.merged import MergedTree, Node

_VALUE_MAX = 64 << 10
"""The kernel's limit; file systems may take less."""
_REFUSED = frozenset({errno.E2BIG, errno.ERANGE, errno.EOPNOTSUPP})
"""What file systems say of an attribute that they cannot hold."""


def read_meta(merged: MergedTree, path: TreePath) -> PathMeta:
    """Read the tags and the metadata of a path."""
    node = merged.resolve(path)
    return _describe(path, merged.attributes.read_xattrs(node))


def change_meta(
    merged: MergedTree,
    path: TreePath,
    entries: Sequence[MetaEntry],
    deleted: Sequence[str],
    tags: Sequence[str],
    untagged: Sequence[str],
) -> PathMeta:
    """Set and delete metadata and tags of a path, and give what it has then. Nothing changes unless all can be done so.

    Raises:
        InvalidInput: If a key, value or tag cannot be one.
        PathUnsuitable: If a key or tag that is to go is not there, or the path is neither a file nor a directory.
        AttributeRefused: If the file system cannot hold it.
    """
    node = merged.resolve(path)
    if node.kind not in (stat.S_IFREG, stat.S_IFDIR):
        raise PathUnsuitable(b"/" + path, "is neither a file nor a directory: no other path carries tags and metadata")
    before = merged.attributes.read_xattrs(node)
    wanted: dict[bytes, bytes | None] = {attribute_of(entry.key): entry.value for entry in entries}
    for key in deleted:
        name = attribute_of(key)
        if name not in before:
            raise PathUnsuitable(b"/" + path, f"has no metadata {quote(key)}")
        wanted[name] = None
    if tags or untagged:
        present = dict.fromkeys(tags_of(before))
        present |= dict.fromkeys(map(check_tag, tags))
        for tag in map(check_tag, untagged):
            if tag not in present:
                raise PathUnsuitable(b"/" + path, f"has no tag {quote(tag)}")
            del present[tag]
        wanted[TAGS] = format_tags(present) or None
    for name, value in wanted.items():
        if value is not None and len(value) > _VALUE_MAX:
            raise AttributeRefused(
                path, _show(name), f"it is {len(value)} bytes long, above the {_VALUE_MAX} that Linux takes"
            )
    for name, value in wanted.items():
        _put(merged, path, node, name, value, before.get(name))
    return _describe(path, merged.attributes.read_xattrs(node))


def _put(
    merged: MergedTree, path: TreePath, node: Node, name: bytes, value: bytes | None, before: bytes | None
) -> None:
    """Set or remove an attribute. A value that is there already costs nothing."""
    if value == before:
        return
    attributes = merged.attributes
    if value is None:
        attributes.remove_xattr(node, name)
        return
    try:
        attributes.set_xattr(node, name, value)
    except OSError as error:
        # ext4 says that the disk is full where the attributes of a file are above 4 KiB.
        is_full = error.errno == errno.ENOSPC and not attributes.statvfs().f_bavail
        if error.errno not in _REFUSED and (error.errno != errno.ENOSPC or is_full):
            raise
        what = "the file system under the workspace does not take attributes"
        if error.errno != errno.EOPNOTSUPP:
            what = f"it is {len(value)} bytes long, too many for the file system under the workspace"
        raise AttributeRefused(path, _show(name), what) from error


def _describe(path: TreePath, attributes: Mapping[bytes, bytes]) -> PathMeta:
    entries = [
        MetaEntry(_show(name), value)
        for name, value in sorted(attributes.items())
        if name.startswith(USER) and name != TAGS and not name.startswith(USER + OVERLAY)
    ]
    return PathMeta(path, tags_of(attributes), tuple(entries))


def _show(name: bytes) -> str:
    return os.fsdecode(name.removeprefix(USER))

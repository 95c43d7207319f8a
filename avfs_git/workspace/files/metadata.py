"""Tags and metadata of a path, which are extended attributes of its file or directory.

Decided here: which attributes they are. The tags are `user.xdg.tags`, separated by commas, as desktop programs write them; the
metadata KEY is `user.KEY`. So programs in a live tree read and set them as attributes, and all that keeps attributes keeps them:
checkpoints, forks, renames, copies, restores and undo. `workspace.files.files` calls this with the workspace locked,
`workspace.history.find` with entries of a captured state.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Mapping, Sequence

from avfs_git.errors import AttributeRefused, InvalidInput, PathUnsuitable, quote
from avfs_git.model import MetaEntry, PathMeta
from avfs_git.paths import TreePath
from avfs_git.vfs.tree.merged import MergedTree, Node

_PREFIX = b"user."
_OVERLAY = b"overlay."
_TAGS = b"user.xdg.tags"
_KEY_MAX = 250
"""The kernel takes names of 255 bytes, `user.` included."""
_VALUE_MAX = 64 << 10
"""The kernel's limit; file systems may take less."""
_REFUSED = frozenset({errno.E2BIG, errno.ERANGE, errno.EOPNOTSUPP})
"""What file systems say of an attribute that they cannot hold."""


def read_meta(merged: MergedTree, path: TreePath) -> PathMeta:
    """Read the tags and the metadata of a path."""
    node = merged.resolve(path)
    return _describe(path, merged.attributes.read_xattrs(node))


def tags_of(attributes: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]]) -> tuple[str, ...]:
    """Pick the tags out of the attributes of an entry."""
    parts = [os.fsdecode(part.strip()) for part in dict(attributes).get(_TAGS, b"").split(b",")]
    return tuple(dict.fromkeys(filter(None, parts)))


def attribute_of(key: str) -> bytes:
    """Name the attribute that holds a key.

    Raises:
        InvalidInput: If no attribute can.
    """
    name = _encode(key)
    if not name or b"\0" in name or len(name) > _KEY_MAX or name.startswith(_OVERLAY):
        raise InvalidInput(
            f"{quote(name)} cannot be a key of metadata",
            hint=f"A key is 1 to {_KEY_MAX} bytes long and does not begin with `overlay.`, which are marks of overlayfs.",
        )
    return _PREFIX + name


def check_tag(tag: str) -> str:
    """Give a tag as it is stored.

    Raises:
        InvalidInput: If it is empty, or holds a comma or a control character.
    """
    found = tag.strip()
    if not found or "," in found or any(ord(letter) < 32 or ord(letter) == 127 for letter in found):
        raise InvalidInput(f"{quote(tag)} cannot be a tag", hint="A tag is a text without commas and control characters.")
    _encode(found)
    return found


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
        wanted[_TAGS] = ",".join(present).encode("utf-8", "surrogateescape") or None
    for name, value in wanted.items():
        if value is not None and len(value) > _VALUE_MAX:
            raise AttributeRefused(path, _show(name), f"it is {len(value)} bytes long, above the {_VALUE_MAX} that Linux takes")
    for name, value in wanted.items():
        _put(merged, path, node, name, value, before.get(name))
    return _describe(path, merged.attributes.read_xattrs(node))


def _put(merged: MergedTree, path: TreePath, node: Node, name: bytes, value: bytes | None, before: bytes | None) -> None:
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
        if name.startswith(_PREFIX) and name != _TAGS and not name.startswith(_PREFIX + _OVERLAY)
    ]
    return PathMeta(path, tags_of(attributes), tuple(entries))


def _show(name: bytes) -> str:
    return os.fsdecode(name.removeprefix(_PREFIX))


def _encode(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise InvalidInput(f"character {error.start} of {quote(ascii(text))} cannot be written in UTF-8") from error

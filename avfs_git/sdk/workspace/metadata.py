"""Tags and metadata of the files and directories of a workspace.

Decided here: names and arguments of the public API for them. What they are, `workspace.files.metadata` decides:
extended attributes, which checkpoints keep and forks, renames and merges carry. Each method is one operation, which
`sdk.dispatch` does here, or in the session that mounts the workspace. Callers may use several threads and processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from avfs_git.model import MetaEntry, PathMeta, TagList
from avfs_git.paths import PathLike, encode_given, parse_tree_path
from avfs_git.sdk.parts import find, operations

if TYPE_CHECKING:
    from avfs_git.sdk.handle import ForkHandle


class WorkspaceMetadata:
    """The tags and metadata of a workspace's paths."""

    _at: ForkHandle

    def read_meta(self, path: PathLike) -> PathMeta:
        """Read the tags and the metadata of a path. Symbolic links are followed inside the workspace only.

        Raises:
            PathNotFound: If nothing is at the path.
        """
        return self._at.run(operations.read_meta, parse_tree_path(path))

    def set_meta(self, path: PathLike, key: str, value: str | bytes) -> PathMeta:
        """Set one key of the metadata of a path: its extended attribute `user.KEY`. Gives what the path has then.

        Raises:
            InvalidInput: If the key cannot be the name of an attribute: 1 to 250 bytes, not beginning with `overlay.`.
            AttributeRefused: If the file system cannot hold the value. Linux takes 64 KiB, ext4 4 KiB in all.
            PathNotFound: If nothing is at the path.
            PathUnsuitable: If it is neither a file nor a directory.
        """
        return self._change(path, "set metadata of", entries=[MetaEntry(key, encode_given(value))])

    def delete_meta(self, path: PathLike, key: str) -> PathMeta:
        """Delete one key of the metadata of a path. Gives what the path has then.

        Raises:
            PathUnsuitable: If the path has no such key.
            PathNotFound: If nothing is at the path.
        """
        return self._change(path, "delete metadata of", deleted=[key])

    def tag(self, path: PathLike, *tags: str) -> PathMeta:
        """Give a path tags, which the attribute `user.xdg.tags` lists. A tag that it has stays. Gives what it has then.

        Raises:
            InvalidInput: If a tag is empty, or holds a comma or a control character.
            AttributeRefused, PathNotFound, PathUnsuitable: As `set_meta`.
        """
        return self._change(path, "tag", tags=tags)

    def untag(self, path: PathLike, *tags: str) -> PathMeta:
        """Take tags from a path: all of them, or none. Gives what it has then.

        Raises:
            PathUnsuitable: If the path does not have one of them.
            PathNotFound: If nothing is at the path.
        """
        return self._change(path, "untag", untagged=tags)

    def list_tags(self) -> TagList:
        """List the tags of the workspace as it is, ignored files included. Costs a look at each directory."""
        objects = self._at.make_objects()
        return find.list_tags(objects, self._at.look(objects, contents=False))

    def _change(
        self,
        path: PathLike,
        verb: str,
        *,
        entries: Sequence[MetaEntry] = (),
        deleted: Sequence[str] = (),
        tags: Sequence[str] = (),
        untagged: Sequence[str] = (),
    ) -> PathMeta:
        tree_path = parse_tree_path(path)
        return self._at.change(
            lambda: self._at.run(operations.change_meta, tree_path, entries, deleted, tags, untagged), verb, path
        )

"""`avfs meta`: tags and metadata of files and directories."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.table import VerbGroup
from avfs_git.cli.verb import TREE_PATH, verb
from avfs_git.errors import PathUnsuitable, quote

if TYPE_CHECKING:
    from avfs_git.model import PathMeta, TagList
    from avfs_git.paths import TreePath
    from avfs_git.sdk import Workspace


@verb("meta get", looks=True, view="metadata", example="avfs meta get src/main.py")
@click.argument("path", type=TREE_PATH)
@click.argument("key", required=False)
def get(state: State, path: TreePath, key: str | None) -> PathMeta:
    """Show the tags and the metadata of a path, or the value of KEY"""
    from avfs_git.values import replace  # noqa: PLC0415 - most commands do not need it

    with state.open_workspace() as workspace:
        found = workspace.read_meta(path)
    if key is None:
        return found
    entries = tuple(entry for entry in found.entries if entry.key == key)
    if not entries:
        raise PathUnsuitable(b"/" + path, f"has no metadata {quote(key)}")
    return replace(found, entries=entries)


@verb("meta set", view="metadata", example="avfs meta set src/main.py owner ada")
@click.argument("path", type=TREE_PATH)
@click.argument("key")
@click.argument("value")
def set_(workspace: Workspace, path: TreePath, key: str, value: str) -> PathMeta:
    """Set a key of the metadata of a path

    It is the extended attribute `user.KEY` of the file or directory.
    """
    return workspace.set_meta(path, key, os.fsencode(value))


@verb("meta delete", view="metadata", example="avfs meta delete src/main.py owner")
@click.argument("path", type=TREE_PATH)
@click.argument("key")
def delete(workspace: Workspace, path: TreePath, key: str) -> PathMeta:
    """Delete a key of the metadata of a path"""
    return workspace.delete_meta(path, key)


@verb("meta tag", view="metadata", example="avfs meta tag src/main.py reviewed urgent")
@click.argument("path", type=TREE_PATH)
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
def tag(workspace: Workspace, path: TreePath, tags: tuple[str, ...]) -> PathMeta:
    """Add tags to a path

    They are in its extended attribute `user.xdg.tags`, separated by commas. `avfs find --tag TAG` finds the paths with
    a tag.
    """
    return workspace.tag(path, *tags)


@verb("meta untag", view="metadata", example="avfs meta untag src/main.py urgent")
@click.argument("path", type=TREE_PATH)
@click.argument("tags", nargs=-1, required=True, metavar="TAG...")
def untag(workspace: Workspace, path: TreePath, tags: tuple[str, ...]) -> PathMeta:
    """Remove tags from a path"""
    return workspace.untag(path, *tags)


@verb("meta tags", looks=True, view="metadata", pages=True, example="avfs meta tags")
def tags_(workspace: Workspace) -> TagList:
    """List all tags of the workspace, with how many paths have each"""
    return workspace.list_tags()


command = VerbGroup("meta", commands=[get, set_, delete, tag, untag, tags_])

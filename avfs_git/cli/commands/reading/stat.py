"""`avfs stat`: what is known of a path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.verb import TREE_PATH, verb

if TYPE_CHECKING:
    from avfs_git.cli.results import Entries
    from avfs_git.paths import TreePath
    from avfs_git.sdk import Workspace


@verb("stat", looks=True, view="files", example="avfs stat --oid src/main.py")
@click.argument("paths", nargs=-1, required=True, type=TREE_PATH, metavar="PATH...")
@click.option("--oid", "with_oid", is_flag=True, help="Also the id of the content, as `git hash-object` gives it.")
@click.option("-L", "--dereference", is_flag=True, help="Of a symbolic link: what it points to.")
def command(workspace: Workspace, paths: tuple[TreePath, ...], with_oid: bool, dereference: bool) -> Entries:
    """Show facts about a path

    Its kind, mode, size and time, and on request the id of its content.
    """
    return {"entries": [workspace.stat(path, with_oid=with_oid, follow=dereference) for path in paths]}

"""`avfs ls`: list a directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import TREE_PATH, verb
from avfs_git.errors import TooManyFiles

if TYPE_CHECKING:
    from avfs_git.cli.results import Listing
    from avfs_git.model import FileInfo
    from avfs_git.paths import TreePath
    from avfs_git.sdk import Workspace


@verb("ls", looks=True, view="files", pages=True, example="avfs ls -l src")
@click.argument("path", required=False, type=TREE_PATH)
@click.option("-l", "--long", is_flag=True, help="Also mode, size and time.")
@click.option("-a", "--all", "everything", is_flag=True, help="Also names that start with a dot.")
@click.option("-R", "--recursive", is_flag=True, help="Also what is below directories.")
def command(state: State, path: TreePath | None, long: bool, everything: bool, recursive: bool) -> Listing:
    """List a directory"""
    from avfs_git.model import Kind  # noqa: PLC0415 - loaded by the SDK anyway, not by help

    if path is None:
        path = state.tree_directory()
        state.output.amend(path=path)
    with state.open_workspace() as workspace:
        sizes = long or state.output.structured
        info = workspace.stat(path, sizes=sizes)
        if info.kind is not Kind.DIRECTORY:
            return {"path": path, "entries": [info]}
        return {
            "path": path,
            "entries": list_below(workspace, path, everything=everything, recursive=recursive, sizes=sizes),
        }


def list_below(
    workspace: Workspace, path: TreePath, *, everything: bool, recursive: bool, sizes: bool
) -> list[FileInfo]:
    """List a directory, and on request all below it: a directory before what it holds."""
    from avfs_git.gitstore.bounds import FILES_MAX  # noqa: PLC0415 - as above
    from avfs_git.model import Kind  # noqa: PLC0415 - as above

    found: list[FileInfo] = []
    stack: list[FileInfo] = []

    def push(directory: bytes) -> None:
        entries = workspace.list_dir(directory or b"/", sizes=sizes)
        stack.extend(
            entry for entry in reversed(entries) if everything or not entry.path.rpartition(b"/")[2].startswith(b".")
        )

    push(path)
    while stack:
        entry = stack.pop()
        found.append(entry)
        if len(found) > FILES_MAX:
            raise TooManyFiles(FILES_MAX)
        if recursive and entry.kind is Kind.DIRECTORY:
            push(entry.path)
    return found

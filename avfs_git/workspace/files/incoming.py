"""What an import brings, before any of it comes.

Decided here: which paths of the workspace it changes, and that plug-ins are asked about all of them first. Called
by `workspace.files.transfer` with the workspace lock held.
"""

from __future__ import annotations

from collections.abc import Iterator

from avfs_git.paths import ROOT, TreePath, join
from avfs_git.vfs.layer.readers import PlainDirectory
from avfs_git.vfs.scan.scan import DIRECTORY, FILE, SYMLINK, Found
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.workspace.files.asked import Question


def ask_about_all(
    merged: MergedTree, layer: PlainDirectory, path: TreePath, max_depth: int | None, question: Question
) -> None:
    """Ask the user's plug-ins about all that comes into a directory.

    Raises:
        PluginRefused, PluginFailed: If a plug-in does not want one of the paths.
    """
    for found, there in _list_incoming(layer, path, max_depth):
        question.ask(merged, there, follow=found.kind != SYMLINK)


def _list_incoming(layer: PlainDirectory, path: TreePath, max_depth: int | None) -> Iterator[tuple[Found, TreePath]]:
    """List what comes, each with its path in the workspace."""
    stack: list[tuple[TreePath, int]] = [(ROOT, 0)]
    while stack:
        here, depth = stack.pop()
        for found in layer.list_dir(here):
            if is_repository_link(here, found, path) or found.kind not in (DIRECTORY, FILE, SYMLINK):
                continue
            inside = join(here, found.name)
            if found.kind != DIRECTORY:
                yield found, join_below(path, inside)
            elif max_depth is None or depth < max_depth:
                yield found, join_below(path, inside)
                stack.append((inside, depth + 1))


def join_below(path: TreePath, inside: TreePath) -> TreePath:
    """Join two paths, each of which may be that of the root."""
    return TreePath(b"/".join(part for part in (path, inside) if part))


def is_repository_link(here: TreePath, found: Found, path: TreePath) -> bool:
    """Whether this is the repository of the imported directory itself, which the vault takes the place of."""
    return here == ROOT and path == ROOT and found.name == b".git"

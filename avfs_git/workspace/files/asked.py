"""Asking the user's plug-ins before a file call changes a workspace.

Decided here: what they are told of a call: the paths without symbolic links, so that a plug-in that knows a directory is not led
past it. An operation on a directory is one question. Called before the workspace is locked, by the process that makes the change.
"""

from __future__ import annotations

import contextlib
import os

from avfs_git.paths import ROOT, TreePath, join, split
from avfs_git.vfs.judged import Change
from avfs_git.vfs.tree.merged import MergedTree, Node
from avfs_git.workspace.opened.workspace import OpenWorkspace


def ask_before(
    opened: OpenWorkspace,
    operation: str,
    path: TreePath,
    new_path: TreePath | None = None,
    *,
    follow: bool = True,
    **facts: str | bool,
) -> None:
    """Ask the user's plug-ins before a change; they are told where symbolic links lead.

    A change of a file, whose last name is followed, is asked about under each name that the file has.

    Raises:
        PluginRefused: If one does not want it.
        PluginFailed: If one cannot be asked.
    """
    check = opened.find_judge()
    if check is None:
        return
    merged = opened.read_view()
    real, node = find_real(merged, path, follow=follow)
    new = None if new_path is None else find_real(merged, new_path, follow=True)[0]
    if new is not None and path != new_path:
        with contextlib.suppress(OSError):
            if merged.resolve(new).is_dir:
                new = join(new, split(path)[1])
    for one in merged.nodes.paths_of(node) if node is not None and follow else [real]:
        check(Change(operation, one, new, facts, uid=os.geteuid()))


def find_real(merged: MergedTree, path: TreePath, *, follow: bool) -> tuple[TreePath, Node | None]:
    """Find the path without symbolic links, and what is there.

    Of what is not there, that of the nearest directory which is, and the rest.
    """
    rest = ROOT
    while True:
        try:
            parent, name, node = merged.locate(path, follow_last=follow)
        except (FileNotFoundError, NotADirectoryError):
            path, last = split(path)
            rest, follow = join(TreePath(last), rest) if rest else TreePath(last), True
            continue
        real = merged.nodes.path_in(parent, name) if node is not merged.root else ROOT
        return (join(real, rest), None) if rest else (real, node)

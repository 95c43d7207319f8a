"""Asking the user's plug-ins before a file call changes a workspace.

Decided here: what they are told of a call: the paths without symbolic links, so that a plug-in that knows a directory is not led
past it. An operation on a directory is one question. Called before the workspace is locked, by the process that makes the change.
"""

from __future__ import annotations

import contextlib
import os

from avfs_git.paths import ROOT, TreePath, join, split
from avfs_git.vfs.judged import Change
from avfs_git.vfs.tree.merged import MergedTree
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

    Raises:
        PluginRefused: If one does not want it.
        PluginFailed: If one cannot be asked.
    """
    check = opened.find_judge()
    if check is None:
        return
    merged = opened.read_view()
    real = _find_real(merged, path, follow=follow)
    new = None if new_path is None else _find_real(merged, new_path, follow=True)
    if new is not None and path != new_path:
        with contextlib.suppress(OSError):
            if merged.resolve(new).is_dir:
                new = join(new, split(path)[1])
    check(Change(operation, real, new, facts, uid=os.geteuid()))


def _find_real(merged: MergedTree, path: TreePath, *, follow: bool) -> TreePath:
    """Find the path without symbolic links; of what is not there, that of the nearest directory which is, and the rest."""
    rest = ROOT
    while True:
        try:
            parent, name, node = merged.locate(path, follow_last=follow)
        except (FileNotFoundError, NotADirectoryError):
            path, last = split(path)
            rest, follow = join(TreePath(last), rest) if rest else TreePath(last), True
            continue
        real = merged.nodes.path_of(node) if node is not None else merged.nodes.path_in(parent, name)
        return join(real, rest) if rest else real

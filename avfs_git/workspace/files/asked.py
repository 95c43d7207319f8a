"""Asking the user's plug-ins before a file call changes a workspace.

Decided here: what they are told of a call: the paths without symbolic links, so that a plug-in that knows a directory
is not led past it. An operation on a directory is one question, but for an import: that is one for each path. Called
before the workspace is locked, by the process that makes the change. With the lock held, a path that leads elsewhere by
then is asked about again.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping

from avfs_git.paths import ROOT, TreePath, join, split
from avfs_git.vfs.asked import Change
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
) -> Question | None:
    """Ask the user's plug-ins before a change; give the question, to ask again; None without plug-ins.

    Raises:
        PluginRefused: If one does not want it.
        PluginFailed: If one cannot be asked.
    """
    check = opened.find_check()
    if check is None:
        return None
    question = Question(check, operation, facts)
    question.ask(opened.read_view(), path, new_path, follow=follow)
    return question


class Question:
    """A question about the paths of one call: about each, once."""

    def __init__(self, check: Callable[[Change], None], operation: str, facts: Mapping[str, str | bool]) -> None:
        self._check = check
        self._operation = operation
        self._facts = facts
        self._asked: set[tuple[TreePath, TreePath | None]] = set()

    def ask(self, merged: MergedTree, path: TreePath, new_path: TreePath | None = None, *, follow: bool = True) -> None:
        """Ask about a path, as where symbolic links lead to; errors as those of `ask_before`.

        A change of a file, whose last name is followed, is asked about under each name that the file has.
        """
        real, node = find_real(merged, path, follow=follow)
        new = None if new_path is None else find_real(merged, new_path, follow=True)[0]
        if new is not None and path != new_path:
            with contextlib.suppress(OSError):
                if merged.resolve(new).is_dir:
                    new = join(new, split(path)[1])
        for one in merged.nodes.paths_of(node) if node is not None and follow else [real]:
            if (one, new) not in self._asked:
                self._check(Change(self._operation, one, new, self._facts, uid=os.geteuid()))
                self._asked.add((one, new))


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

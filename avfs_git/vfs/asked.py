"""A change that plug-ins are asked about before it is made.

Decided here: what they are told, by `fuse.asking` of what programs do in a live tree and by file calls of what a caller
of avfs does. `workspace.plugins` asks them. Values only: any thread may use them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from avfs_git.paths import TreePath
from avfs_git.values import value_class


@value_class
class Change:
    """A change that a program or a caller of avfs asks for.

    Attributes:
        operation: Such as `write` or `rename`: docs/guides/plugins.md lists all of them.
        path: What is changed; None for an operation on a fork as a whole.
        new_path: The second path of `rename`, `link` and `copy`.
        facts: What else is known, such as `size`.
        pid: The program that asks, if that is known.
        uid: Its user, if that is known.
    """

    operation: str
    path: TreePath | None
    new_path: TreePath | None = None
    facts: Mapping[str, int | str | bool] = {}
    pid: int | None = None
    uid: int | None = None


Allows = Callable[[Change], bool]
"""Tells whether a change may be made; it has told the user why not."""

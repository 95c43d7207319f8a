"""The time in which one operation makes the programs in a served tree wait.

Decided here: how a reader beside that operation knows whether files can have changed. `OpenWorkspace` has one. The
operation holds it with the guard of the tree (`session.control.operations`), `LockedWorkspace` reports the first
change, and `capture.beside` reads it without a lock: the count moves before the change that it stands for.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager

from avfs_git.paths import TreePath

_MOMENT_S = 0.002
_PATIENCE_S, _PATIENCE_HELD_S = 0.1, 0.01
"""How long it is waited until the kernel has forgotten names, before programs wait and while they do."""


class Standstill:
    """Whether programs are kept waiting.

    Attributes:
        count: Moves at the beginning, at the end, and before the first change.
        is_held: Whether they are.
        is_moving: Whether the operation has begun to change something.
        forget_names: Lets the kernel ask for names before a program opens what has them, where it would not else. Given
            the paths, and how long to wait for that, in seconds.
    """

    def __init__(self) -> None:
        self.count = 0
        self.is_held = False
        self.is_moving = False
        self.forget_names: Callable[[Collection[TreePath], float], object] | None = None

    @contextlib.contextmanager
    def held(self, guard: AbstractContextManager[object], going: Collection[TreePath] = ()) -> Iterator[None]:
        """Keep programs waiting for as long as the block runs, also where they open files that are `going`.

        Else a program could open the old file meanwhile, and what it writes there would be lost. Programs that have
        opened one just before have a moment to write to it.
        """
        if self.forget_names is not None and going:
            self.forget_names(going, _PATIENCE_S)
            time.sleep(_MOMENT_S)
        with guard:
            self.count += 1
            self.is_held = True
            try:
                if self.forget_names is not None and going:
                    self.forget_names(going, _PATIENCE_HELD_S)
                yield
            finally:
                self.count += 1
                self.is_held = self.is_moving = False

    def move(self) -> bool:
        """Tell that the operation that keeps programs waiting, if any, begins to change something; False if none."""
        if self.is_held and not self.is_moving:
            self.is_moving = True
            self.count += 1
        return self.is_moving

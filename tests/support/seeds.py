"""The seeds of tests that draw their cases at random, and the cases that take turns.

On a developer's machine each run draws other cases. Under CI all runs draw the same ones, so that a run fails because
of the change that it judges. `AVFS_SEED` names the seed of a run that is to be repeated.

A matrix of points and cases has each point with some of the cases, the next point with the next ones; where an
operation is interrupted at each point, a run takes every eighth one, and the test that interrupts it otherwise others.
With `AVFS_ALL`, as in `make soak`, each point has all of them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import count
from typing import TypeVar

_T = TypeVar("_T")
_GIVEN = os.environ.get("AVFS_SEED")
"""Read when this module is imported: a test runs without the variables of avfs."""
_IS_ALL = bool(os.environ.get("AVFS_ALL"))


def is_all() -> bool:
    """Whether each point of a matrix has all cases."""
    return _IS_ALL


def draw_seed() -> int:
    """Choose a seed for who tells of it."""
    return int(_GIVEN or (1 if os.environ.get("CI") else random.SystemRandom().randrange(1 << 30)))


def choose_seed() -> int:
    """Choose a seed, and print it: pytest shows it where the test fails."""
    seed = draw_seed()
    print(f"AVFS_SEED={seed}")
    return seed


def take_turns(cases: Sequence[_T], *, count: int = 1, stay: int = 1) -> Callable[[int], list[_T]]:
    """Choose which cases a point has: so many, and after so many points the next ones."""
    begin = choose_seed()
    count = len(cases) if _IS_ALL else count
    return lambda point: [cases[(begin + point // stay * count + number) % len(cases)] for number in range(count)]


def take_points(turn: int) -> Iterator[tuple[int, int]]:
    """Number the interruption points from 1 on: pairs of the count of earlier points in this run, and the number.

    A run takes every eighth point. Tests whose turns differ take different ones.
    """
    return enumerate(count(1) if _IS_ALL else count(1 + (choose_seed() + turn) % 8, 8))


def one_in(count: int, cases: Iterable[_T]) -> list[_T]:
    """Choose one in so many of the cases of a matrix."""
    turns = take_turns((True, *[False] * (count - 1)))
    return [case for number, case in enumerate(cases) if any(turns(number))]

"""Which users and backends the cases of a test have in this run: a part of its matrix, another one each time.

A test with cases runs each of them as one user, and on one backend where it has the fixture `person`, too; the next
case as the next user, on the next backend. So each user and each backend comes in each test. A test without cases runs
as each user. `make soak` runs all (`AVFS_ALL`), and so does whoever names tests.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from itertools import product

import pytest

from tests.support.seeds import is_all

_BACKENDS = frozenset({"auto", "fuse", "overlay"})
_AS_USER = {f"{name}-user": name for name in ("channel", "portable")}
"""Ways to show a workspace to an ordinary user (`tests.support.backends`), and to root."""

Cell = tuple[str, str]
"""Backend, if it is chosen, and user."""


def take_part(config: pytest.Config, items: list[pytest.Item], seed: int) -> None:
    """Leave out the users and backends that the cases of a test do not have in this run."""
    named = config.getoption("keyword") or config.getoption("lf", default=False)
    if is_all() or named or any("::" in argument for argument in config.args):
        return
    tests: dict[str, dict[object, list[tuple[Cell, pytest.Item]]]] = defaultdict(lambda: defaultdict(list))
    for item in items:
        if (found := _cell_of(item)) is not None:
            cell, case = found
            tests[item.nodeid.partition("[")[0]][case].append((cell, item))
    left: set[pytest.Item] = set()
    for name, cases in tests.items():
        taken = choose([{cell for cell, _ in case} for case in cases.values()], f"{seed} {name}")
        left |= {
            item for case, cells in zip(cases.values(), taken, strict=True) for cell, item in case if cell not in cells
        }
    config.hook.pytest_deselected(items=[item for item in items if item in left])
    items[:] = [item for item in items if item not in left]


def _cell_of(item: pytest.Item) -> tuple[Cell, object] | None:
    """Tell which cell of a matrix a test is, and of which case; None if it does not depend on a user."""
    spec = getattr(item, "callspec", None)
    if spec is None:
        return None
    person, backend = spec.params.get("person"), ""
    user = person if isinstance(person, str) and person in {"root", "ordinary"} else None
    case = [_AS_USER.get(piece, piece) for piece in spec._idlist if piece != user]
    for piece in spec._idlist:
        if piece in _AS_USER or piece in _AS_USER.values():
            user = "ordinary" if piece in _AS_USER else "root"
        elif person is not None and piece in _BACKENDS:
            backend = piece
            case.remove(piece)
    return None if user is None else ((backend, user), tuple(case))


def choose(cases: Sequence[AbstractSet[Cell]], seed: str) -> list[set[Cell]]:
    """Choose the cells that each case of a test has in this run, of those that it can have."""
    turns = random.Random(seed)
    backends, users = (sorted({cell[axis] for case in cases for cell in case}) for axis in (0, 1))
    # Each row has all backends; the user changes with the backend, and from row to row.
    order = [
        (backend, users[(number + row) % len(users)])
        for row, (number, backend) in product(range(len(users)), enumerate(backends))
    ]
    count = -(-max(len(users), len(backends)) // len(cases))
    begin, first = turns.randrange(len(users)) * len(backends), turns.randrange(len(cases))
    chosen: list[set[Cell]] = []
    for number, case in enumerate(cases):
        at = begin + (number + first) % len(cases) * count
        cells = {order[(at + more) % len(order)] for more in range(count)} & case
        chosen.append(cells or {turns.choice(sorted(case))})
    return chosen

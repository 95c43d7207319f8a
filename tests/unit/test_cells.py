"""Which users and backends the cases of a test have in one run."""

from __future__ import annotations

from itertools import product

import pytest

from tests.support.cells import choose


@pytest.mark.parametrize("cases", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("backends", [("",), ("fuse",), ("auto", "fuse"), ("auto", "fuse", "overlay")])
@pytest.mark.parametrize("users", [("ordinary",), ("ordinary", "root")])
def test_a_run_has_each_user_and_backend_and_runs_have_all(
    cases: int, backends: tuple[str, ...], users: tuple[str, ...]
) -> None:
    """No case is left out, no user and no backend; what one run leaves out, another one has."""
    cells = set(product(backends, users))
    seen: list[set[tuple[str, str]]] = [set() for _ in range(cases)]
    for seed in range(100):
        chosen = choose([cells] * cases, str(seed))
        assert all(chosen)
        assert {backend for case in chosen for backend, _ in case} == set(backends)
        assert {user for case in chosen for _, user in case} == set(users)
        for before, case in zip(seen, chosen, strict=True):
            before.update(case)
    assert seen == [cells] * cases


def test_a_case_that_cannot_have_its_turn_has_what_it_can() -> None:
    """A backend for root alone, in a test that ordinary users run on others."""
    only = {("overlay", "root")}
    for seed in range(20):
        assert choose([only, {("fuse", "root"), ("fuse", "ordinary")}], str(seed))[0] == only


def test_the_same_seed_chooses_the_same() -> None:
    """In each worker, and in a run that is repeated."""
    cells = set(product(("auto", "fuse"), ("ordinary", "root")))
    assert choose([cells] * 5, "1 name") == choose([cells] * 5, "1 name")

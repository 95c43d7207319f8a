"""Long-lived processes that take turns: a sample of the sequences."""

from __future__ import annotations

import pytest

from tests.support.samples import run_sample
from tests.support.seeds import choose_seed

pytestmark = [pytest.mark.slow, pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"), pytest.mark.timeout(600)]


def _run_sample(seed: int) -> None:
    run_sample("turns", "--seed", str(seed), "--steps", "30")


def test_each_process_finds_what_the_others_did() -> None:
    """After each step, a new process finds exactly the files that the steps made; `AVFS_SEED` repeats a run."""
    _run_sample(choose_seed())


@pytest.mark.ordinary
def test_each_process_of_an_ordinary_user_finds_what_the_others_did() -> None:
    """So it is for ordinary users."""
    _run_sample(choose_seed() + 1)

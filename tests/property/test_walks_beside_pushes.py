"""Random walks of a live tree in which git and avfs act, while others push to its branch: a sample."""

from __future__ import annotations

import pytest

from tests.support.samples import run_sample
from tests.support.seeds import choose_seed

pytestmark = [pytest.mark.slow, pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"), pytest.mark.timeout(600)]


def _run_sample(seed: int, count: int) -> None:
    run_sample("walks", "--seed", str(seed), "--count", str(count), "--steps", "8")


def test_nothing_of_ours_or_theirs_is_lost() -> None:
    """What others push, or take back, stays so; what we do is kept; git and avfs say what there is.

    `AVFS_SEED` repeats a run.
    """
    _run_sample(choose_seed(), 8)


@pytest.mark.ordinary
def test_nothing_of_an_ordinary_users_or_theirs_is_lost() -> None:
    """So it is for ordinary users."""
    _run_sample(choose_seed() + 1, 3)

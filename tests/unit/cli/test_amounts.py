"""Times on a command line."""

from __future__ import annotations

import time

import pytest

from avfs_git.cli.amounts import read_days, read_time
from avfs_git.errors import BadUsage


@pytest.mark.parametrize(
    ("text", "age_s"),
    [
        *(("90s", 90), ("1h", 3600), ("2d", 172_800), ("1w", 604_800), ("1h30m", 5400), ("0s", 0), ("now", 0)),
        *(("1 hour ago", 3600), ("2.days.ago", 172_800), ("3 Weeks", 1_814_400), ("1 day 2 hours ago", 93_600)),
    ],
)
def test_an_age_is_counted_from_now(text: str, age_s: int) -> None:
    """As `find --newer` and `audit --since` take it."""
    before = time.time_ns()
    found = read_time(text)
    assert before <= found + age_s * 10**9 <= time.time_ns()


def test_moments() -> None:
    """Seconds since 1970, and RFC 3339; UTC where no zone is given; what is before 1970 as 1970."""
    noon = 1_769_860_800
    assert read_time("1700000000") == 1_700_000_000 * 10**9
    for text in ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00", "2026-01-31T13:00:00+01:00"):
        assert read_time(text) == noon * 10**9
    assert read_time("2026-01-31") == (noon - 43_200) * 10**9
    assert read_time("999999999w") == 0


@pytest.mark.parametrize(
    "text", ["", " ", "soon", "1x", "-1h", "h", "ago", "1h!", "1hour5", "١h", "2026-02-30", "1 fortnight"]
)
def test_what_is_no_time(text: str) -> None:
    """The refusal says how a time is written."""
    with pytest.raises(BadUsage, match="is no time") as refused:
        read_time(text)
    assert refused.value.hint is not None
    assert "2h" in refused.value.hint


@pytest.mark.parametrize(("text", "days"), [("0", 0), ("7", 7), ("7d", 7), ("2W", 14)])
def test_days(text: str, days: int) -> None:
    """A number alone is of days, too."""
    assert read_days(text) == days


@pytest.mark.parametrize("text", ["", "d", "-1", "7h", "1.5", "1" * 10, "\u0663"])
def test_what_is_no_number_of_days(text: str) -> None:
    """No other unit, no sign, no fraction."""
    with pytest.raises(BadUsage):
        read_days(text)

"""Sizes and times on a command line, such as `10k` and `2h`.

Decided here: how they are written, for every verb alike. Pure functions of a text, and of the clock.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from avfs_git.errors import BadUsage, quote
from avfs_git.patterns import compiled

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_WORDS = {"now": 0, "yesterday": 86_400}
_AGES = compiled(r"(?:[0-9]{1,9}[ .]*(?:s|m|h|d|w|seconds?|minutes?|hours?|days?|weeks?)(?![a-z])[ .]*)+(?:ago)?")
_AGE = compiled(r"([0-9]+)[ .]*([smhdw])")


def read_size(text: str) -> int:
    """Read a size in bytes.

    Raises:
        BadUsage: If the text is no size.
    """
    match = re.fullmatch(r"(\d{1,15})([kmg]?)", text.lower())
    if match is None:
        raise BadUsage(f"'{text}' is no size", hint="Write bytes, or `10k`, `10M` or `1G`.")
    return int(match[1]) * _UNITS[match[2]]


def read_days(text: str) -> int:
    """Read a number of days: `7`, `7d` or `1w`.

    Raises:
        BadUsage: If the text is no number of days.
    """
    match = re.fullmatch(r"([0-9]{1,9})([dw]?)", text.lower())
    if match is None:
        raise BadUsage(f"{quote(text)} is no number of days", hint="Write `7`, `7d` or `1w`.")
    return int(match[1]) * (7 if match[2] == "w" else 1)


def read_time(text: str) -> int:
    """Read a time, in nanoseconds since the epoch.

    It is an age (`90s`, `2h`, `3d`, `1w`; as for git `1 hour ago`, `2.days.ago`, `yesterday`), seconds since the epoch,
    or RFC 3339, also a date alone; without a zone that is UTC.

    Raises:
        BadUsage: If it is none of these.
    """
    word = text.strip().lower()
    if word in _WORDS or _AGES.fullmatch(word):
        age_s = _WORDS.get(word) or sum(int(count) * _SECONDS[unit] for count, unit in _AGE.findall(word))
        return max(0, time.time_ns() - age_s * 10**9)
    if text.isascii() and text.isdigit() and len(text) < 12:
        return int(text) * 10**9
    try:
        moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 10**9
    except (ValueError, OverflowError):
        hint = "Write `90s`, `2h`, `3d`, `1 week ago`, 2026-01-31, 2026-01-31T12:00:00Z, or seconds since 1970."
        raise BadUsage(f"{quote(text)} is no time", hint=hint) from None

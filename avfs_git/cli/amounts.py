"""Sizes on a command line, such as `10k`."""

from __future__ import annotations

import re

from avfs_git.errors import BadUsage

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def read_size(text: str) -> int:
    """Read a size in bytes.

    Raises:
        BadUsage: If the text is no size.
    """
    match = re.fullmatch(r"(\d{1,15})([kmg]?)", text.lower())
    if match is None:
        raise BadUsage(f"'{text}' is no size", hint="Write bytes, or `10k`, `10M` or `1G`.")
    return int(match[1]) * _UNITS[match[2]]

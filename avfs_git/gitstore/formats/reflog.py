"""Git's log of a ref: a line for each move, with its time and what git says of it. Pure functions, from any thread."""

from __future__ import annotations

import os
import re
import time

from avfs_git.paths import Oid, oid_of
from avfs_git.patterns import compiled
from avfs_git.values import NamedTuple

_LINE = compiled(rb"^([0-9a-f]{40}) ([0-9a-f]{40}) [^\n\t]*> (\d+) [+-]\d{4}\t?([^\n]*)$", re.MULTILINE)


class Logged(NamedTuple):
    """A move of a branch, as git's own log has it."""

    old: Oid | None
    new: Oid
    when_s: int
    message: str


def parse_log(data: bytes) -> list[Logged]:
    """Read the lines of a log, the oldest first; pass over damaged ones."""
    found: list[Logged] = []
    for match in _LINE.finditer(data):
        old, new = (oid_of(text) for text in match.group(1, 2))
        found.append(Logged(old if any(old) else None, new, int(match[3]), match[4].decode("utf-8", "replace")))
    return found


def format_move(old: Oid | None, new: Oid, message: str) -> bytes:
    """Write a line for a move that avfs makes now."""
    before = old.hex() if old is not None else "0" * 40
    return os.fsencode(f"{before} {new.hex()} avfs <avfs> {int(time.time())} +0000\t{message}\n")

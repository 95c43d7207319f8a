"""How a vault and a fork are named on a command line and in the environment.

Decided here: what is a name, what is a path, and where a fork begins in `NAME@FORK`. Functions that look at the file
system only.
"""

from __future__ import annotations

import re
from pathlib import Path

from avfs_git.errors import BadUsage, InvalidInput, quote
from avfs_git.host.userhome import expand_user
from avfs_git.patterns import compiled
from avfs_git.values import NamedTuple

_BARE_NAME = compiled(r"([A-Za-z0-9_][A-Za-z0-9_.-]*)(?:@(.*))?", re.ASCII | re.DOTALL)


class Target(NamedTuple):
    """Which vault and which fork; None leaves the choice to the home or the vault."""

    vault: str | Path | None
    fork: str | None


def parse_target(text: str) -> Target:
    """Read `NAME[@FORK]` or a path to a bare repository, also with `@FORK`.

    A path is what holds a slash before the first `@`, or is `.`, `..` or starts with `~`. A directory that exists
    under the whole text wins over the reading with a fork.
    """
    if (match := _BARE_NAME.fullmatch(text)) and text not in {".", ".."}:
        return Target(match[1], match[2] or None)
    whole = expand(text)
    if "@" not in text or whole.is_dir():
        return Target(whole if "/" in text or text in {".", ".."} or text.startswith("~") else text, None)
    parts = text.split("@")
    for count in range(len(parts) - 1, 0, -1):
        directory = expand("@".join(parts[:count]))
        if parts[0] and directory.is_dir():  # nothing before the `@` is no name of the current directory
            return Target(directory, "@".join(parts[count:]) or None)
    return Target(whole if "/" in parts[0] else text, None)


def expand(text: str) -> Path:
    """Read a path in which `~` may stand for a home, as a shell does: of no user, it is a name like any other."""
    try:
        return expand_user(Path(text))
    except (RuntimeError, InvalidInput):
        return Path(text)


def looks_like_path(text: str) -> bool:
    """Whether a name that is no fork's can only mean a directory."""
    return "/" in text or text in {".", ".."} or text.startswith("~")


def read_target(text: str, source: str) -> Target:
    """Read what an option or a variable names.

    Nothing behind the `@` is a `BadUsage`: the default fork is not what was meant.
    """
    target = parse_target(text)
    if text.endswith("@") and target.fork is None and not expand(text).is_dir():
        raise BadUsage(f"{source} names no fork behind the '@' of {quote(text)}", hint="Write NAME or NAME@FORK.")
    return target

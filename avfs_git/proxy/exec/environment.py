"""What a command gets of avfs's own environment.

Decided here: under isolation a list of variables that programs need to find their files, and what the policy adds to
it; else everything but what looks like a secret (`redaction`). What the caller names comes in either way. A command
without a terminal also gets variables by which an editor or a question of git ends at once, instead of at the time
limit. `execute` asks for each command; the values themselves are never read here: the process above the command
inherits them (`host.processes.runner`), and gets the names.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Collection, Sequence

from avfs_git.proxy.policy.redaction import Redactor
from avfs_git.values import NamedTuple

ISOLATED = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_*", "TERM", "TZ", "SHELL")
"""The variables that an isolated command gets."""

_EDITORS = frozenset({"GIT_EDITOR", "VISUAL", "EDITOR"})
_NO_EDITOR = "false 'no terminal for an editor: give a message with -m, or a terminal with avfs exec -t'"
"""A text for a shell, as the variable holds: git shows it when it fails."""


class Inherited(NamedTuple):
    """How avfs's own environment is divided."""

    kept: tuple[bytes, ...]
    """The names that a command gets."""
    left_out: tuple[str, ...]
    """The others, sorted."""


def divide(redactor: Redactor, *, isolate: bool, isolated: Sequence[str] = (), let_in: Sequence[str] = ()) -> Inherited:
    """Decide about each variable of this process.

    An isolated command also gets the variables that match `isolated`; any command gets those in `let_in`.
    """
    patterns = (*ISOLATED, *isolated)
    kept, left_out = [], []
    for key in os.environb:  # names only
        name = os.fsdecode(key)
        is_usual = (
            any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns) if isolate else not redactor.is_secret(name)
        )
        if is_usual or name in let_in:
            kept.append(key)
        else:
            left_out.append(name)
    return Inherited(tuple(kept), tuple(sorted(left_out)))


def without_terminal(named: Collection[str]) -> dict[str, str]:
    """Give the variables that a command without a terminal has beside those in `named`.

    EDITOR is the last that git asks, behind `core.editor`, so that an editor that the user has chosen stays.
    """
    found = {"GIT_TERMINAL_PROMPT": "0"} if "GIT_TERMINAL_PROMPT" not in named else {}
    return found | ({"EDITOR": _NO_EDITOR} if _EDITORS.isdisjoint(named) else {})

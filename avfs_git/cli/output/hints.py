"""Hints that work as they stand: where a command line names a vault or fork, so do the commands that its hints tell.

Decided here: which commands of a hint need which of both. What the environment, the home's default or the directory
named is found again by the next command there, and is not repeated, save for commands that another person runs,
elsewhere. A pure function, called by both outputs.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from avfs_git.errors import AvfsError, MergeInProgress
from avfs_git.patterns import compiled
from avfs_git.values import NamedTuple

_COMMAND = compiled(r"`avfs ((?:--fork \S+ )?[a-z][^`]*)`")
_OF_NO_VAULT = frozenset({"vault", "clone", "sessions", "ps", "schema", "completion"})
_OF_ITS_VAULT = "vault config"
_OF_A_FORK = frozenset(
    {
        *("add", "blame", "checkpoint", "status", "where", "log", "show", "resolve", "checkout", "revert", "proxy"),
        *("exec", "undo", "redo", "merge", "rebase", "cherry-pick", "squash", "diff", "prefetch", "snapshot", "op"),
        *("mcp", "policy", "run", "shell", "watch", "ls", "cat", "grep", "search", "find", "write", "mkdir", "rm"),
        *("cp", "mv", "tree", "stat", "touch", "import", "export", "meta"),
    }
)
_OF_SOMEBODY_ELSE = ("approvals grant",)
_NAME_A_FORK = ("--into", "--fork")


class Named(NamedTuple):
    """The vault and the fork that a command line names; None for what it leaves open."""

    vault: str | None = None
    fork: str | None = None
    opened: str | None = None
    """The vault that the command is about."""


def complete_error(error: AvfsError, named: Named, request: Mapping[str, object]) -> str | None:
    """Complete the hint of an error; a fork in the middle of a merge is named where the command line does not name it.

    In a live tree, and with the variables that name a fork, it need not be named.

    Args:
        error: The error.
        named: What the command line names.
        request: The arguments of the command, and what became known of them: `fork` is the fork of the command.
    """
    implied = named.fork if named.vault is not None else named.fork or request.get("fork")
    if isinstance(error, MergeInProgress) and error.details["fork"] != implied:
        named = named._replace(fork=str(error.details["fork"]))
    return complete(error.hint, named) if error.hint else error.hint


def complete(hint: str, named: Named) -> str:
    """Name the vault and the fork in the commands of a hint, each between backquotes, that need them."""
    if named == Named():
        return hint

    def name_both(match: re.Match[str]) -> str:
        words = match[1]
        verb = words.partition(" ")[0]
        if (verb in _OF_NO_VAULT and not words.startswith(_OF_ITS_VAULT)) or "--help" in words:
            return match[0]
        vault = named.vault if named.vault is not None or not words.startswith(_OF_SOMEBODY_ELSE) else named.opened
        flags = f"--vault {shlex.quote(vault)} " if vault is not None else ""
        if named.fork is not None and verb in _OF_A_FORK and not any(option in words for option in _NAME_A_FORK):
            flags += f"--fork {shlex.quote(named.fork)} "
        return f"`avfs {flags}{words}`" if flags else match[0]

    return _COMMAND.sub(name_both, hint)

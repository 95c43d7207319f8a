"""Hints in the words of the protocol: the tools and arguments that a client has, instead of commands and options.

Decided here: which tool stands for which command of avfs, and which argument for which option. Errors of the library
name commands (`avfs fork list`), which a client cannot type. A command that has no tool, or none in this server, stays:
a person runs it, and the hint says so. A pure function; `answers.fail` calls it.
"""

from __future__ import annotations

from collections.abc import Collection
from itertools import pairwise

from avfs_git.patterns import compiled

TOOLS = {
    "vault list": "vault_list",
    "fork list": "fork_list",
    "fork create": "fork_create",
    "fork delete": "fork_delete",
    "fork rename": "fork_rename",
    "checkpoint list": "checkpoint_list",
    "checkpoint save": "checkpoint",
    "restore": "restore",
    "undo": "undo",
    "redo": "redo",
    "op log": "operations",
    "log": "git_log",
    "status": "git_status",
    "diff": "diff",
    "tree": "directory_tree",
    "grep": "grep",
    "search": "search",
    "exec": "exec",
    "policy check": "policy_check",
    "approvals list": "approvals",
    "merge --continue": "merge_continue",
    "merge --abort": "merge_abort",
    "merge": "merge",
    "resolve": "resolve",
    "push": "push",
}
"""Commands, and the tools that do the same."""

OPTIONS = {
    "--vault": "vault",
    "--fork": "fork",
    "--ff-only": "mode='ff_only'",
    "--on-conflict workspace": "on_conflict='workspace'",
    "--strategy": "strategy",
    "--approve": "approve",
    "--ours": "side='ours'",
    "--theirs": "side='theirs'",
    "--union": "side='union'",
    "--at": "at",
    "-F": "fixed=true",
    "--json": '_meta["avfs/error"]',
}
"""Options, and the arguments that say the same."""

_QUOTED = compiled(r"`(avfs (?:--(?:vault|fork) \S+ )*)?([^`]+)`")
_PERSON = "Commands that begin with `avfs` are for a person, in a terminal."


def in_words_of_tools(hint: str, offered: Collection[str]) -> str:
    """Say a hint so that a client can follow it.

    Args:
        hint: What an error of the library says.
        offered: The names of the tools that the server has.
    """
    left = False

    def translate(avfs: str | None, words: str) -> str:
        nonlocal left
        if avfs is None:
            return _name_option(words)
        command = max((known for known in TOOLS if f"{words} ".startswith(f"{known} ")), key=len, default=None)
        if command is None or TOOLS[command] not in offered:
            left = True
            return f"`{avfs}{words}`"
        return _name_call(TOOLS[command], words.removeprefix(command).split())

    said = _QUOTED.sub(lambda match: translate(match[1], match[2]), hint)
    return f"{said} {_PERSON}" if left and "A person" not in said else said


def _name_call(tool: str, words: list[str]) -> str:
    """Name a tool, with the options of a command that it has as arguments."""
    pairs = pairwise([*words, ""])
    known = [(OPTIONS[word], value) for word, value in pairs if word in OPTIONS]
    given = [name if "=" in name else f"{name}={value!r}" for name, value in known if value or "=" in name]
    return f"`{tool}`" + (f" with {', '.join(given)}" if given else "")


def _name_option(words: str) -> str:
    """Name the argument that an option is; other quoted text stays."""
    if words in OPTIONS:
        return f"`{OPTIONS[words]}`"
    option, _, value = words.partition(" ")
    if option not in OPTIONS or not value:
        return f"`{words}`"
    return f"`{OPTIONS[option]}`" if value.isupper() else f"`{OPTIONS[option]}={value!r}`"

"""Hints in the words of the protocol: the tools and arguments that a client has, instead of commands and options.

Decided here: which tool stands for which command of avfs, and which argument for which option. Errors of the library
name commands (`avfs fork list`), which a client cannot type. A vault or a fork that the call named is named for the
tool, too. A command that has no tool, or none in this server, or that says more than the tool's arguments can, stays: a
person runs it, and the hint says so. It names where the call worked: a person's current vault may be another. A pure
function; `answers` calls it for errors and warnings.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Mapping
from pathlib import Path

from avfs_git.patterns import compiled

TOOLS = {
    "vault list": "vault_list",
    "fork list": "fork_list",
    "fork create": "fork_create",
    "fork delete": "fork_delete",
    "fork rename": "fork_rename",
    "checkpoint list": "checkpoint_list",
    "checkpoint save": "checkpoint",
    "checkpoint restore": "restore",
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
    "--shell": "command",
    "--json": '_meta["avfs/error"]',
}
"""Options, and the arguments that say the same."""

_OPERANDS = {"checkpoint restore": "target"}
"""Commands, and the argument that says the same as the first operand."""

_OF_NO_VAULT = frozenset({"vault", "clone", "sessions"})
_OF_A_FORK = frozenset({"add", "checkpoint", "log", "merge", "op", "redo", "resolve", "shell", "status", "undo"})
"""Commands for a person that work in no vault, and commands that work in a fork."""

_QUOTED = compiled(r"`(avfs (?:--(?:vault|fork) (?:'[^`]*?'|\S)+ )*)?([^`]+)`")
_PLACE = ("vault", "fork")
_PERSON = "Commands that begin with `avfs` are for a person, in a terminal."


def in_words_of_tools(
    hint: str,
    offered: Mapping[str, Collection[str]],
    named: Mapping[str, object],
    meant: tuple[str | Path | None, str | None] = (None, None),
) -> str:
    """Say a hint, or a warning, so that a client can follow it.

    Args:
        hint: What the library says.
        offered: The tools that the server has, each with the names of its arguments.
        named: The arguments of the call.
        meant: The vault and the fork in which the call works; None for what the home chooses.
    """
    place = {name: given for name in _PLACE if isinstance(given := named.get(name), str)}
    left = False

    def translate(avfs: str | None, words: str) -> str:
        nonlocal left
        if avfs is None:
            return _name_option(words)
        command = max((known for known in TOOLS if f"{words} ".startswith(f"{known} ")), key=len, default=None)
        if command is None or TOOLS[command] not in offered:
            left = True
            return f"`{_name_place(avfs, words, *meant)}`"
        tool = TOOLS[command]
        said = _read_words(command, [*shlex.split(avfs), *shlex.split(words.removeprefix(command))])
        if said is None:
            left = True
            return f"`{_name_place(avfs, words, *meant)}`"
        given = {**place, **said}
        taken = {name: value for name, value in given.items() if name not in _PLACE or name in offered[tool]}
        shown = [name if "=" in name else f"{name}={value!r}" for name, value in taken.items()]
        return f"`{tool}`" + (f" with {', '.join(shown)}" if shown else "")

    told = _QUOTED.sub(lambda match: translate(match[1], match[2]), hint)
    return f"{told.rstrip('.')}. {_PERSON}" if left and "A person" not in told else told


def _name_place(avfs: str, words: str, vault: str | Path | None, fork: str | None) -> str:
    """Name the vault and the fork in a command for a person, if it does not name its own."""
    verb = words.partition(" ")[0]
    if avfs != "avfs " or verb in _OF_NO_VAULT:
        return f"{avfs}{words}"
    flags = f"--vault {shlex.quote(os.fspath(vault))} " if vault is not None else ""
    if fork is not None and verb in _OF_A_FORK and "--fork" not in words:
        flags += f"--fork {shlex.quote(fork)} "
    return f"avfs {flags}{words}"


def _read_words(command: str, words: list[str]) -> dict[str, str] | None:
    """Read the options and operands of a command as arguments of its tool; None if the tool has no argument for one.

    What is written in capitals, such as PATH, stands for what the reader chooses.
    """
    found: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        if word in OPTIONS:
            argument = OPTIONS[word]
            found[argument] = "" if "=" in argument else next(rest, "")
        elif word in {"avfs", "--"} or (word.isupper() and word != "HEAD"):
            continue
        elif command in _OPERANDS and not word.startswith("-") and _OPERANDS[command] not in found:
            found[_OPERANDS[command]] = word
        else:
            return None
    return {name: value for name, value in found.items() if value or "=" in name}


def _name_option(words: str) -> str:
    """Name the argument that an option is; other quoted text stays."""
    if words in OPTIONS:
        return f"`{OPTIONS[words]}`"
    option, _, value = words.partition(" ")
    if option not in OPTIONS or not value:
        return f"`{words}`"
    return f"`{OPTIONS[option]}`" if value.isupper() else f"`{OPTIONS[option]}={shlex.split(value)[0]!r}`"

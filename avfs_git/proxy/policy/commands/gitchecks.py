"""What git does with its words that no table can say.

Decided here: which settings, listings and formats of git are harmless: what is not known for that is reported. `checks`
lists these functions, by the names that `programs.txt` gives, and `classify` calls them, each with the command taken
apart. Functions without state.
"""

from __future__ import annotations

import re

from avfs_git.proxy.policy.commands.findings import Call, Findings, Place
from avfs_git.proxy.shell import variables
from avfs_git.proxy.shell.words import Word
from avfs_git.values import replace

_GIT_CONFIG_LOOKS = frozenset({"--get", "--get-all", "--get-regexp", "--get-urlmatch", "-l", "--list", "--get-color"})
_GIT_CONFIG_SCOPES = frozenset(
    """--local --global --system --worktree --show-origin --show-scope --name-only -z --null --type --bool --int
    --path""".split()  # noqa: SIM905 - reads best as one text
)


def shows_config(call: Call) -> bool:
    """`git config --get` and its like."""
    options = {name for option in call.arguments.options for name, _ in option.may_be} | set(call.arguments.unknown)
    operands = call.arguments.operands
    first = operands[0].value if operands else ""
    is_look = bool(options & _GIT_CONFIG_LOOKS) or first in {"get", "list"} or (len(operands) == 1 and first != "edit")
    return is_look and options <= _GIT_CONFIG_LOOKS | _GIT_CONFIG_SCOPES and all(word.exact for word in call.words)


def check_config(c: Findings, call: Call) -> None:
    """`git config` writes outside of the workspace where it is told to."""
    if call.arguments.has("--global", "--system", "-f", "--file") and not shows_config(call):
        c.add("h", "git config changes settings outside of the workspace", call.place)


def check_list(c: Findings, call: Call) -> None:
    """`git branch` and `git tag` list, unless they are given a name without being told to list."""
    listing = (
        "-l",
        "--list",
        "--contains",
        "--no-contains",
        "--merged",
        "--no-merged",
        "--points-at",
        "--with",
        "--without",
    )
    is_contrary = any(given.name.startswith("--no-l") for given in call.arguments.options)
    if call.arguments.operands and (is_contrary or not call.arguments.has(*listing)):
        c.add("w", f"{call.name} makes what it names", call.place)
    check_format(c, call)


def check_format(c: Findings, call: Call) -> None:
    """A format may ask for what git asks gpg."""
    for value in call.arguments.values("--format", "--pretty"):
        if value is not None and (not value.exact or re.search(r"%G|signature", value.value)):
            c.add("w", f"{call.name} may run gpg for its format", call.place)


def check_git(c: Findings, call: Call) -> None:
    """Look at what comes before the subcommand, then at the subcommand."""
    for option in call.arguments.options:
        if option.is_one_of("-c"):
            _git_setting(c, option.value, call.place)
        elif option.is_one_of("--config-env") or (option.is_one_of("--exec-path") and option.value is not None):
            c.unseen(f"git {option.name} changes what git runs", call.place)
    if any(word.value.startswith("ext::") for word in call.words):
        c.unseen("git runs the command of an ext:: address", call.place)
    c.subcommand(call)


def _git_setting(c: Findings, value: Word | None, place: Place) -> None:
    """A setting given with `git -c`."""
    if value is None or not value.exact:
        c.unseen("a setting of git is not known", place)
        return
    key, _, text = value.value.partition("=")
    key = key.lower()
    if key.startswith("alias."):
        c.add("w", "a setting of git makes an alias", place)
        c.text(text[1:] if text.startswith("!") else f"git {text}", place)
    elif key.startswith(variables.GIT_COMMAND_KEYS):
        if key == "core.fsmonitor" and text != "false":
            c.add("w", "git's setting 'core.fsmonitor' starts a program", place)
        if text not in {"", "true", "false", "cat"}:
            c.text(text, replace(place, is_fed=True, stdin=None))
    elif not variables.GIT_HARMLESS_KEYS.fullmatch(key):
        c.unseen(f"git's setting '{key}' may name a command", place)

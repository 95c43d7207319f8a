"""Hints as clients of the Model Context Protocol get them: tools and arguments, not commands and options."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from avfs_git import errors
from avfs_git.mcp.hints import OPTIONS, TOOLS, in_words_of_tools

PERSON = "Commands that begin with `avfs` are for a person, in a terminal."
ALL = {name: ("vault", "fork") if name != "fork_list" else ("vault",) for name in TOOLS.values()}


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        ("See them with `avfs fork list`.", "See them with `fork_list`."),
        (
            "Name one with `--vault NAME`, or choose one with `avfs vault use NAME`.",
            f"Name one with `vault`, or choose one with `avfs vault use NAME`. {PERSON}",
        ),
        ("Work in that one with `--vault shop`.", "Work in that one with `vault='shop'`."),
        ("Take it back with `avfs undo --fork side`.", "Take it back with `undo` with fork='side'."),
        ("Go on with `avfs --vault shop merge --continue`.", "Go on with `merge_continue` with vault='shop'."),
        ("Take `--ours`, `--theirs` or `--from FILE`.", "Take `side='ours'`, `side='theirs'` or `--from FILE`."),
        ("A person grants it with `avfs approvals grant x`.", "A person grants it with `avfs approvals grant x`."),
        ("Run `git rebase --continue` in the tree.", "Run `git rebase --continue` in the tree."),
        ("`cut` of the result names the fields.", "`cut` of the result names the fields."),
        ("For a text, use `avfs grep -F`.", "For a text, use `grep` with fixed=true."),
        (
            "Drop it with `avfs --fork a checkpoint restore HEAD`.",
            "Drop it with `restore` with fork='a', target='HEAD'.",
        ),
        ("Run it with `avfs exec --shell 'ls -l'`.", "Run it with `exec` with command='ls -l'."),
        ("Use `avfs exec -t PROGRAM`.", f"Use `avfs exec -t PROGRAM`. {PERSON}"),
        ("See `avfs fork list --remote`.", f"See `avfs fork list --remote`. {PERSON}"),
        ("A word: `avfs undone`.", f"A word: `avfs undone`. {PERSON}"),
    ],
)
def test_commands_become_tools(hint: str, said: str) -> None:
    """What has a tool is named by it, what has none is for a person, and all other text stays."""
    assert in_words_of_tools(hint, ALL, {}) == said


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        ("See them with `avfs fork list`.", "See them with `fork_list` with vault='shop'."),
        ("Go on with `avfs merge --continue`.", "Go on with `merge_continue` with vault='shop', fork='a&b'."),
        ("Undo it: `avfs undo --fork 'c;d'`.", "Undo it: `undo` with vault='shop', fork='c;d'."),
        ("`avfs --vault 'a b' undo --fork c`.", "`undo` with vault='a b', fork='c'."),
        ("Work in that one with `--fork 'c;d'`.", "Work in that one with `fork='c;d'`."),
    ],
)
def test_a_tool_works_where_the_call_did(hint: str, said: str) -> None:
    """What the call named is named again, unless the hint names another; names are not quoted for a shell."""
    assert in_words_of_tools(hint, ALL, {"vault": "shop", "fork": "a&b", "path": "x"}) == said


def test_no_argument_is_named_that_a_tool_does_not_take() -> None:
    """A server for one fork has neither `vault` nor `fork`."""
    limited = dict.fromkeys(ALL, ())
    assert in_words_of_tools("Run `avfs --vault v undo --fork f`.", limited, {"fork": "f"}) == "Run `undo`."


def test_a_tool_that_the_server_lacks_is_not_named() -> None:
    """A server for one fork has no list of forks: the command stays, for a person."""
    others = {name: taken for name, taken in ALL.items() if name != "fork_list"}
    assert in_words_of_tools("See `avfs fork list`.", others, {}).startswith("See `avfs fork list`. Commands")


def test_every_option_in_a_hint_of_an_error_is_known() -> None:
    """An option that a new hint names gets an argument here, or is one that no tool can lead to."""
    text = Path(errors.__file__).read_text("utf-8")
    elsewhere = {"--yes", "--lazy", "--backend"}

    named = set(re.findall(r"`(--[a-z-]+)", text))

    assert named <= {option.partition(" ")[0] for option in OPTIONS} | elsewhere


@pytest.mark.parametrize(
    ("hint", "said"),
    [
        ("Free it with `avfs checkpoint delete l`.", "`avfs --vault shop --fork 'a&b' checkpoint delete l`"),
        ("See them with `avfs remote list`.", "`avfs --vault shop remote list`"),
        ("Choose one with `avfs vault use NAME`.", "`avfs vault use NAME`"),
        ("`avfs --vault w doctor`", "`avfs --vault w doctor`"),
        ("See `avfs op undo 3 --fork c`.", "`avfs --vault shop op undo 3 --fork c`"),
    ],
)
def test_a_command_for_a_person_names_where_the_call_worked(hint: str, said: str) -> None:
    """Their current vault may be another, and the fork another than its default."""
    assert said in in_words_of_tools(hint, ALL, {}, ("shop", "a&b"))

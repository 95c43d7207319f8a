"""Which commands of avfs itself an agent may run in a live tree without a question.

Decided here: the policy takes avfs for a program that changes the machine, because `avfs exec` runs other programs
where avfs is hidden. An agent that works in a live tree saves and undoes by it. Exempt are commands about the fork of
the current directory, `avfs policy check`, and `avfs exec`, which asks the policy about its own command.
`cli.harness.hook` calls it. A pure function.
"""

from __future__ import annotations

import shlex
from itertools import groupby

from avfs_git.patterns import compiled

_VERBS = frozenset(
    {
        *(
            "status",
            "log",
            "diff",
            "show",
            "checkpoint",
            "snapshot",
            "undo",
            "redo",
            "revert",
            "checkout",
            "add",
            "op",
            "end",
        ),
        *(
            "ls",
            "cat",
            "grep",
            "search",
            "find",
            "tree",
            "stat",
            "overlap",
            "resolve",
            "sessions",
            "schema",
            "exec",
            "fork",
        ),
    }
)
_ELSEWHERE = ("--vault", "--fork", "delete", "--discard", "--stdin")
"""How words begin that mean another fork or a file of the host, or that delete a fork."""
_OPERATORS = frozenset("();<>|&")
_SINGLE_QUOTED = compiled(r"'[^']*'")


def is_own_command(command: str | tuple[str, ...]) -> bool:
    """Tell whether a command is calls of avfs about the current fork, with `&&` between them, and nothing else."""
    words = _split(command) if isinstance(command, str) else list(command)
    if words is None:
        return False
    calls = [list(call) for is_end, call in groupby(words, key=lambda word: word == "&&") if not is_end]
    return bool(calls) and all(map(_is_own_call, calls))


def _is_own_call(words: list[str]) -> bool:
    if words[:3] == ["avfs", "policy", "check"]:  # which runs nothing
        return True
    if len(words) < 2 or words[0] != "avfs" or words[1] not in _VERBS:
        return False
    of_avfs = words[: words.index("--")] if words[1] == "exec" and _ends_options(words) else words
    operands = [word for word in of_avfs[2:] if not word.startswith("-")]
    if words[1] == "fork" and operands and operands[0] not in (".", "create", "list", "show"):
        return False  # the files of another directory come into the fork
    return not any(word.startswith(_ELSEWHERE) for word in of_avfs[2:])


def _ends_options(words: list[str]) -> bool:
    """Tell whether the first `--` of a command ends its options: behind an option it may be that option's value."""
    return "--" in words and not words[words.index("--") - 1].startswith("-")


def _split(text: str) -> list[str] | None:
    """Give the words of a text that is one simple command without expansions; None for any other text."""
    # Where both quotes occur, what is quoted by which is not looked at.
    plain = text if '"' in text or "\\" in text else _SINGLE_QUOTED.sub("", text)
    if any(letter in plain for letter in "$`\n\\{*?["):
        return None
    reader = shlex.shlex(text, posix=True, punctuation_chars=True)
    reader.whitespace_split = True
    reader.commenters = ""
    try:
        words = list(reader)
    except ValueError:  # a quote has no end
        return None
    if any(word.startswith("~") or "=~" in word or ":~" in word for word in words):
        return None
    return None if any(word and word != "&&" and set(word) <= _OPERATORS for word in words) else words

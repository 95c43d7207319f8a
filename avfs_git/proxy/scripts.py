"""What scripts of sed and awk may do beside looking at lines, as far as their text tells.

Decided here: how much of both languages is read. Only `classify` calls this. What is not understood is said to be so, and counts
as a script that may do anything. Pure functions.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from avfs_git.values import record_class


class _Unclear(Exception):
    """Something that is not understood."""


@record_class
class Script:
    """What a script may do."""

    writes: list[str]
    """Files that it writes; empty text for one whose name is not known."""
    reads: list[str]
    commands: list[str]
    """Commands that it gives to a shell; empty text for one that is not known."""
    is_clear: bool = True
    """Whether it was understood to its end."""


class _Part(NamedTuple):
    end: int
    text: str


_SED_PLAIN = "dDgGhHlnNpPqQxzF="
_SED_FLAGS = re.compile(r"(?:[gpiImM]|[0-9]+)*")


def read_sed(text: str) -> Script:
    """Read a script of sed, as GNU's understands it."""
    script = Script([], [], [])
    try:
        _read_sed(text, script)
    except (_Unclear, IndexError):
        script.is_clear = False
    return script


def _read_sed(text: str, script: Script) -> None:
    at = 0
    while at < len(text):
        at = _skip_address(text, at)
        if at >= len(text):
            return
        command = text[at]
        at += 1
        if command == "s":
            part = _delimited(text, _delimited(text, at).end - 1)
            at = part.end
            flags = _SED_FLAGS.match(text, at)
            at = flags.end() if flags else at
            rest = _line(text, at)
            if rest.text.startswith("e"):
                script.commands.append("")
            if rest.text.startswith("w"):
                script.writes.append(rest.text[1:].strip())
            if rest.text.startswith(("e", "w", "M", "m")):
                at = rest.end
        elif command == "y":
            at = _delimited(text, _delimited(text, at).end - 1).end
        elif command in "wW":
            rest = _line(text, at)
            script.writes.append(rest.text.strip())
            at = rest.end
        elif command in "rR":
            rest = _line(text, at)
            script.reads.append(rest.text.strip())
            at = rest.end
        elif command == "e":
            rest = _line(text, at)
            script.commands.append(rest.text.strip())
            at = rest.end
        elif command in "aic":
            at = _text_end(text, at)
        elif command in "#:btTvLqQl":
            at = re.compile(r"[^\n;}]*" if command in "btTqQlL" else r"[^\n]*").match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        elif command not in _SED_PLAIN and command not in "{}":
            raise _Unclear
        at = re.compile(r"[\s;]*").match(text, at).end()  # type: ignore[union-attr]  # the same


def _skip_address(text: str, at: int) -> int:
    """Pass over `1,/x/!` and the like."""
    while at < len(text):
        char = text[at]
        if char in " \t\n;,!~+0123456789$":
            at += 1
        elif char == "/":
            at = _delimited(text, at).end
            at = re.compile(r"[IM]*").match(text, at).end()  # type: ignore[union-attr]  # it matches nothing, too
        elif char == "\\":
            at = _delimited(text, at + 1).end
            at = re.compile(r"[IM]*").match(text, at).end()  # type: ignore[union-attr]  # the same
        else:
            return at
    return at


def _delimited(text: str, at: int) -> _Part:
    """Read from one delimiter to the next."""
    mark = text[at]
    if mark in "\\\n":
        raise _Unclear
    start = at = at + 1
    in_class = False
    while text[at] != mark:  # in brackets, too: GNU's sed ends there
        in_class = in_class or text[at] == "["
        at += 2 if text[at] == "\\" else 1
    if in_class and mark in text[at + 1 : at + 2]:
        raise _Unclear
    return _Part(at + 1, text[start:at])


def _line(text: str, at: int) -> _Part:
    end = text.find("\n", at)
    return _Part(len(text), text[at:]) if end < 0 else _Part(end + 1, text[at:end])


def _text_end(text: str, at: int) -> int:
    """Find the end of the text of `a`, `i` and `c`: a line that does not end in a backslash."""
    while True:
        end = text.find("\n", at)
        if end < 0:
            return len(text)
        if text[end - 1] != "\\":
            return end + 1
        at = end + 1


_AWK_TOKEN = re.compile(
    r'"(?:\\.|[^"\\\n])*"'  # a text
    r"|\#[^\n]*"
    r"|\|\||\|&|>>|>=|&&"
    r"|[A-Za-z_][A-Za-z0-9_]*"
    r"|[0-9.]+|\s+|.",
    re.DOTALL,
)
_AWK_REGEX = re.compile(r"/(?:\\.|\[\^?\]?[^\]\n]*\]|[^/\\\n])*/")


def read_awk(text: str) -> Script:
    """Read a program of awk: its pipes, files and calls of `system`."""
    script = Script([], [], [])
    at, before = 0, ""
    tokens: list[str] = []
    while at < len(text):
        # A slash begins an expression where no value stands before it.
        match = None
        if text[at] == "/" and not re.fullmatch(r"[A-Za-z0-9_$)\]]+|\".*\"", before, re.DOTALL):
            match = _AWK_REGEX.match(text, at)
        match = match or _AWK_TOKEN.match(text, at)
        if match is None:
            script.is_clear = False
            return script
        token = match[0]
        at = match.end()
        if "\n" in token and (token.isspace() or token.startswith("#")):
            tokens.append(";")
        elif not token.isspace() and not token.startswith("#"):
            tokens.append("/" if token.startswith("/") and len(token) > 1 else token)
            before = token
    depth, printing = 0, False
    for number, part in enumerate(tokens):
        depth += (part == "(") - (part == ")")
        if part in {";", "{", "}"}:
            depth, printing = 0, False
        printing = printing or part in {"print", "printf"}
        following = tokens[number + 1] if number + 1 < len(tokens) else ""
        previous = tokens[number - 1] if number else ""
        if part == "system":
            literal = tokens[number + 2] if number + 2 < len(tokens) and following == "(" else ""
            script.commands.append(_literal(literal) if tokens[number + 3 : number + 4] == [")"] else "")
        elif part in {"|", "|&"}:
            is_last = tokens[number + 2 : number + 3] in ([], [";"], ["}"])
            script.commands.append(
                _literal(previous if following == "getline" else following) if following == "getline" or is_last else ""
            )
        elif part in {">", ">>"} and printing and depth <= 0:  # else it compares
            script.writes.append(_literal(following))
        elif part == "<" and previous == "getline":
            script.reads.append(_literal(following))
        elif part.startswith('"/inet'):
            script.commands.append("nc")
        elif part.startswith("@"):
            script.is_clear = False
    return script


def _literal(token: str) -> str:
    """Give what stands in quotes, without escapes; nothing for anything else."""
    return token[1:-1] if token.startswith('"') and len(token) > 1 and "\\" not in token else ""

"""What scripts of sed and awk may do beside looking at lines, as far as their text tells.

Decided here: which scripts are proven to look at lines only. Both readers know what is common and harmless; everything else is
`is_clear=False`, and counts as a program that is not looked into. Only `checks` calls this. Pure functions.
"""

from __future__ import annotations

import re

from avfs_git.patterns import compiled
from avfs_git.values import field, record_class


@record_class
class Script:
    """What a script may do."""

    writes: list[str] = field(default_factory=list)
    """Files that it writes; empty text for one whose name is not known."""
    reads: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    """Commands that it gives to a shell; empty text for an unknown command."""
    is_clear: bool = True
    """Whether all of it was understood."""


# Between delimiters: no other delimiter, not behind a backslash, and no bracket, in which a delimiter would not count for some.
_SED_ADDRESS = r"(?:\d+|\$|/(?:[^/\\\n\[]|\\.|\[\^?[^]/\\\n]+\])*/[IM]*|[+~]\d+)"
_SED_START = compiled(rf"[\s;]*(?:{_SED_ADDRESS}(?:\s*[,~]\s*{_SED_ADDRESS})?)?\s*(?:!\s*)?")
_SED_PLAIN = compiled(
    r"[dDgGhHnNpPxzF=]\s*(?=[;}\n#]|$)|[qQlL]\s*\d*\s*(?=[;}\n#]|$)|[btT]\s*\w*\s*(?=[;}\n#]|$)|:\s*\w+\s*(?=[;\n]|$)"
)
_SED_SUBSTITUTE = compiled(r"[sy]([^\\\n\s\w;])((?:(?!\1)[^\\]|\\.)*)\1((?:(?!\1)[^\\]|\\.)*)\1", re.DOTALL)
_SED_FLAGS = compiled(r"[gpiI\d]*\s*(?=[;}\n#]|$)")
_SED_FILE = compiled(r"([rRwWe])[ \t]*([^\n]*)")
_SED_FLAG_FILE = compiled(r"[gpiIMm\d]*(w|e)[ \t]*([^\n]*)")
_SED_TEXT = compiled(r"[aic](?:\\\n|\s)[^\\\n]*(?=\n|$)")


def read_sed(text: str) -> Script:
    """Read a script of sed, as GNU's understands it."""
    script = Script()
    at = 0
    while True:
        at = _end(_SED_START, text, at)
        if at >= len(text):
            return script
        if text[at] in "{}":
            at += 1
        elif text[at] == "#":
            at = _end(re.compile(r"[^\n]*"), text, at)
        elif (match := _SED_PLAIN.match(text, at)) or (match := _SED_TEXT.match(text, at)):
            at = match.end()
        elif match := _SED_SUBSTITUTE.match(text, at):
            # In brackets a delimiter counts for some, and not for others.
            bracketed = re.search(r"\[[^]]*$", re.sub(r"\\.|\[\^?\]?[^]]*\]", "", match[2], flags=re.DOTALL))
            if bracketed:
                script.is_clear = False
                return script
            at = _sed_flags(text, match.end(), script)
        elif match := _SED_FILE.match(text, at):
            _sed_file(match[1], match[2], script)
            at = match.end()
        else:
            script.is_clear = False
        if not script.is_clear or at < 0:
            return script


def _sed_flags(text: str, at: int, script: Script) -> int:
    if match := _SED_FLAGS.match(text, at):
        return match.end()
    if match := _SED_FLAG_FILE.match(text, at):
        _sed_file("e" if match[1] == "e" else "w", "" if match[1] == "e" else match[2], script)
        return match.end()
    script.is_clear = False
    return at


def _sed_file(command: str, name: str, script: Script) -> None:
    {"r": script.reads, "R": script.reads, "w": script.writes, "W": script.writes, "e": script.commands}[command].append(
        name.strip()
    )


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


_AWK_TOKEN = compiled(
    r'"(?:\\.|[^"\\\n])*"'  # a text
    r"|\#[^\n]*"
    r"|\|\||\|&|>>|>=|<=|&&|=="
    r"|[A-Za-z_][A-Za-z0-9_]*"
    r"|[0-9.]+|\n|[ \t\r]+|.",
    re.DOTALL,
)
_AWK_REGEX = compiled(r"/(?:\\.|\[\^?\]?[^\]\\/\n]*\]|[^/\\\n\[])*/")
_AWK_VALUE = compiled(r"[A-Za-z0-9_$.\]]+|\".*\"", re.DOTALL)
_AWK_KEYWORDS = frozenset("print printf return in case else do exit delete getline while if for".split())  # noqa: SIM905 - reads best as one text


def read_awk(text: str) -> Script:
    """Read a program of awk: its pipes, files and calls of `system`."""
    script = Script()
    tokens = _awk_tokens(text)
    if tokens is None or "@" in text:
        script.is_clear = False
        return script
    is_printing = False
    for at, part in enumerate(tokens):
        following = tokens[at + 1] if at + 1 < len(tokens) else ""
        if part in {";", "{", "}", "\n"}:
            is_printing = False
        elif part in {"print", "printf"}:
            is_printing = True
        elif part == "system":
            is_plain = following == "(" and tokens[at + 3 : at + 4] == [")"]
            script.commands.append(_literal(tokens[at + 2]) if is_plain else "")
        elif part in {"|", "|&"}:
            is_last = tokens[at + 2 : at + 3] in ([], [";"], ["}"], ["\n"])
            given = tokens[at - 1] if following == "getline" and at else following if is_last else ""
            script.commands.append(_literal(given))
        elif part in {">", ">>"} and is_printing:
            script.writes.append(_literal(following))
        elif part == "getline" and following == "<":
            script.reads.append(_literal(tokens[at + 2]) if at + 2 < len(tokens) else "")
        elif part == "getline" and following not in {"", ";", "}", ")"}:
            script.is_clear = False
    if '"/inet' in text:
        script.commands.append("nc")
    return script


def _awk_tokens(text: str) -> list[str] | None:
    """Take a program apart; None where a slash may divide or begin an expression, or something stays open."""
    tokens: list[str] = []
    at = 0
    while at < len(text):
        before = tokens[-1] if tokens else ""
        if text[at] == "/" and not (_AWK_VALUE.fullmatch(before) and before not in _AWK_KEYWORDS):
            match = _AWK_REGEX.match(text, at)
            if match is None or before == ")":
                return None
            tokens.append("//")
        else:
            match = _AWK_TOKEN.match(text, at)
            if match is None or match[0] in {'"', "'", "`"}:
                return None
            if match[0][0] not in " \t\r#":
                tokens.append(match[0])
        at = match.end()
    return tokens


def _literal(text: str) -> str:
    """Give what stands in quotes, without escapes; nothing for anything else."""
    return text[1:-1] if text.startswith('"') and len(text) > 1 and "\\" not in text else ""

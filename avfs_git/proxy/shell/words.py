"""Words of a shell text: what of them is known before they run.

Decided here: how a word is written down while it is put together, and what it comes to in the end. What is quoted in it
is marked, so that patterns and braces count only where bash lets them. `expansion` and `shell` put words together;
`classify` and its helpers know what they mean to a command. Pure functions, safe from any thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from avfs_git.patterns import compiled
from avfs_git.values import value_class

UNKNOWN = "\0"
"""Stands in a word for what is known only when it runs; no word of a program can hold this byte."""
PLAIN = "\1"
"""Stands in a word for a number or a time that is known only when it runs: it holds no slash."""
GLOB = "\2"
"""Stands in a word for what a pattern of file names matches: a part of a name that is there, and may be a link."""
HOME = "/~"
"""Begins a word that begins with another user's home directory."""
AMBIENT = "/$"
"""Begins a word that begins with a variable which the text does not set, so that it is the host's."""
ROOT = "/:"
"""Begins a word that begins with the root of the workspace."""
TEMPORARY = f"/tmp/{PLAIN}"  # noqa: S108 - it is only named
"""What `mktemp` makes; empty if it fails."""
STARTS = (HOME, AMBIENT, ROOT)

_SPECIAL = "*?[]{},~"
_QUOTE = {ord(c): 0xE000 + ord(c) for c in _SPECIAL}
_UNQUOTE = {quoted: plain for plain, quoted in _QUOTE.items()}
RESERVED = compiled("[\ue000-\ue0ff\1\2]")
"""What no text may hold: it stands here for what is quoted."""
_HOME_VALUE = compiled(r"([A-Za-z_][A-Za-z0-9_]*=)~")
_BRACES = compiled(r"\{([^{}]*)\}")


@value_class
class Word:
    """A word of a command."""

    value: str
    """What the program gets, with `UNKNOWN` for what is not known; before patterns of file names are expanded."""
    exact: bool
    """Whether it is exactly one word with exactly this value."""
    text: str
    """As it is written."""
    is_pattern: bool = False
    """Whether it stands for the names of files."""
    splits: bool = False
    """Whether it may come to several words, or none."""


def quoted(text: str) -> str:
    """Mark a text as quoted: nothing in it is a pattern, a list in braces or a home directory."""
    return text.translate(_QUOTE)


def finish(marked: str, text: str, *, splits: bool = False) -> Word:
    """Make a word of what was put together."""
    is_pattern = any(char in marked for char in "*?[")
    # without a slash behind it, hardly a path
    value = re.sub(r"^/\$\w+(?=[^/]*$)", UNKNOWN, marked).translate(_UNQUOTE)
    if home := _HOME_VALUE.match(marked):  # bash expands it there, too
        value = f"{home[1]}{HOME}{value[home.end() :]}"
    is_known = not any(mark in value for mark in (UNKNOWN, PLAIN, GLOB)) and home is None
    exact = is_known and not (is_pattern or value.startswith(STARTS))
    may_split = not exact and (is_pattern or (splits and (UNKNOWN in value or value.startswith(STARTS))))
    return Word(value, exact=exact, text=text, is_pattern=is_pattern, splits=may_split)


def name_part(marked: str) -> str:
    """Make of a pattern of file names what it may come to, as far as that is known."""
    parts = []
    for part in marked.split("/"):
        if not any(char in part for char in "*?["):
            parts.append(part)
        else:  # older shells let `.*` be `..`
            parts.append(UNKNOWN if part.startswith(".") else re.sub(r"[*?\[\]]", GLOB, part))
    return "/".join(parts)


def expand_braces(marked: str) -> Iterable[str]:
    """Expand `{a,b}` where it is not quoted; a list that is too long stays, as something unknown."""
    pending = [marked]
    done: list[str] = []
    while pending:
        word = pending.pop(0)
        match = next((match for match in _BRACES.finditer(word) if "," in match[1]), None)
        if match is None:
            word = re.sub(r"\{\d+\.\.\d+(?:\.\.\d+)?\}", PLAIN, word)
            done.append(_BRACES.sub(lambda match: UNKNOWN if ".." in match[1] else match[0], word))
        elif len(pending) + len(done) > 64:
            return [UNKNOWN]
        else:
            pending[:0] = [word[: match.start()] + part + word[match.end() :] for part in match[1].split(",")]
    return done


_ANSI = compiled(r"\\(x[0-9A-Fa-f]{1,2}|u[0-9A-Fa-f]{1,4}|U[0-9A-Fa-f]{1,8}|[0-7]{1,3}|c.|.)", re.DOTALL)
_ANSI_NAMES = {"a": "\a", "b": "\b", "e": "\x1b", "E": "\x1b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def decode_ansi(text: str) -> str:
    """Read the escapes of `$'…'`; what cannot be a character of a word is unknown.

    What comes back is not marked yet.
    """

    def replace(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] in "xuU" and len(code) > 1:
            number = int(code[1:], 16)
        elif code[0] in "01234567":
            number = int(code, 8) & 0xFF
        elif code[0] == "c" and len(code) > 1:
            number = ord(code[1]) & 0x1F
        else:
            return _ANSI_NAMES.get(code, code)
        return chr(number) if 0 < number < 0x80 else UNKNOWN

    return _ANSI.sub(replace, text)

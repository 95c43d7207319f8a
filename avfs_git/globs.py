"""Globs: what one means, and whether a text or path matches it.

Decided here, and nowhere else: how the wildcards of a glob are matched, for policies as well; and what the globs of
`find` and `grep` mean. Gitignore rules are git's (`gitstore.rules.ignore`). A match takes time in proportion to the
glob times the text, whatever stands in either: a glob may come from a file that a stranger wrote. Pure functions; a
`Glob` may be used from several threads.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from enum import Enum, auto
from itertools import groupby

from avfs_git.errors import InvalidInput, quote
from avfs_git.paths import climb
from avfs_git.patterns import compiled


class Gap(Enum):
    """What stands for text of any length in a glob."""

    TEXT = auto()
    """Any text."""
    NAME = auto()
    """Any text without a slash."""
    DIRECTORIES = auto()
    """Any text that ends in a slash, or none."""
    BELOW = auto()
    """Any text that begins with a slash, or none."""


class Glob:
    """Gaps, and between them pieces of a fixed length."""

    def __init__(self, parts: Iterable[str | Gap], *, ignore_case: bool = False) -> None:
        """Make it of gaps and of regular expressions for one character each."""
        flags = re.DOTALL | (re.IGNORECASE if ignore_case else 0)
        self._parts: list[Gap | tuple[re.Pattern[str], int]] = []
        for is_gap, group in groupby(parts, lambda part: isinstance(part, Gap)):
            if is_gap:
                self._parts += [part for part in group if isinstance(part, Gap)]
            else:
                piece = [part for part in group if isinstance(part, str)]
                self._parts.append((re.compile(f"(?={''.join(piece)})", flags), len(piece)))

    def matches(self, text: str) -> bool:
        """Tell whether all of a text matches.

        All places that the glob can have got to are followed at once: one bit each, the lowest for the start of the
        text. So no place is tried twice, and each gap is a few operations on one number.
        """
        size = len(text)
        every = (2 << size) - 1
        slashes: int | None = None
        reached = 1
        for part in self._parts:
            if isinstance(part, tuple):
                piece, length = part
                reached = (reached & _mark(piece.finditer(text), size)) << length
            elif part is Gap.TEXT:
                reached = every & -(reached & -reached)
            else:
                if slashes is None:
                    slashes = _mark(_SLASH.finditer(text), size)
                if part is Gap.DIRECTORIES:
                    reached |= slashes << 1 & -(reached & -reached) << 1
                elif part is Gap.BELOW:
                    at = reached & slashes
                    reached |= every & -(at & -at) << 1
                else:  # adding a bit to a run of ones carries to the end of the run, here the next slash
                    names = every >> 1 & ~slashes
                    reached |= ((reached & names) + names) ^ names
            if not reached:
                return False
        return bool(reached >> size & 1)


_SLASH = compiled("/")


def _mark(found: Iterable[re.Match[str]], size: int) -> int:
    """Set a bit for the start of each match."""
    marks = bytearray((size >> 3) + 1)
    for match in found:
        at = match.start()
        marks[at >> 3] |= 1 << (at & 7)
    return int.from_bytes(marks, "little")


# --- globs of paths --------------------------------------------------------------------------------------

_PART = compiled(r"\*\*/|/\*\*\Z|\*+|\?|\[([!^]?)(\]?(?:\[:\w+:\]|[^\]\\]|\\.)*)\]|\\(.)|(.)", re.DOTALL)
_CLOSED = compiled(rb"(?:[^\[\\]|\\.|\[[!^]?\]?(?:\[:\w+:\]|(?!\[:\w+:\])[^\]\\]|\\.)*\])*", re.DOTALL)
"""One way to take each character, so that nothing is tried twice.

Python before 3.11.5 mistakes possessive repetitions.
"""
_MEMBER = compiled(r"\[:(\w+):\]|(\\.|.)(?:-(\\.|.))?", re.DOTALL)
_CLASSES = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "blank": r" \t",
    "cntrl": r"\x00-\x1f\x7f",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": r"!-/:-@\[-`{-~",
    "space": r" \t\r\n",
    "upper": "A-Z",
    "xdigit": "0-9A-Fa-f",
}
"""Git's own, which do not depend on the locale."""
_ANY_OF_NAME = "[^/]"


def check_glob(glob: bytes) -> None:
    """Check a glob of names or paths.

    Raises:
        InvalidInput: If it cannot mean anything.
    """
    if not glob.strip(b"/") or b"\0" in glob:
        raise InvalidInput("a glob is empty or holds a NUL byte", hint="Write '*.py' for all Python files.")
    if _CLOSED.fullmatch(glob) is None:
        raise InvalidInput(
            f"the glob {quote(glob)} has a '[' without its ']', or ends in a backslash", hint="Write '[[]' for a '['."
        )


class PathGlobs:
    """Globs, each of them about the name of a file or directory or, with a slash in it, about the whole path."""

    def __init__(self, globs: Iterable[bytes], *, ignore_case: bool = False) -> None:
        self._of_names: list[Glob] = []
        self._of_paths: list[Glob] = []
        for glob in globs:
            kind = self._of_paths if is_of_path(glob) else self._of_names
            kind.append(Glob(read_glob(glob), ignore_case=ignore_case))

    def match(self, path: bytes) -> bool:
        """Tell whether a path matches one of them."""
        text = os.fsdecode(path)
        name = text.rpartition("/")[2]
        return any(each.matches(name) for each in self._of_names) or any(each.matches(text) for each in self._of_paths)

    def match_above(self, path: bytes) -> bool:
        """Tell whether a path, or a directory that it is in, matches one of them."""
        return any(map(self.match, climb(path)))


def is_of_path(glob: bytes) -> bool:
    """Tell whether a glob is about whole paths; one with no slash but at its end is about names."""
    return b"/" in glob.rstrip(b"/")


def read_glob(glob: bytes) -> list[str | Gap]:
    """Take a glob of names or paths apart: into gaps, and regular expressions for one character each."""
    text = os.fsdecode(glob.strip(b"/") if is_of_path(glob) else glob.rstrip(b"/"))
    return [part for found in _PART.finditer(text) for part in _read_part(found)]


def _read_part(part: re.Match[str]) -> Sequence[str | Gap]:
    text = part[0]
    if text == "**/":
        return (Gap.DIRECTORIES,)
    if text == "/**":
        return ("/", Gap.TEXT)
    if text.startswith("*"):
        return (Gap.NAME,)
    if text == "?":
        return (_ANY_OF_NAME,)
    literal = part[3] or part[4]
    return (re.escape(literal) if literal is not None else _read_bracket(part[2], is_inverted=bool(part[1])),)


def _read_bracket(inner: str, *, is_inverted: bool) -> str:
    members = "".join(map(_read_member, _MEMBER.finditer(inner)))
    if not members:  # as of a range from its end to its start
        return _ANY_OF_NAME if is_inverted else r"[^\s\S]"
    return f"(?!/)[{'^' if is_inverted else ''}{members}]"


def _read_member(member: re.Match[str]) -> str:
    if member[1] is not None:
        return _CLASSES.get(member[1], "")
    first, last = (each[-1] if each is not None else None for each in member.group(2, 3))
    if first is None or last is None:
        return re.escape(first or "")
    return f"{re.escape(first)}-{re.escape(last)}" if first <= last else ""


def spell_for_git(glob: bytes) -> tuple[bytes, bool]:
    """Spell a glob as a pathspec of git with the magic `glob`, and tell whether it matches what the glob does.

    Else it matches more: git compares bytes where a glob means characters.
    """
    spelled, is_exact = [b""], True
    for part in ([] if is_of_path(glob) else [Gap.DIRECTORIES]) + read_glob(glob):
        if part is Gap.DIRECTORIES or part is Gap.TEXT:
            if spelled[-1] not in (b"", b"/", b"**/"):
                return b"**", False  # no pathspec has these
            spelled.append(b"**/" if part is Gap.DIRECTORIES else b"**")
        elif isinstance(part, str) and (literal := _LITERAL.fullmatch(part)) is not None:
            spelled.append(quote_for_git(os.fsencode(literal[1])))
        else:
            is_exact = is_exact and part is Gap.NAME
            spelled += [b"*"] if spelled[-1] != b"*" else []
    return b"".join(spelled), is_exact


_LITERAL = compiled(r"\\?(.)", re.DOTALL)
_SPECIAL = compiled(rb"[*?\[\\]")


def quote_for_git(path: bytes) -> bytes:
    """Spell a path for use in a pathspec of git with the magic `glob`."""
    return _SPECIAL.sub(rb"\\\g<0>", path)

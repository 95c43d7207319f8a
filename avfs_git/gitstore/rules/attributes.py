"""Attributes of paths, as `.gitattributes` files in a tree give them (gitattributes(5)).

Decided here: how a line is read, which of several wins, and what macros stand for, all as git has it. Files come from
one tree and, above them all, from the repository's own `info/attributes`; a user's and the system's are not asked. An
attribute may name a program, but neither this module nor its callers start one. A `TreeAttributes` keeps what it read
of one tree and belongs to one thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from avfs_git.errors import NotAVault
from avfs_git.gitstore.formats.quoting import split_quoted
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_FILE, find_entry
from avfs_git.gitstore.repofile import read_plain_file
from avfs_git.gitstore.rules.ignore import BOM, IgnoreRules
from avfs_git.gitstore.source import ObjectSource
from avfs_git.paths import ROOT, Oid, TreePath, climb, join, split
from avfs_git.values import NamedTuple

Value = bytes | bool | None
"""What an attribute has: a text, or that it is set or unset; None if nothing is said of it."""

ATTRIBUTES_NAME = b".gitattributes"
FILE_MAX_BYTES = 1 << 20
"""What is larger is not read; git reads up to a hundred times as much."""
_MAX_LINE = 2048
_BLANK = b" \t\r\n"
_NAME = re.compile(rb"[A-Za-z0-9_.][-A-Za-z0-9_.]*")
_MACRO = b"[attr]"
_BUILT_IN = b"[attr]binary -diff -merge -text\n"


class _Line(NamedTuple):
    """A rule, or the definition of a macro."""

    rules: IgnoreRules | None
    macro: bytes | None
    values: tuple[tuple[bytes, Value], ...]


def read_info_attributes(git_dir: Path) -> bytes:
    """Read a repository's own attributes; empty if it has none that can be read."""
    try:
        content = read_plain_file(git_dir / "info" / "attributes", limit=FILE_MAX_BYTES + 1)
    except (OSError, NotAVault):
        return b""
    return content if len(content) <= FILE_MAX_BYTES else b""


class TreeAttributes:
    """The attributes that files of a tree have."""

    def __init__(self, source: ObjectSource, tree: Oid | None, more: bytes = b"") -> None:
        """Read nothing yet. `more` is the content of `info/attributes`, which has the last word."""
        self._source = source
        self._tree = tree
        self._more = tuple(_parse(more, ROOT, is_top=True))
        self._lines: dict[TreePath, Sequence[_Line]] = {}
        self._files: dict[TreePath, Sequence[Sequence[_Line]]] = {}
        """What counts in a directory: the rules of each file above it, the nearest first."""
        self._macros: dict[bytes, tuple[tuple[bytes, Value], ...]] | None = None

    def find(self, path: TreePath, names: Sequence[bytes]) -> dict[bytes, Value]:
        """Tell what a file has of some attributes."""
        directory, name = split(path)
        files = self._files.get(directory)
        if files is None:
            lists = [self._more, *map(self._read, [*climb(directory), ROOT])]
            files = self._files[directory] = [lines for lines in lists if lines]
        if not files:
            return dict.fromkeys(names)
        found: dict[bytes, Value] = {}
        for lines in files:
            for line in reversed(lines):
                if line.rules is not None and line.rules.decide(path, name, is_dir=False):
                    self._fill(found, line.values)
        return {wanted: found.get(wanted) for wanted in names}

    def _fill(self, found: dict[bytes, Value], values: Sequence[tuple[bytes, Value]]) -> None:
        """Take values of attributes that are not decided yet; a macro brings its own."""
        pending = list(values)
        while pending:  # a macro may stand for another one, thousands deep
            name, value = pending.pop()
            if name not in found:
                found[name] = value
                if value is True:
                    pending += self._known_macros().get(name, ())

    def _known_macros(self) -> dict[bytes, tuple[tuple[bytes, Value], ...]]:
        if self._macros is None:
            built_in = tuple(_parse(_BUILT_IN, ROOT, is_top=True))
            lines = [*built_in, *self._read(ROOT), *self._more]  # the last definition counts
            self._macros = {line.macro: line.values for line in lines if line.macro is not None}
        return self._macros

    def _read(self, directory: TreePath) -> Sequence[_Line]:
        lines = self._lines.get(directory)
        if lines is None:
            lines = self._lines[directory] = tuple(
                _parse(self.read_file(directory), directory, is_top=directory == ROOT)
            )
        return lines

    def read_file(self, directory: TreePath) -> bytes:
        """Read the file in a directory; empty without a file that counts."""
        entry = (
            find_entry(self._source, self._tree, join(directory, ATTRIBUTES_NAME)) if self._tree is not None else None
        )
        # A link is not followed, as git does not.
        if (
            entry is not None
            and entry[0] in (MODE_FILE, MODE_EXEC)
            and self._source.blob_size(entry[1]) <= FILE_MAX_BYTES
        ):
            return self._source.read_blob(entry[1])
        return b""


def _parse(content: bytes, directory: TreePath, *, is_top: bool) -> Iterator[_Line]:
    for raw in content.removeprefix(BOM).split(b"\n"):
        line = raw.partition(b"\0")[0].lstrip(_BLANK)
        if not line or line.startswith(b"#") or len(raw) >= _MAX_LINE:
            continue
        pattern, rest = split_quoted(line) or _first_word(line)
        values = _parse_values(rest)
        if values is None:
            continue
        if pattern.startswith(_MACRO) and len(pattern) > len(_MACRO):
            name = _first_word(pattern[len(_MACRO) :].lstrip(_BLANK))[0]
            if is_top and _NAME.fullmatch(name):
                yield _Line(None, name, values)
        # git knows none that take back, and rules none of many lines
        elif not pattern.startswith(b"!") and b"\n" not in pattern:
            yield _Line(IgnoreRules.parse(_as_rule(pattern), directory), None, values)


def _as_rule(pattern: bytes) -> bytes:
    """Spell a pattern so that a file of ignore rules has it as one rule."""
    trimmed = pattern.rstrip(b" ")
    protected = trimmed + b"\\ " * (len(pattern) - len(trimmed))
    return b"\\" + protected if protected.startswith(b"#") else protected


def _first_word(text: bytes) -> tuple[bytes, bytes]:
    end = next((at for at, byte in enumerate(text) if byte in _BLANK), len(text))
    return text[:end], text[end:]


def _parse_values(text: bytes) -> tuple[tuple[bytes, Value], ...] | None:
    """Read what a line gives; None if one of its words is no attribute, for which git leaves the line out."""
    values: list[tuple[bytes, Value]] = []
    for word in text.split():
        name, equals, value = word.partition(b"=")
        mark = name[:1] if name[:1] in (b"-", b"!") else b""
        name = name[len(mark) :]
        if not _NAME.fullmatch(name):
            return None
        values.append((name, (False if mark == b"-" else None) if mark else value if equals else True))
    return tuple(values)

"""Names that git puts between quotes because of their bytes (`quote.c`).

Decided here: how avfs reads such a name. A text that git would not have quoted so is no quoted name: git takes it as it
stands, and so do the callers, which read `.gitattributes`, lists of alternates, and what `git blame` says.
"""

from __future__ import annotations

from avfs_git.patterns import compiled

_QUOTED = compiled(rb'"((?:[^"\\]|\\(?:[abfnrtv"\\]|[0-3][0-7]{2}))*)"')
_ESCAPED = compiled(rb"\\(?:([0-7]{3})|(.))")
_LETTERS = dict(zip(b'abfnrtv"\\', b'\a\b\f\n\r\t\v"\\', strict=True))


def split_quoted(line: bytes) -> tuple[bytes, bytes] | None:
    """Read the quoted name that a line begins with: the name and the rest; None if it begins with none."""
    found = _QUOTED.match(line)
    if found is None:
        return None
    name = _ESCAPED.sub(lambda each: bytes((int(each[1], 8) if each[1] else _LETTERS[each[2][0]],)), found[1])
    return name, line[found.end() :]


def unquote(name: bytes) -> bytes:
    """Read a name that may be quoted; anything else stands as it is."""
    found = split_quoted(name)
    return found[0] if found is not None and not found[1] else name

"""How names and text from outside are shown on one line, without letting them steer a terminal.

Pure functions, called by the text output and its views. The quoting of names is git's own with `core.quotePath`
off, so that lines can be compared with git's; marks of direction are escaped, too, as they are with it on.
"""

from __future__ import annotations

from avfs_git.patterns import compiled

_ESCAPES = {
    0x07: "\\a",
    0x08: "\\b",
    0x09: "\\t",
    0x0A: "\\n",
    0x0B: "\\v",
    0x0C: "\\f",
    0x0D: "\\r",
    0x22: '\\"',
    0x5C: "\\\\",
}
_PLAIN = compiled(rb"[^\x00-\x1f\x7f\"\\\x80-\xff]*")
_MANY_LINES = 4
_SPACES = compiled(r" {16,}")
_TURNS = "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069"
"""Marks of direction and separators of lines, by which a terminal shows a text in another order than it has."""
_CONTROLS = compiled(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f{_TURNS}]")


def quote_path(path: bytes) -> str:
    """Show a path in one line; the root is `/`. What is not printable is escaped, then in double quotes."""
    if _PLAIN.fullmatch(path):
        return path.decode("ascii") or "/"
    shown = []
    quoted = False
    for char in path.decode("utf-8", "surrogateescape"):
        code = ord(char)
        if code in _ESCAPES:
            shown.append(_ESCAPES[code])
            quoted = True
        elif 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8
            shown.append(f"\\{code - 0xDC00:03o}")
            quoted = True
        elif _CONTROLS.match(char):
            shown.extend(f"\\{byte:03o}" for byte in char.encode())
            quoted = True
        else:
            shown.append(char)
    text = "".join(shown)
    return f'"{text}"' if quoted else text


def reveal(text: str) -> list[str]:
    """Show all of a text, a list of lines, such that nothing in it is invisible or pushes something out of sight.

    What is not printable (controls, marks of direction, line separators) stands in angle brackets, and so do long runs
    of spaces and of empty lines.
    """
    shown: list[str] = []
    empty = 0
    for line in [*text.split("\n"), None]:
        if line is not None and not line.strip():
            empty += 1
            continue
        shown += [""] * empty if empty < _MANY_LINES else [f"<{empty} empty lines>"]
        empty = 0
        if line is not None:
            visible = "".join(char if char.isprintable() else f"<{ord(char):02x}>" for char in line)
            shown.append(_SPACES.sub(lambda found: f"<{len(found[0])} spaces>", visible))
    return shown


def defuse(text: str) -> str:
    """Make the control characters and the marks of direction in a text visible, save line feeds and tabs."""
    return _CONTROLS.sub(lambda match: ascii(match[0])[1:-1], text)

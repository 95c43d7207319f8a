"""Reading a repository's `config` file without running git.

Decided here: how much of git's configuration syntax is understood: sections, keys and values, as the file
itself says them. Includes are not followed, and nothing is looked up elsewhere. Called by `repository` to see
what kind of repository something is; never to obey what a foreign configuration says.
"""

from __future__ import annotations

import re

from avfs_git.patterns import compiled

_SECTION = compiled(rb'\s*\[\s*([A-Za-z0-9.-]+)\s*(?:"((?:[^"\\\n]|\\.)*)")?\s*\]')
_KEY = compiled(rb"\s*([A-Za-z][A-Za-z0-9-]*)[ \t]*(=)?")
_ESCAPES = {ord("n"): b"\n", ord("t"): b"\t", ord("b"): b"\b", ord('"'): b'"', ord("\\"): b"\\"}


def parse_config(data: bytes) -> dict[str, list[str]]:
    """Read a configuration file: the values of each `section.key` or `section.subsection.key`, in order.

    Sections and keys come in lower case, subsections as they are. A key without `=` has the value `true`.
    What makes no sense is skipped to the end of its line.
    """
    values: dict[str, list[str]] = {}
    section = ""
    text = data.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\\\n", b"\0")  # NUL: the line goes on
    for line in text.split(b"\n"):
        rest = line
        match = _SECTION.match(rest)
        if match is not None:
            section = _text(match[1]).lower()
            if match[2] is not None:
                section += "." + _text(re.sub(rb"\\(.)", rb"\1", match[2]))
            rest = rest[match.end() :]
        match = _KEY.match(rest)
        if match is not None and section:
            value = _parse_value(rest[match.end() :]) if match[2] else "true"
            values.setdefault(f"{section}.{_text(match[1]).lower()}", []).append(value)
    return values


def _parse_value(data: bytes) -> str:
    """Read a value: quotes taken off, escapes resolved, the comment and the blanks around it left out."""
    value = bytearray()
    keep = 0  # up to here blanks count
    quoted = False
    position = 0
    while position < len(data):
        byte = data[position]
        position += 1
        if byte == 0:
            continue
        if byte == ord('"'):
            quoted = not quoted
        elif byte == ord("\\"):
            value += _ESCAPES.get(data[position], b"") if position < len(data) else b""
            position += 1
        elif not quoted and byte in b"#;":
            break
        elif not quoted and byte in b" \t":
            if value:
                value.append(byte)
            continue
        else:
            value.append(byte)
        keep = len(value)
    return _text(bytes(value[:keep]))


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def is_true(value: str) -> bool:
    """Tell whether git takes a value for true."""
    return value.lower() in {"true", "yes", "on"} or (value.isdigit() and int(value) != 0)

"""Editing JSON as text: one object member or array element is added or removed, and every other character stays.

Decided here: comments (`//`, `/* */`) and commas before a closing bracket are understood, as the editors' own files
have them; a new member takes the layout of its neighbours. What avfs put into a file, it takes out again to
the character, with containers that were made for it. A container that was there empty before is told from those by a
space at the end of the line on which it begins; a formatter takes that away, and then an empty container goes, too.
Pure functions; `cli.harness.edits` calls them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from avfs_git.errors import InvalidInput
from avfs_git.values import NamedTuple

_SPACE = re.compile(r"(?:\s|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_SCALAR = re.compile(r"-?[0-9][0-9.eE+-]*|true|false|null")
_DEEPEST = 100
_WAS_EMPTY = " \n"
"""Stands before the first part of a container that was there empty."""


class Unreadable(InvalidInput):
    """A text is not JSON."""

    def __init__(self, text: str, at: int, what: str) -> None:
        self.line = text.count("\n", 0, at) + 1
        super().__init__(f"line {self.line} is not JSON: {what}")


class Part(NamedTuple):
    """A member of an object, or an element of an array, without a key."""

    key: str
    start: int
    """Of the key, or of the element."""
    node: Node


class Node(NamedTuple):
    """A value and where it is in the text."""

    start: int
    end: int
    value: object
    parts: tuple[Part, ...] = ()


def parse(text: str) -> Node:
    """Read a document.

    Raises:
        Unreadable: If the text is not JSON.
    """
    node = _read(text, _skip(text, 0), 0)
    if (rest := _skip(text, node.end)) < len(text):
        raise Unreadable(text, rest, "something stands behind the end")
    return node


def get(text: str, path: Sequence[str]) -> object:
    """Give the value at a path; None where nothing is."""
    node, missing = _descend(text, path)
    return None if missing else node.value


def put(text: str | None, path: Sequence[str], value: object) -> str:
    """Add a member to an object, unless it has one of that name.

    Make missing objects above it, and a missing document.
    """
    if text is None:
        for name in reversed(path):
            value = {name: value}
        return _spell(value, "", "  ") + "\n"
    node, missing = _descend(text, path[:-1])
    key = (*missing, path[-1])[0]
    for name in reversed([*missing[1:], path[-1]] if missing else []):
        value = {name: value}
    return text if _find(node, key) is not None else _insert(text, node, value, key=key)


def append(text: str | None, path: Sequence[str], value: object) -> str:
    """Add an element to the array at a path, unless it has it; make a missing array, and a missing document."""
    if text is None:
        return put(None, path, [value])
    node, missing = _descend(text, path)
    if missing:
        return put(text, path, [value])
    _require(text, node, list)
    return text if any(part.node.value == value for part in node.parts) else _insert(text, node, value)


def drop(text: str, path: Sequence[str], value: object = None) -> str | None:
    """Take out a member or, with `value`, an equal element of the array there, and each container that was made for it.

    Return None where the document was made for it, and nothing else is left.
    """
    above = path if value is not None else path[:-1]
    node, missing = _descend(text, above)
    if missing:
        return text
    wanted = [part.node.value == value if value is not None else part.key == path[-1] for part in node.parts]
    if True not in wanted:
        return text
    at = wanted.index(True)
    part = node.parts[at]
    if len(node.parts) == 1:
        return _drop_only(text, node, above)
    if at == 0:  # up to the next one
        following = node.parts[1].start
        return text[: part.start] + _between(text, part, following).lstrip() + text[following:]
    # From the end of the one before: that is where it was put in.
    return text[: node.parts[at - 1].node.end] + text[part.node.end :]


def _drop_only(text: str, node: Node, path: Sequence[str]) -> str | None:
    """Take out the only part of the container at a path."""
    [part] = node.parts
    before, behind = text[node.start + 1 : part.start], _between(text, part, node.end - 1).rstrip()
    inner, mark, indent = before.rpartition(_WAS_EMPTY)
    if mark and not indent.strip() and not behind:
        return text[: node.start + 1] + inner + text[node.end - 1 :]
    comment = "\n".join(filter(None, (before.rstrip(), behind)))
    if path and not comment:
        return drop(text, path)
    if not comment and not text[: node.start].strip() and not text[node.end :].strip():
        return None
    end = f"{comment}\n{_indent_at(text, node.start)}" if comment else ""
    return text[: node.start + 1] + end + text[node.end - 1 :]


def _between(text: str, part: Part, end: int) -> str:
    """Give what stands behind a part and its comma, up to a place: white space and comments."""
    comma = _skip(text, part.node.end)
    return text[part.node.end : comma] + text[comma + (text[comma] == ",") : end]


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found is not None else at


def _read(text: str, at: int, depth: int) -> Node:
    if depth > _DEEPEST:
        raise Unreadable(text, at, "it is nested too deeply")
    first = text[at : at + 1]
    if first in ("{", "["):
        return _read_container(text, at, depth)
    if first == '"':
        value, end = _read_string(text, at)
        return Node(at, end, value)
    found = _SCALAR.match(text, at)
    if found is None:
        raise Unreadable(text, at, "a value is missing" if first in ("", ",", "]", "}") else f"it has {first!r}")
    try:
        return Node(at, found.end(), json.loads(found[0]))
    except ValueError as error:
        raise Unreadable(text, at, f"{found[0]} is no number") from error


def _read_string(text: str, at: int) -> tuple[str, int]:
    try:
        value, end = json.JSONDecoder().raw_decode(text, at)
    except ValueError as error:
        raise Unreadable(text, at, "a text does not end, or holds what it may not") from error
    return str(value), end


def _read_container(text: str, at: int, depth: int) -> Node:
    is_object = text[at] == "{"
    closing = "}" if is_object else "]"
    parts: list[Part] = []
    here = _skip(text, at + 1)
    while text[here : here + 1] != closing:
        key, start = "", here
        if is_object:
            if text[here : here + 1] != '"':
                raise Unreadable(
                    text, here, "a name in quotes is missing" if here < len(text) else f"{closing} is missing"
                )
            key, here = _read_string(text, here)
            here = _skip(text, here)
            if text[here : here + 1] != ":":
                raise Unreadable(text, here, f"a colon is missing behind {key!r}")
            here = _skip(text, here + 1)
        node = _read(text, here, depth + 1)
        parts.append(Part(key, start, node))
        here = _skip(text, node.end)
        if text[here : here + 1] == ",":
            here = _skip(text, here + 1)
        elif text[here : here + 1] != closing:
            raise Unreadable(text, here, f"a comma or {closing} is missing")
    value: object = {part.key: part.node.value for part in parts} if is_object else [part.node.value for part in parts]
    return Node(at, here + 1, value, tuple(parts))


def _find(node: Node, key: str) -> Part | None:
    return next((part for part in reversed(node.parts) if part.key == key), None)  # of several, programs take the last


def _descend(text: str, path: Sequence[str]) -> tuple[Node, tuple[str, ...]]:
    """Follow a path; give the last node that is there, and the names that are missing below it."""
    node = parse(text)
    for depth, key in enumerate(path):
        _require(text, node, dict)
        found = _find(node, key)
        if found is None:
            return node, tuple(path[depth:])
        node = found.node
    return node, ()


def _require(text: str, node: Node, kind: type) -> None:
    if not isinstance(node.value, kind):
        raise Unreadable(text, node.start, f"{'an object' if kind is dict else 'a list'} is needed there")


def _insert(text: str, node: Node, value: object, *, key: str | None = None) -> str:
    """Put a part at the end of a container."""
    if key is not None:
        _require(text, node, dict)
    name = "" if key is None else f"{json.dumps(key, ensure_ascii=False)}: "
    unit = _unit(text)
    if not node.parts:
        outer = _indent_at(text, node.start)
        inner = text[node.start + 1 : node.end - 1]
        body = f"{_WAS_EMPTY}{outer}{unit}{name}{_spell(value, outer + unit, unit)}\n{outer}"
        return text[: node.start + 1] + inner + body + text[node.end - 1 :]
    last = node.parts[-1]
    if "\n" not in text[node.start : node.parts[0].start]:  # on one line
        spelled = json.dumps(value, ensure_ascii=False)
        return f"{text[: last.node.end]}, {name}{spelled}{text[last.node.end :]}"
    indent = _indent_at(text, last.start)
    return f"{text[: last.node.end]},\n{indent}{name}{_spell(value, indent, unit)}{text[last.node.end :]}"


def _indent_at(text: str, at: int) -> str:
    """Give the white space at the beginning of a line."""
    line = text[text.rfind("\n", 0, at) + 1 : at]
    return line[: len(line) - len(line.lstrip())]


def _unit(text: str) -> str:
    """Tell by how much a document indents: as its first line that does."""
    found = re.search(r"\n([ \t]+)\S", text)
    return found[1] if found is not None else "  "


def _spell(value: object, indent: str, unit: str) -> str:
    return json.dumps(value, indent=unit, ensure_ascii=False).replace("\n", f"\n{indent}")

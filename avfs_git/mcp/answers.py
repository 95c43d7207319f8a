"""What a tool answers: a record and a text for the model, or one error with its code; and the rest of a long answer.

Decided here: how long an answer may be, what is cut where it is longer, and how the rest is got. Clients of models warn
at about 10,000 tokens and cut without a word at 25,000: an answer stays below the first. Of a record that is too long,
the longest lists and texts lose their ends, so that it still has the fields of its schema; `cut` says what is missing.
A text that is too long where the record is not (one path before each line) says so itself, at its end.
`Leftovers` keeps the whole record in memory for the tool `more`: the last ones only, and nothing of them survives the
process.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from mcp_types import CallToolResult, TextContent

from avfs_git.errors import AvfsError, InvalidInput, quote
from avfs_git.mcp.hints import in_words_of_tools
from avfs_git.model import Warning, find_warnings
from avfs_git.records import to_error, to_record, to_warning
from avfs_git.schema import WARNING, Schema, schema_of
from avfs_git.values import replace

BUDGET = 32_000
"""Characters of a record, and of a text; about four make a token."""
_KEPT_ANSWERS = 32
_KEPT_CHARACTERS = 64 << 20
_SMALL = 400
"""Characters of what is not worth cutting."""

Record = dict[str, Any]
Render = Callable[[Record], str]


class Cut(TypedDict):
    """A list or a text of which the end is missing."""

    field: str
    """Where it is in the result, as a JSON pointer."""
    given: int
    """How many items or characters the result has."""
    total: int
    handle: str
    """What `more` takes, with `given` as offset."""


class Meant(TypedDict):
    """The vault and the fork that the call worked in, named by the call or not; null for what it did without."""

    vault: str | None
    fork: str | None


class Rest(TypedDict):
    """A part of what was cut."""

    field: str
    offset: int
    total: int
    next_offset: int | None
    """Where the next part begins; null at the end."""
    items: NotRequired[list[object]]
    """Of a list."""
    text: NotRequired[str]
    """Of a text."""


class Leftovers:
    """Whole records of which the caller got a part."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[Record, int]] = OrderedDict()
        self._guard = threading.Lock()

    def keep(self, record: Record, size: int) -> str:
        """Keep a record; returns its handle."""
        handle = secrets.token_hex(8)
        with self._guard:
            self._kept[handle] = record, size
            while len(self._kept) > _KEPT_ANSWERS or sum(held for _, held in self._kept.values()) > _KEPT_CHARACTERS:
                self._kept.popitem(last=False)
        return handle

    def read(self, handle: str, field: str, offset: int) -> Rest:
        """Read a part of what was cut.

        Raises:
            InvalidInput: If nothing is kept under the handle any longer, or there is no such field.
        """
        with self._guard:
            kept = self._kept.get(handle)
        if kept is None:
            raise InvalidInput(
                f"nothing is kept for the handle {quote(handle)}", hint="Call the tool again that gave it."
            )
        value = _find(kept[0], field)
        if not isinstance(value, list | str):
            raise InvalidInput(
                f"the result has no list or text {quote(field)}", hint="`cut` of the result names the fields."
            )
        part = value[offset : offset + _fit(value[offset:], BUDGET - 1000)]
        end = offset + len(part)
        rest: Rest = {
            "field": field,
            "offset": offset,
            "total": len(value),
            "next_offset": end if end < len(value) else None,
        }
        return {**rest, "text": part} if isinstance(part, str) else {**rest, "items": part}


def answer(
    value: object,
    leftovers: Leftovers,
    meant: Mapping[str, str | None],
    *,
    warnings: Iterable[Warning] = (),
    render: Render | None = None,
    say: Callable[[str], str] = str,
) -> CallToolResult:
    """Make the answer of a tool of what the SDK returned.

    Args:
        value: What it returned.
        leftovers: Keeps what is cut.
        meant: The vault and the fork of the call.
        warnings: What it told meanwhile.
        render: Makes the text for the model of the record; JSON by default.
        say: Changes the text of a warning to the words of the tools.
    """
    record = to_record(value)
    assert isinstance(record, dict)  # noqa: S101 - tools return values and mappings
    record["request"] = dict(meant)
    given = dict.fromkeys((*find_warnings(value), *warnings))
    told = [replace(warning, message=say(warning.message)) for warning in given]
    record["warnings"] = [to_warning(warning) for warning in told]
    size = _size(record)
    cuts: list[Cut] = []
    if size > BUDGET:
        handle = leftovers.keep(record, size)
        record, cuts = _shorten(record, handle)
        record["cut"] = cuts
    whole = render(record) if render is not None else _dump(record)
    text = whole[:BUDGET]
    if render is not None:
        text += "".join(f"\nwarning: {warning.message}" for warning in told)
        text += "".join(map(_say_rest, cuts))
    if len(whole) > BUDGET:
        handle = leftovers.keep({"text": whole}, len(whole))
        text += _say_rest({"field": "/text", "given": BUDGET, "total": len(whole), "handle": handle})
    return CallToolResult(content=[TextContent(type="text", text=text)], structured_content=record)


def _say_rest(cut: Cut) -> str:
    return (
        f"\n{cut['given']} of {cut['total']} of {cut['field']}; "
        f"the rest: more(handle={cut['handle']!r}, field={cut['field']!r}, offset={cut['given']})"
    )


def fail(
    error: AvfsError,
    offered: Mapping[str, Collection[str]],
    named: Mapping[str, object],
    meant: tuple[str | Path | None, str | None] = (None, None),
) -> CallToolResult:
    """Make the answer of a tool of an error: its code, what failed, and what to do. `_meta` has it for programs.

    Args:
        error: The error, whose hint is changed to the words of the tools.
        offered: The tools that the server has, each with the names of its arguments.
        named: The arguments of the call.
        meant: The vault and the fork in which the call works; None for what the home chooses.
    """
    error.hint = in_words_of_tools(error.hint, offered, named, meant) if error.hint else None
    text = f"{error.code}: {error.message}" + (f"\n{error.hint}" if error.hint else "")
    return CallToolResult(
        content=[TextContent(type="text", text=text[:BUDGET])], is_error=True, _meta={"avfs/error": to_error(error)}
    )


def answer_schema(kind: Any) -> Schema:
    """Describe the record of a tool that returns a type."""
    schema = schema_of(kind)
    cut = schema_of(Cut)
    properties = {
        **schema["properties"],
        "request": schema_of(Meant),
        "warnings": {"type": "array", "items": WARNING},
        "cut": {"type": "array", "items": cut, "description": "What is missing here; the tool `more` gives it."},
    }
    return {**schema, "properties": properties, "required": [*schema["required"], "request", "warnings"]}


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _size(value: object) -> int:
    return len(_dump(value))


def _fit(value: str | list[Any], room: int) -> int:
    """Say how much of a text or list has room as JSON: at least one item, so that its reader gets on."""
    if isinstance(value, str):
        count = min(len(value), room)
        while count > 1 and (size := _size(value[:count]) - 2) > room:
            count = max(1, count * room // size - 1)
        return count
    count = used = 0
    for item in value:
        used += _size(item) + 1
        if used > room and count:
            break
        count += 1
    return count


def _shorten(record: Record, handle: str) -> tuple[Record, list[Cut]]:
    """Cut the longest lists and texts of a record until it is short enough; the record itself stays whole."""
    short: Record = json.loads(json.dumps(record))
    cuts: dict[str, Cut] = {}
    excess = _size(short) + 300 - BUDGET
    while excess > 0:
        found = max(_longest(short), default=None, key=lambda item: item[0])
        if found is None:
            break
        size, holder, name, field = found
        value = holder[name]
        cut = value[: _fit(value, max(_SMALL // 2, size - excess - 200))]
        if len(cut) == len(value):
            break
        holder[name] = cut
        if field in cuts:
            cuts[field]["given"] = len(cut)
        else:
            cuts[field] = {"field": field, "given": len(cut), "total": len(value), "handle": handle}
        # What was cut inside of an item that is gone now is no longer to be told.
        cuts = {other: held for other, held in cuts.items() if _find(short, other) is not None}
        excess = _size(short) + _size(list(cuts.values())) - BUDGET
    return short, list(cuts.values())


def _longest(record: Record) -> Iterable[tuple[int, Any, Any, str]]:
    """List what can be cut: size, holder, key and pointer of each list with several items and of each long text."""
    pending: list[tuple[Any, str]] = [(record, "")]
    while pending:
        holder, above = pending.pop()
        items: Iterable[tuple[Any, Any]] = holder.items() if isinstance(holder, dict) else enumerate(holder)
        for name, value in items:
            field = f"{above}/{name}"
            if isinstance(value, dict | list):
                pending.append((value, field))
            if field.startswith(("/warnings", "/cut")) or not isinstance(value, str | list):
                continue
            if isinstance(value, str) or len(value) > 1:
                size = _size(value)
                if size > _SMALL:
                    yield size, holder, name, field


def _find(record: Record, field: str) -> Any:
    """Find what a JSON pointer names; None if it names nothing."""
    value: Any = record
    try:
        for name in field.split("/")[1:]:
            value = value[int(name)] if isinstance(value, list) else value[name]
    except (KeyError, ValueError, IndexError, TypeError):
        return None
    return value

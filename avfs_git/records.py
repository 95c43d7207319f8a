"""Values as JSON: the only mapping from what the SDK returns to what programs read.

Decided here: how each kind of field is spelled. A record has the fields of its value under their names, except:

- a time (`…_ns`) becomes RFC 3339 in UTC under the name without `_ns`;
- bytes and host paths become text; where they are not UTF-8, the text is approximate and `NAME_b64` holds them exactly;
- a mode becomes an octal text, the root of a workspace becomes `/`;
- `warnings` are not part of a record: the envelope has those of the result and of all results in it.

Fields are added, never renamed. `schema` says the same as JSON Schema. Pure functions; `cli`, `agent` and `mcp` call
them.
"""

from __future__ import annotations

import base64
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path

from avfs_git.errors import AvfsError
from avfs_git.model import DoctorReport, FileInfo, Status, TreeNode, Warning

PATH_FIELDS = frozenset({"path", "old_path", "paths", "source", "destination"})
"""The fields that hold paths of the workspace: the root is spelled `/`."""
MODE_FIELDS = frozenset({"old_mode", "new_mode"})
"""The fields that hold modes of git's trees."""
COMPUTED: dict[type, tuple[str, ...]] = {Status: ("clean",), DoctorReport: ("healthy",)}
"""The properties that are part of a record."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_record(value: object) -> object:
    """Map a value to what `json.dumps` takes."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str | bytes | Path):
        return _text(_raw(value))
    if isinstance(value, Mapping):
        return _record_of((str(name), item) for name, item in value.items())
    if isinstance(value, TreeNode):
        return _tree(value)
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value)]
        record = _record_of((name, getattr(value, name)) for name in names if name != "warnings")
        if isinstance(value, FileInfo):
            record["mode"] = f"{stat.S_IMODE(value.mode):04o}"
        for name in COMPUTED.get(type(value), ()):
            record[name] = getattr(value, name)
        return record
    if isinstance(value, Iterable):
        return [to_record(item) for item in value]
    raise TypeError(f"no record for {type(value).__name__}")


def _tree(root: TreeNode) -> dict[str, object]:
    """Map a tree without recursion: it may be deeper than Python's stack."""
    made: list[dict[str, object]] = []
    pending = [(root, made)]
    while pending:
        node, siblings = pending.pop()
        below: list[dict[str, object]] = []
        siblings.append({"info": to_record(node.info), "children": below})
        pending += [(child, below) for child in reversed(node.children)]
    return made[0]


def _record_of(items: Iterable[tuple[str, object]]) -> dict[str, object]:
    record: dict[str, object] = {}
    for name, item in items:
        _put(record, name, item)
    return record


def _put(record: dict[str, object], name: str, value: object) -> None:
    if name.endswith("_ns") and (value is None or isinstance(value, int)):
        record[name.removesuffix("_ns")] = None if value is None else to_time(value)
    elif name in MODE_FIELDS and isinstance(value, int):
        record[name] = f"{value:06o}"
    elif isinstance(value, str | bytes | Path) and not isinstance(value, Enum):
        raw = _raw(value)
        if not raw and name in PATH_FIELDS:
            raw = b"/"
        record[name] = _text(raw)
        if not is_utf8(raw):
            record[f"{name}_b64"] = to_base64(raw)
    elif name in PATH_FIELDS and isinstance(value, list | tuple):
        raws = [_raw(item) or b"/" for item in value]
        record[name] = [_text(raw) for raw in raws]
        if not all(map(is_utf8, raws)):
            record[f"{name}_b64"] = [to_base64(raw) for raw in raws]
    else:
        record[name] = to_record(value)


def _raw(value: str | bytes | Path) -> bytes:
    return value if isinstance(value, bytes) else os.fspath(value).encode("utf-8", "surrogateescape")


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def is_utf8(raw: bytes) -> bool:
    """Whether bytes are text in UTF-8."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def to_base64(raw: bytes) -> str:
    """Spell bytes exactly."""
    return base64.b64encode(raw).decode("ascii")


def to_time(ns: int) -> str | None:
    """Spell a time in RFC 3339, UTC, as exactly as it is known; None for years that it cannot spell."""
    seconds, fraction = divmod(ns, 1_000_000_000)
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return None
    text = moment.replace(tzinfo=None).isoformat(timespec="seconds")
    return f"{text}.{fraction:09d}Z" if fraction else f"{text}Z"


def to_warning(warning: Warning) -> dict[str, object]:
    """Map a warning to an entry of the envelope's `warnings`."""
    record = _record_of([("code", warning.code), ("message", warning.message)])
    if warning.path is not None:
        _put(record, "path", warning.path)
    return record


def to_error(error: AvfsError) -> dict[str, object]:
    """Map an error to the envelope's `error`."""
    facts = ("code", "message", "hint", "exit_code", "details")
    return _record_of((name, getattr(error, name)) for name in facts)

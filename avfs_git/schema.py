"""The JSON Schema of a record: what `records.to_record` makes of a value of a type.

Decided here: how each type of a field is described. `records` decides how it is spelled; a test validates real
documents. The schema describes the fields of today, and allows others: fields are added, never renamed. `cli` and `mcp`
call it; pure functions.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any, Literal, NotRequired, Union, get_args, get_origin, get_type_hints, is_typeddict

from avfs_git.model import FileInfo
from avfs_git.records import COMPUTED, MODE_FIELDS, PATH_FIELDS

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
WARNING: Schema = {
    "type": "object",
    "properties": {"code": {"type": "string"}, "message": {"type": "string"}, "path": {"type": "string"}},
    "required": ["code", "message"],
}
"""A warning beside a result."""
ERROR: Schema = {
    "type": "object",
    "properties": {
        "code": {"type": "string"},
        "message": {"type": "string"},
        "hint": {"type": ["string", "null"]},
        "exit_code": {"type": "integer"},
        "details": {"type": "object"},
    },
    "required": ["code", "message", "hint", "exit_code", "details"],
}
"""The `error` of a document."""

_PLAIN: dict[object, Schema] = {
    str: {"type": "string"},
    bytes: {"type": "string"},
    Path: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    type(None): {"type": "null"},
    object: {},
    Any: {},
}
_TEXTS = frozenset({str, bytes, Path})
_BASE64: Schema = {"type": "string", "contentEncoding": "base64"}


def schema_of(*kinds: Any, names: Mapping[str, object] | None = None) -> Schema:
    """Describe the record of a value of one of these types.

    Args:
        kinds: Value classes, typed dictionaries, or types of their fields.
        names: What names in the annotations of these types mean, where the module of a type does not import them at run
            time.

    Raises:
        TypeError: If a field has a type that no record spells.
    """
    definitions: dict[str, Schema] = {}
    pending: list[Any] = []

    def describe(hint: Any) -> Schema:
        """Describe a value of a type; put the types that it names on the list."""
        if hint in _PLAIN:
            return dict(_PLAIN[hint])
        origin, arguments = get_origin(hint), get_args(hint)
        if origin is Literal:
            return {"enum": list(arguments)}
        if origin in (Union, types.UnionType):
            return {"anyOf": [describe(part) for part in arguments]}
        if origin in (tuple, list, Sequence):
            return {"type": "array", "items": describe(arguments[0])}
        if origin in (dict, Mapping):
            return {"type": "object", "additionalProperties": describe(arguments[1])}
        if isinstance(hint, type) and issubclass(hint, Enum):
            return {"enum": [member.value for member in hint]}
        if not isinstance(hint, type) or not hasattr(hint, "__annotations__"):
            raise TypeError(f"no schema for {hint}")
        if hint.__name__ not in definitions:
            definitions[hint.__name__] = {}
            pending.append(hint)
        return {"$ref": f"#/$defs/{hint.__name__}"}

    def spell(name: str, hint: Any) -> Iterator[tuple[str, Schema, bool]]:
        """Give the fields that a field becomes, each with whether it is always there."""
        parts = _without_none(hint)
        texts = get_args(parts[0])[0] if get_origin(parts[0]) in (tuple, list, Sequence) else None
        if name.endswith("_ns") and parts == (int,):
            yield name.removesuffix("_ns"), {"type": ["string", "null"], "format": "date-time"}, True
        elif name in MODE_FIELDS:
            yield name, {"type": ["string", "null"], "pattern": "^[0-7]{6}$"}, True
        elif len(parts) == 1 and parts[0] in _TEXTS:
            yield name, describe(hint), True
            yield f"{name}_b64", dict(_BASE64), False
        elif name in PATH_FIELDS and texts in _TEXTS:
            yield name, describe(hint), True
            yield f"{name}_b64", {"type": "array", "items": dict(_BASE64)}, False
        else:
            yield name, describe(hint), True

    def define(kind: type) -> Schema:
        """Describe a type with its fields."""
        hints = get_type_hints(kind, localns=dict(names or {}), include_extras=True)
        if not is_typeddict(kind):
            hints.pop("warnings", None)
            hints |= {name: get_type_hints(getattr(kind, name).fget)["return"] for name in COMPUTED.get(kind, ())}
        marked = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
        optional: frozenset[str] = getattr(kind, "__optional_keys__", frozenset()) | marked
        properties: dict[str, Schema] = {}
        required: list[str] = []
        for name, hint in hints.items():
            for spelled, schema, always in spell(name, get_args(hint)[0] if name in marked else hint):
                properties[spelled] = schema
                if always and name not in optional:
                    required.append(spelled)
        if kind is FileInfo:
            properties["mode"] = {"type": "string", "pattern": "^[0-7]{4}$"}
        text = (kind.__doc__ or "").split("\n\n")[0].strip()
        return {"type": "object", "description": " ".join(text.split()), "properties": properties, "required": required}

    found = [describe(kind) for kind in kinds]
    while pending:
        kind = pending.pop()
        definitions[kind.__name__] = define(kind)
    schema = found[0] if len(found) == 1 else {"anyOf": found}
    if list(schema) == ["$ref"]:  # the root is an object, as readers of a tool's schema demand
        name = kinds[0].__name__
        schema = definitions[name]
        if not _names(definitions, name):
            definitions = {other: held for other, held in definitions.items() if other != name}
    return {**schema, "$defs": dict(sorted(definitions.items()))} if definitions else schema


def document_schema(kind: str, *kinds: Any, names: Mapping[str, object] | None = None) -> Schema:
    """Describe the whole document that a command writes with `--json`.

    Args:
        kind: The document's kind, such as `status_result`.
        kinds: The types of its result.
        names: As for `schema_of`.
    """
    result = schema_of(*kinds, names=names)
    definitions = result.pop("$defs", {})
    properties = {
        "schema_version": {"const": 1},
        "kind": {"const": kind},
        "success": {"type": "boolean"},
        "request": {"type": "object"},
        "result": {"anyOf": [result, {"type": "null"}]},
        "warnings": {"type": "array", "items": WARNING},
        "error": {"anyOf": [ERROR, {"type": "null"}]},
    }
    document = {
        "$schema": DIALECT,
        "title": kind,
        "type": "object",
        "properties": properties,
        "required": list(properties),
    }
    return {**document, "$defs": definitions} if definitions else document


def _without_none(hint: Any) -> tuple[Any, ...]:
    """List the parts of a union, without None."""
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return tuple(part for part in parts if part is not type(None)) or (type(None),)


def _names(definitions: Mapping[str, Schema], name: str) -> bool:
    """Whether a definition refers to the one of a name, for example to itself."""
    import json  # noqa: PLC0415 - only here

    return f'"#/$defs/{name}"' in json.dumps(definitions)

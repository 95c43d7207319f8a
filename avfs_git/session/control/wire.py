"""The language of the control socket: one JSON line each way, large things on descriptors beside it.

Decided here: how each type of a signature becomes JSON and comes back, how errors do, and what a message may hold;
docs/reference/control.md is the normative text. Both ends call it: `session.control.client` writes requests and reads
answers, `session.control.control` the other way round. Codecs are made from type hints when a type is first met and
kept; everything here is safe from any thread, touches no disk and no lock, and believes nothing that it reads: what
does not fit raises `NotUnderstood`.

Bytes are base64. Bytes above a few KiB, and arguments or results that are long as JSON, stand in the *attachment*: a
memory file that is sealed, so that its reader cannot be made to wait or be cut short. A `Handle` is an
open file that is passed as a descriptor.
"""

from __future__ import annotations

import base64
import fcntl
import functools
import json
import os
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

from avfs_git.errors import AvfsError, InternalError, InvalidInput
from avfs_git.model import FileInfo, TreeNode
from avfs_git.paths import TreePath, parse_tree_path
from avfs_git.values import value_class

VERSION = 1
FLUSH = b'{"v": 1, "flush": true}'
"""What a session sends, before an answer, to a client that has said that it `flushes`.

The client is to have the kernel write out the pages of the mount that programs have changed in memory. The session
cannot do that: the kernel sends those pages to it.
"""
FLUSHED = b'{"v": 1, "flushed": true}'
"""What the client sends then."""
LINE_MAX = 256 << 10
"""The longest line, in bytes; what is longer goes into the attachment."""
ATTACHED_MAX = 1 << 30
DESCRIPTORS_MAX = 4
_INLINE_BYTES = 3072
_INLINE_JSON = 64 << 10
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE

Json = Any
"""What `json` reads and writes."""


class NotUnderstood(ValueError):
    """What came is not what the protocol says."""


@value_class
class Handle:
    """An open file that goes with a message.

    As an argument it is the caller's, who closes it; as a result, the receiver's.
    """

    fd: int


@value_class
class Served:
    """What a session says of itself."""

    session: str
    directory: str
    """Where it is mounted; what is not UTF-8 in it stands as surrogates."""
    device: int | None = None
    """The device number of the mount, by which those in the same mount namespace know it."""
    pid: int = 0
    version: str = ""
    """The version of avfs that it runs."""


class Outgoing:
    """What goes with a message that is being written."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.size = 0
        self.handles: list[int] = []

    def attach(self, data: bytes) -> list[int]:
        """Put bytes into the attachment; give their place."""
        place = [self.size, len(data)]
        self.pieces.append(data)
        self.size += len(data)
        return place

    def seal(self) -> int | None:
        """Make the attachment; None if nothing was attached. The caller closes the descriptor."""
        if not self.size:
            return None
        fd = os.memfd_create("avfs-message", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            for piece in self.pieces:
                view = memoryview(piece)
                while view:
                    view = view[os.write(fd, view) :]
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        except BaseException:
            os.close(fd)
            raise
        return fd


class Incoming:
    """What came with a message; it closes what was not taken."""

    def __init__(self, descriptors: Sequence[int] = ()) -> None:
        self._descriptors = list(descriptors)
        self._attached = -1
        self._taken: set[int] = set()

    def expect_attachment(self, size: object) -> None:
        """Take the first descriptor for the attachment of a message that says it has one.

        Raises:
            NotUnderstood: If it is none, or could be changed while it is read.
        """
        if not isinstance(size, int) or not 0 < size <= ATTACHED_MAX or not self._descriptors:
            raise NotUnderstood("the attachment is missing or too large")
        self._attached = self._descriptors.pop(0)
        try:
            sealed = fcntl.fcntl(self._attached, fcntl.F_GET_SEALS) & _SEALS == _SEALS
        except OSError:
            sealed = False
        if not sealed or os.fstat(self._attached).st_size != size:
            raise NotUnderstood("the attachment is not sealed, or not as long as was said")

    def attached(self, place: Json) -> bytes:
        """Read a piece of the attachment."""
        if (
            self._attached < 0
            or not isinstance(place, list)
            or len(place) != 2
            or not all(type(number) is int and 0 <= number <= ATTACHED_MAX for number in place)
        ):
            raise NotUnderstood("a place in the attachment is missing")
        offset, size = place
        data = os.pread(self._attached, size, offset)
        if len(data) != size:
            raise NotUnderstood("a place is outside of the attachment")
        return data

    def take(self, number: Json) -> int:
        """Take over a descriptor."""
        if type(number) is not int or not 0 <= number < len(self._descriptors) or number in self._taken:
            raise NotUnderstood("a descriptor is missing")
        self._taken.add(number)
        return self._descriptors[number]

    def drop(self) -> None:
        """Close everything, also what was taken. A second call does nothing."""
        self._taken.clear()
        self.close()

    def close(self) -> None:
        """Close what was not taken. A second call does nothing."""
        for number, fd in enumerate(self._descriptors):
            if number not in self._taken:
                os.close(fd)
        self._descriptors = []
        if self._attached >= 0:
            os.close(self._attached)
            self._attached = -1


Encoder = Callable[[Any, Outgoing], Json]
Decoder = Callable[[Json, Incoming], Any]


@functools.cache
def codec_of(hint: Any) -> tuple[Encoder, Decoder]:
    """Make the two functions that carry values of a type.

    Raises:
        InternalError: If the type cannot be carried: a mistake in a signature.
    """
    if hint in (str, int, float, bool):
        return _plain(hint)
    if hint is bytes:
        return _encode_bytes, _decode_bytes
    if hint is type(None) or hint is None:
        return lambda _value, _out: None, _decode_none
    if hint is Path:
        return lambda value, _out: str(value), lambda value, _into: Path(_check(value, str))
    if hint is Handle:
        return _encode_handle, lambda value, into: Handle(into.take(value))
    if hint is TreeNode:
        return _encode_tree, _decode_tree
    if hint is TreePath:
        return _encode_bytes, _decode_path
    if isinstance(hint, typing.NewType):
        return codec_of(hint.__supertype__)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        if len(inner) == 1 and len(arguments) == 2:
            return _optional(*codec_of(inner[0]))
    if origin in (list, Sequence):
        return _many(list, *codec_of(arguments[0]))
    if origin is tuple and len(arguments) == 2 and arguments[1] is Ellipsis:
        return _many(tuple, *codec_of(arguments[0]))
    if origin is tuple:
        return _fixed([codec_of(argument) for argument in arguments])
    if origin is typing.Literal:
        return lambda value, _out: value, functools.partial(_decode_literal, arguments)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return lambda value, _out: value.value, functools.partial(_decode_enum, hint)
    if isinstance(hint, type) and hasattr(hint, "__match_args__"):
        return _record(hint)
    raise InternalError(f"{hint!r} has no spelling on the control socket")


def _check(value: Json, kind: type) -> Any:
    if type(value) is not kind and not (kind is float and type(value) is int):
        raise NotUnderstood(f"a value is not of type {kind.__name__}")
    return value


def _plain(kind: type) -> tuple[Encoder, Decoder]:
    return lambda value, _out: value, lambda value, _into: _check(value, kind)


def _decode_none(value: Json, _into: Incoming) -> None:
    if value is not None:
        raise NotUnderstood("a value is not null")


def _encode_bytes(value: bytes, out: Outgoing) -> Json:
    return base64.b64encode(value).decode("ascii") if len(value) <= _INLINE_BYTES else out.attach(bytes(value))


def _decode_bytes(value: Json, into: Incoming) -> bytes:
    if isinstance(value, list):
        return into.attached(value)
    try:
        return base64.b64decode(_check(value, str), validate=True)
    except ValueError as error:
        raise NotUnderstood("a value is not base64") from error


def _decode_path(value: Json, into: Incoming) -> TreePath:
    raw = _decode_bytes(value, into)
    try:
        path = parse_tree_path(raw)
    except InvalidInput as error:
        raise NotUnderstood(error.message) from error
    if path != raw:  # what is below takes every path for one that was parsed
        raise NotUnderstood("a path is not written as a path in a workspace is")
    return path


def _encode_handle(value: Handle, out: Outgoing) -> Json:
    out.handles.append(value.fd)
    return len(out.handles) - 1


def _optional(encode: Encoder, decode: Decoder) -> tuple[Encoder, Decoder]:
    return (
        lambda value, out: None if value is None else encode(value, out),
        lambda value, into: None if value is None else decode(value, into),
    )


def _many(make: type, encode: Encoder, decode: Decoder) -> tuple[Encoder, Decoder]:
    return (
        lambda value, out: [encode(item, out) for item in value],
        lambda value, into: make(decode(item, into) for item in _check(value, list)),
    )


def _fixed(codecs: Sequence[tuple[Encoder, Decoder]]) -> tuple[Encoder, Decoder]:
    def decode(value: Json, into: Incoming) -> tuple[Any, ...]:
        if len(_check(value, list)) != len(codecs):
            raise NotUnderstood("a list has the wrong length")
        return tuple(codec[1](item, into) for codec, item in zip(codecs, value, strict=True))

    return lambda value, out: [codec[0](item, out) for codec, item in zip(codecs, value, strict=True)], decode


def _decode_enum(kind: type[Enum], value: Json, _into: Incoming) -> Enum:
    try:
        return kind(value)
    except ValueError as error:
        raise NotUnderstood(f"{value!r} is no {kind.__name__}") from error


def _decode_literal(known: tuple[object, ...], value: Json, _into: Incoming) -> Json:
    if value not in known:
        raise NotUnderstood(f"{value!r} is none of {known}")
    return value


def _record(kind: type) -> tuple[Encoder, Decoder]:
    hints = typing.get_type_hints(kind)
    names: tuple[str, ...] = kind.__match_args__  # type: ignore[attr-defined]
    # Looked up when they are used: a type may hold itself.
    codecs: list[tuple[str, tuple[Encoder, Decoder]]] = []

    def prepare() -> list[tuple[str, tuple[Encoder, Decoder]]]:
        if not codecs:
            codecs[:] = [(name, codec_of(hints[name])) for name in names]
        return codecs

    def encode(value: Any, out: Outgoing) -> Json:
        return {name: codec[0](getattr(value, name), out) for name, codec in prepare()}

    def decode(value: Json, into: Incoming) -> Any:
        given = _check(value, dict)
        # What is not there has its default: the other end may be an older avfs. What is not known is passed over.
        found = {name: codec[1](given[name], into) for name, codec in prepare() if name in given}
        try:
            return kind(**found)
        except TypeError as error:
            raise NotUnderstood(f"fields of {kind.__name__} are missing") from error

    return encode, decode


def _encode_tree(value: TreeNode, out: Outgoing) -> Json:
    """Write a tree as a flat list, each node with the count of its children: trees may be deeper than JSON."""
    encode = codec_of(FileInfo)[0]
    found: list[Json] = []
    pending = [value]
    while pending:
        node = pending.pop()
        found.append([encode(node.info, out), len(node.children)])
        pending += reversed(node.children)
    return found


def _decode_tree(value: Json, into: Incoming) -> TreeNode:
    decode = codec_of(FileInfo)[1]
    done: list[TreeNode] = []
    # Backwards, so that the children of a node are there before it is.
    for item in reversed(_check(value, list)):
        if not isinstance(item, list) or len(item) != 2 or type(item[1]) is not int or not 0 <= item[1] <= len(done):
            raise NotUnderstood("a tree is not in order")
        count = item[1]
        children = tuple(reversed(done[len(done) - count :])) if count else ()
        del done[len(done) - count :]
        done.append(TreeNode(decode(item[0], into), children))
    if len(done) != 1:
        raise NotUnderstood("a tree is not in order")
    return done[0]


# --- messages -----------------------------------------------------------------------------------------------------


def pack_message(head: dict[str, Json], field: str, body: Json, out: Outgoing) -> tuple[bytes, list[int]]:
    """Write a message as its line and the descriptors that go with it.

    The first is the caller's to close if `attached` is set.

    `field` is the name of the body; `out` has what was put aside when the body was encoded.
    """
    text = json.dumps(body, separators=(",", ":")).encode("ascii")
    if len(text) > _INLINE_JSON:
        head[f"{field}_at"] = out.attach(text)
        text = b""
    attachment = out.seal()
    if attachment is not None:
        head["attached"] = out.size
    line = json.dumps(head, separators=(",", ":")).encode("ascii")
    if text:
        line = b'%s,"%s":%s}' % (line[:-1], field.encode("ascii"), text)
    return line + b"\n", ([attachment] if attachment is not None else []) + out.handles


def unpack_message(line: bytes, into: Incoming) -> dict[str, Json]:
    """Read the line of a message, and its attachment's place.

    Raises:
        NotUnderstood: If it is no message of this version.
    """
    try:
        message = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise NotUnderstood("a line is not JSON") from error
    if not isinstance(message, dict) or type(message.get("v")) is not int:
        raise NotUnderstood("a line is not a message")
    if message["v"] != VERSION:
        raise NotUnderstood(f"version {message['v']} is not spoken here, only {VERSION}")
    if "attached" in message:
        into.expect_attachment(message["attached"])
    return message


def body_of(message: Mapping[str, Json], field: str, into: Incoming) -> Json:
    """Find the body of a message, wherever it stands."""
    if f"{field}_at" in message:
        try:
            return json.loads(into.attached(message[f"{field}_at"]))
        except (ValueError, RecursionError) as error:
            raise NotUnderstood("the attached text is not JSON") from error
    if field not in message:
        raise NotUnderstood(f"'{field}' is missing")
    return message[field]


# --- errors -------------------------------------------------------------------------------------------------------


def encode_error(error: AvfsError) -> Json:
    """Write an error: its class, what it says, and further attributes that are plain values."""
    more = {
        name: value
        for name, value in vars(error).items()
        if name not in ("message", "hint", "details") and (value is None or isinstance(value, str | int | float | bool))
    }
    return {
        "class": type(error).__name__,
        "code": error.code,
        "exit_code": error.exit_code,
        "message": error.message,
        "hint": error.hint,
        "details": json.loads(json.dumps(error.details, default=str, skipkeys=True)),
        "more": more,
    }


def decode_error(value: Json) -> AvfsError:
    """Make the error again, of its own class; of one that is not known here, an `AvfsError` with its code."""
    given = _check(value, dict)
    found = _error_classes().get(given.get("class", ""), AvfsError)
    error = found.__new__(found)
    hint, details, more = given.get("hint"), given.get("details"), given.get("more")
    AvfsError.__init__(
        error,
        str(given.get("message", "the session failed")),
        hint=str(hint) if hint is not None else None,
        details=details if isinstance(details, dict) else None,
    )
    for name, held in more.items() if isinstance(more, dict) else ():
        setattr(error, name, held)
    if found is AvfsError and isinstance(given.get("code"), str) and isinstance(given.get("exit_code"), int):
        error.code, error.exit_code = given["code"], given["exit_code"]  # type: ignore[misc]  # of this one error only
    return error


@functools.lru_cache(maxsize=1)
def _error_classes() -> dict[str, type[AvfsError]]:
    found: dict[str, type[AvfsError]] = {}
    pending: list[type[AvfsError]] = [AvfsError]
    while pending:
        kind = pending.pop()
        found[kind.__name__] = kind
        pending += kind.__subclasses__()
    return found


def pack_error(number: object, error: AvfsError) -> tuple[bytes, list[int]]:
    """Make the answer to a request that failed; None as the number of one that has none."""
    head = {"v": VERSION, "id": number if isinstance(number, int | str) else None, "ok": False}
    return pack_message(head, "error", encode_error(error), Outgoing())

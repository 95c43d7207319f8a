"""The codec of the control socket: what is written comes back, and what does not fit is refused."""

from __future__ import annotations

import dataclasses
import fcntl
import inspect
import json
import os
import typing
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfs_git import errors, model
from avfs_git.errors import AvfsError, HostError, PathNotFound, RefConflict, WorkspaceBusy, WorkspaceMounted
from avfs_git.model import ChangedFile, ChangeKind, Checkpoint, CheckpointResult, FileInfo, Identity, Kind, TreeNode
from avfs_git.session.control import wire
from avfs_git.session.control.content import Content
from avfs_git.session.control.table import TABLE


def carry(value: object, hint: object) -> object:
    """Send a value through a message and read it on the other side."""
    out = wire.Outgoing()
    body = wire.codec_of(hint)[0](value, out)
    line, descriptors = wire.pack_message({"v": wire.VERSION, "id": 1}, "result", body, out)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert len(line) <= wire.LINE_MAX
    with closing(wire.Incoming(descriptors)) as incoming:
        message = wire.unpack_message(line, incoming)
        return wire.codec_of(hint)[1](wire.body_of(message, "result", incoming), incoming)


def test_every_operation_has_a_spelling() -> None:
    """Each argument and result in the table is of a type that the socket carries."""
    for operation in TABLE.values():
        (hints, result), needed = operation.signature, operation.needed
        for hint in (*hints.values(), result):
            wire.codec_of(hint)
        assert needed <= hints.keys()
        assert list(hints) == list(inspect.signature(operation.function).parameters)[1:]


def test_every_value_of_the_model_has_a_spelling() -> None:
    """So that an operation may return any of them."""
    kinds = [kind for kind in vars(model).values() if dataclasses.is_dataclass(kind)]
    assert len(kinds) > 20
    for kind in kinds:
        assert callable(wire.codec_of(typing.cast("type", kind))[0])


_CHECKPOINT = Checkpoint(
    "a" * 40, ("one", "two"), "a\nmessage", Identity("A", "b@c"), 5, ("b" * 40,), "c" * 40, None, "work"
)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (b"\xff\0bytes", bytes),
        (b"x" * 100_000, bytes),
        (b"", bytes | None),
        (None, bytes | None),
        (Path("/a/b"), Path),
        ("\udcff surrogates \n", str),
        ((b"a", b"b" * 9000), tuple[bytes, ...]),
        ([FileInfo(b"\xfe", Kind.SYMLINK, 0o120777, 3, 2**62, target=b"\0")] * 2000, list[FileInfo]),
        (
            CheckpointResult("created", _CHECKPOINT, (ChangedFile(b"p", ChangeKind.RENAMED, b"q", similarity=90),)),
            CheckpointResult,
        ),
        (Content(data=b"x"), Content),
    ],
)
def test_values_come_back(value: object, hint: object) -> None:
    """Whatever its size, a value is equal on the other side."""
    assert carry(value, hint) == value


@given(st.recursive(st.binary(max_size=5), lambda below: st.lists(below, max_size=4), max_leaves=30))
def test_trees_come_back(shape: object) -> None:
    """Trees of every shape."""

    def make(shape: object) -> TreeNode:
        if isinstance(shape, bytes):
            return TreeNode(FileInfo(shape, Kind.FILE, 0, 0, 0))
        assert isinstance(shape, list)
        return TreeNode(FileInfo(b"d", Kind.DIRECTORY, 0, 0, 0), tuple(make(below) for below in shape))

    assert carry(make(shape), TreeNode) == make(shape)


def test_a_tree_may_be_deeper_than_json() -> None:
    """10,000 levels are no problem of the wire's."""
    node = TreeNode(FileInfo(b"", Kind.FILE, 0, 0, 0))
    for _ in range(10_000):
        node = TreeNode(FileInfo(b"", Kind.DIRECTORY, 0, 0, 0), (node,))
    found = carry(node, TreeNode)
    depth = 0
    while isinstance(found, TreeNode) and found.children:
        found = found.children[0]
        depth += 1
    assert depth == 10_000


def test_a_field_that_the_other_end_does_not_know_is_passed_over() -> None:
    """Fields are added within a version: an older end ignores them, a newer one has defaults."""
    decode = wire.codec_of(FileInfo)[1]
    given = {"path": "", "kind": "file", "mode": 1, "size": 2, "mtime_ns": 3, "color": "blue"}
    assert decode(given, wire.Incoming()) == FileInfo(b"", Kind.FILE, 1, 2, 3)
    with pytest.raises(wire.NotUnderstood):
        decode({"path": ""}, wire.Incoming())


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (5, str),
        ("5", int),
        (True, int),
        ("not base64!", bytes),
        ("ü", bytes),
        ([0, 5], bytes),
        (-1, wire.Handle),
        (0, wire.Handle),
        ("0", wire.Handle),
        ({}, FileInfo),
        ([], FileInfo),
        ("blue", Kind),
        ("lost", model.MergeOutcome),
        (["clean"], model.MergeOutcome),
        (None, int),
        (0, type(None)),
        ([[{}, 1]], TreeNode),
        ([], TreeNode),
        ({"a": 1}, list[int]),
        ([1], tuple[int, int]),
    ],
)
def test_what_does_not_fit_is_refused(value: object, hint: object) -> None:
    """Nothing of another type is taken for what was expected."""
    with pytest.raises(wire.NotUnderstood):
        wire.codec_of(hint)[1](json.loads(json.dumps(value)), wire.Incoming())


def _memory(data: bytes, seals: int | None) -> int:
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.write(fd, data)
    if seals is not None:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def test_an_attachment_must_be_sealed() -> None:
    """One that could be changed, cut short or made to wait is refused, and closed."""
    everything = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    read_end, write_end = os.pipe()
    os.close(write_end)
    for fd in (_memory(b"12345", None), _memory(b"12345", fcntl.F_SEAL_SHRINK), _memory(b"1234", everything), read_end):
        incoming = wire.Incoming([fd])
        with pytest.raises(wire.NotUnderstood):
            wire.unpack_message(b'{"v":1,"attached":5}', incoming)
        incoming.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
    incoming = wire.Incoming([_memory(b"12345", everything)])
    wire.unpack_message(b'{"v":1,"attached":5}', incoming)
    assert incoming.attached([1, 3]) == b"234"
    for place in ([3, 3], [-1, 1], [0], "x", [0, 1.5], [True, 1], [0, 2**70]):
        with pytest.raises(wire.NotUnderstood):
            incoming.attached(place)
    incoming.close()


@pytest.mark.parametrize(
    "line", [b"", b"{", b"[]", b"5", b"{}", b'{"v":"1"}', b'{"v":2}', b'{"v":true}', b"[" * 100_000, b"\xff"]
)
def test_a_line_that_is_no_message_is_refused(line: bytes) -> None:
    """Garbage, another version, nesting without end."""
    with pytest.raises(wire.NotUnderstood):
        wire.unpack_message(line, wire.Incoming())


def _every_error() -> list[AvfsError]:
    found: list[AvfsError] = []
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, AvfsError) and kind is not HostError:
            given: dict[str, typing.Any] = {}
            for parameter in list(inspect.signature(kind.__init__).parameters.values())[1:]:
                if parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
                    hint = str(parameter.annotation)
                    given[parameter.name] = (
                        5 if hint.startswith("int")
                        else b"\xff" if hint == "bytes"
                        else OSError(28, "full") if "Exception" in hint or "OSError" in hint
                        else {} if "dict" in hint or "Mapping" in hint
                        else [b"x"] if "Sequence[bytes]" in hint
                        else [("x", "y")] if "Sequence[tuple" in hint
                        else ["x"] if "Sequence" in hint
                        else "x"
                    )  # fmt: skip
            found.append(kind(**given))
    return found


@pytest.mark.parametrize(
    "error",
    [
        *_every_error(),
        HostError("write", OSError(28, "No space left on device")),
        PathNotFound(b"\xff"),
        WorkspaceBusy("f", "me", pid=3),
        RefConflict("refs/x", None, "a"),
        WorkspaceMounted("f", "/m", session="s"),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_errors_come_back_as_themselves(error: AvfsError) -> None:
    """Class, code, exit status, message, hint, details and further attributes."""
    back = wire.decode_error(json.loads(json.dumps(wire.encode_error(error))))
    assert type(back) is type(error)
    assert (back.code, back.exit_code, back.message, back.hint, str(back)) == (
        error.code, error.exit_code, error.message, error.hint, str(error)
    )  # fmt: skip
    assert back.details == json.loads(json.dumps(error.details, default=str))
    assert getattr(back, "errno", None) == getattr(error, "errno", None)


def test_an_error_of_another_version_keeps_its_code() -> None:
    """A class that is not known here becomes the root of all errors, with the code and exit status that were sent."""
    error = wire.decode_error(
        {"class": "Future", "code": "future.code", "exit_code": 99, "message": "later", "hint": None}
    )
    assert type(error) is AvfsError
    assert (error.code, error.exit_code, error.message) == ("future.code", 99, "later")
    assert AvfsError.code == "error"

"""Values as JSON, and names as people see them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfs_git.cli.commands.reading.cat import to_content
from avfs_git.cli.output.quoting import defuse, quote_path
from avfs_git.errors import HostError, VaultNotFound
from avfs_git.model import ChangedFile, ChangeKind, FileInfo, Kind, Status
from avfs_git.records import to_base64, to_error, to_record, to_time


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_700_000_000_000_000_001, "2023-11-14T22:13:20.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (-62_135_596_800_000_000_000, "0001-01-01T00:00:00Z"),
        (1 << 80, None),
    ],
)
def test_time_is_rfc_3339_in_utc(ns: int, text: str | None) -> None:
    """Nanoseconds are kept; years beyond four digits cannot be said."""
    assert to_time(ns) == text


def test_file_record() -> None:
    """A record has the fields of its value; the root is a slash, the mode octal."""
    info = FileInfo(b"", Kind.DIRECTORY, 0o40755, 0, 0)

    assert to_record(info) == {
        "path": "/",
        "kind": "directory",
        "mode": "0755",
        "size": 0,
        "mtime": "1970-01-01T00:00:00Z",
        "oid": None,
        "target": None,
        "nlink": 1,
        "problem": None,
    }


def test_computed_fields_and_warnings() -> None:
    """Whether a status is clean is part of its record; warnings are not."""
    record = to_record(Status("main", None, None, (ChangedFile(b"a", ChangeKind.TYPE),), ()))

    assert isinstance(record, dict)
    assert (record["clean"], "warnings" in record) == (False, False)
    assert record["changed_files"][0]["kind"] == "type"


def test_bytes_that_are_not_utf8_come_twice() -> None:
    """Approximately as text, exactly in base64; lists too."""
    record = to_record(
        {"path": b"a\xff", "paths": [b"b", b"\xfe"], "place": Path(os.fsdecode(b"/c\xff")), "label": "d\udcff"}
    )

    assert record == {
        "path": "a\ufffd",
        "path_b64": to_base64(b"a\xff"),
        "paths": ["b", "\ufffd"],
        "paths_b64": [to_base64(b"b"), to_base64(b"\xfe")],
        "place": "/c\ufffd",
        "place_b64": to_base64(b"/c\xff"),
        "label": "d\ufffd",
        "label_b64": to_base64(b"d\xff"),
    }


def test_content_is_exact_and_readable_where_it_can_be() -> None:
    """`content` is there only for UTF-8."""
    assert to_content(b"p", "ä\n".encode()) == {"path": b"p", "size": 3, "content": "ä\n", "content_b64": "w6QK"}
    assert to_content(b"p", b"\xff") == {"path": b"p", "size": 1, "content_b64": "/w=="}
    assert to_content(b"p", b"") == {"path": b"p", "size": 0, "content": "", "content_b64": ""}


def test_error_record() -> None:
    """An error carries code, message, hint, exit code and details."""
    assert to_error(VaultNotFound("x")) == {
        "code": "vault.not_found",
        "message": "there is no vault 'x'",
        "hint": "See them with `avfs vault list`.",
        "exit_code": 11,
        "details": {"vault": "x"},
    }
    assert to_error(HostError("write", OSError(5, "Input/output error")))["details"] == {"errno": 5}


def test_unknown_types_are_refused() -> None:
    """What has no record is a bug, not an empty field."""
    with pytest.raises(TypeError):
        to_record(object())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
@pytest.mark.slow
def test_every_record_is_json_in_utf8(value: object) -> None:
    """Whatever bytes and surrogates are inside, the document can be written."""
    json.dumps(to_record({"value": value}), ensure_ascii=False).encode("utf-8")


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (b"", "/"),
        (b"a/b c", "a/b c"),
        ("ä".encode(), "ä"),
        (b"a\nb", '"a\\nb"'),
        (b'say "hi"', '"say \\"hi\\""'),
        (b"back\\slash", '"back\\\\slash"'),
        (b"\xff", '"\\377"'),
        (b"\x1b[31m", '"\\033[31m"'),
        ("\x9b31m".encode(), '"\\302\\23331m"'),
        ("exe\u202egpj".encode(), '"exe\\342\\200\\256gpj"'),
    ],
)
def test_paths_are_shown_on_one_line(path: bytes, shown: str) -> None:
    """What is not printable is escaped as git does."""
    assert quote_path(path) == shown


@pytest.mark.needs("git")
@pytest.mark.parametrize(
    "name", [b"plain", b"sp ace", "ä".encode(), b"a\tb", b"a\nb", b'q"q', b"b\\b", b"\xff\xfe", b"\x01\x7f"]
)
def test_paths_are_shown_as_git_shows_them(tmp_path: Path, name: bytes) -> None:
    """The quoting is git's with core.quotePath off."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).touch()

    listed = subprocess.run(
        ["git", "-c", "core.quotePath=false", "ls-files", "--others"], cwd=tmp_path, check=True, capture_output=True
    ).stdout

    assert (
        listed.rstrip(b"\n").decode() == quote_path(name)
        if b"\xff" not in name
        else b"\\377" in quote_path(name).encode()
    )


def test_text_from_outside_cannot_steer_a_terminal() -> None:
    """Control characters and marks of direction are made visible; lines and tabs stay."""
    assert defuse("a\u202eb\u2066c") == "a\\u202eb\\u2066c"
    assert defuse("a\x1b[31mb\tc\nd\x9b\x00") == "a\\x1b[31mb\tc\nd\\x9b\\x00"

"""Editing JSON as text: what is put in can be read, what is taken out leaves the rest to the character."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfs_git.cli.harness import jsontext

_KEYS = st.text(max_size=4)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=10,
)
_LAYOUTS = st.sampled_from([None, 0, 1, 2, 4, "\t"])


@given(st.dictionaries(_KEYS, _VALUES, max_size=4), _LAYOUTS, _VALUES, st.booleans())
@pytest.mark.slow
def test_a_member_comes_and_goes(
    document: dict[str, object], indent: int | str | None, value: object, ascii_only: bool
) -> None:
    """Into any document in any layout: the rest means the same with it, and is the same without it."""
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only) + "\n"
    path = ("avfs servers", "avfs")
    made = jsontext.put(text, path, value)

    assert json.loads(made) == document | {"avfs servers": {"avfs": value}}
    assert jsontext.put(made, path, value) == made
    assert jsontext.drop(made, path) == text


@given(st.lists(_VALUES, max_size=4), _LAYOUTS, _KEYS)
@pytest.mark.slow
def test_an_element_comes_and_goes(present: list[object], indent: int | str | None, key: str) -> None:
    """Also where the list is missing."""
    element = {"hooks": [{"command": "avfs hook claude"}]}
    text = json.dumps({key: {"list": present}} if present else {key: 1}, indent=indent)
    path = (key, "list") if present else ("other " + key, "list")
    made = jsontext.append(text, path, element)

    assert json.loads(made) == (
        {key: {"list": [*present, element]}} if present else {key: 1, path[0]: {"list": [element]}}
    )
    assert jsontext.append(made, path, element) == made
    assert jsontext.drop(made, path, element) == text


COMMENTED = """{
    // the servers of this project
    "servers": {
        "other": {"command": "x"}, /* "avfs": {} */
    },
    "url": "http://example.org/*no comment*/", // not one either
}
"""


def test_comments_and_layout_stay() -> None:
    """Comments, commas before a bracket, and the indentation of the neighbours."""
    made = jsontext.put(COMMENTED, ("servers", "avfs"), {"command": "avfs"})

    added = made.replace(COMMENTED.partition('"x"}')[0], "")
    assert '"x"},\n        "avfs": {\n            "command": "avfs"\n        }, /* "avfs": {} */\n' in added
    assert jsontext.drop(made, ("servers", "avfs")) == COMMENTED
    value = jsontext.parse(made).value
    assert isinstance(value, dict)
    assert value["servers"] == {"other": {"command": "x"}, "avfs": {"command": "avfs"}}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("{", 1),
        ('{\n "a": 1\n "b": 2\n}', 3),
        ('{\n "a" 1}', 2),
        ("{\n\n a: 1}", 3),
        ('{"a": "\n"}', 1),
        ("[1,\n 2", 2),
        ("{}\n{}", 2),
        ('{"a": 1e999999x}', 1),
        ('{"a": 01}', 1),
        ("[" * 5000, 1),
        ('{"a": /* no end', 1),
        ('{"a": nul}', 1),
    ],
)
def test_what_is_no_json_is_refused_with_its_line(text: str, line: int) -> None:
    """Nothing is guessed."""
    with pytest.raises(jsontext.Unreadable) as caught:
        jsontext.put(text, ("a",), 1)
    assert caught.value.line == line


@given(st.text(alphabet='{}[],:"/* \n1atrue\\', max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    """A document that Python reads is read as the same."""
    try:
        expected = json.loads(text)
    except ValueError:
        try:
            jsontext.parse(text)
        except jsontext.Unreadable:
            pass
    else:
        assert jsontext.parse(text).value == expected


def test_what_is_of_another_kind_is_refused() -> None:
    """A list where an object is expected, and the other way round."""
    for text, path in (('{"hooks": []}', ("hooks", "a")), ("[]", ("a",)), ('{"hooks": {"a": {}}}', ("hooks", "a"))):
        with pytest.raises(jsontext.Unreadable):
            jsontext.append(text, path, 1)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ('{\n  "servers": { // mine\n  }\n}\n', '{\n  "servers": { // mine\n  }\n}\n'),
        ('{\n  "servers": {}, // mine\n}\n', "{ // mine\n}\n"),
        (
            '{\n  "servers": {}, /* a, b */\n  // theme\n  "theme": 1\n}\n',
            '{\n  /* a, b */\n  // theme\n  "theme": 1\n}\n',
        ),
        ('// mine\n{"servers": {}}\n', "// mine\n{}\n"),
    ],
)
def test_no_comment_is_lost(text: str, left: str) -> None:
    """What was there empty comes back as it was; where a formatter took its mark away, at least each comment stays."""
    path = ("servers", "avfs")
    put = jsontext.put(text, path, 1)
    assert jsontext.drop(put, path) == text
    assert jsontext.drop(re.sub(" +\n", "\n", put), path) == left

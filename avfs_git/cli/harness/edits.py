"""Changes of files that belong to the user or a project, each of which can be taken back.

Decided here: four kinds of change: a member or an element of a JSON file, a table of a TOML file, a marked block of a
text, a whole file. What avfs does not know in a file stays; a file that cannot be read is refused, with the line.
`cli.harness.plan` lists the changes for each harness, `cli.commands.running.setup` makes them. Pure functions of a
file's content.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from pathlib import Path

from avfs_git.cli.harness import jsontext
from avfs_git.errors import InvalidInput
from avfs_git.values import value_class

_BEGIN, _END = "<!-- avfs:begin -->", "<!-- avfs:end -->"
_JOINED = "<!-- avfs:begin joined -->"
"""Begins a block in a file whose last line did not end."""
_BLOCK = re.compile(r"(?P<before>\n?)<!-- avfs:begin(?P<joined> joined)? -->\n.*?<!-- avfs:end -->\n", re.DOTALL)
_OWN = re.compile(r"^name: avfs$|Written by `avfs setup", re.MULTILINE)
"""Is in each file that is avfs's own."""
_TOML_BEGIN, _TOML_END = "# avfs:begin", "# avfs:end"
_TOML = re.compile(r"\n?# avfs:begin(?P<joined> joined)?\n.*?# avfs:end\n", re.DOTALL)


@value_class
class JsonMember:
    """A member of a JSON file, such as `mcpServers.avfs`."""

    path: Path
    keys: Sequence[str]
    value: object
    stays: bool = False
    """Whether it stays when the rest is taken back, unless nothing else is left: as the version of a format."""

    def apply(self, text: str | None) -> str:
        """Give the content with the change, which may be there already; None is a missing file."""
        text = _none_if_blank(text)
        if self.stays and text is not None and self.keys[0] in dict_of(text):
            return text
        return jsontext.put(text, self.keys, self.value)

    def revert(self, text: str) -> str | None:
        """Give the content without the change; None if the file was made for it."""
        if not text.strip():
            return text
        is_own = (
            dict_of(text) == {self.keys[0]: self.value} if self.stays else jsontext.get(text, self.keys) == self.value
        )
        return jsontext.drop(text, self.keys) if is_own else text  # else it is the user's own


@value_class
class JsonElement:
    """An element of a list in a JSON file, such as a hook."""

    path: Path
    keys: Sequence[str]
    value: object

    def apply(self, text: str | None) -> str:
        """See `JsonMember`."""
        return jsontext.append(_none_if_blank(text), self.keys, self.value)

    def revert(self, text: str) -> str | None:
        """See `JsonMember`."""
        if not text.strip():
            return text
        return jsontext.drop(text, self.keys, self.value)


@value_class
class TomlTable:
    """A table at the end of a TOML file."""

    path: Path
    keys: Sequence[str]
    lines: str

    def apply(self, text: str | None) -> str:
        """See `JsonMember`."""
        is_new, text = text is None, text or ""
        found: object = _parse_toml(text)
        for key in self.keys:
            found = found.get(key) if isinstance(found, dict) else None
        if found is not None:  # by avfs or by the user
            return text
        without = _TOML.sub("", text)
        joined = "" if not without or without.endswith("\n") else " joined"
        gap = "" if is_new else "\n\n" if joined else "\n"
        made = f"{without}{gap}{_TOML_BEGIN}{joined}\n{self.lines}{_TOML_END}\n"
        _parse_toml(made)
        return made

    def revert(self, text: str) -> str | None:
        """See `JsonMember`."""
        return _take_out(_TOML, text)


@value_class
class MarkedBlock:
    """A block of a text for agents, between two comments."""

    path: Path
    body: str

    def apply(self, text: str | None) -> str:
        """See `JsonMember`."""
        is_new, text = text is None, text or ""
        _check_marks(text)
        found = _BLOCK.search(text)
        if found is not None:
            begin = _JOINED if found["joined"] else _BEGIN
            return f"{text[: found.start()]}{found['before']}{begin}\n{self.body}{_END}\n{text[found.end() :]}"
        if is_new:
            return f"{_BEGIN}\n{self.body}{_END}\n"
        gap, begin = ("\n", _BEGIN) if not text or text.endswith("\n") else ("\n\n", _JOINED)
        return f"{text}{gap}{begin}\n{self.body}{_END}\n"

    def revert(self, text: str) -> str | None:
        """See `JsonMember`."""
        _check_marks(text)
        return _take_out(_BLOCK, text)


@value_class
class WholeFile:
    """A file that is avfs's own."""

    path: Path
    content: str

    def apply(self, text: str | None) -> str:
        """See `JsonMember`."""
        if text is not None and not _OWN.search(text):
            raise InvalidInput("another file has its name")
        return self.content

    def revert(self, text: str) -> str | None:
        """See `JsonMember`."""
        return None if text == self.content else text


Edit = JsonMember | JsonElement | TomlTable | MarkedBlock | WholeFile
"""A change of one file."""


def dict_of(text: str) -> dict[str, object]:
    """Read a JSON document that is an object."""
    value = jsontext.parse(text).value
    if not isinstance(value, dict):
        raise jsontext.Unreadable(text, 0, "an object is needed")
    return value


def _take_out(block: re.Pattern[str], text: str) -> str | None:
    """Take avfs's block out of a text, with the line break that joined it; None if the file was made for it."""
    found = block.search(text)
    if found is None:
        return text
    before = text[: found.start()]
    left = (before.removesuffix("\n") if found["joined"] else before) + text[found.end() :]
    return left if left or found[0].startswith("\n") else None


def _none_if_blank(text: str | None) -> str | None:
    return text if text and text.strip() else None


def _check_marks(text: str) -> None:
    begins, ends = text.count("<!-- avfs:begin"), text.count(_END)
    if begins != ends or ends > 1 or text.find("<!-- avfs:begin") > text.find(_END):
        line = text.count("\n", 0, max(text.find("<!-- avfs:begin"), text.find(_END))) + 1
        raise InvalidInput(f"the marks of avfs's block do not match, at line {line}")


def _parse_toml(text: str) -> dict[str, object]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"it is not TOML: {error}") from error

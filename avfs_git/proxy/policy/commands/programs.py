"""What is known of programs, read from `programs.txt`.

Decided here: how that file is read; what stands in it, its own first lines explain. `arguments`, `classify` and
`checks` ask for entries. An entry is parsed when its program is first met, so that a command pays for what it names.
Safe from any thread.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Literal

from avfs_git.patterns import compiled
from avfs_git.values import NamedTuple, field, record_class

Takes = Literal["nothing", "value", "attached"]
"""How an option takes a value: not at all, as the next word or attached, only attached."""
Means = Literal["text", "path", "written", "command"]
"""What the value of an option is."""


class Option(NamedTuple):
    """What is known of an option."""

    takes: Takes = "nothing"
    means: Means = "text"
    does: str = ""
    """Letters that it adds to those of the program."""
    why: str = ""


@record_class
class Program:
    """An entry of the table."""

    name: str
    """The first name of the entry: subcommands are listed below it."""
    does: str
    why: str
    options: dict[str, Option] = field(default_factory=dict)
    about: frozenset[str] = frozenset()
    operands: tuple[str, ...] = ()
    """The words behind `operands`; empty for paths that are read."""
    other: str = ""
    """What a subcommand does that is not listed; empty for a program without subcommands."""
    check: str = ""

    @property
    def only_reads(self) -> bool:
        """Whether it changes nothing, with the options that are listed."""
        return "w" not in self.does and "d" not in self.does

    @property
    def runs(self) -> int | None:
        """Number of operands before a nested command; None without one."""
        return int(self.operands[1]) if self.operands[:1] == ("command",) else None


_HEADER = compiled(r"^(?![# \n])(.+): ([rwdnhi]+)(?: (.*))?$", re.MULTILINE)
_VERSIONED = compiled(r"(.*?[A-Za-z+])[-.0-9]+")
_KINDS: dict[str, Option] = {
    "flags": Option(),
    "values": Option("value", "path"),
    "texts": Option("value"),
    "attached": Option("attached"),
    "writes": Option("value", "written", "w", "writes a file"),
    "runs": Option("value", "command"),
}


@lru_cache(maxsize=1)
def _read_index() -> tuple[str, dict[str, re.Match[str]]]:
    text = Path(__file__).with_name("programs.txt").read_text("utf-8")
    return text, {name: match for match in _HEADER.finditer(text) for name in match[1].split(", ")}


def names() -> list[str]:
    """Name all entries, those of subcommands with a space."""
    return [name for name in _read_index()[1] if not name.startswith("@")]


@lru_cache(maxsize=512)
def find(name: str) -> Program | None:
    """Give the entry of a program, or of a subcommand as `git log`; None without an entry."""
    text, index = _read_index()
    header = index.get(name)
    if header is None:
        return None
    made = Program(header[1].split(", ")[0], header[2].replace("r", ""), header[3] or "")
    for line in text[header.end() + 1 :].split("\n"):
        if not line.startswith("    "):
            break
        _read_line(line.strip(), made)
    return made


def find_program(name: str) -> Program | None:
    """Give the entry of the program that a word names, also with a version behind it, such as `python3.12` or `gcc-13`.

    No program has the name of a subcommand: the word `"git log"` names another file.
    """
    if " " in name:
        return None
    found = find(name)
    if found is None and (match := _VERSIONED.fullmatch(name)):
        found = find(match[1])
    return found


def _read_line(line: str, made: Program) -> None:
    """Read one line of an entry.

    Raises:
        ValueError: If it is of no known kind.
    """
    kind, _, rest = line.partition(" ")
    if kind in _KINDS:
        made.options.update(dict.fromkeys(rest.split(), _KINDS[kind]))
    elif kind == "like":
        other = find(rest)
        made.options.update(other.options if other else {})
    elif kind == "does":
        what, _, options = rest.partition(": ")
        letters, _, why = what.partition(" ")
        for option in options.split():
            takes: Takes = "attached" if option.endswith("[]") else "value" if option.endswith("=") else "nothing"
            made.options[option.removesuffix("[]").removesuffix("=")] = Option(
                takes, "path" if takes == "value" else "text", letters, why
            )
    elif kind == "about":
        made.about = frozenset(rest.split())
    elif kind == "operands":
        made.operands = tuple(rest.split())
    elif kind == "subcommands":
        made.other = rest
    elif kind == "check":
        made.check = rest
    else:
        raise ValueError(f"a line of an entry of programs.txt begins with '{kind}'")

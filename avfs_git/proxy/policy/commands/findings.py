"""What was found in a command so far, and what each look at a part of it adds.

Decided here: how a finding is made, and which paths and targets count as outside of the workspace. `Classifier` walks
the command and is the only subclass; `checks`, `shellbuiltins` and `foreign` get it as a `Findings`, so that none of
them imports it. One object for one request, used by one thread.
"""

from __future__ import annotations

import posixpath
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from avfs_git.patterns import compiled
from avfs_git.proxy.policy.commands.arguments import Arguments
from avfs_git.proxy.policy.commands.programs import Program
from avfs_git.proxy.policy.decision import Category, Finding
from avfs_git.proxy.shell import locations
from avfs_git.proxy.shell.words import GLOB, HOME, TEMPORARY, UNKNOWN, Word, name_part
from avfs_git.values import record_class, replace

_LETTERS = {
    "r": Category.READ_ONLY,
    "w": Category.MUTATING,
    "d": Category.DESTRUCTIVE,
    "n": Category.NETWORKED,
    "h": Category.HOST_ESCAPE_RISK,
    "i": Category.INTERACTIVE,
}
_WORST = "wdnh"
_MAX_FINDINGS = 2000
_MAX_SHOWN = 200

_URL = compiled(r"[A-Za-z][A-Za-z0-9+.-]{0,40}://\S*")
_OUTPUT = compiled(
    r"(?:-o|--?(?:[A-Za-z0-9]+[-_])*(?:out|output|outfile|outdir|outDir|dest|destination|destdir|target-dir|export)(?:[-_][A-Za-z0-9]+)*)"
    r"(?:=(.*)|(?<=-o)(/.*))?",
    re.DOTALL,
)
"""Options by whose name a program writes there, with the value where it is attached."""


@record_class
class Place:
    """Where a simple command stands, and what is true there."""

    text: str
    start: int | None
    end: int | None
    directories: frozenset[str]
    stdin: Word | None
    is_fed: bool
    is_typed: bool = False
    """Whether it reads what a person types at a terminal."""
    words: tuple[Word, ...] = ()
    paths: tuple[str, ...] = ()


@record_class
class Call:
    """A known program with its words."""

    name: str
    program: Program
    words: tuple[Word, ...]
    arguments: Arguments
    place: Place


class Findings(ABC):
    """The findings about one request.

    Attributes:
        findings: In the order of the text.
        aliases: What the text has defined so far.
    """

    def __init__(self, mountpoint: str | None) -> None:
        self.findings: list[Finding] = []
        self.aliases: dict[str, str] = {}
        self._mountpoint = posixpath.normpath(mountpoint) if mountpoint else None
        self._seen: set[tuple[object, ...]] = set()
        self._looked_at: list[str] = []
        """Paths that the command at hand names."""

    # --- commands in commands --------------------------------------------------------------------

    @abstractmethod
    def text(self, text: str, place: Place) -> None:
        """Classify text for a shell; `place` is that of the command that hands it to one."""

    @abstractmethod
    def program(self, words: tuple[Word, ...], place: Place) -> None:
        """Classify a command with its arguments."""

    @abstractmethod
    def subcommand(self, call: Call) -> None:
        """Classify what stands behind the name of a program that has subcommands."""

    @abstractmethod
    def assignment(self, name: str, value: Word, place: Place) -> None:
        """Look at a variable: some make programs run something."""

    def inner(self, name: str, words: Sequence[Word], place: Place) -> None:
        """Classify a command that another one runs."""
        if words:
            self.program(tuple(words), place)
        else:
            self.add("r", f"{name} runs nothing", place)

    def expanded(self, text: str, place: Place) -> None:
        """Classify the substitutions in a value that the shell expands once more."""
        if not re.search(r"\$\(|`", text):
            return
        self.add("w", "a value holds a substitution, which the shell may run", place)
        plain = re.sub(r'["\\]', "", text)  # what they would hide counts
        self.text(f'echo "{plain}"', place)

    def command_value(self, name: str, option: str, value: Word | None, place: Place) -> None:
        """Look at an option whose value is a command."""
        if value is None or not value.exact:
            self.unseen(f"{name} {option} runs a command that is not known", place)
            return
        text = value.value
        if option == "--checkpoint-action":
            if not text.startswith("exec="):
                self.add("w", f"{name} {option} writes what it is told", place)
                return
            text = text.removeprefix("exec=")
        if text:
            self.add("r", f"{name} {option} runs a command", place)
            self.text(text, replace(place, is_fed=True, stdin=None))

    # --- findings --------------------------------------------------------------------------------

    def add(
        self,
        letters: str,
        reason: str,
        place: Place,
        *,
        paths: tuple[str, ...] | None = None,
        exact: bool | None = None,
    ) -> None:
        """Add one finding for each letter, about the command at a place, or about some paths of it."""
        words = place.words
        finding = Finding(
            category=Category.READ_ONLY,
            reason=reason,
            text=_shorten(place.text),
            start=place.start,
            end=place.end,
            command=tuple(show(word) for word in words[:64]),
            paths=place.paths if paths is None else paths,
            exact=all(word.exact for word in words) and len(words) <= 64 if exact is None else exact,
        )
        for letter in letters:
            # Not by comparing findings, which would load `dataclasses`.
            key = (letter, reason, finding.text, finding.start, finding.paths, finding.command)
            if key in self._seen or len(self.findings) > _MAX_FINDINGS:
                continue
            self._seen.add(key)
            self.findings.append(replace(finding, category=_LETTERS[letter]))
            if len(self.findings) == _MAX_FINDINGS:  # what stands behind must not hide there
                reason = "there is more in the text than is looked at"
                self.findings += [
                    replace(finding, category=_LETTERS[each], reason=reason, exact=False) for each in _WORST
                ]

    def unseen(self, reason: str, place: Place) -> None:
        """Add that something may do everything."""
        self.add(_WORST, f"{reason}, so that it may do anything", place, exact=False)

    # --- paths -----------------------------------------------------------------------------------

    def words_as_paths(self, words: Sequence[Word], place: Place) -> None:
        """Look at every word as `path` does."""
        for word in words:
            self.path(word, place)

    def written_options(self, words: Sequence[Word], place: Place) -> None:
        """Look at option values that name the output of a program that may write: system directories count."""
        for number, word in enumerate(words):
            if match := _OUTPUT.fullmatch(word.value):
                attached = match[1] or match[2]
                value = replace(word, value=attached) if attached else next(iter(words[number + 1 : number + 2]), None)
                if value is not None:
                    self.target(value, place, may_be_unknown=True)

    def all_paths(self, words: Iterable[Word], place: Place) -> tuple[str, ...]:
        """Give every path that words may name: whole, behind `=`, `:` and the like, and behind an option's letter."""
        paths: list[str] = []
        for word in words:
            for piece in _pieces(word.value):
                paths += self.resolve(replace(word, value=piece), place)
        return tuple(dict.fromkeys(paths))[:64]

    def resolve(self, word: Word, place: Place) -> tuple[str, ...]:
        """Give the paths that a word may mean: from the root of the workspace, absolute if outside."""
        return tuple(locations.shown(each) for each in self._locations(word.value, place))

    def _locations(self, value: str, place: Place) -> list[str]:
        found = sorted({locations.locate(value, each, self._mountpoint) for each in place.directories})
        return (
            found
            if value.startswith(UNKNOWN) or found != [locations.NOWHERE]
            else [locations.locate(value, ":", self._mountpoint)]
        )

    def path(self, word: Word, place: Place) -> None:
        """Look whether a word names something outside the workspace, whole or behind `=`, `:` or an option's letter."""
        value = word.value
        for match in _URL.finditer(value):
            if match[0].lower().startswith("file://"):
                self._outside(match[0][7:] or "/", word, place)
        for piece in sorted(_pieces(value)):
            self._looked_at += self.resolve(replace(word, value=piece), place)
            self._outside(piece, word, place)

    def _outside(self, value: str, word: Word, place: Place) -> None:
        if value.startswith("~") and value != word.value:
            value = HOME + value[1:]
        for location in self._locations(value, place):
            if locations.is_outside(location) and not locations.may_be_read(location):
                shown = (locations.shown(location),)
                self.add("h", "names a path outside of the workspace", place, paths=shown, exact=word.exact)
                return

    def target(self, word: Word, place: Place, *, may_be_unknown: bool = False, removes: bool = False) -> None:
        """Look at what is destroyed or overwritten: it lies outside until it is proven to lie inside.

        `may_be_unknown` says that an unknown target is no harm. With `removes`, a target below a directory that may be
        missing needs a question.
        """
        if not word.value:
            return
        value = name_part(word.value) if word.is_pattern else word.value
        self._looked_at += self.resolve(word, place)
        crosses = GLOB in posixpath.dirname(value)  # directories that are not named may be links
        for location in sorted({locations.locate(value, each, self._mountpoint) for each in place.directories}):
            if locations.is_inside(location) and not crosses:
                continue
            is_scratch = locations.may_be_written(location, self._mountpoint, removes=removes) and GLOB not in value
            if is_scratch and not (removes and location.startswith(f"{TEMPORARY}/")):
                continue
            is_known = locations.is_outside(location) and UNKNOWN not in location
            if not is_known and may_be_unknown and not locations.is_outside(location):
                continue
            what = (
                "writes to a path outside of the workspace"
                if is_known
                else "writes to, or removes, what is not known before it runs"
            )
            self.add("h", what, place, paths=(locations.shown(location),), exact=word.exact)
            return


def _pieces(value: str) -> set[str]:
    """Give what of a word may be a path."""
    value = _URL.sub("", value)
    if not value or value in {"-", "/dev/stdin"}:
        return set()
    pieces = {value}
    if value.startswith("-"):
        pieces = {value[2:]} if not value.startswith("--") else set()
    pieces |= set(re.split(r"[=:,@]", value)[1:])
    return {piece for piece in pieces if piece}


def show(word: Word) -> str:
    """Give a word as people know it: its value, or its text where that is not known."""
    return word.value if word.exact else word.text or "…"


def _shorten(text: str) -> str:
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "…"

"""The words of a command, taken apart into options and operands as getopt does.

Decided here, and nowhere else: groups of short options, shortened long ones, values, `--`, and what a word that is not
known may turn out to be. An option that is shortened is every option that it may be. One that the program's entry does
not list is named in `unknown`, because the word behind it may be its value or not. `classify` calls this. Pure
functions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from avfs_git.proxy.policy.commands.programs import Option, Program
from avfs_git.proxy.shell.words import GLOB, UNKNOWN, Word
from avfs_git.values import field, record_class, replace, value_class


@value_class
class Given:
    """An option of a command."""

    name: str
    """As it is written, without its value."""
    may_be: tuple[tuple[str, Option], ...]
    """Every option that it may be, by its whole name; empty for an option that the entry does not list."""
    value: Word | None = None

    def is_one_of(self, *names: str) -> bool:
        """Whether it may be one of these."""
        return any(name in names for name, _ in self.may_be)


@record_class
class Arguments:
    """The words of a command behind its name, taken apart."""

    options: list[Given] = field(default_factory=list)
    operands: list[Word] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Options that the entry does not list."""
    may_be_option: bool = False
    """Whether some word is not known that may be an option."""

    def has(self, *names: str) -> bool:
        """Whether one of these options may be given."""
        return any(given.is_one_of(*names) for given in self.options)

    def values(self, *names: str) -> list[Word | None]:
        """Give the values of options."""
        return [given.value for given in self.options if given.is_one_of(*names)]


def take_apart(words: Sequence[Word], program: Program, *, stops: bool) -> Arguments:
    """Tell options from operands, as getopt does.

    With `stops`, everything behind the first operand is left as it is.
    """
    rest = list(words)
    made = Arguments()
    while rest:
        word = rest.pop(0)
        value = word.value
        if word.exact and value == "--":
            made.operands += rest
            break
        if may_be_option(word):
            made.may_be_option = True
        if not value.startswith("-") or value == "-":
            made.operands.append(word)
            if stops:
                made.operands += rest
                break
        elif value.startswith("--"):
            _take_long(word, program, rest, made)
        elif "-NUM" in program.options and re.fullmatch(r"-\d+", value):
            made.options.append(Given(value, (("-NUM", program.options["-NUM"]),)))
        else:
            _take_letters(word, program, rest, made)
    return made


def _take_long(word: Word, program: Program, rest: list[Word], made: Arguments) -> None:
    name, equals, attached = word.value.partition("=")
    may_be = find_long(name, program)
    kinds = {option.takes for _, option in may_be}
    value = replace(word, value=attached) if equals else None
    if not may_be or (len(kinds) > 1 and "value" in kinds and not equals):
        made.unknown.append(name)
    elif kinds == {"value"} and not equals:
        value = _take_value(rest, made)
    made.options.append(Given(name, may_be, value))


def _take_value(rest: list[Word], made: Arguments) -> Word | None:
    """Take the next word as a value; a word that may come to several may hold an option behind the value."""
    if not rest:
        return None
    made.may_be_option = made.may_be_option or rest[0].splits
    return rest.pop(0)


def find_long(name: str, program: Program) -> tuple[tuple[str, Option], ...]:
    """Find what a long option may be: itself, all that it may be short for, or the contrary of a harmless one."""
    exact = program.options.get(name)
    if exact is not None:
        return ((name, exact),)
    found = tuple(
        (whole, option) for whole, option in program.options.items() if whole.startswith(name) and len(name) > 2
    )
    if not found and name.startswith("--no-"):
        contrary = program.options.get("--" + name.removeprefix("--no-"))
        if contrary is not None and not contrary.does and contrary.means != "command":
            return ((name, Option()),)
    return found


def _take_letters(word: Word, program: Program, rest: list[Word], made: Arguments) -> None:
    """Read short options in a group; the value of one stands behind it, or is the next word."""
    whole = program.options.get(word.value)
    # such as `xxd -ps`, `openssl req -subj NAME`
    if whole is not None and len(word.value) > 2 and whole.takes != "attached":
        value = _take_value(rest, made) if whole.takes == "value" else None
        made.options.append(Given(word.value, ((word.value, whole),), value))
        return
    letters = word.value[1:]
    for at, letter in enumerate(letters):
        name = f"-{letter}"
        option = program.options.get(name)
        attached = letters[at + 1 :]
        if option is None:
            # What is behind it may be its value, or further options: both count.
            made.unknown.append(name)
            made.options.append(Given(name, (), replace(word, value=attached) if attached else None))
            if not attached.isalpha():
                return
        elif option.takes == "nothing":
            made.options.append(Given(name, ((name, option),)))
        else:
            value = replace(word, value=attached) if attached else None
            if value is None and option.takes == "value" and rest:
                value = _take_value(rest, made)
            made.options.append(Given(name, ((name, option),), value))
            return


def may_be_option(word: Word) -> bool:
    """Whether a word that is not known may turn out as an option, or as several words."""
    if word.exact:
        return False
    if word.value.startswith((UNKNOWN, GLOB, "*", "?", "[", "-")):
        return True
    return word.splits

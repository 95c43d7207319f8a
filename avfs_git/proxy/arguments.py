"""The words of a command, taken apart into options and operands as getopt does.

Decided here: groups of short options, long ones that are shortened, values, `--`, and what a word that is not known may turn out
to be. `classify` calls this for programs of the table. Pure functions.
"""

from __future__ import annotations

from collections.abc import Sequence

from avfs_git.proxy.commands import Option, Program, read_options
from avfs_git.proxy.words import UNKNOWN, Word
from avfs_git.values import record_class, replace


@record_class
class Arguments:
    """The words of a command behind its name, taken apart."""

    options: list[tuple[str, Word | None]]
    """Each with its value, where it has one."""
    operands: list[Word]
    is_unclear: bool = False
    """Whether an option is not in the table, so that the word behind it may be its value, or not."""
    may_be_option: bool = False
    """Whether some word is not known that may be an option."""


def take_apart(words: Sequence[Word], program: Program, *, stops: bool) -> Arguments:
    """Tell options from operands, as getopt does.

    Args:
        words: Behind the name.
        program: What is known of its options.
        stops: Whether everything behind the first operand is left as it is.
    """
    rest = list(words)
    made = Arguments([], [])
    while rest:
        word = rest.pop(0)
        value = word.value
        if word.exact and value == "--":
            made.operands += rest
            break
        if _may_be_option(word):
            made.may_be_option = True
        if not value.startswith("-") or value == "-":
            made.operands.append(word)
            if stops:
                made.operands += rest
                break
        elif value.startswith("--"):
            name, equals, attached = value.partition("=")
            kind = _kind_of(name, program)
            given = replace(word, value=attached) if equals else rest.pop(0) if kind == "value" and rest else None
            made.options.append((name, given))
            made.is_unclear = made.is_unclear or kind == "unknown"
        else:
            _take_letters(word, program, rest, made)
    return made


def _take_letters(word: Word, program: Program, rest: list[Word], made: Arguments) -> None:
    """Read short options in a group; the value of one stands behind it, or is the next word."""
    letters = word.value[1:]
    for at, letter in enumerate(letters):
        name = f"-{letter}"
        kind = _kind_of(name, program)
        made.is_unclear = made.is_unclear or kind == "unknown"
        if kind in {"value", "attached"}:
            attached = letters[at + 1 :]
            follows = kind == "value" and bool(rest)
            given = replace(word, value=attached) if attached else rest.pop(0) if follows else None
            made.options.append((name, given))
            return
        made.options.append((name, None))


def _kind_of(name: str, program: Program) -> str:
    """Tell how an option takes a value: `value`, `attached`, `none`, or `unknown`."""
    if name in program.attached.split():
        return "attached"
    values = program.values.split()
    table = read_options(program.options) if program.options else {}
    if name in values or any(effect.does == "x" for effect in effects(name, table)):
        return "value"
    if name in table or name in program.flags.split():
        return "none"
    return "value" if name.startswith("--") and any(each.startswith(name) for each in values) else "unknown"


def effects(option: str, table: dict[str, Option]) -> list[Option]:
    """Find what an option does; long ones may be shortened."""
    if not table:
        return []
    if option in table:
        return [table[option]]
    if option.startswith("--") and len(option) > 2:
        return [effect for name, effect in table.items() if name.startswith(option)]
    return []


def _may_be_option(word: Word) -> bool:
    """Whether a word that is not known may turn out as an option, or as several words."""
    if word.exact:
        return False
    if word.value.startswith((UNKNOWN, "*", "?", "[", "-")):
        return True
    return UNKNOWN in word.value and not word.text.startswith('"')

"""What scripts of sed and awk do that stand in the command.

Decided here: which scripts only look at lines, and which texts the others hand to a shell. A script of sed is taken
apart as GNU's does it; where that fails, it may do anything. `checks` calls this. Functions without state.
"""

from __future__ import annotations

import re

from avfs_git.patterns import compiled
from avfs_git.proxy.policy.commands import foreign
from avfs_git.proxy.policy.commands.findings import Call, Findings, Place
from avfs_git.values import replace

# A delimiter in brackets is not known: it counts there for some programs, and not for others. A group that gives
# nothing back is `(?>(?:X)*)`: Python before 3.11.5 finds nothing with `(?:X)*+` (gh-101955).
_SED_ADDRESS = r"(?:\d+|\$|/(?>(?:[^/\\\n\[]|\\[^\n]|\[\^?+[^]/\\\n]+\])*)/)"
_SED_SUBSTITUTE = (
    r"s([^\\\n\s\w;\[\]])(?>(?:(?!\1)[^\\\n\[]|\\[^\n]|\[\^?+(?:(?!\1)[^]\\\n])+\])*)\1(?>(?:(?!\1)[^\\\n]"
    r"|\\[^\n])*)\1[gpI\d]*+"
)
_SED_PLACE = rf"(?>(?:{_SED_ADDRESS}(?>(?:,{_SED_ADDRESS})?))?)"
_SED_LOOKS = compiled(rf"(?>(?:[ \t]*+{_SED_PLACE}(?>(?:!?[pdqD=]|{_SED_SUBSTITUTE})?)[ \t]*+(?:[;\n]|\Z))*)")
"""Scripts that print, drop and substitute."""
_AWK_ACTS = compiled(r"system|getline|ARGV|[|>@]|/inet")
"""What runs, reads or writes something in a program of awk, or may."""
_AWK_TEXT = compiled(r'"(?>(?:\\.|[^"\\\n])*)"', re.DOTALL)
_AWK_RUNS = compiled(r"(?<!\|)\|&?\s*\"([^\"\n]+)\"|\"([^\"\n]+)\"\s*\|&?\s*getline")
"""A literal text that awk hands to a shell."""
_AWK_HIDES = compiled(r"system\s*\((?!\s*\"\"\s*\))|[^\s\"|]\s*+\|&?\s*getline|@load|@\s*\w+\s*\(")
"""A text that awk makes as it runs, in a program whose texts are left out; a library of code."""
_AWK_PIPES = compiled(r"(?<!\|)\|(?!\|)&?\s*+[^\s\"&]")

_SED_BETWEEN = compiled(r"[\s;{},!$\d+~]*+")
_SED_LETTERS = compiled("[IM]*+")
_SED_LINE = compiled(r"(?>(?:\\.|[^\n\\])*)", re.DOTALL)
_SED_FLAGS = compiled(r"[ \tgpIiMme\d]*+")
_SED_ARGUMENTS = {
    **dict.fromkeys("#rRwW", compiled(r"[^\n]*+")),
    **dict.fromkeys("aice", _SED_LINE),
    **dict.fromkeys(":btT", compiled(r"[ \t]*+[^\s;}]*+")),
    **dict.fromkeys("lLqQv", compiled(r"[ \t]*+[\d.]*+")),
    **dict.fromkeys("=dDgGhHnNpPxzF", compiled("")),
}
"""What stands behind the letter of a command."""


# --- sed ---------------------------------------------------------------------------------------------------


def check_sed(c: Findings, call: Call) -> None:
    """Look into the scripts on the command line, and at the files that `-i` changes."""
    arguments = call.arguments
    given = arguments.values("-e", "--expression")
    files = arguments.values("-f", "--file")
    operands = list(arguments.operands)
    if files:
        c.add("w", "a script of sed stands in a file that is not looked into", call.place)
    if not given and not files and operands:
        given = [operands.pop(0)]
    for text in given:
        if not text or not text.exact:
            c.add("w", "not all of a script of sed is known", call.place, exact=False)
        elif not _SED_LOOKS.fullmatch(text.value):
            c.add("w", "a script of sed may do more than look at lines", call.place)
            foreign.look_at_text(c, text, call.place, (foreign.SHELL,))
            _look_for_runs(c, text.value, call.place)
    for suffix in arguments.values("-i", "--in-place"):
        if suffix is not None and "/" in suffix.value:
            c.target(replace(suffix, value=suffix.value.replace("*", "x")), call.place)
    call.place.paths = c.all_paths([*operands, *(value for value in files if value)], call.place)
    for word in operands:
        if arguments.has("-i", "--in-place"):
            c.target(word, call.place, may_be_unknown=True)
        c.path(word, call.place)
    if call.place.paths:
        c.add("w" if arguments.has("-i", "--in-place") else "r", "sed reads or changes a file", call.place)


def _look_for_runs(c: Findings, script: str, place: Place) -> None:
    # Versions of sed differ in whether a delimiter counts in brackets.
    ways = [found for has_brackets in (False, True) if (found := _find_runs(script, has_brackets)) is not None]
    for text in dict.fromkeys(text for found in ways for text in found):
        if text:
            c.text(text, replace(place, is_fed=True, stdin=None))
        else:
            c.unseen("sed runs what it reads", place)
    if not ways:
        c.unseen("a script of sed cannot be read", place)


def _find_runs(script: str, has_brackets: bool) -> list[str] | None:
    """Find what a script hands to a shell, an empty text for what it reads; nothing if it is no script."""
    found: list[str] = []
    at: int | None = 0
    while at is not None:
        at = _match(_SED_BETWEEN, script, at)
        letter = script[at : at + 1]
        if not letter:
            return found
        if letter in "/\\":  # of an address
            at = _skip_part(script, at + (letter == "\\"), has_brackets)
            at = _match(_SED_LETTERS, script, at) if at is not None else None
        elif letter in "sy":
            end = _skip_part(script, at + 1, has_brackets and letter == "s")
            at = _skip_part(script, end - 1, has_brackets=False) if end is not None else None
            if at is not None and letter == "s":
                flags, at = at, _match(_SED_FLAGS, script, at)
                if "e" in script[flags:at]:
                    found.append("")
                if script[at : at + 1] == "w":
                    at = _match(_SED_LINE, script, at)
        elif letter in _SED_ARGUMENTS:
            end = _match(_SED_ARGUMENTS[letter], script, at + 1)
            if letter == "e":
                found.append(re.sub(r"\\(\s)", r"\1", script[at + 1 : end]).strip())
            at = end
        else:
            return None
    return None


def _match(pattern: re.Pattern[str], script: str, at: int) -> int:
    match = pattern.match(script, at)
    return match.end() if match else at


def _skip_part(script: str, at: int, has_brackets: bool) -> int | None:
    """Give the end of what stands between the delimiter at a place and the next one; None without one."""
    delimiter = re.escape(script[at : at + 1])
    brackets = r"\[\^?+\]?+(?:\[:\w+:\]|[^]\n]){0,200}\]|" if has_brackets else ""
    match = re.compile(rf"{delimiter}(?>(?:\\.|{brackets}(?!{delimiter}).)*){delimiter}", re.DOTALL).match(script, at)
    return match.end() if delimiter and match else None


# --- awk ---------------------------------------------------------------------------------------------------


def check_awk(c: Findings, call: Call) -> None:
    """Look into the programs on the command line, and at the files that `-i inplace` changes."""
    arguments = call.arguments
    given = arguments.values("-e", "--source")
    operands = list(arguments.operands)
    if arguments.has("-f", "--file", "-E", "--exec"):
        c.add("w", "a program of awk stands in a file that is not looked into", call.place)
    elif not given and operands:
        given = [operands.pop(0)]
    for text in given:
        if not text or not text.exact:
            c.add("w", "not all of a script of awk is known", call.place, exact=False)
        elif _AWK_ACTS.search(text.value):
            c.add("w", "a script of awk may do more than look at lines", call.place)
            foreign.look_at_text(c, text, call.place, (foreign.SHELL, _AWK_RUNS))
            program = _AWK_TEXT.sub('""', text.value)
            printed = (statement.partition("print")[2] for statement in re.split("[;}\n]", program))
            if _AWK_HIDES.search(program) or any(map(_AWK_PIPES.search, printed)):
                c.unseen("what awk runs is not known", call.place)
            if "/inet" in text.value:
                c.add("n", "awk talks to another machine", call.place)
    if arguments.has("-i", "--include"):  # `-i inplace`
        for word in operands:
            c.target(word, call.place, may_be_unknown=True)
    call.place.paths = c.all_paths(operands, call.place)
    c.words_as_paths(operands, call.place)
    if operands:
        c.add("r", "awk reads a file", call.place)

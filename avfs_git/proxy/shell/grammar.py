"""A text as bash's own grammar has it (tree-sitter-bash), within limits of time.

Decided here: which texts are not given to the grammar, because it might take minutes with them, and what it gets of the
others. Called by `shell` alone, from any thread; the grammar is loaded by the first call.
"""

from __future__ import annotations

import re
import time
from functools import lru_cache
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any

from avfs_git.patterns import compiled

if TYPE_CHECKING:
    from tree_sitter import Language, Tree

MAX_SECONDS = 2.0
"""Processor time after which reading is given up: the grammar is slow with some texts that are no commands."""
_CHUNK = 1 << 16
_MAX_DOCUMENTS = 50
_MAX_MARKS = 600
_QUOTED_END = compiled(r"<<-?[ \t]*(['\"])\w+\1")
_QUOTED_DOCUMENT = compiled(r"<<-?[ \t]*(['\"])(\w+)\1[^\n]*\n(?:.*?\n)??\t*\2(?=\n|$)", re.DOTALL)
_TIME = compiled(
    r"(?:^|(?<=[;&|({\n!])|(?<=\bdo)|(?<=\bthen)|(?<=\belse))[ \t]*time(?:[ \t]+-p)?"
    r"(?=\s+(?:\(|(?:[{!]|\[\[|if|for|while|until|case|select)[\s(]))"
)
"""The word `time` before a statement: to the grammar a program, with the statement's first words as arguments."""
_LITERAL = compiled(r"\\.|\$\$|(?<![{#!])\$(?=[/.,:%\]|;&])", re.DOTALL)
"""A `$` before which and after which nothing makes it an expansion: bash takes it as it stands, the grammar cannot."""
_ODD = compiled(r"[^\t\n\x20-\x7e]")


@lru_cache(maxsize=1)
def _language() -> Language:
    from tree_sitter import Language  # noqa: PLC0415 - only where there is a text to parse

    return Language(_load_binding("tree_sitter_bash").language())


def _load_binding(package: str) -> Any:
    """Load what a package of a grammar has in C.

    The rest of the package, which nothing here needs, imports `importlib.resources`: that takes longer than to read a
    command.
    """
    from importlib import util  # noqa: PLC0415 - only where there is a text to parse

    around = util.find_spec(package)
    found = (
        PathFinder.find_spec(f"{package}._binding", around.submodule_search_locations) if around is not None else None
    )
    if found is None or found.loader is None:
        raise ModuleNotFoundError(f"{package} is not installed, or has another form than avfs expects", name=package)
    binding = util.module_from_spec(found)
    found.loader.exec_module(binding)
    return binding


def _is_costly(text: str) -> bool:
    """Tell whether the grammar may need minutes: long chains and deep nests are slow, and nothing stops it in time.

    What stands in here-documents with a quoted end, such as files that are written by them, costs it nothing.
    """
    if len(_QUOTED_END.findall(text)) > _MAX_DOCUMENTS:
        return True
    rest = _QUOTED_DOCUMENT.sub("", text)
    return rest.count("<<") > _MAX_DOCUMENTS or any(rest.count(mark) > _MAX_MARKS for mark in "|(){}`&;[<>")


def read_tree(text: str) -> Tree | None:
    """Parse a text; None if that takes too long, or might.

    The grammar gets every letter outside of ASCII, and every control character that is no blank to bash, as a full
    stop: to bash they are ordinary letters that no name of a variable holds, but the scanner behind the grammar asks
    the C library about them, which reads outside of its tables, and takes some of them for blanks. So it gets a `$`
    that begins no expansion. `time` before a statement becomes blanks. So a byte of what is parsed is a letter of the
    text.
    """
    if _is_costly(text):
        return None
    from tree_sitter import Parser  # noqa: PLC0415 - loaded with the language

    plain = _LITERAL.sub(lambda match: "." if match[0] == "$" else match[0], _ODD.sub(".", text))
    data = _TIME.sub(lambda match: " " * len(match[0]), plain).encode("ascii")
    end = time.thread_time() + MAX_SECONDS

    def is_late(_offset: int, _has_error: bool) -> bool:
        return time.thread_time() > end

    try:
        # A parser of its own for each text: one serves one thread.
        return Parser(_language()).parse(lambda at, _point: data[at : at + _CHUNK], progress_callback=is_late)
    except ValueError:
        return None

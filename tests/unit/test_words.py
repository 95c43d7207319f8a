"""How avfs speaks: words that docs/reference/glossary.md gives a better word for are in no new sentence.

Docstrings, comments, texts of options and errors, and docs are read. `words.txt` says how many of these words each
folder has still. The numbers only go down: after making a text plain, run

    python -m pytest tests/unit/test_words.py --update-snapshots

which writes the numbers that are lower now.
"""

from __future__ import annotations

import ast
import functools
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ALLOWED = Path(__file__).with_name("words.txt")
GLOSSARY = ROOT / "docs" / "reference" / "glossary.md"
SHOWN = {"help", "hint", "metavar", "short_help"}
"""Keyword arguments whose text people read."""
NAMED = r"(?:user|users|person|people|caller|callers|developer|developers|owner|author)"


@functools.cache
def words() -> re.Pattern[str]:
    """Read the words to avoid from the glossary."""
    table = GLOSSARY.read_text().split("## Words to avoid", 1)[1]
    found = [word for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for word in re.findall(r"`(.+?)`", row)]
    assert "whoever" in found
    plain = "|".join(re.escape(word) for word in found if word != "who")
    return re.compile(rf"\b(?:{plain}|who)\b", re.IGNORECASE)


def find(text: str) -> Iterator[str]:
    """Find the words in a line of prose; what stands in backquotes is code, and a user who is named is an actor."""
    if words().search(text) is None:
        return
    prose = re.sub(r"`[^`]*`", "", text)
    prose = re.sub(rf"\b{NAMED} who\b", "", prose, flags=re.IGNORECASE)
    yield from (found[0] for found in words().finditer(prose))


def read_python(path: Path) -> Iterator[tuple[int, str]]:
    """Read comments, docstrings and texts of options, line by line."""
    source = path.read_text()
    # else no comment has a word
    if any(words().search(line.partition("#")[2]) for line in source.splitlines() if "#" in line):
        for token in tokenize.generate_tokens(io.StringIO(source).readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string[1:]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            texts = [node.value]
        elif isinstance(node, ast.keyword) and node.arg in SHOWN:
            texts = [part for part in ast.walk(node.value) if isinstance(part, ast.Constant)]
        else:
            continue
        for text in texts:
            if isinstance(text.value, str):
                yield from enumerate(text.value.splitlines(), text.lineno)


def read_markdown(path: Path) -> Iterator[tuple[int, str]]:
    """Read prose line by line."""
    is_code = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif not is_code:
            yield number, line


@functools.cache
def findings() -> dict[str, list[str]]:
    """Find the words of each folder."""
    found: dict[str, list[str]] = {}
    readers = {".py": read_python, ".md": read_markdown}
    for path in sorted([*ROOT.glob("avfs_git/**/*.py"), *ROOT.glob("docs/**/*.md"), ROOT / "README.md"]):
        place = path.relative_to(ROOT)
        folder = "/".join(place.parts[:2][: len(place.parts) - 1]) or "."
        rows = found.setdefault(folder, [])
        for line, text in readers[path.suffix](path):
            rows += [f"{place}:{line}: {word!r} in: {text.strip()}" for word in find(text)]
    return found


def allowances() -> dict[str, int]:
    """Read how many words each folder may have."""
    rows = (line.split() for line in ALLOWED.read_text().splitlines())
    return {folder: int(count) for folder, count in rows}


@pytest.mark.slow
def test_no_folder_gains_words_to_avoid(request: pytest.FixtureRequest) -> None:
    """A text that is written now uses none of them; a folder that has fewer keeps the lower number."""
    allowed, found = allowances(), findings()
    grown = {folder: rows for folder, rows in found.items() if len(rows) > allowed.get(folder, 0)}
    if request.config.getoption("--update-snapshots"):
        lower = {folder: min(len(rows), allowed.get(folder, 0)) for folder, rows in found.items()}
        ALLOWED.write_text("".join(f"{folder} {count}\n" for folder, count in sorted(lower.items()) if count))

    told = [f"{folder}: {len(rows)} words, {allowed.get(folder, 0)} allowed" for folder, rows in grown.items()]
    assert not grown, "\n".join([*told, *(row for rows in grown.values() for row in rows)])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Whoever waits is told.", ["Whoever"]),
        ("told who has it", ["who"]),
        ("the user who mounted it", []),
        ("the process that `whoever` names", []),
        ("somewhere, bothersome, wholesome", []),
        ("there is one that waits", ["one that"]),
    ],
)
def test_what_is_found(text: str, expected: list[str]) -> None:
    """Whole words of prose are found, in any case."""
    assert list(find(text)) == expected

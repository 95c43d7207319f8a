"""Globs match what backtracking expressions match, without the time that these take."""

from __future__ import annotations

import random
import re

import pytest

from avfs_git.errors import InvalidInput
from avfs_git.globs import Gap, Glob, PathGlobs, check_glob

_PLAIN = {Gap.TEXT: ".*", Gap.NAME: "[^/]*", Gap.DIRECTORIES: "(?:.*/)?", Gap.BELOW: "(?:/.*)?"}


def test_a_glob_matches_as_with_every_place_tried() -> None:
    """For each gap, `re` tries each length; the glob finds the same matches."""
    chance = random.Random(7)
    found = 0
    for _ in range(3000):
        parts = chance.choices(["a", "b", "/", "[^/]", *Gap], k=chance.randint(0, 8))
        ours = Glob(parts)
        real = re.compile("".join(_PLAIN[part] if isinstance(part, Gap) else part for part in parts), re.DOTALL)
        for _ in range(10):
            text = "".join(chance.choices("aab/\n", k=chance.randint(0, 9)))
            found += (wanted := real.fullmatch(text) is not None)
            assert ours.matches(text) == wanted, (parts, text)
    assert found > 1000


@pytest.mark.parametrize("gap", Gap)
@pytest.mark.parametrize("piece", ["a", "a/", "/a", "/"])
@pytest.mark.parametrize("before", [(), (Gap.NAME,), (Gap.TEXT,)])
def test_many_gaps_take_no_longer_than_the_text(gap: Gap, piece: str, before: tuple[Gap, ...]) -> None:
    """With each place of each gap tried, this would not end."""
    glob = Glob([*before, *piece, gap] * 13 + ["b"])
    for text in ("a" * 1000, "a/" * 500, "a/a" * 300, "/" * 1000):
        assert not glob.matches(text)
    assert glob.matches(piece * 13 + "b")


@pytest.mark.parametrize(
    ("glob", "good", "bad"),
    [
        (b"[[:alpha:]]", b"a Z", b"1 [ : \xc3\xa9"),
        (b"[[:upper:][:digit:]-]*", b"A 1 - Ab", b"a"),
        (b"[![:punct:]]", b"a \xc3\xa9", b"! ab"),
        (b"[z-a]", b"", b"z a -"),
        (b"[!z-a]", b"z a", b"za"),
        (b"[[:none:]]", b"", b"a : ["),
        (b"[a-]", b"a -", b"b"),
        (b"[]-_]", b"] ^ _", b"- a"),
        (b"[\\]x]", b"] x", b"\\"),
        (b"?", b"a \xc3\xa9 \xff", b"ab"),
        (b"a/?", b"a/b", b"a/bc x/a/b"),
        (b"a/*/", b"a/b", b"a/b/c"),
    ],
)
def test_what_stands_in_a_glob(glob: bytes, good: bytes, bad: bytes) -> None:
    """Classes are those of git; a range from its end to its start is empty; a character may have several bytes."""
    check_glob(glob)
    assert [*filter(PathGlobs([glob]).match, (*good.split(), *bad.split()))] == good.split()


@pytest.mark.parametrize("glob", [b"", b"/", b"a\0", b"[a", b"a\\", b"[[:alpha:", b"[" * 5000, b"[[:a:]" * 2000 + b"["])
def test_what_means_nothing_is_refused(glob: bytes) -> None:
    """At once, however long it is."""
    with pytest.raises(InvalidInput):
        check_glob(glob)

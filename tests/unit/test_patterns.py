"""Expressions that are compiled late are those that `re` compiles; those of globs match what backtracking ones do."""

from __future__ import annotations

import random
import re

import pytest

from avfs_git.patterns import Gap, compile_all, compiled, join_pieces


def test_it_does_what_a_compiled_one_does() -> None:
    """Methods, attributes and flags are those of the real one, also when they are asked for again."""
    ours, real = compiled(rb"(a)(?P<n>.)", re.DOTALL | re.IGNORECASE), re.compile(rb"(a)(?P<n>.)", re.DOTALL | re.IGNORECASE)

    for _ in range(2):
        assert [found.groups() for found in ours.finditer(b"xA\nab")] == [found.groups() for found in real.finditer(b"xA\nab")]
        assert ours.sub(rb"<\1>", b"abc") == real.sub(rb"<\1>", b"abc")
        assert (ours.pattern, ours.flags, ours.groupindex) == (real.pattern, real.flags, real.groupindex)


def test_nothing_is_compiled_before_it_is_used() -> None:
    """A wrong expression shows when it is used."""
    wrong = compiled("(")

    with pytest.raises(re.error):
        wrong.match("")


def test_all_can_be_compiled_beforehand() -> None:
    """For a process that others are forked from."""
    ours = compiled("a+")

    compile_all()

    assert ours.fullmatch("aaa")


def test_a_glob_matches_as_with_every_place_tried() -> None:
    """Atomic groups find each match that a plain expression finds."""
    plain = {Gap.TEXT: ".*", Gap.NAME: "[^/]*", Gap.DIRECTORIES: "(?:.*/)?"}
    chance = random.Random(7)
    found = 0
    for _ in range(3000):
        parts = chance.choices(["a", "b", "/", *Gap], k=chance.randint(1, 8))
        ours = re.compile(join_pieces(parts))
        real = re.compile("".join(plain[part] if isinstance(part, Gap) else part for part in parts))
        for _ in range(10):
            text = "".join(chance.choices("aab/", k=chance.randint(0, 9)))
            found += (wanted := real.fullmatch(text) is not None)
            assert (ours.fullmatch(text) is not None) == wanted, (parts, text)
    assert found > 1000


@pytest.mark.parametrize("gap", Gap)
def test_many_wildcards_take_no_longer_than_the_text(gap: Gap) -> None:
    """With each place of each wildcard tried, this would not end."""
    assert not re.fullmatch(join_pieces([gap, "/" if gap is Gap.DIRECTORIES else "a"] * 13 + ["b"]), "a/a" * 70)

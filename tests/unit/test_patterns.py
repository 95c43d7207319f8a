"""Expressions that are compiled late are those that `re` compiles."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import avfs_git
from avfs_git.patterns import compile_all, compiled


def test_it_does_what_a_compiled_one_does() -> None:
    """Methods, attributes and flags are those of the real one, also when they are asked for again."""
    ours, real = (
        compiled(rb"(a)(?P<n>.)", re.DOTALL | re.IGNORECASE),
        re.compile(rb"(a)(?P<n>.)", re.DOTALL | re.IGNORECASE),
    )

    for _ in range(2):
        assert [found.groups() for found in ours.finditer(b"xA\nab")] == [
            found.groups() for found in real.finditer(b"xA\nab")
        ]
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


def test_no_group_takes_all_for_good() -> None:
    """Python before 3.11.5 finds nothing with `(?:X)*+` (gh-101955); an atomic group does the same."""
    found = [
        f"{path}:{node.lineno}"
        for path in Path(avfs_git.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.search(r"(?<!\\)\)[*+?]\+", node.value)
    ]
    assert not found

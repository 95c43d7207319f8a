"""Ignore rules without git: what is read when, and what the default of a version-dependent rule is."""

from __future__ import annotations

import pytest

from avfs_git.gitstore.gitversion import NEWEST, GitVersion, parse_git_version
from avfs_git.gitstore.rules.ignore import IGNORE_FILE_MAX, Ignorer, IgnoreRules
from avfs_git.paths import TreePath


def ignored(rules: bytes, path: bytes, *, is_dir: bool = False, git_version: GitVersion = NEWEST) -> bool:
    """Ask about one path under one ignore file at the root."""
    ignorer = Ignorer(lambda directory: None if directory else rules, git_version=git_version)
    return ignorer.is_ignored(TreePath(path), is_dir=is_dir)


def test_each_ignore_file_is_read_once_and_none_below_an_ignored_directory() -> None:
    """Reading is lazy, cached, and stops where git does not look."""
    files = {b"": b"/out/\n", b"out": b"!x\n", b"src": b"*.o\n"}
    read: list[bytes] = []

    def read_ignore_file(directory: TreePath) -> bytes | None:
        read.append(directory)
        return files.get(directory)

    ignorer = Ignorer(read_ignore_file)
    assert ignorer.is_ignored(TreePath(b"out/deep/x"), is_dir=False)
    assert ignorer.is_ignored(TreePath(b"src/a.o"), is_dir=False)
    assert not ignorer.is_ignored(TreePath(b"src/a.c"), is_dir=False)
    assert ignorer.is_ignored(TreePath(b"src/lib/b.o"), is_dir=False)
    assert read == [b"", b"src", b"src/lib"]


def test_the_root_is_never_ignored() -> None:
    """A rule that takes everything does not take the workspace itself."""
    assert not ignored(b"*\n**\n", b"", is_dir=True)


def test_nothing_below_an_ignored_directory_is_taken_back() -> None:
    """A negated rule needs a parent that is not ignored."""
    assert ignored(b"build/\n!build/keep\n", b"build/keep")
    assert not ignored(b"build/*\n!build/keep\n", b"build/keep")


def test_a_rule_for_directories_spares_files() -> None:
    """A slash at the end makes a rule one for directories."""
    assert ignored(b"out/\n", b"a/out", is_dir=True)
    assert not ignored(b"out/\n", b"a/out")


@pytest.mark.parametrize(("git_version", "expected"), [((2, 39), True), ((2, 52), False)])
def test_stars_after_text_follow_the_git_version(git_version: GitVersion, expected: bool) -> None:
    """`a**/b` crosses directories for git before 2.52 and not since."""
    assert ignored(b"a**/b\n", b"a/x/b", git_version=git_version) is expected
    assert ignored(b"a**/b\n", b"ab", git_version=git_version) is expected
    assert ignored(b"a**/b\n", b"ax/b", git_version=git_version)
    assert ignored(b"a/**/b\n", b"a/x/b", git_version=git_version)


def test_hostile_rules_end_soon() -> None:
    """Rules made to backtrack are decided at once."""
    assert not ignored(b"*a*a*a*a*a*a*a*a*a*a*a*a*a*a*b\n", b"a" * 255)
    deep = b"/".join([b"aa"] * 300)
    rules = IgnoreRules.parse(b"**/a*/**/a*/**/a*/**/a*/**/a*a*a*a/**/b\n")
    assert rules.decide(TreePath(deep), b"aa", is_dir=False) is None


def test_a_very_deep_path_is_decided() -> None:
    """Depth costs no recursion."""
    assert ignored(b"leaf\n", b"/".join([b"d"] * 3000) + b"/leaf")


def test_one_file_speaks_for_paths_below_its_directory() -> None:
    """`IgnoreRules` matches from its base, and says nothing where no rule matches."""
    rules = IgnoreRules.parse(b"/x\n!y\n", TreePath(b"base"))
    assert rules.decide(TreePath(b"base/x"), b"x", is_dir=False) is True
    assert rules.decide(TreePath(b"base/d/x"), b"x", is_dir=False) is None
    assert rules.decide(TreePath(b"base/d/y"), b"y", is_dir=False) is False


def test_the_version_is_read_from_what_git_prints() -> None:
    """Vendors add their own words; an unknown answer counts as the newest."""
    assert parse_git_version(b"git version 2.39.5\n") == (2, 39)
    assert parse_git_version(b"git version 2.50.1 (Apple Git-155)\n") == (2, 50)
    assert parse_git_version(b"") == NEWEST


def test_a_huge_ignore_file_takes_no_time() -> None:
    """A rule that nothing can match is not translated.

    All counts as ignored where the file is larger than any that people write.
    """
    for line in (b"[!a]" * 20_000, b"a*" * 300_000, b"?" * 1_000_000):
        rules = IgnoreRules.parse(line + b"\nkept\n", git_version=NEWEST)

        assert rules.decide(TreePath(b"abc"), b"abc", is_dir=False) is None
        assert rules.decide(TreePath(b"kept"), b"kept", is_dir=False)

    huge = b"nothing\n" * 40_000
    ignorer = Ignorer(lambda directory: huge if directory == b"sub" else None, b"")

    assert len(huge) > IGNORE_FILE_MAX
    assert ignorer.is_ignored(TreePath(b"sub/a"), is_dir=False)
    assert not ignorer.is_ignored(TreePath(b"a"), is_dir=False)

"""Finding entries: `Workspace.find` and `Vault.find` find what is in a plain copy of the files."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from avfs_git import Home, Vault, Workspace
from avfs_git.errors import CheckpointNotFound, InvalidInput, PathNotFound
from avfs_git.model import FindResult, Kind

EARLY_NS = 1_500_000_000_123_456_789


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A vault with entries that are committed, changed, new, removed and ignored."""
    with Home(tmp_path / "home") as home:
        vault = home.create_vault("v")
        work = vault.workspace()
        work.write(".gitignore", b"*.log\nnode/\n")
        work.write("README", b"read me\n")
        work.write("src/a.py", b"a" * 100)
        work.write("src/deep/b.py", b"b" * 5000)
        work.touch("src/a.py", mtime_ns=EARLY_NS)
        work.symlink("src/link", b"a.py")
        work.write("gone", b"gone\n")
        work.checkpoint("first")
        work.remove("gone")
        work.write("src/deep/b.py", b"b" * 6000)
        work.write("src/New.py", b"new")
        work.write("x.log", b"log")
        work.write("node/dir/index.js", b"js")
        work.make_dir("empty")
        yield vault


def names(result: FindResult) -> list[str]:
    """Give the paths."""
    return [os.fsdecode(entry.path) for entry in result.entries]


def test_the_workspace_is_looked_through_as_it_is(work: Workspace) -> None:
    """All that is not beside history is found by default, each directory before its entries.

    Facts are those of `stat`.
    """
    found = work.find()

    assert (found.fork, found.state) == (work.fork, "workspace")
    assert names(found) == [
        *(".gitignore", "README", "src", "src/New.py", "src/a.py", "src/deep", "src/deep/b.py", "src/link"),
    ]
    everything = work.find(ignored=True)
    assert sorted(names(everything)) == sorted(os.fsdecode(info.path) for info in work.walk())
    for entry in everything.entries:
        info = work.stat(entry.path)
        assert (entry.kind, entry.mode, entry.mtime_ns) == (info.kind, info.mode & 0o7777, info.mtime_ns), entry.path
        assert entry.size == (info.size if info.kind is Kind.FILE else None)


def test_each_condition_holds(work: Workspace) -> None:
    """An entry meets all conditions."""
    assert names(work.find("*.py")) == ["src/New.py", "src/a.py", "src/deep/b.py"]
    assert names(work.find("src/*.py")) == ["src/New.py", "src/a.py"]
    assert names(work.find("src/**/*.py")) == ["src/New.py", "src/a.py", "src/deep/b.py"]
    assert names(work.find("src/**")) == names(work.find(paths=["src"]))[1:]
    assert names(work.find("new*", "readme", ignore_case=True)) == ["README", "src/New.py"]
    assert names(work.find("[!a]*.py", kinds=["file"])) == ["src/New.py", "src/deep/b.py"]
    assert names(work.find("[a-c]?py")) == ["src/a.py", "src/deep/b.py"]
    assert names(work.find(kinds=["symlink", Kind.DIRECTORY])) == ["src", "src/deep", "src/link"]
    assert names(work.find(min_size=100, max_size=5999)) == ["src/a.py"]
    assert names(work.find(min_size=6000)) == ["src/deep/b.py"]
    assert names(work.find(older_ns=EARLY_NS)) == ["src/a.py"]
    assert "src/a.py" not in names(work.find(newer_ns=EARLY_NS + 1))
    assert names(work.find(max_depth=1)) == [".gitignore", "README", "src"]
    assert names(work.find(min_depth=3)) == ["src/deep/b.py"]
    assert names(work.find(paths=["src/deep", "README", "src/deep/b.py"])) == ["README", "src/deep", "src/deep/b.py"]
    assert names(work.find(paths=["README"])) == ["README"]
    assert names(work.find(changed_since="first")) == ["src/New.py", "src/deep/b.py"]
    beside = ["empty", "node", "node/dir", "node/dir/index.js", "src/New.py", "src/deep/b.py", "x.log"]
    assert names(work.find(changed_since="first", ignored=True)) == beside


def test_a_checkpoint_and_all_forks_are_looked_through(vault: Vault, work: Workspace) -> None:
    """A state is named as anywhere else; several forks give a result each."""
    past = work.find(at="first", kinds=["file"])
    assert names(past) == [".gitignore", "README", "gone", "src/a.py", "src/deep/b.py"]
    assert past.state == work.list_checkpoints()[0].id
    assert [entry.size for entry in past.entries][-1] == 5000

    vault.fork("other").write("only/there", b"x")
    assert [(found.fork, names(found)) for found in vault.find("there", paths=["only"])] == [("other", ["only/there"])]
    assert len(vault.find()) == 2
    with pytest.raises(PathNotFound):
        vault.find(paths=["nowhere"])


def test_names_match_as_fnmatch_has_them(work: Workspace) -> None:
    """A glob of a name means what it does in `fnmatch`."""
    for name in ("a", "ab", "a.b", "[x]", "a]", "-", "^", "a\\b", "ä", "a\nb", "!"):
        work.write(b"odd/" + name.encode(), b"")
    entries = [os.fsdecode(entry.path)[4:] for entry in work.find(paths=["odd"], kinds=["file"]).entries]

    for glob in (
        "*",
        "a*",
        "?",
        "a?b",
        "[a-b]",
        "[!a-b]*",
        "[[]x]",
        "[]]",
        "a[]]",
        "[-]",
        "[a-]",
        "[!!]",
        "[a^]",
        "ä",
        "a[!b]b",
        "*.b",
    ):
        wanted = [name for name in entries if fnmatchcase(name, glob)]
        assert [
            os.fsdecode(entry.path)[4:] for entry in work.find(glob, paths=["odd"], kinds=["file"]).entries
        ] == wanted, glob


def test_a_glob_of_many_stars_ends(work: Workspace) -> None:
    """Trying each place of each star would take longer than anybody waits."""
    work.write("a" * 200, b"")

    assert not work.find("*a" * 13 + "b").entries
    assert [entry.path for entry in work.find("*a" * 13).entries] == [b"a" * 200]
    assert not work.find("*a**/" * 13 + "b").entries
    assert [entry.path for entry in work.find("*a**/" * 13 + "*").entries] == [b"a" * 200]


def test_what_cannot_be_meant_is_refused(work: Workspace) -> None:
    """A bad glob, kind, number, path or state is an error, and never an empty result."""
    for glob in ("", "/", "[a", "a\\", "a\0b"):
        with pytest.raises(InvalidInput):
            work.find(glob)
    with pytest.raises(InvalidInput, match="socket"):
        work.find(kinds=["socket"])
    with pytest.raises(InvalidInput):
        work.find(min_size=-1)
    with pytest.raises(PathNotFound):
        work.find(paths=["nowhere"])
    with pytest.raises(CheckpointNotFound):
        work.find(changed_since="nothing")
    with pytest.raises(CheckpointNotFound):
        work.find(at="nothing")


@pytest.mark.slow
@pytest.mark.needs("fuse", "user-xattrs", "whiteout")
def test_a_live_tree_is_looked_through_with_what_programs_wrote(mount_dir: Path) -> None:
    """The session of a mount answers, with what is in the tree just now."""
    with Home(mount_dir / "h") as home:
        work = home.create_vault("v").workspace()
        work.write("a", b"x")
        with work.mount(mount_dir / "tree") as session:
            (mount_dir / "tree" / "b").write_text("new")
            assert [(entry.path, entry.size) for entry in work.find(kinds=["file"]).entries] == [(b"a", 1), (b"b", 3)]
            session.unmount()

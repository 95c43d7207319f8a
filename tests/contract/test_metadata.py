"""Tags and metadata: extended attributes by which paths are found, and which stay with them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git import Home, Vault, Workspace
from avfs_git.errors import AttributeRefused, InvalidInput, PathNotFound, PathUnsuitable
from avfs_git.model import MetaEntry, TagCount

pytestmark = pytest.mark.needs("user-xattrs", "whiteout")


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A vault with a committed state."""
    with Home(tmp_path / "home") as home:
        vault = home.create_vault("v")
        work = vault.workspace()
        work.write(".gitignore", b"*.log\n")
        work.write("src/a", b"a\n" * 20)
        work.write("src/b", b"b\n" * 20)
        work.write("x.log", b"log")
        work.symlink("link", b"src/a")
        work.checkpoint("start")
        yield vault


@pytest.fixture
def work(vault: Vault) -> Workspace:
    """Its workspace."""
    return vault.workspace()


def test_a_path_has_what_was_set_until_it_is_deleted(work: Workspace) -> None:
    """Tags keep their order and stand once; a link leads to its file; what is not there cannot go."""
    work.tag("link", "two", "one", " two ")
    work.set_meta("src/a", "owner", b"\xff\0")
    found = work.set_meta("src/a", "empty", "")

    assert found == work.read_meta("src/a")
    assert (found.tags, found.entries) == (("two", "one"), (MetaEntry("empty", b""), MetaEntry("owner", b"\xff\0")))
    with pytest.raises(PathUnsuitable, match="'three'"):
        work.untag("src/a", "one", "three")
    assert work.untag("src/a", "one").tags == ("two",)
    assert work.delete_meta("src/a", "owner").entries == (MetaEntry("empty", b""),)
    with pytest.raises(PathUnsuitable, match="'owner'"):
        work.delete_meta("src/a", "owner")
    with pytest.raises(PathNotFound):
        work.tag("nowhere", "one")
    for key in ("", "overlay.opaque", "a\0b", "k" * 251):
        with pytest.raises(InvalidInput):
            work.set_meta("src/a", key, "value")
    for tag in ("", " ", "a,b", "a\nb"):
        with pytest.raises(InvalidInput):
            work.tag("src/a", tag)
    with pytest.raises(AttributeRefused):
        work.set_meta("src/a", "owner", b"x" * ((64 << 10) + 1))
    assert work.read_meta("src/a").tags == ("two",)


def test_paths_are_found_by_them(work: Workspace) -> None:
    """In the workspace as it is, also ignored ones, and in a checkpoint."""
    work.tag("src/a", "one", "two")
    work.tag("src", "one")
    work.tag("x.log", "one")
    work.set_meta("src/b", "owner", "ada")
    work.checkpoint("tagged")
    work.untag("src/a", "two")

    def names(**conditions: object) -> list[bytes]:
        return [entry.path for entry in work.find(**conditions).entries]  # type: ignore[arg-type]  # names of options

    assert work.list_tags().tags == (TagCount("one", 3),)
    assert names(tags=["one"]) == [b"src", b"src/a", b"x.log"]
    work.tag("/", "root")
    assert names(tags=["root"]) == [b""]
    assert names(tags=["one", "two"]) == []
    assert names(tags=["one", "two"], at="tagged") == [b"src/a"]
    assert names(meta={"owner": None}) == names(meta={"owner": "ada"}) == [b"src/b"]
    assert names(meta={"owner": "bob"}) == names(tags=["one"], at="start") == []


def test_a_change_of_them_alone_is_saved_and_undone(vault: Vault, work: Workspace) -> None:
    """Status tells it, a checkpoint holds it, restore and undo bring it back; copies, renames and forks carry it."""
    work.tag("src/a", "one")
    work.tag("src", "directory")

    assert [change.path for change in work.status().sidecar_changed] == [b"src", b"src/a"]
    assert work.checkpoint("tagged").outcome == "created"
    assert work.status().clean
    work.write("src/a", b"other\n")
    work.copy("src/a", "copy")
    work.move("src/a", "moved")
    side = vault.fork("side")
    for tree in (work, side):
        assert [tree.read_meta(path).tags for path in ("copy", "moved", "src")] == [("one",), ("one",), ("directory",)]
    work.restore("start")
    assert work.list_tags().tags == ()
    work.restore("tagged")
    assert work.list_tags().tags == (TagCount("directory", 1), TagCount("one", 1))
    work.untag("src/a", "one")
    work.undo()
    assert work.read_meta("src/a").tags == ("one",)
    work.redo()
    assert work.read_meta("src/a").tags == ()


@pytest.mark.needs("fuse", "git")
@pytest.mark.parametrize("backend", ["fuse", pytest.param("overlay", marks=pytest.mark.needs("overlayfs"))])
def test_programs_in_a_live_tree_see_and_set_them(work: Workspace, tmp_path: Path, backend: str) -> None:
    """They are attributes of the files there."""
    with work.mount(tmp_path / "m", backend=backend):
        file = tmp_path / "m" / "src" / "a"
        work.tag("src/a", "one")
        assert os.getxattr(file, "user.xdg.tags") == b"one"
        os.setxattr(file, "user.xdg.tags", b"one, two,,one")
        os.setxattr(file, "user.owner", b"ada")
        assert work.read_meta("src/a").tags == ("one", "two")
        assert [entry.path for entry in work.find(tags=["two"], meta={"owner": "ada"}).entries] == [b"src/a"]
        assert work.list_tags().tags == (TagCount("one", 1), TagCount("two", 1))
        work.checkpoint("tagged")
        work.untag("src/a", "one", "two")
        assert os.listxattr(file) == ["user.owner"]
        work.undo()
        assert os.getxattr(file, "user.xdg.tags") == b"one, two,,one"

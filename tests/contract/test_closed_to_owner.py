"""Files and directories whose mode keeps their own owner out, as an ordinary user: no operation fails because of them."""

from __future__ import annotations

import os
import shutil
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from avfs_git import Home, Vault, Workspace

pytestmark = [pytest.mark.needs("user-xattrs", "whiteout"), pytest.mark.ordinary]


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A vault with a read-only directory and a tagged file."""
    with Home(tmp_path / "home") as home:
        vault = home.create_vault("v")
        work = vault.workspace()
        for name in ("a", "b", "sub/c"):
            work.write(f"fixed/{name}", name.encode())
        for name in ("fixed/sub", "fixed"):
            work.chmod(name, 0o555)
        work.write("key", b"key")
        work.tag("key", "secret")
        work.write("a", b"a")
        work.make_dir("d")
        work.checkpoint("start")
        vault.fork("work")
        yield vault


@pytest.fixture(params=["files", pytest.param("fuse", marks=pytest.mark.needs("fuse"))])
def here(request: pytest.FixtureRequest, work: Workspace, tree: Path) -> Iterator[Workspace]:
    """The workspace, by itself and below a mount."""
    with ExitStack() as stack:
        if request.param == "fuse":
            stack.enter_context(work.mount(tree, backend="fuse"))
        yield work


def mode_of(work: Workspace, path: str) -> int:
    """Give the permission bits of a path."""
    return stat.S_IMODE(work.stat(path).mode)


def end(here: Workspace) -> None:
    """Check that what programs see is saved as it is, with its modes, and shown so without a mount, too."""
    shown = {entry.path: (entry.mode, entry.kind) for entry in here.walk("/")}
    here.checkpoint("end")
    assert here.status().clean
    again = here.vault.fork("again", source="work")
    assert {entry.path: (entry.mode, entry.kind) for entry in again.walk("/")} == shown


@pytest.mark.parametrize("mode", [0, 0o200])
def test_a_tagged_file(here: Workspace, vault: Vault, tmp_path: Path, mode: int) -> None:
    """It is saved, taken over, restored and exported as any file, and stays closed."""
    here.write("a", b"more")
    here.chmod("key", mode)

    assert {change.path for change in here.status().changed_files} == {b"a"}
    here.checkpoint("closed")
    here.diff()
    assert here.read_meta("key").tags == ("secret",)
    other = vault.fork("other", source="work")
    assert (mode_of(other, "key"), other.read_meta("key").tags) == (mode, ("secret",))
    here.export_path("key", tmp_path / "key")
    here.write("a", b"most")
    here.checkpoint("most")
    other.merge("work")
    assert (mode_of(other, "key"), other.read("a")) == (mode, b"most")
    here.restore("main")
    assert mode_of(here, "key") == 0o644
    here.undo()
    assert (mode_of(here, "key"), here.read("a"), here.read_meta("key").tags) == (mode, b"most", ("secret",))


@pytest.mark.parametrize(("path", "mode"), [("key", 0), ("key", 0o444), ("fixed", 0o555)])
def test_attributes_come_back(here: Workspace, path: str, mode: int) -> None:
    """Where nothing but they differ, to files and directories that may not be written to."""
    here.chmod(path, 0o755)
    here.tag(path, "before")
    here.chmod(path, mode)
    here.checkpoint("before")
    here.chmod(path, 0o755)
    here.untag(path, "before")
    here.tag(path, "after")
    here.chmod(path, mode)
    here.checkpoint("after")

    here.restore("before")
    assert here.read_meta(path).tags[-1] == "before"
    here.undo()
    assert here.read_meta(path).tags[-1] == "after"
    assert mode_of(here, path) == mode


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("mode", [0o200, 0o300])
def test_attributes_of_what_may_not_be_read_are_changed(work: Workspace, tree: Path, mode: int) -> None:
    """Programs list and remove them, as on any file system."""
    work.tag("d", "one")
    with work.mount(tree, backend="fuse"):
        for place in (tree / "d", tree / "key"):
            place.chmod(mode)
            assert os.listxattr(place) == ["user.xdg.tags"]
            os.removexattr(place, "user.xdg.tags")
            assert os.listxattr(place) == []
            place.chmod(0o755)


@pytest.mark.needs("fuse")
def test_a_directory_in_the_place_of_a_removed_one(work: Workspace, tree: Path) -> None:
    """It is made with its mode, and hides what was there."""
    with work.mount(tree, backend="fuse"):
        (tree / "fixed").chmod(0o755)
        (tree / "fixed" / "sub").chmod(0o755)
        shutil.rmtree(tree / "fixed")
        (tree / "fixed").mkdir(0o555)
        assert os.listdir(tree / "fixed") == []
        assert stat.S_IMODE((tree / "fixed").stat().st_mode) == 0o555
        (tree / "d").rmdir()
        umask = os.umask(0o222)
        try:
            (tree / "d").mkdir()
        finally:
            os.umask(umask)
        assert stat.S_IMODE((tree / "d").stat().st_mode) == 0o555
    end(work)


def test_a_directory_is_renamed(here: Workspace, tree: Path) -> None:
    """One of the base, whatever was removed from it, one in another's place, and a new one."""
    here.chmod("fixed", 0o755)
    here.remove("fixed/b")
    here.chmod("fixed", 0o555)
    here.write("new/a", b"a")
    here.chmod("new", 0o555)
    rename = os.rename if tree.exists() else lambda old, new: here.move(old.name, new.name)

    rename(tree / "fixed", tree / "moved")
    rename(tree / "new", tree / "fixed")
    assert [mode_of(here, path) for path in ("moved", "moved/sub", "fixed")] == [0o555] * 3
    assert {entry.path for entry in here.walk("/")} == {
        b"a", b"d", b"fixed", b"fixed/a", b"key", b"moved", b"moved/a", b"moved/sub", b"moved/sub/c"
    }  # fmt: skip
    end(here)


@pytest.mark.needs("fuse")
def test_a_directory_takes_the_place_of_an_empty_one(work: Workspace, tree: Path) -> None:
    """Of the base, from which all was removed."""
    with work.mount(tree, backend="fuse"):
        (tree / "fixed").chmod(0o755)
        (tree / "fixed" / "sub").chmod(0o755)
        for path in ("sub/c", "a", "b"):
            (tree / "fixed" / path).unlink()
        (tree / "fixed" / "sub").rmdir()
        (tree / "fixed").chmod(0o555)
        (tree / "d" / "file").write_bytes(b"x")
        os.rename(tree / "d", tree / "fixed")
        assert os.listdir(tree / "fixed") == ["file"]
    end(work)


def test_a_removed_directory_comes_back(here: Workspace) -> None:
    """With what was in it, also in the place of another one."""
    here.remove("fixed", recursive=True)
    here.checkpoint("removed")
    here.make_dir("fixed")
    here.chmod("fixed", 0o555)
    here.restore("main")
    assert mode_of(here, "fixed/sub") == mode_of(here, "fixed") == 0o555
    here.undo()
    assert mode_of(here, "fixed") == 0o555
    assert here.list_dir("fixed") == []
    end(here)


def test_a_fold(work: Workspace) -> None:
    """It drops what the base shows as well from read-only directories, those with a mark among them."""
    work.write("new/a", b"a")
    work.move("fixed", "moved")
    work.chmod("new", 0o555)
    work.checkpoint("changed")
    shown = [(entry.path, entry.mode) for entry in work.walk("/")]

    assert work.fold()
    assert [(entry.path, entry.mode) for entry in work.walk("/")] == shown
    assert work.status().clean
    upper = work.vault.path / "avfs" / "workspaces" / "work" / "upper"
    assert not [path for path in upper.rglob("*") if path.is_file()]


def test_two_that_read_a_closed_file_at_once_leave_its_mode(vault: Vault, work: Workspace, tree: Path) -> None:
    """A program that lists attributes, and a checkpoint: each lets itself in for a moment."""
    for number in range(20):
        work.write(f"s/{number}", b"x")
        work.tag(f"s/{number}", "secret")
        work.chmod(f"s/{number}", 0)
    with work.mount(tree, backend="fuse"):
        is_over = threading.Event()

        def look() -> None:
            while not is_over.is_set():
                for number in range(20):
                    os.listxattr(tree / "s" / str(number))

        with ThreadPoolExecutor(2) as threads:
            looking = [threads.submit(look) for _ in range(2)]
            try:
                for _ in range(15):
                    for number in range(20):
                        work.chmod(f"s/{number}", 0o640)
                        work.write(f"s/{number}", b"x", append=True)
                        work.chmod(f"s/{number}", 0)
                    work.checkpoint()
            finally:
                is_over.set()
            for each in looking:
                each.result()
    assert {mode_of(work, f"s/{number}") for number in range(20)} == {0}


def test_copies_of_what_is_read_only_have_its_attributes(vault: Vault, work: Workspace, tmp_path: Path) -> None:
    """In the workspace and into it; an attribute of a read-only file can be set, as the file can be written."""
    work.chmod("key", 0o444)
    work.tag("fixed", "tagged")
    work.set_meta("key", "owner", "ada")
    work.copy("key", "copied")
    work.copy("fixed", "again", recursive=True)
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_bytes(b"x")
    for place in (source / "file", source):
        os.setxattr(place, "user.xdg.tags", b"marked")
    (source / "file").chmod(0o444)
    source.chmod(0o555)
    work.import_path(source, "in")
    source.chmod(0o755)

    assert work.read_meta("copied").tags == ("secret",)
    assert work.read_meta("again").tags == ("tagged",)
    assert (work.read_meta("in").tags, work.read_meta("in/file").tags) == (("marked",), ("marked",))
    assert [mode_of(work, path) for path in ("copied", "again", "in", "in/file")] == [0o444, 0o555, 0o555, 0o444]
    assert vault.doctor().problems == ()


@pytest.mark.needs("fuse")
def test_a_closed_directory_in_a_fork_that_nothing_has_saved_keeps_nothing_from_the_log(
    work: Workspace, tree: Path
) -> None:
    """What was there before a file call is recorded, as in a fork with checkpoints of its own; undo brings it back."""
    with work.mount(tree, backend="fuse"):
        (tree / "d" / "new").write_bytes(b"unsaved")
        (tree / "shut").mkdir(mode=0)
        work.remove("d", recursive=True)
        assert not (tree / "d").exists()
        (told,) = work.status().warnings
        assert (told.code, told.path) == ("capture.unreadable", b"shut")
        assert "is left out" in told.message
        (tree / "shut").chmod(0o755)

        work.undo()

        assert (tree / "d" / "new").read_bytes() == b"unsaved"


def test_a_directory_in_place_of_a_closed_file_is_open(here: Workspace) -> None:
    """What is recorded of the file says nothing of the directory, whose name it had."""
    here.write("conf", b"secret")
    here.chmod("conf", 0o600)
    here.checkpoint("closed")
    side = here.vault.fork("side", source="work")
    side.remove("conf")
    side.write("conf/in", b"in")
    side.checkpoint("replaced")
    here.write("other", b"other")
    here.checkpoint("other")

    here.merge("side")
    assert (mode_of(here, "conf"), here.read("conf/in")) == (0o755, b"in")
    here.undo()
    assert (mode_of(here, "conf"), here.read("conf")) == (0o600, b"secret")
    end(here)

"""Files and directories whose mode keeps their own owner out, as an ordinary user: no operation fails because of them."""

from __future__ import annotations

import stat
from collections.abc import Iterator
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

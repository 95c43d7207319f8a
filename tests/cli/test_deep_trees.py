"""Trees that are deeper than Python's stack: every operation takes them, and takes them away again."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.host.files.removal import remove_tree
from tests.support.cli import Cli

pytestmark = [pytest.mark.slow, pytest.mark.needs("git", "user-xattrs", "whiteout")]

STACK = 500
"""What Python's stack is limited to here, half of what it has: some operations cost the square of the depth."""
LEVELS = 550
DEEP = "/".join(["d"] * LEVELS)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A directory that the fixture removes: pytest's own clean-up would run out of stack; meanwhile, less stack."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(STACK)
    yield tmp_path / "place"
    sys.setrecursionlimit(before)
    remove_tree(tmp_path / "place")


def test_a_tree_deeper_than_the_stack_is_one_like_any_other(place: Path, cli: Cli) -> None:
    """It is checkpointed, forked, compared, restored, listed, copied, exported, imported, folded and deleted."""
    with Avfs(place / "home") as avfs:
        vault = avfs.create_vault("v")
        main = vault.workspace()
        main.write("top", b"top\n")
        before = main.checkpoint("before").checkpoint
        main.make_dir(DEEP, parents=True)
        main.write(f"{DEEP}/file", b"deep\n")

        assert [change.path for change in main.status().changed_files] == [f"{DEEP}/file".encode()]

        deep = main.checkpoint("deep").checkpoint
        fork = vault.fork("task")
        fork.write(f"{DEEP}/file", b"changed\n")

        assert len(fork.diff().files) == 1
        assert fork.checkpoint().outcome == "created"
        assert before is not None
        assert deep is not None

        fork.restore(deep.id)

        assert fork.read(f"{DEEP}/file") == b"deep\n"

        fork.restore(before.id)

        assert not fork.exists("d")

        fork.undo()

        assert fork.read(f"{DEEP}/file") == b"deep\n"
        assert fork.export_path("/", place / "out").directories == LEVELS

        archive = io.BytesIO()
        fork.export_tar("/", archive)
        archive.seek(0)
        fork.import_tar(archive, "/tar")
        fork.import_path(place / "out", "/again")
        fork.copy("d", "copy", recursive=True)

        assert fork.read(f"/again/{DEEP}/file") == fork.read(f"/tar/{DEEP}/file") == b"deep\n"
        assert fork.checkpoint().outcome == "created"

        fork.fold()
        fork.remove("again", recursive=True)

        assert avfs.create_vault("w", source=place / "out").workspace().read(f"{DEEP}/file") == b"deep\n"
        assert vault.doctor().problems == ()
    home = {"AVFS_HOME": str(place / "home")}
    for verb in (["ls", "-R"], ["tree"]):
        assert len(cli("--vault", "v@task", *verb, "d", env=home).ok().text.splitlines()) >= LEVELS
        assert (
            cli("--vault", "v@task", *verb, "d", "--json", env=home)
            .ok()
            .text.count('"children"' if verb == ["tree"] else '"path"')
        )
    with Avfs(place / "home") as avfs:
        vault = avfs.open_vault("v")
        vault.delete_fork("task")
        vault.gc(keep_days=0, keep_operations=1, grace_days=0)
        avfs.delete_vault("v")
        avfs.delete_vault("w")

    assert list((place / "home" / "vaults").iterdir()) == []

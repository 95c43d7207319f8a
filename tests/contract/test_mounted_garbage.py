"""Collecting garbage under a live tree: who works there notices nothing."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest

from avfs_git import faults
from avfs_git.sdk import Avfs

pytestmark = [pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"), pytest.mark.slow]


def test_a_live_tree_goes_on_while_its_objects_move(mount_dir: Path) -> None:
    """Files of the base are read from packs that came meanwhile.

    Staged files stay, and so does every state that is left.
    """
    draw = random.Random(3)
    content = {f"f{number}": draw.randbytes(2_000 if number % 20 else 200_000) for number in range(60)}
    source = mount_dir / "source"
    source.mkdir()
    for name, data in content.items():
        (source / name).write_bytes(data)
    with Avfs(mount_dir / "home") as avfs:
        vault = avfs.create_vault("v", source=source)
        work = vault.fork("work")
        tree = mount_dir / "tree"
        session = work.mount(tree)
        (tree / "n").write_bytes(b"1")
        work.checkpoint("one")
        (tree / "n").write_bytes(b"2")
        vault.fork("gone").write("big", b"gone\n" * 50_000)
        vault.workspace("gone").checkpoint()
        vault.delete_fork("gone")
        work.checkpoint("two")
        (tree / "staged").write_bytes(b"staged\n")
        subprocess.run(["git", "add", "staged"], cwd=tree, check=True)
        (tree / "staged").unlink()
        time.sleep(0.02)
        result = vault.gc(keep_days=0, keep_operations=1, grace_days=0)

        assert result.objects
        assert (result.workspaces, result.packs_after, result.warnings) == (1, 1, ())
        assert {name: (tree / name).read_bytes() for name in content} == content
        shown = subprocess.run(["git", "show", ":staged"], cwd=tree, check=True, capture_output=True).stdout

        assert shown == b"staged\n"

        (tree / "after").write_bytes(b"after\n")

        assert work.checkpoint("three").outcome == "created"

        work.restore("one")

        assert (tree / "n").read_bytes() == b"1"

        work.undo()

        assert (tree / "n").read_bytes() == b"2"

        session.stop()

        assert vault.doctor().problems == ()


@pytest.mark.parametrize("point", ["gc.checked", "gc.refs_dropped", "sweep.packed", "sweep.carried"])
def test_a_state_that_is_mounted_meanwhile_stays_whole(mount_dir: Path, point: str) -> None:
    """A mount of what only undo kept, made while that is collected, shows all files: those beside history, too."""
    content = {"of-git": random.Random(4).randbytes(200_000), "beside.log": random.Random(5).randbytes(200_000)}
    with Avfs(mount_dir / "home") as avfs:
        vault = avfs.create_vault("v")
        main = vault.workspace()
        main.write(".gitignore", b"*.log\n")
        main.checkpoint()
        gone = vault.fork("gone")
        for name, data in content.items():
            gone.write(name, data)
            gone.checkpoint()
        gone.write("n", b"1")  # the mount opens the pack of the last one alone
        last = gone.checkpoint().checkpoint
        assert last is not None
        vault.delete_fork("gone")
        main.write("n", b"2")
        main.checkpoint()

        def mount(passed: str) -> None:
            if passed == point:
                faults.arm(None)
                main.mount(mount_dir / "tree", at=last.id)

        faults.arm(mount)
        try:
            assert vault.gc(keep_days=0, keep_operations=1, grace_days=0).operations
            found = {name: (mount_dir / "tree" / name).read_bytes() for name in content}
        finally:
            faults.arm(None)
            session = vault.find_session("main")
            assert session is not None
            session.unmount()

        assert found == content

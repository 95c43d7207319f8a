"""Garbage collection in a partial clone, killed at every fault point: what was here and is needed is still here."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault
from tests.support.faults import die_in
from tests.support.seeds import take_points
from tests.support.servers import git, make_bare

pytestmark = [pytest.mark.slow, pytest.mark.needs("git", "user-xattrs", "whiteout")]

NAMES = [f"{number}/file" for number in range(14)]


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    """Make a home with a lazy vault, much of which came in many requests, and garbage; its server is gone."""
    bare, work = make_bare(tmp_path / "shop.git"), tmp_path / "work"
    git("clone", "-q", str(bare), str(work), cwd=tmp_path)
    for name in NAMES:
        (work / name).parent.mkdir()
        (work / name).write_text(name)
    git("add", ".", cwd=work)
    git("commit", "-qm", "one", cwd=work)
    git("push", "-q", "origin", "HEAD:main", cwd=work)
    home = tmp_path / "home"
    with Avfs(home) as avfs:
        avfs.clone_vault(str(bare), "v", lazy=True)
        with avfs.open_vault("v") as vault:
            for name in NAMES:
                vault.prefetch([name])
            vault.workspace().write("own", b"1\n")
            vault.workspace().checkpoint("own")
            gone = vault.fork("gone")
            gone.write("theirs", b"of a fork that is gone\n")
            gone.checkpoint()
            vault.delete_fork("gone")
            vault.fork("other")
    bare.rename(tmp_path / "gone.git")
    time.sleep(0.02)
    return home


def objects(vault: Vault) -> set[str]:
    """List all objects that are here."""
    return set(git("cat-file", "--batch-all-objects", "--batch-check=%(objectname)", cwd=vault.path).split())


def collect(home: Path) -> None:
    """Collect everything that may go."""
    with Avfs(home) as avfs, avfs.open_vault("v") as vault:
        vault.gc(keep_days=0, keep_operations=1, grace_days=0)


def test_a_collection_that_dies_loses_nothing(prepared: Path, tmp_path: Path) -> None:
    """All that the server sent or that is reached is there, with a known owner, and the next collection completes."""
    done = tmp_path / "done"
    shutil.copytree(prepared, done, symlinks=True)
    collect(done)
    with Avfs(done) as avfs, avfs.open_vault("v") as vault:
        needed = objects(vault)
        few = len(list((vault.path / "objects/pack").glob("*.idx")))
    for _, point in take_points(0):
        home = tmp_path / f"home{point}"
        shutil.copytree(prepared, home, symlinks=True)
        died = die_in(lambda home=home: collect(home), point)  # type: ignore[misc]  # a default binds the loop's value
        with Avfs(home) as avfs, avfs.open_vault("v") as vault:
            assert objects(vault) >= needed, f"dying at point {point}"
            time.sleep(0.02)
            result = vault.gc(keep_days=0, keep_operations=1, grace_days=0)

            assert (result.warnings, objects(vault)) == ((), needed), f"dying at point {point}"
            assert len(list((vault.path / "objects/pack").glob("*.idx"))) == few
            assert git("fsck", "--strict", "--no-dangling", "--no-progress", cwd=vault.path) == ""
            assert [vault.workspace().read(name).decode() for name in NAMES] == NAMES
        shutil.rmtree(home)
        if not died:
            break

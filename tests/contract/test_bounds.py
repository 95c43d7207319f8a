"""What a stranger's objects may cost: every command answers or refuses in little memory, and in no endless time."""

from __future__ import annotations

from pathlib import Path

import pytest

from avfs_git.errors import TooManyFiles
from avfs_git.gitstore.objects import KIND_TREE
from avfs_git.gitstore.trees import serialize_tree
from avfs_git.paths import Oid
from tests.support.limited import make_bomb, run_limited
from tests.support.objects import MemorySource
from tests.support.oracle import git

pytestmark = [pytest.mark.needs("git", "user-xattrs", "whiteout"), pytest.mark.slow, pytest.mark.usefixtures("person")]

REFUSED = "error: the tree holds more than 2,000,000 files"


def make_source(place: Path, source: MemorySource, plain: Oid, bombed: Oid) -> Path:
    """Write a repository in which `plain` has one tree, and `main` after it the other."""
    git("init", "-q", "--bare", "-b", "main", place)
    before = source.add_commit(plain)
    after = source.add_commit(bombed, before)
    source.write_to(place)
    for name, oid in (("plain", before), ("main", after)):
        git("update-ref", f"refs/heads/{name}", oid.hex(), cwd=place)
    return place


@pytest.fixture
def bombed(mount_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A vault `v` with a tree bomb at `d` of its fork `main`; its home is in the directory that is given."""
    monkeypatch.setenv("AVFS_HOME", str(mount_dir / "h"))
    source = MemorySource()
    plain = source.add_tree({b"f": (0o100644, b"1\n")})
    file = source.read_tree(plain)[b"f"]
    tree = source.add(KIND_TREE, serialize_tree({b"d": (0o40000, make_bomb(source)), b"f": file}))
    repository = make_source(mount_dir / "source.git", source, plain, tree)
    run_limited("vault", "create", "v", "--from", repository).ok()
    return mount_dir


WALKS = ("diff plain main", "--fork plain merge main", "--fork plain checkpoint restore main", "export -r / OUT", "show main")
OTHERS = ("status", "ls d/0", "cat d/0/1/2/3/4/5/6/7/8/9", "gc", "rm -r d")


def test_a_bomb_costs_what_is_stored_of_it(bombed: Path) -> None:
    """What would walk through it is refused with a code of its own, before the disk is full; all else answers."""
    for command in WALKS:
        ran = run_limited("--vault", "v", *command.replace("OUT", str(bombed / "out")).split())

        assert REFUSED in ran.stderr, (command, ran.text, ran.stderr)
        assert ran.status == TooManyFiles.exit_code
    for command in OTHERS:
        run_limited("--vault", "v", *command.split()).ok()

    assert run_limited("--vault", "v", "ls").text.split() == ["f"]
    assert REFUSED in run_limited("--vault", "v", "status").stderr


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("backend", ["auto", "fuse"])
def test_git_makes_no_index_of_a_bomb(bombed: Path, backend: str) -> None:
    """One `git log` in it is refused: by avfs where it makes the index beforehand, else where git reads `.git`."""
    ran = run_limited("--vault", "v", "exec", "--backend", backend, "--", "git", "log", "--oneline")

    assert ran.status in (125, 128), (ran.text, ran.stderr)
    assert REFUSED in ran.stderr or "error reading" in ran.stderr, (ran.text, ran.stderr)

"""Git's own cache of commits: what is read from it is what the commits say, and what is not sound counts as none."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from avfs_git.gitstore.formats.commitgraph import CommitGraph
from avfs_git.gitstore.formats.commits import Links
from avfs_git.gitstore.merge.bases import find_merge_bases
from avfs_git.gitstore.objects import store as objects
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.paths import Oid
from tests.support.gitrepo import GitRepo, init
from tests.support.objects import MemorySource

WRITE = ("commit-graph", "write", "--reachable")


class History:
    """A repository with merges of two and of more."""

    def __init__(self, git_dir: Path) -> None:
        self.git = init(git_dir)
        self.source = MemorySource()
        self.commits: list[Oid] = []
        self._chance = random.Random(1)

    def grow(self, count: int) -> None:
        """Make more commits, all of which a branch reaches."""
        tree = self.source.add_tree({})
        for number in range(count):
            several = self._chance.sample(self.commits[-9:], min(len(self.commits), self._chance.choice([1, 1, 2, 3, 5])))
            when_s = 1_700_000_000 + 60 * len(self.commits) + number % 7 * 100
            self.commits.append(self.source.add_commit(tree, *several, when_s=when_s, message=f"{len(self.commits)}\n"))
        last = self.source.add_commit(tree, *self.commits[-9:], when_s=1 << 33)
        self.commits.append(last)
        self.source.write_to(self.git.git_dir)
        self.git.run("update-ref", "refs/heads/main", last.hex())

    def reached(self) -> set[Oid]:
        """Ask git which commits the branch reaches."""
        return {Oid(bytes.fromhex(line)) for line in self.git.text("rev-list", "main").split()}


@pytest.fixture
def history(tmp_path: Path) -> History:
    """Some commits."""
    made = History(tmp_path / "history.git")
    made.grow(40)
    return made


def known(history: History) -> dict[Oid, Links]:
    """Read all that the cache knows, and compare it with the commits."""
    graph = CommitGraph.open(history.git.git_dir / "objects")
    found = {oid: links for oid in history.commits if (links := graph.find(oid)) is not None}
    for oid, links in found.items():
        assert links == history.source.read_links(oid)
    assert graph.find(Oid(b"\xff" * 20)) is None
    assert graph.find(Oid(b"\0" * 20)) is None
    return found


def test_what_git_wrote_says_what_the_commits_say(history: History) -> None:
    """Parents in order, also more than two; dates after 2106; and nothing of what came later."""
    assert not known(history)
    history.git.run(*WRITE)
    reached = history.reached()
    assert known(history).keys() == reached
    history.grow(3)
    assert known(history).keys() == reached


def test_a_chain_of_layers_is_read(history: History) -> None:
    """Git adds a file at a time; parents may be in a lower one."""
    reached: set[Oid] = set()
    for _ in range(3):
        history.grow(5)
        history.git.run(*WRITE, "--split=no-merge")
        reached |= history.reached()
    assert len(list((history.git.git_dir / "objects" / "info" / "commit-graphs").glob("*.graph"))) == 3
    assert known(history).keys() == reached


def test_what_is_damaged_counts_as_none(history: History) -> None:
    """Each byte counts, and each missing one."""
    history.git.run(*WRITE)
    path = history.git.git_dir / "objects" / "info" / "commit-graph"
    path.chmod(0o644)
    data = path.read_bytes()
    for at in [*range(0, len(data), 97), len(data) - 1]:
        path.write_bytes(data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :])
        assert not known(history)
        path.write_bytes(data[:at])
        assert not known(history)
    path.write_bytes(data)
    assert known(history)


def test_far_walks_use_it_and_find_the_same(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without it the common ancestors are those of git; a shallow repository does without it."""
    monkeypatch.setattr(objects, "_NEAR", 0)
    history.git.run(*WRITE)
    chance = random.Random(2)
    with ObjectStore(history.git.git_dir) as store:
        for _ in range(20):
            one, two = chance.sample(history.commits, 2)
            assert bases(store, one, two) == bases_of_git(history.git, one, two)
    cut = history.commits[30]
    (history.git.git_dir / "shallow").write_text(f"{cut.hex()}\n")
    with ObjectStore(history.git.git_dir) as store:
        assert store.read_links(cut).parents == store.read_commit(cut).parents == ()
        (history.git.git_dir / "shallow").unlink()
        assert store.read_links(cut) == history.source.read_links(cut)


def bases(store: ObjectStore, one: Oid, two: Oid) -> list[str]:
    """Find common ancestors by what is tested here."""
    return sorted(oid.hex() for oid in find_merge_bases(store.read_links, one, two))


def bases_of_git(git: GitRepo, one: Oid, two: Oid) -> list[str]:
    """Find them by git."""
    return sorted(git.run("merge-base", "--all", one.hex(), two.hex(), check=False).decode().split())

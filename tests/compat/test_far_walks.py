"""Merge bases that are far away: git is asked, and says what the walk would find."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from avfs_git.gitstore.merge import bases as module
from avfs_git.gitstore.merge.bases import find_merge_bases, list_commits
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.paths import Oid
from tests.support.gitrepo import GitRepo, init
from tests.support.objects import MemorySource


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
            several = self._chance.sample(
                self.commits[-9:], min(len(self.commits), self._chance.choice([1, 1, 2, 3, 5]))
            )
            when_s = 1_700_000_000 + 60 * len(self.commits) + number % 7 * 100
            self.commits.append(self.source.add_commit(tree, *several, when_s=when_s, message=f"{len(self.commits)}\n"))
        last = self.source.add_commit(tree, *self.commits[-9:], when_s=1 << 33)
        self.commits.append(last)
        self.source.write_to(self.git.git_dir)
        self.git.run("update-ref", "refs/heads/main", last.hex())


@pytest.fixture
def history(tmp_path: Path) -> History:
    """Some commits."""
    made = History(tmp_path / "history.git")
    made.grow(40)
    return made


@pytest.mark.parametrize("has_graph", [False, True])
def test_far_walks_find_what_git_finds(has_graph: bool, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git is asked after some commits, and says the same as the walk, with a commit-graph and without."""
    if has_graph:
        history.git.run("commit-graph", "write", "--reachable")
    chance = random.Random(2)
    pairs = [chance.sample(history.commits, 2) for _ in range(20)]
    with ObjectStore(history.git.git_dir) as store:
        near = [bases(store, one, two) for one, two in pairs]
        monkeypatch.setattr(module, "_FAR", 3)
        assert [bases(store, one, two) for one, two in pairs] == near
        assert near == [bases_of_git(history.git, one, two) for one, two in pairs]


def test_git_is_asked_of_far_walks_only(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting it takes longer than reading a thousand commits."""
    asked: list[Oid] = []
    monkeypatch.setattr(ObjectStore, "ask_merge_bases", lambda _, ours, theirs: asked.extend((ours, theirs)))
    one, two = history.commits[3], history.commits[-1]
    with ObjectStore(history.git.git_dir) as store:
        near = bases(store, one, two)
        assert not asked
        monkeypatch.setattr(module, "_FAR", 3)
        assert bases(store, one, two) == near  # git could not tell: the walk went on
        assert asked == [one, two]


def test_the_commits_of_one_side_are_those_of_git(history: History) -> None:
    """Also where several were made in one second."""
    draw, tree = random.Random(3), history.source.add_tree({})
    commits = history.commits = list[Oid]()
    for number in range(60):
        parents = draw.sample(commits[-6:], min(len(commits), draw.choice([1, 1, 1, 2, 3])))
        text = f"of a second {number}\n"
        commits.append(history.source.add_commit(tree, *parents, when_s=1_700_000_000 + number // 8, message=text))
    history.source.write_to(history.git.git_dir)
    with ObjectStore(history.git.git_dir) as store:
        for _ in range(40):
            tip, *known = draw.sample(history.commits, draw.randint(2, 4))
            told = history.git.run("rev-list", tip.hex(), "--not", *(oid.hex() for oid in known)).decode().split()
            found = list_commits(store, tip, known, most=10_000)
            assert found is not None
            assert sorted(oid.hex() for oid in found) == sorted(told)
            assert list_commits(store, tip, known, most=len(told) - 1) is None or not told


def test_histories_without_a_commit_in_common_have_no_base(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git says so by its exit status."""
    other = history.source.add_commit(history.source.add_tree({}), when_s=1_700_000_000, message="other\n")
    history.source.write_to(history.git.git_dir)
    monkeypatch.setattr(module, "_FAR", 3)
    with ObjectStore(history.git.git_dir) as store:
        assert store.ask_merge_bases(other, history.commits[-1]) == []
        assert bases(store, other, history.commits[-1]) == []


def test_a_shallow_repository_ends_where_it_was_cut(history: History) -> None:
    """What is read of a commit changes when the rest is fetched."""
    cut = history.commits[30]
    (history.git.git_dir / "shallow").write_text(f"{cut.hex()}\n")
    with ObjectStore(history.git.git_dir) as store:
        assert store.read_links(cut).parents == store.read_commit(cut).parents == ()
        (history.git.git_dir / "shallow").unlink()
        assert store.read_links(cut) == history.source.read_links(cut)


def bases(store: ObjectStore, one: Oid, two: Oid) -> list[str]:
    """Find common ancestors by what is tested here."""
    return sorted(oid.hex() for oid in find_merge_bases(store, one, two))


def bases_of_git(git: GitRepo, one: Oid, two: Oid) -> list[str]:
    """Find them by git."""
    return sorted(git.run("merge-base", "--all", one.hex(), two.hex(), check=False).decode().split())

"""What a walk through trees may meet: a tree bomb is refused before it is walked, and what is large is not."""

from __future__ import annotations

import pytest

from avfs_git.errors import TooManyFiles
from avfs_git.gitstore import bounds
from avfs_git.gitstore.bounds import Bound, count_differences
from avfs_git.gitstore.compare.treediff import diff_trees
from avfs_git.gitstore.formats.packfile import KIND_TREE
from avfs_git.gitstore.formats.trees import serialize_tree
from avfs_git.paths import Oid
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.plan import plan_steps
from avfs_git.workspace.history.history import _count_tree
from tests.support.limited import make_bomb
from tests.support.objects import MemorySource


@pytest.fixture
def source() -> MemorySource:
    """Objects in memory."""
    return MemorySource()


@pytest.fixture
def bomb(source: MemorySource) -> Oid:
    """Ten thousand million files."""
    return make_bomb(source)


def test_a_count_reads_each_pair_of_trees_once(source: MemorySource, bomb: Oid) -> None:
    """However often it is named: files and directories of the whole are told."""
    source.read_count = 0

    assert count_differences(source, None, bomb) == sum(10**level for level in range(1, 11))
    assert count_differences(source, bomb, bomb) == 0
    assert source.read_count < 100


def test_a_count_is_of_what_differs(source: MemorySource, bomb: Oid) -> None:
    """A bomb on both sides counts with what is not the same in it."""
    other = source.add(
        KIND_TREE, serialize_tree({b"a": (0o40000, bomb), b"b": (0o40000, source.add_tree({b"f": (0o100644, b"")}))})
    )
    same = source.add(KIND_TREE, serialize_tree({b"a": (0o40000, bomb)}))

    assert count_differences(source, same, other) == 2


def test_a_deep_tree_is_counted(source: MemorySource) -> None:
    """One of 20,000 levels, which is deeper than Python's stack."""
    oid = source.add_tree({b"f": (0o100644, b"")})
    for _ in range(20_000):
        oid = source.add(KIND_TREE, serialize_tree({b"d": (0o40000, oid)}))

    assert count_differences(source, None, oid) == 20_001


def test_a_walk_ends_where_it_would_meet_too_much(
    source: MemorySource, bomb: Oid, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found out once, after a while; what is within the limit goes on."""
    monkeypatch.setattr(bounds, "ASKED_AFTER", 100)
    ten = source.add_tree({b"%d" % number: (0o100644, b"") for number in range(10)})
    bound = Bound(source, (None, ten))
    for _ in range(1000):
        bound.meet(10)

    bound = Bound(source, (None, bomb))
    bound.meet(100)
    with pytest.raises(TooManyFiles):
        bound.meet()


def test_the_differences_of_a_bomb_are_refused(source: MemorySource, bomb: Oid) -> None:
    """Between two trees."""
    with pytest.raises(TooManyFiles):
        diff_trees(source, None, bomb)


@pytest.mark.parametrize("is_side", [False, True])
def test_the_steps_to_a_bomb_are_refused(source: MemorySource, bomb: Oid, is_side: bool) -> None:
    """Whether it is in git's tree or in the sidecar."""
    side, mode = source.add_tree({b"=f": (0o100644, b"")}), 0o40000
    for _ in range(10):
        side = source.add(KIND_TREE, serialize_tree({b"=%d" % number: (mode, side) for number in range(10)}))
    now, wanted = (
        LowerTree(source, *trees, default_mtime_ns=0)
        for trees in ((None, None), (None, side) if is_side else (bomb, None))
    )

    with pytest.raises(TooManyFiles):
        plan_steps(now, wanted)


def test_what_a_checkpoint_holds_is_counted_without_a_walk(source: MemorySource, bomb: Oid) -> None:
    """Files and bytes of a tree bomb are told exactly."""
    assert _count_tree(source, bomb) == (10**10, 2 * 10**10)

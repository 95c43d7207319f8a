"""How sidecars differ: what came, went and changed, each once, and nothing of what is only times."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfs_git.errors import ObjectCorrupt
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_FILE, MODE_SYMLINK
from avfs_git.model import ChangedFile, ChangeKind
from avfs_git.vfs.layer.sidecar import Meta
from avfs_git.workspace.capture.sidecardiff import diff_sidecars
from tests.support.objects import MemorySource

Made = dict[bytes, object]
NAMES = st.sampled_from([b"a", b"b", b"%", b".git"])
_metas = st.builds(
    Meta, st.sampled_from([1, 2]), st.none() | st.just(0o600), st.sampled_from([(), ((b"user.k", b"v"),)])
)
_leaves = st.tuples(st.sampled_from([MODE_FILE, MODE_EXEC, MODE_SYMLINK]), st.sampled_from([b"1", b"2"]))
_sides: st.SearchStrategy[Made] = st.recursive(
    st.dictionaries(NAMES, st.tuples(st.just(None), _leaves, st.just(True), _metas), max_size=3),
    lambda below: st.dictionaries(NAMES, st.tuples(st.none() | below, _leaves, st.booleans(), _metas), max_size=3),
    max_leaves=8,
)
_REVERSED = {ChangeKind.ADDED: ChangeKind.DELETED, ChangeKind.DELETED: ChangeKind.ADDED}


def _reverse(change: ChangedFile) -> ChangedFile:
    return replace(
        change,
        kind=_REVERSED.get(change.kind, change.kind),
        old_oid=change.new_oid,
        new_oid=change.old_oid,
        old_mode=change.new_mode,
        new_mode=change.old_mode,
    )


@given(_sides, _sides)
@pytest.mark.slow
def test_the_other_way_round_is_the_reverse(old: Made, new: Made) -> None:
    """What came one way went the other; each path is named once, in order."""
    source = MemorySource()
    left, right = source.add_sidecar(old), source.add_sidecar(new)
    there = diff_sidecars(source, left, right)

    assert diff_sidecars(source, right, left) == [_reverse(change) for change in there]
    assert [change.path for change in there] == sorted({change.path for change in there})


@given(_sides)
@pytest.mark.slow
def test_all_that_is_there_came_from_nothing(made: Made) -> None:
    """Against no sidecar at all, each untracked name at the top is one addition, whatever it holds."""
    source = MemorySource()
    oid = source.add_sidecar(made)
    untracked = {name for name, what in made.items() if isinstance(what, tuple) and what[2]}
    found = diff_sidecars(source, None, oid)

    assert {change.path for change in found if change.kind is ChangeKind.ADDED and b"/" not in change.path} == untracked
    assert diff_sidecars(source, oid, oid) == []
    assert [_reverse(change) for change in found] == diff_sidecars(source, oid, None)


@given(_sides, st.sampled_from([3, 4]))
@pytest.mark.slow
def test_times_are_no_difference(made: Made, mtime_ns: int) -> None:
    """A sidecar of which only times are other ones does not differ."""

    def later(held: Made) -> Made:
        found: Made = {}
        for name, what in held.items():
            assert isinstance(what, tuple)
            below, leaf, untracked, meta = what
            below = later(below) if below is not None else None
            found[name] = (below, leaf, untracked, Meta(mtime_ns, meta.mode, meta.xattrs))
        return found

    source = MemorySource()

    assert diff_sidecars(source, source.add_sidecar(made), source.add_sidecar(later(made))) == []


def test_equal_parts_are_not_opened() -> None:
    """It costs what differs: subtrees that are the same are not read."""
    source = MemorySource()
    meta = Meta(1, None, ())
    same: Made = {b"%d" % number: (None, (MODE_FILE, b"x"), True, meta) for number in range(50)}
    old: Made = {b"d%d" % number: (same, (MODE_FILE, b""), True, meta) for number in range(50)}
    left = source.add_sidecar(old)
    right = source.add_sidecar({**old, b"new": (None, (MODE_FILE, b"new"), True, meta)})
    source.read_count = 0

    assert [change.path for change in diff_sidecars(source, left, right)] == [b"new"]
    assert source.read_count <= 6


def test_what_is_no_sidecar_is_refused() -> None:
    """An entry that no sidecar has is damage, not a difference."""
    source = MemorySource()
    wrong = source.add_tree({b"plain": (MODE_FILE, b"")})
    with pytest.raises(ObjectCorrupt):
        diff_sidecars(source, None, wrong)

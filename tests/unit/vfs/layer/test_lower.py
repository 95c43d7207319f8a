"""The lower layer: with any tree and sidecar, each question has the answer that looking at everything gives."""

from __future__ import annotations

import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfs_git.errors import ObjectCorrupt, ObjectMissing
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_TREE
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_FILE, MODE_GITLINK, MODE_SYMLINK, MODE_TREE, serialize_tree
from avfs_git.paths import ROOT, Oid, TreePath, components
from avfs_git.vfs.layer.lower import CACHED_BYTES, FixedFile, LowerEntry, LowerTree
from avfs_git.vfs.layer.sidecar import Meta
from tests.support.objects import MemorySource

NOW_NS = 1_700_000_000_000_000_000
NAMES = (b"a", b"b", b"c")

_metas = st.builds(
    Meta,
    st.none() | st.sampled_from([1, NOW_NS]),
    st.none() | st.sampled_from([0o600, 0o700, 0o755, 0o644]),
    st.just(()),
)
_leaves = st.sampled_from(
    [(MODE_FILE, b"1"), (MODE_FILE, b"2"), (MODE_EXEC, b"1"), (MODE_SYMLINK, b"t"), (MODE_GITLINK, b"g")]
)
Made = dict[bytes, object]
_trees: st.SearchStrategy[Made] = st.recursive(
    st.dictionaries(st.sampled_from(NAMES), _leaves, max_size=3),
    lambda below: st.dictionaries(st.sampled_from(NAMES), _leaves | below, max_size=3),
    max_leaves=8,
)
_sides: st.SearchStrategy[Made] = st.recursive(
    st.dictionaries(st.sampled_from(NAMES), st.tuples(st.just(None), _leaves, st.booleans(), _metas), max_size=3),
    lambda below: st.dictionaries(
        st.sampled_from(NAMES), st.tuples(st.none() | below, _leaves, st.booleans(), _metas), max_size=3
    ),
    max_leaves=8,
)


def _add_tree(source: MemorySource, made: Made) -> Oid:
    entries: dict[bytes, tuple[int, Oid]] = {}
    for name, what in made.items():
        if isinstance(what, dict):
            entries[name] = (MODE_TREE, _add_tree(source, what))
        else:
            assert isinstance(what, tuple)
            entries[name] = (what[0], Oid(b"g" * 20) if what[0] == MODE_GITLINK else source.add(KIND_BLOB, what[1]))
    return source.add(KIND_TREE, serialize_tree(entries))


def _make(source: MemorySource, tree: Made, side: Made) -> LowerTree:
    return LowerTree(source, _add_tree(source, tree), source.add_sidecar(side), default_mtime_ns=NOW_NS)


def _facts(entry: LowerEntry) -> tuple[object, ...]:
    return entry.kind, entry.mode, entry.oid, entry.tree, entry.sidecar, entry.xattrs, entry.tracked


def _walk(lower: LowerTree) -> dict[TreePath, LowerEntry]:
    found = {ROOT: lower.root}
    waiting = [(ROOT, lower.root)]
    while waiting:
        path, entry = waiting.pop()
        for name, child in lower.children(entry).items():
            below = TreePath(path + b"/" + name if path else name)
            found[below] = child
            if child.is_dir:
                waiting.append((below, child))
    return found


@given(_trees, _sides)
@pytest.mark.slow
def test_looking_up_finds_what_listing_shows(tree: Made, side: Made) -> None:
    """Every path that listing leads to can be looked up, and nothing below a file can."""
    lower = _make(MemorySource(), tree, side)
    shown = _walk(lower)
    for path, entry in shown.items():
        found = lower.lookup(path)
        assert found is not None
        assert (*_facts(found), found.mtime_ns) == (*_facts(entry), entry.mtime_ns)
        if not entry.is_dir:
            assert lower.lookup(TreePath(path + b"/a")) is None
        for name in NAMES:
            below = TreePath(path + b"/" + name if path else name)
            assert (lower.lookup(below) is None) == (below not in shown)


@given(_trees, _sides)
@pytest.mark.slow
def test_the_tree_wins_in_what_git_says(tree: Made, side: Made) -> None:
    """Every name of the git tree is there with its kind, content and execute bit, whatever the sidecar says of it."""
    source = MemorySource()
    lower = _make(source, tree, side)

    def check(made: Made, entry: LowerEntry) -> None:
        children = lower.children(entry)
        for name, what in made.items():
            child = children[name]
            assert child.tracked
            if isinstance(what, dict):
                assert child.kind == "dir"
                check(what, child)
                continue
            assert isinstance(what, tuple)
            mode, content = what
            assert child.kind == {MODE_SYMLINK: "symlink", MODE_GITLINK: "gitlink"}.get(mode, "file")
            if mode != MODE_GITLINK:
                assert lower.read(child) == b"".join(lower.stream(child)) == content
                assert lower.size_of(child) == len(content)
            if mode in (MODE_FILE, MODE_EXEC):
                assert bool(child.mode & 0o100) == (mode == MODE_EXEC)

    check(tree, lower.root)


@given(_trees, _sides, _trees, _sides)
@pytest.mark.slow
def test_what_differs_is_what_a_look_at_everything_finds(
    tree: Made, side: Made, other_tree: Made, other_side: Made
) -> None:
    """`differing_children` leaves out only what both directories show alike, times aside."""
    source = MemorySource()
    left, right = _make(source, tree, side), _make(source, other_tree, other_side)
    mine, theirs = left.differing_children(left.root, right, right.root)
    all_mine, all_theirs = left.children(left.root), right.children(right.root)
    for name in all_mine.keys() | all_theirs.keys():
        before, after = all_mine.get(name), all_theirs.get(name)
        if (before and _facts(before)) != (after and _facts(after)):
            assert (name in mine) == (before is not None)
            assert (name in theirs) == (after is not None)
    for found, everything in ((mine, all_mine), (theirs, all_theirs)):
        for name, entry in found.items():
            assert (*_facts(entry), entry.mtime_ns) == (*_facts(everything[name]), everything[name].mtime_ns)


@given(_trees, _sides, _trees, _sides)
@pytest.mark.slow
def test_what_only_one_sidecar_holds_is_found(tree: Made, side: Made, other_tree: Made, other_side: Made) -> None:
    """`differing_untracked` leaves out only what git tracks on either side, and what both sidecars hold alike."""
    source = MemorySource()
    left, right = _make(source, tree, side), _make(source, other_tree, other_side)
    mine, theirs = left.differing_untracked(left.root, right, right.root)
    all_mine, all_theirs = left.children(left.root), right.children(right.root)
    for name, entry in all_mine.items():
        there = all_theirs.get(name)
        if not entry.tracked and (there is None or (there.tracked, there.oid) != (False, entry.oid)):
            # Of a submodule, the commit is git's.
            alike = there is not None and there.sidecar == entry.sidecar and (there.is_dir or there.oid == entry.oid)
            # A sidecar may go on holding what git tracks by now; the place is taken either way.
            assert (
                name in mine or alike or (there is not None and there.tracked and not (there.is_dir and entry.is_dir))
            )
    for found, everything in ((mine, all_mine), (theirs, all_theirs)):
        for name, entry in found.items():
            assert (*_facts(entry), entry.mtime_ns) == (*_facts(everything[name]), everything[name].mtime_ns)
    assert {name for name in mine if name in all_theirs} == theirs.keys() & mine.keys()


@given(_trees, _sides)
def test_reading_what_is_stored_agrees_with_listing(tree: Made, side: Made) -> None:
    """A directory, and the time of an entry, are the same by either way."""
    lower = _make(MemorySource(), tree, side)
    held = lower.read_stored(lower.root)
    for name in NAMES:
        listed = lower.children(lower.root).get(name)
        found = lower.child_dir(held, name)
        assert (found is not None) == (listed is not None and listed.is_dir)
        if found is not None and listed is not None:
            assert _facts(found) == _facts(listed)
        if listed is not None:
            assert held.mtime_ns(name, NOW_NS) == listed.mtime_ns


def test_an_empty_layer_is_an_empty_directory() -> None:
    """Without a tree and a sidecar there is a root of usual mode, and nothing in it."""
    lower = LowerTree(MemorySource(), None, None, default_mtime_ns=NOW_NS)

    assert lower.root.mode == stat.S_IFDIR | 0o755
    assert not lower.children(lower.root)
    assert lower.lookup(TreePath(b"a")) is None
    assert components(ROOT) == []


def test_the_cache_forgets_before_it_grows() -> None:
    """Many directories are listed in bounded memory, and a directory that was forgotten is read again."""
    source = MemorySource()
    wide = {b"%05d" % number: (MODE_FILE, source.add(KIND_BLOB, b"")) for number in range(CACHED_BYTES // 1_100)}
    trees = [
        source.add(KIND_TREE, serialize_tree({**wide, b"n%d" % number: (MODE_FILE, source.add(KIND_BLOB, b""))}))
        for number in range(6)
    ]
    top = source.add(
        KIND_TREE, serialize_tree({b"d%d" % number: (MODE_TREE, tree) for number, tree in enumerate(trees)})
    )
    lower = LowerTree(source, top, None, default_mtime_ns=NOW_NS)
    for number in (0, 1, 2, 3, 4, 5, 0):
        directory = lower.children(lower.root)[b"d%d" % number]

        assert b"n%d" % number in lower.children(directory)
        assert lower._cached <= CACHED_BYTES


def test_what_is_damaged_is_named() -> None:
    """A tree that is missing and a sidecar that is none are typed errors."""
    source = MemorySource()
    gone = LowerTree(source, Oid(b"\1" * 20), None, default_mtime_ns=0)
    with pytest.raises(ObjectMissing):
        gone.children(gone.root)
    with pytest.raises(ObjectCorrupt):
        LowerTree(source, None, source.add_tree({b"no sidecar": (MODE_FILE, b"")}), default_mtime_ns=0)
    meta = source.add_tree({b"meta": (MODE_FILE, b"nonsense")})
    with pytest.raises(ObjectCorrupt):
        LowerTree(source, None, meta, default_mtime_ns=0)


def test_a_file_that_no_object_holds_is_read() -> None:
    """What only a live tree shows has a size and content like others."""
    lower = LowerTree(MemorySource(), None, None, default_mtime_ns=0)
    entry = FixedFile(b"gitdir: x\n", 5)

    assert (lower.size_of(entry), lower.read(entry), list(lower.stream(entry))) == (
        10,
        b"gitdir: x\n",
        [b"gitdir: x\n"],
    )

"""Trees: parsing refuses what must not reach a disk, and edits rebuild what they touch and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfs_git.errors import HostileTree, InternalError, InvalidPath, ObjectCorrupt
from avfs_git.gitstore.formats.packfile import KIND_TREE
from avfs_git.gitstore.formats.trees import (
    EMPTY_TREE,
    MODE_EXEC,
    MODE_FILE,
    MODE_GITLINK,
    MODE_SYMLINK,
    MODE_TREE,
    differing_names,
    edit_tree,
    find_entry,
    is_forbidden_name,
    parse_tree,
    serialize_tree,
)
from avfs_git.gitstore.objects.store import hash_object
from avfs_git.paths import Oid, TreePath, components
from tests.support.objects import MemorySource

X = Oid(b"x" * 20)
Y = Oid(b"y" * 20)
OF = Oid(b"o" * 20)

names = st.binary(min_size=1, max_size=8).filter(
    lambda name: b"/" not in name and b"\0" not in name and not is_forbidden_name(name)
)
modes = st.sampled_from([MODE_FILE, MODE_EXEC, MODE_SYMLINK, MODE_TREE, MODE_GITLINK])
oids = st.binary(min_size=20, max_size=20).filter(any).map(Oid)

FORBIDDEN = [
    b".",
    b"..",
    b".git",
    b".GIT",
    b".Git",
    b".git ",
    b".git.",
    b".git. . ",
    b".git::$INDEX_ALLOCATION",
    b".git:stream",
    b"git~1",
    b"GIT~1",
    b"git~1.",
    b"git~1::x",
    b".git\\config",
    b"a\\.git",
    b"a\\git~1\\b",
    b".g\xe2\x80\x8cit",
    b"\xe2\x80\x8d.git",
    b".git\xe2\x81\xaa",
    b"\xef\xbb\xbf.GIT",
    b".git\xff",
    b".git\xc3",
    b".git\xed\xa0\x80",
]
ALLOWED = [
    b"...",
    b".gi",
    b".gitt",
    b".gitignore",
    b".gitmodules",
    b".github",
    b"git",
    b"git~2",
    b"git~10",
    b"x.git",
    b"a\\b",
    b"\\",
    b"\xff\xfe",
    b".git\xc3\xa9",
    b".g\xc3\xa9t",
    b"\xe2\x80\x8c",
    b"with space",
    b"new\nline",
    b".git\n",
    b" .git",
    b"~1",
]


def entry(mode: bytes, name: bytes, oid: bytes = X) -> bytes:
    """Write one entry as it stands in a tree."""
    return mode + b" " + name + b"\0" + oid


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_name_that_git_refuses_is_forbidden(name: bytes) -> None:
    """Every spelling that some file system takes for `.git` is refused, reading and writing."""
    assert is_forbidden_name(name)
    with pytest.raises(HostileTree) as raised:
        parse_tree(entry(b"100644", name), OF)
    assert raised.value.code == "vault.hostile_tree"
    with pytest.raises(InvalidPath):
        serialize_tree({name: (MODE_FILE, X)})


@pytest.mark.parametrize("name", ALLOWED)
def test_a_name_that_git_allows_is_allowed(name: bytes) -> None:
    """Names that only look alike pass, reading and writing."""
    assert not is_forbidden_name(name)

    assert parse_tree(serialize_tree({name: (MODE_FILE, X)}), OF) == {name: (MODE_FILE, X)}


@pytest.mark.parametrize("forbidden", FORBIDDEN)
def test_a_forbidden_name_is_found_among_others(forbidden: bytes) -> None:
    """The quick look over all names of a tree misses none that the exact one refuses."""
    data = b"".join(entry(b"100644", name) for name in sorted([*ALLOWED, forbidden]))

    with pytest.raises(HostileTree):
        parse_tree(data, OF)


@given(st.dictionaries(names, st.tuples(modes, oids), max_size=20))
def test_trees_survive_writing_and_reading(entries: dict[bytes, tuple[int, Oid]]) -> None:
    """What is written reads back the same, in git's order."""
    data = serialize_tree(entries)
    tree = parse_tree(data, OF)

    assert dict(tree) == entries
    assert list(tree) == sorted(entries, key=lambda name: name + b"/" if entries[name][0] == MODE_TREE else name)
    assert serialize_tree(tree) == data


MANY: dict[bytes, tuple[int, Oid]] = {b"n%02d" % number: (MODE_FILE, Y) for number in range(30)}
large_trees = st.dictionaries(names, st.tuples(modes, oids), max_size=8).map(lambda some: MANY | some)


@given(large_trees, st.lists(st.tuples(st.integers(0, 99), st.one_of(oids, modes, names, st.none())), max_size=9))
def test_the_names_that_differ_in_large_trees_are_those_whose_entries_do(
    entries: dict[bytes, tuple[int, Oid]], changes: list[tuple[int, bytes | int | None]]
) -> None:
    """Also where kinds, names or many ids change, so that the bytes alone say nothing."""
    changed = dict(entries)
    for place, change in changes:
        name = sorted(changed)[place % len(changed)]
        mode, oid = changed.pop(name)
        if isinstance(change, int):
            changed[name] = change, oid
        elif change is not None and len(change) == 20:
            changed[name] = mode, Oid(change)
        elif change is not None:
            changed[change] = mode, oid
    before, after = (parse_tree(serialize_tree(one), X) for one in (entries, changed))
    expected = {name for name in entries.keys() | changed.keys() if entries.get(name) != changed.get(name)}
    assert sorted(differing_names(before, after)) == sorted(expected)
    assert sorted(differing_names(after, before)) == sorted(expected)


def test_the_empty_tree_has_the_id_that_git_gives_it() -> None:
    """The constant is the id of a tree without entries."""
    assert hash_object(KIND_TREE, serialize_tree({})) == EMPTY_TREE
    assert parse_tree(b"", EMPTY_TREE) == {}


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (entry(b"100644", b""), HostileTree),
        (entry(b"100644", b"a/b"), HostileTree),
        (entry(b"100644", b"/etc"), HostileTree),
        (entry(b"100644", b"a") + entry(b"100644", b"a"), HostileTree),
        (entry(b"100644", b"a") + entry(b"100644", b"a.b") + entry(b"40000", b"a"), HostileTree),
        (entry(b"100644", b"b") + entry(b"100644", b"a"), ObjectCorrupt),
        (entry(b"40000", b"a") + entry(b"100644", b"a.b"), ObjectCorrupt),
        (entry(b"104755", b"a"), ObjectCorrupt),
        (entry(b"20666", b"device"), ObjectCorrupt),
        (entry(b"100600", b"a"), ObjectCorrupt),
        (entry(b"", b"a"), ObjectCorrupt),
        (entry(b"0", b"a"), ObjectCorrupt),
        (entry(b"100644", b"a", bytes(20)), ObjectCorrupt),
        (entry(b"100644", b"a")[:-1], ObjectCorrupt),
        (entry(b"100644", b"a") + b"100644 b", ObjectCorrupt),
        (entry(b"100644", b"a") + b"\0", ObjectCorrupt),
        (b"garbage", ObjectCorrupt),
        (b"100644\0" + entry(b"100644", b"a"), ObjectCorrupt),
    ],
)
def test_a_tree_that_git_would_not_write_is_refused(data: bytes, error: type[ObjectCorrupt]) -> None:
    """Damage and malice are told apart, and neither is read."""
    with pytest.raises(ObjectCorrupt) as raised:
        parse_tree(data, OF)

    assert type(raised.value) is error
    assert raised.value.details["oid"] == OF.hex()


@given(st.binary(max_size=60))
def test_any_bytes_are_a_tree_or_an_error(data: bytes) -> None:
    """Nothing else than the two comes out, whatever goes in."""
    try:
        tree = parse_tree(data, OF)
    except ObjectCorrupt:
        return
    assert len(tree) or not data


def test_modes_of_old_git_are_read_as_git_reads_them() -> None:
    """Group-writable files and padded directory modes of old histories are read in their present spelling."""
    assert parse_tree(entry(b"100664", b"a") + entry(b"040000", b"b"), OF) == {
        b"a": (MODE_FILE, X),
        b"b": (MODE_TREE, X),
    }


def test_a_mode_that_is_not_gits_cannot_be_written() -> None:
    """Writing a mode that git does not know is a bug of the caller."""
    with pytest.raises(InternalError):
        serialize_tree({b"a": (0o100600, X)})


# --- finding and editing -------------------------------------------------------------------------------------


def paths(source: MemorySource, tree: Oid | None) -> dict[bytes, tuple[int, Oid]]:
    """List all that is not a tree, by path."""
    found: dict[bytes, tuple[int, Oid]] = {}
    if tree is not None:
        for name, (mode, oid) in source.read_tree(tree).items():
            if mode == MODE_TREE:
                found |= {name + b"/" + path: below for path, below in paths(source, oid).items()}
            else:
                found[name] = (mode, oid)
    return found


class Sink(MemorySource):
    """A source that also takes files; counts the trees it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.added: list[Oid] = []

    def add(self, kind: int, data: bytes, *, keep: bool = False) -> Oid:
        """Keep an object and note it."""
        oid = super().add(kind, data)
        self.added.append(oid)
        return oid

    def add_file(self, fd: int, size: int, *, goes_on: bool = False) -> Oid:
        """Take no file: edits of trees hand over none."""
        raise NotImplementedError


def edit(sink: Sink, tree: Oid | None, edits: dict[bytes, tuple[int, Oid] | None]) -> Oid | None:
    """Apply edits whose paths are plain bytes."""
    return edit_tree(sink, sink, tree, {TreePath(path): change for path, change in edits.items()})


@pytest.fixture
def sink() -> Sink:
    """An empty store of objects."""
    return Sink()


def test_entries_are_found_by_path(sink: Sink) -> None:
    """A path leads to its entry, the root to the tree, and everything else to nothing."""
    tree = sink.add_tree({b"a/b/c": (MODE_FILE, b"1"), b"d": (MODE_SYMLINK, b"a")})

    assert find_entry(sink, tree, TreePath(b"")) == (MODE_TREE, tree)
    found = find_entry(sink, tree, TreePath(b"a/b/c"))
    assert found is not None
    assert sink.read_blob(found[1]) == b"1"
    assert find_entry(sink, tree, TreePath(b"a/b")) == (MODE_TREE, sink.add_tree({b"c": (MODE_FILE, b"1")}))
    assert find_entry(sink, tree, TreePath(b"a/x")) is None
    assert find_entry(sink, tree, TreePath(b"d/b/c")) is None


def test_only_trees_on_the_path_are_rebuilt(sink: Sink) -> None:
    """An edit reads and writes as many trees as its path is deep, however many there are."""
    tree = sink.add_tree({b"d%d/e%d/f" % (i, j): (MODE_FILE, b"%d" % j) for i in range(10) for j in range(10)})
    sink.added.clear()
    sink.read_count = 0
    edited = edit(sink, tree, {b"d3/e4/new": (MODE_FILE, X)})

    assert len(sink.added) == 3
    assert sink.read_count <= 6  # three trees, each counted when asked for and when read
    assert paths(sink, edited) == {**paths(sink, tree), b"d3/e4/new": (MODE_FILE, X)}


def test_an_edit_that_changes_nothing_writes_nothing(sink: Sink) -> None:
    """Putting back what is there, or removing what is not, gives the same tree without a write."""
    tree = sink.add_tree({b"a/b": (MODE_FILE, b"1"), b"c": (MODE_FILE, b"2")})
    there = find_entry(sink, tree, TreePath(b"a/b"))
    sink.added.clear()

    assert edit(sink, tree, {}) == tree
    assert edit(sink, tree, {b"a/b": there, b"x/y": None, b"c/d": None}) == tree
    assert sink.added == []


def test_empty_directories_vanish(sink: Sink) -> None:
    """Removing the last file of a directory removes the directory, and at last the tree."""
    tree = sink.add_tree({b"a/b/c": (MODE_FILE, b"1"), b"d": (MODE_FILE, b"2")})

    edited = edit(sink, tree, {b"a/b/c": None})
    assert list(paths(sink, edited)) == [b"d"]
    assert edit(sink, edited, {b"d": None}) is None
    assert edit(sink, None, {b"d": None}) is None


def test_a_file_becomes_a_directory_and_back(sink: Sink) -> None:
    """An edit below a file replaces the file; an edit at a directory replaces all that it held."""
    tree = sink.add_tree({b"a": (MODE_FILE, b"1")})

    directory = edit(sink, tree, {b"a/b": (MODE_FILE, X)})
    assert paths(sink, directory) == {b"a/b": (MODE_FILE, X)}
    assert paths(sink, edit(sink, directory, {b"a": (MODE_EXEC, Y)})) == {b"a": (MODE_EXEC, Y)}


def test_edits_below_an_edit_apply_to_what_it_put_there(sink: Sink) -> None:
    """A subtree can be put in place, or a directory emptied, and edited at once."""
    tree = sink.add_tree({b"a/old": (MODE_FILE, b"1"), b"z": (MODE_FILE, b"1")})
    other = sink.add_tree({b"one": (MODE_FILE, b"1"), b"two": (MODE_FILE, b"2")})

    grafted = edit(sink, tree, {b"a": (MODE_TREE, other), b"a/one": None, b"a/three": (MODE_FILE, X)})
    assert set(paths(sink, grafted)) == {b"a/two", b"a/three", b"z"}
    emptied = edit(sink, tree, {b"a": None, b"a/new": (MODE_FILE, X)})
    assert set(paths(sink, emptied)) == {b"a/new", b"z"}


@pytest.mark.parametrize("edits", [{b"": (MODE_FILE, X)}, {b"a": (MODE_FILE, X), b"a/b": (MODE_FILE, Y)}])
def test_edits_that_contradict_each_other_are_a_bug(sink: Sink, edits: dict[bytes, tuple[int, Oid] | None]) -> None:
    """The root cannot be replaced, and nothing can be put below what becomes a file."""
    with pytest.raises(InternalError):
        edit(sink, None, edits)


def test_a_tree_may_be_deeper_than_any_stack(sink: Sink) -> None:
    """4,000 nested directories are built, found and taken away without recursion."""
    deep = b"/".join([b"d"] * 4_000)
    tree = edit(sink, None, {deep: (MODE_FILE, X)})

    assert tree is not None
    assert find_entry(sink, tree, TreePath(deep)) == (MODE_FILE, X)
    assert edit(sink, tree, {deep: None}) is None


short = st.sampled_from([b"a", b"b", b"a.b", b"c"])
some_paths = st.lists(short, min_size=1, max_size=3).map(b"/".join)


def apply_plainly(
    files: dict[bytes, tuple[int, Oid]], edits: dict[bytes, tuple[int, Oid] | None]
) -> dict[bytes, tuple[int, Oid]]:
    """Apply edits one by one to a flat list of files, shallow ones first: what `edit_tree` has to agree with."""
    for path, change in sorted(edits.items(), key=lambda item: item[0].count(b"/")):
        files = {name: held for name, held in files.items() if name != path and not name.startswith(path + b"/")}
        if change is not None:
            parts = components(TreePath(path))
            above = {b"/".join(parts[:end]) for end in range(1, len(parts))}
            files = {name: held for name, held in files.items() if name not in above}
            files[path] = change
    return files


@given(
    st.lists(
        st.dictionaries(some_paths, st.none() | st.sampled_from([(MODE_FILE, X), (MODE_EXEC, Y)]), max_size=5),
        max_size=4,
    )
)
@pytest.mark.slow
def test_edits_agree_with_a_flat_list_of_files(rounds: list[dict[bytes, tuple[int, Oid] | None]]) -> None:
    """Whatever is edited, the tree holds what a list of paths would."""
    sink = Sink()
    tree: Oid | None = None
    files: dict[bytes, tuple[int, Oid]] = {}
    for edits in rounds:
        put = {path for path, change in edits.items() if change is not None}
        if any(other.startswith(path + b"/") for path in put for other in put):
            continue  # a contradiction, see above
        tree = edit(sink, tree, edits)
        files = apply_plainly(files, edits)

        assert paths(sink, tree) == files

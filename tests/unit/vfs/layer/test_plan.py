"""Lower layers made of a tree and a sidecar, and the plans that lead from one to another."""

from __future__ import annotations

import stat

import pytest

from avfs_git.errors import HostileTree
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_TREE
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_FILE, MODE_GITLINK, MODE_SYMLINK, MODE_TREE, serialize_tree
from avfs_git.paths import ROOT, Oid, TreePath
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.plan import Step, plan_steps
from avfs_git.vfs.layer.sidecar import SELF, Meta, SideEntry, compose_sidecar, format_record, serialize_records
from avfs_git.workspace.capture.sidecardiff import diff_sidecars
from tests.support.objects import Files, MemorySource

NOW_NS = 1_700_000_000_000_000_000


@pytest.fixture
def source() -> MemorySource:
    """No objects."""
    return MemorySource()


def _sidecar(source: MemorySource, children: dict[bytes, SideEntry], metas: dict[bytes, Meta] | None = None) -> Oid:
    """Make one directory of a sidecar."""
    meta = None
    if metas:
        meta = source.add(KIND_BLOB, serialize_records({name: format_record(each) for name, each in metas.items()}))
    return source.add(KIND_TREE, serialize_tree(compose_sidecar(children, meta)))


def _file(source: MemorySource, content: bytes) -> SideEntry:
    return SideEntry(MODE_FILE, source.add(KIND_BLOB, content), untracked=True)


def _lower(source: MemorySource, files: Files, sidecar: Oid | None = None) -> LowerTree:
    return LowerTree(source, source.add_tree(files), sidecar, default_mtime_ns=NOW_NS)


def _told(steps: list[Step]) -> list[tuple[bytes, str]]:
    return [
        (step.path, "-" if step.after is None else "+" if step.before is None else "!" if step.is_removal else "~")
        for step in steps
    ]


# --- lower -----------------------------------------------------------------------------------------------------


def test_a_tree_shows_with_usual_attributes(source: MemorySource) -> None:
    """What only git knows of has the modes that git means, and one time for all."""
    lower = _lower(
        source,
        {
            b"dir/file": (MODE_FILE, b"1"),
            b"tool": (MODE_EXEC, b"2"),
            b"link": (MODE_SYMLINK, b"dir"),
            b"module": (MODE_GITLINK, b"m" * 20),
        },
    )
    found = {
        name: (entry.kind, stat.S_IMODE(entry.mode), entry.mtime_ns)
        for name, entry in lower.children(lower.root).items()
    }

    assert found == {
        b"dir": ("dir", 0o755, NOW_NS),
        b"tool": ("file", 0o755, NOW_NS),
        b"link": ("symlink", 0o777, NOW_NS),
        b"module": ("gitlink", 0o755, NOW_NS),
    }
    file = lower.lookup(TreePath(b"dir/file"))
    assert file is not None
    assert (lower.read(file), lower.size_of(file), file.tracked) == (b"1", 1, True)
    assert lower.lookup(TreePath(b"tool/x")) is None
    assert lower.lookup(TreePath(b"link/file")) is None


def test_a_sidecar_adds_what_git_does_not_say(source: MemorySource) -> None:
    """Untracked files, empty directories, modes, times and attributes come from the sidecar.

    Content from the tree wins.
    """
    empty = SideEntry(MODE_TREE, _sidecar(source, {}), untracked=True)
    sidecar = _sidecar(
        source,
        {b"secret.log": _file(source, b"ignored"), b"empty": empty, b"both": _file(source, b"of the sidecar")},
        {b"tool": Meta(5, 0o700, ((b"user.x", b"1"),)), SELF: Meta(7, 0o711)},
    )
    lower = _lower(source, {b"tool": (MODE_EXEC, b"2"), b"both": (MODE_FILE, b"of the tree")}, sidecar)
    children = lower.children(lower.root)

    assert set(children) == {b"secret.log", b"empty", b"both", b"tool"}
    assert (stat.S_IMODE(lower.root.mode), lower.root.mtime_ns) == (0o711, 7)
    tool = children[b"tool"]
    assert (stat.S_IMODE(tool.mode), tool.mtime_ns, tool.xattrs) == (0o700, 5, ((b"user.x", b"1"),))
    assert children[b"empty"].is_dir
    assert not children[b"secret.log"].tracked
    assert lower.read(children[b"both"]) == b"of the tree"


@pytest.mark.parametrize("name", [b"..", b".", b".git"])
def test_a_name_that_must_not_reach_a_disk_is_refused(source: MemorySource, name: bytes) -> None:
    """A hostile tree is not shown, whoever made it."""
    blob = source.add(KIND_BLOB, b"x")
    tree = source.add(KIND_TREE, b"100644 " + name + b"\0" + blob)
    lower = LowerTree(source, tree, None, default_mtime_ns=0)
    with pytest.raises(HostileTree):
        lower.children(lower.root)


# --- plans -----------------------------------------------------------------------------------------------------


def test_a_plan_lists_what_differs(source: MemorySource) -> None:
    """Each path that differs once, directories before what is in them; what is alike is not opened."""
    same = {b"same/%d/f" % number: (MODE_FILE, b"%d" % number) for number in range(50)}
    now = _lower(
        source, {**same, b"changed": (MODE_FILE, b"1"), b"gone/x": (MODE_FILE, b"1"), b"mode": (MODE_FILE, b"1")}
    )
    target = _lower(
        source, {**same, b"changed": (MODE_FILE, b"2"), b"new/d/x": (MODE_FILE, b"1"), b"mode": (MODE_EXEC, b"1")}
    )
    before = source.read_count
    steps = plan_steps(now, target)

    assert sorted(_told(steps)) == [
        (b"changed", "~"),
        (b"gone", "-"),
        (b"mode", "~"),
        (b"new", "+"),
        (b"new/d", "+"),
        (b"new/d/x", "+"),
    ]
    order = [step.path for step in steps]
    assert order.index(TreePath(b"new")) < order.index(TreePath(b"new/d")) < order.index(TreePath(b"new/d/x"))
    assert source.read_count - before < 20
    assert plan_steps(now, now) == []


def test_a_file_in_place_of_a_directory_is_a_removal_first(source: MemorySource) -> None:
    """Where the kind changes, what is there goes before the other comes."""
    now = _lower(source, {b"a/x": (MODE_FILE, b"1"), b"b": (MODE_FILE, b"1")})
    target = _lower(source, {b"a": (MODE_FILE, b"1"), b"b/y": (MODE_FILE, b"1")})

    assert sorted(_told(plan_steps(now, target))) == [(b"a", "!"), (b"b", "!"), (b"b/y", "+")]


def test_a_plan_of_paths_brings_directories_that_lead_there(source: MemorySource) -> None:
    """Only what was asked for, and the directories above it that are missing; paths within each other count once."""
    now = _lower(source, {b"other": (MODE_FILE, b"1"), b"a": (MODE_FILE, b"in the way")})
    target = _lower(source, {b"other": (MODE_FILE, b"2"), b"a/b/c": (MODE_FILE, b"1"), b"a/b/d": (MODE_FILE, b"1")})

    assert _told(plan_steps(now, target, [TreePath(b"a/b/c")])) == [(b"a", "!"), (b"a/b", "+"), (b"a/b/c", "+")]
    both = plan_steps(now, target, [TreePath(b"a/b"), TreePath(b"a/b/c")])
    assert [step.path for step in both] == [b"a", b"a/b", b"a/b/c", b"a/b/d"]
    assert plan_steps(now, target, [TreePath(b"none")]) == []


def test_attributes_and_tracking_count_and_times_do_not(source: MemorySource) -> None:
    """A mode or an attribute is a difference, so is whether git tracks a file; a time alone is none."""
    files: Files = {b"f": (MODE_FILE, b"1")}
    plain = _lower(source, files)

    def beside(meta: Meta) -> LowerTree:
        return _lower(source, files, _sidecar(source, {}, {b"f": meta}))

    assert plan_steps(plain, beside(Meta(5))) == []
    assert _told(plan_steps(plain, beside(Meta(5, 0o600)))) == [(b"f", "~")]
    assert _told(plan_steps(plain, beside(Meta(5, None, ((b"user.x", b"1"),))))) == [(b"f", "~")]
    untracked = LowerTree(source, None, _sidecar(source, {b"f": _file(source, b"1")}), default_mtime_ns=0)
    assert _told(plan_steps(plain, untracked)) == [(b"f", "~")]
    root = _lower(source, files, _sidecar(source, {}, {SELF: Meta(5, 0o700)}))
    assert _told(plan_steps(plain, root)) == [(ROOT, "~")]


# --- sidecars --------------------------------------------------------------------------------------------------


def test_sidecars_differ_in_what_people_care_about(source: MemorySource) -> None:
    """Content, modes and attributes are differences, times are not; a directory that came or went is one change."""
    deep = _sidecar(source, {b"x": _file(source, b"1"), b"y": _file(source, b"2")})
    old = _sidecar(
        source,
        {b"changed": _file(source, b"1"), b"gone": _file(source, b"1"), b"same": _file(source, b"1")},
        {b"changed": Meta(1), b"tool": Meta(1, 0o700), b"same": Meta(1)},
    )
    new = _sidecar(
        source,
        {
            b"changed": _file(source, b"2"),
            b"came": SideEntry(MODE_TREE, deep, untracked=True),
            b"same": _file(source, b"1"),
        },
        {b"changed": Meta(2), b"tool": Meta(1, 0o711), b"same": Meta(9)},
    )
    found = [(change.path, str(change.kind)) for change in diff_sidecars(source, old, new)]

    assert found == [(b"came", "added"), (b"changed", "modified"), (b"gone", "deleted"), (b"tool", "mode")]
    assert diff_sidecars(source, old, old) == []
    assert [change.path for change in diff_sidecars(source, None, new)] == [b"came", b"changed", b"same", b"tool"]


def test_a_tracked_directory_is_looked_into(source: MemorySource) -> None:
    """Of a directory that git tracks, what the sidecar holds below it is the change, not the directory."""
    inner = _sidecar(source, {b"x.log": _file(source, b"1")})
    old = _sidecar(source, {b"src": SideEntry(MODE_TREE, _sidecar(source, {}, {b"f": Meta(1)}), untracked=False)})
    new = _sidecar(source, {b"src": SideEntry(MODE_TREE, inner, untracked=False)})

    assert [(change.path, str(change.kind)) for change in diff_sidecars(source, old, new)] == [(b"src/x.log", "added")]

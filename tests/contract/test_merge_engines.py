"""The promises of every merge engine: verdicts, trees, conflicts as data, markers, attributes, and nothing lost."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avfs_git.gitstore.compare.treediff import find_differences
from avfs_git.gitstore.formats.commits import Commit, Signature, serialize_commit
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_COMMIT
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_FILE, MODE_GITLINK, MODE_SYMLINK, edit_tree
from avfs_git.gitstore.merge.choose import make_engine
from avfs_git.gitstore.merge.engine import EngineName, Labels, MergedTrees
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import ConflictKind, MergeStrategy
from avfs_git.paths import Oid, TreePath
from tests.support.merges import Files, Histories, change, make_files

pytestmark = pytest.mark.needs("git")

LINES = b"".join(b"line %d\n" % number for number in range(20))
OURS_LABEL, THEIRS_LABEL = b"mine", b"their/fork"
BASE: Files = {
    b"text": (MODE_FILE, LINES),
    b"d/other": (MODE_FILE, b"other\n"),
    b"d/e/deep": (MODE_FILE, b"deep\n" + LINES),
}


@pytest.fixture(scope="module")
def histories(tmp_path_factory: pytest.TempPathFactory) -> Histories:
    """One repository for all."""
    return Histories(tmp_path_factory.mktemp("engines") / "engines.git")


@pytest.fixture(params=list(EngineName))
def name(request: pytest.FixtureRequest) -> EngineName:
    """Each engine."""
    found: EngineName = request.param
    return found


def read_tree(source: ObjectSource, tree: Oid | None) -> Files:
    """Read all files of a tree."""
    entries = {path: entry for path, (_, entry) in find_differences(source, None, tree).items() if entry is not None}
    return {
        path: (mode, b"" if mode == MODE_GITLINK else source.read_blob(oid))
        for path, (mode, oid) in sorted(entries.items())
    }


class Merge:
    """One merge of two trees that come from a third."""

    def __init__(
        self,
        histories: Histories,
        name: EngineName,
        ours: Files,
        theirs: Files,
        *,
        base: Files = BASE,
        favor: MergeStrategy = MergeStrategy.NORMAL,
        attributes: bytes = b"",
    ) -> None:
        writer = DryWriter(histories.store)
        bottom = histories.commit(base)
        engine = make_engine(name, writer, favor=favor, attributes=attributes)
        sides = histories.commit(ours, bottom), histories.commit(theirs, bottom)
        self.before = histories.git.objects()
        self.result: MergedTrees = engine.merge(*sides, our_label=OURS_LABEL, their_label=THEIRS_LABEL)
        self.files = read_tree(writer, self.result.tree)
        self.kinds = {conflict.path: conflict.kind for conflict in self.result.conflicts}
        changes = find_differences(writer, histories.store.read_commit(sides[0]).tree, self.result.tree)
        assert self.result.changes == changes
        assert histories.git.objects() == self.before  # nothing is written where only is asked


def edited(*edits: tuple[int, bytes]) -> tuple[int, bytes]:
    """Change lines of the text."""
    lines = LINES.splitlines(keepends=True)
    for number, line in edits:
        lines[number] = line
    return MODE_FILE, b"".join(lines)


def test_what_each_side_did_is_joined(histories: Histories, name: EngineName) -> None:
    """Lines of one file, files, modes, removals; and what both did alike."""
    ours = BASE | {b"text": edited((1, b"ours\n"), (9, b"both\n")), b"new": (MODE_FILE, b"same\n")}
    theirs = {
        b"text": edited((9, b"both\n"), (18, b"theirs\n")),
        b"d/e/deep": (MODE_EXEC, BASE[b"d/e/deep"][1]),
        b"new": (MODE_FILE, b"same\n"),
        b"d/more": (MODE_SYMLINK, b"other"),
    }
    merge = Merge(histories, name, ours, theirs)

    assert merge.result.is_clean
    assert merge.files == theirs | {b"text": edited((1, b"ours\n"), (9, b"both\n"), (18, b"theirs\n"))}


def test_everything_may_go(histories: Histories, name: EngineName) -> None:
    """Where both sides removed all files, none is left."""
    left, other = {b"text": BASE[b"text"]}, {path: entry for path, entry in BASE.items() if path != b"text"}

    assert Merge(histories, name, left, other).files == {}


def test_lines_in_conflict_are_marked(histories: Histories, name: EngineName) -> None:
    """The stages are data; the tree holds both versions, between markers with the labels that people know."""
    ours, theirs = BASE | {b"text": edited((5, b"ours\n"))}, BASE | {b"text": edited((5, b"theirs\n"), (15, b"more\n"))}
    merge = Merge(histories, name, ours, theirs)

    (conflict,) = merge.result.conflicts
    assert (conflict.kind, conflict.path) == (ConflictKind.CONTENT, b"text")
    stages = [conflict.base, conflict.ours, conflict.theirs]
    assert [histories.store.read_blob(stage.oid) for stage in stages if stage] == [
        files[b"text"][1] for files in (BASE, ours, theirs)
    ]
    shown = b"<<<<<<< mine\nours\n=======\ntheirs\n>>>>>>> their/fork\n"
    assert merge.files[b"text"] == edited((5, shown), (15, b"more\n"))


@pytest.mark.parametrize(
    ("favor", "line"),
    [
        (MergeStrategy.OURS, b"ours\n"),
        (MergeStrategy.THEIRS, b"theirs\n"),
        (MergeStrategy.UNION, b"ours\ntheirs\n"),
    ],
)
def test_a_favor_decides_on_lines_alone(
    histories: Histories, name: EngineName, favor: MergeStrategy, line: bytes
) -> None:
    """A file that one side removed stays a conflict."""
    ours = BASE | {b"text": edited((5, b"ours\n")), b"d/other": (MODE_FILE, b"changed\n")}
    theirs = {path: entry for path, entry in BASE.items() if path != b"d/other"} | {
        b"text": edited((5, b"theirs\n"), (15, b"more\n"))
    }
    merge = Merge(histories, name, ours, theirs, favor=favor)

    assert merge.files[b"text"] == edited((5, line), (15, b"more\n"))
    assert merge.kinds == {b"d/other": ConflictKind.MODIFY_DELETE}
    assert merge.files[b"d/other"] == (MODE_FILE, b"changed\n")


LINK, OTHER_LINK = (MODE_SYMLINK, b"other"), (MODE_SYMLINK, b"elsewhere")
NO_TEXT = (MODE_FILE, b"\0 1"), (MODE_FILE, b"\0 2"), (MODE_FILE, b"\0 3")


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "kind"),
    [
        (None, (MODE_FILE, b"1\n"), (MODE_FILE, b"2\n"), ConflictKind.ADD_ADD),
        ((MODE_FILE, b"0\n"), None, (MODE_FILE, b"2\n"), ConflictKind.MODIFY_DELETE),
        ((MODE_FILE, b"0\n"), (MODE_FILE, b"1\n"), None, ConflictKind.MODIFY_DELETE),
        (*NO_TEXT, ConflictKind.BINARY),
        (LINK, (MODE_SYMLINK, b"a"), (MODE_SYMLINK, b"b"), ConflictKind.SYMLINK),
        ((MODE_FILE, b"0\n"), (MODE_FILE, b"1\n"), LINK, ConflictKind.TYPE),
        ((MODE_FILE, b"0\n"), LINK, (MODE_FILE, b"1\n"), ConflictKind.TYPE),
        (None, (MODE_FILE, b"1\n"), (MODE_EXEC, b"1\n"), ConflictKind.MODE),
    ],
)
def test_kinds_of_conflicts(
    histories: Histories,
    name: EngineName,
    base: tuple[int, bytes] | None,
    ours: tuple[int, bytes] | None,
    theirs: tuple[int, bytes] | None,
    kind: ConflictKind,
) -> None:
    """Each is told of the path, with what the three have there; both versions are in the tree or one is."""
    files = [BASE if each is None else BASE | {b"d/here": each} for each in (base, ours, theirs)]
    merge = Merge(histories, name, files[1], files[2], base=files[0])

    found = [conflict for conflict in merge.result.conflicts if conflict.path.startswith(b"d/here")]
    assert {conflict.kind for conflict in found} == {kind}
    for side, wanted in (("ours", ours), ("theirs", theirs)):
        stages = [stage for conflict in found if (stage := getattr(conflict, side)) is not None]
        assert [(stage.mode, histories.store.read_blob(stage.oid)) for stage in stages] == ([wanted] if wanted else [])


def test_a_renamed_file_takes_the_other_sides_changes_along(histories: Histories, name: EngineName) -> None:
    """At its new name, whichever side moved it, and edited while it was moved."""
    moved = {b"d/other": BASE[b"d/other"], b"d/e/deep": BASE[b"d/e/deep"], b"moved/text": edited((2, b"moved\n"))}
    changed = BASE | {b"text": edited((12, b"changed\n"))}
    wanted = moved | {b"moved/text": edited((2, b"moved\n"), (12, b"changed\n"))}

    assert Merge(histories, name, moved, changed).files == wanted
    assert Merge(histories, name, changed, moved).files == wanted


def test_renames_in_conflict(histories: Histories, name: EngineName) -> None:
    """Moved by one and removed by the other; moved to two places; moved to where the other put another file."""
    rest = {path: entry for path, entry in BASE.items() if path != b"text"}
    here, there = rest | {b"here": BASE[b"text"]}, rest | {b"there": edited((3, b"theirs\n"))}

    gone = Merge(histories, name, here, rest)
    assert gone.kinds == {b"here": ConflictKind.RENAME_DELETE}
    assert gone.files[b"here"] == BASE[b"text"]

    both = Merge(histories, name, here, there)
    assert set(both.kinds.values()) == {ConflictKind.RENAME_RENAME}
    assert both.files[b"here"][1] == both.files[b"there"][1] == edited((3, b"theirs\n"))[1]

    taken = Merge(histories, name, here, BASE | {b"text": edited((3, b"theirs\n")), b"here": (MODE_FILE, b"mine\n")})
    # What git only says where the moved file itself is in conflict, too.
    assert taken.kinds == {b"here": ConflictKind.ADD_ADD if name is EngineName.GIT else ConflictKind.RENAME_ADD}
    assert b"mine\n" in taken.files[b"here"][1]
    assert b"theirs\n" in taken.files[b"here"][1]


@pytest.mark.parametrize("is_ours", [True, False])
def test_a_file_in_the_place_of_a_directory_is_put_aside(histories: Histories, name: EngineName, is_ours: bool) -> None:
    """Under a name with the label of its side.

    Also where a name sorts between that of the directory and what is in it.
    """
    base = BASE | {b"d-x": (MODE_FILE, b"between\n")}
    file = {b"text": BASE[b"text"], b"d-x": (MODE_FILE, b"changed\n"), b"d": (MODE_FILE, b"a file\n")}
    below = base | {b"d/new": (MODE_FILE, b"new\n")}
    merge = Merge(histories, name, *((file, below) if is_ours else (below, file)), base=base)

    aside = b"d~mine" if is_ours else b"d~their_fork"
    assert merge.kinds == {aside: ConflictKind.DIRECTORY_FILE}
    assert merge.files == {
        b"text": BASE[b"text"],
        b"d-x": (MODE_FILE, b"changed\n"),
        aside: (MODE_FILE, b"a file\n"),
        b"d/new": (MODE_FILE, b"new\n"),
    }


def test_submodules_are_not_merged(histories: Histories, name: EngineName) -> None:
    """Two different commits are a conflict, and ours stays."""
    writer = DryWriter(histories.store)
    tree = histories.store.read_commit(histories.commit(BASE)).tree
    trees = [
        edit_tree(writer, writer, tree, {TreePath(b"sub"): (MODE_GITLINK, Oid(bytes([each]) * 20))})
        for each in (1, 2, 3)
    ]

    merged = make_engine(name, writer).merge_trees(*trees, labels=Labels(b"base", b"ours", b"theirs"))

    assert [(conflict.kind, conflict.path) for conflict in merged.conflicts] == [(ConflictKind.SUBMODULE, b"sub")]
    assert merged.tree == trees[1]


def test_contents_that_only_one_side_has_need_not_be_there(histories: Histories, name: EngineName) -> None:
    """As in a vault whose contents are still on a server: nothing is read of them, also beside a conflict."""
    writer = DryWriter(histories.store)
    trees = [
        histories.store.read_commit(histories.commit(BASE | {b"text": edited((5, line))})).tree
        for line in (b"base\n", b"ours\n", b"theirs\n")
    ]
    missing = (MODE_FILE, Oid(bytes([7]) * 20))
    trees[2] = edit_tree(writer, writer, trees[2], {TreePath(b"far/away"): missing}) or trees[2]

    merged = make_engine(name, writer).merge_trees(*trees, labels=Labels(b"base", b"ours", b"theirs"))

    assert [conflict.path for conflict in merged.conflicts] == [b"text"]
    assert merged.changes[TreePath(b"far/away")] == (None, missing)


def test_attributes_are_obeyed(histories: Histories, name: EngineName) -> None:
    """Those of our side's tree, in its directories, and above them the repository's own."""
    said = {
        b".gitattributes": (MODE_FILE, b"*.log merge=union\n*.lock -merge\n*.mine merge=mine\n*.own merge=union\n"),
        b"d/.gitattributes": (MODE_FILE, b"*.txt conflict-marker-size=11\n"),
    }
    names = [b"a.log", b"b.lock", b"c.mine", b"e.own", b"d/f.txt"]
    versions = [
        BASE | said | dict.fromkeys(names, (MODE_FILE, b"same\n" + line + b"end\n")) for line in (b"", b"1\n", b"2\n")
    ]
    merge = Merge(histories, name, versions[1], versions[2], base=versions[0], attributes=b"*.own merge=binary\n")

    both = b"same\n<<<<<<< mine\n1\n=======\n2\n>>>>>>> their/fork\nend\n"
    assert merge.kinds == {
        b"b.lock": ConflictKind.BINARY,
        b"c.mine": ConflictKind.CONTENT,
        b"e.own": ConflictKind.BINARY,
        b"d/f.txt": ConflictKind.CONTENT,
    }
    assert merge.files[b"a.log"][1] == b"same\n1\n2\nend\n"
    assert merge.files[b"b.lock"][1] == merge.files[b"e.own"][1] == b"same\n1\nend\n"
    assert merge.files[b"c.mine"][1] == both
    assert merge.files[b"d/f.txt"][1] == both.replace(b"<" * 7, b"<" * 11).replace(b"=" * 7, b"=" * 11).replace(
        b">" * 7, b">" * 11
    )
    assert merge.result.drivers == {TreePath(b"c.mine"): b"mine"}


def test_trees_are_merged_whatever_the_history_is(histories: Histories, name: EngineName) -> None:
    """With labels that no ref could have, from nothing at all, and with objects that are stored nowhere."""
    writer = DryWriter(histories.store)
    blobs = [writer.add(KIND_BLOB, b"%b\n" % text, keep=True) for text in (b"ours", b"theirs")]
    trees = [edit_tree(writer, writer, None, {TreePath(b"in/it"): (MODE_FILE, blob)}) for blob in blobs]

    merged = make_engine(name, writer).merge_trees(
        None, *trees, labels=Labels(b"empty tree", b"HEAD", b"abc1234 (a: ~b^)")
    )

    assert read_tree(writer, merged.tree) == {
        b"in/it": (MODE_FILE, b"<<<<<<< HEAD\nours\n=======\ntheirs\n>>>>>>> abc1234 (a: ~b^)\n")
    }


def test_commits_that_are_stored_nowhere_are_merged(histories: Histories, name: EngineName) -> None:
    """As where somebody asks what a merge of uncommitted changes would be."""
    writer = DryWriter(histories.store)
    bottom = histories.commit(BASE)
    blob = writer.add(KIND_BLOB, edited((1, b"ours\n"))[1], keep=True)
    before = histories.store.read_commit(bottom).tree
    tree = edit_tree(writer, writer, before, {TreePath(b"text"): (MODE_FILE, blob)})
    who = Signature("Ada", "ada@example.org", histories.clock_s)
    assert tree is not None
    ours = writer.add(KIND_COMMIT, serialize_commit(Commit(tree, (bottom,), who, who, "x\n")), keep=True)
    theirs = histories.commit(BASE | {b"text": edited((18, b"theirs\n"))}, bottom)

    merged = make_engine(name, writer).merge(ours, theirs, our_label=b"ours", their_label=b"theirs")

    assert read_tree(writer, merged.tree)[b"text"] == edited((1, b"ours\n"), (18, b"theirs\n"))


def test_histories_that_crossed_are_merged_from_what_their_ancestors_make(
    histories: Histories, name: EngineName
) -> None:
    """What each took from the other is no conflict again."""
    bottom = histories.commit(BASE)
    one, two = edited((2, b"one\n")), edited((12, b"two\n"))
    ours, theirs = histories.commit(BASE | {b"text": one}, bottom), histories.commit(BASE | {b"text": two}, bottom)
    joined = BASE | {b"text": edited((2, b"one\n"), (12, b"two\n"))}
    first, second = histories.commit(joined, ours, theirs), histories.commit(joined, theirs, ours)
    ours = histories.commit(BASE | {b"text": edited((2, b"one again\n"), (12, b"two\n"))}, first)
    theirs = histories.commit(BASE | {b"text": edited((2, b"one\n"), (12, b"two again\n"))}, second)
    writer = DryWriter(histories.store)

    merged = make_engine(name, writer).merge(ours, theirs, our_label=b"ours", their_label=b"theirs")

    assert merged.is_clean
    assert read_tree(writer, merged.tree) == BASE | {b"text": edited((2, b"one again\n"), (12, b"two again\n"))}


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_no_change_is_dropped(histories: Histories, name: EngineName, seed: int) -> None:
    """Each line that a side put in is in the merged files, or in a version of a file in conflict."""
    rng = random.Random(seed)
    files = make_files(rng)
    base = histories.commit(files)
    sides = [change(rng, files), change(rng, files)]
    ours, theirs = ((histories.commit(side, base), side) for side in sides)
    done = histories.ask_git(ours[0], theirs[0])
    if name is EngineName.GIT and histories.gave_up(done):
        return
    writer = DryWriter(histories.store)

    merged = make_engine(name, writer).merge(ours[0], theirs[0], our_label=b"ours", their_label=b"theirs")

    left = set().union(*lines_of(read_tree(writer, merged.tree)))
    for conflict in merged.conflicts:
        for stage in (conflict.ours, conflict.theirs):
            if stage is not None:
                left |= set(writer.read_blob(stage.oid).splitlines())
    for _, side in (ours, theirs):
        new = set().union(*lines_of(side)) - set().union(*lines_of(files))
        if not (name is EngineName.GIT and histories.is_slip(done.stdout.decode(errors="replace"), ours[0], theirs[0])):
            assert new <= left, (new - left, merged.conflicts)


def lines_of(*trees: Files) -> list[set[bytes]]:
    """List the lines of files and links."""
    return [{line for _, content in tree.values() for line in content.splitlines()} for tree in trees]


def test_nothing_of_a_merge_is_left_on_the_machine(
    histories: Histories, name: EngineName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Temporary files go with the answer."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    Merge(histories, name, BASE | {b"text": edited((5, b"ours\n"))}, BASE | {b"text": edited((5, b"theirs\n"))})

    assert list(tmp_path.iterdir()) == []

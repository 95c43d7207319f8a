"""Vaults and workspaces that are damaged or were prepared to do harm: one typed error, or damage that is named.

What is damaged is reported and never served; what avfs can do without is made again; nothing is guessed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import socket
import stat
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault, Workspace
from avfs_git.errors import (
    AvfsError,
    FormatUnsupported,
    LayerNotUnderstood,
    NotAVault,
    ObjectCorrupt,
    ObjectMissing,
    RefDamaged,
)
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_COMMIT, KIND_NAMES, KIND_TREE
from avfs_git.gitstore.objects.store import hash_object
from avfs_git.gitstore.worktree import Worktree
from avfs_git.paths import Oid
from tests.support.faults import Files, read_files
from tests.support.hostile import entry, put, put_commit

pytestmark = pytest.mark.needs("user-xattrs", "whiteout")


@pytest.fixture(autouse=True)
def _short_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """The doctor takes a lock for one that stays after a short look: nothing here is at work in a vault."""
    monkeypatch.setattr("avfs_git.workspace.upkeep.checks.objects.LOCK_HELD_S", 0.1)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home whose vault `v` has a checkpoint and uncommitted changes."""
    with Avfs(tmp_path / "home") as avfs:
        work = avfs.create_vault("v").workspace()
        work.write("a", b"first\n" * 100)
        work.write("dir/b", b"b\n")
        work.write("removed", b"removed\n")
        work.checkpoint("one")
        work.write("a", b"second\n" * 100)
        work.checkpoint("two")
        work.fold()
        work.write("a", b"third\n" * 100)
        work.write("dir/b", b"b again\n")
        work.checkpoint("three")
        work.write("uncommitted", b"uncommitted\n")
        work.remove("removed")
    return tmp_path / "home"


def _git_dir(home: Path) -> Path:
    return home / "vaults" / "v.git"


def _workspace(home: Path) -> Path:
    return _git_dir(home) / "avfs" / "workspaces" / "main"


def _files(home: Path) -> Files:
    with Avfs(home) as avfs:
        return read_files(avfs.open_vault("v").workspace())


# --- avfs's own files -------------------------------------------------------------------------------------------


GARBAGE = {
    "empty": b"",
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "text": b"garbage\n",
    "json": b'{"format": 1}\n',
    "other types": b'{"format": 1, "fork": 5, "base": [], "sidecar": {}}\n',
    "random": random.Random(5).randbytes(5000),
}


@pytest.mark.parametrize("damage", [*GARBAGE, "truncated", "gone"])
@pytest.mark.parametrize("name", ["state", "statcache", "lock"])
def test_a_damaged_file_of_a_workspace_costs_nothing(name: str, damage: str, home: Path) -> None:
    """Whatever happens to the state, stat cache or lock file, the workspace shows what it showed and goes on."""
    before = _files(home)
    place = _workspace(home) / name
    if damage == "gone":
        place.unlink()
    elif damage == "truncated":
        place.write_bytes(place.read_bytes()[:-20])
    else:
        place.write_bytes(GARBAGE[damage])

    assert _files(home) == before
    with Avfs(home) as avfs:
        work = avfs.open_vault("v").workspace()
        status = work.status()

        assert [change.path for change in status.changed_files] == [b"removed", b"uncommitted"]
        if name == "state" and damage not in {"empty", "zeros", "gone"}:
            assert [warning.code for warning in status.warnings] == ["workspace.recovered"]
        made = work.checkpoint("four")

        assert [change.path for change in made.changed_files] == [b"removed", b"uncommitted"]
        assert work.status().warnings == ()


@pytest.mark.parametrize("damage", GARBAGE)
def test_a_damaged_log_is_read_as_far_as_it_is_whole(damage: str, home: Path) -> None:
    """Damage in the operation log hides the operations that it hit, and no others, and the next one is added."""
    log = _git_dir(home) / "avfs" / "oplog"
    with Avfs(home) as avfs:
        before = [one.id for one in avfs.open_vault("v").workspace().operations()]
    whole = log.read_bytes()
    lines = whole.splitlines(keepends=True)
    log.write_bytes(b"".join(lines[:1]) + GARBAGE[damage] + b"\n" + b"".join(lines[1:]) + GARBAGE[damage])
    with Avfs(home) as avfs:
        work = avfs.open_vault("v").workspace()

        assert [one.id for one in work.operations()] == before
        work.checkpoint()
        newest, *others = (one.id for one in work.operations())

        assert others == before
        assert work.undo().operation.id == newest


@pytest.mark.parametrize("text", ["2", "0", "garbage", "", "\0\0", "1\n1"])
def test_an_unknown_format_is_refused(text: str, home: Path) -> None:
    """State of another version is refused with what is known, and not touched."""
    place = _git_dir(home) / "avfs" / "format"
    place.write_text(text)
    with Avfs(home) as avfs, pytest.raises(FormatUnsupported) as refused:
        avfs.open_vault("v")

    assert place.read_text() == text
    assert str(refused.value.hint).startswith(
        "Use the version" if text.strip().isprintable() and text else "It is damaged"
    )


def test_a_workspace_of_an_unknown_format_is_refused(home: Path) -> None:
    """A workspace that a later version wrote is not guessed at."""
    place = _workspace(home) / "state"
    place.write_text(json.dumps({**json.loads(place.read_bytes()), "format": 2}))
    before = place.read_bytes()
    with Avfs(home) as avfs, pytest.raises(FormatUnsupported):
        avfs.open_vault("v").workspace().read("a")

    assert place.read_bytes() == before


# --- the repository ---------------------------------------------------------------------------------------------


def _flip(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * at)] ^= 0x10
    path.chmod(0o644)
    path.write_bytes(data)


def _packs(home: Path) -> list[Path]:
    return sorted((_git_dir(home) / "objects" / "pack").glob("*.pack"))


@pytest.mark.parametrize("at", [0.15, 0.3, 0.5, 0.7, 0.85])
def test_a_flipped_bit_in_a_pack_is_never_served(at: float, home: Path) -> None:
    """Whatever is read from damaged packs is right or an error that names the object."""
    with Avfs(home) as avfs:
        work = avfs.open_vault("v").workspace()
        expected = {label: work.open_read("a", at=label) for label in ("one", "two")}
        right = {label: b"".join(pieces) for label, pieces in expected.items()}
    for pack in _packs(home):
        _flip(pack, at)
    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")
        for label in ("one", "two"):
            try:
                found = b"".join(vault.workspace().open_read("a", at=label))
            except (ObjectCorrupt, ObjectMissing):
                continue

            assert found == right[label]


@pytest.mark.needs("git")
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_damaged_packs_are_reported_by_the_doctor(damage: str, home: Path) -> None:
    """The doctor names damage that it cannot mend, and touches no uncommitted work."""
    for pack in _packs(home)[:1]:
        if damage == "flip":
            _flip(pack, 0.5)
        elif damage == "cut":
            pack.chmod(0o644)
            os.truncate(pack, pack.stat().st_size // 2)
        else:
            pack.unlink()
    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")
        report = vault.doctor(repair=True)

        assert [problem for problem in report.problems if problem.severity == "error" and not problem.fixed]
    assert (_workspace(home) / "upper" / "uncommitted").read_bytes() == b"uncommitted\n"


@pytest.mark.parametrize("kind", [KIND_BLOB, KIND_TREE], ids=["blob", "tree"])
def test_a_missing_object_is_an_error_that_names_it(kind: int, home: Path) -> None:
    """A checkpoint that refers to an object that is not there cannot be restored; nothing changes."""
    before = _files(home)
    missing = b"\x11" * 20
    mode, name = (b"100644", b"f") if kind == KIND_BLOB else (b"40000", b"d")
    commit = _commit(home, [(mode, name, missing)])
    with Avfs(home) as avfs:
        work = avfs.open_vault("v").workspace()
        with pytest.raises(ObjectMissing) as caught:
            work.restore(commit)

    assert caught.value.details["oid"] == missing.hex()
    assert _files(home) == before


def write_loose(git_dir: Path, kind: int, data: bytes) -> Oid:
    """Write an object as git keeps it, whatever it says."""
    oid = hash_object(kind, data)
    place = git_dir / "objects" / oid.hex()[:2] / oid.hex()[2:]
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(zlib.compress(KIND_NAMES[kind] + b" %d\0" % len(data) + data, 1))
    return oid


def _commit(home: Path, entries: list[tuple[bytes, bytes, bytes]], *, tree: bytes | None = None) -> str:
    """Write a commit of a tree that is just what is given, as no git would write it."""
    git_dir = _git_dir(home)
    data = b"".join(mode + b" " + name + b"\0" + oid for mode, name, oid in entries) if tree is None else tree
    tree_id = write_loose(git_dir, KIND_TREE, data)
    text = b"tree %s\nauthor A <a@e> 1 +0000\ncommitter A <a@e> 1 +0000\n\nhostile\n" % tree_id.hex().encode()
    return write_loose(git_dir, KIND_COMMIT, text).hex()


HOSTILE_NAMES = [
    b"",
    b".",
    b"..",
    b"a/b",
    b"/etc",
    b".git",
    b".GIT",
    b".gIt",
    b".git ",
    b".git.",
    b".git . .",
    b"git~1",
    b"GIT~1",
    b".git::$INDEX_ALLOCATION",
    ".g\u200cit".encode(),
    ".gi\ufefft".encode(),
    b".git\\x",
]
_FILE = b"100644"
Shape = Callable[[Oid, Oid], list[tuple[bytes, bytes, bytes]]]
"""Makes the entries of a tree from a blob and an empty tree."""

HOSTILE_SHAPES: dict[str, Shape] = {
    "a tree named ..": lambda blob, empty: [(b"40000", b"..", empty)],
    "duplicate": lambda blob, empty: [(_FILE, b"a", blob), (_FILE, b"a", blob)],
    "a file and a tree of one name": lambda blob, empty: [(_FILE, b"a", blob), (b"40000", b"a", empty)],
    "unsorted": lambda blob, empty: [(_FILE, b"b", blob), (_FILE, b"a", blob)],
    "a null id": lambda blob, empty: [(_FILE, b"a", bytes(20))],
    "setuid": lambda blob, empty: [(b"104755", b"a", blob)],
    "a device": lambda blob, empty: [(b"20000", b"a", blob)],
    "a fifo": lambda blob, empty: [(b"10000", b"a", blob)],
    "no mode": lambda blob, empty: [(b"", b"a", blob)],
    "words for a mode": lambda blob, empty: [(b"abcdef", b"a", blob)],
    "an endless mode": lambda blob, empty: [(b"1" * 500, b"a", blob)],
    "a blob that is a tree": lambda blob, empty: [(_FILE, b"a", empty)],
    "a .gitmodules that is a link": lambda blob, empty: [(b"120000", b".gitmodules", blob)],
    "one in another spelling": lambda blob, empty: [(b"120000", b".GitModules ", blob)],
    "a .gitmodules that is a directory": lambda blob, empty: [(b"40000", b".gitmodules", empty)],
    "a tree that is a blob": lambda blob, empty: [(b"40000", b"a", blob)],
}
REFUSALS = {"vault.hostile_tree", "vault.object_corrupt", "vault.object_missing", "path.not_found"}


def _named(name: bytes) -> Shape:
    return lambda blob, empty: [(_FILE, name, blob)]


HOSTILE_TREES: dict[str, Shape] = {**{repr(name): _named(name) for name in HOSTILE_NAMES}, **HOSTILE_SHAPES}


@pytest.mark.parametrize("case", HOSTILE_TREES)
def test_a_hostile_tree_is_refused_before_anything_is_touched(case: str, home: Path) -> None:
    """A tree that git would not write, or that must never reach a disk, is refused by every operation that meets it."""
    before = _files(home)
    git_dir = _git_dir(home)
    commit = _commit(
        home, HOSTILE_TREES[case](write_loose(git_dir, KIND_BLOB, b"hostile\n"), write_loose(git_dir, KIND_TREE, b""))
    )
    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")
        work = vault.workspace()
        calls: list[Callable[[], object]] = [
            lambda: work.restore(commit),
            lambda: work.restore(commit, paths=["a"]),
            lambda: read_files(vault.fork("hostile", at=commit)),
        ]
        for call in calls:
            with pytest.raises(AvfsError) as caught:
                call()

            assert caught.value.code in REFUSALS, caught.value

    assert _files(home) == before
    assert {path.name for path in home.parent.iterdir()} == {"home"}


@pytest.mark.parametrize("target", [b"", b"x" * 4096, b"a\0b", b"\0"], ids=["empty", "endless", "NUL", "only NUL"])
def test_a_link_to_what_is_no_path_is_refused(target: bytes, home: Path) -> None:
    """A symbolic link that no disk takes is an error that names its object; nothing changes, and all else is there."""
    before = _files(home)
    git_dir = _git_dir(home)
    link, plain = write_loose(git_dir, KIND_BLOB, target), write_loose(git_dir, KIND_BLOB, b"plain\n")
    commit = _commit(home, [(_FILE, b"a", plain), (b"120000", b"link", link)])
    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")
        fork = vault.fork("hostile", at=commit)
        calls: list[Callable[[], object]] = [
            lambda: vault.workspace().restore(commit),
            lambda: fork.read_link("link"),
            lambda: fork.export_path("/", home.parent / "out"),
        ]
        for call in calls:
            with pytest.raises(ObjectCorrupt) as caught:
                call()

            assert caught.value.details["oid"] == link.hex()
        assert fork.read("a") == b"plain\n"
        fork.remove("link")

        assert fork.checkpoint().outcome == "created"
    assert _files(home) == before


def test_names_that_differ_by_case_are_two(home: Path) -> None:
    """A link and a directory whose names are one on some file systems stay apart; nothing goes through the link."""
    git_dir = _git_dir(home)
    link, plain = write_loose(git_dir, KIND_BLOB, b"/"), write_loose(git_dir, KIND_BLOB, b"plain\n")
    below = write_loose(git_dir, KIND_TREE, _FILE + b" f\0" + plain)
    commit = _commit(home, [(b"120000", b"A", link), (b"40000", b"a", below)])
    with Avfs(home) as avfs:
        work = avfs.open_vault("v").workspace()
        work.restore(commit)

        assert work.read_link("A") == b"/"
        assert work.read("a/f") == b"plain\n"
        with pytest.raises(AvfsError):
            work.read("A/f")


def test_submodules_are_names_and_nothing_else(home: Path) -> None:
    """Paths and addresses of submodules that look like options, or lead out, are content: nobody acts on them."""
    git_dir = _git_dir(home)
    trap = home.parent / "trap"
    text = f'[submodule "--upload-pack"]\n\tpath = -x\n\turl = --upload-pack=touch {trap}\n[submodule "../../up"]\n'
    text += f"\tpath = ../up\n\turl = ext::touch {trap}\n\tupdate = !touch {trap}\n"
    modules = write_loose(git_dir, KIND_BLOB, text.encode())
    commit = _commit(home, [(b"160000", b"-x", b"\1" * 20), (_FILE, b".gitmodules", modules)])
    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")
        work = vault.workspace()
        work.restore(commit)

        assert work.read(".gitmodules") == text.encode()
        assert work.list_dir("-x") == []

        work.write("new", b"new\n")
        work.checkpoint()
        vault.fork("task").export_path("/", home.parent / "out")
        vault.doctor()

    assert not trap.exists()
    assert not (home.parent / "up").exists()


def test_replaced_objects_are_what_they_were(home: Path) -> None:
    """`refs/replace`, by which git shows one object for another, changes nothing of what avfs shows."""
    git_dir = _git_dir(home)
    before = _files(home)
    with Avfs(home) as avfs:
        head = avfs.open_vault("v").fork_info("main").head
    assert head is not None
    other = _commit(home, [(_FILE, b"evil", write_loose(git_dir, KIND_BLOB, b"evil\n"))])
    (git_dir / "refs" / "replace").mkdir()
    (git_dir / "refs" / "replace" / head).write_text(other + "\n")
    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")

        assert not vault.fork("task", at=head).exists("evil")
        assert vault.workspace().checkpoint().outcome == "created"
    assert _files(home) == before


@pytest.mark.parametrize("data", [b"100644 a", b"100644 a\0short", b"100644", b"\0" * 30, b"100644 a\0" + bytes(19)])
def test_a_tree_that_is_cut_short_is_refused(data: bytes, home: Path) -> None:
    """A tree whose bytes end in the middle of an entry is corrupt."""
    commit = _commit(home, [], tree=data)
    with Avfs(home) as avfs, pytest.raises(ObjectCorrupt):
        avfs.open_vault("v").workspace().restore(commit)


@pytest.mark.slow
def test_four_thousand_nested_directories_are_no_problem(home: Path) -> None:
    """A tree deeper than any path is listed, forked, compared and captured without recursion."""
    git_dir = _git_dir(home)
    inner = write_loose(git_dir, KIND_BLOB, b"deep\n")
    tree = write_loose(git_dir, KIND_TREE, b"100644 f\0" + inner)
    for _ in range(4000):
        tree = write_loose(git_dir, KIND_TREE, b"40000 d\0" + tree)
    commit = _commit(home, [(b"40000", b"d", tree)])
    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")
        work = vault.fork("deep", at=commit)

        assert [info.path.strip(b"/") for info in work.list_dir("d/d/d")] == [b"d/d/d/d"]
        assert len(vault.diff("one", commit, patches=False).files) == 4
        assert work.read("d/" * 4001 + "f") == b"deep\n"
        work.write("d/d/new", b"new")

        assert [change.path for change in work.checkpoint().changed_files] == [b"d/d/new"]


@pytest.mark.slow
def test_fifty_thousand_entries_in_one_tree_are_no_problem(home: Path) -> None:
    """A very wide directory is listed and changed."""
    blob = write_loose(_git_dir(home), KIND_BLOB, b"wide\n")
    commit = _commit(home, [(b"100644", b"f%06d" % number, blob) for number in range(50_000)])
    with Avfs(home) as avfs:
        work = avfs.open_vault("v").fork("wide", at=commit)

        assert work.read("f012345") == b"wide\n"
        assert len(work.list_dir()) == 50_000
        work.write("f012345", b"changed\n")

        assert [change.path for change in work.checkpoint().changed_files] == [b"f012345"]


def test_ten_thousand_million_files_cost_what_is_looked_at(home: Path) -> None:
    """A tree bomb, ten names ten levels deep, is forked, listed, compared, changed and committed, never expanded."""
    git_dir = _git_dir(home)
    tree, mode = write_loose(git_dir, KIND_BLOB, b"boom\n"), b"100644"
    for _ in range(10):
        tree = write_loose(git_dir, KIND_TREE, b"".join(mode + b" %d\0" % digit + tree for digit in range(10)))
        mode = b"40000"
    commit = _commit(home, [(b"40000", b"bomb", tree)])
    changed = _commit(home, [(b"40000", b"bomb", tree), (b"100644", b"f", write_loose(git_dir, KIND_BLOB, b"f"))])
    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")
        work = vault.fork("bomb", at=commit)

        assert len(work.list_dir("bomb/1/2/3")) == 10
        assert work.read("bomb/" + "/".join("1234567890")) == b"boom\n"
        assert [file.change.path for file in vault.diff(commit, changed).files] == [b"f"]
        work.write("bomb/5/5/5/5/new", b"new")

        assert [change.path for change in work.checkpoint().changed_files] == [b"bomb/5/5/5/5/new"]
        assert work.log()
        assert work.restore(commit).outcome == "restored"


PREPARED: dict[str, Callable[[Path], object]] = {
    "objects that are a link": lambda git_dir: _replace_by_link(git_dir / "objects"),
    "refs that are a link": lambda git_dir: _replace_by_link(git_dir / "refs"),
    "packs that are a link": lambda git_dir: _replace_by_link(git_dir / "objects" / "pack"),
    "HEAD that is a link": lambda git_dir: _replace_by_link(git_dir / "HEAD"),
    "HEAD that leaves": lambda git_dir: (git_dir / "HEAD").write_text("ref: ../../../etc/passwd\n"),
    "HEAD that leaves refs": lambda git_dir: (git_dir / "HEAD").write_text("ref: refs/heads/../../config\n"),
    "HEAD of garbage": lambda git_dir: (git_dir / "HEAD").write_bytes(b"\0\xff"),
    "alternates outside": lambda git_dir: (git_dir / "objects" / "info" / "alternates").write_text("/tmp\n"),
    "alternates above": lambda git_dir: (git_dir / "objects" / "info" / "alternates").write_text("../../..\n"),
    "a work tree": lambda git_dir: (git_dir / "config").write_text("[core]\n\tbare = false\n\tworktree = /\n"),
    "an unknown version": lambda git_dir: (git_dir / "config").write_text("[core]\n\trepositoryformatversion = 7\n"),
    "SHA-256": lambda git_dir: (git_dir / "config").write_text(
        "[core]\n\trepositoryformatversion = 1\n[extensions]\n\tobjectformat = sha256\n"
    ),
}


def _replace_by_link(path: Path) -> None:
    moved = path.rename(path.with_name(path.name + ".moved"))
    path.symlink_to(moved)


@pytest.mark.parametrize("case", PREPARED)
def test_a_repository_that_leads_outside_is_refused(case: str, home: Path) -> None:
    """A repository that would lead avfs out of its directory, or that it cannot read, is refused when it is opened."""
    PREPARED[case](_git_dir(home))
    with Avfs(home) as avfs, pytest.raises((NotAVault, FormatUnsupported)):
        avfs.open_vault("v")


@pytest.mark.parametrize("content", [b"", b"garbage\n", b"0" * 39 + b"\n", b"ref: ../../../../etc/passwd\n", bytes(41)])
def test_a_damaged_ref_is_named(content: bytes, home: Path) -> None:
    """A branch whose file says nothing usable is an error that names it; the doctor reports it."""
    place = _git_dir(home) / "refs" / "heads" / "main"
    place.write_bytes(content)
    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")
        with pytest.raises(AvfsError) as caught:
            vault.workspace().checkpoint()

    assert isinstance(caught.value, RefDamaged)
    assert place.read_bytes() == content


# --- the upper layer -----------------------------------------------------------------------------------------------


def _open(home: Path) -> tuple[Vault, Workspace]:
    vault = Avfs(home).open_vault("v")
    return vault, vault.workspace()


@pytest.mark.parametrize("mark", ["redirect", "metacopy", "verity", "unheard_of"])
@pytest.mark.parametrize("name", ["a", "dir"])
def test_an_unknown_mark_of_overlayfs_is_refused(mark: str, name: str, home: Path) -> None:
    """A layer with a mark that avfs does not know, or that leads nowhere, is never guessed at.

    Nothing is committed.
    """
    upper = _workspace(home) / "upper"
    prefix = "user.overlay." if os.geteuid() else "trusted.overlay."
    os.setxattr(upper / name, prefix + mark, b"/elsewhere")
    (_workspace(home) / "statcache").unlink()
    vault, work = _open(home)
    head = vault.fork_info("main").head
    with pytest.raises(LayerNotUnderstood):
        work.checkpoint()

    assert vault.fork_info("main").head == head
    vault.close()


def test_what_no_checkpoint_can_hold_is_named_and_stays(home: Path) -> None:
    """Pipes, sockets and devices in a workspace hang nothing, are named, and survive checkpoint and restore."""
    upper = _workspace(home) / "upper"
    os.mkfifo(upper / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        directory = os.open(upper, os.O_RDONLY)
        made.bind(f"/proc/self/fd/{directory}/socket")
        os.close(directory)
    os.setxattr(upper / "a", "user.note", b"changed behind our back")
    (_workspace(home) / "statcache").unlink()
    vault, work = _open(home)
    with work._opened.locked() as locked:
        locked.begin()
        locked.end()
    found = {warning.path for warning in work.checkpoint("odd").warnings}

    assert found == {b"pipe", b"socket"}
    work.restore("one")

    assert stat.S_ISFIFO((upper / "pipe").stat().st_mode)
    assert stat.S_ISSOCK((upper / "socket").stat().st_mode)
    vault.close()


@pytest.mark.parametrize("target", ["/etc/passwd", "../../state"])
def test_a_file_swapped_for_a_link_is_taken_as_a_link(target: str, home: Path) -> None:
    """A file of the upper layer that became a symbolic link behind our back is never read through."""
    upper = _workspace(home) / "upper"
    (upper / "a").unlink()
    (upper / "a").symlink_to(target)
    (_workspace(home) / "statcache").unlink()
    vault, work = _open(home)

    assert work.read_link("a") == target.encode()
    assert work.checkpoint().outcome == "created"
    assert hash_object(KIND_BLOB, target.encode()).hex() == work.stat("a", with_oid=True).oid
    vault.close()


def test_a_directory_swapped_for_a_link_is_not_entered(home: Path, tmp_path: Path) -> None:
    """A directory of the upper layer that became a symbolic link to the outside is neither read nor written through."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "b").write_bytes(b"outside\n")
    upper = _workspace(home) / "upper"
    shutil.rmtree(upper / "dir")
    (upper / "dir").symlink_to(outside)
    vault, work = _open(home)
    with pytest.raises(AvfsError):
        work.write("dir/b", b"escaped\n")
    with pytest.raises(AvfsError):
        work.read("dir/b")
    work.checkpoint()

    assert [path.name for path in outside.iterdir()] == ["b"]
    assert (outside / "b").read_bytes() == b"outside\n"
    vault.close()


def test_a_lock_that_stays_is_reported_and_mended_when_it_is_old(home: Path) -> None:
    """The doctor names a lock of a killed git.

    It removes one that no git can still need, and none that one may need.
    """
    young, old = _git_dir(home) / "config.lock", _git_dir(home) / "HEAD.lock"
    for lock in (young, old):
        lock.touch()
    os.utime(old, (0, 0))
    with Avfs(home) as avfs:
        report = avfs.open_vault("v").doctor(repair=True)

    locks = [problem for problem in report.problems if problem.code == "lock.left"]
    assert [
        (str(lock.name) in problem.description, problem.fixed)
        for lock, problem in zip((old, young), locks, strict=True)
    ] == [
        (True, True),
        (True, False),
    ]
    assert str(young) in locks[1].remedy
    assert young.exists()
    assert not old.exists()


_LOCKS_OF_GIT = [
    "objects/info/commit-graph.lock",
    "objects/info/commit-graphs/commit-graph-chain.lock",
    *("logs/HEAD.lock", "logs/refs/heads/main.lock", "shallow.lock", "gc.pid.lock"),
]


@pytest.mark.parametrize("name", _LOCKS_OF_GIT)
def test_every_lock_that_a_killed_git_leaves_is_reported(home: Path, name: str) -> None:
    """With what to do; it goes when it is old."""
    lock = _git_dir(home) / name
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    with Avfs(home) as avfs, avfs.open_vault("v") as vault:
        (young,) = (problem for problem in vault.doctor(repair=True).problems if problem.code == "lock.left")
        assert name in young.description
        assert str(lock) in young.remedy
        assert lock.exists()
        os.utime(lock, (0, 0))
        (old,) = (problem for problem in vault.doctor(repair=True).problems if problem.code == "lock.left")
        assert old.fixed
        assert not lock.exists()


@pytest.mark.parametrize(
    ("name", "stays"), [("index.lock", True), ("HEAD.lock", False), ("refs/bisect/bad.lock", False)]
)
def test_a_lock_in_the_git_directory_of_a_live_tree_is_reported(
    home: Path, tmp_path: Path, name: str, stays: bool
) -> None:
    """It goes when it is old, but for that of the index: `git commit -a` keeps it for as long as its editor is open."""
    worktree = Worktree(_git_dir(home), "main")
    worktree.prepare("refs/heads/main", tmp_path / "tree")
    lock = worktree.path / name
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.touch()
    os.utime(lock, (0, 0))
    with Avfs(home) as avfs, avfs.open_vault("v") as vault:
        (found,) = (problem for problem in vault.doctor(repair=True).problems if problem.code == "lock.left")
    assert f"worktrees/main/{name}" in found.description
    assert (found.fixed, lock.exists()) == (not stays, stays)


def test_a_missing_object_hides_one_entry_of_a_list(home: Path) -> None:
    """Others of its directory are listed, each with what is known of the bad one; to read that one is an error."""
    git_dir = _git_dir(home)
    good = put(git_dir, b"good\n", "blob")
    below = b"".join(
        entry(mode, name, oid)
        for mode, name, oid in (
            *(("100644", b"file", "1" * 40), ("100644", b"good", good)),
            *(("120000", b"link", "2" * 40), ("40000", b"sub", "3" * 40), ("100644", b"z", good)),
        )
    )
    tree = put(git_dir, entry("40000", b"dir", put(git_dir, below, "tree")), "tree")
    put_commit(git_dir, tree, ref="refs/heads/bad")
    with Avfs(home) as avfs, avfs.open_vault("v") as vault, vault.workspace("bad") as work:
        listed = {info.path: info.problem is not None for info in work.list_dir("/dir")}
        names = [b"dir/file", b"dir/good", b"dir/link", b"dir/sub", b"dir/z"]

        assert listed == dict(zip(names, [True, False, True, False, False], strict=True))
        assert [node.info.path for node in work.tree().children[0].children] == names
        assert [node.info.problem is not None for node in work.tree().children[0].children] == [
            True,
            False,
            True,
            True,
            False,
        ]
        assert work.read("/dir/good") == b"good\n"
        with pytest.raises(ObjectMissing):
            work.read("/dir/file")
        with pytest.raises(ObjectMissing):
            work.list_dir("/dir/sub")


def test_what_is_no_workspace_keeps_nobody_from_anything(home: Path) -> None:
    """A file, or a directory that no fork can be called, among the workspaces is somebody else's: it is passed over."""
    places = _git_dir(home) / "avfs" / "workspaces"
    (places / "file").write_bytes(b"")
    for name in ("a b", "%zz", "x..y", ".hidden"):
        (places / name).mkdir()
    with Avfs(home) as avfs, avfs.open_vault("v") as vault, vault.workspace() as work:
        work.checkpoint("more")
        vault.gc()

        assert vault.doctor().healthy
        assert work.undo().operation.kind == "checkpoint"
    with Avfs(home) as avfs:
        avfs.delete_vault("v")


def test_a_fork_whose_commit_is_missing_keeps_no_others_from_being_compared(home: Path) -> None:
    """Of all forks it is left out with a warning; named, it is an error."""
    with Avfs(home) as avfs, avfs.open_vault("v") as vault:
        for name in ("one", "two"):
            with vault.fork(name) as work:
                work.write("shared", name.encode())
                work.checkpoint()
        (_git_dir(home) / "refs" / "heads" / "bad").write_text("1" * 40 + "\n")
        found = vault.overlap()

        assert [(pair.first, pair.second) for pair in found.pairs if pair.conflicts] == [("one", "two")]
        assert {warning.code for warning in found.warnings} == {"overlap.left_out"}
        with pytest.raises(ObjectMissing):
            vault.overlap(["one", "bad"])

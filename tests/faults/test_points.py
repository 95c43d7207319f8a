"""Every operation, interrupted at every fault point in turn: once, from then on, and by death.

The form of SQLite's out-of-memory and I/O error tests: the n-th point fails, n = 1, 2, 3, … until the operation
passes without reaching its n-th point. Afterwards the state is the old one or the new one, the log says which of the
two, and undo works in both. What raises an error has left the old state, unless the error says otherwise.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event, Thread

import pytest

from avfs_git import Avfs, Session, Vault
from avfs_git.errors import (
    AvfsError,
    ForkNotFound,
    HostError,
    LeftInForce,
    VaultNotFound,
    WorkspaceBusy,
    WorkspaceMounted,
)
from avfs_git.workspace.capture.requests import CheckpointRequest
from avfs_git.workspace.checkpoint.checkpoint import save_checkpoint
from avfs_git.workspace.vault import notes
from tests.support.failing import DISKS, FailAt, armed
from tests.support.faults import (
    UNCOMMITTED,
    Files,
    check_vault,
    copy_home,
    die_in,
    error_of,
    git,
    make_source,
    make_vault,
    reachable_contents,
    read_files,
)
from tests.support.seeds import take_points, take_turns

pytestmark = [pytest.mark.slow, pytest.mark.needs("git", "user-xattrs", "whiteout")]


@dataclass(frozen=True)
class Operation:
    """Something that is interrupted."""

    name: str
    run: Callable[[Vault], object]
    prepare: Callable[[Vault], object] = lambda vault: None
    fork: str = "work"
    """The fork whose log it is in."""
    back: Callable[[Vault, str], object] | None = lambda vault, fork: vault.undo(fork=fork)
    """What takes it back; None if nothing does."""
    saves: bool = False
    """Whether it saves what is uncommitted first, which stays where the rest fails."""


def _restore_and_edit(vault: Vault) -> None:
    vault.workspace("work").restore("one")
    vault.workspace("work").write("uncommitted", UNCOMMITTED)


def _undo_restore(vault: Vault) -> None:
    vault.workspace("work").restore("one")
    vault.workspace("work").undo()


def _redo(vault: Vault, fork: str) -> None:
    vault.redo(fork=fork)


def _change_files(vault: Vault) -> None:
    work = vault.workspace("work")
    work.checkpoint("files")
    work.write("a", b"fourth\n")
    work.write("build/out.o", b"built again\n")
    work.remove("many/f")
    work.write("more", b"more\n")
    work.write("uncommitted", UNCOMMITTED)


def _move_directories(vault: Vault) -> None:
    """Move directories of the base, one of them twice and one to where another was, and change files in them."""
    work = vault.workspace("work")
    work.move("build", "many/build")
    work.write("many/build/new.o", b"beside what was moved\n")
    work.move("many", "moved")
    work.move("empty", "many")
    work.checkpoint("moved")
    work.move("moved/build", "build")
    work.write("build/out.o", b"built again\n")
    work.write("uncommitted", UNCOMMITTED)


def _make_side(vault: Vault) -> None:
    """Make a fork that has parted from the other one."""
    side = vault.fork("side", source="work", at="one")
    side.write("theirs", b"theirs\n")
    side.write("deep/er/new", b"new\n")
    side.write("theirs.log", b"ignored\n")
    side.checkpoint()


def _make_side_ahead(vault: Vault) -> None:
    """Make a fork that has all of the other one, and more."""
    vault.workspace("work").checkpoint()
    side = vault.fork("side", source="work")
    side.write("a", b"changed there\n")
    side.write("deep/er/new", b"new\n")
    side.checkpoint()


def _checkpoint_with_note(vault: Vault) -> None:
    """Commit as a command does, with what `git log --notes=avfs` tells of it."""
    with vault.workspace("work")._opened.locked() as locked:
        save_checkpoint(
            locked, CheckpointRequest(message="noted", description="noted", note=notes.Note(lambda *_: "said\n"))
        )


def _change_after(vault: Vault) -> None:
    """Save what the next operation is about, and do more after it."""
    vault.workspace("work").checkpoint()
    work = vault.workspace("work")
    work.write("deep/er/new", b"to be taken back\n")
    work.write("a", b"to be taken back\n")
    work.checkpoint()
    work.write("other", b"stays\n")
    work.write("uncommitted", UNCOMMITTED)
    vault._dispatch.record_changes("work")


def _undo_first(vault: Vault) -> object:
    number = next(each.id for each in vault.operations(fork="work", limit=1000) if "deep/er/new" in each.description)
    return vault.workspace("work").undo_operation(number)


OPERATIONS = [
    Operation("checkpoint", lambda vault: vault.workspace("work").checkpoint("three")),
    Operation("checkpoint with a note", _checkpoint_with_note),
    Operation(
        "checkpoint of nothing, labelled",
        lambda v: v.workspace("work").checkpoint("three"),
        lambda v: v.workspace("work").checkpoint(),
    ),
    Operation("restore", lambda vault: vault.workspace("work").restore("one"), saves=True),
    Operation("restore of files", lambda vault: vault.workspace("work").restore("files"), _change_files, saves=True),
    Operation("restore of paths", lambda vault: vault.workspace("work").restore("one", paths=["a", "dir"]), saves=True),
    Operation("fork", lambda vault: vault.fork("task", source="work"), fork="task", saves=True),
    Operation("fork at a label", lambda vault: vault.fork("task", source="work", at="one"), fork="task"),
    Operation("fork delete", lambda vault: vault.delete_fork("work")),
    Operation("undo of a checkpoint", lambda vault: vault.workspace("work").undo(), back=_redo),
    Operation(
        "undo of a restore",
        lambda v: v.workspace("work").undo(),
        lambda v: v.workspace("work").restore("one"),
        back=_redo,
    ),
    Operation("undo of file calls", lambda vault: vault.workspace("work").undo(), _restore_and_edit, back=_redo),
    Operation("undo of one operation", _undo_first, _change_after, saves=True),
    Operation("redo of a restore", lambda vault: vault.workspace("work").redo(), _undo_restore),
    Operation(
        "undo of a fork",
        lambda vault: vault.undo(fork="task"),
        lambda v: v.fork("task", source="work"),
        fork="task",
        back=_redo,
    ),
    Operation(
        "undo of a fork delete",
        lambda vault: vault.undo(fork="work"),
        lambda vault: vault.delete_fork("work"),
        back=_redo,
    ),
    Operation("fold", lambda vault: vault.workspace("work").fold(), back=None, saves=True),
    Operation(
        "fold of moved directories", lambda v: v.workspace("work").fold(), _move_directories, back=None, saves=True
    ),
    Operation("label delete", lambda vault: vault.workspace("work").delete_checkpoint("one")),
    Operation("merge", lambda vault: vault.workspace("work").merge("side"), _make_side, saves=True),
    Operation("merge that moves on", lambda vault: vault.workspace("work").merge("side"), _make_side_ahead),
]


@dataclass(frozen=True)
class Seen:
    """A vault's content, for comparison: files and tree of the head by fork, labels, and what the log says was done."""

    forks: dict[str, tuple[Files, str]]
    labels: frozenset[str]
    done: tuple[tuple[str, str, str, bool], ...]


def _look(vault: Vault) -> Seen:
    # Whoever comes next brings in order what was interrupted; git looks after that.
    files = {info.name: read_files(vault.workspace(info.name)) for info in vault.list_forks()}
    trees: dict[str, str] = {}
    labels: list[str] = []
    listed = git(vault.path, "for-each-ref", "--format=%(refname) %(tree)", "refs/heads", "refs/avfs/checkpoints")
    for ref, tree in map(str.split, listed.splitlines()):
        if ref.startswith("refs/heads/"):
            trees[ref.removeprefix("refs/heads/")] = tree
        else:
            labels.append(ref)
    forks = {name: (found, trees[name]) for name, found in files.items()}
    refs = [ref for ref in labels if ref.removeprefix("refs/avfs/checkpoints/").rpartition("/")[0] in forks]
    done = [(each.fork, each.kind, each.description, each.undone) for each in vault.operations(limit=1000)]
    return Seen(forks, frozenset(refs), tuple(done))


def _differences(found: Seen, seen: Seen) -> dict[str, object]:
    """Say in which ways two are not the same, for people."""
    told: dict[str, object] = {"labels": sorted(found.labels ^ seen.labels), "done": (found.done[:3], seen.done[:3])}
    for fork in found.forks.keys() | seen.forks.keys():
        mine, other = found.forks.get(fork), seen.forks.get(fork)
        if mine is None or other is None:
            told[fork] = "missing" if mine is None else "too much"
        else:
            told[fork] = (mine[1] == other[1], sorted(set(mine[0].items()) ^ set(other[0].items())))
    return told


def _open(home: Path) -> Vault:
    return Avfs(home).open_vault("v")


def _prepare(operation: Operation, directory: Path) -> Path:
    home = directory / "home"
    vault = make_vault(home, make_source(directory / "source"))
    operation.prepare(vault)
    vault.close()
    return home


def _saved_tree(operation: Operation, directory: Path) -> str:
    """Find the tree that a checkpoint of the first state has."""
    vault = _open(_prepare(operation, directory))
    with vault:
        if "work" in {info.name for info in vault.list_forks()}:
            vault.workspace("work").checkpoint()
        return git(vault.path, "rev-parse", "refs/heads/work^{tree}").strip() if vault._core.has_fork("work") else ""


@dataclass(frozen=True)
class Bounds:
    """What may be found after an interruption."""

    old: Seen
    new: Seen
    saved: Seen | None
    """The old state, with what was uncommitted saved on its branch by an operation of its own."""

    def check(self, found: Seen, *, allowed: tuple[Seen | None, ...] | None = None) -> None:
        """Demand the old state or the new one, and a log that says which."""
        if (
            found.done
            and self.saved is not None
            and found.done[1:] == self.old.done
            and found.forks == self.saved.forks
        ):
            # Its words depend on the operation before which it is saved.
            assert found.done[0][:2] == ("work", "checkpoint")

            found = replace(found, done=self.saved.done)

        candidates = [seen for seen in allowed or (self.old, self.new, self.saved) if seen is not None]

        assert found in candidates, [_differences(found, seen) for seen in candidates]


def _bounds(operation: Operation, directory: Path) -> tuple[Bounds, int]:
    """Run the operation undisturbed; give what it leads from and to, and how many points it passes."""
    home = _prepare(operation, directory / "undisturbed")
    with _open(home) as vault:
        old = _look(vault)
    counter = FailAt(0, AssertionError)
    with _open(home) as vault, armed(counter):
        operation.run(vault)
    with _open(home) as vault:
        new = _look(vault)
        check_vault(vault)
    saved = None
    if operation.saves:
        tree = _saved_tree(operation, directory / "saved")
        before = (("work", "checkpoint", "", False), *old.done)
        saved = Seen({**old.forks, "work": (old.forks["work"][0], tree)}, old.labels, before)
    return Bounds(old, new, saved), len(counter.seen)


DONE_ALREADY = {
    "fork.exists",
    "fork.not_found",
    "checkpoint.exists",
    "checkpoint.not_found",
    "undo.nothing",
    "undo.impossible",
}


def _check_undo(operation: Operation, bounds: Bounds, home: Path) -> None:
    """Demand that what was interrupted can be taken back if it has happened, and what was before it otherwise."""
    if operation.back is None:
        return
    with _open(home) as vault:
        found = _look(vault)
        if found.done == bounds.new.done:
            operation.back(vault, operation.fork)
            after = _look(vault)

            assert after.labels == bounds.old.labels
            for fork, (files, tree) in bounds.old.forks.items():
                seen = [(files, tree)]
                if bounds.saved is not None:
                    seen.append(bounds.saved.forks[fork])
                # What was uncommitted is still there, or kept in a commit.
                seen.append(({path: held for path, held in files.items() if path != b"uncommitted"}, tree))

                assert after.forks[fork] in seen, (fork, after.forks[fork], seen)
            assert after.forks.keys() == bounds.old.forks.keys()
        else:
            refused = error_of(lambda: vault.undo(fork=operation.fork))

            assert refused is None or refused.code in ("undo.nothing", "fork.not_found"), refused
        check_vault(vault)


def _check_after(
    operation: Operation, bounds: Bounds, home: Path, *, allowed: tuple[Seen | None, ...] | None = None
) -> None:
    """Demand everything that must hold after an interruption, and that work goes on."""
    with _open(home) as vault:
        found = _look(vault)
        bounds.check(found, allowed=allowed)
        check_vault(vault, again=True)
        work = found.forks.get("work")
        if work is None or b"uncommitted" not in work[0]:
            trash = [path.read_bytes() for path in (vault.path / "avfs" / "trash").rglob("uncommitted")]

            assert UNCOMMITTED in trash or UNCOMMITTED in reachable_contents(vault.path)

    # In other objects, as another process would; without any step by hand.
    with _open(home) as vault:
        names = {info.name for info in vault.list_forks()}
        refused = error_of(lambda: operation.run(vault))

        assert refused is None or refused.code in DONE_ALREADY, refused
        for name in sorted(names | {info.name for info in vault.list_forks()}):
            try:
                work_space = vault.workspace(name)
            except ForkNotFound:
                continue
            work_space.write("after", b"work goes on\n")

            assert work_space.checkpoint().outcome == "created"
        check_vault(vault)


def _fail_and_check(operation: Operation, bounds: Bounds, fault: FailAt, turn: int, home: Path) -> None:
    vault = _open(home)
    allowed: tuple[Seen | None, ...]
    try:
        with armed(fault):
            operation.run(vault)
    except (HostError, OSError) as error:  # what a point raises is not always at a system call, where it would be typed
        stays = isinstance(error, HostError) and error.details.get("in_force") == "new"
        allowed = (bounds.new,) if stays else (bounds.old, bounds.saved)
    else:
        allowed = (bounds.new,)  # a step whose failure costs nothing: the operation is done
    if turn % 2:
        # The same objects go on, too: what is in memory agrees with the disk.
        bounds.check(_look(vault), allowed=allowed)
    vault.close()
    if turn % 4 > 1:
        with _open(home) as vault:
            bounds.check(_look(vault), allowed=allowed)
        _check_undo(operation, bounds, home)
    else:
        _check_after(operation, bounds, home, allowed=allowed)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name.replace(" ", "-"))
def test_a_failing_step_leaves_the_old_state(operation: Operation, tmp_path: Path) -> None:
    """An operation that fails at any step leaves the old state, or says that the new one stays; it loses nothing.

    One that does not fail has done all of it. Either can be taken back, or be repeated.
    """
    bounds, points = _bounds(operation, tmp_path)
    turns = take_turns(DISKS, stay=4)  # for so many points what is checked after the failure differs

    assert points
    made = _prepare(operation, tmp_path / "made")
    for turn, point in take_points(OPERATIONS.index(operation)):
        for number, stay in turns(turn):
            fault = FailAt(point, partial(OSError, number, os.strerror(number)), stay=stay)
            try:
                _fail_and_check(operation, bounds, fault, turn, copy_home(made, tmp_path / f"{point}-{number}"))
            except Exception as error:
                error.add_note(f"failing at point {point}: {fault.seen[point - 1 :]}")
                raise
        if len(fault.seen) < point:
            break


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name.replace(" ", "-"))
def test_a_death_at_any_step_needs_no_manual_step(operation: Operation, tmp_path: Path) -> None:
    """A process that dies at any step leaves the old state or the new one, which undo takes back.

    It leaves nothing to clean up.
    """
    bounds, _ = _bounds(operation, tmp_path)
    made = _prepare(operation, tmp_path / "made")
    died = True
    for turn, point in take_points(OPERATIONS.index(operation) + 1):
        home = copy_home(made, tmp_path / str(point))
        try:
            died = die_in(lambda home=home: operation.run(_open(home)), point)  # type: ignore[misc]  # a default binds the loop's value
            if turn % 2:
                _check_after(operation, bounds, home)
            else:
                _check_undo(operation, bounds, home)
        except Exception as error:
            error.add_note(f"dying at point {point}")
            raise
        if not died:
            break


def _create(home: Path, source: Path) -> None:
    with Avfs(home) as avfs:
        avfs.create_vault("v", source=source)


def _check_creation(home: Path, source: Path, expected: Files) -> None:
    with Avfs(home) as avfs:
        names = [info.name for info in avfs.list_vaults()]

        assert names in ([], ["v"])
        if not names:
            avfs.create_vault("v", source=source)
        vault = avfs.open_vault("v")

        assert read_files(vault.workspace()) == expected
        assert vault.workspace().status().changed_files == ()
        check_vault(vault)
        avfs.create_vault("other")
        places = [entry.name for entry in (home / "vaults").iterdir()]

        assert sorted(places) == ["other.git", "v.git"]


def _creation(directory: Path) -> tuple[Path, Files, int]:
    source = make_source(directory / "source")
    counter = FailAt(0, AssertionError)
    with armed(counter):
        _create(directory / "undisturbed", source)
    with Avfs(directory / "undisturbed") as avfs:
        return source, read_files(avfs.open_vault("v").workspace()), len(counter.seen)


@pytest.mark.parametrize(
    ("number", "stay"), [(errno.EIO, False), (errno.ENOSPC, True)], ids=["EIO-once", "ENOSPC-from-then-on"]
)
def test_a_vault_whose_making_fails_is_not_there(number: int, stay: bool, tmp_path: Path) -> None:
    """Making a vault fails as a whole or succeeds as a whole, and leaves nothing behind."""
    source, expected, points = _creation(tmp_path)
    for point in range(1, points + 1):
        home = tmp_path / str(point)
        fault = FailAt(point, lambda: OSError(number, os.strerror(number)), stay=stay)
        try:
            with armed(fault):
                _create(home, source)
        except (AvfsError, OSError):
            assert not list((home / "vaults").glob("*.git"))
        _check_creation(home, source, expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda avfs, source: avfs.create_vault("v", source=source),
        lambda avfs, source: avfs.clone_vault(str(source), "v"),
        lambda avfs, source: avfs.fork_directory(source, source.parent / "fork"),
    ],
    ids=["create", "clone", "fork"],
)
def test_a_vault_that_is_not_acknowledged_is_not_there(make: Callable[[Avfs, Path], object], tmp_path: Path) -> None:
    """Its name is there and cannot be put on disk: the vault goes again.

    If that fails, too, the error says that it stays.
    """
    source, home = tmp_path / "source", tmp_path / "home"
    subprocess.run(["git", "init", "-q", "-b", "main", str(source)], check=True)
    (source / "a").write_bytes(b"1\n")
    subprocess.run(["git", "-C", str(source), "add", "a"], check=True)
    subprocess.run(
        ["git", "-C", str(source), "-c", "user.name=A", "-c", "user.email=a@b", "commit", "-q", "-m", "one"], check=True
    )
    made: list[Path] = []

    def refuse(point: str) -> None:
        if point == "vault.filled":
            made.extend((home / "vaults").glob(".making-*/*"))
        if point == "vault.renamed":
            raise OSError(errno.EIO, "Input/output error")

    def refuse_all(point: str) -> None:
        if point == "vault.renamed":
            (made[-1] / "in the way").mkdir(parents=True)
        refuse(point)

    def failure(handler: Callable[[str], None]) -> AvfsError:
        with armed(handler), Avfs(home) as avfs, pytest.raises(HostError) as caught:
            make(avfs, source)
        return caught.value

    assert not isinstance(failure(refuse), LeftInForce)
    assert list((home / "vaults").iterdir()) == []

    left = failure(refuse_all)
    names = [place.stem for place in (home / "vaults").iterdir() if place.suffix == ".git" and place.name[0] != "."]
    assert isinstance(left, LeftInForce)
    assert len(names) == 1
    assert f"`avfs vault delete {names[0]}`" in str(left.hint)
    with Avfs(home) as avfs:
        avfs.delete_vault(names[0])
        assert avfs.list_vaults() == []


def test_a_vault_whose_maker_dies_is_not_there(tmp_path: Path) -> None:
    """A process that dies while it makes a vault leaves none or a whole one; what it left is removed by the next."""
    source, expected, points = _creation(tmp_path)
    for point in range(1, points + 1):
        home = tmp_path / str(point)

        assert die_in(lambda home=home: _create(home, source), point)  # type: ignore[misc]  # a default binds the loop's value
        _check_creation(home, source, expected)


@pytest.mark.parametrize("dies", [False, True], ids=["EIO", "death"])
def test_a_vault_whose_deletion_is_interrupted_is_there_or_gone(dies: bool, tmp_path: Path) -> None:
    """A deletion that fails leaves the vault.

    One whose process dies leaves nothing that is found, and the next cleans up.
    """
    home = tmp_path / "home"
    make_vault(home, make_source(tmp_path / "source")).close()

    def delete() -> None:
        with Avfs(home) as avfs:
            avfs.delete_vault("v")

    if dies:
        assert die_in(delete, 2)
        left = [entry.name.partition("-")[0] for entry in (home / "vaults").iterdir()]

        assert left == [".deleted"]
        with Avfs(home) as avfs:
            assert avfs.list_vaults() == []
            avfs.create_vault("other")
            avfs.delete_vault("other")
    else:
        with armed(FailAt(2, lambda: OSError(errno.EIO, "Input/output error"))), pytest.raises(HostError):
            delete()
        with Avfs(home) as avfs:
            check_vault(avfs.open_vault("v"))
        delete()

    assert list((home / "vaults").iterdir()) == []


@pytest.mark.parametrize("has_workspace", [False, True])
def test_a_vault_that_somebody_mounts_while_it_is_deleted_stays(has_workspace: bool, tmp_path: Path) -> None:
    """A fork is mounted after the deletion looked and before the vault goes.

    The deletion is refused, and the tree lives.
    """
    home, tree = tmp_path / "home", tmp_path / "tree"
    with Avfs(home) as avfs, avfs.create_vault("v") as vault:
        if has_workspace:
            vault.workspace().write("a", b"1\n")
    with Avfs(home) as second, second.open_vault("v") as opened, Avfs(home, lock_timeout_s=0.1) as first:
        sessions: list[Session] = []

        def mount(point: str) -> None:
            if point == "vault.deleting":
                sessions.append(opened.workspace().mount(tree))

        with armed(mount), pytest.raises((WorkspaceBusy, WorkspaceMounted)):
            first.delete_vault("v")
        (tree / "b").write_bytes(b"2\n")
        sessions[0].unmount()

        assert opened.workspace().read("b") == b"2\n"


def test_two_who_delete_a_vault_leave_the_next_one_of_its_name(tmp_path: Path) -> None:
    """Whoever deletes a vault that somebody else deletes and makes anew meanwhile deletes nothing of the new one."""
    home, acts = tmp_path / "home", Event()
    with Avfs(home) as avfs:
        avfs.create_vault("v").close()

    def other() -> None:
        acts.set()
        with Avfs(home) as avfs:
            with suppress(VaultNotFound):
                avfs.delete_vault("v")
            with avfs.create_vault("v") as vault:
                vault.workspace().write("work", b"acknowledged\n")

    thread = Thread(target=other)

    def meet(point: str) -> None:
        if point == "vault.deleting" and not acts.is_set():
            thread.start()
            acts.wait()
            thread.join(0.5)  # it has to wait; without the lock it is done by then

    with armed(meet), Avfs(home) as avfs:
        avfs.delete_vault("v")
    thread.join()
    with Avfs(home) as avfs, avfs.open_vault("v") as vault:
        assert vault.workspace().read("work") == b"acknowledged\n"

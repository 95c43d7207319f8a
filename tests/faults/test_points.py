"""Every operation, interrupted at every fault point in turn: once, from then on, and by death.

The form of SQLite's out-of-memory and I/O error tests: the n-th point fails, n = 1, 2, 3, … until the operation
passes without reaching its n-th point.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault, faults
from avfs_git.errors import AvfsError, ForkNotFound
from tests.support.faults import (
    UNCOMMITTED,
    Files,
    check_vault,
    die_in,
    git,
    make_source,
    make_vault,
    reachable_contents,
    read_files,
)

pytestmark = [pytest.mark.slow, pytest.mark.needs("git", "user-xattrs", "whiteout")]


@dataclass(frozen=True)
class Operation:
    """Something that is interrupted."""

    name: str
    run: Callable[[Vault], object]
    prepare: Callable[[Vault], object] = lambda vault: None


def _restore_and_edit(vault: Vault) -> None:
    vault.workspace("work").restore("one")
    vault.workspace("work").write("uncommitted", UNCOMMITTED)


def _undo_restore(vault: Vault) -> None:
    _restore_and_edit(vault)
    vault.workspace("work").undo()
    vault.workspace("work").write("uncommitted", UNCOMMITTED)


OPERATIONS = [
    Operation("checkpoint", lambda vault: vault.workspace("work").checkpoint("three")),
    Operation(
        "checkpoint of nothing, labelled",
        lambda v: v.workspace("work").checkpoint("three"),
        lambda v: v.workspace("work").checkpoint(),
    ),
    Operation("restore", lambda vault: vault.workspace("work").restore("one")),
    Operation("restore of paths", lambda vault: vault.workspace("work").restore("one", paths=["a", "dir"])),
    Operation("fork", lambda vault: vault.fork("task", source="work")),
    Operation("fork at a label", lambda vault: vault.fork("task", source="work", at="one")),
    Operation("fork delete", lambda vault: vault.delete_fork("work")),
    Operation("undo of a checkpoint", lambda vault: vault.workspace("work").undo()),
    Operation("undo of a restore", lambda vault: vault.workspace("work").undo(), _restore_and_edit),
    Operation("redo of a restore", lambda vault: vault.workspace("work").redo(), _undo_restore),
    Operation("undo of a fork", lambda vault: vault.undo(fork="task"), lambda vault: vault.fork("task", source="work")),
    Operation("undo of a fork delete", lambda vault: vault.undo(fork="work"), lambda vault: vault.delete_fork("work")),
    Operation("fold", lambda vault: vault.workspace("work").fold()),
    Operation("label delete", lambda vault: vault.workspace("work").delete_checkpoint("one")),
]


@dataclass(frozen=True)
class Seen:
    """What a vault holds, for comparison: files and head by fork, and labels."""

    forks: dict[str, tuple[Files, str]]
    labels: frozenset[str]


def _look(vault: Vault) -> Seen:
    forks: dict[str, tuple[Files, str]] = {}
    for info in vault.list_forks():
        tree = git(vault.path, "rev-parse", f"refs/heads/{info.name}^{{tree}}").strip()
        forks[info.name] = (read_files(vault.workspace(info.name)), tree)
    refs = git(vault.path, "for-each-ref", "--format=%(refname)", "refs/avfs/checkpoints").split()
    return Seen(forks, frozenset(refs))


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
    saved: str

    def check(self, found: Seen) -> None:
        """Demand the old state or the new one, or the old one with what was uncommitted saved on its branch."""
        for fork, (files, tree) in found.forks.items():
            allowed = []
            if fork in self.old.forks:
                allowed += [self.old.forks[fork], (self.old.forks[fork][0], self.saved)]
            if fork in self.new.forks:
                allowed.append(self.new.forks[fork])

            assert (files, tree) in allowed, (fork, tree)
        missing = (self.old.forks.keys() & self.new.forks.keys()) - found.forks.keys()

        assert not missing


def _bounds(operation: Operation, directory: Path) -> tuple[Bounds, int]:
    """Run the operation undisturbed; give what it leads from and to, and how many points it passes."""
    home = _prepare(operation, directory / "undisturbed")
    with _open(home) as vault:
        old = _look(vault)
    counter = faults.FailAt(0, AssertionError)
    with _open(home) as vault:
        faults.arm(counter)
        try:
            operation.run(vault)
        finally:
            faults.arm(None)
    with _open(home) as vault:
        new = _look(vault)
        check_vault(vault)
    return Bounds(old, new, _saved_tree(operation, directory / "saved")), len(counter.seen)


DONE_ALREADY = {"fork.exists", "fork.not_found", "checkpoint.exists", "checkpoint.not_found", "undo.nothing", "undo.impossible"}


def _run(action: Callable[[], object]) -> AvfsError | None:
    """Do something; give the error that it ended with."""
    try:
        action()
    except AvfsError as error:
        return error
    return None


def _check_after(operation: Operation, bounds: Bounds, home: Path) -> None:
    """Demand everything that must hold after an interruption, and that work goes on."""
    with _open(home) as vault:
        found = _look(vault)
        bounds.check(found)
        check_vault(vault)
        kept = reachable_contents(vault.path)
        trash = [path.read_bytes() for path in (vault.path / "avfs" / "trash").rglob("uncommitted")]
        work = found.forks.get("work")

        assert UNCOMMITTED in kept or UNCOMMITTED in trash or (work is not None and b"uncommitted" in work[0])

    # In other objects, as another process would; without any step by hand.
    with _open(home) as vault:
        names = {info.name for info in vault.list_forks()}
        refused = _run(lambda: operation.run(vault))

        assert refused is None or refused.code in DONE_ALREADY, refused
        for name in sorted(names | {info.name for info in vault.list_forks()}):
            try:
                work_space = vault.workspace(name)
            except ForkNotFound:
                continue
            work_space.write("after", b"work goes on\n")

            assert work_space.checkpoint().outcome == "created"
        check_vault(vault)


def _fail_and_check(operation: Operation, bounds: Bounds, directory: Path, fault: faults.FailAt, *, go_on: bool) -> None:
    home = _prepare(operation, directory)
    vault = _open(home)
    faults.arm(fault)
    try:
        operation.run(vault)
    except (AvfsError, OSError):
        failed = True
    else:
        failed = False  # a step whose failure costs nothing: the operation is done
    finally:
        faults.arm(None)
    if not failed:
        assert _look(vault).forks == bounds.new.forks
    if go_on:
        # The same objects go on, too: what is in memory agrees with the disk.
        bounds.check(_look(vault))
    vault.close()
    _check_after(operation, bounds, home)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name.replace(" ", "-"))
@pytest.mark.parametrize(("number", "stay"), [(errno.EIO, False), (errno.ENOSPC, True)], ids=["EIO-once", "ENOSPC-from-then-on"])
def test_a_failing_step_leaves_the_old_state_or_the_new_one(
    operation: Operation, number: int, stay: bool, tmp_path: Path
) -> None:
    """An operation that fails at any step leaves the old state or the new one, loses nothing, and can be repeated."""
    bounds, points = _bounds(operation, tmp_path)

    assert points
    for point in count(1):
        fault = faults.FailAt(point, lambda: OSError(number, os.strerror(number)), stay=stay)
        try:
            _fail_and_check(operation, bounds, tmp_path / str(point), fault, go_on=point % 2 == 0)
        except Exception as error:
            error.add_note(f"failing at point {point}: {fault.seen[point - 1 :]}")
            raise
        if len(fault.seen) < point:
            break


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name.replace(" ", "-"))
def test_a_death_at_any_step_needs_no_manual_step(operation: Operation, tmp_path: Path) -> None:
    """A process that dies at any step leaves the old state or the new one, and nothing to be cleaned up by hand."""
    bounds, _ = _bounds(operation, tmp_path)
    died = True
    for point in count(1):
        home = _prepare(operation, tmp_path / str(point))
        try:
            died = die_in(lambda home=home: operation.run(_open(home)), point)  # type: ignore[misc]  # a default binds the loop's value
            _check_after(operation, bounds, home)
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
    counter = faults.FailAt(0, AssertionError)
    faults.arm(counter)
    try:
        _create(directory / "undisturbed", source)
    finally:
        faults.arm(None)
    with Avfs(directory / "undisturbed") as avfs:
        return source, read_files(avfs.open_vault("v").workspace()), len(counter.seen)


@pytest.mark.parametrize(("number", "stay"), [(errno.EIO, False), (errno.ENOSPC, True)], ids=["EIO-once", "ENOSPC-from-then-on"])
def test_a_vault_whose_making_fails_is_not_there(number: int, stay: bool, tmp_path: Path) -> None:
    """Making a vault fails as a whole or succeeds as a whole, and leaves nothing behind."""
    source, expected, points = _creation(tmp_path)
    for point in range(1, points + 1):
        home = tmp_path / str(point)
        fault = faults.FailAt(point, lambda: OSError(number, os.strerror(number)), stay=stay)
        faults.arm(fault)
        try:
            _create(home, source)
        except (AvfsError, OSError):
            pass
        finally:
            faults.arm(None)
        _check_creation(home, source, expected)


def test_a_vault_whose_maker_dies_is_not_there(tmp_path: Path) -> None:
    """A process that dies while it makes a vault leaves none or a whole one; what it left is removed by the next."""
    source, expected, points = _creation(tmp_path)
    for point in range(1, points + 1):
        home = tmp_path / str(point)

        assert die_in(lambda home=home: _create(home, source), point)  # type: ignore[misc]  # a default binds the loop's value
        _check_creation(home, source, expected)

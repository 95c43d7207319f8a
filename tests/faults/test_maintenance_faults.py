"""Maintenance, interrupted at every fault point in turn, and with another actor at every point: nothing is lost.

At each named step the process is killed, the disk fails, or another process makes or undoes a checkpoint, makes and
deletes forks and labels, or runs git. Afterwards each workspace, checkpoint, ref and undo is there.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock, Thread, current_thread, main_thread

import pytest

from avfs_git import Avfs, Vault, faults
from avfs_git.errors import AvfsError
from tests.support.failing import DISKS, FailAt, armed
from tests.support.faults import check_vault, copy_home, die_in, git, make_source, make_vault, read_states
from tests.support.seeds import take_points, take_turns

pytestmark = [pytest.mark.slow, pytest.mark.needs("git", "user-xattrs", "whiteout")]

CHECKPOINTS = 4
POINTS = ("refs.pack", "repack.", "maintain.", "oplog.indexing", "sweep.synced", "fold.")
LOCKED = ("refs.packing", "refs.pack_locked", "refs.pack_removed")
"""Where maintenance holds locks of refs."""


def _open(home: Path) -> Vault:
    return Avfs(home).open_vault("v")


def _maintain(home: Path) -> None:
    with _open(home) as vault:
        vault.maintain(every_step=True)


def _prepare(directory: Path) -> Path:
    """Make a vault with labels, refs that only undo needs, several packs, and a deleted fork."""
    directory.mkdir(exist_ok=True)
    with make_vault(directory / "home", make_source(directory / "source")) as vault:
        work = vault.workspace("work")
        for number in range(CHECKPOINTS):
            work.write("steps", f"{number}\n".encode() * 200)
            work.checkpoint(f"step-{number}")
        saved = vault.fork("saved", source="work")
        saved.remove("many", recursive=True)
        saved.write("many/f", b"another\n")
        saved.write("many/g", b"new\n")
        saved.checkpoint()
        vault.fork("gone", source="work").write("theirs", b"uncommitted\n")
        vault.delete_fork("gone")
        git(vault.path, "-c", "user.name=a", "-c", "user.email=b@c", "tag", "-a", "-m", "a tag", "v1", "work")
    return directory / "home"


def _check(home: Path) -> None:
    """Demand that all is there, that undo restores what it promised, and that maintenance goes on where it stopped."""
    with _open(home) as vault:
        check_vault(vault, again=True)
        vault.undo()

        assert vault.workspace("gone").read("theirs") == b"uncommitted\n"
        before = read_states(vault)
        refs = git(vault.path, "show-ref", "--dereference")
        labels = {label for each in vault.workspace("work").list_checkpoints() for label in each.labels}

        assert {"one", "two", *(f"step-{number}" for number in range(CHECKPOINTS))} <= labels
        assert vault.maintain(every_step=True).warnings == ()
        assert git(vault.path, "show-ref", "--dereference") == refs
        assert read_states(vault) == before
        check_vault(vault)


def test_maintenance_that_fails_loses_nothing(tmp_path: Path) -> None:
    """A disk that fails at any step ends that step; the other steps go on, and the next run completes it."""
    made = _prepare(tmp_path / "made")
    turns = take_turns(DISKS)
    for turn, point in take_points(0):
        for number, stay in turns(turn):
            home = copy_home(made, tmp_path / f"{point}-{number}")
            fault = FailAt(point, partial(OSError, number, os.strerror(number)), stay=stay)
            # An error of the record of the run, or of a point that is not at a system call.
            with suppress(AvfsError, OSError), armed(fault):
                _maintain(home)
            try:
                _check(home)
            except BaseException as error:
                raise AssertionError(f"after the failure at point {point}: {fault.seen[point - 1 :][:1]}") from error
        if len(fault.seen) < point:
            break
    assert {"refs.packed", "refs.pack_removed", "repack.installed", "repack.removed_one", "oplog.indexing"} <= set(
        fault.seen
    )
    assert {"fold.base_moved", "fold.entry", "fold.emptied", "statcache.begun", "maintain.folded_slice"} <= set(
        fault.seen
    )


def test_maintenance_that_is_killed_loses_nothing(tmp_path: Path) -> None:
    """A process that dies at any step leaves a vault with all that it held, which needs no hand."""
    made = _prepare(tmp_path / "made")
    for _, point in take_points(1):
        home = copy_home(made, tmp_path / str(point))
        died = die_in(lambda home=home: _maintain(home), point)  # type: ignore[misc]
        _check(home)
        if not died:
            break


def _checkpoint(vault: Vault) -> None:
    vault.workspace("work").write("beside", os.urandom(20))
    vault.workspace("work").checkpoint(f"beside-{os.urandom(4).hex()}")


def _undo_and_redo(vault: Vault) -> None:
    _checkpoint(vault)
    vault.workspace("work").undo()
    vault.workspace("work").redo()


def _fork_and_delete(vault: Vault) -> None:
    name = f"f{os.urandom(4).hex()}"
    vault.fork(name, source="work").checkpoint("labelled")
    vault.delete_fork(name)


def _label_again(vault: Vault) -> None:
    """Take a label away and give it to the same commit: a ref that goes and comes with the same value."""
    work = vault.workspace("work")
    at = work.delete_checkpoint("one").id
    git(vault.path, "update-ref", "refs/avfs/checkpoints/work/one", at)


def _git_packs(vault: Vault) -> None:
    git(vault.path, "pack-refs", "--all")
    subprocess.run(["git", "-C", vault.path, "repack", "-q", "-d"], check=True)


def _collect(vault: Vault) -> None:
    vault.gc()


@pytest.mark.parametrize("beside", [_checkpoint, _undo_and_redo, _fork_and_delete, _label_again, _git_packs, _collect])
def test_what_happens_beside_maintenance_stays(beside: Callable[[Vault], None], tmp_path: Path) -> None:
    """At each kind of step something else is done and acknowledged; all of it is there afterwards."""
    home = _prepare(tmp_path)
    seen: set[str] = set()
    failures: list[BaseException] = []
    others: list[Thread] = []
    one_at_a_time = Lock()

    def do() -> None:
        try:
            with one_at_a_time, _open(home) as vault:
                beside(vault)
                refs = git(vault.path, "for-each-ref", "--format=%(refname)").splitlines()
                assert {"refs/heads/main", "refs/heads/work", "refs/avfs/checkpoints/work/two"} <= set(refs)
        except BaseException as error:  # noqa: BLE001 - shown by the thread that waits
            failures.append(error)

    def act(point: str) -> None:
        if point in seen or current_thread() is not main_thread() or not point.startswith(POINTS):
            return
        seen.add(point)
        other = Thread(target=do)
        other.start()
        # Where locks are held, the other actor waits for them, and this goes on.
        other.join(0.05 if point in LOCKED else None)
        others.append(other)

    faults.arm(act)
    try:
        _maintain(home)
    finally:
        faults.arm(None)
        for other in others:
            other.join()

    assert failures == []
    assert {"refs.packed", "maintain.did_one"} <= seen
    if beside in (_checkpoint, _undo_and_redo):  # git and gc do some of the work
        assert {"refs.pack_removed", "sweep.synced", "repack.removed_one", "oplog.indexing"} <= seen
    with _open(home) as vault:
        check_vault(vault)
        labels = {label for each in vault.workspace("work").list_checkpoints() for label in each.labels}

        assert {"one", "two", *(f"step-{number}" for number in range(CHECKPOINTS))} <= labels
        if beside is _checkpoint:
            assert sum(label.startswith("beside-") for label in labels) == len(seen)
        assert vault.maintain(every_step=True).warnings == ()
        check_vault(vault)

"""An interrupt at any step of an operation, also between two calls of Python's: all of it is there, or nothing."""

from __future__ import annotations

import os
import random
import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from avfs_git import Avfs, Vault, faults
from avfs_git.gitstore.refs.refs import RefStore
from avfs_git.model import Identity
from avfs_git.workspace.vault.vault import OpenVault
from tests.support.faults import Files, read_files
from tests.support.seeds import choose_seed, is_all

pytestmark = pytest.mark.needs("user-xattrs", "whiteout")

ADA = Identity("Ada Author", "ada@example.org")
Operation = Callable[[Vault], object]
OPERATIONS: dict[str, Operation] = {
    "undo": lambda vault: vault.workspace("main").undo(),
    "merge": lambda vault: vault.workspace("main").merge("task"),
    "restore": lambda vault: vault.workspace("main").restore("one"),
    "rename": lambda vault: vault.rename_fork("other", "renamed"),
    "bring back": lambda vault: vault.undo(fork="gone"),
}
_ENDS = (RefStore.update.__code__, OpenVault.move_refs.__code__)
_NEAR = 4
"""All of so many steps before and after the end of one of these are tried."""
_SOME = 8 * (40 if is_all() else 1)
"""So many others are, after refs have moved, and as many elsewhere."""


class Steps:
    """Counts the ends of calls, of Python's and of C's, and raises at one of them what Ctrl-C raises."""

    def __init__(self, at: tuple[int, int] | None = None) -> None:
        """Say where: at the so-many-th end after refs have moved for the so-many-th time, 0 for all from the start."""
        self.at = at
        self.passed = [0]
        """The steps from the start, and from each move of refs on."""
        self.ends: list[tuple[int, int]] = []
        """Where a move of refs has ended, and where the log says that it has."""

    def reach(self, point: str) -> None:
        """Notice that refs have moved."""
        if point == "refs.moved":
            self.passed.append(0)

    def pass_one(self, frame: FrameType, event: str, _argument: object) -> None:
        """Count a step; Python calls this."""
        if event not in ("return", "c_return"):
            return
        self.passed[0] += 1
        if len(self.passed) > 1:
            self.passed[-1] += 1
            if event == "return" and frame.f_code in _ENDS:
                self.ends.append((len(self.passed) - 1, self.passed[-1]))
        if self.at is not None and self.at[0] in (0, len(self.passed) - 1) and self.passed[self.at[0]] == self.at[1]:
            sys.setprofile(None)
            raise KeyboardInterrupt


def _make(home: Path) -> None:
    with Avfs(home, identity=ADA) as avfs, avfs.create_vault("v") as vault, vault.workspace() as work:
        work.write("a", b"1\n")
        work.write("dir/b", b"1\n")
        work.checkpoint("one")
        with vault.fork("task", source="main") as task:
            task.write("new", b"of the task\n")
            task.checkpoint("task")
        with vault.fork("other", source="task") as other:
            other.write("uncommitted", b"in a fork with another name, perhaps\n")
        with vault.fork("gone", source="main") as gone:
            gone.write("uncommitted", b"in a fork that is gone\n")
        vault.delete_fork("gone")
        work.write("a", b"2\n")
        work.remove("dir/b")
        work.checkpoint("two")


def _perform(home: Path, operation: Operation, steps: Steps) -> None:
    with Avfs(home, identity=ADA) as avfs, avfs.open_vault("v") as vault:
        faults.arm(steps.reach)
        sys.setprofile(steps.pass_one)
        try:
            operation(vault)
        finally:
            sys.setprofile(None)
            faults.arm(None)


def _is_interrupted(home: Path, operation: Operation, at: tuple[int, int]) -> bool:
    """Do it in a process of its own, which ends as the program does; tell whether it came to that step."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # threads, which the child does not use
        pid = os.fork()
    if pid == 0:
        status = 1
        try:
            _perform(home, operation, Steps(at))
            status = 0
        except KeyboardInterrupt:
            status = 130
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, 130), at
    return status == 130


def _read(home: Path) -> tuple[dict[str, Files], list[str]]:
    """Read the files of all forks, and what the log has."""
    with Avfs(home, identity=ADA) as avfs, avfs.open_vault("v") as vault:
        files = {fork.name: read_files(vault.workspace(fork.name)) for fork in vault.list_forks()}
        return files, [operation.description for operation in vault.operations()]


@pytest.mark.parametrize("name", OPERATIONS)
def test_all_of_it_or_nothing(name: str, tmp_path: Path) -> None:
    """Files and log agree for the next process, which can save.

    Right after the last ref has moved the operation is done, and what has begun it does not know yet.
    """
    operation, made, whole, home = OPERATIONS[name], tmp_path / "made", tmp_path / "whole", tmp_path / "home"
    _make(made)
    shutil.copytree(made, whole, symlinks=True)
    before = _read(made)
    counted = Steps()
    _perform(whole, operation, counted)
    after = _read(whole)
    assert before != after
    rng = random.Random(choose_seed())
    chosen = {(moved, step) for moved, end in counted.ends for step in range(end - _NEAR, end + _NEAR)}
    chosen |= {(moved, rng.randrange(1, end)) for moved, end in counted.ends for _ in range(_SOME // 2)}
    chosen |= {(0, rng.randrange(1, counted.passed[0])) for _ in range(_SOME)}
    tried = 0
    for at in sorted(chosen):
        shutil.copytree(made, home, symlinks=True)
        tried += _is_interrupted(home, operation, at)

        assert _read(home) in (before, after), at
        with Avfs(home, identity=ADA) as avfs, avfs.open_vault("v") as vault:
            for fork in vault.list_forks():
                work = vault.workspace(fork.name)
                work.write("later", b"later\n")
                assert work.checkpoint("later").outcome == "created", at
                assert work.status().changed_files == (), at
        shutil.rmtree(home)
    assert tried > 2 * _NEAR

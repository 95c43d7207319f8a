"""Processes that keep a vault open and do what they are told, one call after the other, until they are killed or end.

Decided here: the calls that `tests.support.turns` makes (`ACTIONS`), and how they end (`Told`). A call may kill its
process at a fault point; another process then takes its place, with nothing in memory. Processes end when whoever
started them is gone.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal, NamedTuple

from avfs_git import Avfs, Vault, faults
from avfs_git.errors import AvfsError
from avfs_git.model import MergeOptions
from avfs_git.session.control import operations
from tests.support.failing import DieAt
from tests.support.faults import check_vault, read_files
from tests.support.two_actors import unsync

Files = dict[str, bytes]

_LIMIT_S = 120.0
"""A call that takes longer hangs."""
_ENDING_S = 20.0
_fork = multiprocessing.get_context("fork")


class Told(NamedTuple):
    """How a call ended."""

    status: Literal["done", "refused", "failed", "dead"]
    value: object = None
    """What it returned, or the code of the error."""
    text: str = ""


def _view(vault: Vault, fork: str) -> Files:
    found = read_files(vault.workspace(fork)).items()
    return {path.decode(): content for path, (kind, _, content) in found if kind == "file" and path != b".git"}


def _look(vault: Vault, fork: str) -> None:
    work = vault.workspace(fork)
    work.status()
    work.log()
    work.diff()


def _catch_up(vault: Vault, fork: str, *, to_end: bool = False) -> str | None:
    """Do what `update` does first: bring in what others put on the branch.

    `to_end`, with each conflict resolved for them.
    """
    work = vault.workspace(fork)
    theirs = work._at.run(operations.find_behind)
    found = (
        work._at.run(operations.catch_up, theirs, MergeOptions("", in_workspace=to_end)) if theirs is not None else None
    )
    if to_end and found is not None and found.outcome == "conflicted":
        for conflict in found.conflicts:
            work.resolve(conflict.path, "theirs")
        work.continue_merge()
    return found.outcome if found is not None else None


def _unmount(vault: Vault, fork: str) -> None:
    session = vault.find_session(fork)
    if session is not None:
        session.unmount()
        session.wait()


ACTIONS: dict[str, Callable[..., object]] = {
    "view": _view,
    "look": _look,
    "list": lambda vault, _: {info.name for info in vault.list_forks()},
    "check": lambda vault, _: check_vault(vault),
    "write": lambda vault, fork, path, data: vault.workspace(fork).write(path, data),
    "append": lambda vault, fork, path, data: vault.workspace(fork).write(path, data, append=True),
    "remove": lambda vault, fork, path: vault.workspace(fork).remove(path),
    "move": lambda vault, fork, path, to: vault.workspace(fork).move(path, to),
    "copy": lambda vault, fork, path, to: vault.workspace(fork).copy(path, to),
    "checkpoint": lambda vault, fork, label: vault.workspace(fork).checkpoint(label).outcome,
    "restore": lambda vault, fork, label: vault.workspace(fork).restore(label),
    "undo": lambda vault, fork: vault.workspace(fork).undo(alone=True).operation.description,
    "redo": lambda vault, fork: vault.workspace(fork).redo().operation.description,
    "merge": lambda vault, fork, source: vault.workspace(fork).merge(source).outcome,
    "catch_up": _catch_up,
    "catch_up_to_end": partial(_catch_up, to_end=True),
    "exec": lambda vault, fork, text: vault.workspace(fork).exec(shell=text).exit_code,
    "fork": lambda vault, fork, new: vault.fork(new, source=fork),
    "delete": lambda vault, fork: vault.delete_fork(fork),
    "undelete": lambda vault, fork: vault.undo(fork=fork),
    "rename": lambda vault, fork, new: vault.rename_fork(fork, new),
    "collect": lambda vault, _, keep: vault.gc(keep_days=0, keep_operations=keep, grace_days=0),
    "fold": lambda vault, fork: vault.workspace(fork).fold(),
    "mount": lambda vault, fork, tree: vault.workspace(fork).mount(tree),
    "unmount": _unmount,
    "gc": lambda vault, _: vault.gc(grace_days=0),
    "maintain": lambda vault, _: vault.maintain(every_step=True),
    "doctor": lambda vault, _: vault.doctor(repair=True),
    "push": lambda vault, fork: vault.push([fork], with_checkpoints=True, with_sidecar=True),
    "fetch": lambda vault, _: vault.fetch(),
}


def _work(connection: Connection, home: Path) -> None:
    """Be one of the processes, until the runner closes its end of the connection."""
    os.setsid()
    mine = connection.fileno()
    os.closerange(3, mine)  # the runner's ends of other processes' connections
    os.closerange(mine + 1, 1 << 16)
    unsync()
    avfs = Avfs(home, lock_timeout_s=30.0)
    with suppress(EOFError, BrokenPipeError):
        while True:
            action, fork, arguments, die = connection.recv()
            faults.arm(DieAt(die) if die else None)
            try:
                value = ACTIONS[action](avfs.open_vault("v"), fork, **arguments)
                told = Told("done", value if isinstance(value, str | int | dict | set) else None)
            except AvfsError as error:
                told = Told("refused", error.code, str(error))
            except BaseException:  # noqa: BLE001 - it is what is looked for
                told = Told("failed", "", traceback.format_exc())
            faults.arm(None)
            connection.send(told)
    os._exit(0)


class Worker:
    """A process that has the vault open."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._start()

    def _start(self) -> None:
        self._connection, theirs = _fork.Pipe()
        self._process = _fork.Process(target=_work, args=(theirs, self._home))
        self._process.start()
        theirs.close()

    def begin(self, action: str, fork: str, *, die: int = 0, **arguments: object) -> None:
        """Have it do something.

        With `die`, the process is killed at the fault point of that number, if it passes so many.
        """
        self._connection.send((action, fork, arguments, die))

    def told(self) -> Told:
        """Wait for the end of that. A dead process is replaced."""
        if not self._connection.poll(_LIMIT_S):
            return Told("failed", "", "the call hangs")
        try:
            told = self._connection.recv()
            assert isinstance(told, Told)
            return told
        except (EOFError, ConnectionResetError):
            self.stop()
            self._start()
            return Told("dead")

    def stop(self) -> None:
        """End it."""
        self._connection.close()
        self._process.join(_ENDING_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def run_forked(action: Callable[[], object]) -> None:
    """Do something in a process of its own."""
    process = _fork.Process(target=action)
    process.start()
    process.join()
    assert process.exitcode == 0

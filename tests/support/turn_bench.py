"""A vault that three long-lived processes have open, and the model that it is compared with, for `tests.support.turns`.

Decided here: how a call is made (by which process, whether it dies on the way, what runs beside it), that none may fail
with an internal error or a disk error, wait for a dead process, or hang; and how the files of a fork are compared with
the model: a new process reads them.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from avfs_git import Avfs
from tests.support import sweep
from tests.support.capabilities import unmount
from tests.support.faults import check_objects
from tests.support.fork_model import Files, Fork, Last, difference
from tests.support.long_lived import Told, Worker, run_forked
from tests.support.two_actors import processes_below, unsync

IGNORES = (b"*.log\nbuild/\n", b"*.log\n", b"build/\n", b"e/\n*.log\nbuild/\n")
_ENDING_S = 20.0
_BESIDE = ("gc", "maintain", "doctor", "look", "push", "fetch", "git gc -q --prune=now", "git pack-refs --all")
_FAULTS = ("internal", "host.failed", "workspace.busy")


class Wrong(Exception):
    """A promise is broken."""


class Bench:
    """A vault in a directory of its own, three processes that have it open, and the model of its forks."""

    def __init__(self, root: Path, seed: int, counts: Counter[str]) -> None:
        self.root, self.home = root, root / "home"
        self.story: list[str] = []
        self._counts = counts
        self.chance = random.Random(seed)
        self.forks: dict[str, Fork] = {}
        self._workers: list[Worker] = []

    def make(self) -> None:
        """Make the vault, with the forks `main` and `work` and a remote, and start the processes."""
        source = self.root / "source"
        for name in ("d", "build"):
            (source / name).mkdir(parents=True)
        for number in range(12):
            (source / "d" / f"f{number}").write_bytes(b"base %d\n" % number)
        for name, data in {
            "a": b"a\n",
            ".gitignore": IGNORES[0],
            "env.log": b"secret\n",
            "build/o": b"built\n",
        }.items():
            (source / name).write_bytes(data)
        there = self.root / "there.git"
        subprocess.run(["git", "init", "-q", "--bare", "-b", "main", there], check=True)

        def make() -> None:
            unsync()
            with Avfs(self.home) as avfs, avfs.create_vault("v", source=source) as vault:
                vault.fork("work")
                vault.add_remote("origin", str(there))
                vault.push(["main"])
                vault.fetch()

        run_forked(make)
        self.git_dir = self.home / "vaults" / "v.git"
        self._workers = [Worker(self.home) for _ in range(3)]
        for name in ("main", "work"):
            self.forks[name] = Fork(self.view(name), set())

    def end(self) -> list[int]:
        """End the processes and the live trees, also those of a sequence that failed.

        Give those that had to be killed.
        """
        for worker in self._workers:
            worker.stop()
        for point in sweep.mounts_below(self.root):
            unmount(point)
        until = time.monotonic() + _ENDING_S
        while (left := processes_below(self.root)) and time.monotonic() < until:
            time.sleep(0.05)
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return left

    def fresh(self, action: str, fork: str = "main") -> object:
        """Have a new process do something, which must succeed."""
        worker = Worker(self.home)
        try:
            worker.begin(action, fork)
            told = worker.told()
        finally:
            worker.stop()
        if told.status != "done":
            raise Wrong(f"{action} of {fork} by a new process: {told}")
        return told.value

    def view(self, fork: str) -> Files:
        found = self.fresh("view", fork)
        assert isinstance(found, dict)
        return found

    def names(self) -> set[str]:
        found = self.fresh("list")
        assert isinstance(found, set)
        return found

    def expect(self, fork: str, *allowed: Files) -> Files:
        """Look at the files of a fork, which are one of those."""
        found = self.view(fork)
        if found not in allowed:
            nearest = min((difference(one, found) for one in allowed), key=len)
            raise Wrong(f"files of {fork} as (expected, found), by the nearest of {len(allowed)} allowed: {nearest}")
        return found

    def call(self, action: str, fork: str, **arguments: object) -> Told:
        """Have one process do something, perhaps to its death, perhaps with another operation beside it."""
        first, second = self.chance.sample(self._workers, 2)
        die = self.chance.randrange(1, 40) if self.chance.random() < 0.25 and action not in {"mount", "unmount"} else 0
        beside = self.chance.choice(_BESIDE) if self.chance.random() < 0.35 and action != "collect" else ""
        other = self.chance.choice(sorted(self.forks))
        told_beside = Told("done")
        if beside.startswith("git"):
            command = ["git", f"--git-dir={self.git_dir}", *beside.split()[1:]]
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as running:
                first.begin(action, fork, die=die, **arguments)
                told = first.told()
                running.wait()  # git may be refused by a lock
        else:
            if beside:
                second.begin(beside, other)
            first.begin(action, fork, die=die, **arguments)
            told = first.told()
            if beside:
                told_beside = second.told()
        number = self._workers.index(first)
        self.story.append(
            f"{action} {fork} by {number}, dies at {die}, {beside or 'nothing'} of {other} beside, {arguments}: {told}"
        )
        self._counts[f"{action} {told.value if told.status == 'refused' else told.status}"] += 1
        for one in (told, told_beside):
            if one.status == "failed" or one.value in _FAULTS or (one.status == "dead" and not (die and one is told)):
                raise Wrong(f"{beside + ' beside ' if one is told_beside else ''}{action} of {fork}: {one}")
        return told

    def change(self, action: str, fork: str, after: Files, last: Last, **arguments: object) -> Told:
        """Do what makes such files of a fork, or leaves it as it is."""
        state, is_call = self.forks[fork], last == "call"
        told = self.call(action, fork, **arguments)
        if told.status == "refused":
            self.expect(fork, state.files)
            return told
        found = self.expect(fork, after, *([state.files] if told.status == "dead" else []))
        is_sure = told.status == "done" and (is_call or found != state.files)
        state.become(found, last if is_sure else "unsure", is_call=is_call)
        return told

    def check_views(self) -> None:
        if (names := self.names()) != self.forks.keys():
            raise Wrong(f"forks are {names}, not {set(self.forks)}")
        for name, fork in self.forks.items():
            for number, worker in enumerate(self._workers):
                worker.begin("view", name)
                told = worker.told()
                if told.value != fork.files:
                    found = difference(fork.files, told.value) if isinstance(told.value, dict) else told
                    raise Wrong(f"process {number} sees other files in {name}: {found}")
        check_objects(self.git_dir)

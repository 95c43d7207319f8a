"""Work without end on a vault, each step said on standard output once it is acknowledged.

    python -m tests.support.workload HOME SEED [unsynced]

With `unsynced` nothing is forced to disk: what tests of power cuts must notice.

Run as a process of its own by tests that kill it, or take its disk away. The first line of each file is the number
of the write that made it, so that a later version can be told from an earlier one.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path

from avfs_git import Avfs, Vault, Workspace


def say(op: str, fork: str, commit: str | None) -> None:
    """Tell the test what was acknowledged, or that something begins which may change the files of a fork."""
    print(json.dumps({"op": op, "fork": fork, "commit": commit}), flush=True)


def head_of(vault: Vault, fork: str) -> str | None:
    """Read the head of a fork."""
    return vault.fork_info(fork).head


class Work:
    """One step after the other, at random."""

    def __init__(self, vault: Vault, seed: int) -> None:
        self.vault = vault
        self.chance = random.Random(seed)
        self.count = 0
        self.forks = ["main"]
        self.commits: dict[str, list[str]] = {"main": []}
        self.undoable = {"main": 0}

    def step(self) -> None:
        """Do one thing."""
        fork = self.chance.choice(self.forks)
        work = self.vault.workspace(fork)
        kind = self.chance.random()
        say("begin", fork, None)
        if kind < 0.7:
            self._write(work)
            self._checkpoint(work)
        elif kind < 0.8:
            self._fork(fork)
        elif kind < 0.9 and self.commits[fork]:
            self._write(work)
            work.restore(self.chance.choice(self.commits[fork]))
            say("restore", fork, head_of(self.vault, fork))
        elif kind < 0.95:
            work.fold()
            say("fold", fork, head_of(self.vault, fork))
        elif self.undoable[fork]:
            self.undoable[fork] -= 1  # never so far that the fork itself is undone
            work.undo()
            say("undo", fork, head_of(self.vault, fork))
        say("end", fork, None)

    def _write(self, work: Workspace) -> None:
        for _ in range(self.chance.randint(1, 6)):
            self.count += 1
            line = b"%d\n" % self.count
            path = f"d{self.chance.randint(0, 3)}/f{self.chance.randint(0, 9)}"
            if self.chance.random() < 0.2 and work.exists(path):
                work.write(path, line, append=True)
            else:
                work.write(path, line * self.chance.choice((1, 1, 100, 20_000, 400_000)))

    def _checkpoint(self, work: Workspace) -> None:
        made = work.checkpoint().checkpoint
        if made is not None:
            say("checkpoint", work.fork, made.id)
            self.commits[work.fork].append(made.id)
            self.undoable[work.fork] += 1

    def _fork(self, source: str) -> None:
        if head_of(self.vault, source) is None or len(self.forks) > 5:
            return
        name = f"task{len(self.forks)}"
        self.vault.fork(name, source=source)
        say("fork", name, head_of(self.vault, name))
        self.forks.append(name)
        self.commits[name] = list(self.commits[source])
        self.undoable[name] = self.undoable[source] = 0  # the next undo of the source would be of this


def main(home: str, seed: str, unsynced: str = "") -> None:
    """Work until somebody ends it."""
    if unsynced:
        for call in ("fsync", "fdatasync"):
            setattr(os, call, lambda _: None)
    with Avfs(Path(home)) as avfs:
        work = Work(avfs.create_vault("v"), int(seed))
        work._checkpoint(work.vault.workspace())  # an empty first commit, so that there is one to speak of
        work.undoable["main"] = 0  # and which stays
        while True:
            work.step()


if __name__ == "__main__":
    main(*sys.argv[1:4])

"""What processes of their own do to a vault together, for tests of concurrency.

    python -m tests.support.worker JOB HOME NAME COUNT

Each job says with an exit status other than 0, and a traceback, that something went wrong.
"""

from __future__ import annotations

import sys
from pathlib import Path

from avfs_git import Avfs
from avfs_git.errors import ContentChanged


def count_up(home: Path, name: str, count: int) -> None:
    """Increment a number in a file many times, each time only if nobody else has meanwhile, and append a line each."""
    with Avfs(home, lock_timeout_s=300) as avfs:
        work = avfs.open_vault("v").workspace()
        for step in range(count):
            while True:
                oid = work.stat("number", with_oid=True).oid
                value = int(work.read("number"))
                if work.stat("number", with_oid=True).oid != oid:
                    continue
                try:
                    work.write("number", b"%d" % (value + 1), expect=oid)
                except ContentChanged:
                    continue
                break
            work.write("lines", f"{name} {step}\n".encode(), append=True)
            work.write(f"own/{name}", b"%d\n" % step)
            if step % 5 == 0:
                work.checkpoint()


def own_fork(home: Path, name: str, count: int) -> None:
    """Fork, write, checkpoint, restore, and fork again."""
    with Avfs(home, lock_timeout_s=300) as avfs:
        vault = avfs.open_vault("v")
        work = vault.fork(name, source="main")
        for step in range(count):
            work.write("file", f"{name} {step}\n".encode())
            work.write(f"new{step}", b"%d\n" % step)
            work.checkpoint(f"step{step}")
            if step % 3 == 2:
                work.restore(f"step{step - 1}")

                assert work.read("file") == f"{name} {step - 1}\n".encode()
            if step % 4 == 3:
                vault.fork(f"{name}-{step}", source=name)
        work.write("file", f"{name} is done\n".encode())
        work.checkpoint("done")


def merge_into_main(home: Path, name: str, count: int) -> None:
    """Commit on a fork of one's own and merge it into the default one, many times; others do the same."""
    with Avfs(home, lock_timeout_s=300) as avfs:
        vault = avfs.open_vault("v")
        target, work = vault.workspace(), vault.fork(name, source="main")
        for step in range(count):
            work.write(f"own/{name}/{step}", b"%d\n" % step)
            work.write(f"counts/{name}", b"%d\n" % step)
            work.checkpoint()

            assert target.merge(name).outcome in ("clean", "fast_forward")
            if step % 4 == 3:
                assert work.merge("main").outcome in ("clean", "fast_forward", "up_to_date")


def checkpoints(home: Path, name: str, count: int) -> None:
    """Write and checkpoint, and say each commit."""
    with Avfs(home, lock_timeout_s=300) as avfs:
        vault = avfs.open_vault("v")
        work = vault.fork(name, source="main")
        for step in range(count):
            work.write(f"d{step % 7}/f{step % 3}", f"{name} {step}\n".encode() * 200)
            made = work.checkpoint().checkpoint
            assert made is not None
            print(made.id, flush=True)
            if step % 6 == 5:
                work.restore(f"{made.id}~1")


def hold(home: Path, name: str, count: int) -> None:
    """Hold the workspace until standard input ends."""
    with Avfs(home) as avfs, avfs.open_vault("v").workspace(name)._opened.locked():
        print("held", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    jobs = {job.__name__: job for job in (count_up, own_fork, merge_into_main, checkpoints, hold)}
    jobs[sys.argv[1]](Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))

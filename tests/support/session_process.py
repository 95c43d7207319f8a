"""The process of a session with a fault in it: what `avfs_git/session/__main__.py` is without one.

    python -m tests.support.session_process die|fail|wait N|POINT FLAG

Reads on standard input what a session is to be. `die` ends the process at the N-th point, without any clean-up; `fail`
makes the disk be full at it; `wait` stays at the POINT of that name when it is first reached. FLAG is a file that is
made, with the name of the point, when the fault happens; `wait` stays until it is removed.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import sys
import time
from pathlib import Path

from avfs_git import faults
from avfs_git.session.serve.process import run


class Stay:
    """Stay at a point for as long as a file is there, the first time that any process or thread reaches it."""

    def __init__(self, point: str, flag: Path) -> None:
        self.point = point
        self.flag = flag
        self.is_over = False

    def __call__(self, point: str) -> None:
        """Stay, where it is the point."""
        if point != self.point or self.is_over:
            return
        self.is_over = True
        self.flag.write_text(point)
        while self.flag.exists():
            time.sleep(0.01)


class Once:
    """A fault at the n-th point that is reached, in this process or in those that are forked from it."""

    def __init__(self, kind: str, n: int, flag: Path) -> None:
        self.kind = kind
        self.n = n
        self.flag = flag
        self.seen = mmap.mmap(-1, 8)

    def __call__(self, point: str) -> None:
        """Count the point, and be the fault where its turn has come."""
        seen = int.from_bytes(self.seen, "little") + 1
        self.seen[:] = seen.to_bytes(8, "little")
        if seen != self.n:
            return
        self.flag.write_text(point)
        if self.kind == "die":
            os._exit(137)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def main(kind: str, n: str, flag: str) -> None:
    """Be a session until it ends, one way or the other."""
    given = json.load(sys.stdin)
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    faults.arm(Stay(n, Path(flag)) if kind == "wait" else Once(kind, int(n), Path(flag)))
    run(given["request"])


if __name__ == "__main__":
    main(*sys.argv[1:4])

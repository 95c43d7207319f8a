"""A fault handler that stops a process at a named point until told to go on, or kills it; and sessions with one.

Decided here: how a process and its observer talk. A directory holds two FIFOs: the process writes its pid to `at` when
it is at the point, then reads a byte from `go`. A point is `NAME#N`, the N-th time that NAME is passed by any of the
processes that use the directory. A process that is only listened to appends the points that it passes to `points`, as
`tests.support.passing` describes them, with the state of the directory `scene` beside that directory.

    python -m tests.support.stopping DIRECTORY POINT KIND [armed]

is the program of a session with such a handler; with `armed`, it counts from when the file `armed` is in the directory.
"""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import sys
from pathlib import Path
from typing import Literal

from avfs_git import faults
from tests.support.passing import Passed, describe_passing, read_passed

Kind = Literal["stop", "die", "listen"]


class Stop:
    """The handler of one point."""

    def __init__(self, directory: Path, point: str, kind: Kind, *, when_armed: bool = False) -> None:
        self._directory = directory
        self._name, _, turn = point.rpartition("#")
        self._turn = int(turn)
        self._kind = kind
        self._armed = directory / "armed" if when_armed else None
        with (directory / "seen").open("r+b") as file:
            self._seen = mmap.mmap(file.fileno(), 8)

    def __call__(self, name: str) -> None:
        """Pass a point."""
        if self._armed is not None and not self._armed.exists():
            return
        if self._kind == "listen":
            with (self._directory / "points").open("ab", buffering=0) as file:
                file.write(f"{describe_passing(name, self._directory.parent / 'scene')}\n".encode())
            return
        if name != self._name:
            return
        seen = int.from_bytes(self._seen, "little") + 1
        self._seen[:] = seen.to_bytes(8, "little")
        if seen == self._turn:
            self._stop()

    def _stop(self) -> None:
        fd = os.open(self._directory / "at", os.O_WRONLY)
        os.write(fd, b"%d\n" % os.getpid())
        os.close(fd)
        if self._kind == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        fd = os.open(self._directory / "go", os.O_RDONLY)
        os.read(fd, 1)
        os.close(fd)


class Stopped:
    """The other end: waits for a process to be at its point, and lets it go on."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        (directory / "seen").write_bytes(bytes(8))
        os.mkfifo(directory / "at")
        os.mkfifo(directory / "go")
        self._at = os.open(directory / "at", os.O_RDWR | os.O_CLOEXEC)
        self._go = os.open(directory / "go", os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        """Give up both ends."""
        os.close(self._at)
        os.close(self._go)

    def arm(self) -> None:
        """Let processes count that wait for it."""
        (self.directory / "armed").touch()

    def wait(self, process: int, timeout_s: float) -> bool:
        """Wait until a process is at its point; False if the one that a pidfd stands for ends before."""
        poll = select.poll()
        poll.register(self._at, select.POLLIN)
        poll.register(process, select.POLLIN)
        ready = dict(poll.poll(timeout_s * 1000))
        return self._at in ready

    def go_on(self) -> None:
        """Let the process go on, now or as soon as it is there."""
        os.write(self._go, b"\n")

    def passed(self) -> list[Passed]:
        """List the points that were passed."""
        points = self.directory / "points"
        return read_passed(points.read_text("ascii")) if points.exists() else []


def wait_readable(fd: int, timeout_s: float) -> bool:
    """Wait until there is something to read, or a process of which this is a pidfd has ended."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def program(directory: Path, point: str, kind: Kind, *, when_armed: bool = False) -> tuple[str, ...]:
    """Give the command line of a session with such a handler, for `session.serve.start`."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); from tests.support.stopping import "
        "main; main()"
    )
    return (sys.executable, "-c", code, str(directory), point, kind, *(["armed"] if when_armed else []))


def main() -> None:
    """Be a session until it ends, one way or the other."""
    from avfs_git.session.serve.process import run

    given = json.load(sys.stdin)
    directory, point, kind, *more = sys.argv[1:]
    if os.fork():
        os._exit(0)
    os.setsid()
    os.chdir("/")
    faults.arm(Stop(Path(directory), point, kind, when_armed=bool(more)))  # type: ignore[arg-type]  # a kind, by the caller
    run(given["request"])


if __name__ == "__main__":
    main()

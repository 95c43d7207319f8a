"""The longest pause of a program in a live tree, while something large goes on beside it.

Decided here: the program makes a directory each millisecond and says how long the longest of these steps took. The same
program runs in a plain directory of the same disk while a file of that size is copied and forced to disk there: so long
the disk itself keeps a program waiting. Called by `tests.bench.live`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from avfs_git import Avfs
from tests.bench.live_rows import LiveRow
from tests.bench.measure import show_time

_MIB = 1 << 20
_LIMIT_S = 0.02
_PROGRAM = """
import os, sys, time
directory, number, longest = sys.argv[1], 0, 0.0
print("begun", flush=True)
while not os.path.exists(sys.argv[2]):
    began = time.perf_counter()
    os.mkdir(f"{directory}/{number}")
    longest = max(longest, time.perf_counter() - began)
    number += 1
    time.sleep(0.001)
print(longest)
"""


def time_pauses(avfs: Avfs, scratch: Path, size_mib: int, *, backend: str, suffix: str) -> Iterator[LiveRow]:
    """Measure the longest pause beside a checkpoint, a copy-up, and what writes, copies or removes a large file.

    `suffix` stands behind what each row names.
    """
    source = scratch / "source"
    source.mkdir(parents=True)
    write_random(source / "big", size_mib)
    plain = scratch / "plain"
    plain.mkdir()

    def copy() -> None:
        with (source / "big").open("rb") as before, (plain / "big").open("wb") as after:
            while data := before.read(_MIB):
                after.write(data)
            os.fsync(after.fileno())

    theirs = _longest_pause(scratch, plain, copy)
    with (
        avfs.create_vault(f"pauses-{backend}", source=source) as vault,
        vault.fork("work") as work,
        work.mount(scratch / "tree", backend=backend) as session,
    ):

        def change() -> None:
            with (session.path / "big").open("r+b") as file:
                file.write(b"changed")

        beside_copy = _longest_pause(scratch, session.path, change)
        write_random(session.path / "new", size_mib)
        beside_save = _longest_pause(scratch, session.path, work.checkpoint)
        some_mib = size_mib // 4
        (session.path / "old").mkdir()
        write_random(session.path / "old" / "some", some_mib)

        def replace(expect: str | None = None) -> None:
            with (source / "big").open("rb") as file:
                work.write_from("old/some", (file.read(_MIB) for _ in range(some_mib)), expect=expect)

        beside_write = _longest_pause(scratch, session.path, replace)
        oid = work.stat("old/some", with_oid=True).oid or ""
        beside_expect = _longest_pause(scratch, session.path, lambda: replace(oid))
        beside_cp = _longest_pause(scratch, session.path, lambda: work.copy("new", "copied"))
        beside_rm = _longest_pause(scratch, session.path, (session.path / "copied").unlink)
    for what, ours in (
        (f"a checkpoint of {size_mib} MiB", beside_save),
        (f"a copy-up of {size_mib} MiB", beside_copy),
        (f"`avfs write` over {some_mib} MiB", beside_write),
        (f"`avfs write --expect` over {some_mib} MiB", beside_expect),
        (f"`avfs cp` of {size_mib} MiB", beside_cp),
        (f"`rm` of {size_mib} MiB by a program", beside_rm),
    ):
        yield LiveRow(
            f"longest pause of `mkdir` beside {what}{suffix}",
            "≤ 20 ms",
            show_time(ours),
            show_time(theirs),
            met=ours <= _LIMIT_S,
        )


def write_random(path: Path, size_mib: int) -> None:
    """Write what nothing makes smaller, and wait for the disk."""
    with path.open("wb") as file:
        for _ in range(size_mib):
            file.write(os.urandom(_MIB))
        os.fsync(file.fileno())


def _longest_pause(scratch: Path, directory: Path, work: Callable[[], object]) -> float:
    """Let the program run while some work is done; gives seconds."""
    stop = scratch / f"stop-{time.monotonic_ns()}"
    (directory / stop.name).mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, directory / stop.name, stop], stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()
        time.sleep(0.2)
        try:
            work()
        finally:
            time.sleep(0.2)
            stop.touch()
        return float(program.stdout.read())

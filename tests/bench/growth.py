"""The bars of a vault that is used for long: `python -m tests.bench.growth`; part of `make bench` as well.

Decided here: what each row times. An agent's day is 1,000 steps of three rewritten files of 2 KiB in a tree of 1,000,
with 1 MiB of random bytes at each fiftieth step and a checkpoint at each twentieth; maintenance runs beside it as it
does by default. Its store is compared with a copy on which `git gc` ran. A grown vault (`tests.support.grown`) has 500
forks, 10,000 checkpoints, 10,000 labels and 100,000 operations, and was maintained; each light command is timed there
and in a vault with one checkpoint, in turns, each in a vault that was opened for it. The memory of mounted sessions is
what their processes do not share, as /proc/PID/smaps_rollup has it.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from avfs_git import Home, Vault
from tests.bench.measure import Sample, show_ratio, show_time
from tests.bench.report import Row, text_table
from tests.support.grown import Size, grow

FILES = 1_000
STEPS, BLOB_EACH, CHECKPOINT_EACH = 1_000, 50, 20
MOUNTED = 50
_MIB = 1 << 20
_SETTLED_S = 2.5
"""After so long a `packed-refs` is known by its times. One that was written just now is read for each look, 0.3 ms."""


class GrowthBench:
    """One run; `run` gives its rows."""

    def __init__(self, scratch: Path, say: Callable[[str], None], *, quick: bool = False) -> None:
        """Prepare a run in a directory; `quick` takes a shorter day, a smaller vault and fewer rounds."""
        self._scratch, self._say = scratch, say
        scratch.mkdir(parents=True, exist_ok=True)
        self._steps = 200 if quick else STEPS
        self._size = Size(forks=50, checkpoints=1000, labels=1000, operations=10_000) if quick else Size()
        self._rounds = 5 if quick else 15
        self._mounted = 5 if quick else MOUNTED

    def run(self) -> list[Row]:
        """Measure everything."""
        with Home(self._scratch / "home") as home:
            return [*self._day(home), *self._grown(home)]

    # --- an agent's day ----------------------------------------------------------------------------------

    def _day(self, home: Home) -> list[Row]:
        self._say("an agent's day")
        rng = random.Random(1)
        source = self._scratch / "tree"
        for number in range(FILES):
            path = source / _path(number)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(_text(rng))
        vault = home.create_vault("day", source=source)
        work = vault.workspace("main")
        times: list[float] = []
        for step in range(1, self._steps + 1):
            for _ in range(3):
                work.write(_path(rng.randrange(FILES)), _text(rng))
            if not step % BLOB_EACH:
                work.write(f"blob-{step}", rng.randbytes(_MIB))
            if not step % CHECKPOINT_EACH:
                times.append(_time(lambda step=step: work.checkpoint(f"step-{step}")))  # type: ignore[misc]
        while vault.maintain().is_busy:
            time.sleep(0.1)
        copy = self._scratch / "collected.git"
        subprocess.run(["cp", "-a", vault.path, copy], check=True)
        subprocess.run(["git", "-C", copy, "gc", "-q", "--prune=now"], check=True)
        ours, theirs = _bytes_below(vault.path / "objects"), _bytes_below(copy / "objects")
        slowest = statistics.quantiles(times, n=100, method="inclusive")[98]  # no more than the slowest was
        what = f"an agent's day, {self._steps:,} steps"
        took = Sample(tuple(times))
        return [
            Row("day", f"{what}: a checkpoint", "≤ 10 ms", took.text, met=took.median_s <= 0.010),
            Row("day p99", f"{what}: the 99th percentile", "≤ 50 ms", show_time(slowest), met=slowest <= 0.050),
            Row(
                "day store",
                f"{what}: bytes of objects, and after `git gc`",
                "≤ 1.2 × git gc",
                f"{ours / _MIB:.1f} MiB",
                f"{theirs / _MIB:.1f} MiB",
                show_ratio(ours, theirs),
                ours <= 1.2 * theirs,
            ),
        ]

    # --- a grown vault -----------------------------------------------------------------------------------

    def _grown(self, home: Home) -> list[Row]:
        self._say("letting a vault grow")
        grow(home, "grown", self._size).maintain(every_step=True)
        time.sleep(_SETTLED_S)
        source = self._scratch / "new"
        source.mkdir()
        (source / "readme").write_bytes(b"first\n")
        # Its fork stands on a commit, as that of the grown vault does: a command begins with a mount of that.
        first = home.create_vault("new", source=source).workspace("main")
        for number in range(25):  # as much as is listed
            first.write("readme", f"{number}\n".encode())
            first.checkpoint(f"step-{number}")
        turns = itertools.count()
        rows: list[Row] = []
        for name, action in _light_commands(turns).items():
            self._say(f"{name}, in a grown vault")
            taken: dict[str, list[float]] = {"new": [], "grown": []}
            for number in range(-1, self._rounds):
                for vault, times in taken.items():
                    next(turns)
                    with home.open_vault(vault) as opened:
                        took = _time(lambda opened=opened, action=action: action(opened))  # type: ignore[misc]
                    if number >= 0:
                        times.append(took)
            new, grown = (Sample(tuple(times)) for times in taken.values())
            work = f"{name}: a vault of {self._size.operations:,} operations, and a new one"
            ratio = show_ratio(grown.median_s, new.median_s)
            if name == "fork list":
                work = f"fork list of {self._size.forks}, and of one"
                rows.append(Row(name, work, "≤ 100 ms", grown.text, new.text, ratio, grown.median_s <= 0.100))
            else:
                met = grown.median_s <= 2 * new.median_s
                rows.append(Row(f"grown {name}", work, "≤ 2 × a new vault", grown.text, new.text, ratio, met))
        if os.geteuid() == 0 and Path("/dev/fuse").exists():
            rows.append(self._sessions(home))
        return rows

    def _sessions(self, home: Home) -> Row:
        self._say(f"{self._mounted} mounted sessions")
        with home.open_vault("grown") as vault:
            before = _processes()
            sessions = [
                vault.workspace(f"task-{number:04}").mount(self._scratch / "mounts" / str(number))
                for number in range(self._mounted)
            ]
            try:
                for session in sessions:
                    list(session.path.rglob("*"))
                own = sum(_private_kib(pid) for pid in _processes() - before) / 1024
            finally:
                for session in sessions:
                    session.unmount()
        each = own / self._mounted
        return Row(
            "sessions",
            f"{self._mounted} mounted sessions: memory of each",
            "≤ 40 MiB",
            f"{each:.1f} MiB",
            met=each <= 40,
        )


def _light_commands(turns: itertools.count[int]) -> dict[str, Callable[[Vault], object]]:
    """Name the light commands; `turns` makes each call another one."""

    def checkpoint(vault: Vault) -> None:
        work = vault.workspace("main")
        work.write("readme", f"{next(turns)}\n".encode())
        work.checkpoint(f"turn-{next(turns)}")

    return {
        "status": lambda vault: vault.workspace("main").status(),
        "log": lambda vault: vault.log(fork="main", limit=20),
        "op log": lambda vault: vault.operations(limit=20),
        "op log of a fork": lambda vault: vault.operations(fork="main", limit=20),
        "fork list": lambda vault: vault.list_forks(),
        "checkpoint with a label": checkpoint,
        "fork": lambda vault: vault.fork(f"fork-{next(turns)}", source="main"),
        "undo": lambda vault: vault.undo(),
        "diff": lambda vault: vault.workspace("main").diff(),
        "restore": lambda vault: vault.workspace("main").restore("HEAD~1"),
        "blame": lambda vault: vault.workspace("main").blame("readme"),
        "a command": lambda vault: vault.workspace("main").exec("sh", "-c", f"echo {next(turns)} > made"),
    }


def _path(number: int) -> str:
    return f"d{number % 40}/f{number}.py"


def _text(rng: random.Random) -> bytes:
    return "".join(f"line {rng.random()}\n" for _ in range(100)).encode()


def _bytes_below(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _processes() -> set[int]:
    return {int(name) for name in os.listdir("/proc") if name.isdigit()}


def _private_kib(pid: int) -> int:
    """Tell how much memory a process shares with no other; 0 for one that has ended, and for others than sessions."""
    try:
        if b"avfs_git" not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return 0
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def _time(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.growth", description="Measure the bars of a grown vault."
    )
    parser.add_argument("--quick", action="store_true", help="a shorter day, a smaller vault, fewer rounds")
    parser.add_argument("--directory", type=Path, help="where to work; default: the directory for temporary files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="avfs-bench-", dir=options.directory) as name:
        rows = GrowthBench(Path(name), lambda text: print(text, file=sys.stderr), quick=options.quick).run()
    print(text_table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The table of the bars: as text for a terminal, and as docs/design/benchmarks.md.

Decided here: what is said of the machine (nothing that names it), and how a bar that is not met is shown: with the
cause that `CAUSES` knows.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from avfs_git.host.files.closing import closing_fd
from tests.bench.measure import measure, show_time
from tests.bench.native import run

_LOADING = (
    "Starting an interpreter and loading the modules of the command is nearly all of it: two to three times what "
    "importing click takes, which the table has for comparison."
)
_READ = (
    "Each call is checked first, its values and whether the vault is there: some 3 µs, of which a look at the vault's "
    "directory takes half."
)
CAUSES = {
    "import": "Each file of 4 KiB takes 90 µs of processor time on a busy machine: opening, checking, reading, "
    "hashing, and "
    "deflating, which is a fifth of it with ISA-L and two thirds with zlib.",
    "fork": "The branch, the ref that keeps its commit, a line of the log and the directories of both refs are "
    "forced to disk: "
    "five times the cost of an fsync, which the machine's section tells. On tmpfs all of it takes 0.5 ms, the same "
    "in every "
    "tree, for 160 system calls. ext4 without a journal passes over each inode that was freed in the last minutes "
    "when it makes "
    "a file (`recently_deleted`): 0.01 to 0.35 ms for each of the two.",
    "checkpoint 10": "Eleven syncs (pack, index, their directory, the table of commits, three refs and their "
    "directories, the "
    "log); the rest, 5 to 8 ms of processor time, is rebuilding the trees and sidecar trees above ten files.",
    "checkpoint ratio": "The larger tree has one more directory above each path, whose trees are read and written; "
    "on a quiet machine 1.2.",
    "large ratio": "Paths that lie far apart have one more directory of 50 entries above each of them in the larger "
    "tree, whose "
    "trees and sidecar trees are read for the head, the base and the target; in one process they are read once.",
    "day": "A checkpoint of 60 files in 32 directories: 9 to 10 ms of processor time, of which reading the files, "
    "hashing and "
    "deflating take a third, and listing and writing 32 trees and as many of the sidecar another; and thirteen syncs.",
    "day p99": "The first checkpoint of a process loads 16 modules.",
    "grown blame": "The fork in which a line was made is looked for in the newest 10,000 operations, 3 MB, for "
    "each commit.",
    "checkpoint 1000": "Each file is opened, checked, read, hashed and deflated: 45 µs of processor time, of which "
    "deflating is "
    "5 with ISA-L and 12 with zlib; more on ext4. git forces none of its loose objects to disk.",
    "restore": "The 300 files lie in 250 directories. In a profile, making and exchanging the files took 35%, "
    "comparing both "
    "states 30%, confirming the result 14%, recording it 17%: 13 system calls a file in all. Where the file system "
    "discards freed blocks at once, removing each file that was replaced waits for that, too.",
    "write": "A file is made in `work` and shown by a rename, under the lock: eight system calls. On ext4 with a "
    "journal it "
    "took 47 to 53 µs; without a journal, ext4 passes over each inode that was freed in the last minutes when it "
    "makes a file.",
    "overwrite": "A file is made and exchanged with the old one, which is removed: fourteen system calls, of which "
    "making, "
    "exchanging and removing take 26 µs. Where freed blocks are discarded at once, the removal can wait for that.",
    "read": _READ,
    "read lower": _READ,
    "diff": "Mostly reading and comparing the trees and sidecar trees on ten paths.",
    "grep forks": "The unsaved changes of each fork are read, and their trees made in memory: 2 ms of processor time for "
    "10 files in 20 directories. The contents are searched once for all forks.",
    "search": "Opening the index takes 0.15 ms of processor time, and capturing the workspace 0.2.",
    "search update": "The changed contents take 2 to 3 ms of processor time; the rest is syncing SQLite's journal "
    "and file.",
    "help": "Starting Python and importing click is most of it: see the line for comparison.",
    "hook PreToolUse": "33 ms of processor time on an idle machine: 18 for Python and the modules of its library, 3 "
    "for the "
    "process that judges the command, which can be killed, the rest for reading the policy and the command.",
    "checkpoint list": "Starting Python and importing click, then importing the modules of the vault.",
    "mixed": "Writing over files took 28 to 33% of the time, new files 20 to 28%, listing directories 18 to 26%. Each "
    "takes longer than where it is done again and again, because of the 4,000 files and more: reading any of so many "
    "took 7 µs "
    "in one vault and 8 in 100, and 6 of plain files; of 40 files 5, and 4 of plain ones. The processor's caches "
    "lose the rest.",
    "memory": "The id of each new object and its place in the pack are held until the index is written: 350 bytes "
    "a file.",
    "exec make": "10 of the 15 ms above a plain build are the commit.",
    "exec npm": "Each new file is opened, checked, read, hashed, deflated and kept, 45 to 90 µs of processor time, "
    "beside the "
    "program's own writing; other runs were at 0.6.",
    "exec cold": "Nine tenths of it are the start of the session that mounts the base, and three quarters of "
    "that are an "
    "interpreter and what it loads; later commands of a process find that loaded.",
    **dict.fromkeys(
        ("exec program warm", "program status", "program log -n 10", "program fork list", "completion"), _LOADING
    ),
    "hook PostToolUse": _LOADING,
    "merge dry run": "All of it is Python's, and git's is mostly the start of a process: 0.2 where importing click takes "
    "29 ms, 0.4 where it takes 60.",
    "grep": "`git grep` reads plain files in the clone; avfs has it read from packs, where its threads wait for one "
    "lock: see `docs/decisions/grep-without-index.md`.",
    "exec program cold": "The same, and 95 ms of processor time for what the program itself loads.",
    "exec status": "It takes git 23 ms of processor time on overlayfs and 15 on ext4, in the kernel: looking at a "
    "file there "
    "costs 1.4 µs more, for the union and for FUSE below it. The second status sends no request to FUSE.",
    "exec many": "A command that changes a file takes 8 ms of one process's time, beside 25 of its own, and ten "
    "syncs, of which "
    "three come one after the other; with none of them it would be 0.54 to 0.61.",
}
"""Why a bar is missed, by the key of its row, from profiles."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    key: str
    work: str
    bar: str
    measured: str
    native: str = ""
    ratio: str = ""
    met: bool | None = None
    """None where the line has no bar of its own."""
    in_ram: str = ""
    """The same on a journaled file system in memory."""

    @property
    def result(self) -> str:
        """Say whether the bar is met."""
        return "" if self.met is None else "met" if self.met else "MISSED"


HEADINGS = ("Work", "Bar", "avfs", "avfs on ext4 in RAM", "git or plain files", "Ratio", "Result")


def _cells(row: Row) -> tuple[str, ...]:
    return row.work, row.bar, row.measured, row.in_ram, row.native, row.ratio, row.result


def text_table(rows: Sequence[Row]) -> str:
    """Lay the rows out in columns."""
    lines = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEADINGS))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    shown.insert(1, "  ".join("-" * width for width in widths))
    shown += [f"\n{row.work}: {CAUSES[row.key]}" for row in rows if row.met is False and row.key in CAUSES]
    return "\n".join(shown)


def markdown(rows: Sequence[Row], machine: Sequence[str], notes: Sequence[str]) -> str:
    """Write the document."""
    lines = [
        "# Benchmarks",
        "",
        "<!-- Written by `make bench`. -->",
        "",
        *notes,
        "",
        "## The machine",
        "",
        *(f"- {fact}" for fact in machine),
        "",
        "## The bars",
        "",
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "---|" * len(HEADINGS),
    ]
    for row in rows:
        cells = [*_cells(row)[:-1], f"**{row.result}**" if row.met is False else row.result]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    missed = [row for row in rows if row.met is False]
    if missed:
        lines += ["", "## What is missed, and why", ""]
        lines += [
            f"- {row.work}: {row.measured} against {row.bar}. {CAUSES.get(row.key, 'Not looked into yet.')}"
            for row in missed
        ]
    return "\n".join(lines) + "\n"


def describe_machine(scratch: Path) -> list[str]:
    """Say what matters of the machine, and nothing that tells which one it is."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()} {platform.release()}, {platform.machine()}"
    load = os.getloadavg()[0]
    file = scratch / "synced"

    def write_and_sync() -> None:
        with closing_fd(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)) as fd:
            os.write(fd, bytes(4096))
            os.fsync(fd)

    synced = measure(write_and_sync, 20)
    file.unlink()
    return [
        f"{system}, {cores} cores{_processor()}; load at the start {load:.1f}",
        f"Python {platform.python_version()} ({sys.implementation.name}), {run('git', '--version').strip()}",
        f"file system {_file_system(scratch)}; writing 4 KiB with fsync takes {show_time(synced.median_s)}",
    ]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    return next((f" ({line.partition(':')[2].strip()})" for line in lines if line.startswith("model name")), "")


def _file_system(place: Path) -> str:
    """Name the kind of file system that a directory is on, and what of its options makes files slower to remove."""
    try:
        mounts = [line.split() for line in Path("/proc/self/mounts").read_text("utf-8", "replace").splitlines()]
    except OSError:
        return "unknown"
    above = [(len(mount[1]), mount) for mount in mounts if place.resolve().is_relative_to(mount[1])]
    if not above:
        return "unknown"
    device, _, kind, options = max(above)[1][:4]
    facts = [kind]
    if kind == "ext4" and not list(Path("/proc/fs/jbd2").glob(f"{Path(device).name}-*")):
        facts.append("without a journal")
    if "discard" in options.split(","):
        facts.append("discarding freed blocks at once" if len(facts) > 1 else "discarding freed blocks")
    return ", ".join(facts)


class Neighbours:
    """How much of the processors others have used since this was made, the kernel's own threads included."""

    def __init__(self) -> None:
        self._start = _processor_seconds(), _own_seconds(), time.monotonic()

    @property
    def cores(self) -> float | None:
        """So many cores' worth; None where the system does not tell."""
        total, own, begun = self._start
        now = _processor_seconds()
        if now is None or total is None:
            return None
        return max(0.0, now - total - (_own_seconds() - own)) / max(time.monotonic() - begun, 0.001)

    def describe(self) -> list[str]:
        """Say what others did meanwhile, with a warning if it is so much that the figures are not to be trusted."""
        cores = self.cores
        if cores is None:
            return []
        told = (
            f"others used {cores:.2f} cores meanwhile, the kernel's threads included; load at the end "
            f"{os.getloadavg()[0]:.1f}"
        )
        return [f"WARNING: the machine was busy, the figures are too high: {told}" if cores > BUSY_CORES else told]


class Pace:
    """How fast the processors are from part to part: a virtual machine's can differ by a factor of three."""

    def __init__(self) -> None:
        self._taken_s: list[float] = []

    def note(self) -> None:
        """Time what takes a processor the same work each time."""
        self._taken_s.append(measure(lambda: sum(range(2_000_000)), 5).best_s)

    def describe(self) -> str:
        """Say what was noted, with a warning if bars in milliseconds say more of the machine than of the code."""
        fastest, slowest = min(self._taken_s), max(self._taken_s)
        told = f"adding up 2,000,000 numbers in Python took {show_time(fastest)} to {show_time(slowest)}, from part to part"
        return f"WARNING: the processors were not equally fast: {told}" if slowest > _UNEQUAL * fastest else told


_UNEQUAL = 1.25
"""How many times as long the same work may take before bars in milliseconds cannot be compared."""


BUSY_CORES = 0.3
"""What others may use before a run says more of them than of the code."""


def _processor_seconds() -> float | None:
    """Tell how long all processors have worked, hypervisors' other guests included."""
    try:
        words = Path("/proc/stat").read_text("ascii").split("\n", 1)[0].split()
    except OSError:
        return None
    user, nice, system, _, _, irq, softirq, steal = map(int, words[1:9])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    """Tell how long this process and those that it waited for have worked."""
    return sum(os.times()[:4])

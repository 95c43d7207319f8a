"""Measure the bars, print the table, and write docs/design/benchmarks.md: `make bench`.

`--quick` takes the smallest tree only and writes nothing; `--no-large` leaves out the one of 500,000 files; `--parts`
measures some parts and writes nothing.
"""

from __future__ import annotations

import argparse
import compileall
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.bench.bars import LARGE, MIDDLE, Bench
from tests.bench.commands import CommandBench
from tests.bench.growth import GrowthBench
from tests.bench.live import LiveBench
from tests.bench.live_rows import LiveRow, live_markdown, live_table
from tests.bench.merging import MergeBench
from tests.bench.ramdisk import journaled_in_ram
from tests.bench.remotes import RemoteBench
from tests.bench.report import BUSY_CORES, Neighbours, Pace, Row, describe_machine, markdown, text_table
from tests.bench.searching import SearchBench
from tests.bench.trees import SMALL

_PARTS = ["core", "commands", "merging", "searching", "remotes", "growth", "live"]
_CHECKOUT = Path(__file__).resolve().parents[2]
_DOCUMENT = _CHECKOUT / "docs" / "design" / "benchmarks.md"
NOTES = (
    (
        "What `make bench` measured, in one run and side by side: medians, the fastest round in brackets. avfs runs "
        "in process"
    ),
    (
        "through its SDK, except where a whole process is named; git runs as a process with its default settings, "
        "which do not"
    ),
    "force new objects to disk, where avfs forces everything that it acknowledges. Trees have 20 files a directory, of",
    (
        "4 KiB on average in the tree of 5,000 and of 300 bytes in the larger ones. Memory is the largest resident "
        "size of a"
    ),
    (
        "fresh process that does the work once. What waits for the disk is measured again on a journaled ext4 in "
        "RAM, where a"
    ),
    (
        "sync costs next to nothing: the difference is this machine's disk. Bars in milliseconds are of a machine on "
        "which"
    ),
    ("importing click takes 29 ms; the table has what it takes here. `tests/bench` says exactly what each row times."),
)


def say(text: str) -> None:
    """Tell whoever waits what is going on."""
    print(f"… {text}", file=sys.stderr, flush=True)


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="Measure the bars.")
    parser.add_argument("--quick", action="store_true", help="only the tree of 5,000 files; writes no document")
    parser.add_argument(
        "--large", action=argparse.BooleanOptionalAction, default=True, help="with the tree of 500,000 files"
    )
    parser.add_argument("--directory", type=Path, help="where to work; default: the directory for temporary files")
    parser.add_argument("--output", type=Path, default=_DOCUMENT, help="the document to write")
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=_PARTS, help="only these; writes no document")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the trees are large: they go also when it is stopped
    sizes = [SMALL] if options.quick else [SMALL, MIDDLE, *([LARGE] if options.large else [])]
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    compileall.compile_dir(_CHECKOUT / "avfs_git", quiet=1)  # as an installed avfs is
    before = Neighbours()
    time.sleep(1)
    if (before.cores or 0) > BUSY_CORES:
        say(f"WARNING: the machine is busy, others use {before.cores:.1f} cores: the figures will be too high")
    with (
        tempfile.TemporaryDirectory(prefix="avfs-bench-", dir=options.directory, ignore_cleanup_errors=True) as name,
        journaled_in_ram() as ram,
    ):
        machine = describe_machine(Path(name))
        neighbours, pace = Neighbours(), Pace()
        rows: list[Row] = []
        shown: list[LiveRow] = []
        for part in _PARTS:
            if part not in options.parts:
                continue
            pace.note()
            place = Path(name) / part
            place.mkdir()
            if part == "core":
                rows += Bench(place, sizes, say, ram=ram).run()
            elif part == "commands":
                rows += CommandBench(place, say, quick=options.quick).run()
            elif part == "merging":
                rows += MergeBench(place, say, quick=options.quick).run()
            elif part == "searching":
                rows += SearchBench(place, say, quick=options.quick).run()
            elif part == "remotes":
                rows += RemoteBench(place, say, quick=options.quick).run()
            elif part == "growth":
                rows += GrowthBench(place, say, quick=options.quick).run()
            else:
                shown = LiveBench(place, say, quick=options.quick, ram=ram).run()
        pace.note()
        machine += [pace.describe(), *neighbours.describe()]
    print("\n".join(machine), end="\n\n")
    print(text_table(rows), live_table(shown), sep="\n\n")
    if not options.quick and options.parts == _PARTS:
        options.output.write_text(markdown(rows, machine, NOTES) + "\n" + live_markdown(shown), encoding="utf-8")


if __name__ == "__main__":
    main()

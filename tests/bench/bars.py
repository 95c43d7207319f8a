"""The bars: what is measured for each, in which trees, and when it is met.

Decided here: the rows of the table and their limits. Ours and git's are measured one after the other in one run, in
the same trees. What fails becomes a row that says so: a benchmark never fails a build.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from avfs_git import Avfs, Vault
from tests.bench import native, works
from tests.bench.measure import Sample, measure, show_ratio, show_time
from tests.bench.report import Row
from tests.bench.trees import SMALL, make_tree

MIDDLE, LARGE = 50_000, 500_000
MEMORY_LIMIT_MIB = 200
MIXED_OPERATIONS, MIXED_A_SECOND = 10_000, 20_000
_MS, _US = 1e-3, 1e-6
_CHECKOUT = Path(__file__).resolve().parents[2]


class Site(NamedTuple):
    """One tree: as a directory, as a vault, and as a clone with a worktree of git's."""

    files: int
    shown: str
    source: Path
    name: str
    bare: Path
    worktree: Path


class Bench:
    """One run: rows are added as they are measured."""

    def __init__(self, scratch: Path, sizes: list[int], say: Callable[[str], None], *, ram: Path | None = None) -> None:
        """Prepare a run.

        Args:
            scratch: Where to work.
            sizes: The trees, by their number of files.
            say: Told what is being measured.
            ram: A directory on a journaled file system in memory, where what waits for the disk is measured once more.
        """
        self.scratch = scratch
        self.ram = ram
        self.home = scratch / "home"
        self.sizes = sizes
        self.say = say
        self.rows: list[Row] = []
        self.few: dict[int, Sample] = {}
        """Checkpoints of 10 files, by the size of the tree."""
        self.flat: dict[str, dict[int, Sample]] = {}
        """What is to take as long in the large tree as in the middle one: by its name, then by the size of the tree."""

    def run(self) -> list[Row]:
        """Measure everything."""
        with Avfs(self.home) as avfs:
            for files in self.sizes:
                self._measure_size(avfs, files)
        self._try("checkpoints of different trees", self._checkpoint_ratio)
        self._try("the largest tree against a tenth of it", self._large_ratios)
        self._try("mixed operations", self._mixed)
        if self.ram is not None:
            self._note_in_ram("mixed", "", rate_text(works.mixed(self.ram / "mixed-home", MIXED_OPERATIONS, 5)))
        return self.rows

    def _try(self, work: str, measured: Callable[[], Iterator[Row]]) -> None:
        self.say(work)
        os.sync()  # what the work before has left to be written is not part of this one
        try:
            found = list(measured())
            self.rows += found  # not before: what is measured may replace the list
        except Exception as error:  # noqa: BLE001 - whatever it is, the other rows are still of use
            self.say("".join(traceback.format_exception(error)) + (getattr(error, "stderr", None) or ""))
            self.rows.append(Row("failed", work, "", f"failed: {type(error).__name__}", met=False))

    def _measure_size(self, avfs: Avfs, files: int) -> None:
        place = self.scratch
        site = Site(
            files,
            f"{files:,} files",
            place / f"tree{files}",
            f"tree{files}",
            place / f"clone{files}.git",
            place / f"worktree{files}",
        )
        self.say(f"making a tree of {site.shown}")
        make_tree(site.source, files)
        self._try(f"import, {site.shown}", partial(self._import, avfs, site))
        with avfs.open_vault(site.name) as vault:
            native.clone(vault.path, site.bare)
            self._try(f"fork, {site.shown}", partial(self._fork, vault, site))
            self._try(f"checkpoint of 10 changed files, {site.shown}", partial(self._checkpoint_few, vault, site))
            if files == SMALL:
                self._try("checkpoint of 1,000 new files", partial(self._checkpoint_many, vault, site))
                self._try("restore", partial(self._restore, vault, site))
                self._try("writing and reading", partial(self._files, vault, site))
            if files == min(MIDDLE, max(self.sizes)):
                self._try("diff", partial(self._diff, vault, site))
        if self.ram is not None and files <= MIDDLE:
            self._try(f"in memory, {site.shown}", partial(self._measure_in_ram, self.ram / "home", site))
        if files == SMALL:
            self._try("the command line", partial(self._command_line, site))
        if files == max(self.sizes):
            for work in works.WORKS:
                self._try(f"memory: {work}", partial(self._memory, work, site))

    def _measure_in_ram(self, home: Path, site: Site) -> Iterator[Row]:
        """Measure once more what waits for the disk, on one that is memory; no rows of their own come of it."""
        with Avfs(home) as avfs, avfs.create_vault(site.name, source=site.source) as vault:
            self._note_in_ram("fork", site.shown, works.fork(vault, site.files, 50).text)
            self._note_in_ram("checkpoint 10", site.shown, works.checkpoint_few(vault, site.files, 20).text)
            if site.files == SMALL:
                self._note_in_ram("checkpoint 1000", "", works.checkpoint_many(vault, site.files, 5).text)
                self._note_in_ram("restore", "", works.restore(vault, site.files, 10).text)
                self._note_in_ram("write", "", works.write_new(vault, site.files, 3_000).text)
                self._note_in_ram("overwrite", "", works.overwrite(vault, site.files, 3_000).text)
        yield from ()

    def _note_in_ram(self, key: str, shown: str, text: str) -> None:
        """Add a figure to the rows of that key that speak of that tree."""
        self.rows = [
            replace(row, in_ram=text) if row.key == key and row.work.endswith(shown) else row for row in self.rows
        ]

    # --- rows ---------------------------------------------------------------------------------------------

    def _import(self, avfs: Avfs, site: Site) -> Iterator[Row]:
        work = f"first import of a directory, {site.shown}"
        told = self._child("import", site, str(site.source))
        if site.files == SMALL:
            numbers = itertools.count()
            ours = measure(lambda: avfs.create_vault(f"import{next(numbers)}", source=site.source), 5)
            theirs = native.commit_directory(site.source, self.scratch / "git", 5)
            yield compared("import", work, "≤ 0.7 × git", ours, theirs, met=ours.median_s <= 0.7 * theirs.median_s)
        elif site.files < LARGE:
            theirs = native.commit_directory(site.source, self.scratch / "git", 1)
            yield compared("import larger", work, "", Sample((float(told["seconds"]),)), theirs)
        else:
            yield Row("import larger", work, "", show_time(float(told["seconds"])))
        if site.files == max(self.sizes):
            yield memory_row("first import of a directory", site, told)

    def _fork(self, vault: Vault, site: Site) -> Iterator[Row]:
        ours = works.fork(vault, site.files, 50)
        theirs = native.add_worktree(site.bare, site.worktree, 3 if site.files == SMALL else 1)
        yield compared("fork", f"fork, {site.shown}", "≤ 1 ms", ours, theirs, met=ours.median_s <= _MS)

    def _checkpoint_few(self, vault: Vault, site: Site) -> Iterator[Row]:
        ours = self.few[site.files] = works.checkpoint_few(vault, site.files, 20)
        if site.files in (MIDDLE, LARGE):
            self.flat.setdefault("checkpoint of 10 changed files", {})[site.files] = ours
            self.flat.setdefault("status of 10 changed files", {})[site.files] = works.status(vault, site.files, 20)
            self.flat.setdefault("restore of 300 changed files", {})[site.files] = works.restore(vault, site.files, 10)
        theirs = native.commit_few(site.worktree, site.files, 3 if site.files < LARGE else 1)
        bar, met = ("≤ 15 ms", ours.median_s <= 15 * _MS) if site.files == MIDDLE else ("", None)
        yield compared("checkpoint 10", f"checkpoint of 10 changed files, {site.shown}", bar, ours, theirs, met=met)

    def _checkpoint_ratio(self) -> Iterator[Row]:
        small = self.few.get(SMALL)
        for size, bar in ((MIDDLE, "≤ 1.5 ×"), (LARGE, "")):
            other = self.few.get(size)
            if small is not None and other is not None:
                ratio = other.median_s / small.median_s
                work = f"checkpoint of 10 changed files, {size:,} files against {SMALL:,}"
                yield Row("checkpoint ratio", work, bar, f"{ratio:.2f} ×", met=ratio <= 1.5 if bar else None)

    def _large_ratios(self) -> Iterator[Row]:
        for work, samples in self.flat.items():
            if len(samples) == 2:
                ratio = samples[LARGE].median_s / samples[MIDDLE].median_s
                text = f"{work}, {LARGE:,} files against {MIDDLE:,}"
                measured = f"{samples[LARGE].text} and {samples[MIDDLE].text}"
                yield Row("large ratio", text, "≤ 1.5 ×", measured, ratio=f"{ratio:.2f}", met=ratio <= 1.5)

    def _checkpoint_many(self, vault: Vault, site: Site) -> Iterator[Row]:
        ours = works.checkpoint_many(vault, site.files, 5)
        theirs = native.commit_many(site.worktree, 5)
        met = ours.median_s <= 0.3 * theirs.median_s
        yield compared(
            "checkpoint 1000", "checkpoint of 1,000 new files of 1 KiB", "≤ 0.3 × git", ours, theirs, met=met
        )

    def _restore(self, vault: Vault, site: Site) -> Iterator[Row]:
        ours = works.restore(vault, site.files, 10)
        theirs = native.reset(site.worktree, site.files, 5)
        met = ours.median_s <= min(60 * _MS, theirs.median_s)
        yield compared("restore", "restore of 300 changed files", "≤ 60 ms and ≤ 1.0 × git", ours, theirs, met=met)

    def _files(self, vault: Vault, site: Site) -> Iterator[Row]:
        place, rounds = self.scratch, 3_000
        for key, work, limit_us, ours, theirs in (
            (
                "write",
                "write 1 KiB to a new file",
                60,
                works.write_new,
                partial(native.write_new, place / "new", rounds),
            ),
            (
                "overwrite",
                "write 1 KiB over a file",
                60,
                works.overwrite,
                partial(native.overwrite, place / "over", rounds),
            ),
            ("read", "read 1 KiB of the workspace", 12, works.read_upper, partial(native.read, place / "read", rounds)),
            (
                "read lower",
                "read 1 KiB of the base",
                12,
                works.read_lower,
                partial(native.read, place / "below", rounds),
            ),
        ):
            mine = ours(vault, site.files, rounds)
            yield compared(key, work, f"≤ {limit_us} µs", mine, theirs(), met=mine.median_s <= limit_us * _US)

    def _diff(self, vault: Vault, site: Site) -> Iterator[Row]:
        ours = works.diff(vault, site.files, 20)
        theirs = native.diff(site.worktree, site.files, 5)
        work = f"diff of two checkpoints 10 files apart, {site.shown}"
        yield compared("diff", work, "≤ 5 ms", ours, theirs, met=ours.median_s <= 5 * _MS)

    def _mixed(self) -> Iterator[Row]:
        ours = works.mixed(self.scratch / "mixed-home", MIXED_OPERATIONS, 5)
        theirs = native.mixed(self.scratch / "mixed", MIXED_OPERATIONS, 3)
        rate, other = (MIXED_OPERATIONS / seconds for seconds in (ours.median_s, theirs.median_s))
        mix = ", ".join(f"{share}% {kind}" for kind, share in works.MIX.items())
        yield Row(
            "mixed",
            f"mixed operations over {works.VAULTS} vaults, one thread: {mix}",
            f"≥ {MIXED_A_SECOND:,}/s",
            rate_text(ours),
            f"{other:,.0f}/s",
            show_ratio(other, rate),
            rate >= MIXED_A_SECOND,
        )

    def _command_line(self, site: Site) -> Iterator[Row]:
        program = Path(sys.executable).with_name("avfs")
        scrubbed = {name: value for name, value in os.environ.items() if not name.startswith("AVFS_")}
        env = {**scrubbed, "AVFS_HOME": str(self.home), "AVFS_VAULT": site.name}
        with Avfs(self.home) as avfs, avfs.open_vault(site.name) as vault:
            workspace = vault.workspace()
            for number in range(20):
                workspace.write("README.txt", b"%d\n" % number)
                workspace.checkpoint(f"number{number}")
            log = ("git", "-C", str(vault.path), "log", "-n", "20")
        for key, limit_ms, arguments, git in (
            ("help", 100, ("--help",), ("git", "help")),
            ("checkpoint list", 150, ("checkpoint", "list"), log),
        ):
            mine = measure(partial(native.run, program, *arguments, env=env), 15, warm_up=True)
            other = measure(partial(native.run, *git), 15, warm_up=True)
            work = f"`avfs {' '.join(arguments)}`, whole process"
            yield compared(key, work, f"< {limit_ms} ms", mine, other, met=mine.median_s < limit_ms * _MS)
        bare = measure(partial(native.run, sys.executable, "-c", "import click"), 15, warm_up=True)
        yield Row("python", '`python -c "import click"`, whole process', "", bare.text)

    # --- memory -------------------------------------------------------------------------------------------

    def _child(self, work: str, site: Site, what: str) -> dict[str, float]:
        env = {**os.environ, "PYTHONPATH": str(_CHECKOUT)}
        told = native.run(sys.executable, "-m", "tests.bench.child", work, str(self.home), site.name, what, env=env)
        found: dict[str, float] = json.loads(told)
        return found

    def _memory(self, work: str, site: Site) -> Iterator[Row]:
        yield memory_row(work, site, self._child(work, site, str(site.files)))


def rate_text(sample: Sample) -> str:
    """Write the rate of the mixed operations: median and fastest round."""
    return f"{MIXED_OPERATIONS / sample.median_s:,.0f}/s ({MIXED_OPERATIONS / sample.best_s:,.0f}/s)"


def compared(key: str, work: str, bar: str, ours: Sample, theirs: Sample, *, met: bool | None = None) -> Row:
    """Make the row of a work that was done by both."""
    return Row(key, work, bar, ours.text, theirs.text, show_ratio(ours.median_s, theirs.median_s), met)


def memory_row(work: str, site: Site, told: dict[str, float]) -> Row:
    """Make the row of what a process of its own told."""
    peak_mib = told["peak_kib"] / 1024
    bar, met = (f"≤ {MEMORY_LIMIT_MIB} MiB", peak_mib <= MEMORY_LIMIT_MIB) if site.files == LARGE else ("", None)
    return Row("memory", f"memory: {work}, {site.shown}", bar, f"{peak_mib:.0f} MiB", met=met)

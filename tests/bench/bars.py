"""The bars: what is measured for each, in which trees, and when it is met.

Decided here: the rows of the table and their limits. Ours and git's are measured one after the other in one run, in
the same trees. What fails becomes a row that says so: a benchmark never fails a build.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from avfs_git import Avfs, Vault
from tests.bench import native, works
from tests.bench.measure import Sample, measure, show_ratio, show_time
from tests.bench.report import Row
from tests.bench.trees import SMALL, make_tree

MIDDLE, LARGE = 50_000, 500_000
MEMORY_LIMIT_MIB = 200
_MS, _US = 1e-3, 1e-6
MIXED_OPERATIONS = 10_000
_CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass
class Site:
    """One tree: as a directory, as a vault, and as a clone with a worktree of git's."""

    files: int
    source: Path
    name: str
    bare: Path
    worktree: Path

    @property
    def shown(self) -> str:
        """The size, for a table."""
        return f"{self.files:,} files"


class Bench:
    """One run: rows are added as they are measured."""

    def __init__(self, scratch: Path, sizes: list[int], say: Callable[[str], None]) -> None:
        self.scratch = scratch
        self.home = scratch / "home"
        self.sizes = sizes
        self.say = say
        self.rows: list[Row] = []
        self.few: dict[int, Sample] = {}
        """Checkpoints of 10 files, by the size of the tree."""

    def run(self) -> list[Row]:
        """Measure everything."""
        with Avfs(self.home) as avfs:
            for files in self.sizes:
                self._measure_size(avfs, files)
            self._try(
                "checkpoint ratio",
                "checkpoint of 10 changed files, 50,000 files against 5,000",
                "≤ 1.5 ×",
                self._checkpoint_ratio,
            )
            self._try("mixed", "mixed operations over 100 vaults", "≥ 20,000/s", self._mixed)
        return self.rows

    def _try(self, key: str, work: str, bar: str, measured: Callable[[], Iterator[Row]]) -> None:
        self.say(work)
        try:
            self.rows += measured()
        except Exception as error:  # noqa: BLE001 - whatever it is, the other rows are still of use
            self.say("".join(traceback.format_exception(error)) + (getattr(error, "stderr", None) or ""))
            self.rows.append(Row(key, work, bar, f"failed: {type(error).__name__}", met=False))

    def _measure_size(self, avfs: Avfs, files: int) -> None:
        site = Site(
            files,
            self.scratch / f"tree{files}",
            f"tree{files}",
            self.scratch / f"clone{files}.git",
            self.scratch / f"worktree{files}",
        )
        self.say(f"making a tree of {site.shown}")
        make_tree(site.source, files)
        self._try("import", f"import of a directory, {site.shown}", "", lambda: self._import(avfs, site))
        if not (self.home / "vaults" / f"{site.name}.git").is_dir():
            return
        native.clone(self.home / "vaults" / f"{site.name}.git", site.bare)
        with avfs.open_vault(site.name) as vault:
            self._try("fork", f"fork, {site.shown}", "≤ 1 ms", lambda: self._fork(vault, site))
            self._try(
                "checkpoint 10",
                f"checkpoint of 10 changed files, {site.shown}",
                "≤ 15 ms",
                lambda: self._checkpoint_few(vault, site),
            )
            if files == SMALL:
                self._try(
                    "checkpoint 1000",
                    "checkpoint of 1,000 new 1 KiB files",
                    "≤ 0.3 × git",
                    lambda: self._checkpoint_many(vault, site),
                )
                self._try("restore", "restore of 300 changed files", "≤ 60 ms", lambda: self._restore(vault, site))
                self._try("files", "writing and reading 1 KiB", "", lambda: self._files(vault, site))
            if files == min(MIDDLE, max(self.sizes)):
                self._try("diff", "diff of two checkpoints 10 files apart", "≤ 5 ms", lambda: self._diff(vault, site))
        if files == SMALL:
            self._try("cli", "the command line, whole process", "", lambda: self._command_line(site))
        if files == max(self.sizes):
            for work in works.WORKS:
                self._try("memory", f"memory: {work}, {site.shown}", "≤ 200 MiB", lambda work=work: self._memory(work, site))

    # --- rows ---------------------------------------------------------------------------------------------

    def _import(self, avfs: Avfs, site: Site) -> Iterator[Row]:
        work = f"first import of a directory, {site.shown}"
        if site.files == SMALL:
            numbers = iter(range(100))
            ours = measure(lambda: avfs.create_vault(f"import{next(numbers)}", source=site.source), 5)
            theirs = native.commit_directory(site.source, self.scratch, 5)
            met = ours.median_s <= 0.7 * theirs.median_s
            yield Row("import", work, "≤ 0.7 × git", ours.text, theirs.text, show_ratio(ours.median_s, theirs.median_s), met)
        told = self._child("import", site, str(site.source))
        if site.files != SMALL:
            seconds = float(told["seconds"])
            once = native.commit_directory(site.source, self.scratch / f"git{site.files}", 1) if site.files < LARGE else None
            yield Row(
                "import large",
                work,
                "",
                show_time(seconds),
                once.text if once else "",
                show_ratio(seconds, once.median_s) if once else "",
            )
        if site.files == max(self.sizes):
            yield self._memory_row("first import", site, told)

    def _fork(self, vault: Vault, site: Site) -> Iterator[Row]:
        ours = works.fork(vault, site.files, 50)
        theirs = native.add_worktree(site.bare, site.worktree, 3 if site.files == SMALL else 1)
        yield Row(
            "fork",
            f"fork, {site.shown}",
            "≤ 1 ms",
            ours.text,
            theirs.text,
            show_ratio(ours.median_s, theirs.median_s),
            ours.median_s <= _MS,
        )

    def _checkpoint_few(self, vault: Vault, site: Site) -> Iterator[Row]:
        ours = self.few[site.files] = works.checkpoint_few(vault, site.files, 20)
        theirs = native.commit_few(site.worktree, site.files, 5 if site.files < LARGE else 1)
        judged = site.files == MIDDLE
        yield Row(
            "checkpoint 10",
            f"checkpoint of 10 changed files, {site.shown}",
            "≤ 15 ms" if judged else "",
            ours.text,
            theirs.text,
            show_ratio(ours.median_s, theirs.median_s),
            ours.median_s <= 15 * _MS if judged else None,
        )

    def _checkpoint_ratio(self) -> Iterator[Row]:
        small = self.few.get(SMALL)
        for size, bar in ((MIDDLE, "≤ 1.5 ×"), (LARGE, "")):
            other = self.few.get(size)
            if small and other:
                ratio = other.median_s / small.median_s
                work = f"checkpoint of 10 changed files, {size:,} files against {SMALL:,}"
                yield Row("checkpoint ratio", work, bar, f"{ratio:.2f} ×", met=ratio <= 1.5 if bar else None)

    def _checkpoint_many(self, vault: Vault, site: Site) -> Iterator[Row]:
        ours = works.checkpoint_many(vault, site.files, 7)
        theirs = native.commit_many(site.worktree, 5)
        met = ours.median_s <= 0.3 * theirs.median_s
        ratio = show_ratio(ours.median_s, theirs.median_s)
        yield Row("checkpoint 1000", "checkpoint of 1,000 new 1 KiB files", "≤ 0.3 × git", ours.text, theirs.text, ratio, met)

    def _restore(self, vault: Vault, site: Site) -> Iterator[Row]:
        ours = works.restore(vault, site.files, 10)
        theirs = native.reset(site.worktree, site.files, 5)
        ratio = show_ratio(ours.median_s, theirs.median_s)
        yield Row("restore", "restore of 300 changed files", "≤ 60 ms", ours.text, theirs.text, ratio, ours.median_s <= 60 * _MS)

    def _files(self, vault: Vault, site: Site) -> Iterator[Row]:
        plain = self.scratch
        for key, work, limit_us, ours, theirs in (
            ("write", "write 1 KiB, new file", 60, works.write_new, lambda: native.write_new(plain / "w1", 2000)),
            ("overwrite", "write 1 KiB, over a file", 60, works.overwrite, lambda: native.overwrite(plain / "w2", 2000)),
            ("read", "read 1 KiB, of the workspace", 12, works.read_upper, lambda: native.read(plain / "r1", 5000)),
            ("read lower", "read 1 KiB, of the checkpoint below", 12, works.read_lower, lambda: native.read(plain / "r2", 5000)),
        ):
            mine, other = ours(vault, site.files, 5000), theirs()
            met = mine.median_s <= limit_us * _US
            yield Row(key, work, f"≤ {limit_us} µs", mine.text, other.text, show_ratio(mine.median_s, other.median_s), met)

    def _diff(self, vault: Vault, site: Site) -> Iterator[Row]:
        ours = works.diff(vault, site.files, 20)
        theirs = native.diff(site.worktree, site.files, 5)
        work = f"diff of two checkpoints 10 files apart, {site.shown}"
        yield Row(
            "diff", work, "≤ 5 ms", ours.text, theirs.text, show_ratio(ours.median_s, theirs.median_s), ours.median_s <= 5 * _MS
        )

    def _mixed(self) -> Iterator[Row]:
        ours = works.with_home(self.scratch / "mixed-home", lambda avfs: works.mixed(avfs, MIXED_OPERATIONS, 5))
        theirs = native.mixed(self.scratch / "mixed", MIXED_OPERATIONS, 3)
        rate, best, other = (MIXED_OPERATIONS / seconds for seconds in (ours.median_s, ours.best_s, theirs.median_s))
        mix = ", ".join(f"{share}% {kind}" for kind, share in works.MIX.items())
        work = f"mixed operations over {works.VAULTS} vaults, one thread ({mix})"
        yield Row(
            "mixed",
            work,
            "≥ 20,000/s",
            f"{rate:,.0f}/s ({best:,.0f}/s)",
            f"{other:,.0f}/s",
            show_ratio(other, rate),
            rate >= 20_000,
        )

    def _command_line(self, site: Site) -> Iterator[Row]:
        program = Path(sys.executable).with_name("avfs")
        env = {**os.environ, "AVFS_HOME": str(self.home), "AVFS_VAULT": site.name}
        with Avfs(self.home) as avfs, avfs.open_vault(site.name).workspace() as workspace:
            for number in range(20):
                workspace.write("README.txt", b"%d\n" % number)
                workspace.checkpoint(f"number{number}")
        for key, limit_ms, ours, theirs in (
            ("help", 100, ("--help",), ("git", "help")),
            (
                "checkpoint list",
                150,
                ("checkpoint", "list"),
                ("git", "-C", str(self.home / "vaults" / f"{site.name}.git"), "log", "-n", "20"),
            ),
        ):
            mine = measure(lambda ours=ours: native.run(program, *ours, env=env), 15, warm_up=True)
            other = measure(lambda theirs=theirs: native.run(*theirs), 15, warm_up=True)
            work = f"`avfs {' '.join(ours)}`, whole process"
            ratio = show_ratio(mine.median_s, other.median_s)
            yield Row(key, work, f"< {limit_ms} ms", mine.text, other.text, ratio, mine.median_s < limit_ms * _MS)
        bare = measure(lambda: native.run(sys.executable, "-c", "import click"), 15, warm_up=True)
        yield Row("python", "Python with click, for comparison, whole process", "", bare.text)

    # --- memory -------------------------------------------------------------------------------------------

    def _child(self, work: str, site: Site, what: str) -> dict[str, float]:
        env = {**os.environ, "PYTHONPATH": str(_CHECKOUT)}
        told = native.run(sys.executable, "-m", "tests.bench.child", work, str(self.home), site.name, what, env=env)
        found: dict[str, float] = json.loads(told)
        return found

    def _memory(self, work: str, site: Site) -> Iterator[Row]:
        yield self._memory_row(work, site, self._child(work, site, str(site.files)))

    @staticmethod
    def _memory_row(work: str, site: Site, told: dict[str, float]) -> Row:
        peak_mib = told["peak_kib"] / 1024
        judged = site.files == LARGE
        bar = f"≤ {MEMORY_LIMIT_MIB} MiB" if judged else ""
        return Row(
            "memory",
            f"memory: {work}, {site.shown}",
            bar,
            f"{peak_mib:.0f} MiB",
            met=peak_mib <= MEMORY_LIMIT_MIB if judged else None,
        )

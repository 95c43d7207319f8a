"""The bars of merging: `python -m tests.bench.merging`; part of `make bench` as well.

Decided here: what each row times. A merge is that of two forks that have changed 10 files each, far apart, into one of
them, durable and with the target's files on disk when it returns. Beside `git merge-tree --write-tree`, a process that
makes the same merge in memory and writes its objects unsynced, stands what decides and makes the same tree here: a dry
run.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from avfs_git import Avfs, Vault, Workspace
from tests.bench.measure import Sample, measure, show_ratio, show_time
from tests.bench.report import Row, text_table
from tests.bench.trees import SMALL, contents, make_tree, path_of

MIDDLE = 50_000
FEW, FORKS, AGENTS, MERGES = 10, 20, 16, 20
_CHECKOUT = Path(__file__).resolve().parents[2]


def _change(work: Workspace, files: int, turn: int, offset: int) -> None:
    """Change 10 files far apart, other ones on each side."""
    paths = [path_of((number * files // FEW + turn * 7 + offset) % files, files) for number in range(FEW)]
    for path, data in zip(paths, contents(FEW, 1024, f"{work.fork} {turn}"), strict=True):
        work.write(path, data)
    work.checkpoint()


class _Pairs:
    """Pairs of forks that are to be merged, new ones each turn."""

    def __init__(self, vault: Vault, files: int) -> None:
        self._vault, self._files = vault, files
        self._turns = itertools.count()
        self.target = self.source = vault.workspace()
        self.prepare()

    def prepare(self) -> None:
        """Make the next pair."""
        turn = next(self._turns)
        sides = [self._vault.fork(f"merge/{name}-{self._files}-{turn}", source="main") for name in ("ours", "theirs")]
        self.target, self.source = sides
        for offset, side in enumerate(sides):
            _change(side, self._files, turn, offset * 3)

    def merge(self) -> None:
        """Merge the pair at hand."""
        if self.target.merge(self.source.fork).outcome != "clean":
            raise RuntimeError("the merge is not clean")

    def plan(self) -> None:
        """Merge it in memory."""
        self.target.merge(self.source.fork, dry_run=True)

    def merge_by_git(self) -> None:
        """Have git merge it in memory."""
        argv = [
            "git",
            f"--git-dir={self._vault.path}",
            "merge-tree",
            "--write-tree",
            self.target.fork,
            self.source.fork,
        ]
        subprocess.run(argv, check=True, capture_output=True)


def _agents(home: Path) -> float:
    """Let processes commit and merge into one target at once; give the seconds it took, their start included."""
    with Avfs(home) as avfs:
        work = avfs.create_vault("v").workspace()
        for number in range(100):
            work.write(f"file{number}", b"%d\n" % number)
        work.checkpoint()
    began = time.perf_counter()
    argv = [sys.executable, "-m", "tests.support.worker", "merge_into_main", str(home)]
    with ExitStack() as stack:
        told = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(AGENTS)]  # a pipe could fill up
        agents = [
            subprocess.Popen([*argv, f"agent{number}", str(MERGES)], cwd=_CHECKOUT, stderr=file)
            for number, file in enumerate(told)
        ]
        statuses = [agent.wait() for agent in agents]  # all of them, also when one fails
        took = time.perf_counter() - began
        for number, (status, file) in enumerate(zip(statuses, told, strict=True)):
            if status:
                file.seek(0)
                raise RuntimeError(f"agent{number} ended with {status} after {took:.1f} s, and said:\n{file.read()}")
    return took


class MergeBench:
    """One run; `run` gives its rows."""

    def __init__(self, scratch: Path, say: Callable[[str], None], *, quick: bool = False) -> None:
        """Prepare a run in a directory; `quick` takes the small tree only."""
        self._scratch, self._say = scratch, say
        scratch.mkdir(parents=True, exist_ok=True)
        self._sizes = [SMALL] if quick else [SMALL, MIDDLE]

    def run(self) -> list[Row]:
        """Measure everything."""
        rows: list[Row] = []
        merges: dict[int, Sample] = {}
        with Avfs(self._scratch / "home") as avfs:
            for files in self._sizes:
                rows += self._measure_size(avfs, files, merges)
        if MIDDLE in merges:
            small, middle = merges[SMALL].median_s, merges[MIDDLE].median_s
            ratio = show_ratio(middle, small)
            rows.append(
                Row("merge ratio", "merge, 50,000 files against 5,000", "≤ 1.5 ×", ratio, met=middle <= 1.5 * small)
            )
        self._say("agents that merge into one target")
        took = _agents(self._scratch / "agents")
        rate = AGENTS * MERGES / took
        work = f"{AGENTS} agents × {MERGES} merges into one target"
        rows.append(Row("merges", work, "≥ 20/s", f"{rate:.0f}/s ({show_time(took)})", met=rate >= 20))
        return rows

    def _measure_size(self, avfs: Avfs, files: int, merges: dict[int, Sample]) -> Iterator[Row]:
        shown = f"{files:,} files"
        self._say(f"merging in a tree of {shown}")
        source = self._scratch / f"tree{files}"
        make_tree(source, files)
        with avfs.create_vault(f"tree{files}", source=source) as vault:
            pairs = _Pairs(vault, files)
            merges[files] = ours = measure(pairs.merge, 15, before=pairs.prepare, warm_up=True)
            met = ours.median_s <= 25e-3 if files == MIDDLE else None
            bar = "≤ 25 ms" if files == MIDDLE else ""
            yield Row("merge", f"merge of two forks, 10 changed files each, {shown}", bar, ours.text, met=met)
            pairs.prepare()
            planned, theirs = measure(pairs.plan, 15, warm_up=True), measure(pairs.merge_by_git, 15, warm_up=True)
            ratio = planned.median_s / theirs.median_s
            yield Row(
                "merge dry run",
                f"the same in memory, {shown}",
                "≤ 0.3 ×" if files == MIDDLE else "",
                planned.text,
                theirs.text,
                show_ratio(planned.median_s, theirs.median_s),
                ratio <= 0.3 if files == MIDDLE else None,
            )
            forks = [vault.fork(f"many/{number}", source="main") for number in range(FORKS)]
            for number, fork in enumerate(forks):
                _change(fork, files, number // 2, number % 2)
            names = [fork.fork for fork in forks]
            found = measure(lambda: vault.overlap(names), 15, warm_up=True)
            limit = 50e-3
            yield Row(
                "overlap", f"overlap of {FORKS} forks, {shown}", "≤ 50 ms", found.text, met=found.median_s <= limit
            )


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.merging", description="Measure the bars of merging.")
    parser.add_argument("--quick", action="store_true", help="only the tree of 5,000 files")
    parser.add_argument("--directory", type=Path, help="where to work; default: the directory for temporary files")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="avfs-bench-", dir=options.directory, ignore_cleanup_errors=True) as name:
        rows = MergeBench(Path(name), lambda text: print(text, file=sys.stderr, flush=True), quick=options.quick).run()
    print(text_table(rows))


if __name__ == "__main__":
    main()

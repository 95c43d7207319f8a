"""How long it takes until programs can use a tree: a mount from the SDK, `avfs mount`, and `avfs fork . DIR`.

Decided here: what counts as ready, which is that a listing of the mount's root has come back; and what is told apart.
The first mount of a process pays for what later ones find there, so that each process here mounts several times, and
says how long each took. The program is timed whole, from its start to its end. A fork of a clone is made once into a
vault that has to be made too, and again where that vault is there.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.bench import native
from tests.bench.live_rows import LiveRow
from tests.bench.measure import Sample, measure, show_ratio
from tests.bench.trees import SMALL, make_tree

_CHECKOUT = Path(__file__).resolve().parents[2]
_LATER = 4
_FORKED = ((SMALL, 0.5), (50_000, 1.5))
"""How many files a clone has that is forked, and how many seconds that may take."""
_SEVERAL_MOUNTS = """
import json, os, sys, time
from pathlib import Path
from avfs_git import Avfs
home, vault, point, stem, backend, count = sys.argv[1:]
times = []
with Avfs(Path(home)) as avfs, avfs.open_vault(vault if os.sep not in vault else Path(vault)) as opened:
    for number in range(int(count)):
        with opened.fork(f"{stem}-{number}") as workspace:
            start = time.perf_counter()
            session = workspace.mount(Path(point) / workspace.fork, backend=backend)
            os.listdir(session.path)
            times.append(time.perf_counter() - start)
            session.unmount()
        if not number:
            time.sleep(1.5)  # what is started for the later ones has loaded all that it will
print(json.dumps(times))
"""


class Site(NamedTuple):
    """A vault that is mounted."""

    home: Path
    vault: str
    files: int
    scratch: Path
    """Where to mount it."""

    @property
    def environment(self) -> dict[str, str]:
        """The environment of what mounts it."""
        return {**os.environ, "PYTHONPATH": str(_CHECKOUT), "AVFS_HOME": str(self.home)}


def time_mounts(site: Site, backend: str, suffix: str, rounds: int) -> Iterator[LiveRow]:
    """Time mounts in processes that mount several times."""
    first, later = [], []
    for turn in range(rounds):
        own = (site.home, site.vault, site.scratch, f"{backend}{site.files}-{turn}", backend, str(_LATER + 1))
        times: list[float] = json.loads(native.run(sys.executable, "-c", _SEVERAL_MOUNTS, *own, env=site.environment))
        first.append(times[0])
        later += times[1:]
    for which, sample in (("the first of a process", Sample(tuple(first))), ("later ones", Sample(tuple(later)))):
        name = f"mount ready, SDK, {which}, {site.files:,} files{suffix}"
        yield LiveRow(name, "≤ 80 ms", sample.text, met=sample.median_s <= 0.08)


def time_program(site: Site, rounds: int) -> Iterator[LiveRow]:
    """Time `avfs mount`, whole process."""
    avfs = partial(native.run, sys.executable, "-m", "avfs_git", "--vault", site.vault, env=site.environment)
    point = site.scratch / f"program{site.files}"
    forks: list[str] = []

    def prepare() -> None:
        if forks:
            avfs("unmount", point)
        forks.append(f"program{site.files}-{len(forks)}")
        avfs("fork", "create", forks[-1])

    taken = measure(lambda: avfs("mount", forks[-1], point), rounds, before=prepare, warm_up=True)
    avfs("unmount", point)
    yield LiveRow(
        f"`avfs mount`, whole process, {site.files:,} files", "≤ 250 ms", taken.text, met=taken.median_s <= 0.25
    )


def _make_clone(clone: Path, source: Path, files: int) -> None:
    """Make a clone as git does: its objects are in a pack, while those of newly added files are files of their own."""
    make_tree(source, files)
    native.git(source, "init", "-q")
    native.git(source, "add", "-A")
    native.git(source, "commit", "-q", "-m", "first")
    native.run("git", "clone", "-q", "--no-local", source, clone)
    shutil.rmtree(source)
    time.sleep(1)  # git believes nothing that is as young as its index
    native.git(clone, "status")


def time_forks(scratch: Path, rounds: int, *, quick: bool) -> Iterator[LiveRow]:
    """Time `avfs fork CLONE DIR`, whole process, tree ready, beside the `git status` that looks at the same files."""
    for files, limit_s in _FORKED[: 1 if quick else None]:
        clone, home = scratch / f"clone{files}", scratch / f"home{files}"
        _make_clone(clone, scratch / f"source{files}", files)
        env = {**os.environ, "PYTHONPATH": str(_CHECKOUT), "AVFS_HOME": str(home)}
        avfs = (sys.executable, "-m", "avfs_git")
        times: tuple[list[float], list[float]] = [], []
        looks: list[float] = []
        for turn in range(rounds):
            looks += measure(partial(native.git, clone, "status"), 1).times_s
            points = [scratch / f"fork{files}-{turn}-{number}" for number in range(2)]
            for point, taken in zip(points, times, strict=True):
                start = time.perf_counter()
                native.run(*avfs, "fork", clone, point, env=env)
                taken.append(time.perf_counter() - start)
            for point in points:
                native.run(*avfs, "end", point, env=env)
            shutil.rmtree(home)  # the vault is made anew in the next round
        theirs = Sample(tuple(looks))
        for which, sample in zip(("the first", "another"), map(Sample, map(tuple, times)), strict=True):
            name = (
                f"`avfs fork . DIR`, {which} of a clone of {files:,} files, whole process; native: `git status` there"
            )
            ratio = show_ratio(sample.median_s, theirs.median_s)
            yield LiveRow(name, f"≤ {limit_s} s", sample.text, theirs.text, ratio, met=sample.median_s <= limit_s)
        shutil.rmtree(clone)

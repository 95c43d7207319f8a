"""The bars of remotes: `python -m tests.bench.remotes`; part of `make bench` as well.

Decided here: what each row times. A push is that of one new checkpoint with one changed file to a bare repository on
the same disk, by avfs and by `git push`, in turns, each with a commit of its own. The lazy clone goes through a link
that delays each direction by half of a round trip; what the bar counts is turns of the conversation and connections,
which the link sees, beside the bytes.
"""

from __future__ import annotations

import argparse
import itertools
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from avfs_git import Avfs, Vault
from tests.bench.measure import Sample, show_ratio, show_time
from tests.bench.report import Row, text_table
from tests.bench.trees import make_tree, path_of
from tests.support.servers import link, make_bare, serve

FILES, LAZY_FILES = 5_000, 20_000
ROUND_TRIP_S = 0.05
_MIB = 1 << 20


class RemoteBench:
    """One run; `run` gives its rows."""

    def __init__(self, scratch: Path, say: Callable[[str], None], *, quick: bool = False) -> None:
        """Prepare a run in a directory; `quick` takes fewer rounds and a smaller tree."""
        self._scratch, self._say = scratch, say
        scratch.mkdir(parents=True, exist_ok=True)
        self._rounds = 5 if quick else 21
        self._lazy_files = 1_000 if quick else LAZY_FILES

    def run(self) -> list[Row]:
        """Measure everything."""
        with Avfs(self._scratch / "home") as avfs:
            return [*self._push(avfs), *self._lazy(avfs)]

    def _push(self, avfs: Avfs) -> list[Row]:
        self._say("pushing one checkpoint")
        source = self._scratch / "tree"
        make_tree(source, FILES)
        bare = make_bare(self._scratch / "push.git")
        with avfs.create_vault("push", source=source) as vault:
            vault.add_remote("server", str(bare))
            vault.push(["main"], "server")
            turns = itertools.count()
            ours, theirs = [], []
            for number in range(-1, self._rounds):
                _commit(vault, next(turns))
                took = _time(lambda: vault.push(["main"], "server"))
                _commit(vault, next(turns))
                by_git = _time(lambda: _git_push(vault))
                if number >= 0:
                    ours.append(took)
                    theirs.append(by_git)
        mine, git = Sample(tuple(ours)), Sample(tuple(theirs))
        met = mine.median_s <= 1.3 * git.median_s
        work = f"push of one checkpoint to a local bare repository, {FILES:,} files"
        return [Row("push", work, "≤ 1.3 × git", mine.text, git.text, show_ratio(mine.median_s, git.median_s), met)]

    def _lazy(self, avfs: Avfs) -> list[Row]:
        self._say("a lazy clone over a slow link")
        source = self._scratch / "lazy"
        make_tree(source, self._lazy_files)
        served = self._scratch / "served"
        served.mkdir()
        bare = make_bare(served / "lazy.git")
        with avfs.create_vault("origin", source=source) as vault:
            vault.add_remote("server", str(bare))
            vault.push(["main"], "server")
        with serve("daemon", served) as server, link(int(server.base.rpartition(":")[2]), ROUND_TRIP_S / 2) as slow:
            start = time.perf_counter()
            avfs.clone_vault(f"git://127.0.0.1:{slow.port}/lazy.git", "lazily", lazy=True)
            lazily = avfs.open_vault("lazily")
            mounted = os.geteuid() == 0 and Path("/dev/fuse").exists()
            name = path_of(0, self._lazy_files)
            if mounted:
                with lazily.workspace().mount(self._scratch / "mounted") as session:
                    (session.path / name).read_bytes()
                    took = time.perf_counter() - start
            else:
                lazily.workspace().read(name)
                took = time.perf_counter() - start
        trips = slow.turns + slow.connections
        measured = (
            f"{trips} ({slow.turns} and {slow.connections} connections), {slow.received / _MIB:.1f} MiB, "
            f"{show_time(took)}"
        )
        how = "mount and `cat`" if mounted else "read"
        work = f"lazy clone, {how} of one file, {self._lazy_files:,} files, a link of {ROUND_TRIP_S * 1e3:.0f} ms"
        met = trips <= 6 and slow.received <= 12 * _MIB
        return [Row("lazy clone", work, "≤ 6 round trips, ≤ 12 MiB", measured, met=met)]


def _commit(vault: Vault, turn: int) -> None:
    work = vault.workspace("main")
    work.write(path_of(turn * 37 % FILES, FILES), f"turn {turn}\n".encode())
    work.checkpoint()


def _git_push(vault: Vault) -> None:
    subprocess.run(["git", f"--git-dir={vault.path}", "push", "-q", "server", "main"], check=True, capture_output=True)


def _time(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.remotes", description="Measure the bars of remotes.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, a smaller tree")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="avfs-bench-") as name:
        rows = RemoteBench(Path(name), lambda text: print(text, file=sys.stderr), quick=options.quick).run()
    print(text_table(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())

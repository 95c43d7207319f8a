"""The bars of the live tree (issue 3), each beside the same work in a plain directory of the same disk.

Decided here: the rows, their limits, and how both sides are measured: in turn, in one run, medians. `python -m
tests.bench.live` prints the table; `make bench` puts it into its document. A row tells the processor time of the session's
processes too; how many requests the kernel makes of it is counted apart, by a server that tells, because the counts do
not depend on the machine.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from avfs_git import Avfs, Session, Vault
from tests.bench import live_works as works
from tests.bench import native
from tests.bench.measure import Sample, measure, show_ratio, show_time
from tests.bench.trees import SMALL, contents, make_tree, path_of
from tests.support.capabilities import mount, unmount
from tests.support.live_tree import ADA, FORK, LiveTree, mounted

LARGE, MEMORY_MIB = 500_000, 400
_MIB = 1 << 20
_POLICY = """
version = 1
[[rule]]
name = "all"
action = "allow"
"""


@dataclass(frozen=True)
class LiveRow:
    """One line of the table."""

    work: str
    bar: str
    live: str
    native: str = ""
    ratio: str = ""
    requests: str = ""
    """What the kernel asked for once, of each kind."""
    cpu: str = ""
    """Processor time of the session's processes."""
    met: bool | None = None

    @property
    def cells(self) -> tuple[str, ...]:
        """What stands in the columns."""
        result = "" if self.met is None else "met" if self.met else "MISSED"
        return self.work, self.bar, self.live, self.native, self.ratio, self.requests, self.cpu, result


HEADINGS = ("Work", "Bar", "live tree", "native", "Ratio", "Requests", "Server", "Result")


class LiveBench:
    """One run."""

    def __init__(self, scratch: Path, say: Callable[[str], None], *, quick: bool = False) -> None:
        self.scratch = scratch
        self.say = say
        self.quick = quick
        self.rounds = 3 if quick else 5
        self.rows: list[LiveRow] = []
        self.source = scratch / "source"
        self.plain = scratch / "plain"
        self.archive = scratch / "tree.tar"
        self.clone = scratch / "clone"
        self.counted: dict[str, dict[str, int]] = {}
        self._numbers = itertools.count()

    def run(self) -> list[LiveRow]:
        """Measure everything."""
        self.scratch.mkdir(parents=True, exist_ok=True)
        make_tree(self.source, SMALL)
        native.run("tar", "cf", self.archive, "-C", self.source, ".")
        policy = self.scratch / "policy.toml"
        policy.write_text(_POLICY)
        with (
            Avfs(self.scratch / "home", identity=ADA, policy=policy) as avfs,
            avfs.create_vault("live", source=self.source) as vault,
        ):
            native.run("git", "clone", "-q", "--no-hardlinks", vault.path, self.clone)
            self._try("mount", lambda: self._mount(vault))
            self._try("first looks", lambda: self._first(vault))
            shutil.copytree(self.source, self.plain)
            self._try("requests", lambda: self._count(vault))
            self._try("one session", lambda: self._session(vault))
            self._try("checkpoint", lambda: self._checkpoint(vault))
            self._try("attempts", lambda: self._attempts(avfs))
            if not self.quick:
                self._try("memory", lambda: self._memory(avfs))
        return self.rows

    def _try(self, part: str, measured: Callable[[], Iterator[LiveRow]]) -> None:
        self.say(part)
        began = time.perf_counter()
        try:
            for row in measured():
                self.rows.append(row)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other rows are still of use
            self.say("".join(traceback.format_exception(error)))
            self.rows.append(LiveRow(part, "", f"failed: {type(error).__name__}", met=False))
        self.say(f"  {time.perf_counter() - began:.1f} s")

    @contextmanager
    def _mounted(self, vault: Vault) -> Iterator[Session]:
        """Mount a fork of the vault's default one."""
        workspace = vault.fork(f"session{next(self._numbers)}")
        with workspace, workspace.mount(self.scratch / workspace.fork) as session:
            yield session

    # --- rows ----------------------------------------------------------------------------------------------

    def _mount(self, vault: Vault) -> Iterator[LiveRow]:
        times = []
        for _ in range(self.rounds):
            with vault.fork(f"session{next(self._numbers)}") as workspace:
                start = time.perf_counter()
                session = workspace.mount(self.scratch / workspace.fork)
                os.listdir(session.path)
                times.append(time.perf_counter() - start)
                session.unmount()
        taken = Sample(tuple(times))
        yield LiveRow("mount ready, SDK", "≤ 80 ms", taken.text, met=taken.median_s <= 0.08)

    def _first(self, vault: Vault) -> Iterator[LiveRow]:
        theirs = native.add_worktree(vault.path, self.scratch / "worktree", 3)
        for name, work, limit in (("find", works.find, 0.3), ("grep -r", works.grep, 1.3)):
            times, used = [], []
            for turn in range(3):
                with self._mounted(vault) as session:
                    before = _processor_s(session)
                    times.append(_timed(work, session.path, turn))
                    used.append(_processor_s(session) - before)
            ours = Sample(tuple(times))
            ratio = ours.median_s / theirs.median_s
            yield LiveRow(
                f"first `{name}` against `git worktree add`",
                f"≤ {limit} ×",
                ours.text,
                theirs.text,
                show_ratio(ours.median_s, theirs.median_s),
                cpu=show_time(min(used)),
                met=ratio <= limit,
            )

    def _works(self) -> Iterator[tuple[str, float, int, works.Work]]:
        """Name each work that both sides do, with the largest ratio, its rounds and itself."""
        rounds = self.rounds
        for name, warm in (("find -size", works.find), ("grep -r", works.grep), ("stat of all", works.stat_all)):
            yield f"warm {name}", 1.25, rounds + 1, warm
        yield "git status", 1.25, rounds + 1, works.status(self.clone / ".git")
        yield "open, read, close of all", 1.3, rounds + 1, works.read_all
        yield "1,000 new files of 1 KiB", 2, rounds, works.make_new
        yield "1,000 overwritten", 2, rounds, works.overwrite
        yield "tar x", 2, 2 if self.quick else 3, works.unpack(self.archive)
        yield "git clone", 2, 1 if self.quick else 3, works.clone(self.clone)
        yield "1,000 unlinked", 2, rounds, works.unlink

    def _count(self, vault: Vault) -> Iterator[LiveRow]:
        """Do each work once in a tree whose server counts."""
        vault.fork(FORK).close()
        point = self.scratch / "counted"
        point.mkdir()
        with mounted(vault.path, self.scratch / "home", point) as tree:
            for name, limit, _, work in self._works():
                for _ in range(2 if limit < 2 else 0):  # what is warm is counted warm
                    work(point, 0)
                self.counted[name] = _counted(tree, work)
        yield from ()

    def _session(self, vault: Vault) -> Iterator[LiveRow]:
        with self._mounted(vault) as session:
            for name, limit, rounds, work in self._works():
                yield self._compared(session, name, limit, rounds, work, warm_up=limit < 2)
            size = (128 if self.quick else 1024) * _MIB
            for name, big, share in (
                ("write by 1 MiB", works.write_big(size, _MIB), size),
                ("read by 1 MiB", works.read_big, size),
                ("write by 4 KiB", works.write_big(size // 4, 4096), size // 4),
            ):
                yield self._throughput(session, f"{share // _MIB} MiB: {name}", share, big)
            yield self._writers(session)

    def _compared(self, session: Session, name: str, limit: float, rounds: int, work: works.Work, *, warm_up: bool) -> LiveRow:
        theirs, ours, used = [], [], []
        for turn in range(rounds):
            theirs.append(_timed(work, self.plain, turn))
            before = _processor_s(session)
            ours.append(_timed(work, session.path, turn))
            used.append(_processor_s(session) - before)
        first = 1 if warm_up else 0
        live, plain = Sample(tuple(ours[first:])), Sample(tuple(theirs[first:]))
        counts = self.counted.get(name, {})
        total = sum(counts.values())
        cpu = statistics.median(used[first:])
        return LiveRow(
            name,
            f"≤ {limit:g} ×",
            live.text,
            plain.text,
            show_ratio(live.median_s, plain.median_s),
            _show_counts(counts),
            f"{show_time(cpu)}, {show_time(cpu / total)} each" if total > 100 else show_time(cpu),
            met=live.median_s <= limit * plain.median_s,
        )

    def _throughput(self, session: Session, name: str, size: int, work: works.Work) -> LiveRow:
        row = self._compared(session, name, 1 / 0.8, 2 if self.quick else 3, work, warm_up=False)
        return LiveRow(name, "≥ 0.8 × throughput", row.live, row.native, row.ratio, "", row.cpu, met=row.met)

    def _writers(self, session: Session) -> LiveRow:
        rates: dict[int, list[float]] = {1: [], 4: []}
        for turn, processes in itertools.product(range(self.rounds), rates):
            rates[processes].append(works.NEW_FILES / works.writers(processes, works.NEW_FILES)(session.path, turn))
        one, four = statistics.median(rates[1]), statistics.median(rates[4])
        text = f"{four:,.0f} files/s against {one:,.0f}/s"
        return LiveRow("4 writers against 1", "≥ 1 ×", text, ratio=f"{four / one:.2f}", met=four >= one)

    def _checkpoint(self, vault: Vault) -> Iterator[LiveRow]:
        files = 5_000 if self.quick else 30_000
        with self._mounted(vault) as session, vault.workspace(session.fork) as workspace:
            base = session.path / "many"
            for number in range(files):
                if number % 100 == 0:
                    (base / str(number // 100)).mkdir(parents=True)
                fd = os.open(f"{base}/{number // 100}/{number}", os.O_WRONLY | os.O_CREAT, 0o644)
                os.write(fd, b"%d\n" % number)
                os.close(fd)
            workspace.checkpoint()
            turns = itertools.count()

            def change() -> None:
                turn = next(turns)
                for number, data in enumerate(contents(10, works.KIB, f"live {turn}")):
                    place = number * files // 10
                    (base / str(place // 100) / str(place)).write_bytes(data)

            taken = measure(workspace.checkpoint, 10, before=change, warm_up=True)
            name = f"checkpoint of 10 changes, mounted, {files:,} clean files in the upper layer"
            yield LiveRow(name, "≤ 20 ms", taken.text, met=taken.median_s <= 0.02)

    def _attempts(self, avfs: Avfs) -> Iterator[LiveRow]:
        files = 2_000 if self.quick else works.ATTEMPT_FILES
        big = works.ATTEMPT_BIG // (8 if self.quick else 1)
        source = self.scratch / "attempt"
        make_tree(source, files)
        with open(source / "big", "wb") as file:
            file.writelines(os.urandom(_MIB // 2) + bytes(_MIB // 2) for _ in range(big // _MIB))
        name = f"{works.ATTEMPTS} attempts side by side, {files:,} files and one of {big // _MIB} MiB"
        with avfs.create_vault("attempts", source=source) as vault:
            ours = self._live_attempts(vault, files)
            commands = self._command_attempts(vault, files)
        for what, taken, run in (
            (name, ours, lambda points: works.side_by_side(points, files)),
            (f"{name}, as commands of prepared sessions", commands, lambda points: _programs(points, files)),
        ):
            try:
                theirs = self._overlayfs(source, run)
            except AssertionError:
                yield LiveRow(what, "≤ 1.5 × overlayfs", show_time(taken), "no overlayfs here")
                continue
            yield LiveRow(
                what,
                "≤ 1.5 × overlayfs",
                show_time(taken),
                show_time(theirs),
                show_ratio(taken, theirs),
                met=taken <= 1.5 * theirs,
            )

    def _live_attempts(self, vault: Vault, files: int) -> float:
        start = time.perf_counter()
        with ExitStack() as stack:
            spaces = [stack.enter_context(vault.fork(f"attempt{number}")) for number in range(works.ATTEMPTS)]
            live = [stack.enter_context(space.mount(self.scratch / f"attempt{n}")) for n, space in enumerate(spaces)]
            works.side_by_side([session.path for session in live], files)
            for space in spaces:
                _check_changed(len(space.status().changed_files))
            return time.perf_counter() - start

    def _command_attempts(self, vault: Vault, files: int) -> float:
        """Do the same by commands that agents run, each in its fork, all over one mount of the base."""
        start = time.perf_counter()
        with ExitStack() as stack:
            spaces = [stack.enter_context(vault.fork(f"agent{number}")) for number in range(works.ATTEMPTS)]
            prepared = [stack.enter_context(space.prepare()) for space in spaces]

            def run(turn: int) -> None:
                done = prepared[turn].exec(*works.attempt_program(turn, files))
                assert done.exit_code == 0, done.stderr
                _check_changed(len(done.changed_files))

            works.all_at_once(run)
            return time.perf_counter() - start

    def _overlayfs(self, source: Path, run: Callable[[list[Path]], None]) -> float:
        start = time.perf_counter()
        with ExitStack() as stack:
            points = []
            for _ in range(works.ATTEMPTS):
                place = self.scratch / f"overlay{next(self._numbers)}"
                for part in ("upper", "work", "merged"):
                    (place / part).mkdir(parents=True)
                point = place / "merged"
                options = f"lowerdir={source},upperdir={place}/upper,workdir={place}/work"
                assert mount("overlay", point, "overlay", options)
                stack.callback(unmount, point)
                points.append(point)
            run(points)
            for point in points:
                native.run("find", point.with_name("upper"))
            return time.perf_counter() - start

    def _memory(self, avfs: Avfs) -> Iterator[LiveRow]:
        bare = self.scratch / "large.git"
        native.run("git", "init", "-q", "--bare", bare)
        importing = subprocess.Popen(["git", "-C", bare, "fast-import", "--quiet"], stdin=subprocess.PIPE)
        assert importing.stdin is not None
        with importing.stdin as stream:
            head = native.run("git", "-C", bare, "symbolic-ref", "HEAD").strip()
            stream.write(f"commit {head}\ncommitter A <a@example.org> 1700000000 +0000\ndata 0\n".encode())
            for number in range(LARGE):
                data = b"%d\n" % number
                stream.write(b"M 100644 inline %s\ndata %d\n%s\n" % (path_of(number, LARGE).encode(), len(data), data))
        assert not importing.wait()
        with avfs.open_vault(bare) as vault, self._mounted(vault) as session:
            idle = _memory_mib(session)
            seconds = _timed(works.find, session.path, 0)
            after = _memory_mib(session)
            yield LiveRow(
                f"memory of the server at {LARGE:,} files, after `find`",
                f"≤ {MEMORY_MIB} MiB",
                f"{after:.0f} MiB, {idle:.0f} before; {seconds:.1f} s",
                met=after <= MEMORY_MIB,
            )


def _programs(points: list[Path], files: int) -> None:
    def run(turn: int) -> None:
        subprocess.run(works.attempt_program(turn, files), check=True, cwd=points[turn], stdin=subprocess.DEVNULL)

    works.all_at_once(run)


def _check_changed(count: int) -> None:
    assert count == works.REWRITTEN + works.ADDED + works.DELETED, count


def _timed(work: works.Work, directory: Path, turn: int) -> float:
    start = time.perf_counter()
    work(directory, turn)
    return time.perf_counter() - start


def _counted(tree: LiveTree, work: works.Work) -> dict[str, int]:
    before = tree.counts()
    work(tree.path, 0)
    return {name: count - before.get(name, 0) for name, count in tree.counts().items() if count > before.get(name, 0)}


def _show_counts(counts: dict[str, int]) -> str:
    """Write the counts that matter, the largest first."""
    shown = sorted(((count, name) for name, count in counts.items() if count >= 100), reverse=True)
    return ", ".join(f"{count:,} {name}" for count, name in shown) or str(sum(counts.values()))


def _processes(session: Session) -> list[int]:
    """List the process that keeps a session and those that it started."""
    found, waiting = [], [session.info().pid]
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for task in Path(f"/proc/{pid}/task").iterdir():
            waiting += map(int, (task / "children").read_text().split())
    return found


def _processor_s(session: Session) -> float:
    """Tell the processor time that a session's processes have had."""
    total = 0
    for pid in _processes(session):
        total += sum(int((task / "schedstat").read_text().split()[0]) for task in Path(f"/proc/{pid}/task").iterdir())
    return total / 1e9


def _memory_mib(session: Session) -> float:
    """Tell the resident size of the largest process of a session: its server."""
    sizes = []
    for pid in _processes(session):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        sizes += [int(line.split()[1]) for line in lines if line.startswith("VmRSS:")]
    return max(sizes) / 1024


def table(rows: list[LiveRow]) -> str:
    """Lay the rows out in columns."""
    lines = [HEADINGS, *(row.cells for row in rows)]
    widths = [max(len(line[at]) for line in lines) for at in range(len(HEADINGS))]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    shown.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(shown)


def markdown(rows: list[LiveRow]) -> str:
    """Write a section of the document."""
    lines = ["## The live tree", "", "| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    lines += ["| " + " | ".join(row.cells) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.live", description="Measure the bars of the live tree.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller files, no tree of 500,000")
    parser.add_argument("--directory", type=Path, help="where to work; default: the directory for temporary files")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # mounts and trees go also when it is stopped
    with tempfile.TemporaryDirectory(prefix="avfs-bench-", dir=options.directory, ignore_cleanup_errors=True) as name:
        rows = LiveBench(Path(name), lambda text: print(text, file=sys.stderr, flush=True), quick=options.quick).run()
    print(table(rows))


if __name__ == "__main__":
    main()

"""The bars of the live tree (issue 3), each beside the same work in a plain directory of the same disk.

Decided here: the rows, their limits, and how both sides are measured: in turn, in one run, medians. `python -m
tests.bench.live` prints the table; `make bench` puts it into its document. A row tells the processor time of the
session's processes too; how many requests the kernel makes of it is counted apart, by a server that tells, because the
counts do not depend on the machine.
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
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple

from avfs_git import Avfs, Session, Vault, Workspace
from tests.bench import live_ready, native
from tests.bench import live_works as works
from tests.bench.live_rows import LiveRow, live_table
from tests.bench.measure import Sample, measure, show_ratio, show_time
from tests.bench.pauses import time_pauses
from tests.bench.ramdisk import journaled_in_ram
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


class _Way(NamedTuple):
    """A way to mount what is measured."""

    backend: str
    suffix: str
    """What stands behind the name of each row."""

    @property
    def is_served(self) -> bool:
        """Whether the kernel asks the session's own processes."""
        return self.backend == "fuse"


_STRAYS, _CHANGED, _DELETED = "over 1,000 new files and 20 changed", "of 300 changed files", "of everything deleted"
"""What a restore takes back."""
_BY_FUSE = _Way("fuse", ", `--backend fuse`")
_WAYS = (_Way("auto", ""), _BY_FUSE)
"""Root's default is overlayfs, which `make bench` needs root for."""


class _Sides(NamedTuple):
    """Where a work is done."""

    session: Session
    plain: Path
    way: _Way


class LiveBench:
    """One run."""

    def __init__(
        self, scratch: Path, say: Callable[[str], None], *, quick: bool = False, ram: Path | None = None
    ) -> None:
        self.scratch = scratch
        self.ram = ram
        self.say = say
        self.quick = quick
        self.rounds = 3 if quick else 5
        self.rows: list[LiveRow] = []
        self.source = scratch / "source"
        self.archive = scratch / "tree.tar"
        self.clone = scratch / "clone"
        self.counted: dict[str, dict[str, int]] = {}
        self.worktree: Sample | None = None
        """What `git worktree add` takes."""
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
            (self.scratch / "ready").mkdir()
            self._ready("live", SMALL)
            self._try(
                "forks of a clone", lambda: live_ready.time_forks(self.scratch / "ready", self.rounds, quick=self.quick)
            )
            self._try("requests", lambda: self._count(vault))
            for way in _WAYS:
                self._try(f"first looks{way.suffix}", partial(self._first, vault, way))
                self._try(f"one session{way.suffix}", partial(self._session, vault, way))
                self._try(f"checkpoint{way.suffix}", partial(self._checkpoint, vault, way))
                self._try(f"plain overlayfs{way.suffix}", partial(self._beside_overlayfs, vault, self.scratch, way))
            self._try("restore and status", partial(self._beside_git, vault, self.scratch))
            if self.ram is not None:
                self._try("in memory", partial(self._in_ram, self.ram, policy))
            size = 128 if self.quick else 1024
            for way in _WAYS:
                place = self.scratch / f"pauses-{way.backend}"
                paused = partial(time_pauses, avfs, place, size, backend=way.backend, suffix=way.suffix)
                self._try(f"pauses{way.suffix}", paused)
            self._attempts(avfs)
            if not self.quick:
                self._large(avfs)
        return self.rows

    def _try(self, part: str, measured: Callable[[], Iterator[LiveRow]]) -> None:
        self.say(part)
        began = time.perf_counter()
        try:
            for row in measured():
                self.rows.append(row)
        except Exception as error:  # noqa: BLE001 - whatever it is, the other rows are still of use
            said = error.stderr if isinstance(error, subprocess.CalledProcessError) else ""
            self.say("".join(traceback.format_exception(error)) + str(said or ""))
            self.rows.append(LiveRow(part, "", f"failed: {type(error).__name__}", met=False))
        self.say(f"  {time.perf_counter() - began:.1f} s")

    @contextmanager
    def _mounted(self, vault: Vault, way: _Way) -> Iterator[Session]:
        """Mount a fork of the vault's default one."""
        workspace = vault.fork(f"session{next(self._numbers)}")
        with workspace, workspace.mount(self.scratch / workspace.fork, backend=way.backend) as session:
            yield session

    # --- rows ----------------------------------------------------------------------------------------------

    def _first(self, vault: Vault, way: _Way) -> Iterator[LiveRow]:
        if self.worktree is None:
            self.worktree = native.add_worktree(vault.path, self.scratch / "worktree", 3)
        theirs = self.worktree
        for name, work, limit in (("find", works.find, 0.3), ("grep -r", works.grep, 1.3)):
            times, again, used = [], [], []
            for turn in range(3):
                with self._mounted(vault, way) as session:
                    before = _processor_s(session)
                    times.append(_timed(work, session.path, turn))
                    used.append(_processor_s(session) - before)
                    again.append(_timed(work, session.path, turn))
            ours = Sample(tuple(times))
            ratio = ours.median_s / theirs.median_s
            yield LiveRow(
                f"first `{name}` against `git worktree add`{way.suffix}",
                f"≤ {limit} ×",
                ours.text,
                theirs.text,
                show_ratio(ours.median_s, theirs.median_s),
                cpu=show_time(min(used)) if way.is_served else "",
                met=ratio <= limit,
            )
        second, plain = (
            Sample(tuple(again)),
            measure(partial(works.grep, self.scratch / "worktree", 0), 3, warm_up=True),
        )
        ratio = second.median_s / plain.median_s
        shown = show_ratio(second.median_s, plain.median_s)
        yield LiveRow(f"second `grep -r`{way.suffix}", "≤ 1.25 ×", second.text, plain.text, shown, met=ratio <= 1.25)

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

    def _session(self, vault: Vault, way: _Way) -> Iterator[LiveRow]:
        plain = self.scratch / f"plain-{way.backend}"
        shutil.copytree(self.source, plain)
        with self._mounted(vault, way) as session:
            sides = _Sides(session, plain, way)
            for name, limit, rounds, work in self._works():
                yield self._compared(sides, name, limit, rounds, work, warm_up=limit < 2)
            size = (128 if self.quick else 1024) * _MIB
            for name, big, share in (
                ("write by 1 MiB", works.write_big(size, _MIB), size),
                ("read by 1 MiB", works.read_big, size),
                ("write by 4 KiB", works.write_big(size // 4, 4096), size // 4),
            ):
                yield self._throughput(sides, f"{share // _MIB} MiB: {name}", big)
            yield self._writers(sides)
        works.remove_big(plain)  # of what a session wrote, too, nothing stays but small files

    def _compared(
        self,
        sides: _Sides,
        name: str,
        limit: float,
        rounds: int,
        work: works.Work,
        *,
        warm_up: bool,
        before: works.Work | None = None,
    ) -> LiveRow:
        theirs, ours, used = [], [], []
        session, way = sides.session, sides.way
        for turn in range(rounds):
            if before is not None:
                before(sides.plain, turn)
                before(session.path, turn)
            theirs.append(_timed(work, sides.plain, turn))
            used_before = _processor_s(session)
            ours.append(_timed(work, session.path, turn))
            used.append(_processor_s(session) - used_before)
        first = 1 if warm_up else 0
        live, plain = Sample(tuple(ours[first:])), Sample(tuple(theirs[first:]))
        counts = self.counted.get(name, {}) if way.is_served else {}
        total = sum(counts.values())
        cpu = statistics.median(used[first:])
        each = f"{show_time(cpu)}, {show_time(cpu / total)} each" if total > 100 else show_time(cpu)
        return LiveRow(
            name + way.suffix,
            f"≤ {limit:g} ×",
            live.text,
            plain.text,
            show_ratio(live.median_s, plain.median_s),
            _show_counts(counts) if way.is_served else "",
            each if way.is_served else "",
            met=live.median_s <= limit * plain.median_s,
        )

    def _throughput(self, sides: _Sides, name: str, work: works.Work) -> LiveRow:
        row = self._compared(sides, name, 1 / 0.8, 2 if self.quick else 3, work, warm_up=False)
        return LiveRow(row.work, "≥ 0.8 × throughput", row.live, row.native, row.ratio, "", row.cpu, met=row.met)

    def _writers(self, sides: _Sides) -> LiveRow:
        rates: dict[int, list[float]] = {1: [], 4: []}
        for turn, processes in itertools.product(range(self.rounds), rates):
            rates[processes].append(
                works.NEW_FILES / works.writers(processes, works.NEW_FILES)(sides.session.path, turn)
            )
        one, four = statistics.median(rates[1]), statistics.median(rates[4])
        text = f"{four:,.0f} files/s against {one:,.0f}/s"
        return LiveRow(
            f"4 writers against 1{sides.way.suffix}", "≥ 1 ×", text, ratio=f"{four / one:.2f}", met=four >= one
        )

    def _beside_overlayfs(self, vault: Vault, scratch: Path, way: _Way) -> Iterator[LiveRow]:
        """Do what people notice in a clone under plain overlayfs, and let git commit in a plain clone as well."""
        rounds, size = self.rounds, (128 if self.quick else 256) * _MIB
        plain = scratch / f"committed-{way.backend}"
        shutil.copytree(self.clone, plain, symlinks=True)
        with ExitStack() as stack:
            point = self._overlaid(stack, self.clone, scratch)
            session = stack.enter_context(self._mounted(vault, way))
            over = _Sides(session, point, way)
            looks: tuple[tuple[str, works.Work], ...] = (
                ("warm grep -r", works.grep),
                ("100 overwritten", works.change_some),
            )
            for name, work in looks:
                yield self._compared(over, f"{name}, beside plain overlayfs", 1.25, rounds + 1, work, warm_up=True)
            for shown, sides in (("overlayfs", over), ("files", _Sides(session, plain, way))):
                name = f"`git add -A && git commit` of 100 changes, beside plain {shown}"
                change = works.change_some
                yield self._compared(sides, name, 1.2, rounds + 1, works.commit, warm_up=True, before=change)
            for name, make in (  # after the commits: the plain files have none of them
                ("1,000 new files of 1 KiB", works.make_new),
                ("1,000 new files of 1 KiB in 250 directories of the base", works.make_beside),
            ):
                yield self._compared(over, f"{name}, beside plain overlayfs", 1.25, rounds, make, warm_up=False)
            name = f"{size // _MIB} MiB: write by 1 MiB, beside plain overlayfs"
            yield self._compared(over, name, 1.25, rounds, works.write_big(size, _MIB), warm_up=False)
            for side in (point, session.path):
                works.remove_big(side)

    def _beside_git(self, vault: Vault, scratch: Path, where: str = "") -> Iterator[LiveRow]:
        """Restore and look through the SDK, mounted or not, beside git in a plain clone."""
        plain = scratch / "reset"
        shutil.copytree(self.clone, plain, symlinks=True)
        look = partial(native.git, plain, "status", "--porcelain")
        theirs: dict[str, Callable[[], object]] = {
            _STRAYS: partial(works.write_strays, plain, 20, 1_000),
            _CHANGED: partial(works.write_strays, plain, 300, 0),
            _DELETED: partial(works.delete_all, plain),
        }
        reset = {
            change: measure(partial(works.reset, plain), self.rounds, before=before, warm_up=True)
            for change, before in theirs.items()
        }
        looks = {}
        for count in (10, 1_000):
            works.write_strays(plain, count, 0)
            looks[count] = measure(look, self.rounds, warm_up=True)
        for way in (None, *_WAYS):
            shown = where if way is None else f", mounted{way.suffix}{where}"
            with ExitStack() as stack:
                if way is None:
                    fork = vault.fork(f"space{next(self._numbers)}").fork
                else:
                    fork = stack.enter_context(self._mounted(vault, way)).fork
                space = stack.enter_context(vault.workspace(fork))
                yield from self._restore_and_look(space, shown, reset, looks)

    def _restore_and_look(
        self, space: Workspace, shown: str, reset: dict[str, Sample], looks: dict[int, Sample]
    ) -> Iterator[LiveRow]:
        space.write("saved", b"now\n")
        saved = space.checkpoint().checkpoint
        assert saved is not None

        def write(changed: int, added: int) -> None:
            for name, data in works.strays(changed, added).items():
                space.write(name, data)

        def delete() -> None:
            for info in space.list_dir():
                space.remove(info.path, recursive=True)

        def restore(change: str, before: Callable[[], object]) -> LiveRow:
            taken = measure(partial(space.restore, saved.id), self.rounds, before=before, warm_up=True)
            name = f"restore {change}{shown}; native: `git reset --hard && git clean -fd`"
            return _of_sdk(name, 1.0, taken, reset[change])

        yield restore(_STRAYS, partial(write, 20, 1_000))
        yield restore(_CHANGED, partial(write, 300, 0))
        for count, beside in looks.items():
            write(count, 0)
            taken = measure(space.status, self.rounds, warm_up=True)
            yield _of_sdk(f"status of {count:,} changes{shown}; native: git", 1.2, taken, beside)
        yield restore(_DELETED, delete)  # last: from then on the workspace holds each file itself

    def _in_ram(self, ram: Path, policy: Path) -> Iterator[LiveRow]:
        """Do on a disk that costs nothing what asks the server most, and what makes many files."""
        plain = ram / "live-plain"
        plain.mkdir()
        with (
            Avfs(ram / "live-home", identity=ADA, policy=policy) as avfs,
            avfs.create_vault("ram", source=self.source) as vault,
            self._mounted(vault, _BY_FUSE) as session,
        ):
            sides = _Sides(session, plain, _Way("fuse", f"{_BY_FUSE.suffix}, on ext4 in RAM"))
            for name, limit, work in (
                ("1,000 new files of 1 KiB", 5, works.make_new),
                ("1,000 overwritten", 3.5, works.overwrite),
                ("64 MiB: write by 4 KiB", 5, works.write_big(64 * _MIB, 4096)),
                ("tar x", 6, works.unpack(self.archive)),
            ):
                yield self._compared(sides, name, limit, self.rounds, work, warm_up=False)
            for way in _WAYS:
                yield from self._beside_overlayfs(vault, ram, _Way(way.backend, f"{way.suffix}, on ext4 in RAM"))
            yield from self._beside_git(vault, ram, ", on ext4 in RAM")

    def _checkpoint(self, vault: Vault, way: _Way) -> Iterator[LiveRow]:
        files = 5_000 if self.quick else 30_000
        with self._mounted(vault, way) as session, vault.workspace(session.fork) as workspace:
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
            name = f"checkpoint of 10 changes, mounted, {files:,} clean files in the upper layer{way.suffix}"
            yield LiveRow(name, "≤ 20 ms", taken.text, met=taken.median_s <= 0.02)

    def _attempts(self, avfs: Avfs) -> None:
        files = 2_000 if self.quick else works.ATTEMPT_FILES
        big = works.ATTEMPT_BIG // (8 if self.quick else 1)
        source = self.scratch / "attempt"
        make_tree(source, files)
        with open(source / "big", "wb") as file:
            file.writelines(os.urandom(_MIB // 2) + bytes(_MIB // 2) for _ in range(big // _MIB))
        avfs.create_vault("attempts", source=source).close()
        name = f"{works.ATTEMPTS} attempts side by side, {files:,} files and one of {big // _MIB} MiB"
        plain = partial(self._plain_attempts, source, lambda point, turn: works.attempt(point, turn, files))
        for way in _WAYS:
            ours = partial(self._live_attempts, files, way)
            self._try(f"attempts{way.suffix}", partial(self._compare_attempts, avfs, name + way.suffix, ours, plain))
        ours = partial(self._command_attempts, files)
        plain = partial(self._plain_attempts, source, partial(_run_program, files))
        name = f"{name}, as commands of prepared sessions"
        self._try("attempts as commands", partial(self._compare_attempts, avfs, name, ours, plain))

    def _compare_attempts(
        self, avfs: Avfs, what: str, ours: Callable[[Vault], float], theirs: Callable[[], float]
    ) -> Iterator[LiveRow]:
        """Measure the first attempts on a commit not read yet, then those after them, beside overlayfs."""
        first, again, plain = [], [], []
        for _ in range(1 if self.quick else 3):
            with suppress(AssertionError):  # no overlayfs here
                plain.append(theirs())
            with avfs.open_vault("attempts") as vault:
                while vault.sessions(bases=True):  # of the turn before
                    time.sleep(0.05)
                shutil.rmtree(vault.path / "avfs" / "cache", ignore_errors=True)
                first.append(ours(vault))
                again.append(ours(vault))
        for which, taken in (("first", Sample(tuple(first))), ("again", Sample(tuple(again)))):
            bar, name = "≤ 1.5 × overlayfs", f"{what}, {which}"
            if not plain:
                yield LiveRow(name, bar, taken.text, "no overlayfs here")
                continue
            beside = Sample(tuple(plain))
            ratio = show_ratio(taken.median_s, beside.median_s)
            yield LiveRow(name, bar, taken.text, beside.text, ratio, met=taken.median_s <= 1.5 * beside.median_s)

    def _live_attempts(self, files: int, way: _Way, vault: Vault) -> float:
        """Let each agent fork, mount, work and list what it changed, all at once.

        The seconds without taking all away again.
        """
        with ExitStack() as stack:

            def run(turn: int) -> None:
                space = stack.enter_context(vault.fork(f"tree{next(self._numbers)}"))
                session = stack.enter_context(space.mount(self.scratch / space.fork, backend=way.backend))
                works.attempt(session.path, turn, files)
                _check_changed(len(space.status().changed_files))

            return _seconds(run)

    def _command_attempts(self, files: int, vault: Vault) -> float:
        """Do the same by a command that each agent runs in its fork."""
        with ExitStack() as stack:

            def run(turn: int) -> None:
                space = stack.enter_context(vault.fork(f"agent{next(self._numbers)}"))
                done = stack.enter_context(space.prepare()).exec(*works.attempt_program(turn, files))
                assert done.exit_code == 0, done.stderr
                _check_changed(len(done.changed_files))

            return _seconds(run)

    def _plain_attempts(self, source: Path, work: Callable[[Path, int], None]) -> float:
        """Do the same on overlayfs, which root mounts over the plain files."""
        with ExitStack() as stack:

            def run(turn: int) -> None:
                point = self._overlaid(stack, source, self.scratch)
                work(point, turn)
                native.run("find", point.with_name("upper"))

            return _seconds(run)

    def _overlaid(self, stack: ExitStack, source: Path, scratch: Path) -> Path:
        """Mount overlayfs over plain files, which only root may."""
        place = scratch / f"overlay{next(self._numbers)}"
        for part in ("upper", "work", "merged"):
            (place / part).mkdir(parents=True)
        point = place / "merged"
        assert mount("overlay", point, "overlay", f"lowerdir={source},upperdir={place}/upper,workdir={place}/work")
        stack.callback(unmount, point)
        return point

    def _ready(self, vault: str, files: int) -> None:
        site = live_ready.Site(self.scratch / "home", vault, files, self.scratch / "ready")
        self._try(f"mount, {files:,} files", lambda: live_ready.time_program(site, self.rounds))
        for way in _WAYS:
            name = f"mount, {files:,} files, SDK{way.suffix}"
            self._try(name, partial(live_ready.time_mounts, site, way.backend, way.suffix, self.rounds))

    def _large(self, avfs: Avfs) -> None:
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
        self._ready(str(bare), LARGE)
        self._try("memory", lambda: self._memory(avfs, bare))

    def _memory(self, avfs: Avfs, bare: Path) -> Iterator[LiveRow]:
        with avfs.open_vault(bare) as vault, self._mounted(vault, _BY_FUSE) as session:
            idle = _memory_mib(session)
            seconds = _timed(works.find, session.path, 0)
            after = _memory_mib(session)
            yield LiveRow(
                f"memory of the server at {LARGE:,} files, after `find`{_BY_FUSE.suffix}",
                f"≤ {MEMORY_MIB} MiB",
                f"{after:.0f} MiB, {idle:.0f} before; {seconds:.1f} s",
                met=after <= MEMORY_MIB,
            )


def _of_sdk(name: str, limit: float, ours: Sample, theirs: Sample) -> LiveRow:
    ratio, met = show_ratio(ours.median_s, theirs.median_s), ours.median_s <= limit * theirs.median_s
    return LiveRow(name, f"≤ {limit:g} ×", ours.text, theirs.text, ratio, met=met)


def _run_program(files: int, point: Path, turn: int) -> None:
    subprocess.run(works.attempt_program(turn, files), check=True, cwd=point, stdin=subprocess.DEVNULL)


def _seconds(run: Callable[[int], None]) -> float:
    """Tell how long it takes until all attempts are through."""
    start = time.perf_counter()
    works.all_at_once(run)
    return time.perf_counter() - start


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


def main() -> None:
    """Do it."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.live", description="Measure the bars of the live tree."
    )
    parser.add_argument("--quick", action="store_true", help="fewer rounds, smaller files, no tree of 500,000")
    parser.add_argument("--directory", type=Path, help="where to work; default: the directory for temporary files")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # mounts and trees go also when it is stopped
    with (
        tempfile.TemporaryDirectory(prefix="avfs-bench-", dir=options.directory, ignore_cleanup_errors=True) as name,
        journaled_in_ram() as ram,
    ):
        rows = LiveBench(
            Path(name), lambda text: print(text, file=sys.stderr, flush=True), quick=options.quick, ram=ram
        ).run()
    print(live_table(rows))


if __name__ == "__main__":
    main()

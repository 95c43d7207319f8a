"""The matrix of two actors: an operation, a fault point in it, what a second actor does there, if the first dies.

    python -m tests.support.two_actors [--seed N] [--count N] [--operations N] [--only TEXT] [--jobs N] [--ordinary]
    python -m tests.support.two_actors --cell NAME [--times N]

Decided here: how a cell is run, and what must be true after it. The name of a cell, `OPERATION/POINT#N/ACTOR/MODE`, is
all of it: `delete/trash.moved#1/create/waits`. With MODE `waits` the operation stops at the N-th time that it passes
POINT, the other one acts, and when that is done, or waits for the first one, the first one goes on; with `dies` it is
killed there (SIGKILL). One in four actors does not wait for others.

Of cells that differ in nothing, or hardly, one is run; `tests.support.passing` tells places and states apart. Left out
are:

- of a place in the code that is passed again and again, all turns but the first and the last;
- of points one after the other between which nothing on disk changed, all but the last one, which has looked at most
  before; with `waits` only if the locks are the same, too, which git does not know: for it, what it looks at must have
  changed;
- where an actor waited for the first one: what follows while the locks stay held, but for the last point: it would wait
  there, too, for the same end (the whole matrix; a sample takes from all);
- with `dies`, all actors but two at each point, by turns from one that the seed names: nobody acts meanwhile, and each
  begins by putting right what was left;
- with `waits`, a session through libfuse at a place where one through FUSE does the same operation;
- points of a server's every request, which are another matter (`tests.support.killing`).

After each cell, told as what is wrong:

- each actor is done, or was refused by a typed error that is not `internal` and blames no disk; none waits for ever, or
  for a dead one; where the other one changes no files, it is not refused;
- each content and commit that was acknowledged, or was there, is in a workspace, in the trash, or held by refs or the
  log: it is there after a collection of garbage that drops at once what nothing reaches;
- commits that git, or a push, put on a branch stay in its history; those of avfs do where nobody took them back;
- where the other one changes no files, each fork has the files from before the operation or from after it, as that
  said;
- git finds no fault, the doctor none that it cannot mend; no mount, lock or process is left; work goes on.

`tests.support.actors` has the data. Whoever calls this runs nothing else in its process: it forks.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pickle
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from avfs_git import Avfs, Session, Vault, Workspace, faults
from avfs_git.errors import AvfsError, MountBusy, RefConflict
from tests.support import ordinary, stopping, sweep
from tests.support.actors import (
    ACTORS,
    OPERATIONS,
    Actor,
    Operation,
    Place,
    Refused,
    contents_of,
    goes_with,
    make_scene,
)
from tests.support.capabilities import unmount
from tests.support.faults import Files, check_objects, check_vault, git, read_files
from tests.support.passing import Passed
from tests.support.waiting import wait_for

MODES = ("waits", "dies")
_LIMIT_S = 90.0
"""For longer, nobody waits who does not wait for ever."""
_ENDING_S = 20.0
"""So long a process may take to end when nothing keeps it."""
_QUIET_S = 0.2
"""Who has not run for so long waits for somebody."""
_BUSY = ("workspace.busy", "vault.ref_locked")
ENVIRONMENT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    **{f"GIT_{who}_{what}": "ada@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    "LC_ALL": "C.UTF-8",
}


@dataclass(frozen=True)
class Cell:
    """One pair of actors at one point."""

    operation: str
    point: str
    actor: str
    mode: str

    @property
    def name(self) -> str:
        """What it is reproduced by."""
        return f"{self.operation}/{self.point}/{self.actor}/{self.mode}"

    @property
    def is_hasty(self) -> bool:
        """Whether the second actor does not wait for the first one."""
        return self.mode == "waits" and zlib.crc32(self.name.encode()) % 4 == 0


def cell_of(name: str) -> Cell:
    """Find a cell by its name."""
    return Cell(*name.split("/"))


class Told(NamedTuple):
    """How an actor's process ended."""

    status: str
    """`done`, `refused`, `failed`, `killed` or `hangs`."""
    code: str
    text: str

    def __str__(self) -> str:
        return " ".join(filter(None, self))


class Child:
    """A process of its own that does one thing."""

    def __init__(self, work: Callable[[], object], said: Path) -> None:
        self._said = said
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if not self.pid:
            _be_child(work, said)
        self.fd = os.pidfd_open(self.pid)

    def is_over(self, timeout_s: float) -> bool:
        """Whether it ends in time."""
        return stopping.wait_readable(self.fd, timeout_s)

    def is_waiting(self) -> bool:
        """Wait until it ends, or waits for somebody; tell whether it waits."""
        before, since = _work_of(self.pid), time.monotonic()
        while not self.is_over(0.01):
            now = _work_of(self.pid)
            if now is None or now != before:
                before, since = now, time.monotonic()
            elif time.monotonic() - since > _QUIET_S:
                return True
        return False

    def told(self) -> Told:
        """Wait for its end, and give what it said."""
        if not self.is_over(_LIMIT_S):
            stack = subprocess.run(
                ["/bin/cat", f"/proc/{self.pid}/stack"], capture_output=True, check=False
            ).stdout.decode()
            self.kill()
            return Told("hangs", "", stack)
        status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        os.close(self.fd)
        if status:
            return Told("killed", "", f"by {status}")
        return Told(*json.loads(self._said.read_text()))

    def kill(self) -> None:
        """End it."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _be_child(work: Callable[[], object], said: Path) -> None:
    try:
        os.setsid()
        told = Told("done", "", "")
        try:
            work()
        except AvfsError as error:
            told = Told("refused", error.code, str(error))
        except (Refused, subprocess.CalledProcessError) as error:
            told = Told("refused", "git", str(error))
        except OSError as error:  # of a program in a mount that is gone
            told = Told("refused", f"errno {error.errno}", "".join(traceback.format_exception(error)))
        except BaseException:  # noqa: BLE001 - it is what is looked for
            told = Told("failed", "", traceback.format_exc())
        faults.arm(None)
        said.write_text(json.dumps(told))
    except BaseException:  # noqa: BLE001 - nothing gets out of a fork
        traceback.print_exc()
        os._exit(99)
    os._exit(0)


def _work_of(pid: int) -> object:
    """Say what a process and those that it started have done so far; None while one of them runs."""
    found, todo = [], [pid]
    while todo:
        here = todo.pop()
        try:
            for thread in os.listdir(f"/proc/{here}/task"):
                fields = Path(f"/proc/{here}/task/{thread}/stat").read_text().rpartition(")")[2].split()
                if fields[0] == "R":
                    return None
                found.append((here, thread, fields[11], fields[12]))
                todo += map(int, Path(f"/proc/{here}/task/{thread}/children").read_text().split())
        except OSError:
            continue
    return sorted(found)


# --- a bench, on which the cells of one operation are run one after the other -----------------------------------------


@dataclass(frozen=True)
class Undisturbed:
    """What an operation does when nobody disturbs it."""

    passed: tuple[Passed, ...]
    old: dict[str, Files]
    new: dict[str, Files]
    commits: tuple[str, ...]
    contents: frozenset[bytes]


class Bench:
    """A directory of a process, with a scene for each operation.

    A scene is always at the same place, which it names.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scene = root / "scene"
        self._undisturbed: dict[str, Undisturbed] = {}
        self._count = 0
        self.story: list[str] = []
        """What happened in the last cell."""
        self.waited = False
        """Whether the second actor waited for the first one in the last cell, or did not want to."""

    def close(self) -> None:
        """Take away what is left."""
        sweep.remove(self.root)

    def undisturbed(self, operation: Operation) -> Undisturbed:
        """Make the scene of an operation, if there is none, and run it once."""
        found = self._undisturbed.get(operation.name)
        if found is None:
            self._clear()
            self.scene.mkdir()

            def make() -> None:
                make_scene(self.scene)
                with Avfs(self.scene / "home") as avfs:
                    operation.prepare(avfs.open_vault("v"))
                wait_for(lambda: not (self.scene / "home" / "mounts").exists())  # a base ends in its own process

            self._do(make)
            subprocess.run(["cp", "-a", "--reflink=auto", self.scene, self.root / f"kept-{operation.name}"], check=True)
            found = self._listen(operation)
            self._undisturbed[operation.name] = found
        return found

    def _listen(self, operation: Operation) -> Undisturbed:
        look = self.root / "look"

        def look_now() -> None:
            with Avfs(self.scene / "home") as avfs:
                vault = avfs.open_vault("v")
                files = {info.name: read_files(vault.workspace(info.name)) for info in vault.list_forks()}
                commits = subprocess.run(
                    ["git", f"--git-dir={vault.path}", "for-each-ref", "--format=%(objectname)", "refs/heads"],
                    capture_output=True,
                    check=True,
                ).stdout.decode()
                look.write_bytes(pickle.dumps((files, tuple(commits.split()), contents_of(vault))))

        self._do(look_now)
        old, commits, contents = pickle.loads(look.read_bytes())
        self._place(operation)
        with self._stopped() as stopped:
            first = self._start_first(operation, stopped, "#0", "listen")
            told = first.told()
            assert told.status == "done", (operation.name, told)
            self._do(self._end_sessions)
            passed = stopped.passed()
        self._do(look_now)
        new = pickle.loads(look.read_bytes())[0]
        return Undisturbed(tuple(passed), old, new, commits, frozenset(contents))

    def _do(self, work: Callable[[], object]) -> None:
        told = Child(work, self.root / "said-bench").told()
        assert told.status == "done", str(told)

    def _clear(self) -> None:
        for point in sweep.mounts_below(self.root):
            unmount(point)
        self._processes()  # what ends there writes there
        if self.scene.exists():
            if os.geteuid():  # overlayfs closes its own directory to an ordinary user
                subprocess.run(["chmod", "-R", "u+rwX", self.scene], check=True)
            shutil.rmtree(self.scene)

    def _place(self, operation: Operation) -> None:
        """Put the scene of an operation in its place."""
        self._clear()
        subprocess.run(["cp", "-a", "--reflink=auto", self.root / f"kept-{operation.name}", self.scene], check=True)

    @contextmanager
    def _stopped(self) -> Iterator[stopping.Stopped]:
        self._count += 1
        stopped = stopping.Stopped(self.root / f"stop-{self._count}")
        try:
            yield stopped
        finally:
            stopped.close()
            shutil.rmtree(stopped.directory)

    def _start_first(self, operation: Operation, stopped: stopping.Stopped, point: str, kind: stopping.Kind) -> Child:
        """Start the process of the operation; where it has a mounted fork, that is mounted by then."""
        told = self.root / "told-first"
        told.unlink(missing_ok=True)
        place = Place(self.scene, "first", told, operation.fork)
        if operation.live is not None:
            session = stopping.program(stopped.directory, point, kind, when_armed=True)
            backend = operation.live

            def mount() -> None:
                with replace(place, session=session).open() as vault:
                    vault.workspace(operation.fork).mount(place.tree, backend=backend)

            self._do(mount)
            (place.tree / "before").write_bytes(b"before\n")
            place.has_content(b"before\n")
        else:
            place = replace(place, session=stopping.program(stopped.directory, point, kind))
        stopped.arm()

        def run() -> None:
            faults.arm(stopping.Stop(stopped.directory, point, kind))
            operation.run(place)

        return Child(run, self.root / "said-first")

    def _end_sessions(self) -> None:
        with Avfs(self.scene / "home") as avfs:
            vault = avfs.open_vault("v")
            for info in vault.sessions():
                found = vault.find_session(info.fork, session_id=info.id) if info.at is None else None
                if found is not None:
                    _unmount(found)
            vault.check_unmounted()  # ends the mounts of bases, too

    def run(self, cell: Cell) -> list[str]:
        """Run a cell; tell what is wrong after it."""
        operation, actor = OPERATIONS[cell.operation], ACTORS[cell.actor]
        undisturbed = self.undisturbed(operation)
        self._place(operation)
        second_told = self.root / "told-second"
        second_told.unlink(missing_ok=True)
        patience_s = 0.05 if cell.is_hasty else 30.0
        place = Place(self.scene, "second", second_told, operation.fork, patience_s)
        wrong: list[str] = []
        with self._stopped() as stopped:
            first = self._start_first(operation, stopped, cell.point, "die" if cell.mode == "dies" else "stop")
            is_there = stopped.wait(first.fd, _LIMIT_S)
            if cell.mode == "dies" and operation.live is None and not operation.name.startswith("mount"):
                first.is_over(_LIMIT_S)
            second = Child(lambda: actor.run(place), self.root / "said-second")
            waited = is_there and second.is_waiting()
            stopped.go_on()
            tolds = (first.told(), second.told())
            self._do_check(operation, actor, cell, tolds, undisturbed, wrong)
        for who, told in zip(("first", "second"), tolds, strict=True):
            wrong += _wrong_end(who, told, cell, operation)
        self.waited = waited or tolds[1].code in _BUSY
        self.story = [f"reached: {is_there}; the second waited: {waited}", *(str(told) for told in tolds)]
        return [f"{one}\n    first: {tolds[0]}\n    second: {tolds[1]}" for one in wrong]

    def _do_check(
        self,
        operation: Operation,
        actor: Actor,
        cell: Cell,
        tolds: tuple[Told, Told],
        undisturbed: Undisturbed,
        wrong: list[str],
    ) -> None:
        found = self.root / "found"
        found.unlink(missing_ok=True)
        acknowledged = [_read_told(self.root / f"told-{who}") for who in ("first", "second")]

        def check() -> None:
            self._end_sessions()
            if left := sweep.mounts_below(self.scene):
                raise AssertionError(f"mounts are left: {left}")
            for one in _check(self.scene, operation, actor, cell, tolds, undisturbed, acknowledged):
                with found.open("a") as file:
                    file.write(json.dumps(one) + "\n")

        told = Child(check, self.root / "said-check").told()
        if found.exists():
            wrong += [json.loads(line) for line in found.read_text().splitlines()]
        if told.status != "done":
            wrong.append(f"the next one: {told}")
        if left := self._processes():
            wrong.append(f"processes are left: {left}")

    def _processes(self) -> list[str]:
        """Find processes that have something open below the scene; give them a moment to end, then end them."""
        until = time.monotonic() + _ENDING_S
        while found := processes_below(self.scene):
            if time.monotonic() > until:
                named = [f"{pid} {Path(f'/proc/{pid}/wchan').read_text()} {_command_of(pid)}" for pid in found]
                for pid in found:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                return named
            time.sleep(0.02)
        return []


def _unmount(session: Session) -> None:
    """Take a mount away; who attends to it after a death may still use it to put back what was cut short."""
    until = time.monotonic() + _ENDING_S
    while True:
        try:
            session.unmount(force=True)
            break
        except MountBusy:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
    session.wait()


def _choose(passed: Sequence[Passed], mode: str, *, is_git: bool = False) -> list[Passed]:
    """Choose points, so that no two cells of the mode are alike for such an actor; the module says how."""
    own = [one for one in passed if not one.point.startswith(("server.", "handover."))]
    first, last = {one.place: one for one in reversed(own)}, {one.place: one for one in own}
    turns = [one for one in own if one in (first[one.place], last[one.place])]
    if is_git:
        states: list[object] = [one.shown for one in turns]
    else:
        states = [one.disk if mode == "dies" else (one.disk, one.process, one.locks) for one in turns]
    return [one for one, state, after in zip(turns, states, [*states[1:], None], strict=True) if state != after]


def _command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def processes_below(place: Path) -> list[int]:
    """Find the processes that have something open below a directory."""
    found = []
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        with suppress(OSError):
            for fd in os.listdir(f"/proc/{entry}/fd"):
                with suppress(OSError):
                    if os.readlink(f"/proc/{entry}/fd/{fd}").startswith(f"{place}/"):
                        found.append(int(entry))
                        break
    return found


def _read_told(path: Path) -> list[tuple[str, str]]:
    if not path.exists():
        return []
    return [(kind, value) for kind, _, value in (line.partition(" ") for line in path.read_text().splitlines())]


def _wrong_end(who: str, told: Told, cell: Cell, operation: Operation) -> list[str]:
    """Tell what is wrong with how an actor ended."""
    if told.status in ("failed", "hangs") or told.code == "internal":
        return [f"the {who} actor {told.status}"]
    if told.status == "killed" and not (who == "first" and cell.mode == "dies"):
        return [f"the {who} actor was killed"]
    if told.code == "host.failed" or (told.code.startswith("errno") and cell.mode == "waits"):
        return [f"the {who} actor failed on a machine that works"]
    if who == "first" and told.status == "refused" and cell.mode == "waits" and ACTORS[cell.actor].is_neutral:
        return ["the first actor was refused although the second one changes nothing"]
    if told.code in _BUSY:
        if cell.mode == "dies" and operation.live is None:
            return [f"the {who} actor waited for a dead one"]
        if not cell.is_hasty:
            return [f"the {who} actor did not wait long enough"]
        if who == "second" and told.code == "workspace.busy" and " in use by " not in told.text:
            return ["the second actor does not say for whom it waits"]
    return []


# --- what must be true afterwards -------------------------------------------------------------------------------------


def _check(
    scene: Path,
    operation: Operation,
    actor: Actor,
    cell: Cell,
    tolds: tuple[Told, Told],
    undisturbed: Undisturbed,
    acknowledged: Sequence[list[tuple[str, str]]],
) -> list[str]:
    """Look at a scene after a cell, as whoever comes next."""
    place = Place(scene, "third", scene.parent / "told-third", operation.fork)
    wrong: list[str] = []
    with place.open() as vault:
        if actor.is_neutral:
            wrong += _compare_files(vault, cell, tolds[0], undisturbed)
        may_differ = actor.takes_back or (actor.brings_back and operation.takes_back)
        if not may_differ and tolds[0].status == "done" and not operation.holds(vault, place):
            wrong.append("the first actor says that it is done, and it is not")
        check_vault(vault)
    contents = set(undisturbed.contents)
    commits = set(undisturbed.commits)
    pushed, by_others = set(), set()
    for kind, value in (one for each in acknowledged for one in each):
        if kind == "content":
            contents.add(bytes.fromhex(value))
        else:
            commits.add(value)
        if kind == "pushed":
            by_others.add(value)
        if kind == "pushed" or (kind == "commit" and not actor.takes_back and not operation.takes_back):
            pushed.add(value)
    with place.open() as vault:
        wrong += _check_pushed(vault, operation, pushed)
        for info in vault.list_forks():
            work = vault.workspace(info.name)
            work.write("after", f"work goes on in {info.name}\n".encode())
            try:
                work.checkpoint()
            except RefConflict:  # it says so, and what to do: somebody has put commits on the branch
                _bring_in(work)
                work.checkpoint()
        wrong += _check_pushed_files(vault, operation, by_others)
        vault.gc(grace_days=0)
        check_objects(vault.path)
        held = contents_of(vault) | _trash(vault) | _objects(vault, "blob") | _outside(scene)
        wrong += [f"content {one!r} is lost" for one in sorted(contents - held)]
        there = {oid.decode() for oid in _ids(vault)}
        wrong += [f"commit {one} is lost" for one in sorted(commits - there)]
    return wrong


def _compare_files(vault: Vault, cell: Cell, told: Told, undisturbed: Undisturbed) -> list[str]:
    found = {info.name: read_files(vault.workspace(info.name)) for info in vault.list_forks()}
    if told.status == "done":
        allowed = {"new": undisturbed.new}
    elif OPERATIONS[cell.operation].has_steps:
        return []
    elif told.status == "refused" and cell.mode == "waits":
        allowed = {"old": undisturbed.old}
    else:
        allowed = {"old": undisturbed.old, "new": undisturbed.new}
    for files in (*allowed.values(), found):
        for each in files.values():
            for path in (b"before", b"mark-first"):
                each.pop(path, None)
    if found in allowed.values():
        return []
    differ = []
    for name, files in allowed.items():
        for fork in sorted(files.keys() | found.keys()):
            if fork not in files or fork not in found:
                differ.append(f"{name}: {fork} is {'missing' if fork in files else 'too much'}")
            else:
                paths = sorted({path for path, _ in files[fork].items() ^ found[fork].items()})
                differ += [
                    f"{name}: {fork}: {path!r} {files[fork].get(path)} {found[fork].get(path)}" for path in paths
                ]
    return [f"files are not those of {' or '.join(allowed)}: {'; '.join(differ)}"]


def _check_pushed(vault: Vault, operation: Operation, pushed: set[str]) -> list[str]:
    """Find what others put on the fork's branch, and is not in its history."""
    if not vault.has_fork(operation.fork):
        return []
    wrong = []
    for oid in pushed:
        done = subprocess.run(
            ["git", f"--git-dir={vault.path}", "merge-base", "--is-ancestor", oid, f"refs/heads/{operation.fork}"],
            check=False,
            capture_output=True,
        )
        if done.returncode:
            wrong.append(f"commit {oid}, which was put on '{operation.fork}', is not in its history")
    return wrong


def _bring_in(work: Workspace) -> None:
    """Update a fork; where both sides have changed a file, take that of the others."""
    merged = work.update(on_conflict="workspace")
    if merged and merged[-1].outcome == "conflicted":
        for conflict in merged[-1].conflicts:
            work.resolve(conflict.path, "theirs")
        work.continue_merge()


def _check_pushed_files(vault: Vault, operation: Operation, pushed: set[str]) -> list[str]:
    """Find files of others on the fork's branch that a later commit has otherwise.

    Each conflict was resolved for them.
    """
    if not vault.has_fork(operation.fork):
        return []
    wrong, branch = [], f"refs/heads/{operation.fork}"
    for oid in pushed:
        paths = git(vault.path, "diff-tree", "-r", "--name-only", "--no-commit-id", oid).splitlines()
        if git(vault.path, "diff", "--name-only", oid, branch, "--", *paths):
            wrong.append(f"'{operation.fork}' does not have what commit {oid} has put into {paths}")
    return wrong


def _trash(vault: Vault) -> set[bytes]:
    return _plain_contents(vault.path / "avfs" / "trash") | _plain_contents(vault.path / "avfs" / "workspaces")


def _outside(scene: Path) -> set[bytes]:
    return _plain_contents(scene / "source")


def _plain_contents(directory: Path) -> set[bytes]:
    found = set()
    for path in directory.rglob("*"):
        with suppress(OSError):
            if path.is_file() and not path.is_symlink():
                found.add(path.read_bytes())
    return found


def _ids(vault: Vault) -> list[bytes]:
    done = subprocess.run(
        ["git", f"--git-dir={vault.path}", "cat-file", "--batch-all-objects", "--batch-check=%(objectname)"],
        capture_output=True,
        check=True,
    )
    return done.stdout.split()


def _objects(vault: Vault, wanted: str) -> set[bytes]:
    done = subprocess.run(
        ["git", f"--git-dir={vault.path}", "cat-file", "--batch-all-objects", "--batch", "--buffer"],
        capture_output=True,
        check=True,
    ).stdout
    found: set[bytes] = set()
    at = 0
    while at < len(done):
        end = done.index(b"\n", at)
        _, kind, size = done[at:end].split()
        if kind == wanted.encode():
            found.add(done[end + 1 : end + 1 + int(size)])
        at = end + 2 + int(size)
    return found


# --- running many -----------------------------------------------------------------------------------------------------

_bench: Bench | None = None


def _begin(scratch: Path) -> None:
    """Begin a worker: no waiting for the disk, because nobody's machine stops here."""
    global _bench  # noqa: PLW0603 - one for the life of a worker
    unsync()
    place = scratch / str(os.getpid())
    place.mkdir()
    _bench = Bench(place)


def unsync() -> None:
    """Do not wait for the disk, in this process and those that it forks."""

    def check(fd: Any) -> None:
        os.fstat(fd)  # a wrong descriptor stays an error

    os.fsync = check
    os.fdatasync = check


def _list(name: str, seed: int) -> list[list[Cell]]:
    """List the cells of an operation: by actor, in order, those where the first one waits; and those after a death."""
    assert _bench is not None
    operation = OPERATIONS[name]
    found = _bench.undisturbed(operation)
    same: set[str] = set()
    if operation.live == "portable":
        same = {one.place for one in _bench.undisturbed(OPERATIONS[name.replace("-portable", "-live")]).passed}
    actors = [actor for actor in ACTORS.values() if goes_with(operation, actor)]
    waiting = [
        [
            Cell(name, one.point, actor.name, "waits")
            for one in _choose(found.passed, "waits", is_git=actor.is_git)
            if one.place not in same
        ]
        for actor in actors
    ]
    turn = random.Random(f"{seed} {name}").randrange(len(actors))
    dying = [
        Cell(name, one.point, actors[(turn + number + half) % len(actors)].name, "dies")
        for number, one in enumerate(_choose(found.passed, "dies"))
        for half in (0, len(actors) // 2)
    ]
    return [cells for cells in (*waiting, dying) if cells]


def _run(cells: Sequence[Cell]) -> list[tuple[Cell, list[str]]]:
    assert _bench is not None
    done = []
    for cell in cells:
        try:
            done.append((cell, _bench.run(cell)))
        except Exception:  # noqa: BLE001 - the other cells are run all the same
            done.append((cell, [traceback.format_exc()]))
    return done


def _run_line(cells: Sequence[Cell]) -> list[tuple[Cell, list[str]]]:
    """Run the cells of an operation and an actor in order, except those in which it would wait as it did before."""
    assert _bench is not None
    locks = {one.point: one.locks for one in _bench.undisturbed(OPERATIONS[cells[0].operation]).passed}
    held: frozenset[str] = frozenset()
    """What the first actor held when the second one waited."""
    done = []
    for cell, after in zip(cells, [*cells[1:], None], strict=True):
        if held and after is not None and held <= locks[cell.point] and held <= locks[after.point]:
            continue
        done += _run([cell])
        held = locks[cell.point] if cell.mode == "waits" and _bench.waited else frozenset()
    return done


def run(
    seed: int,
    count: int | None,
    *,
    only: str = "",
    jobs: int | None = None,
    operations: int | None = None,
    say: Callable[[str], object] = lambda _: None,
) -> tuple[int, int, list[tuple[Cell, list[str]]]]:
    """Run cells, a random sample or all.

    Give how many there are, how many were run, and those after which something is wrong.

    Args:
        seed: Of the sample.
        count: How many; None for all.
        only: Only cells in whose name this regular expression is found.
        jobs: How many processes; two for each core if not given, because half of the time they wait for each other.
        operations: The sample is of so many operations; of all if not given.
        say: Told how far it is.
    """
    chance = random.Random(seed)
    scratch = sweep.scratch_root()
    try:
        with ProcessPoolExecutor(
            jobs or 2 * (os.cpu_count() or 1),
            mp_context=multiprocessing.get_context("fork"),
            initializer=_begin,
            initargs=(scratch,),
        ) as pool:
            one = only.partition("/")[0]
            names = [name for name in OPERATIONS if one not in OPERATIONS or name == one]
            names = [name for name in names if OPERATIONS[name].is_possible]
            if operations is not None:
                names = chance.sample(names, min(operations, len(names)))
            listed = [line for found in pool.map(partial(_list, seed=seed), names) for line in found]
            lines = [[cell for cell in line if re.search(only, cell.name)] for line in listed]
            cells = [cell for line in lines for cell in line]
            if count is None:
                work, pieces = _run_line, chance.sample(list(filter(None, lines)), len(list(filter(None, lines))))
            else:
                chosen = chance.sample(cells, min(count, len(cells)))
                chosen.sort(key=lambda cell: names.index(cell.operation))
                size = max(1, min(40, len(chosen) // 8))
                work, pieces = _run, [chosen[at : at + size] for at in range(0, len(chosen), size)]
            wrong, ran, passed = [], 0, 0
            waiting = {pool.submit(work, piece): len(piece) for piece in pieces}
            for future in as_completed(waiting):
                passed += waiting[future]
                for cell, found in future.result():
                    ran += 1
                    if found:
                        wrong.append((cell, found))
                        say("\n".join((f"{cell.name}:", *(f"  {one}" for one in found))))
                say(f"{ran} cells ran, {passed} of {sum(waiting.values())} are settled")
            return len(cells), ran, wrong
    finally:
        sweep.remove(scratch)


def run_cell(name: str, root: Path, say: Callable[[str], object] = lambda _: None) -> list[str]:
    """Run one cell, in a directory of its own; tell what is wrong after it."""
    with closing(Bench(root)) as bench:
        found = bench.run(cell_of(name))
        say("\n".join(bench.story))
        return found


def main() -> int:
    """Run, print what is wrong, and say by the exit status whether anything is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the sample")
    parser.add_argument("--count", type=int, default=None, help="how many cells (default: all)")
    parser.add_argument("--operations", type=int, default=None, help="of how many operations (default: of all)")
    parser.add_argument("--only", default="", help="only cells in whose name this regular expression is found")
    parser.add_argument("--jobs", type=int, default=None, help="how many processes (default: two for each core)")
    parser.add_argument("--cell", help="run this one")
    parser.add_argument("--times", type=int, default=1, help="run it so often")
    parser.add_argument("--ordinary", action="store_true", help="as an ordinary user")
    arguments = parser.parse_args()
    return int(ordinary.call(lambda: b"%d" % _do(arguments))) if arguments.ordinary else _do(arguments)


def _do(arguments: argparse.Namespace) -> int:
    os.environ.update(ENVIRONMENT)
    if arguments.cell:
        unsync()
        found = [one for _ in range(arguments.times) for one in run_cell(arguments.cell, sweep.scratch_root(), print)]
        print("\n".join(found) or "nothing is wrong")
        return 1 if found else 0
    print(f"seed {arguments.seed}", flush=True)
    there, ran, wrong = run(
        arguments.seed,
        arguments.count,
        only=arguments.only,
        jobs=arguments.jobs,
        operations=arguments.operations,
        say=lambda text: print(text, flush=True),
    )
    print(f"{there} cells, {ran} ran, {len(wrong)} with something wrong")
    for cell, _ in wrong:
        print("   ", cell.name)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

"""Operations on a workspace that overlayfs shows, interrupted at every fault point, with a program beside them.

As in `test_points`: the n-th point fails, or the process dies there. The mount stays, and the program works on. Whoever
serves the workspace next, through the mount or after it is gone, finds the state before or the one after; whatever the
program wrote is in the tree, or kept in a commit.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from avfs_git import Avfs, Workspace, faults
from avfs_git.errors import AvfsError
from tests.support.failing import DieAt, FailAt, armed
from tests.support.faults import Files, check_vault, die_in, make_source, make_vault, reachable_contents, read_files
from tests.support.seeds import take_points
from tests.support.shown import Program, mounted_layers, read_shown, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("root", "overlayfs", "git", "user-xattrs", "whiteout"),
]


@dataclass(frozen=True)
class Operation:
    """Something that changes files."""

    name: str
    run: Callable[[Workspace], object]
    at: str
    """The point at which the program writes."""
    has_middle: bool = False
    """Whether it has a step in the middle, at which old and new names are both there."""


def _merge(work: Workspace) -> object:
    return work.merge("side")


OPERATIONS = [
    Operation("restore", lambda work: work.restore("one"), "restore.announced"),
    Operation("restore that has begun", lambda work: work.restore("one"), "mounted.exchanged"),
    Operation("undo", lambda work: work.undo(), "restore.announced"),
    Operation("merge", _merge, "restore.announced"),
    Operation("write", lambda work: work.write("many/f", b"written\n"), "nowhere"),
    Operation("remove", lambda work: work.remove("many", recursive=True), "nowhere"),
    Operation("rename of a directory of the base", lambda work: work.move("build", "moved"), "nowhere", True),
]


@contextmanager
def _mounted(directory: Path, point: Path) -> Iterator[Path]:
    """A vault whose fork `work` is mounted; gives its home."""
    directory.mkdir()
    vault = make_vault(directory / "home", make_source(directory / "source"))
    with vault.fork("side", source="work", at="one") as side:
        side.write("a", b"theirs\n")
        side.write("only-theirs", b"theirs\n")
        side.checkpoint("theirs")
    vault.workspace("work").write("a", b"second\n")
    vault.workspace("work").checkpoint("before")
    with mounted_layers(vault, directory / "source", point):
        vault.close()
        yield directory / "home"


def _bounds(operation: Operation, directory: Path, point: Path) -> list[Files]:
    """Run it undisturbed; give the states that may be found."""
    with _mounted(directory, point) as home, serving(home, point) as work:
        before = read_shown(point)
        operation.run(work)
        after = read_shown(point)

        assert read_files(work) == after
    return [before, after, {**before, **after}] if operation.has_middle else [before, after]


def _check(found: Files, bounds: list[Files], program: Program, git_dir: Path) -> None:
    """Demand the old state or the new one, but for what the program wrote, and that nothing of that is lost."""
    elsewhere = program.written - {entry[2] for entry in found.values()}

    assert not elsewhere or elsewhere - reachable_contents(git_dir) == set()

    # What the program wrote has its place in either state; what it wrote over is not to be found there.
    touched = (
        {b"a", b"many", b"many/other", b"uncommitted", b"secret.log", b"fresh", b"beside"} if program.written else set()
    )
    seen = {path: entry for path, entry in found.items() if path not in touched}
    states = [{path: entry for path, entry in state.items() if path not in touched} for state in bounds]

    assert seen in states, [sorted(set(seen.items()) ^ set(state.items())) for state in states]


def _check_unmounted(home: Path, bounds: list[Files], program: Program) -> None:
    """Demand the same of who opens the workspace without its mount, and that work goes on."""
    with Avfs(home) as avfs, avfs.open_vault("v") as vault:
        work = vault.workspace("work")
        _check(read_files(work), bounds, program, vault.path)
        assert not list(work._opened.layout.upper.glob(".avfs-*"))
        work.write("after", b"work goes on\n")
        assert work.checkpoint().outcome == "created"
        check_vault(vault)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name.replace(" ", "-"))
def test_death_at_every_point(operation: Operation, tmp_path: Path, mount_dir: Path) -> None:
    """A session killed at any point leaves the old state or the new one to its successor, and loses nothing.

    That is another session on the same mount, or, after every second point, who opens the workspace when it is
    unmounted.
    """
    point = mount_dir / "tree"
    bounds = _bounds(operation, tmp_path / "undisturbed", point)
    for turn, number in take_points(OPERATIONS.index(operation)):
        directory = tmp_path / str(number)
        with _mounted(directory, point) as home:
            program = Program(point, b"p%d" % number, operation.at, log=directory / "written")

            def run(home: Path = home, program: Program = program, number: int = number) -> None:
                die = DieAt(number)
                with serving(home, point) as work:
                    faults.arm(_both(program, die))
                    operation.run(work)
                    faults.arm(None)

            died = die_in(run, 0)
            program.read_log()
            if turn % 2:
                # A program goes on to work before anybody notices.
                (point / "later").write_bytes(b"later %d\n" % number)
                with serving(home, point) as work:
                    found = read_shown(point)
                    assert found.pop(b"later")[2] == b"later %d\n" % number
                    assert read_files(work).keys() - {b"later"} == found.keys()
                    _check(found, bounds, program, work.vault.path)
                    work.remove("later")
                    work.checkpoint()
        _check_unmounted(home, bounds, program)
        if not died:
            break


def _both(*handlers: Callable[[str], None]) -> Callable[[str], None]:
    def handle(point: str) -> None:
        for handler in handlers:
            handler(point)

    return handle


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name.replace(" ", "-"))
def test_a_failing_step_leaves_the_old_state(operation: Operation, tmp_path: Path, mount_dir: Path) -> None:
    """A failure at any step leaves the old or the new state, in the same session and the next, and loses nothing.

    At every second point the disk is full from then on; at the others it fails once.
    """
    point = mount_dir / "tree"
    bounds = _bounds(operation, tmp_path / "undisturbed", point)
    for turn, step in take_points(OPERATIONS.index(operation) + 1):
        directory = tmp_path / str(step)
        with _mounted(directory, point) as home:
            program = Program(point, b"p%d" % step, operation.at)
            number = errno.EIO if turn % 2 else errno.ENOSPC
            fault = FailAt(step, lambda: OSError(number, os.strerror(number)), stay=number == errno.ENOSPC)  # noqa: B023
            with serving(home, point) as work:
                with armed(_both(program, fault)), suppress(AvfsError, OSError):
                    operation.run(work)
                if turn % 4 < 2:
                    _check(read_files(work), bounds, program, work.vault.path)
                    work.status()
                    _check(read_shown(point), bounds, program, work.vault.path)
            with serving(home, point) as work:
                _check(read_shown(point), bounds, program, work.vault.path)
        _check_unmounted(home, bounds, program)
        if len(fault.seen) < step:
            break


def test_what_programs_do_after_a_death_is_theirs(tmp_path: Path, mount_dir: Path) -> None:
    """Putting an operation back touches what it meant to change.

    The directories for that are made again if they are gone.
    """
    point = mount_dir / "tree"
    with _mounted(tmp_path / "one", point) as home:
        with serving(home, point) as work:
            (point / "many" / "g").write_bytes(b"g\n")
            (point / "dir").mkdir(exist_ok=True)
            (point / "dir" / "own").write_bytes(b"in the directory that comes\n")
            work.checkpoint("two files")
            work.write("many/f", b"other\n")
            work.checkpoint("three")

        def run() -> None:
            with serving(home, point) as work:
                faults.arm(lambda passed: os._exit(DieAt.STATUS) if passed == "restore.applied" else None)
                work.restore("two files")

        assert die_in(run, 0)
        assert (point / "many" / "f").read_bytes() != b"other\n"
        for name in ("f", "g"):
            (point / "many" / name).unlink()
        (point / "many").rmdir()
        (point / "a").write_bytes(b"not of the restore\n")
        with serving(home, point) as work:
            work.status()

            assert (point / "many" / "f").read_bytes() == b"other\n"
            assert not (point / "many" / "g").exists()
            assert (point / "a").read_bytes() == b"not of the restore\n"


def test_a_staging_directory_that_a_program_made_up(tmp_path: Path, mount_dir: Path) -> None:
    """Names and logs like those of avfs, which some program has written, hold nobody up and lead nowhere else."""
    point = mount_dir / "tree"
    with _mounted(tmp_path / "one", point) as home:
        with serving(home, point):
            (point / ".avfs-staging-00000000000000ff").write_bytes(b"a file")
            false = point / ".avfs-staging-0123456789abcdef"
            (false / "taken").mkdir(parents=True)
            (false / "plan").write_bytes(b"+../../x\0=a")
            (false / "log").write_bytes(
                b"../../../a 0 a\0nonsense\0\x000 0 ../up\0001 0 a//b\0002 0 .git/config\0003 0 dir\0004 0 ok"
            )
            for number in range(4):
                (false / "taken" / str(number)).write_bytes(b"content %d\n" % number)
        with serving(home, point) as work:
            assert work.restore("one").outcome == "restored"
            assert not false.exists()
            kept = reachable_contents(work.vault.path)
            assert all(b"content %d\n" % number in kept for number in range(4))
        with Avfs(home) as avfs, avfs.open_vault("v") as vault:
            check_vault(vault)

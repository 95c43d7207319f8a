"""Two actors on one fork's name: while one makes, deletes, brings back or takes back a fork, another does so.

At each point that the first one passes a second one begins; it goes on alone where it need not wait. After each pair:
every workspace that was written to is in its fork, or in the trash under the name that the log gives it; who did not
get through was refused by a typed error; and a third one can go on.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault, faults
from avfs_git.errors import AvfsError, ForkExists, ForkNotFound, NothingToUndo, WorkspaceBusy, WorkspaceMounted
from avfs_git.host.locks.locks import LockFile
from avfs_git.workspace.forks.trash import clear_orphan
from tests.support.faults import check_vault, die_in, git, reachable_contents
from tests.support.seeds import take_points, take_turns

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("git", "user-xattrs", "whiteout"),
]
FORK = "fix"
_WAIT_S = 0.05
"""For so long the first actor waits for the second one, which may have to wait for the first one's lock."""


def _write_new(vault: Vault, mark: str) -> None:
    """Make the fork and write to it: what is acknowledged then is not to be lost."""
    vault.fork(FORK, source="main").write(f"mark-{mark}", mark.encode())


def _undo(vault: Vault, _: str) -> None:
    """Take back what was done to the fork as a whole, with what was written to it before."""
    while vault.undo(fork=FORK).operation.kind == "files":
        pass


def _redo(vault: Vault, _: str) -> None:
    """Do again what was done to the fork as a whole, with what was written to it then."""
    vault.redo(fork=FORK)
    with suppress(NothingToUndo):
        vault.redo(fork=FORK)


ACTIONS: dict[str, Callable[[Vault, str], object]] = {
    "create": _write_new,
    "delete": lambda vault, _: vault.delete_fork(FORK),
    "undo": _undo,
    "redo": _redo,
    "write": lambda vault, mark: vault.workspace(FORK).write(f"mark-{mark}", mark.encode()),
}


def _make(home: Path, state: str) -> None:
    with Avfs(home) as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write("a", b"a")
        vault.workspace().checkpoint()
        vault.fork(f"bug-{FORK}").write("mark-other", b"other")
        vault.delete_fork(f"bug-{FORK}")
        if state != "none":
            _write_new(vault, "old")
        if state in ("deleted", "back"):
            vault.delete_fork(FORK)
        if state == "back":
            vault.undo(fork=FORK)
        if state == "undone":
            _undo(vault, "")


def _marks(place: Path) -> set[str]:
    with suppress(FileNotFoundError):
        return {name for name in os.listdir(place / "upper") if name.startswith("mark-")}
    return set()


def _kept(vault: Vault, marks: set[str]) -> set[str]:
    """Find marks in commits: what undo takes back is kept in one."""
    contents = reachable_contents(vault.path)
    return {mark for mark in marks if mark.removeprefix("mark-").encode() in contents}


def _check(home: Path, written: set[str]) -> None:
    """Demand that every mark is in the fork, or in the trash where the log says, and that everything works."""
    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")
        core = vault._core
        is_there = core.has_fork(FORK)
        place = core.layout.workspace(FORK).root
        held = {mark for mark in written if is_there and vault.workspace(FORK).exists(mark)}
        ended = {str(record.more["trash"]) for record in core.oplog.read_fork(FORK) if "trash" in record.more}
        for name in ended:
            held |= _marks(core.layout.trash / name)
        held |= _kept(vault, written)

        assert held >= written, (held, written, is_there, os.listdir(core.layout.trash))
        assert is_there or not _marks(place)

        if is_there:
            vault.workspace(FORK).write("last", b"last")
            vault.workspace(FORK).checkpoint()
        check_vault(vault)


FIRSTS = [
    ("none", "create"), ("there", "delete"), ("there", "undo"), ("there", "write"), ("deleted", "create"), ("deleted", "undo"),
    ("back", "redo"), ("back", "delete"), ("undone", "redo"), ("undone", "create"),
]  # fmt: skip


@pytest.mark.parametrize(("state", "first"), FIRSTS)
def test_two_actors_on_one_name(state: str, first: str, tmp_path: Path) -> None:
    """Whatever two do with one name at once, acknowledged work stays where the fork or the log has it."""
    # A write is no operation of `tests.support.two_actors`.
    _run_everywhere(state, first, take_turns(tuple(ACTIONS), count=len(ACTIONS) if first == "write" else 1), tmp_path)


@pytest.mark.ordinary
@pytest.mark.parametrize(
    ("state", "first", "second"),
    [("none", "create", "create"), ("there", "delete", "write"), ("deleted", "undo", "create")],
)
def test_two_ordinary_users_on_one_name(state: str, first: str, second: str, tmp_path: Path) -> None:
    """So it is for ordinary users."""
    _run_everywhere(state, first, lambda _: [second], tmp_path)


def _run_everywhere(state: str, first: str, seconds: Callable[[int], list[str]], directory: Path) -> None:
    _make(directory / state, state)
    point, most = 1, 0
    while point <= most + 1:  # the last time, the first actor has no such point
        for second in seconds(point):
            home = directory / f"{point}-{second}"
            shutil.copytree(directory / state, home, symlinks=True)
            written = {"mark-old"} if state != "none" else set()
            done, points = _run_pair(home, first, second, point)
            most = max(most, points)
            for mark, action in (("first", first), ("second", second)):
                if mark in done and action in ("create", "write"):
                    written.add(f"mark-{mark}")
            _check(home, written)
            shutil.rmtree(home)
        point += 1 if most <= 8 else 2


def _run_pair(home: Path, first: str, second: str, point: int) -> tuple[set[str], int]:
    """Run the second action when the first one is at its n-th point.

    Tell who got through, and how many points there were.
    """
    done: set[str] = set()
    main = threading.current_thread()
    others: list[threading.Thread] = []
    seen: list[str] = []

    def act(mark: str, action: str) -> None:
        with Avfs(home) as avfs, suppress(AvfsError):
            ACTIONS[action](avfs.open_vault("v"), mark)
            done.add(mark)

    def reached(name: str) -> None:
        if threading.current_thread() is not main:
            return
        seen.append(name)
        if len(seen) == point:
            others.append(threading.Thread(target=act, args=("second", second)))
            others[0].start()
            others[0].join(_WAIT_S)

    faults.arm(reached)
    try:
        act("first", first)
    finally:
        faults.arm(None)
        for other in others:
            other.join()
    return done, len(seen)


KILLED = [pair for pair in FIRSTS if pair != ("there", "write")]


@pytest.mark.parametrize(("state", "first"), KILLED)
def test_killed_and_then_another(state: str, first: str, tmp_path: Path) -> None:
    """After a kill at any point the next command goes on, without the doctor, and nothing written is lost."""
    _kill_everywhere(state, first, ("create", "undo", "redo"), take_points(0), tmp_path)


@pytest.mark.ordinary
@pytest.mark.parametrize(
    ("state", "first"), [("none", "create"), ("there", "delete"), ("deleted", "undo"), ("undone", "redo")]
)
def test_an_ordinary_user_goes_on_after_a_kill(state: str, first: str, tmp_path: Path) -> None:
    """So it is for ordinary users."""
    _kill_everywhere(state, first, ("undo",), take_points(1), tmp_path)


def _kill_everywhere(
    state: str, first: str, actions: Sequence[str], points: Iterable[tuple[int, int]], tmp_path: Path
) -> None:
    _make(tmp_path / state, state)
    turns = take_turns(actions)
    for turn, point in points:
        if not all(_kill_and_check(state, first, then, point, tmp_path) for then in turns(turn)):
            return


def _kill_and_check(state: str, first: str, then: str, point: int, directory: Path) -> bool:
    """Kill the first actor at its n-th point, let another one act, and check; tell whether there is such a point."""
    home = directory / f"{point}-{then}"
    shutil.copytree(directory / state, home, symlinks=True)

    def act() -> None:
        with Avfs(home) as avfs:
            ACTIONS[first](avfs.open_vault("v"), "first")

    died = die_in(act, point)
    written = {"mark-old"} if state != "none" else set()
    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")
        try:
            ACTIONS[then](vault, "then")
        except (ForkExists, ForkNotFound, NothingToUndo):
            pass
        else:
            written |= {"mark-then"} if then == "create" else set()
    _check_after_kill(home, written)
    shutil.rmtree(home)
    return died


def _check_after_kill(home: Path, written: set[str]) -> None:
    """Check as `_check` does, but a workspace without a branch may stay in place for undo or the next fork to take."""
    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")
        core = vault._core
        there = {mark for mark in written if core.has_fork(FORK) and vault.workspace(FORK).exists(mark)}
        places = [core.layout.workspace(FORK).root, *core.layout.trash.glob(f"*[0-9]-{FORK}")]

        assert there.union(_kept(vault, written), *map(_marks, places)) >= written
        check_vault(vault)


def test_undo_takes_the_workspace_of_its_own_fork(tmp_path: Path) -> None:
    """Where the trash has lost a workspace, that of a fork whose name ends in the same way is not taken."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write("a", b"a")
        vault.workspace().checkpoint()
        for name in (FORK, f"bug-{FORK}"):
            vault.fork(name, source="main").write("of", name.encode())
            vault.delete_fork(name)
        trash = vault._core.layout.trash
        shutil.rmtree(next(place for place in trash.iterdir() if place.name.partition("-")[2] == FORK))
        vault.undo(fork=FORK)

        assert not vault.workspace(FORK).exists("of")
        vault.undo(fork=f"bug-{FORK}")
        assert vault.workspace(f"bug-{FORK}").read("of") == b"bug-fix"


def test_each_undo_brings_back_the_fork_of_its_own_time(tmp_path: Path) -> None:
    """Of two forks that had one name, each comes back with its own files, also after the other was taken back."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write("a", b"a")
        vault.workspace().checkpoint()
        for number in (b"1", b"2"):
            vault.fork(FORK, source="main").write("number", number)
            vault.delete_fork(FORK)
        vault.undo(fork=FORK)
        assert vault.workspace(FORK).read("number") == b"2"
        _undo(vault, "")  # its creation
        vault.undo(fork=FORK)
        assert vault.workspace(FORK).read("number") == b"1"


@pytest.mark.parametrize("name", ["ä/" * 39 + "a" * 20, "x" * 200, "ab%" * 40])
def test_a_name_that_makes_a_long_directory_comes_and_goes(name: str, tmp_path: Path) -> None:
    """A fork whose workspace name with a time before it is too long for a file system is deleted and comes back."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write("a", b"a")
        vault.workspace().checkpoint()
        vault.fork(name, source="main").write("of", b"it")
        vault.delete_fork(name)
        vault.undo(fork=name)
        assert vault.workspace(name).read("of") == b"it"
        assert git(vault.path, "for-each-ref", "--format=%(refname)", "refs/heads").count("\n") == 2


def test_a_workspace_in_use_is_not_put_away(tmp_path: Path) -> None:
    """Who holds a workspace keeps it, also where its branch was deleted by hand: a fork of that name is refused."""
    home = tmp_path / "home"
    with Avfs(home) as avfs, Avfs(home) as another:
        vault = avfs.create_vault("v")
        vault.workspace().write("a", b"a")
        vault.workspace().checkpoint()
        work = vault.fork(FORK, source="main")
        work.write("mark-old", b"old")
        with LockFile(vault._core.layout.workspace(FORK).lock, owner="session") as lock:
            assert lock.acquire(1)
            lock.keep("sess")
            lock.release()
            git(vault.path, "update-ref", "-d", f"refs/heads/{FORK}")
            with pytest.raises((WorkspaceBusy, WorkspaceMounted)):
                another.open_vault("v").fork(FORK, source="main")
            lock.stop_keeping()
        assert _marks(vault._core.layout.workspace(FORK).root) == {"mark-old"}


def test_an_unborn_fork_that_was_written_to_stays(tmp_path: Path) -> None:
    """The first fork of a vault has no branch yet, and is a fork all the same."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write("a", b"a")
        with vault._core.fork_locked("main"), pytest.raises(ForkExists):
            clear_orphan(vault._core, "main")
        assert vault.workspace().read("a") == b"a"

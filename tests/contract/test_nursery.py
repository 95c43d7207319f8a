"""Sessions that come from a nursery: what they are when their starter changes, and what is left when somebody dies.

A session tells where it comes from by its parent: a nursery or, where it was started as a program of its own, nobody
here. Each test has a starter in a process of its own, which it may change and kill.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avfs_git import Avfs, Vault
from avfs_git.errors import AvfsError
from avfs_git.host.processes.processes import start_time
from avfs_git.model import Identity
from avfs_git.session.serve.nursery_client import Nursery, own_program
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"), pytest.mark.usefixtures("person")]

ADA = Identity("Ada Author", "ada@example.org")
PROJECT = Path(__file__).parents[2]
FORKS = ("one", "two", "three", "four", "five", "six")
_STARTER = """
import ctypes, json, logging, os, resource, signal, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from avfs_git import Avfs
from avfs_git.session.serve import nursery_client

avfs = Avfs(sys.argv[1], lock_timeout_s=5)
trees = Path(sys.argv[2])
vault = avfs.open_vault("v")
libc = ctypes.CDLL(None, use_errno=True)

def mount(fork, **options):
    return vault.workspace(fork).mount(trees / fork, **options).info().pid

def mount_in_thread(fork):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(mount, fork).result()

def early(work, **options):
    with nursery_client.starting_early(**options):
        return work()

def has_nursery():
    return nursery_client._own.nursery is not None

def in_fork(work):
    reading, writing = os.pipe()
    if not os.fork():
        os.write(writing, json.dumps(work()).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as file:
        value = json.load(file)
    os.wait()
    return value

for line in sys.stdin:
    print(json.dumps(eval(line)), flush=True)
"""


class Starter:
    """A process that mounts what it is told to."""

    def __init__(self, home: Path, trees: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _STARTER, home, trees],
            cwd=PROJECT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def begin(self, code: str) -> None:
        """Let it evaluate something."""
        assert self.process.stdin is not None
        self.process.stdin.write(code + "\n")
        self.process.stdin.flush()

    def answer(self) -> Any:
        """Wait for the value of what it evaluates."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline() or '"it died"')

    def do(self, code: str) -> Any:
        """Let it evaluate something, and wait for the value."""
        self.begin(code)
        return self.answer()

    def end(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def vault(mount_dir: Path, tmp_path: Path) -> Iterator[Vault]:
    """A vault with some forks, each of which holds the file `a`."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"one\n")
    with (
        Avfs(mount_dir / "home", identity=ADA, lock_timeout_s=5) as avfs,
        avfs.create_vault("v", source=source) as made,
    ):
        for name in FORKS:
            made.fork(name).close()
        yield made
        for info in made.sessions():
            with contextlib.suppress(AvfsError):
                found = made.find_session(info.fork)
                if found is not None:
                    found.unmount(force=True)


@pytest.fixture
def trees(mount_dir: Path) -> Path:
    """Where forks are mounted, each by its name."""
    return mount_dir / "trees"


@pytest.fixture
def starter(vault: Vault, mount_dir: Path, trees: Path) -> Iterator[Starter]:
    """Somebody who mounts."""
    made = Starter(mount_dir / "home", trees)
    yield made
    made.end()


def status_of(pid: int) -> dict[str, str]:
    """Read what the system says of a process."""
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def nursery_of(session: int) -> int | None:
    """Find the nursery that a session comes from.

    None if it was started as a program of its own, or its nursery is gone.
    """
    parent = int(status_of(session)["PPid"])
    try:
        words = Path(f"/proc/{parent}/cmdline").read_bytes().split(b"\0")
    except OSError:  # outside of the namespace
        return None
    return parent if b"nursery" in words else None


def await_death(pid: int, started: int | None) -> None:
    """Wait until a process is gone that was started then."""
    wait_for(lambda: start_time(pid) != started or status_of(pid)["State"].startswith("Z"))


def test_sessions_of_one_process_come_from_one_nursery(starter: Starter, trees: Path) -> None:
    """The first one does, too.

    The nursery holds nothing, and the list of processes shows a session as if it were a program.
    """
    first, second = starter.do("mount('one')"), starter.do("mount('two')")

    nursery = nursery_of(first)
    assert nursery is not None
    assert nursery_of(second) == nursery
    assert os.readlink(f"/proc/{nursery}/cwd") == "/"
    assert len(os.listdir(f"/proc/{nursery}/fd")) == 4  # standard ones, and the socket
    for pid, fork in ((first, "one"), (second, "two")):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        assert words == [os.fsencode(word) for word in own_program(fork, str(trees / fork))[0]]
        assert (trees / fork / "a").read_bytes() == b"one\n"
        assert os.getsid(pid) == pid


def test_nursery_is_nobodys_child(starter: Starter) -> None:
    """A program that waits for all its children does not wait for it."""
    assert nursery_of(starter.do("mount('one')")) is not None

    assert starter.do("open(f'/proc/self/task/{os.getpid()}/children').read()") == ""


def test_nursery_ends_with_its_starter_and_sessions_do_not(starter: Starter, vault: Vault, trees: Path) -> None:
    """Killed in the middle of something, the starter leaves its sessions, and nothing else."""
    session = starter.do("mount('one')")
    nursery = nursery_of(session)
    assert nursery is not None
    started = start_time(nursery)

    starter.end()

    await_death(nursery, started)
    (trees / "one" / "b").write_bytes(b"two\n")
    assert vault.workspace("one").read("b") == b"two\n"
    (found,) = vault.sessions()
    assert found.pid == session
    vault.find_session("one").unmount()  # type: ignore[union-attr]
    assert vault.sessions() == []


def test_nursery_that_was_killed_is_followed_by_another(starter: Starter, trees: Path) -> None:
    """Sessions that came from it go on."""
    first = starter.do("mount('one')")
    nursery = nursery_of(first)
    assert nursery is not None
    started = start_time(nursery)
    os.kill(nursery, signal.SIGKILL)
    await_death(nursery, started)

    second = starter.do("mount('two')")

    assert nursery_of(second) not in (None, nursery)
    assert [(trees / fork / "a").read_bytes() for fork in ("one", "two")] == [b"one\n"] * 2


def test_nursery_that_dies_with_a_request_costs_nothing(starter: Starter, trees: Path) -> None:
    """Who asked it asks another."""
    nursery = nursery_of(starter.do("mount('one')"))
    assert nursery is not None
    os.kill(nursery, signal.SIGSTOP)
    try:
        wait_for(lambda: status_of(nursery)["State"].startswith("T"))
        starter.begin("mount('two')")
        wait_for(lambda: any("avfs-said" in name for name in open_files_of(starter.process.pid)))
    finally:
        os.kill(nursery, signal.SIGKILL)

    assert nursery_of(starter.answer()) not in (None, nursery)
    assert (trees / "two" / "a").read_bytes() == b"one\n"


def open_files_of(pid: int) -> Iterator[str]:
    """Name what a process has open."""
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # it has just been closed
            yield os.readlink(f"/proc/{pid}/fd/{number}")


def test_nursery_ends_when_nobody_asks_it(tmp_path: Path) -> None:
    """What is idle goes."""
    program, path = own_program("", "")
    nursery = Nursery(program[:-2], path, idle_s=0.01)

    wait_for(nursery.is_gone)
    nursery.close()


def test_threads_share_a_nursery(starter: Starter, trees: Path) -> None:
    """Also where all of them are the first."""
    sessions = starter.do(f"[*ThreadPoolExecutor(6).map(mount, {FORKS})]")

    assert len({nursery_of(session) for session in sessions} - {None}) == 1
    assert {fork: (trees / fork / "a").read_bytes() for fork in FORKS} == dict.fromkeys(FORKS, b"one\n")


def test_thread_that_ends_takes_nothing_with_it(starter: Starter, trees: Path) -> None:
    """A nursery belongs to the process, not to the thread that began it."""
    nursery = nursery_of(starter.do("mount_in_thread('one')"))

    assert nursery is not None
    assert nursery_of(starter.do("mount_in_thread('two')")) == nursery


def test_fork_of_the_starter_has_its_own(starter: Starter, trees: Path) -> None:
    """It neither asks that of the process it comes from, nor keeps it."""
    before = nursery_of(starter.do("mount('one')"))
    inner = starter.do("in_fork(lambda: mount('two'))")
    after = nursery_of(starter.do("mount('three')"))

    assert nursery_of(inner) is None  # it went with the fork, which is over
    assert before == after is not None
    assert (trees / "two" / "a").read_bytes() == b"one\n"


def test_nursery_that_was_begun_early_serves(starter: Starter) -> None:
    """The sessions of the block, and those after it."""
    first = starter.do("early(lambda: mount('one'))")
    second = starter.do("mount('two')")

    assert nursery_of(first) == nursery_of(second) is not None


def test_nursery_that_was_begun_for_nothing_ends(starter: Starter) -> None:
    """It goes with the block."""
    assert starter.do("early(has_nursery)") is True
    assert starter.do("has_nursery()") is False
    assert nursery_of(starter.do("mount('one')")) is not None


def test_nursery_is_not_begun_early_where_it_will_not_be_needed(starter: Starter, trees: Path) -> None:
    """What is mounted tells."""
    starter.do("mount('one')")
    starter.do("nursery_client.let_go()")

    assert starter.do("early(has_nursery, unless_mounted=(trees.parent, 'trees'))") is False
    assert starter.do("early(has_nursery, unless_mounted=(trees, 'elsewhere'))") is True


def test_umask_is_that_of_the_starter_now(starter: Starter) -> None:
    """What is given to a process when it starts does not need another nursery."""
    first = starter.do("mount('one')")
    starter.do("os.umask(0o077)")
    second = starter.do("mount('two')")

    assert [status_of(pid)["Umask"] for pid in (first, second)] == ["0022", "0077"]
    assert nursery_of(first) == nursery_of(second) is not None


def test_directory_of_the_starter_may_go(starter: Starter, mount_dir: Path) -> None:
    """Neither the nursery nor a session needs it."""
    gone = mount_dir / "gone"
    gone.mkdir()
    starter.do(f"os.chdir({str(gone)!r})")
    gone.rmdir()

    first, second = starter.do("mount('one')"), starter.do("mount('two')")

    assert nursery_of(first) == nursery_of(second)
    assert os.readlink(f"/proc/{second}/cwd") == "/"


@pytest.mark.parametrize(
    "change",
    [
        "os.nice(1)",
        "resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1] and 4096))",
        "open('/proc/self/oom_score_adj', 'w').write('500')",
        pytest.param(
            "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})",
            marks=pytest.mark.skipif(len(os.sched_getaffinity(0)) == 1, reason="there is one processor"),
        ),
        "sys.path.append('/nonexistent')",
    ],
)
def test_starter_that_changed_has_another_nursery(starter: Starter, change: str) -> None:
    """What a session inherits is what its starter passes on at that time."""
    first = nursery_of(starter.do("mount('one')"))
    starter.do(change)
    session = starter.do("mount('two')")
    second = nursery_of(session)

    assert None not in (first, second)
    assert first != second
    assert nursery_of(starter.do("mount('three')")) == second
    if "nice" in change:
        assert os.getpriority(os.PRIO_PROCESS, session) == os.getpriority(os.PRIO_PROCESS, starter.process.pid)


def test_descriptors_of_the_starter_are_not_kept(starter: Starter) -> None:
    """Also those that its programs inherit."""
    starter.do("globals().update(zip(('reading', 'writing'), os.pipe()))")
    starter.do("os.set_inheritable(writing, True)")
    assert nursery_of(starter.do("mount('one')")) is not None

    assert starter.do("(os.close(writing), os.read(reading, 1).decode())")[1] == ""


def test_leash_of_one_session_is_not_held_by_another(starter: Starter, vault: Vault) -> None:
    """A session that came later from the same nursery does not keep one alive, and does not end with it."""
    starter.do("globals().update(zip(('leash', 'hand'), os.pipe()))")
    starter.do("mount('one', leash_fd=leash)")
    starter.do("mount('two')")

    starter.do("(os.close(hand), os.close(leash))")

    wait_for(lambda: [info.fork for info in vault.sessions()] == ["two"])


def test_error_of_a_session_comes_back(starter: Starter, vault: Vault, trees: Path) -> None:
    """Who asked for what cannot be hears why; others are not concerned."""
    trees.mkdir()
    (trees / "one").write_bytes(b"a file\n")
    starter.begin("mount('one')")

    assert starter.answer() == "it died"  # of the error
    starter.process.wait()
    assert vault.sessions() == []


class TestRights:
    """A starter that gives up what it may do does not get it back through its nursery."""

    pytestmark = pytest.mark.needs("root")

    def test_capability(self, starter: Starter) -> None:
        """A capability that it dropped is dropped for its sessions."""
        first = starter.do("mount('one')")
        starter.do("libc.prctl(24, 36, 0, 0, 0)")  # PR_CAPBSET_DROP of CAP_BLOCK_SUSPEND
        second = starter.do("mount('two')")

        expected = status_of(starter.process.pid)["CapBnd"]
        assert status_of(second)["CapBnd"] == expected != status_of(first)["CapBnd"]

    def test_namespace(self, starter: Starter, trees: Path) -> None:
        """In another mount namespace it mounts there."""
        starter.do("mount('one')")
        # private from now on
        assert starter.do("libc.unshare(0x20000) or libc.mount(b'none', b'/', None, 0x44000, None)") == 0
        second = starter.do("mount('two')")

        ours, theirs = (os.stat(f"/proc/{pid}/ns/mnt").st_ino for pid in ("self", starter.process.pid))
        assert os.stat(f"/proc/{second}/ns/mnt").st_ino == theirs != ours
        assert not os.listdir(trees / "two")
        assert starter.do("sorted(os.listdir(trees / 'two'))") == [".git", "a"]


@pytest.mark.ordinary
def test_starter_that_cannot_be_looked_at_has_no_nursery(starter: Starter, trees: Path) -> None:
    """Its sessions are programs of their own."""
    starter.do("libc.prctl(4, 0, 0, 0, 0)")  # PR_SET_DUMPABLE
    if os.geteuid() == 0:
        pytest.skip("root may look at everybody")

    assert [nursery_of(starter.do(f"mount('{fork}')")) for fork in ("one", "two")] == [None, None]
    assert (trees / "two" / "a").read_bytes() == b"one\n"

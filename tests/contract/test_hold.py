"""Programs that use a mount, held for a moment: they change and lose nothing, and go on, whatever ends the hold."""

from __future__ import annotations

import os
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import pytest

from avfs_git import Avfs, faults
from avfs_git.host.mounts.mounts import Mounted, find_mount
from avfs_git.host.processes.hold import held
from tests.support.capabilities import mount
from tests.support.failing import DieAt
from tests.support.faults import die_in, make_source, make_vault
from tests.support.shown import mounted_layers, serving
from tests.support.users import ALICE
from tests.support.waiting import wait_for

pytestmark = pytest.mark.needs("root")

LONG_S = 600.0
WRITERS = {
    "works in it": ("tree", "while :; do echo x >>f; done"),
    "has a file open": ("/", "exec 3>>$TREE/f; while :; do echo x >&3; done"),
    "starts others": ("tree", "while :; do sh -c 'echo x >>f'; done"),
    "starts others beside it": ("tree", "while :; do (echo x >>f) & wait; done"),
    "in a pipe": ("tree", "yes | while read y; do echo $y; done >f"),
}
MAPPED = """
import mmap, os, sys, threading, time
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 8)
memory = mmap.mmap(fd, 8)
os.close(fd)
def work():
    number = 0
    while True:
        number += 1
        memory[:] = number.to_bytes(8, "little")
threading.Thread(target=work).start()
"""


@pytest.fixture
def place(mount_dir: Path) -> Mounted:
    """A mount."""
    tree = mount_dir / "tree"
    tree.mkdir()
    assert mount("tmpfs", tree, "tmpfs", "mode=1777")
    mounted = find_mount(tree)
    assert mounted is not None
    return mounted


@contextmanager
def running(tree: Path, *argv: str, cwd: str = "tree", user: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program, and kill it with all that it started."""
    env = {**os.environ, "TREE": str(tree)}
    where = tree if cwd == "tree" else Path(cwd)
    process = subprocess.Popen(argv, cwd=where, env=env, user=user, start_new_session=True)
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def goes_on(file: Path, process: subprocess.Popen[bytes] | None = None) -> None:
    """Wait until a file changes, or the process ends that changes it."""
    wait_for(file.exists)
    before = look(file)
    wait_for(lambda: look(file) != before or (process is not None and process.poll() is not None))


def look(file: Path) -> tuple[int, bytes]:
    """Read what a writer changes."""
    with file.open("rb") as opened:
        return file.stat().st_ctime_ns, opened.read(8)


def stands(file: Path) -> bool:
    """Whether a file stays as it is for some time."""
    before = look(file)
    time.sleep(0.05)
    return look(file) == before


@pytest.mark.parametrize("way", [*WRITERS, "has it mapped", "another user"])
def test_a_writer_is_held_and_goes_on(place: Mounted, way: str) -> None:
    """It changes nothing while it is held, whatever it has of the mount; then it goes on, and can be held again."""
    tree = place.directory
    cwd, text = WRITERS.get(way, ("tree", WRITERS["works in it"][1]))
    argv = [sys.executable, "-c", MAPPED, f"{tree}/f"] if way == "has it mapped" else ["/bin/sh", "-c", text]
    with running(
        tree, *argv, cwd="/" if way == "has it mapped" else cwd, user=ALICE if way == "another user" else None
    ):
        for _ in range(3):
            goes_on(tree / "f")
            with held([place.number], place.device, most_s=LONG_S):
                assert stands(tree / "f")
        goes_on(tree / "f")


def state_of(process: subprocess.Popen[bytes]) -> str:
    """Tell the state of a process: proc_pid_stat(5)."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0]


def find_holder() -> int:
    """Find the process that holds."""
    pid = os.getpid()
    children = [
        child
        for task in os.listdir("/proc/self/task")
        for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
    ]
    return next(int(child) for child in children if b"hold.py" in Path(f"/proc/{child}/cmdline").read_bytes())


@pytest.mark.parametrize("end", ["killed", "stopped for too long"])
def test_nothing_stays_held(place: Mounted, end: str) -> None:
    """A holder that is killed, or that nobody ends, lets all go on."""
    tree = place.directory
    with running(tree, "/bin/sh", "-c", WRITERS["starts others"][1]):
        goes_on(tree / "f")
        with held([place.number], place.device, most_s=LONG_S if end == "killed" else 0.1):
            if end == "killed":
                assert stands(tree / "f")
                os.kill(find_holder(), signal.SIGKILL)
            goes_on(tree / "f")


def test_nothing_stays_held_where_the_process_that_asked_is_killed(place: Mounted) -> None:
    """The holder ends with the process that started it."""
    tree = place.directory
    text = (
        "import sys; from avfs_git.host.processes.hold import held\n"
        f"with held([{place.number}], {place.device}, most_s={LONG_S}): print('held', flush=True); sys.stdin.read()"
    )
    with running(tree, "/bin/sh", "-c", WRITERS["starts others"][1]):
        goes_on(tree / "f")
        asking = subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert asking.stdout is not None
        assert asking.stdout.readline() == b"held\n"
        assert stands(tree / "f")
        asking.kill()
        asking.communicate()
        goes_on(tree / "f")


def test_where_nothing_can_be_started_nothing_is_held(place: Mounted) -> None:
    """A caller without a descriptor left gets its block run all the same."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with running(place.directory, "/bin/sh", "-c", WRITERS["works in it"][1]):
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
        try:
            with held([place.number], place.device, most_s=LONG_S):
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                goes_on(place.directory / "f")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_what_stops_the_process_group_does_not_stop_the_holder(place: Mounted) -> None:
    """Stopped with the one that asked, it would hold programs for as long: its timer would not end it."""
    with running(place.directory, "sleep", "60"), held([place.number], place.device, most_s=LONG_S):
        assert os.getpgid(find_holder()) != os.getpgrp()


def test_no_parent_is_told(place: Mounted) -> None:
    """A parent sees its child neither stop nor go on; a stopped one stays stopped.

    A killed one has ended as it would have.
    """
    tree = place.directory
    told = os.WSTOPPED | os.WCONTINUED | os.WEXITED | os.WNOHANG | os.WNOWAIT
    with (
        running(tree, "sleep", "1000") as one,
        running(tree, "sleep", "1000") as stopped,
        running(tree, "sleep", "1000") as dies,
    ):
        stopped.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, stopped.pid, os.WSTOPPED)
        for _ in range(3):
            with held([place.number], place.device, most_s=LONG_S):
                assert state_of(one) == "t"
                assert os.waitid(os.P_PID, one.pid, told) is None
            assert os.waitid(os.P_PID, one.pid, told) is None
            wait_for(lambda: state_of(one) == "S")
            assert os.waitid(os.P_PID, stopped.pid, told) is None
            wait_for(lambda: state_of(stopped) == "T")
        with held([place.number], place.device, most_s=LONG_S):
            dies.terminate()
            one.kill()
            stopped.send_signal(signal.SIGCONT)
        assert dies.wait() == -signal.SIGTERM
        assert one.wait() == -signal.SIGKILL
        wait_for(lambda: state_of(stopped) == "S")


def test_signals_are_not_lost(place: Mounted) -> None:
    """Each signal that comes around and during a hold arrives, once."""
    tree = place.directory
    text = (
        "import os, signal, sys\nsignal.pthread_sigmask(signal.SIG_BLOCK, {34})\nprint(flush=True)\n"
        "for number in range(200): print(signal.sigwaitinfo({34}).si_signo, flush=True)"
    )
    with subprocess.Popen([sys.executable, "-c", text], cwd=tree, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(4):
            for _ in range(25):
                os.kill(process.pid, 34)
            with held([place.number], place.device, most_s=LONG_S):
                for _ in range(25):
                    os.kill(process.pid, 34)
        assert process.stdout.read().split() == [b"34"] * 200


HANDLED = """
import os, signal, sys
got = 0
def count(number, frame):
    global got
    got += 1
signal.signal(34, count)
with open("f", "wb", buffering=0) as file:
    for sent in range(1, 1 << 40):
        os.kill(os.getpid(), 34)
        for _ in range(100):
            if got == sent:
                break
        else:
            sys.exit(f"{sent} sent, {got} came")
        file.write(b"x")
"""


def test_a_signal_that_is_on_its_way_is_not_lost(place: Mounted) -> None:
    """A program is held at the moment that a signal comes to it, too: it gets the signal when it goes on."""
    file = place.directory / "f"
    with running(place.directory, sys.executable, "-c", HANDLED) as process:
        for _ in range(60):
            goes_on(file, process)
            assert process.poll() is None
            with held([place.number], place.device, most_s=LONG_S):
                assert state_of(process) == "t"


@pytest.mark.needs("strace")
@pytest.mark.parametrize("where", ["tree", "/"])
def test_a_traced_program_goes_on(place: Mounted, where: str) -> None:
    """What a tracer has cannot be held, and nothing waits for it.

    A tracer in the mount is held, and what it traces with it.
    """
    tree = place.directory
    text = "cd $TREE; while :; do echo x >>f; done"
    with running(tree, "strace", "-f", "-o", os.devnull, "/bin/sh", "-c", text, cwd=where):
        goes_on(tree / "f")
        with held([place.number], place.device, most_s=LONG_S):
            if where == "tree":
                assert stands(tree / "f")
            else:
                goes_on(tree / "f")
        goes_on(tree / "f")


# --- checkpoints ------------------------------------------------------------------------------------------------------

DATABASE = """
import os, sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
db.execute(f"pragma journal_mode={sys.argv[2]}"), db.execute("pragma synchronous=off")
db.execute("create table t(number integer primary key, content blob)"), db.execute("create index i on t(content)")
while True:
    db.execute("begin immediate")
    for _ in range(3):
        db.execute("insert into t(content) values(?)", (os.urandom(200),))
    db.execute("delete from t where number <= (select max(number) from t) - 1000")
    db.execute("commit")
"""


@pytest.fixture
def shown(tmp_path: Path, mount_dir: Path) -> Iterator[tuple[Path, Path]]:
    """A vault whose fork `work` the kernel's overlayfs shows; gives its home and where it is mounted."""
    vault = make_vault(tmp_path / "home", make_source(tmp_path / "source"))
    tree = mount_dir / "tree"
    with mounted_layers(vault, tmp_path / "source", tree):
        vault.close()
        yield tmp_path / "home", tree


@pytest.mark.slow
@pytest.mark.needs("overlayfs", "git", "user-xattrs", "whiteout")
@pytest.mark.parametrize("journal", ["wal", "delete"])
def test_a_database_that_is_written_without_a_pause_is_whole(shown: tuple[Path, Path], journal: str) -> None:
    """A checkpoint without the warning holds it as it was at one moment, and it comes to such a checkpoint."""
    home, tree = shown
    wholes = 0
    with running(tree, sys.executable, "-c", DATABASE, f"{tree}/db", journal, cwd="/"):
        goes_on(tree / "db")
        with serving(home, tree) as work:
            while wholes < 3:
                label = f"at-{time.monotonic_ns()}"
                saved = work.checkpoint(label)
                if "capture.per_file" in {warning.code for warning in saved.warnings}:
                    continue
                wholes += 1
                copy = home.parent / label
                copy.mkdir()
                with (
                    Avfs(home) as avfs,
                    avfs.open_vault("v") as vault,
                    vault.fork(label, source="work", at=label) as fork,
                ):
                    for name in ("db", "db-wal", "db-journal"):
                        if fork.exists(name):
                            (copy / name).write_bytes(fork.read(name))
                with closing(sqlite3.connect(copy / "db")) as db:
                    assert db.execute("pragma integrity_check").fetchall() == [("ok",)]


@pytest.mark.slow
@pytest.mark.needs("overlayfs", "git", "user-xattrs", "whiteout")
def test_a_server_that_dies_while_it_holds_programs(shown: tuple[Path, Path]) -> None:
    """They go on, and the next server saves what they wrote."""
    home, tree = shown
    with running(tree, sys.executable, "-c", DATABASE, f"{tree}/db", "wal"):
        goes_on(tree / "db-wal")

        def run() -> None:
            with serving(home, tree) as work:
                die = DieAt(1)
                faults.arm(lambda point: die(point) if point == "capture.held" else None)
                work.checkpoint()

        assert die_in(run, 0)
        goes_on(tree / "db-wal")
        with serving(home, tree) as work:
            assert work.checkpoint().outcome == "created"

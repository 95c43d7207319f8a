"""A session goes on with another program: what programs, clients and the lock notice of that, and what happens if it fails."""

from __future__ import annotations

import fcntl
import itertools
import mmap
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

import avfs_git
from avfs_git import Avfs, Session, Vault
from avfs_git.errors import SessionRestarting, UpgradeFailed
from avfs_git.model import SessionState
from avfs_git.paths import TreePath
from avfs_git.session.ask_upgrade import upgrade_session
from avfs_git.session.client import Connection
from avfs_git.session.record import SessionPlace
from tests.support.faults import check_vault, read_files
from tests.support.killed_session import work_through_upgrades
from tests.support.live_tree import ADA, describe, mode_and_content

pytestmark = [pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"), pytest.mark.slow, pytest.mark.usefixtures("person")]

FORK = "work"


@pytest.fixture
def vault(mount_dir: Path) -> Iterator[Vault]:
    """A vault with a fork of some files, whose sessions end with the test."""
    with Avfs(mount_dir / "home", identity=ADA, lock_timeout_s=60) as avfs, avfs.create_vault("v") as made:
        work = made.fork(FORK)
        for number in range(50):
            work.write(b"d%d/f" % number, b"%d\n" % number * 1000)
        work.checkpoint("start")
        yield made


@pytest.fixture
def session(vault: Vault, mount_dir: Path) -> Iterator[Session]:
    """That fork, mounted."""
    made = vault.workspace(FORK).mount(mount_dir / "tree")
    try:
        yield made
    finally:
        made.unmount(force=True)  # a test that failed may have left something open
    made.wait()
    assert not (mount_dir / "tree").exists()


def served(session: Session) -> int:
    """Tell the process that serves it now."""
    connection = Connection(place(session).socket, 60)
    try:
        return connection.served.pid
    finally:
        connection.close()


def place(session: Session) -> SessionPlace:
    """Find its files."""
    return SessionPlace(session.vault.path / "avfs" / "sessions", session.id)


@contextmanager
def repeated(*functions: Callable[[int], None]) -> Iterator[None]:
    """Call functions again and again, each in a thread, for as long as the block takes; raises what they do."""
    errors: list[BaseException] = []
    stop = threading.Event()

    def run(function: Callable[[int], None]) -> None:
        try:
            for number in itertools.count():
                if stop.is_set():
                    return
                function(number)
        except BaseException as error:  # noqa: BLE001 - raised below, in the thread that waits
            errors.append(error)

    threads = [threading.Thread(target=run, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def test_programs_and_clients_notice_a_pause(session: Session, vault: Vault) -> None:
    """Who reads, writes, renames and asks the session goes on over upgrades without an error; then all is as they left it."""
    tree, work = session.path, vault.workspace(FORK)
    lock = os.open(next((vault.path / "avfs" / "workspaces").rglob("lock")), os.O_RDONLY)
    counted = {"written": 0, "asked": 0}

    def read(number: int) -> None:
        at = number % 50
        assert (tree / f"d{at}" / "f").read_bytes() == b"%d\n" % at * 1000
        os.utime(tree / f"d{at}" / "f")  # so that the next reader asks

    def write(number: int) -> None:
        (tree / "new").write_bytes(b"%d" % number * 10_000)
        os.rename(tree / "new", tree / f"n{number % 20}")
        counted["written"] = number

    def ask(number: int) -> None:
        work.write(b"client/%d" % (number % 10), b"%d" % number)
        assert work.read(b"client/%d" % (number % 10)) == b"%d" % number
        if number % 10 == 0:
            work.checkpoint()
        counted["asked"] = number

    def keep_out(_: int) -> None:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        time.sleep(0.001)

    servers, pid, rounds = {served(session)}, session.info().pid, 4
    with repeated(read, write, ask, keep_out):
        for _ in range(rounds):
            before = dict(counted)
            result = session.upgrade()
            servers.add(served(session))

            assert (result.before, result.after) == (avfs_git.__version__,) * 2
            assert (result.session.pid, result.session.state) == (pid, SessionState.MOUNTED)
            end = time.monotonic() + 60
            while any(counted[name] <= before[name] for name in counted) and time.monotonic() < end:
                time.sleep(0.01)
    os.close(lock)

    assert len(servers) == rounds + 1
    assert counted["asked"] > 0
    shown = {path: mode_and_content(about) for path, about in describe(tree).items() if path != b".git"}
    work.checkpoint("after")
    with vault.fork("copy", source=FORK, with_changes=False) as copy:
        assert {path: (mode, content) for path, (_, mode, content) in read_files(copy).items()} == shown
    check_vault(vault)


def test_real_programs_go_on(mount_dir: Path) -> None:
    """A build, a clone and a reader of checksums, and a client that writes: no error, every byte right, the checkpoint whole."""
    upgrades, client = work_through_upgrades(mount_dir, 4.0, 0.5, "read", "build", "clone")

    assert upgrades > 0
    assert client.unknown == 0


def test_open_files_stay(session: Session) -> None:
    """A file that is open, unlinked or mapped, and a directory that somebody stands in, are the same afterwards."""
    tree = session.path
    kept = os.open(tree / "d1" / "f", os.O_RDWR)
    gone = os.open(tree / "d2" / "f", os.O_RDWR)
    os.unlink(tree / "d2" / "f")
    directory = os.open(tree / "d3", os.O_RDONLY)
    mapped = mmap.mmap(kept, 0)
    mapped[0:1] = b"M"
    before = [os.fstat(fd).st_ino for fd in (kept, gone, directory)]

    for _ in range(2):
        session.upgrade()

        assert [os.fstat(fd).st_ino for fd in (kept, gone, directory)] == before
        assert os.pread(gone, 2, 0) == b"2\n"
        assert os.listdir(directory) == ["f"]
        assert mapped[:3] == b"M\n1"

    mapped[1:2] = b"N"
    mapped.flush()
    os.pwrite(gone, b"x", 0)

    assert (tree / "d1" / "f").read_bytes()[:2] == b"MN"
    assert os.pread(gone, 1, 0) == b"x"
    mapped.close()
    for fd in (kept, gone, directory):
        os.close(fd)


def altered(directory: Path, module: str, line: str) -> tuple[tuple[str, ...], list[str]]:
    """Make another version of avfs, in which a module ends with a line; gives how a session runs it."""
    source = Path(avfs_git.__file__).parent
    package = directory / "other" / "avfs_git"
    shutil.copytree(source, package, ignore=shutil.ignore_patterns("__pycache__"))
    with (package / module).open("a") as file:
        file.write(f"\n{line}\n")
    return (sys.executable, "-I", "-S", str(package / "session" / "__main__.py"), FORK, "there"), [str(package.parent), *sys.path]


@pytest.mark.parametrize(
    ("module", "line", "said"),
    [
        ("session/process.py", "raise RuntimeError('broken on import')", "broken on import"),
        ("session/upgrade.py", "import os; os._exit(3)", ""),
        ("session/__main__.py", "syntax error", "SyntaxError"),
    ],
    ids=["import", "exit", "syntax"],
)
def test_what_does_not_start_changes_nothing(session: Session, tmp_path: Path, module: str, line: str, said: str) -> None:
    """A program that cannot go on is found out beside the one that serves, which goes on; the error has what it said."""
    before = served(session)
    with pytest.raises(UpgradeFailed) as caught:
        upgrade_session(session._found, wait_s=60, program=altered(tmp_path, module, line))

    assert said in str(caught.value.details["log"])
    assert served(session) == before
    (session.path / "new").write_bytes(b"new")
    session.upgrade()

    assert (session.path / "new").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("session/process.py", "if os.getsid(0) == os.getpid(): raise RuntimeError('not here')"),
        ("session/process.py", "_go_on = os._exit"),
        ("fuse/server.py", "TreeServer.serve = lambda _: os._exit(9)"),
        ("fuse/server.py", "TreeServer.serve = lambda _: os.kill(os.getppid(), 9)"),
    ],
    ids=["import", "begin", "server", "supervisor"],
)
def test_what_dies_before_it_serves_is_taken_back(session: Session, tmp_path: Path, module: str, line: str) -> None:
    """Where a program was tried, and fails when it matters, the one before goes on: open files and clients notice a pause."""
    file = os.open(session.path / "d1" / "f", os.O_RDWR)
    pid = session.info().pid
    with pytest.raises(UpgradeFailed):
        upgrade_session(session._found, wait_s=60, program=altered(tmp_path, module, line))
    info = session.info()

    assert (info.state, info.pid != pid) == (SessionState.MOUNTED, True)
    assert os.pread(file, 2, 0) == b"1\n"
    os.pwrite(file, b"x", 0)
    os.close(file)
    work = session.vault.workspace(FORK)

    assert work.read(b"d1/f")[:2] == b"x\n"
    session.upgrade()

    assert session.info().pid == info.pid
    work.write(b"later", b"later")

    assert (session.path / "later").read_bytes() == b"later"


def test_what_has_no_workspace_is_refused(vault: Vault, mount_dir: Path) -> None:
    """Mounts that show commits say that they are to be mounted again, and stay."""
    with vault.mount(mount_dir / "all") as whole, vault.workspace(FORK).mount(mount_dir / "ro", readonly=True) as readonly:
        for session in (whole, readonly):
            with pytest.raises(UpgradeFailed, match="commits") as caught:
                session.upgrade()

            assert "mount it again" in (caught.value.hint or "")
        assert (mount_dir / "ro" / "d1" / "f").read_bytes()[:2] == b"1\n"
        assert FORK in os.listdir(mount_dir / "all" / "forks")
    for session in (whole, readonly):
        session.wait()


def test_the_leash_still_holds(vault: Vault, mount_dir: Path) -> None:
    """A mount that goes with whoever asked for it still does, after an upgrade."""
    leash, hand = os.pipe()
    session = vault.workspace(FORK).mount(mount_dir / "tree", leash_fd=leash)
    os.close(leash)
    session.upgrade()

    assert (session.path / "d1" / "f").exists()
    os.close(hand)
    session.wait()

    assert not (mount_dir / "tree").exists()


def test_several_who_ask_at_once_get_it(session: Session) -> None:
    """Each upgrade that was asked for is done, one after the other."""
    with ThreadPoolExecutor(4) as pool:
        done = [future.result() for future in [pool.submit(session.upgrade) for _ in range(4)]]

    assert {result.after for result in done} == {avfs_git.__version__}
    assert (session.path / "d1" / "f").read_bytes()[:2] == b"1\n"


def test_who_waits_is_told_to_ask_again(session: Session) -> None:
    """A request that waits behind an upgrade is answered that nothing was done; asked again, it is done."""
    with ThreadPoolExecutor(1) as pool, closing(Connection(place(session).socket, 60)) as connection:
        upgraded = pool.submit(session.upgrade)

        def ask_for_ever() -> NoReturn:
            while True:
                connection.ask("exists", {"path": TreePath}, {"path": TreePath(b"d1/f")}, bool)

        with pytest.raises(SessionRestarting, match="being upgraded"):
            ask_for_ever()
        upgraded.result()
    with closing(Connection(place(session).socket, 60)) as connection:
        assert connection.ask("exists", {"path": TreePath}, {"path": TreePath(b"d1/f")}, bool)

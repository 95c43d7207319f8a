"""A session goes on with another program: what programs, clients and the lock notice of that, and what happens if it fails."""

from __future__ import annotations

import fcntl
import itertools
import mmap
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NoReturn

import pytest

import avfs_git
from avfs_git import Avfs, Session, Vault
from avfs_git.errors import SessionFailed, SessionRestarting, UpgradeFailed
from avfs_git.model import SessionBackend, SessionState
from avfs_git.paths import TreePath
from avfs_git.session.ask_upgrade import upgrade_session
from avfs_git.session.client import Connection
from avfs_git.session.record import SessionPlace
from tests.support.faults import check_vault, read_files
from tests.support.killed_session import work_through_upgrades
from tests.support.live_tree import ADA, describe, mode_and_content
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"), pytest.mark.slow, pytest.mark.usefixtures("person")]

FORK = "work"
_OVERLAY = pytest.param("overlay", marks=pytest.mark.needs("root", "overlayfs"))


@pytest.fixture(params=["fuse", _OVERLAY])
def backend(request: pytest.FixtureRequest) -> str:
    """How it is mounted."""
    return str(request.param)


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
def session(vault: Vault, mount_dir: Path, backend: str) -> Iterator[Session]:
    """That fork, mounted."""
    made = vault.workspace(FORK).mount(mount_dir / "tree", backend=backend)
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


def test_real_programs_go_on(mount_dir: Path, backend: str) -> None:
    """A build, a clone and a reader of checksums, and a client that writes: no error, every byte right, the checkpoint whole."""
    upgrades, client = work_through_upgrades(mount_dir, 4.0, 0.5, "read", "build", "clone", backend=backend)

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


_SERVER = """
TreeServer.serve = lambda _: {0}
Session.be_ready = lambda self, *_, **__: {0} if self.is_overlay else None
"""


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("session/process.py", "if os.getsid(0) == os.getpid(): raise RuntimeError('not here')"),
        ("session/process.py", "_go_on = os._exit"),
        ("session/process.py", _SERVER.format("os._exit(9)")),
        ("session/process.py", _SERVER.format("os.kill(os.getppid(), 9) or signal.pause()")),
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


def test_the_leash_still_holds(vault: Vault, mount_dir: Path, backend: str) -> None:
    """A mount that goes with whoever asked for it still does, after an upgrade."""
    leash, hand = os.pipe()
    session = vault.workspace(FORK).mount(mount_dir / "tree", backend=backend, leash_fd=leash)
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


# --- on overlayfs: the mount needs no process ----------------------------------------------------------------------------


class Gap:
    """An upgrade that is halfway: the program before is gone, and the other one waits until the block ends."""

    def __init__(self, session: Session, directory: Path) -> None:
        self._session = session
        self._came, self._go = directory / "came", directory / "go"
        line = f"""
if os.getsid(0) == os.getpid():
    import time
    open({str(self._came)!r}, "x").close()
    while not os.path.exists({str(self._go)!r}):
        time.sleep(0.01)
"""
        self._program = altered(directory, "session/process.py", line)

    @contextmanager
    def within(self, *errors: type[Exception]) -> Iterator[None]:
        """Be in the middle of it; afterwards it has worked, or has failed with one of these errors where there are any."""
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(upgrade_session, self._session._found, wait_s=60, program=self._program)
            try:
                wait_for(lambda: self._came.exists() or running.done())
                assert not running.done()
                yield
            finally:
                self._go.touch()
            if errors:
                with pytest.raises(errors):
                    running.result()
            else:
                running.result()


def holders(path: Path) -> set[int]:
    """List the processes that have a file open."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(os.readlink(fd) == str(path) for fd in (process / "fd").iterdir()):
                found.add(int(process.name))
    return found


@pytest.mark.parametrize("backend", [_OVERLAY])
def test_programs_on_overlayfs_do_not_wait(session: Session, vault: Vault, tmp_path: Path) -> None:
    """While no process attends to the tree they read, write and ask git, whose index is that of the branch."""
    tree, work = session.path, vault.workspace(FORK)
    git = ["git", "-C", str(tree), "status", "--porcelain"]
    assert subprocess.check_output(git) == b""
    work.write(b"before", b"before")
    work.checkpoint("the index is behind")
    pid, server = session.info().pid, served(session)
    with Gap(session, tmp_path).within():
        assert not Path(f"/proc/{server}").exists()
        assert subprocess.check_output(git) == b""
        assert (tree / "d40" / "f").read_bytes() == b"40\n" * 1000
        (tree / "d41" / "f").write_bytes(b"within")
        os.rename(tree / "before", tree / "renamed")
    assert (session.info().pid, session.info().state) == (pid, SessionState.MOUNTED)
    assert served(session) != server
    [base] = [info.id for info in vault.sessions() if info.at is not None]
    assert pid in holders(SessionPlace(vault.path / "avfs" / "sessions", base).users)  # so that it stays

    work.checkpoint("after")
    assert subprocess.check_output(git) == b""
    with vault.fork("copy", source=FORK, with_changes=False) as copy:
        assert (copy.read(b"d41/f"), copy.read(b"renamed"), copy.exists(b"before")) == (b"within", b"before", False)
    check_vault(vault)


@pytest.mark.parametrize("backend", [_OVERLAY])
def test_whose_processes_are_all_killed_in_between_is_attended_to(session: Session, vault: Vault, tmp_path: Path) -> None:
    """The program that was begun, and the one that would take its place: the mount stays, and the next command goes on."""
    with Gap(session, tmp_path).within(UpgradeFailed):
        found = holders(place(session).lock)
        assert session.info().pid in found
        assert len(found) > 1
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        # Not only until nobody has it open: the kernel lets go of a lock a little after it has closed the files.
        wait_for(lambda: session.info().state is SessionState.UNATTENDED)
        (session.path / "new").write_bytes(b"new")
    assert [change.path for change in vault.workspace(FORK).status().changed_files] == [b"new"]
    assert session.info().state is SessionState.MOUNTED
    session.upgrade()
    assert vault.workspace(FORK).checkpoint().outcome == "created"


@pytest.mark.parametrize("backend", [_OVERLAY])
def test_what_is_unmounted_in_between_ends(session: Session, vault: Vault, tmp_path: Path) -> None:
    """The other program finds no mount, and the one before sees the end: the workspace is free, with all that was written."""
    with Gap(session, tmp_path).within(UpgradeFailed, SessionFailed):
        (session.path / "new").write_bytes(b"new")
        subprocess.run(["umount", session.path], check=True)
    session.wait()
    assert [info for info in vault.sessions() if info.at is None] == []
    assert vault.workspace(FORK).read(b"new") == b"new"


@pytest.mark.parametrize("backend", [_OVERLAY])
def test_what_programs_use_out_of_sight_is_refused(session: Session, vault: Vault) -> None:
    """Another program could not find the mount; the one that serves goes on until they are done."""
    before = served(session)
    with open(session.path / "held", "wb") as held:
        session.unmount(lazy=True)
        with pytest.raises(UpgradeFailed, match="programs still use it"):
            session.upgrade()
        assert served(session) == before
        held.write(b"held")
    session.wait()
    assert vault.workspace(FORK).read(b"held") == b"held"


@pytest.mark.parametrize("backend", [_OVERLAY])
def test_what_is_unattended_gets_a_process(session: Session, vault: Vault) -> None:
    """That of this version; then all is as after any upgrade."""
    found = holders(place(session).lock)
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: session.info().state is SessionState.UNATTENDED)
    (session.path / "new").write_bytes(b"new")
    result = session.upgrade()
    assert (result.after, result.session.state) == (avfs_git.__version__, SessionState.MOUNTED)
    assert (result.session.backend, result.session.pid in found) == (SessionBackend.OVERLAY, False)
    assert vault.workspace(FORK).read(b"new") == b"new"

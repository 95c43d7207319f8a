"""Who only looks waits for nobody, but for a restore or merge that is changing files; who waits is told for whom."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

from avfs_git import faults
from avfs_git.backends.lower import LowerMounts
from avfs_git.backends.tree import on_base
from avfs_git.errors import OutcomeUnknown, WorkspaceBusy
from avfs_git.host.mounts.mounts import list_mounts
from avfs_git.host.processes.processes import list_family, list_stopped
from avfs_git.model import FileDiff, SessionBackend, Warning
from avfs_git.paths import TreePath
from avfs_git.sdk import Avfs, Vault
from avfs_git.session.life.request import Request
from avfs_git.session.serve.start import start_session
from avfs_git.workspace.files.files import Files
from avfs_git.workspace.opened.beside import Disturbed, look_past
from avfs_git.workspace.vault.vault import OpenVault
from tests.support.session_process import Stay
from tests.support.waiting import wait_for

PROJECT = Path(__file__).parents[2]
_PROGRAM = (
    f"import sys; sys.path.insert(0, {str(PROJECT)!r}); from tests.support.session_process import main; "
    "main(*sys.argv[1:4])"
)
_FUSE = pytest.mark.needs("fuse", "user-xattrs", "whiteout")
_MOUNTED = [
    pytest.param(SessionBackend.FUSE, marks=_FUSE, id="fuse"),
    pytest.param(SessionBackend.PORTABLE, marks=[_FUSE, pytest.mark.needs("libfuse")], id="portable"),
]
_OVERLAY = pytest.param(SessionBackend.OVERLAY, marks=[_FUSE, pytest.mark.needs("root", "overlayfs")], id="overlay")
_UNMOUNTED = pytest.param(None, id="unmounted")
Start = Callable[[SessionBackend | None, str], Path]
"""Mounts the fork, if it is to be, so that who works on it stays at a point.

Gives the file that is there for so long.
"""


@pytest.fixture
def vault(mount_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    """A vault with a fork in which something is changed."""
    source = tmp_path / "source"
    (source / "dir").mkdir(parents=True)
    (source / "file").write_text("content\n")
    (source / "dir" / "other").write_text("other\n")
    monkeypatch.setenv("AVFS_HOME", str(mount_dir / "h"))
    with Avfs(mount_dir / "h") as avfs, avfs.create_vault("v", source=source) as vault:
        vault.fork("work").write("file", b"changed\n")
        yield vault
        for info in vault.sessions():
            if (found := vault.find_session(info.fork)) is not None and info.at is None:
                found.unmount(force=info.backend is not SessionBackend.OVERLAY)
    wait_for(lambda: not [mount for mount in list_mounts() if mount_dir in mount.directory.parents])


@pytest.fixture
def start(vault: Vault, mount_dir: Path) -> Iterator[Start]:
    """Mount the fork."""
    opened = OpenVault(vault.path, name="v")
    lowers = LowerMounts(opened, mount_dir / "lower" / ".lower", lock_timeout_s=5)
    flag = mount_dir / "stays"

    def mount(backend: SessionBackend | None, point: str) -> Path:
        if backend is None:
            faults.arm(Stay(point, flag))
            return flag
        request = Request(
            git_dir=os.fspath(vault.path),
            vault="v",
            fork="work",
            directory=os.fspath(mount_dir / "tree"),
            lock_timeout_s=5,
            backend=backend,
        )
        begin = partial(
            start_session,
            vault.path / "avfs" / "sessions",
            program=(sys.executable, "-P", "-c", _PROGRAM, "wait", point, str(flag)),
        )
        if backend is SessionBackend.OVERLAY:
            on_base(opened, lowers, request, begin)
        else:
            begin(request)
        return flag

    yield mount
    faults.arm(None)
    flag.unlink(missing_ok=True)
    lowers.close()
    opened.close()


@contextlib.contextmanager
def at_work(flag: Path, work: Callable[[], object]) -> Iterator[None]:
    """Have something done that stays at its point for as long as the block runs; then it is done to its end."""
    with ThreadPoolExecutor(1) as one:
        done = one.submit(work)
        try:
            wait_for(flag.exists)
            yield
            assert not done.done()
        finally:
            flag.unlink(missing_ok=True)
            done.result(60)


def avfs(*arguments: str) -> str:
    """Run the command line; give what it says."""
    argv = [sys.executable, "-m", "avfs_git", "--vault", "v@work", *arguments]
    return subprocess.run(argv, check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("point", ["capture.file_read", "checkpoint.packed"])
@pytest.mark.parametrize("backend", [*_MOUNTED, _OVERLAY, _UNMOUNTED])
def test_looking_goes_on_beside_a_checkpoint(
    vault: Vault, start: Start, mount_dir: Path, backend: SessionBackend | None, point: str
) -> None:
    """What is shown is what is there, and that it is not saved yet."""
    flag = start(backend, point)
    tree = mount_dir / "tree"
    with Avfs(mount_dir / "h", lock_timeout_s=3600) as home, at_work(flag, vault.workspace("work").checkpoint):
        if backend is not None:
            (tree / "new").write_text("by a program\n")
        expected = {b"file"} | ({b"new"} if backend is not None else set())
        other = home.open_vault("v")
        work = other.workspace("work")
        status, diff = work.status(), work.diff()
        assert {each.path for each in status.changed_files} == expected
        assert {each.change.path for each in diff.files} == expected
        assert "workspace.in_use" in {warning.code for warning in status.warnings}
        assert {info.path for info in work.list_dir("/")} == expected | {b"dir"}
        assert work.read("file") == b"changed\n"
        assert len(work.tree("/").children) == len(expected) + 1
        assert work.stat("file", with_oid=True).oid is not None
        assert [info.name for info in other.list_forks()]
        assert "workspace.busy" in {problem.code for problem in other.doctor().problems}
        told = work.export_path("file", mount_dir / "exported")
        assert (mount_dir / "exported").read_bytes() == b"changed\n"
        assert "workspace.in_use" in {warning.code for warning in told.warnings}
        work.export_path("/", mount_dir / "all")
        assert {os.fsencode(entry.name) for entry in (mount_dir / "all").iterdir()} == expected | {b"dir"}
        archive = io.BytesIO()
        told = work.export_tar("/", archive)
        with tarfile.open(fileobj=io.BytesIO(archive.getvalue())) as packed:
            assert packed.getmember("file").size == 8
        assert "workspace.in_use" in {warning.code for warning in told.warnings}
        log = [each.checkpoint for each in work.log()]
        for arguments in (["status"], ["diff"], ["ls"], ["cat", "file"], ["log"], ["fork", "info"]):
            assert avfs(*arguments)

    work = vault.workspace("work")
    assert not {each.path for each in work.status().changed_files} & {b"file"}
    assert [each.checkpoint for each in work.log()][1:] == log


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("backend", [*_MOUNTED, _OVERLAY])
def test_what_a_restore_has_not_begun_to_change_is_shown(
    vault: Vault, start: Start, mount_dir: Path, backend: SessionBackend
) -> None:
    """While it saves what is uncommitted, programs wait, and who looks sees what is there."""
    flag = start(backend, "checkpoint.packed")
    with (
        Avfs(mount_dir / "h", lock_timeout_s=3600) as home,
        at_work(flag, partial(vault.workspace("work").restore, "main")),
    ):
        work = home.open_vault("v").workspace("work")
        assert [each.path for each in work.status().changed_files] == [b"file"]
        assert [each.change.path for each in work.diff().files] == [b"file"]
        assert work.read("file") == b"changed\n"

    assert vault.workspace("work").read("file") == b"content\n"


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("backend", [*_MOUNTED, _OVERLAY])
def test_half_of_a_restore_is_shown_to_nobody(
    vault: Vault, start: Start, mount_dir: Path, backend: SessionBackend
) -> None:
    """Who looks meanwhile is told for whom that waits, and sees it done."""
    vault.workspace("work").write("dir/other", b"changed, too\n")
    flag = start(backend, "restore.step")
    argv = [sys.executable, "-m", "avfs_git", "--vault", "v@work"]
    with contextlib.ExitStack() as looking:
        asked = []
        with at_work(flag, partial(vault.workspace("work").restore, "main")):
            exported = os.fspath(mount_dir / "exported")
            for arguments in (["status"], ["cat", "file"], ["cat", "dir/other"], ["export", "-r", "/", exported]):
                ran = subprocess.Popen([*argv, *arguments], stdout=-1, stderr=-1, text=True)
                asked.append(looking.enter_context(ran))
                assert ran.stderr is not None
                told = ran.stderr.readline()
                assert "waiting for fork 'work', which is in use by 'restore_state'" in told
                assert f"(pid {os.getpid()})" in told
        said = [ran.communicate()[0] for ran in asked]

    assert "Nothing to save" in said[0]
    assert said[1:3] == ["content\n", "other\n"]
    assert (mount_dir / "exported" / "file").read_text() == "content\n"
    assert sorted(os.listdir(mount_dir / "exported")) == ["dir", "file"]
    assert not [name for name in os.listdir(mount_dir) if name.startswith(".avfs-")]


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("backend", [*_MOUNTED, _OVERLAY, _UNMOUNTED])
def test_a_change_that_waits_is_told_for_whom(vault: Vault, start: Start, backend: SessionBackend | None) -> None:
    """At once, and since when; it is made when its turn comes."""
    flag = start(backend, "checkpoint.packed")
    argv = [sys.executable, "-m", "avfs_git", "--vault", "v@work", "mkdir", "made"]
    with contextlib.ExitStack() as waiting:
        with at_work(flag, vault.workspace("work").checkpoint):
            ran = waiting.enter_context(subprocess.Popen(argv, stdout=-1, stderr=-1, text=True))
            assert ran.stderr is not None
            told = ran.stderr.readline()
            assert "waiting for fork 'work', which is in use by " in told
            assert f"(pid {os.getpid()}) for " in told
        ran.communicate()
        assert ran.returncode == 0

    assert vault.workspace("work").exists("made")


@pytest.mark.parametrize("backend", _MOUNTED)
def test_what_is_shown_was_one_moment(vault: Vault, start: Start, mount_dir: Path, backend: SessionBackend) -> None:
    """A program changes two files, one after the other: who looks never sees the second change without the first."""
    flag = start(backend, "checkpoint.packed")
    is_over = threading.Event()

    def change() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            for name in ("first", "second"):
                (mount_dir / "tree" / "made").write_text(f"{number}\n")
                (mount_dir / "tree" / "made").rename(mount_dir / "tree" / name)

    with ThreadPoolExecutor(1) as program, at_work(flag, vault.workspace("work").checkpoint):
        changing = program.submit(change)
        try:
            wait_for((mount_dir / "tree" / "second").exists)
            for _ in range(30):
                found = {each.change.path: each for each in vault.workspace("work").diff().files}
                first, second = (int(_added(found[name])) for name in (b"first", b"second"))
                assert second <= first <= second + 1
        finally:
            is_over.set()
            changing.result(60)


def _added(file: FileDiff) -> bytes:
    return next(line[1:] for line in file.patch.splitlines() if line.startswith(b"+") and not line.startswith(b"+++"))


@contextlib.contextmanager
def _stopped(pid: int) -> Iterator[None]:
    """Stop a session with all of its processes, and wait until they are."""
    family = list_family(pid)
    for each in family:
        os.kill(each, signal.SIGSTOP)
    try:
        wait_for(lambda: set(list_stopped(pid)) == set(family))
        yield
    finally:
        for each in family:
            os.kill(each, signal.SIGCONT)


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("backend", [*_MOUNTED, _OVERLAY])
def test_a_stopped_session_is_not_waited_for(
    vault: Vault, start: Start, mount_dir: Path, backend: SessionBackend
) -> None:
    """What only looks shows what is on disk, and names the fork.

    A change is told for whom it waits, and refused in time.
    """
    start(backend, "never.reached")
    (mount_dir / "tree" / "new").write_text("by a program\n")
    (session,) = [info for info in vault.sessions() if info.at is None]
    with _stopped(session.pid):
        warned: list[Warning] = []
        with Avfs(mount_dir / "h", lock_timeout_s=0.1, on_warnings=warned.extend) as home:
            other = home.open_vault("v")
            work = other.workspace("work")
            assert {each.path for each in work.status().changed_files} == {b"file", b"new"}
            assert {each.change.path for each in work.diff().files} == {b"file", b"new"}
            assert {info.path for info in work.list_dir("/")} == {b"dir", b"file", b"new"}
            assert work.read("file") == b"changed\n"
            assert {each.code for each in warned} == {"session.silent"}
            assert "fork 'work'" in warned[0].message
            assert [info.name for info in other.list_forks()]
            with pytest.raises(WorkspaceBusy, match="does not answer"):
                work.write("other", b"")
        assert avfs("cat", "file") == "changed\n"
    assert vault.workspace("work").checkpoint("then").outcome == "created"


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("backend", [*_MOUNTED, _OVERLAY])
def test_a_client_that_used_a_session_does_not_wait_for_it_when_it_is_stopped(
    vault: Vault, start: Start, mount_dir: Path, backend: SessionBackend
) -> None:
    """Whether it does what it was asked for is not known, and the error says so.

    A checkpoint flushes files before it asks.
    """
    start(backend, "never.reached")
    with Avfs(mount_dir / "h") as home:
        other = home.open_vault("v")
        work, mounted = other.workspace("work"), other.find_session("work")
        assert mounted is not None
        work.write("other", b"1\n")
        (session,) = [info for info in vault.sessions() if info.at is None]
        with _stopped(session.pid):
            with pytest.raises(OutcomeUnknown, match="asked for 'write' and is stopped") as refused:
                work.write("other", b"2\n")
            assert str(session.pid) in (refused.value.hint or "")
        assert work.read("other") in {b"1\n", b"2\n"}
        with _stopped(session.pid):
            for ask in (lambda: work.checkpoint("then"), lambda: mounted.stop(checkpoint=True)):
                with pytest.raises((OutcomeUnknown, WorkspaceBusy), match=r"stopped|does not answer"):
                    ask()


@pytest.mark.parametrize("point", ["restore.announced", "restore.step", "restore.applied"])
def test_half_of_a_restore_is_not_shown_where_nothing_is_mounted(vault: Vault, mount_dir: Path, point: str) -> None:
    """Who looks waits, is told for whom, and sees what was restored; who does not wait long is refused."""
    work = vault.workspace("work")
    work.remove("dir", recursive=True)
    work.checkpoint("now")
    half_done, go_on = threading.Event(), threading.Event()

    def stay(reached: str) -> None:
        if reached == point and threading.current_thread() is restoring:
            half_done.set()
            go_on.wait(60)

    restoring = threading.Thread(target=work.restore, args=("main",))
    faults.arm(stay)
    told = threading.Event()
    try:
        restoring.start()
        assert half_done.wait(60)
        with Avfs(mount_dir / "h", lock_timeout_s=0.1) as home:
            other = home.open_vault("v").workspace("work")
            for look in (
                other.status,
                other.diff,
                lambda: other.read("file"),
                lambda: other.export_tar("/", io.BytesIO()),
            ):
                with pytest.raises(WorkspaceBusy):
                    look()
        with (
            Avfs(mount_dir / "h", lock_timeout_s=60, on_wait=lambda *_: told.set()) as home,
            ThreadPoolExecutor(max_workers=1) as pool,
        ):
            seen = pool.submit(lambda: {info.path for info in home.open_vault("v").workspace("work").list_dir("/")})
            assert told.wait(60)
            assert not seen.done()
            go_on.set()
            assert seen.result(60) == {b"dir", b"file"}
    finally:
        faults.arm(None)
        go_on.set()
        restoring.join(60)
    assert work.read("file") == b"content\n"


def test_a_look_that_a_restore_came_into_is_not_used(vault: Vault) -> None:
    """Files and branch of what is shown belong together."""
    work = vault.workspace("work")
    work.checkpoint("now")
    discarded: list[str] = []
    with pytest.raises(Disturbed):
        look_past(vault._core, "work", lambda _: work.restore("main").outcome, discard=discarded.append)
    assert discarded == ["restored"]
    assert (
        look_past(vault._core, "work", lambda looking: Files(looking).read(TreePath(b"file")), discard=print)
        == b"content\n"
    )


@pytest.mark.parametrize("backend", [*_MOUNTED, _OVERLAY])
def test_a_tree_is_listed_beside_a_program_that_removes(vault: Vault, mount_dir: Path, backend: SessionBackend) -> None:
    """What goes between two looks is not there; the rest is."""
    tree, work = mount_dir / "tree", vault.workspace("work")
    with work.mount(tree, backend=backend.value):
        ended = threading.Event()

        def come_and_go() -> None:
            while not ended.is_set():
                for number in range(40):
                    (tree / "in").mkdir(exist_ok=True)
                    (tree / "in" / f"{number}").write_bytes(b"")
                shutil.rmtree(tree / "in")

        with ThreadPoolExecutor(1) as threads:
            program = threads.submit(come_and_go)
            try:
                shown = [{each.info.path for each in work.tree("/").children} for _ in range(150)]
            finally:
                ended.set()
            program.result()
        assert all({b"file", b"dir"} <= names for names in shown)

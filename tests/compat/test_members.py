"""A vault of a group: two well-meaning members work in turn; an ill-meaning one gains nothing by another's sessions."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import subprocess
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from avfs_git import Avfs
from avfs_git.errors import AvfsError, BackendUnavailable, HostError
from avfs_git.host.locks.locks import LockFile
from avfs_git.host.processes.boot import read_boot_id
from avfs_git.host.processes.processes import start_time
from avfs_git.paths import oid_of
from avfs_git.sdk import Vault
from avfs_git.session.life.record import begin, list_sessions
from avfs_git.session.life.stop import end_session
from avfs_git.vfs.layer.blobcache import BlobCache
from avfs_git.workspace.vault.format import VaultLayout
from tests.support.oracle import git
from tests.support.servers import make_bare
from tests.support.users import ALICE, MALLORY, as_user, open_way

pytestmark = pytest.mark.needs("root", "user-xattrs", "whiteout")

TEAM = 54_500


@pytest.fixture
def member(tmp_path: Path) -> Callable[[int, Callable[[Vault], str]], str]:
    """Does something as a member of the group in a vault that ALICE made for it; gives what it says."""
    open_way(tmp_path)
    for uid in (ALICE, MALLORY):
        (tmp_path / str(uid)).mkdir()
        os.chown(tmp_path / str(uid), uid, TEAM)
    made = tmp_path / str(ALICE) / "home" / "vaults" / "v.git"

    def do(uid: int, work: Callable[[Vault], str]) -> str:
        def be() -> str:
            with Avfs(tmp_path / str(uid) / "home") as avfs:
                if uid == ALICE:
                    with avfs.open_vault("v") if made.exists() else avfs.create_vault("v", shared=True) as vault:
                        return work(vault)
                avfs.trust_vault(made)
                with avfs.open_vault(made) as vault:
                    return work(vault)

        return as_user(uid, be, groups=[TEAM, uid], gid=TEAM)

    return do


def work_in(vault: Vault, name: str) -> str:
    """Do in a fork of one's own, and in the vault, whatever leaves a file that somebody else writes to next."""
    with vault.fork(name) as work:
        work.write("of-" + name, b"1\n")
        work.checkpoint("one")
        ran = work.exec("sh", "-c", "seq 200000; git status; echo 2 > made", max_output=1000)
        assert ran.exit_code == 0, ran
        assert ran.stdout_file is not None
        work.checkpoint("two")
        work.undo()
        work.redo()
        work.log()
    vault.sessions()
    vault.gc()
    assert not [found for found in vault.doctor().problems if found.severity == "error"]
    vault.delete_fork(name)
    vault.workspace().undo()
    assert vault.has_fork(name)
    return "done"


def test_members_work_in_turn(member: Callable[..., str]) -> None:
    """Neither keeps the other from anything by what it leaves: locks, logs, records, outputs, git's own directories."""
    for turn, uid in enumerate((ALICE, MALLORY, ALICE)):

        def work(vault: Vault, name: str = f"f{turn}") -> str:
            os.umask(0o077)  # for files of their own
            return work_in(vault, name)

        said = member(uid, work)
        assert said == "done", said

    forks = member(ALICE, lambda vault: str(sorted(fork.name for fork in vault.list_forks())))
    assert forks == "['f0', 'f1', 'f2', 'main']"


@pytest.mark.parametrize("umask", [0o027, 0o077])
def test_a_clone_that_is_closed_to_others_comes_into_a_shared_vault_open(
    member: Callable[..., str], tmp_path: Path, umask: int
) -> None:
    """Its objects and packs, which are linked elsewhere, and the root of its files."""

    def clone() -> str:
        os.umask(umask)
        source = tmp_path / str(ALICE) / "clone"
        for command in ("init -q -b main", "add -A", "commit -q -m one", "gc -q", "commit -q --allow-empty -m two"):
            source.mkdir(exist_ok=True)
            (source / "a").write_bytes(b"1\n")
            git(*command.split(), cwd=source)
        subprocess.run(["chgrp", "-R", str(ALICE), source], check=True)  # the group of their own, as on many hosts
        with Avfs(tmp_path / str(ALICE) / "home") as avfs:
            avfs.create_vault("v", source=source, shared=True)
        return "done"

    def use(vault: Vault) -> str:
        assert len(list(vault.workspace("main").log())) == 2
        assert vault.workspace("main").read("a") == b"1\n"
        with vault.fork("mine", source="main") as mine:
            mine.write("b", b"2\n")
            mine.checkpoint("mine")
        assert [found for found in vault.doctor().problems if found.severity == "error"] == []
        return "done"

    said = as_user(ALICE, clone, groups=[TEAM, ALICE], gid=TEAM)
    assert said == "done", said
    said = member(MALLORY, use)
    assert said == "done", said


def test_the_cache_of_contents_is_its_first_users_and_no_fault(member: Callable[..., str]) -> None:
    """Its files are trusted, so that another member could give a false content; without it all goes on."""

    def read(vault: Vault) -> str:
        os.close(BlobCache(VaultLayout(vault.path).blob_cache).open(oid_of("12" * 20), 3, [b"big"]))
        return str([found for found in vault.doctor().problems if found.severity == "error"])

    assert member(ALICE, read) == "[]"
    assert member(MALLORY, read) == "[]"


@pytest.mark.parametrize("fork", ["main", "k"])
def test_a_fork_is_its_makers_whoever_looks_first(member: Callable[..., str], fork: str) -> None:
    """Also where somebody else makes a fork of it, or runs a command, before anything is written."""

    def make(vault: Vault) -> str:
        if fork != "main":
            vault.fork(fork)
        return "done"

    def look(vault: Vault) -> str:
        work = vault.workspace(fork)
        assert not work.status().changed_files
        assert work.list_dir() == []
        vault.fork("mine", source=fork).exec("true")
        return "done"

    def use(vault: Vault) -> str:
        work = vault.workspace(fork)
        work.write("a", b"1\n")
        assert work.exec("sh", "-c", "echo 2 > b").exit_code == 0
        work.checkpoint("one")
        assert [found for found in vault.doctor().problems if found.severity == "error"] == []
        return "done"

    for uid, do in ((ALICE, make), (MALLORY, look), (ALICE, use)):
        said = member(uid, do)
        assert said == "done", said


def test_a_member_who_may_not_change_anothers_files_is_told_what_to_do(member: Callable[..., str]) -> None:
    """Whose files they are, and the command that makes a fork of one's own."""

    def fill(vault: Vault) -> str:
        work = vault.workspace()
        work.write("a", b"1\n")
        work.checkpoint("one")
        return str(work.write("a", b"2\n"))

    def refuse(vault: Vault) -> str:
        work = vault.workspace()
        changes: list[Callable[[], object]] = [
            lambda: work.write("a", b"3\n"),
            lambda: work.write("new", b"3\n"),
            lambda: work.remove("a"),
            lambda: work.chmod("a", 0o600),
            lambda: work.restore("one"),
        ]
        for change in changes:
            with pytest.raises(AvfsError) as caught:
                change()
            told = (
                f"The files of fork 'main' belong to user {ALICE}. Make a fork of your own with `avfs fork "
                "create NAME`."
            )
            assert caught.value.hint == told, caught.value
        vault.fork("mine").write("a", b"3\n")
        return "done"

    member(ALICE, fill)
    assert member(MALLORY, refuse) == "done"


def test_a_fork_that_its_member_has_closed_is_no_fault(member: Callable[..., str]) -> None:
    """Others are told whose files they are, and their doctor has nothing to mend."""

    def close(vault: Vault) -> str:
        assert vault.fork("of-alice").exec("sh", "-c", "echo 1 > a; chmod 700 .").exit_code == 0
        return str(vault.workspace("of-alice").read("a"))

    def look(vault: Vault) -> str:
        looks: list[Callable[[], object]] = [
            lambda: vault.workspace("of-alice").read("a"),
            lambda: vault.fork("mine", source="of-alice"),
            lambda: vault.workspace().merge("of-alice"),
            lambda: vault.workspace("of-alice").exec("true"),
        ]
        for each in looks:
            with pytest.raises(HostError) as caught:
                each()
            assert caught.value.message == "cannot open workspace 'of-alice': Permission denied"
            assert f"belong to user {ALICE}" in str(caught.value.hint)
        assert vault.doctor().healthy
        with TemporaryDirectory() as place:  # its commits can be read
            vault.add_remote("other", str(make_bare(Path(place) / "bare")))
            assert [ref.outcome for ref in vault.push(["of-alice"], remote="other").refs] == ["new"]
        return "done"

    assert member(ALICE, close) == "b'1\\n'"
    assert member(MALLORY, look) == "done"


def test_what_a_member_does_in_anothers_fork_keeps_nobody_out(member: Callable[..., str]) -> None:
    """Commands are refused where they would leave files of that member in it, and maintenance leaves the fork alone."""

    def fill(vault: Vault) -> str:
        with vault.fork("of-alice") as work:
            work.make_dir("d")
            work.write("d/0", b"1\n")
            work.write("d/1", b"1\n")
            work.checkpoint("one")
        return "done"

    def meddle(vault: Vault) -> str:
        work = vault.workspace("of-alice")
        for backend in ("checkout", "overlay"):
            with pytest.raises(BackendUnavailable, match=f"the files of the fork belong to user {ALICE}"):
                work.exec("sh", "-c", "rm -r d; echo 1 > q", backend=backend)
        with pytest.raises(HostError) as refused:
            work.fold()
        assert refused.value.hint is not None
        assert f"belong to user {ALICE}" in refused.value.hint
        done = vault.maintain(every_step=True)
        assert not done.warnings, done
        return "done"

    def go_on(vault: Vault) -> str:
        with vault.workspace("of-alice") as work:
            assert work.status().clean
            work.write("e", b"1\n")
            ran = work.exec("sh", "-c", "cat d/0; rm d/1; echo 2 > made", backend="checkout")
            assert (ran.exit_code, ran.stdout) == (0, b"1\n"), ran
            assert work.fold()
        return "done"

    member(ALICE, lambda vault: str(vault.workspace().write("a", b"1\n")))
    for uid, work in ((ALICE, fill), (MALLORY, meddle), (ALICE, go_on)):
        said = member(uid, work)
        assert said == "done", said


def test_a_copy_of_another_members_is_told(member: Callable[..., str], tmp_path: Path) -> None:
    """A fork whose owner was killed in a command, in a copy that no other member can see, says whose it is."""

    def die(vault: Vault) -> str:
        work = vault.workspace()
        work.write("a", b"1\n")
        command = work.exec_stream("sh", "-c", "echo 2 > a; echo ready; sleep 1000", backend="checkout")
        next(iter(command))
        os.kill(os.getpid(), signal.SIGKILL)
        return "never"

    member(ALICE, die)
    said = member(MALLORY, lambda vault: str(vault.workspace().status()))
    assert said.startswith("HostError: cannot look at '"), said
    assert member(ALICE, lambda vault: str(vault.workspace().read("a"))) == "b'2\\n'"


def test_a_member_does_not_answer_for_anothers_session(member: Callable[..., str]) -> None:
    """A listener in a session's place is not asked: what a client sends, including descriptors, is for its own user."""
    member(ALICE, lambda vault: str(vault.workspace().write("a", b"1\n")))
    made = member(ALICE, lambda vault: str(vault.path))
    place = Path(made) / "avfs" / "sessions" / "0badbeef"
    ready, telling = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([TEAM])
            os.setresgid(TEAM, TEAM, TEAM)
            os.setresuid(MALLORY, MALLORY, MALLORY)
            os.umask(0)
            lock = LockFile(Path(made) / "avfs/workspaces/main/lock", owner="mallory")
            assert lock.acquire(0)
            lock.keep("0badbeef")
            place.mkdir(parents=True)
            listener = socket.socket(socket.AF_UNIX)
            os.chdir(place)
            listener.bind("socket")
            listener.listen()
            os.write(telling, b"+")
            client, _ = listener.accept()
            os.write(telling, b"heard" if client.recv(1) else b"nothing")
            time.sleep(60)
        except Exception:  # noqa: BLE001 - told by what it did not say
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(telling)
    try:
        assert os.read(ready, 1) == b"+"

        said = member(ALICE, lambda vault: str(vault.workspace().read("a")))

        assert "WorkspaceBusy" in said
        assert "a session of another user" in said
        assert os.read(ready, 16) == b"nothing"
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
    assert member(ALICE, lambda vault: str(vault.workspace().read("a"))) == "b'1\\n'"


def test_gc_keeps_what_another_member_has_mounted(member: Callable[..., str]) -> None:
    """A commit that only another member's mount shows stays, also if that member's umask keeps files closed."""

    def show(vault: Vault) -> str:
        os.umask(0o077)
        work = vault.fork("mine")
        work.write("a", b"1\n")
        saved = work.checkpoint(description="one").checkpoint
        assert saved is not None
        work.undo()
        work.undo()
        begin(vault.path / "avfs/sessions", fork="mine", directory=Path("/mnt"), readonly=True, at=saved.id)
        return saved.id

    def collect(vault: Vault) -> str:
        vault.workspace().checkpoint("two")
        assert vault.sessions() == []
        return str(vault.gc(keep_days=0, keep_operations=1, grace_days=0).refs)

    member(ALICE, lambda vault: str(vault.workspace().write("b", b"1\n")))
    commit = member(MALLORY, show)
    dropped = member(ALICE, collect)

    assert len(commit) == 40, commit
    assert dropped.isdigit(), dropped
    made = member(ALICE, lambda vault: str(vault.path))
    found = subprocess.run(
        ["git", f"--git-dir={made}", "cat-file", "-t", commit], check=False, capture_output=True, text=True
    )
    assert found.stdout == "commit\n", found.stderr


@pytest.mark.parametrize("at", ["0" * 39 + "1", "no such state", "../x", "main^2"])
def test_a_record_of_another_member_keeps_gc_from_nothing(member: Callable[..., str], at: str) -> None:
    """A record may name a commit that is gone, or anything: it keeps nothing then."""

    def show(vault: Vault) -> str:
        begin(vault.path / "avfs/sessions", fork="main", directory=Path("/mnt"), readonly=True, at=at)
        return "done"

    member(ALICE, lambda vault: str(vault.workspace().write("b", b"1\n")))
    assert member(MALLORY, show) == "done"
    assert member(ALICE, lambda vault: str(vault.gc().dry_run)) == "False"


def test_a_member_cannot_change_the_record_of_another_one(member: Callable[..., str]) -> None:
    """A record counts for its owner: another member may read it, and neither write to it nor put anything beside it."""

    def show(vault: Vault) -> str:
        begin(vault.path / "avfs/sessions", fork="main", directory=Path("/mnt"), readonly=True, at=None)
        return "done"

    def meddle(vault: Vault) -> str:
        (place,) = (
            place for place in (vault.path / "avfs/sessions").iterdir() if place.name != "logs" and place.is_dir()
        )
        files = [path for path in place.rglob("*") if os.access(path, os.W_OK)]
        return str((os.access(place / "record", os.R_OK), os.access(place, os.W_OK), files))

    member(ALICE, lambda vault: str(vault.workspace().write("a", b"1\n")))
    assert member(ALICE, show) == "done"
    assert member(MALLORY, meddle) == "(True, False, [])"


def test_a_members_record_ends_no_process_of_another_one(member: Callable[..., str], tmp_path: Path) -> None:
    """A session whose mount is elsewhere is ended by a signal to the process that it names, if that is its user's."""
    made = Path(member(ALICE, lambda vault: str(vault.path)))
    innocent = subprocess.Popen(["sleep", "60"])
    place = made / "avfs" / "sessions" / "0badbeef"
    place.mkdir(parents=True)
    place.chmod(0o755)
    (place / "lock").touch()
    record = {
        "id": "0badbeef",
        "fork": "main",
        "directory": str(tmp_path / "tree"),
        "readonly": False,
        "at": None,
        "made": [],
        "state": "mounted",
        "pid": innocent.pid,
        "process_started": start_time(innocent.pid),
        "boot": read_boot_id(),
        "namespace": 1,
        "started_at_ns": 1,
        "lock_inode": (place / "lock").stat().st_ino,
        "backend": "fuse",
    }
    (place / "record").write_text(json.dumps(record))
    for name in ("", "lock", "record"):
        os.chown(place / name, ALICE, TEAM)
    holder = os.open(place / "lock", os.O_RDWR)
    try:
        fcntl.flock(holder, fcntl.LOCK_EX)
        with Avfs(tmp_path / "home") as avfs:
            avfs.trust_vault(made)
            with avfs.open_vault(made) as vault:
                assert [info.pid for info in vault.sessions()] == [innocent.pid]
        (found,) = list_sessions(made / "avfs" / "sessions")
        assert end_session(found) == ("detached", [])
        assert innocent.poll() is None
    finally:
        os.close(holder)
        innocent.kill()
        innocent.wait()

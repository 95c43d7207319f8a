"""A live tree on the kernel's overlayfs: it lives and ends as any, survives its session, and says what it cannot do."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.errors import (
    AvfsError,
    FuseUnavailable,
    InvalidInput,
    LayerNotUnderstood,
    MountBusy,
    PathUnsuitable,
    WorkspaceMounted,
)
from avfs_git.host.mounts.mounts import list_mounts
from avfs_git.host.mounts.overlayfs import is_upper_used
from avfs_git.model import Identity, SessionBackend, SessionState
from avfs_git.sdk import Avfs, Session, Vault, Workspace
from tests.support.capabilities import mount as mount_file_system
from tests.support.capabilities import unmount
from tests.support.killed_session import work_through_deaths, work_through_kills
from tests.support.shown import spell_for_users
from tests.support.users import as_user, open_way
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.needs("root", "fuse", "overlayfs", "git", "user-xattrs", "whiteout"), pytest.mark.slow]

_WARM_TRIES, _WARM_S = 12, 5
_BY = SessionBackend.OVERLAY
ADA = Identity("Ada Author", "ada@example.org")


@pytest.fixture
def vault(mount_dir: Path, small_source: Path) -> Iterator[Vault]:
    """A vault with a fork."""
    with Avfs(mount_dir / "h", identity=ADA) as avfs, avfs.create_vault("v", source=small_source) as vault:
        vault.fork("work").close()
        yield vault
        for info in mounted(vault):
            session = vault.find_session(info)
            if session is not None:
                with contextlib.suppress(AvfsError):
                    session.unmount(lazy=True)
    wait_for(lambda: not [mount for mount in list_mounts() if mount_dir in mount.directory.parents])


def mounted(vault: Vault) -> list[str]:
    """List the forks that are mounted; not the commits on which they stand."""
    return [info.fork for info in vault.sessions() if info.at is None]


def kill_session(session: Session) -> None:
    """Kill the process above the server, and wait until both are gone: until nobody has its lock."""
    os.kill(session.info().pid, signal.SIGKILL)
    wait_for(lambda: session.info().state is not SessionState.MOUNTED)


def server_of(session: Session) -> int:
    """Find the process that answers for a session."""
    pid = session.info().pid
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not (servers := children.read_text("ascii").split()):
        time.sleep(0.001)
    return int(servers[0])


def changed(work: Workspace) -> list[bytes]:
    """List what is not in a checkpoint."""
    return [change.path for change in work.status().changed_files]


def test_it_is_a_session_like_any_other(vault: Vault, work: Workspace, tree: Path) -> None:
    """It says what it is, refuses a second one, works with git, and stops with a last checkpoint."""
    session = work.mount(tree, backend="overlay")
    assert session.info().backend is _BY
    assert [found.kind for found in list_mounts() if found.directory == tree] == ["overlay"]
    with pytest.raises(WorkspaceMounted):
        work.mount(tree.with_name("other"))
    (tree / "new").write_text("new\n")
    said = subprocess.run(["git", "status", "--short"], cwd=tree, capture_output=True, text=True, check=True).stdout
    assert said == "?? new\n"
    assert changed(work) == [b"new"]
    with Avfs(tree.parent / "elsewhere") as avfs:
        found = avfs.session_at(tree / "d")
        assert found is not None
        assert found.id == session.id
    ended = session.stop()
    assert ended.checkpoint is not None
    assert ended.checkpoint.outcome == "created"
    assert mounted(vault) == []
    assert not tree.exists()
    assert work.read("new") == b"new\n"
    with work.mount(tree, backend="fuse") as again:
        assert again.info().backend is SessionBackend.FUSE
        assert (tree / "new").read_text() == "new\n"
        (tree / "new").write_text("newer\n")
    with work.mount(tree, backend="overlay"):
        assert (tree / "new").read_text() == "newer\n"


@pytest.mark.parametrize("way", ["umount", "SIGTERM", "SIGINT"])
def test_whatever_ends_the_mount_ends_the_session(vault: Vault, work: Workspace, tree: Path, way: str) -> None:
    """The workspace is free then, and what was written is in it."""
    session = work.mount(tree, backend="overlay")
    (tree / "new").write_text("new\n")
    if way == "umount":
        subprocess.run(["umount", tree], check=True)
    else:
        os.kill(session.info().pid, getattr(signal, way))
    session.wait()
    assert mounted(vault) == []
    assert changed(work) == [b"new"]
    assert not tree.exists()


def test_a_mount_in_use_stays_and_by_no_means_is_it_taken(vault: Vault, work: Workspace, tree: Path) -> None:
    """Who uses it is named; detached, it goes on for them, and the workspace with it, until they are done."""
    session = work.mount(tree, backend="overlay")
    with open(tree / "file", "r+b") as held:
        for force in (False, True):
            with pytest.raises(MountBusy) as caught:
                session.unmount(force=force)
            assert f"(pid {os.getpid()})" in str(caught.value.details["users"])
            assert (f"end them with `kill {os.getpid()}`" in (caught.value.hint or "")) is force
        assert session.info().state is SessionState.MOUNTED
        assert session.unmount(lazy=True).outcome == "detached"
        assert session.unmount(force=True).outcome == "detached"
        assert session.info().state is SessionState.UNMOUNTING
        held.write(b"CONTENT")
    session.wait()
    assert mounted(vault) == []
    assert work.read("file") == b"CONTENT\n"


def test_stop_while_programs_write_loses_and_hides_nothing(work: Workspace, tree: Path) -> None:
    """What came between the last checkpoint and the end is in a second one."""
    session = work.mount(tree, backend="overlay")
    code = """
import itertools, sys, time
for n in itertools.count():
    open(sys.argv[1] + f'/n{n}', 'x').close()
    print(n, flush=True)
    time.sleep(0.01)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code, tree], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as writer:
        assert writer.stdout is not None
        for _ in range(50):
            writer.stdout.readline()
        session.stop()  # between two files, nothing is in use
        writer.kill()  # it may go on in the directory, if it was faster than its removal
        rest = writer.stdout.read().split()
    made = {f"n{n}" for n in range(int(rest[-1]) + 1 if rest else 50)}
    after = {*os.listdir(tree)} if tree.exists() else set()
    assert made - after <= {info.path.decode() for info in work.list_dir("")}
    assert changed(work) == []


# --- deaths -----------------------------------------------------------------------------------------------------------


def test_programs_go_on_when_the_session_dies(vault: Vault, work: Workspace, tree: Path) -> None:
    """The mount stays; whoever needs the workspace next gets another process for it, and everything is as before."""
    session = work.mount(tree, backend="overlay")
    (tree / "before").write_text("before\n")
    work.checkpoint("one")
    with open(tree / "held", "w", encoding="ascii") as held:
        kill_session(session)
        (tree / "after").write_text("after\n")
        held.write("held\n")
    assert session.info().state is SessionState.UNATTENDED
    assert is_upper_used(vault.path / "avfs" / "workspaces" / "work" / "upper")

    assert changed(work) == [b"after", b"held"]
    assert session.info().state is SessionState.MOUNTED
    assert work.checkpoint("two").outcome == "created"
    work.restore("one")
    assert not (tree / "after").exists()
    subprocess.run(["git", "status", "--short"], cwd=tree, check=True, capture_output=True)
    assert session.stop().outcome == "unmounted"
    assert mounted(vault) == []
    assert not tree.exists()


@pytest.mark.parametrize("has_record", [True, False])
@pytest.mark.parametrize("damage", ["gone", "zeros"])
def test_a_lost_lock_beside_a_mount_that_nobody_attends_makes_no_second_writer(
    vault: Vault, work: Workspace, tree: Path, damage: str, *, has_record: bool
) -> None:
    """The next process finds the session by its record and goes on with the mount; without a record it is refused."""
    session = work.mount(tree, backend="overlay")
    (tree / "before").write_text("before\n")
    kill_session(session)
    lock = vault.path / "avfs" / "workspaces" / "work" / "lock"
    if damage == "gone":
        lock.unlink()
    else:
        lock.write_bytes(bytes(lock.stat().st_size))
    if not has_record:
        next((vault.path / "avfs" / "sessions").glob(f"{session.id}/record*")).unlink()

    with Avfs(tree.parent / "h", identity=ADA) as avfs, avfs.open_vault("v") as opened:
        them = opened.workspace("work")
        if has_record:
            them.write("after", b"after\n")
            assert session.info().state is SessionState.MOUNTED  # its next process has written that
            assert (tree / "after").read_bytes() == b"after\n"
            assert changed(them) == [b"after", b"before"]
            assert them.checkpoint("two").outcome == "created"
            session.unmount()
        else:
            try:
                for refused in (lambda: them.write("after", b""), them.checkpoint, lambda: opened.delete_fork("work")):
                    with pytest.raises(WorkspaceMounted, match=str(tree)):
                        refused()
            finally:
                subprocess.run(["umount", tree], check=True)
            wait_for(lambda: not is_upper_used(vault.path / "avfs" / "workspaces" / "work" / "upper"))
            assert changed(them) == [b"before"]
            assert them.checkpoint("two").outcome == "created"


def test_many_who_come_at_once_get_one_session(vault: Vault, work: Workspace, tree: Path) -> None:
    """After a death, all of them are answered, by the same process."""
    session = work.mount(tree, backend="overlay")
    kill_session(session)
    (tree / "new").touch()
    found: list[list[bytes]] = []

    def come() -> None:
        with Avfs(tree.parent / "h") as avfs, avfs.open_vault("v") as opened:
            found.append(changed(opened.workspace("work")))

    threads = [threading.Thread(target=come) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[b"new"]] * 4
    assert mounted(vault) == ["work"]
    session.unmount()


@pytest.mark.parametrize("way", ["unmount", "umount", "stop"])
def test_a_mount_without_its_session_can_be_ended(vault: Vault, work: Workspace, tree: Path, way: str) -> None:
    """By its own means or the system's; then its workspace is free."""
    session = work.mount(tree, backend="overlay")
    kill_session(session)
    (tree / "new").touch()
    if way == "umount":
        subprocess.run(["umount", tree], check=True)
    else:
        assert (session.stop() if way == "stop" else session.unmount()).outcome == "unmounted"
        assert not tree.exists()  # before anybody looks for what died
    wait_for(lambda: mounted(vault) == [])  # other mount namespaces of this machine may have copies for a moment
    assert not tree.exists()
    assert changed(work) == ([] if way == "stop" else [b"new"])


def test_a_mount_without_its_session_that_only_programs_lead_to_is_left_alone(
    vault: Vault, work: Workspace, tree: Path
) -> None:
    """Nobody else gets the workspace until they are done; then it is as they left it."""
    session = work.mount(tree, backend="overlay")
    kill_session(session)
    with open(tree / "file", "w", encoding="ascii") as held:
        assert session.unmount(lazy=True).outcome == "detached"
        assert session.info().state is SessionState.UNMOUNTING
        with Avfs(tree.parent / "h", lock_timeout_s=0.5) as other, other.open_vault("v") as hasty:
            them = hasty.workspace("work")
            for refused in (
                them.status,
                lambda: them.write("x", b""),
                lambda: them.mount(tree),
                lambda: hasty.delete_fork("work"),
            ):
                with pytest.raises(WorkspaceMounted):
                    refused()
        held.write("written\n")
    session.wait()
    assert work.read("file") == b"written\n"
    assert mounted(vault) == []
    work.mount(tree).unmount()


def test_a_server_that_is_killed_is_followed_by_another(work: Workspace, tree: Path) -> None:
    """Programs notice nothing, commands find the next one."""
    with work.mount(tree, backend="overlay") as session:
        for number in range(5):
            (tree / f"f{number}").touch()
            os.kill(server_of(session), signal.SIGKILL)
            (tree / f"g{number}").touch()
            assert len(changed(work)) == 2 * (number + 1)
        assert work.checkpoint().outcome == "created"


def test_programs_and_commands_go_on_while_servers_are_killed(mount_dir: Path) -> None:
    """No program in the tree and no client sees an error or a wrong byte; the checkpoint holds what the tree showed."""
    kills, client = work_through_kills(mount_dir, 3.0, 0.5, "read", "build", "clone", backend="overlay")
    assert kills
    assert client.saved


def test_programs_and_commands_go_on_while_sessions_are_killed(mount_dir: Path) -> None:
    """The same, with all that there is of the session."""
    kills, client = work_through_deaths(mount_dir, 4.0, 0.5, "read", "build", "clone")
    assert kills
    assert client.possible


def test_the_base_outlives_the_death_of_its_users(vault: Vault, work: Workspace, tree: Path) -> None:
    """What was never read before can be read as long as the tree is there, whoever else ended."""
    session = work.mount(tree, backend="overlay")
    with vault.fork("second") as second, second.mount(tree.with_name("second"), backend="overlay"):
        kill_session(session)
    time.sleep(0.5)
    assert (tree / "d" / "below" / "deep").read_text() == "deep\n"
    session.unmount()


def test_the_base_goes_with_its_last_user(vault: Vault, work: Workspace, tree: Path, mount_dir: Path) -> None:
    """After an unmount the vault's file system can be removed or unmounted, even if the base's server is slow."""
    program = (
        "import sys; from pathlib import Path; from avfs_git import Avfs\n"
        "with Avfs(Path(sys.argv[1])) as avfs, avfs.open_vault('v') as vault, vault.workspace('work') as work:\n"
        "    work.mount(Path(sys.argv[2]), backend='overlay')\n"
    )
    subprocess.run([sys.executable, "-c", program, mount_dir / "h", tree], check=True)
    [base] = [info for info in vault.sessions(bases=True) if info.at is not None]
    session = vault.find_session("work")
    assert session is not None
    os.kill(base.pid, signal.SIGSTOP)
    server = int(Path(f"/proc/{base.pid}/task/{base.pid}/children").read_text("ascii"))
    os.kill(server, signal.SIGSTOP)

    def go_on() -> None:
        for pid in (server, base.pid):
            os.kill(pid, signal.SIGCONT)

    later = threading.Timer(0.3, go_on)
    later.start()
    session.unmount()
    assert not [mount for mount in list_mounts() if mount_dir in mount.directory.parents]
    later.join()


# --- what others see --------------------------------------------------------------------------------------------------


def test_two_stand_on_one_base(vault: Vault, work: Workspace, tree: Path) -> None:
    """Each sees its own changes; the commit is mounted once."""
    with vault.fork("second") as second:
        with work.mount(tree, backend="overlay"), second.mount(tree.with_name("second"), backend="overlay"):
            (tree / "file").write_text("one\n")
            assert (tree.with_name("second") / "file").read_text() == "content\n"
            assert len([info for info in vault.sessions(bases=True) if info.at is not None]) == 1
            second.checkpoint()
        assert changed(work) == [b"file"]
        assert changed(second) == []


_READ = """
import os, sys
places = [sys.argv[1]]
while places:
    for entry in os.scandir(places.pop()):
        entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False): places.append(entry.path)
        else:
            with open(entry.path, 'rb') as file: file.read()
"""


_PROGRAMS = {
    "read": [sys.executable, "-c", _READ, "TREE"],
    "find": ["find", "TREE", "-size", "+1"],
    "ls": ["ls", "-laR", "TREE"],
    "grep": ["grep", "-r", "nothing", "TREE"],
}


@pytest.mark.parametrize("name", _PROGRAMS)
def test_a_warm_tree_asks_nothing_of_its_base(vault: Vault, work: Workspace, tree: Path, name: str) -> None:
    """What was looked at and read is there while nobody serves the commit below it.

    Whoever empties the caches of the machine meanwhile lets the kernel ask again: it is tried until nobody does.
    """
    program = [str(tree) if word == "TREE" else word for word in _PROGRAMS[name]]
    with work.mount(tree, backend="overlay"):
        [base] = [info.pid for info in vault.sessions(bases=True) if info.at is not None]
        serving = [base, *map(int, Path(f"/proc/{base}/task/{base}/children").read_text("ascii").split())]
        assert len(serving) == 2
        for _ in range(_WARM_TRIES):
            for _ in range(2):
                warm = subprocess.run(program, capture_output=True, check=False)
            for pid in serving:
                os.kill(pid, signal.SIGSTOP)
            running = subprocess.Popen(program, stdout=subprocess.PIPE)
            try:
                said = running.communicate(timeout=_WARM_S)[0]
            except subprocess.TimeoutExpired:
                said = None
            finally:
                for pid in serving:
                    os.kill(pid, signal.SIGCONT)
            if said is not None:
                assert said == warm.stdout
                return
            running.communicate()
        pytest.fail("each time it waited for the base")


@pytest.mark.parametrize("way", ["allow_other", "core.sharedRepository"])
def test_others_may_what_permissions_let_them(
    vault: Vault, work: Workspace, mount_dir: Path, tree: Path, way: str
) -> None:
    """Where they are let in, they read and write what is open to them, and nothing else; the base is closed to them."""
    if way != "allow_other":
        subprocess.run(["git", "config", way, "world"], cwd=vault.path, check=True)
    mount_dir.chmod(0o755)
    work.write("secret", b"secret\n")
    with work.mount(tree, backend="overlay", allow_other=way == "allow_other"):
        (tree / "secret").chmod(0o600)
        (tree / "closed").mkdir(0o700)
        (tree / "open").mkdir()
        (tree / "open").chmod(0o777)
        [base] = [info.directory for info in vault.sessions(bases=True) if info.at is not None]
        for above in base.parents:
            if mount_dir in above.parents:
                above.chmod(0o755)

        def said(script: str) -> str:
            others = ["setpriv", "--reuid=12345", "--regid=12345", "--clear-groups", "sh", "-c", script]
            done = subprocess.run(others, cwd="/", capture_output=True, text=True, check=False)
            assert done.returncode == 0 or "Permission denied" in done.stderr, done.stderr
            return done.stdout if not done.returncode else "denied"

        assert said(f"cat {tree}/d/below/deep") == "deep\n"  # which nobody has read before
        assert said(f"cat {tree}/secret") == said(f"ls {tree}/closed") == said(f"echo x >> {tree}/file") == "denied"
        assert said(f"echo theirs > {tree}/open/theirs && stat -c %u {tree}/open/theirs") == "12345\n"
        assert said(f"chmod 666 {tree}/file 2>&1 || echo kept") != ""
        assert (tree / "file").stat().st_mode & 0o777 == 0o644
        assert said(f"ls {base}") == "denied"
        assert changed(work) == [b"open/theirs", b"secret"]


def test_commands_run_in_it(work: Workspace, tree: Path) -> None:
    """Where it is mounted; what they change is a commit."""
    with work.mount(tree, backend="overlay") as session:
        result = work.exec("sh", "-c", "pwd; echo made > made")
        assert result.stdout == os.fsencode(f"{tree}\n")
        assert [change.path for change in result.changed_files] == [b"made"]
        assert changed(work) == []
        kill_session(session)
        result = work.exec("sh", "-c", "echo more > more")
        assert [change.path for change in result.changed_files] == [b"more"]


def test_git_works_inside(work: Workspace, tree: Path) -> None:
    """A commit made there is one of the fork.

    After avfs has moved the branch, git sees no difference that nobody made.
    """

    def git(*argv: str) -> str:
        return subprocess.run(["git", *argv], cwd=tree, capture_output=True, text=True, check=True).stdout

    with work.mount(tree, backend="overlay"):
        assert git("status", "--porcelain") == ""
        (tree / "new").write_text("new\n")
        git("add", "new")
        git("-c", "user.name=Ada", "-c", "user.email=ada@example.org", "commit", "-qm", "by git")
        assert work.log()[0].checkpoint.message == "by git"
        assert changed(work) == []
        (tree / "new").write_text("newer\n")
        work.checkpoint("by avfs")
        assert git("status", "--porcelain") == ""
        work.restore(work.log()[1].checkpoint.id)
        assert git("status", "--porcelain") == " M new\n" or git("diff", "--stat", "HEAD") == ""
        assert (tree / "new").read_text() == "new\n"
        # Who opens without waiting is kept waiting, too, and gets no error.
        found = subprocess.run(["grep", "-r", "gitdir", "."], cwd=tree, capture_output=True, text=True, check=False)
        assert found.stderr == ""


def test_what_is_mapped_is_in_the_next_checkpoint(work: Workspace, tree: Path) -> None:
    """Also what is written to memory that was changed before the last one."""
    with work.mount(tree, backend="overlay"):
        (tree / "mapped").write_bytes(bytes(8192))
        with open(tree / "mapped", "r+b") as file, mmap.mmap(file.fileno(), 8192) as memory:
            for number in range(1, 5):
                memory[0] = memory[5000] = number
                assert work.checkpoint().outcome == "created"
                content = work.read("mapped")
                assert (content[0], content[5000]) == (number, number)
                time.sleep(0.05)  # past what is looked at again in any case


def test_checkpoints_beside_programs_that_make_and_remove(work: Workspace, tree: Path) -> None:
    """Names and directories that go while they are captured are no failure, and what stays is captured whole.

    Also where so much is there that a capture looks only at what it is told of, and its server dies.
    """
    code = """
import os, shutil, sys
top, n = sys.argv[1], 0
while True:
    n += 1
    os.makedirs(f'{top}/t{n % 7}/a/b', exist_ok=True)
    for name in ('x', 'a/y', 'a/b/z'):
        with open(f'{top}/t{n % 7}/{name}', 'w') as file: file.write(str(n) * 50)
    if n % 3: shutil.rmtree(f'{top}/t{(n + 3) % 7}', ignore_errors=True)
    else: os.rename(f'{top}/t{n % 7}/x', f'{top}/x{n % 5}')
"""
    with work.mount(tree, backend="overlay") as session:
        (tree / "stays").mkdir()
        for number in range(1100):
            (tree / "stays" / str(number)).write_text("stays\n")
        with subprocess.Popen([sys.executable, "-c", code, tree]) as writer:
            try:
                wait_for((tree / "x0").exists)
                for turn in range(25):
                    (tree / "stays" / "7").write_text(f"{turn}\n")
                    work.checkpoint()
                    assert work.read("stays/7") == b"%d\n" % turn
                    if turn == 15:
                        os.kill(server_of(session), signal.SIGKILL)
            finally:
                writer.kill()
        work.checkpoint()
        assert changed(work) == []
        held = {info.path for info in work.list_dir("")}
        assert b"stays" in held
        assert {os.fsencode(name) for name in os.listdir(tree)} - {b".git"} == held
    assert changed(work) == []  # of those who compare everything


def test_a_copy_of_the_mount_that_nobody_uses_keeps_nothing(vault: Vault, work: Workspace, tree: Path) -> None:
    """A mount namespace that was made meanwhile has the mount, too; the end does not wait for that."""
    session = work.mount(tree, backend="overlay")
    argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo; read line"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        other.stdout.readline()
        assert session.unmount().outcome == "unmounted"
        assert mounted(vault) == []
        assert changed(work) == []
        other.stdin.close()


def test_a_change_that_failed_holds_no_directory(work: Workspace, tree: Path) -> None:
    """Else the session itself would use the tree, and no unmount would succeed."""
    session = work.mount(tree, backend="overlay")
    for _ in range(3):
        with pytest.raises(PathUnsuitable):
            work.remove("d/below")
    assert session.unmount().outcome == "unmounted"


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_what_it_cannot_do_is_told(vault: Vault, work: Workspace, mount_dir: Path, tree: Path) -> None:
    """Commits, and a file system on which it would miss changes: refused, and nothing is left."""
    with pytest.raises(InvalidInput):
        work.mount(tree, readonly=True, backend="overlay")
    disk = mount_dir / "disk"
    disk.mkdir()
    assert mount_file_system("tmpfs", disk, "tmpfs", "size=8m")
    with Avfs(disk / "home", identity=ADA) as avfs, avfs.create_vault("t") as other:
        with pytest.raises(FuseUnavailable, match="tmpfs"):
            other.workspace().mount(tree, backend="overlay")
        assert mounted(other) == []
        assert not tree.exists()
    wait_for(lambda: unmount(disk))
    assert mounted(vault) == []


def test_a_workspace_that_began_with_nothing_is_mounted(mount_dir: Path, tree: Path) -> None:
    """There is no commit to stand on."""
    with Avfs(mount_dir / "h2", identity=ADA) as avfs, avfs.create_vault("e") as vault, vault.workspace() as work:
        with work.mount(tree, backend="overlay"):
            (tree / "first").write_text("first\n")
            assert work.checkpoint().outcome == "created"
        assert work.read("first") == b"first\n"


def test_a_program_may_remove_the_link_of_git(work: Workspace, tree: Path) -> None:
    """It is in no checkpoint, and there again the next time."""
    with work.mount(tree, backend="overlay"):
        (tree / ".git").unlink()
        assert not (tree / ".git").exists()
        assert changed(work) == []
    with work.mount(tree, backend="overlay"):
        assert (tree / ".git").read_text().startswith("gitdir: ")


def test_base_directories_are_renamed(vault: Vault, work: Workspace, tree: Path) -> None:
    """By the kernel, in one step; what shows it afterwards shows the same, and a checkpoint holds that."""
    with work.mount(tree, backend="overlay"):
        os.rename(tree / "d", tree / "e")
        (tree / "e" / "below" / "beside").write_text("beside\n")
        os.rename(tree / "e" / "below", tree / "deepest")
        assert work.checkpoint().outcome == "created"
        os.rename(tree / "deepest", tree / "e" / "again")
    shown = {path: work.read(path) for path in ("e/again/deep", "e/again/beside")}
    assert shown == {"e/again/deep": b"deep\n", "e/again/beside": b"beside\n"}
    names = subprocess.run(
        ["git", "ls-tree", "-r", "--name-only", "work"], cwd=vault.path, capture_output=True, check=True
    ).stdout
    assert names == b"deepest/beside\ndeepest/deep\nfile\n"


def test_root_s_marks_are_for_root(vault: Vault, work: Workspace, tree: Path) -> None:
    """Another user, who cannot see what was removed or moved, is told so, and reads what nothing was changed in."""
    home = vault.path.parent.parent
    open_way(home)
    subprocess.run(["chmod", "-R", "a+rX", home], check=True)
    os.chown(vault.path, 65534, 65534)  # else it is not trusted

    def read() -> str:
        with Avfs(home) as avfs, avfs.open_vault("v") as theirs:
            said = [theirs.workspace("main").read("file").decode()]
            try:
                theirs.workspace("work").status()
            except LayerNotUnderstood as error:
                said += [error.message, error.hint or ""]
        return "|".join(said)

    assert as_user(65534, read) == "content\n"
    with work.mount(tree, backend="overlay"):
        os.rename(tree / "d", tree / "e")
    subprocess.run(["chmod", "-R", "a+rX", vault.path], check=True)
    content, message, hint = as_user(65534, read).split("|")
    assert (content, message) == (
        "content\n",
        "'/' carries the overlayfs mark 'trusted.overlay.*', which only root can read",
    )
    assert "as root" in hint


def test_base_directories_of_other_layers_are_not_renamed(work: Workspace, tree: Path) -> None:
    """Where the marks are those of ordinary users, overlayfs refuses that; tools copy then."""
    spell_for_users(work)
    with work.mount(tree, backend="overlay"):
        with pytest.raises(OSError, match="cross-device") as caught:
            os.rename(tree / "d", tree / "e")
        assert caught.value.errno == errno.EXDEV
        subprocess.run(["mv", tree / "d", tree / "e"], check=True)
        assert (tree / "e" / "below" / "deep").read_text() == "deep\n"


def test_what_is_copied_from_is_not_changed(vault: Vault, work: Workspace, tree: Path) -> None:
    """The fork holds the copy alone: overlayfs would copy a file of the base, too, that is opened for writing."""
    with work.mount(tree, backend="overlay"):
        work.copy("file", "copy")
        assert (tree / "copy").read_text() == "content\n"
        usage = vault.fork_info("work", usage=True).usage
        assert usage is not None
        assert (usage.size_bytes, usage.files) == (8, 1)


def test_a_session_ends_after_operations_that_a_program_has_made_fail(vault: Vault, mount_dir: Path) -> None:
    """What an error in the server holds open does not keep the tree in use once it is unmounted."""
    work, tree, over = vault.workspace("work"), mount_dir / "tree", threading.Event()
    for number in range(40):
        work.write(f"many/{number}", b"1\n")
    work.checkpoint("many")
    session = work.mount(tree, backend=_BY)
    pid, server = session.info().pid, server_of(session)

    def move_taken() -> None:
        """Move away what avfs takes out of the tree while it replaces files."""
        number = 0
        while not over.is_set():
            for staging in tree.glob(".avfs-staging-*"):
                with contextlib.suppress(OSError):
                    for name in os.listdir(staging / "taken"):
                        number += 1
                        os.rename(staging / "taken" / name, tree / f"moved-{number}")

    thread = threading.Thread(target=move_taken)
    thread.start()
    failed = 0
    try:
        for _ in range(100):
            for number in range(40):
                with contextlib.suppress(OSError):
                    (tree / "many" / str(number)).write_bytes(os.urandom(4))
            try:
                work.restore("many")
            except AvfsError:
                failed += 1
            if failed > 2:
                break
    finally:
        over.set()
        thread.join()
        session.unmount(lazy=True)
    assert failed
    wait_for(lambda: not Path(f"/proc/{pid}").exists() and not Path(f"/proc/{server}").exists())

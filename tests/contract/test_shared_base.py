"""The read-only mount of a base below commands in many forks: one for all of them, for as long as there is one."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.errors import MountPointUnusable, SessionFailed
from avfs_git.host.mounts.mounts import list_mounts
from avfs_git.model import SessionInfo
from avfs_git.sdk import Vault
from avfs_git.session.life.request import Request
from avfs_git.session.serve.start import start_session
from tests.support.capabilities import mount, unmount
from tests.support.live_tree import FORK, PROJECT, make_vault, mounted
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.needs("git", "fuse", "overlayfs", "user-xattrs", "whiteout"), pytest.mark.slow]


_USER = """
import sys
from pathlib import Path
from avfs_git import Avfs
with Avfs(Path(sys.argv[1])) as avfs, avfs.open_vault("v") as vault, vault.workspace(sys.argv[2]) as work:
    with work.prepare() as prepared:
        for line in sys.stdin:
            result = prepared.exec(shell=line)
            print(result.stdout.decode().strip(), flush=True)
"""


class User:
    """A process with a prepared session in a fork."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def exec(self, text: str) -> str:
        """Let it run something in its fork; what that says."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        """Let it end as programs do."""
        self.process.communicate()
        assert self.process.returncode == 0


@pytest.fixture
def vault(mount_dir: Path, tmp_path: Path) -> Iterator[Vault]:
    """A vault with a file and three forks of one base."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("content\n")
    with Avfs(mount_dir / "h") as avfs, avfs.create_vault("v", source=source) as vault:
        for name in ("a", "b", "c"):
            vault.fork(name).close()
        yield vault
    await_no_mount(mount_dir)


@contextmanager
def user(mount_dir: Path, fork: str) -> Iterator[User]:
    """Start a process with a prepared session."""
    process = subprocess.Popen(
        [sys.executable, "-c", _USER, mount_dir / "h", fork],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield User(process)
    finally:
        process.kill()
        process.communicate()


def await_no_mount(directory: Path) -> None:
    """Wait until nothing is mounted below a directory, which is to come by itself."""
    wait_for(lambda: not [mount for mount in list_mounts() if directory in mount.directory.parents])


def bases(vault: Vault) -> list[SessionInfo]:
    """List the mounts of bases."""
    return [session for session in vault.sessions(bases=True) if session.readonly]


def await_end(vault: Vault, session: str) -> None:
    """Wait until a session is over."""
    wait_for(lambda: not any(info.id == session for info in vault.sessions(bases=True)))


@pytest.mark.usefixtures("person")
def test_forks_of_one_base_share_its_mount_until_the_last_has_ended(vault: Vault, mount_dir: Path) -> None:
    """It does not end with the process that made it, and it does end."""
    with ExitStack() as stack:
        first, second, third = (stack.enter_context(user(mount_dir, name)) for name in ("a", "b", "c"))
        for number, one in enumerate((first, second, third)):
            assert one.exec(f"cat file; echo {number} > file") == "content"
            assert one.exec("cat file") == str(number)
        (base,) = bases(vault)
        first.end()
        assert second.exec("cat file") == "1"
        with user(mount_dir, "a") as again:
            assert again.exec("cat file") == "0"
            assert [info.id for info in bases(vault)] == [base.id]
        second.end()
        assert third.exec("cat file") == "2"
        assert [info.id for info in bases(vault)] == [base.id]
        third.end()
        await_end(vault, base.id)


@pytest.mark.usefixtures("person")
def test_users_who_come_at_once_have_one_mount(vault: Vault, mount_dir: Path) -> None:
    """Whoever is a moment too late to mount it uses that of the others."""
    with ExitStack() as stack:
        users = [stack.enter_context(user(mount_dir, name)) for name in ("a", "b", "c")]
        with ThreadPoolExecutor(len(users)) as pool:
            assert list(pool.map(lambda one: one.exec("cat file"), users)) == ["content"] * len(users)
        (base,) = bases(vault)
        assert len([mount for mount in list_mounts() if mount.directory == base.directory]) == 1
        for one in users:
            one.end()
    await_end(vault, base.id)


@pytest.mark.usefixtures("person")
def test_a_user_that_is_killed_is_not_counted_any_more(vault: Vault, mount_dir: Path) -> None:
    """Others go on over the same mount; it goes with the last of them, also if that one is killed."""
    with user(mount_dir, "a") as first, user(mount_dir, "b") as second:
        assert first.exec("cat file") == second.exec("cat file") == "content"
        (base,) = bases(vault)
        first.process.kill()
        first.process.wait()
        time.sleep(0.3)
        assert second.exec("cat file") == "content"
        assert [info.id for info in bases(vault)] == [base.id]
        second.process.kill()
        second.process.wait()
        await_end(vault, base.id)


@pytest.mark.usefixtures("person")
def test_a_base_whose_process_is_killed_is_mounted_anew(vault: Vault, mount_dir: Path) -> None:
    """Who comes next takes the dead mount away and makes another; nobody waits for ever."""
    with user(mount_dir, "a") as first:
        assert first.exec("cat file") == "content"
        (base,) = bases(vault)
        os.kill(base.pid, signal.SIGKILL)
        with user(mount_dir, "b") as second:
            assert second.exec("cat file") == "content"
            (other,) = bases(vault)
            assert other.id != base.id
            second.end()
        await_end(vault, other.id)


def test_a_server_that_is_killed_does_not_forget_the_users(vault: Vault, mount_dir: Path) -> None:
    """Its successor goes on waiting for the last of them."""
    with user(mount_dir, "a") as first:
        assert first.exec("cat file") == "content"
        (base,) = bases(vault)
        (server,) = map(int, Path(f"/proc/{base.pid}/task/{base.pid}/children").read_text().split())
        os.kill(server, signal.SIGKILL)
        assert first.exec("ls; cat file") == "file"
        time.sleep(0.3)
        assert [info.id for info in bases(vault)] == [base.id]
        first.end()
        await_end(vault, base.id)


@pytest.mark.usefixtures("person")
def test_a_base_that_nobody_came_to_use_ends(vault: Vault, mount_dir: Path) -> None:
    """Who asked for it was killed before it counted as a user."""
    leash, hand = os.pipe()
    with vault.workspace("a") as work:
        head = work.status().head
    request = Request(
        git_dir=os.fspath(vault.path),
        vault="v",
        fork="a",
        directory=os.fspath(mount_dir / "base"),
        lock_timeout_s=5,
        at=head,
        leash_fd=leash,
        is_shared=True,
    )
    found = start_session(vault.path / "avfs" / "sessions", request)
    os.close(leash)
    time.sleep(0.2)
    assert [info.id for info in bases(vault)] == [found.record.id]
    os.close(hand)
    await_end(vault, found.record.id)


def test_a_mount_that_another_user_made_is_not_used(
    vault: Vault, mount_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither its record nor its place is believed: the kernel tells whose they are."""
    with Avfs(mount_dir / "h", lock_timeout_s=0.2) as avfs, avfs.open_vault("v") as mine, mine.workspace("a") as work:
        head = work.status().head
        assert head is not None
        monkeypatch.setattr(os, "geteuid", lambda: 65534)
        with pytest.raises((MountPointUnusable, SessionFailed)):
            mine._dispatch.lowers.find(head, None, fork="main")
        monkeypatch.undo()


def _make_files(directory: Path) -> Path:
    for number in range(30):
        (directory / f"d{number}").mkdir(parents=True)
        for name in range(10):
            (directory / f"d{number}" / f"f{name}").write_text(f"{number} {name}\n")
    return directory


def _seek(file: Path, whence: int) -> list[int]:
    """Ask where data or a hole begins, at places in and beyond a file of four bytes; the errors as their numbers."""
    found = []
    fd = os.open(file, os.O_RDONLY)
    for offset in (0, 3, 4, -1):
        try:
            found.append(os.lseek(fd, offset, whence))
        except OSError as error:
            found.append(error.errno or 0)
    os.close(fd)
    return found


@pytest.mark.needs("root")
def test_overlayfs_asks_for_no_attributes_and_no_holes_where_there_are_none(mount_dir: Path, tmp_path: Path) -> None:
    """It would ask for a mark of each file, in each of its mounts; when nothing in the base has any, that ends.

    So do holes.
    """
    home, base = mount_dir / "home", mount_dir / "base"
    base.mkdir()
    make_vault(home, _make_files(tmp_path / "source"))
    with Avfs(home) as avfs, avfs.open_vault("v") as vault, vault.workspace(FORK) as work:
        head = work.status().head
    asked, sought = [], []
    with mounted(home / "vaults" / "v.git", home, base, f"at={head}", "base") as tree, ExitStack() as stack:
        for number in range(3):
            place = mount_dir / str(number)
            for part in ("upper", "work", "merged"):
                (place / part).mkdir(parents=True)
            layers = f"lowerdir={base},upperdir={place}/upper,workdir={place}/work,userxattr"
            assert mount("overlay", place / "merged", "overlay", layers)
            stack.callback(unmount, place / "merged")
            before = tree.counts()
            assert sum(len(files) for _, _, files in os.walk(place / "merged")) == 300
            subprocess.run(["find", place / "merged", "-size", "+1k"], check=True, capture_output=True)
            file = place / "merged" / "d1" / "f1"
            assert _seek(file, os.SEEK_DATA) == [0, 3, errno.ENXIO, errno.ENXIO]
            assert _seek(file, os.SEEK_HOLE) == [4, 4, errno.ENXIO, errno.ENXIO]
            after = tree.counts()
            asked.append(after.get("getxattr", 0) - before.get("getxattr", 0))
            sought.append(after.get("lseek", 0) - before.get("lseek", 0))
            assert os.listxattr(file) == []
            os.setxattr(file, "user.mine", b"value")
            assert os.getxattr(file, "user.mine") == b"value"
        stack.close()
        tree.unmount()
    assert asked[0] > 30
    assert asked[1:] == [0, 0]
    assert sought == [1, 0, 0]


def test_attributes_of_the_base_are_found_however_many_files_were_looked_at(mount_dir: Path, tmp_path: Path) -> None:
    """One file with an attribute, anywhere, keeps the others from being passed over."""
    source = _make_files(tmp_path / "source")
    os.setxattr(source / "d29" / "f9", "user.kept", b"value")
    code = (
        "import os; [os.lstat(os.path.join(d, n)) for d, _, f in os.walk('.') for n in f]; "
        "print(os.getxattr('d29/f9', 'user.kept').decode(), os.listxattr('d0/f0'))"
    )
    with Avfs(mount_dir / "h") as avfs, avfs.create_vault("v", source=source) as vault, vault.workspace() as work:
        for _ in range(2):
            done = work.exec("python3", "-c", code, backend="overlay")
            assert (done.exit_code, done.stdout) == (0, b"value []\n"), done.stderr
    await_no_mount(mount_dir)

"""Files of a live session that something else has damaged: commands find the session again, and the mount can be ended."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git import Avfs, Session, Vault
from avfs_git.errors import HostError
from avfs_git.host.mounts.mounts import find_mount
from tests.support.as_ordinary import everybody
from tests.support.cli import Cli
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"), pytest.mark.usefixtures("person")]


@pytest.fixture(params=everybody())
def person(request: pytest.FixtureRequest) -> str:
    """Run each test as root and as an ordinary user."""
    return str(request.param)


@pytest.fixture
def vault(mount_dir: Path) -> Iterator[Vault]:
    """A vault with something in it; a session that a failed test leaves is ended."""
    with Avfs(mount_dir / "home", lock_timeout_s=5) as avfs, avfs.create_vault("v") as made:
        made.workspace().write("a", b"one\n")
        made.workspace().checkpoint()
        yield made
        for info in made.sessions():
            found = made.find_session(info.fork)
            if found is not None:
                found.unmount(force=True)


@pytest.fixture
def session(vault: Vault, mount_dir: Path) -> Session:
    """The mount of its fork."""
    return vault.workspace().mount(mount_dir / "tree")


def _record(vault: Vault, session: Session) -> Path:
    return vault.path / "avfs" / "sessions" / session.info().id / "record"


@pytest.mark.parametrize("damage", ["garbage", "empty", "gone", "other"])
def test_a_damaged_record_is_written_again(vault: Vault, session: Session, damage: str) -> None:
    """Within seconds: without it no command finds the session, and each waits for the workspace."""
    record = _record(vault, session)
    whole = record.read_bytes()
    if damage == "gone":
        record.unlink()
    else:
        other = whole.replace(b'"fork": "main"', b'"fork": "other"')
        record.write_bytes({"garbage": b"\0garbage", "empty": b"", "other": other}[damage])

    wait_for(lambda: record.exists() and record.read_bytes() == whole)
    vault.workspace().write("b", b"two\n")
    assert (session.path / "b").read_bytes() == b"two\n"


@pytest.mark.parametrize("damage", ["gone", "new", "garbage", "empty"])
def test_a_lock_that_was_removed_or_damaged_is_kept_again(vault: Vault, session: Session, damage: str) -> None:
    """Within seconds: else the next process takes a new one, and writes beside the session."""
    lock = vault.path / "avfs" / "workspaces" / "main" / "lock"
    data = lock.read_bytes()
    if damage in ("gone", "new"):
        lock.unlink()
        if damage == "new":  # as another process makes it
            lock.touch(0o600)
    else:
        with lock.open("r+b") as file:
            file.write(b"\xff" * 400 if damage == "garbage" else bytes(400))
    wait_for(lambda: lock.exists() and lock.read_bytes()[40:64] == data[40:64])

    vault.workspace().write("b", b"two\n")
    assert (session.path / "b").read_bytes() == b"two\n"
    (session.path / "c").write_bytes(b"three\n")
    assert [change.path for change in vault.workspace().status().changed_files] == [b"b", b"c"]
    with lock.open("r+b") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    session.unmount()
    assert vault.workspace().read("c") == b"three\n"
    assert vault.workspace().checkpoint().outcome == "created"


def test_a_session_without_its_socket_can_be_ended(cli: Cli, vault: Vault, session: Session) -> None:
    """No command reaches it: what refuses one says so, and how the mount is ended and made again."""
    (session.path / "b").write_bytes(b"two\n")
    next((vault.path / "avfs" / "sessions").glob("*/socket")).unlink()
    refused = cli("--vault", str(vault.path), "rm", "a")
    assert refused.status == 23
    assert "whose socket is gone" in refused.stderr
    assert "unmount main`" in refused.stderr
    cli("--vault", str(vault.path), "unmount", "main").ok()
    assert vault.workspace().read("b") == b"two\n"


def test_a_mount_without_a_record_can_be_ended(cli: Cli, vault: Vault, session: Session) -> None:
    """A directory stands in the place of the record: the session cannot write it again, and the mount ends all the same."""
    record = _record(vault, session)
    (session.path / "b").write_bytes(b"two\n")
    record.unlink()
    record.mkdir()

    refused = cli("stop", str(session.path))
    assert refused.status == 50
    assert f"avfs unmount {session.path}" in refused.stderr
    assert cli("unmount", str(session.path)).ok().text.startswith("Unmounted a tree without a record from")
    assert find_mount(session.path) is None
    wait_for(lambda: not record.exists() or not record.parent.joinpath("lock").exists())
    assert vault.workspace().read("b") == b"two\n"


def test_a_mount_without_a_record_that_is_used_stays(cli: Cli, vault: Vault, session: Session) -> None:
    """As with a record."""
    record = _record(vault, session)
    record.unlink()
    record.mkdir()
    with (session.path / "a").open("rb"):
        assert cli("unmount", str(session.path)).status == 53
        assert find_mount(session.path) is not None
        assert "in use until" in cli("unmount", "--lazy", str(session.path)).ok().text
    assert find_mount(session.path) is None


@pytest.mark.parametrize("person", [who for who in everybody() if who != "root"], indirect=True)
def test_a_work_directory_that_is_closed_is_told_at_once(vault: Vault, mount_dir: Path) -> None:
    """A server that cannot use it is not started twenty times."""
    work = vault.path / "avfs" / "workspaces" / "main" / "work"
    work.chmod(0)
    began = time.monotonic()
    try:
        with pytest.raises(HostError) as refused:
            vault.workspace().mount(mount_dir / "tree")
    finally:
        work.chmod(0o700)
    assert f"'{work}'" in refused.value.message
    assert time.monotonic() - began < 8
    vault.workspace().mount(mount_dir / "tree").unmount()

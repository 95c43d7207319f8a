"""Records of sessions: what lives, what is dead, and what is cleaned up."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from avfs_git.model import SessionState
from avfs_git.session.life.mountsource import mount_source, session_of_source, vault_of_source
from avfs_git.session.life.places import SessionPlace
from avfs_git.session.life.record import HeldSession, begin, find_workspace_session, has_ended, list_sessions

NAMES = ["plain", "with space", "line\nbreak", "back\\slash \\040", "not UTF-8 \udcff", "#,@:"]


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    """Where records are kept; not made yet."""
    return tmp_path / "vault" / "avfs" / "sessions"


def start(sessions: Path, *, fork: str = "work", directory: str = "/nowhere", at: str | None = None) -> HeldSession:
    """Begin a session of this process that mounts nothing."""
    return begin(sessions, fork=fork, directory=Path(directory), readonly=at is not None, at=at)


def die(held: HeldSession) -> None:
    """Do what the kernel does when the process of a session is killed."""
    os.close(held.lock_fd)


@pytest.mark.parametrize("name", NAMES)
def test_record_says_what_the_session_is(sessions: Path, name: str) -> None:
    """What was written is read back, whatever the directory is called."""
    held = start(sessions, directory=f"/{name}")

    (found,) = list_sessions(sessions)

    assert found.record == held.record
    assert found.directory == Path(f"/{name}")
    assert found.info("v").state == SessionState.STARTING
    held.end(keep_log=False)


def test_session_lives_as_long_as_it_has_its_lock(sessions: Path) -> None:
    """A record counts by its lock alone; without one it is removed by whoever looks."""
    held = start(sessions)
    assert not has_ended(held.place)

    die(held)

    assert has_ended(held.place)
    assert list_sessions(sessions) == []
    assert os.listdir(sessions) == ["guard"]


def test_a_record_in_a_copy_of_a_vault_says_nothing(sessions: Path, tmp_path: Path) -> None:
    """Or the mount and the directories of the first one would be taken away for those of a dead session."""
    made = tmp_path / "made"
    made.mkdir()
    held = start(sessions)
    held.write(SessionState.MOUNTED, made=(os.fspath(made),))
    copy = tmp_path / "copy" / "avfs" / "sessions"
    shutil.copytree(sessions, copy)

    assert list_sessions(copy) == []

    assert made.is_dir()
    assert os.listdir(copy) == ["guard"]
    held.end(keep_log=False)


def test_a_link_is_no_lock(sessions: Path) -> None:
    """One that leads nowhere, or to a lock that somebody holds, keeps no session alive."""
    held, other = start(sessions), start(sessions)
    die(held)
    for target in (held.place.lock, other.place.lock):
        held.place.root.mkdir(exist_ok=True)
        held.place.lock.unlink(missing_ok=True)
        held.place.lock.symlink_to(target)
        assert [found.record.id for found in list_sessions(sessions)] == [other.record.id]
    other.end(keep_log=False)


def test_end_removes_everything(sessions: Path) -> None:
    """After a plain end nothing of the session is on disk, half-written files included."""
    held = start(sessions)
    for name in ("socket", "log", ".record.abc.tmp"):
        (held.place.root / name).write_bytes(b"")

    held.end(keep_log=False)

    assert os.listdir(sessions) == ["guard"]


def test_log_of_a_dead_session_is_kept_and_old_ones_are_not(sessions: Path) -> None:
    """What a killed session had to say can be read afterwards; only the last logs stay."""
    for number in range(13):
        held = start(sessions)
        held.place.log.write_text(str(number))
        die(held)
        list_sessions(sessions)

    logs = sorted((sessions / "logs").iterdir())

    assert [log.read_text() for log in logs] == [str(number) for number in range(3, 13)]


@pytest.mark.parametrize("damage", [b"", b"\0" * 100, b"{}", b"[1]", b'{"id": 1', None], ids=repr)
def test_damaged_record_of_a_dead_session_is_removed(sessions: Path, damage: bytes | None) -> None:
    """A record that a power cut tore, or never wrote, stands in nobody's way."""
    held = start(sessions)
    die(held)
    if damage is None:
        held.place.record.unlink()
        held.place.lock.unlink()
    else:
        held.place.record.write_bytes(damage)

    assert list_sessions(sessions) == []
    assert os.listdir(sessions) == ["guard"]


def test_directories_made_for_a_dead_session_go_while_they_are_empty(sessions: Path, tmp_path: Path) -> None:
    """What was made for the mount is removed; what somebody has put something into stays."""
    kept, gone = tmp_path / "kept", tmp_path / "kept" / "gone"
    for made, used in (((kept, gone), True), ((gone,), False)):
        for directory in made:
            directory.mkdir(exist_ok=True)
        if used:
            (kept / "file").write_bytes(b"")
        held = start(sessions)
        held.write(SessionState.MOUNTED, made=tuple(map(str, made)))
        die(held)

        list_sessions(sessions)

        assert (kept.exists(), gone.exists()) == (True, False)


def test_directories_of_another_boot_are_left_alone(sessions: Path, tmp_path: Path) -> None:
    """After a boot, a name may mean something else: only the record goes."""
    (tmp_path / "mine").mkdir()
    held = start(sessions)
    held.record = replace(held.record, boot="another")
    held.write(SessionState.MOUNTED, made=(str(tmp_path / "mine"),))
    die(held)

    assert list_sessions(sessions) == []
    assert (tmp_path / "mine").exists()


def test_session_of_the_workspace_is_told_from_those_of_commits(sessions: Path) -> None:
    """Only what serves the workspace keeps others from it; one that has given it back does not."""
    commit = start(sessions, at="0" * 40)
    other = start(sessions, fork="other")
    assert find_workspace_session(sessions, "work") is None

    workspace = start(sessions)
    found = find_workspace_session(sessions, "work")
    assert found is not None
    assert found.record.id == workspace.record.id

    workspace.write(SessionState.ENDED)
    assert find_workspace_session(sessions, "work") is None
    for held in (commit, other, workspace):
        held.end(keep_log=False)


def test_nothing_is_listed_where_nothing_was(sessions: Path) -> None:
    """Looking makes nothing."""
    assert list_sessions(sessions) == []
    assert not sessions.exists()


@pytest.mark.parametrize("fork", ["main", "feature/x", "a@b", "@{x", "ünicode"])
@pytest.mark.parametrize("git_dir", ["/v.git", "/a:b@c/v.git", "/line\nbreak"])
def test_mount_table_leads_back_to_session_and_vault(fork: str, git_dir: str) -> None:
    """The text that a mount is known by holds both, whatever they are called."""
    source = mount_source("1a2b3c4d", fork, Path(git_dir))

    assert session_of_source(source) == "1a2b3c4d"
    assert vault_of_source(source) == Path(git_dir)


@pytest.mark.parametrize("source", ["", "avfs:", "avfs:x", "/dev/sda1", "avfs-probe", "tmpfs"])
def test_other_mounts_are_not_taken_for_ours(source: str) -> None:
    """What does not begin as ours is nobody's session."""
    assert session_of_source(source) is None
    assert vault_of_source(source) is None


def test_place_of_a_session_is_one_directory(sessions: Path) -> None:
    """All its files stand in one directory that only its owner may enter."""
    held = start(sessions)

    assert held.place.root == SessionPlace(sessions, held.record.id).root
    assert held.place.root.stat().st_mode & 0o777 == 0o700
    held.end(keep_log=False)

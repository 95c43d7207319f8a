"""What a failure of the operating system is told as."""

from __future__ import annotations

import errno
import os

import pytest

from avfs_git.errors import FREE_SPACE, GitFailed, HostError
from avfs_git.gitstore.gitcommand import check_status
from avfs_git.gitstore.remote.runner import Ended, check_received


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOTDIR])
@pytest.mark.parametrize("name", ["/vault/refs", b"/vault/refs"])
def test_what_is_closed_is_named(number: int, name: str | bytes) -> None:
    """Where something else is being done: `cannot open` a vault does not say which of its directories is closed."""
    told = HostError("open '/vault'", OSError(number, os.strerror(number), name))
    assert told.message == f"cannot open '/vault': {os.strerror(number)} at '/vault/refs'"


@pytest.mark.parametrize(
    ("action", "error"),
    [
        ("open '/vault/refs'", PermissionError(errno.EACCES, "Permission denied", "/vault/refs")),
        ("open '/vault'", PermissionError(errno.EACCES, "Permission denied", b"refs")),
        ("open '/vault'", PermissionError(errno.EACCES, "Permission denied", 5)),
        ("open '/vault'", PermissionError(errno.EACCES, "Permission denied")),
        ("write '/vault/a'", OSError(errno.ENOSPC, "No space left on device", "/vault/.a.1234.tmp")),
    ],
)
def test_nothing_is_named_twice_or_in_vain(action: str, error: OSError) -> None:
    """A name without a directory says nothing, nor one of a temporary file on a full disk."""
    assert HostError(action, error).message == f"cannot {action}: {error.strerror}"


full = pytest.mark.parametrize(
    "messages",
    [
        "fatal: sha1 file '/v/tmp_pack' write error. Out of diskspace\n",
        "error: unable to write file: No space left on device\nfatal: failed\n",
        "fatal: write error: Disk quota exceeded\n",
    ],
)


@full
def test_git_on_a_full_disk_needs_space(messages: str) -> None:
    """The doctor, to whom other failures of git lead, cannot help."""
    with pytest.raises(GitFailed) as failed:
        check_status(128, messages, "pack-objects")
    assert failed.value.hint == FREE_SPACE


def test_another_failure_of_git_leads_to_the_doctor() -> None:
    """It may be damage."""
    with pytest.raises(GitFailed) as failed:
        check_status(128, "fatal: bad object\n", "pack-objects")
    assert "doctor" in str(failed.value.hint)


@full
def test_a_fetch_on_a_full_disk_is_no_fault_of_the_remote(messages: str) -> None:
    """It needs space here, too."""
    with pytest.raises(HostError, match="store what was fetched") as failed:
        check_received(Ended(128, b"", tuple(messages.splitlines())), "https://example.org/a")
    assert failed.value.hint == FREE_SPACE

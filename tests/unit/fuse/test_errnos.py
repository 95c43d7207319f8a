from __future__ import annotations

import errno
import logging

import pytest

from avfs_git.errors import HostError, ObjectMissing
from avfs_git.fuse.errnos import errno_of


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EXDEV, errno.ESTALE])
def test_the_numbers_of_the_system_are_passed_on(number: int, caplog: pytest.LogCaptureFixture) -> None:
    """A program sees what the disk below said, and nobody is bothered with it."""
    assert errno_of(OSError(number, "x"), "a test") == number
    assert not caplog.records


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_took_no_more_is_told_and_logged(number: int, caplog: pytest.LogCaptureFixture) -> None:
    """Also where it was the vault's disk, on which a program did not know that it was writing."""
    with caplog.at_level(logging.ERROR):
        assert errno_of(HostError("store it", OSError(number, "it is full")), "read of node 7") == number

    assert "read of node 7 failed: cannot store it: it is full" in caplog.text


@pytest.mark.parametrize(
    "error",
    [
        ObjectMissing("0" * 40),
        HostError("x", OSError(errno.EACCES, "x")),
        ValueError("x"),
        OSError("no number"),
        OSError(512, "the kernel's own"),
        OSError(errno.EBADF, "x"),
    ],
    ids=repr,
)
def test_what_is_a_fault_of_avfs_is_eio_and_logged(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing unforeseen passes as an ordinary error, or without a trace."""
    with caplog.at_level(logging.ERROR):
        assert errno_of(error, "read of node 7") == errno.EIO

    assert "read of node 7" in caplog.text
    assert "Traceback" in caplog.text or type(error).__name__ in caplog.text

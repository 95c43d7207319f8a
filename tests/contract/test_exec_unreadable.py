"""What a command leaves that cannot be taken over at once: it is not lost, and the workspace goes on."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.backends import checkout
from avfs_git.errors import HostError
from avfs_git.proxy.exec.commits import Commits
from avfs_git.sdk import Workspace
from tests.support.commands import BACKENDS, fork_with_file

pytestmark = [
    pytest.mark.needs("git", "user-xattrs", "whiteout", "userns"),
    pytest.mark.slow,
    pytest.mark.usefixtures("person"),
]


@pytest.fixture
def work(mount_dir: Path) -> Iterator[Workspace]:
    """A fork with a file."""
    with fork_with_file(mount_dir / "h") as made:
        yield made


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_file_that_its_owner_may_not_read_is_kept(work: Workspace, backend: str) -> None:
    """An ordinary user's, too: its content and its mode are in the commit, and the next command goes on."""
    done = work.exec(shell="echo made > new; printf X > file; chmod 000 file", backend=backend)
    again = work.exec(shell="stat -c %a file; chmod 644 file; cat file", backend=backend)

    assert {change.path for change in done.changed_files} == {b"file", b"new"}
    assert again.stdout == b"0\nX"
    assert not work.status().changed_files


def test_what_could_not_be_taken_over_comes_later(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, say: the copy stays until the workspace is used next."""

    def fail(*_: object, **__: object) -> None:
        raise HostError("write", OSError(errno.ENOSPC, "no space"))

    with monkeypatch.context() as patched:
        patched.setattr(checkout, "take_in", fail)
        with pytest.raises(HostError, match=r"the command has run \(exit status 0\), then: cannot write: no space"):
            work.exec(shell="echo made > new; rm file", backend="checkout")

    assert {change.path for change in work.status().changed_files} == {b"file", b"new"}
    assert work.exec("ls").stdout == b"new\n"


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_error_of_the_save_says_that_the_command_has_run(
    work: Workspace, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its status: a program that tries again would run it twice."""

    def fail(*_: object, **__: object) -> None:
        raise HostError("write a pack", OSError(errno.ENOSPC, "no space"))

    with monkeypatch.context() as patched:
        patched.setattr(Commits, "_save", fail)
        with pytest.raises(HostError, match=r"the command has run \(exit status 4\), then: cannot write") as failed:
            work.exec(shell="echo made > new; exit 4", backend=backend, commit_failed=True, checkpoint=False)

    assert failed.value.details["command_exit_code"] == 4
    assert "try again" not in str(failed.value.hint)
    assert "`avfs checkpoint save`" in str(failed.value.hint)
    assert work.read("new") == b"made\n"


def test_what_a_command_did_that_was_given_up_is_uncommitted(work: Workspace) -> None:
    """As on the other backends."""
    with work.exec_stream(shell="echo made > new; echo go; sleep 100", backend="checkout") as running:
        assert next(iter(running)).data == b"go\n"

    assert {change.path for change in work.status().changed_files} == {b"new"}


@pytest.mark.parametrize("backend", BACKENDS[:2])
def test_a_directory_that_its_owner_may_not_read_stops_nothing(work: Workspace, backend: str) -> None:
    """Commands and checkpoints go on, and say what they keep as it was.

    Nothing in it is lost, and nothing replaces it.
    """
    work.write("d/in", b"first\n")
    start = work.checkpoint("with d").checkpoint
    assert start is not None
    done = work.exec(shell="echo second > d/in; echo new > d/new; echo made > beside; chmod 000 d", backend=backend)
    is_root = os.geteuid() == 0

    told = [warning for warning in done.warnings if warning.code == "capture.unreadable"]
    assert [warning.path for warning in told] == ([] if is_root else [b"d"])
    assert {change.path for change in done.changed_files} == {b"beside"} | ({b"d/in", b"d/new"} if is_root else set())
    if not is_root:
        assert "chmod u+rwx" in told[0].message
        assert [warning.code for warning in work.status().warnings] == ["capture.unreadable"]
        with pytest.raises(HostError) as refused:
            work.restore(start.id)
        assert "chmod u+rwx" in str(refused.value.hint)
    work.exec(shell="chmod 755 d; echo more > more", backend=backend)

    assert not work.status().changed_files
    assert (work.read("d/in"), work.read("d/new")) == (b"second\n", b"new\n")
    head = work.vault.fork_info("work").head
    assert head is not None
    assert b"".join(work.open_read("d/new", at=head)) == b"new\n"


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mode", ["000", "300", "400"])
def test_a_root_that_its_owner_may_not_enter_is_opened_to_the_owner(work: Workspace, backend: str, mode: str) -> None:
    """Else nothing would work in the fork any more, nor bring it back."""
    before = work.stat("/").mode
    work.exec(shell=f"echo new > new; chmod {mode} .", backend=backend)
    assert work.read("new") == b"new\n"
    assert work.checkpoint("closed").checkpoint is not None
    work.exec(shell=f"chmod {mode} .", backend=backend)
    while work.exists("new"):
        work.undo()

    assert work.stat("/").mode == before
    assert work.read("file") == b"content\n"
    assert work.vault.doctor().problems == ()


def test_a_pipe_in_the_workspace_is_no_file_of_the_copy(work: Workspace, mount_dir: Path) -> None:
    """A copy on the checkout backend has no pipe, because no checkpoint holds one: it stays, and a warning says so."""
    upper = mount_dir / "h" / "vaults" / "v.git" / "avfs" / "workspaces" / "work" / "upper"
    work.write("other", b"1")
    os.mkfifo(upper / "pipe")
    done = work.exec(shell="test ! -e pipe && echo written > beside", backend="checkout")

    assert (done.exit_code, [change.path for change in done.changed_files]) == (0, [b"beside"])
    assert (upper / "pipe").is_fifo()
    assert b"pipe" in {warning.path for warning in done.warnings}

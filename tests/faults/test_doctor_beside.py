"""What the doctor finds or repairs, it looks at again: another process may have mended it, or work there."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault, Workspace, faults
from avfs_git.workspace.upkeep.checks import forks, logs, objects
from avfs_git.workspace.upkeep.checks.findings import Finding
from avfs_git.workspace.vault.vault import OpenVault
from tests.support.faults import git

pytestmark = [pytest.mark.needs("git", "user-xattrs", "whiteout")]


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A vault with a fork that has a checkpoint, and a branch of git's."""
    with Avfs(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write("file", b"1\n")
        vault.workspace().checkpoint()
        work = vault.fork("work")
        work.write("file", b"2\n")
        work.checkpoint()
    with Avfs(tmp_path / "home") as avfs, avfs.open_vault("v") as vault:
        yield vault


@contextmanager
def _meanwhile(act: Callable[[], object]) -> Iterator[None]:
    """Let another one act right before the doctor repairs something."""

    def meet(point: str) -> None:
        if point == "doctor.repairing":
            faults.arm(None)
            act()

    faults.arm(meet)
    try:
        yield
    finally:
        faults.arm(None)


def test_a_workspace_that_was_repaired_meanwhile_keeps_its_work(vault: Vault, tmp_path: Path) -> None:
    """Two find that its upper layer is gone.

    What is written after the first repair is not put into the trash by the second.
    """
    shutil.rmtree(vault.path / "avfs" / "workspaces" / "work" / "upper")

    with Avfs(tmp_path / "home") as avfs:
        other = avfs.open_vault("v")

        def repair_and_work() -> None:
            other.doctor(repair=True)
            other.workspace("work").write("new", b"not saved, nor in the log yet\n")

        with _meanwhile(repair_and_work):
            (problem, *_) = vault.doctor(repair=True).problems

        assert (problem.code, problem.fixed) == ("workspace.upper_lost", True)
        assert other.workspace("work").read("new") == b"not saved, nor in the log yet\n"


@pytest.mark.parametrize("gone", [False, True], ids=["moved", "deleted"])
def test_a_ref_that_was_moved_meanwhile_stays_there(vault: Vault, gone: bool) -> None:
    """A branch that names a missing commit has another value, or is deleted, when the doctor comes to it."""
    place, main = vault.path / "refs" / "heads" / "work", git(vault.path, "rev-parse", "main").strip()
    place.write_text("1" * 40 + "\n")

    with _meanwhile(place.unlink if gone else lambda: place.write_text(f"{main}\n")):
        found = [problem for problem in vault.doctor(repair=True).problems if problem.code == "ref.damaged"]

    assert [problem.fixed for problem in found] == [True]
    assert git(vault.path, "for-each-ref", "--format=%(objectname)", "refs/heads/work").split() == (
        [] if gone else [main]
    )


def test_a_lock_that_is_another_one_by_then_stays(vault: Vault) -> None:
    """The old lock was removed, and a git that is at work has taken it."""
    lock = vault.path / "refs" / "heads" / "main.lock"
    lock.write_bytes(b"")
    os.utime(lock, (time.time() - 10_000,) * 2)

    def take() -> None:
        lock.unlink()
        lock.write_bytes(b"of a git that is at work\n")

    with _meanwhile(take):
        (problem,) = vault.doctor(repair=True).problems

    assert (problem.code, problem.fixed) == ("lock.left", True)
    assert lock.read_bytes() == b"of a git that is at work\n"


@pytest.mark.parametrize("act", ["a fork is deleted", "a fork is being deleted", "others go on", "objects come"])
def test_what_others_are_doing_is_no_problem(
    vault: Vault, tmp_path: Path, act: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first look meets what another process has done in half, or does between two readings."""
    with Avfs(tmp_path / "home") as avfs:
        other = avfs.open_vault("v")
        done: list[str] = []

        def meanwhile(place: object, name: str, do: Callable[[], object]) -> None:
            real = getattr(place, name)

            def look(*given: object) -> object:
                if not done:
                    done.append(name)
                    return do() or real(*given)  # what is found meanwhile, or what is there after it
                return real(*given)

            monkeypatch.setattr(place, name, look)

        match act:
            case "a fork is deleted":
                meanwhile(forks, "has_lost_upper", lambda: other.delete_fork("work"))
            case "a fork is being deleted":
                head = git(vault.path, "rev-parse", "work").strip()
                git(vault.path, "update-ref", "-d", "refs/heads/work")
                meanwhile(forks, "fixable", lambda: git(vault.path, "update-ref", "refs/heads/work", head))
            case "others go on":
                meanwhile(vault._core.audit, "list_operations", lambda: other.fork("new").close())
            case _:
                meanwhile(objects, "fsck", lambda: ["error: refs/remotes/o/main: invalid reflog entry " + "1" * 40])

        report = vault.doctor()

    assert done
    assert [problem.description for problem in report.problems] == []


def test_a_problem_whose_numbers_change_meanwhile_is_told(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log was cut short, and another process goes on between the two looks: the operation that it ends with is new."""
    log = vault.path / "avfs" / "oplog"
    with Avfs(tmp_path / "home") as avfs:
        other = avfs.open_vault("v")
        older = log.read_bytes()
        for content in (b"3", b"4"):
            other.workspace("work").write("file", content)
            other.workspace("work").checkpoint()
    os.truncate(log, len(older))
    with Avfs(tmp_path / "home") as avfs:
        other = avfs.open_vault("v")
        done: list[Workspace] = []
        real = logs._check_log_end

        def go_on(core: OpenVault) -> Iterator[Finding]:
            yield from real(core)
            if not done:
                done.append(other.fork("new"))

        monkeypatch.setattr(logs, "_check_log_end", go_on)
        problems = vault.doctor().problems

    assert done
    assert [problem.code for problem in problems] == ["log.cut_short"]

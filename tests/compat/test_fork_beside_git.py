"""A fork of a clone in which git works meanwhile: it has the files of one moment, or a warning says that it may not."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from avfs_git.gitstore.foreign.takeover import import_as_remote
from avfs_git.sdk import Avfs
from avfs_git.workspace.creation import create
from avfs_git.workspace.creation.carry import carry_over
from avfs_git.workspace.forks import clones
from avfs_git.workspace.vault.origin import peek_state
from avfs_git.workspace.vault.vault import OpenVault
from tests.support.oracle import git

pytestmark = pytest.mark.needs("user-xattrs")

NAMES = [f"f{number}" for number in range(20)]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with two branches, which differ in every file."""
    place = tmp_path / "clone"
    place.mkdir()
    git("init", "-q", "-b", "main", cwd=place)
    for branch in ("main", "other"):
        git("checkout", "-q", "-B", branch, cwd=place)
        for name in NAMES:
            (place / name).write_text(f"{branch} {name}\n")
        git("add", ".", cwd=place)
        git("commit", "-qm", branch, cwd=place)
    git("checkout", "-q", "main", cwd=place)
    return place


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[OpenVault]:
    """A vault for forks."""
    with Avfs(tmp_path / "avfs") as avfs:
        path = avfs.create_vault("v").path
    with closing(OpenVault(path)) as opened:
        yield opened


def _fork(vault: OpenVault, clone: Path) -> tuple[str, set[str], list[str]]:
    """Fork a clone; give the subject of its commit, of which branches its files are, and codes of warnings."""
    warnings = clones.fork_present(vault, "task", clone)
    state, head = peek_state(vault, "task"), vault.read_head("task")
    assert state is not None
    assert state.base is not None
    assert head is not None
    words = {git("show", f"{state.base}:{name}", cwd=vault.git_dir).decode().split()[0] for name in NAMES}
    subject = git("log", "-1", "--format=%s", head.hex(), cwd=vault.git_dir).decode().strip()
    return subject, words, [warning.code for warning in warnings]


def _do_within(monkeypatch: pytest.MonkeyPatch, act: Any, *, times: int) -> None:
    """Do something between the first and the second half of a read, the first times that something is read."""
    read, left = create.capture_directory, [times]

    def capture(*given: Any, **named: Any) -> Any:
        if left[0]:
            left[0] -= 1
            act()
        return read(*given, **named)

    monkeypatch.setattr(clones, "capture_directory", capture)


def test_what_git_has_switched_meanwhile_is_read_again(
    vault: OpenVault, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit was read before the switch, the files are read after it: together they are no state of the clone."""
    _do_within(monkeypatch, lambda: git("checkout", "-q", "other", cwd=clone), times=1)
    assert _fork(vault, clone) == ("other", {"other"}, [])


@pytest.mark.parametrize("step", ["import_as_remote", "carry_over"])
def test_a_commit_that_git_makes_meanwhile_is_no_missing_object(
    vault: OpenVault, clone: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Before or after the objects were taken over."""
    take, left = (import_as_remote if step == "import_as_remote" else carry_over), [1]

    def commit_first(*given: Any) -> Any:
        if left.pop() if left else 0:
            for name in NAMES:
                (clone / name).write_text(f"later {name}\n")
            git("commit", "-qam", "later", cwd=clone)
        return take(*given)

    monkeypatch.setattr(clones, step, commit_first)
    assert _fork(vault, clone) == ("later", {"later"}, [])


def test_git_is_waited_for(vault: OpenVault, clone: Path) -> None:
    """It has changed a half of the files, and holds the lock of the index meanwhile."""
    lock = clone / ".git" / "index.lock"

    def end() -> None:
        for name in NAMES:
            (clone / name).write_text(f"main {name}\n")
        lock.unlink()

    lock.touch()
    for name in NAMES[:10]:
        (clone / name).write_text(f"half {name}\n")
    thread = threading.Timer(0.5, end)
    thread.start()
    assert _fork(vault, clone) == ("main", {"main"}, [])
    thread.join()


def test_git_that_goes_on_is_told(vault: OpenVault, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fork is made: what it has may be of two moments."""
    branches = ["other", "main"] * 5
    _do_within(monkeypatch, lambda: git("checkout", "-q", branches.pop(0), cwd=clone), times=10)
    assert _fork(vault, clone)[2] == ["fork.source_changing"]


def test_a_lock_that_a_killed_git_left_is_told(vault: OpenVault, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds up no fork, and is named."""
    monkeypatch.setattr(clones, "_GIT_WAIT_S", 30.0)
    (clone / ".git" / "index.lock").touch()
    os.utime(clone / ".git" / "index.lock", (time.time() - 60,) * 2)
    end = time.monotonic() + 30
    found = clones.fork_present(vault, "task", clone)
    assert time.monotonic() < end
    assert [warning.code for warning in found] == ["fork.source_changing"]
    assert f"'{clone / '.git' / 'index.lock'}'" in found[0].message


def test_a_vault_made_beside_git_tells_it(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its branches are of before, its files of both moments."""
    read = create.capture_directory

    def capture(*given: Any, **named: Any) -> Any:
        git("checkout", "-q", "other", cwd=clone)
        return read(*given, **named)

    monkeypatch.setattr(create, "capture_directory", capture)
    created = create.create_vault(tmp_path / "beside.git", source=clone)
    assert [warning.code for warning in created.warnings] == ["import.source_changing"]
    monkeypatch.undo()
    assert create.create_vault(tmp_path / "after.git", source=clone).warnings == ()

"""`avfs maintain`: what it tells before and after, and the process in the background that does the same."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from threading import Thread, current_thread, main_thread

import pytest

from avfs_git import Home
from avfs_git.errors import VaultGone
from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.sdk.background import start
from avfs_git.workspace.upkeep import folding
from avfs_git.workspace.upkeep.due import is_worth_asking, read_last
from avfs_git.workspace.upkeep.folding import list_foldable
from tests.support.failing import armed
from tests.support.faults import git
from tests.support.grown import Size, grow

pytestmark = pytest.mark.needs("git")

SIZE = Size(forks=20, checkpoints=400, labels=400, operations=2000)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a vault that has grown."""
    with Home(tmp_path / "home") as home:
        vault = grow(home, "v", SIZE)
        vault.set_config("maintenance.auto", "0")  # until a test says otherwise
        for path in (vault.path / "refs").rglob("*"):  # untouched for a while
            if path.is_file():
                _age(path)
    return tmp_path / "home"


def _age(path: Path) -> None:
    at_s = time.time() - 3600
    os.utime(path, (at_s, at_s))


def _steps(home: Path, *, dry_run: bool) -> dict[str, tuple[bool, int, int | None]]:
    with Home(home) as opened:
        result = opened.open_vault("v").maintain(dry_run=dry_run)
    assert result.warnings == ()
    return {step.name: (step.is_due, step.amount, step.handled) for step in result.steps}


def test_what_is_due_is_told_and_done_once(home: Path) -> None:
    """Refs and the log are due; a dry run changes nothing; after the run nothing is due, and all refs are there."""
    git_dir = home / "vaults" / "v.git"
    refs = git(git_dir, "show-ref")
    due = _steps(home, dry_run=True)

    assert [name for name, (is_due, _, _) in due.items() if is_due] == ["refs", "oplog"]
    assert not (git_dir / "avfs" / "oplog.index").exists()
    assert due == _steps(home, dry_run=True)
    done = _steps(home, dry_run=False)

    assert done["refs"][2] == due["refs"][1] > SIZE.labels
    assert git(git_dir, "show-ref") == refs
    assert len([path for path in (git_dir / "refs" / "avfs" / "checkpoints").rglob("*") if path.is_file()]) == 0
    assert not any(is_due for is_due, _, _ in _steps(home, dry_run=True).values())
    with Home(home) as opened:
        last = opened.open_vault("v").maintain(dry_run=True).last_steps

    assert [step.name for step in last] == ["refs", "oplog"]


def test_upper_layers_are_folded_where_nobody_works(tmp_path: Path) -> None:
    """A fork with many saved files is folded and stays clean.

    One with unsaved files and one in use stay as they are.
    """
    with Home(tmp_path / "home") as home, home.create_vault("v") as vault:
        vault.set_config("maintenance.auto", "0")
        for name in ("saved", "unsaved", "used"):
            work = vault.fork(name)
            for number in range(80):
                work.write(f"d{number % 7}/{number}", b"%d" % number)
            work.checkpoint()
        core = vault._core
        entries = dict(list_foldable(core, 50))
        vault.workspace("unsaved").write("d1/1", b"mine")
        bases = {name: vault.fork_info(name).base for name in ("unsaved", "used")}
        uppers = {name: core.layout.workspace(name).upper for name in entries}
        with vault.workspace("used")._opened.locked(), Home(tmp_path / "home") as beside:
            steps = {step.name: step for step in beside.open_vault("v").maintain(every_step=True).steps}

        assert entries == dict.fromkeys(("saved", "unsaved", "used"), 80)
        assert dict(list_foldable(core, 80)) == {}
        assert steps["fold"].handled == 87
        assert list(uppers["saved"].iterdir()) == []
        assert set(dict(list_foldable(core, 0))) == {"unsaved", "used"}
        assert {name: vault.fork_info(name).base for name in bases} == bases
        assert all(len(list(uppers[name].iterdir())) == 7 for name in bases)
        saved = vault.workspace("saved")

        assert saved._opened.is_clean()
        assert saved.read("d3/10") == b"10"
        assert saved.status().changed_files == ()
        assert vault.workspace("unsaved").read("d1/1") == b"mine"


def test_what_no_checkpoint_holds_is_not_looked_at_again(tmp_path: Path) -> None:
    """Ignored files that the settings leave out stay in the upper layer: a fork of such files has nothing to fold."""
    with Home(tmp_path / "home") as home, home.create_vault("v") as vault:
        vault.set_config("maintenance.auto", "0")
        vault.set_config("sidecar.exclude", "left")
        work = vault.workspace()
        work.write(".gitignore", b"left\n")
        for number in range(8):
            work.write(f"left/{number}", b"1")
        work.checkpoint()

        assert dict(list_foldable(vault._core, 0)) == {"main": 1}
        assert {step.name: step for step in vault.maintain(every_step=True).steps}["fold"].handled == 1
        assert [path.name for path in vault._core.layout.workspace("main").upper.iterdir()] == ["left"]
        assert not {step.name: step for step in vault.maintain(every_step=True).steps}["fold"].is_due
        assert work.read("left/7") == b"1"


def test_a_large_directory_is_left_to_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be listed whole while commands wait: none with many changes or with many files below is folded."""
    monkeypatch.setattr(folding, "_MOST_NAMES", 5)
    with Home(tmp_path / "home") as home, home.create_vault("v") as vault:
        vault.set_config("maintenance.auto", "0")
        work = vault.workspace()
        for number in range(6):
            work.write(f"flat/{number}", b"1")
        work.checkpoint()

        assert dict(list_foldable(vault._core, 0)) == {}
        work.fold()
        work.write("flat/0", b"2")
        work.checkpoint()

        assert dict(list_foldable(vault._core, 0)) == {}
        work.write("other", b"3")
        work.remove("flat/0")
        work.remove("flat/1")
        work.checkpoint()

        assert dict(list_foldable(vault._core, 0)) == {"main": 3}


@pytest.mark.parametrize("damaged", ["state", "ref"])
def test_a_damaged_fork_stops_no_other(tmp_path: Path, damaged: str) -> None:
    """Damage is the business of `doctor`: the other forks are folded, the other steps done, and the run is recorded."""
    with Home(tmp_path / "home") as home, home.create_vault("v") as vault:
        vault.set_config("maintenance.auto", "0")
        for name in ("aa", "bb"):
            vault.fork(name).write("f", b"1")
            vault.workspace(name).checkpoint()
        core = vault._core
        place = core.layout.workspace("aa").state if damaged == "state" else vault.path / "refs" / "heads" / "aa"
    with Home(tmp_path / "home") as home, home.open_vault("v") as vault:
        place.write_bytes(b"garbage")
        dry = {step.name: step for step in vault.maintain(dry_run=True, every_step=True).steps}
        steps = {step.name: step for step in vault.maintain(every_step=True).steps}

        assert dry["fold"].amount == 1
        assert steps["fold"].handled == 1
        assert core.layout.maintenance.exists()


def test_a_fork_whose_disk_refuses_stops_no_other(tmp_path: Path) -> None:
    """What the warning says of it is what is in force; the forks after it are folded."""
    failed: list[str] = []

    def act(point: str) -> None:
        if point == "fold.redirects_dropped" and not failed:
            failed.append(point)
            raise OSError(28, os.strerror(28))

    with Home(tmp_path / "home") as home, home.create_vault("v") as vault:
        vault.set_config("maintenance.auto", "0")
        for name in ("aa", "bb"):
            vault.fork(name).write("f", b"1")
            vault.workspace(name).checkpoint()
        with armed(act):
            result = vault.maintain(every_step=True)

        [warning] = result.warnings
        assert "the new state is in force" in warning.message
        assert "changed nothing" not in warning.message
        assert set(dict(list_foldable(vault._core, 0))) == {"aa"}


def test_the_background_process_does_it_and_says_so(home: Path) -> None:
    """A process of its own maintains the vault; until more was done, no other one is worth starting."""
    with Home(home) as opened:
        vault = opened.open_vault("v")
        vault.unset_config("maintenance.auto")
        core = vault._core

        assert is_worth_asking(core.layout)
        start(core)
        deadline = time.monotonic() + 60
        while not core.layout.maintenance.exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)

        assert {step.name for step in read_last(core.layout).steps} == {"refs", "oplog"}
        assert not is_worth_asking(core.layout)


def test_a_setting_turns_it_off(home: Path) -> None:
    """With `maintenance.auto` at 0 no process starts; the result says that."""
    with Home(home) as opened:
        vault = opened.open_vault("v")
        start(vault._core)
        time.sleep(0.5)

        assert not vault._core.layout.maintenance_lock.exists()
        assert not vault.maintain(dry_run=True).automatic


def test_a_damaged_record_counts_as_none(home: Path) -> None:
    """What is in the record of the last run can be anything: maintenance runs once more."""
    with Home(home) as opened:
        layout = opened.open_vault("v")._core.layout
        for content in (
            "",
            "{}",
            "[]",
            "{" * 5000,
            json.dumps({"at_ns": -1, "log_bytes": 0, "packs": 0, "looked_ns": 0, "steps": []}),
        ):
            layout.maintenance.write_text(content)

            assert read_last(layout).at_ns == 0
            assert is_worth_asking(layout)


def test_a_vault_is_not_deleted_while_it_is_maintained(home: Path) -> None:
    """Deletion waits for maintenance, which would make directories of the vault again; nothing of the vault is left."""
    points: list[str] = []

    def act(point: str) -> None:
        if current_thread() is main_thread() and point == "refs.packed" and not points:
            points.append(point)
            other.start()
            other.join(0.3)

            assert other.is_alive()
            assert (home / "vaults" / "v.git").is_dir()

    def delete() -> None:
        with Home(home) as beside:
            beside.delete_vault("v")

    other = Thread(target=delete)
    with armed(act):
        _steps(home, dry_run=False)
    other.join()

    assert points
    assert [path.name for path in (home / "vaults").iterdir()] == []


def test_a_vault_that_is_removed_meanwhile_does_not_come_back(tmp_path: Path) -> None:
    """Whoever removes a home asks no process in the background: what that still does makes no directory of it again."""
    points: list[str] = []

    def act(point: str) -> None:
        if point == "sweep.synced":
            points.append(point)
            shutil.rmtree(tmp_path / "home")

    with Home(tmp_path / "home") as home:
        vault = home.create_vault("v")
        vault.set_config("maintenance.auto", "0")
        workspace = vault.workspace()
        for number in range(20):
            workspace.write(f"f{number}", b"1")
            workspace.checkpoint()
        with armed(act), pytest.raises(VaultGone):
            vault.maintain()

    assert points
    assert not (tmp_path / "home").exists()


def test_many_more_packs_are_not_left_until_later(home: Path) -> None:
    """Some packs more wait until the last run began ten seconds ago; twice as many do not."""
    with Home(home) as opened:
        vault = opened.open_vault("v")
        vault.maintain()
        core = vault._core
        _age(core.layout.maintenance_lock)

        assert not is_worth_asking(core.layout)
        now_s = time.time()
        os.utime(core.layout.maintenance_lock, (now_s - 5, now_s - 5))
        asked = []
        for number in range(40):
            pack = PackWriter(core.store)
            pack.add(KIND_BLOB, b"%d" % number)
            pack.finish()
            asked.append(is_worth_asking(core.layout))

        assert asked == [False] * 31 + [True] * 9


@pytest.mark.parametrize("name", ["maintenance.json", "maintenance.lock", "kept-times", "oplog.index"])
def test_a_pipe_in_place_of_a_file_holds_nothing_up(home: Path, name: str) -> None:
    """Maintenance ends, and the refs are there."""
    git_dir = home / "vaults" / "v.git"
    refs = git(git_dir, "show-ref")
    os.mkfifo(git_dir / "avfs" / name)
    with Home(home) as opened:
        opened.open_vault("v").maintain()

        assert opened.open_vault("v").operations(limit=1)
    assert git(git_dir, "show-ref") == refs

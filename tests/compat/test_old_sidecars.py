"""Forgetting the sidecars of old checkpoints: what goes, what stays, and that git finds no fault."""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault, Workspace, faults
from avfs_git.errors import PathNotFound
from tests.support.faults import check_objects, check_vault, copy_home, die_in

pytestmark = [pytest.mark.needs("git", "user-xattrs", "whiteout")]

_DAY_NS = 86_400 * 10**9


class _Clock:
    """A clock that goes on by days when asked."""

    def __init__(self) -> None:
        self.ns = time.time_ns() + _DAY_NS  # files have the time of the machine: they are older

    def __call__(self) -> int:
        self.ns += 1_000
        return self.ns

    def sleep(self, days: float) -> None:
        self.ns += int(days * _DAY_NS)


@pytest.fixture
def clock() -> _Clock:
    """Give a clock."""
    return _Clock()


@pytest.fixture
def vault(tmp_path: Path, clock: _Clock) -> Iterator[Vault]:
    """A vault whose checkpoints each have another content of an ignored file."""
    with Avfs(tmp_path / "home", clock_ns=clock) as avfs, avfs.create_vault("v") as vault:
        work = vault.workspace()
        work.write(".gitignore", b"*.log\n")
        yield vault


def _save(work: Workspace, number: int, label: str | None = None) -> str:
    work.write("x.log", b"%d\n" % number + random.Random(number).randbytes(20_000))
    work.write("a", b"%d\n" % number)
    saved = work.checkpoint(label).checkpoint
    assert saved is not None
    return saved.id


def _number(work: Workspace) -> int | None:
    try:
        return int(work.read("x.log").split(b"\n", 1)[0])
    except PathNotFound:
        return None


def _numbers(vault: Vault, ids: list[str]) -> list[int | None]:
    """Tell which ignored content each checkpoint brings into a new fork."""
    found = []
    for each in ids:
        with vault.fork("look", at=each, source="main", ephemeral=True) as fork:
            found.append(_number(fork))
    return found


def _size(vault: Vault) -> int:
    return sum(path.stat().st_size for path in (vault.path / "objects" / "pack").glob("*.pack"))


def test_prune_forgets_what_nothing_names(vault: Vault) -> None:
    """A label and the head keep theirs, another fork what it began with and all before that.

    A dry run says what goes.
    """
    work = vault.workspace()
    ids = [_save(work, number, "kept" if number == 2 else None) for number in range(7)]
    child = vault.fork("child", at=ids[4], source="main")
    last = _save(work, 7)
    before = _size(vault)
    assert vault.prune(keep_operations=1, grace_s=0.0, dry_run=True).sidecars == 0

    told = vault.prune(keep_operations=1, sidecars=True, grace_s=0.0, dry_run=True)
    time.sleep(0.02)
    done = vault.prune(keep_operations=1, sidecars=True, grace_s=0.0)

    assert told.sidecars == done.sidecars == 1
    assert _numbers(vault, [*ids, last]) == [0, 1, 2, 3, 4, None, 6, 7]
    assert _number(child) == 4
    assert _number(work) == 7
    assert work.status().clean
    assert before - _size(vault) >= 20_000
    check_vault(vault, again=True)

    vault.delete_fork("child")
    _save(work, 8)
    time.sleep(0.02)
    told = vault.prune(keep_operations=1, sidecars=True, grace_s=0.0, dry_run=True)
    done = vault.prune(keep_operations=1, sidecars=True, grace_s=0.0)

    assert told.sidecars == done.sidecars == 5
    assert _numbers(vault, [*ids, last]) == [None, None, 2, None, None, None, None, 7]
    assert before - _size(vault) >= 20_000 * 5
    assert vault.prune(keep_operations=1, sidecars=True, grace_s=0.0).sidecars == 0


def test_a_restore_leaves_ignored_files_where_they_are_forgotten(vault: Vault) -> None:
    """It is like a restore of a commit of git's, and undo takes it back."""
    work = vault.workspace()
    ids = [_save(work, number) for number in range(4)]
    vault.prune(keep_operations=1, sidecars=True, grace_s=0.0)
    work.write("x.log", b"99\nunsaved")
    work.restore(ids[0])

    assert (work.read("a"), _number(work)) == (b"0\n", 99)

    work.undo()

    assert (work.read("a"), work.read("x.log")) == (b"3\n", b"99\nunsaved")


def test_age_is_a_setting_of_gc(vault: Vault, clock: _Clock) -> None:
    """By default all stay; with `sidecar.keep_days` those go that are older, in each collection."""
    work = vault.workspace()
    ids = []
    for number in range(6):
        ids.append(_save(work, number))
        clock.sleep(10)
    assert vault.gc(keep_days=0, keep_operations=1, grace_days=0).sidecars == 0
    assert _numbers(vault, ids) == [*range(6)]

    vault.set_config("sidecar.keep_days", "25")
    ids.append(_save(work, 6))  # now no operation that can be undone names the last fork that looked
    vault.gc(keep_days=0, keep_operations=1, grace_days=0)
    assert _numbers(vault, ids) == [None] * 4 + [4, 5, 6]

    for number in range(7, 10):
        clock.sleep(10)
        ids.append(_save(work, number))
    vault.gc(keep_days=0, keep_operations=1, grace_days=0)

    assert _numbers(vault, ids) == [None] * 7 + [7, 8, 9]
    check_vault(vault)


def test_maintenance_collects_where_sidecars_are_old(vault: Vault, clock: _Clock) -> None:
    """Once a week, like what is too old for undo."""
    work = vault.workspace()
    for number in range(3):
        _save(work, number)
    vault.maintain()
    clock.sleep(20)
    due = {step.name: step.amount for step in vault.maintain(dry_run=True).steps}
    assert due["gc"] == 0
    vault.set_config("sidecar.keep_days", "2")
    due = {step.name: step.amount for step in vault.maintain(dry_run=True).steps}
    assert due["gc"] == 18


def test_another_process_sees_what_is_forgotten(vault: Vault, tmp_path: Path) -> None:
    """Also one that has read the checkpoint before."""
    work = vault.workspace()
    ids = [_save(work, number) for number in range(3)]
    with Avfs(tmp_path / "home") as other, other.open_vault("v") as seen:
        with seen.fork("before", at=ids[0], source="main", ephemeral=True) as fork:
            assert _number(fork) == 0
        for number in (3, 4):  # what named the first one is forgotten then
            _save(work, number)
        vault.prune(keep_operations=1, sidecars=True, grace_s=0.0)
        with seen.fork("after", at=ids[0], source="main", ephemeral=True) as fork:
            assert _number(fork) is None
            assert fork.read("a") == b"0\n"


def _tag(vault: Vault, name: str, at: str) -> None:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "tag", "-a", "-m", "of git", name, at]
    subprocess.run(command, cwd=vault.path, check=True)


@pytest.mark.parametrize("point", ["gc.planned", "gc.chain_moved", "gc.log_shortened", "gc.sidecars_spared"])
def test_what_is_named_while_it_runs_keeps_its_own(vault: Vault, point: str) -> None:
    """A tag of git's, or a fork, made between two of its steps; it tells what it did."""
    work = vault.workspace()
    ids = [_save(work, number) for number in range(6)]
    made: list[Workspace] = []

    def name_two(reached: str) -> None:
        if reached == point and not made:
            _tag(vault, "meanwhile", ids[1])
            made.append(vault.fork("meanwhile", at=ids[3], source="main"))

    faults.arm(name_two)
    try:
        result = vault.prune(keep_operations=1, sidecars=True, grace_s=0.0)
    finally:
        faults.arm(None)
    for _ in range(2):
        numbers = _numbers(vault, ids)
        assert (numbers[1], numbers[3], numbers[5]) == (1, 3, 5)
        assert _number(made[0]) == 3
        time.sleep(0.02)
        vault.prune(keep_operations=1, sidecars=True, grace_s=0.0)
    assert result.sidecars <= 4 - 2
    assert _numbers(vault, ids)[0] is None or point == "gc.planned"
    check_vault(vault)


@pytest.mark.parametrize("sidecars", [False, True])
def test_an_annotated_tag_keeps_the_ignored_files(vault: Vault, *, sidecars: bool) -> None:
    """Also where no branch has its checkpoint any more."""
    fork = vault.fork("gone")
    ids = [_save(fork, number) for number in range(4)]
    _tag(vault, "kept", ids[2])
    vault.delete_fork("gone")
    for number in (7, 8):
        _save(vault.workspace(), number)
    time.sleep(0.02)
    vault.prune(keep_operations=1, sidecars=sidecars, grace_s=0.0)
    assert _numbers(vault, ["kept"]) == [2]


@pytest.mark.parametrize("way", ["pushed", "fetched"])
def test_what_stays_goes_to_other_vaults(vault: Vault, tmp_path: Path, way: str) -> None:
    """Also after it was copied twice: its commits name in their headers what it was first."""
    work = vault.workspace()
    ids = [_save(work, number, "kept" if number == 1 else None) for number in range(4)]
    vault.prune(keep_operations=1, sidecars=True, grace_s=0.0)
    ids += [_save(work, number, "two" if number == 5 else None) for number in (4, 5, 6)]
    vault.prune(keep_operations=1, sidecars=True, grace_s=0.0)
    source = vault.path
    if way == "pushed":
        source = tmp_path / "bare.git"
        subprocess.run(["git", "init", "-q", "--bare", source], check=True)
        vault.add_remote("origin", str(source))
        vault.push(["main"], with_sidecar=True, with_checkpoints=True)
    with Avfs(tmp_path / "other") as avfs, avfs.create_vault("v") as other:
        other.add_remote("origin", str(source))
        other.fetch(with_sidecar=True, with_checkpoints=True)
        found = []
        for each in (ids[1], ids[5], ids[6]):
            with other.fork("look", at=each, source="main", ephemeral=True) as fork:
                found.append(_number(fork))
    assert found == ([None, None, 6] if way == "pushed" else [1, 5, 6])


@pytest.mark.needs("fuse")
def test_a_fork_in_use_keeps_its_own(vault: Vault, mount_dir: Path) -> None:
    """It is named, and the next run goes on."""
    work = vault.workspace()
    ids = [_save(work, number) for number in range(4)]
    with work.mount(mount_dir / "tree"):
        result = vault.prune(keep_operations=1, sidecars=True, grace_s=0.0)
        assert result.sidecars == 0
        assert [warning.code for warning in result.warnings] == ["gc.sidecars_left"]
        told = vault.prune(keep_operations=1, sidecars=True, grace_s=0.0, dry_run=True)
        assert (told.sidecars, told.warnings) == (0, result.warnings)
    assert vault.prune(keep_operations=1, sidecars=True, grace_s=0.0).sidecars == 2
    assert _numbers(vault, ids)[0] is None


@pytest.mark.slow
def test_dying_at_any_step_keeps_what_has_to_stay(vault: Vault, tmp_path: Path, clock: _Clock) -> None:
    """The next run goes on; labels and heads have their ignored files after each step."""
    work = vault.workspace()
    ids = [_save(work, number, f"l{number}" if number % 3 == 1 else None) for number in range(6)]
    home = tmp_path / "home"
    vault.close()

    def prune(home: Path) -> None:
        with Avfs(home, clock_ns=clock) as avfs, avfs.open_vault("v") as opened:
            opened.prune(keep_operations=1, sidecars=True, grace_s=0.0)

    point = 0
    while True:
        point += 1
        copy = copy_home(home, tmp_path / f"copy-{point}")
        died = die_in(partial(prune, copy), point)
        with Avfs(copy, clock_ns=clock) as avfs, avfs.open_vault("v") as again:
            for _ in range(2):
                numbers = _numbers(again, ids)
                assert [numbers[1], numbers[4], numbers[5]] == [1, 4, 5], point
                time.sleep(0.02)
                again.prune(keep_operations=1, sidecars=True, grace_s=0.0)
            assert _numbers(again, ids)[0] is None
            check_vault(again)
        if not died:
            break


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_any_sequence_keeps_labels_heads_and_undo(vault: Vault, seed: int) -> None:
    """Forks, checkpoints, restores, undo and prune in any order: what has to stay has the content it was saved with."""
    draw = random.Random(seed)
    labelled: dict[str, int] = {}
    heads: dict[str, int | None] = {}
    number = 0
    names = ["main"]
    _save(vault.workspace(), 0)
    heads["main"] = 0
    for _ in range(25):
        step = draw.choice(["save", "save", "save", "label", "fork", "restore", "prune", "undo"])
        name = draw.choice(names)
        work = vault.workspace(name)
        if step in {"save", "label"}:
            number += 1
            label = f"l{number}" if step == "label" else None
            _save(work, number, label)
            heads[name] = number
            if label is not None:
                labelled[f"{name} {label}"] = number
        elif step == "fork" and len(names) < 4:
            names.append(f"f{number}-{len(names)}")
            vault.fork(names[-1], source=name)
            heads[names[-1]] = heads[name]
        elif step == "restore":
            mine = [key for key in labelled if key.startswith(f"{name} ")]
            if mine:
                key = draw.choice(mine)
                work.restore(key.split(" ")[1])
                heads[name] = labelled[key]
        elif step == "prune":
            vault.prune(keep_operations=draw.choice([1, 2, 5]), sidecars=True, grace_s=0.0)
        elif step == "undo":
            number += 1
            _save(work, number)
            heads[name] = number
            work.restore(work.list_checkpoints()[1].id)
            if draw.random() < 0.5:
                vault.prune(keep_operations=3, sidecars=True, grace_s=0.0)
            work.undo()
        assert {each: _number(vault.workspace(each)) for each in names} == heads, step
    for key, value in labelled.items():
        name, label = key.split(" ")
        with vault.fork("look", at=label, source=name, ephemeral=True) as fork:
            assert _number(fork) == value, key
    check_vault(vault)
    check_objects(vault.path)

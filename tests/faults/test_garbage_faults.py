"""Collecting garbage, interrupted at every fault point in turn: whatever goes wrong, nothing that is needed is gone."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault
from avfs_git.errors import AvfsError
from tests.support.failing import DISKS, FailAt, armed
from tests.support.faults import check_vault, copy_home, die_in, git, make_vault_with_garbage, read_states
from tests.support.seeds import take_points, take_turns

pytestmark = [pytest.mark.slow, pytest.mark.needs("git", "user-xattrs", "whiteout")]


def _open(home: Path) -> Vault:
    return Avfs(home).open_vault("v")


def _collect(home: Path) -> None:
    with _open(home) as vault:
        vault.gc(keep_days=0, keep_operations=1, grace_days=0)


def _prepare(directory: Path) -> Path:
    directory.mkdir()
    make_vault_with_garbage(directory).close()
    time.sleep(0.02)
    return directory / "home"


def _check(home: Path) -> None:
    """Demand that all states are there, that the next collection does what this one did not, and that undo works."""
    with _open(home) as vault:
        check_vault(vault, again=True)
        before = read_states(vault)
        labels = {
            label
            for info in vault.list_forks()
            for each in vault.workspace(info.name).list_checkpoints()
            for label in each.labels
        }

        assert labels == {"one", "two", "mine"}
        assert {info.name for info in vault.list_forks()} == {"main", "work", "child"}
        assert vault.workspace("child").read("x.log") == b"ignored, of a fork that is gone\n"
        vault.workspace("child").checkpoint("an operation that stays")
        time.sleep(0.02)
        result = vault.gc(keep_days=0, keep_operations=1, grace_days=0)

        assert result.warnings == ()
        assert list((vault.path / "avfs" / "trash").iterdir()) == []
        kept = git(vault.path, "rev-list", "--objects", "--all").splitlines()
        there = git(vault.path, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)").splitlines()

        assert len(there) == len(kept)
        assert read_states(vault) == before
        vault.workspace("child").undo()
        check_vault(vault)


def test_a_collection_that_fails_loses_nothing(tmp_path: Path) -> None:
    """A disk that fails at any step ends the collection, or part of it; the next one completes it."""
    made = _prepare(tmp_path / "made")
    turns = take_turns(DISKS)
    for turn, point in take_points(0):
        for number, stay in turns(turn):
            home = copy_home(made, tmp_path / f"{point}-{number}")
            fault = FailAt(point, partial(OSError, number, os.strerror(number)), stay=stay)
            # What a point raises is not always at a system call, where it would be typed.
            with suppress(AvfsError, OSError), armed(fault):
                _collect(home)
            try:
                _check(home)
            except BaseException as error:
                error.add_note(f"failing at point {point}: {fault.seen[point - 1 :]}")
                raise
        if len(fault.seen) < point:
            break


def test_a_collection_that_dies_loses_nothing(tmp_path: Path) -> None:
    """A process that dies at any step leaves nothing to clean up; the next collection completes what it began."""
    made = _prepare(tmp_path / "made")
    for _, point in take_points(1):
        home = copy_home(made, tmp_path / str(point))
        died = die_in(lambda home=home: _collect(home), point)  # type: ignore[misc]  # a default binds the loop's value
        try:
            _check(home)
        except BaseException as error:
            error.add_note(f"dying at point {point}")
            raise
        if not died:
            break

"""What a client believes when the acknowledgement of a checkpoint was lost with the process that made it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.sdk import Avfs, Workspace
from avfs_git.session.control.client import _Before

pytestmark = pytest.mark.needs("whiteout", "user-xattrs")


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workspace]:
    """A workspace with a checkpoint that has a label."""
    with Avfs(tmp_path / "home") as avfs, avfs.create_vault("v") as vault, vault.workspace() as work:
        work.write("a", b"one")
        work.checkpoint("first")
        yield work


def test_a_checkpoint_that_was_made_is_found_by_its_label(work: Workspace) -> None:
    """One that was not there when it was asked for, and is now."""
    before = _Before(work._opened, "second")
    assert before.find_made() is None
    work.write("a", b"two")
    made = work.checkpoint("second")

    found = before.find_made()
    assert found is not None
    assert found.outcome == "created"
    assert found.checkpoint == made.checkpoint


def test_a_label_that_was_given_to_the_head_is_found(work: Workspace) -> None:
    """Where nothing had changed, there is no new commit, and the answer says so."""
    before = _Before(work._opened, "again")
    work.checkpoint("again")

    found = before.find_made()
    assert found is not None
    assert found.outcome == "unchanged"


@pytest.mark.parametrize("label", ["first", None])
def test_what_was_there_before_was_not_made_now(work: Workspace, label: str | None) -> None:
    """A label that was taken stays a mistake; without a label there is nothing to know a checkpoint by."""
    before = _Before(work._opened, label)
    work.write("a", b"two")
    work.checkpoint()

    assert before.find_made() is None

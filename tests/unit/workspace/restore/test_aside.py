"""What is saved beside the branch lacks what no checkpoint holds; each operation that saves so names it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from avfs_git.model import Warning
from avfs_git.paths import TreePath
from avfs_git.sdk import Vault, Workspace

pytestmark = [pytest.mark.needs("git", "whiteout", "user-xattrs"), pytest.mark.usefixtures("person")]


@pytest.fixture
def push(vault: Vault, tmp_path: Path) -> Callable[[], None]:
    """Gives what has another person push a commit to the branch."""

    def push() -> None:
        clone = tmp_path / "clone"
        subprocess.run(["git", "clone", "-q", str(vault.path), str(clone)], check=True)
        (clone / "pushed").write_bytes(b"from outside")
        for arguments in (["add", "-A"], ["commit", "-qm", "outside"], ["push", "-q", "origin", "HEAD:main"]):
            subprocess.run(["git", "-C", str(clone), *arguments], check=True)

    return push


def _begin(work: Workspace) -> None:
    work.vault.set_config("sidecar.max_file_bytes", "10")
    work.write(".gitignore", b"*.log\n")
    for content in (b"1", b"2"):
        work.write("a", content)
        work.checkpoint()


def _write(work: Workspace) -> None:
    """Change a file, and make one that checkpoints leave out."""
    work.write("new", b"not saved")
    work.write("large.log", b"y" * 11)


def _named(warnings: tuple[Warning, ...]) -> list[bytes | None]:
    return [warning.path for warning in warnings if warning.code == "sidecar.left_out"]


def _conflict(work: Workspace) -> None:
    work.write("a", b"base\n")
    work.checkpoint()
    work.vault.fork("side").write("a", b"theirs\n")
    work.vault.workspace("side").checkpoint()
    work.write("a", b"ours\n")
    work.checkpoint()


def test_undo_names_what_it_does_not_save(work: Workspace) -> None:
    """A file changes by other hands than file calls, which undo would take back first."""
    _begin(work)
    with work._opened.locked() as locked, locked.changing() as merged:
        merged.write_file(TreePath(b"large.log"), b"y" * 11)

    assert _named(work.undo().warnings) == [b"large.log"]
    assert work.read("large.log") == b"y" * 11


def test_abort_names_what_it_does_not_save(work: Workspace) -> None:
    """The files of the merge go; a file that checkpoints leave out stays."""
    _begin(work)
    _conflict(work)
    assert work.merge("side", on_conflict="workspace").outcome == "conflicted"
    _write(work)

    done = work.abort_merge()
    assert done.saved is not None
    assert _named(done.warnings) == [b"large.log"]
    assert work.read("large.log") == b"y" * 11


def test_a_restore_on_a_moved_branch_names_what_it_does_not_save(work: Workspace, push: Callable[[], None]) -> None:
    """The branch was moved from outside: what is uncommitted is saved beside it."""
    _begin(work)
    push()
    _write(work)

    done = work.restore("HEAD")
    assert done.saved is not None
    assert _named(done.warnings) == [b"large.log"]


def test_an_update_of_a_moved_branch_names_what_it_does_not_save(work: Workspace, push: Callable[[], None]) -> None:
    """The merge of both has what was saved, without that file."""
    _begin(work)
    push()
    _write(work)

    (done,) = work.update()
    assert done.outcome == "clean"
    assert _named(done.warnings) == [b"large.log"]


def test_a_skipped_commit_names_what_it_does_not_save(work: Workspace) -> None:
    """What was done since the conflict is kept beside."""
    _begin(work)
    _conflict(work)
    work.rebase("side", on_conflict="workspace")
    _write(work)

    done = work.continue_rewrite(skip=True)
    assert done.saved is not None
    assert _named(done.warnings) == [b"large.log"]

"""Collecting garbage between any two steps of an operation that names what it did not write: no ref dangles.

At each fault point of the operation everything that may go is collected. The operation holds what it is about to name,
so that it succeeds; git finds all refs whole afterwards.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from avfs_git import Avfs, Vault, faults
from avfs_git.errors import ObjectMissing
from avfs_git.gitstore.objects import sweep
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.paths import Oid
from tests.support.failing import armed
from tests.support.faults import check_objects, git

pytestmark = [pytest.mark.slow, pytest.mark.needs("git", "user-xattrs", "whiteout")]

PERSON = ("-c", "user.name=a", "-c", "user.email=b@c")


@dataclass(frozen=True)
class Case:
    """An operation, given a commit that nothing reaches."""

    name: str
    run: Callable[[Vault, str], object]
    prepare: Callable[[Vault, str], object] = lambda vault, oid: None


def _lose(vault: Vault) -> str:
    """Make a commit on top of `main` that nothing reaches and that is old."""
    blob = subprocess.run(
        ["git", "-C", vault.path, "hash-object", "-w", "--stdin"], input=b"lost\n", capture_output=True, check=True
    ).stdout.strip()
    listed = git(vault.path, "ls-tree", "main").encode() + b"100644 blob " + blob + b"\tlost\n"
    tree = subprocess.run(
        ["git", "-C", vault.path, "mktree"], input=listed, capture_output=True, check=True
    ).stdout.decode()
    oid = git(vault.path, *PERSON, "commit-tree", "-m", "lost", "-p", "main", tree.strip()).strip()
    _age(vault.path)
    return oid


def _age(git_dir: Path) -> None:
    for path in (git_dir / "objects").glob("??/*"):
        os.utime(path, (1, 1))


def _have_remote(vault: Vault, oid: str) -> None:
    """Make a remote that has the lost commit as a branch, and one of its own."""
    there = vault.path.parents[2] / "there.git"
    subprocess.run(["git", "init", "-q", "--bare", there], check=True)
    git(vault.path, "push", "-q", str(there), "main:refs/heads/main", f"{oid}:refs/heads/lost")
    tree = git(there, "rev-parse", "main^{tree}").strip()
    new = git(there, *PERSON, "commit-tree", "-m", "theirs", "-p", "lost", tree).strip()
    git(there, "update-ref", "refs/heads/new", new)
    git(there, "update-ref", "refs/heads/work", new)
    vault.add_remote("origin", str(there))


def _have_remote_without_work(vault: Vault, oid: str) -> None:
    _have_remote(vault, oid)
    git(vault.path.parents[2] / "there.git", "update-ref", "-d", "refs/heads/work")


def _leave_commits(vault: Vault, _oid: str) -> None:
    work = vault.workspace("work")
    for number in range(2):
        work.write("f", b"%d\n" % number)
        work.checkpoint()


def _undone(vault: Vault, oid: str) -> None:
    _leave_commits(vault, oid)
    vault.workspace("work").undo()


def _deleted(vault: Vault, oid: str) -> None:
    _leave_commits(vault, oid)
    vault.delete_fork("work")


CASES = [
    Case("fetch", lambda vault, _: vault.fetch(), _have_remote),
    Case("update", lambda vault, _: vault.workspace("work").update(), _have_remote),
    Case("push", lambda vault, _: vault.push(["work"]), _have_remote_without_work),
    Case("fork", lambda vault, oid: vault.fork("task", at=oid)),
    Case("fork of a fork", lambda vault, _: vault.fork("task", source="work"), _leave_commits),
    Case("restore", lambda vault, oid: vault.workspace("work").restore(oid)),
    Case("restore of a path", lambda vault, oid: vault.workspace("work").restore(oid, paths=["lost"])),
    Case("restore into a fork", lambda vault, oid: vault.workspace("work").restore(oid, into="task")),
    Case("checkout of a path", lambda vault, oid: vault.workspace("work").checkout_path("lost", at=oid)),
    Case("merge", lambda vault, oid: vault.workspace("work").merge(oid)),
    Case("merge of both sides", lambda vault, oid: vault.workspace("work").merge(oid), _leave_commits),
    Case("merge of many", lambda vault, oid: vault.workspace("work").merge_many([oid]), _leave_commits),
    Case("cherry-pick", lambda vault, oid: vault.workspace("work").cherry_pick([oid]), _leave_commits),
    Case("rebase", lambda vault, oid: vault.workspace("work").rebase(oid), _leave_commits),
    Case("squash", lambda vault, _: vault.workspace("work").squash("HEAD~1"), _leave_commits),
    Case("undo", lambda vault, _: vault.workspace("work").undo(), _leave_commits),
    Case("redo", lambda vault, _: vault.workspace("work").redo(), _undone),
    Case("undo of a delete", lambda vault, _: vault.undo(fork="work"), _deleted),
    Case("delete", lambda vault, _: vault.delete_fork("work"), _leave_commits),
    Case("checkpoint", lambda vault, _: vault.workspace("work").checkpoint("label")),
    Case("doctor", lambda vault, _: vault.doctor(repair=True), _leave_commits),
]


def _make(directory: Path) -> Path:
    with Avfs(directory / "home") as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write("f", b"main\n")
        vault.workspace().write("x.log", b"x\n")
        vault.workspace().checkpoint()
        vault.fork("work").write("w", b"w\n")
        vault.workspace("work").checkpoint()
    return directory / "home"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_no_ref_dangles_whenever_garbage_is_collected(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Collecting at every step of the operation in turn, all in one run: it succeeds, and all refs are whole."""
    monkeypatch.setattr(sweep, "_WAIT_S", 0.01)
    home = _make(tmp_path)
    reached: list[str] = []

    def collect(point: str) -> None:
        if point.startswith("oplog."):  # with the log locked: a collection waits there
            return
        faults.arm(None)
        try:
            with Avfs(home) as avfs:
                avfs.open_vault("v").gc(keep_days=0, keep_operations=1, grace_days=0)
        finally:
            reached.append(point)
            faults.arm(collect)

    with Avfs(home) as avfs:
        vault = avfs.open_vault("v")
        oid = _lose(vault)
        case.prepare(vault, oid)
        _age(vault.path)
        for path in (vault.path / "objects" / "pack").iterdir():
            os.utime(path, (1, 1))
        with armed(collect):
            case.run(vault, oid)
        check_objects(vault.path)
    assert reached or case.name == "doctor"
    with Avfs(home) as avfs:
        check_objects(vault.path)
        assert [each for each in avfs.open_vault("v").doctor().problems if each.severity == "error"] == []


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("packed", [False, True])
def test_no_ref_moves_to_what_is_not_here(tmp_path: Path, packed: bool) -> None:
    """What names a commit that has gone meanwhile gets an error, and the ref stays.

    Also where its pack is still open here.
    """
    with Avfs(_make(tmp_path)) as avfs:
        vault = avfs.open_vault("v")
        oid = _lose(vault)
        before = git(vault.path, "for-each-ref")
        packs = vault.path / "objects" / "pack"
        name = ""
        if packed:
            command = ["git", "-C", str(vault.path), "pack-objects", "-q", "objects/pack/pack"]
            name = subprocess.run(command, input=oid.encode(), capture_output=True, check=True).stdout.decode().strip()
        shutil.rmtree(vault.path / "objects" / oid[:2])
        assert vault._core.store.exists(Oid(bytes.fromhex(oid))) == packed
        for path in packs.glob(f"pack-{name}.*" if packed else "none"):
            path.unlink()
        with pytest.raises(ObjectMissing):
            vault._core.refs.update([RefChange("refs/heads/new", None, Oid(bytes.fromhex(oid)))])

        assert git(vault.path, "for-each-ref") == before

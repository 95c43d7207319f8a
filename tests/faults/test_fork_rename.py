"""Renaming a fork: what moves with it, what refuses it, and that a crash or another process at any point loses nothing.

After each crash the next process goes on, without the doctor: the fork is there under its old name or under its new
one, with its checkpoint, its label, what was not saved, and git's log of its branch.
"""

from __future__ import annotations

import errno
import itertools
import shutil
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from avfs_git import Home, Vault
from avfs_git.errors import (
    AvfsError,
    BranchCheckedOut,
    ForkExists,
    ForkNotFound,
    InvalidInput,
    InvalidName,
    LeftInForce,
    MergeInProgress,
    WorkspaceMounted,
)
from tests.support.failing import FailAt, armed
from tests.support.faults import check_vault, die_in, git
from tests.support.seeds import take_points, take_turns

pytestmark = [pytest.mark.needs("git", "user-xattrs", "whiteout"), pytest.mark.usefixtures("unsynced")]


def make(home: Path) -> Vault:
    """Make a fork with a label, git's log and settings of its branch, ignored and unsaved files, and a child."""
    avfs = Home(home)
    vault = avfs.create_vault("v")
    vault.workspace().write(".gitignore", b"*.log\n")
    vault.workspace().checkpoint()
    work = vault.fork("old", source="main")
    work.write("a", b"saved\n")
    work.write("beside.log", b"ignored\n")
    work.checkpoint("one")
    vault.fork("child", source="old")
    git(vault.path, "config", "core.logAllRefUpdates", "always")
    head = git(vault.path, "rev-parse", "old").strip()
    for commit in ("old~", head):  # there and back: the log of the branch has two lines
        git(
            vault.path,
            "-c",
            "user.name=n",
            "-c",
            "user.email=e",
            "update-ref",
            "-m",
            "of git",
            "refs/heads/old",
            commit,
        )
    git(vault.path, "config", "branch.old.remote", "somewhere")
    work.write("b", b"not saved\n")
    return vault


def check(home: Path, *names: str) -> str:
    """Demand the whole fork under one of the names; return that."""
    with Home(home) as avfs:
        vault = avfs.open_vault("v")
        forks = {info.name for info in vault.list_forks()}
        name = next(name for name in ("new", "old") if name in forks)
        assert name in names
        work = vault.workspace(name)
        assert [work.read(path) for path in ("a", "b", "beside.log")] == [b"saved\n", b"not saved\n", b"ignored\n"]
        forks = {info.name for info in vault.list_forks()}
        assert forks == {"main", "child", name}, names
        assert set(vault._core.list_labels(name)) == {"one"}
        assert "of git" in (vault.path / "logs/refs/heads" / name).read_text()
        assert git(vault.path, "config", f"branch.{name}.remote").strip() == "somewhere"
        other = next(iter({"old", "new"} - {name}))
        assert not vault._core.layout.workspace(other).root.exists()
        left = git(vault.path, "for-each-ref", f"refs/avfs/sidecar/{other}", f"refs/avfs/checkpoints/{other}")
        assert not left or name == "old"  # a crash before the branch moved: the next fork of that name clears them away
        check_vault(vault)
    return name


def rename(home: Path) -> None:
    """Rename the fork."""
    with Home(home) as avfs:
        avfs.open_vault("v").rename_fork("old", "new")


def test_a_fork_is_renamed_and_undo_and_redo_turn_it(tmp_path: Path) -> None:
    """With all that it has; the log says it, and work goes on under either name."""
    make(tmp_path)
    with Home(tmp_path) as avfs:
        vault = avfs.open_vault("v")
        made = vault.fork_info("old")
        stale = vault.workspace("old")
        renamed = vault.rename_fork("old", "new")
        assert (renamed.name, renamed.head, renamed.created_at_ns) == ("new", made.head, made.created_at_ns)
        with pytest.raises(ForkNotFound, match="'new'"):
            stale.write("c", b"")
        assert vault.fork_info("child").parent == "new"
        assert vault.workspace("new").operations()[0].kind == "fork_rename"
    check(tmp_path, "new")
    with Home(tmp_path) as avfs:
        vault = avfs.open_vault("v")
        assert vault.undo(fork="main").operation.kind == "fork_rename"
    check(tmp_path, "old")
    with Home(tmp_path) as avfs:
        avfs.open_vault("v").redo(fork="main")
    check(tmp_path, "new")
    with Home(tmp_path) as avfs:
        vault = avfs.open_vault("v")
        vault.workspace("new").checkpoint("two")
        vault.workspace("new").restore("one")
        assert not vault.workspace("new").exists("b")
        for _ in range(2):
            vault.undo(fork="new")
        assert vault.workspace("new").read("b") == b"not saved\n"
        while vault.undo(fork="new").operation.kind != "fork_rename":
            pass
        assert vault.undo(fork="old").operation.fork == "old"


def test_the_default_fork_keeps_that_role(tmp_path: Path) -> None:
    """HEAD of the vault names it; undo on it takes that back."""
    with Home(tmp_path) as avfs:
        vault = avfs.create_vault("v")
        with pytest.raises(InvalidInput, match="no checkpoint"):
            vault.rename_fork("main", "trunk")
        vault.workspace().write("a", b"a")
        vault.workspace().checkpoint()
        vault.fork("task")
        vault.rename_fork("main", "trunk")
        assert vault.choose_fork() == "trunk"
        assert vault.undo().operation.kind == "fork_rename"
        assert vault.choose_fork() == "main"
        vault.redo()
        assert git(vault.path, "symbolic-ref", "HEAD").strip() == "refs/heads/trunk"


def _rename_default(home: Path) -> None:
    with Home(home) as avfs:
        avfs.open_vault("v").rename_fork("main", "trunk")


@pytest.mark.slow
def test_a_vault_has_its_default_fork_after_a_death_at_every_point(tmp_path: Path) -> None:
    """The first command that names no fork finds it, looks at its files, and HEAD names it then."""
    with Home(tmp_path / "made") as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write("a", b"saved")
        vault.workspace().checkpoint()
        vault.fork("task")
        vault.workspace().write("b", b"not saved")
    for point in itertools.count(1):
        home = tmp_path / str(point)
        shutil.copytree(tmp_path / "made", home, symlinks=True)
        is_over = not die_in(partial(_rename_default, home), point)
        with Home(home) as avfs:
            vault = avfs.open_vault("v")
            first = vault.choose_fork()
            assert {info.name for info in vault.list_forks()} >= {first, "task"}
            assert vault.workspace().read("b") == b"not saved"
            with pytest.raises(InvalidInput, match="default fork"):
                vault.delete_fork(first)
            assert git(vault.path, "symbolic-ref", "HEAD").strip() == f"refs/heads/{first}"
        shutil.rmtree(home)
        if is_over:
            return


def test_what_cannot_be_renamed_stays(tmp_path: Path) -> None:
    """Each is refused by a typed error, and nothing has changed."""
    vault = make(tmp_path / "home")
    for name, kind in [
        ("main", ForkExists),
        ("old", ForkExists),
        ("old/er", InvalidName),
        ("a..b", InvalidName),
        ("-x", InvalidName),
    ]:
        with pytest.raises(kind):
            vault.rename_fork("old", name)
    with pytest.raises(ForkNotFound):
        vault.rename_fork("nosuch", "new")
    git(vault.path, "worktree", "add", str(tmp_path / "tree"), "old")
    with pytest.raises(BranchCheckedOut):
        vault.rename_fork("old", "new")
    git(vault.path, "worktree", "remove", "--force", str(tmp_path / "tree"))
    check(tmp_path / "home", "old")
    vault.workspace("child").write("a", b"theirs\n")
    vault.workspace("child").checkpoint()
    vault.workspace("old").write("a", b"ours\n")
    vault.workspace("old").merge("child", on_conflict="workspace")
    with pytest.raises(MergeInProgress):
        vault.rename_fork("old", "new")


@pytest.mark.needs("fuse")
def test_a_mounted_fork_keeps_its_name(mount_dir: Path) -> None:
    """Undo of a rename is refused too while the fork is mounted."""
    make(mount_dir / "home")
    with Home(mount_dir / "home") as avfs:
        vault = avfs.open_vault("v")
        with vault.workspace("old").mount(mount_dir / "live"), pytest.raises(WorkspaceMounted):
            vault.rename_fork("old", "new")
        vault.rename_fork("old", "new")
        with vault.workspace("new").mount(mount_dir / "live"):
            asked = ["git", "-C", str(mount_dir / "live"), "symbolic-ref", "HEAD"]
            assert subprocess.run(asked, check=True, capture_output=True).stdout == b"refs/heads/new\n"
            with pytest.raises(WorkspaceMounted):
                vault.undo(fork="main")
        assert check(mount_dir / "home", "new") == "new"


def test_a_new_fork_of_the_old_name_leaves_the_renamed_one_its_workspace(tmp_path: Path) -> None:
    """The process that renamed a fork died before the workspace moved; either of the two forks is opened first."""
    make(tmp_path / "home")
    seen: list[str] = []
    shutil.copytree(tmp_path / "home", tmp_path / "counted", symlinks=True)
    with armed(seen.append):
        rename(tmp_path / "counted")
    assert die_in(partial(rename, tmp_path / "home"), seen.index("fork.renamed_refs") + 1)
    with Home(tmp_path / "home") as avfs:
        vault = avfs.open_vault("v")
        vault.fork("old", source="main")
        assert vault.workspace("old").status().clean
        assert [path.name.partition("-")[2] for path in vault._core.layout.trash.iterdir()] == ["old"]
        assert vault.workspace("new").read("b") == b"not saved\n"
        assert list(vault._core.layout.trash.iterdir()) == []
        vault.rename_fork("new", "newer")
        vault.undo(fork="main")
        assert [each.code for each in vault.doctor().problems] == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["once", "always", "death"])
def test_interrupted_at_every_point(how: str, tmp_path: Path) -> None:
    """The fork has one of the names, whole; an error that says nothing else has left the old one."""
    make(tmp_path / "made")
    for turn, point in take_points(("once", "always", "death").index(how)):
        home = tmp_path / f"{turn}-{point}"
        shutil.copytree(tmp_path / "made", home, symlinks=True)
        names: tuple[str, ...] = ("new", "old")
        if how == "death":
            is_over = not die_in(partial(rename, home), point)
        else:
            fault = FailAt(point, lambda: OSError(errno.EIO, "injected"), stay=how == "always")
            try:
                with armed(fault):
                    rename(home)
            except LeftInForce:
                names = ("new",)
            except (AvfsError, OSError):
                names = ("old",)
            else:
                names = ("new",)
            is_over = len(fault.seen) < point
        if check(home, *names) == "old":
            rename(home)
            check(home, "new")
        shutil.rmtree(home)
        if is_over:
            return


OTHERS: dict[str, Callable[[Vault], object]] = {
    "create old": lambda vault: vault.fork("old", source="main"),
    "create new": lambda vault: vault.fork("new", source="main"),
    "delete": lambda vault: vault.delete_fork("old"),
    "rename": lambda vault: vault.rename_fork("old", "other"),
    "write": lambda vault: vault.workspace("old").write("c", b"acknowledged"),
}


@pytest.mark.slow
@pytest.mark.parametrize("is_killed", [False, True])
def test_another_process_at_every_point(is_killed: bool, tmp_path: Path) -> None:
    """Whatever it does with either name, the unsaved file is in one fork or in the trash that the log names."""
    make(tmp_path / "made")
    turns = take_turns(tuple(OTHERS), count=2)
    for turn, point in take_points(int(is_killed)):
        for second in turns(turn):
            home = tmp_path / f"{point}-{second}"
            shutil.copytree(tmp_path / "made", home, symlinks=True)
            if is_killed:
                is_over = not die_in(partial(rename, home), point)
                done = _act(home, second)
            else:
                is_over, done = _run_beside(home, second, point)
            _find_all(home, wrote=second == "write" and done)
            shutil.rmtree(home)
        if is_over:
            return


def _act(home: Path, second: str) -> bool:
    with Home(home) as avfs, suppress(AvfsError):
        OTHERS[second](avfs.open_vault("v"))
        return True
    return False


def _run_beside(home: Path, second: str, point: int) -> tuple[bool, bool]:
    main, seen, done = threading.current_thread(), [0], [False]
    other = threading.Thread(target=lambda: done.__setitem__(0, _act(home, second)))

    def reached(_: str) -> None:
        if threading.current_thread() is main:
            seen[0] += 1
            if seen[0] == point:
                other.start()
                other.join(0.05)

    with armed(reached), suppress(AvfsError):
        rename(home)
    if seen[0] < point:
        return True, False
    other.join()
    return False, done[0]


def _find_all(home: Path, *, wrote: bool) -> None:
    with Home(home) as avfs:
        vault = avfs.open_vault("v")
        for info in vault.list_forks():
            with suppress(ForkNotFound):  # a fork under both names gets the new one alone
                vault.workspace(info.name).status()
        works = [vault.workspace(info.name) for info in vault.list_forks()]
        trash = [vault._core.layout.trash / str(record.more.get("trash")) for record in vault._core.oplog.read()]
        for name, data in [("b", b"not saved\n"), ("c", b"acknowledged")][: 1 + wrote]:
            found = [work.read(name) for work in works if work.exists(name)]
            found += [(place / "upper" / name).read_bytes() for place in trash if (place / "upper" / name).exists()]
            assert data in found, (name, [work.fork for work in works])
        check_vault(vault)


@pytest.mark.parametrize("undone", [False, True])
def test_unsaved_work_is_saved_before_a_merge_into_the_renamed_fork(tmp_path: Path, undone: bool) -> None:
    """The workspace counts its changes anew after a rename, and has what is in it all the same."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_bytes(b"base\n")
    with Home(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v", source=tmp_path / "source")
        other = vault.fork("other")
        other.write("b", b"other\n")
        other.checkpoint()
        work = vault.fork("work", source="main")
        work.write("a", b"unsaved\n")
        if undone:
            work.checkpoint()
            work.undo()
        vault.rename_fork("work", "renamed")
        renamed = vault.workspace("renamed")

        merged = renamed.merge("other")
        assert (merged.outcome, merged.saved is not None) == ("clean", True)
        assert (renamed.read("a"), renamed.read("b")) == (b"unsaved\n", b"other\n")
        assert vault.workspace("main").merge("renamed").changed_files
        assert vault.workspace("main").read("a") == b"unsaved\n"


@pytest.mark.parametrize("before", ["unused", "saved", "unsaved"])
def test_a_checkpoint_of_a_renamed_fork_records_it(tmp_path: Path, before: str) -> None:
    """It is known to hold just that commit from then on; until then it is not taken for saved."""
    with Home(tmp_path / "home") as avfs:
        vault = avfs.create_vault("v")
        work = vault.fork("work", source="main")
        if before != "unused":
            work.write("a", b"one\n")
        if before == "saved":
            work.checkpoint()
        vault.rename_fork("work", "renamed")
        renamed = vault.workspace("renamed")
        opened = vault._dispatch.open_workspace("renamed")

        assert not opened.is_clean()
        renamed.checkpoint()
        with opened.locked():
            assert opened.is_recorded_by(vault._core.read_head("renamed"))

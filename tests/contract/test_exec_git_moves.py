"""What git does to the branch inside a command is part of that command's operation."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from avfs_git.sdk import Avfs, Workspace
from tests.support.commands import BACKENDS, fork_with_file
from tests.support.faults import git

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("git", "user-xattrs", "whiteout", "userns"),
    pytest.mark.usefixtures("person"),
]

_COMMIT = "git -c user.name=A -c user.email=a@b commit -q"


@pytest.fixture
def work(mount_dir: Path) -> Iterator[Workspace]:
    """A fork with a file."""
    with fork_with_file(mount_dir / "h") as made:
        yield made


def head_of(work: Workspace) -> str:
    """Read where the branch is."""
    return git(work.vault.path, "rev-parse", "refs/heads/work").strip()


def turn(work: Workspace, start: str, files: set[str]) -> None:
    """Undo a command that git made commits in, do it again, undo it: each is one step."""
    end = head_of(work)
    assert end != start
    done = work.undo()
    assert (done.operation.kind in {"files", "checkpoint"}, "git commit: " in done.operation.description) == (
        True,
        True,
    )
    assert head_of(work) == start
    assert {info.path.decode() for info in work.list_dir()} == {"file"}
    assert work.read("file") == b"content\n"
    work.redo()
    assert head_of(work) == end
    assert {info.path.decode() for info in work.list_dir()} == files
    assert not work.status().changed_files
    work.undo()
    assert head_of(work) == start
    assert not work.status().changed_files


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_command_in_which_git_commits_all_is_one_operation(work: Workspace, backend: str) -> None:
    """Undo takes back its commits and its files, also those of several commits."""
    start = head_of(work)
    work.exec(
        shell=f"echo 1 > one; git add one; {_COMMIT} -m first; echo 2 >> file; {_COMMIT} -am second",
        backend=backend,
    )

    turn(work, start, {"file", "one"})


def test_it_is_so_in_a_fresh_fork_of_a_clone(mount_dir: Path) -> None:
    """The log has no state of it yet, and its head is a commit of git's."""
    clone = mount_dir / "clone"
    clone.mkdir()
    (clone / "file").write_bytes(b"content\n")
    made = f"git init -q && git add -A && {_COMMIT} -m c"
    subprocess.run(["bash", "-c", made], cwd=clone, check=True)
    with Avfs(mount_dir / "h") as avfs:
        work = avfs.create_vault("v", source=clone).fork("work")
        start = head_of(work)
        work.exec(shell=f"echo 1 > one; git add one; {_COMMIT} -m first")

        turn(work, start, {"file", "one"})


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_command_in_which_git_commits_some_is_one_operation(work: Workspace, backend: str) -> None:
    """What git did not commit is committed by avfs, and all of it is taken back at once."""
    start = head_of(work)
    work.exec(shell=f"echo 1 > one; git add one; {_COMMIT} -m first; echo 2 > two", backend=backend)

    turn(work, start, {"file", "one", "two"})


@pytest.mark.needs("fuse")
def test_it_is_so_in_a_mounted_fork_and_only_for_what_the_command_did(work: Workspace, mount_dir: Path) -> None:
    """What git did in the live tree before the command is an operation of its own."""
    session = work.mount(mount_dir / "tree")
    try:
        work.exec(shell=f"{_COMMIT} --allow-empty -m before")
        start = head_of(work)
        work.exec(shell=f"echo 1 > one; git add one; {_COMMIT} -m first; echo 2 > two")
        turn(work, start, {"file", "one", "two"})
        assert work.undo().operation.kind == "git"
    finally:
        session.unmount()


@pytest.fixture
def signals() -> Iterator[Path]:
    """A directory below /tmp, where the policy lets commands write, wherever the tests have theirs."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="avfs-signals-") as place:
        yield Path(place)


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("commit", [True, False])
def test_what_a_person_undoes_meanwhile_is_not_the_commands(
    work: Workspace, mount_dir: Path, signals: Path, commit: bool
) -> None:
    """The command reports and commits its own file only, and its undo leaves what was undone as it is."""
    work.exec(shell="echo s > other; echo 2 > file")
    session = work.mount(mount_dir / "tree")
    try:
        go, ran = signals / "go", signals / "ran"
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(
                work.exec, shell=f"touch {ran}; until test -e {go}; do sleep 0.05; done; echo 1 > one", commit=commit
            )
            while not ran.exists() and not done.done():
                time.sleep(0.02)
            with work.vault.workspace("work") as beside:
                beside.undo()
            go.touch()
            result = done.result()
        assert [change.path for change in result.changed_files] == [b"one"]
        work.undo()
        assert {info.path.decode() for info in work.list_dir()} == {"file"}
        assert work.read("file") == b"content\n"
    finally:
        session.unmount()


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("own", [False, True], ids=["without git", "with git"])
@pytest.mark.parametrize("commit", [True, False], ids=["commit", "no commit"])
def test_what_a_person_commits_meanwhile_is_not_the_commands(
    work: Workspace, mount_dir: Path, signals: Path, own: bool, commit: bool
) -> None:
    """Undo of the command leaves the person's commit and its files, whether or not git ran in the command, too."""
    start = head_of(work)
    session = work.mount(mount_dir / "tree")
    try:
        go, ran = signals / "go", signals / "ran"
        text = f"touch {ran}; until test -e {go}; do sleep 0.05; done; echo 1 > one"
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(work.exec, shell=text + ("; sleep 1.1; git status" if own else ""), commit=commit)
            while not ran.exists() and not done.done():
                time.sleep(0.02)
            tree = session.path
            (tree / "person").write_bytes(b"mine\n")
            subprocess.run(f'git add person; {_COMMIT} -m "the person"', shell=True, cwd=tree, check=False)
            theirs = head_of(work)
            go.touch()
            result = done.result()
        assert [change.path for change in result.changed_files] == [b"one"]
        assert "exec.git_beside" in [warning.code for warning in result.warnings]
        assert "git commit" not in work.undo().operation.description
        assert (head_of(work), {path.name for path in tree.iterdir()}) == (theirs, {".git", "file", "person"})
        assert not work.status().changed_files
        assert work.undo().operation.description == "git commit: the person"
        assert head_of(work) == start
        assert work.undo().operation.description == "change 'person'"
        assert not (tree / "person").exists()
    finally:
        session.unmount()


@pytest.mark.needs("fuse")
def test_git_that_a_script_runs_is_the_commands(
    work: Workspace, mount_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the command does not name git: git says that it ran, and no trace of that stays."""
    start = head_of(work)
    session = work.mount(mount_dir / "tree")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    try:
        work.write("script", f"echo 1 > one; git add one; {_COMMIT} -m first\n".encode())
        work.checkpoint("script")
        start = head_of(work)
        result = work.exec("sh", "script")
        assert not result.warnings
        assert work.undo().operation.description == "exec: sh script (git commit: first)"
        assert head_of(work) == start
        assert not (session.path / "one").exists()
    finally:
        session.unmount()
    assert not list(temporary.iterdir())


def test_no_commit_leaves_the_branch_to_git(work: Workspace) -> None:
    """With `--no-commit` the operation holds what git did, too."""
    start = head_of(work)
    work.exec(shell=f"echo 1 > one; git add one; {_COMMIT} -m first; echo 2 > two", commit=False)
    work.undo()

    assert head_of(work) == start
    assert {info.path.decode() for info in work.list_dir()} == {"file"}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("commit", [True, False])
def test_undo_of_a_command_that_checks_out_takes_head_back(work: Workspace, backend: str, commit: bool) -> None:
    """Files and HEAD in one step; nothing is staged afterwards, and git outside may move the branch."""
    work.write("file", b"2\n")
    work.checkpoint("two")
    head = head_of(work)
    work.exec("git", "status", backend=backend)
    work.exec("git", "checkout", "-q", "HEAD~1", backend=backend, commit=commit)
    assert work.read("file") == b"content\n"
    assert "git.head_elsewhere" in [warning.code for warning in work.status().warnings]
    assert work.undo().warnings == ()

    assert (work.read("file"), head_of(work)) == (b"2\n", head)
    assert work.status().warnings == ()
    git(work.vault.path, "branch", "-f", "work", head)
    done = work.exec("git", "status", "--porcelain", "--branch", backend=backend)
    assert done.stdout == b"## work\n"


@pytest.mark.parametrize(
    ("script", "is_used"),
    [
        ("true", False),
        (f"echo a > made; git add made; {_COMMIT} -m own", False),
        (f"echo a > made; git add made; {_COMMIT} -m own; echo b > more", True),
    ],
    ids=["nothing", "its own commit", "its own commit and more"],
)
def test_a_message_without_a_commit_is_told(work: Workspace, script: str, is_used: bool) -> None:
    """Where the command leaves nothing to commit, its message would be dropped without a word."""
    result = work.exec(shell=script, message="words")
    assert result.exit_code == 0, result.stderr
    told = [warning.code for warning in result.warnings if warning.code == "exec.message_unused"]
    assert told == ([] if is_used else ["exec.message_unused"])
    assert (work.log()[0].checkpoint.message.strip() == "words") == is_used

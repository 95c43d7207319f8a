"""`avfs run`: a program of the user in a fork of its own, on its terminal."""

from __future__ import annotations

import errno
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avfs_git.errors import HostError
from avfs_git.model import RemoveResult
from avfs_git.paths import show_path
from avfs_git.sdk import Avfs
from avfs_git.sdk.dispatch import Dispatch
from avfs_git.sdk.home import Home
from avfs_git.sdk.running import attempts, runs
from avfs_git.sdk.vault import Session
from tests.support.cli import Cli, spawn
from tests.support.servers import git
from tests.support.terminal import Terminal
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout")]


def _git(place: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=place, check=True, capture_output=True).stdout.decode()


@pytest.fixture
def clone(mount_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A clone with an ignored and a changed file; the current directory is below it."""
    home = mount_dir / "home"
    monkeypatch.setenv("AVFS_HOME", str(home))
    place = mount_dir / "shop"
    (place / "src").mkdir(parents=True)
    (place / "src" / "main").write_text("one\n")
    (place / ".gitignore").write_text(".env\n")
    _git(place, "init", "-q", "-b", "main")
    _git(place, "add", "-A")
    _git(place, "commit", "-q", "-m", "one")
    (place / ".env").write_text("KEY=1\n")
    (place / "src" / "main").write_text("two\n")
    monkeypatch.chdir(place / "src")
    yield place
    with Avfs(home) as avfs:
        for session in avfs.sessions():
            with avfs.open_vault(session.vault) as vault:
                found = vault.find_session(session.fork)
                if found is not None:
                    found.unmount(lazy=True)
                    found.wait()


def _forks(home_of: Path) -> set[str]:
    with Avfs(home_of.parent / "home") as avfs, avfs.open_vault("shop") as vault:
        return {fork.name for fork in vault.list_forks()}


@pytest.mark.usefixtures("person")
def test_a_program_works_in_a_fork_of_the_current_directory(clone: Path) -> None:
    """In the same directory of it, with ignored and unsaved files.

    The clone stays as it is, and the status is the program's.
    """
    script = (
        'cat main ../.env; pwd; echo "$AVFS_FORK"; git rev-parse --show-prefix; echo new > made; echo three > '
        "main; exit 7"
    )
    ran = spawn("run", "--name", "task", "--", "sh", "-c", script)

    assert ran.status == 7, ran.stderr
    shown = ran.text.splitlines()
    tree = clone.parent / "home" / "mounts" / "shop" / "task"
    assert shown == ["two", "KEY=1", str(tree / "src"), "task", "src/"]
    assert (clone / "src" / "main").read_text() == "two\n"
    assert not (clone / "src" / "made").exists()
    assert not tree.exists()
    assert "2 files changed (+2 -1), in 1 commit\n" in ran.stderr
    assert "Kept fork task: everything is saved, not all of it is pushed.\n" in ran.stderr
    ran = spawn("run", "--name", "ignored", "--", "sh", "-c", "echo KEY=2 > ../.env")
    assert "Kept fork ignored: everything is saved, not all of it is pushed.\n" in ran.stderr


def test_the_commands_of_the_banner_work_as_they_stand(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From any directory."""
    program = ("sh", "-c", "echo more >> 'new file'")
    ran = spawn("run", "--json", "--name", "a task", "--", *program)
    assert ran.document["error"]["code"] == "input.invalid_name"
    assert ran.status == 125
    found = spawn("run", "--json", "--", *program).ok().result
    assert (found["outcome"], found["exit_code"], found["mounted"], found["pushed"]) == ("kept", 0, False, False)
    assert [file["change"]["path"] for file in found["diff"]["files"]] == ["src/new file"]
    assert list(found["next"]) == ["resume", "diff", "apply", "push", "discard"]

    monkeypatch.chdir("/")
    commands = {name: shlex.split(words)[1:] for name, words in found["next"].items()}
    assert "+more" in spawn(*commands["diff"]).ok().text
    spawn(*commands["apply"]).ok()
    assert (clone / "src" / "new file").read_text() == "more\n"
    spawn(*commands["push"]).ok()
    assert found["fork"] in _git(clone, "branch", "--list")
    monkeypatch.chdir(clone / "src")
    again = spawn(*commands["resume"][:2], *commands["resume"][2:]).ok()
    assert "1 file changed (+1 -0), in 1 commit\n" in again.stderr
    monkeypatch.chdir("/")
    spawn(*commands["discard"]).ok()
    assert _forks(clone) == set()


def test_a_fork_in_which_nothing_changed_is_deleted(clone: Path) -> None:
    """Also of a program that cannot be executed; `--keep` keeps it.

    `--discard` deletes a changed one, and undo restores that.
    """
    assert spawn("run", "--", "true").status == 0
    assert spawn("run", "--", "nosuch-program").status == 127
    assert spawn("run", "--", "./main").status == 126
    assert _forks(clone) == set()
    assert spawn("run", "--keep", "--name", "kept", "--", "false").status == 1
    taken = spawn("run", "--name", "kept", "--json", "--", "true").document["error"]
    assert (taken["code"], "`--resume kept`" in taken["hint"], "`--name NAME`" in taken["hint"]) == (
        "fork.exists",
        True,
        True,
    )
    assert _forks(clone) == {"kept"}
    assert "no fork 'nosuch'" in spawn("--vault", "shop", "run", "--resume", "nosuch", "--", "true").stderr
    found = spawn("run", "--discard", "--json", "--name", "gone", "--", "sh", "-c", "echo x > x").ok().result
    assert (found["outcome"], _forks(clone)) == ("discarded", {"kept"})
    spawn(*shlex.split(found["next"]["restore"])[1:]).ok()
    assert _forks(clone) == {"kept", "gone"}


def test_where_a_run_cannot_be_mounted_the_hint_is_about_that(clone: Path) -> None:
    """What is in the way in the home is no matter of where the project is."""
    taken = clone.parent / "home" / "mounts" / "shop" / "task"
    taken.mkdir(parents=True)
    (taken / "file").write_text("x")
    error = spawn("run", "--json", "--name", "task", "--", "true").document["error"]
    assert (error["code"], "it is not empty" in error["message"]) == ("mount.point_unusable", True)
    assert "project" not in error["hint"]

    error = spawn("run", "--json", "--", "true", env={"AVFS_HOME": str(clone / "home")}).document["error"]
    assert error["hint"].startswith("Work in the directory of a project; that of the vaults")


def test_what_takes_out_uncommitted_work_is_a_change(clone: Path) -> None:
    """The clone has something that is not committed; a program makes it what the commit has, and its fork is kept."""
    found = spawn("run", "--json", "--name", "clean", "--", "git", "checkout", "-q", "--", ".").ok().result

    assert (found["outcome"], _forks(clone)) == ("kept", {"clean"})
    assert [file["change"]["path"] for file in found["diff"]["files"]] == ["src/main"]


@pytest.mark.parametrize("saving", ["git commit -q -a -m words", f"{sys.executable} -m avfs_git checkpoint save good"])
def test_what_was_uncommitted_and_is_committed_is_a_change(clone: Path, saving: str) -> None:
    """The files are as they were; the commit, its words and its label are not."""
    found = spawn("run", "--json", "--name", "saved", "--", "sh", "-c", saving).ok().result
    assert (found["outcome"], _forks(clone)) == ("kept", {"saved"})

    spawn("fork", str(clone), str(clone.parent / "t")).ok()
    subprocess.run(["sh", "-c", saving], cwd=clone.parent / "t", check=True)
    assert b"Deleted" not in spawn("end", str(clone.parent / "t")).ok().stdout
    assert _forks(clone) == {"saved", "t"}


def test_a_label_is_a_change(clone: Path) -> None:
    """Also of a commit that was there."""
    _git(clone, "commit", "-q", "-a", "-m", "all")
    saving = f"{sys.executable} -m avfs_git checkpoint save good"
    found = spawn("run", "--json", "--name", "labelled", "--", "sh", "-c", saving).ok().result
    assert (found["outcome"], _forks(clone)) == ("kept", {"labelled"})


def test_changes_of_ignored_files_are_told_where_git_made_the_first_commit(clone: Path) -> None:
    """Such a commit does not say what was beside it; what the fork had is known, in a clean clone and a second run."""
    _git(clone, "commit", "-q", "-a", "-m", "all")
    for number, more in enumerate((["--name", "task"], ["--resume", "task"])):
        ran = spawn("run", "--json", *more, "--", "sh", "-c", f"echo {number} > ../.env").ok().result
        assert [file["path"] for file in ran["diff"]["sidecar"]] == [".env"]
        seen = spawn(*shlex.split(ran["next"]["diff"])[1:], "--json").ok().result
        assert [file["path"] for file in seen["sidecar"]] == [".env"]
        spawn("run", "--resume", "task", "--", "git", "commit", "-q", "--allow-empty", "-m", "of git's").ok()


def test_a_fork_that_was_there_before_is_not_deleted(clone: Path) -> None:
    """Nothing changed in it, but it was not made for the program; `--discard` deletes it."""
    spawn("run", "--keep", "--name", "mine", "--", "true").ok()
    found = spawn("--vault", "shop", "run", "--resume", "mine", "--json", "--", "true").ok().result
    assert (found["outcome"], _forks(clone)) == ("kept", {"mine"})
    found = spawn("--vault", "shop", "run", "--resume", "mine", "--discard", "--json", "--", "true").ok().result
    assert (found["outcome"], _forks(clone)) == ("discarded", set())


def test_what_is_written_while_an_unchanged_fork_is_deleted_keeps_it(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody writes after the run has looked whether anything changed: it looks again, and says what there is."""
    remove = Session.remove

    def write_first(session: Session, *, discard: bool = False) -> RemoveResult:
        spawn("--vault", "shop", "--fork", session.fork, "write", "/precious", stdin=b"my work\n").ok()
        return remove(session, discard=discard)

    monkeypatch.setattr(Session, "remove", write_first)
    with Avfs(clone.parent / "home") as avfs:
        ended = runs.begin_in_directory(avfs, clone, name="shared", program="true").end()

    assert (ended.outcome, [show_path(file.change.path) for file in ended.diff.files]) == ("kept", ["precious"])
    assert not ended.pushed
    assert spawn("--vault", "shop", "--fork", "shared", "cat", "/precious").ok().text == "my work\n"


def _make_anew(run: runs.Run) -> str | None:
    """Do what another process may do: delete the fork of a run, and begin other work under its name; give its head."""
    run.session.unmount()
    run.vault.delete_fork(run.fork)
    with run.vault.fork(run.fork, at=run.start) as other:
        other.write("mine", b"my own\n")
    return run.vault.fork_info(run.fork).head


@pytest.mark.parametrize("discard", [True, False])
@pytest.mark.parametrize("after", [None, "remove", "delete_fork"])
def test_a_fork_that_was_made_anew_during_a_run_stays(
    clone: Path, monkeypatch: pytest.MonkeyPatch, discard: bool, after: str | None
) -> None:
    """Whenever that is: nothing is deleted, and nothing saved in it."""
    heads = []
    with Avfs(clone.parent / "home") as avfs:
        run = runs.begin_in_directory(avfs, clone, name="task", program="true")
        if after is None:
            heads.append(_make_anew(run))
        else:
            of = Session if after == "remove" else Dispatch
            original = getattr(of, after)

            def make_anew_first(self: object, *arguments: object, **options: object) -> object:
                monkeypatch.setattr(of, after, original)
                heads.append(_make_anew(run))
                return original(self, *arguments, **options)

            monkeypatch.setattr(of, after, make_anew_first)
        ended = run.end(discard=discard)

        assert (ended.outcome, ended.mounted, [warning.code for warning in ended.warnings]) == (
            "gone",
            False,
            ["run.gone"],
        )
        assert [run.vault.fork_info("task").head] == heads
        assert run.vault.workspace("task").read("mine") == b"my own\n"


def test_a_fork_that_was_deleted_during_a_run_is_named(clone: Path) -> None:
    """With the command that restores it, which works; the status is the program's."""
    avfs = f"{shlex.quote(sys.executable)} -m avfs_git --vault shop"
    script = f'echo x > x; cd /; {avfs} stop "$AVFS_MOUNTPOINT"; {avfs} fork delete task; exit 3'
    ran = spawn("run", "--name", "task", "--json", "--", "sh", "-c", script)
    assert (ran.status, ran.result["outcome"]) == (3, "gone")
    assert [warning["code"] for warning in ran.document["warnings"]] == ["run.gone"]
    spawn(*shlex.split(ran.result["next"]["restore"])[1:]).ok()
    assert spawn("--vault", "shop", "--fork", "task", "cat", "/src/x").ok().text == "x\n"


def test_a_fork_whose_branch_was_renamed_during_a_run_comes_back(clone: Path) -> None:
    """By the commands that the end of the run names, with what was not committed."""
    ran = spawn("run", "--name", "task", "--json", "--", "sh", "-c", "git branch -m better; echo x > x").ok().result
    assert (ran["outcome"], ran["mounted"]) == ("gone", True)
    for what in ("unmount", "restore"):
        spawn(*shlex.split(ran["next"][what])[1:]).ok()
    assert spawn("--vault", "shop", "--fork", "task", "cat", "/src/x").ok().text == "x\n"
    assert _forks(clone) == {"task", "better"}


@pytest.mark.parametrize("verb", ["stop", "end"])
def test_the_end_of_a_tree_whose_branch_was_renamed_names_the_way_back(clone: Path, verb: str) -> None:
    """By commands that work from anywhere, with what was not committed."""
    tree = clone.parent / "task"
    spawn("fork", str(clone), str(tree)).ok()
    (tree / "new").write_text("x\n")
    subprocess.run(["git", "branch", "-m", "better"], cwd=tree, check=True)

    said = spawn(verb, str(tree), cwd="/").stderr
    hinted = re.findall("`avfs ([^`]*)`", said)
    for line in reversed(hinted):
        spawn(*shlex.split(line), cwd="/").ok()

    assert len(hinted) == 2, said
    assert spawn("--vault", "shop", "--fork", "task", "cat", "/new").ok().text == "x\n"


@pytest.mark.parametrize("discard", [True, False])
def test_a_fork_that_was_mounted_elsewhere_during_a_run_is_kept(clone: Path, discard: bool) -> None:
    """The end of the run says so, and where."""
    with Avfs(clone.parent / "home") as avfs:
        run = runs.begin_in_directory(avfs, clone, name="task", program="true")
        run.session.unmount()
        elsewhere = run.vault.workspace("task").mount(clone.parent / "elsewhere")
        ended = run.end(discard=discard)
        assert (ended.outcome, ended.mounted, [warning.code for warning in ended.warnings]) == (
            "kept",
            True,
            ["run.in_use"],
        )
        assert run.spell_unmount() == f"stop {elsewhere.path}"
        elsewhere.unmount()


def test_a_program_in_a_mount_namespace_of_its_own_keeps_the_fork_mounted(clone: Path) -> None:
    """A container left behind, for example: nothing is deleted under it, and the command that ends the mount works."""
    with Avfs(clone.parent / "home") as avfs:
        run = runs.begin_in_directory(avfs, clone, name="task", program="true")
        with subprocess.Popen(
            ["unshare", "-rm", "sh", "-c", "echo ready; exec sleep 60"], cwd=run.session.path, stdout=subprocess.PIPE
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"ready\n"
            ended = run.end(discard=True)
            words = run.spell_unmount()
            try:
                assert (ended.outcome, ended.mounted) == ("kept", True)
                assert [warning.code for warning in ended.warnings] == ["run.in_use"]
                assert words == "--vault shop unmount --force task"
                spawn(*shlex.split(words)).ok()
            finally:
                other.kill()
            run.session.wait()


_TAG = "git tag -a -m t old; git tag tree HEAD^{tree}; git tag -a -m b file HEAD:src/main"


@pytest.mark.parametrize(
    ("script", "left"),
    [
        ("echo x > x; git stash -q -u", "stash@{0}"),
        ("git switch -q -c topic; echo x > x; git add x; git commit -q -m x; git switch -q task", "heads/topic"),
        (
            "git worktree add -q ../../side -b topic; cd ../../side; echo x > x; git add x; git commit -q -m x",
            "heads/topic",
        ),
        ("git switch -q --detach; echo x > x; git add x; git commit -q -m x; git switch -q task", "commit "),
        ("echo x > x; git add x; git commit -q -m x; git reset -q --hard HEAD~1", "commit "),
        ("echo x > x; git add x; git commit -q -m x; git tag -a -m t made; git reset -q --hard HEAD~1", "tags/made"),
        (f"{_TAG}; echo x > x; git add x; git commit -q -m x; git reset -q --hard HEAD~1", "commit "),
    ],
)
def test_work_that_git_has_put_elsewhere_keeps_the_fork(clone: Path, script: str, left: str) -> None:
    """Nothing is on the branch, but in the stash or on another branch; a stash of an older fork keeps no other one."""
    _git(clone, "commit", "-q", "-a", "-m", "all")  # so that git's doing changes no file
    ran = spawn("run", "--json", "--name", "task", "--", "sh", "-c", script).ok()
    assert ran.result["outcome"] == "kept"
    (told,) = ran.document["warnings"]
    assert (told["code"], left in told["message"]) == ("run.left_in_git", True)
    assert "task" in _forks(clone)
    assert spawn("run", "--json", "--name", "idle", "--", "true").ok().result["outcome"] == "unchanged"
    assert spawn("run", "--json", "--discard", "--resume", "task", "--", "true").ok().result["outcome"] == "discarded"


def test_end_keeps_a_fork_whose_work_is_in_the_stash(clone: Path) -> None:
    """It names the stash; `--discard` deletes the fork."""
    place = clone.parent / "side"
    spawn("fork", str(clone), str(place)).ok()
    (place / "new").write_text("work\n")
    _git(place, "stash", "-q", "-u")
    ended = spawn("end", "--json", str(place)).ok().result
    assert (ended["deleted"], ended["left_in_git"]) == (False, ["stash@{0}"])


def test_end_keeps_a_fork_whose_work_is_only_staged(clone: Path) -> None:
    """It names the file as git does; what was staged stays reachable where the fork is deleted all the same."""
    place = clone.parent / "side"
    spawn("fork", str(clone), str(place)).ok()
    (place / "new").write_text("staged\n")
    _git(place, "add", "new")
    (place / "new").unlink()
    ended = spawn("end", "--json", str(place)).ok().result
    assert (ended["deleted"], ended["left_in_git"]) == (False, [":new"])
    vault = ended["vault"]
    spawn("--vault", vault, "fork", "delete", "side").ok()
    with Avfs(clone.parent / "home") as avfs, avfs.open_vault(vault) as opened:
        _git(opened.path, "gc", "-q", "--prune=now")
        held = _git(opened.path, "log", "--all", "--format=%H", "--grep", "staged in side").split()
        assert _git(opened.path, "cat-file", "blob", f"{held[0]}:new") == "staged\n"


def test_end_of_a_fork_in_which_nothing_changed_makes_no_commit(clone: Path) -> None:
    """Also where files of the clone have modes that no tree holds."""
    _git(clone, "commit", "-q", "-a", "-m", "all")
    (clone / "private").write_text("x")
    _git(clone, "add", "private")
    _git(clone, "commit", "-q", "-m", "private")
    (clone / "private").chmod(0o600)
    place = clone.parent / "side"
    spawn("fork", str(clone), str(place)).ok()
    ended = spawn("end", "--json", str(place)).ok().result
    assert ended["deleted"]
    with Avfs(clone.parent / "home") as avfs, avfs.open_vault(ended["vault"]) as opened:
        assert "end of a session" not in _git(opened.path, "log", "--all", "--format=%s")


def _push_from_side(clone: Path) -> Path:
    place = clone.parent / "side"
    spawn("fork", str(clone), str(place)).ok()
    (place / "code").write_text("x")
    _git(place, "add", "-A")
    _git(place, "commit", "-q", "-m", "code")
    _git(place, "push", "-q", "origin", "side")
    return place


def test_end_names_the_ignored_files_that_go_with_a_pushed_fork(clone: Path) -> None:
    """Those made or changed in it, also after the push; not those that the clone has. `undo` brings them back."""
    for name in ("old/1", "old/2", "own"):
        (clone / name).parent.mkdir(exist_ok=True)
        (clone / name).write_text("1")
    (clone / ".gitignore").write_text(".env\nout/\n*.log\n")
    (clone / "same.log").write_text("1")
    place = _push_from_side(clone)
    (place / ".env").write_text("KEY=2\n")
    (place / "out").mkdir()
    for number in range(6):
        (place / "out" / str(number)).write_text("1")
    (place / "same.log").unlink()
    (place / "same.log").write_text("1")

    ended = spawn("end", "--json", str(place)).ok()

    assert (ended.result["deleted"], ended.result["pushed"]) == (True, True)
    (told,) = ended.document["warnings"]
    assert told["code"] == "fork.ignored_deleted"
    assert told["message"] == (
        "deleted with fork 'side': 7 ignored files that no push holds: '.env', 'out/0', 'out/1', 'out/2', 'out/3' "
        "and 2 more; `avfs --vault shop@side undo` restores the fork"
    )
    spawn(*shlex.split(told["message"].split("`")[1])[1:]).ok()
    assert spawn("--vault", "shop@side", "cat", "/out/5", "/.env").ok().text == "1KEY=2\n"


@pytest.mark.parametrize("how", [(), ("--with-checkpoints",)])
def test_the_labels_of_a_pushed_fork_are_told(clone: Path, how: tuple[str, ...]) -> None:
    """They go with the fork, unless they were pushed, too."""
    place = clone.parent / "side"
    spawn("fork", str(clone), str(place)).ok()
    (place / "new").write_text("1")
    spawn("checkpoint", "save", "good", "-m", "words", cwd=place).ok()
    spawn("push", *how, cwd=place).ok()

    ended = spawn("end", "--json", str(place)).ok()

    assert ended.result["deleted"]
    told = [(one["code"], "1 label that no push holds: 'good'" in one["message"]) for one in ended.document["warnings"]]
    assert told == ([] if how else [("fork.labels_deleted", True)])


@pytest.mark.parametrize("is_edited", [False, True])
def test_what_the_clone_has_and_the_fork_ignores_is_not_gone(clone: Path, is_edited: bool) -> None:
    """A file that was neither committed nor ignored there, and that the fork ignores."""
    for name in ("data/1", "data/2", "secret"):
        (clone / name).parent.mkdir(exist_ok=True)
        (clone / name).write_text("1")
    place = clone.parent / "side"
    spawn("fork", str(clone), str(place)).ok()
    (place / ".gitignore").write_text(".env\ndata\nsecret\n")
    if is_edited:
        (place / "data" / "2").write_text("2")
        (place / "secret").write_text("2")
    _git(place, "commit", "-q", "-a", "-m", "code")
    _git(place, "push", "-q", "origin", "side")

    ended = spawn("end", str(place)).ok()

    assert "Deleted fork side" in ended.text
    assert ("2 ignored files that no push holds: 'data/2', 'secret'; `" in ended.stderr) == is_edited
    assert ("ignored" in ended.stderr) == is_edited


@pytest.mark.parametrize("is_edited", [False, True])
def test_a_repository_inside_that_the_clone_has_too_keeps_no_fork(clone: Path, is_edited: bool) -> None:
    """Also where nothing is uncommitted in the clone; what was edited in it and is not committed is named."""
    (clone / ".gitignore").write_text(".env\nlib/\n")
    _git(clone, "commit", "-q", "-a", "-m", "all")
    (clone / "lib").mkdir()
    (clone / "lib" / "one").write_text("1")
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "one"]):
        _git(clone / "lib", *words)
    place = _push_from_side(clone)
    if is_edited:
        (place / "lib" / "one").write_text("2")
        _git(place / "lib", "status")
    ended = spawn("end", str(place)).ok()
    assert "Deleted fork side" in ended.text
    assert ("1 ignored file that no push holds: 'lib/one'" in ended.stderr) == is_edited
    assert ("ignored" in ended.stderr) == is_edited


@pytest.mark.parametrize("saving", [["-m", "Release words"], ["v1"]])
def test_end_keeps_a_checkpoint_that_was_asked_for_after_the_push(clone: Path, saving: list[str]) -> None:
    """It changes no file, and has words or a label that the clone lacks."""
    place = _push_from_side(clone)
    spawn("checkpoint", "save", *saving, cwd=place).ok()
    assert "Kept fork side: it holds work that was not pushed" in spawn("end", str(place)).ok().text


def test_end_in_the_tree_of_another_fork_is_undone_there(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`undo` in that fork restores the deleted one, and takes back nothing else."""
    here, place = clone.parent / "here", clone.parent / "side"
    spawn("fork", str(clone), str(here)).ok()
    spawn("fork", str(clone), str(place)).ok()
    (here / "own").write_text("x")
    with monkeypatch.context() as inside:
        inside.chdir(here)
        spawn("checkpoint", "save").ok()
        ended = spawn("end", "--json", str(place)).ok()
        assert ended.result["deleted"], ended.document
        spawn("undo").ok()
    assert {"here", "side"} <= set(_forks(clone))
    assert (here / "own").exists()


def test_a_fork_that_is_in_use_stays_mounted(clone: Path) -> None:
    """A server that the program leaves behind goes on in the tree; what there is is saved, and `unmount` is named."""
    script = "echo x > x; (trap '' HUP; exec sleep 600) >/dev/null 2>&1 & echo $!"
    ran = spawn("run", "--json", "--discard", "--name", "task", "--", "sh", "-c", script)
    found = ran.ok().result
    try:
        assert (found["outcome"], found["mounted"], len(found["checkpoints"])) == ("kept", True, 1)
        assert [warning["code"] for warning in ran.document["warnings"]] == ["run.in_use"]
    finally:
        os.kill(int(ran.stderr.splitlines()[-1]), signal.SIGKILL)
    for _ in range(200):
        ended = spawn(*shlex.split(found["next"]["unmount"])[1:])
        if ended.status == 0:
            break
        time.sleep(0.05)
    assert ended.status == 0


def test_a_fork_of_a_live_tree_and_of_a_named_fork(clone: Path) -> None:
    """A program in a live tree gets a fork of that one; `--vault` and `--fork` name one that is not mounted."""
    inner = f"{shlex.quote(sys.executable)} -m avfs_git run --name inner -- sh -c 'cat x; echo y > y'"
    found = spawn("run", "--json", "--name", "outer", "--", "sh", "-c", f"echo x > x; {inner}").ok().result
    assert [file["change"]["path"] for file in found["diff"]["files"]] == ["src/x"]
    assert _forks(clone) == {"outer", "inner"}
    for name in ("outer", "inner"):  # what closes a mount to other users is no mode of the fork
        spawn("--vault", "shop", "--fork", name, "export", "-r", "/", str(clone.parent / name)).ok()
        assert (clone.parent / name).stat().st_mode == clone.stat().st_mode
    script = "cat y | sed s/^/it-is-/; echo z > z"
    named = spawn("--vault", "shop", "--fork", "inner", "run", "--name", "third", "--json", "--", "sh", "-c", script)
    assert named.ok().result["next"]["merge"] == "avfs --vault shop merge third --into inner"
    assert "it-is-y\n" in named.stderr
    spawn(*shlex.split(named.result["next"]["merge"])[1:]).ok()
    assert spawn("--vault", "shop", "--fork", "inner", "cat", "/src/z").ok().text == "z\n"


def test_a_signal_reaches_the_program(clone: Path) -> None:
    """What the program does with it counts; avfs saves what there is."""
    script = "trap 'echo got > got; exit 9' TERM; echo ready; while :; do sleep 0.05; done"
    command = [sys.executable, "-m", "avfs_git", "run", "--name", "task", "--", "sh", "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 9
    assert spawn("--vault", "shop", "--fork", "task", "cat", "/src/got").ok().text == "got\n"
    killed = spawn("run", "--", "sh", "-c", "kill -9 $$")
    assert killed.status == 128 + signal.SIGKILL


def test_the_program_has_the_terminal(clone: Path) -> None:
    """Its size, changes of it, and Ctrl-C, which does not end avfs."""
    script = (
        "trap 'echo size=$(stty size)' WINCH; trap 'echo int; exit 5' INT; echo x > x; test -t 0 && test -t 1 "
        "&& echo ready"
    )
    script += "; while :; do sleep 0.05; done"
    terminal = Terminal("-m", "avfs_git", "run", "--name", "task", "--", "sh", "-c", script)
    terminal.read_until(b"ready")
    termios.tcsetwinsize(terminal.fd, (33, 77))
    terminal.read_until(b"size=33 77")
    terminal.type(b"\x03")
    assert terminal.wait() == 5
    assert b"Kept fork task" in terminal.shown


def test_a_window_that_is_closed_hangs_up_the_program(clone: Path) -> None:
    """The kernel tells only the session leader, which is avfs if a terminal was opened for it; the work is saved."""
    script = "trap 'echo hup > hup; exit' HUP; echo ready; while :; do sleep 0.05; done"
    terminal = Terminal("-m", "avfs_git", "run", "--name", "task", "--", "sh", "-c", script)
    terminal.read_until(b"ready")
    os.close(terminal.fd)
    os.waitpid(terminal.pid, 0)

    assert spawn("--vault", "shop", "--fork", "task", "cat", "/src/hup").ok().text == "hup\n"


@pytest.mark.parametrize("number", ["HUP", "INT", "TERM"])
def test_the_end_of_a_run_outlives_its_terminal(clone: Path, number: str) -> None:
    """A shell hangs up once more, and Ctrl-C is typed twice: while avfs saves what the program has done."""
    spawn("run", "--name", "first", "--keep", "--", "true").ok()
    listed = spawn("--json", "--vault", "shop", "hooks", "list").ok().result["hooks"]
    hook = next(Path(found["path"]) for found in listed if found["name"] == "pre-checkpoint")
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nkill -" + number + " $PPID\n")
    hook.chmod(0o755)
    spawn("--vault", "shop", "hooks", "enable", "pre-checkpoint").ok()
    ran = spawn("run", "--name", "task", "--", "sh", "-c", "echo x > x; exit 3")
    assert ran.status == 3, ran
    assert spawn("--vault", "shop", "--fork", "task", "cat", "/src/x").ok().text == "x\n"
    assert not spawn("sessions").ok().text


def test_ctrl_z_stops_the_job_and_the_shell_continues_it(clone: Path) -> None:
    """Also where the program only stops itself."""
    run = f"{shlex.quote(sys.executable)} -m avfs_git run --name task -- "
    script = 'echo begun; kill -STOP $$; echo went-on; read line; echo "got $line"'
    terminal = Terminal("-c", "import os; os.execvp('bash', ['bash', '--norc', '-i'])")
    terminal.type(b"PS1='$ '; " + run.encode() + b"sh -c " + shlex.quote(script).encode() + b"; echo status=$?\n")
    terminal.read_until(b"\nbegun")
    terminal.read_until(b"status=147")  # 128 + SIGSTOP: the shell has its terminal back
    terminal.read_until(b"$ ")
    terminal.type(b"fg\n")
    terminal.read_until(b"\nwent-on")
    terminal.type(b"\x1a")
    terminal.read_until(b"Stopped")
    terminal.read_until(b"$ ")  # a person types at the prompt
    terminal.type(b"fg\n")
    terminal.wait_for_job()
    terminal.type(b"words\n")
    terminal.read_until(b"\ngot words")
    terminal.type(b"exit\n")
    terminal.wait()


def test_the_shell_has_its_terminal_back_when_the_program_has_stopped(clone: Path) -> None:
    """Not before: many programs restore the settings of the terminal first, and what is typed then is still theirs."""
    run = f"{shlex.quote(sys.executable)} -m avfs_git run --name task -- "
    script = """
    import os, signal, time
    def restore(number, frame):
        time.sleep(0.3)
        os.write(1, b"restored\\n")
        os.kill(os.getpid(), signal.SIGSTOP)
    signal.signal(signal.SIGTSTP, restore)
    os.write(1, b"begun\\n")
    while True:
        signal.pause()
    """
    program = clone / "src" / "program"
    program.write_text(f"#!{sys.executable}\n" + textwrap.dedent(script))
    program.chmod(0o755)
    terminal = Terminal("-c", "import os; os.execvp('bash', ['bash', '--norc', '-i'])")
    terminal.type(b"PS1='$ '; " + run.encode() + b"./program; echo sta''tus=$?\n")
    terminal.read_until(b"\nbegun")
    terminal.type(b"\x1a")
    assert b"status" not in terminal.read_until(b"restored\r\n")
    terminal.read_until(b"status=")
    terminal.type(b"fg; true\n")
    terminal.wait_for_job()
    terminal.type(b"\x03")
    terminal.read_until(b"$ ")
    terminal.type(b"exit\n")
    terminal.wait()


def test_what_is_not_a_run_is_refused(clone: Path) -> None:
    """Without a program; with two names; a fork where there is no vault."""
    assert "avfs run claude" in spawn("run").stderr
    assert spawn("run").status == 125
    assert spawn("run", "--name", "a", "--resume", "b", "--", "true").status == 125
    missing = spawn("run", "--resume", "nosuch", "--", "true")
    assert (missing.status, "no vault was named" in missing.stderr) == (125, True)
    assert "contradict" in spawn("run", "--keep", "--discard", "--", "true").stderr


def test_attempts_run_at_once_and_one_is_picked(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in a fork of the same state, with its output in a file.

    An unchanged fork is deleted, and the others by `pick`.
    """
    script = """
    echo "attempt $AVFS_ATTEMPT of $AVFS_FORK" ; cat main ../.env; read nothing
    touch "$MEET/$AVFS_ATTEMPT"; while [ $(ls "$MEET" | wc -l) -lt 3 ]; do sleep 0.05; done
    [ "$AVFS_ATTEMPT" = 3 ] || seq "$AVFS_ATTEMPT" > made
    exit $((AVFS_ATTEMPT - 1))
    """
    meet = clone.parent / "meet"  # each waits for the others
    meet.mkdir()
    monkeypatch.setenv("MEET", str(meet))
    ran = spawn("run", "--attempts", "3", "--name", "try", "--json", "--", "sh", "-c", script)
    found = ran.ok().result

    assert [attempt["exit_code"] for attempt in found["attempts"]] == [0, 1, 2]
    assert [attempt["fork"] for attempt in found["attempts"]] == ["try-1", "try-2", "try-3"]
    assert Path(found["attempts"][1]["output"]).read_text() == "attempt 2 of try-2\ntwo\nKEY=1\n"
    assert [attempt["diff"] and attempt["diff"]["files"][0]["additions"] for attempt in found["attempts"]] == [
        1,
        2,
        None,
    ]
    assert _forks(clone) == {"try-1", "try-2"}
    assert not (clone / "src" / "made").exists()
    monkeypatch.chdir("/")
    compared = spawn(*shlex.split(found["next"]["compare"])[1:]).ok()
    assert [line.split("\t")[:3] for line in compared.text.splitlines()] == [
        ["1", "try-1", "0"],
        ["2", "try-2", "1"],
        ["3", "(deleted)", "2"],
    ]
    assert "+1" in spawn(*shlex.split(found["next"]["diff"])[1:]).ok().text
    assert "no fork of attempt 3" in spawn("--vault", "shop", "attempts", "pick", "3").stderr
    picked = spawn("--vault", "shop", "attempts", "pick", "2", "--json").ok().result
    assert (picked["fork"], picked["deleted"]) == ("try-2", ["try-1"])
    assert _forks(clone) == {"try-2"}
    spawn(*shlex.split(picked["next"]["apply"])[1:]).ok()
    assert (clone / "src" / "made").read_text() == "1\n2\n"
    spawn("--vault", "shop", "--fork", "try-1", "undo").ok()
    assert _forks(clone) == {"try-1", "try-2"}


def _try(name: str) -> None:
    spawn("run", "--attempts", "2", "--name", name, "--", "sh", "-c", "echo $AVFS_ATTEMPT > made").ok()


def test_attempts_of_a_name_with_a_slash(clone: Path) -> None:
    """They are found, by their name and as the newest."""
    _try("old")
    _try("feature/x")
    compared = spawn("--vault", "shop", "attempts", "compare", "--name", "feature/x", "--json").ok().result
    assert [attempt["fork"] for attempt in compared["attempts"]] == ["feature/x-1", "feature/x-2"]
    spawn("--vault", "shop", "attempts", "pick", "1").ok()
    assert _forks(clone) == {"old-1", "old-2", "feature/x-1"}


def test_a_fork_that_was_made_anew_is_no_attempt(clone: Path) -> None:
    """Somebody deleted an attempt's fork and has other work under its name: it is not compared, deleted or picked."""
    _try("try")
    spawn("--vault", "shop", "fork", "delete", "try-2").ok()
    spawn("--vault", "shop", "fork", "create", "try-2", "--from", "try-1").ok()
    compared = spawn("--vault", "shop", "attempts", "compare", "--json").ok().result
    assert [attempt["diff"] is None for attempt in compared["attempts"]] == [False, True]
    assert "no fork of attempt 2" in spawn("--vault", "shop", "attempts", "pick", "2").stderr
    picked = spawn("--vault", "shop", "attempts", "pick", "1", "--json").ok()
    assert (picked.result["deleted"], _forks(clone)) == ([], {"try-1", "try-2"})
    assert [warning["code"] for warning in picked.document["warnings"]] == ["attempts.remade"]


def test_a_branch_that_git_made_is_no_attempt(clone: Path) -> None:
    """Nor is a branch of git's under the name of an attempt that was deleted."""
    _try("try")
    spawn("--vault", "shop", "fork", "delete", "try-2").ok()
    with Avfs(clone.parent / "home") as avfs, avfs.open_vault("shop") as vault:
        git("--git-dir", str(vault.path), "branch", "try-2", "try-1", cwd=clone)
    picked = spawn("--vault", "shop", "attempts", "pick", "1", "--json").ok()
    assert (picked.result["deleted"], _forks(clone)) == ([], {"try-1", "try-2"})


@pytest.mark.parametrize("is_logged", [True, False])
def test_a_branch_that_git_deleted_and_made_is_no_attempt(clone: Path, is_logged: bool) -> None:
    """By git's log of the branch, also where it is at the commit of the attempt; without a log by its commit."""
    _try("try")
    with Avfs(clone.parent / "home") as avfs, avfs.open_vault("shop") as vault:
        configured = ("-c", f"core.logAllRefUpdates={str(is_logged).lower()}")
        at = vault.fork_info("try-2" if is_logged else "try-1").head
        git("--git-dir", str(vault.path), "branch", "-D", "try-2", cwd=clone)
        git("--git-dir", str(vault.path), *configured, "branch", "try-2", at or "", cwd=clone)
    picked = spawn("--vault", "shop", "attempts", "pick", "1", "--json").ok()
    assert (picked.result["deleted"], _forks(clone)) == ([], {"try-1", "try-2"})
    assert [warning["code"] for warning in picked.document["warnings"]] == ["attempts.remade"]


def test_attempts_that_stay_mounted_are_named(clone: Path) -> None:
    """Programs were left behind in them: `pick` would refuse to delete them."""
    script = "echo $AVFS_ATTEMPT > made; (trap '' HUP; exec sleep 600) >/dev/null 2>&1 & echo $!"
    ran = spawn("run", "--attempts", "2", "--name", "try", "--json", "--", "sh", "-c", script).ok()
    for attempt in ran.result["attempts"]:
        os.kill(int(Path(attempt["output"]).read_text()), signal.SIGKILL)
    assert [warning["code"] for warning in ran.document["warnings"]] == ["run.still_mounted"] * 2
    assert "then `avfs stop " in ran.document["warnings"][0]["message"]


def test_a_record_that_does_not_tell_which_forks_it_means_is_refused(clone: Path) -> None:
    """No fork is deleted because of its name alone."""
    _try("try")
    place = clone.parent / "home" / "attempts" / "shop" / "try.json"
    record = json.loads(place.read_bytes())
    record["attempts"][1]["made_ns"] = None
    place.write_text(json.dumps(record))
    refused = spawn("--vault", "shop", "attempts", "pick", "1")
    assert (refused.status, "is no record of attempts" in refused.stderr, len(_forks(clone))) == (2, True, 2)


def test_attempts_end_with_their_vault(clone: Path) -> None:
    """A vault of the same name knows nothing of those of the one before."""
    spawn("vault", "create", "work", "--from", str(clone)).ok()
    spawn("--vault", "work", "run", "--attempts", "2", "--name", "try", "--", "sh", "-c", "echo > made").ok()
    spawn("vault", "delete", "work", "--yes").ok()
    assert not (clone.parent / "home" / "attempts" / "work").exists()
    spawn("vault", "create", "work", "--from", str(clone)).ok()
    assert spawn("--vault", "work", "attempts", "compare", "--json").ok().result["attempts"] == []


def test_undo_restores_what_pick_deleted_where_pick_was_typed(clone: Path) -> None:
    """Each `avfs undo` one fork, and the work of the fork at hand stays; the command that is named does the same."""
    spawn("vault", "create", "work", "--from", str(clone)).ok()
    spawn(
        "--vault", "work", "run", "--attempts", "3", "--name", "try", "--", "sh", "-c", "echo $AVFS_ATTEMPT > made"
    ).ok()
    spawn("--vault", "work", "write", "/mine", stdin=b"my own").ok()
    found = spawn("--vault", "work", "attempts", "pick", "1", "--json").ok().result
    spawn("--vault", "work", "undo").ok()
    spawn(*shlex.split(found["next"]["restore"])[1:]).ok()
    with Avfs(clone.parent / "home") as avfs, avfs.open_vault("work") as vault:
        assert {"try-1", "try-2", "try-3"} <= {fork.name for fork in vault.list_forks()}
    assert spawn("--vault", "work", "cat", "/mine").ok().text == "my own"


def test_work_that_cannot_be_saved_at_the_end_is_named(clone: Path) -> None:
    """The error tells the program's status, where the work is, and commands that go on.

    Of several attempts a warning does.
    """
    script = "git update-index --skip-worktree main; echo edited > main; exit 3"
    failed = spawn("run", "--name", "task", "--json", "--", "sh", "-c", script)
    assert failed.status == 125
    assert (failed.document["request"]["fork"], failed.document["error"]["details"]["fork"]) == ("task", "task")
    assert "the program ended with 3" in failed.document["error"]["message"]
    assert "`avfs --vault shop stop task`" in failed.document["error"]["hint"]
    several = spawn("run", "--attempts", "2", "--name", "try", "--json", "--", "sh", "-c", script).document
    assert [one["code"] for one in several["warnings"]].count("run.not_saved") == 2
    assert _forks(clone) == {"task", "try-1", "try-2"}


def test_attempts_are_known_from_when_they_begin(clone: Path) -> None:
    """Those of an `avfs run` that was killed can be compared and picked; older ones are not meant in their place."""
    _try("old")
    command = [sys.executable, "-m", "avfs_git", "run", "--attempts", "2", "--name", "new", "--"]
    script = "echo x > x; echo $$ > ../pid; mv ../pid ../began; exec sleep 60"
    with subprocess.Popen([*command, "sh", "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if b"(attempts new-1" in line:
                break
        trees = [clone.parent / "home" / "mounts" / "shop" / f"new-{number}" for number in (1, 2)]
        end_s = time.monotonic() + 30
        while not all((tree / "began").exists() for tree in trees) and time.monotonic() < end_s:
            time.sleep(0.05)
        process.kill()
    for tree in trees:
        os.kill(int((tree / "began").read_text()), signal.SIGKILL)
    compared = spawn("attempts", "compare", "--json").ok().result
    assert [(attempt["fork"], attempt["exit_code"]) for attempt in compared["attempts"]] == [
        ("new-1", None),
        ("new-2", None),
    ]
    changed = [file["change"]["path"] for file in compared["attempts"][0]["diff"]["files"]]
    assert changed == ["began", "src/x"]  # not what the clone had uncommitted
    assert spawn("attempts", "compare").ok().text.splitlines()[0].split("\t")[:4] == ["1", "new-1", "-", "-"]
    assert spawn("attempts", "pick", "2").status != 0  # the other one is mounted still
    assert _forks(clone) == {"old-1", "old-2", "new-1", "new-2"}


def test_the_attempts_that_began_last_are_meant(clone: Path) -> None:
    """Not those that ended last. Of two runs at the same time neither is meant before one has ended."""
    _try("oldest")
    script = "echo x > x; touch ../began-$AVFS_FORK; until [ -e $0/$AVFS_FORK ]; do sleep 0.05; done"
    ends, trees = clone.parent / "ends", clone.parent / "home" / "mounts" / "shop"
    ends.mkdir()
    command = [sys.executable, "-m", "avfs_git", "run", "--attempts", "2"]
    runs = {}
    try:
        for name in ("first", "second"):
            line = [*command, "--name", name, "--", "sh", "-c", script, str(ends)]
            runs[name] = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for fork in (f"{name}-1", f"{name}-2"):
                wait_for((trees / fork / f"began-{fork}").exists)
        for refused in (spawn("attempts", "compare"), spawn("attempts", "pick", "1")):
            assert (refused.status, "'first' and 'second' are both under way" in refused.stderr) == (2, True)
        assert len(spawn("attempts", "compare", "--name", "first", "--json").ok().result["attempts"]) == 2
    finally:
        for name, run in reversed(runs.items()):
            for fork in (f"{name}-1", f"{name}-2"):
                (ends / fork).touch()
            run.wait()
    compared = spawn("attempts", "compare", "--json").ok().result
    assert [attempt["fork"] for attempt in compared["attempts"]] == ["second-1", "second-2"]


def test_undo_in_the_clone_restores_what_was_deleted_there(clone: Path) -> None:
    """No fork is at hand there: the one that is left keeps its work; redo deletes again, and newer work comes first."""
    spawn("run", "--attempts", "3", "--name", "try", "--", "sh", "-c", "echo $AVFS_ATTEMPT > made").ok()
    picked = spawn("attempts", "pick", "2", "--json").ok().result
    assert picked["next"]["restore"] == "avfs --vault shop undo"
    assert spawn("undo", "--dry-run", "--json").ok().document["request"]["fork"] == "try-3"
    assert spawn("undo", "--json").ok().document["request"]["fork"] == "try-3"
    spawn("redo").ok()
    assert _forks(clone) == {"try-2"}
    spawn("undo").ok()
    spawn("undo").ok()
    assert _forks(clone) == {"try-1", "try-2", "try-3"}
    assert spawn("undo").status == 21
    assert spawn("--fork", "try-2", "cat", "/src/made").ok().text == "2\n"

    spawn("fork", "delete", "try-1").ok()
    spawn("fork", "delete", "try-3").ok()
    spawn("write", "/newer", stdin=b"x").ok()
    assert spawn("undo", "--json").ok().document["request"]["fork"] == "try-2"
    spawn("undo").ok()
    assert _forks(clone) == {"try-2", "try-3"}


def test_two_picks_at_once_keep_one_attempt(clone: Path) -> None:
    """The second one is told that its fork is gone, and deletes nothing."""
    _try("try")
    command = [sys.executable, "-m", "avfs_git", "--vault", "shop", "attempts", "pick"]
    with Avfs(clone.parent / "home") as avfs, avfs.open_vault("shop") as vault:
        with vault._core.forks_locked("try-1", "try-2"):
            first = subprocess.Popen([*command, "2"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            second = subprocess.Popen([*command, "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(1.5)
        codes = {"try-2": first.wait(), "try-1": second.wait()}
    assert sorted(codes.values()) == [0, 2]
    assert _forks(clone) == {fork for fork, code in codes.items() if not code}


@pytest.mark.parametrize("moment", ["the second fork", "output_directory", "write_record"])
def test_attempts_that_are_cut_short_before_they_begin_leave_nothing(
    clone: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """By Ctrl-C while the forks are made, or where the output or the record cannot be written."""
    begin = runs.begin_in_directory

    def begin_one(home: Home, source: Path, **given: Any) -> runs.Run:
        if given["name"] == "try-2":
            raise KeyboardInterrupt
        return begin(home, source, **given)

    def fail(*_: object) -> None:
        raise HostError("write", OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    if moment == "the second fork":
        monkeypatch.setattr(runs, "begin_in_directory", begin_one)
    else:
        monkeypatch.setattr(attempts, moment, fail)
    ran = cli("run", "--attempts", "2", "--name", "try", "--", "sh", "-c", "echo > made")
    assert (ran.status == 125 or moment == "the second fork", _forks(clone)) == (True, set()), ran


def test_attempts_that_cannot_begin_leave_nothing(clone: Path) -> None:
    """A name that is taken; a program that is not there; no record."""
    spawn("run", "--keep", "--name", "try-2", "--", "true").ok()
    taken = spawn("run", "--attempts", "2", "--name", "try", "--", "true")
    assert (taken.status, _forks(clone)) == (125, {"try-2"})
    assert spawn("--vault", "shop", "attempts", "compare", "--json").ok().result["attempts"] == []
    assert "no attempts 'try'" in spawn("--vault", "shop", "attempts", "compare", "--name", "try").stderr
    assert spawn("--vault", "shop", "attempts", "pick", "1").status == 2
    assert spawn("run", "--attempts", "2", "--", "nosuch-program").status == 127
    assert spawn("run", "--attempts", "2", "--discard", "--", "true").status == 125
    assert _forks(clone) == {"try-2"}

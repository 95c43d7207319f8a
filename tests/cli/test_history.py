"""`checkpoint`, `status`, `log`, `diff`, `show`, `checkout`, `revert`, `undo`, `redo`, `op log`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Cli, Transcript

Snapshot = Callable[[str, str], None]


def make_history(avfs: Transcript) -> None:
    """Make two checkpoints and something that is not saved."""
    avfs("checkpoint save first -d 'the start'")
    avfs("write README 'hello again'")
    avfs("mv src/main.py src/start.py")
    avfs("rm src/data.bin")
    avfs("write src/new.py 'print(4)'")
    avfs("checkpoint save second")
    avfs("write notes.txt unsaved")
    avfs("write other.log 'ignored too'")


def test_history_as_people_see_it(avfs: Transcript, work: str, snapshot: Snapshot) -> None:
    """Checkpoints, status, log, diff and show in text."""
    avfs("status")
    make_history(avfs)
    avfs("status")
    avfs("checkpoint list")
    avfs("snapshot list -n 1")
    avfs("checkpoint info second")
    avfs("log")
    avfs("log --name-status -n 1")
    avfs("log README")
    avfs("diff")
    avfs("diff first second")
    avfs("diff first second --name-status")
    avfs("diff first second --stat")
    avfs("diff first -U 0 -- README")
    avfs("checkpoint diff first second -p src")
    avfs("show second --stat")
    avfs("show first --name-status")

    snapshot("history.txt", avfs.text)


def _git_log(hermetic: Path, *options: str) -> bytes:
    git = ["git", f"--git-dir={hermetic}/avfs/vaults/work.git", "log"]
    return subprocess.run([*git, *options], check=True, capture_output=True).stdout


@pytest.mark.parametrize(
    "options",
    [
        ["-p"],
        ["--stat", "-n", "1"],
        ["--graph", "--format=%h %an %s"],
        ["--format=raw"],
        ["-p", "--format=%s", "--", "src", "README"],
        ["--graph", "--stat", "--", "README"],
    ],
)
def test_log_draws_what_git_draws(avfs: Transcript, cli: Cli, work: str, hermetic: Path, options: list[str]) -> None:
    """Patches, figures, the graph, formats and paths are git's own."""
    make_history(avfs)

    assert cli("log", *options).ok().stdout == _git_log(hermetic, *options)


def test_log_of_paths_lists_the_commits_that_changed_them(avfs: Transcript, cli: Cli, work: str) -> None:
    """A path is a name and no pattern, and one that never was is named in the error."""
    make_history(avfs)

    listed = cli("log", "--json", "--", "src/new.py", "nosuch").result["entries"]

    assert [entry["checkpoint"]["labels"] for entry in listed] == [["second"]]
    assert cli("log", "--json", "--", "src/n*").result["entries"] == []
    assert "'/nosuch'" in avfs("log -p nosuch", status=25).stderr
    assert avfs("log -n 1 --format %s --json").result == {"text": "checkpoint second\n"}
    assert "git knows no format 'zzz'" in avfs("log --format zzz", status=2).stderr
    assert "--session" in avfs("log -p --session x", status=2).stderr
    avfs("log -p --stat", status=2)


def test_no_setting_of_a_vault_runs_a_program_for_log(cli: Cli, work: str, hermetic: Path, tmp_path: Path) -> None:
    """A signature is not checked: that program may be anything."""
    ran = tmp_path / "ran"
    tree = _git_log(hermetic, "-1", "--format=%T").strip().decode()
    who = "a <a@b> 1 +0000"
    signature = "-----BEGIN PGP SIGNATURE-----\n x\n -----END PGP SIGNATURE-----"
    signed = f"tree {tree}\nauthor {who}\ncommitter {who}\ngpgsig {signature}\n\nm\n"
    git = ["git", f"--git-dir={hermetic}/avfs/vaults/work.git"]
    made = subprocess.run(
        [*git, "hash-object", "-t", "commit", "-w", "--stdin"], input=signed.encode(), check=True, capture_output=True
    )
    subprocess.run([*git, "update-ref", "refs/heads/signed", made.stdout.decode().strip()], check=True)
    script = tmp_path / "bin" / "gpg"
    script.parent.mkdir()
    script.write_text(f"#!/bin/sh\ntouch {ran}\n")
    script.chmod(0o755)

    bare = cli("log", "--fork", "signed", "--format", "%G? %s", env={"PATH": f"{script.parent}:{os.environ['PATH']}"})
    subprocess.run([*git, "config", "gpg.program", str(script)], check=True)
    configured = cli("log", "--fork", "signed", "--format", "%G? %s")

    assert bare.ok().text.split()[1:] == ["m"]
    assert configured.status == 0 or "gpg.program" in configured.stderr
    assert not ran.exists()


def test_history_documents(avfs: Transcript, work: str, snapshot: Snapshot) -> None:
    """The same for programs."""
    avfs("checkpoint save first -d 'the start' --json")
    avfs("checkpoint save again --json")
    avfs("write README 'hello again'")
    avfs("write x.log ignored")
    avfs("status --json")
    avfs("diff --json")
    avfs("diff --stat --json")
    avfs("checkpoint save --json")
    avfs("checkpoint list --json")
    avfs("checkpoint info first --json")
    avfs("log -n 1 --name-status --json")
    avfs("log README --json")
    avfs("show HEAD --json")
    avfs("op log --json")
    avfs("checkpoint info nosuch --json", status=31)
    avfs("diff nosuch --json", status=31)

    snapshot("history.json.txt", avfs.text)


def test_going_back_as_people_see_it(avfs: Transcript, work: str, snapshot: Snapshot) -> None:
    """Restore, checkout, revert, undo and redo in text."""
    make_history(avfs)
    avfs("checkpoint restore first --dry-run")
    avfs("checkpoint restore first README")
    avfs("undo")
    avfs("redo")
    avfs("checkpoint restore first")
    avfs("checkpoint restore first")
    avfs("undo")
    avfs("checkpoint restore first --into back")
    avfs("checkpoint save third")
    avfs("checkout README --version 1")
    avfs("checkout README --at second")
    avfs("checkout README --version 99", status=26)
    avfs("checkpoint save fourth")
    avfs("revert README")
    avfs("cat README")
    avfs("checkpoint delete third")
    avfs("checkpoint list")
    avfs("op log -n 3")
    avfs("checkpoint restore first --into x README", status=2)
    avfs("checkpoint restore nosuch", status=31)

    snapshot("restore.txt", avfs.text)


def test_going_back_documents(avfs: Transcript, work: str, snapshot: Snapshot) -> None:
    """The same for programs."""
    make_history(avfs)
    avfs("checkpoint restore first --dry-run --json")
    avfs("checkpoint restore first --json")
    avfs("undo --json")
    avfs("redo --json")
    avfs("checkout README --at second --json")
    avfs("revert README --json")
    avfs("checkpoint delete second --json")

    snapshot("restore.json.txt", avfs.text)


def test_log_of_a_fork_is_asked_for_otherwise(cli: Cli, work: str) -> None:
    """Who names a fork where a path stands hears how."""
    cli("fork", "create", "task").ok()

    assert (
        "hint: The history of that fork is shown by `avfs --vault work log --fork task`."
        in cli(*("--vault", "work", "log", "task")).stderr
    )
    assert "of that fork" not in cli("log", "nosuch").stderr


def test_undo_without_operations_says_so(cli: Cli) -> None:
    """In a new vault there is nothing to take back."""
    cli("vault", "create", "new").ok()

    assert cli("undo").status == 36
    assert cli("redo").status == 36


def test_unchanged_checkpoint_makes_no_commit(cli: Cli, work: str) -> None:
    """A second checkpoint of the same state is the first one."""
    first = cli("checkpoint", "save", "--json").result
    second = cli("checkpoint", "save", "--json").result

    assert second["outcome"] == "unchanged"
    assert second["checkpoint"]["id"] == first["checkpoint"]["id"]


@pytest.mark.needs("git")
def test_diff_is_the_patch_that_git_makes(cli: Cli, work: str, hermetic: Path) -> None:
    """The text of `diff` is git's, byte for byte."""
    cli("checkpoint", "save", "a").ok()
    cli("write", "src/main.py", "print(1)\nprint(5)\nprint(3)\n").ok()
    cli("write", "ä\tb", "odd name").ok()
    cli("rm", "link").ok()
    cli("checkpoint", "save", "b").ok()
    names = [cli("checkpoint", "info", label, "--json").result["checkpoint"]["id"] for label in ("a", "b")]
    repository = hermetic / "avfs/vaults/work.git"
    git = ["git", "-C", str(repository), "diff", "--no-ext-diff", "-M", *names]

    ours = cli("diff", "a", "b").stdout

    assert ours == subprocess.run([*git, "--full-index"], check=True, capture_output=True).stdout or (
        ours == subprocess.run(git, check=True, capture_output=True).stdout
    )


def test_paths_of_diff_may_stand_in_three_places(cli: Cli, work: str) -> None:
    """Behind `--`, with a leading slash, or after `--path`."""
    cli("checkpoint", "save", "a").ok()
    cli("write", "README", "x").ok()
    cli("write", "run.sh", "y").ok()

    for arguments in (["--", "README"], ["/README"], ["-p", "README"], ["a", "--", "README"]):
        assert cli("diff", "--name-status", *arguments).text == "M\tREADME\n"


def test_a_description_is_kept_where_nothing_changed(cli: Cli, work: str) -> None:
    """A commit without changes records it, once; undo takes it back."""
    cli("exec", "--", "sh", "-c", "echo 1 > made").ok()
    first = cli("checkpoint", "save", "-m", "Add what was made", "--json").ok().result
    assert (first["outcome"], first["checkpoint"]["message"]) == ("created", "Add what was made")
    again = cli("checkpoint", "save", "done", "-m", "Add what was made", "--json").ok().result
    assert (again["outcome"], again["checkpoint"]["id"]) == ("unchanged", first["checkpoint"]["id"])
    assert cli("checkpoint", "save", "--json").ok().result["outcome"] == "unchanged"
    other = cli("checkpoint", "save", "told", "-m", "Other words", "--json").ok().result

    assert cli("checkpoint", "info", "told", "--json").result["checkpoint"]["message"] == "Other words"
    messages = [entry["checkpoint"]["message"] for entry in cli("log", "--json").result["entries"]]
    assert messages[:2] == ["Other words", "Add what was made"]
    assert other["checkpoint"]["parents"] == [first["checkpoint"]["id"]]
    cli("undo").ok()
    assert cli("log", "-n", "1", "--json").result["entries"][0]["checkpoint"]["id"] == first["checkpoint"]["id"]
    assert cli("cat", "made").text == "1\n"


def test_bookkeeping_can_be_left_out(cli: Cli, work: str, hermetic: Path) -> None:
    """What avfs saves before an operation is told by a trailer: for `log`, for squashed messages, and for plain git."""
    cli("checkpoint", "save", "first").ok()
    cli("fork", "create", "other").ok()
    cli("write", "a", "1", "--fork", "other").ok()
    cli("checkpoint", "save", "-m", "theirs", "--fork", "other").ok()
    cli("write", "b", "1").ok()
    cli("merge", "other").ok()
    cli("write", "c", "1").ok()
    cli("exec", "--", "sh", "-c", "echo 2 > c").ok()
    cli("write", "c", "3").ok()
    cli("fork", "create", "third").ok()

    def subjects(*options: str) -> list[str]:
        return [
            entry["checkpoint"]["message"].splitlines()[0]
            for entry in cli("log", *options, "--json").ok().result["entries"]
        ]

    every, chosen = subjects(), subjects("--no-bookkeeping")
    assert [name for name in every if name not in chosen] == [
        "save before a fork",
        "before: sh",
        "save before merge of other",
    ]
    assert subjects("--no-bookkeeping", "-n", "2") == chosen[:2]
    git = ["git", "-C", str(hermetic / "avfs/vaults/work.git"), "log", "--format=%s", "main"]
    plain = [*git, "--invert-grep", "--grep=^Avfs-Bookkeeping: "]
    assert cli("log", "--format=%s", "--no-bookkeeping").ok().text.splitlines() == chosen
    assert sorted(subprocess.run(plain, check=True, capture_output=True, text=True).stdout.splitlines()) == sorted(
        chosen
    )
    key = ["--format=%(trailers:key=Avfs-Bookkeeping,valueonly)", "-n", "1"]
    assert subprocess.run([*git, *key], check=True, capture_output=True, text=True).stdout.strip() == "yes"

    cli("squash", "HEAD~3..HEAD").ok()
    assert "Avfs-Bookkeeping" not in cli("log", "-n", "1", "--json").result["entries"][0]["checkpoint"]["message"]
    assert cli("log", "c", "--no-bookkeeping").status == 2


def test_git_is_asked_for_the_author_only_when_a_commit_is_made(cli: Cli, work: str, tmp_path: Path) -> None:
    """Looking starts no git; a checkpoint carries the author of git's configuration."""
    asked = tmp_path / "bin/git"
    asked.parent.mkdir()
    asked.write_text(f'#!/bin/sh\necho >> "{tmp_path}/asked"\nexec {shutil.which("git")} "$@"\n')
    asked.chmod(0o755)
    (tmp_path / "config").write_text("[user]\n\tname = Grace\n\temail = grace@example.org\n")
    env = {
        "GIT_AUTHOR_NAME": "",
        "GIT_CONFIG_GLOBAL": str(tmp_path / "config"),
        "GIT_AUTHOR_EMAIL": "",
        "PATH": f"{asked.parent}:{os.environ['PATH']}",
    }

    for looking in (["status"], ["log"], ["cat", "README"]):
        cli(*looking, env=env).ok()
    assert not (tmp_path / "asked").exists()

    cli("write", "a", "1", env=env).ok()
    saved = cli("checkpoint", "save", "--json", env=env).result
    assert saved["checkpoint"]["author"] == {"name": "Grace", "email": "grace@example.org"}


def test_identity_comes_from_the_environment(cli: Cli, work: str) -> None:
    """AVFS_AUTHOR_* says who makes a checkpoint."""
    cli("write", "a", "1").ok()
    saved = cli(
        "checkpoint", "save", "--json", env={"AVFS_AUTHOR_NAME": "Agent 7", "AVFS_AUTHOR_EMAIL": "7@example.org"}
    ).result

    assert saved["checkpoint"]["author"] == {"name": "Agent 7", "email": "7@example.org"}


def test_an_operation_by_its_number(cli: Cli, work: str) -> None:
    """`op log --stat`, `op show`, `op restore` and `undo --dry-run` name the same operation."""
    cli("checkpoint", "save").ok()
    cli("write", "notes", stdin=b"one\ntwo\n").ok()
    planned = cli("undo", "--dry-run").ok().text
    assert planned.startswith("Would undo in main: write 'notes'")
    assert "D\tnotes" in planned
    row = cli("op", "log", "-n", "1", "--stat").ok().text.split("\t")
    assert row[3:6] == ["files", "", "1 file, +2 -0"]
    assert "A\tnotes\n notes | 2 ++\n" in cli("op", "show", row[0]).ok().text
    assert "+two\n" in cli("op", "show", row[0], "-p").ok().text
    cli("rm", "notes").ok()
    cli("op", "restore", row[0]).ok()
    assert cli("cat", "notes").ok().text == "one\ntwo\n"
    assert cli("op", "show", "9999").status == 39


@pytest.mark.parametrize("verb", ["restore", "undo"])
def test_an_operation_on_another_fork_is_refused(cli: Cli, work: str, verb: str) -> None:
    """Who names a fork means that fork; without one the operation says which, and the answer names it."""
    cli("fork", "create", "other").ok()
    for text in (b"one\n", b"two\n"):
        cli("--fork", "other", "write", "notes", stdin=text).ok()
        cli("--fork", "other", "checkpoint", "save").ok()
    number = next(
        row.split("\t")[0] for row in cli("--fork", "other", "op", "log").ok().text.splitlines() if "write" in row
    )

    refused = cli("--fork", "main", "op", verb, number)

    assert refused.status == 39
    assert "is on fork 'other', not on 'main'" in refused.stderr
    assert cli("--fork", "other", "cat", "notes").ok().text == "two\n"
    assert "fork other" in cli("op", verb, number).ok().stderr


def test_one_operation_is_undone(avfs: Transcript, work: str, cli: Cli, snapshot: Snapshot) -> None:
    """`op undo` keeps what came after it; where that changed the same, it names the paths."""
    cli("write", "notes", stdin=b"one\n").ok()
    cli("write", "later", stdin=b"later\n").ok()
    cli("write", "x.log", stdin=b"log\n").ok()
    avfs("op log")
    number = next(row.split("\t")[0] for row in cli("op", "log").ok().text.splitlines() if "'notes'" in row)
    avfs(f"op undo {number} --dry-run")
    avfs(f"op undo {number}")
    assert cli("cat", "later").ok().text == "later\n"
    assert cli("cat", "notes").status == 25
    avfs(f"op undo {number}")
    avfs("undo")
    cli("write", "notes", stdin=b"two\n").ok()
    avfs(f"op undo {number}", status=37)
    snapshot("op-undo.txt", avfs.text)


def test_three_dots_are_what_one_side_changed_since_they_parted(cli: Cli, work: str) -> None:
    """`A...B` is their merge base, so what A has got since then is not in it; without a common commit there is none."""
    cli("write", "a.txt", stdin=b"one\n").ok()
    cli("checkpoint", "save", "parted").ok()
    cli("fork", "create", "side").ok()
    cli("--fork", "side", "write", "b.txt", stdin=b"two\n").ok()
    cli("--fork", "side", "checkpoint", "save").ok()
    cli("write", "a.txt", stdin=b"three\n").ok()
    cli("checkpoint", "save").ok()
    assert cli("diff", "HEAD..side", "--name-status").ok().text == "M\ta.txt\nA\tb.txt\n"
    assert cli("diff", "HEAD...side", "--name-status").ok().text == "A\tb.txt\n"
    assert cli("diff", "...side", "--stat").ok().text == cli("diff", "parted", "side", "--stat").ok().text
    assert cli("diff", "side...", "--name-status").ok().text == "M\ta.txt\n"
    assert cli("diff", "side...nowhere").status != 0


def test_diff_takes_a_range_and_tells_paths_from_states(cli: Cli, work: str) -> None:
    """`A..B` is `A B`; a name that is no state and is a file is a path; a label of the same name is the state."""
    cli("write", "a.txt", stdin=b"one\n").ok()
    cli("write", "b.txt", stdin=b"one\n").ok()
    cli("checkpoint", "save", "v1").ok()
    cli("write", "a.txt", stdin=b"two\n").ok()
    cli("write", "b.txt", stdin=b"two\n").ok()
    cli("checkpoint", "save", "v2").ok()
    assert cli("diff", "v1..v2").ok().text == cli("diff", "v1", "v2").ok().text != ""
    assert cli("diff", "v1..").ok().text == cli("diff", "v1", "HEAD").ok().text
    assert cli("diff", "v1..v2", "--name-status", "--", "a.txt").ok().text == "M\ta.txt\n"
    assert cli("diff", "v1", "v2", "a.txt", "--name-status").ok().text == "M\ta.txt\n"
    cli("write", "a.txt", stdin=b"three\n").ok()
    cli("write", "b.txt", stdin=b"three\n").ok()
    assert cli("diff", "a.txt", "--name-status").ok().text == "M\ta.txt\n"
    assert cli("diff", "v1", "a.txt", "b.txt", "--name-status").ok().text == "M\ta.txt\nM\tb.txt\n"
    cli("checkpoint", "save", "a.txt").ok()
    assert cli("diff", "a.txt", "--name-status").ok().text == ""
    for wrong in (["nowhere"], ["v1", "v2", "nowhere"], ["v1..nowhere"], ["nowhere", "a.txt"]):
        assert cli("diff", *wrong).status != 0


def test_a_plan_of_undo_is_what_undo_does(cli: Cli, work: str) -> None:
    """A rename is a removal and an addition in both, and what undo refuses in the middle of a merge is not foretold."""
    cli("mv", "README", "READ").ok()
    plan, done = (cli("--json", "undo", *option).result for option in (["-n"], []))
    assert plan["changed_files"] == done["changed_files"]
    assert [(change["path"], change["kind"]) for change in plan["changed_files"]] == [
        ("READ", "deleted"),
        ("README", "added"),
    ]

    cli("fork", "create", "task").ok()
    for fork in ("task", "main"):
        cli("--fork", fork, "write", "README", fork).ok()
        cli("--fork", fork, "checkpoint", "save").ok()
    assert cli("merge", "task", "--on-conflict", "workspace").status == 1
    assert [cli("undo", *option).status for option in (["-n"], [])] == [43, 43]
    cli("write", "other", "1").ok()
    assert "write 'other'" in cli("undo", "-n").ok().text


def test_a_directory_beside_history_is_listed_with_a_slash(cli: Cli, work: str) -> None:
    """It stands for all that came back below it."""
    cli("write", "src/x.log", "1").ok()
    cli("checkpoint", "save").ok()
    cli("rm", "-r", "src").ok()
    assert cli("undo").ok().text.splitlines()[-2:-1] == ["  A\tsrc/"]
    assert cli("cat", "src/x.log").text == "1"


@pytest.mark.needs("git")
def test_a_plan_of_undo_waits_for_no_command(cli: Cli, work: str) -> None:
    """It tells what the log has, and which command is under way."""
    cli("write", "notes", "1").ok()
    typed = [sys.executable, "-m", "avfs_git", "exec", "--", "sh", "-c", "echo 2 > more; echo on; sleep 60"]
    with subprocess.Popen(typed, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"on\n"
        plan = cli("undo", "-n").ok()
        running.terminate()
    assert "is in use by 'sh'" in plan.stderr
    assert "more" not in plan.text

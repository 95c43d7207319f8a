"""`merge`, `resolve`, `overlap`, `rebase`, `cherry-pick`, `squash`."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Cli, Transcript
from tests.support.faults import git

Snapshot = Callable[[str, str], None]

pytestmark = pytest.mark.needs("git")


def make_forks(avfs: Transcript) -> None:
    """Make three forks of one state, two of which change the same line."""
    avfs("checkpoint save start")
    for name in ("login", "docs", "rival"):
        avfs(f"fork create {name}")
    avfs("--fork login write src/main.py 'print(10)\nprint(2)\nprint(3)\n'")
    avfs("--fork login checkpoint save try")
    avfs("--fork docs write README 'hello there'")
    avfs("--fork docs write notes.log ignored")
    avfs("--fork rival write src/main.py 'print(11)\nprint(2)\nprint(3)\n'")
    avfs("--fork rival checkpoint save")


def test_merging_as_people_see_it(avfs: Transcript, work: str, snapshot: Snapshot) -> None:
    """A merge that moves on, one that joins, one in conflict that is resolved, and one that is given up."""
    make_forks(avfs)
    avfs("overlap")
    avfs("overlap login docs")
    avfs("merge login --dry-run")
    avfs("merge login")
    avfs("merge docs -m 'bring the docs'")
    avfs("merge docs")
    avfs("merge rival --dry-run", status=1)
    avfs("merge rival", status=1)
    avfs("merge rival --on-conflict workspace", status=1)
    avfs("status")
    avfs("checkpoint save", status=43)
    avfs("merge --continue", status=45)
    avfs("merge --abort")
    avfs("merge rival --on-conflict workspace", status=1)
    avfs("resolve src/main.py --union")
    avfs("merge --continue")
    avfs("cat src/main.py")
    avfs("undo")
    avfs("merge --many rival login docs --into main", status=1)
    avfs("merge --continue", status=44)

    snapshot("merging.txt", avfs.text)


def test_merging_documents(avfs: Transcript, work: str, snapshot: Snapshot) -> None:
    """The same for programs."""
    make_forks(avfs)
    avfs("overlap --json")
    avfs("merge login --dry-run --json")
    avfs("merge login --json")
    avfs("merge rival --json", status=1)
    avfs("merge rival --ff-only --json", status=41)
    avfs("merge nosuch --json", status=31)
    avfs("merge rival --on-conflict workspace --json", status=1)
    avfs("status --json")
    avfs("resolve README --ours --json", status=26)
    avfs("resolve src/main.py --theirs --json")
    avfs("merge --continue --json")
    avfs("merge --many docs rival --dry-run --json")

    snapshot("merging.json.txt", avfs.text)


def test_rewriting_as_people_see_it(avfs: Transcript, work: str, snapshot: Snapshot) -> None:
    """Picking, rebasing and squashing, taken back."""
    make_forks(avfs)
    avfs("cherry-pick login@try")
    avfs("rebase docs --onto main")
    avfs("rebase docs --onto main")
    avfs("rebase rival --onto main", status=46)
    avfs("--fork docs write README 'hello again'")
    avfs("--fork docs checkpoint save again")
    avfs("--fork docs squash main.. -m 'all of the docs'")
    avfs("--fork docs log")
    avfs("--fork docs undo")
    avfs("--fork docs log -n 2 --json")
    avfs("cherry-pick login@try --json")
    avfs("squash HEAD --json", status=2)

    snapshot("rewriting.txt", avfs.text)


def test_rewriting_with_conflicts_in_the_workspace(avfs: Transcript, work: str, snapshot: Snapshot) -> None:
    """A rebase and a cherry-pick that stop, one that goes on, one that is given up and one that is left out."""
    make_forks(avfs)
    avfs("merge login")
    avfs("rebase rival --onto main", status=46)
    avfs("rebase rival --onto main --on-conflict workspace", status=1)
    avfs("--fork rival status")
    avfs("--fork rival checkpoint save", status=43)
    avfs("--fork rival merge --continue", status=43)
    avfs("--fork rival rebase --continue", status=45)
    avfs("--fork rival resolve src/main.py --union")
    avfs("rebase rival --continue")
    avfs("--fork rival undo")
    avfs("rebase rival --onto main --on-conflict workspace", status=1)
    avfs("rebase rival --skip")
    avfs("--fork rival undo")
    avfs("cherry-pick rival --on-conflict workspace", status=1)
    avfs("cherry-pick --abort")
    avfs("cherry-pick --continue", status=44)
    avfs("cherry-pick rival --on-conflict workspace --json", status=1)
    avfs("resolve src/main.py --theirs --json")
    avfs("cherry-pick --continue --json")
    avfs("status --json")
    avfs("merge --many docs rival --on-conflict workspace")

    snapshot("rewriting_conflicts.txt", avfs.text)


@pytest.mark.parametrize("begun", ["merge rival", "rebase --onto rival", "cherry-pick rival"])
def test_only_the_command_that_stopped_goes_on(cli: Cli, work: str, begun: str) -> None:
    """Another one would answer of something that did not happen; the hint names the right one."""
    cli("fork", "create", "rival").ok()
    for fork in ("main", "rival"):
        cli("--fork", fork, "write", "src/main.py", fork).ok()
        cli("--fork", fork, "checkpoint", "save").ok()
    assert cli(*begun.split(), "--on-conflict", "workspace").status == 1
    verb = begun.split(maxsplit=1)[0]
    cli("resolve", "src/main.py", "--theirs").ok()
    for other in {"merge", "rebase", "cherry-pick"} - {verb}:
        for option in ("--continue", "--abort", "--skip")[: 2 if other == "merge" else 3]:
            refused = cli(other, option, "--json")
            assert refused.status == 43, (other, option)
            assert f"`avfs {verb} --continue`" in refused.document["error"]["hint"]
    cli(verb, "--continue").ok()


def test_what_merge_refuses(cli: Cli, work: str) -> None:
    """Arguments that mean nothing together."""
    for line in (
        "merge",
        "merge a b",
        "merge --continue a",
        "merge --continue --abort",
        "rebase",
        "rebase --continue --onto a",
        "rebase --continue --abort",
        "rebase --skip --abort",
        "cherry-pick",
        "cherry-pick --abort a",
    ):
        assert cli(*line.split()).status == 2, line
    assert cli("resolve", "x", "--ours", "--from", "y").status == 2
    assert cli("resolve", "README").status == 44


def test_a_conflict_is_resolved_from_standard_input(avfs: Transcript, work: str) -> None:
    """`--from -` takes the content of a path as it comes."""
    make_forks(avfs)
    avfs("merge login")
    avfs("merge rival --on-conflict workspace", status=1)
    avfs("resolve src/main.py --from -", stdin=b"print('both')\n")
    avfs("merge --continue")

    assert avfs("cat src/main.py").stdout == b"print('both')\n"


@pytest.mark.parametrize("command", ["merge --many tracks", "update"])
def test_a_replaced_ignored_file_is_told_of(avfs: Transcript, work: str, command: str) -> None:
    """Text and JSON have the warnings of each merge of a list."""
    avfs("fork create tracks")
    avfs("fork create task --from tracks")
    avfs("--fork tracks write build.log theirs")
    avfs("--fork tracks add --force build.log")
    avfs("--fork tracks checkpoint save")
    avfs("--fork task write build.log mine")
    ran = avfs(f"--fork task {command}")
    assert "warning: 'build.log' was ignored here" in ran.stderr
    avfs("--fork task undo")
    document = json.loads(avfs(f"--fork task {command} --json").text)
    assert [(told["code"], told["path"]) for told in document["warnings"]] == [("merge.replaced_ignored", "build.log")]


def test_what_is_ignored_in_a_replaced_directory_is_told_of(avfs: Transcript, work: str) -> None:
    """Each file of a directory that history knows, and a directory that it does not know as a whole."""
    avfs("write dir/known 1")
    avfs("checkpoint save")
    avfs("fork create task")
    avfs("--fork task rm -r dir")
    avfs("--fork task write dir file")
    avfs("--fork task checkpoint save")
    for path in ("dir/build.log", "dir/logs/build.log", "dir/logs/too/build.log"):
        avfs(f"write {path} mine")
    avfs("checkpoint save")

    document = json.loads(avfs("merge task --json").text)

    assert [(told["code"], told["path"]) for told in document["warnings"]] == [
        ("merge.replaced_ignored", "dir/build.log"),
        ("merge.replaced_ignored", "dir/logs"),
    ]
    assert "file is in place of its directory" in document["warnings"][0]["message"]
    avfs("undo")
    assert avfs("cat dir/logs/build.log").stdout == b"mine"


def test_the_hint_at_a_merge_in_another_fork_names_it(cli: Cli, work: str) -> None:
    """Of a source that is in the middle of a merge, where the command is about another fork."""
    for name in ("ours", "theirs"):
        cli("fork", "create", name).ok()
        cli("--fork", name, "write", "src/main.py", name).ok()
    cli("merge", "theirs", "--into", "ours", "--on-conflict", "workspace")
    for words in (("fork", "create", "new", "--from", "ours"), ("merge", "ours")):
        hint = cli(*words, "--json").document["error"]["hint"]
        assert "`avfs --fork ours merge --continue`" in hint
        assert "`avfs --fork ours merge --abort`" in hint


def test_a_dry_run_claims_no_more_than_it_looked_at(cli: Cli, work: str) -> None:
    """The source's uncommitted changes, which a merge brings, are not in it."""
    cli("fork", "create", "unsaved").ok()
    cli("--fork", "unsaved", "write", "new.txt", stdin=b"new\n").ok()

    told = cli("merge", "unsaved", "--dry-run").ok()

    assert told.text.startswith("main has all that unsaved has committed already\n")
    assert "'unsaved' has changes that are not committed" in told.stderr


def test_the_hint_of_an_update_in_conflict_works_as_typed(cli: Cli, work: str) -> None:
    """Off a terminal, too. The source of a merge is on the branch already where a push put it there."""
    cli("fork", "create", "task").ok()
    git_dir = Path(os.environ["AVFS_HOME"], "vaults", f"{work}.git")
    cli("--fork", "task", "write", "src/main.py", "ours").ok()
    cli("--fork", "task", "checkpoint", "save").ok()
    ours = git(git_dir, "rev-parse", "task").strip()
    cli("write", "src/main.py", "theirs").ok()
    cli("checkpoint", "save").ok()
    pushed = git(git_dir, "commit-tree", "main^{tree}", "-p", ours, "-m", "pushed").strip()
    git(git_dir, "update-ref", "refs/heads/task", pushed)
    cli("--fork", "task", "write", "src/main.py", "not saved").ok()

    told = cli("update", "task")
    assert told.status == 1
    (command,) = [words for words in told.stderr.split("`") if words.startswith("avfs ")]
    assert command == "avfs update task --on-conflict workspace"
    told = cli(*command.split()[1:])
    assert (told.status, "stopped in the files" in told.text) == (1, True)
    assert "`avfs --fork task merge --continue`" in told.stderr


def test_the_hint_of_a_merge_in_conflict_repeats_how_it_was_asked_for(cli: Cli, work: str) -> None:
    """Typed, it makes the commit that the command makes where nothing conflicts."""
    cli("fork", "create", "task").ok()
    cli("--fork", "task", "write", "README", "task").ok()
    cli("rm", "README").ok()

    for how in (["--strategy", "union", "-m", ""], ["--no-ff"], ["--squash", "-m", "it's done"]):
        told = cli("merge", "task", *how)
        (command,) = [words for words in told.stderr.split("`") if words.startswith("avfs merge")]
        assert shlex.split(command) == ["avfs", "merge", "task", *how, "--on-conflict", "workspace"]
    assert cli(*shlex.split(command)[1:]).status == 1
    cli("resolve", "README", "--theirs").ok()
    cli("merge", "--continue").ok()

    git_dir = Path(os.environ["AVFS_HOME"], "vaults", f"{work}.git")
    assert git(git_dir, "log", "-1", "--format=%s", "main").strip() == "it's done"
    assert len(git(git_dir, "log", "-1", "--format=%p", "main").split()) == 1

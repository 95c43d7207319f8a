"""`avfs vault` and `avfs fork`."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Cli, Transcript
from tests.support.servers import make_bare

NO_AUTHOR = {f"GIT_{who}_{what}": "" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
Snapshot = Callable[[str, str], None]


def test_vaults_are_made_listed_chosen_and_deleted(avfs: Transcript, project: Path, snapshot: Snapshot) -> None:
    """The life of vaults, as people see it."""
    avfs("vault list")
    avfs("vault create one")
    avfs("vault create two --from $TMP/project")
    avfs("vault list")
    avfs("vault use two")
    avfs("vault info")
    avfs("vault info one")
    avfs("vault create three --use --branch trunk")
    avfs("vault info")
    avfs("vault delete one --yes")
    avfs("vault rename three two", status=12)
    avfs("vault rename three four")
    avfs("vault list")

    snapshot("vault.txt", avfs.text)


def test_vault_documents(avfs: Transcript, project: Path, snapshot: Snapshot) -> None:
    """The same for programs."""
    avfs("vault create one --from $TMP/project --json")
    avfs("vault list --json")
    avfs("vault use one --json")
    avfs("vault info --json")
    avfs("vault config commit.name --json", status=2)
    avfs("vault delete one --json", status=2)
    avfs("vault delete one -y --json")
    avfs("vault info one --json", status=11)
    avfs("status --json", status=11)

    snapshot("vault.json.txt", avfs.text)


def test_vault_size_is_counted_on_request(cli: Cli, work: str) -> None:
    """`--sizes` counts bytes; without it nothing is counted."""
    assert cli("vault", "info", "--json").result["size_bytes"] is None
    assert cli("vault", "info", "--sizes", "--json").result["size_bytes"] > 100


@pytest.mark.parametrize("name", ["", ".", "..", "-x", "a/b", "a b", "x" * 65, "x.git", "$(id)", "a\nb", "a\udcff"])
def test_bad_vault_names_are_refused(cli: Cli, hermetic: Path, name: str) -> None:
    """A name that could lead somewhere else, or looks like an option, makes nothing."""
    ran = cli("vault", "create", "--json", "--", name)

    assert ran.status == 2
    assert not list((hermetic / "avfs").glob("vaults/*"))


@pytest.mark.parametrize("typed", ["delete {} -y", "use {}", "rename {} new", "fork {} task --use"])
def test_a_vault_of_the_home_is_named_and_not_its_path(cli: Cli, hermetic: Path, work: str, typed: str) -> None:
    """A path that is there is not said to be missing, and does not become the current vault."""
    path = hermetic / "avfs" / "vaults" / f"{work}.git"

    refused = cli("vault", *typed.format(path).split())

    assert refused.status == 2
    assert f"'{path}' is not a usable vault name: it is a path" in refused.stderr
    assert "by its name: see them with `avfs vault list`" in refused.stderr
    assert [fork["name"] for fork in cli("fork", "list", "--json").ok().result["forks"]] == ["main"]


def test_a_home_that_cannot_be_made_says_what_to_set(cli: Cli, hermetic: Path) -> None:
    """No user may make a directory in sysfs."""
    refused = cli("vault", "create", "x", env={"AVFS_HOME": "/sys/avfs"})

    assert refused.status == 1
    assert "AVFS_HOME" in refused.stderr


def test_deleting_without_a_terminal_needs_yes(cli: Cli, work: str) -> None:
    """Nobody can be asked, so nothing is deleted, in text and in JSON."""
    ran = cli("vault", "delete", "work")

    assert (ran.status, ran.stderr) == (
        2,
        "error: cannot delete vault 'work' without confirmation\nhint: Say it with `--yes`.\n",
    )
    assert cli("vault", "delete", "work", "--json").document["error"]["code"] == "input.confirmation_needed"
    assert [vault["name"] for vault in cli("vault", "list", "--json").result["vaults"]] == ["work"]


def test_settings_are_shown_changed_and_taken_back(cli: Cli, work: str) -> None:
    """Without arguments all settings, with a key one, with a value it changes."""
    settings = cli("vault", "config", "--json").result["config"]
    key = min(settings)

    assert cli("vault", "config", key).text == f"{key}={settings[key]}\n"
    assert cli("vault", "config", "no.such.key").status == 2


def test_forks_are_made_listed_and_deleted(avfs: Transcript, work: str, snapshot: Snapshot) -> None:
    """The life of forks, as people see it."""
    avfs("checkpoint save first")
    avfs("fork list")
    avfs("fork create a")
    avfs("fork create b/c --from a --ephemeral")
    avfs("fork create old --at first --committed")
    avfs("vault fork work d")
    avfs("fork list")
    avfs("fork info b/c")
    avfs("fork info")
    avfs("fork delete a")
    avfs("fork list")
    avfs("undo")
    avfs("fork info a")
    avfs("fork create a", status=22)
    avfs("fork info nosuch", status=21)
    avfs("--fork nosuch status", status=21)

    snapshot("fork.txt", avfs.text)


def test_fork_documents(avfs: Transcript, work: str, snapshot: Snapshot) -> None:
    """The same for programs."""
    avfs("fork create a --json")
    avfs("vault fork work@a b --json")
    avfs("fork list --json")
    avfs("fork info a --json")
    avfs("fork delete a --json")
    avfs("fork create ../x --json", status=2)

    snapshot("fork.json.txt", avfs.text)


def test_a_fork_has_limits_of_its_own(cli: Cli, work: str) -> None:
    """They are given when it is made or later, and shown with what it holds."""
    cli("fork", "create", "small", "--quota-bytes", "1k", "--quota-files", "3").ok()
    assert cli("--fork", "small", "write", "a", "x" * 1025).status == 28
    assert cli("fork", "config", "small", "quota.fork_bytes", "2k").text == "quota.fork_bytes=2048\n"
    cli("--fork", "small", "write", "a", "x" * 1025).ok()
    usage = cli("fork", "info", "small", "--json").result["usage"]
    assert (usage["size_bytes"], usage["max_bytes"], usage["max_files"]) == (1025, 2048, 3)
    assert cli("fork", "config", "small", "quota.fork_bytes", "--unset").text == "quota.fork_bytes=0\n"
    assert cli("fork", "config", "main", "--json").result["config"]["quota.fork_files"] == "0"
    cli("vault", "config", "quota.vault_bytes", "1G").ok()
    for command in (("vault", "info"), ("stats",)):
        assert re.search(r"quota\t\d+ of 1073741824\n", cli(*command).text), command
    assert cli("fork", "config", "small", "gc.keep_days", "1").status == 2
    assert cli("fork", "config", "nosuch").status == 21


def test_an_agents_fork_has_an_author_of_its_own(cli: Cli, work: str) -> None:
    """Commits by avfs and git in the fork carry it, also after the fork's deletion and return; its parent's do not."""

    def authors(fork: str) -> dict[str, str]:
        entries = cli("log", "--fork", fork, "--json").ok().result["entries"]
        return {entry["checkpoint"]["id"]: entry["checkpoint"]["author"]["name"] for entry in entries}

    cli("write", "unsaved", "1").ok()
    cli("fork", "create", "agent", "--author", "Agent 7 <7@example.org>").ok()
    cli("fork", "delete", "agent").ok()
    cli("undo").ok()
    assert cli("fork", "info", "agent", "--json").result["author"] == {"name": "Agent 7", "email": "7@example.org"}
    cli("write", "a", "1", "--fork", "agent").ok()
    cli("checkpoint", "save", "-m", "mine", "--fork", "agent").ok()
    cli(
        "exec", "--fork", "agent", "--", "sh", "-c", "echo 2 > a && git add a && git commit -qm 'of git'", env=NO_AUTHOR
    ).ok()
    cli("write", "a", "3", "--fork", "agent").ok()
    cli("write", "b", "1").ok()
    cli("merge", "main", "--fork", "agent").ok()

    elsewhere, here = authors("main"), authors("agent")
    assert len(here) - len(elsewhere) == 4  # mine, of git, what was not saved, the merge
    assert {name for commit, name in here.items() if commit not in elsewhere} == {"Agent 7"}
    assert "Agent 7" not in elsewhere.values()


def test_an_author_is_written_as_git_writes_one(cli: Cli, work: str) -> None:
    """Something else is refused before the fork is made."""
    for text in ("Agent 7", "<7@example.org>", "Agent <7@example.org", "Agent\n<7@example.org>", "A <a b@c>", ""):
        refused = cli("fork", "create", "agent", "--author", text)
        assert (refused.status, "'Name <mail>'" in refused.stderr) == (2, True), text
    assert cli("fork", "info", "agent").status


def test_fork_holds_what_is_not_saved_unless_told(cli: Cli, work: str) -> None:
    """A fork starts with everything; `--committed` leaves out what is not in a checkpoint."""
    cli("checkpoint", "save").ok()
    cli("write", "new", "x").ok()
    cli("fork", "create", "without", "--committed").ok()
    cli("fork", "create", "with").ok()

    assert cli("--fork", "with", "cat", "new").text == "x"
    assert cli("--fork", "without", "cat", "new").status == 25
    assert cli("--fork", "without", "cat", "build.log").text == "ignored\n"


def test_name_of_a_fork_stands_for_its_vault_where_it_is_unique(cli: Cli, work: str) -> None:
    """After `vault fork work task`, `--vault task` means that fork; two of the name are refused."""
    cli("vault", "fork", "work", "task").ok()
    cli("--vault", "task", "write", "x", "1").ok()

    assert cli("--vault", "work@task", "cat", "x").text == "1"
    assert cli("--vault", "task", "status", "--json").document["request"]["fork"] == "task"

    cli("vault", "create", "other").ok()
    cli("vault", "fork", "other", "task").ok()
    ran = cli("--vault", "task", "status")

    assert ran.status == 2
    assert "`--vault other@task`" in ran.stderr
    assert cli("--vault", "nosuch", "status").status == 11


def test_any_bare_repository_is_a_vault(cli: Cli, work: str, hermetic: Path) -> None:
    """A path names the repository itself."""
    path = hermetic / "avfs/vaults/work.git"

    assert cli("--vault", str(path), "cat", "README").text == "hello\n"
    assert cli("--vault", f"{path}@main", "cat", "README").text == "hello\n"
    assert cli("--vault", "/nowhere.git", "status").status in {11, 17}


def test_a_fork_with_a_damaged_branch_is_listed_as_damaged(cli: Cli, work: str) -> None:
    """An empty file, a file over an older packed value, and a missing commit: none is left out or taken for whole."""
    for name in ("empty", "packed", "missing", "whole"):
        cli("fork", "create", name).ok()
    git_dir = Path(cli("vault", "info", "--json").result["path"])
    subprocess.run(["git", "-C", str(git_dir), "pack-refs", "--all"], check=True)
    (git_dir / "refs/heads/empty").write_bytes(b"")
    (git_dir / "refs/heads/packed").write_bytes(b"?")
    (git_dir / "refs/heads/missing").write_text("1" * 40 + "\n")

    listed = {fork["name"]: fork for fork in cli("fork", "list", "--json").result["forks"]}
    assert {name: fork["head"] is None for name, fork in listed.items() if fork["problem"]} == dict.fromkeys(
        ("empty", "missing", "packed"), True
    )
    assert sorted(listed) == ["empty", "main", "missing", "packed", "whole"]
    shown = cli("fork", "list").ok()
    assert shown.text.count("\tdamaged\t") == 3
    assert (
        "warning: 'refs/heads/empty' is damaged: its file is empty; `avfs doctor` says what can be done" in shown.stderr
    )

    (git_dir / "refs/heads/main").write_bytes(b"")
    assert cli("fork", "list", "--fork", "whole").ok().text.count("\tdamaged\t") == 4


def test_fork_list_compares_forks_with_their_upstream(cli: Cli, work: str, tmp_path: Path) -> None:
    """The default fork is the upstream of a fork that no branch of a remote goes with.

    Counts are as of the last fetch.
    """
    cli("fork", "create", "task").ok()
    cli("fork", "create", "same").ok()
    cli("write", "a", "1").ok()
    cli("checkpoint", "save").ok()
    for name in ("b", "c"):
        cli("--fork", "task", "write", name, "1").ok()
        cli("--fork", "task", "checkpoint", "save").ok()

    def compare() -> dict[str, tuple[str | None, int | None, int | None]]:
        listed = cli("fork", "list", "--json").ok().result["standings"]
        return {one["fork"]: (one["upstream"], one["ahead"], one["behind"]) for one in listed}

    assert compare() == {"main": (None, None, None), "same": ("main", 0, 1), "task": ("main", 2, 1)}
    cells = [line.split("\t") for line in cli("fork", "list").ok().text.splitlines()]
    assert [(row[0], row[5]) for row in cells] == [
        ("main", "-"),
        ("same", "main: 1 behind"),
        ("task", "main: 2 ahead, 1 behind"),
    ]

    stats = {one["fork"]: one["stat"] for one in cli("fork", "list", "--stat", "--json").ok().result["standings"]}
    assert stats == {
        "main": None,
        "same": {"files": 0, "additions": 0, "deletions": 0},
        "task": {"files": 2, "additions": 2, "deletions": 0},
    }
    assert [line.split("\t")[8] for line in cli("fork", "list", "--stat").ok().text.splitlines()] == [
        "-",
        "0 files, +0 -0",
        "2 files, +2 -0",
    ]
    assert cli("fork", "list", "--stat", "--remote").status == 2

    cli("remote", "add", "origin", str(make_bare(tmp_path / "there.git"))).ok()
    cli("push", "--all").ok()
    cli("--fork", "task", "write", "d", "1").ok()
    cli("--fork", "task", "checkpoint", "save").ok()

    assert compare() == {"main": ("origin/main", 0, 0), "same": ("origin/same", 0, 0), "task": ("origin/task", 1, 0)}


@pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout")
def test_fork_list_says_where_forks_are_mounted(cli: Cli, work: str, mount_dir: Path) -> None:
    """The directory of a mount of the workspace; a read-only mount of a commit is not one."""
    cli("fork", "create", "task").ok()
    cli("mount", "task", str(mount_dir)).ok()
    try:
        listed = cli("fork", "list", "--json").ok().result["standings"]
    finally:
        cli("stop", str(mount_dir)).ok()

    assert {one["fork"]: one["mounted_at"] for one in listed} == {"main": None, "task": str(mount_dir)}

"""`avfs clone`, `remote`, `fetch`, `pull` and `push`."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Cli, Transcript
from tests.support.servers import git, make_bare

Snapshot = Callable[[str, str], None]


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """An empty repository that takes pushes."""
    return make_bare(tmp_path / "shop.git")


def test_work_goes_through_a_remote_and_comes_back(avfs: Transcript, bare: Path, work: str, snapshot: Snapshot) -> None:
    """Two vaults on one server, as people see it."""
    avfs("remote list")
    avfs("push", status=91)
    avfs("remote add origin $TMP/shop.git")
    avfs("push")
    avfs("push --all")
    avfs("clone $TMP/shop.git second")
    avfs("--vault second fork create topic")
    avfs("--vault second@topic write new.txt", stdin=b"1\n")
    avfs("--vault second@topic checkpoint save one")
    avfs("--vault second push topic --with-checkpoints --with-sidecar")
    avfs("fetch")
    avfs("fetch --with-checkpoints")
    avfs("fork list --remote")
    avfs("fork create topic --at origin/topic")
    avfs("--fork topic cat new.txt")
    avfs("--vault second@topic write new.txt", stdin=b"1\n2\n")
    avfs("--vault second@topic checkpoint save two")
    avfs("--vault second push topic")
    avfs("write README", stdin=b"changed\n")
    avfs("checkpoint save mine")
    avfs("--vault second write README", stdin=b"changed too\n")
    avfs("--vault second checkpoint save theirs")
    avfs("--vault second push main")
    avfs("push", status=95)
    avfs("pull topic")
    avfs("pull --ff-only", status=41)
    avfs("pull", status=1)
    avfs("pull --rebase", status=46)
    avfs("pull --rebase --ff-only", status=2)
    avfs("pull --rebase --on-conflict workspace", status=1)
    avfs("rebase --abort")
    avfs("pull nowhere", status=21)
    avfs("fork list --remote")
    avfs("remote set-url origin git@example.org:shop.git")
    avfs("remote list")
    avfs("remote remove origin")
    avfs("fork list --remote")

    snapshot("remotes.txt", avfs.text)


def test_documents_of_remotes(avfs: Transcript, bare: Path, work: str, snapshot: Snapshot) -> None:
    """The same for programs."""
    avfs("remote add origin $TMP/shop.git --json")
    avfs("remote list --json")
    avfs("push --json")
    avfs("clone $TMP/shop.git second --json")
    avfs("--vault second write new.txt", stdin=b"1\n")
    avfs("--vault second checkpoint save one")
    avfs("--vault second push --json")
    avfs("write other.txt", stdin=b"1\n")
    avfs("checkpoint save two")
    avfs("push --json", status=95)
    avfs("pull --json")
    avfs("fetch --json")
    avfs("fork list --remote --json")
    avfs("remote add -- -x /y", status=2)
    avfs("clone ext::sh x --json", status=2)
    avfs("push --all main --json", status=2)
    avfs("remote remove origin --json")

    snapshot("remotes.json.txt", avfs.text)


def test_a_lazy_vault(avfs: Transcript, bare: Path, work: str, snapshot: Snapshot) -> None:
    """A clone without contents, what it brings when it is asked to, and what of it stays in a collection."""
    avfs("remote add origin $TMP/shop.git")
    avfs("push")
    avfs("clone --lazy $TMP/shop.git second")
    avfs("--vault second cat src/main.py")
    avfs("--vault second prefetch src")
    avfs("--vault second prefetch --json")
    avfs("--vault second prefetch nowhere", status=25)
    avfs("--vault second gc")

    snapshot("lazy.txt", avfs.text)


def test_a_clone_is_named_after_its_address(cli: Cli, bare: Path) -> None:
    """Without a name the vault is called as the repository is."""
    assert cli("clone", str(bare), "--json").result["vault"]["name"] == "shop"
    assert cli("clone", "/", "--json").status == 2


def test_work_goes_back_to_where_it_came_from(avfs: Transcript, project: Path, snapshot: Snapshot) -> None:
    """Branches by `push --origin`, files by `apply`, what is newest by `update`, and the hooks of a vault."""
    git("init", "-q", "-b", "main", cwd=project)
    git("add", ".", cwd=project)
    git("commit", "-q", "-m", "one", cwd=project)
    avfs("vault create work --from $TMP/project")
    avfs("fork create topic")
    avfs("--fork topic write README", stdin=b"changed\n")
    avfs("--fork topic write new.txt", stdin=b"new\n")
    avfs("--fork topic checkpoint save one")
    avfs("push topic --origin")
    avfs("push main --origin --remote x", status=2)
    avfs("apply topic --to $TMP/project --dry-run")
    avfs("apply topic --to $TMP/project")
    avfs("apply topic --to $TMP/project --json")
    avfs("--fork topic write README", stdin=b"changed again\n")
    avfs("--fork topic checkpoint save two")
    (project / "README").write_text("mine\n")
    avfs("apply topic --to $TMP/project", status=99)
    avfs("write other.txt", stdin=b"1\n")
    avfs("checkpoint save three")
    avfs("remote remove origin")
    avfs("update topic")
    avfs("update topic --json")
    avfs("update")
    avfs("hooks install")
    avfs("hooks list --json")

    snapshot("origin.txt", avfs.text)


def test_an_update_says_which_repository_it_asked(cli: Cli, work: str, bare: Path) -> None:
    """Where there is nothing new, the remote was asked for it, and its URL says which repository that is."""
    cli("remote", "add", "origin", str(bare)).ok()
    cli("push", "main").ok()

    assert cli("update").ok().text == f"main has all of origin/main already, fetched just now from {bare}\n"


def test_a_push_names_the_forks_that_it_pushed(cli: Cli, work: str, bare: Path) -> None:
    """Not the default fork; of several, the list says which."""
    cli("remote", "add", "origin", str(bare)).ok()
    cli("fork", "create", "task").ok()

    assert cli("push", "task").ok().stderr == "(vault work, fork task)\n"
    assert cli("push", "--all").ok().stderr == "(vault work)\n"
    assert cli("push").ok().stderr == "(vault work, fork main)\n"


def test_no_hint_leads_to_a_removed_remote(cli: Cli, work: str, bare: Path) -> None:
    """What it had is not listed any more; nor has a remote that is there a branch `HEAD` that a fetch would bring."""
    cli("remote", "add", "origin", str(bare)).ok()
    cli("push").ok()
    cli("fork", "create", "task", "--at", "origin/main").ok()
    cli("update", "task", "--upstream", "origin/main").ok()
    fetched = cli("diff", "origin/HEAD").stderr
    assert "`avfs fetch" not in fetched
    assert "`avfs fork list --remote`" in fetched
    cli("remote", "remove", "origin").ok()

    told = cli("update", "task").stderr
    assert "remote 'origin', which was removed" in told
    assert "`avfs remote add origin URL`" in told
    assert "--remote" not in told
    told = cli("update", "task", "--upstream", "origin/main").stderr
    assert told.startswith("error: there is no remote 'origin'\n")
    cli("remote", "add", "origin", str(bare)).ok()
    assert cli("update", "task").ok().text.startswith("task has all of origin/main already")


def test_an_update_without_a_branch_to_follow_says_how_to_follow_one(cli: Cli, work: str, bare: Path) -> None:
    """The server has renamed its branch: nothing comes any more, and `main` there may be `trunk` by now."""
    cli("remote", "add", "origin", str(bare)).ok()
    cli("push", "main").ok()
    subprocess.run(["git", "-C", str(bare), "branch", "-m", "main", "trunk"], check=True)
    told = cli("update", "main").ok()
    assert "the fork has no upstream" in told.text
    assert "`avfs update --upstream REMOTE/BRANCH main`" in told.stderr
    assert cli("update", "--upstream", "origin/trunk", "main").ok().stderr.count("hint") == 0


def test_an_update_from_a_branch_that_stays_does_not_say_that_it_was_fetched(
    cli: Cli, work: str, bare: Path, tmp_path: Path
) -> None:
    """A shallow remote is fetched anew by CI: its history begins after what is here."""
    cli("remote", "add", "origin", str(bare)).ok()
    cli("push", "main").ok()
    cli("clone", bare.as_uri(), "second").ok()
    for text in ("two", "three"):
        cli("write", "README", text).ok()
        cli("checkpoint", "save").ok()
        cli("push", "main").ok()
    served = tmp_path / "served"
    bare.rename(served)
    git("clone", "-q", "--bare", "--depth=1", served.as_uri(), str(bare), cwd=tmp_path)

    told = cli("--vault", "second", "update").ok()
    assert "'origin/main' did not move" in told.stderr
    assert told.text.startswith("main has all of origin/main already\n")

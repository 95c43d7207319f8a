"""Whose a vault is: nothing of what another user wrote is run, and nothing of what came in an archive."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.errors import VaultUntrusted
from tests.support.cli import Cli
from tests.support.users import ALICE, MALLORY, as_user, give, make_traces, open_way

OPENED = "opened"


def make_trap(git_dir: Path, traces: Path) -> None:
    """Put into a vault what runs a program wherever avfs or git obeys it."""
    hook = f"#!/bin/sh\ntouch {traces}/$(basename $0)\n"
    for place in ("avfs/hooks", "hooks"):
        (git_dir / place).mkdir(parents=True, exist_ok=True)
        for name in (
            "pre-checkpoint",
            "post-checkpoint",
            "post-exec",
            "pre-commit",
            "post-checkout",
            "reference-transaction",
        ):
            (git_dir / place / name).write_text(hook)
            (git_dir / place / name).chmod(0o755)
    with (git_dir / "config").open("a") as file:
        file.write(f"[core]\n\tfsmonitor = touch {traces}/fsmonitor\n[alias]\n\tst = !touch {traces}/alias\n")


def copy_vault(vault: Path, copy: Path) -> None:
    """Copy it as an archive would. A session that ends meanwhile takes its directory away, so none is copied."""
    shutil.copytree(vault, copy, symlinks=True, ignore=shutil.ignore_patterns("sessions"))


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """A vault outside the home, without anything that runs, and without changes that only root could read."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"1\n")
    with Avfs(tmp_path / "other") as avfs, avfs.create_vault("v", source=source) as made:
        return made.path


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """Where programs of traps leave their names."""
    return make_traces(tmp_path)


def look(home: Path, path: Path) -> str:
    """Open a vault, and read from it."""
    with Avfs(home) as avfs, avfs.open_vault(path) as opened:
        assert opened.workspace().read("a") == b"1\n"
    return OPENED


def test_of_changes_to_what_is_trusted_none_is_lost(tmp_path: Path) -> None:
    """Several say at once what they trust, and take it away again."""
    places = [tmp_path / f"{number}.git" for number in range(16)]
    for place in places:
        subprocess.run(["git", "init", "-q", "--bare", place], check=True)
    avfs = Avfs(tmp_path / "home")
    with ThreadPoolExecutor(len(places)) as pool:
        list(pool.map(avfs.trust_vault, places))
        assert set(avfs.trusted_vaults()) == set(places)
        list(pool.map(avfs.distrust_vault, places[:-1]))
        assert avfs.trusted_vaults() == (places[-1],)


# --- the owner -------------------------------------------------------------------------------------------------


@pytest.mark.needs("root")
def test_root_opens_no_vault_of_another_user(vault: Path, traces: Path, cli: Cli, tmp_path: Path) -> None:
    """Neither to look nor to run a command; nothing of it has run.

    The hint's way in works, and brings nothing that runs.
    """
    make_trap(vault, traces)
    give(vault, MALLORY)
    for verb in (["status"], ["ls"], ["exec", "--", "git", "status"], ["checkpoint", "save", "x"], ["doctor"], ["gc"]):
        ran = cli("--json", "--vault", str(vault), *verb)
        assert ran.document["error"]["code"] == "vault.untrusted", verb
    assert str(vault) in str(ran.document["error"]["hint"])

    cli("vault", "create", "mine", "--from", str(vault)).ok()

    assert cli("--vault", "mine", "cat", "a").ok().text == "1\n"
    cli("--vault", "mine", "exec", "--", "git", "status").ok()
    assert os.listdir(traces) == []


@pytest.mark.needs("root")
def test_an_ordinary_user_opens_no_vault_of_another_one(vault: Path, tmp_path: Path) -> None:
    """Not even root's; the own one is opened."""
    open_way(vault)
    homes = {}
    for uid in (ALICE, MALLORY):
        homes[uid] = tmp_path / f"home{uid}"
        homes[uid].mkdir()
        give(homes[uid], uid)
    assert "belongs to 'root'" in as_user(ALICE, lambda: look(homes[ALICE], vault))
    give(vault, MALLORY)
    said = as_user(ALICE, lambda: look(homes[ALICE], vault))
    assert said.startswith("VaultUntrusted: ")
    assert str(MALLORY) in said
    assert as_user(MALLORY, lambda: look(homes[MALLORY], vault)) == OPENED


@pytest.mark.needs("root")
@pytest.mark.parametrize(
    "part", ["config", "hooks", "avfs", "avfs/config.json", "avfs/hooks", "avfs/hooks/post-exec", "refs"]
)
def test_a_part_of_another_user_is_not_obeyed(vault: Path, part: str, tmp_path: Path) -> None:
    """What git or avfs reads from a vault is its owner's, or root's, who can write there anyway."""
    for name in ("hooks", "avfs/hooks"):
        (vault / name).mkdir(exist_ok=True)
    for name in ("avfs/hooks/post-exec", "avfs/config.json"):
        (vault / name).write_text("{}")
    os.chown(vault / part, MALLORY, MALLORY)
    with pytest.raises(VaultUntrusted, match=f"'{part}' belongs to"):
        look(tmp_path / "home", vault)

    give(vault, ALICE)
    os.chown(vault / part, 0, 0)
    (vault / part).chmod(0o755)  # root may have made it for others to read
    open_way(vault)
    (tmp_path / "home").mkdir()
    give(tmp_path / "home", ALICE)
    assert as_user(ALICE, lambda: look(tmp_path / "home", vault)) == OPENED


@pytest.mark.needs("root")
def test_a_link_to_what_another_user_owns_is_not_obeyed(vault: Path, tmp_path: Path) -> None:
    """A directory of hooks counts where it is, and not only where its link is."""
    place = tmp_path / "elsewhere"
    place.mkdir()
    os.chown(place, MALLORY, MALLORY)
    (vault / "avfs/hooks").symlink_to(place)
    with pytest.raises(VaultUntrusted, match="avfs/hooks"):
        look(tmp_path / "home", vault)


@pytest.mark.needs("root")
def test_root_by_sudo_leaves_nothing_in_the_vault_of_who_called_it(vault: Path, cli: Cli) -> None:
    """Files of root in it would keep its owner out from then on."""
    give(vault, ALICE)
    for verb in (["status"], ["write", "b"], ["gc"]):
        error = cli("--json", "--vault", str(vault), *verb, env={"SUDO_UID": str(ALICE)}).document["error"]
        assert error["code"] == "vault.untrusted", verb
        assert "without sudo" in error["hint"]
    assert {path.lstat().st_uid for path in vault.rglob("*")} == {ALICE}


@pytest.mark.needs("root")
@pytest.mark.parametrize("is_used", [False, True])
@pytest.mark.parametrize("verb", ["fork", "create", "clone", "trust"])
def test_root_leaves_nothing_in_the_home_of_another_user(
    verb: str, is_used: bool, vault: Path, tmp_path: Path, cli: Cli
) -> None:
    """`su` and `sudo -E` keep HOME: directories of root in it would keep its user out of avfs, and of all beside it."""
    home = tmp_path / "user"
    (home / ".local/share/avfs" if is_used else home).mkdir(parents=True)
    give(home, pwd.getpwnam("daemon").pw_uid)
    before = sorted(home.rglob("*"))
    words = {
        "fork": ["fork", str(tmp_path / "source"), str(tmp_path / "tree")],
        "create": ["vault", "create", "mine"],
        "clone": ["clone", str(vault), "mine"],
        "trust": ["vault", "trust", str(vault)],
    }

    error = cli("--json", *words[verb], env={"HOME": str(home), "AVFS_HOME": ""}).document["error"]

    assert error["code"] == "host.failed"
    assert "Run avfs as 'daemon', without sudo" in error["hint"]
    assert sorted(home.rglob("*")) == before
    assert not (tmp_path / "tree").exists()


@pytest.mark.needs("root")
@pytest.mark.parametrize("owner", ["root", "nobody here", "named"])
def test_root_makes_its_vaults_where_no_other_user_is_kept_out(owner: str, tmp_path: Path, cli: Cli) -> None:
    """In a directory of its own, in one that a container got from its host, and where AVFS_HOME says so."""
    home = tmp_path / "user"
    (home / "volume").mkdir(parents=True)
    give(home, MALLORY if owner == "nobody here" else pwd.getpwnam("daemon").pw_uid)
    if owner == "root":
        os.chown(home / "volume", 0, 0)
    places = {
        "root": {"HOME": str(home), "AVFS_HOME": str(home / "volume/avfs")},
        "nobody here": {"HOME": str(home), "AVFS_HOME": ""},
        "named": {"HOME": str(tmp_path / "roots"), "AVFS_HOME": str(home / "avfs")},
    }
    cli("vault", "create", "mine", env=places[owner]).ok()


@pytest.mark.needs("root")
@pytest.mark.parametrize("way", ["another user's", "open to all", "sticky"])
def test_a_vault_that_somebody_else_can_exchange_is_refused(vault: Path, way: str, tmp_path: Path) -> None:
    """Who may rename a directory above it could put another one there after it was looked at."""
    place = tmp_path / "place"
    place.mkdir()
    vault.rename(place / "v.git")
    place.chmod({"another user's": 0o755, "open to all": 0o777, "sticky": 0o1777}[way])
    if way == "another user's":
        os.chown(place, MALLORY, MALLORY)
    if way == "sticky":
        assert look(tmp_path / "home", place / "v.git") == OPENED
        return
    with pytest.raises(VaultUntrusted, match="above it"):
        look(tmp_path / "home", place / "v.git")

    with Avfs(tmp_path / "home") as avfs:
        avfs.trust_vault(place / "v.git")

    assert look(tmp_path / "home", place / "v.git") == OPENED


@pytest.mark.needs("root")
def test_trust_ends_where_the_path_comes_to_belong_to_another_user(vault: Path, tmp_path: Path) -> None:
    """The vault that was trusted is gone, and somebody puts one of his own in its place."""
    give(vault, ALICE)
    with Avfs(tmp_path / "home") as avfs:
        avfs.trust_vault(vault)
    assert look(tmp_path / "home", vault) == OPENED
    give(vault, MALLORY)
    with pytest.raises(VaultUntrusted, match="belongs to"):
        look(tmp_path / "home", vault)


@pytest.mark.needs("root")
def test_a_list_of_trust_without_owners_counts(vault: Path, tmp_path: Path) -> None:
    """Older versions of avfs wrote no more than paths."""
    give(vault, ALICE)
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "trusted").write_text(f"{vault}\n")
    (tmp_path / "home" / "trusted").chmod(0o600)
    assert look(tmp_path / "home", vault) == OPENED


@pytest.mark.needs("root")
def test_objects_of_another_user_are_copied(vault: Path, tmp_path: Path) -> None:
    """A file that another user owns could be changed under the vault by that user."""
    give(vault, MALLORY)
    with Avfs(tmp_path / "home") as avfs, avfs.create_vault("mine", source=vault) as mine:
        inodes = {path.stat().st_ino for path in vault.rglob("*")}
        assert not [path for path in (mine.path / "objects").rglob("*") if path.stat().st_ino in inodes]


# --- trust -----------------------------------------------------------------------------------------------------


@pytest.mark.needs("root")
def test_a_vault_of_another_user_can_be_trusted(vault: Path, traces: Path, cli: Cli) -> None:
    """Until that is taken back; its hooks run then."""
    make_trap(vault, traces)
    give(vault, MALLORY)
    assert cli("--json", "vault", "trust", str(vault)).result == {"trusted": [str(vault)]}
    assert cli("--json", "vault", "trust").result == {"trusted": [str(vault)]}
    cli("--vault", str(vault), "hooks", "enable", "pre-checkpoint").ok()
    cli("--vault", str(vault), "write", "b", stdin=b"2\n").ok()
    cli("--vault", str(vault), "checkpoint", "save", "two").ok()
    assert "pre-checkpoint" in os.listdir(traces)

    cli("vault", "trust", "--revoke", str(vault)).ok()

    assert cli("--json", "--vault", str(vault), "status").document["error"]["code"] == "vault.untrusted"


@pytest.mark.needs("root")
@pytest.mark.parametrize("is_theirs", [True, False])
def test_a_list_of_trust_that_others_can_write_does_not_count(
    vault: Path, hermetic: Path, cli: Cli, is_theirs: bool
) -> None:
    """It belongs to its reader and nobody else may write to it."""
    give(vault, MALLORY)
    cli("vault", "trust", str(vault)).ok()
    place = hermetic / "avfs" / "trusted"
    assert place.stat().st_mode & 0o777 == 0o600
    if is_theirs:
        os.chown(place, MALLORY, MALLORY)
    else:
        place.chmod(0o620)
    assert cli("--json", "--vault", str(vault), "status").document["error"]["code"] == "vault.untrusted"


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("what", ["hooks/pre-commit", "core.fsmonitor", "core.sshCommand", "worktree", "url"])
def test_a_vault_from_an_archive_runs_nothing(vault: Path, what: str, tmp_path: Path, traces: Path, cli: Cli) -> None:
    """Its files belong to whoever unpacked it, and say nothing about who wrote them. Trusted, it is opened."""
    copy = tmp_path / "copy.git"
    copy_vault(vault, copy)
    cli("--vault", str(copy), "status").ok()
    if "/" in what:
        (copy / what).parent.mkdir(exist_ok=True)
        (copy / what).write_text(f"#!/bin/sh\ntouch {traces}/hook\n")
        (copy / what).chmod(0o755)
    elif what == "worktree":
        (copy / "worktrees/x").mkdir(parents=True)
        (copy / "worktrees/x/config.worktree").write_text(f"[core]\n\tfsmonitor = touch {traces}/x\n")
    else:
        key, value = ("remote.x.url", f"ext::touch {traces}/ext") if what == "url" else (what, f"touch {traces}/set")
        subprocess.run(["git", "config", "--file", str(copy / "config"), key, value], check=True)
    ran = cli("--json", "--vault", str(copy), "exec", "--", "git", "status")
    assert ran.document["error"]["code"] == "vault.untrusted"
    assert cli("--json", "--vault", str(copy), "status").document["error"]["code"] == "vault.untrusted"
    assert os.listdir(traces) == []

    cli("vault", "trust", str(copy)).ok()

    cli("--vault", str(copy), "status").ok()


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("place", [".", "worktrees/main", "worktrees/main/modules/lib"])
@pytest.mark.parametrize("name", ["rebase-merge", "sequencer"])
def test_no_rebase_goes_on_in_a_vault_from_an_archive(
    vault: Path, place: str, name: str, tmp_path: Path, cli: Cli
) -> None:
    """`git rebase --continue` runs the lines `exec` of what is left to do."""
    copy = tmp_path / "copy.git"
    copy_vault(vault, copy)
    make_submodule(copy)
    cli("--vault", str(copy), "status").ok()
    (copy / place / name).mkdir()
    (copy / place / name / "git-rebase-todo").write_text("exec touch /x\n")

    error = cli("--json", "--vault", str(copy), "status").document["error"]

    assert error["code"] == "vault.untrusted"
    assert f"'{os.path.normpath(os.path.join(place, name))}'" in error["message"]
    cli("vault", "trust", str(copy)).ok()
    cli("--vault", str(copy), "status").ok()


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("config", "[core]\n\tfsmonitor = touch /x\n"),
        ("config", "[core]\n\tworktree = /etc\n"),
        ("commondir", "/etc\n"),
        ("hooks/post-checkout", "#!/bin/sh\n"),
        ("rebase-merge/git-rebase-todo", "exec touch /x\n"),
        ("modules/x/config", "[core]\n\tfsmonitor = touch /x\n"),
        pytest.param("config", "#" * (64 << 20) + "\n[core]\n\tfsmonitor = touch /x\n", id="long"),
    ],
)
def test_a_repository_among_the_files_of_a_vault_from_an_archive_runs_nothing(
    vault: Path, file: str, content: str, tmp_path: Path, cli: Cli
) -> None:
    """Git obeys it in a live tree. One without any of that is no reason to refuse the vault."""
    copy = tmp_path / "copy.git"
    copy_vault(vault, copy)
    place = copy / "avfs/workspaces/main/upper/sub"
    subprocess.run(["git", "init", "-q", place], check=True)
    cli("--vault", str(copy), "status").ok()
    (place / ".git" / file).parent.mkdir(exist_ok=True, parents=True)
    (place / ".git" / file).write_text(content)
    (place / ".git" / file).chmod(0o755)

    error = cli("--json", "--vault", str(copy), "status").document["error"]

    assert error["code"] == "vault.untrusted"
    assert "avfs/workspaces/main/upper/sub/.git" in error["message"]
    cli("vault", "trust", str(copy)).ok()
    cli("--vault", str(copy), "status").ok()


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("is_link", [True, False])
def test_a_name_of_a_repository_among_the_files_of_a_vault_from_an_archive_counts(
    vault: Path, is_link: bool, tmp_path: Path, cli: Cli
) -> None:
    """A `.git` that is a link or a file leads git to a directory of saved files, which no judge looks at."""
    copy = tmp_path / "copy.git"
    copy_vault(vault, copy)
    place = copy / "avfs/workspaces/main/upper/sub"
    place.mkdir(parents=True)
    if is_link:
        (place / ".git").symlink_to("../tracked")
    else:
        (place / ".git").write_text("gitdir: ../tracked\n")

    assert cli("--json", "--vault", str(copy), "status").document["error"]["code"] == "vault.untrusted"


@pytest.mark.parametrize("what", ["setting", "hook", "rebase", "pointer", "link"])
def test_a_saved_repository_of_a_vault_from_an_archive_runs_nothing(
    what: str, vault: Path, traces: Path, tmp_path: Path
) -> None:
    """A `.git` in a checkpoint of such a vault is shown by no live tree and no export; the rest of the vault is."""
    with Avfs(tmp_path / "other") as avfs, avfs.open_vault(vault) as made, made.workspace() as work:
        if what in {"pointer", "link"}:
            make = "ln -s ../tracked sub/.git" if what == "link" else "echo 'gitdir: ../tracked' >sub/.git"
            work.exec(shell=f"mkdir sub; touch sub/f; {make}")
        else:
            work.exec(shell="git init -q sub; touch sub/f; mkdir -p sub/.git/hooks sub/.git/rebase-merge")
            name, text = {
                "setting": ("config", f"[core]\n\trepositoryformatversion = 0\n\tfsmonitor = touch {traces}/ran\n"),
                "hook": ("hooks/post-index-change", f"#!/bin/sh\ntouch {traces}/ran\n"),
                "rebase": ("rebase-merge/git-rebase-todo", f"exec touch {traces}/ran\n"),
            }[what]
            work.write(f"sub/.git/{name}", text.encode())
            if what == "hook":
                work.exec(shell="chmod 711 sub/.git/hooks/post-index-change")
            if what != "rebase":
                work.remove("sub/.git/rebase-merge", recursive=True)
        saved = work.checkpoint("saved").checkpoint
    assert saved is not None
    copy = tmp_path / "copy.git"
    copy_vault(vault, copy)
    shutil.rmtree(copy / "avfs/workspaces")
    (copy / "avfs/workspaces").mkdir()
    with Avfs(tmp_path / "home") as avfs, avfs.open_vault(copy) as opened, opened.fork("again", at="main") as work:
        ran = work.exec(shell="cat a; cd sub && git status")
        assert ran.stdout.startswith(b"1\n")
        with pytest.raises(VaultUntrusted):
            work.list_dir("sub")
        with pytest.raises(VaultUntrusted):
            work.export_path("/", tmp_path / "out")
    assert os.listdir(traces) == []
    with Avfs(tmp_path / "home") as avfs:
        avfs.trust_vault(copy)
        with avfs.open_vault(copy) as opened:
            assert opened.workspace().exists("sub/.git")


def make_submodule(git_dir: Path, name: str = "worktrees/main/modules/lib") -> Path:
    """Make what git keeps of a submodule of a live tree that is not shown."""
    place = git_dir / name
    subprocess.run(["git", "init", "-q", "--bare", place], check=True)
    subprocess.run(["git", "config", "--file", place / "config", "core.bare", "false"], check=True)
    subprocess.run(
        ["git", "config", "--file", place / "config", "core.worktree", "../../../../../gone/lib"], check=True
    )
    return place


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("name", ["lib", "third/party", "objects", "HEAD", "lib/modules/inner", "lib/objects/hidden"])
@pytest.mark.parametrize("file", ["config", "config.worktree", "hooks/post-checkout"])
def test_a_submodule_in_a_vault_from_an_archive_runs_nothing(
    vault: Path, name: str, file: str, tmp_path: Path, traces: Path, cli: Cli
) -> None:
    """A `git status` in a live tree obeys the repository of each submodule. Trusted, the vault is opened."""
    copy = tmp_path / "copy.git"
    copy_vault(vault, copy)
    make_submodule(copy)
    place = make_submodule(copy, f"worktrees/main/modules/{name}")
    cli("--vault", str(copy), "status").ok()
    if file.startswith("hooks"):
        (place / file).write_text(f"#!/bin/sh\ntouch {traces}/hook\n")
        (place / file).chmod(0o755)
    else:
        subprocess.run(["git", "config", "--file", place / file, "core.fsmonitor", f"touch {traces}/set"], check=True)

    error = cli("--json", "--vault", str(copy), "status").document["error"]

    assert error["code"] == "vault.untrusted"
    assert f"modules/{name}/{file}'" in error["message"]
    cli("vault", "trust", str(copy)).ok()
    cli("--vault", str(copy), "status").ok()


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("file", ["commondir", "core.worktree", "url", "worktrees/x/commondir"])
def test_a_submodule_in_a_vault_from_an_archive_leads_nowhere_else(
    vault: Path, file: str, tmp_path: Path, cli: Cli
) -> None:
    """Git would obey another repository, or check out the submodule's files over a directory of the user's."""
    copy, precious = tmp_path / "copy.git", tmp_path / "precious"
    copy_vault(vault, copy)
    precious.mkdir()
    place = make_submodule(copy)
    if file == "core.worktree":
        subprocess.run(["git", "config", "--file", place / "config", file, "../../../../../precious"], check=True)
    elif file == "url":
        subprocess.run(["git", "config", "--file", place / "config", "remote.origin.url", "ext::touch /x"], check=True)
    else:
        (place / file).parent.mkdir(parents=True, exist_ok=True)
        (place / file).write_text("../../../../avfs/workspaces/main/upper/lib\n")

    error = cli("--json", "--vault", str(copy), "status").document["error"]

    assert error["code"] == "vault.untrusted"
    assert "modules/lib/" in error["message"]


@pytest.mark.usefixtures("person")
def test_a_linked_working_tree_of_a_submodule_is_no_reason(vault: Path, cli: Cli) -> None:
    """Git makes one with `git worktree add` in a submodule."""
    place = make_submodule(vault)
    (place / "worktrees/x").mkdir(parents=True)
    (place / "worktrees/x/commondir").write_text("../..\n")
    (place / "worktrees/x/HEAD").write_text("ref: refs/heads/x\n")
    cli("--vault", str(vault), "status").ok()


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize(
    "name",
    [
        *(
            "avfs",
            "avfs/cache",
            "avfs/cache/blobs",
            "avfs/trash",
            "avfs/trash/1-x",
            "avfs/sessions",
            "avfs/sessions/0/lock",
        ),
        *("avfs/workspaces", "avfs/workspaces/main", "avfs/workspaces/main/upper", "avfs/workspaces/main/git/index"),
        *("worktrees/main", "logs/refs/heads/main", "info/exclude", "hooks", "hooks/pre-commit"),
    ],
)
def test_a_vault_from_an_archive_leads_nowhere_else(vault: Path, name: str, tmp_path: Path, cli: Cli) -> None:
    """Through a link, avfs would empty a user's directory as its cache or trash, and run what appears there later."""
    copy, precious = tmp_path / "copy.git", tmp_path / "precious"
    copy_vault(vault, copy)
    place = copy / name
    if place.is_dir():
        place.rename(precious)
    precious.mkdir(exist_ok=True)
    (precious / "thesis").write_text("all of it")
    before = sorted(os.listdir(precious))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    place.symlink_to(tmp_path / "later" if name.startswith("hooks") else precious)
    for verb in (["status"], ["gc", "--keep-days", "0", "--grace-days", "0"], ["cat", "a"], ["sessions"]):
        error = cli("--json", "--vault", str(copy), *verb).document["error"]
        assert error["code"] == "vault.untrusted", verb
        assert f"its '{name}' is a symbolic link" in error["message"]
    assert sorted(os.listdir(precious)) == before


@pytest.mark.usefixtures("person")
def test_links_in_a_workspace_are_its_files(vault: Path, tmp_path: Path, cli: Cli) -> None:
    """A vault from elsewhere may hold them as any other; they are never followed."""
    cli("--vault", str(vault), "exec", "--no-commit", "--", "ln", "-s", "a", "link").ok()
    assert (vault / "avfs/workspaces/main/upper/link").is_symlink()
    copy_vault(vault, tmp_path / "copy.git")
    assert cli("--vault", str(tmp_path / "copy.git"), "cat", "link").ok().text == "1\n"


@pytest.mark.usefixtures("person")
def test_hooks_that_the_owner_enabled_run_outside_the_home(vault: Path, traces: Path, cli: Cli) -> None:
    """What was enabled is kept in the home, with its content: nothing in the vault can say it."""
    (vault / "avfs/hooks").mkdir()
    (vault / "avfs/hooks/pre-checkpoint").write_text(f"#!/bin/sh\ntouch {traces}/ran\n")
    (vault / "avfs/hooks/pre-checkpoint").chmod(0o755)
    cli("--vault", str(vault), "hooks", "enable", "pre-checkpoint").ok()
    cli("--vault", str(vault), "write", "b", stdin=b"2\n").ok()
    cli("--vault", str(vault), "checkpoint", "save", "two").ok()
    assert os.listdir(traces) == ["ran"]


@pytest.mark.usefixtures("person")
def test_a_disk_that_was_written_elsewhere_runs_nothing(vault: Path, traces: Path, cli: Cli) -> None:
    """It holds the vault as another avfs made it there, its inode numbers and owner included."""
    subprocess.run(
        ["git", "config", "--file", str(vault / "config"), "core.fsmonitor", f"touch {traces}/ran"], check=True
    )
    assert (
        cli("--json", "--vault", str(vault), "exec", "--", "git", "status").document["error"]["code"]
        == "vault.untrusted"
    )
    assert os.listdir(traces) == []


@pytest.mark.usefixtures("person")
def test_a_strange_vault_opens_nothing_to_isolated_commands(vault: Path, tmp_path: Path, cli: Cli) -> None:
    """Which places they see is for the user to say."""
    (vault / "avfs/config.json").write_text(json.dumps({"isolate.show": str(tmp_path)}))
    assert cli("--json", "--vault", str(vault), "status").document["error"]["code"] == "vault.untrusted"
    cli("vault", "trust", str(vault)).ok()
    cli("--vault", str(vault), "status").ok()


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("word", ["-", "+", "+boot 1 "])
def test_a_note_of_a_copy_in_a_strange_vault_removes_nothing(vault: Path, word: str, tmp_path: Path, cli: Cli) -> None:
    """It may name any directory for the one in which a command ran: that is neither taken in nor removed, and told."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis").write_text("all of it")
    (vault / "avfs/workspaces/main/checkout").write_text(f"{word}{precious}")

    told = cli("--vault", str(vault), "checkpoint", "save", "two").ok().stderr

    assert str(precious) in told
    assert os.listdir(precious) == ["thesis"]
    assert cli("--vault", str(vault), "ls").ok().text.split() == ["a"]


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("name", ["{}", "../../../precious", "..", "1-x/../../../../precious"])
def test_a_log_in_a_strange_vault_names_nothing_outside_the_trash(
    vault: Path, name: str, tmp_path: Path, cli: Cli
) -> None:
    """An undo brings back the workspace of a deleted fork, and moves no directory of the user's to its place."""
    precious = tmp_path / "other" / "vaults" / "precious"
    precious.mkdir()
    (precious / "thesis").write_text("all of it")
    for verb in (["fork", "create", "f"], ["--fork", "f", "ls"], ["fork", "delete", "f"]):
        cli("--vault", str(vault), *verb).ok()
    log = vault / "avfs/oplog"
    lines = log.read_bytes().splitlines()
    said = json.loads(lines[-1][9:])
    said["more"]["trash"] = name.format(precious)
    line = json.dumps(said, separators=(",", ":")).encode()  # as avfs writes it
    log.write_bytes(b"".join(each + b"\n" for each in [*lines[:-1], b"%08x %b" % (zlib.crc32(line), line)]))

    cli("--vault", str(vault), "undo").ok()

    assert os.listdir(precious) == ["thesis"]
    assert cli("--vault", str(vault), "--fork", "f", "ls").ok().text == "a\n"


# --- the home ----------------------------------------------------------------------------------------------------


@pytest.fixture
def vaults(hermetic: Path, cli: Cli) -> Path:
    """The directory of the vaults of a home that has one, `mine`."""
    cli("vault", "create", "mine").ok()
    cli("write", "a", stdin=b"1\n").ok()
    return hermetic / "avfs" / "vaults"


def set_trap(git_dir: Path, traces: Path) -> None:
    """Have git run a program in a vault."""
    subprocess.run(
        ["git", "config", "--file", str(git_dir / "config"), "core.fsmonitor", f"touch {traces}/ran"], check=True
    )


@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("what", ["setting", "hook", "link", "show"])
def test_a_vault_that_was_copied_into_the_home_is_judged(
    vault: Path, vaults: Path, what: str, traces: Path, cli: Cli
) -> None:
    """`cp -r` makes somebody's vault no vault of one's own: nothing of it runs until its user says so."""
    copy = vaults / "copy.git"
    copy_vault(vault, copy)
    if what == "setting":
        set_trap(copy, traces)
    elif what == "hook":
        (copy / "hooks").mkdir(exist_ok=True)
        (copy / "hooks/post-checkout").write_text(f"#!/bin/sh\ntouch {traces}/ran\n")
        (copy / "hooks/post-checkout").chmod(0o755)
    elif what == "link":
        (copy / "avfs/cache").symlink_to(traces)
    else:
        (copy / "avfs/config.json").write_text(json.dumps({"isolate.show": str(traces)}))
    for verb in (["status"], ["exec", "--", "git", "status"], ["vault", "use", "copy"]):
        assert cli("--json", "--vault", "copy", *verb).document["error"]["code"] == "vault.untrusted", verb
    assert os.listdir(traces) == []

    cli("vault", "trust", str(copy)).ok()

    cli("--vault", "copy", "status").ok()


@pytest.mark.usefixtures("person")
def test_a_changed_copy_of_ones_own_vault_is_judged(vaults: Path, traces: Path, cli: Cli) -> None:
    """Its mark came along, but names the other vault, even if the copy has that one's name and perhaps its inodes."""
    shutil.copytree(vaults / "mine.git", vaults / "aside", symlinks=True)
    set_trap(vaults / "aside", traces)
    shutil.rmtree(vaults / "mine.git")
    shutil.copytree(vaults / "aside", vaults / "mine.git", symlinks=True)

    assert cli("--json", "status").document["error"]["code"] == "vault.untrusted"
    assert os.listdir(traces) == []


@pytest.mark.usefixtures("person")
def test_a_vault_made_here_obeys_its_owner_under_any_name(vaults: Path, traces: Path, cli: Cli) -> None:
    """What its owner sets counts, also after `mv`."""
    set_trap(vaults / "mine.git", traces)
    cli("status").ok()
    (vaults / "mine.git").rename(vaults / "renamed.git")

    assert cli("--vault", "renamed", "cat", "a").ok().text == "1\n"


@pytest.mark.usefixtures("person")
def test_a_mark_of_another_home_does_not_count(vault: Path, vaults: Path, traces: Path, cli: Cli) -> None:
    """A vault that is moved here from another home keeps its inodes, and is judged by the key of this one."""
    vault.rename(vaults / "moved.git")
    cli("--vault", "moved", "status").ok()
    set_trap(vaults / "moved.git", traces)

    assert cli("--json", "--vault", "moved", "status").document["error"]["code"] == "vault.untrusted"


@pytest.mark.usefixtures("person")
def test_a_vault_that_cannot_be_opened_hides_no_other(vault: Path, vaults: Path, traces: Path, cli: Cli) -> None:
    """It is listed with the reason; mounts of the others are listed, and names of their forks are found."""
    copy_vault(vault, vaults / "copy.git")
    set_trap(vaults / "copy.git", traces)
    (vaults / "file.git").touch()
    cli("fork", "create", "other").ok()

    listed = {found["name"]: found["problem_code"] for found in cli("--json", "vault", "list").result["vaults"]}

    assert listed == {"copy": "vault.untrusted", "file": "vault.not_found", "mine": None}
    told = cli("vault", "list").ok()
    assert "vault 'copy' cannot be opened" in told.stderr
    assert "mine" in told.text
    assert cli("--json", "sessions").result == {"sessions": []}

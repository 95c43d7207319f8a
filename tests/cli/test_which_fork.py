"""Which vault and fork a command means: an option, else the directory, else the environment, else the current vault."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import click
import pytest

from avfs_git import Avfs
from avfs_git.cli import table
from avfs_git.cli.verb import Verb
from tests.cli.test_terminal import at_terminal, plain
from tests.support.cli import Cli, Ran

pytestmark = pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout")


@pytest.fixture
def hermetic(hermetic: Path, mount_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Have the home where mounts are swept away; end the sessions that a test began."""
    home = mount_dir / "h"
    monkeypatch.setenv("AVFS_HOME", str(home / "avfs"))
    yield home
    os.chdir("/")
    with Avfs(home / "avfs") as avfs:
        for info in avfs.sessions():
            with suppress(ProcessLookupError):  # one that was about to end when it was listed
                os.kill(info.pid, signal.SIGTERM)


@pytest.fixture
def at(mount_dir: Path) -> Path:
    """Where to mount."""
    return mount_dir / "m"


@pytest.fixture
def task(cli: Cli, work: str, at: Path) -> Path:
    """A mount of fork `task` of vault `work`, beside its fork `main` and another vault, `other`, the current one."""
    cli("fork", "create", "task").ok()
    cli("mount", "task", str(at)).ok()
    cli("vault", "create", "other", "--use").ok()
    return at


@pytest.fixture
def clone(cli: Cli, work: str, project: Path, at: Path) -> Path:
    """A folder with one fork, `one`, which is not mounted any more."""
    cli("fork", str(project), f"{at}/one").ok()
    cli("stop", f"{at}/one").ok()
    return project


def meant(ran: Ran) -> str:
    """Say which vault and fork a document names."""
    request = ran.ok().document["request"]
    return f"{request['vault']}@{request['fork']}"


def options(ran: Ran) -> list[str]:
    """List what a hint says to write behind `--vault`."""
    return re.findall(r"`--vault ([^`]+)`", ran.stderr)


ENVIRONMENTS: list[tuple[dict[str, str], list[str]]] = [
    ({"AVFS_VAULT": "other"}, ["work@task", "other"]),
    ({"AVFS_VAULT": "other@main"}, ["work@task", "other@main"]),
    ({"AVFS_FORK": "main"}, ["work@task", "work@main"]),
    ({"AVFS_VAULT": "work", "AVFS_FORK": "main"}, ["work@task", "work@main"]),
    ({"AVFS_VAULT": "nosuch"}, ["work@task"]),
    ({"AVFS_VAULT": "work@nosuch"}, ["work@task"]),
]


@pytest.mark.parametrize(("env", "hints"), ENVIRONMENTS)
def test_a_change_is_refused_where_directory_and_environment_disagree(
    cli: Cli, task: Path, env: Mapping[str, str], hints: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are named, and each hint works as it stands; what only looks shows the directory's and warns."""
    monkeypatch.chdir(task)
    for verb in (
        ["write", "x", "1"],
        ["checkpoint", "save"],
        ["undo"],
        ["stop"],
        ["exec", "--", "true"],
        ["rm", "README"],
    ):
        refused = cli(*verb, env=env)
        assert refused.status == (125 if verb[0] == "exec" else 2), refused.stderr
        assert f"the mount '{task}' shows fork 'task' of vault 'work', but " in refused.stderr
        assert ("which is not there" in refused.stderr) == (len(hints) == 1)
        assert all(name in refused.stderr for name in env)
        assert options(refused) == hints
    for option in hints:
        vault, _, fork = option.partition("@")
        assert meant(cli("write", "/x", "1", "--vault", option, "--json", env=env)) == f"{vault}@{fork or 'main'}"

    looked = cli("status", "--json", env=env)
    assert meant(looked) == "work@task"
    assert [told["code"] for told in looked.document["warnings"]] == ["place.disputed"]
    assert (
        "`avfs --vault work --fork task checkpoint save [LABEL]`"
        in at_terminal("status", env={"COLUMNS": "200", **env})[1]
    )


@pytest.mark.parametrize(
    "env",
    [
        {},
        {"AVFS_VAULT": ""},
        {"AVFS_VAULT": "work"},
        {"AVFS_FORK": "task"},
        {"AVFS_VAULT": "work@task"},
        {"AVFS_VAULT": "task"},
    ],
)
def test_a_directory_and_an_environment_that_agree(
    cli: Cli, task: Path, env: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment that names less, nothing, or the same is in nobody's way."""
    monkeypatch.chdir(task)
    assert meant(cli("write", "x", "1", "--json", env=env)) == "work@task"
    assert cli("status", env=env).ok().stderr == "(vault work, fork task)\n"
    assert "`avfs checkpoint save [LABEL]`" in at_terminal("status", env={"COLUMNS": "200", **env})[1]


@pytest.mark.usefixtures("person")
def test_an_option_settles_it(cli: Cli, task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--fork` alone is of the vault stood in.

    `--vault` alone means the default fork of the named vault, or the fork stood in if that is in the named vault.
    """
    monkeypatch.chdir(task)
    env = {"AVFS_FORK": "main"}
    assert meant(cli("touch", "x", "--fork", "main", "--json")) == "work@main"
    assert meant(cli("touch", "x", "--fork", "task", "--json", env=env)) == "work@task"
    assert meant(cli("touch", "/y", "--vault", "other", "--json", env=env)) == "other@main"
    assert meant(cli("touch", "x", "--vault", "work", "--json", env=env)) == "work@task"
    assert meant(cli("touch", "x", "--vault", str(task.parent / "h/avfs/vaults/work.git"), "--json")).endswith("@task")
    assert meant(cli("update", "main", "--json", env={"AVFS_FORK": "task"})) == "work@main"
    # A fork alone does not say of which vault, where the two disagree on that.
    assert options(cli("touch", "x", "--fork", "main", env={"AVFS_VAULT": "other"})) == ["work@main", "other@main"]

    monkeypatch.chdir("/")
    assert meant(cli("touch", "/z", "--json", env={"AVFS_VAULT": "work", **env})) == "work@main"
    assert meant(cli("touch", "/z", "--json")) == "other@main"


def test_arguments_that_name_the_fork_settle_it_as_options_do(
    cli: Cli, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fork that is named twice must be the same."""
    monkeypatch.chdir(task)
    env = {"AVFS_FORK": "main"}
    cli("checkpoint", "save").ok()
    assert cli("fork", "info", "main", "--json", env=env).ok().document["warnings"] == []
    assert meant(cli("merge", "task", "--into", "main", "--json", env=env)) == "work@main"
    assert meant(cli("rebase", "task", "--onto", "main", "--json", env=env)) == "work@task"
    cli("fork", "create", "next", "--from", "main", env=env).ok()
    cli("fork", "delete", "next", env=env).ok()
    for words in (
        ["update", "main"],
        ["rebase", "main", "--onto", "task"],
        ["merge", "task", "--into", "main"],
        ["pull", "main"],
    ):
        refused = cli(*words, "--fork", "task")
        assert (refused.status, "named twice, as 'task' and 'main'" in refused.stderr) == (2, True)


def test_paths_are_relative_to_the_working_directory(cli: Cli, task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a mount, as in git; with a leading slash from the root. One that leads out is refused by its name."""
    (task / "src/deep").mkdir()
    (task / "src/deep/new").write_text("1\n")
    cli("checkpoint", "save", "one", "--vault", "work@task").ok()
    monkeypatch.chdir(task / "src")

    def paths(*words: str) -> list[str]:
        result = cli(*words, "--json").ok().result
        listed = next(iter(result.values())) if isinstance(result, dict) else result
        return [entry["path"] for entry in listed] if isinstance(listed, list) else [str(listed)]

    assert paths("ls") == ["src"]
    assert [entry["path"] for entry in cli("ls", "--json").result["entries"]] == [
        "src/data.bin",
        "src/deep",
        "src/main.py",
    ]
    assert cli("tree", "--json").result["tree"]["info"]["path"] == "src"
    assert cli("cat", "main.py").ok().text == cli("cat", "/src/main.py").text == cli("cat", "./deep/../main.py").text
    assert cli("cat", "../README").text == "hello\n"
    assert paths("stat", "main.py", "../README") == ["src/main.py", "README"]
    assert cli("log", "deep/new", "--json").result["path"] == "src/deep/new"
    cli("write", "deep/new", "2").ok()
    assert (task / "src/deep/new").read_text() == "2"
    for words in (
        ["diff", "--", "deep"],
        ["diff", "--path", "deep/new"],
        ["show", "--path", "deep"],
        ["diff", "HEAD", "--", "."],
    ):
        assert "src/deep/new" in cli(*words).ok().text
    assert "README" not in cli("show", "--", ".").text
    cli("mv", "deep/new", "moved").ok()
    cli("cp", "moved", "../copied").ok()
    cli("mkdir", "made").ok()
    cli("rm", "moved").ok()
    assert sorted(entry.name for entry in (task / "src").iterdir()) == ["data.bin", "deep", "made", "main.py"]
    assert (task / "copied").read_text() == "2"
    cli("checkout", "deep/new", "--at", "one").ok()
    assert (task / "src/deep/new").read_text() == "1\n"
    cli("write", "deep/new", "3").ok()
    cli("checkpoint", "restore", "one", "deep").ok()
    assert (task / "src/deep/new").read_text() == "1\n"
    (task / "src/kept.log").write_text("1")
    assert cli("add", "-f", "kept.log", "--json").ok().result["changed_files"][0]["path"] == "src/kept.log"
    cli("import", str(task.parent / "h/avfs/current"), "imported").ok()
    assert (task / "src/imported").exists()
    cli("export", "main.py", str(task.parent / "exported")).ok()
    assert cli("exec", "--", "pwd").ok().text == f"{task}/src\n"
    assert cli("exec", "--cwd", "deep", "--", "pwd").ok().text == f"{task}/src/deep\n"

    for typed in ("../../x", "deep/../../../x", ".."):
        refused = cli("cat", typed if typed != ".." else "../..")
        assert (refused.status, "leads out of the workspace" in refused.stderr) == (2, True)
    assert "'../../x'" in cli("write", "../../x", "1").stderr
    assert cli("cat", "main.py", "--vault", "other").status == 25
    cli("write", "main.py", "1", "--vault", "other").ok()
    assert cli("cat", "/main.py", "--vault", "other").text == "1"
    assert cli("cat", "main.py", "--fork", "main").ok().text.startswith("print(1)")
    absolute = cli("cat", str(task / "src/main.py"))
    assert (absolute.status, "`/src/main.py`" in absolute.stderr) == (2, True)


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("overlay", marks=pytest.mark.needs("root", "overlayfs")),
        pytest.param("portable", marks=pytest.mark.needs("libfuse")),
    ],
)
def test_every_kind_of_mount_says_which_fork(
    cli: Cli, work: str, at: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where an option names the fork, the one argument of `mount` is the directory."""
    cli("fork", "create", "task").ok()
    monkeypatch.chdir(at.parent)
    cli("mount", "--vault", "work@task", "--backend", backend, at.name).ok()
    monkeypatch.chdir(at / "src")
    assert meant(cli("write", "new", "1", "--json")) == "work@task"
    assert (at / "src/new").read_text() == "1"
    assert cli("exec", "--", "pwd").text == f"{at}/src\n"
    assert options(cli("touch", "x", env={"AVFS_FORK": "main"})) == ["work@task", "work@main"]


@pytest.mark.needs("root")
@pytest.mark.parametrize("backend", [pytest.param("overlay", marks=pytest.mark.needs("overlayfs")), "fuse"])
def test_a_part_of_a_tree_bound_elsewhere_is_refused_by_name(
    cli: Cli, work: str, at: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, `..` and the root are others than in the tree; the whole tree bound elsewhere is the tree."""
    cli("mount", "--vault", work, "--backend", backend, str(at)).ok()
    whole, part = at.parent / "whole", at.parent / "part"
    for tree, place in ((at, whole), (at / "src", part)):
        place.mkdir()
        subprocess.run(["mount", "--bind", tree, place], check=True)
    try:
        monkeypatch.chdir(whole / "src")
        cli("write", "new", "1").ok()
        assert (at / "src/new").read_text() == "1"
        monkeypatch.chdir(part)
        for verb in (
            ["write", "main.py", "2"],
            ["cat", "main.py"],
            ["rm", "main.py"],
            ["status"],
            ["diff", "--", "main.py"],
            ["exec", "--", "true"],
            ["stop"],
            ["unmount", str(part)],
        ):
            refused = cli(*verb)
            assert (refused.status != 0, "`mount --bind` shows '/src' of one there" in refused.stderr) == (True, True)
        assert (at / "src/main.py").read_text().startswith("print(1)")
        assert not (at / "main.py").exists()
        cli("write", "/src/main.py", "2", "--vault", f"{work}@main").ok()
        assert (part / "main.py").read_text() == "2"
    finally:
        os.chdir("/")
        for place in (part, whole):
            subprocess.run(["umount", "-l", place], check=True)


def test_a_read_only_mount_says_which_fork_too(cli: Cli, task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the mount of an older state."""
    cli("mount", "--vault", "work@main", "--readonly", f"{task}-ro").ok()
    monkeypatch.chdir(f"{task}-ro/src")
    assert meant(cli("ls", "--json")) == "work@main"
    cli("cat", "main.py").ok()


def test_a_mount_of_a_whole_vault(cli: Cli, task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fork is the one whose part of the tree one stands in; at the top none is chosen."""
    cli("checkpoint", "save", "one", "--vault", "work@task").ok()
    cli("fork", "create", "team/x", "--vault", "work@task").ok()
    cli("checkpoint", "save", "two", "--vault", "work@team/x").ok()
    whole = Path(f"{task}-all")
    cli("mount", "work", str(whole), "--all").ok()
    for place, expected in {
        "": "work@main",
        "forks": "work@main",
        "forks/task/src": "work@task",
        "checkpoints": "work@main",
        "checkpoints/team": "work@main",
        "checkpoints/team/x": "work@team/x",
        "checkpoints/team/x/two/src": "work@team/x",
        f"commits/{cli('log', '--vault', 'work@task', '--json').result['entries'][0]['checkpoint']['id']}/src": "work@main",
    }.items():
        monkeypatch.chdir(whole / place)
        assert meant(cli("ls", "--json", env={"AVFS_VAULT": "work"})) == expected
        assert meant(cli("ls", "--json", env={"AVFS_FORK": expected.partition("@")[2]})) == expected
        if place.endswith("src"):
            cli("cat", "main.py").ok()
    monkeypatch.chdir(whole)
    assert meant(cli("touch", "x", "--json", env={"AVFS_FORK": "task"})) == "work@task"
    assert cli("touch", "x", env={"AVFS_VAULT": "other"}).status == 2


def test_a_folder_that_has_forks_says_which_vault(
    cli: Cli, clone: Path, at: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also below it; paths are relative there, too. With several forks it is asked which one."""
    vault = cli("fork", "list", "--vault", "one", "--json").document["request"]["vault"]
    monkeypatch.chdir(clone / "src")
    assert meant(cli("status", "--json")) == f"{vault}@one"
    assert cli("cat", "main.py").ok().text.startswith("print(1)")
    assert cli("cat", "../README").ok().text == "hello\n"
    cli("write", "fresh", "1").ok()
    assert cli("cat", "/src/fresh").text == "1"
    assert cli("cat", "../../x").status == 2
    assert options(cli("write", "fresh", "1", env={"AVFS_VAULT": "work"})) == [vault, "work"]
    assert meant(cli("write", "fresh", "1", "--json", env={"AVFS_FORK": "one"})) == f"{vault}@one"

    cli("fork", str(clone), f"{at}/two").ok()
    cli("stop", f"{at}/two").ok()
    for verb in (
        ["status"],
        ["write", "fresh", "1"],
        ["log"],
        ["undo"],
        ["exec", "--", "true"],
        ["fork", "create", "three"],
    ):
        asked = cli(*verb)
        assert asked.status in {21, 125}, asked.stderr
        assert f"vault '{vault}' has several forks and no default: 'one', 'two'" in asked.stderr
        assert "--fork NAME" in asked.stderr
    assert meant(cli("status", "--fork", "two", "--json")) == f"{vault}@two"
    cli("show", "one").ok()  # a state that needs no fork to be found


@pytest.mark.parametrize("verb", ["stop", "unmount", "end"])
@pytest.mark.parametrize("named", [("--vault", "other"), ("--vault", "work@main"), ("--fork", "main")])
def test_a_directory_and_an_option_that_name_two_forks_end_no_mount(
    cli: Cli, task: Path, verb: str, named: tuple[str, str]
) -> None:
    """Both are named; an option that says what the directory says is in no way."""
    refused = cli(*named, verb, str(task))

    assert refused.status == 2
    assert f"'{task}' is a mount of fork 'task' of vault 'work', and the command line names " in refused.stderr
    assert cli("unmount", str(task), "--vault", "work", "--fork", "task", "--json").result["outcome"] == "unmounted"


@pytest.mark.parametrize("verb", ["stop", "unmount"])
def test_no_mount_of_another_fork_is_ended(
    cli: Cli, clone: Path, at: Path, verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The only mount is not meant just for that: a command without a fork follows the rule for all commands."""
    monkeypatch.chdir(clone)
    cli("fork", str(clone), f"{at}/two").ok()
    refused = cli(verb, "--json").document["error"]
    assert (refused["code"], refused["hint"]) == ("fork.not_chosen", f"Say which mount: `avfs {verb} two`.")
    assert (at / "two" / "README").exists()
    cli("fork", "delete", "one").ok()
    assert cli(verb, "--json").result["outcome"] == "unmounted"  # the only fork is the default one


def test_a_vault_whose_forks_are_gone_says_so(cli: Cli, clone: Path, at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It makes no empty one; what it says to do can be done."""
    monkeypatch.chdir(clone)
    cli("fork", "delete", "one").ok()
    for verb in (["status"], ["write", "fresh", "1"], ["fork", "create", "next"], ["mount"]):
        gone = cli(*verb)
        assert (gone.status, "has no fork" in gone.stderr) == (21, True)
        assert f"`avfs fork {clone} DIR`" in gone.stderr
    assert cli("fork", "list", "--json").result["forks"] == []
    cli("undo").ok()
    assert [fork["name"] for fork in cli("fork", "list", "--json").result["forks"]] == ["one"]


def test_the_innermost_directory_counts(cli: Cli, clone: Path, work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mount in a folder that has forks is a mount; a folder below it is of the folder."""
    cli("mount", "--vault", "work@main", str(clone / "empty")).ok()
    monkeypatch.chdir(clone / "empty/src")
    assert meant(cli("status", "--json")) == "work@main"
    monkeypatch.chdir(clone / "src")
    assert meant(cli("status", "--json")).endswith("@one")


def test_a_directory_that_is_gone_says_nothing(
    cli: Cli, work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows what it was: only an option does without it."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    for verb in (["status"], ["write", "x", "1"], ["stop"], ["fork", "list"], ["ls"]):
        refused = cli(*verb, "--json", env={"AVFS_VAULT": "work"})
        assert refused.document["error"]["code"] == "host.directory_gone"
    assert meant(cli("write", "x", "1", "--vault", "work", "--json")) == "work@main"
    cli("vault", "list").ok()


@pytest.mark.parametrize(
    ("words", "env", "said"),
    [
        ([], {"AVFS_VAULT": "nosuch"}, "there is no vault 'nosuch' (AVFS_VAULT names it)"),
        ([], {"AVFS_FORK": "nosuch"}, "there is no fork 'nosuch' in vault 'work' (AVFS_FORK names it)"),
        ([], {"AVFS_VAULT": "work@nosuch"}, "there is no fork 'nosuch' in vault 'work' (AVFS_VAULT names it)"),
        (["--fork", "nosuch"], {}, "there is no fork 'nosuch' in vault 'work'\n"),
        (["--vault", "nosuch"], {}, "there is no vault 'nosuch'\n"),
        (["--fork", "src/main"], {}, "there is no fork 'src/main' in vault 'work'"),
        (["--fork", "../src"], {}, "'../src' is not a usable fork name"),
        (
            [],
            {"AVFS_FORK": "../src"},
            "'../src' is not a usable fork name: git allows no '..' in it (AVFS_FORK names it)",
        ),
        (["--fork", ""], {}, "--fork is empty"),
        (["--vault", ""], {}, "--vault is empty"),
        (["--vault", "work@"], {}, "--vault names no fork behind the '@' of 'work@'"),
        ([], {"AVFS_VAULT": "work@"}, "AVFS_VAULT names no fork behind the '@' of 'work@'"),
    ],
)
def test_what_is_not_there_is_named_with_where_it_was_looked_for(
    cli: Cli,
    work: str,
    words: list[str],
    env: Mapping[str, str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the variable that names it, if one does."""
    monkeypatch.chdir(tmp_path)
    for verb in (["status"], ["write", "x", "1"], ["exec", "--", "true"], ["log"]):
        assert said in cli(*words, *verb, env=env).stderr


def test_a_directory_in_place_of_a_name_is_answered_with_the_name(
    cli: Cli, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mount is no vault and no fork; what it shows is told."""
    monkeypatch.chdir(task.parent)
    for words in (["--vault", str(task)], ["--vault", f"./{task.name}"], ["--vault", task.name], ["--fork", task.name]):
        refused = cli("status", *words)
        assert refused.status != 0
        assert f"The mount '{task}' shows fork 'task' of vault 'work': say `--vault work@task`." in refused.stderr
    monkeypatch.chdir(task / "src")
    assert "from the root of the workspace they begin with `/`" in cli("cat", "README").stderr
    assert "begin with `/`" not in cli("cat", "/nosuch").stderr
    refused = cli("touch", "x", "--fork", "task", env={"AVFS_VAULT": "other"})
    assert "AVFS_VAULT names vault 'other', which has no fork 'task'" in refused.stderr


@pytest.mark.parametrize("backend", ["overlay", "fuse", "checkout"])
def test_what_a_command_is_told_agrees_with_its_tree(cli: Cli, clone: Path, backend: str, tmp_path: Path) -> None:
    """Also where it sees the tree at a folder that has forks in another vault."""
    script = f"{shlex.quote(sys.executable)} -m avfs_git status"
    (tmp_path / "policy/avfs").mkdir(parents=True)
    (tmp_path / "policy/avfs/policy.toml").write_text(
        'version = 1\n[[rule]]\nname = "all"\naction = "allow"\nreason = "test"\n'
    )
    env = {"XDG_CONFIG_HOME": str(tmp_path / "policy")}
    for at in ([], ["--at", str(clone)]) if backend == "overlay" else ([],):
        ran = cli("exec", "--vault", "work", "--backend", backend, *at, "-c", script, env=env)
        assert "work.git' is hidden from commands" in ran.stderr, ran.stderr
        assert "Run avfs outside of the command" in ran.stderr  # a name of a fork would be that of the command inside


def test_hooks_are_told_their_vault_and_fork(
    cli: Cli, task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the environment of the command names."""
    cli("hooks", "install", "--vault", "work").ok()
    hook = next(
        Path(info["path"])
        for info in cli("hooks", "list", "--vault", "work", "--json").result["hooks"]
        if info["name"] == "post-checkpoint"
    )
    hook.write_text(f'#!/bin/sh\necho "$AVFS_VAULT@$AVFS_FORK" > {tmp_path}/told\n')
    hook.chmod(0o755)
    cli("hooks", "enable", "post-checkpoint", "--vault", "work").ok()
    for fork in ("main", "task"):
        cli("write", "/new", fork, "--vault", f"work@{fork}").ok()
        cli("checkpoint", "save", "--vault", f"work@{fork}", env={"AVFS_VAULT": "other", "AVFS_FORK": "main"}).ok()
        vault, _, told = (tmp_path / "told").read_text().strip().rpartition("@")
        assert (Path(vault).name, told) == ("work.git", fork)


LOOKS = {
    "attempts compare": "",
    "approvals list": "",
    "apply": "task --to {dir} --dry-run",
    "audit": "",
    "cat": "README",
    "checkpoint diff": "one",
    "checkpoint info": "one",
    "checkpoint list": "",
    "checkpoint restore": "one --dry-run",
    "blame": "README",
    "diff": "",
    "where": "",
    "doctor": "",
    "find": "--max-depth 1",
    "fork config": "task",
    "fork info": "",
    "fork list": "",
    "gc": "--dry-run",
    "prune": "--keep 1 --dry-run",
    "grep": ". --include *",
    "search": "the",
    "stats": "",
    "hooks list": "",
    "plugins list": "",
    "log": "",
    "ls": "",
    "maintain": "--status",
    "merge": "main --dry-run",
    "meta get": "README",
    "meta tags": "",
    "op log": "",
    "op show": "1",
    "op restore": "2 --dry-run",
    "op undo": "5 --dry-run",
    "overlap": "",
    "policy check": "-- true",
    "policy path": "",
    "policy show": "",
    "proxy exec": "--dry-run -- true",
    "proxy inspect": "",
    "remote list": "",
    "sessions": "",
    "show": "",
    "stat": "README",
    "status": "",
    "tree": "",
    "vault config": "",
    "vault info": "",
}
"""Verbs that change nothing, with arguments with which they do not."""
CHANGES = {
    "audit": "--release 1",
    "add": "README",
    "apply": "--to {dir}",
    "approvals deny": "x",
    "approvals grant": "x",
    "checkout": "README --at one",
    "checkpoint delete": "one",
    "checkpoint restore": "one",
    "checkpoint save": "",
    "cherry-pick": "one",
    "cp": "README x",
    "doctor": "--repair",
    "export": "README {dir}/x",
    "fetch": "",
    "fork config": "task quota.fork_files 9",
    "fork create": "next",
    "fork delete": "task",
    "fork rename": "task next",
    "gc": "",
    "prune": "--keep 1",
    "hooks disable": "post-exec",
    "hooks enable": "post-exec",
    "hooks install": "",
    "plugins disable": "guard",
    "plugins enable": "guard",
    "import": "{dir} -r",
    "maintain": "",
    "merge": "main",
    "meta delete": "README key",
    "meta set": "README key value",
    "meta tag": "README one",
    "meta untag": "README one",
    "mkdir": "x",
    "mount": "",
    "mv": "README x",
    "op restore": "1",
    "op undo": "1",
    "prefetch": "",
    "proxy exec": "-- true",
    "proxy finish": "",
    "proxy prepare": "",
    "proxy rollback": "",
    "pull": "",
    "push": "",
    "rebase": "--onto main",
    "redo": "",
    "remote add": "x y",
    "remote remove": "x",
    "remote set-url": "x y",
    "resolve": "README",
    "revert": "README",
    "rm": "README",
    "attempts pick": "1",
    "run": "-- true",
    "shell": "",
    "squash": "HEAD~1..HEAD",
    "stop": "",
    "touch": "x",
    "undo": "",
    "unmount": "",
    "update": "",
    "vault config": "exec.notes 0",
    "write": "x 1",
}
"""All others, and those of them that have both."""
ELSEWHERE = {
    "clone",
    "end",
    "hook",
    "fork dir",
    "mcp",
    "completion",
    "schema",
    "setup",
    "vault create",
    "vault delete",
    "vault fork",
    "vault list",
    "vault rename",
    "vault trust",
    "watch",
    "vault use",
}
"""Verbs whose arguments name the vault or the directory: where they are called says nothing to them."""


def all_verbs(group: click.Command = table.program, words: str = "") -> Iterator[tuple[str, Verb]]:
    """List all verbs as people type them."""
    if isinstance(group, click.Group):
        for name in group.list_commands(click.Context(group)):
            command = group.get_command(click.Context(group), name)
            assert command is not None
            yield from all_verbs(command, f"{words} {name}".strip())
    elif isinstance(group, Verb):
        yield {"exec": "proxy exec", "sessions list": "sessions"}.get(words, words), group


def test_every_verb_is_in_a_table() -> None:
    """A verb that says it looks is among those that are shown to."""
    verbs = dict(all_verbs())
    assert set(verbs) == set(LOOKS) | set(CHANGES) | ELSEWHERE
    assert {words for words, verb in verbs.items() if verb.facts.get("looks")} - ELSEWHERE == set(LOOKS)
    assert {words for words, verb in verbs.items() if verb.facts.get("looks") is True} - ELSEWHERE == set(LOOKS) - set(
        CHANGES
    )


def test_what_looks_changes_nothing(cli: Cli, task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refs, operation log and workspaces stay as before, even with unsaved work; the output says where it looked."""
    cli("checkpoint", "save", "one", "--vault", "work@task").ok()
    cli("proxy", "prepare", "--vault", "work@task").ok()
    cli("write", "/README", "unsaved", "--vault", "work@task").ok()
    cli("write", "/README", "unsaved as well", "--vault", "work@main").ok()
    (task / "src/by-program").write_text("1")
    vault = task.parent / "h/avfs/vaults/work.git"
    monkeypatch.chdir(task)

    def state() -> dict[str, bytes]:
        places = [
            vault / "HEAD",
            vault / "packed-refs",
            *vault.glob("refs/**/*"),
            *vault.glob("avfs/oplog"),
            *vault.glob("avfs/workspaces/**/*"),
        ]
        # A lock says who held it last.
        return {str(place): place.read_bytes() for place in places if place.is_file() and place.name != "lock"}

    for words, arguments in LOOKS.items():
        before = state()
        ran = cli(*words.split(), "--json", *arguments.format(dir=tmp_path).split(), env={"AVFS_VAULT": "other"})
        assert ran.document["error"] is None, (words, ran.document)
        after = state()
        assert {place for place in {*before, *after} if before.get(place) != after.get(place)} == set(), words
        if words != "sessions":  # it lists those of all vaults
            assert ran.document["request"]["vault"] == "work", words
            assert [told["code"] for told in ran.document["warnings"]].count("place.disputed") == 1, words


def test_what_changes_is_refused_where_the_vault_is_not_clear(
    cli: Cli, task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every verb that does not look."""
    monkeypatch.chdir(task)
    for words, arguments in CHANGES.items():
        typed = arguments.format(dir=tmp_path).split()
        ran = cli(*words.split(), "--json", *typed, env={"AVFS_VAULT": "other"})
        assert (ran.document["error"] or {}).get("code") == "input.place_disputed", (words, ran.document)


def test_a_server_for_agents_is_refused_where_the_vault_is_not_clear(
    cli: Cli, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its calls name no vault. A server that only reads takes the directory, and warns; an option decides."""
    monkeypatch.chdir(task)
    for env in ({"AVFS_VAULT": "other"}, {"AVFS_FORK": "main"}):
        refused = cli("mcp", env=env)
        assert refused.status == 2, refused.stderr
        assert f"the mount '{task}' shows fork 'task' of vault 'work', but " in refused.stderr
        looking = cli("mcp", "--read-only", env=env)
        assert (looking.status, "this shows the former" in looking.stderr) == (0, True)
        chosen = cli("mcp", "--vault", "work@task", env=env)
        assert (chosen.status, chosen.stderr) == (0, "")


def test_a_mounted_fork_whose_branch_git_deleted_says_how_it_comes_back(
    cli: Cli, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every command names what happened and what to type, in the mount and outside.

    Doing it brings branch and files back.
    """
    (task / "new").write_text("not saved\n")
    monkeypatch.chdir(task)
    git_dir = cli("vault", "info", "--json").result["path"]
    subprocess.run(["git", "-C", git_dir, "update-ref", "-d", "refs/heads/task"], check=True)

    looks = ["status", "ls", "cat README", "log", "diff", "fork info task"]
    for words in [*looks, "checkpoint save", "write x 1", "exec -- true", "stop"]:
        ran = cli(*words.split())
        assert "there is no fork 'task' in vault 'work' any more: git has deleted its branch\n" in ran.stderr, (
            words,
            ran,
        )
        assert "`avfs undo --fork task`" in ran.stderr
        assert "`avfs unmount task`" in ran.stderr
    monkeypatch.chdir(task)  # `stop` left it
    mounted = cli("undo")
    print(mounted)
    assert (mounted.status, f"`avfs unmount {task}`" in mounted.stderr) == (29, True)

    monkeypatch.chdir("/")
    again = cli("fork", "create", "task", "--vault", "work")
    assert again.status == 29
    assert f"`avfs --vault work unmount {task}`" in again.stderr
    assert "`avfs --vault work undo --fork task`" in again.stderr
    cli("unmount", "task", "--vault", "work").ok()
    assert "`avfs --vault work undo --fork task`" in cli("status", "--vault", "work@task").stderr
    cli("undo", "--fork", "task", "--vault", "work").ok()
    assert cli("cat", "new", "--vault", "work@task").ok().text == "not saved\n"


def test_avfs_alone_says_where_one_is(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is named; a vault that has no fork of its own choice; a fork with unsaved work.

    For people and for programs.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AVFS_VAULT", raising=False)
    assert cli().ok().text == "No vault is named here.\n"
    assert cli("--json").ok().result["vault"] is None
    cli("vault", "create", "v").ok()
    cli("--vault", "v", "write", "a", "1").ok()
    assert cli("--vault", "v").ok().text == "Fork main of vault v\n1 path not saved\n"
    cli("--vault", "v", "checkpoint", "save").ok()
    assert cli("--vault", "v", "--json").ok().result["status"]["clean"]
    assert cli("--vault", "v", "where").ok().text == "Fork main of vault v\nEverything is saved\n"
    assert "`avfs --vault v log`" in plain(at_terminal("--vault", "v")[1])
    assert cli("--vault", "nosuch").status == 11


def test_avfs_alone_tells_to_undo_only_what_undo_takes_back(cli: Cli, tmp_path: Path) -> None:
    """Where nothing was done yet, or all of it is taken back, undo is refused, and is no advice."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "a").write_text("1")
    cli("vault", "create", "v", "--from", f"{tmp_path}/source").ok()

    def is_advised() -> bool:
        shown = plain(at_terminal("--vault", "v")[1])
        assert "Fork main of vault v" in shown
        assert (cli("--vault", "v", "--json").ok().result["undo"] is not None) == ("undo`" in shown)
        return "undo`" in shown

    assert not is_advised()
    assert cli("--vault", "v", "undo").status == 36
    cli("--vault", "v", "write", "a", "2").ok()
    assert is_advised()
    assert cli("--vault", "v", "--json").ok().result["undo"]["description"] == "write 'a'"
    cli("--vault", "v", "checkpoint", "save").ok()
    assert is_advised()
    cli("--vault", "v", "undo").ok()
    assert is_advised()
    cli("--vault", "v", "undo").ok()
    assert not is_advised()


def test_avfs_alone_in_a_clone(cli: Cli, clone: Path, at: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the clone, the fork, and where that is mounted."""
    monkeypatch.chdir(clone)
    assert cli().ok().text.startswith(f"Fork one of '{clone}', in vault ")
    cli("fork", ".", f"{at}/two").ok()
    assert ": 2 forks, none is named here\n" in cli().ok().text
    monkeypatch.chdir(at / "two")
    assert f"\nMounted at '{at}/two'\nEverything is saved\n" in cli().ok().text
    assert cli("--json").ok().result["undo"] is None  # the fork itself is taken back once it is not mounted


def test_two_variables_do_not_name_two_forks(cli: Cli, task: Path) -> None:
    """What they would change is refused, and what they would show; an option decides."""
    env = {"AVFS_VAULT": "work@main", "AVFS_FORK": "task"}
    for verb in (["write", "x", "1"], ["ls"]):
        refused = cli(*verb, env=env)
        assert refused.status == 2
        assert "AVFS_VAULT names the fork 'main', AVFS_FORK the fork 'task'" in refused.stderr
    assert meant(cli("--fork", "task", "status", "--json", env=env)) == "work@task"

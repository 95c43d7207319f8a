"""Wrong command lines: refused without a trace, with hints that mean the same vault and fork."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from avfs_git import Avfs
from tests.support.cli import Cli
from tests.support.oracle import git
from tests.support.plugins import install_guard

REFUSED = [
    ("revert", "nosuch"),
    ("checkout", "nosuch", "--at", "HEAD"),
    ("checkpoint", "restore", "HEAD", "nosuch"),
    ("add", "nosuch"),
]


@pytest.mark.parametrize("words", REFUSED)
def test_a_path_that_is_nowhere_saves_nothing(cli: Cli, work: str, words: tuple[str, ...]) -> None:
    """A command that is refused leaves the branch and the unsaved work as they were."""
    cli("write", "unsaved.txt", stdin=b"mine\n").ok()
    before = cli("--json", "status").ok().result

    assert cli("--json", *words).document["error"]["code"] == "path.not_found"
    assert cli("--json", "status").ok().result == before


@pytest.mark.parametrize("words", [("rm", "-r", ""), ("ls", ""), ("checkout", "", "--at", "HEAD"), ("mkdir", "")])
def test_an_empty_path_is_refused(cli: Cli, work: str, words: tuple[str, ...]) -> None:
    """An unset variable of a script is not the current directory."""
    assert cli("--json", *words).document["error"]["code"] == "input.invalid_path"


EMPTY_FORKS = ["mount", "shell", "fork info", "update", "pull", "watch", "merge side --into", "rebase --onto side"]
EMPTY_FORKS += ["--fork main run --keep --name", "--fork main run --attempts 2 --name"]


@pytest.mark.parametrize("words", EMPTY_FORKS)
def test_an_empty_fork_is_refused(cli: Cli, work: str, words: str) -> None:
    """An unset variable of a script is not the default fork, as an empty option is not."""
    cli("fork", "create", "side").ok()
    before = cli("--json", "op", "log").ok().result

    program = ["true"] if " run " in words else []
    error = cli("--json", *words.split(), "", *program).document["error"]
    assert error["message"] == "'' is not a usable fork name: it is empty"

    assert cli("--json", "op", "log").ok().result == before
    assert cli("--json", "sessions").ok().result == {"sessions": []}


@pytest.mark.parametrize(
    "words", ["log --patch -n", "log -n N README", "op log -n", "audit -n", "search README --limit"]
)
def test_a_huge_limit_is_no_limit(cli: Cli, work: str, words: str) -> None:
    """It is shown what there is, whatever git and SQLite take as a number."""
    cli("write", "README", stdin=b"the README\n").ok()
    cli("checkpoint", "save").ok()
    plain = words.replace(" -n N", "").replace(" -n", "").replace(" --limit", "").split()
    limit = "9" * 30
    limited = words.replace("N", limit).split() if "N " in words else [*words.split(), limit]

    assert cli(*limited).ok().text == cli(*plain).ok().text


def test_undo_names_what_came_back_beside_history(cli: Cli, work: str) -> None:
    """An ignored file that comes back is in the result and in the text."""
    cli("write", ".gitignore", stdin=b".env\n").ok()
    cli("write", ".env", stdin=b"SECRET=1\n").ok()
    cli("checkpoint", "save").ok()
    cli("rm", ".env").ok()

    undone = cli("--json", "undo").ok().result

    assert [(change["kind"], change["path"]) for change in undone["sidecar_changed"]] == [("added", ".env")]
    assert "D\t.env" in cli("redo").ok().text
    assert "A\t.env" in cli("undo").ok().text


def test_the_hint_at_a_misspelt_verb_keeps_the_vault(cli: Cli, work: str) -> None:
    """What the command line named is in the command that the hint tells."""
    cli("vault", "create", "elsewhere", "--use").ok()

    assert f"`avfs --vault {work} --fork main status`" in cli("--vault", f"{work}@main", "statsu").stderr


def test_the_hint_at_the_log_keeps_the_fork(cli: Cli, work: str) -> None:
    """The log that is worth a look is that of the fork in which nothing is left to do again."""
    assert f"`avfs --vault {work} --fork main op log`" in cli("--vault", f"{work}@main", "redo").stderr


@pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout")
def test_end_says_what_a_mount_shows(cli: Cli, work: str, mount_dir: Path) -> None:
    """A mount of a fork of a vault is not said to be none, and the hint ends it."""
    place = mount_dir / "m"
    cli("mount", "main", str(place)).ok()
    try:
        ran = cli("end", str(place))
    finally:
        cli("stop", str(place)).ok()

    assert ran.status == 54
    assert "there is no mount" not in ran.stderr
    assert f"`avfs stop {place}`" in ran.stderr


def test_a_fork_without_a_vault_is_no_vault(cli: Cli, work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`@main` does not mean the current directory, also where that is a repository."""
    with Avfs(Path(os.environ["AVFS_HOME"])) as avfs, avfs.open_vault(work) as vault:
        monkeypatch.chdir(vault.path)

    assert cli("--json", "--vault", "@main", "status").document["error"]["code"] == "input.invalid_name"


def test_no_hint_names_the_fork_that_is_not_there(cli: Cli, work: str, tmp_path: Path) -> None:
    """The name that was wrong is in no command of the hint."""
    ran = cli("apply", "nosuch", "--to", str(tmp_path))

    assert "no fork 'nosuch'" in ran.stderr
    assert "--fork nosuch" not in ran.stderr


def test_no_name_is_suggested_for_itself(cli: Cli, work: str) -> None:
    """HEAD where there is no commit; a label of another fork is suggested with that."""
    cli("fork", "create", "other").ok()
    cli("--fork", "other", "checkpoint", "save", "release").ok()
    cli("vault", "create", "empty").ok()

    assert "hint: See them with" in cli("--vault", "empty", "show").stderr
    assert "Did you mean 'other@release'?" in cli("--vault", work, "fork", "create", "new", "--at", "release").stderr
    assert "Did you mean 'other@release'?" in cli("--vault", work, "show", "other@releas").stderr
    assert "Did you mean 'release'" not in cli("--vault", work, "show", "releas").stderr


def test_the_label_that_a_hint_names_can_be_deleted(cli: Cli, work: str) -> None:
    """One of another fork as FORK@LABEL, in that fork's log; a label of the fork at hand goes before."""
    cli("fork", "create", "other").ok()
    cli("--fork", "other", "checkpoint", "save", "release").ok()
    cli("checkpoint", "save", "other@release").ok()
    cli("checkpoint", "delete", "other@release").ok()

    assert "Did you mean 'other@release'?" in cli("checkpoint", "delete", "release").stderr
    assert "no checkpoint 'nosuch' in fork 'other'" in cli("checkpoint", "delete", "other@nosuch").stderr
    assert "no checkpoint 'nosuch@release'" in cli("checkpoint", "delete", "nosuch@release").stderr
    cli("checkpoint", "info", "other@release").ok()

    deleted = cli("checkpoint", "delete", "other@release", "--json").ok().result

    assert (deleted["label"], deleted["checkpoint"]["fork"]) == ("release", "other")
    assert cli("checkpoint", "info", "other@release").status == 31
    cli("--fork", "other", "undo").ok()
    cli("checkpoint", "info", "other@release").ok()


WAYS_OUT = [
    ("commit -m x", "`avfs checkpoint save`"),
    ("comit -m x", "`avfs checkpoint save`"),
    ("prepar", "`avfs proxy prepare`"),
    ("rollbak", "`avfs checkpoint restore LABEL`"),
    ("branch", "`avfs fork`"),
    ("switch task", "`avfs --fork NAME COMMAND`"),
    ("restore x", "`avfs checkpoint restore HEAD PATH`"),
    ("reset --hard", "`avfs checkpoint restore HEAD`"),
    ("reset first", "`avfs checkpoint restore LABEL`"),
    ("stash pop", "`avfs checkpoint restore LABEL`"),
    ("switch -c x", "`avfs fork create`"),
    ("branch -d task", "`avfs fork delete`"),
    ("branch -a", "`avfs fork list`"),
    ("checkout -b x", "`avfs fork create NAME`"),
    ("checkout task", "`avfs checkpoint restore LABEL`"),
    ("amend", "`avfs checkpoint save`"),
    ("co task", "`avfs checkout`"),
    ("st", "`avfs status`"),
    ("info", "`avfs vault info`"),
    ("compact", "`avfs gc`"),
    ("versions README", "`avfs log PATH`"),
    ("repo clone x", "`avfs clone`"),
    ("git push", "`avfs exec git push`"),
    ("chmod +x 'a b'", "`avfs exec chmod +x 'a b'`"),
    ("op revert 3", "`avfs op undo`"),
    ("remote show origin", "`avfs remote list`"),
    ("remote -v", "`avfs remote list`"),
    ("attempts show", "`avfs attempts compare`"),
    ("add -A", "`avfs checkpoint save`"),
    ("diff --cached", "`avfs diff`"),
    ("log --author Ada", "`git log` has more"),
    ("log HEAD", "`avfs show HEAD`"),
    ("log main..task", "`avfs diff main..task`"),
    ("show HEAD:README", "`avfs cat --at HEAD README`"),
    ("cat HEAD:README", "`avfs cat --at HEAD README`"),
    ("ls '*.py'", "`avfs find --name '*.py'`"),
    ("search hello world", "`avfs search 'hello world'`"),
    ("undo README", "`avfs revert PATH`"),
    ("log -n", "`avfs log --help`"),
    ("exec -c", "`avfs exec --help`"),
    ("run 'ls -l'", "`avfs run sh -c 'ls -l'`"),
    ("end nosuch", "`avfs fork delete NAME`"),
    ("fork nosuch ../x", "`avfs fork create NAME`"),
    ("op restore 1", "`avfs checkpoint restore ID`"),
    ("fork create 'my fork'", "'my-fork' is usable"),
    ("vault create 'my vault'", "'my-vault' is usable"),
    ("vault config gc.keep_day 3", "Did you mean 'gc.keep_days'?"),
    ("find --size 1M", "`--min-size 1M`"),
    ("find --depth 1", "`--max-depth`"),
    ("grep -e x", "`A|B`"),
    ("doctor --fix", "`--repair`"),
    ("--fork", "`avfs --help`"),
    ("push --force", "`--force-with-lease`"),
    ("init", "`avfs vault create`"),
    ("help status", "`avfs --help`"),
    ("umount x", "`avfs unmount`"),
    ("create fork x", "`avfs vault create`"),
    ("statsu", "`avfs status`"),
    ("stash", "`avfs checkpoint save LABEL`"),
    ("rename a b", "`avfs mv`"),
    ("evolog src/app.py", "`avfs log PATH`"),
    ("annotate src/app.py", "`avfs blame`"),
    ("repo list", "`avfs vault list`"),
    ("checkpoint create x", "`avfs checkpoint save`"),
    ("vault use wrok", "Did you mean 'work'?"),
    ("--vault wrk status", "Did you mean 'work'?"),
    ("--fork tsk status", "Did you mean 'task'?"),
    ("fork delete tsk", "Did you mean 'task'?"),
    ("merge taks", "Did you mean 'task'?"),
    ("checkpoint info HAED", "Did you mean 'HEAD'?"),
    ("fork new x", "`avfs fork create`"),
    ("fork rm x", "`avfs fork delete`"),
    ("fork mv a b", "`avfs fork rename`"),
    ("vault rm x", "`avfs vault delete`"),
    ("vault mv a b", "`avfs vault rename`"),
    ("vault show", "`avfs vault info`"),
    ("checkpoint new x", "`avfs checkpoint --help`"),
    ("ls nosuch", "`avfs tree /`"),
    ("cat src/nosuch", "`avfs tree /`"),
    ("log nosuch", "`avfs find --at HEAD --ignored`"),
    ("add nosuch", "`avfs tree /`"),
    ("stat nosuch", "`avfs tree /`"),
    ("cp nosuch x", "`avfs tree /`"),
    ("mv nosuch x", "`avfs tree /`"),
    ("rm src", "with `-r`"),
    ("rm empty/../src", "with `-r`"),
    ("merge", "`avfs fork list`"),
    ("rebase", "`avfs rebase --onto main`"),
    ("diff nosuch", "write it behind `--`"),
    ("push origin", "`--remote origin`"),
    ("checkout task", "`--fork NAME`"),
    ("fork delete main", "or another fork"),
    ("undo 3", "`avfs op undo NUMBER`"),
    ("cat src", "`avfs ls /src`"),
    ("mkdir nosuch/b", "`-p` makes"),
    ("fork merge task", "Did you mean `avfs merge`?"),
    ("fork push task", "Did you mean `avfs push`?"),
    ("vault undo", "Did you mean `avfs undo`?"),
    ("fork checkout task", "`avfs --fork NAME COMMAND`"),
    ("fork 42", "`avfs fork create 42` makes one"),
    ("checkpoint 'two words'", "`avfs checkpoint save 'two words'` makes one"),
    ("vault delete wrok", "Did you mean 'work'?"),
    ("log -5", "`-n 5`"),
    ("find -name x", "`--name`"),
    ("log --since x", "`git log` has more"),
    ("checkpoint save --messag x", "`--message`"),
    ("run nosuch-program", "write where it is"),
    ("run", "`avfs run --help`"),
    ("squash HEAD", "`avfs squash --help`"),
    ("worktree create x", "`avfs fork create`"),
    ("worktree add x", "`avfs fork create`"),
    ("worktree rename a b", "`avfs fork rename`"),
    ("branch -m a b", "`avfs fork rename`"),
    ("branch newname", "`avfs fork`"),
    ("quota set 1G", "`avfs vault config`"),
    ("label v1", "`avfs checkpoint save LABEL`"),
    ("tag -d v1", "`avfs checkpoint delete LABEL`"),
    ("tag -l", "`avfs checkpoint list`"),
    ("stash list", "`avfs checkpoint list`"),
    ("stash drop", "`avfs checkpoint delete LABEL`"),
    ("reset --hard HEAD~1", "`avfs checkpoint restore 'HEAD~1'`"),
    ("remote rm origin", "Did you mean `avfs remote remove`?"),
    ("remote delete origin", "Did you mean `avfs remote remove`?"),
    ("remote prune origin", "See `avfs remote --help`."),
    ("remote update", "See `avfs remote --help`."),
    ("plugins rm guard", "Did you mean `avfs plugins disable`?"),
    ("plugins add guard", "Did you mean `avfs plugins enable`?"),
    ("hooks rm pre-push", "Did you mean `avfs hooks disable`?"),
    ("meta rm README owner", "Did you mean `avfs meta delete`?"),
    ("ls task:src", "of a directory `avfs find --at task src`"),
    ("cat --at HEAD src", "`avfs find --at HEAD /src`"),
    ("cherry-pick main..task", "name single states"),
    ("revert HEAD", "`avfs op undo NUMBER`"),
    ("watch task", "`avfs mount task`"),
    ("fork create x --at origin/main", "`avfs fetch origin` first"),
    ("add build.log", "`avfs add --force /build.log`"),
    ("--vault empty push main --remote origin", "`avfs --vault empty checkpoint save --fork main`"),
    ("op undo 1", "`avfs op show 1`"),
    ("--fork tsk undo", "Did you mean 'task'?"),
    ("--fork tsk redo", "Did you mean 'task'?"),
    ("--fork tsk undo --dry-run", "Did you mean 'task'?"),
]


def test_what_people_type_who_know_other_programs_has_a_way_out(cli: Cli, work: str, project: Path) -> None:
    """Each wrong line is refused with what to type instead, and changes neither history nor files."""
    cli("fork", "create", "task").ok()
    cli("remote", "add", "origin", str(project)).ok()
    cli("vault", "create", "empty").ok()
    cli("--vault", "empty", "remote", "add", "origin", str(project)).ok()
    before = cli("op", "log", "--json").result, cli("tree", "--json").result
    puzzling = []
    for line, way in WAYS_OUT:
        refused = cli(*shlex.split(line))
        if refused.status == 0 or way not in refused.stderr.partition("hint: ")[2]:
            puzzling.append((line, refused.stderr))
    assert puzzling == []
    assert (cli("op", "log", "--json").result, cli("tree", "--json").result) == before


@pytest.mark.parametrize("verb", ["cp", "mv"])
def test_a_destination_that_is_missing_is_named(cli: Cli, work: str, verb: str) -> None:
    """Where the directory of the destination is not there, the error names that, and not the source, which is."""
    refused = cli(verb, "README", "nosuch/README")
    assert (refused.status, "there is nothing at '/nosuch'\n" in refused.stderr) == (25, True)
    cli("cat", "README").ok()


def test_a_damaged_fork_is_not_pushed_without_a_word(cli: Cli, work: str, tmp_path: Path) -> None:
    """`push --all` says which fork it leaves out."""
    cli("vault", "create", "there").ok()
    cli("vault", "use", "work").ok()
    cli("remote", "add", "r", cli("vault", "info", "there", "--json").result["path"]).ok()
    cli("fork", "create", "bad").ok()
    Path(cli("vault", "info", "--json").result["path"], "refs/heads/bad").write_bytes(b"")

    pushed = cli("push", "--all", "--remote", "r")
    assert "'refs/heads/bad' is damaged: its file is empty: it is not pushed" in pushed.stderr


SAID: list[tuple[str, str]] = [
    ("mkdir nosuch/b/c", "there is nothing at '/nosuch/b'"),
    ("fork create a:b", "git allows no ':' in it"),
    ("fork list task", "there is one argument too many: 'task'"),
    ("fork merge task", "there is no command 'fork merge'"),
    ("cp src/a", "missing argument 'DESTINATION'"),
    ("mv src/a", "missing argument 'DESTINATION'"),
    ("setup", "missing argument 'HARNESS': one of claude, codex, gemini"),
    ("completion", ": one of bash, zsh, fish"),
    ("apply main", "missing option '--to'"),
    ("vault delete wrok", "there is no vault 'wrok'"),
    ("run nosuch-program", "there is no program 'nosuch-program' in the directories of PATH"),
]


def test_what_is_wrong_is_said_in_one_line(cli: Cli, work: str) -> None:
    """The message names what was typed or what is missing, as the usage line does."""
    for line, said in SAID:
        error = cli(*line.split()).stderr.partition("error: ")[2].partition("\n")[0]
        assert said in error, (line, error)


def test_a_mistyped_program_leaves_no_vault(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program is looked for before its directory is forked."""
    monkeypatch.chdir(tmp_path)

    assert cli("run", "nosuch-program").status == 127
    assert cli("--json", "vault", "list").ok().result["vaults"] == []


def test_a_taken_label_has_a_way_out(cli: Cli, work: str) -> None:
    """The hint frees the label as it is typed."""
    cli("checkpoint", "save", "first").ok()

    assert "`avfs checkpoint delete first`" in cli("checkpoint", "save", "first").stderr


def test_without_a_vault_the_way_to_the_first_one_is_told(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new user has none that could be named."""
    monkeypatch.chdir(tmp_path)
    refused = cli("status")

    assert "`avfs vault create NAME`" in refused.stderr
    cli("vault", "create", "NAME").ok()
    cli("status").ok()


@pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout")
def test_a_clone_with_forks_says_that_it_names_the_vault(
    cli: Cli, project: Path, mount_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who chooses another vault in there is told, and so is who means it."""
    monkeypatch.chdir(project)
    cli("fork", ".", str(mount_dir / "one")).ok()
    cli("stop", str(mount_dir / "one")).ok()
    cli("fork", ".", str(mount_dir / "two")).ok()
    cli("stop", str(mount_dir / "two")).ok()
    cli("vault", "create", "mine").ok()

    assert "`avfs --vault mine COMMAND`" in cli("vault", "use", "mine").ok().stderr
    assert "This directory means that vault" in cli("fork", "create", "x").stderr


def test_a_repository_is_not_named_as_a_vault_of_the_home(
    cli: Cli, work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results and hints name a repository in the working directory by its whole path."""
    monkeypatch.chdir(tmp_path)
    git("init", "-q", "--bare", work)

    made = cli("--json", "--vault", f"./{work}", "fork", "create", "side").ok()

    assert made.document["request"]["vault"] == made.result["vault"] == str(tmp_path / work)


def test_commands_in_hints_are_quoted_for_the_shell(cli: Cli, work: str) -> None:
    """A fork may have a name that a shell would take apart."""
    fork = "a&b;c#1"
    cli("fork", "create", fork).ok()

    for line in (["fork", "create", fork], ["log", fork], ["--fork", fork, "op", "undo", "1"]):
        assert f"'{fork}'" in cli(*line).stderr.partition("hint: ")[2], line


def test_the_hint_at_a_path_that_a_state_lacks_looks_at_that_state(cli: Cli, work: str) -> None:
    """What is there now is not what was asked for."""
    cli("write", "first", stdin=b"1")
    cli("checkpoint", "save", "one")
    for line in "cat later", "find later", "grep word later":
        refused = cli(*line.split(), "--at", "one")
        assert "there is nothing at '/later' in 'one'" in refused.stderr
        assert "find --at one" in refused.stderr.partition("hint: ")[2]


@pytest.mark.parametrize(
    ("words", "done"), [("mv a b c dir", "moved"), ("cp a b c dir", "copied"), ("rm a b c", "removed")]
)
def test_what_was_done_before_an_error_is_named(
    cli: Cli, work: str, words: str, done: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plug-in refuses the last of several paths, and those before it have their new place already."""
    monkeypatch.chdir(tmp_path)  # where nothing has these names
    code = "def decide(event):\n    return 'c stays' if event['path'] == 'c' else None\n"
    install_guard(tmp_path / "site", code, ("decide",), monkeypatch)
    cli("mkdir", "dir").ok()
    for name in ("a", "b", "c"):
        cli("write", name, stdin=b"").ok()
    cli("plugins", "enable", "decide").ok()

    error = cli(*words.split(), "--json").document["error"]

    assert error["code"] == "plugin.refused", error
    assert error["message"].endswith(f"c stays; {done} before: 'a', 'b'")
    assert error["details"]["done"] == ["a", "b"]

"""`avfs hook`: the events of coding agents, as their documentation has them, in a live tree and elsewhere."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avfs_git.cli.harness.events import HARNESSES, Event, read_event
from avfs_git.cli.harness.own import is_own_command
from avfs_git.sdk import Avfs
from avfs_git.session.control.step import save_step
from tests.support.cli import Cli, Ran

EVENTS = Path(__file__).parent / "events"


def _event(harness: str, name: str, cwd: Path, **fields: str) -> bytes:
    """Give a recorded event, with its places filled in."""
    text = json.dumps(json.loads((EVENTS / f"{harness}.json").read_text())[name])
    for field, value in {"cwd": str(cwd), **fields}.items():
        text = text.replace(f"${field.upper()}", json.dumps(value)[1:-1])
    return text.encode()


def _git(place: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=place, check=True, capture_output=True).stdout.decode().strip()


@pytest.fixture
def tree(cli: Cli, mount_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A live tree of a folder's fork `task`."""
    monkeypatch.setenv("AVFS_HOME", str(mount_dir / "home"))
    (mount_dir / "shop").mkdir()
    (mount_dir / "shop" / "main.py").write_text("one\n")
    cli("fork", str(mount_dir / "shop"), str(mount_dir / "task")).ok()
    yield mount_dir / "task"
    with Avfs(mount_dir / "home") as avfs:
        for session in avfs.sessions():
            with avfs.open_vault(session.vault) as vault:
                if (found := vault.find_session(session.fork)) is not None:
                    found.unmount(lazy=True)
                    found.wait()


def _log(cli: Cli, *more: str) -> list[dict[str, Any]]:
    found = cli("--vault", "shop", "--fork", "task", "log", "--json", *more).ok().result["entries"]
    return [entry["checkpoint"] for entry in found]


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("harness", HARNESSES)
def test_a_call_that_changed_something_is_a_checkpoint(cli: Cli, tree: Path, harness: str) -> None:
    """One each, which names session and call and no secret; `log --session` and `undo` speak in those."""
    (tree / "earlier").write_text("1")
    cli("hook", harness, stdin=_event(harness, "start", tree)).ok()
    assert _log(cli)[0]["message"].startswith("state before the session\n")
    before = len(_log(cli))
    after = _event(harness, "bash_after", tree)
    assert cli("hook", harness, stdin=after) == Ran(("hook", harness), 0, b"", "")
    assert len(_log(cli)) == before

    (tree / "made").write_text("1")
    cli("hook", harness, stdin=after).ok()
    cli("hook", harness, stdin=after).ok()
    (tree / "made").write_text("2")
    cli("hook", harness, stdin=_event(harness, "stop", tree)).ok()

    event = json.loads(after)
    session = event.get("session_id") or event["conversation_id"]
    made = _log(cli, "--session", session[:6])
    assert len(made) == 3
    assert not _log(cli, "--session", "another")
    assert f"Avfs-Session: {session}" in made[1]["message"]
    assert f"Avfs-Harness: {harness}" in made[1]["message"]
    assert "secret" not in made[1]["message"]
    assert made[1]["message"].splitlines()[0] in {
        "Bash: Run the tests",
        "bash: Run the tests",
        "Bash: make",
        "run_shell_command: make",
        "Shell: make",
    }
    cli("--vault", "shop", "--fork", "task", "undo").ok()
    assert (tree / "made").read_text() == "1"
    cli("--vault", "shop", "--fork", "task", "undo").ok()
    assert not (tree / "made").exists()


@pytest.mark.needs("fuse")
@pytest.mark.parametrize(
    ("harness", "given"),
    [
        ("claude", {"file_path": "$TREE/main.py"}),
        ("claude", {"command": "cd '../task' && echo 1 > main.py"}),
        ("codex", {"command": "*** Begin Patch\n*** Update File: ../task/main.py\n*** End Patch"}),
        ("gemini", {"command": "echo 1 > main.py", "dir_path": "../task"}),
        ("opencode", {"filePath": "$TREE/main.py"}),
    ],
)
def test_a_call_from_elsewhere_that_changes_a_live_tree_is_a_checkpoint(
    cli: Cli, tree: Path, harness: str, given: dict[str, str]
) -> None:
    """An agent in a fork keeps the clone as its directory: the file that it edits, or its `cd`, tells the tree."""
    (tree / "main.py").write_text("1\n")
    filled = {key: value.replace("$TREE", str(tree)) for key, value in given.items()}
    name = {"gemini": "AfterTool", "opencode": "tool.execute.after"}.get(harness, "PostToolUse")
    tool = "run_shell_command" if harness == "gemini" else "Bash" if "cd" in filled.get("command", "")[:2] else "Edit"
    event = {"hook_event_name": name, "cwd": str(tree.parent / "shop"), "tool_name": tool, "tool_input": filled}

    cli("hook", harness, stdin=json.dumps(event).encode()).ok()

    assert _git(tree, "status", "--porcelain") == ""
    assert _log(cli)[0]["message"].startswith(f"{tool}: ")


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("name", ["bash_before", "bash_after"])
def test_a_call_in_a_live_tree_loads_little(tree: Path, name: str) -> None:
    """Agents wait for it at each call: it does without click, without slow imports, and without the SDK."""
    heavy = {"click", "dataclasses", "inspect", "subprocess", "traceback", "rich", "pygit2", "git", "mfusepy"}
    heavy |= {"avfs_git.sdk", "avfs_git.workspace.vault.vault", "hashlib", "importlib.resources", "tempfile"}
    heavy |= {"avfs_git.model"} if name == "bash_before" else {"tree_sitter"}
    code = "import sys, avfs_git.cli.app as app; app.run(['hook', 'claude'])"
    event = _event("claude", name, tree, command="ls -l")

    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code], input=event, check=True, capture_output=True
    )

    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.decode().splitlines()}
    assert {"bash_before": "avfs_git.proxy.policy.policy", "bash_after": "avfs_git.session.control.step"}[
        name
    ] in loaded
    assert loaded & heavy == set()


@pytest.mark.needs("fuse")
def test_a_step_is_saved_without_the_vault_where_that_is_enough(tree: Path) -> None:
    """A session saves it by itself, and only what changed; where hooks may come with it, the vault is opened."""
    git_dir = tree.parent / "home" / "vaults" / "shop.git"
    (tree / "made").write_text("1")

    made, again = save_step(git_dir, "task", "a step\n\nAvfs-Call: 7"), save_step(git_dir, "task", "another step")

    assert made is not None
    assert made.checkpoint is not None
    assert again is not None
    assert (made.outcome, made.checkpoint.message) == ("created", "a step\n\nAvfs-Call: 7")
    assert [change.path for change in made.changed_files] == [b"made"]
    assert again.outcome == "unchanged"
    assert save_step(git_dir, "main", "a step of a fork that is not mounted") is None
    (git_dir / "avfs" / "hooks").mkdir(exist_ok=True)
    assert save_step(git_dir, "task", "a step") is None


@pytest.mark.needs("fuse")
def test_an_owners_hook_runs_at_a_step(cli: Cli, tree: Path) -> None:
    """The session runs no hooks: the program that saves does, and names the step."""
    hooks, said = tree.parent / "home" / "vaults" / "shop.git" / "avfs" / "hooks", tree.parent / "said"
    hooks.mkdir(exist_ok=True)
    (hooks / "post-checkpoint").write_text(f"#!/bin/sh\ncat >> {said}\n")
    (hooks / "post-checkpoint").chmod(0o755)
    cli("--vault", "shop", "hooks", "enable", "post-checkpoint").ok()
    (tree / "made").write_text("1")

    cli("hook", "claude", stdin=_event("claude", "bash_after", tree)).ok()

    assert "Run the tests" in said.read_text()


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("harness", HARNESSES)
def test_the_policy_is_asked_before_a_command(cli: Cli, tree: Path, harness: str) -> None:
    """Each harness hears it in its own words: silence for yes.

    A question where it can ask, else a refusal with the way out.
    """

    def ask(command: str) -> dict[str, Any] | None:
        ran = cli("hook", harness, stdin=_event(harness, "bash_before", tree, command=command)).ok()
        found: dict[str, Any] | None = json.loads(ran.text) if ran.text else None
        return found

    policy = tree.parent / "home" / "vaults" / "shop.git" / "avfs" / "policy.toml"
    policy.write_text(
        'version = 1\n[[rule]]\nname = "no-deploy"\ncommands = ["deploy"]\naction = "deny"\nreason = "deploys are '
        'made by hand"\n'
        '[[rule]]\nname = "ask-publish"\ncommands = ["publish"]\naction = "require_approval"\nreason = "it is seen '
        'by all"\n'
    )
    assert ask("ls -l") is None
    assert ask("avfs undo") is None
    assert ask("avfs exec --json -c 'publish --all'") is None  # it asks itself
    denied, asked = ask("cd src && deploy now"), ask("publish --all")
    assert denied is not None
    assert asked is not None
    if harness in {"gemini", "opencode"}:
        assert (denied["decision"], asked["decision"]) == ("deny", "deny")
        texts = denied["reason"], asked["reason"]
    elif harness == "cursor":
        assert (denied["permission"], asked["permission"]) == ("deny", "ask")
        texts = denied["agent_message"], asked["agent_message"]
    else:
        keys = {"hookEventName", "permissionDecision", "permissionDecisionReason"}
        both = keys - {"hookEventName"} if harness == "vscode" else set()
        assert set(denied) == {"hookSpecificOutput", *both}
        assert all(denied[key] == denied["hookSpecificOutput"][key] for key in both)
        assert set(denied["hookSpecificOutput"]) == keys
        verdicts = denied["hookSpecificOutput"]["permissionDecision"], asked["hookSpecificOutput"]["permissionDecision"]
        assert verdicts == ("deny", "deny" if harness == "codex" else "ask")
        texts = tuple(found["hookSpecificOutput"]["permissionDecisionReason"] for found in (denied, asked))
    assert "deploys are made by hand" in texts[0]
    assert "it is seen by all" in texts[1]
    if harness in {"codex", "gemini", "opencode"}:
        assert re.search(r"`avfs --vault shop approvals grant [0-9a-f]{12}`", texts[1])
    entries = (
        cli("--vault", "shop", "audit", "--outcome", "asked", "--outcome", "refused", "--json").ok().result["entries"]
    )
    assert [(entry["event"], entry["fork"], entry["details"]["harness"]) for entry in entries] == [
        ("hook_asked", "task", harness),
        ("hook_denied", "task", harness),
    ]
    assert entries[1]["details"]["command"] == "cd src && deploy now"


@pytest.mark.needs("fuse")
def test_codex_hears_its_own_words_from_the_hooks_of_claude_code(cli: Cli, tree: Path) -> None:
    """It runs the hooks of a plug-in of Claude Code, and takes `ask` for no answer: the command would run."""
    (tree.parent / "home" / "vaults" / "shop.git" / "avfs" / "policy.toml").write_text(
        'version = 1\n[[rule]]\nname = "ask"\ncommands = ["publish"]\naction = "require_approval"\nreason = "it is '
        'seen by all"\n'
    )
    ran = cli("hook", "claude", stdin=_event("codex", "bash_before", tree, command="publish")).ok()
    found = json.loads(ran.text)["hookSpecificOutput"]
    assert found["permissionDecision"] == "deny"
    assert "approvals grant" in found["permissionDecisionReason"]


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("hook", ["vscode", "claude"])
def test_the_local_agent_of_vs_code_is_understood(cli: Cli, tree: Path, hook: str) -> None:
    """Its events name their fields and tools otherwise than those of Copilot's agent.

    It runs the hooks of Claude Code, too.
    """
    (tree.parent / "home" / "vaults" / "shop.git" / "avfs" / "policy.toml").write_text(
        'version = 1\n[[rule]]\nname = "ask"\ncommands = ["publish"]\naction = "require_approval"\nreason = "it is '
        'seen by all"\n'
    )
    ran = cli("hook", hook, stdin=_event("vscode", "local_before", tree, command="publish")).ok()
    assert _verdict("vscode", ran.stdout)[0] == json.loads(ran.stdout)["permissionDecision"] == "ask"
    (tree / "main.py").write_text("two\n")
    cli("hook", hook, stdin=_event("vscode", "local_after", tree)).ok()
    assert _log(cli, "--session", "vscode-2")[0]["message"].splitlines()[0] == "replace_string_in_file: main.py"


@pytest.mark.needs("fuse")
def test_a_call_that_failed_is_a_checkpoint(cli: Cli, tree: Path) -> None:
    """A command may change files and fail then: Claude Code has an event of its own for that."""
    event = json.loads(_event("claude", "bash_after", tree))
    del event["tool_response"]
    event |= {"hook_event_name": "PostToolUseFailure", "error": "Exit code 1", "is_interrupt": False}
    before = len(_log(cli))
    (tree / "made").write_text("1")
    cli("hook", "claude", stdin=json.dumps(event).encode()).ok()
    assert len(_log(cli)) == before + 1


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("harness", ["codex", "gemini", "opencode"])
def test_a_harness_that_cannot_ask_opens_a_request(cli: Cli, tree: Path, harness: str) -> None:
    """One request waits however often the agent tries; when a person grants it, the same command is let in once."""
    (tree.parent / "home" / "vaults" / "shop.git" / "avfs" / "policy.toml").write_text(
        'version = 1\n[[rule]]\nname = "ask"\ncommands = ["publish"]\naction = "require_approval"\nreason = "it is '
        'seen by all"\n'
    )

    calls = itertools.count(1)

    def is_let_in(command: str) -> bool:
        event = _event(harness, "bash_before", tree, command=command).replace(b"call_1", b"call_%d" % next(calls))
        return not cli("hook", harness, stdin=event).ok().text

    def waiting() -> list[str]:
        return [one["id"] for one in cli("--vault", "shop", "approvals", "list", "--json").ok().result["approvals"]]

    assert not is_let_in("publish --all")
    assert not is_let_in("publish --all")
    (asked,) = waiting()
    with Avfs(tree.parent / "home") as avfs, avfs.open_vault("shop") as vault:
        vault.policy.grant(asked)
    assert not is_let_in("publish --some")
    assert is_let_in("publish --all")
    assert not is_let_in("publish --all")
    assert asked not in waiting()
    assert len(waiting()) == 2
    assert not is_let_in("publish " + "x" * (1 << 17))
    assert len(waiting()) == 2
    entries = cli("--vault", "shop", "audit", "--json").ok().result["entries"]
    assert [entry["event"] for entry in entries if entry["details"].get("approval") == asked] == [
        "hook_admitted",
        "approval_granted",
        "hook_asked",
        "hook_asked",
    ]


@pytest.mark.needs("fuse")
def test_two_hooks_of_one_call_use_one_grant(cli: Cli, tree: Path) -> None:
    """Codex with hooks of its own runs those of the plug-in for Claude Code, too; another call needs another grant."""
    (tree.parent / "home" / "vaults" / "shop.git" / "avfs" / "policy.toml").write_text(
        'version = 1\n[[rule]]\nname = "ask"\ncommands = ["publish"]\naction = "require_approval"\nreason = "it is '
        'seen by all"\n'
    )

    def is_let_in(hook: str, call: bytes) -> bool:
        event = _event("codex", "bash_before", tree, command="publish").replace(b"call_1", call)
        return not cli("hook", hook, stdin=event).ok().text

    assert [is_let_in(hook, b"call_1") for hook in ("codex", "claude")] == [False, False]
    with Avfs(tree.parent / "home") as avfs, avfs.open_vault("shop") as vault:
        (asked,) = vault.policy.approvals()
        vault.policy.grant(asked.id)
    assert [is_let_in(hook, b"call_2") for hook in ("codex", "claude")] == [True, True]
    assert [is_let_in(hook, b"call_3") for hook in ("codex", "claude")] == [False, False]
    entries = cli("--vault", "shop", "audit", "--event", "hook_admitted", "--json").ok().result["entries"]
    assert [entry["details"]["call"] for entry in entries] == ["019a-codex call_2"] * 2


@pytest.mark.needs("fuse")
def test_a_refusal_holds_where_it_cannot_be_recorded(cli: Cli, tree: Path) -> None:
    """The agent is refused the command, and told of the audit log."""
    root = tree.parent / "home" / "vaults" / "shop.git" / "avfs"
    (root / "policy.toml").write_text(
        'version = 1\n[[rule]]\nname = "no-deploy"\ncommands = ["deploy"]\naction = "deny"\nreason = "x"\n'
    )
    (root / "audit.ndjson").unlink()
    (root / "audit.ndjson").mkdir()

    event = _event("claude", "bash_before", tree, command="deploy now")
    ran = subprocess.run(
        [sys.executable, "-m", "avfs_git", "hook", "claude"], input=event, check=True, capture_output=True
    )

    assert json.loads(ran.stdout)["hookSpecificOutput"]["permissionDecision"] == "deny"
    assert b"audit.ndjson" in ran.stderr


@pytest.mark.needs("fuse")
def test_a_working_tree_of_claude_code_is_a_fork(cli: Cli, mount_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is ignored, in the shape that git's own have; its end hands the branch to the clone."""
    monkeypatch.setenv("AVFS_HOME", str(mount_dir / "home"))
    clone = mount_dir / "shop"
    clone.mkdir()
    _git(clone, "init", "-q", "-b", "main")
    (clone / ".gitignore").write_text(".env\nnode_modules/\n")
    _git(clone, "add", "-A")
    _git(clone, "commit", "-q", "-m", "one")
    (clone / ".env").write_text("KEY=1\n")
    (clone / "node_modules" / "pkg").mkdir(parents=True)

    create = _event("claude", "worktree_create", clone)
    place = Path(cli("hook", "claude", stdin=create).ok().text.splitlines()[-1])
    assert place.is_absolute()
    assert place.resolve() == place
    assert (place / ".env").read_text() == "KEY=1\n"
    assert (place / "node_modules" / "pkg").is_dir()
    assert ".claude/worktrees" not in str(place)
    git_dir, common = (
        Path(_git(place, "rev-parse", "--path-format=absolute", what)) for what in ("--git-dir", "--git-common-dir")
    )
    assert _git(place, "rev-parse", "--show-toplevel") == str(place)
    assert _git(place, "rev-parse", "--is-bare-repository") == "false"
    assert _git(place, "branch", "--show-current") == "bright-fox"
    assert git_dir.parent == common / "worktrees"
    assert (git_dir / "gitdir").read_text().strip() == str(place / ".git")
    assert not any(
        path.is_symlink()
        for path in (place / ".git", git_dir, git_dir / "HEAD", common / "refs", common / "refs" / "heads")
    )
    assert cli("hook", "claude", stdin=create).ok().text.splitlines()[-1] == str(place)  # it is there already

    (place / "made").write_text("1")
    (place / "node_modules" / "built").write_text("1")
    removed = cli("hook", "claude", stdin=_event("claude", "worktree_remove", clone, worktree=str(place))).ok()
    assert "the branch bright-fox" in removed.stderr
    assert (
        "1 ignored file that no push holds: 'node_modules/built'; `avfs --vault shop@bright-fox undo`" in removed.stderr
    )
    assert not (place / "made").exists()
    assert _git(clone, "show", "bright-fox:made") == "1"
    assert _git(clone, "branch", "--show-current") == "main"
    assert cli("--vault", "shop", "fork", "list", "--json").result["forks"] == []
    # A branch that the clone has is not the harness's: it stays where it is.
    place = Path(cli("hook", "claude", stdin=create).ok().text.splitlines()[-1])
    assert place.name == "bright-fox-2"
    cli("hook", "claude", stdin=_event("claude", "worktree_remove", clone, worktree=str(place))).ok()
    # One in which nothing was done leaves no branch.
    place = Path(cli("hook", "claude", stdin=create.replace(b"bright-fox", b"idle")).ok().text.splitlines()[-1])
    cli("hook", "claude", stdin=_event("claude", "worktree_remove", clone, worktree=str(place))).ok()
    assert _git(clone, "branch", "--list", "idle") == ""
    assert cli("hook", "claude", stdin=_event("claude", "worktree_remove", clone, worktree=str(clone))).ok().text == ""


@pytest.mark.needs("fuse")
def test_a_fork_of_somebody_is_no_working_tree_of_claude_code(cli: Cli, tree: Path) -> None:
    """Asked for a tree of its name, the hook makes one of another name.

    Told to remove it, the hook leaves it, and says so.
    """
    shop = tree.parent / "shop"
    (tree / "draft").write_text("private")
    create = _event("claude", "worktree_create", shop).replace(b"bright-fox", b"task")

    place = Path(cli("hook", "claude", stdin=create).ok().text.splitlines()[-1])
    assert (place.name, sorted(os.listdir(place))) == ("task-2", [".git", "main.py"])
    assert cli("hook", "claude", stdin=create).ok().text.splitlines()[-1] == str(place)  # it is there already
    left = cli("hook", "claude", stdin=_event("claude", "worktree_remove", shop, worktree=str(tree))).ok()
    assert "fork task stays" in left.stderr
    assert (tree / "draft").read_text() == "private"
    cli("hook", "claude", stdin=_event("claude", "worktree_remove", shop, worktree=str(place))).ok()
    assert [fork["name"] for fork in cli("--vault", "shop", "fork", "list", "--json").result["forks"]] == ["task"]

    # the same name and place, but a person's
    cli("--vault", "shop", "run", "--keep", "--name", "task-2", "--", "true").ok()
    again = Path(cli("hook", "claude", stdin=create).ok().text.splitlines()[-1])
    assert again.name == "task-3"


@pytest.mark.parametrize(
    ("arguments", "data", "status"),
    [
        (["claude"], b"", 1),
        (["claude"], b"[]", 1),
        (["claude"], b"{", 1),
        (["claude"], b'{"hook_event_name": "WorktreeCreate", "cwd": "/no such directory", "name": "x"}', 1),
        (["claude"], b'{"hook_event_name": "WorktreeCreate", "cwd": "/", "name": "a..b"}', 1),
        (["nosuch"], b"{}", 1),
        ([], b"{}", 1),
        # What cannot be read, and may come before a tool: the tool is refused.
        (["claude"], b'{"hook_event_name": "PreToolUse", "tool', 2),
        (["gemini"], b'{"hook_event_name": "BeforeTool", "tool_input": ' + b"[" * 100_000, 2),
        (["nosuch"], b'{"hook_event_name": "PreToolUse"}', 2),
        (["claude"], b'{"hook_event_name": "PostToolUse", "tool', 1),
    ],
)
def test_a_failure_lets_the_agent_go_on_but_not_run_a_command(
    cli: Cli, arguments: list[str], data: bytes, status: int
) -> None:
    """Status 1, with a message, which harnesses pass over; 2 refuses the tool."""
    ran = cli("hook", *arguments, stdin=data)
    assert (ran.status, ran.text) == (status, "")
    assert ran.stderr.startswith("avfs hook: ")


def _verdict(harness: str, answer: bytes) -> tuple[str, str]:
    """Give what a harness hears, and the reason."""
    found = json.loads(answer)
    found = found.get("hookSpecificOutput", found)
    verdict = found.get("permissionDecision") or found.get("permission") or found["decision"]
    assert verdict == ("ask" if harness in {"claude", "cursor", "vscode"} else "deny")
    return verdict, found.get("permissionDecisionReason") or found.get("user_message") or found["reason"]


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("harness", HARNESSES)
def test_no_command_runs_unasked_where_the_policy_cannot_be_asked(cli: Cli, tree: Path, harness: str) -> None:
    """A policy with an error, a damaged vault, a place that is none: harnesses pass over a hook that fails."""
    vault = tree.parent / "home" / "vaults" / "shop.git"
    policy = vault / "avfs" / "policy.toml"

    def reason(event: bytes) -> str:
        return _verdict(harness, cli("hook", harness, stdin=event).ok().stdout)[1]

    before = _event(harness, "bash_before", tree, command="ls")
    policy.write_text("nonsense")
    assert "policy.toml" in reason(before)
    policy.write_text(
        'version = 1\n[[rule]]\nname = "save"\ncommands = ["ls"]\naction = "allow_with_checkpoint"\nreason = "x"\n'
    )
    (vault / "avfs" / "format").rename(vault / "avfs" / "format.away")
    (vault / "avfs" / "format").write_text("999\n")
    try:
        assert "999" in reason(before)
    finally:
        (vault / "avfs" / "format.away").rename(vault / "avfs" / "format")
    assert "bug" in reason(_event(harness, "bash_before", tree / "a\0b", command="ls"))


@pytest.mark.needs("fuse")
def test_a_command_is_put_to_the_user_where_the_policy_takes_too_long(tree: Path) -> None:
    """Before the harness ends the hook and runs the command: here another process holds the lock of the audit log."""
    root = tree.parent / "home" / "vaults" / "shop.git" / "avfs"
    (root / "policy.toml").write_text(
        'version = 1\n[[rule]]\nname = "no-deploy"\ncommands = ["deploy"]\naction = "deny"\nreason = "x"\n'
    )
    event = _event("claude", "bash_before", tree, command="deploy")
    subprocess.run([sys.executable, "-m", "avfs_git", "hook", "claude"], input=event, check=True)
    code = "from avfs_git.cli import app; from avfs_git.cli.harness import hook; hook.ANSWERS_AFTER_S = 0.2; "
    code += "app.run(['hook', 'claude'])"
    with (root / "audit.lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run([sys.executable, "-c", code], input=event, check=True, capture_output=True)

    assert "no answer within" in _verdict("claude", done.stdout)[1]


@pytest.mark.needs("fuse")
def test_a_command_is_put_to_the_user_where_python_itself_is_held_up(tree: Path) -> None:
    """No thread of a process runs while one of its regular expressions or a library is at work."""
    event = _event("claude", "bash_before", tree, command="ls")
    code = "import re; from avfs_git.cli import app; from avfs_git.cli.harness import hook; hook.ANSWERS_AFTER_S = 1; "
    code += "hook._handle = lambda *_: re.match('(a*)*b', 'a' * 60); app.run(['hook', 'claude'])"

    done = subprocess.run([sys.executable, "-c", code], input=event, check=True, capture_output=True)

    assert "no answer within" in _verdict("claude", done.stdout)[1]


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("fault", ["full", "closed", "unread", "no process", "no memory"])
def test_a_command_is_refused_where_the_answer_cannot_be_found_or_written(tree: Path, fault: str) -> None:
    """A hook that says nothing, with a status other than 2, lets the command run."""
    (tree.parent / "home" / "vaults" / "shop.git" / "avfs" / "policy.toml").write_text(
        'version = 1\n[[rule]]\nname = "no-deploy"\ncommands = ["deploy"]\naction = "deny"\nreason = "x"\n'
    )
    event = _event("claude", "bash_before", tree, command="deploy")
    faults = {
        "no process": "import errno, os\ndef fork(): raise OSError(errno.EAGAIN, 'none')\nos.fork = fork",
        "no memory": "def fail(*_): raise MemoryError\nhook._try_in_time = fail",
    }
    code = f"from avfs_git.cli import app; from avfs_git.cli.harness import hook\n{faults.get(fault, '')}\n"
    code += "raise SystemExit(app.run(['hook', 'claude']))"
    to = {"full": " >/dev/full", "closed": " >&-"}.get(fault, "")
    reader, writer = os.pipe()
    os.close(reader)
    out = writer if fault == "unread" else subprocess.PIPE

    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -c "$1"{to}', sys.executable, code],
        input=event,
        check=False,
        stdout=out,
        stderr=subprocess.PIPE,
    )

    os.close(writer)
    assert done.returncode == 2
    assert not done.stdout
    assert done.stderr or fault == "unread"


@pytest.mark.parametrize("closed", ["<&-", "<&- >&- 2>&-"])
def test_a_hook_without_an_event_says_so(closed: str) -> None:
    """Also where its harness has closed the standard streams: the agent goes on."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m avfs_git hook claude {closed}', sys.executable], check=False, capture_output=True
    )

    assert done.returncode == 1
    assert b"is not JSON" in done.stderr or "2>&-" in closed


@pytest.mark.needs("fuse")
def test_a_broken_vault_lets_the_agent_go_on_after_a_call(cli: Cli, tree: Path) -> None:
    """The next call's checkpoint has what the failed one would have had."""
    vault = tree.parent / "home" / "vaults" / "shop.git"
    (tree / "x").write_text("1")
    os.rename(vault / "objects", vault / "objects.away")
    try:
        ran = cli("hook", "claude", stdin=_event("claude", "edit_after", tree))
        assert (ran.status, ran.text) == (1, "")
        # Copilot's agents show nothing of standard error.
        told = json.loads(cli("hook", "vscode", stdin=_event("vscode", "bash_after", tree)).ok().stdout)
        assert "objects" in told["additionalContext"]
        assert told["additionalContext"] == told["systemMessage"] == told["hookSpecificOutput"]["additionalContext"]
    finally:
        os.rename(vault / "objects.away", vault / "objects")
    cli("hook", "claude", stdin=_event("claude", "edit_after", tree)).ok()
    assert _log(cli)[0]["message"].startswith("Edit: main.py\n")


def test_nothing_happens_outside_of_a_live_tree(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor for an event that is not known: no vault is made, and no answer given."""
    for harness in HARNESSES:
        for name in ("bash_before", "bash_after", "stop"):
            event = _event(harness, name, tmp_path, command="rm -rf /")
            assert cli("hook", harness, stdin=event) == Ran(("hook", harness), 0, b"", "")
    assert cli("hook", "claude", stdin=b'{"hook_event_name": "Later"}') == Ran(("hook", "claude"), 0, b"", "")
    assert not Path(os.environ["AVFS_HOME"]).exists()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("avfs status", True),
        ("avfs checkpoint save 'tests pass' -m \"it is done\"", True),
        ("avfs exec --json -c 'a | b; c $X'", True),
        ("avfs exec -- rm --fork x", True),
        (("avfs", "undo"), True),
        ("avfs fork . ../try", True),
        ("avfs", False),
        ("", False),
        ("avfs gc", False),
        ("avfs approvals grant 1", False),
        ("avfs undo --fork other", False),
        ("avfs --vault other undo", False),
        ("avfs fork delete x", False),
        ("avfs end ../tree", True),
        ("avfs fork . ../a && avfs fork . ../b", True),
        ("avfs diff HEAD~1", True),
        ("avfs policy check -- rm -rf /", True),
        ("avfs policy allow x", False),
        ("avfs undo && ~/deploy", False),
        ("avfs show ~/x", False),
        ("avfs show --x=~/x", False),
        ("avfs fork /home/x/.ssh keys", False),
        ("avfs fork ../other keys", False),
        ("avfs fork dir /home/x/.ssh keys", False),
        ("avfs exec --stdin /home/x/.ssh/id_rsa -- cat", False),
        ("avfs exec --stdin=/home/x/.ssh/id_rsa -- cat", False),
        ("avfs end ../tree --discard", False),
        ("avfs checkpoint save x -m -- --fork other", False),
        ("avfs checkpoint save x -d -- --vault other", False),
        ("avfs exec -m -- --fork other -- deploy", False),
        ("avfs undo; rm -rf /", False),
        ("avfs undo && deploy", False),
        ("avfs undo&deploy", False),
        ("avfs undo > /etc/passwd", False),
        ("avfs undo \n deploy", False),
        ("avfs show $(deploy)", False),
        ("avfs show `deploy`", False),
        ("avfs show \"it's $(deploy) ain't\"", False),
        ("avfs show \\'$(deploy)\\'", False),
        ("avfs show <(deploy)", False),
        ("avfs show 'no end", False),
        ("X=1 avfs undo", False),
        ("./avfs undo", False),
    ],
)
def test_commands_of_avfs_about_the_present_fork_need_no_question(
    command: str | tuple[str, ...], expected: bool
) -> None:
    """And nothing that only begins like one."""
    assert is_own_command(command) is expected


@pytest.mark.parametrize(("key", "harness"), [("dir_path", "gemini"), ("workdir", "codex")])
def test_a_command_is_judged_where_it_runs(key: str, harness: str, tmp_path: Path) -> None:
    """A shell tool that names a directory runs its command there: the policy reads that as `cd`."""

    def read(where: str) -> Event:
        given = {"command": "cat key.pem", key: where}
        tool = "run_shell_command" if harness == "gemini" else "shell"
        event = {"hook_event_name": "BeforeTool", "cwd": str(tmp_path), "tool_name": tool, "tool_input": given}
        return read_event(harness, json.dumps(event).encode())

    assert read("my secrets").command == "cd 'my secrets' && cat key.pem"
    assert read(str(tmp_path)).command == read("./").command == "cat key.pem"


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("text", ["fix the \ud83d", "a\0b"])
@pytest.mark.parametrize("field", ["description", "tool_use_id", "session_id", "file_path"])
def test_no_text_of_a_harness_keeps_a_step_from_being_saved(cli: Cli, tree: Path, field: str, text: str) -> None:
    """Harnesses cut texts within a character; a commit takes no such text."""
    (tree / "a").write_text(text.encode("utf-8", "replace").decode())
    given = (
        {"command": "x", "description": text}
        if field == "description"
        else {"file_path": text}
        if field == "file_path"
        else {}
    )
    event = {"hook_event_name": "PostToolUse", "cwd": str(tree), "tool_name": "Bash", "tool_input": given, field: text}
    done = cli("hook", "claude", stdin=json.dumps(event).encode())

    assert (done.status, done.stderr) == (0, "")
    assert _git(tree, "status", "--porcelain") == ""


@pytest.mark.parametrize("harness", HARNESSES)
@pytest.mark.parametrize("command", [7, ["rm", 7]], ids=repr)
def test_a_command_of_another_kind_is_refused(cli: Cli, tmp_path: Path, harness: str, command: object) -> None:
    """The policy cannot be asked about it, so it must not run; an event that nests too deeply is no bug."""
    event = json.loads(_event(harness, "bash_before", tmp_path, command="ls"))
    assert cli("hook", harness, stdin=json.dumps(event).encode()).status == 0
    where = event if harness == "cursor" else event["tool_input"]
    where["command"] = command
    ran = cli("hook", harness, stdin=json.dumps(event).encode())
    assert (ran.status, "neither a text nor a list" in ran.stderr) == (2, True)
    if harness != "cursor":
        for odd in (["rm"], "rm", command):
            assert cli("hook", harness, stdin=json.dumps({**event, "tool_input": odd}).encode()).status == 2
    where["command"] = "DEEP"
    deep = json.dumps(event).replace('"DEEP"', "[" * 100_000 + "]" * 100_000)
    ran = cli("hook", harness, stdin=deep.encode())
    assert (ran.status, "bug in avfs" in ran.stderr) == (2, False)


def test_long_ids_and_names_are_cut() -> None:
    """They get into the message of a checkpoint."""
    event = {"hook_event_name": "PostToolUse", "tool_name": "Edit", "session_id": "s" * 9000, "tool_use_id": "c" * 9000}
    found = read_event("claude", json.dumps({**event, "tool_input": {"file_path": "f" * 9000}}).encode())
    assert (len(found.session), len(found.call), len(found.subject)) == (255, 255, 255)

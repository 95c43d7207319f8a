"""A fork for the OpenAI Agents SDK: its own runner with a scripted model, the shell tool and the apply-patch tool."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from agents import (
    Agent,
    ApplyPatchEditor,
    ApplyPatchOperation,
    ApplyPatchTool,
    RunConfig,
    RunContextWrapper,
    Runner,
    ShellActionRequest,
    ShellCallData,
    ShellCommandOutput,
    ShellCommandRequest,
    ShellTool,
)
from agents.testing.model import ScriptedModel
from openai.types.responses import (
    ResponseApplyPatchToolCall,
    ResponseFunctionShellToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)
from openai.types.responses.response_apply_patch_tool_call import OperationUpdateFile
from openai.types.responses.response_function_shell_tool_call import Action

from avfs_git import Home
from avfs_git.adapters.openai_agents import ForkEditor, ForkShell

pytestmark = pytest.mark.needs("overlayfs")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A home with a vault."""
    with Home(tmp_path / "home") as home:
        home.create_vault("shop").workspace().write_text("README", "one\ntwo\n")
    return tmp_path / "home"


@pytest.fixture
def shell(place: Path) -> Iterator[ForkShell]:
    """The executor."""
    made = ForkShell("shop", "main", home=place)
    yield made
    made.close()


@pytest.fixture
def editor(place: Path) -> Iterator[ForkEditor]:
    """The editor."""
    made = ForkEditor("shop", "main", home=place)
    yield made
    made.close()


def request(*commands: str, timeout_ms: int | None = None) -> ShellCommandRequest:
    """Make a call of the shell tool."""
    data = ShellCallData("call", ShellActionRequest(list(commands), timeout_ms=timeout_ms))
    return ShellCommandRequest(ctx_wrapper=RunContextWrapper(None), data=data)


def run(shell: ForkShell, *commands: str, timeout_ms: int | None = None) -> list[ShellCommandOutput]:
    """Run commands as the tool does."""
    return asyncio.run(shell(request(*commands, timeout_ms=timeout_ms))).output


def read(place: Path, path: str) -> str:
    """Read a file, by the SDK."""
    with Home(place) as home:
        return home.open_vault("shop").workspace().read_text(path)


def test_an_agent_works_in_a_fork(place: Path, shell: ForkShell, editor: ForkEditor) -> None:
    """The runner of the framework gives the model's calls to shell and editor, and the model their answers."""
    action = Action(commands=["cat README", "echo x > made"])
    patch = OperationUpdateFile(type="update_file", path="README", diff="@@\n one\n-two\n+2\n")
    text = ResponseOutputText(text="done", type="output_text", annotations=[])
    calls: list[Any] = [
        [ResponseFunctionShellToolCall(id="1", call_id="1", status="completed", type="shell_call", action=action)],
        [ResponseApplyPatchToolCall(id="2", call_id="2", status="completed", type="apply_patch_call", operation=patch)],
        [ResponseOutputMessage(id="3", role="assistant", status="completed", type="message", content=[text])],
    ]
    model = ScriptedModel(calls)
    agent = Agent(name="a", model=model, tools=[ShellTool(executor=shell), ApplyPatchTool(editor=editor)])

    done = asyncio.run(Runner.run(agent, "go", run_config=RunConfig(tracing_disabled=True)))

    assert done.final_output == "done"
    assert "one\\ntwo" in str(done.to_input_list())
    assert (read(place, "made"), read(place, "README")) == ("x\n", "one\n2\n")


def test_the_users_policy_holds(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the vaults are in another directory than the command line's."""
    (tmp_path / "config" / "avfs").mkdir(parents=True)
    rule = '[[rule]]\nname = "no-touch"\ncommands = ["touch"]\naction = "deny"\n'
    (tmp_path / "config" / "avfs" / "policy.toml").write_text(f"version = 1\n{rule}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    shell = ForkShell("shop", "main", home=place)
    assert (run(shell, "touch new")[0].stderr or "").startswith("policy.denied")
    shell.close()


def test_commands_are_commits(place: Path, shell: ForkShell) -> None:
    """Each has its status and output; what it changed is a commit; a time limit ends the call."""
    first, second, third = run(shell, "cat README; exit 3", "echo x > made", "cat none")

    assert (first.stdout, first.exit_code, first.provider_data) == ("one\ntwo\n", 3, None)
    assert second.provider_data is not None
    assert (third.exit_code, "No such file" in third.stderr) == (1, True)
    assert [each.status for each in run(shell, "sleep 60", "echo never", timeout_ms=300)] == ["timeout"]
    with Home(place) as home:
        assert home.open_vault("shop").workspace().list_checkpoints(limit=1)[0].id == second.provider_data["commit"]


def test_a_command_that_needs_a_person_runs_after_the_grant(place: Path, shell: ForkShell) -> None:
    """The model is told the way; the same command runs once it is granted, once, and a denied one never."""
    command = "curl --max-time 1 -s http://127.0.0.1:9/; echo ran > ran"
    (told,) = run(shell, command)
    (again,) = run(shell, command)
    with Home(place) as home:
        policy = home.open_vault("shop").policy
        (waiting,) = policy.approvals()
        assert f"`avfs --vault shop approvals grant {waiting.id}`" in told.stderr
        assert f"`avfs --vault shop approvals grant {waiting.id}`" in again.stderr
        policy.grant(waiting.id)

    (done,) = run(shell, command)
    (asked,) = run(shell, command)

    assert (done.exit_code, read(place, "ran")) == (0, "ran\n")
    assert "policy.approval_needed" in asked.stderr
    with Home(place) as home:
        policy = home.open_vault("shop").policy
        policy.deny(policy.approvals()[0].id)
    assert "policy.approval_refused" in run(shell, command)[0].stderr
    assert "policy.approval_needed" in run(shell, command)[0].stderr


def test_a_call_that_is_given_up_ends_its_command(place: Path, shell: ForkShell) -> None:
    """The fork is free afterwards."""

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(shell(request("sleep 500")), 1)

    asyncio.run(give_up())

    assert run(shell, "echo free")[0].stdout == "free\n"


def test_edits(place: Path, editor: ForkEditor) -> None:
    """Files are made, changed, moved and deleted; what does not fit or leads out is an answer, and changes nothing."""

    async def go() -> list[tuple[str | None, str | None]]:
        operations = [
            ApplyPatchOperation("create_file", "new/a.txt", "+a\n+b"),
            ApplyPatchOperation("update_file", "new/a.txt", "@@\n a\n-b\n+c\n"),
            ApplyPatchOperation("update_file", "new/a.txt", "@@\n-a\n+z\n c\n", move_to="moved.txt"),
            ApplyPatchOperation("create_file", "README", "+mine"),
            ApplyPatchOperation("update_file", "README", "@@\n-no such line\n+x\n"),
            ApplyPatchOperation("update_file", "none", "@@\n-a\n+b\n"),
            ApplyPatchOperation("create_file", "../out", "+x"),
            ApplyPatchOperation("create_file", str(place / "out"), "+x"),
            ApplyPatchOperation("delete_file", "README"),
        ]
        answers: list[tuple[str | None, str | None]] = []
        for operation in operations:
            change = {
                "create_file": editor.create_file,
                "update_file": editor.update_file,
                "delete_file": editor.delete_file,
            }
            result = await change[operation.type](operation)
            answers.append((result.status, result.output))
        return answers

    answers = asyncio.run(go())

    assert isinstance(editor, ApplyPatchEditor)
    assert [status for status, _ in answers] == ["completed"] * 3 + ["failed"] * 5 + ["completed"]
    assert [(text or "").partition(": ")[0] for _, text in answers[3:8]] == [
        "path.content_changed",
        "README",
        "path.not_found",
        "path.escapes",
        "input.invalid",
    ]
    assert read(place, "moved.txt") == "z\nc"
    with Home(place) as home:
        work = home.open_vault("shop").workspace()
        assert not work.exists("README")
        assert not work.exists("new/a.txt")
        assert work.undo().operation.kind == "files"
        assert work.read_text("README") == "one\ntwo\n"


def test_an_edit_is_one_operation(place: Path, editor: ForkEditor) -> None:
    """Undo takes back the last one only."""

    async def make() -> None:
        for name in ("x", "y"):
            await editor.create_file(ApplyPatchOperation("create_file", name, f"+{name}"))

    asyncio.run(make())
    with Home(place) as home:
        work = home.open_vault("shop").workspace()
        work.undo()
        assert (work.exists("x"), work.exists("y")) == (True, False)


@pytest.mark.parametrize("to", ["bin/run.sh", "README"])
def test_a_file_that_is_moved_keeps_what_it_is(place: Path, editor: ForkEditor, to: str) -> None:
    """Its mode and what is noted of it come along; where something is at the new path, nothing changes."""
    with Home(place) as home:
        work = home.open_vault("shop").workspace()
        work.write_text("run.sh", "one\n")
        work.chmod("run.sh", 0o755)
        work.set_meta("run.sh", "owner", b"ada")
    operation = ApplyPatchOperation("update_file", "run.sh", "@@\n-one\n+two\n", move_to=to)
    result = asyncio.run(editor.update_file(operation))
    with Home(place) as home:
        work = home.open_vault("shop").workspace()
        at = "run.sh" if to == "README" else to
        assert result.status == ("failed" if to == "README" else "completed")
        assert work.read_text(at) == ("one\n" if to == "README" else "two\n")
        assert (work.stat(at).mode & 0o777, [each.value for each in work.read_meta(at).entries]) == (0o755, [b"ada"])
        assert work.exists("run.sh") == (to == "README")


@pytest.mark.parametrize("file", ["file", "../file"])
def test_a_link_that_is_moved_leads_to_what_is_changed(place: Path, editor: ForkEditor, file: str) -> None:
    """Where it would lead to nothing at its new place, nothing changes."""
    with Home(place) as home:
        work = home.open_vault("shop").workspace()
        work.make_dir("d")
        work.write_text("file", "one\n")
        work.symlink("d/link" if file.startswith("..") else "link", file)
    path, to = ("d/link", "e/new") if file.startswith("..") else ("link", "e/new")
    operation = ApplyPatchOperation("update_file", path, "@@\n-one\n+two\n", move_to=to)
    result = asyncio.run(editor.update_file(operation))
    leads = file.startswith("..")
    assert (result.status, read(place, "file")) == (("completed", "two\n") if leads else ("failed", "one\n"))
    assert read(place, to if leads else path) == read(place, "file")

"""A fork as a sandbox of the OpenAI Agents SDK: its runner with a scripted model, sessions, snapshots, their ends."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path
from typing import Any

import pytest
from agents import RunConfig, Runner
from agents.sandbox import LocalSnapshotSpec, Manifest, SandboxAgent, SandboxRunConfig
from agents.sandbox.entries import File
from agents.sandbox.snapshot import NoopSnapshotSpec
from agents.testing.model import ScriptedModel
from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

from avfs_git import Home
from avfs_git.adapters.openai_sandbox import ForkSandboxClient, ForkSandboxOptions
from avfs_git.errors import CheckpointNotFound, InvalidInput

pytestmark = pytest.mark.needs("fuse", "user-xattrs", "whiteout")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A home with a vault."""
    with Home(tmp_path / "home") as home:
        work = home.create_vault("shop").workspace()
        work.write_text("README", "one\n")
        work.checkpoint("first")
        work.write_text("README", "two\n")
    return tmp_path / "home"


def forks(place: Path) -> list[str]:
    """List the forks of the vault that are sandboxes."""
    with Home(place) as home:
        return [fork.name for fork in home.open_vault("shop").list_forks() if fork.name != "main"]


def test_an_agent_works_in_a_session(place: Path) -> None:
    """The runner makes a fork, the model's command runs in it, and the fork is gone afterwards; `main` is as it was."""
    call = ResponseFunctionToolCall(
        id="1", call_id="1", name="exec_command", arguments='{"cmd": "cat README; echo x > made"}', type="function_call"
    )
    text = ResponseOutputText(text="done", type="output_text", annotations=[])
    last = ResponseOutputMessage(id="3", role="assistant", status="completed", type="message", content=[text])
    steps: list[Any] = [[call], [last]]
    agent = SandboxAgent(name="a", model=ScriptedModel(steps))
    sandbox = SandboxRunConfig(
        client=ForkSandboxClient(home=place), options=ForkSandboxOptions(vault="shop"), snapshot=NoopSnapshotSpec()
    )

    done = asyncio.run(Runner.run(agent, "go", run_config=RunConfig(tracing_disabled=True, sandbox=sandbox)))

    assert done.final_output == "done"
    assert "two" in str(done.to_input_list())
    assert forks(place) == []
    with Home(place) as home:
        assert not home.open_vault("shop").workspace().exists("made")


def test_a_session_is_a_fork(place: Path) -> None:
    """Files are those of the fork, and a command's changes are a checkpoint.

    `delete` deletes the fork, and undo restores it.
    """

    async def work() -> None:
        client = ForkSandboxClient(home=place)
        manifest = Manifest(entries={"given.txt": File(content=b"given\n")})
        session = await client.create(manifest=manifest, options=ForkSandboxOptions(vault="shop", at="first"))
        async with session:
            assert (await session.exec("cat", "README", "given.txt")).stdout == b"one\ngiven\n"
            await session.write(Path("sub/made"), io.BytesIO(b"made\n"))
            assert (await session.exec("mv sub/made moved; exit 3")).exit_code == 3
            with await session.read(Path("moved")) as file:
                assert file.read() == b"made\n"
            await session.pty_exec_start("echo typed > typed", yield_time_s=2)
            (fork,) = forks(place)
            with Home(place) as home:
                found = [one.message for one in home.open_vault("shop").workspace(fork).list_checkpoints(limit=2)]
            assert found == ["run: echo typed > typed", "run: mv sub/made moved; exit 3"]
        await client.delete(session)

    asyncio.run(work())

    assert forks(place) == []
    with Home(place) as home:
        vault = home.open_vault("shop")
        vault.undo()
        (fork,) = forks(place)
        assert vault.workspace(fork).read_text("moved") == "made\n"


def test_a_result_comes_back_where_a_checkpoint_is_refused(place: Path) -> None:
    """The command ran: its output and status are the answer, with the refusal behind them."""

    async def work() -> None:
        client = ForkSandboxClient(home=place)
        session = await client.create(options=ForkSandboxOptions(vault="shop"), snapshot=NoopSnapshotSpec())
        async with session:
            with Home(place) as home:
                home.open_vault("shop").set_config("quota.vault_bytes", "1000")
            full = await session.exec("echo out; echo x > x; exit 3")
            assert (full.exit_code, full.stdout) == (3, b"out\n")
            assert full.stderr.startswith(b"\navfs: no checkpoint was saved: ")
            assert b"no checkpoint was saved" in (await session.pty_exec_start("echo y > y", yield_time_s=2)).output
            with Home(place) as home:
                home.open_vault("shop").unset_config("quota.vault_bytes")
        await client.delete(session)

    asyncio.run(work())


@pytest.mark.parametrize("is_deleted", [False, True])
def test_a_snapshot_is_a_commit(place: Path, tmp_path: Path, is_deleted: bool) -> None:
    """What a session left is there again in another process, also if the fork was changed or deleted since."""

    async def begin() -> dict[str, object]:
        client = ForkSandboxClient(home=place)
        snapshot = LocalSnapshotSpec(base_path=tmp_path / "snapshots")
        session = await client.create(snapshot=snapshot, options=ForkSandboxOptions(vault="shop"))
        async with session:
            await session.exec("echo kept > kept")
        await client.delete(session)
        return client.serialize_session_state(session.state)

    async def resume(payload: dict[str, object]) -> bytes:
        client = ForkSandboxClient(home=place)
        session = await client.resume(client.deserialize_session_state(payload))
        async with session:
            return (await session.exec("cat kept README; ls")).stdout

    payload = asyncio.run(begin())
    (fork,) = forks(place)
    (saved,) = (tmp_path / "snapshots").iterdir()
    assert len(saved.read_bytes()) < 100
    with Home(place) as home, home.open_vault("shop") as vault:
        if is_deleted:
            vault.delete_fork(fork)
        else:
            vault.workspace(fork).write_text("later", "x")

    assert asyncio.run(resume(payload)) == b"kept\ntwo\nREADME\nkept\n"

    saved.write_bytes(b"avfs commit " + b"1" * 40)
    with pytest.raises(CheckpointNotFound):
        asyncio.run(resume(payload))
    with Home(place) as home:
        assert home.sessions() == []


def test_a_root_cannot_be_chosen(place: Path) -> None:
    """Nothing is made."""
    client = ForkSandboxClient(home=place)
    with pytest.raises(InvalidInput):
        asyncio.run(client.create(manifest=Manifest(root="/elsewhere"), options=ForkSandboxOptions(vault="shop")))
    assert forks(place) == []

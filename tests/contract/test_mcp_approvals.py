"""Commands that need approval over `avfs mcp`: the client asks its user, or says how a person approves elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mcp import Client
from mcp.client import ClientRequestContext
from mcp.shared.exceptions import MCPError
from mcp_types import CallToolResult, ElicitRequestParams, ElicitResult

from avfs_git.proxy.policy.approvals import Approval
from tests.support.mcp import ERAS, Place, code_of, ok, talk, text_of

pytestmark = pytest.mark.needs("overlayfs")

RISKY = {"command": "curl --max-time 1 -s http://127.0.0.1:9/\u202e; echo ran > ran"}


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """A home with two vaults."""
    return Place(tmp_path / "home")


def run(
    place: Place, era: str, action: str | None, *, allow: bool | str | int = True, **arguments: Any
) -> tuple[CallToolResult, list[str]]:
    """Run the risky command with a user that answers so; None for a client that cannot ask.

    Gives the questions, too.
    """
    asked: list[str] = []

    async def answer(context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        asked.append(params.message)
        if action == "accept":
            return ElicitResult(action="accept", content={"allow": allow})
        return ElicitResult(action="decline" if action == "decline" else "cancel")

    async def go(client: Client) -> CallToolResult:
        return await client.call_tool("exec", {**RISKY, **arguments})

    options = {"elicitation_callback": answer} if action is not None else {}
    return talk(place.serve(), go, era, **options), asked


def approvals(place: Place) -> list[Approval]:
    """List all requests."""
    with place.open() as home:
        return home.open_vault("work").policy.approvals(every=True)


@pytest.mark.parametrize("era", ERAS)
def test_a_yes_lets_the_command_run_once(place: Place, era: str) -> None:
    """The user sees the whole command, nothing in it hidden; a yes runs it, and the approval is used."""
    result, asked = run(place, era, "accept")

    assert ok(result)["commit"] is not None
    assert place.read("ran") == b"ran\n"
    assert len(asked) == 1
    assert "curl --max-time 1 -s http://127.0.0.1:9/<202e>; echo ran > ran" in asked[0]
    assert [approval.state for approval in approvals(place)] == ["used"]


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize(
    ("action", "allow", "state"),
    [
        ("decline", True, "denied"),
        ("accept", False, "denied"),
        ("accept", "false", "denied"),
        ("accept", "yes", "denied"),
        ("accept", 1, "denied"),
        ("cancel", True, "pending"),
    ],
)
def test_everything_else_is_no_yes(place: Place, era: str, action: str, allow: bool | str | int, state: str) -> None:
    """A refusal denies the request, and no answer leaves it waiting; nothing ran, and nothing is changed."""
    before = place.fingerprint()

    result, asked = run(place, era, action, allow=allow)

    assert (code_of(result), len(asked)) == ("policy.approval_refused", 1)
    assert [approval.state for approval in approvals(place)] == [state]
    assert place.fingerprint() == before


@pytest.mark.parametrize("era", ERAS)
def test_a_client_that_cannot_ask_is_told_the_way(place: Place, era: str) -> None:
    """The request waits for a person elsewhere; with its token, the same call runs, and once only."""
    result, _ = run(place, era, None)

    assert code_of(result) == "policy.approval_needed"
    assert result.meta is not None
    token = result.meta["avfs/error"]["details"]["token"]
    (waiting,) = approvals(place)
    assert f"avfs --vault work approvals grant {waiting.id}" in text_of(result)
    assert code_of(run(place, era, None, approve=token)[0]) == "policy.approval_refused"
    with place.open() as home:
        home.open_vault("work").policy.grant(waiting.id)
    assert code_of(run(place, era, None, approve=token, cwd="/src")[0]) == "policy.approval_refused"
    assert ok(run(place, era, None, approve=token)[0])["exit_code"] == 0
    assert code_of(run(place, era, None, approve=token)[0]) == "policy.approval_refused"


def test_an_answer_to_no_question_is_none(place: Place) -> None:
    """A client cannot make up the state that a question comes back with."""

    async def forge(client: Client) -> None:
        yes = ElicitResult(action="accept", content={"allow": True})
        with pytest.raises(MCPError):
            await client.session.call_tool(
                "exec",
                dict(RISKY),
                input_responses={"approval": yes},
                request_state='{"token": "x.y"}',
                allow_input_required=True,
            )

    talk(place.serve(), forge)
    assert approvals(place) == []


def test_a_question_that_is_too_long_is_not_asked(place: Place) -> None:
    """No person reads it in a client: the request waits for the terminal."""
    result, asked = run(place, ERAS[0], "accept", command=f"curl http://127.0.0.1:9/ # {'x' * 9000}")

    assert (code_of(result), asked) == ("policy.approval_needed", [])
    assert [approval.state for approval in approvals(place)] == ["pending"]

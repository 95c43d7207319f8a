"""Approvals as questions: a command that needs a person's yes is put before the user by the client.

Decided here: which clients are asked, and what counts as a yes. The question shows all that a yes lets happen, as `avfs
approvals grant` does. Only an accepted form whose `allow` is the JSON value `true` is a yes; a refusal, and a form with
any other value, denies the request; everything else leaves it pending, and the error says how a person grants it
elsewhere. The client is trusted to ask its user: a model never sees the question. Since 2026-07-28 the question is an
answer of its own, and the sealed state that comes back names the request.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import anyio.to_thread
from mcp.server.mcpserver import Context
from mcp_types import ElicitRequest, ElicitRequestFormParams, ElicitResult, InputRequiredResult
from mcp_types.version import is_version_at_least
from pydantic import BaseModel, Field

from avfs_git.errors import ApprovalNeeded, ApprovalRefused
from avfs_git.mcp.scope import Call
from avfs_git.proxy.policy.approvals import Approval
from avfs_git.values import NamedTuple

if TYPE_CHECKING:
    from avfs_git.sdk import Vault

_KEY = "approval"
_MAX_QUESTION = 8000
"""Characters: no person reads a longer question in a client; the terminal shows it."""
_MODERN = "2026-07-28"

Describe = Callable[[Approval], Iterable[str]]


class Permission(BaseModel):
    """The form."""

    allow: bool = Field(default=False, title="Let this command run once")


class Answer(NamedTuple):
    """What the user said to a question."""

    token: str
    action: str
    allow: bool


def read_answer(context: Context[Any, Any]) -> Answer | None:
    """Read the answer that came with a call, of a client that was asked in the call before."""
    found = (context.input_responses or {}).get(_KEY)
    if not isinstance(found, ElicitResult) or context.request_state is None:
        return None
    token = json.loads(context.request_state)["token"]
    return _read(token, found)


async def ask(
    call: Call, vault: str | None, needed: ApprovalNeeded, context: Context[Any, Any], describe: Describe
) -> Answer | InputRequiredResult:
    """Ask the user about a command.

    Raises:
        ApprovalNeeded: If the client cannot ask, with how the command is approved elsewhere.
    """
    token = str(needed.details["token"])
    id_ = token.partition(".")[0]
    opened = await anyio.to_thread.run_sync(lambda: call.vault(vault))
    needed.hint = (
        f"A person grants it with `{_grant(opened, id_)}`; then call again with the same arguments "
        f"and approve={token!r}."
    )
    if not _can_ask(context):
        raise needed
    waiting = await anyio.to_thread.run_sync(lambda: opened.policy.approval(id_))
    question = "\n".join(["A command needs your approval.", *describe(waiting)])
    if len(question) > _MAX_QUESTION:
        raise needed
    schema = Permission.model_json_schema()
    if context.protocol_version is not None and is_version_at_least(context.protocol_version, _MODERN):
        form = ElicitRequest(params=ElicitRequestFormParams(message=question, requested_schema=schema))
        return InputRequiredResult(input_requests={_KEY: form}, request_state=json.dumps({"token": token}))
    return _read(token, await context.session.elicit_form(question, schema, context.request_id))


def decide(call: Call, vault: str | None, answer: Answer) -> str:
    """Grant or deny what was asked about; returns the token of what is granted.

    Raises:
        ApprovalRefused: If the user did not say yes.
    """
    id_ = answer.token.partition(".")[0]
    opened = call.vault(vault)
    policy = opened.policy
    if answer.action == "accept" and answer.allow:
        policy.grant(id_)
        return answer.token
    if answer.action == "cancel":
        raise ApprovalRefused(id_, "the user did not answer", hint=f"It waits: `{_grant(opened, id_)}`.")
    policy.deny(id_)
    raise ApprovalRefused(id_, "the user refused the command")


def _grant(vault: Vault, approval: str) -> str:
    """Spell the command with which a person grants a request, wherever that person is."""
    return f"avfs --vault {shlex.quote(vault.name)} approvals grant {approval}"


def _read(token: str, result: ElicitResult) -> Answer:
    """Read a form: only the JSON value `true` is a yes, because a client may send the text "false"."""
    return Answer(token, result.action, (result.content or {}).get("allow") is True)


def _can_ask(context: Context[Any, Any]) -> bool:
    """Whether the client can show a form."""
    capabilities = context.client_capabilities
    elicitation = capabilities.elicitation if capabilities is not None else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)

"""What a harness understands: how a hook asks a person about a command, or refuses it.

Decided here: the documents that each harness takes on standard output. avfs never says that a command may run: a
harness that hears nothing decides by its own rules. Pure functions; `cli.harness.hook` calls them.
"""

from __future__ import annotations

import json
import shlex

from avfs_git.cli.harness.events import Event

_CAN_ASK = frozenset({"claude", "cursor", "vscode"})
"""The harnesses that can ask a person in answer to a hook."""


def can_ask(harness: str) -> bool:
    """Tell whether a harness asks a person in answer to a hook."""
    return harness in _CAN_ASK


def ask_or_deny(event: Event, *, vault: str, approval: str | None, reason: str, hint: str | None) -> bytes:
    """Let a person decide about a command.

    Where the harness cannot ask, refuse it and name the request that waits for one.
    """
    if can_ask(event.harness):
        return _spell(event, "ask", f"The policy of avfs wants a person to decide: {reason}.")
    way = "The command is too long for an approval, or the request could not be written."
    if approval is not None:
        grant = shlex.join(("avfs", "--vault", vault, "approvals", "grant", approval))
        way = f"A person allows it once with `{grant}`; then run the same command again."
    return _spell(
        event, "deny", f"The policy of avfs wants a person to decide: {reason}. {way}{f' {hint}' if hint else ''}"
    )


def deny(event: Event, *, reason: str, hint: str | None) -> bytes:
    """Refuse a command, with the reason and the way out."""
    way = (
        hint
        or "`avfs policy check` explains the decision; only a person may change the rules, with `avfs policy path`."
    )
    return _spell(event, "deny", f"The policy of avfs forbids this command: {reason}. {way}")


def ask_or_deny_unjudged(event: Event, failure: str) -> bytes:
    """Let a person decide about a command that the policy could not be asked about.

    Where the harness cannot ask, refuse it.
    """
    return _spell(
        event, "ask" if can_ask(event.harness) else "deny", f"avfs cannot ask the policy about this command: {failure}"
    )


def tell(event: Event, failure: str) -> bytes:
    """Tell of a failure that refuses nothing; empty for a harness that shows what a hook writes to standard error."""
    return spell_notice(event.name, f"avfs hook: {failure}").encode() + b"\n" if event.harness == "vscode" else b""


def spell_notice(event: str, text: str) -> str:
    """Spell a text that VS Code shows its user, and that Copilot's agents give the model."""
    specific = {"hookEventName": event, "additionalContext": text}
    document = {"systemMessage": text, "additionalContext": text, "hookSpecificOutput": specific}
    return json.dumps(document, ensure_ascii=False)


def _spell(event: Event, verdict: str, reason: str) -> bytes:
    document: dict[str, object]
    if event.harness in {"gemini", "opencode"}:
        document = {"decision": verdict, "reason": reason}
    elif event.harness == "cursor":
        document = {"permission": verdict, "user_message": reason, "agent_message": reason}
    else:
        decided = {"permissionDecision": verdict, "permissionDecisionReason": reason}
        document = {"hookSpecificOutput": {"hookEventName": event.name, **decided}}
        # its local agent reads the one form, the agent of Copilot that runs in it the other
        if event.harness == "vscode":
            document |= decided
    return json.dumps(document, ensure_ascii=False).encode() + b"\n"

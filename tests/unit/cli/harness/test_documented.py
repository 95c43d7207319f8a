"""The formats of Cursor and VS Code, which no test runs: what `setup` registers, and documented events and answers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from avfs_git.cli.harness import answers
from avfs_git.cli.harness.edits import JsonElement
from avfs_git.cli.harness.events import Kind, read_event
from avfs_git.cli.harness.plan import make_plan

_EVENTS = Path(__file__).parents[3] / "cli" / "events"
_COMMON = {
    "cursor": {"conversation_id", "generation_id", "hook_event_name", "cursor_version", "workspace_roots"},
    "vscode": {"hook_event_name", "session_id", "timestamp", "cwd"},
}
_OWN: Mapping[str, Mapping[str, set[str]]] = {
    "cursor": {
        "sessionStart": set(),
        "beforeShellExecution": {"command", "cwd"},
        "afterShellExecution": {"command", "output", "duration"},
        "afterFileEdit": {"file_path", "edits"},
        "afterMCPExecution": {"tool_name", "tool_input", "result_json", "duration"},
        "stop": {"status", "loop_count"},
    },
    "vscode": {
        "SessionStart": {"source"},
        "PreToolUse": {"tool_name", "tool_input"},
        "PostToolUse": {"tool_name", "tool_input", "tool_result"},
        "PostToolUseFailure": {"tool_name", "tool_input", "error"},
        "Stop": {"transcript_path", "stop_reason"},
        "SubagentStop": {"transcript_path", "agent_name", "stop_reason"},
    },
}
"""The fields of each event, beside the common ones."""
_HOOK = {"cursor": {"command"}, "vscode": {"type", "bash", "timeoutSec"}}
_BEFORE = {"cursor": "beforeShellExecution", "vscode": "PreToolUse"}


def _read(harness: str) -> list[dict[str, Any]]:
    """Give the events, without those of VS Code's own agent, which name their fields otherwise."""
    found = json.loads((_EVENTS / f"{harness}.json").read_text()).values()
    return [event for event in found if "hook_event_name" in event]


@pytest.mark.parametrize("harness", list(_OWN))
def test_each_event_that_is_registered_is_read_as_documented(harness: str) -> None:
    """Each is known to avfs, has the documented fields in the tests, and none is registered that is not documented."""
    hooks = [edit for edit in make_plan(harness, Path("/shop"), is_user=False).edits if isinstance(edit, JsonElement)]
    assert {edit.keys[-1] for edit in hooks} == set(_OWN[harness])
    assert all(isinstance(edit.value, dict) and set(edit.value) == _HOOK[harness] for edit in hooks)
    events = _read(harness)
    assert {event["hook_event_name"] for event in events} == set(_OWN[harness])
    for event in events:
        assert set(event) >= _COMMON[harness] | _OWN[harness][event["hook_event_name"]]
        found = read_event(harness, json.dumps(event).encode())
        assert found.kind is not Kind.OTHER
        assert (found.session, found.directory.name) == (event.get("session_id") or event["conversation_id"], "$CWD")
        assert bool(found.tool) == (found.kind in {Kind.BEFORE, Kind.AFTER})


@pytest.mark.parametrize("harness", list(_OWN))
def test_an_answer_has_only_documented_fields(harness: str) -> None:
    """A refusal and a question about a command."""
    event = next(event for event in _read(harness) if event["hook_event_name"] == _BEFORE[harness])
    read = read_event(harness, json.dumps(event).encode())
    denied = json.loads(answers.deny(read, reason="it is seen by all", hint=None))
    asked = json.loads(answers.ask_or_deny(read, vault="shop", approval=None, reason="it is seen by all", hint=None))
    for verdict, found in (("deny", denied), ("ask", asked)):
        if harness == "cursor":
            assert set(found) == {"permission", "user_message", "agent_message"}
            assert found["permission"] == verdict
        else:
            decided = {"permissionDecision": verdict, "permissionDecisionReason": found["permissionDecisionReason"]}
            assert found == {**decided, "hookSpecificOutput": {"hookEventName": "PreToolUse", **decided}}
            assert "seen by all" in found["permissionDecisionReason"]

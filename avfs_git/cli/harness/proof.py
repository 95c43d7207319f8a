"""Proving that what `avfs setup` registers works: each part is run as a harness runs it.

Decided here: which parts there are, and how long each may take. `cli.commands.running.setup` calls it. It changes
nothing: the recorded events name an empty directory.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.cli.harness.edits import JsonElement, JsonMember, MarkedBlock, WholeFile
from avfs_git.cli.harness.events import name_tool_events
from avfs_git.errors import InvalidInput
from avfs_git.host.lockedplace import locked_directory

if TYPE_CHECKING:
    from avfs_git.cli.harness.edits import Edit
    from avfs_git.cli.harness.plan import Plan
    from avfs_git.cli.results import SetupCheck

_LIMIT_S = 30


def prove(harness: str, plan: Plan) -> list[SetupCheck]:
    """Check the files, the program, the hook and the server."""
    found = [_check_file(edit) for edit in plan.edits]
    program = shutil.which("avfs")
    found.append(_result("the program `avfs` is in PATH", program is not None, program or "not found"))
    if program is None:
        return found
    found += [_check_hook(program, harness, event) for event in name_tool_events(harness)]
    found.append(_check_server(program))
    return found


def _result(part: str, passed: bool, detail: str) -> SetupCheck:
    return {"part": part, "passed": passed, "detail": detail}


def _name(edit: Edit) -> str:
    if isinstance(edit, JsonElement):
        return f"hook {edit.keys[-1]}"
    if isinstance(edit, MarkedBlock):
        return "text for agents"
    if isinstance(edit, WholeFile):
        return "skill" if edit.path.name == "SKILL.md" else "plug-in"
    return "version of the format" if isinstance(edit, JsonMember) and edit.keys == ("version",) else "MCP server"


def _check_file(edit: Edit) -> SetupCheck:
    part = f"{_name(edit)} is registered"
    try:
        text = edit.path.read_text("utf-8")
        return _result(part, edit.apply(text) == text, str(edit.path))
    except InvalidInput as error:
        return _result(part, False, f"{edit.path}: {error.message}")
    except (OSError, UnicodeDecodeError) as error:
        return _result(part, False, f"{edit.path}: {error}")


def _check_hook(program: str, harness: str, event: str) -> SetupCheck:
    part = f"`avfs hook {harness}` answers {event}"
    with locked_directory() as place:
        directory = str(place)
        shell = {"gemini": "run_shell_command", "opencode": "bash"}.get(harness, "Bash")
        recorded = {
            "session_id": "avfs-check",
            "hook_event_name": event,
            "cwd": directory,
            "workspace_roots": [directory],
            "command": "true",
            "tool_name": shell,
            "tool_input": {"command": "true"},
            "tool_use_id": "avfs-check",
        }
        began = time.monotonic()
        try:
            done = subprocess.run(
                [program, "hook", harness],
                input=json.dumps(recorded).encode(),
                capture_output=True,
                timeout=_LIMIT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return _result(part, False, str(error))
    took = f"{(time.monotonic() - began) * 1000:.0f} ms"
    said = done.stderr.decode("utf-8", "replace").strip()
    return _result(part, done.returncode == 0, took if done.returncode == 0 else f"status {done.returncode}: {said}")


def _check_server(program: str) -> SetupCheck:
    """Start the server, and let it say its name."""
    part = "`avfs mcp` answers"
    asked = {
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18",
            "capabilities": {},
            "clientInfo": {"name": "avfs-check", "version": "1"},
        },
    }
    try:
        done = subprocess.run(
            [program, "mcp"],
            input=json.dumps(asked).encode() + b"\n",
            capture_output=True,
            timeout=_LIMIT_S,
            check=False,
            cwd=Path.cwd(),
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _result(part, False, str(error))
    for line in done.stdout.splitlines():
        try:
            answer = json.loads(line)
        except ValueError:
            continue
        if isinstance(answer, dict) and isinstance(answer.get("result"), dict):
            return _result(part, True, str(answer["result"].get("serverInfo", {}).get("name", "")))
    return _result(part, False, done.stderr.decode("utf-8", "replace").strip()[-300:] or "it said nothing")

"""What a harness, the program around a coding agent, sends to a hook: its events as one kind of value.

Decided here: the names that each harness gives to events, tools and fields. `cli.harness.hook` calls `read_event`. Pure
functions; an event that is not known is `OTHER`, so that a newer harness is not disturbed.
"""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

from avfs_git.errors import BadUsage, InvalidInput, quote
from avfs_git.patterns import compiled
from avfs_git.values import NamedTuple

REFUSED = 2
"""The status of a hook that refuses a tool, for every harness."""


class Kind(Enum):
    """What an event means to avfs."""

    BEFORE = "before a tool"
    AFTER = "after a tool"
    START = "start of a session"
    END = "end of a turn or session"
    CREATE = "make a working tree"
    REMOVE = "remove a working tree"
    OTHER = "other"


_CLAUDE = {
    "SessionStart": Kind.START,
    "PreToolUse": Kind.BEFORE,
    **dict.fromkeys(("PostToolUse", "PostToolUseFailure"), Kind.AFTER),
    **dict.fromkeys(("Stop", "SubagentStop", "SessionEnd"), Kind.END),
    "WorktreeCreate": Kind.CREATE,
    "WorktreeRemove": Kind.REMOVE,
}
_KINDS: Mapping[str, Mapping[str, Kind]] = {
    "claude": _CLAUDE,
    "codex": _CLAUDE,
    "gemini": {
        "SessionStart": Kind.START,
        "BeforeTool": Kind.BEFORE,
        "AfterTool": Kind.AFTER,
        "AfterAgent": Kind.END,
        "SessionEnd": Kind.END,
    },
    "cursor": {
        "sessionStart": Kind.START,
        "beforeShellExecution": Kind.BEFORE,
        **dict.fromkeys(("afterShellExecution", "afterFileEdit", "afterMCPExecution"), Kind.AFTER),
        **dict.fromkeys(("stop", "sessionEnd"), Kind.END),
    },
    "opencode": {  # which runs no commands: its events come from avfs's own plug-in
        "session.start": Kind.START,
        "tool.execute.before": Kind.BEFORE,
        "tool.execute.after": Kind.AFTER,
        "session.idle": Kind.END,
    },
    "vscode": _CLAUDE,
}
HARNESSES = tuple(_KINDS)
_SHELLS = frozenset(
    {
        "Bash",
        "bash",
        "shell",
        "local_shell",
        "exec_command",
        "run_shell_command",
        "run_in_terminal",
        "runTerminalCommand",
    }
)
"""The tools that run a command of a shell."""
_RUN_IN = ("workdir", "dir_path", "directory")
"""The arguments by which such a tool names where its command runs."""


_FILES = ("file_path", "filePath", "notebook_path", "path")
"""The arguments by which a tool names the file that it edits."""
_LONGEST = 255
"""So many characters of an id and of a file's name get into the message of a checkpoint."""
_PATCHED = compiled(r"^\*\*\* (?:Add|Update|Delete) File: (.+)$", re.MULTILINE)
"""A line of a patch in the form that Codex's models write."""
_CD = compiled(
    r"""\s*cd\s+(?:'([^']+)'|"([^"$`\\]+)"|([^\s'"$`\\;&|<>()*?\[~-][^\s'"$`\\;&|<>()*?\[~]*))\s*(?:&&|;|\n)"""
)
"""A command that goes to a directory first, and spells it without an expansion."""


class Event(NamedTuple):
    """One event of a harness; a text is empty where the harness does not say it."""

    harness: str
    name: str
    """As the harness calls it."""
    kind: Kind
    directory: Path
    """Where the agent works."""
    place: Path
    """Where the call works: the directory of the file it edits, or in which its command runs; else `directory`."""
    session: str
    call: str
    """The id of the tool call."""
    tool: str
    command: str | tuple[str, ...]
    """Text for a shell, or a program with its arguments, that the agent runs or ran."""
    subject: str
    """What the tool call is about, without what may be a secret."""
    worktree: str
    """The name of the working tree to make, or the path of the one to remove."""


def name_tool_events(harness: str) -> list[str]:
    """Name the events before and after a tool runs, as a harness calls them for a command."""
    kinds = _KINDS[harness].items()
    return [next(name for name, kind in kinds if kind is wanted) for wanted in (Kind.BEFORE, Kind.AFTER)]


def read_event(harness: str | None, data: bytes) -> Event:
    """Read an event.

    Raises:
        BadUsage: If there is no such harness.
        InvalidInput: If it is no event.
    """
    if harness not in HARNESSES:
        raise BadUsage(f"there is no harness {quote(harness or '')}", hint=f"Name one of {', '.join(HARNESSES)}.")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the event of {harness} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"the event of {harness} is no JSON object")
    if harness == "claude" and "turn_id" in found:
        # Codex runs the hooks of Claude Code's plug-ins, too; it does not know the answer `ask`, and lets the command
        # run.
        harness = "codex"
    elif harness == "claude" and "timestamp" in found and "permission_mode" not in found:
        # Agents of VS Code and of Copilot run those in `.claude/settings.json`. They name a time, and Claude Code its
        # mode.
        harness = "vscode"
    name = _text(found, "hook_event_name", "hookEventName")
    tool_input = found.get("tool_input")
    given: dict[str, object] = tool_input if isinstance(tool_input, dict) else {}
    tool = _text(found, "tool_name")
    command: object = given.get("command") if tool in _SHELLS else None
    if harness == "cursor":
        command = found.get("command")
        tool = tool or ("Shell" if command else "Edit" if "file_path" in found else "")
        given = {**found, **given}
    kind = _KINDS[harness].get(name, Kind.OTHER)
    spelled = _read_command(command)
    has_input = isinstance(tool_input, dict | None) or tool not in _SHELLS
    if kind is Kind.BEFORE and (spelled is None or not has_input):  # the policy could not be asked
        raise InvalidInput(f"the event {name} of {harness} has a command that is neither a text nor a list of texts")
    spelled = spelled or ""
    directory, file = _find_directory(found), _find_file(given)
    where = next((Path(value) for value in map(given.get, _RUN_IN) if isinstance(value, str) and value), directory)
    if spelled and os.path.normpath(directory / where) != os.path.normpath(directory):
        # The policy reads where `cd` leads.
        text = spelled if isinstance(spelled, str) else shlex.join(spelled)
        spelled = f"cd {shlex.quote(os.fspath(where))} && {text}"
    return Event(
        harness=harness,
        name=name,
        kind=kind,
        directory=directory,
        place=_find_place(directory, _find_cd(spelled) or str(Path(file).parent)),
        session=_text(found, "session_id", "conversation_id", "sessionId")[:_LONGEST],
        call=_text(found, "tool_use_id", "generation_id")[:_LONGEST],
        tool=tool,
        command=spelled,
        subject=_find_subject(given, file, spelled),
        worktree=_text(found, "worktree_path" if name == "WorktreeRemove" else "name", "worktree_name", "branch_name"),
    )


def _read_command(command: object) -> str | tuple[str, ...] | None:
    """Read what a tool is to run, which may be nothing; None if it is of a kind that no shell takes."""
    if isinstance(command, list) and all(isinstance(word, str) for word in command):
        return tuple(command)
    return command if isinstance(command, str) else None if command else ""


def may_be_before(harness: str | None, data: bytes) -> bool:
    """Tell whether an event that cannot be read may be one before a tool: its text has the name of such an event."""
    kinds = _KINDS.values() if harness not in HARNESSES else [_KINDS[harness]]
    names = (name for known in kinds for name, kind in known.items() if kind is Kind.BEFORE)
    return any(f'"{name}"'.encode() in data for name in names)


def _text(found: Mapping[str, object], *names: str) -> str:
    """Give the first field of these that is a text, on one line."""
    texts = (value for name in names if isinstance(value := found.get(name), str) and value)
    return next((_clean(text) if "path" not in names[0] else text for text in texts), "")


def _clean(text: str) -> str:
    """Make a text fit for the message of a commit: harnesses cut texts within a character, and JSON can hold a NUL."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").replace("\0", " ").split())


def _find_directory(found: Mapping[str, object]) -> Path:
    roots = found.get("workspace_roots")
    root = roots[0] if isinstance(roots, list) and roots and isinstance(roots[0], str) else ""
    cwd = found.get("cwd")
    return Path((cwd if isinstance(cwd, str) else "") or root or os.curdir).absolute()


def _find_file(given: Mapping[str, object]) -> str:
    """Name the file that a call edits; empty if it edits none, or names it otherwise."""
    path = next((value for value in map(given.get, _FILES) if isinstance(value, str) and value), None)
    patched = _PATCHED.search(str(given.get("command") or given.get("input") or "")) if path is None else None
    return patched[1] if patched is not None else path or ""


def _find_place(directory: Path, name: str) -> Path:
    """Find the directory that a call names; `directory` where it names what can be none."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError:  # half of a character
        return directory
    return directory if "\0" in name else directory / name


def _find_cd(command: str | tuple[str, ...]) -> str:
    """Name the directory into which a command goes first; empty if it goes nowhere, or the shell must tell where."""
    found = _CD.match(command) if isinstance(command, str) else None
    return next(filter(None, found.groups()), "") if found is not None else ""


def _find_subject(given: Mapping[str, object], file: str, command: str | tuple[str, ...]) -> str:
    """Describe a call in a few words: the agent's own, the file's name, or the program without its arguments."""
    described = _text(given, "description", "explanation")
    if described:
        return described[:60]
    if file:
        return _clean(Path(file).name)[:_LONGEST]
    words = command.split() if isinstance(command, str) else command
    return _clean(next((Path(word.rstrip(";&|")).name for word in words if "=" not in word), ""))[:60]

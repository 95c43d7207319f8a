"""What `avfs setup` puts where, for each harness.

Decided here: the files that a harness reads, for a project and for a user, and what avfs has to say in each; and what
it cannot do for a harness. Hooks are registered as one text for a shell: a harness that does not know a separate list
of arguments would run `avfs` without any. Pure but for reading the package's own skill; `cli.commands.running.setup`
calls it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from avfs_git.cli.harness.answers import spell_notice
from avfs_git.cli.harness.edits import Edit, JsonElement, JsonMember, MarkedBlock, TomlTable, WholeFile
from avfs_git.cli.harness.events import REFUSED
from avfs_git.values import NamedTuple

_TIMEOUT_S = 30
_COMMAND = {"command": "avfs", "args": ["mcp"]}
_BODY = """\
## avfs

In an avfs live tree (`AVFS_FORK` is set, or `avfs status` works) every step can be undone:

- Before risky work make a fork: `avfs fork . ../NAME`, work there, end it with `avfs end ../NAME`.
- `avfs checkpoint save LABEL` saves a state, ignored files included; `avfs undo` takes back the last operation
  with its files.
- If the policy refuses a command, do not rephrase it: ask the person, or run it with `avfs exec --json -c '…'`.

The skill `avfs` has the rest.
"""


class Plan(NamedTuple):
    """What a harness gets."""

    edits: Sequence[Edit]
    notes: Sequence[str]
    """What avfs cannot do for it, and what the user has to do."""


def read_skill() -> str:
    """Read the skill that teaches agents the use of avfs."""
    return _read_integration("claude", "skills", "avfs", "SKILL.md")


def _read_integration(*names: str) -> str:
    return files("avfs_git").joinpath("integrations", *names).read_text("utf-8")


def make_plan(harness: str, root: Path, *, is_user: bool, home: Path | None = None) -> Plan:
    """List what a harness gets.

    Args:
        harness: One of `events.HARNESSES`.
        root: The project, or the home of the user.
        is_user: Whether it is for all projects of the user.
        home: The directory of the vaults that the MCP server must use; the default one if None.
    """
    edits, notes = _PLANS[harness](root, is_user, {} if home is None else {"AVFS_HOME": str(home)})
    if home is not None and not is_user:
        notes.append(f"the MCP server uses '{home}', because AVFS_HOME names it: that holds on this machine only")
    if find_spec("mcp") is None:
        notes.append("the MCP server needs more packages: `pip install 'avfs-git[mcp]'`")
    return Plan(edits, notes)


def _group(harness: str, matcher: str | None = None, *, timeout: int = _TIMEOUT_S) -> dict[str, object]:
    hook = {"type": "command", "command": f"avfs hook {harness}", "timeout": timeout}
    return {**({} if matcher is None else {"matcher": matcher}), "hooks": [hook]}


def _server(env: Mapping[str, str]) -> dict[str, object]:
    return {**_COMMAND, "env": dict(env)} if env else dict(_COMMAND)


def _add_hooks(path: Path, hooks: Mapping[str, Sequence[object]]) -> list[Edit]:
    return [JsonElement(path, ("hooks", event), entry) for event, entries in hooks.items() for entry in entries]


def _skill(directory: Path) -> Edit:
    return WholeFile(directory / "skills" / "avfs" / "SKILL.md", read_skill())


def _plan_claude(root: Path, is_user: bool, env: Mapping[str, str]) -> tuple[list[Edit], list[str]]:
    own = root / ".claude"
    notes = []
    edits = _add_hooks(own / "settings.json", json.loads(_read_integration("claude", "hooks", "hooks.json"))["hooks"])
    if is_user:
        given = "".join(f"-e {shlex.quote(f'{name}={value}')} " for name, value in env.items())
        notes.append(
            f"for the MCP server run `claude mcp add --scope user avfs {given}-- avfs mcp`: Claude Code writes that "
            "file itself"
        )
    else:
        edits.append(JsonMember(root / ".mcp.json", ("mcpServers", "avfs"), _server(env)))
    edits += [_skill(own), MarkedBlock((own if is_user else root) / "CLAUDE.md", _BODY)]
    return edits, notes


def _plan_codex(root: Path, is_user: bool, env: Mapping[str, str]) -> tuple[list[Edit], list[str]]:
    own = root / ".codex"
    hooks = {
        "PreToolUse": [_group("codex", "Bash")],
        "PostToolUse": [_group("codex", "Bash|apply_patch|mcp__.*")],
        **{event: [_group("codex")] for event in ("SessionStart", "Stop")},
    }
    # A text of JSON is one of TOML, too.
    table = '[mcp_servers.avfs]\ncommand = "avfs"\nargs = ["mcp"]\n' + "".join(
        f"env = {{ {name} = {json.dumps(value)} }}\n" for name, value in env.items()
    )
    edits: list[Edit] = [
        *_add_hooks(own / "hooks.json", hooks),
        TomlTable(own / "config.toml", ("mcp_servers", "avfs"), table),
        _skill(root / ".agents"),
        MarkedBlock((own if is_user else root) / "AGENTS.md", _BODY),
    ]
    notes = [
        "Codex asks once whether it may run the hooks: review them with `/hooks`",
        "a hook of Codex cannot ask a person: a command that needs an approval is refused, with the way to ask for one",
        "Codex does not let a hook make its working trees: start it with `avfs run -- codex`",
    ]
    return edits, notes


def _plan_gemini(root: Path, is_user: bool, env: Mapping[str, str]) -> tuple[list[Edit], list[str]]:
    own = root / ".gemini"
    hooks = {
        "BeforeTool": [_group("gemini", "run_shell_command", timeout=_TIMEOUT_S * 1000)],
        "AfterTool": [_group("gemini", "run_shell_command|write_file|replace|mcp_.*", timeout=_TIMEOUT_S * 1000)],
        **{event: [_group("gemini", timeout=_TIMEOUT_S * 1000)] for event in ("SessionStart", "AfterAgent")},
    }
    edits: list[Edit] = [
        *_add_hooks(own / "settings.json", hooks),
        JsonMember(own / "settings.json", ("mcpServers", "avfs"), _server(env)),
        _skill(root / ".agents"),
        MarkedBlock((own if is_user else root) / "GEMINI.md", _BODY),
    ]
    notes = [
        "a command that needs an approval is refused, with the way to ask for one",
        "Gemini CLI has no hook that makes working trees: start it with `avfs run -- gemini`",
    ]
    return edits, notes


def _plan_cursor(root: Path, is_user: bool, env: Mapping[str, str]) -> tuple[list[Edit], list[str]]:
    own = root / ".cursor"
    events = (
        "sessionStart",
        "beforeShellExecution",
        "afterShellExecution",
        "afterFileEdit",
        "afterMCPExecution",
        "stop",
    )
    edits: list[Edit] = [
        JsonMember(own / "hooks.json", ("version",), 1, stays=True),
        *_add_hooks(own / "hooks.json", {event: [{"command": "avfs hook cursor"}] for event in events}),
        JsonMember(own / "mcp.json", ("mcpServers", "avfs"), _server(env)),
        _skill(own),
    ]
    notes = ["Cursor makes its own working trees, without ignored files: open the directory of a fork instead"]
    if is_user:
        notes.append("Cursor's rules for a user are in its settings, which no file holds: avfs writes none")
    else:
        edits.append(MarkedBlock(root / "AGENTS.md", _BODY))
    return edits, notes


def _plan_opencode(root: Path, is_user: bool, env: Mapping[str, str]) -> tuple[list[Edit], list[str]]:
    own = root / ".config" / "opencode" if is_user else root
    server: dict[str, object] = {"type": "local", "command": ["avfs", "mcp"], "enabled": True}
    if env:
        server["environment"] = dict(env)
    edits: list[Edit] = [
        JsonMember(own / "opencode.json", ("mcp", "avfs"), server),
        WholeFile(
            (own if is_user else own / ".opencode") / "plugins" / "avfs.js", _read_integration("opencode", "avfs.js")
        ),
        _skill(root / ".agents"),
        MarkedBlock(own / "AGENTS.md", _BODY),
    ]
    return edits, [
        "opencode runs the hooks in a plug-in, which it loads when it starts: start it anew",
        "a command that needs an approval is refused, with the way to ask for one",
        "opencode's own working trees are made by git, without ignored files: start it with `avfs run -- opencode`",
    ]


def _plan_vscode(root: Path, is_user: bool, env: Mapping[str, str]) -> tuple[list[Edit], list[str]]:
    events = ("SessionStart", "PreToolUse", "PostToolUse", "PostToolUseFailure", "Stop", "SubagentStop")
    own = root / (".copilot" if is_user else ".github")
    file = own / "hooks" / "avfs.json"
    common = [
        JsonMember(file, ("version",), 1),
        *_add_hooks(file, {event: [_copilot_hook(event)] for event in events}),
        JsonMember(own / ("mcp-config.json" if is_user else "mcp.json"), ("mcpServers", "avfs"), _server(env)),
    ]
    notes = [
        "VS Code's hooks are a preview, which an organization can switch off",
        "VS Code has no hook that makes working trees: open the directory of a fork",
    ]
    if is_user:
        text = json.dumps({"name": "avfs", **_server(env)}, separators=(",", ":"))
        notes.append(f"for the MCP server in VS Code run `code --add-mcp {shlex.quote(text)}`")
        return [*common, _skill(root / ".agents")], notes
    server = {"type": "stdio", **_server(env)}
    edits: list[Edit] = [
        *common,
        JsonMember(root / ".vscode" / "mcp.json", ("servers", "avfs"), server),
        _skill(root / ".agents"),
        MarkedBlock(root / "AGENTS.md", _BODY),
    ]
    return edits, notes


def _copilot_hook(event: str) -> dict[str, object]:
    """Give a hook that goes by where there is no avfs, and that only refuses a tool if avfs does.

    Copilot refuses a tool whose hook fails, shows nothing that a hook writes to standard error, and project files reach
    machines without avfs.
    """
    broken = "avfs is broken: it did not look at this step. `avfs setup vscode --check` says why."
    told = spell_notice(event, broken)
    line = (
        f"command -v avfs >/dev/null || exit 0; avfs hook vscode && exit; [ $? = {REFUSED} ] && exit {REFUSED}; "
        f"echo '{told}'"
    )
    return {"type": "command", "bash": line, "timeoutSec": _TIMEOUT_S}


_PLANS = {
    "claude": _plan_claude,
    "codex": _plan_codex,
    "gemini": _plan_gemini,
    "cursor": _plan_cursor,
    "opencode": _plan_opencode,
    "vscode": _plan_vscode,
}

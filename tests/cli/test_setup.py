"""`avfs setup`: what it writes for each harness, into which files of others, and how it takes that back."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import avfs_git
from avfs_git.cli.commands.running.setup import compute
from avfs_git.cli.harness import plan
from avfs_git.cli.harness.events import HARNESSES, Kind, read_event
from avfs_git.cli.table import VERBS
from avfs_git.errors import InvalidInput
from tests.support.capabilities import find_node
from tests.support.cli import Cli

INTEGRATIONS = Path(avfs_git.__file__).parent / "integrations"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project, which is the current directory."""
    place = tmp_path / "shop"
    (place / "src").mkdir(parents=True)
    subprocess.run(["git", "init", "-q", "."], cwd=place, check=True)
    monkeypatch.chdir(place)
    return place


def _files(root: Path) -> dict[str, bytes]:
    found = (path for path in sorted(root.rglob("*")) if path.is_file() and ".git" not in path.relative_to(root).parts)
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


_THEIRS = {
    ".claude/settings.json": '{\n\t"hooks": {\n\t\t"Stop": [\n\t\t\t{"hooks": []}\n\t\t]\n\t}\n}\n',
    ".mcp.json": '{"mcpServers": {"other": {"command": "x"}}}',
    "CLAUDE.md": "# Shop\n\nBe brief.",
    "AGENTS.md": "# Shop\n",
    "GEMINI.md": "\n",
    ".codex/config.toml": 'model = "m"  # ours\n\n[mcp_servers.other]\ncommand = "x"',
    ".codex/hooks.json": "{}\n",
    ".gemini/settings.json": '{\n  // mine\n  "theme": "x", // the best\n}\n',
    ".cursor/hooks.json": '{\n  "version": 1,\n  "hooks": {\n    "stop": [\n      { "command": "x" }\n    ]\n  }\n}\n',
    ".cursor/mcp.json": '{"mcpServers": {"other": {}}}\n',
    "opencode.json": '{"$schema": "https://opencode.ai/config.json"}',
    ".vscode/mcp.json": '{\n    "servers": {\n        "other": {"url": "http://x"},\n    },\n    "inputs": []\n}\n',
}


@pytest.mark.parametrize("harness", HARNESSES)
@pytest.mark.parametrize("theirs", [False, True], ids=["new", "merged"])
@pytest.mark.parametrize("scope", ["--project", "--user"])
def test_what_it_writes_can_be_taken_back_exactly(
    cli: Cli, project: Path, hermetic: Path, harness: str, theirs: bool, scope: str
) -> None:
    """To the byte, and to no file where there was none; a second time changes nothing, and a dry run never."""
    root = hermetic if scope == "--user" else project
    if theirs:
        for name, text in _THEIRS.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
    before = _files(root)

    assert "Would " in cli("setup", harness, scope, "--dry-run").ok().text
    assert _files(root) == before
    found = cli("setup", harness, scope, "--json").ok().result
    after = _files(root)
    assert {str(Path(change["path"]).relative_to(root)) for change in found["changes"]} == {
        name for name in after if after[name] != before.get(name)
    }
    assert not {name for name in before if name not in after}
    assert {change["action"] for change in cli("setup", harness, scope, "--json").ok().result["changes"]} == {"keep"}
    cli("setup", harness, scope, "--remove").ok()
    assert _files(root) == before


_KEYS = ("hooks", "mcpServers", "servers", "mcp")
_EMPTY = {
    ".json": (
        *("{}", "{}\n", "{ }", "{\n}\n", "{ // mine\n}\n", '{\r\n  "a": 1\r\n}', '\ufeff{"hooks": {}}'),
        *(f'{{"{key}": {{}}}}' for key in _KEYS),
        *(f'{{\r\n\t"a": [ ],\r\n\t"{key}": {{\r\n\t}}\r\n}}\r\n' for key in _KEYS),
        *(f'{{\n   "{key}": {{ // mine\n   }}, /* too */ "z": {{}}}}' for key in _KEYS),
        *(f'{{"hooks": {{"{event}": [ ], "x": []}}}}' for event in ("PreToolUse", "Stop", "BeforeTool", "stop")),
    ),
    ".md": ("", "\n", "# Shop", "# Shop\r\n", "# Shop\n\n\n", "\ufeff# Shop\r\n\r\nBe brief."),
    ".toml": ("", "\n", "# mine", "a = 1\r\n", "[mcp_servers]\n\n\n"),
}


@pytest.mark.parametrize("harness", HARNESSES)
def test_what_was_there_empty_stays(harness: str) -> None:
    """Each file is to the byte as before, however it is laid out; one that cannot be read is refused."""
    made = plan.make_plan(harness, Path("/shop"), is_user=False)
    for path in {edit.path for edit in made.edits}:
        for text in _EMPTY.get(path.suffix, ()):
            # The version in a file of Cursor stays: it is there before.
            own = text.replace("{", '{"version": 1, "x": 1, ', 1) if harness == "cursor" and '": ' in text else text
            before: dict[Path, str | None] = {edit.path: None for edit in made.edits} | {path: own}
            with suppress(InvalidInput):
                after = compute(made, before, remove=False)
                assert after[path] != own
                assert compute(made, after, remove=True) == before


def _read(path: Path) -> Any:
    return json.loads(path.read_text())


def test_what_claude_code_reads(cli: Cli, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the whole project, from any directory in it; the plug-in has the same hooks."""
    monkeypatch.delenv("AVFS_HOME")
    monkeypatch.chdir(project / "src")
    cli("setup", "claude").ok()
    hooks = _read(project / ".claude" / "settings.json")["hooks"]
    assert hooks["PreToolUse"] == [
        {"matcher": "Bash", "hooks": [{"type": "command", "command": "avfs hook claude", "timeout": 30}]}
    ]
    assert {
        "PostToolUse",
        "SessionStart",
        "Stop",
        "SubagentStop",
        "SessionEnd",
        "WorktreeCreate",
        "WorktreeRemove",
    } < set(hooks)
    assert "avfs checkpoint save" in (project / "CLAUDE.md").read_text()
    assert (project / ".claude" / "skills" / "avfs" / "SKILL.md").read_text() == plan.read_skill()
    assert _read(project / ".mcp.json") == {"mcpServers": {"avfs": {"command": "avfs", "args": ["mcp"]}}}

    assert _read(INTEGRATIONS / "claude" / "hooks" / "hooks.json") == {"hooks": hooks}
    plugin, market = (
        _read(INTEGRATIONS / "claude" / ".claude-plugin" / "plugin.json"),
        INTEGRATIONS / ".claude-plugin" / "marketplace.json",
    )
    assert (plugin["name"], plugin["version"]) == ("avfs", avfs_git.__version__)
    [listed] = _read(market)["plugins"]
    assert (INTEGRATIONS / listed["source"] / ".claude-plugin" / "plugin.json").is_file()
    assert _read(INTEGRATIONS / "claude" / ".mcp.json")["mcpServers"]["avfs"]["args"] == ["mcp"]


def test_what_codex_and_cursor_read(cli: Cli, project: Path) -> None:
    """Keys that they know, and no others."""
    (project / ".codex").mkdir()
    (project / ".codex" / "config.toml").write_text(_THEIRS[".codex/config.toml"])
    cli("setup", "codex").ok()
    cli("setup", "cursor").ok()
    hooks = _read(project / ".codex" / "hooks.json")
    assert set(hooks) == {"hooks"}
    assert set(hooks["hooks"]) == {"PreToolUse", "PostToolUse", "SessionStart", "Stop"}
    config = tomllib.loads((project / ".codex" / "config.toml").read_text())
    assert config["mcp_servers"]["other"] == {"command": "x"}
    cursor = _read(project / ".cursor" / "hooks.json")
    assert cursor["version"] == 1
    after = {"afterShellExecution", "afterFileEdit", "afterMCPExecution"}
    assert set(cursor["hooks"]) == {"sessionStart", "beforeShellExecution", "stop"} | after
    assert "ask" in "".join(cli("setup", "codex", "--json").result["notes"])


def test_a_file_that_cannot_be_read_is_refused_and_nothing_changes(cli: Cli, project: Path) -> None:
    """With the line; also where another file was to be changed first."""
    (project / ".claude").mkdir()
    (project / "CLAUDE.md").write_text("<!-- avfs:begin -->\nhalf a block\n")
    before = _files(project)
    ran = cli("setup", "claude")
    assert (ran.status, "line 1" in ran.stderr) == (2, True)
    assert _files(project) == before
    (project / "CLAUDE.md").unlink()
    (project / ".claude" / "settings.json").write_text('{\n  "a": 1,\n  b: 2\n}\n')
    before = _files(project)
    for more in ([], ["--remove"], ["--dry-run"]):
        ran = cli("setup", "claude", *more)
        assert (ran.status, "settings.json' is left as it is: line 3" in ran.stderr) == (2, True)
    (project / ".claude" / "settings.json").write_text('{"hooks": []}')
    assert cli("setup", "claude").status == 2
    (project / ".claude" / "settings.json").write_bytes(b"\xff")
    assert "not UTF-8" in cli("setup", "claude").stderr


def test_links_modes_and_what_the_user_wrote_stay(cli: Cli, project: Path) -> None:
    """A link is followed, permissions stay, and an entry of that name that the user made is the user's."""
    (project / "AGENTS.md").write_text("# Shop\n")
    (project / "CLAUDE.md").symlink_to("AGENTS.md")
    (project / ".claude").mkdir()
    (project / ".claude" / "settings.json").write_text("{}")
    (project / ".claude" / "settings.json").chmod(0o600)
    (project / ".mcp.json").write_text('{"mcpServers": {"avfs": {"command": "/opt/avfs", "args": ["mcp"]}}}')
    cli("setup", "claude").ok()
    assert (project / "CLAUDE.md").is_symlink()
    assert "avfs:begin" in (project / "AGENTS.md").read_text()
    assert (project / ".claude" / "settings.json").stat().st_mode & 0o777 == 0o600
    cli("setup", "claude", "--remove").ok()
    assert (project / "AGENTS.md").read_text() == "# Shop\n"
    assert _read(project / ".mcp.json")["mcpServers"]["avfs"]["command"] == "/opt/avfs"
    assert cli("setup", "claude", "--check", "--remove").status == 2
    assert cli("setup", "nosuch").status == 2


def test_a_link_to_a_file_with_nothing_else_stays(cli: Cli, project: Path) -> None:
    """Where a project keeps its settings elsewhere, what was written there is taken out, and the link is as it was."""
    (project / ".claude").mkdir()
    (project / "kept").mkdir()
    (project / "kept" / "settings.json").write_text("{}")
    (project / "kept" / "claude.md").touch()
    (project / ".claude" / "settings.json").symlink_to("../kept/settings.json")
    (project / "CLAUDE.md").symlink_to("kept/claude.md")
    cli("setup", "claude").ok()
    assert "avfs" in (project / "kept" / "settings.json").read_text()

    cli("setup", "claude", "--remove").ok()

    assert _read(project / ".claude" / "settings.json") == {}
    assert (project / "CLAUDE.md").is_symlink()
    assert (project / "kept" / "claude.md").read_text() == ""


@pytest.mark.parametrize("path", ["CLAUDE.md", ".mcp.json", ".claude"])
def test_a_link_out_of_the_project_is_refused(cli: Cli, project: Path, tmp_path: Path, path: str) -> None:
    """The author of a repository made it: nothing that is the user's changes, and nothing is made elsewhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (project / path).symlink_to(outside if path == ".claude" else outside / "file")

    refused = cli("setup", "claude")

    assert refused.status == 2
    assert "leads out of the project" in refused.stderr
    assert list(outside.iterdir()) == []
    assert not (project / "CLAUDE.md").exists()


def test_what_is_no_file_is_refused(cli: Cli, project: Path) -> None:
    """The author of a repository can put it there: nothing waits for a pipe, and nothing changes."""
    place = project / "CLAUDE.md"
    for make, said in (
        (lambda: os.mkfifo(place), "pipe"),
        (lambda: place.symlink_to("CLAUDE.md"), "symbolic link"),
        (lambda: place.write_text("<!-- avfs:end -->\n<!-- avfs:begin -->\n"), "line"),
    ):
        make()
        for more in ([], ["--remove"]):
            ran = cli("setup", "claude", *more)
            assert ran.status in {1, 2}
            assert said in ran.stderr
        assert not (project / ".mcp.json").exists()
        place.unlink()


def test_check_proves_each_part(cli: Cli, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails before, and where the program is not found; then the hook is run with an event."""
    program = tmp_path / "bin" / "avfs"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m avfs_git "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PYTHONPATH", str(Path(avfs_git.__file__).parents[1]))
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    missing = cli("setup", "claude", "--check", "--json")
    assert missing.status == 1
    assert not all(check["passed"] for check in missing.result["checks"])
    cli("setup", "claude").ok()
    found = {check["part"]: check for check in cli("setup", "claude", "--check", "--json").result["checks"]}
    assert found["hook PreToolUse is registered"]["passed"]
    assert found["`avfs hook claude` answers PreToolUse"]["passed"], found
    program.write_text("#!/bin/sh\necho broken >&2\nexit 3\n")
    shown = cli("setup", "claude", "--check")
    assert shown.status == 1
    assert "failed: `avfs hook claude` answers PreToolUse (status 3: broken)" in shown.text
    assert not (tmp_path / "home").exists()


def test_the_skill_is_one_that_harnesses_take() -> None:
    """Its head, its size, and commands that exist."""
    text = plan.read_skill()
    head = dict(line.split(": ", 1) for line in text.split("---\n")[1].splitlines())
    assert head["name"] == "avfs"
    assert len(head["description"]) <= 1024
    assert len(text.splitlines()) < 200
    named = {
        words.split()[1]
        for words in text.replace("\n", " ").split("`")
        if words.startswith("avfs ") and len(words.split()) > 1
    }
    assert named
    assert named <= set(VERBS)


@pytest.mark.parametrize("harness", HARNESSES)
def test_another_home_is_named_to_the_server(
    cli: Cli, project: Path, monkeypatch: pytest.MonkeyPatch, harness: str
) -> None:
    """Clients pass few variables on: the server's entry names the home if, and only if, it is not the default one."""
    home = project.parent / "a 'home\""
    for named in (home, None):
        if named is None:
            monkeypatch.delenv("AVFS_HOME")
        else:
            monkeypatch.setenv("AVFS_HOME", str(named))
        cli("setup", harness).ok()
        written = _files(project)
        if harness == "codex":
            servers = [tomllib.loads(written[".codex/config.toml"].decode())["mcp_servers"]["avfs"]]
        else:
            entries = (json.loads(text) for name, text in written.items() if name.endswith(".json"))
            servers = [
                entry[key]["avfs"]
                for entry in entries
                for key in ("mcpServers", "servers", "mcp")
                if "avfs" in entry.get(key, {})
            ]
        assert len(servers) == (2 if harness == "vscode" else 1)
        for server in servers:
            given = server.get("environment" if harness == "opencode" else "env")
            assert given == ({"AVFS_HOME": str(named)} if named is not None else None)
        cli("setup", harness, "--remove").ok()


def test_a_broken_avfs_does_not_hold_copilot_up(cli: Cli, project: Path, tmp_path: Path) -> None:
    """It refuses a tool whose hook fails: only avfs's refusal is one; VS Code and the model learn what is broken."""
    cli("setup", "vscode").ok()
    hooks = _read(project / ".github" / "hooks" / "avfs.json")["hooks"]
    program = tmp_path / "avfs"

    def run(event: str) -> tuple[int, str]:
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        line = ["sh", "-c", hooks[event][0]["bash"]]
        done = subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    assert run("PreToolUse") == (0, "")
    for status, told in ((0, 0), (2, 2)):
        program.write_text(f"#!/bin/sh\necho said; exit {status}\n")
        program.chmod(0o755)
        assert run("PreToolUse") == (told, "said\n")
    for text in ("#!/bin/sh\nexit 1\n", "#!/nowhere/python\n"):
        program.write_text(text)
        for event in hooks:
            status, answer = run(event)
            found = json.loads(answer)
            assert (status, found["hookSpecificOutput"]["hookEventName"]) == (0, event)
            texts = {
                found["systemMessage"],
                found["additionalContext"],
                found["hookSpecificOutput"]["additionalContext"],
            }
            assert ["setup vscode --check" in text for text in texts] == [True]


_DRIVER = """\
import { AvfsPlugin } from "./avfs.mjs"
const logged = []
const showToast = async () => { throw new Error("no screen") }
const client = { app: { log: async ({ body }) => logged.push(body.message) }, tui: { showToast } }
const hooks = await AvfsPlugin({ client, directory: "/tree" })
const call = async (tool, args) => {
  const input = { tool, sessionID: "s", callID: "c", args }
  try { await hooks["tool.execute.before"](input, { args }) } catch (error) { return error.message }
  await hooks["tool.execute.after"](input, {})
}
await hooks["chat.message"]({ sessionID: "s" }, {})
await hooks["chat.message"]({ sessionID: "s" }, {})
const answers = [await call("bash", { command: "deploy", workdir: "a 'b" }), await call("bash", { command: "broken" })]
answers.push(await call("bash", { command: "unread" }))
answers.push(await call("write", { filePath: "x" }), await call("read", { filePath: "x" }))
await hooks.event({ event: { type: "session.idle", properties: { sessionID: "s" } } })
console.log(JSON.stringify({ answers, logged }))
"""
_STUB = """\
#!/bin/sh
event=$(cat); printf '%s\\n' "$event" >> events
case $event in
*deploy*) echo '{"decision": "deny", "reason": "by hand"}';;
*broken*) echo "avfs hook: bug" >&2; exit 1;;
*unread*) echo "avfs hook: unread" >&2; exit 2;;
esac
"""


@pytest.mark.needs("node")
def test_the_plug_in_of_opencode_runs_the_hook(cli: Cli, project: Path, tmp_path: Path) -> None:
    """A refusal stops the tool; a broken avfs does not, and is told; what only reads is no event."""
    node = find_node()
    assert node is not None
    cli("setup", "opencode").ok()
    (tmp_path / "avfs.mjs").write_text((project / ".opencode/plugins/avfs.js").read_text())
    (tmp_path / "driver.mjs").write_text(_DRIVER)
    (tmp_path / "avfs").write_text(_STUB)
    (tmp_path / "avfs").chmod(0o755)

    line = [str(node / "node"), "driver.mjs"]
    done = subprocess.run(
        line, cwd=tmp_path, env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, capture_output=True, check=True
    )

    logged = ["avfs hook: bug", "avfs hook: bug", "avfs hook: unread"]
    assert json.loads(done.stdout) == {"answers": ["by hand", None, "avfs hook: unread", None, None], "logged": logged}
    told = [json.loads(text) for text in (tmp_path / "events").read_text().splitlines()]
    found = [read_event("opencode", json.dumps(event).encode()) for event in told]
    assert [(event.kind, event.tool) for event in found] == [
        (Kind.START, ""),
        (Kind.BEFORE, "bash"),
        (Kind.BEFORE, "bash"),
        (Kind.AFTER, "bash"),
        (Kind.BEFORE, "bash"),
        (Kind.AFTER, "write"),
        (Kind.END, ""),
    ]
    assert shlex.split(str(found[1].command)) == ["cd", "a 'b", "&&", "deploy"]
    assert {(event.session, str(event.directory)) for event in found} == {("s", "/tree")}
    assert (found[5].call, found[5].subject) == ("c", "x")


_PROGRAMS = {
    "claude": "claude",
    "codex": "codex",
    "gemini": "gemini",
    "opencode": "opencode",
    "cursor": "cursor",
    "vscode": "code",
}
"""What the guide sets up, and the program that it starts."""


@pytest.mark.needs("fuse", "git")
@pytest.mark.parametrize("harness", list(_PROGRAMS))
def test_the_commands_of_the_guide_run_as_they_stand(mount_dir: Path, harness: str) -> None:
    """The program works in a live tree that has what `setup` wrote, and each part of it is proven."""
    guide = (Path(avfs_git.__file__).parents[1] / "docs" / "guides" / "coding-agents.md").read_text()
    run_it, fork_it, set_it_up = guide.split("```\n")[1:6:2]
    program, (enter, start) = _PROGRAMS[harness], run_it.splitlines()
    start = (
        fork_it.replace("cursor ", f"{program} ")
        if harness in ("cursor", "vscode")
        else start.replace("claude", program)
    )
    script = "\n".join((enter, set_it_up.replace("setup claude", f"setup {harness}"), start))
    (mount_dir / "bin").mkdir()
    programs = {
        "avfs": f'exec {shlex.quote(sys.executable)} -m avfs_git "$@"',
        program: 'cd "${1:-.}" && avfs status --json > "$HOME/status"; ls -A > "$HOME/seen"',
    }
    for name, text in programs.items():
        (mount_dir / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (mount_dir / "bin" / name).chmod(0o755)
    (mount_dir / "shop").mkdir()
    (mount_dir / "shop" / "main.py").write_text("one\n")
    subprocess.run(["git", "init", "-q"], cwd=mount_dir / "shop", check=True)
    environment = {
        **os.environ,
        "AVFS_HOME": str(mount_dir / "home"),
        "HOME": str(mount_dir),
        "PATH": f"{mount_dir / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(avfs_git.__file__).parents[1]),
    }

    def run(*line: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(line, cwd=mount_dir, env=environment, capture_output=True, text=True, check=False)

    done = run("sh", "-e", "-c", script)
    run(str(mount_dir / "bin" / "avfs"), "stop", "shop-task")  # where the guide leaves it mounted

    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert json.loads((mount_dir / "status").read_text())["result"]["fork"]
    seen = (mount_dir / "seen").read_text().split()
    assert "main.py" in seen
    assert {"AGENTS.md", "GEMINI.md", "CLAUDE.md"} & {*seen}

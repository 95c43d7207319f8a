"""Real coding agents with a model that follows a script: setup, a fork, an edit, a command, undo, a refusal, an end.

`make harnesses` installs the programs from the npm registry and runs this; `make test` does where they are installed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import avfs_git
from avfs_git import Home
from tests.support.capabilities import find_harnesses, find_node
from tests.support.scripted_model import LAST, Call, scripted

pytestmark = [pytest.mark.slow, pytest.mark.needs("fuse", "git", "harnesses")]

_POLICY = (
    'version = 1\n[[rule]]\nname = "no-deploy"\ncommands = ["deploy"]\naction = "deny"\nreason = "deploys are '
    'made by hand"\n'
)
_LIMIT_S = 300
_INTEGRATIONS = Path(avfs_git.__file__).parent / "integrations"


class Place:
    """A clone `shop`, and a home for avfs and the programs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.shop = root / "shop"
        self.tree = root / "avfs" / "mounts" / "shop" / "job"
        node, programs = find_node(), find_harnesses()
        assert node is not None
        assert programs is not None
        path = (Path(sys.executable).parent, programs, node, "/usr/bin", "/bin")
        self.environment = {
            "HOME": str(root / "user"),
            "AVFS_HOME": str(root / "avfs"),
            "PATH": ":".join(map(str, path)),
            "TMPDIR": str(root),
            "TERM": "dumb",
            **dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "Ada"),
            **dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "ada@example.com"),
        }
        (root / "user").mkdir()
        (root / "user" / ".bash_profile").write_text(f"PATH={self.environment['PATH']}\n")  # for shells of a login
        self.shop.mkdir()
        (self.shop / "main.py").write_text("one\n")
        (self.shop / ".gitignore").write_text("*.log\n")
        self("git", "init", "--quiet")

    def __call__(self, *line: str, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program in the clone."""
        done = subprocess.run(
            line,
            cwd=self.shop,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )
        assert done.returncode == 0 or not check, f"{line}\n{done.stdout}\n{done.stderr}"
        return done

    def avfs(self, *line: str) -> dict[str, Any]:
        """Run a command of avfs on the fork `job`; give its result."""
        result: dict[str, Any] = json.loads(self("avfs", "--vault", "shop", "--fork", "job", *line, "--json").stdout)[
            "result"
        ]
        return result


class Harness(NamedTuple):
    """How a program is used without a terminal."""

    line: Sequence[str]
    shell: Callable[[str], Call]
    write: Callable[[Path, str], Call]
    prepare: Callable[[Place, str], Mapping[str, str]]
    """Writes what the user has in the home; gives the environment."""
    registered: str | None = None
    """The name by which avfs knows it, if that is another one."""


def _prepare_claude(place: Place, url: str) -> dict[str, str]:
    quiet = ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_AUTOUPDATER", "IS_SANDBOX")
    return {"ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_KEY": "none", **dict.fromkeys(quiet, "1")}


def _prepare_codex(place: Place, url: str) -> dict[str, str]:
    own = place.root / "user" / ".codex"
    own.mkdir()
    trusted = "".join(f'[projects."{path}"]\ntrust_level = "trusted"\n' for path in (place.shop, place.tree))
    provider = f'[model_providers.local]\nname = "local"\nbase_url = "{url}/v1"\nwire_api = "responses"\n'
    (own / "config.toml").write_text(f'model = "gpt-5"\nmodel_provider = "local"\n{provider}{trusted}')
    return {}


def _prepare_gemini(place: Place, url: str) -> dict[str, str]:
    own = place.root / "user" / ".gemini"
    own.mkdir()
    (own / "settings.json").write_text('{"security": {"auth": {"selectedType": "gemini-api-key"}}}')
    return {"GEMINI_API_KEY": "none", "GOOGLE_GEMINI_BASE_URL": url, "GEMINI_CLI_TRUST_WORKSPACE": "true"}


def _prepare_opencode(place: Place, url: str) -> dict[str, str]:
    own = place.root / "user" / ".config" / "opencode"
    own.mkdir(parents=True)
    options = {"baseURL": f"{url}/v1", "apiKey": "none"}
    provider = {"npm": "@ai-sdk/openai-compatible", "options": options, "models": {"scripted": {}}}
    (own / "opencode.json").write_text(json.dumps({"provider": {"local": provider}, "model": "local/scripted"}))
    quiet = ("OPENCODE_DISABLE_MODELS_FETCH", "OPENCODE_DISABLE_AUTOUPDATE", "OPENCODE_DISABLE_LSP_DOWNLOAD")
    return dict.fromkeys(quiet, "1")


def _prepare_copilot(place: Place, url: str) -> dict[str, str]:
    provider = {"COPILOT_PROVIDER_BASE_URL": f"{url}/v1", "COPILOT_MODEL": "scripted"}
    # no login, and the directory is trusted
    return {**provider, "COPILOT_OFFLINE": "true", "COPILOT_ALLOW_ALL": "true"}


_HARNESSES = {
    "claude": Harness(
        ("claude", "--dangerously-skip-permissions", "-p", "work"),
        lambda text: Call("Bash", {"command": text, "description": "Do it"}),
        lambda path, text: Call("Write", {"file_path": str(path), "content": text}),
        _prepare_claude,
    ),
    "codex": Harness(
        ("codex", "exec", "--dangerously-bypass-hook-trust", "--dangerously-bypass-approvals-and-sandbox", "work"),
        lambda text: Call("exec_command", {"cmd": text}),
        lambda path, text: Call("exec_command", {"cmd": f"printf '{text}' > {path}"}),
        _prepare_codex,
    ),
    "gemini": Harness(
        ("gemini", "--yolo", "-p", "work"),
        lambda text: Call("run_shell_command", {"command": text, "description": "Do it"}),
        lambda path, text: Call("write_file", {"file_path": str(path), "content": text}),
        _prepare_gemini,
    ),
    "opencode": Harness(
        ("opencode", "run", "work"),
        lambda text: Call("bash", {"command": text, "description": "Do it"}),
        lambda path, text: Call("write", {"filePath": str(path), "content": text}),
        _prepare_opencode,
    ),
    "copilot": Harness(
        ("copilot", "--disable-builtin-mcps", "-p", "work"),
        lambda text: Call("bash", {"command": text, "description": "Do it"}),
        lambda path, text: Call("create", {"path": str(path), "file_text": text}),
        _prepare_copilot,
        registered="vscode",  # whose hooks Copilot CLI runs
    ),
}


@pytest.fixture
def place(mount_dir: Path) -> Iterator[Place]:
    """A clone with a vault and its policy."""
    made = Place(mount_dir)
    yield made
    with Home(mount_dir / "avfs") as home:
        for found in home.sessions():
            with home.open_vault(found.vault) as vault:
                if (session := vault.find_session(found.fork)) is not None:
                    session.unmount(force=True)


def _begin(place: Place, name: str) -> None:
    """Register avfs, commit that, and make the vault, with a policy."""
    place("avfs", "setup", _HARNESSES[name].registered or name)
    place("git", "add", "-A")
    place("git", "commit", "--quiet", "-m", "start")
    place("avfs", "fork", ".", "../other")
    (place.root / "avfs" / "vaults" / "shop.git" / "avfs" / "policy.toml").write_text(_POLICY)


@pytest.mark.parametrize("name", list(_HARNESSES))
def test_a_session(place: Place, name: str) -> None:
    """Each call that changed something is a checkpoint, `avfs undo` takes the last one back, and a refusal says why."""
    harness = _HARNESSES[name]
    _begin(place, name)
    steps = [
        harness.shell("echo made > made; echo ignored > kept.log"),
        harness.write(place.tree / "edited", "edited\n"),
        harness.shell("avfs undo"),
        harness.shell("deploy now"),
    ]

    with scripted(steps) as model:
        environment = harness.prepare(place, model.url)
        done = place("avfs", "run", "--name", "job", "--", *harness.line, check=False, **environment)

    heard = json.dumps(model.asked[-1:])
    said = f"{done.stdout}\n{done.stderr}\n{heard[-6000:]}\nstrange requests: {model.strange}"
    assert done.returncode == 0, said
    assert LAST in done.stdout, said
    assert "Undid in job" in heard, said
    assert "deploys are made by hand" in heard, said
    messages = [entry["checkpoint"]["message"] for entry in place.avfs("log")["entries"]]
    named = f"Avfs-Harness: {harness.registered or name}\nAvfs-Session: "
    steps_made = [text for text in messages if named in text and not text.startswith("state before")]
    assert len(steps_made) == 1, messages
    differing = {found["change"]["path"] for found in place.avfs("diff", "other", "job")["files"]}
    assert differing - {"opencode.json"} == {"made"}, said  # opencode names its schema there
    assert place.avfs("cat", "kept.log") is not None
    audited = [entry["event"] for entry in place.avfs("audit")["entries"]]
    assert [event for event in audited if event.startswith("hook_")] == ["hook_denied"]
    assert {"fork_create", "undo"} <= set(audited)
    assert place("git", "status", "--porcelain").stdout == ""


@pytest.mark.parametrize("name", list(_HARNESSES))
def test_a_broken_avfs_is_not_in_the_way(place: Place, name: str) -> None:
    """Its hook and its server fail at once: the commands of the agent run."""
    harness = _HARNESSES[name]
    _begin(place, name)
    broken = place.root / "broken"
    broken.mkdir()
    (broken / "avfs").write_text("#!/bin/sh\necho 'avfs: no module' >&2\nexit 1\n")
    (broken / "avfs").chmod(0o755)
    path = f"{broken}:{place.environment['PATH']}"
    (place.root / "user" / ".bash_profile").write_text(f"PATH={path}\n")

    with scripted([harness.shell("echo made > made"), harness.write(place.shop / "edited", "edited\n")]) as model:
        environment = harness.prepare(place, model.url)
        done = place(*harness.line, check=False, **environment, PATH=path)

    heard = json.dumps(model.asked[-1:])
    said = f"{done.stdout}\n{done.stderr}\n{heard[-6000:]}\nstrange requests: {model.strange}"
    assert done.returncode == 0, said
    assert LAST in done.stdout, said
    assert [(place.shop / file).exists() for file in ("made", "edited")] == [True, True], said


def test_the_plug_in_passes_the_validator_of_claude_code(place: Place) -> None:
    """It has nothing to say about what a plug-in and a marketplace must have."""
    for part in (".", "claude"):
        said = place("claude", "plugin", "validate", str(_INTEGRATIONS / part)).stdout.partition(
            "Plugin directory checks"
        )[0]
        assert "warning" not in said, said


@pytest.mark.parametrize("name", ["claude", "codex", "copilot"])
def test_the_plug_in_works(place: Place, name: str) -> None:
    """Each of them installs it from the one marketplace: calls are checkpoints, and the policy is asked."""
    harness = _HARNESSES[name]
    place("git", "add", "-A")
    place("git", "commit", "--quiet", "-m", "start")
    place("avfs", "fork", ".", "../other")
    (place.root / "avfs" / "vaults" / "shop.git" / "avfs" / "policy.toml").write_text(_POLICY)

    with scripted([harness.shell("echo made > made"), harness.shell("deploy now")]) as model:
        environment = harness.prepare(place, model.url)
        place(harness.line[0], "plugin", "marketplace", "add", str(_INTEGRATIONS), check=True, **environment)
        place(
            harness.line[0], "plugin", "add" if name == "codex" else "install", "avfs@avfs", check=True, **environment
        )
        done = place("avfs", "run", "--name", "job", "--", *harness.line, check=False, **environment)

    heard = json.dumps(model.asked[-1:])
    said = f"{done.stdout}\n{done.stderr}\n{heard[-6000:]}"
    assert done.returncode == 0, said
    assert "deploys are made by hand" in heard, said
    assert place("avfs", "--vault", "shop", "--fork", "job", "cat", "made").stdout == "made\n"
    message = place.avfs("log")["entries"][0]["checkpoint"]["message"]
    assert message.startswith("Bash: "), message
    assert f"Avfs-Harness: {harness.registered or name}\nAvfs-Session: " in message


def test_claude_code_works_in_a_tree_that_avfs_makes(place: Place) -> None:
    """`claude --worktree` gets a fork with what git ignores.

    Its changes are saved there, and the clone stays as it is.
    """
    harness = _HARNESSES["claude"]
    _begin(place, "claude")
    (place.shop / "kept.log").write_text("ignored\n")

    with scripted([harness.shell("cat kept.log > made; git rev-parse --show-toplevel")]) as model:
        environment = harness.prepare(place, model.url)
        done = place("claude", "--worktree", "job", *harness.line[1:], check=False, **environment)

    heard = json.dumps(model.asked[-1:])
    said = f"{done.stdout}\n{done.stderr}\n{heard[-6000:]}"
    assert done.returncode == 0, said
    assert str(place.tree) in heard, said
    assert place("avfs", "--vault", "shop", "--fork", "job", "cat", "made").stdout == "ignored\n"
    assert not (place.shop / "made").exists()

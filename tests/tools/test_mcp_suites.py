"""The suites of the Model Context Protocol itself, run against `avfs mcp`: the conformance tests, and the inspector."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn

from avfs_git.mcp.http import listen, make_app
from tests.support.capabilities import find_node
from tests.support.mcp import Place

pytestmark = [pytest.mark.slow, pytest.mark.needs("node")]

PACKAGES = ["@modelcontextprotocol/conformance@0.2.0-alpha.12", "@modelcontextprotocol/inspector@2.12.0"]
SCENARIOS = [
    "server-initialize",
    "ping",
    "tools-list",
    "resources-list",
    "prompts-list",
    "dns-rebinding-protection",
    "caching",
    "http-header-validation",
    "sep-2164-resource-not-found",
]
"""Those that ask for no tools made for the suite."""


@pytest.fixture(scope="module")
def suites(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The programs of the suites, from the npm registry: installed once for all processes that run tests."""
    own = tmp_path_factory.getbasetemp()
    place = (own if worker_id == "master" else own.parent) / "mcp-suites"
    place.mkdir(exist_ok=True)
    with (place / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        failure = place / "failure"
        if not (place / "node_modules").exists() and not failure.exists():
            failure.write_text(install(place))
    if told := failure.read_text():
        pytest.skip(f"npm cannot install the suites: {told}")
    return place / "node_modules/.bin"


def install(place: Path) -> str:
    """Install the suites, as the user's npm is configured.

    Says why that is not possible, such as a machine without a network.
    """
    node = find_node()
    assert node is not None
    environment = {**os.environ, "PATH": f"{node}:{os.environ['PATH']}"}
    options = ["--no-audit", "--no-fund", "--prefer-offline", "--loglevel=error", "--prefix", str(place)]
    line = [str(node / "npm"), "install", *options, *PACKAGES]
    done = subprocess.run(line, cwd=place, env=environment, capture_output=True, text=True, check=False)
    told = next((line for line in done.stderr.splitlines() if "reason:" in line), done.stderr.strip()[-200:])
    return (told or f"status {done.returncode}") if done.returncode else ""


@pytest.fixture
def place(hermetic: Path) -> Place:
    """The home of the command line, with two vaults."""
    return Place(hermetic / "avfs")


def run(suites: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the suites."""
    environment = {**os.environ, "PATH": f"{find_node()}:{os.environ['PATH']}"}
    return subprocess.run(
        [str(suites / program), *arguments], env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def url(place: Place) -> Iterator[str]:
    """A server over HTTP, which asks for no token: the suite has none."""
    listening = listen("127.0.0.1", 0)
    port = int(listening.getsockname()[1])
    app = make_app(place.serve(), port=port, token=None)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield f"http://127.0.0.1:{port}/mcp"
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_conformance(suites: Path, url: str, scenario: str) -> None:
    """The server passes what the protocol's own suite asks of any server."""
    done = run(suites, "conformance", "server", "--url", url, "--scenario", scenario)

    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 failed" in done.stdout


def test_the_inspector_gets_through(suites: Path, place: Place) -> None:
    """The protocol's own client starts the command, lists, calls, and reads; a tool's error is one for it."""
    command = [sys.executable, "-m", "avfs_git", "mcp"]
    options = ["-e", f"AVFS_HOME={place.root}", "--format", "json"]

    def inspect(*arguments: str) -> subprocess.CompletedProcess[str]:
        return run(suites, "mcp-inspector", "--cli", *options, *command, *arguments)

    tools = json.loads(inspect("--method", "tools/list").stdout)["result"]["tools"]
    call = ["--method", "tools/call", "--tool-name"]
    written = inspect(*call, "write_file", "--tool-arg", "path=x", "--tool-arg", "content=hello")
    refused = inspect(*call, "read_text_file", "--tool-arg", "path=../x")
    read = json.loads(inspect("--method", "resources/read", "--uri", "avfs://work/main/x").stdout)

    assert {"read_text_file", "exec", "merge"} <= {tool["name"] for tool in tools}
    assert (written.returncode, place.read("x")) == (0, b"hello")
    assert refused.returncode == 5
    assert "path.escapes" in refused.stdout
    assert read["result"]["contents"][0]["text"] == "hello"

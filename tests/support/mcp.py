"""A server of the Model Context Protocol for tests: in memory, for clients of both eras."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mcp import Client
from mcp.server import MCPServer
from mcp_types import CallToolResult, TextContent

from avfs_git import Home
from avfs_git.cli.commands.running.approvals import describe
from avfs_git.mcp.scope import Scope
from avfs_git.mcp.server import make_server

ERAS = ["2026-07-28", "legacy"]

_T = TypeVar("_T")


class Place:
    """A home with a vault `work`, for servers of different scopes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with self.open() as home:
            vault = home.create_vault("work")
            work = vault.workspace()
            work.write_text("README", "hello\n")
            work.write_text("src/main.py", "one = 1\ntwo = 2\n")
            work.write_text(".gitignore", "*.log\n")
            work.write_text("build.log", "ignored\n")
            work.checkpoint("start")
            vault.fork("side")
            home.create_vault("other").workspace().write_text("secret", "other's\n")
            home.use_vault("work")

    def open(self, **options: Any) -> Home:
        """Open the home."""
        return Home(self.root, **options)

    def serve(self, **limits: Any) -> MCPServer:
        """Make a server."""
        return make_server(Scope(self.open, **limits), describe)

    def read(self, path: str, fork: str = "main") -> bytes:
        """Read a file, by the SDK."""
        with self.open() as home:
            return home.open_vault("work").workspace(fork).read(path)

    def fingerprint(self) -> object:
        """Say all that a tool could change: refs, operations, and files."""
        found: list[object] = []
        with self.open() as home:
            for name in sorted(info.name for info in home.list_vaults()):
                vault = home.open_vault(name)
                git = ["git", "-C", str(vault.path), "for-each-ref"]
                found += [
                    name,
                    subprocess.run(git, check=True, capture_output=True).stdout,
                    vault.operations(limit=1000),
                ]
                for fork in vault.list_forks():
                    work = vault.workspace(fork.name)
                    found += [work.status(), [(info.path, info.kind, info.mode, info.size) for info in work.walk()]]
        return found


def talk(server: MCPServer, talking: Callable[[Client], Awaitable[_T]], era: str = "2026-07-28", **options: Any) -> _T:
    """Connect a client to a server, and let it talk."""

    async def connect() -> _T:
        error: BaseException
        async with Client(server, mode=era, **options) as client:
            try:
                return await talking(client)
            except Exception as failed:  # noqa: BLE001 - raised behind the client, which would put it into groups
                error = failed
        raise error

    return asyncio.run(connect())


def call(server: MCPServer, tool: str, era: str = "2026-07-28", **arguments: Any) -> CallToolResult:
    """Call one tool."""
    return talk(server, lambda client: client.call_tool(tool, arguments), era)


def text_of(result: CallToolResult) -> str:
    """Give the text that the model reads."""
    first = result.content[0]
    assert isinstance(first, TextContent)
    return first.text


def ok(result: CallToolResult) -> dict[str, Any]:
    """Demand success; gives the record."""
    assert not result.is_error, text_of(result)
    record: dict[str, Any] | None = result.structured_content
    assert record is not None
    return record


def code_of(result: CallToolResult) -> str:
    """Demand an error; gives its code, which text and `_meta` agree on."""
    assert result.is_error, result.structured_content
    assert result.structured_content is None
    assert result.meta is not None
    code: str = result.meta["avfs/error"]["code"]
    assert text_of(result).startswith(f"{code}: ")
    return code


@contextmanager
def serving(*command: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run a program that is a server; end it with the block."""
    with subprocess.Popen(command, text=True, stderr=subprocess.PIPE, **options) as running:
        try:
            yield running
        finally:
            running.terminate()
            running.wait()

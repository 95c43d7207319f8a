"""The server: its tools, resources and instructions, for both eras of the protocol.

Decided here: which tools there are, what a client is told of avfs as a whole, and that over standard input a request is
answered although it cannot be read. `cli.commands.running.mcp` makes a server and runs it; tests connect to it in
memory. One server serves many clients at once.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Self

import anyio
from mcp.server import MCPServer
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from mcp_types import INVALID_REQUEST, PARSE_ERROR, ErrorData, JSONRPCError
from pydantic import Field, ValidationError

from avfs_git import __version__
from avfs_git.mcp.answers import Leftovers, Rest
from avfs_git.mcp.scope import Call, Reach, Scope
from avfs_git.mcp.tool import READS, Offset, Toolbox, make_tools
from avfs_git.mcp.tools import commands, files, forks, git, states
from avfs_git.mcp.tools.resources import FileServer, add_resources
from avfs_git.proxy.policy.approvals import Approval

if TYPE_CHECKING:
    from mcp.shared._stream_protocols import ReadStream, WriteStream

_INSTRUCTIONS = """avfs gives each agent a fork: a branch of a git repository with files of its own. Work in a fork as
in any directory, with the file tools and `exec`. Nothing is lost: `undo` takes back the last operation, and
`operations` lists them.

- Begin risky work with `fork_create`; save states that work with `checkpoint`; go back with `restore` or `undo`.
- `git_status` and `git_diff` show what is not saved; `diff`, `git_log` and `git_show` what is. `overlap` shows which
  forks will conflict; `merge` takes a fork over.
- `exec` runs a command and commits its changes. The policy may refuse it, or ask a person: then wait for the answer,
  and do not look for a way around.
- A long answer is cut: `next_offset`, or `cut` with the arguments of `more`, leads to the rest.
- An error begins with a code, such as `path.not_found`, and says what to do. Nothing was changed,
  unless it says otherwise.
"""


class _Server(FileServer):
    """A server that answers over standard input also what it cannot read."""

    async def run_stdio_async(self) -> None:
        """Serve over standard input and output until the input ends."""
        options = self._lowlevel_server.create_initialization_options()
        async with stdio_server() as (read, write):
            await self._lowlevel_server.run(_Readable(read, write), write, options)


class _Readable:
    """What of a client's messages can be read; a request that cannot be read is answered with an error."""

    def __init__(self, read: ReadStream[SessionMessage | Exception], write: WriteStream[SessionMessage]) -> None:
        self._read = read
        self._write = write

    @property
    def last_context(self) -> object:
        """The context in which the last message was sent."""
        return getattr(self._read, "last_context", None)

    async def receive(self) -> SessionMessage | Exception:
        """Wait for the next message."""
        while True:
            found = await self._read.receive()
            refusal = _refuse(found) if isinstance(found, ValidationError) else None
            if refusal is None:
                return found
            await self._write.send(SessionMessage(refusal))

    async def aclose(self) -> None:
        """Close the stream."""
        await self._read.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SessionMessage | Exception:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _refuse(error: ValidationError) -> JSONRPCError | None:
    """Answer what cannot be read, unless it is a notification or an answer itself."""
    errors = error.errors(include_url=False)
    is_json = errors[0]["type"] != "json_invalid"
    message, inputs = errors[0]["msg"], [each["input"] for each in errors]
    if not is_json:
        with suppress(ValueError, RecursionError):  # half of a character, which Python reads
            inputs = [json.loads(inputs[0])]
            message += "; a text must not hold half of a character (a lone surrogate)"
    whole = next((found for found in inputs if isinstance(found, dict)), {"method": "", "id": None})
    if "method" not in whole or "id" not in whole:
        return None
    given = whole["id"] if isinstance(whole["id"], str | int) and not isinstance(whole["id"], bool) else None
    code = INVALID_REQUEST if is_json else PARSE_ERROR
    return JSONRPCError(jsonrpc="2.0", id=given, error=ErrorData(code=code, message=message))


def make_server(scope: Scope, describe: Callable[[Approval], Iterable[str]]) -> MCPServer:
    """Make a server.

    Args:
        scope: What it works in.
        describe: Shows an approval to a person: all that a yes lets happen, line by line.
    """
    leftovers = Leftovers()
    rest = Toolbox()

    @rest.tool("Read on", READS, render=lambda record: str(record.get("text") or record.get("items")))
    def more(
        call: Call,  # noqa: ARG001 - every tool gets it
        handle: str,
        field: Annotated[str, Field(description="As `cut` names it, such as `/patch`.")],
        offset: Offset = 0,
    ) -> Rest:
        """Read the rest of an answer that was cut: its `cut` has the arguments. Only the last answers are kept."""
        return leftovers.read(handle, field, offset)

    specs = [*files.tools, *git.tools, *states.tools, *forks.tools, *commands.tools, *rest]
    server = _Server(
        "avfs",
        title="avfs",
        version=__version__,
        instructions=f"{_INSTRUCTIONS}\n{_describe_scope(scope)}",
        tools=make_tools(specs, scope, leftovers, describe),
        log_level="WARNING",
    )
    add_resources(server, scope)
    return server


def _describe_scope(scope: Scope) -> str:
    """Say where a call works that names nothing."""
    vault = f"vault {scope.vault}" if scope.vault is not None else "the user's current vault"
    fork = f"fork {scope.fork}" if scope.fork is not None else "its default fork"
    limits = {Reach.FORK: " Only this fork can be used.", Reach.VAULT: " Only this vault can be used.", Reach.HOME: ""}
    changes = " Nothing can be changed." if scope.is_read_only else ""
    return f"Calls that name none work in {vault}, {fork}.{limits[scope.reach]}{changes}"

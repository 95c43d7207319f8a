"""The server: its tools, resources and instructions, for both eras of the protocol.

Decided here: which tools there are, and what a client is told of avfs as a whole. `cli.commands.running.mcp` makes a server and
runs it; tests connect to it in memory. One server serves many clients at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated

from mcp.server import MCPServer
from pydantic import Field

from avfs_git import __version__
from avfs_git.mcp import commands, files, forks, git, states
from avfs_git.mcp.answers import Leftovers, Rest
from avfs_git.mcp.resources import FileServer, add_resources
from avfs_git.mcp.scope import Call, Reach, Scope
from avfs_git.mcp.tool import READS, Offset, Toolbox, make_tools
from avfs_git.proxy.policy.approvals import Approval

_INSTRUCTIONS = """avfs gives each agent a fork: a branch of a git repository with files of its own. Work in a fork as in any
directory, with the file tools and `exec`. Nothing is lost: `undo` takes back the last operation, and `operations` lists
them.

- Begin risky work with `fork_create`; save states that work with `checkpoint`; go back with `restore` or `undo`.
- `git_status` and `git_diff` show what is not saved; `diff`, `git_log` and `git_show` what is. `overlap` shows which forks will
  conflict; `merge` takes a fork over.
- `exec` runs a command and commits its changes. The policy may refuse it, or ask a person: then wait for the answer, and do not
  look for a way around.
- A long answer is cut: `next_offset`, or `cut` with the arguments of `more`, leads to the rest.
- An error begins with a code, such as `path.not_found`, and says what to do. Nothing was changed,
  unless it says otherwise.
"""


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
    server = FileServer(
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

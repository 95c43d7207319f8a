"""Files as resources: `avfs://VAULT/FORK/PATH`.

Decided here: what a resource is: a file of a fork as it is now, as text where it is UTF-8, or the names in a directory.
A slash in a fork's name is written `%2F`, and bytes of a path that are not UTF-8 as what they are, such as `%E9`. Paths
that lead out of the workspace match nothing; a file above 4 MiB is refused.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote as percent
from urllib.parse import unquote

import anyio.to_thread
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError
from mcp_types import InputRequiredResult
from pydantic.networks import AnyUrl

from avfs_git.errors import AvfsError, ForkNotFound, OutOfScope, PathNotFound, PathUnsuitable, VaultNotFound
from avfs_git.mcp.scope import Call, Scope
from avfs_git.model import Kind
from avfs_git.records import is_utf8

MAX_BYTES = 4 << 20
_ABSENT = (ForkNotFound, OutOfScope, PathNotFound, VaultNotFound)
_ENCODED = re.compile("(?:%[0-9A-Fa-f]{2})+")


class FileServer(MCPServer):
    """A server that says of each file of what type it is, by its name and content."""

    async def read_resource(
        self, uri: AnyUrl | str, context: Context[Any, Any] | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """Read a resource."""
        found = await super().read_resource(_ENCODED.sub(_keep_bytes, str(uri)), context)
        if isinstance(found, InputRequiredResult):
            return found
        return [ReadResourceContents(item.content, _type_of(str(uri), item.content)) for item in found]


def _keep_bytes(encoded: re.Match[str]) -> str:
    """Put surrogates for bytes that are not UTF-8: the library reads each as one sign, as in another file's name."""
    text = unquote(encoded[0], errors="surrogateescape")
    return "".join(sign if "\udc80" <= sign <= "\udcff" else percent(sign, safe="") for sign in text)


def _type_of(uri: str, content: str | bytes) -> str:
    guessed = mimetypes.guess_type(uri.rpartition("/")[2])[0]
    if isinstance(content, bytes):
        return guessed or "application/octet-stream"
    return (
        guessed if guessed is not None and guessed.startswith(("text/", "application/", "image/svg")) else "text/plain"
    )


def add_resources(server: MCPServer, scope: Scope) -> None:
    """Give a server the files of the forks that it may work in."""

    def read(vault: str, fork: str, path: str) -> str | bytes:
        with Call(scope) as call:
            workspace = call.workspace(vault, fork)
            info = workspace.stat(path, follow=True)
            if info.kind is Kind.DIRECTORY:
                entries = workspace.list_dir(path, sizes=False)
                names = (entry.path.rpartition(b"/")[2] + b"/" * (entry.kind is Kind.DIRECTORY) for entry in entries)
                return "".join(f"{percent(name)}\n" for name in names)
            if info.size > MAX_BYTES:
                raise PathUnsuitable(path, f"has more than {MAX_BYTES:,} bytes; `read_text_file` reads it in pieces")
            data = workspace.read(path)
        return data.decode() if is_utf8(data) else data

    @server.resource(
        "avfs://{vault}/{fork}/{+path}",
        name="file",
        title="A file of a fork",
        description="A file of a fork as it is now, or the names in a directory. A slash in a fork's name is `%2F`.",
    )
    async def file(vault: str, fork: str, path: str) -> str | bytes:
        try:
            return await anyio.to_thread.run_sync(read, vault, fork, path)
        except _ABSENT as error:
            raise ResourceNotFoundError(f"{error.code}: {error.message}") from error
        except AvfsError as error:
            raise ResourceError(f"{error.code}: {error.message}") from error

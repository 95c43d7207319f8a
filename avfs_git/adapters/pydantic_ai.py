"""A fork as a workspace of pydantic-ai: its live tree, for an agent's commands and files.

`adapters.live` decides when the fork is mounted and what is saved. Other processes attach by `ref`. One event loop uses
a backend; several backends may share a fork.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from pydantic_ai.workspaces import (
    CommandResult,
    FileEntry,
    LocalWorkspaceBackend,
    SupportsCommands,
    SupportsFilesystem,
    SupportsRealpath,
    WorkspaceBackend,
    WorkspaceRef,
    WorkspaceUnavailableError,
)

from avfs_git.adapters.live import LiveFork
from avfs_git.errors import AvfsError, InvalidInput, quote

PROVIDER = "avfs"


@contextmanager
def _telling() -> Iterator[None]:
    """Say in the framework's words that the fork cannot be used, for example because another program has deleted it."""
    try:
        yield
    except AvfsError as error:
        raise WorkspaceUnavailableError(f"{error.code}: {error.message}") from error


class ForkBackend(WorkspaceBackend, SupportsCommands, SupportsFilesystem, SupportsRealpath):
    """The live tree of a fork."""

    def __init__(
        self,
        vault: str | None = None,
        fork: str | None = None,
        *,
        home: Path | None = None,
        env: Mapping[str, str] | None = None,
        checkpoints: bool = True,
    ) -> None:
        """Use a fork; the first operation mounts it.

        Args:
            vault: The vault's name; the home's current vault by default.
            fork: The fork, which exists; the vault's default fork by default.
            home: The directory of the vaults; that of the command line by default.
            env: Variables for every command.
            checkpoints: Save a checkpoint after each command that changed files.
        """
        self._fork = LiveFork(vault, fork, home=home, checkpoints=checkpoints)
        self._env = dict(env or {})
        self._live: LocalWorkspaceBackend | None = None
        self._starting = asyncio.Lock()

    @classmethod
    def attach(
        cls, ref: WorkspaceRef, *, home: Path | None = None, env: Mapping[str, str] | None = None
    ) -> ForkBackend:
        """Use the fork that a `ref` names.

        Raises:
            InvalidInput: If it is no `ref` of a fork.
        """
        vault, _, fork = ref.id.partition("@")
        if ref.provider != PROVIDER or not fork:
            raise InvalidInput(f"{quote(ref.id)} is no fork of a vault")
        return cls(vault, fork, home=home, env=env)

    @property
    def ref(self) -> WorkspaceRef | None:
        """`VAULT@FORK`, known from the first operation on."""
        name = self._fork.name
        return WorkspaceRef(provider=PROVIDER, id=name) if name is not None else None

    async def stop(self) -> None:
        """Save a last checkpoint and unmount the fork. The next operation mounts it again."""
        await asyncio.to_thread(self._fork.stop)

    def close(self) -> None:
        """Close the vault; the fork stays mounted. A second call does nothing."""
        self._fork.close()

    async def _tree(self) -> LocalWorkspaceBackend:
        """Find the live tree; mount it if it is not."""
        async with self._starting:
            with _telling():
                place = await asyncio.to_thread(self._fork.mount)
            if self._live is None or self._live.ref.id != str(place):
                self._live = LocalWorkspaceBackend(place, env=self._env)
            return self._live

    async def working_dir(self) -> str:
        """Say where commands start: the root of the live tree."""
        return await (await self._tree()).working_dir()

    async def run(
        self,
        command: str | Sequence[str],
        *,
        shell: bool = False,
        env: Mapping[str, str] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the protocol's
    ) -> CommandResult:
        """Run a command in the live tree, then save what has changed; a refusal is the last line of `stderr`."""
        tree = await self._tree()
        try:
            result = await tree.run(command, shell=shell, env=env, timeout=timeout)
        finally:
            text = command if isinstance(command, str) else " ".join(command)
            with _telling():
                refused = await asyncio.shield(asyncio.to_thread(self._fork.save, text))
        return replace(result, stderr=result.stderr + refused)

    async def read_bytes(self, path: str) -> bytes:
        """Read a file."""
        return await (await self._tree()).read_bytes(path)

    async def write_bytes(self, path: str, data: bytes) -> None:
        """Write a file, with missing directories."""
        await (await self._tree()).write_bytes(path, data)

    async def stat(self, path: str) -> FileEntry:
        """Describe an entry."""
        return await (await self._tree()).stat(path)

    async def list_dir(self, path: str) -> list[FileEntry]:
        """List a directory."""
        return list(await (await self._tree()).list_dir(path))

    async def make_dir(self, path: str) -> None:
        """Make a directory, with missing parents."""
        await (await self._tree()).make_dir(path)

    async def remove(self, path: str) -> None:
        """Remove a file, or a directory with everything in it."""
        await (await self._tree()).remove(path)

    async def exists(self, path: str) -> bool:
        """Whether a path exists."""
        return await (await self._tree()).exists(path)

    async def realpath(self, path: str) -> str:
        """Resolve the links in a path."""
        return await (await self._tree()).realpath(path)

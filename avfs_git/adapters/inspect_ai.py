"""A fork as a sandbox of inspect-ai: `sandbox=("avfs", "VAULT@FORK")`, a new fork for each sample.

Decided here: a sample begins with the files of the fork that is named, saved or not, in a fork of its own, whose live
tree is the directory of its commands; it costs milliseconds for a tree of any size. The end of the sample deletes its
fork, which `avfs undo` restores. Commands run as those of any program of the user: the vault's policy is not asked, and
nothing confines them. Inspect loads this module by its entry point, and asks for no other object.
"""

from __future__ import annotations

import asyncio
import secrets
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

from inspect_ai.util import ExecResult, SandboxEnvironment, sandboxenv
from inspect_ai.util._sandbox.local import LocalSandboxEnvironment
from pydantic import BaseModel

from avfs_git.adapters.live import LiveFork


class Source(BaseModel, frozen=True):
    """What a sample begins with, for `SandboxEnvironmentSpec("avfs", Source(...))`."""

    vault: str | None = None
    """The vault's name; the home's current vault by default."""
    fork: str | None = None
    """The fork; the vault's default fork by default."""
    home: Path | None = None
    """The directory of the vaults; that of the command line by default."""


class _Tree:
    """The live tree of a new fork, as the directory that inspect's own class works in and removes."""

    def __init__(
        self, vault: str | None, source: str | None, home: Path | None, tools: tempfile.TemporaryDirectory[str]
    ) -> None:
        self._tools = tools
        with closing(LiveFork(vault, source, home=home)) as begin:
            work = begin.open()
            name = f"sample-{secrets.token_hex(4)}"
            work.vault.fork(name, source=work.fork)
            self.fork = LiveFork(work.vault.name, name, home=home)
        self.name = str(self.fork.mount())

    def cleanup(self) -> None:
        """Delete the fork, and what inspect keeps beside it."""
        workspace = self.fork.open()
        session = workspace.vault.find_session(workspace.fork)
        if session is not None:
            session.remove(discard=True, lazy=True)
        self.fork.close()
        self._tools.cleanup()


@sandboxenv(name="avfs")
class ForkSandbox(LocalSandboxEnvironment):  # type: ignore[misc]  # inspect-ai is not installed where types are checked
    """The live tree of a fork that one sample has for itself."""

    def __init__(self, vault: str | None = None, source: str | None = None, *, home: Path | None = None) -> None:
        """Fork, and mount the fork.

        Args:
            vault: The vault's name; the home's current vault by default.
            source: The fork to begin with; the vault's default fork by default.
            home: The directory of the vaults; that of the command line by default.

        Raises:
            AvfsError: If there is no such fork, or it cannot be mounted.
        """
        super().__init__()
        tools: tempfile.TemporaryDirectory[str] = self.directory
        self.directory: Any = _Tree(vault, source, home, tools)

    @classmethod
    async def sample_init(
        cls,
        task_name: str,  # noqa: ARG003 - the protocol's
        config: BaseModel | str | None,
        metadata: dict[str, str],  # noqa: ARG003 - the protocol's
    ) -> dict[str, SandboxEnvironment]:
        """Make the fork of a sample."""
        if isinstance(config, str):
            # Inspect takes every text for the path of a file, and gives the whole path.
            vault, _, fork = Path(config).name.partition("@")
            config = Source(vault=vault or None, fork=fork or None)
        source = config if isinstance(config, Source) else Source()
        return {"default": await asyncio.to_thread(cls, source.vault, source.fork, home=source.home)}

    @classmethod
    def config_deserialize(cls, config: dict[str, Any]) -> BaseModel:
        """Read what a log holds of a `Source`."""
        return Source(**config)

    async def exec(self, *arguments: Any, **options: Any) -> ExecResult[str]:
        """Run a command in the live tree; 128 + N is the status of a command that signal N killed."""
        result: ExecResult[str] = await super().exec(*arguments, **options)
        if result.returncode < 0:
            return ExecResult(False, 128 - result.returncode, result.stdout, result.stderr)
        return result

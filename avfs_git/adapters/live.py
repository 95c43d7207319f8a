"""The live tree of a fork, as adapters for frameworks use it: mounted when it is needed, saved after each command.

Decided here: when the fork is mounted, and what is saved. The first use mounts the fork, at its place in the home,
unless it is mounted; the mount stays for other processes until `stop` or `avfs stop`. A command runs in the live tree
as any program of the user does: the vault's policy is not asked. Its changes are a checkpoint when it ends, and so is
what was written to files before. A checkpoint that is refused takes nothing from the command's result. Several objects
may share a fork; one thread at a time uses an object.
"""

from __future__ import annotations

from pathlib import Path

from avfs_git.cli.environment import open_home
from avfs_git.errors import AvfsError, ForkNotFound, VaultNotFound
from avfs_git.sdk import Workspace


class LiveFork:
    """A fork that is mounted when its tree is asked for."""

    def __init__(
        self, vault: str | None = None, fork: str | None = None, *, home: Path | None = None, checkpoints: bool = True
    ) -> None:
        """Name a fork; the first use mounts it.

        Args:
            vault: The vault's name; the home's current vault by default.
            fork: The fork, which exists; the vault's default fork by default.
            home: The directory of the vaults; that of the command line by default.
            checkpoints: Save a checkpoint after each command that changed files.
        """
        self._home = open_home(home)
        self._named = vault, fork
        self._checkpoints = checkpoints
        self._workspace: Workspace | None = None

    @property
    def name(self) -> str | None:
        """`VAULT@FORK`, known from the first use on."""
        work = self._workspace
        return f"{work.vault.name}@{work.fork}" if work is not None else None

    def open(self) -> Workspace:
        """Open the workspace.

        Raises:
            AvfsError: If there is no such vault or fork.
        """
        if self._workspace is None:
            self._workspace = self._home.open_vault(self._named[0]).workspace(self._named[1])
        return self._workspace

    def mount(self) -> Path:
        """Find the live tree; mount it if it is not.

        Raises:
            AvfsError: If it cannot be mounted.
        """
        work = self.open()
        session = work.vault.find_session(work.fork)
        if session is None or session.info().readonly:
            session = work.mount()
        return session.path

    def save(self, command: str) -> str:
        """Save a checkpoint after a command, if something changed. In a merge, its changes are a part of the merge.

        The command has run: its result is the answer, also where the checkpoint is refused.

        Returns:
            Why nothing was saved, as a line; empty if nothing was refused.

        Raises:
            ForkNotFound, VaultNotFound: If another program has deleted the fork or the vault.
        """
        work = self._workspace
        if not self._checkpoints or work is None:
            return ""
        try:
            status = work.status()
            if not status.clean and status.merging is None:
                work.checkpoint(description=f"run: {command.splitlines()[0][:60] if command.strip() else ''}")
        except (ForkNotFound, VaultNotFound):
            raise
        except AvfsError as error:
            return f"\navfs: no checkpoint was saved: {error.message}. {error.hint or ''}".rstrip() + "\n"
        return ""

    def stop(self) -> None:
        """Save a last checkpoint and unmount the fork. The next use mounts it again."""
        if self._workspace is not None:
            session = self._workspace.vault.find_session(self._workspace.fork)
            if session is not None:
                session.stop()

    def close(self) -> None:
        """Close the vault; the fork stays mounted. A second call does nothing."""
        self._workspace = None
        self._home.close()

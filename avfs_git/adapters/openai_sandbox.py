"""A fork as a sandbox of the OpenAI Agents SDK: each session is a fork with a live tree, a snapshot is a commit id.

Decided here: `create` forks and mounts, what a session saves when, and what is left of it. `adapters.live` mounts and
saves: a command is any program of the user's, so the vault's policy is not asked, and its changes are a checkpoint when
it ends. The SDK's own local session does the rest. `delete` deletes the fork, which `avfs undo` restores; with a
snapshot the fork stays, because its commits are the snapshot. One event loop uses a session; several sessions may share
a vault.
"""

from __future__ import annotations

import asyncio
import io
import os
import uuid
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from agents.sandbox import ExecResult, Manifest, SnapshotSpec, resolve_snapshot
from agents.sandbox.sandboxes import UnixLocalSandboxSession
from agents.sandbox.session import (
    BaseSandboxClient,
    BaseSandboxClientOptions,
    Instrumentation,
    SandboxSession,
    SandboxSessionState,
)
from agents.sandbox.session.pty_types import PtyExecUpdate
from agents.sandbox.snapshot import NoopSnapshot, SnapshotBase

from avfs_git.adapters.live import LiveFork
from avfs_git.cli.environment import open_home
from avfs_git.errors import InvalidInput
from avfs_git.host.userhome import find_user_home
from avfs_git.sdk import Home

_ANYWHERE = Manifest().root
"""The root of a manifest that names none."""
_SNAPSHOT = b"avfs commit "


class ForkSandboxOptions(BaseSandboxClientOptions):
    """What a session begins with."""

    type: Literal["avfs"] = "avfs"
    vault: str | None = None
    """The vault's name; the home's current vault by default."""
    at: str | None = None
    """A fork, label or commit; by default the vault's default fork with its uncommitted changes."""


class ForkSandboxState(SandboxSessionState):
    """What another process needs to go on with a session."""

    type: Literal["avfs"] = "avfs"
    vault: str
    fork: str


class ForkSandboxSession(UnixLocalSandboxSession):
    """The live tree of a fork; `state.manifest.root` is its directory."""

    state: ForkSandboxState  # type: ignore[assignment]  # the local session reads what all states have

    def __init__(self, state: ForkSandboxState, live: LiveFork) -> None:
        """Use a fork that is mounted."""
        super().__init__(state=state)  # type: ignore[arg-type]  # the same
        self._live = live
        self._user_home = os.fspath(find_user_home())

    async def _exec_internal(
        self,
        *command: str | Path,
        timeout: float | None = None,  # noqa: ASYNC109 - the SDK's
    ) -> ExecResult:
        try:
            result = await super()._exec_internal(*command, timeout=timeout)
        finally:
            refused = await asyncio.to_thread(self._live.save, str(command[-1]))
        result.stderr += refused.encode()
        return result

    async def pty_exec_start(self, *command: str | Path, **options: Any) -> PtyExecUpdate:
        """Start a command on a terminal, and save what it has changed when this returns."""
        update = await super().pty_exec_start(*command, **options)
        refused = await asyncio.to_thread(self._live.save, str(command[-1]))
        return replace(update, output=update.output + refused.encode())

    async def _resolved_exec_context(self) -> tuple[dict[str, str], str]:
        env, cwd = await super()._resolved_exec_context()
        return env | {"HOME": self._user_home}, cwd  # else caches of programs would be checkpoints

    async def persist_workspace(self) -> io.IOBase:
        """Save a checkpoint; its commit is the snapshot."""
        saved = await asyncio.to_thread(self._live.open().checkpoint)
        assert saved.checkpoint is not None  # noqa: S101 - a fork has a commit
        return io.BytesIO(_SNAPSHOT + saved.checkpoint.id.encode())

    async def hydrate_workspace(self, data: io.IOBase) -> None:
        """Restore the commit of a snapshot, or extract the archive of another kind of sandbox.

        Raises:
            CheckpointNotFound: If the vault has no such commit.
        """
        content = await asyncio.to_thread(data.read)
        if not content.startswith(_SNAPSHOT):
            await super().hydrate_workspace(io.BytesIO(content))
            return
        await asyncio.to_thread(self._live.open().restore, content.removeprefix(_SNAPSHOT).decode())

    async def _restore_snapshot_into_workspace_on_resume(self) -> None:
        with closing(await self.state.snapshot.restore(dependencies=self.dependencies)) as archive:
            await self.hydrate_workspace(archive)

    def _should_compute_snapshot_fingerprint_on_persist(self) -> bool:
        return False  # a restore of what is there costs nothing

    async def _after_start_failed(self) -> None:
        await super()._after_start_failed()
        await self._unmount()

    async def _after_shutdown(self) -> None:
        await super()._after_shutdown()
        await self._unmount()

    async def _unmount(self) -> None:
        await asyncio.to_thread(self._live.stop)
        self._live.close()


class ForkSandboxClient(BaseSandboxClient[ForkSandboxOptions | None]):
    """Makes a fork for each session."""

    backend_id = "avfs"
    supports_default_options = True

    def __init__(self, *, home: Path | None = None, instrumentation: Instrumentation | None = None) -> None:
        """Use a home; that of the command line by default."""
        self._directory = home
        self._instrumentation = instrumentation or Instrumentation()

    async def create(
        self,
        *,
        snapshot: SnapshotSpec | SnapshotBase | None = None,
        manifest: Manifest | None = None,
        options: ForkSandboxOptions | None = None,
    ) -> SandboxSession:
        """Fork and mount.

        Raises:
            InvalidInput: If the manifest has a root: a fork is mounted at its place in the home.
            AvfsError: If the vault or the state is not there, or cannot be mounted.
        """
        manifest = self._validate_manifest_for_create(manifest or Manifest())
        if manifest.root != _ANYWHERE:
            raise InvalidInput("the root of a manifest cannot be chosen: a fork is mounted at its place in the home")
        session_id, wanted = uuid.uuid4(), options or ForkSandboxOptions()
        fork = f"sandbox-{session_id.hex[:12]}"
        vault = await asyncio.to_thread(self._fork, wanted.vault, fork, wanted.at)
        return await self._open(
            ForkSandboxState(
                session_id=session_id,
                manifest=manifest,
                snapshot=resolve_snapshot(snapshot, str(session_id)),
                vault=vault,
                fork=fork,
            )
        )

    async def resume(self, state: SandboxSessionState) -> SandboxSession:
        """Mount the fork of a session again; a deleted one is made anew, and the snapshot is restored in it.

        Raises:
            TypeError: If the state is another client's.
            AvfsError: If the vault is not there, or cannot be mounted.
        """
        if not isinstance(state, ForkSandboxState):
            raise TypeError("the session state is that of another sandbox client")
        state.assert_path_grants_rebound()
        is_there = await asyncio.to_thread(self._has_fork, state)
        if not is_there:
            await asyncio.to_thread(self._fork, state.vault, state.fork, None)
        return await self._open(state, is_there=is_there)

    async def delete(self, session: SandboxSession) -> SandboxSession:
        """Unmount the fork, and delete it if the session has no snapshot.

        Raises:
            TypeError: If the session is another client's.
            WorkspaceInUse: If a program still works in the tree.
        """
        inner = session._inner  # noqa: SLF001 - as the SDK's own clients do
        if not isinstance(inner, ForkSandboxSession):
            raise TypeError("the session is that of another sandbox client")
        await inner.shutdown()
        if isinstance(inner.state.snapshot, NoopSnapshot):
            await asyncio.to_thread(self._delete_fork, inner.state)
        return session

    def deserialize_session_state(self, payload: dict[str, object]) -> SandboxSessionState:
        """Read what `serialize_session_state` wrote."""
        return self._deserialize_session_state_payload(payload, ForkSandboxState)

    async def _open(self, state: ForkSandboxState, *, is_there: bool = False) -> SandboxSession:
        live = LiveFork(state.vault, state.fork, home=self._directory)
        root = await asyncio.to_thread(live.mount)
        state.manifest = state.manifest.model_copy(update={"root": os.fspath(root)}, deep=True)
        inner = ForkSandboxSession(state, live)
        inner._set_start_state_preserved(workspace=is_there)  # noqa: SLF001 - a hook for clients
        return self._wrap_session(inner, instrumentation=self._instrumentation)

    def _home(self) -> Home:
        return open_home(self._directory)

    def _fork(self, vault: str | None, fork: str, at: str | None) -> str:
        """Make a fork; give the name of its vault."""
        with self._home() as home, home.open_vault(vault) as opened:
            opened.fork(fork, at=at)
            return opened.name

    def _has_fork(self, state: ForkSandboxState) -> bool:
        with self._home() as home, home.open_vault(state.vault) as vault:
            return vault.has_fork(state.fork)

    def _delete_fork(self, state: ForkSandboxState) -> None:
        with self._home() as home, home.open_vault(state.vault) as vault:
            if vault.has_fork(state.fork):
                vault.delete_fork(state.fork)

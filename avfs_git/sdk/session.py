"""A mount as its user sees it: what it is, and how it ends.

Decided here: that stopping saves first, and unmounts only what is saved. Called by users of `avfs_git.sdk`; what a crash leaves
of a session is cleaned up by whoever meets it (`avfs_git.session.life.record`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Self

from avfs_git.lazy import LazyModule
from avfs_git.model import RemoveResult, SessionInfo, SessionState, UnmountResult

if TYPE_CHECKING:
    from avfs_git.sdk.vault import Vault
    from avfs_git.session.life import record, stop
    from avfs_git.workspace.capture import checkpoint
    from avfs_git.workspace.capture.workspace import LockedWorkspace
    from avfs_git.workspace.forks import clones
else:
    # A light command must not pay for what it does not use.
    checkpoint = LazyModule("avfs_git.workspace.capture.checkpoint")
    clones = LazyModule("avfs_git.workspace.forks.clones")
    record = LazyModule("avfs_git.session.life.record")
    stop = LazyModule("avfs_git.session.life.stop")

_LAST = "save at the end of a session"


class Session:
    """A mount, from its start to its end. In a `with` block, it is taken away at the end of that.

    Attributes:
        vault: The vault of its fork, which has to be open for `stop`.
        id: Its name among the sessions of the vault.
        fork: What is mounted.
        path: Where.
    """

    def __init__(self, vault: Vault, found: record.FoundSession) -> None:
        self.vault = vault
        self.id = found.record.id
        self.fork = found.record.fork
        self.path = found.directory
        self._found = found

    def __repr__(self) -> str:
        return f"<Session {self.id!r} of {f'{self.vault.name}@{self.fork}'!r} at {str(self.path)!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unmount(lazy=True)

    def info(self) -> SessionInfo:
        """Describe it as it is now."""
        for found in stop.find_sessions(self.vault._core.layout.sessions, session_id=self.id):  # noqa: SLF001 - one interface
            return found.info(self.vault.name)
        return replace(self._found.info(self.vault.name), state=SessionState.ENDED)

    def wait(self) -> None:
        """Wait until it is over: until somebody takes it away, and nobody uses it any more."""
        record.wait_ended(self._found.place)

    def is_of_directory(self) -> bool:
        """Tell whether `Avfs.fork_directory` made its fork."""
        return clones.is_of_directory(self.vault._core, self.fork)  # noqa: SLF001 - the two are one interface

    def remove(self, *, discard: bool = False, lazy: bool = False, force: bool = False) -> RemoveResult:
        """End a fork that `Home.fork_directory` made: save a last checkpoint, take the mount away, delete what was pushed.

        What the clone does not have stays in the vault, as a fork that is not mounted. A fork that is deleted comes back with
        `Vault.undo`.

        Args:
            discard: Delete the fork in any case.
            lazy: As for `unmount`.
            force: As for `unmount`.

        Raises:
            MountBusy: If programs use it, unless `lazy` or `force`; the checkpoint is made then, the mount stays.
        """
        core = self.vault._core  # noqa: SLF001 - the two are one interface
        ended = self.stop(lazy=lazy, force=force)
        in_use = ended.outcome == "detached"
        pushed = clones.is_pushed(core, self.fork)
        deleted = False
        if (pushed or discard or clones.is_untouched(core, self.fork)) and not in_use:
            self.wait()

            def may_go(locked: LockedWorkspace) -> bool:
                nonlocal pushed
                if discard:
                    return True
                checkpoint.save_checkpoint(locked, description=_LAST)  # of what somebody has done since it ended
                pushed = clones.is_pushed(core, self.fork)
                return pushed or clones.is_untouched(core, self.fork)

            deleted = self.vault._delete_fork(self.fork, may_go) is not None  # noqa: SLF001 - the two are one interface
        return RemoveResult(self.vault.name, self.fork, self.path, deleted=deleted, pushed=pushed, in_use=in_use)

    def unmount(self, *, lazy: bool = False, force: bool = False) -> UnmountResult:
        """Take the mount away, without a checkpoint; what programs wrote stays in the workspace. A second call does nothing.

        Args:
            lazy: Also while programs use it: it is out of sight at once, and the workspace stays in use until they are done.
            force: Also while programs use it: what they do there from now on fails.

        Raises:
            MountBusy: If programs use it, unless `lazy` or `force`; it is mounted as before then.
        """
        info = self.info()
        if info.state == SessionState.ENDED:
            return UnmountResult(None, self.path, "not_mounted")
        outcome, users = stop.end_session(self._found, lazy=lazy, force=force)
        state = SessionState.UNMOUNTING if outcome == "detached" else SessionState.ENDED
        return UnmountResult(replace(info, state=state), self.path, outcome, users=tuple(users))

    def stop(self, *, checkpoint: bool = True, lazy: bool = False, force: bool = False) -> UnmountResult:
        """Save a last checkpoint and take the mount away.

        If the checkpoint fails, its error is raised and the mount stays. What programs write between it and the end of the
        mount is saved in a second one.

        Args:
            checkpoint: Whether to save one; there is none of a read-only mount.
            lazy: As for `unmount`. What programs write after it is not in a checkpoint, but in the workspace.
            force: As for `unmount`.

        Raises:
            MountBusy: If programs use it, unless `lazy` or `force`; the checkpoint is made then, the mount stays.
        """
        info = self.info()
        if info.state == SessionState.ENDED or info.readonly or not checkpoint:
            return self.unmount(lazy=lazy, force=force)
        workspace = self.vault.workspace(self.fork)
        try:
            saved = workspace.checkpoint(description=_LAST)
            ended = self.unmount(lazy=lazy, force=force)
            if ended.outcome == "detached":
                return replace(ended, checkpoint=saved)
            later = workspace.checkpoint(description=_LAST)
            return replace(ended, checkpoint=saved if later.outcome == "unchanged" else later)
        finally:
            workspace.close()

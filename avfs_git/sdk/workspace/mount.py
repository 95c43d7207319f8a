"""A mount as its user sees it: what it is, and how it ends.

Decided here: that `stop` saves first, and unmounts only what is saved, and that the end of a mount touches the fork
that was mounted, and no other that has its name since. The next process that lists the vault's sessions cleans up what
a crash leaves of one (`avfs_git.session.life.record`).
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Self

from avfs_git.errors import ForkNotFound, HookRefused, PluginFailed, PluginRefused, name_some
from avfs_git.model import CheckpointResult, RemoveResult, SessionInfo, SessionState, UnmountResult, Warning
from avfs_git.sdk.dispatch import Dispatch
from avfs_git.sdk.handle import ForkHandle
from avfs_git.sdk.parts import checkpoint, clones, forkinfo, identity, record, requests, stop
from avfs_git.sdk.workspace.states import WorkspaceStates
from avfs_git.values import replace
from avfs_git.workspace.checkpoint.bookkeeping import END_OF_SESSION

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from avfs_git.session.life.record import FoundSession
    from avfs_git.workspace.opened.workspace import LockedWorkspace


class Mount:
    """A mount, from its start to its end. The end of a `with` block unmounts it.

    Attributes:
        id: The session's name in the vault.
        fork: The mounted fork.
        path: The directory that it is mounted on.
    """

    def __init__(self, dispatch: Dispatch, found: FoundSession) -> None:
        self._dispatch = dispatch
        self.id = found.record.id
        self.fork = found.record.fork
        self.path = found.directory
        self._found = found
        self._mounted = identity.identify(dispatch.core, self.fork) if found.is_workspace else None

    def __repr__(self) -> str:
        return f"<Session {self.id!r} of {f'{self._dispatch.core.name}@{self.fork}'!r} at {str(self.path)!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.unmount(lazy=True)

    def info(self) -> SessionInfo:
        """Describe the present state of the mount."""
        for found in stop.find_sessions(self._dispatch.core.layout.sessions, session_id=self.id):
            return found.info(self._dispatch.core.name)
        return replace(self._found.info(self._dispatch.core.name), state=SessionState.ENDED)

    def wait(self) -> None:
        """Wait until the mount has ended: it is unmounted, and no program uses it."""
        record.wait_ended(self._found.place)

    def is_of_directory(self) -> bool:
        """Tell whether `Avfs.fork_directory` made its fork."""
        return clones.is_of_directory(self._dispatch.core, self.fork)

    def is_of_fork(self) -> bool:
        """Tell whether the fork of this name is the one that was mounted, and not another one that was made since."""
        core = self._dispatch.core
        return core.has_fork(self.fork) and self._mounted in (None, identity.identify(core, self.fork))

    def checkpoint(self, description: str, *, step: bool = False) -> CheckpointResult:
        """Save a checkpoint of the fork that was mounted, whether or not it is still mounted.

        Args:
            description: As for `Workspace.checkpoint`.
            step: As for `Workspace.checkpoint`.

        Raises:
            ForkNotFound: If the fork was deleted, also where another one has its name now.
        """
        return self._save(lambda at: WorkspaceStates(at).checkpoint(description=description, step=step))

    def _save(self, save: Callable[[ForkHandle], CheckpointResult]) -> CheckpointResult:
        with self._dispatch.core.fork_locked(self.fork):  # so that it stays the fork that is looked at here
            if not self.is_of_fork():
                raise ForkNotFound(self.fork, vault=self._dispatch.core.name)
            return save(ForkHandle(self._dispatch, self.fork))

    def _save_last(self) -> CheckpointResult:
        """Save what has changed, if anything has: the description is no reason for a commit."""

        def save(at: ForkHandle) -> CheckpointResult:
            return WorkspaceStates(at)._save(None, END_OF_SESSION, keeps_message=False, with_files=False)  # noqa: SLF001 - the two are one interface

        return self._save(save)

    def is_untouched(self) -> bool:
        """Tell whether its fork, which the caller saved just now, holds exactly what it held when it was made."""
        return clones.is_untouched(self._dispatch.core, self.fork)

    def is_pushed(self) -> bool:
        """Tell whether the clone that its vault was made of has all commits of its fork; False without a clone."""
        return clones.is_pushed(self._dispatch.core, self.fork)

    def remove(
        self, *, discard: bool = False, lazy: bool = False, force: bool = False, by: str | None = None
    ) -> RemoveResult:
        """End a fork of `Home.fork_directory`: save a last checkpoint, unmount, and delete it if it was pushed.

        A fork stays in the vault if it has commits that the clone lacks, a repository inside it is new or has new
        commits, or git in it has put work on another branch, or into the stash or the index. No push holds ignored
        files: the warning `fork.ignored_deleted` names the new and changed ones of a deleted fork, and
        `fork.labels_deleted` the labels that the clone does not have. `Vault.undo` restores a deleted fork.

        Args:
            discard: Delete the fork in any case.
            lazy: As for `unmount`.
            force: As for `unmount`.
            by: The fork whose `undo` restores it, too; the default fork if not given.

        Raises:
            MountBusy: If programs use the mount, without `lazy` or `force`; the checkpoint is made, the mount stays.
            ForkNotFound: If the fork was deleted, also where another one has its name now.
        """
        core = self._dispatch.core
        ended = self.stop(lazy=lazy, force=force)
        if not self.is_of_fork():
            raise ForkNotFound(self.fork, vault=core.name)
        in_use = ended.outcome == "detached"
        pushed = clones.is_pushed(core, self.fork)
        deleted = False
        told = (*(ended.checkpoint.warnings if ended.checkpoint is not None else ()), *ended.warnings)
        left = clones.list_left_in_git(core, self.fork)
        lost: tuple[bytes, ...] = ()
        labels: tuple[str, ...] = ()
        if (discard or (not left and (pushed or clones.is_untouched(core, self.fork)))) and not in_use:
            self.wait()

            def may_go(locked: LockedWorkspace) -> bool:
                nonlocal pushed, left, told, lost, labels
                if not self.is_of_fork():
                    raise ForkNotFound(self.fork, vault=core.name)
                if discard:
                    return True
                # of changes since
                saved = checkpoint.save_checkpoint(locked, requests.CheckpointRequest(description=END_OF_SESSION))
                told = tuple(dict.fromkeys((*told, *saved.warnings)))
                pushed = clones.is_pushed(core, self.fork)
                left = clones.list_left_in_git(core, self.fork)
                lost = clones.list_only_beside(core, self.fork)
                labels = clones.list_labels_only_here(core, self.fork)
                return not left and (pushed or clones.is_untouched(core, self.fork))

            deleted = self._dispatch.delete_fork(self.fork, may_go, by=by if by != self.fork else None) is not None

        def warn(code: str, what: str, names: Sequence[str | bytes]) -> list[Warning]:
            count = f"{len(names)} {what}{'s' if len(names) > 1 else ''}"
            restore = f"`avfs --vault {shlex.quote(f'{core.name}@{self.fork}')} undo` restores the fork"
            text = f"deleted with fork '{self.fork}': {count} that no push holds: {name_some(names)}; {restore}"
            return [Warning(code, text)] if names else []

        if deleted:
            told = (*told, *warn("fork.ignored_deleted", "ignored file", lost))
            told = (*told, *warn("fork.labels_deleted", "label", labels))
        inside = () if deleted or in_use else clones.list_moved_inside(core, self.fork)
        return RemoveResult(
            core.name,
            self.fork,
            self.path,
            deleted=deleted,
            pushed=pushed,
            in_use=in_use,
            repositories=inside,
            left_in_git=() if deleted or in_use else left,
            warnings=told,
        )

    def unmount(self, *, lazy: bool = False, force: bool = False) -> UnmountResult:
        """Unmount without a checkpoint; written files stay in the workspace. A second call does nothing.

        Args:
            lazy: Detach the mount while programs use it; the workspace stays in use until they are done.
            force: Cut programs off that use the mount: their calls fail from now on.

        Raises:
            MountBusy: If programs use the mount, without `lazy` or `force`; nothing has changed then.
            MountCovered: If another mount stands over it, or in it; both stay.
        """
        info = self.info()
        if info.state == SessionState.ENDED:
            return UnmountResult(None, self.path, "not_mounted")
        outcome, users = stop.end_session(self._found, lazy=lazy, force=force)
        state = SessionState.UNMOUNTING if outcome == "detached" else SessionState.ENDED
        return UnmountResult(replace(info, state=state), self.path, outcome, users=tuple(users))

    def stop(self, *, checkpoint: bool = True, lazy: bool = False, force: bool = False) -> UnmountResult:
        """Save a last checkpoint and unmount.

        If the checkpoint fails, its error is raised and the mount stays. A second checkpoint saves what programs write
        between the first one and the end of the mount; if a hook or plug-in refuses that one, a warning says so.

        Args:
            checkpoint: Save checkpoints; a read-only mount has none.
            lazy: As for `unmount`. Later changes are in the workspace, and in no checkpoint.
            force: As for `unmount`.

        Raises:
            MountBusy: If programs use the mount, without `lazy` or `force`; the checkpoint is made, the mount stays.
            HookRefused, PluginRefused, PluginFailed: If a hook or plug-in does not want the checkpoint; the mount
                stays.
        """
        info = self.info()
        if info.state == SessionState.ENDED or info.readonly or not checkpoint:
            return self.unmount(lazy=lazy, force=force)
        forkinfo.fork_info(self._dispatch.core, self.fork)  # a checkpoint would make a branch anew that git has deleted
        saved = self._save_last()
        ended = self.unmount(lazy=lazy, force=force)
        if ended.outcome == "detached":
            return replace(ended, checkpoint=saved)
        if self.is_of_fork() and WorkspaceStates(ForkHandle(self._dispatch, self.fork)).status().clean:
            return replace(ended, checkpoint=saved)  # nothing to ask a hook about that may need the mount
        try:
            later = self._save_last()
        except ForkNotFound:  # another process has deleted it, with what was saved
            return replace(ended, checkpoint=saved)
        except (HookRefused, PluginRefused, PluginFailed) as refused:
            what = f"what programs wrote at the end is in no checkpoint, and stays in the workspace: {refused.message}"
            return replace(ended, checkpoint=saved, warnings=(*ended.warnings, Warning("session.not_saved", what)))
        last = saved if later.outcome == "unchanged" else later
        return replace(
            ended, checkpoint=replace(last, warnings=tuple(dict.fromkeys((*saved.warnings, *later.warnings))))
        )

"""A vault that is open: its forks, states and settings, and which workspaces of it are open here.

Decided here: where an operation is done: in this process or, of a workspace that is mounted, in its session. Called by users of
`avfs_git.sdk`; safe from several threads and processes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Self, TypeVar

from avfs_git.errors import InvalidInput, WorkspaceBusy, WorkspaceMounted
from avfs_git.host.locks import LOCK_TIMEOUT_S
from avfs_git.lazy import LazyModule
from avfs_git.model import (
    WHOLE_VAULT,
    CheckpointDetails,
    Diff,
    DoctorReport,
    ForkInfo,
    Identity,
    LogEntry,
    Operation,
    SessionInfo,
    SessionState,
    UndoResult,
    VaultInfo,
    Warning,
)
from avfs_git.paths import check_fork_name
from avfs_git.sdk.pathlike import PathLike, parse_tree_paths
from avfs_git.sdk.session import Session
from avfs_git.sdk.workspace import Workspace

if TYPE_CHECKING:
    from avfs_git.session import client, operations, point, record, start, stop
    from avfs_git.workspace import clones, compare, doctor, forkinfo, forks, history, recovery, revisions, undo
    from avfs_git.workspace import workspace as workspaces
    from avfs_git.workspace.vault import OpenVault
else:
    # A light command must not pay for what it does not use.
    client = LazyModule("avfs_git.session.client")
    clones = LazyModule("avfs_git.workspace.clones")
    compare = LazyModule("avfs_git.workspace.compare")
    doctor = LazyModule("avfs_git.workspace.doctor")
    forkinfo = LazyModule("avfs_git.workspace.forkinfo")
    forks = LazyModule("avfs_git.workspace.forks")
    history = LazyModule("avfs_git.workspace.history")
    operations = LazyModule("avfs_git.session.operations")
    point = LazyModule("avfs_git.session.point")
    record = LazyModule("avfs_git.session.record")
    recovery = LazyModule("avfs_git.workspace.recovery")
    revisions = LazyModule("avfs_git.workspace.revisions")
    start = LazyModule("avfs_git.session.start")
    stop = LazyModule("avfs_git.session.stop")
    undo = LazyModule("avfs_git.workspace.undo")
    workspaces = LazyModule("avfs_git.workspace.workspace")

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Vault:
    """A vault that is open: a bare git repository, its forks and their workspaces.

    Attributes:
        warnings: What making it left out, right after `Avfs.create_vault`.
    """

    def __init__(
        self,
        core: OpenVault,
        *,
        is_current: Callable[[], bool] = lambda: False,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        identity: Identity | None = None,
        mounts: Path | None = None,
    ) -> None:
        self._core = core
        self._is_current = is_current
        self._lock_timeout_s = lock_timeout_s
        self._identity = identity
        self._mounts = mounts
        self._workspaces: dict[str, workspaces.OpenWorkspace] = {}
        self._mounted: client.Sessions | None = None
        self._lock = threading.RLock()
        self.warnings: tuple[Warning, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it and its workspaces. A second call does nothing."""
        with self._lock:
            for opened in self._workspaces.values():
                opened.close()
            self._workspaces.clear()
            if self._mounted is not None:
                self._mounted.close()
            self._core.close()

    @property
    def name(self) -> str:
        """Its name, or the path that it was opened by."""
        return self._core.name

    @property
    def path(self) -> Path:
        """The bare repository."""
        return self._core.git_dir

    def origin(self) -> Path | None:
        """Tell of which directory it was made by `Avfs.fork_directory`; None of any other vault."""
        return clones.read_origin(self.path)

    def remote(self) -> str | None:
        """Name the remote by which git in its forks' trees knows the clone that it was made of; None if there is none."""
        return clones.find_remote(self.path)

    def _open_workspace(self, fork: str) -> workspaces.OpenWorkspace:
        with self._lock:
            opened = self._workspaces.get(fork)
            if opened is None or opened.is_closed or opened.is_gone():
                if opened is not None:
                    opened.close()
                opened = workspaces.OpenWorkspace(
                    self._core,
                    fork,
                    recover=lambda locked: recovery.recover(locked),  # noqa: PLW0108 - else it would be loaded now
                    lock_timeout_s=self._lock_timeout_s,
                )
                self._workspaces[fork] = opened
            return opened

    def _run(
        self,
        opened: workspaces.OpenWorkspace,
        operation: Callable[Concatenate[workspaces.OpenWorkspace, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Do an operation of `session.operations` here or, if the workspace is mounted, in its session."""
        if opened.lock.session is None:
            try:
                return operation(opened, *args, **kwargs)
            except WorkspaceBusy:
                if opened.lock.session is None:
                    raise
        with self._lock:
            if self._mounted is None:
                self._mounted = client.Sessions(self._core.layout.sessions, wait_s=self._lock_timeout_s)
        return self._mounted.run(opened, operation, *args, **kwargs)

    def info(self, *, sizes: bool = False) -> VaultInfo:
        """Describe the vault; with `sizes`, count what it takes on disk."""
        path = self.path
        forks_now = set(self._core.list_heads())
        default = self._core.default_fork()
        return VaultInfo(
            name=self.name,
            path=path,
            current=self._is_current(),
            default_fork=default,
            forks=len(forks_now | ({default} if default else set())),
            created_at_ns=self._core.created_at_ns(),
            size_bytes=_disk_usage(path) if sizes else None,
        )

    def check_idle(self) -> None:
        """Make sure that no other process works in a workspace of this vault.

        Raises:
            WorkspaceBusy: If one does.
        """
        for fork in self._core.layout.list_workspaces():
            if self._core.has_fork(fork):
                with self._open_workspace(fork).locked():
                    pass

    # --- mounts ----------------------------------------------------------------------------------

    def sessions(self) -> list[SessionInfo]:
        """Describe the mounts of this vault, the oldest first; clean up after those whose process died."""
        return [found.info(self.name) for found in record.list_sessions(self._core.layout.sessions)]

    def mount(
        self, directory: str | os.PathLike[str] | None = None, *, allow_other: bool = False, leash_fd: int | None = None
    ) -> Session:
        """Show every state of the vault, for reading: `forks/NAME`, `checkpoints/FORK/LABEL` and `commits/ID`.

        What comes, moves and goes meanwhile shows within a second. A fork that is mounted elsewhere is a symbolic link to
        there; any other is its head.

        Args:
            directory: Where, as for `Workspace.mount`; by default `mounts/VAULT@all` in the home.
            allow_other: Let in other users, as far as permissions go.
            leash_fd: The reading end of a pipe: when the other end is closed, the mount is taken away.

        Raises:
            MountPointUnusable: If nothing can be mounted there.
            FuseUnavailable: If this machine, or its administrator, does not allow it.
        """
        if directory is None:
            if self._mounts is None:
                raise InvalidInput("a directory to mount at is needed", hint="Name one.")
            name = self.name if os.sep not in self.name else point.name_of_vault(self.path)
            directory = self._mounts / f"{name}@all"
        return self._mount(WHOLE_VAULT, directory, at=None, allow_other=allow_other, leash_fd=leash_fd)

    def _mount(
        self, fork: str, directory: str | os.PathLike[str], *, at: str | None, allow_other: bool, leash_fd: int | None
    ) -> Session:
        who = self._identity
        found = start.start_session(
            self._core.layout.sessions,
            git_dir=self.path,
            vault=self.name,
            fork=fork,
            directory=point.resolve(directory),
            at=at,
            allow_other=allow_other,
            identity=(who.name, who.email) if who is not None else None,
            lock_timeout_s=self._lock_timeout_s,
            leash_fd=leash_fd,
        )
        return Session(self, found)

    def find_session(self, fork: str) -> Session | None:
        """Find the mount of a fork, that of its workspace before those of its commits; None if there is none."""
        found = stop.find_sessions(self._core.layout.sessions, fork=fork)
        return Session(self, found[0]) if found else None

    def check_unmounted(self, fork: str | None = None) -> None:
        """Make sure that no fork of this vault is mounted, or not the workspace of one.

        Raises:
            WorkspaceMounted: If one is.
        """
        for found in record.list_sessions(self._core.layout.sessions):
            of = found.record
            if of.state != SessionState.ENDED and (fork is None or (of.fork == fork and found.is_workspace)):
                raise WorkspaceMounted(of.fork, of.directory, session=of.id, pid=of.pid)

    # --- forks -----------------------------------------------------------------------------------

    def fork(
        self, name: str, *, source: str | None = None, at: str | None = None, ephemeral: bool = False, with_changes: bool = True
    ) -> Workspace:
        """Make a fork: a branch with a workspace of its own. Takes as long for any size of tree.

        Args:
            name: Its name: what git allows for a branch.
            source: The fork that it starts from; the vault's default one if not given.
            at: A checkpoint, commit or fork to start from, instead of the present state of the source.
            ephemeral: Whether it is deleted when its `Workspace` is closed by a `with` block.
            with_changes: Whether uncommitted work of the source comes along; it is checkpointed there first.

        Raises:
            ForkExists: If the name is taken.
            ForkNotFound: If the source is not there.
            CheckpointNotFound: If there is nothing of the name in `at`.
        """
        forks.create_fork(
            self._core,
            name,
            open_workspace=self._open_workspace,
            source=source,
            at=at,
            ephemeral=ephemeral,
            with_changes=with_changes,
            save=lambda opened, message, text: self._run(opened, operations.save_checkpoint, message=message, description=text),
        )
        return Workspace(self, name, ephemeral=ephemeral)

    def workspace(self, fork: str | None = None) -> Workspace:
        """Open the workspace of a fork; of the default one if none is named.

        Raises:
            ForkNotFound: If there is none.
        """
        name = fork or self._core.default_fork()
        if name is None:
            raise InvalidInput("this vault has no default fork", hint="Name one with `--fork`.")
        info = forkinfo.fork_info(self._core, name)
        return Workspace(self, name, ephemeral=info.ephemeral)

    def list_forks(self) -> list[ForkInfo]:
        """Describe all forks, by name."""
        return forkinfo.list_forks(self._core)

    def has_fork(self, name: str) -> bool:
        """Whether there is a fork of that name."""
        try:
            return self._core.has_fork(check_fork_name(name))
        except InvalidInput:
            return False

    def fork_info(self, name: str) -> ForkInfo:
        """Describe a fork."""
        return forkinfo.fork_info(self._core, name)

    def delete_fork(self, name: str) -> ForkInfo:
        """Delete a fork. It can be undone: its commits are kept and its files put aside.

        Raises:
            ForkNotFound: If there is none.
            InvalidInput: If it is the default fork.
            WorkspaceMounted: If it is mounted.
            WorkspaceBusy: If another process works in it.
        """
        self.check_unmounted(name)
        return forks.delete_fork(self._core, name, open_workspace=self._open_workspace)

    # --- settings, history ----------------------------------------------------------------------------

    def get_config(self) -> dict[str, str]:
        """Read the settings of the vault."""
        return self._core.config.read()

    def set_config(self, key: str, value: str) -> None:
        """Change a setting."""
        self._core.prepare()
        self._core.config.set(key, value)

    def unset_config(self, key: str) -> None:
        """Put a setting back to its default."""
        self._core.prepare()
        self._core.config.unset(key)

    def log(self, rev: str = "HEAD", *, fork: str | None = None, limit: int = 50, with_files: bool = False) -> list[LogEntry]:
        """List the commits that lead to a state, newest first."""
        return history.read_log(self._core, rev, fork=fork or self._core.default_fork(), limit=limit, with_files=with_files)

    def show(self, rev: str, *, fork: str | None = None) -> CheckpointDetails:
        """Describe a checkpoint and what it changed. Counting what it holds costs its whole tree."""
        return history.describe_checkpoint(self._core, rev, fork=fork or self._core.default_fork())

    def diff(
        self,
        old: str | None,
        new: str,
        *,
        fork: str | None = None,
        paths: Sequence[PathLike] = (),
        context: int = 3,
        patches: bool = True,
    ) -> Diff:
        """Compare two states by name.

        Args:
            old: The state before: a label, fork or commit; None for nothing at all.
            new: The state after.
            fork: Whose labels are meant.
            paths: Only these and what is below them.
            context: Lines around each hunk.
            patches: Whether to compare content, beside names.
        """
        fork = fork or self._core.default_fork()
        left = revisions.resolve_revision(self._core, old, fork=fork) if old is not None else None
        right = revisions.resolve_revision(self._core, new, fork=fork)
        return compare.diff_commits(self._core, left, right, paths=parse_tree_paths(paths), context=context, patches=patches)

    def operations(self, *, fork: str | None = None, limit: int = 50) -> list[Operation]:
        """List what was done, newest first."""
        return self._core.oplog.list_operations(fork, limit)

    def undo(self, *, fork: str | None = None) -> UndoResult:
        """Take back the last operation, of a fork or of the vault. Can be repeated, and be done again by `redo`.

        Raises:
            NothingToUndo: If there is none.
            CannotUndo: If a ref has moved since.
        """
        return self._turn(fork, back=True)

    def redo(self, *, fork: str | None = None) -> UndoResult:
        """Do the operation again that was taken back last."""
        return self._turn(fork, back=False)

    def _turn(self, fork: str | None, *, back: bool) -> UndoResult:
        for name in undo.forks_with_git_dir(self._core, fork):
            opened = self._open_workspace(name)
            if opened.lock.session is not None:
                self._run(opened, operations.adopt_git_moves)
        log = self._core.oplog
        record = log.find_undoable(fork) if back else log.find_redoable(fork)
        if record is not None and self._core.has_fork(record.fork):
            opened = self._open_workspace(record.fork)
            if opened.lock.session is not None:
                if record.kind in ("fork_create", "fork_delete"):
                    self.check_unmounted(record.fork)
                else:
                    return self._run(opened, operations.turn, record.id, back)
        return (undo.undo if back else undo.redo)(self._core, fork, self._open_workspace)

    def doctor(self, *, repair: bool = False) -> DoctorReport:
        """Examine the vault and its workspaces; with `repair`, mend what can be mended."""
        return doctor.examine_vault(self._core, self._open_workspace, repair=repair)


def _disk_usage(directory: Path) -> int:
    total = 0
    stack = [os.fspath(directory)]
    while stack:
        try:
            with os.scandir(stack.pop()) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    total += status.st_blocks * 512
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
        except OSError:  # it went while it was counted, or may not be read: it does not count
            continue
    return total

"""The public API: everything that avfs does, in process.

    import avfs_git

    with avfs_git.Avfs(home) as avfs:
        vault = avfs.create_vault("shop", source=project)
        work = vault.fork("fix-login")
        work.write("src/login.py", data)
        print(work.checkpoint("first try").changed_files)

Decided here: the names and arguments that callers rely on; each method is one call of a function below. Values are
the frozen dataclasses of `avfs_git.model`, failures the typed errors of `avfs_git.errors`. Paths in a workspace
may be text, bytes or path objects, from the root of the workspace, with or without a leading slash. Nothing is
printed and no environment variable is read.

An `Avfs`, a `Vault` and a `Workspace` may be used from several threads, and by several processes at once. What a
method acknowledges as saved is on disk; what `write` and its like do is durable at the next checkpoint, and
survives the death of the process at once.

All of it is the same whether a workspace is mounted or not. Where it is, its session does what is asked for, so that programs
in the mount see it at once.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Concatenate, ParamSpec, Self, TypeVar

from avfs_git.errors import (
    AvfsError,
    HostError,
    InvalidInput,
    LeftInForce,
    MountPointUnusable,
    NoVaultChosen,
    VaultExists,
    VaultNotFound,
    WorkspaceBusy,
    WorkspaceMounted,
)
from avfs_git.faults import reach
from avfs_git.host.durable import fsync_dir, host_errors, write_file_atomically
from avfs_git.host.locks import LOCK_TIMEOUT_S
from avfs_git.lazy import LazyModule
from avfs_git.model import (
    WHOLE_VAULT,
    Checkpoint,
    CheckpointDetails,
    CheckpointResult,
    Diff,
    DoctorReport,
    FileInfo,
    ForkInfo,
    Identity,
    LogEntry,
    Operation,
    PathVersion,
    RemoveResult,
    RestoreResult,
    SessionInfo,
    SessionState,
    Status,
    TransferResult,
    TreeNode,
    UndoResult,
    UnmountResult,
    VaultInfo,
    Warning,
)
from avfs_git.paths import ROOT, TreePath, check_fork_name, check_vault_name, parse_tree_path
from avfs_git.workspace.vault import OpenVault

if TYPE_CHECKING:
    from avfs_git.host import removal
    from avfs_git.session import client, operations, point, record, start, stop
    from avfs_git.workspace import (
        aftermath,
        clones,
        compare,
        create,
        doctor,
        files,
        fold,
        forkinfo,
        forks,
        history,
        labels,
        recovery,
        revisions,
        undo,
    )
    from avfs_git.workspace import workspace as workspaces
else:
    # A light command must not pay for what it does not use.
    client = LazyModule("avfs_git.session.client")
    aftermath = LazyModule("avfs_git.workspace.aftermath")
    clones = LazyModule("avfs_git.workspace.clones")
    compare = LazyModule("avfs_git.workspace.compare")
    create = LazyModule("avfs_git.workspace.create")
    doctor = LazyModule("avfs_git.workspace.doctor")
    files = LazyModule("avfs_git.workspace.files")
    fold = LazyModule("avfs_git.workspace.fold")
    forkinfo = LazyModule("avfs_git.workspace.forkinfo")
    forks = LazyModule("avfs_git.workspace.forks")
    history = LazyModule("avfs_git.workspace.history")
    labels = LazyModule("avfs_git.workspace.labels")
    operations = LazyModule("avfs_git.session.operations")
    recovery = LazyModule("avfs_git.workspace.recovery")
    point = LazyModule("avfs_git.session.point")
    record = LazyModule("avfs_git.session.record")
    revisions = LazyModule("avfs_git.workspace.revisions")
    start = LazyModule("avfs_git.session.start")
    stop = LazyModule("avfs_git.session.stop")
    removal = LazyModule("avfs_git.host.removal")
    undo = LazyModule("avfs_git.workspace.undo")
    workspaces = LazyModule("avfs_git.workspace.workspace")

__all__ = ["Avfs", "PathLike", "Session", "Vault", "Workspace"]

PathLike = str | bytes | os.PathLike[str]
_P = ParamSpec("_P")
_T = TypeVar("_T")
_SUFFIX = ".git"


class Avfs:
    """A home: the vaults of one user, and which of them is current."""

    def __init__(
        self,
        home: Path,
        *,
        identity: Identity | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
    ) -> None:
        """Use a home; it is made when the first vault is.

        Args:
            home: Its directory.
            identity: Who makes commits, unless a vault's settings say it.
            clock_ns: The time of commits and operations, in nanoseconds since the epoch.
            lock_timeout_s: How long to wait for other processes, in seconds.
        """
        self.home = Path(home)
        self._identity = identity
        self._clock_ns = clock_ns
        self._lock_timeout_s = lock_timeout_s
        self._opened: list[Vault] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every vault that was opened here. A second call does nothing."""
        while self._opened:
            self._opened.pop().close()

    @property
    def _vaults(self) -> Path:
        return self.home / "vaults"

    def _path_of(self, name: str) -> Path:
        return self._vaults / (check_vault_name(name) + _SUFFIX)

    def _open(self, path: Path, name: str) -> Vault:
        vault = Vault(
            OpenVault(path, name=name, identity=self._identity, clock_ns=self._clock_ns),
            is_current=lambda: self.current_vault() == name,
            lock_timeout_s=self._lock_timeout_s,
            identity=self._identity,
            mounts=self.home / "mounts",
        )
        self._opened.append(vault)
        return vault

    def create_vault(self, name: str, *, source: Path | None = None, branch: str = "main") -> Vault:
        """Make a vault.

        Args:
            name: Its name.
            source: A directory to begin with. A git repository brings along its history, its branches, and what is
                uncommitted, untracked or ignored in it; it is only read.
            branch: The first fork, where the source does not say it.

        Raises:
            VaultExists: If there is one of that name.
            NotAVault: If the source is a repository that cannot be used.
            HostError: If the source or the disk cannot be used; nothing is left behind.
        """
        path = self._path_of(name)
        created = create.create_vault(path, source=source, branch=branch, identity=self._identity, clock_ns=self._clock_ns)
        vault = self._open(path, name)
        warnings = list(created.warnings)
        with aftermath.aftermath(warnings, f"choose it with `avfs vault use {name}`"):
            if self.current_vault() is None:
                self._write_current(name)
        vault.warnings = tuple(warnings)
        return vault

    def open_vault(self, name: str | Path | None = None) -> Vault:
        """Open a vault.

        Args:
            name: A vault of this home; a path to any bare repository; or None for the current vault.

        Raises:
            NoVaultChosen: If none is named and none is current.
            VaultNotFound: If there is none.
            NotAVault: If what is there cannot be used.
        """
        if name is None:
            name = self.current_vault()
            if name is None:
                raise NoVaultChosen
        if isinstance(name, str) and not any(separator in name for separator in (os.sep, "\0")) and name not in (".", ".."):
            path = self._path_of(name)
            if path.is_dir():
                return self._open(path, name)
            raise VaultNotFound(name)
        path = Path(name)
        if "\0" in str(name) or not path.is_dir():
            raise VaultNotFound(str(name))
        return self._open(path.resolve(), str(path))

    def has_vault(self, name: str | Path | None) -> bool:
        """Whether this home has a vault of that name."""
        try:
            return isinstance(name, str) and self._path_of(name).is_dir()
        except InvalidInput:
            return False

    def list_vaults(self) -> list[VaultInfo]:
        """Describe the vaults of this home, by name."""
        found = []
        with host_errors(f"read '{self._vaults}'"):
            names = sorted(entry.name for entry in self._vaults.iterdir()) if self._vaults.is_dir() else []
        for entry in names:
            if entry.endswith(_SUFFIX) and not entry.startswith("."):
                with self.open_vault(entry.removesuffix(_SUFFIX)) as vault:
                    found.append(vault.info())
                self._opened.remove(vault)
        return found

    def current_vault(self) -> str | None:
        """Name the vault that is used when none is named; None if there is none."""
        try:
            return (self.home / "current").read_text("utf-8").strip() or None
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise HostError("read which vault is current", error) from error

    def _write_current(self, name: str) -> None:
        with host_errors("choose the current vault"):
            write_file_atomically(self.home / "current", f"{name}\n".encode())

    def use_vault(self, name: str) -> VaultInfo:
        """Make a vault the current one."""
        with self.open_vault(name) as vault:
            self._write_current(name)
            return vault.info()

    def delete_vault(self, name: str) -> VaultInfo:
        """Delete a vault with all that is in it. This cannot be undone.

        Raises:
            VaultNotFound: If there is none.
            WorkspaceMounted: If one of its forks is mounted.
            WorkspaceBusy: If one of its workspaces is in use.
            LeftInForce: If not all of it could be removed. It is not found any more; the next deletion goes on.
            HostError: If the disk refuses; the vault is there.
        """
        path = self._path_of(name)
        if not path.is_dir():
            raise VaultNotFound(name)
        create.remove_unfinished(self._vaults)
        with self.open_vault(name) as vault:
            info = vault.info()
            vault.check_unmounted()
            vault.check_idle()
        gone = path.with_name(f".deleted-{os.getpid()}-{os.urandom(4).hex()}-{path.name}")
        with host_errors(f"delete '{path}'"):
            # First out of sight, in one step: a vault that is half deleted must not be found.
            path.rename(gone)
            try:
                reach("vault.out_of_sight")
                fsync_dir(path.parent)
            except BaseException:
                gone.rename(path)
                raise
        try:
            if self.current_vault() == name:
                (self.home / "current").unlink(missing_ok=True)
            removal.remove_tree(gone)
        except (HostError, OSError) as error:
            raise LeftInForce(f"remove all of '{gone}'", error, {}) from error
        return info

    # --- mounts ----------------------------------------------------------------------------------

    def sessions(self) -> list[SessionInfo]:
        """Describe all mounts of this home's vaults, the oldest first; clean up after those whose process died."""
        found: list[SessionInfo] = []
        for info in self.list_vaults():
            with self.open_vault(info.name) as vault:
                found += vault.sessions()
            self._opened.remove(vault)
        return sorted(found, key=lambda session: session.started_at_ns)

    def fork_directory(self, source: str | Path, directory: str | Path, *, branch: str | None = None) -> Session:
        """Fork the present state of a clone, or of any directory, and mount the fork; return when programs can use it.

        The first time, a vault is made for the directory; it is only read. Git in the fork's tree knows a clone as the remote
        `origin`, to which the fork can be pushed.

        Args:
            source: A directory; of a working tree of git, any in it.
            directory: Where to mount: one that is empty, or not there yet.
            branch: The name of the fork; that of the directory if not given.

        Raises:
            ForkExists: If the vault has such a fork.
            InvalidName: If no fork can have the name.
            MountPointUnusable: If nothing can be mounted there, or it is in the directory that is forked.
            NotAVault, FormatUnsupported: If the clone cannot be read safely.
            FuseUnavailable, SessionFailed: If it cannot be mounted; the fork is deleted again.
        """
        top = clones.find_top(Path(source))
        if not top.is_dir():
            raise HostError(f"read '{top}'", NotADirectoryError(20, os.strerror(20 if top.exists() else 2)))
        place = point.resolve(directory)
        if place == top or top in place.parents:
            raise MountPointUnusable(os.fspath(place), "it is in the directory that is forked", hint="Name one beside it.")
        name = check_fork_name(branch if branch is not None else place.name)
        vault = self._vault_of(top, name)
        vault.warnings = tuple(clones.fork_present(vault._core, name, top))  # noqa: SLF001 - the two are one interface
        try:
            return vault.workspace(name).mount(place)
        except BaseException:
            with suppress(AvfsError):
                clones.leave_default(vault._core, name)  # noqa: SLF001 - the same
                vault.delete_fork(name)
            raise

    def _vault_of(self, top: Path, branch: str) -> Vault:
        """Open the vault of a directory; make it if there is none."""
        stem = "".join(letter if (letter.isascii() and letter.isalnum()) or letter in "-_" else "-" for letter in top.name)
        stem = stem.strip("-")[:50] or "root"
        number = 1
        while True:
            name = stem if number == 1 else f"{stem}-{number}"
            path = self._path_of(name)
            if not path.exists():
                with suppress(VaultExists):  # by somebody who was faster
                    clones.make_vault_of(path, top, branch)
            if clones.read_origin(path) == top:
                return self._open(path, name)
            number += 1

    def session_at(self, directory: str | Path) -> Session | None:
        """Find the mount that a directory is in, of whichever vault; None if it is in none that lives.

        One whose process died is detached.
        """
        mounted = stop.find_mount_around(point.resolve(directory))
        if mounted is None:
            return None
        git_dir = record.vault_of_source(mounted.source)
        session_id = record.session_of_source(mounted.source)
        if git_dir is not None and git_dir.is_dir() and session_id is not None:
            in_home = git_dir.parent == self._vaults.resolve() and git_dir.suffix == _SUFFIX
            vault = self.open_vault(git_dir.stem if in_home else git_dir)
            for found in stop.find_sessions(vault._core.layout.sessions, session_id=session_id):  # noqa: SLF001 - one interface
                return Session(vault, found)
        stop.clear_dead_mount(mounted.directory)
        return None


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
        return compare.diff_commits(self._core, left, right, paths=_tree_paths(paths), context=context, patches=patches)

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


class Workspace:
    """The workspace of a fork: its files, and what was made of them."""

    def __init__(self, vault: Vault, fork: str, *, ephemeral: bool = False) -> None:
        self.vault = vault
        self.fork = fork
        self.ephemeral = ephemeral
        self._core = vault._core  # noqa: SLF001 - the two classes are one interface
        self._held: workspaces.OpenWorkspace | None = None
        self._held_files: files.Files | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.ephemeral:
            self.vault.delete_fork(self.fork)
        self.close()

    def close(self) -> None:
        """Let go of the workspace; its vault closes it. An ephemeral fork stays: a `with` block deletes it."""
        self._held = None
        self._held_files = None

    @property
    def _opened(self) -> workspaces.OpenWorkspace:
        held = self._held
        if held is None or held.is_closed:
            held = self._held = self.vault._open_workspace(self.fork)  # noqa: SLF001 - the two classes are one interface
            self._held_files = files.Files(held)
        return held

    @property
    def _files(self) -> files.Files:
        held = self._held
        if held is None or held.is_closed:
            self._opened  # noqa: B018 - opens it
        assert self._held_files is not None  # noqa: S101 - made together with what is held
        return self._held_files

    def _run(self, operation: Callable[Concatenate[workspaces.OpenWorkspace, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return self.vault._run(self._opened, operation, *args, **kwargs)  # noqa: SLF001 - the two classes are one interface

    # --- files --------------------------------------------------------------------------------------

    def read(self, path: PathLike) -> bytes:
        """Read a whole file; a symbolic link is followed inside the workspace only.

        Raises:
            PathNotFound: If nothing is there.
            PathUnsuitable: If it is no file.
            PathEscapes: If the path or a link leads out of the workspace.
        """
        tree_path = parse_tree_path(path)
        if self._opened.lock.session is None:
            return self._files.read(tree_path)
        return b"".join(self._run(operations.read_content, tree_path).pieces())

    def open_read(self, path: PathLike, *, version: int | None = None, at: str | None = None) -> Iterator[bytes]:
        """Read a file in pieces of at most 1 MiB, in bounded memory.

        Args:
            path: Which.
            version: An earlier version of it, as `path_versions` numbers them.
            at: The state to read it from: a checkpoint or fork; the present one if neither is given.
        """
        tree_path = parse_tree_path(path)
        if version is not None:
            at = history.find_version(self._core, self.fork, tree_path, version).checkpoint
        if at is not None:
            return history.stream_past(self._core, at, tree_path, fork=self.fork)
        if self._opened.lock.session is None:
            return self._files.stream(tree_path)
        return self._run(operations.read_content, tree_path).pieces()

    def write(
        self,
        path: PathLike,
        data: bytes,
        *,
        append: bool = False,
        expect: str | None = None,
        parents: bool = True,
        executable: bool | None = None,
    ) -> FileInfo:
        """Make a file hold `data`, all of it or, if that fails, nothing.

        Args:
            path: Where.
            data: The content.
            append: Add it at the end instead.
            expect: The id that the present content must have (`stat(..., with_oid=True).oid`), or `""` if nothing may
                be there. Otherwise nothing is written.
            parents: Make missing directories.
            executable: Set or clear the executable bits; None keeps them.

        Raises:
            ContentChanged: If `expect` does not hold.
            PathUnsuitable: If something else than a file is there.
        """
        tree_path = parse_tree_path(path)
        if self._opened.lock.session is None:
            try:
                return self._files.write(tree_path, data, append=append, expect=expect, parents=parents, executable=executable)
            except WorkspaceBusy:
                if self._opened.lock.session is None:
                    raise
        with client.spooled(self._opened, data) as content:
            return self._run(operations.write, tree_path, content, append, expect, parents, executable)

    def write_from(self, path: PathLike, chunks: Iterable[bytes], *, append: bool = False, expect: str | None = None) -> FileInfo:
        """Make a file hold what an iterable yields, in bounded memory; otherwise as `write`."""
        if self._opened.lock.session is None:
            return self._files.write(parse_tree_path(path), chunks, append=append, expect=expect)
        with client.spooled(self._opened, chunks) as content:
            return self._run(operations.write, parse_tree_path(path), content, append, expect, True, None)

    def list_dir(self, path: PathLike = "/") -> list[FileInfo]:
        """Describe what is in a directory, by name."""
        return self._run(operations.list_dir, parse_tree_path(path))

    def stat(self, path: PathLike, *, with_oid: bool = False, follow: bool = False) -> FileInfo:
        """Describe what is at a path; with `with_oid`, its content is read if its id is not known."""
        return self._run(operations.describe, parse_tree_path(path), with_oid, follow)

    def tree(self, path: PathLike = "/", *, depth: int | None = None) -> TreeNode:
        """Describe all that is below a path, or `depth` levels of it."""
        return self._run(operations.describe_tree, parse_tree_path(path), depth)

    def exists(self, path: PathLike) -> bool:
        """Whether anything is at a path."""
        return self._run(operations.exists, parse_tree_path(path))

    def read_link(self, path: PathLike) -> bytes:
        """Read where a symbolic link points to."""
        return self._run(operations.read_link, parse_tree_path(path))

    def make_dir(self, path: PathLike, *, parents: bool = False) -> None:
        """Make a directory; with `parents`, those above it too, and let it be there already."""
        self._run(operations.make_dir, parse_tree_path(path), parents)

    def remove(self, path: PathLike, *, recursive: bool = False, missing_ok: bool = False, expect: str | None = None) -> None:
        """Remove a file, a symbolic link, an empty directory or, with `recursive`, any directory."""
        self._run(operations.remove, parse_tree_path(path), recursive, missing_ok, expect)

    def copy(self, source: PathLike, destination: PathLike, *, recursive: bool = False) -> FileInfo:
        """Copy, into the destination if that is a directory. Nothing is overwritten."""
        return self._run(operations.copy, parse_tree_path(source), parse_tree_path(destination), recursive)

    def move(self, source: PathLike, destination: PathLike) -> FileInfo:
        """Rename, into the destination if that is a directory. Nothing is overwritten."""
        return self._run(operations.move, parse_tree_path(source), parse_tree_path(destination))

    def touch(self, path: PathLike, *, mtime_ns: int | None = None) -> FileInfo:
        """Set the time of a file's last change; make it if it is not there."""
        return self._run(operations.touch, parse_tree_path(path), mtime_ns)

    def chmod(self, path: PathLike, mode: int) -> None:
        """Set permission bits."""
        self._run(operations.chmod, parse_tree_path(path), mode)

    def symlink(self, path: PathLike, target: bytes) -> None:
        """Make a symbolic link."""
        self._run(operations.symlink, parse_tree_path(path), target)

    def link(self, source: PathLike, destination: PathLike) -> None:
        """Give a file one more name."""
        self._run(operations.link, parse_tree_path(source), parse_tree_path(destination))

    # --- mounting -------------------------------------------------------------------------------------

    def mount(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        readonly: bool = False,
        at: str | None = None,
        allow_other: bool = False,
        leash_fd: int | None = None,
    ) -> Session:
        """Show the workspace as a real directory; return when programs can use it.

        A process of its own serves it, and goes on when this one ends: until `Session.unmount` or `Session.stop`.

        Args:
            directory: Where: one that is empty, or not there yet, which then goes with the mount. By default a place
                in the home: `mounts/VAULT/FORK`.
            readonly: Show the head instead of the workspace, for reading. Any number of such mounts may stand beside one of
                the workspace.
            at: The same with this checkpoint, commit or fork instead of the head.
            allow_other: Let in other users, as far as permissions go.
            leash_fd: The reading end of a pipe: when the other end is closed, the mount is taken away.

        Raises:
            WorkspaceMounted: If the workspace is mounted already.
            WorkspaceBusy: If another process works in it for too long.
            MountPointUnusable: If nothing can be mounted there.
            FuseUnavailable: If this machine, or its administrator, does not allow it.
            CheckpointNotFound: If there is nothing of the name in `at`.
        """
        vault = self.vault
        commit = revisions.resolve_revision(self._core, at or "HEAD", fork=self.fork).hex() if at or readonly else None
        if directory is None:
            if vault._mounts is None:  # noqa: SLF001 - the two classes are one interface
                raise InvalidInput("a directory to mount at is needed", hint="Name one.")
            name = vault.name if os.sep not in vault.name else point.name_of_vault(vault.path)
            directory = point.default_directory(vault._mounts, name, self.fork, commit)  # noqa: SLF001 - the same
        return vault._mount(self.fork, directory, at=commit, allow_other=allow_other, leash_fd=leash_fd)  # noqa: SLF001 - the same

    # --- checkpoints ----------------------------------------------------------------------------------

    def status(self) -> Status:
        """Tell what is not committed. Writes nothing."""
        return self._run(operations.read_status)

    def checkpoint(self, label: str | None = None, *, description: str | None = None) -> CheckpointResult:
        """Commit what changed. Durable when it returns; costs what changed.

        Args:
            label: A name for it.
            description: The commit's message.

        Raises:
            CheckpointExists: If the label is taken.
            FileChanging: If a file keeps changing while it is read.
        """
        return self._run(operations.save_checkpoint, label, description)

    def list_checkpoints(self, *, limit: int = 100) -> list[Checkpoint]:
        """List checkpoints, newest first."""
        return history.list_checkpoints(self._core, self.fork, limit=limit)

    def checkpoint_details(self, name: str) -> CheckpointDetails:
        """Describe a checkpoint by label or id, and count what it holds."""
        return history.describe_checkpoint(self._core, name, fork=self.fork)

    def delete_checkpoint(self, label: str) -> Checkpoint:
        """Take a label away. The commit stays in the history; it can be undone."""
        return labels.delete_label(self._core, self.fork, label)

    def restore(
        self, target: str, *, paths: Sequence[PathLike] = (), dry_run: bool = False, into: str | None = None
    ) -> RestoreResult:
        """Bring the files to the state of a checkpoint. What is uncommitted is saved first; it can be undone.

        Args:
            target: A label, fork or commit.
            paths: Only these and what is below them.
            dry_run: Only tell what would change.
            into: Make a fork of this name with that state instead; this workspace stays as it is.

        Raises:
            CheckpointNotFound: If there is nothing of that name.
            PathNotFound: If a path is neither there nor in the target.
        """
        oid = revisions.resolve_revision(self._core, target, fork=self.fork)
        if into is not None:
            if paths or dry_run:
                raise InvalidInput("restoring into a new fork takes no paths and no dry run")
            self.vault.fork(into, source=self.fork, at=oid.hex())
            return RestoreResult("restored", oid.hex(), (), fork=into)
        return self._run(operations.restore_state, oid, _tree_paths(paths), dry_run, target, "restore")

    def diff(
        self,
        old: str | None = None,
        new: str | None = None,
        *,
        paths: Sequence[PathLike] = (),
        context: int = 3,
        patches: bool = True,
    ) -> Diff:
        """Compare two states; the head and the workspace as it is, where they are not named."""
        if new is not None:
            return self.vault.diff(old or "HEAD", new, fork=self.fork, paths=paths, context=context, patches=patches)
        return self._run(operations.diff_workspace, old, _tree_paths(paths), context, patches)

    def log(self, *, limit: int = 50, with_files: bool = False) -> list[LogEntry]:
        """List the commits of the fork, newest first."""
        if self._core.read_head(self.fork) is None:
            return []
        return self.vault.log("HEAD", fork=self.fork, limit=limit, with_files=with_files)

    def path_versions(self, path: PathLike, *, limit: int | None = None) -> list[PathVersion]:
        """List the states that a path had, newest first; the oldest is number 1."""
        return history.list_path_versions(self._core, self.fork, parse_tree_path(path), limit=limit)

    def checkout_path(self, path: PathLike, *, version: int | None = None, at: str | None = None) -> RestoreResult:
        """Bring one path to an earlier version of it, or to what it is in a checkpoint."""
        tree_path = parse_tree_path(path)
        if (version is None) == (at is None):
            raise InvalidInput("name either a version or a checkpoint")
        target = history.find_version(self._core, self.fork, tree_path, version).checkpoint if version is not None else str(at)
        oid = revisions.resolve_revision(self._core, target, fork=self.fork)
        return self._run(operations.restore_state, oid, [tree_path], False, at or f"version {version}", "checkout")

    def revert_path(self, path: PathLike) -> RestoreResult:
        """Bring one path to the version before its present one; what is uncommitted counts as the present one.

        Raises:
            PathUnsuitable: If it has no earlier version.
        """
        return self._run(operations.revert_path, parse_tree_path(path))

    def undo(self) -> UndoResult:
        """Take back the last operation on this fork."""
        return self.vault.undo(fork=self.fork)

    def redo(self) -> UndoResult:
        """Do the operation again that was taken back last."""
        return self.vault.redo(fork=self.fork)

    def operations(self, *, limit: int = 50) -> list[Operation]:
        """List what was done to this fork, newest first."""
        return self.vault.operations(fork=self.fork, limit=limit)

    def fold(self) -> bool:
        """Make the head the new lower layer and drop what the upper one repeats of it; False if that was so.

        Raises:
            WorkspaceMounted: If it is mounted.
        """
        self.vault.check_unmounted(self.fork)
        with self._opened.locked() as locked:
            return fold.fold_workspace(locked)

    # --- in and out ---------------------------------------------------------------------------------------

    def import_path(
        self, source: Path, path: PathLike = "/", *, recursive: bool = True, max_depth: int | None = None
    ) -> TransferResult:
        """Copy a file or directory of the host into the workspace. Links that lead out of the source are left out."""
        source, tree_path = Path(source), parse_tree_path(path)
        if self._opened.lock.session is None:
            return self._run(operations.import_path, source, tree_path, recursive, max_depth)
        with client.opened_source(source) as handle:
            return self._run(operations.import_opened, handle, tree_path, recursive, max_depth, str(source))

    def import_tar(self, file: BinaryIO, path: PathLike = "/") -> TransferResult:
        """Unpack a tar archive, compressed or not, into the workspace."""
        tree_path = parse_tree_path(path)
        if self._opened.lock.session is None:
            return operations.unpack_tar(self._opened, file, tree_path)
        with client.spooled_file(self._opened, file) as handle:
            return self._run(operations.import_tar, handle, tree_path)

    def export_path(
        self, path: PathLike, destination: Path, *, recursive: bool = True, max_depth: int | None = None, overwrite: bool = False
    ) -> TransferResult:
        """Copy a file or directory of the workspace to the host."""
        tree_path, destination = parse_tree_path(path), Path(destination)
        if self._opened.lock.session is None:
            return self._run(operations.export_path, tree_path, destination, recursive, max_depth, overwrite)
        with client.opened_above(destination) as (handle, rest):
            return self._run(operations.export_opened, tree_path, handle, rest, recursive, max_depth, overwrite, str(destination))

    def export_tar(self, path: PathLike, file: BinaryIO) -> TransferResult:
        """Write a tar archive of a file or directory of the workspace."""
        tree_path = parse_tree_path(path)
        if self._opened.lock.session is None:
            return operations.pack_tar(self._opened, tree_path, file)
        result, handle = self._run(operations.export_tar, tree_path)
        file.writelines(operations.Content(handle=handle).pieces())
        return result


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

    def remove(self, *, discard: bool = False, lazy: bool = False, force: bool = False) -> RemoveResult:
        """End a fork that `Avfs.fork_directory` made: save a last checkpoint, take the mount away, delete what was pushed.

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
        pushed = clones.is_pushed(core, self.fork)
        if (pushed or discard or clones.is_untouched(core, self.fork)) and ended.outcome != "detached":
            self.wait()
            clones.leave_default(core, self.fork)
            self.vault.delete_fork(self.fork)
            return RemoveResult(self.vault.name, self.fork, self.path, deleted=True, pushed=pushed)
        return RemoveResult(self.vault.name, self.fork, self.path, deleted=False, pushed=pushed)

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


_LAST = "save at the end of a session"


def _tree_paths(paths: Sequence[PathLike]) -> list[TreePath]:
    found = [parse_tree_path(path) for path in paths]
    return [] if ROOT in found else found


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

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
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Self

from avfs_git.errors import HostError, InvalidInput, NoVaultChosen, PathUnsuitable, VaultNotFound
from avfs_git.host.durable import host_errors, write_file_atomically
from avfs_git.host.locks import LOCK_TIMEOUT_S
from avfs_git.lazy import LazyModule
from avfs_git.model import (
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
    RestoreResult,
    Status,
    TransferResult,
    TreeNode,
    UndoResult,
    VaultInfo,
    Warning,
)
from avfs_git.paths import ROOT, TreePath, check_vault_name, parse_tree_path
from avfs_git.workspace.vault import OpenVault

if TYPE_CHECKING:
    from avfs_git.workspace import (
        checkpoint,
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
        restore,
        revisions,
        transfer,
        undo,
    )
    from avfs_git.workspace import workspace as workspaces
else:
    # A light command must not pay for what it does not use.
    checkpoint = LazyModule("avfs_git.workspace.checkpoint")
    compare = LazyModule("avfs_git.workspace.compare")
    create = LazyModule("avfs_git.workspace.create")
    doctor = LazyModule("avfs_git.workspace.doctor")
    files = LazyModule("avfs_git.workspace.files")
    fold = LazyModule("avfs_git.workspace.fold")
    forkinfo = LazyModule("avfs_git.workspace.forkinfo")
    forks = LazyModule("avfs_git.workspace.forks")
    history = LazyModule("avfs_git.workspace.history")
    labels = LazyModule("avfs_git.workspace.labels")
    recovery = LazyModule("avfs_git.workspace.recovery")
    restore = LazyModule("avfs_git.workspace.restore")
    revisions = LazyModule("avfs_git.workspace.revisions")
    transfer = LazyModule("avfs_git.workspace.transfer")
    undo = LazyModule("avfs_git.workspace.undo")
    workspaces = LazyModule("avfs_git.workspace.workspace")

__all__ = ["Avfs", "PathLike", "Vault", "Workspace"]

PathLike = str | bytes | os.PathLike[str]
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
        vault.warnings = created.warnings
        if self.current_vault() is None:
            self._write_current(name)
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
            WorkspaceBusy: If one of its workspaces is in use.
        """
        path = self._path_of(name)
        if not path.is_dir():
            raise VaultNotFound(name)
        with self.open_vault(name) as vault:
            info = vault.info()
            vault.check_idle()
        gone = path.with_name(f".deleted-{os.getpid()}-{path.name}")
        with host_errors(f"delete '{path}'"):
            # First out of sight, in one step: a vault that is half deleted must not be found.
            path.rename(gone)
            shutil.rmtree(gone)
            if self.current_vault() == name:
                (self.home / "current").unlink(missing_ok=True)
        return info


class Vault:
    """A vault that is open: a bare git repository, its forks and their workspaces.

    Attributes:
        warnings: What making it left out, right after `Avfs.create_vault`.
    """

    def __init__(
        self, core: OpenVault, *, is_current: Callable[[], bool] = lambda: False, lock_timeout_s: float = LOCK_TIMEOUT_S
    ) -> None:
        self._core = core
        self._is_current = is_current
        self._lock_timeout_s = lock_timeout_s
        self._workspaces: dict[str, workspaces.OpenWorkspace] = {}
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
            self._core.close()

    @property
    def name(self) -> str:
        """Its name, or the path that it was opened by."""
        return self._core.name

    @property
    def path(self) -> Path:
        """The bare repository."""
        return self._core.git_dir

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

    def fork_info(self, name: str) -> ForkInfo:
        """Describe a fork."""
        return forkinfo.fork_info(self._core, name)

    def delete_fork(self, name: str) -> ForkInfo:
        """Delete a fork. It can be undone: its commits are kept and its files put aside.

        Raises:
            ForkNotFound: If there is none.
            InvalidInput: If it is the default fork.
            WorkspaceBusy: If another process works in it.
        """
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
        return undo.undo(self._core, fork, self._open_workspace)

    def redo(self, *, fork: str | None = None) -> UndoResult:
        """Do the operation again that was taken back last."""
        return undo.redo(self._core, fork, self._open_workspace)

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

    # --- files --------------------------------------------------------------------------------------

    def read(self, path: PathLike) -> bytes:
        """Read a whole file; a symbolic link is followed inside the workspace only.

        Raises:
            PathNotFound: If nothing is there.
            PathUnsuitable: If it is no file.
            PathEscapes: If the path or a link leads out of the workspace.
        """
        return self._files.read(parse_tree_path(path))

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
        return self._files.stream(tree_path) if at is None else history.stream_past(self._core, at, tree_path, fork=self.fork)

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
        return self._files.write(
            parse_tree_path(path), data, append=append, expect=expect, parents=parents, executable=executable
        )

    def write_from(self, path: PathLike, chunks: Iterable[bytes], *, append: bool = False, expect: str | None = None) -> FileInfo:
        """Make a file hold what an iterable yields, in bounded memory; otherwise as `write`."""
        return self._files.write(parse_tree_path(path), chunks, append=append, expect=expect)

    def list_dir(self, path: PathLike = "/") -> list[FileInfo]:
        """Describe what is in a directory, by name."""
        return self._files.list_dir(parse_tree_path(path))

    def stat(self, path: PathLike, *, with_oid: bool = False, follow: bool = False) -> FileInfo:
        """Describe what is at a path; with `with_oid`, its content is read if its id is not known."""
        return self._files.stat(parse_tree_path(path), with_oid=with_oid, follow=follow)

    def tree(self, path: PathLike = "/", *, depth: int | None = None) -> TreeNode:
        """Describe all that is below a path, or `depth` levels of it."""
        return self._files.tree(parse_tree_path(path), depth=depth)

    def exists(self, path: PathLike) -> bool:
        """Whether anything is at a path."""
        return self._files.exists(parse_tree_path(path))

    def read_link(self, path: PathLike) -> bytes:
        """Read where a symbolic link points to."""
        return self._files.read_link(parse_tree_path(path))

    def make_dir(self, path: PathLike, *, parents: bool = False) -> None:
        """Make a directory; with `parents`, those above it too, and let it be there already."""
        self._files.make_dir(parse_tree_path(path), parents=parents)

    def remove(self, path: PathLike, *, recursive: bool = False, missing_ok: bool = False, expect: str | None = None) -> None:
        """Remove a file, a symbolic link, an empty directory or, with `recursive`, any directory."""
        self._files.remove(parse_tree_path(path), recursive=recursive, missing_ok=missing_ok, expect=expect)

    def copy(self, source: PathLike, destination: PathLike, *, recursive: bool = False) -> FileInfo:
        """Copy, into the destination if that is a directory. Nothing is overwritten."""
        return self.stat(self._files.copy(parse_tree_path(source), parse_tree_path(destination), recursive=recursive))

    def move(self, source: PathLike, destination: PathLike) -> FileInfo:
        """Rename, into the destination if that is a directory. Nothing is overwritten."""
        return self.stat(self._files.move(parse_tree_path(source), parse_tree_path(destination)))

    def touch(self, path: PathLike, *, mtime_ns: int | None = None) -> FileInfo:
        """Set the time of a file's last change; make it if it is not there."""
        tree_path = parse_tree_path(path)
        self._files.touch(tree_path, mtime_ns=mtime_ns)
        return self._files.stat(tree_path, follow=True)

    def chmod(self, path: PathLike, mode: int) -> None:
        """Set permission bits."""
        self._files.chmod(parse_tree_path(path), mode)

    def symlink(self, path: PathLike, target: bytes) -> None:
        """Make a symbolic link."""
        self._files.symlink(parse_tree_path(path), target)

    def link(self, source: PathLike, destination: PathLike) -> None:
        """Give a file one more name."""
        self._files.link(parse_tree_path(source), parse_tree_path(destination))

    # --- checkpoints ----------------------------------------------------------------------------------

    def status(self) -> Status:
        """Tell what is not committed. Writes nothing."""
        with self._opened.locked() as locked:
            return checkpoint.read_status(locked)

    def checkpoint(self, label: str | None = None, *, description: str | None = None) -> CheckpointResult:
        """Commit what changed. Durable when it returns; costs what changed.

        Args:
            label: A name for it.
            description: The commit's message.

        Raises:
            CheckpointExists: If the label is taken.
            FileChanging: If a file keeps changing while it is read.
        """
        with self._opened.locked() as locked:
            return checkpoint.save_checkpoint(locked, label=label, message=description)

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
        with self._opened.locked() as locked:
            return restore.restore_state(locked, oid, paths=_tree_paths(paths), dry_run=dry_run, name=target)

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
        with self._opened.locked() as locked:
            return compare.diff_workspace(locked, old, paths=_tree_paths(paths), context=context, patches=patches)

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
        with self._opened.locked() as locked:
            return restore.restore_state(locked, oid, paths=[tree_path], name=at or f"version {version}", kind="checkout")

    def revert_path(self, path: PathLike) -> RestoreResult:
        """Bring one path to the version before its present one; what is uncommitted counts as the present one.

        Raises:
            PathUnsuitable: If it has no earlier version.
        """
        tree_path = parse_tree_path(path)
        with self._opened.locked() as locked:
            checkpoint.save_checkpoint(locked, message="save before revert", description="save before revert")
            versions = history.list_path_versions(self._core, self.fork, tree_path, limit=2)
            if len(versions) < 2:
                raise PathUnsuitable(b"/" + tree_path, "has no earlier version")
            oid = revisions.resolve_revision(self._core, versions[1].checkpoint, fork=self.fork)
            return restore.restore_state(locked, oid, paths=[tree_path], name=f"version {versions[1].number}", kind="revert")

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
        """Make the head the new lower layer and drop what the upper one repeats of it; False if that was so."""
        with self._opened.locked() as locked:
            return fold.fold_workspace(locked)

    # --- in and out ---------------------------------------------------------------------------------------

    def import_path(
        self, source: Path, path: PathLike = "/", *, recursive: bool = True, max_depth: int | None = None
    ) -> TransferResult:
        """Copy a file or directory of the host into the workspace. Links that lead out of the source are left out."""
        return transfer.import_path(self._opened, Path(source), parse_tree_path(path), recursive=recursive, max_depth=max_depth)

    def import_tar(self, file: BinaryIO, path: PathLike = "/") -> TransferResult:
        """Unpack a tar archive, compressed or not, into the workspace."""
        return transfer.import_tar(self._opened, file, parse_tree_path(path))

    def export_path(
        self, path: PathLike, destination: Path, *, recursive: bool = True, max_depth: int | None = None, overwrite: bool = False
    ) -> TransferResult:
        """Copy a file or directory of the workspace to the host."""
        return transfer.export_path(
            self._opened, parse_tree_path(path), Path(destination), recursive=recursive, max_depth=max_depth, overwrite=overwrite
        )

    def export_tar(self, path: PathLike, file: BinaryIO) -> TransferResult:
        """Write a tar archive of a file or directory of the workspace."""
        return transfer.export_tar(self._opened, parse_tree_path(path), file)


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

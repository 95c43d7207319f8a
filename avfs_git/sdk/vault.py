"""A vault that is open: its forks, states, remotes and settings.

Decided here: names and arguments of the public API, which most lines document, and which operations one call stands for;
`sdk.dispatch` decides where each runs. Callers may use several threads and processes.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar, Unpack

from avfs_git.errors import CheckpointNotFound, InvalidInput, PathNotFound, WorkspaceBusy
from avfs_git.host.files.usage import disk_usage
from avfs_git.host.locks.locks import LOCK_TIMEOUT_S, Holder
from avfs_git.lazy import LazyModule
from avfs_git.model import (
    WHOLE_VAULT,
    ApplyResult,
    CheckpointDetails,
    Diff,
    DoctorReport,
    FetchResult,
    FindResult,
    ForkInfo,
    GarbageResult,
    GrepResult,
    HookInfo,
    Identity,
    LogEntry,
    MaintenanceResult,
    MergeMode,
    Operation,
    Overlap,
    PrefetchResult,
    PullResult,
    PushResult,
    RemoteBranch,
    RemoteInfo,
    SessionInfo,
    UndoResult,
    VaultInfo,
    Warning,
)
from avfs_git.paths import PathLike, check_fork_name, parse_tree_paths
from avfs_git.sdk.dispatch import Dispatch
from avfs_git.sdk.session import Session
from avfs_git.sdk.workspace import Workspace
from avfs_git.values import replace

_T = TypeVar("_T")

if TYPE_CHECKING:
    from avfs_git.backends import lower
    from avfs_git.host.processes.seal import Seal
    from avfs_git.sdk import background, events, policy
    from avfs_git.sdk.options import FindOptions, GrepOptions
    from avfs_git.session.control import operations
    from avfs_git.session.life import record, stop
    from avfs_git.workspace.exchange import apply, remotes, userhooks
    from avfs_git.workspace.exchange.enabledhooks import EnabledHooks
    from avfs_git.workspace.forks import clones, forks
    from avfs_git.workspace.history import compare, history, undo
    from avfs_git.workspace.merge import overlap
    from avfs_git.workspace.opened.workspace import LockedWorkspace
    from avfs_git.workspace.upkeep import doctor, garbage, maintenance
    from avfs_git.workspace.vault import forkinfo, revisions, upkeepdue
    from avfs_git.workspace.vault.vault import OpenVault
else:
    # A light command must not pay for what it does not use.
    apply = LazyModule("avfs_git.workspace.exchange.apply")
    clones = LazyModule("avfs_git.workspace.forks.clones")
    compare = LazyModule("avfs_git.workspace.history.compare")
    doctor = LazyModule("avfs_git.workspace.upkeep.doctor")
    forkinfo = LazyModule("avfs_git.workspace.vault.forkinfo")
    forks = LazyModule("avfs_git.workspace.forks.forks")
    garbage = LazyModule("avfs_git.workspace.upkeep.garbage")
    events = LazyModule("avfs_git.sdk.events")
    maintenance = LazyModule("avfs_git.workspace.upkeep.maintenance")
    background = LazyModule("avfs_git.sdk.background")
    policy = LazyModule("avfs_git.sdk.policy")
    history = LazyModule("avfs_git.workspace.history.history")
    lower = LazyModule("avfs_git.backends.lower")
    operations = LazyModule("avfs_git.session.control.operations")
    overlap = LazyModule("avfs_git.workspace.merge.overlap")
    record = LazyModule("avfs_git.session.life.record")
    remotes = LazyModule("avfs_git.workspace.exchange.remotes")
    revisions = LazyModule("avfs_git.workspace.vault.revisions")
    stop = LazyModule("avfs_git.session.life.stop")
    undo = LazyModule("avfs_git.workspace.history.undo")
    upkeepdue = LazyModule("avfs_git.workspace.vault.upkeepdue")
    userhooks = LazyModule("avfs_git.workspace.exchange.userhooks")


class Vault:
    """A vault that is open: a bare git repository, its forks and their workspaces.

    Attributes:
        warnings: What `Home.create_vault` left out of the vault.
    """

    def __init__(
        self,
        core: OpenVault,
        *,
        seal: Seal,
        enabled_hooks: EnabledHooks,
        is_current: Callable[[], bool] = lambda: False,
        lock_timeout_s: float = LOCK_TIMEOUT_S,
        mounts: Path | None = None,
        remote_environment: Mapping[str, str] | None = None,
        runs_hooks: bool = True,
        user_policy: Path | None = None,
        on_wait: Callable[[str, Holder | None], object] | None = None,
        on_warnings: Callable[[Sequence[Warning]], object] | None = None,
    ) -> None:
        self._core = core
        self._is_current = is_current
        self._dispatch = Dispatch(
            core,
            enabled_hooks=enabled_hooks,
            lock_timeout_s=lock_timeout_s,
            mounts=mounts,
            remote_environment=remote_environment,
            runs_hooks=runs_hooks,
            on_wait=on_wait,
            on_warnings=on_warnings,
        )
        self._seal = seal
        self._user_policy = user_policy
        self.warnings: tuple[Warning, ...] = ()

    def __repr__(self) -> str:
        return f"<Vault {self.name!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the vault and its workspaces. A second call does nothing."""
        self._dispatch.close()

    @property
    def name(self) -> str:
        """The vault's name, or the path that it was opened by."""
        return self._core.name

    @property
    def path(self) -> Path:
        """The bare repository."""
        return self._core.git_dir

    def origin(self) -> Path | None:
        """The directory for which `Home.fork_directory` made this vault; None for any other vault."""
        return self._core.layout.read_origin()

    def remote(self) -> str | None:
        """The name by which git in a fork's tree knows the clone that the vault was made of; None without a clone."""
        return clones.find_remote(self.path)

    @property
    def policy(self) -> policy.VaultPolicy:
        """The policy for commands: rules, approvals, audit log."""
        return policy.VaultPolicy(self.path, seal=self._seal, user_policy=self._user_policy)

    def info(self, *, sizes: bool = False) -> VaultInfo:
        """Describe the vault; `sizes` adds its size on disk, which reads every directory of the vault."""
        path = self.path
        forks_now, first = set(self._core.list_heads()), self._core.head_fork()
        return VaultInfo(
            name=self.name,
            path=path,
            current=self._is_current(),
            default_fork=self._core.default_fork(),
            forks=len(forks_now if first is None or not self._core.has_fork(first) else forks_now | {first}),
            created_at_ns=self._core.created_at_ns(),
            size_bytes=disk_usage(path) if sizes else None,
        )

    @contextmanager
    def _idle(self) -> Iterator[None]:
        """Lock all workspaces of this vault for a block: no process changes or mounts one meanwhile.

        Raises:
            WorkspaceBusy: If another process holds one.
        """
        with ExitStack() as stack:
            for fork in sorted(self._core.layout.list_workspaces()):
                if self._core.has_fork(fork):
                    stack.enter_context(self._dispatch.open_workspace(fork).locked())
            yield

    @contextmanager
    def _unmaintained(self) -> Iterator[None]:
        """Keep maintenance away for a block, if avfs ever wrote to the vault.

        Raises:
            WorkspaceBusy: If another process maintains it for a minute.
        """
        if not self._core.layout.root.is_dir():
            yield
            return
        with upkeepdue.maintenance_held(self._core.layout, wait_s=upkeepdue.MAINTENANCE_WAIT_S) as is_alone:
            if not is_alone:
                raise WorkspaceBusy(self.name, "maintenance of the vault")
            yield

    # --- mounts ----------------------------------------------------------------------------------

    def sessions(self) -> list[SessionInfo]:
        """List the mounts of this vault, oldest first; clean up those whose process died."""
        return [found.info(self.name) for found in record.list_sessions(self._core.layout.sessions)]

    def mount(
        self, directory: str | os.PathLike[str] | None = None, *, allow_other: bool = False, leash_fd: int | None = None
    ) -> Session:
        """Mount all states of the vault: `forks/NAME`, and read-only `checkpoints/FORK/LABEL` and `commits/ID`.

        New, moved and deleted states appear within a second. A fork is a symbolic link to its mount; a program that follows the
        link of another fork mounts that one, at its place in the home, until this mount ends.

        Args:
            directory: As for `Workspace.mount`; by default `mounts/VAULT@all` in the home.
            allow_other: Give other users access, as far as permissions allow.
            leash_fd: The reading end of a pipe: the mount is removed when the other end is closed.

        Raises:
            MountPointUnusable: If the directory cannot be mounted on.
            FuseUnavailable: If this machine, or its administrator, does not allow mounts.
        """
        mounts = self._dispatch.mounts
        if directory is None:
            if mounts is None:
                raise InvalidInput("a directory to mount at is needed", hint="Name one.")
            directory = mounts / f"{self._dispatch.home_name}@all"
        found = self._dispatch.mount(
            WHOLE_VAULT,
            directory,
            at=None,
            allow_other=allow_other,
            leash_fd=leash_fd,
            mounts=mounts / self._dispatch.home_name if mounts is not None else None,
        )
        return Session(self, found)

    def find_session(self, fork: str, *, session_id: str | None = None) -> Session | None:
        """Find a mount of a fork, preferably that of its workspace, or the mount with an id, or None."""
        found = stop.find_sessions(self._core.layout.sessions, fork=fork, session_id=session_id)
        return Session(self, found[0]) if found else None

    def check_unmounted(self, fork: str | None = None) -> None:
        """Check that no fork of this vault is mounted; or, with `fork`, that its workspace is not.

        Raises:
            WorkspaceMounted: If one is mounted.
        """
        self._dispatch.check_unmounted(fork)

    # --- forks -----------------------------------------------------------------------------------

    def fork(
        self,
        name: str,
        *,
        source: str | None = None,
        at: str | None = None,
        ephemeral: bool = False,
        with_changes: bool = True,
        author: Identity | None = None,
    ) -> Workspace:
        """Make a fork: a branch with a workspace of its own. Its cost does not depend on the size of the tree.

        Args:
            name: The fork's name: any name that git allows for a branch.
            source: The fork to start from; the default fork if not given.
            at: A checkpoint, commit or fork to start from, instead of the present state of the source.
            ephemeral: Delete the fork at the end of a `with` block of its `Workspace`.
            with_changes: Include uncommitted changes of the source, which are checkpointed there first.
            author: Author of the fork's commits; the vault's author if not given.

        Raises:
            ForkExists: If the name is taken.
            ForkNotFound: If there is no such source.
            CheckpointNotFound: If no state has the name in `at`.
            WorkspaceMounted: If git deleted the branch of a fork of that name, which is still mounted.
        """
        self._check_left(name)
        at_hand = source or self._core.default_fork()
        if (at is None and with_changes) or self._core.has_fork(name):  # then they are saved there, or it is refused
            self._dispatch.record_git_moves(at_hand)
        else:
            self._dispatch.record_work(at_hand)
        forks.create_fork(
            self._core,
            name,
            open_workspace=self._dispatch.open_workspace,
            source=source,
            at=at,
            ephemeral=ephemeral,
            with_changes=with_changes,
            author=author,
            save=lambda opened, message, text: self._dispatch.run(
                opened, operations.save_checkpoint, message=message, description=text
            ),
        )
        return Workspace(self, name, ephemeral=ephemeral)

    def _check_left(self, name: str) -> None:
        """Check that a new fork's name is not that of a mount without a branch."""
        back = f"bring it back with `avfs undo --fork {shlex.quote(name)}`, or make the new fork"
        self._dispatch.check_left(check_fork_name(name), back)

    def workspace(self, fork: str | None = None) -> Workspace:
        """Open the workspace of a fork, by default that of the default fork.

        Raises:
            ForkNotFound: If there is no such fork.
            NoForkChosen: If no fork is named, and the vault has several and no default.
            NoForks: If no fork is named, and the vault has none.
        """
        name = self.choose_fork(fork)
        info = forkinfo.fork_info(self._core, name)
        return Workspace(self, name, ephemeral=info.ephemeral)

    def choose_fork(self, fork: str | None = None) -> str:
        """Choose a fork: the one given, else that of the repository's HEAD, else the only one.

        In a vault that `Home.fork_directory` made, HEAD is only the first fork, and no default.

        Raises:
            NoForkChosen: If no fork is given, and the vault has several and no default.
            NoForks: If no fork is given, and the vault has none.
        """
        return self._core.choose_fork(fork)

    @contextmanager
    def _at_hand(self, fork: str | None) -> Iterator[str | None]:
        """Choose the fork whose labels and head a name of a state means; None if there is no default and no name needs one."""
        fork = fork or self._core.default_fork()
        try:
            yield fork
        except CheckpointNotFound:
            self.choose_fork(fork)
            raise

    def list_forks(self) -> list[ForkInfo]:
        """Describe all forks, sorted by name."""
        return forkinfo.list_forks(self._core)

    def has_fork(self, name: str) -> bool:
        """Whether there is a fork of that name."""
        return self._dispatch.has_fork(name)

    def fork_info(self, name: str) -> ForkInfo:
        """Describe a fork."""
        return forkinfo.fork_info(self._core, name)

    def delete_fork(self, name: str, *, by: str | None = None) -> ForkInfo:
        """Delete a fork. It can be undone: its commits are kept, and its files are moved to the trash.

        Args:
            name: The fork.
            by: The fork whose `undo` restores it, too; the default fork if not given.

        Raises:
            ForkNotFound: If there is no such fork.
            InvalidInput: If it is the default fork, unless `Home.fork_directory` made the vault: there, another one becomes it.
            WorkspaceMounted: If it is mounted.
            WorkspaceBusy: If another process holds it.
        """
        info = self._delete_fork(name, by=by if by != name else None)
        assert info is not None  # noqa: S101 - nothing was asked
        return info

    def _delete_fork(
        self, name: str, only_if: Callable[[LockedWorkspace], bool] | None = None, *, by: str | None = None
    ) -> ForkInfo | None:
        """Delete a fork if `only_if`, called with its workspace locked, says so; return None if it is not deleted."""
        self.check_unmounted(name)
        by = by or self._core.default_fork()
        self._dispatch.record_git_moves(name)
        if by != name and self._core.has_fork(name):  # a deletion that is refused records nothing
            self._dispatch.record_work(by)
        return forks.delete_fork(self._core, name, open_workspace=self._dispatch.open_workspace, by=by, only_if=only_if)

    def overlap(self, names: Sequence[str] = ()) -> Overlap:
        """Compare forks in pairs: which changed the same files, and which would conflict. Nothing is written.

        Args:
            names: Forks or other states; all forks if none is named. Committed states are compared.

        Raises:
            CheckpointNotFound: If no state has a name.
            UnrelatedHistories: If two named states have no commit in common; among all forks, such pairs are skipped.
        """
        heads = self._core.list_heads()
        default = self._core.default_fork()
        found = [(name, revisions.resolve_source(self._core, name, fork=default)) for name in names] or sorted(heads.items())
        return overlap.compare_forks(self._core, found, named=bool(names))

    # --- remotes ---------------------------------------------------------------------------------

    def list_remotes(self) -> list[RemoteInfo]:
        """Describe the remotes, sorted by name."""
        return remotes.list_remotes(self._core)

    def add_remote(self, name: str, url: str) -> RemoteInfo:
        """Add a remote: a name for another repository. Nothing is fetched.

        Raises:
            InvalidInput: If the name or the URL cannot be used.
            RemoteExists: If the name is taken.
        """
        return remotes.add_remote(self._core, name, url)

    def set_remote_url(self, name: str, url: str) -> RemoteInfo:
        """Change the URL of a remote.

        Raises:
            RemoteNotFound: If there is no such remote.
            InvalidInput: If the URL cannot be used.
        """
        return remotes.set_url(self._core, name, url)

    def remove_remote(self, name: str) -> RemoteInfo:
        """Remove a remote and its remote branches. Forks made from them stay.

        Raises:
            RemoteNotFound: If there is no such remote.
        """
        return remotes.remove_remote(self._core, name)

    def list_remote_branches(self, remote: str | None = None) -> list[RemoteBranch]:
        """Describe the remote branches, as of the last fetch."""
        return remotes.list_branches(self._core, remote)

    def fetch(
        self,
        remote: str | None = None,
        *,
        with_checkpoints: bool = False,
        with_sidecar: bool = False,
        with_git_dirs: bool = False,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> FetchResult:
        """Fetch the branches of a remote, as `REMOTE/BRANCH`. Forks do not change.

        Args:
            remote: The remote; the only one, or `origin`, if not given.
            with_checkpoints: Fetch pushed labels, too.
            with_sidecar: Fetch pushed ignored files, too; programs may run them, so trust the remote.
            with_git_dirs: Fetch ignored directories with a `.git`, too, whose hooks and settings run programs.
            progress: Called with the step, how much of it is done, and its total (0 if unknown).

        Raises:
            RemoteNotFound: If there is no such remote.
            RemoteError: If it cannot be reached or read, or its data is refused; nothing has changed in the vault then.
        """
        return remotes.fetch(
            self._core,
            remote,
            with_checkpoints=with_checkpoints,
            with_sidecar=with_sidecar,
            with_git_dirs=with_git_dirs,
            access=self._dispatch.access(),
            progress=progress,
        )

    def push(
        self,
        forks: Sequence[str] = (),
        remote: str | None = None,
        *,
        with_checkpoints: bool = False,
        with_sidecar: bool = False,
        force_with_lease: bool = False,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> PushResult:
        """Push forks to a remote, as branches: their checkpoints, without ignored files.

        Args:
            forks: The forks; the default fork if none is named.
            remote: The remote; the only one, or `origin`, if not given.
            with_checkpoints: Push their labels, too.
            with_sidecar: Push the ignored files of their newest checkpoints, too.
            force_with_lease: Allow a non-fast-forward push if the remote branch has not moved since the last fetch.
            progress: Called with the step, how much of it is done, and its total (0 if unknown).

        Raises:
            ForkNotFound: If there is no such fork, or it has no checkpoint yet.
            RemoteNotFound: If there is no such remote.
            PushRejected: If the remote rejected a ref, for example because it has commits that the vault lacks.
            RemoteError: If the remote cannot be reached.
        """
        names = self._or_default(forks)
        heard: tuple[Warning, ...] = ()
        for name in names:
            heard += self._dispatch.run_hook("pre-push", name, {"remote": remote})
        warnings = (*dict.fromkeys(heard), *self._dispatch.warn_uncommitted(names))
        result = remotes.push(
            self._core,
            names,
            remote,
            with_checkpoints=with_checkpoints,
            with_sidecar=with_sidecar,
            force_with_lease=force_with_lease,
            access=self._dispatch.access(),
            progress=progress,
        )
        return replace(result, warnings=(*warnings, *result.warnings)) if warnings else result

    def push_to_origin(self, forks: Sequence[str] = ()) -> PushResult:
        """Push forks, as branches, to the local repository that the vault was made from.

        Its index, working tree and checked-out branch do not change, and no hook runs.

        Args:
            forks: The forks; the default fork if none is named.

        Raises:
            RemoteNotFound: If the vault was made from no repository.
            PushRejected: If a branch is checked out there, or has commits that the vault lacks.
        """
        names = self._or_default(forks)
        warnings = self._dispatch.warn_uncommitted(names)
        result = remotes.push_to_origin(self._core, names)
        return replace(result, warnings=(*warnings, *result.warnings)) if warnings else result

    def apply(
        self,
        fork: str,
        directory: str | os.PathLike[str],
        *,
        since: str | None = None,
        paths: Sequence[PathLike] = (),
        dry_run: bool = False,
    ) -> ApplyResult:
        """Write the changes of a fork's checkpoints into a directory, such as a working tree, as unstaged changes.

        Args:
            fork: The fork.
            directory: The directory; its index, branches and hooks are not touched.
            since: Apply changes since this state; by default since the fork was made.
            paths: Apply only these paths and what is below them.
            dry_run: Only list what would be written.

        Raises:
            ApplyConflict: If the directory has other changes to the same paths; nothing was written.
            CheckpointNotFound: If the fork has no checkpoint, or no state has the name.
        """
        warnings = self._dispatch.warn_uncommitted([fork])
        result = apply.apply_fork(self._core, fork, Path(directory), since=since, paths=parse_tree_paths(paths), dry_run=dry_run)
        return replace(result, warnings=(*warnings, *result.warnings)) if warnings else result

    def pull(
        self,
        fork: str | None = None,
        remote: str | None = None,
        *,
        ff_only: bool = False,
        rebase: bool = False,
        on_conflict: str = "report",
        progress: Callable[[str, int, int], None] | None = None,
    ) -> PullResult:
        """Fetch, then merge the remote branch of a fork's name into the fork, or rebase the fork onto it. It can be undone.

        Args:
            fork: The fork; the default fork if not given.
            remote: The remote; the only one, or `origin`, if not given.
            ff_only: Allow only a fast-forward.
            rebase: Rebase instead of merging.
            on_conflict: As for `Workspace.merge` and `Workspace.rebase`.
            progress: Called with the step, how much of it is done, and its total (0 if unknown).

        Raises:
            NoUpstream: If the remote has no branch of the fork's name.
            NotFastForward: If `ff_only` is set and the fork has commits of its own.
            CommitConflicts: If a commit conflicts in the rebase; only the fetch is done then.
            RemoteError: If the remote cannot be reached or read.
        """
        if rebase and ff_only:
            raise InvalidInput("a pull either rebases or only moves on")
        workspace = self.workspace(fork)
        fetched = self.fetch(remote, progress=progress)
        upstream = remotes.find_upstream(self._core, workspace.fork, fetched.remote)
        if rebase:
            rebased = workspace.rebase(upstream, on_conflict=on_conflict)
            return PullResult(fetched, upstream, None, rebased, (*fetched.warnings, *rebased.warnings))
        mode = MergeMode.FF_ONLY if ff_only else MergeMode.NORMAL
        merged = workspace.merge(upstream, mode=mode, on_conflict=on_conflict)
        return PullResult(fetched, upstream, merged, None, (*fetched.warnings, *merged.warnings))

    def _find_upstreams(self, fork: str, progress: Callable[[str, int, int], None] | None) -> list[str]:
        """Name the upstreams of a fork: branches of the remote (`list_upstreams`), or the fork that it was made from."""
        if self.list_remotes():
            fetched = self.fetch(progress=progress)
            self._dispatch.tell(fetched.warnings)
            found = remotes.list_upstreams(self._core, fork, fetched.remote)
            if found:
                return found
        parent = self.fork_info(fork).parent
        return [parent] if parent is not None and self.has_fork(parent) else []

    def prefetch(self, paths: Sequence[PathLike] = (), *, fork: str | None = None, at: str | None = None) -> PrefetchResult:
        """Fetch the contents of files into a partial clone. Contents that are there cost nothing.

        Args:
            paths: The paths, with everything below them; all files if none is named.
            fork: The fork whose newest checkpoint is meant; the default fork if not given.
            at: Another state.

        Raises:
            PathNotFound: If a path does not exist.
            RemoteError: If the server cannot be reached.
        """
        with self._at_hand(fork) as of:
            commit = revisions.resolve_revision(self._core, at or "HEAD", fork=of)
        return remotes.prefetch(self._core, commit, parse_tree_paths(paths))

    def list_hooks(self) -> list[HookInfo]:
        """Describe the hooks of this vault, enabled or not."""
        return userhooks.list_hooks(self._core, self._dispatch.enabled_hooks)

    def enable_hook(self, name: str) -> list[HookInfo]:
        """Enable a hook with its present program; a change of the program disables it.

        Raises:
            InvalidInput: If there is no such hook.
        """
        return userhooks.enable_hook(self._core, self._dispatch.enabled_hooks, name)

    def disable_hook(self, name: str) -> list[HookInfo]:
        """Disable a hook; its program stays.

        Raises:
            InvalidInput: If there is no such hook.
        """
        return userhooks.disable_hook(self._core, self._dispatch.enabled_hooks, name)

    def install_hooks(self) -> list[HookInfo]:
        """Install the hook that protects avfs's refs from pushes into this vault, and make the directory for the owner's hooks.

        Raises:
            InvalidInput: If another hook for pushes is installed, which stays.
        """
        return userhooks.install_hooks(self._core, self._dispatch.enabled_hooks)

    def _or_default(self, names: Sequence[str]) -> list[str]:
        return list(names) or [self.choose_fork()]

    # --- settings, history ----------------------------------------------------------------------------

    def get_config(self) -> dict[str, str]:
        """Read the settings of the vault."""
        return self._core.config.read()

    def set_config(self, key: str, value: str) -> None:
        """Change a setting."""
        self._core.prepare()
        self._core.config.set(key, value)

    def unset_config(self, key: str) -> None:
        """Reset a setting to its default."""
        self._core.prepare()
        self._core.config.unset(key)

    def log(
        self,
        rev: str = "HEAD",
        *,
        fork: str | None = None,
        limit: int = 50,
        with_files: bool = False,
        with_bookkeeping: bool = True,
        session: str | None = None,
    ) -> list[LogEntry]:
        """List the commits that lead to a state, newest first; see `Workspace.log`."""
        with self._at_hand(fork) as of:
            return history.read_log(
                self._core,
                rev,
                fork=of,
                limit=limit,
                with_files=with_files,
                with_bookkeeping=with_bookkeeping,
                session=session,
            )

    def show(self, rev: str, *, fork: str | None = None) -> CheckpointDetails:
        """Describe a checkpoint and its changes, with the number and size of its files; reads its whole tree."""
        with self._at_hand(fork) as of:
            return history.describe_checkpoint(self._core, rev, fork=of)

    def grep(
        self, pattern: str | bytes, paths: Sequence[PathLike] = (), *, forks: Sequence[str] = (), **options: Unpack[GrepOptions]
    ) -> list[GrepResult]:
        """Search the workspaces of several forks, all of them if none is named: `Workspace.grep` of each.

        Raises:
            PathNotFound: If nothing is at one of the paths in any of the forks.
        """
        return self._each(forks, lambda workspace: workspace.grep(pattern, paths, **options))

    def find(
        self, *names: str, paths: Sequence[PathLike] = (), forks: Sequence[str] = (), **options: Unpack[FindOptions]
    ) -> list[FindResult]:
        """Look through the workspaces of several forks, all of them if none is named: `Workspace.find` of each.

        Raises:
            PathNotFound: If nothing is at one of the paths in any of the forks.
        """
        return self._each(forks, lambda workspace: workspace.find(*names, paths=paths, **options))

    def _each(self, forks: Sequence[str], look: Callable[[Workspace], _T]) -> list[_T]:
        """Look at each of some forks, or of all; one that lacks a path is passed over if another has it."""
        found: list[_T] = []
        missing: PathNotFound | None = None
        for fork in forks or [info.name for info in self.list_forks()]:
            try:
                found.append(look(self.workspace(fork)))
            except PathNotFound as error:
                missing = error
        if missing is not None and not found:
            raise missing
        return found

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
            old: A label, fork or commit; None for an empty tree.
            new: The state to compare with it.
            fork: The fork whose labels are meant.
            paths: Compare only these paths and what is below them.
            context: Unchanged lines around each hunk.
            patches: Compare contents, too, and not only paths.
        """
        with self._at_hand(fork) as of:
            left = revisions.resolve_revision(self._core, old, fork=of) if old is not None else None
            right = revisions.resolve_revision(self._core, new, fork=of)
        return compare.diff_commits(self._core, left, right, paths=parse_tree_paths(paths), context=context, patches=patches)

    def operations(self, *, fork: str | None = None, limit: int = 50) -> list[Operation]:
        """List operations, newest first, with what git did in live trees."""
        return undo.list_operations(self._core, fork, limit)

    def events(self, *, fork: str | None = None, since: str | None = None, follow: bool = False) -> events.Events:
        """Iterate over what happens in the vault, the oldest first: operations, commands, approvals.

        What git does in live trees comes when avfs records it, with the next operation.

        Args:
            fork: Only events of this fork.
            since: Begin behind the event with this `cursor`, or at the `end` of the logs; by default with the oldest entry kept.
            follow: Wait for new events, until the iterator is closed.

        Raises:
            InvalidInput: If `since` is no cursor.
        """
        return events.Events(self._core, self.policy.gate.audit, fork=fork, since=since, follow=follow)

    def undo(self, *, fork: str | None = None) -> UndoResult:
        """Undo the last operation on a fork, with its files. Can be repeated; `redo` does the operation again.

        File changes since the last operation are an operation of their own, which is undone first. So is deleting another
        fork with this one at hand, or making one in which nothing was done since and that is not mounted. The present state is
        saved first.

        Args:
            fork: The fork; the default fork if not given.

        Raises:
            NothingToUndo: If there is no operation.
            CannotUndo: If a ref has moved since.
        """
        return self._dispatch.turn(fork, back=True)

    def redo(self, *, fork: str | None = None) -> UndoResult:
        """Redo the operation that was undone last."""
        return self._dispatch.turn(fork, back=False)

    def doctor(self, *, repair: bool = False) -> DoctorReport:
        """Check the vault and its workspaces for damage; `repair` repairs what it can."""
        return doctor.examine_vault(self._core, self._dispatch.open_workspace, repair=repair)

    def gc(
        self,
        *,
        keep_days: int | None = None,
        keep_operations: int | None = None,
        grace_days: int | None = None,
        compact: bool = False,
        dry_run: bool = False,
    ) -> GarbageResult:
        """Free space used by old operations, states that only undo kept, and unreachable objects.

        Safe beside other processes and mounts. The vault's settings (`gc.keep_days` and so on) are the defaults. Promisor objects
        of a partial clone stay.

        Args:
            keep_days: Keep operations of so many days undoable.
            keep_operations: Keep so many of the last operations undoable, however old; at least one.
            grace_days: Keep unreachable objects for so many days.
            compact: Let git store objects as deltas: smaller, and slower to read.
            dry_run: Only report what would be removed.

        Raises:
            ObjectMissing, ObjectCorrupt: If the history is damaged; nothing is removed.
        """
        limits = garbage.read_limits(self._core, keep_days=keep_days, keep_operations=keep_operations, grace_days=grace_days)
        shown = background.list_shown(self._core)
        return garbage.collect_garbage(self._core, limits, in_use=shown, dry_run=dry_run, deltas=compact)

    def maintain(self, *, dry_run: bool = False, every_step: bool = False) -> MaintenanceResult:
        """Do the maintenance that is due: the vault stays small and fast as it grows.

        avfs starts it by itself, in a process in the background, unless the setting `maintenance.auto` is `0`. Safe beside other
        processes, mounts and git. Steps that fail change nothing, and are named by warnings.

        Args:
            dry_run: Only tell what is due, and what the last run did.
            every_step: Do all steps but `gc`, however little is due.
        """
        return maintenance.maintain(
            self._core, in_use=lambda: background.list_shown(self._core), dry_run=dry_run, every_step=every_step
        )

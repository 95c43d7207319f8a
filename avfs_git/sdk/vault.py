"""An open vault, the workspaces of its forks and its mounts: the objects callers hold, and how one leads to another.

Decided here: names and arguments of the public API for them. What a vault and a workspace do beside that is in
`sdk.repository` and `sdk.workspace`; `sdk.dispatch` decides where each operation runs. Callers may use several threads
and processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self, Unpack

from avfs_git.errors import InvalidInput, NoForkChosen, NoForks, OperationNotFound
from avfs_git.host.files.closing import Closing
from avfs_git.host.files.usage import disk_usage
from avfs_git.lazy import LazyModule
from avfs_git.model import (
    BASES,
    ForkInfo,
    ForkStanding,
    Identity,
    MergeMode,
    Overlap,
    PullResult,
    RestoreResult,
    SessionInfo,
    UndoResult,
    VaultInfo,
    Warning,
)
from avfs_git.paths import WHOLE_VAULT, check_fork_name, list_given
from avfs_git.sdk.dispatch import Dispatch
from avfs_git.sdk.given import checked
from avfs_git.sdk.handle import ForkHandle
from avfs_git.sdk.parts import (
    clones,
    compare,
    forkinfo,
    forkrename,
    identity,
    nursery_client,
    opdetails,
    operations,
    opundo,
    overlap,
    policy,
    record,
    revisions,
    stats,
    stop,
    upstreams,
    workspaces,
)
from avfs_git.sdk.refusals import noted
from avfs_git.sdk.repository.history import VaultHistory
from avfs_git.sdk.repository.remotes import VaultRemotes
from avfs_git.sdk.repository.searching import VaultSearch
from avfs_git.sdk.repository.upkeep import VaultUpkeep
from avfs_git.sdk.workspace.files import WorkspaceFiles
from avfs_git.sdk.workspace.merging import WorkspaceMerging
from avfs_git.sdk.workspace.metadata import WorkspaceMetadata
from avfs_git.sdk.workspace.mount import Mount
from avfs_git.sdk.workspace.searching import WorkspaceSearch
from avfs_git.sdk.workspace.states import WorkspaceStates
from avfs_git.values import replace

if TYPE_CHECKING:
    from avfs_git.proxy.exec.envelope import ExecPlan, ExecResult
    from avfs_git.sdk.options import ExecOptions
    from avfs_git.sdk.workspace import commands, fileevents
    from avfs_git.sdk.workspace.fileevents import FileEvents
else:
    commands = LazyModule("avfs_git.sdk.workspace.commands")  # most programs run none
    fileevents = LazyModule("avfs_git.sdk.workspace.fileevents")  # and listen to nothing


@checked
class Vault(VaultHistory, VaultRemotes, VaultSearch, VaultUpkeep, Closing):
    """A vault that is open: a bare git repository, its forks and their workspaces.

    Attributes:
        warnings: What `Home.create_vault` left out of the vault.
    """

    def __init__(self, dispatch: Dispatch, *, is_current: Callable[[], bool]) -> None:
        self._core = dispatch.core
        self._dispatch = dispatch
        self._is_current = is_current
        self.warnings: tuple[Warning, ...] = ()

    def __repr__(self) -> str:
        return f"<Vault {self.name!r}>"

    def _check_there(self) -> None:
        self._core.check_there()

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
        return policy.VaultPolicy(self._core, self._dispatch.gate, self._find_root)

    def _find_root(self, fork: str) -> Path | None:
        with suppress(NoForkChosen, NoForks):
            return commands.find_root(self._dispatch, fork or self.choose_fork())
        return None

    def info(self, *, sizes: bool = False, usage: bool = False) -> VaultInfo:
        """Describe the vault.

        `sizes` adds its size on disk, which reads all its directories, `usage` what its quota counts.
        """
        path = self.path
        forks_now, first = set(self._core.list_heads()), self._core.head_fork()
        max_bytes, held_bytes = stats.measure_room(self._core) if usage else (None, None)
        return VaultInfo(
            name=self.name,
            path=path,
            current=self._is_current(),
            default_fork=self._core.default_fork(),
            forks=len(forks_now if first is None or not self._core.has_fork(first) else forks_now | {first}),
            created_at_ns=self._core.created_at_ns(),
            size_bytes=disk_usage(path) if sizes else None,
            max_bytes=max_bytes,
            held_bytes=held_bytes,
        )

    def choose_fork(self, fork: str | None = None) -> str:
        """Choose a fork: the one given, else that of the repository's HEAD, else the only one.

        In a vault that `Home.fork_directory` made, HEAD is only the first fork, and no default.

        Raises:
            NoForkChosen: If no fork is given, and the vault has several and no default.
            NoForks: If no fork is given, and the vault has none.
        """
        return self._core.choose_fork(fork)

    def sessions(self, *, bases: bool = False) -> list[SessionInfo]:
        """List the mounts of this vault, oldest first; clean up those whose process died.

        Args:
            bases: Also list the commits that avfs mounts for overlayfs to stand on. They end after their last user.
        """
        found = record.list_sessions(self._core.layout.sessions)
        return [each.info(self.name) for each in found if bases or not each.is_base]

    def check_unmounted(self, fork: str | None = None) -> None:
        """Check that no fork of this vault is mounted; or, with `fork`, that its workspace is not.

        Raises:
            WorkspaceMounted: If one is mounted.
        """
        self._dispatch.check_unmounted(fork)

    def mount(
        self, directory: str | os.PathLike[str] | None = None, *, allow_other: bool = False, leash_fd: int | None = None
    ) -> Session:
        """Mount all states of the vault: `forks/NAME`, and read-only `checkpoints/FORK/LABEL` and `commits/ID`.

        New, moved and deleted states appear within a second. A fork is a symbolic link to its mount; a program that
        follows the link of another fork mounts that one, at its place in the home, until this mount ends.

        Args:
            directory: As for `Workspace.mount`; by default `mounts/VAULT@all` in the home.
            allow_other: Give other users access, as far as permissions allow.
            leash_fd: The reading end of a pipe: the mount is removed when the other end is closed.

        Raises:
            MountPointUnusable: If the directory cannot be mounted on.
            FuseUnavailable: If this machine, or its administrator, does not allow mounts.
        """
        mounts, name = self._dispatch.mounts, self._dispatch.home_name
        if directory is None:
            directory = mounts / f"{name}@all"
        found = self._dispatch.mount(
            WHOLE_VAULT, directory, at=None, allow_other=allow_other, leash_fd=leash_fd, mounts=mounts / name
        )
        return Session(self, found)

    def find_session(self, fork: str, *, session_id: str | None = None) -> Session | None:
        """Find a mount of a fork, preferably that of its workspace, or the mount with an id, or None."""
        found = stop.find_sessions(self._core.layout.sessions, fork=fork, session_id=session_id)
        return Session(self, found[0]) if found else None

    @noted("fork_create")
    def fork(
        self,
        name: str,
        *,
        source: str | None = None,
        at: str | None = None,
        ephemeral: bool = False,
        with_changes: bool = True,
        author: Identity | None = None,
        config: Mapping[str, str] | None = None,
    ) -> Workspace:
        """Make a fork: a branch with a workspace of its own. Its cost does not depend on the size of the tree.

        Args:
            name: The fork's name: any name that git allows for a branch.
            source: The fork to start from; the default fork if not given.
            at: A checkpoint, commit or fork to start from, instead of the present state of the source.
            ephemeral: Delete the fork at the end of a `with` block of its `Workspace`.
            with_changes: Include uncommitted changes of the source, which are checkpointed there first.
            author: Author of the fork's commits; the vault's author if not given.
            config: Settings of its own, as `set_config` takes them for a fork.

        Raises:
            ForkExists: If the name is taken.
            InvalidInput: If a fork cannot have a setting or its value; no fork is made.
            ForkNotFound: If there is no such source.
            CheckpointNotFound: If no state has the name in `at`.
            WorkspaceMounted: If git deleted the branch of a fork of that name, which is still mounted.
        """
        self._dispatch.make_fork(
            name, source=source, at=at, ephemeral=ephemeral, with_changes=with_changes, author=author, config=config
        )
        return Workspace(self, name, ephemeral=ephemeral)

    @noted("restore")
    def restore_operation(self, number: int, *, fork: str | None = None, dry_run: bool = False) -> RestoreResult:
        """Restore the files of a fork to their state after an operation.

        Uncommitted changes are saved first; it can be undone.

        Args:
            number: The operation's number in the log.
            fork: Refuse an operation on another fork than this one.
            dry_run: Only list what would change.

        Raises:
            OperationNotFound: If the log has none of that number, or it is one on another fork than `fork`.
            InvalidInput: If it led to no state of a fork.
        """
        of, state, beside = opdetails.find_state_after(self._core, number)
        if fork not in (None, of):
            raise OperationNotFound(number, fork=fork, of=of)
        if beside is not None and not dry_run:
            state, beside = opdetails.keep_whole(self._core, number, state, beside), None
        work = ForkHandle(self._dispatch, self.choose_fork(of))
        return work.run(operations.restore_state, state, (), dry_run, state.hex(), "restore", beside)

    @noted("op_undo")
    def undo_operation(self, number: int, *, fork: str | None = None, dry_run: bool = False) -> UndoResult:
        """Undo one operation on any fork, or on `fork` only, as `Workspace.undo_operation` does."""
        of = self._core.oplog.find_name_today(opundo.find_undone(self._core, number))
        if fork not in (None, of):
            raise OperationNotFound(number, fork=fork, of=of)
        return self.workspace(of).undo_operation(number, dry_run=dry_run)

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

    def list_forks(self) -> list[ForkInfo]:
        """Describe all forks, sorted by name."""
        return forkinfo.list_forks(self._core)

    def compare_forks(self, *, stat: bool = False) -> list[ForkStanding]:
        """Describe each fork, sorted by name: its distance from its upstream, as of the last fetch, and its mount.

        Args:
            stat: Also count the files and lines that each fork's own commits changed. The cost follows what they
                changed. Contents of a partial clone that cannot be fetched are a warning to the home's `on_warnings`.
        """
        mounts = {session.fork: session.directory for session in self.sessions() if session.at is None}
        standings, warnings = forkinfo.compare_forks(self._core, measure=compare.count_since_parting if stat else None)
        self._dispatch.tell(warnings)
        return [replace(standing, mounted_at=mounts.get(standing.fork)) for standing in standings]

    def has_fork(self, name: str) -> bool:
        """Whether there is a fork of that name."""
        return self._dispatch.has_fork(name)

    def fork_info(self, name: str, *, usage: bool = False) -> ForkInfo:
        """Describe a fork.

        `usage` counts what it holds beyond its base, which takes as long as it has changed files.
        """
        found = forkinfo.fork_info(self._core, name)
        return replace(found, usage=stats.measure_fork(self._core, name)) if usage else found

    @noted("fork_delete")
    def delete_fork(self, name: str, *, by: str | None = None) -> ForkInfo:
        """Delete a fork. It can be undone: its commits are kept, and its files are moved to the trash.

        Args:
            name: The fork.
            by: The fork whose `undo` restores it, too; the default fork if not given.

        Raises:
            ForkNotFound: If there is no such fork.
            InvalidInput: If it is the default fork, unless `Home.fork_directory` made the vault: there, another one
                becomes it.
            WorkspaceMounted: If it is mounted.
            WorkspaceBusy: If another process holds it.
        """
        info = self._dispatch.delete_fork(name, by=by if by != name else None)
        assert info is not None  # noqa: S101 - nothing was asked
        return info

    @noted("fork_rename")
    def rename_fork(self, name: str, new_name: str, *, by: str | None = None) -> ForkInfo:
        """Rename a fork, with its branch, labels and files. It can be undone.

        A `Workspace` that was opened under the old name finds its fork gone: open the new one.

        Args:
            name: The fork.
            new_name: Its new name: any name that git allows for a branch.
            by: The fork whose `undo` takes it back, too; the default fork if not given.

        Raises:
            ForkNotFound: If there is no such fork.
            ForkExists: If the new name is taken.
            InvalidName: If no fork can have the new name, as beside a fork above or below it.
            InvalidInput: If the fork has no checkpoint yet, or git is in the middle of a command in its live tree.
            WorkspaceMounted: If it is mounted.
            WorkspaceBusy: If another process holds it.
            MergeInProgress: If it is in the middle of a merge.
            BranchCheckedOut: If another working tree has its branch checked out.
        """
        at = self._dispatch
        at.check_unmounted(name)
        at.check_new(new_name)
        by = self._core.default_fork() if by is None else check_fork_name(by)
        if self._core.has_fork(name):  # a rename that is refused records nothing
            at.record_work(name)  # under the name that it has; undo reaches it after the rename
            if by != name:
                at.record_work(by)
        return forkrename.rename_fork(self._core, name, new_name, open_workspace=at.open_workspace, by=by)

    def overlap(self, names: Sequence[str] = ()) -> Overlap:
        """Compare forks in pairs: which changed the same files, and which would conflict. Nothing is written.

        Args:
            names: Forks or other states; all forks if none is named. Committed states are compared.

        Raises:
            CheckpointNotFound: If no state has a name.
            UnrelatedHistories: If two named states have no commit in common; among all forks, such pairs are skipped.
        """
        names, heads = list_given(names), self._core.list_heads()
        default = self._core.default_fork()
        found = [(name, revisions.resolve_source(self._core, name, fork=default)) for name in names] or sorted(
            heads.items()
        )
        return overlap.compare_forks(self._core, found, named=bool(names))

    @noted("pull")
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
        """Fetch, then merge the remote branch of a fork's name into the fork, or rebase the fork onto it.

        It can be undone.

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
        upstream = upstreams.find_upstream(self._core, workspace.fork, fetched.remote)
        if rebase:
            # What the remote took back, as by a forced push, is not the fork's own, as with `git pull --rebase`.
            was = upstreams.find_fork_point(self._core, workspace.fork, upstream)
            rebased = workspace.rebase(upstream, on_conflict=on_conflict, was=was.hex() if was is not None else None)
            return PullResult(fetched, upstream, None, rebased, (*fetched.warnings, *rebased.warnings))
        mode = MergeMode.FF_ONLY if ff_only else MergeMode.NORMAL
        merged = workspace.merge(upstream, mode=mode, on_conflict=on_conflict)
        return PullResult(fetched, upstream, merged, None, (*fetched.warnings, *merged.warnings))


@checked
class Workspace(WorkspaceFiles, WorkspaceSearch, WorkspaceMetadata, WorkspaceStates, WorkspaceMerging):
    """The workspace of a fork: its files and its checkpoints.

    Attributes:
        vault: The vault.
        fork: The fork.
        ephemeral: Whether the end of a `with` block deletes the fork.
    """

    def __init__(self, vault: Vault, fork: str, *, ephemeral: bool = False) -> None:
        self._at = ForkHandle(vault._dispatch, fork)  # noqa: SLF001 - the classes of this package are one interface
        self.vault = vault
        self.fork = fork
        self.ephemeral = ephemeral
        self._entered = identity.identify(vault._core, fork) if ephemeral else None  # noqa: SLF001 - as above

    def __repr__(self) -> str:
        return f"<Workspace {f'{self.vault.name}@{self.fork}'!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.ephemeral:  # and no fork that another process has made anew under its name
            dispatch, core = self.vault._dispatch, self.vault._core  # noqa: SLF001 - the classes of this package are one interface
            dispatch.delete_fork(self.fork, lambda _: identity.identify(core, self.fork) == self._entered)
        self.close()

    def _check_there(self) -> None:
        self._at.core.check_there()

    def close(self) -> None:
        """Release the workspace; its vault closes it. Only the end of a `with` block deletes an ephemeral fork."""
        self._at.release()

    @property
    def _opened(self) -> workspaces.OpenWorkspace:
        return self._at.opened

    def mount(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        readonly: bool = False,
        at: str | None = None,
        allow_other: bool = False,
        leash_fd: int | None = None,
        backend: str = "auto",
    ) -> Session:
        """Mount the workspace on a directory; return when programs can use it.

        A process of its own serves the mount, and survives this one: until `Session.unmount` or `Session.stop`.

        Args:
            directory: An empty directory, or a missing one, which is removed with the mount. By default
                `mounts/VAULT/FORK` in the home.
            readonly: Mount the head instead of the workspace, read-only. Many such mounts may exist beside one of the
                workspace.
            at: Mount this checkpoint, commit or fork instead of the head, read-only.
            allow_other: Give other users access, as far as permissions allow.
            leash_fd: The reading end of a pipe: the mount is removed when the other end is closed.
            backend: `overlay` (on the kernel's overlayfs: root, workspaces only), `fuse`, `portable` (through libfuse),
                or `auto` for the first of them that works here; docs/guides/live-tree.md lists differences.

        Raises:
            WorkspaceMounted: If the workspace is mounted already.
            WorkspaceBusy: If another process holds the workspace for too long.
            MountPointUnusable: If the directory cannot be mounted on.
            FuseUnavailable: If this machine, or its administrator, does not allow mounts.
            CheckpointNotFound: If no state has the name in `at`.
        """
        found = self._at.mount(
            directory, readonly=readonly, at=at, allow_other=allow_other, leash_fd=leash_fd, backend=backend
        )
        return Session(self.vault, found)

    def file_events(self) -> FileEvents:
        """Iterate over what programs do to the files of the live tree, from now on until it is unmounted.

        Reads that the kernel answers from its page cache are no events, and neither is what avfs itself changes. A
        program waits for no listener: what is too much for one is left out, and an event `dropped` says how much. While
        nothing listens, events cost nothing; else each listener takes the session some 15 µs of processor time an
        event.

        Raises:
            NoFileEvents: If the workspace is not mounted, or its live tree tells none.
            WorkspaceBusy: If its session does not answer.
        """
        return fileevents.FileEvents(self._at.dispatch, self._opened)

    def exec(self, *argv: str | bytes, **options: Unpack[ExecOptions]) -> ExecResult:
        """Run a command in the workspace under the vault's policy, and commit its changes.

        A command that fails, or that cannot be executed, is a result and not an error.

        Args:
            argv: The program and its arguments; none with `shell`.
            options: See `avfs_git.sdk.ExecOptions`.

        Raises:
            IsolationUnavailable: If the command cannot be isolated here.
            CommandDenied: If the policy forbids it.
            ApprovalNeeded: If a person must approve it first.
            BackendUnavailable: If the workspace cannot be shown here.
            WorkspaceBusy: If another process holds the workspace for too long.
        """
        # The process that mounts a base loads while this process loads its own modules.
        with nursery_client.starting_early(unless_mounted=(self._at.dispatch.mounts, BASES)):
            return commands.finish(commands.run_command(self._at, commands.make_command(argv, options)))

    async def exec_async(self, *argv: str | bytes, **options: Unpack[ExecOptions]) -> ExecResult:
        """Run a command as `exec` does, in a thread.

        Cancelling ends the command; its changes are committed then, too.
        """
        return await commands.run_in_thread(self._at, commands.make_command(argv, options))

    def exec_stream(self, *argv: str | bytes, **options: Unpack[ExecOptions]) -> commands.Running:
        """Begin to run a command as `exec` does; iterate over the answer for the command's output as it comes."""
        return commands.begin(self._at, commands.make_command(argv, options))

    def exec_plan(self, *argv: str | bytes, **options: Unpack[ExecOptions]) -> ExecPlan:
        """Tell what `exec` would do with a command; nothing is done."""
        return commands.make_executor(self._at).plan(commands.make_command(argv, options))

    def prepare(self, *, idle_s: float | None = None) -> commands.Prepared:
        """Keep the workspace ready for many commands, which can be rolled back one by one; or continue such a session.

        Uncommitted changes are saved first.

        Args:
            idle_s: Keep the base mounted for other processes, too, until no command ran for so many seconds.
        """
        return commands.Prepared(self._at, self).begin(idle_s)

    def prepared(self) -> commands.Prepared:
        """Get the session that `prepare` began, here or in another process.

        Raises:
            NotPrepared: If there is no such session.
        """
        found = commands.Prepared(self._at, self)
        found.steps()
        return found


@checked
class Session(Mount):
    """A mount, from its start to its end. The end of a `with` block unmounts it.

    Attributes:
        vault: The vault of the fork, which must be open for `stop`.
        id: The session's name in the vault.
        fork: The mounted fork.
        path: The directory that it is mounted on.
    """

    def __init__(self, vault: Vault, found: record.FoundSession) -> None:
        super().__init__(vault._dispatch, found)  # noqa: SLF001 - the classes of this package are one interface
        self.vault = vault

"""A vault and other repositories: its remotes, and directories that its changes are written into.

Decided here: names and arguments of the public API for them. Safe from several threads and processes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Unpack

from avfs_git.errors import HostError, WorkspaceBusy
from avfs_git.model import ApplyResult, FetchResult, PrefetchResult, PushResult, RemoteBranch, RemoteInfo, Warning
from avfs_git.paths import PathLike, TreePath, host_path, list_given, parse_tree_paths
from avfs_git.sdk.parts import apply, asked, lent, operations, pushing, remotes, revisions
from avfs_git.sdk.refusals import noted
from avfs_git.values import replace

if TYPE_CHECKING:
    from avfs_git.sdk.dispatch import Dispatch
    from avfs_git.sdk.options import FetchOptions
    from avfs_git.vfs.layer.lower import LowerTree
    from avfs_git.workspace.vault.vault import OpenVault


class VaultRemotes:
    """What a vault exchanges with other repositories."""

    _core: OpenVault
    _dispatch: Dispatch

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

    @noted("fetch")
    def fetch(self, remote: str | None = None, **options: Unpack[FetchOptions]) -> FetchResult:
        """Fetch the branches of a remote, as `REMOTE/BRANCH`. Forks do not change.

        Args:
            remote: The remote; the only one, or `origin`, if not given.
            options: What to fetch beside branches; see `FetchOptions`.

        Raises:
            RemoteNotFound: If there is no such remote.
            RemoteError: If it cannot be reached or read, or its data is refused; nothing has changed in the vault then.
        """
        return remotes.fetch(self._core, remote, access=self._dispatch.access(), **options)

    @noted("push")
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
            ForkNotFound: If there is no such fork.
            InvalidInput: If it has no checkpoint yet.
            RemoteNotFound: If there is no such remote.
            PushRejected: If the remote rejected a ref, for example because it has commits that the vault lacks.
            RemoteError: If the remote cannot be reached.
        """
        names = self._or_default(forks)
        heard: tuple[Warning, ...] = ()
        for name in names:
            heard += self._dispatch.programs.run_hook("pre-push", name, {"remote": remote})
        warnings = (*dict.fromkeys(heard), *self._warn_uncommitted(names, with_beside=with_sidecar))
        result = pushing.push(
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

    @noted("push")
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
        warnings = self._warn_uncommitted(names)
        result = pushing.push_to_origin(self._core, names)
        return replace(result, warnings=(*warnings, *result.warnings)) if warnings else result

    @noted("apply")
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
            ForkNotFound: If there is no such fork.
            CheckpointNotFound: If the fork has no checkpoint, or no state has the name.
            PluginRefused, PluginFailed: If a plug-in does not want a change; nothing was written.
        """
        place, check = host_path(directory), self._dispatch.programs.find_check(fork)
        uncommitted = self._list_uncommitted(fork)
        warnings = (_uncommitted_in(fork),) if uncommitted else ()
        result = apply.apply_fork(
            self._core,
            fork,
            place,
            since=since,
            uncommitted=uncommitted,
            paths=parse_tree_paths(paths),
            dry_run=dry_run,
            ask=partial(asked.ask_to_apply, check, self._core.store, place) if check is not None else None,
            show=partial(self._show, fork),
        )
        return replace(result, warnings=(*warnings, *result.warnings)) if warnings else result

    def prefetch(
        self, paths: Sequence[PathLike] = (), *, fork: str | None = None, at: str | None = None
    ) -> PrefetchResult:
        """Fetch the contents of files into a partial clone. Contents that are there cost nothing.

        Args:
            paths: The paths, with everything below them; all files if none is named.
            fork: The fork whose newest checkpoint is meant; the default fork if not given.
            at: Another state.

        Raises:
            PathNotFound: If a path does not exist.
            RemoteError: If the server cannot be reached.
        """
        with self._dispatch.at_hand(fork) as of:
            commit = revisions.resolve_revision(self._core, "HEAD" if at is None else at, fork=of)
        return remotes.prefetch(self._core, commit, parse_tree_paths(paths))

    def _warn_uncommitted(self, names: Sequence[str], *, with_beside: bool = False) -> tuple[Warning, ...]:
        return tuple(_uncommitted_in(name) for name in names if self._list_uncommitted(name, with_beside=with_beside))

    def _list_uncommitted(self, fork: str, *, with_beside: bool = False) -> frozenset[TreePath] | None:
        """List the paths of a fork with uncommitted changes; None if another process or user keeps its workspace.

        `with_beside` lists ignored files, too.
        """
        if not self._has_workspace(fork):
            return frozenset()
        try:
            status = self._dispatch.run(self._dispatch.open_workspace(fork), operations.read_status)
        except (WorkspaceBusy, HostError):  # its commits can be handed over all the same
            return None
        changes = (*status.changed_files, *(status.sidecar_changed if with_beside else ()))
        return frozenset(TreePath(path) for one in changes for path in (one.path, one.old_path) if path is not None)

    def _show(self, fork: str) -> LowerTree | None:
        """Show a fork with its uncommitted changes, without their contents; None as for `_list_uncommitted`."""
        if not self._has_workspace(fork):
            return None
        try:
            found, content = self._dispatch.run(
                self._dispatch.open_workspace(fork), operations.lend_workspace, False, False
            )
        except (WorkspaceBusy, HostError):
            return None
        objects = lent.LentObjects(self._core)
        return objects.show(objects.take(fork, found, content.whole()))

    def _has_workspace(self, fork: str) -> bool:
        return self._core.layout.workspace(fork).state.exists() and self._dispatch.has_fork(fork)

    def _or_default(self, names: Sequence[str]) -> list[str]:
        return list_given(names) or [self._core.choose_fork(None)]


def _uncommitted_in(fork: str) -> Warning:
    return Warning("push.uncommitted", f"'{fork}' has changes that are in no checkpoint; they stay here")

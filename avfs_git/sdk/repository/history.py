"""The states of all forks of a vault: their history, what differs, what happened, undo.

Decided here: names and arguments of the public API for them. Callers may use several threads and processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from avfs_git.model import CheckpointDetails, Diff, LogEntry, Operation, OperationDetails, UndoResult
from avfs_git.paths import PathLike, parse_tree_paths
from avfs_git.sdk.parts import compare, events, forkinfo, history, opdetails, revisions, turning
from avfs_git.sdk.refusals import noted

if TYPE_CHECKING:
    from avfs_git.sdk.dispatch import Dispatch
    from avfs_git.sdk.options import LogOptions
    from avfs_git.workspace.vault.vault import OpenVault


class VaultHistory:
    """The states of all forks of a vault."""

    _core: OpenVault
    _dispatch: Dispatch

    def log(self, rev: str = "HEAD", *, fork: str | None = None, **options: Unpack[LogOptions]) -> list[LogEntry]:
        """List the commits that lead to a state, newest first; `LogOptions` says which."""
        with self._dispatch.at_hand(fork) as of:
            return history.read_log(self._core, rev, fork=of, **options)

    def show(self, rev: str, *, fork: str | None = None) -> CheckpointDetails:
        """Describe a checkpoint and its changes, with the number and size of its files; reads its whole tree."""
        with self._dispatch.at_hand(fork) as of:
            return history.describe_checkpoint(self._core, rev, fork=of)

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
        with self._dispatch.at_hand(fork) as of:
            left = revisions.resolve_revision(self._core, old, fork=of) if old is not None else None
            right = revisions.resolve_revision(self._core, new, fork=of)
        chosen = parse_tree_paths(paths)
        return compare.diff_commits(self._core, left, right, fork=of, paths=chosen, context=context, patches=patches)

    def operations(self, *, fork: str | None = None, limit: int = 50) -> list[Operation]:
        """List operations, newest first.

        What git did in live trees is recorded first, with the file changes before it.

        Raises:
            ForkNotFound: If the fork is not there, and never was as far as the log goes back.
        """
        forkinfo.check_was_there(self._core, fork)
        self._dispatch.record_unrecorded(fork)
        return self._core.oplog.list_operations(fork, limit)

    def operation(self, number: int, *, context: int = 3) -> OperationDetails:
        """Describe an operation with the changes that it made.

        Args:
            number: Its number in the log.
            context: Unchanged lines around each hunk.

        Raises:
            OperationNotFound: If the log has none of that number.
        """
        return opdetails.describe_operation(self._core, number, context=context)

    def describe_operations(self, *, fork: str | None = None, limit: int = 50) -> list[OperationDetails]:
        """List operations as `operations` does, each with the changes that it made."""
        forkinfo.check_was_there(self._core, fork)
        self._dispatch.record_unrecorded(fork)
        return opdetails.describe_operations(self._core, fork, limit)

    def events(self, *, fork: str | None = None, since: str | None = None, follow: bool = False) -> events.Events:
        """Iterate over what happens in the vault, the oldest first: operations, commands, approvals.

        What git does in live trees comes when avfs records it, with the next operation.

        Args:
            fork: Only events of this fork.
            since: Begin behind the event with this `cursor`, or at the `end` of the logs; by default with the oldest
                entry kept.
            follow: Wait for new events, until the iterator is closed.

        Raises:
            InvalidInput: If `since` is no cursor.
            ForkNotFound: As `operations`; a fork that is yet to be made can be followed.
        """
        if not follow:
            forkinfo.check_was_there(self._core, fork)
        return events.Events(self._core, self._dispatch.gate.audit, fork=fork, since=since, follow=follow)

    @noted("undo")
    def undo(self, *, fork: str | None = None, dry_run: bool = False) -> UndoResult:
        """Undo the last operation on a fork, with its files. Can be repeated; `redo` does the operation again.

        File changes since the last operation are an operation of their own, which is undone first. So is deleting
        another fork with this one at hand, or making one in which nothing was done since and that is not mounted. The
        present state is saved first.

        Args:
            fork: The fork. If not given: the default fork, or, in a vault whose HEAD names no default fork, such as
                that of a clone, the fork whose deletion with no fork at hand is the newest operation of the vault.
            dry_run: Only tell which operation comes next, and which files would change. Changes that are not in the log
                yet are recorded there.

        Raises:
            NothingToUndo: If there is no operation.
            ForkNotFound: If the fork is not there, and never was as far as the log goes back.
            CannotUndo: If a ref has moved since.
            WorkspaceBusy: If a command runs in the fork and has changed it: its end records that.
        """
        return turning.turn(self._dispatch, fork, back=True) if not dry_run else turning.plan_undo(self._dispatch, fork)

    def next_undo(self, *, fork: str | None = None) -> Operation | None:
        """Tell which operation `undo` takes back next, as far as the log has it; None where undo would be refused.

        Writes nothing: changes of files that are not in the log yet would be undone first.
        """
        return turning.find_undo(self._dispatch, self._core.choose_fork(fork))

    @noted("redo")
    def redo(self, *, fork: str | None = None) -> UndoResult:
        """Redo the operation that was undone last."""
        return turning.turn(self._dispatch, fork, back=False)

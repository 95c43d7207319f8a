"""The states of a fork: checkpoints, history, undo.

Decided here: names and arguments of the public API for them. Each method is one operation; `sdk.dispatch` runs it in
this process, or in the session that mounts the workspace. Callers may use several threads and processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal, Unpack

from avfs_git.errors import InvalidInput
from avfs_git.model import (
    Blame,
    Checkpoint,
    CheckpointDetails,
    CheckpointResult,
    Diff,
    LogEntry,
    Operation,
    PathVersion,
    RestoreResult,
    Status,
    UndoResult,
)
from avfs_git.paths import PathLike, check_label, check_named, list_given, parse_tree_path, parse_tree_paths, text_given
from avfs_git.sdk.handle import holding_objects
from avfs_git.sdk.parts import (
    blame,
    compare,
    events,
    fold,
    forkinfo,
    history,
    operations,
    revisions,
    turning,
    vaultroom,
)
from avfs_git.sdk.refusals import noted
from avfs_git.sdk.spans import traced
from avfs_git.values import replace

if TYPE_CHECKING:
    from avfs_git.sdk.handle import ForkHandle
    from avfs_git.sdk.options import LogOptions


class WorkspaceStates:
    """The states of a fork.

    Attributes:
        fork: The fork.
    """

    def __init__(self, at: ForkHandle) -> None:
        self._at = at
        self.fork: str = at.fork

    def status(self) -> Status:
        """List uncommitted changes. Writes nothing; costs what changed."""
        return self._at.run(operations.read_status)

    @noted("checkpoint")
    @traced
    def checkpoint(
        self, label: str | None = None, *, description: str | None = None, step: bool = False
    ) -> CheckpointResult:
        """Commit all changes. Durable when it returns; costs what changed.

        Args:
            label: A name for the checkpoint.
            description: The commit's message. If nothing changed, an empty commit records it, unless the last commit
                has the same message.
            step: Save one step of a program, such as a tool call: make no commit if nothing changed, and let one `undo`
                take back the commit and the files.

        Raises:
            CheckpointExists: If the label is taken.
            FileChanging: If a file keeps changing while it is read.
        """
        return self._save(label, description, keeps_message=not step, with_files=step)

    def _save(
        self, label: str | None, description: str | None, *, keeps_message: bool, with_files: bool
    ) -> CheckpointResult:
        if label is not None:
            check_label(label)  # before anything looks for its ref
        if description is not None:
            text_given(description)
        vaultroom.check_not_full(self._at.dispatch.core)
        save = partial(
            self._at.run,
            operations.save_checkpoint,
            label,
            description,
            keeps_message=keeps_message,
            with_files=with_files,
            skips_unreadable=True,
        )
        return self._between_hooks({"label": label, "message": description}, save)

    def _between_hooks(self, facts: Mapping[str, object], save: Callable[[], CheckpointResult]) -> CheckpointResult:
        programs = self._at.dispatch.programs
        heard = programs.run_hook("pre-checkpoint", self.fork, facts)
        result = save()
        if result.outcome == "created":
            made = result.checkpoint.id if result.checkpoint is not None else None
            heard += programs.run_hook("post-checkpoint", self.fork, {**facts, "checkpoint": made})
        return replace(result, warnings=(*result.warnings, *heard)) if heard else result

    @noted("add")
    def add(self, *paths: PathLike, force: bool = False) -> CheckpointResult:
        """Add files of the sidecar to history, by a checkpoint. Other uncommitted changes are saved before it.

        A file that was ignored at a checkpoint stays in the sidecar until it is added, even if no rule ignores it any
        longer.

        Args:
            paths: Files, or directories for all files below them.
            force: Add ignored files too, and repositories below a named directory.

        Raises:
            PathNotFound: If a path does not exist.
            PathUnsuitable: If a path is ignored, without `force`, or if git can hold it in no tree.
            FileChanging: If a file keeps changing while it is read.
            HookRefused, PluginRefused, PluginFailed: As for `checkpoint`.
        """
        add = partial(self._at.run, operations.add_paths, [parse_tree_path(path) for path in paths], force)
        return self._between_hooks({"label": None, "message": None}, add)

    def list_checkpoints(self, *, limit: int = 100) -> list[Checkpoint]:
        """List checkpoints, newest first. The home's `on_warnings` is told of each label that is damaged."""
        forkinfo.read_head(self._at.core, self.fork)
        found, damaged = history.list_checkpoints(self._at.core, self.fork, limit=limit)
        self._at.dispatch.tell(damaged)
        return found

    def checkpoint_details(self, name: str) -> CheckpointDetails:
        """Describe a checkpoint by label or id, with the number and size of its files; reads its whole tree."""
        return history.describe_checkpoint(self._at.core, name, fork=self.fork)

    @noted("checkpoint_delete")
    def delete_checkpoint(self, label: str) -> Checkpoint:
        """Delete a label. Its commit stays in the history; it can be undone."""
        revisions.find_label(self._at.core, self.fork, label)  # a deletion that is refused records nothing
        self._at.dispatch.record_work(self.fork)
        return revisions.delete_label(self._at.core, self.fork, label)

    @noted("restore")
    @holding_objects
    def restore(
        self, target: str, *, paths: Sequence[PathLike] = (), dry_run: bool = False, into: str | None = None
    ) -> RestoreResult:
        """Restore the files of a checkpoint. Uncommitted changes are saved first; it can be undone.

        Args:
            target: A label, fork or commit.
            paths: Restore only these paths and what is below them.
            dry_run: Only list what would change.
            into: Make a fork of this name with that state instead; this workspace does not change.

        Raises:
            CheckpointNotFound: If no state has the name.
            PathNotFound: If a path is neither in the workspace nor in the target.
        """
        for path in list_given(paths):
            check_named(path)
        oid = revisions.resolve_revision(self._at.core, target, fork=self.fork)
        if into is not None:
            if paths or dry_run:
                raise InvalidInput("restoring into a new fork takes no paths and no dry run")
            self._at.dispatch.make_fork(into, source=self.fork, at=target)
            return RestoreResult("restored", oid.hex(), (), fork=into)
        return self._at.run(operations.restore_state, oid, parse_tree_paths(paths), dry_run, target, "restore")

    def diff(
        self,
        old: str | None = None,
        new: str | None = None,
        *,
        paths: Sequence[PathLike] = (),
        context: int = 3,
        patches: bool = True,
    ) -> Diff:
        """Compare two states; by default the head and the present workspace."""
        if new is not None:
            left, right = (
                revisions.resolve_revision(self._at.core, name, fork=self.fork)
                for name in ("HEAD" if old is None else old, new)
            )
            chosen = parse_tree_paths(paths)
            return compare.diff_commits(
                self._at.core, left, right, fork=self.fork, paths=chosen, context=context, patches=patches
            )
        return self._at.run(operations.diff_workspace, old, parse_tree_paths(paths), context, patches)

    def log(self, **options: Unpack[LogOptions]) -> list[LogEntry]:
        """List the commits of the fork, newest first; `LogOptions` says which."""
        if forkinfo.read_head(self._at.core, self.fork) is None:
            return []
        return history.read_log(self._at.core, "HEAD", fork=self.fork, **options)

    def draw_log(
        self,
        *,
        paths: Sequence[PathLike] = (),
        limit: int = 50,
        form: str | None = None,
        shown: Sequence[Literal["--patch", "--stat", "--name-status", "--graph"]] = (),
        with_bookkeeping: bool = True,
        color: bool = False,
    ) -> bytes:
        """Draw the history of the fork as `git log` does.

        Args:
            paths: Only commits that changed one of these, or what is below it.
            limit: At most so many commits.
            form: What `git log --format` takes: a word such as `oneline`, or a text with placeholders.
            shown: Options of `git log`.
            with_bookkeeping: Include commits that avfs made to save files before an operation.
            color: Whether the text has the colours of a terminal.

        Raises:
            InvalidInput: If git has no such format.
            PathNotFound: If no commit changed any of the paths.
            GitFailed: If git is missing, or cannot read what it needs.
        """
        head = forkinfo.read_head(self._at.core, self.fork)
        if head is None:
            return b""
        chosen = parse_tree_paths(paths)
        return history.draw_log(
            self._at.core,
            head,
            paths=chosen,
            limit=limit,
            form=form,
            shown=list_given(shown),
            with_bookkeeping=with_bookkeeping,
            color=color,
        )

    def path_versions(self, path: PathLike, *, limit: int | None = None) -> list[PathVersion]:
        """List the versions of a path, newest first; the oldest is number 1."""
        forkinfo.read_head(self._at.core, self.fork)
        return history.list_path_versions(self._at.core, self.fork, parse_tree_path(path), limit=limit)

    def blame(self, path: PathLike, *, at: str | None = None) -> Blame:
        """Tell of each line of a file from which commit, command, session of a coding agent and fork it came.

        Args:
            path: The file.
            at: The checkpoint or fork whose file is meant, by default the last checkpoint: what is not saved came from
                no commit.

        Raises:
            PathNotFound: If nothing is at the path in that state.
            PathUnsuitable: If it is no file there.
            CheckpointNotFound: If no state has the name.
        """
        oid = revisions.resolve_revision(self._at.core, "HEAD" if at is None else at, fork=self.fork)
        return blame.blame(self._at.core, oid, parse_tree_path(path))

    @noted("restore")
    @holding_objects
    def checkout_path(self, path: PathLike, *, version: int | None = None, at: str | None = None) -> RestoreResult:
        """Restore one path to an earlier version, or to its state in a checkpoint."""
        check_named(path)
        tree_path = parse_tree_path(path)
        if (version is None) == (at is None):
            raise InvalidInput("name either a version or a checkpoint")
        target = (
            history.find_version(self._at.core, self.fork, tree_path, version).checkpoint
            if version is not None
            else str(at)
        )
        oid = revisions.resolve_revision(self._at.core, target, fork=self.fork)
        return self._at.run(operations.restore_state, oid, [tree_path], False, at or f"version {version}", "checkout")

    @noted("revert")
    @holding_objects
    def revert_path(self, path: PathLike) -> RestoreResult:
        """Restore one path to the version before its present one; uncommitted changes count as the present version.

        Raises:
            PathUnsuitable: If the path has no earlier version.
        """
        check_named(path)
        return self._at.run(operations.revert_path, parse_tree_path(path))

    @noted("undo")
    def undo(self, *, dry_run: bool = False, alone: bool = False) -> UndoResult:
        """Undo the last operation on this fork, as `Vault.undo` does; the making of this fork is not taken back.

        Args:
            dry_run: Only tell which operation comes next, as `Vault.undo` does.
            alone: Leave other forks as they are: pass over their making and deletion.
        """
        turn = turning.plan_undo if dry_run else partial(turning.turn, back=True)
        return turn(self._at.dispatch, self.fork, inside=True, alone=alone)

    @noted("redo")
    def redo(self, *, alone: bool = False) -> UndoResult:
        """Redo the operation that was undone last; `alone` leaves other forks as they are."""
        return turning.turn(self._at.dispatch, self.fork, back=False, alone=alone)

    @noted("op_undo")
    def undo_operation(self, number: int, *, dry_run: bool = False) -> UndoResult:
        """Undo one operation on this fork, and keep what was done after it; `undo` takes that back.

        The changes of the operation are merged out of the files. Uncommitted changes are saved first. Ignored files
        stay, with a warning. If nothing of its changes is left, nothing changes.

        Args:
            number: The operation's number in the log.
            dry_run: Only list what would change.

        Raises:
            CannotUndo: If the operation changed no files.
            OperationNotFound: If the log has none of that number for this fork.
            UndoConflicts: If what it changed was changed since; nothing is changed then.
        """
        return self._at.run(operations.undo_operation, number, dry_run)

    def operations(self, *, limit: int = 50, at_hand: bool = False) -> list[Operation]:
        """List the operations on this fork, newest first, as `Vault.operations` does.

        Args:
            limit: List at most so many.
            at_hand: List also the forks that were made or deleted with this one at hand: `undo` takes these back, too.
        """
        self._at.dispatch.record_unrecorded(self.fork)
        return self._at.core.oplog.list_operations(self.fork, limit, at_hand=at_hand)

    def events(self, *, since: str | None = None, follow: bool = False) -> events.Events:
        """Iterate over what happens to this fork, the oldest first, as `Vault.events` does."""
        return events.Events(self._at.core, self._at.dispatch.gate.audit, fork=self.fork, since=since, follow=follow)

    def fold(self) -> bool:
        """Move the base to the head, and drop from the upper layer what equals it; False if the base was the head.

        Raises:
            WorkspaceMounted: If the workspace is mounted.
        """
        self._at.dispatch.check_unmounted(self.fork)
        with self._at.opened.locked() as locked:
            is_folded, warnings = fold.fold_workspace(locked)
        self._at.dispatch.tell(warnings)
        return is_folded

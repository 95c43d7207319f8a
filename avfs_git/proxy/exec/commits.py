"""What a command's run commits: before it what was uncommitted, after it what it changed.

Decided here: what counts as the command's doing, the words of its commit and note, and what is recorded where no commit
is made. `execute` calls this, in one thread. Its process has the workspace locked (`held`), or a session has, which is
asked then. What is committed is durable when a call returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avfs_git.errors import AvfsError, QuotaExceeded
from avfs_git.gitstore.compare.treediff import diff_trees, sizes_here
from avfs_git.lazy import LazyModule
from avfs_git.model import ChangedFile, CheckpointResult, Status, Warning
from avfs_git.paths import Oid, oid_of
from avfs_git.proxy.exec.delta import subtract
from avfs_git.proxy.exec.envelope import Command
from avfs_git.proxy.exec.environment import Inherited
from avfs_git.proxy.exec.gittrace import Seconds
from avfs_git.proxy.exec.run import Finished, Stop
from avfs_git.proxy.exec.view import saves_before
from avfs_git.proxy.policy.decision import Decision, Request
from avfs_git.proxy.policy.redaction import Redactor
from avfs_git.values import field, record_class
from avfs_git.workspace.capture.requests import CheckpointRequest
from avfs_git.workspace.checkpoint.bookkeeping import bookkeeping
from avfs_git.workspace.checkpoint.changes import record_changes
from avfs_git.workspace.checkpoint.checkpoint import read_status, save_checkpoint
from avfs_git.workspace.opened.vaultroom import find_full
from avfs_git.workspace.opened.workspace import OpenWorkspace
from avfs_git.workspace.vault import notes
from avfs_git.workspace.vault.gitmoves import CommandStart, find_under_way, list_moves_inside, tie_to_command
from avfs_git.workspace.vault.log.oprecord import JOINS

if TYPE_CHECKING:
    from avfs_git.gitstore.compare import renames
    from avfs_git.gitstore.source import ObjectSource
    from avfs_git.host.terminals import Terminal
    from avfs_git.session.control import operations
else:
    # A program that runs one command starts faster without what most commands do not need.
    renames = LazyModule("avfs_git.gitstore.compare.renames")
    operations = LazyModule("avfs_git.session.control.operations")

_SUBJECT_MAX = 72


@record_class
class Run:
    """One command on its way."""

    command: Command
    root: Path
    """Where it is to see the workspace: the decision is about paths below that."""
    request: Request
    decision: Decision
    stop: Stop | None
    terminal: Terminal | None
    """That of the command, if it is to have one."""
    began: float
    readonly: bool
    """Whether it gets a read-only view."""
    redactor: Redactor
    inherited: Inherited
    reasons: list[str] = field(default_factory=list)
    warnings: list[Warning] = field(default_factory=list)
    saved: str | None = None
    before: Status | None = None
    """What was uncommitted before; None if nothing was."""
    head: Oid | None = None
    since: int = 0
    """The newest operation of the fork when the command began, if a session shows the tree."""
    ran: Seconds | None = None
    """When the command ran git, where another program's git may have run in the tree, too, and that is known."""
    changed: tuple[ChangedFile, ...] | None = None
    """What the command's commit changes, where that is known before it is made."""
    is_committed: bool = False
    """Whether avfs made a commit of what the command changed."""


@contextmanager
def telling_that_it_ran(finished: Finished) -> Iterator[None]:
    """Have an error say that the command has run: a caller that tries again would run it twice."""
    try:
        yield
    except AvfsError as error:
        error.message = f"the command has run (exit status {finished.exit_code}), then: {error.message}"
        error.args = (error.message,)
        error.hint = (
            "Do not run it again: its changes are in the workspace. See `avfs status`, and save them with "
            "`avfs checkpoint save`."
        )
        error.details["command_exit_code"] = finished.exit_code
        raise


class Commits:
    """The commits of commands in one workspace."""

    def __init__(self, opened: OpenWorkspace, do: Callable[..., Any]) -> None:
        """Prepare; `do` does an operation of `session.control.operations` where the workspace is."""
        self._opened = opened
        self._do = do

    def note_before(self, run: Run, *, held: bool) -> None:
        """Save what is uncommitted before the command, or note it."""
        opened = self._opened
        if run.head is not None:
            return
        if run.readonly:
            pass  # the command changes nothing, so that nothing can be taken for its doing
        elif held and opened.state.merging is None and opened.is_recorded_by(opened.vault.read_head(opened.fork)):
            pass  # nothing is uncommitted
        elif saves_before(run.command, run.decision) and find_under_way(opened.vault, opened.fork) is None:
            text = f"before: {run.redactor.headline(run.request)}"
            saved = self._save(bookkeeping(text), text, held=held)
            run.warnings += saved.warnings
            if saved.outcome == "created" and saved.checkpoint is not None:
                run.saved = saved.checkpoint.id
        else:
            status = self._status(held=held)
            if status.changed_files or status.sidecar_changed:
                run.before = status
                # what the command changes is an operation of its own
                run.warnings += self._record_changes(None, held=held)
        run.head = opened.vault.read_head(opened.fork)

    def take_delta(
        self, run: Run, finished: Finished, note: notes.Note | None, *, held: bool
    ) -> tuple[str | None, tuple[ChangedFile, ...], tuple[ChangedFile, ...]]:
        """Commit what the command changed, and tell what that is."""
        command, opened = run.command, self._opened
        wants_commit = command.commit and (finished.exit_code == 0 or command.commit_failed)
        # git could not end or give up that
        wants_commit = wants_commit and find_under_way(opened.vault, opened.fork) is None
        refused = self._find_excess(held=held) if wants_commit and not run.readonly else None
        wants_commit = wants_commit and refused is None
        began, subject = CommandStart(run.head, run.ran, run.since), _make_subject(run, finished)
        status = "" if finished.exit_code == 0 else f"\n\nExit-Status: {finished.exit_code}"
        message = f"{command.message or subject}{status}\n"
        if JOINS in tie_to_command(opened.vault, opened.fork, began):
            what = "a checkpoint saved a part of what the command changed while it ran, and the rest is told here"
            run.warnings.append(Warning("exec.saved_beside", f"{what}; `avfs undo` takes both back"))
        if run.before is not None or not wants_commit:
            nothing = Status(opened.fork, None, None, (), ())
            before, after = run.before or nothing, self._status(held=held)
            run.warnings += after.warnings
            changed = subtract(before.changed_files, after.changed_files)
            beside = subtract(before.sidecar_changed, after.sidecar_changed)
            if refused is not None and (changed or beside):
                what = f"the command's changes are not committed: {refused.message}"
                run.warnings.append(
                    Warning("exec.over_quota", f"{what}; remove files, or take the changes back with `avfs undo`")
                )
            moved = self._moved_by_git(run, None)
            if not wants_commit or not (changed or beside):
                run.warnings += self._record_changes(subject, held=held, command=began)
                return (moved.hex() if moved is not None else None), self._with_renames(changed, stored=False), beside
        saved = self._save(message, subject, note, held=held, command=began)
        run.warnings += saved.warnings
        run.is_committed = saved.outcome == "created"
        if saved.outcome == "unchanged":  # git has committed it
            run.warnings += self._record_changes(subject, held=held, command=began)
        commit = saved.checkpoint.id if saved.outcome == "created" and saved.checkpoint is not None else None
        if run.before is not None:
            return commit, self._with_renames(changed), beside
        if run.changed is not None:
            return commit, run.changed, saved.sidecar_changed
        moved = self._moved_by_git(run, commit)
        changed = saved.changed_files
        if moved is not None:
            # Git has committed in the tree: all from the state before on is the command's.
            commit = commit or moved.hex()
            store = opened.vault.store
            old = store.read_commit(run.head).tree if run.head is not None else None
            new = store.read_commit(oid_of(commit)).tree
            changed = tuple(diff_trees(store, old, new, size_of=sizes_here(store)))
        return commit, self._with_renames(changed), saved.sidecar_changed

    def _find_excess(self, *, held: bool) -> QuotaExceeded | None:
        """Find the quota that allows no commit: the vault's, or a workspace's of which nothing has refused writes."""
        full = find_full(self._opened.vault)
        if full is not None or not held:
            return full
        quota = self._opened.upper.quota
        if quota.limits is None:
            return None
        status = self._status(held=True)
        sizes = (change.size or 0 for change in (*status.changed_files, *status.sidecar_changed))
        try:
            quota.check_present(max(sizes, default=0))
        except QuotaExceeded as refused:
            return refused
        return None

    def _moved_by_git(self, run: Run, commit: str | None) -> Oid | None:
        """Give the commit that git in the tree has brought the branch to; None if it stayed, or only avfs moved it.

        A person may undo in the tree meanwhile: what that moves and changes is not the command's.
        """
        vault = self._opened.vault
        head = vault.read_head(self._opened.fork)
        if head is not None and commit is not None and head.hex() == commit:
            parents = vault.store.read_commit(head).parents
            head = parents[0] if parents else run.head
        moves = list_moves_inside(vault, self._opened.fork, run.head, head) if head is not None else []
        if not CommandStart(run.head, run.ran).made(moves):
            what = (
                "another program's git moved the branch while the command ran, which is an operation of its own "
                "in the log"
            )
            run.warnings.append(
                Warning("exec.git_beside", f"{what}; what that program did not commit counts as the command's")
            )
            return None
        return head if moves else None

    def _with_renames(
        self, changed: tuple[ChangedFile, ...], source: ObjectSource | None = None, *, stored: bool = True
    ) -> tuple[ChangedFile, ...]:
        """Pair what was deleted with what was added; where the contents are in no object, only what is equal."""
        if len(changed) < 2:
            return changed
        source = source or self._opened.vault.store
        return tuple(renames.detect_renames(source, changed, threshold=50 if stored else 100))

    def make_note(self, run: Run, finished: Finished, backend: str) -> notes.Note:
        """Make what writes the command's note together with its commit, where that commit holds its changes only."""

        def write(source: ObjectSource, head: Oid | None, changed: Sequence[ChangedFile]) -> str | None:
            if run.before is not None or head != run.head:
                return None  # what the command changed is not what this commit does
            run.changed = self._with_renames(tuple(changed), source)
            return describe(run, finished, backend, len(run.changed))

        return notes.Note(write)

    def _save(
        self,
        message: str,
        description: str,
        note: notes.Note | None = None,
        *,
        held: bool,
        command: CommandStart | None = None,
    ) -> CheckpointResult:
        options: dict[str, Any] = {"message": message, "description": description, "command": command}
        options |= {"with_files": command is not None, "skips_unreadable": True}
        if held:
            with self._opened.locked() as locked:
                return save_checkpoint(locked, CheckpointRequest(note=note, **options))
        result: CheckpointResult = self._do(self._opened, operations.save_checkpoint, **options)
        return result

    def _record_changes(
        self, description: str | None, *, held: bool, command: CommandStart | None = None
    ) -> tuple[Warning, ...]:
        """Record changes to files of which no commit is made, so that undo takes them back."""
        if held:
            with self._opened.locked() as locked:
                return record_changes(locked, description, command=command)
        told: tuple[Warning, ...] = self._do(self._opened, operations.record_changes, description, command=command)
        return told

    def _status(self, *, held: bool) -> Status:
        if held:
            with self._opened.locked() as locked:
                return read_status(locked)
        result: Status = self._do(self._opened, operations.read_status)
        return result


def describe(run: Run, finished: Finished, backend: str, changed_files: int) -> str:
    """Write a command's note: a fact a line, for `git log --notes=avfs`, without what looks like a secret."""
    facts = {
        "Command": run.redactor.command(run.request).encode("utf-8", "replace").decode().replace("\n", "\n    "),
        "Directory": run.request.cwd,
        "Exit-Status": f"{finished.exit_code}{' (timed out)' if finished.timed_out else ''}",
        "Duration": f"{finished.duration_ms / 1000:.3f} s",
        "Changed-Files": changed_files,
        "Decision": f"{run.decision.action} ({', '.join(run.decision.categories)})",
        "Backend": backend,
    }
    return "".join(f"{name}: {value}\n" for name, value in facts.items())


def tell_unused(run: Run) -> None:
    """Warn about a message of a commit that was not made: nothing changed, or the command's own git committed that."""
    if run.command.message and not run.is_committed:
        what = "the message is unused: avfs made no commit for this command"
        run.warnings.append(Warning("exec.message_unused", what))


def _make_subject(run: Run, finished: Finished) -> str:
    """Name the command on one line. People read it for years, so it has the first words of the command only."""
    if run.command.message is not None:
        shown = " ".join(run.command.message.encode("utf-8", "replace").decode().split())
    else:
        how = (
            "" if finished.exit_code == 0 else " (timed out)" if finished.timed_out else f" (exit {finished.exit_code})"
        )
        shown = f"exec{how}: {run.redactor.headline(run.request)}"
    return shown if len(shown) <= _SUBJECT_MAX else shown[: _SUBJECT_MAX - 1] + "…"

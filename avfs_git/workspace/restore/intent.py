"""The intent of an operation that changes files: what is written before, and how files are put back if it is cut short.

Decided here: which state files go back to, when an operation counts as complete, and which differing files were its own
to replace. Restore, advance and undo announce their changes here; `recovery` puts back what a dead process has begun.
Called with the workspace lock held, when what is uncommitted is saved. The intent is in the workspace's state on disk
from before the first change until the operation is complete. After a crash in between, the process that opens the
workspace next puts the files back; putting back can itself be cut short, and called again.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from avfs_git.errors import AvfsError
from avfs_git.faults import reach
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import Warning
from avfs_git.paths import TreePath, climb, list_above, maybe_hex, maybe_oid
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.plan import Plan, Step, plan_steps
from avfs_git.vfs.scan.statcache import RACY_NS
from avfs_git.workspace.checkpoint.aftermath import aftermath
from avfs_git.workspace.checkpoint.prepare import capture_workspace
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.restore.application import Application
from avfs_git.workspace.restore.aside import save_aside
from avfs_git.workspace.restore.asked import ask_about
from avfs_git.workspace.restore.takenout import recover_taken, remove_left
from avfs_git.workspace.vault.format import Merging, Pending
from avfs_git.workspace.vault.log.oprecord import INTENT, SINCE
from avfs_git.workspace.vault.states import Trees


@dataclass(frozen=True, slots=True)
class Intent:
    """What is about to be done to files."""

    word: str
    """What the line in the log is to repeat."""
    since_ns: int
    """A time at which nothing had been changed yet, in the log for `recovery`."""
    warnings: list[Warning] = field(default_factory=list)
    """What could not be done once it was complete."""

    @property
    def facts(self) -> dict[str, object]:
        """What the line in the log says of it."""
        return {INTENT: self.word, SINCE: self.since_ns}


@contextlib.contextmanager
def announced(
    locked: LockedWorkspace,
    kind: str,
    now: Trees,
    plan: Plan | None,
    *,
    begins: Merging | None = None,
    ends_merge: bool = False,
) -> Iterator[Intent]:
    """Write down that files are about to change from the captured state; put them back if that fails.

    Raises:
        PluginRefused, PluginFailed: If a plug-in does not want what is planned. Nothing has happened then.
        MountError: If the kernel shows the workspace, and not at the place that was told. Nothing has happened then.
    """
    if plan is not None:
        ask_about(locked.opened, plan, kind)
    locked.opened.mode.mounted()
    state = locked.opened.state
    head = locked.vault.read_head(locked.fork)
    intent = Intent(os.urandom(8).hex(), time.time_ns() - RACY_NS)
    merge = "begins" if begins is not None else "ends" if ends_merge else None
    before = state.merging if begins is not None else None
    state.pending = Pending(kind, maybe_hex(head), maybe_hex(now[0]), maybe_hex(now[1]), intent.word, merge, before)
    state.pending.shown = locked.opened.shown_at is not None
    state.merging = begins or state.merging
    try:
        locked.write_state()
        reach("restore.announced")
        locked.begin()
        try:
            yield intent
        except BaseException:
            # Also for Ctrl-C: what was half done is put back, now or, if that fails too, when it is next opened.
            with contextlib.suppress(OSError, AvfsError):
                put_back(locked)
            raise
        finally:
            lock = locked.opened.lock
            is_marked = lock.clean_epoch == lock.epoch  # else the capture was not: its files have to be looked at again
            locked.end()
        if is_marked:
            lock.mark_clean(lock.epoch, lock.clean_commit)
    except BaseException:
        # What the disk says of the intent is not known: nothing may be written before that is read again.
        locked.opened.forget()
        raise
    with aftermath(intent.warnings, "the state is written when the workspace is next used"):
        try:
            reach("restore.complete")
            state.pending = None
            state.merging = None if ends_merge else state.merging
            locked.write_state()
        except BaseException:
            locked.opened.forget()  # as above
            raise


def is_complete(locked: LockedWorkspace, pending: Pending) -> bool:
    """Tell whether an operation whose intent is still there was complete: its refs have moved."""
    if pending.intent is not None:
        return locked.vault.oplog.has_happened(locked.fork, pending.intent)
    return maybe_hex(locked.vault.read_head(locked.fork)) != pending.head


def put_back(locked: LockedWorkspace) -> None:
    """Bring a workspace back to the state before an operation that was cut short; complete ones stay.

    Called with the lock held, by the operation itself or by the next process that opens the workspace. Can itself be
    cut short, and called again.
    """
    opened = locked.opened
    pending = opened.state.pending
    if pending is None:
        return
    store = locked.vault.store
    is_done = is_complete(locked, pending)
    before = LowerTree(store, maybe_oid(pending.tree), maybe_oid(pending.sidecar), default_mtime_ns=0)
    opened.mode.leave_mounted(staging_stays=True)
    left = recover_taken(locked, before)
    locked.tell_later(*left.warnings)
    if pending.merge == ("ends" if is_done else "begins"):
        opened.state.merging = pending.before
    if not is_done:
        opened.look_anew()  # what failed may have changed the disk and not yet what is known of it
        if not opened.is_served:
            opened.upper.clean_work()
        # A power cut may have taken the staging directory and left what was changed.
        is_planned = pending.shown and (left.names or opened.state.boot == opened.boot)
        planned = left.planned if is_planned else None
        writer = DryWriter(store)
        captured = capture_workspace(locked, writer)
        now = LowerTree(writer, captured.tree, captured.sidecar, default_mtime_ns=0)
        steps = _plan_putting_back(now, writer, pending, planned)
        if pending.shown and steps:
            # Programs went on to work: what is about to be replaced is saved first, and only that is replaced without a
            # word.
            opened.mode.give_up_capture()
            aside = save_aside(locked, "save before putting back")
            locked.tell_later(*aside.warnings)
            now = LowerTree(store, *aside.trees, default_mtime_ns=0)
            steps = _plan_putting_back(now, store, pending, planned)
        change = Application(locked, now, before, brings_times=True)
        locked.begin()
        try:
            if steps:
                change.apply(steps)
        finally:
            locked.end()
        locked.tell_later(*change.warnings)
    remove_left(locked, left)  # not before: it says what must be put back
    opened.dirty = None
    opened.state.pending = None
    locked.write_state()


def _plan_putting_back(
    now: LowerTree, source: ObjectSource, pending: Pending, planned: Mapping[TreePath, bool] | None
) -> list[Step]:
    """List the steps that lead from the present state to the one before an operation.

    `planned` is all that the operation meant to change, as in `Left`, where programs worked meanwhile: what else
    differs is theirs.
    """
    steps = plan_steps(now, LowerTree(source, maybe_oid(pending.tree), maybe_oid(pending.sidecar), default_mtime_ns=0))
    if planned is None:
        return steps
    chosen = {step.path for step in steps if step.path in planned or any(map(planned.get, climb(step.path)))}
    above = list_above(chosen)  # a program may have removed the directories that lead to them
    return [
        step
        for step in steps
        if step.path in chosen or (step.path in above and (step.before is None or step.is_removal))
    ]

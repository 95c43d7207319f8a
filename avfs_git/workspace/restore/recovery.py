"""Bringing a workspace back to order when it is met after a crash of its process or of the machine.

Decided here: what is trusted after a power cut, and what is put back from the last checkpoint. Called with the
workspace lock held, by the first process that takes the lock after the crash (`OpenWorkspace`); can itself be cut short
at any point, and called again.

The upper layer is not forced to disk, so that after a power cut files may be missing, empty or older than they
were, also such as a checkpoint has acknowledged. Their content is in the vault. After another boot than the one in
which the layer was last written to, all of it is read once and compared with what the log last recorded:

- what the record holds and the layer has lost is put back;
- what was changed after the record stays, newer content, removed and emptied files alike: it is uncommitted work;
- where something goes that has content, the whole is saved as a commit first.

The time of change decides, which no program can set. The record says when its capture began, so an inode with an older
time that differs from the record is an older version than the one that was captured: the disk has lost the newer one.
For a missing file the time of its directory decides: removing a file changes that. So a restart in good order reverts
nothing, and needs no mark. Only what a program emptied in the first 10 ms of a capture, and nothing recorded later,
comes back, with a warning.

A file that is empty, was not empty in the record, and was changed after it may have been emptied, or rewritten shortly
before a power cut that took the new content. It stays empty. A warning names it, and the command that brings the
recorded content back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from avfs_git.faults import reach
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.paths import ROOT, Oid, TreePath, oid_of, show_path, split
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.plan import Step, plan_steps
from avfs_git.vfs.layer.readers import UpperReader
from avfs_git.vfs.scan.scan import WHITEOUT
from avfs_git.vfs.tree.inodes import Node
from avfs_git.workspace.capture.requests import CaptureRequest
from avfs_git.workspace.checkpoint import following
from avfs_git.workspace.checkpoint.checkpoint import complete_moves
from avfs_git.workspace.checkpoint.prepare import capture_workspace
from avfs_git.workspace.opened.refusal import refusal_explained
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.restore.application import Application
from avfs_git.workspace.restore.aside import save_aside
from avfs_git.workspace.restore.intent import is_complete, put_back
from avfs_git.workspace.restore.plaincopy import take_in_left
from avfs_git.workspace.restore.takenout import recover_taken, remove_left
from avfs_git.workspace.vault.log.oprecord import CAPTURED, SIDECAR, SINCE
from avfs_git.workspace.vault.states import tree_of

_NAMED = 50
"""Paths that are named one by one; the warning after them counts the others."""
_TICK_NS = 10_000_000
"""Linux 6.13 and newer give some files a finer change time than `captured_ns`, which may be a clock tick behind."""


@dataclass(frozen=True, slots=True)
class _Record:
    """The state of a workspace that was last acknowledged."""

    commit: Oid | None
    tree: Oid | None
    sidecar: Oid | None
    at_ns: int
    """When it was captured, by the kernel's clock: what was changed since has this time of change or a later one."""
    since_ns: int
    """What was last changed before this time and differs from the record was lost: when a restore began."""
    is_layer_lost: bool = False
    """Whether the upper layer is a new one, because nothing of it was left."""


@dataclass(slots=True)
class _Chosen:
    """What a power cut did, as it seems."""

    steps: list[Step] = field(default_factory=list)
    """What must be put back."""
    overwrites: bool = False
    """Whether content goes with that."""
    emptied: list[TreePath] = field(default_factory=list)
    """Files that are empty, and may have lost content that was never recorded."""


def recover(locked: LockedWorkspace) -> None:
    """Put back what a crash cut short, and what a power cut took.

    Raises:
        AvfsError: If the vault or the disk fails. Nothing is lost, and the next one to take the lock tries again.
    """
    with refusal_explained(locked.opened.layout):
        complete_moves(locked)
        following.complete(locked)
        opened = locked.opened
        pending = opened.state.pending
        if pending is None:
            left = recover_taken(locked, None)
            if left.warnings:
                locked.tell_later(*left.warnings)
                locked.write_state()
            remove_left(locked, left)
        if opened.state.boot != opened.boot and (pending is None or is_complete(locked, pending)):
            _put_back_lost(locked, replace(_find_record(locked), is_layer_lost=opened.state.boot is None))
        put_back(locked)
        take_in_left(locked)


def _find_record(locked: LockedWorkspace) -> _Record:
    """Find what the workspace is known to have held: the last commit in the log, or what it began with.

    Not what the branch holds: git may have moved it.
    """
    vault, state = locked.vault, locked.opened.state
    at_ns = 0
    since_ns = int(vault.oplog.find_last_fact(locked.fork, SINCE) or 0)
    commit = oid_of(state.base) if state.base is not None else None
    record = vault.oplog.find_last_state(locked.fork)
    if record is not None and record.after is not None:
        commit, at_ns = oid_of(record.after), int(record.more.get(CAPTURED, record.created_at_ns))
    if commit is None or commit.hex() == state.base:
        root = locked.opened.lower.root
        return _Record(commit, root.tree, root.sidecar, at_ns, since_ns)
    read = vault.store.read_commit(commit)
    sidecar = vault.sidecar_tree(read)
    if record is not None and SIDECAR in record.more:
        sidecar = vault.store.read_commit(oid_of(record.more[SIDECAR])).tree
    return _Record(commit, tree_of(read), sidecar, at_ns, since_ns)


def _put_back_lost(locked: LockedWorkspace, record: _Record) -> None:
    opened, store = locked.opened, locked.vault.store
    root = opened.lower.root
    if (record.tree, record.sidecar) == (root.tree, root.sidecar) and not opened.upper.scan_dir(
        opened.upper.root.fd, ROOT
    ):
        return  # nothing was ever written here
    opened.upper.clean_work()
    writer = DryWriter(store)
    captured = capture_workspace(locked, writer, CaptureRequest(afresh=True))
    now = LowerTree(writer, captured.tree, captured.sidecar, default_mtime_ns=0)
    held = LowerTree(store, record.tree, record.sidecar, default_mtime_ns=0)
    chosen = _choose(locked, plan_steps(now, held), record)
    steps = chosen.steps
    warnings = [_tell_emptied(locked, path, record) for path in chosen.emptied[:_NAMED]]
    if len(chosen.emptied) > _NAMED:
        warnings.append(
            f"{len(chosen.emptied) - _NAMED} more files are empty that were not when they were last recorded"
        )
    # The counters of the lock may be older than the files: they must not match what they last called clean.
    opened.lock.begin_change()
    try:
        if chosen.overwrites:
            aside = save_aside(locked, "save before recovery")
            locked.tell_later(*aside.warnings)
            if aside.commit is not None:
                warnings.append(f"what stood in place of the files that were put back is kept in {aside.commit}")
        if steps:
            opened.drop_cache()
            reach("recovery.chosen")
            Application(locked, now, held, brings_times=True).apply(steps)
            reach("recovery.applied")
    finally:
        opened.epoch = opened.lock.end_change()
    opened.dirty = None
    opened.state.boot = opened.boot
    files = [step for step in steps if step.after is None or not step.after.is_dir]
    warnings += [
        f"'{show_path(step.path)}' was lost when the machine stopped and was put back as it was last recorded"
        for step in files[:_NAMED]
    ]
    if len(files) > _NAMED:
        warnings.append(f"{len(files) - _NAMED} more files were lost when the machine stopped and were put back")
    locked.tell_later(*warnings)
    locked.write_state()


def _tell_emptied(locked: LockedWorkspace, path: TreePath, record: _Record) -> str:
    """Say how the recorded content of a file comes back that is empty now."""
    import shlex  # noqa: PLC0415 - few restarts find such a file

    shown, fork = shlex.quote(show_path(path)), shlex.quote(locked.fork)
    commit = record.commit.hex()[:12] if record.commit is not None else ""
    return (
        f"'{show_path(path)}' is empty and was not when it was last recorded; if the machine stopped before its "
        "content was on"
        f" the disk, bring back the recorded one: `avfs checkout --fork {fork} {shown} --at {commit}`"
    )


def _choose(locked: LockedWorkspace, steps: list[Step], record: _Record) -> _Chosen:
    """Choose the differences that a power cut made."""
    chosen = _Chosen()
    kept: set[bytes] = set()
    """Entries that stay as they are, with all that the record has below them."""
    for step in steps:
        if split(step.path)[0] in kept if step.path != ROOT else False:
            kept.add(step.path)
            continue
        before, after = step.before, step.after
        if before is None:
            is_lost = _was_never_removed(locked, step.path, record)
        elif not (node := locked.merged.resolve(step.path, follow_last=False)).upper:
            # The base shows through where the record says something else, unless it was moved there since.
            is_lost = not _was_moved_in(locked, node, record)
        elif after is None or before.kind != "file" or after.kind != "file" or before.oid == after.oid:
            is_lost = False
        else:
            found = locked.merged.attributes.getattr(node)
            is_older = found.ctime_ns <= record.at_ns + _TICK_NS and (
                not found.size or found.mtime_ns <= after.mtime_ns
            )
            # What a restore has put back is recorded with the times of its target, which may be long before what stood
            # there.
            is_lost = is_older or found.ctime_ns < record.since_ns
            chosen.overwrites = chosen.overwrites or (is_lost and found.size > 0)
            if not found.size and not is_lost:
                chosen.emptied.append(step.path)
        if is_lost:
            chosen.steps.append(step)
        elif before is None or after is None or before.is_dir != after.is_dir:
            kept.add(step.path)
    return chosen


def _was_moved_in(locked: LockedWorkspace, node: Node, record: _Record) -> bool:
    """Tell of an entry of the base whether it came with a directory that was moved after the record."""
    here = node.parent
    while here is not None:
        if here.moved_from is not None and locked.merged.attributes.getattr(here).ctime_ns >= record.at_ns:
            return True
        here = here.parent
    return False


def _was_never_removed(locked: LockedWorkspace, path: TreePath, record: _Record) -> bool:
    """Tell whether a missing entry was lost, and not removed: its directory was not changed since the record."""
    if path == ROOT or record.is_layer_lost:
        return True
    layer = UpperReader(locked.opened.upper)
    directory, name = split(path)
    try:
        found = layer.find(directory, name)
        if found is not None and found.kind == WHITEOUT:
            return False
        return layer.dir_stat(directory).st_ctime_ns < record.at_ns
    except (FileNotFoundError, NotADirectoryError):
        return True  # the directory went, too, and was not removed: else this would not be asked

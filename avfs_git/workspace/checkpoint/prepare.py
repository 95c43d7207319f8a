"""What a capture of a workspace starts from: its limits and rules, which paths are tracked, and what is beside history.

Called by each operation that captures, with the workspace locked. How the changed paths are found and how many rounds
are made is for the workspace's mode (`opened.plain`).
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Sequence

from avfs_git.errors import HostError, QuotaExceeded
from avfs_git.gitstore.compare.treediff import Entry, diff_trees, find_differences
from avfs_git.gitstore.formats.trees import EMPTY_TREE, MODE_GITLINK, edit_tree, find_entry
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.rules.ignore import IGNORE_FILE_READ, Ignorer
from avfs_git.gitstore.source import ObjectSink
from avfs_git.model import ChangedFile, Warning
from avfs_git.paths import Oid, TreePath, join, oid_of, show_path
from avfs_git.values import replace
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.scan.scan import DirtySet, Layer
from avfs_git.vfs.scan.statcache import Fingerprints, take_fingerprint
from avfs_git.workspace.capture.capture import IGNORE, Capture
from avfs_git.workspace.capture.captured import Captured
from avfs_git.workspace.capture.livecapture import Rounds
from avfs_git.workspace.capture.looked import Basis
from avfs_git.workspace.capture.placing import GIT, Standing
from avfs_git.workspace.capture.requests import CHANGED, CaptureRequest, SidecarLimits
from avfs_git.workspace.capture.sidecardiff import diff_sidecars, list_added_files
from avfs_git.workspace.checkpoint.staged import Heard, hear_git
from avfs_git.workspace.opened.workspace import LockedWorkspace, OpenWorkspace
from avfs_git.workspace.vault.format import Merging
from avfs_git.workspace.vault.gitmoves import is_link_removed, open_worktree
from avfs_git.workspace.vault.vault import OpenVault

_LIMITS = ("sidecar.max_file_bytes", "sidecar.exclude")
_NAMED_MAX = 20
"""Of paths with access control lists, so many are named."""


def capture_workspace(
    locked: LockedWorkspace, sink: ObjectSink, request: CaptureRequest = CHANGED, *, committed: Oid | None = None
) -> Captured:
    """Turn the workspace into trees, whose objects go to a sink. Reads only what changed since the last capture.

    Where ignore rules or a repository inside came since then, it reads all: no commit of the branch has what the log
    alone records, and so git does not track that. Before a commit, rules that came since the tree `committed` count,
    too.
    """
    captured = _capture(locked, sink, request)
    if request.index is None and not request.afresh and _has_other_rules(locked, sink, captured, committed):
        beside = request.beside or locked.opened.synced_trees()[1]
        captured = _capture(locked, sink, replace(request, afresh=True, beside=beside, skips_unreadable=False))
    return captured


def adopt_submodules(sink: ObjectSink, found: Oid | None, wanted: Oid) -> Oid | None:
    """Set a captured tree's submodules to the commits that the tree `wanted` names: no file says which these are.

    A path that is something else than a submodule in either tree stays as it is.
    """
    if (found or EMPTY_TREE) == wanted:
        return found
    edits = {
        path: after
        for path, (before, after) in find_differences(sink, found, wanted).items()
        if all(entry is None or entry[0] == MODE_GITLINK for entry in (before, after))
    }
    return edit_tree(sink, sink, found, edits)


def _has_other_rules(locked: LockedWorkspace, sink: ObjectSink, captured: Captured, committed: Oid | None) -> bool:
    """Tell whether rules for untracked files differ from the last capture, which recorded files not on the branch.

    With `committed`, also whether ignore rules differ from those of that tree: an operation since then may have
    recorded them.
    """
    cache, (_, head) = locked.opened.cache, locked.head()
    if cache is None:
        return False
    held = cache.tree or EMPTY_TREE
    came = diff_trees(sink, committed, captured.tree) if committed not in (None, held) else []
    if any(change.path.rpartition(b"/")[2] == IGNORE for change in came):
        return True
    if captured.is_partial or held == (head.tree if head is not None else EMPTY_TREE):
        return False
    if any(_decides(change.path) for change in diff_trees(sink, cache.tree, captured.tree)):
        return True
    if not captured.sidecar_touched:
        return False
    changed = diff_sidecars(sink, cache.sidecar, captured.sidecar)
    return any(_decides(one.path) for change in changed for one in (change, *list_added_files(sink, change)))


def _decides(path: bytes) -> bool:
    return path.rpartition(b"/")[2] == IGNORE or GIT in path.split(b"/")


def _capture(locked: LockedWorkspace, sink: ObjectSink, request: CaptureRequest) -> Captured:
    opened = locked.opened
    cache = None if request.afresh else opened.cache
    # What is tracked stays so also where the cache, which knows it else, is gone.
    last = locked.head()[1] if cache is None else None
    head = last if request.index is None else None
    before = cache.tree if cache is not None else opened.lower.root.tree
    tracked = (head.tree if head is not None else request.index) or before or EMPTY_TREE
    recorded = (
        locked.vault.sidecar_tree(last) if last is not None and last.sidecar is not None else opened.synced_trees()[1]
    )
    if head is not None:
        tracked = _leave_beside(locked, sink, tracked, recorded)
    heard = hear_git(locked, sink, tracked, read_rules(locked)) if request.index is None else Heard()
    merging = opened.state.merging if request.index is None else None
    merged = _list_merged(locked, sink, merging) if merging is not None else {}
    if head is not None and merged:
        new = {path: entry for path, entry in merged.items() if find_entry(sink, tracked, path) is None}
        tracked = edit_tree(sink, sink, tracked, new) or tracked
    standing = Standing(
        tuple(dict.fromkeys(oid for oid in (recorded, request.beside) if oid is not None)),
        request.added | heard.added,
        heard.removed - merged.keys(),
    )
    limits = _read_limits(locked.vault)
    layers: list[Layer] = []

    def make(compared: Fingerprints | None, postponed: DirtySet | None) -> Capture:
        layers.append(opened.mode.read_upper())
        return Capture(
            layers[-1],
            sink,
            read_rules(locked),
            lower=opened.lower,
            cache=compared,
            limits=limits,
            known=request.known,
            index=tracked,
            standing=standing,
            remember_blobs=request.remember_blobs,
            postponed=postponed,
            skips_unreadable=request.skips_unreadable,
        )

    rounds = Rounds(make, opened.cache, None if request.afresh else request.before, is_afresh=request.afresh)
    captured = opened.mode.capture(rounds, lasts=not isinstance(sink, DryWriter), flush=opened.flush_pages)
    if request.before is not None and rounds.has_new_rules:
        return _capture(locked, sink, replace(request, before=None))
    if heard.forced is not None and not isinstance(sink, DryWriter):
        open_worktree(locked.vault, locked.fork).note_forced(heard.forced - request.added)
    captured.warnings += _warn_of_lists(layers)
    captured.warnings += warn_of_state(opened)
    return captured


def _leave_beside(locked: LockedWorkspace, sink: ObjectSink, tracked: Oid, recorded: Oid | None) -> Oid:
    """Take out of a commit's tree what a fork has begun with beside history, as git had no longer tracked it there."""
    lower = locked.opened.lower
    found = LowerTree(locked.vault.store, lower.root.tree, recorded, default_mtime_ns=0)
    gone = find_differences(locked.vault.store, tracked, lower.root.tree or EMPTY_TREE).items()
    left = {path: None for path, (_, now) in gone if now is None and found.has_beside(path)}
    return (edit_tree(sink, sink, tracked, left) or EMPTY_TREE) if left else tracked


def _list_merged(locked: LockedWorkspace, source: ObjectSink, merging: Merging) -> dict[TreePath, Entry]:
    """List the files that a merge in progress has put there: no commit of the branch, git's neither, has them yet."""
    log = locked.vault.oplog.read_fork(locked.fork)
    began = next((line.after for line in log if line.kind == "merge_begin"), None)
    if began is None:
        return {}
    was, came = (source.read_commit(oid_of(commit)).tree for commit in (merging.head, began))
    found = find_differences(source, was, came).items()
    return {path: after for path, (before, after) in found if before is None and after is not None}


def _warn_of_lists(layers: Sequence[Layer]) -> list[Warning]:
    """Name entries with access control lists: programs can make them only if the kernel writes to the upper layer."""
    from avfs_git.vfs.layer.readers import UpperReader  # noqa: PLC0415 - imported by then; starting a session does not need it

    found = sorted({path for layer in layers if isinstance(layer, UpperReader) for path in layer.with_lists})
    what = "has an access control list, which no checkpoint holds; its group bits are the mask of the list"
    warnings = [Warning("capture.access_list", f"'{show_path(path)}' {what}", path) for path in found[:_NAMED_MAX]]
    if len(found) > _NAMED_MAX:
        text = f"{len(found) - _NAMED_MAX} more paths have access control lists, which no checkpoint holds"
        warnings.append(Warning("capture.access_list", text))
    return warnings


def read_basis(locked: LockedWorkspace) -> Basis:
    """Read what a capture goes by besides the files.

    While two are equal, a capture places a file that did not change alike.
    """
    vault, settings = locked.vault, locked.vault.config.read()
    try:
        found = os.stat(open_worktree(vault, locked.fork).index, follow_symlinks=False)
    except OSError:
        index = None
    else:
        index = take_fingerprint(found)
    head = vault.read_head(locked.fork)
    return head, locked.opened.synced_trees(), index, vault.read_exclude(), *map(settings.get, _LIMITS)


def _read_limits(vault: OpenVault) -> SidecarLimits:
    settings = vault.config.read()
    max_file_bytes, exclude = (settings[name] for name in _LIMITS)
    return SidecarLimits(
        max_file_bytes=int(max_file_bytes) or None,
        exclude=Ignorer(lambda _: None, exclude.encode()) if exclude else None,
    )


def keeps_all(vault: OpenVault) -> bool:
    """Tell whether no setting leaves files out that are beside history."""
    limits = _read_limits(vault)
    return limits.max_file_bytes is None and limits.exclude is None


def warn_of_state(opened: OpenWorkspace) -> list[Warning]:
    """Say what is special about the state that is read."""
    warnings = [Warning("workspace.recovered", text) for text in opened.state.recovered]
    if opened.looks_on and (opened.lock.session is None or opened.lock.is_operating):
        holder = opened.lock.holder()
        who = holder.describe() if holder is not None else "another process"
        warnings.append(
            Warning("workspace.in_use", f"fork '{opened.fork}' is in use by {who}; this is what is there now")
        )
    own = opened.layout.upper / os.fsdecode(GIT)
    # only where the kernel shows the tree is the name a program's to take
    if own.is_symlink() or own.is_dir() or own.is_fifo():
        what = "a repository" if own.is_dir() and not own.is_symlink() else "a link or a pipe"
        text = (
            f"'.git' in the tree is {what} that a program made, not the vault's, which comes back with the first "
            "checkpoint "
            f"after that one was moved away; it is in no checkpoint, only in '{own}'"
        )
        warnings.append(Warning("git.own_repository", text))
    elif opened.shown_at is not None and is_link_removed(opened.layout):
        text = (
            "a program has removed '.git' from the tree, where git does not work until the next checkpoint puts it back"
        )
        warnings.append(Warning("git.link_removed", text))
    if opened.is_unfinished:
        text = "an operation was cut short, and cannot be put back here: nothing may be written"
        warnings.append(Warning("workspace.unfinished", text))
    return warnings


def read_rules(locked: LockedWorkspace) -> Ignorer:
    """Give the ignore rules of the workspace as it is."""

    def read(directory: TreePath) -> bytes | None:
        merged = locked.merged
        with contextlib.suppress(OSError):
            node = merged.resolve(join(directory, b".gitignore"), follow_last=False)
            if stat.S_ISREG(merged.attributes.getattr(node).mode):  # git follows no symbolic link here
                return merged.contents.read(node, IGNORE_FILE_READ, 0)
        return None

    return Ignorer(read, locked.vault.read_exclude())


def warn_of_excess(locked: LockedWorkspace, changed: Sequence[ChangedFile]) -> tuple[Warning, ...]:
    """Warn where what is saved exceeds a quota.

    Overlayfs stops no program; a command on it, or in a checkout, leaves such changes uncommitted for the next
    checkpoint.
    """
    quota, is_shown = locked.opened.upper.quota, locked.opened.shown_at is not None
    if quota.limits is None:
        return ()
    largest = max((change.size or 0 for change in changed), default=0)
    try:
        if is_shown:
            quota.check_present(largest)
        else:
            quota.check_held(largest)
    except QuotaExceeded as refused:
        what = "all of it is saved, and nothing may grow until files are removed"
        if is_shown:
            what = "overlayfs, which shows the fork since before it had the quota, stops no program: mount it anew"
        return (Warning("checkpoint.over_quota", f"{refused.message}; {what}"),)
    except (HostError, OSError):  # the next checkpoint counts, and warns
        return ()
    return ()

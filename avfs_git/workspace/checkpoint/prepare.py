"""What a capture of a workspace starts from: its limits and rules, which paths are tracked, and what is beside history.

Called by each operation that captures, with the workspace locked. How the changed paths are found and how many rounds are made is
for the workspace's mode (`opened.mode`).
"""

from __future__ import annotations

import contextlib
import stat

from avfs_git.gitstore.formats.trees import EMPTY_TREE
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.rules.ignore import IGNORE_FILE_READ, Ignorer
from avfs_git.gitstore.source import ObjectSink
from avfs_git.model import Warning
from avfs_git.paths import TreePath, join
from avfs_git.vfs.scan.scan import DirtySet
from avfs_git.vfs.scan.statcache import Fingerprints
from avfs_git.workspace.capture.capture import Capture, Captured, SidecarLimits
from avfs_git.workspace.capture.placing import Standing
from avfs_git.workspace.capture.requests import CHANGED, CaptureRequest
from avfs_git.workspace.checkpoint.staged import StagedPaths
from avfs_git.workspace.opened.workspace import LockedWorkspace, OpenWorkspace
from avfs_git.workspace.vault.vault import OpenVault


def capture_workspace(locked: LockedWorkspace, sink: ObjectSink, request: CaptureRequest = CHANGED) -> Captured:
    """Turn the workspace into trees, whose objects go to a sink. Reads only what changed since the last capture."""
    opened = locked.opened
    cache = None if request.afresh else opened.cache
    # What is tracked stays so also where the cache, which knows it else, is gone.
    last = locked.head()[1] if cache is None else None
    head = last if request.index is None else None
    before = cache.tree if cache is not None else opened.lower.root.tree
    tracked = (head.tree if head is not None else request.index) or before or EMPTY_TREE
    recorded = locked.vault.sidecar_tree(last) if last is not None and last.sidecar is not None else opened.synced_trees()[1]
    standing = Standing(
        tuple(dict.fromkeys(oid for oid in (recorded, request.beside) if oid is not None)),
        request.added,
        StagedPaths(locked.vault, locked.fork).holds,
    )
    limits = _read_limits(locked.vault)

    def make(compared: Fingerprints | None, postponed: DirtySet | None) -> Capture:
        return Capture(
            opened.mode.read_upper(),
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

    lasts = not isinstance(sink, DryWriter)
    captured = opened.mode.capture(make, opened.cache, lasts=lasts, afresh=request.afresh, flush=opened.flush_pages)
    captured.warnings += warn_of_state(opened)
    return captured


def _read_limits(vault: OpenVault) -> SidecarLimits:
    settings = vault.config.read()
    exclude = settings["sidecar.exclude"]
    return SidecarLimits(
        max_file_bytes=int(settings["sidecar.max_file_bytes"]) or None,
        exclude=Ignorer(lambda _: None, exclude.encode()) if exclude else None,
    )


def warn_of_state(opened: OpenWorkspace) -> list[Warning]:
    """Say what is special about the state that is read."""
    warnings = [Warning("workspace.recovered", text) for text in opened.state.recovered]
    if opened.looks_on and (opened.lock.session is None or opened.lock.is_operating):
        holder = opened.lock.holder()
        who = holder.describe() if holder is not None else "another process"
        warnings.append(Warning("workspace.in_use", f"fork '{opened.fork}' is in use by {who}; this is what is there now"))
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

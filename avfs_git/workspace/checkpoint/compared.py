"""A capture, compared with the head of its fork.

Decided here: what counts as changed since the head, in history and beside it. Called by all that save, restore, merge
or show a workspace, with its lock held. Reads files and objects; `sink` gets what is new, and the caller decides what
becomes of it: a crash leaves nothing.
"""

from __future__ import annotations

from avfs_git.gitstore.compare.treediff import diff_trees, sizes_here
from avfs_git.gitstore.formats.commits import Commit
from avfs_git.gitstore.formats.trees import EMPTY_TREE
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import ChangedFile
from avfs_git.paths import Oid
from avfs_git.values import value_class
from avfs_git.workspace.capture.captured import Captured
from avfs_git.workspace.capture.requests import CHANGED, CaptureRequest
from avfs_git.workspace.capture.sidecardiff import diff_sidecars
from avfs_git.workspace.checkpoint.prepare import adopt_submodules, capture_workspace
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.sidecars.kept import find_kept, find_sidecar
from avfs_git.workspace.vault.states import Trees, tree_of


@value_class
class Compared:
    """A capture, compared with the head of its fork."""

    captured: Captured
    head: Oid | None
    commit: Commit | None
    was: Trees
    """What it was compared with: the tree of the head, and the sidecar tree that was recorded there."""
    changed_files: tuple[ChangedFile, ...]
    sidecar_changed: tuple[ChangedFile, ...]

    @property
    def is_unchanged(self) -> bool:
        """Whether the head records it already."""
        return self.head is not None and not self.changed_files and not self.sidecar_changed

    def lacks_sidecar(self, source: ObjectSource) -> bool:
        """Whether the head is a commit of git's, without a sidecar, and the workspace has files for one.

        Costs reading these.

        A label on such a head needs a commit of avfs: the log, which knows these files, may be gone, or be in another
        vault.
        """
        is_gits = self.commit is not None and self.commit.sidecar is None
        return is_gits and bool(diff_sidecars(source, None, self.captured.sidecar))


def compare_workspace(
    locked: LockedWorkspace,
    sink: PackWriter | DryWriter,
    request: CaptureRequest = CHANGED,
    *,
    captured: Captured | None = None,
    onto: Oid | None = None,
) -> Compared:
    """Capture the workspace, unless it was, and compare it with the head of its fork, or with the commit `onto`."""
    before = locked.opened.synced_trees()[1]
    head, commit = locked.head() if onto is None else (onto, locked.vault.store.read_commit(onto))
    if captured is None:
        captured = capture(locked, sink, request, onto=commit)
    is_here = sizes_here(sink)

    def size_of(oid: Oid) -> int | None:
        known_size = captured.sizes.get(oid)
        return is_here(oid) if known_size is None else known_size

    tree = tree_of(commit) if commit else None
    changed = diff_trees(sink, tree, captured.tree, size_of=size_of)
    recorded = recorded_sidecar(locked, head, commit)
    if recorded == before and not captured.sidecar_touched:
        sidecar_changed = []
    else:
        sidecar_changed = diff_sidecars(sink, recorded, captured.sidecar)
    return Compared(captured, head, commit, (tree, recorded), tuple(changed), tuple(sidecar_changed))


def capture(
    locked: LockedWorkspace,
    sink: PackWriter | DryWriter,
    request: CaptureRequest = CHANGED,
    *,
    onto: Commit | None = None,
) -> Captured:
    """Capture the workspace: the head, or the commit `onto`, says which files are tracked."""
    commit = onto or locked.head()[1]
    captured = capture_workspace(locked, sink, request, committed=commit.tree if commit is not None else EMPTY_TREE)
    if request.index is not None:
        captured.tree = adopt_submodules(sink, captured.tree, request.index)
    return captured


def recorded_sidecar(locked: LockedWorkspace, oid: Oid | None, commit: Commit | None) -> Oid | None:
    """Find the sidecar tree to compare a workspace with, at its head or at another commit.

    At its head that is what the fork has kept, wherever git has moved it; so at any commit of git's: it has no sidecar.
    """
    opened, vault = locked.opened, locked.vault
    if oid is None or commit is None:
        return opened.synced_trees()[1]
    if commit.sidecar is None or oid == vault.read_head(locked.fork):
        kept = find_kept(vault, locked.fork, oid)
        if kept is not None and opened.cache is not None and kept.commit == oid == opened.cache.commit:
            return opened.cache.sidecar
        sidecar = kept.sidecar if kept is not None else None
    else:
        sidecar = find_sidecar(vault, locked.fork, oid)
    return vault.store.read_commit(sidecar).tree if sidecar is not None else None

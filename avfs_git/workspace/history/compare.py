"""Comparing states: checkpoints, forks, and a workspace as it is now.

Decided here: what the two sides of a diff are when they are not named, what a fork had beside a commit of git's, how
the content of a workspace is read without being stored, and that the attributes of the newer side count. Reads only;
costs what differs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from avfs_git.gitstore.compare.renames import detect_renames
from avfs_git.gitstore.compare.textdiff import file_diff
from avfs_git.gitstore.compare.treediff import diff_trees
from avfs_git.gitstore.formats.trees import MODE_GITLINK
from avfs_git.gitstore.merge.bases import find_merge_bases
from avfs_git.gitstore.rules.attributes import TreeAttributes, read_info_attributes
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import ChangedFile, Diff, FileDiff, ForkStat
from avfs_git.paths import Oid, TreePath, lines_given, oid_of
from avfs_git.workspace.capture.sidecardiff import diff_sidecars
from avfs_git.workspace.checkpoint.compared import recorded_sidecar
from avfs_git.workspace.merge.preview import Preview
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.sidecars.kept import find_had
from avfs_git.workspace.vault.revisions import resolve_revision
from avfs_git.workspace.vault.vault import OpenVault

WORKSPACE = "workspace"
"""What the new side is called when it is the workspace as it is."""


def diff_workspace(
    locked: LockedWorkspace, old: str | None, *, paths: Sequence[TreePath] = (), context: int = 3, patches: bool = True
) -> Diff:
    """Compare a state, the head if none is named, with the workspace as it is.

    Raises:
        FileChanging: If a program changed a file that was to be compared.
    """
    vault = locked.vault
    writer = Preview(locked)
    compared = writer.compared
    if old is None:
        commit = compared.commit
        name = compared.head.hex() if compared.head else ""
        is_known, sidecar = True, recorded_sidecar(locked, compared.head, commit)
    else:
        oid = resolve_revision(vault, old, fork=locked.fork)
        commit, name = vault.store.read_commit(oid), oid.hex()
        is_known, sidecar = _find_beside(vault, locked.fork, oid)
    old_tree = commit.tree if commit is not None else None
    files = _diff_files(vault, writer, old_tree, compared.captured.tree, paths, context, patches=patches)
    untracked = diff_sidecars(writer, sidecar, compared.captured.sidecar) if is_known else []
    return Diff(name, WORKSPACE, files, tuple(change for change in untracked if _is_within(change.path, paths)))


def diff_commits(
    vault: OpenVault,
    old: Oid | None,
    new: Oid,
    *,
    fork: str | None,
    paths: Sequence[TreePath] = (),
    context: int = 3,
    patches: bool = True,
) -> Diff:
    """Compare two commits, or one with nothing, of a fork if there is one."""
    left = vault.store.read_commit(old) if old is not None else None
    right = vault.store.read_commit(new)
    files = _diff_files(vault, vault.store, left.tree if left else None, right.tree, paths, context, patches=patches)
    new_sidecar, untracked = vault.sidecar_tree(right), []
    if new_sidecar is not None:  # a commit that git made says nothing of what it does not track
        is_known, old_sidecar = _find_beside(vault, fork, old) if old is not None else (True, None)
        untracked = diff_sidecars(vault.store, old_sidecar, new_sidecar) if is_known else []
    return Diff(
        old.hex() if old else "",
        new.hex(),
        files,
        tuple(change for change in untracked if _is_within(change.path, paths)),
    )


def count_since_parting(vault: OpenVault, ours: Oid, theirs: Oid) -> ForkStat | None:
    """Count what one commit changed since it parted from another, as `git diff --shortstat THEIRS...OURS` does.

    Return None where the two have no merge base, or several: each gives other counts.

    Raises:
        ObjectMissing, ObjectCorrupt: If a commit or a content cannot be read.
    """
    bases = find_merge_bases(vault.store, ours, theirs)
    if len(bases) != 1:
        return None
    old, new = (vault.store.read_commit(oid).tree for oid in (*bases, ours))
    changes = _find_changes(vault, vault.store, old, new)
    attributes = TreeAttributes(vault.store, new, read_info_attributes(vault.git_dir))
    files = [file_diff(vault.store, change, context=0, text=False, attributes=attributes) for change in changes]
    return ForkStat(len(files), sum(file.additions for file in files), sum(file.deletions for file in files))


def _find_beside(vault: OpenVault, fork: str | None, at: Oid) -> tuple[bool, Oid | None]:
    """Tell whether it is known what a fork had beside a commit, and give the tree of that.

    A commit of git's has none of its own: what was last recorded before it stands for it, or what the fork began with.
    Costs a look at the commits since that.
    """
    last = find_had(vault, fork, at)
    found = last.sidecar if last is not None else None
    return last is not None, vault.store.read_commit(found).tree if found is not None else None


def _diff_files(
    vault: OpenVault,
    source: ObjectSource,
    old: Oid | None,
    new: Oid | None,
    paths: Sequence[TreePath],
    context: int,
    *,
    patches: bool,
) -> tuple[FileDiff, ...]:
    lines_given(context)
    if patches:
        attributes = TreeAttributes(source, new, read_info_attributes(vault.git_dir))
        changed = _find_changes(vault, source, old, new, paths)
        return tuple(file_diff(source, change, context=context, attributes=attributes) for change in changed)
    changes = detect_renames(source, diff_trees(source, old, new, paths=paths))
    return tuple(FileDiff(change, binary=False, additions=0, deletions=0) for change in changes)


def _find_changes(
    vault: OpenVault, source: ObjectSource, old: Oid | None, new: Oid | None, paths: Sequence[TreePath] = ()
) -> list[ChangedFile]:
    """Find which files differ before reading their contents: missing ones come from the promisor remote together."""
    found = diff_trees(source, old, new, paths=paths)
    vault.store.expect(oid for change in found for oid in _contents_of(change) if not source.exists(oid))
    return detect_renames(source, found)


def _contents_of(change: ChangedFile) -> Iterator[Oid]:
    sides = ((change.old_mode, change.old_oid), (change.new_mode, change.new_oid))
    return (oid_of(oid) for mode, oid in sides if oid is not None and mode != MODE_GITLINK)


def _is_within(path: bytes, paths: Sequence[TreePath]) -> bool:
    return not paths or any(other in (path, b"") or path.startswith(other + b"/") for other in paths)

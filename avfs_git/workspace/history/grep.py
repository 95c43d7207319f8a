"""Searching files: of a commit, and of a workspace as it is.

Decided here: which tree is searched, and what of the sidecar. A workspace is captured as for a comparison, and nothing of it is
stored: what is not committed is searched by the same engine, so that the result is that of a scan of the files. Reads only.
"""

from __future__ import annotations

from collections.abc import Sequence

from avfs_git.errors import PathNotFound
from avfs_git.gitstore.compare.grep import check_query, grep_tree
from avfs_git.gitstore.compare.treediff import find_differences
from avfs_git.gitstore.formats.trees import MODE_TREE, edit_tree, sort_tree
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.model import GrepFile, GrepQuery, GrepResult
from avfs_git.paths import Oid, TreePath
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.sidecar import parse_sidecar
from avfs_git.workspace.history.compare import WORKSPACE
from avfs_git.workspace.merge.preview import Preview
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.vault.states import tree_of
from avfs_git.workspace.vault.vault import OpenVault


def grep_workspace(locked: LockedWorkspace, query: GrepQuery) -> GrepResult:
    """Search a workspace as it is.

    Raises:
        InvalidInput: If the query cannot mean anything.
        PathNotFound: If nothing is at one of its paths.
        FileChanging: If a program changed a file that was to be searched.
    """
    check_query(query)
    writer = Preview(locked)
    captured = writer.taken.captured
    files = _grep(locked.vault, writer, captured.tree, captured.sidecar, query)
    return GrepResult(locked.fork, WORKSPACE, files, tuple(captured.warnings))


def grep_changed(locked: LockedWorkspace, query: GrepQuery, than: Oid) -> tuple[GrepResult, tuple[bytes, ...]]:
    """Search the files of a workspace that are not as in a stored tree; also name each path that differs from it.

    Of ignored files it searches none.

    Raises:
        InvalidInput, PathNotFound, FileChanging: As `grep_workspace`.
        TooManyFiles: If more differ than avfs walks through.
    """
    check_query(query)
    vault, writer = locked.vault, Preview(locked)
    captured = writer.taken.captured
    check_paths(writer, captured.tree, captured.sidecar, query.paths)
    differing = find_differences(writer, than, captured.tree)
    tree = edit_tree(writer, writer, None, {path: now for path, (_, now) in differing.items() if now is not None})
    files = grep_tree(vault.store, writer, tree, query) if tree is not None else []
    return GrepResult(locked.fork, WORKSPACE, tuple(files), tuple(captured.warnings)), tuple(differing)


def grep_stored(vault: OpenVault, tree: Oid, query: GrepQuery) -> list[GrepFile]:
    """Search a tree that most files of several workspaces are as in: `grep_changed` searches the others.

    Raises:
        InvalidInput: If the query cannot mean anything.
    """
    return grep_tree(vault.store, DryWriter(vault.store), tree, query)


def grep_commit(vault: OpenVault, fork: str, oid: Oid, query: GrepQuery) -> GrepResult:
    """Search the files of a commit.

    Raises:
        InvalidInput, PathNotFound: As `grep_workspace`.
    """
    check_query(query)
    commit = vault.store.read_commit(oid)
    files = _grep(vault, DryWriter(vault.store), tree_of(commit), vault.sidecar_tree(commit), query)
    return GrepResult(fork, oid.hex(), files)


def _grep(vault: OpenVault, source: DryWriter, tree: Oid | None, sidecar: Oid | None, query: GrepQuery) -> tuple[GrepFile, ...]:
    check_paths(source, tree, sidecar, query.paths)
    files = grep_tree(vault.store, source, tree, query) if tree is not None else []
    if sidecar is not None and query.ignored:
        files = sorted(
            [*files, *grep_tree(vault.store, source, _list_untracked(source, sidecar), query)], key=lambda file: file.path
        )
    return tuple(files)


def check_paths(source: DryWriter, tree: Oid | None, sidecar: Oid | None, paths: Sequence[bytes]) -> None:
    """Check that something is at each path of a state, if only what is not searched: an ignored file, an empty directory.

    Raises:
        PathNotFound: If not.
    """
    lower = LowerTree(source, tree, sidecar, default_mtime_ns=0)
    for path in paths:
        if lower.lookup(TreePath(path)) is None:
            raise PathNotFound(b"/" + path)


def _list_untracked(source: DryWriter, sidecar: Oid) -> Oid:
    """Make a tree, in memory, of the files that only a sidecar holds."""
    children, _ = parse_sidecar(source.read_tree(sidecar), sidecar)
    entries: dict[bytes, tuple[int, Oid]] = {}
    for name, entry in children.items():
        if entry.untracked:
            entries[name] = (entry.mode, _list_untracked(source, entry.oid) if entry.mode == MODE_TREE else entry.oid)
    return source.add_sorted(sort_tree(entries))  # unchecked: a nested repository has a `.git`

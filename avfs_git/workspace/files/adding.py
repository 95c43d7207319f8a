"""Putting into history what was kept beside it: `avfs add`.

Decided here: which files below some paths are meant, and that what is uncommitted is saved first, so that taking the
addition back puts these files beside history again and changes nothing else. Called with the workspace locked, in a
live tree with its guard. The files themselves are not touched; a crash leaves either the checkpoint or nothing.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Sequence
from collections.abc import Set as AbstractSet

from avfs_git.errors import PathNotFound, PathUnsuitable, quote
from avfs_git.gitstore.formats.trees import is_forbidden_name
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.rules.ignore import Ignorer
from avfs_git.model import CheckpointResult, Warning
from avfs_git.paths import ROOT, TreePath, components, join, show_path
from avfs_git.values import replace
from avfs_git.vfs.layer.lower import LowerEntry, LowerTree
from avfs_git.workspace.capture.placing import GIT
from avfs_git.workspace.capture.requests import CheckpointRequest
from avfs_git.workspace.checkpoint.checkpoint import save_checkpoint, saving_first
from avfs_git.workspace.checkpoint.compared import capture
from avfs_git.workspace.checkpoint.prepare import read_rules
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.restore.restore import is_there
from avfs_git.workspace.vault.gitmoves import check_not_under_way


def add_paths(locked: LockedWorkspace, paths: Sequence[TreePath], *, force: bool = False) -> CheckpointResult:
    """Make a checkpoint that holds what is at and below some paths. Costs what is beside history there.

    `force` adds ignored files, and repositories below a named directory.

    Raises:
        PathNotFound: If nothing is at a path.
        PathUnsuitable: If a path names a file that is ignored, without `force`, or a file that git takes into no tree.
        TooManyFiles: If more than avfs walks through is below a path.
        GitUnderWay: If git is in the middle of a rebase, merge, cherry-pick or revert there.
        MergeInProgress, FileChanging, RefConflict, LeftInForce, HostError: As `save_checkpoint`.
    """
    shown = quote(show_path(paths[0])) if len(paths) == 1 else f"{len(paths)} paths"
    text = f"save before add of {shown}"
    for path in paths:
        if not is_there(locked, path):
            raise PathNotFound(path)
    check_not_under_way(locked.vault, locked.fork)
    dry = DryWriter(locked.vault.store)  # what is refused saves nothing
    captured = capture(locked, dry)
    state = LowerTree(dry, captured.tree, captured.sidecar, default_mtime_ns=0)
    rules = read_rules(locked)
    added: set[TreePath] = set()
    for path in paths:
        if state.lookup(path) is None and _is_file(locked, path):
            what = (
                "is left out of checkpoints by the settings 'sidecar.max_file_bytes' and 'sidecar.exclude', and "
                "is in no state"
            )
            raise PathUnsuitable(b"/" + path, what)
        added |= _find_files(state, rules, path, force=force)
    with saving_first():
        saved = save_checkpoint(locked, CheckpointRequest(message=text, description=text))
    text = f"add {shown}"
    request = CheckpointRequest(kind="add", message=text, description=text, added=added, with_files=True)
    result = save_checkpoint(locked, request)
    left = [warning for warning in saved.warnings if not _is_about(warning, paths)]
    return replace(result, warnings=(*left, *result.warnings))


def _is_file(locked: LockedWorkspace, path: TreePath) -> bool:
    try:
        return stat.S_ISREG(locked.merged.attributes.getattr(locked.merged.resolve(path, follow_last=False)).mode)
    except OSError:
        return False


def _find_files(state: LowerTree, rules: Ignorer, path: TreePath, *, force: bool) -> AbstractSet[TreePath]:
    """Find the files at and below a path that are beside history and may be in it."""
    top = state.lookup(path)
    if top is None:
        raise PathNotFound(path)
    if any(is_forbidden_name(name) for name in components(path)):
        raise PathUnsuitable(b"/" + path, "cannot be in a tree of git")
    if not top.is_dir:
        if top.tracked:
            return frozenset()
        if not force and rules.is_ignored(path, is_dir=False):
            refused = PathUnsuitable(b"/" + path, "is ignored")
            refused.hint = f"Add it nevertheless with `avfs add --force {shlex.quote(os.fsdecode(b'/' + path))}`."
            raise refused
        return {path}
    found: set[TreePath] = set()
    waiting: list[tuple[TreePath, LowerEntry]] = [(path, top)]
    bound = state.bound_below(top)
    while waiting:
        here, directory = waiting.pop()
        children = state.children(directory)
        bound.meet(len(children))
        if GIT in children and here != path and not force:
            continue
        for name, child in children.items():
            there = join(here, name)
            if is_forbidden_name(name) or (child.is_dir and child.sidecar is None):
                continue  # where there is no sidecar, nothing is beside history
            if child.is_dir:
                waiting.append((there, child))
            elif not child.tracked and (force or not rules.is_ignored(there, is_dir=False)):
                found.add(there)
    return found


def _is_about(warning: Warning, paths: Sequence[TreePath]) -> bool:
    """Whether a warning says of something that is added that it is not."""
    where = warning.path
    return (
        warning.code == "capture.kept_beside"
        and where is not None
        and any(path == ROOT or (where.rstrip(b"/") + b"/").startswith(path + b"/") for path in paths)
    )

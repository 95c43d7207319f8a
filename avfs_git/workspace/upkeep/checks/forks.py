"""The forks of a vault: their workspaces, also in the trash, their git directories and the states that they begin with.

Decided here: what of a workspace is lost, in the way, or cannot be captured. What is in the way goes into the trash. A
workspace in use is noted as such. Called by the doctor.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from avfs_git.errors import AvfsError, HostError, WorkspaceBusy
from avfs_git.gitstore.formats.fullindex import read_full_index
from avfs_git.gitstore.formats.index import BadIndex, ForeignIndex
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.repofile import list_worktree_dirs, open_plain_file
from avfs_git.gitstore.worktree import list_half_made
from avfs_git.paths import fork_of_dir_name
from avfs_git.vfs.scan.statcache import StatCache
from avfs_git.workspace.capture.requests import CaptureRequest
from avfs_git.workspace.checkpoint.compared import compare_workspace
from avfs_git.workspace.forks.forks import Opener
from avfs_git.workspace.forks.trash import clear_orphan, is_lost, note_deletion, put_away
from avfs_git.workspace.opened.layers import has_lost_upper
from avfs_git.workspace.opened.refusal import find_other_owner
from avfs_git.workspace.upkeep.checks.findings import Finding, finding, fixable, removable
from avfs_git.workspace.upkeep.checks.refs import find_tree_problem, has_fork
from avfs_git.workspace.vault.format import HEADS, SIDECARS, WorkspaceLayout
from avfs_git.workspace.vault.gitmoves import PUT_AWAY, open_worktree
from avfs_git.workspace.vault.log.oprecord import REDO, RENAMED_FROM, TRASH, UNDO, OpRecord
from avfs_git.workspace.vault.vault import OpenVault

_AS_MEANT = ("capture.kept_beside", "capture.per_file")
"""What a capture remarks though nothing is missing: a file that stays beside history until added, programs at work."""
_REMEDY = "Copy it elsewhere if it matters."
_REMEDIES = {"workspace.recovered": "Look whether all is there; the next checkpoint ends this warning."}


def check_orphans(vault: OpenVault) -> Iterator[Finding]:
    """Find workspaces without a fork."""
    for fork in vault.layout.list_workspaces():
        if not has_fork(vault, fork):
            yield fixable(
                "workspace.orphan",
                f"the workspace of '{fork}' has no branch",
                "Put it into the trash of the vault.",
                lambda fork=fork: _put_orphan_away(vault, fork),  # type: ignore[misc]  # a default binds the loop's value
                lambda fork=fork: not vault.layout.workspace(fork).root.exists(),  # type: ignore[misc]  # as above
            )


def _put_orphan_away(vault: OpenVault, fork: str) -> None:
    with vault.fork_locked(fork):
        note_deletion(vault, fork)
        clear_orphan(vault, fork)


def check_worktrees(vault: OpenVault, open_workspace: Opener) -> Iterator[Finding]:
    """Find git directories of live trees that are incomplete, or whose index cannot be read."""
    for place in list_half_made(vault.git_dir):
        yield fixable(
            "worktree.half_made",
            f"'{place.relative_to(vault.git_dir)}' is incomplete: a mount was cut short, or a file damaged",
            "Complete it, if it has an index; else put it into the trash of the vault: the next mount makes it again.",
            lambda place=place: _mend_worktree(vault, open_workspace, place),  # type: ignore[misc]  # a default binds the loop's value
            lambda place=place: place not in list_half_made(vault.git_dir),  # type: ignore[misc]  # as above
        )
    for place in map(Path, list_worktree_dirs(vault.git_dir)):
        index = place / "index"
        try:
            with open_plain_file(index) as file:
                read_full_index(file.read(), place, vault.store.read_tree)
        except (FileNotFoundError, ForeignIndex):
            continue
        except (BadIndex, AvfsError, OSError) as error:
            yield finding(
                "worktree.bad_index",
                f"git's index '{index.relative_to(vault.git_dir)}' cannot be read, and gc deletes nothing: {error}",
                f"Move '{index}' elsewhere, and run `git reset` in that tree: what is staged goes, the files stay.",
                place=os.fspath(index),
            )


def _mend_worktree(vault: OpenVault, open_workspace: Opener, place: Path) -> None:
    fork = fork_of_dir_name(place.name.removesuffix("%avfs"))
    with ExitStack() as stack:
        if is_fork := has_fork(vault, fork):  # a mount that makes it whole holds the workspace
            stack.enter_context(open_workspace(fork).locked())
        if place not in list_half_made(vault.git_dir):
            return
        tree = open_worktree(vault, fork)
        if is_fork and tree.path == place and tree.has_index:  # what is staged may be nowhere else
            tree.complete(HEADS + fork)
        else:
            away = vault.layout.trash / f"{time.time_ns()}-%worktree"
            away.mkdir(parents=True)
            place.rename(away / PUT_AWAY)


def check_trash(vault: OpenVault) -> Iterator[Finding]:
    """Find deleted forks whose workspace an undo would not find any more: gc keeps it as long as the log names it."""
    deleted: dict[str, OpRecord] = {}
    passed: set[int | None] = set()
    """Operations whose outcome later ones have changed: they brought the fork back, or took it away again."""
    for record in vault.oplog.read():  # the newest first
        turned = record.target if record.kind in (UNDO, REDO) else record.id
        # a renamed one only passes through
        if turned not in passed and TRASH in record.more and RENAMED_FROM not in record.more:
            deleted.setdefault(record.fork, record)
        passed.add(turned)
    for fork, record in deleted.items():
        if not has_fork(vault, fork) and is_lost(vault, record):
            yield finding(
                "trash.missing",
                f"the workspace of the deleted fork '{fork}' is not in the trash any more, or not whole "
                f"('{record.more['trash']}')",
                "Put it back, if it was moved; without it, undoing the deletion brings back the commits only.",
                severity="warning",
            )


def check_forks(vault: OpenVault) -> Iterator[Finding]:
    """Find forks whose head or sidecar cannot be read."""
    for fork, head in vault.list_heads().items():
        try:
            commit = vault.store.read_commit(head)
            vault.store.read_tree(commit.tree)
        except AvfsError as error:
            yield finding(
                "fork.damaged",
                f"the head of '{fork}' cannot be read: {error.message}",
                f"Restore an older state of '{fork}'.",
                place=fork,
            )
            continue
        for oid in {commit.sidecar, vault.refs.list(SIDECARS + fork).get(SIDECARS + fork)} - {None}:
            assert oid is not None  # noqa: S101 - just taken out
            problem = find_tree_problem(vault, oid)
            if problem is not None:
                yield finding(
                    "sidecar.damaged",
                    f"the sidecar of '{fork}' cannot be read: {problem}",
                    "Make a new checkpoint of the fork.",
                )


def check_workspaces(vault: OpenVault, open_workspace: Opener, *, is_patient: bool) -> Iterator[Finding]:
    """Find workspaces that have lost files, or that cannot be captured whole."""
    for fork in vault.layout.list_workspaces():
        if not has_fork(vault, fork):
            continue
        layout = vault.layout.workspace(fork)
        if has_lost_upper(layout):
            yield fixable(
                "workspace.upper_lost",
                f"the workspace of '{fork}' has lost '{layout.upper}', with every file that changed since the "
                "fork began",
                "Put that directory back; else have the workspace made again, with the files as they were last "
                "recorded.",
                lambda layout=layout: _put_lost_away(vault, layout),  # type: ignore[misc]  # a default binds the loop's value
                lambda layout=layout: not has_lost_upper(layout),  # type: ignore[misc]  # as above
                severity="error",
            )
            continue
        if layout.statcache.is_file() and StatCache.load(layout.statcache) is None:
            remedy = "Remove it; the next checkpoint reads all changed files again."
            yield removable(
                "statcache.unreadable", layout.statcache, f"the stat cache of '{fork}' cannot be read", remedy
            )
        try:
            with open_workspace(fork).locked(to_read=True, is_patient=is_patient) as locked:
                compared = compare_workspace(locked, DryWriter(vault.store), CaptureRequest(skips_unreadable=True))
        except WorkspaceBusy as error:
            unseen = f"{error.message}, and was not looked at"
            yield finding("workspace.busy", unseen, "Examine it again when it is free.", severity="note")
        except AvfsError as error:
            is_closed = isinstance(error, HostError) and error.errno == errno.EACCES
            if is_closed and find_other_owner(layout) is not None:
                continue  # each works in their own, and may close it
            yield finding(
                error.code,
                f"the workspace of '{fork}' cannot be captured: {error.message}",
                error.hint or "Look at the file named.",
                place=fork,
            )
        else:
            for warning in compared.captured.warnings:
                if warning.code not in _AS_MEANT:
                    what, place = f"in '{fork}', {warning.message}", f"{fork} {warning.path!r}"
                    remedy = _REMEDIES.get(warning.code, _REMEDY)
                    yield finding(warning.code, what, remedy, severity="warning", place=place)


def _put_lost_away(vault: OpenVault, layout: WorkspaceLayout) -> None:
    with vault.fork_locked(layout.fork):
        if has_lost_upper(layout):  # else it was put back, or the workspace was made again, and has new work
            put_away(vault, layout.fork)

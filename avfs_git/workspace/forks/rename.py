"""Renaming a fork: its branch, labels, sidecars, workspace, and git's log and settings of the branch get a new name.

Decided here: what of a fork moves, and in which order. One operation in the log says it, on the new name, with what the
log says of the fork under the old one; `undo` of it is a rename back. What was done before stays in the log under the
old name, and is the fork's all the same (`log.lives`).

The order of steps, under the locks of both names and of the workspace:

1. Git's log of the branch gets a second name in the workspace: with its branch, it goes.
2. The log announces the operation; the refs of the new name are made, the branch last; those of the old name go, the
   branch first.
3. The workspace is retired and passes through the trash, under a name that the operation says, to its place
   (`origin.place_renamed`).

A failure is taken back until the workspace is in the trash. A crash in step 2 leaves the fork under the old name, under
both, or under the new one. The next process that opens it under the new name completes the rename, also after a crash
in step 3 (`origin.complete_rename`).
"""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import AvfsError, InvalidInput, LeftInForce, quote
from avfs_git.faults import reach
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.host.files.durable import host_errors
from avfs_git.model import ForkInfo
from avfs_git.paths import check_fork_name, maybe_hex
from avfs_git.workspace.checkpoint.checkpoint import check_not_merging, check_seen
from avfs_git.workspace.forks.forks import Opener, check_free
from avfs_git.workspace.forks.trash import clear_orphan, move_to_trash, name_in_trash, note_deletion
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.vault.forkinfo import fork_info
from avfs_git.workspace.vault.format import HEADS, REMOTES, SIDECARS, label_ref
from avfs_git.workspace.vault.gitmoves import open_worktree
from avfs_git.workspace.vault.log.oprecord import (
    BY,
    CAPTURED,
    FORK_RENAME,
    GIT_HEAD,
    GIT_LOG,
    RENAMED_FROM,
    SIDECAR,
    SINCE,
    TRASH,
    OpRecord,
)
from avfs_git.workspace.vault.origin import LOG_ASIDE, facts_of, place_renamed
from avfs_git.workspace.vault.vault import OpenVault


def rename_fork(vault: OpenVault, fork: str, name: str, *, open_workspace: Opener, by: str | None = None) -> ForkInfo:
    """Rename a fork. `by` is the fork at hand, where `undo` takes that back.

    Raises:
        ForkExists, InvalidName: If no fork can get the new name.
        BranchCheckedOut: If another working tree has the branch checked out.
        InvalidInput: If the fork has no checkpoint yet, or git is in the middle of a command in its live tree.
        MergeInProgress, RefConflict: If its workspace is in the middle of a merge, or has not seen what others put on
            its branch.
        HostError: If the disk refuses; the fork has its old name, unless the error says otherwise.
    """
    check_fork_name(name)
    fork_info(vault, fork)
    vault.prepare()
    more: dict[str, object] = {BY: by or fork}
    record = OpRecord(0, name, FORK_RENAME, f"rename fork {fork} to {name}", 0, more=more)
    reach("fork.renaming")
    move_fork(vault, fork, name, open_workspace, record)
    return fork_info(vault, name)


def move_fork(vault: OpenVault, fork: str, name: str, open_workspace: Opener, record: OpRecord) -> None:
    """Give a fork another name, with `record` as the line in the log, whose time, moves and facts are put in here.

    Raises:
        As `rename_fork`.
    """
    with vault.forks_locked(fork, name):
        check_free(vault, name)
        note_deletion(vault, name)  # else only the trash would know of an older fork of that name
        clear_orphan(vault, name)
        opened = open_workspace(fork)
        with opened.locked() as locked:
            check_at_rest(locked)
            changes, moves = _list_changes(vault, fork, name)
            record.created_at_ns = vault.clock_ns()  # what is older was done under the old name
            record.moves = [(move.name, maybe_hex(move.old), maybe_hex(move.new)) for move in moves]
            record.more = {**_facts(locked), **record.more, RENAMED_FROM: fork, TRASH: name_in_trash(vault, fork)}
            last = vault.oplog.find_last_state(fork)
            record.after = last.after if last is not None else None
            _put_log_aside(locked)
            try:
                vault.move_refs(changes, record, then=lambda: _move_workspace(locked, record))
            except LeftInForce:
                raise
            except BaseException:
                if vault.read_head(name) is None:  # a signal may come when the fork has its new name
                    _bring_log_back(locked)
                raise
    opened.close()


def check_at_rest(locked: LockedWorkspace) -> None:
    """Refuse a fork in the middle of something that names its branch."""
    vault, fork = locked.vault, locked.fork
    if vault.read_head(fork) is None:
        raise InvalidInput(
            f"fork {quote(fork)} has no checkpoint yet",
            hint=f"Make one first: `avfs checkpoint save --fork {shlex.quote(fork)}`.",
        )
    check_not_merging(locked)
    check_seen(locked)
    command = open_worktree(vault, fork).under_way
    if command is not None:
        hint = f"Mount it with `avfs mount {shlex.quote(fork)} DIR`, and end that there with git, as `git status` says."
        raise InvalidInput(f"git is in the middle of a {command} in the live tree of {quote(fork)}", hint=hint)


def _list_changes(vault: OpenVault, fork: str, name: str) -> tuple[list[RefChange], list[RefChange]]:
    """List the changes of refs, and those of them that the log names."""
    head, sidecar = vault.read_head(fork), vault.refs.read(SIDECARS + fork)
    labels = vault.list_labels(fork)
    wanted = {SIDECARS + name: sidecar} | {label_ref(name, label): oid for label, oid in labels.items()}
    # What an older fork of that name has left, whose branch was deleted by hand, or by a process that died then.
    found = [SIDECARS + name, *(label_ref(name, label) for label in vault.list_labels(name))]
    left = {ref: oid for ref in found if (oid := vault.refs.read(ref)) is not None}
    # They harm nothing without the branch, and the next fork of that name clears them away.
    made = [RefChange(ref, left.get(ref), oid, lasting=True) for ref, oid in wanted.items() if oid is not None]
    gone = [RefChange(ref, oid, None) for ref, oid in left.items() if wanted.get(ref) is None]
    old = [
        (HEADS + fork, head),
        (SIDECARS + fork, sidecar),
        *((label_ref(fork, label), oid) for label, oid in labels.items()),
    ]
    moves = [
        *made,
        RefChange(HEADS + name, None, head),
        *(RefChange(ref, oid, None) for ref, oid in old if oid is not None),
    ]
    return [*vault.hold(*left.values()), *gone, *moves], moves


def _facts(locked: LockedWorkspace) -> dict[str, object]:
    """Say for the log of the fork under its new name what it says of it under the old one."""
    vault, fork = locked.vault, locked.fork
    found = facts_of(locked.opened.state)
    if found["upstream"] is None:
        remotes = sorted({ref.removeprefix(REMOTES).partition("/")[0] for ref in vault.refs.list(REMOTES)})
        remote = "origin" if "origin" in remotes else remotes[0] if len(remotes) == 1 else None
        if remote is not None and vault.refs.read(f"{REMOTES}{remote}/{fork}") is not None:
            found["upstream"] = f"{remote}/{fork}"  # a branch of the same name is followed without that
    told = {fact: vault.oplog.find_last_fact(fork, fact) for fact in (SINCE, GIT_HEAD, GIT_LOG)}
    found |= {fact: value for fact, value in told.items() if value is not None}
    last = vault.oplog.find_last_state(fork)
    if last is not None:
        found[CAPTURED] = last.more.get(CAPTURED, last.created_at_ns)
        found |= {SIDECAR: last.more[SIDECAR]} if SIDECAR in last.more else {}
    return found


def _move_workspace(locked: LockedWorkspace, record: OpRecord) -> None:
    """Bring the workspace to its new place, after the refs.

    Raises:
        LeftInForce: If the disk refuses after the workspace has left its old place: the fork has its new name, and the
            next process that opens it completes the rename.
        HostError: If it refuses before.
    """
    vault, fork = locked.vault, locked.fork
    reach("fork.renamed_refs")
    with suppress(AvfsError):  # no session shows it; one that was killed may have left HEAD on the branch
        open_worktree(vault, fork).step_aside()
    with locked.opened.lock.retiring():
        move_to_trash(vault, fork, record.more[TRASH])
    try:
        place_renamed(vault, record)
    except (AvfsError, OSError) as error:
        raise LeftInForce(record.description, error, {ref: new for ref, _, new in record.moves}) from error


def _put_log_aside(locked: LockedWorkspace) -> None:
    """Give git's log of the branch a second name in the workspace."""
    log, aside = _logs(locked)
    with host_errors(f"keep git's log of '{locked.fork}'"):
        aside.unlink(missing_ok=True)  # a process died here once
        with suppress(FileNotFoundError, NotADirectoryError):
            os.link(log, aside, follow_symlinks=False)


def _bring_log_back(locked: LockedWorkspace) -> None:
    log, aside = _logs(locked)
    with suppress(OSError):
        if log.exists():
            aside.unlink(missing_ok=True)
        else:
            log.parent.mkdir(parents=True, exist_ok=True)
            os.rename(aside, log)


def _logs(locked: LockedWorkspace) -> tuple[Path, Path]:
    return locked.vault.git_dir / "logs" / (HEADS + locked.fork), locked.opened.layout.root / LOG_ASIDE

"""The trash: where the workspaces of forks go that end, and where undo finds them again.

Decided here: what a workspace is called in the trash (`TIME-FORK`), by which name it is found there, and that a
workspace is retired before it is renamed, under its own lock, after a look whether it is in use. Functions without
state. Callers hold the fork's name (`OpenVault.fork_locked`), from before they decide that the workspace has to go.

A crash before the rename leaves the workspace where it was, retired; a process that opens it while its branch is there
takes the mark back.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
from collections.abc import Iterator
from pathlib import Path

from avfs_git.errors import ForkExists, LeftInForce
from avfs_git.faults import reach
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.host.files.durable import fsync_dir, host_errors, make_dirs_durably
from avfs_git.host.locks.locks import LOCK_TIMEOUT_S, LockFile
from avfs_git.paths import fork_dir_name, oid_of
from avfs_git.workspace.opened.layers import check_unshown, has_lost_upper
from avfs_git.workspace.vault.forkinfo import find_deleted
from avfs_git.workspace.vault.format import HEADS, SIDECARS, WorkspaceLayout, label_ref
from avfs_git.workspace.vault.gitmoves import bring_git_dir_back, put_git_dir_away
from avfs_git.workspace.vault.log.oprecord import BY, FORK_DELETE, OpRecord, RefMoveRecord
from avfs_git.workspace.vault.origin import find_way_out
from avfs_git.workspace.vault.vault import OpenVault, busy

_NAME_MAX = 255
"""Bytes in a name, on all file systems of Linux that count (limits.h)."""
_TIME_MAX = 20
"""Digits of a time in nanoseconds, with the `-` behind it."""


def _name_of_fork(fork: str) -> str:
    """Name a fork in the trash: like its workspace, or by a hash where a time before that would make it too long."""
    name = fork_dir_name(fork)
    return name if len(os.fsencode(name)) <= _NAME_MAX - _TIME_MAX else hashlib.sha256(os.fsencode(name)).hexdigest()


def name_in_trash(vault: OpenVault, fork: str) -> str:
    """Name the place in the trash for a workspace that is put away now."""
    return f"{vault.clock_ns()}-{_name_of_fork(fork)}"


def is_of_fork(name: str, fork: str) -> bool:
    """Whether a workspace that has a name in the trash was of a fork of that name."""
    return name.partition("-")[2] == _name_of_fork(fork)


def clear_orphan(vault: OpenVault, fork: str, name: str | None = None) -> None:
    """Put away a workspace whose branch is gone, so that a new fork of that name does not find it.

    `name` is what `name_in_trash` gave, where that is written down. A workspace that a rename has left goes where the
    fork looks for it under its new name.

    Raises:
        ForkExists: If the workspace belongs to a fork: one without a commit yet, with written files.
        WorkspaceBusy, WorkspaceMounted: If it is in use.
    """
    layout = vault.layout.workspace(fork)
    if not layout.root.exists():
        return
    if vault.has_fork(fork) and (vault.read_head(fork) is not None or _is_written(layout)):
        raise ForkExists(fork, hint=f"Work in that one with `--fork {shlex.quote(fork)}`, or choose another name.")
    with _retired(layout):
        move_to_trash(vault, fork, name or find_way_out(vault, fork))


def put_away(vault: OpenVault, fork: str) -> None:
    """Put away a fork's damaged workspace but keep the fork: the next process that opens it makes one from the log.

    Raises:
        WorkspaceBusy, WorkspaceMounted: If it is in use.
        HostError: If the disk refuses; the workspace is where it was.
    """
    with vault.fork_locked(fork), _retired(vault.layout.workspace(fork)):
        move_to_trash(vault, fork)


def note_deletion(vault: OpenVault, fork: str) -> None:
    """Record that git deleted a fork's branch; put away its workspace, labels and sidecars; undo brings all back.

    Both `undo` on this fork and `undo` on the default fork take it back, because git does not record where it ran.
    Does nothing where the branch is there, or where the log says why it is not. Called with the fork's name locked.

    Raises:
        WorkspaceBusy, WorkspaceMounted: If the workspace is in use.
    """
    record = find_deletion(vault, fork)
    if record is None:
        return
    held = [*vault.hold(*(oid_of(old) for _, old, _ in record.moves if old is not None)), *vault.follow(fork, None)]
    vault.refs.update(list({change.name: change for change in held}.values()))
    vault.oplog.append(record)
    reach("trash.noted")
    clear_orphan(vault, fork, record.more.get("trash"))  # if it is not put away, undo finds it in its place
    vault.refs.update([RefChange(ref, oid_of(old), None) for ref, old, _ in record.moves[1:] if old is not None])


def find_deletion(vault: OpenVault, fork: str) -> OpRecord | None:
    """Make the operation that says that git has deleted a fork's branch; None if it has not, or if the log has it."""
    last = find_deleted(vault, fork)
    if last is None:
        return None
    left = {SIDECARS + fork: vault.refs.read(SIDECARS + fork)}
    left |= {label_ref(fork, label): oid for label, oid in vault.list_labels(fork).items()}
    moves: list[RefMoveRecord] = [(HEADS + fork, last.hex(), None)]
    moves += [(ref, oid.hex(), None) for ref, oid in left.items() if oid is not None]
    more: dict[str, object] = {}
    if vault.layout.workspace(fork).root.exists():
        more["trash"] = name_in_trash(vault, fork)
    default = vault.default_fork()
    if default not in (None, fork):
        more[BY] = default
    return OpRecord(0, fork, FORK_DELETE, f"delete fork {fork} with git", vault.clock_ns(), moves=moves, more=more)


def _is_written(layout: WorkspaceLayout) -> bool:
    with contextlib.suppress(FileNotFoundError), os.scandir(layout.upper) as entries:
        return next(entries, None) is not None
    return False


@contextlib.contextmanager
def _retired(layout: WorkspaceLayout) -> Iterator[None]:
    """Retire an unlocked workspace, for a block that puts it away; where that fails it is as it was."""
    with host_errors(f"lock the workspace of '{layout.fork}'"):
        lock = LockFile(layout.lock, owner="avfs")
    with lock:
        if not lock.acquire(LOCK_TIMEOUT_S):
            raise busy(layout.fork, lock)
        try:
            check_unshown(layout, lock)
            with lock.retiring():
                yield
        finally:
            lock.release()


def move_to_trash(vault: OpenVault, fork: str, name: str | None = None) -> None:
    """Move the workspace of a fork out of the way, whole; does nothing without one.

    The caller has retired it, under its lock. `name` is what `name_in_trash` gave, where that was written down before.

    Raises:
        HostError: If the disk refuses; the workspace is where it was.
    """
    root = vault.layout.workspace(fork).root
    held = vault.layout.trash / (name or name_in_trash(vault, fork))
    with host_errors(f"put away the workspace of '{fork}'"):
        make_dirs_durably(vault.layout.trash, parents=False)  # a vault that was removed does not come back
        if root.is_dir():
            put_git_dir_away(vault, fork)
        try:
            root.rename(held)
        except FileNotFoundError:
            return
        except OSError:
            bring_git_dir_back(vault, fork)
            raise
        try:
            reach("trash.moved")
            fsync_dir(vault.layout.trash)
            fsync_dir(root.parent)
        except BaseException as error:
            try:
                held.rename(root)
            except OSError as again:
                raise LeftInForce(f"put away the workspace of '{fork}'", again, {}) from error
            bring_git_dir_back(vault, fork)
            raise


def take_from_trash(vault: OpenVault, fork: str, name: str) -> str:
    """Move a workspace back to its place, and tell the name that it had in the trash; "" if it is not there any more.

    It stays retired until `bring_into_use`, after its branch is there. Without a `name`, none is looked for.

    Raises:
        WorkspaceBusy, WorkspaceMounted, ForkExists: As `clear_orphan`, where another one is in its place.
        HostError: If the disk refuses; the workspace is where it was.
    """
    root = vault.layout.workspace(fork).root
    held = _find_in_trash(vault, fork, name)
    if held is None:
        return ""  # or it is in its place: an undo died
    clear_orphan(vault, fork)
    with host_errors(f"bring back the workspace of '{fork}'"):
        os.rename(held, root)
        try:
            reach("trash.left")
            fsync_dir(root.parent)
        except BaseException:
            # what stays is put into the trash by the next process that needs the name
            with contextlib.suppress(OSError):
                os.rename(root, held)
            raise
    return held.name


def is_lost(vault: OpenVault, record: OpRecord) -> bool:
    """Tell whether the workspace that an operation has put into the trash is neither there whole nor in its place."""
    name = record.more.get("trash")
    if not isinstance(name, str) or vault.layout.workspace(record.fork).root.exists():
        return False
    place = _find_in_trash(vault, record.fork, name)
    if place is None:
        return True
    layout = WorkspaceLayout(place, record.fork)
    return not os.path.lexists(layout.state) or has_lost_upper(layout)


def _find_in_trash(vault: OpenVault, fork: str, name: str) -> Path | None:
    """Find a workspace in the trash by the name it got there, or else by that of its fork.

    An undo may have died after it took the workspace out, and another process that needed the fork's name put it away
    once more: after the time in `name`, before any later workspace of that fork, and under a name that no line of the
    log has.
    """
    trash = vault.layout.trash
    if "/" in name or (name and _time_of(name) is None):
        return None  # no name that avfs gives: a log that a stranger wrote could lead anywhere
    if not name or (trash / name).is_dir():
        return trash / name if name else None
    since_ns = _time_of(name)
    ended = {record.more.get("trash") for record in vault.oplog.read_fork(fork)}
    with host_errors(f"read '{trash}'"):
        found = [place for place in trash.iterdir() if place.is_dir()] if trash.is_dir() else []
    again = [
        place
        for place in found
        if is_of_fork(place.name, fork) and place.name not in ended and (_time_of(place.name) or 0) > (since_ns or 0)
    ]
    return min(again, key=lambda place: _time_of(place.name) or 0, default=None)


def _time_of(name: str) -> int | None:
    """Tell when a workspace was put into the trash, in nanoseconds; None if its name does not say it."""
    text = name.partition("-")[0]
    return int(text) if text.isascii() and text.isdigit() else None


def bring_into_use(vault: OpenVault, fork: str) -> None:
    """Let a workspace be used again that came from the trash: its branch is there."""
    layout = vault.layout.workspace(fork)
    with host_errors(f"bring back the workspace of '{fork}'"), contextlib.suppress(FileNotFoundError):
        if layout.root.is_dir():
            with LockFile(layout.lock, owner="avfs") as lock:
                lock.retire(retired=False)

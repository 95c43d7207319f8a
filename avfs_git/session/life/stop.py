"""Ending a session from outside: unmounting, detaching, cutting off.

Decided here: how hard a mount is taken away, and what is waited for. Any process and thread of a user who may unmount
calls it; the process of the session notices and cleans up after itself. When a plain end returns, the workspace is
free, and so is the place of its base if it was the last user.

- Plain: only if no program uses the tree, as `umount` does; programs that use it are named. Programs in other mount
  namespaces have the mount under their own and do not count: for them it is the lazy way.
- Lazy: it is out of sight at once. Programs that use it go on, and the session with them, until they are done.
- Force: the same, and then it is taken from them: what they do next in the tree fails. What they wrote before is kept,
  except pages that the kernel still had to write back. A mount of overlayfs cannot be taken from programs: there force
  is as plain.
"""

from __future__ import annotations

import errno
import os
import shlex
import signal
import time
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import MountBusy, MountError, SessionFailed, quote
from avfs_git.host.files.plainfile import read_plain
from avfs_git.host.mounts import mounts
from avfs_git.host.mounts.mounts import Mounted, cut_off, detach, find_mount, hold_conversation, unmount
from avfs_git.host.processes.copies import describe_copies, find_copy_users, find_users, is_copy, remove_copies
from avfs_git.host.processes.processes import send_signal
from avfs_git.model import UnmountOutcome
from avfs_git.session.life.mountsource import is_ours, vault_of_source
from avfs_git.session.life.record import FoundSession, has_ended, is_dead, list_sessions
from avfs_git.session.life.users import is_unused

_PATIENCE_S = 0.3
"""How long a mount in use is tried again: indexers and shells touch every mount, and let go of it."""
_END_S = 15.0
"""How long a session may take to end once it is unused: it finishes what it has begun."""
_LAZY_S = 0.5
_BASE_S = 2.0
"""How long a base may take to end after its last user.

With a program in it, or a server that is stopped, it takes longer.
"""
_COPIES_AFTER_S = 1.0
"""When to look for users in other mount namespaces; without any, the session ends sooner."""
_COPIES_SOON_S = 0.1
_SIGNALS_APART_S = 1.2
"""More than what a session takes for one signal, see `process`."""


def end_session(session: FoundSession, *, lazy: bool = False, force: bool = False) -> tuple[UnmountOutcome, list[str]]:
    """Take a mount away.

    `lazy`: also while programs use it. `force`: also then, and without waiting for them.

    Returns:
        `unmounted`, `detached` or `cut_off`, and the programs that used it.

    Raises:
        MountBusy: If programs use it; it stays as it is.
        MountCovered: If another mount stands over it, or in it; both stay.
        MountError: If this user may not, or, unless by force, if the tree is also mounted at another directory; it
            stays at both.
        SessionFailed: If the process of the session does not end.
    """
    mounts = session.find_mounts()
    mounted = mounts[0] if mounts else None
    is_vain = force and session.record.upper is not None
    if is_vain:
        # The kernel takes this kind of mount from no program: the error names the programs that have to end.
        lazy = force = False
    if not force:
        _refuse_second_place(mounts)
    # Before it goes: afterwards its number may be that of another mount.
    conversation = hold_conversation(mounted) if force and mounted is not None else None
    try:
        return _end(session, mounted, conversation, lazy=lazy, force=force)
    except MountBusy as error:
        if is_vain:
            error.refuse_force()
        raise
    finally:
        if conversation is not None:
            os.close(conversation)


def _refuse_second_place(found: list[Mounted]) -> None:
    """Refuse to unmount one of the places at which a tree is mounted: its session would go on at the others."""
    if len(found) > 1:
        place, other = (os.fspath(mounted.directory) for mounted in (found[0], found[-1]))
        raise MountError(
            f"the tree at {quote(place)} is also mounted at {quote(other)}",
            hint=f"Unmount that one first with `umount {shlex.quote(other)}`, then try again.",
            details={"path": place, "other": other},
        )


def _end(
    session: FoundSession, mounted: Mounted | None, conversation: int | None, *, lazy: bool, force: bool
) -> tuple[UnmountOutcome, list[str]]:
    users: list[str] = []
    if mounted is not None:
        users = _unmount(mounted, lazy=lazy or force)
        if force and session.find_mounts():
            _cut_off(session, conversation)
            return "cut_off", users
    elif not session.is_visible:
        _signal(session)
    if not users and mounted is not None:
        users = _await_end(session, _END_S, mounted)
        if users and force:
            _cut_off(session, conversation)
            return "cut_off", users
        if users:
            return "detached", users
    elif _has_ended_within(session, _LAZY_S if session.is_visible else _END_S):
        pass  # its last user was done
    elif not force:
        return "detached", users
    else:
        _cut_off(session, conversation)
        return "cut_off", users
    if session.record.upper is not None:
        # clears up after one that had no process any more to do so
        for left in list_sessions(session.place.root.parent):
            if left.is_base and left.is_visible:
                _await_base(left)
    return "unmounted", users


def _await_base(base: FoundSession) -> None:
    """Wait until a base without users is gone, so that what holds the vault can be removed or unmounted."""
    end = time.monotonic() + _BASE_S
    while base.find_mount() is not None and is_unused(base.place) and time.monotonic() < end:
        time.sleep(0.005)
    if base.find_mount() is None:  # its process ends now, unless other mount namespaces have a copy of it
        _has_ended_within(base, _COPIES_SOON_S)


def _unmount(mounted: Mounted, *, lazy: bool) -> list[str]:
    end = time.monotonic() + (0 if lazy else _PATIENCE_S)
    while not _is_unmounted(mounted):
        if time.monotonic() >= end:
            break
        time.sleep(0.02)
    else:
        return []
    users = find_users(mounted)
    if not lazy:
        raise MountBusy(os.fspath(mounted.directory), users)
    _is_unmounted(mounted, lazy=True)
    return users or ["a program of another user"]


def _is_unmounted(mounted: Mounted, *, lazy: bool = False) -> bool:
    """Try to take a mount away; tell whether it is gone, also where another process was faster."""
    try:
        unmount(mounted, lazy=lazy)
    except MountError as error:
        if error.details.get("errno") not in (errno.EINVAL, errno.EBUSY):
            raise
        return error.details["errno"] == errno.EINVAL
    return True


def _signal(session: FoundSession) -> None:
    record, place = session.record, session.place
    if is_dead(place):  # the record names a process that is another one by now, or was never this session
        return
    with suppress(OSError):  # the session has ended
        owner = os.lstat(place.record).st_uid
        # The record of a user's session must not lead root to another user's process.
        if owner in (os.geteuid(), os.stat(f"/proc/{record.pid}").st_uid):
            send_signal(record.pid, record.process_started, signal.SIGTERM)


def _cut_off(session: FoundSession, conversation: int | None) -> None:
    if conversation is not None and cut_off(conversation) and _has_ended_within(session, _END_S):
        return
    end = time.monotonic() + _END_S
    while time.monotonic() < end:  # where a process gets little done, two that it sees late count as one
        _signal(session)
        if _has_ended_within(session, _SIGNALS_APART_S):
            return
    _await_end(session, _SIGNALS_APART_S)


def _has_ended_within(session: FoundSession, seconds: float) -> bool:
    end = time.monotonic() + seconds
    pause_s = 0.001
    while not has_ended(session.place):
        if time.monotonic() >= end:
            return False
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.05)
    return True


def _await_end(session: FoundSession, seconds: float, mounted: Mounted | None = None) -> list[str]:
    """Wait for the end.

    Given the mount, which is gone from here, only until users of it elsewhere are found, and list them.
    """
    if mounted is not None and session.record.upper is not None and not _has_ended_within(session, _COPIES_SOON_S):
        remove_copies(lambda found: is_copy(found, mounted))  # as its process does, if it has one
    if mounted is not None and not _has_ended_within(session, _COPIES_AFTER_S):
        users = find_copy_users(mounted)
        if users == [] and session.record.upper is not None and not _has_ended_within(session, _COPIES_AFTER_S):
            users = describe_copies(mounted)  # unused there, and it cannot be taken away there
        if users:
            return users
    if not _has_ended_within(session, seconds):
        try:
            said = read_plain(session.place.log).decode("utf-8", "replace")
        except OSError:
            said = ""
        raise SessionFailed(f"the process of the session (pid {session.record.pid}) does not end", said[-10_000:])
    return []


def end_unrecorded(mounted: Mounted, *, lazy: bool) -> tuple[UnmountOutcome, list[str]]:
    """Take a mount of ours away whose session has no record that can be read; its process is not waited for.

    Returns:
        As `end_session`; the mount is taken from no program that uses it.

    Raises:
        MountBusy, MountCovered, MountError: As `end_session`.
    """
    users = _unmount(mounted, lazy=lazy)
    return "detached" if users else "unmounted", users


def clear_dead_mount(directory: Path) -> bool:
    """Detach a mount of ours at a directory whose server is gone, and whose vault too; tell whether there was one."""
    found = find_mount(directory)
    if found is None or not is_ours(found) or not (_is_homeless(found) or mounts.is_dead(directory)):
        return False
    detach(found)
    return True


def _is_homeless(mounted: Mounted) -> bool:
    """Whether the kernel shows a workspace whose vault was removed."""
    vault = vault_of_source(mounted.source)
    return mounted.kind == "overlay" and vault is not None and not vault.exists()


def find_sessions(sessions: Path, *, fork: str | None = None, session_id: str | None = None) -> list[FoundSession]:
    """Find the sessions of a vault that live: of a fork, the one that serves its workspace first."""
    found = [
        session
        for session in list_sessions(sessions)
        if (fork is None or session.record.fork == fork) and (session_id is None or session.record.id == session_id)
    ]
    return sorted(found, key=lambda session: not session.is_workspace)

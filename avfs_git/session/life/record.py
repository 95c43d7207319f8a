"""The records of a vault's sessions: writing them, finding which sessions live, and cleaning up after dead ones.

Decided here: `avfs/sessions/ID/` (docs/design/format.md is the normative text), when a session is alive, and what is
done about a dead one. A session holds a flock on its `lock` from before its first step until after its last; a process
that can have that lock has met a dead one. So neither a process ID that was given again nor another boot can deceive.
The process of a session calls `begin`; all others call `list_sessions`, which cleans up: it detaches the mount, removes
the directories that were made for it, and then the record, so that a cleaner that dies is followed by the next.

A mount of overlayfs needs no process: programs go on when its session died. It is left as it is, and its session is
*unattended* until another process attends to it (`take_over`), or its last user is done.

Making a session and cleaning up are done under the flock on `guard`: else a session that has made its directory and not
yet taken its lock would look dead.

Functions without state, from any thread or process. Nothing is forced to disk: no session outlives the machine.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from avfs_git.errors import HostError, MountError, NotWritable, SessionEnding, SessionFailed, WorkspaceBusy
from avfs_git.faults import reach
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import find_refusal, host_errors, write_file_atomically
from avfs_git.host.files.modes import make_dir, mode_below, open_file
from avfs_git.host.files.plainfile import open_plain
from avfs_git.host.locks.flocks import held
from avfs_git.host.mounts.mounts import Mounted, detach, list_mounts
from avfs_git.host.processes.boot import read_boot_id
from avfs_git.host.processes.processes import list_stopped, start_time
from avfs_git.model import BASES, SessionBackend, SessionInfo, SessionState
from avfs_git.patterns import compiled
from avfs_git.session.life.mountsource import session_of_source, vault_of_source
from avfs_git.session.life.places import SessionPlace, make_sessions
from avfs_git.values import as_dict, replace, value_class

_LOGS_KEPT = 10
_RECORD_MAX = 1 << 20
_UPPER = compiled(r"\.\./workspaces/[^/]+/upper")
"""Where the upper layer of a session of this vault is; a record cannot name another vault's."""
_PAUSE_S = 0.02
_STOPPED_LOOKS = 5
_UNATTENDED_S = 0.2
"""How often to check whether a mount that no process attends to is gone."""
_DIRECTORY_S = 1.0
"""How long to wait for a session of which only the directory is wanted."""


@value_class
class SessionRecord:
    """What a session says of itself."""

    id: str
    fork: str
    directory: str
    """Where it is mounted; what is not UTF-8 in it stands as surrogates."""
    readonly: bool
    at: str | None
    """The commit that is shown; None for the workspace."""
    made: tuple[str, ...]
    """Directories that were made for the mount, the outermost first; they go with it."""
    state: SessionState
    pid: int
    process_started: int
    """When that process started, in ticks since the boot."""
    boot: str
    namespace: int
    """The mount namespace: only in there is the mount seen."""
    started_at_ns: int
    lock_inode: int
    """That of the file `lock` beside it; a record in a copy of a vault has another one there."""
    backend: str = SessionBackend.FUSE.value
    backend_reasons: tuple[str, ...] = ()
    upper: str | None = None
    """The upper layer that the kernel writes to by itself, from the directory of all sessions.

    None where a process serves it.
    """


class FoundSession:
    """A session as others see it: its record, and where its files are."""

    def __init__(self, place: SessionPlace, record: SessionRecord) -> None:
        self.place = place
        self.record = record

    @property
    def directory(self) -> Path:
        """Where it is mounted."""
        return Path(self.record.directory)

    @property
    def is_workspace(self) -> bool:
        """Whether it serves the workspace itself, for reading and writing."""
        return not self.record.readonly

    @property
    def is_base(self) -> bool:
        """Whether avfs made it for overlayfs, to show the commit below a fork."""
        return self.record.at is not None and self.directory.parent.name == BASES

    @property
    def is_visible(self) -> bool:
        """Whether its mount, if there is one, is seen by this process: not if it is in another mount namespace."""
        return self.record.namespace == _mount_namespace()

    def find_mount(self) -> Mounted | None:
        """Find its mount; None if it is not mounted, or not visible."""
        return next(iter(self.find_mounts()), None)

    def find_mounts(self) -> list[Mounted]:
        """List its mounts, that of the session first: other programs may have bound the tree to further directories."""
        return [mount for mount in list_mounts() if _shows(mount, self.place)]

    def state(self) -> SessionState:
        """Give its state; one that was detached, and that programs still use, is unmounting."""
        if self.record.upper is not None and is_dead(self.place):  # it was listed because its mount is there
            return SessionState.UNATTENDED if not self.is_visible or self.find_mount() else SessionState.UNMOUNTING
        state = self.record.state
        if state == SessionState.MOUNTED and self.is_visible and self.find_mount() is None:
            return SessionState.UNMOUNTING
        return state

    def check_awake(self, fork: str) -> None:
        """Refuse to show a fork by a session whose process is stopped: each look into its mount would wait for it.

        Raises:
            WorkspaceBusy: If it is.
        """
        for left in reversed(range(_STOPPED_LOOKS)):  # a debugger stops a process for an instant at each call
            stopped = list_stopped(self.record.pid)
            if not stopped:
                return
            if left:
                time.sleep(_PAUSE_S)
        base = self.record.at
        which = f", which shows its base {base[:12]} and" if base is not None else ", which"
        raise WorkspaceBusy(
            fork, f"session {self.record.id}{which} does not answer", pid=self.record.pid, stopped=stopped
        )

    def info(self, vault: str) -> SessionInfo:
        """Describe it to callers."""
        record = self.record
        return SessionInfo(
            id=record.id,
            vault=vault,
            fork=record.fork,
            directory=self.directory,
            state=self.state(),
            readonly=record.readonly,
            pid=record.pid,
            started_at_ns=record.started_at_ns,
            at=record.at,
            backend=SessionBackend(record.backend),
            backend_reasons=record.backend_reasons,
        )


def _mount_namespace() -> int:
    try:
        return os.stat("/proc/self/ns/mnt").st_ino
    except OSError:
        return 0


def _shows(mounted: Mounted, place: SessionPlace) -> bool:
    """Whether a mount is that of a session.

    A stranger's vault may hold a record under the id of another vault's session.
    """
    if session_of_source(mounted.source) != place.id:
        return False
    vault, sessions = vault_of_source(mounted.source), place.root.parent
    try:
        found = os.stat(vault / "avfs") if vault is not None else None
    except OSError:  # it was moved
        return True
    return found is None or os.path.samestat(found, os.stat(sessions.parent))


class HeldSession:
    """A session as its own process has it: with its lock.

    Attributes:
        record: What it says of itself; `write` changes it.
    """

    def __init__(self, place: SessionPlace, record: SessionRecord, lock_fd: int) -> None:
        self.place = place
        self.record = record
        self.lock_fd = lock_fd

    def write(self, state: SessionState, *, made: tuple[str, ...] | None = None) -> None:
        """Write down its state."""
        self.record = replace(self.record, state=state, made=self.record.made if made is None else made)
        _write(self.place, self.record)

    def move_here(self) -> None:
        """Write down that this process keeps it from now on."""
        pid = os.getpid()
        self.record = replace(read_record(self.place) or self.record, pid=pid, process_started=start_time(pid) or 0)
        _write(self.place, self.record)

    def is_there(self) -> bool:
        """Whether its lock is where it was made: not if the vault was removed or moved."""
        try:
            found = os.lstat(self.place.lock)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:  # a disk that cannot tell says nothing about the vault
            return os.fstat(self.lock_fd).st_nlink > 0
        return os.path.samestat(found, os.fstat(self.lock_fd))

    def attend(self) -> bool:
        """Do what `is_there` does; write the record again if it is not as this process wrote it: others need it."""
        if not self.is_there():
            return False
        if read_record(self.place) != self.record:
            with suppress(HostError):
                _write(self.place, self.record)
        return True

    def end(self, *, keep_log: bool) -> None:
        """Remove everything on disk and give up the lock.

        Fails at nothing: what stays is cleaned up by the next one.
        """
        _discard(self.place, keep_log=keep_log)
        reach("session.discarded")
        with suppress(OSError):
            fcntl.flock(self.lock_fd, fcntl.LOCK_UN)  # for processes that share it: the server
            os.close(self.lock_fd)


def begin(
    sessions: Path,
    *,
    fork: str,
    directory: Path,
    readonly: bool,
    at: str | None,
    backend: str = SessionBackend.FUSE.value,
    backend_reasons: tuple[str, ...] = (),
    upper: Path | None = None,
) -> HeldSession:
    """Write down that a session starts, and take its lock.

    Raises:
        NotWritable: If the vault may only be read.
    """
    with host_errors(f"make a session in '{sessions}'"):
        refused = find_refusal(sessions)
        if refused is not None:
            raise NotWritable(f"make a session in '{sessions}'", refused)
        make_sessions(sessions)
        with _guarded(sessions):
            while True:
                place = SessionPlace(sessions, os.urandom(4).hex())
                make_sessions(sessions)  # the end of another one may have removed it
                with suppress(FileExistsError, FileNotFoundError):
                    os.mkdir(place.root, 0o700)
                    break
            try:
                fd = os.open(place.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                reach("session.made")
                # Open to the group for reading only: what is in it counts as this user's own, a record or a socket.
                os.chmod(place.root, 0o700 | mode_below(sessions) & (stat.S_ISGID | 0o050))
                fcntl.flock(fd, fcntl.LOCK_EX)  # waits only for a process that checks whether it is taken
                pid = os.getpid()
                record = SessionRecord(
                    id=place.id,
                    fork=fork,
                    directory=os.fspath(directory),
                    readonly=readonly,
                    at=at,
                    made=(),
                    state=SessionState.STARTING,
                    pid=pid,
                    process_started=start_time(pid) or 0,
                    boot=read_boot_id(),
                    namespace=_mount_namespace(),
                    started_at_ns=time.time_ns(),
                    lock_inode=os.fstat(fd).st_ino,
                    backend=backend,
                    backend_reasons=backend_reasons,
                    upper=os.path.relpath(upper, sessions) if upper is not None else None,
                )
                _write(place, record)
                reach("session.recorded")
            except BaseException:
                _discard(place, keep_log=False)
                raise
    return HeldSession(place, record, fd)


def take_over(place: SessionPlace, fork: str) -> HeldSession:
    """Be the process of a session whose process died, and whose mount is there.

    Raises:
        SessionEnding: If another process took it over, or it is over.
        SessionFailed: If its record cannot be read.
    """
    with host_errors(f"take over the session {place.id}"), _guarded(place.root.parent):
        try:
            fd = open_plain(place.lock, os.O_RDWR)
        except FileNotFoundError:
            raise SessionEnding(fork, "a session that ended") from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            record = read_record(place)
            if record is None:
                raise SessionFailed(f"the record of session {place.id} cannot be read", "")
            held = HeldSession(place, record, fd)
            held.move_here()
        except BlockingIOError:
            os.close(fd)
            raise SessionEnding(fork, "a session that another process takes over", pid=None) from None
        except BaseException:
            os.close(fd)
            raise
    return held


def list_shown(sessions: Path) -> set[str]:
    """Name the commits that sessions show, also those of other members of a shared vault: `gc` keeps them."""
    shown = {found.record.at for found in list_sessions(sessions)}
    for place in _list_places(sessions):
        record = read_record(place, is_own=False)
        if record is not None and record.boot == read_boot_id():
            shown.add(record.at)
    return {at for at in shown if at is not None}


def list_sessions(sessions: Path) -> list[FoundSession]:
    """List the sessions that live, the oldest first, and clean up after those that died."""
    found, dead = _look(sessions)
    for left in found:
        if left.record.upper is not None and left.state() == SessionState.UNMOUNTING and is_dead(left.place):
            from avfs_git.host.processes.copies import remove_copies  # noqa: PLC0415 - only after a death

            # Its mount was taken away here, and it has no process that would do so elsewhere.
            remove_copies(lambda mounted, place=left.place: _shows(mounted, place))  # type: ignore[misc]
    if dead:
        with suppress(OSError), _guarded(sessions):  # where nothing may be written, nothing is cleaned up
            for place in _look(sessions)[1]:
                _clean_up(place)
    return sorted(found, key=lambda session: session.record.started_at_ns)


def find_workspace_session(sessions: Path, fork: str) -> FoundSession | None:
    """Find the session that serves the workspace of a fork."""
    return next(
        (
            found
            for found in list_sessions(sessions)
            # One that has ended is about to remove its record, and has given the workspace back.
            if found.is_workspace and found.record.fork == fork and found.record.state != SessionState.ENDED
        ),
        None,
    )


def await_ending(sessions: Path, *, fork: str, directory: Path | None, timeout_s: float) -> FoundSession | None:
    """Wait for sessions whose mount is gone and that are about to end; those that live are left alone.

    The session that serves the workspace of `fork` has to give it back. What was mounted at `directory` may be about to
    remove the directory; it is not waited for for long, because it may as well be in use.

    Returns:
        The session of the workspace, if it did not end in time; else None.
    """
    began = time.monotonic()
    while True:
        ending = [
            found
            for found in list_sessions(sessions)
            if ((found.is_workspace and found.record.fork == fork) or found.directory == directory)
            and found.state() in (SessionState.UNMOUNTING, SessionState.ENDED)
        ]
        # One that has ended has given the workspace back.
        holding = (found for found in ending if found.record.fork == fork and found.record.state != SessionState.ENDED)
        holder = next((found for found in holding if found.is_workspace), None)
        waited_s = time.monotonic() - began
        if not ending or waited_s >= (timeout_s if holder is not None else min(timeout_s, _DIRECTORY_S)):
            return holder
        time.sleep(_PAUSE_S)


def has_ended(place: SessionPlace) -> bool:
    """Whether a session is over; it may have left something behind."""
    return is_dead(place) and not is_unattended(place)


def is_unattended(place: SessionPlace) -> bool:
    """Whether the mount of a session whose process died goes on, wherever it is."""
    record = read_record(place)
    if record is None or record.upper is None or record.boot != read_boot_id() or record.state == SessionState.ENDED:
        return False
    from avfs_git.host.mounts.overlayfs import is_upper_used  # noqa: PLC0415 - only where such a session died

    return is_upper_used(place.root.parent / record.upper)


def wait_ended(place: SessionPlace) -> None:
    """Wait until a session is over, however long that takes; signals are handled meanwhile."""
    while True:
        try:
            fd = open_plain(place.lock)
        except FileNotFoundError:
            return
        with closing_fd(fd):
            fcntl.flock(fd, fcntl.LOCK_SH)
        if not is_unattended(place):
            return
        time.sleep(_UNATTENDED_S)


def _look(sessions: Path) -> tuple[list[FoundSession], list[SessionPlace]]:
    alive, dead = [], []
    for place in _list_places(sessions):
        if is_dead(place) and not is_unattended(place):
            dead.append(place)
        elif (record := read_record(place)) is not None:
            alive.append(FoundSession(place, record))
    return alive, dead


def _list_places(sessions: Path) -> list[SessionPlace]:
    try:
        with os.scandir(sessions) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False) and entry.name != "logs"]
    except OSError:
        return []
    return [SessionPlace(sessions, name) for name in names]


def is_dead(place: SessionPlace) -> bool:
    """Whether no process is this session: its lock is free."""
    try:
        fd = os.open(place.lock, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return True
    except OSError as error:
        return error.errno == errno.ELOOP  # a link is no lock; any other is another user's, and not ours to judge
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that look must not see each other
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


def read_record(place: SessionPlace, *, is_own: bool = True) -> SessionRecord | None:
    """Read a record; None if there is none that makes sense, as in a copy of a vault, where it speaks of the other one.

    Another user's counts for root only, if `is_own`: a session of that user's must not have this one unmount, remove or
    end something.
    """
    try:
        with os.fdopen(open_plain(place.record), "rb") as file:
            owner = os.fstat(file.fileno()).st_uid
            values = json.loads(file.read(_RECORD_MAX))
        lists = {name: tuple(map(str, values.get(name, ()))) for name in ("made", "backend_reasons")}
        record = SessionRecord(**{**values, **lists, "state": SessionState(values["state"])})
        SessionBackend(record.backend)
        texts = (record.fork, record.directory, record.boot, record.at or "", record.upper or "")
        numbers = (record.pid, record.process_started, record.namespace, record.started_at_ns)
        is_understood = all(type(text) is str for text in texts) and all(type(number) is int for number in numbers)
        if not is_understood or record.id != place.id or (is_own and os.geteuid() not in (0, owner)):
            return None
        if record.upper is not None and not _UPPER.fullmatch(record.upper):
            return None
        if os.lstat(place.lock).st_ino != record.lock_inode:
            return None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return record


def _write(place: SessionPlace, record: SessionRecord) -> None:
    told = json.dumps(as_dict(record)).encode() + b"\n"
    write_file_atomically(place.record, told, mode=0o640, durable=False, despite_umask=True)


def _clean_up(place: SessionPlace) -> None:
    """Clean up after a session that died. Called under the guard."""
    record = read_record(place)
    if record is not None and record.boot == read_boot_id():
        for mount in list_mounts():
            if _shows(mount, place):
                try:
                    detach(mount)
                except MountError:  # another user's
                    return
        reach("session.detached")
        remove_made(record.made)
    _discard(place, keep_log=True)


def remove_made(made: tuple[str, ...]) -> None:
    """Remove the directories that were made for a mount, as far as they are empty."""
    for directory in reversed(made):
        try:
            os.rmdir(directory)
        except FileNotFoundError:  # it was removed, or never made
            continue
        except OSError:  # it is in use
            return


def _discard(place: SessionPlace, *, keep_log: bool) -> None:
    if keep_log:
        _keep_log(place)
    for path in (place.socket, place.log, place.record):
        with suppress(OSError):
            os.unlink(path)
    with suppress(OSError):
        for name in os.listdir(place.root):  # what a write that died has left
            if name != place.lock.name:
                os.unlink(place.root / name)
    with suppress(OSError):
        reach("session.record_removed")
    # The lock last: without it the rest would be taken for a session that is being made.
    with suppress(OSError):
        os.unlink(place.lock)
    with suppress(OSError):
        os.rmdir(place.root)


def _keep_log(place: SessionPlace) -> None:
    """Put a log that says something where the last ones are kept."""
    with suppress(OSError):
        if place.log.stat().st_size:
            make_dir(place.old_logs, exist_ok=True)
            place.log.rename(place.old_logs / f"{time.time_ns()}-{place.id}")
            for old in sorted(place.old_logs.iterdir())[:-_LOGS_KEPT]:
                old.unlink()


def _guarded(sessions: Path) -> AbstractContextManager[None]:
    return held(open_file(sessions / "guard", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW))

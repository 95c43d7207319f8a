"""Doing an operation where the workspace is: in this process, or in the session that has it mounted.

Decided here: how that is found out, and what happens when a session starts, ends or dies meanwhile. `sdk` calls `run`
with a function of `session.control.operations`. A workspace that is not mounted costs a look at one byte: a session
writes its id into the lock file that every process has mapped. An id that is there is believed when its socket answers;
if it does not and the lock can be had, the session died, and the id is removed.

A `Sessions` belongs to one vault and may be used from any thread; a connection serves one call at a time and is kept
for the next. It holds no state worth keeping. A child of fork(2) opens its own connections.

A session that is stopped or hangs is not waited for by what only looks: that is done here, on the state that is on
disk, and a warning names the fork. It counts as such a one when the kernel says that it is stopped, or when it does not
even say hello for `_SILENT_S`; a session that is only slow says hello. A change waits as for any other holder, and is
told for whom. Of a change that a session was asked for before it was stopped, the outcome is not known.

When the process of a session dies in a call, the next one answers at the same socket: operations that may be repeated
are, once; so is what it had not read. A checkpoint is found in the vault. Of all others the outcome is not known.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, Concatenate, ParamSpec, TypeVar

from avfs_git.errors import (
    AvfsError,
    CheckpointExists,
    OutcomeUnknown,
    SessionEnding,
    WorkspaceBusy,
    quote,
)
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import host_errors
from avfs_git.host.processes.processes import list_stopped
from avfs_git.model import CheckpointResult, SessionState, Warning
from avfs_git.paths import Oid
from avfs_git.session.control.connection import SILENCE_S, Connection, Lost, Silent, Unread, flusher_of
from avfs_git.session.control.content import Content, put_aside, put_piece
from avfs_git.session.control.operations import renew_git_dir, save_checkpoint
from avfs_git.session.control.table import TABLE, Operation
from avfs_git.session.control.wire import Handle
from avfs_git.session.life.places import SessionPlace
from avfs_git.session.life.record import is_unattended
from avfs_git.session.life.stop import find_sessions
from avfs_git.workspace.checkpoint.changes import BY_COMMAND
from avfs_git.workspace.opened.workspace import OnWait, OpenWorkspace
from avfs_git.workspace.vault.format import label_ref
from avfs_git.workspace.vault.gitmoves import has_command, is_logged, open_worktree

_P = ParamSpec("_P")
_T = TypeVar("_T")
_KEPT = 4
"""Connections to one session that are kept."""
_PAUSE_S = 0.02
_SILENT_S = 2.0
"""A session that does not say hello for so long hangs: a thread that does nothing else says it."""
_STOPPED_S = 1.0
"""For so long a session has to be stopped before a change that it was asked for is given up."""
_SILENT_FOR_S = 5.0
"""For so long it is not asked again by looks."""
_DEATHS_MAX = 5
"""So many servers may die over an operation that can be done again, however long that takes.

Then it is a matter of time.
"""
_PIECE = 1 << 20


class Sessions:
    """The sessions of one vault, as its clients see them."""

    def __init__(
        self,
        directory: Path,
        *,
        wait_s: float,
        attend: Callable[[str], object] | None = None,
        on_wait: OnWait | None = None,
        on_warnings: Callable[[Sequence[Warning]], object] | None = None,
    ) -> None:
        """Know where sessions are.

        `wait_s` is how long to wait for a session that does something else. `attend` starts another process for the
        session of that id, which died and whose mount goes on. `on_wait` is called when another client's operation, or
        a session that does not answer, has to be waited for. `on_warnings` is told of a session that was not waited
        for.
        """
        self._on_warnings = on_warnings
        self._silent_until: dict[str, float] = {}
        """Until when a session that did not answer gets no read-only requests, so that many of them wait only once."""
        self._attend = attend
        self._on_wait = on_wait
        self._directory = directory
        self._wait_s = wait_s
        self._kept: dict[str, list[Connection]] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close all connections. A second call does nothing."""
        with self._lock:
            kept, self._kept = self._kept, {}
        for connections in kept.values():
            for connection in connections:
                connection.close()

    def run(
        self,
        opened: OpenWorkspace,
        function: Callable[Concatenate[OpenWorkspace, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Do an operation where the workspace is.

        Raises:
            AvfsError: What the operation raises.
            WorkspaceBusy: If it is not had in time.
            OutcomeUnknown: If the session died or was stopped in the middle of it.
        """
        operation = TABLE[function.__name__]
        looks = operation.only_looks(args, kwargs)
        if not open_worktree(opened.vault, opened.fork).is_there and is_logged(opened.vault, opened.fork):
            self._renew_git_dir(opened)
        end = time.monotonic() + opened.lock_timeout_s
        while True:
            try:
                if looks and time.monotonic() < self._silent_until.get(opened.lock.session or "", 0.0):
                    raise Silent
                return self._run(operation, looks, opened, function, *args, **kwargs)
            except WorkspaceBusy as busy:
                if busy.details.get("holder") != BY_COMMAND or not _outlast_command(opened, end):
                    raise
            except Silent:
                session = opened.lock.session or ""
                if not looks:
                    raise self._busy(opened, session) from None
                return self._look_past(opened, session, lambda looking: function(looking, *args, **kwargs), operation)

    def listen(self, opened: OpenWorkspace) -> Connection | None:
        """Open a connection on which file events come (`session.control.listening`).

        Return None if the workspace is not mounted.

        Raises:
            NoFileEvents: If the live tree tells none.
            WorkspaceBusy: If its session does not answer in time.
        """
        end = time.monotonic() + opened.lock_timeout_s
        while (session := opened.lock.session) is not None:
            try:
                connection = self._connect(opened, session, end, looks=True)
            except Silent:
                raise self._busy(opened, session) from None
            if connection is None:
                continue
            try:
                connection.ask("listen", {}, {}, None)
            except (SessionEnding, Unread, Lost):
                connection.close()
                if time.monotonic() >= end:
                    raise self._busy(opened, session) from None
                time.sleep(_PAUSE_S)
            except BaseException:
                connection.close()
                raise
            else:
                return connection
        return None

    def _renew_git_dir(self, opened: OpenWorkspace) -> None:
        """Have a mounted tree's git directory made anew if another program, as `git worktree remove`, removed it."""
        shown = next((each for each in find_sessions(self._directory, fork=opened.fork) if each.is_workspace), None)
        if shown is None or shown.state() != SessionState.MOUNTED:
            return
        try:
            was_gone = self._run(
                TABLE[renew_git_dir.__name__], False, opened, renew_git_dir, os.fspath(shown.directory)
            )
        except (AvfsError, Silent):  # then the operation at hand fails for the same reason, or does without
            return
        if was_gone and self._on_warnings is not None:
            text = (
                f"another program has removed git's directory of the live tree of '{opened.fork}', as `git worktree "
                "remove` "
                "does: avfs has made it anew, without what was staged; `avfs undo` brings deleted files back"
            )
            self._on_warnings((Warning("git.worktree_removed", text),))

    def _run(
        self,
        operation: Operation,
        looks: bool,
        opened: OpenWorkspace,
        function: Callable[Concatenate[OpenWorkspace, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Do an operation where the workspace is. Raises `Silent` if its session does not answer."""
        end = time.monotonic() + opened.lock_timeout_s
        deaths = 0
        before: _Before | None = None
        while True:
            session = opened.lock.session
            if session is None:
                try:
                    return function(opened, *args, **kwargs)
                except WorkspaceBusy:
                    if opened.lock.session is None:
                        raise
                    continue  # it was mounted meanwhile
            connection = self._connect(opened, session, end, looks=looks)
            if connection is None:
                continue
            hints, result = operation.signature
            given = {**dict(zip(hints, args, strict=False)), **kwargs}
            flush = flusher_of(connection.served) if operation.flushes else None
            if flush is not None and not looks:  # programs may be kept waiting, which is no reason not to look
                _check_awake(connection)
                flush()  # so that little is left for when its turn has come
            before = before or _Before(
                opened, given.get("label") if operation.name == save_checkpoint.__name__ else None
            )
            silence = _Silence(
                partial(self._tell, opened, looks=looks),
                is_patient=not looks,
                limit_s=_SILENT_S if looks else math.inf,
                is_over=partial(self._is_silent, opened, session),
            )
            try:
                answer: _T = connection.ask(operation.name, hints, given, result, flush=flush, on_silence=silence)
            except Silent:
                if looks:
                    raise
                raise OutcomeUnknown(opened.fork, operation.name, stopped=silence.stopped) from None
            except SessionEnding:
                connection.close()
                _wait_until(end, opened, session)
                continue
            except Unread:
                connection.close()
                continue
            except Lost as error:
                connection.close()
                found = before.find_made()
                if found is not None:
                    return found  # type: ignore[return-value]  # it is what this operation gives
                if not operation.repeatable:
                    raise OutcomeUnknown(opened.fork, operation.name) from error
                deaths += 1
                if deaths > _DEATHS_MAX and time.monotonic() >= end:  # perhaps this very operation kills it
                    raise OutcomeUnknown(opened.fork, operation.name) from error
                continue
            except BaseException as error:
                self._keep(session, connection)
                # A checkpoint that died between two refs is completed by the next one: the second attempt.
                found = before.find_made() if deaths and isinstance(error, CheckpointExists) else None
                if found is None:
                    raise
                return found  # type: ignore[return-value]  # the same
            self._keep(session, connection)
            return answer

    def _tell(self, opened: OpenWorkspace, *, looks: bool) -> None:
        """Say which process an operation waits for, unless the session carries it out by now."""
        if self._on_wait is None:
            return
        holder = opened.lock.holder()
        is_waiting = opened.lock.is_moving if looks else holder is not None and holder.pid != os.getpid()
        if is_waiting:
            self._on_wait(opened.fork, holder)

    def _is_silent(self, opened: OpenWorkspace, session: str) -> bool:
        """Whether a session that takes long to answer does not even say hello, or is not there any more."""
        try:
            self._say_hello(opened, session, looks=True).close()
        except (Silent, OSError):
            return True
        return False

    def _look_past(
        self, opened: OpenWorkspace, session: str, action: Callable[[OpenWorkspace], _T], operation: Operation
    ) -> _T:
        """Do what only looks beside a session that does not answer, and warn of that.

        Raises:
            WorkspaceBusy: If the session is in the middle of putting another state into place.
        """
        from avfs_git.host.mounts.overlayfs import find_overlay  # noqa: PLC0415 - for sessions that hang
        from avfs_git.workspace.opened.beside import Disturbed, look_past  # noqa: PLC0415 - the same

        is_told = time.monotonic() < self._silent_until.get(session, 0.0)
        if not is_told:
            self._silent_until[session] = time.monotonic() + _SILENT_FOR_S
        shown = find_overlay(opened.layout.upper)
        shown_at = None if shown is None else shown.directory
        try:
            result = look_past(opened.vault, opened.fork, action, discard=operation.discard, shown_at=shown_at)
        except Disturbed:
            raise self._busy(opened, session) from None
        if self._on_warnings is not None and not is_told:
            held = opened.lock.holder()
            process = f" (pid {held.pid})" if held is not None else ""
            shows = "the result shows what is on disk, perhaps without the last writes of programs"
            text = f"the session{process} of fork {quote(opened.fork)} does not answer; {shows}"
            self._on_warnings((Warning("session.silent", text),))
        return result

    def _connect(self, opened: OpenWorkspace, session: str, end: float, *, looks: bool) -> Connection | None:
        """Get a connection; None if the session has ended meanwhile. Raises `Silent` if it does not answer."""
        try:
            return self._take(opened, session, looks=looks)
        except OSError as error:
            if opened.lock.acquire(0):
                # The lock is free: the session died. Its id leaves the lock file, unless its mount goes on.
                try:
                    is_left = self._attend is not None and is_unattended(SessionPlace(self._directory, session))
                    if not is_left:
                        opened.bury_session()
                finally:
                    opened.lock.release()
                if is_left and self._attend is not None:
                    self._attend(session)
                return None
            if isinstance(error, PermissionError):  # waiting does not help
                held = opened.lock.holder()
                raise WorkspaceBusy(opened.fork, "a session of another user", pid=held.pid if held else None) from error
            if time.monotonic() >= end:
                raise self._busy(opened, session) from None
            time.sleep(_PAUSE_S)  # it has just started, or is about to be gone
            return None

    def _take(self, opened: OpenWorkspace, session: str, *, looks: bool = False) -> Connection:
        with self._lock:
            kept = self._kept.get(session)
            while kept:
                connection = kept.pop()
                if connection.pid == os.getpid():
                    return connection
        return self._say_hello(opened, session, looks=looks)

    def _say_hello(self, opened: OpenWorkspace, session: str, *, looks: bool) -> Connection:
        """Open a connection. Raises OSError if no session answers, and `Silent` if one is there that does not."""
        limit_s = _SILENT_S if looks else max(_SILENT_S, opened.lock_timeout_s)
        silence = _Silence(partial(self._tell, opened, looks=looks), is_patient=not looks, limit_s=limit_s)
        return Connection(self._directory / session / "socket", self._wait_s, on_silence=silence)

    def _busy(self, opened: OpenWorkspace, session: str) -> WorkspaceBusy:
        """Make the error that a session does not answer."""
        held = opened.lock.holder()
        pid, stopped = (held.pid, list_stopped(held.pid)) if held is not None else (None, ())
        is_cut_off = not SessionPlace(self._directory, session).socket.exists()
        holder = f"session {session}, {'whose socket is gone' if is_cut_off else 'which does not answer'}"
        return WorkspaceBusy(opened.fork, holder, pid=pid, stopped=stopped, is_cut_off=is_cut_off)

    def _keep(self, session: str, connection: Connection) -> None:
        with self._lock:
            kept = self._kept.setdefault(session, [])
            if len(kept) < _KEPT and connection.socket.fileno() >= 0:
                kept.append(connection)
                return
        connection.close()


class _Silence:
    """Decides how long a session may say nothing; see `connection.OnSilence`.

    Its caller is told once for whom it waits. The wait ends after `limit_s` if `is_over` says so then, else after as
    long again; and where the session is known to be stopped: at once where it is waited for impatiently, else when it
    has been for `_STOPPED_S`.
    """

    def __init__(
        self,
        tell: Callable[[], object],
        *,
        is_patient: bool,
        limit_s: float,
        is_over: Callable[[], bool] = lambda: True,
    ) -> None:
        self._tell = tell
        self._stopped_max = _STOPPED_S / SILENCE_S if is_patient else 1
        self._limit = limit_s / SILENCE_S
        self._is_over = is_over
        self._count = 0
        """How often nothing came; no clock, which goes on while this process is stopped, too."""
        self._stopped_count = 0
        """How often in succession the session was stopped."""
        self.stopped: list[int] = []
        """Those of its processes that were stopped when it was looked at last."""

    def __call__(self, connection: Connection) -> None:
        if not self._count:
            self._tell()
        self._count += 1
        self.stopped = connection.list_stopped()
        self._stopped_count = self._stopped_count + 1 if self.stopped else 0
        if self._stopped_count >= self._stopped_max:
            raise Silent
        if self._count >= self._limit:
            if self._is_over():
                raise Silent
            self._count = 1


def _check_awake(connection: Connection) -> None:
    """Raise `Silent` if a session stays stopped: a flush of its files then waits in the kernel and heeds no signal."""
    silence = _Silence(lambda: None, is_patient=True, limit_s=math.inf)
    try:
        while connection.list_stopped():
            silence(connection)
            time.sleep(SILENCE_S)
    except Silent:
        connection.close()
        raise


def _outlast_command(opened: OpenWorkspace, end: float) -> bool:
    """Wait until no command runs in the live tree, as for a lock; tell whether that came in time."""
    while time.monotonic() < end:
        if not has_command(opened.vault, opened.fork):
            return True
        time.sleep(_PAUSE_S)
    return False


def _wait_until(end: float, opened: OpenWorkspace, session: str) -> None:
    """Wait for the end of a session that is ending."""
    while opened.lock.session == session and time.monotonic() < end:
        time.sleep(_PAUSE_S)


class _Before:
    """The state before a labelled checkpoint was asked for, to recognise one whose acknowledgement was lost.

    One without a label is asked for again: if it was made, the second finds nothing to do.
    """

    def __init__(self, opened: OpenWorkspace, label: object) -> None:
        self._opened = opened
        self._label = label if isinstance(label, str) else None
        self._head = opened.vault.read_head(opened.fork) if label is not None else None
        self._held = self._read()

    def _read(self) -> Oid | None:
        return (
            self._opened.vault.refs.read(label_ref(self._opened.fork, self._label)) if self._label is not None else None
        )

    def find_made(self) -> CheckpointResult | None:
        """Find the checkpoint; None if it was not made, or the label was taken before."""
        oid = self._read()
        if oid is None or self._label is None or self._held is not None:
            return None
        checkpoint = self._opened.vault.describe(oid, fork=self._opened.fork, labels={self._label: oid})
        return CheckpointResult("unchanged" if oid == self._head else "created", checkpoint, ())


# --- contents ---------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def spooled(opened: OpenWorkspace, data: bytes | Iterable[bytes]) -> Iterator[Content]:
    """Make a content of bytes or pieces, in bounded memory, for as long as the block runs."""
    content = put_aside((data,) if isinstance(data, bytes) else data, opened.upper.make_hidden_file)
    try:
        yield content
    finally:
        if content.handle is not None:
            os.close(content.handle.fd)


@contextlib.contextmanager
def spooled_file(opened: OpenWorkspace, file: BinaryIO) -> Iterator[Handle]:
    """Copy what is read from a file to one without a name, for as long as the block runs."""
    with host_errors("put contents aside"):
        fd = opened.upper.make_hidden_file()
    with closing_fd(fd):
        while piece := file.read(_PIECE):
            put_piece(fd, piece)
        yield Handle(fd)


@contextlib.contextmanager
def opened_source(source: Path) -> Iterator[Handle]:
    """Open a file or directory of the host, for as long as the block runs."""
    with host_errors(f"read '{source}'"):
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with closing_fd(fd):
        yield Handle(fd)


@contextlib.contextmanager
def opened_above(destination: Path) -> Iterator[tuple[Handle, bytes]]:
    """Open the nearest directory that is there on the way to a path, and give what is left of the path."""
    place, rest = Path(os.path.abspath(destination)), Path()
    while not place.is_dir() and place != place.parent:
        rest = place.name / rest
        place = place.parent
    with host_errors(f"export to '{destination}'"):
        fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with closing_fd(fd):
        yield Handle(fd), b"" if rest == Path() else os.fsencode(rest)

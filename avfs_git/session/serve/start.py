"""Starting a session: what the caller does until programs can use the tree.

Decided here: a session is a process of another program, so that the caller's threads and memory do not come along and
it outlives the caller. It is a fork of the caller's nursery (`nursery_client`) or, where there is none, a program of
its own. And how the caller learns the outcome. Any thread may call. If the caller is killed while it waits, the session
notices at its pipe that nobody waits and ends. A caller that is interrupted ends it, so that nothing of the mount is in
the way of what it does then; it waits a moment for that, and for longer the session notices by itself.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

from avfs_git.errors import AvfsError, SessionEnding, SessionFailed
from avfs_git.faults import reach
from avfs_git.host.files.durable import host_errors
from avfs_git.host.processes.descriptors import is_readable
from avfs_git.session.life.places import SessionPlace
from avfs_git.session.life.record import FoundSession, read_record
from avfs_git.session.life.request import REFUSED, Request
from avfs_git.session.serve import nursery_client
from avfs_git.session.serve.nursery_client import own_program
from avfs_git.values import as_dict, replace

_GRACE_S = 30.0
"""How long a session may take to start, beside what it may wait for the workspace."""
_GIVE_UP_S = 2.0
"""How long a caller that is interrupted waits for a session that it can end."""
_ANSWER_MAX = 1 << 20
_ATTEND_TRIES = 5
"""How many processes may die in a row before one attends to a mount."""
_NURSERIES = 2
"""How many are asked: the first may be gone, or differ from what this process is now."""


def start_session(sessions: Path, request: Request, *, program: Sequence[str] = ()) -> FoundSession:
    """Mount; return when programs can use the tree.

    `program` is run instead of `__main__`, with the same input: so faults are put into a session.

    Raises:
        WorkspaceMounted: If the workspace is mounted already.
        WorkspaceBusy: If another process works in it for too long.
        MountPointUnusable: If nothing can be mounted there.
        FuseUnavailable: If this machine, or its administrator, does not allow it.
        SessionFailed: If the process of the session ended without a word.
    """
    with host_errors("start a session"):
        said = os.memfd_create("avfs-said", os.MFD_CLOEXEC)
    try:
        answer = (None if program else _ask_nursery(sessions, request, said)) or _start(
            sessions, request, said, program
        )
    finally:
        os.close(said)
    if "error" in answer:
        from avfs_git.session.control.wire import decode_error  # noqa: PLC0415 - only after a failure

        raise decode_error(answer["error"])
    place = SessionPlace(sessions, str(answer["session"]))
    record = read_record(place)
    if record is None:
        raise SessionFailed("the session ended at once", "")
    # Until the kernel has asked once, it takes the root for a directory that no user may use; and it drops an answer
    # that a change overtakes (`fuse_change_attributes`), which would refuse the first program of an ordinary user.
    with suppress(OSError):
        os.stat(request.directory)
    return FoundSession(place, record)


def attend(sessions: Path, session_id: str, request: Request) -> None:
    """Start another process for a session that died and whose mount goes on; return when that answers, or another does.

    Raises:
        WorkspaceMounted: If the mount cannot be gone on with from here: only other mount namespaces have it, or
            programs that it was taken from.
        AvfsError: As `start_session`.
    """
    record = read_record(SessionPlace(sessions, session_id))
    if record is None:
        return
    request = replace(
        request,
        fork=record.fork,
        directory=record.directory,
        backend=record.backend,
        backend_reasons=record.backend_reasons,
        adopted=session_id,
    )
    for left in reversed(range(_ATTEND_TRIES)):
        try:
            start_session(sessions, request)
        except SessionEnding:  # another process was faster
            return
        except SessionFailed:  # it was killed, too
            if not left:
                raise
        else:
            return


def _ask_nursery(sessions: Path, request: Request, said: int) -> dict[str, Any] | None:
    """Let a session come from the nursery of this process; None where that is not possible."""
    for _ in range(_NURSERIES):
        with _answering() as (ready, theirs):
            handed = _descriptors(replace(request, ready_fd=theirs.fileno(), said_fd=said))
            nursery = nursery_client.ask(request, handed)
            theirs.close()
            if nursery is None:
                return None
            answer = _wait(sessions, ready, request.lock_timeout_s + _GRACE_S)
        if answer is not None and REFUSED not in answer:
            nursery.has_served = True
            return answer
        is_gone = nursery.is_gone()
        nursery_client.give_up(nursery)
        if answer is None and not is_gone:  # it has made the session, which is over, or hangs
            raise SessionFailed("the session ended before it was ready", _read_said(said))
    return None


def _start(sessions: Path, request: Request, said: int, program: Sequence[str]) -> dict[str, Any]:
    with _answering() as (ready, theirs):
        _spawn(replace(request, ready_fd=theirs.fileno(), said_fd=said), program)
        theirs.close()
        answer = _wait(sessions, ready, request.lock_timeout_s + _GRACE_S)
    if answer is None:
        raise SessionFailed("the session ended before it was ready", _read_said(said))
    return answer


def _spawn(request: Request, program: Sequence[str]) -> None:
    import subprocess  # noqa: PLC0415 - where there is no nursery

    own, paths = own_program(request.fork, request.directory)
    passed = [fd for fd in (request.ready_fd, request.said_fd, request.leash_fd, request.base_fd) if fd is not None]
    given = json.dumps({"path": paths, "request": as_dict(request)})
    with host_errors("start a session"):
        process = subprocess.Popen(
            program or own,
            stdin=subprocess.PIPE,
            stdout=request.said_fd,
            stderr=request.said_fd,
            pass_fds=passed,
            cwd="/",
        )
        try:
            process.communicate(given.encode())
        except BaseException:
            process.kill()
            process.wait()
            raise


def _descriptors(request: Request) -> dict[str, int]:
    """Take the descriptors that go with a request by the names of their fields."""
    return {name: fd for name, fd in as_dict(request).items() if name.endswith("_fd") and fd is not None}


@contextmanager
def _answering() -> Iterator[tuple[int, FileIO]]:
    """Make the pipe on which a session answers; its own end is the caller's to close as soon as the session has it."""
    with host_errors("start a session"):
        ready, theirs = os.pipe()
    try:
        with FileIO(theirs, "w") as end:
            yield ready, end
    finally:
        os.close(ready)


def _wait(sessions: Path, ready: int, timeout_s: float) -> dict[str, Any] | None:
    """Read the answer; None if the process is gone without one, or takes too long."""
    data = bytearray()
    try:
        reach("session.awaited")
        return _read_answer(ready, timeout_s, data)
    except BaseException:
        answer = _read_answer(ready, _GIVE_UP_S, data)
        if answer is not None and "session" in answer:
            _give_up(SessionPlace(sessions, str(answer["session"])))
        raise


def _give_up(place: SessionPlace) -> None:
    """End a session whose caller is interrupted; if it is in use, it ends with its users."""
    from avfs_git.session.life.stop import end_session  # noqa: PLC0415 - only where a caller is interrupted

    record = read_record(place)
    if record is not None:
        with suppress(AvfsError):
            end_session(FoundSession(place, record), lazy=True)


def _read_answer(ready: int, timeout_s: float, data: bytearray) -> dict[str, Any] | None:
    """Read the rest of the answer, behind what `data` has of it; None as for `_wait`."""
    end = time.monotonic() + timeout_s
    while not data.endswith(b"\n") and len(data) < _ANSWER_MAX:
        if not is_readable(ready, end - time.monotonic()):
            return None
        piece = os.read(ready, 65536)
        if not piece:
            return None
        data += piece
    answer: dict[str, Any] = json.loads(data)
    return answer


def _read_said(said: int) -> str:
    return os.pread(said, 65536, 0).decode("utf-8", "replace").strip()

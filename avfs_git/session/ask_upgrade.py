"""Asking a session to go on with the program of this avfs: the client's side of `session.upgrade`.

Decided here: which program that is (`program.own_program`), and how a client learns whether it worked: the server that answers at
the socket afterwards says by which upgrade it came. Any thread may call; nothing is kept.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from avfs_git.errors import InvalidInput, OutcomeUnknown, SessionFailed, SessionRestarting, UpgradeFailed
from avfs_git.model import WHOLE_VAULT, SessionBackend, SessionState
from avfs_git.session.client import Connection, Lost, Unread
from avfs_git.session.program import own_program
from avfs_git.session.record import FoundSession, has_ended
from avfs_git.session.wire import Served

_PAUSE_S = 0.02
_END_S = 90.0
"""More than the session itself gives the other program until it goes back."""


def upgrade_session(
    session: FoundSession, *, wait_s: float, program: tuple[Sequence[str], Sequence[str]] | None = None
) -> tuple[str, str]:
    """Let a session go on with the program that this process runs; return when it serves.

    Args:
        session: Which.
        wait_s: How long to wait for what the session does, in seconds.
        program: Another one, as `program.own_program` tells it.

    Returns:
        The version that it had, empty if that is not known, and the one that it has.

    Raises:
        UpgradeFailed: If it cannot, or did not get to serve; the session goes on as it was.
        WorkspaceBusy: If the session does something else for too long.
        OutcomeUnknown: If its servers die faster than they answer.
        SessionFailed: If the session ended meanwhile.
    """
    record = session.record
    if record.readonly:
        shown = record.fork if record.fork != WHOLE_VAULT else record.directory
        hint = "Unmount it and mount it again: nothing is lost by that."
        raise UpgradeFailed(shown, "it shows commits, for reading only", hint=hint)
    if record.backend == SessionBackend.PORTABLE.value:
        raise UpgradeFailed(
            record.fork, f"the backend '{record.backend}' cannot hand it over", hint="Stop it and mount it again."
        )
    line, path = program or own_program(record.fork, record.directory)
    token = os.urandom(8).hex()
    given = {"program": tuple(line), "path": tuple(path), "token": token}
    before = _ask(session, given, wait_s)
    after = _await(session, token, before)
    return before.version, after.version


def _ask(session: FoundSession, given: Mapping[str, object], wait_s: float) -> Served:
    """Ask until somebody has taken it on; gives who that was. Asking twice does no harm."""
    fork, end = session.record.fork, time.monotonic() + wait_s
    hints: dict[str, Any] = {"program": tuple[str, ...], "path": tuple[str, ...], "token": str}
    while True:
        try:
            connection = Connection(session.place.socket, wait_s)
        except (FileNotFoundError, ConnectionRefusedError):
            raise UpgradeFailed(fork, "it has no control socket that answers", hint="Unmount it and mount it again.") from None
        except OSError:  # its server died just now
            if time.monotonic() > end:
                raise
            time.sleep(_PAUSE_S)
            continue
        before = connection.served
        try:
            if given["token"] not in before.upgrades:  # else it came by a request whose answer was lost
                connection.ask("upgrade", hints, dict(given), str)
            return before
        except InvalidInput as error:
            raise UpgradeFailed(fork, error.message, hint="Unmount it and mount it again.") from error
        except SessionRestarting:  # somebody else has asked, too
            if time.monotonic() > end:
                raise
        except (Lost, Unread):
            if time.monotonic() > end:
                raise OutcomeUnknown(fork, "upgrade") from None
        finally:
            connection.close()
        time.sleep(_PAUSE_S)


def _await(session: FoundSession, token: str, before: Served) -> Served:
    """Wait until another server says by which upgrade it came."""
    end = time.monotonic() + _END_S
    while True:
        try:
            connection = Connection(session.place.socket, _END_S)
        except OSError:
            if has_ended(session.place):
                raise SessionFailed("the session ended while it was upgraded", "") from None
            if session.state() is SessionState.UNATTENDED:
                why = "its processes were killed meanwhile; the mount goes on, and the next command attends to it"
                raise UpgradeFailed(session.record.fork, why, log=_read_log(session)) from None
        else:
            served = connection.served
            connection.close()
            if token in served.upgrades:
                return served
            if served.pid != before.pid:
                raise UpgradeFailed(session.record.fork, "the other version did not get to serve it", log=_read_log(session))
        if time.monotonic() > end:
            raise UpgradeFailed(session.record.fork, "it does not begin", log=_read_log(session))
        time.sleep(_PAUSE_S)


def _read_log(session: FoundSession) -> str:
    try:
        return session.place.log.read_text("utf-8", "replace")[-10_000:]
    except OSError:
        return ""

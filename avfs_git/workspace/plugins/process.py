"""The process of one plug-in: it loads the plug-in, and answers each change with its decision.

Decided here: what limits the process, and what counts as an answer. A message is one JSON object in one packet of the
socket; `asking` has the other end. A plug-in that fails says why, and the change is refused there. The end of the
socket ends it. A plug-in that goes on after its caller has died is ended by an alarm. One thread; nothing survives.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from avfs_git.workspace.plugins.asking import MESSAGE_MAX, be_inside

_DATA_MAX = 1 << 30
"""So much memory the process may use for data; each engine has a smaller limit of its own."""
Decide = Callable[[Mapping[str, Any]], str | None]
"""A plug-in: gives why a change is refused, or None if it is allowed."""


def serve(channel: socket.socket, given: Mapping[str, Any]) -> None:
    """Be the plug-in that `given` describes, until the other end of the socket is closed."""
    be_inside()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o077)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_DATA, (_DATA_MAX, _DATA_MAX))
    limit_s = float(given["limit_s"])
    try:
        decide = load(given)
    except BaseException as error:  # noqa: BLE001 - a plug-in is foreign code, which may raise anything
        _send(channel, {"failed": _describe(error)})
        return
    _send(channel, {"ready": True})
    while data := channel.recv(MESSAGE_MAX):
        # The caller waits no longer than that, and kills this process then, unless it is dead itself.
        signal.setitimer(signal.ITIMER_REAL, 2 * limit_s)
        answer = _decide(decide, json.loads(data))
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(channel, answer)


def load(given: Mapping[str, Any]) -> Decide:
    """Load a plug-in by its kind.

    Raises:
        BaseException: What the plug-in raises, or why it is not what was enabled.
    """
    if given["kind"] == "python":
        from avfs_git.workspace.plugins import entrypoint  # noqa: PLC0415 - only what this plug-in needs

        return entrypoint.load(given["name"], given["what"])
    with open(given["file"], "rb") as file:
        content = file.read()
    import hashlib  # noqa: PLC0415 - as above

    if hashlib.sha256(content).hexdigest() != given["what"]:
        raise ValueError(f"{given['file']} is not what was enabled")
    if given["kind"] == "lua":
        from avfs_git.workspace.plugins import luafile  # noqa: PLC0415 - as above

        return luafile.load(content, given["name"])
    from avfs_git.workspace.plugins import wasmfile  # noqa: PLC0415 - as above

    return wasmfile.load(content)


def _decide(decide: Decide, change: Mapping[str, Any]) -> Mapping[str, object]:
    try:
        reason: object = decide(change)
    except BaseException as error:  # noqa: BLE001 - as above
        return {"failed": _describe(error)}
    if reason is None or isinstance(reason, str):
        return {"reason": reason}
    return {"failed": f"it answered with {type(reason).__name__}, which is neither a text nor nothing"}


def _describe(error: BaseException) -> str:
    return "".join(traceback.format_exception_only(error)).strip()[-2000:]


def _send(channel: socket.socket, answer: Mapping[str, object]) -> None:
    data = json.dumps(answer).encode("ascii")
    if len(data) > MESSAGE_MAX:
        data = json.dumps({"failed": "its answer is too long"}).encode("ascii")
    channel.sendall(data)

"""Asking plug-ins before a change: each is a process of its own, which has a time limit for its answer.

Decided here: when a change is refused. A plug-in refuses it by a reason. If it cannot be started, fails, ends or takes
longer than `plugins.timeout_s`, that is a refusal, too: its process is killed, and for as long again every change is
refused at once, so that a plug-in that hangs takes at most half of a program's time. Plug-ins are asked in the order of
their names, until one refuses. A refusal in a live tree, where a program gets no more than EPERM, is in the audit log
and in the log of the session.

The process of a plug-in never runs in the process that asks, so that no crash, endless loop or memory of its own harms
that. It is started by the first change and ends with the socket. Any thread may ask; one is answered at a time. A fork
of a process that asked starts plug-ins of its own. Nothing survives a crash.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.errors import AvfsError, HostError, PluginFailed, PluginRefused, quote
from avfs_git.host.processes.processes import await_end, spell_with
from avfs_git.lazy import LazyLogger
from avfs_git.values import NamedTuple
from avfs_git.vfs.asked import Change

if TYPE_CHECKING:
    import socket
    import subprocess

    from avfs_git.model import PluginKind

_LOG = LazyLogger(__name__)
MESSAGE_MAX = 1 << 17
"""Longer than any event: two paths of 4,096 bytes, each byte spelled as six."""
_START_S = 30.0
"""How long a plug-in may take to load."""
_DEATH_S = 0.2
_REASON_MAX = 500
_is_inside = False


def be_inside() -> None:
    """Refuse every change of this process where plug-ins are asked: a plug-in runs it, and would wait for itself."""
    global _is_inside  # noqa: PLW0603 - what a process is for holds for all of it
    _is_inside = True


class Spec(NamedTuple):
    """One enabled plug-in."""

    name: str
    kind: PluginKind
    what: str
    """The entry point (`entrypoint.describe`), or the SHA-256 of the file."""
    file: str
    """The copy of the file in the home of avfs; nothing for an entry point."""


class Plugins:
    """The plug-ins that are asked about one vault."""

    def __init__(
        self,
        find: Callable[[], tuple[Spec, ...]],
        *,
        timeout_s: Callable[[], float],
        facts: Mapping[str, str],
        note: Callable[[str, Mapping[str, object]], object],
    ) -> None:
        """Know whom to ask.

        `find` gives the enabled plug-ins, before each change; `facts` are in each event; `note` writes a refusal
        in a fork down.
        """
        self.find = find
        self._timeout_s = timeout_s
        self._facts = facts
        self._note = note
        self._lock = threading.Lock()
        self._pid = -1
        self._running: dict[Spec, Running] = {}

    def close(self) -> None:
        """End the processes of the plug-ins."""
        with self._lock:
            running, self._running = self._running, {}
            if self._pid == os.getpid():
                for one in running.values():
                    one.close()

    def check_of(self, fork: str) -> Callable[[Change], None] | None:
        """Give what checks the changes of a fork; None if nothing is asked. Costs a look on disk."""
        return partial(self.check, fork=fork) if self.find() else None

    def check(self, change: Change, fork: str) -> None:
        """Ask all plug-ins about a change.

        Raises:
            PluginRefused: If one refuses it.
            PluginFailed: If one gives no answer.
        """
        specs = self.find()
        if not specs:
            return
        if _is_inside:
            raise PluginFailed(specs[0].name, "another plug-in asks for this change, and would be asked while it waits")
        facts = {
            "operation": change.operation,
            "path": _text(change.path),
            "new_path": _text(change.new_path),
            "fork": fork,
            "pid": change.pid,
            "uid": change.uid,
            **self._facts,
            **change.facts,
        }
        data = json.dumps(facts).encode("ascii")
        with self._lock:
            if self._pid != os.getpid():
                self._pid, self._running = os.getpid(), {}
            for gone in self._running.keys() - set(specs):
                self._running.pop(gone).close()
            for spec in specs:
                running = self._running.get(spec)
                if running is None:
                    running = self._running[spec] = Running(spec, self._timeout_s())
                reason = running.ask(data)
                if reason is not None:
                    where = "" if change.path is None else f" of {quote(b'/' + change.path)}"
                    raise PluginRefused(spec.name, _shown(reason), change.operation + where)

    def allows(self, change: Change, fork: str) -> bool:
        """Ask all plug-ins about a change that a program makes in a live tree; a refusal is written down."""
        try:
            self.check(change, fork)
        except (PluginRefused, PluginFailed) as refused:
            _LOG.warning("%s", refused.message)
            told = {"code": refused.code, "operation": change.operation, "path": _text(change.path), **refused.details}
            with suppress(HostError):  # a full disk: the log has it
                self._note(fork, {**told, "new_path": _text(change.new_path), "pid": change.pid, "uid": change.uid})
            return False
        except AvfsError as error:  # the list of plug-ins cannot be read
            _LOG.error("%s", error.message)
            return False
        return True


class Running:
    """The process of one plug-in."""

    def __init__(self, spec: Spec, timeout_s: float) -> None:
        """Start nothing yet."""
        self._spec = spec
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._failed: PluginFailed | None = None
        self._again_s = 0.0

    def ask(self, data: bytes) -> str | None:
        """Ask about an event; give the reason of a refusal, or None if it is allowed.

        Raises:
            PluginFailed: If there is no answer.
        """
        if self._failed is not None:
            if time.monotonic() < self._again_s:
                raise self._failed
            self._failed = None
        try:
            if self._process is not None and self._process.poll() is not None:
                self._end()  # it ended while nothing was asked
            if self._process is None:
                self.start()
            answer = self._exchange(data, self._timeout_s)
        except PluginFailed as failed:
            self._end()
            self._failed, self._again_s = failed, time.monotonic() + self._timeout_s
            raise
        if "reason" not in answer:
            raise PluginFailed(self._spec.name, _shown(str(answer.get("failed", "its answer is not understood"))))
        return None if answer["reason"] is None else str(answer["reason"])

    def start(self) -> None:
        """Start the process, and let it load the plug-in.

        Raises:
            PluginFailed: If it cannot be started or loaded.
        """
        import socket  # noqa: PLC0415 - only where there are plug-ins
        import subprocess  # noqa: PLC0415 - the same

        spec = self._spec
        main = Path(__file__).with_name("__main__.py")
        try:
            self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(
                    spell_with(
                        {"AVFS_PLUGIN": spec.name}, [sys.executable, "-I", "-S", os.fspath(main), str(theirs.fileno())]
                    ),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(),),
                    cwd="/",
                    start_new_session=True,
                )
        except OSError as error:
            self._end()
            raise PluginFailed(spec.name, f"its process cannot be started: {error.strerror}") from error
        package = Path(__file__).absolute().parents[3]
        paths = [os.fspath(package), *(os.path.abspath(path) for path in sys.path if path)]
        given = {**spec._asdict(), "path": list(dict.fromkeys(paths)), "limit_s": self._timeout_s}
        answer = self._exchange(json.dumps(given).encode("ascii"), _START_S)
        if "ready" not in answer:
            raise PluginFailed(spec.name, _shown(str(answer.get("failed", "its answer is not understood"))))

    def _exchange(self, data: bytes, timeout_s: float) -> dict[str, object]:
        assert self._channel is not None  # noqa: S101 - `start` made it
        self._channel.settimeout(timeout_s)
        try:
            self._channel.sendall(data)
            answer = self._channel.recv(MESSAGE_MAX)
            found = json.loads(answer) if answer else None
        except TimeoutError:
            raise PluginFailed(self._spec.name, f"it gave no answer within {timeout_s:g} s") from None
        except (OSError, ValueError) as error:
            raise PluginFailed(self._spec.name, f"its answer cannot be read: {error}") from error
        if found is None:
            raise PluginFailed(self._spec.name, "its process ended before it answered")
        if not isinstance(found, dict):
            raise PluginFailed(self._spec.name, "its answer is not understood")
        return found

    def close(self) -> None:
        """Let the process end, and kill it if it does not."""
        if self._channel is not None:
            self._channel.close()
        if self._process is not None:
            await_end(self._process, self._timeout_s)
        self._end()

    def _end(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            with suppress(OSError):
                os.killpg(self._process.pid, 9)  # also what it has started
            # Not for ever: a plug-in that looks into the live tree dies when the kernel has the answer that waits for
            # this.
            _await_dying(self._process)
            self._process = None


_dying: list[subprocess.Popen[bytes]] = []
"""Processes that were killed, and are not dead yet."""


def _await_dying(process: subprocess.Popen[bytes]) -> None:
    """Wait a moment for a process that was killed, and look after earlier ones."""
    await_end(process, _DEATH_S)
    _dying[:] = [one for one in (*_dying, process) if one.poll() is None]


def _text(path: bytes | None) -> str | None:
    return None if path is None else path.decode("utf-8", "surrogateescape")


def _shown(reason: str) -> str:
    """Make a plug-in's words fit to be shown: one line, nothing that a terminal obeys."""
    line = " ".join(reason.split())[:_REASON_MAX]
    return "".join(letter if letter.isprintable() else "?" for letter in line) or "it gives no reason"

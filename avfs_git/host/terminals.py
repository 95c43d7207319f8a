"""A terminal for a command: a pseudo-terminal, and what is typed on its way there.

Decided here: what the terminal begins with, and what happens meanwhile to the terminal of a person who works at it. If
what the command reads is such a terminal, the new one has its settings and its size, and the person's is in raw mode
while the command runs, so that Ctrl-C is a byte for the command and nothing is shown twice. In the background of a
shell, this process leaves the person's terminal alone, and looks 5 times a second whether it has come to the
foreground. The end of a file is typed as the key for it.

The terminal stays open on both sides until `close`: the command may close its own side and open it again, and what it
wrote last is read before that. One thread uses a `Terminal`; any other may call `resize`. Settings of a person's
terminal are lost only with a SIGKILL of this process.
"""

from __future__ import annotations

import os
import select
import termios
import tty
from _thread import RLock
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_ROWS, _COLUMNS = 24, 80
_PIECE = 4096
_CHECK_S = 0.2


class Terminal:
    """The terminal of one command, and the person's terminal in front of it, if there is one."""

    def __init__(self) -> None:
        self._lock = RLock()  # a signal's handler may call `resize` at any time
        self._size: tuple[int, int] | None = None
        self._controller = self._shown = -1
        self._source = -1
        self._settings: Any = None
        """Those of the person's terminal, as they were."""
        self._has_begun = False

    def open(self, source: int) -> tuple[int, int]:
        """Make the terminal, for a command that reads `source`; give the descriptors of the reader and of the command.

        Raises:
            OSError: If the system has no more of them.
        """
        controller, shown = os.openpty()
        with self._lock:
            self._controller, self._shown, self._source = controller, shown, source
            os.set_blocking(controller, False)
            with suppress(OSError, termios.error):  # the source is no terminal
                self._size = self._size or termios.tcgetwinsize(source)
                self._note_settings()
                if self._settings is not None:
                    termios.tcsetattr(shown, termios.TCSANOW, self._settings)
            self.resize(*(self._size or (_ROWS, _COLUMNS)))
        return controller, shown

    def begin(self, poll: select.poll) -> Typing:
        """Hand what is typed to the command, which has started; `poll` is asked for what waits, as `Typing` has it."""
        with self._lock:
            self._has_begun = True
            self._be_raw()
        return Typing(self._source, self._controller, poll, self.keep_raw)

    def keep_raw(self) -> None:
        """Take the person's terminal in raw mode if it is in another one, and this process has it.

        A shell gives it to a job that runs in the background already, and sends no signal.
        """
        with self._lock, suppress(OSError, termios.error):  # the source is no terminal, or gone
            if _is_ours(self._source) and termios.tcgetattr(self._source)[3] & (termios.ICANON | termios.ECHO):
                self._be_raw()

    def resize(self, rows: int, columns: int) -> None:
        """Change the size; the kernel tells the programs there.

        A person's terminal is in raw mode again afterwards: a shell that stopped this process has ended that.
        """
        with self._lock:
            self._size = rows, columns
            if self._controller >= 0:
                with suppress(OSError, termios.error):
                    termios.tcsetwinsize(self._controller, self._size)
            if self._has_begun:
                self._be_raw()

    def _be_raw(self) -> None:
        with suppress(OSError, termios.error):  # the source is no terminal, or gone
            self._note_settings()
            if _is_ours(self._source):
                tty.setraw(self._source, termios.TCSANOW)

    def _note_settings(self) -> None:
        """Note the person's settings once they are no longer those of the shell that has the terminal meanwhile."""
        if self._settings is None and _is_ours(self._source):
            self._settings = termios.tcgetattr(self._source)

    def close(self) -> None:
        """Restore the person's terminal, and close the command's: its programs get SIGHUP.

        A second call does nothing.
        """
        with self._lock:
            settings, self._settings = self._settings, None
            if settings is not None and _is_ours(self._source):
                with suppress(OSError, termios.error):
                    termios.tcsetattr(self._source, termios.TCSANOW, settings)
            fds = self._controller, self._shown
            self._controller = self._shown = -1
            for fd in fds:
                if fd >= 0:
                    os.close(fd)


def _is_ours(terminal: int) -> bool:
    """Whether this process may change the settings: not in the background of a shell, which has the terminal then."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # it is not the terminal of this session
        return True


class Typing:
    """What stands on a descriptor, typed at a command's terminal as fast as that takes it."""

    def __init__(self, source: int, controller: int, poll: select.poll, keep_raw: Callable[[], None]) -> None:
        """Begin; `poll` is asked for the descriptors that wait, `controller` is in it already.

        With a person's terminal, `check` is to be called every `check_s` seconds.
        """
        self.source = source
        self.check = keep_raw
        self.check_s = _CHECK_S if os.isatty(source) else None
        self._controller = controller
        self._poll = poll
        self._waiting = bytearray()
        self._last = b"\n"
        poll.register(source, select.POLLIN)

    def take(self) -> None:
        """Read what has come, and type it."""
        self._poll.unregister(self.source)
        try:
            piece = os.read(self.source, _PIECE)
        except OSError:  # the person's terminal is gone
            piece = b""
        self._waiting += piece or self._spell_end()
        self._last = piece
        self.send()

    def _spell_end(self) -> bytes:
        """Spell the end of a file: in the middle of a line, the first key ends that."""
        try:
            key: bytes = termios.tcgetattr(self._controller)[6][termios.VEOF]
        except (OSError, termios.error):
            return b""
        return key if self._last.endswith(b"\n") else key * 2

    def send(self) -> None:
        """Type what has been read; read on when all of it is typed."""
        try:
            del self._waiting[: os.write(self._controller, self._waiting)]
        except BlockingIOError:
            pass
        except OSError:  # nothing reads there
            self._waiting.clear()
        if self._waiting:
            self._poll.modify(self._controller, select.POLLIN | select.POLLOUT)
        else:
            self._poll.modify(self._controller, select.POLLIN)
            if self._last:
                self._poll.register(self.source, select.POLLIN)

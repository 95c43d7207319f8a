"""A terminal of its own for one program: what is shown on it, and what a person types there."""

from __future__ import annotations

import os
import pty
import signal
import sys
import termios
import time
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import pytest

from avfs_git.host.processes.descriptors import is_readable

_PATIENCE_S = 10


class Terminal:
    """A program on a terminal of its own, as the leader of its session."""

    def __init__(self, *command: str, screen: tuple[int, int] | None = None) -> None:
        self.pid, self.fd = pty.fork()
        if not self.pid:
            if screen is not None:
                termios.tcsetwinsize(1, screen)
            os.execv(sys.executable, [sys.executable, *command])
        self.shown = b""

    def read_until(self, text: bytes) -> bytes:
        """Read up to a text, and give what stands before it; the next call looks behind it."""
        while text not in self.shown:
            if not is_readable(self.fd, _PATIENCE_S):
                self.fail(f"not shown: {text!r}")
            self.shown += os.read(self.fd, 1024)
        before, _, self.shown = self.shown.partition(text)
        return before

    def fail(self, reason: str) -> NoReturn:
        """End all that runs on the terminal, because the fork cannot be deleted before, and say what was shown."""
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):
                fields = path.read_text().rpartition(") ")[2].split()
                if int(fields[3]) == self.pid:
                    os.kill(int(path.parent.name), signal.SIGKILL)
        with suppress(OSError):  # the last program has closed it
            while is_readable(self.fd, 0.1) and (piece := os.read(self.fd, 1024)):
                self.shown += piece
        pytest.fail(f"{reason}; after {self.shown!r}")

    def wait_for_job(self) -> None:
        """Wait until the shell has given the terminal to a job."""
        end = time.monotonic() + _PATIENCE_S
        while os.tcgetpgrp(self.fd) == self.pid:
            if time.monotonic() > end:
                self.fail("the shell keeps the terminal")
            time.sleep(0.01)

    def type(self, text: bytes) -> None:
        os.write(self.fd, text)

    def wait(self) -> int:
        try:
            while piece := os.read(self.fd, 1024):
                self.shown += piece
        except OSError:  # the last program has closed it
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

"""Running a program on the terminal of this process, and waiting for it.

Decided here: the program stays in this process's group, as a command that a shell runs. So the terminal sends Ctrl-C,
Ctrl-Z and changes of its size to the program itself, and the job control of the shell covers both. A signal that
another process sends to this one is passed on, and so is the SIGHUP of a terminal that is gone; another one from the
terminal is not, because the program has it already. This process stops when the program has stopped, by Ctrl-Z or by
itself, and not before: the shell would take the terminal back from a program that reads from it, or has to restore its
settings first. Called by the main thread. Keeps nothing.
"""

from __future__ import annotations

import os
import signal
import subprocess
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from avfs_git.values import NamedTuple

_PASSED_ON = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP)
_FROM_TERMINAL = frozenset({signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP})
"""What a terminal sends to all of its group: if the sender is not known, the program has it."""
NOT_FOUND, NOT_EXECUTABLE = 127, 126


class Finished(NamedTuple):
    """How a program ended."""

    exit_code: int
    """128 + N if signal N killed it; 126 or 127 if it cannot be executed."""
    problem: str | None = None
    """Why it could not be executed."""


def run_foreground(
    argv: Sequence[str | bytes], *, directory: Path, environment: Mapping[str, str], stdout: int | None = None
) -> Finished:
    """Run a program with the standard streams of this process, and wait for its end.

    Args:
        argv: The program, which is searched in PATH, and its arguments.
        directory: Where it starts.
        environment: All of its variables.
        stdout: The descriptor for its standard output, instead of this process's own.
    """
    missed: list[int] = []
    # A signal that this process ignores, as under nohup, is ignored by the program too.
    passed_on = (*_PASSED_ON, signal.SIGTSTP)
    ours = [number for number in passed_on if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda got, _frame: missed.append(got)) for number in ours}
    before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    terminal = _Terminal()
    try:
        try:
            process = subprocess.Popen(argv, cwd=directory, env=dict(environment), stdout=stdout)
        except (OSError, ValueError) as error:
            return _explain(argv, error)
        # Blocked only now: the program inherits the mask.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*before, signal.SIGTTOU})
        try:
            for number in missed:
                if number not in _FROM_TERMINAL:
                    _send(process.pid, number)
            code = process.returncode = _wait(process.pid, set(before))
            terminal.take_back(was_killed=code < 0)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return Finished(code if code >= 0 else 128 - code)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Started(NamedTuple):
    """A program to run beside others."""

    argv: Sequence[str | bytes]
    directory: Path
    environment: Mapping[str, str]
    output: Path
    """The file that gets what it writes; a file that is there is emptied."""


def run_beside(programs: Sequence[Started]) -> Iterator[tuple[int, Finished]]:
    """Run programs at the same time, without input.

    Give the number of each and how it ended, in the order of their ends.

    Each signal that this process gets meanwhile is passed on to all of them.
    """
    running: dict[int, int] = {}

    def pass_on(number: int, _frame: object) -> None:
        for pid in list(running):
            _send(pid, number)

    ours = [number for number in _PASSED_ON if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, pass_on) for number in ours}
    before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        for at, program in enumerate(programs):
            try:
                with program.output.open("wb") as output:
                    process = subprocess.Popen(
                        program.argv,
                        cwd=program.directory,
                        env=dict(program.environment),
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                    )
            except (OSError, ValueError) as error:
                yield at, _explain(program.argv, error)
            else:
                running[process.pid] = at
                process.returncode = 0  # it is waited for below
        while running:
            pid, status = os.wait()
            if pid in running:
                code = os.waitstatus_to_exitcode(status)
                yield running.pop(pid), Finished(code if code >= 0 else 128 - code)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _explain(argv: Sequence[str | bytes], error: OSError | ValueError) -> Finished:
    """Say why a program could not be executed."""
    code = NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    return Finished(code, f"cannot run '{os.fsdecode(argv[0])}': {getattr(error, 'strerror', None) or error}")


def _wait(pid: int, blocked: set[signal.Signals]) -> int:
    """Wait for the end of the program; give its status, negative if a signal killed it."""
    while True:
        found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
        if found and os.WIFSTOPPED(status):
            os.kill(os.getpid(), signal.SIGSTOP)  # it goes on below when the shell continues the job
            with suppress(ProcessLookupError):
                if os.getpgid(pid) != os.getpgrp():  # else the shell has continued it, too
                    _send(pid, signal.SIGCONT)
        elif found:
            return os.waitstatus_to_exitcode(status)
        got = signal.sigwaitinfo(blocked)
        # Sent by a process, not by the terminal; of whose end the kernel tells the leader of the session alone.
        if got.si_signo != signal.SIGCHLD and (got.si_code <= 0 or got.si_signo not in _FROM_TERMINAL):
            _send(pid, got.si_signo)


def _send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # it has ended; it runs as another user
        os.kill(pid, number)


class _Terminal:
    """The terminal as it was before the program; without one, nothing happens."""

    def __init__(self) -> None:
        self._group: int | None = None
        self._settings: Any = None
        with suppress(OSError, termios.error):
            self._group = os.tcgetpgrp(0)
            self._settings = termios.tcgetattr(0)

    def take_back(self, *, was_killed: bool) -> None:
        """Make this process's group the terminal's again; after a program that was killed, also restore the settings.

        The caller blocks SIGTTOU.
        """
        if self._group != os.getpgrp():
            return
        with suppress(OSError, termios.error):
            if os.tcgetpgrp(0) != self._group:
                os.tcsetpgrp(0, self._group)
            if was_killed and self._settings is not None:
                termios.tcsetattr(0, termios.TCSADRAIN, self._settings)

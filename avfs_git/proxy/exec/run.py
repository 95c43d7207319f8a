"""Running one command to its end: its streams, its time limit, the signals that reach it.

Decided here: what happens when a command lasts too long (SIGTERM to every process that comes from it, a grace,
SIGKILL), what is read of its output and when that is complete, and which status it has. The result does not wait for a
pipe that somebody keeps open: when the command has ended, what it left behind is killed (see `host.processes.runner`),
and what is in the pipes then is all there is. With a terminal there is one stream, which is both of its outputs. What
is to be done only if the command reads a certain file (`Late`) is done while it waits in open(2). Called by `execute`
in one thread; another one may call `Stop.stop` at any time.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import host_errors
from avfs_git.host.processes.descriptors import is_readable
from avfs_git.host.processes.runner.handle import STUCK_S, CannotStart, Ended, Launch, LeaseRefused, Runner
from avfs_git.proxy.exec.output import Captured
from avfs_git.values import value_class

if TYPE_CHECKING:
    from avfs_git.host.terminals import Terminal

GRACE_MS = 2000
"""How long a command has between SIGTERM and SIGKILL."""
TIMED_OUT: Final = 124
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
_PIPE_SIZE = 1 << 20
_PIECE = 1 << 18
_LONGEST_POLL_MS = 2**31 - 1
"""What poll(2) takes, some 25 days; a longer wait is several."""


@value_class
class Output:
    """A piece of what a command writes, while it runs."""

    stream: Literal["stdout", "stderr"]
    """At a terminal, `stdout` for both."""
    data: bytes


@value_class
class Finished:
    """How a command ended."""

    exit_code: int
    """Its own status; 128 + N if signal N killed it, 124 if it timed out, 126 or 127 if it could not be executed."""
    signal: int | None
    timed_out: bool
    interrupted: bool
    """Whether its end was asked for."""
    duration_ms: float
    left: int
    """How many processes it left behind; they were killed."""
    problem: str | None = None
    """Why it could not be executed."""
    is_stuck: bool = False
    """Whether it cannot be killed, because it waits in the kernel: it is left behind."""


@value_class
class Late:
    """Work that is done only if a command opens a certain file, before the open returns."""

    file: Path | None
    """The file; None where nothing can tell when it is read: then it is done before the command starts."""
    do: Callable[[Callable[[], None]], object]
    """Does it, in the thread that watches the command.

    What it raises ends the command. It calls what it is given now and then, and passes on what that raises: the
    command's time is up, or its end was asked for.
    """


class _TimeIsUp(Exception):
    """Work before a command's open of a file takes longer than the command may last."""


class Stop:
    """How another thread, or a handler of signals, ends a command: politely first.

    Attributes:
        is_heeded: Whether a command is there to be told. Before and after it avfs itself is at work in the workspace.
    """

    def __init__(self) -> None:
        self.is_heeded = False
        self._reading, self._writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def fileno(self) -> int:
        """Give the descriptor that becomes readable."""
        return self._reading

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Send the command a signal; if it is still there after the grace, it is killed.

        May be called by a signal's handler.
        """
        with suppress(OSError):  # it is full of such wishes, or closed
            os.write(self._writing, bytes([number]))

    def take(self) -> list[int]:
        """Give the signals that were asked for since."""
        try:
            return list(os.read(self._reading, 64))
        except BlockingIOError:
            return []

    def close(self) -> None:
        """Close it. Nothing else may use it by then."""
        for fd in (self._reading, self._writing):
            os.close(fd)


def run_command(
    runner: Runner,
    launch: Launch,
    *,
    stdin: int,
    terminal: Terminal | None = None,
    more: Sequence[int] = (),
    streams: tuple[Captured, Captured],
    timeout_ms: int | None,
    grace_ms: int = GRACE_MS,
    stop: Stop | None = None,
    late: Late | None = None,
) -> Generator[Output, None, Finished]:
    """Run a command; yields what it writes as it comes, and returns how it ended.

    The command gets `more` as descriptors 3 and up. With `terminal`, that is its standard streams, and what stands on
    `stdin` is typed there. `timeout_ms` None is no limit; `grace_ms` is the time to end by itself. `late` is done at
    once where the system cannot tell when its file is read.
    """
    channels = _Pipes(stdin) if terminal is None else _AtTerminal(stdin, terminal)
    began = time.monotonic()
    if stop is not None:
        stop.is_heeded = True
    try:
        try:
            watch = _Watch(began, timeout_ms, stop)
            # below bubblewrap, its first program takes it
            has_terminal = terminal is not None and not launch.is_sandboxed
            start = partial(runner.start, launch, (*channels.given, *more), has_terminal=has_terminal)
            if late is None or not _start_late(start, late, watch):
                start()
        except CannotStart as failed:
            return _not_started(failed, launch.argv, began)
        except _TimeIsUp:
            return watch.finished()
        command = _Command(runner, channels, streams, watch, grace_ms, late)
        try:
            return (yield from command.watch())
        finally:
            command.abandon()
    finally:
        if stop is not None:
            stop.is_heeded = False
        channels.close()
        for stream in streams:
            stream.close()


class _Watch:
    """The time of a command, and the `Stop` that ends it."""

    def __init__(self, began: float, timeout_ms: int | None, stop: Stop | None) -> None:
        self.began = began
        self.deadline = began + timeout_ms / 1000 if timeout_ms is not None else None
        self.stop = stop

    def check(self) -> None:
        """Go on, unless the time is up or the end was asked for."""
        if self.is_late or (self.stop is not None and is_readable(self.stop)):
            raise _TimeIsUp

    @property
    def is_late(self) -> bool:
        """Whether the time is up."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def finished(self) -> Finished:
        """Tell of a command that was not started because its time was up before."""
        asked = self.stop.take() if self.stop is not None else []
        status = TIMED_OUT if self.is_late or not asked else 128 + asked[0]
        return Finished(status, None, self.is_late, bool(asked), (time.monotonic() - self.began) * 1000, 0)


def _start_late(start: Callable[..., int], late: Late, watch: _Watch) -> bool:
    """Start a command so that it waits where it reads the file; False, with all done, where that cannot be.

    Raises:
        _TimeIsUp: If the command's time is up before that, or its end was asked for.
    """
    if late.file is None:
        late.do(watch.check)
        return False
    try:
        with closing_fd(os.open(late.file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)) as lease:
            start(lease=lease)
    except (LeaseRefused, FileNotFoundError):
        late.do(watch.check)
        return False
    return True


class _Pipes:
    """A pipe for each output of a command.

    Attributes:
        read: What is read of here: of its standard output, and of its standard error if that is another.
        given: The command's standard streams.
    """

    def __init__(self, stdin: int) -> None:
        pipes = [_make_pipe(), _make_pipe()]
        self.read = tuple(reading for reading, _ in pipes)
        self.given = (stdin, *(writing for _, writing in pipes))
        self._writing = list(self.given[1:])

    def begin(self, poll: select.poll) -> None:  # noqa: ARG002 - as at a terminal
        """Let go of what only the command, which has started, is to have open."""
        while self._writing:
            os.close(self._writing.pop())

    def close(self) -> None:
        for fd in (*self.read, *self._writing):
            os.close(fd)


class _AtTerminal:
    """A terminal for all of them, as `_Pipes` has it. Raises HostError where the system has no more of them."""

    def __init__(self, stdin: int, terminal: Terminal) -> None:
        with host_errors("make a terminal for the command"):
            controller, shown = terminal.open(stdin)
        self.read = (controller,)
        self.given = (shown, shown, shown)
        self.begin = terminal.begin
        self.close = terminal.close


def _make_pipe() -> tuple[int, int]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with suppress(OSError):  # of an ordinary user who has many
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
    return reading, writing


def _not_started(failed: CannotStart, argv: Sequence[bytes], began: float) -> Finished:
    name = argv[0].decode("utf-8", "replace")
    reason = "it is outside of the workspace" if failed.number == errno.EXDEV else os.strerror(failed.number)
    if failed.step == "directory":
        problem, status = f"its directory cannot be entered: {reason}", 125
    elif failed.step == "start":
        problem, status = f"no process could be started: {reason}", 125
    else:
        problem = f"cannot execute '{name}': {reason}"
        status = NOT_FOUND if failed.number in (errno.ENOENT, errno.ENOTDIR) else NOT_EXECUTABLE
    return Finished(status, None, False, False, (time.monotonic() - began) * 1000, 0, problem)


class _Command:
    """A command that runs."""

    def __init__(
        self,
        runner: Runner,
        channels: _Pipes | _AtTerminal,
        streams: tuple[Captured, Captured],
        watch: _Watch,
        grace_ms: int,
        late: Late | None,
    ) -> None:
        self._runner = runner
        self._streams = dict(zip(channels.read, streams, strict=False))
        self._names: dict[int, Literal["stdout", "stderr"]] = dict(
            zip(channels.read, ("stdout", "stderr"), strict=False)
        )
        self._watch = watch
        self._deadline = watch.deadline
        self._grace_s = grace_ms / 1000
        self._stop = watch.stop
        self._late = late
        self._timed_out = False
        self._interrupted = False
        self._kill_at: float | None = None
        self._give_up_at: float | None = None
        self._is_stuck = False
        self._ended: Ended | None = None
        self._poll = select.poll()
        for fd in (*channels.read, runner.socket.fileno(), *([watch.stop.fileno()] if watch.stop is not None else [])):
            self._poll.register(fd, select.POLLIN)
        self._typing = channels.begin(self._poll)

    def watch(self) -> Generator[Output, None, Finished]:
        """Wait for its end."""
        while self._ended is None:
            for fd, events in self._poll.poll(self._patience_ms()):
                if fd in self._streams:
                    if self._typing is not None and events & select.POLLOUT:
                        self._typing.send()
                    yield from self._read(fd)
                elif self._typing is not None and fd == self._typing.source:
                    self._typing.take()
                elif self._stop is not None and fd == self._stop.fileno():
                    self._heed(self._stop)
                else:
                    self._heed_runner()
            self._check_time()
            if self._typing is not None and self._typing.check_s is not None:
                self._typing.check()
        duration_ms = (time.monotonic() - self._watch.began) * 1000
        for fd in self._streams:
            yield from self._read(fd, to_the_end=True)
        status = self._ended.status
        number = -status if status < 0 else None
        exit_code = TIMED_OUT if self._timed_out else 128 + number if number is not None else status
        return Finished(
            exit_code,
            number,
            self._timed_out,
            self._interrupted,
            duration_ms,
            self._ended.left,
            is_stuck=self._is_stuck,
        )

    def _heed_runner(self) -> None:
        message = self._runner.receive()
        if self._runner.is_asked(message) and self._late is not None:
            with suppress(_TimeIsUp):  # the command waits in open(2), and is ended there
                self._late.do(self._watch.check)
                self._runner.release()
        else:
            self._ended = self._runner.ended(message)

    def abandon(self) -> None:
        """Kill it if the iterator was given up."""
        if self._ended is None:
            self._kill()
            while self._ended is None:
                if is_readable(self._runner.socket, STUCK_S):
                    self._ended = self._runner.ended(self._runner.receive())
                else:
                    self._give_up()

    def _kill(self) -> None:
        self._runner.signal(signal.SIGKILL, everybody=True)
        self._give_up_at = time.monotonic() + STUCK_S

    def _give_up(self) -> None:
        """Wait no longer for what cannot be killed."""
        self._is_stuck = True
        self._ended = Ended(-signal.SIGKILL, 1)

    def _patience_ms(self) -> float | None:
        deadline = self._deadline if not self._timed_out else None
        check_s = self._typing.check_s if self._typing is not None else None
        check_at = time.monotonic() + check_s if check_s is not None else None
        times = [moment for moment in (deadline, self._kill_at, self._give_up_at, check_at) if moment is not None]
        return min(max(min(times) - time.monotonic(), 0) * 1000 + 1, _LONGEST_POLL_MS) if times else None

    def _check_time(self) -> None:
        if self._ended is not None:
            return
        now = time.monotonic()
        if self._kill_at is not None and now >= self._kill_at:
            self._kill_at = None
            self._kill()
        elif self._give_up_at is not None and now >= self._give_up_at:
            self._give_up()
        elif self._deadline is not None and not self._timed_out and now >= self._deadline:
            self._timed_out = True
            self._runner.signal(signal.SIGTERM, everybody=True)
            self._kill_at = now + self._grace_s

    def _heed(self, stop: Stop) -> None:
        for number in stop.take():
            self._runner.signal(number, everybody=False)
            if not self._interrupted:
                self._interrupted = True
                self._kill_at = self._kill_at or time.monotonic() + self._grace_s

    def _read(self, fd: int, *, to_the_end: bool = False) -> Generator[Output, None, None]:
        # more than a pipe holds: whoever has it from the command and still writes is not waited for
        left = 2 * _PIPE_SIZE
        while left > 0:
            try:
                piece = os.read(fd, _PIECE)
            except BlockingIOError:
                return
            except OSError:  # a terminal that the command has given up
                piece = b""
            if not piece:
                with suppress(KeyError):
                    self._poll.unregister(fd)
                return
            left -= len(piece)
            self._streams[fd].add(piece)
            yield Output(self._names[fd], piece)
            if not to_the_end:
                return

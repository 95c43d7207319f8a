"""Other processes: telling one from a later one of the same number, and what one does.

Decided here: a process is known by its number and the time at which it started, because numbers come again; how a
program is started with variables of its own, and how the end of a child is waited for. Called by `session`, `gitstore`
and `workspace`, from any thread. What is read from /proc and may not be read there is passed over.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.host.processes.inherited import is_proc_ours

if TYPE_CHECKING:
    from subprocess import Popen

_FUSE_WAIT = b"request_wait_answer"
"""The Linux function that waits for the answer to a request that its server has received, also in a killed thread."""

_JUST_ENDED = os.WEXITED | os.WNOHANG | os.WNOWAIT


def spell_with(variables: Mapping[str, str], argv: Sequence[str]) -> list[str]:
    """Spell a command line that starts a program by its path with more variables than this process has."""
    # env(1) takes each argument with a `=` for a variable, also the path of the program: the shell after it does not.
    named = (f"{name}={value}" for name, value in variables.items())
    return ["/usr/bin/env", *named, "/bin/sh", "-c", 'exec "$0" "$@"', *argv]


def await_end(process: Popen[bytes], limit_s: float) -> bool:
    """Wait until a child has ended; False if the time is up first. Its status is kept for `process.wait()`.

    `Popen.wait` with a limit is not for the thread that handles signals: a handler that raises inside it can leave its
    lock taken, and every later wait for that child hangs. This takes no lock.
    """
    until, pause_s = time.monotonic() + limit_s, 0.0005
    try:
        while process.returncode is None and os.waitid(os.P_PID, process.pid, _JUST_ENDED) is None:
            if (left_s := until - time.monotonic()) <= 0:
                return False
            pause_s = min(pause_s * 2, left_s, 0.05)
            time.sleep(pause_s)
    except ChildProcessError:  # another thread has waited for it
        pass
    return True


def _read_stat(pid: int) -> tuple[bytes, list[bytes]] | None:
    """Read the name of a process and the fields behind that, from its state on (proc_pid_stat(5)).

    Return None if there is none.
    """
    try:
        head, _, rest = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")
    except OSError:
        return None
    return (head.partition(b"(")[2], rest.split()) if rest else None


def start_time(pid: int) -> int | None:
    """Tell when a process started, in ticks of the clock since the boot; None if there is none."""
    found = _read_stat(pid)
    return int(found[1][19]) if found is not None else None


def process_of(thread: int) -> int:
    """Give the number of the process that a thread belongs to; the thread's own where that cannot be read any more.

    Costs 1 to 3 µs for the first thread of a process, 15 for another one.
    """
    try:
        os.close(os.pidfd_open(thread))
    except OSError:  # not the first thread of its process, or gone
        try:
            status = Path(f"/proc/{thread}/status").read_bytes()
        except OSError:
            return thread
        found = status.partition(b"\nTgid:")[2].split(None, 1)
        return int(found[0]) if found else thread
    return thread


def send_signal(pid: int, started: int, number: signal.Signals) -> bool:
    """Send a signal to a process if it is still that one; tell whether it was sent."""
    try:
        process = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        # After it is held: from here on the number cannot mean another one.
        if start_time(pid) != started:
            return False
        signal.pidfd_send_signal(process, number)
    except OSError:
        return False
    finally:
        os.close(process)
    return True


def find_survivors(pid: int) -> set[int]:
    """List the threads of a process whose first thread has ended.

    Return None while that lives, and none when all have ended.
    """
    found = _read_stat(pid)
    try:
        # A killed process stays as a zombie until its last thread is done in the kernel.
        return (
            set(map(int, os.listdir(f"/proc/{pid}/task"))) - {pid}
            if found is not None and found[1][0] == b"Z"
            else set()
        )
    except OSError:
        return set()


def list_family(pid: int) -> list[int]:
    """List a process and all that it started and that has not left it, parents first.

    Only itself where that is not told.
    """
    found = [pid]
    for each in found:
        try:
            for thread in os.listdir(f"/proc/{each}/task"):
                found += map(int, Path(f"/proc/{each}/task/{thread}/children").read_bytes().split())
        except OSError:
            continue
    return found


def list_stopped(pid: int) -> list[int]:
    """List a process and its descendants that are stopped, by a signal or a debugger; none where that is not told."""
    return [
        each for each in list_family(pid) if (found := _read_stat(each)) is not None and found[1][0] in (b"T", b"t")
    ]


def measure_work(pid: int) -> tuple[bytes, int, int] | None:
    """Tell a process's name, the bytes it has read and written, and its processor time in clock ticks.

    Gives None where that is not told.
    """
    found = _read_stat(pid)
    try:
        moved = Path(f"/proc/{pid}/io").read_bytes().split()
    except OSError:
        return None
    if found is None:
        return None
    name, fields = found
    return name, int(moved[1]) + int(moved[3]), int(fields[11]) + int(fields[12])


def waits_for_fuse(pid: int, thread: int) -> bool:
    """Tell whether a thread is in the kernel and waits for the answer of a FUSE server.

    Return False also where that is not told.
    """
    try:
        return Path(f"/proc/{pid}/task/{thread}/wchan").read_bytes() == _FUSE_WAIT
    except OSError:
        return False


_ENDS_BY_DEFAULT = sum(
    1 << (number - 1)
    for number in range(1, 65)
    if number not in {signal.SIGCHLD, signal.SIGCONT, signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU}
    and number not in {signal.SIGURG, signal.SIGWINCH}
)
"""The signals that end a process that neither handles nor ignores them, as a mask; signal(7)."""


def is_being_killed(thread: int) -> bool:
    """Tell whether a thread got a signal that ends it, and that it cannot handle any more.

    Return False also where that is not told.

    The kernel adds a SIGKILL to what a thread got where its process is ended by another signal, but for those that
    leave a core.
    """
    try:
        if not is_proc_ours():
            return False
        status = Path(f"/proc/{thread}/status").read_bytes()
        fields = dict(
            line.split(b":", 1) for line in status.splitlines() if line.startswith((b"Sig", b"Shd", b"Tracer"))
        )
        got, shared, blocked, ignored, handled = (
            int(fields[name], 16) for name in (b"SigPnd", b"ShdPnd", b"SigBlk", b"SigIgn", b"SigCgt")
        )
        is_traced = int(fields[b"TracerPid"]) != 0  # then the tracer decides what becomes of a signal
    except (OSError, ValueError, KeyError):
        return False
    if got & 1 << (signal.SIGKILL - 1):
        return True
    return not is_traced and bool((got | shared) & _ENDS_BY_DEFAULT & ~(blocked | ignored | handled))


def describe(process: str) -> str:
    """Name a process, by its number, as `NAME (pid N)`."""
    try:
        name = Path(f"/proc/{process}/comm").read_bytes().rstrip(b"\n").decode("utf-8", "replace")
    except OSError:
        name = "a program that has ended"
    return f"{name} (pid {process})"

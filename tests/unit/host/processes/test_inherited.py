"""What a process passes on, as values: equal as long as it passes on the same."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import pytest

from avfs_git.host.processes.inherited import is_proc_ours, read_environment, read_inherited, take_environment


def read(pid: int | None = None) -> object:
    """Read it of a process, or of this thread."""
    if pid is None:
        return read_inherited(os.getpid(), threading.get_native_id())[0]
    return read_inherited(pid, pid)[0]


def test_a_program_that_was_started_passes_on_the_same() -> None:
    """Nothing of it changes by starting a program; the umask, which is not among it, is told apart."""
    with subprocess.Popen(
        [sys.executable, "-c", "import os; os.umask(0o077); print(); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()

        theirs, umask = read_inherited(child.pid, child.pid)

        assert theirs == read()
        assert umask == 0o077
        child.communicate(b"\n")


@pytest.mark.parametrize(
    "change",
    [
        "os.nice(1)",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))",
        "open('/proc/self/oom_score_adj', 'w').write('321')",
        "ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)",  # PR_SET_NO_NEW_PRIVS
        "os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))",
    ],
)
def test_one_that_changed_does_not(change: str) -> None:
    """Rights, limits and the place in the queue for a processor count."""
    code = f"import ctypes, os, resource; {change}; print(); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()

        assert read(child.pid) != read()
        child.communicate(b"\n")


def test_a_process_that_is_gone_fails() -> None:
    """Who cannot be looked at is not taken for the same."""
    child = subprocess.Popen(["true"])
    child.wait()

    with pytest.raises(OSError, match="No such"):
        read(child.pid)


def test_an_environment_is_taken_over() -> None:
    """Names go, come and change, with bytes that are no text."""
    before = read_environment()
    wanted = {**before, b"AVFS_TEST_\xff": b"\xfe", b"LC_ALL": b"C"}
    wanted.pop(b"TERM", None)
    try:
        take_environment(wanted)
        assert read_environment() == wanted
        done = subprocess.run(["env", "-0"], check=True, capture_output=True)
        assert b"AVFS_TEST_\xff=\xfe" in done.stdout.split(b"\0")
    finally:
        take_environment(before)
    assert read_environment() == before


def test_proc_numbers_processes_as_we_do() -> None:
    """Where tests run, /proc is that of their PID namespace."""
    assert is_proc_ours()

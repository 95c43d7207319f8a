"""Whether a program is about to end, and waiting for its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from avfs_git.host.processes.processes import await_end, is_being_killed
from tests.support.interrupts import Interrupt

_CODE = """
import signal, sys
{setting}
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(
    ("setting", "number", "ends"),
    [
        ("", signal.SIGTERM, True),
        ("", signal.SIGQUIT, True),
        ("", signal.SIGCHLD, False),
        ("", signal.SIGWINCH, False),
        ("signal.signal(signal.SIGTERM, lambda *_: None)", signal.SIGTERM, False),
        ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", signal.SIGTERM, False),
        ("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])", signal.SIGTERM, False),
    ],
)
def test_a_program_ends_by_what_it_neither_handles_nor_ignores_nor_blocks(
    setting: str, number: signal.Signals, ends: bool
) -> None:
    """Seen of a program that is stopped, and so has got the signal without having come to it."""
    with subprocess.Popen(
        [sys.executable, "-c", _CODE.format(setting=setting)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        try:
            assert program.stdout is not None
            program.stdout.readline()
            os.kill(program.pid, signal.SIGSTOP)
            while b"T (stopped)" not in Path(f"/proc/{program.pid}/status").read_bytes():
                pass
            before = is_being_killed(program.pid)
            os.kill(program.pid, number)
            after = is_being_killed(program.pid)
        finally:
            program.kill()

    assert (before, after) == (False, ends)


def test_nobody_is_killed_where_there_is_nobody() -> None:
    """The number of who asks is 0 where it has none here."""
    assert not is_being_killed(0)
    assert not is_being_killed(os.getpid())


def test_a_wait_that_an_interrupt_ends_at_any_step_leaves_a_child_that_can_be_waited_for() -> None:
    """As a signal handler raises it: after any call, of Python's or of C's, that the wait makes."""
    tried = 0
    for step in count(1):
        child = subprocess.Popen(["/bin/sleep", "600"])  # no block, whose end would wait for ever, too
        interrupt = Interrupt(step)
        with suppress(KeyboardInterrupt), interrupt:
            assert not await_end(child, 0.003)
        child.kill()
        waiting = threading.Thread(target=child.wait, daemon=True)
        waiting.start()
        waiting.join(30)
        assert not waiting.is_alive(), step
        if not interrupt.has_come:
            break
        tried = step
    assert tried > 5  # else nothing was interrupted


def test_a_child_that_has_ended_keeps_its_status_until_it_is_waited_for() -> None:
    """A second look says the same, also after that."""
    with subprocess.Popen(["/bin/sh", "-c", "exit 7"]) as child:
        assert await_end(child, 60)
        assert await_end(child, 0)
        assert child.wait() == 7
        assert await_end(child, 0)

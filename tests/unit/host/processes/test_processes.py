"""Whether a program is about to end: only by a signal that it can do nothing about."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from avfs_git.host.processes.processes import is_being_killed

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

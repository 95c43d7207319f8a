"""The user's pager: the text that it gets, and where the text goes if the pager does not run.

Decided here: when a text is longer than the screen, and how a pager starts and ends. `TextOutput.result` calls both
functions, in the main thread and with nothing of a vault held: a person may read for hours. The text is whole before
the pager starts, so that a pager which is missing or quits costs no more than itself.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping

from avfs_git.patterns import compiled
from avfs_git.values import NamedTuple

_COLOR = compiled(r"\x1b\[[0-9;]*m")
_NOT_RUN = frozenset({126, 127})
"""A shell's status where the program could not be executed, or was not found."""


class Pager(NamedTuple):
    """A pager as the user names it."""

    command: str
    """A text for a shell, as git takes it."""
    environment: Mapping[str, str]


def is_longer(text: bytes, columns: int, lines: int) -> bool:
    """Say whether a text and the prompt behind it are more than a screen shows."""
    rows = 0
    for line in text.decode("utf-8", "replace").splitlines():
        rows += max(1, -(-len(_COLOR.sub("", line)) // columns))
        if rows >= lines:
            return True
    return False


def page(text: bytes, pager: Pager) -> bool:
    """Show a text with a pager, and wait until that ends; False if it could not be run.

    Ctrl-C is the pager's: less stops a search with it and goes on. A pager that ends early has shown what its user
    wanted.
    """
    try:
        process = subprocess.Popen(["/bin/sh", "-c", pager.command], stdin=subprocess.PIPE, env=pager.environment)
    except OSError:
        return False
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # not before: the pager would inherit it
    try:
        process.communicate(text)  # ignores EPIPE
        return process.returncode not in _NOT_RUN
    finally:
        signal.signal(signal.SIGINT, handler)


def measure_screen(descriptor: int) -> os.terminal_size | None:
    """Measure the terminal of a descriptor; None without a size, as of a pseudo-terminal that a program reads."""
    try:
        size = os.get_terminal_size(descriptor)
    except OSError:
        return None
    return size if size.columns and size.lines else None

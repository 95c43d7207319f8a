"""The log of a session's process, in a file of bounded size.

Decided here: standard error and the log are one file, so that a crash of the interpreter is told too, and a log that
grows beyond `_MAX` begins anew. Supervisor and server write to it at once, each line with one system call.

The session calls `open_log` first of all, and `format_log` when programs can use the tree, because `logging` takes a
while to load. What goes wrong before that is written to the same file, without a time.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TextIO

_MAX = 1 << 20


def open_log(path: Path) -> None:
    """Send standard output and standard error to a file from now on, and with them the log."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    os.dup2(fd, 1)
    os.dup2(fd, 2)
    os.close(fd)


def format_log() -> None:
    """Begin each line of the log with time and process, and keep the file small."""
    import logging  # noqa: PLC0415 - see above

    class BoundedLog(logging.StreamHandler[TextIO]):
        """Writes to standard error, which is the log."""

        def emit(self, record: logging.LogRecord) -> None:
            """Write a line; first make room if there is none."""
            try:
                if os.fstat(2).st_size > _MAX:
                    os.ftruncate(2, 0)
            except OSError:  # a full disk does not end a session
                pass
            super().emit(record)

    handler = BoundedLog(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.raiseExceptions = False  # a line that cannot be written is not worth a trace that cannot either

"""The program, as `avfs` and as `python -m avfs_git`.

Decided here: how Ctrl-C ends avfs while it is imported, when nothing has begun. `cli.app` has the rest.
"""

from __future__ import annotations

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Import the program and run it. A Ctrl-C meanwhile ends the process by the signal, without a trace."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # else the caller ignores the signal
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from avfs_git.cli import app  # noqa: PLC0415 - what takes the time

    if handler is signal.default_int_handler:
        signal.signal(signal.SIGINT, handler)
    app.main()


if __name__ == "__main__":
    main()

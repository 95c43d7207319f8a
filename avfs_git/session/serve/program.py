"""The program of a session, as this process would run it.

Decided here: which command line that is, and that it finds its modules where this process does, so that both run the same code.
Called by `start` and `nurseries`; from any thread.
"""

from __future__ import annotations

import os
import sys

import avfs_git
from avfs_git.errors import SessionFailed


def own_program(fork: str, directory: str) -> tuple[tuple[str, ...], list[str]]:
    """Tell how a session runs what this process runs: its command line, and where it finds its modules.

    Args:
        fork: The fork, for people who look at the list of processes.
        directory: Where it is mounted, for the same.

    Raises:
        SessionFailed: If this process does not know its interpreter.
    """
    package = os.path.dirname(os.path.abspath(avfs_git.__file__))
    if not sys.executable:
        raise SessionFailed("there is no Python interpreter to run the session with", "")
    paths = [os.path.dirname(package), *(path for path in map(os.path.abspath, filter(None, sys.path)))]
    return (sys.executable, "-I", "-S", f"{package}/session/__main__.py", fork, directory), list(dict.fromkeys(paths))

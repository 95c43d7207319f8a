"""The first lines of a session's process, before anything of avfs is imported.

    python -I -S avfs_git/session/__main__.py FORK DIRECTORY     (for people who look at the list of processes)

Decided here: how the process comes away from its starter, `session.serve.start`. It reads on standard input where
Python finds its modules (the starter's `sys.path`, so that both run the same code) and what to do (`request.Request`),
forks so that it is nobody's child, and becomes a session of its own without a terminal. It is then a session, or a
nursery (`session.serve.nursery`), in whose forks sessions go on from here.
"""

from __future__ import annotations

import gc
import json
import os
import sys


def main() -> None:
    """Come away from the starter, then be a session."""
    given = json.load(sys.stdin)
    if os.fork():
        os._exit(0)  # the starter waits for this one
    os.setsid()
    os.chdir("/")
    sys.path[:] = given["path"]
    gc.disable()  # what is loaded stays; `process` turns the collector on when all is loaded
    if "nursery" in given:
        from avfs_git.session.serve.nursery import live  # noqa: PLC0415 - found only now

        live(given["nursery"], given["path"], given["idle_s"])
    from avfs_git.session.serve.process import run  # noqa: PLC0415 - the same

    run(given["request"])


if __name__ == "__main__":
    main()

"""The first lines of a session's process, before anything of avfs is imported.

    python -I -S avfs_git/session/__main__.py FORK DIRECTORY     (for people who look at the list of processes)

Decided here: how the process comes away from the one that started it. It reads on standard input where Python finds its
modules (`sys.path` of the starter, so that both run the same code) and what to do (`request.Request`), forks so that it is
nobody's child, and becomes a session of its own without a terminal. `session.serve.start` runs it, where there is no nursery.
Or it is a nursery (`session.serve.nursery`), and what goes on from here in each of its forks is a
session.
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
        os._exit(0)  # whom the starter waits for
    os.setsid()
    os.chdir("/")
    sys.path[:] = given["path"]
    gc.disable()  # what is loaded stays; `process` looks after the collector when all is there
    if "nursery" in given:
        from avfs_git.session.serve.nursery import live  # noqa: PLC0415 - found only now

        live(given["nursery"], given["path"], given["idle_s"])
    from avfs_git.session.serve.process import run  # noqa: PLC0415 - the same

    run(given["request"])


if __name__ == "__main__":
    main()

"""The first lines of the process that maintains a vault in the background, before anything of avfs is imported.

    python -I -S avfs_git/sdk/__main__.py GIT_DIR     (the argument is for people who look at the list of processes)

Decided here: where the process finds its modules: on standard input it reads the `sys.path` of its starter, `sdk.background`, and
what to do.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Read what to do, then do it."""
    given = json.load(sys.stdin)
    sys.path[:] = given["path"]
    from avfs_git.sdk.background import run  # noqa: PLC0415 - found only now

    run(given)


if __name__ == "__main__":
    main()

"""One operation on a vault of `tests.support.faults`, as a process of its own that is disturbed from outside.

python -m tests.support.oneshot HOME checkpoint|restore|fork
"""

from __future__ import annotations

import sys
from pathlib import Path

from avfs_git import Avfs
from avfs_git.errors import AvfsError


def main(home: str, operation: str) -> int:
    """Do it; say the code of the error that it ended with."""
    try:
        with Avfs(Path(home)) as avfs:
            vault = avfs.open_vault("v")
            if operation == "checkpoint":
                vault.workspace("work").checkpoint("three")
            elif operation == "restore":
                vault.workspace("work").restore("one")
            else:
                vault.fork("task", source="work")
    except AvfsError as error:
        print(error.code)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))

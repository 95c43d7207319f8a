"""Run avfs with little memory.

    python -m tests.support.limited MEGABYTES ARGUMENT...

runs `avfs ARGUMENT...`, with all that it starts, so that no process has more than so much memory of its own. The limit
is on data (RLIMIT_DATA: the heap and private mappings), not on addresses: the memory that servers hand over is a
mapping of 2 GiB of which hardly a page is used.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_TREE
from avfs_git.gitstore.formats.trees import serialize_tree
from avfs_git.paths import Oid
from tests.support.cli import Ran
from tests.support.objects import MemorySource

PROJECT = Path(__file__).parents[2]
MEGABYTES = 400
"""More than any command needs, and less than remembering half a million files takes."""


def run_limited(*arguments: str | Path, megabytes: int = MEGABYTES) -> Ran:
    """Run a command of avfs with so much memory, as a program of its own."""
    shown = tuple(map(str, arguments))
    argv = [sys.executable, "-m", "tests.support.limited", str(megabytes), *shown]
    done = subprocess.run(argv, cwd=PROJECT, capture_output=True, check=False)
    return Ran(shown, done.returncode, done.stdout, done.stderr.decode("utf-8", "replace"))


def limit_memory(megabytes: int) -> None:
    """Let this process, and those that it starts, have no more memory than that."""
    resource.setrlimit(resource.RLIMIT_DATA, (megabytes << 20, megabytes << 20))


def make_bomb(source: MemorySource, leaf: bytes = b"x\n", *, levels: int = 10, breadth: int = 10) -> Oid:
    """Make trees, each naming the next several times: `breadth ** levels` files of which one is stored.

    Gives the tree.
    """
    oid, mode = source.add(KIND_BLOB, leaf), 0o100644
    for _ in range(levels):
        oid = source.add(KIND_TREE, serialize_tree({b"%d" % number: (mode, oid) for number in range(breadth)}))
        mode = 0o40000
    return oid


if __name__ == "__main__":
    limit_memory(int(sys.argv[1]))
    os.execv(sys.executable, [sys.executable, "-m", "avfs_git", *sys.argv[2:]])

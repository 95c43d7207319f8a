"""The first lines of the process of a plug-in, before anything of avfs is imported.

    python -I -S avfs_git/workspace/plugins/__main__.py SOCKET

Decided here: that the process finds its modules where the process does that asks it (`asking`), whose `sys.path` comes
first on the socket. It has no standard input and output, and a session of its own, so that it can be killed with all
that it started.
"""

from __future__ import annotations

import json
import socket
import sys


def main() -> None:
    """Learn what this process is for, and serve."""
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        given = json.loads(channel.recv(1 << 18))
        sys.path[:] = given["path"]
        from avfs_git.workspace.plugins.process import serve  # noqa: PLC0415 - found only now

        serve(channel, given)


if __name__ == "__main__":
    main()

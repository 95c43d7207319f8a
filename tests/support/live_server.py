"""Serve a fork's workspace as a live tree until it is unmounted: the process that tests put behind a mount.

    python -m tests.support.live_server GIT_DIR FORK DIRECTORY [OPTION...]

Options: `writeback`, `threads=N`, `allow_other`. Prints `ready` when programs can use the tree, and at the end the
count of requests as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

from avfs_git.fuse import protocol
from avfs_git.fuse.channel import MAX_IO, Channel
from avfs_git.fuse.server import THREADS, TreeServer
from avfs_git.host.mounts import mount_fuse
from avfs_git.workspace.vault import OpenVault
from avfs_git.workspace.workspace import OpenWorkspace


def main(git_dir: str, fork: str, directory: str, *options: str) -> None:
    """Serve until unmounted."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    os.umask(0)
    chosen = dict(option.partition("=")[::2] for option in options)
    opened = OpenWorkspace(OpenVault(Path(git_dir), name="test"), fork, recover=lambda _: None)
    locked = opened.acquire()
    locked.begin()
    fd = mount_fuse(
        Path(directory), source=f"avfs:{fork}", subtype="avfs", allow_other="allow_other" in chosen, max_read=MAX_IO
    )
    channel = Channel(fd)
    channel.negotiate(writeback="writeback" in chosen)
    server = TreeServer(opened.merged, channel)
    print("ready", flush=True)
    server.serve(threads=int(chosen.get("threads", THREADS)))
    locked.end()
    opened.lock.release()
    print(json.dumps({protocol.OPERATION_NAMES.get(number, str(number)): count for number, count in server.counts.items()}))


if __name__ == "__main__":
    main(*sys.argv[1:])

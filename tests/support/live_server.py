"""Serve a fork's workspace as a live tree until it is unmounted: the process that tests put behind a mount.

    python -m tests.support.live_server GIT_DIR FORK DIRECTORY [OPTION...]

Options: `writeback`, `allow_other`, `user=UID`. Prints `ready` when programs can use the tree, and the
counts of requests as a line of JSON after SIGUSR1 and at the end.
"""

from __future__ import annotations

import codecs
import json
import logging
import os
import signal
import sys
from pathlib import Path

from avfs_git.fuse import protocol
from avfs_git.fuse.channel import MAX_IO, Channel
from avfs_git.fuse.server import TreeServer
from avfs_git.host.mounts import mount_fuse
from avfs_git.workspace.vault import OpenVault
from avfs_git.workspace.workspace import OpenWorkspace


def main(git_dir: str, fork: str, directory: str, *options: str) -> None:
    """Serve until unmounted."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    os.umask(0)
    chosen = dict(option.partition("=")[::2] for option in options)
    if "user" in chosen:
        # Here and not by whoever starts this, because that user may not be able to reach the interpreter.
        user = int(chosen["user"])
        for codec in ("ascii", "utf-8", "latin-1"):  # what would be imported when it is first used
            codecs.lookup(codec)
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    opened = OpenWorkspace(OpenVault(Path(git_dir), name="test"), fork, recover=lambda _: None)
    locked = opened.acquire()
    locked.begin()
    fd = mount_fuse(Path(directory), source=f"avfs:{fork}", subtype="avfs", allow_other="allow_other" in chosen, max_read=MAX_IO)
    channel = Channel(fd)
    channel.negotiate(writeback="writeback" in chosen)
    server = TreeServer(opened.merged, channel)

    def report(*_: object) -> None:
        counts = {protocol.OPERATION_NAMES.get(number, str(number)): count for number, count in server.counts.items()}
        print(json.dumps(counts), flush=True)

    signal.signal(signal.SIGUSR1, report)
    print("ready", flush=True)
    server.serve()
    locked.end()
    opened.lock.release()
    channel.close()
    report()


if __name__ == "__main__":
    main(*sys.argv[1:])

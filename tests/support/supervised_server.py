"""Serve a fork's workspace as a live tree by servers that may die, below a supervisor: the process behind such a mount.

    python -m tests.support.supervised_server GIT_DIR FORK DIRECTORY supervised [OPTION...]

Options: `die=FILE`, a file with a number that counts down to 0 with each fault point that a server reaches, and at 0
the server dies, below 0 at each point; `tell=FILE`: where that file is, it is removed at the next point, and the server
dies while it tells the kernel to forget a name of the root, for which the kernel waits for who changes the root;
`break`, with which no server after the first gets as far as to serve, and the next one is not waited for. Prints
`ready` when programs can use the tree, and the counts of the last server's requests as a line of JSON after SIGUSR1 and
at the end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

from avfs_git import faults
from avfs_git.fuse import protocol
from avfs_git.fuse.channel import MAX_IO, Channel
from avfs_git.fuse.handover import supervisor
from avfs_git.fuse.handover.handover import Handover
from avfs_git.fuse.server import TreeServer
from avfs_git.host.mounts.mounts import mount_fuse
from avfs_git.vfs.tree.inodes import ROOT_INO
from avfs_git.workspace.opened.workspace import OpenWorkspace
from avfs_git.workspace.vault.vault import OpenVault
from tests.support.failing import DieAt


def count_down(file: Path) -> None:
    """Count a fault point, and die where its turn has come."""
    left = int(file.read_bytes() or b"0")
    if left < 0:
        os._exit(DieAt.STATUS)
    if left > 0:
        file.write_bytes(b"%d" % (left - 1))
        if left == 1:
            os._exit(DieAt.STATUS)


def die_telling(file: Path, channel: Channel) -> None:
    """Die while a thread is kept by the kernel."""
    if file.exists():
        file.unlink()
        threading.Thread(target=channel.forget_name, args=(ROOT_INO, b"name"), daemon=True).start()
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGKILL)


def main(git_dir: str, fork: str, directory: str, *options: str) -> None:
    """Serve until unmounted."""
    os.umask(0)
    chosen = dict(option.partition("=")[::2] for option in options)
    opened = OpenWorkspace(OpenVault(Path(git_dir), name="test"), fork, recover=lambda _: None)
    opened.serve("test")
    fd = mount_fuse(Path(directory), source=f"avfs:{fork}", subtype="avfs", allow_other=False, max_read=MAX_IO)
    channel = Channel(fd)
    channel.negotiate()
    if "break" in chosen:
        vars(supervisor)["_LONGEST_PAUSE_S"] = 0.0

    def serve(handover: Handover) -> None:
        if "break" in chosen and handover.generation:
            os._exit(3)
        server = TreeServer(opened.merged, channel, handover, wait_elsewhere=opened.vault.store.wait_elsewhere)
        if handover.generation:
            opened.take_over()

        def report(*_: object) -> None:
            counts = {
                protocol.OPERATION_NAMES.get(number, str(number)): count for number, count in server.counts.items()
            }
            print(json.dumps(counts), flush=True)

        signal.signal(signal.SIGUSR1, report)
        if not handover.generation:
            print("ready", flush=True)
        if "die" in chosen:
            faults.arm(lambda _: count_down(Path(chosen["die"])))
        if "tell" in chosen:
            faults.arm(lambda _: die_telling(Path(chosen["tell"]), channel))
        server.serve()
        opened.stop_serving()
        report()

    status = supervisor.supervise(serve, Handover.make())
    channel.close()
    if status:
        raise SystemExit(f"given up with status {status}")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""Serve a fork's workspace as a live tree until it is unmounted: the process that tests put behind a mount.

    python -m tests.support.live_server GIT_DIR FORK DIRECTORY [OPTION...]

Options: `allow_other`, `at=COMMIT` to show a commit read-only, `base` to do so below an overlayfs, `all` to show the
whole vault, `most=N` nodes that the kernel may know, and `portable` to serve through libfuse. Prints `ready` when
programs can use the tree, and the counts of requests as a line of JSON after SIGUSR1 and at the end.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from pathlib import Path

from avfs_git.fuse import libfuse, protocol
from avfs_git.fuse.channel import MAX_IO, Channel
from avfs_git.fuse.composite import CompositeServer
from avfs_git.fuse.handover.forgetting import NODES_MAX
from avfs_git.fuse.handover.handover import Handover
from avfs_git.fuse.server import TreeServer
from avfs_git.host.mounts.mounts import mount_fuse
from avfs_git.paths import Oid
from avfs_git.session.serve.catalogue import open_catalogue, reopen
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.workspace.opened.workspace import OpenWorkspace
from avfs_git.workspace.vault.commits import open_commit
from avfs_git.workspace.vault.vault import OpenVault


def main(git_dir: str, fork: str, directory: str, *options: str) -> None:
    """Serve until unmounted."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    os.umask(0)
    chosen = dict(option.partition("=")[::2] for option in options)
    vault = OpenVault(Path(git_dir), name="test")
    opened = None
    tree: MergedTree
    if "all" in chosen:
        opened = None
    elif "at" in chosen:
        tree = open_commit(vault, Oid(bytes.fromhex(chosen["at"])))
    else:
        opened = OpenWorkspace(vault, fork, recover=lambda _: None)
        opened.acquire().begin()
        tree = opened.merged
    if "portable" in chosen:
        libfuse.serve(
            tree,
            Path(directory),
            source=f"avfs:{fork}",
            read_only=opened is None,
            allow_other="allow_other" in chosen,
            ready=lambda: print("ready", flush=True),
        )
        end(opened)
        print("{}", flush=True)
        return
    fd = mount_fuse(
        Path(directory),
        source=f"avfs:{fork}",
        subtype="avfs",
        read_only=opened is None,
        allow_other="allow_other" in chosen,
        max_read=MAX_IO,
    )
    channel = Channel(fd)
    channel.negotiate()
    server: TreeServer | CompositeServer
    if "all" in chosen:
        server = CompositeServer(
            open_catalogue(vault),
            channel,
            Handover.make(),
            statvfs=lambda: os.statvfs(git_dir),
            reopen=lambda identity: reopen(vault, identity),
        )
    else:
        search = tree.lower.search_xattrs() if "base" in chosen else None
        most = int(chosen.get("most", NODES_MAX))
        server = TreeServer(tree, channel, Handover.make(), most_nodes=most, xattr_search=search)

    def report(*_: object) -> None:
        counts = {protocol.OPERATION_NAMES.get(number, str(number)): count for number, count in server.counts.items()}
        print(json.dumps(counts), flush=True)

    signal.signal(signal.SIGUSR1, report)
    print("ready", flush=True)
    server.serve()
    end(opened)
    channel.close()
    report()


def end(opened: OpenWorkspace | None) -> None:
    """Give the workspace back."""
    if opened is not None:
        with opened.locked() as locked:  # once more: it is this process's already
            locked.end()
        opened.lock.release()


if __name__ == "__main__":
    main(*sys.argv[1:])

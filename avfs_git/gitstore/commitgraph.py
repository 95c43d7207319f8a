"""Having git write its commit-graph, a cache with which it finds merge bases that are far away in half the time.

Decided here: git writes the file in a scratch repository, and it is moved to its place when it is whole. Written in the
vault, it would leave `commit-graph.lock` where git or the machine dies, and no graph would be written after that.
Called by `gc` and by maintenance. A crash leaves the old graph and a temporary directory.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from avfs_git.gitstore.gitcommand import output_of
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.scratch import scratch_repository
from avfs_git.host.files.durable import make_dirs_durably, write_file_atomically
from avfs_git.paths import Oid


def write_commit_graph(store: ObjectStore, tips: Iterable[Oid]) -> None:
    """Have git write a graph of the commits that `tips` reach; costs a walk over their history.

    In a shallow repository git uses none, and nothing is done.

    Raises:
        GitFailed: If there is no git, or a commit is missing. The old graph stays.
        HostError: If the disk refuses. The old graph stays.
    """
    if (store.git_dir / "shallow").exists():
        return
    lines = "".join(oid.hex() + "\n" for oid in tips if store.exists(oid)).encode()
    with scratch_repository("write a commit-graph", is_trusting=True) as scratch:
        options = ["write", "--stdin-commits", "--no-progress"]
        output_of(scratch, "commit-graph", options, given=lines, borrowed=store.objects_dir)
        with suppress(FileNotFoundError):  # no commit, no graph
            data = (scratch / "objects" / "info" / "commit-graph").read_bytes()
            # a repository that was removed does not come back
            make_dirs_durably(store.objects_dir / "info", parents=False)
            write_file_atomically(store.objects_dir / "info" / "commit-graph", data, mode=0o444)

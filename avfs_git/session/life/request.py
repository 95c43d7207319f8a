"""What a starter asks of a session's process: one JSON object on its standard input, or the same sent to a nursery.

Decided here: its fields. Both sides run the same code (see `__main__`), so it has no version. The values are plain:
strings, numbers, tuples.
"""

from __future__ import annotations

from typing import Final

from avfs_git.paths import WHOLE_VAULT
from avfs_git.values import value_class

REFUSED: Final = "refused"
"""In the answer on the pipe of the starter: a nursery has not made the session (`nursery_client`), and why."""


@value_class
class Request:
    """What a session is to be.

    Attributes:
        git_dir: The vault.
        vault: Its name in messages.
        fork: The fork, or `paths.WHOLE_VAULT`.
        directory: Where to mount, resolved (`life.point.resolve`).
        lock_timeout_s: How long to wait for other processes.
        at: The commit to show; None for the workspace.
        sidecar: The sidecar commit to show with that commit; None for the commit's own.
        allow_other: Let in other users.
        identity: Name and address of the author of commits, unless the vault's settings say it.
        leash_fd: A pipe; the session ends when its other end is closed. None if it lives by itself.
        remote_environment: What a partial clone needs to fetch contents: see `gitstore.remote.runner.Access`.
        backend: How to show the tree, one of `model.SessionBackend`.
        backend_reasons: Why no better backend is used.
        is_shared: It ends with its last user (`session.life.users`); the leash is held until the starter is one.
        base: The base of the workspace, for overlayfs: the commit, the sidecar commit (as the workspace's state names
            them), and where the two are mounted; None for each that is not there.
        base_fd: Counts this process as a user of that mount; None if there is none. It stays the starter's, too.
        is_foreign: Whether nothing in the vault may run a program, see `OpenVault`.
        home: The home of avfs whose plug-ins are asked (`workspace.plugins.enabled`); None to ask none.
        mounts: Where forks are mounted that a program walks into through a mount of the whole vault; None if nowhere.
        adopted: The id of a session whose process died, and whose mount this one goes on with.
        ready_fd: The pipe on which the starter waits. `serve.start` makes it.
        said_fd: Where the process writes errors until there is a log. The same.
    """

    git_dir: str
    vault: str
    fork: str
    directory: str
    lock_timeout_s: float
    at: str | None = None
    sidecar: str | None = None
    allow_other: bool = False
    identity: tuple[str, str] | None = None
    leash_fd: int | None = None
    remote_environment: dict[str, str] | None = None
    backend: str = "fuse"
    backend_reasons: tuple[str, ...] = ()
    is_shared: bool = False
    base: tuple[str | None, str | None, str | None] = (None, None, None)
    base_fd: int | None = None
    is_foreign: bool = False
    home: str | None = None
    mounts: str | None = None
    adopted: str | None = None
    ready_fd: int = -1
    said_fd: int = -1

    @property
    def is_workspace(self) -> bool:
        """Whether the session shows the workspace, for reading and writing."""
        return self.at is None and self.fork != WHOLE_VAULT

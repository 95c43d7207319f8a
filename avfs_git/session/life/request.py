"""What a starter asks of the process of a session: one JSON object on its standard input, or the same sent to a nursery.

Decided here: its fields. Both sides run the same code (see `__main__`), so that it has no version.
"""

from __future__ import annotations

from typing import Final

from avfs_git.model import WHOLE_VAULT
from avfs_git.values import value_class

REFUSED: Final = "refused"
"""In the answer on the pipe of the starter: a nursery has not made the session (`nurseries`), and why."""


@value_class
class Request:
    """What a session is to be.

    Attributes:
        git_dir: The vault.
        vault: Its name in messages.
        fork: The fork, or `model.WHOLE_VAULT`.
        directory: Where to mount, resolved.
        at: The commit to show; None for the workspace.
        sidecar: The sidecar commit to show with that one, as a workspace has it; None for the commit's own.
        allow_other: Let in other users.
        identity: Name and address of who makes commits, unless the vault's settings say it.
        lock_timeout_s: How long to wait for other processes.
        ready_fd: The pipe on which the starter waits.
        said_fd: Where the process says what it has to say until there is a log.
        leash_fd: A pipe whose other end is closed when the session is to end; None if it lives by itself.
        remote_environment: What a lazy vault needs to fetch contents: see `gitstore.remote.runner.Access`.
        backend: How it shows the tree, one of `model.SessionBackend`.
        backend_reasons: Why a better one is not used.
        is_shared: It ends with its last user (`session.life.users`); the leash is held until the starter is one.
        base: What the workspace stands on, for a mount of overlayfs: the commit, the sidecar commit (as the workspace's state
            names them), and where the two are mounted; None for each that is not there.
        base_fd: What counts this process as a user of that mount; None if there is none.
        mounts: Where forks are mounted that somebody walks into through a mount of the whole vault; None if nowhere.
        adopted: The id of the session whose process died and whose mount this one goes on with; None for one that is to be made.
    """

    git_dir: str
    vault: str
    fork: str
    directory: str
    at: str | None
    allow_other: bool
    identity: tuple[str, str] | None
    lock_timeout_s: float
    ready_fd: int
    said_fd: int
    leash_fd: int | None = None
    sidecar: str | None = None
    is_shared: bool = False
    backend: str = "fuse"
    backend_reasons: tuple[str, ...] = ()
    remote_environment: dict[str, str] | None = None
    base: tuple[str | None, str | None, str | None] = (None, None, None)
    base_fd: int | None = None
    mounts: str | None = None
    adopted: str | None = None

    @property
    def is_workspace(self) -> bool:
        """Whether the session shows the workspace, for reading and writing."""
        return self.at is None and self.fork != WHOLE_VAULT

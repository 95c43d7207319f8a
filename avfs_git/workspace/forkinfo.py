"""What forks there are, and what is known of each.

Decided here: where ancestry and base of a fork are read from. Apart from `forks`, which makes and ends them, so that
a light command loads nothing that writes. Reads refs and one small file a fork.
"""

from __future__ import annotations

from avfs_git.errors import ForkNotFound
from avfs_git.model import ForkInfo
from avfs_git.workspace.origin import peek_state
from avfs_git.workspace.vault import OpenVault


def fork_info(vault: OpenVault, fork: str) -> ForkInfo:
    """Describe a fork.

    Raises:
        ForkNotFound: If there is none of that name.
    """
    head = vault.read_head(fork)
    if head is None and not vault.has_fork(fork):
        raise ForkNotFound(fork)
    state = peek_state(vault, fork)
    if state is None:
        return ForkInfo(fork, head.hex() if head else None, head.hex() if head else None)
    return ForkInfo(
        name=fork,
        head=head.hex() if head else None,
        base=state.base,
        parent=state.parent,
        forked_at=state.forked_at,
        ephemeral=state.ephemeral,
        created_at_ns=state.created_at_ns,
    )


def list_forks(vault: OpenVault) -> list[ForkInfo]:
    """Describe all forks, by name."""
    names = set(vault.list_heads())
    default = vault.default_fork()
    if default is not None:
        names.add(default)
    return [fork_info(vault, name) for name in sorted(names)]

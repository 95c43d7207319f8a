"""`avfs stats`: what takes the room of a vault."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avfs_git.cli.context import State
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.model import VaultStats


@verb("stats", looks=True, view="vaults", example="avfs stats", pages=True)
def command(state: State) -> VaultStats:
    """Show what a vault holds, and what takes its room on disk

    Objects are the contents, directories and commits of history; workspaces hold the changes of forks; the trash holds
    the workspaces of deleted forks until `avfs gc` removes them. Reads every directory of the vault.
    """
    with state.open_vault() as vault, state.output.working("measuring the vault"):
        return vault.stats()

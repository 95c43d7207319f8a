"""`avfs sessions`, also `avfs ps`: what is mounted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avfs_git.cli.context import State
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.cli.results import SessionList


@verb("sessions", view="mounts")
def command(state: State) -> SessionList:
    """List what is mounted

    Of all vaults of the home, or of the one that `--vault` names. What a process that died has left behind is cleaned up
    on the way.
    """
    if state.target().vault is None:
        return {"sessions": state.avfs.sessions()}
    with state.open_vault() as vault:
        return {"sessions": vault.sessions()}

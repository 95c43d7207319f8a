"""`avfs status`: what the next checkpoint would save."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avfs_git.cli.context import State
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.model import Status


@verb("status", looks=True, view="history", example="avfs status")
def command(state: State) -> Status:
    """Show what the next checkpoint would save

    Changes of ignored files, empty directories, times and attributes are listed apart: they are kept beside the
    commit, not in it.
    """
    with state.open_workspace() as workspace:
        return workspace.status()

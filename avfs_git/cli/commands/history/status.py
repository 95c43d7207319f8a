"""`avfs status`: what the next checkpoint would save."""

from __future__ import annotations

from typing import TYPE_CHECKING

from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.model import Status
    from avfs_git.sdk import Workspace


@verb("status", looks=True, view="history", example="avfs status")
def command(workspace: Workspace) -> Status:
    """Show what the next checkpoint would save

    Changes of ignored files, empty directories, times and attributes are listed apart: they are kept beside the
    commit, not in it.
    """
    return workspace.status()

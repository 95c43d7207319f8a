"""`avfs stop`: save a last checkpoint and take a mount away."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.commands.mounts.unmount import check_options, not_mounted, open_session
from avfs_git.cli.context import State
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.model import UnmountResult


@verb("stop", view="mounts.unmount", example="avfs stop task")
@click.argument("name", required=False, metavar="[FORK|DIR]")
@click.option("--no-checkpoint", is_flag=True, help="Save no checkpoint: what is not saved stays in the workspace.")
@click.option(
    "-l", "--lazy", is_flag=True, help="Also while programs use it: it is out of sight, and ends with the last of them."
)
@click.option(
    "--force", is_flag=True, help="Also while programs use it: what they do there from now on fails. Not on overlayfs."
)
def command(state: State, name: str | None, no_checkpoint: bool, lazy: bool, force: bool) -> UnmountResult:
    """Save a last checkpoint, then unmount

    If the checkpoint fails, the mount stays. Which mount is meant is told as for `avfs unmount`.
    """
    check_options(lazy, force)
    with open_session(state, name) as session:
        return (
            not_mounted(name) if session is None else session.stop(checkpoint=not no_checkpoint, lazy=lazy, force=force)
        )

"""`avfs stop`: save a last checkpoint and take a mount away."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

import click

from avfs_git.cli.commands.mounts.unmount import check_options, find_unrecorded, open_session
from avfs_git.cli.context import State
from avfs_git.cli.verb import verb
from avfs_git.errors import MountError, quote

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
        if session is not None:
            return session.stop(checkpoint=not no_checkpoint, lazy=lazy, force=force)
    from avfs_git.model import UnmountResult  # noqa: PLC0415 - not needed to show help
    from avfs_git.session.life.mountsource import vault_of_source  # noqa: PLC0415 - the same

    place, mounted = find_unrecorded(name)
    if mounted is not None:
        shown = os.fspath(mounted.directory)
        raise MountError(
            f"{quote(shown)} is mounted, but its vault '{vault_of_source(mounted.source)}' is not there or does not "
            "have the mount's record",
            hint=f"Unmount it without a checkpoint: `avfs unmount {shlex.quote(shown)}`.",
        )
    return UnmountResult(None, place, "not_mounted")

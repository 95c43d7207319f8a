"""`avfs maintain`: keep a vault small and fast."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.model import MaintenanceResult


@verb("maintain", looks=lambda given: bool(given["status"]), view="vaults", example="avfs maintain --status")
@click.option("--status", "--dry-run", "status", is_flag=True, help="Only tell what is due, and what the last run did.")
@click.option("--all", "every_step", is_flag=True, help="Do all steps but gc, however little is due.")
def command(state: State, status: bool, every_step: bool) -> MaintenanceResult:
    """Keep a vault small and fast

    Joins packs and stores similar objects as differences, puts refs into one file, shortens git's logs of remote
    branches, makes the index of the operation log, folds forks that are not in use, and collects what has been too old
    for undo for a week, where much has gathered. avfs starts this in the background when a vault has seen some 200
    operations since the last time; `avfs vault config maintenance.auto 0` turns that off. Works beside other commands
    and mounts.
    """
    with state.open_vault() as vault, state.output.working("maintaining the vault"):
        return vault.maintain(dry_run=status, every_step=every_step)

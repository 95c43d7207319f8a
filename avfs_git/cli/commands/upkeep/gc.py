"""`avfs gc`: free space used by unreachable data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import is_dry_run, verb

if TYPE_CHECKING:
    from avfs_git.model import GarbageResult

_NUMBER = click.IntRange(min=0)


@verb("gc", looks=is_dry_run, view="vaults", example="avfs gc --dry-run")
@click.option("--dry-run", is_flag=True, help="Only tell what would go; change nothing.")
@click.option(
    "--keep-days", type=_NUMBER, help="Operations of so many days can be undone afterwards. Default: gc.keep_days, 30."
)
@click.option(
    "--keep-operations",
    type=click.IntRange(min=1),
    help="So many of the last operations can, however old they are. Default: gc.keep_operations, 1000.",
)
@click.option(
    "--grace-days", type=_NUMBER, help="What nothing reaches stays for so many days. Default: gc.grace_days, 14."
)
@click.option("--compact", is_flag=True, help="Store objects as differences from others: smaller, and slower to read.")
def command(
    state: State,
    dry_run: bool,
    keep_days: int | None,
    keep_operations: int | None,
    grace_days: int | None,
    compact: bool,
) -> GarbageResult:
    """Free space used by unreachable data

    Forgets operations that are too old to be undone, removes what only they needed (files of deleted forks, commits
    that no fork has), and puts what is left into one pack. What any fork, checkpoint, mount or working tree can still
    reach stays, and so does what was touched lately. Works beside other commands and mounts.
    """
    with state.open_vault() as vault, state.output.progress("collecting garbage"):
        return vault.gc(
            dry_run=dry_run,
            keep_days=keep_days,
            keep_operations=keep_operations,
            grace_days=grace_days,
            compact=compact,
        )

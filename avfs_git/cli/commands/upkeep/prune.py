"""`avfs prune`: forget old operations, and free what only undo needed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.amounts import read_days, read_size
from avfs_git.cli.context import State
from avfs_git.cli.verb import is_dry_run, verb
from avfs_git.errors import BadUsage

if TYPE_CHECKING:
    from avfs_git.model import GarbageResult


_LEAST_SIZE = 1024
"""A size below this is a number whose unit was forgotten: what is pruned does not come back."""


@verb("prune", looks=is_dry_run, view="vaults", example="avfs prune --keep 100 --older-than 7 --dry-run")
@click.option("--keep", type=click.IntRange(min=1), metavar="N", help="Keep so many of the last operations undoable.")
@click.option("--older-than", type=read_days, metavar="DAYS", help="Forget only operations that are older.")
@click.option(
    "--max-size", type=read_size, metavar="SIZE", help="Forget more, until what only undo needs takes at most SIZE."
)
@click.option("--sidecars", is_flag=True, help="Forget ignored files in checkpoints of that age, too.")
@click.option("--dry-run", is_flag=True, help="Only tell what would go; change nothing.")
def command(
    state: State, keep: int | None, older_than: int | None, max_size: int | None, sidecars: bool, dry_run: bool
) -> GarbageResult:
    """Forget old operations, and free what only undo needed

    States beside the branches, commits that no fork has, and files of deleted forks go, as far as no other operation
    needs them; `undo` does not reach them any more. Checkpoints of forks and labels stay: history is never rewritten.
    With `--keep` and `--older-than`, operations go that both allow. SIZE is such as 500k, 20M or 1G. What was touched
    within the hour stays. With `--sidecars`, a restore of such a checkpoint leaves ignored files as they are, unless it
    has a label.
    """
    if max_size is not None and 0 < max_size < _LEAST_SIZE:
        raise BadUsage(
            f"--max-size would be {max_size} bytes",
            hint=f"Write its unit, such as `{max_size}M`; 0 forgets all that may go.",
        )
    with state.open_vault() as vault, state.output.working("looking for what only undo needs"):
        return vault.prune(
            keep_operations=keep, older_than_days=older_than, max_bytes=max_size, sidecars=sidecars, dry_run=dry_run
        )

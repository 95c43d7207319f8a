"""`avfs op`: the operation log."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.table import VerbGroup
from avfs_git.cli.verb import LIMIT, verb

if TYPE_CHECKING:
    from avfs_git.cli.results import OperationList


@verb("op log", looks=True, view="history")
@click.option("-n", "--limit", type=LIMIT, default=50, show_default=True, help="Show at most N.")
def log(state: State, limit: int) -> OperationList:
    """List what was done in a vault, the newest first

    With `--fork`, only what was done to that fork.
    """
    with state.open_vault_and_fork(whole=True) as (vault, fork):
        return {"operations": vault.operations(fork=fork, limit=limit)}


command = VerbGroup("op", commands=[log])

"""`avfs overlap`: show which forks would conflict, before a merge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.model import Overlap
    from avfs_git.sdk import Vault


@verb("overlap", looks=True, view="merging", pages=True, example="avfs overlap main task")
@click.argument("forks", nargs=-1, metavar="[FORK]...")
def command(vault: Vault, forks: tuple[str, ...]) -> Overlap:
    """Show which forks touch the same files, and which would conflict

    Without names, all forks are compared with each other. What is not committed does not count.
    """
    return vault.overlap(forks)

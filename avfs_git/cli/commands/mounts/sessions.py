"""`avfs sessions`, also `avfs ps`: what is mounted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.table import VerbGroup
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.cli.results import SessionList


@verb("sessions", looks=True, view="mounts", pages=True, example="avfs sessions")
@click.option("--bases", is_flag=True, help="Also list the commits that are mounted below overlayfs.")
def list_(state: State, bases: bool) -> SessionList:
    """List mounts

    Of all vaults of the home, or of the vault in `--vault`. avfs removes the mounts of processes that died.
    """
    if state.vault_flag is None:
        return {"sessions": state.avfs.sessions(bases=bases)}
    with state.open_vault() as vault:
        return {"sessions": vault.sessions(bases=bases)}


command = VerbGroup("sessions", default="list", commands={"list": list_})

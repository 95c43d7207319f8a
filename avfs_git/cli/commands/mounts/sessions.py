"""`avfs sessions`, also `avfs ps`: what is mounted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.table import MissingVerb, VerbGroup
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.cli.results import SessionList


@verb("sessions", looks=True, view="mounts")
def list_(state: State) -> SessionList:
    """List mounts

    Of all vaults of the home, or of the vault in `--vault`. avfs removes the mounts of processes that died.
    """
    if state.vault_flag is None:
        return {"sessions": state.avfs.sessions()}
    with state.open_vault() as vault:
        return {"sessions": vault.sessions()}


class _Sessions(VerbGroup):
    """The verbs of mounts; without one, they are listed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; a lone group lists."""
        try:
            return super().parse_args(ctx, args)
        except MissingVerb:
            ctx._protected_args = ["list"]  # noqa: SLF001 - click has no other way
            return []


command = _Sessions("sessions", commands={"list": list_})

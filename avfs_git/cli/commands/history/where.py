"""`avfs where`, also `avfs` alone: which vault and fork commands mean here."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from avfs_git.cli.context import State
from avfs_git.cli.verb import verb
from avfs_git.errors import NoVaultChosen

if TYPE_CHECKING:
    from avfs_git.cli.results import Whereabouts


@verb("where", looks=True, view="where", example="avfs where")
def command(state: State) -> Whereabouts:
    """Show which vault and fork commands mean here, and what to do next

    `avfs` alone does the same.
    """
    try:
        with state.open_vault_and_fork() as (vault, fork):
            found: Whereabouts = {
                "vault": vault.name,
                "fork": fork,
                "forks": tuple(one.name for one in vault.list_forks()),
                "origin": vault.origin(),
                "mounted_at": None,
                "status": None,
                "undo": None,
            }
            if fork is not None:
                with closing(vault.workspace(fork)) as workspace:
                    found["status"] = workspace.status()
                session = vault.find_session(fork)
                found["mounted_at"] = session.path if session is not None else None
                found["undo"] = vault.next_undo(fork=fork)
            return found
    except NoVaultChosen:
        return {
            "vault": None,
            "fork": None,
            "forks": (),
            "origin": None,
            "mounted_at": None,
            "status": None,
            "undo": None,
        }

"""`avfs attempts`: the attempts of `avfs run --attempts`, beside each other."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from avfs_git.cli.commands.running.run import describe_attempts, list_uses, spell_resume
from avfs_git.cli.context import State
from avfs_git.cli.table import VerbGroup
from avfs_git.cli.verb import verb
from avfs_git.model import Warning

if TYPE_CHECKING:
    from avfs_git.cli.results import AttemptsResult, PickedAttempt

_name_option = click.option("--name", metavar="NAME", help="The name of the attempts; default: those begun last.")


@verb("attempts compare", looks=True, view="commands", pages=True, example="avfs attempts compare")
@_name_option
def compare(state: State, name: str | None) -> AttemptsResult:
    """Compare attempts: how each ended, and what it changed

    `avfs overlap` tells where two changed the same files.
    """
    from avfs_git.sdk.running import attempts  # noqa: PLC0415 - not for the help

    with state.open_vault() as vault:
        return describe_attempts(vault, attempts.read_record(state.avfs, vault, name))


@verb("attempts pick", view="commands", example="avfs attempts pick 2")
@click.argument("number", type=click.IntRange(min=1))
@_name_option
def pick(state: State, number: int, name: str | None) -> PickedAttempt:
    """Keep the fork of one attempt, and delete the forks of the others

    `avfs undo` restores them, one at a time.
    """
    from avfs_git.sdk.running import attempts  # noqa: PLC0415 - not for the help

    with state.open_vault_and_fork(with_fork=False) as (vault, fork):
        record = attempts.read_record(state.avfs, vault, name)
        picked = attempts.pick(vault, record, number, by=fork)
        for remade in picked.remade:
            text = (
                f"the fork '{remade}' is kept: it was made anew since the attempt of that name, or git has moved "
                "its branch"
            )
            state.output.warn([Warning("attempts.remade", text)])
        chosen = picked.attempt
        uses = list_uses(
            vault, chosen.fork, spell_resume(chosen.fork, record.command), start=chosen.start, pushed=False
        )
        if picked.deleted:
            at_hand = f" --fork {shlex.quote(fork)}" if fork is not None else ""
            uses["restore"] = f"avfs --vault {shlex.quote(vault.name)}{at_hand} undo"
        return {"number": number, "fork": chosen.fork, "deleted": picked.deleted, "next": uses}


command = VerbGroup("attempts", commands=[compare, pick])

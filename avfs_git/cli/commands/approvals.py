"""`avfs approvals`: a person's yes or no to commands that need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.app import VerbGroup
from avfs_git.cli.context import State
from avfs_git.cli.verb import verb
from avfs_git.errors import PersonNeeded

if TYPE_CHECKING:
    from avfs_git.cli.results import ApprovalList
    from avfs_git.proxy.approvals import Approval


@verb("approvals list", view="policy")
@click.option("-a", "--all", "every", is_flag=True, help="Also those that are over.")
def list_(state: State, every: bool) -> ApprovalList:
    """List the commands that wait for a person, or were granted and have not run yet"""
    with state.open_vault() as vault:
        return {"approvals": vault.policy.approvals(every=every)}


@verb("approvals grant", view="policy")
@click.argument("approval", metavar="ID")
def grant(state: State, approval: str) -> Approval:
    """Let a command run once, within an hour

    It shows the command and asks on the terminal; there is no option to answer for a person.
    """
    with state.open_vault() as vault:
        waiting = vault.policy.approval(approval)
        state.output.note(f"In fork '{waiting.fork}', directory {waiting.cwd}, because {waiting.reason}:")
        state.output.note(f"    {waiting.command}")
        if waiting.env:
            state.output.note(f"with the variables {', '.join(waiting.env)}")
        if not state.output.confirm("Let it run once?"):
            raise PersonNeeded(f"grant {approval}")
        return vault.policy.grant(approval)


@verb("approvals deny", view="policy")
@click.argument("approval", metavar="ID")
def deny(state: State, approval: str) -> Approval:
    """Refuse a command that waits, or take back a yes that was not used"""
    with state.open_vault() as vault:
        return vault.policy.deny(approval)


command = VerbGroup("approvals", help="Say yes or no to commands that need a person", commands=[list_, grant, deny])

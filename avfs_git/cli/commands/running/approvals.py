"""`avfs approvals`: a person's yes or no to commands that need it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.output.quoting import reveal
from avfs_git.cli.table import VerbGroup
from avfs_git.cli.verb import verb
from avfs_git.errors import PersonNeeded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from avfs_git.cli.results import ApprovalList
    from avfs_git.proxy.policy.approvals import Approval
    from avfs_git.sdk import Vault


@verb("approvals list", looks=True, view="policy", pages=True, example="avfs approvals list --all")
@click.option("-a", "--all", "every", is_flag=True, help="Also requests that are over.")
def list_(vault: Vault, every: bool) -> ApprovalList:
    """List the commands that wait for a person, or were granted and have not run yet"""
    return {"approvals": vault.policy.approvals(every=every)}


@verb("approvals grant", view="policy", example="avfs approvals grant 7f3a")
@click.argument("approval", metavar="ID")
def grant(state: State, approval: str) -> Approval:
    """Let a command run once, within an hour

    It shows all that it lets happen, and asks on the terminal; there is no option to answer for a person.
    """
    with state.open_vault() as vault:
        waiting = vault.policy.approval(approval)
        for line in describe(waiting):
            state.output.note(line)
        if not state.output.confirm("Let it run once?"):
            raise PersonNeeded(f"grant {approval}")
        return vault.policy.grant(approval)


def describe(waiting: Approval) -> Iterator[str]:
    """Show all that an approval allows; each line of the command begins with a bar."""
    typed = "typed at the terminal" if "terminal=True" in waiting.options else "none"
    facts = [
        ("fork", waiting.fork),
        ("directory", waiting.cwd),
        ("workspace", waiting.mountpoint or "unknown"),
        ("reason", waiting.reason),
        ("may be", ", ".join(waiting.categories)),
        *(("variable", text) for text in waiting.env),
        *(("option", text) for text in waiting.options),
        ("input", typed if waiting.stdin_sha256 is None else f"SHA-256 {waiting.stdin_sha256}"),
    ]
    for name, value in facts:
        first, *more = reveal(value) or [""]
        yield f"{name + ':':<11} {first}"
        yield from (f"{'':<11} | {line}" for line in more)
    kind = "text for a shell" if waiting.command_mode == "shell" else "program and arguments"
    yield f"command:    {kind}, {len(waiting.command)} characters"
    yield from (f"    | {line}" for line in reveal(waiting.command))


@verb("approvals deny", view="policy", example="avfs approvals deny 7f3a")
@click.argument("approval", metavar="ID")
def deny(vault: Vault, approval: str) -> Approval:
    """Refuse a command that waits, or take back a yes that was not used"""
    return vault.policy.deny(approval)


command = VerbGroup("approvals", commands=[list_, grant, deny])

"""`avfs audit`: what commands were run, refused and approved."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import LIMIT, verb
from avfs_git.errors import BadUsage

if TYPE_CHECKING:
    from avfs_git.cli.results import AuditLines


def read_time(text: str) -> int:
    """Read a time: seconds since the epoch, or RFC 3339, also a date alone; without a zone it is UTC. In nanoseconds.

    Raises:
        BadUsage: If it is none of these.
    """
    if text.isascii() and text.isdigit() and len(text) < 12:
        return int(text) * 10**9
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadUsage("a time is written 2026-01-31, 2026-01-31T12:00:00Z, or in seconds since 1970") from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 10**9


@verb("audit", looks=True, view="policy", pages=True, example="avfs audit --since 2026-01-31")
@click.option("-n", "--limit", type=LIMIT, default=50, show_default=True, help="Show at most N.")
@click.option("--since", type=read_time, metavar="TIME", help="Only what happened then or later.")
@click.option("--verify", is_flag=True, help="Also check that no line was changed or taken out.")
def command(state: State, limit: int, since: int | None, verify: bool) -> AuditLines:
    """List the commands that ran, were refused or approved, newest first"""
    with state.open_vault() as vault:
        verified = vault.policy.verify_audit() if verify else None
        return {"entries": vault.policy.audit(limit=limit, since_ns=since), "verified": verified}

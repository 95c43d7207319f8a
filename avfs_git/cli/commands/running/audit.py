"""`avfs audit`: what was done, refused and approved."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NoReturn, get_args

import click

from avfs_git.cli.amounts import read_days, read_time
from avfs_git.cli.context import State
from avfs_git.cli.output.base import write_all
from avfs_git.cli.verb import LIMIT, TREE_PATH, verb
from avfs_git.errors import BadUsage, Interrupted
from avfs_git.model import AuditOutcome

if TYPE_CHECKING:
    from avfs_git.cli.output.base import Output
    from avfs_git.cli.results import AuditLines
    from avfs_git.paths import TreePath
    from avfs_git.workspace.vault.log.audit import AuditEntry


@verb(
    "audit",
    looks=lambda given: given["release"] is None or given["dry_run"],
    view="policy",
    pages=True,
    example="avfs audit --since 2h --outcome refused",
)
@click.argument("paths", nargs=-1, type=TREE_PATH, metavar="[PATH]...")
@click.option("-n", "--limit", type=LIMIT, default=50, show_default=True, help="Show at most N.")
@click.option("--since", type=read_time, metavar="TIME", help="Only what happened then or later: 1h, 2d, 2026-01-31.")
@click.option("--until", type=read_time, metavar="TIME", help="Only what happened then or earlier.")
@click.option("--event", "events", multiple=True, metavar="NAME", help="Only events of this name; repeatable.")
@click.option(
    "--outcome",
    "outcomes",
    multiple=True,
    type=click.Choice(get_args(AuditOutcome)),
    help="Only what ended so; repeatable.",
)
@click.option("--files", is_flag=True, help="File events of live trees, where the setting audit.files asks for them.")
@click.option("-f", "--follow", is_flag=True, help="Oldest first, then wait for more; with --json, one line an event.")
@click.option("--verify", is_flag=True, help="Also check that no line was changed or taken out.")
@click.option("--release", type=read_days, metavar="DAYS", help="Remove lines older than DAYS days from the log.")
@click.option("--dry-run", is_flag=True, help="With --release, only tell which lines would go.")
def command(
    state: State,
    paths: tuple[TreePath, ...],
    limit: int,
    since: int | None,
    until: int | None,
    events: tuple[str, ...],
    outcomes: tuple[str, ...],
    files: bool,
    follow: bool,
    verify: bool,
    release: int | None,
    dry_run: bool,
) -> AuditLines:
    """List what was done, refused and approved in a vault, newest first

    Each operation and each command is an event, and so is what the policy and people said to it. With PATH, only what
    changed that; with `--fork`, only what concerns that fork, under each name that it has had. `checkpoint`, `merge`
    and `proxy_exec_denied` are names of events.

    avfs keeps all lines. `--release DAYS` removes the oldest ones, which cannot be undone; a new line says which these
    were, and `--verify` checks it. The settings `audit.keep_days` and `audit.files_keep_days` let maintenance do that.
    """
    if release is not None and (
        follow or verify or paths or since is not None or until is not None or events or outcomes
    ):
        raise BadUsage("--release goes with no choice of events", hint="See the events in a call of its own.")
    if dry_run and release is None:
        raise BadUsage("--dry-run goes with --release")
    fork = state.named().fork
    with state.open_vault() as vault:
        if release is not None:
            released = vault.policy.release_audit(keep_days=release, dry_run=dry_run, files=files)
            return {"entries": [], "verified": None, "released": released}
        verified = vault.policy.verify_audit(files=files) if verify else None
        if follow:
            if since is not None or until is not None:
                raise BadUsage(
                    "--follow goes with neither --since nor --until", hint="Say how many older events with -n."
                )
            told = vault.policy.follow_audit(
                last=limit, fork=fork, events=events, outcomes=outcomes, paths=paths, files=files
            )
            _follow(state.output, told)
        entries = vault.policy.audit(
            limit=limit,
            since_ns=since,
            until_ns=until,
            fork=fork,
            events=events,
            outcomes=outcomes,
            paths=paths,
            files=files,
        )
        return {
            "entries": entries,
            "verified": verified,
            "released": vault.policy.last_release(files=files) if verify else None,
        }


def _follow(output: Output, entries: Iterator[AuditEntry]) -> NoReturn:
    """Write each event on a line of its own, until the user or the reader of the output ends it."""
    from avfs_git.cli.output.views.policy import audit_cells  # noqa: PLC0415 - only here
    from avfs_git.records import to_record, to_time  # noqa: PLC0415 - only here

    try:
        for entry in entries:
            if output.filter is not None:
                lines: Iterable[bytes] = output.filter.apply(json.dumps(to_record(entry)))
            elif output.structured:
                lines = (json.dumps(to_record(entry)).encode() + b"\n",)
            else:
                cells = (to_time(entry.at_ns) or "-", *audit_cells(entry))
                lines = ("\t".join(cells).encode("utf-8", "backslashreplace") + b"\n",)
            for line in lines:
                write_all(sys.stdout, line)
    except KeyboardInterrupt:
        pass
    raise click.exceptions.Exit(Interrupted().exit_code)

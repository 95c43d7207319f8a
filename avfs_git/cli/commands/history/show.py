"""`avfs show`: one checkpoint and what it changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.commands.history.diff import check_options, diff_options, paths_of, summarize
from avfs_git.cli.context import State
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.cli.results import ShowResult
    from avfs_git.paths import TreePath


@verb(
    "show",
    looks=True,
    view="history",
    unrecorded=("paths",),
    splits_at_dashes=True,
    pages=True,
    example="avfs show v1 --stat",
)
@click.argument("name", default="HEAD", metavar="[STATE]")
@diff_options
def command(
    state: State, name: str, stat: bool, name_status: bool, unified: int, paths: tuple[TreePath, ...]
) -> ShowResult:
    """Show one checkpoint and what it changed

    Without STATE, the last one.
    """
    check_options(stat=stat, name_status=name_status)
    wanted = paths_of(paths)
    state.output.amend(paths=wanted)
    with state.open_vault_and_fork() as (vault, fork):
        details = vault.show(name, fork=fork)
        point = details.checkpoint
        before = point.parents[0] if point.parents else None
        diff = vault.diff(before, point.id, fork=fork, paths=wanted, context=unified, patches=not name_status)
    return {"details": details, "diff": summarize(diff) if stat else diff}

"""`avfs squash`: make one commit of several."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import verb
from avfs_git.errors import BadUsage

if TYPE_CHECKING:
    from avfs_git.model import RewriteResult


@verb("squash", view="merging", example="avfs squash v1..HEAD -m 'Parse dates'")
@click.argument("span", metavar="FROM..TO")
@click.option(
    "-m", "--message", metavar="TEXT", help="What the commit says; default: all messages, without bookkeeping."
)
def command(state: State, span: str, message: str | None) -> RewriteResult:
    """Squash FROM..TO into one commit

    No file changes, and commits after TO stay what they are, on top. TO may be left out: it is the head then.
    """
    first, dots, last = span.partition("..")
    if not dots or not first:
        raise BadUsage("name the commits as FROM..TO")
    with state.open_workspace() as workspace:
        return workspace.squash(first, last or "HEAD", message=message)

"""`avfs fetch`: what a remote has."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, Unpack

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.model import FetchResult
    from avfs_git.sdk.options import FetchOptions

_F = TypeVar("_F", bound=Callable[..., object])


def fetching_options(function: _F) -> _F:
    """Add the options of every verb that fetches: what comes beside branches, as `FetchOptions` has it."""
    for option in (
        click.option(
            "--with-git-dirs", is_flag=True, help="Of those, also directories with a .git, whose hooks run programs."
        ),
        click.option("--with-sidecar", is_flag=True, help="Fetch the pushed ignored files, too; trusts all its users."),
        click.option("--with-checkpoints", is_flag=True, help="Also the labels of checkpoints that were pushed there."),
    ):
        function = option(function)
    return function


@verb("fetch", view="remotes", example="avfs fetch origin")
@click.argument("remote", required=False)
@fetching_options
def command(state: State, remote: str | None, **options: Unpack[FetchOptions]) -> FetchResult:
    """Fetch from a remote; no fork changes

    Its branches are then called REMOTE/BRANCH: look at them with `avfs fork list --remote`, make a fork of one with
    `avfs fork create NAME --at REMOTE/BRANCH`, merge one with `avfs pull`. REMOTE is the only one, or `origin`, if not
    given.
    """
    with state.open_vault() as vault, state.output.progress("fetching") as options["progress"]:
        return vault.fetch(remote, **options)

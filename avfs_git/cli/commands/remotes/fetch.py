"""`avfs fetch`: what a remote has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.model import FetchResult


@verb("fetch", view="remotes", example="avfs fetch origin")
@click.argument("remote", required=False)
@click.option("--with-checkpoints", is_flag=True, help="Also the labels of checkpoints that were pushed there.")
@click.option("--with-sidecar", is_flag=True, help="Fetch the pushed ignored files, too; trusts all its users.")
@click.option("--with-git-dirs", is_flag=True, help="Of those, also directories with a .git, whose hooks run programs.")
def command(state: State, remote: str | None, with_checkpoints: bool, with_sidecar: bool, with_git_dirs: bool) -> FetchResult:
    """Fetch from a remote; no fork changes

    Its branches are then called REMOTE/BRANCH: look at them with `avfs fork list --remote`, make a fork of one with `avfs fork
    create NAME --at REMOTE/BRANCH`, merge one with `avfs pull`. REMOTE is the only one, or `origin`, if not given.
    """
    with state.open_vault() as vault, state.output.progress("fetching") as progress:
        return vault.fetch(
            remote,
            with_checkpoints=with_checkpoints,
            with_sidecar=with_sidecar,
            with_git_dirs=with_git_dirs,
            progress=progress,
        )

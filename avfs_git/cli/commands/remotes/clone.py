"""`avfs clone`: a vault from another repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import click

from avfs_git.cli.commands.remotes.fetch import fetching_options
from avfs_git.cli.context import State
from avfs_git.cli.verb import verb
from avfs_git.errors import BadUsage, hide_user, quote

if TYPE_CHECKING:
    from avfs_git.model import CloneResult
    from avfs_git.sdk.options import FetchOptions


def name_of_url(url: str) -> str:
    """Name a vault after the address that it is cloned from."""
    last = hide_user(url).partition("?")[0].rstrip("/").replace(":", "/").rpartition("/")[2].removesuffix(".git")
    if not last:
        raise BadUsage(f"{quote(url)} says no name for the vault", hint="Give one: `avfs clone URL NAME`.")
    return last


@verb("clone", view="remotes", example="avfs clone https://example.org/shop.git")
@click.argument("url")
@click.argument("name", required=False)
@click.option(
    "-b", "--branch", metavar="NAME", help="The branch that becomes the first fork; default: the remote's own."
)
@fetching_options
@click.option("--lazy", is_flag=True, help="Make a partial clone: fetch contents of files when they are needed.")
@click.option("--use", is_flag=True, help="Make the vault the current one even if there is one.")
def command(
    state: State, url: str, name: str | None, branch: str | None, lazy: bool, use: bool, **options: Unpack[FetchOptions]
) -> CloneResult:
    """Clone a repository into a new vault, with the remote `origin`

    URL is a path, a URL (file, git, http, https, ssh), or `[user@]host:path`. The remote's default branch becomes the
    first fork. The other branches are remote branches: list them with `avfs fork list --remote`, and make a fork of one
    with `avfs fork create NAME --at origin/BRANCH`. avfs uses git's credentials, ssh and proxy settings.

    With --lazy, the vault is a partial clone: avfs fetches history and directories at once, and the contents of files
    when a program reads them, a directory at a time. `avfs prefetch` fetches contents in advance.
    """
    name = name_of_url(url) if name is None else name
    with state.output.progress(f"cloning into vault {quote(name)}") as options["progress"]:
        result = state.avfs.clone_vault(url, name, branch=branch, lazy=lazy, **options)
    if use:
        state.avfs.use_vault(name)
    return result

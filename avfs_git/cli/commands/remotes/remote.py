"""`avfs remote`: the other repositories that a vault knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.table import VerbGroup
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.cli.results import RemoteList
    from avfs_git.model import RemoteInfo


@verb("remote add", view="remotes", example="avfs remote add server ssh://git@example.org/shop.git")
@click.argument("name")
@click.argument("url")
def add(state: State, name: str, url: str) -> RemoteInfo:
    """Let a vault know another repository by a name

    Nothing is fetched. URL is a path, `scheme://...` of file, git, http, https or ssh, or `[user@]host:path`.
    """
    with state.open_vault() as vault:
        return vault.add_remote(name, url)


@verb("remote list", looks=True, view="remotes", example="avfs remote list")
def list_(state: State) -> RemoteList:
    """List the remotes of a vault"""
    with state.open_vault() as vault:
        return {"remotes": vault.list_remotes()}


@verb("remote remove", view="remotes", example="avfs remote remove origin")
@click.argument("name")
def remove(state: State, name: str) -> RemoteInfo:
    """Forget a remote and what is known of its branches

    Forks that were made from them stay.
    """
    with state.open_vault() as vault:
        return vault.remove_remote(name)


@verb("remote set-url", view="remotes", example="avfs remote set-url origin https://example.org/shop.git")
@click.argument("name")
@click.argument("url")
def set_url(state: State, name: str, url: str) -> RemoteInfo:
    """Give a remote another address"""
    with state.open_vault() as vault:
        return vault.set_remote_url(name, url)


command = VerbGroup("remote", commands=[add, list_, remove, set_url])

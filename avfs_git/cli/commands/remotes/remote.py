"""`avfs remote`: the other repositories that a vault knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.table import VerbGroup
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.cli.results import RemoteList
    from avfs_git.model import RemoteInfo
    from avfs_git.sdk import Vault


@verb("remote add", view="remotes", example="avfs remote add server ssh://git@example.org/shop.git")
@click.argument("name")
@click.argument("url")
def add(vault: Vault, name: str, url: str) -> RemoteInfo:
    """Let a vault know another repository by a name

    Nothing is fetched. URL is a path, `scheme://...` of file, git, http, https or ssh, or `[user@]host:path`.
    """
    return vault.add_remote(name, url)


@verb("remote list", looks=True, view="remotes", example="avfs remote list")
def list_(vault: Vault) -> RemoteList:
    """List the remotes of a vault"""
    return {"remotes": vault.list_remotes()}


@verb("remote remove", view="remotes", example="avfs remote remove origin")
@click.argument("name")
def remove(vault: Vault, name: str) -> RemoteInfo:
    """Forget a remote and what is known of its branches

    Forks that were made from them stay.
    """
    return vault.remove_remote(name)


@verb("remote set-url", view="remotes", example="avfs remote set-url origin https://example.org/shop.git")
@click.argument("name")
@click.argument("url")
def set_url(vault: Vault, name: str, url: str) -> RemoteInfo:
    """Give a remote another address"""
    return vault.set_remote_url(name, url)


command = VerbGroup("remote", commands=[add, list_, remove, set_url])

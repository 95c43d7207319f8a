"""`avfs hooks`: programs that a vault runs at the ends of operations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.table import VerbGroup
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.cli.results import HookList
    from avfs_git.sdk import Vault


@verb("hooks install", view="vaults", example="avfs hooks install")
def install(vault: Vault) -> HookList:
    """Protect a vault from pushes that would harm it, and make a place for hooks of your own

    Git's `update` hook refuses pushes to refs that only avfs may move. Your own hooks are programs in the directory
    that is shown: pre-checkpoint, post-checkpoint, pre-merge, post-merge, pre-push and post-exec. Each runs once it is
    enabled, and gets one JSON document on its standard input; a hook before an operation refuses it by a status other
    than 0.
    """
    return {"hooks": vault.install_hooks()}


@verb("hooks list", looks=True, view="vaults", example="avfs hooks list")
def list_(vault: Vault) -> HookList:
    """List the hooks that a vault may have, and which of them run"""
    return {"hooks": vault.list_hooks()}


@verb("hooks enable", view="vaults.hooks_list", example="avfs hooks enable pre-push")
@click.argument("name", metavar="NAME")
def enable(vault: Vault, name: str) -> HookList:
    """Let a hook run, with the content that its program has at this time

    A program that is changed later does not run until it is enabled again.
    """
    return {"hooks": vault.enable_hook(name)}


@verb("hooks disable", view="vaults.hooks_list", example="avfs hooks disable pre-push")
@click.argument("name", metavar="NAME")
def disable(vault: Vault, name: str) -> HookList:
    """Let a hook run no more; its program stays"""
    return {"hooks": vault.disable_hook(name)}


command = VerbGroup("hooks", commands=[install, list_, enable, disable])

"""`avfs plugins`: programs that are asked before each change, and can refuse it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from avfs_git.cli.table import VerbGroup
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.cli.results import PluginList
    from avfs_git.sdk import Vault


@verb("plugins list", looks=True, view="vaults", example="avfs plugins list")
def list_(vault: Vault) -> PluginList:
    """List the plug-ins that are asked, and the installed ones

    Each plug-in is a process of its own, and is asked before each change in a live tree, of a file call and of a
    checkpoint, merge or push. A plug-in that fails or takes too long refuses the change.
    """
    return {"plugins": vault.list_plugins()}


@verb("plugins enable", view="vaults.plugins_list", example="avfs plugins enable guard guard.lua")
@click.argument("name", metavar="NAME")
@click.argument("file", required=False, type=click.Path(dir_okay=False, path_type=Path))
def enable(vault: Vault, name: str, file: Path | None) -> PluginList:
    """Have a plug-in asked before each change of a vault

    NAME is a plug-in that a Python package has installed, or the name that FILE gets: Lua (.lua) or WebAssembly (.wasm,
    .wat). FILE is copied, so that a later change of it has no effect. No fork of the vault may be mounted.
    """
    return {"plugins": vault.enable_plugin(name, file)}


@verb("plugins disable", view="vaults.plugins_list", example="avfs plugins disable guard")
@click.argument("name", metavar="NAME")
def disable(vault: Vault, name: str) -> PluginList:
    """Ask a plug-in no more; no fork of the vault may be mounted"""
    return {"plugins": vault.disable_plugin(name)}


command = VerbGroup("plugins", commands=[list_, enable, disable])

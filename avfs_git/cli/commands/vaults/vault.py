"""`avfs vault`: make, choose, look at and delete vaults."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from avfs_git.cli.commands.vaults.fork import make_fork
from avfs_git.cli.commands.vaults.settings import change_settings, looks_at_settings, setting_arguments
from avfs_git.cli.context import State
from avfs_git.cli.table import VerbGroup
from avfs_git.cli.targets import looks_like_path, parse_target
from avfs_git.cli.verb import HOST_PATH, verb
from avfs_git.errors import BadUsage, ConfirmationNeeded, InvalidName, VaultNotFound, quote

if TYPE_CHECKING:
    from avfs_git.cli.results import ConfigResult, ForkResult, TrustedList, VaultList
    from avfs_git.model import VaultInfo


def _check_name(name: str) -> str:
    """Refuse a path where a vault of the home is meant, by its name.

    Raises:
        InvalidName: If it is one.
    """
    if looks_like_path(name):
        error = InvalidName("vault", name, "it is a path")
        error.hint = "This takes a vault of the home by its name: see them with `avfs vault list`."
        raise error
    return name


_of_home = click.argument("name", callback=lambda _context, _parameter, name: _check_name(name))


@verb("vault create", view="vaults", example="avfs vault create shop --from .")
@click.argument("name")
@click.option("--from", "source", type=HOST_PATH, metavar="DIR", help="A directory or git repository to start from.")
@click.option(
    "-b",
    "--branch",
    default="main",
    show_default=True,
    metavar="NAME",
    help="The first fork, where the source names none.",
)
@click.option("--use", is_flag=True, help="Make it the current vault even if there is one.")
@click.option("--shared", is_flag=True, help="Let your group read and write it; without this, only you can.")
def create(state: State, name: str, source: Path | None, branch: str, use: bool, shared: bool) -> VaultInfo:
    """Make a vault, empty or from a directory or git repository

    From a git repository come its whole history, its branches and its tags, and what is uncommitted, untracked and
    ignored in its working tree. Nothing of the source is changed or executed. The first vault becomes the current one.
    """
    if source is not None:
        state.warn_of_size(source)
    with (
        state.output.progress(f"making vault {quote(name)}"),
        state.avfs.create_vault(name, source=source, branch=branch, shared=shared) as vault,
    ):
        info = vault.info()
        warnings = vault.warnings
    state.output.warn(warnings)
    if use or state.avfs.current_vault() is None:
        info = state.avfs.use_vault(name)
    return info


@verb("vault list", looks=True, view="vaults", pages=True, example="avfs vault list")
def list_(state: State) -> VaultList:
    """List the vaults

    The current one is marked with a star.
    """
    return {"vaults": state.avfs.list_vaults()}


@verb("vault use", view="vaults", example="avfs vault use shop")
@_of_home
def use(state: State, name: str) -> VaultInfo:
    """Choose the vault that is used where none is named

    This is a convenience for a person at a prompt: programs name their vault with `--vault` or AVFS_VAULT.
    """
    used = state.avfs.use_vault(name)
    if (
        not state.output.structured
        and (place := state.place()) is not None
        and os.path.realpath(place.vault) != str(used.path)
    ):
        means = f"`avfs --vault {shlex.quote(name)} COMMAND` means {quote(name)} here, too."
        state.output.note(f"hint: This directory means another vault: {means}\n")
    return used


@verb("vault info", looks=True, view="vaults", example="avfs vault info --sizes")
@click.argument("name", required=False)
@click.option("--sizes", is_flag=True, help="Also count its bytes on disk.")
def info(state: State, name: str | None, sizes: bool) -> VaultInfo:
    """Show what is known of a vault"""
    _name_vault(state, name)
    with state.open_vault() as vault:
        return vault.info(sizes=sizes, usage=True)


@verb("vault rename", view="vaults", example="avfs vault rename shop store")
@_of_home
@click.argument("new_name")
def rename(state: State, name: str, new_name: str) -> VaultInfo:
    """Rename a vault

    None of its forks may be mounted. Hooks stay enabled, and the current vault stays the current one. Open approval
    requests are void, and a clone that has the vault's path as a remote needs the new path.
    """
    return state.avfs.rename_vault(name, new_name)


@verb("vault delete", view="vaults", example="avfs vault delete shop")
@_of_home
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
def delete(state: State, name: str, yes: bool) -> VaultInfo:
    """Delete a vault with its whole history, its forks and their workspaces

    This cannot be undone. Without a terminal to ask on, it needs `--yes`.
    """
    if not state.avfs.has_vault(name):
        raise VaultNotFound(name)
    if not yes and not state.output.confirm(f"Delete vault {quote(name)} with everything in it?"):
        raise ConfirmationNeeded(f"delete vault {quote(name)}")
    return state.avfs.delete_vault(name)


@verb(
    "vault config",
    looks=looks_at_settings,
    view="vaults",
    pages=True,
    example="avfs vault config gc.keep_days 60",
)
@setting_arguments
def config(state: State, key: str | None, value: str | None, unset: bool) -> ConfigResult:
    """Show or change the settings of a vault

    Without KEY it shows all of them, with KEY one, and with VALUE it changes that one.
    """
    return change_settings(state, None, key, value, unset=unset)


@verb(
    "vault trust",
    looks=lambda given: given["path"] is None,
    view="vaults",
    example="avfs vault trust /srv/vaults/shop.git",
)
@click.argument("path", required=False, type=HOST_PATH)
@click.option("--revoke", is_flag=True, help="Stop trusting PATH.")
def trust(state: State, path: Path | None, revoke: bool) -> TrustedList:
    """Trust a vault of another user, or list the trusted vaults

    avfs refuses a vault that belongs to another user, and a vault outside the home that has hooks or settings which can
    run programs. Trusting PATH lifts both: the vault's hooks run, and git obeys its configuration, with your rights.
    """
    if path is None:
        if revoke:
            raise BadUsage("--revoke takes a PATH")
        return {"trusted": state.avfs.trusted_vaults()}
    return {"trusted": state.avfs.distrust_vault(path) if revoke else state.avfs.trust_vault(path)}


@verb("vault fork", view="vaults.fork_create", example="avfs vault fork shop task")
@click.argument("source", metavar="VAULT[@FORK]")
@click.argument("name")
@click.option("--use", is_flag=True, help="Make the vault the current one.")
def fork(state: State, source: str, name: str, use: bool) -> ForkResult:
    """Make a fork NAME in a vault: the same as `avfs --vault VAULT fork create NAME`

    Where no vault has that name, `--vault NAME` then means the fork.
    """
    _name_vault(state, source)
    target = parse_target(source)
    if use:
        _check_name(str(target.vault))
    made = make_fork(state, name, source=target.fork)
    if use:
        state.avfs.use_vault(made["vault"])
    return made


def _name_vault(state: State, name: str | None) -> None:
    """Let an argument name the vault, as `--vault` would."""
    if name is None:
        return
    if state.vault_flag is not None and state.vault_flag != name:
        raise BadUsage(f"--vault names {quote(state.vault_flag)}, the argument {quote(name)}", hint="Name it once.")
    state.vault_flag = name


command = VerbGroup("vault", commands=[create, list_, use, info, rename, delete, config, trust, fork])

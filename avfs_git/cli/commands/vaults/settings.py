"""What `avfs vault config` and `avfs fork config` share: reading and changing settings.

Decided here: how settings are written on a command line; which there are, the vault says.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from avfs_git.cli.amounts import read_size
from avfs_git.cli.context import State
from avfs_git.errors import BadUsage, quote

if TYPE_CHECKING:
    from avfs_git.cli.results import ConfigResult

_F = TypeVar("_F", bound=Callable[..., Any])


def setting_arguments(command: _F) -> _F:
    """Let a command take KEY, VALUE and `--unset`."""
    command = click.option("--unset", is_flag=True, help="Take KEY back to its default.")(command)
    command = click.argument("value", required=False)(command)
    return click.argument("key", required=False)(command)


def looks_at_settings(given: Mapping[str, Any]) -> bool:
    """Tell whether such a command changes nothing."""
    return given["value"] is None and not given["unset"]


def change_settings(state: State, fork: str | None, key: str | None, value: str | None, *, unset: bool) -> ConfigResult:
    """Read or change the settings of the vault that is meant, or of one of its forks; bytes can be written as `2G`."""
    if unset and (key is None or value is not None):
        raise BadUsage("--unset takes a KEY and no VALUE")
    with state.open_vault() as vault:
        if unset and key is not None:
            vault.unset_config(key, fork=fork)
        elif key is not None and value is not None:
            vault.set_config(key, str(read_size(value)) if key.endswith("_bytes") else value, fork=fork)
        settings = vault.get_config(fork=fork)
        changed = unset or value is not None
        if key is None:
            return {"config": settings, "changed": changed}
        if key not in settings and not changed:
            of = "vault config" if fork is None else f"fork config {fork}"
            raise BadUsage(f"there is no setting {quote(key)}", hint=f"See them with `avfs {of}`.")
        return {"config": {key: settings[key]} if key in settings else {}, "changed": changed}

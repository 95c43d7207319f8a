"""`avfs rm`: remove files and directories."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import TREE_PATH, verb
from avfs_git.errors import InvalidInput, PathEscapes, quote
from avfs_git.paths import TreePath

if TYPE_CHECKING:
    from avfs_git.cli.results import Removed


def _read_paths(ctx: click.Context, param: click.Parameter, texts: tuple[str, ...]) -> tuple[TreePath, ...]:  # noqa: ARG001 - click's
    """Read paths of the workspace; where no option names that, none may be the path of something on this machine."""
    state: State = ctx.obj
    if state.vault_flag is None and state.fork_flag is None and not ctx.resilient_parsing:
        for text in texts:
            _refuse_host_path(state, text)
    return tuple(map(_read_path, texts))


def _read_path(text: str) -> TreePath:
    try:
        return TREE_PATH(text)
    except PathEscapes as error:
        if Path(text).is_dir():
            error.hint = f"End the fork of a directory with `avfs end {text}`."
        raise


def _refuse_host_path(state: State, text: str) -> None:
    """Refuse a path at which this machine has something, unless it is relative to a directory in a mount.

    Raises:
        InvalidInput: If it is one.
    """
    if "\0" in text or not os.path.lexists(text) or (not text.startswith("/") and state.is_in_mount()):
        return
    hint = f"Name the vault for a path in it: `avfs rm --vault NAME {text}`."
    if Path(text).is_dir():
        hint += f" End the fork of a directory with `avfs end {text}`."
    raise InvalidInput(f"{quote(text)} is on this machine, and `avfs rm` removes paths of a vault", hint=hint)


@verb("rm", view="files")
@click.argument("paths", nargs=-1, required=True, callback=_read_paths, metavar="PATH...")
@click.option("-r", "-R", "--recursive", is_flag=True, help="Also directories with everything below them.")
@click.option("-f", "--force", is_flag=True, help="A path where nothing is is no failure.")
def command(state: State, paths: tuple[TreePath, ...], recursive: bool, force: bool) -> Removed:
    """Remove files and directories

    What a checkpoint holds comes back with `avfs checkout PATH --at STATE`. A path that exists on this machine is refused, unless
    it is relative to a directory in a mount, or --vault or --fork says where it is meant. `avfs end DIR` ends the fork of a
    directory.
    """
    with state.open_workspace() as workspace:
        present = [path for path in paths if workspace.exists(path)]
        for path in paths:
            workspace.remove(path, recursive=recursive, missing_ok=force)
        return {"removed": [{"path": path} for path in present]}

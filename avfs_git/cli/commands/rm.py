"""`avfs rm`: remove files and directories."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import TREE_PATH, verb
from avfs_git.errors import NoVaultChosen, PathEscapes, SessionNotFound
from avfs_git.paths import TreePath

if TYPE_CHECKING:
    from avfs_git.cli.results import Removed
    from avfs_git.sdk import Session, Workspace


def _read_path(text: str) -> TreePath:
    """Read a path of the workspace; one that leads out of it may be a directory of the machine, and is refused later if not."""
    try:
        return TREE_PATH(text)
    except PathEscapes:
        return TreePath(os.fsencode(text))


@verb("rm", view="files")
@click.argument("paths", nargs=-1, required=True, type=_read_path, metavar="PATH...")
@click.option("-r", "-R", "--recursive", is_flag=True, help="Also directories with everything below them.")
@click.option("-f", "--force", is_flag=True, help="A path where nothing is is no failure.")
@click.option("--lazy", is_flag=True, help="Of a forked directory: also while programs use it; the fork is kept then.")
@click.option("--discard", is_flag=True, help="Of a forked directory: delete the fork though the clone does not have it all.")
def command(state: State, paths: tuple[TreePath, ...], recursive: bool, force: bool, lazy: bool, discard: bool) -> Removed:
    """Remove files and directories

    What a checkpoint holds comes back with `avfs checkout PATH --at STATE`.

    A directory at which `avfs fork SOURCE DIR` has mounted a fork is ended: a last checkpoint, then the mount goes, and the fork
    too if the clone has all its commits, or with --discard. Otherwise it stays in its vault.
    """
    if len(paths) == 1 and state.vault_flag is None and state.fork_flag is None:
        session = _find_fork(state, paths[0])
        if session is not None:
            os.chdir("/")  # this process must not be the one that uses it
            return {"removed": [], "ended": session.remove(discard=discard, lazy=lazy)}
    with _opened(state, paths[0]) as workspace:
        present = [path for path in paths if workspace.exists(path)]
        for path in paths:
            workspace.remove(path, recursive=recursive, missing_ok=force)
        return {"removed": [{"path": path} for path in present]}


@contextmanager
def _opened(state: State, path: TreePath) -> Iterator[Workspace]:
    """Open the workspace that is meant; where there is none, a directory of the machine was."""
    try:
        with state.open_workspace() as workspace:
            yield workspace
    except NoVaultChosen as err:
        if path.startswith(b"..") or any(place.is_dir() for place in _places(path)):
            raise SessionNotFound(os.fsdecode(path)) from err
        raise


def _places(path: TreePath) -> tuple[Path, Path]:
    return Path(os.sep, os.fsdecode(path)), Path(os.fsdecode(path))


def _find_fork(state: State, path: TreePath) -> Session | None:
    """Find the fork of a directory that is mounted just there; a path of a workspace may mean one of the machine."""
    for place in _places(path):
        session = state.avfs.session_at(place) if place.is_dir() else None
        if session is not None and session.path == place.resolve() and session.vault.origin() is not None:
            return session
    return None

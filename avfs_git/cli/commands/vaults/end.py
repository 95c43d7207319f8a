"""`avfs end`: end the fork of a directory."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import HOST_PATH, verb
from avfs_git.errors import DirectoryGone, MountInPart, SessionNotFound

if TYPE_CHECKING:
    from avfs_git.model import RemoveResult
    from avfs_git.sdk.vault import Session


@verb("end", view="mounts", example="avfs end ../task")
@click.argument("directory", type=HOST_PATH, metavar="DIR")
@click.option("-l", "--lazy", is_flag=True, help="Also while programs use it; the fork is kept then.")
@click.option("--discard", is_flag=True, help="Delete the fork although the clone does not have all of its commits.")
def command(state: State, directory: Path, lazy: bool, discard: bool) -> RemoveResult:
    """End the fork of a directory that `avfs fork SOURCE DIR` made

    avfs saves a last checkpoint, unmounts DIR, and deletes the fork if the clone has all its commits or nothing has
    changed. Otherwise the fork stays in its vault. No push holds ignored files: a warning names the new and
    changed ones of a deleted fork, which `avfs undo` restores.
    """
    session = state.avfs.session_at(directory) if directory.is_dir() else None
    if session is None or session.path != directory.resolve():
        error = SessionNotFound(os.fspath(directory))
        error.hint = (
            "`avfs end` takes the directory where a fork is mounted: `avfs sessions` has it. A fork that is not "
            "mounted is deleted by `avfs fork delete NAME`."
        )
        raise error
    state.check_mount(session.vault.path, session.fork, session.path)
    if not session.is_of_directory():
        raise SessionNotFound(os.fspath(directory), is_other=True)
    state.output.amend(vault=session.vault.name, fork=session.fork)
    state.output.named = state.output.named._replace(vault=session.vault.name)
    by = _find_fork_at_hand(state, session)
    os.chdir("/")  # this process itself must not use it
    return session.remove(discard=discard, lazy=lazy, by=by)


def _find_fork_at_hand(state: State, session: Session) -> str | None:
    """Name the fork of the same vault in whose tree the command runs: its `undo` restores the deleted fork."""
    with suppress(DirectoryGone, MountInPart):
        place = state.place()
        if place is not None and os.path.realpath(place.vault) == os.path.realpath(session.vault.path):
            return place.fork
    return None

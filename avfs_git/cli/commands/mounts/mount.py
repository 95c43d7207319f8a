"""`avfs mount`: show a workspace as a real directory."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from avfs_git.cli.context import State
from avfs_git.cli.targets import looks_like_path, parse_target
from avfs_git.cli.verb import HOST_PATH, verb
from avfs_git.errors import BadUsage, VaultNotFound
from avfs_git.host.userhome import expand_user

if TYPE_CHECKING:
    from avfs_git.model import SessionInfo
    from avfs_git.sdk import Session


@verb("mount", view="mounts", example="avfs mount task ./task")
@click.argument("name", required=False, metavar="[FORK]")
@click.argument("directory", required=False, type=HOST_PATH, metavar="[DIR]")
@click.option("-r", "--readonly", is_flag=True, help="Mount the head of the fork, read-only.")
@click.option("--at", metavar="STATE", help="Mount this state, read-only: a checkpoint's label or id, or a fork.")
@click.option("-a", "--all", "everything", is_flag=True, help="Mount all forks and checkpoints of the vault.")
@click.option("-f", "--foreground", is_flag=True, help="Run until the mount ends; Ctrl-C unmounts.")
@click.option(
    "--backend",
    type=click.Choice(["auto", "overlay", "fuse", "portable"]),
    default="auto",
    show_default=True,
    help="The way to mount: overlayfs (root only), FUSE, or FUSE through libfuse.",
)
@click.option("--allow-other", is_flag=True, help="Allow other users, within permissions.")
def command(
    state: State,
    name: str | None,
    directory: Path | None,
    readonly: bool,
    at: str | None,
    everything: bool,
    foreground: bool,
    backend: str,
    allow_other: bool,
) -> SessionInfo:
    """Mount the workspace of a fork at a directory

    The command returns when programs can use the directory. Another process serves the mount until `avfs stop` or `avfs
    unmount`. A write there changes the workspace at once. DIR is empty or missing; without DIR, the mount is at
    mounts/VAULT/FORK in the home. The name of a vault means its default fork.

    With --all, the directory shows forks/NAME, checkpoints/FORK/LABEL and commits/ID, and is kept up to date.
    forks/NAME is a link to the fork's mount; opening it mounts the fork. Checkpoints and commits are read-only.
    """
    if everything and (readonly or at is not None):
        raise BadUsage("--all shows every state, and forks for writing", hint="Leave out `--at` and `--readonly`.")
    if everything and backend not in ("auto", "fuse"):
        how = "through libfuse" if backend == "portable" else "on overlayfs"
        raise BadUsage(f"all of a vault cannot be shown {how}", hint="Leave out `--backend`.")
    from avfs_git.session.serve.nursery_client import starting_early  # noqa: PLC0415 - not for the help

    with starting_early():  # it comes up while this process imports what it needs itself
        name, directory = _sort_out_vault(state, name, directory) if everything else _sort_out(state, name, directory)
        leash, hand = os.pipe() if foreground else (None, None)
        try:
            if foreground:
                for number in (signal.SIGTERM, signal.SIGHUP):
                    signal.signal(number, _interrupt)
            if everything:
                with state.open_vault() as vault:
                    session = vault.mount(directory, allow_other=allow_other, leash_fd=leash)
                    return _finish(state, session, foreground=foreground)
            with state.open_workspace() as workspace:
                session = workspace.mount(
                    directory, readonly=readonly, at=at, allow_other=allow_other, leash_fd=leash, backend=backend
                )
                return _finish(state, session, foreground=foreground)
        finally:
            for fd in (leash, hand):
                if fd is not None:
                    os.close(fd)


def _sort_out(state: State, name: str | None, directory: Path | None) -> tuple[str | None, Path | None]:
    """Tell which of the arguments are there, and let the name choose the fork as `--fork` would, or the vault."""
    if name is None:
        return None, directory
    try:
        with state.open_vault() as vault:
            is_fork = vault.has_fork(name)
    except VaultNotFound:
        is_fork = False
    if is_fork:
        state.name_fork(name)
        return name, directory
    if directory is None and (looks_like_path(name) or state.named().fork is not None):  # an option names the fork
        return None, expand_user(HOST_PATH(name))
    if state.vault_flag is None and state.fork_flag is None and state.avfs.has_vault(parse_target(name).vault):
        state.vault_flag = name
        return None, directory
    state.name_fork(name)  # so that the failure names it
    return name, directory


def _sort_out_vault(state: State, name: str | None, directory: Path | None) -> tuple[str | None, Path | None]:
    """Tell which of the arguments are there, and let the name choose the vault as `--vault` would."""
    if name is None:
        return None, directory
    if directory is None and (looks_like_path(name) or not state.avfs.has_vault(name)):
        return None, expand_user(HOST_PATH(name))
    if state.vault_flag not in (None, name):
        raise BadUsage("the vault is named twice", hint="Name it once.")
    state.vault_flag = name
    return None, directory


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt


def _finish(state: State, session: Session, *, foreground: bool) -> SessionInfo:
    info = session.info()
    if foreground:
        _stay(state, session, info)
    return info


def _stay(state: State, session: Session, info: SessionInfo) -> NoReturn:
    """Wait for the end of the mount. If this process is killed, the session ends by its leash."""
    from avfs_git.session.serve.nursery_client import let_go  # noqa: PLC0415 - see above

    let_go()  # there will be no other session
    try:
        state.output.result(info)
        state.output.close()
        session.wait()
    except KeyboardInterrupt:
        session.unmount(lazy=True)
    raise click.exceptions.Exit(0)

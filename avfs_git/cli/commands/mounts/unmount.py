"""`avfs unmount`: take a mount away."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.targets import looks_like_path
from avfs_git.cli.verb import HOST_PATH, verb
from avfs_git.errors import (
    BadUsage,
    InvalidInput,
    NoForkChosen,
    NoForks,
    NoVaultChosen,
    SessionNotFound,
    VaultNotFound,
    quote,
)
from avfs_git.host.userhome import expand_user
from avfs_git.paths import WHOLE_VAULT

if TYPE_CHECKING:
    from avfs_git.host.mounts.mounts import Mounted
    from avfs_git.model import UnmountResult
    from avfs_git.sdk import Session, Vault


@verb("unmount", view="mounts", example="avfs unmount task")
@click.argument("name", required=False, metavar="[FORK|DIR]")
@click.option(
    "-l", "--lazy", is_flag=True, help="Also while programs use it: it is out of sight, and ends with the last of them."
)
@click.option(
    "--force", is_flag=True, help="Also while programs use it: what they do there from now on fails. Not on overlayfs."
)
def command(state: State, name: str | None, lazy: bool, force: bool) -> UnmountResult:
    """Unmount a fork, without a checkpoint

    The workspace of the fork keeps what programs wrote. If programs use the mount, it stays, unless `--lazy` or
    `--force` is given. Without an argument, avfs takes the mount around the current directory, else that of the default
    fork. If nothing is mounted, nothing happens.
    """
    check_options(lazy, force)
    with open_session(state, name) as session:
        if session is None:
            return _unmount_unrecorded(name, lazy=lazy, force=force)
        return session.unmount(lazy=lazy, force=force)


def check_options(lazy: bool, force: bool) -> None:
    """Refuse two options that contradict each other."""
    if lazy and force:
        raise BadUsage("--lazy waits for the programs that use the mount, --force does not", hint="Give one of them.")


def find_unrecorded(name: str | None) -> tuple[Path | None, Mounted | None]:
    """Find the place that is named, and the mount of avfs there of which no vault at its place has a record."""
    from avfs_git.session.life.mountsource import find_mount_around  # noqa: PLC0415 - not needed to show help

    place = Path(name).resolve() if name is not None and looks_like_path(name) else None
    return place, find_mount_around(place) if place is not None else None


def _unmount_unrecorded(name: str | None, *, lazy: bool, force: bool) -> UnmountResult:
    """Take away a mount whose session no record tells of any more; say so if nothing is mounted."""
    from avfs_git.model import UnmountResult  # noqa: PLC0415 - not needed to show help
    from avfs_git.session.life.stop import end_unrecorded  # noqa: PLC0415 - the same

    place, mounted = find_unrecorded(name)
    if mounted is None:
        return UnmountResult(None, place, "not_mounted")
    _leave(mounted.directory)
    outcome, users = end_unrecorded(mounted, lazy=lazy or force)
    return UnmountResult(None, mounted.directory, outcome, users=tuple(users))


@contextmanager
def open_session(state: State, name: str | None) -> Iterator[Session | None]:
    """Find the mount that is meant; None if nothing is mounted there.

    Raises:
        SessionNotFound: If there is no fork and no directory of that name.
        InvalidInput: If it may be one of several.
    """
    with ExitStack() as stack:
        found = _find(state, stack) if name is None else _find_named(state, stack, name)
        if found is not None:
            fork = None if found.fork == WHOLE_VAULT else found.fork
            state.check_mount(found.vault.path, fork, found.path)
            state.output.amend(vault=found.vault.name, fork=fork)
            # else the command line or the current directory says which vault
            if name is not None and looks_like_path(name):
                state.output.named = state.output.named._replace(vault=found.vault.name)
            _leave(found.path)
        yield found


def _leave(place: Path) -> None:
    """Let this process itself not use a mount."""
    with suppress(OSError):  # the current directory was removed
        if place in (here := Path.cwd(), *here.parents):
            os.chdir("/")


def _find_named(state: State, stack: ExitStack, name: str) -> Session | None:
    if name.startswith(("/", ".", "~")):  # no fork has such a name
        return state.avfs.session_at(expand_user(HOST_PATH(name)))
    try:
        vault = stack.enter_context(state.open_vault())
    except (NoVaultChosen, VaultNotFound):
        if state.vault_flag is not None:
            raise
    else:
        if vault.has_fork(name):
            state.output.amend(fork=name)
            return _only(vault, name)
    if looks_like_path(name) or Path(name).is_dir():
        return state.avfs.session_at(expand_user(HOST_PATH(name)))
    found = [session for session in state.avfs.sessions() if session.fork == name]
    if len({session.vault for session in found}) != 1:
        raise SessionNotFound(name)
    return _only(stack.enter_context(state.avfs.open_vault(found[0].vault)), name)


def _find(state: State, stack: ExitStack) -> Session | None:
    if state.vault_flag is None and state.fork_flag is None and (place := state.place()) is not None and place.is_mount:
        state.check_undisputed()
        if (here := state.avfs.session_at(Path.cwd())) is not None:
            return here
    vault, fork = stack.enter_context(state.open_vault_and_fork(whole=True))
    if fork is None:
        mounted = sorted({session.fork for session in vault.sessions()})
        if not mounted:
            return None
        fork = mounted[0] if len(mounted) == 1 and not vault.has_fork(mounted[0]) else _choose(vault, mounted)
    state.output.amend(fork=fork)
    return _only(vault, fork)


def _choose(vault: Vault, mounted: list[str]) -> str:
    """Choose the fork by the rule for all commands; where it is not mounted, take no other fork's mount for it."""
    verb = click.get_current_context().command_path
    hint = f"Say which mount: {' or '.join(f'`{verb} {shlex.quote(name)}`' for name in mounted[:3])}."
    try:
        fork = vault.choose_fork()
    except (NoForkChosen, NoForks) as error:
        error.hint = hint
        raise
    if fork not in mounted:
        raise InvalidInput(f"fork {quote(fork)}, which is meant where none is named, is not mounted", hint=hint)
    return fork


def _only(vault: Vault, fork: str) -> Session | None:
    """Choose the mount of a fork: that of its workspace, or the only one of a commit."""
    found = [session for session in vault.sessions() if session.fork == fork]
    if len(found) > 1 and all(session.readonly for session in found):
        places = " or ".join(f"`{shlex.quote(os.fspath(session.directory))}`" for session in found[:3])
        raise InvalidInput(f"{quote(fork)} is mounted more than once", hint=f"Say which: {places}.")
    return vault.find_session(fork)

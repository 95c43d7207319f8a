"""`avfs sessions`, also `avfs ps`: what is mounted, and letting it go on with another version."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.app import MissingVerb, VerbGroup
from avfs_git.cli.commands.unmount import open_session
from avfs_git.cli.context import State
from avfs_git.cli.verb import verb
from avfs_git.errors import BadUsage, NoVaultChosen, SessionNotFound, UpgradeFailed
from avfs_git.model import SessionBackend, SessionState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from avfs_git.cli.results import SessionList, SessionUpgrade, UpgradeList
    from avfs_git.sdk import Session


@verb("sessions", view="mounts")
def list_(state: State) -> SessionList:
    """List what is mounted

    Of all vaults of the home, or of the one that `--vault` names. What a process that died has left behind is cleaned up
    on the way.
    """
    if state.target().vault is None:
        return {"sessions": state.avfs.sessions()}
    with state.open_vault() as vault:
        return {"sessions": vault.sessions()}


@verb("sessions upgrade", view="mounts")
@click.argument("name", required=False, metavar="[FORK|DIR]")
@click.option("-a", "--all", "every", is_flag=True, help="All mounts of the home, or of the vault that `--vault` names.")
def upgrade(state: State, name: str | None, every: bool) -> UpgradeList:
    """Let mounts go on with this version of avfs

    A mount is served by the version that made it, also when another one is installed since. Programs that use the mount notice
    a pause; their open files stay. A version that cannot go on with it changes nothing. Which mount is meant is told as
    for `avfs unmount`; with --all, those that can only be mounted again are passed over, of commits and through libfuse.
    """
    if every and name is not None:
        raise BadUsage("--all takes no fork and no directory")
    if not every:
        try:
            with open_session(state, name) as session:
                if session is None:
                    raise SessionNotFound(name if name is not None else ".")
                return {"upgrades": [_upgrade(session)]}
        except NoVaultChosen as error:
            raise BadUsage("no mount was named", hint="Name a fork or a directory, or take them all with `--all`.") from error
    done: list[SessionUpgrade] = []
    for session in _all(state):
        try:
            done.append(_upgrade(session))
        except UpgradeFailed as error:
            info = session.info()
            if not info.readonly and info.backend != SessionBackend.PORTABLE and info.state != SessionState.UNMOUNTING:
                raise
            done.append({"session": info, "outcome": "passed_over", "before": None, "after": None, "reason": error.message})
    return {"upgrades": done}


def _upgrade(session: Session) -> SessionUpgrade:
    done = session.upgrade()
    return {"session": done.session, "outcome": "upgraded", "before": done.before or None, "after": done.after, "reason": None}


def _all(state: State) -> Iterator[Session]:
    names = [vault.name for vault in state.avfs.list_vaults()] if state.target().vault is None else [None]
    for name in names:
        with state.open_vault() if name is None else state.avfs.open_vault(name) as vault:
            for info in vault.sessions():
                session = vault.find_session(info.fork, session_id=info.id)
                if session is not None:  # else it ended meanwhile
                    yield session


class _Sessions(VerbGroup):
    """The verbs of mounts; without one, they are listed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse; a lone group lists."""
        try:
            return super().parse_args(ctx, args)
        except MissingVerb:
            ctx._protected_args = ["list"]  # noqa: SLF001 - click has no other way
            return []


command = _Sessions(
    "sessions", help="List what is mounted, or let it go on with another version", commands={"list": list_, "upgrade": upgrade}
)

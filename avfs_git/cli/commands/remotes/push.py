"""`avfs push`: forks to a remote."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import verb
from avfs_git.errors import BadUsage, quote
from avfs_git.model import Warning

if TYPE_CHECKING:
    from avfs_git.model import PushResult


@verb("push", view="remotes", example="avfs push task --remote origin")
@click.argument("forks", nargs=-1, metavar="[FORK]...")
@click.option("--all", "every", is_flag=True, help="All forks that have a checkpoint.")
@click.option("--remote", metavar="NAME", help="Where to; default: the only remote, or `origin`.")
@click.option(
    "--origin", is_flag=True, help="To the directory that the vault was made from, where only branches change."
)
@click.option("--with-checkpoints", is_flag=True, help="Also the labels of their checkpoints.")
@click.option("--with-sidecar", is_flag=True, help="Also their ignored files, as their newest checkpoints have them.")
@click.option(
    "--force-with-lease",
    is_flag=True,
    help="Allow a non-fast-forward push if the branch has not moved since the last fetch.",
)
def command(
    state: State,
    forks: tuple[str, ...],
    every: bool,
    remote: str | None,
    origin: bool,
    with_checkpoints: bool,
    with_sidecar: bool,
    force_with_lease: bool,
) -> PushResult:
    """Push forks to a remote, as branches

    Pushes plain branches, without ignored files. A push never overwrites commits: if the remote has commits that the
    fork does not have, the remote rejects the push, and avfs says what to do. Labels of other vaults stay, too.
    """
    if every and forks:
        raise BadUsage("--all takes no forks")
    if origin and (remote or with_checkpoints or with_sidecar or force_with_lease):
        raise BadUsage(
            "--origin pushes branches to the directory that the vault was made from, and takes no other option "
            "but --all"
        )
    with state.open_vault_and_fork(with_fork=not (forks or every)) as (vault, chosen):
        for name in forks:
            if not vault.has_fork(name) and name in {known.name for known in vault.list_remotes()}:
                raise BadUsage(
                    f"{quote(name)} is a remote, not a fork", hint=f"Push to it with `--remote {shlex.quote(name)}`."
                )
        names = list(forks) or ([chosen] if chosen else [])
        if every:
            listed = vault.list_forks()
            names = [fork.name for fork in listed if fork.head is not None]
            state.output.warn(
                Warning("fork.damaged", f"{fork.problem}: it is not pushed") for fork in listed if fork.problem
            )
        state.output.amend(fork=names[0] if len(names) == 1 else None)
        if origin:
            return vault.push_to_origin(names)
        with state.output.progress("pushing") as progress:
            return vault.push(
                names,
                remote,
                with_checkpoints=with_checkpoints,
                with_sidecar=with_sidecar,
                force_with_lease=force_with_lease,
                progress=progress,
            )

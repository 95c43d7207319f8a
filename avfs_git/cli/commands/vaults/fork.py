"""`avfs fork`: make, look at and delete forks."""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from avfs_git.cli.amounts import read_size
from avfs_git.cli.commands.vaults.settings import change_settings, looks_at_settings, setting_arguments
from avfs_git.cli.context import State
from avfs_git.cli.table import VerbGroup
from avfs_git.cli.targets import looks_like_path
from avfs_git.cli.verb import HOST_PATH, verb
from avfs_git.errors import BadUsage, quote

if TYPE_CHECKING:
    from avfs_git.cli.results import ConfigResult, DirectoryFork, ForkList, ForkResult, RemoteBranchList
    from avfs_git.model import ForkInfo, Identity

_AUTHOR = re.compile(r"([^<>\x00-\x1f]*[^<>\s\x00]) ?<([^<>\s\x00]+)>")


def make_fork(
    state: State,
    name: str,
    *,
    source: str | None = None,
    at: str | None = None,
    ephemeral: bool = False,
    with_changes: bool = True,
    author: Identity | None = None,
    config: dict[str, str] | None = None,
) -> ForkResult:
    """Make a fork in the vault that is meant; `vault fork` does the same under another name."""
    state.name_fork(source)
    with state.open_vault_and_fork() as (vault, chosen), state.output.progress(f"making fork {quote(name)}"):
        made = vault.fork(
            name, source=chosen, at=at, ephemeral=ephemeral, with_changes=with_changes, author=author, config=config
        )
        made.close()  # and not left: leaving a `with` block of an ephemeral fork deletes it
        return {"fork": vault.fork_info(name), "vault": vault.name}


def _read_author(text: str) -> Identity:
    """Read `Name <mail>`, as `git commit --author` takes it.

    Raises:
        BadUsage: If it is written otherwise.
    """
    found = _AUTHOR.fullmatch(text)
    if found is None:
        raise BadUsage(f"an author is written as 'Name <mail>', not as {quote(text)}")
    from avfs_git.model import Identity  # noqa: PLC0415 - not needed to show help

    return Identity(found[1], found[2])


_author_option = click.option(
    "--author", type=_read_author, metavar="AUTHOR", help="Author of its commits, as 'Name <mail>'; default: the user."
)


@verb("fork create", view="vaults", example="avfs fork create task --from main")
@click.argument("name")
@click.option(
    "--from", "source", metavar="FORK", help="The fork to start from; default: `--fork`, else the vault's default fork."
)
@click.option(
    "--at", metavar="STATE", help="The state to start from: a checkpoint's label or id; default: the present one."
)
@click.option("--ephemeral", is_flag=True, help="A fork to throw away: the Python API deletes it when it is left.")
@click.option("--committed", is_flag=True, help="Leave out what the source has not saved in a checkpoint.")
@_author_option
@click.option("--quota-bytes", metavar="SIZE", type=read_size, help="Limit what its changed files may have together.")
@click.option(
    "--quota-files", metavar="N", type=click.IntRange(min=0), help="Limit how many files and directories it may change."
)
def create(
    state: State,
    name: str,
    source: str | None,
    at: str | None,
    ephemeral: bool,
    committed: bool,
    author: Identity | None,
    quota_bytes: int | None,
    quota_files: int | None,
) -> ForkResult:
    """Make a fork: a branch with a workspace of its own

    The fork starts with everything that its source has, including ignored files and unsaved changes. The cost does not
    depend on the size of the tree. `avfs fork config` changes its limits later.
    """
    limits = {"quota.fork_bytes": quota_bytes, "quota.fork_files": quota_files}
    config = {key: str(limit) for key, limit in limits.items() if limit is not None}
    return make_fork(
        state, name, source=source, at=at, ephemeral=ephemeral, with_changes=not committed, author=author, config=config
    )


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """Pause the garbage collector: scanning hundreds of thousands of live small values takes a fifth of the time.

    Who runs the command within a process of his own has the collector back afterwards: without it, descriptors would
    stay open.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@verb("fork dir", view="vaults", example="avfs fork . ../task")
@click.argument("source", type=HOST_PATH)
@click.argument("directory", type=HOST_PATH, metavar="DIR")
@click.option("--branch", metavar="NAME", help="The name of the fork; default: that of DIR.")
@click.option(
    "--backend",
    type=click.Choice(["auto", "overlay", "fuse", "portable"]),
    default="auto",
    show_default=True,
    help="How to mount it, as for `avfs mount`.",
)
@_author_option
def directory_(
    state: State, source: Path, directory: Path, branch: str | None, backend: str, author: Identity | None
) -> DirectoryFork:
    """Fork the present state of a clone or folder, and mount the fork at DIR

    The fork has everything that SOURCE has now: its commit, and changed, new and ignored files. avfs only reads SOURCE,
    and makes a vault for it the first time; if SOURCE is in a mount, the fork is one more in the mount's vault. In DIR,
    git commits to the fork's branch, and `git push origin NAME` pushes it to the clone. `avfs end DIR` ends the fork.
    `avfs fork SOURCE DIR` is the same if SOURCE is written as a path, as in `avfs fork . ../task`.
    """
    from avfs_git.session.serve.nursery_client import starting_early  # noqa: PLC0415 - not for the help

    state.warn_of_size(source)
    # What the session needs comes up while the present state is captured.
    with _collector_at_rest(), starting_early(), state.output.progress(f"forking {source}"):
        session = state.avfs.fork_directory(source, directory, branch=branch, author=author, backend=backend)
    state.output.warn(session.vault.warnings)
    state.output.amend(vault=session.vault.name, fork=session.fork)
    return {
        "fork": session.fork,
        "vault": session.vault.name,
        "session": session.info(),
        "pushes_to": session.vault.remote(),
    }


@verb("fork list", looks=True, view="vaults", pages=True, example="avfs fork list")
@click.option(
    "--remote", "from_remotes", is_flag=True, help="The branches of remotes instead, as they were last fetched."
)
@click.option("--stat", is_flag=True, help="Also count the files and lines that each fork's own commits changed.")
def list_(state: State, from_remotes: bool, stat: bool) -> ForkList | RemoteBranchList:
    """List the forks of a vault, or the branches of its remotes

    For each fork: how many commits it is ahead of its upstream, as of the last fetch, and behind it; without an
    upstream, the vault's default fork takes its place. `--stat` counts what the commits ahead changed. A branch of a
    remote may be a fork of another vault: continue it here with `avfs fork create NAME --at REMOTE/BRANCH`.
    """
    if from_remotes and stat:
        raise BadUsage("`--stat` counts what forks changed, not branches of remotes")
    with state.open_vault() as vault:
        if from_remotes:
            return {"branches": vault.list_remote_branches()}
        return {"forks": vault.list_forks(), "standings": vault.compare_forks(stat=stat)}


@verb("fork info", looks=True, view="vaults", pages=True, example="avfs fork info task")
@click.argument("name", required=False)
def info(state: State, name: str | None) -> ForkInfo:
    """Show what is known of a fork"""
    state.name_fork(name)
    with state.open_vault_and_fork() as (vault, fork):
        return vault.fork_info(vault.choose_fork(fork), usage=True)


@verb(
    "fork config",
    looks=looks_at_settings,
    view="vaults.vault_config",
    pages=True,
    example="avfs fork config task quota.fork_bytes 2G",
)
@click.argument("name")
@setting_arguments
def config(state: State, name: str, key: str | None, value: str | None, unset: bool) -> ConfigResult:
    """Show or change the settings of one fork

    Without KEY it shows the settings that hold for the fork, with KEY one, and with VALUE the fork gets its own, in
    place of the vault's. It keeps that through a rename; forks made from it begin with the vault's settings.
    """
    return change_settings(state, name, key, value, unset=unset)


@verb("fork delete", view="vaults", example="avfs fork delete task")
@click.argument("name")
def delete(state: State, name: str) -> ForkInfo:
    """Delete a fork: its branch and its workspace

    `avfs undo` brings it back.
    """
    with state.open_vault_and_fork(with_fork=False) as (vault, fork):
        return vault.delete_fork(name, by=fork)


@verb("fork rename", view="vaults", example="avfs fork rename task retry")
@click.argument("name")
@click.argument("new_name")
def rename(state: State, name: str, new_name: str) -> ForkInfo:
    """Rename a fork: its branch, labels and workspace

    The fork must not be mounted. `avfs undo` takes it back. Branches of remotes keep their names: the fork goes on
    following the branch that it followed, and the next push creates one of the new name.
    """
    with state.open_vault_and_fork(with_fork=False) as (vault, fork):
        return vault.rename_fork(name, new_name, by=fork)


class _Forks(VerbGroup):
    """The verbs of forks; a path in place of one, or an option of `fork dir`, is about a directory to fork."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse."""
        own, of_dir = ({name for param in of.params for name in param.opts} for of in (self, directory_))
        return super().parse_args(ctx, ["dir", *args] if args and args[0].partition("=")[0] in of_dir - own else args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb."""
        if args[0] not in self.commands and (any(map(looks_like_path, args[:2])) or Path(args[0]).is_dir()):
            return "dir", directory_, args
        return super().resolve_command(ctx, args)


command = _Forks("fork", commands=[create, directory_, list_, info, config, rename, delete])

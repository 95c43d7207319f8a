"""`avfs find`: find files by name and other facts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Unpack

import click

from avfs_git.cli.amounts import read_size, read_time
from avfs_git.cli.commands.reading.grep import FOUND_NOTHING
from avfs_git.cli.context import State
from avfs_git.cli.verb import TREE_PATH, verb
from avfs_git.errors import BadUsage

if TYPE_CHECKING:
    from avfs_git.cli.results import FoundEntries
    from avfs_git.paths import TreePath
    from avfs_git.sdk import FindOptions

_KINDS = {"f": "file", "d": "directory", "l": "symlink"}
_DEPTH = click.IntRange(min=0)


@verb(
    "find",
    looks=True,
    view="files",
    unrecorded=("newer", "older"),
    pages=True,
    example="avfs find src --name '*.py' --changed-since v1",
)
@click.argument("paths", nargs=-1, type=TREE_PATH, metavar="[PATH]...")
@click.option("--name", "names", multiple=True, metavar="GLOB", help="The name, or with a slash the path; repeatable.")
@click.option("-i", "--ignore-case", is_flag=True, help="Ignore case in names.")
@click.option("--type", "kind", type=click.Choice(["f", "d", "l"]), help="Files, directories, or symbolic links.")
@click.option("--min-size", type=read_size, metavar="SIZE", help="Files of at least this size, such as 10k or 1M.")
@click.option("--max-size", type=read_size, metavar="SIZE", help="Files of at most this size.")
@click.option("--newer", type=read_time, metavar="TIME", help="Changed since, such as 2h, 3d or 2026-01-31.")
@click.option("--older", type=read_time, metavar="TIME", help="Not changed since.")
@click.option("--min-depth", type=_DEPTH, metavar="N", help="At least N levels below the root.")
@click.option("--max-depth", type=_DEPTH, metavar="N", help="At most N levels below the root.")
@click.option("--changed-since", metavar="STATE", help="New or different since a checkpoint, or than in a fork.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="With this tag, ignored or not; repeatable.")
@click.option(
    "--meta", "meta", multiple=True, metavar="KEY[=VALUE]", help="With this metadata, ignored or not; repeatable."
)
@click.option("--ignored", is_flag=True, help="Ignored files, nested repositories and empty directories, too.")
@click.option("--at", metavar="STATE", help="Look through that state: a checkpoint's label or id, or a fork.")
@click.option("--all-forks", is_flag=True, help="Look through the workspaces of all forks.")
def command(
    state: State,
    paths: tuple[TreePath, ...],
    names: tuple[str, ...],
    kind: str | None,
    newer: int | None,
    older: int | None,
    at: str | None,
    all_forks: bool,
    **given: Unpack[FindOptions],
) -> FoundEntries:
    """Find files by name, kind, size, time, tag or change

    In the workspace as it is, committed or not. No mount or checkout is needed. The status is 0 if something was found,
    and 1 if not.
    """
    if at is not None and all_forks:
        raise BadUsage("--at and --all-forks exclude each other")
    options: FindOptions = {
        **given,
        "kinds": [_KINDS[kind]] if kind is not None else [],
        "newer_ns": newer,
        "older_ns": older,
        "meta": {
            key: value if is_set else None for key, is_set, value in (each.partition("=") for each in given["meta"])
        },
    }
    found: FoundEntries
    if all_forks:
        with state.open_vault() as vault:
            found = {"results": vault.find(*names, paths=paths, **options)}
    else:
        with state.open_workspace() as workspace:
            found = {"results": [workspace.find(*names, paths=paths, at=at, **options)]}
    if not any(result.entries for result in found["results"]):
        state.status = FOUND_NOTHING
    return found

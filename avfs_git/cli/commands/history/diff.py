"""`avfs diff`: how two states differ."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import AFTER_DASHES, TREE_PATH, verb
from avfs_git.errors import BadUsage, CheckpointNotFound
from avfs_git.values import replace

if TYPE_CHECKING:
    from avfs_git.model import Diff
    from avfs_git.paths import TreePath

_F = TypeVar("_F", bound=Callable[..., object])


def diff_options(function: _F) -> _F:
    """Add the options that every verb with a difference has."""
    for option in (
        click.option(
            "-p",
            "--path",
            "paths",
            multiple=True,
            type=TREE_PATH,
            metavar="PATH",
            help="Only this path and what is below it; repeatable.",
        ),
        click.option("-U", "--unified", type=click.IntRange(min=0), default=3, show_default=True, help="Lines of context."),
        click.option("--name-status", is_flag=True, help="Only which paths differ, and how."),
        click.option("--stat", is_flag=True, help="Only how many lines of each path differ."),
    ):
        function = option(function)
    return function


def check_options(*, stat: bool, name_status: bool) -> None:
    """Refuse options that exclude each other."""
    if stat and name_status:
        raise BadUsage("--stat and --name-status exclude each other")


def paths_of(paths: Sequence[TreePath]) -> list[TreePath]:
    """Join the paths of `--path` and those behind `--`."""
    behind = click.get_current_context().meta.get(AFTER_DASHES, ())
    return [*paths, *map(TREE_PATH, behind)]


def compare(
    state: State, old: str | None, new: str | None, *, stat: bool, name_status: bool, unified: int, paths: Sequence[TreePath]
) -> Diff:
    """Compare two states of the fork that is meant."""
    check_options(stat=stat, name_status=name_status)
    wanted = paths_of(paths)
    state.output.amend(old=old, new=new, paths=wanted)
    with state.open_workspace() as workspace:
        found = workspace.diff(old, new, paths=wanted, context=unified, patches=not name_status)
    return summarize(found) if stat else found


def summarize(difference: Diff) -> Diff:
    """Leave out the lines, and keep how many there are."""
    return replace(difference, files=tuple(replace(file, hunks=(), patch=b"") for file in difference.files))


@verb("diff", looks=True, view="history", unrecorded=("states", "paths"), splits_at_dashes=True)
@click.argument("states", nargs=-1, metavar="[OLD [NEW]] [-- PATH...]")
@diff_options
def command(
    state: State, states: tuple[str, ...], stat: bool, name_status: bool, unified: int, paths: tuple[TreePath, ...]
) -> Diff:
    """Show how two states differ

    As git shows it. Without arguments: what changed in the workspace since the last checkpoint. With OLD: how the
    workspace differs from it. An argument that starts with a slash is a path, and so is everything behind `--`.
    """
    names = [name for name in states if not name.startswith("/")]
    more = [TREE_PATH(name) for name in states if name.startswith("/")]
    if len(names) > 2:
        raise BadUsage("diff compares at most two states", hint="Write paths behind `--`.")
    old, new = (*names, None, None)[:2]
    try:
        return compare(state, old, new, stat=stat, name_status=name_status, unified=unified, paths=[*paths, *more])
    except CheckpointNotFound as err:
        first, _, second = str(err.details["checkpoint"]).replace("...", "..").partition("..")
        if second:
            err.hint = f"Write the states apart: `avfs diff {shlex.quote(first or 'HEAD')} {shlex.quote(second)}`."
        else:
            err.hint = f"{err.hint} If it is a path, write it behind `--`."
        raise

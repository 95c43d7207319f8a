"""`avfs diff`: how two states differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import AFTER_DASHES, TREE_PATH, verb
from avfs_git.errors import AvfsError, BadUsage, CheckpointNotFound
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
        click.option(
            "-U", "--unified", type=click.IntRange(min=0), default=3, show_default=True, help="Lines of context."
        ),
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
    state: State,
    old: str | None,
    new: str | None,
    *,
    stat: bool,
    name_status: bool,
    unified: int,
    paths: Sequence[TreePath],
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


@verb(
    "diff",
    looks=True,
    view="history",
    unrecorded=("states", "paths"),
    splits_at_dashes=True,
    pages=True,
    example="avfs diff v1..v2 -- src",
)
@click.argument("states", nargs=-1, metavar="[OLD [NEW]] [-- PATH...]")
@diff_options
def command(
    state: State, states: tuple[str, ...], stat: bool, name_status: bool, unified: int, paths: tuple[TreePath, ...]
) -> Diff:
    """Show how two states differ

    As git shows it. Without arguments: what changed in the workspace since the last checkpoint. With OLD: how the
    workspace differs from it. OLD..NEW means the same as OLD NEW, and OLD...NEW what NEW changed since the two parted.
    An argument that names no state but a file or directory is a path; so is each with a slash in front, and each
    behind `--`. The `.gitattributes` of the newer state say what is binary (`-diff`) or text (`diff`); avfs runs no
    textconv, and a driver (`diff=python`) changes nothing.
    """
    names = [name for name in states if not name.startswith("/")]
    more = [TREE_PATH(name) for name in states if name.startswith("/")]
    if len(names) == 1 and (both := _split_range(names[0])) is not None:
        names = both
    try:
        old, new = (*names, None, None)[:2]
        if len(names) > 2:
            raise BadUsage("diff compares at most two states", hint="Write paths behind `--`.")
        return compare(state, old, new, stat=stat, name_status=name_status, unified=unified, paths=[*paths, *more])
    except (CheckpointNotFound, BadUsage) as err:
        known = _read_paths(state, names, err)
        if known is None:
            raise
        old, new = (*known[0], None, None)[:2]
    return compare(
        state, old, new, stat=stat, name_status=name_status, unified=unified, paths=[*paths, *more, *known[1]]
    )


def _split_range(name: str) -> list[str] | None:
    """Split `OLD..NEW` and `OLD...NEW`, where either may be left out for the last checkpoint; None of anything else."""
    old, dots, new = name.partition("...")
    if dots and (old or new) and not new.startswith((".", "/")):
        return [name, new or "HEAD"]
    old, dots, new = name.partition("..")
    if not dots or new.startswith((".", "/")) or old.endswith("/") or not (old or new):
        return None
    return [old or "HEAD", new or "HEAD"]


def _read_paths(state: State, names: Sequence[str], error: AvfsError) -> tuple[list[str], list[TreePath]] | None:
    """Tell states and paths apart: all names behind the last state are paths, if they exist.

    Else the hint of the error says how to write what is not clear.
    """
    if isinstance(error, CheckpointNotFound):
        error.hint = f"{error.hint} If it is a path, write it behind `--`."
    try:
        with state.open_workspace() as workspace:
            count = 0
            with suppress(CheckpointNotFound):
                for name in names[:2]:
                    workspace.diff(name, name, patches=False)  # which costs nothing
                    count += 1
            paths = [TREE_PATH(name) for name in names[count:]]
            return ([*names[:count]], paths) if paths and all(workspace.exists(path) for path in paths) else None
    except AvfsError:
        return None

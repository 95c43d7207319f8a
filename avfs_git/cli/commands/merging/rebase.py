"""`avfs rebase`: put a fork's own commits onto another state, go on where one is in conflict, or give it up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import IN_CONFLICT, option_on_conflict, option_strategy, verb
from avfs_git.errors import BadUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from avfs_git.cli.results import MergeAborted
    from avfs_git.model import RewriteResult
    from avfs_git.sdk import Workspace

_OPTIONS = (
    option_strategy("; `theirs` are those of the commits."),
    option_on_conflict("Change nothing, or put the conflicts of a commit into the files."),
    click.option("--continue", "goes_on", is_flag=True, help="Continue after resolving the conflicts of a commit."),
    click.option("--skip", "skips", is_flag=True, help="Continue without the commit that conflicts."),
    click.option("--abort", "gives_up", is_flag=True, help="Stop, and restore the files from before."),
)


def rewriting_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options for commits that do not fit."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def go_on(workspace: Workspace, operation: str, *, skips: bool, gives_up: bool) -> RewriteResult | MergeAborted:
    """Go on with the operation that the workspace is in the middle of, or give it up."""
    if gives_up:
        return {"aborted": workspace.abort_merge(operation=operation)}
    return workspace.continue_rewrite(skip=skips, operation=operation)


def tell(state: State, result: RewriteResult | MergeAborted) -> RewriteResult | MergeAborted:
    """Set the exit status if conflicts are left to decide."""
    if not isinstance(result, dict) and result.outcome == "conflicted":
        state.status = IN_CONFLICT
    return result


def check_going_on(given: Sequence[object], *, goes_on: bool, skips: bool, gives_up: bool) -> bool:
    """Tell whether something is to go on or to be given up.

    Raises:
        BadUsage: If both, or if it is said what to begin with.
    """
    asked = goes_on + skips + gives_up
    if asked > 1 or (asked and any(given)):
        raise BadUsage("--continue, --skip and --abort stand alone")
    return bool(asked)


@verb("rebase", view="merging", example="avfs rebase task --onto main")
@click.argument("name", required=False, metavar="[FORK]")
@click.option("--onto", metavar="STATE", help="The fork, label or commit to rebase onto.")
@rewriting_options
def command(
    state: State,
    name: str | None,
    onto: str | None,
    strategy: str,
    on_conflict: str,
    goes_on: bool,
    skips: bool,
    gives_up: bool,
) -> RewriteResult | MergeAborted:
    """Rebase a fork's own commits onto another state

    Uncommitted changes are committed first. If a commit conflicts, nothing changes. With `--on-conflict workspace`, the
    conflicts are written into the files instead: edit the files, or use `avfs resolve`, then continue with
    `--continue`. The branch moves when all commits are rebased. `avfs undo` undoes a rebase.
    """
    continues = check_going_on([onto], goes_on=goes_on, skips=skips, gives_up=gives_up)
    if not continues and onto is None:
        raise BadUsage("--onto is missing", hint="Name a fork or another state, as in `avfs rebase --onto main`.")
    state.name_fork(name)
    with state.open_workspace() as workspace:
        if continues or onto is None:
            result = go_on(workspace, "rebase", skips=skips, gives_up=gives_up)
        else:
            result = workspace.rebase(onto, strategy=strategy, on_conflict=on_conflict)
    return tell(state, result)

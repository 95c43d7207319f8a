"""`avfs merge`: join forks, go on with a merge in conflict, or give it up."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import IN_CONFLICT, is_dry_run, option_on_conflict, option_strategy, verb
from avfs_git.errors import BadUsage

if TYPE_CHECKING:
    from avfs_git.cli.results import MergeAborted, Merges
    from avfs_git.model import MergeResult


@verb("merge", looks=is_dry_run, view="merging", example="avfs merge task --dry-run")
@click.argument("sources", nargs=-1, metavar="[SOURCE]...")
@click.option("--into", metavar="FORK", help="The fork to merge into; default: the one to work in.")
@option_strategy()
@click.option(
    "--squash", "mode", flag_value="squash", help="Make one commit of all changes, without the source's history."
)
@click.option("--no-ff", "mode", flag_value="no_ff", help="Make a commit also where the fork only has to move on.")
@click.option("--ff-only", "mode", flag_value="ff_only", help="Move on to the source's commit, or do nothing.")
@click.option("-m", "--message", metavar="TEXT", help="What the merge commit says.")
@click.option("-n", "--dry-run", is_flag=True, help="Show what would happen, and change nothing.")
@click.option("--many", is_flag=True, help="Merge several, in the order that leaves the fewest conflicts.")
@option_on_conflict()
@click.option("--continue", "goes_on", is_flag=True, help="Commit the merge whose conflicts are resolved.")
@click.option("--abort", "gives_up", is_flag=True, help="Give the merge up.")
def command(
    state: State,
    sources: tuple[str, ...],
    into: str | None,
    strategy: str,
    mode: str | None,
    message: str | None,
    dry_run: bool,
    many: bool,
    on_conflict: str,
    goes_on: bool,
    gives_up: bool,
) -> MergeResult | Merges | MergeAborted:
    """Merge forks into a fork

    A source is a fork, a label or a commit. What it and the target have not committed is committed first. Without
    conflicts the target's files and branch move on together, and `avfs undo` takes that back. With conflicts nothing
    changes, the result names them, and the status is 1; with `--on-conflict workspace` they are put into the files, to
    be resolved by editing them or with `avfs resolve`. Of several with `--many`, the first that conflicts is the last
    then.
    """
    if goes_on or gives_up:
        if sources or mode or dry_run or many or (goes_on and gives_up):
            raise BadUsage("--continue and --abort take no source")
    elif not sources or (len(sources) > 1 and not many):
        raise BadUsage("name one fork to merge, or several with --many", hint="See them with `avfs fork list`.")
    state.name_fork(into)
    with state.open_workspace() as workspace:
        if gives_up:
            return {"aborted": workspace.abort_merge(operation="merge")}
        if goes_on:
            return workspace.continue_merge(message=message)
        how = mode or "normal"
        merge = workspace.merge_many if many else lambda names, **options: [workspace.merge(names[0], **options)]
        merges = merge(sources, strategy=strategy, mode=how, message=message, dry_run=dry_run, on_conflict=on_conflict)
        if any(merge.outcome == "conflicted" for merge in merges):
            state.status = IN_CONFLICT
        return {"merges": merges} if many else merges[0]

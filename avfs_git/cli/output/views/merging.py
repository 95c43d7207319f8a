"""What results of merging look like to people: merges, conflicts, overlaps."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from avfs_git.cli.output.quoting import quote_path
from avfs_git.cli.output.views.history import list_beside, list_changes
from avfs_git.model import MergeResult, RewriteResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from avfs_git.cli.output.text import TextOutput
    from avfs_git.cli.results import MergeAborted, Merges
    from avfs_git.model import Conflict, MergeProgress, Overlap


def list_conflicts(text: TextOutput, conflicts: Sequence[Conflict]) -> None:
    """List paths in conflict, with the lines of our version where they begin."""
    for conflict in conflicts:
        lines = ", ".join(str(hunk.line) for hunk in conflict.hunks)
        where = f" ({'line' if len(conflict.hunks) == 1 else 'lines'} {lines})" if lines else ""
        text.line(("C", "red"), "\t", quote_path(conflict.path), f"\t{conflict.kind.value}{where}")


def merge(text: TextOutput, result: MergeResult | Merges | MergeAborted) -> None:
    """Say what was merged, or would be, or what is in the way."""
    if isinstance(result, MergeResult):
        merge_one(text, result)
        return
    if "aborted" in result:
        _gave_up(text, result, "merge")
        return
    for one in result["merges"]:
        merge_one(text, one)


def _gave_up(text: TextOutput, result: MergeAborted, what: str) -> None:
    done = result["aborted"]
    text.line(f"Gave the {what} up, ", text.count(len(done.changed_files), "path"))
    list_changes(text, done.changed_files)
    list_beside(text, done.sidecar_changed)
    if done.saved:
        text.line(f"Saved the unfinished {what} as ", text.id(done.saved))
    text.hint("Take it up again with `avfs undo`.")


def _say_saved(text: TextOutput, result: MergeResult | RewriteResult) -> None:
    if result.saved:
        text.line("Saved uncommitted changes as ", text.id(result.saved))


def merge_one(
    text: TextOutput, result: MergeResult, *, again: str | None = None, fetched_from: str | None = None
) -> None:
    """Say what one merge did; `again` is the command that does it once more, where `merge` with its source does not."""
    source, target = (result.source, "bold"), (result.target, "bold")
    planned = bool(text.request.get("dry_run"))
    paths = text.count(len(result.changed_files), "path")
    if result.outcome == "up_to_date":
        unseen = any(warning.code == "merge.uncommitted" for warning in result.warnings)
        verb = " has committed" if unseen else ""
        fetched = f", fetched just now from {fetched_from}" if fetched_from else ""
        text.line(target, " has all ", "that " if unseen else "of ", source, verb, " already", fetched)
        return
    if result.outcome == "conflicted":
        verb = "would conflict" if planned else "stopped in the files" if result.in_workspace else "conflicts"
        text.line("Merging ", source, " into ", target, f" {verb}, {text.count(len(result.conflicts), 'path')}")
        list_conflicts(text, result.conflicts)
        if result.in_workspace:
            go_on = "Resolve them by editing or with `avfs resolve PATH`, then run `avfs merge --continue`."
            text.hint(go_on, is_needed=True)
        elif not planned:
            command = again or shlex.join(["merge", result.source, *_options(text.request)])
            go_on = f"No file was changed. Resolve them here with `avfs {command} --on-conflict workspace`."
            text.hint(go_on, is_needed=True)
        _say_saved(text, result)
        return
    moves_on = result.outcome == "fast_forward"
    if planned:
        text.line(
            "Would move " if moves_on else "Would merge ",
            target if moves_on else source,
            *_end(text, result),
            f", {paths}",
        )
    elif moves_on:
        text.line("Moved ", target, *_end(text, result), f", {paths}")
    else:
        text.line("Merged ", source, " into ", target, " as ", (text.id(result.commit or ""), "yellow"), f", {paths}")
    list_changes(text, result.changed_files)
    if result.sidecar_changed:
        text.line(f"Beside it: {text.count(len(result.sidecar_changed), 'path')} ignored or not known to git")
    _say_saved(text, result)
    if not planned:
        text.hint("Take it back with `avfs undo`.")


def _options(request: Mapping[str, object]) -> list[str]:
    """Spell how a merge was asked for, for the command that repeats it."""
    strategy, mode, message = (request.get(name) for name in ("strategy", "mode", "message"))
    return [
        *(["--strategy", str(strategy)] if strategy not in (None, "normal") else []),
        *([f"--{str(mode).replace('_', '-')}"] if mode is not None else []),
        *(["-m", str(message)] if message is not None else []),
    ]


def _end(text: TextOutput, result: MergeResult) -> tuple[str | tuple[str, str], ...]:
    if result.outcome == "fast_forward":
        return " on to ", (result.source, "bold"), f" ({text.id(result.theirs)})"
    return " into ", (result.target, "bold")


def resolve(text: TextOutput, progress: MergeProgress) -> None:
    """Say what is left to decide."""
    if not progress.unresolved:
        text.line("Nothing is in conflict any more")
        verb = progress.operation.replace("_", "-")
        end = "Commit the merge" if verb == "merge" else "Go on"
        text.hint(f"{end} with `avfs {verb} --continue`.")
        return
    text.line(f"Still in conflict: {text.count(len(progress.unresolved), 'path')}")
    list_conflicts(text, progress.unresolved)


def _rewrite(text: TextOutput, result: RewriteResult | MergeAborted, verb: str, words: str) -> None:
    if not isinstance(result, RewriteResult):
        _gave_up(text, result, verb)
        return
    if result.outcome == "conflicted":
        stopped = text.id(result.stopped_at or "")
        text.line(
            "Stopped at ",
            (stopped, "yellow"),
            f", {text.count(len(result.conflicts), 'path')} in conflict",
            f"; put on by then: {text.count(len(result.commits), 'commit')}",
        )
        list_conflicts(text, result.conflicts)
        text.hint(
            f"Resolve them by editing or with `avfs resolve PATH`, then run `avfs {verb} --continue`; "
            "`--skip` leaves the commit out.",
            is_needed=True,
        )
        _say_saved(text, result)
        return
    if result.outcome == "unchanged":
        text.line((result.fork, "bold"), " is as it should be already")
    else:
        text.line(
            words,
            (result.fork, "bold"),
            f", {text.count(len(result.commits), 'commit')}, at ",
            (text.id(result.head), "yellow"),
        )
        list_changes(text, result.changed_files)
    _say_saved(text, result)
    if result.outcome != "unchanged":
        text.hint("Take it back with `avfs undo`.")


def rebase(text: TextOutput, result: RewriteResult | MergeAborted) -> None:
    """Say what was put on."""
    _rewrite(text, result, "rebase", "Rebased ")


def cherry_pick(text: TextOutput, result: RewriteResult | MergeAborted) -> None:
    """Say what was put on."""
    _rewrite(text, result, "cherry-pick", "Picked onto ")


def squash(text: TextOutput, result: RewriteResult) -> None:
    """Say what was made."""
    _rewrite(text, result, "squash", "Squashed in ")


def overlap(text: TextOutput, result: Overlap) -> None:
    """List paths that several forks changed, and forks that would conflict."""
    if not result.pairs:
        text.line(f"No two of {text.count(len(result.forks), 'fork')} changed the same files in their commits")
        return
    for shared in result.shared:
        text.line(quote_path(shared.path), "\t", ", ".join(shared.forks))
    for pair in result.pairs:
        if pair.conflicts:
            text.line((pair.first, "bold"), " and ", (pair.second, "bold"), " would conflict:")
            list_conflicts(text, pair.conflicts)

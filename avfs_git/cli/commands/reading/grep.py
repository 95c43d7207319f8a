"""`avfs grep`: find lines that match a pattern."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Unpack

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import LIMIT, TREE_PATH, verb
from avfs_git.errors import BadUsage

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from avfs_git.cli.results import Found
    from avfs_git.model import GrepHit, GrepResult
    from avfs_git.paths import TreePath
    from avfs_git.sdk import GrepOptions

FOUND_NOTHING = 1
"""The exit status where nothing was found, as grep's."""
_LINES = click.IntRange(min=0)


@verb("grep", looks=True, view="files", pages=True, example="avfs grep -n 'TODO|FIXME' src --include '*.py'")
@click.argument("pattern")
@click.argument("paths", nargs=-1, type=TREE_PATH, metavar="[PATH]...")
@click.option("-i", "--ignore-case", is_flag=True, help="Ignore case.")
@click.option("-n", "--line-number", is_flag=True, help="Show line numbers.")
@click.option("-l", "--files-with-matches", is_flag=True, help="Only names of files with a match.")
@click.option("-L", "--files-without-match", is_flag=True, help="Only names of files without a match.")
@click.option("-c", "--count", is_flag=True, help="Only how many lines of each file match.")
@click.option("-v", "--invert-match", is_flag=True, help="Lines that do not match.")
@click.option("-w", "--word-regexp", is_flag=True, help="Match whole words only.")
@click.option("-o", "--only-matching", is_flag=True, help="Only the parts of lines that match.")
@click.option("-A", "--after-context", "after", type=_LINES, metavar="N", help="Also N lines after each match.")
@click.option("-B", "--before-context", "before", type=_LINES, metavar="N", help="Also N lines before each match.")
@click.option("-C", "--context", "context", type=_LINES, metavar="N", help="Also N lines before and after each match.")
@click.option("-m", "--max-count", type=LIMIT, metavar="N", help="Stop in each file after N matching lines.")
@click.option("-F", "--fixed-strings", is_flag=True, help="The pattern is a text.")
@click.option(
    "-E", "--extended-regexp", is_flag=True, help="The pattern is an extended regular expression; the default."
)
@click.option("-P", "--perl-regexp", is_flag=True, help="The pattern is a Perl-compatible regular expression.")
@click.option("-r", "--recursive", is_flag=True, expose_value=False, hidden=True)  # the default
@click.option("--include", multiple=True, metavar="GLOB", help="Only files of this name, or path; repeatable.")
@click.option(
    "--exclude", multiple=True, metavar="GLOB", help="No files or directories of this name, or path; repeatable."
)
@click.option("--ignored", is_flag=True, help="Search ignored files, too.")
@click.option("--at", metavar="STATE", help="Search that state: a checkpoint's label or id, or a fork.")
@click.option("--all-forks", is_flag=True, help="Search the workspaces of all forks.")
@click.option("--stream", is_flag=True, help="With --json, one line a match, as it is found.")
def command(
    state: State,
    pattern: str,
    paths: tuple[TreePath, ...],
    line_number: bool,  # noqa: ARG001 - for the view
    files_with_matches: bool,
    files_without_match: bool,
    count: bool,
    invert_match: bool,
    word_regexp: bool,
    context: int | None,
    fixed_strings: bool,
    extended_regexp: bool,
    perl_regexp: bool,
    at: str | None,
    all_forks: bool,
    stream: bool,
    **given: Unpack[GrepOptions],
) -> Found | None:
    """Find lines that match a pattern

    In the files of the workspace as they are, committed or not. No mount or checkout is needed. Text comes as it is
    found. The status is 0 if something was found, and 1 if not.
    """
    if fixed_strings + extended_regexp + perl_regexp > 1:
        raise BadUsage("-F, -E and -P exclude each other")
    if files_with_matches + files_without_match + count > 1:
        raise BadUsage("-l, -L and -c exclude each other")
    if at is not None and all_forks:
        raise BadUsage("--at and --all-forks exclude each other")
    chosen = {"files": files_with_matches, "files_without": files_without_match, "count": count}
    before, after = given.get("before"), given.get("after")
    options: GrepOptions = {
        **given,
        "fixed": fixed_strings,
        "perl": perl_regexp,
        "words": word_regexp,
        "invert": invert_match,
        "outcome": next((name for name, is_chosen in chosen.items() if is_chosen), "lines"),
        "before": before if before is not None else context or 0,
        "after": after if after is not None else context or 0,
        "spans": state.output.structured or state.output.shows_color,
    }
    is_whole = state.output.structured and not stream
    if all_forks:
        with state.open_vault() as vault:
            if is_whole:
                return _give(state, vault.grep(pattern, paths, **options))
            _stream(state, vault.grep_stream(pattern, paths, **options))
    else:
        with state.open_workspace() as workspace:
            if is_whole:
                return _give(state, [workspace.grep(pattern, paths, at=at, **options)])
            _stream(state, workspace.grep_stream(pattern, paths, at=at, **options))
    return None


def _give(state: State, results: list[GrepResult]) -> Found:
    if not any(result.files for result in results):
        state.status = FOUND_NOTHING
    return {"results": results}


def _stream(state: State, hits: Generator[GrepHit]) -> None:
    """Write matches as they come; git ends when they cannot be written."""
    state.status = FOUND_NOTHING

    def note_first() -> Iterator[GrepHit]:
        for hit in hits:
            state.status = 0
            yield hit

    if not state.no_pager:
        state.output.page()
    with contextlib.closing(hits):
        state.output.stream(note_first())

"""`avfs search`: find files by their words."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

import click

from avfs_git.cli.commands.reading.grep import FOUND_NOTHING
from avfs_git.cli.context import State
from avfs_git.cli.verb import LIMIT, TREE_PATH, verb
from avfs_git.errors import BadUsage, PathNotFound

if TYPE_CHECKING:
    from avfs_git.cli.results import FilesWithWords
    from avfs_git.paths import TreePath


@verb("search", looks=True, view="files", pages=True, example="avfs search 'merge conflict' src")
@click.argument("words")
@click.argument("paths", nargs=-1, type=TREE_PATH, metavar="[PATH]...")
@click.option("-l", "--limit", type=LIMIT, default=20, show_default=True, metavar="N", help="Show at most N files.")
@click.option("--at", metavar="STATE", help="Search that state: a checkpoint's label or id, or a fork.")
@click.option("--history", is_flag=True, help="Find contents that are gone, and which commits removed them.")
@click.option("--all-forks", is_flag=True, help="Search the workspaces of all forks.")
def command(
    state: State, words: str, paths: tuple[TreePath, ...], limit: int, at: str | None, history: bool, all_forks: bool
) -> FilesWithWords:
    """Find files by their words, the best first

    A file must have all words, in any order and case. `tree` also finds `parseTree` and `parse_tree`; `pars*` finds
    every word that begins so. The status is 0 if something was found, and 1 if not.
    """
    if at is not None and all_forks:
        raise BadUsage("--at and --all-forks exclude each other")
    if history and all_forks:
        raise BadUsage("--history and --all-forks exclude each other")
    if history:
        with state.open_workspace() as workspace:
            past = workspace.search_history(words, paths, at=at, limit=limit)
        if not past.removed:
            state.status = FOUND_NOTHING
        return {"results": [], "history": past}
    found: FilesWithWords
    if all_forks:
        with state.open_vault() as vault:
            found = {"results": vault.search(words, paths, limit=limit), "history": None}
    else:
        with state.open_workspace() as workspace:
            try:
                found = {"results": [workspace.search(words, paths, at=at, limit=limit)], "history": None}
            except PathNotFound as error:
                several = shlex.join([" ".join([words, *map(os.fsdecode, paths)])])
                error.hint = f"Several words are one argument: `avfs search {several}`."
                raise
    if not any(result.hits for result in found["results"]):
        state.status = FOUND_NOTHING
    return found

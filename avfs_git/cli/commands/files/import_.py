"""`avfs import`: copy files of the machine into the workspace."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import HOST_PATH, LIMIT, TREE_PATH, verb
from avfs_git.errors import BadUsage, HostError

if TYPE_CHECKING:
    from avfs_git.model import TransferResult
    from avfs_git.paths import TreePath


@verb("import", view="files", example="avfs import -r ../data data")
@click.argument("source", type=HOST_PATH)
@click.argument("path", required=False, type=TREE_PATH)
@click.option("-r", "--recursive", is_flag=True, help="Also directories with everything below them.")
@click.option("--max-depth", type=LIMIT, metavar="N", help="Only so many levels deep.")
@click.option("--tar", is_flag=True, help="SOURCE is a tar archive, also a compressed one; `-` is standard input.")
def command(
    state: State, source: Path, path: TreePath | None, recursive: bool, max_depth: int | None, tar: bool
) -> TransferResult:
    """Copy files from this machine into the workspace

    A directory's content goes to PATH. Files that are there already are replaced; `avfs undo` brings them back.
    Symbolic links come as links. A warning names each link that leads out of SOURCE; nothing outside SOURCE is read.
    avfs leaves out what is no file, directory or link, and names it in a warning.
    """
    if tar and max_depth is not None:
        raise BadUsage("--tar and --max-depth exclude each other")
    if not tar and source.is_dir() and not recursive:
        raise BadUsage(f"'{source}' is a directory", hint="Import it with `--recursive`.")
    if path is None:
        path = state.tree_directory()
        state.output.amend(path=path)
    with state.open_workspace() as workspace, state.output.progress(f"importing {source}"):
        if not tar:
            return workspace.import_path(source, path, recursive=recursive, max_depth=max_depth)
        with _open_archive(source) as file:
            return replace(workspace.import_tar(file, path), source=str(source))


@contextmanager
def _open_archive(source: Path) -> Iterator[BinaryIO]:
    if str(source) == "-":
        if sys.stdin is None:
            raise BadUsage("standard input is closed")
        yield sys.stdin.buffer
        return
    try:
        file = source.open("rb")
    except OSError as err:
        raise HostError(f"open '{source}'", err) from err
    with file:
        yield file

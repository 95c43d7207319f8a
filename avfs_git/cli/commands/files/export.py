"""`avfs export`: copy files of the workspace to the machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from avfs_git.cli.context import State
from avfs_git.cli.output.base import OutputClosed
from avfs_git.cli.verb import HOST_PATH, LIMIT, TREE_PATH, verb
from avfs_git.errors import BadUsage, HostError

if TYPE_CHECKING:
    from avfs_git.model import TransferResult
    from avfs_git.paths import TreePath


@verb("export", view="files", example="avfs export -r src ../copy")
@click.argument("path", type=TREE_PATH)
@click.argument("destination", type=HOST_PATH)
@click.option("-r", "--recursive", is_flag=True, help="Also directories with everything below them.")
@click.option("--max-depth", type=LIMIT, metavar="N", help="Only so many levels deep.")
@click.option("--overwrite", is_flag=True, help="Replace what is there already.")
@click.option("--tar", is_flag=True, help="Write a tar archive; `-` is standard output.")
def command(
    state: State, path: TreePath, destination: Path, recursive: bool, max_depth: int | None, overwrite: bool, tar: bool
) -> TransferResult | None:
    """Copy files from the workspace to this machine

    A directory's content goes to DESTINATION, with modes, times and symbolic links. A warning names each link that
    leads out of what is exported: a program that follows it on this machine leaves DESTINATION. avfs replaces an
    existing file only with `--overwrite`.
    """
    if tar and max_depth is not None:
        raise BadUsage("--tar and --max-depth exclude each other")
    to_stdout = tar and str(destination) == "-"
    if to_stdout and state.output.structured:
        raise BadUsage("the archive and the document cannot both go to standard output", hint="Name a file.")
    with state.open_workspace() as workspace, state.output.working(f"exporting to {destination}"):
        if not tar:
            return workspace.export_path(
                path, destination, recursive=recursive, max_depth=max_depth, overwrite=overwrite
            )
        with _open_archive(destination, overwrite=overwrite) as file:
            moved = workspace.export_tar(path, file)
    return None if to_stdout else replace(moved, destination=str(destination))


@contextmanager
def _open_archive(destination: Path, *, overwrite: bool) -> Iterator[BinaryIO]:
    """Open where the archive goes; a file appears under its name only when it is whole."""
    if str(destination) == "-":
        if sys.stdout is None:
            raise BadUsage("standard output is closed")
        try:
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
        except BrokenPipeError as err:
            raise OutputClosed from err
        return
    if destination.exists() and not overwrite:
        raise HostError(f"write '{destination}'", FileExistsError(17, "it is there already"))
    partial = destination.with_name(f".{destination.name}.{os.getpid()}.part")
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(destination)
    except OSError as err:
        raise HostError(f"write '{destination}'", err) from err
    finally:
        partial.unlink(missing_ok=True)

"""`avfs cat`: write out files."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import LIMIT, TREE_PATH, verb
from avfs_git.errors import BadUsage, PathNotFound, PathUnsuitable

if TYPE_CHECKING:
    from avfs_git.cli.results import Content, Contents, UnreadFile
    from avfs_git.paths import TreePath

DOCUMENT_MAX = 8 << 20
"""Bytes of a file that one JSON document holds: spelled twice, and a byte may take six characters."""


@verb("cat", looks=True, view="files", example="avfs cat src/main.py --at v1")
@click.argument("paths", nargs=-1, required=True, type=TREE_PATH, metavar="PATH...")
@click.option("-v", "--version", type=LIMIT, metavar="N", help="An earlier version, as `avfs log PATH` numbers them.")
@click.option("--at", metavar="STATE", help="As it is in that state: a checkpoint's label or id, or a fork.")
def command(
    state: State, paths: tuple[TreePath, ...], version: int | None, at: str | None
) -> Content | Contents | None:
    """Print files

    Byte for byte, one after the other. With `--json`, the document has `content_b64`, and `content` if the file is
    UTF-8; for several files, a list of these in `files`; at most 8 MiB together. A missing path or a directory does not
    keep the other files from being printed: the exit status is that of its error, and `--json` lists it in `unread`.
    """
    if version is not None and at is not None:
        raise BadUsage("--version and --at exclude each other")
    files: list[Content] = []
    unread: list[UnreadFile] = []
    room = DOCUMENT_MAX
    with state.open_workspace() as workspace:
        for path in paths:
            try:
                with _pointing_to_ls(path, version, at):
                    chunks = workspace.open_read(path, version=version, at=at)
                    if not state.output.structured:
                        state.output.data(chunks)
                        continue
                    files.append(to_content(path, _read_at_most(room, path, chunks)))
                    room -= files[-1]["size"]
            except (PathNotFound, PathUnsuitable) as error:
                if len(paths) == 1:
                    raise
                state.status = state.status or error.exit_code
                unread.append({"path": path, "code": error.code, "message": error.message})
                if not state.output.structured:
                    state.output.failure(error)
    if not state.output.structured:
        return None
    if len(paths) == 1:
        return files[0]
    from avfs_git.cli.results import Contents  # noqa: PLC0415 - only for a document

    return Contents(files, unread)


def _read_at_most(room: int, path: TreePath, chunks: Iterator[bytes]) -> bytes:
    """Read a file that is to fit into a document with `room` bytes left.

    Raises:
        PathUnsuitable: If it does not.
    """
    pieces: list[bytes] = []
    for piece in chunks:
        pieces.append(piece)
        if sum(map(len, pieces)) > room:
            than = f"{DOCUMENT_MAX:,} bytes" + (" with the files before it" if room < DOCUMENT_MAX else "")
            raise PathUnsuitable(b"/" + path, f"has more than {than}; `avfs cat` without `--json` writes it out")
    return b"".join(pieces)


@contextmanager
def _pointing_to_ls(path: TreePath, version: int | None, at: str | None) -> Iterator[None]:
    try:
        yield
    except PathUnsuitable as error:
        if error.details["reason"] == "is a directory" and version is None:
            words = "ls" if at is None else f"find --at {shlex.quote(at)}"
            error.hint = f"List it with `avfs {words} {shlex.quote(os.fsdecode(b'/' + path))}`."
        raise


def to_content(path: bytes, data: bytes) -> Content:
    """Spell the content of a file: exactly, and as text where it is UTF-8."""
    from avfs_git.records import is_utf8, to_base64  # noqa: PLC0415 - only for a document

    record: Content = {"path": path, "size": len(data), "content_b64": to_base64(data)}
    if is_utf8(data):
        record["content"] = data.decode("utf-8")
    return record

"""`avfs cat`: write out a file."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.verb import LIMIT, TREE_PATH, verb
from avfs_git.errors import BadUsage, PathUnsuitable

if TYPE_CHECKING:
    from avfs_git.cli.results import Content
    from avfs_git.paths import TreePath

DOCUMENT_MAX = 8 << 20
"""Bytes of a file that one JSON document holds: spelled twice, and a byte may take six characters."""


@verb("cat", looks=True, view="files", example="avfs cat src/main.py --at v1")
@click.argument("path", type=TREE_PATH)
@click.option("-v", "--version", type=LIMIT, metavar="N", help="An earlier version, as `avfs log PATH` numbers them.")
@click.option("--at", metavar="STATE", help="As it is in that state: a checkpoint's label or id, or a fork.")
def command(state: State, path: TreePath, version: int | None, at: str | None) -> Content | None:
    """Print a file

    Byte for byte. With `--json`, the document has `content_b64`, and `content` if the file is UTF-8; at most 8 MiB.
    """
    if version is not None and at is not None:
        raise BadUsage("--version and --at exclude each other")
    with state.open_workspace() as workspace, _pointing_to_ls(path):
        chunks = workspace.open_read(path, version=version, at=at)
        if not state.output.structured:
            state.output.data(chunks)
            return None
        pieces: list[bytes] = []
        for piece in chunks:
            pieces.append(piece)
            if sum(map(len, pieces)) > DOCUMENT_MAX:
                raise PathUnsuitable(
                    b"/" + path, f"has more than {DOCUMENT_MAX:,} bytes; `avfs cat` without `--json` writes it out"
                )
        return to_content(path, b"".join(pieces))


@contextmanager
def _pointing_to_ls(path: TreePath) -> Iterator[None]:
    try:
        yield
    except PathUnsuitable as error:
        if error.details["reason"] == "is a directory":
            error.hint = f"List it with `avfs ls {shlex.quote(os.fsdecode(b'/' + path))}`."
        raise


def to_content(path: bytes, data: bytes) -> Content:
    """Spell the content of a file: exactly, and as text where it is UTF-8."""
    from avfs_git.records import is_utf8, to_base64  # noqa: PLC0415 - only for a document

    record: Content = {"path": path, "size": len(data), "content_b64": to_base64(data)}
    if is_utf8(data):
        record["content"] = data.decode("utf-8")
    return record

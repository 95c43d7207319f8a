"""`avfs write`: write a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from avfs_git.cli.verb import TREE_PATH, verb
from avfs_git.errors import BadUsage, HostError

if TYPE_CHECKING:
    from avfs_git.cli.results import Written
    from avfs_git.paths import TreePath
    from avfs_git.sdk import Workspace

_CHUNK = 1 << 20


@verb("write", view="files", unrecorded=("content",), example="avfs write notes.txt 'Ask about dates'")
@click.argument("path", type=TREE_PATH)
@click.argument("content", required=False)
@click.option("-a", "--append", is_flag=True, help="Add to what is there.")
@click.option(
    "--expect",
    metavar="OID",
    help="Write only if the file's content has this id, as `avfs stat --oid` shows it; '' if there must be no "
    "file yet.",
)
def command(workspace: Workspace, path: TreePath, content: str | None, append: bool, expect: str | None) -> Written:
    """Write a file

    From CONTENT, or from standard input, byte for byte: avfs adds no line feed. It makes missing directories above
    PATH. With `--expect`, the command fails and writes nothing if another process has changed the file.
    """
    if content is None or content == "-":
        file = workspace.write_from(path, _standard_input(), append=append, expect=expect)
    else:
        file = workspace.write(path, os.fsencode(content), append=append, expect=expect)
    return {"file": file, "appended": append}


def _standard_input() -> Iterator[bytes]:
    if sys.stdin is None:
        raise BadUsage("there is no CONTENT, and standard input is closed")
    try:
        while chunk := sys.stdin.buffer.read(_CHUNK):
            yield chunk
    except OSError as err:
        raise HostError("read standard input", err) from err

"""Which commit each line of a file came from, as `git blame` finds it.

Decided here: how git is asked, and how its answer is read. No attribute or setting of the repository changes the
content that is compared. Usable from threads; writes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from avfs_git.errors import GitFailed
from avfs_git.gitstore import gitcommand
from avfs_git.gitstore.formats.quoting import unquote
from avfs_git.paths import Oid, TreePath, oid_of
from avfs_git.patterns import compiled
from avfs_git.values import NamedTuple

_HEADER = compiled(rb"([0-9a-f]{40}) (\d+) (\d+)(?: \d+)?")


class Blamed(NamedTuple):
    """A line with its commit."""

    commit: Oid
    path: TreePath
    """What the file was called in that commit."""
    old_number: int
    """The number of the line there; the first is 1."""
    text: bytes


def blame_file(git_dir: Path, commit: Oid, path: TreePath) -> list[Blamed]:
    """Find the commit of each line of a file in a state. The caller knows that the file is there."""
    operands = [commit.hex(), "--", os.fsdecode(path)]
    return list(_parse(gitcommand.output_of(git_dir, "blame", ["--porcelain", "--no-textconv"], operands)))


def _parse(output: bytes) -> Iterator[Blamed]:
    names: dict[bytes, bytes] = {}
    header: tuple[bytes, int] | None = None
    for line in output.split(b"\n")[:-1]:
        if header is None:
            match = _HEADER.fullmatch(line)
            if match is None:
                raise GitFailed("blame", "its answer is not understood")
            header = match[1], int(match[2])
        elif line.startswith(b"\t"):
            yield Blamed(oid_of(header[0].decode()), TreePath(names[header[0]]), header[1], line[1:])
            header = None
        elif line.startswith(b"filename "):
            names[header[0]] = unquote(line[len(b"filename ") :])

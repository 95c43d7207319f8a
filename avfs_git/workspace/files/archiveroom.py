"""Whether a tar archive fits into a quota, before anything of it is unpacked.

Decided here: a fork with a quota reads the headers of the archive first. An archive that cannot be read twice, as from a pipe, is
copied to a file without a name in the workspace's directory of temporary files. Called by `transfer` with the workspace locked; a
kill leaves nothing.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from contextlib import ExitStack
from tempfile import TemporaryFile
from typing import BinaryIO, cast

from avfs_git.errors import InvalidPath, PathEscapes
from avfs_git.paths import TreePath, climb, parse_tree_path
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.workspace.files.incoming import join_below


def ask_for_archive(merged: MergedTree, file: BinaryIO, path: TreePath, stack: ExitStack) -> BinaryIO:
    """Ask the quota for all that an archive brings, less what it replaces; give the file to unpack, which `stack` closes.

    Raises:
        QuotaExceeded: If it does not fit.
        tarfile.TarError: If it is no archive.
    """
    quota = merged.upper.quota
    if quota.limits is None:
        return file
    if not file.seekable():
        copy = stack.enter_context(TemporaryFile(dir=merged.upper.work_dir))  # noqa: SIM115 - the stack closes it
        shutil.copyfileobj(file, copy, 1 << 20)
        copy.seek(0)
        file = cast("BinaryIO", copy)
    start = file.tell()
    sizes: dict[TreePath, int] = {}
    with tarfile.open(fileobj=file, mode="r|*") as archive:
        for member in archive:
            try:
                inside = parse_tree_path(os.fsencode(member.name))
            except (PathEscapes, InvalidPath):  # it is left out
                continue
            there = join_below(path, inside)
            if there and (member.isfile() or member.isdir() or member.issym()):
                sizes[there] = member.size if member.isfile() else 0
                for above in climb(there):
                    sizes.setdefault(above, 0)
    file.seek(start)
    quota.check_incoming(sizes.items())
    return file

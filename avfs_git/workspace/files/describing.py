"""What is said of a file or directory: its kind, size and time, and the tree below it.

Decided here: which facts cost a look at the file's content, and that a damaged or vanished entry hides no other.
`workspace.files.files` calls this in a view of the workspace, and translates the filesystem's own errors. Nothing
changes.
"""

from __future__ import annotations

import errno
import stat
from contextlib import suppress

from avfs_git.errors import ObjectCorrupt, ObjectMissing
from avfs_git.model import FileInfo, Kind, TreeNode
from avfs_git.paths import Oid, TreePath, join
from avfs_git.vfs.layer.lower import LowerEntry
from avfs_git.vfs.tree.merged import Attr, MergedTree, Node

_FILE = Kind.FILE
_BAD = (ObjectMissing, ObjectCorrupt)
"""Errors of one file or directory, which hide no other entry of a list."""
_KINDS = {stat.S_IFREG: _FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.SYMLINK}
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ESTALE})


def describe(merged: MergedTree, path: TreePath, node: Node, attr: Attr, *, sizes: bool = True) -> FileInfo:
    """Describe a node; without `sizes`, nothing is fetched."""
    entry = None if node.upper else node.lower
    return describe_listed(
        merged, path, attr, entry.oid if entry is not None and not node.is_dir else None, sizes=sizes
    )


def describe_listed(
    merged: MergedTree, path: TreePath, attr: Attr, oid: Oid | None, problem: str | None = None, *, sizes: bool = True
) -> FileInfo:
    """Describe an entry of a list, whose content has the id `oid` if it is unchanged.

    `problem` says what is damaged.
    """
    mode = attr.mode
    kind = _KINDS.get(stat.S_IFMT(mode), Kind.OTHER)
    if kind is _FILE:  # most of what is listed: spelled out, because lists are long
        name = oid.hex() if oid is not None else None
        return FileInfo(path, kind, mode, attr.size, attr.mtime_ns, name, None, attr.nlink, problem)
    is_dir = kind is Kind.DIRECTORY
    target = None
    if kind is Kind.SYMLINK and problem is None and (sizes or oid is None or merged.lower.source.exists(oid)):
        try:
            target = merged.attributes.readlink(merged.resolve(path, follow_last=False))
        except _BAD as error:
            problem = error.message
    return FileInfo(
        path=path,
        kind=kind,
        mode=mode,
        size=0 if is_dir else attr.size,
        mtime_ns=attr.mtime_ns,
        oid=oid.hex() if oid is not None and not is_dir else None,
        target=target,
        nlink=attr.nlink,
        problem=problem,
    )


def _describe_bad(path: TreePath, entry: LowerEntry, problem: str) -> FileInfo:
    kind = _KINDS.get(stat.S_IFMT(entry.mode), Kind.OTHER)
    oid = None if entry.is_dir or entry.oid is None else entry.oid.hex()
    return FileInfo(path, kind, entry.mode, 0, entry.mtime_ns, oid, problem=problem)


def describe_tree(merged: MergedTree, path: TreePath, node: Node, depth: int | None, *, sizes: bool) -> TreeNode:
    """Describe a node and what is below it, `depth` levels of it."""
    # An explicit stack: trees may be deeper than Python's own. Each directory comes by twice: before what is in it, and
    # after, when what was made of that stands in `made` behind whatever was made before.
    pending: list[tuple[TreePath, Node, int]] = [(path, node, 0)]
    entered: list[tuple[FileInfo, int]] = []
    made: list[TreeNode] = []
    bound = merged.nodes.bound_below(node)
    while pending:
        here, there, level = pending.pop()
        if level < 0:
            info, first = entered.pop()
            made[first:] = [TreeNode(info, tuple(made[first:]))]
            continue
        names: list[bytes] = []
        try:
            info = describe(merged, here, there, merged.attributes.getattr(there, sizes=sizes), sizes=sizes)
            if there.is_dir and level != depth:
                names = sorted((name for name, _ in merged.nodes.readdir(there)), reverse=True)
        except _BAD as error:
            if level == 0 or there.lower is None:
                raise
            info = _describe_bad(here, there.lower, error.message)
        except OSError as error:
            if level == 0 or error.errno not in _GONE:
                raise
            continue
        if not names:
            made.append(TreeNode(info))
            continue
        entered.append((info, len(made)))
        pending.append((here, there, -1))
        bound.meet(len(names))
        for name in names:
            with suppress(FileNotFoundError, NotADirectoryError):  # a program has removed it by now
                pending.append((join(here, name), merged.nodes.lookup(there, name), level + 1))
    return made[0]

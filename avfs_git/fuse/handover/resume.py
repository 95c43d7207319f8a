"""What a dead server had begun and may have done, judged by what is on disk.

Decided here: whether an operation that must not be done twice was done by a server that died in it, and what the
program that asked for it is told. `fuse.server` asks before it serves anything else, with the request as it was left in
the `Handover`. Each of these operations becomes visible in one step on disk, and when it begins all checks have passed,
so that the names tell: an entry to be made is there, an entry to be removed is not. What the dead server had noted
about the nodes concerned is brought up to date, because it died before it could.

Nothing is remembered here; a server that dies in here is followed by one that comes to the same answer.
"""

from __future__ import annotations

import stat
from collections.abc import Callable

from avfs_git.fuse import protocol as p
from avfs_git.fuse.channel import Request
from avfs_git.fuse.handover.handover import BEGUN, DONE, Handover, Mark
from avfs_git.host.files.beneath import RENAME_EXCHANGE
from avfs_git.vfs.tree.merged import MergedTree, Node

ONCE = frozenset(
    {
        p.MKNOD,
        p.MKDIR,
        p.SYMLINK,
        p.LINK,
        p.UNLINK,
        p.RMDIR,
        p.RENAME,
        p.RENAME2,
        p.TMPFILE,
        p.SETXATTR,
        p.REMOVEXATTR,
    }
)
"""Operations that fail or do harm when they are done again. A WRITE names its place, and is none of them."""

Told = Callable[[Node], bytes]
Owner = tuple[int, int] | None


def find_answer(tree: MergedTree, handover: Handover, request: Request, told: Told, owner: Owner) -> bytes | None:
    """Judge a request that a dead server had received.

    Called with the tree's lock held.

    `told` describes a node to the kernel.

    Returns:
        The answer, if the operation was done; None if it is to be served like any other.
    """
    mark = handover.mark_of(request.unique)
    if mark.state == DONE:
        return mark.answer
    if mark.state != BEGUN:
        return None
    operation = request.operation
    if operation in (p.RENAME, p.RENAME2):
        return _find_rename_answer(tree, request, mark)
    if operation == p.SETXATTR:
        # It may be there: set again, without asking whether it is.
        size, _ = p.SETXATTR_IN.unpack_from(request.buffer, p.BODY)
        p.SETXATTR_IN.pack_into(request.buffer, p.BODY, size, 0)
        return None
    node = tree.pins.node_at(request.ino)
    if operation == p.REMOVEXATTR:
        return None if request.name_at(p.BODY) in tree.attributes.read_xattrs(node) else b""
    if operation in (p.UNLINK, p.RMDIR):
        name = request.name_at(p.BODY)
        if tree.nodes.shows(node, name):
            return None
        tree.pins.note_removed(node, name, mark.ino)
        return b""
    return _find_made_answer(tree, request, node, told, owner)


def _find_made_answer(tree: MergedTree, request: Request, parent: Node, told: Told, owner: Owner) -> bytes | None:
    mode: int | None = None
    if request.operation == p.MKNOD:
        mode, _, _, _ = p.MKNOD_IN.unpack_from(request.buffer, p.BODY)
        name = request.name_at(p.BODY + p.MKNOD_IN.size)
    elif request.operation == p.MKDIR:
        mode, _ = p.MKDIR_IN.unpack_from(request.buffer, p.BODY)
        name = request.name_at(p.BODY + p.MKDIR_IN.size)
    elif request.operation == p.SYMLINK:
        name, _ = request.names_at(p.BODY)
    else:
        name = request.name_at(p.BODY + p.LINK_IN.size)
        tree.pins.node_at(p.LINK_IN.unpack_from(request.buffer, p.BODY)[0])  # so that the name is found to lead there
    if not tree.nodes.shows(parent, name):
        return None
    if request.operation != p.LINK:
        # What is made under its own name gets its owner and mode after that.
        tree.making.complete(parent, name, None if mode is None else stat.S_IMODE(mode), owner=owner)
    return told(tree.nodes.lookup(parent, name))


def _find_rename_answer(tree: MergedTree, request: Request, mark: Mark) -> bytes | None:
    name, new_ino, new_name, flags = request.renamed()
    parent, new_parent = tree.pins.node_at(request.ino), tree.pins.node_at(new_ino)
    exchanged = bool(flags & RENAME_EXCHANGE)
    done = (
        tree.nodes.stat_upper(parent, name).st_ino != mark.on_disk if exchanged else not tree.nodes.shows(parent, name)
    )
    if not done:
        return None
    note = tree.pins.note_exchanged if exchanged else tree.pins.note_renamed
    note(parent, name, mark.ino, new_parent, new_name, mark.over)
    return b""


def forget_again(tree: MergedTree, handover: Handover, request: Request) -> int:
    """Complete the entry of a FORGET in which a server died; gives the index of the next one.

    Called with the tree's lock held.
    """
    last = handover.forgotten(request.unique)
    if last is None:
        return 0
    index, ino, pins = last
    if handover.read(ino) is not None:
        try:
            node = tree.pins.node_at(ino)
        except OSError:
            handover.drop(ino)
        else:
            tree.pins.unpin(node, max(0, node.pins - pins))
    return index + 1

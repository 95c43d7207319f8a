"""What one server leaves to the next is there as a whole, wherever it was killed."""

from __future__ import annotations

import os
import stat
from itertools import count

import pytest

from avfs_git import faults
from avfs_git.fuse import protocol as p
from avfs_git.fuse.channel import Request
from avfs_git.fuse.handover.handover import Handover
from avfs_git.vfs.tree.inodes import ROOT_INO, Node, Noted, Place
from tests.support.failing import DieAt


def named(ino: int, parent: Node | None, name: bytes, kind: int = stat.S_IFREG) -> Node:
    """Make a node that somebody knows."""
    node = Node(kind, parent, name, None, upper=True)
    node.ino, node.pins = ino, 1
    return node


@pytest.mark.parametrize(
    "names", [(b"a", b"b"), (b"a" * 200, b"b"), (b"a" * 200, b"b" * 255)], ids=["short", "one long", "long"]
)
def test_two_nodes_change_places_as_one(names: tuple[bytes, bytes]) -> None:
    """Whoever is killed while it notes an exchange: the next one finds both where they were, or both where they are."""
    root = named(ROOT_INO, None, b"", stat.S_IFDIR)
    directory = named(5, root, b"d", stat.S_IFDIR)
    before = {6: (ROOT_INO, names[0]), 7: (5, names[1])}
    after = {6: (5, names[1]), 7: (ROOT_INO, names[0])}
    outcomes = []
    for n in count(1):
        handover = Handover.make()
        one, other = named(6, root, names[0]), named(7, directory, names[1])
        for node in (directory, one, other):
            handover.keep(node)
        pid = os.fork()
        if not pid:
            faults.arm(DieAt(n))
            one.parent, one.name, other.parent, other.name = directory, names[1], root, names[0]
            handover.keep_both(one, other)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        below, _ = handover.load()
        found = {ino: noted[:2] for ino in (6, 7) if (noted := handover.read(ino)) is not None}
        assert found in (before, after)
        assert sorted(ino for inos in below.values() for ino in inos) == [5, 6, 7]
        outcomes.append(found)
        if not status:
            break

    assert outcomes[-1] == after
    assert len(outcomes) == 3
    handover.keep(named(8, root, b"c" * 255))  # takes no memory that is in use
    assert {ino: handover.read(ino) for ino in (6, 7)} == {
        ino: Noted(parent, name, 1, stat.S_IFREG, Place.NAMED) for ino, (parent, name) in after.items()
    }


def request(operation: int, unique: int, body: bytes) -> Request:
    """Make a request as the kernel sends it."""
    size = p.BODY + len(body)
    made = Request(memoryview(bytearray(p.IN_HEADER.pack(size, operation, unique, 1, 0, 0, 7, 0, 0) + body)))
    made.read_header()
    return made


def test_requests_with_long_names_are_kept_as_well() -> None:
    """Two names of 255 bytes, and contents of 1 MiB, have room beside many short ones.

    What is answered makes room again.
    """
    handover = Handover.make()
    names = b"o" * 255 + b"\0" + b"n" * 255 + b"\0"
    long = [request(p.RENAME2, 1000 + number, p.RENAME2_IN.pack(1, 0) + names) for number in range(32)]
    short = [request(p.LOOKUP, 1 + number, b"f%d\0" % number) for number in range(64)]
    wide = [
        request(p.WRITE, 2000 + number, p.WRITE_IN.pack(0, 0, 1 << 20, *[0] * 4) + bytes([number]) * (1 << 20))
        for number in range(4)
    ]
    slots = {one.unique: handover.park(one) for one in (*wide, *long, *short)}
    found = {parked.unique: (slot, bytes(parked.view[: parked.end])) for slot, parked in handover.parked()}
    is_full = handover.park(request(p.LOOKUP, 5000, b"f\0"))
    too_long = handover.park(request(p.SETXATTR, 5001, bytes(2 << 20)))
    for unique in (1, 1000, 2000):
        slot = slots[unique]
        assert slot is not None
        handover.unpark(slot)

    assert (is_full, too_long) == (None, None)
    assert len(set(slots.values())) == 100
    assert found == {one.unique: (slots[one.unique], bytes(one.view)) for one in (*wide, *long, *short)}
    assert len(handover.parked()) == 97
    again = [wide[0], long[0], short[0]]
    assert [handover.park(one) for one in again] == [slots[one.unique] for one in again]

"""Kill a process between two machine instructions while it writes to a `Handover`, and read what it leaves.

The writer derives every field of a record from one number that goes up by one with each record, and acknowledges a
number in memory of its own after the record is written. Whenever it is killed, each record must be whole (all of its
fields from one number), and its number must be the acknowledged one or the next. `python -m tests.support.torn_handover
ROUNDS [SEED [KIND...]]` does it often enough to hit a gap of a few nanoseconds; a process of its own, which keeps the
memory of each round until it ends.
"""

from __future__ import annotations

import mmap
import os
import random
import signal
import stat
import sys
import time
from collections.abc import Callable
from typing import NamedTuple

from avfs_git.fuse import protocol as p
from avfs_git.fuse.channel import Request
from avfs_git.fuse.handover.handover import BEGUN, DONE, Handover
from avfs_git.vfs.tree.inodes import ROOT_INO, Node, Place

_LONGEST_WRITE_S = 0.0004
"""Kills fall into the first part of the writer's life: the later ones find no more."""


class Writer(NamedTuple):
    """One kind of record: how number N of it is written, and which numbers what is there stands for."""

    write: Callable[[Handover, int], None]
    read: Callable[[Handover, int], int]
    """The number of the record that is there, 0 if there is none, given the number that was acknowledged.

    AssertionError if it is of two.
    """


def _node(ino: int, pins: int, name: bytes) -> Node:
    root = Node(stat.S_IFDIR, None, b"", None, upper=True)
    root.ino = ROOT_INO
    node = Node(stat.S_IFREG, root, name, None, upper=True)
    node.ino, node.pins = ino, pins
    return node


def _name(number: int) -> bytes:
    """A name that is long every third time, so that blocks are taken and given back."""
    return b"%d-" % number * (30 if number % 3 == 0 else 2)


def _read_node(handover: Handover, ino: int) -> int:
    noted = handover.read(ino)
    if noted is None:
        return 0
    assert noted.text == _name(noted.pins)
    assert (noted.parent, noted.kind, noted.place) == (ROOT_INO, stat.S_IFREG, Place.NAMED)
    return noted.pins


def _keep(handover: Handover, number: int) -> None:
    handover.keep(_node(7, number, _name(number)))


def _keep_both(handover: Handover, number: int) -> None:
    handover.keep_both(_node(7, number, _name(number)), _node(8, number, _name(number)))


def _read_both(handover: Handover, _acknowledged: int) -> int:
    one, other = _read_node(handover, 7), _read_node(handover, 8)
    assert one == other
    return one


_SEVENTHS = 0x01010101
"""Times a number below 256: all four bytes differ from those of its neighbours."""


def _count(handover: Handover, number: int) -> None:
    if number == 1:
        handover.keep(_node(7, 1, b"a"))
    handover.count(_node(7, number % 256 * _SEVENTHS, b"a"))


def _read_count(handover: Handover, _acknowledged: int) -> int:
    noted = handover.read(7)
    if noted is None:
        return 0
    assert noted.pins == 1 or noted.pins % _SEVENTHS == 0
    return noted.pins % 256


def _operate(handover: Handover, number: int) -> None:
    """An operation begins with odd numbers, and ends with even ones."""
    unique = 1 + (number - 1) // 2
    if number % 2:
        handover.arm(unique)
        handover.begin(unique, unique + 1, unique + 2)
    else:
        handover.finish(b"%d" % unique * 40)


def _read_operation(handover: Handover, acknowledged: int) -> int:
    for unique in ((acknowledged + 1) // 2, 1 + acknowledged // 2):  # of the acknowledged record, and of the next one
        mark = handover.mark_of(unique)
        if mark.state == BEGUN:
            assert (mark.ino, mark.over, mark.on_disk) == (unique, unique + 1, unique + 2)
            return 2 * unique - 1
        if mark.state == DONE:
            assert mark.answer == b"%d" % unique * 40
            return 2 * unique
    return 0


def _forget(handover: Handover, number: int) -> None:
    handover.forgetting(99, number, 7 * number, 3 * number)


def _read_forgotten(handover: Handover, _acknowledged: int) -> int:
    found = handover.forgotten(99)
    if found is None:
        return 0
    assert found == (found[0], 7 * found[0], 3 * found[0])
    return found[0]


def _park(handover: Handover, number: int) -> None:
    name = b"%d-" % number * 10
    request = Request(
        memoryview(bytearray(p.IN_HEADER.pack(p.BODY + len(name), p.LOOKUP, number, 1, 0, 0, 7, 0, 0) + name))
    )
    request.read_header()
    for slot, _ in handover.parked():
        handover.unpark(slot)
    handover.park(request)


def _read_parked(handover: Handover, _acknowledged: int) -> int:
    found = handover.parked()
    assert len(found) <= 1
    for _, request in found:
        assert bytes(request.view[p.BODY : request.end]) == b"%d-" % request.unique * 10
        return request.unique
    return 0


WRITERS = {
    "node": Writer(_keep, lambda handover, _: _read_node(handover, 7)),
    "two nodes": Writer(_keep_both, _read_both),
    "pins": Writer(_count, _read_count),
    "operation": Writer(_operate, _read_operation),
    "forget": Writer(_forget, _read_forgotten),
    "helper": Writer(_park, _read_parked),
}


def _allowed(kind: str, acknowledged: int) -> set[int]:
    """The numbers that may be found: of the last acknowledged record or of the one that was being written."""
    allowed = {acknowledged, acknowledged + 1}
    if kind == "pins":
        return {number % 256 for number in allowed}
    if kind == "helper" or (kind == "operation" and acknowledged % 2 == 0):
        allowed.add(0)  # the record before is over, and taken back before the next one is written
    return allowed


def kill_once(kind: str, delay_s: float) -> tuple[int, int]:
    """Kill a writer after a time; gives the number that it acknowledged, and the one that is found."""
    handover = Handover.make()
    acknowledged = mmap.mmap(-1, 8)
    numbers = memoryview(acknowledged).cast("Q")
    pid = os.fork()
    if not pid:
        number = 0
        while True:
            number += 1
            WRITERS[kind].write(handover, number)
            numbers[0] = number
    while not numbers[0]:
        pass
    until = time.perf_counter() + delay_s
    while time.perf_counter() < until:
        pass
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    handover.load()
    return numbers[0], WRITERS[kind].read(handover, numbers[0])


def check(kind: str, rounds: int, seed: int) -> None:
    """Kill writers of one kind at random moments; AssertionError names the round that found a torn record."""
    moments = random.Random(seed)
    for number in range(rounds):
        acknowledged, found = kill_once(kind, moments.uniform(0, _LONGEST_WRITE_S))
        assert found in _allowed(kind, acknowledged), (
            f"{kind}, seed {seed}, round {number}: {found} is there after {acknowledged} was acknowledged"
        )


if __name__ == "__main__":
    SEED = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
    KINDS = sys.argv[3:] or list(WRITERS)
    for one in KINDS:
        check(one, int(sys.argv[1]) // len(KINDS), SEED)
        print(f"{one}: whole after every kill (seed {SEED})", flush=True)

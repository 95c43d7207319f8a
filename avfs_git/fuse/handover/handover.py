"""What one server leaves to the next, in memory that neither of them owns.

Decided here: what of a server's knowledge outlives it, and how that is laid out. The supervisor makes a `Handover`
before the first server; every server is a fork of the supervisor and has it mapped. Three things are in it:

    nodes       where each node stands that the kernel knows, and how often it was told, in a slot of 64 bytes that its
                number finds. The next server makes nodes from them when the kernel asks (`vfs.tree.pins` says how).
    a request   the kernel's requests are received into this memory. So the one that was being served when the server
                died is there, and is served by the next one; those that were not received wait in the kernel anyway.
                This asks nothing of the kernel. `FUSE_NOTIFY_RESEND` (Linux 6.9) is not used: it sends again what
                helpers have under way, too, and under other numbers. What was passed to helpers has slots of its own.
    an operation of which the request must not be done twice (MKNOD, RENAME, UNLINK, …): that it begins is noted when
                all checks have passed, right before the first change on disk, and that it is done with its answer.
                Begun and not done is judged by looking at the disk (`fuse.handover.resume`).

A record is complete before the reply that tells the kernel leaves. SIGKILL can come between any two machine
instructions, and neither `struct` nor a copy of many bytes is one of them. What is one: a store of an aligned word
through a cast memoryview, and of a single byte. So each record is written while a word says that it is not valid, and
one store makes it valid. Slots of nodes are written to a journal of two slots first; the byte that counts them makes it
valid, and the next server copies a valid journal once more (`load`). One process writes at a time, under the tree's
lock; only the slots of helpers and the supervisor's two words are written by others. Memory that no node needs is given
back to the system. Nothing survives the machine, which ends the mount, too.
"""

from __future__ import annotations

import errno
import itertools
import mmap
import os
import threading
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import suppress
from struct import Struct
from typing import Final, Self

from avfs_git import faults
from avfs_git.fuse.channel import BUFFER_SIZE, Request
from avfs_git.fuse.protocol import OPERATION_AT
from avfs_git.host.files.ranges import KEEP_SIZE, PUNCH_HOLE, fallocate
from avfs_git.values import NamedTuple
from avfs_git.vfs.tree.inodes import ROOT_INO, Node, Noted, Place

_PAGE: Final = 4096

# --- the first page ---
_GENERATION_AT: Final = 16
_ENDING: Final = 24
_SERVING: Final = 25
_NEXT_AT: Final = 32
_FORGETTING: Final = Struct("=QQII")
"""Number of the request, node, pins that it has afterwards, which entry of the request."""
_FORGETTING_AT: Final = 1536
"""Of two records; `_FORGETTING_NOW` says which one is valid."""
_FORGETTING_NOW: Final = 26
_TRIED_AT: Final = 96
"""Three words: number of the request, how often it was tried, and when for the first time."""
TRIES: Final = 8
"""How many servers may die over one request before the program that asks gets EIO."""
_TRIED_FOR_NS: Final = 5_000_000_000
"""And for how long: on a busy machine servers may be killed faster than they come to serve."""
_MARK: Final = Struct("=QQQQII")
"""Number of the request, what it needs to be judged by (see `begin`), state, length of the answer."""
_MARK_AT: Final = 128
_STATE_AT: Final = _MARK_AT + 32
"""State and length are one word, so that both change in one store."""
_TELLING: Final = 4
"""Size of the number of a thread that tells the kernel something, and may wait for a request's answer; 0 is none."""
_TELLING_AT: Final = 192
_TELLING_MAX: Final = 8
_TELLERS: Final = range(_TELLING_AT, _TELLING_AT + _TELLING_MAX * _TELLING, _TELLING)
_ANSWER_AT: Final = 256
_JOURNALED: Final = 1280
"""How many slots of the journal are to be put where they belong."""
_JOURNAL_AT: Final = 1344

# --- requests with helpers ---
_PARKED_AT: Final = _PAGE
_PARKED_SIZE: Final = 640
"""Two names of 255 bytes, and what belongs to them."""
_PARKED: Final = 96
_WIDE_PARKED_AT: Final = 1 << 20 << 1
"""For what carries a content: a WRITE to a file that is copied up first."""
_WIDE_PARKED_SIZE: Final = -(-BUFFER_SIZE // _PAGE) * _PAGE
_WIDE_PARKED: Final = 4
_PARKED_SLOTS: Final = (
    *((_PARKED_AT + number * _PARKED_SIZE, _PARKED_SIZE) for number in range(_PARKED)),
    *((_WIDE_PARKED_AT + number * _WIDE_PARKED_SIZE, _WIDE_PARKED_SIZE) for number in range(_WIDE_PARKED)),
)

# --- the request that is being served ---
_REQUEST_AT: Final = 16 * _PAGE
_OPERATION_AT: Final = OPERATION_AT
"""Where a request says what it is; 0 when it is answered."""

# --- long names ---
_BLOCKS_AT: Final = 8 << 20
_BLOCK: Final = 256
_BLOCK_HEAD: Final = Struct("=I")
_BLOCKS: Final = 1 << 20

# --- nodes ---
_NODES_AT: Final = _BLOCKS_AT + _BLOCK * _BLOCKS
_SLOT: Final = Struct("=QIBBH40sQ")
"""The directory's number, pins, place, type bits >> 12, length of the name, the name, and last the number itself."""
_SLOT_SIZE: Final = _SLOT.size
_PINS_AT: Final = 8
_INO_AT: Final = 56
_KEYS: Final = Struct("=Q4xB43xQ")
_SHORT: Final = 40
_CAPACITY: Final = 1 << 25
_NO_SLOT: Final = bytes(_SLOT_SIZE)
_NO_PAGE: Final = bytes(_PAGE)
_SIZE: Final = _NODES_AT + _CAPACITY * _SLOT_SIZE
"""An address range; what takes memory are the pages that are written."""

_RESERVED: Final = 4096
"""How many numbers are taken at once: so many are passed over after a death."""
_SWEPT: Final = 2 * _RESERVED * _SLOT_SIZE // _PAGE
"""How many pages are looked at meanwhile: more than are filled."""
_HARD_LINK: Final = 0x80

NOT_BEGUN, BEGUN, DONE = 0, 1, 2


class Mark(NamedTuple):
    """What is known of an operation."""

    state: int
    ino: int
    over: int
    on_disk: int
    answer: bytes


class Handover:
    """Memory that is shared by a supervisor and its servers, one after the other; a `vfs.tree.inodes.Ledger`."""

    def __init__(self, fd: int) -> None:
        """Map the memory behind a descriptor, which belongs to this object from now on."""
        self._fd = fd
        self._map = mmap.mmap(fd, _SIZE)
        self._words = memoryview(self._map).cast("Q")
        """For stores of eight bytes, each of them one instruction: the index is the place / 8."""
        self._halves = memoryview(self._map).cast("I")
        """The same for four bytes."""
        self._reserved = 0
        self._hand = 0
        self._long: dict[int, list[int]] = {}
        self._free_blocks: list[int] = []
        self._next_block = 0
        self._armed = 0
        self._parking = threading.Lock()

    @classmethod
    def make(cls) -> Self:
        """Make it for a mount before its first server."""
        fd = os.memfd_create("avfs-handover", os.MFD_CLOEXEC)
        os.ftruncate(fd, _SIZE)
        made = cls(fd)
        made._reserve(ROOT_INO)
        return made

    # --- for the supervisor ----------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """How many servers there were before this one."""
        return self._words[_GENERATION_AT >> 3]

    @generation.setter
    def generation(self, value: int) -> None:
        self._words[_GENERATION_AT >> 3] = value

    @property
    def ending(self) -> bool:
        """Whether the end of the session was asked for."""
        return bool(self._map[_ENDING])

    @ending.setter
    def ending(self, value: bool) -> None:
        self._map[_ENDING] = value

    @property
    def is_serving(self) -> bool:
        """Whether the present server got so far as to answer what the one before left."""
        return bool(self._map[_SERVING])

    @is_serving.setter
    def is_serving(self, value: bool) -> None:
        self._map[_SERVING] = value

    def find_tellers(self) -> set[int]:
        """List the threads that are telling the kernel something, as far as they are noted."""
        return {thread for at in _TELLERS if (thread := self._halves[at >> 2])}

    def forget_tellers(self) -> None:
        """Forget those threads: another server begins."""
        for at in _TELLERS:
            self._halves[at >> 2] = 0

    # --- telling the kernel ----------------------------------------------------------------------------------

    def begin_telling(self) -> int:
        """Note that this thread will tell the kernel something, see `fuse.handover.supervisor`; give what ends that."""
        with self._parking:
            for at in _TELLERS:
                if not self._halves[at >> 2]:
                    self._halves[at >> 2] = threading.get_native_id()
                    return at
        return 0

    def end_telling(self, at: int) -> None:
        """Note that it is told."""
        if at:
            self._halves[at >> 2] = 0

    # --- nodes -----------------------------------------------------------------------------------------------

    def keep(self, node: Node, place: Place = Place.NAMED, text: bytes | None = None) -> None:
        """Note a node with its pins and its place, instead of what was noted of it."""
        self._note((node,), place, text)

    def keep_both(self, one: Node, other: Node) -> None:
        """Note two nodes under their names, in one step."""
        self._note([node for node in (one, other) if node.pins or node.is_dir], Place.NAMED, None)

    def _note(self, nodes: Sequence[Node], place: Place, text: bytes | None) -> None:
        """Write the slots of one or two nodes into the journal, make it valid, and copy them to where they belong."""
        for node in nodes:
            parent = node.parent if place is Place.NAMED else None
            if parent is not None and not parent.pins and parent.ino != ROOT_INO and not self._has(parent.ino):
                self._keep_above(parent)
            if node.ino >= self._reserved:
                self._reserve(node.ino)
        old: list[int] = []
        at = _JOURNAL_AT
        for node in nodes:
            name = node.name if text is None else text
            old += self._long.pop(node.ino, ())
            length = len(name)
            if length > _SHORT:
                name = self._put_long(node.ino, name)
            parent = node.parent if place is Place.NAMED else None
            above = 0 if parent is None else parent.ino
            flags = place | _HARD_LINK if node.disk_key is not None else place
            _SLOT.pack_into(self._map, at, above, node.pins, flags, node.kind >> 12, length, name, node.ino)
            at += _SLOT_SIZE
        self._map[_JOURNALED] = len(nodes)  # from here on they are noted
        self._complete_journal()
        self._free_blocks += old  # the slots that named them are overwritten

    def _complete_journal(self) -> None:
        """Put the slots of the journal where they belong, if it is valid; the same again after a kill in between."""
        for at in range(_JOURNAL_AT, _JOURNAL_AT + self._map[_JOURNALED] * _SLOT_SIZE, _SLOT_SIZE):
            start = self._slot_of(self._words[at + _INO_AT >> 3])
            self._map[start : start + _SLOT_SIZE] = self._map[at : at + _SLOT_SIZE]
            if self._map[_JOURNALED] > 1:  # one slot is the step of nearly every request
                faults.reach("handover.pair_slot_written")
        self._map[_JOURNALED] = 0

    @staticmethod
    def _slot_of(ino: int) -> int:
        return _NODES_AT + ino % _CAPACITY * _SLOT_SIZE

    def _keep_above(self, node: Node) -> None:
        """Note directories that the kernel was not told of, because it knows something in them."""
        missing = []
        here: Node | None = node
        while here is not None and here.parent is not None and not self._has(here.ino):
            missing.append(here)
            here = here.parent
        for child in reversed(missing):
            self.keep(child)

    def count(self, node: Node) -> None:
        """Note the pins of a node that is noted."""
        self._halves[self._slot_of(node.ino) + _PINS_AT >> 2] = node.pins

    def drop(self, ino: int) -> None:
        """Forget a node."""
        at = self._slot_of(ino)
        self._words[at + _INO_AT >> 3] = 0  # first: the rest means nothing without it
        self._map[at : at + _SLOT_SIZE] = _NO_SLOT
        if ino in self._long:
            self._free_blocks += self._long.pop(ino)

    def _has(self, ino: int) -> bool:
        return self._words[self._slot_of(ino) + _INO_AT >> 3] == ino

    def read(self, ino: int) -> Noted | None:
        """Read what is noted of a number."""
        at = self._slot_of(ino)
        above, pins, flags, kind, length, name, number = _SLOT.unpack_from(self._map, at)
        if number != ino or not ino:
            return None
        text = name[:length] if length <= _SHORT else self._get_long(name, length)
        return Noted(above, text, pins, kind << 12, Place(flags & ~_HARD_LINK))

    def load(self) -> tuple[dict[int, array[int]], list[int]]:
        """List all numbers with a name by their directories, and those of files that may have several.

        Call it before anything else is read: it completes what the server before was writing when it died.
        """
        self._complete_journal()
        self._reserved = self._words[_NEXT_AT >> 3]  # a server before this one may have taken more
        below: dict[int, array[int]] = {}
        several: list[int] = []
        chains: list[int] = []
        for start, end in self._extents(_NODES_AT, _SIZE):
            for above, flags, ino in _KEYS.iter_unpack(self._map[start:end]):
                if not ino:
                    continue
                if flags & ~_HARD_LINK == Place.NAMED:
                    try:
                        below[above].append(ino)
                    except KeyError:
                        below[above] = array("Q", (ino,))
                if flags & _HARD_LINK:
                    several.append(ino)
                chains.append(ino)
        self._find_blocks(chains)
        return below, several

    def _extents(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        while start < end:
            try:
                start = os.lseek(self._fd, start, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                return
            stop = min(os.lseek(self._fd, start, os.SEEK_HOLE), end)
            while start < stop:  # in pieces, so that a large table is not copied whole
                piece = min(stop, start + (1 << 20))
                yield start, piece
                start = piece

    def is_free(self, ino: int) -> bool:
        """Whether a number can be given to a node; all can be until the slots are used a second time."""
        return ino < _CAPACITY or not self._words[self._slot_of(ino) + _INO_AT >> 3]

    def numbers(self) -> Iterator[int]:
        """Give the numbers that no server has given to a node, in order."""
        return itertools.count(self._reserved)

    def _reserve(self, ino: int) -> None:
        """Take numbers up to one, and give memory back that no node needs any more."""
        self._reserved = ino + _RESERVED - ino % _RESERVED
        self._words[_NEXT_AT >> 3] = self._reserved
        at = self._hand or _NODES_AT
        for _ in range(_SWEPT):
            try:
                at = os.lseek(self._fd, at, os.SEEK_DATA)
            except OSError:
                at = 0
                break
            at -= at % _PAGE
            if self._map[at : at + _PAGE] == _NO_PAGE:
                try:
                    fallocate(self._fd, PUNCH_HOLE | KEEP_SIZE, at, _PAGE)
                except OSError:
                    pass  # a page more is used
            at += _PAGE
        self._hand = at

    # --- long names ------------------------------------------------------------------------------------------

    def _put_long(self, ino: int, name: bytes) -> bytes:
        """Keep what does not fit into a slot; gives what stands there instead."""
        pieces = [name[at : at + _BLOCK - 4] for at in range(0, len(name), _BLOCK - 4)]
        chain = [self._take_block() for _ in pieces]
        for number, piece, after in zip(chain, pieces, [*chain[1:], 0], strict=True):
            at = _BLOCKS_AT + number * _BLOCK
            _BLOCK_HEAD.pack_into(self._map, at, after)
            self._map[at + 4 : at + 4 + len(piece)] = piece
        self._long[ino] = chain
        return _BLOCK_HEAD.pack(chain[0])

    def _take_block(self) -> int:
        if self._free_blocks:
            return self._free_blocks.pop()
        self._next_block += 1
        if self._next_block >= _BLOCKS:
            raise OSError(errno.ENOSPC, "too many long names are in use")
        return self._next_block

    def _chain(self, first: int, length: int) -> list[int]:
        chain = []
        while length > 0 and 0 < first < _BLOCKS:
            chain.append(first)
            (first,) = _BLOCK_HEAD.unpack_from(self._map, _BLOCKS_AT + first * _BLOCK)
            length -= _BLOCK - 4
        return chain

    def _get_long(self, head: bytes, length: int) -> bytes:
        starts = [_BLOCKS_AT + number * _BLOCK + 4 for number in self._chain(_BLOCK_HEAD.unpack_from(head)[0], length)]
        return b"".join(self._map[at : at + _BLOCK - 4] for at in starts)[:length]

    def _find_blocks(self, numbers: list[int]) -> None:
        """Find which blocks are in use, after another server took them."""
        self._long = {}
        for ino in numbers:
            at = self._slot_of(ino)
            _, _, _, _, length, head, _ = _SLOT.unpack_from(self._map, at)
            if length > _SHORT:
                self._long[ino] = self._chain(_BLOCK_HEAD.unpack_from(head)[0], length)
        used = {block for chain in self._long.values() for block in chain}
        self._next_block = max(used, default=0)
        self._free_blocks = [block for block in range(1, self._next_block) if block not in used]

    # --- the request that is being served --------------------------------------------------------------------

    def request(self) -> Request:
        """Make the request that the serving thread receives into."""
        view = memoryview(self._map)[_REQUEST_AT : _REQUEST_AT + BUFFER_SIZE]
        # A process that is killed while the kernel copies to a page that is not there yet loses the request.
        for at in range(0, BUFFER_SIZE, _PAGE):
            view[at] = view[at]
        return Request(view)

    def mark_answered(self) -> None:
        """Note that the request in this memory is answered."""
        self._map[_REQUEST_AT + _OPERATION_AT] = 0

    @property
    def has_request(self) -> bool:
        """Whether the last server died with a request that it had received and not answered."""
        return bool(self._map[_REQUEST_AT + _OPERATION_AT])

    def is_deadly(self, unique: int) -> bool:
        """Count that a request is tried that the server before did not survive; whether it is what kills them."""
        now = time.monotonic_ns()  # of the machine: the same in each server
        words, at = self._words, _TRIED_AT >> 3
        tries, first_at = words[at + 1], words[at + 2]
        if words[at] == unique:
            words[at + 1] = tries + 1
        else:
            tries, first_at = 0, now
            words[at] = 0
            words[at + 1], words[at + 2] = 1, now
            words[at] = unique
        return bool(tries >= TRIES and now - first_at > _TRIED_FOR_NS)

    # --- requests with helpers -------------------------------------------------------------------------------

    def park(self, request: Request) -> int | None:
        """Keep a request that a helper is to answer; gives its slot, or None if there is no room."""
        if request.end > _WIDE_PARKED_SIZE:
            return None
        with self._parking:
            for slot, size in _PARKED_SLOTS:
                if request.end <= size and not self._map[slot + _OPERATION_AT]:
                    kind = slot + _OPERATION_AT
                    self._map[kind + 1 : slot + request.end] = request.view[_OPERATION_AT + 1 : request.end]
                    self._map[slot:kind] = request.view[:_OPERATION_AT]
                    # last: its low byte is never 0, and says that it is whole
                    self._map[kind] = request.view[_OPERATION_AT]
                    return slot
        return None

    def unpark(self, slot: int) -> None:
        """Note that a helper's request is answered."""
        with self._parking:
            self._map[slot + _OPERATION_AT] = 0
            if slot >= _WIDE_PARKED_AT:
                with suppress(OSError):  # a MiB more is used
                    fallocate(self._fd, PUNCH_HOLE | KEEP_SIZE, slot + _PAGE, _WIDE_PARKED_SIZE - _PAGE)

    def parked(self) -> list[tuple[int, Request]]:
        """List the requests that helpers of the last server had, with their slots."""
        found = []
        for slot, size in _PARKED_SLOTS:
            if self._map[slot + _OPERATION_AT]:
                request = Request(memoryview(bytearray(self._map[slot : slot + size])))
                request.read_header()
                found.append((slot, request))
        return found

    # --- operations ------------------------------------------------------------------------------------------

    def arm(self, unique: int) -> None:
        """Say which request the next operation belongs to."""
        self._armed = unique

    def begin(self, ino: int, over: int, on_disk: int) -> None:
        """Note that the operation begins now, see `vfs.tree.inodes.Ledger`."""
        if self._armed:
            self._put_mark(BEGUN, ino, over, on_disk)

    def finish(self, answer: bytes) -> None:
        """Note that the operation is done, with its answer."""
        if self._armed:
            self._map[_ANSWER_AT : _ANSWER_AT + len(answer)] = answer  # not read before the state says so
            state = DONE | len(answer) << 32
            if self._words[_MARK_AT >> 3] == self._armed:
                self._words[_STATE_AT >> 3] = state
            else:
                self._put_mark(state)
            self._armed = 0

    def give_up(self) -> None:
        """Note that the operation has failed."""
        if self._armed:
            self._words[_MARK_AT >> 3] = 0
            self._armed = 0

    def _put_mark(self, state: int, *about: int) -> None:
        words, at = self._words, _MARK_AT >> 3
        words[at] = 0  # no request has this number: the mark is valid from when it has one
        for offset, value in enumerate(about, 1):
            words[at + offset] = value
        words[_STATE_AT >> 3] = state
        words[at] = self._armed

    def mark_of(self, unique: int) -> Mark:
        """Read what is noted of the operation of a request."""
        number, ino, over, on_disk, state, length = _MARK.unpack_from(self._map, _MARK_AT)
        if number != unique:
            return Mark(NOT_BEGUN, 0, 0, 0, b"")
        return Mark(state, ino, over, on_disk, self._map[_ANSWER_AT : _ANSWER_AT + length])

    # --- forgetting ------------------------------------------------------------------------------------------

    def forgetting(self, unique: int, index: int, ino: int, pins: int) -> None:
        """Note which entry of a FORGET is next, and what it leaves, so that none is counted twice."""
        other = 1 - self._map[_FORGETTING_NOW]
        _FORGETTING.pack_into(self._map, _FORGETTING_AT + other * _FORGETTING.size, unique, ino, pins, index)
        self._map[_FORGETTING_NOW] = other

    def forgotten(self, unique: int) -> tuple[int, int, int] | None:
        """Read which entry of a FORGET was the last: its index, node and pins; None if it had not begun."""
        at = _FORGETTING_AT + self._map[_FORGETTING_NOW] * _FORGETTING.size
        number, ino, pins, index = _FORGETTING.unpack_from(self._map, at)
        return (index, ino, pins) if number == unique else None

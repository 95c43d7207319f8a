"""What a command writes: kept in memory up to a limit, and beyond that whole in a file.

Decided here: that of a long output its head and its tail are kept, and that everything else is in a spill file whose
path the result names. One `Captured` serves one stream and one thread. A spill file that cannot be written is given up:
the command must not fail because its output is long.
"""

from __future__ import annotations

import os
from collections import deque
from contextlib import suppress
from pathlib import Path

from avfs_git.host.files.modes import make_dir

_DIGITS = 12
_SPILLS_KEPT = 20
"""Older spill files of a vault go when another one is made."""


class Captured:
    """One stream of a command."""

    def __init__(self, name: str, *, most: int, most_in_file: int, spills: Path) -> None:
        self.size = 0
        self.spill: Path | None = None
        self._name = name
        self._head_most = (most + 1) // 2
        self._most = most
        self._room_in_file = most_in_file
        self._spills = spills
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._fd = -1
        self.is_lost = False
        """Whether there should be a spill file, and the disk did not take it."""
        self.is_cut = False
        """Whether the spill file holds the first bytes only, because there were more than it may hold."""

    @property
    def is_truncated(self) -> bool:
        """Whether `data` leaves out some of it."""
        return self.size > self._most

    def add(self, piece: bytes) -> None:
        """Take what the command wrote."""
        if self.size <= self._most < self.size + len(piece):
            self._begin_spill()
        self.size += len(piece)
        self._write(piece)
        room = self._head_most - len(self._head)
        if room > 0:
            self._head += piece[:room]
            piece = piece[room:]
        if piece:
            self._tail.append(piece)
            self._tail_size += len(piece)
            most = self._most - self._head_most
            while self._tail and self._tail_size - len(self._tail[0]) >= most:
                self._tail_size -= len(self._tail.popleft())

    def _begin_spill(self) -> None:
        try:
            for directory in (self._spills.parent, self._spills):
                make_dir(directory, exist_ok=True)
            # numbered, as no clock goes on over a restart and is never set back
            there = sorted(path.name for path in self._spills.iterdir() if path.name[:_DIGITS].isdecimal())
            for old in there[: -_SPILLS_KEPT + 1]:
                (self._spills / old).unlink(missing_ok=True)
            number = int(there[-1][:_DIGITS]) + 1 if there else 0
            self.spill = self._spills / f"{number:0{_DIGITS}d}-{os.urandom(4).hex()}-{self._name}"
            self._fd = os.open(self.spill, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError:
            self._give_up()
        self._write(bytes(self._head) + b"".join(self._tail))

    def _write(self, piece: bytes) -> None:
        if self._fd < 0:
            return
        self.is_cut |= len(piece) > self._room_in_file
        piece = piece[: self._room_in_file]
        self._room_in_file -= len(piece)
        try:
            while piece and self._fd >= 0:
                piece = piece[os.write(self._fd, piece) :]
        except OSError:  # a full disk
            self._give_up()

    def _give_up(self) -> None:
        self.is_lost = True
        self.close()
        if self.spill is not None:
            with suppress(OSError):
                self.spill.unlink()
        self.spill = None

    def data(self) -> bytes:
        """Give what is kept, with a line in place of what is not."""
        if not self.is_truncated:
            return bytes(self._head) + b"".join(self._tail)
        most = self._most - self._head_most
        tail = b"".join(self._tail)[-most:] if most else b""
        left_out = self.size - len(self._head) - len(tail)
        return bytes(self._head) + f"\n[… {left_out} bytes left out …]\n".encode() + tail

    def close(self) -> None:
        """Close the spill file. A second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

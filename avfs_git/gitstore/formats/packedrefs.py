"""The format of `packed-refs`: many refs in one file, each with its id on a line (git-pack-refs(1)).

Decided here: what is read of the file, what a broken line is, and how the file is written. Called by `refs`, which
locks it, and for repositories that no other process knows yet.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress

from avfs_git.errors import RefDamaged
from avfs_git.host.files.plainfile import NotAFile, open_plain
from avfs_git.paths import Oid, oid_of
from avfs_git.patterns import compiled

_MAX = 256 << 20
"""Bytes above which the file is not read: some three million refs fit."""
_REF = compiled(rb"^([0-9a-f]{40}) (\S+)$", re.MULTILINE)
_LINE = compiled(rb"(?:#.*|\^[0-9a-f]{40}|[0-9a-f]{40} \S+)\n", re.DOTALL)
_ENTRY = compiled(rb"([0-9a-f]{40}) (\S+)\n(?:\^[0-9a-f]{40}\n)?")
_SEARCHED_ABOVE = 16 << 10
"""Bytes up to which a file is read whole in no time."""


class _Unreadable(Exception):
    """A line that is looked at is no ref's: the file is read whole, as far as it can be read."""


class PackedRefs:
    """The refs in a `packed-refs`, and what told the file from another when it was read.

    A look-up in a large file that says that it is sorted reads a few lines. All others are found by reading the whole
    file once.
    """

    def __init__(self, stamp: tuple[int, int, int] | None = None, data: bytes = b"") -> None:
        self.stamp = stamp
        self._data = data
        header = data[: data.find(b"\n") + 1]
        self._begin = len(header)
        self._is_searched = len(data) > _SEARCHED_ABOVE and header.startswith(b"#") and b" sorted " in header
        self._refs: dict[str, Oid] | None = None
        self._directories: set[str] | None = None

    def all(self) -> dict[str, Oid]:
        """Read the whole file."""
        if self._refs is None:
            self._refs = {os.fsdecode(name): oid_of(value) for value, name in _REF.findall(self._data)}
        return self._refs

    def get(self, name: str) -> Oid | None:
        """Find what a ref holds; None if it is not here."""
        if self._is_searched and self._refs is None:
            with suppress(_Unreadable):
                wanted = os.fsencode(name)
                found = _ENTRY.match(self._data, self._find(wanted))
                return oid_of(found[1]) if found is not None and found[2] == wanted else None
        return self.all().get(name)

    def list(self, prefix: str) -> dict[str, Oid]:
        """List the refs whose name starts so."""
        if self._is_searched and self._refs is None and prefix != "refs/":
            with suppress(_Unreadable):
                wanted = os.fsencode(prefix)
                start, stop = self._find(wanted), self._find(wanted[:-1] + bytes([wanted[-1] + 1]))
                return {os.fsdecode(name): oid_of(value) for value, name in _REF.findall(self._data, start, stop)}
        return {name: oid for name, oid in self.all().items() if name.startswith(prefix)}

    def holds_below(self, name: str) -> bool:
        """Tell whether the name of a packed ref begins with this one and a slash."""
        if self._is_searched and self._refs is None:
            with suppress(_Unreadable):
                wanted = os.fsencode(name) + b"/"
                found = _ENTRY.match(self._data, self._find(wanted))
                return found is not None and found[2].startswith(wanted)
        if self._directories is None:
            self._directories = set()
            for ref in self.all():
                directory = ref.rpartition("/")[0]
                while directory and directory not in self._directories:
                    self._directories.add(directory)
                    directory = directory.rpartition("/")[0]
        return name in self._directories

    def _find(self, wanted: bytes) -> int:
        """Find the first line whose name is not below one, by bisection."""
        data, low, high = self._data, self._begin, len(self._data)
        while low < high:
            begin = max(low, data.rfind(b"\n", low, (low + high) // 2) + 1)
            if data[begin : begin + 1] == b"^":  # what the tag on the line before points to
                begin = max(low, data.rfind(b"\n", low, begin - 1) + 1)
            found = _ENTRY.match(data, begin)
            if found is None:
                raise _Unreadable
            if found[2] < wanted:
                low = found.end()
            else:
                high = begin
        return low


def read_packed(path: bytes) -> PackedRefs:
    """Read a `packed-refs`; empty without a file.

    Raises:
        RefDamaged: If it is no file, or larger than any.
    """
    try:
        fd = open_plain(path)
    except FileNotFoundError:
        return PackedRefs()
    except NotAFile as error:
        raise RefDamaged("packed-refs", f"it is {error.what}") from None
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if status.st_size > _MAX:
            raise RefDamaged("packed-refs", f"it is larger than {_MAX >> 20} MiB")
        data = file.read()
    return PackedRefs((status.st_ino, status.st_size, status.st_mtime_ns), data)


def find_bad_line(data: bytes, forbidden: re.Pattern[str]) -> str | None:
    """Tell what cannot be read, or what is in no name of a ref; git writes a first line also where no ref is left."""
    if not data:
        return "the file is empty"
    is_sorted = b" sorted " in data[: data.find(b"\n")]
    last = b""
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        if not _LINE.fullmatch(line):
            return f"line {number} cannot be read"
        if line[:1] not in b"#^":
            name = line[41:-1]
            if forbidden.search(os.fsdecode(name)):
                return f"git does not allow the name on line {number}"
            if is_sorted and name <= last:
                return f"line {number} is not in order, as the first line says of all"
            last = name
    return None


def format_packed(refs: Mapping[str, Oid]) -> bytes:
    """Write refs as a `packed-refs` holds them."""
    lines = sorted((os.fsencode(name), oid.hex().encode("ascii")) for name, oid in refs.items())
    return b"# pack-refs with: sorted \n" + b"".join(b"%b %b\n" % (oid, name) for name, oid in lines)


def remove_packed(data: bytes, gone: set[str]) -> bytes:
    """Leave refs out of the content of a `packed-refs`."""
    lines: list[bytes] = []
    dropping = False
    for line in data.splitlines(keepends=True):
        if not line.startswith(b"^"):  # the object that an annotated tag points to, on the line after the tag's
            dropping = os.fsdecode(line[41:].rstrip(b"\n")) in gone
        if not dropping:
            lines.append(line)
    return b"".join(lines)

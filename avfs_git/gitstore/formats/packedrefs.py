"""The format of `packed-refs`: many refs in one file, each with its id on a line (git-pack-refs(1)).

Decided here: what is read of the file, what a broken line is, and how the file is written. Called by `refs`, which locks it, and
for repositories that no other process knows yet.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping

from avfs_git.errors import RefDamaged
from avfs_git.paths import Oid, oid_of
from avfs_git.patterns import compiled
from avfs_git.values import field, record_class

_MAX = 256 << 20
"""Bytes above which the file is not read: some three million refs fit."""
_REF = compiled(rb"^([0-9a-f]{40}) (\S+)$", re.MULTILINE)
_LINE = compiled(rb"(?:#.*|\^[0-9a-f]{40}|[0-9a-f]{40} \S+)\n", re.DOTALL)
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@record_class
class PackedRefs:
    """The refs in a `packed-refs`, and what told the file from another when it was read."""

    stamp: tuple[int, int, int] | None = None
    refs: dict[str, Oid] = field(default_factory=dict)
    _directories: set[str] | None = None

    def holds_below(self, name: str) -> bool:
        """Tell whether the name of a packed ref begins with this one and a slash."""
        if self._directories is None:
            self._directories = set()
            for ref in self.refs:
                directory = ref.rpartition("/")[0]
                while directory and directory not in self._directories:
                    self._directories.add(directory)
                    directory = directory.rpartition("/")[0]
        return name in self._directories


def read_packed(path: bytes) -> PackedRefs:
    """Read a `packed-refs`; empty if there is none.

    Raises:
        RefDamaged: If it is no file, or larger than any.
    """
    try:
        fd = os.open(path, _FLAGS)
    except FileNotFoundError:
        return PackedRefs()
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise RefDamaged("packed-refs", "it is no file")
        if status.st_size > _MAX:
            raise RefDamaged("packed-refs", f"it is larger than {_MAX >> 20} MiB")
        data = file.read()
    refs = {os.fsdecode(name): oid_of(value) for value, name in _REF.findall(data)}
    return PackedRefs((status.st_ino, status.st_size, status.st_mtime_ns), refs)


def find_bad_line(data: bytes) -> str | None:
    """Tell what cannot be read; git writes a first line also where no ref is left."""
    if not data:
        return "the file is empty"
    for number, line in enumerate(data.splitlines(keepends=True), 1):
        if not _LINE.fullmatch(line):
            return f"line {number} cannot be read"
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

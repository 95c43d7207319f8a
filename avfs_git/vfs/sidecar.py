r"""The sidecar: how trees hold what a git tree of clean history cannot.

Decided here and nowhere else: the format of a sidecar tree (docs/format.md is its normative text).
`vfs.lower` reads it, `workspace.capture` writes it. Pure functions over objects; no disk, no locks.

A sidecar tree mirrors the directories of its checkpoint. In the tree of one directory stand

- `meta`, a blob of NUL-terminated records `MTIME_NS SP MODE SP XATTRS SP NAME`, sorted by name, one for
  each entry of the directory whose attributes are known. MODE is octal permission bits, or `-` where git's
  own mode says all; XATTRS is `-` or `KEY=VALUE` pairs joined by commas, the key percent-escaped and the
  value in base64. In the root's `meta`, the name `.` is the root itself.
- `=NAME` for a child that only the sidecar holds (an ignored file, an empty directory, a nested repository),
  and for a directory of the git tree with such a child somewhere below it;
- `+NAME` for a directory of the git tree of which the sidecar holds attributes only, so that whoever looks for
  untracked content need not look there.

NAME is escaped (`%` as `%25`, `\` as `%5C`), and the sign before it makes every name one that git accepts.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import quote_from_bytes, unquote_to_bytes

from avfs_git.errors import ObjectCorrupt
from avfs_git.paths import Oid

META_NAME = b"meta"
SELF = b"."
"""The record of the root directory itself."""

_MODE_FILE = 0o100644
_RECORD = re.compile(rb"((?:-?\d+|-) (?:[0-7]+|-) [^ \0]+) ([^\0]+)\0")
_NO_ATTRIBUTES = b"- -"
_SIGNS = (b"=", b"+")
_NO_NAMES = (b"", b".", b"..")


class Meta(NamedTuple):
    """The attributes of one entry that its git mode does not tell."""

    mtime_ns: int | None = None
    mode: int | None = None
    """Permission bits (07777), or None where git's mode says them."""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


class SideEntry(NamedTuple):
    """A child in a sidecar tree."""

    mode: int
    oid: Oid
    untracked: bool
    """Whether it is, or has below it, something that only the sidecar holds."""


def parse_sidecar(tree: Mapping[bytes, tuple[int, Oid]], oid: Oid) -> tuple[dict[bytes, SideEntry], Oid | None]:
    """Read a sidecar tree: its children by their real names, and its `meta` blob.

    Raises:
        ObjectCorrupt: If it holds an entry that no sidecar has.
    """
    found: dict[bytes, SideEntry] = {}
    meta: Oid | None = None
    for entry, (mode, child) in tree.items():
        if entry == META_NAME:
            meta = child
            continue
        sign, name = entry[:1], entry[1:]
        is_escaped = b"%" in name or b"\\" in name
        if is_escaped:
            name = name.replace(b"%5C", b"\\").replace(b"%25", b"%")
        if sign not in _SIGNS or name in _NO_NAMES or (is_escaped and _escape(name) != entry[1:]):
            raise ObjectCorrupt(oid.hex(), f"{entry!r} is not an entry of a sidecar")
        found[name] = SideEntry(mode, child, sign == b"=")
    return found, meta


def compose_sidecar(children: Mapping[bytes, SideEntry], meta: Oid | None) -> dict[bytes, tuple[int, Oid]]:
    """Make the entries of a sidecar tree; the reverse of `parse_sidecar`."""
    entries = {
        (b"=" if untracked else b"+") + (_escape(name) if b"%" in name or b"\\" in name else name): (mode, oid)
        for name, (mode, oid, untracked) in children.items()
    }
    if meta is not None:
        entries[META_NAME] = (_MODE_FILE, meta)
    return entries


def _escape(name: bytes) -> bytes:
    return name.replace(b"%", b"%25").replace(b"\\", b"%5C")


Record = bytes
"""One record of a `meta` blob without its name, which whoever only compares or copies it need not take apart."""


def parse_records(data: bytes, oid: Oid) -> dict[bytes, Record]:
    """Read the records of a `meta` blob by name.

    Raises:
        ObjectCorrupt: If it is not one.
    """
    pairs = _RECORD.findall(data)
    if sum([len(record) + len(name) for record, name in pairs]) + 2 * len(pairs) != len(data):
        raise ObjectCorrupt(oid.hex(), "it is not the metadata of a sidecar")
    return {name: record for record, name in pairs}


def parse_differing_records(
    left: bytes, left_oid: Oid, right: bytes, right_oid: Oid
) -> tuple[dict[bytes, Record], dict[bytes, Record]]:
    """Read the records of two `meta` blobs that are not the same in both, which are few: the others are not taken apart.

    Raises:
        ObjectCorrupt: If one of the blobs is cut short, or such a record is not one.
    """
    lines, other_lines = set(left.split(b"\0")), set(right.split(b"\0"))
    found = []
    for data, oid, only in ((left, left_oid, lines - other_lines), (right, right_oid, other_lines - lines)):
        only.discard(b"")
        whole = data.endswith(b"\0") or not data
        found.append(parse_records(b"\0".join(only) + b"\0" if whole and only else b"" if whole else data, oid))
    return found[0], found[1]


def serialize_records(records: Mapping[bytes, Record]) -> bytes:
    """Write a `meta` blob."""
    return b"".join([b"%s %s\0" % (records[name], name) for name in sorted(records)])


def parse_record(record: Record, oid: Oid) -> Meta:
    """Take one record apart."""
    mtime, mode, xattrs = record.split(b" ")
    return Meta(
        None if mtime == b"-" else int(mtime),
        None if mode == b"-" else int(mode, 8) & 0o7777,
        () if xattrs == b"-" else _parse_xattrs(xattrs, oid),
    )


def format_record(meta: Meta) -> Record:
    """Put one record together; the reverse of `parse_record`."""
    return b"%s %s %s" % (
        b"-" if meta.mtime_ns is None else b"%d" % meta.mtime_ns,
        b"-" if meta.mode is None else b"%o" % meta.mode,
        _format_xattrs(meta.xattrs) if meta.xattrs else b"-",
    )


def differ_beyond_times(left: Record | None, right: Record | None) -> bool:
    """Whether two records differ in permissions or attributes; a missing one has none that are unusual."""
    if left == right:
        return False
    before = left.partition(b" ")[2] if left is not None else _NO_ATTRIBUTES
    return before != (right.partition(b" ")[2] if right is not None else _NO_ATTRIBUTES)


def _parse_xattrs(field: bytes, oid: Oid) -> tuple[tuple[bytes, bytes], ...]:
    pairs = []
    for pair in field.split(b","):
        key, _, value = pair.partition(b"=")
        try:
            pairs.append((unquote_to_bytes(key), binascii.a2b_base64(value, strict_mode=True) if value else b""))
        except binascii.Error as error:
            raise ObjectCorrupt(oid.hex(), "an attribute in the metadata of a sidecar is not base64") from error
    return tuple(pairs)


def _format_xattrs(xattrs: tuple[tuple[bytes, bytes], ...]) -> bytes:
    return b",".join(
        quote_from_bytes(key, safe="").encode("ascii") + b"=" + binascii.b2a_base64(value, newline=False) for key, value in xattrs
    )

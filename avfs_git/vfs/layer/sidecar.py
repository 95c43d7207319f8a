r"""The sidecar: how trees hold what a git tree of clean history cannot.

Decided here and nowhere else: the format of a sidecar tree (docs/design/format.md is its normative text).
`vfs.layer.lower` reads it, `workspace.capture.capture` writes it. Pure functions over objects; no disk, no locks. They
raise ObjectCorrupt for what is no sidecar.

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
from collections.abc import Collection, Mapping
from urllib.parse import quote_from_bytes, unquote_to_bytes

from avfs_git.errors import InternalError, ObjectCorrupt
from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.formats.trees import MODE_TREE
from avfs_git.gitstore.source import ObjectSink, ObjectSource, Tree
from avfs_git.paths import ROOT, Oid, TreePath, components, list_above, split
from avfs_git.patterns import compiled
from avfs_git.values import NamedTuple

META_NAME = b"meta"
SELF = b"."
"""The record of the root directory itself."""

_MODE_FILE = 0o100644
_RECORD = compiled(rb"((?:-?\d{1,30}|-) (?:[0-7]{1,8}|-) [^ \0]+) ([^\0]+)\0")
_WITH_XATTRS = compiled(rb"(?:\A|\0)(?:-?\d+|-) (?:[0-7]+|-) (?!- )[^ \0]+ ")
_NO_ATTRIBUTES = b"- -"
TIME_MIN_NS, TIME_MAX_NS = -(1 << 31) * 10**9, ((1 << 34) - (1 << 31)) * 10**9 - 1
"""The times that ext4 holds, from 1901 to 2446: a recorded time outside of these is shown as the nearest of them."""
UNTRACKED, _TRACKED = b"=", b"+"
"""With one of these the entry of a child begins."""
_SIGNS = (UNTRACKED, _TRACKED)
_NO_OID = Oid(bytes(20))
_PIECE = 16 << 10
_FEW = 16
"""Up to so many records are put into a blob one by one."""
_NO_NAMES = (b"", b".", b"..")
# In names between NULs: one that no sidecar has.
_ODD_ENTRY = compiled(rb"\0(?:[^=+]|[=+]\.{0,2}\0)")


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
    """Read a sidecar tree: its children by their real names, and its `meta` blob."""
    children = dict(tree)
    held = children.pop(META_NAME, None)
    if _is_plain(children):
        make = tuple.__new__  # a third of what the class itself takes, which shows in large directories
        found = {
            entry[1:]: make(SideEntry, (mode, child, entry[:1] == b"=")) for entry, (mode, child) in children.items()
        }
    else:
        found = _parse_slowly(children, oid)
    return found, held[1] if held is not None else None


def check_sidecar(tree: Mapping[bytes, tuple[int, Oid]], oid: Oid) -> None:
    """Refuse a tree that `parse_sidecar` refuses, at a fraction of its cost."""
    children = dict(tree)
    children.pop(META_NAME, None)
    if not _is_plain(children):
        _parse_slowly(children, oid)


def _is_plain(children: Mapping[bytes, object]) -> bool:
    """Whether all entries are ones that a sidecar has, and none is escaped."""
    joined = b"\0" + b"\0".join(children) + b"\0"
    return not children or not (b"%" in joined or b"\\" in joined or _ODD_ENTRY.search(joined) is not None)


def _parse_slowly(children: Mapping[bytes, tuple[int, Oid]], oid: Oid) -> dict[bytes, SideEntry]:
    """Read the children of a sidecar tree one by one: those whose names are escaped, and those that no sidecar has."""
    found: dict[bytes, SideEntry] = {}
    for entry, (mode, child) in children.items():
        sign, name = entry[:1], entry[1:]
        is_escaped = b"%" in name or b"\\" in name
        if is_escaped:
            name = name.replace(b"%5C", b"\\").replace(b"%25", b"%")
        if sign not in _SIGNS or name in _NO_NAMES or (is_escaped and _escape(name) != entry[1:]):
            raise ObjectCorrupt(oid.hex(), f"{entry!r} is not an entry of a sidecar")
        found[name] = SideEntry(mode, child, sign == b"=")
    return found


def find_child(tree: Mapping[bytes, tuple[int, Oid]], name: bytes) -> SideEntry | None:
    """Find one child in a sidecar tree by its real name; costs two look-ups."""
    spelled = _escape(name) if b"%" in name or b"\\" in name else name
    for sign in _SIGNS:
        held = tree.get(sign + spelled)
        if held is not None:
            return SideEntry(*held, untracked=sign == b"=")
    return None


def find_below(source: ObjectSource, sidecar: Oid | None, path: TreePath) -> SideEntry | None:
    """Find what a sidecar holds at a path, which is not the root."""
    found: SideEntry | None = None
    for name in components(path):
        child = find_child(source.read_tree(sidecar), name) if sidecar is not None else None
        found, sidecar = child, child.oid if child is not None and child.mode == MODE_TREE else None
    return found


def compose_sidecar(children: Mapping[bytes, SideEntry], meta: Oid | None) -> dict[bytes, tuple[int, Oid]]:
    """Make the entries of a sidecar tree; the reverse of `parse_sidecar`."""
    entries = {
        (UNTRACKED if untracked else _TRACKED) + (_escape(name) if b"%" in name or b"\\" in name else name): (mode, oid)
        for name, (mode, oid, untracked) in children.items()
    }
    if meta is not None:
        entries[META_NAME] = (_MODE_FILE, meta)
    return entries


def edit_children(
    tree: Mapping[bytes, tuple[int, Oid]], edits: Mapping[bytes, SideEntry | None], meta: Oid | None
) -> dict[bytes, tuple[int, Oid]]:
    """Make the entries of a sidecar tree with other children in place of those that it has; None takes one out."""
    entries = dict(tree)
    entries.pop(META_NAME, None)
    for name in edits:
        for sign in _SIGNS:
            entries.pop(sign + _escape(name), None)
    return entries | compose_sidecar({name: entry for name, entry in edits.items() if entry is not None}, meta)


def _escape(name: bytes) -> bytes:
    return name.replace(b"%", b"%25").replace(b"\\", b"%5C")


Record = bytes
"""One record of a `meta` blob without its name, which comparing or copying it need not parse."""


def parse_records(data: bytes, oid: Oid) -> dict[bytes, Record]:
    """Read the records of a `meta` blob by name."""
    pairs: list[tuple[bytes, bytes]] = []
    start = 0
    while start < len(data):  # piece by piece: other threads wait for one call of the pattern
        end = data.find(b"\0", start + _PIECE) + 1 or len(data)
        pairs += _RECORD.findall(data, start, end)
        start = end
    if sum([len(record) + len(name) for record, name in pairs]) + 2 * len(pairs) != len(data):
        raise ObjectCorrupt(oid.hex(), "it is not the metadata of a sidecar")
    return {name: record for record, name in pairs}


def find_record(data: bytes, name: bytes, oid: Oid) -> Record | None:
    """Find the record of one name in a `meta` blob, without a look at the others."""
    place = _find_record(data, name, oid)
    return None if place is None else data[place[0] : place[1]]


def _find_record(data: bytes, name: bytes, oid: Oid) -> tuple[int, int] | None:
    if data and data[-1]:
        raise ObjectCorrupt(oid.hex(), "it is not the metadata of a sidecar")
    wanted = b" %b\0" % name
    end = data.find(wanted)
    while end >= 0:
        start = data.rfind(b"\0", 0, end) + 1
        if data.count(b" ", start, end) == 2:  # else what was found is the end of a name with a space in it
            if _RECORD.fullmatch(data, start, end + len(wanted)) is None:
                raise ObjectCorrupt(oid.hex(), "it is not the metadata of a sidecar")
            return start, end
        end = data.find(wanted, end + 1)
    return None


def _find_gap(data: bytes, name: bytes, oid: Oid) -> int:
    """Find where in a `meta` blob the record of a name belongs that has none; they are in the order of the names."""
    low, high = 0, len(data)
    while low < high:
        middle = (low + high) // 2
        start = max(data.rfind(b"\0", low, middle) + 1, low)
        end = data.find(b"\0", middle) + 1
        found = _RECORD.fullmatch(data, start, end)
        if found is None:
            raise ObjectCorrupt(oid.hex(), "it is not the metadata of a sidecar")
        if found[2] < name:
            low = end
        else:
            high = start
    return low


def parse_differing_records(
    left: bytes, left_oid: Oid, right: bytes, right_oid: Oid
) -> tuple[dict[bytes, Record], dict[bytes, Record]]:
    """Read the records of two `meta` blobs that differ between them, which are few: the others are not taken apart."""
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


def edit_records(data: bytes, edits: Mapping[bytes, Record | None], oid: Oid) -> bytes:
    """Put records into a `meta` blob in place of those that it has; None takes one out."""
    if len(edits) <= _FEW:
        for name, record in edits.items():
            place = _find_record(data, name, oid)
            if place is not None:
                start, end = place
                data = data[:start] + (data[end + len(name) + 2 :] if record is None else record + data[end:])
            elif record is not None:
                start = _find_gap(data, name, oid)
                data = data[:start] + b"%b %b\0" % (record, name) + data[start:]
        return data
    records = parse_records(data, oid)
    for name, record in edits.items():
        if record is None:
            records.pop(name, None)
        else:
            records[name] = record
    return serialize_records(records)


def find_attributes(
    source: ObjectSource, sidecar: Oid | None, directory: TreePath, names: Collection[bytes]
) -> dict[bytes, Record]:
    """Look up what a sidecar says of the attributes of some entries of a directory, and perhaps of others there."""
    here = sidecar
    for step in components(directory):
        child = find_child(source.read_tree(here), step) if here is not None else None
        here = child.oid if child is not None and child.mode == MODE_TREE else None
    held = source.read_tree(here).get(META_NAME) if here is not None else None
    if held is None:
        return {}
    data = source.read_blob(held[1])
    if len(names) > _FEW:
        return parse_records(data, held[1])
    return {name: record for name in names if (record := find_record(data, name, held[1])) is not None}


def edit_sidecar(
    sink: ObjectSink, sidecar: Oid | None, edits: Mapping[TreePath, Mapping[bytes, Record | None]]
) -> Oid | None:
    """Give entries of a state other attributes; None if nothing is left of its sidecar.

    `edits` has records by directory and name, None for one that goes; the directories are such as the git tree has.
    """
    order = {ROOT, *edits, *list_above(edits)}
    before: dict[TreePath, Tree] = {}
    after: dict[TreePath, dict[bytes, tuple[int, Oid]]] = {}
    for directory in sorted(order):  # those above come first
        here = sidecar
        if directory != ROOT:
            above, name = split(directory)
            child = find_child(before[above], name)
            here = child.oid if child is not None and child.mode == MODE_TREE else None
        before[directory] = sink.read_tree(here) if here is not None else {}
        after[directory] = dict(before[directory])
    for directory in sorted(order, reverse=True):
        entries = after[directory]
        held = entries.get(META_NAME)
        data = sink.read_blob(held[1]) if held is not None else b""
        edited = edit_records(data, edits.get(directory, {}), held[1] if held is not None else _NO_OID)
        if not edited:
            entries.pop(META_NAME, None)
        elif edited != data:
            entries[META_NAME] = (_MODE_FILE, sink.add(KIND_BLOB, edited, keep=True))
        if directory == ROOT:
            if entries == before[ROOT]:
                return sidecar
            return _add_tree(sink, entries, before[ROOT]) if entries else None
        if entries == before[directory]:
            continue
        above, name = split(directory)
        child = find_child(before[above], name)
        is_untracked = child is not None and child.mode == MODE_TREE and child.untracked
        signs = (b"=", b"+") if is_untracked else (b"+", b"=")
        after[above].pop(signs[1] + _escape(name), None)
        if entries:
            after[above][signs[0] + _escape(name)] = (MODE_TREE, _add_tree(sink, entries, before[directory]))
        else:
            after[above].pop(signs[0] + _escape(name), None)
    raise InternalError("an edit of a sidecar did not reach its root")


def edit_untracked(
    sink: ObjectSink, sidecar: Oid | None, files: Mapping[TreePath, tuple[int, Oid] | None]
) -> Oid | None:
    """Put what was in the git tree of a state into a sidecar; with None, take out what came into it.

    That is files, and directories as the sidecar is to have them. Their attributes are there already, and stay.
    """
    entries = dict(sink.read_tree(sidecar)) if sidecar is not None else {}
    below: dict[bytes, dict[TreePath, tuple[int, Oid] | None]] = {}
    for path, held in files.items():
        name, _, rest = path.partition(b"/")
        if rest:
            below.setdefault(name, {})[TreePath(rest)] = held
            continue
        entries.pop(UNTRACKED + _escape(name), None)
        if held is not None:
            entries.pop(_TRACKED + _escape(name), None)
            entries[UNTRACKED + _escape(name)] = held
    for name, inside in below.items():
        child = find_child(entries, name)
        for sign in _SIGNS:
            entries.pop(sign + _escape(name), None)
        made = edit_untracked(sink, child.oid if child is not None and child.mode == MODE_TREE else None, inside)
        if made is not None:
            is_untracked = any(entry[:1] == UNTRACKED for entry in sink.read_tree(made))
            entries[(UNTRACKED if is_untracked else _TRACKED) + _escape(name)] = (MODE_TREE, made)
    return sink.add_tree(entries) if entries else None


def _add_tree(sink: ObjectSink, entries: Mapping[bytes, tuple[int, Oid]], before: Tree) -> Oid:
    """Store an edited tree; one with the names and kinds that it had is in order."""
    if list(entries) == list(before) and all(before[name][0] == mode for name, (mode, _) in entries.items()):
        return sink.add_sorted(entries)
    return sink.add_tree(entries)


def parse_time(text: bytes) -> int:
    """Read the time of a record, in nanoseconds since the epoch; it lies between `TIME_MIN_NS` and `TIME_MAX_NS`."""
    return limit_time(int(text))


def limit_time(time_ns: int) -> int:
    """Give the nearest time that file systems hold."""
    return min(max(time_ns, TIME_MIN_NS), TIME_MAX_NS)


def parse_record(record: Record, oid: Oid) -> Meta:
    """Take one record apart."""
    mtime, mode, xattrs = record.split(b" ")
    return Meta(
        None if mtime == b"-" else parse_time(mtime),
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


def plain_record(mtime_ns: int) -> Record:
    """Make the record of an entry that has a time and nothing unusual, as most have."""
    return b"%d - -" % mtime_ns


def differ_beyond_times(left: Record | None, right: Record | None) -> bool:
    """Whether two records differ in permissions or attributes; a missing one has none that are unusual."""
    if left == right:
        return False
    before = left.partition(b" ")[2] if left is not None else _NO_ATTRIBUTES
    return before != (right.partition(b" ")[2] if right is not None else _NO_ATTRIBUTES)


def any_xattrs(records: bytes) -> bool:
    """Whether one of the records of a directory has extended attributes, without taking them apart."""
    return _WITH_XATTRS.search(records) is not None


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
        quote_from_bytes(key, safe="").encode("ascii") + b"=" + binascii.b2a_base64(value, newline=False)
        for key, value in xattrs
    )

"""Git's index: read, written anew, and changed at a few paths (gitformat-index(5)).

Decided here: how much of the format is understood (versions 2, 3 and 4; written is 2, or 3 where an entry needs it),
and which extensions survive a change. `workspace.gitdir` keeps the index of a live tree with it. Pure functions over
bytes; `worktree` sees to `index.lock`.

Git trusts the times and the size of an entry more than anything else: an entry whose stat data equal those of lstat(2)
counts as unchanged, without a look at the file. So a caller that writes an entry either knows that the file holds the
entry's blob, or gives it `NO_STAT`, which makes git look.
"""

from __future__ import annotations

import hashlib
import re
import struct
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence

from avfs_git.paths import Oid
from avfs_git.patterns import compiled
from avfs_git.values import NamedTuple

NO_STAT = bytes(40)
"""Stat data that equal those of no file that holds anything: git reads the file and puts the right ones there."""

_HEADER = struct.Struct(">4sII")
_STAT = struct.Struct(">10I")
_WORD = 0xFFFF_FFFF
_SIGNATURE = b"DIRC"
_CHECKSUM = 20
_ASSUME_VALID, _EXTENDED = 0x8000, 0x4000
_STAGE = 0x3000
_NAME_MASK = 0x0FFF
_INTENT_TO_ADD, _SKIP_WORKTREE = 0x2000, 0x4000  # of the extended flags
SPLIT, SPARSE = b"link", b"sdir"
"""The extensions of an index that has a part of its entries, or that names directories; `fullindex` reads them."""
_RESOLVED = b"REUC"
_KEPT = frozenset({b"TREE", _RESOLVED})
"""Extensions that are kept: the others describe places in the file, or what a helper of git has seen."""


class BadIndex(ValueError):
    """A file is no index, or one of a kind that is not understood."""


class ForeignIndex(BadIndex):
    """An index is sound, and has an extension that must be understood and is not."""

    def __init__(self, extension: bytes) -> None:
        super().__init__(f"it has the extension {extension!r}")
        self.extension = extension


class Staged(NamedTuple):
    """An entry of an index."""

    path: bytes
    stat: bytes
    """40 bytes as they are stored."""
    mode: int
    oid: Oid
    stage: int
    """0, or 1 to 3 for the sides of a conflict."""
    flags: int
    """Of the entry, with the length of its name masked out."""
    extended: int

    @property
    def is_left_out(self) -> bool:
        """Whether git leaves its file out of the working tree (`skip-worktree`)."""
        return bool(self.extended & _SKIP_WORKTREE)

    @property
    def is_assumed(self) -> bool:
        """Whether git was told not to look at its file (`assume-unchanged`)."""
        return bool(self.flags & _ASSUME_VALID)

    @property
    def is_promised(self) -> bool:
        """Whether git was only told to expect it (`git add --intent-to-add`)."""
        return bool(self.extended & _INTENT_TO_ADD)


class Move(NamedTuple):
    """What became of a path between two commits: modes and ids as in a tree, None where there is nothing."""

    path: bytes
    old: tuple[int, Oid] | None
    new: tuple[int, Oid] | None
    stat: bytes = NO_STAT


def make_stat(mode: int, size: int, mtime_ns: int) -> bytes:
    """Make the stat data of a file of which device and inode number are not known.

    They do for git where `core.checkStat` is `minimal`; elsewhere they make it look.
    """
    seconds, rest = divmod(mtime_ns, 1_000_000_000)
    seconds &= _WORD
    return _STAT.pack(seconds, rest, seconds, rest, 0, 0, mode, 0, 0, size & _WORD)


# --- reading -----------------------------------------------------------------------------------------------


_FLAGGED = tuple(
    compiled(mode + rb"(?<=\0\0..).{32}[\x10-\x3f\x50-\xff]", re.DOTALL)
    for mode in (rb"\x81[\xa4\xed]", rb"\xa0\0", rb"\xe0\0")
)
"""The mode of an entry, 32 bytes of stat data and id, and the flags. Ids may look like it."""


def may_be_flagged(data: bytes) -> bool:
    """Whether an index may have an entry in conflict, or with the mark `assume-unchanged`.

    Costs a fifth of what parsing the entries costs.
    """
    return any(pattern.search(data) for pattern in _FLAGGED)


def is_plain_format(data: bytes) -> bool:
    """Whether an index is of the format that has no room for `skip-worktree`."""
    return data[4:8] <= b"\0\0\0\2"


class GitIndex:
    """An index that was read. `paths` is in its order, and a path in conflict stands there more than once."""

    def __init__(self, data: bytes, *, understood: frozenset[bytes] = frozenset()) -> None:
        """Read an index.

        Raises:
            BadIndex: If it is damaged, or of an unknown version.
            ForeignIndex: If it has an extension that must be understood and is not among those `understood`.
        """
        if len(data) < _HEADER.size + _CHECKSUM:
            raise BadIndex("it is cut short")
        signature, version, count = _HEADER.unpack_from(data)
        if signature != _SIGNATURE or version not in (2, 3, 4):
            raise BadIndex("it has no known format")
        end = len(data) - _CHECKSUM
        # Git writes zeros where it was told not to compute the sum.
        if any(data[end:]) and hashlib.sha1(memoryview(data)[:end], usedforsecurity=False).digest() != data[end:]:
            raise BadIndex("its checksum is wrong")
        try:
            self.data, extensions_at, end = _expand(data, count, end) if version == 4 else (data, -1, end)
            self.paths, self.starts = _find_entries(self.data, count)
            if extensions_at not in (-1, self.starts[-1]) or self.starts[-1] > end:
                raise BadIndex("it cannot be taken apart")
            self.extensions = _parse_extensions(self.data[self.starts[-1] : end], understood)
        except BadIndex:
            raise
        except (IndexError, ValueError, struct.error) as error:
            raise BadIndex("it cannot be taken apart") from error

    def __len__(self) -> int:
        return len(self.paths)

    def entry(self, number: int) -> Staged:
        """Take an entry apart."""
        data, at = self.data, self.starts[number]
        flags = data[at + 60] << 8 | data[at + 61]
        extended = data[at + 62] << 8 | data[at + 63] if flags & _EXTENDED else 0
        mode = int.from_bytes(data[at + 24 : at + 28], "big")
        return Staged(
            self.paths[number],
            data[at : at + 40],
            mode,
            Oid(data[at + 40 : at + 60]),
            (flags & _STAGE) >> 12,
            flags & ~_NAME_MASK,
            extended,
        )

    def raw(self, first: int, last: int) -> bytes:
        """Give the bytes of some entries, up to the last and without it."""
        return self.data[self.starts[first] : self.starts[last]]


def differ_in_stat_only(one: bytes, other: bytes) -> bool:
    """Whether two indexes say the same, but for how git last found the files: `git status` writes that anew."""
    try:
        first, second = GitIndex(one), GitIndex(other)
    except BadIndex:
        return False
    if first.paths != second.paths or first.extensions.get(_RESOLVED) != second.extensions.get(_RESOLVED):
        return False
    return all(
        first.entry(number)._replace(stat=NO_STAT) == second.entry(number)._replace(stat=NO_STAT)
        for number in range(len(first))
    )


def _find_entries(data: bytes, count: int) -> tuple[list[bytes], list[int]]:
    """List the paths of all entries, and where each begins; with where the last one ends."""
    paths: list[bytes] = []
    starts: list[int] = []
    at = _HEADER.size
    for _ in range(count):
        starts.append(at)
        flags = data[at + 60] << 8 | data[at + 61]
        name = at + 64 if flags & _EXTENDED else at + 62
        length = flags & _NAME_MASK
        stop = name + length if length < _NAME_MASK else data.index(b"\0", name)
        if data[stop]:
            raise BadIndex("it cannot be taken apart")
        paths.append(data[name:stop])
        at += stop - at + 8 & ~7
    starts.append(at)
    return paths, starts


def _expand(data: bytes, count: int, end: int) -> tuple[bytes, int, int]:
    """Write the entries of version 4, whose names are abbreviated, as those of version 3.

    Returns the whole without its checksum, where the extensions begin, and where they end.
    """
    pieces = [_HEADER.pack(_SIGNATURE, 3, count)]
    at = _HEADER.size
    path = b""
    for _ in range(count):
        head = at
        flags = data[at + 60] << 8 | data[at + 61]
        fixed = 64 if flags & _EXTENDED else 62
        byte = data[at + fixed]
        at += fixed + 1
        drop = byte & 0x7F
        while byte & 0x80:  # as offsets in packs: each further byte counts from one on
            byte = data[at]
            at += 1
            drop = (drop + 1 << 7) | byte & 0x7F
        if drop > len(path):
            raise BadIndex("it cannot be taken apart")
        stop = data.index(b"\0", at)
        path = path[: len(path) - drop] + data[at:stop]
        at = stop + 1
        flags = flags & ~_NAME_MASK | min(len(path), _NAME_MASK)
        pieces.append(
            data[head : head + 60] + flags.to_bytes(2, "big") + data[head + 62 : head + fixed] + _padded(path, fixed)
        )
    if at > end:
        raise BadIndex("it is cut short")
    entries = b"".join(pieces)
    return entries + data[at:end], len(entries), len(entries) + end - at


def _padded(path: bytes, fixed: int) -> bytes:
    return path + bytes(8 - (fixed + len(path)) % 8)


def _parse_extensions(data: bytes, understood: frozenset[bytes]) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        if at + 8 > len(data):
            raise BadIndex("it is cut short")
        signature = data[at : at + 4]
        size = int.from_bytes(data[at + 4 : at + 8], "big")
        at += 8 + size
        if at > len(data):
            raise BadIndex("it is cut short")
        # Lower case: a reader that does not understand it must not go on.
        if not 0x41 <= signature[0] <= 0x5A and signature not in understood:
            raise ForeignIndex(signature)
        found[signature] = data[at - size : at]
    return found


# --- writing -----------------------------------------------------------------------------------------------


class IndexWriter:
    """An index that is made from its first entry to its last, which have to come in the order of their paths."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = [b""]
        self.count = 0

    def add(self, path: bytes, mode: int, oid: bytes, stat: bytes) -> None:
        """Take an entry that is not in conflict; `stat` is from `make_stat`, or `NO_STAT`."""
        length = len(path)
        self._pieces.append(
            b"%b%b%b%b%b%b%b"
            % (
                stat[:24],
                mode.to_bytes(4, "big"),
                stat[28:],
                oid,
                (min(_NAME_MASK, length)).to_bytes(2, "big"),
                path,
                _PADDING[length & 7],
            )
        )
        self.count += 1

    def finish(self, tree: CachedTree | None = None) -> bytes:
        """Return the whole file.

        With the `tree` of the entries, git need not look at directories that are as committed.
        """
        self._pieces[0] = _HEADER.pack(_SIGNATURE, 2, self.count)
        return _finished(self._pieces, {b"TREE": serialize_cached_tree(tree)} if tree is not None else {})


_PADDING = tuple(bytes(8 - (62 + length) % 8) for length in range(8))


def _finished(pieces: list[bytes], extensions: Mapping[bytes, bytes]) -> bytes:
    for signature, content in extensions.items():
        pieces += [signature, len(content).to_bytes(4, "big"), content]
    data = b"".join(pieces)
    return data + hashlib.sha1(data, usedforsecurity=False).digest()


def write_index(entries: Iterable[Staged], extensions: Mapping[bytes, bytes]) -> bytes:
    """Write entries, which have to come in the order of their paths and stages, and what is kept of the extensions."""
    pieces = [b"", *map(_spell, entries)]
    pieces[0] = _HEADER.pack(_SIGNATURE, 3, len(pieces) - 1)
    return _finished(pieces, {signature: content for signature, content in extensions.items() if signature in _KEPT})


def _spell(entry: Staged) -> bytes:
    flags = entry.flags & ~_NAME_MASK | min(len(entry.path), _NAME_MASK)
    extended = entry.extended.to_bytes(2, "big") if flags & _EXTENDED else b""
    stat = entry.stat
    head = stat[:24] + entry.mode.to_bytes(4, "big") + stat[28:] + entry.oid + flags.to_bytes(2, "big") + extended
    return head + _padded(entry.path, len(head))


def move_entries(index: GitIndex, moves: Iterable[Move]) -> bytes | None:
    """Bring an index from one commit to another: an entry that is as in the first commit becomes as in the second.

    Entries that were staged otherwise stay, and so do entries in conflict. Costs reading and writing the file. None if
    nothing changes.
    """
    paths = index.paths
    deleted: set[int] = set()
    changed: dict[int, bytes] = {}
    added: dict[bytes, bytes] = {}
    for move in sorted(moves):
        at = bisect_left(paths, move.path)
        there = index.entry(at) if at < len(paths) and paths[at] == move.path else None
        if there is not None and there.stage:
            continue
        is_promised = there is not None and there.is_promised  # as good as not there
        held = (there.mode, there.oid) if there is not None and not is_promised else None
        if held != move.old or held == move.new:
            continue
        if move.new is None:
            deleted.add(at)
        elif there is not None:
            changed[at] = _entry_of(move, move.new, there)
        else:
            added[move.path] = _entry_of(move, move.new, None)
    for path in [path for path in added if _is_in_the_way(path, paths, deleted, added)]:
        del added[path]
    if not deleted and not changed and not added:
        return None
    touched = [paths[at] for at in (*deleted, *changed)] + list(added)
    inserts = sorted((bisect_left(paths, path), path, entry) for path, entry in added.items())
    edits: list[tuple[int, int, bytes]] = [
        *((at, at + 1, b"") for at in deleted),
        *((at, at + 1, entry) for at, entry in changed.items()),
    ]
    pieces = [b""]
    done = 0
    for first, last, piece in sorted(
        [*edits, *((at, at, entry) for at, _, entry in inserts)], key=lambda edit: edit[:2]
    ):
        pieces += [index.raw(done, first), piece]
        done = last
    pieces.append(index.raw(done, len(index)))
    pieces[0] = _HEADER.pack(_SIGNATURE, int.from_bytes(index.data[4:8], "big"), len(index) - len(deleted) + len(added))
    extensions = {signature: content for signature, content in index.extensions.items() if signature in _KEPT}
    if b"TREE" in extensions:
        tree = parse_cached_tree(extensions[b"TREE"])
        for path in touched:
            tree.invalidate(path)
        extensions[b"TREE"] = serialize_cached_tree(tree)
    return _finished(pieces, extensions)


def _entry_of(move: Move, new: tuple[int, Oid], there: Staged | None) -> bytes:
    flags, extended = (there.flags, there.extended & ~_INTENT_TO_ADD) if there is not None else (0, 0)
    return _spell(Staged(move.path, move.stat, *new, 0, flags, extended))


def _is_in_the_way(path: bytes, paths: Sequence[bytes], deleted: set[int], added: Mapping[bytes, bytes]) -> bool:
    """Tell whether a file is staged where this path needs a directory, or the reverse: git takes no such index."""
    at = bisect_left(paths, path + b"/")
    while at < len(paths) and paths[at].startswith(path + b"/"):
        if at not in deleted:
            return True
        at += 1
    slash = path.rfind(b"/")
    while slash > 0:
        above = path[:slash]
        at = bisect_left(paths, above)
        if above in added or (at < len(paths) and paths[at] == above and at not in deleted):
            return True
        slash = path.rfind(b"/", 0, slash)
    return False


# --- which tree the entries make up --------------------------------------------------------------------------


class CachedTree:
    """Which tree the entries of a directory make up, and those of the directories in it.

    Attributes:
        oid: The tree; None if that is not known.
        count: How many entries are below it; means nothing without `oid`.
        below: The directories in it, by name.
    """

    __slots__ = ("below", "count", "oid")

    def __init__(self, oid: Oid | None = None, count: int = -1) -> None:
        self.oid = oid
        self.count = count
        self.below: dict[bytes, CachedTree] = {}

    def invalidate(self, path: bytes) -> None:
        """Note that the entry at a path is about to change."""
        here: CachedTree | None = self
        for name in [*path.split(b"/")[:-1], b""]:
            if here is None:
                return
            here.oid = None
            here = here.below.get(name)


def find_cached_tree(end: bytes) -> CachedTree | None:
    """Find the extension `TREE` in the end of an index, without its entries; None if it is not there."""
    try:
        extensions = _parse_extensions(end[end.rindex(b"TREE") : -_CHECKSUM], frozenset())
        return parse_cached_tree(extensions[b"TREE"])
    except (KeyError, ValueError):  # a directory may have such a name, and the index be any kind
        return None


def parse_cached_tree(data: bytes) -> CachedTree:
    """Read the extension `TREE`."""
    top = CachedTree()
    waiting: list[tuple[CachedTree, int]] = [(top, 1)]
    at = 0
    try:
        while at < len(data):
            end = data.index(b"\0", at)
            name = data[at:end]
            at = data.index(b"\n", end) + 1
            counts = data[end + 1 : at - 1].split(b" ")
            count, subtrees = int(counts[0]), int(counts[1])
            node = CachedTree()
            if count >= 0:
                node.oid, node.count = Oid(data[at : at + 20]), count
                at += 20
            parent, left = waiting.pop()
            if left > 1:
                waiting.append((parent, left - 1))
            parent.below[name] = node
            if subtrees:
                waiting.append((node, subtrees))
        if waiting or len(top.below) != 1:
            raise BadIndex("its trees cannot be taken apart")
    except (IndexError, ValueError) as error:
        raise BadIndex("its trees cannot be taken apart") from error
    return next(iter(top.below.values()))


def serialize_cached_tree(tree: CachedTree) -> bytes:
    """Write the extension `TREE`."""
    pieces: list[bytes] = []
    pending: list[tuple[bytes, CachedTree]] = [(b"", tree)]
    while pending:
        name, node = pending.pop()
        count = -1 if node.oid is None else node.count
        pieces.append(b"%b\0%d %d\n" % (name, count, len(node.below)))
        if node.oid is not None:
            pieces.append(node.oid)
        # In git's order, by length first; it looks them up by bisection.
        pending += sorted(node.below.items(), key=lambda item: (len(item[0]), item[0]), reverse=True)
    return b"".join(pieces)

"""Git's index with all of its entries, where the file itself does not have them.

Decided here: how a split index (`core.splitIndex`) is joined with its shared index, and how a sparse index
(`index.sparse`) is expanded (gitformat-index(5)). Git reads what is written of it as an ordinary index, and splits or
shrinks it again when it next writes. A shared index is a file beside the index. Everything read may be hostile.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from pathlib import Path

from avfs_git.errors import NotAVault
from avfs_git.gitstore.formats.index import SPARSE, SPLIT, BadIndex, ForeignIndex, GitIndex, Staged, write_index
from avfs_git.gitstore.formats.trees import MODE_TREE
from avfs_git.gitstore.repofile import read_plain_file
from avfs_git.paths import Oid

INDEX_MAX = 384 << 20
"""Bytes of an index above which it is not read: that of 2,000,000 files is smaller."""
_ENTRIES_MAX = 2_000_000
_WORDS = struct.Struct(">II")
_SKIP_WORKTREE, _EXTENDED = 0x4000, 0x4000  # of the extended flags, and of the flags

_Entries = dict[tuple[bytes, int], Staged]
ReadTree = Callable[[Oid], Mapping[bytes, tuple[int, Oid]]]


def read_full_index(data: bytes, git_dir: Path, read_tree: ReadTree) -> GitIndex:
    """Read the index of a git directory, also if it is split or sparse.

    Raises:
        BadIndex: If it, or its shared index, is damaged or missing.
        ForeignIndex: If it has an extension that must be understood and is not.
    """
    try:
        return GitIndex(data)
    except ForeignIndex as error:
        if error.extension not in (SPLIT, SPARSE):
            raise
    index = GitIndex(data, understood=frozenset({SPLIT, SPARSE}))
    own = [index.entry(number) for number in range(len(index))]
    extensions = dict(index.extensions)
    link = extensions.pop(SPLIT, None)
    found = {(entry.path, entry.stage): entry for entry in own} if link is None else _join(own, link, git_dir)
    if extensions.pop(SPARSE, None) is not None:
        found = _expand(found, read_tree)
        extensions.pop(b"TREE", None)  # it counts a directory as one entry
    return GitIndex(write_index([found[key] for key in sorted(found)], extensions))


def _join(own: list[Staged], link: bytes, git_dir: Path) -> _Entries:
    """Put the entries of a split index in the place of those of its shared index."""
    if len(link) < 20:
        raise BadIndex("it does not say what it shares")
    if not any(link[:20]):
        return {(entry.path, entry.stage): entry for entry in own}
    try:
        index = GitIndex(read_plain_file(git_dir / f"sharedindex.{link[:20].hex()}", limit=INDEX_MAX))
    except (OSError, NotAVault) as error:
        raise BadIndex("its shared index cannot be read") from error
    shared: list[Staged | None] = [index.entry(number) for number in range(len(index))]
    try:
        deleted: list[int] = []
        replaced: list[int] = []
        end = len(link)
        if end > 20:
            deleted, end = _read_bitmap(link, 20, len(shared))
            replaced, end = _read_bitmap(link, end, len(shared))
        if end > len(link) or len(replaced) > len(own):
            raise BadIndex("it does not fit its shared index")
        for number, entry in zip(replaced, own, strict=False):
            before = shared[number]
            if before is None or entry.path:
                raise BadIndex("it does not fit its shared index")
            shared[number] = entry._replace(path=before.path)
        for number in deleted:
            shared[number] = None
    except (struct.error, IndexError) as error:
        raise BadIndex("it cannot be taken apart") from error
    kept = [*(entry for entry in shared if entry is not None), *own[len(replaced) :]]
    return {(entry.path, entry.stage): entry for entry in kept}


def _read_bitmap(data: bytes, at: int, count: int) -> tuple[list[int], int]:
    """Read a compressed bitmap (EWAH) over so many entries: give the numbers of the set bits, and where it ends."""
    _, words = _WORDS.unpack_from(data, at)
    at += _WORDS.size
    end = at + 8 * words
    found: list[int] = []
    position = 0
    while at < end:
        (marker,) = struct.unpack_from(">Q", data, at)
        at += 8
        bit, running, literals = marker & 1, (marker >> 1 & 0xFFFF_FFFF) * 64, marker >> 33
        if bit:
            found += range(position, min(position + running, count))
        position += running
        for literal in struct.unpack_from(f">{literals}Q", data, at):
            found += [position + number for number in range(64) if literal >> number & 1]
            position += 64
        at += 8 * literals
    return found, at + 4  # behind the place of the last marker


def _expand(entries: _Entries, read_tree: ReadTree) -> _Entries:
    """Replace each directory of a sparse index by its files: git leaves all of them out of the working tree."""
    found = {key: entry for key, entry in entries.items() if entry.mode != MODE_TREE}
    pending = [(entry.path, entry) for entry in entries.values() if entry.mode == MODE_TREE]
    met = len(entries)
    while pending:
        prefix, entry = pending.pop()
        tree = read_tree(entry.oid)
        met += len(tree)
        if met > _ENTRIES_MAX:
            raise BadIndex("it stands for too many files")
        for name, (mode, oid) in tree.items():
            below = entry._replace(path=prefix + name, mode=mode, oid=oid)
            if mode == MODE_TREE:
                pending.append((prefix + name + b"/", below))
            else:
                below = below._replace(flags=below.flags | _EXTENDED, extended=below.extended | _SKIP_WORKTREE)
                found[below.path, 0] = below
    return found

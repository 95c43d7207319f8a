"""What a git tree says: parsed, checked, written, searched and edited by path.

Decided here: which entries a tree may have (`parse_tree` refuses what must never reach a disk), the order of entries,
and how an edit of a few paths becomes new trees. Pure functions: objects come from an `ObjectSource` and go to an
`ObjectSink`.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Mapping
from functools import cache
from itertools import compress
from typing import TYPE_CHECKING

from avfs_git.errors import HostileTree, InternalError, InvalidPath, ObjectCorrupt
from avfs_git.paths import Oid, TreePath, components, join, list_above, oid_of, split
from avfs_git.patterns import compiled

if TYPE_CHECKING:
    from avfs_git.gitstore.source import ObjectSink, ObjectSource, Tree

MODE_FILE = 0o100644
MODE_EXEC = 0o100755
MODE_SYMLINK = 0o120000
MODE_TREE = 0o40000
MODE_GITLINK = 0o160000

EMPTY_TREE = oid_of("4b825dc642cb6eb9a060e54bf8d69288fbee4904")

_NULL_OID = b"\0" * 20

_MODES = {
    b"100644": MODE_FILE,
    b"40000": MODE_TREE,
    b"100755": MODE_EXEC,
    b"120000": MODE_SYMLINK,
    b"160000": MODE_GITLINK,
}
_SPELLED = {mode: text + b" " for text, mode in _MODES.items()}
# Git wrote group-writable files until 2005 and some hosts padded the mode of directories; git itself reads both so.
_FILE_MODES = (MODE_FILE, MODE_EXEC)
_OLD_MODES = {**_MODES, b"100664": MODE_FILE, b"040000": MODE_TREE}

_ENTRY = compiled(rb"([^ ]+) ([^\0/]+)\0(.{20})", re.DOTALL)
_ANY_ENTRY = compiled(rb"([^ \0]*) ([^\0]*)\0(.{20})", re.DOTALL)

# A dot first, then all that may make it `.`, `..` or `.git`; over names that NUL separates.
_DOT_NAME = compiled(rb"\0\.(?:\.?\0|[gG])")

# A name that NTFS opens as `.git`: trailing dots and spaces, the short name, an alternate stream; also after a
# backslash.
_NTFS_DOTGIT = compiled(rb"(?:^|\\)(?:\.git|git~1)[. ]*(?:\Z|[\\:])", re.IGNORECASE | re.DOTALL)
# A name that HFS+ opens as `.git`: it ignores these code points wherever they stand.
_IGNORED = rb"(?:\xe2\x80[\x8c-\x8f\xaa-\xae]|\xe2\x81[\xaa-\xaf]|\xef\xbb\xbf)*"
_HFS_DOTGIT = compiled(_IGNORED + _IGNORED.join([rb"\.", b"g", b"i", b"t", b""]), re.IGNORECASE)

# How a name in ASCII and without a backslash begins if it is one of those.
_SUSPICIOUS = (b".", b"g", b"G")


@cache
def _spellings(name: bytes, short: bytes) -> tuple[re.Pattern[bytes], re.Pattern[bytes]]:
    """Make the patterns of what NTFS and HFS+ open as `.NAME`.

    `short` is how NTFS begins a short name when others are taken.
    """
    numbered = b"|".join(short[:kept] + rb"~[1-9][0-9]{%d}" % (6 - kept) for kept in range(7))
    ntfs = rb"(?:\.%b|%b~[1-4]|%b)[. ]*(?:\Z|:)" % (name, name[:6], numbered)
    return re.compile(ntfs, re.IGNORECASE | re.DOTALL), re.compile(
        _IGNORED + rb"\." + _IGNORED + _IGNORED.join(bytes((letter,)) for letter in name) + _IGNORED, re.IGNORECASE
    )


_GITMODULES = b"gitmodules", b"gi7eba"
_GITATTRIBUTES = b"gitattributes", b"gi7d29"


def is_forbidden_kind(name: bytes, mode: int) -> bool:
    """Tell whether `git fsck --strict` refuses this name for what it is here.

    `.gitmodules` may be neither a symbolic link nor a directory, `.gitattributes` no directory, in every spelling that
    some file system folds to them.
    """
    if mode == MODE_SYMLINK:
        return _is_spelling(name, _GITMODULES)
    return mode in (MODE_TREE, MODE_GITLINK) and (_is_spelling(name, _GITMODULES) or _is_spelling(name, _GITATTRIBUTES))


def _is_spelling(name: bytes, forbidden: tuple[bytes, bytes]) -> bool:
    ntfs, hfs = _spellings(*forbidden)  # made when first asked for: most processes never do
    if ntfs.match(name):
        return True
    match = hfs.match(name)
    return match is not None and not _starts_with_a_character(name[match.end() :])


def is_forbidden_name(name: bytes) -> bool:
    """Tell whether git refuses this name in a tree.

    That is `.`, `..`, and `.git` in every spelling that some file system folds to it.
    """
    if name.isascii() and name[:1] not in _SUSPICIOUS and b"\\" not in name:
        return False
    if name in (b".", b".."):
        return True
    if _NTFS_DOTGIT.search(name):
        return True
    match = _HFS_DOTGIT.match(name)
    return match is not None and not _starts_with_a_character(name[match.end() :])


def _starts_with_a_character(rest: bytes) -> bool:
    """Tell whether one well-formed UTF-8 character comes next; git takes a malformed one for the end of the name."""
    if not rest:
        return False
    lead = rest[0]
    if lead < 0x80:
        return True
    size = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    try:
        character = rest[:size].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return character not in ("￾", "￿")


def parse_tree(data: bytes, oid: Oid) -> Tree:
    """Read a tree object: its entries by name, in git's order, each checked.

    Raises:
        HostileTree: If a name must never be written to a disk, or stands there twice.
        ObjectCorrupt: If it is no tree, or no tree that git would write.
    """
    if not data:
        return {}
    found = _ENTRY.findall(data)
    if not found:
        return _parse_slowly(data, oid)
    modes, names, oids = zip(*found, strict=True)
    try:
        tree = dict(zip(names, zip(map(_MODES.__getitem__, modes), oids, strict=True), strict=True))
    except KeyError:
        return _parse_slowly(data, oid)
    joined = b"\0" + b"\0".join(names) + b"\0"
    directories = modes.count(b"40000")
    # Of each entry 27 bytes are not in `joined`: the mode (a directory's is a byte shorter), a space, the id.
    # What the pattern skipped, or a name that is there twice, shows in the sums.
    if len(data) != 27 * len(found) + len(joined) - 1 - directories or len(tree) != len(found):
        return _parse_slowly(data, oid)
    order = [name + b"/" if mode == b"40000" else name for mode, name, _ in found] if directories else list(names)
    if order != sorted(order) or _NULL_OID in oids:
        return _parse_slowly(data, oid)
    if _may_hold_forbidden_name(joined):
        for name in names:
            if is_forbidden_name(name):
                raise HostileTree(oid.hex(), name, "is a name that git forbids")
    if (directories or b"120000" in modes or b"160000" in modes) and _may_hold_forbidden_kind(joined):
        for name, (mode, _) in tree.items():
            if mode not in _FILE_MODES and is_forbidden_kind(name, mode):
                raise HostileTree(oid.hex(), name, "is a name that git forbids for what it is")
    return tree


def _may_hold_forbidden_kind(joined: bytes) -> bool:
    """Look over all names of a tree at once; quiet only if `is_forbidden_kind` refuses none of them, of any kind."""
    folded = joined.lower()
    return b"gitmod" in folded or b"gitatt" in folded or b"gi7" in folded or not folded.isascii()


def _may_hold_forbidden_name(joined: bytes) -> bool:
    """Look over all names of a tree at once; quiet only if `is_forbidden_name` refuses none of them."""
    return (
        b"\\" in joined
        or b"~1" in joined
        or (not joined.isascii() and (b"\xe2\x80" in joined or b"\xe2\x81" in joined or b"\xef\xbb\xbf" in joined))
        or (b"\0." in joined and _DOT_NAME.search(joined) is not None)
    )


def _parse_slowly(data: bytes, oid: Oid) -> Tree:
    """Read a tree entry by entry, to accept old spellings of modes and to say what is wrong."""
    tree: dict[bytes, tuple[int, Oid]] = {}
    position = 0
    before = b""
    while position < len(data):
        match = _ANY_ENTRY.match(data, position)
        if match is None:
            raise ObjectCorrupt(oid.hex(), "an entry of the tree is cut short")
        text, name, entry = match.groups()
        position = match.end()
        if not name:
            raise HostileTree(oid.hex(), name, "is an empty name")
        if b"/" in name:
            raise HostileTree(oid.hex(), name, "holds a slash")
        if is_forbidden_name(name):
            raise HostileTree(oid.hex(), name, "is a name that git forbids")
        if name in tree:
            raise HostileTree(oid.hex(), name, "is there twice")
        mode = _OLD_MODES.get(text)
        if mode is None:
            raise ObjectCorrupt(oid.hex(), f"an entry of the tree has mode '{text[:12].decode('ascii', 'replace')}'")
        if is_forbidden_kind(name, mode):
            raise HostileTree(oid.hex(), name, "is a name that git forbids for what it is")
        if entry == _NULL_OID:
            raise ObjectCorrupt(oid.hex(), "an entry of the tree has no id")
        key = name + b"/" if mode == MODE_TREE else name
        if key < before:
            raise ObjectCorrupt(oid.hex(), "the entries of the tree are not in order")
        before = key
        tree[name] = (mode, Oid(entry))
    return tree


def sort_tree(entries: Mapping[bytes, tuple[int, Oid]]) -> dict[bytes, tuple[int, Oid]]:
    """Put entries in git's order: by name, that of a directory as if it ended in a slash (git-mktree(1))."""
    keys = [name + b"/" if held[0] == MODE_TREE else name for name, held in entries.items()]
    order = sorted(keys)
    if keys == order:  # as when entries of a tree that was read got other values
        return dict(entries)
    by_key = dict(zip(keys, entries.items(), strict=True))
    return dict([by_key[key] for key in order])


def serialize_tree(entries: Mapping[bytes, tuple[int, Oid]], *, in_order: bool = False) -> bytes:
    """Write a tree object of entries in any order, or `in_order` as `sort_tree` puts them.

    Raises:
        InvalidPath: If git does not allow a name in a tree.
    """
    joined = b"\0" + b"\0".join(entries) + b"\0"
    if (
        b"/" in joined
        or joined.count(b"\0") != len(entries) + 1
        or b"\0\0" in joined
        or _may_hold_forbidden_name(joined)
    ):
        for name in entries:
            _check_name(name)
    if in_order:
        return serialize_sorted(entries)
    try:
        parts = [
            (name + b"/" if mode == MODE_TREE else name, b"%b%b\0%b" % (_SPELLED[mode], name, oid))
            for name, (mode, oid) in entries.items()
        ]
    except KeyError as error:
        raise InternalError(f"a tree entry cannot have mode {error.args[0]!r}") from None
    parts.sort()
    return b"".join([part for _, part in parts])


def serialize_sorted(entries: Tree) -> bytes:
    """Write a tree object of entries that are in git's order, with names that git allows."""
    parts: list[bytes] = []
    try:
        for name, (mode, oid) in entries.items():
            parts += (_SPELLED[mode], name, b"\0", oid)  # half of what formatting each entry takes
    except KeyError as error:
        raise InternalError(f"a tree entry cannot have mode {error.args[0]!r}") from None
    return b"".join(parts)


def _check_entry(name: bytes, mode: int) -> None:
    _check_name(name)
    if mode not in _FILE_MODES and is_forbidden_kind(name, mode):
        raise InvalidPath(name, "git does not allow this name for what it is")


def _check_name(name: bytes) -> None:
    if not name or b"/" in name or b"\0" in name:
        raise InvalidPath(name, "it cannot be one name in a tree")
    if is_forbidden_name(name):
        raise InvalidPath(name, "git does not allow this name in a tree")


def differing_names(before: Tree, after: Tree) -> list[bytes]:
    """List the names whose entries differ, in any order."""
    names = list(after)
    if len(before) == len(names) and names == list(before):
        # Mostly no name comes or goes; side by side costs a fifth of looking each up, which shows in large directories.
        return list(compress(names, map(operator.ne, before.values(), after.values())))
    names = [name for name, entry in after.items() if before.get(name) != entry]
    if len(before) + sum(name not in before for name in names) != len(after):
        names += [name for name in before if name not in after]
    return names


def find_entry(source: ObjectSource, tree: Oid, path: TreePath) -> tuple[int, Oid] | None:
    """Look a path up below a tree: its mode and id, or None; the root is the tree itself."""
    entry: tuple[int, Oid] = (MODE_TREE, tree)
    for name in components(path):
        if entry[0] != MODE_TREE:
            return None
        found = source.read_tree(entry[1]).get(name)
        if found is None:
            return None
        entry = found
    return entry


def edit_tree(
    source: ObjectSource, sink: ObjectSink, tree: Oid | None, edits: Mapping[TreePath, tuple[int, Oid] | None]
) -> Oid | None:
    """Apply edits by path to a tree and return the id of the new one; None if nothing is left.

    Only trees on the paths are read and rebuilt, and unchanged ones are not written again. An edit replaces what is at
    its path, None removes it; edits below it apply to what it put there. A directory that comes to hold nothing
    vanishes, as in git.

    Raises:
        InvalidPath: If an edit puts something at a name that git does not allow in a tree.
    """
    if not edits:
        return tree
    plan = _plan_edits(edits)
    directories = sorted(plan, key=lambda directory: (directory.count(b"/") + 1 if directory else 0, directory))
    before: dict[TreePath, Tree] = {}
    changed: dict[TreePath, dict[bytes, tuple[int, Oid] | None]] = {}
    """What comes to stand there; the rest is as before."""

    def held(directory: TreePath, name: bytes) -> tuple[int, Oid] | None:
        edits = changed[directory]
        return edits[name] if name in edits else before[directory].get(name)

    def put(directory: TreePath, name: bytes, entry: tuple[int, Oid]) -> None:
        there = held(directory, name)
        if there is None or there[0] != entry[0]:
            _check_entry(name, entry[0])
        changed[directory][name] = entry

    # From the root down: read each tree on the way, as its parent's edits leave it.
    for directory in directories:
        base: tuple[int, Oid] | None = None
        if not directory:
            base = None if tree is None else (MODE_TREE, tree)
        else:
            parent, name = split(directory)
            base = held(parent, name)
            if base is not None and base[0] != MODE_TREE:
                if plan[parent].get(name) is not None and _adds_something(plan, directory):
                    raise InternalError(f"an edit puts something below the file {name!r}")
                base = None
        before[directory] = {} if base is None else source.read_tree(base[1])
        changed[directory] = {}
        for name, edit in plan[directory].items():
            if edit is None:
                changed[directory][name] = None
            else:
                put(directory, name, edit)

    # From the leaves up: write what differs, and tell the parent.
    for directory in reversed(directories):
        there = before[directory]
        edited = {name: entry for name, entry in changed[directory].items() if there.get(name) != entry}
        is_left = len(there) + sum(
            (entry is not None) - (name in there)
            for name, entry in edited.items()
            if entry is None or name not in there
        )
        if not directory:
            if not is_left:
                return None
            return tree if tree is not None and not edited else _write_edited(sink, there, edited)
        if is_left and not edited:
            continue  # the parent names it already
        parent, name = split(directory)
        if is_left:
            put(parent, name, (MODE_TREE, _write_edited(sink, there, edited)))
        elif (stale := held(parent, name)) is not None and stale[0] == MODE_TREE:
            changed[parent][name] = None  # a file of that name stays: nothing was put below it
    raise InternalError("an edit of a tree did not reach its root")


def _write_edited(sink: ObjectSink, tree: Tree, edits: Mapping[bytes, tuple[int, Oid] | None]) -> Oid:
    """Write a tree with some entries changed."""
    edited = dict(tree)
    is_in_order = True
    for name, entry in edits.items():
        if entry is None:
            edited.pop(name, None)
        else:
            # Git's order is that of a tree that was read, unless something came or is of another kind.
            is_in_order = is_in_order and name in edited and edited[name][0] == entry[0]
            edited[name] = entry
    return sink.add_sorted(edited if is_in_order else sort_tree(edited))


def _plan_edits(
    edits: Mapping[TreePath, tuple[int, Oid] | None],
) -> dict[TreePath, dict[bytes, tuple[int, Oid] | None]]:
    """Sort edits by directory; every directory on the way to one is there."""
    plan: dict[TreePath, dict[bytes, tuple[int, Oid] | None]] = {}
    for path, edit in edits.items():
        if not path:
            raise InternalError("the root of a tree cannot be replaced by an edit")
        directory, name = split(path)
        plan.setdefault(directory, {})[name] = edit
    for directory in list_above(plan):
        plan.setdefault(directory, {})
    return plan


def _adds_something(plan: Mapping[TreePath, Mapping[bytes, tuple[int, Oid] | None]], directory: TreePath) -> bool:
    below = join(directory, b"")
    return any(
        edit is not None
        for place, edits in plan.items()
        if place == directory or place.startswith(below)
        for edit in edits.values()
    )

"""What the sidecar holds of one directory, its children and all entries' attributes, while a capture changes some.

Decided here: when a `meta` blob and a sidecar tree (`vfs.layer.sidecar`) are taken apart. Where a few files of a
directory changed, as mostly, only these are looked at. Used by `workspace.capture.placing`, in one thread. No disk, no
locks.
"""

from __future__ import annotations

from avfs_git.gitstore.source import Tree
from avfs_git.paths import Oid
from avfs_git.vfs.layer.sidecar import (
    UNTRACKED,
    Record,
    SideEntry,
    check_sidecar,
    edit_children,
    edit_records,
    find_child,
    find_record,
    parse_records,
    parse_sidecar,
    serialize_records,
)

_FEW = 64
"""Records up to which finding each costs less than taking all of them apart."""


class Records:
    """The records of one directory, by name.

    Raises ObjectCorrupt from any method if what it began with is no `meta` blob.
    """

    __slots__ = ("_all", "_data", "_edits", "_oid", "is_changed")

    def __init__(self, data: bytes = b"", oid: Oid | None = None) -> None:
        """Begin with a blob, whose id messages name; or with no records."""
        self._data = data
        self._oid = oid or Oid(b"")
        self._edits: dict[bytes, Record | None] = {}
        self._all: dict[bytes, Record] | None = None if data else {}
        self.is_changed = False
        """Whether anything was put in."""

    def get(self, name: bytes) -> Record | None:
        """Give the record of a name; None if there is none."""
        if self._all is not None:
            return self._all.get(name)
        return self._edits[name] if name in self._edits else find_record(self._data, name, self._oid)

    def put(self, name: bytes, record: Record | None) -> None:
        """Give a name a record; None takes it away."""
        self.is_changed = True
        if self._all is None:
            self._edits[name] = record
            if len(self._edits) <= _FEW:
                return
            self._all = parse_records(self._data, self._oid)
            for edited, held in self._edits.items():
                self._put(self._all, edited, held)
        else:
            self._put(self._all, name, record)

    @staticmethod
    def _put(records: dict[bytes, Record], name: bytes, record: Record | None) -> None:
        if record is None:
            records.pop(name, None)
        else:
            records[name] = record

    def serialize(self) -> bytes:
        """Write the blob that holds them now; empty if there are none."""
        return edit_records(self._data, self._edits, self._oid) if self._all is None else serialize_records(self._all)


class Children:
    """The children of one directory in its sidecar tree, by name."""

    __slots__ = ("_edits", "_tree")

    def __init__(self, tree: Tree | None = None, oid: Oid | None = None) -> None:
        """Begin with a tree, whose id messages name; or with no children."""
        self._tree: Tree = tree or {}
        self._edits: dict[bytes, SideEntry | None] = {}
        check_sidecar(self._tree, oid or Oid(b""))

    def get(self, name: bytes) -> SideEntry | None:
        """Give a child; None if there is none."""
        return self._edits[name] if name in self._edits else find_child(self._tree, name)

    def put(self, name: bytes, entry: SideEntry | None) -> SideEntry | None:
        """Put a child in the place of the one of that name, which is returned; None takes it away."""
        before = self.get(name)
        if before != entry:
            self._edits[name] = entry
        return before

    def list_all(self) -> list[tuple[bytes, SideEntry]]:
        """List all children. Costs the size of the directory."""
        found = {**parse_sidecar(self._tree, Oid(b""))[0], **self._edits}
        return [(name, entry) for name, entry in found.items() if entry is not None]

    def hold_untracked(self) -> bool:
        """Whether only the sidecar holds one of them, or something below one."""
        return any(entry.startswith(UNTRACKED) for entry in self.compose(None))

    def compose(self, meta: Oid | None) -> dict[bytes, tuple[int, Oid]]:
        """Make the entries of the tree that holds them now, with a `meta` blob."""
        return edit_children(self._tree, self._edits, meta)

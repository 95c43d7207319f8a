"""The attributes of one directory's entries, while a capture changes some of them.

Decided here: when a `meta` blob (`vfs.layer.sidecar`) is taken apart. Where a few files of a directory changed, as mostly, their
records are found and put back within its bytes; the others are not looked at. Used by `workspace.capture.capture`, in one
thread. No disk, no locks.
"""

from __future__ import annotations

from avfs_git.paths import Oid
from avfs_git.vfs.layer.sidecar import Record, edit_records, find_record, parse_records, serialize_records

_FEW = 8
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

"""Records that are changed within their blob come out as if all of them had been taken apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfs_git.errors import ObjectCorrupt
from avfs_git.paths import Oid
from avfs_git.vfs.layer.records import Records
from avfs_git.vfs.layer.sidecar import plain_record, serialize_records

OID = Oid(b"o" * 20)
names = st.binary(min_size=1, max_size=4).map(lambda name: name.translate(None, b"\0/") or b" ")
records = st.builds(lambda time, mode: b"%d %s -" % (time, mode), st.integers(-5, 10**18), st.sampled_from([b"-", b"600"]))


@given(held=st.dictionaries(names, records, max_size=12), edits=st.lists(st.tuples(names, st.none() | records), max_size=20))
def test_edited_records_are_what_a_dictionary_holds(held: dict[bytes, bytes], edits: list[tuple[bytes, bytes | None]]) -> None:
    """Whatever is put in, in whatever order, each record and the whole blob are those of a plain dictionary."""
    found = Records(serialize_records(held), OID)
    for name, record in edits:
        assert found.get(name) == held.get(name)
        found.put(name, record)
        if record is None:
            held.pop(name, None)
        else:
            held[name] = record
        assert found.get(name) == record
    assert found.is_changed == bool(edits)
    assert found.serialize() == serialize_records(held)


def test_what_is_no_blob_of_records_is_refused() -> None:
    """A record that is asked for is checked; so are all of them where many change."""
    with pytest.raises(ObjectCorrupt):
        Records(b"cut short", OID).get(b"short")
    found = Records(b"not one\0" + serialize_records({b"a": plain_record(1)}), OID)
    with pytest.raises(ObjectCorrupt):
        _put_many(found)


def _put_many(found: Records) -> None:
    for number in range(100):
        found.put(b"%d" % number, plain_record(number))

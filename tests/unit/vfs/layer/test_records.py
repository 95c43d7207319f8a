"""What is changed within a blob or tree of a sidecar comes out as if all of it had been taken apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfs_git.errors import ObjectCorrupt
from avfs_git.paths import Oid
from avfs_git.vfs.layer.records import Children, Records
from avfs_git.vfs.layer.sidecar import SideEntry, compose_sidecar, plain_record, serialize_records

OID = Oid(b"o" * 20)
names = st.binary(min_size=1, max_size=4).map(lambda name: name.translate(None, b"\0/") or b" ")
children = st.builds(SideEntry, st.sampled_from([0o100644, 0o40000]), st.just(OID), st.booleans())
child_names = st.one_of(names, st.sampled_from([b"%", b"\\", b"%25", b"a%5C"])).filter(
    lambda name: name not in (b".", b"..")
)
records = st.builds(
    lambda time, mode: b"%d %s -" % (time, mode), st.integers(-5, 10**18), st.sampled_from([b"-", b"600"])
)


@given(
    held=st.dictionaries(names, records, max_size=12),
    edits=st.lists(st.tuples(names, st.none() | records), max_size=100),
)
def test_edited_records_are_what_a_dictionary_holds(
    held: dict[bytes, bytes], edits: list[tuple[bytes, bytes | None]]
) -> None:
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


@given(
    held=st.dictionaries(child_names, children, max_size=12),
    edits=st.lists(st.tuples(child_names, st.none() | children), max_size=20),
    meta=st.none() | st.just(OID),
)
@pytest.mark.slow
def test_edited_children_are_what_a_dictionary_holds(
    held: dict[bytes, SideEntry], edits: list[tuple[bytes, SideEntry | None]], meta: Oid | None
) -> None:
    """Whatever is put in, in whatever order, each child and the whole tree are those of a plain dictionary."""
    found = Children(compose_sidecar(held, OID), OID)
    for name, entry in edits:
        assert found.put(name, entry) == held.pop(name, None)
        if entry is not None:
            held[name] = entry
        assert found.get(name) == entry
    assert dict(found.list_all()) == held
    assert found.compose(meta) == compose_sidecar(held, meta)
    assert found.hold_untracked() == any(entry.untracked for entry in held.values())


@pytest.mark.parametrize("entry", [b"a", b"=", b"=.", b"=%2", b"+a\\"])
def test_what_is_no_tree_of_a_sidecar_is_refused(entry: bytes) -> None:
    """A tree with an entry that no sidecar has is refused at once."""
    with pytest.raises(ObjectCorrupt):
        Children({b"=good": (0o100644, OID), entry: (0o100644, OID)}, OID)


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

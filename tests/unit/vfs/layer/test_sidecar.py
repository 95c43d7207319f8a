"""The sidecar's format: what is written is read, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfs_git.errors import ObjectCorrupt
from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.formats.trees import MODE_TREE, is_forbidden_name, parse_tree, serialize_tree
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.paths import ROOT, Oid, TreePath, split
from avfs_git.vfs.layer.sidecar import (
    TIME_MAX_NS,
    TIME_MIN_NS,
    Meta,
    SideEntry,
    any_xattrs,
    compose_sidecar,
    differ_beyond_times,
    edit_sidecar,
    edit_untracked,
    find_child,
    find_record,
    format_record,
    parse_record,
    parse_records,
    parse_sidecar,
    serialize_records,
)

OID = Oid(b"\1" * 20)
_any_names = st.binary(min_size=1, max_size=20).filter(
    lambda name: b"/" not in name and b"\0" not in name and name not in (b".", b"..")
)
_odd_names = st.sampled_from(
    [b".git", b".GIT", b"git~1", b"a\\.git", b"%", b"%5C", b"%25", b"\\", b"meta", b"=", b"+x", b" ", b"\n", b"1 - - x"]
)
_names = st.one_of(_any_names, _odd_names)
_metas = st.builds(
    Meta,
    st.none() | st.integers(TIME_MIN_NS, TIME_MAX_NS),
    st.none() | st.integers(0, 0o7777),
    st.lists(st.tuples(st.binary(min_size=1, max_size=9), st.binary(max_size=9)), max_size=3).map(tuple),
)


@given(
    st.dictionaries(
        _names,
        st.builds(SideEntry, st.sampled_from([0o100644, 0o100755, 0o40000, 0o120000]), st.just(OID), st.booleans()),
    )
)
def test_children_make_the_round_trip(children: dict[bytes, SideEntry]) -> None:
    """Any name a disk can have goes into a tree that git accepts, and comes back."""
    entries = compose_sidecar(children, OID)
    assert not any(is_forbidden_name(name) for name in entries)
    read = parse_tree(serialize_tree(entries), OID)
    assert parse_sidecar(read, OID) == (children, OID)


@given(st.dictionaries(_names, _metas))
@pytest.mark.slow
def test_metadata_makes_the_round_trip(metas: dict[bytes, Meta]) -> None:
    """Times, modes and attributes of entries of any name come back as they were."""
    records = {name: format_record(meta) for name, meta in metas.items()}
    data = serialize_records(records)
    assert parse_records(data, OID) == records
    assert {name: parse_record(record, OID) for name, record in records.items()} == metas
    assert serialize_records(dict(reversed(records.items()))) == data


@given(st.dictionaries(_names, _metas))
@pytest.mark.slow
def test_whether_there_are_attributes_is_told_without_reading_them(metas: dict[bytes, Meta]) -> None:
    """It agrees with the records, whatever their names look like."""
    records = {name: format_record(meta) for name, meta in metas.items()}
    assert any_xattrs(serialize_records(records)) == any(meta.xattrs for meta in metas.values())


@pytest.mark.parametrize("name", [b"x", b"=", b"+", b"=.", b"=..", b"=%2F", b"=%", b"=a%5c", b"meta2", b"-x"])
def test_foreign_entries_are_refused(name: bytes) -> None:
    """What no sidecar holds is called corrupt, never shown under a guessed name."""
    with pytest.raises(ObjectCorrupt):
        parse_sidecar({name: (0o100644, OID)}, OID)


@pytest.mark.parametrize(
    "data", [b"x", b"1 - - a", b"1 - -\0", b"1 9 - a\0", b"1 - - a\0garbage", b"\0", b"1 - - a\0\0", b"1  - - a\0"]
)
def test_foreign_metadata_is_refused(data: bytes) -> None:
    """Metadata that is not whole is called corrupt."""
    with pytest.raises(ObjectCorrupt):
        parse_records(data, OID)


def test_attribute_that_is_not_base64_is_refused() -> None:
    """So is a value that cannot be decoded."""
    with pytest.raises(ObjectCorrupt):
        parse_record(b"1 - user.a=%%%", OID)


def test_times_alone_are_no_difference() -> None:
    """Records differ for people in modes and attributes; a missing record has neither."""
    plain, later, odd = format_record(Meta(1)), format_record(Meta(2)), format_record(Meta(1, 0o600))
    assert not differ_beyond_times(plain, later)
    assert not differ_beyond_times(None, plain)
    assert differ_beyond_times(plain, odd)
    assert differ_beyond_times(odd, None)


@given(st.dictionaries(_names, _metas), _names)
@pytest.mark.slow
def test_one_record_is_found_without_the_others(metas: dict[bytes, Meta], other: bytes) -> None:
    """Every record, and none where there is none, also among names with spaces that end like others."""
    records = {name: format_record(meta) for name, meta in metas.items()}
    data = serialize_records(records)
    for name in (*metas, other):
        assert find_record(data, name, OID) == records.get(name)


@given(st.dictionaries(_names, st.builds(SideEntry, st.just(MODE_TREE), st.just(OID), st.booleans())), _names)
def test_one_child_is_found_without_the_others(children: dict[bytes, SideEntry], other: bytes) -> None:
    """Every child by its real name, and none where there is none."""
    entries = compose_sidecar(children, OID)
    for name in (*children, other):
        assert find_child(entries, name) == children.get(name)


_paths = st.lists(st.sampled_from([b"a", b"b", b"a b", b"%"]), min_size=1, max_size=3).map(b"/".join).map(TreePath)
_records = _metas.map(format_record)


@given(st.dictionaries(_paths, _records), st.sets(_paths), st.dictionaries(_paths, _records | st.none()))
@pytest.mark.slow
def test_edits_of_a_sidecar_are_those_of_its_records(
    before: dict[TreePath, bytes], untracked: set[TreePath], changes: dict[TreePath, bytes | None]
) -> None:
    """Records come, change and go at any depth; what only the sidecar holds stays, and no empty tree is left."""
    writer = DryWriter(ObjectStore(Path("/nonexistent")))
    untracked = {TreePath(path + b"/x") for path in untracked}
    sidecar = _build(writer, before, untracked)
    edits: dict[TreePath, dict[bytes, bytes | None]] = {}
    for path, record in changes.items():
        above, name = split(path)
        edits.setdefault(above, {})[name] = record

    edited = edit_sidecar(writer, sidecar, edits)

    after = {path: record for path, record in {**before, **changes}.items() if record is not None}
    assert edited == _build(writer, after, untracked)
    assert edit_sidecar(writer, edited, edits) == edited


@given(st.dictionaries(_paths, _records), st.sets(_paths), st.sets(_paths), st.sets(_paths))
def test_files_that_leave_history_are_beside_it_and_those_that_come_into_it_are_not(
    records: dict[TreePath, bytes], before: set[TreePath], left: set[TreePath], came: set[TreePath]
) -> None:
    """Their attributes stay, and a directory is marked as what it has below it then."""
    writer = DryWriter(ObjectStore(Path("/nonexistent")))
    before, left, came = ({TreePath(path + b"/x") for path in paths} for paths in (before, left, came))
    edits = {**dict.fromkeys(left, (0o100644, OID)), **dict.fromkeys(came, None)}

    edited = edit_untracked(writer, _build(writer, records, before), edits)

    assert edited == _build(writer, records, (before | left) - came)


def _build(
    writer: DryWriter, records: dict[TreePath, bytes], untracked: set[TreePath], at: TreePath = ROOT
) -> Oid | None:
    """Make a sidecar from what it is to hold."""
    here = {split(path)[1]: record for path, record in records.items() if split(path)[0] == at}
    start = at + b"/" if at else b""
    below = {
        path[len(start) :].split(b"/")[0] for path in (*records, *untracked) if path.startswith(start) and path != at
    }
    children: dict[bytes, SideEntry] = {}
    for name in below:
        path = TreePath(start + name)
        if path in untracked:
            children[name] = SideEntry(0o100644, OID, untracked=True)
            continue
        held = _build(writer, records, untracked, path)
        if held is not None:
            children[name] = SideEntry(MODE_TREE, held, any(one.startswith(path + b"/") for one in untracked))
    meta = writer.add(KIND_BLOB, serialize_records(here), keep=True) if here else None
    entries = compose_sidecar(children, meta)
    return writer.add_tree(entries) if entries else None

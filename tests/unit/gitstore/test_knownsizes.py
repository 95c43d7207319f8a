"""Sizes that a server has told are kept on disk, shared by processes, and never believed where they may be damaged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from avfs_git.gitstore import knownsizes
from avfs_git.gitstore.knownsizes import KnownSizes
from avfs_git.paths import Oid


def oid(number: int) -> Oid:
    """Make an id; neighbouring numbers are far apart."""
    return Oid(bytes([number * 37 % 256]) + number.to_bytes(19, "big"))


def sizes(start: int, stop: int) -> dict[Oid, int]:
    """Make sizes of some ids."""
    return {oid(number): number * 1000 for number in range(start, stop)}


def test_what_is_kept_is_found_by_others_too(tmp_path: Path) -> None:
    """Each size by its id, in this object, in one that looked before, and in one that comes later; of others nothing."""
    one, other = KnownSizes(tmp_path / "cache/sizes"), KnownSizes(tmp_path / "cache/sizes")
    before = other.find(oid(1))
    one.add(sizes(0, 100))
    one.add({oid(200): (1 << 40)})
    later = KnownSizes(tmp_path / "cache/sizes")

    assert before is None
    for known in (one, other, later):
        assert {each: known.find(each) for each in sizes(0, 100)} == sizes(0, 100)
        assert known.find(oid(200)) == 1 << 40
        assert known.find(oid(201)) is None


def test_many_tables_become_one(tmp_path: Path) -> None:
    """Nothing is lost by that, not even to who still has the old ones open."""
    known, other = KnownSizes(tmp_path / "sizes"), KnownSizes(tmp_path / "sizes")
    for start in range(0, 100, 10):
        known.add(sizes(start, start + 10))
        assert other.find(oid(start)) == start * 1000

    assert len(os.listdir(tmp_path / "sizes")) <= 8
    for each in (known, other, KnownSizes(tmp_path / "sizes")):
        assert {found: each.find(found) for found in sizes(0, 100)} == sizes(0, 100)


@pytest.mark.parametrize("damage", ["cut", "empty", "bit", "foreign"])
def test_a_damaged_table_is_removed(damage: str, tmp_path: Path) -> None:
    """What a power cut leaves of a file that nobody forced to disk is not believed."""
    KnownSizes(tmp_path / "sizes").add(sizes(0, 10))
    (table,) = (tmp_path / "sizes").iterdir()
    data = table.read_bytes()
    bit = data[:-1] + bytes([data[-1] ^ 1])
    table.write_bytes({"cut": data[:-3], "empty": b"", "bit": bit, "foreign": b"x" * len(data)}[damage])
    known = KnownSizes(tmp_path / "sizes")

    assert known.find(oid(1)) is None
    assert list((tmp_path / "sizes").iterdir()) == []
    known.add(sizes(0, 2))
    assert known.find(oid(1)) == 1000


def test_a_server_that_lied_is_believed_no_more(tmp_path: Path) -> None:
    """Nothing of what it has told is found, by those who had it open neither, and nothing is added."""
    known, other = KnownSizes(tmp_path / "sizes"), KnownSizes(tmp_path / "sizes")
    known.add(sizes(0, 10))
    seen = other.find(oid(1))
    known.refuse()
    known.add(sizes(0, 10))

    assert seen == 1000
    for each in (known, other, KnownSizes(tmp_path / "sizes")):
        assert each.is_refused
        assert each.find(oid(1)) is None


def test_silence_ends_after_a_day(tmp_path: Path) -> None:
    """A server that told no sizes is asked again then."""
    known = KnownSizes(tmp_path / "sizes")
    fresh = known.is_silent
    known.note_silent()
    noted = known.is_silent
    past = os.stat(tmp_path / "sizes/silent").st_mtime - 86_401
    os.utime(tmp_path / "sizes/silent", (past, past))

    assert (fresh, noted, known.is_silent) == (False, True, False)


def test_what_is_full_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables stay below a bound; what is there goes on being found."""
    monkeypatch.setattr(knownsizes, "_LIMIT_BYTES", 1000)
    known = KnownSizes(tmp_path / "sizes")
    known.add(sizes(0, 50))
    known.add(sizes(50, 60))

    assert known.is_full
    assert (known.find(oid(49)), known.find(oid(50))) == (49_000, None)


def test_a_directory_that_takes_nothing_is_no_error(tmp_path: Path) -> None:
    """Sizes are asked for again then."""
    (tmp_path / "file").write_text("x")
    known = KnownSizes(tmp_path / "file/sizes")
    known.add(sizes(0, 3))
    known.note_silent()

    assert known.find(oid(1)) is None

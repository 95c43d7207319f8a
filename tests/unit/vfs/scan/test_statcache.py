"""The stat cache: what counts as unchanged, and what a damaged file of it costs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from avfs_git.paths import Oid, TreePath
from avfs_git.vfs.layer.readers import PlainDirectory
from avfs_git.vfs.scan.scan import DirtySet, scan_directory
from avfs_git.vfs.scan.statcache import StatCache, StatCacheUpdate, is_same_entry, take_fingerprint

TREE, SIDECAR, COMMIT = (Oid(bytes([number]) * 20) for number in (1, 2, 3))
LATER_NS = 2**62


def prints(*names: bytes) -> dict[bytes, bytes]:
    """Make fingerprints that differ by name."""
    return {name: name.ljust(len(take_fingerprint(os.stat("/"))), b".") for name in names}


def update(path: bytes, *names: bytes, dropped: tuple[bytes, ...] = ()) -> StatCacheUpdate:
    """Make what a capture learnt of one directory."""
    made = StatCacheUpdate()
    made.set_directory(TreePath(path), prints(*names), dropped)
    return made


def test_changed_twice_within_a_tick_is_never_the_same(tmp_path: Path) -> None:
    """An entry that was taken too soon after a change is looked at again, even if what is seen then is no different."""
    (tmp_path / "f").write_bytes(b"1")
    found = os.stat(tmp_path / "f")
    racy = take_fingerprint(found, racy_after_ns=found.st_ctime_ns)
    settled = take_fingerprint(found, racy_after_ns=found.st_ctime_ns + 1)
    assert is_same_entry(settled, settled)
    assert not is_same_entry(racy, racy)
    assert not is_same_entry(racy, settled)
    assert not is_same_entry(settled, racy)
    assert not is_same_entry(None, settled)


def test_scan_yields_what_is_too_young_to_tell(tmp_path: Path) -> None:
    """A scan passes over what it knows, and over nothing that may have changed since without a trace."""
    (tmp_path / "young").write_bytes(b"1")
    (tmp_path / "old").write_bytes(b"1")
    (tmp_path / "link").symlink_to("old")
    layer = PlainDirectory(tmp_path)

    def scan(cached: dict[bytes, bytes], racy_after_ns: int) -> dict[bytes, bytes]:
        found = scan_directory(layer, TreePath(b""), cached, None, racy_after_ns=racy_after_ns)
        return {suspect.name: suspect.fingerprint or b"" for suspect in found}

    settled = scan({}, LATER_NS)
    assert settled.keys() == {b"young", b"old", b"link"}
    assert scan(settled, LATER_NS) == {}
    racy = scan({}, 0)
    assert scan(racy, 0).keys() == {b"young", b"old", b"link"}
    assert scan(racy, LATER_NS).keys() == {b"young", b"old", b"link"}
    (tmp_path / "old").unlink()
    assert scan(settled, LATER_NS) == {b"old": b""}


def test_update_and_reload(tmp_path: Path) -> None:
    """What was recorded is there after a reload, in one file of several transactions."""
    cache = StatCache(tmp_path / "cache")
    cache.commit_update(update(b"a", b"x", b"y"), tree=TREE, sidecar=None, commit=None)
    cache.commit_update(update(b"a", b"z", dropped=(b"x",)), tree=TREE, sidecar=SIDECAR, commit=COMMIT)
    found = StatCache.load(tmp_path / "cache")
    assert found is not None
    assert found.directory(TreePath(b"a")) == prints(b"y", b"z")
    assert (found.tree, found.sidecar, found.commit) == (TREE, SIDECAR, COMMIT)
    assert found.directory(TreePath(b"b")) is None


def test_dropped_subtree_and_what_took_its_place(tmp_path: Path) -> None:
    """A subtree that went away takes its fingerprints along; what the same capture says of its place holds."""
    cache = StatCache(tmp_path / "cache")
    for path in (b"a", b"a/b", b"a/b/c", b"ab"):
        cache.commit_update(update(path, b"x"), tree=TREE, sidecar=None, commit=None)
    again = update(b"a/b", b"new")
    again.drop_subtree(TreePath(b"a/b"))
    cache.commit_update(again, tree=TREE, sidecar=None, commit=None)
    found = StatCache.load(tmp_path / "cache")
    assert found is not None
    assert found.directory(TreePath(b"a/b")) == prints(b"new")
    assert found.directory(TreePath(b"a/b/c")) is None
    assert found.directory(TreePath(b"a")) == found.directory(TreePath(b"ab")) == prints(b"x")


@pytest.mark.parametrize("keep", [0, 5, 17, 30, -1, -30])
def test_cut_short(tmp_path: Path, keep: int) -> None:
    """A file that ends early gives an older state or none, never a wrong one; the next update mends it."""
    path = tmp_path / "cache"
    cache = StatCache(path)
    cache.commit_update(update(b"a", b"x"), tree=TREE, sidecar=None, commit=None)
    cache.commit_update(update(b"a", b"y"), tree=Oid(b"9" * 20), sidecar=None, commit=None)
    path.write_bytes(path.read_bytes()[:keep])
    found = StatCache.load(path)
    if found is not None:
        assert (found.tree, found.directory(TreePath(b"a"))) == (TREE, prints(b"x"))
        found.commit_update(update(b"b", b"z"), tree=TREE, sidecar=None, commit=None)
        again = StatCache.load(path)
        assert again is not None
        assert again.directory(TreePath(b"b")) == prints(b"z")


def test_flipped_bytes(tmp_path: Path) -> None:
    """No flipped byte is taken for a fingerprint: the state is the old one or none."""
    path = tmp_path / "cache"
    cache = StatCache(path)
    cache.commit_update(update(b"a", b"x"), tree=TREE, sidecar=None, commit=None)
    cache.commit_update(update(b"a", b"y"), tree=TREE, sidecar=SIDECAR, commit=None)
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :])
        found = StatCache.load(path)
        assert found is None or found.directory(TreePath(b"a")) == prints(b"x")


def test_grows_no_further_than_it_has_to(tmp_path: Path) -> None:
    """A thousand updates of one name do not make a file of a thousand updates."""
    path = tmp_path / "cache"
    cache = StatCache(path)
    for _ in range(1000):
        cache.commit_update(update(b"a", b"x"), tree=TREE, sidecar=None, commit=None)
    assert path.stat().st_size < 20_000
    assert StatCache.load(path) is not None


def test_dirty_set() -> None:
    """A deep path stands for all below it; the root itself can be dirty with nothing below it."""
    dirty = DirtySet()
    assert not dirty
    dirty.add(TreePath(b"a/b"))
    dirty.add(TreePath(b"a"), deep=True)
    dirty.add(TreePath(b"a/c/d"))
    assert dirty.names == {b"a": None}
    root = DirtySet()
    root.add(TreePath(b""))
    assert root
    assert list(root) == []

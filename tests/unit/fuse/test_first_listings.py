"""Listings of directories that nobody has looked at, and of those that cannot change."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from avfs_git.fuse import operations
from avfs_git.fuse import protocol as p
from avfs_git.fuse.handover.handover import Handover
from avfs_git.fuse.listing import Listing, make_listing
from avfs_git.fuse.server import TreeServer
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_FILE, MODE_SYMLINK
from avfs_git.gitstore.source import NotYetHere
from avfs_git.paths import Oid
from avfs_git.vfs.layer.blobcache import BlobCache
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.sidecar import Meta
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.vfs.tree.inodes import ROOT_INO, Place
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.vfs.tree.readonly import open_commit_tree
from tests.support.objects import MemorySource
from tests.unit.fuse.conftest import Ends, Kernel

NAMES = [b"exec", b"file", b"l" * 60, b"link", b"old", b"sub"]


class Elsewhere(MemorySource):
    """Objects of which the sizes are on a server for now."""

    is_away = False

    def blob_size(self, oid: Oid) -> int:
        """Tell it, or who is to bring it."""
        if self.is_away:
            raise NotYetHere(lambda: None)
        return super().blob_size(oid)


@pytest.fixture
def source() -> Elsewhere:
    """Where the objects are."""
    return Elsewhere()


@pytest.fixture
def lower(source: Elsewhere) -> LowerTree:
    """A directory `d` with some of everything."""
    tree = source.add_tree({
        b"d/exec": (MODE_EXEC, b"#!/bin/sh\n"), b"d/file": (MODE_FILE, b"content" * 1000), b"d/" + b"l" * 60: (MODE_FILE, b""),
        b"d/link": (MODE_SYMLINK, b"file"), b"d/old": (MODE_FILE, b"old"), b"d/sub/x": (MODE_FILE, b"x"),
    })  # fmt: skip
    old = Meta(mtime_ns=-1_500_000_000, mode=0o600)
    sidecar = source.add_sidecar({b"d": ({b"old": (None, (MODE_FILE, b"old"), False, old)}, (0, b""), False, Meta())})
    return LowerTree(source, tree, sidecar, default_mtime_ns=1_700_000_000_123_456_789)


@pytest.fixture
def commit(lower: LowerTree, tmp_path: Path) -> Iterator[MergedTree]:
    """The tree of a commit, which cannot change."""
    tree = open_commit_tree(lower, tmp_path, cache=BlobCache(tmp_path / "cache"))
    yield tree
    tree.close()


@pytest.fixture
def workspace(lower: LowerTree, tmp_path: Path) -> Iterator[MergedTree]:
    """A workspace that begins with it."""
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    tree = MergedTree(lower, UpperLayer(tmp_path / "upper", tmp_path / "work"))
    yield tree
    tree.close()


@contextmanager
def served(ends: Ends, tree: MergedTree, handover: Handover | None = None) -> Iterator[Kernel]:
    """Serve a tree to a kernel."""
    kernel, channel = ends
    server = TreeServer(tree, channel, handover or Handover.make())

    def serve() -> None:
        channel.negotiate()
        server.serve()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        kernel.init()
        yield kernel
    finally:
        channel.leave()
        thread.join()


def list_plus(kernel: Kernel, ino: int, position: int = 0, size: int = 1 << 16) -> bytes:
    """List a directory with attributes."""
    return kernel.ask(p.READDIRPLUS, ino, p.READ_IN.pack(0, position, size, 0, 0, 0, 0))


def entries(data: bytes) -> dict[bytes, tuple[bytes, int, int]]:
    """Take a listing apart: how each name's node is described, its position, its kind."""
    found = {}
    while data:
        _, position, length, kind = p.DIRENT.unpack_from(data, p.ENTRY_OUT.size)
        start = p.ENTRY_OUT.size + p.DIRENT.size
        found[data[start : start + length]] = (data[: p.ENTRY_OUT.size], position, kind)
        data = data[start + length + 7 & ~7 :]
    return found


def directory(kernel: Kernel) -> int:
    """Look the directory up."""
    return int(kernel.look_up(ROOT_INO, b"d")[0])


def number_of(described: tuple[bytes, int, int]) -> int:
    """Give the number of a node that is described."""
    return int(p.ENTRY_OUT.unpack(described[0])[0])


def forget(kernel: Kernel, inos: list[int]) -> None:
    """Forget nodes that were told once."""
    body = p.BATCH_FORGET_IN.pack(len(inos), 0) + b"".join(p.FORGET_ONE.pack(ino, 1) for ino in inos)
    kernel.send(p.BATCH_FORGET, 0, body)


@pytest.mark.parametrize("which", ["commit", "workspace"])
def test_a_first_listing_says_what_looking_up_says(ends: Ends, which: str, request: pytest.FixtureRequest) -> None:
    """Each entry is described as by a look-up, and known to the kernel once for each of both."""
    tree: MergedTree = request.getfixturevalue(which)
    handover = Handover.make()
    with served(ends, tree, handover) as kernel:
        listed = entries(list_plus(kernel, directory(kernel)))
        assert sorted(listed) == sorted([b".", b"..", *NAMES])
        above = directory(kernel)
        for name in NAMES:
            described, _, kind = listed[name]
            noted = handover.read(number_of(listed[name]))
            assert noted == (above, name, 1, kind << 12, Place.NAMED)

            assert kernel.ask(p.LOOKUP, above, name + b"\0") == described
            noted = handover.read(number_of(listed[name]))
            assert noted is not None
            assert noted.pins == 2


def test_what_was_listed_once_is_told_again(ends: Ends, commit: MergedTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second reader of a commit's directory gets the same, piece by piece, and each entry counts once more."""
    made: list[Listing] = []

    def counting(names: list[tuple[bytes, int]]) -> Listing:
        made.append(make_listing(names))
        return made[-1]

    monkeypatch.setattr(operations, "make_listing", counting)
    handover = Handover.make()

    def pins(described: dict[bytes, tuple[bytes, int, int]]) -> list[int]:
        return [noted.pins if (noted := handover.read(number_of(described[name]))) is not None else 0 for name in NAMES]

    def read_all(kernel: Kernel, above: int) -> dict[bytes, tuple[bytes, int, int]]:
        found: dict[bytes, tuple[bytes, int, int]] = {}
        position = 0
        while data := list_plus(kernel, above, position, 600):
            found.update(entries(data))
            position = max(place for _, place, _ in found.values())
        return found

    with served(ends, commit, handover) as kernel:
        above = directory(kernel)
        first = read_all(kernel, above)
        assert sorted(first) == sorted([b".", b"..", *NAMES])
        again = [read_all(kernel, above) for _ in range(3)]

        assert again == [first] * 3
        assert len(made) == 1
        assert pins(first) == [4] * len(NAMES)
        for _ in range(4):
            forget(kernel, [number_of(first[name]) for name in NAMES])
        kernel.ask(p.GETATTR, above, bytes(16))  # the answer comes when they are forgotten
        assert pins(first) == [0] * len(NAMES)
        assert read_all(kernel, above) == first
        assert pins(first) == [1] * len(NAMES)
        assert kernel.ask(p.READ, number_of(first[b"file"]), p.READ_IN.pack(0, 0, 7, 0, 0, 0, 0)) == b"content"


def test_many_directories_are_not_kept(ends: Ends, source: Elsewhere, tmp_path: Path) -> None:
    """Who comes back to a directory after hundreds of others is told all of it."""
    oid = source.add_tree({b"%d/f" % number: (MODE_FILE, b"x") for number in range(300)})
    tree = open_commit_tree(
        LowerTree(source, oid, None, default_mtime_ns=1), tmp_path, cache=BlobCache(tmp_path / "cache")
    )
    with served(ends, tree) as kernel:
        inos = [int(kernel.look_up(ROOT_INO, b"%d" % number)[0]) for number in range(300)]
        first = [list_plus(kernel, ino) for ino in inos]

        assert [list_plus(kernel, ino) for ino in inos] == first
    tree.close()


def test_a_workspace_shows_what_became_of_it(ends: Ends, workspace: MergedTree) -> None:
    """Of a tree that changes nothing is told that was so before."""
    with served(ends, workspace) as kernel:
        above = directory(kernel)
        assert sorted(entries(list_plus(kernel, above))) == sorted([b".", b"..", *NAMES])
        kernel.ask(p.UNLINK, above, b"file\0")
        kernel.ask(p.MKNOD, above, p.MKNOD_IN.pack(0o100644, 0, 0, 0) + b"new\0")
        left = [name for name in NAMES if name != b"file"]

        assert sorted(entries(list_plus(kernel, above))) == sorted([b".", b"..", b"new", *left])


def test_a_server_after_another_goes_on_with_its_numbers(ends: Ends, lower: LowerTree, tmp_path: Path) -> None:
    """What one that died has told counts, and is told again under the same numbers."""
    cache = BlobCache(tmp_path / "cache")
    handover = Handover.make()
    with served(ends, open_commit_tree(lower, tmp_path, cache=cache), handover) as kernel:
        above = directory(kernel)
        before = entries(list_plus(kernel, above))
    after = open_commit_tree(lower, tmp_path, cache=cache)
    after.pins.follow(handover)
    found = after.nodes.lookup(after.root, b"d")

    assert found.ino == above
    for name, entry in after.nodes.lower_children(found).items():
        child, _ = after.pins.show_lower(found, name, entry)
        noted = handover.read(child.ino)
        assert child.ino == number_of(before[name])
        assert noted is not None
        assert noted.pins == child.pins == 2
    assert sorted(found.children) == sorted(NAMES)
    after.close()


def test_an_entry_without_a_size_is_told_when_that_is_here(ends: Ends, commit: MergedTree, source: Elsewhere) -> None:
    """A listing that had to leave attributes out is not the one that the next one gets."""
    with served(ends, commit) as kernel:
        above = directory(kernel)
        source.is_away = True
        listed = entries(list_plus(kernel, above))
        assert sorted(listed) == sorted([b".", b"..", *NAMES])
        assert {name for name in NAMES if number_of(listed[name])} == {b"sub"}
        source.is_away = False

        listed = entries(list_plus(kernel, above))
        assert all(number_of(listed[name]) for name in NAMES)
        for name in NAMES:
            assert kernel.ask(p.LOOKUP, above, name + b"\0") == listed[name][0]

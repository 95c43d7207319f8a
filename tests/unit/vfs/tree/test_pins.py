"""Nodes that somebody outside knows by number: without a name, and for a process that goes on for one that died."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Callable

import pytest

from avfs_git.fuse.handover.handover import Handover
from avfs_git.paths import TreePath
from avfs_git.vfs.tree.inodes import Node
from avfs_git.vfs.tree.merged import MergedTree
from tests.unit.vfs.conftest import Layers

pytestmark = pytest.mark.needs("whiteout", "user-xattrs")

Fill = Callable[[dict[str, bytes | None]], MergedTree]


def _pin(tree: MergedTree, path: str) -> Node:
    node = tree.resolve(TreePath(path.encode()))
    tree.pins.pin(node)
    return node


def _attic(layers: Layers) -> list[str]:
    return [name for name in os.listdir(layers.work) if name.startswith("avfs-held")]


def _following(layers: Layers, ledger: Handover) -> MergedTree:
    """Open the layers as a process does that goes on for one that was killed: that one has closed nothing."""
    tree = layers.open()
    tree.pins.follow(ledger)
    return tree


@pytest.mark.parametrize("by", ["number", "name"])
def test_numbers_are_found_by_who_goes_on(layers: Layers, fill: Fill, by: str) -> None:
    """A pinned node keeps its number and its pins, looked up by number or by name, wherever it was renamed to."""
    ledger = Handover.make()
    before = fill({"dir/sub/file": b"x", "other": b"y"})
    before.pins.follow(ledger)
    known = [_pin(before, path) for path in ("dir", "dir/sub/file", "other")]
    before.move(TreePath(b"dir"), TreePath(b"moved"))
    before.contents.write(known[1], b"z", 0)

    after = _following(layers, ledger)

    assert set(after.pins.list_known()) >= {node.ino for node in known}
    for node, path in zip(known, (b"moved", b"moved/sub/file", b"other"), strict=True):
        found = after.pins.node_at(node.ino) if by == "number" else after.resolve(TreePath(path))
        assert (found.ino, after.nodes.path_of(found), found.pins) == (node.ino, path, 1)
    assert after.pins.is_pinned
    new = after.making.create(after.root, b"new")
    assert new.ino not in {node.ino for node in before.nodes.inodes}


def test_what_nobody_knows_is_not_found_by_number(layers: Layers, fill: Fill) -> None:
    """A number that has no pins any more, or never had any, is stale to who goes on."""
    ledger = Handover.make()
    before = fill({"a": b"x", "b": b"y"})
    before.pins.follow(ledger)
    gone, never = _pin(before, "a"), before.resolve(TreePath(b"b"))
    before.pins.unpin(gone)

    after = _following(layers, ledger)

    for ino in (gone.ino, never.ino, 10**6):
        with pytest.raises(OSError, match="Stale") as caught:
            after.pins.node_at(ino)
        assert caught.value.errno == errno.ESTALE


def test_what_has_no_name_is_kept_for_who_goes_on(layers: Layers, fill: Fill) -> None:
    """Unlinked files of both layers can be read and written, and a removed directory is empty.

    Nothing is left afterwards.
    """
    ledger = Handover.make()
    before = fill({"lower": b"lower", "dir": None})
    before.pins.follow(ledger)
    before.write_file(TreePath(b"upper"), b"upper")
    upper, lower, directory = (_pin(before, name) for name in ("upper", "lower", "dir"))
    before.attributes.chmod(directory, 0o711)
    for node in (upper, lower):
        before.namespace.unlink(before.root, node.name)
    before.namespace.rmdir(before.root, b"dir")
    before.close()  # leaves to the ledger what has pins

    after = _following(layers, ledger)

    found = [after.pins.node_at(node.ino) for node in (upper, lower, directory)]
    assert [after.contents.read(node, 10, 0) for node in found[:2]] == [b"upper", b"lower"]
    assert [after.attributes.getattr(node).nlink for node in found[:2]] == [0, 0]
    after.contents.write(found[1], b"L", 0)
    assert after.contents.read(found[1], 10, 0) == b"Lower"
    assert after.nodes.readdir(found[2]) == []
    assert stat.S_IMODE(after.attributes.getattr(found[2]).mode) == 0o711
    assert len(_attic(layers)) == 2
    for node in found:
        after.pins.unpin(node)
    assert _attic(layers) == []
    assert not after.pins.is_pinned


def test_hard_links_lead_to_the_one_node_for_who_goes_on(layers: Layers, fill: Fill) -> None:
    """Also if the name that is looked up is not the one that was noted."""
    ledger = Handover.make()
    before = fill({"a": b"x"})
    before.pins.follow(ledger)
    before.make_link(TreePath(b"a"), TreePath(b"b"))
    known = _pin(before, "a")

    after = _following(layers, ledger)

    found = after.resolve(TreePath(b"b"))
    assert found.ino == known.ino
    assert after.resolve(TreePath(b"a")) is found


def test_what_was_done_and_not_noted_is_told(layers: Layers, fill: Fill) -> None:
    """A process that died right after it renamed or removed on disk: who goes on is told, and finds all as it is."""
    ledger = Handover.make()
    before = fill({})
    before.pins.follow(ledger)
    for name in (b"a", b"b", b"c"):
        before.write_file(TreePath(name), name)
    moved, replaced, removed = (_pin(before, name) for name in ("a", "b", "c"))
    os.link(layers.upper / "b", layers.work / "kept")
    os.rename(layers.upper / "a", layers.upper / "b")
    os.unlink(layers.upper / "c")

    after = _following(layers, ledger)
    after.pins.note_renamed(after.root, b"a", moved.ino, after.root, b"b", replaced.ino)
    after.pins.note_removed(after.root, b"c", removed.ino)

    found = after.pins.node_at(moved.ino)
    assert (after.nodes.path_of(found), after.contents.read(found, 10, 0)) == (b"b", b"a")
    assert after.resolve(TreePath(b"b")) is found
    for ino in (replaced.ino, removed.ino):  # their files were not in the attic, so that nothing of them is left
        with pytest.raises(OSError, match="Stale"):
            after.pins.node_at(ino)


def test_an_exchange_that_was_not_noted_is_told(layers: Layers, fill: Fill) -> None:
    """Two nodes that a dead process had exchanged on disk are found in each other's places."""
    ledger = Handover.make()
    before = fill({})
    before.pins.follow(ledger)
    for name in (b"a", b"b"):
        before.write_file(TreePath(name), name)
    one, other = _pin(before, "a"), _pin(before, "b")
    for old, new in (("a", "x"), ("b", "a"), ("x", "b")):
        os.rename(layers.upper / old, layers.upper / new)

    after = _following(layers, ledger)
    after.pins.note_exchanged(after.root, b"a", one.ino, after.root, b"b", other.ino)

    assert [after.nodes.path_of(after.pins.node_at(node.ino)) for node in (one, other)] == [b"b", b"a"]
    assert [after.contents.read(after.pins.node_at(node.ino), 10, 0) for node in (one, other)] == [b"a", b"b"]


def test_what_nobody_needs_waits_only_where_somebody_tidies(layers: Layers, fill: Fill) -> None:
    """With `leavings` a file goes in a call of `drop_leaving`, at the latest in `close`.

    Without them, with its last pin.
    """
    tree = fill({})
    for waits in (False, True):
        tree.pins.leavings = deque() if waits else None
        for name in ("a", "b"):
            tree.write_file(TreePath(name.encode()), b"x")
            node = _pin(tree, name)
            tree.namespace.unlink(tree.root, name.encode())
            assert tree.contents.read(node, 10, 0) == b"x"
            tree.pins.unpin(node)
        assert len(_attic(layers)) == (2 if waits else 0)
    assert tree.pins.drop_leaving()
    assert len(_attic(layers)) == 1
    tree.close()
    assert _attic(layers) == []


def test_closing_leaves_nothing_for_nobody(layers: Layers, fill: Fill) -> None:
    """Without a ledger nobody goes on, so that what has no name goes with the tree that knew it."""
    tree = fill({})
    tree.write_file(TreePath(b"a"), b"x")
    _pin(tree, "a")
    tree.namespace.unlink(tree.root, b"a")
    assert len(_attic(layers)) == 1
    tree.close()
    assert _attic(layers) == []

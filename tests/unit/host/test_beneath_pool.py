"""The bound on open descriptors."""

from __future__ import annotations

import os
from pathlib import Path

from avfs_git.host.files.beneath import POOL, Descriptor, DescriptorPool
from avfs_git.paths import TreePath
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.vfs.tree.merged import MergedTree
from tests.support.objects import MemorySource


class _Holder:
    """Somebody who keeps a descriptor."""

    def __init__(self) -> None:
        self.descriptor: Descriptor | None = None


def test_the_newest_descriptor_is_not_the_one_that_goes() -> None:
    """Where all others were used lately, too, one of them has to go: the newest is about to be used."""
    pool = DescriptorPool(4)
    holders = [_Holder() for _ in range(20)]
    for holder in holders:
        pool.keep(holder, Descriptor(os.open("/", os.O_PATH)))
        assert holder.descriptor is not None

    assert sum(holder.descriptor is not None for holder in holders) == 4


def test_a_tree_works_with_less_descriptors_than_it_has_directories(tmp_path: Path) -> None:
    """What a call uses stays open until it is through, however small the pool."""
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    lower = LowerTree(MemorySource(), None, None, default_mtime_ns=0)
    tree = MergedTree(lower, UpperLayer(tmp_path / "upper", tmp_path / "work"))
    kept, POOL._limit = POOL._limit, 1
    try:
        for number in range(50):
            tree.make_dir(TreePath(b"%d/a/b" % number), parents=True)
            tree.write_file(TreePath(b"%d/a/b/c" % number), b"%d" % number)
        for number in range(50):
            node = tree.resolve(TreePath(b"%d/a/b/c" % number))
            tree.attributes.chmod(node, 0o600)
            tree.contents.append(node, b"!")
            assert tree.read_file(TreePath(b"%d/a/b/c" % number)) == b"%d!" % number
            assert tree.attr(TreePath(b"%d/a" % number)).nlink == 3
    finally:
        POOL._limit = kept
        tree.close()

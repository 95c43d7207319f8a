"""What cannot be read of a tree hides itself and nothing beside it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from avfs_git.sdk import Avfs
from tests.support.hostile import entry, put, put_commit
from tests.support.live_tree import FORK, mounted

pytestmark = pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout")


def test_a_bad_blob_hides_one_file(mount_dir: Path) -> None:
    """A directory with contents that are missing, of the wrong kind or damaged is listed.

    What is whole in it is read.
    """
    home, path = mount_dir / "home", mount_dir / "tree"
    path.mkdir()
    with Avfs(home) as avfs:
        vault = avfs.create_vault("v")
        place = vault.path
        good, damaged = put(place, b"good\n", "blob"), put(place, b"damaged\n", "blob")
        loose = place / "objects" / damaged[:2] / damaged[2:]
        loose.chmod(0o644)
        loose.write_bytes(loose.read_bytes()[:-4] + b"xxxx")
        kind = put(place, b"", "tree")
        names = {b"damaged": damaged, b"good": good, b"kind": kind, b"missing": "1" * 40, b"z": good}
        tree = put(place, b"".join(entry("100644", name, oid) for name, oid in names.items()), "tree")
        put_commit(place, put(place, entry("40000", b"dir", tree), "tree"), ref=f"refs/heads/{FORK}")
    with mounted(home / "vaults" / "v.git", home, path):
        shown = path / "dir"

        assert {found.name for found in os.scandir(shown)} == {os.fsdecode(name) for name in names}
        assert ((shown / "good").read_bytes(), (shown / "z").read_bytes()) == (b"good\n", b"good\n")
        for name in ("damaged", "kind", "missing"):
            with pytest.raises(OSError) as refused:  # noqa: PT011 - its number is looked at
                (shown / name).read_bytes()
            assert refused.value.errno == errno.EIO

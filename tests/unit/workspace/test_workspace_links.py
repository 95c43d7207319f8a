"""Hard links of which a process has seen only one name."""

from __future__ import annotations

from pathlib import Path

from avfs_git.sdk import Avfs


def test_a_change_through_one_name_is_seen_under_all(tmp_path: Path) -> None:
    """A checkpoint holds the new content under every name, also one that this process never looked up."""
    with Avfs(tmp_path / "home") as avfs:
        work = avfs.create_vault("v").workspace()
        work.write("a/one", b"1")
        work.link("a/one", "two")
        work.checkpoint()
    with Avfs(tmp_path / "home") as avfs:
        work = avfs.open_vault("v").workspace()
        work.write("a/one", b"2")
        changed = work.checkpoint().changed_files

        assert [change.path for change in changed] == [b"a/one", b"two"]
        assert work.read("two") == b"2"

"""Hard links of which a process has seen only one name, and symbolic links that no checkpoint holds yet."""

from __future__ import annotations

from pathlib import Path

from avfs_git.sdk import Avfs, Vault, Workspace


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


def test_a_symbolic_link_that_is_not_committed_is_compared(vault: Vault, work: Workspace) -> None:
    """Its target is in the patch, and in a merge that is only asked for: no file and no object has it."""
    work.write("file", b"1")
    work.symlink("old", b"elsewhere")
    work.checkpoint()
    vault.fork("side", source="main").symlink("new", b"no/where/else")
    vault.workspace("side").checkpoint()
    work.symlink("new", b"no/where")
    work.remove("old")
    work.symlink("old", b"elsewhere/now")

    patches = {file.change.path: file.patch for file in work.diff().files}
    assert b"\n+no/where\n" in patches[b"new"]
    assert b"\n-elsewhere\n" in patches[b"old"]
    assert b"\n+elsewhere/now\n" in patches[b"old"]
    assert [conflict.path for conflict in work.merge("side", dry_run=True).conflicts] == [b"new"]
    assert {each.path for each in work.status().changed_files} == {b"new", b"old"}

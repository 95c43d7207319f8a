"""The index as C git writes and reads it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from avfs_git.gitstore.compare.treediff import diff_trees
from avfs_git.gitstore.formats.fullindex import read_full_index
from avfs_git.gitstore.formats.index import (
    NO_STAT,
    BadIndex,
    CachedTree,
    ForeignIndex,
    GitIndex,
    IndexWriter,
    Move,
    make_stat,
    move_entries,
    parse_cached_tree,
    serialize_cached_tree,
    write_index,
)
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.paths import Oid

pytestmark = pytest.mark.needs("git")

_ENV = {
    "PATH": os.environ.get("PATH", os.defpath),
    "HOME": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
    "LC_ALL": "C",
}


def _git(cwd: Path, *argv: str | bytes, data: bytes | None = None) -> bytes:
    done = subprocess.run(["git", *argv], cwd=cwd, env=_ENV, input=data, capture_output=True, check=False)
    assert not done.returncode, done.stderr.decode()
    return done.stdout


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A working tree with names of many kinds, two commits, and the second one checked out."""
    place = tmp_path / "clone"
    place.mkdir()
    _git(place, "init", "-q", "-b", "main")
    base = os.fsencode(place)
    os.makedirs(base + b"/a/b/c")
    os.makedirs(base + b"/a.d")
    os.makedirs(base + b"/long")
    for name in (
        b"a/b/c/one",
        b"a/b/two",
        b"a/three",
        b"a.d/four",
        b"a-x",
        b"zed",
        b"\xff\xfe",
        b"long/" + b"n" * 250,
        b"gone/x",
    ):
        os.makedirs(os.path.dirname(base + b"/" + name), exist_ok=True)
        with open(base + b"/" + name, "wb") as file:
            file.write(name)
    os.chmod(base + b"/zed", 0o755)
    os.symlink("zed", base + b"/link")
    _git(place, "add", "-A")
    _git(place, "commit", "-q", "-m", "one")
    (place / "a" / "three").write_bytes(b"changed")
    (place / "new").mkdir()
    (place / "new" / "file").write_bytes(b"new")
    (place / "gone" / "x").unlink()
    os.chmod(place / "a-x", 0o755)
    _git(place, "add", "-A")
    _git(place, "commit", "-q", "-m", "two")
    return place


def _tree(clone: Path, revision: str) -> Oid:
    return Oid(bytes.fromhex(_git(clone, "rev-parse", f"{revision}^{{tree}}").decode().strip()))


def _moves(clone: Path, old: str, new: str) -> list[Move]:
    with ObjectStore(clone / ".git") as store:
        found = diff_trees(store, _tree(clone, old), _tree(clone, new))
    return [
        Move(
            change.path,
            None
            if change.old_oid is None or change.old_mode is None
            else (change.old_mode, Oid(bytes.fromhex(change.old_oid))),
            None
            if change.new_oid is None or change.new_mode is None
            else (change.new_mode, Oid(bytes.fromhex(change.new_oid))),
        )
        for change in found
    ]


def _staged(clone: Path) -> bytes:
    return _git(clone, "ls-files", "-s", "-z")


@pytest.mark.parametrize("version", [2, 3, 4])
def test_what_git_wrote_is_read(clone: Path, version: int) -> None:
    """Every entry of every version comes out with the mode, id, stage and stat data that git shows."""
    if version == 3:
        (clone / "later").write_bytes(b"")
        _git(clone, "add", "-N", "later")
    else:
        _git(clone, "update-index", "--index-version", str(version))
    data = (clone / ".git" / "index").read_bytes()
    assert data[7] == version
    index = GitIndex(data)
    entries = [index.entry(number) for number in range(len(index))]
    shown = b"".join(b"%06o %s %d\t%s\0" % (e.mode, e.oid.hex().encode(), e.stage, e.path) for e in entries)
    assert shown == _staged(clone)
    for entry in entries:
        found = os.lstat(os.path.join(os.fsencode(clone), entry.path))
        # The offsets are those of gitformat-index(5).
        mtime_s, inode, size = (int.from_bytes(entry.stat[at : at + 4], "big") for at in (8, 20, 36))
        if entry.path != b"later":
            assert (size, mtime_s, inode) == (found.st_size, int(found.st_mtime), found.st_ino & 0xFFFFFFFF)


@pytest.mark.parametrize("version", ["2", "4"])
@pytest.mark.parametrize("kind", ["split", "sparse"])
def test_an_index_that_lacks_entries_is_read_in_full(clone: Path, kind: str, version: str) -> None:
    """A split index with entries of its own, changed, removed and in conflict.

    A sparse index with directories in directories.
    """
    _git(clone, "update-index", "--index-version", version)
    if kind == "split":
        _git(clone, "update-index", "--split-index")
        (clone / "a" / "three").write_bytes(b"again")
        (clone / "0").write_bytes(b"")
        _git(clone, "add", "-A")
        _git(clone, "update-index", "--chmod=-x", "zed")
        _git(clone, "rm", "-q", "--cached", "a/b/two")
        blob = _git(clone, "rev-parse", "HEAD:a-x").decode().strip()
        lines = "".join(f"100644 {blob} {stage}\tlink\n" for stage in (1, 3))
        _git(clone, "update-index", "--index-info", data=f"0 {'0' * 40}\tlink\n{lines}".encode())
    else:
        _git(clone, "sparse-checkout", "set", "--cone", "--sparse-index", "a.d")
    data = (clone / ".git" / "index").read_bytes()
    with pytest.raises(ForeignIndex):
        GitIndex(data)
    with ObjectStore(clone / ".git") as store:
        index = read_full_index(data, clone / ".git", store.read_tree)
    entries = [index.entry(number) for number in range(len(index))]
    shown = b"".join(b"%06o %s %d\t%s\0" % (e.mode, e.oid.hex().encode(), e.stage, e.path) for e in entries)
    assert shown == _staged(clone)
    left_out = [path[2:] for path in _git(clone, "ls-files", "-t", "-z").split(b"\0") if path.startswith(b"S ")]
    assert [entry.path for entry in entries if entry.is_left_out] == left_out
    (clone / ".git" / "index").write_bytes(write_index(entries, index.extensions))
    assert _staged(clone) == shown
    assert _git(clone, "diff-index", "--cached", "HEAD").count(b"\n") == (5 if kind == "split" else 0)


def test_a_split_index_that_is_damaged_is_refused(clone: Path) -> None:
    """With its extension cut short, or its shared index gone."""
    _git(clone, "update-index", "--split-index")
    (clone / "0").write_bytes(b"")
    _git(clone, "add", "0")
    data = (clone / ".git" / "index").read_bytes()
    at = data.index(b"link") + 8
    size = int.from_bytes(data[at - 4 : at], "big")
    for length in [*range(20), *range(21, size)]:
        cut = data[: at - 4] + length.to_bytes(4, "big") + data[at : at + length] + bytes(20)
        with pytest.raises(BadIndex):
            read_full_index(cut, clone / ".git", lambda _: {})
    assert len(read_full_index(data, clone / ".git", lambda _: {})) == _staged(clone).count(b"\0")
    next((clone / ".git").glob("sharedindex.*")).unlink()
    with pytest.raises(BadIndex, match="shared"):
        read_full_index(data, clone / ".git", lambda _: {})


def test_what_is_written_git_takes_for_its_own(clone: Path) -> None:
    """An index of ours is the one of the commit to git, with trees that it verifies, and spares it reading files."""
    index = GitIndex((clone / ".git" / "index").read_bytes())
    writer = IndexWriter()
    for number in range(len(index)):
        entry = index.entry(number)
        found = os.lstat(os.path.join(os.fsencode(clone), entry.path))
        writer.add(entry.path, entry.mode, entry.oid, make_stat(found.st_mode, found.st_size, found.st_mtime_ns))
    (clone / ".git" / "index").write_bytes(writer.finish(parse_cached_tree(index.extensions[b"TREE"])))
    before = _git(clone, "ls-files", "-s")
    # As if it had been written long after the files, so that git has no reason to look at them again.
    os.utime(clone / ".git" / "index", (2_000_000_000, 2_000_000_000))
    assert _git(clone, "-c", "core.checkStat=minimal", "diff-files") == b""
    _git(clone, "fsck", "--strict", "--cache")
    assert _git(clone, "write-tree").strip().decode() == _tree(clone, "HEAD").hex()
    assert _git(clone, "status", "--porcelain") == b""
    assert _git(clone, "ls-files", "-s") == before


@pytest.mark.parametrize("version", [2, 4])
@pytest.mark.parametrize(("old", "new"), [("HEAD", "HEAD~1"), ("HEAD~1", "HEAD")])
def test_moving_to_another_commit_equals_reading_it(clone: Path, version: int, old: str, new: str) -> None:
    """What comes out is what git's `read-tree` makes of the commit, and its cached trees are right."""
    _git(clone, "read-tree", old)
    _git(clone, "update-index", "--index-version", str(version))
    place = clone / ".git" / "index"
    moved = move_entries(GitIndex(place.read_bytes()), _moves(clone, old, new))
    assert moved is not None
    place.write_bytes(moved)
    got = _staged(clone)
    assert _git(clone, "write-tree").strip().decode() == _tree(clone, new).hex()
    _git(clone, "read-tree", new)
    assert _staged(clone) == got
    assert move_entries(GitIndex(moved), _moves(clone, old, new)) is None


def test_what_somebody_staged_stays(clone: Path) -> None:
    """Paths that differ from the first commit in the index keep what they hold, also where it is nothing."""
    (clone / "a" / "three").write_bytes(b"staged")
    (clone / "gone").rmdir()
    (clone / "gone").write_bytes(b"a file where the other commit has a directory")
    _git(clone, "add", "-A")
    _git(clone, "rm", "-q", "--cached", "new/file")
    before = _staged(clone)
    place = clone / ".git" / "index"
    moved = move_entries(GitIndex(place.read_bytes()), _moves(clone, "HEAD", "HEAD~1"))
    assert moved is not None
    place.write_bytes(moved)
    after = _staged(clone)
    lost = set(before.split(b"\0")) - set(after.split(b"\0"))
    assert {line.partition(b"\t")[2] for line in lost} == {b"a-x"}  # the mode, which nobody had staged
    assert b"\tgone\0" in after
    assert b"gone/x" not in after
    assert b"new/file" not in after
    _git(clone, "write-tree")


def test_conflicts_and_promised_files(clone: Path) -> None:
    """An entry in conflict is left alone; one of `git add -N` becomes the committed one."""
    (clone / "late").write_bytes(b"late")
    _git(clone, "add", "-N", "late")
    oid = _git(clone, "hash-object", "-w", "late").strip().decode()
    lines = "".join(f"100644 {oid} {stage}\tzed\n" for stage in (1, 2, 3))
    _git(clone, "update-index", "--index-info", data=f"0 {'0' * 40}\tzed\n{lines}".encode())
    place = clone / ".git" / "index"
    blob = Oid(bytes.fromhex(oid))
    moves = [Move(b"late", None, (0o100644, blob)), Move(b"zed", (0o100755, blob), None)]
    moved = move_entries(GitIndex(place.read_bytes()), moves)
    assert moved is not None
    place.write_bytes(moved)
    assert _staged(clone).count(b"\tzed\0") == 3
    assert f"100644 {oid} 0\tlate".encode() in _staged(clone)
    assert _git(clone, "diff", "--name-only", "--diff-filter=A") == b""


def test_damaged_files_are_refused(clone: Path) -> None:
    """Whatever is cut off or flipped is refused with one error, and nothing is read past the end."""
    data = (clone / ".git" / "index").read_bytes()
    for length in range(0, len(data), 37):
        with pytest.raises(BadIndex):
            GitIndex(data[:length])
        # The same with its checksum left out, as git may write it: the content must show it.
        cut = data[:length] + bytes(20)
        try:
            GitIndex(cut)
        except BadIndex:
            continue
        assert length > len(data) - 200  # only extensions are missing
    for place in range(0, len(data), 11):
        flipped = bytearray(data)
        flipped[place] ^= 0x55
        with pytest.raises(BadIndex):
            GitIndex(bytes(flipped))


def test_cached_trees_come_back() -> None:
    """What is written is read as it was, unknown trees included."""
    top = CachedTree(Oid(b"a" * 20), 3)
    top.below[b"long name"] = CachedTree(Oid(b"b" * 20), 2)
    top.below[b"z"] = CachedTree()
    top.below[b"z"].below[b"deep"] = CachedTree(Oid(b"c" * 20), 1)
    data = serialize_cached_tree(top)
    assert serialize_cached_tree(parse_cached_tree(data)) == data
    top.invalidate(b"z/deep/file")
    assert top.oid is None
    assert top.below[b"z"].below[b"deep"].oid is None
    assert top.below[b"long name"].oid is not None


def test_a_file_without_stat_data_is_looked_at(clone: Path) -> None:
    """`NO_STAT` never passes for the stat data of a file, be it empty and from 1970."""
    place = clone / "zed"
    place.write_bytes(b"")
    os.utime(place, (0, 0))
    index = GitIndex((clone / ".git" / "index").read_bytes())
    writer = IndexWriter()
    for number in range(len(index)):
        entry = index.entry(number)
        writer.add(entry.path, entry.mode, entry.oid, NO_STAT)
    (clone / ".git" / "index").write_bytes(writer.finish())
    os.utime(clone / ".git" / "index", (2_000_000_000, 2_000_000_000))
    assert _git(clone, "-c", "core.checkStat=minimal", "diff", "--name-only").split() == [b"zed"]

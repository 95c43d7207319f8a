"""The calls of libfuse, without libfuse: what a path and a handle mean, and files that are removed while open."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from avfs_git.fuse.portable import PortableOperations
from avfs_git.paths import TreePath
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.vfs.tree.merged import MergedTree
from tests.support.trees import DirectoryLower

pytestmark = pytest.mark.needs("user-xattrs", "whiteout")

HIDDEN = "/dir/.fuse_hidden0000000200000001"


@pytest.fixture
def tree(tmp_path: Path) -> MergedTree:
    """A base with a directory and two files in it."""
    for name in ("lower/dir", "upper", "work"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "lower" / "dir" / "a").write_bytes(b"one")
    (tmp_path / "lower" / "dir" / "b").write_bytes(b"two")
    os.symlink(b"\xff", os.fsencode(tmp_path / "lower") + b"/\xfe")
    return MergedTree(DirectoryLower(tmp_path / "lower"), UpperLayer(tmp_path / "upper", tmp_path / "work"))


@pytest.fixture
def calls(tree: MergedTree) -> PortableOperations:
    """What libfuse calls for this process's user."""
    return PortableOperations(tree, lambda: (os.geteuid(), os.getegid()))


def _names(calls: PortableOperations, path: str) -> set[str]:
    handle = calls.opendir(path)
    try:
        return {name for name, _, _ in calls.readdir(path, handle)} - {".", ".."}
    finally:
        calls.releasedir(path, handle)


def test_names_that_are_not_text_come_through(calls: PortableOperations) -> None:
    """Any bytes are a name, a target and the name of an attribute."""
    assert _names(calls, "/") == {"dir", "\udcfe"}
    assert calls.readlink("/\udcfe") == "\udcff"
    calls.symlink("/\udcfd", "\udcfc")
    calls.setxattr("/dir", "user.\udcfb", b"\xfa", 0)

    assert calls.readlink("/\udcfd") == "\udcfc"
    assert calls.listxattr("/dir") == ["user.\udcfb"]


def test_a_listing_tells_numbers_and_types(calls: PortableOperations) -> None:
    """Each entry has the number and type that `stat` tells of it."""
    handle = calls.opendir("/")
    for name, about, offset in calls.readdir("/", handle):
        told = calls.getattr(f"/{name}" if name not in (".", "..") else "/")

        assert (about["st_ino"], stat.S_IFMT(about["st_mode"]), offset) == (
            told["st_ino"],
            stat.S_IFMT(told["st_mode"]),
            0,
        )


@pytest.mark.parametrize("name", ["/dir/a", "/dir/new"])
def test_a_file_that_is_removed_while_open_is_in_no_listing(
    calls: PortableOperations, tree: MergedTree, name: str
) -> None:
    """What libfuse does with such a file leaves a file without a name, which works on by handle and by hidden name."""
    handle = calls.open(name, os.O_RDWR) if name == "/dir/a" else calls.create(name, 0o640, os.O_RDWR)
    calls.write(None, b"text", 0, handle)
    calls.rename(name, HIDDEN)
    calls.write(None, b"T", 0, handle)
    calls.truncate(HIDDEN, 3)
    calls.chmod(HIDDEN, 0o600)
    assert calls.read(None, 10, 0, handle) == b"Tex"
    calls.utimens(HIDDEN, (None, 7))
    told = calls.getattr(HIDDEN)

    assert (told["st_nlink"], told["st_size"], told["st_mode"], told["st_mtime"]) == (0, 3, stat.S_IFREG | 0o600, 7)
    assert told == calls.getattr(None, handle)
    assert HIDDEN.rpartition("/")[2] not in _names(calls, "/dir")
    with pytest.raises(FileNotFoundError):
        calls.getattr(name)

    calls.create(name, 0o644, 0)
    calls.rename("/dir", "/moved")
    assert calls.getattr(HIDDEN.replace("dir", "moved"))["st_nlink"] == 0
    calls.release(None, handle)
    calls.unlink(HIDDEN.replace("dir", "moved"))
    with pytest.raises(FileNotFoundError):
        calls.getattr(HIDDEN)
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        tree.pins.node_at(handle)


def test_a_name_like_a_hidden_one_is_a_name_for_what_is_not_open(calls: PortableOperations) -> None:
    """Only a file that is open can be hidden: any other is renamed as asked."""
    calls.rename("/dir/a", HIDDEN)

    assert calls.read(None, 10, 0, calls.open(HIDDEN, os.O_RDONLY)) == b"one"
    calls.unlink(HIDDEN)
    assert _names(calls, "/dir") == {"b"}


def test_renames_keep_their_flags(calls: PortableOperations) -> None:
    """A rename that must not replace does not, and one that exchanges does."""
    with pytest.raises(FileExistsError):
        calls.rename("/dir/a", "/dir/b", 1)
    calls.rename("/dir/a", "/dir/b", 2)

    assert calls.read(None, 10, 0, calls.open("/dir/a", os.O_RDONLY)) == b"two"
    assert calls.read(None, 10, 0, calls.open("/dir/b", os.O_RDONLY)) == b"one"


def test_opening_can_empty_a_file(calls: PortableOperations, tree: MergedTree) -> None:
    """O_TRUNC comes with the open, not before it."""
    calls.release(None, calls.open("/dir/a", os.O_WRONLY | os.O_TRUNC))

    assert tree.read_file(TreePath(b"dir/a")) == b""


@pytest.mark.needs("root")
def test_what_others_make_is_theirs(tree: MergedTree) -> None:
    """What somebody else makes has that user and group."""
    calls = PortableOperations(tree, lambda: (65534, 65533))
    calls.create("/file", 0o600, 0)
    calls.mkdir("/new", 0o700)
    calls.symlink("/link", "x")
    calls.mknod("/pipe", stat.S_IFIFO | 0o600, 0)
    for path in ("/file", "/new", "/link", "/pipe"):
        assert (calls.getattr(path)["st_uid"], calls.getattr(path)["st_gid"]) == (65534, 65533), path


def test_the_kernel_keeps_what_libfuse_would_take_on() -> None:
    """Set-uid is taken away by the kernel: libfuse's promise to do so itself is taken back."""
    said: list[str] = []
    conn = SimpleNamespace(want=0xFFFF_FFFF)
    PortableOperations(None, lambda: (0, 0), lambda: said.append("ready")).init_with_config(conn, None)  # type: ignore[arg-type]

    assert conn.want == 0xFFFF_FFFF & ~(1 << 20)
    assert said == ["ready"]


def test_holes_and_room(calls: PortableOperations) -> None:
    """Room is given, and holes are found, through a handle."""
    handle = calls.create("/sparse", 0o600, os.O_RDWR)
    calls.write(None, b"end", 1 << 20, handle)
    assert calls.lseek(None, 0, os.SEEK_HOLE, handle) == 0
    calls.fallocate(None, 0, 0, 2 << 20, handle)
    calls.fsync(None, 1, handle)

    assert calls.getattr(None, handle)["st_size"] == 2 << 20
    assert calls.statfs("/")["f_namemax"] == 255


def test_programs_see_the_git_file(calls: PortableOperations, tree: MergedTree) -> None:
    """The `.git` that leads git to the vault is there, and cannot be changed."""
    with pytest.raises(FileNotFoundError):
        calls.getattr("/.git")
    tree.nodes.show_git_file(b"gitdir: elsewhere\n", 7)
    handle = calls.open("/.git", os.O_RDONLY)

    assert ".git" in _names(calls, "/")
    assert calls.read(None, 100, 0, handle) == b"gitdir: elsewhere\n"
    assert calls.getattr("/.git")["st_size"] == 18
    changes: tuple[Callable[[], object], ...] = (
        lambda: calls.unlink("/.git"),
        lambda: calls.rename("/.git", "/x"),
        lambda: calls.rename("/dir/a", "/.git"),
        lambda: calls.rename("/.git", HIDDEN),
        lambda: calls.truncate("/.git", 0),
        lambda: calls.chmod("/.git", 0o600),
        lambda: calls.mkdir("/.git", 0o700),
        lambda: calls.open("/.git", os.O_WRONLY | os.O_TRUNC),
    )
    for change in changes:
        with pytest.raises(OSError, match=r"not permitted|exists"):
            change()

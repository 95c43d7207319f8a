"""A commit as a filesystem that nobody can change."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.model import Identity
from avfs_git.paths import Oid, TreePath
from avfs_git.vfs.layer.lower import LowerEntry
from avfs_git.vfs.tree.merged import MergedTree, Node
from avfs_git.workspace.vault.commits import open_commit
from avfs_git.workspace.vault.vault import OpenVault
from tests.support.trees import describe_tree

pytestmark = pytest.mark.needs("git", "user-xattrs", "whiteout")

_BIG = bytes(range(256)) * 8000
_MIDDLE = b"0123456789" * 20_000


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[OpenVault]:
    """A vault whose first fork holds some of everything, ignored files included."""
    source = tmp_path / "source"
    (source / "src" / "deep").mkdir(parents=True)
    (source / "empty").mkdir()
    for name, data in {
        "a": b"one\n", "big": _BIG, "src/middle": _MIDDLE, "src/old.o": b"ignored\n", ".gitignore": b"*.o\n",
    }.items():  # fmt: skip
        (source / name).write_bytes(data)
    (source / "src" / "tool").write_bytes(b"#!/bin/sh\n")
    (source / "src" / "tool").chmod(0o755)
    (source / "link").symlink_to("src/middle")
    with Avfs(tmp_path / "home", identity=Identity("Ada", "ada@example.org")) as avfs:
        avfs.create_vault("v", source=source).close()
    opened = OpenVault(tmp_path / "home" / "vaults" / "v.git")
    yield opened
    opened.close()


@pytest.fixture
def tree(vault: OpenVault) -> MergedTree:
    """The head of the vault's first fork."""
    return open_commit(vault, _head(vault))


def _head(vault: OpenVault) -> Oid:
    fork = vault.default_fork()
    assert fork is not None
    head = vault.read_head(fork)
    assert head is not None
    return head


def test_a_commit_shows_its_tree_and_its_sidecar(tree: MergedTree, tmp_path: Path) -> None:
    """Everything that was checkpointed is there, ignored files and empty directories too."""
    shown = describe_tree(tree)

    assert {path: entry[2] for path, entry in shown.items() if entry[0] == stat.S_IFREG} == {
        path.relative_to(tmp_path / "source").as_posix().encode(): path.read_bytes()
        for path in (tmp_path / "source").rglob("*")
        if path.is_file() and not path.is_symlink()
    }
    assert shown[b"empty"][0] == stat.S_IFDIR
    assert shown[b"link"][2] == b"src/middle"
    assert shown[b"src/tool"][1] == 0o755


def test_everything_belongs_to_who_serves_it(tree: MergedTree) -> None:
    """The owner is the user's own, and the root is a directory like any other."""
    for path in (b"", b"a", b"src", b"link"):
        attr = tree.attr(TreePath(path))
        assert (attr.uid, attr.gid, attr.nlink) == (os.getuid(), os.getgid(), 1)
    assert tree.attributes.statvfs().f_blocks > 0


def _changes(tree: MergedTree) -> dict[str, Callable[[], object]]:
    root, a, src = tree.root, tree.resolve(TreePath(b"a")), tree.resolve(TreePath(b"src"))
    empty = tree.resolve(TreePath(b"empty"))

    def rename(flags: int, new: bytes) -> Callable[[], object]:
        return lambda: tree.namespace.rename(root, b"a", root, new, flags=flags)

    return {
        "create": lambda: tree.making.create(root, b"new"),
        "mkdir": lambda: tree.making.mkdir(src, b"new"),
        "symlink": lambda: tree.making.symlink(src, b"new", b"x"),
        "mknod": lambda: tree.making.mknod(src, b"new", stat.S_IFIFO),
        "unnamed": lambda: tree.making.create_unnamed(empty),
        "link": lambda: tree.making.link(a, src, b"new"),
        "unlink": lambda: tree.namespace.unlink(root, b"a"),
        "rmdir": lambda: tree.namespace.rmdir(root, b"empty"),
        "remove_tree": lambda: tree.namespace.remove_tree(root, b"src"),
        "rename": rename(0, b"new"),
        "rename over": rename(0, b"big"),
        "exchange": rename(2, b"big"),
        "rename directory": lambda: tree.namespace.rename(root, b"src", empty, b"new"),
        "write": lambda: tree.contents.write(a, b"x", 0),
        "append": lambda: tree.contents.append(a, b"x"),
        "truncate": lambda: tree.contents.truncate(a, 0),
        "open": lambda: tree.contents.open_file(a, os.O_RDWR),
        "chmod": lambda: tree.attributes.chmod(a, 0o600),
        "chmod root": lambda: tree.attributes.chmod(root, 0o700),
        "chown": lambda: tree.attributes.chown(a, 1, 1),
        "utimens": lambda: tree.attributes.utimens(a, mtime_ns=1),
        "set_xattr": lambda: tree.attributes.set_xattr(a, b"user.x", b"1"),
        "copy_up": lambda: tree.steps.bring_up(a),
        "write_file": lambda: tree.write_file(TreePath(b"a"), b"x"),
        "write new file": lambda: tree.write_file(TreePath(b"new"), b"x"),
        "make_dir": lambda: tree.make_dir(TreePath(b"x/y"), parents=True),
    }


def test_every_change_is_refused(tree: MergedTree) -> None:
    """Whatever would change the tree fails with EROFS, and the tree is as before."""
    before = describe_tree(tree)
    for name, change in _changes(tree).items():
        with pytest.raises(OSError, match="Read-only") as caught:
            change()
        assert caught.value.errno == errno.EROFS, name
    tree.contents.sync(tree.resolve(TreePath(b"a")))

    assert describe_tree(tree) == before


def _pieces(tree: MergedTree, node: Node, size: int, step: int) -> bytes:
    return b"".join(tree.contents.read(node, step, offset) for offset in range(0, size, step))


def test_files_are_read_in_pieces(tree: MergedTree, vault: OpenVault) -> None:
    """A big file is read from the vault's cache, one of middle size is not taken apart again for each piece."""
    reads: list[object] = []
    read = tree.lower.read

    def count(entry: LowerEntry) -> bytes:
        reads.append(entry)
        return read(entry)

    tree.lower.read = count  # type: ignore[method-assign]  # what is counted is what reaches the objects
    big, middle = tree.resolve(TreePath(b"big")), tree.resolve(TreePath(b"src/middle"))

    assert tree.contents.read_now(big, 10, 0) is None
    assert _pieces(tree, big, len(_BIG), 70_001) == _BIG
    assert tree.contents.read_now(big, 10, 5) == _BIG[5:15]
    assert _pieces(tree, middle, len(_MIDDLE), 30_001) == _MIDDLE
    assert len(reads) == 1
    assert tree.contents.read(middle, 100, len(_MIDDLE)) == b""
    assert sum(path.is_file() for path in vault.layout.blob_cache.rglob("*")) == 1
    for path in (b"big", b"a"):
        fd = tree.contents.open_file(tree.resolve(TreePath(path)), os.O_RDONLY)
        assert os.pread(fd, 4, 0) == tree.read_file(TreePath(path))[:4]
        os.close(fd)


def test_a_big_file_is_read_where_there_is_no_room(tree: MergedTree, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk makes reading slow, not wrong."""

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("avfs_git.vfs.layer.blobcache.write_all", full)
    big = tree.resolve(TreePath(b"big"))

    assert _pieces(tree, big, len(_BIG), 700_001) == _BIG
    assert tree.contents.read(big, 10, len(_BIG) - 3) == _BIG[-3:]


def test_numbers_begin_where_asked(vault: OpenVault) -> None:
    """Several trees can share one space of numbers."""
    tree = open_commit(vault, _head(vault), first_ino=5 << 40)

    assert tree.root.ino == 5 << 40
    assert tree.pins.node_at(5 << 40) is tree.root
    assert tree.resolve(TreePath(b"a")).ino > 5 << 40

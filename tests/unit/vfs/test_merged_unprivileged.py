"""The merged tree as an ordinary user."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from avfs_git.host.files.beneath import POOL, RENAME_EXCHANGE
from avfs_git.paths import TreePath
from tests.support.steps import make_lower
from tests.support.trees import describe_tree
from tests.unit.vfs.conftest import Layers

pytestmark = [pytest.mark.needs("whiteout", "user-xattrs"), pytest.mark.ordinary]


def _path(text: str) -> TreePath:
    return TreePath(text.encode())


def test_everything_works_without_privileges(tmp_path: Path) -> None:
    """Whiteouts, opaque directories, renames that leave whiteouts, attributes, closed files and directories."""
    layers = Layers(tmp_path)
    make_lower(layers.lower)
    os.setxattr(layers.lower / "b", "user.note", b"dir")
    (layers.lower / "b").chmod(0o555)
    (layers.lower / "d e").chmod(0)
    tree = layers.open()
    tree.remove(_path("a/b/a"))
    tree.move(_path("a/a"), _path("a/b/a"))
    tree.make_dir(_path("a/a"))
    tree.write_file(_path("b/d e/b"), b"new")
    tree.attributes.set_xattr(tree.resolve(_path("c")), b"user.x", b"1")
    tree.attributes.chmod(tree.resolve(_path("b")), 0o700)
    tree.make_link(_path("b/a"), _path("b/other"))
    tree.move(_path("a"), _path("moved"))
    tree.move(_path("moved/b"), _path("c"), flags=RENAME_EXCHANGE)
    tree.make_symlink(_path("link"), b"x")
    tree.attributes.utimens(tree.resolve(_path("link"), follow_last=False), mtime_ns=7)
    assert tree.attr(_path("link")).mtime_ns == 7
    assert (tree.attr(_path("b")).uid, tree.attr(_path("b/a")).uid) == (os.geteuid(), os.geteuid())
    assert tree.attributes.read_xattrs(tree.resolve(_path("b"))) == {b"user.note": b"dir"}
    tree.write_file(_path("shut"), b"x")
    tree.attributes.chmod(tree.resolve(_path("shut")), 0)
    with pytest.raises(PermissionError):
        tree.read_file(_path("shut"))
    tree.write_file(_path("shut"), b"replaced")  # the directory allows it, as for any editor that saves by rename
    assert stat.S_IMODE(tree.attr(_path("shut")).mode) == 0
    tree.remove(_path("shut"))
    tree.remove(_path("d e"))
    assert describe_tree(tree) == describe_tree(layers.open())
    tree.make_dir(_path("closed/sub"), parents=True)
    tree.attributes.chmod(tree.resolve(_path("closed")), 0o111)
    assert tree.resolve(_path("closed/sub")).is_dir
    tree.remove(_path("closed"), recursive=True)
    tree.upper.clean_work()
    assert os.listdir(layers.work) == []


def test_a_read_only_lower_directory_is_brought_up_as_such(tmp_path: Path) -> None:
    """Its mode is what it was, although moving it needs to write to it."""
    layers = Layers(tmp_path)
    (layers.lower / "dir" / "sub").mkdir(parents=True)
    (layers.lower / "dir" / "sub").chmod(0o555)
    (layers.lower / "dir").chmod(0o755)
    tree = layers.open()
    tree.steps.bring_up(tree.resolve(_path("dir/sub")))
    assert stat.S_IMODE(os.stat(layers.upper / "dir" / "sub").st_mode) == 0o555
    with pytest.raises(PermissionError):
        tree.making.create(tree.resolve(_path("dir/sub")), b"file")


def test_files_of_a_closed_directory_can_be_written(tmp_path: Path) -> None:
    """What counts is the file's mode, as on any file system, although a file is otherwise replaced by its name."""
    layers = Layers(tmp_path)
    (layers.lower / "dir").mkdir()
    for name in ("file", "fixed", "other"):
        (layers.lower / "dir" / name).write_bytes(b"a long old content")
    os.setxattr(layers.lower / "dir" / "file", "user.note", b"1")
    (layers.lower / "dir" / "fixed").chmod(0o444)
    (layers.lower / "dir").chmod(0o555)
    tree = layers.open()
    for content in (b"new", b"newer"):
        node = tree.write_file(_path("dir/file"), content)
        assert tree.read_file(_path("dir/file")) == content
        assert tree.attributes.read_xattrs(node) == {b"user.note": b"1"}
    tree.contents.append(tree.resolve(_path("dir/other")), b"!")
    with pytest.raises(PermissionError):
        tree.write_file(_path("dir/fixed"), b"new")
    with pytest.raises(PermissionError):
        tree.write_file(_path("dir/more"), b"new")
    assert stat.S_IMODE(tree.attr(_path("dir")).mode) == 0o555
    assert describe_tree(tree) == describe_tree(layers.open())
    assert os.listdir(layers.work) == []


def test_who_has_a_file_open_goes_on_when_its_mode_closes_it(tmp_path: Path) -> None:
    """Reading, writing and copying through an earlier open do not depend on which descriptors are still kept here."""
    layers = Layers(tmp_path)
    (layers.lower / "file").write_bytes(b"lower content")
    tree = layers.open()
    made = tree.making.create(tree.resolve(_path("")), b"made", 0o444)
    brought = tree.resolve(_path("file"))
    tree.steps.bring_up(brought)
    tree.attributes.chmod(brought, 0)
    for node in (made, brought):
        for step in (
            lambda node=node: tree.contents.write(node, b"new", 0),
            lambda node=node: tree.contents.read(node, 3, 0),
            lambda node=node: tree.contents.truncate(node, 3),
            lambda node=node: tree.contents.sync(node),
            lambda node=node: os.close(tree.contents.open_file(node, os.O_RDWR, is_open=True)),
        ):
            POOL.clear()
            step()
        assert tree.contents.read(node, 99, 0) == b"new"
    POOL.clear()

    assert [stat.S_IMODE(tree.attributes.getattr(node).mode) for node in (made, brought)] == [0o444, 0]
    for refused in (
        lambda: tree.read_file(_path("file")),
        lambda: tree.contents.append(made, b"x"),
        lambda: tree.contents.open_file(made, os.O_RDWR),
    ):
        POOL.clear()
        with pytest.raises(PermissionError):
            refused()

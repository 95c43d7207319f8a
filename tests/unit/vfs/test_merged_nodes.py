"""The merged tree by node: what a server that knows entries by number asks of it."""

from __future__ import annotations

import errno
import gc
import os
import resource
import stat
import threading
from collections.abc import Callable

import pytest

from avfs_git.errors import LayerNotUnderstood
from avfs_git.host.files.beneath import POOL, RENAME_EXCHANGE, RENAME_NOREPLACE
from avfs_git.paths import ROOT, TreePath
from avfs_git.vfs.tree.merged import MergedTree, Node
from tests.support.trees import describe_tree, list_nodes
from tests.unit.vfs.conftest import Layers

pytestmark = pytest.mark.needs("whiteout", "user-xattrs")

Fill = Callable[[dict[str, bytes | None]], MergedTree]


def _path(text: str) -> TreePath:
    return TreePath(text.encode())


# --- numbers ---------------------------------------------------------------------------------------------


def test_numbers_stay_through_copy_up_and_rename(fill: Fill) -> None:
    """What a program sees as st_ino does not move when an entry is written to or renamed, nor below it."""
    tree = fill({"dir/sub/file": b"x"})
    nodes = [tree.resolve(_path(path)) for path in ("dir", "dir/sub", "dir/sub/file")]
    numbers = [node.ino for node in nodes]
    tree.contents.write(nodes[2], b"y", 0)
    tree.move(_path("dir"), _path("moved"))
    assert [tree.resolve(_path(path)).ino for path in ("moved", "moved/sub", "moved/sub/file")] == numbers
    assert [tree.attributes.getattr(node).ino for node in nodes] == numbers
    assert [tree.pins.node_at(number) for number in numbers] == nodes
    assert tree.nodes.path_of(nodes[2]) == b"moved/sub/file"


def test_hard_links_share_a_node(layers: Layers, fill: Fill) -> None:
    """Also for a process that did not make them, and whichever name goes first."""
    tree = fill({"a": b"x"})
    tree.make_dir(_path("dir"))
    tree.make_link(_path("a"), _path("dir/b"))
    fresh = layers.open()
    node = fresh.resolve(_path("dir/b"))
    assert fresh.resolve(_path("a")) is node
    assert fresh.attributes.getattr(node).nlink == 2
    fresh.remove(_path("dir/b"))
    assert fresh.resolve(_path("a")) is node
    fresh.contents.write(node, b"y", 0)
    assert fresh.read_file(_path("a")) == b"y"
    assert fresh.attributes.getattr(node).nlink == 1


def test_a_node_finds_its_other_name_after_the_known_one_went(layers: Layers, fill: Fill) -> None:
    """An open file whose looked-up name is removed is the same file when another name of it is looked up."""
    tree = fill({})
    tree.write_file(_path("a"), b"x")
    tree.make_link(_path("a"), _path("b"))
    fresh = layers.open()
    node = fresh.resolve(_path("a"))
    fresh.pins.pin(node)
    fresh.remove(_path("a"))
    assert fresh.attributes.getattr(node).nlink == 1
    assert fresh.resolve(_path("b")) is node
    assert fresh.nodes.path_of(node) == b"b"
    fresh.pins.unpin(node)
    assert fresh.read_file(_path("b")) == b"x"


# --- what has no name any more ---------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["lower", "upper"])
def test_an_unlinked_file_in_use_can_be_read_and_written(layers: Layers, fill: Fill, where: str) -> None:
    """Every call on it works, in either layer, and its space is given back with the last pin."""
    tree = fill({"file": b"content"} if where == "lower" else {})
    if where == "upper":
        tree.write_file(_path("file"), b"content")
    node = tree.resolve(_path("file"))
    tree.pins.pin(node, 2)
    tree.remove(_path("file"))
    assert tree.contents.read(node, 100, 3) == b"tent"
    assert tree.contents.read_all(node) == b"content"
    tree.contents.write(node, b"C", 0)
    tree.contents.truncate(node, 4)
    tree.contents.append(node, b"!")
    tree.attributes.chmod(node, 0o640)
    tree.attributes.utimens(node, mtime_ns=5)
    tree.attributes.set_xattr(node, b"user.x", b"1")
    assert tree.attributes.read_xattrs(node) == {b"user.x": b"1"}
    tree.contents.sync(node)
    attr = tree.attributes.getattr(node)
    assert (tree.contents.read_all(node), stat.S_IMODE(attr.mode), attr.nlink) == (b"Cont!", 0o640, 0)
    fd = tree.contents.open_file(node, os.O_RDONLY)
    assert os.pread(fd, 100, 0) == b"Cont!"
    os.close(fd)
    with pytest.raises(FileNotFoundError):
        tree.making.link(node, tree.root, b"again")
    with pytest.raises(FileNotFoundError):
        tree.nodes.path_of(node)
    assert tree.nodes.readdir(tree.root) == []
    tree.pins.unpin(node)
    tree.pins.unpin(node)
    with pytest.raises(OSError, match="Stale"):
        tree.pins.node_at(node.ino)
    assert layers.open().nodes.readdir(tree.root) == []


def test_a_removed_directory_in_use_is_empty_and_takes_nothing(fill: Fill) -> None:
    """As for a process whose working directory was removed."""
    tree = fill({"lower": None})
    tree.make_dir(_path("upper"))
    for path in ("lower", "upper"):
        node = tree.resolve(_path(path))
        tree.pins.pin(node)
        tree.remove(_path(path))
        assert tree.nodes.readdir(node) == []
        assert stat.S_ISDIR(tree.attributes.getattr(node).mode)
        for call in (tree.making.create, tree.making.mkdir, tree.nodes.lookup):
            with pytest.raises(FileNotFoundError):
                call(node, b"new")


def test_files_below_a_removed_tree_stay_readable(fill: Fill) -> None:
    """Removing a whole tree takes names, not open files."""
    tree = fill({"dir/sub/low": b"low"})
    tree.write_file(_path("dir/sub/up"), b"up")
    nodes = [tree.resolve(_path("dir/sub/" + name)) for name in ("low", "up")]
    for node in nodes:
        tree.pins.pin(node)
    tree.remove(_path("dir"), recursive=True)
    assert [tree.contents.read_all(node) for node in nodes] == [b"low", b"up"]
    for node in nodes:
        tree.pins.unpin(node)


def test_a_file_replaced_by_rename_stays_readable(fill: Fill) -> None:
    """The name leads to the new file, the pinned node to the old one."""
    tree = fill({"old": b"old", "new": b"new"})
    for layer in ("lower", "upper"):
        node = tree.resolve(_path("old"))
        tree.pins.pin(node)
        tree.write_file(_path("new"), b"new")
        tree.move(_path("new"), _path("old"))
        assert tree.contents.read_all(node) == (b"old" if layer == "lower" else b"new")
        assert tree.read_file(_path("old")) == b"new"
        assert tree.resolve(_path("old")) is not node


# --- copying up ------------------------------------------------------------------------------------------


def test_copy_up_changes_nothing_that_shows(layers: Layers, fill: Fill) -> None:
    """Content, mode, times, attributes, and the times of every directory above are what they were."""
    fill({"a/b/file": b"x" * 3_000_000, "a/b/other": b""})
    (layers.lower / "a/b/file").chmod(0o4751)
    os.setxattr(layers.lower / "a/b/file", "user.overlay.opaque", b"mine")
    os.setxattr(layers.lower / "a/b", "user.note", b"dir")
    os.symlink("file", layers.lower / "a/b/link")
    (layers.lower / "a/b").chmod(0o2770)
    tree = layers.open()
    before = describe_tree(tree, times=True)
    for path in ("a/b/file", "a/b/link"):
        tree.steps.bring_up(tree.resolve(_path(path), follow_last=False))
        assert describe_tree(tree, times=True) == before
    assert describe_tree(layers.open(), times=True) == before
    assert (layers.upper / "a/b/file").stat().st_size == 3_000_000
    assert os.getxattr(layers.upper / "a/b/file", "user.overlay.overlay.opaque") == b"mine"
    assert layers.reported == []


def test_truncating_a_lower_file_to_nothing_copies_no_content(
    layers: Layers, fill: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither by truncate nor by opening it with O_TRUNC."""
    tree = fill({"a": b"content", "b": b"content"})

    def refuse(entry: object) -> bytes:
        raise AssertionError("the content is read")

    monkeypatch.setattr(tree.lower, "read", refuse)
    monkeypatch.setattr(tree.lower, "stream", refuse)
    tree.contents.truncate(tree.resolve(_path("a")), 0)
    os.close(tree.contents.open_file(tree.resolve(_path("b")), os.O_WRONLY | os.O_TRUNC))
    assert tree.read_file(_path("a")) == tree.read_file(_path("b")) == b""


def test_large_lower_files_are_read_in_pieces(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    """No read holds a large file whole, and each place can be read."""
    content = bytes(range(256)) * 20_000
    tree = fill({"big": content})

    def refuse(entry: object) -> bytes:
        raise AssertionError("the whole file is read")

    monkeypatch.setattr(tree.lower, "read", refuse)
    node = tree.resolve(_path("big"))
    assert tree.contents.read(node, 1000, 4_000_000) == content[4_000_000:4_001_000]
    assert tree.contents.read(node, 1000, len(content) - 10) == content[-10:]
    fd = tree.contents.open_file(node, os.O_RDONLY)
    assert os.pread(fd, 100, 70) == content[70:170]
    os.close(fd)
    tree.contents.write(node, b"!", 0)
    assert tree.contents.read(node, 3, 0) == b"!" + content[1:3]
    assert b"".join(tree.contents.stream(node)) == b"!" + content[1:]


# --- marks and attributes --------------------------------------------------------------------------------


def test_unknown_marks_are_refused_when_they_are_met(layers: Layers) -> None:
    """A file whose data is elsewhere, or a directory that was renamed, is not shown as what it is not."""
    (layers.upper / "file").touch()
    (layers.upper / "dir").mkdir()
    os.setxattr(layers.upper / "file", "user.overlay.metacopy", b"")
    os.setxattr(layers.upper / "dir", "user.overlay.redirect", b"/other")
    tree = layers.open()
    for path in ("file", "dir"):
        with pytest.raises(LayerNotUnderstood, match=path):
            tree.resolve(_path(path))


def test_a_whiteout_cannot_be_made_from_inside(fill: Fill) -> None:
    """Neither the device nor the attribute that would delete a lower file."""
    tree = fill({"file": b"x"})
    with pytest.raises(PermissionError):
        tree.making.mknod(tree.root, b"white", stat.S_IFCHR | 0o600, 0)
    tree.attributes.set_xattr(tree.root, b"user.overlay.opaque", b"y")
    assert tree.attributes.read_xattrs(tree.root) == {b"user.overlay.opaque": b"y"}
    tree.forget_all()
    assert tree.read_file(_path("file")) == b"x"
    with pytest.raises(PermissionError):
        tree.attributes.set_xattr(tree.root, b"trusted.overlay.opaque", b"y")


def test_access_control_lists_are_refused(layers: Layers, fill: Fill) -> None:
    """A list that nobody goes by is not taken: the error says so, and nothing is copied up. Removing one is allowed."""
    tree = fill({"dir/file": b"x"})
    for path in ("dir", "dir/file"):
        node = tree.resolve(_path(path))
        for name in (b"system.posix_acl_access", b"system.posix_acl_default"):
            with pytest.raises(OSError, match="not supported") as caught:
                tree.attributes.set_xattr(node, name, b"\2\0\0\0")
            assert caught.value.errno == errno.EOPNOTSUPP
            with pytest.raises(OSError, match="No data"):
                tree.attributes.remove_xattr(node, name)
    assert os.listdir(layers.upper) == []


def test_xattr_flags_are_obeyed_before_anything_is_copied_up(layers: Layers, fill: Fill) -> None:
    """XATTR_CREATE and XATTR_REPLACE ask about the attribute that shows."""
    tree = fill({"file": b""})
    node = tree.resolve(_path("file"))
    for call, number in (
        (lambda: tree.attributes.set_xattr(node, b"user.x", b"", flags=os.XATTR_REPLACE), errno.ENODATA),
        (lambda: tree.attributes.remove_xattr(node, b"user.x"), errno.ENODATA),
        (lambda: tree.attributes.get_xattr(node, b"user.x"), errno.ENODATA),
    ):
        with pytest.raises(OSError, match="No data") as caught:
            call()
        assert caught.value.errno == number
    assert os.listdir(layers.upper) == []
    tree.attributes.set_xattr(node, b"user.x", b"1", flags=os.XATTR_CREATE)
    with pytest.raises(FileExistsError):
        tree.attributes.set_xattr(node, b"user.x", b"2", flags=os.XATTR_CREATE)
    assert tree.attributes.get_xattr(node, b"user.x") == b"1"


def test_whiteouts_spelled_by_attribute_hide(layers: Layers) -> None:
    """What another tool deleted in its spelling is gone, and can be made anew."""
    for name in ("a", "b"):
        (layers.lower / name).write_bytes(b"low")
    (layers.upper / "a").touch()
    os.setxattr(layers.upper / "a", "user.overlay.whiteout", b"")
    os.setxattr(layers.upper, "user.overlay.opaque", b"x")
    tree = layers.open()
    assert tree.nodes.readdir(tree.root) == [(b"b", stat.S_IFREG)]
    with pytest.raises(FileNotFoundError):
        layers.open().resolve(_path("a"))
    tree.write_file(_path("a"), b"")
    assert layers.open().read_file(_path("a")) == b""


# --- making ----------------------------------------------------------------------------------------------


def test_exact_modes_whatever_the_umask(fill: Fill) -> None:
    """A server is told modes that the caller's umask has been taken from already."""
    tree = fill({"gone": b""})
    tree.remove(_path("gone"))
    old = os.umask(0o077)
    try:
        for name in (b"file", b"gone"):
            assert stat.S_IMODE(tree.attributes.getattr(tree.making.create(tree.root, name, 0o6666)).mode) == 0o6666
        tree.remove(_path("gone"))
        for name in (b"dir", b"gone"):
            assert stat.S_IMODE(tree.attributes.getattr(tree.making.mkdir(tree.root, name, 0o1777)).mode) == 0o1777
        assert stat.S_IMODE(tree.attributes.getattr(tree.making.create(tree.root, b"masked")).mode) == 0o600
        assert stat.S_IMODE(tree.attr(_path("masked")).mode) == 0o600
        tree.write_file(_path("whole"), b"")
        assert stat.S_IMODE(tree.attr(_path("whole")).mode) == 0o600
    finally:
        os.umask(old)


@pytest.mark.needs("root")
def test_owner_and_group_of_what_is_made(fill: Fill) -> None:
    """The caller's, or the group of a directory that hands it on; made in place, over a whiteout, or whole."""
    tree = fill({"dir/gone": b"", "dir/gone2": b"", "dir/gone3": b""})
    parent = tree.resolve(_path("dir"))
    tree.attributes.chown(parent, 7, 8)
    tree.attributes.chmod(parent, 0o2775)
    for gone in ("gone", "gone2", "gone3"):
        tree.remove(_path("dir/" + gone))
    made = [
        tree.making.create(parent, b"file", 0o644, owner=(5, 6)),
        tree.making.create(parent, b"gone", 0o644, owner=(5, 6)),
        tree.making.symlink(parent, b"link", b"x", owner=(5, 6)),
    ]
    for node in made:
        attr = tree.attributes.getattr(node)
        assert (attr.uid, attr.gid) == (5, 8)
    for name in (b"sub", b"gone2"):
        attr = tree.attributes.getattr(tree.making.mkdir(parent, name, 0o755, owner=(5, 6)))
        assert (attr.uid, attr.gid, stat.S_IMODE(attr.mode)) == (5, 8, 0o2755)
    assert tree.attributes.getattr(tree.write_file(_path("dir/whole"), b"")).gid == 8
    assert tree.attributes.getattr(tree.write_file(_path("dir/gone3"), b"")).gid == 8
    outside = tree.attributes.getattr(tree.making.create(tree.root, b"outside", 0o644, owner=(5, 6)))
    assert (outside.uid, outside.gid) == (5, 6)
    tree.write_file(_path("outside"), b"anew")
    assert tree.attr(_path("outside")).uid == 5


def test_listing_without_looking_up(fill: Fill) -> None:
    """A plain listing makes no nodes and tells the ids of lower content."""
    tree = fill({"a": b"1", "b": None})
    tree.write_file(_path("c"), b"333")
    count = len(tree.nodes.inodes)
    found = tree.attributes.list_attrs(tree.root)
    assert [(entry.name, entry.attr.size if stat.S_ISREG(entry.attr.mode) else None) for entry in found] == [
        (b"a", 1),
        (b"b", None),
        (b"c", 3),
    ]
    assert [entry.entry is not None for entry in found] == [True, True, False]
    assert len(tree.nodes.inodes) == count


def test_mutations_are_reported(layers: Layers, fill: Fill) -> None:
    """Each says which path changed, and a renamed directory both its names with all below."""
    tree = fill({"dir/file": b"", "x": b""})

    def reported() -> list[tuple[TreePath, bool]]:
        found = list(layers.reported)
        layers.reported.clear()
        return found

    tree.contents.write(tree.resolve(_path("dir/file")), b"1", 0)
    assert reported() == [(b"dir/file", False)]
    tree.attributes.chmod(tree.resolve(_path("dir")), 0o700)
    assert reported() == [(b"dir", False)]
    tree.move(_path("dir"), _path("moved"))
    assert reported() == [(b"dir", True), (b"moved", True)]
    tree.make_link(_path("x"), _path("moved/y"))
    reported()
    tree.contents.append(tree.resolve(_path("x")), b"1")
    assert sorted(reported()) == [(b"moved/y", False), (b"x", False)]
    tree.attributes.chmod(tree.root, 0o755)
    assert reported() == [(ROOT, False)]
    tree.nodes.readdir(tree.root)
    tree.read_file(_path("x"))
    assert reported() == []


def test_many_changes_of_one_file_are_one_report(layers: Layers, fill: Fill) -> None:
    """A file that is changed again and again is reported once, until another file is reported.

    A new name of the file, or a caller that gathers anew, brings another report.
    """
    tree = fill({"dir/file": b"", "x": b""})
    file, other = tree.resolve(_path("dir/file")), tree.resolve(_path("x"))

    def change() -> list[TreePath]:
        layers.reported.clear()
        tree.contents.write(file, b"1", 0)
        tree.attributes.chmod(file, 0o600)
        tree.attributes.utimens(file, mtime_ns=1)
        return [path for path, _ in layers.reported]

    assert change() == [b"dir/file"]
    assert change() == []
    tree.attributes.chmod(other, 0o600)
    assert change() == [b"dir/file"]
    tree.move(_path("dir"), _path("moved"))
    assert change() == [b"moved/file"]
    tree.make_link(_path("moved/file"), _path("link"))
    assert sorted(change()) == [b"link", b"moved/file"]
    tree.changes.report_anew()
    assert sorted(change()) == [b"link", b"moved/file"]


def test_an_observer_sees_every_change(fill: Fill) -> None:
    """Also one of a file that was reported last.

    With the names that mean something else, and the nodes that lose one.
    """
    seen: list[tuple[object, ...]] = []

    class Watching:
        def see_path(self, path: TreePath, deep: bool) -> None:
            seen.append((path, deep))

        def see_name(self, parent: Node, name: bytes) -> None:
            seen.append((parent.ino, name))

        def see_lost(self, node: Node) -> None:
            seen.append((node.ino,))

    tree = fill({"file": b""})
    file = tree.resolve(_path("file"))
    tree.contents.write(file, b"1", 0)
    tree.changes.observer = Watching()
    tree.contents.write(file, b"1", 0)
    tree.attributes.chmod(file, 0o600)
    assert seen == [(b"file", False), (b"file", False)]
    seen.clear()
    tree.namespace.unlink(tree.root, b"file")
    assert seen == [(file.ino,), (tree.root.ino, b"file"), (b"file", False)]
    tree.changes.observer = None
    tree.making.create(tree.root, b"new")
    assert len(seen) == 3


def test_rename_flags(fill: Fill) -> None:
    """Those of renameat2, and no others."""
    tree = fill({"a": b"a", "b": b"b"})
    with pytest.raises(FileExistsError):
        tree.move(_path("a"), _path("b"), flags=RENAME_NOREPLACE)
    with pytest.raises(FileNotFoundError):
        tree.move(_path("a"), _path("c"), flags=RENAME_EXCHANGE)
    with pytest.raises(OSError, match="Invalid"):
        tree.move(_path("a"), _path("c"), flags=8)
    tree.move(_path("a"), _path("b"), flags=RENAME_EXCHANGE)
    assert (tree.read_file(_path("a")), tree.read_file(_path("b"))) == (b"b", b"a")


# --- many at once ----------------------------------------------------------------------------------------


def test_threads_share_a_tree(layers: Layers, fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight threads write, read, rename and remove side by side with hardly any descriptors to keep."""
    monkeypatch.setattr(POOL, "_limit", 4)
    tree = fill({f"dir{number}/low": b"low" for number in range(8)})
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(60):
                here = f"dir{(number + turn) % 8}"
                mine = _path(f"{here}/file{number}")
                tree.write_file(mine, b"%d" % turn)
                assert tree.read_file(mine) == b"%d" % turn
                node = tree.resolve(mine)
                tree.contents.write(node, b"more", 1)
                moved = _path(f"dir{(number + turn + 1) % 8}/moved{number}")
                tree.move(mine, moved)
                assert tree.read_file(moved)[1:] == b"more"
                assert tree.read_file(_path(f"{here}/low")) == b"low"
                list_nodes(tree, tree.resolve(_path(here)))
                tree.remove(moved)
        except BaseException as error:  # noqa: BLE001 - handed to the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert describe_tree(tree) == describe_tree(layers.open())
    assert sorted(tree.nodes.readdir(tree.root)) == [(b"dir%d" % number, stat.S_IFDIR) for number in range(8)]


def test_a_tree_keeps_few_descriptors(layers: Layers, fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many directories and files are used, the pool's limit holds."""
    gc.collect()  # trees of other tests
    POOL.clear()
    monkeypatch.setattr(POOL, "_limit", 10)
    tree = fill({})
    before = len(os.listdir("/proc/self/fd"))
    for number in range(100):
        tree.make_dir(_path(f"dir{number}"))
        node: Node = tree.making.create(tree.resolve(_path(f"dir{number}")), b"file")
        tree.contents.write(node, b"x", 0)
    assert len(os.listdir("/proc/self/fd")) <= before + 10
    for number in range(100):
        assert tree.contents.read(tree.resolve(_path(f"dir{number}/file")), 10, 0) == b"x"
    assert len(os.listdir("/proc/self/fd")) <= before + 10


# --- the `.git` of a live tree ---------------------------------------------------------------------------


def test_the_git_file_is_there_for_programs_only(fill: Fill) -> None:
    """A server finds, lists and reads it; whoever goes by path, or lists the workspace, does not see it."""
    tree = fill({"file": b"x"})
    asked: list[int] = []

    def is_brought_up() -> bool:
        asked.append(1)
        return True

    node = tree.nodes.show_git_file(b"gitdir: somewhere\n", 5_000_000_007, is_brought_up)
    assert tree.nodes.find(tree.root, b".git") is node
    assert (b".git", stat.S_IFREG) in tree.nodes.readdir_shown(tree.root)
    attr = tree.attributes.getattr(node)
    assert (attr.mode, attr.size, attr.mtime_ns) == (stat.S_IFREG | 0o644, 18, 5_000_000_007)
    assert tree.contents.read_now(node, 100, 0) is None
    assert (tree.contents.read(node, 100, 0), tree.contents.read(node, 4, 8), len(asked)) == (
        b"gitdir: somewhere\n",
        b"some",
        2,
    )
    tree.pins.pin(node)
    tree.pins.unpin(node)
    assert tree.pins.node_at(node.ino) is node
    with pytest.raises(FileNotFoundError):
        tree.resolve(_path(".git"))
    assert [name for name, _ in tree.nodes.readdir(tree.root)] == [b"file"]
    assert [listed.name for listed in tree.attributes.list_attrs(tree.root)] == [b"file"]
    tree.namespace.relist()
    assert tree.nodes.find(tree.root, b".git") is node


def test_the_git_file_cannot_be_changed(fill: Fill) -> None:
    """All that would change, remove, replace or move it fails with EPERM, and none of it reaches the upper layer."""
    tree = fill({"file": b"x"})
    node = tree.nodes.show_git_file(b"gitdir: somewhere\n", 0)
    file = tree.resolve(_path("file"))
    root = tree.root
    for change in (
        lambda: tree.contents.write(node, b"x", 0),
        lambda: tree.contents.truncate(node, 0),
        lambda: tree.attributes.chmod(node, 0o600),
        lambda: tree.attributes.chown(node, 1, 1),
        lambda: tree.attributes.utimens(node, atime_ns=1, mtime_ns=1),
        lambda: tree.attributes.set_xattr(node, b"user.a", b"b"),
        lambda: tree.attributes.remove_xattr(node, b"user.a"),
        lambda: tree.contents.open_file(node, os.O_RDWR),
        lambda: tree.namespace.unlink(root, b".git"),
        lambda: tree.namespace.rmdir(root, b".git"),
        lambda: tree.namespace.rename(root, b".git", root, b"other"),
        lambda: tree.namespace.rename(root, b"file", root, b".git"),
        lambda: tree.namespace.rename(root, b"file", root, b".git", flags=RENAME_EXCHANGE),
        lambda: tree.making.link(node, root, b"other"),
        lambda: tree.making.link(file, root, b".git"),
        lambda: tree.making.create(root, b".git"),
        lambda: tree.making.mkdir(root, b".git"),
    ):
        with pytest.raises(OSError, match=r"permitted|No data") as caught:
            change()
        assert caught.value.errno in (errno.EPERM, errno.ENODATA), change
    assert tree.nodes.find(root, b".git") is node
    assert ".git" not in os.listdir(tree.upper.directory)


def test_a_write_that_the_disk_takes_in_part_tells_how_much(fill: Fill) -> None:
    """As pwrite(2) has it: what was written is told, and the next write fails.

    Here at the largest size that a file may have.
    """
    tree = fill({"file": b""})
    node = tree.resolve(_path("file"))
    most, data = 16 << 20, bytes(1 << 20)
    tree.contents.write(node, b"x", most - 1000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        done = tree.contents.write(node, data, most - 700)
        with pytest.raises(OSError, match="too large") as refused:
            tree.contents.write(node, data, most)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)

    assert done == 700
    assert refused.value.errno == errno.EFBIG
    assert tree.attributes.getattr(node).size == most

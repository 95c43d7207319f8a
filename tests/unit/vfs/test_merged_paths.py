"""The merged tree by path: where paths lead, and how files are replaced."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from avfs_git.errors import PathEscapes
from avfs_git.host.files.beneath import POOL
from avfs_git.paths import ROOT, TreePath
from avfs_git.vfs.tree.merged import MergedTree
from tests.support.steps import OLD_NS
from tests.support.trees import describe_tree
from tests.unit.vfs.conftest import Layers

pytestmark = pytest.mark.needs("whiteout", "user-xattrs")

Fill = Callable[[dict[str, bytes | None]], MergedTree]


def _path(text: str) -> TreePath:
    return TreePath(text.encode())


# --- where paths lead ------------------------------------------------------------------------------------


def test_resolve_follows_links_inside_the_tree(layers: Layers, fill: Fill) -> None:
    """Relative links, links to directories, and `..` through them lead where the kernel would go."""
    tree = fill({"dir/sub/file": b"here", "other": b"o"})
    tree.make_symlink(_path("to-dir"), b"dir/sub")
    tree.make_symlink(_path("dir/up"), b"../other")
    tree.make_symlink(_path("chain"), b"./to-dir/../up")
    assert tree.read_file(_path("to-dir/file")) == b"here"
    assert tree.read_file(_path("dir/up")) == b"o"
    assert tree.read_file(_path("chain")) == b"o"
    assert tree.resolve(_path("to-dir"), follow_last=False).kind == stat.S_IFLNK
    assert tree.resolve(_path("to-dir")) is tree.resolve(_path("dir/sub"))


def test_a_file_with_several_names_is_found_by_the_one_that_was_given(layers: Layers, fill: Fill) -> None:
    """Also where its node is known by another, and the directory by none: removing a name removes no other."""
    tree = fill({"dir/file": b"x"})
    tree.make_link(_path("dir/file"), _path("other"))
    tree.forget_all()
    tree.resolve(_path("other"))
    parent, name, node = tree.locate(_path("dir/file"))
    tree.remove(_path("dir/file"))

    assert (tree.nodes.path_in(parent, name), node) == (b"dir/file", tree.resolve(_path("other")))


@pytest.mark.parametrize(("target", "end"), [(b".", b"dir"), (b"sub/.", b"dir/sub"), (b"sub/..", b"dir"), (b"..", b"")])
def test_a_link_that_ends_in_dots_leads_to_a_directory(layers: Layers, fill: Fill, target: bytes, end: bytes) -> None:
    """The directory stands where it stands, not under the name of the link."""
    tree = fill({"dir/sub/file": b"x"})
    tree.make_symlink(_path("dir/link"), target)
    tree.forget_all()
    parent, name, node = tree.locate(_path("dir/link"))

    assert node is tree.resolve(TreePath(end))
    assert node is tree.root or tree.nodes.path_in(parent, name) == end


@pytest.mark.parametrize("target", [b"/etc/passwd", b"../outside", b"dir/../../outside", b"/", b".."])
@pytest.mark.parametrize("below", [False, True])
def test_links_never_lead_out(layers: Layers, fill: Fill, target: bytes, below: bool) -> None:
    """What a link names outside the workspace is neither read, written, listed nor made."""
    (layers.base / "outside").write_bytes(b"secret")
    tree = fill({"dir/file": b"x"})
    tree.make_symlink(_path("link"), target)
    path = _path("link/passwd" if below else "link")
    for call in (tree.read_file, tree.resolve, tree.attr if below else tree.resolve):
        with pytest.raises(PathEscapes):
            call(path)
    with pytest.raises(PathEscapes):
        tree.write_file(path, b"overwritten")
    assert (layers.base / "outside").read_bytes() == b"secret"


def test_resolve_stops_after_40_links(fill: Fill) -> None:
    """A loop ends with ELOOP; a chain of 40 is followed."""
    tree = fill({"file": b"end"})
    tree.make_symlink(_path("loop"), b"loop")
    tree.make_symlink(_path("0"), b"file")
    for number in range(1, 41):
        tree.make_symlink(_path(str(number)), str(number - 1).encode())
    assert tree.read_file(_path("39")) == b"end"
    for path in ("loop", "40"):
        with pytest.raises(OSError, match="symbolic links") as caught:
            tree.read_file(_path(path))
        assert caught.value.errno == errno.ELOOP


def test_paths_through_files_are_refused(fill: Fill) -> None:
    """A file is no directory, a missing name is missing."""
    tree = fill({"file": b"x"})
    with pytest.raises(NotADirectoryError):
        tree.resolve(_path("file/below"))
    with pytest.raises(FileNotFoundError):
        tree.resolve(_path("no/such"))
    with pytest.raises(FileNotFoundError):
        tree.write_file(_path("no/such"), b"")
    with pytest.raises(IsADirectoryError):
        tree.read_file(ROOT)


def test_a_remembered_path_is_forgotten_when_its_name_moves(fill: Fill) -> None:
    """Paths that were resolved before a rename or removal do not lead to what was there."""
    tree = fill({"a/b/file": b"1", "c/file": b"2"})
    tree.read_file(_path("a/b/file"))
    tree.read_file(_path("c/file"))
    tree.move(_path("a"), _path("x"))
    with pytest.raises(FileNotFoundError):
        tree.read_file(_path("a/b/file"))
    assert tree.read_file(_path("x/b/file")) == b"1"
    tree.move(_path("c/file"), _path("x/b/file"))
    assert tree.read_file(_path("x/b/file")) == b"2"
    tree.remove(_path("x"), recursive=True)
    with pytest.raises(FileNotFoundError):
        tree.read_file(_path("x/b/file"))


def test_git_in_the_root_is_reserved(layers: Layers) -> None:
    """`.git` of the root is neither shown nor made, whichever layer holds one; elsewhere it is a name like others."""
    (layers.lower / ".git").mkdir()
    (layers.lower / "dir").mkdir()
    tree = layers.open()
    assert tree.nodes.readdir(tree.root) == [(b"dir", stat.S_IFDIR)]
    for call in (
        lambda: tree.making.create(tree.root, b".git"),
        lambda: tree.making.mkdir(tree.root, b".git"),
        lambda: tree.making.symlink(tree.root, b".git", b"x"),
        lambda: tree.move(_path("dir"), _path(".git")),
        lambda: tree.write_file(_path(".git"), b""),
        lambda: tree.namespace.unlink(tree.root, b".git"),
    ):
        with pytest.raises(PermissionError):
            call()
    with pytest.raises(FileNotFoundError):
        tree.resolve(_path(".git/config"))
    tree.write_file(_path("dir/.git"), b"gitdir: elsewhere\n")
    assert tree.read_file(_path("dir/.git")) == b"gitdir: elsewhere\n"


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"a\0b"])
def test_impossible_names_are_refused(fill: Fill, name: bytes) -> None:
    """Names that no directory can hold are refused before the disk is asked."""
    tree = fill({"file": b""})
    calls: list[Callable[[], object]] = [
        lambda: tree.making.create(tree.root, name),
        lambda: tree.namespace.rename(tree.root, b"file", tree.root, name),
        lambda: tree.making.link(tree.resolve(_path("file")), tree.root, name),
    ]
    for call in calls:
        with pytest.raises(OSError, match="Invalid argument"):
            call()


def test_names_may_have_255_bytes_and_no_more(fill: Fill) -> None:
    """The limit is that of Linux."""
    tree = fill({})
    tree.making.create(tree.root, b"n" * 255)
    calls: list[Callable[[], object]] = [
        lambda: tree.making.create(tree.root, b"n" * 256),
        lambda: tree.nodes.lookup(tree.root, b"n" * 256),
    ]
    for call in calls:
        with pytest.raises(OSError, match="too long"):
            call()


@pytest.mark.slow
def test_trees_deeper_than_a_path_can_say(layers: Layers) -> None:
    """Depth is bounded neither by the longest path nor by recursion."""
    tree = layers.open()
    parts = [b"d" * 50] * 1500  # 75 kB of path
    path = TreePath(b"/".join(parts))
    tree.make_dir(path, parents=True)
    file = TreePath(path + b"/file")
    tree.write_file(file, b"deep")
    fresh = layers.open()
    assert fresh.read_file(file) == b"deep"
    assert fresh.nodes.path_of(fresh.resolve(file)) == file
    fresh.move(_path("d" * 50), _path("moved"))
    fresh.remove(_path("moved"), recursive=True)
    assert fresh.nodes.readdir(fresh.root) == []
    assert os.listdir(layers.work) == []


# --- replacing files -------------------------------------------------------------------------------------


def test_write_file_keeps_mode_attributes_and_the_directory_s_times(layers: Layers, fill: Fill) -> None:
    """Content is all that changes, in whichever layer the file is."""
    tree = fill({"dir/file": b"old"})
    (layers.lower / "dir" / "file").chmod(0o750)
    os.setxattr(layers.lower / "dir" / "file", "user.note", b"mine")
    os.utime(layers.lower / "dir", ns=(OLD_NS, OLD_NS))
    tree = layers.open()
    for content in (b"first", b"second", b""):
        node = tree.write_file(_path("dir/file"), content)
        assert tree.read_file(_path("dir/file")) == content
        assert stat.S_IMODE(tree.attributes.getattr(node).mode) == 0o750
        assert tree.attributes.read_xattrs(node) == {b"user.note": b"mine"}
        assert tree.attr(_path("dir")).mtime_ns == OLD_NS
    tree.write_file(_path("dir/file"), b"x", mode=0o4711)
    assert stat.S_IMODE(tree.attr(_path("dir/file")).mode) == 0o4711
    assert describe_tree(tree) == describe_tree(layers.open())


def test_write_file_takes_pieces(fill: Fill) -> None:
    """Content may come in pieces, new or over an old file."""
    tree = fill({})
    for pieces in ([b"one", b"", b"two"], [], [b"x" * 3_000_000, b"y"]):
        tree.write_file(_path("file"), iter(pieces))
        assert tree.read_file(_path("file")) == b"".join(pieces)


def test_write_file_leaves_the_old_file_when_the_pieces_fail(layers: Layers, fill: Fill) -> None:
    """A source that breaks off changes nothing and leaves nothing."""

    def broken() -> list[bytes]:
        raise ValueError("source broke")

    tree = fill({"lower": b"low"})
    tree.write_file(_path("upper"), b"up")
    for path, content in (("lower", b"low"), ("upper", b"up")):
        with pytest.raises(ValueError, match="source broke"):
            tree.write_file(_path(path), (piece for piece in [b"part", *broken()]))
        assert tree.read_file(_path(path)) == content
    with pytest.raises(ValueError, match="source broke"):
        tree.write_file(_path("new"), (piece for piece in [b"part", *broken()]))
    assert [name for name, _ in sorted(tree.nodes.readdir(tree.root))] == [b"lower", b"upper"]
    assert os.listdir(layers.work) == []


def test_write_file_shows_in_all_hard_links(layers: Layers, fill: Fill) -> None:
    """A file with several names is written in place, also by a process that never saw the others."""
    tree = fill({})
    tree.write_file(_path("one"), b"a longer content")
    tree.make_link(_path("one"), _path("two"))
    fresh = layers.open()
    layers.reported.clear()
    fresh.write_file(_path("two"), b"new")
    assert (ROOT, True) in layers.reported, "its other name is not known, so anything may have changed"
    assert fresh.read_file(_path("one")) == b"new"
    assert fresh.attr(_path("one")).nlink == 2
    assert fresh.resolve(_path("one")) is fresh.resolve(_path("two"))


def test_write_file_through_a_link_changes_what_it_points_to(fill: Fill) -> None:
    """As programs that open a link for writing do; a dangling one gets its file."""
    tree = fill({"dir/file": b"old"})
    tree.make_symlink(_path("link"), b"dir/file")
    tree.make_symlink(_path("dangling"), b"dir/made")
    tree.write_file(_path("link"), b"new")
    tree.write_file(_path("dangling"), b"made")
    assert tree.read_file(_path("dir/file")) == b"new"
    assert tree.read_file(_path("dir/made")) == b"made"
    assert stat.S_ISLNK(tree.attr(_path("link")).mode)


def test_write_file_refuses_what_is_no_file(fill: Fill) -> None:
    """A directory, and a fifo, which would block."""
    tree = fill({"dir": None})
    tree.making.mknod(tree.root, b"pipe", stat.S_IFIFO | 0o600)
    with pytest.raises(IsADirectoryError):
        tree.write_file(_path("dir"), b"")
    with pytest.raises(OSError, match="Invalid"):
        tree.write_file(_path("pipe"), b"")
    with pytest.raises(OSError, match="Invalid"):
        tree.read_file(_path("pipe"))


def test_write_file_over_a_pinned_one_leaves_that_readable(fill: Fill) -> None:
    """Whoever has the old file open goes on with the old content, in either layer."""
    tree = fill({"lower": b"low", "big": b"b" * 100})
    tree.write_file(_path("upper"), b"up")
    for path, old in (("lower", b"low"), ("upper", b"up")):
        node = tree.resolve(_path(path))
        tree.pins.pin(node)
        new = tree.write_file(_path(path), b"replaced")
        assert new.ino != node.ino
        assert tree.contents.read(node, 100, 0) == old
        assert tree.attributes.getattr(node).nlink == 0
        tree.contents.write(node, b"!!", 0)
        assert tree.contents.read(node, 100, 0) == b"!!" + old[2:]
        assert tree.read_file(_path(path)) == b"replaced"
        tree.pins.unpin(node)
        with pytest.raises(OSError, match="Stale"):
            tree.pins.node_at(node.ino)


# --- by path ---------------------------------------------------------------------------------------------


def test_make_dir_with_parents(fill: Fill) -> None:
    """All that is missing is made; what is there must be a directory."""
    tree = fill({"a/file": b""})
    tree.make_dir(_path("a/b/c/d"), parents=True)
    tree.make_dir(_path("a/b"), parents=True)
    assert stat.S_ISDIR(tree.attr(_path("a/b/c/d")).mode)
    with pytest.raises(FileExistsError):
        tree.make_dir(_path("a/file"), parents=True)
    with pytest.raises(NotADirectoryError):
        tree.make_dir(_path("a/file/b"), parents=True)
    with pytest.raises(FileExistsError):
        tree.make_dir(_path("a"))
    with pytest.raises(FileNotFoundError):
        tree.make_dir(_path("x/y"))


def _count_calls(act: Callable[[], object]) -> int:
    """Count the calls of Python's functions that something takes."""
    count = 0

    def note(_frame: object, event: str, _value: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("start", ["", "there/" * 200, "link/"])
def test_a_deep_path_costs_what_it_is_long(layers: Layers, start: str) -> None:
    """No directory on the way is looked for from the root; a symbolic link on the way changes only where it leads."""
    tree = layers.open()
    if start == "link/":
        tree.make_dir(_path("real"))
        tree.make_symlink(_path("link"), b"real")
    elif start:
        tree.make_dir(_path(start.rstrip("/")), parents=True)

    def make(top: str, depth: int) -> Callable[[], object]:
        return lambda: tree.make_dir(_path(f"{start}{top}{'/d' * depth}"), parents=True)

    few, many = _count_calls(make("a", 100)), _count_calls(make("b", 400))
    if start != "link/":
        assert many < 5 * few
    where = "real/" if start == "link/" else start
    assert tree.attr(_path(f"{where}b{'/d' * 400}")).mode == tree.attr(_path(f"{where}a{'/d' * 100}")).mode


def test_the_root_is_neither_removed_nor_moved(fill: Fill) -> None:
    """It has no name that could be taken."""
    tree = fill({"a": None})
    calls: list[Callable[[], object]] = [
        lambda: tree.remove(ROOT, recursive=True),
        lambda: tree.move(ROOT, _path("a/b")),
        lambda: tree.move(_path("a"), ROOT),
    ]
    for call in calls:
        with pytest.raises(OSError, match="busy"):
            call()
    tree.attributes.chmod(tree.root, 0o711)
    assert stat.S_IMODE(tree.attr(ROOT).mode) == 0o711


def test_remove_tree_is_one_step_and_leaves_nothing_in_work(layers: Layers, fill: Fill) -> None:
    """Lower and upper content go together; what is made anew under the name is empty."""
    tree = fill({"dir/low": b"", "dir/sub/low": b""})
    tree.write_file(_path("dir/sub/up"), b"")
    tree.remove(_path("dir"), recursive=True)
    assert os.listdir(layers.work) == ["avfs-whiteout"]
    assert (_path("dir"), True) in layers.reported
    tree.make_dir(_path("dir"))
    assert tree.nodes.readdir(tree.resolve(_path("dir"))) == []
    assert layers.open().nodes.readdir(tree.resolve(_path("dir"))) == []


# --- forgetting ------------------------------------------------------------------------------------------


def test_forget_all_shows_what_another_process_did(layers: Layers, fill: Fill) -> None:
    """Names, content and directories put in other directories' places are seen anew; old nodes are dead."""
    tree = fill({"dir/a": b"1"})
    tree.write_file(_path("dir/b"), b"2")
    tree.nodes.readdir(tree.resolve(_path("dir")))
    old = tree.resolve(_path("dir"))
    other = layers.open()
    other.remove(_path("dir/a"))
    other.write_file(_path("dir/c"), b"3")
    other.move(_path("dir"), _path("moved"))
    other.make_dir(_path("dir"))
    tree.forget_all()
    assert describe_tree(tree) == describe_tree(other)
    with pytest.raises(FileNotFoundError):
        tree.attributes.getattr(old)
    with pytest.raises(FileNotFoundError):
        tree.making.create(old, b"x")


def test_removed_behind_our_back(layers: Layers, fill: Fill) -> None:
    """A file that vanished from the upper layer is missing, not a failure for ever."""
    tree = fill({"low": b"lower"})
    tree.write_file(_path("up"), b"")
    tree.write_file(_path("low"), b"upper")
    (layers.upper / "up").unlink()
    (layers.upper / "low").unlink()
    for path in ("up", "low"):
        with pytest.raises(FileNotFoundError):
            tree.read_file(_path(path))
        with pytest.raises(FileNotFoundError):
            tree.remove(_path(path)) if path == "up" else tree.attributes.chmod(tree.resolve(_path(path)), 0o600)
    with pytest.raises(FileNotFoundError):
        tree.resolve(_path("up"))
    tree.forget_all()
    assert tree.read_file(_path("low")) == b"lower"


def test_swapped_for_a_link_behind_our_back(layers: Layers, fill: Fill, tmp_path: Path) -> None:
    """A file or directory that was swapped for a link is not followed out."""
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_bytes(b"secret")
    tree = fill({})
    tree.make_dir(_path("dir"))
    tree.write_file(_path("dir/file"), b"mine")
    tree.write_file(_path("file"), b"mine")
    POOL.clear()
    os.rename(layers.upper / "dir", layers.upper / "was")
    os.symlink(secret, layers.upper / "dir")
    os.unlink(layers.upper / "file")
    os.symlink(secret / "file", layers.upper / "file")
    for path in ("dir/file", "file"):
        with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
            tree.read_file(_path(path))
        with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
            tree.contents.append(tree.resolve(_path(path)), b"overwritten")
    assert (secret / "file").read_bytes() == b"secret"

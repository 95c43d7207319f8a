"""The upper layer on disk: whiteouts, opaque directories, marks, and what `work` is for."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from avfs_git.errors import LayerNotUnderstood
from avfs_git.paths import ROOT, TreePath
from avfs_git.vfs.layer.lower import find_redirected
from avfs_git.vfs.layer.marks import TRUSTED, USER, is_whiteout
from avfs_git.vfs.layer.readers import UpperReader
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.vfs.tree.merged import MergedTree
from tests.support.trees import DirectoryLower
from tests.unit.vfs.conftest import Layers

pytestmark = pytest.mark.needs("whiteout", "user-xattrs")


@pytest.fixture
def upper(layers: Layers) -> UpperLayer:
    """Give an empty upper layer."""
    return UpperLayer(layers.upper, layers.work)


def _xattr(path: Path, name: str, value: bytes = b"y") -> None:
    os.setxattr(path, name, value)


def test_scan_dir_tells_kinds_sorted_by_name(upper: UpperLayer) -> None:
    """Each kind of entry is told apart, and names may be any bytes."""
    base = os.fsencode(upper.directory)
    os.mkdir(base + b"/dir")
    os.mkdir(base + b"/opaque")
    upper.set_opaque(base + b"/opaque")
    os.symlink(b"nowhere", base + b"/link")
    os.mkfifo(base + b"/pipe")
    os.close(os.open(base + b"/\xff", os.O_CREAT | os.O_WRONLY))
    upper.add_whiteout(upper.root.fd, b"gone")
    found = upper.scan_dir(upper.root.fd, ROOT)
    assert [(entry.name, entry.kind, entry.opaque) for entry in found] == [
        (b"dir", "dir", False),
        (b"gone", "whiteout", False),
        (b"link", "symlink", False),
        (b"opaque", "dir", True),
        (b"pipe", "other", False),
        (b"\xff", "file", False),
    ]
    assert upper.list_names(upper.root.fd, xattr_whiteouts=False) == {
        entry.name: 0 if entry.kind == "whiteout" else stat.S_IFMT(entry.stat.st_mode) for entry in found
    }


def test_whiteout_spelled_by_attribute_is_read(upper: UpperLayer) -> None:
    """An empty file with the mark is a deletion, but only in a directory that says so."""
    for name in ("plain", "marked"):
        (upper.directory / name).touch()
    _xattr(upper.directory / "marked", "user.overlay.whiteout")
    _xattr(upper.directory, "user.overlay.opaque", b"x")
    assert [entry.kind for entry in upper.scan_dir(upper.root.fd, ROOT)] == ["whiteout", "file"]
    assert upper.list_names(upper.root.fd, xattr_whiteouts=True) == {b"marked": 0, b"plain": stat.S_IFREG}
    with pytest.raises(LayerNotUnderstood):
        USER.check_file_marks(os.fsencode(upper.directory / "marked"), b"marked")


@pytest.mark.parametrize(
    "name", ["user.overlay.redirect", "user.overlay.metacopy", "user.overlay.whiteout", "user.overlay.new"]
)
def test_unknown_mark_is_refused(upper: UpperLayer, name: str) -> None:
    """What is not known is never guessed, on a directory and on a file."""
    (upper.directory / "dir").mkdir()
    (upper.directory / "file").touch()
    _xattr(upper.directory / "dir", name)
    _xattr(upper.directory / "file", name)
    with pytest.raises(LayerNotUnderstood, match="dir"):
        upper.scan_dir(upper.root.fd, ROOT)
    with pytest.raises(LayerNotUnderstood):
        USER.check_file_marks(os.fsencode(upper.directory / "file"), b"file")
    with pytest.raises(LayerNotUnderstood):
        USER.read_user_xattrs(os.fsencode(upper.directory / "file"), b"file")


@pytest.mark.needs("root")
def test_marks_of_a_layer_without_userxattr_are_refused(upper: UpperLayer) -> None:
    """A layer that a privileged overlayfs wrote in its own namespace means other things."""
    (upper.directory / "dir").mkdir()
    _xattr(upper.directory / "dir", "trusted.overlay.opaque")
    with pytest.raises(LayerNotUnderstood, match=r"trusted\.overlay\.opaque"):
        upper.scan_dir(upper.root.fd, ROOT)


_HOSTILE = [
    b"",
    b"/",
    b"..",
    b"/..",
    b"/../etc",
    b"/a/../../etc",
    b"/a//b",
    b"/a/",
    b"a/b",
    b".",
    b"/a\0b",
    b"/" + b"n" * 300,
    b"/a" * 1500,  # leads to nothing
    b"nothing",
    b"/f",  # no directory
    b"/a/f/x",
]


@pytest.mark.needs("root")
@pytest.mark.parametrize("value", _HOSTILE, ids=range(len(_HOSTILE)))
def test_a_redirect_that_leads_to_no_directory_of_the_base_is_refused(layers: Layers, value: bytes) -> None:
    """It is neither shown nor captured: files that were there would be missing."""
    (layers.lower / "a").mkdir()
    for name in ("f", "a/f"):
        (layers.lower / name).touch()
    upper = UpperLayer(layers.upper, layers.work, TRUSTED)
    (layers.upper / "dir").mkdir()
    _xattr(layers.upper / "dir", "trusted.overlay.redirect", value)
    lower = DirectoryLower(layers.lower)
    with pytest.raises(LayerNotUnderstood, match="redirect"):
        MergedTree(lower, upper).resolve(TreePath(b"dir"))
    with pytest.raises(LayerNotUnderstood, match="redirect"):
        find_redirected(lower, lower.root, upper.scan_dir(upper.root.fd, ROOT)[0].redirect or b"", b"dir")


@pytest.mark.needs("root")
def test_content_elsewhere_is_refused_in_root_s_layers(layers: Layers) -> None:
    """A file without its own content (`metacopy`) is none that avfs's mounts make."""
    upper = UpperLayer(layers.upper, layers.work, TRUSTED)
    (layers.upper / "file").touch()
    _xattr(layers.upper / "file", "trusted.overlay.metacopy", b"")
    _xattr(layers.upper / "file", "trusted.overlay.redirect", b"/other")
    with pytest.raises(LayerNotUnderstood, match="metacopy"):
        MergedTree(DirectoryLower(layers.lower), upper).resolve(TreePath(b"file"))
    with pytest.raises(LayerNotUnderstood, match="metacopy"):
        UpperReader(upper).file_xattrs(os.open(layers.upper / "file", os.O_RDONLY), TreePath(b"file"))


@pytest.mark.needs("root")
def test_a_redirect_over_another_base_means_nothing(layers: Layers) -> None:
    """The directory shows what the base has at its place, until the mark is removed, and then, too."""
    for name in ("dir", "old"):
        (layers.lower / name).mkdir()
        (layers.lower / name / name).touch()
    (layers.upper / "dir").mkdir()
    _xattr(layers.upper / "dir", "trusted.overlay.redirect", b"/old")
    seen = []
    for follows in (True, False):
        upper = UpperLayer(layers.upper, layers.work, TRUSTED, follows_redirects=follows)
        tree = MergedTree(DirectoryLower(layers.lower), upper)
        seen.append(tree.nodes.readdir(tree.resolve(TreePath(b"dir"))))
    assert [[name for name, _ in names] for names in seen] == [[b"old"], [b"dir"]]
    upper.clear_redirects()
    assert upper.list_redirected() == []


def test_opaque_with_unknown_value_is_refused(upper: UpperLayer) -> None:
    """Only the two values of the format are understood."""
    (upper.directory / "dir").mkdir()
    _xattr(upper.directory / "dir", "user.overlay.opaque", b"z")
    with pytest.raises(LayerNotUnderstood):
        USER.read_dir_marks(os.fsencode(upper.directory / "dir"), b"dir")


@pytest.mark.parametrize("name", ["origin", "impure", "nlink", "uuid", "upper", "protattr"])
def test_hints_of_the_kernel_are_harmless_and_hidden(upper: UpperLayer, name: str) -> None:
    """They neither fail nor show."""
    (upper.directory / "dir").mkdir()
    _xattr(upper.directory / "dir", "user.overlay." + name)
    _xattr(upper.directory / "dir", "user.mine", b"1")
    assert [entry.opaque for entry in upper.scan_dir(upper.root.fd, ROOT)] == [False]
    assert USER.read_user_xattrs(os.fsencode(upper.directory / "dir"), b"dir") == {b"user.mine": b"1"}


def test_attributes_named_like_marks_are_escaped() -> None:
    """A program's own attribute never becomes a mark, however often it is escaped."""
    for name in (b"user.overlay.opaque", b"user.overlay.overlay.x", b"user.mine", b"security.x"):
        assert USER.show_xattr_name(USER.store_xattr_name(name)) == name
    assert USER.store_xattr_name(b"user.overlay.opaque") == b"user.overlay.overlay.opaque"
    assert USER.show_xattr_name(b"user.overlay.opaque") is None
    with pytest.raises(PermissionError):
        USER.store_xattr_name(b"trusted.overlay.opaque")


def test_whiteouts_share_one_inode(upper: UpperLayer) -> None:
    """A thousand deletions need no thousand inodes; when links run out, another device is made."""
    for number in range(3):
        upper.add_whiteout(upper.root.fd, b"%d" % number)
    found = [entry.stat for entry in upper.scan_dir(upper.root.fd, ROOT)]
    assert all(is_whiteout(entry) for entry in found)
    assert len({entry.st_ino for entry in found}) == 1


def test_whiteouts_where_links_run_out(upper: UpperLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the file system's limit of links, the next whiteout is a new device."""
    upper.add_whiteout(upper.root.fd, b"first")
    link, calls = os.link, []

    def refuse_once(*args: object, **kwargs: object) -> None:
        calls.append(args)
        if len(calls) == 1:
            raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))
        link(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "link", refuse_once)
    upper.add_whiteout(upper.root.fd, b"second")
    assert len({entry.stat.st_ino for entry in upper.scan_dir(upper.root.fd, ROOT)}) == 2


def test_whiteouts_where_devices_have_no_links(upper: UpperLayer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without links to devices gets a device for each."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    upper.add_whiteout(upper.root.fd, b"gone")
    assert [entry.kind for entry in upper.scan_dir(upper.root.fd, ROOT)] == ["whiteout"]


def test_replace_by_whiteout_takes_a_directory_with_all_below(upper: UpperLayer) -> None:
    """The content goes with it, and nothing stays in `work` but the shared device."""
    (upper.directory / "dir" / "sub").mkdir(parents=True)
    (upper.directory / "dir" / "sub" / "file").touch()
    upper.replace_by_whiteout(upper.root.fd, b"dir", is_dir=True)
    assert [entry.kind for entry in upper.scan_dir(upper.root.fd, ROOT)] == ["whiteout"]
    assert os.listdir(upper.work_dir) == ["avfs-whiteout"]


def test_clean_work_leaves_what_is_the_kernels(upper: UpperLayer) -> None:
    """Only what avfs made is removed, closed directories included."""
    (upper.work_dir / "work").mkdir(mode=0)
    (upper.work_dir / "index").mkdir()
    name = upper.make_dir()
    (upper.work_dir / os.fsdecode(name) / "a" / "b").mkdir(parents=True)
    (upper.work_dir / os.fsdecode(name) / "a").chmod(0)
    _, fd = upper.make_file()
    os.close(fd)
    upper.clean_work()
    assert sorted(os.listdir(upper.work_dir)) == ["index", "work"]


def test_open_dir_follows_no_symlink(upper: UpperLayer, tmp_path: Path) -> None:
    """A directory that was swapped for a link is refused, on the way and at the end."""
    outside = tmp_path / "outside"
    (outside / "dir").mkdir(parents=True)
    (upper.directory / "link").symlink_to(outside)
    for path in (b"link", b"link/dir"):
        with pytest.raises(NotADirectoryError):
            upper.open_dir(TreePath(path))

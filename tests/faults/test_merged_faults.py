"""Every operation of the merged tree, killed or failing at each of its system calls."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from avfs_git.host.files import beneath
from avfs_git.paths import TreePath
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.vfs.tree.merged import MergedTree
from tests.support import capabilities
from tests.support.overlay import check_kernel_shows
from tests.support.steps import make_lower
from tests.support.trees import DirectoryLower, describe_dir, describe_tree

pytestmark = pytest.mark.needs("whiteout", "user-xattrs")

_CALLS = (
    "open", "write", "pwrite", "rename", "link", "symlink", "mknod", "mkdir", "unlink", "rmdir", "chmod", "fchmod",
    "chown", "utime", "setxattr", "ftruncate",
)  # fmt: skip

_KILLED = 99


def _path(text: str) -> TreePath:
    return TreePath(text.encode())


OPERATIONS: dict[str, Callable[[MergedTree], object]] = {
    "write a new file": lambda tree: tree.write_file(_path("a/new"), b"new"),
    "write over a lower file": lambda tree: tree.write_file(_path("a/b/c/a"), b"new"),
    "write over an upper file": lambda tree: tree.write_file(_path("up/file"), b"new"),
    "write over a whiteout": lambda tree: tree.write_file(_path("b/a"), b"new"),
    "create a file": lambda tree: tree.making.create(tree.resolve(_path("a/b")), b"new", 0o644),
    "create over a whiteout": lambda tree: tree.making.create(tree.resolve(_path("b")), b"a", 0o644),
    "append to a lower file": lambda tree: tree.contents.append(tree.resolve(_path("a/a")), b"more"),
    "truncate a lower file": lambda tree: tree.contents.truncate(tree.resolve(_path("a/a")), 0),
    "chmod a lower file": lambda tree: tree.attributes.chmod(tree.resolve(_path("a/b/a")), 0o600),
    "set an attribute of a lower directory": lambda tree: tree.attributes.set_xattr(
        tree.resolve(_path("a/b")), b"user.x", b"1"
    ),
    "make a directory": lambda tree: tree.making.mkdir(tree.resolve(_path("a/b/c")), b"new", 0o755),
    "make a directory over a whiteout": lambda tree: tree.making.mkdir(tree.resolve(_path("b")), b"a", 0o755),
    "symlink over a whiteout": lambda tree: tree.making.symlink(tree.resolve(_path("b")), b"a", b"target"),
    "link over a whiteout": lambda tree: tree.making.link(tree.resolve(_path("a/a")), tree.resolve(_path("b")), b"a"),
    "unlink a lower file": lambda tree: tree.remove(_path("a/b/a")),
    "unlink a copied-up file": lambda tree: tree.remove(_path("d e")),
    "unlink an upper file": lambda tree: tree.remove(_path("up/file")),
    "remove a lower directory": lambda tree: tree.remove(_path("c/empty")),
    "remove an emptied merged directory": lambda tree: tree.remove(_path("b/d e")),
    "remove a whole lower tree": lambda tree: tree.remove(_path("c"), recursive=True),
    "remove a whole merged tree": lambda tree: tree.remove(_path("b"), recursive=True),
    "remove a whole upper tree": lambda tree: tree.remove(_path("up"), recursive=True),
    "rename a lower file": lambda tree: tree.move(_path("a/a"), _path("a/b/new")),
    "rename a lower file over a lower one": lambda tree: tree.move(_path("a/a"), _path("a/b/a")),
    "rename a file over a whiteout": lambda tree: tree.move(_path("a/a"), _path("b/a")),
    "rename a lower directory": lambda tree: tree.move(_path("a"), _path("new")),
    "rename a merged directory over an empty one": lambda tree: tree.move(_path("a"), _path("b/d e")),
    "rename an upper directory over a whiteout": lambda tree: tree.move(_path("up"), _path("b/a")),
    "rename a directory with whiteouts": lambda tree: tree.move(_path("b"), _path("a/new")),
    "exchange a directory and a file": lambda tree: tree.move(
        _path("a/b"), _path("d e"), flags=beneath.RENAME_EXCHANGE
    ),
}


def _prepare(base: Path) -> None:
    """Make layers that hold something of each kind."""
    for name in ("lower", "upper", "work"):
        (base / name).mkdir()
    make_lower(base / "lower")
    tree = _open(base)
    tree.make_dir(_path("up/dir"), parents=True)
    tree.write_file(_path("up/file"), b"upper")
    tree.attributes.chmod(tree.resolve(_path("d e")), 0o640)
    tree.remove(_path("b/a"))
    tree.remove(_path("b/d e/b"))


def _open(base: Path) -> MergedTree:
    return MergedTree(DirectoryLower(base / "lower"), UpperLayer(base / "upper", base / "work"))


class _Call:
    """Does something in place of the n-th of certain system calls."""

    def __init__(self, n: int, act: Callable[[], None]) -> None:
        self.n = n
        self.act = act
        self.count = 0

    def install(self, set_attribute: Callable[[ModuleType, str, object], None]) -> None:
        """Put itself before the system calls that change something."""
        for name in _CALLS:
            set_attribute(os, name, self.around(getattr(os, name)))
        assert beneath._renameat2 is not None
        set_attribute(beneath, "_renameat2", self.around(beneath._renameat2))

    def around(self, call: Callable[..., object]) -> Callable[..., object]:
        """Count a call, then make it or act."""

        def counted(*args: object, **kwargs: object) -> object:
            self.count += 1
            if self.count == self.n:
                self.act()
            return call(*args, **kwargs)

        return counted


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork beside a test runner's threads
@pytest.mark.parametrize("name", OPERATIONS)
def test_killed_at_any_call_shows_old_or_new(tmp_path: Path, name: str) -> None:
    """A process that dies before any of its system calls leaves what was there or what was to be."""
    operation = OPERATIONS[name]
    (tmp_path / "0").mkdir()
    _prepare(tmp_path / "0")
    before = describe_tree(_open(tmp_path / "0"))
    operation(tree := _open(tmp_path / "0"))
    after = describe_tree(tree)
    assert before != after
    for n in range(1, 1000):
        base = tmp_path / str(n)
        base.mkdir()
        _prepare(base)
        tree = _open(base)
        child = os.fork()
        if not child:
            try:
                _Call(n, lambda: os._exit(_KILLED)).install(setattr)
                operation(tree)
            finally:
                os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        fresh = _open(base)
        shown = describe_tree(fresh)
        assert shown in (before, after), f"{name}, killed before call {n}"
        fresh.upper.clean_work()
        assert os.listdir(base / "work") == []
        assert describe_tree(_open(base)) == shown
        if capabilities.has("overlayfs"):
            check_kernel_shows(base, shown)
        shutil.rmtree(base)
        if status == 0:
            assert shown == after
            break
        assert status == _KILLED


@pytest.mark.parametrize("name", OPERATIONS)
def test_failing_at_any_call_shows_old_or_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A system call that fails leaves what was there or what was to be, and the tree knows which of the two."""
    operation = OPERATIONS[name]
    (tmp_path / "0").mkdir()
    _prepare(tmp_path / "0")
    before = describe_tree(_open(tmp_path / "0"))
    operation(tree := _open(tmp_path / "0"))
    after = describe_tree(tree)

    def fail() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for n in range(1, 1000):
        base = tmp_path / str(n)
        base.mkdir()
        _prepare(base)
        tree = _open(base)
        call = _Call(n, fail)
        failed = False
        with monkeypatch.context() as patch:
            call.install(patch.setattr)
            try:
                operation(tree)
            except OSError as error:
                failed = error.errno == errno.ENOSPC
                if not failed:
                    raise
        shown = describe_tree(tree)
        assert shown == describe_tree(_open(base)), f"{name}, call {n} failed: memory and disk differ"
        assert shown == before if failed else shown == after, f"{name}, call {n} failed"
        # What failed works when it is tried again.
        if failed:
            operation(tree)
            assert describe_tree(tree) == describe_tree(_open(base)) == after
        shutil.rmtree(base)
        if call.count < n:
            break


def test_description_of_a_directory_agrees_with_that_of_a_tree(tmp_path: Path) -> None:
    """The two ways to describe a tree mean the same: else the tests above compare nothing."""
    for name in ("lower", "upper", "work"):
        (tmp_path / name).mkdir()
    make_lower(tmp_path / "lower")
    assert describe_tree(_open(tmp_path)) == describe_dir(tmp_path / "lower")

"""Asking before a file call: where a path leads when the change is made is what counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from avfs_git.errors import PluginRefused
from avfs_git.paths import TreePath
from avfs_git.sdk import Workspace
from avfs_git.vfs.asked import Change
from avfs_git.workspace.files.files import Files
from avfs_git.workspace.opened.workspace import OpenWorkspace

pytestmark = pytest.mark.needs("whiteout", "user-xattrs")

_KEY = TreePath(b"way/key")
CALLS: dict[str, Callable[[Files], object]] = {
    "write": lambda files: files.write(_KEY, b"2"),
    "append": lambda files: files.write(_KEY, iter([b"2"]), append=True),
    "remove": lambda files: files.remove(_KEY),
    "move": lambda files: files.move(_KEY, TreePath(b"away")),
    "move into": lambda files: files.move(TreePath(b"open/file"), TreePath(b"way")),
    "copy": lambda files: files.copy(TreePath(b"open/file"), TreePath(b"way"), recursive=False),
    "touch": lambda files: files.touch(_KEY, 1),
    "chmod": lambda files: files.chmod(_KEY, 0o600),
    "mkdir": lambda files: files.make_dir(TreePath(b"way/new")),
    "symlink": lambda files: files.symlink(TreePath(b"way/new"), b"x"),
    "link": lambda files: files.link(TreePath(b"open/file"), TreePath(b"way/new")),
}


@pytest.fixture
def opened(work: Workspace) -> Iterator[OpenWorkspace]:
    """A workspace in which a link leads to a directory that may be changed, as a session serves it."""
    for path in ("secret/key", "open/key", "open/file"):
        work.write(path, b"1")
    work.symlink("way", b"open")
    opened = work._opened
    opened.serve("session")
    yield opened
    opened.find_check = lambda: None
    opened.stop_serving()


@pytest.mark.parametrize("call", CALLS)
def test_a_link_that_is_turned_while_plugins_are_asked_is_no_way_past_them(opened: OpenWorkspace, call: str) -> None:
    """A program is fast: it lets the link lead elsewhere between the question and the change."""
    merged = opened.merged
    asked: list[TreePath | None] = []

    def check(change: Change) -> None:
        asked.append(change.path)
        if len(asked) == 1:
            merged.remove(TreePath(b"way"))
            merged.make_symlink(TreePath(b"way"), b"secret")
        for path in (change.path, change.new_path):
            if path is not None and path.startswith(b"secret"):
                raise PluginRefused("guard", "secrets stay as they are", change.operation)

    opened.find_check = lambda: check
    with pytest.raises(PluginRefused):
        CALLS[call](Files(opened))

    assert len(asked) == 2
    assert [info.path for info in Files(opened).list_dir(TreePath(b"secret"))] == [b"secret/key"]
    assert Files(opened).read(TreePath(b"secret/key")) == b"1"

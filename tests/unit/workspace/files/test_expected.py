"""Large contents in a live tree: read and written while programs go on; no change in between is overlooked."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from avfs_git.errors import ContentChanged
from avfs_git.paths import TreePath
from avfs_git.sdk import Workspace
from avfs_git.vfs.scan.statcache import RACY_NS
from avfs_git.workspace.files.files import Files
from avfs_git.workspace.opened.workspace import OpenWorkspace
from tests.support.waiting import wait_for

pytestmark = pytest.mark.needs("whiteout", "user-xattrs")

_PATH = TreePath(b"large")
_LARGE = b"0123456789abcdef" * (1 << 17)


@pytest.fixture
def opened(work: Workspace) -> Iterator[OpenWorkspace]:
    """A workspace with a large file, as a session serves it."""
    work.write("large", _LARGE)
    opened = work._opened
    opened.serve("session")
    yield opened
    opened.stop_serving()


def pieces(between: Callable[[], object]) -> Iterator[bytes]:
    """Give a large content; something happens in another thread between its two pieces."""
    yield b"new" * (1 << 20)
    with ThreadPoolExecutor(1) as program:
        program.submit(between).result(60)
    yield b"end"


def oid_of(opened: OpenWorkspace) -> str:
    """Give the id of the large file's content."""
    oid = Files(opened).stat(_PATH, with_oid=True).oid
    assert oid is not None
    return oid


def leave_alone(opened: OpenWorkspace) -> None:
    """Wait until the file's time of change tells a later write."""
    changed_ns = os.stat(b"large", dir_fd=opened.upper.root.fd).st_ctime_ns
    wait_for(lambda: time.time_ns() > changed_ns + RACY_NS)


def read_bytes() -> int:
    """Tell how many bytes this process has read so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


def left(opened: OpenWorkspace) -> list[int]:
    """List the sizes of what has no name in the tree yet."""
    return [entry.stat().st_size for entry in os.scandir(f"/proc/self/fd/{opened.upper.work.fd}") if entry.is_file()]


def test_only_the_name_is_given_while_programs_wait(opened: OpenWorkspace) -> None:
    """The content is complete beside the tree before the guard is needed, as is one that replaces a certain content."""
    guard = opened.merged.guard
    is_held, may_go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with guard:
            is_held.set()
            may_go_on.wait(60)

    def has_made() -> bool:
        return len(_LARGE) in left(opened)

    with ThreadPoolExecutor(2) as threads:
        holding = threads.submit(hold)
        assert is_held.wait(60)
        writing = threads.submit(Files(opened).write, TreePath(b"new"), _LARGE)
        try:
            wait_for(has_made)
            assert not writing.done()
        finally:
            may_go_on.set()
        writing.result(60)
        holding.result(60)
    assert Files(opened).read(TreePath(b"new")) == _LARGE
    assert not has_made()


def test_programs_go_on_while_a_content_is_taken(opened: OpenWorkspace) -> None:
    """Also where it replaces only the content that the caller has seen."""
    has_had_its_turn = []

    def take_turn() -> None:
        if opened.merged.guard.acquire(timeout=1):
            has_had_its_turn.append(True)
            opened.merged.guard.release()

    Files(opened).write(_PATH, pieces(take_turn), expect=oid_of(opened))
    assert has_had_its_turn
    assert Files(opened).read(_PATH).endswith(b"newend")


@pytest.mark.parametrize("keeps_time", [True, False])
def test_a_change_of_what_was_expected_is_noticed(opened: OpenWorkspace, keeps_time: bool) -> None:
    """A program changes the file, to as many bytes, after it was read and before it would be replaced."""
    other = _LARGE[::-1]

    def change() -> None:
        tree = opened.merged
        assert tree.guard.acquire(timeout=1)
        tree.guard.release()
        before = tree.attr(_PATH)
        tree.contents.write(tree.resolve(_PATH), other, 0)
        if keeps_time:
            tree.attributes.utimens(tree.resolve(_PATH), atime_ns=before.atime_ns, mtime_ns=before.mtime_ns)

    leave_alone(opened)
    with pytest.raises(ContentChanged):
        Files(opened).write(_PATH, pieces(change), expect=oid_of(opened))
    assert Files(opened).read(_PATH) == other
    assert not any(left(opened))


def test_what_was_left_alone_is_read_once(opened: OpenWorkspace) -> None:
    """Programs do not wait for the reading of a file that looks as it did when it was read without the guard."""
    oid = oid_of(opened)
    leave_alone(opened)
    before = read_bytes()
    Files(opened).write(_PATH, b"small", expect=oid)
    assert len(_LARGE) <= read_bytes() - before < 2 * len(_LARGE)


def test_what_is_removed_is_what_was_expected(opened: OpenWorkspace) -> None:
    """A content that the caller has not seen stays."""
    oid = oid_of(opened)
    Files(opened).write(_PATH, b"other")
    with pytest.raises(ContentChanged):
        Files(opened).remove(_PATH, expect=oid)
    Files(opened).write(_PATH, _LARGE)
    Files(opened).remove(_PATH, expect=oid)
    assert not Files(opened).exists(_PATH)

"""A capture of a served tree in rounds, beside programs that change it: it finds what one capture at the end finds."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from avfs_git import faults
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.model import Identity
from avfs_git.sdk import Avfs
from avfs_git.workspace.capture.requests import CaptureRequest
from avfs_git.workspace.checkpoint.mark import mark_captured
from avfs_git.workspace.checkpoint.prepare import capture_workspace
from avfs_git.workspace.opened.workspace import LockedWorkspace, OpenWorkspace
from tests.support.steps import Draft, Step, drafts, make_lower, take_in_tree
from tests.support.trees import describe_tree

pytestmark = pytest.mark.needs("whiteout", "user-xattrs")

_IGNORES = [b"", b"b\n", b"/a/\n", b"*\n!c\n"]


def rules() -> st.SearchStrategy[Step]:
    """Generate changes of what is ignored."""
    places = st.sampled_from([b".gitignore", b"a/.gitignore", b"b/.gitignore"])
    return st.builds(lambda path, text: Step("write_file", path, text), places, st.sampled_from(_IGNORES))


Change = Draft | Step
_changes = st.one_of(drafts(), drafts(), drafts(), drafts(), rules())


class Programs:
    """Takes one step at each file that a capture reads, in another thread and where the guard of the tree lets it."""

    def __init__(self, opened: OpenWorkspace, changes: list[Change]) -> None:
        self._opened = opened
        self._left = list(reversed(changes))
        self._thread = ThreadPoolExecutor(1)
        self.taken = 0

    def __call__(self, point: str) -> None:
        """Let a program go on."""
        if point == "capture.file_read" and self._left:
            self._thread.submit(self._go_on).result()

    def _go_on(self) -> None:
        tree = self._opened.merged
        if not tree.guard.acquire(blocking=False):
            return
        try:
            take(self._opened, self._left.pop())
            self.taken += 1
        finally:
            tree.guard.release()

    def end(self) -> None:
        """Take no further step."""
        self._thread.shutdown()


def take(opened: OpenWorkspace, change: Change) -> None:
    """Change the tree as a program in it does."""
    tree = opened.merged
    step = change.choose(describe_tree(tree)) if isinstance(change, Draft) else change
    take_in_tree(tree, step)


@contextmanager
def served() -> Iterator[tuple[OpenWorkspace, LockedWorkspace]]:
    """Serve a workspace over one of everything, without a kernel."""
    with TemporaryDirectory() as directory:
        lower = Path(directory) / "lower"
        lower.mkdir()
        make_lower(lower)
        with Avfs(Path(directory) / "home", identity=Identity("Ada", "ada@example.org")) as avfs:
            vault = avfs.create_vault("v", source=lower)
            opened = OpenWorkspace(vault._core, "main", recover=lambda _: None)
            locked = opened.serve("test")
            try:
                yield opened, locked
            finally:
                opened.stop_serving()
                opened.close()


@settings(max_examples=60)
@given(st.lists(_changes, max_size=12), st.lists(_changes, max_size=12), st.lists(_changes, max_size=12))
@example(
    [Step("write_file", b"a/x", b"1"), Step("write_file", b"b/y", b"2")],
    [Step("write_file", b".gitignore", b"b\n")],
    [],
)
def test_rounds_find_what_one_capture_finds(before: list[Change], during: list[Change], later: list[Change]) -> None:
    """Tree and sidecar are those of a capture of the whole, and the stat cache knows nothing that is not there."""
    with served() as (opened, locked):
        for change in before:
            take(opened, change)
        for changes in (during, later):
            programs = Programs(opened, changes)
            with PackWriter(locked.vault.store) as sink:
                faults.arm(programs)
                try:
                    found = capture_workspace(locked, sink)
                finally:
                    faults.arm(None)
                    programs.end()
                whole = capture_workspace(locked, sink, CaptureRequest(afresh=True))
                assert (found.tree, found.sidecar) == (whole.tree, whole.sidecar)
                sink.finish()
            mark_captured(locked, found, commit=None)
            there = {(path, name) for path, names, _ in whole.update.changed for name, _ in names}
            assert opened.cache is not None
            assert {(path, name) for path, names in opened.cache.directories.items() for name in names} <= there

"""Two workspaces that nothing tells apart: one moves directories of the base by marks, the other copies them.

One has root's marks, and is changed by the library and by the kernel's overlayfs in turn. The other has those of
ordinary users, where moving a directory of the base copies it. Both take the same steps; their views, checkpoints,
folds and restores are equal.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from avfs_git.host.mounts.overlayfs import mark_options
from avfs_git.model import Identity
from avfs_git.paths import Oid
from avfs_git.sdk import Avfs, Workspace
from avfs_git.vfs.layer.lower import LowerTree
from tests.support import sweep
from tests.support.capabilities import mount, unmount
from tests.support.shown import opened_of, spell_for_users
from tests.support.steps import Draft, Step, drafts, make_lower, take_in_directory, take_in_tree
from tests.support.trees import Described, describe_tree

if TYPE_CHECKING:
    from collections.abc import Iterator

    from avfs_git.vfs.tree.merged import MergedTree

pytestmark = pytest.mark.needs("root", "overlayfs", "whiteout", "user-xattrs")

_IGNORES = [b"", b"b\n", b"/a/\n", b"*\n!c\n", b"/b/a\n"]


def _rules() -> st.SearchStrategy[Step]:
    places = st.sampled_from([b".gitignore", b"a/.gitignore", b"b/.gitignore"])
    return st.builds(lambda path, text: Step("write_file", path, text), places, st.sampled_from(_IGNORES))


def _nested() -> st.SearchStrategy[Step]:
    return st.builds(lambda path: Step("mkdir", path), st.sampled_from([b"a/.git", b"a/b/.git", b"b/d e/.git"]))


def _moves() -> st.SearchStrategy[Step]:
    places = st.sampled_from(
        [b"a", b"b", b"c", b"a/b", b"b/d e", b"a/b/c", b"c/b", b"b/c", b"c/empty", b"new", b"new/x"]
    )
    return st.builds(lambda old, new: Step("rename", old, new), places, places)


_changes = st.lists(st.one_of(drafts(), _moves(), _moves(), _rules(), _nested()), min_size=1, max_size=6)


def _view(described: dict[bytes, Described]) -> dict[bytes, Described]:
    return {path: entry[:4] for path, entry in described.items()}


class RedirectedMachine(RuleBasedStateMachine):
    """Takes every step in both workspaces."""

    def __init__(self) -> None:
        super().__init__()
        self.base = sweep.scratch_root()
        self.avfs = Avfs(self.base / "home", identity=Identity("Ada", "ada@example.org"))
        self.is_folded = False
        self.saved: list[tuple[str, str]] = []

    @initialize()
    def start(self) -> None:
        """Make both of one directory."""
        (self.base / "lower").mkdir()
        (self.base / "point").mkdir()
        make_lower(self.base / "lower")
        vault = self.avfs.create_vault("v", source=self.base / "lower")
        vault.fork("moved").close()
        vault.fork("copied").close()
        self.moved, self.copied = vault.workspace("moved"), vault.workspace("copied")
        spell_for_users(self.copied)
        assert [opened_of(work).upper.marks.is_trusted for work in (self.moved, self.copied)] == [True, False]
        self.save()

    @contextmanager
    def changing(self, work: Workspace) -> Iterator[MergedTree]:
        """Change a workspace by the library."""
        with opened_of(work).locked() as locked, locked.changing() as tree:
            yield tree

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Mount the workspace as root's overlayfs does."""
        layout = opened_of(self.moved).layout
        layers = f"lowerdir={self.base}/lower,upperdir={layout.upper},workdir={layout.work}"
        with opened_of(self.moved).locked() as locked, locked.changing():
            assert mount("overlay", self.base / "point", "overlay", ",".join([layers, *mark_options(is_trusted=True)]))
            try:
                yield
            finally:
                assert unmount(self.base / "point")
                opened_of(self.moved).look_anew()

    def take(self, several: list[Draft | Step], take: Callable[[Step], str | None]) -> None:
        """Take steps in both."""
        with self.changing(self.copied) as tree:
            for change in several:
                step = change.choose(describe_tree(tree)) if isinstance(change, Draft) else change
                expected = take_in_tree(tree, step)
                note(f"{step} {expected}")
                assert take(step) == expected

    @rule(several=_changes)
    def by_the_library(self, several: list[Draft | Step]) -> None:
        """Take steps as a server does."""
        with self.changing(self.moved) as tree:
            self.take(several, lambda step: take_in_tree(tree, step))

    @rule(several=_changes)
    def by_the_kernel(self, several: list[Draft | Step]) -> None:
        """Take steps as programs on overlayfs do."""
        if not self.is_folded:  # else the base is in no directory
            with self.shown():
                self.take(several, lambda step: take_in_directory(self.base / "point", step))

    @rule()
    def save(self) -> None:
        """Save both: tree and sidecar are equal."""
        states: list[tuple[str, tuple[object, ...]]] = []
        for work in (self.moved, self.copied):
            checkpoint = work.checkpoint().checkpoint
            head = opened_of(work).vault.read_head(work.fork)
            assert head is not None
            states.append((checkpoint.id if checkpoint is not None else head.hex(), self.read(work, head)))
        assert states[0][1] == states[1][1]
        self.saved.append((states[0][0], states[1][0]))

    @staticmethod
    def read(work: Workspace, head: Oid) -> tuple[object, ...]:
        """Describe a commit with its sidecar."""
        store = opened_of(work).vault.store
        commit = store.read_commit(head)
        sidecar = opened_of(work).vault.sidecar_tree(commit)
        lower = LowerTree(store, commit.tree, sidecar, default_mtime_ns=0)
        found: list[tuple[object, ...]] = []
        pending = [(b"", lower.root)]
        while pending:
            path, entry = pending.pop()
            found.append((path, entry.kind, entry.mode, entry.oid, entry.xattrs, entry.tracked))
            if entry.is_dir:
                pending += [(path + b"/" + name, child) for name, child in sorted(lower.children(entry).items())]
        return commit.tree, found

    @rule(number=st.integers(0, 9))
    def restore(self, number: int) -> None:
        """Go back to an earlier state."""
        states = self.saved[number % len(self.saved)]
        for work, state in zip((self.moved, self.copied), states, strict=True):
            work.restore(state)

    @rule()
    def fold(self) -> None:
        """Move the base."""
        assert self.moved.fold() == self.copied.fold()
        self.is_folded = self.is_folded or opened_of(self.moved).state.base != self.saved[0][0]

    @rule()
    def open_anew(self) -> None:
        """Go on as another process."""
        for work in (self.moved, self.copied):
            with opened_of(work).locked():
                opened_of(work).look_anew()

    @invariant()
    def shows_the_same(self) -> None:
        """Both show the same."""
        if self.saved:
            views = []
            for work in (self.moved, self.copied):
                with opened_of(work).locked():
                    views.append(_view(describe_tree(opened_of(work).merged)))
            assert views[0] == views[1]

    def teardown(self) -> None:
        """Leave no mount."""
        self.avfs.close()
        unmount(self.base / "point")
        shutil.rmtree(self.base)


RedirectedMachine.TestCase.settings = settings(stateful_step_count=14, max_examples=settings().max_examples // 4)
RedirectedTest = RedirectedMachine.TestCase

"""The merged tree against a plain directory that the same steps were taken in."""

from __future__ import annotations

import os
import shutil
import stat
import time

from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from avfs_git.paths import TreePath
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.vfs.tree.merged import MergedTree, Node
from tests.support import capabilities, sweep
from tests.support.overlay import check_kernel_shows
from tests.support.steps import Draft, Step, drafts, make_lower, take_in_directory, take_in_tree
from tests.support.trees import Described, DirectoryLower, describe_dir, describe_tree


class MergedTreeMachine(RuleBasedStateMachine):
    """Takes every step in both, then compares what they show, what changed and what was reported."""

    def __init__(self) -> None:
        super().__init__()
        self.base = sweep.scratch_root()
        self.reported: list[tuple[TreePath, bool]] = []
        self.handles: list[tuple[Node, int]] = []
        self.numbers: dict[bytes, int] = {}

    @initialize(with_lower=st.booleans())
    def start(self, with_lower: bool) -> None:
        """Make a lower layer, and the same as a plain directory."""
        for name in ("lower", "upper", "work"):
            (self.base / name).mkdir()
        if with_lower:
            make_lower(self.base / "lower")
        self.started_ns = time.time_ns() - 10**9
        shutil.copytree(self.base / "lower", self.base / "model", symlinks=True)
        shutil.copystat(self.base / "lower", self.base / "upper")
        self.lower = DirectoryLower(self.base / "lower")
        self.tree = self.open_tree()
        self.before = describe_dir(self.base / "model")

    def open_tree(self) -> MergedTree:
        """Open the layers as a process does that knows nothing of them."""
        upper = UpperLayer(self.base / "upper", self.base / "work")
        tree = MergedTree(self.lower, upper)
        tree.changes.report_to(lambda path, deep: self.reported.append((path, deep)))
        return tree

    @rule(several=st.lists(drafts(), min_size=1, max_size=8))
    def take(self, several: list[Draft]) -> None:
        """Take some steps in both."""
        for draft in several:
            step = draft.choose(self.before)
            note(f"{step}")
            self.take_one(step)
            self.shows_the_same()

    def take_one(self, step: Step) -> None:
        """Take one step in both; the answer must be the same, and all changes reported."""
        self.reported.clear()
        self.tree.changes.report_anew()
        if step.verb == "write_file":
            self.close_handles()  # a file that is open keeps its old content, unlike the plain one that is written to
        expected = take_in_directory(self.base / "model", step)
        assert take_in_tree(self.tree, step) == expected, step
        after = describe_dir(self.base / "model")
        if expected is None:
            self.check_reported(step, self.before, after)
        self.before = after

    def check_reported(self, step: Step, before: dict[bytes, Described], after: dict[bytes, Described]) -> None:
        """Every path that differs was reported itself, or a path above it was reported with all below it."""
        for path in before.keys() | after.keys():
            # The position among hard links is not the entry's own.
            if [part for n, part in enumerate(before.get(path, ())) if n != 4] != [
                part for n, part in enumerate(after.get(path, ())) if n != 4
            ]:
                covered = any(
                    path == seen or (deep and (not seen or path.startswith(seen + b"/")))
                    for seen, deep in self.reported
                )
                assert covered, (step, path, self.reported)

    @rule(number=st.integers(0, 40))
    def open_handle(self, number: int) -> None:
        """Pin a file as a kernel does, with an open file beside it in the model."""
        files = sorted(path for path, entry in self.before.items() if entry[0] == stat.S_IFREG)
        if files and len(self.handles) < 5:
            path = files[number % len(files)]
            node = self.tree.resolve(TreePath(path), follow_last=False)
            self.tree.pins.pin(node)
            self.handles.append((node, os.open(os.fsencode(self.base / "model") + b"/" + path, os.O_RDWR)))

    @rule(data=st.sampled_from([b"", b"handle"]), number=st.integers(0, 4))
    def use_handle(self, data: bytes, number: int) -> None:
        """What was opened stays usable when its names go."""
        if number < len(self.handles):
            node, fd = self.handles[number]
            if data:
                self.tree.contents.write(node, data, 2)
                os.pwrite(fd, data, 2)
            found = os.fstat(fd)
            attr = self.tree.attributes.getattr(node)
            assert (attr.size, attr.mode, attr.nlink) == (found.st_size, found.st_mode, found.st_nlink)
            assert self.tree.contents.read(node, 100_000, 0) == os.pread(fd, 100_000, 0)
            self.before = describe_dir(self.base / "model")

    def close_handles(self) -> None:
        """Close all files."""
        for node, fd in self.handles:
            self.tree.pins.unpin(node)
            os.close(fd)
        self.handles.clear()

    @rule(how=st.sampled_from(["close handles", "forget", "reopen"]))
    def begin_anew(self, how: str) -> None:
        """Another process, or this one after it forgot everything, finds on disk what was shown."""
        self.close_handles()
        if how == "forget":
            self.tree.forget_all()
        elif how == "reopen":
            self.tree = self.open_tree()
            self.tree.upper.clean_work()
            assert os.listdir(self.base / "work") == []

    @invariant()
    def shows_the_same(self) -> None:
        """The tree shows what the plain directory holds."""
        if not hasattr(self, "tree"):
            return
        shown = describe_tree(self.tree, times=True)
        expected = describe_dir(self.base / "model", times=True)
        assert {path: entry[:5] for path, entry in shown.items()} == {
            path: entry[:5] for path, entry in expected.items()
        }
        for path, entry in expected.items():
            was, now = entry[5], shown[path][5]
            assert isinstance(was, int)
            assert isinstance(now, int)
            # A time from before the test must be the same; one of now is now in both.
            assert was == now or (was > self.started_ns and now > self.started_ns), (path, was, now)

    def teardown(self) -> None:
        """Look at the disk once more with new eyes, and clean up."""
        if hasattr(self, "tree"):
            self.close_handles()
            expected = describe_dir(self.base / "model")
            assert describe_tree(self.open_tree()) == expected
            if capabilities.has("overlayfs"):
                check_kernel_shows(self.base, expected)
        shutil.rmtree(self.base)


MergedTreeMachine.TestCase.settings = settings(stateful_step_count=30, max_examples=settings().max_examples * 3 // 5)
MergedTreeTest = MergedTreeMachine.TestCase
if not capabilities.has("whiteout") or not capabilities.has("user-xattrs"):
    del MergedTreeTest

"""The merged tree against the kernel's overlayfs: the same steps, the same answers, the same upper layer."""

from __future__ import annotations

import os
import shutil
import stat
import time
from pathlib import Path

import pytest
from hypothesis import note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from avfs_git.host.mounts.overlayfs import mark_options
from avfs_git.vfs.layer.marks import TRUSTED, USER, Marks
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.vfs.tree.merged import MergedTree
from tests.support import sweep
from tests.support.capabilities import mount, unmount
from tests.support.steps import Draft, drafts, make_lower, take_in_directory, take_in_tree
from tests.support.trees import Described, DirectoryLower, describe_dir, describe_tree

pytestmark = pytest.mark.needs("overlayfs")

_HINTS = ("origin", "impure", "nlink", "uuid", "upper")


def describe_upper(directory: Path, lower: Path, marks: Marks) -> dict[bytes, Described]:
    """Describe an upper layer, without the kernel's hints; a whiteout has nothing but its place.

    An opaque mark over nothing hides nothing. The kernel sets one before it tries to rename a directory, and leaves it
    when the rename is refused, so such marks are left out. Where directories are redirected, the views say whether they
    are where they should be: the kernel names one from the root or from the directory above, and may leave either in an
    opaque one.
    """
    prefix = marks.opaque.decode().removesuffix("opaque")
    always = {prefix + name for name in _HINTS} | (
        {prefix + "redirect", prefix + "opaque"} if marks.is_trusted else set()
    )
    found: dict[bytes, Described] = {}
    for path, (kind, mode, content, xattrs, first, mtime_ns) in describe_dir(directory, times=True).items():
        if kind == stat.S_IFCHR:
            found[path] = ("whiteout",)
            continue
        assert isinstance(xattrs, list)
        hints = always if os.path.isdir(os.path.join(os.fsencode(lower), path)) else always | {prefix + "opaque"}
        found[path] = (kind, mode, content, [pair for pair in xattrs if pair[0] not in hints], first, mtime_ns)
    return found


def assert_same(ours: dict[bytes, Described], kernels: dict[bytes, Described], started_ns: int, *, links: bool) -> None:
    """Compare two descriptions; times of now may differ from each other, times from before may not.

    Args:
        ours: What is ours.
        kernels: What is the kernel's.
        started_ns: When now began.
        links: Whether hard links are compared: overlayfs may show two inode numbers for one file after a copy-up.
    """
    compared = 5 if links else 4
    assert ours.keys() == kernels.keys()
    for path, theirs in kernels.items():
        mine = ours[path]
        assert mine[:compared] == theirs[:compared], path
        if len(theirs) > 5:
            here, there = mine[5], theirs[5]
            assert isinstance(here, int)
            assert isinstance(there, int)
            assert here == there or min(here, there) > started_ns, (path, here, there)


class OverlayfsMachine(RuleBasedStateMachine):
    """Takes every step in both, then compares the merged views and the upper layers, entry by entry.

    Attributes:
        marks: How the marks of the upper layers are spelled.
        options: How overlayfs is told so.
    """

    marks = USER
    options = "userxattr"

    def __init__(self) -> None:
        super().__init__()
        self.base = sweep.scratch_root()
        self.merged = self.base / "kernel-merged"

    @initialize()
    def start(self) -> None:
        """Mount the kernel's view of a lower layer, and open ours of the same one."""
        for name in ("lower", "upper", "work", "kernel-upper", "kernel-work", "kernel-merged"):
            (self.base / name).mkdir()
        make_lower(self.base / "lower")
        for name in ("upper", "kernel-upper"):
            shutil.copystat(self.base / "lower", self.base / name)
        self.started_ns = time.time_ns() - 10**9
        self.mount("kernel-upper", "kernel-work")
        self.tree = MergedTree(
            DirectoryLower(self.base / "lower"), UpperLayer(self.base / "upper", self.base / "work", self.marks)
        )

    def mount(self, upper: str, work: str) -> None:
        """Mount an upper layer over the lower one."""
        layers = f"lowerdir={self.base}/lower,upperdir={self.base}/{upper},workdir={self.base}/{work},{self.options}"
        assert mount("overlay", self.merged, "overlay", layers)

    @rule(several=st.lists(drafts(), min_size=1, max_size=8))
    def take(self, several: list[Draft]) -> None:
        """Take some steps."""
        for draft in several:
            step = draft.choose(describe_dir(self.merged))
            note(f"{step}")
            expected = take_in_directory(self.merged, step)
            if expected == "EXDEV":
                # The kernel does not rename a directory that has a lower part, unless it may redirect; we bring it up
                # whole.
                assert not self.marks.is_trusted
                continue
            assert take_in_tree(self.tree, step) == expected, step
            self.compare_views()
            places = (self.base / "upper", self.base / "kernel-upper")
            ours, kernels = (describe_upper(place, self.base / "lower", self.marks) for place in places)
            assert_same(ours, kernels, self.started_ns, links=True)

    def compare_views(self) -> None:
        """Both show the same."""
        views = describe_tree(self.tree, times=True), describe_dir(self.merged, times=True)
        assert_same(*views, self.started_ns, links=False)

    @rule()
    def forget_all(self) -> None:
        """Look at the disk anew."""
        self.tree.forget_all()

    @rule()
    def change_hands(self) -> None:
        """Each goes on with what the other wrote."""
        assert unmount(self.merged)
        os.rename(self.base / "upper", self.base / "ours")
        os.rename(self.base / "kernel-upper", self.base / "upper")
        os.rename(self.base / "ours", self.base / "kernel-upper")
        self.mount("kernel-upper", "kernel-work")
        self.tree.forget_all()
        self.compare_views()

    def teardown(self) -> None:
        """Leave no mount."""
        unmount(self.merged)
        shutil.rmtree(self.base)


class RedirectingMachine(OverlayfsMachine):
    """The same where directories of the lower layer are renamed by marks, as root's overlayfs does it."""

    marks = TRUSTED
    options = ",".join(mark_options(is_trusted=True))


OverlayfsMachine.TestCase.settings = settings(stateful_step_count=20, max_examples=settings().max_examples // 4)
OverlayfsTest = OverlayfsMachine.TestCase
RedirectingMachine.TestCase.settings = OverlayfsMachine.TestCase.settings
RedirectingTest = RedirectingMachine.TestCase

"""What a merge or a restore records without capturing the workspace is what a capture of all of it finds."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.model import RestoreResult
from avfs_git.paths import TreePath, oid_of
from avfs_git.sdk import Vault, Workspace
from avfs_git.session.control import operations
from avfs_git.vfs.scan.statcache import DirCache, StatCache, StatCacheAhead
from avfs_git.workspace.capture.captured import Captured
from avfs_git.workspace.capture.requests import CaptureRequest
from avfs_git.workspace.capture.sidecardiff import diff_sidecars
from avfs_git.workspace.checkpoint.confirm import confirm_advanced, confirm_restored
from avfs_git.workspace.checkpoint.prepare import capture_workspace
from avfs_git.workspace.restore import advance, restore

pytestmark = pytest.mark.needs("git", "whiteout", "user-xattrs")

PATHS = [f"{above}{name}" for above in ("", "a/", "a/b/", "c d/", "e%/") for name in ("one", "two", "a two", "x.y")]


def change(work: Workspace, rng: random.Random, paths: list[str]) -> None:
    """Write, remove and make files; some of unusual permissions."""
    for path in rng.sample(paths, rng.randint(1, 4)):
        if work.exists(path) and rng.random() < 0.25:
            work.remove(path)
        else:
            work.write(path, b"%d\n" % rng.randrange(10**9), executable=rng.random() < 0.2)
            if rng.random() < 0.1:
                work.chmod(path, 0o600)
    work.checkpoint()


def assert_recorded(work: Workspace) -> None:
    """Compare what counts as recorded with what a look at everything finds."""
    with work._opened.locked() as locked:
        cache = locked.opened.cache
        assert cache is not None
        recorded = (cache.tree, cache.sidecar)
        found = capture_workspace(locked, DryWriter(locked.vault.store), CaptureRequest(afresh=True))
        assert (found.tree, found.sidecar) == recorded
        # What the stat cache believes of the files is so, too.
        locked.opened.dirty = None
        again = capture_workspace(locked, DryWriter(locked.vault.store))
        assert (again.tree, again.sidecar) == recorded


@pytest.fixture
def confirmations(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each merge was confirmed, in their order."""
    told: list[bool] = []
    confirm: Callable[..., Captured | None] = confirm_advanced

    def note(*args: object) -> Captured | None:
        found = confirm(*args)
        told.append(found is not None)
        return found

    monkeypatch.setattr(advance, "confirm_advanced", note)
    return told


@pytest.mark.slow
def test_what_is_confirmed_is_what_a_capture_finds(vault: Vault, work: Workspace, confirmations: list[bool]) -> None:
    """Merges of random changes: tree, sidecar and stat cache are those of a capture, with times and permissions."""
    rng = random.Random(5)
    for path in PATHS:
        work.write(path, path.encode())
    work.write(".gitignore", b"*.log\n")
    work.write("a/noise.log", b"ignored")
    work.checkpoint()
    half = len(PATHS) // 2
    for number in range(12):
        shuffled = rng.sample(PATHS, len(PATHS))
        side = vault.fork(f"side{number}")
        change(side, rng, shuffled[:half])
        change(work, rng, shuffled[half:])

        assert work.merge(side.fork).outcome == "clean"

        assert_recorded(work)
        assert work.status().clean
    assert confirmations.count(True) >= 6


def test_ignored_files_of_the_source_come_along(vault: Vault, work: Workspace, confirmations: list[bool]) -> None:
    """A directory that only the source has untracked files in comes along, though git's trees say nothing of it."""
    work.write(".gitignore", b"*.log\nout/\n")
    work.write("deep/er/file", b"1")
    work.write("out/old", b"1")
    work.checkpoint()
    side = vault.fork("side")
    side.write("deep/er/new.log", b"log")
    side.write("out/fresh/x", b"2")
    side.write("out/old", b"2")
    side.make_dir("empty/er", parents=True)
    side.write("deep/er/file", b"2")
    side.checkpoint()
    work.write("other", b"3")
    work.checkpoint()

    assert work.merge("side").outcome == "clean"

    assert (work.read("deep/er/new.log"), work.read("out/fresh/x"), work.read("out/old")) == (b"log", b"2", b"1")
    assert work.exists("empty/er")
    assert_recorded(work)
    assert confirmations == [False]


def test_rules_that_a_merge_changes_are_followed(vault: Vault, work: Workspace, confirmations: list[bool]) -> None:
    """A merged `.gitignore` decides anew about files that nobody touched: that is captured."""
    work.write(".gitignore", b"*.log\n")
    work.write("seen.log", b"1")
    work.write("file", b"1")
    work.checkpoint()
    side = vault.fork("side")
    side.write(".gitignore", b"*.tmp\n*.log\n")
    side.checkpoint()
    work.write("noise.tmp", b"1")
    work.write("file", b"2")
    work.checkpoint()

    assert work.merge("side").outcome == "clean"

    assert_recorded(work)
    assert confirmations == [False]


def test_files_in_directories_that_come_and_go(vault: Vault, work: Workspace, confirmations: list[bool]) -> None:
    """The first tracked file of a directory, and the last one that leaves it, are captured; others are not."""
    work.write(".gitignore", b"*.log\n")
    work.write("full/file", b"1")
    work.write("full/more", b"1")
    work.write("last/file", b"1")
    work.write("last/keep.log", b"1")
    work.make_dir("void")
    work.checkpoint()
    plans: list[tuple[Callable[[Workspace], object], bool]] = [
        (lambda side: side.write("full/added", b"2"), True),
        (lambda side: side.remove("full/more"), True),
        (lambda side: side.write("void/first", b"2"), False),
        (lambda side: side.remove("last/file"), False),
        (lambda side: side.write("made/now", b"2"), False),
    ]
    for number, (act, _) in enumerate(plans):
        side = vault.fork(f"side{number}")
        act(side)
        side.checkpoint()
        work.write("own", b"%d" % number)
        work.checkpoint()

        assert work.merge(side.fork).outcome == "clean"

        assert_recorded(work)
    assert confirmations == [expected for _, expected in plans]


def assert_restored(work: Workspace) -> None:
    """Compare what a restore recorded with what a look at everything finds: all but times, and every fingerprint."""
    with work._opened.locked() as locked:
        cache = locked.opened.cache
        assert cache is not None
        store = locked.vault.store
        writer = DryWriter(store)
        found = capture_workspace(locked, writer, CaptureRequest(afresh=True))
        assert found.tree == cache.tree
        assert diff_sidecars(writer, cache.sidecar, found.sidecar) == []
        ahead = StatCacheAhead(None, found.update, tree=found.tree, sidecar=found.sidecar)
        for path in {path for path, _, _ in found.update.changed} | cache.directories.keys():
            assert known_of(cache, path) == known_of(ahead, path), path


def known_of(cache: StatCache | StatCacheAhead, path: TreePath) -> DirCache:
    """List the fingerprints of a directory without times of change, which are left out where they are too young."""
    return {name: print_[:20] + print_[28:] for name, print_ in (cache.directory(path) or {}).items()}


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each restore was confirmed, in their order."""
    told: list[bool] = []

    def note(*args: Any) -> Captured | None:
        confirm: Callable[..., Captured | None] = confirm_restored
        found = confirm(*args)
        told.append(found is not None)
        if found is not None:  # how large they are is not looked up once more
            assert found.sizes.keys() == {known.oid for known in args[2].values()}
        return found

    monkeypatch.setattr(restore, "confirm_restored", note)
    return told


def test_a_restore_records_what_a_capture_finds(vault: Vault, restored: list[bool]) -> None:
    """Restores to and fro between made-up states: directories come and go, of the base and not, tracked and ignored."""
    rng = random.Random(7)
    base = vault.fork("base")
    base.write(".gitignore", b"*.log\nout/\n")
    for path in PATHS:
        base.write(path, path.encode())
    base.write("out/deep/built", b"1")
    base.checkpoint()
    work = vault.fork("onto", source="base")
    states = [checkpoint_id(work)]
    for number in range(4):
        for name in rng.sample(["a", "a/b", "c d", "e%", "out", "made", "more"], 2):
            if work.exists(name):
                work.remove(name, recursive=True)
        for name in rng.sample(["a/b", "made/in/side", "made", "more", "out/deep"], 2):
            work.make_dir(name, parents=True) if not work.exists(name) else None
            work.write(f"{name}/file{number}", b"%d" % number)
            work.write(f"{name}/noise{number}.log", b"log")
        states.append(checkpoint_id(work))
    for target in rng.sample(states * 3, len(states) * 3):
        if rng.random() < 0.5:
            work.make_dir("scratch/empty", parents=True)
            work.write("scratch/new", b"new")
        work.restore(target)
        assert_restored(work)
        assert work.status().clean
    assert restored.count(True) >= 10
    assert False not in restored


def test_what_takes_another_kinds_place_is_captured(vault: Vault, work: Workspace, restored: list[bool]) -> None:
    """A file in the place of a directory is confirmed.

    A directory in the place of a file, a link and odd modes are captured.
    """
    work.write("place/file", b"1")
    first = checkpoint_id(work)
    work.remove("place", recursive=True)
    work.write("place", b"2")
    second = checkpoint_id(work)
    work.symlink("link", b"place")
    work.make_dir("closed")
    work.chmod("closed", 0o700)
    third = checkpoint_id(work)

    for target in (first, second, first, third, second):
        work.restore(target)
        assert_restored(work)
    assert restored == [False, True, False, False, True]


def test_a_served_tree_is_confirmed_at_a_standstill_only(vault: Vault, restored: list[bool]) -> None:
    """What programs change before a restore is saved, what they change after it is noted.

    Without a standstill it is captured.
    """
    base = vault.fork("base")
    for name in ("file", "gone/one", "gone/two", "stays"):
        base.write(name, b"1")
    base.checkpoint()
    work = vault.fork("onto", source="base")
    target = oid_of(checkpoint_id(work))
    opened = work._opened

    def standing() -> RestoreResult:
        return operations.restore_state(opened, target, (), False, "target", "restore")

    def running() -> RestoreResult:
        with opened.locked() as locked:
            return restore.restore_state(locked, target)

    opened.serve("session")
    try:
        for bring_back, expected in ((standing, True), (running, False), (standing, True)):
            merged = opened.merged
            with merged.guard:  # as the server does it for a program
                merged.write_file(TreePath(b"file"), b"2")
                merged.namespace.remove_tree(merged.root, b"gone")
                merged.making.mkdir(merged.root, b"made")
                merged.write_file(TreePath(b"made/new"), b"new")

            saved = bring_back().saved

            assert restored.pop() == expected
            assert saved is not None
            changed = vault.diff(target.hex(), saved, patches=False).files
            assert sorted(each.change.path for each in changed) == [b"file", b"gone/one", b"gone/two", b"made/new"]
            assert_restored(work)
            assert not opened.dirty
            merged.write_file(TreePath(b"file"), b"3")
            assert [each.path for each in operations.read_status(opened).changed_files] == [b"file"]
    finally:
        opened.stop_serving()


def checkpoint_id(work: Workspace) -> str:
    """Save a checkpoint."""
    saved = work.checkpoint().checkpoint
    assert saved is not None
    return saved.id

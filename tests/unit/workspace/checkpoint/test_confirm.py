"""What a merge records without capturing the workspace is what a capture of all of it finds."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.sdk import Vault, Workspace
from avfs_git.workspace.capture.capture import Captured
from avfs_git.workspace.capture.requests import CaptureRequest
from avfs_git.workspace.checkpoint.confirm import confirm_advanced
from avfs_git.workspace.checkpoint.prepare import capture_workspace
from avfs_git.workspace.restore import advance

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


def test_what_is_confirmed_is_what_a_capture_finds(vault: Vault, work: Workspace, confirmations: list[bool]) -> None:
    """Merges of made-up changes: tree, sidecar and stat cache are those of a capture, times and permissions included."""
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

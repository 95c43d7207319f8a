"""A capture in rounds: it equals one capture of the last moment, and keeps programs waiting only while it reads."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from avfs_git.gitstore.formats.trees import EMPTY_TREE
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.rules.ignore import Ignorer
from avfs_git.paths import Oid, TreePath
from avfs_git.sdk import Avfs
from avfs_git.vfs.layer.readers import PlainDirectory
from avfs_git.vfs.scan.scan import DirtySet
from avfs_git.vfs.scan.statcache import Fingerprints, StatCacheAhead
from avfs_git.workspace.capture.capture import Capture
from avfs_git.workspace.capture.livecapture import Rounds, capture_live

_NAMES = ("a", "b", "c.log", "deep")


class Guard:
    """The guard of a tree, which knows whether it is held."""

    is_held = False

    def __enter__(self) -> None:
        self.is_held = True

    def __exit__(self, *_: object) -> None:
        self.is_held = False


class Sink(DryWriter):
    """A sink that notes under which guard a tree was written."""

    guard: Guard
    guarded_trees = 0

    def add_tree(self, entries: Mapping[bytes, tuple[int, Oid]]) -> Oid:
        """Compute the id of a tree."""
        self.guarded_trees += self.guard.is_held
        return super().add_tree(entries)


class Program:
    """Changes a directory whenever the changes so far are taken, and tells which paths it changed."""

    def __init__(self, root: Path, chance: random.Random) -> None:
        self.root = root
        self._chance = chance
        self._changed = DirtySet()

    def begin_capture(self, rounds: Rounds | None = None) -> DirtySet | None:
        """Take what changed; nothing is known of the time before."""
        self.change()
        self._changed = DirtySet()
        return None

    def extend_capture(self) -> DirtySet | None:
        """Change something, and take what changed."""
        self.change()
        taken, self._changed = self._changed, DirtySet()
        return taken

    def change(self) -> None:
        """Do some things at random."""
        for _ in range(self._chance.randint(0, 6)):
            path = Path(*self._chance.choices(_NAMES, k=self._chance.randint(1, 3)))
            does = self._chance.choice(
                (self._write, self._write, self._make, self._remove, self._move, self._link, self._close)
            )
            with suppress(OSError):
                does(path)

    def _note(self, path: Path) -> None:
        self._changed.add(TreePath(os.fsencode(path)), deep=True)

    def _write(self, path: Path) -> None:
        self._note(path)
        (self.root / path).write_bytes(self._chance.randbytes(3))

    def _make(self, path: Path) -> None:
        self._note(path)
        (self.root / path).mkdir(parents=True)

    def _remove(self, path: Path) -> None:
        self._note(path)
        if (self.root / path).is_dir() and not (self.root / path).is_symlink():
            shutil.rmtree(self.root / path)
        else:
            (self.root / path).unlink()

    def _move(self, path: Path) -> None:
        other = Path(*self._chance.choices(_NAMES, k=2))
        self._note(path)
        self._note(other)
        (self.root / path).rename(self.root / other)

    def _link(self, path: Path) -> None:
        self._note(path)
        (self.root / path).symlink_to("nowhere/deep")  # nobody writes through it

    def _close(self, path: Path) -> None:
        self._note(path)
        (self.root / path).chmod(self._chance.choice((0o700, 0o755, 0o750)))


@pytest.mark.parametrize("seed", range(25))
def test_rounds_find_what_one_capture_at_the_end_finds(home: Avfs, tmp_path: Path, seed: int) -> None:
    """Whatever a program does between the rounds, the trees are those of the last moment.

    No tree is written under the guard.
    """
    root = tmp_path / "root"
    root.mkdir()
    store = home.create_vault("captured")._core.store
    sink, guard = Sink(store), Guard()
    sink.guard = guard
    program = Program(root, random.Random(seed))
    for _ in range(5):
        program.change()

    def make(cache: Fingerprints | None, postponed: DirtySet | None) -> Capture:
        rules = Ignorer(lambda directory: b"*.log\n" if not directory else None, b"")
        return Capture(PlainDirectory(root), sink, rules, cache=cache, index=EMPTY_TREE, postponed=postponed)

    found = capture_live(program, guard, Rounds(make, None), flush=program.change)
    afresh = make(None, None).run()

    assert (found.tree, found.sidecar) == (afresh.tree, afresh.sidecar)
    assert sink.guarded_trees == 0

    known = StatCacheAhead(None, found.update, tree=found.tree, sidecar=found.sidecar)
    again = make(known, None).run()

    assert (again.tree, again.sidecar) == (found.tree, found.sidecar)

"""An interrupt at any step of an update leaves no lock of a ref for good, and takes no other program's away."""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from avfs_git.gitstore.refs.refs import RefChange, RefStore
from avfs_git.gitstore.repository import init_vault_repo
from avfs_git.paths import Oid
from tests.support.interrupts import Interrupt

NAMES = ("refs/heads/a", "refs/heads/b/c", "refs/avfs/d")
OLD, NEW = Oid(b"\1" * 20), Oid(b"\2" * 20)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a generator that is interrupted
@pytest.mark.parametrize("new", [NEW, None], ids=["move", "delete"])
def test_no_lock_stays(tmp_path: Path, new: Oid | None) -> None:
    """The next program that opens the repository can move each ref, whatever it holds."""
    git_dir = tmp_path / "v.git"
    init_vault_repo(git_dir)
    interrupted = 0
    for step in count(1):
        refs = RefStore(git_dir)
        held = refs.list("refs/")
        refs.update([RefChange(name, held.get(name), OLD) for name in NAMES if held.get(name) != OLD])
        interrupt = Interrupt(step)
        with suppress(KeyboardInterrupt), interrupt:
            refs.update([RefChange(name, OLD, new) for name in NAMES])
        interrupted += interrupt.has_come
        RefStore(git_dir)  # it removes what killed processes have left
        assert not list(git_dir.rglob("*.lock")), step
        if not interrupt.has_come:
            break
    assert interrupted > 50

"""Made-up forks, merged: what is committed is what `git merge-tree` makes, and the files are what is committed."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_SYMLINK
from avfs_git.sdk import Avfs, Vault, Workspace
from tests.support.faults import git
from tests.support.merges import Files, change, make_files

pytestmark = pytest.mark.needs("git", "whiteout", "user-xattrs")


@pytest.fixture(scope="module")
def avfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Avfs]:
    """A home for all examples."""
    with Avfs(tmp_path_factory.mktemp("merges") / "home") as home:
        yield home


def put(work: Workspace, before: Files, after: Files) -> None:
    """Bring the files of a workspace from one state to another, without directories that are left empty."""
    for path in before:
        if before[path] != after.get(path):
            work.remove(path)
            above = path.rpartition(b"/")[0]
            while above and work.exists(above) and not work.list_dir(above):
                work.remove(above)
                above = above.rpartition(b"/")[0]
    for path, (mode, data) in sorted(after.items()):
        if before.get(path) == (mode, data):
            continue
        if mode == MODE_SYMLINK:
            work.make_dir(path.rpartition(b"/")[0], parents=True)
            work.symlink(path, data)
        else:
            work.write(path, data, executable=mode == MODE_EXEC)


def shown(work: Workspace) -> dict[bytes, bytes]:
    """Read all files and links of a workspace."""
    found: dict[bytes, bytes] = {}
    pending = [b""]
    while pending:
        for info in work.list_dir(pending.pop()):
            if info.kind == "directory":
                pending.append(info.path)
            else:
                found[info.path.lstrip(b"/")] = info.target if info.target is not None else work.read(info.path)
    return found


def tracked(vault: Vault, tree: str) -> dict[bytes, bytes]:
    """Read all files and links of a tree, with git."""
    names = subprocess.run(
        ["git", f"--git-dir={vault.path}", "ls-tree", "-r", "-z", "--name-only", tree], check=True, capture_output=True
    ).stdout.split(b"\0")[:-1]
    return {
        name: subprocess.run(
            ["git", f"--git-dir={vault.path}", "cat-file", "blob", b"%s:%s" % (tree.encode(), name)],
            check=True,
            capture_output=True,
        ).stdout
        for name in names
    }


_numbers = iter(range(1_000_000))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_merge_leaves_what_git_makes_of_it(avfs: Avfs, seed: int) -> None:
    """Merged or put into the workspace with conflicts, the tree is git's and the files are the tree's.

    Undo brings all back.
    """
    rng = random.Random(seed)
    with closing(avfs.create_vault(f"v{next(_numbers)}")) as vault:
        _merge_and_compare(vault, rng)


def _merge_and_compare(vault: Vault, rng: random.Random) -> None:
    work = vault.workspace()
    files = make_files(rng)
    put(work, {}, files)
    work.checkpoint("base")
    side = vault.fork("side")
    put(work, files, change(rng, files))
    put(side, files, change(rng, files))
    work.checkpoint()
    side.checkpoint()
    before, head = shown(work), git(vault.path, "rev-parse", "main").strip()
    argv = ["git", f"--git-dir={vault.path}", "merge-tree", "--write-tree", "main", "side"]
    done = subprocess.run(argv, check=False, capture_output=True, text=True)
    planned = work.merge("side", dry_run=True)
    result = work.merge("side")

    assert (planned.outcome, planned.tree) == (result.outcome, result.tree)

    if result.outcome == "conflicted":
        assert (shown(work), git(vault.path, "rev-parse", "main").strip()) == (before, head)

        work.merge("side", on_conflict="workspace")
        for conflict in work.status().merging.unresolved:  # type: ignore[union-attr]  # there is one
            work.resolve(conflict.path)
        ended = work.continue_merge()

        assert shown(work) == tracked(vault, str(ended.commit))
    elif done.returncode == 0:
        assert result.tree == done.stdout.strip()
        assert shown(work) == tracked(vault, str(result.tree))
    assert work.status().clean
    if result.outcome != "up_to_date":
        work.undo()

        assert (shown(work), git(vault.path, "rev-parse", "main").strip()) == (before, head)

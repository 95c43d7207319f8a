"""Logs and histories of paths against `git log`."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avfs_git.gitstore.compare.walk import log, path_versions
from avfs_git.paths import Oid, TreePath
from tests.support.objects import MemorySource

PATHS = [b"a", b"b", b"d/a", b"d/b", b"d/e/a", b"d/e/f/a", b"\xff/x y"]


@pytest.fixture
def git_dir(tmp_path: Path) -> Path:
    """An empty repository."""
    path = tmp_path / "history.git"
    subprocess.run(["git", "init", "-q", "--bare", str(path)], check=True)
    return path


def git_log(git_dir: Path, *arguments: str | bytes) -> list[Oid]:
    """List the commits that git finds."""
    command = [
        b"git",
        b"--git-dir",
        os.fsencode(git_dir),
        b"log",
        b"--format=%H",
        *(os.fsencode(word) for word in arguments),
    ]
    lines = subprocess.run(command, check=True, capture_output=True).stdout.split()
    return [Oid(bytes.fromhex(line.decode())) for line in lines]


def make_history(source: MemorySource, seed: int) -> list[Oid]:
    """Make commits with merges, roots of their own, equal and wrong dates."""
    chance = random.Random(seed)
    commits: list[Oid] = []
    files: dict[Oid, dict[bytes, tuple[int, bytes]]] = {}
    when_s = 1_700_000_000
    for number in range(chance.randrange(1, 25)):
        when_s += chance.choice([0, 1, 1, 5, -3])
        parents = chance.sample(commits[-6:], min(len(commits), chance.choice([1, 1, 1, 1, 2, 3, 0])))
        tree = dict(files[parents[0]]) if parents else {}
        for _ in range(chance.choice([0, 1, 1, 3])):
            path = chance.choice([*PATHS, b"d", b"d/e"])
            if chance.random() < 0.3:
                tree = {
                    known: file for known, file in tree.items() if known != path and not known.startswith(path + b"/")
                }
            else:
                tree = {
                    known: file
                    for known, file in tree.items()
                    if not known.startswith(path + b"/") and not path.startswith(known + b"/")
                }
                tree[path] = (chance.choice([0o100644, 0o100755, 0o120000]), b"%d" % chance.randrange(3))
        commit = source.add_commit(source.add_tree(tree), *parents, when_s=when_s, message=f"change {number}\n")
        files[commit] = tree
        commits.append(commit)
    return commits


@pytest.mark.slow
@settings(suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**64))
def test_logs_and_versions_are_those_of_git(git_dir: Path, seed: int) -> None:
    """Order, limits and the commits that changed a path are as `git log` has them."""
    source = MemorySource()
    commits = make_history(source, seed)
    source.write_to(git_dir)
    head, other = commits[-1], commits[len(commits) // 2]
    assert [oid for oid, _ in log(source, [head])] == git_log(git_dir, head.hex())
    assert [oid for oid, _ in log(source, [other, head])] == git_log(git_dir, other.hex(), head.hex())
    assert [oid for oid, _ in log(source, [head], 3)] == git_log(git_dir, "-3", head.hex())
    path = random.Random(seed).choice([*PATHS, b"d", b"d/e", b"d/e/f", b"a/b", b"nothing"])
    versions = path_versions(source, head, TreePath(path))
    assert [oid for oid, _, _ in versions] == git_log(git_dir, "--first-parent", head.hex(), "--", path)
    for newer, older in itertools.pairwise(versions):
        assert newer[2].old_oid == older[2].new_oid
        assert newer[2].old_mode == older[2].new_mode

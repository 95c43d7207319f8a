"""Every way in which a workspace is shown is a directory like any other.

The oracle is a plain directory in which the same is done; it is one of the backends, too, so that the programs are
right about directories. Where a backend differs, `tests.support.backends.DIFFERENCES` says so, and the test expects it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.host.mounts.mounts import list_mounts
from avfs_git.sdk import Avfs
from tests.support.backends import MOUNTED, SHOWN, backends, expect_difference, show
from tests.support.live_tree import ADA, FORK, ShownTree, listed, run_in
from tests.support.promises import PROGRAMS, SCRIPTS, make_source

pytestmark = pytest.mark.slow


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Something to begin with."""
    return make_source(tmp_path / "source")


def _shown(backend: str, root: Path, source: Path) -> Iterator[ShownTree]:
    with show(backend, root, source) as tree:
        yield tree
    assert not [mount for mount in list_mounts() if mount.directory.is_relative_to(root)]


@pytest.fixture(params=backends(*SHOWN))
def shown(request: pytest.FixtureRequest, mount_dir: Path, source: Path) -> Iterator[ShownTree]:
    """A workspace of `source`, in each way in which one can be shown; and a plain directory."""
    expect_difference(request, request.param, str(request.node.callspec.params.get("name")))
    yield from _shown(request.param, mount_dir, source)


@pytest.fixture(params=backends(*MOUNTED))
def workspace(request: pytest.FixtureRequest, mount_dir: Path, source: Path) -> Iterator[ShownTree]:
    """A workspace of `source`, in each way in which one can be shown."""
    yield from _shown(request.param, mount_dir, source)


@pytest.mark.parametrize("name", SCRIPTS)
def test_tools_do_what_they_do_in_a_plain_directory(shown: ShownTree, source: Path, name: str) -> None:
    """A script prints the same in a workspace and leaves the same behind as in a plain directory."""
    plain = shown.path.parent / "plain"
    shutil.copytree(source, plain, symlinks=True)
    script = "set -u\n" + SCRIPTS[name]
    expected = run_in(plain, ["sh", "-c", script], check=False)
    found = shown.run("sh", "-c", script, check=False)

    assert found.stdout == expected.stdout
    assert found.stderr.replace(os.fsencode(shown.path), b"") == expected.stderr.replace(os.fsencode(plain), b"")
    assert found.returncode == expected.returncode
    assert listed(shown.path) == listed(plain)
    shown.unmount()


@pytest.mark.parametrize("name", PROGRAMS)
def test_single_calls_keep_their_promises(shown: ShownTree, name: str) -> None:
    """A program that looks closely sees what POSIX and Linux promise."""
    lines = PROGRAMS[name].strip("\n").splitlines()
    shown.python("\n".join(line[8:] for line in lines))
    shown.unmount()


def test_what_is_left_is_what_was_seen(workspace: ShownTree) -> None:
    """A checkpoint afterwards holds the tree that git itself makes of what the directory showed."""
    workspace.run("sh", "-c", "sed -i s/two/2/ README; rm -r doc; mv src lib; mkdir -p new/a; echo x > new/a/b")
    workspace.run("sh", "-c", "chmod +x new/a/b; ln -s b new/a/l")
    copy = workspace.home / "copy"
    run_in(Path("/"), ["cp", "-a", f"{workspace.path}/.", str(copy)])
    workspace.unmount()
    run_in(copy, ["git", "init", "-q", "."])
    run_in(copy, ["git", "add", "-A"])
    expected = run_in(copy, ["git", "write-tree"]).stdout.decode().strip()
    with Avfs(workspace.home, identity=ADA, lock_timeout_s=0.1) as avfs, avfs.open_vault("v") as vault:
        work = vault.workspace(FORK)
        saved = work.checkpoint("after")

        assert saved.checkpoint is not None
        assert saved.checkpoint.tree == expected
        assert work.read("README") == b"one\n2\nthree\n"

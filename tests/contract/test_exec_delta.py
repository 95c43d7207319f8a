"""What `exec` says that a command changed, compared with what the command does in a plain directory."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.model import ChangedFile
from avfs_git.sdk import Vault, Workspace
from tests.support.commands import ALLOW_ALL, CORPUS, changed, is_ignored, look, make_project
from tests.support.seeds import one_in

pytestmark = [pytest.mark.needs("git", "user-xattrs", "whiteout"), pytest.mark.slow]

BACKENDS = [
    pytest.param("overlay", marks=pytest.mark.needs("fuse", "overlayfs")),
    pytest.param("fuse", marks=pytest.mark.needs("fuse")),
    "checkout",
    pytest.param(
        "overlay", marks=[pytest.mark.needs("fuse", "overlayfs"), pytest.mark.ordinary], id="overlay-ordinary"
    ),
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository for the corpus."""
    return make_project(tmp_path / "project")


@pytest.fixture
def vault(mount_dir: Path, project: Path) -> Iterator[Vault]:
    """A vault of the project, where every command may run."""
    home = mount_dir / "h"
    home.mkdir()
    (home / "policy.toml").write_text(ALLOW_ALL)
    with Avfs(home, policy=home / "policy.toml") as avfs:
        yield avfs.create_vault("v", source=project)


def paths(changes: tuple[ChangedFile, ...]) -> set[bytes]:
    """Name what changed; a rename is both of its paths."""
    return {path for change in changes for path in (change.path, change.old_path) if path is not None}


def states(changes: tuple[ChangedFile, ...]) -> dict[bytes, tuple[int | None, str | None]]:
    """Give what each path holds after; a rename's old path holds nothing."""
    after: dict[bytes, tuple[int | None, str | None]] = {}
    for change in changes:
        if change.old_path is not None:
            after[change.old_path] = (None, None)
    return {**after, **{change.path: (change.new_mode, change.new_oid) for change in changes}}


def committed(vault: Vault, workspace: Workspace, old: str, new: str) -> dict[bytes, tuple[int | None, str | None]]:
    """Ask git what two commits differ in."""
    said = subprocess.run(
        ["git", "-C", vault.path, "diff-tree", "-r", "-z", "--no-renames", old, new], check=True, capture_output=True
    ).stdout.split(b"\0")
    found: dict[bytes, tuple[int | None, str | None]] = {}
    for facts, path in zip(said[::2], said[1::2], strict=False):
        _, mode, _, oid, letter = facts.decode().split(" ")
        found[path] = (None, None) if letter == "D" else (int(mode, 8), oid)
    return found


def check(vault: Vault, workspace: Workspace, backend: str, text: str, project: Path, plain: Path) -> None:
    """Run one command in a workspace and in a plain directory, and compare."""
    shutil.copytree(project, plain, symlinks=True)
    before = look(plain)
    expected = subprocess.run(
        ["bash", "-c", text], cwd=plain, check=False, stdin=subprocess.DEVNULL, capture_output=True
    )
    head = workspace.log(limit=1)[0].checkpoint.id
    result = workspace.exec(shell=text, backend=backend)
    status = expected.returncode if expected.returncode >= 0 else 128 - expected.returncode
    assert (result.exit_code, result.backend) == (status, backend), (result.stderr, expected.stderr)
    differ = changed(before, look(plain))
    assert paths(result.changed_files) == {path for path in differ if not is_ignored(path)}
    told = paths(result.sidecar_changed)  # a directory stands for all that is in it
    assert not [
        path
        for path in differ
        if is_ignored(path) and not any(path == one or path.startswith(one + b"/") for one in told)
    ]
    assert bool(result.commit) == bool(result.changed_files or result.sidecar_changed)
    if result.commit is not None:
        assert states(result.changed_files) == committed(vault, workspace, head, result.commit)
    assert workspace.status().clean


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_changed_is_what_a_plain_directory_shows(
    backend: str, vault: Vault, project: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Commands leave the same status, the same files, one commit or none, and nothing uncommitted.

    Overlayfs, the default of root, runs the whole corpus; the others run a part of it here, and all in `make soak`.
    """
    wrong = {}
    # What an ordinary user's namespace changes depends on no single command.
    share = 4 if request.node.get_closest_marker("ordinary") else 1 if backend == "overlay" else 2
    for name, text in one_in(share, CORPUS.items()):
        workspace = vault.fork(f"{name}-{backend}")
        try:
            check(vault, workspace, backend, text, project, tmp_path / name)
        except AssertionError as error:
            wrong[name] = str(error)
    assert not wrong
    subprocess.run(["git", "-C", vault.path, "fsck", "--strict", "--no-dangling"], check=True, capture_output=True)

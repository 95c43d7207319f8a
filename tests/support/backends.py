"""The ways in which a workspace is shown, for tests that hold for all of them.

Decided here: which backends there are (`BACKENDS`), what each needs of the machine, and in what each is known to differ
from a plain directory (`DIFFERENCES`, with the reason; `docs/reference/filesystem.md` tells users the same).

    tree                the merged tree in this process, by path: no mount
    channel             the server on the kernel's own protocol; also with the write-back cache, and as an ordinary user
    portable            the same tree through libfuse
    overlay             a session that the kernel's overlayfs shows (`session.serve.overlay`), without the `.git` in its root
    plain               a plain directory: the oracle, and a check of the tests themselves

Nothing outlives the `with` block of a backend.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from avfs_git.paths import Oid
from avfs_git.sdk import Avfs, Session
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.workspace.opened.workspace import OpenWorkspace
from avfs_git.workspace.vault.commits import open_commit
from avfs_git.workspace.vault.vault import OpenVault
from tests.support.live_tree import ADA, FORK, ShownTree, make_vault, mounted
from tests.support.steps import Step, take_in_directory, take_in_tree
from tests.support.trees import Described, describe_dir, describe_tree

_NEEDS = {
    "plain": (),
    "tree": (),
    "channel": ("root", "fuse"),
    "channel-user": ("fuse", "user-mounts"),
    "portable": ("root", "fuse", "libfuse"),
    "portable-user": ("fuse", "libfuse", "user-mounts"),
    "overlay": ("root", "fuse", "overlayfs"),
}
MOUNTED = tuple(name for name in _NEEDS if name not in ("plain", "tree"))
SHOWN = ("plain", *MOUNTED)

_NO_NAME = "libfuse's high-level interface has no O_TMPFILE"
_NO_DIRECTORY = "libfuse cannot name a directory that is removed"
DIFFERENCES: dict[tuple[str, str], str] = {
    ("portable", "file without a name"): _NO_NAME,
    ("portable", "removed directory in use"): _NO_DIRECTORY,
    ("portable-user", "file without a name"): _NO_NAME,
    ("portable-user", "removed directory in use"): _NO_DIRECTORY,
    ("overlay", "renamed over while open"): "overlayfs shows a removed file of the lower layer with its old link count",
    ("overlay", "copied ranges"): "overlayfs gives EXDEV for copy_file_range between its layers",
}


def needs(backend: str) -> list[pytest.MarkDecorator]:
    """Say what a backend needs of the machine, and of who runs the test."""
    ordinary = [pytest.mark.ordinary] if backend.endswith("-user") else []
    return [pytest.mark.needs("git", "user-xattrs", "whiteout", *_NEEDS[backend]), *ordinary]


def backends(*names: str) -> list[object]:
    """Make the parameters of a fixture: backends with what they need."""
    return [pytest.param(name, marks=needs(name)) for name in names]


def expect_difference(request: pytest.FixtureRequest, backend: str, what: str) -> None:
    """Expect a test to fail where a backend is known to differ."""
    reason = DIFFERENCES.get((backend, what))
    if reason is not None:
        request.node.add_marker(pytest.mark.xfail(reason=reason, strict=True))


# --- showing a workspace as a directory ----------------------------------------------------------------------------


@contextmanager
def show(backend: str, root: Path, source: Path) -> Iterator[ShownTree]:
    """Make a vault of a directory, fork it and show the fork.

    Args:
        backend: One of `SHOWN`.
        root: A scratch directory outside of pytest's own (`mount_dir`).
        source: What the vault begins with.
    """
    path, home = root / "tree", root / "home"
    if backend == "plain":
        shutil.copytree(source, path, symlinks=True)
        yield ShownTree(home, path)
        return
    path.mkdir()
    make_vault(home, source)
    with show_again(backend, home, path) as shown:
        yield shown


def show_again(backend: str, home: Path, path: Path) -> AbstractContextManager[ShownTree]:
    """Show a fork that is there."""
    git_dir = home / "vaults" / "v.git"
    if backend == "overlay":
        return _overlay(home, path)
    return mounted(git_dir, home, path, *(["portable"] if backend.startswith("portable") else []))


class OverlayTree(ShownTree):
    """A workspace that the kernel shows.

    Attributes:
        session: The session behind it.
    """

    def __init__(self, home: Path, path: Path, session: Session) -> None:
        super().__init__(home, path)
        self.session = session

    def unmount(self) -> None:
        """Give the workspace back, and the base."""
        assert self.session.unmount().outcome == "unmounted"
        _await_end(self.session)


@contextmanager
def _overlay(home: Path, path: Path) -> Iterator[OverlayTree]:
    with Avfs(home, identity=ADA) as avfs, avfs.open_vault("v") as vault, vault.workspace(FORK) as work:
        session = work.mount(path, backend="overlay", allow_other=True)  # else its root is closed to others
        try:
            # A name like any other there, and in no plain directory.
            (path / ".git").unlink()
            yield OverlayTree(home, path, session)
        finally:
            session.unmount(lazy=True)
            _await_end(session)


def _await_end(session: Session) -> None:
    """Wait until a session is over, and then the base that it stood on."""
    session.wait()
    vault = session.vault
    bases = [vault.find_session(info.fork, session_id=info.id) for info in vault.sessions(bases=True)]
    vault.check_unmounted()  # which ends them
    for base in bases:
        if base is not None:
            base.wait()


@contextmanager
def held_workspace(git_dir: Path) -> Iterator[OpenWorkspace]:
    """Hold the fork's workspace with a change begun, as whoever shows it does."""
    vault = OpenVault(git_dir, name="test")
    opened = OpenWorkspace(vault, FORK, recover=lambda _: None)
    try:
        with opened.locked() as locked, locked.changing():
            yield opened
    finally:
        opened.close()
        vault.close()


# --- taking steps in a workspace, by whichever way ------------------------------------------------------------------


class Stepper:
    """A workspace in which steps are taken and whose content can be told."""

    def __init__(self, take: Callable[[Step], str | None], describe: Callable[[], dict[bytes, Described]]) -> None:
        self.take = take
        self.describe = describe


@contextmanager
def stepping(backend: str, home: Path, path: Path) -> Iterator[Stepper]:
    """Open a fork that is there to take steps in it; `path` is where a backend that needs a directory shows it."""
    if backend == "tree":
        with held_workspace(home / "vaults" / "v.git") as opened:
            tree = opened.merged
            yield Stepper(lambda step: take_in_tree(tree, step), lambda: describe_tree(tree))
    else:
        path.mkdir(exist_ok=True)
        with show_again(backend, home, path) as shown:
            yield Stepper(lambda step: take_in_directory(shown.path, step), lambda: describe_dir(shown.path))
            shown.unmount()


def open_head(git_dir: Path, commit: str) -> MergedTree:
    """Open a commit, to compare what it holds with what was seen."""
    return open_commit(OpenVault(git_dir), Oid(bytes.fromhex(commit)))

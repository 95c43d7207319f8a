"""What a backend gives to whoever runs a command: where the workspace is seen, and how what was changed comes back.

Decided here: the interface of backends, and what they have in common. `choose` opens one; `proxy.exec.execute` uses it.
A backend that is open belongs to one thread, and everything that it made on the machine goes with `close`, or with the
process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from avfs_git.backends.shield import Mounts
from avfs_git.errors import AvfsError
from avfs_git.host.files.durable import host_errors
from avfs_git.host.files.modes import make_private_dirs
from avfs_git.host.processes.runner.handle import NamespaceRefused, Runner
from avfs_git.model import Warning
from avfs_git.values import NamedTuple
from avfs_git.workspace.gitlinks import link_tree
from avfs_git.workspace.opened.workspace import LockedWorkspace, OpenWorkspace


class BackendName(StrEnum):
    """The backends, the best first."""

    OVERLAY = "overlay"
    FUSE = "fuse"
    CHECKOUT = "checkout"


class Served(NamedTuple):
    """A workspace as a session shows it."""

    root: Path
    by: str
    """How: one of `model.SessionBackend`."""
    check_awake: Callable[[], object]
    """Raises WorkspaceBusy if a process that shows it is stopped."""
    is_seen_by: Callable[[int], bool]
    """Tells whether a process has the mount in its mount namespace."""


class Gone(Exception):
    """The session that showed the workspace has ended before the command began."""


class Passed(Exception):
    """A backend cannot be used here, for the reason that is the message."""


class Backend(Protocol):
    """A workspace that is shown."""

    root: Path
    """Where the command sees it."""
    runner: Runner
    """What runs commands there."""

    @property
    def name(self) -> str:
        """What it is called where a command's result tells how it saw the workspace."""

    def collect(self, locked: LockedWorkspace) -> list[Warning]:
        """Bring what the command changed into the workspace; tell what could not be."""

    def close(self) -> None:
        """Show it no more. A second call does nothing."""


def start_runner(
    find_mounts: Callable[[], Mounts],
    *,
    check_awake: Callable[[], object] | None = None,
    optional: bool = False,
    held: tuple[int, ...] = (),
) -> Runner:
    """Start what runs commands, with a PID namespace where the system allows it.

    With `optional` it does without the mounts where the system allows no mount namespace. `held` are descriptors that
    it keeps open until everything that it ran has ended, such as that of a lock. `check_awake` is called while the
    runner does not get on.

    Raises:
        NamespaceRefused: If the mounts cannot be made.
    """
    runner = Runner(held=held, on_silence=check_awake)
    try:
        mounts = find_mounts()
        left: list[tuple[bool, Mounts]] = [(True, mounts), (False, mounts)]
        if optional and mounts:
            left.append((False, ()))
        while True:
            pids, wanted = left.pop(0)
            try:
                runner.isolate(wanted, pids=pids)
            except NamespaceRefused as refused:
                if refused.step not in ("mount /proc", "unshare", "map users") or not left:
                    raise
                runner.close()
                runner = Runner(held=held, on_silence=check_awake)
            else:
                return runner
    except BaseException:
        runner.close()
        raise


def prepare_git(opened: OpenWorkspace, root: Path) -> Path | None:
    """Make git work in a tree that is shown at `root`; give the file that is to be its `.git`.

    Return None if there is nothing that git could work on.
    """
    try:
        return link_tree(opened, root)
    except AvfsError:
        if opened.vault.read_head(opened.fork) is None:
            return None
        raise


def make_root(root: Path) -> None:
    """Make the directory at which a tree is shown."""
    with host_errors(f"make '{root}'"):
        make_private_dirs(root)


def remove_root(root: Path) -> None:
    """Remove a directory that shows nothing any more, and those above it that were made for it, if they are empty."""
    for directory in (root, root.parent):
        try:
            os.rmdir(directory)
        except OSError:  # somebody uses it
            return

"""What of its vault a command sees and may change, where it has a mount namespace.

Decided here: the mounts for that, which every backend makes above the workspace. A command is not to command avfs, so that
`VAULT/avfs` is an empty directory for it, but for a file that tells an avfs in there so, and the objects that submodules
borrow. Git in the command commits and moves refs; it cannot write what git or avfs outside would obey or run later: the
configuration, hooks, avfs's own refs, the working trees of other forks, and where its own one belongs. Files that git replaces by
renaming (`packed-refs`) and their locks stand in the repository itself, which therefore stays writable.

This holds against mistakes and for programs that mean well. A command of root can take mounts away; what keeps out one that
means harm is `proxy.isolate`. Called with the workspace prepared for git (`shown.prepare_git`).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from avfs_git.host.modes import make_dir
from avfs_git.host.runners import hiding_mount, readonly_mount, writable_mount
from avfs_git.workspace.format import HIDDEN
from avfs_git.workspace.gitmoves import open_worktree
from avfs_git.workspace.workspace import OpenWorkspace

Mounts = tuple[Mapping[str, object], ...]


def shield_vault(opened: OpenWorkspace, root: Path) -> Mounts:
    """Describe the mounts that keep a command from what is avfs's own, and from what is obeyed later.

    Args:
        opened: The workspace.
        root: Where it is shown. A tree that lies over the vault hides all of it.
    """
    vault, layout = opened.vault.git_dir, opened.vault.layout
    if vault.is_relative_to(root):
        return ()
    worktree = open_worktree(opened.vault, opened.fork).path
    with suppress(OSError):
        with suppress(FileExistsError):
            make_dir(vault / "hooks")  # else a command could make it
        if (vault / "config.worktree").exists():
            # Git made that when it was told to have a configuration for each working tree (git-worktree(1)).
            (worktree / "config.worktree").touch()
    fixed = [vault / name for name in ("config", "config.worktree", "hooks", "refs/avfs")]
    fixed += [worktree / name for name in ("commondir", "gitdir", "config.worktree")]
    mounts = [readonly_mount(place) for place in fixed if place.exists()]
    if worktree.is_dir():
        # The first stays writable under the second, which takes it along.
        mounts = [writable_mount(worktree), *mounts, readonly_mount(worktree.parent)]
    kept = os.path.relpath(layout.module_objects, layout.root)
    return (*mounts, hiding_mount(layout.root, kept=(kept,), files={layout.format.name: HIDDEN.encode() + b"\n"}))


def make_readonly(opened: OpenWorkspace, root: Path) -> Mounts:
    """Describe the mounts that make a workspace read-only for a command, and the vault that it belongs to.

    A git command that a read-only workspace does not stop would change refs in the vault.

    Args:
        opened: The workspace.
        root: Where it is shown.
    """
    vault = opened.vault.git_dir
    worktree = open_worktree(opened.vault, opened.fork).path
    places = [] if vault.is_relative_to(root) else [vault, *([worktree] if worktree.is_dir() else [])]
    return tuple(map(readonly_mount, (*places, root)))

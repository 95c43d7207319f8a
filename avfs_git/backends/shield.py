"""What of its vault a command sees and may change, where it has a mount namespace.

Decided here: the mounts for that, which every backend makes above the workspace. A command is not to command avfs, so
that `VAULT/avfs` is an empty directory for it, but for a file that tells an avfs in there so, and the objects that
submodules borrow. Git in the command commits and moves refs; it cannot write what git or avfs outside would obey or run
later: the configuration, hooks, HEAD, `info`, refs that replace objects, avfs's own refs, the working trees of other
forks, and where its own one belongs. Files that git replaces by renaming (`packed-refs`) and their locks stand in the
repository itself, which stays writable for that: after the command `clear_planted` removes what git or avfs would obey
there, and what would keep them waiting.

This holds against mistakes and for programs that mean well. A command of root can take mounts away; what keeps out one
that means harm is `proxy.exec.isolate`. Called with the workspace prepared for git (`shown.prepare_git`).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from avfs_git.host.files.durable import host_errors
from avfs_git.host.files.modes import make_dir
from avfs_git.host.processes.runner.handle import hiding_mount, readonly_mount, writable_mount
from avfs_git.model import Warning
from avfs_git.workspace.opened.workspace import OpenWorkspace
from avfs_git.workspace.vault.format import HIDDEN
from avfs_git.workspace.vault.gitmoves import open_worktree

_OBEYED: Final = frozenset({"commondir", "config.worktree", "gitdir", "index", "remotes", "branches"})
"""What git or avfs would read in a vault's own directory, where no vault has it (gitrepository-layout(5))."""

Mounts = tuple[Mapping[str, object], ...]


def shield_vault(opened: OpenWorkspace, root: Path) -> Mounts:
    """Describe the mounts that keep a command from what is avfs's own, and from what is obeyed later.

    A tree that lies over the vault hides all of it.
    """
    vault, layout = opened.vault.git_dir, opened.vault.layout
    if vault.is_relative_to(root):
        return ()
    worktree = open_worktree(opened.vault, opened.fork).path
    with suppress(OSError):
        for name in ("hooks", "info", "objects/info", "refs/replace"):
            with suppress(FileExistsError):
                make_dir(vault / name)  # else a command could make it
        if (vault / "config.worktree").exists():
            # Git made that when it was told to have a configuration for each working tree (git-worktree(1)).
            (worktree / "config.worktree").touch()
    fixed = [
        vault / name
        for name in ("config", "config.worktree", "HEAD", "hooks", "info", "objects/info", "refs/avfs", "refs/replace")
    ]
    fixed += [worktree / name for name in ("commondir", "gitdir", "config.worktree")]
    mounts = [readonly_mount(place) for place in fixed if place.exists()]
    if worktree.is_dir():
        # The first stays writable under the second, which takes it along.
        mounts = [writable_mount(worktree), *mounts, readonly_mount(worktree.parent)]
    kept = os.path.relpath(layout.module_objects, layout.root)
    return (*mounts, hiding_mount(layout.root, kept=(kept,), files={layout.format.name: HIDDEN.encode() + b"\n"}))


def list_parts(opened: OpenWorkspace) -> frozenset[str]:
    """Name what stands in the vault's directory, for `clear_planted`."""
    return frozenset(os.listdir(opened.vault.git_dir))


def clear_planted(opened: OpenWorkspace, before: frozenset[str]) -> list[Warning]:
    """Remove what a command made in the vault: files that git or avfs would obey, and all but files and directories.

    Looks into the vault's own directory, the directory of packs and the working tree. After a kill they stay: avfs
    refuses the vault then, or the next command removes them.

    `before` is what `list_parts` gave before the command.
    """
    vault = opened.vault.git_dir
    found = [vault / name for name in sorted(_OBEYED - before) if os.path.lexists(vault / name)]
    found += [place for place in _list_strange(vault, below=False) if place not in found]
    # avfs removes nothing outside of the vault
    if not any((vault / name).is_symlink() for name in ("objects", "objects/pack")):
        found += _list_strange(vault / "objects/pack", below=False)
    tree = open_worktree(opened.vault, opened.fork).path
    found += [*_list_strange(tree, below=True), *(tree / name for name in ("HEAD", "index") if (tree / name).is_dir())]
    warnings = []
    for place in found:
        with host_errors(f"remove '{place}'"):
            if place.is_dir() and not place.is_symlink():
                shutil.rmtree(place)
            else:
                place.unlink(missing_ok=True)
        what = (
            f"the command left '{place.relative_to(vault)}' in the vault, where git would obey it or wait for it: "
            "it was removed"
        )
        warnings.append(Warning("exec.planted", what))
    return warnings


def _list_strange(top: Path, *, below: bool) -> list[Path]:
    """List special files below `top`; skip `modules`.

    Symbolic links are listed only with `below`: avfs follows none, and a link may lead to files that the command moved.
    """
    found = []
    waiting = [os.fspath(top)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        if below and entry.name != "modules":
                            waiting.append(entry.path)
                    elif not (entry.is_file(follow_symlinks=False) or (not below and entry.is_symlink())):
                        found.append(Path(entry.path))
        except OSError:  # it is gone, or too deep for anything to find it
            continue
    return found


def make_readonly(opened: OpenWorkspace, root: Path) -> Mounts:
    """Describe the mounts that make workspace and vault read-only; the vault too, because git could still move refs."""
    vault = opened.vault.git_dir
    worktree = open_worktree(opened.vault, opened.fork).path
    places = [] if vault.is_relative_to(root) else [vault, *([worktree] if worktree.is_dir() else [])]
    return tuple(map(readonly_mount, (*places, root)))

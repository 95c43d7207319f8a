"""Whether a `.git` among the files of a workspace makes a git that starts there run a program, or work elsewhere.

Decided here: what no file, link or directory at or below a `.git` may be. Each is judged for itself, by its name: parts
of one `.git` may be in the upper layer and others in a sidecar, and a git directory may lie in another one
(`.git/modules`). Called by `gitstore.config.trust` for changed files and by `vfs.layer.foreign` for saved ones. Pure
functions; nothing is read but what is given.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from avfs_git.gitstore.config.gitconfig import parse_config
from avfs_git.gitstore.config.outside import parse_pointer
from avfs_git.gitstore.config.settings import is_harmless

GIT = ".git"
IN_PROGRESS = ("rebase-merge", "rebase-apply", "sequencer")
"""Directories in which git keeps the commands that it is about to run."""
_CONFIGS = ("config", "config.worktree")
_CONFIG_MAX = 1 << 20
"""Bytes of a configuration; git reads more, and the caller may have read a part."""


def find_in_directory(path: str) -> str | None:
    """Say what is wrong with a directory, given its path from `.git` on."""
    if os.path.basename(path) in IN_PROGRESS:
        return "may hold commands that git would run"
    return None


def find_in_link(path: str) -> str | None:
    """Say what is wrong with a symbolic link: it leads git to any files, which are not judged."""
    del path
    return "is a symbolic link, which has git obey other files"


def find_in_file(path: str, read: Callable[[], bytes], *, is_executable: bool, depth: int | None = None) -> str | None:
    """Say what is wrong with a file, given its path from `.git` on, and how deep in the workspace that is, if known."""
    directory, name = os.path.split(path)
    if path == GIT:
        target = parse_pointer(read())
        if target is not None and not os.path.isabs(target):
            parts = os.path.normpath(target).split("/")
            is_in_files = depth is None or parts.count("..") <= depth
            # git's own, of a submodule
            if GIT not in parts and (is_in_files or not {"worktrees", "modules"} <= {*parts}):
                return "has git obey another directory of the files"
    elif name in _CONFIGS:
        data = read()
        if len(data) > _CONFIG_MAX:
            return "is larger than a configuration that is read here"
        for key, values in parse_config(data).items():
            if key == "core.worktree":
                if not all(_is_beside(directory, value) for value in values):
                    return "has git work on something outside of the workspace"
            elif not is_harmless(key, values):
                return f"holds '{key}', which could make git run other programs"
    elif name == "commondir":
        above = os.path.basename(os.path.dirname(directory))
        if read().strip() != b"../.." or above != "worktrees":
            return "has git obey another repository"
    elif os.path.basename(directory) == "hooks" and is_executable and not name.endswith(".sample"):
        return "is a hook, which would be run"
    return None


def _is_beside(directory: str, value: str) -> bool:
    """Tell whether a git directory's setting leads to the directory that holds `.git`, or below it."""
    return not os.path.isabs(value) and os.path.normpath(os.path.join(directory, value)).split("/")[0] != ".."

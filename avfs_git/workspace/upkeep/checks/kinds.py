"""What is a file, what a directory, and what its user may use in a vault or in a home (docs/design/format.md).

Decided here: which names are checked, and that a link counts as what it leads to only where avfs has a directory: avfs
opens no file through a link. Called by the doctor. Reads names and kinds; safe beside all other processes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from avfs_git.values import value_class
from avfs_git.workspace.vault.format import ENABLED_HOOKS, ENABLED_PLUGINS, PLUGINS, SEAL_KEY, VAULTS

_PLACES = ("trash", "workspaces")


@value_class
class Names:
    """Patterns of what is in a directory of avfs's."""

    files: tuple[str, ...]
    directories: tuple[str, ...]
    ways: tuple[str, ...] = ()
    """Directories of git's, in which avfs makes files."""


_FILES = (
    *(f"avfs/{name}" for name in ("commits", "config.json", "forklocks", "format", "kept-times", "lazy", "made")),
    *(f"avfs/{name}" for name in ("maintenance.json", "oplog", "oplog.index", "origin", "policy.toml")),
    "avfs/*.lock",
    "avfs/*.ndjson",
    *(f"avfs/cache/{name}" for name in ("search", "seen")),
    *(f"avfs/sessions/{name}" for name in ("bases.lock", "guard")),
    *(f"avfs/{place}/*/{name}" for place in _PLACES for name in ("applied", "checkout", "commands", "config.json")),
    *(f"avfs/{place}/*/{name}" for place in _PLACES for name in ("lock", "marked", "statcache", "state")),
    "avfs/workspaces/*/gitlink/.git",
    *(f"worktrees/*/{name}" for name in ("HEAD", "avfs", "avfs-basis", "avfs-forced", "commondir", "gitdir", "locked")),
)
_DIRECTORIES = (
    *(f"avfs/{name}" for name in ("approvals", "cache", "cache/blobs", "cache/indexes", "cache/output", "exchange")),
    *(f"avfs/{name}" for name in ("modules", "modules/objects", "reftxn", "sessions", "sweep", "trash", "workspaces")),
    *(f"avfs/{name}" for name in ("worktrees", "workspaces/*")),
    *(f"avfs/workspaces/*/{name}" for name in ("gitlink", "upper", "work", "work/work")),
    "worktrees",
    "worktrees/*",
)
IN_VAULT = Names(_FILES, _DIRECTORIES, ("objects", "objects/??", "objects/info", "objects/pack", "refs", "refs/**"))
IN_HOME = Names(
    ("current", "trusted", SEAL_KEY, ENABLED_HOOKS, "hooks.lock", ENABLED_PLUGINS, "plugins.lock", f"{PLUGINS}/*"),
    ("attempts", "attempts/*", "mounts", "mounts/*", PLUGINS, VAULTS),
)


def find_no_files(place: Path, names: Names) -> Iterator[Path]:
    """Find anything but a regular file where avfs has a file."""
    return (path for path in _list_there(place, names.files) if path.is_symlink() or not path.is_file())


def find_no_directories(place: Path, names: Names) -> Iterator[Path]:
    """Find anything but a directory where avfs has one, or would have that of a fork of the name."""
    return (path for path in _list_there(place, names.directories) if not path.is_dir())


def find_closed(place: Path, names: Names) -> Iterator[Path]:
    """Find files and directories that this user may not read and write, in a directory to which it may write.

    The mode of `upper` is that of the tree's root, and `work/work` is the kernel's. `cache/blobs` is its first user's
    alone, and others read without it.
    """
    if not os.access(place, os.W_OK, effective_ids=True):
        return
    ways = (path for path in _list_there(place, names.ways) if path.is_dir())
    for path in (*_list_there(place, (*names.files, *names.directories)), *ways):
        wanted = os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)
        if (
            path.name not in {"upper", "blobs"}
            and path.parent.name != "work"
            and path.exists()
            and not os.access(path, wanted, effective_ids=True)
        ):
            yield path


def _list_there(git_dir: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    """List the names of some patterns that are there, links that lead nowhere included."""
    for pattern in patterns:
        above, _, name = pattern.rpartition("/")
        for place in sorted(git_dir.glob(above)) if above else (git_dir,):
            if "*" in name:
                yield from sorted(place.glob(name))
            elif os.path.lexists(place / name):
                yield place / name

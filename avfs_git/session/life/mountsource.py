"""How a mount table names the mounts of sessions: fork, session and vault in the text of the source.

Decided here: that text. Any process finds the session of a directory by it, without a record. Another vault's session
can have the same id: `life.record` tells whether a mount is that of a given record. Keeps nothing, and reads at most
the table of mounts.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from avfs_git.errors import MountInPart
from avfs_git.host.mounts.mounts import Mounted, list_mounts

SUBTYPE: Final = "avfs"
"""What a mount table shows as the kind of our mounts, after `fuse.`."""
_SOURCE: Final = "avfs:"


def mount_source(session_id: str, fork: str, git_dir: Path) -> str:
    """Make the text by which a mount table names a session."""
    return f"{_SOURCE}{fork}@{session_id}:{os.fspath(git_dir)}"


def session_of_source(source: str) -> str | None:
    """Read the session out of `mount_source`; None if it is none of ours."""
    fork, session_id, _ = _parse(source)
    return session_id if fork and session_id else None


def fork_of_source(source: str) -> str | None:
    """Read the fork out of `mount_source`; None if it is none of ours."""
    return _parse(source)[0] or None


def vault_of_source(source: str) -> Path | None:
    """Read the vault out of `mount_source`; None if it is none of ours."""
    git_dir = _parse(source)[2]
    return Path(git_dir) if git_dir else None


def is_ours(mounted: Mounted) -> bool:
    """Whether a mount is one of a session."""
    return mounted.kind == f"fuse.{SUBTYPE}" or (
        mounted.kind == "overlay" and session_of_source(mounted.source) is not None
    )


def find_mount_around(directory: Path) -> Mounted | None:
    """Find the mount of ours that a directory is in; None if it is in none.

    Raises:
        MountInPart: If it shows only a part of its tree there, from which `..` leads to elsewhere than in the tree.
    """
    around = {directory, *directory.parents}
    found = [mount for mount in list_mounts() if mount.directory in around]
    inner = max(found, key=lambda mount: len(mount.directory.parts), default=None)
    if inner is None or not is_ours(inner):
        return None
    if inner.root != Path("/"):
        raise MountInPart(os.fspath(inner.directory), os.fspath(inner.root))
    return inner


def _parse(source: str) -> tuple[str, str, str]:
    """Give fork, session and vault; each is empty where it is missing."""
    if not source.startswith(_SOURCE):
        return "", "", ""
    name, _, git_dir = source.removeprefix(_SOURCE).partition(":")  # git allows no colon in the name of a branch
    fork, _, session_id = name.rpartition("@")
    return fork, session_id, git_dir

"""The owners of a workspace's files: in a shared vault, another member may own them, and the system refuses changes.

Decided here: which user may change them, and what to do otherwise. Called where a workspace is opened, around each
change of files, in the process that makes it, and before what would leave files of the caller's among them.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from avfs_git.errors import HostError, PathUnsuitable, quote
from avfs_git.gitstore.config.trust import name_user
from avfs_git.workspace.vault.format import WorkspaceLayout

_ROOT = 0


def find_other_owner(layout: WorkspaceLayout) -> str | None:
    """Name the user whose files a workspace has, for messages; None if that is the caller, or if the caller is root."""
    try:
        owner = layout.upper.stat().st_uid
    except FileNotFoundError:
        return None
    return name_user(owner) if os.geteuid() not in (owner, _ROOT) else None


@contextmanager
def refusal_explained(layout: WorkspaceLayout) -> Iterator[None]:
    """Say whose files they are, and how to get files of one's own, in an error that has no hint."""
    try:
        yield
    except (HostError, PathUnsuitable) as error:
        refused = error if isinstance(error, HostError) else error.__cause__
        if error.hint is None and getattr(refused, "errno", None) in (errno.EACCES, errno.EPERM):
            owner = find_other_owner(layout)
            if owner is not None:
                whose = f"The files of fork {quote(layout.fork)} belong to {owner}."
                error.hint = f"{whose} Make a fork of your own with `avfs fork create NAME`."
        raise

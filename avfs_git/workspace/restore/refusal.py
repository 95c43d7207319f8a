"""What to do where the system refuses to change a workspace's files: in a shared vault, they may belong to another member.

Called around each change of files, in the process that makes it.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from avfs_git.errors import HostError, PathUnsuitable, quote
from avfs_git.gitstore.config.trust import name_user
from avfs_git.workspace.vault.format import WorkspaceLayout


@contextmanager
def refusal_explained(layout: WorkspaceLayout) -> Iterator[None]:
    """Say whose files they are, and how to get files of one's own, in an error that has no hint."""
    try:
        yield
    except (HostError, PathUnsuitable) as error:
        refused = error if isinstance(error, HostError) else error.__cause__
        if error.hint is None and getattr(refused, "errno", None) in (errno.EACCES, errno.EPERM) and layout.upper.is_dir():
            owner = layout.upper.stat().st_uid
            if owner != os.geteuid():
                whose = f"The files of fork {quote(layout.fork)} belong to {name_user(owner)}."
                error.hint = f"{whose} Make a fork of your own with `avfs fork create NAME`."
        raise

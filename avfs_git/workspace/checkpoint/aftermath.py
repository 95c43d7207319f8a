"""What an operation does after it is acknowledged.

Decided here: a failure there is no failure of the operation. Its state is in force and on the disk, so that an error
would say the wrong thing; what could not be done is made up for later, and a warning says so. Called by every
operation that moves refs, for whatever comes after them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from avfs_git.errors import AvfsError
from avfs_git.gitstore.objects.packs import MANY_SMALL, consolidate_packs, remove_leftovers
from avfs_git.gitstore.repository import is_partial
from avfs_git.model import Warning
from avfs_git.workspace.vault.vault import OpenVault

_FAR_TOO_MANY = 4 * MANY_SMALL
"""So many small packs, and maintenance does not keep up, or cannot run."""


@contextmanager
def aftermath(warnings: list[Warning], later: str) -> Iterator[None]:
    """Do what an operation that is acknowledged can do without.

    Args:
        warnings: Gets one if it fails.
        later: What follows from a failure, in words.
    """
    try:
        yield
    except (AvfsError, OSError) as error:
        reason = error.message if isinstance(error, AvfsError) else error.strerror or str(error)
        warnings.append(Warning("aftermath.failed", f"it is done and on the disk, but {reason}: {later}"))


def merge_small_packs(vault: OpenVault) -> list[Warning]:
    """Merge small packs, unless maintenance is about to do it in the background.

    What was acknowledged does not depend on it: a full disk is no reason to fail.
    """
    warnings: list[Warning] = []
    with aftermath(warnings, "small packs are merged another time"):
        if vault.store.packs.count <= MANY_SMALL:  # listed as the refs moved
            return warnings
        is_maintained = vault.config.read()["maintenance.auto"] != "0" and not is_partial(vault.git_dir)
        most = _FAR_TOO_MANY if is_maintained else MANY_SMALL
        if vault.store.packs.count > most and consolidate_packs(vault.store, more_than=most):
            remove_leftovers(vault.store, now_s=time.time())
    return warnings

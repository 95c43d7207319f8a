"""What an operation does after it is acknowledged.

Decided here: a failure there is no failure of the operation. Its state is in force and on the disk, so that an error
would say the wrong thing; what could not be done is made up for later, and a warning says so. Called by every
operation that moves refs, for whatever comes after them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from avfs_git.errors import AvfsError
from avfs_git.model import Warning


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

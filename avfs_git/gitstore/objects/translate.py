"""Failures of libgit2 as errors of avfs: which exception of pygit2 means which error.

Called around every use of pygit2. Nothing of pygit2 is imported: its own exceptions derive from built-in ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from avfs_git.errors import ObjectCorrupt, ObjectMissing
from avfs_git.paths import Oid


@contextmanager
def object_errors(oid: Oid) -> Iterator[None]:
    """Translate what reading one object through libgit2 raises.

    libgit2 says `KeyError` for an object that is not there, and its own error, a `ValueError` or an
    `OSError` for an object that it cannot parse, or whose content does not match its id.
    """
    try:
        yield
    except KeyError:
        raise ObjectMissing(oid.hex()) from None
    except MemoryError:
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] in ("_pygit2", "pygit2") or isinstance(error, ValueError | OSError):
            raise ObjectCorrupt(oid.hex(), _reason(error)) from error
        raise


def _reason(error: Exception) -> str:
    """Name what libgit2 found, without ids and paths of its own."""
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__

"""The errors of a filesystem: OSErrors with an errno, as system calls raise them. No state."""

from __future__ import annotations

import os


def fail(number: int, name: bytes = b"") -> OSError:
    """Make the error that the system would raise; Python picks the subclass by the number."""
    return OSError(number, os.strerror(number), name)

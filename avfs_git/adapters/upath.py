"""`UPath("avfs://VAULT/FORK/PATH")` of universal_pathlib, which finds the class by its entry point.

Decided here: nothing but that the class is there: `adapters.fsspec` has the filesystem and says what a path means.
Importing this module loads that filesystem, because universal_pathlib learns how to join paths from loaded ones only.
"""

from __future__ import annotations

import fsspec
from upath import UPath

fsspec.get_filesystem_class("avfs")


class ForkPath(UPath):
    """A path of a fork."""

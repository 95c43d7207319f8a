"""avfs: git-compatible workspaces for AI agents.

`Home` opens the vaults of a directory; everything else is reached from it. `open_home` opens the home of the command
line, as the environment says. The public names are those of `avfs_git.sdk`, plus the values in `avfs_git.model` and the
errors in `avfs_git.errors`. They are imported when first used, so that the command line starts without what it does not
need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from avfs_git.cli.environment import open_home
    from avfs_git.sdk import Avfs, Home, Session, Vault, Workspace

__version__ = "0.1.0"

__all__ = ["Avfs", "Home", "Session", "Vault", "Workspace", "__version__", "open_home"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module("avfs_git.cli.environment" if name == "open_home" else "avfs_git.sdk"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

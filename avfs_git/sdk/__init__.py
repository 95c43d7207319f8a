"""The public API: everything that avfs does, in process.

    import avfs_git

    with avfs_git.Home(directory) as home:
        vault = home.create_vault("shop", source=project)
        work = vault.fork("fix-login")
        work.write("src/login.py", data)
        print(work.checkpoint("first try").changed_files)

Decided here: the names and arguments that callers rely on; each method is one call of a function below. Values are
the frozen dataclasses of `avfs_git.model`, failures the typed errors of `avfs_git.errors`. Paths in a workspace
may be text, bytes or path objects, from the root of the workspace, with or without a leading slash. Nothing is
printed and no environment variable is read.

A `Home`, a `Vault` and a `Workspace` may be used from several threads, and by several processes at once. What a
method acknowledges as saved is on disk; what `write` and its like do is durable at the next checkpoint, and
survives the death of the process at once.

All of it is the same whether a workspace is mounted or not. Where it is, its session does what is asked for, so that
programs in the mount see it at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from avfs_git.paths import PathLike
from avfs_git.sdk.home import Avfs, Home
from avfs_git.sdk.vault import Session, Vault, Workspace

if TYPE_CHECKING:
    from avfs_git.sdk.options import ExecOptions, FetchOptions, FindOptions, GrepOptions, LogOptions

__all__ = [
    "Avfs",
    "ExecOptions",
    "FetchOptions",
    "FindOptions",
    "GrepOptions",
    "Home",
    "LogOptions",
    "PathLike",
    "Session",
    "Vault",
    "Workspace",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from avfs_git.sdk import options  # noqa: PLC0415 - only types: no command needs them

    value: object = getattr(options, name)
    return value

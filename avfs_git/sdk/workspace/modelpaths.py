"""Paths that a model gives to a tool: it knows those of this machine, too, from other tools and from commands.

Decided here: which of them lead into the workspace. Nothing is written somewhere else than where a model means.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote

from avfs_git.errors import InvalidInput, quote

if TYPE_CHECKING:
    from avfs_git.sdk.home import Home
    from avfs_git.sdk.vault import Workspace

_SCHEME = "avfs://"


def find_path(home: Home, workspace: Workspace, path: str) -> str:
    """Read a path that a model gave: it knows those of this machine, too, from other tools and from commands.

    A path in a mount of the fork is what it shows there; so is `avfs://VAULT/FORK/PATH` of the fork.

    Raises:
        InvalidInput: If it is another path of this machine: what is written there would be somewhere else. So is one
            below a directory that this machine has and the workspace has not, and the address of another fork's file.
    """
    if path.startswith(_SCHEME):
        vault, fork, inside = [*path.removeprefix(_SCHEME).split("/", 2), "", ""][:3]
        if (unquote(vault), unquote(fork)) == (workspace.vault.name, workspace.fork):
            return "/" + unquote(inside, errors="surrogateescape")
        raise InvalidInput(
            f"{quote(path)} is not in fork {quote(workspace.fork)} of vault {quote(workspace.vault.name)}, in which "
            "this call works",
            hint="Give a path in that fork, or name the other vault and fork in the call.",
        )
    top = path.strip("/").partition("/")[0]
    if not top or "\0" in path or not path.startswith(("/", "~", "file:/")):
        return path
    is_known, where = workspace.exists("/" + top), "is a path on this machine"
    if path.startswith("/"):
        given = Path(path)
        shown = home.session_at(given.parent) or home.session_at(given)
        if shown is None and (is_known or not os.path.lexists("/" + top)):
            return path
        if shown is not None and (shown.vault.path, shown.fork) == (workspace.vault.path, workspace.fork):
            if not is_known or not workspace.exists(path):
                return _find_in_mount(given, shown.path)
            where = "is in the workspace, and is another path in a mount of it"
    elif is_known or path.partition("/")[0] == path:
        return path
    raise InvalidInput(
        f"{quote(path)} {where}, and tools take paths in the workspace, from its root",
        hint="If that is meant, give it without the leading slash." if path.startswith("/") else "Give it from there.",
    )


def _find_in_mount(path: Path, directory: Path) -> str:
    """Give the path in the workspace of a path in a mount. Links in the workspace stay: a call may mean them."""
    for above in (*reversed(path.parents), path):
        with suppress(ValueError):
            return os.fspath(Path(os.path.realpath(above)).relative_to(directory) / path.relative_to(above))
    return "/"

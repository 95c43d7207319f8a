"""Whether the repository at a directory is the clone that a vault was made for.

Decided here: a clone is known by its commits, not by its path. Another repository that was put in its place shares no
commit with what the vault has taken from the clone; a clone that was cloned anew, is shallow, or whose branches were
rewritten still shares one. Nothing is written into a clone, so no mark of avfs's own can tell. Called before anything
is taken from a clone or handed to it, and where a directory says which vault is meant: the first look, which is usually
the last, costs one lookup of an object.

Takes no lock and keeps nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from avfs_git.errors import AvfsError, CloneReplaced
from avfs_git.gitstore.config.gitconfig import read_config
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.refs.refs import RefStore
from avfs_git.gitstore.repository import common_dir, find_git_dir
from avfs_git.paths import Oid
from avfs_git.workspace.vault.format import REMOTES, VaultLayout

_COMMITS_MAX = 10_000
"""So many commits are looked at where no branch of one side is known to the other."""
ORIGIN = f"{REMOTES}origin/"
"""The refs of what was taken of the clone's branches."""


def find_origin(vault: Path) -> Path | None:
    """Find the directory that a vault was made of, if there was one."""
    url = read_config(vault).get("remote.origin.url", [""])[-1]
    return VaultLayout(vault).read_origin() or (Path(url) if os.path.isabs(url) else None)


def is_source(vault: Path, top: Path) -> bool:
    """Tell whether the repository at a directory can be the one whose branches a vault has taken: both have one commit.

    True also where nothing can tell: there is no repository, the vault has taken no commit yet, or one side cannot be
    read.
    """
    git_dir = find_git_dir(top)
    if git_dir is None:
        return True
    try:
        common = common_dir(git_dir)
        taken = set(RefStore(vault, recover=False).list(ORIGIN).values())
        if not taken:
            return True
        with ObjectStore(common) as there:
            if any(map(there.exists, taken)):
                return True
            with ObjectStore(vault) as here:
                # a shallow clone, or branches that went back
                refs = RefStore(common, recover=False).list("refs/").values()
                return any(map(here.exists, set(refs))) or _share_history(here, taken, there)
    except AvfsError:
        return True


def _share_history(here: ObjectStore, tips: Iterable[Oid], there: ObjectStore) -> bool:
    """Tell whether one of the commits below some tips is in another repository as well."""
    pending, seen = list(tips), set(tips)
    for _ in range(_COMMITS_MAX):
        if not pending:
            return False
        commit = pending.pop()
        if there.exists(commit):
            return True
        if here.exists(commit):  # else it is below the end of a shallow history
            parents = [parent for parent in here.read_commit(commit).parents if parent not in seen]
            seen.update(parents)
            pending += parents
    return False


def check_source(vault: Path, name: str, directory: Path) -> None:
    """Refuse the repository at a directory if a vault has forks of that directory, and of another repository there.

    Raises:
        CloneReplaced: If so.
    """
    top = VaultLayout(vault).read_origin()
    if top is not None and top == directory and not is_source(vault, top):
        raise CloneReplaced(top, name)

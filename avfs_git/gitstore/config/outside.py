"""Whether a git directory inside a directory makes git work on something outside of it, also when it is copied.

Decided here: what of a git directory names another place: `commondir`, symbolic links among its first entries, and
`core.worktree`. A copy obeys a name that is relative and leads to something that is copied, too; any other name has git
in the copy change the files, branches or index of the original. Pure functions on what is on disk, which may change
meanwhile. `workspace.creation.submodules` and `workspace.files.transfer` call them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import HostError, NotAVault
from avfs_git.gitstore.config.gitconfig import read_config
from avfs_git.gitstore.repofile import read_plain_file

POINTER_MAX = 8192
"""So many bytes of a file `.git` are read."""


def parse_pointer(data: bytes) -> str | None:
    """Give which git directory a file `.git` names; None if git finds none in it."""
    text = os.fsdecode(data[7:].strip(b" \t").rstrip(b"\r\n")) if data.startswith(b"gitdir:") else ""
    return text if text and "\0" not in text else None


def leads_inside(top: Path, directory: str, target: str, *, has_git_dir: bool = False) -> bool:
    """Tell whether a path named in a directory below `top` leads, in a copy of `top`, to its target's copy.

    It is relative, has no symbolic link on its way, and does not leave `top`, nor go into the git directory of `top`
    unless the copy has that.
    """
    way = os.path.normpath(os.path.join(directory, target))
    if os.path.isabs(target) or way.split("/")[0] in ("..", ".", *(() if has_git_dir else (".git",))):
        return False
    real = os.path.realpath(top)
    return os.path.realpath(os.path.join(real, directory, target)) == os.path.join(real, way)


def names_other_repository(top: Path, git_dir: str) -> bool:
    """Tell whether a git directory below `top` keeps its refs or objects, or a part of itself, outside of `top`."""
    with suppress(OSError, NotAVault), os.scandir(top / git_dir) as entries:
        for entry in entries:
            if entry.is_symlink() and not leads_inside(top, git_dir, os.readlink(entry.path)):
                return True
    try:
        target = os.fsdecode(read_plain_file(top / git_dir / "commondir").rstrip(b"\r\n"))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, NotAVault):
        return True
    return not leads_inside(top, git_dir, target)


def works_elsewhere(top: Path, git_dir: str) -> bool:
    """Tell whether the configuration of a git directory below `top` has git work on files outside of `top`."""
    for name in ("config", "config.worktree"):
        with suppress(NotAVault, HostError):  # git cannot read it, either; a link was judged as one
            for value in read_config(top / git_dir, name).get("core.worktree", []):
                if not leads_inside(top, git_dir, value):
                    return True
    return False

"""The author of a commit, asked of git.

Decided here: how git is asked, and with which environment. Git alone knows the order of its variables and configuration files,
with includes and conditions. Called once by a process that makes a commit; runs no hook and writes nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from avfs_git.model import Identity

_IDENT = re.compile(r"(.*) <([^<>]*)> [0-9]+ [+-][0-9]{4}")
"""The output of `git var GIT_AUTHOR_IDENT` (git-var(1))."""
_OF_A_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX")


def find_author(place: Path, environment: Mapping[str, str], *, default_email: str) -> Identity | None:
    """Find the author of a commit that git would make in a directory; None if git is missing or does not know one.

    `default_email` counts where neither the user's variables nor git's configuration name an address.
    """
    name, email = environment.get("GIT_AUTHOR_NAME"), environment.get("GIT_AUTHOR_EMAIL")
    if name and email:  # these come first, so that git need not be asked
        return Identity(name, email)
    program = shutil.which("git", path=environment.get("PATH"))
    if program is None:
        return None
    # Of a variable that is set to nothing, git says that the name is empty.
    given = {key: value for key, value in environment.items() if value and key not in _OF_A_REPOSITORY}
    given = {"EMAIL": default_email, **given, "LC_ALL": "C"}
    # A named repository needs no search, which would stop at another user's repository.
    where = [f"--git-dir={os.fspath(place)}"] if (place / "HEAD").is_file() else []
    try:
        done = subprocess.run(
            [program, *where, "var", "GIT_AUTHOR_IDENT"],
            cwd=place,
            env=given,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return None
    found = _IDENT.fullmatch(done.stdout.decode("utf-8", "replace").removesuffix("\n"))
    return Identity(found[1], found[2]) if found is not None and not done.returncode else None

"""The user's own ignore rules, which hold in all of their repositories (gitignore(5): `core.excludesFile`).

Decided here: how git is asked where they are, with which environment, and what is read. Called when a vault or a fork of a
directory is made; runs no hook and writes nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from avfs_git.gitstore.rules.ignore import IGNORE_FILE_READ
from avfs_git.host.files.plainfile import NotAFile, open_plain

_FOR_GIT = re.compile(r"HOME|XDG_CONFIG_HOME|PATH|GIT_CONFIG_(?:GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+)")


def read_user_ignore(place: Path, environment: Mapping[str, str]) -> bytes:
    """Read the ignore rules that git takes from the user's configuration in a directory, if it finds any."""
    given = {name: value for name, value in environment.items() if value and _FOR_GIT.fullmatch(name)}
    program = shutil.which("git", path=given.get("PATH"))
    if program is None or "HOME" not in given:
        return b""
    default = os.path.join(given.get("XDG_CONFIG_HOME", "~/.config"), "git/ignore")
    try:
        done = subprocess.run(
            [program, "config", "--type=path", f"--default={default}", "--get", "core.excludesFile"],
            cwd=place,
            env={**given, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        named = done.stdout.removesuffix(b"\n")
        if done.returncode or not named:
            return b""
        # It may be a link, as of people who keep their settings in a repository; git follows it, too.
        with os.fdopen(open_plain(os.path.realpath(place / os.fsdecode(named))), "rb") as file:
            return file.read(IGNORE_FILE_READ)
    except (OSError, NotAFile):  # git, too, goes on without it
        return b""

"""What git says of its user: the commit author, the pager, the ignore rules that hold in all of their repositories.

And what it says in a repository of settings that repository and user have in common.

Decided here: how git is asked, and with which environment. Git alone knows the order of its variables and configuration
files, with includes and conditions. Called once by a process that needs one of them; runs no hook and writes nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from avfs_git.gitstore.config.gitconfig import is_true
from avfs_git.gitstore.rules.ignore import IGNORE_FILE_READ
from avfs_git.host.files.plainfile import NotAFile, open_plain
from avfs_git.model import Identity
from avfs_git.values import NamedTuple

_IDENT = re.compile(r"(.*) <([^<>]*)> [0-9]+ [+-][0-9]{4}")
"""The output of `git var GIT_AUTHOR_IDENT` (git-var(1))."""
_OF_A_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_NAMESPACE", "GIT_PREFIX")
_FOR_GIT = re.compile(r"HOME|XDG_CONFIG_HOME|PATH|GIT_CONFIG_(?:GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+)")
_OWN_SCOPES = (b"local", b"worktree")
_NO_REPOSITORY = f"--git-dir={os.devnull}"


class Setting(NamedTuple):
    """What git's configuration says in a repository."""

    value: str
    is_own: bool
    """Whether the repository's own configuration says it, or what that includes; else the user's or the system's."""


def find_author(place: Path, environment: Mapping[str, str], *, default_email: str) -> Identity | None:
    """Find the author of a commit that git would make in a directory; None if git is missing or does not know one.

    `default_email` counts where neither the user's variables nor git's configuration name an address.
    """
    name, email = environment.get("GIT_AUTHOR_NAME"), environment.get("GIT_AUTHOR_EMAIL")
    if name and email:  # these come first, so that git need not be asked
        return Identity(name, email)
    # Of a variable that is set to nothing, git says that the name is empty.
    given = {key: value for key, value in environment.items() if value and key not in _OF_A_REPOSITORY}
    # A named repository needs no search, which would stop at another user's repository.
    where = [f"--git-dir={os.fspath(place)}"] if (place / "HEAD").is_file() else []
    # With the setting, git would refuse the commit; here it is made all the same, with the name.
    asked = [*where, "-c", "user.useConfigOnly=false", "var", "GIT_AUTHOR_IDENT"]
    said = _ask(asked, {"EMAIL": default_email, **given, "LC_ALL": "C"}, place)
    found = _IDENT.fullmatch(said.decode("utf-8", "replace")) if said is not None else None
    return Identity(found[1], found[2]) if found is not None else None


def find_pager(environment: Mapping[str, str]) -> str:
    """Find the command of the user's pager; `cat` where they want none.

    Only the environment and the user's and the system's configuration name it (git-var(1): GIT_PAGER, `core.pager`,
    PAGER, less). It is a command for a shell: a repository's configuration, which may come from elsewhere, is not read.
    """
    said = _ask([_NO_REPOSITORY, "var", "GIT_PAGER"], environment)
    if said is not None:
        return os.fsdecode(said)
    return next((environment[name] for name in ("GIT_PAGER", "PAGER") if name in environment), "less")


def read_user_ignore(place: Path, environment: Mapping[str, str]) -> bytes:
    """Read the ignore rules that git takes from the user's configuration in a directory, if it finds any."""
    given = {name: value for name, value in environment.items() if value and _FOR_GIT.fullmatch(name)}
    if "HOME" not in given:
        return b""
    default = os.path.join(given.get("XDG_CONFIG_HOME", "~/.config"), "git/ignore")
    asked = ["config", "--type=path", f"--default={default}", "--get", "core.excludesFile"]
    named = _ask(asked, {**given, "LC_ALL": "C"}, place)
    if not named:
        return b""
    try:
        # It may be a link, as of people who keep their settings in a repository; git follows it, too.
        with os.fdopen(open_plain(os.path.realpath(place / os.fsdecode(named))), "rb") as file:
            return file.read(IGNORE_FILE_READ)
    except (OSError, NotAFile):  # git, too, goes on without it
        return b""


def read_shown_kinds(place: Path, environment: Mapping[str, str]) -> tuple[bool, bool, bool]:
    """Tell whether git believes the disk of a repository's working tree on the right to execute, links and line ends.

    These are `core.fileMode`, `core.symlinks` and the opposite of `core.autocrlf`; where git cannot be asked, it does.
    """
    given = {name: value for name, value in environment.items() if value and _FOR_GIT.fullmatch(name)}
    asked = ["config", "-z", "--get-regexp", r"^core\.(filemode|symlinks|autocrlf)$"]
    said = _ask(asked, {**given, "LC_ALL": "C"}, place) or b""
    found = {  # the last one counts
        key: not is_set or value.lower() == b"input" or is_true(os.fsdecode(value))
        for key, is_set, value in (entry.partition(b"\n") for entry in said.split(b"\0"))
    }
    return found.get(b"core.filemode", True), found.get(b"core.symlinks", True), not found.get(b"core.autocrlf", False)


def read_settings(
    place: Path, environment: Mapping[str, str], keys: str, *, is_trusted: bool = False
) -> dict[str, Setting]:
    """Read what git's configuration says in a repository of the keys that a regular expression matches.

    `place` is a working tree or a git directory. Of a repository that git itself does not trust (git-config(1),
    `safe.directory`), git reads the configuration of the user and the system only, unless it `is_trusted` here: then
    `place` is its git directory.
    """
    given = {name: value for name, value in environment.items() if value and _FOR_GIT.fullmatch(name)}
    named = [f"--git-dir={os.fspath(place)}"] if is_trusted else []
    asked = [*named, "config", "-z", "--show-scope", "--get-regexp", f"^({keys})$"]
    said = _ask(asked, {**given, "LC_ALL": "C"}, place) or b""
    words = said.split(b"\0")
    found = {}
    for scope, entry in zip(words[::2], words[1::2], strict=False):  # the last one counts; nothing follows the last NUL
        key, is_set, value = entry.partition(b"\n")
        found[os.fsdecode(key)] = Setting(os.fsdecode(value) if is_set else "true", scope in _OWN_SCOPES)
    return found


def _ask(arguments: Sequence[str], environment: Mapping[str, str], place: Path | None = None) -> bytes | None:
    """Run git in a directory; give the line that it says, None where it is missing or fails."""
    program = shutil.which("git", path=environment.get("PATH"))
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *arguments],
            cwd=place,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        return None
    return done.stdout.removesuffix(b"\n") if done.returncode == 0 else None

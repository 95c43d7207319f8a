"""A git directory made anew from another one, without anything that runs.

Decided here: what of a repository is data. Refs, HEAD, the index, logs (with stashes), and the notes of a merge in
progress are copied as files; the configuration is written here, from settings that only name and describe: URLs of
remotes, upstream branches, line endings. Hooks, filters, aliases, monitors and all else that makes git run a program
stay behind, and so do a rebase in progress, which may hold commands, and symbolic links. Called by
`workspace.creation.submodules`.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import InvalidInput, NotAVault
from avfs_git.gitstore.config.gitconfig import format_config, read_config
from avfs_git.gitstore.remote.remotes import check_remote_name, check_url

_FILES = frozenset(
    {
        *(
            "HEAD",
            "ORIG_HEAD",
            "index",
            "packed-refs",
            "shallow",
            "MERGE_HEAD",
            "MERGE_MSG",
            "MERGE_MODE",
            "AUTO_MERGE",
        ),
        *("CHERRY_PICK_HEAD", "REVERT_HEAD", "info/exclude", "info/attributes", "info/sparse-checkout"),
    }
)
_DIRECTORIES = ("refs", "logs")
_FILE_MAX = 384 << 20
"""Bytes of a file above which none of it is taken: the index of 2,000,000 files is smaller."""
_BASE = [
    ("core.repositoryformatversion", "0"),
    ("core.bare", "false"),
    ("core.logallrefupdates", "true"),
]
_SETTINGS = re.compile(
    r"core\.(?:filemode|symlinks|ignorecase|precomposeunicode|autocrlf|eol|safecrlf|sparsecheckout|sparsecheckoutcone)|index\.sparse"
    r"|user\.(?:name|email)|branch\..+\.(?:merge|rebase)",
    re.DOTALL,
)
_REMOTE = re.compile(r"remote\.(.+)\.(url|pushurl)", re.DOTALL)
_BRANCH = re.compile(r"branch\..+\.remote", re.DOTALL)


def rebuild_git_dir(source: Path, target: Path, borrowed: Path) -> None:
    """Make a git directory with all that `source` holds but its objects, which it borrows from `borrowed`.

    Raises:
        NotAVault: If the configuration cannot be read, or a file is of absurd size.
        OSError: If a file cannot be read: without its index or a branch, git would take all files as deleted, or new.
    """
    for name in (".", "info", "objects", "objects/info", "objects/pack", "refs"):
        (target / name).mkdir()
    (target / "objects/info/alternates").write_bytes(os.fsencode(borrowed) + b"\n")
    (target / "config").write_bytes(format_config(_choose_settings(source)))
    for name in sorted(_FILES) + sorted(path.name for path in source.glob("sharedindex.*")):
        _copy_file(source / name, target / name)
    for name in _DIRECTORIES:
        for directory, _, files in os.walk(source / name, onerror=_raise_unless_gone):
            place = target / Path(directory).relative_to(source)
            place.mkdir(exist_ok=True)
            for file in files:
                if not file.endswith(".lock"):
                    _copy_file(Path(directory, file), place / file)


def _choose_settings(source: Path) -> list[tuple[str, str]]:
    """List the settings of a repository that only name and describe."""
    chosen = list(_BASE)
    remotes = set()
    found = [
        (key, value)
        for name in ("config", "config.worktree")
        for key, values in read_config(source, name).items()
        for value in values
    ]
    for key, value in found:
        remote = _REMOTE.fullmatch(key)
        if _SETTINGS.fullmatch(key):
            chosen.append((key, value))
        elif remote is not None:
            with suppress(InvalidInput):  # a URL that could run a program, or an invalid name
                check_url(value, base=source)
                if check_remote_name(remote[1]) not in remotes:
                    chosen.append((f"remote.{remote[1]}.fetch", f"+refs/heads/*:refs/remotes/{remote[1]}/*"))
                remotes.add(remote[1])
                chosen.append((key, value))
    return chosen + [(key, value) for key, value in found if _BRANCH.fullmatch(key) and value in {".", *remotes}]


def _raise_unless_gone(error: OSError) -> None:
    """Raise what keeps a file or directory from being read, unless it is not there, or is a link or a socket."""
    if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO):
        raise error


def _copy_file(source: Path, target: Path) -> None:
    """Copy a plain file with its mode and time; anything else stays behind."""
    try:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        _raise_unless_gone(error)
        return
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return
        if status.st_size > _FILE_MAX:
            raise NotAVault(os.fspath(source.parent), f"its '{source.name}' is larger than {_FILE_MAX >> 20} MiB")
        with target.open("xb") as copy:
            shutil.copyfileobj(file, copy, 1 << 20)
    target.chmod(status.st_mode & 0o666)
    os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))

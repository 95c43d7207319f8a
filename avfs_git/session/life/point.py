"""The directory of a mount: the default one, and whether a directory is fit.

Decided here: nothing is mounted over anything (a directory with entries, another mount, the vault), a missing directory
is made, and a dead mount of ours in the way is detached. The starter calls `default_directory` and `resolve`; the
process of a session calls the rest. Paths are resolved: the kernel's mount table, with which they are compared, knows
no symbolic links.
"""

from __future__ import annotations

import errno
import os
import shlex
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from avfs_git.errors import HostError, MountPointUnusable, quote
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import host_errors
from avfs_git.host.locks.flocks import take
from avfs_git.host.mounts.mounts import Mounted, detach, find_mount, is_dead
from avfs_git.paths import WHOLE_VAULT, encode_given
from avfs_git.session.life.mountsource import fork_of_source, is_ours, vault_of_source

_CHOOSE = "Name an empty directory, or none at all."


def default_directory(mounts: Path, vault: str, fork: str, at: str | None) -> Path:
    """Place a mount for which no directory was named.

    A slash in the name of a fork is one in the path, because git has no branches `a` and `a/b` beside each other.
    """
    return mounts / vault / (fork if at is None else f"{fork}@{at[:12]}")


def name_of_vault(git_dir: Path) -> str:
    """Name a vault that is not in the home, for the directory of its mounts."""
    return f"{git_dir.stem}-{zlib.crc32(os.fsencode(git_dir)):08x}"


def resolve(directory: str | os.PathLike[str]) -> Path:
    """Make a path absolute and free of symbolic links, also where nothing is there yet, or something dead.

    Raises:
        MountPointUnusable: If no directory can have that name.
    """
    text = os.fsdecode(encode_given(directory))
    if not text or "\0" in text:
        raise MountPointUnusable(text, "it is no path", hint=_CHOOSE)
    return Path(os.path.realpath(text))


def check(directory: Path, git_dir: Path) -> tuple[str, ...]:
    """Make sure that a directory is fit for a mount, and list those that have to be made for it, the outermost first.

    Raises:
        MountPointUnusable: If it is not.
        MountError: If a dead mount is in the way and cannot be detached.
    """
    shown = os.fspath(directory)
    while (mounted := find_mount(directory)) is not None:
        # Only ours is asked: another kind of file system may not answer for ever.
        if not is_ours(mounted) or not is_dead(directory):
            raise _occupied(directory, mounted)
        detach(mounted)
    vault = Path(os.path.realpath(git_dir))
    if directory == vault or vault in directory.parents:
        raise MountPointUnusable(shown, "it is inside the vault", hint=_CHOOSE)
    if directory in vault.parents:
        raise MountPointUnusable(shown, "the vault is inside it", hint=_CHOOSE)
    missing: list[str] = []
    place = directory
    try:
        while True:
            try:
                mode = os.stat(place).st_mode
                break
            except FileNotFoundError:
                missing.append(os.fspath(place))
                place = place.parent
        if not stat.S_ISDIR(mode):
            raise MountPointUnusable(shown, "it is not a directory" if not missing else f"'{place}' is not a directory")
        if missing and not os.access(place, os.W_OK | os.X_OK):
            raise HostError(f"make '{missing[-1]}'", PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
        if not missing:
            with os.scandir(place) as entries:
                if next(entries, None) is not None:
                    raise MountPointUnusable(shown, "it is not empty", hint=_CHOOSE)
    except NotADirectoryError as error:
        raise MountPointUnusable(shown, "a part of its path is not a directory") from error
    except OSError as error:
        raise HostError(f"look at '{shown}'", error) from error
    return tuple(reversed(missing))


def _occupied(directory: Path, mounted: Mounted) -> MountPointUnusable:
    """Make the error that names what is mounted at a directory."""
    if not is_ours(mounted):
        return MountPointUnusable(os.fspath(directory), "something is mounted there already", hint=_CHOOSE)
    fork, git_dir = fork_of_source(mounted.source), vault_of_source(mounted.source)
    what = "a whole vault" if fork == WHOLE_VAULT else f"fork {quote(fork)}" if fork is not None else "a workspace"
    of = f" of the vault at '{git_dir}'" if git_dir is not None else ""
    return MountPointUnusable(
        os.fspath(directory),
        f"{what}{of} is mounted there already",
        hint=f"End that with `avfs unmount {shlex.quote(os.fspath(directory))}`.",
    )


@contextmanager
def claimed(directory: Path, *, wait_s: float) -> Iterator[None]:
    """Keep other mounting processes off a directory for a block: in other vaults and homes they share no other lock.

    Each process that has found the directory free locks the directory itself, and looks again: where another one was
    faster, this is another directory, the top of its mount.

    Raises:
        MountPointUnusable: If something was mounted there meanwhile.
        HostError: If the directory cannot be opened.
    """
    with host_errors(f"open '{directory}'"):
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    with closing_fd(fd):
        with suppress(OSError):  # a file system without locks
            take(fd, wait_s=wait_s)
        if (mounted := find_mount(directory)) is not None:
            raise _occupied(directory, mounted)
        yield


def make(missing: tuple[str, ...]) -> None:
    """Make the directories that `check` missed."""
    for directory in missing:
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:  # another process was faster
            continue
        except OSError as error:
            raise HostError(f"make '{directory}'", error) from error

"""Making a vault's directory: whole or not at all.

Decided here: a vault is filled in another directory, renamed into place, and its name is on disk before it is
acknowledged. A crash leaves none or a whole one; the next process that makes a vault there removes the other directory.
Called for empty, imported and cloned vaults, without a lock: of two processes that make the same vault, the second is
refused.
"""

from __future__ import annotations

import contextlib
import errno
import shlex
from collections.abc import Iterator
from pathlib import Path

from avfs_git.errors import HostError, LeftInForce, VaultExists
from avfs_git.faults import reach
from avfs_git.gitstore.config.trust import check_user
from avfs_git.host.files.durable import find_refusal, fsync_dir, host_errors, make_dirs_durably
from avfs_git.host.files.removal import remove_tree
from avfs_git.host.locks.making import directory_filled, remove_abandoned

_CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What the system says of a directory that is not to be written to."""

_TAKEN = (errno.EEXIST, errno.ENOTEMPTY)
"""What renaming says where another process has made the vault meanwhile."""


@contextlib.contextmanager
def vault_made(git_dir: Path) -> Iterator[Path]:
    """Give a block the directory to fill, and rename that to `git_dir` at the end of the block.

    A failure leaves nothing.

    Raises:
        VaultExists: If something is there.
        HostError: If the disk refuses, or root would make it in the home of another user.
        LeftInForce: If it refuses so late that the vault stays.
    """
    name = git_dir.name.removesuffix(".git")
    with host_errors(f"look at '{git_dir}'"):
        if git_dir.exists():
            raise VaultExists(name)
    _make_place(git_dir.parent)
    remove_unfinished(git_dir.parent)
    try:
        with contextlib.ExitStack() as stack:
            with host_errors(f"make '{git_dir}'"):
                making = stack.enter_context(directory_filled(git_dir.parent, mode=0o700)) / git_dir.name
            yield making
            with host_errors(f"make '{git_dir}'"):
                reach("vault.filled")
                making.rename(git_dir)
                try:
                    reach("vault.renamed")
                    fsync_dir(git_dir.parent)
                except BaseException as error:
                    _take_back(git_dir, making, error)
                    raise
    except BaseException as error:
        if isinstance(error, HostError) and not isinstance(error, LeftInForce) and error.errno in _TAKEN:
            raise VaultExists(name) from error
        raise


def _make_place(directory: Path) -> None:
    """Make the directory of a home's vaults, or say what to set where the disk refuses."""
    check_user(directory)
    try:
        make_dirs_durably(directory, private=True)
        if (refused := find_refusal(directory)) is not None:
            raise HostError(f"write '{directory}'", refused)
    except HostError as error:
        if error.errno in _CLOSED:
            error.hint = "Vaults are kept there. Make it writable, or set AVFS_HOME to another directory."
        raise


def _take_back(git_dir: Path, making: Path, error: BaseException) -> None:
    try:
        git_dir.rename(making)
    except OSError as again:
        left = LeftInForce(f"make '{git_dir}'", again, {})
        left.hint = f"Take it away with `avfs vault delete {shlex.quote(git_dir.stem)}`, or go on with it."
        raise left from error


def remove_unfinished(directory: Path) -> None:
    """Remove the vaults in a directory that a process died while making or deleting."""
    remove_abandoned(directory)
    with contextlib.suppress(OSError):
        for entry in list(directory.iterdir()):
            if entry.name.startswith(".deleted-"):  # several at once may delete it
                with contextlib.suppress(OSError):
                    remove_tree(entry)

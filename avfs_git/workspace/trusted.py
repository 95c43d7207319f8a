"""Which vaults of others their user trusts, in the file `trusted` of a home: one absolute path a line.

Decided here: the format of the file, and that it counts only if it belongs to the user who reads it and nobody else can write to
it. Called by the SDK, without a lock: of two changes at the same time one may be lost. A crash leaves the old file or the new.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from avfs_git.errors import InvalidInput, quote
from avfs_git.host.durable import host_errors, make_dirs_durably, write_file_atomically

_NAME = "trusted"


def read_trusted(home: Path, owners: Collection[int]) -> tuple[Path, ...]:
    """List the vaults that are trusted, in the order in which they were added.

    Args:
        home: The directory of the home.
        owners: Whose file counts.

    Raises:
        HostError: If the file cannot be read.
    """
    place = home / _NAME
    with host_errors(f"read '{place}'"):
        try:
            with place.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_uid not in owners or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                    return ()
                return tuple(Path(os.fsdecode(line)) for line in file.read().splitlines() if line)
        except (FileNotFoundError, NotADirectoryError):
            return ()


def change_trusted(home: Path, git_dir: Path, owners: Collection[int], *, trusted: bool) -> tuple[Path, ...]:
    """Add a vault to those that are trusted, or take it away; list those that are then. On disk on return.

    Raises:
        InvalidInput: If the path holds a line break.
        HostError: If the disk refuses.
    """
    if "\n" in os.fspath(git_dir) or "\r" in os.fspath(git_dir):
        raise InvalidInput(f"{quote(os.fspath(git_dir))} cannot be trusted: its path holds a line break")
    known = read_trusted(home, owners)
    wanted = tuple(path for path in known if path != git_dir) + ((git_dir,) if trusted else ())
    if wanted != known:
        make_dirs_durably(home, private=True)
        write_file_atomically(home / _NAME, b"".join(os.fsencode(path) + b"\n" for path in wanted), mode=0o600)
    return wanted

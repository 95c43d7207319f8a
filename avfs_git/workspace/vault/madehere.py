"""The mark of a vault that was made in a home: what tells it from one that was copied or unpacked into the home's directory.

Decided here: what the file `made` in a vault's `avfs` holds. It is a seal (`host.processes.seal`) of the inode number and the
ctime of the file `format` beside it, which is written once. Only the owner of the home has the key, and the kernel sets the
ctime: a copy of a vault has another one. So the mark fits neither another user's vault nor a changed copy of one's own.
Renaming a vault changes neither number.

The SDK marks what it makes, and judges a vault without a mark that fits as one outside the home. A crash before the mark is on
disk, or a mark that is lost, costs that judgement and no more. Functions without state, from any thread.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import NotAVault
from avfs_git.gitstore.repofile import read_plain_file
from avfs_git.host.files.durable import host_errors, write_file_atomically
from avfs_git.host.processes.seal import Seal
from avfs_git.workspace.vault.format import VaultLayout


def mark_made(git_dir: Path, seal: Seal) -> None:
    """Mark a vault as made by the owner of a home."""
    layout = VaultLayout(git_dir)
    with host_errors(f"mark '{git_dir}'"):
        write_file_atomically(layout.made, seal.sign(_identify(layout)).encode("ascii"), durable=False)


def is_marked(git_dir: Path, seal: Seal) -> bool:
    """Whether the owner of a home made this very vault."""
    layout = VaultLayout(git_dir)
    with suppress(NotAVault, OSError, UnicodeDecodeError):
        return seal.holds(_identify(layout), read_plain_file(layout.made, limit=128).decode("ascii"))
    return False


def _identify(layout: VaultLayout) -> bytes:
    found = os.lstat(layout.format)
    return f"vault {found.st_ino} {found.st_ctime_ns}".encode("ascii")

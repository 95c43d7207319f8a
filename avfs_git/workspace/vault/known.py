"""Which vaults their user may work in unasked: those made in the home, and those of others that the user trusts.

Decided here: two files that say so, and what is refused. Called by `sdk.home`. Functions without state, any thread.

The file `made` in a vault's `avfs` marks a vault that was made in a home; it fits no copied or unpacked vault. It is a
seal (`host.files.seal`) of the inode number and the ctime of the file `format` beside it, which is written once. Only
the owner of the home has the key, and the kernel sets the ctime; renaming a vault changes neither number. A vault
without a mark that fits is treated as one outside the home: a lost mark costs no more.

The file `trusted` of a home has a line for each trusted vault of others: the owner's number and the path. It counts
only if it belongs to the user who reads it and no other user can write to it. Trust ends where the path comes to belong
to another user, who could rename a directory above it. A change holds the directory of the home, so that of two at the
same time none is lost. A crash leaves the old file or the new.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import HostError, InvalidInput, NotAVault, VaultUntrusted, quote
from avfs_git.gitstore.config import trust
from avfs_git.gitstore.repofile import read_plain_file
from avfs_git.host.files.durable import host_errors, make_dirs_durably, write_file_atomically
from avfs_git.host.files.modes import is_open, make_private
from avfs_git.host.files.plainfile import open_plain
from avfs_git.host.files.seal import Seal
from avfs_git.host.locks.flocks import directory_held
from avfs_git.patterns import compiled
from avfs_git.workspace.vault.format import HOME_NAMES, VAULTS, VaultLayout

TRUSTED = "trusted"
_LINE = compiled(rb"(?:(\d{1,10}) )?(/.*)")
"""One without an owner was written before owners were."""


def check_trust(home: Path, git_dir: Path, seal: Seal) -> bool:
    """Refuse a vault that could run another user's programs, unless the user trusts it; close it to other users.

    Return True if its files are judged.

    A vault outside the home may come from any user, even if its files belong to this user: unpacked from an archive, or
    on a disk that was written elsewhere. Nothing in it can say otherwise. A vault in the home may have been copied
    there.

    Raises:
        VaultUntrusted: If it is refused.
    """
    vaults = home / VAULTS
    in_home = git_dir.parent in (vaults, vaults.resolve())
    try:
        trust.check_owner(git_dir)
        if not in_home:
            trust.check_way(git_dir)
        is_foreign = not (in_home and is_marked(git_dir, seal))
        if is_foreign:
            trust.check_inert(git_dir)
            is_foreign = not is_trusted(home, git_dir)
    except VaultUntrusted:
        if not is_trusted(home, git_dir):
            raise
        is_foreign = False
    if in_home:
        with host_errors(f"close '{home}' to other users"):
            for place in (home, vaults):
                if is_open(place) and {entry.name for entry in home.iterdir()} <= HOME_NAMES:
                    make_private(place)
    trust.make_vault_private(git_dir, in_home=in_home)
    return is_foreign


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


def read_trusted(home: Path) -> dict[Path, int | None]:
    """List the vaults that are trusted, in the order in which they were added, with their owners."""
    lines, is_own = _read_lines(home)
    found = map(_LINE.fullmatch, lines if is_own else ())
    return {Path(os.fsdecode(line[2])): int(line[1]) if line[1] else None for line in found if line}


def find_bad_trusted(home: Path) -> str | None:
    """Tell what of the list of trusted vaults does not count; None if all of it does, or without a list."""
    try:
        lines, is_own = _read_lines(home)
    except HostError as error:
        return error.message
    if not is_own:
        return "it belongs to another user, or others may write to it"
    bad = next((number for number, line in enumerate(lines, 1) if not _LINE.fullmatch(line)), None)
    return None if bad is None else f"line {bad} names no vault"


def _read_lines(home: Path) -> tuple[list[bytes], bool]:
    """Read the file `trusted`; tell whether it is this user's, and closed to writing by others."""
    place = home / TRUSTED
    with host_errors(f"read '{place}'"):
        try:
            fd = open_plain(place)
        except (FileNotFoundError, NotADirectoryError):
            return [], True
        with os.fdopen(fd, "rb") as file:
            status = os.fstat(fd)
            is_own = status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            return file.read().splitlines(), is_own


def is_trusted(home: Path, git_dir: Path) -> bool:
    """Whether a vault is trusted: by its path without links, if it belongs to whom it belonged to then."""
    whole = git_dir.resolve()
    known = read_trusted(home)
    if whole not in known:
        return False
    with host_errors(f"open '{git_dir}'"):
        return known[whole] in (None, whole.stat().st_uid)


def change_trusted(home: Path, git_dir: Path, *, trusted: bool) -> tuple[Path, ...]:
    """Add a vault to the trusted ones, or remove it; give the list that follows. On disk on return.

    Raises:
        InvalidInput: If the path holds a line break.
        HostError: If the disk refuses, or root would write in the home of another user.
    """
    if "\n" in os.fspath(git_dir) or "\r" in os.fspath(git_dir):
        raise InvalidInput(f"{quote(os.fspath(git_dir))} cannot be trusted: its path holds a line break")
    if trusted:
        trust.check_user(home)
        make_dirs_durably(home, private=True)
    elif not home.is_dir():
        return ()
    # What another process removes at the same time stays removed.
    with host_errors(f"change '{home / TRUSTED}'"), directory_held(home):
        known = read_trusted(home)
        wanted = {path: owner for path, owner in known.items() if path != git_dir}
        if trusted:
            with host_errors(f"read '{git_dir}'"):
                wanted[git_dir] = git_dir.stat().st_uid
        if wanted != known:
            _write_trusted(home, wanted)
    return tuple(wanted)


def copy_trust(home: Path, git_dir: Path, place: Path) -> None:
    """Trust a vault at the place to which it is about to be renamed, if it is trusted. On disk on return."""
    if git_dir in read_trusted(home):
        with host_errors(f"change '{home / TRUSTED}'"), directory_held(home):
            known = read_trusted(home)
            if git_dir in known:
                _write_trusted(home, {**known, place: known[git_dir]})


def _write_trusted(home: Path, wanted: dict[Path, int | None]) -> None:
    lines = (b"" if owner is None else b"%d " % owner for owner in wanted.values())
    data = b"".join(line + os.fsencode(path) + b"\n" for line, path in zip(lines, wanted, strict=True))
    write_file_atomically(home / TRUSTED, data, mode=0o600)

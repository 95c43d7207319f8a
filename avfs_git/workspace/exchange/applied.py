"""What a directory may hold beside what a fork began with, so that `apply` can tell that from edits of the user's own.

That is what `apply` has written there, and what the directory's own commits have, where the fork has these commits.

Decided here: the file `applied` of a workspace (docs/design/format.md). It names contents only, so that it holds no
object, and goes and comes back with its fork. `exchange.apply` writes it twice: before it writes files, with all that
each of them may hold after a crash, and at its end. What cannot be read is passed over: then `apply` takes what it
wrote for edits, and refuses. Where nothing may be written, nothing is remembered.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from avfs_git.errors import HostError, NotAVault, NotWritable, RefDamaged
from avfs_git.gitstore.compare.treediff import find_differences
from avfs_git.gitstore.formats.trees import is_forbidden_name
from avfs_git.gitstore.merge.bases import find_merge_bases, is_ancestor
from avfs_git.gitstore.repository import find_git_dir, read_head
from avfs_git.host.files.durable import host_errors, write_file_atomically
from avfs_git.host.files.plainfile import read_plain
from avfs_git.paths import Oid, TreePath, oid_of
from avfs_git.workspace.vault.origin import load_state
from avfs_git.workspace.vault.vault import OpenVault

Held = tuple[int, str] | None
"""What is at a path: git's mode and the id that it has as a blob; None if nothing is."""
Written = Mapping[TreePath, tuple[Held, ...]]
"""What `apply` may have left at paths of a directory."""


def read_applied(vault: OpenVault, fork: str, directory: Path) -> Written:
    """Tell what was written from a fork into a directory."""
    try:
        found = {
            TreePath(os.fsencode(path)): tuple(
                None if one is None else (int(one[0]), oid_of(str(one[1])).hex()) for one in held
            )
            for path, held in _read(vault, fork).get(os.path.realpath(directory), {}).items()
        }
    except (AttributeError, TypeError, ValueError, LookupError):
        return {}
    # What a stranger wrote leads nowhere.
    return {path: held for path, held in found.items() if not any(map(_is_no_name, path.split(b"/")))}


def _is_no_name(name: bytes) -> bool:
    return not name or b"\0" in name or is_forbidden_name(name)


def note_applied(vault: OpenVault, fork: str, directory: Path, written: Written) -> None:
    """Record what was written from a fork into a directory, or is about to be, in place of what was recorded.

    Raises:
        HostError: If the disk refuses, other than because nothing may be written there.
    """
    layout = vault.layout.workspace(fork)
    with suppress(NotWritable), vault.fork_locked(fork):
        load_state(vault, layout, has_lock=True)
        known = _read(vault, fork)
        known.pop(os.path.realpath(directory), None)
        if written:
            known[os.path.realpath(directory)] = {os.fsdecode(path): list(states) for path, states in written.items()}
        with host_errors(f"write '{layout.applied}'"):
            write_file_atomically(layout.applied, json.dumps(known).encode() + b"\n")


def list_merged(vault: OpenVault, directory: Path, below: Oid, head: Oid) -> dict[TreePath, Held]:
    """List what the commits of a directory's repository have changed since a fork began, if the fork's head has them.

    A file that is as HEAD has it there is no edit: what the fork has was made of it. `below` is the commit at which the
    fork began; what was not committed then, and is not now, is not in the list.
    """
    git_dir = find_git_dir(directory)
    try:
        at = read_head(git_dir)[1] if git_dir is not None else None
    except (NotAVault, RefDamaged, HostError):
        return {}
    if at is None or not vault.store.exists(at) or not is_ancestor(vault.store, at, head):
        return {}
    bases = find_merge_bases(vault.store, below, at)
    if len(bases) != 1:
        return {}
    before, now = (vault.store.read_commit(oid).tree for oid in (bases[0], at))
    found = find_differences(vault.store, before, now).items()
    return {path: (entry[0], entry[1].hex()) if entry is not None else None for path, (_, entry) in found}


def _read(vault: OpenVault, fork: str) -> dict[str, dict[str, list[Any]]]:
    try:
        found = json.loads(read_plain(vault.layout.workspace(fork).applied))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}

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

from avfs_git.errors import AvfsError, NotWritable
from avfs_git.gitstore.compare.treediff import Entry, find_differences
from avfs_git.gitstore.formats.trees import is_forbidden_name
from avfs_git.gitstore.merge.bases import find_merge_bases
from avfs_git.gitstore.repository import common_dir, find_git_dir, read_head
from avfs_git.host.files.durable import host_errors, write_file_atomically
from avfs_git.host.files.plainfile import read_plain
from avfs_git.paths import Oid, TreePath, oid_of
from avfs_git.values import NamedTuple
from avfs_git.workspace.exchange.source import ORIGIN, find_origin
from avfs_git.workspace.vault.format import HEADS
from avfs_git.workspace.vault.origin import load_state
from avfs_git.workspace.vault.vault import OpenVault

Held = tuple[int, str] | None
"""What is at a path: git's mode and the id that it has as a blob; None if nothing is."""
Written = Mapping[TreePath, tuple[Held, ...]]
"""What `apply` may have left at paths of a directory."""
_FAR = 10_000
"""So many commits of the directory's are looked at."""


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


class Merged(NamedTuple):
    """What a fork has of the commits that a directory's repository has made since the fork began."""

    since: Oid | None = None
    """The commit of the directory's before them."""
    newest: Oid | None = None
    tree: Oid | None = None
    """That of the newest of these commits."""
    paths: frozenset[TreePath] = frozenset()
    """What they have changed."""


def find_merged(vault: OpenVault, directory: Path, below: Oid, head: Oid) -> Merged:
    """Find what a fork's head has of the commits of a directory's repository; `below` is where the fork began.

    There the fork's own changes begin with that, as in a merge.
    """
    at = _find_newest_known(vault, directory)
    newest = find_merge_bases(vault.store, at, head) if at is not None else []
    oldest = find_merge_bases(vault.store, below, newest[0]) if len(newest) == 1 else []
    if len(oldest) != 1:
        return Merged()
    paths = frozenset(diff_commits(vault, oldest[0], newest[0]))
    return Merged(oldest[0], newest[0], vault.store.read_commit(newest[0]).tree, paths)


def leave_out_committed(vault: OpenVault, written: Written, merged: Merged) -> Written:
    """Leave out what the directory's own commits had at a path and have changed again, where the fork has these.

    It is the user's own by then: a directory that has gone back to it has not got it from `apply`. Costs the changes of
    these commits.
    """
    line = list_line(vault, merged.newest, merged.since) if written and merged.newest and merged.since else None
    had: set[tuple[TreePath, Held]] = set()
    for before, at in line[:-1] if line is not None else ():
        for path, (old, _) in diff_commits(vault, before, at).items():
            had.add((path, (old[0], old[1].hex()) if old is not None else None))
    left = {path: tuple(held for held in states if (path, held) not in had) for path, states in written.items()}
    return {path: held for path, held in left.items() if held}


def list_line(vault: OpenVault, newest: Oid, oldest: Oid) -> list[tuple[Oid, Oid]] | None:
    """List the commits of a branch, newest first, each behind its first parent, down to that whose parent is `oldest`.

    None if they do not lead there, or if it is too far.
    """
    found: list[tuple[Oid, Oid]] = []
    at: Oid | None = newest
    while at is not None and at != oldest and len(found) < _FAR:
        before = next(iter(vault.store.read_links(at).parents), None)
        if before is not None:
            found.append((before, at))
        at = before
    return found if at == oldest else None


def diff_commits(vault: OpenVault, old: Oid, new: Oid) -> Mapping[TreePath, tuple[Entry | None, Entry | None]]:
    """Find what differs between two commits."""
    return find_differences(vault.store, *(vault.store.read_commit(oid).tree for oid in (old, new)))


def _find_newest_known(vault: OpenVault, directory: Path) -> Oid | None:
    """Find the newest commit on a directory's branch that the vault has: HEAD, or what was last fetched of the branch.

    Only of the directory that the vault was made of are branches fetched as those of `origin`.
    """
    git_dir, origin = find_git_dir(directory), find_origin(vault.git_dir)
    from_dir = find_git_dir(origin) if origin is not None else None
    if git_dir is None:
        return None
    try:
        branch, at = read_head(git_dir)
        if at is None or vault.store.exists(at):
            return at
        is_origin = from_dir is not None and os.path.samefile(common_dir(git_dir), common_dir(from_dir))
        fetched = vault.refs.read(f"{ORIGIN}{branch.removeprefix(HEADS)}") if is_origin and branch is not None else None
    except (AvfsError, OSError):
        return None
    return fetched if fetched is not None and vault.store.exists(fetched) else None


def _read(vault: OpenVault, fork: str) -> dict[str, dict[str, list[Any]]]:
    try:
        found = json.loads(read_plain(vault.layout.workspace(fork).applied))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}

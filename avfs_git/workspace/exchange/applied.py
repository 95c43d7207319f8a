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
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import Any

from avfs_git.errors import AvfsError, NotWritable
from avfs_git.gitstore.compare.treediff import Entry, find_differences
from avfs_git.gitstore.formats.trees import MODE_GITLINK, is_forbidden_name
from avfs_git.gitstore.merge.bases import find_merge_bases, list_commits
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.repository import common_dir, find_git_dir, read_head
from avfs_git.host.files.durable import host_errors, write_file_atomically
from avfs_git.host.files.plainfile import read_plain
from avfs_git.paths import Oid, TreePath, oid_of
from avfs_git.values import NamedTuple
from avfs_git.workspace.vault.origin import load_state
from avfs_git.workspace.vault.vault import OpenVault

Held = tuple[int, str] | None
"""What is at a path: git's mode and the id that it has as a blob; None if nothing is."""


class Wrote(NamedTuple):
    """What `apply` may have left at a path of a directory."""

    states: tuple[Held, ...]
    newest: Oid | None = None
    """The newest commit of the directory's that the fork had then."""


Written = Mapping[TreePath, Wrote]
_FAR = 10_000
"""So many commits behind a directory's HEAD are looked for in the vault."""


def read_applied(vault: OpenVault, fork: str, directory: Path) -> Written:
    """Tell what was written from a fork into a directory."""
    found: dict[TreePath, Wrote] = {}
    try:
        for path, listed in _read(vault, fork).get(os.path.realpath(directory), {}).items():
            held = [None if one is None else (int(one[0]), oid_of(str(one[1])).hex()) for one in listed]
            newest = next((oid_of(one[1]) for one in held if one is not None and one[0] == MODE_GITLINK), None)
            states = tuple(one for one in held if one is None or one[0] != MODE_GITLINK)
            found[TreePath(os.fsencode(path))] = Wrote(states, newest)
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
            known[os.path.realpath(directory)] = {os.fsdecode(path): _spell(wrote) for path, wrote in written.items()}
        with host_errors(f"write '{layout.applied}'"):
            write_file_atomically(layout.applied, json.dumps(known).encode() + b"\n")


def _spell(wrote: Wrote) -> list[Held]:
    return [*wrote.states, *([(MODE_GITLINK, wrote.newest.hex())] if wrote.newest is not None else [])]


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
    before, now = (vault.store.read_commit(oid).tree for oid in (oldest[0], newest[0]))
    return Merged(oldest[0], newest[0], now, frozenset(find_differences(vault.store, before, now)))


def leave_out_own(vault: OpenVault, written: Written, merged: Merged, head: Oid) -> Written:
    """Leave out the paths at which what was written may be the user's own by now.

    Such are the paths that commits of the directory's have changed which the fork had then and has no more, as after an
    undo of its merge: they are in what was written. And those which such commits have changed since, and the fork has
    merged: what was written is in them, or they have gone back to it. avfs reads what these commits have changed.
    """
    changed: dict[Oid | None, AbstractSet[TreePath] | None] = {}
    found: dict[TreePath, Wrote] = {}
    for path, wrote in written.items():
        if wrote.newest not in changed:
            changed[wrote.newest] = _list_changed(vault, wrote.newest, merged, head)
        paths = changed[wrote.newest]
        if paths is not None and path not in paths:
            found[path] = wrote
    return found


def _list_changed(vault: OpenVault, then: Oid | None, merged: Merged, head: Oid) -> AbstractSet[TreePath] | None:
    """List what a directory's commits have changed, there and back, from one of them to what a fork has now of them.

    None if that is not known.
    """
    then = then or merged.since
    if then is not None and not vault.store.exists(then):
        return None
    tips = ((then, head), (merged.newest, then))
    lines = [list_commits(vault.store, tip, [known]) for tip, known in tips if tip and known]
    if None in lines:
        return None
    return {path for line in lines for commit in line or () for path in diff_parent(vault, commit)}


def diff_parent(vault: OpenVault, commit: Oid) -> Mapping[TreePath, tuple[Entry | None, Entry | None]]:
    """Find what differs between the first parent of a commit, and it."""
    store = vault.store
    before = next(iter(store.read_links(commit).parents), None)
    tree = store.read_commit(before).tree if before is not None else None
    return find_differences(store, tree, store.read_commit(commit).tree)


def _find_newest_known(vault: OpenVault, directory: Path) -> Oid | None:
    """Find the newest commit that leads to a directory's HEAD and that the vault has, along the first parents."""
    git_dir = find_git_dir(directory)
    if git_dir is None:
        return None
    with suppress(AvfsError, OSError):
        _, at = read_head(git_dir)
        if at is None or vault.store.exists(at):
            return at
        with ObjectStore(common_dir(git_dir)) as theirs:
            for _ in range(_FAR):
                at = next(iter(theirs.read_links(at).parents), None)
                if at is None or vault.store.exists(at):
                    return at
    return None


def _read(vault: OpenVault, fork: str) -> dict[str, dict[str, list[Any]]]:
    try:
        found = json.loads(read_plain(vault.layout.workspace(fork).applied))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}

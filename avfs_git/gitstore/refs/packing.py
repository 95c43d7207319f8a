"""Moving refs that have a file each into `packed-refs`.

Decided here: which refs are moved, and in which order, beside git and processes of avfs that move refs. Called by
maintenance. What a ref holds never changes, and a reader finds each ref at every instant: it reads the file first,
`packed-refs` then.

1. Under the lock of `packed-refs`, which each deletion of a ref takes too, the values are read and the new
   `packed-refs` is written, synced, renamed; the directory is synced. From here on both places have each value.
2. A few refs at a time are locked, except refs that another process has locked. Of these, each file goes whose value
   `packed-refs` has: while a ref is locked, no other process can take it out of `packed-refs`.

git does the same (git-pack-refs(1)), but does not sync the directory between the two: on some file systems a power cut
could take the new `packed-refs` and not the removal of the files. A crash leaves values in both places.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress

from avfs_git import faults
from avfs_git.errors import RefDamaged
from avfs_git.gitstore.formats.packedrefs import PackedRefs, find_bad_line, format_packed, read_packed
from avfs_git.gitstore.refs.locks import RefLocks
from avfs_git.gitstore.refs.names import FORBIDDEN
from avfs_git.gitstore.refs.refs import RefStore
from avfs_git.host.files.durable import fsync_dir, host_errors, sync_file
from avfs_git.host.files.plainfile import read_plain
from avfs_git.paths import Oid

_OF_ONE_TREE = ("refs/bisect/", "refs/worktree/", "refs/rewritten/")
"""Refs of a single working tree, which git does not pack."""
_AT_ONCE = 64
"""Refs that are locked at a time."""


def list_packable(refs: RefStore, *, older_than_s: float) -> dict[str, int]:
    """List the refs with a file of their own that were not moved for so many seconds, with the file's `st_mtime_ns`.

    None where `refs` is a symbolic link: they may be another repository's.
    """
    found: dict[str, int] = {}
    if (refs.git_dir / "refs").is_symlink():
        return found
    before_ns = time.time_ns() - int(older_than_s * 1e9)
    for name in refs.list_loose():
        if not name.startswith(_OF_ONE_TREE):
            with suppress(OSError):
                touched_ns = os.stat(refs.git_dir / name).st_mtime_ns
                if touched_ns <= before_ns:
                    found[name] = touched_ns
    return found


def pack_refs(
    refs: RefStore, *, older_than_s: float, removing: Callable[[Mapping[str, int]], object] = lambda _: None
) -> int:
    """Move refs that were not moved for so many seconds into `packed-refs`; on disk on return.

    Return how many files went.

    `removing` is called before files go, with the names of their refs and the times of the files; what it raises stops
    it.

    Raises:
        RefLocked: If another program keeps `packed-refs` locked for 5 s.
        RefDamaged: If `packed-refs` has a line that cannot be read.
        HostError: If the disk refuses; each ref has its value.
    """
    chosen = list_packable(refs, older_than_s=older_than_s)
    if not chosen:
        return 0
    locks = RefLocks(refs.git_dir)
    with host_errors("pack refs"):
        names = sorted(_write_packed(refs, locks, chosen))
        faults.reach("refs.packed")
        known = PackedRefs()
        count = 0
        for at in range(0, len(names), _AT_ONCE):
            gone, known = _remove_files(refs, locks, names[at : at + _AT_ONCE], known, removing)
            count += gone
        return count


def _write_packed(refs: RefStore, locks: RefLocks, chosen: Mapping[str, int]) -> dict[str, Oid]:
    """Write a `packed-refs` that holds the chosen refs, too; give their values."""
    path = os.fsencode(refs.git_dir) + b"/packed-refs"
    with ExitStack() as stack:
        prepared = stack.enter_context(locks.prepare(b""))
        locks.take(stack, prepared, path, "packed-refs")
        values: dict[str, Oid] = {}
        for name in chosen:
            with suppress(RefDamaged):
                value = refs.read_loose(name)
                if isinstance(value, bytes):
                    values[name] = value
        with suppress(FileNotFoundError):
            reason = find_bad_line(read_plain(path), FORBIDDEN)
            if reason is not None:
                raise RefDamaged("packed-refs", reason)
        new = stack.enter_context(locks.prepare(format_packed({**read_packed(path).all(), **values})))
        sync_file(new.fd)
        faults.reach("refs.packing")
        os.rename(new.path, path)
        fsync_dir(refs.git_dir)
    return values


def _remove_files(
    refs: RefStore,
    locks: RefLocks,
    names: list[str],
    known: PackedRefs,
    removing: Callable[[Mapping[str, int]], object],
) -> tuple[int, PackedRefs]:
    """Remove the files of refs that `packed-refs` holds with the same value, except of refs that are being moved.

    Give how many went, and what `packed-refs` holds; `known` is that of the last time.
    """
    going: dict[str, int] = {}
    with ExitStack() as stack:
        prepared = stack.enter_context(locks.prepare(b""))
        root = os.fsencode(refs.git_dir) + b"/"
        locked = [name for name in names if locks.try_take(stack, prepared, root + os.fsencode(name), name)]
        faults.reach("refs.pack_locked")
        status = os.stat(root + b"packed-refs")
        if known.stamp != (status.st_ino, status.st_size, status.st_mtime_ns):
            known = read_packed(root + b"packed-refs")
        for name in locked:
            with suppress(RefDamaged, FileNotFoundError):
                if (value := known.get(name)) is not None and refs.read_loose(name) == value:
                    going[name] = os.stat(root + os.fsencode(name)).st_mtime_ns
        removing(going)
        for name in going:
            os.unlink(root + os.fsencode(name))
            faults.reach("refs.pack_removed")
    return len(going), known

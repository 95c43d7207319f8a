"""Keeping unsaved files that an operation took out of a mounted tree.

Decided here: what becomes of the files that a restore replaces or removes under running programs. What is uncommitted
is saved before; but where the kernel shows the workspace, a program can write between that and the moment at which its
file is taken out (`vfs.layer.mounted`). So each file that was taken out is compared with what was saved. What differs
is kept as a commit that no branch holds, on top of the fork's head, in which it has its path; a warning names both.
Only then does the operation go on.

The same is done for what a killed operation has left, by the process that recovers the workspace: with the paths that
it may have changed, which are all that is put back then, because programs went on to work meanwhile. Called with the
workspace lock held. A crash in here leaves the staging directory, and the next one looks again. What a program writes
into a file that it has open and that is taken out already is its own loss, as with every file that another program
replaces.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from avfs_git.errors import ContentChanged, FileChanging
from avfs_git.faults import reach
from avfs_git.gitstore.formats.commits import Commit
from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.formats.trees import (
    EMPTY_TREE,
    MODE_EXEC,
    MODE_FILE,
    MODE_SYMLINK,
    edit_tree,
    find_entry,
    is_forbidden_name,
)
from avfs_git.gitstore.objects.blobfile import SizeChanged
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.host.files.beneath import open_at
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import host_errors
from avfs_git.host.files.flush import await_writes
from avfs_git.model import Warning
from avfs_git.paths import Oid, TreePath, join, show_path
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.mounted import Staging, Taken, remove_staging
from avfs_git.vfs.scan.steady import READ_TRIES
from avfs_git.workspace.opened.workspace import LockedWorkspace

_KINDS = {MODE_FILE: "file", MODE_EXEC: "file", MODE_SYMLINK: "symlink"}


@dataclass(frozen=True, slots=True)
class Left:
    """What a killed operation has left in a mounted tree."""

    names: tuple[bytes, ...]
    """The names of the staging directories."""
    planned: Mapping[TreePath, bool]
    """The paths that it may have changed, and whether what is below them has come or gone with them."""
    warnings: tuple[Warning, ...]


def keep_taken(locked: LockedWorkspace, saved: LowerTree) -> list[Warning]:
    """Keep what an operation that is under way has taken out and what is not as it was saved.

    Raises:
        FileChanging: If a program goes on writing to such a file.
        HostError: If the disk refuses; what was taken out stays where it is.
    """
    mounted = locked.opened.mounted
    place = mounted.upper.open_staging() if mounted is not None else None
    if mounted is None or place is None or not mounted.upper.taken:
        return []
    warnings = _keep(locked, place, mounted.upper.taken, saved)
    mounted.upper.forget_taken()
    return warnings


def check_taken(locked: LockedWorkspace, path: TreePath, expect: str, *, follow: bool) -> None:
    """Make sure that what a change of one file took out is what the caller had seen; else it gets its place back.

    `expect` is the id of its content as a blob, empty for no file.

    Raises:
        ContentChanged: If a program wrote to it just before.
    """
    mounted = locked.opened.mounted
    place = mounted.upper.open_staging() if mounted is not None else None
    if mounted is None or place is None or not mounted.upper.taken:
        return
    inside = place.open_taken()
    for taken in place.list_taken():
        found = os.stat(taken.name, dir_fd=inside.fd, follow_symlinks=False)
        _, oid = _read(DryWriter(locked.vault.store), inside.fd, taken.name, found, path)
        actual = oid.hex() if oid is not None else "directory"
        if actual != expect:
            mounted.give_back(path, taken, follow=follow)
            _keep(locked, place, place.list_taken(), None)  # if even that has been replaced
            mounted.upper.forget_taken()
            raise ContentChanged(b"/" + path, expect, actual)
    mounted.upper.forget_taken()


def recover_taken(locked: LockedWorkspace, saved: LowerTree | None) -> Left:
    """Keep unsaved files that killed operations left in staging directories; `remove_left` removes these.

    Raises:
        FileChanging: If a program goes on writing to such a file.
        HostError: If the disk refuses; what was taken out stays where it is.
    """
    opened = locked.opened
    planned: dict[TreePath, bool] = {}
    warnings: list[Warning] = []
    with host_errors("look at what was taken out of the workspace"):
        names = opened.list_staging()
        for name in names:
            place = Staging(_root(locked), name)
            for path, is_deep in place.read_plan().items():
                planned[path] = planned.get(path, False) or is_deep
            warnings += _keep(locked, place, place.list_taken(), saved)
            reach("takenout.kept")
    return Left(tuple(names), planned, tuple(warnings))


def remove_left(locked: LockedWorkspace, left: Left) -> None:
    """Remove the staging directories of killed operations, if that can be done."""
    for name in left.names:
        remove_staging(_root(locked), name)


def _root(locked: LockedWorkspace) -> int:
    mounted = locked.opened.mounted
    return (locked.opened.upper if mounted is None else mounted.upper).root.fd


def _keep(locked: LockedWorkspace, place: Staging, taken: Sequence[Taken], saved: LowerTree | None) -> list[Warning]:
    """Keep what is not as it was saved; where no operation is under way, what is in no object."""
    store = locked.vault.store
    pack, dry = PackWriter(store), DryWriter(store)
    edits: dict[TreePath, tuple[int, Oid]] = {}
    try:
        with host_errors("read what was taken out of the workspace"):
            inside = place.open_taken() if taken else None
            for name, path in taken:
                assert inside is not None  # noqa: S101 - as something was taken
                for there, directory, entry, found in _entries(inside.fd, name, path):
                    mode, oid = _read(dry, directory, entry, found, there)
                    if mode is None or oid is None or _is_saved(saved, there, mode, oid):
                        continue
                    if saved is not None or not store.exists(oid):
                        edits[_suitable(there, edits)] = mode, _read(pack, directory, entry, found, there)[1] or oid
        if not edits:
            return []
        base = saved.root.tree if saved is not None else None
        head = locked.vault.read_head(locked.fork)
        signature = locked.signature()
        text = "what programs wrote while their files were replaced\n"
        tree = edit_tree(pack, pack, base, edits) or EMPTY_TREE
        commit = pack.add_commit(Commit(tree, (head,) if head is not None else (), signature, signature, text))
        pack.finish(hold=True)
        locked.vault.refs.update(locked.vault.hold(commit))
    finally:
        pack.discard()
    return [
        Warning(
            "restore.written_meanwhile",
            f"'{show_path(path)}' was written to while it was replaced; what it held is kept in {commit.hex()}",
            path,
        )
        for path in sorted(edits)
    ]


def _entries(directory: int, name: bytes, path: TreePath) -> Iterator[tuple[TreePath, int, bytes, os.stat_result]]:
    """List what was taken out: one entry, or all that is in a directory which a program had put in a file's place."""
    found = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISDIR(found.st_mode):
        yield path, directory, name, found
        return
    for above, directories, files, here in os.fwalk(name, dir_fd=directory):
        inside = TreePath(path + above[len(name) :])
        for one in (*files, *directories):
            found = os.stat(one, dir_fd=here, follow_symlinks=False)
            if not stat.S_ISDIR(found.st_mode):
                yield join(inside, one), here, one, found


def _read(
    sink: PackWriter | DryWriter, directory: int, name: bytes, found: os.stat_result, path: TreePath
) -> tuple[int | None, Oid | None]:
    """Give git's mode and the id of a file or symbolic link, as an object of the sink; None for anything else."""
    if stat.S_ISLNK(found.st_mode):
        return MODE_SYMLINK, sink.add(KIND_BLOB, os.fsencode(os.readlink(name, dir_fd=directory)))
    if not stat.S_ISREG(found.st_mode):
        return None, None
    with closing_fd(open_at(directory, name, os.O_RDONLY | os.O_NONBLOCK)) as fd:
        for _ in range(READ_TRIES):
            found = os.fstat(fd)
            await_writes(fd)
            os.lseek(fd, 0, os.SEEK_SET)
            try:
                return MODE_EXEC if found.st_mode & 0o100 else MODE_FILE, sink.add_file(fd, found.st_size)
            except SizeChanged:
                continue
    raise FileChanging(path)


def _is_saved(saved: LowerTree | None, path: TreePath, mode: int, oid: Oid) -> bool:
    if saved is None:
        return False
    if saved.root.tree is not None and find_entry(saved.source, saved.root.tree, path) == (mode, oid):
        return True  # most files; a look-up takes their whole directories apart
    entry = saved.lookup(path)
    if entry is None or entry.oid != oid or entry.kind != _KINDS[mode]:
        return False
    return mode == MODE_SYMLINK or bool(entry.mode & 0o100) == (mode == MODE_EXEC)


def _suitable(path: TreePath, taken: Iterable[TreePath]) -> TreePath:
    """Choose the path at which a tree of git's can hold something."""
    parts = path.split(b"/")  # a program may have written to the log: it is not believed
    others = set(taken)
    above = {TreePath(b"/".join(parts[:end])) for end in range(1, len(parts) + 1)}
    if (
        not all(parts)
        or any(map(is_forbidden_name, parts))
        or above & others
        or any(other.startswith(path + b"/") for other in others)
    ):
        return TreePath(b"avfs-taken-out/%d" % len(others))
    return path

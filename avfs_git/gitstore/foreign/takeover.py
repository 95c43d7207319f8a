"""Taking objects and refs of another repository over into a vault.

Decided here: what comes along, and that it is judged and on disk before it counts. Called when a vault is made of a
repository, or fetches from one of this machine. Nothing of the source is executed: no hook runs, and of its
configuration only what may forbid the use is read. A source that git works in at the same time does no harm. A crash
leaves objects that no ref names, and a staging directory that the next import removes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git import faults
from avfs_git.errors import InternalError, InvalidName, NotAVault, RefConflict
from avfs_git.gitstore.refs.names import check_ref_name
from avfs_git.gitstore.refs.refs import RefChange, RefStore
from avfs_git.gitstore.repository import (
    check_config,
    check_layout,
    common_dir,
    list_alternates,
    read_head,
    read_shallow,
)
from avfs_git.host.files.durable import fsync_dir, host_errors, sync_file_system, sync_path, write_file_atomically
from avfs_git.host.files.modes import make_dir, mode_below, open_file
from avfs_git.host.locks.making import directory_filled, remove_abandoned
from avfs_git.lazy import LazyModule
from avfs_git.paths import Oid
from avfs_git.patterns import compiled

if TYPE_CHECKING:
    from avfs_git.gitstore import judge
else:
    judge = LazyModule("avfs_git.gitstore.judge")  # making a vault of nothing does without

_LOOSE_DIRECTORY = compiled(rb"[0-9a-f]{2}")
_LOOSE_NAME = compiled(rb"[0-9a-f]{38}")
_PACK_NAME = compiled(rb"pack-[0-9a-f]+\.(?:pack|idx)")
"""A `.rev` stays behind: git does without it and does not check it, so that a false one would spoil what git sends."""
_FICLONE = 0x40049409  # linux/fs.h
_MAX_ALTERNATES = 5  # as deep as git goes
_SYNCED_SINGLY = 64
_IMPORT_TRIES = 5
_STAGING = "avfs-import-"
"""Begins the name of a directory for objects that are being taken over; git looks at none of that name."""


def import_objects_and_refs(source_git_dir: Path, git_dir: Path) -> str | None:
    """Take the whole history of a repository over into a new one: objects, branches, tags, HEAD. On disk on return.

    Objects are hard links where the file system allows it, else clones of their extents, else copies; objects that the
    source borrows come along. Returns the branch that HEAD names, or None if it is detached; `read_head` of the source
    then says where.

    Raises:
        NotAVault: If the source is no complete repository.
        FormatUnsupported: If it is of a kind that this program does not read.
        ObjectMissing: If a ref of the source names an object that it has not.
        RefDamaged: If the file of the branch that HEAD names holds no id: the history would be missing.
    """
    if (git_dir / "packed-refs").exists():
        raise InternalError("history is taken over into a repository that has refs")
    head, tips, refs = _take_history(source_git_dir, git_dir)
    judge.check_connected(git_dir / "objects", tips, shallow=read_shallow(git_dir))
    if refs:
        RefStore(git_dir, recover=False).create_packed(refs)
    if head is not None and head.startswith("refs/heads/"):
        write_file_atomically(git_dir / "HEAD", b"ref: " + os.fsencode(head) + b"\n")
        return head
    return None


def import_as_remote(source_git_dir: Path, git_dir: Path, refs: RefStore, remote: str) -> None:
    """Take what a repository holds at present over into another: objects, branches as those of a remote, tags.

    What is there already costs a look; tags that differ stay as they are. Objects are taken as by
    `import_objects_and_refs`, whose errors hold here, too. Imports of one source may run at once. On disk on return.

    Raises:
        RefConflict: If others keep moving the remote's branches.
    """
    # Only the source says where its branches are: after another import has moved one, both are read again.
    for _ in range(_IMPORT_TRIES - 1):
        with suppress(RefConflict):
            _import_once(source_git_dir, git_dir, refs, remote)
            return
    _import_once(source_git_dir, git_dir, refs, remote)


def _import_once(source_git_dir: Path, git_dir: Path, refs: RefStore, remote: str) -> None:
    _, tips, found = _take_history(source_git_dir, git_dir)
    wanted = {
        f"refs/remotes/{remote}/{name.removeprefix('refs/heads/')}" if name.startswith("refs/heads/") else name: oid
        for name, oid in found.items()
    }
    held = {**refs.list(f"refs/remotes/{remote}/"), **refs.list("refs/tags/")}
    judge.check_connected(
        git_dir / "objects", tips - set(held.values()), set(held.values()), shallow=read_shallow(git_dir)
    )
    if not held and wanted and refs.create_packed(wanted):
        return
    gone = {name: oid for name, oid in held.items() if name.startswith("refs/remotes/") and name not in wanted}
    changes = [RefChange(name, oid, None) for name, oid in gone.items()]
    changes += [
        RefChange(name, held.get(name), oid)
        for name, oid in wanted.items()
        if held.get(name) != oid and (name.startswith("refs/remotes/") or name not in held)
    ]
    if changes:
        refs.update(changes)


def _take_history(source_git_dir: Path, git_dir: Path) -> tuple[str | None, set[Oid], dict[str, Oid]]:
    """Have the objects of a repository.

    Give the branch that its HEAD names, the tips of its history, its branches and tags.
    """
    common = common_dir(source_git_dir)
    check_layout(common)
    check_config(common)
    # Refs first: the objects that they name are there from then on, wherever git moves them meanwhile.
    head, commit = read_head(source_git_dir)
    refs = _refs_to_import(common)
    shallow = read_shallow(common)
    with host_errors(f"import '{source_git_dir}'"):
        _take_objects(common, git_dir / "objects")
        if shallow:
            lines = [oid.hex().encode("ascii") + b"\n" for oid in sorted(shallow | read_shallow(git_dir))]
            write_file_atomically(git_dir / "shallow", b"".join(lines))
    return head, {*refs.values(), *([commit] if commit is not None else [])}, refs


def link_objects(source_git_dir: Path, objects_dir: Path) -> None:
    """Have the objects of a repository in a directory of objects, too, as `import_objects_and_refs` does.

    On disk on return.

    Raises:
        NotAVault: If the source is no complete repository.
        FormatUnsupported: If it is of a kind that this program does not read.
    """
    check_layout(source_git_dir)
    check_config(source_git_dir)
    with host_errors(f"import '{source_git_dir}'"):
        _take_objects(source_git_dir, objects_dir)


def _take_objects(common: Path, objects_dir: Path) -> None:
    """Have the objects of a repository in a directory, too; on disk on return.

    They are taken under another name, synced (the source's git may never have done that), and renamed into place: what
    has its name in the directory is whole, and an import that is done again after a crash need not look at it.
    """
    remove_abandoned(objects_dir, _STAGING)
    with directory_filled(objects_dir, _STAGING) as staging:
        staging.chmod(mode_below(objects_dir))
        taken: list[str] = []
        for found in _all_object_dirs(common / "objects"):
            _import_objects(found, objects_dir, staging, taken)
        # Of a pack that went away while it was taken the index is not here.
        taken = [name for name in taken if not name.startswith("pack/") or f"{name.rpartition('.')[0]}.idx" in taken]
        if not taken:
            return
        judge.judge_objects(staging, judge.list_objects(staging), beside=objects_dir)
        _sync([f"{staging}/{name}" for name in taken])
        faults.reach("import.synced")
        for name in sorted(taken, key=lambda name: name.endswith(".idx")):  # with its index a pack is one
            with suppress(FileExistsError):
                make_dir((objects_dir / name).parent)
            os.rename(f"{staging}/{name}", objects_dir / name)
            faults.reach("import.renamed_one")
        for directory in {*((objects_dir / name).parent for name in taken), objects_dir}:
            fsync_dir(directory)
        faults.reach("import.placed")


def _refs_to_import(common: Path) -> dict[str, Oid]:
    refs = RefStore(common, recover=False)
    found = {**refs.list("refs/heads/"), **refs.list("refs/tags/")}
    usable: dict[str, Oid] = {}
    for name, oid in found.items():
        with suppress(InvalidName):
            usable[check_ref_name(name)] = oid
    return usable


def list_borrowed(source_git_dir: Path) -> tuple[list[Path], list[Path]]:
    """List the directories of objects that a repository borrows from, and those of them that are not there.

    Raises:
        NotAVault: If they borrow from each other deeper than git goes.
    """
    missing: list[Path] = []
    found = _all_object_dirs(common_dir(source_git_dir) / "objects", missing)
    return found[1:], missing


def _all_object_dirs(objects_dir: Path, missing: list[Path] | None = None) -> list[Path]:
    """List a directory of objects and all that it borrows from, each once."""
    found: list[Path] = []
    seen: set[Path] = set()
    waiting = [(objects_dir, 0)]
    while waiting:
        directory, depth = waiting.pop(0)
        resolved = directory.resolve()
        if resolved in seen:
            continue
        seen.add(resolved)
        if not resolved.is_dir():
            if missing is not None:
                missing.append(resolved)
            continue
        found.append(resolved)
        borrowed = list_alternates(resolved)
        if borrowed and depth == _MAX_ALTERNATES:
            raise NotAVault(
                str(objects_dir.parent), f"it borrows objects more than {_MAX_ALTERNATES} repositories deep"
            )
        waiting += [(alternate, depth + 1) for alternate in borrowed]
    return found


def _sync(paths: list[str]) -> None:
    """Put files on disk: a few one by one, many with everything that others have written meanwhile."""
    if len(paths) > _SYNCED_SINGLY:
        sync_file_system(Path(paths[0]).parent)
        return
    for path in paths:
        sync_path(path, os.O_NOFOLLOW)


def _import_objects(source: Path, target: Path, staging: Path, taken: list[str]) -> None:
    known = set(taken)

    def take(name: str) -> None:
        if name not in known:
            make_dir((staging / name).parent, exist_ok=True)
            _take_file(f"{source}/{name}", f"{staging}/{name}")
            known.add(name)
            taken.append(name)

    # Loose objects first: an object that git packs meanwhile is then found in its pack.
    for directory in map(os.fsdecode, _listed(source, _LOOSE_DIRECTORY)):
        held = set(_listed(target / directory, _LOOSE_NAME))
        for file in _listed(source / directory, _LOOSE_NAME):
            if file not in held:
                with suppress(FileNotFoundError):
                    take(f"{directory}/{os.fsdecode(file)}")
    # A pack that goes away while the packs are taken has become part of another: look again.
    for _ in range(10):
        names = _listed(source / "pack", _PACK_NAME)
        stems = {name[:-4] for name in names if name.endswith(b".idx") and name[:-4] + b".pack" in names}
        held = set(_listed(target / "pack", _PACK_NAME))
        try:
            for stem in sorted(stems):
                if stem + b".idx" not in held or stem + b".pack" not in held:
                    for name in (stem + b".pack", stem + b".idx"):
                        take(f"pack/{os.fsdecode(name)}")
        except FileNotFoundError:
            continue
        return
    raise OSError(errno.EBUSY, "its packs keep changing")


def _listed(directory: Path, pattern: re.Pattern[bytes]) -> list[bytes]:
    try:
        return sorted(name for name in os.listdir(os.fsencode(directory)) if pattern.fullmatch(name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _take_file(source: str, target: str) -> None:
    """Have a file of objects here too; they never change, so that one file can serve both.

    A file that another user owns or may write is copied: it could be changed under the vault. So is a file that is
    closed to users for whom the vault is open.
    """
    status = os.lstat(source)
    if not stat.S_ISREG(status.st_mode):
        raise NotAVault(source, "it is no file")
    above = os.stat(os.path.dirname(target))
    is_closed = above.st_mode & 0o020 and (status.st_gid != above.st_gid or above.st_mode & 0o044 & ~status.st_mode)
    if status.st_uid == os.geteuid() and not status.st_mode & 0o022 and not is_closed:
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EACCES, errno.ENOTSUP, errno.ENOSYS):
                raise
        else:
            return
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with (
        os.fdopen(os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file,
        os.fdopen(open_file(target, flags, 0o444), "wb") as copy,
    ):
        try:  # by sharing its extents, where the file system can
            fcntl.ioctl(copy, _FICLONE, file.fileno())
        except OSError:
            shutil.copyfileobj(file, copy, 1 << 20)

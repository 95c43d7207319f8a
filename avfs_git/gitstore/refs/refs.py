"""Reading refs, and moving them by compare-and-swap.

Decided here: how refs are checked, moved and made durable, beside git and beside other processes of avfs. Nothing else
touches `refs/`, `packed-refs` or `HEAD`, but for `packing`, which moves values from the one to the other. Usable from
threads and processes at once; `locks` has the locks.

**The order** of `update`: write the new values and lock all refs; check all old values; sync the new values; let the
caller announce the move; then for each change in the order given: rename `REF.lock` to `REF`, or remove `REF` (from
`packed-refs` first, else the old value there would come back); sync its directory. A crash before the first rename
changes nothing; later it leaves a prefix of the changes, in order. Where a ref is removed, `packed-refs` is locked from
before the check to the end, as git does: else `git pack-refs` could bring it back. A failure after the first rename is
taken back, again by compare-and-swap, so that the caller finds the old values. Once the last ref has moved nothing is
taken back: what raises when the locks are released comes after a move that is done.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from avfs_git import faults
from avfs_git.errors import (
    AvfsError,
    HostError,
    InternalError,
    InvalidName,
    LeftInForce,
    ObjectMissing,
    RefConflict,
    RefDamaged,
)
from avfs_git.gitstore.formats.packedrefs import PackedRefs, find_bad_line, format_packed, read_packed, remove_packed
from avfs_git.gitstore.holding import objects_held
from avfs_git.gitstore.refs.locks import Lock, Prepared, RefLocks, rename_over
from avfs_git.gitstore.refs.names import FORBIDDEN, IGNORED, check_ref_name
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import fsync_dir, host_errors, sync_file, sync_files, write_all
from avfs_git.host.files.plainfile import read_plain
from avfs_git.paths import Oid, maybe_hex, oid_of
from avfs_git.patterns import compiled
from avfs_git.values import value_class

OWN_REFS = "refs/avfs"
"""Below this are the refs that avfs keeps for itself."""

BAD_NAME = "git does not allow that name"
"""Why a ref whose file has such a name is damaged: programs that copy files make it, and git refuses gc beside it."""

_MAX_SYMBOLIC = 5
_VALUE_MAX = 4096
_VALUE = compiled(rb"([0-9a-f]{40})\s*")
_SYMBOLIC = compiled(rb"ref:[ \t]*(\S+)\s*")


@value_class
class RefChange:
    """One ref to be moved, if it is where it is believed to be."""

    name: str
    old: Oid | None
    """What it must hold; None: it must not exist."""
    new: Oid | None
    """What it is to hold; None: it is removed."""
    lasting: bool = False
    """Whether it stays when the others are reverted: it harms nothing, and another process may rely on it by then."""
    forced: bool = False
    """Whether it moves from any value, and from none; `old` says nothing then."""


class RefStore:
    """The refs of one repository."""

    def __init__(
        self, git_dir: Path, *, recover: bool = True, find_missing: Callable[[Sequence[Oid]], Oid | None] | None = None
    ) -> None:
        """Open the refs of a repository; with `recover`, remove what killed processes of ours left locked.

        `find_missing` finds an object that is not here, if there is one: no ref moves to such a one.
        """
        self.git_dir = git_dir
        self._find_missing = find_missing
        self._root = os.fsencode(git_dir) + b"/"
        self._locks = RefLocks(git_dir)
        self._packed = PackedRefs()
        if recover:
            self.recover()

    def recover(self) -> int:
        """Remove the locks that killed processes of ours left, and say how many files went."""
        return self._locks.recover()

    def list_locks(self) -> tuple[Path, ...]:
        """List all lock files in the repository."""
        return tuple(Path(os.fsdecode(path)) for path in self._locks.list_locks())

    # --- reading -----------------------------------------------------------------------------------------

    def read(self, name: str) -> Oid | None:
        """Return what a ref holds, or None if there is no such ref; symbolic ones are followed inside `refs/`.

        Raises:
            InvalidName: If no ref can have that name.
            RefDamaged: If its file holds no id.
        """
        for _ in range(_MAX_SYMBOLIC):
            check_ref_name(name)
            found = self.read_loose(name)
            if found is None:
                return self._read_packed().get(name)
            if isinstance(found, bytes):
                return found
            try:
                check_ref_name(found)
            except InvalidName:
                raise RefDamaged(name, "it is a symbolic ref that leads out of 'refs/'") from None
            name = found
        raise RefDamaged(name, "it is a symbolic ref that leads nowhere")

    def list(self, prefix: str = "refs/", *, symbolic: bool = True) -> dict[str, Oid]:
        """Return all refs whose name starts so, in order of name.

        Damaged ones are left out, and symbolic ones on request.
        """
        loose, damaged = self._walk(prefix)
        # Loose ones first: one that git packs meanwhile is then found among the packed ones. Of a damaged one, that
        # value is old.
        found = {name: oid for name, oid in self._read_packed().list(prefix).items() if name not in damaged}
        for name, value in loose.items():
            if isinstance(value, bytes):
                found[name] = value
            elif not symbolic:
                found.pop(name, None)
            else:
                with suppress(RefDamaged, InvalidName):
                    target = self.read(value)
                    if target is not None:
                        found[name] = target
        return dict(sorted(found.items()))

    def list_loose(self) -> dict[str, Oid]:
        """Return the refs that have a file of their own and hold an id."""
        return {name: value for name, value in self._walk("refs/")[0].items() if isinstance(value, bytes)}

    def list_damaged(self, prefix: str) -> dict[str, str]:
        """Return the refs whose name starts so and whose files hold no id, each with the reason."""
        return self._walk(prefix)[1]

    def find_damaged(self, exists: Callable[[Oid], bool]) -> tuple[RefDamaged, ...]:
        """Find refs that do not say what they stand for, and refs to objects that do not exist here."""
        loose, damaged = self._walk("refs/")
        heads = self._read_heads(damaged)
        found = [RefDamaged(name, reason) for name, reason in damaged.items()]
        if (reason := self.find_bad_packed()) is not None:
            found.append(RefDamaged("packed-refs", reason))
        for name, value in loose.items():
            if isinstance(value, str):
                try:
                    self.read(name)  # a symbolic ref to a missing ref stands for nothing, as in git
                except RefDamaged as error:
                    found.append(error)
        named = self.list() | heads
        missing = (
            RefDamaged(name, f"it names {oid.hex()}, which is missing")
            for name, oid in named.items()
            if not exists(oid)
        )
        return tuple(sorted([*found, *missing], key=lambda error: error.ref))

    def find_bad_packed(self) -> str | None:
        """Tell what cannot be read in `packed-refs`: a ref that seems to be gone may be on that line.

        Raises:
            RefDamaged: If it is no file, or larger than any.
        """
        self._read_packed()
        try:
            return find_bad_line(read_plain(self._root + b"packed-refs"), FORBIDDEN)
        except FileNotFoundError:
            return None

    def _read_heads(self, damaged: dict[str, str]) -> dict[str, Oid]:
        """Read HEAD, and HEAD and the refs of git's working trees, as far as they hold ids.

        For a damaged one, say why.
        """
        found: dict[str, Oid] = {}
        # else git never looks there
        trees = [place for place in self.git_dir.glob("worktrees/*") if any(place.glob("gitdir"))]
        for path in (
            self.git_dir / "HEAD",
            *(path for place in trees for path in (place / "HEAD", *place.glob("refs/**/*"))),
        ):
            name = str(path.relative_to(self.git_dir))
            try:
                value = None if IGNORED.search(name) else self.read_loose(name)
                if isinstance(value, bytes) and any(value):  # `git worktree add` begins with zeros
                    found[name] = value
            except RefDamaged as error:
                damaged[name] = error.reason
        return found

    def repair(self, name: str, oid: Oid) -> None:
        """Give a ref whose file holds no id a value; on disk on return.

        Raises:
            RefConflict: If it has one meanwhile.
            RefLocked: If another program keeps it locked.
        """
        check_ref_name(name)
        with host_errors(f"repair '{name}'"), self._locked(name, oid.hex().encode("ascii") + b"\n"):
            try:
                held = self.read_loose(name)
            except RefDamaged:
                return
            raise RefConflict(name, None, held if isinstance(held, str) else maybe_hex(held))

    def head(self) -> str | None:
        """Name the ref that HEAD points to; None if it holds a commit itself, or is damaged."""
        with host_errors("read HEAD"):
            try:
                data = _read_value(self._root + b"HEAD")
            except FileNotFoundError:
                return None
        match = _SYMBOLIC.fullmatch(data)
        return None if match is None else os.fsdecode(match[1])

    def read_loose(self, name: str) -> Oid | str | None:
        """Return the id in a ref's own file, or the name of another ref, or None if there is no file.

        Raises:
            RefDamaged: If the file holds neither.
        """
        try:
            data = _read_value(self._root + os.fsencode(name))
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise RefDamaged(name, "it is a symbolic link") from None
            if error.errno == errno.ENAMETOOLONG:
                return None
            with host_errors(f"read '{name}'"):
                raise
        match = _VALUE.fullmatch(data)
        if match is not None:
            return oid_of(match[1])
        if (match := _SYMBOLIC.fullmatch(data)) is not None:
            if name.startswith(OWN_REFS + "/"):
                raise RefDamaged(name, "it is a symbolic ref, which avfs does not make")
            return os.fsdecode(match[1])
        raise RefDamaged(name, "its file holds no id" if data else "its file is empty")

    def _walk(self, prefix: str) -> tuple[dict[str, Oid | str], dict[str, str]]:
        """Read the loose refs whose name starts so; for an unreadable ref, say why."""
        if not prefix.startswith("refs/") or ".." in prefix:
            raise InvalidName("ref", prefix, "it is not below 'refs/'")
        found: dict[str, Oid | str] = {}
        damaged: dict[str, str] = {}
        waiting = [prefix.rpartition("/")[0]]
        while waiting:
            directory = waiting.pop()
            try:
                with os.scandir(self._root + os.fsencode(directory)) as entries:
                    names = [(os.fsdecode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                with host_errors(f"read '{directory}'"):
                    raise error
            for name, is_directory in names:
                full = f"{directory}/{name}"
                if is_directory:
                    if f"{full}/".startswith(prefix) or prefix.startswith(f"{full}/"):
                        waiting.append(full)
                elif full.startswith(prefix) and not IGNORED.search(full):
                    if FORBIDDEN.search(full):
                        damaged[full] = BAD_NAME
                        continue
                    try:
                        value = self.read_loose(full)
                    except RefDamaged as error:
                        damaged[full] = error.reason
                        continue
                    if value is not None:
                        found[full] = value
        return found, damaged

    def _read_packed(self) -> PackedRefs:
        """Return the packed refs, read again if the file is another one."""
        path = self._root + b"packed-refs"
        known = self._packed
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return PackedRefs()
        if known.stamp == (status.st_ino, status.st_size, status.st_mtime_ns):
            return known
        found = read_packed(path)
        # A file written in the last moments may be replaced by another with the same stamp.
        if found.stamp is not None and time.time_ns() - found.stamp[2] < 2_000_000_000:
            found.stamp = None
        self._packed = found
        return found

    # --- moving ------------------------------------------------------------------------------------------

    def update(
        self,
        changes: Sequence[RefChange],
        *,
        announce: Callable[[], object] | None = None,
        withdraw: Callable[[], object] | None = None,
    ) -> None:
        """Move refs, in the order given, all or none; on disk on return.

        `announce` is called with all refs locked and checked, right before the first one moves. What it raises stops
        everything. `withdraw` is called, still with all refs locked, if none has moved after that, or all are back.
        Only then the caller knows that: a signal that raises may do so when all have moved, up to the last step here.

        Raises:
            RefConflict: If one of them holds something else than expected, or its name is in the way of another.
            RefLocked: If another program keeps one locked.
            ObjectMissing: If one is to move to what is not here.
            LeftInForce: If the disk refuses after some have moved, and moving them back, too.
        """
        if not changes:
            return
        for change in changes:
            check_ref_name(change.name)
        if len({change.name for change in changes}) != len(changes):
            raise InternalError("a ref is changed twice at once")
        with ExitStack() as stack, host_errors(f"update '{changes[0].name}'"):
            if self._find_missing is not None:
                stack.enter_context(objects_held(self.git_dir))  # from this look on nothing of it goes
                missing = self._find_missing([change.new for change in changes if change.new is not None])
                if missing is not None:
                    raise ObjectMissing(missing.hex())
            locks: dict[str, Lock] = {}
            removal: Prepared | None = None
            written: list[Prepared] = []
            for change in sorted(changes, key=lambda change: change.name):  # one order for all, against deadlocks
                if change.new is not None:
                    prepared = stack.enter_context(self._locks.prepare(change.new.hex().encode("ascii") + b"\n"))
                else:
                    # All removals share one file: a fork may have more labels than a process may open files.
                    removal = prepared = removal or stack.enter_context(self._locks.prepare(b""))
                locks[change.name] = self._locks.take(
                    stack, prepared, self._root + os.fsencode(change.name), change.name
                )
                if change.new is not None:
                    written.append(prepared)
            removes = any(change.new is None for change in changes)
            if removes:
                self._lock_packed(stack)
            faults.reach("refs.locked")
            packed = self._read_packed()
            for change in changes:
                self._check(change, packed)
            # Before any of them gets a ref's name, else a power cut may leave the ref empty; and all at once,
            # because what is created between two of these waits for the journal.
            sync_files(*(prepared.fd for prepared in written))
            faults.reach("refs.checked")
            is_moving = False
            try:
                if announce is not None:
                    announce()
                is_moving = True
                self._move_all(changes, locks, packed)
                faults.reach("refs.moved")
            except BaseException as error:
                if is_moving:
                    self._take_back(changes, locks, error, has_packed=removes)
                if withdraw is not None:
                    withdraw()
                raise

    def set_head(self, name: str) -> None:
        """Make HEAD point to a ref, which need not exist; on disk on return.

        Raises:
            InvalidName: If no branch can have that name.
            RefLocked: If another program keeps HEAD locked.
        """
        check_ref_name(name)
        if not name.startswith("refs/heads/"):
            raise InvalidName("branch", name, "HEAD can only point to a branch")
        with host_errors("update HEAD"), self._locked("HEAD", b"ref: " + os.fsencode(name) + b"\n"):
            pass

    @contextmanager
    def _locked(self, name: str, content: bytes) -> Iterator[None]:
        """Lock a ref for a block, then replace what its file holds; on disk at the end."""
        path = self._root + os.fsencode(name)
        with ExitStack() as stack:
            prepared = stack.enter_context(self._locks.prepare(content))
            lock = self._locks.take(stack, prepared, path, name)
            yield
            sync_file(prepared.fd)
            rename_over(lock.path, path)
            lock.linked = False
            self._sync_dir(os.path.dirname(path))

    def replace_config(self, change: Callable[[bytes], bytes]) -> None:
        """Replace the file `config` of the repository under git's lock for it; on disk on return.

        `change` makes the new content of the old one, which is empty where there is no file. The same content is not
        written.

        Raises:
            RefLocked: If another program keeps it locked.
        """
        path = self._root + b"config"
        with ExitStack() as stack, host_errors(f"update '{os.fsdecode(path)}'"):
            prepared = stack.enter_context(self._locks.prepare(b""))
            lock = self._locks.take(stack, prepared, path, "config")
            faults.reach("refs.file_locked")
            try:
                old = read_plain(path)
                os.fchmod(prepared.fd, os.lstat(path).st_mode & 0o777)
            except FileNotFoundError:
                old = b""
            new = change(old)
            if new == old:
                return
            write_all(prepared.fd, new)
            sync_file(prepared.fd)
            faults.reach("refs.file_written")
            os.rename(lock.path, path)
            lock.linked = False
            fsync_dir(self.git_dir)

    def _check(self, change: RefChange, packed: PackedRefs) -> None:
        """Compare a locked ref with what it is believed to hold, and its name with those of others."""
        name = change.name
        loose = self.read_loose(name)
        if isinstance(loose, str):
            raise RefConflict(name, maybe_hex(change.old), f"ref: {loose}")
        actual = packed.get(name) if loose is None else loose
        if actual != change.old and not change.forced:
            raise RefConflict(name, maybe_hex(change.old), maybe_hex(actual))
        if actual is None and change.new is not None:
            parts = name.split("/")
            for end in range(3, len(parts)):
                above = "/".join(parts[:end])
                if packed.get(above) is not None or isinstance(self.read_loose(above), bytes):
                    raise RefConflict(name, None, f"'{above}' exists")
            below = f"{name}/"
            if packed.holds_below(name) or any(self._walk(below)):
                raise RefConflict(name, None, f"'{below}' exists")

    def _move_all(self, changes: Sequence[RefChange], locks: dict[str, Lock], packed: PackedRefs) -> None:
        unsynced: bytes | None = None
        gone: set[str] = set()
        for position, change in enumerate(changes):
            path = self._root + os.fsencode(change.name)
            directory = os.path.dirname(path)
            if unsynced is not None and directory != unsynced:
                # In the order given also after a power cut: what was moved before is on the disk first.
                self._sync_dir(unsynced)
            unsynced = directory
            if change.new is not None:
                try:
                    rename_over(locks[change.name].path, path)
                except IsADirectoryError:
                    raise RefConflict(change.name, maybe_hex(change.old), f"'{change.name}/' exists") from None
                locks[change.name].linked = False
            elif change.old is not None:
                if change.name not in gone and packed.get(change.name) is not None:
                    run = position
                    while run < len(changes) and changes[run].new is None:
                        run += 1
                    going = {removed.name for removed in changes[position:run]}
                    self._remove_packed(going)
                    gone |= going
                with suppress(FileNotFoundError, NotADirectoryError, IsADirectoryError):  # it was packed
                    os.unlink(path)
                with suppress(OSError):
                    os.unlink(self._root + b"logs/" + os.fsencode(change.name))  # else git cannot log `NAME/…`
                # Before the directory is synced, so that no lock is on the disk after that.
                os.unlink(locks[change.name].path)
                locks[change.name].linked = False
            if position + 1 < len(changes):
                faults.reach("refs.moved_one")
        if unsynced is not None:
            self._sync_dir(unsynced)
        for change in changes:
            if change.new is None:
                self._locks.remove_empty_parents(os.path.dirname(self._root + os.fsencode(change.name)))

    def _sync_dir(self, directory: bytes) -> None:
        """Put on disk which refs a directory holds.

        A ref that has moved is not locked any more: `git pack-refs` may have packed it and removed the directory. Then
        `packed-refs`, which git has written but whose name it does not sync, and the directory above have to be on the
        disk.
        """
        try:
            fsync_dir(Path(os.fsdecode(directory)))
        except HostError as error:
            if error.errno != errno.ENOENT:
                raise
            self._sync_dir(os.path.dirname(directory))
            fsync_dir(self.git_dir)

    def _take_back(
        self, changes: Sequence[RefChange], locks: dict[str, Lock], cause: BaseException, *, has_packed: bool
    ) -> None:
        """Give refs their old values again, in reverse; a ref that was not moved is left alone.

        Raises:
            LeftInForce: If one of them keeps its new value.
        """
        left: dict[str, str | None] = {}
        failure: BaseException = cause
        for change in reversed([change for change in changes if not change.lasting]):
            try:
                self._take_back_one(change, locks[change.name], has_packed=has_packed)
            except (AvfsError, OSError) as error:
                left[change.name] = maybe_hex(change.new)
                failure = cause if isinstance(cause, OSError | HostError) else error
        if left:
            raise LeftInForce(f"update '{changes[0].name}'", failure, left) from cause

    def _take_back_one(self, change: RefChange, lock: Lock, *, has_packed: bool) -> None:
        if not lock.linked:
            faults.reach("refs.taking_back")
        with ExitStack() as stack:
            if not lock.linked:
                holder = stack.enter_context(self._locks.prepare(b""))
                self._locks.take(stack, holder, self._root + os.fsencode(change.name), change.name)
            if change.old is None and not has_packed:
                self._lock_packed(stack)
            loose = self.read_loose(change.name)
            packed = self._read_packed()
            actual = packed.get(change.name) if loose is None else loose
            if actual == change.old:
                return  # it was not moved yet
            if actual != change.new:
                raise RefConflict(
                    change.name, maybe_hex(change.new), actual if isinstance(actual, str) else maybe_hex(actual)
                )
            path = self._root + os.fsencode(change.name)
            if change.old is None:
                if packed.get(change.name) is not None:
                    self._remove_packed({change.name})
                with suppress(FileNotFoundError):
                    os.unlink(path)
            else:
                value = stack.enter_context(self._locks.prepare(change.old.hex().encode("ascii") + b"\n"))
                # A disk that refuses to sync keeps what it has: what matters is what is read from now on.
                with suppress(OSError):
                    sync_file(value.fd)
                rename_over(value.path, path)
            with suppress(OSError, HostError):
                self._sync_dir(os.path.dirname(path))

    def create_packed(self, refs: Mapping[str, Oid]) -> bool:
        """Write many refs at once into a repository without `packed-refs`; False if it has one. On disk on return.

        Raises:
            RefLocked: If another program keeps `packed-refs` locked.
        """
        with host_errors("write 'packed-refs'"), ExitStack() as stack:
            self._lock_packed(stack)
            if os.path.lexists(self._root + b"packed-refs"):
                return False
            self._write_packed(format_packed(refs))
            return True

    def _lock_packed(self, stack: ExitStack) -> None:
        """Keep git from packing refs until the stack ends.

        `git pack-refs` reads a ref's file, and writes what it held into `packed-refs` later: a ref whose file is
        removed in between would come back.
        """
        prepared = stack.enter_context(self._locks.prepare(b""))
        self._locks.take(stack, prepared, self._root + b"packed-refs", "packed-refs")

    def _remove_packed(self, gone: set[str]) -> None:
        """Rewrite `packed-refs`, which is locked, without some refs."""
        self._write_packed(remove_packed(read_plain(self._root + b"packed-refs"), gone))
        faults.reach("refs.packed_removed")

    def _write_packed(self, data: bytes) -> None:
        with self._locks.prepare(data) as prepared:
            sync_file(prepared.fd)
            faults.reach("refs.packed_written")
            os.rename(prepared.path, self._root + b"packed-refs")
            fsync_dir(self.git_dir)


def _read_value(path: bytes) -> bytes:
    """Read what a ref holds; of a file that is longer than any of them, the beginning."""
    with closing_fd(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)) as fd:
        return os.read(fd, _VALUE_MAX)

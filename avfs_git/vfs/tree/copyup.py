"""Changing what is visible: bringing lower entries up, and changing content and attributes.

Decided here: how an entry of the lower layer gets into the upper one (`copy_up`). It is made complete in `work`,
with its mode, times and attributes, and shown by one rename; the times of the directory that gains it are put
back, since copying up is no change that anybody may see. So a kill between any two system calls leaves the
entry in the lower layer or whole in the upper one.

Copying up happens under the lock of the tree, but for large files in the threads that serve programs (`defer_copies`): there it
raises `NotYetHere`, the copy is made without the lock, and the second try shows it. A copy that nothing came to use stays in
`work` until the next one is made.

Each change happens on disk first, then in the nodes, then it is reported to `on_change`. Callers and assumptions
are those of `vfs.tree.view`.
"""

from __future__ import annotations

import errno
import os
import stat
import threading
from collections.abc import Iterable
from functools import partial

from avfs_git import faults
from avfs_git.gitstore.source import NotYetHere
from avfs_git.host.files.beneath import Descriptor, chmod_at, open_at, open_judged, open_judged_at
from avfs_git.host.files.durable import write_all
from avfs_git.host.files.xattrs import entry_of, remove_xattr, write_xattr
from avfs_git.vfs.layer.lower import LowerEntry
from avfs_git.vfs.layer.upper import attic_name, put_times, remove_stray
from avfs_git.vfs.tree.content import SPOOL_ABOVE, ReadingView
from avfs_git.vfs.tree.inodes import Node
from avfs_git.vfs.tree.view import ACCESS_LISTS, Attr, attr_of, fail


class CopyingView(ReadingView):
    """The merged view with everything that changes nodes without changing names."""

    may_have_holes = True
    """Whether `seek` tells more of a file than its end."""
    _ahead: tuple[LowerEntry, bytes] | None = None
    """A lower file that is copied already, and the name of the copy in `work`."""
    _deferring: threading.local | None = None

    # --- copying up ----------------------------------------------------------------------------------------

    def defer_copies(self) -> None:
        """Have this thread never copy a large file up under the lock: it gets `NotYetHere` instead."""
        if self._deferring is None:
            self._deferring = threading.local()
        self._deferring.is_on = True

    def _copy_ahead(self, node: Node, entry: LowerEntry) -> None:
        """Copy a lower file into `work`, without the lock; one at a time.

        Raises:
            OSError: If the disk is full or refuses; nothing is left then.
        """
        with self._lock:
            if node.upper or (self._ahead is not None and self._ahead[0] is entry):
                return
            unused, self._ahead = self._ahead, None
        if unused is not None:
            self.upper.discard(unused[1])
        temporary, fd = self.upper.make_file(0o600)
        self._fill_copy(temporary, fd, entry, with_data=True)
        os.close(fd)
        with self._lock:
            self._ahead = entry, temporary

    def _make_copy(self, node: Node, entry: LowerEntry, *, with_data: bool) -> bytes:
        """Copy a lower file into `work`, or take the copy that is there; give its name.

        Raises:
            NotYetHere: If that takes long and this thread has said that it defers that.
        """
        if with_data:
            if self._ahead is not None and self._ahead[0] is entry:
                temporary, self._ahead = self._ahead[1], None
                return temporary
            if getattr(self._deferring, "is_on", False) and self.lower.size_of(entry) > SPOOL_ABOVE:
                raise NotYetHere(partial(self._copy_ahead, node, entry))
        temporary, fd = self.upper.make_file(0o600)
        self._fill_copy(temporary, fd, entry, with_data=with_data)
        os.close(fd)
        return temporary

    def copy_up(self, node: Node) -> None:
        """Bring a node and the directories above it into the upper layer."""
        with self._lock:
            self._bring_up(node)

    def _bring_up(self, node: Node, *, with_data: bool = True) -> None:
        if node.upper:
            return
        if node is self.git_file:
            raise fail(errno.EPERM, node.name)
        missing: list[Node] = []
        here: Node = node
        while not here.upper:
            missing.append(here)
            if here.parent is None:
                if here is node and node.lower is not None and not node.is_dir:
                    self._bring_up_nameless(node, node.lower, with_data=with_data)
                    return
                raise fail(errno.ENOENT, here.name)
            here = here.parent
        for child in reversed(missing):
            self._copy_up(child, with_data=with_data or child is not node)

    def _copy_up(self, node: Node, *, with_data: bool = True) -> None:
        """Bring a node up into a directory that is in the upper layer."""
        parent, entry = node.parent, node.lower
        assert parent is not None  # noqa: S101 - the root is always up
        assert entry is not None  # noqa: S101 - what is not in the upper layer is in the lower one
        directory = self._dir_fd(parent)
        before = os.stat(directory.fd)
        kind = node.kind
        if kind == stat.S_IFDIR:
            temporary = self._copy_dir(entry)
        elif kind == stat.S_IFLNK:
            temporary = self._copy_symlink(entry)
        else:
            temporary = self._make_copy(node, entry, with_data=with_data)
        faults.reach("copy_up.made")
        self._show_copy(temporary, directory.fd, node, entry.mode & 0o7777, before.st_mode)
        faults.reach("copy_up.shown")
        put_times(directory.fd, before)
        if parent.listing is not None:
            parent.listing[node.name] = kind
        node.upper = True
        node.descriptor = None
        if kind == stat.S_IFDIR:
            node.listing = {}
        else:
            node.lower = None
            node.links = 1
            node.has_xattrs = bool(entry.xattrs)

    def _bring_up_nameless(self, node: Node, entry: LowerEntry, *, with_data: bool) -> None:
        """Give a file of the lower layer that was unlinked while in use a place to be written to."""
        name = attic_name(node.ino)
        temporary = self._make_copy(node, entry, with_data=with_data)
        os.rename(temporary, name, src_dir_fd=self.upper.work.fd, dst_dir_fd=self.upper.work.fd)
        node.parent, node.name = self.attic, name
        node.links = 0
        node.upper = True
        node.lower = None
        node.descriptor = None
        self._note(node)

    def _fill_copy(self, temporary: bytes, fd: int, entry: LowerEntry, *, with_data: bool) -> None:
        """Make an open file equal to a lower one; on failure nothing is left of it."""
        try:
            if with_data:
                if self.lower.size_of(entry) <= SPOOL_ABOVE:
                    write_all(fd, self.lower.read(entry))
                else:
                    for piece in self.lower.stream(entry):
                        write_all(fd, piece)
                faults.reach("copy_up.written")
            if entry.xattrs:
                self.upper.write_user_xattrs(fd, entry.xattrs)
            os.fchmod(fd, entry.mode & 0o7777)
            if with_data:
                os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        except BaseException:
            os.close(fd)
            self.upper.discard(temporary)
            raise

    def _copy_dir(self, entry: LowerEntry) -> bytes:
        temporary = self.upper.make_dir(0o700)
        place = entry_of(self.upper.work.fd, temporary)
        try:
            if entry.xattrs:
                self.upper.write_user_xattrs(place, entry.xattrs)
            chmod_at(self.upper.work.fd, temporary, entry.mode & 0o7777)
            os.utime(place, ns=(entry.mtime_ns, entry.mtime_ns), follow_symlinks=False)
        except BaseException:
            self.upper.discard(temporary)
            raise
        return temporary

    def _copy_symlink(self, entry: LowerEntry) -> bytes:
        target = self.lower.read(entry)
        work = self.upper.work.fd
        while True:
            temporary = self.upper.new_name()
            try:
                os.symlink(target, temporary, dir_fd=work)
            except FileExistsError:
                continue
            break
        os.utime(temporary, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=work, follow_symlinks=False)
        return temporary

    def _show_copy(self, temporary: bytes, directory: int, node: Node, mode: int, above: int) -> None:
        """Show a copy.

        Args:
            temporary: Its name in `work`.
            directory: The directory that gets it.
            node: What it is a copy of.
            mode: The mode that the copy has.
            above: The mode of the directory.
        """
        try:
            try:
                self.upper.show(temporary, directory, node.name)
            except PermissionError:
                # Copying up is not a change that a mode may forbid. What is closed to an ordinary user is opened for a
                # moment: the directory that gets the copy, and a directory that is moved, whose `..` is written. This is
                # the one place where a kill leaves a mode that was not there.
                is_shut = above & 0o300 != 0o300
                is_fixed = node.is_dir and not mode & 0o200
                if not is_shut and not is_fixed:
                    raise
                if is_shut:
                    os.chmod(b"/proc/self/fd/%d" % directory, above & 0o7777 | 0o300)
                try:
                    if is_fixed:
                        chmod_at(self.upper.work.fd, temporary, mode | 0o200)
                    self.upper.show(temporary, directory, node.name)
                    if is_fixed:
                        chmod_at(directory, node.name, mode)
                finally:
                    if is_shut:
                        os.chmod(b"/proc/self/fd/%d" % directory, above & 0o7777)
        except BaseException:
            self.upper.discard(temporary)
            raise

    def _make_pure(self, node: Node) -> None:
        """Bring a directory up with everything below it and cut it off from the lower layer.

        Until it is marked opaque at the end, each step shows the same as before.

        Raises:
            TooManyFiles: If it is a tree bomb.
        """
        self._bring_up(node)
        if node.lower is None:
            return
        joined: list[Node] = []
        pending = [node]
        bound = self.bound_below(node)
        bound.ask()
        while pending:
            here = pending.pop()
            joined.append(here)
            if here.lower is None:
                continue
            names = list(self.lower.children(here.lower))
            bound.meet(len(names))
            for name in names:
                child = self._child(here, name)
                if child is None:
                    continue
                if not child.upper:
                    self._copy_up(child)
                if child.is_dir and child.lower is not None:
                    pending.append(child)
        faults.reach("copy_up.tree_copied")
        hidden = [(here, name) for here in joined for name, kind in self._upper_names(here).items() if not kind]
        # The kernel lists an opaque directory as it is on disk, whiteouts included, so that they have to go; but not
        # before they hide nothing any more. A kill in between is made good by `clean_work`.
        note = self.upper.note_leftover_whiteouts(self.path_of(node)) if hidden else None
        self._set_opaque(node)
        for here in joined:
            here.lower = None
        for here, name in hidden:
            directory = self._dir_fd(here)
            before = os.stat(directory.fd)
            remove_stray(directory.fd, name)
            put_times(directory.fd, before)
            self._upper_names(here).pop(name, None)
        if note is not None:
            faults.reach("copy_up.whiteouts_removed")
            self.upper.discard(note)

    def _set_opaque(self, node: Node) -> None:
        keep, target = self._target(node)
        self.upper.set_opaque(target)
        del keep

    # --- content -------------------------------------------------------------------------------------------

    def write(self, node: Node, data: bytes | memoryview, offset: int) -> int:
        """Write a piece of a file that somebody has open, whatever its mode is now; gives how much of it was written.

        That is less only if the disk refused the rest: as with pwrite(2), the next write fails then.

        Raises:
            OSError: ENOSPC, EDQUOT, EFBIG or EIO if nothing was written.
        """
        with self._lock:
            held = self._open_data(node) or self._writable(node, judged=True)
            size = len(data)
            try:
                done = os.pwrite(held.fd, data, offset) if size else 0
                while done < size:
                    try:
                        done += os.pwrite(held.fd, memoryview(data)[done:], offset + done)
                    except OSError:
                        break
            finally:
                # What was written before the disk was full is in the file.
                if node is not self._reported or self.on_name is not None:
                    self._report(node)
            return done

    @staticmethod
    def _open_data(node: Node) -> Descriptor | None:
        """Give the descriptor through which a file of the upper layer is written to, if it is open already."""
        data = node.descriptor
        if data is None or not data.writable or node.held is not None or not node.upper:
            return None
        data.used = True
        return data

    def append(self, node: Node, data: bytes | memoryview) -> int:
        """Write at the end of a file; gives how much, as `write`."""
        with self._lock:
            held = self._writable(node)
            return self.write(node, data, os.fstat(held.fd).st_size)

    def _writable(self, node: Node, *, judged: bool = False) -> Descriptor:
        if node.kind != stat.S_IFREG:
            raise fail(errno.EISDIR if node.is_dir else errno.EINVAL, node.name)
        if not node.upper:
            self._bring_up(node)
        return self._data_fd(node, write=True, judged=judged)

    def truncate(self, node: Node, size: int) -> None:
        """Set the size of a file, for somebody who may."""
        with self._lock:
            if size or node.upper or node.kind != stat.S_IFREG:
                held = self._writable(node, judged=True)
                os.ftruncate(held.fd, size)
            else:
                self._bring_up(node, with_data=False)
            self._report(node)

    def open_file(self, node: Node, flags: int, *, judged: bool = False) -> int:
        """Open a file; the caller closes the descriptor. Judged: for somebody who has it open, whatever its mode is now.

        Opened for writing, the file is brought up and reported as changed now; who writes later through the
        descriptor reports that with `mark_changed`. Opened for reading only, a file that is in the lower layer
        is shown as it is now, even if it is written to afterwards.
        """
        writes = flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)
        flags &= ~(os.O_CREAT | os.O_EXCL)
        entry = node.lower
        if not writes and not node.upper and entry is not None and node.kind == stat.S_IFREG:
            held = self.fetch(node, entry)
            return os.dup(held.fd)
        with self._lock:
            if node.kind != stat.S_IFREG:
                raise fail(errno.EISDIR if node.is_dir else errno.ENXIO, node.name)
            if writes:
                self._bring_up(node, with_data=not flags & os.O_TRUNC)
            if node.held is not None:
                fd = open_judged(node.held.fd, flags)
            elif node.parent is None:
                raise fail(errno.ENOENT, node.name)
            else:
                directory = self._dir_fd(node.parent)
                fd = (open_judged_at if judged else open_at)(directory.fd, node.name, flags)
            if writes:
                self._report(node)
            return fd

    def seek(self, node: Node, offset: int, whence: int) -> int:
        """Find the next data or hole of a file, as lseek(2) does with SEEK_DATA and SEEK_HOLE.

        Raises:
            OSError: ENXIO if there is none.
        """
        with self._lock:
            if not node.upper:  # stored whole: no holes but the one behind its end
                size = self.getattr(node).size
                if not 0 <= offset < size:
                    raise fail(errno.ENXIO, node.name)
                return size if whence == os.SEEK_HOLE else offset
            fd = self.open_file(node, os.O_RDONLY, judged=True)
        try:
            return os.lseek(fd, offset, whence)
        finally:
            os.close(fd)

    def mark_changed(self, node: Node) -> None:
        """Report that the content of a file was changed through a descriptor."""
        with self._lock:
            self._report(node)

    def sync(self, node: Node, *, data_only: bool = False) -> None:
        """Force a file or directory of the upper layer to disk, as fsync(2) does."""
        with self._lock:
            if not node.upper:
                return
            if node.is_dir:
                directory = self._dir_fd(node)
                held = Descriptor(open_at(directory.fd, b".", os.O_RDONLY | os.O_DIRECTORY))
            elif node.kind == stat.S_IFREG:
                held = self._data_fd(node, write=False, judged=True)
            else:
                return
        (os.fdatasync if data_only else os.fsync)(held.fd)

    # --- attributes ----------------------------------------------------------------------------------------

    def set_attributes(
        self,
        node: Node,
        *,
        size: int | None = None,
        uid: int = -1,
        gid: int = -1,
        mode: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
    ) -> Attr:
        """Do what `truncate`, `chown`, `chmod` and `utimens` do, in this order, and tell the attributes after it.

        The mode comes after the owner, a change of which takes set-uid away; the times come last, because all of the others
        set them.
        """
        with self._lock:
            data = self._open_data(node)
            if data is None or node.parent is self.attic:
                if size is not None:
                    self.truncate(node, size)
                if uid >= 0 or gid >= 0:
                    self.chown(node, uid, gid)
                if mode is not None:
                    self.chmod(node, mode)
                if atime_ns is not None or mtime_ns is not None:
                    self.utimens(node, atime_ns=atime_ns, mtime_ns=mtime_ns)
                return self.getattr(node)
            fd = data.fd
            try:
                if size is not None:
                    os.ftruncate(fd, size)
                if uid >= 0 or gid >= 0:
                    os.fchown(fd, uid, gid)
                if mode is not None:
                    os.fchmod(fd, mode)
                if atime_ns is not None or mtime_ns is not None:
                    if atime_ns is None or mtime_ns is None:
                        now = os.stat(fd)
                        atime_ns = now.st_atime_ns if atime_ns is None else atime_ns
                        mtime_ns = now.st_mtime_ns if mtime_ns is None else mtime_ns
                    os.utime(fd, ns=(atime_ns, mtime_ns))
            finally:
                if node is not self._reported or self.on_name is not None:
                    self._report(node)
            found = os.stat(fd)
            return attr_of(node.ino, found) if found.st_nlink else self.getattr(node)

    def chmod(self, node: Node, mode: int) -> None:
        """Set the permission bits.

        Raises:
            OSError: ENOTSUP for a symbolic link, which has none.
        """
        with self._lock:
            if node.kind == stat.S_IFLNK:
                raise fail(errno.ENOTSUP, node.name)
            self._bring_up(node)
            if node.held is not None:
                os.chmod(b"/proc/self/fd/%d" % node.held.fd, mode)
            elif node.kind == stat.S_IFREG and (data := node.descriptor) is not None:
                os.fchmod(data.fd, mode)
            elif node.parent is None:
                directory = self._dir_fd(node)
                os.chmod(entry_of(directory.fd, b"."), mode)
            else:
                directory = self._dir_fd(node.parent)
                chmod_at(directory.fd, node.name, mode)
            node.sets_group = None
            self._report(node)

    def chown(self, node: Node, uid: int = -1, gid: int = -1) -> None:
        """Set the owner, the group or both; -1 keeps."""
        with self._lock:
            self._bring_up(node)
            keep, target = self._target(node)
            os.chown(target, uid, gid, follow_symlinks=isinstance(target, int))
            del keep
            node.sets_group = None
            self._report(node)

    def utimens(self, node: Node, *, atime_ns: int | None = None, mtime_ns: int | None = None) -> None:
        """Set the times of last access and change; None keeps."""
        with self._lock:
            self._bring_up(node)
            keep, target = self._target(node)
            follow = isinstance(target, int)
            if atime_ns is None or mtime_ns is None:
                now = os.stat(target, follow_symlinks=follow)
                atime_ns = now.st_atime_ns if atime_ns is None else atime_ns
                mtime_ns = now.st_mtime_ns if mtime_ns is None else mtime_ns
            os.utime(target, ns=(atime_ns, mtime_ns), follow_symlinks=follow)
            del keep
            self._report(node)

    def set_xattr(self, node: Node, name: bytes, value: bytes, *, flags: int = 0) -> None:
        """Set an extended attribute.

        Raises:
            PermissionError: For a `user.` attribute of what is neither file nor directory, and for names that
                would be marks of overlayfs.
            OSError: EOPNOTSUPP for an access control list: neither the kernel nor a checkpoint goes by it, so that the file
                would be open to others than the list says.
        """
        if name.startswith(ACCESS_LISTS):
            raise fail(errno.EOPNOTSUPP, name)
        stored = self.upper.store_xattr_name(name)
        with self._lock:
            self._check_takes_xattr(node, name)
            if flags:  # before anything is copied up in vain
                there = name in self.read_xattrs(node)
                if there and flags & os.XATTR_CREATE:
                    raise fail(errno.EEXIST, name)
                if not there and flags & os.XATTR_REPLACE:
                    raise fail(errno.ENODATA, name)
            self._bring_up(node)
            keep, target = self._target(node)
            self._begin()
            write_xattr(target, stored, value, flags=flags)
            del keep
            node.has_xattrs = True
            self._report(node)

    def remove_xattr(self, node: Node, name: bytes) -> None:
        """Remove an extended attribute.

        Raises:
            OSError: ENODATA if there is none of that name.
        """
        stored = self.upper.store_xattr_name(name)
        with self._lock:
            self._check_takes_xattr(node, name)
            if name not in self.read_xattrs(node):
                raise fail(errno.ENODATA, name)
            self._bring_up(node)
            keep, target = self._target(node)
            self._begin()
            remove_xattr(target, stored)
            del keep
            self._report(node)

    @staticmethod
    def _check_takes_xattr(node: Node, name: bytes) -> None:
        if name.startswith(b"user.") and node.kind not in (stat.S_IFREG, stat.S_IFDIR):
            raise fail(errno.EPERM, name)


def write_pieces(fd: int, pieces: Iterable[bytes]) -> None:
    """Write one piece after the other at a descriptor's place."""
    for piece in pieces:
        write_all(fd, piece)

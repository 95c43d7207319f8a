"""Renaming directories that overlayfs refuses to rename, for the process above a command (see `runner`).

The kernel's overlayfs answers EXDEV to the rename of a directory of which a part is in a lower layer, unless it may
leave a mark that an upper layer of ordinary users cannot have. mv(1) copies then, but `git mv`, and what calls
rename(2) and nothing else, fails. Decided here: that the command's renames are looked at first (seccomp_unotify(2)).
All but those of such a directory are left to the kernel. The directory is made anew in a staging directory at the root
of the tree, with the same files under further names (a link copies a file up, with all that belongs to it); that one
gets the new name in one step, and then the old one goes. What other processes of the command make there meanwhile goes
along, as in a rename of the kernel's. So nothing is lost at any point, and the command is told what the kernel would
have said. After a kill, the staging directory is in no capture, and goes when the workspace is next opened
(`vfs.scan.is_staging`).

Only `runner` imports this, as a module without a package, so that it imports nothing of avfs. Where the system lacks
seccomp's notifications, `install` says so, and renames fail as they do on overlayfs. It has one thread; the command's
thread waits.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
import struct

_ARCHES = {
    # machine: (AUDIT_ARCH_…, seccomp, {number: (index of the old directory, old path, new directory, new path, flags)})
    "x86_64": (0xC000003E, 317, {82: (-1, 0, -1, 1, -1), 264: (0, 1, 2, 3, -1), 316: (0, 1, 2, 3, 4)}),
    "aarch64": (0xC00000B7, 277, {38: (0, 1, 2, 3, -1), 276: (0, 1, 2, 3, 4)}),
}
_SET_MODE_FILTER = 1  # linux/seccomp.h
_FLAG_SPEC_ALLOW, _FLAG_NEW_LISTENER, _FLAG_WAIT_KILLABLE = 4, 8, 32
_RET_ALLOW, _RET_USER_NOTIF = 0x7FFF0000, 0x7FC00000
_LD_ABS, _JEQ, _RET = 0x20, 0x15, 0x06  # linux/bpf_common.h
_NOTIF = struct.Struct("<QIIiIQ6Q")
_RESPONSE = struct.Struct("<QqiI")
_RECV, _SEND, _ID_VALID = 0xC0502100, 0xC0182101, 0x40082102
_CONTINUE = 1
_AT_FDCWD = -100
_PATH_MAX = 4096
_NOREPLACE = 1
_OPAQUE = "user.overlay.opaque"
_STAGING = ".avfs-staging-"
"""As in `vfs.scan.scan`; 16 hexadecimal digits follow."""
_ROUNDS = 100
"""How often a directory is looked at again in which programs go on making files; then the rest stays there."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))


def install() -> int | None:
    """Have the renames of this process and its children reported.

    Give the descriptor for that, None if it cannot be.
    """
    known = _ARCHES.get(os.uname().machine)
    if known is None:
        return None
    arch, seccomp, calls = known
    count = len(calls)
    # A number means another call on another architecture of the same kernel: those are let through.
    steps = [(_LD_ABS, 0, 0, 4), (_JEQ, 0, count + 1, arch), (_LD_ABS, 0, 0, 0)]
    steps += [(_JEQ, count - place, 0, number) for place, number in enumerate(calls)]
    steps += [(_RET, 0, 0, _RET_ALLOW), (_RET, 0, 0, _RET_USER_NOTIF)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *step) for step in steps))
    program = _Filter(len(steps), ctypes.cast(code, ctypes.c_void_p))
    for flags in (_FLAG_NEW_LISTENER | _FLAG_SPEC_ALLOW | _FLAG_WAIT_KILLABLE, _FLAG_NEW_LISTENER | _FLAG_SPEC_ALLOW):
        fd = _libc.syscall(seccomp, _SET_MODE_FILTER, flags, ctypes.byref(program))
        if fd >= 0:
            return int(fd)
    return None


class Renames:
    """Answers what a command's renames ask."""

    def __init__(self, listener: int, *, root: str, upper: str, lower: str) -> None:
        """Begin."""
        self.listener = listener
        self._root = root
        self._upper = upper
        self._lower = lower
        self._device = os.stat(root).st_dev
        self._calls = _ARCHES[os.uname().machine][2]

    def answer(self) -> bool:
        """Answer one question; False when nobody is left to ask."""
        data = bytearray(_NOTIF.size)
        try:
            fcntl.ioctl(self.listener, _RECV, data)
        except OSError as error:
            return error.errno in (errno.EINTR, errno.ENOENT)  # who asked was killed
        asked, pid, _, number, _, _, *arguments = _NOTIF.unpack(data)
        try:
            done = self._rename(asked, pid, number, arguments)
        except OSError as error:
            done = -(error.errno or errno.EIO)
        answer = _RESPONSE.pack(asked, 0, 0, _CONTINUE) if done is None else _RESPONSE.pack(asked, 0, done, 0)
        try:
            fcntl.ioctl(self.listener, _SEND, answer)
        except OSError:  # who asked was killed
            pass
        return True

    def _rename(self, asked: int, pid: int, number: int, arguments: list[int]) -> int | None:
        """Do a rename that the kernel would refuse; None for all others."""
        old_dir, old, new_dir, new, flags_at = self._calls[number]
        flags = arguments[flags_at] & 0xFFFFFFFF if flags_at >= 0 else 0
        memory = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
        try:
            source = _place(pid, arguments[old_dir] if old_dir >= 0 else None, _read_path(memory, arguments[old]))
            found = os.lstat(source)
            if not stat.S_ISDIR(found.st_mode) or found.st_dev != self._device:
                return None
            target = _place(pid, arguments[new_dir] if new_dir >= 0 else None, _read_path(memory, arguments[new]))
        except OSError:
            return None  # the kernel finds the same, and says it better
        finally:
            os.close(memory)
        if flags & ~_NOREPLACE or os.stat(f"/proc/{pid}").st_uid != os.geteuid():
            return None
        try:
            source, target = _real(source), _real(target)
            if os.lstat(os.path.dirname(target)).st_dev != self._device or (target + "/").startswith(source + "/"):
                return None
        except OSError:
            return None
        if not source.startswith(self._root + "/") or not self._is_refused(source[len(self._root) + 1 :]):
            return None
        # else the number may be another process's by now
        fcntl.ioctl(self.listener, _ID_VALID, struct.pack("<Q", asked))
        return self._move(source, target, flags)

    def _is_refused(self, inside: str) -> bool:
        """Whether a part of a directory is in the lower layer."""
        place = self._upper
        for name in inside.split("/"):
            place = f"{place}/{name}"
            try:
                if not stat.S_ISDIR(os.lstat(place).st_mode):
                    return False
                if os.getxattr(place, _OPAQUE, follow_symlinks=False) == b"y":
                    return False
            except OSError as error:
                if error.errno == errno.ENOENT:
                    return True
                if error.errno != errno.ENODATA:
                    raise
        return os.path.isdir(f"{self._lower}/{inside}")

    def _move(self, source: str, target: str, flags: int) -> int:
        try:
            there = os.lstat(target)
        except FileNotFoundError:
            pass
        else:
            if flags & _NOREPLACE:
                return -errno.EEXIST
            if not stat.S_ISDIR(there.st_mode):
                return -errno.ENOTDIR
            if os.listdir(target):
                return -errno.ENOTEMPTY
            # An empty directory of the lower layer could not be replaced either.
            os.rmdir(target)
        staging, before = f"{self._root}/{_STAGING}{os.urandom(8).hex()}", os.stat(self._root)
        try:
            os.mkdir(staging, 0o700)
            linked = self._link_tree(source, f"{staging}/moved")
            os.rename(f"{staging}/moved", target)
        finally:
            _remove_tree(staging)
            if self._root not in (os.path.dirname(source), os.path.dirname(target)):
                os.utime(self._root, ns=(before.st_atime_ns, before.st_mtime_ns))
        self._leave(source, target, linked)
        return 0

    def _find_inode(self, place: str) -> int:
        """Give the inode number of a file in the upper layer: two names of one may show different ones in the tree."""
        return os.lstat(self._upper + place[len(self._root) :]).st_ino

    def _link_tree(self, source: str, made: str) -> dict[str, int]:
        """Make a directory like another, with the same files under further names; give their old paths and inodes."""
        linked: dict[str, int] = {}
        pending = [(source, made)]
        finished: list[tuple[str, str]] = []
        while pending:
            here, there = pending.pop()
            os.mkdir(there, 0o700)
            finished.append((here, there))
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append((entry.path, f"{there}/{entry.name}"))
                    else:
                        os.link(entry.path, f"{there}/{entry.name}", follow_symlinks=False)
                        linked[entry.path] = self._find_inode(f"{there}/{entry.name}")
        for here, there in reversed(finished):
            found = os.stat(here)
            for name in os.listxattr(here):
                os.setxattr(there, name, os.getxattr(here, name))
            if (found.st_uid, found.st_gid) != (os.geteuid(), os.getegid()):
                os.chown(there, found.st_uid, found.st_gid)
            os.chmod(there, stat.S_IMODE(found.st_mode))
            os.utime(there, ns=(found.st_atime_ns, found.st_mtime_ns))
        return linked

    def _leave(self, source: str, target: str, linked: dict[str, int]) -> None:
        """Empty and remove a directory whose files have other names by now; what was made there since goes along."""
        rounds = _ROUNDS
        pending = [(source, target, False)]
        while pending:
            here, there, is_empty = pending.pop()
            try:
                if is_empty:
                    os.rmdir(here)
                    continue
                pending.append((here, there, True))
                with os.scandir(here) as entries:
                    for entry in entries:
                        if entry.is_dir(follow_symlinks=False) and os.path.lexists(f"{there}/{entry.name}"):
                            pending.append((entry.path, f"{there}/{entry.name}", False))
                        else:
                            self._leave_entry(entry.path, f"{there}/{entry.name}", linked.get(entry.path))
            except OSError as error:
                if error.errno == errno.ENOTEMPTY and rounds:
                    rounds -= 1
                    pending.append((here, there, False))

    def _leave_entry(self, old: str, new: str, linked: int | None) -> None:
        """Remove a name that was linked, or give the new one to what a program has made there since."""
        if linked is not None and linked == self._find_inode(old):
            os.unlink(old)
        elif not os.path.lexists(new) or linked == self._find_inode(new):
            os.rename(old, new)


def _read_path(memory: int, address: int) -> str:
    data = b""
    while len(data) < _PATH_MAX:
        piece = os.pread(memory, 4096 - address % 4096, address)  # no further than the page: the next may not be there
        if not piece:
            raise OSError(errno.EFAULT, "")
        text, end, _ = piece.partition(b"\0")
        data += text
        if end:
            break
        address += len(piece)
    if not data:
        raise OSError(errno.ENOENT, "")
    return os.fsdecode(data)


def _place(pid: int, directory: int | None, path: str) -> str:
    """Name what a process means by a path."""
    path = path.rstrip("/") or "/"
    if path.startswith("/"):
        return f"/proc/{pid}/root{path}"
    if directory is None:
        return f"/proc/{pid}/cwd/{path}"
    number = ctypes.c_int(directory & 0xFFFFFFFF).value
    return f"/proc/{pid}/cwd/{path}" if number == _AT_FDCWD else f"/proc/{pid}/fd/{number}/{path}"


def _real(place: str) -> str:
    """Resolve the directory that a name is in. Raises OSError for names that cannot be renamed."""
    above, name = os.path.split(place)
    if name in ("", ".", ".."):
        raise OSError(errno.EBUSY, "")
    fd = os.open(above, os.O_PATH | os.O_DIRECTORY)
    try:
        return f"{os.readlink(f'/proc/self/fd/{fd}').rstrip('/')}/{name}"
    finally:
        os.close(fd)


def _remove_tree(root: str) -> None:
    """Remove a directory with all that is below it, as far as that can be done."""
    pending = [(root, False)]
    while pending:
        here, is_empty = pending.pop()
        try:
            if is_empty:
                os.rmdir(here)
                continue
            pending.append((here, True))
            with os.scandir(here) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append((entry.path, False))
                    else:
                        os.unlink(entry.path)
        except OSError:  # what stays has another name by now, or none that counts
            continue

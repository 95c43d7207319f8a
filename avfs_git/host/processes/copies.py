"""The programs that use a mount, and the copies of it that other mount namespaces have.

Decided here: when a mount that was taken away lives on only because a namespace was made meanwhile. A new mount
namespace (a container, a sandbox, `unshare --mount`) begins with copies of all mounts there are, and unmounting one of
them leaves the others. So the file system, and with it its server, goes on for as long as that namespace, although no
program there may ever have looked at it. `session` asks.

Everything is read from /proc, and no file system is asked: the server of one may be the caller. Processes that may not
be looked at are passed over. Any thread may call.

A mount of overlayfs has no server that could leave: there, unused copies are taken away, by a thread that
enters their namespaces (`remove_copies`).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from avfs_git.host.mounts.mounts import Mounted, list_mounts
from avfs_git.host.processes.hold import uses
from avfs_git.host.processes.processes import describe
from avfs_git.values import NamedTuple

_CLONE_FS, _CLONE_NEWNS = 0x200, 0x20000  # linux/sched.h
_UMOUNT_NOFOLLOW = 8


def is_copy(found: Mounted, mounted: Mounted) -> bool:
    """Whether a mount shows the file system that another one shows, which may have ended since.

    The number of a device is given again, soon and to any file system, so that it says nothing without the source.
    """
    return (found.device, found.source) == (mounted.device, mounted.source)


def find_copy_users(mounted: Mounted) -> list[str] | None:
    """List the users of a mount that is gone here and has copies elsewhere, as `NAME (pid N)`.

    Return None if it has no copies.

    Programs that used it before it went are known by its number, which the kernel gives to another mount as soon as it
    is free. Users of that mount are not counted. A detached mount cannot be told apart from it.
    """
    processes = _list_processes()
    seen = _look(mounted, processes)
    if not seen.copies:
        return None
    for process, union in seen.unions:
        # Layers of a union are used without a program that shows it.
        if any(str(copy) in union.options for copy in seen.directories):
            return [f"overlayfs at {union.directory} (pid {process if process != 'self' else os.getpid()})"]
    users = _find_users(processes, seen.numbers, mounted)
    # meanwhile others have got some of them
    if users and not seen.numbers <= (still := _look(mounted, processes).numbers):
        users = _find_users(processes, seen.numbers & still, mounted)
    return users


def find_numbers(mounted: Mounted) -> set[int]:
    """List the numbers that a mount and its copies have, in all mount namespaces that this user may look at."""
    return _look(mounted, _list_processes()).numbers


def find_users(mounted: Mounted) -> list[str]:
    """List the programs that use a mount of this namespace, as `NAME (pid N)`: those that this user may look at."""
    return _find_users(_list_processes(), {mounted.number}, mounted)


def _list_processes() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdigit()]


class _Seen(NamedTuple):
    """What the tables of all mount namespaces say."""

    copies: list[Mounted]
    numbers: set[int]
    """Those that mounts of the file system have, the one that is gone included unless another one has its number."""
    directories: set[Path]
    unions: list[tuple[str, Mounted]]
    """Mounts of overlayfs, each with a process that has it."""


def _look(mounted: Mounted, processes: list[str]) -> _Seen:
    all_mounts = [("self", found) for found in list_mounts()]
    for process, mounts in _other_namespaces(processes):
        all_mounts += [(process, found) for found in mounts]
    copies = [found for process, found in all_mounts if process != "self" and is_copy(found, mounted)]
    numbers = {found.number for found in copies}
    if all(found.number != mounted.number or is_copy(found, mounted) for _, found in all_mounts):
        numbers.add(mounted.number)
    unions = [(process, found) for process, found in all_mounts if found.kind == "overlay"]
    return _Seen(copies, numbers, {mounted.directory, *(copy.directory for copy in copies)}, unions)


def _find_users(processes: list[str], numbers: set[int], mounted: Mounted) -> list[str]:
    mapped = b" %02x:%02x " % mounted.device
    return [describe(process) for process in processes if uses(os.fsencode(f"/proc/{process}"), numbers, mapped)]


def _other_namespaces(processes: list[str]) -> Iterator[tuple[str, list[Mounted]]]:
    """Yield the mounts of each other mount namespace, with a process that is in it."""
    seen = {os.stat("/proc/self/ns/mnt").st_ino}
    for process in processes:
        try:
            namespace = os.stat(f"/proc/{process}/ns/mnt").st_ino
            if namespace in seen:
                continue
            mounts = list_mounts(process)
        except OSError:  # it ended, or is another user's
            continue
        seen.add(namespace)
        yield process, mounts


def find_copies(is_meant: Callable[[Mounted], bool]) -> list[tuple[str, Mounted]]:
    """List the mounts of other mount namespaces that are meant, each with a process that is there."""
    return [
        (process, mounted)
        for process, mounts in _other_namespaces(_list_processes())
        for mounted in mounts
        if is_meant(mounted)
    ]


def describe_copies(mounted: Mounted) -> list[str]:
    """Name for each copy of a mount a process that is in its namespace."""
    return [
        f"the mount namespace of {describe(process)}" for process, _ in find_copies(partial(is_copy, mounted=mounted))
    ]


def remove_copies(is_meant: Callable[[Mounted], bool]) -> None:
    """Take unused mounts of other namespaces away, as far as the system allows. Root only."""
    copies = find_copies(is_meant)
    if copies:
        thread = threading.Thread(target=_remove, args=(copies,), name="avfs-copies", daemon=True)
        thread.start()
        thread.join()


def _remove(copies: list[tuple[str, Mounted]]) -> None:
    """Enter namespaces and unmount there, in a thread that ends in the last of them."""
    import ctypes  # noqa: PLC0415 - only where there are copies

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_FS):  # a process that shares its directory with others cannot leave
        return
    for process, mounted in copies:
        try:
            namespace = os.open(f"/proc/{process}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # it ended
            continue
        try:
            if libc.setns(namespace, _CLONE_NEWNS):
                continue
            if os.stat(mounted.directory).st_dev == os.makedev(*mounted.device):  # there, too, it is what was found
                libc.umount2(os.fsencode(mounted.directory), _UMOUNT_NOFOLLOW)
        except OSError:  # nothing is there any more
            continue
        finally:
            os.close(namespace)

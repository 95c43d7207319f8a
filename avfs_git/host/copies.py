"""Mounts that other mount namespaces have copies of, and whether anybody uses those.

Decided here: when a mount that was taken away lives on only because a namespace was made meanwhile. A new mount namespace
(a container, a sandbox, `unshare --mount`) begins with copies of all mounts there are, and unmounting one of them leaves the
others. So the file system, and with it its server, goes on for as long as that namespace, although nobody there may ever
have looked at it. `session` asks.

Everything is read from /proc, and no file system is asked: the server of one may be who asks here. Processes that may not be
looked at are passed over. Any thread may call.
"""

from __future__ import annotations

import os

from avfs_git.host.mounts import list_mounts
from avfs_git.host.processes import describe

_MOUNT_ID = b"mnt_id:"


def find_copy_users(device: tuple[int, int], number: int) -> list[str] | None:
    """List who uses a mount that is gone from this namespace and has copies in others, as `NAME (pid N)`; None if it has none.

    Args:
        device: The number of its file system.
        number: Its own number, which programs that used it before it went still have.
    """
    processes = [name for name in os.listdir("/proc") if name.isdigit()]
    numbers = {number}
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
        copies = [mounted for mounted in mounts if mounted.device == device]
        for mounted in mounts:
            # Layers of a union are used without a program that shows it.
            if mounted.kind == "overlay" and any(str(copy.directory) in mounted.options for copy in copies):
                return [f"overlayfs at {mounted.directory} (pid {process})"]
        numbers.update(copy.number for copy in copies)
    if len(numbers) == 1:
        return None
    mapped = b" %02x:%02x " % device
    return [describe(process) for process in processes if _uses(os.fsencode(f"/proc/{process}"), numbers, mapped)]


def _uses(process: bytes, numbers: set[int], mapped: bytes) -> bool:
    for link in (b"/cwd", b"/root"):
        try:
            fd = os.open(process + link, os.O_PATH | os.O_CLOEXEC)  # held, not looked into: its server is not asked
        except OSError:
            continue
        try:
            if _mount_of(b"/proc/self/fdinfo/%d" % fd) in numbers:
                return True
        finally:
            os.close(fd)
    try:
        for name in os.listdir(process + b"/fdinfo"):
            if _mount_of(process + b"/fdinfo/" + name) in numbers:
                return True
        with open(process + b"/maps", "rb") as maps:
            return any(mapped in line for line in maps)
    except OSError:  # it ended, or is another user's
        return False


def _mount_of(fdinfo: bytes) -> int | None:
    try:
        with open(fdinfo, "rb") as file:
            for line in file:
                if line.startswith(_MOUNT_ID):
                    return int(line[len(_MOUNT_ID) :])
    except OSError:  # it was closed
        pass
    return None

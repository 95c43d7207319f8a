"""What a process passes on to those that it starts, as values that can be compared.

Decided here: what makes two processes alike for a process that one of them starts instead of the other: users and
groups, rights, the namespaces and the control group they are in, their root, limits and place in the queue for a
processor. All of it belongs to a thread on Linux and may change at any time. The environment and the umask, which are
given to a process as easily as they are inherited, are not among it. Functions without state, from any thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress

from avfs_git.host.files.closing import closing_fd

_SAME = frozenset(
    b"Uid Gid Groups CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs Seccomp Seccomp_filters Cpus_allowed "
    b"Mems_allowed".split()
)
"""Lines of /proc/PID/status that count: proc_pid_status(5)."""
_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid_for_children", "time_for_children", "user", "uts")
_TEXTS = ("cgroup", "limits", "oom_score_adj")


def read_inherited(pid: int, thread: int) -> tuple[object, int]:
    """Read what a process that this thread starts would inherit, and its umask.

    Returns:
        A value that is equal for processes that pass on the same, and the umask.

    Raises:
        OSError: If there is no such thread, or this process may not look at it.
        ValueError: If the system does not tell all of it.
    """
    place = f"/proc/{pid}/task/{thread}"
    umask, status = None, []
    for line in _read(f"{place}/status").splitlines():
        name, _, value = line.partition(b":")
        if name in _SAME:
            status.append((name, value.split()))
        elif name == b"Umask":
            umask = int(value, 8)
    if umask is None:
        raise ValueError("the system does not tell the umask")
    root = os.stat(f"{place}/root")
    seen = (
        status,
        [_number(f"{place}/ns/{name}") for name in _NAMESPACES],
        [_read(f"{place}/{name}") for name in _TEXTS],
        _label(place),
        (root.st_dev, root.st_ino),
        (
            os.sched_getscheduler(thread),
            os.sched_getparam(thread).sched_priority,
            os.getpriority(os.PRIO_PROCESS, thread),
        ),
    )
    return seen, umask


def is_proc_ours() -> bool:
    """Whether /proc numbers processes as this one does: not where it was mounted in another PID namespace."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def close_others(kept: int) -> None:
    """Let go of all descriptors but one and the standard ones."""
    for name in os.listdir("/proc/self/fd"):
        if int(name) > 2 and int(name) != kept:
            with suppress(OSError):  # that of the listing
                os.close(int(name))


def read_environment() -> dict[bytes, bytes]:
    """Give the environment that a process started now would get, to pass it on; nothing here looks into it."""
    return dict(os.environb)


def take_environment(environment: Mapping[bytes, bytes]) -> None:
    """Make an environment that of this process, of which nothing stays where it began: the caller writes there."""
    for name in [name for name in os.environb if name not in environment]:
        del os.environb[name]
    for name, value in environment.items():
        if name:  # one without a name cannot be set
            os.environb[name] = value
    time.tzset()


def _number(path: str) -> int | None:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:  # this kernel has no such namespace
        return None


def _read(path: str) -> bytes:
    with closing_fd(os.open(path, os.O_RDONLY | os.O_CLOEXEC)) as fd:
        data = b""
        while piece := os.read(fd, 1 << 16):
            data += piece
        return data


def _label(place: str) -> bytes | None:
    """Read what a security module calls it, where there is one."""
    try:
        return _read(f"{place}/attr/current")
    except OSError:
        return None

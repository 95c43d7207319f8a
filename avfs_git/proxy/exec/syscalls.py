"""The system calls that an isolated command does not get: a filter for seccomp(2), as bubblewrap takes it.

Decided here: which calls. They are kernel interfaces that reach beyond namespaces (the keyrings of the user, the
kernel's tracing) or that few programs need and many break-outs began with (io_uring, user namespaces, userfaultfd).
Each answers ENOSYS, after which programs do without; so does every call of another architecture that the processor
knows, because its numbers mean other calls. Sockets are made of few families: others, such as AF_VSOCK, do not know
network namespaces. Pure functions.
"""

from __future__ import annotations

import struct
from typing import Final

_CLONE_NEWUSER: Final = 0x10000000  # linux/sched.h
_ENOSYS, _EAFNOSUPPORT = 38, 97
_FAMILIES: Final = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK."""
_RET_ALLOW, _RET_ERRNO = 0x7FFF0000, 0x00050000  # linux/seccomp.h
_LD_ABS, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06  # linux/bpf_common.h
_NUMBER_AT, _ARCH_AT, _FIRST_ARGUMENT_AT = 0, 4, 16  # struct seccomp_data; both architectures are little-endian
_X32: Final = 0x40000000
"""Numbers from here on are of the x32 interface, which a machine without it has not got either."""

_NEW = {"io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "clone3": 435}
"""Calls with one number everywhere. Without clone3, whose flags a filter cannot see, programs use clone."""
_CALLS: Final = {
    # machine: (AUDIT_ARCH_…, the numbers of clone and socket, those of what is refused)
    "x86_64": (
        0xC000003E,
        (56, 41),
        {
            **_NEW,
            "add_key": 248,
            "request_key": 249,
            "keyctl": 250,
            "unshare": 272,
            "perf_event_open": 298,
            "setns": 308,
            "bpf": 321,
            "userfaultfd": 323,
        },
    ),
    "aarch64": (
        0xC00000B7,
        (220, 198),
        {
            **_NEW,
            "unshare": 97,
            "add_key": 217,
            "request_key": 218,
            "keyctl": 219,
            "perf_event_open": 241,
            "setns": 268,
            "bpf": 280,
            "userfaultfd": 282,
        },
    ),
}


def make_filter(machine: str) -> bytes | None:
    """Assemble the filter for a machine, as `os.uname` names it; None for one whose calls are not known here."""
    known = _CALLS.get(machine)
    if known is None:
        return None
    arch, (clone, make_socket), refused = known
    # Each step is (operation, steps to skip if true, if false, value). The last two are: allow, refuse.
    clones = [(_JEQ, 0, 2, clone), (_LD_ABS, 0, 0, _FIRST_ARGUMENT_AT), (_JSET, 1, 0, _CLONE_NEWUSER)]
    sockets = [(_JEQ, 0, len(_FAMILIES) + 2, make_socket), (_LD_ABS, 0, 0, _FIRST_ARGUMENT_AT)]
    sockets += [(_JEQ, len(_FAMILIES) - place + len(clones), 0, family) for place, family in enumerate(_FAMILIES)]
    sockets.append((_RET, 0, 0, _RET_ERRNO | _EAFNOSUPPORT))
    numbers, rest = sorted(refused.values()), len(sockets) + len(clones)
    steps = [
        (_LD_ABS, 0, 0, _ARCH_AT),
        (_JEQ, 1, 0, arch),
        (_RET, 0, 0, _RET_ERRNO | _ENOSYS),
        (_LD_ABS, 0, 0, _NUMBER_AT),
    ]
    steps.append((_JGE, len(numbers) + rest + 1, 0, _X32))
    steps += [(_JEQ, len(numbers) - place + rest, 0, number) for place, number in enumerate(numbers)]
    steps += [*sockets, *clones, (_RET, 0, 0, _RET_ALLOW), (_RET, 0, 0, _RET_ERRNO | _ENOSYS)]
    return b"".join(struct.pack("<HBBI", *step) for step in steps)

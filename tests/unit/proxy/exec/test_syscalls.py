"""The filter for isolated commands, on a machine that executes it as seccomp(2) says."""

from __future__ import annotations

import struct

import pytest

from avfs_git.proxy.exec.syscalls import make_filter

ALLOWED, REFUSED, NO_FAMILY = 0x7FFF0000, 0x00050000 | 38, 0x00050000 | 97
X86_64, I386, AARCH64 = 0xC000003E, 0x40000003, 0xC00000B7


def judge(program: bytes, arch: int, number: int, argument: int = 0) -> int:
    """Execute a filter for one system call."""
    data = struct.pack("<IIQQ", number, arch, 0, argument)
    steps = list(struct.iter_unpack("<HBBI", program))
    at = held = 0
    while True:
        code, if_true, if_false, value = steps[at]
        at += 1
        if code == 0x06:
            return int(value)
        if code == 0x20:
            (held,) = struct.unpack_from("<I", data, value)
        else:
            matches = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[code]
            at += if_true if matches else if_false


@pytest.mark.parametrize(
    ("machine", "arch", "refused", "allowed", "clone"),
    [
        (
            "x86_64",
            X86_64,
            (248, 249, 250, 272, 298, 308, 321, 323, 425, 426, 427, 435),
            (0, 1, 2, 57, 59, 101, 424, 428),
            56,
        ),
        (
            "aarch64",
            AARCH64,
            (97, 217, 218, 219, 241, 268, 280, 282, 425, 426, 427, 435),
            (56, 57, 63, 64, 117, 221),
            220,
        ),
    ],
)
def test_each_call_is_judged(
    machine: str, arch: int, refused: tuple[int, ...], allowed: tuple[int, ...], clone: int
) -> None:
    """What reaches beyond namespaces is refused, and so is making a user namespace.

    What programs are made of is not.
    """
    program = make_filter(machine)
    assert program is not None
    assert {judge(program, arch, number) for number in refused} == {REFUSED}
    assert {judge(program, arch, number) for number in (*allowed, clone)} == {ALLOWED}
    assert judge(program, arch, clone, 0x10000000 | 17) == REFUSED
    assert judge(program, arch, clone, 0x01200011) == ALLOWED  # fork(3) of glibc


@pytest.mark.parametrize(("machine", "arch", "make_socket"), [("x86_64", X86_64, 41), ("aarch64", AARCH64, 198)])
def test_sockets_are_of_families_that_know_namespaces(machine: str, arch: int, make_socket: int) -> None:
    """Unix, IPv4, IPv6 and netlink; not those to a hypervisor, to the kernel's ciphers or to devices."""
    program = make_filter(machine)
    assert program is not None
    found = {family for family in range(64) if judge(program, arch, make_socket, family) == ALLOWED}
    assert found == {1, 2, 10, 16}
    assert judge(program, arch, make_socket, 40) == NO_FAMILY


@pytest.mark.parametrize(("machine", "arch"), [("x86_64", I386), ("aarch64", X86_64)])
def test_calls_of_another_architecture_are_refused(machine: str, arch: int) -> None:
    """Their numbers mean other calls, so that all are; also those of the x32 interface."""
    program = make_filter(machine)
    assert program is not None
    assert {judge(program, arch, number) for number in range(500)} == {REFUSED}
    assert judge(program, X86_64 if machine == "x86_64" else AARCH64, 0x40000000 + 1) == REFUSED


def test_a_machine_that_is_not_known_has_no_filter() -> None:
    """Numbers are not guessed."""
    assert make_filter("riscv64") is None

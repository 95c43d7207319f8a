"""Descriptors: waited for, that come over a socket, and room for them."""

from __future__ import annotations

import fcntl
import os
import resource
import socket

from avfs_git.host.processes.descriptors import is_readable, make_room, receive_descriptors


def test_what_comes_stays_in_this_process() -> None:
    """Each descriptor that came is closed on exec, and is what was sent."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        reading, writing = os.pipe()
        socket.send_fds(theirs, [b"one"], [reading, writing])
        data, descriptors, is_cut = receive_descriptors(ours, 16, 2)
        for fd in (reading, writing):
            os.close(fd)

    assert (data, is_cut) == (b"one", False)
    assert [os.get_inheritable(fd) for fd in descriptors] == [False, False]
    os.write(descriptors[1], b"x")
    assert os.read(descriptors[0], 1) == b"x"
    for fd in descriptors:
        os.close(fd)


def test_more_than_there_is_room_for_is_told() -> None:
    """What found no room was closed by the kernel, and the caller knows."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        socket.send_fds(theirs, [b"many"], [ours.fileno()] * 20)
        data, descriptors, is_cut = receive_descriptors(ours, 16, 2)
    for fd in descriptors:
        os.close(fd)

    assert data == b"many"
    assert is_cut


def test_the_end_is_nothing() -> None:
    """Nobody is there any more: no bytes, no descriptors."""
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours:
        assert receive_descriptors(ours, 16, 2) == (b"", [], False)


def test_room_is_made_before_it_is_needed() -> None:
    """The table of a process that was forked is large by then, and nothing more is open in it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        before = os.listdir("/proc/self/fd")
        make_room()
        with open("/proc/self/status", encoding="ascii") as status:
            size = next(line.split()[1] for line in status if line.startswith("FDSize:"))
        os.write(writing, f"{size} {os.listdir('/proc/self/fd') == before}".encode())
        os._exit(0)
    os.close(writing)
    with open(reading, encoding="ascii") as said:
        size, is_same = said.read().split()
    os.waitpid(pid, 0)

    assert int(size) >= min(4096, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    assert is_same == "True"


def test_a_descriptor_above_1023_is_waited_for() -> None:
    """select(2) knows none of these, and programs of many files have them."""
    reading, writing = os.pipe()
    high = fcntl.fcntl(reading, fcntl.F_DUPFD_CLOEXEC, 1100)
    assert not is_readable(high)
    os.write(writing, b"x")
    assert is_readable(high, 60)
    for fd in (reading, writing, high):
        os.close(fd)

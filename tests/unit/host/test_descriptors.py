"""Descriptors that come over a socket."""

from __future__ import annotations

import os
import socket

from avfs_git.host.descriptors import receive_descriptors


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

"""Who is at the other end of a socket: the kernel's word for a process of other namespaces, or that is gone."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.host.processes.peers import Peer, identify_peer

_CONNECT = (
    "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(flush=True); sys.stdin.read()"
)


@pytest.fixture
def listener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket in the current directory."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("s")
        made.listen()
        yield made


def identify(listener: socket.socket, *prefix: str, dead: bool = False) -> Peer:
    """Let a process connect, and tell what it is."""
    argv = [*prefix, sys.executable, "-c", _CONNECT, "s"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdout is not None
        assert client.stdin is not None
        assert client.stdout.readline() == b"\n"
        connection, _ = listener.accept()
        if dead:
            client.stdin.close()
            client.wait()
        with connection:
            return identify_peer(connection)


def test_a_process_beside_the_server_is_its_own(listener: socket.socket) -> None:
    """The same user in the same namespaces."""
    assert identify(listener) is Peer.OWN


def test_a_process_that_has_ended_is_nobody(listener: socket.socket) -> None:
    """Its number may be another process's by now."""
    assert identify(listener, dead=True) is Peer.APART


@pytest.mark.needs("userns")
@pytest.mark.parametrize("namespaces", [("--mount",), ("--pid", "--fork", "--kill-child")])
def test_a_process_in_another_namespace_is_apart(listener: socket.socket, namespaces: tuple[str, ...]) -> None:
    """One other namespace is enough, and being root in a user namespace of one's own changes nothing."""
    assert identify(listener, "unshare", "--user", "--map-root-user", *namespaces) is Peer.APART

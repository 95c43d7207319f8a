"""Passwords: git asks a person on the terminal, and nobody else."""

from __future__ import annotations

import os
import pty
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.host.processes.descriptors import is_readable
from tests.support.servers import Server, make_bare, serve_http

pytestmark = pytest.mark.needs("git")

_PATIENCE_S = 120.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server with one repository, which lets in who knows a password."""
    (tmp_path / "served").mkdir()
    bare = make_bare(tmp_path / "served" / "shop.git")
    with Avfs(tmp_path / "maker") as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write("file", b"content\n")
        vault.workspace().checkpoint()
        vault.add_remote("origin", str(bare))
        vault.push()
    with serve_http(tmp_path / "served", credentials="ada:sesame") as found:
        yield found


class Terminal:
    """A program on a terminal of its own, and what somebody types there."""

    def __init__(self, environment: Mapping[str, str], *arguments: str, stdin: Path | None = None) -> None:
        """Start `avfs`; its standard input is the terminal, or a file."""
        self.shown = b""
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            try:
                if stdin is not None:
                    os.dup2(os.open(stdin, os.O_RDONLY), 0)
                os.execve(sys.executable, [sys.executable, "-m", "avfs_git", *arguments], dict(environment))
            finally:
                os._exit(99)

    def wait_for(self, text: bytes) -> None:
        """Read until something is shown."""
        end = time.monotonic() + _PATIENCE_S
        while text not in self.shown:
            assert self._read(end), self.shown

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._fd, text.encode() + b"\n")

    def end(self) -> int:
        """Read to the end; give the exit status."""
        end = time.monotonic() + _PATIENCE_S
        while self._read(end):
            pass
        os.close(self._fd)
        return os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def _read(self, end: float) -> bool:
        assert is_readable(self._fd, end - time.monotonic()), self.shown
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # EIO: nobody has the terminal open any more
            data = b""
        self.shown += data
        return bool(data)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The surroundings of somebody without any settings."""
    (tmp_path / "user").mkdir()
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return {**kept, "HOME": str(tmp_path / "user"), "AVFS_HOME": str(tmp_path / "home"), "TERM": "xterm"}


def test_a_person_is_asked(server: Server, environment: dict[str, str]) -> None:
    """User and password are typed as git asks for them, the password unseen; a wrong one is told."""
    person = Terminal(environment, "clone", server.url("shop.git"), "shop")
    person.wait_for(b"Username for ")
    person.type("ada")
    person.wait_for(b"Password for ")
    person.type("sesame")

    assert person.end() == 0, person.shown
    assert b"sesame" not in person.shown

    mistaken = Terminal(environment, "clone", server.url("shop.git"), "again")
    mistaken.wait_for(b"Username for ")
    mistaken.type("ada")
    mistaken.wait_for(b"Password for ")
    mistaken.type("wrong")

    assert mistaken.end() == 94
    assert b"Authentication failed" in mistaken.shown


@pytest.mark.parametrize("who", ["no input", "json", "refused"])
def test_nobody_else_is_asked(server: Server, environment: dict[str, str], who: str) -> None:
    """Without a person at the terminal, for programs, and where the environment says so, it fails at once."""
    flags = ["--json"] if who == "json" else []
    if who == "refused":
        environment["GIT_TERMINAL_PROMPT"] = "0"
    program = Terminal(
        environment,
        *flags,
        "clone",
        server.url("shop.git"),
        "shop",
        stdin=Path(os.devnull) if who == "no input" else None,
    )

    assert program.end() == 94, program.shown
    assert b"Username for 'http" not in program.shown.replace(b"could not read Username for 'http", b"")

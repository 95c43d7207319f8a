"""A live tree for a test: a vault with a fork, a server process behind a mount, and programs that run in it.

Nothing outlives the `with` block: the mount is taken away, lazily if it is in use, and the server is ended by its pid.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from avfs_git.model import Identity
from avfs_git.sdk import Avfs
from tests.support.capabilities import unmount

PROJECT = Path(__file__).parents[2]
FORK = "work"
_IMPORTS = "import ctypes, errno, fcntl, json, mmap, os, random, stat, subprocess, sys\ntree = os.environ['TREE']"
ADA = Identity("Ada Author", "ada@example.org")


class ShownTree:
    """One workspace that is shown as a directory.

    Attributes:
        home: Where its vault is.
        path: Where it is shown.
    """

    def __init__(self, home: Path, path: Path) -> None:
        self.home = home
        self.path = path

    def run(
        self, *argv: str | bytes, cwd: Path | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a program in the tree."""
        return run_in(cwd or self.path, argv, check=check)

    def python(self, code: str) -> str:
        """Run some Python in the tree, in a process of its own."""
        argv = [sys.executable, "-c", f"{_IMPORTS}\n{code}"]
        return run_in(Path("/"), argv, TREE=str(self.path)).stdout.decode()

    def unmount(self) -> None:
        """Show it no longer."""


class LiveTree(ShownTree):
    """One mounted workspace.

    Attributes:
        server: The process behind it.
    """

    def __init__(self, home: Path, path: Path, server: subprocess.Popen[str]) -> None:
        super().__init__(home, path)
        self.server = server

    def counts(self) -> dict[str, int]:
        """Ask the server how many requests of each kind it has had."""
        self.server.send_signal(signal.SIGUSR1)
        return dict(json.loads(_line(self.server.stdout)))

    def unmount(self) -> None:
        """End the mount as a user does, and wait for the server, which has nothing to complain of."""
        said = self.end()
        assert not said, said

    def end(self) -> str:
        """End the mount as a user does, and wait for the server; gives what it complained of."""
        umount(self.path)
        _, said = self.server.communicate()
        assert self.server.returncode == 0, said
        return str(said)


def _line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def umount(path: Path) -> None:
    """Take a mount away by hand."""
    run_in(Path("/"), ["umount" if os.geteuid() == 0 else "fusermount3", *(["-u"] if os.geteuid() else []), str(path)])


def run_in(
    cwd: Path, argv: Sequence[str | bytes], *, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a program in a directory."""
    env = {**os.environ, "HOME": "/dev/null", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    done = subprocess.run(argv, check=False, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True)
    if check and done.returncode:
        raise AssertionError(f"{argv!r} ended with {done.returncode}\n{done.stdout.decode()}{done.stderr.decode()}")
    return done


def make_vault(home: Path, source: Path) -> None:
    """Make a vault of a directory, with a fork."""
    with Avfs(home, identity=ADA) as avfs, avfs.create_vault("v", source=source) as vault:
        vault.fork(FORK).close()


@contextmanager
def live_tree(root: Path, source: Path, *options: str) -> Iterator[LiveTree]:
    """Make a vault of a directory, fork it and mount the fork.

    Args:
        root: A scratch directory outside of pytest's own (`mount_dir`).
        source: What the vault begins with.
        *options: Options of `tests.support.live_server`; with `supervised`, of `tests.support.supervised_server`.
    """
    home, path = root / "home", root / "tree"
    path.mkdir()
    make_vault(home, source)
    git_dir = home / "vaults" / "v.git"
    with mounted(git_dir, home, path, *options) as tree:
        yield tree


@contextmanager
def mounted(git_dir: Path, home: Path, path: Path, *options: str) -> Iterator[LiveTree]:
    """Mount a fork that is there."""
    module = "tests.support.supervised_server" if "supervised" in options else "tests.support.live_server"
    server = subprocess.Popen(
        [sys.executable, "-m", module, git_dir, FORK, path, *options],
        cwd=PROJECT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/dev/null"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        if _line(server.stdout) != "ready\n":
            raise AssertionError(f"the server did not start:\n{server.communicate()[1]}")
        yield LiveTree(home, path, server)
    finally:
        unmount(path)
        if server.poll() is None:
            server.kill()
        server.communicate()


def describe(directory: Path) -> dict[bytes, tuple[object, ...]]:
    """Describe everything in a directory: type, permissions, link count of files, and content, target or attributes."""
    found: dict[bytes, tuple[object, ...]] = {}
    base = os.fsencode(directory)
    for here, dirs, files in os.walk(base):
        for name in [*dirs, *files]:
            place = os.path.join(here, name)
            status = os.lstat(place)
            about: tuple[object, ...] = ()
            if stat.S_ISREG(status.st_mode):
                with open(place, "rb") as file:
                    about = (status.st_nlink, status.st_size, file.read())
            elif stat.S_ISLNK(status.st_mode):
                about = (os.readlink(place),)
            found[os.path.relpath(place, base)] = (stat.filemode(status.st_mode), *about)
    return found


def mode_and_content(about: tuple[object, ...]) -> tuple[int, object]:
    """Take permissions and content out of what `describe` found."""
    mode = about[0]
    assert isinstance(mode, str)
    bits = sum(1 << (8 - index) for index, letter in enumerate(mode[1:]) if letter != "-")
    return bits, about[-1] if len(about) > 1 else b""


def listed(directory: Path) -> list[list[str]]:
    """Describe everything in a directory as text."""
    return [[name.decode("latin-1"), *map(_text, about)] for name, about in sorted(describe(directory).items())]


def _text(value: object) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)

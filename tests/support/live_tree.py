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
from tests.support.capabilities import NOBODY, unmount

PROJECT = Path(__file__).parents[2]
FORK = "work"
_IMPORTS = "import ctypes, errno, fcntl, json, mmap, os, random, stat, subprocess, sys\ntree = os.environ['TREE']"
ADA = Identity("Ada Author", "ada@example.org")


class ShownTree:
    """One workspace that is shown as a directory.

    Attributes:
        home: Where its vault is.
        path: Where it is shown.
        user: Who shows it, None for this process's user; only this one may look inside.
    """

    def __init__(self, home: Path, path: Path, user: int | None) -> None:
        self.home = home
        self.path = path
        self.user = user

    def run(self, *argv: str | bytes, cwd: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[bytes]:
        """Run a program in the tree as the user who mounted it."""
        return run_as(self.user, argv, cwd or self.path, check=check)

    def python(self, code: str) -> str:
        """Run some Python in the tree, in a process of its own, as the user who mounted it."""
        if self.user is not None:
            # It becomes that user by itself, who may not be able to reach the interpreter.
            ids = ", ".join([str(self.user)] * 3)
            code = f"os.setgroups([])\nos.setresgid({ids})\nos.setresuid({ids})\n{code}"
        code = f"{_IMPORTS}\n{code}"
        return run_as(None, [sys.executable, "-c", code], Path("/"), TREE=str(self.path)).stdout.decode()

    def unmount(self) -> None:
        """Show it no longer."""


class LiveTree(ShownTree):
    """One mounted workspace.

    Attributes:
        server: The process behind it.
    """

    def __init__(self, home: Path, path: Path, server: subprocess.Popen[str], user: int | None) -> None:
        super().__init__(home, path, user)
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
        argv = ["umount", str(self.path)] if self.user is None else ["fusermount3", "-u", str(self.path)]
        run_as(self.user, argv, Path("/"))
        _, said = self.server.communicate()
        assert self.server.returncode == 0, said
        return str(said)


def _line(stream: IO[str] | None) -> str:
    assert stream is not None
    return stream.readline()


def run_as(
    user: int | None, argv: Sequence[str | bytes], cwd: Path, *, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a program as somebody."""
    env = {**os.environ, "HOME": "/nonexistent", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    identity: dict[str, object] = {}
    if user is not None:
        # The user's own process goes there: this one may not even look into the user's mount.
        argv, cwd = ["sh", "-c", 'cd "$0" && exec "$@"', os.fsdecode(cwd), *argv], Path("/")
        identity = {"user": user, "group": user, "extra_groups": []}
    done = subprocess.run(argv, check=False, cwd=cwd, env=env, stdin=subprocess.DEVNULL, capture_output=True, **identity)  # type: ignore[call-overload]
    if check and done.returncode:
        raise AssertionError(f"{argv!r} ended with {done.returncode}\n{done.stdout.decode()}{done.stderr.decode()}")
    return done  # type: ignore[no-any-return]


def give_to(user: int, *places: Path) -> None:
    """Give everything below some places to a user, so that their own processes can use it."""
    for place in places:
        for here, dirs, files in os.walk(os.fsencode(place)):
            for name in [b".", *dirs, *files]:
                os.lchown(os.path.join(here, name), user, user)


def make_vault(home: Path, source: Path) -> None:
    """Make a vault of a directory, with a fork."""
    with Avfs(home, identity=ADA) as avfs, avfs.create_vault("v", source=source) as vault:
        vault.fork(FORK).close()


@contextmanager
def live_tree(root: Path, source: Path, *options: str, user: int | None = None) -> Iterator[LiveTree]:
    """Make a vault of a directory, fork it and mount the fork.

    Args:
        root: A scratch directory outside of pytest's own (`mount_dir`).
        source: What the vault begins with.
        *options: Options of `tests.support.live_server`; with `supervised`, of `tests.support.supervised_server`.
        user: Who serves and mounts; None for this process's user.
    """
    home, path = root / "home", root / "tree"
    path.mkdir()
    make_vault(home, source)
    if user is not None:
        root.chmod(0o755)
        give_to(user, home, path)
    git_dir = home / "vaults" / "v.git"
    with mounted(git_dir, home, path, *options, user=user) as tree:
        yield tree


@contextmanager
def mounted(git_dir: Path, home: Path, path: Path, *options: str, user: int | None = None) -> Iterator[LiveTree]:
    """Mount a fork that is there."""
    if user is not None:
        options = (*options, f"user={user}")
    module = "tests.support.supervised_server" if "supervised" in options else "tests.support.live_server"
    server = subprocess.Popen(
        [sys.executable, "-m", module, git_dir, FORK, path, *options],
        cwd=PROJECT,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        if _line(server.stdout) != "ready\n":
            raise AssertionError(f"the server did not start:\n{server.communicate()[1]}")
        yield LiveTree(home, path, server, user)
    finally:
        unmount(path)
        if server.poll() is None:
            server.kill()
        server.communicate()


def ordinary_user() -> int | None:
    """Name the user to be when an ordinary one is wanted: None if this process is one."""
    return NOBODY if os.geteuid() == 0 else None


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


def seen_inside(live: ShownTree) -> list[list[str]]:
    """Describe the tree as who mounted it sees it."""
    if live.user is None:
        return listed(live.path)
    found: list[list[str]] = json.loads(live.python(_DESCRIBE))
    return found


_DESCRIBE = """
found = []
base = os.fsencode(tree)
for here, dirs, files in os.walk(base):
    for name in [*dirs, *files]:
        place = os.path.join(here, name)
        status = os.lstat(place)
        about = []
        if stat.S_ISREG(status.st_mode):
            fd = os.open(place, os.O_RDONLY)
            data = b''
            while piece := os.read(fd, 1 << 20):
                data += piece
            about = [str(status.st_nlink), str(status.st_size), data.decode('latin-1')]
        elif stat.S_ISLNK(status.st_mode):
            about = [os.readlink(place).decode('latin-1')]
        found.append([os.path.relpath(place, base), stat.filemode(status.st_mode), *about])
print(json.dumps([[name.decode('latin-1'), *rest] for name, *rest in sorted(found)]))
"""

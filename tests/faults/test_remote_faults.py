"""Clone, fetch and push, interrupted by an error or death at every fault point, and by a connection that breaks off."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.errors import AvfsError, RemoteError
from tests.support.failing import FailAt, armed
from tests.support.faults import check_objects, check_vault, die_in
from tests.support.seeds import take_points
from tests.support.servers import git, make_bare, serve

pytestmark = [pytest.mark.slow, pytest.mark.needs("git", "user-xattrs", "whiteout")]

Refs = dict[str, str]


def refs_of(place: Path, prefix: str = "refs/") -> Refs:
    """List refs as git has them."""
    lines = git("for-each-ref", "--format=%(refname) %(objectname)", prefix, cwd=place).splitlines()
    return dict(line.split(" ") for line in lines)


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """A server with two branches, and a home whose vault has seen one of them and has another of its own."""
    bare = make_bare(tmp_path / "scene/served/shop.git")
    with Avfs(tmp_path / "scene/home") as avfs:
        vault = avfs.create_vault("v")
        vault.workspace().write("a", os.urandom(200_000))
        vault.workspace().checkpoint("one")
        vault.add_remote("origin", str(bare))
        vault.push()
        vault.fork("mine").write("b", os.urandom(200_000))
        vault.workspace("mine").checkpoint("two")
    work = tmp_path / "work"
    git("clone", "-q", str(bare), str(work), cwd=bare)
    (work / "c").write_bytes(os.urandom(200_000))
    git("add", ".", cwd=work)
    git("commit", "-q", "-m", "theirs", cwd=work)
    git("push", "-q", "origin", "HEAD:theirs", "HEAD:main", cwd=work)
    git("tag", "v1", cwd=work)
    git("push", "-q", "origin", "v1", cwd=work)
    return tmp_path / "scene"


def fetch(place: Path) -> None:
    """Fetch in the vault of a scene."""
    with Avfs(place / "home") as avfs, avfs.open_vault("v") as vault:
        vault.fetch()


def push(place: Path) -> None:
    """Push the vault's own fork."""
    with Avfs(place / "home") as avfs, avfs.open_vault("v") as vault:
        vault.push(["mine"], with_checkpoints=True, with_sidecar=True)


def clone(place: Path) -> None:
    """Clone the server into a second vault, if it is not there."""
    with Avfs(place / "home") as avfs:
        if not avfs.has_vault("w"):
            avfs.clone_vault(str(place / "served/shop.git"), "w")


def check_scene(place: Path) -> None:
    """Demand that both sides are whole."""
    check_objects(place / "served/shop.git")
    with Avfs(place / "home") as avfs:
        for info in avfs.list_vaults():
            with avfs.open_vault(info.name) as vault:
                check_vault(vault)


def state_of(place: Path) -> tuple[Refs, Refs, bool]:
    """Tell where the refs of both sides are, and whether there is a second vault."""
    return (
        refs_of(place / "served/shop.git"),
        refs_of(place / "home/vaults/v.git"),
        (place / "home/vaults/w.git").exists(),
    )


def copies(turn: int, scene: Path, tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """Make copies of the scene for the points of a turn, each at the same path: the remote's address is absolute."""
    kept = tmp_path / "kept"
    scene.rename(kept)
    for _, number in take_points(turn):
        if scene.exists():
            shutil.rmtree(scene)
        shutil.copytree(kept, scene, symlinks=True)
        yield number, scene


@pytest.mark.parametrize("operation", [fetch, push, clone])
def test_death_at_any_point_leaves_both_sides_whole(
    scene: Path, tmp_path: Path, operation: Callable[[Path], None]
) -> None:
    """Whatever point it dies at, git and the doctor find nothing wrong, and the same command then completes it."""
    for number, place in copies(0, scene, tmp_path):
        died = die_in(lambda place=place: operation(place), number)  # type: ignore[misc]  # a default binds the loop's value
        check_scene(place)
        operation(place)
        after = state_of(place)
        if not died:
            break

        check_scene(place)
        assert after == state_of(place)

    assert number > 3
    check_scene(place)


@pytest.mark.parametrize("stay", [False, True])
@pytest.mark.parametrize("operation", [fetch, push, clone])
def test_a_disk_that_fails_changes_nothing_here(
    scene: Path, tmp_path: Path, operation: Callable[[Path], None], stay: bool
) -> None:
    """Whatever point fails, the refs here are the old ones or all new, and the same command then completes it."""
    for number, place in copies(1 + stay, scene, tmp_path):
        handler = FailAt(number, lambda: OSError(errno.ENOSPC, "No space left on device"), stay=stay)
        failed = False
        try:
            with armed(handler):
                operation(place)
        except AvfsError:
            failed = True
        check_scene(place)
        operation(place)
        if not failed and len(handler.seen) < number:
            break

    assert number > 3
    check_scene(place)


# --- a connection that breaks off -------------------------------------------------------------------------------------


@contextmanager
def cutting(port: int, limits: tuple[int, int]) -> Iterator[int]:
    """Pass a server on at another port, and break off after so many bytes to it, or from it; 0 for no limit."""
    listener = socket.create_server(("127.0.0.1", 0))
    stopped = threading.Event()

    def pump(source: socket.socket, sink: socket.socket, limit: int) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(4096):
                passed += len(data)
                if limit and passed > limit:
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        while not stopped.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", port))
            threads = [
                threading.Thread(target=pump, args=(client, server, limits[0]), daemon=True),
                threading.Thread(target=pump, args=(server, client, limits[1]), daemon=True),
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(60)
            client.close()
            server.close()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        stopped.set()
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(60)


@pytest.mark.parametrize("operation", [fetch, push, clone])
def test_a_connection_that_breaks_off_changes_nothing(scene: Path, operation: Callable[[Path], None]) -> None:
    """Wherever the connection ends, refs are the old ones on both sides, and nothing is damaged.

    A second try completes the operation.
    """
    with serve("daemon", scene / "served") as server:
        port = int(server.base.rpartition(":")[2])
        before = state_of(scene)

        def run(address: str) -> None:
            with Avfs(scene / "home") as avfs, avfs.open_vault("v") as vault:
                if operation is clone:
                    avfs.clone_vault(address, "w")
                    return
                vault.set_remote_url("origin", address)
            operation(scene)

        for limit in (1, 300, 5_000, 100_000):
            limits = (limit, 0) if operation is push else (0, limit)
            with cutting(port, limits) as cut, pytest.raises(RemoteError):
                run(f"git://127.0.0.1:{cut}/shop.git")

            assert state_of(scene) == before
            check_scene(scene)
        run(server.url("shop.git"))

        assert state_of(scene) != before
        check_scene(scene)

"""What programs in a live tree notice of the death of its server: a pause."""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from avfs_git.fuse.channel import MAX_IO, Channel, Request
from avfs_git.fuse.handover.handover import Handover
from avfs_git.fuse.handover.supervisor import supervise
from avfs_git.host.mounts.mounts import mount_fuse
from avfs_git.host.processes.processes import find_survivors, waits_for_fuse
from avfs_git.sdk import Avfs
from tests.support.capabilities import unmount
from tests.support.faults import read_files
from tests.support.killing import PROGRAMS, Killer, prepare, run_programs, server_of
from tests.support.live_tree import ADA, FORK, LiveTree, describe, live_tree, mode_and_content
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"), pytest.mark.slow]

_SECONDS = 3.0
_EVERY_S = 0.25
_PROGRAMS = [
    *(pytest.param(names, id="+".join(names)) for names in (("read", "build", "clone"), ("tar", "sqlite"), ("names",))),
    pytest.param(("build", "clone"), marks=pytest.mark.ordinary, id="ordinary-build+clone"),
]
Mount = Callable[..., LiveTree]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """What the tree begins with, and beside it what programs bring with them."""
    return prepare(tmp_path)


@pytest.fixture
def mount(mount_dir: Path, source: Path) -> Iterator[Mount]:
    """Mount a tree below a supervisor."""
    with ExitStack() as stack:

        def enter(*options: str) -> LiveTree:
            made: AbstractContextManager[LiveTree] = live_tree(mount_dir, source, "supervised", *options)
            return stack.enter_context(made)

        yield enter


def _kill_server(tree: LiveTree) -> None:
    """Kill the server, and wait until there is another one."""
    old = server_of(tree)
    os.kill(old, signal.SIGKILL)
    while server_of(tree) == old:
        pass


def _attic(tree: LiveTree) -> list[Path]:
    return [
        path
        for path in (tree.home / "vaults").rglob("avfs-*")
        if path.parent.name == "work" and "whiteout" not in path.name
    ]


@pytest.mark.parametrize("names", _PROGRAMS)
def test_programs_go_on_while_servers_are_killed(mount: Mount, tmp_path: Path, names: tuple[str, ...]) -> None:
    """No program sees an error or a wrong byte, and the checkpoint afterwards holds what the tree showed."""
    assert set(names) <= PROGRAMS.keys()
    tree = mount()
    killer = Killer(tree.server.pid, _EVERY_S)
    with killer.at_work():
        run_programs(tree, tmp_path, _SECONDS, *names)
    shown = describe(tree.path)
    tree.end()

    assert killer.kills > 1  # on a slow machine there are few
    assert _attic(tree) == []
    with Avfs(tree.home, identity=ADA) as avfs, avfs.open_vault("v") as vault, vault.workspace(FORK) as work:
        work.checkpoint("after")
        with vault.fork("copy", source=FORK) as copy:
            found = read_files(copy)
    assert {path: (mode, content) for path, (_, mode, content) in found.items()} == {
        path: mode_and_content(about) for path, about in shown.items()
    }


@pytest.mark.usefixtures("person")
def test_changes_that_wait_for_a_large_copy_survive(mount: Mount, source: Path) -> None:
    """Wherever servers die while a large file is copied up, its pending changes are made once the copy is whole."""
    size = 8 << 20
    for name in ("written", "moved"):
        (source / name).write_bytes(name[:1].encode() * size)
    tree = mount()
    writing = (
        f"fd = os.open(tree + '/written', os.O_RDWR); assert os.pwrite(fd, b'!' * {1 << 20}, {1 << 20}) == {1 << 20}"
    )
    moving = "os.rename(tree + '/moved', tree + '/there')"
    with ThreadPoolExecutor(2) as programs:
        waiting = [programs.submit(tree.python, code) for code in (writing, moving)]
        kills = 0
        while kills < 5 and not all(program.done() for program in waiting):
            time.sleep(random.uniform(0, 0.05))  # another moment each time
            _kill_server(tree)
            kills += 1
        for program in waiting:
            program.result()
    written, moved = (tree.path / "written").read_bytes(), (tree.path / "there").read_bytes()
    tree.end()

    assert kills > 1
    assert (len(written), written.count(b"w"), written.count(b"!")) == (size, size - (1 << 20), 1 << 20)
    assert written[1 << 20 : 2 << 20].count(b"!") == 1 << 20
    assert (len(moved), moved.count(b"m")) == (size, size)
    assert _attic(tree) == []


def _facts(fd: int) -> tuple[int, ...]:
    """Tell of an open file what reading it leaves as it is: all but the time of last access."""
    found = os.fstat(fd)
    return (*found[:7], found.st_mtime_ns, found.st_ctime_ns)


@pytest.mark.usefixtures("person")
def test_open_files_without_a_name_survive(mount: Mount) -> None:
    """Unlinked, replaced and unnamed files can be read, written and counted as before.

    Afterwards nothing is left.
    """
    tree = mount()
    path = tree.path
    (path / "new").write_bytes(b"new")
    unlinked = os.open(path / "new", os.O_RDWR)
    lower = os.open(path / "base" / "d0" / "f1", os.O_RDWR)
    kept = os.pread(lower, 1000, 0)
    (path / "old").write_bytes(b"old")
    replaced = os.open(path / "old", os.O_RDWR)
    unnamed = os.open(path, os.O_TMPFILE | os.O_RDWR)
    os.write(unnamed, b"unnamed")
    os.mkdir(path / "dir", 0o711)
    directory = os.open(path / "dir", os.O_RDONLY)
    os.unlink(path / "new")
    os.unlink(path / "base" / "d0" / "f1")
    (path / "newer").write_bytes(b"newer")
    os.rename(path / "newer", path / "old")
    os.rmdir(path / "dir")
    before = [_facts(fd) for fd in (unlinked, lower, replaced, unnamed)]

    for _ in range(2):
        _kill_server(tree)

        assert [os.pread(fd, 1000, 0) for fd in (unlinked, lower, replaced, unnamed)] == [
            b"new",
            kept,
            b"old",
            b"unnamed",
        ]
        assert [_facts(fd) for fd in (unlinked, lower, replaced, unnamed)] == before
        assert (os.listdir(directory), stat.S_IMODE(os.fstat(directory).st_mode)) == ([], 0o711)

    os.pwrite(unlinked, b"N", 0)
    os.pwrite(lower, b"L", 0)
    _kill_server(tree)

    assert os.pread(unlinked, 10, 0) == b"New"
    assert os.pread(lower, 1000, 0) == b"L" + kept[1:]

    os.link(f"/proc/self/fd/{unnamed}", path / "named", src_dir_fd=0, follow_symlinks=True)

    assert ((path / "named").read_bytes(), os.stat(path / "named").st_nlink) == (b"unnamed", 1)

    for fd in (unlinked, lower, replaced, unnamed, directory):
        os.close(fd)
    assert "starting another" in tree.end()
    assert _attic(tree) == []


def test_numbers_stay(mount: Mount) -> None:
    """A node that somebody uses has one number for as long, whatever it is called and however often its server dies."""
    tree = mount()
    path = tree.path
    long = "l" * 200
    (path / "a").write_bytes(b"a")
    os.link(path / "a", path / "b")
    os.mkdir(path / long)
    (path / long / "file").write_bytes(b"")
    fds = [os.open(path / name, os.O_RDONLY) for name in ("a", long, long + "/file", "base/d1/f1", "base")]
    before = [os.fstat(fd).st_ino for fd in fds]
    _kill_server(tree)
    os.rename(path / long, path / "base" / "d1" / "moved")
    os.rename(path / "base" / "d1", path / "d1")
    os.unlink(path / "a")
    _kill_server(tree)

    assert [os.fstat(fd).st_ino for fd in fds] == before
    names = ("b", "d1/moved", "d1/moved/file", "d1/f1", "base")
    assert [os.stat(path / name).st_ino for name in names] == before
    assert os.stat(path / "b").st_nlink == 1
    for fd in fds:
        os.close(fd)


def test_a_supervisor_that_dies_takes_its_server_along(mount: Mount) -> None:
    """Nobody serves a tree without a supervisor: what is left is a dead mount, which says so."""
    tree = mount()
    server = server_of(tree)
    tree.server.kill()
    tree.server.wait()
    subprocess.run(["sh", "-c", f"while kill -0 {server} 2>/dev/null; do :; done"], check=True)

    with pytest.raises(OSError, match=r"not connected|connection abort"):
        os.listdir(tree.path)


def test_servers_that_never_serve_are_given_up(mount: Mount) -> None:
    """A tree that cannot be served again ends with an error for those who wait, and does not hang."""
    tree = mount("break")
    os.kill(server_of(tree), signal.SIGKILL)

    with pytest.raises(OSError, match=r"not connected|connection abort"):
        os.listdir(tree.path / "base")

    assert "given up" in tree.server.communicate()[1]


def test_a_server_that_the_kernel_keeps_is_followed_by_another(mount: Mount, tmp_path: Path) -> None:
    """One that dies while it tells the kernel something cannot end before its successor has answered what it left."""
    tell = tmp_path / "tell"
    tree = mount(f"tell={tell}")
    tell.touch()

    os.mkdir(tree.path / "new")

    assert not tell.exists()
    assert (tree.path / "new").is_dir()
    assert "the kernel keeps the server" in tree.end()


def test_a_request_that_no_server_survives_fails_alone(mount: Mount, tmp_path: Path) -> None:
    """Who asks for what kills each server is told EIO; nobody else notices, and the tree goes on."""
    die = tmp_path / "die"
    die.write_bytes(b"0")
    tree = mount(f"die={die}")
    with open(tree.path / "base" / "d0" / "f1", "rb") as file:
        die.write_bytes(b"-1")
        with pytest.raises(OSError, match="Input/output error"):
            os.mkdir(tree.path / "new")
        die.write_bytes(b"0")

        assert file.read(3) == b"0-1"

    os.mkdir(tree.path / "new")
    assert "it is given up" in tree.end()


def test_a_server_that_returns_ends_it() -> None:
    """The supervisor counts the servers, hands signals on, and is done when one returns."""
    handover = Handover.make()

    def serve(left: Handover) -> None:
        left.is_serving = True
        if left.generation == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        if left.generation == 1:
            raise ValueError("it is logged")
        if left.generation == 2:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
            os.kill(os.getppid(), signal.SIGTERM)
            signal.pause()

    pid = os.fork()  # a process of one thread
    if not pid:
        status = 1
        try:
            ended = supervise(serve, handover)
            status = 0 if (ended, handover.generation, handover.ending) == (0, 2, True) else 2
        finally:
            os._exit(status)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize(("lives", "seen"), [("dies", b"-+"), ("stays", b"+")])
def test_what_is_done_meanwhile_is_done_once(lives: str, seen: bytes) -> None:
    """A later server finds it done, however soon the first one died; else it is done while that lives."""
    reading, writing = os.pipe()
    done: list[bool] = []

    def serve(left: Handover) -> None:
        while lives == "stays":  # until the supervisor has done it, and ends this
            time.sleep(0.01)
        os.write(writing, b"+" if done else b"-")
        if not left.generation:
            os.kill(os.getpid(), signal.SIGKILL)

    def meanwhile() -> None:
        done.append(True)
        if lives == "stays":
            os.write(writing, b"+")
            os.kill(os.getpid(), signal.SIGTERM)  # which is handed on

    pid = os.fork()  # a process of one thread
    if not pid:
        try:
            signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
            supervise(serve, Handover.make(), meanwhile=meanwhile)
            os._exit(len(done))
        finally:
            os._exit(9)
    os.close(writing)

    with os.fdopen(reading, "rb") as file:
        assert file.read() == seen
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1  # once


@pytest.mark.needs("root")
def test_who_waits_for_a_tree_is_told_from_who_may_write(mount_dir: Path) -> None:
    """A thread that was killed while it uses a tree is kept by the kernel until somebody answers.

    That is seen from outside.
    """
    directory = mount_dir / "m"
    directory.mkdir()
    channel = Channel(mount_fuse(directory, source="avfs:test", subtype="avfs", allow_other=False, max_read=MAX_IO))
    channel.negotiate()
    code = (
        f"import os, threading, time; threading.Thread(target=os.listdir, args=({str(directory)!r},)).start(); "
        "time.sleep(999)"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as user:
        assert channel.receive(Request())  # and never answered
        user.kill()
        while not (threads := find_survivors(user.pid)):
            time.sleep(0.01)
        try:
            (thread,) = threads
            wait_for(lambda: waits_for_fuse(user.pid, thread))  # it runs for a moment after the signal
            assert not waits_for_fuse(os.getpid(), os.getpid())
        finally:
            assert unmount(directory)
            channel.close()

"""Every kind of request that must not run twice, its server killed at each named step: the program notices nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest

from avfs_git.host.files.beneath import RENAME_EXCHANGE, rename_at
from avfs_git.sdk import Avfs
from tests.support.live_tree import FORK, LiveTree, live_tree, mounted

pytestmark = [pytest.mark.needs("fuse", "user-xattrs", "whiteout"), pytest.mark.slow]

_DIRECTORIES = 400


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somewhere outside of the tree."""
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture
def live(scratch: Path, mount_dir: Path) -> Iterator[LiveTree]:
    """A live tree whose servers die where a file says so."""
    source = scratch / "source"
    if not source.is_dir():
        for number in range(_DIRECTORIES):
            (source / f"low{number}" / "sub").mkdir(parents=True)
            (source / f"low{number}" / "other").mkdir()
            for name in ("a", "b", "sub/c", "other/a", "other/b"):
                (source / f"low{number}" / name).write_bytes(b"lower " + name.encode())
            os.symlink("a", source / f"low{number}" / "link")
    (scratch / "die").write_bytes(b"0")
    with live_tree(mount_dir, source, "supervised", f"die={scratch / 'die'}") as tree:
        yield tree


def _data(path: Path | int) -> bytes:
    if isinstance(path, int):
        return os.pread(path, 100, 0)
    return path.read_bytes()


def _gone(path: Path) -> bool:
    return not os.path.lexists(path) and path.name not in os.listdir(path.parent)


class _Steps:
    """What is done in one directory, which has a lower part; each method is one kind of request that is to be killed.

    It prepares, then calls `self.kill`, which arms, does the one thing, and disarms; then it looks.
    """

    def __init__(self, here: Path, kill: Callable[[Callable[[], object]], None]) -> None:
        self.here = here
        self.kill = kill

    def create(self) -> None:
        new = self.here / "new"
        fds: list[int] = []
        self.kill(lambda: fds.append(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o640)))
        os.write(fds[0], b"x")
        assert _data(new) == b"x"
        assert stat.S_IMODE(os.stat(new).st_mode) == 0o640
        os.close(fds[0])

    def create_over_whiteout(self) -> None:
        new = self.here / "a"
        os.unlink(new)
        fds: list[int] = []
        self.kill(lambda: fds.append(os.open(new, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)))
        assert _data(new) == b""
        os.close(fds[0])

    def mkdir(self) -> None:
        self.kill(lambda: os.mkdir(self.here / "new", 0o710))
        assert stat.S_IMODE(os.stat(self.here / "new").st_mode) == 0o710
        assert os.listdir(self.here / "new") == []

    def mkdir_over_whiteout(self) -> None:
        os.rename(self.here / "sub", self.here / "away")
        self.kill(lambda: os.mkdir(self.here / "sub"))
        assert os.listdir(self.here / "sub") == []

    def symlink(self) -> None:
        self.kill(lambda: os.symlink("target", self.here / "new"))
        assert os.readlink(self.here / "new") == "target"

    def link(self) -> None:
        self.kill(lambda: os.link(self.here / "a", self.here / "new"))
        assert os.path.samefile(self.here / "a", self.here / "new")
        assert os.stat(self.here / "a").st_nlink == 2

    def link_over_whiteout(self) -> None:
        os.unlink(self.here / "b")
        self.kill(lambda: os.link(self.here / "a", self.here / "b"))
        assert _data(self.here / "b") == b"lower a"

    def link_unnamed(self) -> None:
        fd = os.open(self.here, os.O_TMPFILE | os.O_RDWR)
        os.write(fd, b"unnamed")
        self.kill(lambda: os.link(f"/proc/self/fd/{fd}", self.here / "new", src_dir_fd=0, follow_symlinks=True))
        assert _data(self.here / "new") == b"unnamed" == _data(fd)
        assert os.fstat(fd).st_nlink == 1
        other = os.open(self.here / "new", os.O_RDONLY)
        assert os.path.sameopenfile(fd, other)
        os.close(fd)
        os.close(other)

    def make_unnamed(self) -> None:
        fds: list[int] = []
        self.kill(lambda: fds.append(os.open(self.here, os.O_TMPFILE | os.O_RDWR)))
        os.write(fds[0], b"unnamed")
        assert _data(fds[0]) == b"unnamed"
        os.close(fds[0])

    def unlink(self) -> None:
        (self.here / "new").write_bytes(b"new")
        fd = os.open(self.here / "new", os.O_RDWR)
        self.kill(lambda: os.unlink(self.here / "new"))
        assert _gone(self.here / "new")
        os.pwrite(fd, b"N", 0)
        assert _data(fd) == b"New"
        assert os.fstat(fd).st_nlink == 0
        os.close(fd)

    def unlink_lower(self) -> None:
        fd = os.open(self.here / "a", os.O_RDWR)
        self.kill(lambda: os.unlink(self.here / "a"))
        assert _gone(self.here / "a")
        assert _data(fd) == b"lower a"
        os.pwrite(fd, b"L", 0)
        assert _data(fd) == b"Lower a"
        os.close(fd)

    def unlink_copied_up(self) -> None:
        with open(self.here / "a", "r+b") as file:
            file.write(b"L")
            file.flush()
            self.kill(lambda: os.unlink(self.here / "a"))
            assert _gone(self.here / "a")
            assert _data(file.fileno()) == b"Lower a"

    def unlink_one_of_two(self) -> None:
        os.link(self.here / "a", self.here / "new")
        ino = os.stat(self.here / "new").st_ino
        self.kill(lambda: os.unlink(self.here / "a"))
        assert _gone(self.here / "a")
        assert (os.stat(self.here / "new").st_nlink, os.stat(self.here / "new").st_ino) == (1, ino)

    def rmdir(self) -> None:
        os.mkdir(self.here / "new")
        fd = os.open(self.here / "new", os.O_RDONLY)
        self.kill(lambda: os.rmdir(self.here / "new"))
        assert _gone(self.here / "new")
        assert os.listdir(fd) == []
        os.close(fd)

    def rmdir_lower(self) -> None:
        os.unlink(self.here / "sub" / "c")
        self.kill(lambda: os.rmdir(self.here / "sub"))
        assert _gone(self.here / "sub")

    def rename(self) -> None:
        with open(self.here / "a", "rb") as file:
            ino = os.fstat(file.fileno()).st_ino
            self.kill(lambda: os.rename(self.here / "a", self.here / "sub" / "new"))
            assert _gone(self.here / "a")
            assert os.stat(self.here / "sub" / "new").st_ino == ino == os.fstat(file.fileno()).st_ino
            assert _data(self.here / "sub" / "new") == b"lower a" == file.read()

    def rename_over_open(self) -> None:
        (self.here / "new").write_bytes(b"new")
        fd, low = os.open(self.here / "new", os.O_RDONLY), os.open(self.here / "b", os.O_RDONLY)
        self.kill(lambda: os.rename(self.here / "new", self.here / "b"))
        assert _gone(self.here / "new")
        assert _data(self.here / "b") == b"new" == _data(fd)
        assert _data(low) == b"lower b"
        (self.here / "third").write_bytes(b"third")
        self.kill(lambda: os.rename(self.here / "third", self.here / "b"))
        assert _data(self.here / "b") == b"third"
        assert _data(fd) == b"new"
        os.close(fd)
        os.close(low)

    def rename_over_one_of_two(self) -> None:
        os.link(self.here / "a", self.here / "new")
        ino = os.stat(self.here / "a").st_ino
        self.kill(lambda: os.rename(self.here / "b", self.here / "a"))
        assert _data(self.here / "a") == b"lower b"
        assert (os.stat(self.here / "new").st_ino, _data(self.here / "new")) == (ino, b"lower a")

    def rename_directory(self) -> None:
        with open(self.here / "sub" / "c", "rb") as file:
            self.kill(lambda: os.rename(self.here / "sub", self.here / "new"))
            assert _gone(self.here / "sub")
            fd = os.open(self.here / "new" / "c", os.O_RDONLY)
            assert os.path.sameopenfile(file.fileno(), fd)
            assert file.read() == b"lower sub/c"
            os.close(fd)

    def rename_directory_over_empty(self) -> None:
        os.mkdir(self.here / "empty")
        self.kill(lambda: os.rename(self.here / "sub", self.here / "empty"))
        assert os.listdir(self.here / "empty") == ["c"]

    def exchange(self) -> None:
        inos = [os.stat(self.here / name).st_ino for name in ("a", "sub")]
        directory = os.open(self.here, os.O_RDONLY)
        self.kill(lambda: rename_at(directory, b"a", directory, b"sub", RENAME_EXCHANGE))
        os.close(directory)
        assert _data(self.here / "sub") == b"lower a"
        assert _data(self.here / "a" / "c") == b"lower sub/c"
        assert [os.stat(self.here / name).st_ino for name in ("sub", "a")] == inos

    def exchange_between_directories(self) -> None:
        """Each directory has a name that the other one's file comes by, of a file that nobody has looked at."""
        self._exchange(self.here / "a", self.here / "other" / "b", (self.here / "b", self.here / "other" / "a"))

    def exchange_long_names(self) -> None:
        one, other = (self.here / (letter * 200) for letter in "xy")
        for path in (one, other):
            path.write_bytes(path.name.encode())
        self._exchange(one, other, ())

    def _exchange(self, one: Path, other: Path, bystanders: tuple[Path, ...]) -> None:
        inos, data = [os.stat(path).st_ino for path in (one, other)], [_data(path) for path in (one, other)]
        fds = [os.open(path.parent, os.O_RDONLY) for path in (one, other)]
        self.kill(lambda: rename_at(fds[0], os.fsencode(one.name), fds[1], os.fsencode(other.name), RENAME_EXCHANGE))
        for fd in fds:
            os.close(fd)
        assert {os.stat(path).st_ino for path in bystanders}.isdisjoint(inos)
        assert [os.stat(path).st_ino for path in (other, one)] == inos
        for path, mode in ((other, 0o600), (one, 0o640)):
            os.chmod(path, mode)  # of which the server is told the number
            assert stat.S_IMODE(os.stat(path).st_mode) == mode
        assert [_data(path) for path in (other, one)] == data
        assert [_data(path) for path in bystanders] == [b"lower b", b"lower other/a"][: len(bystanders)]

    def set_attribute(self) -> None:
        self.kill(lambda: os.setxattr(self.here / "a", "user.x", b"1", os.XATTR_CREATE))
        assert os.getxattr(self.here / "a", "user.x") == b"1"

    def remove_attribute(self) -> None:
        os.setxattr(self.here / "a", "user.x", b"1")
        self.kill(lambda: os.removexattr(self.here / "a", "user.x"))
        assert os.listxattr(self.here / "a") == []

    def write_lower(self) -> None:
        with open(self.here / "a", "r+b", buffering=0) as file:
            file.seek(6)
            self.kill(lambda: file.write(b"A"))
            assert _data(self.here / "a") == b"lower A"

    def truncate_lower(self) -> None:
        self.kill(lambda: os.truncate(self.here / "sub" / "c", 3))
        assert _data(self.here / "sub" / "c") == b"low"

    def chmod_lower(self) -> None:
        self.kill(lambda: os.chmod(self.here / "sub", 0o700))
        assert stat.S_IMODE(os.stat(self.here / "sub").st_mode) == 0o700
        assert _data(self.here / "sub" / "c") == b"lower sub/c"

    def failing(self) -> None:
        """What would fail without a death does so with one."""
        for act in (
            lambda: os.mkdir(self.here / "a"),
            lambda: os.unlink(self.here / "no"),
            lambda: os.rmdir(self.here / "sub"),
            lambda: os.link(self.here / "a", self.here / "b"),
            lambda: os.rename(self.here / "a", self.here / "sub"),
        ):
            with pytest.raises(OSError, match=r"exists|No such|not empty|Is a directory"):
                self.kill(act)


_KINDS = [name for name in vars(_Steps) if not name.startswith("_")]


def test_no_program_notices_where_its_server_died(live: LiveTree, scratch: Path) -> None:
    """Each kind of request is killed at its first step, its second, … and has its one result each time."""
    die = scratch / "die"
    died: dict[str, int] = dict.fromkeys(_KINDS, 0)
    directories = iter([live.path / f"low{number}" for number in range(_DIRECTORIES)])
    for kind in _KINDS:
        for n in count(1):
            deaths = 0

            def kill(act: Callable[[], object], n: int = n) -> None:
                nonlocal deaths
                die.write_bytes(b"%d" % n)
                try:
                    act()
                finally:
                    deaths += die.read_bytes() == b"0"
                    die.write_bytes(b"0")

            try:
                getattr(_Steps(next(directories), kill), kind)()
            except BaseException as error:
                error.add_note(f"{kind}, killed at step {n}")
                raise
            if not deaths:
                break
            died[kind] += deaths

    # What fails or makes nothing visible has no step at which it could be killed.
    assert {kind for kind, deaths in died.items() if not deaths} <= {"failing", "make_unnamed"}
    live.end()
    assert not [*(live.home / "vaults").rglob("avfs-held-*"), *(live.home / "vaults").rglob("avfs-made-*")]


_LARGE = (1 << 20) + 1
"""A file of this size is copied up without the lock of the tree."""


@pytest.mark.parametrize("kind", ["rename", "rename_over", "link", "set_attribute"])
def test_what_waits_for_a_large_copy_is_done_once(kind: str, tmp_path: Path, mount_dir: Path) -> None:
    """A server that dies after it has copied a file, at each step of what needs the copy, leaves it done once."""
    work, home = tmp_path / "work", mount_dir / "home"
    files = [f"low{number}/a" for number in range(15)]
    for name in files:
        (work / name).parent.mkdir(parents=True)
        (work / name).write_bytes(name.encode() + bytes(_LARGE))
    with Avfs(home) as avfs, avfs.create_vault("v", source=work) as vault:
        vault.fork(FORK).close()
        git_dir = vault.path
    die = tmp_path / "die"
    die.write_bytes(b"0")
    (mount_dir / "tree").mkdir()
    died = []
    with mounted(git_dir, home, mount_dir / "tree", "supervised", f"die={die}") as tree:
        for n, name in enumerate(files, 1):
            path, new = tree.path / name, (tree.path / name).parent / "new"
            acts: dict[str, Callable[[], object]] = {
                "rename": partial(os.rename, path, new),
                "rename_over": partial(os.rename, path, new),
                "link": partial(os.link, path, new),
                "set_attribute": partial(os.setxattr, path, "user.x", b"1", os.XATTR_CREATE),
            }
            if kind == "rename_over":
                new.write_bytes(b"new")
            die.write_bytes(b"%d" % n)
            acts[kind]()
            died.append(die.read_bytes() == b"0")
            die.write_bytes(b"0")
            names = os.listdir(path.parent)
            content = (path if kind == "set_attribute" else new).read_bytes()

            assert content == name.encode() + bytes(_LARGE)
            assert sorted(names) == {"link": ["a", "new"], "set_attribute": ["a"]}.get(kind, ["new"])
            if kind == "link":
                assert os.path.samefile(path, new)
            if kind == "set_attribute":
                assert os.getxattr(path, "user.x") == b"1"
            if not died[-1]:
                break
        tree.end()

    assert died[-1] is False
    assert any(died)

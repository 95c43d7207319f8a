"""The disk below a live tree fails or is full: programs are told so; no checkpoint holds what they could not write.

The faults are real: a small file system that is filled, and system calls of the server that fail because strace says
so.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avfs_git import Avfs, Session, Workspace
from avfs_git.errors import AvfsError, HostError, MountError
from avfs_git.model import Identity
from tests.support.cli import Cli
from tests.support.faults import read_files
from tests.support.powercut import image

pytestmark = [pytest.mark.slow, pytest.mark.needs("fuse", "git", "root", "user-xattrs", "whiteout"), pytest.mark.synced]

ADA = Identity("Ada Author", "ada@example.org")
BIG = bytes(range(256)) * (3 << 12)
"""3 MiB, which nothing compresses away on the way to the upper layer."""


@contextlib.contextmanager
def mounted(home: Path, tree: Path, backend: str) -> Iterator[tuple[Workspace, Session]]:
    """A vault with a big file in its lower layer, and its workspace as a directory."""
    with Avfs(home, identity=ADA) as avfs, avfs.create_vault("v") as vault:
        vault.workspace().write("low", BIG)
        vault.workspace().write("small", b"small\n")
        vault.workspace().checkpoint()
        work = vault.fork("work")
        with work.mount(tree, backend=backend) as session:
            yield work, session


def number_of(action: Callable[[], object]) -> int:
    """Do something; give the errno with which it failed, 0 if it did not."""
    try:
        action()
    except OSError as error:
        return error.errno or -1
    except AvfsError as error:
        number = error.details.get("errno")
        return number if isinstance(number, int) else -1
    return 0


def saved(work: Workspace) -> dict[str, bytes]:
    """Read what the last checkpoint holds."""
    with work.vault.fork("copy", source="work", with_changes=False) as copy:
        found = {path.decode(): content for path, (_, _, content) in read_files(copy).items()}
    work.vault.delete_fork("copy")
    return found


def shown(tree: Path) -> dict[str, bytes]:
    """Read what the tree shows."""
    return {path.name: path.read_bytes() for path in tree.iterdir() if path.name != ".git"}


# --- a full disk ---------------------------------------------------------------------------------------------


def fill(point: Path, leave: int) -> Path:
    """Fill a file system but for so many bytes."""
    ballast = point / "ballast"
    with ballast.open("wb", buffering=0) as file:
        size = 1 << 20
        while size >= 4096:
            try:
                file.write(b"\xa5" * size)
            except OSError:
                size //= 2
        file.truncate(max(0, file.tell() - leave))
    return ballast


@pytest.mark.needs("loop", "overlayfs")
def test_a_mount_on_a_full_disk_is_refused_or_can_be_written(mount_dir: Path) -> None:
    """If the kernel can make nothing beside the upper layer, it would show the tree read-only while mounted."""
    with image("ext4", mount_dir, size=48 << 20, options=["-m", "0"]) as disk:
        tree = mount_dir / "tree"
        with mounted(disk.point / "home", tree, "overlay") as (work, session):
            session.unmount()
            layers = work.vault.path / "avfs" / "workspaces" / "work" / "work"
            # as on a full disk, whose last block the record gets
            subprocess.run(["chattr", "+i", layers / "work"], check=True)
            try:
                with pytest.raises(MountError, match="directory of work"):
                    work.mount(tree, backend="overlay")
                with work.mount(tree) as other:
                    assert other.info().backend == "fuse"
                    assert "directory of work" in other.info().backend_reasons[0]
            finally:
                subprocess.run(["chattr", "-i", layers / "work"], check=True)
            with work.mount(tree, backend="overlay"):
                (tree / "new").write_bytes(b"new\n")


@pytest.mark.needs("loop")
def test_what_a_full_disk_cannot_record_is_not_removed(mount_dir: Path) -> None:
    """A file call would take what programs have written and no record has: no undo would bring it back."""
    with image("ext4", mount_dir, size=48 << 20, options=["-m", "0"]) as disk:
        tree = mount_dir / "tree"
        with mounted(disk.point / "home", tree, "fuse") as (work, _):
            (tree / "src").mkdir()
            (tree / "src" / "work").write_bytes(BIG)
            ballast = fill(disk.point, 0)
            with pytest.raises(HostError, match="No space left"):
                work.remove("src", recursive=True)
            with pytest.raises(HostError, match="No space left"):
                work.write("src/work", b"")
            ballast.unlink()
            work.remove("src", recursive=True)
            work.undo()

            assert (tree / "src" / "work").read_bytes() == BIG


@pytest.mark.needs("loop")
def test_what_fills_a_disk_can_be_removed(mount_dir: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    """Where nothing else can be: the refusal names the way, which says what it costs."""
    with image("ext4", mount_dir, size=48 << 20, options=["-m", "0"]) as disk:
        monkeypatch.setenv("AVFS_HOME", os.fspath(disk.point / "home"))
        cli("vault", "create", "v").ok()
        program = "head -c 10000000 /dev/urandom > junk; head -c 80000000 /dev/urandom >> junk"
        assert cli("exec", "--vault", "v", "--", "sh", "-c", program).status != 0

        refused = cli("rm", "junk")
        assert "No space left on device" in refused.stderr
        assert "With `--force`" in refused.stderr
        removed = cli("rm", "--force", "junk").ok()
        assert "no undo brings back what goes with this" in removed.stderr
        cli("write", "new", stdin=b"new").ok()
        assert cli("ls").ok().text == "new\n"


@pytest.mark.needs("loop", "overlayfs")
def test_a_copy_that_failed_holds_no_file_of_the_mount(mount_dir: Path) -> None:
    """Else the session itself would use its tree, and no unmount would succeed."""
    with image("ext4", mount_dir, size=48 << 20, options=["-m", "0"]) as disk:
        tree = mount_dir / "tree"
        with mounted(disk.point / "home", tree, "overlay") as (work, session):
            ballast = fill(disk.point, 1 << 20)
            for name in ("second", "third"):
                assert number_of(lambda name=name: work.copy("low", name)) == errno.ENOSPC  # type: ignore[misc]  # a default binds it
            ballast.unlink()
            assert session.unmount().outcome == "unmounted"


@pytest.mark.needs("loop")
@pytest.mark.parametrize("backend", ["fuse", pytest.param("overlay", marks=pytest.mark.needs("overlayfs"))])
def test_a_full_disk_is_told_and_nothing_is_half_written(mount_dir: Path, backend: str) -> None:
    """Whoever writes gets ENOSPC; what was there before is whole, in the tree and in the checkpoints."""
    with image("ext4", mount_dir, size=48 << 20, options=["-m", "0"]) as disk:
        tree = mount_dir / "tree"
        with mounted(disk.point / "home", tree, backend) as (work, _):
            (tree / "kept").write_bytes(b"kept\n")
            work.checkpoint()
            ballast = fill(disk.point, 1 << 20)

            def append(name: str, data: bytes) -> None:
                with open(tree / name, "ab", buffering=0) as file:
                    file.write(data)

            assert number_of(lambda: append("low", b"x")) == errno.ENOSPC  # it does not fit when it is copied up
            if backend == "fuse":  # on overlayfs the kernel decides
                with (tree / "new").open("wb", buffering=0) as file:
                    written = file.write(BIG)
                    assert 0 < written < len(BIG)  # a part fits, and the program is told how much
                    assert number_of(lambda: file.write(BIG[written:])) == errno.ENOSPC
                    assert os.fstat(file.fileno()).st_size == written
            assert number_of(lambda: (tree / "new").write_bytes(BIG)) == errno.ENOSPC
            assert number_of(lambda: os.rename(tree / "small", tree / "moved")) in (0, errno.ENOSPC)
            assert (tree / "low").read_bytes() == BIG
            assert (tree / "kept").read_bytes() == b"kept\n"
            assert BIG.startswith((tree / "new").read_bytes())
            before = saved_before = shown(tree)
            refused = number_of(work.checkpoint)
            assert refused in (0, errno.ENOSPC)
            assert shown(tree) == before

            ballast.unlink()
            assert work.checkpoint().outcome == ("created" if refused else "unchanged")
            assert saved(work) == saved_before
            append("low", b"x")
            (tree / "new").write_bytes(BIG)
            assert work.checkpoint().outcome == "created"
            assert saved(work) == shown(tree)
            assert (tree / "low").read_bytes() == BIG + b"x"


# --- a disk that fails -----------------------------------------------------------------------------------------


@pytest.mark.needs("loop")
@pytest.mark.parametrize("backend", ["fuse", pytest.param("overlay", marks=pytest.mark.needs("overlayfs"))])
def test_a_full_disk_stops_nobody_from_looking(mount_dir: Path, backend: str) -> None:
    """Neither programs in the tree nor the library, at a big file of the base, too."""
    tree = mount_dir / "tree"
    with (
        image("ext4", mount_dir, size=48 << 20, options=["-m", "0"]) as disk,
        mounted(disk.point / "home", tree, backend) as (work, _),
    ):
        (tree / "small").write_bytes(b"changed\n")
        fill(disk.point, 0)
        assert work.read("low") == b"".join(work.open_read("low")) == BIG
        assert (tree / "low").read_bytes() == BIG
        assert [file.path for file in work.status().changed_files] == [b"small"]
        assert [file.change.path for file in work.diff().files] == [b"small"]
        assert [file.path for file in work.grep("chang").files] == [b"small"]
        assert {info.path for info in work.list_dir()} == {b"low", b"small"}
        work.export_path("low", mount_dir / "exported")
        assert (mount_dir / "exported").read_bytes() == BIG


@contextlib.contextmanager
def failing(session: Session, calls: str, number: str) -> Iterator[None]:
    """Let system calls of the server of a session fail."""
    pid = session.info().pid
    server = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()[0]
    strace = [
        "strace",
        "-f",
        "-o",
        os.devnull,
        "-e",
        f"trace={calls}",
        "-e",
        f"inject={calls}:error={number}",
        "-p",
        server,
    ]
    with subprocess.Popen(strace, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        try:
            for line in tracer.stderr:
                if "attached" in line:
                    break
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
            try:
                tracer.wait(10)
            except subprocess.TimeoutExpired:  # now and then it waits for ever for a thread that it lets go
                tracer.kill()  # the kernel lets them go, too


@pytest.mark.needs("strace")
@pytest.mark.parametrize("number", ["EIO", "ENOSPC", "EDQUOT"])
def test_a_failing_disk_is_told_as_what_it_is(mount_dir: Path, number: str) -> None:
    """A read, write, fsync or checkpoint that the disk refuses the server fails with the disk's error.

    Afterwards all works.
    """
    tree = mount_dir / "tree"
    wanted = getattr(errno, number)
    with mounted(mount_dir / "home", tree, "fuse") as (work, session):
        (tree / "up").write_bytes(BIG)
        work.checkpoint()
        with open(tree / "up", "r+b", buffering=0) as file:
            with failing(session, "pwrite64", number):
                assert number_of(lambda: file.write(b"written")) == wanted
                assert number_of(lambda: (tree / "new").write_bytes(b"new")) == wanted
                assert (tree / "up").read_bytes() == BIG
            with failing(session, "fsync,fdatasync", number):
                assert number_of(lambda: os.fsync(file.fileno())) == wanted
                file.seek(0)
                file.write(b"later")
                assert number_of(lambda: work.checkpoint("refused")) == wanted
            assert saved(work)["up"] == BIG
            os.fsync(file.fileno())
        with failing(session, "pread64,preadv,preadv2", number):
            fd = os.open(tree / "up", os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            assert number_of(lambda: os.pread(fd, 1 << 20, 1 << 20)) == wanted
            os.close(fd)

        assert work.checkpoint().outcome == "created"
        assert saved(work) == shown(tree)
        assert (tree / "up").read_bytes() == b"later" + BIG[5:]

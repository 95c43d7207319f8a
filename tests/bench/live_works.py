"""The pieces of work that issue 3 measures, done by ordinary programs in any directory: a plain one or a live tree.

Decided here: what exactly each bar of the live tree times. A work takes the directory and the number of its turn, and
leaves what later ones need. What makes files gives each turn a directory of its own and nothing is removed before all
of them are through: ext4 without a journal does not use the inodes of removed files again for some seconds, and takes
up to 400 µs to find another.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import native
from tests.bench.trees import SMALL, path_of, spread

NEW_FILES, KIB = 1_000, 1024
_CHUNK = 1 << 20
Work = Callable[[Path, int], None]


def find(directory: Path, _turn: int) -> None:
    """Look at the size of every file."""
    native.run("find", directory, "-size", "+100M")


def grep(directory: Path, _turn: int) -> None:
    """Read every file."""
    subprocess.run(["grep", "-rq", "no such text in here", directory], check=False, stdin=subprocess.DEVNULL)


def stat_all(directory: Path, _turn: int) -> None:
    """Ask for the attributes of every file by its path."""
    base = os.fspath(directory)
    for number in range(SMALL):
        os.stat(f"{base}/{path_of(number, SMALL)}")


def read_all(directory: Path, _turn: int) -> None:
    """Open, read and close every file."""
    base = os.fspath(directory)
    for number in range(SMALL):
        fd = os.open(f"{base}/{path_of(number, SMALL)}", os.O_RDONLY)
        os.read(fd, 1 << 16)
        os.close(fd)


def status(git_dir: Path) -> Work:
    """Run `git status` on the directory, with an index of its own that knows it."""

    def work(directory: Path, _turn: int) -> None:
        index = git_dir.with_name(f"index-{directory.name}")
        env = {**os.environ, "GIT_INDEX_FILE": str(index), "GIT_CONFIG_GLOBAL": os.devnull, "GIT_OPTIONAL_LOCKS": "1"}
        git = ("git", "--git-dir", git_dir, "--work-tree", directory)
        if not index.exists():
            native.run(*git, "read-tree", "HEAD", env=env)
            native.run(*git, "update-index", "-q", "--refresh", env=env)
        native.run(*git, "status", "--porcelain", env=env)

    return work


def make_new(directory: Path, turn: int) -> None:
    """Make 1,000 files of 1 KiB."""
    place = directory / f"new{turn}"
    place.mkdir()
    overwrite(directory, turn)


def make_beside(directory: Path, turn: int) -> None:
    """Make 1,000 files of 1 KiB beside files of the tree, four to each of 250 directories."""
    data = b"%04d" % turn * (KIB // 4)
    for beside in spread(NEW_FILES // 4, SMALL, 0):
        for number in range(4):
            (directory / f"{beside}.{turn}.{number}").write_bytes(data)


def overwrite(directory: Path, turn: int) -> None:
    """Write 1,000 files anew: empty them, then 1 KiB each."""
    base, data = f"{os.fspath(directory)}/new{turn}", b"%04d" % turn * (KIB // 4)
    for number in range(NEW_FILES):
        fd = os.open(f"{base}/{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.write(fd, data)
        os.close(fd)


def strays(changed: int, added: int) -> dict[str, bytes]:
    """Name files that are written anew, far apart in the tree, and new ones, with contents that no commit has."""
    names = [*spread(changed, SMALL, 0), *(f"stray{number // 100}/{number}" for number in range(added))]
    return {name: os.urandom(KIB // 2).hex().encode() for name in names}


def write_strays(directory: Path, changed: int, added: int) -> None:
    """Write them."""
    for name, data in strays(changed, added).items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_bytes(data)


def delete_all(directory: Path) -> None:
    """Delete all that git tracks."""
    for entry in directory.iterdir():
        if entry.name != ".git":
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def change_some(directory: Path, _turn: int) -> None:
    """Write 100 files of the tree anew."""
    write_strays(directory, 100, 0)


def commit(directory: Path, _turn: int) -> None:
    """Let git commit what is there."""
    native.git(directory, "add", "-A")
    native.git(directory, "commit", "-q", "-m", "work")


def reset(directory: Path, _turn: int = 0) -> None:
    """Let git drop what is not committed."""
    native.git(directory, "reset", "-q", "--hard")
    native.git(directory, "clean", "-fdq")


def unlink(directory: Path, turn: int) -> None:
    """Remove them."""
    base = f"{os.fspath(directory)}/new{turn}"
    for number in range(NEW_FILES):
        os.unlink(f"{base}/{number}")


def unpack(archive: Path) -> Work:
    """Run `tar x`."""

    def work(directory: Path, turn: int) -> None:
        place = directory / f"tar{turn}"
        place.mkdir()
        native.run("tar", "xf", archive, "-C", place)

    return work


def clone(source: Path) -> Work:
    """Run `git clone`, with objects copied on both sides."""

    def work(directory: Path, turn: int) -> None:
        native.run("git", "clone", "-q", "--no-hardlinks", source, directory / f"clone{turn}")

    return work


def write_big(size: int, piece: int) -> Work:
    """Write one file from its beginning to its end."""

    def work(directory: Path, turn: int) -> None:
        data = memoryview(os.urandom(_CHUNK))[:piece]
        fd = os.open(directory / f"big{turn}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        for _ in range(size // piece):
            os.write(fd, data)
        os.close(fd)

    return work


def remove_big(directory: Path) -> None:
    """Remove the big files, so that those of the next work have the room."""
    for path in directory.glob("big*"):
        path.unlink()


def read_big(directory: Path, turn: int) -> None:
    """Read that file by 1 MiB."""
    buffer = bytearray(_CHUNK)
    fd = os.open(directory / f"big{turn}", os.O_RDONLY)
    while os.readv(fd, [buffer]):
        pass
    os.close(fd)


_WRITER = """
import os, sys
base, count = sys.argv[1], int(sys.argv[2])
os.mkdir(base)
sys.stdin.read(1)
for number in range(count):
    fd = os.open(f"{base}/{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.write(fd, bytes(1024))
    os.close(fd)
"""


def writers(processes: int, files: int) -> Callable[[Path, int], float]:
    """Let some processes make files at the same time; the seconds that took, without their start."""

    def work(directory: Path, turn: int) -> float:
        running = [
            subprocess.Popen(
                [sys.executable, "-c", _WRITER, f"{directory}/by{processes}-{turn}-{number}", str(files // processes)],
                stdin=subprocess.PIPE,
            )
            for number in range(processes)
        ]
        while not all(Path(f"{directory}/by{processes}-{turn}-{number}").is_dir() for number in range(processes)):
            time.sleep(0.01)
        start = time.perf_counter()
        for one in running:
            assert one.stdin is not None
            one.stdin.write(b"x")
            one.stdin.close()
        failed = [one.wait() for one in running]
        took = time.perf_counter() - start
        assert not any(failed)
        return took

    return work


ATTEMPTS, ATTEMPT_FILES, ATTEMPT_BIG = 8, 10_000, 256 << 20
REWRITTEN, ADDED, DELETED = 50, 10, 5


def attempt(directory: Path, turn: int, files: int) -> None:
    """Do what one agent does: search everything, rewrite 50 files, add 10, delete 5."""
    grep(directory, turn)
    base = os.fspath(directory)
    for number in range(REWRITTEN):
        with open(f"{base}/{path_of(number * 37 % files, files)}", "wb") as file:
            file.write(b"%d %d\n" % (turn, number) * 20)
    for number in range(ADDED):
        with open(f"{base}/added{number}", "wb") as file:
            file.write(b"%d\n" % turn)
    for number in range(DELETED):
        os.unlink(f"{base}/{path_of((number * 41 + 1) % files, files)}")


def all_at_once(run: Callable[[int], None]) -> None:
    """Call something once for each attempt, with its number, all at the same time."""
    failed: list[BaseException] = []

    def call(turn: int) -> None:
        try:
            run(turn)
        except BaseException as error:  # noqa: BLE001 - told by the thread that waits
            failed.append(error)

    threads = [threading.Thread(target=call, args=(turn,)) for turn in range(ATTEMPTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


_ATTEMPT_PROGRAM = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tests.bench import live_works
live_works.attempt(Path.cwd(), int(sys.argv[2]), int(sys.argv[3]))
"""


def attempt_program(turn: int, files: int) -> tuple[str, ...]:
    """Give the command line of a program that does one attempt in its directory."""
    return (sys.executable, "-c", _ATTEMPT_PROGRAM, os.fspath(Path(__file__).parents[2]), str(turn), str(files))

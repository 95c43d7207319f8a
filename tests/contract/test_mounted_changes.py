"""What programs in a live tree see when the workspace changes beneath them, and what a checkpoint sees of programs."""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from avfs_git.errors import ContentChanged, OutcomeUnknown, PathUnsuitable
from avfs_git.model import Identity, SessionBackend
from avfs_git.sdk import Avfs, Session, Workspace

pytestmark = [pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"), pytest.mark.slow]

ADA = Identity("Ada Author", "ada@example.org")
_SIZE = 64 << 10


_ONE_INODE = (
    "the kernel takes what libfuse shows under one name for one file, also when avfs has put another in its place"
)
_DIFFERENCES = {
    # What is mapped would be cut off below the test itself; a race; or there is nothing to kill.
    ("portable", "test_a_program_keeps_the_file_that_it_has_open"): (_ONE_INODE, False),
    ("portable", "test_a_server_that_is_killed_beneath_a_client"): (
        "no other server goes on after one that was killed",
        False,
    ),
    ("portable", "test_a_server_that_uses_its_own_tree_and_is_killed"): (
        "no other server goes on after one that was killed",
        False,
    ),
    ("portable", "test_nothing_written_beside_a_restore_is_lost"): (
        "a program that makes a file may be told ENOENT",
        False,
    ),
    ("portable", "test_restore_leaves_no_stale_page"): (_ONE_INODE, False),
    ("portable", "test_what_is_written_in_place_is_seen_by_who_has_it_open"): (
        "pages that are mapped are not forgotten",
        True,
    ),
    ("portable", "test_a_file_that_is_open_in_a_directory_that_goes"): (
        "libfuse asks for an open file by its name",
        True,
    ),
    ("portable", "test_a_program_in_a_directory_that_goes"): ("libfuse cannot name a directory that is removed", True),
}
"""What a backend does otherwise, with whether it can be tried; `docs/reference/filesystem.md` tells users the same."""


@pytest.fixture(
    params=[
        "fuse",
        pytest.param("portable", marks=pytest.mark.needs("libfuse")),
        pytest.param("overlay", marks=pytest.mark.needs("root", "overlayfs")),
    ]
)
def mounted(request: pytest.FixtureRequest, tmp_path: Path, mount_dir: Path) -> Iterator[tuple[Workspace, Session]]:
    """A workspace that is mounted, with a checkpoint `start`."""
    reason, can_be_tried = _DIFFERENCES.get((request.param, request.node.originalname), ("", True))
    if reason:
        request.node.add_marker(pytest.mark.xfail(reason=reason, run=can_be_tried, strict=can_be_tried))
    source = tmp_path / "source"
    (source / "d" / "below").mkdir(parents=True)
    (source / "file").write_bytes(b"old content\n")
    (source / "d" / "below" / "deep").write_bytes(b"deep\n")
    with Avfs(tmp_path / "home", identity=ADA) as avfs, avfs.create_vault("v", source=source) as vault:
        work = vault.fork("work")
        with work.mount(mount_dir / "m", backend=request.param) as session:
            work.checkpoint("start")
            yield work, session


@pytest.mark.usefixtures("person")
def test_restore_shows_everywhere_at_once(mounted: tuple[Workspace, Session]) -> None:
    """Names, contents, modes, listings and times that the kernel had in its cache are those of the restored state."""
    work, session = mounted
    tree = session.path
    before = (tree / "file").stat()
    (tree / "file").write_bytes(b"new content, longer\n")
    (tree / "file").chmod(0o600)
    (tree / "d" / "below" / "deep").unlink()
    (tree / "d" / "below").rmdir()
    (tree / "d" / "added").write_bytes(b"added")
    (tree / "d" / "link").symlink_to("added")
    subprocess.run(["mv", tree / "d", tree / "moved"], check=True)  # overlayfs renames no directory of the base
    # everything is in the cache
    seen = subprocess.run(["find", ".", "-ls"], cwd=tree, capture_output=True, check=True).stdout
    assert b"moved" in seen
    assert not (tree / "d").exists()

    work.restore("start")

    assert sorted(os.listdir(tree)) == [".git", "d", "file"]
    assert os.listdir(tree / "d") == ["below"]
    assert (tree / "file").read_bytes() == b"old content\n"
    assert (tree / "d" / "below" / "deep").read_bytes() == b"deep\n"
    after = (tree / "file").stat()
    assert (after.st_mode, after.st_size) == (before.st_mode, before.st_size)
    assert after.st_mtime_ns > before.st_mtime_ns  # so that make and its like notice
    work.undo()
    assert (tree / "file").read_bytes() == b"new content, longer\n"
    assert os.readlink(tree / "moved" / "link") == "added"
    assert not (tree / "d").exists()


_LOOKER = """
import hashlib, mmap, os, sys
kept = {}
for line in sys.stdin:
    for name in sorted(os.listdir(".")):
        if name.startswith("page"):
            kept[name, line] = fd = os.open(name, os.O_RDWR)
            shown = mmap.mmap(fd, 0)
            kept[name, line, 0] = shown  # as long as the program lives
            about = os.stat(name)
            assert os.fstat(fd).st_ino == about.st_ino
            assert os.pread(fd, len(shown), 0) == shown[:] and len(shown) == about.st_size
            print(name, hashlib.sha1(shown[:]).hexdigest(), about.st_mtime_ns)
    print("all", flush=True)
"""


@pytest.mark.usefixtures("person")
def test_restore_leaves_no_stale_page(mounted: tuple[Workspace, Session]) -> None:
    """Two programs have the files open and mapped, one of them in another mount namespace.

    Each restore shows at once to both.

    Whoever opens or maps a file by its name sees all pages of the restored state and none of another, and a new time.
    """
    work, session = mounted
    tree, size = session.path, 5 * mmap.PAGESIZE + 100
    states: dict[str, dict[str, bytes]] = {}
    for state in ("one", "two"):
        for number in range(8):
            path = tree / f"page{number}"
            if not path.exists():
                path.write_bytes(bytes([number]) * size)
            with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as shared:
                at = (number % 6) * mmap.PAGESIZE
                shared[at : at + 50] = state.encode().ljust(50)  # one page of them, of the same length
        if state == "two":
            (tree / "page7").write_bytes(b"shorter")
        work.checkpoint(state)
        states[state] = {path.name: path.read_bytes() for path in tree.glob("page*")}
    elsewhere = ["unshare", "--mount"] if os.geteuid() == 0 else []
    with contextlib.ExitStack() as stack:
        programs = [
            stack.enter_context(
                subprocess.Popen(
                    [*before, sys.executable, "-c", _LOOKER],
                    cwd=tree,
                    text=True,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                )
            )
            for before in ([], elsewhere)
        ]

        def look() -> list[dict[str, tuple[str, int]]]:
            """Let all programs open and map all files, and tell what they see."""
            found = []
            for program in programs:
                assert program.stdin is not None
                assert program.stdout is not None
                program.stdin.write("look\n")
                program.stdin.flush()
                lines = iter(program.stdout.readline, "all\n")
                found.append({name: (digest, int(mtime)) for name, digest, mtime in map(str.split, lines)})
            return found

        before = look()[0]
        for state in ("one", "two", "one", "two"):
            work.restore(state)
            mine, theirs = look()
            wanted = {name: hashlib.sha1(data).hexdigest() for name, data in states[state].items()}
            assert {name: digest for name, (digest, _) in mine.items()} == wanted
            assert theirs == mine
            assert all(mine[name][1] > before[name][1] for name in wanted)
            before = mine
        for program in programs:
            assert program.stdin is not None
            program.stdin.close()
    for path in tree.glob("page*"):
        assert path.read_bytes() == states["two"][path.name]


def test_a_program_keeps_the_file_that_it_has_open(mounted: tuple[Workspace, Session]) -> None:
    """A restore puts new files in the place of old ones: who has the old one open or mapped goes on with it."""
    work, session = mounted
    tree = session.path
    (tree / "file").write_bytes(b"x" * 8192)
    with (tree / "file").open("r+b") as file, mmap.mmap(file.fileno(), 8192) as shared:
        assert shared[:1] == b"x"
        work.restore("start")
        assert (tree / "file").read_bytes() == b"old content\n"
        assert shared[:] == b"x" * 8192
        assert file.read() == b"x" * 8192
        assert os.fstat(file.fileno()).st_nlink == 0
        file.seek(0)
        file.write(b"into the void")
        file.flush()
        assert shared[:13] == b"into the void"
    assert (tree / "file").read_bytes() == b"old content\n"
    assert work.status().clean


def test_what_is_written_in_place_is_seen_by_who_has_it_open(mounted: tuple[Workspace, Session]) -> None:
    """An append through the SDK, or a write to a file with several names, changes the file itself, even if mapped."""
    work, session = mounted
    tree = session.path
    (tree / "log").write_bytes(b"a" * 4096)
    os.link(tree / "log", tree / "other name")
    with (tree / "log").open("rb") as file, mmap.mmap(file.fileno(), 4096, prot=mmap.PROT_READ) as shared:
        assert shared[:3] == b"aaa"
        work.write("log", b"b" * 4096)
        assert shared[:3] == b"bbb"
        work.write("log", b"more", append=True)
        assert os.fstat(file.fileno()).st_size == 4100
        assert file.read()[-5:] == b"bmore"
    assert (tree / "other name").stat().st_size == 4100


def test_a_file_that_is_open_in_a_directory_that_goes(mounted: tuple[Workspace, Session]) -> None:
    """It has no name any more, and keeps its content."""
    work, session = mounted
    place = session.path / "new" / "sub" / "f"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"content")
    with place.open("rb") as file:
        assert os.fstat(file.fileno()).st_nlink == 1
        work.restore("start")
        assert not (session.path / "new").exists()
        assert (os.fstat(file.fileno()).st_nlink, file.read()) == (0, b"content")


def test_a_program_in_a_directory_that_goes(mounted: tuple[Workspace, Session]) -> None:
    """Its directory is empty and has no name, as if somebody had removed it.

    A directory that stays is still its own.
    """
    work, session = mounted
    tree = session.path
    (tree / "new" / "sub").mkdir(parents=True)
    (tree / "new" / "sub" / "f").write_bytes(b"")
    code = """
import os, sys
for where in (%r, %r):
    os.chdir(where); os.listdir("."); print("there", flush=True); sys.stdin.readline()
    try: print(os.getcwd(), flush=True)
    except FileNotFoundError: print("gone", flush=True)
    print(sorted(os.listdir(".")), flush=True)
    try: open("made", "w").close(); print("made", flush=True)
    except OSError as error: print(error.errno, flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", code % (str(tree / "new" / "sub"), str(tree / "d"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as program:
        assert program.stdin is not None
        assert program.stdout is not None

        def lines(count: int) -> list[str]:
            assert program.stdout is not None
            return [program.stdout.readline().strip() for _ in range(count)]

        assert lines(1) == ["there"]
        work.restore("start")
        program.stdin.write("\n")
        program.stdin.flush()
        assert lines(3) == ["gone", "[]", "2"]
        assert lines(1) == ["there"]
        work.write("d/another", b"")
        work.chmod("d", 0o700)
        program.stdin.write("\n")
        program.stdin.flush()
        assert lines(3) == [str(tree / "d"), "['another', 'below']", "made"]
    assert work.exists("d/made")


def test_what_a_program_has_mapped_is_in_the_checkpoint(mounted: tuple[Workspace, Session]) -> None:
    """A page that was changed in memory and not written out is written out first."""
    work, session = mounted
    (session.path / "mapped").write_bytes(bytes(8192))
    work.checkpoint("zeros")
    with (session.path / "mapped").open("r+b") as file, mmap.mmap(file.fileno(), 8192) as shared:
        shared[5000:5005] = b"fresh"
        result = work.checkpoint("fresh")
        assert [change.path for change in result.changed_files] == [b"mapped"]
        shared[0:5] = b"later"
        assert [change.path for change in work.status().changed_files] == [b"mapped"]
    work.restore("fresh")
    assert work.read("mapped") == bytes(5000) + b"fresh" + bytes(3187)


def test_all_that_was_changed_in_memory_before_a_checkpoint_is_in_it(mounted: tuple[Workspace, Session]) -> None:
    """However many pages that are: the kernel sends them, and waits for no answer."""
    work, session = mounted
    pages = 600
    (session.path / "mapped").write_bytes(bytes(pages * 4096))
    with (session.path / "mapped").open("r+b") as file, mmap.mmap(file.fileno(), pages * 4096) as shared:
        for turn in range(1, 13):
            for page in range(0, pages, 2):  # each is written by itself
                shared[page * 4096] = turn
            saved = work.checkpoint().checkpoint
            assert saved is not None
            held = b"".join(work.open_read("mapped", at=saved.id))
            assert set(held[:: 2 * 4096]) == {turn}


def _version_of(data: bytes) -> int:
    """Tell which version a file holds; fails if it is torn."""
    assert len(data) == _SIZE
    number = int.from_bytes(data[:8], "little")
    assert data == number.to_bytes(8, "little") * (_SIZE // 8), "torn"
    return number


_WRITER = """
import os, sys
tree, size = sys.argv[1], int(sys.argv[2])
place, other = os.path.join(tree, "in-place"), os.path.join(tree, "renamed")
def version(n): return n.to_bytes(8, "little") * (size // 8)
fd = os.open(place, os.O_RDWR | os.O_CREAT)
n = 0
while True:
    n += 1
    os.pwrite(fd, version(n), 0)
    with open(other + ".tmp", "wb") as file: file.write(version(n))
    os.rename(other + ".tmp", other)
    if n == 1: print("running", flush=True)
"""


_APPENDER = """
import sys, time
n = 0
while True:
    n += 1
    with open(sys.argv[1], "a") as file: print(f"line-{n}-", file=file)
    print(f"line-{n}-", flush=True)
    time.sleep(0.01)
"""


@pytest.mark.parametrize("operation", ["restore", "undo", "merge", "undo_operation", "edit"])
def test_what_a_program_appends_meanwhile_is_kept(mounted: tuple[Workspace, Session], operation: str) -> None:
    """Who opens a file while it is replaced gets the new one; who had it open just before may write to the old one."""
    work, session = mounted
    side = work.vault.fork("side", source="work")
    work.write("file", b"another\n")
    work.checkpoint("other")
    work.write("file", b"first\n" + b"old\n" * 20)
    work.checkpoint("last")
    side.write("file", b"first\n" + b"old\n" * 20)
    side.checkpoint()
    work.merge("side")
    place = session.path / "file"
    with subprocess.Popen([sys.executable, "-c", _APPENDER, place], stdout=subprocess.PIPE) as program:
        try:
            for number in range(12 if operation != "edit" else 60):
                time.sleep(0.1 if operation != "edit" else 0.01)
                if operation == "edit":
                    with suppress(ContentChanged):  # the program was first
                        work.edit("file", ("first", "first"), replace_all=True)
                elif operation == "restore":
                    work.restore("other" if number % 2 else "start")
                elif operation == "undo":
                    work.undo()
                elif operation in {"merge", "undo_operation"}:
                    side.write("file", b"first %d\n" % number + b"old\n" * 20)
                    side.checkpoint()
                    work.merge("side")
                if operation == "undo_operation":
                    work.undo_operation(next(each.id for each in work.operations() if each.kind == "merge"))
        finally:
            program.kill()
        assert program.stdout is not None
        lines = {line for line in program.stdout.read().splitlines() if line.endswith(b"-")}
    there = subprocess.run(
        ["git", "cat-file", "--batch-all-objects", "--batch"], cwd=work.vault.path, capture_output=True, check=True
    )
    lost = lines - set(place.read_bytes().splitlines()) - set(there.stdout.splitlines())
    assert len(lines) > 50
    assert len(lost) < (8 if operation == "edit" else 5), lost  # 12 before: in each operation, in each fifth edit


def test_every_version_in_a_checkpoint_is_whole(mounted: tuple[Workspace, Session]) -> None:
    """A program rewrites one file in place and renames over another without end.

    No checkpoint holds half of a version.
    """
    work, session = mounted
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(session.path), str(_SIZE)], stdout=subprocess.PIPE, text=True
    ) as writer:
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "running\n"
            saved = [work.checkpoint(f"c{number}") for number in range(25)]
        finally:
            writer.kill()
    versions: dict[str, list[int]] = {"in-place": [], "renamed": []}
    for result in saved:
        assert result.checkpoint is not None
        for name, found in versions.items():
            found.append(_version_of(b"".join(work.open_read(name, at=result.checkpoint.id))))
    # which has no barrier: there each file is of a moment of its own
    if session.info().backend != SessionBackend.OVERLAY:
        for in_place, renamed in zip(*versions.values(), strict=True):
            assert renamed <= in_place <= renamed + 1  # of one moment, too: the program writes them in turn
    for found in versions.values():
        assert sorted(found) == found
    assert len(set(versions["in-place"])) > 5
    # What came after the last one is not lost, though it was written while that was being recorded.
    work.checkpoint("last")
    assert _version_of(work.read("in-place")) >= versions["in-place"][-1]
    assert (session.path / "in-place").read_bytes() == b"".join(work.open_read("in-place", at="last"))


def test_nothing_written_beside_a_restore_is_lost(mounted: tuple[Workspace, Session]) -> None:
    """What a program writes before a restore is saved by it, and what it writes after it stays."""
    work, session = mounted
    stop = threading.Event()
    written: list[int] = []

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            (session.path / "counter").write_bytes(b"%d" % number)
            written.append(number)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        results = []
        for _ in range(10):
            low = len(written)
            result = work.restore("start")
            results.append((low, result))
        low = len(written)
        while len(written) < low + 2:
            assert writer.is_alive()
    finally:
        stop.set()
        writer.join()
    for low, result in results:
        if result.saved is None:
            continue
        try:
            held = int(b"".join(work.open_read("counter", at=result.saved)) or b"0")
        except Exception:  # noqa: BLE001 - the program has not made it again yet
            continue
        assert held == 0 or held >= low - 1
    assert int((session.path / "counter").read_bytes()) == written[-1]


def test_many_clients_and_programs_at_once(mounted: tuple[Workspace, Session]) -> None:
    """Threads of the SDK, other processes and programs in the tree work side by side; everything arrives."""
    work, session = mounted
    code = (
        "import sys; from pathlib import Path; from avfs_git.sdk import Avfs\n"
        "with Avfs(Path(sys.argv[1])) as avfs, avfs.open_vault('v') as vault:\n"
        "    work = vault.workspace('work')\n"
        "    for n in range(20): work.write(f'process{sys.argv[2]}/{n}', b'p'); work.checkpoint() if n % 7 == 0 "
        "else None\n"
    )
    home = work.vault.path.parents[1]
    processes = [subprocess.Popen([sys.executable, "-c", code, str(home), str(number)]) for number in range(2)]
    failures: list[BaseException] = []

    def client(number: int) -> None:
        try:
            for count in range(20):
                work.write(f"thread{number}/{count}", b"t" * count)
                assert (session.path / f"thread{number}" / str(count)).read_bytes() == b"t" * count
                work.status() if count % 5 == 0 else work.read(f"thread{number}/{count}")
        except BaseException as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    def program(number: int) -> None:
        try:
            place = session.path / f"program{number}"
            place.mkdir()
            for count in range(50):
                (place / str(count)).write_bytes(b"x")
                assert work.read(f"program{number}/{count}") == b"x"
        except BaseException as error:  # noqa: BLE001 - told by the test
            failures.append(error)

    threads = [threading.Thread(target=target, args=(number,)) for number in range(3) for target in (client, program)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.wait() for process in processes] == [0, 0]
    assert not failures
    work.checkpoint("all")
    with contextlib.closing(work.vault.fork("copy", source="work")) as copy:
        for name, count in [
            ("process0", 20),
            ("process1", 20),
            *((f"thread{n}", 20) for n in range(3)),
            *((f"program{n}", 50) for n in range(3)),
        ]:
            assert len(copy.list_dir(name)) == count, name


def test_an_import_from_the_mount_itself_does_not_wait_for_itself(mounted: tuple[Workspace, Session]) -> None:
    """The session reads its own mount through the kernel, and writes to it, while it works for a client."""
    work, session = mounted
    (session.path / "big").write_bytes(os.urandom(3 << 20))
    work.import_path(session.path / "big", "/copied")
    assert work.read("copied") == (session.path / "big").read_bytes()
    work.import_path(session.path / "d", "/d2")
    work.export_path("d", session.path / "exported")
    assert (session.path / "exported" / "below" / "deep").read_bytes() == work.read("d2/below/deep") == b"deep\n"


def test_nothing_is_copied_into_itself(mounted: tuple[Workspace, Session], tmp_path: Path) -> None:
    """Nor through a link: what is written would be read again, without end."""
    work, session = mounted
    (session.path / "way").symlink_to("d/below")
    (tmp_path / "link").symlink_to(session.path / "d")
    for source, destination in (("/", "/x"), ("d", "d/below/x"), ("d", "way/x"), ("d", "way")):
        with pytest.raises(PathUnsuitable, match="itself"):
            work.copy(source, destination, recursive=True)
    with pytest.raises(PathUnsuitable, match="itself"):
        work.move("d", "way/x")
    for place, path in (
        (session.path, "/"),
        (session.path.parent, "new"),
        (tmp_path / "link", "d/below"),
        (session.path, "way"),
    ):
        with pytest.raises(PathUnsuitable, match="live tree"):
            work.import_path(place, path)
    for path, place in (("/", session.path / "x"), ("d", tmp_path / "link" / "x"), ("d", session.path / "way" / "x")):
        with pytest.raises(PathUnsuitable, match="inside"):
            work.export_path(path, place)
    work.copy("d/below", "d/again", recursive=True)
    work.copy("file", "way/file")
    assert sorted(entry.path for entry in work.list_dir("/")) == [b"d", b"file", b"way"]


@pytest.mark.usefixtures("person")
def test_a_client_with_another_umask(mounted: tuple[Workspace, Session]) -> None:
    """Files get the mode that they would have if the client had made them."""
    work, session = mounted
    home = work.vault.path.parents[1]
    code = (
        "import os, sys; os.umask(0o077); from pathlib import Path; from avfs_git.sdk import Avfs\n"
        "with Avfs(Path(sys.argv[1])) as avfs, avfs.open_vault('v') as vault: "
        "vault.workspace('work').write('private/f', b'')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(home)], check=True)
    assert (session.path / "private").stat().st_mode & 0o777 == 0o700
    assert (session.path / "private" / "f").stat().st_mode & 0o777 == 0o600
    mask = os.umask(0)
    os.umask(mask)
    work.write("usual", b"")
    assert (session.path / "usual").stat().st_mode & 0o777 == 0o666 & ~mask


def _server_of(session: Session) -> int:
    """Find the process that serves; one that was killed is followed by another a moment later."""
    keeper = session.info().pid
    children = Path(f"/proc/{keeper}/task/{keeper}/children")
    while not (servers := children.read_text("ascii").split()):
        time.sleep(0.001)
    return int(servers[0])


def _kill_server(session: Session) -> None:
    with contextlib.suppress(ProcessLookupError):  # it is the one that was killed before, and gone now
        os.kill(_server_of(session), signal.SIGKILL)


@pytest.mark.usefixtures("person")
def test_a_server_that_is_killed_beneath_a_client(mounted: tuple[Workspace, Session]) -> None:
    """Reading goes on with the next server; a change was made or not; nothing that was acknowledged is lost."""
    work, session = mounted
    acknowledged: list[int] = []
    unknown = number = 0
    stop = threading.Event()

    def kill() -> None:
        after = 0
        while not stop.wait(0.25):
            if number < after:  # where little gets done in time, servers live longer
                continue
            after = number + 10
            _kill_server(session)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        for number in range(300):
            try:
                work.write(f"k/{number}", b"%d" % number)
                acknowledged.append(number)
                if number % 40 == 0:
                    work.checkpoint(f"k{number}")
                assert work.read(f"k/{acknowledged[-1]}") == b"%d" % acknowledged[-1]
            except Exception as error:
                if getattr(error, "code", "") != "session.outcome_unknown":
                    raise
                unknown += 1
    finally:
        stop.set()
        killer.join()
    for number in acknowledged:
        assert (session.path / "k" / str(number)).read_bytes() == b"%d" % number
        assert work.read(f"k/{number}") == b"%d" % number
    assert len(acknowledged) > 250
    assert [entry.path for entry in work.list_dir("k")] == sorted(
        b"k/" + os.fsencode(name) for name in os.listdir(session.path / "k")
    )
    work.checkpoint("after")
    work.restore("start")
    assert not (session.path / "k").exists()
    work.restore("after")
    assert len(os.listdir(session.path / "k")) == len(work.list_dir("k")) >= len(acknowledged)


@pytest.mark.usefixtures("person")
def test_a_server_that_uses_its_own_tree_and_is_killed(mounted: tuple[Workspace, Session]) -> None:
    """Who exports to the mount, or imports from it, is told whether it was done; programs in the tree go on."""
    work, session = mounted
    for number in range(60):
        work.write(f"source/{number}", b"%d\n" % number * 300)
    told = []
    for number in range(10):
        timer = threading.Timer(0.02 * number, lambda: _kill_server(session))
        timer.start()
        try:
            if number % 2:
                work.import_path(session.path / "source", f"copy{number}", recursive=True)
            else:
                work.export_path("source", session.path / f"copy{number}", recursive=True)
            told.append(number)
        except OutcomeUnknown:
            pass
        timer.join()
        assert (session.path / "source" / "7").read_bytes() == b"7\n" * 300
        (session.path / f"later{number}").write_bytes(b"")
    work.checkpoint("after")
    wanted = {str(number): b"%d\n" % number * 300 for number in range(60)}
    for number in told:
        copy = session.path / f"copy{number}"
        assert {path.name: path.read_bytes() for path in copy.iterdir()} == wanted
        assert {entry.path.rpartition(b"/")[2].decode() for entry in work.list_dir(f"copy{number}")} == set(wanted)

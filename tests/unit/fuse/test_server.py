"""The server against requests laid out by hand: no mount, no kernel."""

from __future__ import annotations

import errno
import os
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avfs_git import faults
from avfs_git.errors import MountError
from avfs_git.fuse import protocol as p
from avfs_git.fuse.channel import MAX_IO, Channel, Request
from avfs_git.fuse.handover.handover import Handover
from avfs_git.fuse.server import TreeServer
from avfs_git.gitstore.formats.trees import MODE_FILE
from avfs_git.paths import Oid
from avfs_git.vfs.asked import Change
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.vfs.tree.inodes import ROOT_INO
from avfs_git.vfs.tree.merged import MergedTree
from tests.support.objects import MemorySource
from tests.unit.fuse.conftest import OFFERED, Ends, Kernel

ROOT = ROOT_INO


@pytest.fixture
def kernel(ends: Ends, tree: MergedTree) -> Iterator[Kernel]:
    """A kernel that is being served; at the end the tree is unmounted."""
    kernel, channel = ends
    server = TreeServer(tree, channel, Handover.make())

    def serve() -> None:
        channel.negotiate()
        server.serve()

    thread = threading.Thread(target=serve)
    thread.start()
    kernel.init()
    yield kernel
    kernel.hang_up()
    thread.join()


def _make(kernel: Kernel, name: bytes, mode: int = stat.S_IFREG | 0o644) -> int:
    entry = p.ENTRY_OUT.unpack(kernel.ask(p.MKNOD, ROOT, p.MKNOD_IN.pack(mode, 0, 0, 0) + name + b"\0"))
    return int(entry[0])


def _write(kernel: Kernel, ino: int, data: bytes, offset: int = 0) -> int:
    (done,) = p.WRITE_OUT.unpack(kernel.ask(p.WRITE, ino, p.WRITE_IN.pack(0, offset, len(data), 0, 0, 0, 0) + data))
    return int(done)


def _read(kernel: Kernel, ino: int, size: int = 4096, offset: int = 0) -> bytes:
    return kernel.ask(p.READ, ino, p.READ_IN.pack(0, offset, size, 0, 0, 0, 0))


# --- the negotiation ---------------------------------------------------------------------------------------------


def _negotiate(ends: Ends, **offer: int) -> tuple[int, ...]:
    kernel, channel = ends
    thread = threading.Thread(target=channel.negotiate)
    thread.start()
    reply = kernel.init(**offer)
    thread.join()
    return reply


def test_only_what_the_kernel_offers_is_agreed_on(ends: Ends) -> None:
    """A flag that the kernel does not know is not asked for."""
    offered = OFFERED & ~p.CACHE_SYMLINKS
    reply = _negotiate(ends, flags=offered)
    wanted = reply[3] | reply[10] << 32

    assert wanted & ~offered == 0
    assert wanted & p.NO_OPEN_SUPPORT
    assert wanted & p.NO_OPENDIR_SUPPORT
    assert wanted & p.DO_READDIRPLUS
    assert wanted & p.EXPLICIT_INVAL_DATA
    assert (reply[6], reply[8]) == (1 << 20, 256)


def test_locks_and_acls_stay_with_the_kernel(ends: Ends) -> None:
    """The server agrees to nothing that would bring requests which nobody answers.

    It does not agree to truncation on open, which is never seen.
    """
    reply = _negotiate(ends)
    posix_locks, atomic_o_trunc, flock_locks, posix_acl = 1 << 1, 1 << 3, 1 << 10, 1 << 20

    assert reply[3] & (posix_locks | atomic_o_trunc | flock_locks | posix_acl) == 0


def test_direct_writes_leave_no_stale_page(ends: Ends) -> None:
    """Asynchronous direct writes are refused: after one the kernel goes on showing what a reader beside it had read."""
    async_dio = 1 << 15

    assert _negotiate(ends)[3] & async_dio == 0


def test_the_kernel_collects_no_writes(ends: Ends) -> None:
    """Its write-back cache stays off, which would send late pages of a file that a restore has replaced."""
    writeback_cache = 1 << 16

    assert _negotiate(ends)[3] & writeback_cache == 0


def test_the_lower_of_two_versions_is_spoken(ends: Ends) -> None:
    """A kernel of another version is answered in one that both know."""
    assert _negotiate(ends, minor=36)[1] == 36
    assert _negotiate(ends, minor=99)[1] == p.MINOR_MAX


def test_a_newer_major_version_asks_again_in_ours(ends: Ends) -> None:
    """As the protocol demands, only the version is answered, and the kernel begins anew."""
    kernel, channel = ends
    thread = threading.Thread(target=channel.negotiate)
    thread.start()
    first = kernel.init(major=8)
    kernel.init()
    thread.join()

    assert first[:2] == (p.MAJOR, p.MINOR_MAX)


@pytest.mark.parametrize("offer", [{"minor": 30}, {"flags": OFFERED & ~p.NO_OPENDIR_SUPPORT}], ids=repr)
def test_a_kernel_that_is_too_old_is_refused(ends: Ends, offer: dict[str, int]) -> None:
    """Where opening would need a request the mount fails with a message, and not later in a program."""
    kernel, channel = ends
    failures: list[MountError] = []

    def negotiate() -> None:
        try:
            channel.negotiate()
        except MountError as error:
            failures.append(error)

    thread = threading.Thread(target=negotiate)
    thread.start()
    number = kernel.fail(p.INIT, 0, kernel.init_body(**offer))
    thread.join()

    assert number == errno.EPROTO
    assert "too old" in failures[0].message


# --- requests ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [p.OPEN, p.OPENDIR, p.FLUSH, p.RELEASE, p.RELEASEDIR, p.CREATE, 39, 40, 52, 999])
def test_opening_and_closing_need_no_request(kernel: Kernel, operation: int) -> None:
    """ENOSYS tells the kernel not to ask again; what nobody knows is answered in the same way."""
    assert kernel.fail(operation, ROOT, bytes(64)) == errno.ENOSYS


def test_a_name_that_is_not_there_is_remembered_by_the_kernel(kernel: Kernel) -> None:
    """The answer to a look in vain is good for ever, because making the name goes through the kernel."""
    entry = kernel.look_up(ROOT, b"nothing")

    assert entry[0] == 0
    assert entry[2] == p.FOREVER_S


def test_a_file_keeps_its_number_and_content_under_a_new_name(kernel: Kernel) -> None:
    """Making, writing, renaming and looking up agree on the node."""
    ino = _make(kernel, b"a\xff")
    assert _write(kernel, ino, b"data", 2) == 4
    kernel.ask(p.RENAME2, ROOT, p.RENAME2_IN.pack(ROOT, 0) + b"a\xff\0b\0")

    assert kernel.look_up(ROOT, b"b")[0] == ino
    assert kernel.look_up(ROOT, b"a\xff")[0] == 0
    assert _read(kernel, ino) == b"\0\0data"
    assert _read(kernel, ino, 2, 3) == b"at"


def test_an_unlinked_file_lives_until_the_kernel_forgets_it(kernel: Kernel, tree: MergedTree) -> None:
    """The kernel's reference keeps it; with the last one it is gone, and its number means nothing."""
    ino = _make(kernel, b"a")
    _write(kernel, ino, b"data")
    kernel.look_up(ROOT, b"a")
    kernel.ask(p.UNLINK, ROOT, b"a\0")
    assert _read(kernel, ino) == b"data"

    kernel.send(p.FORGET, ino, p.FORGET_IN.pack(1))
    assert _read(kernel, ino) == b"data"
    kernel.send(p.BATCH_FORGET, 0, p.BATCH_FORGET_IN.pack(1, 0) + p.FORGET_ONE.pack(ino, 1))
    assert kernel.fail(p.GETATTR, ino, bytes(16)) == errno.ESTALE
    assert tree.nodes.inodes.find(ino) is None


def test_forgetting_what_has_a_name_changes_nothing(kernel: Kernel) -> None:
    """A file that the kernel dropped from its cache is found again."""
    ino = _make(kernel, b"a")
    kernel.send(p.FORGET, ino, p.FORGET_IN.pack(1))

    assert kernel.look_up(ROOT, b"a")[0] != 0


def test_attributes_are_set_together(kernel: Kernel) -> None:
    """Size, mode and times of one request are all there afterwards, the times as given."""
    ino = _make(kernel, b"a")
    valid = p.FATTR_SIZE | p.FATTR_MODE | p.FATTR_ATIME | p.FATTR_MTIME
    body = p.SETATTR_IN.pack(valid, 0, 5, 0, 11, -3, 0, 12, 7, 0, stat.S_IFREG | 0o4711, 0, 0, 0, 0)
    found = p.ATTR_OUT.unpack(kernel.ask(p.SETATTR, ino, body))

    assert found[3] == 5
    assert found[5:7] == (11, -3)
    assert found[8:10] == (12, 7)
    assert found[11] == stat.S_IFREG | 0o4711


@pytest.mark.needs("root")
def test_writing_takes_set_uid_away_from_a_file_if_the_kernel_says_so(kernel: Kernel) -> None:
    """Whoever may not give the bit does not keep it by changing the file.

    The kernel is told that the mode is another now.
    """
    ino = _make(kernel, b"a", stat.S_IFREG | 0o6755)
    unique = kernel.send(p.WRITE, ino, p.WRITE_IN.pack(0, 0, 1, p.WRITE_KILL_SUIDGID, 0, 0, 0) + b"x")

    assert kernel.receive() == (0, -p.NOTIFY_INVAL_INODE, p.INVAL_INODE_OUT.pack(ino, -1, 0))
    assert kernel.receive()[:2] == (unique, 0)

    assert p.ATTR_OUT.unpack(kernel.ask(p.GETATTR, ino, bytes(16)))[11] == stat.S_IFREG | 0o755


@pytest.mark.parametrize(
    ("mode", "mask", "number"), [(0o644, os.X_OK, errno.EACCES), (0o610, os.X_OK, 0), (0, os.R_OK | os.W_OK, 0)]
)
def test_root_may_do_all_but_run_what_is_not_executable(kernel: Kernel, mode: int, mask: int, number: int) -> None:
    """That is what access(2) tells root of a file; a directory may always be entered."""
    ino = _make(kernel, b"new", stat.S_IFREG | mode)
    body = p.ACCESS_IN.pack(mask)

    assert (kernel.fail(p.ACCESS, ino, body) if number else len(kernel.ask(p.ACCESS, ino, body))) == number
    assert kernel.ask(p.ACCESS, ROOT, p.ACCESS_IN.pack(os.X_OK)) == b""


def test_a_file_without_attributes_says_so(kernel: Kernel) -> None:
    """What the kernel asks before the first write to a file, also of one that got an attribute since."""
    ino = _make(kernel, b"new")
    body = p.GETXATTR_IN.pack(0, 0) + b"security.capability\0"

    assert kernel.fail(p.GETXATTR, ino, body) == errno.ENODATA
    kernel.ask(p.SETXATTR, ino, p.SETXATTR_IN.pack(1, 0) + b"user.a\0x")
    assert kernel.fail(p.GETXATTR, ino, body) == errno.ENODATA
    assert kernel.ask(p.GETXATTR, ino, p.GETXATTR_IN.pack(9, 0) + b"user.a\0") == b"x"


def test_labels_and_lists_are_not_supported(kernel: Kernel) -> None:
    """Of files with and without other attributes, and of directories."""
    plain, other = _make(kernel, b"plain"), _make(kernel, b"other")
    kernel.ask(p.SETXATTR, other, p.SETXATTR_IN.pack(1, 0) + b"user.a\0x")
    for ino in (plain, other, ROOT):
        for name in (b"security.selinux", b"system.posix_acl_access", b"system.posix_acl_default"):
            assert kernel.fail(p.GETXATTR, ino, p.GETXATTR_IN.pack(0, 0) + name + b"\0") == errno.EOPNOTSUPP


def test_attributes_of_programs_are_asked_for_by_size_first(kernel: Kernel) -> None:
    """A buffer of no size gives the size, one that is too small ERANGE."""
    ino = _make(kernel, b"a")
    kernel.ask(p.SETXATTR, ino, p.SETXATTR_IN.pack(5, 0) + b"user.a\0a\0b\0c")

    assert kernel.ask(p.GETXATTR, ino, p.GETXATTR_IN.pack(0, 0) + b"user.a\0") == p.GETXATTR_OUT.pack(5)
    assert kernel.ask(p.GETXATTR, ino, p.GETXATTR_IN.pack(99, 0) + b"user.a\0") == b"a\0b\0c"
    assert kernel.fail(p.GETXATTR, ino, p.GETXATTR_IN.pack(4, 0) + b"user.a\0") == errno.ERANGE
    assert kernel.fail(p.GETXATTR, ino, p.GETXATTR_IN.pack(99, 0) + b"user.b\0") == errno.ENODATA
    assert kernel.ask(p.LISTXATTR, ino, p.GETXATTR_IN.pack(99, 0)) == b"user.a\0"


def test_a_listing_goes_on_where_it_ended(kernel: Kernel) -> None:
    """Small pieces give every name once, with `.` and `..`, and pin each node once."""
    made = {b"f%d" % number: _make(kernel, b"f%d" % number) for number in range(40)}
    seen: list[bytes] = []
    position = 0
    while data := kernel.ask(p.READDIRPLUS, ROOT, p.READ_IN.pack(0, position, 1000, 0, 0, 0, 0)):
        assert len(data) <= 1000
        while data:
            ino = struct.unpack_from("=Q", data)[0]
            _, position, length, kind = p.DIRENT.unpack_from(data, p.ENTRY_OUT.size)
            start = p.ENTRY_OUT.size + p.DIRENT.size
            name = data[start : start + length]
            seen.append(name)
            assert ino == made.get(name, 0)
            assert kind == (8 if name in made else 4)
            data = data[start + length + 7 & ~7 :]

    assert sorted(seen) == sorted([b".", b"..", *made])
    assert len(kernel.ask(p.READDIR, ROOT, p.READ_IN.pack(0, 0, 1 << 16, 0, 0, 0, 0))) > 40 * p.DIRENT.size


def test_failures_have_the_number_of_the_system(kernel: Kernel) -> None:
    """Each refusal is the one that POSIX names."""
    directory = int(p.ENTRY_OUT.unpack(kernel.ask(p.MKDIR, ROOT, p.MKDIR_IN.pack(0o755, 0) + b"d\0"))[0])
    _make(kernel, b"a")
    kernel.ask(p.MKDIR, directory, p.MKDIR_IN.pack(0o755, 0) + b"x\0")

    assert kernel.fail(p.RMDIR, ROOT, b"d\0") == errno.ENOTEMPTY
    assert kernel.fail(p.UNLINK, ROOT, b"nothing\0") == errno.ENOENT
    assert kernel.fail(p.MKDIR, ROOT, p.MKDIR_IN.pack(0o755, 0) + b"a\0") == errno.EEXIST
    assert kernel.fail(p.LOOKUP, ROOT, b"n" * 256 + b"\0") == errno.ENAMETOOLONG
    assert kernel.fail(p.GETATTR, 12345, bytes(16)) == errno.ESTALE
    assert kernel.fail(p.RENAME2, ROOT, p.RENAME2_IN.pack(ROOT, 4) + b"a\0b\0") == errno.EINVAL


def test_slow_requests_are_answered_while_others_are_served(kernel: Kernel) -> None:
    """Forcing to disk is answered by somebody else, each by its own number, in any order."""
    ino = _make(kernel, b"a")
    _write(kernel, ino, b"x" * 1000)
    waiting = {kernel.send(p.FSYNC, ino, p.FSYNC_IN.pack(0, number & 1)) for number in range(6)}
    waiting.add(kernel.send(p.GETATTR, ino, bytes(16)))
    while waiting:
        unique, number, _ = kernel.receive()
        assert number == 0
        waiting.remove(unique)


BIG = 3 << 20


@pytest.fixture
def tree_over_big(tmp_path: Path) -> Iterator[MergedTree]:
    """A workspace over a commit with one file that takes a while to copy."""
    (tmp_path / "upper").mkdir()
    (tmp_path / "work").mkdir()
    source = MemorySource()
    lower = LowerTree(source, source.add_tree({b"big": (MODE_FILE, b"b" * BIG)}), None, default_mtime_ns=10**18)
    tree = MergedTree(lower, UpperLayer(tmp_path / "upper", tmp_path / "work"))
    yield tree
    tree.close()


_TO_BIG: dict[str, tuple[int, Callable[[int], tuple[int, bytes]]]] = {
    "write": (p.WRITE, lambda ino: (ino, p.WRITE_IN.pack(0, 1, MAX_IO, 0, 0, 0, 0) + b"w" * MAX_IO)),
    "chmod": (p.SETATTR, lambda ino: (ino, p.SETATTR_IN.pack(p.FATTR_MODE, *[0] * 9, 0o600, *[0] * 4))),
    "rename": (p.RENAME, lambda _: (ROOT, p.RENAME_IN.pack(ROOT) + b"big\0new\0")),
    "allocate": (p.FALLOCATE, lambda ino: (ino, p.FALLOCATE_IN.pack(0, BIG, 1, 0))),
}


@pytest.mark.parametrize("what", _TO_BIG)
def test_a_large_copy_keeps_nobody_else_waiting(ends: Ends, tree_over_big: MergedTree, what: str) -> None:
    """What has to copy a large file up first is answered after others that came later, and the file is whole then."""
    kernel, channel = ends
    copying, others_done = threading.Event(), threading.Event()

    def copied(point: str) -> None:
        if point == "copy_up.written":
            copying.set()
            others_done.wait(60)

    def serve() -> None:
        channel.negotiate()
        TreeServer(tree_over_big, channel, Handover.make()).serve()

    thread = threading.Thread(target=serve)
    thread.start()
    faults.arm(copied)
    try:
        kernel.init()
        ino = int(kernel.look_up(ROOT, b"big")[0])
        operation, lay_out = _TO_BIG[what]
        slow = kernel.send(operation, *lay_out(ino))
        assert copying.wait(60)
        kernel.ask(p.MKDIR, ROOT, p.MKDIR_IN.pack(0o755, 0) + b"quick\0")
        others_done.set()
        unique, number, _ = kernel.receive()
    finally:
        others_done.set()
        faults.arm(None)
        kernel.hang_up()
        thread.join()

    content = (tree_over_big.upper.directory / ("new" if what == "rename" else "big")).read_bytes()
    assert (unique, number) == (slow, 0)
    assert content[:1] + content[-1:] == (b"b\0" if what == "allocate" else b"bb")
    assert content.count(b"w") == (MAX_IO if what == "write" else 0)
    assert len(content) == BIG + (what == "allocate")
    assert os.listdir(tree_over_big.upper.work_dir) == []


def test_reads_of_big_blobs_stop_no_fsync(
    ends: Ends, tree_over_big: MergedTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many wait until one is taken out of its pack: what is forced to disk is answered meanwhile."""
    kernel, channel = ends
    fsync_done = threading.Event()
    stream = MemorySource.stream_blob

    def stream_late(source: MemorySource, oid: Oid) -> Iterator[bytes]:
        fsync_done.wait(60)
        yield from stream(source, oid)

    monkeypatch.setattr(MemorySource, "stream_blob", stream_late)

    def serve() -> None:
        channel.negotiate()
        TreeServer(tree_over_big, channel, Handover.make()).serve()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        kernel.init()
        ino = int(kernel.look_up(ROOT, b"big")[0])
        copy = _make(kernel, b"copy")
        read, copied = p.READ_IN.pack(0, BIG - 1, 2, 0, 0, 0, 0), p.COPY_FILE_RANGE_IN.pack(0, 0, copy, 0, 0, 1, 0)
        waiting = {kernel.send(p.READ, ino, read): b"b" for _ in range(4)}
        waiting |= {kernel.send(p.COPY_FILE_RANGE, ino, copied): p.WRITE_OUT.pack(1) for _ in range(4)}
        kernel.ask(p.FSYNC, copy, p.FSYNC_IN.pack(0, 0))
        fsync_done.set()
        answers = [kernel.receive() for _ in waiting]
    finally:
        fsync_done.set()
        kernel.hang_up()
        thread.join()

    assert {number for _, number, _ in answers} == {0}
    assert {unique: body for unique, _, body in answers} == waiting


def _remove(kernel: Kernel, inos: dict[bytes, int]) -> None:
    """Remove files, and let the kernel forget them as it does right after."""
    for name, ino in inos.items():
        kernel.ask(p.UNLINK, ROOT, name + b"\0")
        kernel.send(p.FORGET, ino, p.FORGET_IN.pack(1))


@pytest.mark.parametrize("count", [3, 200])
def test_what_needs_room_finds_that_of_removed_files(kernel: Kernel, tree: MergedTree, count: int) -> None:
    """Files that were removed and forgotten may be on the disk for a moment, but not when anything is made."""
    inos = {b"%d" % number: _make(kernel, b"%d" % number) for number in range(count)}
    _remove(kernel, inos)
    assert len(os.listdir(tree.upper.work_dir)) <= 70
    _make(kernel, b"next")

    assert os.listdir(tree.upper.work_dir) == []
    assert os.listdir(tree.upper.directory) == ["next"]


def test_removed_files_go_when_nobody_asks_for_anything(kernel: Kernel, tree: MergedTree) -> None:
    """Not only when the next program comes."""
    _remove(kernel, {b"%d" % number: _make(kernel, b"%d" % number) for number in range(20)})
    end = time.monotonic() + 60
    while os.listdir(tree.upper.work_dir) and time.monotonic() < end:
        time.sleep(0.001)

    assert os.listdir(tree.upper.work_dir) == []


def test_link_counts_are_right_while_removed_files_wait(kernel: Kernel) -> None:
    """A file that keeps another name has one name less as soon as it is removed and forgotten."""
    ino = _make(kernel, b"a")
    kernel.ask(p.LINK, ROOT, p.LINK_IN.pack(ino) + b"b\0")
    kernel.ask(p.UNLINK, ROOT, b"a\0")
    kernel.send(p.FORGET, ino, p.FORGET_IN.pack(2))
    entry = p.ENTRY_OUT.unpack(kernel.ask(p.LOOKUP, ROOT, b"b\0"))

    assert entry[16] == 1


def test_what_changed_is_reported(ends: Ends, tmp_path: Path) -> None:
    """Every path that a request changes is in the dirty set of whoever serves."""
    kernel, channel = ends
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    changed: set[bytes] = set()
    tree = kernel.make_tree(tmp_path)
    tree.changes.report_to(lambda path, deep: changed.add(path))

    def serve() -> None:
        channel.negotiate()
        TreeServer(tree, channel, Handover.make()).serve()

    thread = threading.Thread(target=serve)
    thread.start()
    kernel.init()
    ino = _make(kernel, b"a")
    _write(kernel, ino, b"x")
    kernel.ask(p.RENAME2, ROOT, p.RENAME2_IN.pack(ROOT, 0) + b"a\0b\0")
    kernel.hang_up()
    thread.join()
    tree.close()

    assert changed == {b"a", b"b"}


def test_requests_far_apart_and_close_together_are_received_alike(ends: Ends) -> None:
    """Whether the receiver looked for them, slept shortly or long, or was never made to wait."""
    kernel, channel = ends
    request = Request()
    for pause_s in (0.01, 0, 0.0001, 0, 0.00003, 0.01, 0, 0):
        sender = threading.Timer(pause_s, kernel.send, (p.GETATTR, ROOT))
        sender.start()
        assert channel.receive(request)
        assert (request.operation, request.ino) == (p.GETATTR, ROOT)
        sender.join()
    for _ in range(200):  # a burst
        unique = kernel.send(p.GETATTR, ROOT)
        assert channel.receive(request)
        assert request.unique == unique
    kernel.hang_up()
    assert not channel.receive(request)


def test_receiver_that_is_to_leave_waits_no_more(ends: Ends) -> None:
    """It stops as if the tree were unmounted, whether it sleeps or always finds something."""
    kernel, channel = ends
    request = Request()
    threading.Timer(0.01, channel.leave).start()
    assert not channel.receive(request)
    kernel.send(p.GETATTR, ROOT)
    assert not channel.receive(request)


# --- telling the kernel ------------------------------------------------------------------------------------------


def test_notifications_have_no_number(ends: Ends) -> None:
    """What the kernel is to forget is told in the kernel's layout."""
    kernel, channel = ends
    assert channel.forget_content(7)
    assert channel.forget_name(1, b"name")

    assert kernel.receive() == (0, -p.NOTIFY_INVAL_INODE, p.INVAL_INODE_OUT.pack(7, 0, 0))
    assert kernel.receive() == (0, -p.NOTIFY_INVAL_ENTRY, p.INVAL_ENTRY_OUT.pack(1, 4, 0) + b"name\0")


def test_a_channel_can_be_closed_twice() -> None:
    """Giving up what is given up already does nothing."""
    reader, writer = os.pipe()
    os.close(writer)
    channel = Channel(reader)
    channel.close()
    channel.close()


def test_a_plugin_that_fails_lets_nothing_through(ends: Ends, tmp_path: Path) -> None:
    """Also not where its failure looks as if the changed file had no name."""
    kernel, channel = ends
    for name in ("upper", "work"):
        (tmp_path / name).mkdir()
    tree = kernel.make_tree(tmp_path)

    def allows(change: Change) -> bool:
        raise FileNotFoundError(change.path)

    def serve() -> None:
        channel.negotiate()
        TreeServer(tree, channel, Handover.make(), allows=allows).serve()

    thread = threading.Thread(target=serve)
    thread.start()
    kernel.init()
    assert kernel.fail(p.MKDIR, ROOT, p.MKDIR_IN.pack(0o755, 0) + b"made\0") == errno.EIO
    kernel.hang_up()
    thread.join()
    tree.close()

    assert not (tmp_path / "upper" / "made").exists()

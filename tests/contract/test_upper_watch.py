"""What a capture may leave unlooked at while the kernel's overlayfs shows a workspace: never anything that changed.

The witness is a comparison of everything: after each checkpoint that looked at nothing but what it was told of, it
finds no difference.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from avfs_git import Workspace, faults
from avfs_git.errors import AvfsError
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.processes.watches import Told, Watches
from avfs_git.paths import TreePath
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.vfs.scan import upperwatch
from avfs_git.vfs.scan.scan import DirtySet
from avfs_git.vfs.scan.statcache import RACY_NS, Fingerprints
from avfs_git.vfs.scan.upperwatch import UpperWatch
from avfs_git.workspace.opened.shown import Shown
from tests.support.failing import armed
from tests.support.faults import make_source, make_vault
from tests.support.shown import mounted_layers, opened_of, serving
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.needs("root", "overlayfs", "git", "user-xattrs", "whiteout")]

_AT_FDCWD, _AT_SYMLINK_FOLLOW = -100, 0x400  # linux/fcntl.h


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few entries be worth it."""
    monkeypatch.setattr(upperwatch, "_WORTH", 1)


@pytest.fixture
def work(tmp_path: Path, mount_dir: Path) -> Iterator[Workspace]:
    """A workspace that is mounted at `tree`, with some files that were recorded and are known."""
    tree = mount_dir / "tree"
    vault = make_vault(tmp_path / "home", make_source(tmp_path / "source"))
    with mounted_layers(vault, tmp_path / "source", tree):
        vault.close()
        with serving(tmp_path / "home", tree) as served:
            for name in ("one", "two", "three"):
                (tree / "many" / name).write_text(name)
            (tree / "many" / "deep").mkdir()
            (tree / "many" / "deep" / "four").write_text("four")
            (tree / "many" / "link").symlink_to("one")
            (tree / "map").write_bytes(bytes(8192))
            for _ in range(3):  # compared with everything, seen whether it is told, and known
                (tree / "many" / "two").write_text(os.urandom(4).hex())
                served.checkpoint()
            yield served


def tree_of(work: Workspace) -> Path:
    """Tell where a workspace is shown."""
    shown = opened_of(work).shown_at
    assert shown is not None
    return shown


def watch_of(work: Workspace) -> UpperWatch:
    """Give what the workspace knows of the kernel's changes."""
    mode = opened_of(work).mode
    assert isinstance(mode, Shown)
    assert mode.watch is not None
    return mode.watch


def is_whole(work: Workspace) -> bool:
    """Whether the next capture looks at nothing but what it is told of."""
    return watch_of(work)._is_whole


def check_recorded(work: Workspace) -> None:
    """Demand that what was recorded last is all there is, by looking at everything."""
    watch = watch_of(work)
    was_whole = watch._is_whole
    watch.distrust()
    status = work.status()
    watch._is_whole = was_whole
    assert (status.changed_files, status.sidecar_changed) == ((), ())


def _write(tree: Path) -> None:
    (tree / "many" / "one").write_text("other")


def _write_same_length(tree: Path) -> None:
    with open(tree / "many" / "one", "r+b") as file:
        file.write(b"eno")


def _truncate(tree: Path) -> None:
    os.truncate(tree / "many" / "one", 1)


def _change_mode(tree: Path) -> None:
    (tree / "many" / "one").chmod(0o700)


def _change_mode_by_descriptor(tree: Path) -> None:
    with open(tree / "many" / "one", "rb") as file:
        os.fchmod(file.fileno(), 0o700)


def _set_attribute(tree: Path) -> None:
    os.setxattr(tree / "many" / "one", "user.seen", b"yes")


def _change_mode_of_directory(tree: Path) -> None:
    (tree / "many" / "deep").chmod(0o700)


def _rename(tree: Path) -> None:
    (tree / "many" / "one").rename(tree / "many" / "deep" / "moved")


def _replace(tree: Path) -> None:
    (tree / "many" / "one").replace(tree / "many" / "two")


def _rename_directory(tree: Path) -> None:
    (tree / "many" / "deep").rename(tree / "moved")
    (tree / "moved" / "four").write_text("after")


def _replace_directory(tree: Path) -> None:
    (tree / "many" / "deep").rename(tree / "moved")
    (tree / "many" / "deep").mkdir()
    (tree / "many" / "deep" / "four").write_text("of another")


def _make_directories(tree: Path) -> None:
    (tree / "new" / "a" / "b").mkdir(parents=True)
    (tree / "new" / "a" / "b" / "file").write_text("new")


def _remove_directory(tree: Path) -> None:
    shutil.rmtree(tree / "many" / "deep")


def _write_by_another_name(tree: Path) -> None:
    os.link(tree / "many" / "one", tree / "linked")
    (tree / "linked").write_text("by another name")


def _keep_another_name(tree: Path) -> None:
    os.link(tree / "many" / "one", tree / "linked")
    (tree / "many" / "one").unlink()
    (tree / "linked").write_text("by another name")


def _give_a_name(tree: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    with closing_fd(os.open(tree / "many", os.O_TMPFILE | os.O_RDWR)) as fd:
        os.write(fd, b"without a name at first")
        source, target = b"/proc/self/fd/%d" % fd, os.fsencode(tree / "many" / "named")
        assert libc.linkat(_AT_FDCWD, source, _AT_FDCWD, target, _AT_SYMLINK_FOLLOW) == 0


def _replace_link(tree: Path) -> None:
    (tree / "many" / "link").unlink()
    (tree / "many" / "link").symlink_to("two")


def _become_directory(tree: Path) -> None:
    (tree / "many" / "one").unlink()
    (tree / "many" / "one").mkdir()
    (tree / "many" / "one" / "inside").write_text("inside")


def _copy_up(tree: Path) -> None:
    (tree / "secret.log").write_text("of the base")


def _remove_from_base(tree: Path) -> None:
    (tree / "build" / "out.o").unlink()


def _change_what_is_ignored(tree: Path) -> None:
    (tree / "many" / ".gitignore").write_text("two\n")
    (tree / ".gitignore").write_text("")


CHANGES = [
    _write,
    _write_same_length,
    _truncate,
    _change_mode,
    _change_mode_by_descriptor,
    _set_attribute,
    _change_mode_of_directory,
    _rename,
    _replace,
    _rename_directory,
    _replace_directory,
    _make_directories,
    _remove_directory,
    _write_by_another_name,
    _keep_another_name,
    _give_a_name,
    _replace_link,
    _become_directory,
    _copy_up,
    _remove_from_base,
    _change_what_is_ignored,
]


def test_each_change_is_found_without_looking_at_the_rest(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a program does to a known file, twice: what was changed once is known again."""
    tree = tree_of(work)
    looked: list[bytes] = []
    scan = UpperLayer.scan_dir

    def scan_dir(layer: UpperLayer, directory: int, path: bytes) -> list[object]:
        looked.append(path)
        return scan(layer, directory, path)  # type: ignore[arg-type,return-value]  # as it is called

    assert is_whole(work)
    for change in CHANGES:
        for _ in range(2):
            before = work.log()[0].checkpoint.id
            with monkeypatch.context() as patched:
                patched.setattr(UpperLayer, "scan_dir", scan_dir)
                looked.clear()
                change(tree)
                assert work.checkpoint().outcome == "created", change.__name__
                assert b"" not in looked, change.__name__
            assert is_whole(work)
            check_recorded(work)
            work.restore(before)
            work.checkpoint()
            check_recorded(work)


def test_what_is_mapped_is_looked_at_until_nobody_has_it(work: Workspace) -> None:
    """Memory is written to without a word, long after the file was opened and closed."""
    tree = tree_of(work)
    fd = os.open(tree / "map", os.O_RDWR)
    memory = mmap.mmap(fd, 8192)
    os.close(fd)
    work.checkpoint()
    for number in range(1, 5):
        memory[0] = memory[5000] = number
        assert work.checkpoint().outcome == "created"
        assert work.read("map")[5000] == number
        assert is_whole(work)
    memory[0] = 99
    memory.close()
    assert work.checkpoint().outcome == "created"
    check_recorded(work)


def test_what_a_failed_checkpoint_has_seen_is_seen_again(work: Workspace) -> None:
    """What was looked at, and not recorded, counts as changed; so does what a status has looked at."""
    tree = tree_of(work)
    (tree / "many" / "one").write_text("changed")
    (tree / "many" / "new").mkdir()
    (tree / "many" / "new" / "file").write_text("new")
    (tree / "link").unlink()
    work.status()
    for point in ("capture.file_read", "checkpoint.packed"):

        def fail(reached: str, point: str = point) -> None:
            if reached == point:
                raise OSError(errno.EIO, "fails")

        with armed(fail), pytest.raises((AvfsError, OSError)):
            work.checkpoint()
    found = {change.path for change in work.checkpoint().changed_files}
    assert found == {b"many/one", b"many/new/file", b"link"}
    check_recorded(work)


def test_what_a_directory_brings_while_a_checkpoint_reads_is_watched(work: Workspace) -> None:
    """What a round has proven counts no more when a directory above it comes or goes: a later change of it is found."""
    tree = tree_of(work)

    def move(reached: str) -> None:
        if reached == "capture.file_read":
            faults.arm(None)
            (tree / "many" / "deep").rename(tree / "moved")
            (tree / "moved").rename(tree / "many" / "deep")

    (tree / "a").write_text("read before the directory is looked at")
    (tree / "many" / "deep" / "four").read_bytes()
    written_ns = time.time_ns()
    wait_for(lambda: time.time_ns() > written_ns + 2 * RACY_NS)  # so that no round reads it again
    with armed(move):
        work.checkpoint()
    assert is_whole(work)
    (tree / "many" / "deep" / "four").write_text("after")
    assert work.checkpoint().outcome == "created"
    check_recorded(work)


def test_a_further_round_looks_only_at_what_changed_since(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one round has proven is not looked at again, unless a program has touched it since."""
    tree = tree_of(work)
    seen = [TreePath(path) for path in (b"many/one", b"many/two", b"many/new/file", b"map")]
    rounds: list[set[bytes]] = []
    meanwhile: list[Callable[[], object]] = []
    extend = UpperWatch.extend

    def told(watch: UpperWatch, found: Fingerprints | None) -> DirtySet | None:
        for change in meanwhile[:1]:
            meanwhile.pop(0)
            change()
        dirty = extend(watch, found)
        assert dirty is not None
        rounds.append({path for path in seen if dirty.may_hold(path)})
        return dirty

    monkeypatch.setattr(UpperWatch, "extend", told)
    (tree / "many" / "one").write_text("before")
    (tree / "many" / "new").mkdir()
    (tree / "many" / "new" / "file").write_text("new")
    assert work.checkpoint().outcome == "created"
    assert rounds == [set()]
    check_recorded(work)

    rounds.clear()
    (tree / "many" / "one").write_text("first")
    meanwhile += [
        lambda: (tree / "many" / "two").write_text("while it reads"),
        lambda: (tree / "many" / "new" / "file").write_text("while it reads again"),
    ]
    assert work.checkpoint().outcome == "created"
    assert rounds == [{b"many/two"}, {b"many/new/file"}, set()]
    assert work.read("many/new/file") == b"while it reads again"
    check_recorded(work)


def test_what_the_kernel_forgets_is_found_by_looking(work: Workspace) -> None:
    """More is opened than the kernel notes: everything is compared, and some time later known again."""
    tree = tree_of(work)
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    places = [tree / "many" / "one", tree / "map"]
    for number in range(most + 10):
        os.close(os.open(places[number % 2], os.O_RDONLY))
    (tree / "many" / "two").write_text("lost")
    assert [change.path for change in work.checkpoint().changed_files] == [b"many/two"]
    assert not is_whole(work)
    for number in range(3):
        (tree / "many" / "two").write_text(f"again {number}")
        work.checkpoint()
    assert is_whole(work)
    check_recorded(work)


def _tells_nothing(_: Watches) -> list[Told]:
    return []


def _refuses(_: Watches, *, spare: int = 0) -> None:
    raise OSError(errno.EMFILE, f"no more of these, and not {spare} others")


def test_a_layer_that_grows_is_watched(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Captures of a layer that was too small are no reason not to watch it when it has grown.

    What is proven is proven once.
    """
    opened, many = opened_of(work), TreePath(b"many")
    watch = UpperWatch(tree_of(work))
    monkeypatch.setattr(upperwatch, "_WORTH", 1000)
    with opened.locked(), closing_fd(os.open(tree_of(work) / "many" / "one", os.O_RDONLY)) as fd:
        watch.begin(opened.cache, lasts=True)
        watch.prove(many, b"one", fd)
        was_on = watch.is_on
        monkeypatch.setattr(upperwatch, "_WORTH", 1)
        watch.begin(opened.cache, lasts=True)
        is_on = watch.is_on
        found = opened.mode.read_upper().list_dir(many)
        watch.see_names(many, found)
        wanted = watch.wants(many, b"one")
        watch.prove(many, b"one", fd)
        again = watch.wants(many, b"one")
    watch.close()

    assert (was_on, is_on, wanted, again) == (False, True, True, False)


def test_a_layer_that_holds_too_much_is_compared(work: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inodes that are watched are kept from other programs."""
    monkeypatch.setattr(upperwatch, "_MOST", 8)
    tree = tree_of(work)
    opened_of(work).show_at(tree)  # as another server, which has nothing known
    for number in range(4):
        (tree / "many" / "two").write_text(f"turn {number}")
        assert [change.path for change in work.checkpoint().changed_files] == [b"many/two"]
        assert not is_whole(work)


@pytest.mark.parametrize(
    ("method", "instead"), [("read", _tells_nothing), ("__init__", _refuses), ("add_file", _refuses)]
)
def test_where_the_kernel_does_not_tell_everything_is_compared(
    work: Workspace, monkeypatch: pytest.MonkeyPatch, method: str, instead: Callable[[Watches], object]
) -> None:
    """A kernel that tells nothing of what is opened through overlayfs, or has no room."""
    tree = tree_of(work)
    opened_of(work).show_at(tree)  # as another server, which has nothing known
    monkeypatch.setattr(Watches, method, instead if method != "add_file" else lambda watches, _: instead(watches))
    for number in range(4):
        (tree / "many" / "two").write_text(f"turn {number}")
        assert [change.path for change in work.checkpoint().changed_files] == [b"many/two"]
        assert not is_whole(work)


def _keep(kept: list[int], path: Path) -> None:
    """Keep a file open for writing."""
    kept.append(os.open(path, os.O_RDWR))


def _use(kept: list[int], which: int, data: bytes) -> None:
    """Write to a file that was kept open, or close it."""
    os.pwrite(kept[which], data, 0)
    if which % 2:
        os.close(kept.pop(which))


@pytest.mark.parametrize("seed", range(3))
def test_any_changes_in_any_order(work: Workspace, seed: int) -> None:
    """Files that are made, written, renamed, linked and removed, some while they are kept open: nothing escapes."""
    tree, chance = tree_of(work), random.Random(seed)
    directories = [tree / "many", tree / "many" / "deep", tree / "x", tree / "y"]
    names = [directory / name for directory in directories for name in ("one", "p", "q")]
    kept: list[int] = []
    for turn in range(40):
        for _ in range(chance.randrange(4)):
            one, other, directory = chance.choice(names), chance.choice(names), chance.choice(directories)
            steps: list[Callable[[], object]] = [
                partial(one.write_text, f"{turn} {one.name}"),
                one.read_bytes,
                partial(one.replace, other),
                partial(os.link, one, other),
                one.unlink,
                partial(_keep, kept, one),
                directory.mkdir,
                partial(directory.rename, tree / "moved"),
                partial((tree / "moved").rename, directory),
                partial(_use, kept, chance.randrange(10), b"%d" % turn),
            ]
            try:
                chance.choice(steps)()
            except (OSError, IndexError):
                continue
        work.checkpoint()
        check_recorded(work)
    for fd in kept:
        os.close(fd)
    assert is_whole(work)

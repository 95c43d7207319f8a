"""File events: what programs do in a live tree, as a listener is told of it, and that no listener holds up the tree."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from avfs_git.errors import NoFileEvents
from avfs_git.model import FileEvent
from avfs_git.sdk import Avfs, Session, Workspace
from avfs_git.sdk.workspace.fileevents import FileEvents
from avfs_git.session.control.listening import LISTENERS_MAX
from avfs_git.session.serve.overlay.events import OverlayEvents
from avfs_git.session.serve.overlay.upperchanges import QUEUED
from tests.support.killing import server_below
from tests.support.live_tree import PROJECT

pytestmark = [pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"), pytest.mark.slow]

Told = tuple[str, bytes | None, bytes | None]
Sized = tuple[str, bytes | None, bytes | None, int | None]


@pytest.fixture
def work(mount_dir: Path) -> Iterator[Workspace]:
    """A fork with a file."""
    with Avfs(mount_dir / "home") as avfs, avfs.create_vault("v") as vault:
        made = vault.fork("work")
        made.write("base", b"of the base\n")
        made.checkpoint("base")
        made.fold()
        yield made


@pytest.fixture
def mounted(work: Workspace, mount_dir: Path) -> Iterator[Session]:
    """Its live tree: root's on overlayfs, an ordinary user's through FUSE."""
    with work.mount(mount_dir / "tree") as session:
        yield session


@pytest.fixture
def by_fuse(work: Workspace, mount_dir: Path) -> Iterator[Session]:
    """Its live tree through FUSE."""
    with work.mount(mount_dir / "tree", backend="fuse") as session:
        yield session


def told(events: Iterator[FileEvent], last: str = "last") -> list[FileEvent]:
    """Take events up to the creation of a file of that name."""
    found: list[FileEvent] = []
    for event in events:
        if (event.op, event.path) == ("create", last.encode()):
            return found
        found.append(event)
    raise AssertionError(f"the events ended with {found}")


def short(events: list[FileEvent]) -> list[Sized]:
    """Leave out what differs from run to run."""
    return [(event.op, event.path, event.old_path, event.size) for event in events]


@pytest.mark.usefixtures("person")
def test_each_kind_of_change_is_an_event(work: Workspace, by_fuse: Session) -> None:
    """With its path, bytes, process and user; a file keeps its events when it is renamed."""
    tree = by_fuse.path
    with work.file_events() as events:
        (tree / "a").write_bytes(b"hello")
        (tree / "dir").mkdir()
        (tree / "a").rename(tree / "dir" / "b")
        os.truncate(tree / "dir" / "b", 2)
        (tree / "dir" / "b").chmod(0o600)
        os.setxattr(tree / "dir" / "b", "user.x", b"1")
        (tree / "l").symlink_to("dir")
        (tree / "dir" / "b").unlink()
        (tree / "dir").rmdir()
        (tree / "last").touch()
        found = told(events)

    assert short(found) == [
        ("create", b"a", None, None),
        ("write", b"a", None, 5),
        ("create", b"dir", None, None),
        ("rename", b"dir/b", b"a", None),
        ("truncate", b"dir/b", None, 2),
        ("setattr", b"dir/b", None, None),
        ("setattr", b"dir/b", None, None),
        ("create", b"l", None, None),
        ("unlink", b"dir/b", None, None),
        ("unlink", b"dir", None, None),
    ]
    assert {(event.pid, event.uid, event.verdict) for event in found} == {(os.getpid(), os.geteuid(), "allowed")}


def test_a_read_is_an_event_until_the_kernel_has_the_content(work: Workspace, by_fuse: Session) -> None:
    """A second one asks no server."""
    with work.file_events() as events:
        for _ in range(2):
            assert (by_fuse.path / "base").read_bytes() == b"of the base\n"
        (by_fuse.path / "last").touch()
        assert short(told(events)) == [("read", b"base", None, 12)]


def test_a_refused_change_says_which_error_the_program_got(work: Workspace, by_fuse: Session) -> None:
    """A directory that is not empty stays."""
    (by_fuse.path / "dir").mkdir()
    (by_fuse.path / "dir" / "file").touch()
    with work.file_events() as events:
        with pytest.raises(OSError, match="not empty"):
            (by_fuse.path / "dir").rmdir()
        (by_fuse.path / "last").touch()
        (refused,) = told(events)

    assert (refused.op, refused.path, refused.verdict, refused.error) == ("unlink", b"dir", "refused", "ENOTEMPTY")


@pytest.mark.usefixtures("person")
def test_a_thread_is_named_by_its_process(work: Workspace, mounted: Session) -> None:
    """The kernel names threads."""
    with work.file_events() as events:
        thread = threading.Thread(target=(mounted.path / "last").touch)
        thread.start()
        thread.join()
        assert next(events).pid == os.getpid()


def test_hard_links_exchanges_and_files_without_a_name(work: Workspace, by_fuse: Session) -> None:
    """A link tells both names, an exchange is two renames, and what has no name has no path."""
    tree = by_fuse.path
    (tree / "a").touch()
    (tree / "b").touch()
    with work.file_events() as events:
        (tree / "c").hardlink_to(tree / "a")
        code = "import ctypes, os, sys; sys.exit(ctypes.CDLL(None).renameat2(-100, b'a', -100, b'b', 2))"
        subprocess.run([sys.executable, "-c", code], check=True, cwd=tree)
        with (tree / "b").open("ab") as file:
            (tree / "b").unlink()
            (tree / "c").unlink()
            file.write(b"x")
        (tree / "last").touch()
        found = [event for event in told(events) if event.op != "read"]

    assert short(found) == [
        ("create", b"c", b"a", None),
        ("rename", b"b", b"a", None),
        ("rename", b"a", b"b", None),
        ("unlink", b"b", None, None),
        ("unlink", b"c", None, None),
        ("write", None, None, 1),
    ]


@pytest.mark.usefixtures("person")
def test_every_listener_is_told_and_the_end_of_the_mount_is_theirs(work: Workspace, mounted: Session) -> None:
    """The last events come before the end; a fork that is not mounted has no events."""
    with work.file_events() as first, work.file_events() as second:
        (mounted.path / "x").touch()
        mounted.unmount()
        ends = [short(list(events)) for events in (first, second)]

    assert [listed[0] for listed in ends] == [("create", b"x", None, None)] * 2
    with pytest.raises(NoFileEvents, match="not mounted"):
        work.file_events()


@pytest.mark.usefixtures("person")
def test_closing_ends_the_iteration_of_another_thread(work: Workspace, mounted: Session) -> None:
    """It waits for an event that does not come."""
    events = work.file_events()
    found: list[FileEvent] = []
    thread = threading.Thread(target=lambda: found.extend(events))
    thread.start()
    events.close()
    thread.join()
    events.close()

    assert found == []


@pytest.mark.usefixtures("person")
def test_a_signal_that_does_not_interrupt_the_wait_ends_it(work: Workspace, mounted: Session) -> None:
    """As one that comes just before it: Python runs the handler of it in the main thread, when that goes on."""

    class Interrupted(Exception):
        pass

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with work.file_events() as events:
            beside = threading.Timer(0.3, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1))
            beside.start()
            with pytest.raises(Interrupted):
                next(events)
            beside.join()
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_names_that_are_no_text(work: Workspace, mounted: Session) -> None:
    """Bytes as they are, and paths that are longer than a value on a line."""
    deep = b"/".join([b"\xff\n" * 60] * 30)
    with work.file_events() as events:
        os.makedirs(os.path.join(os.fsencode(mounted.path), deep))
        made = [next(events).path for _ in range(30)]

    assert made[-1] == deep


@pytest.mark.parametrize("ends", [signal.SIGSTOP, signal.SIGKILL])
@pytest.mark.usefixtures("person")
def test_a_listener_that_hangs_or_dies_holds_up_no_program(
    work: Workspace, mounted: Session, ends: signal.Signals
) -> None:
    """The tree goes on, and another listener is told everything."""
    with _listener(work) as child, work.file_events() as events:
        os.kill(child.pid, ends)
        for number in range(300):
            (mounted.path / f"{number}").write_bytes(b"x")
        (mounted.path / "last").touch()
        found = told(events)

    assert [event.path for event in found if event.op == "create"] == [b"%d" % number for number in range(300)]


@pytest.mark.usefixtures("person")
def test_listeners_are_limited(work: Workspace, mounted: Session) -> None:
    """A listener that goes makes room for another one, as soon as the session has noticed."""
    held = [work.file_events() for _ in range(LISTENERS_MAX)]
    with pytest.raises(NoFileEvents, match=f"{LISTENERS_MAX} listeners"):
        work.file_events()
    held.pop().close()
    while not _can_listen(work, held.append):
        (mounted.path / "x").touch()
    for events in held:
        events.close()


@pytest.mark.usefixtures("person")
def test_the_death_of_a_server_is_told(work: Workspace, mounted: Session) -> None:
    """Events may be missing there; those of the next server follow."""
    with work.file_events() as events:
        os.kill(server_below(mounted.info().pid), signal.SIGKILL)
        lost = next(events)
        (mounted.path / "after").touch()  # the next server has the listener by now
        after = next(events)

    assert (lost.op, lost.dropped) == ("dropped", None)
    assert (after.op, after.path) == ("create", b"after")


@pytest.mark.needs("libfuse")
def test_a_backend_without_events_says_so(work: Workspace, mount_dir: Path) -> None:
    """And which one has some."""
    with (
        work.mount(mount_dir / "other", backend="portable"),
        pytest.raises(NoFileEvents, match="tells none") as refused,
    ):
        work.file_events()

    assert "--backend" in str(refused.value.hint)


# What a program does, and the events: in the upper layer, over files of the base, and where whiteouts are.
WRITTEN: list[Told] = [("create", b"t", None), ("write", b"t", None)]
OVERLAID: list[tuple[str, list[Told]]] = [
    ("open('a (deleted)', 'wb').write(b'x')", [("create", b"a (deleted)", None), ("write", b"a (deleted)", None)]),
    ("open('base').read()", [("read", b"base", None)]),
    ("open('base', 'a').write('more')", [("write", b"base", None)]),
    ("os.chmod('base', 0o600)", [("setattr", b"base", None)]),
    ("os.chmod('sub/one', 0o600)", [("setattr", b"sub/one", None)]),
    ("os.truncate('base', 3)", [("write", b"base", None)]),
    ("os.rename('base', 'sub/base')", [("rename", b"sub/base", b"base")]),
    ("os.mkdir('dir'); os.mkdir('dir/in')", [("create", b"dir", None), ("create", b"dir/in", None)]),
    ("os.rename('dir', 'moved')", [("rename", b"moved", b"dir")]),
    ("os.symlink('x', 'moved/in/l')", [("create", b"moved/in/l", None)]),
    ("os.link('sub/one', 'two')", [("create", b"two", None)]),
    ("os.unlink('two')", [("unlink", b"two", None)]),
    ("os.unlink('sub/one')", [("unlink", b"sub/one", None)]),
    ("os.mkdir('sub/one')", [("create", b"sub/one", None)]),
    ("os.rename('before', 'after')", [("rename", b"after", b"before")]),
    ("os.mkdir('after/new')", [("create", b"after/new", None)]),
    (
        "import shutil; shutil.rmtree('moved')",
        [("unlink", b"moved/in/l", None), ("unlink", b"moved/in", None), ("unlink", b"moved", None)],
    ),
    (
        "os.rmdir('sub/one'); os.unlink('sub/base'); os.rmdir('sub')",
        [("unlink", n, None) for n in (b"sub/one", b"sub/base", b"sub")],
    ),
    ("os.symlink('x', 'sub')", [("create", b"sub", None)]),
    # The kernel removes the whiteout that the first leaves before it is told.
    ("os.rename('other', 'sub2'); os.mkdir('other')", [("rename", b"sub2", b"other"), ("create", b"other", None)]),
    (
        "f = os.open('t', os.O_CREAT | os.O_WRONLY); os.write(f, b'x'); os.rename('t', 'f')",
        [*WRITTEN, ("rename", b"f", b"t")],
    ),
    (
        (
            "f = os.open('.', os.O_TMPFILE | os.O_WRONLY); os.write(f, b'x'); os.link(f'/proc/self/fd/{f}', 'made', "
            "src_dir_fd=f)"
        ),
        [("write", None, None), ("create", b"made", None)],
    ),
    (
        "s, t = os.open('f', 0), os.open('sent', os.O_CREAT | os.O_WRONLY); os.sendfile(t, s, 0, 1)",
        [("create", b"sent", None), ("read", b"f", None), ("write", b"sent", None)],
    ),
    ("os.link('f', 'g')", [("create", b"g", None)]),
    ("r = open('f', 'rb'); os.unlink('f'); r.read(1)", [("unlink", b"f", None), ("read", None, None)]),
]


@pytest.mark.needs("overlayfs")
def test_overlayfs_tells_what_programs_do(work: Workspace, mount_dir: Path) -> None:
    """Events name their process; overlayfs's own acts, avfs and programs elsewhere on the file system cause none."""
    work.make_dir("sub")
    work.write("sub/one", b"1\n")
    work.write("other", b"2\n")
    work.checkpoint("sub")
    work.fold()
    work.make_dir("before")
    with work.mount(mount_dir / "tree", backend="overlay") as session, work.file_events() as events:
        pids = []
        for program, _ in OVERLAID:
            (mount_dir / "elsewhere").touch()
            child = subprocess.Popen([sys.executable, "-c", f"import os; {program}"], cwd=session.path)
            assert child.wait() == 0
            pids.append(child.pid)
        work.write("own", b"no event\n")
        work.checkpoint("nor this")
        session.unmount()
        found = [event for event in events if event.op != "dropped"]

    for pid, (program, expected) in zip(pids, OVERLAID, strict=True):
        assert [(event.op, event.path, event.old_path) for event in found if event.pid == pid] == expected, program
    assert {event.pid for event in found} == set(pids)


@pytest.mark.needs("overlayfs")
def test_overlayfs_tells_what_is_done_in_directories_that_were_there(work: Workspace, mount_dir: Path) -> None:
    """Also where they are renamed or gone before that is told."""
    for directory in ("old", "old/in", "old/gone"):
        work.make_dir(directory)
    work.vault.set_config("audit.files", "changes")
    with work.mount(mount_dir / "tree", backend="overlay") as session:
        for number in range(100):
            (session.path / "old" / "in" / f"{number}").touch()
        (session.path / "old" / "gone" / "x").touch()
        shutil.rmtree(session.path / "old" / "gone")
        (session.path / "old" / "in").rename(session.path / "old" / "moved")
        (session.path / "old").rename(session.path / "new")
        (session.path / "made").mkdir()
        (session.path / "made" / "x").touch()
        shutil.rmtree(session.path / "made")

    entries = reversed(work.vault.policy.audit(files=True))
    found = [(entry.event, entry.details.get("path"), entry.details.get("old_path")) for entry in entries]
    assert [path for event, path, _ in found if event == "file_create"][:100] == [
        f"old/in/{number}" for number in range(100)
    ]
    assert {told for told in found if "old/in/" not in str(told[1]) and told[0] != "file_setattr"} == {
        ("file_create", "old/gone/x", None),
        ("file_unlink", "old/gone/x", None),
        ("file_unlink", "old/gone", None),
        ("file_rename", "old/moved", "old/in"),
        ("file_rename", "new", "old"),
        ("file_create", "made", None),
        ("file_create", "made/x", None),
        ("file_unlink", "made/x", None),
        ("file_unlink", "made", None),
    }


@pytest.mark.needs("overlayfs")
def test_overlayfs_tells_of_paths_that_the_kernel_cannot_tell(work: Workspace, mount_dir: Path) -> None:
    """A read or write there ends nothing, and the tree can be unmounted."""
    down = (
        "import os\nfor _ in range(25):\n    if not os.path.exists('d' * 200): os.mkdir('d' * 200)\n    "
        "os.chdir('d' * 200)\n"
    )
    up = "for _ in range(25):\n    os.chdir('..')\n    os.rmdir('d' * 200)\n"
    top = b"/".join([b"d" * 200] * 25)
    with work.mount(mount_dir / "tree", backend="overlay") as session:
        subprocess.run([sys.executable, "-c", down], cwd=session.path, check=True)
        with work.file_events() as events:
            code = f"{down}open('f', 'w').write('x')\nopen('f').read()\nos.unlink('f')\n{up}"
            subprocess.run([sys.executable, "-c", code], cwd=session.path, check=True)
            session.unmount()
            found = [event for event in events if event.op != "dropped"]

    assert {event.op for event in found} == {"create", "write", "read", "unlink"}
    assert [event.path for event in found if event.op in ("create", "unlink")] == [
        top + b"/f",
        top + b"/f",
        *(b"/".join([b"d" * 200] * depth) for depth in range(25, 0, -1)),
    ]


@pytest.mark.needs("overlayfs")
def test_without_descriptors_there_are_no_events_and_none_is_lost(tmp_path: Path) -> None:
    """Whichever of those that are needed is the first that is not to be had."""
    code = (
        "import os, resource, sys; from pathlib import Path; from avfs_git.errors import NoFileEvents\n"
        "from avfs_git.session.serve.overlay.events import OverlayEvents\n"
        "at = Path(sys.argv[1]); events = OverlayEvents('work', at, at.stat().st_dev, upper=at, work=at)\n"
        "before = len(os.listdir('/proc/self/fd'))\n"
        "for limit in range(3, 20):\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, 20))\n"
        "    try: events.add(id)\n"
        "    except NoFileEvents: print('none')\n"
        "    else: events.remove(id); print('some')\n"
        "    resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))\n"
        "    assert len(os.listdir('/proc/self/fd')) == before, limit\n"
    )
    (tmp_path / "work").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], cwd=PROJECT, check=True, stdout=subprocess.PIPE, text=True
    )
    answers = done.stdout.split()
    assert answers == sorted(answers)
    assert set(answers) == {"none", "some"}


@pytest.mark.needs("overlayfs")
def test_overlayfs_tells_what_waits_when_a_listener_goes(tmp_path: Path) -> None:
    """However much that is."""
    (tmp_path / "work").mkdir()
    found: list[FileEvent] = []
    is_over = threading.Event()

    def listen(event: FileEvent) -> None:
        is_over.wait()
        found.append(event)

    events = OverlayEvents("work", tmp_path, tmp_path.stat().st_dev, upper=tmp_path, work=tmp_path)
    events.add(listen)
    code = "for number in range(1000): open(f'made-{number}', 'w')"
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    is_over.set()
    events.remove(listen)

    assert [event.path for event in found if event.op == "create"] == [b"made-%d" % number for number in range(1000)]


def _create(directory: Path, count: int) -> list[bytes]:
    code = f"import os\nfor number in range({count}): os.close(os.open(f'made-{{number}}', os.O_CREAT))"
    subprocess.run([sys.executable, "-c", code], cwd=directory, check=True)
    return [b"made-%d" % number for number in range(count)]


def _created(found: list[FileEvent]) -> list[bytes | None]:
    return [event.path for event in found if event.op == "create"]


@pytest.mark.needs("overlayfs")
def test_overlayfs_tells_a_listener_that_goes_what_waits_while_others_stay(tmp_path: Path) -> None:
    """And one that comes only what happens from then on."""
    (tmp_path / "work").mkdir()
    going: list[FileEvent] = []
    coming: list[FileEvent] = []
    may_go_on = threading.Event()

    def stay(_event: FileEvent) -> None:
        may_go_on.wait()

    events = OverlayEvents("work", tmp_path, tmp_path.stat().st_dev, upper=tmp_path, work=tmp_path)
    events.add(going.append)
    events.add(stay)
    made = _create(tmp_path, 1000)
    may_go_on.set()
    events.remove(going.append)
    until = len(going)
    events.add(coming.append)
    (tmp_path / "own").touch()
    subprocess.run(["touch", "later"], cwd=tmp_path, check=True)
    events.remove(coming.append)
    events.remove(stay)

    assert _created(going) == made
    assert len(going) == until
    assert _created(coming) == [b"later"]


@pytest.mark.needs("overlayfs")
def test_nothing_is_told_of_files_outside_of_a_tree(tmp_path: Path) -> None:
    """A mount that is gone from its directory leaves the files of another one there."""
    (tmp_path / "work").mkdir()
    other = Path("/proc").stat().st_dev
    with pytest.raises(NoFileEvents, match="not at its place"):
        OverlayEvents("work", tmp_path, other, upper=tmp_path, work=tmp_path).add(print)


@pytest.mark.needs("overlayfs")
def test_what_is_read_in_a_tree_out_of_sight_has_no_path(work: Workspace, mount_dir: Path) -> None:
    """The kernel tells where it is in the tree, but not that it does so."""
    with work.mount(mount_dir / "tree", backend="overlay") as session, work.file_events() as events:
        code = "import sys; sys.stdin.readline(); open('base').read(); open('new', 'w')"
        with subprocess.Popen(
            [sys.executable, "-c", code], cwd=session.path, stdin=subprocess.PIPE, text=True
        ) as child:
            session.unmount(lazy=True)
            child.communicate("\n")
        found = {(event.op, event.path) for event in events if event.pid == child.pid}

    assert found == {("create", b"new"), ("read", None)}


@pytest.mark.needs("overlayfs")
def test_overlayfs_goes_on_after_an_error(tmp_path: Path) -> None:
    """Those that listen are told that events are missing, and then all others."""
    (tmp_path / "work").mkdir()
    found: list[FileEvent] = []
    has_failed = threading.Event()

    def fail(event: FileEvent) -> None:
        if event.op == "create" and not has_failed.is_set():
            has_failed.set()
            raise MemoryError

    events = OverlayEvents("work", tmp_path, tmp_path.stat().st_dev, upper=tmp_path, work=tmp_path)
    events.add(fail)
    events.add(found.append)
    _create(tmp_path, 1)
    has_failed.wait()
    subprocess.run(["touch", "later"], cwd=tmp_path, check=True)
    events.remove(found.append)
    events.remove(fail)

    assert [event.op for event in found].count("dropped") == 1
    assert _created(found) == [b"later"]


@pytest.mark.needs("overlayfs")
def test_what_overlayfs_copied_while_events_were_dropped_is_known_no_more(tmp_path: Path) -> None:
    """A second name of such a file is a creation."""
    upper, copies = tmp_path / "upper", tmp_path / "work"
    upper.mkdir()
    copies.mkdir()
    found: list[FileEvent] = []
    is_held, may_go_on = threading.Event(), threading.Event()

    def listen(event: FileEvent) -> None:
        found.append(event)
        is_held.set()
        may_go_on.wait()

    events = OverlayEvents("work", upper, upper.stat().st_dev, upper=upper, work=tmp_path)
    events.add(listen)
    subprocess.run(["touch", "first"], cwd=upper, check=True)
    is_held.wait()
    subprocess.run(
        [sys.executable, "-c", "import os; os.close(os.open('copy', os.O_CREAT)); os.chmod('copy', 1)"],
        cwd=copies,
        check=True,
    )
    _create(upper, QUEUED)
    subprocess.run(["mv", copies / "copy", upper / "copied"], check=True)  # which is not told
    may_go_on.set()
    events.add(id)  # all that waits is told before
    events.remove(id)
    subprocess.run(["ln", "copied", "second"], cwd=upper, check=True)
    events.remove(listen)

    assert _created(found)[-1] == b"second"


@pytest.mark.needs("overlayfs")
def test_overlayfs_tells_each_write_once_and_where_it_was(work: Workspace, mount_dir: Path) -> None:
    """Also in files that are renamed meanwhile, by many programs."""
    code = (
        "import os, sys\nfor number in range(200):\n"
        "    name = f'{sys.argv[1]}-{number}'; file = os.open(name, os.O_CREAT | os.O_WRONLY)\n"
        "    os.write(file, b'x'); os.close(file); os.rename(name, f'{name}.done')\n"
    )
    found: list[FileEvent] = []
    with work.mount(mount_dir / "tree", backend="overlay") as session, work.file_events() as events:
        thread = threading.Thread(target=lambda: found.extend(events))
        thread.start()
        children = [
            subprocess.Popen([sys.executable, "-c", code, str(number)], cwd=session.path) for number in range(3)
        ]
        assert [child.wait() for child in children] == [0, 0, 0]
        session.unmount()
        thread.join()

    for number, child in enumerate(children):
        names = [b"%d-%d" % (number, at) for at in range(200)]
        told = [(event.op, event.path) for event in found if event.pid == child.pid and event.op in ("write", "rename")]
        assert told == [each for name in names for each in (("write", name), ("rename", name + b".done"))]


@contextmanager
def _listener(work: Workspace) -> Iterator[subprocess.Popen[str]]:
    """Run a program that listens, and takes nothing."""
    code = (
        "import sys, time; from pathlib import Path; from avfs_git.sdk import Avfs\n"
        "with Avfs(Path(sys.argv[1])) as avfs, avfs.open_vault('v') as vault, vault.workspace('work').file_events():\n"
        "    print('ready', flush=True); time.sleep(600)"
    )
    home = work.vault.info().path.parents[1]
    with subprocess.Popen([sys.executable, "-c", code, home], cwd=PROJECT, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            yield child
        finally:
            child.kill()


def _can_listen(work: Workspace, hold: Callable[[FileEvents], object]) -> bool:
    try:
        hold(work.file_events())
    except NoFileEvents:
        return False
    return True


@pytest.mark.needs("overlayfs")
def test_the_audit_log_has_those_of_overlayfs(work: Workspace, mount_dir: Path) -> None:
    """As those of a tree through FUSE."""
    work.vault.set_config("audit.files", "changes")
    with work.mount(mount_dir / "tree", backend="overlay") as session:
        (session.path / "dir").mkdir()
        (session.path / "base").unlink()

    found = [(entry.event, entry.details["path"]) for entry in reversed(work.vault.policy.audit(files=True))]
    assert [event for event in found if event[0] != "file_dropped"] == [("file_create", "dir"), ("file_unlink", "base")]


@pytest.mark.needs("overlayfs")
def test_the_audit_log_says_that_no_session_was_there(work: Workspace, mount_dir: Path) -> None:
    """Programs go on in an overlayfs tree whose session was killed."""
    work.vault.set_config("audit.files", "changes")
    with work.mount(mount_dir / "tree", backend="overlay") as session:
        os.kill(session.info().pid, signal.SIGKILL)
        (session.path / "unseen").touch()
        work.write("own", b"begins another session\n")
        (session.path / "seen").touch()

    found = [(entry.event, entry.details.get("path")) for entry in reversed(work.vault.policy.audit(files=True))]
    assert ("file_dropped", None) in found[: found.index(("file_create", "seen"))]


@pytest.mark.usefixtures("person")
def test_the_audit_log_has_them_where_the_owner_asks(work: Workspace, mount_dir: Path) -> None:
    """In the chain, found by path and outcome, with all bytes; without reads unless those are asked for."""
    vault, policy = work.vault, work.vault.policy
    for number, wanted in enumerate(("none", "changes", "all")):
        vault.set_config("audit.files", wanted)
        with work.mount(mount_dir / f"tree{number}") as session:
            assert (session.path / "base").read_bytes()
            with (session.path / f"{wanted}\udcff").open("wb", buffering=0) as file:
                for _ in range(3):
                    file.write(b"12345")
            with pytest.raises(OSError, match="Not a directory"):
                (session.path / "base").rmdir()
            (session.path / "dir" / "below").mkdir(parents=True)
            with pytest.raises(OSError, match="not empty"):
                (session.path / "dir").rmdir()
            (session.path / "dir" / "below").rmdir()
            (session.path / "dir").rmdir()

    def find(*paths: str | bytes) -> list[str]:
        return [entry.event for entry in reversed(policy.audit(paths=paths, files=True))]

    assert find(b"none\xff") == []
    assert set(find(b"changes\xff")) == {"file_create", "file_write"}
    assert "file_read" in find("base")
    assert {entry.details["error"] for entry in policy.audit(outcomes=("failed",), paths=("dir",), files=True)} == {
        "ENOTEMPTY"
    }
    written = [entry.details for entry in policy.audit(events=("file_write",), paths=(b"all\xff",), files=True)]
    assert sum(details["size"] for details in written) == 15  # type: ignore[misc]  # a number, as JSON has it
    assert {details["pid"] for details in written} == {os.getpid()}
    assert policy.verify_audit(files=True) > 10
    assert not [entry for entry in policy.audit() if entry.event.startswith("file_")]
    assert policy.release_audit(keep_days=0, files=True) is not None
    assert [entry.event for entry in policy.audit(files=True)] == ["audit_released"]
    assert len(policy.audit()) == policy.verify_audit() > 1


def test_the_audit_log_says_that_its_setting_cannot_be_read(work: Workspace, mount_dir: Path) -> None:
    """A server that cannot read the settings serves its tree."""
    (work.vault.path / "avfs" / "config.json").write_bytes(b"{")
    with work.mount(mount_dir / "tree", backend="fuse") as session:
        (session.path / "there").touch()

    (found,) = work.vault.policy.audit(files=True)
    assert found.event == "file_dropped"
    assert "settings cannot be read" in str(found.details["text"])

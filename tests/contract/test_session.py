"""Sessions: a mount from its start to its end, whoever dies in between.

Root has them as they are by default, on overlayfs, and through FUSE (`mount.backend`); an ordinary user has them
through FUSE. What only one of them promises is `of_fuse`, or in `test_overlay_session.py` and
`test_overlay_promises.py`. Each test has a home below `mount_dir`, so that whatever is left mounted is taken away. A
session whose mount is taken away ends by itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from avfs_git import Avfs, Session, Vault, Workspace
from avfs_git.cli.place import find_place
from avfs_git.errors import (
    AvfsError,
    LayerNotUnderstood,
    MountBusy,
    MountCovered,
    MountError,
    MountPointUnusable,
    PathUnsuitable,
    WorkspaceBusy,
    WorkspaceMounted,
)
from avfs_git.host.mounts.mounts import find_mount, list_mounts, mount_fuse
from avfs_git.host.processes.processes import start_time
from avfs_git.model import Identity, SessionState
from avfs_git.sdk.running.runs import begin_in_directory
from avfs_git.session.life.record import is_dead
from tests.support.as_ordinary import everybody
from tests.support.capabilities import mount as mount_file_system
from tests.support.capabilities import unmount as unmount_file_system
from tests.support.killed_session import work_through_kills
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"), pytest.mark.usefixtures("person")]

ADA = Identity("Ada Author", "ada@example.org")
PROJECT = Path(__file__).parents[2]


FUSE = "root, FUSE"
of_fuse = pytest.mark.parametrize("person", [who for who in (*everybody(), FUSE) if who != "root"], indirect=True)


@pytest.fixture(params=[*everybody(), *([FUSE] if not os.geteuid() else [])])
def person(request: pytest.FixtureRequest) -> str:
    """Run each test as root, as root through FUSE, and as an ordinary user."""
    return str(request.param)


@pytest.fixture
def home(mount_dir: Path) -> Path:
    """A home below which anything may be mounted."""
    return mount_dir / "home"


@pytest.fixture
def vault(home: Path, tmp_path: Path, person: str) -> Iterator[Vault]:
    """A vault with a fork `work`, which holds the file `a`."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"one\n")
    with Avfs(home, identity=ADA, lock_timeout_s=5) as avfs, avfs.create_vault("v", source=source) as made:
        made.fork("work").close()
        if person == FUSE:
            made.set_config("mount.backend", "fuse")
        yield made
        end_all(made)


@pytest.fixture
def tree(mount_dir: Path) -> Path:
    """Where to mount; not there yet."""
    return mount_dir / "tree"


def end_all(vault: Vault) -> None:
    """End what a failed test may have left."""
    for info in vault.sessions() if vault.path.exists() else ():
        with contextlib.suppress(AvfsError):
            found = vault.find_session(info.fork)
            if found is not None:
                found.unmount(force=True)


def is_mounted(directory: Path) -> bool:
    """Look into the mount table."""
    return any(mounted.directory == directory for mounted in list_mounts())


def nothing_is_left(vault: Vault, directory: Path) -> None:
    """Check that a session is over without a trace."""
    assert vault.sessions() == []
    assert not is_mounted(directory)
    # One that is not listed any more may be about to remove its last file.
    # bases: while the vault is open
    stays = {"guard", "logs", "bases.lock", *(info.id for info in vault.sessions(bases=True))}
    wait_for(lambda: {*os.listdir(vault.path / "avfs" / "sessions")} <= stays)


def server_of(session: Session) -> int:
    """Find the process that serves a session's tree; after the death of one, the next."""
    pid = session.info().pid
    children = Path(f"/proc/{pid}/task/{pid}/children")
    wait_for(lambda: children.read_text("ascii"))
    (child,) = children.read_text("ascii").split()
    return int(child)


def await_death(pid: int, started: int | None) -> None:
    """Wait until a process that is nobody's child here is gone."""

    def is_gone() -> bool:
        try:
            return start_time(pid) != started or "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text("ascii")
        except OSError:  # between the two looks
            return True

    wait_for(is_gone)


def kill(pid: int) -> None:
    """Kill a process, and wait until it is gone."""
    started = start_time(pid)
    os.kill(pid, signal.SIGKILL)
    await_death(pid, started)


def kill_session(session: Session) -> None:
    """Kill the process of a session, and wait until the kernel has ended its server, too."""
    server = server_of(session)
    started = start_time(server)
    kill(session.info().pid)
    await_death(server, started)
    wait_for(lambda: is_dead(session._found.place))  # threads may be a moment behind the first one, with the lock


def run_python(code: str, **settings: str) -> subprocess.Popen[str]:
    """Run some Python beside the test, with this package."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=PROJECT,
        env={**os.environ, **settings},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


# --- the plain life ------------------------------------------------------------------------------------


def test_mount_is_ready_when_it_returns(vault: Vault, work: Workspace, tree: Path) -> None:
    """The tree is there, its record says so, and what is written in it is in the workspace."""
    with work.mount(tree) as session:
        assert (tree / "a").read_bytes() == b"one\n"
        (tree / "b").write_bytes(b"two\n")
        (info,) = vault.sessions()
        assert (info.fork, info.directory, info.state, info.readonly) == ("work", tree, SessionState.MOUNTED, False)
        assert session.info() == info

    nothing_is_left(vault, tree)
    assert work.read("b") == b"two\n"
    assert not tree.exists()
    assert session.info().state == SessionState.ENDED


def test_directory_that_was_there_stays(vault: Vault, work: Workspace, tree: Path) -> None:
    """Only a directory that was made for the mount goes with it."""
    tree.mkdir()
    work.mount(tree).unmount()

    assert tree.is_dir()
    nothing_is_left(vault, tree)


def test_default_directory_is_in_the_home(vault: Vault, work: Workspace, home: Path) -> None:
    """Without a directory, each fork has its own."""
    with work.mount() as session:
        assert session.path == home / "mounts" / "v" / "work"
        assert session.path.is_dir()

    assert not session.path.exists()
    vault.check_unmounted()  # which ends the base of a tree on overlayfs
    wait_for(lambda: not (home / "mounts").exists())


def test_a_relative_home_is_that_of_the_directory_where_it_was_given(
    mount_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Commands, mounts, forks and undo find it from every directory, and make nothing there."""
    monkeypatch.chdir(mount_dir)
    with Avfs(Path("home"), identity=ADA, lock_timeout_s=5) as avfs:
        monkeypatch.chdir(tmp_path)
        with avfs.create_vault("v") as vault:
            work = vault.workspace()
            work.write_text("a", "one\n")
            for backend in ("fuse", "checkout"):
                assert work.exec("sh", "-c", "cat a; echo more >> a", backend=backend).stdout.startswith(b"one\n")
            with work.mount() as session:
                assert session.path == mount_dir / "home" / "mounts" / "v" / "main"
                monkeypatch.chdir("/")
                (session.path / "b").write_bytes(b"two\n")
                monkeypatch.chdir(tmp_path)
            task = vault.fork("task")
            task.exec("rm", "a")
            task.undo()
            assert (task.read_text("a"), task.read_text("b")) == ("one\nmore\nmore\n", "two\n")
            end_all(vault)
    assert list(tmp_path.iterdir()) == []


def test_session_is_a_process_of_its_own(work: Workspace, tree: Path) -> None:
    """The process has its own session and group, no terminal and the root as its directory, and masks no mode bits."""
    with work.mount(tree) as session:
        pid = session.info().pid
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        state, parent, group, own, terminal = fields[:5]
        assert (state in {b"S", b"R"}, int(group), int(own), int(terminal)) == (True, pid, pid, 0)
        assert int(parent) != os.getpid()
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert "Umask:\t0000\n" in Path(f"/proc/{server_of(session)}/status").read_text("ascii")


def test_umask_of_the_starter_does_not_reach_the_tree(work: Workspace, tree: Path) -> None:
    """The permission bits of a file are those of the program that made it."""
    before = os.umask(0o077)
    try:
        session = work.mount(tree)
    finally:
        os.umask(before)
    os.umask(0)
    try:
        os.close(os.open(tree / "x", os.O_CREAT | os.O_WRONLY, 0o664))
    finally:
        os.umask(before)

    assert (tree / "x").stat().st_mode & 0o777 == 0o664
    session.unmount()


@pytest.mark.parametrize(
    "name", [b"with space", b"line\nbreak", b"\\040", b"\xff\xfe", b"a,b=c", b"'\"$(x)", b"tab\t#", b"n" * 255]
)
def test_any_name_can_be_mounted_at(vault: Vault, work: Workspace, mount_dir: Path, name: bytes) -> None:
    """Neither the mount table's escapes nor anything else between there and the record bends a path."""
    place = mount_dir / os.fsdecode(name)

    with work.mount(place) as session:
        assert (place / "a").read_bytes() == b"one\n"
        assert vault.sessions()[0].directory == place
        assert session.info().state == SessionState.MOUNTED

    nothing_is_left(vault, place)


def test_second_end_does_nothing_and_says_so(vault: Vault, work: Workspace, tree: Path) -> None:
    """Unmounting what is not mounted any more is no failure."""
    session = work.mount(tree)

    assert session.unmount().outcome == "unmounted"
    assert session.unmount().outcome == "not_mounted"
    assert session.stop().outcome == "not_mounted"


def test_end_by_umount_is_an_end(vault: Vault, work: Workspace, tree: Path) -> None:
    """Whoever takes the mount away ends the session."""
    session = work.mount(tree)
    assert unmount_file_system(tree)

    session.wait()

    nothing_is_left(vault, tree)
    work.write("c", b"")


@contextlib.contextmanager
def another_namespace(command: str = ":") -> Iterator[subprocess.Popen[str]]:
    """Another mount namespace, with a copy of each mount there is, and a program in it that waits."""
    code = f"echo ready; {command}; read line"
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.stdin.close()


@pytest.mark.needs("root")
@pytest.mark.parametrize("way", ["unmount", "umount", "SIGTERM"])
def test_copy_of_the_mount_that_nobody_uses_keeps_nothing(vault: Vault, work: Workspace, tree: Path, way: str) -> None:
    """A mount namespace that was made meanwhile has the mount, too; the end does not wait for that."""
    session = work.mount(tree)
    with another_namespace():
        if way == "unmount":
            assert session.unmount().outcome == "unmounted"
        elif way == "umount":
            unmount_file_system(tree)
        else:
            os.kill(session.info().pid, signal.SIGTERM)
        session.wait()

        nothing_is_left(vault, tree)
        work.write("c", b"")


@pytest.mark.needs("root")
def test_copy_of_the_mount_is_served_while_it_is_used(vault: Vault, work: Workspace, tree: Path) -> None:
    """Who works in another mount namespace goes on, as after a lazy unmount."""
    session = work.mount(tree)
    with another_namespace(f"exec 3<>{tree}/a; read line; echo two >&3; exec 3>&-; echo done") as process:
        assert process.stdin is not None
        assert process.stdout is not None
        wait_for(lambda: any(os.readlink(fd) == f"{tree}/a" for fd in Path(f"/proc/{process.pid}/fd").iterdir()))
        result = session.unmount()
        assert result.outcome == "detached"
        assert f"(pid {process.pid})" in str(result.users)
        assert session.info().state == SessionState.UNMOUNTING
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"
        session.wait()

        nothing_is_left(vault, tree)
        assert work.read("a") == b"two\n"


def test_no_signal_is_lost(vault: Vault, work: Workspace, mount_dir: Path) -> None:
    """One that comes when the server is about to wait for the kernel ends the session, too."""
    for number in range(20):
        tree = mount_dir / f"tree{number}"
        session = work.mount(tree)
        (tree / "a").write_bytes(b"x")
        time.sleep(number / 10_000)  # from right after an answer to when the server sleeps
        os.kill(session.info().pid, signal.SIGTERM)
        wait_for(lambda at=session: at.info().state == SessionState.ENDED)  # type: ignore[misc]  # a loop's variable


def test_session_is_found_from_inside_its_tree(vault: Vault, work: Workspace, home: Path, tree: Path) -> None:
    """A directory leads to its session, in any home, and one outside to none."""
    with work.mount(tree) as session:
        (tree / "sub").mkdir()
        for elsewhere in (home, home.parent / "other"):
            with Avfs(elsewhere) as avfs:
                found = avfs.session_at(tree / "sub")
                assert found is not None
                assert (found.id, found.fork) == (session.id, "work")
                assert avfs.session_at(tree.parent) is None


# --- refusals ---------------------------------------------------------------------------------------------


def test_mounted_fork_is_refused_to_others_with_its_place(
    home: Path, vault: Vault, work: Workspace, tree: Path
) -> None:
    """A second mount, deleting and folding say where the fork is mounted; afterwards they work."""
    with work.mount(tree) as session, Avfs(home, identity=ADA) as avfs:
        for refused in (
            work.mount,
            lambda: vault.delete_fork("work"),
            work.fold,
            lambda: avfs.delete_vault("v"),
        ):
            with pytest.raises(WorkspaceMounted) as caught:
                refused()
            assert caught.value.details["directory"] == str(tree)
            assert caught.value.details["session"] == session.id
        assert (tree / "a").read_bytes() == b"one\n"

    vault.delete_fork("work")


def test_place_in_use_is_refused(vault: Vault, work: Workspace, tree: Path) -> None:
    """Nothing is mounted over a mount, and the refused session leaves nothing."""
    other = vault.fork("other")
    with work.mount(tree):
        with pytest.raises(MountPointUnusable, match="mounted there already"):
            other.mount(tree)
        assert [info.fork for info in vault.sessions()] == ["work"]
    with pytest.raises(MountPointUnusable, match="inside the vault"):
        other.mount(vault.path / "x")
    nothing_is_left(vault, tree)


def test_workspace_in_use_is_refused_with_its_holder(vault: Vault, home: Path, work: Workspace, tree: Path) -> None:
    """Who works in the workspace is named; nothing is left of the mount, its directory included."""
    with Avfs(home, lock_timeout_s=0.1) as avfs:
        impatient = avfs.open_vault("v").workspace("work")
        with work._opened.locked(), pytest.raises(WorkspaceBusy) as caught:
            impatient.mount(tree)

    assert caught.value.details["pid"] == os.getpid()
    assert not tree.exists()
    nothing_is_left(vault, tree)


# --- mounts of commits --------------------------------------------------------------------------------------


def test_commits_are_mounted_beside_the_workspace(vault: Vault, work: Workspace, mount_dir: Path) -> None:
    """Any number of read-only mounts shows what was saved, while the workspace goes on."""
    work.write("a", b"saved\n")
    work.checkpoint("saved")
    work.write("a", b"later\n")
    with (
        work.mount(mount_dir / "w") as live,
        work.mount(mount_dir / "r", readonly=True) as head,
        work.mount(mount_dir / "s", at="saved") as saved,
        work.mount(mount_dir / "b", at="saved~1") as before,
    ):
        contents = [(place.path / "a").read_bytes() for place in (live, head, saved, before)]
        assert contents == [b"later\n", b"saved\n", b"saved\n", b"one\n"]
        with pytest.raises(OSError, match="Read-only"):
            (saved.path / "new").write_bytes(b"")
        assert sorted(info.readonly for info in vault.sessions()) == [False, True, True, True]
        assert {info.at for info in vault.sessions() if info.readonly} == {head.info().at, before.info().at}

    nothing_is_left(vault, mount_dir / "s")


# --- ending while programs use it ----------------------------------------------------------------------------


def test_mount_in_use_stays_and_names_who_uses_it(vault: Vault, work: Workspace, tree: Path) -> None:
    """A plain unmount takes nothing from anybody."""
    session = work.mount(tree)
    with open(tree / "a", "rb") as held:
        with pytest.raises(MountBusy) as caught:
            session.unmount()
        assert f"(pid {os.getpid()})" in str(caught.value.details["users"])
        assert held.read() == b"one\n"
        assert session.info().state == SessionState.MOUNTED

    assert session.unmount().outcome == "unmounted"


@pytest.mark.needs("root")
@pytest.mark.parametrize("inside", ["", "build"])
@pytest.mark.parametrize("way", ["plain", "lazy", "force", "signal"])
def test_mount_that_stands_over_it_or_in_it_stays(
    vault: Vault, work: Workspace, tree: Path, way: str, inside: str, person: str
) -> None:
    """The end of a session takes no other mount away: it is refused, or waits, until that one is gone."""
    session = work.mount(tree)
    place = tree / inside
    place.mkdir(exist_ok=True)
    assert mount_file_system("another's", place, "tmpfs")
    try:
        if way == "signal":
            os.kill(session.info().pid, signal.SIGTERM)
            time.sleep(3)  # it detaches a tree in use after 2 s
        else:
            with pytest.raises(MountCovered) as caught:
                session.unmount(lazy=way == "lazy", force=way == "force")
            assert caught.value.details["kind"] == "tmpfs"
            assert "another's" in caught.value.message
            assert f"umount {place}" in (caught.value.hint or "")
        found = find_mount(place)
        assert found is not None
        assert found.source == "another's"
        if person == "root" and not inside:  # overlayfs, on which avfs writes through the tree
            with pytest.raises(MountCovered):
                work.write("b", b"one\n")
        else:
            work.write("b", b"two\n")
    finally:
        assert unmount_file_system(place)
    if way != "signal":
        work.write("b", b"two\n")
        assert (tree / "b").read_bytes() == b"two\n"
        assert session.unmount().outcome == "unmounted"
    session.wait()

    nothing_is_left(vault, tree)
    work.write("b", b"two\n")


def test_mount_above_it_stays(vault: Vault, work: Workspace, tree: Path) -> None:
    """A mount over the directory above hides the tree, whose path then leads to another file system."""
    session = work.mount(tree / "m")
    # without a server: nothing waits for it
    os.close(mount_fuse(tree, source="above", subtype="other", max_read=1 << 17))
    try:
        for lazy, force in ((False, False), (True, False), (False, True)):
            with pytest.raises(MountCovered, match=r"'above'"):
                session.unmount(lazy=lazy, force=force)
    finally:
        assert unmount_file_system(tree)
    (tree / "m" / "b").write_bytes(b"two\n")
    assert session.unmount().outcome == "unmounted"

    nothing_is_left(vault, tree / "m")
    assert work.read("b") == b"two\n"


@pytest.mark.needs("root")
def test_the_hint_names_the_command_that_unmounts_a_fork_in_the_tree(vault: Vault, work: Workspace, tree: Path) -> None:
    """The system's `umount` takes the tree from its session."""
    vault.fork("inner")
    session = work.mount(tree)
    place = tree / "inner"
    place.mkdir()
    below = vault.workspace("inner").mount(place)
    with pytest.raises(MountCovered) as caught:
        session.unmount()
    below.unmount()
    session.unmount()
    assert f"`avfs unmount {place}`" in (caught.value.hint or "")


@pytest.mark.needs("root")
def test_directory_of_a_mount_over_it_is_in_no_fork(vault: Vault, work: Workspace, tree: Path, home: Path) -> None:
    """A command there means no file of the hidden fork, and a fork of the directory has what is seen there."""
    session = work.mount(tree)
    assert mount_file_system("another's", tree, "tmpfs")
    try:
        (tree / "seen").write_bytes(b"\n")
        assert find_place(home, None, tree) is None
        with (
            Avfs(home, identity=ADA) as avfs,
            avfs.fork_directory(tree, tree.with_name("other"), branch="other") as made,
        ):
            assert made.vault.name != vault.name
            assert sorted(path.name for path in made.path.iterdir() if path.name != ".git") == ["seen"]
        (tree / "deep").mkdir()
        (tree / "deep" / "seen").write_bytes(b"\n")
        with Avfs(home, identity=ADA) as avfs:
            run = begin_in_directory(avfs, tree / "deep", name="run", program="sh")
            assert (run.vault.name != vault.name, (run.directory() / "seen").exists()) == (True, True)
            run.end(discard=True)
    finally:
        assert unmount_file_system(tree)
    place = find_place(home, None, tree)
    assert place is not None
    assert place.fork == "work"
    session.unmount()


@pytest.mark.needs("root")
@of_fuse
def test_mount_over_a_dead_session_stays(vault: Vault, work: Workspace, tree: Path) -> None:
    """The mount of a killed session goes when it is in sight again; its workspace can be used before."""
    session = work.mount(tree)
    (tree / "b").write_bytes(b"two\n")
    assert mount_file_system("another's", tree, "tmpfs")
    try:
        kill_session(session)
        assert vault.sessions() == []
        assert work.read("b") == b"two\n"
        found = find_mount(tree)
        assert found is not None
        assert found.source == "another's"
    finally:
        assert unmount_file_system(tree)
    assert is_mounted(tree)
    assert vault.sessions() == []

    nothing_is_left(vault, tree)


@pytest.mark.needs("root")
def test_no_copy_of_a_tree_goes_into_itself_by_another_name(work: Workspace, tree: Path) -> None:
    """If a tree or a directory of it is bound elsewhere, a copy from or to that place is a copy within the tree."""
    work.make_dir("sub/below", parents=True)
    work.write("sub/file", b"file\n")
    whole, part = tree.with_name("whole"), tree.with_name("part")
    with work.mount(tree):
        bound = []
        try:
            for source, place in ((tree, whole), (tree / "sub", part)):
                place.mkdir()
                subprocess.run(["mount", "--bind", source, place], check=True)
                bound.append(place)
            for path, destination in (
                ("/", whole / "copy"),
                ("/", part / "copy"),
                ("sub", part / "below/copy"),
                ("sub", part),
            ):
                with pytest.raises(PathUnsuitable, match="is inside of what would be copied"):
                    work.export_path(path, destination)
            for source, path in (
                (whole, "/copy"),
                (part, "/sub/below"),
                (whole / "sub", "/sub/below/copy"),
                (tree.parent, "/copy"),
            ):
                with pytest.raises(PathUnsuitable, match="holds the live tree"):
                    work.import_path(source, path)
            work.import_path(part / "file", "/other")
            work.export_path("sub/file", whole / "second")
            assert work.read("other") == work.read("second") == b"file\n"
            assert not work.exists("copy")
        finally:
            for place in bound:
                subprocess.run(["umount", place], check=True)


@pytest.mark.needs("root")
@pytest.mark.parametrize("force", [False, True])
def test_second_place_of_a_tree_is_named(vault: Vault, work: Workspace, tree: Path, force: bool, person: str) -> None:
    """A tree that is bound to another directory stays at both, and the error names that one.

    By force FUSE ends it at both.
    """
    session = work.mount(tree)
    other = tree.with_name("other")
    other.mkdir()
    subprocess.run(["mount", "--bind", tree, other], check=True)
    try:
        if force and person != "root":
            assert session.unmount(force=True).outcome == "cut_off"
            with pytest.raises(OSError, match=r"not connected|No such file"):
                (other / "a").read_bytes()
        else:
            for lazy in (False, True):
                with pytest.raises(MountError, match="also mounted at") as caught:
                    session.unmount(lazy=lazy, force=force and not lazy)
                assert f"umount {other}" in (caught.value.hint or "")
            assert (other / "a").read_bytes() == (tree / "a").read_bytes() == b"one\n"
    finally:
        unmount_file_system(other)
    assert session.unmount().outcome in ("unmounted", "not_mounted")
    session.wait()

    nothing_is_left(vault, tree)


def test_detached_mount_ends_with_its_last_user(vault: Vault, work: Workspace, tree: Path) -> None:
    """Lazily, it is out of sight at once; who uses it goes on, writes included; then the workspace is free."""
    session = work.mount(tree)
    with open(tree / "a", "r+b") as held:
        result = session.unmount(lazy=True)
        assert result.outcome == "detached"
        assert not is_mounted(tree)
        assert session.info().state == SessionState.UNMOUNTING
        assert session.unmount(lazy=True).outcome == "detached"
        assert held.read() == b"one\n"
        held.write(b"two\n")
    session.wait()

    nothing_is_left(vault, tree)
    assert work.read("a") == b"one\ntwo\n"


@pytest.mark.needs("root")
def test_mount_that_was_just_taken_away_can_be_made_again(vault: Vault, work: Workspace, tree: Path) -> None:
    """The mount is made again at once, at the same place and elsewhere.

    The new mount waits for an end that is under way, including the removal of the directory.
    """
    for number in range(10):
        directory = tree if number % 2 else tree.with_name("other")
        work.mount(tree)
        subprocess.run(["umount", tree], check=True)
        session = work.mount(directory)
        assert (directory / "a").read_bytes() == b"one\n"
        subprocess.run(["umount", directory], check=True)
    vault.delete_fork(work.fork)
    session.wait()

    nothing_is_left(vault, tree)


def test_mount_that_does_not_end_in_time_is_told(home: Path, work: Workspace, tree: Path, person: str) -> None:
    """One that was taken away while programs use it is waited for only so long; the error says so, and what to do."""
    session = work.mount(tree)
    with open(tree / "a", "rb"):
        assert session.unmount(lazy=True).outcome == "detached"
        with (
            Avfs(home, lock_timeout_s=0.1) as avfs,
            avfs.open_vault("v") as vault,
            pytest.raises(WorkspaceMounted) as caught,
        ):
            vault.workspace(work.fork).mount(tree)

        assert "taken away" in caught.value.message
        assert ("End them" if person == "root" else "--force") in (caught.value.hint or "")
    session.wait()


@of_fuse
def test_forced_end_takes_the_tree_from_its_users(vault: Vault, work: Workspace, tree: Path) -> None:
    """By force, the workspace is free on return; what programs do in the tree then fails, and what they did stays."""
    session = work.mount(tree)
    (tree / "b").write_bytes(b"kept")
    fd = os.open(tree / "a", os.O_RDONLY)
    try:
        assert session.unmount(force=True).outcome == "cut_off"
        with pytest.raises(OSError, match="not connected"):
            os.fstatvfs(fd)
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)

    nothing_is_left(vault, tree)
    assert work.read("b") == b"kept"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("busy", [False, True])
def test_signals_unmount(vault: Vault, work: Workspace, tree: Path, number: signal.Signals, *, busy: bool) -> None:
    """A signal ends the session, and no program keeps the mount in sight.

    One that uses it is served until it is done.
    """
    session = work.mount(tree)
    pid = session.info().pid
    with open(tree / "a", "rb") if busy else contextlib.nullcontext() as held:
        os.kill(pid, number)
        wait_for(lambda: not is_mounted(tree))
        if held is not None:
            assert held.read() == b"one\n"
    session.wait()

    nothing_is_left(vault, tree)
    work.write("c", b"")


def test_leash_ends_the_session(vault: Vault, work: Workspace, tree: Path) -> None:
    """A mount on a leash ends when the other end is closed, as the death of its holder does."""
    leash, hand = os.pipe()
    session = work.mount(tree, leash_fd=leash)
    os.close(leash)

    os.close(hand)
    session.wait()

    nothing_is_left(vault, tree)


# --- the final checkpoint ---------------------------------------------------------------------------------------


def test_stop_saves_what_was_written(vault: Vault, work: Workspace, tree: Path) -> None:
    """The last checkpoint holds everything; without changes there is none."""
    session = work.mount(tree)
    (tree / "b").write_bytes(b"last words\n")

    result = session.stop()

    assert result.checkpoint is not None
    assert [change.path for change in result.checkpoint.changed_files] == [b"b"]
    assert work.status().clean
    again = work.mount(tree).stop()
    assert again.checkpoint is not None
    assert again.checkpoint.outcome == "unchanged"
    assert work.mount(tree).stop(checkpoint=False).checkpoint is None


def test_stop_whose_checkpoint_fails_leaves_the_mount(vault: Vault, work: Workspace, tree: Path) -> None:
    """What cannot be saved is not taken out of sight."""
    session = work.mount(tree)
    (tree / "b").write_bytes(b"")
    upper = vault.path / "avfs" / "workspaces" / "work" / "upper"
    os.setxattr(upper / "b", f"{'user' if os.geteuid() else 'trusted'}.overlay.unheard-of", b"y")

    with pytest.raises(LayerNotUnderstood):
        session.stop()

    assert session.info().state == SessionState.MOUNTED
    assert (tree / "b").exists()
    assert session.stop(checkpoint=False).outcome == "unmounted"


# --- deaths -------------------------------------------------------------------------------------------------------


def test_session_outlives_its_starter(home: Path, vault: Vault, work: Workspace, tree: Path) -> None:
    """The starter's death, and that of its whole process group, is none of the session's business."""
    code = f"""if True:
        import os, signal, sys
        from pathlib import Path
        from avfs_git import Avfs
        os.setsid()
        Avfs(Path({str(home)!r})).open_vault("v").workspace("work").mount({str(tree)!r})
        print("ready", flush=True)
        os.killpg(0, signal.SIGKILL)
    """
    with run_python(code) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "ready\n"
        starter.wait()

    assert (tree / "a").read_bytes() == b"one\n"
    found = vault.find_session("work")
    assert found is not None
    found.unmount()


def test_nobody_who_asked_means_no_mount(home: Path, vault: Vault, work: Workspace, tree: Path) -> None:
    """A session whose starter is killed while it waits for the workspace goes again."""
    code = f"""if True:
        from pathlib import Path
        from avfs_git import Avfs
        print("begin", flush=True)
        Avfs(Path({str(home)!r})).open_vault("v").workspace("work").mount({str(tree)!r})
    """
    with work._opened.locked(), run_python(code) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "begin\n"
        wait_for(vault.sessions)
        starter.kill()
    wait_for(lambda: not vault.sessions())

    nothing_is_left(vault, tree)
    assert not tree.exists()


def _list(vault: Vault, _tree: Path) -> None:
    assert vault.sessions() == []


def _mount_again(vault: Vault, tree: Path) -> None:
    with vault.workspace("work").mount(tree):
        assert (tree / "b").read_bytes() == b"kept"


def _mount_another(vault: Vault, tree: Path) -> None:
    with vault.workspace("main").mount(tree):
        assert (tree / "a").exists()


def _find(vault: Vault, tree: Path) -> None:
    with Avfs(vault.path.parents[1]) as avfs:
        assert avfs.session_at(tree) is None


def _write(vault: Vault, _tree: Path) -> None:
    vault.workspace("work").write("c", b"")
    assert vault.sessions() == []


def _delete(vault: Vault, _tree: Path) -> None:
    vault.delete_fork("work")
    vault.undo()


@of_fuse
@pytest.mark.parametrize("met_by", [_list, _mount_again, _mount_another, _find, _write, _delete])
def test_dead_session_is_cleaned_up_by_whoever_meets_it(
    vault: Vault, work: Workspace, tree: Path, met_by: Callable[[Vault, Path], None]
) -> None:
    """After the supervisor is killed, its mount is dead; nobody has to know what to do about that."""
    session = work.mount(tree)
    (tree / "b").write_bytes(b"kept")
    kill_session(session)
    assert is_mounted(tree)

    met_by(vault, tree)

    nothing_is_left(vault, tree)
    assert not tree.exists()
    assert vault.workspace("work").read("b") == b"kept"


def test_dead_mount_without_its_vault_is_cleaned_up(home: Path, vault: Vault, work: Workspace, tree: Path) -> None:
    """Also where the vault was removed by hand."""
    session = work.mount(tree)
    kill_session(session)
    shutil.rmtree(vault.path)

    with Avfs(home) as avfs:
        assert avfs.session_at(tree) is None

    assert not is_mounted(tree)


def test_mount_goes_with_its_vault(vault: Vault, work: Workspace, tree: Path) -> None:
    """Somebody removes the vault below a mount, which cannot show anything any more: it goes by itself."""
    session = work.mount(tree)
    pid = session.info().pid
    started = start_time(pid)
    while vault.path.exists():  # the session and the kernel may make something there once more
        shutil.rmtree(vault.path, ignore_errors=True)
    try:
        (tree / "new").write_bytes(b"")
    except FileNotFoundError:
        pass
    else:  # the mount was gone before, and this is the directory below it
        assert not is_mounted(tree)
        shutil.rmtree(tree)

    await_death(pid, started)

    assert not is_mounted(tree)
    assert not tree.exists()


def test_mount_goes_when_its_vault_is_moved(home: Path, vault: Vault, work: Workspace, tree: Path) -> None:
    """Nothing is made at the old place, which would look like the vault; the moved one has what was written."""
    session = work.mount(tree)
    pid = session.info().pid
    started = start_time(pid)
    (tree / "new").write_bytes(b"kept")
    vault.path.rename(moved := vault.path.with_name("moved.git"))
    with contextlib.suppress(AvfsError):
        work.checkpoint()

    await_death(pid, started)

    assert not is_mounted(tree)
    assert not vault.path.exists()
    with Avfs(home) as avfs, avfs.open_vault("moved") as opened:
        assert opened.path == moved
        assert opened.workspace("work").read("new") == b"kept"
        assert opened.doctor().problems == ()
    moved.rename(vault.path)  # for what ends the test


@pytest.mark.parametrize("readonly", [False, True])
def test_server_that_is_killed_is_followed_by_another(
    vault: Vault, work: Workspace, tree: Path, *, readonly: bool
) -> None:
    """The session is the same afterwards, and so is the tree; the SDK reaches it as before."""
    if readonly:
        with work.mount(tree, readonly=True) as session, open(tree / "a", "rb") as held:
            kill(server_of(session))
            assert held.read() == b"one\n"
            assert os.listdir(tree) == ["a"]
        return
    with work.mount(tree) as session:
        for number in range(5):
            (tree / f"f{number}").write_bytes(b"x")
            kill(server_of(session))
            assert (tree / f"f{number}").read_bytes() == b"x"
        assert session.info().state == SessionState.MOUNTED
        assert [change.path for change in work.checkpoint().changed_files] == [
            f"f{number}".encode() for number in range(5)
        ]

    nothing_is_left(vault, tree)


def test_copies_of_big_files_take_no_more_than_is_allowed(vault: Vault, work: Workspace, tree: Path) -> None:
    """However many are read, and open at once; every byte is right. The setting counts at once, and 0 keeps none."""
    big = [b"%07d\n" % number * 400_000 for number in range(9)]
    for number, data in enumerate(big):
        work.write(f"big{number}", data)
    work.checkpoint()
    limit = 3 * len(big[0])
    vault.set_config("cache.max_bytes", str(limit))
    cache = vault.path / "avfs" / "cache" / "blobs"
    files = []
    with vault.fork("reader", source=work.fork) as reader, reader.mount(tree), contextlib.ExitStack() as held:
        for number, data in enumerate(big[:8]):
            file = held.enter_context(open(tree / f"big{number}", "rb"))
            assert file.read() == data
            files.append(file)
            kept = [path.stat().st_size for path in cache.glob("*/*")]
            assert 0 < sum(kept) <= limit
        assert len(kept) == 3
        vault.set_config("cache.max_bytes", "0")
        with vault.fork("another", source=work.fork) as another, another.mount(tree.with_name("other")) as other:
            assert (other.path / "big8").read_bytes() == big[8]
        assert not list(cache.glob("*/*"))
        for number, data in enumerate(big[:8]):
            assert os.pread(files[number].fileno(), 8, len(data) - 8) == data[-8:]


@pytest.mark.slow
def test_programs_and_commands_go_on_while_servers_are_killed(mount_dir: Path) -> None:
    """No program in the tree and no client sees an error or a wrong byte; the checkpoint holds what the tree showed."""
    kills, _ = work_through_kills(mount_dir, 3.0, 0.5, "read", "build")

    assert kills > 2


def _known_mode(path: Path) -> int:
    """Tell the permission bits that the kernel has of a file, without asking whoever serves it. See statx(2)."""
    at_fdcwd, dont_sync, basic, mode_at = -100, 0x4000, 0x7FF, 28
    found = ctypes.create_string_buffer(256)
    assert ctypes.CDLL(None).statx(at_fdcwd, os.fsencode(path), dont_sync, basic, found) == 0
    return stat.S_IMODE(int.from_bytes(found.raw[mode_at : mode_at + 2], sys.byteorder))


def test_the_kernel_knows_who_may_use_the_tree_before_anybody_does(vault: Vault, mount_dir: Path) -> None:
    """The kernel drops an answer that a change overtakes.

    What it takes the root for until then would refuse an ordinary user.
    """
    with vault.workspace().mount(mount_dir / "tree") as session:
        known = _known_mode(session.path)

        assert known == stat.S_IMODE(session.path.stat().st_mode)
        assert known & 0o700 == 0o700


@pytest.mark.needs("root")
def test_full_disk_leaves_no_dead_mount(mount_dir: Path) -> None:
    """The end of a session needs no room on the disk."""
    disk = mount_dir / "disk"
    disk.mkdir()
    assert mount_file_system("tmpfs", disk, "tmpfs", "size=8m")
    with Avfs(disk / "home", identity=ADA) as avfs, avfs.create_vault("v") as vault:
        tree = mount_dir / "tree"
        session = vault.workspace().mount(tree)
        with contextlib.suppress(OSError), open(tree / "fill", "wb", buffering=0) as file:
            while True:
                file.write(bytes(1 << 16))
        with pytest.raises(AvfsError):
            session.stop()
        assert is_mounted(tree)

        os.kill(session.info().pid, signal.SIGTERM)
        session.wait()

        nothing_is_left(vault, tree)
        (disk / "home" / "vaults" / "v.git" / "avfs" / "workspaces" / "main" / "upper" / "fill").unlink()
        vault.workspace().write("a", b"")


def test_a_record_under_the_id_of_another_vaults_session_takes_no_mount_away(
    vault: Vault, work: Workspace, tree: Path
) -> None:
    """A vault may hold a record that somebody made up: the mount table shows everybody the ids of all sessions."""
    session = work.mount(tree)
    sessions = vault.path / "avfs" / "sessions"
    with Avfs(vault.path.parents[1]) as avfs, avfs.create_vault("other") as other:
        forged = other.path / "avfs" / "sessions" / session.id
        shutil.copytree(sessions / session.id, forged, ignore=shutil.ignore_patterns("socket"))
        said = json.loads((forged / "record").read_bytes())
        (forged / "record").write_text(json.dumps({**said, "lock_inode": (forged / "lock").stat().st_ino}))

        assert other.sessions() == []

    assert not forged.exists()
    assert (tree / "a").read_bytes() == b"one\n"
    assert [found.id for found in vault.sessions()] == [session.id]

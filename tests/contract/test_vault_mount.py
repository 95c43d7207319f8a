"""A mount of a whole vault: every state by name, as it comes and goes, and nothing that can be changed there."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git.sdk import Avfs, Session, Vault
from tests.support import kernelcaches
from tests.support.live_tree import ADA, LiveTree, describe, mounted
from tests.support.promises import make_source

pytestmark = [
    pytest.mark.slow,
    pytest.mark.needs("fuse", "git", "user-xattrs", "whiteout"),
    pytest.mark.usefixtures("person"),
]


_GUARD_S = 60


@pytest.fixture
def vault(mount_dir: Path, tmp_path: Path) -> Iterator[Vault]:
    """A vault with forks, some of them with a slash in their names, and labels."""
    source = make_source(tmp_path / "source")
    with Avfs(mount_dir / "home", identity=ADA) as avfs, avfs.create_vault("v", source=source) as vault:
        vault.fork("team/x").write("new", b"first")
        vault.workspace("team/x").checkpoint("before lunch")
        vault.fork("team/y/z")
        yield vault


@pytest.fixture
def everything(vault: Vault, mount_dir: Path) -> Iterator[LiveTree]:
    """All of it, mounted."""
    path = mount_dir / "tree"
    path.mkdir()
    with mounted(vault.path, mount_dir / "home", path, "all") as tree:
        yield tree
        tree.unmount()


def _names(path: Path) -> set[str]:
    return set(os.listdir(path))


def _wait(everything: LiveTree, name: str) -> None:
    """Look at a name until it is there; the kernel may believe for a second that it is not."""
    while not os.path.lexists(everything.path / name):
        pass


def test_every_state_has_a_name(everything: LiveTree, vault: Vault, tmp_path: Path) -> None:
    """Forks, labels and commits are directories that show what was checkpointed, ignored and empty things included."""
    root = everything.path
    head = vault.workspace("team/x").log()[0].checkpoint.id
    base = vault.workspace("main").log()[0].checkpoint.id

    assert _names(root) == {"forks", "checkpoints", "commits"}
    assert _names(root / "forks") == _names(root / "checkpoints") == {"main", "team"}
    assert _names(root / "forks" / "team") == {"x", "y"}
    assert _names(root / "forks" / "team" / "y") == {"z"}
    assert _names(root / "checkpoints" / "team" / "x") == {"before lunch"}
    assert _names(root / "commits") == {head, base}
    assert describe(root / "forks" / "main") == describe(tmp_path / "source")
    for name in ("forks/team/x", "checkpoints/team/x/before lunch", f"commits/{head}", f"commits/{head[:7]}"):
        assert (root / name / "new").read_bytes() == b"first", name
    assert os.readlink(root / "commits" / head[:9]) == head


@pytest.mark.parametrize(
    "name", ["forks/nothing", "forks/team/x/nothing", "checkpoints/main/x", "commits/123456", "commits/main"]
)
def test_what_is_not_there_is_not_shown(everything: LiveTree, name: str) -> None:
    """A name that means nothing leads nowhere."""
    assert not os.path.lexists(everything.path / name)


def test_short_ids_need_seven_letters(everything: LiveTree, vault: Vault) -> None:
    """Shorter ones, and those of a commit that is not there, are not looked for."""
    head = vault.workspace("main").log()[0].checkpoint.id

    assert not os.path.lexists(everything.path / "commits" / head[:6])
    assert not os.path.lexists(everything.path / "commits" / ("0" * 40))


def test_nothing_can_be_changed(everything: LiveTree) -> None:
    """Every change is refused as on any read-only file system."""
    root = everything.path
    a, b = root / "forks/main/README", root / "forks/team/x/README"
    for change in (
        lambda: a.write_bytes(b"x"),
        a.unlink,
        lambda: a.rename(b),
        lambda: os.link(a, root / "commits" / "x"),
        (root / "forks" / "new").mkdir,
        (root / "commits").rmdir,
        lambda: a.chmod(0o600),
        lambda: os.utime(root / "forks"),
        lambda: os.setxattr(root / "forks", "user.x", b"1"),
        lambda: os.symlink("x", root / "forks/main/l"),
    ):
        with pytest.raises(OSError, match=re.escape(os.strerror(errno.EROFS))):
            change()
    assert os.listxattr(root / "forks") == []


def test_what_happens_meanwhile_shows(everything: LiveTree, vault: Vault) -> None:
    """Forks, labels and heads that come, move and go are seen without a remount."""
    root = everything.path
    held = (root / "forks/team/x/new").open("rb")
    assert _names(root / "forks") == {"main", "team"}
    vault.fork("late")
    work = vault.workspace("team/x")
    work.write("new", b"second")
    work.checkpoint("after/lunch")
    _wait(everything, "forks/late/README")
    _wait(everything, "checkpoints/team/x/after%2Flunch")
    while (root / "forks/team/x/new").read_bytes() != b"second":
        pass

    assert _names(root / "forks") == {"late", "main", "team"}
    assert (root / "checkpoints/team/x/after%2Flunch/new").read_bytes() == b"second"
    with held:
        assert held.read() == b"first"

    vault.delete_fork("late")
    while "late" in _names(root / "forks"):
        os.stat(root / "forks")


def test_a_mounted_fork_is_written_to_where_it_is_mounted(everything: LiveTree, vault: Vault, mount_dir: Path) -> None:
    """Its name in the vault's mount leads to its own mount, and to its head again when that has ended."""
    name = everything.path / "forks/team/x"
    assert not name.is_symlink()
    with vault.workspace("team/x").mount(mount_dir / "mine"):
        while not name.is_symlink():
            pass
        (name / "new").write_bytes(b"through the link")

        assert (mount_dir / "mine" / "new").read_bytes() == b"through the link"
    while name.is_symlink():
        pass
    assert (name / "new").read_bytes() == b"first"


@pytest.mark.needs("root")
def test_trees_are_closed_when_nobody_looks_at_them(everything: LiveTree) -> None:
    """What the kernel forgets is opened again under other numbers, and shows the same."""
    before = (everything.path / "forks/main").stat().st_ino
    while (everything.path / "forks/main").stat().st_ino == before:  # what was just looked at may be passed over
        kernelcaches.drop()

    assert (everything.path / "forks/main/src/a.c").read_bytes() == b"int a(void) { return 1; }\n"


def _kill_server(session: Session) -> None:
    """Kill the process that serves; the one that keeps the mount starts another."""
    pid = session.info().pid
    children = Path(f"/proc/{pid}/task/{pid}/children")
    while not (server := children.read_text("ascii").split()):
        pass
    os.kill(int(server[0]), signal.SIGKILL)


def _head(vault: Vault) -> str:
    head = vault.fork_info("main").head
    assert head is not None
    return head


def _drop_caches() -> None:
    """Let the kernel forget what it can, so that it has to ask."""
    if os.geteuid() == 0:
        kernelcaches.drop()


def test_a_killed_server_is_not_noticed(vault: Vault, mount_dir: Path, tmp_path: Path) -> None:
    """All that is open goes on under each next server: files, directories, and the state that they belong to."""
    big = bytes(range(256)) * 12_000
    with vault.mount(mount_dir / "all") as session, vault.workspace("team/x") as work:
        root = session.path
        inside_src = sorted(os.listdir(tmp_path / "source/src"))
        main = f"commits/{_head(vault)}"
        numbers = {name: (root / name).stat().st_ino for name in (f"{main}/src", f"{main}/src/a.c", "checkpoints/team")}
        held = os.open(root / main / "src/deep/big", os.O_RDONLY)
        place = os.open(root / main / "src", os.O_RDONLY)
        folder = os.open(root / "checkpoints/team/x", os.O_RDONLY)
        first = os.open(root / "checkpoints/team/x/before lunch/new", os.O_RDONLY)
        try:
            for number in range(3):
                _kill_server(session)
                _drop_caches()
                vault.fork(f"fork{number}")  # so that numbers would now mean something else
                work.write("new", b"of turn %d" % number)
                work.checkpoint(f"turn {number}")

                assert os.pread(held, 1 << 24, 0) == big
                assert sorted(os.listdir(place)) == inside_src
                inside = os.open("a.c", os.O_RDONLY, dir_fd=place)
                assert os.read(inside, 100) == b"int a(void) { return 1; }\n"
                os.close(inside)
                assert "before lunch" in os.listdir(folder)
                assert os.pread(first, 100, 0) == b"first"
                assert {name: (root / name).stat().st_ino for name in numbers} == numbers
                end = time.monotonic() + _GUARD_S
                there = root / f"checkpoints/team/x/turn {number}/new"
                while not there.exists():  # that there is no such name is good for a second
                    assert time.monotonic() < end
                assert there.read_bytes() == b"of turn %d" % number
        finally:
            for fd in (held, place, folder, first):
                os.close(fd)
    assert vault.sessions() == []


def test_readers_go_on_while_servers_are_killed(vault: Vault, mount_dir: Path, tmp_path: Path) -> None:
    """Programs that read all of several states see no error and every byte, however often the server dies meanwhile."""
    failed: list[BaseException] = []
    with vault.mount(mount_dir / "all") as session:
        over = threading.Event()
        places = [session.path / name for name in (f"commits/{_head(vault)}", "checkpoints/team/x/before lunch")]
        expected = {place: describe(place) for place in places}
        assert expected[places[0]] == describe(tmp_path / "source")

        def read(place: Path) -> None:
            try:
                while not over.is_set():
                    assert describe(place) == expected[place]
            except BaseException as error:  # noqa: BLE001 - told by the thread that waits
                failed.append(error)

        threads = [threading.Thread(target=read, args=(place,)) for place in places]
        for thread in threads:
            thread.start()
        for _ in range(8):
            time.sleep(0.1)
            _kill_server(session)
            _drop_caches()
        over.set()
        for thread in threads:
            thread.join(_GUARD_S)
            assert not thread.is_alive()
    assert not failed


def test_a_folder_that_is_gone_is_stale(vault: Vault, mount_dir: Path) -> None:
    """The folder above a fork's labels is stale to its holder when the fork and the server are gone.

    Nothing else is stale.
    """
    with vault.mount(mount_dir / "all") as session:
        folder = os.open(session.path / "checkpoints/team/x", os.O_RDONLY)
        vault.delete_fork("team/x")
        _kill_server(session)

        with pytest.raises(OSError, match=os.strerror(errno.ESTALE)) as raised:
            os.listdir(folder)
        os.close(folder)
        assert raised.value.errno == errno.ESTALE
        assert (session.path / "commits" / _head(vault) / "README").read_bytes() == b"one\ntwo\nthree\n"


def test_a_killed_server_of_a_commit_is_not_noticed(vault: Vault, mount_dir: Path, tmp_path: Path) -> None:
    """A mount of one commit goes on as if nothing had happened, open files included."""
    with vault.workspace("main").mount(mount_dir / "at", at="HEAD") as session:
        root = session.path
        expected = describe(tmp_path / "source")
        with (root / "src/deep/big").open("rb") as big:
            assert big.read(100) == bytes(range(100))
            for _ in range(3):
                _kill_server(session)
                _drop_caches()

                assert describe(root) == expected
                big.seek(0)
                assert big.read() == bytes(range(256)) * 12_000


@pytest.fixture
def session(vault: Vault, mount_dir: Path) -> Iterator[Session]:
    """All of the vault, mounted as users do."""
    with vault.mount(mount_dir / "everything") as session:
        yield session
    for fork in ("main", "team/x", "team/y/z"):
        left = vault.find_session(fork)
        if left is not None:
            left.wait()


def test_a_fork_can_be_written_to_by_its_name(session: Session, vault: Vault) -> None:
    """Whoever walks into a fork that is not mounted has it mounted, and what is written there is in its workspace."""
    fork = session.path / "forks/team/x"

    (fork / "new").write_bytes(b"through the vault")
    (fork / "made").mkdir()

    work = vault.workspace("team/x")
    assert work.read("new") == b"through the vault"
    assert {file.change.path for file in work.diff().files} >= {b"new"}
    assert os.path.realpath(fork) == os.fspath(session_of(vault, "team/x").path)
    assert (session.path / "forks/team/y/z/README").exists()


def test_a_look_at_the_list_mounts_nothing(session: Session, vault: Vault) -> None:
    """Neither listing the forks nor asking what they are makes a session; the way in is listed nowhere."""
    top = session.path
    assert _names(top) == {"forks", "checkpoints", "commits"}
    for name in ("main", "team/x", "team/y/z"):
        assert os.readlink(top / "forks" / name).startswith("../"), name
    assert subprocess.run(["ls", "-lR", top / "forks"], check=True, capture_output=True).stdout

    assert [found.fork for found in vault.sessions()] == ["*"]


def test_forks_that_were_walked_into_end_with_the_mount(vault: Vault, mount_dir: Path) -> None:
    """Also when a server was killed meanwhile, which ends none of them; what was written stays."""
    with vault.mount(mount_dir / "everything") as session:
        (session.path / "forks/main/before").write_bytes(b"1")
        with (session.path / "forks/main/held").open("wb") as held:
            os.kill(server_of(session), signal.SIGKILL)
            (session.path / "forks/team/x/after").write_bytes(b"2")
            held.write(b"3")
        ends = [session_of(vault, fork) for fork in ("main", "team/x")]
    for end in ends:
        end.wait()

    assert not vault.sessions()
    assert (vault.workspace("main").read("before"), vault.workspace("main").read("held")) == (b"1", b"3")
    assert vault.workspace("team/x").read("after") == b"2"


def test_nothing_but_forks_can_be_walked_into(session: Session, vault: Vault) -> None:
    """A name behind the doors that is no fork's is not there, and a fork that goes has none."""
    doors = session.path / ".live"
    for name in ("nothing", "team", "team%2Fz", ".."):
        assert not os.path.lexists(doors / name) or name == ".."
    vault.fork("short-lived")
    vault.delete_fork("short-lived")
    assert not os.path.lexists(doors / "short-lived")


def session_of(vault: Vault, fork: str) -> Session:
    """Find the mount of a fork."""
    found = vault.find_session(fork)
    assert found is not None
    return found


def server_of(session: Session) -> int:
    """Find the process that serves a mount: the child of that of the session."""
    pid = session.info().pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])

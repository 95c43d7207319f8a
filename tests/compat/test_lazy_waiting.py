"""A lazy vault whose server is silent: who waits can be ended, and a live tree serves all others meanwhile."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from avfs_git.errors import RemoteError
from avfs_git.gitstore.remote import partial as lazystore
from avfs_git.gitstore.remote import runner as remotegit
from avfs_git.gitstore.remote import transport
from avfs_git.host.processes.processes import list_family, start_time, waits_for_fuse
from avfs_git.sdk import Avfs, Vault
from tests.compat.test_lazy import FILES, fill, missing, packs
from tests.support.killing import server_below
from tests.support.servers import make_bare, serve
from tests.support.waiting import wait_for


@pytest.mark.needs("fuse")
def test_names_are_listed_without_the_server(tmp_path: Path, mount_dir: Path) -> None:
    """`find` and `ls` of what was never looked at ask nobody and fetch nothing, whatever the server can tell."""
    bare = make_bare(tmp_path / "shop.git")
    with open_lazily(tmp_path, bare, bare) as vault:
        before = packs(vault)
        bare.rename(tmp_path / "gone.git")
        with vault.workspace().mount(mount_dir / "tree") as session:
            found = subprocess.run(
                ["find", ".", "-type", "f"], cwd=session.path, capture_output=True, timeout=60, check=True
            )
            listed = subprocess.run(["ls", "dir/deep"], cwd=session.path, capture_output=True, timeout=60, check=True)
            status = packs(vault), missing(vault)

    assert {line.removeprefix("./") for line in found.stdout.decode().split()} >= FILES.keys()
    assert listed.stdout.decode().split() == sorted(f"h{number}" for number in range(5))
    assert status == (before, 2 * len(FILES))


@contextmanager
def open_lazily(tmp_path: Path, bare: Path, url: Path | str) -> Iterator[Vault]:
    """Fill a repository and clone it."""
    fill(bare, tmp_path / "work")
    with Avfs(tmp_path / "home", remote_environment={"HOME": str(tmp_path)}) as avfs:
        avfs.clone_vault(str(url), "v", lazy=True)
        with avfs.open_vault("v") as vault:
            yield vault


class Between:
    """Stands between a client and `git daemon`, and passes nothing on for a time."""

    def __init__(self, port: int) -> None:
        self.open = threading.Event()
        self.open.set()
        self.held = threading.Event()
        """Set when something waits."""
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            asking = threading.Thread(target=self._carry, args=(client, server), daemon=True)
            asking.start()
            self._carry(server, client)
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            asking.join(10)

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if not self.open.is_set():
                    self.held.set()
                    self.open.wait(60)
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.open.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)


@pytest.fixture
def between(tmp_path: Path) -> Iterator[tuple[Between, str]]:
    """A daemon behind somebody who may pass nothing on, and the address."""
    with serve("daemon", tmp_path / "served") as server:
        fill(server.make("shop.git"), tmp_path / "work")
        url = server.url("shop.git")
        with closing(Between(urlsplit(url).port or 0)) as found:
            yield found, f"git://127.0.0.1:{found.port}/shop.git"


@pytest.fixture
def vault(tmp_path: Path, between: tuple[Between, str]) -> Iterator[Vault]:
    """A lazy clone by way of `between`."""
    with Avfs(tmp_path / "home", remote_environment={"HOME": str(tmp_path)}) as avfs:
        avfs.clone_vault(between[1], "v", lazy=True)
        with avfs.open_vault("v") as found:
            yield found


def test_a_server_that_hangs_is_given_up(
    vault: Vault, between: tuple[Between, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an error after some time, also for a size; no process stays, and it works when the server goes on."""
    monkeypatch.setattr(transport, "_LAZY_PATIENCE_S", 1.0)
    monkeypatch.setattr(remotegit, "_LOOK_S", 0.2)
    monkeypatch.setattr(lazystore, "_PATIENCE_S", 0)
    work = vault.workspace()
    between[0].open.clear()
    with pytest.raises(RemoteError, match="has said nothing"):
        work.stat("f1")
    with pytest.raises(RemoteError, match="has said nothing"):
        work.read("f1")
    left = [pid for pid in list_family(os.getpid()) if b"\0fetch\0" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    between[0].open.set()

    assert work.read("f1") == FILES["f1"]
    assert left == []


_READS = """
import sys
from avfs_git.sdk import Avfs
with Avfs(sys.argv[1], remote_environment={"HOME": sys.argv[1]}) as avfs, avfs.open_vault("v") as vault:
    vault.workspace().read("f1") if sys.argv[2] == "content" else vault.workspace().stat("f1")
"""


@pytest.mark.parametrize("wanted", ["content", "size"])
def test_what_a_killed_process_had_started_is_ended_by_the_next(
    vault: Vault, between: tuple[Between, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    """While the server is silent: what waits for it does not see that nobody waits for its answer any more."""
    monkeypatch.setattr(transport, "_LAZY_PATIENCE_S", 1.0)
    monkeypatch.setattr(remotegit, "_LOOK_S", 0.2)
    monkeypatch.setattr(lazystore, "_PATIENCE_S", 0)
    between[0].open.clear()
    with subprocess.Popen([sys.executable, "-c", _READS, str(tmp_path / "home"), wanted]) as killed:
        assert between[0].held.wait(30)
        family = {pid: start_time(pid) for pid in list_family(killed.pid)[1:]}
        killed.kill()
    exchanges = vault.path / "avfs/exchange"
    left = os.listdir(exchanges)
    with pytest.raises(RemoteError, match="has said nothing"):
        vault.workspace().read("f1")
    wait_for(lambda: not any(start_time(pid) == started for pid, started in family.items()))
    after = os.listdir(exchanges)
    monkeypatch.setattr(transport, "_LAZY_PATIENCE_S", 60.0)
    between[0].open.set()

    assert left
    assert family
    assert after == []
    assert vault.workspace().read("f2") == FILES["f2"]


@pytest.mark.needs("fuse")
def test_a_tree_serves_others_while_one_waits_for_a_server(
    vault: Vault, between: tuple[Between, str], mount_dir: Path
) -> None:
    """A program that reads what is not here waits; names, files that are here and new ones do not."""
    with vault.workspace().mount(mount_dir / "tree") as session:
        (session.path / "f0").read_bytes()
        between[0].open.clear()
        with subprocess.Popen(["cat", str(session.path / "dir/g1")], stdout=subprocess.PIPE) as waiting:
            assert between[0].held.wait(30)
            others = subprocess.run(
                ["sh", "-c", "find . && cat f2 && mkdir made && echo own >made/new && cat made/new && rm -r made"],
                cwd=session.path,
                capture_output=True,
                timeout=30,
                check=True,
            )
            is_waiting = waiting.poll() is None
            between[0].open.set()
            out, _ = waiting.communicate(timeout=60)

    assert is_waiting
    assert out == FILES["dir/g1"]
    assert others.stdout.endswith(FILES["f2"] + b"own\n")


_HANDLES = """
import os, signal, sys
signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
try:
    print(os.stat(sys.argv[1]).st_size, flush=True)
except OSError as error:
    print(error.errno, flush=True)
"""


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL], ids=lambda number: number.name)
def test_a_program_that_waits_for_a_server_can_be_killed(
    vault: Vault, between: tuple[Between, str], mount_dir: Path, number: signal.Signals
) -> None:
    """It ends while the server is silent; others that want the same wait on, and get it."""
    with vault.workspace().mount(mount_dir / "tree") as session:
        (session.path / "f0").read_bytes()
        between[0].open.clear()
        wanted = ["cat", str(session.path / "dir/g1")]
        with subprocess.Popen(wanted, stdout=subprocess.PIPE, cwd=mount_dir) as killed:
            assert between[0].held.wait(30)
            with subprocess.Popen(wanted, stdout=subprocess.PIPE) as other:
                killed.send_signal(number)
                status = killed.wait(30)
                is_waiting = other.poll() is None and not between[0].open.is_set()
                between[0].open.set()
                out, _ = other.communicate(timeout=60)

    assert status == -number
    assert is_waiting
    assert out == FILES["dir/g1"]


@pytest.mark.needs("fuse")
def test_a_program_that_handles_a_signal_waits_on(vault: Vault, between: tuple[Between, str], mount_dir: Path) -> None:
    """It is not told EINTR by a call that does not expect it; killed afterwards, it ends as any other."""
    with vault.workspace().mount(mount_dir / "tree") as session:
        (session.path / "f0").read_bytes()
        between[0].open.clear()
        argv = [sys.executable, "-c", _HANDLES]
        with (
            subprocess.Popen([*argv, str(session.path / "dir/g1")], stdout=subprocess.PIPE) as one,
            subprocess.Popen([*argv, str(session.path / "dir/deep/h1")], stdout=subprocess.PIPE) as other,
        ):
            for program in (one, other):
                wait_for(partial(waits_for_fuse, program.pid, program.pid))
                program.send_signal(signal.SIGUSR1)
            subprocess.run(["ls", str(session.path)], check=True, capture_output=True)
            time.sleep(1)  # what would be wrong comes by then, were it not prevented
            both_wait = one.poll() is None and other.poll() is None
            other.kill()
            status = other.wait(30)
            between[0].open.set()
            out, _ = one.communicate(timeout=60)

    assert both_wait
    assert status == -signal.SIGKILL
    assert out.split() in ([b"handled", b"%d" % len(FILES["dir/g1"])], [b"%d" % len(FILES["dir/g1"]), b"handled"])


@pytest.mark.needs("fuse")
def test_a_program_that_was_interrupted_before_a_server_died_can_be_killed(
    vault: Vault, between: tuple[Between, str], mount_dir: Path
) -> None:
    """The kernel tells of its first signal alone, and told that to the server that is dead."""
    with vault.workspace().mount(mount_dir / "tree") as session:
        (session.path / "f0").read_bytes()
        between[0].open.clear()
        argv = [sys.executable, "-c", _HANDLES, str(session.path / "dir/g1")]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as program:
            wait_for(partial(waits_for_fuse, program.pid, program.pid))
            program.send_signal(signal.SIGUSR1)
            os.kill(server_below(session.info().pid), signal.SIGKILL)
            names = subprocess.run(["find", str(session.path)], capture_output=True, timeout=30, check=True)
            program.kill()
            status = program.wait(30)
        between[0].open.set()
        content = (session.path / "dir/g1").read_bytes()

    assert b"g1" in names.stdout
    assert status == -signal.SIGKILL
    assert content == FILES["dir/g1"]


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("length", [6, 255])
@pytest.mark.parametrize("dies", [False, True], ids=["lives", "dies"])
def test_a_rename_waits_for_a_server_without_holding_up_others(
    vault: Vault, between: tuple[Between, str], mount_dir: Path, length: int, dies: bool
) -> None:
    """Its content comes first, also where the tree's own server dies meanwhile; who is killed has renamed nothing."""
    with vault.workspace().mount(mount_dir / "tree") as session:
        between[0].open.clear()
        code = "import os, sys; os.rename(sys.argv[1], sys.argv[2])"
        new = "n" * length
        argv = [sys.executable, "-c", code]
        with subprocess.Popen([*argv, "dir/deep/h1", f"dir/deep/{new}"], cwd=session.path) as waiting:
            assert between[0].held.wait(30)
            with subprocess.Popen([*argv, "f3", "killed"], cwd=session.path) as killed:
                wait_for(partial(waits_for_fuse, killed.pid, killed.pid))
                killed.kill()
                status = killed.wait(30)
            if dies:
                os.kill(server_below(session.info().pid), signal.SIGKILL)
            # The kernel keeps everybody out of the directory in which something is being renamed, and out of no other.
            (session.path / "dir/own").write_bytes(b"own")
            listed = subprocess.run(["ls", "dir"], cwd=session.path, capture_output=True, timeout=30, check=True)
            is_waiting = waiting.poll() is None
            between[0].open.set()
            renamed = waiting.wait(60)
        names = set(os.listdir(session.path)), os.listdir(session.path / "dir/deep")
        content = (session.path / "dir/deep" / new).read_bytes()

    assert is_waiting
    assert (renamed, status) == (0, -signal.SIGKILL)
    assert b"own" in listed.stdout
    # A server that dies right when it has let go of a program leaves what that asked for to the next, which may do it.
    assert names[0] & {"f3", "killed"} in ([{"f3"}, {"killed"}] if dies else [{"f3"}])
    assert ("h1" in names[1], new in names[1]) == (False, True)
    assert content == FILES["dir/deep/h1"]


@pytest.mark.needs("sshd")
def test_a_command_reaches_the_server_as_the_vault_does(tmp_path: Path) -> None:
    """What shows the tree to a command has the ssh, credentials and proxies of who runs it."""
    with serve("ssh", tmp_path / "served") as server:
        fill(server.make("shop.git"), tmp_path / "work")
        url = server.url("shop.git")
        with Avfs(tmp_path / "home", remote_environment={**server.environment, "HOME": str(tmp_path)}) as avfs:
            avfs.clone_vault(url, "v", lazy=True)
            with avfs.open_vault("v") as vault:
                done = vault.workspace().exec("sh", "-c", "ls -l dir && cat f1")

    assert (done.exit_code, done.stdout[-len(FILES["f1"]) :]) == (0, FILES["f1"])


@pytest.mark.needs("fuse")
def test_a_server_that_dies_while_a_program_waits_leaves_the_question_to_the_next(
    vault: Vault, between: tuple[Between, str], mount_dir: Path
) -> None:
    """The program gets its answer from the next one, when what it needs has come."""
    with vault.workspace().mount(mount_dir / "tree") as session:
        (session.path / "f0").read_bytes()
        between[0].open.clear()
        with subprocess.Popen(["cat", str(session.path / "dir/g1")], stdout=subprocess.PIPE) as waiting:
            assert between[0].held.wait(30)
            server = server_below(session.info().pid)
            os.kill(server, signal.SIGKILL)
            names = subprocess.run(["find", str(session.path)], capture_output=True, timeout=30, check=True)
            is_waiting = waiting.poll() is None
            between[0].open.set()
            out, _ = waiting.communicate(timeout=60)

    assert is_waiting
    assert b"g1" in names.stdout
    assert out == FILES["dir/g1"]

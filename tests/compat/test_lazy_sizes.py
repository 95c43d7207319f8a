"""Sizes in a lazy vault are known before contents where the server tells them, and a tree serves others while it waits."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from avfs_git.errors import RemoteDataRefused, RemoteError, RemoteUnreachable
from avfs_git.gitstore import lazystore, objectinfo, remotegit, transport
from avfs_git.gitstore.remotegit import Access
from avfs_git.gitstore.transport import Exchange
from avfs_git.host.processes import list_family, start_time, waits_for_fuse
from avfs_git.paths import Oid
from avfs_git.sdk import Avfs, Vault
from avfs_git.workspace import remotes
from tests.compat.test_lazy import FILES, NEEDS, fill, missing, packs
from tests.support.killing import server_below
from tests.support.servers import KINDS, Server, git, make_bare, serve, serve_http
from tests.support.waiting import wait_for

Rewrite = Callable[[bytes], bytes]


def make_telling(server: Server, work: Path) -> str:
    """Make a repository whose server tells sizes; give its address."""
    bare = server.make("shop.git")
    git("config", "transfer.advertiseObjectInfo", "true", cwd=bare)
    fill(bare, work)
    return server.url("shop.git")


def stat_all(top: Path) -> dict[str, int]:
    """Look at all files as `ls -lR` does."""
    return {
        os.path.relpath(os.path.join(place, name), top): os.stat(os.path.join(place, name)).st_size
        for place, _, names in os.walk(top)
        for name in names
        if name != ".git"
    }


@pytest.mark.needs("fuse")
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=NEEDS.get(kind, [])) for kind in KINDS])
def test_a_tree_is_listed_with_sizes_before_any_content_is_here(kind: str, tmp_path: Path, mount_dir: Path) -> None:
    """`ls -lR` and the first `git status` fetch nothing where the server tells sizes, and later do without it."""
    sizes = {name: len(content) for name, content in FILES.items()}
    with serve(kind, tmp_path / "served") as server:
        url = make_telling(server, tmp_path / "work")
        with Avfs(tmp_path / "home", remote_environment={**server.environment, "HOME": str(tmp_path)}) as avfs:
            avfs.clone_vault(url, "v", lazy=True)
            with avfs.open_vault("v") as vault:
                before = missing(vault), packs(vault)
                with vault.workspace().mount(mount_dir / "tree") as session:
                    listed = stat_all(session.path)
                    status = git("status", "--porcelain", cwd=session.path)
                    after = missing(vault), packs(vault)
                    (tmp_path / "served/shop.git").rename(tmp_path / "served/gone.git")
                with vault.workspace().mount(mount_dir / "tree") as session:
                    offline = stat_all(session.path)
                    (tmp_path / "served/gone.git").rename(tmp_path / "served/shop.git")
                    read = (session.path / "f1").read_bytes()

    assert listed == offline == sizes
    assert status == ""
    assert before == after
    assert read == FILES["f1"]


@pytest.mark.needs("fuse")
def test_names_are_listed_without_the_server(tmp_path: Path, mount_dir: Path) -> None:
    """`find` and `ls` of what was never looked at ask nobody and fetch nothing, whatever the server can tell."""
    bare = make_bare(tmp_path / "shop.git")
    with open_lazily(tmp_path, bare, bare) as vault:
        before = packs(vault)
        bare.rename(tmp_path / "gone.git")
        with vault.workspace().mount(mount_dir / "tree") as session:
            found = subprocess.run(["find", ".", "-type", "f"], cwd=session.path, capture_output=True, timeout=60, check=True)
            listed = subprocess.run(["ls", "dir/deep"], cwd=session.path, capture_output=True, timeout=60, check=True)
            status = packs(vault), missing(vault)

    assert {line.removeprefix("./") for line in found.stdout.decode().split()} >= FILES.keys()
    assert listed.stdout.decode().split() == sorted(f"h{number}" for number in range(5))
    assert status == (before, 2 * len(FILES))


def sizes_of(vault: Vault) -> dict[str, int | None]:
    """Tell the sizes of all files as the SDK does."""
    work = vault.workspace()
    return {name: work.stat(name).size for name in FILES}


@contextmanager
def open_lazily(tmp_path: Path, bare: Path, url: Path | str) -> Iterator[Vault]:
    """Fill a repository and clone it."""
    fill(bare, tmp_path / "work")
    with Avfs(tmp_path / "home", remote_environment={"HOME": str(tmp_path)}) as avfs:
        avfs.clone_vault(str(url), "v", lazy=True)
        with avfs.open_vault("v") as vault:
            yield vault


# --- servers that lie, and servers that hang -------------------------------------------------------------------------------


class Between:
    """Stands between a client and `git daemon`: changes what the server says of sizes, or passes nothing on for a time."""

    def __init__(self, port: int) -> None:
        self.rewrite: Rewrite = bytes
        """What becomes of what the server says of sizes."""
        self.introduce: Rewrite = bytes
        """What becomes of what it says before."""
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
        asks = threading.Event()
        with client, socket.create_connection(("127.0.0.1", self._port)) as server:
            asking = threading.Thread(target=self._carry, args=(client, server, asks, False), daemon=True)
            asking.start()
            self._carry(server, client, asks, True)
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)
            asking.join(10)

    def _carry(self, source: socket.socket, sink: socket.socket, asks: threading.Event, is_server: bool) -> None:
        introduced = not is_server
        with suppress(OSError):
            while data := source.recv(1 << 16):
                while not introduced and not data.endswith(b"0000"):  # what it can do is rewritten whole, not in pieces
                    data += source.recv(1 << 16)
                introduced = True
                if not self.open.is_set():
                    self.held.set()
                    self.open.wait(60)
                if not is_server and b"command=object-info" in data:
                    asks.set()
                if is_server:
                    data = self.rewrite(data) if asks.is_set() else self.introduce(data)
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
    """A daemon that tells sizes behind somebody who may change them, and the address."""
    with serve("daemon", tmp_path / "served") as server:
        url = make_telling(server, tmp_path / "work")
        found = Between(urlsplit(url).port or 0)
        try:
            yield found, f"git://127.0.0.1:{found.port}/shop.git"
        finally:
            found.close()


@pytest.fixture
def vault(tmp_path: Path, between: tuple[Between, str]) -> Iterator[Vault]:
    """A lazy clone by way of `between`."""
    with Avfs(tmp_path / "home", remote_environment={"HOME": str(tmp_path)}) as avfs:
        avfs.clone_vault(between[1], "v", lazy=True)
        with avfs.open_vault("v") as found:
            yield found


def hide(data: bytes) -> bytes:
    """Leave out that sizes can be asked for."""
    return data.replace(b"0010object-info\n", b"")


def test_a_server_that_does_not_tell_sizes_is_asked_once(
    vault: Vault, between: tuple[Between, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes come with contents then, a directory at a time; another process does not ask that day."""
    between[0].introduce = hide
    asked: list[int] = []
    ask = objectinfo.ask_sizes

    def counted(exchange: Exchange, oids: Sequence[Oid]) -> dict[Oid, int] | None:
        asked.append(len(oids))
        return ask(exchange, oids)

    monkeypatch.setattr(remotes, "ask_sizes", counted)
    before, work = packs(vault), vault.workspace()
    first = work.stat("dir/g1").size
    after = packs(vault)
    with Avfs(tmp_path / "home", remote_environment={"HOME": str(tmp_path)}) as avfs, avfs.open_vault("v") as again:
        found = sizes_of(again)

    assert first == len(FILES["dir/g1"])
    assert found == {name: len(content) for name, content in FILES.items()}
    assert len(asked) == 1
    assert (after - before, packs(vault) - after) == (1, 2)


def lie(data: bytes) -> bytes:
    """Make every size another one of the same length."""
    return re.sub(rb"([0-9a-f]{40}) (\d)", lambda match: match[1] + b" %d" % (int(match[2]) % 9 + 1), data)


def test_a_size_that_was_not_true_is_told_and_never_a_wrong_content(
    vault: Vault, between: tuple[Between, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who believed it gets an error, later processes the right size, and the server is not believed again."""
    between[0].rewrite = lie
    work = vault.workspace()
    told = work.stat("f1").size
    with pytest.raises(RemoteDataRefused):
        work.read("f1")
    with Avfs(tmp_path / "home", remote_environment={"HOME": str(tmp_path)}) as avfs, avfs.open_vault("v") as again:
        other = again.workspace()
        sizes = {name: other.stat(name).size for name in FILES}
        read = {name: other.read(name) for name in FILES}

    assert told != len(FILES["f1"])
    assert sizes == {name: len(content) for name, content in FILES.items()}
    assert read == FILES


@pytest.mark.needs("fuse")
def test_a_program_gets_an_error_where_the_kernel_was_told_a_wrong_size(
    vault: Vault, between: tuple[Between, str], mount_dir: Path
) -> None:
    """Reading fails in that mount, also after its server was killed; the next mount shows what is there."""
    between[0].rewrite = lie
    with vault.workspace().mount(mount_dir / "tree") as session:
        os.listdir(session.path)
        told = os.stat(session.path / "f1").st_size
        with pytest.raises(OSError, match="Input/output"):
            (session.path / "f1").read_bytes()
        with pytest.raises(OSError, match="Input/output"):
            (session.path / "f1").read_bytes()
    with vault.workspace().mount(mount_dir / "tree") as session:
        read = {name: (session.path / name).read_bytes() for name in FILES}

    assert told != len(FILES["f1"])
    assert read == FILES


@pytest.mark.parametrize(
    "rewrite",
    [
        pytest.param(lambda data: re.sub(rb"([0-9a-f]{40}) \d+", lambda m: b"0" * 40 + m[0][40:], data), id="not asked for"),
        pytest.param(lambda data: re.sub(rb"(?<=[0-9a-f]{40}) ", b"-", data), id="negative"),
        pytest.param(lambda data: data.replace(b"0000", b""), id="no end"),
        pytest.param(lambda data: data.replace(b"0008size", b"0008SIZE"), id="not sizes"),
        pytest.param(lambda data: data.replace(b"0000", b"0031%b 3" % (b"1" * 40) * 9000 + b"0000"), id="more than asked for"),
        pytest.param(lambda data: b"ffff" + data, id="no packet"),
        pytest.param(
            lambda data: re.sub(rb"[0-9a-f]{4}([0-9a-f]{40}) \d+", lambda m: b"003c" + m[1] + b" 999999999999999", data),
            id="absurd",
        ),
    ],
)
def test_an_answer_that_makes_no_sense_is_refused(
    rewrite: Rewrite, vault: Vault, between: tuple[Between, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes come with the contents then, or are an error; none is believed, and nothing waits for ever."""
    monkeypatch.setattr(remotes, "_LAZY_PATIENCE_S", 2.0)
    monkeypatch.setattr(lazystore, "_PATIENCE_S", 0)
    between[0].rewrite = rewrite
    try:
        found = sizes_of(vault)
    except RemoteUnreachable:
        found = {}
        between[0].rewrite = bytes
        assert vault.workspace().read("f1") == FILES["f1"]

    assert found in ({}, {name: len(content) for name, content in FILES.items()})


def test_a_server_that_hangs_is_given_up(vault: Vault, between: tuple[Between, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error after some time, for a content as for a size; no process stays, and it works when the server goes on."""
    monkeypatch.setattr(remotes, "_LAZY_PATIENCE_S", 1.0)
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
    monkeypatch.setattr(remotes, "_LAZY_PATIENCE_S", 1.0)
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
    monkeypatch.setattr(remotes, "_LAZY_PATIENCE_S", 60.0)
    between[0].open.set()

    assert left
    assert (family != {}) == (wanted == "content")  # a size is asked for by the process itself
    assert after == []
    assert vault.workspace().read("f2") == FILES["f2"]


@pytest.mark.needs("fuse")
def test_a_tree_serves_others_while_one_waits_for_a_server(vault: Vault, between: tuple[Between, str], mount_dir: Path) -> None:
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
        sizes = stat_all(session.path)
        assert len(sizes) == len(FILES)
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


# --- the way there is git's own --------------------------------------------------------------------------------------------


def test_sizes_are_asked_for_with_the_users_credentials(tmp_path: Path) -> None:
    """A credential helper is asked as for a fetch, and `insteadOf` counts."""
    with serve_http(tmp_path / "served", credentials="u:hidden") as server:
        url = make_telling(server, tmp_path / "work")
        (tmp_path / ".gitconfig").write_text(
            '[credential]\n\thelper = "!f() { echo username=u; echo password=hidden; }; f"\n'
            f'[url "{url.removesuffix("shop.git")}"]\n\tinsteadOf = https://example.org/\n'
        )
        with Avfs(tmp_path / "home", remote_environment={"HOME": str(tmp_path)}) as avfs:
            avfs.clone_vault("https://example.org/shop.git", "v", lazy=True)
            with avfs.open_vault("v") as vault:
                before = missing(vault)
                found = sizes_of(vault)
                after = missing(vault)

    assert found == {name: len(content) for name, content in FILES.items()}
    assert before == after == 2 * len(FILES)


@pytest.mark.needs("sshd")
def test_sizes_are_asked_for_by_the_ssh_that_git_would_run(tmp_path: Path) -> None:
    """Named by `core.sshCommand`, `GIT_SSH_COMMAND` or `GIT_SSH`, also a wrapper, and with either spelling of an address."""
    with serve("ssh", tmp_path / "served") as server:
        url = make_telling(server, tmp_path / "work")
        command = server.environment["GIT_SSH_COMMAND"]
        wrapper = tmp_path / "my wrapper"
        wrapper.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        wrapper.chmod(0o755)
        parts = urlsplit(url)
        short = f"[{parts.hostname}:{parts.port}]:{parts.path}"
        (tmp_path / ".gitconfig").write_text(f"[core]\n\tsshCommand = {command}\n")
        ways = [
            (short, {"HOME": str(tmp_path)}),
            (url, {"HOME": "/nowhere", "GIT_SSH_COMMAND": f"'{wrapper}'"}),
            (url, {"HOME": "/nowhere", "GIT_SSH": str(wrapper)}),
        ]
        for number, (address, environment) in enumerate(ways):
            with Avfs(tmp_path / "home", remote_environment=environment) as avfs:
                avfs.clone_vault(address, f"v{number}", lazy=True)
                with avfs.open_vault(f"v{number}") as vault:
                    assert sizes_of(vault) == {name: len(content) for name, content in FILES.items()}
                    assert missing(vault) == 2 * len(FILES)


def test_nothing_is_run_that_an_address_or_a_setting_asks_for(tmp_path: Path) -> None:
    """An address that `insteadOf` makes into a program, or a host that is an option, is no way: nothing runs."""
    ran = tmp_path / "ran"
    bare = make_bare(tmp_path / "shop.git")
    for address, setting in (
        ("https://example.org/shop.git", f'[url "ext::touch {ran} "]\n\tinsteadOf = https://example.org/\n'),
        ("https://example.org/shop.git", f'[url "ssh://-oProxyCommand=touch%20{ran}/"]\n\tinsteadOf = https://example.org/\n'),
        ("ssh://example.org/shop.git", f"[core]\n\tsshCommand = touch {ran}x;\n[ssh]\n\tvariant = simple\n"),
    ):
        (tmp_path / ".gitconfig").write_text(setting)
        with (
            transport.open_exchange(bare, address, {}, access=Access({"HOME": str(tmp_path)}), lazy=True) as exchange,
            exchange.connect() as connection,
        ):
            assert connection is None

    assert not ran.exists()


@pytest.mark.needs("sshd")
def test_a_command_reaches_the_server_as_the_vault_does(tmp_path: Path) -> None:
    """What shows the tree to a command has the ssh, credentials and proxies of who runs it."""
    with serve("ssh", tmp_path / "served") as server:
        url = make_telling(server, tmp_path / "work")
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

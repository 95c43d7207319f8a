"""The control socket against hostile and clumsy clients: nothing that one does hurts the session or another client."""

from __future__ import annotations

import array
import errno
import io
import json
import os
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import typing
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import pytest

from avfs_git import faults
from avfs_git.errors import AvfsError, ContentChanged, InvalidInput, OutcomeUnknown, SessionEnding, WorkspaceBusy
from avfs_git.model import CheckpointResult, Identity, Warning
from avfs_git.paths import Oid, TreePath
from avfs_git.sdk import Avfs
from avfs_git.session.control import client, control, operations, wire
from avfs_git.session.control.address import listen, socket_address
from avfs_git.session.control.client import Sessions, opened_above, opened_source, spooled, spooled_file
from avfs_git.session.control.connection import Connection, Lost, OnSilence
from avfs_git.session.control.connections import CLIENTS_MAX, Client
from avfs_git.session.control.content import CONTENT_INLINE, Content
from avfs_git.session.control.control import OWN, ControlServer
from avfs_git.session.control.table import TABLE
from avfs_git.workspace.opened.workspace import OpenWorkspace
from avfs_git.workspace.restore.recovery import recover
from tests.support.capabilities import NOBODY
from tests.support.waiting import wait_for

SESSION = "0123abcd"


class Kernel:
    """Something that shows the tree, as far as the control socket knows: it keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def forget_content(self, ino: int) -> bool:
        self.told.append(ino)
        return True

    def forget_attributes(self, ino: int) -> bool:
        self.told.append(("attributes", ino))
        return True

    def forget_name(self, parent: int, name: bytes) -> bool:
        self.told.append((parent, name))
        return True


class Served:
    """A workspace behind a control socket, in this process."""

    server: ControlServer

    def __init__(self, opened: OpenWorkspace, path: Path, kernel: Kernel, home: Path) -> None:
        self.opened = opened
        self.path = path
        self.kernel = kernel
        self.home = home
        self.ended = threading.Event()

    def connect(self) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        with socket_address(self.path) as address:
            made.connect(address)
        made.settimeout(30)
        return made

    def ask(self, op: str, **args: Any) -> Any:
        with closing(Connection(self.path, 5.0)) as connection:
            operation = TABLE[op]
            hints, result = operation.signature
            return connection.ask(op, hints, args, result)


@contextmanager
def served(home: Path) -> Iterator[Served]:
    """Serve a workspace."""
    with Avfs(home, identity=Identity("A", "a@b")) as avfs, avfs.create_vault("v") as vault:
        vault.fork("work").write("file", b"content")
        opened = OpenWorkspace(vault._core, "work", recover=recover)
        place = vault._core.layout.sessions / SESSION
        place.mkdir(parents=True)
        listener = listen(place / "socket")
        opened.serve(SESSION)
        kernel = Kernel()
        found = Served(opened, place / "socket", kernel, home)
        server = ControlServer(
            listener, opened, kernel, served=wire.Served(SESSION, "/nowhere", None, os.getpid()), end=found.ended.set
        )
        found.server = server
        server.start()
        try:
            yield found
        finally:
            server.close()
            server.close()
            listener.close()
            opened.stop_serving()
            opened.close()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Served]:
    """A served workspace."""
    with served(tmp_path / "home") as found:
        yield found


def request(op: str, wait_s: float = 30, **args: object) -> bytes:
    """Write a request by hand."""
    return json.dumps({"v": 1, "id": 1, "op": op, "wait_s": wait_s, "args": args}).encode() + b"\n"


FILE = "ZmlsZQ=="
"""`file`, as the wire spells it."""


def line_of(connection: socket.socket) -> dict[str, Any]:
    """Read one answer."""
    got = b""
    while not got.endswith(b"\n"):
        data = connection.recv(65536)
        assert data, "the session closed the connection without an answer"
        got += data
    found: dict[str, Any] = json.loads(got)
    return found


def is_closed(connection: socket.socket) -> bool:
    """Whether the session has closed a connection."""
    try:
        return not connection.recv(1)
    except ConnectionResetError:
        return True


def test_the_socket_is_for_its_owner_only(live: Served) -> None:
    """Nobody else may even connect."""
    assert stat.S_IMODE(live.path.stat().st_mode) == 0o600


def test_a_path_of_any_length_will_do(tmp_path: Path) -> None:
    """The system allows 108 bytes for the name of a socket; vaults may be deeper."""
    deep = tmp_path.joinpath(*["a-long-name-of-a-directory"] * 8)
    deep.mkdir(parents=True)
    with served(deep / "home") as live:
        assert len(str(live.path)) > 200
        assert live.ask("read", path=TreePath(b"file")) == b"content"


@pytest.mark.parametrize(
    "line",
    [
        b"garbage\n",
        b"\n",
        b"{}\n",
        b'{"v":2,"id":1,"op":"read","args":{}}\n',
        b'{"v":1,"id":1,"args":{}}\n',
        b'{"v":1,"id":1,"op":"read"}\n',
        b'{"v":1,"id":1,"op":"read","args":[]}\n',
        b'{"v":1,"id":1,"op":"read","args_at":[0,10]}\n',
        b'{"v":1,"id":1,"op":"read","args":{},"attached":5}\n',
        b'{"v":1,"id":1,"op":"read","args":{},"wait_s":"long"}\n',
        b"[" * 50_000 + b"\n",
        b"\xff\xfe\n",
        b"x" * (wire.LINE_MAX + 2),
        b"x" * (wire.LINE_MAX * 8),
    ],
    ids=lambda line: repr(line[:40]),
)
def test_what_is_no_request_is_answered_and_ends_the_conversation(live: Served, line: bytes) -> None:
    """One clear error, then the connection is closed; others do not notice."""
    with live.connect() as connection:
        sender = threading.Thread(target=lambda: _send(connection, line))
        sender.start()
        answer = line_of(connection)
        assert answer["ok"] is False
        assert answer["error"]["code"] == "session.not_understood"
        assert is_closed(connection)
        sender.join()
    assert live.ask("read", path=TreePath(b"file")) == b"content"


def _send(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except OSError:  # it was closed meanwhile, as it should be
        pass


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("no_such_thing", {}),
        ("__class__", {}),
        ("read", {}),
        ("read", {"path": "", "more": 1}),
        ("read", {"path": 5}),
        ("read", {"path": "****"}),
        ("chmod", {"path": "", "mode": "0644"}),
        ("import_opened", {"source": 0, "path": "", "recursive": True, "max_depth": None, "shown": ""}),
        ("hello", {"umask": "022"}),
        ("stop", {}),
    ],
)
def test_a_request_that_cannot_be_meant_is_refused_and_the_conversation_goes_on(
    live: Served, op: str, args: object
) -> None:
    """An unknown operation or wrong arguments are an error of the request."""
    with live.connect() as connection:
        connection.sendall(json.dumps({"v": 1, "id": 7, "op": op, "args": args}).encode() + b"\n")
        answer = line_of(connection)
        assert (answer["id"], answer["ok"], answer["error"]["code"]) == (7, False, "input.invalid")
        connection.sendall(b'{"v":1,"id":8,"op":"exists","args":{"path":"ZmlsZQ=="}}\n')
        assert line_of(connection) == {"v": 1, "id": 8, "ok": True, "result": True}


def test_no_operation_takes_a_path_or_a_program_of_the_host() -> None:
    """What a client may do to the host it does itself: it hands over what it has opened."""
    asked = {**{name: operation.signature[0] for name, operation in TABLE.items()}, **control.OWN}
    taken = {(name, key) for name, hints in asked.items() for key, hint in hints.items() if "Path" in _names(hint)}
    assert not taken
    assert not asked.keys() & {"upgrade", "import_path", "export_path"}


def _names(hint: object) -> set[str]:
    """Name the types in a hint, also those of the fields of records."""
    fields = typing.get_type_hints(hint) if isinstance(hint, type) and is_dataclass(hint) else {}
    parts = [*typing.get_args(hint), *fields.values()]
    found = {getattr(hint, "__name__", "")}
    return found.union(*map(_names, parts)) if parts else found


def test_an_export_stays_below_the_directory_that_is_handed_over(live: Served, tmp_path: Path) -> None:
    """A client names no other place by a path of its own."""
    (tmp_path / "given").mkdir()
    more = {"recursive": True, "max_depth": None, "overwrite": True, "shown": "x"}
    for rest in (os.fsencode(tmp_path / "taken"), b"../taken", b"a/../../taken"):
        with opened_source(tmp_path / "given") as handle, pytest.raises(InvalidInput):
            live.ask("export_opened", path=TreePath(b"file"), place=handle, rest=rest, **more)
    with opened_source(tmp_path / "given") as handle:
        live.ask("export_opened", path=TreePath(b"file"), place=handle, rest=b"file", **more)
    assert (tmp_path / "given" / "file").read_bytes() == b"content"
    assert not (tmp_path / "taken").exists()


def test_what_is_handed_over_stays_the_callers(tmp_path: Path) -> None:
    """Where the session is gone the function runs in the caller's process: it does not close what the caller closes."""
    (tmp_path / "given").write_bytes(b"given")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(tmp_path / "given", "packed")
    packed.seek(0)
    with Avfs(tmp_path / "home", identity=Identity("A", "a@b")) as avfs, avfs.create_vault("v") as vault:
        with closing(OpenWorkspace(vault._core, "main", recover=recover)) as opened:
            with spooled(opened, [b"x" * CONTENT_INLINE, b"y"]) as content:
                assert content.handle is not None
                operations.write(opened, TreePath(b"large"), content, False, None, True, None)
                os.fstat(content.handle.fd)
                with pytest.raises(AvfsError):  # nothing is in conflict
                    operations.resolve_path(opened, TreePath(b"large"), None, content)
                os.fstat(content.handle.fd)
            with opened_source(tmp_path / "given") as source:
                operations.import_opened(opened, source, TreePath(b"given"), True, None, "given")
                os.fstat(source.fd)
            with spooled_file(opened, packed) as file:
                operations.import_tar(opened, file, TreePath(b""))
                os.fstat(file.fd)
            with opened_above(tmp_path / "out") as (place, rest):
                operations.export_opened(opened, TreePath(b"given"), place, rest, True, None, False, "out")
                os.fstat(place.fd)
        work = vault.workspace()
        assert (work.stat("large").size, work.read("given"), work.read("packed")) == (
            CONTENT_INLINE + 1,
            b"given",
            b"given",
        )
    assert (tmp_path / "out").read_bytes() == b"given"


def test_paths_from_the_wire_stay_inside(live: Served) -> None:
    """A client that does not use the SDK cannot leave the workspace either."""
    for path in (b"../outside", b"/etc/passwd", b"a/../../b", b"nul\0", b".git/config"):
        for op, more in (("read", {}), ("exists", {}), ("make_dir", {"parents": True})):
            if op == "exists" and path == b".git/config":
                continue
            with pytest.raises(AvfsError) as caught:
                live.ask(op, path=TreePath(path), **more)
            assert caught.value.code != "internal"
    assert sorted(os.listdir(live.opened.layout.root)) == ["lock", "marked", "state", "upper", "work"]


def test_many_requests_in_one_piece(live: Served) -> None:
    """Each is answered in turn, those that cannot be meant as well."""
    lines = [
        b'{"v":1,"id":%d,"op":"%s","args":{"umask":18}}\n' % (n, b"hello" if n % 2 else b"no") for n in range(1500)
    ]
    with live.connect() as connection:
        sender = threading.Thread(target=lambda: _send(connection, b"".join(lines)))
        sender.start()
        with connection.makefile("rb") as answers:
            for number in range(1500):
                answer = json.loads(answers.readline())
                assert (answer["id"], answer["ok"]) == (number, number % 2 == 1)
        sender.join()


def test_half_a_line_blocks_nobody(live: Served) -> None:
    """A client that stops in the middle of a line waits alone."""
    with live.connect() as silent:
        silent.sendall(b'{"v":1,"id":1,"op":"rea')
        assert live.ask("read", path=TreePath(b"file")) == b"content"
        silent.sendall(b'd","args":{"path":"ZmlsZQ=="}}\n')
        assert line_of(silent)["ok"] is True


def test_a_client_that_does_not_take_its_answer_blocks_nobody(live: Served) -> None:
    """Its answers wait in a buffer that does not grow, because its next request is not read."""
    live.ask(
        "write",
        path=TreePath(b"large"),
        content=Content(data=b"x" * 2000),
        append=False,
        expect=None,
        parents=True,
        executable=None,
    )
    with live.connect() as greedy:
        request = b'{"v":1,"id":1,"op":"read","args":{"path":"bGFyZ2U="}}\n'
        greedy.setblocking(False)
        sent = 0
        while True:
            try:
                sent += greedy.send(request * 100)
            except BlockingIOError:
                break
        assert live.ask("read", path=TreePath(b"file")) == b"content"
        assert sent < 4 << 20
        greedy.settimeout(30)
        assert line_of_prefix(greedy)["ok"] is True


def line_of_prefix(connection: socket.socket) -> dict[str, Any]:
    """Read the first of many answers."""
    got = b""
    while b"\n" not in got:
        got += connection.recv(65536)
    found: dict[str, Any] = json.loads(got.partition(b"\n")[0])
    return found


def test_more_clients_than_there_is_room_for(live: Served) -> None:
    """The one that was silent for longest makes room; whoever asks is served."""
    connections = [live.connect() for _ in range(CLIENTS_MAX + 50)]
    try:
        assert live.ask("read", path=TreePath(b"file")) == b"content"
        connections[-1].sendall(b'{"v":1,"id":8,"op":"exists","args":{"path":"ZmlsZQ=="}}\n')
        assert line_of(connections[-1])["ok"] is True
        assert is_closed(connections[0])
    finally:
        for connection in connections:
            connection.close()


def test_two_hundred_clients_at_once(live: Served) -> None:
    """Each gets its own answer, and no write is lost."""

    def work(number: int) -> None:
        live.ask(
            "write",
            path=TreePath(b"log"),
            content=Content(data=b"%d\n" % number),
            append=True, expect=None, parents=True, executable=None,
        )  # fmt: skip
        done.append(number)

    done: list[int] = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 200
    assert sorted(map(int, live.ask("read", path=TreePath(b"log")).split())) == list(range(200))


def test_descriptors_that_nobody_asked_for_are_closed(live: Served) -> None:
    """Too many end the conversation; those of a request that cannot be meant do not stay open."""
    before = len(os.listdir("/proc/self/fd"))
    for count, ends in ((3, False), (20, True)):
        with live.connect() as connection, open(os.devnull, "rb") as null:
            line = b'{"v":1,"id":1,"op":"exists","args":{"path":"ZmlsZQ=="}}\n'
            connection.sendmsg(
                [line], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null.fileno()] * count).tobytes())]
            )
            assert line_of(connection)["ok"] is not ends
    wait_for(lambda: len(os.listdir("/proc/self/fd")) <= before + 1)


def test_a_pipe_is_not_taken_for_a_file(live: Served) -> None:
    """What could keep the session waiting is refused."""
    read_end, write_end = os.pipe()
    try:
        for op, args in (
            ("import_tar", {"archive": wire.Handle(read_end), "path": TreePath(b"")}),
            (
                "write",
                {
                    "path": TreePath(b"x"), "content": Content(handle=wire.Handle(read_end)),
                    "append": False, "expect": None, "parents": True, "executable": None,
                },
            ),
        ):  # fmt: skip
            with pytest.raises(Exception, match="must be a file beside the workspace"):
                live.ask(op, **args)
    finally:
        os.close(read_end)
        os.close(write_end)


def await_turn_taken(live: Served) -> None:
    """Wait until a request is being carried out."""
    wait_for(lambda: live.server._running is not None)


def test_whoever_waits_too_long_is_told_so(live: Served) -> None:
    """A request that does not get its turn in the time that its client gave is refused, and not done later."""
    with live.opened.locked(), live.connect() as first, live.connect() as second:  # as another operation does
        first.sendall(request("chmod", path=FILE, mode=0o700))
        await_turn_taken(live)
        second.sendall(request("remove", 0.05, path=FILE, recursive=False, missing_ok=False, expect=None))
        answer = line_of(second)
        assert answer["error"]["code"] == "workspace.busy"
        assert "chmod" in answer["error"]["message"]
    assert live.ask("read", path=TreePath(b"file")) == b"content"


def test_what_a_client_asked_for_that_is_gone_is_not_begun(live: Served) -> None:
    """Nobody waits for it, and nobody would learn of it."""
    with live.opened.locked(), live.connect() as first:
        first.sendall(request("chmod", path=FILE, mode=0o600))
        await_turn_taken(live)
        with live.connect() as second:
            second.sendall(request("remove", path=FILE, recursive=False, missing_ok=False, expect=None))
            wait_for(lambda: live.server._waiting)
    assert live.ask("exists", path=TreePath(b"file")) is True


@pytest.mark.needs("root")
def test_another_user_is_not_heard(live: Served) -> None:
    """Even one who can reach the socket is let go without a word."""
    live.path.chmod(0o777)
    for place in live.path.parents:
        if not place.stat().st_mode & 0o001:
            place.chmod(0o711)  # not writable: vaults of later tests are below some of them
    code = (
        f"import os, socket\nos.chdir({os.fspath(live.path.parent)!r})\n"
        f"os.setgroups([]); os.setresgid(*[{NOBODY}] * 3); os.setresuid(*[{NOBODY}] * 3)\n"
        f"s = socket.socket(socket.AF_UNIX); s.connect({live.path.name!r})\n"
        'try:\n    s.sendall(b\'{"v":1,"id":1,"op":"exists","args":{"path":""}}\\n\'); print(s.recv(100))\n'
        "except OSError: print(b'')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b"b''\n", b"")


@pytest.mark.needs("userns")
@pytest.mark.usefixtures("person")
@pytest.mark.parametrize("namespaces", [("--mount",), ("--pid", "--fork", "--kill-child")])
def test_a_process_in_another_namespace_is_told_why(live: Served, namespaces: tuple[str, ...]) -> None:
    """A command that is kept apart cannot command the session that it reaches, and no request of it is read."""
    code = (
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "s.sendall(sys.argv[2].encode()); print(s.makefile().read(), end='')"
    )
    asked = [request("exists", path=FILE), request("hello", umask=0), b"nonsense\n"]
    for line in asked:
        argv = [
            "unshare",
            "--user",
            "--map-root-user",
            *namespaces,
            sys.executable,
            "-c",
            code,
            live.path.name,
            line.decode(),
        ]
        answer = subprocess.run(argv, cwd=live.path.parent, capture_output=True, check=True).stdout
        assert json.loads(answer)["error"]["code"] == "session.peer_refused"
    assert live.ask("read", path=TreePath(b"file")) == b"content"


def test_the_kernel_is_told_exactly_what_changed(live: Served) -> None:
    """Names that mean something else, nodes whose content or attributes changed, and nothing else."""
    merged = live.opened.merged
    for name in (b"d", b"d/kept", b"d/gone", b"d/same"):
        live.ask("make_dir", path=TreePath(name), parents=False) if name == b"d" else live.ask(
            "touch", path=TreePath(name), mtime_ns=None
        )
    known = {name: merged.resolve(TreePath(name)) for name in (b"", b"file", b"d", b"d/kept", b"d/gone", b"d/same")}
    for node in known.values():
        merged.pins.pin(node)  # as the kernel does for what it was told
    directory = known[b"d"].ino

    def told(op: str, **args: Any) -> set[object]:
        live.kernel.told.clear()
        live.ask(op, **args)
        return set(live.kernel.told)

    assert told("chmod", path=TreePath(b"d/same"), mode=0o600) == {known[b"d/same"].ino}
    assert told("chmod", path=TreePath(b"d"), mode=0o700) == {directory}
    assert told("remove", path=TreePath(b"d/gone"), recursive=False, missing_ok=False, expect=None) == {
        directory, (directory, b"gone"), ("attributes", known[b"d/gone"].ino),
    }  # fmt: skip
    assert told("move", source=TreePath(b"d/kept"), destination=TreePath(b"d/other")) == {
        directory, (directory, b"kept"), (directory, b"other"), known[b"d/kept"].ino,
    }  # fmt: skip
    assert told("make_dir", path=TreePath(b"d/made"), parents=False) == {directory, (directory, b"made")}
    rewritten = told(
        "write",
        path=TreePath(b"file"),
        content=Content(data=b"new"),
        append=False,
        expect=None,
        parents=True,
        executable=None,
    )
    assert rewritten == {1, (1, b"file"), ("attributes", known[b"file"].ino)}  # a new file took its place
    appended = merged.resolve(TreePath(b"file"))
    merged.pins.pin(appended)
    assert told(
        "write",
        path=TreePath(b"file"),
        content=Content(data=b"er"),
        append=True,
        expect=None,
        parents=True,
        executable=None,
    ) == {appended.ino}
    assert told("read", path=TreePath(b"file")) == set()
    assert told("save_checkpoint", label="x") == set()
    with pytest.raises(ContentChanged):
        live.ask(
            "write",
            path=TreePath(b"file"),
            content=Content(data=b""),
            append=False,
            expect="",
            parents=True,
            executable=None,
        )


def test_a_successor_makes_the_kernel_forget_what_it_may_not_have_been_told(live: Served) -> None:
    """The lock file says that an operation was under way when its server was killed."""
    merged = live.opened.merged
    node = merged.resolve(TreePath(b"file"))
    merged.pins.pin(node)
    live.opened.lock.mark_operating(operating=True)
    listener = listen(live.path.with_name("other"))
    server = ControlServer(
        listener, live.opened, live.kernel, served=wire.Served(SESSION, "/", None, 0), end=lambda: None
    )
    server.start()
    while live.opened.lock.is_operating:
        threading.Event().wait(0.001)
    server.close()
    listener.close()
    assert {1, node.ino, (1, b"file")} <= set(live.kernel.told)


def test_an_answer_that_is_lost(live: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """What may be repeated is; of the rest the outcome is unknown; what was not read is asked again."""
    sessions = Sessions(live.path.parents[1], wait_s=5)
    with Avfs(live.home) as avfs, avfs.open_vault("v") as vault:
        opened = vault._dispatch.open_workspace("work")
        assert opened.lock.session == SESSION
        dying = iter((False,))
        receive = Connection.receive

        def die_once(self: Connection, on_silence: OnSilence | None) -> tuple[bytes, list[int]]:
            found = receive(self, on_silence)
            if next(dying, False):
                raise Lost
            return found

        assert sessions.run(opened, operations.exists, TreePath(b"file")) is True
        monkeypatch.setattr(Connection, "receive", die_once)
        repeated: list[Callable[[], object]] = [
            lambda: sessions.run(opened, operations.read, TreePath(b"file")),
            lambda: sessions.run(opened, operations.chmod, TreePath(b"file"), 0o640),
            lambda: sessions.run(opened, operations.save_checkpoint),
        ]
        for again in repeated:
            dying = iter((True, False))
            again()
        dying = iter((True, False))
        with pytest.raises(OutcomeUnknown, match="died in the middle of 'make_dir'"):
            sessions.run(opened, operations.make_dir, TreePath(b"new"), parents=False)
        assert sessions.run(opened, operations.exists, TreePath(b"new")) is True
    sessions.close()


@pytest.mark.parametrize("is_silent", [False, True])
def test_what_looks_waits_for_a_session_that_is_slow_and_not_for_one_that_hangs(
    live: Served, monkeypatch: pytest.MonkeyPatch, *, is_silent: bool
) -> None:
    """A slow one says hello.

    Beside one that says nothing, the disk is looked at, and its name is told once for many looks.
    """
    monkeypatch.setattr(client, "_SILENT_S", 0.2 if is_silent else 1.0)
    answer = ControlServer._answer
    is_over, asked_again = threading.Event(), threading.Event()
    hellos = 0

    def answer_late(self: ControlServer, asker: Client, line: bytes, descriptors: list[int]) -> Any:
        nonlocal hellos
        if is_silent:
            is_over.wait(60)
        elif b'"hello"' not in line:
            asked_again.wait(60)
        elif (hellos := hellos + 1) == 2:
            asked_again.set()
        return answer(self, asker, line, descriptors)

    monkeypatch.setattr(ControlServer, "_answer", answer_late)
    warned: list[Warning] = []
    sessions = Sessions(live.path.parents[1], wait_s=5, on_warnings=warned.extend)
    with Avfs(live.home) as avfs, avfs.open_vault("v") as vault:
        opened = vault._dispatch.open_workspace("work")
        for _ in range(3 if is_silent else 1):
            assert sessions.run(opened, operations.read, TreePath(b"file")) == b"content"
    is_over.set()
    sessions.close()
    assert [each.code for each in warned] == (["session.silent"] if is_silent else [])


def test_a_labelled_checkpoint_whose_acknowledgement_is_lost_is_found(
    live: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vault knows that it was made: it is not asked for again, which would say that the label is taken."""
    sessions = Sessions(live.path.parents[1], wait_s=5)
    with Avfs(live.home) as avfs, avfs.open_vault("v") as vault:
        opened = vault._dispatch.open_workspace("work")
        assert sessions.run(opened, operations.exists, TreePath(b"file")) is True
        receive = Connection.receive

        def die(self: Connection, on_silence: OnSilence | None) -> tuple[bytes, list[int]]:
            receive(self, on_silence)
            raise Lost

        with monkeypatch.context() as patched:
            patched.setattr(Connection, "receive", die)
            found = sessions.run(opened, operations.save_checkpoint, "label", "said")
        assert found.outcome == "created"
        assert found.checkpoint is not None
        assert found.checkpoint.labels == ("label",)
    sessions.close()


@pytest.mark.parametrize("op", ["save_checkpoint", "restore_state"])
def test_mapped_pages_are_written_out_when_the_turn_has_come(live: Served, op: str) -> None:
    """Memory changes by programs while a client waits for its turn are in its checkpoint and saved by its restore."""
    target = live.ask("save_checkpoint", label="before").checkpoint.id

    def flush() -> None:
        live.opened.merged.write_file(TreePath(b"mapped"), b"page")  # as the kernel writes it, which needs the guard

    given = {"target": Oid(bytes.fromhex(target)), "paths": [], "dry_run": False, "name": "before", "kind": "restore"}
    operation = TABLE[op]
    hints, result = operation.signature
    with closing(Connection(live.path, 5.0)) as connection:
        connection.ask(op, hints, given if op == "restore_state" else {}, result, flush=flush)

    store, head = live.opened.vault.store, live.opened.vault.read_head("work")
    assert head is not None
    newest = store.read_commit(head)
    # A restore saves what is there first, as a commit that its own follows.
    saved = newest if op == "save_checkpoint" else store.read_commit(newest.parents[0])
    assert b"mapped" in store.read_tree(saved.tree)


def test_a_client_that_writes_nothing_out_is_answered_all_the_same(live: Served) -> None:
    """Its answer is the last that it gets: what it sends can no longer be told from what it should have sent."""
    with closing(live.connect()) as connection:
        asked = json.loads(request("save_checkpoint")) | {"flushes": True}
        connection.sendall(json.dumps(asked).encode() + b"\n")
        assert line_of(connection) == json.loads(wire.FLUSH)
        connection.sendall(b"x" * 100)
        assert line_of(connection)["ok"] is True
        assert is_closed(connection)


def test_a_session_that_died_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    """Its name in the lock file is removed by whoever finds that nobody keeps the lock."""
    with Avfs(tmp_path / "home", identity=Identity("A", "a@b")) as avfs, avfs.create_vault("v") as vault:
        work = vault.fork("work")
        work.write("a", b"1")
        with vault._dispatch.open_workspace("work").locked() as locked:
            locked.opened.lock.keep("dead0001")
            locked.opened.lock._kept = False
        lock = work._opened.lock
        assert [lock.session, work.read("a"), lock.session] == ["dead0001", b"1", None]
        work.write("a", b"2")


def test_a_session_that_starts_is_waited_for(tmp_path: Path) -> None:
    """The name of the session is in the lock file a moment before the session answers.

    The client asks it again, for as long as it would wait for the lock.
    """
    with (
        Avfs(tmp_path / "home", identity=Identity("A", "a@b"), lock_timeout_s=0.2) as avfs,
        avfs.create_vault("v") as vault,
    ):
        work = vault.fork("work")
        opened = OpenWorkspace(vault._core, "work", recover=recover)
        opened.serve("mute0001")
        try:
            with pytest.raises(WorkspaceBusy, match="session mute0001"):
                work.write("a", b"1")
        finally:
            opened.stop_serving()
            opened.close()
        work.write("a", b"1")


def test_what_waits_when_the_session_ends_is_not_begun(tmp_path: Path) -> None:
    """It is told so, and does it by itself, or asks the next session."""
    with served(tmp_path / "home") as live:
        lock_held, may_go = threading.Event(), threading.Event()

        def hold() -> None:
            with live.opened.locked():
                lock_held.set()
                may_go.wait()

        holder = threading.Thread(target=hold)
        holder.start()
        lock_held.wait()
        answers: list[object] = []

        def ask() -> None:
            try:
                answers.append(live.ask("chmod", path=TreePath(b"file"), mode=0o600))
            except SessionEnding as error:
                answers.append(error)

        askers = [threading.Thread(target=ask) for _ in range(3)]
        for asker in askers:
            asker.start()
        wait_for(lambda: len(live.server._waiting) >= 2)
        threading.Timer(0.05, may_go.set).start()
    holder.join()
    for asker in askers:
        asker.join()
    assert sum(isinstance(answer, SessionEnding) for answer in answers) >= 1
    assert len(answers) == 3


def test_stop_saves_a_last_checkpoint_and_then_ends(live: Served) -> None:
    """The end is begun after the checkpoint is safe, and not at all if that fails."""
    with closing(Connection(live.path, 5.0)) as connection:
        saved = connection.ask("stop", OWN["stop"], {"checkpoint": True}, CheckpointResult | None)
        assert saved.outcome == "created"
    assert live.ended.wait(30)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.slow
def test_a_restore_that_fails_leaves_what_was_there(live: Served, number: int) -> None:
    """At whichever step the disk refuses: the old files are shown by the same nodes, and the next operation works."""

    def write(path: bytes, data: bytes) -> None:
        live.ask(
            "write",
            path=TreePath(path),
            content=Content(data=data),
            append=False, expect=None, parents=True, executable=None,
        )  # fmt: skip

    merged = live.opened.merged
    write(b"d/kept", b"first")
    write(b"d/gone", b"to come back")
    saved = live.ask("save_checkpoint", label="first")
    write(b"d/kept", b"second")
    live.ask("remove", path=TreePath(b"d/gone"), recursive=False, missing_ok=False, expect=None)
    write(b"new/file", b"not in the checkpoint")
    merged.pins.pin(merged.resolve(TreePath(b"d")))
    merged.pins.pin(merged.resolve(TreePath(b"new")))
    target = Oid(bytes.fromhex(saved.checkpoint.id))
    failed = 0
    for step in range(200):
        reached = 0

        def refuse(point: str) -> None:
            nonlocal reached
            if threading.current_thread().name == "avfs-client" and not point.startswith("control"):
                reached += 1
                if reached == step + 1:  # noqa: B023 - used in this turn of the loop only
                    raise OSError(number, os.strerror(number), point)

        faults.arm(refuse)
        try:
            live.ask("restore_state", target=target, paths=[], dry_run=False, name="first", kind="restore")
        except AvfsError as error:
            assert error.code != "internal", (step, error)  # noqa: PT017 - some steps have no error: a cache that cannot be written
            failed += 1
        finally:
            faults.arm(None)
        done = live.ask("read", path=TreePath(b"d/kept")) == b"first"
        assert live.ask("read", path=TreePath(b"d/kept")) == (b"first" if done else b"second")
        assert live.ask("exists", path=TreePath(b"d/gone")) is done, step
        assert live.ask("exists", path=TreePath(b"new/file")) is not done, step
        assert merged.nodes.find(merged.root, b"d") is merged.resolve(TreePath(b"d"))
        live.ask("read_status")
        if reached <= step:
            break
        if done:
            live.ask("turn", record=live.opened.vault.oplog.find_undoable("work").id, back=True)  # type: ignore[union-attr]
            assert live.ask("read", path=TreePath(b"d/kept")) == b"second"
    assert failed > 5
    assert live.ask("read", path=TreePath(b"d/kept")) == b"first"
    assert live.ask("save_checkpoint", label="after").outcome in ("created", "unchanged")


def test_the_limits_are_as_documented() -> None:
    """docs/reference/control.md names them."""
    text = (Path(__file__).parents[4] / "docs" / "reference" / "control.md").read_text("utf-8")
    assert f"{wire.LINE_MAX // 1024} KiB" in text
    assert f"{CLIENTS_MAX} clients" in text
    for name in (*TABLE, *control.OWN):
        assert f"`{name}`" in text, name

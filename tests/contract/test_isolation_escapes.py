"""What an isolated command cannot reach: every way out in `tests.support.escapes`, as root and as an ordinary user.

Each way that works for a program beside the sandbox is shown to work there first: one that gets out nowhere proves
nothing.
"""

from __future__ import annotations

import errno
import json
import os
import pty
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from avfs_git import Avfs
from avfs_git.errors import IsolationUnavailable
from avfs_git.host.files.closing import closing_fd
from avfs_git.model import Identity
from avfs_git.proxy.exec.syscalls import make_filter
from avfs_git.sdk import Vault, Workspace
from tests.support import escapes
from tests.support.commands import ALLOW_ALL
from tests.support.shown import spell_for_users

pytestmark = [
    pytest.mark.needs("git", "bubblewrap", "user-xattrs", "whiteout", "fuse", "overlayfs", "userns"),
    pytest.mark.slow,
    pytest.mark.usefixtures("person"),
]

CANARY = f"avfs-canary-{os.getpid()}"
PROGRAM = Path(escapes.__file__)
_OUTSIDE = (
    "import os, signal, sys; f = open(sys.argv[1]); signal.signal(signal.SIGUSR1, lambda *_: "
    "open(sys.argv[2], 'w').write('x'))"
)


@pytest.fixture
def vault(mount_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    """A vault whose commands are let in, and which shows the interpreter to those that are isolated."""
    config = mount_dir / "config" / "avfs" / "policy.toml"
    config.parent.mkdir(parents=True)
    config.write_text(ALLOW_ALL)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(mount_dir / "config"))
    with Avfs(mount_dir / "h", identity=Identity("A", "a@b"), policy=config) as avfs, avfs.create_vault("v") as made:
        made.set_config("isolate.show", f"{sys.base_prefix}:relative")
        yield made


@pytest.fixture
def work(vault: Vault) -> Iterator[Workspace]:
    """A fork with the program that wants out."""
    with vault.fork("work") as made:
        made.write("escapes.py", PROGRAM.read_bytes())
        made.checkpoint("start")
        yield made


@pytest.fixture
def outside(vault: Vault, mount_dir: Path) -> Iterator[dict[str, Any]]:
    """What there is outside: secrets, sockets, a server, a process with a secret, a mounted fork."""
    home = Path(os.environ["HOME"])
    run = mount_dir / "run"
    run.mkdir()
    with ExitStack() as stack:
        (mount_dir / CANARY).write_text("secret")
        (home / CANARY).write_text("secret")
        stack.callback((home / CANARY).unlink)
        with vault.fork("other") as other:
            other.write("secret", b"secret")
            session = stack.enter_context(other.mount(mount_dir / "tree"))
        sockets = [str(run / name) for name in ("ssh-agent", "bus", "X0", "wayland-0")] + [str(home / f"S.{CANARY}")]
        sockets += [f"/run/{CANARY}.sock"] if os.geteuid() == 0 else []
        for address in [*sockets, f"\0{CANARY}"]:
            if not address.startswith("\0"):
                stack.callback(Path(address).unlink, missing_ok=True)
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(address)
            listener.listen()
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        shared = Path("/dev/shm") / CANARY
        shared.write_text("secret")
        stack.callback(shared.unlink)
        told = mount_dir / "told"
        argv = [
            sys.executable,
            "-c",
            f"{_OUTSIDE}; print(flush=True); sys.stdin.read()",
            str(mount_dir / CANARY),
            str(told),
            CANARY,
        ]
        process = stack.enter_context(
            subprocess.Popen(
                argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=mount_dir, env={**os.environ, "TOKEN": CANARY}
            )
        )
        assert process.stdout is not None
        process.stdout.readline()
        secrets = [mount_dir / CANARY, home / CANARY, mount_dir / "tree" / "secret", vault.path / "avfs" / "workspaces"]
        secrets += [vault.path / "avfs" / "audit.ndjson", mount_dir / "config", Path("/etc/ssh"), Path("/etc/shadow")]
        places = map(str, [mount_dir, mount_dir / "tree", vault.path, vault.path / "avfs"])
        yield {
            "canary": CANARY,
            "escaped": f"escaped-{CANARY}",
            "secrets": [str(path) for path in secrets],
            "directories": [*places, "/usr", "/etc", "/"],
            "sockets": sockets,
            "abstract": CANARY,
            "port": server.getsockname()[1],
            "control": str(vault.path / "avfs" / "sessions" / session.id / "socket"),
            "pid": process.pid,
            "ino": mount_dir.stat().st_ino,
            "shm": 0x41564653,
        }
        assert process.poll() is None  # nothing inside has ended it
        assert not told.exists()
        process.stdin.close() if process.stdin is not None else None


def isolated(work: Workspace, facts: dict[str, Any], *ways: str, **options: Any) -> dict[str, bool]:
    """Try ways from inside; gives what each got."""
    python = os.path.realpath(sys.executable)
    options.setdefault("stdin", json.dumps(facts).encode())
    result = work.exec(python, "-I", "-S", "escapes.py", *ways, isolate=True, **options)
    assert result.exit_code == 0, result.stderr
    found: dict[str, bool] = json.loads(result.stdout)
    assert set(found) == set(ways)
    return found


def beside(facts: dict[str, Any], *ways: str) -> dict[str, bool]:
    """Try ways from a process that is not isolated."""
    argv = [sys.executable, "-I", "-S", str(PROGRAM), *ways]
    found: dict[str, bool] = json.loads(
        subprocess.run(argv, check=True, capture_output=True, input=json.dumps(facts).encode()).stdout
    )
    return found


def check_closed(work: Workspace, facts: dict[str, Any], *ways: str, open_beside: bool = True) -> None:
    """Make sure that ways are closed inside and, unless it is said otherwise, that they are none only there."""
    if open_beside:
        assert beside(facts, *ways) == dict.fromkeys(ways, True)
    assert isolated(work, facts, *ways) == dict.fromkeys(ways, False)


def test_files(work: Workspace, outside: dict[str, Any]) -> None:
    """Nothing of homes, temporary files, other forks, avfs's state or the machine's secrets is read."""
    check_closed(work, outside, "read_secret")


def test_avfs_is_hidden_where_a_place_around_it_is_shown(
    vault: Vault, work: Workspace, outside: dict[str, Any]
) -> None:
    """Of what `isolate.show` names, avfs's home stays out: other vaults, workspaces and sockets."""
    home = vault.path.parent.parent
    vault.set_config("isolate.show", f"{sys.base_prefix}:{home.parent}")
    secrets = [str(path) for path in home.rglob("*") if vault.path not in path.parents and not path.is_dir()]
    secrets += [str(vault.path / "avfs" / "format"), str(vault.path / "avfs" / "workspaces")]
    found = isolated(work, {**outside, "secrets": secrets}, "read_secret", "control_socket")
    assert found == {"read_secret": False, "control_socket": False}
    assert beside({**outside, "secrets": secrets}, "read_secret") == {"read_secret": True}


def test_nobody_with_more_rights_renames_for_it(work: Workspace) -> None:
    """A rename that overlayfs refuses stays refused: a helper would follow paths that the command changes meanwhile."""
    if not os.geteuid():
        spell_for_users(work)
    for name in (b"one/file", b"two/file"):
        work.write(name, b"content")
    work.checkpoint("base")
    work.fold()
    code = "import os, sys\ntry: os.rename(sys.argv[1], 'moved-' + sys.argv[1])\nexcept OSError as e: print(e.errno)"
    argv = (os.path.realpath(sys.executable), "-I", "-S", "-c", code)
    assert work.exec(*argv, "one", isolate=True, backend="overlay").stdout == b"%d\n" % errno.EXDEV
    assert work.exec(*argv, "two", backend="overlay").stdout == b""
    assert work.exec("mv", "one", "moved", isolate=True, backend="overlay").exit_code == 0
    assert (work.exists("moved/file"), work.exists("moved-two/file"), work.exists("one")) == (True, True, False)


def test_files_are_written_nowhere_but_in_the_workspace(work: Workspace, outside: dict[str, Any]) -> None:
    """Not in a directory outside, another fork's tree, the vault, avfs's state, or the system that is shown."""

    def written() -> list[str]:
        return [place for place in outside["directories"] if Path(place, outside["escaped"]).exists()]

    isolated(work, outside, "write_outside")
    own = [str(work.vault.path), str(work.vault.path.parent), str(work.vault.path.parents[1])]
    system = {**outside, "directories": ["/", "/usr", "/etc", "/usr/bin", "/proc", "/sys", *own]}
    assert isolated(work, system, "write_outside") == {"write_outside": False}
    assert not written()
    ours = [place for place in outside["directories"] if place not in ("/usr", "/etc", "/")]
    assert beside({**outside, "directories": ours}, "write_outside") == {"write_outside": True}
    assert written() == ours


def test_processes(work: Workspace, outside: dict[str, Any]) -> None:
    """No process outside is seen, read, traced or told anything: not by /proc, ptrace(2) or signals."""
    check_closed(work, outside, "proc_root", "proc_environ", "proc_fd", "see_process")
    assert isolated(work, outside, "ptrace", "read_memory", "send_signal") == {
        "ptrace": False,
        "read_memory": False,
        "send_signal": False,
    }


def test_everything_that_it_can_kill_is_inside(work: Workspace, outside: dict[str, Any]) -> None:
    """SIGKILL to all processes ends none outside, nor the session or the command's result."""
    assert isolated(work, outside, "kill_everything") == {"kill_everything": False}
    assert isolated(work, outside, "descriptors") == {"descriptors": False}


def test_sockets(work: Workspace, outside: dict[str, Any]) -> None:
    """No agent, display, bus, container engine, server or session is connected to, by path, by name or by port."""
    check_closed(work, outside, "unix_sockets", "abstract_socket", "local_port", "control_socket")
    assert isolated(work, outside, "hypervisor", network=True) == {"hypervisor": False}


def test_the_network_brings_names_and_ports_back(work: Workspace, outside: dict[str, Any]) -> None:
    """With `network`, servers of this machine and sockets without a file are reached; those in directories are not."""
    ways = ("unix_sockets", "abstract_socket", "local_port", "control_socket")
    assert isolated(work, outside, *ways, network=True) == dict(zip(ways, (False, True, True, False), strict=True))


@pytest.mark.parametrize("backend", ["overlay", "fuse", "checkout"])
def test_a_session_refuses_it_even_where_it_is_shown(
    vault: Vault, work: Workspace, outside: dict[str, Any], backend: str
) -> None:
    """A socket that is bound into the sandbox is no way either: the session asks the kernel who connects."""
    aside = Path(tempfile.mkdtemp(dir=vault.path.parents[2]))
    os.link(outside["control"], aside / "socket")
    vault.set_config("isolate.show", f"{sys.base_prefix}:{aside}")
    facts = {**outside, "control": str(aside / "socket"), "sockets": [str(aside / "socket")]}

    assert beside(facts, "control_socket") == {"control_socket": True}
    found = isolated(work, facts, "unix_sockets", "control_socket", backend=backend)
    assert found == {"unix_sockets": True, "control_socket": False}


def test_descriptors(work: Workspace, outside: dict[str, Any]) -> None:
    """What this process lets its children inherit does not come in."""
    fd = os.open(outside["secrets"][0], os.O_RDONLY)
    os.set_inheritable(fd, True)
    with closing_fd(fd):
        assert isolated(work, outside, "descriptors") == {"descriptors": False}


def test_kernel_interfaces(work: Workspace, outside: dict[str, Any]) -> None:
    """No ring, key, trace, namespace, mount, capability, host name, file handle or device of the machine."""
    ways = (
        "io_uring",
        "user_key",
        "traces",
        "user_namespace",
        "mounting",
        "privileges",
        "host_name",
        "file_handle",
        "devices",
    )
    check_closed(work, outside, "privileges", "user_namespace", "devices")
    assert isolated(work, outside, *ways) == dict.fromkeys(ways, False)


@pytest.mark.skipif(make_filter(os.uname().machine) is None, reason="the system calls of this machine are not known")
def test_refused_system_calls_look_like_a_kernel_without_them(work: Workspace) -> None:
    """Programs do without then; a child is made all the same."""
    code = (
        "import ctypes, os, subprocess, threading; libc = ctypes.CDLL(None, use_errno=True)\n"
        "print([(libc.syscall(n, 0, 0, 0, 0, 0), ctypes.get_errno()) for n in (425, 435)])\n"
        "threading.Thread(target=print, args=('thread',)).start(); subprocess.run(['echo', 'child'])"
    )
    result = work.exec(os.path.realpath(sys.executable), "-I", "-S", "-c", code, isolate=True)
    assert sorted(result.stdout.decode().split("\n")) == ["", "[(-1, 38), (-1, 38)]", "child", "thread"], result.stderr


def test_files_of_the_kernel(work: Workspace, outside: dict[str, Any]) -> None:
    """Neither the core pattern nor a control group or anything else of the kernel can be written to."""
    check_closed(
        work, outside, "kernel_files", open_beside=os.geteuid() == 0 and beside(outside, "kernel_files")["kernel_files"]
    )


def test_shared_memory(work: Workspace, outside: dict[str, Any]) -> None:
    """Memory that is shared by name or by number stays outside."""
    check_closed(work, outside, "shared_memory")


def test_the_terminal(work: Workspace, outside: dict[str, Any]) -> None:
    """A terminal as standard input cannot be typed into, nor taken over."""
    ours, theirs = pty.openpty()
    try:
        assert isolated(work, outside, "terminal", stdin=theirs) == {"terminal": False}
    finally:
        os.close(ours)
        os.close(theirs)


def test_git_reads_and_is_told_no_address(vault: Vault, work: Workspace) -> None:
    """History is there; servers with their passwords are not, and nothing can be planted for later."""
    subprocess.run(["git", "-C", vault.path, "config", "remote.o.url", "https://me:token@example.org/x"], check=True)
    shell = (
        "git log --oneline; git status --short; git config --list; touch $AVFS_VAULT/x; echo > $AVFS_VAULT/refs/heads/y"
    )
    result = work.exec(shell=shell, isolate=True)

    assert b"start" in result.stdout
    assert b"token" not in result.stdout
    assert not (vault.path / "x").exists()
    assert not (vault.path / "refs" / "heads" / "y").exists()


def test_what_bubblewrap_cannot_do_is_not_the_commands_failure(
    work: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is an error of its own.

    A command that says the same is taken at its word, and one that is not there is not found.
    """
    said = work.exec(shell="echo bwrap: nonsense >&2; exit 1", isolate=True)
    missing = work.exec("no-such-program", isolate=True)
    assert (said.exit_code, missing.exit_code) == (1, 127)

    (tmp_path / "bwrap").write_text("#!/bin/sh\necho 'bwrap: No permissions to create a new namespace' >&2; exit 1\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert shutil.which("bwrap") == str(tmp_path / "bwrap")
    with pytest.raises(IsolationUnavailable, match="No permissions"):
        work.exec("true", isolate=True)

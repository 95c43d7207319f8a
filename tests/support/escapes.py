"""Ways out of a sandbox, as a program: it tries those that it is told and prints what each got.

    python -I -S escapes.py WAY... < FACTS

FACTS is a JSON object of what there is outside; it is no argument, because a process inside is not to look like one
outside. Each way gives something that is true where it got out. It imports nothing but the standard library;
`tests/contract/test_isolation_escapes.py` runs it in and outside of a sandbox.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import platform
import signal
import socket
import stat
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
_libc.shmat.restype = ctypes.c_void_p
_X86 = platform.machine() == "x86_64"
_CALLS = {
    "add_key": 248 if _X86 else 217,
    "keyctl": 250 if _X86 else 219,
    "perf_event_open": 298 if _X86 else 241,
    "bpf": 321 if _X86 else 280,
    "userfaultfd": 323 if _X86 else 282,
    "clone": 56 if _X86 else 220,
    "io_uring_setup": 425,
}
_NEWUSER, _NEWNS = 0x10000000, 0x20000
_IPC_STAT, _PTRACE_ATTACH, _PTRACE_DETACH = 2, 16, 17
_KEYCTL_SEARCH, _USER_KEYRING = 10, -4
_PLACES = [
    "/proc/sys/kernel/core_pattern",
    "/proc/sys/kernel/modprobe",
    "/proc/sysrq-trigger",
    "/proc/sys/vm/drop_caches",
]
_PLACES += [
    "/sys/kernel/uevent_helper",
    "/sys/fs/cgroup/cgroup.procs",
    "/sys/fs/cgroup/release_agent",
    "/sys/power/state",
]


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def _others(facts: dict[str, Any], name: str) -> Iterator[str]:
    """Name a file of /proc of every process, and of the one outside by its number there."""
    for pid in {*_pids(), facts["pid"]}:
        yield f"/proc/{pid}/{name}"


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(1 << 20)


def _connects(*address: Any) -> bool:
    family = socket.AF_INET if isinstance(address[0], tuple) else socket.AF_UNIX
    with socket.socket(family) as made:
        made.settimeout(5)
        made.connect(address[0])
        return True


# --- files ---


def read_secret(facts: dict[str, Any]) -> bool:
    """Read a file in the home, in a temporary directory, of another fork, of another vault, of avfs, of the machine."""
    for path in facts["secrets"]:
        with suppress(OSError):
            if os.listdir(path) if os.path.isdir(path) else _read(path):
                return True
    return False


def write_outside(facts: dict[str, Any]) -> bool:
    """Make a file in each directory; in one that is only in the sandbox, as its `/tmp`, this is no way out."""
    made = []
    for directory in facts["directories"]:
        with suppress(OSError):
            os.close(os.open(f"{directory}/{facts['escaped']}", os.O_WRONLY | os.O_CREAT, 0o600))
            made.append(directory)
    return bool(made)


# --- processes ---


def proc_root(facts: dict[str, Any]) -> bool:
    """Reach the outside's files through the root or the directory of a process."""
    found = []
    for name in ("root", "cwd"):
        for path in _others(facts, name):
            with suppress(OSError):
                found += [entry for entry in os.listdir(path) if entry == facts["canary"]]
                found += [path] if os.path.exists(f"{path}{facts['secrets'][0]}") else []
    return bool(found)


def proc_environ(facts: dict[str, Any]) -> bool:
    """Read variables or memory of a process outside."""
    found = []
    for path in _others(facts, "environ"):
        with suppress(OSError):
            found += [path] if facts["canary"].encode() in _read(path) else []
    return bool(found)


def proc_fd(facts: dict[str, Any]) -> bool:
    """Open a file that a process outside has open."""
    for path in (f"{directory}/{name}" for directory in _others(facts, "fd") for name in _list(directory)):
        with suppress(OSError):
            if facts["canary"] in os.readlink(path):
                os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
                return True
    return False


def _list(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def ptrace(facts: dict[str, Any]) -> bool:
    """Attach to the process outside."""
    if _libc.ptrace(_PTRACE_ATTACH, facts["pid"], 0, 0):
        return False
    os.waitpid(facts["pid"], 0x40000000)
    _libc.ptrace(_PTRACE_DETACH, facts["pid"], 0, 0)
    return True


def read_memory(facts: dict[str, Any]) -> bool:
    """Open the memory of the process outside."""
    os.close(os.open(f"/proc/{facts['pid']}/mem", os.O_RDWR))
    return True


def send_signal(facts: dict[str, Any]) -> bool:
    """Send a signal to the process outside; it says so if it comes."""
    os.kill(facts["pid"], signal.SIGUSR1)
    return True


def see_process(facts: dict[str, Any]) -> bool:
    """Find the process outside in the list of all."""
    for pid in _pids():
        with suppress(OSError):
            if facts["canary"].encode() in _read(f"/proc/{pid}/cmdline"):
                return True
    return False


def kill_everything(_: dict[str, Any]) -> bool:
    """Send SIGKILL to all that there is but this; the test looks whether anything outside died."""
    os.kill(-1, signal.SIGKILL)
    return False


# --- sockets ---


def unix_sockets(facts: dict[str, Any]) -> bool:
    """Connect to a socket of an agent by its path: true for any of them."""
    for path in facts["sockets"]:
        with suppress(OSError):
            return _connects(path)
    return False


def abstract_socket(facts: dict[str, Any]) -> bool:
    """Connect to a socket without a file."""
    return _connects(f"\0{facts['abstract']}")


def local_port(facts: dict[str, Any]) -> bool:
    """Connect to a server on this machine."""
    return _connects(("127.0.0.1", facts["port"]))


def control_socket(facts: dict[str, Any]) -> bool:
    """Ask the session of another fork for something."""
    path, link = facts["control"], os.open(os.path.dirname(facts["control"]), os.O_PATH)
    with socket.socket(socket.AF_UNIX) as made:
        made.settimeout(5)
        made.connect(f"/proc/self/fd/{link}/{os.path.basename(path)}")
        made.sendall(b'{"v":1,"id":1,"op":"hello","args":{"umask":18}}\n')
        return b'"ok":true' in made.recv(65536).replace(b" ", b"")


def hypervisor(_: dict[str, Any]) -> bool:
    """Make a socket to the machine below this one, which no network namespace keeps apart."""
    with socket.socket(40, socket.SOCK_STREAM):  # AF_VSOCK
        return True


def descriptors(_: dict[str, Any]) -> bool:
    """Have a descriptor that nobody meant to hand over."""
    found = []
    for fd in range(3, 1024):
        with suppress(OSError):
            found.append(os.fstat(fd))
    return bool(found)


# --- the kernel ---


def _call(name: str, *arguments: Any) -> int:
    ctypes.set_errno(0)
    done = int(_libc.syscall(_CALLS[name], *arguments))
    if done < 0:
        raise OSError(ctypes.get_errno(), name)
    return done


def io_uring(_: dict[str, Any]) -> bool:
    """Make a ring, whose work no filter of system calls sees."""
    return _call("io_uring_setup", 1, ctypes.create_string_buffer(256)) >= 0


def user_key(facts: dict[str, Any]) -> bool:
    """Read a key of the user's keyring."""
    return _call("keyctl", _KEYCTL_SEARCH, _USER_KEYRING, b"user", facts["canary"].encode(), 0) > 0


def traces(_: dict[str, Any]) -> bool:
    """Have the kernel trace, or run a program of ours."""
    refused = []
    calls: tuple[tuple[Any, ...], ...] = (("bpf", 0, ctypes.create_string_buffer(128), 128), ("userfaultfd", 1))
    for name, *arguments in (*calls, ("perf_event_open", ctypes.create_string_buffer(128), 0, -1, -1, 0)):
        try:
            _call(name, *arguments)
        except OSError as error:
            refused += [name] if error.errno in (errno.ENOSYS, errno.EPERM) else []
    return len(refused) < 3


def user_namespace(_: dict[str, Any]) -> bool:
    """Become root of a user namespace, by unshare(2) or clone(2)."""
    child = os.fork()
    if not child:
        os._exit(0 if _libc.unshare(_NEWUSER) == 0 else 1)
    by_unshare = os.waitpid(child, 0)[1] == 0
    try:
        made = _call("clone", _NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)
    except OSError:
        return by_unshare
    if not made:
        os._exit(0)
    os.waitpid(made, 0)
    return True


def mounting(_: dict[str, Any]) -> bool:
    """Mount something, take a mount away, or make one writable."""
    _libc.unshare(_NEWNS)
    done = [_libc.umount2(path, 2) == 0 for path in (b"/proc", b"/tmp", b"/usr", b"/dev")]
    done += [_libc.mount(b"none", b"/", None, 4096 | 32, None) == 0, _libc.mount(b"x", b"/tmp", b"tmpfs", 0, None) == 0]
    return any(done)


def privileges(_: dict[str, Any]) -> bool:
    """Have capabilities, or get them from a set-id program."""
    lines = _read("/proc/self/status").decode().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    return status["NoNewPrivs"] != "1" or any(
        int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapAmb")
    )


def file_handle(facts: dict[str, Any]) -> bool:
    """Open a file by its number, past every path."""
    handle = ctypes.create_string_buffer(struct.pack("=Ii", 8, 1) + struct.pack("=II", facts["ino"], 0), 136)
    directory = os.open(".", os.O_RDONLY)
    return int(_libc.open_by_handle_at(directory, handle, os.O_RDONLY)) >= 0


def devices(_: dict[str, Any]) -> bool:
    """Open a device of the machine, or make one."""
    harmless = {"null", "zero", "full", "random", "urandom", "tty", "ptmx"}
    found = []
    for name in os.listdir("/dev"):
        mode = os.lstat(f"/dev/{name}").st_mode
        found += [name] if (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)) and name not in harmless else []
    for directory in ("/tmp", "/dev", "."):
        place = f"{directory}/kmsg-{os.getpid()}"
        with suppress(OSError):
            os.mknod(place, 0o600 | stat.S_IFCHR, os.makedev(1, 11))
            found.append(directory)
            os.unlink(place)
    return bool(found)


def kernel_files(_: dict[str, Any]) -> bool:
    """Open for writing what configures the kernel. Writes nothing."""
    found = []
    for path in _PLACES:
        with suppress(OSError):
            os.close(os.open(path, os.O_WRONLY))
            found.append(path)
    return bool(found)


def shared_memory(facts: dict[str, Any]) -> bool:
    """Attach to memory that somebody outside shares."""
    found = [_libc.shmget(facts["shm"], 0, 0) >= 0, os.path.exists(f"/dev/shm/{facts['canary']}")]
    return any(found)


def terminal(_: dict[str, Any]) -> bool:
    """Type into the terminal that is standard input, or take it over."""
    done = []
    for request, argument in ((0x540E, 1), (0x5412, b"!")):  # TIOCSCTTY, TIOCSTI
        with suppress(OSError):
            fcntl.ioctl(0, request, argument)
            done.append(request)
    with suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDWR))
        done.append(0)
    return bool(done)


def host_name(_: dict[str, Any]) -> bool:
    """Rename the machine."""
    name = socket.gethostname()
    return bool(_libc.sethostname(name.encode(), len(name)) == 0)


def main(facts: dict[str, Any], ways: list[str]) -> None:
    """Try each way."""
    found = {}
    for name in ways:
        way: Callable[[dict[str, Any]], bool] = globals()[name]
        try:
            found[name] = bool(way(facts))
        except OSError:
            found[name] = False
    print(json.dumps(found))


if __name__ == "__main__":
    main({} if os.isatty(0) else json.load(sys.stdin), sys.argv[1:])

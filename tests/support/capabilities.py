"""What this machine can do, found out by trying.

Decided here: the capabilities that tests ask for with `needs("fuse")`, how each is probed, and which of them a
machine of a given kind must have, so that CI fails instead of skipping for ever. What a machine can do for the ordinary
user that some tests run as (`tests.support.ordinary`) is probed as that user.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from avfs_git.host.files.closing import closing_fd

NOBODY = 65534
"""Another user than the one who runs the tests."""

_CAP_SYS_ADMIN = 21  # linux/capability.h
_CAP_MKNOD = 27
_MNT_DETACH = 2  # linux/fs.h
_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def _scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="avfs-probe-") as name:
        yield Path(name)


def mount(source: str, target: Path, kind: str, options: str = "", flags: int = 0) -> bool:
    """Ask the kernel for a mount; say whether it was made."""
    return bool(_libc.mount(source.encode(), os.fsencode(target), kind.encode(), flags, options.encode()) == 0)


def unmount(target: Path) -> bool:
    """Take a mount out of the way, whoever still uses it."""
    if os.geteuid() != 0:
        return _run("fusermount3", "-u", "-z", "--", str(target))
    return bool(_libc.umount2(os.fsencode(target), _MNT_DETACH) == 0)


def find_tool(name: str) -> str | None:
    """Find a program, also where Debian keeps those for root."""
    return shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin")


def _run(*argv: str) -> bool:
    try:
        return subprocess.run(argv, check=False, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0
    except OSError:
        return False


def _has_kernel_capability(number: int) -> bool:
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return False
    effective = next((line.split()[1] for line in status.splitlines() if line.startswith("CapEff:")), "0")
    return bool(int(effective, 16) >> number & 1)


# --- probes ------------------------------------------------------------------------------------------


def _root() -> bool:
    return os.geteuid() == 0


def _ordinary_user() -> bool:
    """Whether there is one who can use the interpreter and this project."""
    return os.geteuid() != 0 or bool(of_ordinary_user())


def _user_xattrs() -> bool:
    with _scratch() as scratch:
        try:
            os.setxattr(scratch, "user.avfs.probe", b"1")
        except OSError:
            return False
    return True


def _whiteout() -> bool:
    with _scratch() as scratch:
        try:
            os.mknod(scratch / "whiteout", stat.S_IFCHR, os.makedev(0, 0))
        except OSError:
            return False
    return True


def _fuse() -> bool:
    if os.geteuid() != 0:
        return _fuse_by_helper()
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        return False
    with closing_fd(device), _scratch() as scratch:
        made = mount("avfs-probe", scratch, "fuse", f"fd={device},rootmode=40000,user_id=0,group_id=0")
        return made and unmount(scratch)


def _fuse_by_helper() -> bool:
    """Whether an ordinary user may mount: through the set-uid helper, which opens the device as that user."""
    ours, theirs = socket.socketpair()
    with ours, theirs, _scratch() as scratch:
        try:
            done = subprocess.run(
                ["fusermount3", "--", str(scratch)],
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                pass_fds=[theirs.fileno()],
                env={**os.environ, "_FUSE_COMMFD": str(theirs.fileno())},
            )
        except OSError:
            return False
        return done.returncode == 0 and unmount(scratch)


def _user_mounts() -> bool:
    return has("fuse") if os.geteuid() != 0 else of_ordinary_user().get("fuse", False)


def _overlayfs() -> bool:
    with _scratch() as scratch:
        for name in ("lower", "upper", "work", "merged"):
            (scratch / name).mkdir()
        layers = f"lowerdir={scratch}/lower,upperdir={scratch}/upper,workdir={scratch}/work,userxattr"
        if os.geteuid() != 0:  # in a namespace, where one may
            argv = ("mount", "-t", "overlay", "-o", layers, "avfs-probe", str(scratch / "merged"))
            return _run("unshare", "--user", "--map-root-user", "--mount", *argv)
        made = mount("overlay", scratch / "merged", "overlay", layers)
        return made and unmount(scratch / "merged")


def _libfuse() -> bool:
    return _run(sys.executable, "-c", "import mfusepy")


def _userns() -> bool:
    return _run("unshare", "--user", "--map-root-user", "--mount", "true")


def _loop(maker: str, kind: str, size: int) -> bool:
    program = find_tool(maker)
    if program is None or os.geteuid() != 0:
        return False
    with _scratch() as scratch:
        image, point = scratch / "image", scratch / "point"
        point.mkdir()
        with image.open("wb") as file:
            file.truncate(size)
        if not _run(program, "-q", str(image)) or not _run("mount", "-t", kind, "-o", "loop", str(image), str(point)):
            return False
        return _run("umount", str(point))


def _git() -> bool:
    return _run("git", "--version")


def _sshd() -> bool:
    return find_tool("sshd") is not None and find_tool("ssh") is not None and find_tool("ssh-keygen") is not None


def _strace() -> bool:
    return _run("strace", "-o", os.devnull, "true")


def _compiler() -> bool:
    with _scratch() as scratch:
        (scratch / "a.c").write_text('#include <stdio.h>\nint main(void) { return puts("") < 0; }\n', encoding="ascii")
        return _run("make", "--version") and _run("gcc", "-o", str(scratch / "a"), str(scratch / "a.c"))


def find_node() -> Path | None:
    """Find the directory of a Node for the Model Context Protocol suites: beside the interpreter, or on the path."""
    for program in (Path(sys.executable).with_name("node"), Path(find_tool("node") or "/nowhere")):
        if _run(str(program), "-e", "process.exit(Number(process.versions.node.split('.')[0] < 22))"):
            return program.parent
    return None


def find_harnesses() -> Path | None:
    """Find the directory of the coding agents that `make harnesses` installs."""
    place = Path(sys.prefix + "-harnesses") / "node_modules" / ".bin"
    return place if place.is_dir() else None


def _vim() -> bool:
    return any(_run(name, "-u", "NONE", "--not-a-term", "-es", "-c", "q!") for name in ("vim", "vim.tiny"))


# --- which of them a machine must have -----------------------------------------------------------------


def _kernel_knows(kind: str) -> bool:
    try:
        lines = Path("/proc/filesystems").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    return kind in [line.split()[-1] for line in lines]


def _is_admin() -> bool:
    return os.geteuid() == 0 and _has_kernel_capability(_CAP_SYS_ADMIN)


def _is_machines_root() -> bool:
    """Whether this is root of the whole machine, not of a namespace: devices can be made and opened."""
    try:
        first = Path("/proc/self/uid_map").read_text(encoding="ascii").split()
    except OSError:
        return False
    return _is_admin() and _has_kernel_capability(_CAP_MKNOD) and first == ["0", "0", "4294967295"]


def _expect_loop() -> bool:
    return _is_admin() and Path("/dev/loop-control").exists()


_PROBES: dict[str, tuple[Callable[[], bool], Callable[[], bool]]] = {
    # name: (probe, whether a machine of this kind must have it)
    "root": (_root, lambda: os.geteuid() == 0),
    "ordinary-user": (_ordinary_user, lambda: os.geteuid() != 0 or _is_machines_root()),
    "git": (_git, lambda: True),
    "user-xattrs": (_user_xattrs, _is_admin),
    "whiteout": (_whiteout, lambda: os.geteuid() == 0 and _has_kernel_capability(_CAP_MKNOD)),
    "fuse": (_fuse, lambda: _is_admin() and Path("/dev/fuse").exists()),
    "user-mounts": (_user_mounts, lambda: _is_machines_root() and Path("/dev/fuse").exists()),
    "libfuse": (_libfuse, lambda: False),  # a C library that only the portable adapter loads
    "overlayfs": (_overlayfs, lambda: _is_admin() and _kernel_knows("overlay")),
    "userns": (_userns, _is_admin),
    "loop": (lambda: _loop("mkfs.ext4", "ext4", 8 << 20), _expect_loop),
    "xfs": (lambda: _loop("mkfs.xfs", "xfs", 320 << 20), lambda: _expect_loop() and _kernel_knows("xfs")),
    "lupa": (lambda: find_spec("lupa") is not None, lambda: False),
    "wasmtime": (lambda: find_spec("wasmtime") is not None, lambda: False),
    "bubblewrap": (lambda: _run("bwrap", "--ro-bind", "/", "/", "true"), _is_admin),
    "strace": (_strace, _is_admin),
    "compiler": (_compiler, _is_admin),
    "rsync": (lambda: _run("rsync", "--version"), _is_admin),
    "vim": (_vim, _is_admin),
    "venv": (lambda: _run(sys.executable, "-c", "import ensurepip, venv"), lambda: True),
    "npm": (lambda: _run("npm", "--version"), lambda: False),  # Debian's npm is 300 packages
    "node": (lambda: find_node() is not None, lambda: False),  # PyPI has it for the usual machines
    "harnesses": (lambda: find_harnesses() is not None and find_node() is not None, lambda: False),  # 1.2 GB
    "cargo": (lambda: _run("cargo", "--version"), lambda: False),  # the cargo-like build stands for it
    "sshd": (_sshd, _is_admin),
}

NAMES = tuple(_PROBES)
_ONLY_ROOTS = frozenset({"root", "loop", "xfs"})
_GRANTED = frozenset({"userns", "overlayfs", "bubblewrap"})
"""What an ordinary user has where the administrator lets users have namespaces."""

_known: dict[str, bool] = {}


def has(name: str) -> bool:
    """Say whether this machine has a capability; tried once a process."""
    if name not in _known:
        _known[name] = _PROBES[name][0]()
    return _known[name]


def know(known: dict[str, bool]) -> None:
    """Take over what was found out for the user that this process has become."""
    _known.clear()
    _known.update(known)


@functools.cache
def of_ordinary_user() -> dict[str, bool]:
    """Say what the ordinary user has, where root runs the tests; nothing where there can be none.

    Tried once a process.
    """
    from tests.support import ordinary

    def probe() -> bytes:
        know({})
        if not _run(sys.executable, "-c", "import avfs_git.sdk, tests.support.capabilities"):
            raise SystemExit(3)
        return json.dumps({name: has(name) for name in NAMES}).encode()

    try:
        found: dict[str, bool] = json.loads(ordinary.call(probe))
    except ordinary.Killed:
        return {}
    return found


def _users_may_have_namespaces() -> bool:
    def setting(name: str, default: int) -> int:
        try:
            return int(Path("/proc/sys", name).read_text(encoding="ascii"))
        except OSError:
            return default

    return (
        setting("user/max_user_namespaces", 0) > 0
        and setting("kernel/unprivileged_userns_clone", 1) == 1
        and setting("kernel/apparmor_restrict_unprivileged_userns", 0) == 0
    )


def missing_but_expected() -> list[str]:
    """List what is off although a machine of this kind must have it, for its ordinary user as well."""
    missing = [name for name, (_, expected) in _PROBES.items() if expected() and not has(name)]
    if _is_machines_root():
        found = of_ordinary_user()
        granted = frozenset() if _users_may_have_namespaces() else _GRANTED
        wanted = [name for name, (_, expected) in _PROBES.items() if expected() and name not in _ONLY_ROOTS | granted]
        missing += [f"{name} for an ordinary user" for name in wanted if not found.get(name)]
    return missing


def _list(found: dict[str, bool]) -> str:
    on = [name for name, is_on in found.items() if is_on]
    off = [name for name, is_on in found.items() if not is_on]
    return f"on: {', '.join(on) or 'nothing'}; off: {', '.join(off) or 'nothing'}"


def report() -> list[str]:
    """Say what is on and what is off."""
    lines = [f"capabilities {_list({name: has(name) for name in NAMES})}"]
    if os.geteuid() == 0:
        lines.append(f"of an ordinary user {_list(of_ordinary_user() or dict.fromkeys(NAMES, False))}")
    return lines

"""What this machine can do, found out by trying.

Decided here: the capabilities that tests ask for with `needs("fuse")`, how each is probed, and which of them a
machine of a given kind must have, so that CI fails instead of skipping for ever.
"""

from __future__ import annotations

import ctypes
import functools
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534
"""The ordinary user that tests run as when they are started by root."""

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
    if os.geteuid() != 0:
        return True
    return _run(
        sys.executable, "-c", f"import os; os.setgroups([]); os.setresgid(*[{NOBODY}] * 3); os.setresuid(*[{NOBODY}] * 3)"
    )


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
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        return False
    try:
        if os.geteuid() != 0:
            return find_tool("fusermount3") is not None
        with _scratch() as scratch:
            made = mount("avfs-probe", scratch, "fuse", f"fd={device},rootmode=40000,user_id=0,group_id=0")
            return made and unmount(scratch)
    finally:
        os.close(device)


def _user_mounts() -> bool:
    """Whether an ordinary user may mount: through the helper, which opens the device as that user."""
    helper = find_tool("fusermount3")
    if helper is None or not Path("/dev/fuse").exists():
        return False
    if os.geteuid() != 0:
        return os.access("/dev/fuse", os.R_OK | os.W_OK)
    return bool(Path(helper).stat().st_mode & stat.S_ISUID) and Path("/dev/fuse").stat().st_mode & 0o006 == 0o006


def _overlayfs() -> bool:
    with _scratch() as scratch:
        for name in ("lower", "upper", "work", "merged"):
            (scratch / name).mkdir()
        layers = f"lowerdir={scratch}/lower,upperdir={scratch}/upper,workdir={scratch}/work,userxattr"
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


def _expect_loop() -> bool:
    return _is_admin() and Path("/dev/loop-control").exists()


_PROBES: dict[str, tuple[Callable[[], bool], Callable[[], bool]]] = {
    # name: (probe, whether a machine of this kind must have it)
    "root": (_root, lambda: os.geteuid() == 0),
    "ordinary-user": (_ordinary_user, lambda: True),
    "git": (_git, lambda: True),
    "user-xattrs": (_user_xattrs, _is_admin),
    "whiteout": (_whiteout, lambda: os.geteuid() == 0 and _has_kernel_capability(_CAP_MKNOD)),
    "fuse": (_fuse, lambda: _is_admin() and Path("/dev/fuse").exists()),
    "user-mounts": (_user_mounts, lambda: False),  # whether users may is the administrator's to say
    "libfuse": (_libfuse, lambda: False),  # a C library that only the portable adapter loads
    "overlayfs": (_overlayfs, lambda: _is_admin() and _kernel_knows("overlay")),
    "userns": (_userns, _is_admin),
    "loop": (lambda: _loop("mkfs.ext4", "ext4", 8 << 20), _expect_loop),
    "xfs": (lambda: _loop("mkfs.xfs", "xfs", 320 << 20), lambda: _expect_loop() and _kernel_knows("xfs")),
    "bubblewrap": (lambda: _run("bwrap", "--ro-bind", "/", "/", "true"), _is_admin),
    "strace": (_strace, _is_admin),
    "compiler": (_compiler, _is_admin),
    "rsync": (lambda: _run("rsync", "--version"), _is_admin),
    "vim": (_vim, _is_admin),
    "venv": (lambda: _run(sys.executable, "-c", "import ensurepip, venv"), lambda: True),
    "npm": (lambda: _run("npm", "--version"), lambda: False),  # Debian's npm is 300 packages
    "cargo": (lambda: _run("cargo", "--version"), lambda: False),  # the cargo-like build stands for it
    "sshd": (_sshd, _is_admin),
}

NAMES = tuple(_PROBES)


@functools.cache
def has(name: str) -> bool:
    """Say whether this machine has a capability; tried once a process."""
    return _PROBES[name][0]()


def missing_but_expected() -> list[str]:
    """List what is off although a machine of this kind must have it."""
    return [name for name, (_, expected) in _PROBES.items() if expected() and not has(name)]


def report() -> str:
    """Say in one line what is on and what is off."""
    on = [name for name in NAMES if has(name)]
    off = [name for name in NAMES if not has(name)]
    return f"on: {', '.join(on) or 'nothing'}; off: {', '.join(off) or 'nothing'}"

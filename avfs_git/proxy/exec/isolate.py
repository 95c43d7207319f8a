"""Isolation, asked for by name: a command under bubblewrap that sees only its workspace and the machine's programs.

Decided here: what an isolated command can see and reach. This is a boundary, unlike the policy; docs/design/security.md
names what it holds against, with the test for each.

- Files: the root is an empty tmpfs into which the places of `_SYSTEM`, `_ETC`, `_TOOLS` and of the setting
  `isolate.show` are bound read-only, and the workspace writable. So homes, `/run`, other workspaces and vaults, and
  sockets in them, are not there.
- The vault: what git needs to read history, read-only, with a configuration without remotes. avfs's own directory is
  not there.
- Processes: namespaces of their own for PIDs, users, IPC, host name, control groups and, unless it is asked for, the
  network; no capabilities, no new privileges, no terminal but one of its own, no descriptors but 0 to 2, and the system
  calls of `syscalls` refused.

Bubblewrap says on a descriptor whether it came as far as to execute the command, so that its own failure is not taken
for the command's.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from avfs_git.errors import IsolationUnavailable
from avfs_git.gitstore.config.gitconfig import quote_value, read_config
from avfs_git.proxy.exec.given import make_memory_file
from avfs_git.proxy.exec.run import NOT_EXECUTABLE, NOT_FOUND
from avfs_git.proxy.exec.syscalls import make_filter
from avfs_git.workspace.vault.format import VaultLayout

_SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/opt", "/nix/store", "/gnu/store"),
    *("/sys/devices/system/cpu", "/sys/devices/system/node"),
)
_ETC = """
    alternatives bash.bashrc ca-certificates ca-certificates.conf crypto-policies debian_version environment fonts
    gai.conf group host.conf hostname hosts inputrc java ld.so.cache ld.so.conf ld.so.conf.d locale.alias locale.conf
    locale.gen localtime lsb-release magic mime.types networks nsswitch.conf openssl os-release passwd perl pki/ca-trust
    pki/tls/certs profile profile.d protocols resolv.conf services shells ssl/certs ssl/openssl.cnf terminfo timezone
""".split()  # noqa: SIM905 - reads best as one text
_TOOLS = (
    ".cargo/bin",
    ".rustup",
    ".nvm",
    ".local/bin",
    ".local/lib",
    ".pyenv",
    ".asdf",
    ".bun/bin",
    ".deno/bin",
    "go/bin",
)
_RESOLVERS = ("/run/systemd/resolve", "/run/resolvconf")
_OF_GIT = ("HEAD", "objects", "refs", "packed-refs", "shallow", "info/grafts")
_CONFIG = frozenset(
    "core." + name
    for name in (
        "repositoryformatversion",
        "filemode",
        "bare",
        "symlinks",
        "ignorecase",
        "precomposeunicode",
        "autocrlf",
        "eol",
    )
) | {"core.checkstat", "core.quotepath", "extensions.objectformat", "extensions.refstorage", "extensions.partialclone"}
"""What an isolated git is told of the vault's configuration: the rest may name servers with passwords, and programs."""
_FIRST_HANDLE = 3


class Sandbox:
    """One command under bubblewrap. Close it when the command has ended.

    Attributes:
        argv: What to run.
        handles: Open files that it gets as descriptors 3 and up; bubblewrap keeps them from the command.
    """

    def __init__(
        self,
        argv: Sequence[bytes],
        *,
        root: Path,
        cwd: Path,
        vault: VaultLayout,
        worktree: Path,
        home: Path,
        hide: Sequence[Path],
        network: bool,
        show: Sequence[str],
        has_terminal: bool,
    ) -> None:
        """Wrap a command.

        `hide` are directories that stay hidden inside a shown one; `show` are further places to show, read-only. With
        `has_terminal`, the command makes its standard input the terminal of a session of its own: Ctrl-C spares
        bubblewrap.

        Raises:
            IsolationUnavailable: If bubblewrap is not installed.
            AvfsError: If the vault's configuration cannot be read.
        """
        program = shutil.which("bwrap")
        if program is None:
            raise IsolationUnavailable(
                "bubblewrap is not installed", hint="Install it, on Debian with `apt install bubblewrap`."
            )
        if has_terminal:
            if shutil.which("setsid") is None:
                raise IsolationUnavailable(
                    "setsid is not installed", hint="Install util-linux, or leave out the terminal."
                )
            argv = (b"setsid", b"--ctty", *argv)
        self.handles: list[int] = []
        try:
            options = [
                program,
                "--die-with-parent",
                "--new-session",
                "--unshare-user-try",
                "--unshare-pid",
                "--unshare-ipc",
            ]
            options += ["--unshare-uts", "--unshare-cgroup-try", "--cap-drop", "ALL"]
            if not network:
                options += ["--unshare-net"]
            self._status = self._add(b"")
            options += ["--json-status-fd", str(_FIRST_HANDLE)]
            refused = make_filter(os.uname().machine)
            if refused is not None:
                options += ["--seccomp", self._data(refused)]
            options += _show_system(home, (*_RESOLVERS, *show) if network else show)
            for place in hide:
                options += ["--tmpfs", os.fspath(place)]
            options += self._show_vault(vault, worktree)
            options += ["--bind", os.fspath(root), os.fspath(root)]
            # What is written there would be gone after the command: better that it fails.
            for place in (*hide, Path("/"), Path("/proc")):
                options += ["--remount-ro", os.fspath(place)]
            options += ["--chdir", os.fspath(cwd), "--"]
            self.argv = (*map(os.fsencode, options), *argv)
        except BaseException:
            self.close()
            raise

    def _add(self, data: bytes) -> int:
        self.handles.append(make_memory_file("avfs-isolate", data))
        return self.handles[-1]

    def _data(self, data: bytes) -> str:
        """Hand over bytes; give the number of the descriptor, as bubblewrap has it."""
        self._add(data)
        return str(_FIRST_HANDLE + len(self.handles) - 1)

    def _show_vault(self, vault: VaultLayout, worktree: Path) -> Iterator[str]:
        git_dir = os.fspath(vault.git_dir)
        yield from ("--tmpfs", git_dir)
        for name in _OF_GIT:
            yield from ("--ro-bind-try", f"{git_dir}/{name}", f"{git_dir}/{name}")
        yield from ("--ro-bind-data", self._data(_config_of(vault.git_dir)), f"{git_dir}/config")
        for place in map(os.fspath, (worktree, vault.module_objects)):
            yield from ("--ro-bind-try", place, place)
        yield from ("--remount-ro", git_dir)

    def explain(self, stderr: bytes) -> tuple[int, str] | None:
        """Tell why a command that ended with status 1 was not executed, and the status to give it; None if it was.

        Raises:
            IsolationUnavailable: If bubblewrap could not make the sandbox.
        """
        if b'"exit-code"' in os.pread(self._status, 4096, 0):
            return None
        said = stderr.decode("utf-8", "replace").strip().removeprefix("bwrap: ")
        if not said.startswith("execvp "):
            raise IsolationUnavailable(f"bubblewrap failed: {said or 'without a word'}")
        name, _, reason = said.removeprefix("execvp ").rpartition(": ")
        status = NOT_FOUND if reason in (os.strerror(2), os.strerror(20)) else NOT_EXECUTABLE
        return status, f"cannot execute '{name}': {reason}"

    def close(self) -> None:
        """Close what was handed over. A second call does nothing."""
        while self.handles:
            os.close(self.handles.pop())


def _show_system(home: Path, show: Sequence[str]) -> Iterator[str]:
    for place in (*_SYSTEM, *(f"/etc/{name}" for name in _ETC)):
        if Path(place).is_symlink() and not place.startswith("/etc/"):
            yield from ("--symlink", os.fspath(Path(place).readlink()), place)
        else:  # a link in /etc may lead to what is not shown otherwise: its content is
            yield from ("--ro-bind-try", os.path.realpath(place), place)
    yield from ("--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/var/tmp", "--dir", "/run")  # noqa: S108
    if home != Path("/"):
        yield from ("--tmpfs", os.fspath(home))
    for place in (*(f"{home}/{tool}" for tool in _TOOLS), *show):
        yield from ("--ro-bind-try", place, place)


def _config_of(git_dir: Path) -> bytes:
    lines = []
    for key, values in read_config(git_dir).items():
        section, _, name = key.partition(".")
        if key in _CONFIG:
            lines += [
                f"[{section}]\n\t{name} = ".encode() + quote_value(os.fsencode(value)) + b"\n" for value in values
            ]
    return b"".join(lines)

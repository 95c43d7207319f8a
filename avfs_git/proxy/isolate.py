"""Isolation, asked for by name: a command under bubblewrap, with the machine read-only, without secrets and without network.

Decided here: what a command can still see and reach. The file system is read-only but for the workspace and a `/tmp` of its own;
home directories and `/run`, with their keys, tokens and sockets, are empty, but for the usual places of installed tools; of the
environment only what programs need to find their files is left. There is no network unless it is asked for, and no capability.
The vault is readable, so that git can look at history; what git writes there, such as commits, fails. Pure functions, but for a
look at which places there are.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from avfs_git.errors import IsolationUnavailable

_TOOLS = (".cargo/bin", ".rustup", ".nvm", ".local/bin", ".local/lib", ".pyenv", ".asdf", ".bun/bin", ".deno/bin", "go/bin")
_RESOLVERS = ("/run/systemd/resolve", "/run/resolvconf")


def isolated(argv: Sequence[bytes], *, root: Path, cwd: Path, vault: Path, home: Path, network: bool) -> tuple[bytes, ...]:
    """Wrap a command.

    Args:
        argv: The program and its arguments.
        root: The workspace, as the command sees it.
        cwd: Its directory.
        vault: The vault's repository.
        home: The home directory of the user.
        network: Leave it the network.

    Raises:
        IsolationUnavailable: If bubblewrap is not installed.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise IsolationUnavailable("bubblewrap is not installed", hint="Install it, on Debian with `apt install bubblewrap`.")
    options = [program, "--die-with-parent", "--unshare-ipc", "--unshare-uts", "--cap-drop", "ALL", "--ro-bind", "/", "/"]
    options += ["--dev", "/dev", "--proc", "/proc"]
    hidden = {"/tmp", "/var/tmp", "/run", "/home", "/root", os.fspath(home)}  # noqa: S108 - hidden, not written to
    for place in map(Path, sorted(hidden - {"/"})):
        if place.is_dir() and not place.is_symlink():
            options += ["--tmpfs", os.fspath(place)]
    for tool in _TOOLS:
        options += ["--ro-bind-try", f"{home}/{tool}", f"{home}/{tool}"]
    if network:
        for resolver in _RESOLVERS:
            options += ["--ro-bind-try", resolver, resolver]
    else:
        options += ["--unshare-net"]
    options += ["--ro-bind", os.fspath(vault), os.fspath(vault), "--bind", os.fspath(root), os.fspath(root)]
    options += ["--chdir", os.fspath(cwd), "--"]
    return (*map(os.fsencode, options), *argv)

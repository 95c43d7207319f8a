"""What a command is made of: the request that the policy decides about, its arguments, what it reads.

Decided here: which options of a command are part of its request, and so of an approval's fingerprint and of the audit
log; and how its standard input is opened. `execute` calls it. Keeps nothing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

from avfs_git.errors import InvalidInput
from avfs_git.host.files.durable import host_errors, write_all
from avfs_git.paths import encode_given, show_path
from avfs_git.proxy.exec.envelope import Command
from avfs_git.proxy.policy.decision import Request

_DEFAULTS = Command()
_ITSELF = ("argv", "shell", "cwd", "env", "let_in", "stdin", "approve")
_OPTIONS = tuple(name for name in Command.__match_args__ if name not in _ITSELF)
"""What decides how a command is run beside its text: an approval is for these, too, and the audit log has them."""
_FD_MAX = 2**31 - 1
_STDIN_MAX = 16 << 20
"""So many bytes can a command read that needs an approval."""


def make_request(command: Command, *, vault: Path, fork: str, root: Path) -> Request:
    """Spell what the policy decides about.

    Raises:
        InvalidInput: If it is no command that can be run.
    """
    if (command.argv is None) == (command.shell is None) or command.argv == ():
        raise InvalidInput("a command is needed, either as arguments or as a text for the shell")
    for text in (*(command.argv or ()), encode_given(command.shell or "")):
        if b"\0" in text:
            raise InvalidInput("a command cannot hold a NUL byte")
    for name, value in command.env:
        if not name or "=" in name or b"\0" in encode_given(name + value):
            raise InvalidInput("the name of an environment variable may not be empty or hold `=` or a NUL byte")
    limits = ((command.max_output, "limit of the output"), (command.max_output_file, "limit of the output's file"))
    for number, what in ((command.timeout_ms, "time limit"), *((most + 1, what) for most, what in limits)):
        if number is not None and number <= 0:
            raise InvalidInput(f"the {what} must be a positive number")
    if command.grace_ms < 0:
        raise InvalidInput("the time between SIGTERM and SIGKILL is not negative")
    if isinstance(command.stdin, int) and not 0 <= command.stdin <= _FD_MAX:
        raise InvalidInput(f"the command cannot read from descriptor {command.stdin}")
    if command.network and not command.isolate:
        raise InvalidInput(
            "the network is given to isolated commands, and this one has it: isolate it, or leave that out"
        )
    if command.message is not None and not command.commit:
        raise InvalidInput("a message is for the commit of the changes, and they are to stay uncommitted")
    options = [(name, str(value)) for name in _OPTIONS if (value := getattr(command, name)) != getattr(_DEFAULTS, name)]
    options += [("env", name) for name in command.let_in]
    return Request(
        vault=os.fspath(vault),
        fork=fork,
        argv=tuple(os.fsdecode(part) for part in command.argv) if command.argv is not None else None,
        shell=command.shell,
        cwd="/" + show_path(command.cwd) if command.cwd else "/",
        env=command.env,
        options=tuple(options),
        has_stdin=command.stdin is not None or command.terminal,  # avfs cannot know what a person will type
        stdin_sha256=hashlib.sha256(command.stdin).hexdigest() if isinstance(command.stdin, bytes) else None,
        mountpoint=os.fspath(root),
    )


def make_argv(command: Command) -> tuple[bytes, ...]:
    """Spell the program that is started, and its arguments."""
    if command.argv is not None:
        return command.argv
    shell = "bash" if shutil.which("bash") else "sh"
    return (shell.encode(), b"-c", (command.shell or "").encode("utf-8", "surrogateescape"))


def read_stdin(fd: int) -> bytes:
    """Read all that a command is to read.

    Raises:
        InvalidInput: If it is too much.
        HostError: If it cannot be read.
    """
    data = bytearray()
    with host_errors("read the standard input of the command"):
        while piece := os.read(fd, 1 << 16):
            data += piece
            if len(data) > _STDIN_MAX:
                raise InvalidInput(f"a command that needs approval can read at most {_STDIN_MAX >> 20} MiB")
    return bytes(data)


def open_stdin(given: bytes | int | None) -> tuple[int, bool]:
    """Open what a command reads; tell whether it is ours to close."""
    if isinstance(given, int):
        return given, False
    if given is None:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), True
    return make_memory_file("avfs-stdin", given), True


def make_memory_file(name: str, data: bytes) -> int:
    """Open a file that is in memory only, at its start."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    write_all(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd

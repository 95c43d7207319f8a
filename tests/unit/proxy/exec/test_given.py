"""What of a command is part of its request."""

from __future__ import annotations

from pathlib import Path
from typing import cast
from unittest.mock import Mock

import pytest

from avfs_git.errors import InvalidInput
from avfs_git.proxy.exec.envelope import Command
from avfs_git.proxy.exec.given import make_request
from avfs_git.sdk import ExecOptions, Workspace
from avfs_git.sdk.workspace.commands import make_command
from avfs_git.values import replace

COMMAND = Command(argv=(b"curl", b"x"))
OTHERS: dict[str, object] = {
    "argv": (b"curl", b"y"),
    "shell": "curl x",
    "cwd": b"d",
    "env": (("A", "b"),),
    "let_in": ("A_TOKEN",),
    "stdin": b"",
    "terminal": True,
    "timeout_ms": None,
    "grace_ms": 1,
    "readonly": True,
    "writable": True,
    "checkpoint": False,
    "commit": False,
    "commit_failed": False,
    "message": "other",
    "max_output": 1,
    "max_output_file": 1,
    "backend": "fuse",
    "root": Path("/elsewhere"),
    "isolate": True,
    "network": True,
}


def fingerprint(command: Command) -> str:
    """Give that of a command's request."""
    return make_request(command, vault=Path("/v"), fork="f", root=Path("/m")).fingerprint()


@pytest.mark.parametrize("name", [name for name in Command.__match_args__ if name != "approve"])
def test_each_option_of_a_command_is_in_its_fingerprint(name: str) -> None:
    """An approval is for all of them but the token itself; a new one has to be added here."""
    changed = {name: OTHERS[name], **({"argv": None} if name == "shell" else {})}
    command = replace(COMMAND, isolate=name == "network")

    assert fingerprint(replace(command, **changed)) != fingerprint(command)


@pytest.mark.parametrize("options", [{"network": True}, {"message": "x", "commit": False}])
def test_an_option_that_would_do_nothing_is_refused(options: dict[str, object]) -> None:
    """The network without isolation, and a message without a commit."""
    with pytest.raises(InvalidInput):
        fingerprint(replace(COMMAND, **options))


def test_callers_know_each_option() -> None:
    """What `Workspace.exec` takes beside the program are the fields of a command, all of them."""
    assert set(ExecOptions.__annotations__) == set(Command.__match_args__) - {"argv"}
    assert make_command(["curl", "x"], {}) == COMMAND
    assert make_command(
        [], {"shell": "x", "cwd": "/d", "env": {"A": "b"}, "let_in": ["A_TOKEN"], "network": True}
    ) == Command(shell="x", cwd=b"d", env=(("A", "b"),), let_in=("A_TOKEN",), network=True)


def test_a_misspelt_option_is_refused() -> None:
    """By Python, and by a type checker: mypy reports a comment that ignores nothing."""
    with pytest.raises(TypeError, match="timeuot_ms"):
        make_command(["true"], {"timeuot_ms": 1})  # type: ignore[typeddict-unknown-key]  # that is the test
    with pytest.raises(TypeError, match="timeuot_ms"):
        Workspace.exec_stream(cast("Workspace", Mock()), "true", timeuot_ms=1)  # type: ignore[call-arg]  # the same


def test_what_it_reads_is_in_its_fingerprint() -> None:
    """By its content; and two options never look like one."""
    assert fingerprint(replace(COMMAND, stdin=b"a")) != fingerprint(replace(COMMAND, stdin=b"b"))
    assert fingerprint(replace(COMMAND, stdin=b"")) != fingerprint(COMMAND)
    assert fingerprint(replace(COMMAND, let_in=("A",), env=())) != fingerprint(replace(COMMAND, env=(("A", ""),)))
    assert fingerprint(replace(COMMAND, message="x")) != fingerprint(replace(COMMAND, message="x\n"))

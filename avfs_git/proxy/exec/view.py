"""Which view of the workspace a command gets, what follows from that, and how it may have been meant.

Decided here: when a view is read-only, when what is uncommitted is saved before a command, what is guessed of its text
where a wrong guess costs time only, and what a command that did not run is told. `execute` asks. Pure functions, but
for a look whether the vault is lazy.
"""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path

from avfs_git.gitstore.repository import is_partial
from avfs_git.patterns import compiled
from avfs_git.proxy.exec.envelope import Command
from avfs_git.proxy.exec.output import Captured
from avfs_git.proxy.exec.run import NOT_FOUND, Finished
from avfs_git.proxy.policy.decision import Action, Category, Decision, Request

WAY_OUT = (
    "the command ran on a read-only view, because the policy took it for one that only reads; "
    "to let it write, use `--writable`, or a rule with the action `allow_with_checkpoint`"
)
"""What is said of a command that may have failed for that."""
_RECURSIVE = compiled(r"\s-(-recursive|-dereference-recursive|-directories|[A-Za-z]{0,20}[rRd])")
"""What tells `grep` to read directories, and other programs other options: a wrong guess costs little."""
_OF_SHELLS = frozenset(
    {"cd", "export", "source", ".", "alias", "set", "unset", "ulimit", "umask", "eval", "pushd", "popd"}
)
"""Commands that only a shell has."""
_SAVING = (Action.ALLOW_WITH_CHECKPOINT, Action.REQUIRE_APPROVAL)


def gets_readonly_view(command: Command, decision: Decision, git_dir: Path) -> bool:
    """Tell whether a command gets a read-only view: it was asked for, or the policy admits it because it only reads.

    A rule that wants a checkpoint before expects changes. Git that reads a partial clone stores there what it fetches.
    """
    if command.readonly or command.writable or not _only_reads(decision):
        return command.readonly
    return decision.action is not Action.ALLOW_WITH_CHECKPOINT and not (_names_git(command) and is_partial(git_dir))


def saves_before(command: Command, decision: Decision) -> bool:
    """Whether what is uncommitted is saved before a command on a writable view.

    The policy lets in without that what only reads; it gets such a view only where the kernel cannot enforce that, or
    is not to.
    """
    return command.checkpoint and (decision.action in _SAVING or _only_reads(decision))


def may_lack_writing(finished: Finished, streams: tuple[Captured, Captured]) -> bool:
    """Whether a command may have failed because it could not write; no system call tells for certain.

    It says so in its own words, or failed with some others. `grep` and `diff` have a status for what they found, and no
    words.
    """
    said = any(os.strerror(errno.EROFS).encode() in stream.data() for stream in streams)
    return said or bool(finished.exit_code and streams[1].size)


def may_use_git(command: Command, decision: Decision) -> bool:
    """Whether git may read its index in a command, which is then to be there and to show the present head.

    That costs what the tree has the first time, and what the index takes to be read and written from then on. Of a
    command that is proven to only read, every program is known: where none is git, nothing asks.
    """
    return not _only_reads(decision) or _names_git(command)


def may_search(request: Request) -> bool:
    """Whether a command says that `grep` is to read all files of a directory."""
    text = request.shell if request.shell is not None else " ".join(request.argv or ())
    return "grep" in text and ("rgrep" in text or _RECURSIVE.search(text) is not None)


def _names_git(command: Command) -> bool:
    return any("git" in os.fsdecode(part) for part in command.argv or (command.shell or "",))


def _only_reads(decision: Decision) -> bool:
    return decision.categories == (Category.READ_ONLY,)


def suggest_shell(command: Command, finished: Finished) -> str:
    """Say how a command line in one argument, or a shell's own command, is run, where no program has that name."""
    words = [os.fsdecode(word) for word in command.argv or ()]
    is_line = len(words) == 1 and len(words[0].split()) > 1
    if finished.exit_code != NOT_FOUND or not (is_line or (words and words[0] in _OF_SHELLS)):
        return ""
    return f"; run a command line with `avfs exec --shell {shlex.quote(words[0] if is_line else shlex.join(words))}`"

"""What a shell may add to a command line: verbs, options, vaults, forks, labels and paths of the workspace.

Decided here: which argument takes which names, by its name, its type and its verb; and how bash is asked. `app.main`
calls `answer` where the script of `avfs completion SHELL` has set `_AVFS_COMPLETE`. A completion shows no error and
waits for no lock: without an answer in two seconds there is none. Names of vaults, forks and labels: see `cli.names`.
The paths of a mount are read there.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    split_arg_string,
)

from avfs_git.cli.context import State
from avfs_git.cli.environment import Asked
from avfs_git.cli.names import list_forks, list_states, list_vaults
from avfs_git.cli.output.text import TextOutput
from avfs_git.cli.table import VERBS, program
from avfs_git.cli.verb import Verb

VARIABLE = "_AVFS_COMPLETE"
_LIMIT_S = 2.0
_FORKS = frozenset({"fork", "forks", "fork_name", "sources", "into", "resume"})
_STATES = frozenset({"at", "since", "onto", "old", "new", "states", "checkpoints"})
_OF_VERBS = {
    **dict.fromkeys(("fork_info", "fork_delete", "fork_rename", "mount", "unmount", "stop", "rebase"), "fork"),
    **dict.fromkeys(("vault_use", "vault_info", "vault_rename", "vault_delete"), "vault"),
    **dict.fromkeys(("show", "checkpoint_info", "checkpoint_restore", "checkpoint_delete"), "state"),
}
"""What the argument `name` or `label` of a verb names."""
_BASH = """\
_avfs_completion() {
    local type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            file) compopt -o default ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_BREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
    [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == */ ]] && compopt -o nospace
    return 0
}
complete -o nosort -F _avfs_completion avfs
"""
_BREAKS = "@=:"
_SPECIAL = re.compile(r"([^\w@%+=:,./~-])")


class _Silent(TextOutput):
    """An output that says nothing, and gives up where a command would wait."""

    def __init__(self) -> None:
        super().__init__(color=False)

    def warn(self, warnings: Iterable[object]) -> None:
        """Say nothing."""

    def note(self, message: str) -> None:  # noqa: ARG002 - as of every output
        """Give up: the only remark here is that a lock is waited for."""
        os._exit(0)


class _Bash(BashComplete):
    """Completion for bash, which splits words at `@`, `:` and `=`, and takes what is answered for typed text."""

    source_template = _BASH

    def __init__(self, asked: Asked | None) -> None:
        super().__init__(program, {"obj": State(_Silent())}, "avfs", VARIABLE)
        self._line = asked.line if asked is not None else ""
        self._breaks = asked.breaks if asked is not None else ""
        self._typed = ""
        self._is_quoted = False

    def source(self) -> str:
        """Write the script, whatever bash is found here."""
        return ShellComplete.source(self)

    def get_completion_args(self) -> tuple[list[str], str]:
        """Read the line up to the cursor."""
        try:
            shlex.split(self._line)
        except ValueError:
            self._is_quoted = True
        words = split_arg_string(self._line)[1:]
        if words and (self._is_quoted or not self._line[-1:].isspace()):
            self._typed = words.pop()
        return words, self._typed

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Leave out what stands before bash's word, and protect what the shell would read."""
        value = item.value
        if item.type != "plain" or self._is_quoted:
            return f"{item.type},{value}"
        kept = max((self._typed.rfind(letter) + 1 for letter in _BREAKS if letter in self._breaks), default=0)
        return "plain," + _SPECIAL.sub(r"\\\1", value[kept:])


def make_script(shell: str) -> str:
    """Make the script that a shell reads once."""
    return _Bash(None).source() if shell == "bash" else _completer(shell).source()


def _completer(shell: str) -> ShellComplete:
    found: type[ShellComplete] = {"zsh": ZshComplete, "fish": FishComplete}[shell]
    return found(program, {"obj": State(_Silent())}, "avfs", VARIABLE)


def answer(asked: Asked) -> NoReturn:
    """Write what may follow, and exit: with nothing where anything is wrong."""
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.setitimer(signal.ITIMER_REAL, _LIMIT_S)
    with suppress(BaseException):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        completer = _Bash(asked) if asked.shell == "bash" else _completer(asked.shell)
        args, incomplete = completer.get_completion_args()
        ctx = click.shell_completion._resolve_context(completer.cli, completer.ctx_args, "avfs", args)  # noqa: SLF001 - no other way
        with ctx:
            found = click.shell_completion._resolve_incomplete(ctx, args, incomplete)  # noqa: SLF001 - the same
            items = [item for item in _complete(ctx, *found) if not set(item.value) & set("\n\r\t\x1b")]
            text = "".join(f"{completer.format_completion(item)}\n" for item in items)
        os.write(1, text.encode("utf-8", "surrogateescape"))
    os._exit(0)


def _complete(ctx: click.Context, wanted: click.Command | click.Parameter, typed: str) -> list[CompletionItem[str]]:
    """Find what may stand at the cursor."""
    if wanted is program and not typed.startswith("-"):
        return [CompletionItem(name, help=entry.help) for name, entry in VERBS.items() if name.startswith(typed)]
    if isinstance(wanted, click.Parameter) and (kind := _kind_of(ctx.command, wanted)) is not None:
        if kind == "file":
            return [CompletionItem(typed, type="file")]
        return [CompletionItem(name) for name in sorted({*_list_names(ctx.obj, kind, typed)}) if name.startswith(typed)]
    return wanted.shell_complete(ctx, typed)


def _kind_of(command: click.Command, param: click.Parameter) -> str | None:
    """Say what an argument names: a path, a vault, a fork or a state; None for what only click knows."""
    name = str(param.name)
    if param.type.name in {"read_tree_path", "read_destination", "_read_path"}:
        return "path"
    if param.type.name == "read_host_path" or name == "words":
        return "file"
    if name in {"vault", "name", "label"}:
        return (
            "vault"
            if name == "vault"
            else _OF_VERBS.get(command.kind.removesuffix("_result"))
            if isinstance(command, Verb)
            else None
        )
    return "fork" if name in _FORKS else "state" if name in _STATES else None


def _list_names(state: State, kind: str, typed: str) -> Iterator[str]:
    if kind == "path":
        return _list_paths(state, typed)
    if kind == "vault":
        return list_vaults(typed)
    return list_forks(state) if kind == "fork" else list_states(state)


def _list_paths(state: State, typed: str) -> Iterator[str]:
    """List the entries of the directory that is typed; a directory ends with a slash."""
    directory, slash, last = typed.rpartition("/")
    place, prefix = state.place_in_tree(), directory + slash
    is_meant = state.vault_flag is None and state.fork_flag is None
    if place is not None and place.is_mount and is_meant:
        below = Path(os.fsdecode(place.prefix)) if not typed.startswith("/") else Path()
        with os.scandir(place.top / below / directory.lstrip("/")) as entries:
            found = [(entry.name, entry.is_dir()) for entry in entries]
    else:
        with state.open_workspace() as workspace:
            listed = workspace.list_dir(
                state.tree_path(prefix, "avfs") if prefix else state.tree_directory(), sizes=False
            )
            found = [(os.fsdecode(info.path).rpartition("/")[2], info.kind == "directory") for info in listed]
    for name, is_dir in found:
        if name.startswith(".") <= last.startswith("."):
            yield f"{prefix}{name}{'/' if is_dir else ''}"

"""`avfs watch`: what programs do to the files of a live tree."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

import click

from avfs_git.cli.context import State
from avfs_git.cli.output.base import write_all
from avfs_git.cli.verb import verb

if TYPE_CHECKING:
    from avfs_git.model import FileEvent

_OPS = ("create", "write", "read", "rename", "unlink", "truncate", "setattr")


@verb("watch", looks=True, view="mounts", example="avfs watch task --op write --op unlink")
@click.argument("fork_name", required=False, metavar="[FORK]")
@click.option("--op", "ops", multiple=True, type=click.Choice(_OPS), help="Only events of this kind; repeatable.")
def command(state: State, fork_name: str | None, ops: tuple[str, ...]) -> FileEvent:
    """Show what programs do to the files of a live tree, while they do it

    Each event is a line: time, kind, process, bytes, path, and the error where the program got one; with --json, one
    line of JSON. It ends at Ctrl-C, or when the tree is unmounted. A line `dropped` says that events are left out: no
    program waits for `avfs watch`. Reads that the kernel answers from its cache are not seen, and neither is what avfs
    itself changes.
    """
    state.name_fork(fork_name)
    try:
        with state.open_workspace() as workspace, workspace.file_events() as events:
            with suppress(OSError):  # it was removed
                os.chdir("/")  # this process must not keep the tree in use
            state.output.note(f"watching '{workspace.fork}'; Ctrl-C ends it")
            for event in events:
                if not ops or event.op in (*ops, "dropped"):
                    for line in _show(state, event):
                        write_all(sys.stdout, line)
    except KeyboardInterrupt:
        pass
    raise click.exceptions.Exit(0)


def _show(state: State, event: FileEvent) -> Iterable[bytes]:
    if state.output.structured:
        from avfs_git.records import to_record  # noqa: PLC0415 - not for the help

        document = json.dumps(to_record(event))
        return [document.encode() + b"\n"] if state.output.filter is None else state.output.filter.apply(document)
    from avfs_git.cli.output.quoting import quote_path  # noqa: PLC0415 - the same

    moment = datetime.fromtimestamp(event.at_ns / 1e9).strftime("%H:%M:%S.%f")  # noqa: DTZ006 - the user's own clock
    if event.op == "dropped":
        count = "events may be" if event.dropped is None else f"{event.dropped} events are"
        return [f"{moment[:-3]} dropped: {count} left out here\n".encode()]
    what = "-" if event.path is None else quote_path(event.path)
    if event.old_path is not None:
        what = f"{quote_path(event.old_path)} -> {what}"
    size, error = "-" if event.size is None else event.size, "" if event.error is None else f"  {event.error}"
    return [f"{moment[:-3]} {event.op:8} {event.pid or '-':>7} {size:>9} {what}{error}\n".encode("utf-8", "replace")]

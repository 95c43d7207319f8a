"""What `avfs` alone says to people: where they are, and what to do next."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from avfs_git.cli.output.quoting import quote_path

if TYPE_CHECKING:
    from pathlib import Path

    from avfs_git.cli.output.text import TextOutput
    from avfs_git.cli.results import Whereabouts

_FORK = "Fork this directory with `avfs fork . ../NAME`, or run an agent in a fork of it with `avfs run -- PROGRAM`."


def where(text: TextOutput, here: Whereabouts) -> None:
    """Name vault and fork, what is not saved, and the commands of the next step."""
    if here["vault"] is None:
        text.line("No vault is named here.")
        text.hint(_FORK)
        text.hint("Make a vault with `avfs vault create NAME --from DIR`; see `avfs vault list` and `avfs --help`.")
        return
    of_clone = f" of '{_show(here['origin'])}'" if here["origin"] is not None else ""
    if here["fork"] is None:
        text.line(
            "Vault ",
            (here["vault"], "bold"),
            f"{of_clone}: {text.count(len(here['forks']), 'fork')}, none is named here",
        )
        text.hint("List them with `avfs fork list`; name one with `--fork NAME`.")
        if here["origin"] is not None:
            text.hint(_FORK)
        return
    text.line(
        "Fork ", (here["fork"], "bold"), f"{of_clone}, in vault " if of_clone else " of vault ", (here["vault"], "bold")
    )
    if here["mounted_at"] is not None:
        text.line(f"Mounted at '{_show(here['mounted_at'])}'")
    status = here["status"]
    undo = ", take back the last step with `avfs undo`" if here["undo"] is not None else ""
    if status is not None:
        changed, beside = len(status.changed_files), len(status.sidecar_changed)
        more = f", and {beside} ignored or not known to git" if beside else ""
        text.line(f"{text.count(changed, 'path')} not saved{more}" if not status.clean else "Everything is saved")
        if status.merging is not None:
            text.hint(f"A {status.merging.operation.replace('_', '-')} is not finished; see `avfs status`.")
        elif not status.clean:
            text.hint(f"See it with `avfs diff`, save it with `avfs checkpoint save [LABEL]`{undo}.")
        else:
            text.hint(f"See what was done with `avfs log` and `avfs op log`{undo}.")
    if here["mounted_at"] is None:
        text.hint(f"Work in it with `avfs shell`, or mount it with `avfs mount {shlex.quote(here['fork'])} DIR`.")
    elif here["origin"] is not None:
        text.hint(f"End it with `avfs end {shlex.quote(os.fspath(here['mounted_at']))}`.")


def _show(directory: Path) -> str:
    return quote_path(os.fsencode(directory))

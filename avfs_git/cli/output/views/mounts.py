"""What results about mounts look like to people."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from avfs_git.cli.output.quoting import quote_path
from avfs_git.errors import and_more
from avfs_git.model import BASES
from avfs_git.paths import WHOLE_VAULT

if TYPE_CHECKING:
    from pathlib import Path

    from avfs_git.cli.output.text import TextOutput
    from avfs_git.cli.results import SessionList
    from avfs_git.model import RemoveResult, SessionInfo, UnmountResult

_NAMED = 3
"""Repositories that a text names; the others are counted."""


def _show(directory: Path) -> str:
    return quote_path(os.fsencode(directory))


def _fork(session: SessionInfo) -> str:
    return f"all of {session.vault}" if session.fork == WHOLE_VAULT else session.fork


def _mode(text: TextOutput, session: SessionInfo, joint: str = "") -> str:
    if session.at is not None:
        return f"read-only {joint}{text.id(session.at)}"
    return "read-only" if session.readonly else "read-write"


def _backend(session: SessionInfo) -> str:
    """Tell how it is mounted, where that is not as usual for this user."""
    usual = "overlay" if os.geteuid() == 0 and not session.readonly else "fuse"
    return "" if session.backend == usual else f", by {session.backend}"


def mount(text: TextOutput, session: SessionInfo) -> None:
    """Say where the tree is, and what to do with it."""
    # Forks are written to by their names in a mount of them all.
    what = f", {_mode(text, session, 'at ')}" if session.readonly and session.fork != WHOLE_VAULT else ""
    text.line("Mounted ", (_fork(session), "bold"), " at ", _show(session.directory), what, _backend(session))
    for reason in session.backend_reasons:
        text.hint(f"Passed over: {reason}.")
    place = shlex.quote(os.fspath(session.directory))
    end = "avfs unmount" if session.readonly else "avfs stop"
    text.hint(f"Work there with `cd {place}`; end it with `{end} {place}`.")


def sessions(text: TextOutput, result: SessionList) -> None:
    """List mounts; on a terminal without what is the same for all, which is as usual."""
    found = result["sessions"]
    if not found:
        text.hint("Nothing is mounted. Mount a fork with `avfs mount FORK DIR`.")
        return
    rows = [
        (
            # What commands stand on is mounted for a while, and is no fork of anybody's.
            f"base {_fork(session)}" if text.on_terminal and session.directory.parent.name == BASES else _fork(session),
            session.vault,
            _show(session.directory),
            _mode(text, session) + _backend(session),
            session.state.value,
            str(session.pid),
            text.since(session.started_at_ns),
        )
        for session in found
    ]
    headings = ("Fork", "Vault", "Directory", "Mode", "State", "Process", "Since")
    shown = list(range(len(headings)))
    if text.on_terminal:  # which is narrow: what needs nobody's eye makes room for the directories
        plain = all(row[4] == "mounted" for row in rows)
        usual = all(row[3] == "read-write" for row in rows)
        shown = [n for n in shown if not (plain and n in (4, 5)) and not (usual and n == 3)]
    picked = [tuple(row[n] for n in shown) for row in rows]
    text.table([headings[n] for n in shown], picked, right=("Process",))


def unmount(text: TextOutput, result: UnmountResult) -> None:
    """Say what became of the mount, and of the programs that used it."""
    if result.checkpoint is not None and result.checkpoint.outcome == "recorded":
        text.line("Recorded what changed, beside the branch, since git is at work there")
    elif result.checkpoint is not None and result.checkpoint.checkpoint is not None:
        saved = "Saved " if result.checkpoint.outcome == "created" else "Nothing to save since "
        text.line(saved, (text.id(result.checkpoint.checkpoint.id), "bold"))
    session = result.session
    where = _show(result.directory) if result.directory is not None else ""
    name = _fork(session) if session is not None else "a tree without a record"
    if result.outcome == "not_mounted":
        text.line("Nothing is mounted", f" at {where}" if where else "")
    elif result.outcome == "detached":
        text.line("Detached ", (name, "bold"), f" from {where}: in use until {_list(result)} ends")
        if session is not None:
            text.hint("See it with `avfs sessions`.")
    elif result.outcome == "cut_off":
        text.line("Took ", (name, "bold"), f" at {where} from {_list(result)}")
    else:
        text.line("Unmounted ", (name, "bold"), f" from {where}")


def _list(result: UnmountResult) -> str:
    return ", ".join(result.users) or "a program"


def end(text: TextOutput, ended: RemoveResult) -> None:
    """Say what became of a fork of a directory."""
    text.line("Unmounted ", quote_path(bytes(ended.directory)))
    if ended.deleted:
        text.line("Deleted fork ", (ended.fork, "bold"))
        text.hint(f"Bring it back with `avfs --vault {shlex.quote(f'{ended.vault}@{ended.fork}')} undo`.")
        return
    why = "programs still use it" if ended.in_use else "it holds work that was not pushed"
    if ended.repositories:
        named = ", ".join(quote_path(path) for path in ended.repositories[:_NAMED])
        why += (
            f", such as the commits of the repositories inside it: {named}{and_more(len(ended.repositories) - _NAMED)}"
        )
    if ended.left_in_git:
        named = ", ".join(ended.left_in_git[:_NAMED])
        why = f"git in it has put work elsewhere: {named}{and_more(len(ended.left_in_git) - _NAMED)}"
    text.line("Kept fork ", (ended.fork, "bold"), f": {why}")
    avfs, fork = f"avfs --vault {shlex.quote(ended.vault)}", shlex.quote(ended.fork)
    text.hint(f"Mount it again with `{avfs} mount {fork} DIR`; delete it with `{avfs} fork delete {fork}`.")

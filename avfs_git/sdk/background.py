"""Maintenance in the background: starting it, and the process that does it.

Decided here: when a process starts, and as what. `Dispatch` asks before an operation, at most once a second, and when a
vault is closed. Asking costs microseconds; starting a process costs some milliseconds, at most every 10 s. No process
waits for it. It has a lower priority and writes no messages: `avfs maintain --status` tells what it did. Such processes
exclude each other by a lock (`workspace.upkeep.maintenance`). Where one cannot be started, a later operation tries
again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from avfs_git.errors import AvfsError
from avfs_git.paths import Oid
from avfs_git.workspace.vault.vault import OpenVault

_PROGRAM = (
    "import json, sys; given = json.load(sys.stdin); sys.path[:] = given['path']; "
    "from avfs_git.sdk.background import run; run(given)"
)
"""What the process runs: it can import nothing of avfs before its starter has said, on its stdin, where modules are."""
_NICENESS = 10
_AS_NO_CHILD = 'exec 3<&0; "$@" <&3 3<&- &'
"""A shell's line that starts a process and ends: a program that uses avfs gets no child that it did not start.

POSIX gives such a process `/dev/null` as its standard input, unless it is redirected.
"""


def start(core: OpenVault) -> None:
    """Start a process that maintains a vault, unless its settings or permissions say otherwise."""
    with suppress(AvfsError, OSError):  # no caller has asked for it: a later operation tries again
        if core.config.read()["maintenance.auto"] != "0" and os.access(core.layout.root, os.W_OK):
            _spawn(core.git_dir)


def _spawn(git_dir: Path) -> None:
    given = json.dumps({"path": sys.path, "git_dir": os.fspath(git_dir.absolute())}).encode()
    with suppress(subprocess.CalledProcessError):
        subprocess.run(
            # Like a session's: without the site packages of another Python that the environment may name. The last
            # argument is for people who look at the list of processes.
            ["/bin/sh", "-c", _AS_NO_CHILD, "sh", sys.executable, "-I", "-S", "-c", _PROGRAM, os.fspath(git_dir)],
            input=given,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            check=True,
        )


def run(given: dict[str, Any]) -> None:
    """Maintain a vault: what the process in the background does. Its starter has opened the vault, and trusts it."""
    from avfs_git.workspace.upkeep.maintenance import maintain  # noqa: PLC0415 - the starter does not need it

    os.nice(_NICENESS)
    with suppress(AvfsError, OSError), closing(OpenVault(Path(given["git_dir"]), is_trusted=True)) as core:
        maintain(core, in_use=lambda: list_shown(core))


def list_shown(core: OpenVault) -> list[Oid]:
    """List the commits that read-only mounts of a vault show: `gc` keeps them.

    The process that starts such a mount holds objects until it is listed here.
    """
    from avfs_git.session.life import record  # noqa: PLC0415 - as above
    from avfs_git.workspace.vault.revisions import find_by_whole_id  # noqa: PLC0415 - as above

    # A record of another member's may name anything.
    found = (find_by_whole_id(core, at) for at in record.list_shown(core.layout.sessions))
    shown = [oid for oid in found if oid is not None]
    sidecars = [core.store.read_commit(oid).sidecar for oid in shown]  # git does not follow them
    return [*shown, *(oid for oid in sidecars if oid is not None)]

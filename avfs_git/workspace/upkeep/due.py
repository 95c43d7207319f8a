"""Whether a vault may need maintenance: a look that costs microseconds, after operations.

Decided here: what is looked at, the lock of maintenance, and the record of the last run in `avfs/maintenance.json`.
`workspace.upkeep.maintenance` writes it and decides what is due; this only tells whether that is worth asking. Reads
files, and fails where they cannot be read.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import host_errors
from avfs_git.host.files.modes import open_file
from avfs_git.host.files.plainfile import read_plain
from avfs_git.host.locks.flocks import take
from avfs_git.model import MaintenanceStep
from avfs_git.values import record_class
from avfs_git.workspace.vault.format import VaultLayout

MAINTENANCE_WAIT_S = 60.0
"""How long deleting and examining a vault wait for maintenance to end."""
_LOG_GROWTH = 64 << 10
"""So many more bytes in the operation log, some 200 operations, are worth asking."""
_MORE_PACKS = 16
_NUMBERS = ("at_ns", "log_bytes", "packs", "looked_ns")
_PAUSE_S = 10.0
"""Between the starts of two runs, at least."""
_SHORT_PAUSE_S = 1.0
"""The same where packs become twice as many as are worth asking: every look-up of an object takes longer."""


@record_class
class Last:
    """What the last run left."""

    at_ns: int = 0
    """When it ended, in nanoseconds since the epoch; 0 if there was none."""
    log_bytes: int = 0
    packs: int = 0
    looked_ns: int = 0
    """When a run last looked for what `gc` would remove for its age."""
    steps: tuple[MaintenanceStep, ...] = ()
    """The steps that were due."""

    def as_json(self) -> dict[str, Any]:
        """Spell it as the file has it."""
        steps = [[step.name, step.amount, step.handled, step.took_ms] for step in self.steps]
        return {**{name: getattr(self, name) for name in _NUMBERS}, "steps": steps}


def read_last(layout: VaultLayout) -> Last:
    """Read what the last run left; zeros if that is not known."""
    try:
        held = json.loads(read_plain(layout.maintenance))
        at_ns, log_bytes, packs, looked_ns = numbers = [held[name] for name in _NUMBERS]
        steps = tuple(MaintenanceStep(str(name), True, *counts) for name, *counts in held["steps"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Last()
    counts = [count for step in steps for count in (step.amount, step.handled, step.took_ms) if count is not None]
    if any(type(number) is not int or number < 0 for number in (*numbers, *counts)):
        return Last()
    return Last(at_ns, log_bytes, packs, looked_ns, steps)


def measure(layout: VaultLayout) -> tuple[int, int]:
    """Tell the bytes of the operation log, and the number of packs."""
    log_bytes = packs = 0
    with suppress(OSError):
        log_bytes = os.stat(layout.oplog).st_size
    with suppress(OSError):
        packs = sum(name.endswith(".idx") for name in os.listdir(layout.git_dir / "objects" / "pack"))
    return log_bytes, packs


@contextmanager
def maintenance_held(layout: VaultLayout, *, wait_s: float = 0.0) -> Iterator[bool]:
    """Keep other processes from maintaining a vault, for a block; tell whether that was possible in so many seconds.

    Maintenance holds this, and a process that deletes the vault: else maintenance would make directories of it again.

    Raises:
        HostError: If the lock cannot be made.
    """
    with host_errors("lock maintenance"):
        fd = open_file(layout.maintenance_lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with closing_fd(fd):
        is_held = take(fd, wait_s=wait_s)
        try:
            is_same = os.path.samestat(os.fstat(fd), os.stat(layout.maintenance_lock))
        except FileNotFoundError:  # the vault was deleted meanwhile
            is_same = False
        yield is_held and is_same


def is_worth_asking(layout: VaultLayout) -> bool:
    """Tell whether so much was done since the last run that maintenance may have work."""
    log_bytes, packs = measure(layout)
    if log_bytes < _LOG_GROWTH and packs < _MORE_PACKS:
        return False
    last = read_last(layout)
    more_packs = packs - last.packs
    if log_bytes - last.log_bytes < _LOG_GROWTH and more_packs < _MORE_PACKS:
        return False
    with suppress(OSError):
        since_s = time.time() - os.stat(layout.maintenance_lock).st_mtime
        return not 0 <= since_s < (_PAUSE_S if more_packs < 2 * _MORE_PACKS else _SHORT_PAUSE_S)
    return True

"""Shortening git's logs of remote-tracking branches, to which each fetch and push adds a line.

Decided here: git says which lines have expired (`gc.reflogExpire` and the like), in a scratch repository: killed in the vault, it
would leave a ref locked. Called by maintenance. A log changes under its ref's lock, by one rename; lines that came meanwhile
stay. A crash leaves the old log.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

from avfs_git.faults import reach
from avfs_git.gitstore.config.gitconfig import format_config, read_config
from avfs_git.gitstore.formats.packedrefs import format_packed
from avfs_git.gitstore.formats.reflog import parse_log
from avfs_git.gitstore.gitcommand import output_of
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.reflocks import RefLocks
from avfs_git.gitstore.refs import RefStore
from avfs_git.gitstore.scratch import scratch_repository
from avfs_git.host.files.durable import host_errors, write_file_atomically
from avfs_git.host.files.plainfile import read_plain

_REMOTES = "refs/remotes"
_EXPIRY_S = 90 * 86_400
"""After so long git's default drops a line that the branch reaches: a log with an older one is worth asking git about."""
_AT_ONCE = 256
"""Logs that are copied at a time."""


def list_old_logs(git_dir: Path) -> list[str]:
    """List the remote-tracking branches whose log begins more than 90 days ago. Costs a line of each log."""
    top = git_dir / "logs"
    found = []
    for place, _, names in os.walk(top / _REMOTES):
        for path in (Path(place, name) for name in names if not name.endswith(".lock")):
            with suppress(OSError), path.open("rb") as file:
                lines = parse_log(file.readline(1 << 16))
                if lines and lines[0].when_s < time.time() - _EXPIRY_S:
                    found.append(os.fspath(path.relative_to(top)))
    return sorted(found)


def expire_logs(store: ObjectStore, refs: RefStore) -> int:
    """Drop the lines of old logs that have expired as for `git reflog expire`; return how many.

    Raises:
        GitFailed: If there is no git, or it cannot read a log. Nothing has changed then.
        HostError: If the disk refuses.
    """
    chosen = list_old_logs(store.git_dir)
    groups = (chosen[at : at + _AT_ONCE] for at in range(0, len(chosen), _AT_ONCE))
    return sum(_shorten(refs, name, before, after) for group in groups for name, before, after in _ask_git(store, refs, group))


def _ask_git(store: ObjectStore, refs: RefStore, names: list[str]) -> Iterator[tuple[str, bytes, bytes]]:
    """Have git shorten copies of some logs; yield the shorter ones, with what they were."""
    settings = read_config(store.git_dir)
    config = format_config((key, value) for key, values in settings.items() if "reflogexpire" in key for value in values)
    with scratch_repository("shorten logs of remote branches", is_trusting=True, config=config) as scratch:
        with suppress(FileNotFoundError):
            (scratch / "shallow").write_bytes(read_plain(store.git_dir / "shallow"))
        tips = {name: oid for name in names if (oid := refs.read(name)) is not None and store.exists(oid)}
        (scratch / "packed-refs").write_bytes(format_packed(tips))
        held: dict[str, bytes] = {}
        for name in tips:
            with suppress(FileNotFoundError):
                held[name] = read_plain(store.git_dir / "logs" / name)
                copy = scratch / "logs" / name
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_bytes(held[name])
        output_of(scratch, "reflog", ["expire", "--all"], borrowed=store.objects_dir)
        for name, before in held.items():
            after = (scratch / "logs" / name).read_bytes()
            if len(after) < len(before) and before.endswith(b"\n"):
                yield name, before, after


def _shorten(refs: RefStore, name: str, before: bytes, after: bytes) -> int:
    """Put a shorter log in place, with the lines that came since it was read; not if another process moves the branch."""
    locks = RefLocks(refs.git_dir)
    path = refs.git_dir / "logs" / name
    with host_errors(f"shorten '{path}'"), ExitStack() as stack, suppress(FileNotFoundError):
        prepared = stack.enter_context(locks.prepare(b""))
        if not locks.try_take(stack, prepared, os.fsencode(refs.git_dir / name), name):
            return 0
        reach("reflogs.locked")
        now = read_plain(path)
        if now.startswith(before):
            write_file_atomically(path, after + now[len(before) :])
            return before.count(b"\n") - after.count(b"\n")
    return 0

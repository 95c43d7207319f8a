"""Several runs of one program in forks of one state, and the record of them: what came of each, until one is picked.

Decided here: the record is `attempts/VAULT/NAME.json` in the home, beside a directory with the output of each attempt.
It is replaced as a whole, and goes with the vault. `cli.commands.running` calls this. The forks are forks like any
other: the record only says which belong together, and may be deleted. A fork that was made anew under the name of an
attempt is none, nor is a branch that git has put elsewhere since: whose that is, is not known.
"""

from __future__ import annotations

import json
import os
from collections.abc import Container, Sequence
from pathlib import Path

from avfs_git.errors import FileChanging, HostError, InvalidInput, WorkspaceBusy, quote
from avfs_git.host.files.durable import host_errors, write_file_atomically
from avfs_git.model import Diff
from avfs_git.paths import fork_dir_name
from avfs_git.sdk.home import Home
from avfs_git.sdk.vault import Vault
from avfs_git.values import NamedTuple, replace
from avfs_git.workspace.vault import identity


class Attempt(NamedTuple):
    """One attempt, as the record has it."""

    number: int
    fork: str
    start: str
    """The commit that holds the state which the program began with."""
    exit_code: int | None
    """None while it runs, and for ever if avfs was killed in the middle."""
    duration_ms: int | None
    output: str
    """The file with what the program wrote."""
    made_ns: int
    """When the fork was made, in nanoseconds since the epoch, as `find_made` tells it."""


class Attempts(NamedTuple):
    """The attempts of one run."""

    name: str
    vault: str
    """The path of the repository."""
    command: Sequence[str]
    attempts: Sequence[Attempt]


def output_directory(home: Home, vault: Vault, name: str) -> Path:
    """Place the output of the attempts of a run; the directory exists then."""
    directory = _directory(home, vault) / fork_dir_name(name)
    with host_errors(f"make '{directory}'"):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    return directory


def write_record(home: Home, vault: Vault, record: Attempts) -> None:
    """Record attempts, when they have begun and when they have ended."""
    document = {**record._asdict(), "attempts": [attempt._asdict() for attempt in record.attempts]}
    write_file_atomically(
        _directory(home, vault) / f"{fork_dir_name(record.name)}.json", json.dumps(document).encode(), mode=0o600
    )


def read_record(home: Home, vault: Vault, name: str | None = None) -> Attempts:
    """Read the record of a run, by default of the one whose first fork was made last, or an empty one without any.

    Raises:
        InvalidInput: If there is no record of that name; without a name, if two runs are under way.
    """
    if name is not None:
        path = _directory(home, vault) / f"{fork_dir_name(name)}.json"
        if not path.exists():
            raise InvalidInput(f"there are no attempts {quote(name)} in vault {quote(vault.name)}")
        return _read(path)
    found = sorted(map(_read, _directory(home, vault).glob("*.json")), key=lambda record: record.attempts[0].made_ns)
    if not found:
        return Attempts("", os.fspath(vault.path), (), ())
    mounted = {info.fork for info in vault.sessions()}
    under_way = [record for record in found if _is_under_way(vault, record, mounted)]
    if len(under_way) > 1:
        names = " and ".join(quote(record.name) for record in under_way)
        raise InvalidInput(f"the attempts {names} are both under way", hint="Name the run with `--name`.")
    return found[-1]


def _is_under_way(vault: Vault, record: Attempts, mounted: Container[str]) -> bool:
    """Tell whether a program of a run is still at work: the forks of a run that was killed are not mounted for long."""
    return any(
        attempt.exit_code is None and attempt.fork in mounted and has_fork(vault, attempt)
        for attempt in record.attempts
    )


def _read(path: Path) -> Attempts:
    try:
        document = json.loads(path.read_bytes())
        attempts = [Attempt(**attempt) for attempt in document["attempts"]]
        if not attempts or not all(isinstance(attempt.made_ns, int) for attempt in attempts):
            raise TypeError(attempts)
        return Attempts(document["name"], document["vault"], document["command"], attempts)
    except OSError as error:
        raise HostError(f"read '{path}'", error) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"'{path}' is no record of attempts", hint="Delete it; the forks stay.") from error


def find_made(vault: Vault, fork: str) -> int | None:
    """Tell when a fork was made, in nanoseconds since the epoch.

    Return None if that is not known, as of a branch that git made.
    """
    made = identity.find_making(vault._core, fork)  # noqa: SLF001 - the two are one interface
    return made.created_at_ns if made is not None else None


def has_fork(vault: Vault, attempt: Attempt) -> bool:
    """Tell whether the fork of an attempt is there: a fork of its name that was made later is another one."""
    return vault.has_fork(attempt.fork) and find_made(vault, attempt.fork) == attempt.made_ns


def compare(vault: Vault, attempt: Attempt) -> Diff | None:
    """Compare what an attempt has now, saved or not, with what it began with, without lines.

    Return None if its fork is gone.
    """
    if not has_fork(vault, attempt):
        return None
    head = vault.fork_info(attempt.fork).head
    if head is None:
        return None
    work = vault.workspace(attempt.fork)
    try:
        found = work.diff(attempt.start)
    except (WorkspaceBusy, FileChanging):
        found = vault.diff(attempt.start, head, fork=attempt.fork)
    finally:
        work.close()
    return replace(found, files=tuple(replace(file, hunks=(), patch=b"") for file in found.files))


class Picked(NamedTuple):
    """What became of attempts of which one was picked."""

    attempt: Attempt
    deleted: Sequence[str]
    """The forks of the others."""
    remade: Sequence[str]
    """Forks with the name of another attempt's that stay: they were made anew since, or git has moved their branch."""


def pick(vault: Vault, record: Attempts, number: int, *, by: str | None = None) -> Picked:
    """Keep the fork of one attempt, and delete those of the others.

    `Vault.undo` of each, or of the fork `by`, restores them.

    Raises:
        InvalidInput: If there is no such attempt, or its fork is gone.
        WorkspaceMounted: If another one is mounted; nothing is deleted then.
    """
    chosen = next((attempt for attempt in record.attempts if attempt.number == number), None)
    # two picks at once would each delete what the other one keeps
    with vault._core.forks_locked(*(attempt.fork for attempt in record.attempts)):  # noqa: SLF001 - one interface
        if chosen is None or not has_fork(vault, chosen):
            hint = "See them with `avfs attempts compare`."
            raise InvalidInput(f"there is no fork of attempt {number} in vault {quote(vault.name)}", hint=hint)
        others = [attempt for attempt in record.attempts if attempt is not chosen and vault.has_fork(attempt.fork)]
        own = [attempt for attempt in others if has_fork(vault, attempt)]
        for attempt in own:
            vault.check_unmounted(attempt.fork)
        deleted = [attempt.fork for attempt in own if _delete(vault, attempt, by)]
    return Picked(chosen, deleted, [attempt.fork for attempt in others if attempt.fork not in deleted])


def _delete(vault: Vault, attempt: Attempt, by: str | None) -> bool:
    """Delete the fork of an attempt, unless it is another one by the time that it is locked."""
    by = by if by != attempt.fork else None
    return vault._dispatch.delete_fork(attempt.fork, lambda _: has_fork(vault, attempt), by=by) is not None  # noqa: SLF001 - one interface


def _directory(home: Home, vault: Vault) -> Path:
    return home.home / "attempts" / vault._dispatch.home_name  # noqa: SLF001 - the two are one interface

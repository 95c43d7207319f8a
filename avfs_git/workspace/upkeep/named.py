"""What the operation log and the workspaces of a vault name, which is to stay beside what git knows of.

Decided here: where names of objects stand that no ref keeps, and which workspaces count: also those in the trash, until
garbage collection has renamed them. Called by `garbage`, without a lock. What cannot be read stops it: what it names is
not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from avfs_git.errors import HostError
from avfs_git.gitstore.objects.sweep import read_ids_below
from avfs_git.host.files.durable import host_errors
from avfs_git.host.files.plainfile import read_plain
from avfs_git.paths import Oid, oid_of
from avfs_git.vfs.scan.statcache import StatCache
from avfs_git.workspace.vault.format import WorkspaceLayout
from avfs_git.workspace.vault.log.oprecord import OpRecord
from avfs_git.workspace.vault.vault import OpenVault

_HEX = re.compile(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])")
GOING = ".removing-"
"""How the names begin of workspaces on their way out of the trash."""


def named_by(records: Iterable[OpRecord]) -> Iterator[Oid]:
    """Yield what operations name."""
    for record in records:
        texts = [value for move in record.moves for value in move[1:] if value is not None]
        texts += [value for value in (record.before, record.after) if value is not None]
        for found in _HEX.findall(" ".join([*texts, repr(record.more)])):
            yield oid_of(found)


def named_by_workspaces(places: Iterable[Path]) -> Iterator[Oid]:
    """Yield what workspaces name in their state, their stat cache and their index of git."""
    for place in places:
        layout = WorkspaceLayout(place, "")
        for found in _HEX.findall(read_state(place)):
            yield oid_of(found)
        yield from StatCache.read_ids(layout.statcache)
        yield from read_ids_below(place / "git")


def read_state(place: Path) -> str:
    """Read the state of a workspace as a text, which may be damaged; "" if it has none."""
    try:
        return read_plain(WorkspaceLayout(place, "").state).decode("utf-8", "replace")
    except FileNotFoundError:
        return ""
    except OSError as error:  # what it names is not known: nothing may go
        raise HostError(f"read '{place}'", error) from error


def list_workspaces(vault: OpenVault) -> list[Path]:
    """List all workspaces, those in the trash as well."""
    return [*_listed(vault.layout.workspaces), *list_trash(vault)]


def list_trash(vault: OpenVault) -> list[Path]:
    """List the workspaces in the trash, without those on their way out."""
    return [place for place in _listed(vault.layout.trash) if not place.name.startswith(GOING)]


def _listed(directory: Path) -> list[Path]:
    with host_errors(f"read '{directory}'"):
        try:
            return sorted(place for place in directory.iterdir() if place.is_dir())
        except FileNotFoundError:
            return []


def list_going(vault: OpenVault) -> list[Path]:
    """List what is on its way out of the trash: a collection that was cut short has left some."""
    return [place for place in _listed(vault.layout.trash) if place.name.startswith(GOING)]


def trashed_ns(place: Path) -> int:
    """Tell when a workspace was put into the trash; one whose name does not say it stays."""
    text = place.name.partition("-")[0]
    return int(text) if text.isascii() and text.isdigit() else 1 << 63

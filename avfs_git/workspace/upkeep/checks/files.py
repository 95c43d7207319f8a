"""The files of a vault, and of the home beside its vaults: of another kind than avfs makes, closed, missing, damaged.

Decided here: what is said of each, and what mends it. Which names these are: `kinds`. What `avfs/commits` has lost, and
how that is known (`list_unnoted`). Called by the doctor and, before objects go, by `gc`; reads only.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

from avfs_git.errors import FormatUnsupported, VaultError
from avfs_git.gitstore.config.trust import is_shared
from avfs_git.gitstore.objects.owncommits import OwnCommits, find_named, list_sidecars
from avfs_git.gitstore.refs.refs import OWN_REFS
from avfs_git.host.files.seal import Seal
from avfs_git.paths import Oid, fork_of_dir_name, is_fork_name, oid_of
from avfs_git.workspace.exchange.enabledprograms import EnabledPrograms
from avfs_git.workspace.upkeep.checks.findings import Finding, finding, fixable
from avfs_git.workspace.upkeep.checks.kinds import IN_HOME, IN_VAULT, find_closed, find_no_directories, find_no_files
from avfs_git.workspace.vault import known
from avfs_git.workspace.vault.format import PLUGINS, SEAL_KEY, find_bad_current
from avfs_git.workspace.vault.log.oprecord import BASE, CAPTURED, FILES
from avfs_git.workspace.vault.vault import OpenVault

_MAKING = ("checkpoint", "checkout", "restore", "revert", FILES)
"""The operations that record what they leave in a commit of avfs's own; others may leave one from elsewhere."""


def check_files(vault: OpenVault, has_fork: Callable[[str], bool]) -> Iterator[Finding]:
    """Find what is missing in the state of a vault, or of another kind: avfs refuses what needs it."""
    layout = vault.layout
    for path in find_no_files(vault.git_dir, IN_VAULT):
        yield finding(
            "vault.no_file",
            f"'{path.relative_to(vault.git_dir)}' is no regular file, and avfs refuses what needs it",
            f"Move '{path}' elsewhere: avfs makes a lock, a log or a file of a mount anew; copy another file from a "
            "backup.",
        )
    for path in find_no_directories(vault.git_dir, IN_VAULT):
        fork = fork_of_dir_name(path.name)
        if path.parent == layout.workspaces and not (is_fork_name(fork) and has_fork(fork)):
            continue  # of another program, and in the way of no fork
        yield finding(
            "vault.no_directory",
            f"'{path.relative_to(vault.git_dir)}' is no directory, and avfs refuses what needs it",
            f"Move '{path}' elsewhere: avfs makes the directory anew. Copy what was in it from a backup.",
        )
    for path in find_closed(vault.git_dir, IN_VAULT):
        if not _is_of_another_member(vault, path):
            yield finding("vault.closed", *_say_closed(path, shared=is_shared(vault.git_dir)))
    if layout.format.exists():
        return
    format_name = layout.format.relative_to(vault.git_dir)
    if layout.list_workspaces():
        yield fixable(
            "vault.no_format",
            f"'{format_name}' is gone, and avfs writes nothing to such a vault",
            "Make it again.",
            layout.prepare,
            layout.format.exists,
            severity="error",
        )
    elif vault.refs.list(OWN_REFS + "/"):
        yield finding(
            "vault.no_format",
            f"'{format_name}' and all workspaces are gone, and avfs writes nothing to such a vault",
            f"Copy '{layout.root}' from a backup. Without one, make a vault of its branches and tags: "
            f"`avfs vault create NAME --from {shlex.quote(str(vault.git_dir))}`.",
        )


def check_commits(vault: OpenVault) -> Iterator[Finding]:
    """Find commits that `avfs/commits` has lost: their ignored files do not come back, and `gc` would remove them."""
    own = vault.store.own_commits
    if not vault.layout.format.exists():  # told by itself
        return
    lost = list_unnoted(vault)
    if lost or not _is_table(own):
        yield fixable(
            "vault.commits_damaged",
            f"'avfs/commits' is damaged or gone: {len(lost)} commits that avfs made are not in it, so that the ignored "
            "files of these states do not come back",
            "Make it again, of what is left of it and of the operation log.",
            lambda: own.mend(list_unnoted(vault)),
            lambda: _is_table(own) and not list_unnoted(vault),
            severity="error",
            place="avfs/commits",
        )


def list_unnoted(vault: OpenVault) -> dict[Oid, Oid | None]:
    """List commits that avfs made, as its log says, and `avfs/commits` does not have; each with its sidecar, if any.

    The log's own word counts, never only the header of a commit: for a state that an operation recorded in a new
    commit, and for what a fork began with, where the line names the same sidecar. Sidecars are such commits, too.

    Raises:
        FormatUnsupported: If the table is of another version.
    """
    own, read = vault.store.own_commits, vault.store.read
    found: dict[Oid, Oid | None] = {}
    is_table = _is_table(own)

    def is_noted(oid: Oid) -> bool:
        return is_table and own.has(oid)

    def see(oid: Oid, *, named: str | None = None) -> None:
        if oid in found or is_noted(oid) or not vault.store.exists(oid):
            return
        sidecar = find_named(read, oid)
        if named is None or (sidecar is not None and sidecar.hex() == named):
            found[oid] = sidecar
            if sidecar is not None:
                found.update(
                    dict.fromkeys(list_sidecars(read, [sidecar], lambda each: each in found or is_noted(each)))
                )

    for record in vault.oplog.read():
        if record.kind in _MAKING and CAPTURED in record.more and record.after is not None:
            see(oid_of(record.after))
        base, sidecar = record.more.get(BASE), record.more.get("sidecar")
        if base is not None and sidecar is not None:
            see(oid_of(base), named=sidecar)
    return found


def _is_table(own: OwnCommits) -> bool:
    try:
        own.has(Oid(bytes(20)))
    except FormatUnsupported:
        raise
    except VaultError:
        return False
    return True


def _is_of_another_member(vault: OpenVault, path: Path) -> bool:
    """Tell whether something is part of the fork of another member of a shared vault: each works in their own."""
    layout = vault.layout
    owner = next((place for place in path.parents if place.parent in (layout.workspaces, layout.trash)), None)
    return owner is not None and owner.stat().st_uid != os.geteuid() and is_shared(vault.git_dir)


def _say_closed(path: Path, *, shared: bool = False) -> tuple[str, str]:
    """Say that this user may not use something of avfs's, and what opens it."""
    place, owner, own = shlex.quote(str(path)), path.stat().st_uid, os.geteuid()
    if owner == own:
        remedy = f"Open it with `chmod u+rwX {place}`."
    elif shared:
        remedy = f"It belongs to user {owner}, who opens it to the group with `chmod g+rwX {place}`."
    else:
        remedy = f"It belongs to user {owner}: as root, give it to its own with `chown {own} {place}`."
    return f"this user may not read and write '{path}', and avfs refuses what needs it", remedy


def check_home(home: Path) -> Iterator[Finding]:
    """Find what a home keeps beside its vaults and what avfs refuses, or passes over."""
    for path in find_no_files(home, IN_HOME):
        yield finding(
            "home.no_file",
            f"'{path}' is no regular file, and avfs refuses what needs it",
            "Move it elsewhere: avfs makes a lock or a key anew; copy another file from a backup.",
        )
    for path in find_no_directories(home, IN_HOME):
        yield finding(
            "home.no_directory",
            f"'{path}' is no directory, and avfs refuses what needs it",
            "Move it elsewhere: avfs makes the directory anew. Copy what was in it from a backup.",
        )
    for path in find_closed(home, IN_HOME):
        yield finding("home.closed", *_say_closed(path))
    yield from _check_contents(home)


def _check_contents(home: Path) -> Iterator[Finding]:
    seal = Seal(home / SEAL_KEY)
    faults = [
        (
            home / SEAL_KEY,
            seal.find_fault(),
            "Copy it from a backup; else remove it, and enable hooks and plug-ins.",
        ),
        (home / "current", find_bad_current(home), "Choose a vault with `avfs vault use NAME`."),
        (home / known.TRUSTED, known.find_bad_trusted(home), "Remove what is named, and run `avfs vault trust` again."),
    ]
    for what in ("hooks", PLUGINS):
        enabled = EnabledPrograms(home, seal, what)
        remedy = f"Copy it from a backup; else remove it, and enable again what `avfs {what} list` shows."
        faults.append((enabled.path, enabled.find_fault(), remedy))
    for path, reason, remedy in faults:
        if reason is not None:
            yield finding("home.damaged", f"'{path}' does not count: {reason}", remedy)

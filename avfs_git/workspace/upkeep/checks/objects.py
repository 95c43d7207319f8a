"""The objects of a vault and their packs, and the locks and temporary files that dead processes left.

Decided here: after how long something counts as left. Called by the doctor.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from avfs_git.errors import GitFailed, HostError
from avfs_git.gitstore.gitcommand import find_bad_lists, fsck, index_pack
from avfs_git.gitstore.objects.packs import is_index_damaged, is_left_hold, is_without_index
from avfs_git.gitstore.objects.store import list_no_loose
from avfs_git.paths import show_path
from avfs_git.workspace.upkeep.checks.findings import Finding, finding, fixable, removable
from avfs_git.workspace.upkeep.due import MAINTENANCE_WAIT_S, maintenance_held
from avfs_git.workspace.vault.vault import OpenVault

STALE_AFTER_S = 3600
"""Temporary files of packs, and locks, may belong to a process that is alive; older ones do not."""
LOCK_HELD_S = 2.0
"""git holds a lock for a moment, and a pack comes a moment before its index: what lasts longer is reported."""


def check_locks(vault: OpenVault) -> Iterator[Finding]:
    """Find lock files that a killed git left; avfs removes its own when it opens the refs."""
    held = _watch(vault.refs.list_locks())
    for path in held:
        description = f"'{path.relative_to(vault.git_dir)}' is locked, perhaps by a git that was killed"
        age_s = _age_of(path)
        if age_s is None:
            continue
        # `git commit -a` keeps that one while its editor is open
        is_young = age_s < STALE_AFTER_S or path.name == "index.lock" or path.is_dir()
        if is_young:
            yield finding(
                "lock.left", description, f"If no git is at work in the vault, remove '{path}'.", severity="warning"
            )
        else:
            known = held[path]
            yield fixable(
                "lock.left",
                description,
                "Remove the lock file.",
                lambda path=path, known=known: path.unlink() if _identify(path) == known else None,  # type: ignore[misc]  # as below
                lambda path=path, known=known: _identify(path) != known,  # type: ignore[misc]  # defaults bind the loop's values
            )


def _watch(paths: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """Give the files that stay what they are for LOCK_HELD_S."""
    found = {path: _identify(path) for path in paths}
    held = {path: known for path, known in found.items() if known is not None}
    until = time.monotonic() + LOCK_HELD_S
    while held and time.monotonic() < until:
        time.sleep(0.05)
        held = {path: known for path, known in held.items() if _identify(path) == known}
    return held


def _identify(path: Path) -> tuple[int, int] | None:
    """Tell a file from another of its name; None without a file."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _age_of(path: Path) -> float | None:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return None


def _is_stale(path: Path) -> bool:
    return (_age_of(path) or 0) > STALE_AFTER_S


def check_leftovers(vault: OpenVault) -> Iterator[Finding]:
    """Find packs that nothing can read for want of an index, and what dead processes left beside packs."""
    pack_dir = vault.git_dir / "objects" / "pack"
    try:
        found = [path for path in pack_dir.iterdir() if path.name.startswith(("tmp_", ".tmp")) or is_left_hold(path)]
        lone = [path for path in _watch(filter(is_without_index, pack_dir.iterdir())) if is_without_index(path)]
        damaged = [path for path in pack_dir.glob("pack-*.pack") if is_index_damaged(path)]
    except OSError as error:
        yield finding(
            "objects.unreadable",
            f"'{pack_dir}' cannot be read: {error.strerror}",
            "Check the permissions of the vault.",
        )
        return
    for path in lone:
        yield fixable(
            "objects.pack_without_index",
            f"'{path.name}' has no index, so that nothing finds what it holds",
            f"Make the index with `git index-pack {shlex.quote(str(path))}`.",
            lambda path=path: index_pack(vault.git_dir, path),  # type: ignore[misc]  # a default binds the loop's value
            lambda path=path: not is_without_index(path),  # type: ignore[misc]  # as above
        )
    for path in damaged:
        index, pack = (shlex.quote(str(path.with_suffix(suffix))) for suffix in (".idx", ".pack"))
        remove = "rm -r" if path.with_suffix(".idx").is_dir() else "rm -f"
        yield finding(
            "objects.pack_without_index",
            f"'{path.name}' has a damaged index, so that nothing finds what it holds",
            f"Make the index with `{remove} {index} && git index-pack {pack}`.",
            severity="warning",
        )
    for path in list_no_loose(pack_dir.parent):
        yield finding(
            "vault.no_file",
            f"'{path.relative_to(vault.git_dir)}' is a directory with the name of an object, and git fails on it",
            f"Move '{path}' elsewhere.",
        )
    for path in found:
        if _is_stale(path):
            yield removable(
                "objects.leftover", path, f"'{path.name}' was left behind by a process that died", "Remove it."
            )


@contextmanager
def _unmaintained(vault: OpenVault) -> Iterator[None]:
    """Keep maintenance away for a block, where it ever ran: git tells of packs that are joined while it checks them."""
    with ExitStack() as stack:
        if vault.layout.maintenance_lock.exists():
            with suppress(HostError):  # a vault that this user cannot write to
                stack.enter_context(maintenance_held(vault.layout, wait_s=MAINTENANCE_WAIT_S))
        yield


def check_objects(vault: OpenVault) -> Iterator[Finding]:
    """Have git check every object, and what it makes of them."""
    try:
        with _unmaintained(vault):
            for name in find_bad_lists(vault.git_dir):
                path = vault.git_dir / name
                yield fixable(
                    "objects.bad_list",
                    f"'{name}' is damaged: git makes it of objects, and is misled by it",
                    "Remove it: `avfs gc` or git makes it again.",
                    lambda path=path: path.unlink(missing_ok=True),  # type: ignore[misc]  # a default binds the loop's value
                    lambda path=path: not path.exists(),  # type: ignore[misc]  # as above
                    severity="error",
                )
            found = fsck(vault.git_dir)
        for line in found:
            yield finding(
                "objects.fsck",
                show_path(line.encode()),
                "Fetch the object from another copy of the vault, or restore a state before it.",
            )
    except GitFailed as error:
        repair = error.hint or "Mend what it names, or run `git fsck --strict` in the vault by hand."
        yield finding("git.failed", error.message, repair)

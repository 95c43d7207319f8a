"""The refs of a vault: damaged ones, what they last stood for, and those of forks that are gone.

Decided here: which last value counts, and what mends a ref that has none. Called by the doctor.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress

from avfs_git.errors import AvfsError, RefDamaged
from avfs_git.gitstore.refs.logs import read_log
from avfs_git.gitstore.refs.refs import BAD_NAME, OWN_REFS, RefChange
from avfs_git.paths import Oid, fork_of_dir_name, maybe_hex, oid_of
from avfs_git.patterns import compiled
from avfs_git.workspace.upkeep.checks.findings import Finding, finding, fixable
from avfs_git.workspace.vault.format import KEPT, KNOWN, LABELS, REMOTE_STATE, REMOTES, SIDECARS
from avfs_git.workspace.vault.notes import NOTES
from avfs_git.workspace.vault.vault import OpenVault

_OID = compiled(r"[0-9a-f]{40}")


def check_refs(vault: OpenVault) -> Iterator[Finding]:
    """Find damaged refs, and some of avfs's own that it did not make."""
    for error in vault.refs.find_damaged(vault.store.exists):
        name = error.ref
        last = _find_last_value(vault, name)
        if last is not None:
            yield fixable(
                "ref.damaged",
                error.message,
                f"Give it {last.hex()[:12]} again, its last value in the log.",
                lambda name=name, last=last: _give_back(vault, name, last),  # type: ignore[misc]  # a default binds the loop's value
                lambda name=name: _is_whole(vault, name),  # type: ignore[misc]  # as above
                severity="error",
            )
        elif name == "packed-refs":
            yield finding(
                "ref.damaged",
                error.message,
                f"Copy '{vault.git_dir / name}' from a backup, or take out what is named. `avfs undo` then brings back "
                "a fork whose branch is gone.",
            )
        elif name == "HEAD":
            yield finding(
                "ref.damaged", error.message, "Point it to a branch with `git symbolic-ref HEAD refs/heads/NAME`."
            )
        elif error.reason == BAD_NAME:
            yield finding(
                "ref.damaged", error.message, f"Give '{vault.git_dir / name}' a name that git allows, or delete it."
            )
        elif name.startswith((REMOTES, REMOTE_STATE)):
            yield finding("ref.damaged", error.message, "Delete the file, then run `avfs fetch`.")
        else:
            yield finding(
                "ref.damaged",
                error.message,
                f"Give it a commit with `git update-ref {shlex.quote(name)} OID`, or delete '{vault.git_dir / name}'.",
            )

    for name in vault.refs.list(OWN_REFS):
        if _is_out_of_place(name):
            yield finding(
                "ref.damaged",
                f"'{name}' is damaged: avfs makes no ref of that name, and it may be in the way of others",
                f"Delete it with `git update-ref -d {shlex.quote(name)}` in '{vault.git_dir}'.",
            )
    noted = vault.refs.list(NOTES).get(NOTES)
    if noted is not None and vault.store.exists(noted) and (problem := find_tree_problem(vault, noted)) is not None:
        yield finding(
            "ref.damaged",
            f"'{NOTES}' is damaged, so commits get no notes: {problem}",
            f"Give it an older commit, or delete it with `git update-ref -d {NOTES}` in '{vault.git_dir}'.",
        )


def _is_out_of_place(name: str) -> bool:
    """Tell whether a ref of avfs's own is in the place of a directory of them, or is kept under no id."""
    return (
        f"{name}/" in (OWN_REFS + "/", KEPT, KNOWN, LABELS, REMOTE_STATE, SIDECARS)
        or (name.startswith(KEPT) and not _OID.fullmatch(name.removeprefix(KEPT)))
        or (name.startswith(LABELS) and "/" not in name.removeprefix(LABELS))
    )


def _find_last_value(vault: OpenVault, name: str) -> Oid | None:
    """Tell what a ref stood for: as its name says, or as the log of avfs or that of git has it.

    Return None if that is not here.
    """
    said: str | None = None
    if name.startswith(KEPT):
        said = name.removeprefix(KEPT)
    elif name.startswith(KNOWN):
        with suppress(AvfsError):
            said = maybe_hex(vault.read_head(fork_of_dir_name(name.removeprefix(KNOWN))))
    elif name.startswith(SIDECARS):  # moves with the branch
        with suppress(AvfsError):
            head = vault.read_head(name.removeprefix(SIDECARS))
            said = maybe_hex(vault.store.read_commit(head).sidecar) if head is not None else None
    else:
        said, when_ns = vault.oplog.find_last_value(name)
        logged = read_log(vault.git_dir / "logs" / name)
        if logged and logged[-1].when_s * 1_000_000_000 > when_ns:
            said = logged[-1].new.hex()
    if said is None or not _OID.fullmatch(said):
        return None
    last = oid_of(said)
    return last if vault.store.exists(last) else None


def _give_back(vault: OpenVault, name: str, last: Oid) -> None:
    """Give a still damaged ref its last value: another process may have moved or deleted it since it was found."""
    try:
        held = vault.refs.read(name)
    except RefDamaged:
        vault.refs.repair(name, last)
    else:
        if held is not None and not vault.store.exists(held):
            vault.refs.update([RefChange(name, held, last)])


def _is_whole(vault: OpenVault, name: str) -> bool:
    try:
        held = vault.refs.read(name)
    except RefDamaged:
        return False
    return held is None or vault.store.exists(held)


def check_left_refs(vault: OpenVault) -> Iterator[Finding]:
    """Find what avfs's refs keep of forks that are gone: a process died, or the disk failed, while it took one away."""
    found: dict[str, list[RefChange]] = {}
    fork_in: dict[str, Callable[[str], str]] = {
        SIDECARS: str,
        LABELS: lambda rest: rest.rpartition("/")[0],
        KNOWN: fork_of_dir_name,
    }
    for prefix, read_fork in fork_in.items():
        for name, oid in vault.refs.list(prefix).items():
            fork = read_fork(name.removeprefix(prefix))
            if not _is_out_of_place(name) and not has_fork(vault, fork):
                found.setdefault(fork, []).append(RefChange(name, oid, None))
    for fork, changes in found.items():
        yield fixable(
            "fork.left_refs",
            f"labels or sidecars of '{fork}' are left, which has no branch",
            "Take them away; what they name stays reachable.",
            lambda fork=fork, changes=changes: _take_refs_away(vault, fork, changes),  # type: ignore[misc]  # defaults bind the loop's values
            lambda changes=changes: all(vault.refs.read(each.name) is None for each in changes),  # type: ignore[misc]  # as above
        )


def _take_refs_away(vault: OpenVault, fork: str, changes: list[RefChange]) -> None:
    with vault.fork_locked(fork):
        if not vault.has_fork(fork):  # else it was being made when they were found
            vault.refs.update([*vault.hold(*(each.old for each in changes)), *changes])


def has_fork(vault: OpenVault, fork: str) -> bool:
    """Tell whether a fork is there, or may be: another check tells what is damaged of its branch."""
    try:
        return vault.has_fork(fork) or vault.refs.find_bad_packed() is not None
    except RefDamaged:  # told by itself, as what is left of `packed-refs` is: the branch may be there
        return True


def find_tree_problem(vault: OpenVault, oid: Oid) -> str | None:
    """Tell why a commit or its tree cannot be read; None if it can."""
    try:
        vault.store.read_tree(vault.store.read_commit(oid).tree)
    except AvfsError as error:
        return error.message
    return None

"""What people may call a state: labels, forks, commit ids, `HEAD`, with `~N` behind.

Decided here: the grammar of revision names and what wins where a name could mean two states: a label of the fork at
hand, then a whole commit id, a fork, a branch of a remote, a tag, the start of a commit id; where forks are asked for,
a fork before a label. `A...B` is where their histories parted, as `git diff` reads it. Others choose the names of tags,
which therefore hide nothing else. Called without the workspace lock: a label is a ref, compared and swapped like any.
"""

from __future__ import annotations

import re

from avfs_git.errors import AmbiguousName, AvfsError, CheckpointNotFound, ForkNotFound, InvalidInput, quote
from avfs_git.gitstore.formats.packfile import KIND_COMMIT
from avfs_git.gitstore.merge.bases import find_merge_bases
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.model import Checkpoint
from avfs_git.paths import Oid, check_label, label_ref_name, oid_of, text_given
from avfs_git.patterns import compiled
from avfs_git.workspace.vault.format import HEADS, REMOTE_STATE, REMOTES, label_ref
from avfs_git.workspace.vault.log.oprecord import OpRecord, RefMoveRecord
from avfs_git.workspace.vault.vault import OpenVault

_DIGITS = 12
_ANCESTOR = compiled(r"(.+?)((?:[~^]\d*)+)$", re.DOTALL)
_ID_LENGTH = 40
_HEX = compiled(r"[0-9a-fA-F]{4,40}")


def resolve_revision(vault: OpenVault, name: str, *, fork: str | None) -> Oid:
    """Find the commit that a name means.

    Args:
        vault: Where to look.
        name: `HEAD`, a label, `FORK@LABEL`, `REMOTE/FORK@LABEL`, a fork, `REMOTE/BRANCH`, or the first letters (four or
            more) of a commit's id; `~N` or `^` behind it steps to parents. `A...B` is the merge base of two names,
            `HEAD` where one is left out.
        fork: The fork whose labels and head are meant.

    Raises:
        CheckpointNotFound: If nothing has that name.
        AmbiguousName: If a shortened id fits several commits.
        InvalidInput: If two names have several merge bases.
    """
    labelled = _find_label(vault, text_given(name), fork)
    if labelled is not None:
        return labelled
    first, dots, second = name.partition("...")
    if dots and (first or second):
        return _find_merge_base(
            vault, name, [resolve_revision(vault, one or "HEAD", fork=fork) for one in (first, second)], fork
        )
    steps = 0
    match = _ANCESTOR.fullmatch(name)
    base = name
    if match is not None:
        base = match.group(1)
        for step in re.findall(r"[~^]\d*", match.group(2)):
            if step.startswith("^") and step not in ("^", "^1"):
                raise InvalidInput(f"{quote(name)} cannot be used: only first parents can be stepped to")
            if len(step) > _DIGITS:  # no history is so long
                raise _not_found(vault, name, fork)
            steps += int(step[1:] or 1)
    oid = _resolve_base(vault, base, fork)
    if oid is None:
        raise _not_found(vault, name, fork)
    for _ in range(steps):
        parents = vault.store.read_commit(oid).parents
        if not parents:
            raise CheckpointNotFound(name, vault=vault.name, fork=fork)
        oid = parents[0]
    return oid


def find_owner(vault: OpenVault, name: str, *, fork: str | None) -> str | None:
    """Find the fork whose state a name of a commit means: two forks at one commit have different ignored files.

    Another fork's or a remote's name means what that one has, any other what the fork at hand has; None for a remote.
    """
    named = re.split("[@~^]", name, maxsplit=1)[0]
    if REMOTES + named.removeprefix(REMOTES) in vault.refs.list(REMOTES):
        return None
    named = named.removeprefix(HEADS)
    return named if HEADS + named in vault.refs.list(HEADS) else fork


def _not_found(vault: OpenVault, name: str, fork: str | None) -> AvfsError:
    if fork is not None and not vault.has_fork(fork):
        return ForkNotFound(fork, vault=vault.name, renamed_to=vault.find_new_name(fork))
    return CheckpointNotFound(name, vault=vault.name, fork=fork)


def _find_merge_base(vault: OpenVault, name: str, ends: list[Oid], fork: str | None) -> Oid:
    bases = find_merge_bases(vault.store, *ends)
    if not bases:
        raise CheckpointNotFound(name, vault=vault.name, fork=fork)
    if len(bases) > 1:
        raise InvalidInput(
            f"{quote(name)} has {len(bases)} merge bases: {', '.join(base.hex()[:12] for base in bases)}"
        )
    return bases[0]


def resolve_source(vault: OpenVault, name: str, *, fork: str | None) -> Oid:
    """Find the commit that a name means where forks are asked for, as by a merge: a fork of that name before a label.

    Raises:
        CheckpointNotFound, AmbiguousName: As `resolve_revision`.
    """
    head = vault.read_head(name) if _may_be_ref(text_given(name)) and find_by_whole_id(vault, name) is None else None
    return head if head is not None else resolve_revision(vault, name, fork=fork)


def _find_label(vault: OpenVault, name: str, fork: str | None) -> Oid | None:
    """Find a label of the fork at hand, with `FORK@` in front of any, or with `REMOTE/FORK@` one that was fetched."""
    if fork is not None and _may_be_label(name):
        found = vault.refs.read(label_ref(fork, name))
        if found is not None:
            return found
    other, at, label = name.partition("@")
    if not (at and _may_be_ref(other) and _may_be_label(label)):
        return None
    found = vault.refs.read(label_ref(other, label))
    remote, slash, branch = other.partition("/")
    if found is None and slash:
        found = vault.refs.read(f"{REMOTE_STATE}{remote}/checkpoints/{branch}/{label_ref_name(label)}")
    return found


def _may_be_label(name: str) -> bool:
    return bool(name) and name.isprintable() and len(label_ref_name(name)) <= 240


def _resolve_base(vault: OpenVault, name: str, fork: str | None) -> Oid | None:
    if not name or "\0" in name or "\n" in name or ".." in name:
        return None
    if name in ("HEAD", "@"):
        return vault.read_head(fork) if fork is not None else None
    labelled = _find_label(vault, name, fork)
    if labelled is not None:
        return labelled
    known = find_by_whole_id(vault, name)
    if known is not None:
        return known
    if _may_be_ref(name):
        for prefix in (HEADS, REMOTES, "refs/tags/"):  # a tag that came from anywhere hides no branch of a remote
            found = vault.refs.read(prefix + name)
            if found is not None:
                return peel_to_commit(vault, found)
        if name.startswith("refs/"):
            found = vault.refs.read(name)
            if found is not None:
                return peel_to_commit(vault, found)
    if _HEX.fullmatch(name):
        return _resolve_id(vault, name.lower())
    return None


def peel_to_commit(vault: OpenVault, oid: Oid) -> Oid:
    """Follow annotated tags to what they name."""
    for _ in range(10):
        kind, data = vault.store.read(oid)
        if kind == KIND_COMMIT:
            return oid
        first = data.split(b"\n", 1)[0]
        if not first.startswith(b"object "):
            break
        oid = oid_of(first[7:47])
    raise CheckpointNotFound(oid.hex(), vault=vault.name)


def _may_be_ref(name: str) -> bool:
    parts = name.split("/")
    return (
        bool(name)
        and not re.search(r"[\x00-\x20\x7f~^:?*\[\\]|@\{", name)
        and all(part and not part.startswith(".") and not part.endswith(".lock") for part in parts)
    )


def find_by_whole_id(vault: OpenVault, name: str) -> Oid | None:
    """Find a commit by its whole id; None if it is not here.

    As to git, it is that commit, also where a branch or a tag has that name.
    """
    return _resolve_id(vault, name.lower()) if len(name) == _ID_LENGTH and _HEX.fullmatch(name) else None


def _resolve_id(vault: OpenVault, prefix: str) -> Oid | None:
    if len(prefix) == _ID_LENGTH:  # nothing to look for, only to look at
        oid = oid_of(prefix)
        return oid if vault.store.exists(oid) and vault.store.header(oid)[0] == KIND_COMMIT else None
    found = [oid for oid in vault.store.find_by_prefix(prefix) if vault.store.header(oid)[0] == KIND_COMMIT]
    if len(found) > 1:
        raise AmbiguousName(prefix)
    return found[0] if found else None


def find_label(vault: OpenVault, fork: str, label: str) -> Oid:
    """Find the commit of a label.

    Raises:
        InvalidName: If it can be none.
    """
    check_label(label)
    oid = vault.refs.read(label_ref(fork, label))
    if oid is None:
        raise _not_found(vault, label, fork)
    return oid


def delete_label(vault: OpenVault, fork: str, label: str) -> Checkpoint:
    """Take a label away; its commit stays reachable, so that it can be undone.

    Raises:
        HostError: If the disk refuses; the label is there, unless the error says otherwise.
    """
    ref, oid = label_ref(fork, label), find_label(vault, fork, label)
    described = vault.describe(oid, fork=fork)
    vault.prepare()
    moves: list[RefMoveRecord] = [(ref, oid.hex(), None)]
    record = OpRecord(0, fork, "checkpoint_delete", f"delete checkpoint {label}", vault.clock_ns(), moves=moves)
    vault.move_refs([*vault.hold(oid), RefChange(ref, oid, None)], record)
    return described

"""Cloning: a vault from another repository.

Decided here: what of a clone that git made becomes the vault: its objects, its tags, its branches as those of the
remote `origin`, and one of them as the first fork. Nothing of its configuration or hooks does. Called without a lock.

A crash leaves no vault or a whole one (`workspace.creation.atomic`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

from avfs_git.errors import HostError, InvalidName, NoUpstream, ObjectCorrupt, ObjectMissing, RemoteDataRefused
from avfs_git.faults import reach
from avfs_git.gitstore.formats.packedrefs import format_packed
from avfs_git.gitstore.formats.trees import MODE_GITLINK, MODE_TREE
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.refs.refs import RefStore
from avfs_git.gitstore.remote import remotes, transport
from avfs_git.gitstore.remote.runner import NO_ACCESS, Access
from avfs_git.gitstore.repository import init_vault_repo, read_head
from avfs_git.host.files.durable import host_errors, sync_file_system, write_file_atomically
from avfs_git.host.files.removal import remove_tree
from avfs_git.model import Warning
from avfs_git.paths import Oid, check_fork_name
from avfs_git.progress import Progress
from avfs_git.values import value_class
from avfs_git.workspace.creation.atomic import vault_made
from avfs_git.workspace.creation.carry import carry_over
from avfs_git.workspace.exchange.remotes import (
    ORIGIN,
    TAGS,
    bring_rules,
    fetch,
    find_unusable,
    server_words,
    tracking_ref,
)
from avfs_git.workspace.vault.format import HEADS, REMOTES, VaultLayout
from avfs_git.workspace.vault.vault import Caller, OpenVault


@value_class
class Cloned:
    """What cloning a vault gave."""

    fork: str
    head: Oid | None
    branches: int
    messages: tuple[str, ...]
    warnings: tuple[Warning, ...]


def clone_vault(
    git_dir: Path,
    url: str,
    *,
    branch: str | None = None,
    with_checkpoints: bool = False,
    with_sidecar: bool = False,
    with_git_dirs: bool = False,
    lazy: bool = False,
    access: Access = NO_ACCESS,
    progress: Progress | None = None,
    identity: Caller | None = None,
    clock_ns: Callable[[], int] = time.time_ns,
) -> Cloned:
    """Make a vault from another repository, which it knows as `origin`.

    Raises:
        VaultExists: If something is there.
        InvalidInput: If the address cannot be used.
        NoUpstream: If the remote has no such branch.
        RemoteError: If the exchange fails; nothing is left behind.
    """
    checked = remotes.check_url(url, base=Path.cwd())
    if branch is not None:
        check_fork_name(branch)
    with vault_made(git_dir) as making:
        messages = transport.clone_into(checked, making, access=access, progress=progress, lazy=lazy)
        cloned = _adopt_clone(making, checked, branch, lazy=lazy)
        carry_over(None, making, access.environment)
        if lazy:
            _bring_rules(making, access)
        if with_checkpoints or with_sidecar or with_git_dirs:
            with closing(OpenVault(making, identity=identity, clock_ns=clock_ns)) as vault:
                fetched = fetch(
                    vault,
                    ORIGIN,
                    with_checkpoints=with_checkpoints,
                    with_sidecar=with_sidecar,
                    with_git_dirs=with_git_dirs,
                    access=access,
                    progress=progress,
                )
                cloned[3].extend(fetched.warnings)
        sync_file_system(making)
    fork, head, branches, warnings = cloned
    return Cloned(fork, head, branches, server_words(messages), tuple(warnings))


def _bring_rules(making: Path, access: Access) -> None:
    """Bring the ignore and attribute files of each branch."""
    with closing(OpenVault(making, remote_environment=access.environment)) as vault:
        bring_rules(vault.store, list(vault.refs.list(REMOTES).values()))


def _adopt_clone(
    making: Path, url: str, branch: str | None, *, lazy: bool
) -> tuple[str, Oid | None, int, list[Warning]]:
    """Make a vault of a bare clone: our configuration, its branches as a remote's, one of them as the first fork."""
    found = RefStore(making, recover=False).list("refs/")
    head = read_head(making)[0] or f"{HEADS}main"
    shallow = making / "shallow"
    fresh = making.with_name(f"{making.name}.fresh")
    try:
        init_vault_repo(fresh, remote=(ORIGIN, url), lazy=lazy)
        with host_errors(f"make '{making}'"):
            VaultLayout(fresh).prepare()  # what it will hold is judged
            if lazy:
                (fresh / "avfs" / "lazy").write_bytes(b"")
            for name in ("objects", *(["shallow"] if shallow.exists() else [])):
                place = fresh / name
                if place.is_dir():
                    remove_tree(place)
                (making / name).rename(place)
            reach("clone.parts_moved")
            remove_tree(making)
            reach("clone.old_removed")
            for name in ("objects/info", "objects/pack"):
                (fresh / name).mkdir(exist_ok=True)
            fresh.rename(making)
    except BaseException:
        with suppress(OSError, HostError):
            remove_tree(fresh)
        raise
    try:
        with ObjectStore(making) as store:
            return _choose_refs(making, store, found, head, branch, lazy=lazy)
    except (ObjectMissing, ObjectCorrupt) as error:
        raise RemoteDataRefused(remotes.hide_secret(url), error.message) from error


def _choose_refs(
    making: Path, store: ObjectStore, found: dict[str, Oid], head: str, branch: str | None, *, lazy: bool
) -> tuple[str, Oid | None, int, list[Warning]]:
    """Write the refs that a clone begins with."""
    warnings: list[Warning] = []
    kept: dict[str, Oid] = {}
    heads: dict[str, Oid] = {}
    for ref, oid in found.items():
        name = tracking_ref(ORIGIN, ref) if ref.startswith(HEADS) else ref
        if ref.startswith((HEADS, TAGS)):
            reason = find_unusable(store, name, oid)
            if reason is not None:
                warnings.append(reason)
                continue
            kept[name] = oid
            if ref.startswith(HEADS):
                heads[ref.removeprefix(HEADS)] = oid
    if branch is not None and branch not in heads:
        raise NoUpstream(branch, ORIGIN)
    fork = branch or _first_fork(head.removeprefix(HEADS), heads)
    first = heads.get(fork)
    if first is not None:
        kept[HEADS + fork] = first
        if _has_content(store, store.read_commit(first).tree) and lazy:
            warnings.append(
                Warning("clone.not_lazy", "the remote does not leave contents out: all of them were brought")
            )
    write_file_atomically(making / "packed-refs", format_packed(kept))
    write_file_atomically(making / "HEAD", b"ref: " + os.fsencode(HEADS + fork) + b"\n")
    return fork, first, len(heads), warnings


def _has_content(store: ObjectStore, tree: Oid) -> bool | None:
    """Tell whether the first content that a tree names is here, as servers leave out all or none.

    Return None if it names none.
    """
    pending, seen = [tree], {tree}
    while pending:
        below: list[Oid] = []
        for mode, oid in store.read_tree(pending.pop()).values():
            if mode not in (MODE_TREE, MODE_GITLINK):
                return store.exists(oid)
            if mode == MODE_TREE and oid not in seen:
                seen.add(oid)
                below.append(oid)
        pending += reversed(below)
    return None


def _first_fork(head: str, heads: dict[str, Oid]) -> str:
    """Choose the branch that becomes the first fork: the remote's own, if a fork can have its name."""
    for name in (head, "main", "master", *heads):
        if name in heads or not heads:
            with suppress(InvalidName):
                return check_fork_name(name)
    return "main"

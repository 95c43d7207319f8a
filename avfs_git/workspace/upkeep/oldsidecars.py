"""Forgetting the sidecars of old checkpoints: ignored files that only a restore of them would bring back.

Decided here: which sidecars go, and how the chain of a fork's sidecars lets go of them. `garbage` calls this, and only
if its caller wants it: by default a sidecar stays as long as its checkpoint. A checkpoint whose sidecar is forgotten is
like a commit of git's: a restore of it leaves ignored files as they are.

What a ref, an operation that can be undone, a workspace or a session names keeps its sidecar, however old it is.

Each sidecar commit has the one before it as its parent, so that the newest keeps them all. A chain with an old sidecar
is made anew, of copies of the needed ones, under the lock of its fork; a fork that another process has is left for the
next time. A sidecar that something names by its own id, such as that which a fork began with, stays with all before it
until nothing names it.

The order of steps: the new chain gets a ref that keeps it, then `avfs/commits` says whose sidecar each copy is, then
the ref of the fork moves to it. A crash leaves the old chain, and the new one with what it keeps. Last, `avfs/commits`
forgets which sidecars went. A commit that a ref, an operation or a session names by then keeps its sidecar: these are
read before and after that, because nothing keeps another process from naming a commit meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field

from avfs_git.errors import (
    CheckpointNotFound,
    ForkNotFound,
    ObjectMissing,
    RefConflict,
    RefLocked,
    WorkspaceBusy,
    WorkspaceMounted,
)
from avfs_git.faults import reach
from avfs_git.gitstore.formats.packfile import KIND_COMMIT, KIND_TAG
from avfs_git.gitstore.holding import objects_held
from avfs_git.gitstore.objects.owncommits import find_named, list_sidecars, stand_for
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.host.files.durable import host_errors
from avfs_git.host.locks.locks import LookingLock
from avfs_git.paths import Oid
from avfs_git.workspace.opened.workspace import OpenWorkspace
from avfs_git.workspace.restore.recovery import recover
from avfs_git.workspace.vault.format import KEPT, SIDECARS
from avfs_git.workspace.vault.revisions import peel_to_commit
from avfs_git.workspace.vault.vault import OpenVault


@dataclass(slots=True)
class Chain:
    """The sidecars of a fork, of which some may go."""

    fork: str
    head: Oid
    tip: Oid
    members: set[Oid]
    staying: dict[Oid, list[Oid]] = field(default_factory=dict)
    """The needed ones, which are copied, the oldest first, each with the commits that have it."""


def find_chains(
    vault: OpenVault, sidecars: Mapping[Oid, Oid], staying: Collection[Oid], named: Collection[Oid], before_ns: int
) -> list[Chain]:
    """Find the forks that have sidecars which may go. Reads every commit of their chains.

    Args:
        vault: Where.
        sidecars: The sidecar of each commit that something reaches.
        staying: The commits whose sidecar stays.
        named: What something names by its id.
        before_ns: Younger sidecars stay, in nanoseconds since the epoch.
    """
    owners: dict[Oid, list[Oid]] = {}
    for commit, sidecar in sidecars.items():
        if commit in staying:
            owners.setdefault(sidecar, []).append(commit)
    chains: list[Chain] = []
    taken: set[Oid] = set()
    """What is in a chain already: that of a fork goes on in the one of the fork that it was made from."""
    for fork, head in vault.list_heads().items():
        tip = vault.read_sidecar_ref(fork)
        if tip is None:
            continue
        members = list_sidecars(vault.store.read, [tip], lambda _: False)
        if not any(
            oid not in owners and oid not in named and oid != tip and commit.committer.when_s * 10**9 < before_ns
            for oid, commit in members.items()
        ):
            continue
        chain = Chain(fork, head, tip, set(members))
        for oid in reversed(members):
            if oid == tip or (oid in owners and oid not in named and oid not in taken):
                chain.staying[oid] = owners.get(oid, [])
        taken |= chain.staying.keys()
        chains.append(chain)
    return chains


def find_oldest_sidecar_ns(vault: OpenVault) -> int | None:
    """Find the time of the oldest sidecar that a later one of its fork keeps; None if all have gone.

    Reads all chains.
    """
    times: list[int] = []
    for fork in vault.list_heads():
        if (tip := vault.read_sidecar_ref(fork)) is not None:
            chain = list_sidecars(vault.store.read, [tip], lambda _: False)
            times += [commit.committer.when_s * 10**9 for oid, commit in chain.items() if oid != tip]
    return min(times, default=None)


def peel_all(vault: OpenVault, oids: Iterable[Oid]) -> set[Oid]:
    """Find the commits that refs and logs name; what stands for none, or is not here, is left out."""
    found: set[Oid] = set()
    for oid in oids:
        if vault.store.exists(oid) and vault.store.header(oid)[0] in {KIND_COMMIT, KIND_TAG}:
            with suppress(CheckpointNotFound, ObjectMissing):  # a tag of a tree, or of what a partial clone lacks
                found.add(peel_to_commit(vault, oid))
    return found


def is_shown(vault: OpenVault, fork: str) -> bool:
    """Whether a session has the workspace of a fork, so that its chain is not made anew. Takes no lock."""
    with (
        host_errors(f"read the lock of workspace '{fork}'"),
        closing(LookingLock(vault.layout.workspace(fork).lock)) as lock,
    ):
        return lock.session is not None


def shorten(vault: OpenVault, chain: Chain) -> bool:
    """Make the chain of a fork anew; False if another process has the fork, or has moved its branch meanwhile.

    Raises:
        AvfsError: If the fork is damaged, or the disk refuses. The old chain is there.
    """
    with (
        suppress(ForkNotFound, WorkspaceBusy, WorkspaceMounted, RefConflict, RefLocked),
        closing(OpenWorkspace(vault, chain.fork, recover=recover)) as opened,
        opened.locked(is_patient=False),
        PackWriter(vault.store) as pack,
    ):
        found = vault.read_head(chain.fork), vault.read_sidecar_ref(chain.fork)
        if found != (chain.head, chain.tip):
            return False
        newest: Oid | None = None
        noted: dict[Oid, Oid | None] = {}
        for oid, commits in chain.staying.items():
            parents = () if newest is None else (newest,)
            named = [each for commit in commits if (each := find_named(vault.store.read, commit)) is not None]
            newest = pack.add_commit(stand_for(vault.store.read_commit(oid), named or [oid], parents))
            noted |= dict.fromkeys(commits, newest)
        if newest is None or newest == chain.tip:
            return False
        pack.finish(hold=True)
        keeping = vault.hold(newest)
        vault.refs.update(keeping)
        reach("gc.chain_kept")
        vault.store.own_commits.add(noted)
        reach("gc.chain_noted")
        moved = RefChange(SIDECARS + chain.fork, chain.tip, newest, lasting=True)
        vault.refs.update([moved, RefChange(KEPT + newest.hex(), newest, None)])
        pack.release()
        reach("gc.chain_moved")
        return True
    return False


def forget(vault: OpenVault, forgotten: Mapping[Oid, Oid], list_named: Callable[[], Collection[Oid]]) -> dict[Oid, Oid]:
    """Note that commits have no sidecar; give the ones of which that is so. What `list_named` gives keeps its own."""

    def hold_named(commits: Mapping[Oid, Oid]) -> dict[Oid, Oid]:
        named = list_named()
        found = {oid: sidecar for oid, sidecar in commits.items() if oid in named or sidecar in named}
        vault.refs.update(vault.hold(*found.values()))
        return found

    if not forgotten:
        return {}
    own = vault.store.own_commits
    with objects_held(vault.git_dir):
        spared = hold_named(forgotten)
        going = {oid: sidecar for oid, sidecar in forgotten.items() if oid not in spared and own.find(oid) == sidecar}
        reach("gc.sidecars_spared")
        own.add(dict.fromkeys(going))
        reach("gc.sidecars_forgotten")
        spared = hold_named(going)
        own.add(spared)
    return {oid: sidecar for oid, sidecar in going.items() if oid not in spared}

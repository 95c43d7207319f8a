"""Sidecars that another repository made, which a fetch brings on request (`--with-sidecar`).

Decided here: which of the fetched commits they count for, and what of them does not come in. A sidecar counts for the
commits of the branches and labels of the same remote that name it, and for no others: a commit of another remote that
names it has none. A sidecar says what a git tree cannot, so it is looked at before it counts:

- set-user-id and set-group-id bits are taken away, and so is every extended attribute that is not a program's own
  (`user.*` without `user.overlay.*`);
- a directory with a `.git` below it is left out, unless that was asked for: its configuration and hooks run programs
  when git runs there;
- what is no sidecar is refused as a whole.

A push sends the sidecar of the nearest checkpoint, from a fork's head on, as a commit of its own (`pack_named`) without
those before it, and only if the fork still has what that holds (`find_pushed`): no server gets what the fork has no
more. The commit's header `avfs-stands-for` says which sidecar the checkpoint names. The copies that a gc makes of old
sidecars have such headers, too.

What has to change becomes a sidecar of this vault, which counts in place of the one that the commit names. Called by
`workspace.exchange.remotes` when the objects are here and before refs move; a crash in between leaves noted commits
that no ref names. Costs what differs from the sidecars that counted before.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress

from avfs_git.errors import AvfsError, ObjectCorrupt, name_some, quote
from avfs_git.gitstore.formats.commits import Commit
from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.formats.trees import MODE_TREE, is_forbidden_name
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.objects.owncommits import (
    find_commits,
    find_named,
    list_sidecars,
    list_stood_for,
    stand_for,
)
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.source import ObjectSink
from avfs_git.model import Warning
from avfs_git.paths import ROOT, Oid, TreePath, join, show_path
from avfs_git.values import replace
from avfs_git.vfs.layer.sidecar import (
    Meta,
    Record,
    compose_sidecar,
    format_record,
    parse_record,
    parse_records,
    parse_sidecar,
    serialize_records,
)
from avfs_git.workspace.sidecars.kept import are_alike, find_kept, note_moves
from avfs_git.workspace.vault.origin import find_naming
from avfs_git.workspace.vault.vault import OpenVault

_DEEPEST = 400
"""So many directories may lie in each other."""
_META_MAX = 16 << 20
"""So many bytes may say the attributes of one directory."""
_CHAIN_MAX = 10_000
"""So many sidecars are taken at a time, the newest first: what a remote calls a sidecar may lead to any history."""
_SET_ID = 0o6000
# A record that has four digits of permissions or attributes; most have neither.
_ODD = re.compile(rb"(?:\A|\0)[^ \0]+ (?:[0-7]*[0-7]{4} |[0-7-]+ (?!- ))")


class _Cleaner:
    """Makes sidecar trees harmless. Each distinct tree is looked at once."""

    def __init__(self, sink: ObjectSink, *, with_git_dirs: bool) -> None:
        self._sink = sink
        self._with_git_dirs = with_git_dirs
        self._known: dict[Oid, Oid | None] = {}
        self.git_dirs: list[TreePath] = []
        self.attributes: list[TreePath] = []

    def clean(self, oid: Oid, before: Oid | None, path: TreePath = ROOT, depth: int = 0) -> Oid | None:
        """Make a sidecar tree harmless, given a harmless one; None if nothing is left of it.

        Raises:
            ObjectCorrupt, HostileTree: If it is no sidecar.
            ObjectMissing: If a part of it has not come.
        """
        if oid == before:
            return oid
        if oid not in self._known:
            if depth > _DEEPEST:
                raise ObjectCorrupt(oid.hex(), f"it lies more than {_DEEPEST} directories deep in a sidecar")
            self._known[oid] = self._clean(oid, before, path, depth)
        return self._known[oid]

    def _clean(self, oid: Oid, before: Oid | None, path: TreePath, depth: int) -> Oid | None:
        children, meta = parse_sidecar(self._sink.read_tree(oid), oid)
        old = parse_sidecar(self._sink.read_tree(before), before)[0] if before is not None else {}
        if not self._with_git_dirs:
            repositories = [name for name in children if is_forbidden_name(name)]
            if repositories:
                self.git_dirs += [join(path, name) for name in repositories]
                if path != ROOT:  # the files beside it are the repository's, and in no history
                    return None
                for name in repositories:
                    del children[name]
        left = {}
        for name, child in children.items():
            if child.mode == MODE_TREE:
                there = old.get(name)
                known = there.oid if there is not None and there.mode == MODE_TREE else None
                cleaned = self.clean(child.oid, known, join(path, name), depth + 1)
                if cleaned is None:
                    continue
                child = child._replace(oid=cleaned)  # noqa: PLW2901 - the same child
            left[name] = child
        entries = compose_sidecar(left, self._clean_records(meta, path))
        if not entries and path != ROOT and not children and meta is None:
            return oid  # an empty directory
        return self._sink.add_tree(entries) if entries else None

    def _clean_records(self, meta: Oid | None, path: TreePath) -> Oid | None:
        if meta is None:
            return None
        if self._sink.blob_size(meta) > _META_MAX:
            raise ObjectCorrupt(meta.hex(), "it is too large for the metadata of a sidecar")
        data = self._sink.read_blob(meta)
        records = parse_records(data, meta)
        if _ODD.search(data) is None:
            return meta
        cleaned = {name: self._clean_record(record, meta) for name, record in records.items()}
        if cleaned == records:
            return meta
        self.attributes += [join(path, name) for name, record in records.items() if cleaned[name] != record]
        return self._sink.add(KIND_BLOB, serialize_records(cleaned), keep=True)

    @staticmethod
    def _clean_record(record: Record, meta: Oid) -> Record:
        said = parse_record(record, meta)
        mode = said.mode & ~_SET_ID if said.mode is not None else None
        xattrs = tuple(
            pair for pair in said.xattrs if pair[0].startswith(b"user.") and not pair[0].startswith(b"user.overlay.")
        )
        return (
            record if (mode, xattrs) == (said.mode, said.xattrs) else format_record(Meta(said.mtime_ns, mode, xattrs))
        )


def find_pushed(vault: OpenVault, fork: str, head: Oid) -> Oid | None:
    """Find the checkpoint whose sidecar is pushed with a fork: its head, or the nearest below commits of git's.

    None without one, or if what that names is not what the fork has: it is another fork's after a fast-forward, and
    what has been taken away since where git has left a newer checkpoint. What is not here counts for the fork's.
    """
    note_moves(vault, fork)
    naming = find_naming(vault, head)
    if naming is None:
        return None
    named, in_header = vault.store.read_commit(naming).sidecar, find_named(vault.store.read, naming)
    if named is None:  # where it is here, git has copied the header from a checkpoint
        return naming if in_header is None or not vault.store.exists(in_header) else None
    own, stood_for = vault.store.own_commits, list_stood_for(vault.store.read_commit(named))
    if (
        in_header is not None
        and in_header not in (named, *stood_for)
        and own.has(in_header)
        and own.find(in_header) is None
    ):
        return None  # git has amended what was a fast-forward: the header names what another fork had
    kept = find_kept(vault, fork, head)
    return naming if kept is None or are_alike(vault, named, kept.sidecar) else None


def pack_named(vault: OpenVault, naming: Oid, pack: PackWriter) -> Oid | None:
    """Make a sidecar commit without a history that holds what the one of a checkpoint does.

    The newest sidecar of the fork may be of a commit that was undone. The same state makes the same commit. None if
    the vault lacks it, or where a fetch has left something out: the server has all that another vault has pushed.
    """
    named = vault.store.read_commit(naming).sidecar
    if named is None:
        return None
    commit = vault.store.read_commit(named)
    in_header = find_named(vault.store.read, naming)
    if in_header not in (None, named, *list_stood_for(commit)):
        return None
    return pack.add_commit(
        stand_for(commit, [in_header] if in_header is not None else list_stood_for(commit) or [named], ())
    )


def list_left_out(vault: OpenVault, fetched: Oid) -> list[TreePath]:
    """List the repositories of a fetched sidecar that were left out here; what is pushed in its place has none."""
    counts = vault.store.own_commits.find(fetched)
    if counts is None or counts == fetched:
        return []
    found = []
    for oid in (fetched, counts):
        cleaner = _Cleaner(DryWriter(vault.store), with_git_dirs=False)
        cleaner.clean(vault.store.read_commit(oid).tree, None)
        found.append(cleaner.git_dirs)
    return [] if found[1] else found[0]


def accept_sidecars(
    vault: OpenVault, remote: str, tips: Collection[Oid], sidecars: AbstractSet[Oid], *, with_git_dirs: bool
) -> list[Warning]:
    """Have the sidecars that a fetch has brought count for the commits of the same remote that name them.

    `tips` and `sidecars` are the remote's. `with_git_dirs` also takes directories with a `.git`, and directories that
    an earlier fetch left out.

    Raises:
        HostError: If the disk refuses; nothing counts then that did not before.
    """
    own = vault.store.own_commits
    read = vault.store.read

    def is_known(oid: Oid) -> bool:
        # This vault's own sidecars stand for themselves; a sidecar that counts already names its replacement, which gc
        # takes with the last ref of the remote.
        counts = own.find(oid)
        return own.has(oid) and (counts is None or (not with_git_dirs and vault.store.exists(counts)))

    chain = list_sidecars(read, sidecars, is_known, limit=_CHAIN_MAX)
    warnings: list[Warning] = []
    with PackWriter(vault.store) as pack:
        cleaner = _Cleaner(pack, with_git_dirs=with_git_dirs)
        counts = {oid: found for oid in sidecars if (found := own.find(oid)) is not None}
        counts |= _accept_chain(vault, pack, cleaner, chain, remote, warnings)
        known = {oid: chain[oid] if oid in chain else vault.store.read_commit(oid) for oid in counts}
        for oid, commit in list(known.items()):
            for stands_for in list_stood_for(commit):
                if stands_for not in known and not own.has(stands_for):  # what is known stands for itself
                    known[stands_for], counts[stands_for] = commit, counts[oid]
        named = find_commits(read, tips, known)
        noted = {
            oid: counts[sidecar] for oid, sidecar in named.items() if own.find(oid) not in {sidecar, counts[sidecar]}
        }
        made = {counts[oid] for oid in chain if oid in counts and counts[oid] != oid}
        pack.finish(hold=True)
        own.add({**{oid: counts[oid] for oid in chain if oid in counts}, **noted})
        above = {parent for oid in made for parent in vault.store.read_commit(oid).parents}
        vault.refs.update(vault.hold(*(made - above)))
    if cleaner.git_dirs:
        what = f"{_count(cleaner.git_dirs)} of {quote(remote)} left out with the files beside it"
        text = f"{what}: its hooks and settings run programs; `--with-git-dirs` brings it"
        warnings.append(Warning("fetch.git_dirs_left_out", text, cleaner.git_dirs[0]))
    if cleaner.attributes:
        text = f"set-id bits or system attributes of {_count(cleaner.attributes)} of {quote(remote)} left out"
        warnings.append(Warning("fetch.attributes_left_out", text, cleaner.attributes[0]))
    return warnings


def _count(paths: list[TreePath]) -> str:
    return name_some(list(map(show_path, paths)), 1)


def _accept_chain(
    vault: OpenVault,
    pack: PackWriter,
    cleaner: _Cleaner,
    chain: Mapping[Oid, Commit],
    remote: str,
    warnings: list[Warning],
) -> dict[Oid, Oid]:
    """Make sidecars harmless; map the id of each to that of its replacement.

    Commits that are no sidecars are left out.
    """
    own = vault.store.own_commits
    counts: dict[Oid, Oid] = {}
    refused: list[str] = []

    def in_place_of(oid: Oid) -> Oid | None:
        return counts.get(oid) or own.find(oid) or (oid if oid not in chain and own.has(oid) else None)

    for oid in _oldest_first(chain):
        commit = chain[oid]
        parents = [held for parent in commit.parents if (held := in_place_of(parent)) is not None]
        before = None
        if parents and parents[0] in commit.parents:  # a parent that was harmless as it came
            with suppress(AvfsError):
                before = pack.read_commit(parents[0]).tree
        try:
            tree = cleaner.clean(commit.tree, before)
        except AvfsError as error:
            refused.append(error.message)
            continue
        if tree == commit.tree:
            counts[oid] = oid
        elif tree is not None:
            made = replace(commit, tree=tree, parents=tuple(parents), extra=(), sidecar=None)
            counts[oid] = pack.add_commit(made)
    if refused:
        more = f", and {len(refused) - 1} more" if len(refused) > 1 else ""
        warnings.append(
            Warning("fetch.sidecar_refused", f"a sidecar of {quote(remote)} is refused: {refused[0]}{more}")
        )
    return counts


def _oldest_first(chain: Mapping[Oid, Commit]) -> list[Oid]:
    """Put commits in an order in which each comes after its parents."""
    order: dict[Oid, None] = {}
    for tip in chain:
        waiting: list[tuple[Oid, bool]] = [(tip, False)]
        while waiting:
            oid, is_done = waiting.pop()
            if is_done:
                order[oid] = None
            elif oid in chain and oid not in order:
                waiting.append((oid, True))
                waiting += [(parent, False) for parent in chain[oid].parents]
    return list(order)

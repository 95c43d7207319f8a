"""The history of a fork: its checkpoints, its log, and the versions of one path.

Decided here: which commits of a branch count as checkpoints of a fork, and how versions are numbered. Reads
only; walks no further than it was asked to.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

from avfs_git.errors import CheckpointNotFound, PathNotFound, PathUnsuitable, RefDamaged, quote
from avfs_git.gitstore.bounds import visit_once
from avfs_git.gitstore.compare import walk as commits
from avfs_git.gitstore.compare.treediff import diff_trees, sizes_here
from avfs_git.gitstore.formats.commits import Commit
from avfs_git.gitstore.formats.trees import MODE_GITLINK, MODE_TREE
from avfs_git.gitstore.repository import read_shallow
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import ChangedFile, Checkpoint, CheckpointDetails, Identity, LogEntry, PathVersion, Warning
from avfs_git.paths import Oid, PathLike, TreePath, at_most, label_of_ref_name, list_given, oid_of, parse_tree_paths
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.sidecar import SideEntry, parse_sidecar
from avfs_git.workspace.checkpoint.bookkeeping import TRAILER, is_bookkeeping, is_of_session
from avfs_git.workspace.vault.format import label_ref
from avfs_git.workspace.vault.gitmoves import list_made_inside
from avfs_git.workspace.vault.origin import find_beside
from avfs_git.workspace.vault.revisions import resolve_revision
from avfs_git.workspace.vault.states import tree_of
from avfs_git.workspace.vault.vault import OpenVault


def list_checkpoints(vault: OpenVault, fork: str, *, limit: int) -> tuple[list[Checkpoint], tuple[Warning, ...]]:
    """List the checkpoints of a fork, newest first: commits by avfs or by git in the live tree, and labelled ones.

    Returns:
        The checkpoints, and a warning for each label of which it is not known what it stands for.
    """
    limit, head = at_most(limit), vault.read_head(fork)
    labels, damaged = _read_labels(vault, fork)
    found: list[Checkpoint] = []
    seen: set[Oid] = set()
    if head is not None:
        labelled = set(labels.values())
        made = list_made_inside(vault, fork)
        # Below avfs's own commits only labels are looked for, and none is older than its commit.
        oldest_s = min((vault.store.read_commit(oid).committer.when_s for oid in labelled), default=0)
        for oid, commit in commits.first_parents(vault.store, head, read_shallow(vault.git_dir)):
            if commit.sidecar is None and oid not in labelled and oid not in made:
                if not labelled - seen or commit.committer.when_s < oldest_s:
                    break
                continue
            seen.add(oid)
            found.append(vault.describe(oid, fork=fork, labels=labels))
            if len(found) >= limit:
                return found[:limit], damaged
    # Labels whose commits have left the branch, as after an undo.
    rest = sorted({oid for oid in labels.values() if oid not in seen})
    found += [vault.describe(oid, fork=fork, labels=labels) for oid in rest]
    return found[:limit], damaged


def _read_labels(vault: OpenVault, fork: str) -> tuple[dict[str, Oid], tuple[Warning, ...]]:
    """Read the labels of a fork, and tell of each whose ref is damaged or whose commit is missing."""
    labels, prefix = vault.list_labels(fork), label_ref(fork, "")
    bad = {
        label_of_ref_name(ref.removeprefix(prefix)): RefDamaged(ref, reason)
        for ref, reason in vault.refs.list_damaged(prefix).items()
    }
    for label, oid in labels.items():
        if not vault.store.exists(oid):
            bad[label] = RefDamaged(label_ref(fork, label), f"it names {oid.hex()}, which is missing")
    warnings = (
        Warning("label.damaged", f"the label {quote(label)} is not listed: {error.message}; `avfs doctor` tells more")
        for label, error in sorted(bad.items())
    )
    return {label: oid for label, oid in labels.items() if label not in bad}, tuple(warnings)


def _tree_before(vault: OpenVault, oid: Oid, commit: Commit) -> Oid | None:
    """Find the tree of a commit's first parent; None without a parent, or if a shallow clone left it behind."""
    if not commit.parents or oid in read_shallow(vault.git_dir):
        return None
    return vault.store.read_commit(commit.parents[0]).tree


def describe_checkpoint(vault: OpenVault, name: str, *, fork: str | None) -> CheckpointDetails:
    """Describe a checkpoint and count what it holds. Costs its whole tree."""
    oid = resolve_revision(vault, name, fork=fork)
    commit = vault.store.read_commit(oid)
    files, size = _count_tree(vault.store, commit.tree)
    sidecar = vault.sidecar_tree(commit)
    parent = _tree_before(vault, oid, commit)
    return CheckpointDetails(
        checkpoint=vault.describe(oid, fork=fork),
        files=files,
        total_size=size,
        sidecar_files=_count_sidecar(vault.store, sidecar) if sidecar is not None else 0,
        changed_files=tuple(diff_trees(vault.store, parent, commit.tree, size_of=sizes_here(vault.store))),
    )


def _count_tree(source: ObjectSource, tree: Oid) -> tuple[int, int]:
    """Count the files of a tree, and their bytes."""
    sizes: dict[Oid, tuple[int, int]] = {}

    def add(oid: Oid, below: Sequence[Oid]) -> None:
        files = [entry for mode, entry in source.read_tree(oid).values() if mode not in (MODE_TREE, MODE_GITLINK)]
        held = [(len(files), sum(map(source.blob_size, files))), *(sizes[child] for child in below)]
        sizes[oid] = sum(count for count, _ in held), sum(size for _, size in held)

    visit_once(tree, lambda oid: [entry for mode, entry in source.read_tree(oid).values() if mode == MODE_TREE], add)
    return sizes[tree]


def _count_sidecar(source: ObjectSource, tree: Oid) -> int:
    counts: dict[Oid, int] = {}

    def list_entries(oid: Oid) -> Iterable[SideEntry]:
        return parse_sidecar(source.read_tree(oid), oid)[0].values()

    def add(oid: Oid, below: Sequence[Oid]) -> None:
        counts[oid] = sum(entry.mode != MODE_TREE for entry in list_entries(oid)) + sum(
            counts[child] for child in below
        )

    visit_once(
        tree, lambda oid: [entry.oid for entry in list_entries(oid) if entry.mode == MODE_TREE and entry.untracked], add
    )
    return counts[tree]


def read_log(
    vault: OpenVault,
    rev: str,
    *,
    fork: str | None,
    limit: int = 50,
    with_files: bool = False,
    with_bookkeeping: bool = True,
    session: str | None = None,
    paths: Sequence[PathLike] = (),
) -> list[LogEntry]:
    """List the commits that lead to a state, newest first; with paths, only those commits that changed one of them."""
    paths, limit, head = list_given(paths), at_most(limit), resolve_revision(vault, rev, fork=fork)
    labels = vault.list_labels(fork) if fork else {}
    entries = []

    def is_wanted(commit: Commit) -> bool:
        if not with_bookkeeping and is_bookkeeping(commit.message):
            return False
        return session is None or is_of_session(commit.message, session)

    found: Iterable[tuple[Oid, Commit]]
    if paths:
        from avfs_git.gitstore.compare.gitlog import list_touching  # noqa: PLC0415 - running git is slow to load

        listed = list_touching(vault.git_dir, head, parse_tree_paths(paths))
        touching = ((oid, vault.store.read_commit(oid)) for oid in listed)
        found = islice((pair for pair in touching if is_wanted(pair[1])), limit)
    else:
        found = commits.log(vault.store, [head], limit, shallow=read_shallow(vault.git_dir), only_if=is_wanted)
    for oid, commit in found:
        changed: tuple[ChangedFile, ...] = ()
        if with_files:
            parent = _tree_before(vault, oid, commit)
            changed = tuple(diff_trees(vault.store, parent, commit.tree, size_of=sizes_here(vault.store)))
        entries.append(LogEntry(vault.describe(oid, fork=fork, labels=labels), changed))
    return entries


def draw_log(
    vault: OpenVault,
    head: Oid,
    *,
    paths: Sequence[TreePath] = (),
    limit: int = 50,
    form: str | None = None,
    shown: Sequence[str] = (),
    with_bookkeeping: bool = True,
    color: bool = False,
) -> bytes:
    """Draw the history that leads to a state as `git log` does.

    Raises:
        InvalidInput: If git has no such format.
        PathNotFound: If no commit changed any of the paths.
        PathUnsuitable: If the first of them is beside history.
        GitFailed: If git cannot read what it needs, such as the old contents of a partial clone.
    """
    from avfs_git.gitstore.compare import gitlog  # noqa: PLC0415 - running git is slow to load

    left_out = None if with_bookkeeping else f"^{TRAILER}$"
    text = gitlog.draw_log(
        vault.git_dir, head, paths, limit=at_most(limit), form=form, shown=shown, left_out=left_out, color=color
    )
    if not text and paths and not gitlog.list_touching(vault.git_dir, head, paths):
        raise refuse_path(vault, head, paths[0], "HEAD")
    return text


def list_path_versions(vault: OpenVault, fork: str, path: TreePath, *, limit: int | None = None) -> list[PathVersion]:
    """List the states that a path had in the history of a fork, newest first; the oldest is number 1.

    Raises:
        PathNotFound: If it never was there.
        PathUnsuitable: If it is beside history.
    """
    head = vault.read_head(fork)
    if head is None:
        raise CheckpointNotFound("HEAD", vault=vault.name, fork=fork)
    found = commits.path_versions(vault.store, head, path, shallow=read_shallow(vault.git_dir))
    if not found:
        raise refuse_path(vault, head, path, "HEAD")
    total = len(found)
    shown = found if limit is None else found[: at_most(limit)]
    return [
        PathVersion(
            number=total - at,
            checkpoint=oid.hex(),
            message=commit.message.rstrip("\n"),
            author=Identity(commit.author.name, commit.author.email),
            created_at_ns=commit.committer.when_s * 1_000_000_000,
            change=_with_size(vault, change),
        )
        for at, (oid, commit, change) in enumerate(shown)
    ]


def refuse_path(vault: OpenVault, at: Oid, path: TreePath, state: str) -> PathNotFound | PathUnsuitable:
    """Make the error for a path of which history has nothing: checkpoints may hold versions beside it."""
    last = find_beside(vault, at)
    beside = vault.store.read_commit(last.sidecar).tree if last is not None and last.sidecar is not None else None
    if LowerTree(vault.store, None, beside, default_mtime_ns=0).lookup(path) is None:
        return PathNotFound(b"/" + path, state=state)
    error = PathUnsuitable(b"/" + path, "is beside history: it is ignored or not known to git")
    words = f"{shlex.quote(os.fsdecode(path))} --at LABEL"
    error.hint = f"`avfs cat {words}` shows it as a checkpoint has it, and `avfs checkout {words}` brings that back."
    return error


def _with_size(vault: OpenVault, change: ChangedFile) -> ChangedFile:
    if change.new_oid is None or change.new_mode in (MODE_TREE, MODE_GITLINK):
        return change
    return replace(change, size=sizes_here(vault.store)(oid_of(change.new_oid)))


def find_version(vault: OpenVault, fork: str, path: TreePath, number: int) -> PathVersion:
    """Find one version of a path by its number.

    Raises:
        PathUnsuitable: If it has no such version.
    """
    versions = list_path_versions(vault, fork, path)
    for version in versions:
        if version.number == number:
            return version
    raise PathUnsuitable(path, f"has no version {number}; it has 1 to {len(versions)}")


def stream_past(vault: OpenVault, name: str, path: TreePath, *, fork: str | None) -> Iterator[bytes]:
    """Read a file as it is in a state, what only its sidecar holds included. Links are not followed.

    Raises:
        PathNotFound: If nothing is at the path in that state.
        PathUnsuitable: If it is no file there.
    """
    commit = vault.store.read_commit(resolve_revision(vault, name, fork=fork))
    tree = tree_of(commit)  # which need not be stored
    lower = LowerTree(
        vault.store, tree, vault.sidecar_tree(commit), default_mtime_ns=commit.committer.when_s * 1_000_000_000
    )
    entry = lower.lookup(path)
    if entry is None:
        raise PathNotFound(b"/" + path, state=name)
    if entry.kind != "file":
        raise PathUnsuitable(b"/" + path, "is a directory" if entry.is_dir else "is no file")
    return lower.stream(entry)

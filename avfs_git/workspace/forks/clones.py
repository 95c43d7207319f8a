"""Forks of the present state of a clone, or of any directory: the vault that goes with it, and what each takes over.

Decided here: how a directory is tied to a vault of its own (`avfs/origin` in the vault names it), and that its branches
are remote ones there: the vault's own branches are the forks that were made, and `git push origin FORK` in one hands it
to the clone. The clone is only read. Its objects are linked, never copied where the file system allows it, and no git
runs on it.

A fork of a clone begins with the clone's commit as its branch. What is not committed there is not committed in the fork
either: the lower layer is a commit of its own that no branch holds, with the present state as its tree. The order of
steps is that of `workspace.forks.forks`: the objects, then the refs with their line in the log.

A fork that is mounted is forked in the same way, as one more fork in its vault: nothing is saved in it first.

Callers hold no lock; two calls for one directory at the same time are kept apart by the vault's name and the lock of
the fork's.
"""

from __future__ import annotations

import os
import re
import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from avfs_git.errors import ForkExists, NotAVault, ObjectMissing
from avfs_git.gitstore.config.gitconfig import edit_config, read_config
from avfs_git.gitstore.foreign.filemodes import AS_SHOWN, FileModes, read_file_modes
from avfs_git.gitstore.foreign.takeover import import_as_remote
from avfs_git.gitstore.formats.commits import Commit
from avfs_git.gitstore.formats.trees import find_entry
from avfs_git.gitstore.holding import objects_held
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.refs.refs import RefStore
from avfs_git.gitstore.remote.remotes import hide_secret
from avfs_git.gitstore.repository import common_dir, find_git_dir, init_vault_repo, is_bare, read_head
from avfs_git.host.files.durable import write_file_atomically
from avfs_git.host.processes.boot import read_boot_id
from avfs_git.model import ChangedFile, Identity, Warning
from avfs_git.paths import ROOT, Oid, TreePath, check_fork_name, maybe_hex, maybe_oid, show_path
from avfs_git.patterns import compiled
from avfs_git.values import NamedTuple
from avfs_git.vfs.layer.sidecar import META_NAME, SELF, edit_sidecar, find_record
from avfs_git.workspace.capture.captured import Captured
from avfs_git.workspace.capture.sidecardiff import diff_sidecars, list_added_files
from avfs_git.workspace.checkpoint.bookkeeping import bookkeeping, is_unasked
from avfs_git.workspace.checkpoint.conversions import warn_of_conversions
from avfs_git.workspace.checkpoint.staged import list_staged
from avfs_git.workspace.creation.atomic import vault_made
from avfs_git.workspace.creation.carry import carry_over
from avfs_git.workspace.creation.create import (
    add_present,
    capture_directory,
    describe_git,
    look_at_git,
)
from avfs_git.workspace.creation.lookback import Lookback
from avfs_git.workspace.forks.forks import check_room, record_fork
from avfs_git.workspace.opened.vaultroom import check_not_full
from avfs_git.workspace.sidecars.kept import find_kept
from avfs_git.workspace.vault import gitmoves
from avfs_git.workspace.vault.format import HEADS, LABELS, REMOTES, VaultLayout, WorkspaceState, label_ref
from avfs_git.workspace.vault.identity import find_making
from avfs_git.workspace.vault.log.oprecord import OF_FORKS
from avfs_git.workspace.vault.origin import Beside, peek_state
from avfs_git.workspace.vault.vault import OpenVault

REMOTE = "origin"
_OF_DIRECTORY = "of_directory"
"""In the line of the log that makes a fork: it was made of what a directory showed."""
_MADE_FOR = "made_for"
"""In the same line: the program that asked for the fork, and that ends it."""
_UNFINISHED = {
    "rebase-merge": "rebase",
    "rebase-apply": "rebase",
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
}
"""What stands in a git directory while git waits to continue an operation."""
_OF_HISTORY = compiled(
    rb"(.+)/\.git/(?:(?:modules|worktrees)/.+/)?(?:HEAD|packed-refs|reftable/.*|refs/(?!remotes/).*)\Z", re.DOTALL
)
"""Where a repository inside a fork says which commits it has, beside those of its remotes."""
_OF_LOOKING = compiled(rb"/\.git/index\Z")
"""What git writes in a repository inside a fork at a mere look."""
_READS, _GIT_WAIT_S = 3, 5.0
_LEFT_AFTER_S = 30.0
"""A lock as old as that counts as left by a killed git, or as kept by git for longer than avfs waits."""
"""How often a clone is read in which git works meanwhile, and how long git is waited for."""


class _Present(NamedTuple):
    """What a directory holds."""

    head: Oid | None
    upstream: str | None
    tracked: Oid | None
    modes: FileModes
    captured: Captured
    lookback: Lookback | None


def find_top(directory: Path) -> Path:
    """Find the working tree that a directory is in; the directory itself if it is in none."""
    here = directory.resolve()
    for place in (here, *here.parents):
        if (place / ".git").exists() and find_git_dir(place) is not None:
            return place
    return here


def find_remote(git_dir: Path) -> str | None:
    """Name the remote of a vault that stands for the clone that it was made of; None if it was made of no clone."""
    return (
        REMOTE
        if VaultLayout(git_dir).read_origin() is not None and f"remote.{REMOTE}.url" in read_config(git_dir)
        else None
    )


def make_vault_of(git_dir: Path, source: Path, branch: str) -> None:
    """Make an empty vault for the forks of a directory. Its default fork is `branch`.

    Raises:
        VaultExists: If something is there.
    """
    with vault_made(git_dir) as making:
        init_vault_repo(
            making, head=HEADS + branch, remote=(REMOTE, source) if find_git_dir(source) is not None else None
        )
        layout = VaultLayout(making)
        layout.prepare()
        write_file_atomically(layout.origin, os.fsencode(source) + b"\0")


def fork_present(
    vault: OpenVault,
    name: str,
    source: Path,
    *,
    parent: str | None = None,
    author: Identity | None = None,
    made_for: str | None = None,
) -> list[Warning]:
    """Make a fork of a directory's present state: its commit, and all that is not committed, ignored files included.

    `parent` is the vault's fork that is mounted there, if the directory is such a mount; `made_for` is what
    `find_maker` tells.

    Returns:
        What could not be taken along.

    Raises:
        ForkExists: If the name is taken; for a program, which hands its branch to the clone, also by a branch of the
            clone.
        InvalidName: If git has no branch of that name beside those of other forks.
        NotAVault, FormatUnsupported: If the directory is a repository that cannot be read safely.
        RefDamaged: If the branch that is checked out there does not say at which commit it is.
    """
    check_fork_name(name)
    check_not_full(vault)
    vault.prepare()
    _check_free(vault, name)
    if made_for is not None and _is_branch_of_clone(vault, name):
        raise ForkExists(name)
    with objects_held(vault.git_dir):  # what is linked here is as old as it is there, and no ref names it yet
        return _take_present(vault, name, source, parent, author, made_for)


def _take_present(
    vault: OpenVault, name: str, source: Path, parent: str | None, author: Identity | None, made_for: str | None
) -> list[Warning]:
    git_dir = find_git_dir(source)
    if parent is None and git_dir is not None and (git_dir == source or is_bare(git_dir)):
        raise _has_no_files(source, git_dir)
    with PackWriter(vault.store) as pack:

        def read() -> _Present:
            return _read_present(vault, pack, source, git_dir, parent)

        (head, upstream, tracked, modes, captured, lookback), is_torn = (
            _read_between(git_dir, read) if git_dir is not None else (read(), False)
        )
        if lookback is not None:
            lookback.keep(pack, captured)
        if head is None and git_dir is not None:  # a first commit would have what was never added
            signature, text = vault.signature(), bookkeeping("empty: before the first commit")
            head = pack.add_commit(Commit(pack.add_tree({}), (), signature, signature, text))
        base, sidecar = add_present(vault, pack, name, captured, head, f"present state of {source.name}")
        pack.finish(hold=True)
        state = WorkspaceState(
            fork=name,
            base=base.hex(),
            sidecar=maybe_hex(sidecar),
            parent=parent,
            upstream=upstream,
            forked_at=(head or base).hex(),
            author=[author.name, author.email] if author is not None else None,
            boot=read_boot_id(),
        )
        more = {_OF_DIRECTORY: True} | ({_MADE_FOR: made_for} if made_for is not None else {})
        record_fork(
            vault,
            state,
            f"fork {name} from {source.name}",
            more,
            check=partial(_check_free, vault, name),
            sidecar=sidecar,
        )
        first = vault.head_fork()
        if first is not None and vault.read_head(first) is None:
            vault.refs.set_head(HEADS + name)
        if lookback is not None:
            lookback.note(captured)
    place = git_dir or vault.git_dir
    converted = warn_of_conversions(vault.store, tracked, captured.tree, place, by_default=not modes.shows_lines)
    warnings = [*captured.warnings, *converted]
    if git_dir is not None and parent is None:
        warnings += _settle_remote(vault)
        if vault.refs.read(f"{REMOTES}{REMOTE}/{name}") not in (None, head):
            text = f"the clone has a branch '{name}' at another commit: a push of the fork is one to that branch"
            warnings.append(Warning("fork.branch_of_clone", text))
    if is_torn and git_dir is not None:
        warnings.append(Warning("fork.source_changing", describe_git(source, git_dir)))
    if git_dir is not None and (verb := _find_unfinished(git_dir)) is not None:
        text = f"a {verb} is in progress in '{source}': the fork has its files as they are, and is not in it"
        warnings.append(Warning("fork.unfinished", text))
    return warnings


def _read_present(
    vault: OpenVault, pack: PackWriter, source: Path, git_dir: Path | None, parent: str | None
) -> _Present:
    head = upstream = None
    modes = AS_SHOWN
    if parent is not None:  # its commits are here already
        head = vault.read_head(parent)
    elif git_dir is not None:
        branch, head = read_head(git_dir)  # first: a commit that git makes meanwhile may not come along
        import_as_remote(git_dir, vault.git_dir, vault.refs, REMOTE)
        carry_over(source, vault.git_dir, vault.remote_environment or {})
        modes = read_file_modes(source, git_dir, vault.remote_environment or {}, vault.store.read_tree)
        if branch is not None and branch.startswith(HEADS):
            upstream = f"{REMOTE}/{branch.removeprefix(HEADS)}"
    tracked = vault.store.read_commit(head).tree if head is not None else None
    # What is known of the directory that the vault was made for says nothing of a fork, and is to stay.
    lookback = Lookback(vault, git_dir, tracked, modes) if parent is None else None
    captured = capture_directory(vault, pack, source, tracked, modes, lookback=lookback)
    if parent is not None and head is not None:
        captured.sidecar = _with_root_of(vault, pack, captured.sidecar, find_kept(vault, parent, head))
    return _Present(head, upstream, tracked, modes, captured, lookback)


def _settle_remote(vault: OpenVault) -> list[Warning]:
    """Give the vault its remote for the clone again, where a program has removed it; warn where it leads elsewhere.

    All live trees of a vault have its configuration in common.
    """
    clone = vault.layout.read_origin()
    settings, key = read_config(vault.git_dir), f"remote.{REMOTE}."
    urls = settings.get(f"{key}pushurl") or settings.get(f"{key}url")
    if clone is None:
        return []
    if urls is None:
        spec = f"+refs/heads/*:refs/remotes/{REMOTE}/*"
        edit_config(vault.git_dir, ("--add", f"{key}url", os.fspath(clone)), ("--add", f"{key}fetch", spec))
    others = [url for url in urls or () if url != os.fspath(clone)]  # git pushes to each
    if not others:
        return []
    text = f"'{REMOTE}' is '{hide_secret(others[-1])}' here, not the clone: what is pushed goes there"
    return [Warning("fork.other_origin", text)]


def _with_root_of(vault: OpenVault, pack: PackWriter, sidecar: Oid | None, parent: Beside | None) -> Oid | None:
    """Give a state that was read in a live tree its fork's record of the root: a mount may be closed to other users."""
    beside = parent.sidecar if parent is not None else None
    held = vault.store.read_tree(vault.store.read_commit(beside).tree).get(META_NAME) if beside is not None else None
    record = find_record(vault.store.read_blob(held[1]), SELF, held[1]) if held is not None else None
    return edit_sidecar(pack, sidecar, {ROOT: {SELF: record}})


def _read_between(git_dir: Path, read: Callable[[], _Present]) -> tuple[_Present, bool]:
    """Read what a clone holds before or after what git does there; tell whether git is at work in it all the same.

    git holds `index.lock` while it changes files. What it did within the read is seen by HEAD and the index.
    """
    lock = git_dir / "index.lock"
    for tries_left in reversed(range(_READS)):
        end_s = time.monotonic() + _GIT_WAIT_S
        while (is_locked := lock.exists()) and time.monotonic() < end_s and not _is_left(lock):
            time.sleep(0.02)
        before = look_at_git(git_dir)
        try:
            found = read()
        except ObjectMissing:  # the index may name what has come since the objects did
            if tries_left and look_at_git(git_dir) != before:
                continue
            raise
        if is_locked:  # git was killed there, or works on for long
            break
        if look_at_git(git_dir) == before and not lock.exists():
            return found, False
    return found, True


def _is_left(lock: Path) -> bool:
    with suppress(FileNotFoundError):
        return time.time() - lock.stat().st_mtime > _LEFT_AFTER_S
    return False


def _has_no_files(source: Path, git_dir: Path) -> NotAVault:
    """Make the error for a repository without a working tree: it holds git's own files, and no state of anything."""
    refused = NotAVault(str(source), "it is a bare repository, without files of its own to fork")
    create = f"avfs vault create NAME --from {shlex.quote(str(git_dir))}"
    refused.hint = f"Make a vault of its history with `{create}`, or fork a working tree of it."
    return refused


def _find_unfinished(git_dir: Path) -> str | None:
    """Tell what git is in the middle of in a clone."""
    return next((verb for name, verb in _UNFINISHED.items() if (git_dir / name).exists()), None)


def _check_free(vault: OpenVault, name: str) -> None:
    if vault.read_head(name) is not None:
        mount = f"avfs --vault {shlex.quote(vault.name)} mount {shlex.quote(name)} DIR"
        hint = f"Mount it with `{mount}`, or name the new one with `--branch NAME`."
        raise ForkExists(name, hint=hint)
    check_room(vault, name)


def _is_branch_of_clone(vault: OpenVault, name: str) -> bool:
    source = vault.layout.read_origin()
    git_dir = find_git_dir(source) if source is not None else None
    return git_dir is not None and RefStore(common_dir(git_dir), recover=False).read(HEADS + name) is not None


def is_of_directory(vault: OpenVault, fork: str) -> bool:
    """Tell whether a fork was made of what a directory showed."""
    if vault.layout.read_origin() is not None:
        return True
    made = find_making(vault, fork, allow_newer=True)
    return made is not None and made.more.get(_OF_DIRECTORY) is True


def find_maker(vault: OpenVault, fork: str) -> str | None:
    """Tell which program a fork was made for; None if that is not known, or if the fork was deleted since."""
    made = find_making(vault, fork)
    last = next((record for record in vault.oplog.read_fork(fork) if record.kind in OF_FORKS), None)
    found = made.more.get(_MADE_FOR) if made is not None and last is not None and last.id == made.id else None
    return found if isinstance(found, str) else None


def is_untouched(vault: OpenVault, fork: str) -> bool:
    """Tell whether a fork saved just now holds what the directory held when it was forked, and nothing else.

    A commit that was asked for, or a label, is something else.
    """
    state = peek_state(vault, fork)
    head = vault.read_head(fork)
    if state is None or state.forked_at is None or head is None or vault.list_labels(fork):
        return False
    here, first = vault.store.read_commit(head), _find_first_trees(vault, fork)
    # also where the head stands: what was not committed there can have been taken out
    if first is None or here.tree != first[0]:
        return False
    return head.hex() == state.forked_at or (
        [parent.hex() for parent in here.parents] == [state.forked_at]
        and is_unasked(here.message)
        and all(_OF_LOOKING.search(one.path) for one in diff_sidecars(vault.store, first[1], vault.sidecar_tree(here)))
    )


def list_left_in_git(vault: OpenVault, fork: str) -> tuple[str, ...]:
    """Name branches, tags, stash entries and index entries with work that git in the fork's live tree put there."""
    state = peek_state(vault, fork)
    found = gitmoves.list_left_in_git(vault, fork, (state.created_at_ns or 0) if state is not None else 0)
    return (*found, *(f":{show_path(path)}" for path in list_staged(vault, fork)))


def _find_first_trees(vault: OpenVault, fork: str) -> tuple[Oid, Oid | None] | None:
    """Find the tree on which a fork was made, and that of what was beside it; None if they are not known any more.

    A fold moves the base of the fork's state.
    """
    made = find_making(vault, fork, allow_newer=True)
    base, sidecar = (maybe_oid(made.more.get(key)) if made is not None else None for key in ("base", "sidecar"))
    if base is None or not all(vault.store.exists(oid) for oid in (base, sidecar) if oid is not None):
        return None
    return vault.store.read_commit(base).tree, vault.store.read_commit(sidecar).tree if sidecar is not None else None


def is_pushed(vault: OpenVault, fork: str) -> bool:
    """Tell whether the clone a vault belongs to has a fork's commits: one of its refs holds the fork's head.

    A checkpoint that was not asked for and adds nothing to the tree of the commit before it does not count: what it has
    is in its sidecar, which is never pushed (`list_only_beside`). But it is the only work of a fork that has no other
    commit, and where a repository in the fork is new or has moved on, it is not known where its commits are.
    """
    source = vault.layout.read_origin()
    git_dir = find_git_dir(source) if source is not None else None
    head = vault.read_head(fork)
    if git_dir is None or head is None:
        return False
    pushed = set(RefStore(common_dir(git_dir), recover=False).list("refs/").values())
    state, last, labelled = peek_state(vault, fork), head, set(vault.list_labels(fork).values())
    while head not in pushed:
        commit = vault.store.read_commit(head)
        if (
            commit.sidecar is None
            or head in labelled
            or not is_unasked(commit.message)
            or len(commit.parents) != 1
            or vault.store.read_commit(commit.parents[0]).tree != commit.tree
        ):
            return False
        head = commit.parents[0]
    if head != last and state is not None and head.hex() == state.forked_at:
        return False
    return not list_moved_inside(vault, fork)


def list_moved_inside(vault: OpenVault, fork: str) -> tuple[TreePath, ...]:
    """List the repositories inside a fork that are new or have other commits or branches than when it was made.

    Called with the fork's last state saved. All of them count as new where that first state is not known any more.
    """
    changes = _diff_beside(vault, fork)
    found = (_OF_HISTORY.match(one.path) for change in changes for one in list_added_files(vault.store, change))
    return tuple(TreePath(path) for path in sorted({match[1] for match in found if match is not None}))


def list_only_beside(vault: OpenVault, fork: str) -> tuple[TreePath, ...]:
    """List the files that git ignores or does not know, and that a fork has in another state than its directory had.

    Those are in no push. Called with the fork's last state saved. What git itself writes is left out.
    """
    first, found = _find_first_trees(vault, fork), list[TreePath]()
    for change in _diff_beside(vault, fork):
        if change.new_oid is None or change.new_oid == change.old_oid:
            continue
        # the first tree has what git neither ignored nor had committed in the directory
        tree = first[0] if first is not None and find_entry(vault.store, first[0], TreePath(change.path)) else None
        for one in list_added_files(vault.store, change):
            path = TreePath(one.path)
            was = find_entry(vault.store, tree, path) if tree is not None else None
            if (was is None or was[1].hex() != one.new_oid) and b".git" not in path.split(b"/")[:-1]:
                found.append(path)
    return tuple(found)


def list_labels_only_here(vault: OpenVault, fork: str) -> tuple[str, ...]:
    """List the labels of a fork that the clone a vault belongs to does not have: a push brings none unless asked."""
    source = vault.layout.read_origin()
    git_dir = find_git_dir(source) if source is not None else None
    there = RefStore(common_dir(git_dir), recover=False).list(LABELS) if git_dir is not None else {}
    labels = vault.list_labels(fork).items()
    return tuple(label for label, oid in sorted(labels) if there.get(label_ref(fork, label)) != oid)


def _diff_beside(vault: OpenVault, fork: str) -> list[ChangedFile]:
    """Compare what a saved fork has beside its tree with what it had there when it was made."""
    head = vault.read_head(fork)
    if head is None:
        return []
    kept = find_kept(vault, fork, head)
    now = vault.store.read_commit(kept.sidecar).tree if kept is not None and kept.sidecar is not None else None
    first = _find_first_trees(vault, fork)
    return diff_sidecars(vault.store, first[1] if first is not None else None, now)

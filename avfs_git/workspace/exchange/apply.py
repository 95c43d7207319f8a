"""Laying what a fork has changed on a directory of the user's own, as unstaged edits.

Decided here: what counts as a change of the fork, and when nothing may be written. A path may be written if the
directory holds there what the fork began with, or what an earlier `apply` wrote (`exchange.applied`); a path that holds
what the fork has now is done already; anything else is a change of the user's own, and then no path is written. What
the directory's own commits have changed since, and the fork has merged, counts as what it began with. What an earlier
`apply` wrote and the fork has taken back since, is taken back in the directory, too, where that still has it. Where the
fork began with something uncommitted that no commit of the fork has, or its workspace has changes that are uncommitted,
the branch does not tell what the fork made of that: such a path is left as it is. So is a file that is gone from the
fork's history and that the fork still has beside it, ignored: the fork has not removed it. What git leaves out of a
sparse checkout counts as there, with the content that the index names. What an earlier `apply` wrote may be the user's
own by now, by their commits (`leave_out_own`). Only files are touched: the index, the hooks and the branches of a
repository that the directory belongs to stay as they are, and no git runs.

Called without a lock; reads commits only. `exchange.userfiles` writes the files, and says what a failure or a crash
leaves. The same command then completes the rest.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

from avfs_git.errors import ApplyConflict, InvalidInput, NotAVault, ObjectMissing, PathNotFound, name_some, quote
from avfs_git.gitstore.compare.treediff import Entry, changed_file, diff_trees, sizes_here
from avfs_git.gitstore.formats.fullindex import INDEX_MAX, read_full_index
from avfs_git.gitstore.formats.index import BadIndex
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_FILE, MODE_GITLINK, MODE_SYMLINK, MODE_TREE, find_entry
from avfs_git.gitstore.merge.bases import list_commits
from avfs_git.gitstore.repofile import read_plain_file
from avfs_git.gitstore.repository import find_git_dir
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import host_errors
from avfs_git.model import ApplyResult, ChangedFile, Warning
from avfs_git.paths import ROOT, Oid, TreePath, climb, maybe_oid, oid_of, show_path, split
from avfs_git.vfs.layer.lower import LowerTree, read_target
from avfs_git.workspace.exchange.applied import (
    Held,
    Merged,
    Written,
    Wrote,
    diff_parent,
    find_merged,
    leave_out_own,
    note_applied,
    read_applied,
)
from avfs_git.workspace.exchange.outgoing import log_apply
from avfs_git.workspace.exchange.shown import Recorded, Shown
from avfs_git.workspace.exchange.source import check_source, find_origin
from avfs_git.workspace.exchange.userfiles import held_of, list_left, look, write_changes
from avfs_git.workspace.sidecars.kept import find_kept
from avfs_git.workspace.vault.gitmoves import had_files, open_worktree
from avfs_git.workspace.vault.identity import find_making
from avfs_git.workspace.vault.revisions import resolve_revision
from avfs_git.workspace.vault.vault import OpenVault


def apply_fork(
    vault: OpenVault,
    fork: str,
    directory: Path,
    *,
    since: str | None = None,
    uncommitted: AbstractSet[TreePath] | None = frozenset(),
    paths: Sequence[TreePath] = (),
    dry_run: bool = False,
    ask: Callable[[Sequence[ChangedFile]], None] | None = None,
    show: Callable[[], LowerTree | None] = lambda: None,
) -> ApplyResult:
    """Write what a fork's checkpoints have changed into a directory.

    Changes are counted from `since`, by default from what the fork began with. `uncommitted` are the paths at which the
    fork's workspace differs from its branch; None if that is not known. `show` shows that workspace as it is, if it can
    be known; it is called where the fork's history lacks a file. `ask` is called before anything is written, and may
    raise.

    Raises:
        ForkNotFound, CheckpointNotFound, PathNotFound: If there is no such fork, state or path, or no checkpoint.
        ApplyConflict: If the directory has changes of its own there; nothing was written.
        ObjectCorrupt: If no link can have the target that the fork has for one; nothing was written.
        CloneReplaced: If the directory is that of the vault's forks, and another repository is there now.
        InvalidInput: If the directory lies inside the source of the vault, or it is not known what the fork began with.
        HostError: If the directory cannot be read or written.
    """
    _check_top(vault, directory)
    check_source(vault.git_dir, vault.name, Path(os.path.realpath(directory)))
    head = resolve_revision(vault, "HEAD", fork=fork)
    start, below = (resolve_revision(vault, since, fork=fork), None) if since is not None else _beginning(vault, fork)
    merged = find_merged(vault, directory, below, head) if below is not None else Merged()
    applied = read_applied(vault, fork, directory)
    known = leave_out_own(vault, applied, merged, head) if since is None else {}
    old, new = vault.store.read_commit(start), vault.store.read_commit(head)
    for path in paths:
        is_known = any(find_entry(vault.store, commit.tree, path) for commit in (old, new))
        if not is_known and not any(one == path or one.startswith(path + b"/") for one in applied):
            raise PathNotFound(path)
    wanted = _list_changes(vault, old.tree, new.tree, merged, paths)
    back = _list_taken_back(vault, new.tree, known, {change.path for change in wanted}, paths)
    pending, unsaved = _list_unsettled(vault, fork, below, old.tree, head, merged, uncommitted)
    gone = [TreePath(one.path) for one in (*wanted, *back) if one.new_oid is None and one.path not in pending]
    sidecar = _find_sidecar_tree(vault, fork, head)
    beside = _list_beside(LowerTree(vault.store, new.tree, sidecar, default_mtime_ns=0), gone, show)
    unsettled = pending | unsaved - beside
    told = [_warn_unsettled(fork, TreePath(change.path)) for change in wanted if change.path in unsettled]
    told += [_warn_beside(fork, sorted(beside))] if beside else []
    stays = unsettled | beside
    wanted, back = ([change for change in listed if change.path not in stays] for listed in (wanted, back))
    shown = Shown(directory, vault.remote_environment or {})
    wanted, back = shown.as_written(wanted), shown.as_written(back)
    left: dict[TreePath, Wrote] = dict(applied)
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    with host_errors(f"write into '{directory}'"), closing_fd(os.open(directory, flags)) as root:
        todo, warnings = _plan(vault, root, directory, shown, wanted, back, known, left, merged)
        if not dry_run:
            if ask is not None:
                ask([change for change, _ in todo])
            try:
                if todo:
                    for one, held in todo:
                        may_be = (held_of(one.new_mode, one.new_oid), held)
                        left[TreePath(one.path)] = _note(applied, TreePath(one.path), may_be, merged)
                    note_applied(vault, fork, directory, left)
                write_changes(vault, root, directory, todo, Recorded(vault.store, sidecar), applied, left)
                log_apply(vault, fork, directory, [change for change, _ in todo])
            finally:
                for change in back:  # there the directory has what the fork began with
                    wrote = left.get(TreePath(change.path))
                    if wrote is not None and wrote.states == (held_of(change.new_mode, change.new_oid),):
                        del left[TreePath(change.path)]
                if left != applied or todo:
                    note_applied(vault, fork, directory, left)
    return ApplyResult(fork, directory, start.hex(), tuple(change for change, _ in todo), (*told, *warnings))


def _plan(
    vault: OpenVault,
    root: int,
    directory: Path,
    shown: Shown,
    wanted: Sequence[ChangedFile],
    back: Sequence[ChangedFile],
    known: Written,
    left: dict[TreePath, Wrote],
    merged: Merged,
) -> tuple[list[tuple[ChangedFile, Held]], list[Warning]]:
    """List what has to be written, with what is there; take out of `left` what the user has brought to that state.

    Raises:
        ApplyConflict: If the directory has changes of its own there.
    """
    todo: list[tuple[ChangedFile, Held]] = []
    own: list[str] = []
    warnings: list[Warning] = []
    left_out: Mapping[bytes, Held] | None = None
    both, committed = [*wanted, *back], merged.paths.intersection(change.path for change in back)
    going = frozenset(change.path for change in both if change.new_oid is None)
    led = {above for change in both if change.new_oid is not None for above in climb(split(TreePath(change.path))[0])}
    for change in both:
        path = TreePath(change.path)
        if MODE_GITLINK in (change.old_mode, change.new_mode):
            text = f"'{show_path(path)}' is a submodule; it was left as it is"
            warnings.append(Warning("apply.submodule", text, path))
            continue
        held, after = look(root, path, going, led), held_of(change.new_mode, change.new_oid)
        counts_as = held
        if held is None and change.old_oid is not None:
            left_out = _list_left_out(vault, directory) if left_out is None else left_out
            counts_as = left_out.get(path)
            if counts_as is not None and after is None:
                text = (
                    f"git leaves '{show_path(path)}' out of the directory, and the fork has removed it; it was "
                    "left as it is"
                )
                warnings.append(Warning("apply.left_out", text, path))
                continue
        if held == after:
            if path in left:
                left[path] = _note(left, path, (after,), merged)
            continue
        before = held_of(change.old_mode, change.old_oid)
        states = known[path].states if path in known else ()
        if not shown.is_any(counts_as, (before,)) and not shown.is_any(held, states):
            if path in committed:  # the fork has there what the directory has committed, and nothing of its own
                continue
            own.append(show_path(path))
        if change.new_mode == MODE_SYMLINK and change.new_oid is not None:
            read_target(vault.store, oid_of(change.new_oid))  # before anything is written
        todo.append((change, held))
    found = list_left(root, [TreePath(change.path) for change in both])
    if own:
        raise ApplyConflict(os.fspath(directory), own, left=[show_path(path) for path in found])
    for path in found:
        text = f"'{show_path(path)}' may hold an edit of yours: an `apply` was killed and left it there"
        warnings.append(Warning("apply.left", text, path))
    return todo, warnings


def _note(before: Written, path: TreePath, states: tuple[Held, ...], merged: Merged) -> Wrote:
    """Note what is at a path; where it is not known what the fork has of the directory's commits, as it was noted."""
    newest = before[path].newest if merged.newest is None and path in before else merged.newest
    return Wrote(states, newest)


def _list_left_out(vault: OpenVault, directory: Path) -> Mapping[bytes, Held]:
    """List a directory's files that git was told to leave out (`skip-worktree`), by its index; empty without one."""
    git_dir = find_git_dir(directory)
    try:
        data = read_plain_file(git_dir / "index", limit=INDEX_MAX) if git_dir is not None else b""
        index = read_full_index(data, git_dir, vault.store.read_tree) if git_dir is not None else None
    except (OSError, NotAVault, BadIndex, ObjectMissing):
        return {}
    entries = [index.entry(number) for number in range(len(index))] if index is not None else []
    return {entry.path: (entry.mode, entry.oid.hex()) for entry in entries if entry.is_left_out}


def _list_changes(vault: OpenVault, old: Oid, new: Oid, merged: Merged, paths: Sequence[TreePath]) -> list[ChangedFile]:
    """List what a fork has changed since it began or, of what it has merged since, what it has changed of that."""
    size_of = sizes_here(vault.store)
    wanted = diff_trees(vault.store, old, new, paths=paths, size_of=size_of)
    if not merged.paths:
        return wanted
    since = diff_trees(vault.store, merged.tree, new, paths=paths, size_of=size_of)
    wanted = [one for one in wanted if one.path not in merged.paths] + [
        one for one in since if one.path in merged.paths
    ]
    return sorted(wanted, key=lambda change: change.path)


def _list_taken_back(
    vault: OpenVault, tree: Oid, known: Written, changed: AbstractSet[bytes], paths: Sequence[TreePath]
) -> list[ChangedFile]:
    """List what an earlier `apply` wrote and the fork, whose tree is given, has as it began with it again."""
    found: list[ChangedFile] = []
    for path, wrote in sorted(known.items()):
        if path in changed or (paths and not any(one in (ROOT, path) or path.startswith(one + b"/") for one in paths)):
            continue
        there = find_entry(vault.store, tree, path)
        entry = there if there is not None and there[0] != MODE_TREE else None
        now = None if entry is None else (entry[0], entry[1].hex())
        for state in wrote.states:
            if state != now:
                old = None if state is None else (state[0], oid_of(state[1]))
                found.append(changed_file(path, old, entry, vault.store.blob_size))
                break
    return found


def _check_top(vault: OpenVault, directory: Path) -> None:
    """Refuse a directory inside the source of the vault: the paths of a fork begin at its top."""
    origin = find_origin(vault.git_dir)
    if origin is None or (directory / ".git").exists():
        return
    top, place = Path(os.path.realpath(origin)), Path(os.path.realpath(directory))
    if top in place.parents:
        hint = f"Name its top: `--to {shlex.quote(os.fspath(top))}`."
        raise InvalidInput(
            f"{quote(os.fspath(directory))} is inside {quote(os.fspath(top))}, which the vault was made of", hint=hint
        )


def _beginning(vault: OpenVault, fork: str) -> tuple[Oid, Oid | None]:
    """Find the commit whose files a fork began with, and the commit at which its branch was then."""
    made = find_making(vault, fork, allow_newer=True)
    base, forked_at = (
        (maybe_oid(made.more.get(fact)) for fact in ("base", "forked_at")) if made is not None else (None, None)
    )
    if base is not None:
        return base, forked_at
    raise InvalidInput(f"nothing says what {quote(fork)} began with", hint="Name a state with `--since`.")


def _list_unsettled(
    vault: OpenVault,
    fork: str,
    below: Oid | None,
    began: Oid,
    head: Oid,
    merged: Merged,
    uncommitted: AbstractSet[TreePath] | None,
) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """List the paths that a fork began with uncommitted and of which its branch does not tell what the fork made.

    First the paths that the workspace may have otherwise than the branch, then all that are in no commit of the fork:
    there it has them as they were before the fork. It has not taken them back; they may be in a stash.
    """
    if below is None:
        return frozenset(), frozenset()
    tree = vault.store.read_commit(below).tree
    mine = {change.path for change in diff_trees(vault.store, tree, began)}
    known = [oid for oid in (below, merged.newest) if oid is not None]
    line = list_commits(vault.store, head, known) if mine else []
    worktree = open_worktree(vault, fork)
    heads = worktree.read_heads() if line and worktree.is_there else []
    # As `git stash` does: then a commit of the same file may have been made beside what was put aside.
    has_reset = any(not had_files(logged) for logged in heads)
    saved = mine if line is None else set()
    for commit in line or ():
        if len(vault.store.read_links(commit).parents) < 2:
            for path, (_, there) in diff_parent(vault, commit).items():
                if path in mine and path not in saved:
                    was, pending = (find_entry(vault.store, each, path) for each in (tree, began))
                    if there != was and (not has_reset or _has_pending(vault, was, pending, there)):
                        saved.add(path)
    return frozenset(mine if uncommitted is None else mine & uncommitted), frozenset(mine - saved)


def _has_pending(vault: OpenVault, was: Entry | None, pending: Entry | None, there: Entry | None) -> bool:
    """Tell whether a committed version has all lines that a pending one had added; true where a file came or went."""
    if was is None or pending is None or there is None or not {was[0], pending[0], there[0]} <= {MODE_FILE, MODE_EXEC}:
        return True
    before, added, after = (set(vault.store.read_blob(entry[1]).splitlines()) for entry in (was, pending, there))
    return added - before <= after


def _find_sidecar_tree(vault: OpenVault, fork: str, head: Oid) -> Oid | None:
    kept = find_kept(vault, fork, head)
    return vault.store.read_commit(kept.sidecar).tree if kept is not None and kept.sidecar is not None else None


def _list_beside(
    recorded: LowerTree, gone: Sequence[TreePath], show: Callable[[], LowerTree | None]
) -> frozenset[TreePath]:
    """List which of the files that are gone from a fork's history the fork still has.

    A commit of git's records nothing of such a file: the workspace as it is has it, ignored or only not added.
    """
    found = frozenset(filter(recorded.has_beside, gone))
    now = show() if len(found) < len(gone) else None
    return found if now is None else found | frozenset(filter(now.has_file, gone))


def _warn_beside(fork: str, paths: Sequence[TreePath]) -> Warning:
    text = (
        f"'{fork}' still has these, in no commit; they were left as they are: {name_some(list(map(show_path, paths)))}"
    )
    return Warning("apply.beside", text, paths[0] if len(paths) == 1 else None)


def _warn_unsettled(fork: str, path: TreePath) -> Warning:
    text = (
        f"'{show_path(path)}' was uncommitted when '{fork}' was made, and no checkpoint there says what became of it; "
        "it was left as it is"
    )
    return Warning("apply.uncommitted", text, path)

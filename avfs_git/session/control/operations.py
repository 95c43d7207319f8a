"""What can be asked of a workspace: one function each, run in this process or, where it is mounted, in its session.

Decided here: what each operation does, and what programs in a live tree see of it meanwhile. Each is a function of an
`OpenWorkspace` and typed arguments; its name and its signature are all that the control socket needs
(`session.control.table`), so that another operation is another function here. `sdk` calls `session.control.client.run`
with one of them, the control thread of a session calls it by name.

Assumed: any number of threads and processes in a workspace that is not served, one at a time in a served one, where
programs change files meanwhile. What must be one moment for them holds the guard of the merged view (`_barrier`): a
comparison reads what it has found, and between saving the last uncommitted work and replacing it no program may write.
Nothing here waits for a program or a client while it holds that.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from avfs_git.errors import CannotUndo, FileChanging, ForkNotFound, InvalidInput, NothingToUndo, quote
from avfs_git.host.files.closing import closing_fd
from avfs_git.lazy import LazyModule
from avfs_git.model import (
    CheckpointResult,
    Diff,
    FileInfo,
    MergeOptions,
    MergeProgress,
    MergeResult,
    MergeStrategy,
    RestoreResult,
    RewriteResult,
    Status,
    TransferResult,
    UndoResult,
    Warning,
)
from avfs_git.paths import Oid, TreePath, maybe_oid, oid_of
from avfs_git.session.control.content import CONTENT_INLINE, Content, check_given, put_aside, read_pieces
from avfs_git.session.control.table import operation
from avfs_git.session.control.wire import Handle
from avfs_git.values import replace
from avfs_git.workspace.capture.requests import CheckpointRequest
from avfs_git.workspace.files.files import Files, file_errors
from avfs_git.workspace.opened.workspace import LockedWorkspace, OpenWorkspace
from avfs_git.workspace.vault.gitmoves import CommandStart
from avfs_git.workspace.vault.log.oprecord import FILES, OF_FORKS, REDO, UNDO
from avfs_git.workspace.vault.states import Lent

if TYPE_CHECKING:
    from avfs_git.workspace import gitdir
    from avfs_git.workspace.checkpoint import changes, checkpoint
    from avfs_git.workspace.files import adding, transfer
    from avfs_git.workspace.forks import forks
    from avfs_git.workspace.history import compare, lent, opdetails, opundo, revert, undo
    from avfs_git.workspace.merge import catchup, merge, mergestate, rewrite
    from avfs_git.workspace.restore import aside, restore
else:
    adding = LazyModule("avfs_git.workspace.files.adding")
    aside = LazyModule("avfs_git.workspace.restore.aside")
    catchup = LazyModule("avfs_git.workspace.merge.catchup")
    changes = LazyModule("avfs_git.workspace.checkpoint.changes")
    checkpoint = LazyModule("avfs_git.workspace.checkpoint.checkpoint")
    compare = LazyModule("avfs_git.workspace.history.compare")
    forks = LazyModule("avfs_git.workspace.forks.forks")
    gitdir = LazyModule("avfs_git.workspace.gitdir")
    lent = LazyModule("avfs_git.workspace.history.lent")
    merge = LazyModule("avfs_git.workspace.merge.merge")
    mergestate = LazyModule("avfs_git.workspace.merge.mergestate")
    opdetails = LazyModule("avfs_git.workspace.history.opdetails")
    opundo = LazyModule("avfs_git.workspace.history.opundo")
    restore = LazyModule("avfs_git.workspace.restore.restore")
    revert = LazyModule("avfs_git.workspace.history.revert")
    rewrite = LazyModule("avfs_git.workspace.merge.rewrite")
    transfer = LazyModule("avfs_git.workspace.files.transfer")
    undo = LazyModule("avfs_git.workspace.history.undo")

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Told = TypeVar("_Told", bound=RestoreResult | MergeResult | RewriteResult | CheckpointResult | UndoResult)


_reading = operation(repeatable=True, changes=False)
_repeatable = operation(repeatable=True)
_once = operation()


def _barrier(opened: OpenWorkspace, going: Collection[TreePath] = ()) -> AbstractContextManager[object]:
    """Keep programs in a live tree waiting for as long as the block runs, also where they open files that are `going`.

    What they have mapped is written out before.
    """
    if opened.flush_pages is not None:
        opened.flush_pages()
        opened.flush_pages = None  # the server, which writes a program's pages, waits, too
    return opened.standstill.held(opened.merged.guard, going) if opened.is_served else contextlib.nullcontext()


def _stops_programs(opened: OpenWorkspace) -> bool:
    """Whether `_barrier` keeps programs waiting: overlayfs lets them go on."""
    return opened.is_served and opened.shown_at is None


@contextlib.contextmanager
def _standstill(
    opened: OpenWorkspace, going: Collection[TreePath] = (), *, others: Sequence[Oid | None] = ()
) -> Iterator[tuple[LockedWorkspace, tuple[Warning, ...]]]:
    """Keep programs in a live tree waiting while the block runs; give what was left out of what was recorded before.

    The block may change what is `going`, and what differs from the commits `others`. This records what is uncommitted
    while programs go on. While they wait, the block reads only what they changed since then.
    """
    with opened.locked() as locked:
        told: tuple[Warning, ...] = ()
        if _stops_programs(opened):
            told = changes.record_changes(locked)
            going = [*going, *changes.list_differing(locked, others)]
        with _barrier(opened, going):
            yield locked, told


def _replace(
    opened: OpenWorkspace,
    action: Callable[[LockedWorkspace], _Told],
    going: Collection[TreePath] = (),
    *,
    others: Sequence[Oid | None] = (),
) -> _Told:
    """Run an action that saves what is uncommitted, and changes files or the branch, at a standstill."""
    with _standstill(opened, going, others=others) as (locked, told):
        result = action(locked)
    return replace(result, warnings=tuple(dict.fromkeys((*told, *result.warnings)))) if told else result


def _compare(opened: OpenWorkspace, action: Callable[[LockedWorkspace], _T]) -> _T:
    """Compare something with the files of a workspace, while programs go on.

    Where they change what is compared, they wait.
    """
    with opened.locked(to_read=True, is_patient=False) as locked:
        with contextlib.suppress(FileChanging):
            return action(locked)
        if not opened.is_served:
            opened.merged.forget_all()  # a command changes the files
        with _barrier(opened):
            return action(locked)


# --- files ------------------------------------------------------------------------------------------------------------


def _on_files(
    name: str, method: Callable[Concatenate[Files, _P], _T], *, repeatable: bool = False, changes: bool = True
) -> Callable[Concatenate[OpenWorkspace, _P], _T]:
    """Enter a method of `Files` as an operation."""

    @functools.wraps(method)
    def operate(opened: OpenWorkspace, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return method(Files(opened), *args, **kwargs)

    operate.__name__ = name
    return operation(repeatable=repeatable, changes=changes)(operate)


read = _on_files("read", Files.read, repeatable=True, changes=False)
read_link = _on_files("read_link", Files.read_link, repeatable=True, changes=False)
exists = _on_files("exists", Files.exists, repeatable=True, changes=False)
describe = _on_files("describe", Files.stat, repeatable=True, changes=False)
list_dir = _on_files("list_dir", Files.list_dir, repeatable=True, changes=False)
describe_tree = _on_files("describe_tree", Files.tree, repeatable=True, changes=False)
read_meta = _on_files("read_meta", Files.read_meta, repeatable=True, changes=False)
make_dir = _on_files("make_dir", Files.make_dir)
copy = _on_files("copy", Files.copy)
move = _on_files("move", Files.move)
touch = _on_files("touch", Files.touch, repeatable=True)
remove = _on_files("remove", Files.remove)
chmod = _on_files("chmod", Files.chmod, repeatable=True)
change_meta = _on_files("change_meta", Files.change_meta)
symlink = _on_files("symlink", Files.symlink)
link = _on_files("link", Files.link)


@_reading
def read_content(opened: OpenWorkspace, path: TreePath) -> Content:
    """Read a file, as an open one if it is large: on a full disk one in memory, which is no reason not to be read."""
    merged = opened.read_view()
    with file_errors(path, "read the workspace"):
        node = merged.resolve(path)
        if not node.is_dir and merged.attributes.getattr(node).size > CONTENT_INLINE:
            try:
                opened_file = merged.contents.open_file(node, os.O_RDONLY)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                return put_aside(merged.contents.stream(node), lambda: os.memfd_create("content"))
            with closing_fd(opened_file) as fd:
                # Opened anew, because others may share the descriptor, and read at another position or write.
                return Content(handle=Handle(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)))
    return Content(data=Files(opened).read(path))


@_once
def write(
    opened: OpenWorkspace,
    path: TreePath,
    content: Content,
    append: bool,
    expect: str | None,
    parents: bool,
    executable: bool | None,
) -> FileInfo:
    """Make a file hold a content."""
    files = Files(opened)
    if content.handle is None:
        return files.write(
            path, content.data or b"", append=append, expect=expect, parents=parents, executable=executable
        )
    pieces = read_pieces(check_given(opened, content.handle))
    return files.write(path, pieces, append=append, expect=expect, parents=parents, executable=executable)


# --- checkpoints ------------------------------------------------------------------------------------------------------


@operation(repeatable=True, flushes=True, changes=False)
def read_status(opened: OpenWorkspace) -> Status:
    """Tell what is not committed."""

    def read(locked: LockedWorkspace) -> Status:
        status = checkpoint.read_status(locked)
        return status if opened.state.merging is None else replace(status, merging=mergestate.read_progress(locked))

    return _compare(opened, read)


@_reading
def follow_settings(opened: OpenWorkspace) -> None:
    """Read the vault's settings again: quotas hold from then on."""
    with opened.locked():
        pass


@operation(repeatable=True, flushes=True)  # its client knows one by its label
def save_checkpoint(
    opened: OpenWorkspace,
    label: str | None = None,
    message: str | None = None,
    description: str | None = None,
    with_files: bool = False,
    keeps_message: bool = False,
    command: CommandStart | None = None,
    skips_unreadable: bool = False,
) -> CheckpointResult:
    """Commit what changed, or record it in the middle of a rebase of git's.

    Writing to disk keeps no program waiting.
    """
    with opened.locked() as locked:
        request = CheckpointRequest(
            label=label,
            message=message,
            description=description,
            with_files=with_files,
            keeps_message=keeps_message,
            command=command,
            skips_unreadable=skips_unreadable,
        )
        return checkpoint.save_or_record(locked, request)


@operation(repeatable=True, flushes=True)
def save_source(opened: OpenWorkspace, message: str, description: str) -> Oid | None:
    """Save what is uncommitted before another fork starts from it; give the commit."""
    return forks.save_source(opened, message, description)


@operation(repeatable=True, flushes=True)
def record_changes(
    opened: OpenWorkspace, description: str | None = None, kind: str = FILES, command: CommandStart | None = None
) -> tuple[Warning, ...]:
    """Record what changed since the workspace was last recorded as one operation; tell what was left out."""
    with opened.locked() as locked:
        return changes.record_changes(locked, description, kind=kind, command=command)


@operation(flushes=True)
def add_paths(opened: OpenWorkspace, paths: Sequence[TreePath], force: bool) -> CheckpointResult:
    """Make a checkpoint that holds what was kept beside history at some paths."""
    return _replace(opened, lambda locked: adding.add_paths(locked, paths, force=force))


@operation(flushes=True)
def restore_state(
    opened: OpenWorkspace,
    target: Oid,
    paths: Sequence[TreePath],
    dry_run: bool,
    name: str,
    kind: str,
    beside: Oid | None = None,
) -> RestoreResult:
    """Bring files to the state of a commit. A dry run takes its ignored files from `beside`, if that is given."""
    if dry_run:
        with opened.locked(to_read=True, is_patient=False) as locked:
            return restore.plan_restore(locked, target, paths=paths, name=name, beside=beside)
    if paths or not _stops_programs(opened):
        return _replace(
            opened, lambda locked: restore.restore_state(locked, target, paths=paths, name=name, kind=kind), paths
        )
    with opened.locked() as locked:  # programs go on while all that is uncommitted is saved
        return restore.restore_state(locked, target, name=name, kind=kind, barrier=functools.partial(_barrier, opened))


@operation(flushes=True)
def revert_path(opened: OpenWorkspace, path: TreePath) -> RestoreResult:
    """Bring one path to the version before its present one."""
    return _replace(opened, lambda locked: revert.revert_path(locked, path), (path,))


@operation(repeatable=True, flushes=True, changes=False)
def diff_workspace(
    opened: OpenWorkspace, old: str | None, paths: Sequence[TreePath], context: int, patches: bool
) -> Diff:
    """Compare a state with the workspace as it is."""
    return _compare(
        opened, lambda locked: compare.diff_workspace(locked, old, paths=paths, context=context, patches=patches)
    )


@operation(repeatable=True, flushes=True, changes=False)
def lend_workspace(opened: OpenWorkspace, contents: bool, ignored: bool) -> tuple[Lent, Content]:
    """Hand over the workspace as it is, with what of it is not stored: its caller looks through it in peace."""

    def take(locked: LockedWorkspace) -> tuple[Lent, Content]:
        found, pieces = lent.lend(locked, contents=contents, ignored=ignored)
        return found, put_aside(pieces)

    return _compare(opened, take)


@operation(flushes=True)
def undo_operation(opened: OpenWorkspace, number: int, dry_run: bool) -> UndoResult:
    """Take back what one operation on this fork did, and keep what was done after it."""
    if dry_run:
        return _compare(opened, lambda locked: opundo.undo_operation(locked, number, dry_run=True))
    states = opdetails.states_of(opundo.find_undone(opened.vault, number))
    return _replace(opened, lambda locked: opundo.undo_operation(locked, number), others=states)


@operation(flushes=True)
def turn(opened: OpenWorkspace, record: int, back: bool, alone: bool = False) -> UndoResult:
    """Take an operation on this fork back, or do it again.

    `record` is the number of the operation, so that it is the one that the caller means. `alone` as in `undo.turn`.

    Raises:
        CannotUndo: If another one is the next by now, or it made or ended the fork.
    """

    def only_this(fork: str) -> OpenWorkspace:
        if fork != opened.fork:
            raise ForkNotFound(fork)
        return opened

    direction = UNDO if back else REDO
    with opened.locked() as locked:
        found = undo.find_next(opened.vault, opened.fork, direction, alone=alone)
        if found is None or found.id != record or found.kind in OF_FORKS:
            raise CannotUndo(found.description if found else "it", "something else was done meanwhile")
        if not back:  # while programs go on; before an undo it is recorded already
            changes.record_changes(locked)
            if undo.find_next(opened.vault, opened.fork, REDO, alone=alone) is None:
                raise NothingToUndo(REDO)
        state = found.before if back else found.after
        others = [oid_of(state)] if found.before and state and _stops_programs(opened) else []
        with _barrier(opened, changes.list_differing(locked, others, with_ignored=True)):
            return undo.turn(opened.vault, opened.fork, direction, only_this, alone=alone)


@operation(repeatable=True, flushes=True)
def adopt_git_moves(opened: OpenWorkspace) -> None:
    """Learn what git has done to the branch in the live tree since avfs last looked."""
    with opened.locked() as locked:
        changes.record_moves(locked)


@operation(repeatable=True)
def renew_git_dir(opened: OpenWorkspace, directory: str) -> bool:
    """Make git's directory of the live tree anew where another program has removed it; tell whether it was gone."""
    return gitdir.GitDir(opened).renew(Path(directory))


# --- merging ----------------------------------------------------------------------------------------------------------


@operation(repeatable=True, flushes=True)
def save_aside(opened: OpenWorkspace) -> Oid | None:
    """Save what is uncommitted as a commit that no branch holds, to try something with it.

    Return None if nothing is uncommitted.

    It stays uncommitted, and the next operation on the fork records it.
    """
    with opened.locked() as locked:
        return maybe_oid(aside.save_aside(locked, "what was uncommitted", marks=False).commit)


@_repeatable
def check_merge(opened: OpenWorkspace, theirs: Oid, options: MergeOptions) -> None:
    """Refuse a merge that cannot be made, before its source is saved. It waits for its turn, as the merge does."""
    with opened.locked() as locked:
        merge.check_merge(locked, theirs, options)


@operation(flushes=True)
def merge_commit(opened: OpenWorkspace, theirs: Oid, options: MergeOptions) -> MergeResult:
    """Merge a commit."""
    return _replace(opened, lambda locked: merge.merge_commit(locked, theirs, options), others=[theirs])


@_repeatable
def find_behind(opened: OpenWorkspace) -> Oid | None:
    """Name the commit that others have put on the fork's branch; None if the workspace has it.

    It waits for its turn.
    """
    with opened.locked() as locked:
        return catchup.find_behind(locked)


@operation(flushes=True)
def catch_up(opened: OpenWorkspace, theirs: Oid, options: MergeOptions) -> MergeResult | None:
    """Merge what others have put on the fork's branch."""
    with _standstill(opened, others=[theirs]) as (locked, told):
        result = catchup.catch_up(locked, theirs, options)
    return (
        replace(result, warnings=merge.join_warnings(told, result.warnings)) if result is not None and told else result
    )


@operation(repeatable=True)
def follow_branch(opened: OpenWorkspace, branch: str, joins: int | None) -> None:
    """Update the fork from another branch of a remote from now on."""
    with opened.locked() as locked:
        catchup.follow_branch(locked, branch, joins)


@operation(repeatable=True, flushes=True, changes=False)
def plan_merge(opened: OpenWorkspace, theirs: Oid, options: MergeOptions) -> MergeResult:
    """Tell what a merge would do."""
    return _compare(opened, lambda locked: merge.plan_merge(locked, theirs, options))


@operation(flushes=True)
def pick_commits(
    opened: OpenWorkspace, picked: Sequence[Oid], strategy: MergeStrategy, in_workspace: bool
) -> RewriteResult:
    """Put what single commits changed onto the fork."""
    pick = functools.partial(rewrite.pick_commits, strategy=strategy, in_workspace=in_workspace)
    return _replace(opened, lambda locked: pick(locked, picked), others=picked)


@operation(repeatable=True, flushes=True)
def check_rebase(
    opened: OpenWorkspace,
    onto: Oid | None = None,
    strategy: MergeStrategy = MergeStrategy.NORMAL,
    was: Oid | None = None,
) -> None:
    """Refuse a rebase that cannot be made, at all or onto a state, before the other side is saved.

    It waits for its turn.
    """
    if onto is None:
        with opened.locked() as locked:
            rewrite.check_rebase(locked)
        return
    with _standstill(opened) as (locked, _):
        rewrite.check_rebase(locked, onto, strategy, was)


@operation(flushes=True)
def rebase(
    opened: OpenWorkspace, onto: Oid, name: str, strategy: MergeStrategy, in_workspace: bool, was: Oid | None = None
) -> RewriteResult:
    """Put the fork's own commits onto another commit."""
    return _replace(
        opened,
        lambda locked: rewrite.rebase(locked, onto, name, strategy, in_workspace=in_workspace, was=was),
        others=[onto],
    )


@operation(flushes=True)
def continue_rewrite(opened: OpenWorkspace, skip: bool, kind: str | None = None) -> RewriteResult:
    """Go on with a rebase or cherry-pick, the conflicts of one commit being resolved, or the commit being left out."""
    return _replace(opened, lambda locked: rewrite.continue_rewrite(locked, kind, skip=skip))


@operation(flushes=True)
def squash_commits(opened: OpenWorkspace, first: Oid, last: Oid, message: str | None) -> RewriteResult:
    """Make one commit of several."""
    with opened.locked() as locked:
        return rewrite.squash_commits(locked, first, last, message)


@operation(flushes=True)
def resolve_path(
    opened: OpenWorkspace, path: TreePath, take_side: str | None, content: Content | None
) -> MergeProgress:
    """Decide on a path in conflict, and tell what is left."""
    data = content.data if content is not None else None
    if content is not None and content.handle is not None:
        data = b"".join(read_pieces(check_given(opened, content.handle)))
    with _standstill(opened, (path,)) as (locked, before):
        told = [*before, *changes.record_changes(locked)]
        with file_errors(path, "write to the workspace"):
            mergestate.resolve_path(locked, path, take_side, data)
        told += changes.record_changes(locked, f"resolve {quote(os.fsdecode(path))}")
        progress = mergestate.read_progress(locked)
        assert progress is not None  # noqa: S101 - the merge ends elsewhere
        if take_side is None:
            told += mergestate.warn_of_markers(locked, path)
        return replace(progress, warnings=tuple(dict.fromkeys(told)))


@operation(flushes=True)
def conclude_merge(opened: OpenWorkspace, message: str | None) -> MergeResult:
    """Commit a merge whose conflicts are resolved."""
    return _replace(opened, lambda locked: mergestate.conclude_merge(locked, message))


@operation(flushes=True)
def abort_merge(opened: OpenWorkspace, kind: str | None = None) -> UndoResult:
    """Give a merge, rebase or cherry-pick up."""
    others = [opened.vault.read_head(opened.fork)]
    return _replace(opened, lambda locked: mergestate.abort_merge(locked, kind), others=others)


# --- in and out -------------------------------------------------------------------------------------------------------


@_once
def import_opened(
    opened: OpenWorkspace, source: Handle, path: TreePath, recursive: bool, max_depth: int | None, shown: str
) -> TransferResult:
    """Copy a file or directory that the caller has opened into the workspace."""
    place = Path(f"/proc/self/fd/{source.fd}")
    return transfer.import_path(opened, place, path, recursive=recursive, max_depth=max_depth, shown=shown)


@_once
def import_tar(opened: OpenWorkspace, archive: Handle, path: TreePath) -> TransferResult:
    """Unpack a tar archive into the workspace."""
    with open(check_given(opened, archive), "rb", closefd=False) as file:
        return transfer.import_tar(opened, file, path)


@operation(changes=False)
def export_opened(
    opened: OpenWorkspace,
    path: TreePath,
    place: Handle,
    rest: bytes,
    recursive: bool,
    max_depth: int | None,
    overwrite: bool,
    shown: str,
) -> TransferResult:
    """Copy a file or directory of the workspace to the host, to a path below a directory that the caller has opened.

    Raises:
        InvalidInput: If the path is absolute, or leads upwards.
    """
    below = PurePath(os.fsdecode(rest))
    if below.is_absolute() or ".." in below.parts:
        raise InvalidInput("an export goes to a path below the directory that is handed over")
    destination = Path(f"/proc/self/fd/{place.fd}") / below
    return transfer.export_path(
        opened, path, destination, recursive=recursive, max_depth=max_depth, overwrite=overwrite, shown=shown
    )


@_reading
def export_tar(opened: OpenWorkspace, path: TreePath) -> tuple[TransferResult, Handle]:
    """Write a tar archive of a file or directory of the workspace to a file without a name."""
    fd = opened.upper.make_hidden_file()
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            result = transfer.export_tar(opened, path, file)
    except BaseException:
        os.close(fd)
        raise
    return result, Handle(fd)

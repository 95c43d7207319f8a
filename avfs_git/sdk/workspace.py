"""The workspace of a fork: its files and its checkpoints.

Decided here: names and arguments of the public API, which most lines document. Each method is one operation; `sdk.dispatch` runs
it in this process, or in the session that mounts the workspace. Callers may use several threads and processes.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Concatenate, ParamSpec, Self, TypeVar, Unpack

from avfs_git.errors import CheckpointNotFound, InvalidInput, WorkspaceBusy, quote
from avfs_git.lazy import LazyModule
from avfs_git.model import (
    BASES,
    Checkpoint,
    CheckpointDetails,
    CheckpointResult,
    Diff,
    EditResult,
    FileInfo,
    FindResult,
    GrepResult,
    LogEntry,
    MergeMode,
    MergeOptions,
    MergeProgress,
    MergeResult,
    MergeStrategy,
    Operation,
    PathVersion,
    RestoreResult,
    RewriteResult,
    Status,
    TransferResult,
    TreeNode,
    UndoResult,
    Warning,
)
from avfs_git.paths import PathLike, parse_tree_path, parse_tree_paths
from avfs_git.sdk.session import Session
from avfs_git.values import replace
from avfs_git.workspace.checkpoint.bookkeeping import bookkeeping

if TYPE_CHECKING:
    from avfs_git.gitstore import holding
    from avfs_git.proxy.exec.envelope import ExecPlan, ExecResult
    from avfs_git.sdk import commands, events, texts
    from avfs_git.sdk.options import ExecOptions, FindOptions, GrepOptions
    from avfs_git.sdk.vault import Vault
    from avfs_git.session.control import client, operations
    from avfs_git.session.serve import nursery_client, point
    from avfs_git.workspace.files import files
    from avfs_git.workspace.forks import fold
    from avfs_git.workspace.history import find, grep, history
    from avfs_git.workspace.merge import overlap
    from avfs_git.workspace.opened import workspace as workspaces
    from avfs_git.workspace.vault import gitmoves, revisions
else:
    # A light command must not pay for what it does not use.
    client = LazyModule("avfs_git.session.control.client")
    commands = LazyModule("avfs_git.sdk.commands")
    files = LazyModule("avfs_git.workspace.files.files")
    fold = LazyModule("avfs_git.workspace.forks.fold")
    gitmoves = LazyModule("avfs_git.workspace.vault.gitmoves")
    holding = LazyModule("avfs_git.gitstore.holding")
    find = LazyModule("avfs_git.workspace.history.find")
    grep = LazyModule("avfs_git.workspace.history.grep")
    history = LazyModule("avfs_git.workspace.history.history")
    nursery_client = LazyModule("avfs_git.session.serve.nursery_client")
    operations = LazyModule("avfs_git.session.control.operations")
    overlap = LazyModule("avfs_git.workspace.merge.overlap")
    point = LazyModule("avfs_git.session.serve.point")
    revisions = LazyModule("avfs_git.workspace.vault.revisions")
    texts = LazyModule("avfs_git.sdk.texts")
    workspaces = LazyModule("avfs_git.workspace.opened.workspace")

_P = ParamSpec("_P")
_T = TypeVar("_T")
_Choice = TypeVar("_Choice", MergeStrategy, MergeMode)


def _holding_objects(method: Callable[Concatenate[Workspace, _P], _T]) -> Callable[Concatenate[Workspace, _P], _T]:
    """Hold the objects of a state that the caller named from `gc`, until a ref names them."""

    @functools.wraps(method)
    def held(self: Workspace, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        if kwargs.get("dry_run"):  # also where nothing may be written
            return method(self, *args, **kwargs)
        with holding.objects_held(self._core.git_dir):
            return method(self, *args, **kwargs)

    return held


class Workspace:
    """The workspace of a fork: its files and its checkpoints."""

    def __init__(self, vault: Vault, fork: str, *, ephemeral: bool = False) -> None:
        self.vault = vault
        self.fork = fork
        self.ephemeral = ephemeral
        self._dispatch = vault._dispatch  # noqa: SLF001 - the two classes are one interface
        self._core = self._dispatch.core
        self._held: workspaces.OpenWorkspace | None = None
        self._held_files: files.Files | None = None

    def __repr__(self) -> str:
        return f"<Workspace {f'{self.vault.name}@{self.fork}'!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.ephemeral:
            self.vault.delete_fork(self.fork)
        self.close()

    def close(self) -> None:
        """Release the workspace; its vault closes it. Only the end of a `with` block deletes an ephemeral fork."""
        self._held = None
        self._held_files = None

    @property
    def _opened(self) -> workspaces.OpenWorkspace:
        held = self._held
        if held is None or held.is_closed:
            held = self._held = self._dispatch.open_workspace(self.fork)
            self._held_files = files.Files(held)
        return held

    @property
    def _files(self) -> files.Files:
        held = self._held
        if held is None or held.is_closed:
            self._opened  # noqa: B018 - opens it
        assert self._held_files is not None  # noqa: S101 - made together with what is held
        return self._held_files

    def _run(self, operation: Callable[Concatenate[workspaces.OpenWorkspace, _P], _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return self._dispatch.run(self._opened, operation, *args, **kwargs)

    def _note_file_call(self, verb: str, path: PathLike) -> None:
        self._dispatch.note_file_call(self.fork, f"{verb} {quote(os.fsdecode(path))}")

    # --- files --------------------------------------------------------------------------------------

    def read(self, path: PathLike) -> bytes:
        """Read a whole file into memory. Symbolic links are followed inside the workspace only.

        Raises:
            PathNotFound: If nothing is at the path.
            PathUnsuitable: If it is no file.
            PathEscapes: If the path or a link leads out of the workspace.
        """
        tree_path = parse_tree_path(path)
        if self._opened.lock.session is None:
            with suppress(WorkspaceBusy):  # `_run` reads it beside the other process
                return self._files.read(tree_path)
        return b"".join(self._run(operations.read_content, tree_path).pieces())

    def open_read(self, path: PathLike, *, version: int | None = None, at: str | None = None) -> Iterator[bytes]:
        """Read a file in pieces of at most 1 MiB, in bounded memory.

        Args:
            path: The file.
            version: An earlier version of the file, by its number in `path_versions`.
            at: The checkpoint or fork to read it from. Without `version` and `at`, the present file is read.
        """
        tree_path = parse_tree_path(path)
        if version is not None:
            at = history.find_version(self._core, self.fork, tree_path, version).checkpoint
        if at is not None:
            return history.stream_past(self._core, at, tree_path, fork=self.fork)
        if self._opened.lock.session is None:
            with suppress(WorkspaceBusy):  # as in `read`
                pieces = self._files.stream(tree_path)
                return chain((next(pieces, b""),), pieces)
        return self._run(operations.read_content, tree_path).pieces()

    def write(
        self,
        path: PathLike,
        data: bytes,
        *,
        append: bool = False,
        expect: str | None = None,
        parents: bool = True,
        executable: bool | None = None,
    ) -> FileInfo:
        """Write a file: all of `data` or, if that fails, nothing.

        Args:
            path: The file.
            data: Its new content.
            append: Add `data` at the end of the present content.
            expect: Write only if the present content has this id (`stat(..., with_oid=True).oid`); `""` if no file may exist.
            parents: Make missing directories.
            executable: Set or clear the executable bits; None keeps them.

        Raises:
            ContentChanged: If `expect` does not hold; nothing is written.
            PathUnsuitable: If the path is no file.
        """
        self._note_file_call("write", path)
        tree_path = parse_tree_path(path)
        if self._opened.lock.session is None:
            try:
                return self._files.write(tree_path, data, append=append, expect=expect, parents=parents, executable=executable)
            except WorkspaceBusy:
                if self._opened.lock.session is None:
                    raise
        with client.spooled(self._opened, data) as content:
            return self._run(operations.write, tree_path, content, append, expect, parents, executable)

    def write_from(self, path: PathLike, chunks: Iterable[bytes], *, append: bool = False, expect: str | None = None) -> FileInfo:
        """Write what an iterable yields to a file, in bounded memory; otherwise as `write`."""
        self._note_file_call("write", path)
        if self._opened.lock.session is None:
            return self._files.write(parse_tree_path(path), chunks, append=append, expect=expect)
        with client.spooled(self._opened, chunks) as content:
            return self._run(operations.write, parse_tree_path(path), content, append, expect, True, None)

    def read_text(self, path: PathLike) -> str:
        """Read a whole file as text.

        Raises:
            PathUnsuitable: If it is no file, or not text in UTF-8.
            PathNotFound, PathEscapes: As `read`.
        """
        return texts.read_text(self, path)

    def write_text(self, path: PathLike, text: str, *, expect: str | None = None) -> FileInfo:
        """Write text to a file, in UTF-8; otherwise as `write`.

        Raises:
            InvalidInput: If the text cannot be written in UTF-8.
            ContentChanged, PathUnsuitable: As `write`.
        """
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidInput(f"character {error.start} of the text cannot be written in UTF-8") from error
        return self.write(path, data, expect=expect)

    def edit(self, path: PathLike, *edits: tuple[str, str], replace_all: bool = False, dry_run: bool = False) -> EditResult:
        """Replace texts in a file: all of them, in the given order, or none.

        Args:
            path: The file.
            edits: Pairs of an old text and a new text. Each old text occurs exactly once.
            replace_all: Let an old text occur more than once, and replace each occurrence.
            dry_run: Only report the result.

        Raises:
            PathUnsuitable: If an old text does not occur, or occurs more than once; or if the file is not text in UTF-8.
            ContentChanged: If another process changed the file meanwhile; nothing is written.
            PathNotFound: If nothing is at the path.
        """
        return texts.edit(self, path, edits, replace_all=replace_all, dry_run=dry_run)

    def walk(self, path: PathLike = "/") -> Iterator[FileInfo]:
        """Visit everything below a directory, each directory before its entries; links are not followed.

        Raises:
            PathNotFound, PathUnsuitable: If there is no such directory.
        """
        return texts.walk(self, path)

    def glob(self, pattern: str, path: PathLike = "/") -> Iterator[FileInfo]:
        """Find entries below a directory whose path matches a pattern; only directories that may lead to one are read.

        Args:
            pattern: Names with `*`, `?` and `[…]`, separated by slashes; `**` stands for any number of directories, and at the
                end for everything below.
            path: The directory.

        Raises:
            InvalidInput: If the pattern is empty.
            PathNotFound, PathUnsuitable: If there is no such directory.
        """
        return texts.glob(self, pattern, path)

    def grep(
        self, pattern: str | bytes, paths: Sequence[PathLike] = (), *, at: str | None = None, **options: Unpack[GrepOptions]
    ) -> GrepResult:
        """Find the lines of files that match a pattern, in the workspace as it is or in another state. Reads no checkout.

        Git searches: what a binary file is, and what the pattern means, is as in `git grep -E`. Symbolic links and submodules
        are not searched.

        Args:
            pattern: A regular expression; several are separated by newlines.
            paths: Search only these files, and files below these directories.
            at: The checkpoint or fork to search, without what is not committed there.
            options: How to search; see `GrepOptions`.

        Raises:
            InvalidInput: If the pattern, a glob or an option cannot mean anything.
            PathNotFound: If nothing is at one of the paths.
            CheckpointNotFound: If no state has the name.
            FileChanging: If a file keeps changing while it is searched.
        """
        query = texts.make_query(pattern, paths, options)
        if at is not None:
            return grep.grep_commit(self._core, self.fork, revisions.resolve_revision(self._core, at, fork=self.fork), query)
        return self._run(operations.grep_workspace, query)

    def find(
        self, *names: str, paths: Sequence[PathLike] = (), at: str | None = None, **options: Unpack[FindOptions]
    ) -> FindResult:
        """Find entries by name and other facts, in the workspace as it is or in another state. Reads no checkout.

        Args:
            names: Globs, of which one matches the name or, with a slash, the path; `**` stands for any directories.
            paths: Find only these, and what is below them.
            at: The checkpoint or fork to look through, without what is not committed there.
            options: Other conditions; see `FindOptions`.

        Raises:
            InvalidInput: If a glob or an option cannot mean anything.
            PathNotFound: If nothing is at one of the paths.
            CheckpointNotFound: If no state has the name.
        """
        query = texts.make_find_query(names, paths, options)
        if at is not None:
            return find.find_commit(self._core, self.fork, revisions.resolve_revision(self._core, at, fork=self.fork), query)
        return self._run(operations.find_entries, query)

    def list_dir(self, path: PathLike = "/") -> list[FileInfo]:
        """Describe the entries of a directory, sorted by name."""
        return self._run(operations.list_dir, parse_tree_path(path))

    def stat(self, path: PathLike, *, with_oid: bool = False, follow: bool = False) -> FileInfo:
        """Describe an entry; `with_oid` gives its object id too, for which the file may have to be read."""
        return self._run(operations.describe, parse_tree_path(path), with_oid=with_oid, follow=follow)

    def tree(self, path: PathLike = "/", *, depth: int | None = None) -> TreeNode:
        """Describe everything below a path, or `depth` levels of it."""
        return self._run(operations.describe_tree, parse_tree_path(path), depth=depth)

    def exists(self, path: PathLike) -> bool:
        """Whether a path exists."""
        return self._run(operations.exists, parse_tree_path(path))

    def read_link(self, path: PathLike) -> bytes:
        """Read the target of a symbolic link."""
        return self._run(operations.read_link, parse_tree_path(path))

    def make_dir(self, path: PathLike, *, parents: bool = False) -> None:
        """Make a directory; with `parents`, also missing parents, and an existing directory is no error."""
        self._note_file_call("make directory", path)
        self._run(operations.make_dir, parse_tree_path(path), parents=parents)

    def remove(self, path: PathLike, *, recursive: bool = False, missing_ok: bool = False, expect: str | None = None) -> None:
        """Remove a file, a symbolic link, an empty directory or, with `recursive`, any directory."""
        self._note_file_call("remove", path)
        self._run(operations.remove, parse_tree_path(path), recursive=recursive, missing_ok=missing_ok, expect=expect)

    def copy(self, source: PathLike, destination: PathLike, *, recursive: bool = False) -> FileInfo:
        """Copy a file or, with `recursive`, a directory; into the destination if that is a directory. Nothing is overwritten."""
        self._note_file_call("copy", source)
        return self._run(operations.copy, parse_tree_path(source), parse_tree_path(destination), recursive)

    def move(self, source: PathLike, destination: PathLike) -> FileInfo:
        """Rename a file or directory; into the destination if that is a directory. Nothing is overwritten."""
        self._note_file_call("move", source)
        return self._run(operations.move, parse_tree_path(source), parse_tree_path(destination))

    def touch(self, path: PathLike, *, mtime_ns: int | None = None) -> FileInfo:
        """Set the modification time of a file, now by default; make a missing file."""
        self._note_file_call("touch", path)
        return self._run(operations.touch, parse_tree_path(path), mtime_ns)

    def chmod(self, path: PathLike, mode: int) -> None:
        """Set permission bits."""
        self._note_file_call("chmod", path)
        self._run(operations.chmod, parse_tree_path(path), mode)

    def symlink(self, path: PathLike, target: bytes) -> None:
        """Make a symbolic link."""
        self._note_file_call("make link", path)
        self._run(operations.symlink, parse_tree_path(path), target)

    def link(self, source: PathLike, destination: PathLike) -> None:
        """Make a hard link to a file."""
        self._note_file_call("link", destination)
        self._run(operations.link, parse_tree_path(source), parse_tree_path(destination))

    # --- mounting -------------------------------------------------------------------------------------

    def mount(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        readonly: bool = False,
        at: str | None = None,
        allow_other: bool = False,
        leash_fd: int | None = None,
        backend: str = "auto",
    ) -> Session:
        """Mount the workspace on a directory; return when programs can use it.

        A process of its own serves the mount, and survives this one: until `Session.unmount` or `Session.stop`.

        Args:
            directory: An empty directory, or a missing one, which is removed with the mount. By default `mounts/VAULT/FORK`
                in the home.
            readonly: Mount the head instead of the workspace, read-only. Many such mounts may exist beside one of the workspace.
            at: Mount this checkpoint, commit or fork instead of the head, read-only.
            allow_other: Give other users access, as far as permissions allow. On overlayfs they have it without this.
            leash_fd: The reading end of a pipe: the mount is removed when the other end is closed.
            backend: `fuse`, `portable` (through libfuse), or `auto` for the better of the two that works here; or `overlay`, on
                the kernel's overlayfs (root, workspaces only; docs/guides/live-tree.md lists differences).

        Raises:
            WorkspaceMounted: If the workspace is mounted already.
            WorkspaceBusy: If another process holds the workspace for too long.
            MountPointUnusable: If the directory cannot be mounted on.
            FuseUnavailable: If this machine, or its administrator, does not allow mounts.
            CheckpointNotFound: If no state has the name in `at`.
        """
        mounts = self._dispatch.mounts
        with nursery_client.starting_early():
            commit = revisions.resolve_revision(self._core, at or "HEAD", fork=self.fork).hex() if at or readonly else None
            if directory is None:
                if mounts is None:
                    raise InvalidInput("a directory to mount at is needed", hint="Name one.")
                directory = point.default_directory(mounts, self._dispatch.home_name, self.fork, commit)
            found = self._dispatch.mount(
                self.fork, directory, at=commit, allow_other=allow_other, leash_fd=leash_fd, backend=backend
            )
            return Session(self.vault, found)

    # --- commands -------------------------------------------------------------------------------------

    def exec(self, *argv: str | bytes, **options: Unpack[ExecOptions]) -> ExecResult:
        """Run a command in the workspace under the vault's policy, and commit its changes.

        A command that fails, or that cannot be executed, is a result and not an error.

        Args:
            argv: The program and its arguments; none with `shell`.
            options: See `avfs_git.sdk.ExecOptions`.

        Raises:
            IsolationUnavailable: If the command cannot be isolated here.
            CommandDenied: If the policy forbids it.
            ApprovalNeeded: If a person must approve it first.
            BackendUnavailable: If the workspace cannot be shown here.
            WorkspaceBusy: If another process holds the workspace for too long.
        """
        with self._starting_early():
            return commands.finish(commands.run_command(self, commands.make_command(argv, options)))

    def _starting_early(self) -> AbstractContextManager[None]:
        """Start the process that mounts a base early: it loads while this process loads its own modules."""
        mounts = self._dispatch.mounts
        return nursery_client.starting_early(unless_mounted=(mounts, BASES) if mounts is not None else None)

    async def exec_async(self, *argv: str | bytes, **options: Unpack[ExecOptions]) -> ExecResult:
        """Run a command as `exec` does, in a thread. Cancelling ends the command; its changes are committed then, too."""
        return await commands.run_in_thread(self, commands.make_command(argv, options))

    def exec_stream(self, *argv: str | bytes, **options: Unpack[ExecOptions]) -> commands.Running:
        """Begin to run a command as `exec` does; iterate over the answer for the command's output as it comes."""
        return commands.begin(self, commands.make_command(argv, options))

    def exec_plan(self, *argv: str | bytes, **options: Unpack[ExecOptions]) -> ExecPlan:
        """Tell what `exec` would do with a command; nothing is done."""
        return commands.make_executor(self).plan(commands.make_command(argv, options))

    def prepare(self, *, idle_s: float | None = None) -> commands.Prepared:
        """Keep the workspace ready for many commands, which can be rolled back one by one; or continue such a session.

        Uncommitted changes are saved first.

        Args:
            idle_s: Keep the base mounted for other processes, too, until no command ran for so many seconds.
        """
        return commands.Prepared(self).begin(idle_s)

    def prepared(self) -> commands.Prepared:
        """Get the session that `prepare` began, here or in another process.

        Raises:
            NotPrepared: If there is no such session.
        """
        found = commands.Prepared(self)
        found.steps()
        return found

    # --- checkpoints ----------------------------------------------------------------------------------

    def status(self) -> Status:
        """List uncommitted changes. Writes nothing; costs what changed."""
        return self._run(operations.read_status)

    def checkpoint(self, label: str | None = None, *, description: str | None = None, step: bool = False) -> CheckpointResult:
        """Commit all changes. Durable when it returns; costs what changed.

        Args:
            label: A name for the checkpoint.
            description: The commit's message. If nothing changed, an empty commit records it, unless the last commit has the
                same message.
            step: Save one step of a program, such as a tool call: make no commit if nothing changed, and let one `undo` take
                back the commit and the files.

        Raises:
            CheckpointExists: If the label is taken.
            FileChanging: If a file keeps changing while it is read.
        """
        facts = {"label": label, "message": description}
        heard = self._dispatch.run_hook("pre-checkpoint", self.fork, facts)
        result = self._run(
            operations.save_checkpoint, label, description, keeps_message=not step, with_files=step, skips_unreadable=True
        )
        if result.outcome != "unchanged":
            made = result.checkpoint.id if result.checkpoint is not None else None
            heard += self._dispatch.run_hook("post-checkpoint", self.fork, {**facts, "checkpoint": made})
        return replace(result, warnings=(*result.warnings, *heard)) if heard else result

    def add(self, *paths: PathLike, force: bool = False) -> CheckpointResult:
        """Add files of the sidecar to history, by a checkpoint. Other uncommitted changes are saved before it.

        A file that was ignored at a checkpoint stays in the sidecar until it is added, even if no rule ignores it any longer.

        Args:
            paths: Files, or directories for all files below them.
            force: Add ignored files too, and repositories below a named directory.

        Raises:
            PathNotFound: If a path does not exist.
            PathUnsuitable: If a path is ignored, without `force`, or if git can hold it in no tree.
            FileChanging: If a file keeps changing while it is read.
        """
        return self._run(operations.add_paths, [parse_tree_path(path) for path in paths], force)

    def list_checkpoints(self, *, limit: int = 100) -> list[Checkpoint]:
        """List checkpoints, newest first."""
        return history.list_checkpoints(self._core, self.fork, limit=limit)

    def checkpoint_details(self, name: str) -> CheckpointDetails:
        """Describe a checkpoint by label or id, with the number and size of its files; reads its whole tree."""
        return history.describe_checkpoint(self._core, name, fork=self.fork)

    def delete_checkpoint(self, label: str) -> Checkpoint:
        """Delete a label. Its commit stays in the history; it can be undone."""
        revisions.find_label(self._core, self.fork, label)  # a deletion that is refused records nothing
        self._dispatch.record_work(self.fork)
        return revisions.delete_label(self._core, self.fork, label)

    @_holding_objects
    def restore(
        self, target: str, *, paths: Sequence[PathLike] = (), dry_run: bool = False, into: str | None = None
    ) -> RestoreResult:
        """Restore the files of a checkpoint. Uncommitted changes are saved first; it can be undone.

        Args:
            target: A label, fork or commit.
            paths: Restore only these paths and what is below them.
            dry_run: Only list what would change.
            into: Make a fork of this name with that state instead; this workspace does not change.

        Raises:
            CheckpointNotFound: If no state has the name.
            PathNotFound: If a path is neither in the workspace nor in the target.
        """
        oid = revisions.resolve_revision(self._core, target, fork=self.fork)
        if into is not None:
            if paths or dry_run:
                raise InvalidInput("restoring into a new fork takes no paths and no dry run")
            self.vault.fork(into, source=self.fork, at=oid.hex())
            return RestoreResult("restored", oid.hex(), (), fork=into)
        return self._run(operations.restore_state, oid, parse_tree_paths(paths), dry_run, target, "restore")

    def diff(
        self,
        old: str | None = None,
        new: str | None = None,
        *,
        paths: Sequence[PathLike] = (),
        context: int = 3,
        patches: bool = True,
    ) -> Diff:
        """Compare two states; by default the head and the present workspace."""
        if new is not None:
            return self.vault.diff(old or "HEAD", new, fork=self.fork, paths=paths, context=context, patches=patches)
        return self._run(operations.diff_workspace, old, parse_tree_paths(paths), context, patches)

    def log(
        self, *, limit: int = 50, with_files: bool = False, with_bookkeeping: bool = True, session: str | None = None
    ) -> list[LogEntry]:
        """List the commits of the fork, newest first.

        Args:
            limit: List at most so many.
            with_files: List the files that each commit changed, too.
            with_bookkeeping: Include commits that avfs made to save files before an operation.
            session: List only checkpoints of this session of a coding agent: its id, or the beginning of that.
        """
        if self._core.read_head(self.fork) is None:
            return []
        return self.vault.log(
            "HEAD", fork=self.fork, limit=limit, with_files=with_files, with_bookkeeping=with_bookkeeping, session=session
        )

    def path_versions(self, path: PathLike, *, limit: int | None = None) -> list[PathVersion]:
        """List the versions of a path, newest first; the oldest is number 1."""
        return history.list_path_versions(self._core, self.fork, parse_tree_path(path), limit=limit)

    @_holding_objects
    def checkout_path(self, path: PathLike, *, version: int | None = None, at: str | None = None) -> RestoreResult:
        """Restore one path to an earlier version, or to its state in a checkpoint."""
        tree_path = parse_tree_path(path)
        if (version is None) == (at is None):
            raise InvalidInput("name either a version or a checkpoint")
        target = history.find_version(self._core, self.fork, tree_path, version).checkpoint if version is not None else str(at)
        oid = revisions.resolve_revision(self._core, target, fork=self.fork)
        return self._run(operations.restore_state, oid, [tree_path], False, at or f"version {version}", "checkout")

    @_holding_objects
    def revert_path(self, path: PathLike) -> RestoreResult:
        """Restore one path to the version before its present one; uncommitted changes count as the present version.

        Raises:
            PathUnsuitable: If the path has no earlier version.
        """
        return self._run(operations.revert_path, parse_tree_path(path))

    def undo(self) -> UndoResult:
        """Undo the last operation on this fork, as `Vault.undo` does."""
        return self.vault.undo(fork=self.fork)

    def redo(self) -> UndoResult:
        """Redo the operation that was undone last."""
        return self.vault.redo(fork=self.fork)

    def operations(self, *, limit: int = 50) -> list[Operation]:
        """List the operations on this fork, newest first."""
        return self.vault.operations(fork=self.fork, limit=limit)

    def events(self, *, since: str | None = None, follow: bool = False) -> events.Events:
        """Iterate over what happens to this fork, the oldest first, as `Vault.events` does."""
        return self.vault.events(fork=self.fork, since=since, follow=follow)

    def fold(self) -> bool:
        """Move the base to the head, and drop from the upper layer what equals it; False if the base was the head.

        Raises:
            WorkspaceMounted: If the workspace is mounted.
        """
        self.vault.check_unmounted(self.fork)
        with self._opened.locked() as locked:
            is_folded, warnings = fold.fold_workspace(locked)
        self._dispatch.tell(warnings)
        return is_folded

    # --- merging ------------------------------------------------------------------------------------------

    @_holding_objects
    def merge(
        self,
        source: str,
        *,
        strategy: MergeStrategy | str = MergeStrategy.NORMAL,
        mode: MergeMode | str = MergeMode.NORMAL,
        message: str | None = None,
        dry_run: bool = False,
        on_conflict: str = "report",
    ) -> MergeResult:
        """Merge another fork, or any state, into this fork. It can be undone.

        Uncommitted changes of both forks are committed first. Ignored files of this workspace stay; new ones of the source are
        added. Costs what the two sides changed.

        Args:
            source: A fork, label or commit.
            strategy: How lines that both sides changed are merged.
            mode: Whether to make a merge commit.
            message: Message of the merge commit.
            dry_run: Only report the result, for this workspace as it is and the committed state of the source.
            on_conflict: `report` leaves this fork as it is, and the outcome is `conflicted`; `workspace` writes the conflicts
                into the files, with markers, until `continue_merge` or `abort_merge`.

        Raises:
            MergeInProgress: If another merge is in progress in this workspace.
            CheckpointNotFound: If no state has the name.
            NotFastForward: If `mode` allows only a fast-forward, and this fork has commits of its own.
            UnrelatedHistories: If the two have no commit in common.
            HeadElsewhere: If git's HEAD in the live tree is not on this fork's branch.
        """
        options = MergeOptions(
            source, _choose(MergeStrategy, strategy), _choose(MergeMode, mode), message, _in_workspace(on_conflict)
        )
        if not dry_run:  # before anything is saved, or a hook is run
            self._run(operations.check_merge, revisions.resolve_source(self._core, source, fork=self.fork), options)
        oid, warnings = self._dispatch.save_and_resolve(source, self.fork, save=not dry_run)
        if not dry_run:
            warnings += self._dispatch.run_hook("pre-merge", self.fork, {"source": source, "commit": oid.hex()})
        result = self._run(operations.plan_merge if dry_run else operations.merge_commit, oid, options)
        if not dry_run and result.outcome != "up_to_date":
            facts = {"source": source, "commit": result.commit, "outcome": result.outcome}
            warnings += self._dispatch.run_hook("post-merge", self.fork, facts)
        return replace(result, warnings=(*warnings, *result.warnings)) if warnings else result

    @_holding_objects
    def update(
        self,
        *,
        strategy: MergeStrategy | str = MergeStrategy.NORMAL,
        on_conflict: str = "report",
        progress: Callable[[str, int, int], None] | None = None,
    ) -> list[MergeResult]:
        """Update this fork from its upstream, keeping its own changes. It can be undone.

        It merges, in this order: commits that others pushed to its branch in the vault; the branch of its name on the vault's
        remote, which is fetched; the branch of the clone that it was made from. Without any of these, the fork that it was made
        from.

        Args:
            strategy: As for `merge`.
            on_conflict: As for `merge`.
            progress: Called with the progress of the fetch, as by `Vault.fetch`.

        Returns:
            The merges that were needed, in order; the last one may have conflicts. Empty without an upstream.

        Raises:
            RemoteError: If the remote cannot be reached or read.
            AvfsError: As `merge`.
        """
        options = MergeOptions("", _choose(MergeStrategy, strategy), in_workspace=_in_workspace(on_conflict))
        found = self._run(operations.catch_up, options)
        merges = [] if found is None else [found]
        if found is None or found.outcome != "conflicted":
            for upstream in self.vault._find_upstreams(self.fork, progress):  # noqa: SLF001 - the two classes are one interface
                merges.append(self.merge(upstream, strategy=strategy, on_conflict=on_conflict))
                if merges[-1].outcome == "conflicted":
                    break
        return merges

    @_holding_objects
    def merge_many(
        self,
        sources: Sequence[str],
        *,
        strategy: MergeStrategy | str = MergeStrategy.NORMAL,
        mode: MergeMode | str = MergeMode.NORMAL,
        message: str | None = None,
        dry_run: bool = False,
        on_conflict: str = "report",
    ) -> list[MergeResult]:
        """Merge several forks, in the order that leaves the fewest conflicts; each merge is an operation of its own.

        A fork that conflicts with another one is merged after it, and reported.

        Args:
            sources: Forks, labels or commits.
            strategy: As for `merge`.
            mode: As for `merge`.
            message: Message of each merge commit.
            dry_run: Only report the results, for committed states.
            on_conflict: As for `merge`. With `workspace`, the first conflict ends it; forks without a result are not merged yet.

        Raises:
            AvfsError: As `merge`; earlier merges stay.
        """
        in_workspace = _in_workspace(on_conflict)
        strategy, mode = _choose(MergeStrategy, strategy), _choose(MergeMode, mode)
        # Refuses, before anything is saved.
        heads = [revisions.resolve_source(self._core, name, fork=self.fork) for name in sources]
        gitmoves.check_head(self._core, self.fork)
        for name, oid in zip(sources, heads, strict=True) if not dry_run else ():
            self._run(operations.check_merge, oid, MergeOptions(name, strategy))
        told: tuple[Warning, ...] = ()
        if not dry_run:
            text = "save before merges"
            told = self._run(operations.save_checkpoint, message=bookkeeping(text), description=text).warnings
        resolved = [self._dispatch.save_and_resolve(name, self.fork, save=not dry_run) for name in sources]
        head = self._core.read_head(self.fork)
        if head is None:
            raise CheckpointNotFound("HEAD")
        found = [(name, oid) for name, (oid, _) in zip(sources, resolved, strict=True)]
        order = overlap.order_merges(self._core, head, found, strategy)
        if dry_run:
            planned = [found[number] for number in order]
            results = overlap.plan_many(self._core, self.fork, head, planned, strategy, mode)
            pairs = zip(order, results, strict=True)
            return [replace(result, warnings=(*resolved[number][1], *result.warnings)) for number, result in pairs]
        results = []
        for number in order:
            done = self.merge(sources[number], strategy=strategy, mode=mode, message=message, on_conflict=on_conflict)
            told = (*told, *resolved[number][1], *done.warnings)
            results.append(replace(done, warnings=tuple(dict.fromkeys(told))))
            told = ()
            if in_workspace and done.outcome == "conflicted":
                break
        return results

    @_holding_objects
    def cherry_pick(
        self, picked: Sequence[str], *, strategy: MergeStrategy | str = MergeStrategy.NORMAL, on_conflict: str = "report"
    ) -> RewriteResult:
        """Apply the changes of single commits to this fork, in the given order. It can be undone.

        Args:
            picked: Labels or commits of any fork.
            strategy: How lines that both sides changed are merged.
            on_conflict: `report` raises; `workspace` writes the conflicts of a commit into the files, with markers, until
                `continue_rewrite` or `abort_merge`.

        Raises:
            MergeInProgress: If a merge is in progress in this workspace.
            CheckpointNotFound: If no state has a name.
            CommitConflicts: If a commit conflicts, with `report`; nothing is changed then.
            HeadElsewhere: As `merge`.
        """
        if not picked:
            raise InvalidInput("name a commit")
        oids = [revisions.resolve_revision(self._core, name, fork=self.fork) for name in picked]
        return self._run(operations.pick_commits, oids, _choose(MergeStrategy, strategy), _in_workspace(on_conflict))

    @_holding_objects
    def rebase(
        self, onto: str, *, strategy: MergeStrategy | str = MergeStrategy.NORMAL, on_conflict: str = "report"
    ) -> RewriteResult:
        """Rebase this fork's own commits onto another state. It can be undone.

        Uncommitted changes of both forks are committed first.

        Args:
            onto: A fork, label or commit.
            strategy: How lines that both sides changed are merged.
            on_conflict: As for `cherry_pick`.

        Raises:
            MergeInProgress: If a merge is in progress in this workspace.
            CheckpointNotFound: If no state has the name.
            CommitConflicts: If a commit conflicts, with `report`; nothing is changed then.
            HeadElsewhere: As `merge`.
        """
        chosen, in_workspace = _choose(MergeStrategy, strategy), _in_workspace(on_conflict)
        revisions.resolve_source(self._core, onto, fork=self.fork)
        self._run(operations.check_rebase)  # before the other side is saved
        oid, warnings = self._dispatch.save_and_resolve(onto, self.fork, save=True)
        result = self._run(operations.rebase, oid, onto, chosen, in_workspace)
        return replace(result, warnings=(*warnings, *result.warnings)) if warnings else result

    @_holding_objects
    def squash(self, first: str, last: str = "HEAD", *, message: str | None = None) -> RewriteResult:
        """Squash the commits after `first` up to `last` into one commit. No file changes; it can be undone.

        Args:
            first: The commit before them.
            last: The last of them; later commits are rebased onto the new one.
            message: Message of the new commit; by default the messages of all of them.

        Raises:
            CheckpointNotFound: If no state has a name.
            InvalidInput: If the commits are no line that leads to the head, or one of them is a merge.
        """
        ends = [revisions.resolve_revision(self._core, name, fork=self.fork) for name in (first, last)]
        return self._run(operations.squash_commits, ends[0], ends[1], message)

    def resolve(self, path: PathLike, side: str | None = None, *, content: bytes | None = None) -> MergeProgress:
        """Resolve a path in conflict; return the conflicts that are left.

        Args:
            path: The path in conflict.
            side: `ours`, `theirs`, or `union` for the lines of both; None for `content`, or the file as it is.
            content: The new content of the file.

        Raises:
            NoMergeInProgress: If no merge is in progress.
            PathUnsuitable: If the path is not in conflict; or, for `union`, if one side is no text.
        """
        if side is not None and (content is not None or side not in ("ours", "theirs", "union")):
            raise InvalidInput("a conflict is resolved by one side, by both, or by a content")
        tree_path = parse_tree_path(path)
        if content is None or self._opened.lock.session is None:
            given = None if content is None else operations.Content(data=content)
            return self._run(operations.resolve_path, tree_path, side, given)
        with client.spooled(self._opened, content) as spooled:
            return self._run(operations.resolve_path, tree_path, None, spooled)

    def continue_merge(self, *, message: str | None = None) -> MergeResult:
        """Commit the merge in progress.

        Raises:
            NoMergeInProgress: If no merge is in progress.
            MergeInProgress: If it is part of a rebase or cherry-pick, which `continue_rewrite` continues.
            ConflictsLeft: If a conflict is not resolved.
        """
        return self._run(operations.conclude_merge, message)

    def continue_rewrite(self, *, skip: bool = False) -> RewriteResult:
        """Continue the rebase or cherry-pick in progress, to its end or the next conflict.

        Args:
            skip: Skip the commit in conflict, resolved or not. Changes since the conflict are saved as a commit outside of the
                branch, which the result names as `saved`.

        Raises:
            NoMergeInProgress: If none is in progress.
            MergeInProgress: If it is a merge, which `continue_merge` commits.
            HeadElsewhere: As `merge`.
            ConflictsLeft: If a conflict is not resolved.
        """
        return self._run(operations.continue_rewrite, skip)

    def abort_merge(self) -> UndoResult:
        """Abort the merge, rebase or cherry-pick: restore the files from before. Changes since then are saved as a commit.

        Raises:
            NoMergeInProgress: If none is in progress.
        """
        return self._run(operations.abort_merge)

    # --- in and out ---------------------------------------------------------------------------------------

    def import_path(
        self, source: Path, path: PathLike = "/", *, recursive: bool = True, max_depth: int | None = None
    ) -> TransferResult:
        """Copy a file or directory of the host into the workspace. Symbolic links that lead out of the source are skipped."""
        self._note_file_call("import", source)
        source, tree_path = Path(source), parse_tree_path(path)
        if self._opened.lock.session is None:
            return operations.import_path(self._opened, source, tree_path, recursive, max_depth)
        with client.opened_source(source) as handle:
            return self._run(operations.import_opened, handle, tree_path, recursive, max_depth, str(source))

    def import_tar(self, file: BinaryIO, path: PathLike = "/") -> TransferResult:
        """Unpack a tar archive, compressed or not, into the workspace."""
        self._note_file_call("unpack into", path)
        tree_path = parse_tree_path(path)
        if self._opened.lock.session is None:
            return operations.unpack_tar(self._opened, file, tree_path)
        with client.spooled_file(self._opened, file) as handle:
            return self._run(operations.import_tar, handle, tree_path)

    def export_path(
        self, path: PathLike, destination: Path, *, recursive: bool = True, max_depth: int | None = None, overwrite: bool = False
    ) -> TransferResult:
        """Copy a file or directory of the workspace to the host."""
        tree_path, destination = parse_tree_path(path), Path(destination)
        if self._opened.lock.session is None:
            return self._dispatch.look(
                self._opened,
                lambda opened: operations.export_path(opened, tree_path, destination, recursive, max_depth, overwrite),
            )
        with client.opened_above(destination) as (handle, rest):
            return self._run(operations.export_opened, tree_path, handle, rest, recursive, max_depth, overwrite, str(destination))

    def export_tar(self, path: PathLike, file: BinaryIO) -> TransferResult:
        """Write a tar archive of a file or directory of the workspace."""
        tree_path = parse_tree_path(path)
        if self._opened.lock.session is None:
            return self._dispatch.look(self._opened, lambda opened: operations.pack_tar(opened, tree_path, file))
        result, handle = self._run(operations.export_tar, tree_path)
        file.writelines(operations.Content(handle=handle).pieces())
        return result


def _choose(choices: type[_Choice], name: str) -> _Choice:
    try:
        return choices(name)
    except ValueError:
        what, known = choices.__name__.removeprefix("Merge").lower(), ", ".join(choices)
        raise InvalidInput(f"there is no merge {what} {quote(str(name))}", hint=f"Choose one of {known}.") from None


def _in_workspace(on_conflict: str) -> bool:
    if on_conflict not in ("report", "workspace"):
        raise InvalidInput(f"`on_conflict` cannot be {quote(str(on_conflict))}", hint="Choose 'report' or 'workspace'.")
    return on_conflict == "workspace"

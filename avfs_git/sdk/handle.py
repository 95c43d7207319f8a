"""The fork at hand: what the parts of `Workspace` have in common.

Decided here: when its workspace is opened, and that a state which the caller named is kept from `gc` while it is used.
Safe from several threads. Nothing of it survives the process.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

from avfs_git.errors import AvfsError
from avfs_git.host.files.durable import find_refusal
from avfs_git.paths import Oid, PathLike
from avfs_git.sdk.parts import files, holding, lent, nursery_client, operations, point, record, revisions, workspaces
from avfs_git.workspace.vault.format import HEADS

if TYPE_CHECKING:
    from avfs_git.sdk.dispatch import Dispatch

_P = ParamSpec("_P")
_T = TypeVar("_T")
_W = TypeVar("_W", bound="_OfFork")


class ForkHandle:
    """A fork of an open vault. Its workspace is opened when it is first used; the vault closes it.

    Attributes:
        dispatch: Does the operations of the vault.
        core: The vault.
        fork: The fork.
        indexed: Its head when it was last searched; None if it was not.
    """

    def __init__(self, dispatch: Dispatch, fork: str) -> None:
        self.dispatch = dispatch
        self.core = dispatch.core
        self.fork = fork
        self.indexed: Oid | None = None
        self._held: tuple[workspaces.OpenWorkspace, files.Files] | None = None

    def release(self) -> None:
        """Forget the workspace; the next use opens it again."""
        self._held = None

    def _hold(self) -> tuple[workspaces.OpenWorkspace, files.Files]:
        held = self._held
        if held is None or held[0].is_closed or held[0].is_gone():
            opened = self.dispatch.open_workspace(self.fork)
            held = self._held = opened, files.Files(opened)
        return held

    @property
    def opened(self) -> workspaces.OpenWorkspace:
        """The workspace."""
        return self._hold()[0]

    @property
    def files(self) -> files.Files:
        """The files of the workspace, for when this process may use them."""
        return self._hold()[1]

    def run(
        self, operation: Callable[Concatenate[workspaces.OpenWorkspace, _P], _T], *args: _P.args, **kwargs: _P.kwargs
    ) -> _T:
        """Do an operation on the workspace, as `Dispatch.run` does."""
        return self.dispatch.run(self.opened, operation, *args, **kwargs)

    def make_objects(self) -> lent.LentObjects:
        """Make what holds the objects of states that are looked at together."""
        return lent.LentObjects(self.core)

    def look(
        self,
        objects: lent.LentObjects,
        at: str | None = None,
        *,
        paths: Sequence[bytes] = (),
        contents: bool = True,
        ignored: bool = False,
    ) -> lent.State:
        """Look at the workspace as it is or, `at` one, at another state; from here on nothing waits for the caller.

        With `contents`, what is not committed can be read, too; with `ignored`, also of ignored files.

        Raises:
            PathNotFound: If nothing is at one of the paths.
            CheckpointNotFound: If no state has the name.
            FileChanging: If a file keeps changing while it is read.
        """
        if at is not None:
            state = objects.commit(self.fork, revisions.resolve_revision(self.core, at, fork=self.fork))
        else:
            found, content = self.run(operations.lend_workspace, contents, ignored)
            state = objects.take(self.fork, found, content.whole())
        objects.check_paths(state, paths, at)
        return state

    def change(
        self, call: Callable[[], _T], verb: str, path: PathLike, *, in_steps: bool = False, unrecorded: bool = False
    ) -> _T:
        """Make a file call that changes the workspace, and note it for the log once it has been done.

        A call that fails has changed nothing and is not noted, unless it is done `in_steps`: then the log says that it
        failed. `unrecorded` is as for `Dispatch.begin_file_call`.
        """
        self.dispatch.begin_file_call(self.fork, unrecorded=unrecorded)
        try:
            done = call()
        except BaseException:
            if in_steps:
                self.dispatch.note_file_call(self.fork, verb, path, " (failed)")
            raise
        self.dispatch.note_file_call(self.fork, verb, path)
        return done

    def mount(
        self,
        directory: str | os.PathLike[str] | None = None,
        *,
        readonly: bool = False,
        at: str | None = None,
        allow_other: bool = False,
        leash_fd: int | None = None,
        backend: str = "auto",
    ) -> record.FoundSession:
        """Start a session that shows the workspace or, read-only, a state; see `Workspace.mount`."""
        names_state = (at is not None or readonly) and find_refusal(self.core.layout.root) is None
        # Until the record of the session names it.
        with nursery_client.starting_early(), holding.objects_held(self.core.git_dir) if names_state else nullcontext():
            state = "HEAD" if at is None and readonly else at
            commit = revisions.resolve_revision(self.core, state, fork=self.fork).hex() if state is not None else None
            if directory is None:
                directory = point.default_directory(self.dispatch.mounts, self.dispatch.home_name, self.fork, commit)
            found = self.dispatch.mount(
                self.fork, directory, at=commit, allow_other=allow_other, leash_fd=leash_fd, backend=backend
            )
        if commit is None:
            self._tell_unseen()
        return found

    def _tell_unseen(self) -> None:
        """Warn where the tree lacks commits that others put on the branch: git would commit the files without them."""
        if self.core.oplog.find_last_position(HEADS + self.fork)[0] == self.core.read_head(self.fork):
            return
        with suppress(AvfsError):  # it is mounted
            warnings = self.run(operations.read_status).warnings
            self.dispatch.tell([warning for warning in warnings if warning.code == "fork.moved_outside"])


class _OfFork(Protocol):
    """A part of `Workspace`."""

    _at: ForkHandle


def holding_objects(method: Callable[Concatenate[_W, _P], _T]) -> Callable[Concatenate[_W, _P], _T]:
    """Hold the objects of a state that the caller named from `gc`, until a ref names them."""

    @functools.wraps(method)
    def held(self: _W, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        if kwargs.get("dry_run"):  # also where nothing may be written
            return method(self, *args, **kwargs)
        with holding.objects_held(self._at.core.git_dir):
            return method(self, *args, **kwargs)

    return held

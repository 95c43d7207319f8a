"""Where the operations of an open vault are done: in this process or, of a workspace that is mounted, in its session.

Decided here: which workspaces of the vault are open here, which process does an operation on one, and what its sessions
are told. Called by the other modules of `avfs_git.sdk`; safe from several threads. Nothing of it survives the process.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from avfs_git.errors import (
    AvfsError,
    CheckpointNotFound,
    HostError,
    InvalidInput,
    WorkspaceBusy,
    WorkspaceMounted,
    quote,
)
from avfs_git.gitstore.repository import is_partial
from avfs_git.host.locks.locks import Holder
from avfs_git.model import BASES, SessionBackend, SessionState, Warning
from avfs_git.paths import Oid, PathLike, check_fork_name, oid_of
from avfs_git.sdk.parts import (
    background,
    beside,
    client,
    forks,
    gate,
    gitmoves,
    lower,
    operations,
    point,
    record,
    recovery,
    remotegit,
    request,
    revisions,
    start,
    stop,
    table,
    tree,
    undo,
    upkeepdue,
    vaultroom,
    workspaces,
)
from avfs_git.values import replace
from avfs_git.workspace.checkpoint.bookkeeping import bookkeeping

if TYPE_CHECKING:
    from avfs_git.host.files.seal import Seal
    from avfs_git.model import ForkInfo, Identity
    from avfs_git.proxy.policy.gate import Gate
    from avfs_git.sdk.repository.programs import Programs
    from avfs_git.workspace.vault.vault import OpenVault

_CALLS_NAMED = 3
"""File calls that the log names; the others are counted."""
_P = ParamSpec("_P")
_T = TypeVar("_T")


class Dispatch:
    """Does the operations of one open vault, each where it has to be done.

    Attributes:
        core: The vault.
        programs: The hooks and plug-ins of the vault.
        mounts: Where the home has its mounts.
        lock_timeout_s: How long another process is waited for.
    """

    def __init__(
        self,
        core: OpenVault,
        *,
        seal: Seal,
        programs: Programs,
        user_policy: Path | None,
        lock_timeout_s: float,
        mounts: Path,
        remote_environment: Mapping[str, str] | None,
        on_wait: Callable[[str, Holder | None], object] | None,
        on_warnings: Callable[[Sequence[Warning]], object] | None,
    ) -> None:
        self.core = core
        self.programs = programs
        self._seal = seal
        self._user_policy = user_policy
        self.mounts = mounts
        self.lock_timeout_s = lock_timeout_s
        self._remote_environment = remote_environment
        self._on_wait = on_wait
        self._on_warnings = on_warnings
        self._workspaces: dict[str, workspaces.OpenWorkspace] = {}
        self._file_calls: dict[str, list[str]] = {}
        """What file calls did to forks that nothing has recorded since."""
        self._mounted: client.Sessions | None = None
        self._lower_mounts: lower.LowerMounts | None = None
        self._lock = threading.RLock()
        self._considered_s = time.monotonic()

    def close(self) -> None:
        """Record what file calls did, and close the vault and its workspaces. A second call does nothing."""
        for fork in list(self._file_calls):
            with contextlib.suppress(AvfsError):  # then the next operation on the fork records it
                self.core.check_there()
                self.tell(self.record_changes(fork))
        with self._lock:
            for opened in self._workspaces.values():
                opened.close()
            self._workspaces.clear()
            if self._mounted is not None:
                self._mounted.close()
            if self._lower_mounts is not None:
                self._lower_mounts.close()
            self.programs.close()
            self.core.close()
        self._consider_maintenance(at_end=True)

    def _consider_maintenance(self, *, at_end: bool = False) -> None:
        """Start maintenance in the background if much was done.

        Asks at most once a second, and when the vault is closed.
        """
        if not self.core.oplog.has_written and self._mounted is None:
            return
        now_s = time.monotonic()
        if at_end or now_s - self._considered_s >= 1.0:
            self._considered_s = now_s
            if upkeepdue.is_worth_asking(self.core.layout):
                background.start(self.core)

    @property
    def home_name(self) -> str:
        """What the vault is called in the home's directory of mounts."""
        name = self.core.name
        return name if os.sep not in name else point.name_of_vault(self.core.git_dir)

    # --- operations ------------------------------------------------------------------------------

    def open_workspace(self, fork: str) -> workspaces.OpenWorkspace:
        """Open the workspace of a fork, if it is not open here."""
        with self._lock:
            opened = self._workspaces.get(fork)
            if opened is None or opened.is_closed or opened.is_gone():
                if opened is not None:
                    opened.close()
                opened = workspaces.OpenWorkspace(
                    self.core,
                    fork,
                    recover=lambda locked: recovery.recover(locked),  # noqa: PLW0108 - else it would be loaded now
                    lock_timeout_s=self.lock_timeout_s,
                    on_wait=self._on_wait,
                )
                self._name_session(opened)
                self._workspaces[fork] = self.programs.follow(opened)
            return opened

    def _name_session(self, opened: workspaces.OpenWorkspace) -> None:
        """Have the lock of a workspace name its session again, where a person has removed the file that did."""
        lock = opened.lock
        if lock.epoch or lock.session is not None or opened.refused is not None:
            return
        found = record.find_workspace_session(self.core.layout.sessions, opened.fork)
        if found is not None:
            lock.name_session(found.record.id)

    def run(
        self,
        opened: workspaces.OpenWorkspace,
        operation: Callable[Concatenate[workspaces.OpenWorkspace, _P], _T],
        *args: _P.args,
        **kwargs: _P.kwargs,
    ) -> _T:
        """Do an operation of `session.control.operations` here or, if the workspace is mounted, in its session.

        An operation that changes nothing does not wait for the holder of the workspace: it looks at the present state.
        One that captures the workspace records what file calls did: what comes later is not theirs.
        """
        self._consider_maintenance()
        entry = table.TABLE[operation.__name__]
        if entry.flushes and not entry.only_looks(args, kwargs):
            self._file_calls.pop(opened.fork, None)
        if opened.lock.session is None:
            try:
                if entry.only_looks(args, kwargs):
                    return self.look(opened, lambda looking: operation(looking, *args, **kwargs), discard=entry.discard)
                return operation(opened, *args, **kwargs)
            except WorkspaceBusy:
                if opened.lock.session is None:
                    raise
        return self.mounted.run(opened, operation, *args, **kwargs)

    @property
    def mounted(self) -> client.Sessions:
        """The sessions of the vault, as a client sees them."""
        with self._lock:
            if self._mounted is None:
                made = partial(
                    client.Sessions, self.core.layout.sessions, wait_s=self.lock_timeout_s, attend=self.attend
                )
                self._mounted = made(on_wait=self._on_wait, on_warnings=self.tell)
            return self._mounted

    def look(
        self,
        opened: workspaces.OpenWorkspace,
        action: Callable[[workspaces.OpenWorkspace], _T],
        *,
        discard: Callable[[_T], object] | None = None,
    ) -> _T:
        """Look at a workspace that is not mounted. Where another process works in it, look at the present state.

        A process that is putting another state into place, as a restore does, is waited for: half of that is no state.

        Args:
            opened: The workspace.
            action: What looks.
            discard: Closes what is open in a result that is not used, because the state changed: then `action` is
                called again. Without it, `action` is called for one state only.

        Raises:
            WorkspaceBusy: If that process takes too long, or the state changed and `discard` is not given.
        """
        began_s = time.monotonic()
        is_told = False
        while True:
            try:
                return action(opened)
            except WorkspaceBusy as busy:
                if opened.lock.session is not None:
                    raise
                try:
                    return beside.look_past(self.core, opened.fork, action, discard=discard or (lambda _: None))
                except beside.Disturbed as disturbed:
                    waited_s = time.monotonic() - began_s
                    if waited_s >= self.lock_timeout_s or (
                        discard is None and not isinstance(disturbed, beside.Unsettled)
                    ):
                        raise busy from None
                if waited_s >= workspaces.TOLD_AFTER_S and not is_told and self._on_wait is not None:
                    is_told = True
                    self._on_wait(opened.fork, opened.lock.holder())

    def begin_file_call(self, fork: str, *, unrecorded: bool = False) -> None:
        """Prepare for a file call that changes a fork: all of them are one operation, which `record_changes` ends.

        Earlier changes by other programs, if not recorded, are an operation of their own. `unrecorded` goes on, with a
        warning, where they cannot be recorded.

        Raises:
            HostError: If they cannot be recorded: no undo would bring back what the call removes.
        """
        if fork in self._file_calls:
            return
        opened = self.open_workspace(fork)
        if opened.refused is None and not opened.is_clean():
            try:
                self.tell(self.run(opened, operations.record_changes))
            except WorkspaceBusy:
                raise
            except HostError as error:
                if not unrecorded:
                    raise
                what = f"changes of before could not be recorded ({error.message})"
                self.tell((Warning("file.unrecorded", f"{what}: no undo brings back what goes with this"),))
            except AvfsError:  # a file keeps changing, or passes a quota: then they are a part of this one
                pass
        self._file_calls.setdefault(fork, [])

    def note_file_call(self, fork: str, verb: str, path: PathLike, outcome: str = "") -> None:
        """Note what a file call has done to a path: the log names the first ones."""
        calls = self._file_calls.setdefault(fork, [])
        calls.append(f"{verb} {quote(os.fsdecode(path))}{outcome}" if len(calls) < _CALLS_NAMED else "")

    def record_changes(self, fork: str) -> tuple[Warning, ...]:
        """Record a fork's changes since the last record: name what file calls did, and count the other changes.

        Tells what was left out.

        Raises:
            AvfsError: As `operations.record_changes`.
        """
        calls = self._file_calls.pop(fork, [])
        opened = self.open_workspace(fork)
        if opened.refused is not None or opened.is_clean():
            return ()
        more = f" and {len(calls) - _CALLS_NAMED} more file calls" if len(calls) > _CALLS_NAMED else ""
        return self.run(opened, operations.record_changes, (", ".join(calls[:_CALLS_NAMED]) + more) or None)

    def set_config(self, key: str, value: str | None, fork: str | None) -> None:
        """Change a setting of the vault or of one fork; None puts it back. Each mounted fork follows a quota."""
        self.core.prepare()
        config = self.core.config
        if fork is not None:
            config = self.core.fork_config(self.open_workspace(fork).fork)  # its workspace is made for that
        limits = config.read_limits()
        config.unset(key) if value is None else config.set(key, value)
        if key == "quota.vault_bytes" and not (limits is not None and limits.vault_bytes):
            vaultroom.VaultRoom(self.core.layout).forget()
        if key.startswith("quota."):
            for found in record.list_sessions(self.core.layout.sessions):
                with contextlib.suppress(AvfsError):  # it is ending, or of an older avfs
                    if fork in (None, found.record.fork):
                        self.run(self.open_workspace(found.record.fork), operations.follow_settings)

    def tell(self, warnings: Sequence[Warning]) -> None:
        """Tell what no result carries."""
        if warnings and self._on_warnings is not None:
            self._on_warnings(warnings)

    @property
    def gate(self) -> Gate:
        """What decides about commands."""
        return gate.Gate(self.core.git_dir, seal=self._seal, user_policy=self._user_policy)

    def access(self) -> remotegit.Access:
        """Tell what of the user's own git may use to reach a server."""
        return remotegit.Access(self._remote_environment)

    def has_fork(self, name: str) -> bool:
        """Whether the vault has a fork of that name; False for what can be no name of one."""
        try:
            return self.core.has_fork(check_fork_name(name))
        except InvalidInput:
            return False

    def make_fork(
        self,
        name: str,
        *,
        source: str | None = None,
        at: str | None = None,
        ephemeral: bool = False,
        with_changes: bool = True,
        author: Identity | None = None,
        config: Mapping[str, str] | None = None,
    ) -> None:
        """Make a fork; see `Vault.fork`."""
        for key, value in (config or {}).items():
            self.core.fork_config(name).check(key, value)
        self.check_new(name)
        at_hand = self.core.choose_fork(source) if source is not None else self.core.default_fork()
        if (at is None and with_changes) or self.core.has_fork(name):  # then they are saved there, or it is refused
            self.record_git_moves(at_hand)
        else:
            self.record_work(at_hand)
        forks.create_fork(
            self.core,
            name,
            open_workspace=self.open_workspace,
            source=source if at is not None else at_hand,
            at=at,
            ephemeral=ephemeral,
            with_changes=with_changes,
            author=author,
            save=self._save_source,
        )
        for key, value in (config or {}).items():
            self.set_config(key, value, name)

    def _save_source(self, opened: workspaces.OpenWorkspace, message: str, text: str) -> Oid | None:
        self.tell(gitmoves.warn_of_git(self.core, opened.fork))
        return self.run(opened, operations.save_source, message, text)

    def delete_fork(
        self, name: str, only_if: Callable[[workspaces.LockedWorkspace], bool] | None = None, *, by: str | None = None
    ) -> ForkInfo | None:
        """Delete a fork if `only_if`, called with its workspace locked, says so; return None if it is not deleted."""
        self.check_unmounted(name)
        by = self.core.default_fork() if by is None else check_fork_name(by)
        self.record_git_moves(name)
        if by != name and self.core.has_fork(name):  # a deletion that is refused records nothing
            self.record_work(by or self.core.default_fork(without=name))  # undo without a name means that one then
        return forks.delete_fork(self.core, name, open_workspace=self.open_workspace, by=by, only_if=only_if)

    @contextlib.contextmanager
    def at_hand(self, fork: str | None) -> Iterator[str | None]:
        """Choose the fork whose labels and head a name of a state means.

        Return None if there is no default and no name needs one.
        """
        fork = self.core.choose_fork(fork) if fork is not None else self.core.default_fork()
        try:
            yield fork
        except CheckpointNotFound:
            self.core.choose_fork(fork)
            raise

    def save_and_resolve(self, name: str, fork: str | None, *, save: bool) -> tuple[Oid, tuple[Warning, ...]]:
        """Find the commit of a name; if it is a fork, save its uncommitted changes first, or warn of them."""
        oid = revisions.resolve_source(self.core, name, fork=fork)
        opened = self._open_source(name, fork, oid)
        if opened is None:
            return oid, ()
        if save:
            text = f"save before {name} is merged"
            saved = self.run(opened, operations.save_checkpoint, message=bookkeeping(text), description=text)
            return (oid_of(saved.checkpoint.id) if saved.checkpoint is not None else oid), saved.warnings
        if self.run(opened, operations.read_status).clean:
            return oid, ()
        return oid, (
            Warning("merge.uncommitted", f"'{name}' has changes that are not committed; they are not looked at"),
        )

    def resolve_with_changes(self, name: str, fork: str | None) -> Oid | None:
        """Find the commit of what a fork holds with its uncommitted changes, which no branch has.

        Return None if it has none.
        """
        oid = revisions.resolve_source(self.core, name, fork=fork)
        opened = self._open_source(name, fork, oid)
        return self.run(opened, operations.save_aside) if opened is not None else None

    def _open_source(self, name: str, fork: str | None, oid: Oid) -> workspaces.OpenWorkspace | None:
        """Open a name's workspace if its commit is the head of another fork that may have uncommitted changes."""
        if name == fork or not self.has_fork(name) or self.core.read_head(name) != oid:
            return None
        opened = self.open_workspace(name)
        return None if opened.lock.session is None and opened.is_recorded_by(oid) else opened

    def record_work(self, fork: str | None) -> None:
        """Record what was done in a fork, by git and to files, before an operation that comes after it in the log.

        For operations that change refs alone; those on a workspace do it with its lock. A workspace that another
        process has locked is left out: what is done there belongs to that process. Changes that cannot be recorded now,
        because a file keeps changing, do not hold the operation up: the next one records them.
        """
        if fork is not None and self.core.layout.workspace(fork).state.exists() and self.core.has_fork(fork):
            opened = self.open_workspace(fork)
            if self._may_record(opened):
                with contextlib.suppress(AvfsError):
                    self.tell(self.record_changes(fork))
        self.record_git_moves(fork)

    def record_git_moves(self, fork: str | None) -> None:
        """Record what git has done in the live tree of a fork, as `record_work` does."""
        if (
            fork is None
            or not gitmoves.list_with_git_dir(self.core, fork)
            or not gitmoves.list_unrecorded(self.core, fork)
        ):
            return
        opened = self.open_workspace(fork)
        if self._may_record(opened):
            with contextlib.suppress(WorkspaceBusy):
                self.run(opened, operations.adopt_git_moves)

    def record_unrecorded(self, fork: str | None) -> None:
        """Record what git has done in live trees, or deleted, before the log is listed: its numbers stay."""
        for name in gitmoves.list_with_git_dir(self.core, fork):
            if gitmoves.list_unrecorded(self.core, name):
                with contextlib.suppress(AvfsError):
                    self.record_work(name)
        for name in self.core.layout.list_workspaces() if fork is None else (fork,):
            with contextlib.suppress(AvfsError):
                self.check_left(name, "list again")
                undo.note_deletions(self.core, (name,))

    @staticmethod
    def _may_record(opened: workspaces.OpenWorkspace) -> bool:
        """Whether no other process has locked a workspace; a session can be asked."""
        if opened.lock.session is None:
            if not opened.lock.acquire(0):
                return False
            opened.lock.release()
        return True

    def check_new(self, name: str) -> None:
        """Check that a new fork's name is not that of a mount without a branch."""
        check_fork_name(name)
        self.check_left(name, f"bring it back with `avfs undo --fork {shlex.quote(name)}`, or make the new fork")

    def check_left(self, fork: str, then: str) -> None:
        """Check that no workspace of a fork without a branch is mounted.

        Args:
            fork: The fork's name.
            then: What the caller of avfs can do again once it is unmounted, for the hint.

        Raises:
            WorkspaceMounted: If one is.
        """
        if not self.core.layout.workspace(fork).root.exists() or self.core.has_fork(fork):
            return
        try:
            self.check_unmounted(fork)
        except WorkspaceMounted as err:
            err.hint = (
                f"It has no branch any more: `avfs unmount {shlex.quote(str(err.details['directory']))}`, then {then}."
            )
            raise

    def is_mounted(self, fork: str) -> bool:
        """Tell whether a session shows the workspace of a fork."""
        return self.core.has_fork(fork) and self.open_workspace(fork).lock.session is not None

    # --- sessions --------------------------------------------------------------------------------

    @property
    def lowers(self) -> lower.LowerMounts:
        """The mounts of commits on which commands run."""
        with self._lock:
            if self._lower_mounts is None:
                place = self.mounts / self.home_name / BASES
                self._lower_mounts = lower.LowerMounts(self.core, place, lock_timeout_s=self.lock_timeout_s)
            return self._lower_mounts

    def mount(
        self,
        fork: str,
        directory: str | os.PathLike[str],
        *,
        at: str | None,
        allow_other: bool,
        leash_fd: int | None,
        backend: str = SessionBackend.FUSE,
        mounts: Path | None = None,
    ) -> record.FoundSession:
        """Start a session that shows a fork, or the whole vault; see `Workspace.mount` and `Vault.mount`."""
        request = replace(
            self._request(fork, os.fspath(point.resolve(directory))),
            at=at,
            allow_other=allow_other,
            leash_fd=leash_fd,
            mounts=None if mounts is None else os.fspath(mounts),
        )
        return tree.mount(self.core, lambda: self.lowers, backend, request, partial(self.open_workspace, fork))

    def check_unmounted(self, fork: str | None = None) -> None:
        """Check that no fork of this vault is mounted; or, with `fork`, that its workspace is not.

        Raises:
            WorkspaceMounted: If one is mounted.
        """
        sessions = self.core.layout.sessions
        if fork is not None:  # one that is about to end is waited for
            record.await_ending(sessions, fork=fork, directory=None, timeout_s=self.lock_timeout_s)
        kept = []
        for found in record.list_sessions(sessions):
            of = found.record
            if fork is None and found.is_base:
                kept.append(found)
                continue
            if of.state != SessionState.ENDED and (fork is None or (of.fork == fork and found.is_workspace)):
                raise WorkspaceMounted(of.fork, of.directory, session=of.id, pid=of.pid)
        for found in kept:  # for speed alone, and when nothing stands on them
            stop.end_session(found, lazy=True)

    def attend(self, session_id: str) -> None:
        """Start another process for a session that died, and whose mount goes on without it."""
        start.attend(self.core.layout.sessions, session_id, self._request("", ""))

    def _request(self, fork: str, directory: str) -> request.Request:
        """Ask for a session of this vault."""
        who = self.core.caller()
        return request.Request(
            git_dir=os.fspath(self.core.git_dir),
            is_foreign=self.core.is_foreign,
            vault=self.core.name,
            fork=fork,
            directory=directory,
            lock_timeout_s=self.lock_timeout_s,
            home=os.fspath(self.programs.home),
            identity=(who.name, who.email) if who is not None else None,
            remote_environment=dict(self.access().without_prompts()) if is_partial(self.core.git_dir) else None,
        )

"""One command from request to envelope: policy, baseline, backend, run, delta, commit.

Decided here: the order of these steps, and what is true after each. `sdk` makes an `Executor` for a workspace and
consumes what `run` yields.

1. The policy lets the command in (`gate`), or nothing happens.
2. A command that is decided to only read runs on a read-only view: the kernel refuses what the decision was wrong
   about, and steps 3 and 6 have nothing to do. Where no such view can be mounted, it runs like any other command.
3. What is uncommitted is saved, if the policy wants that; else it is noted, so that it is not taken for the command's
   doing.
4. A backend shows the workspace. Where this process shows it, it holds the workspace's lock until the end, and so does
   the process above the command: if this one is killed, no process works in the workspace until the command is dead,
   too. Where a session shows it, the session has the lock.
5. The command runs. The lock says that a change is under way: whoever opens the workspace after a crash looks at all of
   it, and finds what the command did as uncommitted changes.
6. What changed is committed: one commit a command, none if nothing changed.

A generator that is given up kills its command; what it changed stays uncommitted. One thread at a time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Generator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avfs_git.backends.choose import candidates, open_held, open_served
from avfs_git.backends.lower import LowerMounts
from avfs_git.backends.overlay import OverlayBackend, base_of
from avfs_git.backends.shield import clear_planted, list_parts
from avfs_git.backends.shown import Backend, BackendName, Gone, Served
from avfs_git.errors import (
    BackendUnavailable,
    ExecError,
    FuseUnavailable,
    InvalidInput,
    MountError,
    WorkspaceBusy,
    WorkspaceMounted,
)
from avfs_git.faults import reach
from avfs_git.host.files.umask import read_umask
from avfs_git.host.processes.runner.handle import Launch, NamespaceRefused
from avfs_git.host.userhome import find_user_home
from avfs_git.lazy import LazyModule
from avfs_git.model import ChangedFile, Warning
from avfs_git.paths import oid_of
from avfs_git.proxy.exec.commits import Commits, Run, describe, tell_unused, telling_that_it_ran
from avfs_git.proxy.exec.envelope import Command, ExecPlan, ExecResult, View
from avfs_git.proxy.exec.environment import divide, without_terminal
from avfs_git.proxy.exec.gittrace import GitTrace
from avfs_git.proxy.exec.given import make_argv, make_request, open_stdin, read_stdin
from avfs_git.proxy.exec.output import Captured
from avfs_git.proxy.exec.run import Finished, Late, Output, Stop, run_command
from avfs_git.proxy.exec.steplog import Step, StepLog
from avfs_git.proxy.exec.view import (
    WAY_OUT,
    gets_readonly_view,
    may_lack_writing,
    may_search,
    may_use_git,
    saves_before,
    suggest_shell,
)
from avfs_git.proxy.policy.decision import Action
from avfs_git.proxy.policy.gate import Gate
from avfs_git.values import replace, value_class
from avfs_git.workspace.checkpoint.aftermath import aftermath
from avfs_git.workspace.gitdir import GitDir
from avfs_git.workspace.opened.workspace import LockedWorkspace, OpenWorkspace
from avfs_git.workspace.vault import notes
from avfs_git.workspace.vault.gitmoves import command_shown, open_worktree

if TYPE_CHECKING:
    from avfs_git.backends.fuse import Mount
    from avfs_git.host import terminals
    from avfs_git.host.terminals import Terminal
    from avfs_git.proxy.exec import isolate
else:
    # A program that runs one command starts faster without what most commands do not need.
    isolate = LazyModule("avfs_git.proxy.exec.isolate")
    terminals = LazyModule("avfs_git.host.terminals")


_PAUSE_S = 0.02


@value_class
class Place:
    """A workspace, and what running a command in it takes."""

    opened: OpenWorkspace
    gate: Gate
    lowers: LowerMounts
    root: Path
    """Where commands see it."""
    do: Callable[..., Any]
    """Does an operation of `session.control.operations` where the workspace is."""
    homes: tuple[Path, ...]
    """Directories of avfs's own, with other vaults and workspaces."""
    mounted: Callable[[], Served | None]
    """Tells where and how a session has it mounted."""
    mount: Mount


class Executor:
    """Runs commands in one workspace."""

    def __init__(self, place: Place, *, keep: bool = False) -> None:
        """Prepare. `keep` shows the workspace from one command to the next."""
        self._place = place
        self._commits = Commits(place.opened, place.do)
        self._keep = keep
        self._kept: OverlayBackend | None = None
        self._epoch = -1

    def close(self) -> None:
        """Show the workspace no more. A second call does nothing."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.close()

    def warm(self, idle_s: float) -> bool:
        """Keep the base mounted when this process ends, until it is idle for so long.

        Return False where that cannot be done.
        """
        opened = self._place.opened
        base = base_of(opened)
        if base is None:
            return False
        try:
            self._place.lowers.keep(*base, idle_s)
        except (FuseUnavailable, MountError):
            return False
        return True

    # --- the steps ---------------------------------------------------------------------------------------------

    def plan(self, command: Command) -> ExecPlan:
        """Tell what would be done with a command; does nothing of it.

        Raises:
            AvfsError: If a policy cannot be read.
        """
        place, opened = self._place, self._place.opened
        served = place.mounted()
        root = self._root(command, served)
        request = make_request(command, vault=opened.vault.git_dir, fork=opened.fork, root=root)
        decision = place.gate.look(request)
        readonly = gets_readonly_view(command, decision, opened.vault.git_dir)
        names = candidates(command.backend, is_mounted=served is not None, has_plugins=opened.find_check() is not None)
        return ExecPlan(
            vault=place.opened.vault.name,
            fork=place.opened.fork,
            mountpoint=root,
            cwd=request.cwd,
            command=request.command(),
            command_mode="argv" if command.shell is None else "shell",
            decision=decision,
            backend=served.by if served is not None else names[0],
            backend_reasons=(),
            view=View.READ_ONLY if readonly else View.READ_WRITE,
            would_checkpoint=saves_before(command, decision) and not readonly,
        )

    def run(
        self, command: Command, stop: Stop | None = None, terminal: Terminal | None = None
    ) -> Generator[Output, None, ExecResult]:
        """Run a command; yields what it writes as it comes, and returns how it ended and what it changed.

        `stop` ends it before its time. `terminal` is that of a command that is to have one, where the caller resizes
        it.

        Raises:
            CommandDenied: If the policy forbids it.
            ApprovalNeeded: If a person must approve of it first.
            BackendUnavailable: If the workspace cannot be shown here.
            WorkspaceBusy: If another process holds it for too long.
            ExecError: If the command cannot be started for another reason than itself.
            AvfsError: If the disk fails. What the command changed by then is in the workspace.
        """
        began = time.monotonic()
        terminal = (terminal or terminals.Terminal()) if command.terminal else None
        gate, opened = self._place.gate, self._place.opened
        root = self._root(command, self._place.mounted() if opened.lock.session is not None else None)
        request = make_request(command, vault=opened.vault.git_dir, fork=opened.fork, root=root)
        if isinstance(command.stdin, int) and terminal is None and gate.look(request).action is Action.REQUIRE_APPROVAL:
            # An approval is for what is read, too: it is read before, and the command gets just that.
            command = replace(command, stdin=read_stdin(command.stdin))
            request = make_request(command, vault=opened.vault.git_dir, fork=opened.fork, root=root)
        decision = gate.admit(request, token=command.approve)
        readonly = gets_readonly_view(command, decision, opened.vault.git_dir)
        secrets = gate.secrets
        redactor = secrets.redactor()
        inherited = divide(redactor, isolate=command.isolate, isolated=secrets.isolated, let_in=command.let_in)
        run = Run(command, root, request, decision, stop, terminal, began, readonly, redactor, inherited)
        try:
            return (yield from self._show(run))
        except BackendUnavailable:
            if command.readonly or not readonly:
                raise
        run.readonly, run.head = False, None
        run.reasons.clear()
        what = (
            "no read-only view can be mounted here: the command ran on a writable one, as a command that changes "
            "files does"
        )
        run.warnings.append(Warning("exec.no_read_only_view", what))
        return (yield from self._show(run))

    def _show(self, run: Run) -> Generator[Output, None, ExecResult]:
        """Run a command on the best backend that can be had.

        Raises:
            BackendUnavailable: If no backend can be used.
        """
        opened = self._place.opened
        until = time.monotonic() + opened.lock_timeout_s
        passed = set[BackendName]()
        left = self._list_candidates(run, passed)
        while left:
            if left[0] is BackendName.FUSE:
                try:
                    served = self._open_served(run)
                except WorkspaceMounted:  # the session of another command was faster
                    if time.monotonic() >= until:
                        raise
                    left = self._list_candidates(run, passed)
                    continue
                except Gone:
                    left = self._list_candidates(run, passed)
                    continue
                if served is None:
                    passed.add(left[0])
                    left = left[1:]
                    continue
                try:
                    return (yield from self._in_served(served, run))
                except Gone:
                    left = self._list_candidates(run, passed)
                    continue
            try:
                locked = opened.acquire()
            except WorkspaceBusy:
                if time.monotonic() >= until or opened.lock.is_callers:
                    raise
                time.sleep(_PAUSE_S)
                left = self._list_candidates(run, passed)  # a session has it, which may be about to fail
                continue
            try:
                opened.lock.sign(command=run.redactor.headline(run.request))  # for processes that wait, or look on
                result = yield from self._in_held(left, run, locked)
            finally:
                opened.lock.release()
            if result is not None:
                return result
            passed.update(left[: left.index(BackendName.FUSE)])
            left = left[left.index(BackendName.FUSE) :]
        raise BackendUnavailable(run.command.backend, run.reasons)

    def _open_served(self, run: Run) -> Backend | None:
        """Show the workspace by a session, its own or one for this command; None if that cannot be done."""
        place, opened = self._place, self._place.opened
        if opened.lock.session is None and run.root != place.root:
            run.reasons.append(f"{BackendName.FUSE}: it shows the workspace at '{place.root}' only")
            return None
        return open_served(opened, place.mounted(), place.mount, readonly=run.readonly, reasons=run.reasons)

    def _in_served(self, backend: Backend, run: Run) -> Generator[Output, None, ExecResult]:
        """Run a command where a session shows the workspace."""
        opened = self._place.opened
        try:
            self._commits.note_before(run, held=False)
            with command_shown(opened.vault, opened.fork) as run.since:  # until what it changed is recorded
                return (yield from self._in(backend, run, None))
        finally:
            backend.close()

    def _in_held(
        self, left: tuple[BackendName, ...], run: Run, locked: LockedWorkspace
    ) -> Generator[Output, None, ExecResult | None]:
        """Run a command on the first of some backends that this process can show; None if it takes a session."""
        self._commits.note_before(run, held=True)
        lowers = self._place.lowers
        backend = self._reuse(run) or open_held(
            left, locked, lowers, run.root, readonly=run.readonly, reasons=run.reasons
        )
        if backend is None:
            return None
        try:
            return (yield from self._in(backend, run, locked))
        except BaseException:
            self._kept = None  # if there was one, it is this
            backend.close()
            raise

    def _list_candidates(self, run: Run, passed: AbstractSet[BackendName]) -> tuple[BackendName, ...]:
        """List the backends to try next. A session that is starting counts once it has mounted the workspace.

        Raises:
            WorkspaceMounted: If it is starting or ending for too long.
        """
        opened = self._place.opened
        is_mounted = opened.lock.session is not None and self._place.mounted() is not None
        has_plugins = opened.find_check() is not None
        names = candidates(run.command.backend, is_mounted=is_mounted, has_plugins=has_plugins)
        if has_plugins:
            self.close()  # what an earlier command was shown, before the plug-in was enabled
        return names if is_mounted else tuple(name for name in names if name not in passed)

    def _reuse(self, run: Run) -> Backend | None:
        kept, opened = self._kept, self._place.opened
        if kept is None:
            return None
        if kept.root == run.root and run.command.backend in ("auto", BackendName.OVERLAY):
            with suppress(NamespaceRefused):  # then it is shown anew
                if opened.lock.epoch != self._epoch:
                    kept.renew()
                kept.show(readonly=run.readonly)
                return kept
        self._kept = None
        kept.close()
        return None

    def _in(self, backend: Backend, run: Run, locked: LockedWorkspace | None) -> Generator[Output, None, ExecResult]:
        """Run a command where it is shown, and commit its changes.

        A caller that holds the workspace passes it as `locked`.
        """
        opened = self._place.opened
        command = run.command
        held = locked is not None
        if backend.root != run.root:
            raise ExecError(f"the workspace is shown at '{backend.root}' since the command was let in; run it again")
        spills = opened.vault.layout.root / "cache" / "output"
        streams = (
            Captured("stdout", most=command.max_output, most_in_file=command.max_output_file, spills=spills),
            Captured("stderr", most=command.max_output, most_in_file=command.max_output_file, spills=spills),
        )
        cwd = backend.root / os.fsdecode(command.cwd)
        argv = make_argv(command)
        sandbox = self._isolate(command, argv, backend.root, cwd) if command.isolate else None
        stdin, is_ours = open_stdin(command.stdin)
        named = (*map(os.fsdecode, run.inherited.kept), *dict(command.env))
        trace = GitTrace(is_shared=not held, may_commit=sandbox is None and not run.readonly, named=named)
        launch = Launch(
            argv if sandbox is None else sandbox.argv,
            cwd=os.fsencode(cwd),
            root=os.fsencode(backend.root),
            env=self._environment(run, backend.root, named, trace.environment),
            keep=run.inherited.kept,
            umask=read_umask(),
            is_sandboxed=sandbox is not None,
            is_locked=run.readonly and sandbox is None and os.geteuid() == 0,
        )
        steps = run_command(
            backend.runner,
            launch,
            stdin=stdin,
            terminal=run.terminal,
            more=() if sandbox is None else sandbox.handles,
            streams=streams,
            timeout_ms=command.timeout_ms,
            grace_ms=command.grace_ms,
            stop=run.stop,
            late=self._index_for(backend, run) if held else None,
        )
        writes = not run.readonly and sandbox is None
        parts = list_parts(opened) if writes else frozenset()
        if locked is not None:
            opened.lock.name_above(backend.runner.pid)
        try:
            if locked is not None and not run.readonly:
                locked.begin()
            try:
                finished = yield from steps
                reach("exec.ended")
            finally:
                steps.close()
                run.ran = trace.end()
                if writes:
                    run.warnings += clear_planted(opened, parts)
                if locked is not None and not run.readonly:
                    locked.end()
                    opened.look_anew()  # what the command did is on the disk, and not in memory
            if sandbox is not None and finished.exit_code == 1:
                finished = _explained(finished, sandbox.explain(_complaints(command, streams)))
        finally:
            if sandbox is not None:
                sandbox.close()
            if is_ours:
                os.close(stdin)
        if finished.exit_code == 125 and finished.problem is not None and not streams[0].size + streams[1].size:
            served = None if held else self._place.mounted()
            if not held and (served is None or served.root != backend.root):
                raise Gone
            raise ExecError(f"the command was not started: {finished.problem}")
        with telling_that_it_ran(finished):
            if held:
                if not self._keep:
                    backend.runner.leave()  # namespaces take a while to go; what follows needs the files only
                with opened.locked() as now:
                    run.warnings += backend.collect(now)
            result = self._compose_result(backend, run, finished, streams, held=held)
        if held and self._keep and isinstance(backend, OverlayBackend):
            self._kept = backend
            self._epoch = opened.lock.epoch
        elif held:
            backend.close()
        return result

    def _isolate(self, command: Command, argv: tuple[bytes, ...], root: Path, cwd: Path) -> isolate.Sandbox:
        opened = self._place.opened
        show = opened.vault.config.read()["isolate.show"]
        return isolate.Sandbox(
            argv,
            root=root,
            cwd=cwd,
            vault=opened.vault.layout,
            worktree=open_worktree(opened.vault, opened.fork).path,
            home=find_user_home(),
            hide=self._place.homes,
            network=command.network,
            show=[place for place in show.split(":") if place.startswith("/")],
            has_terminal=command.terminal,
        )

    def _index_for(self, backend: Backend, run: Run) -> Late | None:
        """Have git's index brought up when a command's git comes to read it, and where nothing can tell that, now.

        A `grep -r` opens every file such that it does not wait, `.git` as well; held back by a lease it would be told
        EAGAIN.
        """
        if not may_use_git(run.command, run.decision):
            return None
        git = GitDir(self._place.opened)
        if not isinstance(backend, OverlayBackend) or (backend.git_file is not None and may_search(run.request)):
            return Late(None, git.bring_up_within)
        if backend.git_file is not None and git.is_behind():
            return Late(backend.git_file, git.bring_up_within)
        return None

    # --- before -------------------------------------------------------------------------------------------------

    def _root(self, command: Command, served: Served | None) -> Path:
        """Tell where a command is to see the workspace.

        Raises:
            InvalidInput: If nothing can be shown there.
            BackendUnavailable: If the workspace is mounted, and not there.
        """
        if command.root is None:
            return served.root if served is not None else self._place.root
        root = command.root.resolve()
        if root.parent == root:
            raise InvalidInput("the workspace cannot be shown at '/'", hint="Name another directory.")
        if served is not None and served.root != root:
            raise BackendUnavailable(
                command.backend, (f"the workspace is mounted at '{served.root}', and is used there",)
            )
        return root

    def _environment(
        self, run: Run, root: Path, named: Collection[str], traced: Mapping[str, str]
    ) -> dict[bytes, bytes]:
        """Spell the variables that a command gets beside its inherited ones.

        `named` are all that it inherits or is given.
        """
        opened = self._place.opened
        own = {
            "AVFS_VAULT": os.fspath(opened.vault.git_dir),
            "AVFS_FORK": opened.fork,
            "AVFS_MOUNTPOINT": os.fspath(root),
        }
        if opened.state.author is not None:  # the fork's own, for the commits that git makes
            for who in ("AUTHOR", "COMMITTER"):
                own[f"GIT_{who}_NAME"], own[f"GIT_{who}_EMAIL"] = opened.state.author
        if run.readonly:
            own["GIT_OPTIONAL_LOCKS"] = "0"  # `git status` does not try to write the index then
        if run.terminal is None:
            own |= without_terminal(named)
        return {
            os.fsencode(name): os.fsencode(value) for name, value in {**own, **dict(run.command.env), **traced}.items()
        }

    # --- after --------------------------------------------------------------------------------------------------

    def _compose_result(
        self, backend: Backend, run: Run, finished: Finished, streams: tuple[Captured, Captured], *, held: bool
    ) -> ExecResult:
        command, opened = run.command, self._place.opened
        commit: str | None = None
        changed: tuple[ChangedFile, ...] = ()
        beside: tuple[ChangedFile, ...] = ()
        note: notes.Note | None = None
        if not run.readonly:
            if opened.vault.config.read()["exec.notes"] != "0":
                note = self._commits.make_note(run, finished, backend.name)
            commit, changed, beside = self._commits.take_delta(run, finished, note, held=held)
        self._warn(run, finished, streams)
        tell_unused(run)
        duration_ms = round(finished.duration_ms, 3)
        with aftermath(run.warnings, "the audit log lacks the end of this command"):
            self._place.gate.completed(
                run.request,
                run.decision,
                exit_code=finished.exit_code,
                duration_ms=round(duration_ms),
                changed_files=len(changed),
                timed_out=finished.timed_out,
                more={"commit": commit, "checkpoint": run.saved},
            )
        if commit is not None and note is not None and not note.is_added:
            with aftermath(run.warnings, "the commit has no note"):
                notes.add_note(opened.vault, oid_of(commit), describe(run, finished, backend.name, len(changed)))
        before = run.saved or (run.head.hex() if run.head is not None else None)
        StepLog(opened.layout.root, opened.fork).add(Step(run.redactor.command(run.request), before))
        out, err = streams
        return ExecResult(
            vault=opened.vault.name,
            fork=opened.fork,
            mountpoint=backend.root,
            cwd=run.request.cwd,
            command=run.request.command(),
            command_mode="argv" if command.shell is None else "shell",
            exit_code=finished.exit_code,
            signal=finished.signal,
            timed_out=finished.timed_out,
            interrupted=finished.interrupted,
            stdout=out.data(),
            stderr=err.data(),
            stdout_size=out.size,
            stderr_size=err.size,
            stdout_truncated=out.is_truncated,
            stderr_truncated=err.is_truncated,
            stdout_file=out.spill,
            stderr_file=err.spill,
            readonly=command.readonly,
            view=View.READ_ONLY if run.readonly else View.READ_WRITE,
            duration_ms=duration_ms,
            total_ms=round((time.monotonic() - run.began) * 1000, 3),
            checkpoint=run.saved,
            commit=commit,
            changed_files=changed,
            sidecar_changed=beside,
            decision=run.decision,
            backend=backend.name,
            backend_reasons=tuple(run.reasons),
            left_processes=0 if command.isolate else finished.left,  # bubblewrap's own would be among them
            isolated=command.isolate,
            terminal=command.terminal,
            left_out_variables=run.inherited.left_out,
            kept_mounted=self._keep and isinstance(backend, OverlayBackend),
            warnings=tuple(dict.fromkeys(run.warnings)),
        )

    def _warn(self, run: Run, finished: Finished, streams: tuple[Captured, Captured]) -> None:
        """Warn about how a command ended."""
        command = run.command
        if finished.problem is not None:
            run.warnings.append(Warning("exec.not_started", finished.problem + suggest_shell(command, finished)))
        if any(stream.is_lost for stream in streams):
            run.warnings.append(Warning("exec.output_lost", "the whole output could not be written to a file"))
        if any(stream.is_cut for stream in streams):
            what = f"the file of the output holds the first {command.max_output_file:,} bytes: see `--max-output-file`"
            run.warnings.append(Warning("exec.output_cut", what))
        if finished.is_stuck:
            what = (
                "a process of the command waits in the kernel and cannot be killed: it may still change files "
                "when that ends"
            )
            run.warnings.append(Warning("exec.stuck", what))
        named = os.fsencode(self._place.opened.vault.git_dir) + b"/"
        if command.isolate and finished.exit_code and named in _complaints(command, streams):
            what = (
                "git cannot write to the vault in an isolated command: what one changes is committed when it has "
                "succeeded"
            )
            run.warnings.append(Warning("exec.isolated_git", what))
        if run.readonly and not command.readonly and may_lack_writing(finished, streams):
            run.warnings.append(Warning("exec.read_only_view", WAY_OUT))


def _complaints(command: Command, streams: tuple[Captured, Captured]) -> bytes:
    """Give what a command wrote to standard error; a terminal does not tell that from the rest."""
    return streams[0 if command.terminal else 1].data()


def _explained(finished: Finished, reason: tuple[int, str] | None) -> Finished:
    """Say what bubblewrap said of a command that it could not execute."""
    return finished if reason is None else replace(finished, exit_code=reason[0], problem=reason[1])

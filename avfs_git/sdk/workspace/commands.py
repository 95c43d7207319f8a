"""Running commands in a workspace: what `Workspace.exec` and its like are made of.

Decided here: how a workspace becomes a place for commands, and what a prepared session is: a workspace that stays
shown, and the state before each of its commands. One thread at a time uses a session. Its mounts and processes end with
this process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self, Unpack

from avfs_git.backends.shown import Served
from avfs_git.errors import InvalidInput, NothingToUndo, WorkspaceMounted
from avfs_git.host.files.closing import Closing
from avfs_git.host.mounts.mounts import Mounted, check_in_sight, list_mounts
from avfs_git.lazy import LazyModule
from avfs_git.model import Diff, RestoreResult, SessionBackend, SessionState
from avfs_git.paths import encode_given, list_given, parse_tree_path
from avfs_git.proxy.exec.envelope import Command, ExecResult
from avfs_git.proxy.exec.execute import Executor, Place
from avfs_git.proxy.exec.run import Output, Stop
from avfs_git.proxy.exec.steplog import StepLog, Steps
from avfs_git.sdk.given import checked
from avfs_git.sdk.spans import span
from avfs_git.sdk.workspace.mount import Mount
from avfs_git.session.life import point
from avfs_git.session.life.record import FoundSession, find_workspace_session, list_sessions
from avfs_git.values import replace

if TYPE_CHECKING:
    from avfs_git.host import terminals
    from avfs_git.host.terminals import Terminal
    from avfs_git.sdk.dispatch import Dispatch
    from avfs_git.sdk.handle import ForkHandle
    from avfs_git.sdk.options import ExecOptions
    from avfs_git.sdk.workspace.states import WorkspaceStates
else:
    # Few commands have one.
    terminals = LazyModule("avfs_git.host.terminals")

_PAUSE_S = 0.02


def find_root(dispatch: Dispatch, fork: str) -> Path:
    """Tell where a command in a fork would see the workspace, without waiting for a session."""
    session = find_workspace_session(dispatch.core.layout.sessions, fork)
    if session is not None and (shown := session.find_mount()) is not None:
        return shown.directory
    return _default_root(dispatch, fork)


def _default_root(dispatch: Dispatch, fork: str) -> Path:
    return point.resolve(point.default_directory(dispatch.mounts, dispatch.home_name, fork, None))


def make_executor(at: ForkHandle, *, keep: bool = False) -> Executor:
    """Make the executor of a workspace's commands."""
    dispatch = at.dispatch
    root = _default_root(dispatch, at.fork)

    def mounted() -> Served | None:
        end = time.monotonic() + dispatch.lock_timeout_s
        while True:
            found = find_workspace_session(dispatch.core.layout.sessions, at.fork)
            if found is None:
                return None
            state = found.state()
            if state is SessionState.MOUNTED and found.is_visible and (shown := found.find_mount()) is not None:
                check_awake = partial(_check_awake, at, found)
                check_awake()
                check_in_sight(shown)
                return Served(shown.directory, found.record.backend, check_awake, partial(_is_seen_by, shown))
            if state is SessionState.UNATTENDED:
                dispatch.attend(found.record.id)
                continue
            if time.monotonic() > end:
                raise WorkspaceMounted(at.fork, found.record.directory, session=found.record.id, pid=found.record.pid)
            time.sleep(_PAUSE_S)  # it is starting or ending

    def mount(leash: int) -> tuple[Served, Callable[[], object]]:
        # Overlayfs is a backend of its own, and asks no plug-in.
        session = Mount(dispatch, at.mount(leash_fd=leash, backend=SessionBackend.FUSE))
        served = Served(session.path, session.info().backend, lambda: None, lambda _: True)
        return served, lambda: session.unmount(lazy=True)

    return Executor(
        Place(
            opened=at.opened,
            gate=dispatch.gate,
            lowers=dispatch.lowers,
            root=root,
            homes=(dispatch.mounts.parent,),
            do=dispatch.run,
            mounted=mounted,
            mount=mount,
        ),
        keep=keep,
    )


def _is_seen_by(shown: Mounted, pid: int) -> bool:
    """Tell whether a process has a session's mount; true where that is not told."""
    try:
        found = list_mounts(pid)
    except OSError:
        return True
    return any(each.source == shown.source and each.directory == shown.directory for each in found)


def _check_awake(at: ForkHandle, found: FoundSession) -> None:
    """Refuse to look into a mount of a fork whose server is stopped, or that of its base below overlayfs."""
    found.check_awake(at.fork)
    if found.record.backend == SessionBackend.OVERLAY:
        for other in list_sessions(at.dispatch.core.layout.sessions):
            if other.record.at is not None and other.record.at == at.opened.state.base:
                other.check_awake(at.fork)


def make_command(argv: Sequence[str | bytes], options: ExecOptions) -> Command:
    """Make a command of the arguments of `Workspace.exec`."""
    given = {
        **options,
        "cwd": parse_tree_path(options.get("cwd", "/")),
        "env": tuple(sorted((options.get("env") or {}).items())),
        "let_in": tuple(list_given(options.get("let_in", ()))),
    }
    return Command(argv=tuple(map(encode_given, argv)) if argv else None, **given)  # type: ignore[arg-type]  # a test compares the names


class Running:
    """A running command: iterate over it for its output as it comes; then `result` says how it ended.

    A `with` block that is left before the end of the iteration kills the command, and does not commit its changes.
    """

    def __init__(self, steps: Generator[Output, None, ExecResult], stop: Stop, terminal: Terminal | None) -> None:
        self._steps = steps
        self._stop = stop
        self._terminal = terminal
        self._result: ExecResult | None = None

    def __iter__(self) -> Iterator[Output]:
        while self._result is None:
            try:
                piece = next(self._steps)
            except StopIteration as done:
                self._result = done.value
                return
            yield piece

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._steps.close()
        self._stop.close()

    def stop(self, number: int = 15) -> None:
        """Send the command a signal, from any thread; a command that is still running after its grace is killed."""
        self._stop.stop(number)

    def resize(self, rows: int, columns: int) -> None:
        """Change the size of the command's terminal, from any thread; without a terminal, nothing happens."""
        if self._terminal is not None:
            self._terminal.resize(rows, columns)

    @property
    def is_heeding(self) -> bool:
        """Whether `stop` ends the command soon: not while avfs saves changes before or after it."""
        return self._stop.is_heeded

    @property
    def result(self) -> ExecResult:
        """The command's result; waits for its end."""
        for _ in self:
            pass
        if self._result is None:
            raise InvalidInput("the command was given up before it ended")
        return self._result


@checked
class Prepared(Closing):
    """A workspace that is kept ready for many commands, and the commands that ran in it since `Workspace.prepare`.

    This process keeps it shown until `close`, or the end of a `with` block. The session lasts until `finish`, also
    beyond this process: the next `prepare` continues it.
    """

    def __init__(self, at: ForkHandle, states: WorkspaceStates) -> None:
        self._at = at
        self._states = states
        self._executor = make_executor(at, keep=True)
        self._log = StepLog(at.opened.layout.root, at.fork)

    def _check_there(self) -> None:
        self._at.core.check_there()

    def close(self) -> None:
        """Stop showing the workspace. A second call does nothing."""
        self._executor.close()

    def steps(self) -> Steps:
        """List the state that the session began with, and its commands.

        Raises:
            NotPrepared: If the session is over.
        """
        return self._log.read()

    def begin(self, idle_s: float | None = None) -> Self:
        """Begin or continue the session, as `Workspace.prepare` does."""
        if idle_s is not None and not idle_s >= 0:
            raise InvalidInput(f"`idle_s` is {idle_s}: it is not negative")
        saved = self._states.checkpoint(description="before a session of commands")
        self._log.begin(saved.checkpoint.id if saved.checkpoint is not None else None)
        if idle_s is not None:
            self._executor.warm(idle_s)
        return self

    def exec(self, *argv: str | bytes, **options: Unpack[ExecOptions]) -> ExecResult:
        """Run a command, as `Workspace.exec` does."""
        return finish(run_command(self._at, make_command(argv, options), executor=self._executor))

    def rollback(self, commands: int = 1) -> RestoreResult:
        """Restore the files from before the last command, or an earlier one. It can be undone.

        Args:
            commands: How many commands to go back.

        Raises:
            NothingToUndo: If the session has fewer commands.
            NotPrepared: If the session is over.
        """
        steps = self.steps().steps
        target = steps[-commands].before if 1 <= commands <= len(steps) else None
        if target is None:
            raise NothingToUndo("roll back")
        result = self._states.restore(target)
        self._log.drop(commands)
        return result

    def inspect(self, *, patches: bool = True) -> Diff:
        """Compare the state before the first command with the present one."""
        return self._states.diff(self.steps().start, patches=patches)

    def finish(self, *, discard: bool = False) -> RestoreResult | None:
        """End the session; `discard` restores the files from before its first command, which can be undone.

        What was made before that stays, and all if no command has run, or all were rolled back.

        Raises:
            NotPrepared: If the session is over.
        """
        steps = self.steps()
        start = (steps.steps[0].before or steps.start) if steps.steps else None
        result = self._states.restore(start) if discard and start is not None else None
        self._log.end()
        self.close()
        return result


def run_command(
    at: ForkHandle,
    command: Command,
    stop: Stop | None = None,
    terminal: Terminal | None = None,
    *,
    executor: Executor | None = None,
) -> Generator[Output, None, ExecResult]:
    """Run a command, then the owner's hook."""
    with span("exec", at) as note:
        result = yield from (executor or make_executor(at)).run(command, stop, terminal)
        note(result)
    facts = {
        "command": result.command,
        "exit_code": result.exit_code,
        "timed_out": result.timed_out,
        "commit": result.commit,
    }
    heard = at.dispatch.programs.run_hook("post-exec", at.fork, facts)
    return replace(result, warnings=(*result.warnings, *heard)) if heard else result


def finish(steps: Generator[Output, None, ExecResult]) -> ExecResult:
    """Run a command to its end; drop its pieces of output."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: ExecResult = done.value
            return result


async def run_in_thread(at: ForkHandle, command: Command) -> ExecResult:
    """Run a command in a thread; cancelling it ends the command and waits for that."""
    import asyncio  # noqa: PLC0415 - only for programs that use it already

    stop = Stop()
    running = asyncio.ensure_future(asyncio.to_thread(lambda: finish(run_command(at, command, stop))))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.stop()
        await asyncio.wait([running])
        raise
    finally:
        stop.close()


def begin(at: ForkHandle, command: Command) -> Running:
    """Begin to run a command."""
    stop = Stop()
    terminal = terminals.Terminal() if command.terminal else None
    return Running(run_command(at, command, stop, terminal), stop, terminal)

"""What avfs does at an event of a coding agent.

Decided here: what each kind of event leads to, and what a failure does. Where the policy cannot be asked about a
command, a person is asked or the command is refused: harnesses pass over a hook that fails or takes too long, and run
the command. So a child process asks the policy, and this one kills it when it takes too long. Any other failure is a
message and status 1, which harnesses show and pass over. Status 2, which refuses the tool, is used only where the event
cannot be read and may be one before a tool, and where the answer about a command cannot be found or written at all.
Outside of a live tree nothing is done, and little is imported: agents wait for this at each call. `cli.app` and
`cli.commands.running.hook` call it.
"""

from __future__ import annotations

import marshal
import os
import shlex
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from avfs_git.cli.context import State
from avfs_git.cli.environment import find_command, find_home, find_user_policy
from avfs_git.cli.harness.events import REFUSED, Event, Kind, may_be_before, read_event
from avfs_git.errors import AvfsError, CloneReplaced, ForkExists, HostError, VaultHidden
from avfs_git.host.processes.descriptors import is_readable
from avfs_git.paths import show_path

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from avfs_git.cli.place import Place
    from avfs_git.cli.results import HookAnswer
    from avfs_git.model import CheckpointResult
    from avfs_git.sdk.running.runs import Run
    from avfs_git.sdk.vault import Session

ANSWERS_AFTER_S = 25
"""Longest time to an answer before a tool, in seconds: harnesses end the hook after 30 s, and then run the tool."""
_FAILED = 1
_TRIES = 100
_LARGEST = 64 << 20


def give_answer(state: State, harness: str) -> None:
    """Do what the event on standard input asks, and write the answer for people's output, for `avfs hook HARNESS`."""
    state.output.begin("hook_result", "hook", {"harness": harness})
    found = find_answer(state, harness)
    if found["answer"]:
        state.output.result(found)


def find_answer(state: State, harness: str | None) -> HookAnswer:
    """Do what the event on standard input asks for, and give the answer.

    A failure is told, and is the answer or the status.
    """
    event: Event | None = None
    data = b""

    def read_and_handle() -> bytes:
        nonlocal event, data
        data = sys.stdin.buffer.read(_LARGEST) if sys.stdin is not None else b""  # closed by the caller
        event = read_event(harness, data)
        return b"" if _needs_judgement(event) else _handle(state, event) or b""

    answer, failure, note = _try(read_and_handle)
    if event is not None and _needs_judgement(event):
        # No memory for the answer, a full disk under it, or nothing that reads it.
        state.failure_status = state.unread_status = REFUSED
        judged = event
        answer, failure, note = _try_in_time(lambda: _handle(state, judged) or b"")
    if note:
        state.output.note(f"avfs hook: {note}")
    if failure and event is not None and event.kind is Kind.BEFORE:
        answer = _refuse(event, failure)
    elif failure:
        answer = _tell(event, failure) if event is not None else b""
        if not answer:
            state.status = REFUSED if event is None and may_be_before(harness, data) else _FAILED
    return {"event": event.name if event is not None else "", "answer": os.fsdecode(answer)}


def _needs_judgement(event: Event) -> bool:
    return event.kind is Kind.BEFORE and bool(event.command)


def _refuse(event: Event, failure: str) -> bytes:
    from avfs_git.cli.harness import answers  # noqa: PLC0415 - only for a command

    return answers.ask_or_deny_unjudged(event, failure)


def _tell(event: Event, failure: str) -> bytes:
    from avfs_git.cli.harness import answers  # noqa: PLC0415 - only after a failure

    return answers.tell(event, failure)


def _try(find: Callable[[], bytes]) -> tuple[bytes, str, str]:
    """Find an answer; else give the reason, and the message for people."""
    try:
        return find(), "", ""
    except AvfsError as error:
        failure = f"{error.message}{f'. {error.hint}' if error.hint else ''}"
        return b"", failure, failure
    except OSError as error:
        return b"", str(error), str(error)
    except Exception as error:  # noqa: BLE001 - a bug is a failure like any other, and it is shown
        import traceback  # noqa: PLC0415 - only for a bug

        is_bug = "This is a bug in avfs."
        return b"", f"{type(error).__name__}: {error}. {is_bug}", f"{traceback.format_exc()}. {is_bug}"


def _try_in_time(find: Callable[[], bytes]) -> tuple[bytes, str, str]:
    """Find an answer in a child process, which is killed when it takes too long.

    A thread or a signal would not do: Python runs neither while a regular expression or libgit2 is at work.
    """
    found = os.memfd_create("answer")
    child = os.fork()
    if not child:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(int(ANSWERS_AFTER_S) + 1)  # where the harness has killed this process's parent
        try:
            os.write(found, marshal.dumps(_try(find)))
        finally:
            os._exit(0)  # also after an exception: this process must not go on as its parent
    watch = os.pidfd_open(child)
    try:
        if not is_readable(watch, ANSWERS_AFTER_S):
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, os.WNOHANG)  # in a call into the kernel it may stay for long
            failure = f"avfs has found no answer within {ANSWERS_AFTER_S} s"
            return b"", failure, failure
        os.waitpid(child, 0)
        said = os.pread(found, _LARGEST, 0)
    finally:
        os.close(watch)
        os.close(found)
    if not said:
        return b"", "the process that asked the policy was killed", "the process that asked the policy was killed"
    answer: tuple[bytes, str, str] = marshal.loads(said)  # noqa: S302 - from this program
    return answer


def _handle(state: State, event: Event) -> bytes | None:
    if event.kind is Kind.CREATE:
        return _make_tree(state, event)
    if event.kind is Kind.REMOVE:
        _remove_tree(state, event)
        return None
    if event.kind is Kind.OTHER or (event.kind is Kind.BEFORE and not event.command):
        return None
    answer = None
    for directory in dict.fromkeys((event.directory, event.place)) if event.kind is Kind.AFTER else [event.directory]:
        place = _find_live_tree(directory)
        if place is not None:
            with suppress(VaultHidden):  # `avfs exec` runs the agent: it asks the policy, and saves
                answer = _act(state, event, place)
    return answer


def _find_live_tree(directory: Path) -> Place | None:
    from avfs_git.cli.place import find_place  # noqa: PLC0415 - not for the help

    try:
        place = find_place(find_home(), find_command(), directory)
    except CloneReplaced:
        return None
    return place if place is not None and place.is_mount and place.fork is not None else None


def _act(state: State, event: Event, place: Place) -> bytes | None:
    """Ask the policy, or save what changed; the answer of the policy, if there is something to say."""
    if event.kind is Kind.BEFORE:
        return _ask_policy(state, event, place)
    if event.kind is Kind.START:  # so that the first call's checkpoint has only what the call changed
        _save(state, event, place, "state before the session")
    else:
        _save(state, event, place, f"{event.tool}: {event.subject}" if event.tool else event.name)
    return None


def _ask_policy(state: State, event: Event, place: Place) -> bytes | None:
    """Ask the vault's policy, for which the vault need not be opened."""
    from avfs_git.cli.harness import answers  # noqa: PLC0415 - only here
    from avfs_git.cli.harness.own import is_own_command  # noqa: PLC0415 - the same
    from avfs_git.host.files.seal import Seal  # noqa: PLC0415 - the same
    from avfs_git.proxy.policy.decision import Action, Request  # noqa: PLC0415 - the same
    from avfs_git.proxy.policy.gate import Gate  # noqa: PLC0415 - the same
    from avfs_git.workspace.vault.format import SEAL_KEY, VaultLayout  # noqa: PLC0415 - the same

    if is_own_command(event.command):
        return None
    if place.vault.stat().st_uid != os.geteuid():
        state.avfs.open_vault(place.vault).close()  # refused, unless the user trusts it
    VaultLayout(place.vault).read_format()
    gate = Gate(place.vault, seal=Seal(find_home() / SEAL_KEY), user_policy=find_user_policy())
    request = Request(
        vault=str(place.vault),
        fork=place.fork or "",
        argv=None if isinstance(event.command, str) else tuple(event.command),
        shell=event.command if isinstance(event.command, str) else None,
        cwd="/" + show_path(place.prefix),
        mountpoint=os.fspath(place.top),
    )
    try:
        call = f"{event.session} {event.call}" if event.call else None
        decision = gate.consult(request, harness=event.harness, asks_itself=answers.can_ask(event.harness), call=call)
    except HostError as error:  # of the audit log: the decision holds without it
        state.output.note(f"avfs hook: {error.message}")
        decision = gate.look(request)
    if decision.action is Action.DENY:
        return answers.deny(event, reason=decision.reason, hint=decision.hint)
    if decision.action is Action.REQUIRE_APPROVAL:
        with state.avfs.open_vault(place.vault) as vault:
            return answers.ask_or_deny(
                event, vault=vault.name, approval=decision.approval, reason=decision.reason, hint=decision.hint
            )
    if decision.action is Action.ALLOW_WITH_CHECKPOINT:
        _save(state, event, place, f"before {event.tool}: {event.subject}")
    return None


def _save(state: State, event: Event, place: Place, subject: str) -> None:
    """Save a checkpoint if something changed; it names the session and the call."""
    facts = (("Harness", event.harness), ("Session", event.session), ("Call", event.call))
    trailers = "\n".join(f"Avfs-{name}: {value}" for name, value in facts if value)
    description = f"{subject.rstrip(': ')}\n\n{trailers}"
    saved = _save_beside(place, description)
    if saved is None:
        with state.avfs.open_vault(place.vault) as vault:
            workspace = vault.workspace(place.fork)
            saved = workspace.checkpoint(description=description, step=True)
            workspace.close()
    state.output.warn(saved.warnings)


def _save_beside(place: Place, description: str) -> CheckpointResult | None:
    """Have the fork's session save a checkpoint; None where that needs the vault."""
    from avfs_git.session.control.step import save_step  # noqa: PLC0415 - only in a live tree
    from avfs_git.workspace.vault.format import ENABLED_HOOKS, ENABLED_PLUGINS  # noqa: PLC0415 - the same

    # The owner may have hooks that a checkpoint runs, or plug-ins that are asked before it.
    if place.fork is None or any((find_home() / name).exists() for name in (ENABLED_HOOKS, ENABLED_PLUGINS)):
        return None
    return save_step(place.vault, place.fork, description)


def _make_tree(state: State, event: Event) -> bytes:
    """Fork what the agent's directory holds; give the path of the mount.

    A fork of that name is mounted again if this made it for the same harness. Any other one is somebody's own, and so
    is a branch of the clone: the new one gets a number then.
    """
    from avfs_git.sdk.running import runs  # noqa: PLC0415 - only here
    from avfs_git.session.serve.nursery_client import starting_early  # noqa: PLC0415 - the same

    name = event.worktree
    run = None
    with starting_early():
        for number in range(2, _TRIES):
            try:
                run = runs.begin_in_directory(
                    state.avfs, event.directory, name=name or None, program=event.harness, made_for=event.harness
                )
            except ForkExists:
                if not name or number == _TRIES - 1:
                    raise
                run = _resume_tree(state, event, name)
            if run is not None:
                break
            name = f"{event.worktree}-{number}"
    assert run is not None  # noqa: S101 - the last try raises
    state.output.warn(run.vault.warnings)
    return os.fsencode(run.session.path) + b"\n"


def _resume_tree(state: State, event: Event, name: str) -> Run | None:
    """Mount a fork again that `_make_tree` made; None if it is not one, or is mounted where a person wants it."""
    from avfs_git.cli.place import find_place  # noqa: PLC0415 - only here
    from avfs_git.sdk.running import runs  # noqa: PLC0415 - the same

    place = find_place(find_home(), find_command(), event.directory)
    if place is None:
        return None
    vault = state.avfs.open_vault(place.vault)
    mounted = vault.find_session(name)
    if runs.find_maker(vault, name) != event.harness or (mounted is not None and not _is_own_place(state, mounted)):
        vault.close()
        return None
    return runs.resume(vault, name, below="")


def _is_own_place(state: State, session: Session) -> bool:
    return state.avfs.home / "mounts" in session.path.parents


def _remove_tree(state: State, event: Event) -> None:
    """End a fork: push its branch to the clone if something changed, and keep the fork if that is not possible."""
    from avfs_git.sdk.running import runs  # noqa: PLC0415 - only here
    from avfs_git.workspace.checkpoint.bookkeeping import END_OF_TREE  # noqa: PLC0415 - the same

    session = state.avfs.session_at(event.worktree) if event.worktree else None
    if session is None or os.fspath(session.path) != os.path.realpath(event.worktree):
        return
    vault, fork = session.vault, session.fork
    if runs.find_maker(vault, fork) != event.harness or not _is_own_place(state, session):
        state.output.note(
            f"avfs: fork {fork} stays, mounted on '{session.path}': it was not made for a working tree of "
            f"{event.harness}"
        )
        return
    os.chdir("/")  # this process must not use the mount
    workspace = vault.workspace(fork)
    workspace.checkpoint(description=END_OF_TREE + fork, step=True)
    workspace.close()
    is_new = not session.is_untouched() and not session.is_pushed()
    try:
        if is_new and vault.remote() is not None:
            vault.push_to_origin([fork])
            state.output.note(f"avfs: the commits of {fork} are the branch {fork} of '{vault.origin()}'")
    finally:
        ended = session.remove(lazy=True)
    state.output.warn(ended.warnings)
    if not ended.deleted:
        mount = f"avfs --vault {shlex.quote(vault.name)} mount {shlex.quote(fork)} DIR"
        state.output.note(f"avfs: fork {fork} is kept: `{mount}` mounts it again")

"""What avfs does at an event of a coding agent.

Decided here: what each kind of event leads to, and what a failure does. Where the policy cannot be asked about a command, a
person is asked or the command is refused: harnesses pass over a hook that fails or takes too long, and run the command.
Any other failure is a message and status 1, which harnesses show and pass over. Status 2, which refuses the tool, is used only
where the event cannot be read and may be one before a tool. Outside of a live tree nothing is done, and little is imported:
agents wait for this at each call. `cli.app` and `cli.commands.running.hook` call it.
"""

from __future__ import annotations

import _thread
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from avfs_git.cli.context import State
from avfs_git.cli.environment import find_command, find_home, find_user_policy
from avfs_git.cli.harness.events import Event, Kind, may_be_before, read_event
from avfs_git.errors import AvfsError, CloneReplaced, ForkExists, HostError, VaultHidden
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
"""Before a tool the answer comes after so many seconds at the latest: harnesses end the hook after 30, and then run the tool."""
_FAILED = 1
_REFUSED = 2
_TRIES = 100
_LARGEST = 64 << 20


def give_answer(state: State, harness: str) -> None:
    """Do what the event on standard input asks for, and write the answer for people's output: what `avfs hook HARNESS` does."""
    state.output.begin("hook_result", "hook", {"harness": harness})
    found = find_answer(state, harness)
    if found["answer"]:
        state.output.result(found)


def find_answer(state: State, harness: str | None) -> HookAnswer:
    """Do what the event on standard input asks for, and give the answer; a failure is told, and is the answer or the status."""
    event: Event | None = None
    data, answer, failure = b"", b"", ""
    finish: Callable[[], None] | None = None
    try:
        data = sys.stdin.buffer.read(_LARGEST)
        event = read_event(harness, data)
        if event.kind is Kind.BEFORE and event.command:
            finish = _start_deadline(event)
        answer = _handle(state, event) or b""
    except AvfsError as error:
        failure = f"{error.message}{f'. {error.hint}' if error.hint else ''}"
        state.output.note(f"avfs hook: {failure}")
    except OSError as error:
        failure = str(error)
        state.output.note(f"avfs hook: {failure}")
    except Exception as error:  # noqa: BLE001 - a bug is a failure like any other, and it is shown
        import traceback  # noqa: PLC0415 - only for a bug

        failure = f"{type(error).__name__}: {error}. This is a bug in avfs."
        state.output.note(f"avfs hook: {traceback.format_exc()}. This is a bug in avfs.")
    if failure and event is not None and event.kind is Kind.BEFORE:
        answer = _refuse(event, failure)
    elif failure:
        state.status = _REFUSED if event is None and may_be_before(harness, data) else _FAILED
    if finish is not None:
        finish()
    return {"event": event.name if event is not None else "", "answer": os.fsdecode(answer)}


def _refuse(event: Event, failure: str) -> bytes:
    from avfs_git.cli.harness import answers  # noqa: PLC0415 - only for a command

    return answers.ask_or_deny_unjudged(event, failure)


def _start_deadline(event: Event) -> Callable[[], None]:
    """Answer for this process if it does not answer in time: a thread ends it then, also in a call into the kernel.

    Returns:
        What is called before the process itself answers; it does not return once the thread has begun to.
    """
    answered, claimed = _thread.allocate_lock(), _thread.allocate_lock()
    answered.acquire()

    def wait() -> None:
        if answered.acquire(timeout=ANSWERS_AFTER_S) or not claimed.acquire(blocking=False):
            return
        os.write(1, _refuse(event, f"avfs has found no answer within {ANSWERS_AFTER_S} s"))
        os._exit(0)

    def finish() -> None:
        claimed.acquire()
        answered.release()

    _thread.start_new_thread(wait, ())
    return finish


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
        decision = gate.consult(request, harness=event.harness, asks_itself=answers.can_ask(event.harness))
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
    from avfs_git.workspace.vault.format import ENABLED_HOOKS  # noqa: PLC0415 - the same

    if place.fork is None or (find_home() / ENABLED_HOOKS).exists():  # then the owner has hooks that a checkpoint runs
        return None
    return save_step(place.vault, place.fork, description)


def _make_tree(state: State, event: Event) -> bytes:
    """Fork what the agent's directory holds; give the path of the mount.

    A fork of that name is mounted again if this made it for the same harness. Any other one is somebody's own, and so is a branch
    of the clone: the new one gets a number then.
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

    session = state.avfs.session_at(event.worktree) if event.worktree else None
    if session is None or os.fspath(session.path) != os.path.realpath(event.worktree):
        return
    vault, fork = session.vault, session.fork
    if runs.find_maker(vault, fork) != event.harness or not _is_own_place(state, session):
        state.output.note(
            f"avfs: fork {fork} stays, mounted on '{session.path}': it was not made for a working tree of {event.harness}"
        )
        return
    os.chdir("/")  # this process must not use the mount
    workspace = vault.workspace(fork)
    workspace.checkpoint(description=f"end of the working tree {fork}", step=True)
    workspace.close()
    is_new = not session.is_untouched() and not session.is_pushed()
    try:
        if is_new and vault.remote() is not None:
            vault.push_to_origin([fork])
            state.output.note(f"avfs: the commits of {fork} are the branch {fork} of '{vault.origin()}'")
    finally:
        ended = session.remove(lazy=True)
    if not ended.deleted:
        state.output.note(f"avfs: fork {fork} is kept: `avfs --vault {vault.name} mount {fork} DIR` mounts it again")

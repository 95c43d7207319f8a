"""The user's own programs at the ends of operations: `avfs/hooks/NAME` in a vault.

Decided here: which there are, what they get, and what their ending means. A hook is an executable file that the owner
of the vault put there and enabled: commands may be able to write into that directory, so that only the content that was
enabled runs (`enabledprograms`). Nothing that comes with a clone, an import or a push ever gets there. It reads one
JSON document on its standard input. One that runs before an operation refuses it by a status other than 0, and what it
writes is the reason; one that runs after can only be heard of in a warning.

Called by the SDK, without a lock, in the process that asks for the operation. A hook has a process group of its own and
a time limit, after which the group is killed; nothing waits for what a hook leaves behind.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import AvfsError, HookRefused, InvalidInput, quote
from avfs_git.gitstore.config.githooks import install_update_hook
from avfs_git.host.files.durable import host_errors, make_dirs_durably
from avfs_git.host.files.plainfile import NotAFile, open_plain
from avfs_git.host.processes.processes import await_end, spell_with
from avfs_git.model import HookInfo, HookState, Warning
from avfs_git.workspace.exchange.enabledprograms import EnabledPrograms
from avfs_git.workspace.vault.vault import OpenVault

NAMES = ("pre-checkpoint", "post-checkpoint", "pre-merge", "post-merge", "pre-push", "post-exec")
_HEARD = 4000
"""So much of what a hook writes is told, in bytes."""


def list_hooks(vault: OpenVault, enabled: EnabledPrograms) -> list[HookInfo]:
    """Describe the hooks that a vault may have, those of git for pushes included."""
    update = vault.git_dir / "hooks" / "update"
    is_there = os.access(update, os.X_OK)
    found = [HookInfo("update", update, is_there, HookState.ENABLED if is_there else HookState.MISSING)]
    known = enabled.read(vault.git_dir)
    for name in NAMES:
        place = vault.layout.hooks / name
        found.append(HookInfo(name, place, _digest(place) is not None, _judge(place, known.get(name))))
    return found


def enable_hook(vault: OpenVault, enabled: EnabledPrograms, name: str) -> list[HookInfo]:
    """Enable a hook with its present program; a change of the program disables it.

    Raises:
        InvalidInput: If there is no such hook, or it cannot be executed.
    """
    place = _find(vault, name)
    digest = _digest(place)
    if digest is None:
        raise InvalidInput(f"there is no program '{place}'", hint="Put the hook there, executable, and enable it then.")
    enabled.change(vault.git_dir, name, digest)
    return list_hooks(vault, enabled)


def disable_hook(vault: OpenVault, enabled: EnabledPrograms, name: str) -> list[HookInfo]:
    """Let a hook run no more; its file stays.

    Raises:
        InvalidInput: If there is no hook of that name.
    """
    _find(vault, name)
    enabled.change(vault.git_dir, name, None)
    return list_hooks(vault, enabled)


def _find(vault: OpenVault, name: str) -> Path:
    if name not in NAMES:
        raise InvalidInput(f"there is no hook '{name}'", hint=f"There are {', '.join(NAMES)}.")
    return vault.layout.hooks / name


def _digest(place: Path) -> str | None:
    """Hash a hook; None if it is not there, is no file, or cannot be executed."""
    if not os.access(place, os.X_OK):
        return None
    with host_errors(f"read '{place}'"):
        try:
            with os.fdopen(open_plain(place.resolve()), "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except (FileNotFoundError, NotAFile):
            return None


def _judge(place: Path, wanted: str | None) -> HookState:
    digest = _digest(place)
    if wanted is None:
        return HookState.MISSING if digest is None else HookState.NOT_ENABLED
    return HookState.ENABLED if digest == wanted else HookState.CHANGED


def install_hooks(vault: OpenVault, enabled: EnabledPrograms) -> list[HookInfo]:
    """Put git's hook for pushes into a vault, and make the directory for the user's own.

    Raises:
        InvalidInput: If git has another hook of that name already, which stays.
    """
    vault.prepare()
    make_dirs_durably(vault.layout.hooks)
    install_update_hook(vault.git_dir)
    return list_hooks(vault, enabled)


def run_hook(
    vault: OpenVault, enabled: EnabledPrograms, name: str, fork: str, facts: Mapping[str, object]
) -> tuple[Warning, ...]:
    """Run a hook, if there is one and it is enabled. The hook is told `facts` beside vault and fork.

    Returns:
        A warning if a hook that runs after an operation failed, or if an existing hook is not enabled.

    Raises:
        HookRefused: If a hook that runs before an operation does not want it, fails, takes too long, or is not what was
            enabled.
        KeyboardInterrupt: If Ctrl-C or a signal ends the program; it says whether the operation is done.
    """
    try:
        return _run_enabled(vault, enabled, name, fork, facts)
    except (AvfsError, OSError) as error:
        if name.startswith("pre-"):
            raise
        # The operation is done: a hook that cannot run changes nothing about that.
        return (Warning("hook.failed", f"the hook '{name}' failed: {error}"),)
    except KeyboardInterrupt as stop:
        if not name.startswith("pre-"):
            stop.args = (f"the hook '{name}' was ended; what it ran after is done",)
        raise


def _run_enabled(
    vault: OpenVault, enabled: EnabledPrograms, name: str, fork: str, facts: Mapping[str, object]
) -> tuple[Warning, ...]:
    place = vault.layout.hooks / name
    state = _judge(place, enabled.read(vault.git_dir).get(name))
    if state is HookState.MISSING:
        return ()
    way_out = f"`avfs hooks enable {name}` lets it run as it is"
    if state is HookState.NOT_ENABLED:
        what = f"the hook '{name}' did not run, because it is not enabled: {way_out}; remove {quote(os.fspath(place))} "
        return (Warning("hook.not_enabled", f"{what}to do without it"),)
    way_out += f", `avfs hooks disable {name}` does without it"
    if state is HookState.CHANGED:
        if name.startswith("pre-"):
            raise HookRefused(name, f"its program was changed or removed since it was enabled: {way_out}")
        what = (
            f"the hook '{name}' did not run, because its program was changed or removed since it was enabled: {way_out}"
        )
        return (Warning("hook.changed", what),)
    limit_s = int(vault.config.read()["hooks.timeout_s"])
    document = {"schema_version": 1, "hook": name, "vault": os.fspath(vault.git_dir), "fork": fork, **facts}
    # Of what avfs was started with, these may name others.
    own = {"AVFS_HOOK": name, "AVFS_VAULT": os.fspath(vault.git_dir), "AVFS_FORK": fork}
    reason = _run(place, own, json.dumps(document).encode(), limit_s)
    if reason is None:
        return ()
    if name.startswith("pre-"):
        raise HookRefused(name, reason)
    return (Warning("hook.failed", f"the hook '{name}' failed: {reason}"),)


def _run(program: Path, own: Mapping[str, str], document: bytes, limit_s: int) -> str | None:
    """Run a program; tell why it failed, or None if it did not."""
    # Files and no pipes: a pipe that a child of the hook's keeps open would never end.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as heard:
        given.write(document)
        given.seek(0)
        try:
            process = subprocess.Popen(
                spell_with(own, [os.fspath(program)]),
                stdin=given,
                stdout=heard,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            return error.strerror or str(error)
        try:
            if not await_end(process, limit_s):
                _kill(process)
                return f"it took longer than {limit_s} s"
        except BaseException:  # also of Ctrl-C
            _kill(process)
            raise
        try:
            status = process.returncode = os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1])
        except ChildProcessError:
            process.wait()  # which takes that for success
            return "how it ended is not known, because this process ignores SIGCHLD or waits for children of others"
        if status == 0:
            return None
        heard.seek(0)
        said = " ".join(heard.read(_HEARD).decode("utf-8", "replace").split())
        return said or f"it ended with status {status}"


def _kill(process: subprocess.Popen[bytes]) -> None:
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

"""The user's own programs at the ends of operations: `avfs/hooks/NAME` in a vault.

Decided here: which there are, what they get, and what their ending means. A hook is an executable file that the owner of the
vault put there; nothing that comes with a clone, an import or a push ever gets into that directory. It reads one JSON document
on its standard input. One that runs before an operation refuses it by a status other than 0, and what it writes is the
reason; one that runs after can only be heard of in a warning.

Called by the SDK, without a lock, in whatever process asks for the operation. A hook has a process group of its own and a time
limit, after which the group is killed; nothing waits for what a hook leaves behind.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import HookRefused
from avfs_git.gitstore.githooks import install_update_hook
from avfs_git.host.durable import make_dirs_durably
from avfs_git.model import HookInfo, Warning
from avfs_git.workspace.vault import OpenVault

NAMES = ("pre-checkpoint", "post-checkpoint", "pre-merge", "post-merge", "pre-push", "post-exec")
_HEARD = 4000
"""So much of what a hook writes is told, in bytes."""


def has_hook(vault: OpenVault, name: str) -> bool:
    """Tell whether there is such a hook; costs a look on disk."""
    return os.access(vault.layout.hooks / name, os.X_OK)


def list_hooks(vault: OpenVault) -> list[HookInfo]:
    """Describe the hooks that a vault may have, those of git for pushes included."""
    found = [HookInfo("update", vault.git_dir / "hooks" / "update", os.access(vault.git_dir / "hooks" / "update", os.X_OK))]
    return found + [HookInfo(name, vault.layout.hooks / name, has_hook(vault, name)) for name in NAMES]


def install_hooks(vault: OpenVault) -> list[HookInfo]:
    """Put git's hook for pushes into a vault, and make the directory for the user's own.

    Raises:
        InvalidInput: If git has another hook of that name already, which stays.
        HostError: If the disk refuses.
    """
    vault.prepare()
    make_dirs_durably(vault.layout.hooks)
    install_update_hook(vault.git_dir)
    return list_hooks(vault)


def run_hook(vault: OpenVault, name: str, fork: str, facts: Mapping[str, object]) -> tuple[Warning, ...]:
    """Run a hook, if there is one.

    Args:
        vault: Where.
        name: Which, of `NAMES`.
        fork: The fork that the operation is on.
        facts: What the hook is told beside vault and fork; JSON-safe.

    Returns:
        A warning if a hook that runs after an operation failed.

    Raises:
        HookRefused: If a hook that runs before an operation does not want it, fails, or takes too long.
    """
    if not has_hook(vault, name):
        return ()
    limit_s = int(vault.config.read()["hooks.timeout_s"])
    document = {"schema_version": 1, "hook": name, "vault": os.fspath(vault.git_dir), "fork": fork, **facts}
    reason = _run(vault.layout.hooks / name, name, json.dumps(document).encode(), limit_s)
    if reason is None:
        return ()
    if name.startswith("pre-"):
        raise HookRefused(name, reason)
    return (Warning("hook.failed", f"the hook '{name}' failed: {reason}"),)


def _run(program: Path, name: str, document: bytes, limit_s: int) -> str | None:
    """Run a program; tell why it failed, or None if it did not."""
    # Files and no pipes: a pipe that a child of the hook's keeps open would never end.
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as heard:
        given.write(document)
        given.seek(0)
        try:
            process = subprocess.Popen(
                ["/usr/bin/env", f"AVFS_HOOK={name}", os.fspath(program)],
                stdin=given,
                stdout=heard,
                stderr=subprocess.STDOUT,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            return error.strerror or str(error)
        try:
            status = process.wait(limit_s)
        except BaseException as error:  # also of Ctrl-C
            with suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            if isinstance(error, subprocess.TimeoutExpired):
                return f"it took longer than {limit_s} s"
            raise
        if status == 0:
            return None
        heard.seek(0)
        said = " ".join(heard.read(_HEARD).decode("utf-8", "replace").split())
        return said or f"it ended with status {status}"

"""Lines in the audit log for what has left a vault: pushes, and what was written into the user's directories.

Decided here: what such a line tells. The operation log has none of these, as nothing in the vault changed. A line that
cannot be written is left out: by then it has happened. `exchange.pushing` and `exchange.apply` call this; any thread
may.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import HostError
from avfs_git.model import ChangedFile, PushedRef
from avfs_git.workspace.vault.format import HEADS
from avfs_git.workspace.vault.vault import OpenVault


def log_push(vault: OpenVault, remote: str, url: str, refs: Iterable[PushedRef]) -> None:
    """Note each ref that a push has moved, of the fork of its name if it is a branch. `url` holds no secret."""
    for ref in refs:
        if ref.outcome not in {"rejected", "unchanged"}:
            fork = ref.ref.removeprefix(HEADS) if ref.ref.startswith(HEADS) else None
            text = f"push {ref.ref.removeprefix(HEADS)} to {remote}"
            _log(vault, "push", fork, {"text": text, "url": url, "ref": ref.ref, "old": ref.old, "new": ref.new})


def log_apply(vault: OpenVault, fork: str, directory: Path, written: Sequence[ChangedFile]) -> None:
    """Note that changes of a fork were written into a directory."""
    if written:
        where = os.fspath(directory)
        _log(vault, "apply", fork, {"text": f"apply to {where}", "directory": where, "files": len(written)})


def _log(vault: OpenVault, event: str, fork: str | None, details: Mapping[str, object]) -> None:
    with suppress(HostError):
        vault.audit.append(event, fork=fork, details=details)

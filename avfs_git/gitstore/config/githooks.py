"""The hook of git that avfs puts into a vault.

Git runs it at a push into the vault. avfs never runs it, and never overwrites another hook. A crash
leaves the old file or the new one.
"""

from __future__ import annotations

from pathlib import Path

from avfs_git.errors import InvalidInput, quote
from avfs_git.host.files.durable import host_errors, make_dirs_durably, write_file_atomically

UPDATE = b"""\
#!/bin/sh
# Refuse pushes that would move refs which only avfs may move.
#
# git runs this in a vault for each ref that a push wants to change: update REF OLD NEW (githooks(5)). What lies
# under refs/avfs/ keeps checkpoints and undo reachable; moved from outside, a restore could miss its sidecar.
case "$1" in
refs/avfs/*)
	echo "error: '$1' belongs to avfs and cannot be pushed to" >&2
	echo "hint: Push a branch; avfs keeps its own refs." >&2
	exit 1
	;;
esac
"""
_OWN = b"# Refuse pushes that would move refs which only avfs may move.\n"


def install_update_hook(git_dir: Path) -> None:
    """Put the hook for pushes into a repository.

    Raises:
        InvalidInput: If there is another one.
    """
    place = git_dir / "hooks" / "update"
    with host_errors(f"write '{place}'"):
        if place.exists() and _OWN not in place.read_bytes():
            raise InvalidInput(
                f"there is another hook at {quote(str(place))}", hint="Call it from there, or remove it."
            )
        make_dirs_durably(place.parent)
        write_file_atomically(place, UPDATE, mode=0o777)

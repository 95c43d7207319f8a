"""What a home notes of a vault beside its repository, by its name or place, when the vault gets another name.

Decided here: what is noted: trust, the enabled hooks and plug-ins, the record of attempts, and which vault is current.
`Home.rename_vault` copies the notes before the rename and drops the old ones after it, and holds the vault meanwhile. A
crash leaves notes of a name that no vault has; the next rename to such a name replaces them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from avfs_git.faults import reach
from avfs_git.host.files.durable import host_errors
from avfs_git.host.files.seal import Seal
from avfs_git.workspace.exchange.enabledprograms import EnabledPrograms
from avfs_git.workspace.vault import known
from avfs_git.workspace.vault.format import PLUGINS, read_current, write_current


class VaultNotes:
    """The notes of a home of one vault."""

    def __init__(self, home: Path, seal: Seal, path: Path, place: Path) -> None:
        """Name the places of the vault before and after the rename."""
        self._home = home
        self._lists = (EnabledPrograms(home, seal), EnabledPrograms(home, seal, PLUGINS, is_strict=True))
        self._from, self._to = (vault.parent.resolve() / vault.name for vault in (path, place))
        self._attempts, self._new_attempts = (home / "attempts" / vault.stem for vault in (path, place))

    def copy(self) -> None:
        """Note the same for the new name."""
        known.copy_trust(self._home, self._from, self._to)
        for enabled in self._lists:
            for name in enabled.read(self._to).keys() - enabled.read(self._from).keys():
                enabled.change(self._to, name, None)
            for name, what in enabled.read(self._from).items():
                enabled.change(self._to, name, what)
        if self._new_attempts.is_dir():
            shutil.rmtree(self._new_attempts)
        if self._attempts.is_dir():
            shutil.copytree(self._attempts, self._new_attempts, symlinks=True)
        if read_current(self._home) == self._from.stem:
            with host_errors("choose the current vault"):
                write_current(self._home, self._from.stem, self._to.stem)

    def drop(self) -> None:
        """Drop what was noted of the old name."""
        if read_current(self._home) == self._to.stem:
            write_current(self._home, self._to.stem)
        reach("vault.rename_ends")
        known.change_trusted(self._home, self._from, trusted=False)
        for enabled in self._lists:
            for name in enabled.read(self._from):
                enabled.change(self._from, name, None)
        shutil.rmtree(self._attempts, ignore_errors=True)

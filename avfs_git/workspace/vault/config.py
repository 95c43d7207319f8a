"""The settings of a vault and of its forks: which exist, what they can be, how they are kept.

Decided here and nowhere else. Kept as JSON in `avfs/config.json`, and in `config.json` of a fork's workspace for the
few that one fork can have of its own: they move with the workspace, through a rename, to the trash and back. Both are
replaced atomically and durably, with the vault's `avfs/` locked; readers take the whole file. Nothing of it is ever
executed, and git's own configuration is not consulted.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.errors import InvalidInput, NotAVault, quote
from avfs_git.host.files.durable import host_errors, write_file_atomically
from avfs_git.host.files.plainfile import read_plain
from avfs_git.host.locks.flocks import directory_held
from avfs_git.values import value_class

if TYPE_CHECKING:
    from avfs_git.vfs.layer.quota import Limits


@value_class
class Setting:
    """One setting: its default, and what it can be."""

    key: str
    default: str
    is_number: bool = False
    choices: tuple[str, ...] = ()
    """All that it can be, where that is a few words."""
    of_forks: bool = False
    """Whether a fork can have its own value."""


SETTINGS = {
    setting.key: setting
    for setting in (
        Setting("user.name", ""),
        Setting("user.email", ""),
        Setting("sidecar.max_file_bytes", "0", is_number=True),
        Setting("sidecar.exclude", ""),
        Setting("sidecar.keep_days", "0", is_number=True),
        Setting("cache.max_bytes", str(1 << 30), is_number=True),
        Setting("quota.fork_bytes", "0", is_number=True, of_forks=True),
        Setting("quota.fork_files", "0", is_number=True, of_forks=True),
        Setting("quota.file_bytes", "0", is_number=True, of_forks=True),
        Setting("quota.vault_bytes", "0", is_number=True),
        Setting("hooks.timeout_s", "30", is_number=True),
        Setting("plugins.timeout_s", "5", is_number=True),
        Setting("exec.notes", "1", is_number=True),
        Setting("isolate.show", ""),
        Setting("merge.engine", "libgit2", choices=("libgit2", "git")),
        Setting("gc.keep_days", "30", is_number=True),
        Setting("gc.keep_operations", "1000", is_number=True),
        Setting("gc.grace_days", "14", is_number=True),
        Setting("maintenance.auto", "1", choices=("0", "1")),
        Setting("audit.files", "none", choices=("none", "changes", "all")),
        Setting("audit.keep_days", "0", is_number=True),
        Setting("audit.files_keep_days", "0", is_number=True),
        Setting("mount.backend", "auto", choices=("auto", "fuse")),
    )
}


_QUOTAS = ("quota.fork_bytes", "quota.fork_files", "quota.file_bytes", "quota.vault_bytes")
_UNSET: tuple[int | None, ...] = (None,) * len(_QUOTAS)


class Config:
    """The settings of one vault, or of one of its forks.

    Attributes:
        path: The file that has them.
    """

    def __init__(self, path: Path, *, vault: Config | None = None) -> None:
        """Name the file of the settings; `vault` has the others, and the defaults of a fork's own."""
        self.path = path
        self._vault = vault
        self._known = {key: setting for key, setting in SETTINGS.items() if vault is None or setting.of_forks}
        self._seen: tuple[int, int] | None = None
        self._quotas = _UNSET

    def read(self) -> dict[str, str]:
        """Read every setting, with defaults for the others: those of the vault for a fork.

        Raises:
            NotAVault: If the file cannot be understood.
        """
        others = self._vault.read() if self._vault is not None else {}
        values = {key: others.get(key, setting.default) for key, setting in self._known.items()}
        values.update(self._read_own())
        return values

    def read_limits(self) -> Limits | None:
        """Tell the quotas of a fork; None for none. Costs a stat or two while the settings are as they were."""
        quotas, others = self.read_quotas(), _UNSET if self._vault is None else self._vault.read_quotas()
        if quotas == others == _UNSET:  # each file call asks
            return None
        values = [(other if own is None else own) or 0 for own, other in zip(quotas, others, strict=True)]
        return _make_limits(values) if any(values) else None

    def read_quotas(self) -> tuple[int | None, ...]:
        """Tell what this file says of each quota; None where it says nothing."""
        try:
            found = os.stat(self.path)
            seen = (found.st_ino, found.st_mtime_ns)
        except OSError:
            seen = None
        if seen != self._seen:
            own: dict[str, str] = {}
            with suppress(NotAVault):  # the operations that need a setting say so
                own = self._read_own()
            texts = [own.get(key, "") for key in _QUOTAS]
            # `set` takes no other text
            self._quotas = tuple(int(text) if text.isascii() and text.isdigit() else None for text in texts)
            self._seen = seen
        return self._quotas

    def _read_own(self) -> dict[str, str]:
        try:
            found = json.loads(read_plain(self.path))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise NotAVault(str(self.path), "its settings cannot be read") from error
        if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
            raise NotAVault(str(self.path), "its settings are not text")
        return {key: value for key, value in found.items() if key in self._known}

    def check(self, key: str, value: str) -> None:
        """Make sure that a setting can have a value.

        Raises:
            InvalidInput: If there is no such setting, or it cannot have that value.
        """
        setting = self._find(key)
        if setting.is_number and not (value.isascii() and value.isdigit()):
            raise InvalidInput(f"{quote(key)} takes a whole number, not {quote(value)}")
        if setting.choices and value not in setting.choices:
            raise InvalidInput(f"{quote(key)} takes {' or '.join(map(quote, setting.choices))}, not {quote(value)}")

    def set(self, key: str, value: str) -> None:
        """Change a setting, durably.

        Raises:
            InvalidInput: As for `check`.
        """
        self.check(key, value)
        with self._changing() as values:
            values[key] = value

    def unset(self, key: str) -> None:
        """Put a setting back to its default."""
        self._find(key)
        with self._changing() as values:
            values.pop(key, None)

    def _find(self, key: str) -> Setting:
        if key in SETTINGS and key not in self._known:
            hint = (
                f"Set it for the whole vault with `avfs vault config {key}`. A fork has: "
                f"{', '.join(sorted(self._known))}."
            )
            raise InvalidInput(f"a fork has no setting {quote(key)} of its own", hint=hint)
        if key not in SETTINGS:
            from difflib import get_close_matches  # noqa: PLC0415 - only after a mistake

            near = get_close_matches(key, self._known, n=1)
            hint = f"Did you mean {quote(near[0])}?" if near else f"There are: {', '.join(sorted(self._known))}."
            raise InvalidInput(f"there is no setting {quote(key)}", hint=hint)
        return SETTINGS[key]

    @contextmanager
    def _changing(self) -> Iterator[dict[str, str]]:
        """Give what this file says in a block, and write what that makes of it; other processes wait."""
        with host_errors(f"write '{self.path}'"), directory_held((self._vault or self).path.parent):
            values = self._read_own()
            yield values
            write_file_atomically(self.path, json.dumps(values, indent=1, sort_keys=True).encode() + b"\n")


def _make_limits(values: list[int]) -> Limits:
    from avfs_git.vfs.layer.quota import Limits  # noqa: PLC0415 - few vaults have a quota, and every command reads settings

    return Limits(*values)

"""Which hooks the owner of a vault enabled, and with which content: the file `hooks.json` of a home.

Decided here: the format of the file, and that it counts only with its seal (`host.files.seal`). It lies outside of the
vault, so that a program that writes into `avfs/hooks` changes what is there, and not what may run. `userhooks` asks before it
runs a hook; any process may, and changes exclude each other. A crash leaves the old file or the new one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from avfs_git.host.files.durable import host_errors, make_dirs_durably, write_file_atomically
from avfs_git.host.files.plainfile import read_plain
from avfs_git.host.files.seal import Seal
from avfs_git.host.locks.flocks import held
from avfs_git.workspace.vault.format import ENABLED_HOOKS

_VERSION = 1


class EnabledHooks:
    """The enabled hooks of all vaults that one home is used with."""

    def __init__(self, home: Path, seal: Seal) -> None:
        self._path = home / ENABLED_HOOKS
        self._seal = seal

    def is_empty(self) -> bool:
        """Whether no hook of any vault was ever enabled; costs a look on disk."""
        return not self._path.exists()

    def read(self, git_dir: Path) -> Mapping[str, str]:
        """Give the enabled hooks of a vault: the SHA-256 of each by its name.

        None is enabled where the list was changed by something else than avfs.
        """
        return self._read_all().get(os.path.realpath(git_dir), {})

    def change(self, git_dir: Path, name: str, digest: str | None) -> None:
        """Enable a hook with a content, or disable it. On disk on return."""
        place = os.path.realpath(git_dir)
        with self._locked():
            vaults = {known: dict(hooks) for known, hooks in self._read_all().items()}
            hooks = vaults.setdefault(place, {})
            if digest is None:
                hooks.pop(name, None)
            else:
                hooks[name] = digest
            vaults = {known: hooks for known, hooks in vaults.items() if hooks}
            held = {"version": _VERSION, "vaults": vaults, "seal": self._seal.sign(_sealed(vaults))}
            write_file_atomically(self._path, json.dumps(held).encode("ascii") + b"\n", mode=0o600)

    def _read_all(self) -> Mapping[str, Mapping[str, str]]:
        with host_errors(f"read '{self._path}'"):
            try:
                found = json.loads(read_plain(self._path))
            except (FileNotFoundError, ValueError):
                return {}
        try:
            vaults, seal = found["vaults"], str(found["seal"])
        except (KeyError, TypeError):
            return {}
        return vaults if self._seal.holds(_sealed(vaults), seal) else {}

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with host_errors(f"write '{self._path}'"):
            make_dirs_durably(self._path.parent)
            fd = os.open(self._path.with_name("hooks.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            with held(fd):
                yield


def _sealed(vaults: object) -> bytes:
    """Spell what the seal is for."""
    return json.dumps(["hooks", _VERSION, vaults], sort_keys=True, ensure_ascii=True).encode("ascii")

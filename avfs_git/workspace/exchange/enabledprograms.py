"""The hooks and plug-ins that a vault's owner enabled, and their content: `hooks.json` and `plugins.json` of a home.

Decided here: the format of the two files, and that one counts only with its seal (`host.files.seal`). They lie outside
of the vault, so that a program that writes into `avfs/hooks` changes what is there, and not what may run. `userhooks`
asks before it runs a hook, `workspace.plugins` before a change; any process may, and changes exclude each other. A
crash leaves the old file or the new one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from avfs_git.errors import HostError, InvalidInput, quote
from avfs_git.host.files.durable import host_errors, make_dirs_durably, write_file_atomically
from avfs_git.host.files.plainfile import read_plain
from avfs_git.host.files.seal import Seal
from avfs_git.host.locks.flocks import held

_VERSION = 1


class EnabledPrograms:
    """The enabled hooks, or the enabled plug-ins, of all vaults that one home is used with.

    Attributes:
        path: The file of the list.
    """

    def __init__(self, home: Path, seal: Seal, what: str = "hooks", *, is_strict: bool = False) -> None:
        """Name the list. With `is_strict`, a list that something else than avfs changed is an error, and not empty."""
        self._what = what
        self.path = home / f"{what}.json"
        self._seal = seal
        self._is_strict = is_strict

    def is_empty(self) -> bool:
        """Whether none of any vault was ever enabled; costs a look on disk."""
        return self.stamp() is None

    def stamp(self) -> tuple[int, int, int] | None:
        """Tell one content of the list from another; None if there is no list. A dangling link is a list."""
        with host_errors(f"read '{self.path}'"):
            try:
                found = os.lstat(self.path)
            except (FileNotFoundError, NotADirectoryError):
                return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def read(self, git_dir: Path) -> Mapping[str, str]:
        """Give what is enabled for a vault: of each hook the SHA-256 by its name, of each plug-in what it is.

        None is enabled where the list was changed by something else than avfs.

        Raises:
            InvalidInput: If it was, and the list is strict.
        """
        return self._read_all().get(os.path.realpath(git_dir), {})

    def change(self, git_dir: Path, name: str, what: str | None) -> None:
        """Enable one with a content, or disable it. On disk on return."""
        place = os.path.realpath(git_dir)
        with self._locked():
            vaults = {known: dict(named) for known, named in self._read_all().items()}
            named = vaults.setdefault(place, {})
            if what is None:
                named.pop(name, None)
            else:
                named[name] = what
            vaults = {known: named for known, named in vaults.items() if named}
            held = {"version": _VERSION, "vaults": vaults, "seal": self._seal.sign(self._sealed(vaults))}
            write_file_atomically(self.path, json.dumps(held).encode("ascii") + b"\n", mode=0o600)

    def _read_all(self) -> Mapping[str, Mapping[str, str]]:
        vaults = self._read_sealed()
        if vaults is not None:
            return vaults
        if self._is_strict:
            raise InvalidInput(
                f"{quote(str(self.path))} is not as avfs wrote it, so that it is unknown what is enabled",
                hint="Remove the file, and enable each plug-in again.",
            )
        return {}

    def find_fault(self) -> str | None:
        """Tell why the list cannot be believed; None if it can, or without a list."""
        try:
            return None if self._read_sealed() is not None else "it is not as avfs wrote it"
        except HostError as error:
            return error.message

    def _read_sealed(self) -> Mapping[str, Mapping[str, str]] | None:
        """Read the list; None where its seal is not that of its content."""
        with host_errors(f"read '{self.path}'"):
            try:
                text = read_plain(self.path)
            except (FileNotFoundError, NotADirectoryError):
                return {}
        try:
            found = json.loads(text)
            vaults, seal = found["vaults"], str(found["seal"])
        except (KeyError, RecursionError, TypeError, ValueError):
            return None
        return vaults if self._seal.holds(self._sealed(vaults), seal) else None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with host_errors(f"write '{self.path}'"):
            make_dirs_durably(self.path.parent)
            fd = os.open(
                self.path.with_name(f"{self._what}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
            )
            with held(fd):
                yield

    def _sealed(self, vaults: object) -> bytes:
        """Spell what the seal is for."""
        return json.dumps([self._what, _VERSION, vaults], sort_keys=True, ensure_ascii=True).encode("ascii")

"""Which plug-ins the user of a home enabled for a vault.

Decided here: that enabling is a decision of the user's alone, for one vault of the user's own: what comes with a clone,
an import or a vault never enables anything. An entry point is enabled by its name, with its function and distribution.
A file in Lua or WebAssembly is copied into the home of avfs, by its SHA-256, so that a later change of the file changes
nothing. The list has a seal (`exchange.enabledprograms`); where that is broken, every change is refused.

The SDK enables with the workspaces of the vault locked and not mounted, so that no command and no live tree goes on
unasked. Any process may read.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from avfs_git.errors import ExtraMissing, InvalidInput, PluginFailed, VaultError, quote
from avfs_git.host.files.durable import host_errors, make_dirs_durably, write_file_atomically
from avfs_git.host.files.plainfile import read_plain
from avfs_git.host.files.seal import Seal
from avfs_git.model import PluginInfo, PluginKind, PluginState
from avfs_git.workspace.exchange.enabledprograms import EnabledPrograms
from avfs_git.workspace.plugins.asking import Plugins, Running, Spec
from avfs_git.workspace.vault.format import PLUGINS, SEAL_KEY
from avfs_git.workspace.vault.vault import OpenVault

_FILE_MAX = 16 << 20
_KINDS = {
    ".lua": (PluginKind.LUA, "lupa"),
    ".wasm": (PluginKind.WASM, "wasmtime"),
    ".wat": (PluginKind.WASM, "wasmtime"),
}
"""What a file is by its name, and the package that runs it."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")


class EnabledPlugins:
    """The plug-ins that are enabled for one vault by the user of one home."""

    def __init__(self, home: Path, vault: OpenVault) -> None:
        self._copies = home / PLUGINS
        self._vault = vault
        self._list = EnabledPrograms(home, Seal(home / SEAL_KEY), PLUGINS, is_strict=True)
        self._stamp: tuple[int, int, int] | None = None
        self._specs: tuple[Spec, ...] = ()

    def find(self) -> tuple[Spec, ...]:
        """Give the enabled plug-ins. Costs a look on disk where that has not changed.

        Raises:
            InvalidInput: If something else than avfs changed the list.
        """
        stamp = self._list.stamp()
        if stamp != self._stamp:
            self._specs = () if stamp is None else self._read()
            self._stamp = stamp
        return self._specs

    def _read(self) -> tuple[Spec, ...]:
        named = self._list.read(self._vault.git_dir)
        return tuple(self._spec(name, *named[name].split(" ", 2)) for name in sorted(named))

    def _spec(self, name: str, kind: str, file: str, what: str) -> Spec:
        return Spec(name, PluginKind(kind), what, os.fspath(self._copies / file) if kind != PluginKind.PYTHON else "")

    def list_all(self) -> list[PluginInfo]:
        """Describe the enabled plug-ins, and the entry points that could be enabled."""
        from avfs_git.workspace.plugins import entrypoint  # noqa: PLC0415 - only for the list

        installed = entrypoint.find_all()
        specs = self.find()
        found = [PluginInfo(spec.name, spec.kind, spec.what, _judge(spec, installed)) for spec in specs]
        found += [
            PluginInfo(name, PluginKind.PYTHON, ", ".join(installed[name]), PluginState.NOT_ENABLED)
            for name in installed.keys() - {spec.name for spec in specs}
        ]
        return sorted(found, key=lambda info: info.name)

    def enable(self, name: str, file: Path | None) -> None:
        """Enable an entry point, or a file under a name, in place of one of that name.

        It is loaded once, to see that it works.

        Raises:
            InvalidInput: If the name or the file cannot be used, or no entry point has the name.
            VaultError: If the vault belongs to another user.
            ExtraMissing: If the package is missing that runs such a file.
            PluginFailed: If it cannot be loaded.
        """
        if not _NAME.fullmatch(name):
            raise InvalidInput(
                f"{quote(name)} cannot be the name of a plug-in", hint="Use letters, digits, '_', '-' and '.'."
            )
        with host_errors(f"look at '{self._vault.git_dir}'"):
            if os.stat(self._vault.git_dir).st_uid != os.geteuid():
                raise VaultError(
                    f"vault {quote(self._vault.name)} belongs to another user, and has no plug-ins of yours"
                )
        what = _describe_installed(name) if file is None else self._copy(file)
        spec = self._spec(name, *what.split(" ", 2))
        trial = Running(spec, self._timeout_s())
        try:
            trial.start()
        except PluginFailed as error:
            raise PluginFailed(name, str(error.details["reason"]), enabled=False) from error
        finally:
            trial.close()
        self._list.change(self._vault.git_dir, name, what)

    def _copy(self, file: Path) -> str:
        kind, package = _KINDS.get(file.suffix, ("", ""))
        if not kind:
            raise InvalidInput(f"{quote(str(file))} is no plug-in", hint=f"Its name ends with {', '.join(_KINDS)}.")
        from importlib.util import find_spec  # noqa: PLC0415 - only here

        if find_spec(package) is None:
            raise ExtraMissing("avfs plugins enable", kind, package)
        with host_errors(f"read '{file}'"):
            content = read_plain(file.resolve())
        if len(content) > _FILE_MAX:
            raise InvalidInput(f"{quote(str(file))} is larger than {_FILE_MAX >> 20} MiB")
        digest = hashlib.sha256(content).hexdigest()
        with host_errors(f"write into '{self._copies}'"):
            make_dirs_durably(self._copies, private=True)
            write_file_atomically(self._copies / (digest + file.suffix), content, mode=0o600)
        return f"{kind} {digest}{file.suffix} {digest}"

    def disable(self, name: str) -> None:
        """Ask a plug-in no more.

        Raises:
            InvalidInput: If none of that name is enabled.
        """
        names = [spec.name for spec in self.find()]
        if name not in names:
            known = f"Enabled are {', '.join(names)}." if names else "No plug-in is enabled for this vault."
            raise InvalidInput(f"no plug-in {quote(name)} is enabled", hint=known)
        self._list.change(self._vault.git_dir, name, None)

    def _timeout_s(self) -> float:
        return max(float(self._vault.config.read()["plugins.timeout_s"]), 0.1)

    def asking(self, find: Callable[[], tuple[Spec, ...]] | None = None) -> Plugins:
        """Make what asks them; `find` gives the plug-ins, if not the ones that are enabled at the time of a change."""
        vault = self._vault

        def note(fork: str, details: Mapping[str, object]) -> None:
            vault.audit.append("plugin_refused", fork=fork, details=details)

        facts = {"vault": os.fspath(vault.git_dir)}
        return Plugins(find or self.find, timeout_s=self._timeout_s, facts=facts, note=note)


def _describe_installed(name: str) -> str:
    from avfs_git.workspace.plugins import entrypoint  # noqa: PLC0415 - only here

    installed = entrypoint.find_all()
    found = installed.get(name, [])
    if len(found) == 1:
        return f"python - {found[0]}"
    if found:
        raise InvalidInput(
            f"several distributions have a plug-in {quote(name)}: {', '.join(found)}", hint="Keep one of them."
        )
    known = ", ".join(sorted(installed)) or "none"
    raise InvalidInput(
        f"no installed distribution has a plug-in {quote(name)}",
        hint=f"Installed are: {known}. For a file in Lua or WebAssembly: "
        f"`avfs plugins enable {shlex.quote(name)} FILE`.",
    )


def _judge(spec: Spec, installed: Mapping[str, list[str]]) -> PluginState:
    if spec.kind == PluginKind.PYTHON:
        return PluginState.ENABLED if installed.get(spec.name) == [spec.what] else PluginState.BROKEN
    try:
        content = read_plain(spec.file)
    except OSError:
        return PluginState.BROKEN
    return PluginState.ENABLED if hashlib.sha256(content).hexdigest() == spec.what else PluginState.BROKEN

"""The programs of the user's that an open vault runs: hooks at the ends of operations, plug-ins before changes.

Decided here: when they are run at all. Where none was ever enabled that costs a look on disk each. Called by
`sdk.dispatch` and `sdk.repository.upkeep`; safe from several threads. The processes of plug-ins end with the vault;
nothing else survives.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.model import Warning
from avfs_git.sdk.parts import userhooks
from avfs_git.vfs.asked import Change
from avfs_git.workspace.exchange.enabledprograms import EnabledPrograms
from avfs_git.workspace.vault.format import ENABLED_PLUGINS

if TYPE_CHECKING:
    from avfs_git.host.files.seal import Seal
    from avfs_git.workspace.opened.workspace import OpenWorkspace
    from avfs_git.workspace.plugins.asking import Plugins
    from avfs_git.workspace.plugins.enabled import EnabledPlugins
    from avfs_git.workspace.vault.vault import OpenVault

_ASKED = {"pre-checkpoint": "checkpoint", "pre-merge": "merge", "pre-push": "push"}
"""Of which operations plug-ins are asked, by the hook that runs before each."""


class Programs:
    """Hooks and plug-ins of one open vault.

    Attributes:
        home: The home of avfs that says which are enabled.
        hooks: Which hooks are enabled.
    """

    def __init__(self, core: OpenVault, home: Path, seal: Seal, *, runs_hooks: bool) -> None:
        self.home = home
        self.hooks = EnabledPrograms(home, seal)
        self._list = os.fspath(home / ENABLED_PLUGINS)
        self._core = core
        self._runs_hooks = runs_hooks
        self._enabled: EnabledPlugins | None = None
        self._plugins: Plugins | None = None

    def close(self) -> None:
        """End the processes of the plug-ins."""
        if self._plugins is not None:
            self._plugins.close()

    @property
    def plugins(self) -> EnabledPlugins:
        """Which plug-ins are enabled."""
        if self._enabled is None:
            from avfs_git.workspace.plugins.enabled import EnabledPlugins  # noqa: PLC0415 - most vaults have none

            self._enabled = EnabledPlugins(self.home, self._core)
        return self._enabled

    def follow(self, opened: OpenWorkspace) -> OpenWorkspace:
        """Have the plug-ins asked before file calls change a workspace in this process."""
        opened.find_check = partial(self.find_check, opened.fork)
        return opened

    def find_check(self, fork: str) -> Callable[[Change], None] | None:
        """Give what raises an error if a plug-in does not want a change of a fork; None if there are no plug-ins."""
        if self._plugins is None:
            if not os.path.lexists(self._list):
                return None
            self._plugins = self.plugins.asking()
        return self._plugins.check_of(fork)

    def run_hook(self, name: str, fork: str, facts: Mapping[str, object]) -> tuple[Warning, ...]:
        """Ask the plug-ins before an operation, and run its hook, if there is one, unless this is one already.

        Raises:
            HookRefused, PluginRefused, PluginFailed: If the hook or a plug-in does not want the operation.
        """
        if name in _ASKED and (check := self.find_check(fork)) is not None:
            check(
                Change(_ASKED[name], None, facts={key: value for key, value in facts.items() if isinstance(value, str)})
            )
        if not self._runs_hooks or (not self._core.layout.hooks.is_dir() and self.hooks.is_empty()):
            return ()
        return userhooks.run_hook(self._core, self.hooks, name, fork, facts)

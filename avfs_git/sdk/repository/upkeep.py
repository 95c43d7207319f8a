"""Settings, hooks and upkeep of a vault.

Decided here: names and arguments of the public API for them. Callers may use several threads and processes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.errors import InvalidInput, WorkspaceBusy
from avfs_git.model import DoctorReport, GarbageResult, HookInfo, MaintenanceResult, PluginInfo, VaultStats
from avfs_git.paths import Oid, amount
from avfs_git.sdk.parts import background, doctor, forkinfo, garbage, maintenance, stats, upkeepdue, userhooks

if TYPE_CHECKING:
    from avfs_git.sdk.dispatch import Dispatch
    from avfs_git.workspace.vault.vault import OpenVault


class VaultUpkeep:
    """Settings, hooks and upkeep of a vault."""

    _core: OpenVault
    _dispatch: Dispatch

    def list_hooks(self) -> list[HookInfo]:
        """Describe the hooks of this vault, enabled or not."""
        return userhooks.list_hooks(self._core, self._dispatch.programs.hooks)

    def enable_hook(self, name: str) -> list[HookInfo]:
        """Enable a hook with its present program; a change of the program disables it.

        Raises:
            InvalidInput: If there is no such hook.
        """
        return userhooks.enable_hook(self._core, self._dispatch.programs.hooks, name)

    def disable_hook(self, name: str) -> list[HookInfo]:
        """Disable a hook; its program stays.

        Raises:
            InvalidInput: If there is no such hook.
        """
        return userhooks.disable_hook(self._core, self._dispatch.programs.hooks, name)

    def install_hooks(self) -> list[HookInfo]:
        """Install the hook that keeps pushes into this vault off avfs's refs, and make the owner's hook directory.

        Raises:
            InvalidInput: If another hook for pushes is installed, which stays.
        """
        return userhooks.install_hooks(self._core, self._dispatch.programs.hooks)

    def list_plugins(self) -> list[PluginInfo]:
        """Describe the plug-ins that are enabled for this vault, and the installed ones that could be."""
        return self._dispatch.programs.plugins.list_all()

    def enable_plugin(self, name: str, file: Path | None = None) -> list[PluginInfo]:
        """Have a plug-in asked before each change of this vault's workspaces, by the user and home of this object.

        Args:
            name: The name of an entry point in the group `avfs.plugins`, or the name that a file gets.
            file: A plug-in in Lua (`.lua`) or WebAssembly (`.wasm`, or `.wat` for its text). It is copied: a later
                change of the file has no effect.

        Raises:
            InvalidInput: If the name or the file cannot be used, or no entry point has the name.
            PluginFailed: If it cannot be loaded.
            ExtraMissing: If the package is missing that runs such a file.
            VaultError: If the vault belongs to another user.
            WorkspaceMounted, WorkspaceBusy: If a fork is mounted or in use: its programs would go on unasked.
        """
        with self._resting():
            self._dispatch.programs.plugins.enable(name, file)
        return self.list_plugins()

    def disable_plugin(self, name: str) -> list[PluginInfo]:
        """Ask a plug-in no more.

        Raises:
            InvalidInput: If it is not enabled.
            WorkspaceMounted, WorkspaceBusy: As for `enable_plugin`.
        """
        with self._resting():
            self._dispatch.programs.plugins.disable(name)
        return self.list_plugins()

    @contextmanager
    def _resting(self) -> Iterator[None]:
        """Keep all workspaces from being used or mounted for a block."""
        self._dispatch.check_unmounted()
        with self._idle():
            self._dispatch.check_unmounted()  # a fork without a workspace had nothing to hold
            yield
            self._dispatch.check_unmounted()

    def get_config(self, *, fork: str | None = None) -> dict[str, str]:
        """Read the settings of the vault, or the settings that hold for `fork`: its own, else the vault's.

        Raises:
            ForkNotFound: If there is no such fork.
        """
        if fork is None:
            return self._core.config.read()
        return self._core.fork_config(forkinfo.fork_info(self._core, fork).name).read()

    def set_config(self, key: str, value: str, *, fork: str | None = None) -> None:
        """Change a setting of the vault, or of one fork, which then has its own.

        A quota holds in mounted forks at once.

        Raises:
            InvalidInput: If there is no such setting, a fork cannot have it, or it cannot have that value.
            ForkNotFound: If there is no such fork.
        """
        self._dispatch.set_config(key, value, fork)

    def unset_config(self, key: str, *, fork: str | None = None) -> None:
        """Reset a setting to its default; that of a fork is the vault's setting.

        Raises:
            InvalidInput, ForkNotFound: As for `set_config`.
        """
        self._dispatch.set_config(key, None, fork)

    def doctor(self, *, repair: bool = False) -> DoctorReport:
        """Check the vault, its workspaces and the home for damage; `repair` repairs what it can."""
        home = self._dispatch.programs.home
        return doctor.examine_vault(self._core, self._dispatch.open_workspace, home=home, repair=repair)

    def gc(
        self,
        *,
        keep_days: int | None = None,
        keep_operations: int | None = None,
        grace_days: int | None = None,
        compact: bool = False,
        dry_run: bool = False,
    ) -> GarbageResult:
        """Free space used by old operations, states that only undo kept, and unreachable objects.

        Safe beside other processes and mounts. The vault's settings (`gc.keep_days` and so on) are the defaults.
        Promisor objects of a partial clone stay.

        Args:
            keep_days: Keep operations of so many days undoable.
            keep_operations: Keep so many of the last operations undoable, however old; at least one.
            grace_days: Keep unreachable objects for so many days.
            compact: Let git store objects as deltas: smaller, and slower to read.
            dry_run: Only report what would be removed.

        Raises:
            InvalidInput: If a number is negative.
            ObjectMissing, ObjectCorrupt: If the history is damaged; nothing is removed.
        """
        _check_amounts(keep_days=keep_days, keep_operations=keep_operations, grace_days=grace_days)
        limits = garbage.read_limits(
            self._core, keep_days=keep_days, keep_operations=keep_operations, grace_days=grace_days
        )
        return garbage.collect_garbage(self._core, limits, in_use=self._shown, dry_run=dry_run, deltas=compact)

    def prune(
        self,
        *,
        keep_operations: int | None = None,
        older_than_days: int | None = None,
        max_bytes: int | None = None,
        sidecars: bool = False,
        grace_s: float = 3600.0,
        dry_run: bool = False,
    ) -> GarbageResult:
        """Forget old operations now, and free what only undo needed. Checkpoints of forks, and labels, stay.

        With several limits, avfs forgets operations that are beyond `keep_operations` and also older than
        `older_than_days`, and more if `max_bytes` demands it. Safe beside other processes and mounts.

        Args:
            keep_operations: Keep so many of the last operations undoable; at least one.
            older_than_days: Forget only operations that are older.
            max_bytes: Forget more, the oldest first, until what only undo needs takes no more than so much on disk.
            sidecars: Forget ignored files of the same age, too, in checkpoints that have no label and that no fork or
                operation stands on: a restore of these leaves ignored files as they are. Not of forks that another
                process has.
            grace_s: Keep unreachable objects that were touched in so many seconds.
            dry_run: Only report what would be removed.

        Raises:
            InvalidInput: If no limit is given, or a negative one.
            ObjectMissing, ObjectCorrupt: If the history is damaged; nothing is removed.
        """
        if keep_operations is None and older_than_days is None and max_bytes is None:
            raise InvalidInput(
                "nothing says what to forget", hint="Say it with `--keep N`, `--older-than DAYS` or `--max-size SIZE`."
            )
        _check_amounts(keep_operations=keep_operations, older_than_days=older_than_days, max_bytes=max_bytes)
        if not grace_s >= 0:
            raise InvalidInput(f"`grace_s` is {grace_s}: it is not negative")
        limits = garbage.choose_limits(
            self._core,
            keep_operations=keep_operations,
            older_than_days=older_than_days,
            max_bytes=max_bytes,
            sidecars=sidecars,
            grace_s=grace_s,
            in_use=self._shown,
        )
        return garbage.collect_garbage(self._core, limits, in_use=self._shown, dry_run=dry_run)

    def _shown(self) -> list[Oid]:
        return background.list_shown(self._core)

    def stats(self) -> VaultStats:
        """Count what this vault holds, and the room that its parts take on disk; reads every directory of the vault."""
        return stats.measure_vault(self._core)

    def maintain(self, *, dry_run: bool = False, every_step: bool = False) -> MaintenanceResult:
        """Do the maintenance that is due: the vault stays small and fast as it grows.

        avfs starts it by itself, in a process in the background, unless the setting `maintenance.auto` is `0`. Safe
        beside other processes, mounts and git. Steps that fail change nothing, and are named by warnings.

        Args:
            dry_run: Only tell what is due, and what the last run did.
            every_step: Do all steps but `gc`, however little is due.
        """
        return maintenance.maintain(self._core, in_use=self._shown, dry_run=dry_run, every_step=every_step)

    @contextmanager
    def _idle(self) -> Iterator[None]:
        """Lock all workspaces of this vault for a block: no process changes or mounts one meanwhile.

        Raises:
            WorkspaceBusy: If another process holds one.
        """
        with ExitStack() as stack:
            for fork in sorted(self._core.layout.list_workspaces()):
                if self._core.has_fork(fork):
                    stack.enter_context(self._dispatch.open_workspace(fork).locked())
            yield

    @contextmanager
    def _unmaintained(self) -> Iterator[None]:
        """Keep maintenance away for a block, if avfs ever wrote to the vault.

        Raises:
            WorkspaceBusy: If another process maintains it for a minute.
        """
        if not self._core.layout.root.is_dir():
            yield
            return
        with upkeepdue.maintenance_held(self._core.layout, wait_s=upkeepdue.MAINTENANCE_WAIT_S) as is_alone:
            if not is_alone:
                raise WorkspaceBusy(self._core.name, "maintenance of the vault")
            yield


def _check_amounts(**given: int | None) -> None:
    """Make sure that no number that is given is negative."""
    for name, number in given.items():
        if number is not None:
            amount(number, name)

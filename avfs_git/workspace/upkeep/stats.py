"""What a vault holds, and which part of it takes the room on disk.

Decided here: the parts of a vault's directory that a person can do something about. Takes no lock and writes nothing:
beside other processes the numbers are rough. The time follows the number of files in the vault's directory.
"""

from __future__ import annotations

from contextlib import suppress

from avfs_git.errors import HostError
from avfs_git.host.files.usage import disk_usage
from avfs_git.model import ForkUsage, VaultStats, WorkspaceUsage
from avfs_git.vfs.layer.quota import Limits
from avfs_git.workspace.opened.vaultroom import VaultRoom, count_workspace
from avfs_git.workspace.vault.format import LABELS
from avfs_git.workspace.vault.vault import OpenVault


def measure_fork(vault: OpenVault, fork: str) -> ForkUsage:
    """Count what a fork holds beyond its base, as its quota does: one walk of its upper layer."""
    used = count_workspace(vault.layout.workspace(fork))
    limits = vault.fork_config(fork).read_limits() or Limits()
    size_bytes, files, file_bytes = (limit or None for limit in (limits.size_bytes, limits.files, limits.file_bytes))
    return ForkUsage(*used, size_bytes, files, file_bytes, *measure_room(vault))


def measure_room(vault: OpenVault) -> tuple[int | None, int | None]:
    """Tell what a vault's quota allows and what the vault holds of it, by reading the directories of the objects."""
    limits, held = vault.config.read_limits(), None
    if limits is None or not limits.vault_bytes:
        return None, None
    with suppress(HostError):  # where nothing may be written, it is not known
        held = VaultRoom(vault.layout).measure()
    return limits.vault_bytes, held


def measure_vault(vault: OpenVault) -> VaultStats:
    """Count what a vault holds, and the bytes of its parts."""
    layout, packs = vault.layout, vault.store.packs.packs()
    usages = [WorkspaceUsage(fork, disk_usage(layout.workspace(fork).root)) for fork in layout.list_workspaces()]
    objects, trash = disk_usage(vault.store.objects_dir), disk_usage(layout.trash)
    log = sum(path.stat().st_blocks * 512 for path in (layout.oplog, *layout.root.glob("oplog.*")) if path.is_file())
    caches = disk_usage(layout.root / "cache")
    workspaces = disk_usage(layout.workspaces)
    total = disk_usage(layout.git_dir)
    max_bytes, held_bytes = measure_room(vault)
    return VaultStats(
        forks=len(vault.list_heads()),
        labels=len(vault.refs.list(LABELS)),
        packs=len(packs),
        packed_objects=sum(pack.index.count for pack in packs),
        objects_bytes=objects,
        workspaces_bytes=workspaces,
        trash_bytes=trash,
        log_bytes=log,
        caches_bytes=caches,
        other_bytes=max(0, total - objects - workspaces - trash - log - caches),
        total_bytes=total,
        workspaces=tuple(sorted(usages, key=lambda usage: (-usage.size_bytes, usage.fork))),
        max_bytes=max_bytes,
        held_bytes=held_bytes,
    )

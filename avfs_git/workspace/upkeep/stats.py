"""What a vault holds, and which part of it takes the room on disk.

Decided here: the parts of a vault's directory that a person can do something about. Takes no lock and writes nothing: beside
other processes the numbers are rough. The time follows the number of files in the vault's directory.
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
    limits, vault_bytes = vault.fork_config(fork).read_limits() or Limits(), None
    if limits.vault_bytes:
        with suppress(HostError):  # where nothing may be written, it is not known
            vault_bytes = VaultRoom(vault.layout).measure()
    used = count_workspace(vault.layout.workspace(fork))
    size_bytes, files, file_bytes, max_vault_bytes = (limit or None for limit in limits)
    return ForkUsage(*used, size_bytes, files, file_bytes, max_vault_bytes, vault_bytes)


def measure_vault(vault: OpenVault) -> VaultStats:
    """Count what a vault holds, and the bytes of its parts."""
    layout, packs = vault.layout, vault.store.packs.packs()
    usages = [WorkspaceUsage(fork, disk_usage(layout.workspace(fork).root)) for fork in layout.list_workspaces()]
    objects, trash = disk_usage(vault.store.objects_dir), disk_usage(layout.trash)
    log = sum(path.stat().st_blocks * 512 for path in (layout.oplog, *layout.root.glob("oplog.*")) if path.is_file())
    caches = disk_usage(layout.root / "cache")
    workspaces = disk_usage(layout.workspaces)
    total = disk_usage(layout.git_dir)
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
    )

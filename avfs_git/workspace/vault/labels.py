"""Labels: names that people give to checkpoints.

Decided here: what taking a label away means. Called without the workspace lock: a label is a ref, and compared
and swapped like one.
"""

from __future__ import annotations

from avfs_git.errors import CheckpointNotFound
from avfs_git.gitstore.refs import RefChange
from avfs_git.model import Checkpoint
from avfs_git.paths import check_label
from avfs_git.workspace.vault.format import label_ref
from avfs_git.workspace.vault.oprecord import OpRecord, RefMoveRecord
from avfs_git.workspace.vault.vault import OpenVault


def delete_label(vault: OpenVault, fork: str, label: str) -> Checkpoint:
    """Take a label away; its commit stays reachable, so that it can be undone.

    Raises:
        CheckpointNotFound: If there is no such label.
        HostError: If the disk refuses; the label is there, unless the error says otherwise.
    """
    check_label(label)
    ref = label_ref(fork, label)
    oid = vault.refs.read(ref)
    if oid is None:
        raise CheckpointNotFound(label)
    described = vault.describe(oid, fork=fork)
    vault.prepare()
    moves: list[RefMoveRecord] = [(ref, oid.hex(), None)]
    record = OpRecord(0, fork, "checkpoint_delete", f"delete checkpoint {label}", vault.clock_ns(), moves=moves)
    vault.move_refs([*vault.hold(oid), RefChange(ref, oid, None)], record)
    return described

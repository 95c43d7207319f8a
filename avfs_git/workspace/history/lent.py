"""A workspace as it is, handed to a process that looks at it without the workspace's lock, and without its session.

Decided here: what of a capture is handed over, and how it is spelled: the trees and contents that are stored nowhere,
one after the other. `session.control.operations` calls `lend` with the lock, which is free again when all is spelled;
`grep`, `find` and `search` read the rest from the store, in the process of the user. So what they do, however long it
takes, keeps nothing waiting and ends with that process. Costs what is uncommitted. Nothing of it survives.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection, Iterator, Sequence

from avfs_git.errors import PathNotFound
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_TREE
from avfs_git.gitstore.formats.trees import MODE_TREE
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.model import Warning
from avfs_git.paths import Oid, TreePath
from avfs_git.values import NamedTuple
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.workspace.history.compare import WORKSPACE
from avfs_git.workspace.merge.preview import Preview
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.vault.states import Lent, tree_of
from avfs_git.workspace.vault.vault import OpenVault

_HEADER = struct.Struct(">B20sQ")
_SIZE_ONLY = 0


def lend(locked: LockedWorkspace, *, contents: bool, ignored: bool) -> tuple[Lent, Iterator[bytes]]:
    """Capture a workspace; give its state and, spelled, its new trees and the contents of it that are not stored.

    Without `contents`, of changed files only the sizes; without `ignored`, the contents of tracked files only.

    Raises:
        FileChanging: If a program changed a file that was to be read; also while the objects are spelled.
    """
    preview = Preview(locked)
    captured = preview.captured
    base = locked.opened.state.base
    found = Lent(
        captured.tree,
        captured.sidecar,
        Oid(bytes.fromhex(base)) if base is not None else None,
        tuple(captured.warnings),
    )
    wanted = None if ignored else _list_tracked(preview, captured.tree)
    return found, _spell(preview, captured.blob_paths, wanted if contents else frozenset())


def _list_tracked(source: DryWriter, tree: Oid | None) -> set[Oid]:
    """List what the trees hold that a capture has made, below a tree: others have no blob that it has read."""
    found, pending = set[Oid](), [tree] if tree is not None else []
    while pending:
        oid = pending.pop()
        if source.holds(oid):
            for mode, child in source.read_tree(oid).values():
                pending += [child] if mode == MODE_TREE else []
                found.add(child)
    return found


def _spell(source: Preview, blobs: Collection[Oid], wanted: Collection[Oid] | None) -> Iterator[bytes]:
    for kind, oid, data in source.list_added():
        yield _HEADER.pack(kind, oid, len(data))
        yield data
    for oid in blobs:
        if source.store.exists(oid):
            continue
        if wanted is None or oid in wanted:
            data = source.read_blob(oid)
            yield _HEADER.pack(KIND_BLOB, oid, len(data))
            yield data
        else:
            yield _HEADER.pack(_SIZE_ONLY, oid, source.blob_size(oid))


class State(NamedTuple):
    """A state that is looked at: a commit, or a workspace as it is."""

    fork: str
    name: str
    """The commit's id, or `workspace`."""
    tree: Oid | None
    sidecar: Oid | None
    since_s: int
    """The time of files that have none of their own."""
    warnings: tuple[Warning, ...] = ()


class LentObjects(DryWriter):
    """The objects of a store, and those of workspaces that are stored nowhere; of one thread."""

    def __init__(self, vault: OpenVault) -> None:
        super().__init__(vault.store)
        self._vault = vault
        self._places: dict[Oid, tuple[bytes | mmap.mmap, int]] = {}

    def commit(self, fork: str, oid: Oid) -> State:
        """Look at a commit."""
        commit = self.store.read_commit(oid)
        return State(fork, oid.hex(), tree_of(commit), self._vault.sidecar_tree(commit), commit.committer.when_s)

    def take(self, fork: str, lent: Lent, spelled: bytes | mmap.mmap) -> State:
        """Look at a workspace whose objects are spelled so."""
        at = 0
        while at < len(spelled):
            kind, oid, size = _HEADER.unpack_from(spelled, at)
            at += _HEADER.size
            if kind == KIND_TREE:
                self._added[Oid(oid)] = (KIND_TREE, spelled[at : at + size])
            else:
                self._sizes[Oid(oid)] = size
            if kind == KIND_BLOB:
                self._places[Oid(oid)] = (spelled, at)
            at += size if kind != _SIZE_ONLY else 0
        since_s = self.store.read_commit(lent.base).committer.when_s if lent.base is not None else 0
        return State(fork, WORKSPACE, lent.tree, lent.sidecar, since_s, lent.warnings)

    def holds(self, oid: Oid) -> bool:
        """Tell whether the content of an object was handed over, or was added."""
        return oid in self._places or super().holds(oid)

    def read(self, oid: Oid) -> tuple[int, bytes]:
        """Read an object."""
        return (KIND_BLOB, self.read_blob(oid)) if oid in self._places else super().read(oid)

    def read_blob(self, oid: Oid) -> bytes:
        """Read the content of a blob."""
        held = self._places.get(oid)
        if held is None:
            return super().read_blob(oid)
        spelled, start = held
        return spelled[start : start + self._sizes[oid]]

    def show(self, state: State) -> LowerTree:
        """Show a state as a tree."""
        return LowerTree(self, state.tree, state.sidecar, default_mtime_ns=state.since_s * 1_000_000_000)

    def check_paths(self, state: State, paths: Sequence[bytes], at: str | None = None) -> None:
        """Check that each path of a state has something, even if not looked at: an ignored file, an empty directory.

        `at` is what people call that state, if it is not the workspace as it is.

        Raises:
            PathNotFound: If not.
        """
        lower = self.show(state)
        for path in paths:
            if lower.lookup(TreePath(path)) is None:
                raise PathNotFound(b"/" + path, state=at)

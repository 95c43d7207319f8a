"""Git objects in memory, as a source to read from, and written out for git itself to read.

Decided here: nothing but bytes; ids are computed as git does, so both sides speak of the same objects.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from avfs_git.errors import ObjectMissing
from avfs_git.gitstore.formats.commits import Commit, Links, Signature, parse_commit, parse_links, serialize_commit
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_COMMIT, KIND_NAMES, KIND_TREE
from avfs_git.gitstore.formats.trees import MODE_GITLINK, MODE_TREE, parse_tree, serialize_tree
from avfs_git.gitstore.objects.store import hash_object
from avfs_git.gitstore.source import Tree
from avfs_git.paths import Oid
from avfs_git.vfs.layer.sidecar import SideEntry, compose_sidecar, format_record, serialize_records

Files = Mapping[bytes, tuple[int, bytes]]
"""Mode and content by path; of a gitlink the content is the 20 bytes of a commit's id."""
Side = Mapping[bytes, object]
"""By name: the `Side` below or None, the leaf's mode and content, whether it is untracked, and its `Meta`."""


class MemorySource:
    """Objects by id. `read_count` tells how many objects were looked at."""

    def __init__(self) -> None:
        self.objects: dict[Oid, tuple[int, bytes]] = {}
        self.read_count = 0
        self._trees: dict[Oid, Tree] = {}
        self._commits: dict[Oid, Commit] = {}

    # --- as an ObjectSource ------------------------------------------------------------------------------

    def read(self, oid: Oid) -> tuple[int, bytes]:
        """Return an object."""
        self.read_count += 1
        found = self.objects.get(oid)
        if found is None:
            raise ObjectMissing(oid.hex())
        return found

    def read_blob(self, oid: Oid) -> bytes:
        """Return a blob."""
        return self.read(oid)[1]

    def read_tree(self, oid: Oid) -> Tree:
        """Return a tree, parsed once."""
        self.read_count += 1
        tree = self._trees.get(oid)
        if tree is None:
            tree = self._trees[oid] = parse_tree(self.read(oid)[1], oid)
        return tree

    def read_commit(self, oid: Oid) -> Commit:
        """Return a commit, parsed once."""
        commit = self._commits.get(oid)
        if commit is None:
            commit = self._commits[oid] = parse_commit(self.read(oid)[1], oid)
        return commit

    def read_links(self, oid: Oid) -> Links:
        """Read what a commit leads to."""
        return parse_links(self.read(oid)[1], oid)

    def ask_merge_bases(self, ours: Oid, theirs: Oid) -> list[Oid] | None:
        """No git knows these objects."""

    def blob_size(self, oid: Oid) -> int:
        """Return the length of a blob."""
        return len(self.objects[oid][1])

    def exists(self, oid: Oid) -> bool:
        """Tell whether there is such an object."""
        return oid in self.objects

    def stream_blob(self, oid: Oid) -> Iterator[bytes]:
        """Return a blob in one piece."""
        yield self.read_blob(oid)

    # --- making objects ----------------------------------------------------------------------------------

    def deflating_later(self) -> AbstractContextManager[None]:
        """Do nothing: nothing is deflated."""
        return nullcontext()

    def add(self, kind: int, data: bytes) -> Oid:
        """Keep an object and return its id."""
        oid = hash_object(kind, data)
        self.objects[oid] = (kind, data)
        return oid

    def add_tree(self, files: Files) -> Oid:
        """Keep a tree with all that is in it."""
        entries: dict[bytes, tuple[int, Oid]] = {}
        below: dict[bytes, dict[bytes, tuple[int, bytes]]] = {}
        for path, (mode, content) in files.items():
            name, slash, rest = path.partition(b"/")
            if slash:
                below.setdefault(name, {})[rest] = (mode, content)
            else:
                entries[name] = (mode, Oid(content) if mode == 0o160000 else self.add(KIND_BLOB, content))
        for name, inside in below.items():
            entries[name] = (MODE_TREE, self.add_tree(inside))
        return self.add(KIND_TREE, serialize_tree(entries))

    def add_sidecar(self, made: Side) -> Oid:
        """Keep a sidecar with all that is in it; a gitlink is nothing that one could keep."""
        children: dict[bytes, SideEntry] = {}
        records: dict[bytes, bytes] = {}
        for name, what in made.items():
            assert isinstance(what, tuple)
            below, (mode, content), untracked, meta = what
            records[name] = format_record(meta)
            if below is not None:
                children[name] = SideEntry(MODE_TREE, self.add_sidecar(below), untracked)
            elif untracked and mode != MODE_GITLINK:
                children[name] = SideEntry(mode, self.add(KIND_BLOB, content), untracked)
        meta_oid = self.add(KIND_BLOB, serialize_records(records)) if records else None
        return self.add(KIND_TREE, serialize_tree(compose_sidecar(children, meta_oid)))

    def add_sorted(self, tree: Tree) -> Oid:
        """Keep one tree by its entries."""
        return self.add(KIND_TREE, serialize_tree(tree))

    def add_commit(self, tree: Oid, *parents: Oid, when_s: int = 1_700_000_000, message: str = "a change\n") -> Oid:
        """Keep a commit."""
        signature = Signature("Ada Author", "ada@example.org", when_s)
        return self.add(KIND_COMMIT, serialize_commit(Commit(tree, parents, signature, signature, message)))

    def write_to(self, git_dir: Path) -> None:
        """Write all objects into a repository, loose; those that are there stay."""
        for oid, (kind, data) in self.objects.items():
            name = oid.hex()
            path = git_dir / "objects" / name[:2] / name[2:]
            if not path.exists():
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(zlib.compress(b"%b %d\0%b" % (KIND_NAMES[kind], len(data), data), 0))

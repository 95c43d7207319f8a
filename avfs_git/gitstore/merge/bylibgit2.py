"""The merge engine that needs no git: trees are decided on here, libgit2 merges contents.

Decided here: what stands for the base of two commits with several merge bases: a merge of those, as git makes one,
oldest first, with its conflicts left in. One contract suite tests it beside `bygit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from avfs_git.gitstore.formats.commits import Commit, Links
from avfs_git.gitstore.formats.packfile import KIND_COMMIT
from avfs_git.gitstore.merge.bases import find_merge_bases
from avfs_git.gitstore.merge.engine import Labels, MergedTrees, Style
from avfs_git.gitstore.merge.files import FileMerger
from avfs_git.gitstore.merge.trees import TreeMerge
from avfs_git.gitstore.objects.store import hash_object
from avfs_git.gitstore.rules.attributes import TreeAttributes
from avfs_git.gitstore.source import ObjectSink
from avfs_git.model import MergeStrategy
from avfs_git.paths import Oid

_SHORT = 7


class LibGit2Engine:
    """Merges commits and trees of one repository."""

    def __init__(self, sink: ObjectSink, *, favor: MergeStrategy, style: Style, attributes: bytes) -> None:
        """Prepare merges; the arguments are those of `choose.make_engine`."""
        self._sink = sink
        self._merger = FileMerger(favor=favor, style=style)
        self._more = attributes
        self._virtual: dict[Oid, Commit] = {}

    def merge(
        self, ours: Oid, theirs: Oid, *, our_label: bytes, their_label: bytes, bases: Sequence[Oid] | None = None
    ) -> MergedTrees:
        """Merge two commits; see `MergeEngine`."""
        attributes = TreeAttributes(self._sink, self._read_commit(ours).tree, self._more)
        return self._merge(ours, theirs, our_label, their_label, attributes, depth=0, bases=bases)

    def merge_trees(self, base: Oid | None, ours: Oid | None, theirs: Oid | None, *, labels: Labels) -> MergedTrees:
        """Merge three trees; see `MergeEngine`."""
        attributes = TreeAttributes(self._sink, ours, self._more)
        return TreeMerge(
            self._sink, base, ours, theirs, labels=labels, merger=self._merger, attributes=attributes
        ).run()

    def _merge(
        self,
        ours: Oid,
        theirs: Oid,
        our_label: bytes,
        their_label: bytes,
        attributes: TreeAttributes,
        *,
        depth: int,
        bases: Sequence[Oid] | None = None,
    ) -> MergedTrees:
        bases = (find_merge_bases(self, ours, theirs) if bases is None else bases)[::-1]
        if not bases:
            base, name = None, b"empty tree"
        elif len(bases) == 1:
            base, name = bases[0], bases[0].hex()[:_SHORT].encode()
        else:
            base, name = bases[0], b"merged common ancestors"
            for other in bases[1:]:
                labels = b"Temporary merge branch 1", b"Temporary merge branch 2"
                merged = self._merge(base, other, *labels, attributes, depth=depth + 1)
                base = self._join(base, other, merged.tree)
        return TreeMerge(
            self._sink,
            None if base is None else self._read_commit(base).tree,
            self._read_commit(ours).tree,
            self._read_commit(theirs).tree,
            labels=Labels(name, our_label, their_label),
            merger=self._merger,
            attributes=attributes,
            depth=depth,
        ).run()

    def read_links(self, oid: Oid) -> Links:
        """Read of a commit, which may be made up here, what a walk through history needs."""
        made_up = self._virtual.get(oid)
        return self._sink.read_links(oid) if made_up is None else Links(made_up.parents, made_up.committer.when_s)

    def ask_merge_bases(self, ours: Oid, theirs: Oid) -> list[Oid] | None:
        """Ask git for the merge bases of two commits; it knows none that is made up here."""
        return None if self._virtual.keys() & {ours, theirs} else self._sink.ask_merge_bases(ours, theirs)

    def _read_commit(self, oid: Oid) -> Commit:
        return self._virtual.get(oid) or self._sink.read_commit(oid)

    def _join(self, first: Oid, second: Oid, tree: Oid | None) -> Oid:
        """Make up the commit that a merge of two would be; it is never stored."""
        before = self._read_commit(first)
        oid = hash_object(KIND_COMMIT, first + second)
        # Older than everything, as in git: which of several bases comes first goes by date.
        signature = replace(before.committer, when_s=0)
        tree = tree if tree is not None else self._sink.add_tree({})
        self._virtual[oid] = replace(before, tree=tree, parents=(first, second), author=signature, committer=signature)
        return oid

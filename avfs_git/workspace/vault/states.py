"""Commits of the states of workspaces: the tree of each, and its sidecar, a commit of its own that it names.

Called by each operation that records what a workspace holds. Adds objects to a pack and moves no ref.
"""

from __future__ import annotations

from avfs_git.gitstore.formats.commits import Commit, Signature
from avfs_git.gitstore.formats.trees import EMPTY_TREE
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.model import Warning
from avfs_git.paths import Oid
from avfs_git.values import value_class

Trees = tuple[Oid | None, Oid | None]
"""The tree and the sidecar tree of a state; None for an empty one."""


def tree_of(commit: Commit) -> Oid | None:
    """Return the tree of a commit; None for the empty one, which need not be stored."""
    return None if commit.tree == EMPTY_TREE else commit.tree


def add_sidecar(pack: PackWriter, fork: str, signature: Signature, tree: Oid, *before: Oid | None) -> Oid:
    """Add the commit of a sidecar tree, with the sidecar commits before it as parents."""
    parents = tuple(dict.fromkeys(oid for oid in before if oid is not None))
    return pack.add_commit(Commit(tree, parents, signature, signature, f"sidecar of {fork}\n"))


def add_state(
    pack: PackWriter,
    fork: str,
    signature: Signature,
    trees: Trees,
    text: str,
    *parents: Oid | None,
    sidecar_before: Oid | None = None,
) -> tuple[Oid, Oid | None]:
    """Add the commit of a state; return it and the commit of its sidecar, which has `sidecar_before` as its parent."""
    sidecar = add_sidecar(pack, fork, signature, trees[1], sidecar_before) if trees[1] is not None else None
    tree = trees[0] if trees[0] is not None else pack.add_tree({})
    named = tuple(dict.fromkeys(oid for oid in parents if oid is not None))
    return pack.add_commit(Commit(tree, named, signature, signature, text, sidecar=sidecar)), sidecar


@value_class
class Lent:
    """A workspace as it was when it was captured, for a process that looks at it: `workspace.history.lent`."""

    tree: Oid | None
    sidecar: Oid | None
    base: Oid | None
    """The commit under the workspace: files that it has have its time, unless the sidecar has another."""
    warnings: tuple[Warning, ...]

"""Where each path of a capture belongs, and the tree and the sidecar of each directory while they are edited.

Decided here: which paths go into the tree and which into the sidecar, and what the two of a directory hold after what
was found in it. Called by `workspace.capture.capture`, which finds what there is, in one thread; reads and writes
objects by a sink, and looks at no disk. What is abandoned leaves nothing behind but unreferenced objects.

The previous state (tree and sidecar at which the stat cache holds) is edited with what changed since. A path is
*tracked* if the index holds it, which is the previous tree if no other was given; tracked paths stay in the tree
whatever the ignore rules say, as with `git add -A`. A path is *beside* history if a sidecar that was given holds it;
such a path stays in the sidecar whatever the ignore rules say, until somebody adds it. That is the one difference from
`git add -A`: a rule that goes must not publish a file.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Protocol

from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_TREE
from avfs_git.gitstore.formats.trees import MODE_GITLINK, MODE_SYMLINK, MODE_TREE, is_forbidden_kind, is_forbidden_name
from avfs_git.gitstore.source import ObjectSink
from avfs_git.paths import ROOT, Oid, TreePath, join, list_above
from avfs_git.values import value_class
from avfs_git.vfs.layer.lower import LowerEntry
from avfs_git.vfs.layer.records import Children, Records
from avfs_git.vfs.layer.sidecar import META_NAME, Record, SideEntry, differ_beyond_times, find_child
from avfs_git.vfs.scan.scan import DirtySet
from avfs_git.vfs.scan.statcache import DirCache

GIT = b".git"


class IgnoreRules(Protocol):
    """Which untracked paths stay out of the tree."""

    def is_ignored(self, path: TreePath, *, is_dir: bool) -> bool:
        """Whether the ignore rules name the path, or a directory above it."""
        ...


@value_class
class Standing:
    """What was decided for paths that no ignore rule names: which are beside history, and which of those were added."""

    beside: tuple[Oid, ...] = ()
    """Sidecar trees: the files that one of them holds are beside history."""
    added: AbstractSet[TreePath] = frozenset()
    """Files that a user has just added, ignored or not."""
    left: AbstractSet[TreePath] = frozenset()
    """Files that git has taken out of history since the previous state: not tracked, whatever the index holds."""


class Frame:
    """One directory while it is captured.

    Attributes:
        path: Where it is.
        name: Its name in the directory above, which is `parent`; None for the root.
        prev_tree: What it was at the previous state, and `prev_sidecar`.
        index: The tree of what is tracked in it; None if nothing is.
        beside: The sidecar trees of what is beside history in it.
        stays: The files in it, and wholly below it, that were kept beside history though no rule ignores them.
        lower: What the lower layer shows there.
        cached: What its entries looked like at the previous state.
        only: The only names that can differ from that; None to compare all.
        has_layer: Whether the layer holds it.
        is_moved: Whether it shows a directory of the lower layer that was at another path.
        takes_lower: Whether the files that it shows of the lower layer are placed one by one, as new ones are: what the
            lower layer has in its tree and what in its sidecar was decided for another path, or differs from what is
            tracked by now.
        reclassify: Whether the rules that put its entries into tree or sidecar have changed.
        own_stat: What it is like itself, if that changed.
        pending: Directories below to capture.
        tree: What its tree is to hold; None before the first change. With it, `side` and `meta`.
        changed: Whether any of the three was changed.
        fresh_prints: What its entries look like now; `gone_prints` are the names that are no more.
        ignored: Whether the ignore rules name it, or one above it; None before the first question. So is `nested`, for
            being in a repository of its own.
    """

    __slots__ = (
        "beside",
        "cached",
        "changed",
        "fresh_prints",
        "gone_prints",
        "has_layer",
        "ignored",
        "index",
        "is_moved",
        "lower",
        "meta",
        "meta_oid",
        "name",
        "nested",
        "only",
        "own_stat",
        "parent",
        "path",
        "pending",
        "prev_sidecar",
        "prev_tree",
        "reclassify",
        "side",
        "stays",
        "takes_lower",
        "tree",
    )

    def __init__(
        self,
        path: TreePath,
        name: bytes,
        parent: Frame | None,
        prev: tuple[Oid | None, Oid | None],
        index: Oid | None,
        lower: LowerEntry | None,
    ) -> None:
        self.path = path
        self.name = name
        self.parent = parent
        self.prev_tree, self.prev_sidecar = prev
        self.index = index
        self.lower = lower
        self.beside: tuple[Oid, ...] | None = None
        self.stays: set[bytes] = set()
        self.cached: DirCache = {}
        self.only: DirtySet | None = None
        self.has_layer = True
        self.is_moved = False
        self.takes_lower = False
        self.reclassify = False
        self.own_stat: os.stat_result | None = None
        self.pending: list[Frame] = []
        self.tree: dict[bytes, tuple[int, Oid]] | None = None
        self.side = Children()
        self.meta_oid: Oid | None = None
        self.meta = Records()
        self.changed = False
        self.fresh_prints: DirCache = {}
        self.gone_prints: list[bytes] = []
        self.ignored: bool | None = None
        self.nested: bool | None = None


class Placing:
    """Puts what a capture finds into trees and sidecars.

    Attributes:
        sidecar_touched: Whether the sidecar may differ from the previous one in more than times.
        added: The files that a user has just added.
        left: The files that git has taken out of history.
    """

    def __init__(self, sink: ObjectSink, ignore: IgnoreRules, standing: Standing) -> None:
        """Begin with a sink's objects, the ignore rules of the captured state, and what was decided before."""
        self._sink = sink
        self._ignore = ignore
        self._standing = standing
        self.added = standing.added
        self.left = standing.left
        self._above = list_above(standing.added | standing.left)
        self.sidecar_touched = False

    # --- the state of a directory ----------------------------------------------------------------

    @staticmethod
    def held(frame: Frame, name: bytes) -> tuple[int, Oid] | SideEntry | None:
        """What the state holds at a name so far, in the tree or, as an ignored `.gitignore`, in the sidecar."""
        return (frame.tree or {}).get(name) or frame.side.get(name)

    def load(self, frame: Frame) -> None:
        """Read the previous state of a directory, when its first change is met."""
        if frame.tree is not None:
            return
        frame.tree = dict(self._sink.read_tree(frame.prev_tree)) if frame.prev_tree is not None else {}
        if frame.prev_sidecar is not None:
            sidecar = self._sink.read_tree(frame.prev_sidecar)
            frame.side = Children(sidecar, frame.prev_sidecar)
            frame.meta_oid = sidecar[META_NAME][1] if META_NAME in sidecar else None
        data = self._sink.read_blob(frame.meta_oid) if frame.meta_oid is not None else b""
        frame.meta = Records(data, frame.meta_oid)

    def index_entry(self, frame: Frame, name: bytes) -> tuple[int, Oid] | None:
        """Give what is tracked at a name."""
        return None if frame.index is None else self._sink.read_tree(frame.index).get(name)

    def index_tree(self, frame: Frame, name: bytes) -> Oid | None:
        """Give the tree of what is tracked below a name; None if nothing is."""
        held = self.index_entry(frame, name)
        return held[1] if held is not None and held[0] == MODE_TREE else None

    def previous_directory(self, frame: Frame, name: bytes) -> tuple[Oid | None, Oid | None]:
        """Give the tree and the sidecar that a directory below had in the previous state."""
        self.load(frame)
        assert frame.tree is not None  # noqa: S101 - just loaded
        tree, side = frame.tree.get(name), frame.side.get(name)
        return (
            tree[1] if tree is not None and tree[0] == MODE_TREE else None,
            side.oid if side is not None and side.mode == MODE_TREE else None,
        )

    def set_absent(self, frame: Frame, name: bytes) -> None:
        """Take a name out of tree and sidecar."""
        assert frame.tree is not None  # noqa: S101 - the caller that found the change has loaded it
        frame.tree.pop(name, None)
        held = frame.side.put(name, None)
        record = frame.meta.get(name)
        if record is not None:
            frame.meta.put(name, None)
        if held is not None or differ_beyond_times(record, None):  # of a directory, also the modes of what it held
            self.sidecar_touched = True
        frame.changed = True

    def set_meta(self, frame: Frame, name: bytes, record: Record) -> None:
        """Note what a tree of git cannot say of a name."""
        before = frame.meta.get(name)
        if before != record:
            frame.meta.put(name, record)
            frame.changed = True
            if not self.sidecar_touched and differ_beyond_times(before, record):
                self.sidecar_touched = True

    # --- where a path belongs --------------------------------------------------------------------

    def place(
        self,
        frame: Frame,
        name: bytes,
        path: TreePath,
        mode: int,
        oid: Oid,
        record: Record,
        *,
        sidecar: bool | None = None,
    ) -> None:
        """Put a file or symbolic link where it belongs."""
        assert frame.tree is not None  # noqa: S101 - the caller that found the change has loaded it
        if sidecar is None:
            sidecar = self.goes_to_sidecar(frame, name, path, mode)
        if sidecar:
            frame.tree.pop(name, None)
            frame.side.put(name, SideEntry(mode, oid, untracked=True))
            self.sidecar_touched = True
        else:
            if frame.side.put(name, None) is not None:
                self.sidecar_touched = True
            frame.tree[name] = (mode, oid)
        frame.changed = True
        self.set_meta(frame, name, record)

    def move_to_tree(self, frame: Frame, name: bytes, mode: int, oid: Oid) -> None:
        """Put what the sidecar holds at a name into the tree."""
        assert frame.tree is not None  # noqa: S101 - the caller that found the change has loaded it
        frame.side.put(name, None)
        frame.tree[name] = (mode, oid)
        frame.changed = True
        self.sidecar_touched = True

    def move_to_sidecar(self, frame: Frame, name: bytes, mode: int, oid: Oid) -> None:
        """Put what the tree holds at a name into the sidecar."""
        assert frame.tree is not None  # noqa: S101 - the caller that found the change has loaded it
        del frame.tree[name]
        frame.side.put(name, SideEntry(mode, oid, untracked=True))
        frame.changed = True
        self.sidecar_touched = True

    def goes_to_sidecar(self, frame: Frame, name: bytes, path: TreePath, mode: int) -> bool:
        """Whether a file or symbolic link belongs in the sidecar, and not in the tree."""
        if is_forbidden_name(name) or (mode == MODE_SYMLINK and is_forbidden_kind(name, mode)):
            return True
        index = self.index_entry(frame, name) if frame.index is not None else None
        is_tracked = index is not None and index[0] not in (MODE_TREE, MODE_GITLINK) and path not in self.left
        if is_tracked or path in self.added:
            return False
        # Asked for each file, and decided once for each directory.
        nested = frame.nested if frame.nested is not None else self._is_nested(frame)
        if nested or (frame.ignored if frame.ignored is not None else self.is_ignored_dir(frame)):
            return True
        if self._ignore.is_ignored(path, is_dir=False):
            return True
        if not self._is_beside(frame, name):
            return False
        frame.stays.add(path)
        return True

    def _is_beside(self, frame: Frame, name: bytes) -> bool:
        found = (find_child(self._sink.read_tree(oid), name) for oid in self._sidecars(frame))
        return any(child is not None and child.mode != MODE_TREE for child in found)

    def _sidecars(self, frame: Frame) -> tuple[Oid, ...]:
        """List the trees of the sidecars that were given for one directory."""
        if frame.beside is None:
            for here in _undecided(frame, lambda one: one.beside):
                if here.parent is None:
                    here.beside = self._standing.beside
                else:
                    found = (find_child(self._sink.read_tree(oid), here.name) for oid in here.parent.beside or ())
                    here.beside = tuple(child.oid for child in found if child is not None and child.mode == MODE_TREE)
        return frame.beside or ()

    def leads_to_moved(self, path: TreePath) -> bool:
        """Whether a directory holds, or leads to, a file that was added or that left history."""
        return path in self._above

    def reclassify(self, frame: Frame) -> list[bytes]:
        """Place again what a directory held.

        Name those directories below, besides the pending ones, in which something may move.

        The sidecar gives up what no rule keeps there any more, or what was added; the tree gives up what git has taken
        out of history and a rule names.
        """
        self.load(frame)
        assert frame.tree is not None  # noqa: S101 - just loaded
        queued = {child.name for child in frame.pending}
        below: list[bytes] = []
        for name, (mode, oid, untracked) in frame.side.list_all():
            path = join(frame.path, name)
            leads_to_moved = self.leads_to_moved(path)
            if not frame.reclassify and not leads_to_moved and path not in self.added:
                continue
            if mode != MODE_TREE:
                if not self.goes_to_sidecar(frame, name, path, mode):
                    self.move_to_tree(frame, name, mode, oid)
            elif untracked and name not in queued:
                # In a directory that was ignored before and is now, nothing moves.
                stays = self.is_ignored_dir(frame) or self._ignore.is_ignored(path, is_dir=True)
                if leads_to_moved or self.index_tree(frame, name) is not None or not stays:
                    below.append(name)
        for name, (mode, oid) in list(frame.tree.items()) if self.left else ():
            path = join(frame.path, name)
            if mode == MODE_TREE and name not in queued and name not in below and self.leads_to_moved(path):
                below.append(name)
            elif path in self.left and self.goes_to_sidecar(frame, name, path, mode):
                self.move_to_sidecar(frame, name, mode, oid)
        return below

    def is_ignored_dir(self, frame: Frame) -> bool:
        """Whether the ignore rules name a directory, or one above it."""
        if frame.ignored is None:
            for here in _undecided(frame, lambda one: one.ignored):
                assert here.parent is not None  # noqa: S101 - the root's is known
                here.ignored = here.parent.ignored or self._ignore.is_ignored(here.path, is_dir=True)
        return bool(frame.ignored)

    def _is_nested(self, frame: Frame) -> bool:
        """Whether a directory is, or is in, a repository of its own: it holds `.git` and nothing tracked."""
        if frame.nested is None:
            for here in _undecided(frame, lambda one: one.nested):
                self.load(here)
                here.nested = self._is_nested_with(here, git_present=here.side.get(GIT) is not None)
        return bool(frame.nested)

    def _is_nested_with(self, frame: Frame, *, git_present: bool) -> bool:
        assert frame.parent is not None  # noqa: S101 - the root's is known
        return (
            self._is_nested(frame.parent)
            or (frame.index is None and git_present)
            or is_forbidden_name(frame.name)  # what is in a `.git` is no more for a tree than `.git` itself
            or is_forbidden_kind(frame.name, MODE_TREE)
            or self._is_gitlink(frame)
        )

    def _is_gitlink(self, frame: Frame) -> bool:
        held = self.index_entry(frame.parent, frame.name) if frame.parent is not None else None
        return held is not None and held[0] == MODE_GITLINK

    def note_git(self, frame: Frame, *, present: bool) -> None:
        """Take notice that `.git` came or went, which decides where its neighbours belong."""
        self.load(frame)
        was = frame.side.get(GIT) is not None
        if frame.path == ROOT or was == present:
            return
        frame.reclassify = True
        assert frame.parent is not None  # noqa: S101 - the root was sorted out
        frame.nested = self._is_nested_with(frame, git_present=present)

    # --- a directory that is done ----------------------------------------------------------------

    def write(self, frame: Frame) -> tuple[Oid | None, Oid | None]:
        """Write the objects of a directory whose children are done; give its tree and its sidecar."""
        if not frame.changed or frame.tree is None:
            return frame.prev_tree, frame.prev_sidecar
        if frame.meta.is_changed:
            data = frame.meta.serialize()
            frame.meta_oid = self._sink.add(KIND_BLOB, data, keep=True) if data else None
        tree = self._sink.add_tree(frame.tree) if frame.tree else None
        entries = frame.side.compose(frame.meta_oid)
        sidecar = self._sink.add_tree(entries) if entries else None
        return tree, sidecar

    def join(self, frame: Frame, child: Frame, tree: Oid | None, sidecar: Oid | None) -> None:
        """Put a directory that is written into the one above it; what it is like itself is not noted yet."""
        if child.own_stat is None and not child.changed and frame.tree is None:
            return
        self.load(frame)
        assert frame.tree is not None  # noqa: S101 - just loaded
        name = child.name
        held = frame.tree.get(name)
        new_tree = held if held is not None and held[0] == MODE_GITLINK else None
        if tree is not None:
            new_tree = (MODE_TREE, tree)
        new_side: SideEntry | None = None
        if sidecar is not None:
            new_side = SideEntry(
                MODE_TREE, sidecar, untracked=new_tree is None or self._holds_untracked(child, sidecar)
            )
        elif new_tree is None:
            # Nothing in it, or nothing that may be kept: but it is there.
            new_side = SideEntry(MODE_TREE, self._sink.add(KIND_TREE, b""), untracked=True)
        if new_tree != held or new_side != frame.side.get(name):
            frame.changed = True
            before = frame.side.get(name)
            was_untracked, is_untracked = (
                before is not None and before.untracked,
                new_side is not None and new_side.untracked,
            )
            # What came in the place of another directory was compared with nothing that this one held.
            follows = child.prev_sidecar == (before.oid if before is not None else None)
            if was_untracked != is_untracked or not follows:
                self.sidecar_touched = True
            if new_tree is None:
                frame.tree.pop(name, None)
            else:
                frame.tree[name] = new_tree
            frame.side.put(name, new_side)

    def _holds_untracked(self, child: Frame, sidecar: Oid) -> bool:
        side = child.side if child.tree is not None else Children(self._sink.read_tree(sidecar), sidecar)
        return side.hold_untracked()


def _undecided(frame: Frame, known: Callable[[Frame], object]) -> list[Frame]:
    """List a directory and those above it of which something is not known yet, the uppermost first.

    A loop, because trees may be deeper than Python's own stack.
    """
    found = []
    here: Frame | None = frame
    while here is not None and known(here) is None:
        found.append(here)
        here = here.parent
    return found[::-1]

"""Moving a fork on to another tree: its files and its branch together, or neither.

Decided here: how the result of a merge, or of rewritten history, which is complete in memory, becomes the state of a
workspace. The order is that of a restore (`restore`), with one pack for all that is new:

1. The intent is forced to disk. From here on, the process that opens the workspace after a crash puts it back.
2. The new files are written beside the workspace, then entries change, each by one rename.
3. The result is confirmed or else captured (see `confirm`), and must be the tree that was wanted; the pack is forced to
   disk.
4. The sidecar's ref and the branch move, with a line in the log that repeats the intent's word.
5. The intent is removed.

A failure before the refs have moved puts the files back. Ignored files are not merged: the target's stay as they are,
and such as the other side has made since both parted come along where nothing has their place. A tracked file of the
result takes the place of an ignored one, as in git; undo brings back what was there.

Called with the workspace lock held and nothing uncommitted, by `merge` and `rewrite`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from avfs_git.errors import InternalError, PathUnsuitable
from avfs_git.faults import reach
from avfs_git.gitstore.compare.treediff import Entry, find_differences
from avfs_git.gitstore.formats.trees import EMPTY_TREE, MODE_EXEC, MODE_FILE, MODE_SYMLINK, MODE_TREE, find_entry
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import ChangedFile, Warning
from avfs_git.paths import ROOT, Oid, TreePath, climb, join, list_above, maybe_oid, show_path, split
from avfs_git.vfs.layer.lower import LowerEntry, LowerTree
from avfs_git.vfs.layer.plan import Plan, Step, list_contents, plan_steps
from avfs_git.vfs.layer.sidecar import Meta, Record, edit_sidecar, edit_untracked, find_attributes
from avfs_git.workspace.capture.capture import IGNORE
from avfs_git.workspace.capture.captured import Captured
from avfs_git.workspace.capture.requests import CaptureRequest
from avfs_git.workspace.capture.sidecardiff import diff_sidecars
from avfs_git.workspace.checkpoint.aftermath import aftermath
from avfs_git.workspace.checkpoint.changes import commit_edits, keep_state
from avfs_git.workspace.checkpoint.confirm import confirm_advanced
from avfs_git.workspace.checkpoint.mark import mark_captured
from avfs_git.workspace.checkpoint.prepare import adopt_submodules, capture_workspace
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.restore.application import KEPT_IN_PLACE, Application
from avfs_git.workspace.restore.carried import carry_attributes
from avfs_git.workspace.restore.intent import announced, put_back
from avfs_git.workspace.vault.format import HEADS, SIDECARS
from avfs_git.workspace.vault.log.oprecord import CAPTURED, EXACT, OURS, SIDECAR, OpRecord
from avfs_git.workspace.vault.origin import Beside
from avfs_git.workspace.vault.states import Trees, add_sidecar

MakeHead = Callable[[PackWriter, Oid | None], Oid]
"""Makes or names the commit that the branch moves to, given the commit of its sidecar."""


@dataclass(frozen=True, slots=True)
class OtherSide:
    """Where attributes, and untracked files, come along from."""

    commit: Oid
    sidecar: Oid | None
    """What is beside the commit: where a fork is at it, what that has there."""
    base: Oid | None
    """What both sides come from; what is there already is nothing new."""
    base_sidecar: Oid | None
    parted: Beside | None = None
    """Where the two were one fork, and what that had: of it, what the fork that moves on lacks by now is not new."""
    brings_untracked: bool = True


@dataclass(frozen=True, slots=True)
class AdvanceRequest:
    """Where a fork moves on to."""

    tree: Oid
    """What git will track. The pack has its objects."""
    make_head: MakeHead
    """Makes the commit that the branch moves to."""
    head: Oid
    now: Trees
    kind: str
    description: str
    came_from: Oid | None = None
    """The commit that holds the trees `now`, where others have moved the branch away from it."""
    other: OtherSide | None = None
    """Whose changes of attributes, and new untracked files, come along."""
    more: dict[str, object] = field(default_factory=dict)
    """Facts for the log."""
    keeps_head: bool = False
    """Whether the present head is kept reachable, because the new one does not lead to it."""
    ends_merge: bool = False
    undone_to: Oid | None = None
    """Where undo leads, if the files hold a resolution; the state before otherwise."""
    asks: bool = True
    """Whether what would exceed a quota is refused."""


@dataclass(frozen=True, slots=True)
class Advanced:
    """What moving on did."""

    head: Oid
    sidecar_changed: tuple[ChangedFile, ...]
    warnings: tuple[Warning, ...]


@dataclass(slots=True)
class AdvancePlan:
    """What will be done to files."""

    now: LowerTree
    wanted: LowerTree
    steps: list[Step]
    warnings: list[Warning] = field(default_factory=list)
    brought: list[Step] = field(default_factory=list)
    """Untracked files of the other side."""

    @property
    def changes(self) -> Plan:
        """The changes of files."""
        return Plan(self.now, self.wanted, self.steps)

    def check_ignored(self, source: ObjectSource, wanted: Oid, tree: Oid | None) -> None:
        """Refuse untracked files that are in a tree by now, and not in the wanted one: nothing ignores them here.

        If none of them is, but one decides what is ignored where others are, all are refused.

        Raises:
            NotIgnoredHere: If there are any.
        """
        files = {step.path for step in self.brought if step.after is not None and not step.after.is_dir}
        came = {path for path, (_, new) in find_differences(source, wanted, tree).items() if new is not None}
        deciding = {split(path)[0] for path in files if split(path)[1] == IGNORE}
        if files & came or not deciding.isdisjoint(list_above(came)):
            raise NotIgnoredHere(files & came or files)

    def leave_out(self, found: AbstractSet[TreePath]) -> None:
        """Leave out untracked files that nothing ignores here, and say so."""
        self.drop(found)
        self.warnings += [
            Warning("merge.left_out", f"'{show_path(path)}' is not tracked there, not ignored here, and left out", path)
            for path in sorted(found)
        ]

    def drop(self, found: AbstractSet[TreePath]) -> None:
        """Take untracked files out of the plan."""
        # Directories that led to them alone go, too; one that was empty stays.
        brought = {step.path for step in self.brought}
        emptied = list_above(found) & brought
        dropped = found | (emptied - list_above(brought - found - emptied))
        self.steps = [step for step in self.steps if step.path not in dropped or step.before is not None]
        self.brought = [step for step in self.brought if step.path not in dropped]


class NotIgnoredHere(Exception):
    """Files that nothing ignores here came along: they would be part of the commit.

    Attributes:
        paths: What they are.
    """

    def __init__(self, paths: AbstractSet[TreePath]) -> None:
        super().__init__("files that nothing ignores came along")
        self.paths = paths


def advance(locked: LockedWorkspace, pack: PackWriter, request: AdvanceRequest) -> Advanced:
    """Move a fork and its files on. The pack is finished here.

    Raises:
        RefConflict: If the branch has moved meanwhile.
        LeftInForce: If the disk refuses so late that the new state stays.
    """
    plan = plan_advance(pack, request.now, request.tree, request.other)
    locked.vault.store.expect(oid for oid in list_contents(plan.steps) if not pack.exists(oid))
    came_from = request.came_from or request.head
    facts = request.more if came_from == request.head else {**request.more, OURS: came_from.hex()}
    before = request.undone_to or keep_state(locked, came_from, request.now)
    facts = {**facts, EXACT: True}
    while True:  # ends, because each turn leaves something out
        try:
            return _carry_out(locked, pack, plan, request, before, facts)
        except NotIgnoredHere as found:
            put_back(locked)  # if that failed, once more: nothing may begin on what is half there
            plan.leave_out(found.paths)


def _carry_out(
    locked: LockedWorkspace,
    pack: PackWriter,
    plan: AdvancePlan,
    request: AdvanceRequest,
    undone_to: Oid,
    more: dict[str, object],
) -> Advanced:
    """Move on as planned. `undone_to` is the commit with the state to which undo leads, `more` what the log says."""
    head, tree, now = request.head, request.tree, request.now
    vault = locked.vault
    with announced(locked, request.kind, now, plan.changes, ends_merge=request.ends_merge) as intent:
        change = Application(locked, plan.now, plan.wanted, gives_way=False, asks=request.asks, brings_times=True)
        change.apply(plan.steps)
        reach("advance.applied")
        before = locked.opened.synced_trees()
        confirmed = None
        if not change.warnings and before == now:
            confirmed = confirm_advanced(locked, pack, plan.steps, change.known, tree, now)
        captured = confirmed or capture_workspace(locked, pack, CaptureRequest(known=change.known, index=tree))
        captured.tree = adopt_submodules(pack, captured.tree, tree)
        is_other = False
        if (captured.tree or EMPTY_TREE) != tree:
            plan.check_ignored(pack, tree, captured.tree)
            for warning in change.warnings:  # else some other file is not what it was made
                if warning.code == KEPT_IN_PLACE:
                    raise PathUnsuitable(
                        b"/" + (warning.path or b""), "is in no checkpoint, and in the way of what is to come"
                    )
            if locked.opened.shown_at is None:
                raise InternalError("the workspace does not hold what was wanted")
            # A program wrote meanwhile: the next capture finds that, and nothing of it is in the commit.
            is_other = True
            captured.sidecar = _add_made(pack, plan, now, captured, tree)
            captured.tree = tree
        sidecar, moves_sidecar = _add_sidecar(locked, pack, captured, request.other)
        new = request.make_head(pack, sidecar)
        commit = pack.read_commit(new)
        is_kept = before[1] == now[1] and not captured.sidecar_touched
        changed = () if is_kept else tuple(diff_sidecars(pack, now[1], captured.sidecar))
        pack.finish(hold=True)
        reach("advance.packed")
        changes = [RefChange(HEADS + locked.fork, head, new)]
        if moves_sidecar:
            changes.insert(
                0, RefChange(SIDECARS + locked.fork, vault.refs.read(SIDECARS + locked.fork), sidecar, lasting=True)
            )
        left = [head] if request.keeps_head else []
        if request.came_from not in (None, head):
            left.append(request.came_from)
        changes = [*vault.hold(*left), *changes]
        facts = {**more, **intent.facts, CAPTURED: captured.began_ns}
        if sidecar is not None and commit.sidecar != sidecar:
            facts[SIDECAR] = sidecar.hex()
        record = OpRecord(
            0,
            locked.fork,
            request.kind,
            request.description,
            vault.clock_ns(),
            moves=[(HEADS + locked.fork, head.hex(), new.hex())],
            before=undone_to.hex(),
            after=new.hex(),
            more=facts,
        )
        vault.move_refs(changes, record)
        told = [] if is_other else mark_captured(locked, captured, commit=new)
        if is_other:
            with aftermath(intent.warnings, "the next checkpoint reads more than it would have to"):
                locked.opened.drop_cache()
    return Advanced(new, changed, (*plan.warnings, *captured.warnings, *change.warnings, *told, *intent.warnings))


def _add_made(pack: PackWriter, plan: AdvancePlan, now: Trees, captured: Captured, tree: Oid) -> Oid | None:
    """Make the sidecar of what was wanted from one in which a program has written meanwhile."""
    brought = {step.path: step.after for step in plan.brought if step.after is not None}
    made = [step.path for step in plan.steps if step.path not in brought and not (step.after and step.after.is_dir)]
    edits = {path: find_entry(pack, tree, path) for path in made}
    _, sidecar = commit_edits(pack, pack, now, (captured.tree, captured.sidecar), edits)
    beside: dict[TreePath, Entry | None] = {path: None for path, entry in edits.items() if entry is not None}
    attributes: dict[TreePath, dict[bytes, Record | None]] = {}
    for path, entry in brought.items():
        directory, name = split(path)
        record = find_attributes(pack, captured.sidecar, directory, (name,)).get(name)
        attributes.setdefault(directory, {})[name] = record
        if entry.oid is not None:
            mode = MODE_SYMLINK if entry.kind == "symlink" else MODE_EXEC if entry.mode & 0o100 else MODE_FILE
            beside[path] = mode, entry.oid
        elif entry.is_dir and not any(other.startswith(path + b"/") for other in brought):
            beside[path] = MODE_TREE, pack.add_tree({})
    return edit_sidecar(pack, edit_untracked(pack, sidecar, beside), attributes)


def _add_sidecar(
    locked: LockedWorkspace, pack: PackWriter, captured: Captured, other: OtherSide | None
) -> tuple[Oid | None, bool]:
    """Add the sidecar commit of a captured state; tell whether the sidecar's ref moves to it.

    It has that of the other side as a parent, so that what is now part of the fork's history stays reachable with it.
    """
    vault, fork = locked.vault, locked.fork
    if captured.sidecar is None:
        return None, False
    held = vault.read_sidecar_ref(fork)
    theirs = other.sidecar if other is not None else None
    if held is not None and theirs in (None, held) and pack.read_commit(held).tree == captured.sidecar:
        return held, False
    before = held or maybe_oid(locked.opened.state.sidecar)
    return add_sidecar(pack, fork, locked.signature(), captured.sidecar, before, theirs), True


# --- what has to be done --------------------------------------------------------------------------------------


def plan_advance(source: ObjectSource, now: Trees, tree: Oid, other: OtherSide | None) -> AdvancePlan:
    """List what brings a workspace to a tree, and what untracked files come along with it."""
    left = LowerTree(source, *now, default_mtime_ns=0)
    right = LowerTree(source, None if tree == EMPTY_TREE else tree, now[1], default_mtime_ns=0)
    steps = plan_steps(left, right)
    plan = AdvancePlan(left, right, steps)
    for path in (path for step in steps for path in _list_replaced(left, step)):
        why = "is tracked there" if right.lookup(path) is not None else "a tracked file is in place of its directory"
        text = f"'{show_path(path)}' was ignored here and {why}; `avfs undo` brings back what it was"
        plan.warnings.append(Warning("merge.replaced_ignored", text, path))
    if other is not None:
        theirs = _show(source, other.commit, other.sidecar)
        base = _show(source, other.base, other.base_sidecar) if other.base is not None else None
        plan.steps = [_with_attributes(step, left, theirs) for step in steps]
        if base is not None and theirs.root.sidecar is not None:  # else nothing says what attributes they have
            plan.steps, told = carry_attributes(source, plan.steps, left, base, theirs, right)
            plan.warnings += told
        if other.brings_untracked:
            plan.brought = _new_untracked(theirs, base, right, {step.path for step in steps if step.after is not None})
            plan.steps += plan.brought
            if other.parted is not None:
                had = _show(source, *other.parted)
                files = {step.path for step in plan.brought if step.after is not None and not step.after.is_dir}
                plan.drop({path for path in files if had.lookup(path) is not None})
    return plan


def _list_replaced(left: LowerTree, step: Step) -> Iterator[TreePath]:
    """List what a step takes from beside history: what is at its path, or below the directory that a file replaces.

    A directory of which history has nothing stands for all that is in it.
    """
    if step.before is None or (step.before.is_dir and (step.after is None or step.after.is_dir)):
        return
    stack = [(step.path, step.before)]
    while stack:
        path, entry = stack.pop()
        if not entry.tracked:
            yield path
        elif entry.is_dir and entry.sidecar is not None:
            stack += reversed([(join(path, name), child) for name, child in left.children(entry).items()])


def _show(source: ObjectSource, oid: Oid, sidecar: Oid | None) -> LowerTree:
    commit = source.read_commit(oid)
    beside = source.read_commit(sidecar).tree if sidecar is not None else None
    return LowerTree(source, commit.tree, beside, default_mtime_ns=commit.committer.when_s * 1_000_000_000)


def _with_attributes(step: Step, ours: LowerTree, theirs: LowerTree) -> Step:
    """Give what the other side made its permissions and attributes, which git's tree does not tell.

    Where both sides have a name for what is not of one kind, one of the two is put aside as `NAME~FORK`.
    """
    before, after = step.before, step.after
    if after is None or (before is not None and before.kind == after.kind and before.tracked):
        return step
    there, name = theirs.lookup(step.path), TreePath(step.path.rpartition(b"~")[0])
    if there is None and name:
        there = next((each for side in (ours, theirs) if (each := side.lookup(name)) and each.oid == after.oid), None)
    if there is None or there.kind != after.kind or not there.tracked:
        return step
    if after.kind == "file" and (there.mode & 0o100) != (after.mode & 0o100):
        return step
    made = LowerEntry(
        after.kind,
        there.mode,
        after.mtime_ns,
        after.oid,
        after.tree,
        after.sidecar,
        Meta(xattrs=there.xattrs),
        tracked=True,
    )
    return step._replace(after=made)


def _new_untracked(theirs: LowerTree, base: LowerTree | None, wanted: LowerTree, planned: set[TreePath]) -> list[Step]:
    """List what the other side has added beside git's tree since both parted, if its place here is not taken."""
    found: dict[TreePath, Step] = {}
    stack: list[tuple[TreePath, LowerEntry, LowerEntry | None]] = [
        (ROOT, theirs.root, base.root if base is not None else None)
    ]
    bound = theirs.bound_below(theirs.root)
    while stack:
        path, there, before = stack.pop()
        if there.sidecar is None or (before is not None and before.sidecar == there.sidecar):
            continue
        if before is not None and base is not None:
            children, old = theirs.differing_untracked(there, base, before)
        else:
            children, old = theirs.children(there), {}
        bound.meet(len(children))
        for name, child in children.items():
            here, was = join(path, name), old.get(name)
            if child.kind == "dir":
                if not child.tracked and was is None and child.sidecar is not None and not theirs.children(child):
                    _bring(found, here, child, theirs, wanted, planned)
                stack.append((here, child, was if was is not None and was.is_dir else None))
            elif not child.tracked and was is None:
                _bring(found, here, child, theirs, wanted, planned)
    return [found[path] for path in sorted(found)]


def _bring(
    found: dict[TreePath, Step],
    path: TreePath,
    entry: LowerEntry,
    theirs: LowerTree,
    wanted: LowerTree,
    planned: set[TreePath],
) -> None:
    """Plan an untracked entry with the directories that lead to it, unless something has its place."""
    steps = {path: Step(path, None, entry)}
    if wanted.lookup(path) is not None:
        return
    for above in climb(split(path)[0]):
        there = wanted.lookup(above)
        if there is not None:
            if not there.is_dir:
                return
            break
        directory = theirs.lookup(above)
        if directory is None:
            return
        if above not in planned:
            steps[above] = Step(above, None, directory)
    found.update(steps)

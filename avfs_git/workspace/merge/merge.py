"""Merging another commit into a fork.

Decided here: the steps of a merge, and what its result says. What the target has not committed is saved first; then the
merge is made in memory (`gitstore.merge`), and the target is not touched before it is complete. Without conflicts it
becomes the state of the fork in one step (`advance`), which can be undone and which a crash leaves done or not done.
With conflicts nothing is changed, or they are put into the workspace, to be resolved (`mergestate`).

The source is a commit: the caller has saved what its fork had not committed, and let go of that fork's lock again,
so that no two workspaces are ever locked at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from avfs_git.errors import InvalidInput, NotFastForward, UnrelatedHistories, quote
from avfs_git.gitstore.compare.treediff import Entry, changed_file, find_differences
from avfs_git.gitstore.config.gitconfig import read_config
from avfs_git.gitstore.formats.commits import Commit, Signature
from avfs_git.gitstore.formats.trees import MODE_GITLINK
from avfs_git.gitstore.merge.bases import find_merge_bases, is_ancestor
from avfs_git.gitstore.merge.choose import make_engine
from avfs_git.gitstore.merge.engine import ConflictStyle, EngineName, Labels, MergeEngine, TreeConflict
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.rules.attributes import read_info_attributes
from avfs_git.model import MergeMode, MergeOptions, MergeOutcome, MergeResult, MergeStrategy, Warning
from avfs_git.paths import Oid, TreePath, maybe_oid, oid_of, show_path
from avfs_git.workspace.checkpoint.checkpoint import check_not_merging, check_seen, save_first
from avfs_git.workspace.merge.conflicts import describe_conflicts
from avfs_git.workspace.merge.mergestate import begin_merge
from avfs_git.workspace.merge.preview import Preview
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.restore.advance import Advanced, AdvanceRequest, OtherSide, advance
from avfs_git.workspace.restore.aside import saved_trees
from avfs_git.workspace.sidecars.kept import find_had, find_shown
from avfs_git.workspace.vault.config import Config
from avfs_git.workspace.vault.format import Merging, VaultLayout
from avfs_git.workspace.vault.gitmoves import check_head
from avfs_git.workspace.vault.log.oprecord import JOINS
from avfs_git.workspace.vault.origin import Beside, peek_state
from avfs_git.workspace.vault.revisions import find_owner
from avfs_git.workspace.vault.states import Trees

_SHORT = 7
"""Digits of a commit's id in the markers of a conflict, as git writes it there."""
MERGED = "merged"
"""The name, in the log's `more`, of the merged commit, or of the target of a rebase without own commits."""


@dataclass(frozen=True, slots=True)
class Start:
    """A fork with nothing uncommitted, as a merge finds its target."""

    head: Oid
    """The commit that is merged with, not stored where the merge is only asked for."""
    now: Trees
    saved: str | None = None
    branch: Oid | None = None
    """Where the branch points, where others have moved it away from the head that the workspace has."""
    base: Oid | None = None
    """The tree that both are compared with, where it is not that of a commit."""
    warnings: tuple[Warning, ...] = ()
    """What saving left out."""


@dataclass(frozen=True, slots=True)
class Merged:
    """A merge in memory."""

    tree: Oid
    base: Oid | None
    outcome: MergeOutcome
    conflicts: tuple[TreeConflict, ...] = ()
    changes: Mapping[TreePath, tuple[Entry | None, Entry | None]] | None = None
    """What is different from our side; None if that was not looked at."""
    drivers: Mapping[TreePath, bytes] = field(default_factory=dict)
    """Files that were merged by lines where their attributes name a program."""

    @property
    def warnings(self) -> tuple[Warning, ...]:
        """What the result says of it."""
        return tuple(
            Warning(
                "merge.driver_not_run",
                f"'{show_path(path)}' has a merge driver '{show_path(name)}', which avfs does not run: merged by lines",
                path,
            )
            for path, name in sorted(self.drivers.items())
        )


def merge_commit(locked: LockedWorkspace, theirs: Oid, options: MergeOptions) -> MergeResult:
    """Merge a commit into a fork.

    Raises:
        HeadElsewhere: If git's HEAD in the live tree is not on the fork's branch.
        NotFastForward: If only moving on is allowed, and the target has commits of its own.
        UnrelatedHistories: If the two have no commit in common.
        MergeInProgress: If the workspace is in the middle of another merge.
        RefConflict: If the target's branch holds changes that its workspace has not seen.
    """
    head = locked.vault.read_head(locked.fork)
    if not check_merge(locked, theirs, options):
        assert head is not None  # noqa: S101 - it holds theirs
        dry = DryWriter(locked.vault.store)
        known = Merged(dry.read_commit(head).tree, theirs, "up_to_date", changes={})
        return describe_merge(dry, locked.fork, head, theirs, known, options)
    start = save_target(locked, f"save before merge of {options.source}")
    if start.saved is not None:  # an operation between the two
        options = replace(options, joins=None)
    return merge_into(locked, start, theirs, options)


def check_merge(locked: LockedWorkspace, theirs: Oid, options: MergeOptions) -> bool:
    """Refuse a merge that cannot be made, before anything is saved, here or in its source.

    Tell whether anything comes in.

    Raises:
        HeadElsewhere, MergeInProgress, NotFastForward, RefConflict, UnrelatedHistories: As `merge_commit`.
    """
    check_not_merging(locked)
    check_head(locked.vault, locked.fork)
    head = locked.vault.read_head(locked.fork)
    if head is None:
        return True
    dry = DryWriter(locked.vault.store)
    bases = find_merge_bases(dry, head, theirs)
    if not bases:
        raise UnrelatedHistories(locked.fork, options.source)
    if theirs in bases:
        return False
    if options.mode is MergeMode.FF_ONLY:
        if head not in bases:
            raise NotFastForward(locked.fork, options.source)
        if not locked.opened.is_recorded_by(head):
            preview = Preview(locked)
            merge_in_memory(preview, preview.add_uncommitted(), theirs, options, target=locked.fork)
    check_seen(locked)
    return True


def merge_into(locked: LockedWorkspace, start: Start, theirs: Oid, options: MergeOptions) -> MergeResult:
    """Merge a commit into a fork that has nothing uncommitted; raises as `merge_commit` does."""
    vault = locked.vault
    with PackWriter(vault.store) as pack:
        in_workspace = options.in_workspace
        merged = merge_in_memory(
            pack, start.head, theirs, options, target=locked.fork, in_workspace=in_workspace, base=start.base
        )
        result = describe_merge(pack, locked.fork, start.head, theirs, merged, options, saved=start.saved)
        # others took it back: it goes on to what is here
        if merged.outcome == "up_to_date" and start.branch is not None:
            options = replace(options, source=start.head.hex()[:12])
            merged = replace(merged, outcome="fast_forward")
            result = describe_merge(pack, locked.fork, start.branch, start.head, merged, options, saved=start.saved)
        if merged.outcome == "conflicted" and in_workspace:
            text = message_of(options, locked.fork)
            merging = Merging(options.source, theirs.hex(), start.head.hex(), text, options.mode is MergeMode.SQUASH)
            other = find_other_side(locked, options.source, theirs, merged.base)
            told = begin_merge(locked, pack, merged.tree, merged.conflicts, merging, now=start.now, other=other)
            return replace(result, in_workspace=True, warnings=join_warnings(result.warnings, told, start.warnings))
        if merged.outcome in ("up_to_date", "conflicted"):
            return replace(result, warnings=join_warnings(result.warnings, start.warnings))
        done = _advance(locked, pack, start, theirs, merged, options)
    return replace(
        result,
        commit=done.head.hex(),
        sidecar_changed=done.sidecar_changed,
        warnings=join_warnings(result.warnings, done.warnings, start.warnings),
    )


def join_warnings(*told: Iterable[Warning]) -> tuple[Warning, ...]:
    """Join the warnings of the steps of an operation, each once."""
    return tuple(dict.fromkeys(chain.from_iterable(told)))


def plan_merge(locked: LockedWorkspace, theirs: Oid, options: MergeOptions) -> MergeResult:
    """Tell what a merge would do. Writes nothing."""
    check_head(locked.vault, locked.fork)
    head = locked.vault.read_head(locked.fork)
    if head is not None and locked.opened.is_recorded_by(head):
        dry = DryWriter(locked.vault.store)
        merged = merge_in_memory(dry, head, theirs, options, target=locked.fork)
        return describe_merge(dry, locked.fork, head, theirs, merged, options)
    writer = Preview(locked)
    ours = writer.add_uncommitted()
    merged = merge_in_memory(writer, ours, theirs, options, target=locked.fork)
    result = describe_merge(writer, locked.fork, ours, theirs, merged, options)
    return replace(result, warnings=(*result.warnings, *writer.captured.warnings))


def save_target(locked: LockedWorkspace, description: str) -> Start:
    """Save what a workspace has not committed, so that something else can take its place.

    Raises:
        MergeInProgress: If the workspace is in the middle of a merge.
        RefConflict: If its branch holds changes that it has not seen.
    """
    locked.vault.prepare()
    head = locked.vault.read_head(locked.fork)
    if head is not None and locked.opened.state.merging is None and locked.opened.is_recorded_by(head):
        return Start(head, saved_trees(locked, None))
    result = save_first(locked, description)
    assert result.checkpoint is not None  # noqa: S101 - saving makes a first commit where there is none
    saved = result.checkpoint.id if result.outcome == "created" else None
    return Start(oid_of(result.checkpoint.id), saved_trees(locked, saved), saved, warnings=result.warnings)


def merge_in_memory(
    sink: PackWriter | DryWriter,
    ours: Oid,
    theirs: Oid,
    options: MergeOptions,
    *,
    target: str,
    in_workspace: bool = False,
    base: Oid | None = None,
) -> Merged:
    """Merge two commits; new blobs and trees go to the sink.

    With `in_workspace`, the conflicts will be resolved in the files. `base` is a tree to compare both with, in place of
    that of the last commit which they have in common.
    """
    bases = find_merge_bases(sink, ours, theirs)
    if not bases:
        raise UnrelatedHistories(target, options.source)
    if theirs in bases and base is None:
        return Merged(sink.read_commit(ours).tree, theirs, "up_to_date")
    if ours in bases:
        moves_on = options.mode in (MergeMode.NORMAL, MergeMode.FF_ONLY)
        return Merged(sink.read_commit(theirs).tree, ours, "fast_forward" if moves_on else "clean")
    if options.mode is MergeMode.FF_ONLY:
        raise NotFastForward(target, options.source)
    engine = open_engine(sink, options.strategy, in_workspace=in_workspace)
    our_label, their_label = _label(target), _label(options.source)
    if base is None:
        merged = engine.merge(ours, theirs, our_label=our_label, their_label=their_label, bases=bases)
    else:
        labels = Labels(bases[0].hex()[:_SHORT].encode(), our_label, their_label)
        merged = engine.merge_trees(base, *(sink.read_commit(oid).tree for oid in (ours, theirs)), labels=labels)
    tree = merged.tree if merged.tree is not None else sink.add_tree({})
    return Merged(
        tree, bases[0], "clean" if merged.is_clean else "conflicted", merged.conflicts, merged.changes, merged.drivers
    )


def open_engine(sink: PackWriter | DryWriter, strategy: MergeStrategy, *, in_workspace: bool) -> MergeEngine:
    """Make the engine that a vault asks for; the arguments are those of `merge_in_memory`."""
    git_dir = sink.store.git_dir
    return make_engine(
        choose_engine(git_dir),
        sink,
        favor=strategy,
        style=lambda: choose_style(git_dir, in_workspace=in_workspace),
        attributes=read_info_attributes(git_dir),
    )


def choose_engine(git_dir: Path) -> EngineName:
    """Read which engine a vault's settings name.

    Raises:
        InvalidInput: If no engine has the name.
    """
    name = Config(VaultLayout(git_dir).config).read()["merge.engine"]
    if name not in EngineName.__members__.values():
        raise InvalidInput(
            f"there is no merge engine {quote(name)}", hint="Type `avfs vault config merge.engine libgit2`."
        )
    return EngineName(name)


def choose_style(git_dir: Path, *, in_workspace: bool) -> ConflictStyle:
    """Choose how conflicts are shown: as the repository's configuration says, else in files with the base's lines."""
    said = read_config(git_dir).get("merge.conflictstyle", [""])[-1]
    if said in ConflictStyle.__members__.values():
        return ConflictStyle(said)
    return ConflictStyle.DIFF3 if in_workspace else ConflictStyle.MERGE


def _label(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def add_merge(
    sink: PackWriter | DryWriter, signature: Signature, ours: Oid, theirs: Oid, merged: Merged, options: MergeOptions
) -> Oid:
    """Make up the commit at which a target is after a merge; ours where there are conflicts."""
    if merged.outcome in ("up_to_date", "conflicted"):
        return ours
    if merged.outcome == "fast_forward":
        return theirs
    parents = (ours,) if options.mode is MergeMode.SQUASH else (ours, theirs)
    commit = Commit(merged.tree, parents, signature, signature, "not committed yet\n")
    return sink.add_commit(commit)


def describe_merge(
    source: PackWriter | DryWriter,
    target: str,
    ours: Oid,
    theirs: Oid,
    merged: Merged,
    options: MergeOptions,
    *,
    saved: str | None = None,
) -> MergeResult:
    """Make the value that callers see of a merge that was made in memory."""
    changes = merged.changes
    if changes is None:
        changes = find_differences(source, source.read_commit(ours).tree, merged.tree)
    new = [new for _, new in changes.values() if new is not None and new[0] != MODE_GITLINK]
    source.store.expect(oid for _, oid in new if not source.exists(oid))  # their sizes come with their contents
    changed = [changed_file(path, *changes[path], source.blob_size) for path in sorted(changes)]
    parents: tuple[str, ...] = ()
    if merged.outcome == "fast_forward":
        parents = tuple(parent.hex() for parent in source.read_commit(theirs).parents)
    elif merged.outcome != "up_to_date":
        parents = (ours.hex(),) if options.mode is MergeMode.SQUASH else (ours.hex(), theirs.hex())
    return MergeResult(
        outcome=merged.outcome,
        target=target,
        source=options.source,
        ours=ours.hex(),
        theirs=theirs.hex(),
        tree=merged.tree.hex(),
        commit=None,
        parents=parents,
        changed_files=tuple(changed),
        conflicts=describe_conflicts(source, merged.conflicts),
        saved=saved,
        warnings=(*merged.warnings, *_tell_unused(merged, options)),
    )


def _tell_unused(merged: Merged, options: MergeOptions) -> tuple[Warning, ...]:
    """Warn about a message for a merge that makes no commit."""
    if not options.message or merged.outcome not in ("up_to_date", "fast_forward"):
        return ()
    why = "nothing comes in" if merged.outcome == "up_to_date" else "the fork moves on; `--no-ff` makes a merge commit"
    return (Warning("merge.message_unused", f"the message is unused: {why}"),)


def _advance(
    locked: LockedWorkspace, pack: PackWriter, start: Start, theirs: Oid, merged: Merged, options: MergeOptions
) -> Advanced:
    """Make a merge without conflicts the state of its target."""
    moves_on = merged.outcome == "fast_forward"
    text = message_of(options, locked.fork)

    def make_head(sink: PackWriter, sidecar: Oid | None) -> Oid:
        if moves_on:
            return start.head if merged.base == theirs else theirs
        parents = (start.head,) if options.mode is MergeMode.SQUASH else (start.head, theirs)
        signature = locked.signature()
        return sink.add_commit(Commit(merged.tree, parents, signature, signature, text, sidecar=sidecar))

    request = AdvanceRequest(
        merged.tree,
        make_head,
        start.branch or start.head,
        start.now,
        "merge",
        f"merge {options.source}",
        came_from=start.head,
        other=find_other_side(locked, options.source, theirs, merged.base),
        more={MERGED: theirs.hex()} if options.joins is None else {MERGED: theirs.hex(), JOINS: options.joins},
    )
    return advance(locked, pack, request)


def find_other_side(
    locked: LockedWorkspace, name: str, theirs: Oid, base: Oid | None, *, brings_untracked: bool = True
) -> OtherSide:
    """Find what another side has beside its commit, and what the base has; a fork is asked for by its name.

    What others have put on the fork's own branch is beside their commits, and not what the fork has.
    """
    vault, owner = locked.vault, find_owner(locked.vault, name, fork=None)
    owner = owner if owner != locked.fork else None
    there, parted = find_shown(vault, owner, theirs, name), _find_parting(locked, owner, theirs)
    was = parted if parted is not None and parted.commit == base else None
    if was is None and base is not None:
        was = find_had(vault, owner, base)
    sidecar, base_sidecar = (beside.sidecar if beside is not None else None for beside in (there, was))
    return OtherSide(theirs, sidecar, base, base_sidecar, parted, brings_untracked)


def _find_parting(locked: LockedWorkspace, owner: str | None, theirs: Oid) -> Beside | None:
    """Find where one of two forks, or a fork that it was made of, was made in the other's history; None if it was not.

    What it began with is what both had then.
    """
    vault, head = locked.vault, locked.vault.read_head(locked.fork)
    for first, other in ((owner, head), (locked.fork, theirs)):
        fork, seen = first, set[str]()
        while fork is not None and other is not None and fork not in seen:
            seen.add(fork)
            state = peek_state(vault, fork)
            at = maybe_oid(state.forked_at) if state is not None else None
            if at is not None and vault.store.exists(at) and is_ancestor(vault.store, at, other):
                had = find_had(vault, fork, at)
                return Beside(at, had.sidecar if had is not None else None)
            fork = state.parent if state is not None else None
    return None


def message_of(options: MergeOptions, target: str) -> str:
    """Make the message of a merge's commit."""
    if options.message:
        return options.message.rstrip("\n") + "\n"
    if options.mode is MergeMode.SQUASH:
        return f"Changes of '{options.source}'\n"
    return f"Merge '{options.source}' into {target}\n"

"""Merging into a fork: other forks, single commits, other places for its own commits.

Decided here: names and arguments of the public API for it, and what a merge stands for: saving the other side, the
owner's hooks, the merge. `sdk.dispatch` runs each step in this process, or in the session that mounts the workspace.
Callers may use several threads and processes.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

from avfs_git.errors import AvfsError, CheckpointNotFound, InvalidInput, RefConflict, quote
from avfs_git.model import (
    MergeMode,
    MergeOptions,
    MergeProgress,
    MergeResult,
    MergeStrategy,
    RewriteResult,
    UndoResult,
    Warning,
)
from avfs_git.paths import PathLike, list_given, parse_tree_path
from avfs_git.sdk.handle import holding_objects
from avfs_git.sdk.parts import client, forkinfo, gitmoves, operations, overlap, remotes, revisions, upstreams
from avfs_git.sdk.parts import content as contents
from avfs_git.sdk.refusals import noted
from avfs_git.sdk.spans import traced
from avfs_git.values import replace
from avfs_git.workspace.checkpoint.bookkeeping import bookkeeping

if TYPE_CHECKING:
    from avfs_git.sdk.handle import ForkHandle

_TRIES = 5
"""How often an update begins again where others move the branch meanwhile."""
_NEWEST = 64
"""Operations among which a merge that was just made is looked for: other processes may have added some."""
_Choice = TypeVar("_Choice", MergeStrategy, MergeMode)


class WorkspaceMerging:
    """Merging into a fork."""

    _at: ForkHandle
    fork: str
    """The fork."""

    @noted("merge")
    @traced
    @holding_objects
    def merge(
        self,
        source: str,
        *,
        strategy: MergeStrategy | str = MergeStrategy.NORMAL,
        mode: MergeMode | str = MergeMode.NORMAL,
        message: str | None = None,
        dry_run: bool = False,
        on_conflict: str = "report",
    ) -> MergeResult:
        """Merge another fork, or any state, into this fork. It can be undone.

        Uncommitted changes of both forks are committed first. Ignored files of this workspace stay; new ones of the
        source are added. Costs what the two sides changed.

        Args:
            source: A fork, label or commit.
            strategy: How lines that both sides changed are merged.
            mode: Whether to make a merge commit.
            message: Message of the merge commit.
            dry_run: Only report the result, for this workspace as it is and the committed state of the source.
            on_conflict: `report` leaves this fork as it is, and the outcome is `conflicted`; `workspace` writes the
                conflicts into the files, with markers, until `continue_merge` or `abort_merge`.

        Raises:
            MergeInProgress: If another merge is in progress in this workspace.
            CheckpointNotFound: If no state has the name.
            NotFastForward: If `mode` allows only a fast-forward, and this fork has commits of its own.
            UnrelatedHistories: If the two have no commit in common.
            HeadElsewhere: If git's HEAD in the live tree is not on this fork's branch.
        """
        options = MergeOptions(
            source, _choose(MergeStrategy, strategy), _choose(MergeMode, mode), message, _in_workspace(on_conflict)
        )
        return self._merge(options, dry_run=dry_run)

    def _merge(self, options: MergeOptions, *, dry_run: bool = False) -> MergeResult:
        source = options.source
        if not dry_run:  # before anything is saved, or a hook is run
            self._at.run(
                operations.check_merge, revisions.resolve_source(self._at.core, source, fork=self.fork), options
            )
            if options.mode is MergeMode.FF_ONLY:
                changed = self._at.dispatch.resolve_with_changes(source, self.fork)
                if changed is not None:
                    self._at.run(operations.check_merge, changed, options)
        oid, warnings = self._at.dispatch.save_and_resolve(source, self.fork, save=not dry_run)
        if not dry_run:
            warnings += self._at.dispatch.programs.run_hook(
                "pre-merge", self.fork, {"source": source, "commit": oid.hex()}
            )
        result = self._at.run(operations.plan_merge if dry_run else operations.merge_commit, oid, options)
        if not dry_run and result.outcome != "up_to_date":
            facts = {"source": source, "commit": result.commit, "outcome": result.outcome}
            warnings += self._at.dispatch.programs.run_hook("post-merge", self.fork, facts)
        return replace(result, warnings=(*warnings, *result.warnings)) if warnings else result

    @noted("update")
    @holding_objects
    def update(
        self,
        *,
        strategy: MergeStrategy | str = MergeStrategy.NORMAL,
        on_conflict: str = "report",
        upstream: str | None = None,
        progress: Callable[[str, int, int], None] | None = None,
    ) -> list[MergeResult]:
        """Update this fork from its upstream, keeping its own changes. One undo takes all of it back.

        It merges, in this order: commits that others pushed to its branch in the vault; the branch of its name on the
        vault's remote, which is fetched; the branch of the clone that it was made from. Without any of these, the fork
        that it was made from. Of several remotes, it is `origin`. The remote whose branch the fork follows is fetched,
        too.

        Args:
            strategy: As for `merge`.
            on_conflict: As for `merge`.
            upstream: A branch of a remote, as `origin/main`: from now on the fork is updated from it instead of the
                branch of the clone that it was made from.
            progress: Called with the progress of the fetch, as by `Vault.fetch`.

        Returns:
            The merges that were needed, in order; the last one may have conflicts. Empty without an upstream.

        Raises:
            NoUpstream: If the remote does not have the branch that the fork follows, and nothing else is merged; or if
                no remote has the branch `upstream`.
            RemoteError: If the remote cannot be reached or read.
            RefConflict: If others move the fork's branch again and again.
            AvfsError: As `merge`. Earlier merges stay, and the error names them, also in its detail `merged`.
        """
        options = MergeOptions("", _choose(MergeStrategy, strategy), in_workspace=_in_workspace(on_conflict))
        found = self._catch_up(options)
        merges = [] if found is None else [found]
        if found is not None and found.outcome == "conflicted":
            return merges
        with _naming_merged(merges):
            sources, followed = self._find_upstreams(upstream, progress, is_needed=found is None)
            for source in sources:
                merges.append(self._merge(replace(options, source=source, joins=self._find_last(merges))))
                if merges[-1].outcome == "conflicted":
                    break
            if upstream is not None and followed is not None:
                self._at.run(operations.follow_branch, followed, self._find_last(merges))
        return merges

    def _catch_up(self, options: MergeOptions) -> MergeResult | None:
        """Merge what others have put on the fork's branch and its workspace lacks, between the owner's hooks."""
        run_hook = self._at.dispatch.programs.run_hook
        for left in reversed(range(_TRIES)):
            theirs = self._at.run(operations.find_behind)
            if theirs is None:
                return None
            source = {"source": theirs.hex()[:12]}
            warnings = run_hook("pre-merge", self.fork, {**source, "commit": theirs.hex()})
            try:
                result = self._at.run(operations.catch_up, theirs, options)
            except RefConflict:  # others have put more on it: the hook has not seen that
                if not left:
                    raise
                continue
            if result is not None:
                facts = {**source, "commit": result.commit, "outcome": result.outcome}
                warnings += run_hook("post-merge", self.fork, facts)
                return replace(result, warnings=(*warnings, *result.warnings)) if warnings else result
        return None

    def _find_last(self, merges: Sequence[MergeResult]) -> int | None:
        """Find the number of the last of some merges that changed the fork."""
        commit = next((merge.commit for merge in reversed(merges) if merge.commit is not None), None)
        newest = islice(self._at.core.oplog.read_fork(self.fork), _NEWEST) if commit is not None else ()
        return next((record.id for record in newest if record.kind == "merge" and record.after == commit), None)

    @holding_objects
    def merge_many(
        self,
        sources: Sequence[str],
        *,
        strategy: MergeStrategy | str = MergeStrategy.NORMAL,
        mode: MergeMode | str = MergeMode.NORMAL,
        message: str | None = None,
        dry_run: bool = False,
        on_conflict: str = "report",
    ) -> list[MergeResult]:
        """Merge several forks, in the order that leaves the fewest conflicts; each merge is an operation of its own.

        A fork that conflicts with another one is merged after it, and reported.

        Args:
            sources: Forks, labels or commits.
            strategy: As for `merge`.
            mode: As for `merge`.
            message: Message of each merge commit.
            dry_run: Only report the results, for committed states.
            on_conflict: As for `merge`. With `workspace`, the first conflict ends it; forks without a result are not
                merged yet.

        Raises:
            AvfsError: As `merge`. Earlier merges stay, and the error names them, also in its detail `merged`.
        """
        sources, in_workspace = list_given(sources), _in_workspace(on_conflict)
        if len(sources) == 1 and not dry_run:
            return [self.merge(sources[0], strategy=strategy, mode=mode, message=message, on_conflict=on_conflict)]
        strategy, mode = _choose(MergeStrategy, strategy), _choose(MergeMode, mode)
        # Refuses, before anything is saved.
        heads = [revisions.resolve_source(self._at.core, name, fork=self.fork) for name in sources]
        gitmoves.check_head(self._at.core, self.fork)
        for name, oid in zip(sources, heads, strict=True) if not dry_run else ():
            self._at.run(operations.check_merge, oid, MergeOptions(name, strategy))
        told: tuple[Warning, ...] = ()
        if not dry_run:
            text = "save before merges"
            told = self._at.run(operations.save_checkpoint, message=bookkeeping(text), description=text).warnings
        resolved = [self._at.dispatch.save_and_resolve(name, self.fork, save=not dry_run) for name in sources]
        head = self._at.core.read_head(self.fork)
        if head is None:
            raise CheckpointNotFound("HEAD", vault=self._at.core.name, fork=self.fork)
        found = [(name, oid) for name, (oid, _) in zip(sources, resolved, strict=True)]
        order = overlap.order_merges(self._at.core, head, found, strategy)
        if dry_run:
            planned = [found[number] for number in order]
            results = overlap.plan_many(self._at.core, self.fork, head, planned, strategy, mode, message)
            pairs = zip(order, results, strict=True)
            return [replace(result, warnings=(*resolved[number][1], *result.warnings)) for number, result in pairs]
        results = []
        for number in order:
            with _naming_merged(results):
                done = self.merge(
                    sources[number], strategy=strategy, mode=mode, message=message, on_conflict=on_conflict
                )
            told = (*told, *resolved[number][1], *done.warnings)
            results.append(replace(done, warnings=tuple(dict.fromkeys(told))))
            told = ()
            if in_workspace and done.outcome == "conflicted":
                break
        return results

    @noted("cherry_pick")
    @holding_objects
    def cherry_pick(
        self,
        picked: Sequence[str],
        *,
        strategy: MergeStrategy | str = MergeStrategy.NORMAL,
        on_conflict: str = "report",
    ) -> RewriteResult:
        """Apply the changes of single commits to this fork, in the given order. It can be undone.

        Args:
            picked: Labels or commits of any fork.
            strategy: How lines that both sides changed are merged.
            on_conflict: `report` raises; `workspace` writes the conflicts of a commit into the files, with markers,
                until `continue_rewrite` or `abort_merge`.

        Raises:
            MergeInProgress: If a merge is in progress in this workspace.
            CheckpointNotFound: If no state has a name.
            CommitConflicts: If a commit conflicts, with `report`; nothing is changed then.
            HeadElsewhere: As `merge`.
        """
        names = list_given(picked)
        if not names:
            raise InvalidInput("name a commit")
        oids = [revisions.resolve_revision(self._at.core, name, fork=self.fork) for name in names]
        return self._at.run(operations.pick_commits, oids, _choose(MergeStrategy, strategy), _in_workspace(on_conflict))

    @noted("rebase")
    @holding_objects
    def rebase(
        self,
        onto: str,
        *,
        strategy: MergeStrategy | str = MergeStrategy.NORMAL,
        on_conflict: str = "report",
        was: str | None = None,
    ) -> RewriteResult:
        """Rebase this fork's own commits onto another state. It can be undone.

        Uncommitted changes of both forks are committed first.

        Args:
            onto: A fork, label or commit.
            strategy: How lines that both sides changed are merged.
            on_conflict: As for `cherry_pick`.
            was: A state that `onto` had before it was rewritten: commits up to it are not this fork's own, and are left
                out.

        Raises:
            MergeInProgress: If a merge is in progress in this workspace.
            CheckpointNotFound: If no state has the name.
            CommitConflicts: If a commit conflicts, with `report`; nothing is changed then.
            HeadElsewhere: As `merge`.
        """
        chosen, in_workspace = _choose(MergeStrategy, strategy), _in_workspace(on_conflict)
        revisions.resolve_source(self._at.core, onto, fork=self.fork)
        before = revisions.resolve_revision(self._at.core, was, fork=self.fork) if was is not None else None
        self._at.run(operations.check_rebase)  # before the other side is saved
        changed = self._at.dispatch.resolve_with_changes(onto, self.fork) if not in_workspace else None
        if changed is not None:
            self._at.run(operations.check_rebase, changed, chosen, before)
        oid, warnings = self._at.dispatch.save_and_resolve(onto, self.fork, save=True)
        result = self._at.run(operations.rebase, oid, onto, chosen, in_workspace, before)
        return replace(result, warnings=(*warnings, *result.warnings)) if warnings else result

    @noted("squash")
    @holding_objects
    def squash(self, first: str, last: str = "HEAD", *, message: str | None = None) -> RewriteResult:
        """Squash the commits after `first` up to `last` into one commit. No file changes; it can be undone.

        Args:
            first: The commit before them.
            last: The last of them; later commits are rebased onto the new one.
            message: Message of the new commit; by default the messages of all of them.

        Raises:
            CheckpointNotFound: If no state has a name.
            InvalidInput: If the commits are no line that leads to the head, or one of them is a merge.
        """
        ends = [revisions.resolve_revision(self._at.core, name, fork=self.fork) for name in (first, last)]
        return self._at.run(operations.squash_commits, ends[0], ends[1], message)

    def resolve(self, path: PathLike, side: str | None = None, *, content: bytes | None = None) -> MergeProgress:
        """Resolve a path in conflict; return the conflicts that are left.

        Args:
            path: The path in conflict.
            side: `ours`, `theirs`, or `union` for the lines of both; None for `content`, or the file as it is.
            content: The new content of the file.

        Raises:
            NoMergeInProgress: If no merge is in progress.
            PathUnsuitable: If the path is not in conflict; or, for `union`, if one side is no text.
        """
        if side is not None and (content is not None or side not in ("ours", "theirs", "union")):
            raise InvalidInput("a conflict is resolved by one side, by both, or by a content")
        tree_path = parse_tree_path(path)
        if content is None or self._at.opened.lock.session is None:
            given = None if content is None else contents.Content(data=content)
            return self._at.run(operations.resolve_path, tree_path, side, given)
        with client.spooled(self._at.opened, content) as spooled:
            return self._at.run(operations.resolve_path, tree_path, None, spooled)

    @noted("merge")
    def continue_merge(self, *, message: str | None = None) -> MergeResult:
        """Commit the merge in progress.

        Raises:
            NoMergeInProgress: If no merge is in progress.
            MergeInProgress: If it is part of a rebase or cherry-pick, which `continue_rewrite` continues.
            ConflictsLeft: If a conflict is not resolved.
        """
        return self._at.run(operations.conclude_merge, message)

    @noted("rebase")
    def continue_rewrite(self, *, skip: bool = False, operation: str | None = None) -> RewriteResult:
        """Continue the rebase or cherry-pick in progress, to its end or the next conflict.

        Args:
            skip: Skip the commit in conflict, resolved or not. Changes since the conflict are saved as a commit outside
                of the branch, which the result names as `saved`.
            operation: `rebase` or `cherry_pick`, to continue nothing else; None for either.

        Raises:
            NoMergeInProgress: If none is in progress.
            MergeInProgress: If it is a merge, which `continue_merge` commits, or not that operation.
            HeadElsewhere: As `merge`.
            ConflictsLeft: If a conflict is not resolved.
        """
        return self._at.run(operations.continue_rewrite, skip, operation)

    @noted("merge_abort")
    def abort_merge(self, *, operation: str | None = None) -> UndoResult:
        """Abort the merge, rebase or cherry-pick: restore the files from before.

        Changes since then are saved as a commit, and `undo` brings the merge back with them.

        Args:
            operation: `merge`, `rebase` or `cherry_pick`, to abort nothing else; None for any.

        Raises:
            NoMergeInProgress: If none is in progress.
            MergeInProgress: If it is not that operation.
        """
        return self._at.run(operations.abort_merge, operation)

    def _find_upstreams(
        self, upstream: str | None, progress: Callable[[str, int, int], None] | None, *, is_needed: bool
    ) -> tuple[list[str], str | None]:
        """Name the upstreams of the fork: branches of remotes (`list_upstreams`), or the fork that it was made from.

        `upstream` is a branch to follow from now on. Also names the branch that the fork follows then.

        Raises:
            NoUpstream: If one is needed, and the remote does not have the branch that the fork follows.
        """
        core, dispatch = self._at.core, self._at.dispatch
        names = [remote.name for remote in remotes.list_remotes(core)]
        followed = upstream or upstreams.read_followed(core, self.fork)
        default = remotes.ORIGIN if remotes.ORIGIN in names else names[0] if len(names) == 1 else None
        other = followed.partition("/")[0] if followed is not None else None
        for name in dict.fromkeys((default, other if other in names else None)):
            if name is not None:
                dispatch.tell(remotes.fetch(core, name, access=dispatch.access(), progress=progress).warnings)
        if upstream is not None:
            followed = upstreams.find_branch(core, upstream)
        found = upstreams.list_upstreams(core, self.fork, default, followed)
        parent = forkinfo.fork_info(core, self.fork).parent
        if not found and parent is not None and dispatch.has_fork(parent):
            found = [parent]
        gone = upstreams.find_gone_upstream(core, self.fork, followed)
        if gone is not None and is_needed and not found:
            raise gone
        if gone is not None:
            dispatch.tell([Warning("update.upstream_gone", gone.message)])
        if names and default is None and not found:
            hint = (
                f"Pull from one of them, as with `avfs pull {shlex.quote(self.fork)} --remote {shlex.quote(names[0])}`."
            )
            raise InvalidInput("this vault has several remotes", hint=hint)
        return found, followed


def _choose(choices: type[_Choice], name: str) -> _Choice:
    try:
        return choices(name)
    except ValueError:
        what, known = choices.__name__.removeprefix("Merge").lower(), ", ".join(choices)
        raise InvalidInput(f"there is no merge {what} {quote(str(name))}", hint=f"Choose one of {known}.") from None


@contextmanager
def _naming_merged(merges: Sequence[MergeResult]) -> Iterator[None]:
    """Have an error name the merges of the same call that were made before it, and stay."""
    try:
        yield
    except AvfsError as error:
        made = [merge.source for merge in merges if merge.outcome in ("fast_forward", "clean")]
        if made:
            error.message += f"; merged before: {', '.join(map(quote, made))}"
            error.args = (error.message,)
            error.details["merged"] = made
        raise


def _in_workspace(on_conflict: str) -> bool:
    if on_conflict not in ("report", "workspace"):
        raise InvalidInput(f"`on_conflict` cannot be {quote(str(on_conflict))}", hint="Choose 'report' or 'workspace'.")
    return on_conflict == "workspace"

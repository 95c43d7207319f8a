"""Freeing space used by unreachable data: old operations, what only they kept, and objects that nothing reaches.

Decided here: how long undo may need something, and what else must stay reachable. Called by `avfs gc`, never by another
operation. It holds no workspace: it works beside everything else, and what it cannot do then, the next run does.

Before the first step, and before a dry run, everything that is to stay has to be here: a damaged ref or workspace, or
anything that is missing of what they reach, stops it, because what that stood for would go as something that nobody
needs.

The order of steps, each of which is complete before the next one and can be done again:

1. Refs are made for what something needs and only a ref that goes would keep: sidecars, which commits name in a header
   that git does not follow, and what workspaces begin with. If old sidecars are to go, forks let go of them
   (`oldsidecars`).
2. Old operations leave the log, in one step. From here on nothing can undo them.
3. Workspaces of deleted forks leave the trash, as far as no operation that is left names them: each is renamed, then
   removed.
4. Refs that only kept something for undo go, as far as nothing that is left names what they keep. Who needs one again
   meanwhile compares it under its lock (`OpenVault.hold`), and makes it anew.
5. Objects that nothing reaches are dropped (`gitstore.objects.sweep`).

What stays: everything that a ref, an index or a log of git's, an operation that is left, a workspace (also one in the
trash), a stat cache or a session names, with all that it reaches; of that, the sidecar of each commit that is not too
old.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from avfs_git.errors import AvfsError, RefConflict, RefLocked, VaultError, WorkspaceDamaged, quote
from avfs_git.faults import reach
from avfs_git.gitstore.commitgraph import write_commit_graph
from avfs_git.gitstore.holding import packs_to_oneself
from avfs_git.gitstore.objects.packs import remove_leftovers
from avfs_git.gitstore.objects.sweep import Swept, check_connected, survey, sweep
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.gitstore.repository import is_partial, read_shallow
from avfs_git.host.files.durable import fsync_dir, host_errors
from avfs_git.host.files.removal import remove_tree
from avfs_git.host.files.usage import disk_usage
from avfs_git.model import GarbageResult, Warning
from avfs_git.paths import Oid, oid_of
from avfs_git.progress import listener
from avfs_git.workspace.forks.trash import is_of_fork
from avfs_git.workspace.sidecars.kept import find_saved
from avfs_git.workspace.upkeep.checks.files import list_unnoted
from avfs_git.workspace.upkeep.kepttimes import KeptTimes
from avfs_git.workspace.upkeep.named import (
    GOING,
    list_going,
    list_trash,
    list_workspaces,
    named_by,
    named_by_workspaces,
    read_state,
    trashed_ns,
)
from avfs_git.workspace.upkeep.oldsidecars import Chain, find_chains, forget, is_shown, peel_all, shorten
from avfs_git.workspace.vault.format import HEADS, KEPT, SIDECARS
from avfs_git.workspace.vault.log.loglines import INDEXED_ABOVE
from avfs_git.workspace.vault.log.oplog import Chosen
from avfs_git.workspace.vault.log.oprecord import (
    BY,
    GIT_LOG,
    INTENT,
    JOINS,
    REDO,
    RENAMED_FROM,
    SINCE,
    TRASH,
    UNDO,
    OpRecord,
)
from avfs_git.workspace.vault.log.replay import find_undone
from avfs_git.workspace.vault.vault import OpenVault

_DAY_NS = 86_400 * 10**9
_ALL = 1 << 62
_AT_ONCE = 200
"""Refs that are locked at a time."""
InUse = Callable[[], Collection[Oid]]
"""Names further commits that stay."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What is old."""

    before_ns: int
    """Operations since then can be undone, in nanoseconds since the epoch."""
    operations: int
    """So many of the last ones can, however old they are."""
    grace_before_s: float
    """What nothing reaches and was touched since then stays, in seconds since the epoch."""
    sidecars_before_ns: int = 0
    """Sidecars of older checkpoints go, unless something names these; 0 if all stay."""


@dataclass(slots=True)
class _Plan:
    """What is to go, and what is to stay for it."""

    records: list[OpRecord]
    """What is left of the log."""
    operations: int = 0
    """How many can no longer be undone."""
    trash: list[Path] = field(default_factory=list)
    forks: tuple[str, ...] = ()
    """Whose workspaces in the trash go."""
    unneeded: dict[str, Oid] = field(default_factory=dict)
    """Refs that only kept something for undo."""
    missing: list[Oid] = field(default_factory=list)
    """Commits that something needs, and that no ref would keep."""
    chains: list[Chain] = field(default_factory=list)
    """Sidecars of forks of which some go."""
    forgotten: dict[Oid, Oid] = field(default_factory=dict)
    """The commits whose sidecar goes, and that."""


def read_limits(
    vault: OpenVault, *, keep_days: int | None = None, keep_operations: int | None = None, grace_days: int | None = None
) -> Limits:
    """Take the vault's settings where nothing else is said."""
    settings = vault.config.read()

    def number(key: str, given: int | None) -> int:
        return int(settings[key]) if given is None else given

    now_ns = vault.clock_ns()
    sidecar_days = int(settings["sidecar.keep_days"])
    return Limits(
        now_ns - number("gc.keep_days", keep_days) * _DAY_NS,
        max(1, number("gc.keep_operations", keep_operations)),
        time.time() - number("gc.grace_days", grace_days) * 86_400,  # files have the time of the machine
        now_ns - sidecar_days * _DAY_NS if sidecar_days else 0,
    )


def choose_limits(
    vault: OpenVault,
    *,
    keep_operations: int | None,
    older_than_days: int | None,
    max_bytes: int | None,
    grace_s: float,
    sidecars: bool = False,
    in_use: InUse = tuple,
) -> Limits:
    """Choose what to forget by number, age and size.

    What none of them spares is old; with `sidecars`, those of checkpoints too.

    With `max_bytes`, more is forgotten, the oldest first, until what only undo needs takes no more than that; the last
    operation stays. That is measured by surveys, some ten of them.
    """
    now_ns = vault.clock_ns()
    grace_before_s = time.time() - grace_s
    every = now_ns + 1  # so old is everything
    count = (
        keep_operations
        if keep_operations is not None
        else 1
        if older_than_days is not None or max_bytes is None
        else _ALL
    )
    before_ns = every if older_than_days is None else now_ns - older_than_days * _DAY_NS
    limits = Limits(before_ns, max(1, count), grace_before_s, before_ns if sidecars else 0)
    if max_bytes is None:
        return limits
    every_sidecar = every if sidecars else 0

    def freed(chosen: Limits) -> int:
        return collect_garbage(vault, chosen, in_use=in_use, dry_run=True).freed_bytes or 0

    allowed = freed(Limits(every, 1, grace_before_s, every_sidecar)) - max_bytes
    if freed(limits) >= allowed:
        return limits
    low, high = 1, sum(1 for _ in vault.oplog.read())
    while low < high:  # the more stay, the less is freed
        middle = (low + high + 1) // 2
        if freed(Limits(every, middle, grace_before_s, every_sidecar)) >= allowed:
            low = middle
        else:
            high = middle - 1
    return Limits(every, max(1, low), grace_before_s, every_sidecar)


def collect_garbage(
    vault: OpenVault, limits: Limits, *, in_use: InUse = tuple, dry_run: bool = False, deltas: bool = False
) -> GarbageResult:
    """Free space used by unreachable data. Commits `in_use`, such as the commits that sessions show, stay.

    `in_use` is called again before objects go: a process that begins to use a commit holds objects until `in_use` names
    it.

    Raises:
        RefDamaged, WorkspaceDamaged, VaultError: If one of them does not say what it stands for, or that is not here;
            or if `avfs/commits` is damaged. Nothing is gone.
        ObjectMissing, ObjectCorrupt, GitFailed: If the history is damaged, or there is no git. Nothing that is needed
            is gone.
        HostError: If the disk refuses. What went until then can be done without; the next run goes on.
    """
    if vault.layout.read_format() is None and dry_run:
        return GarbageResult(dry_run=True)
    if not dry_run:
        vault.prepare()
    with contextlib.nullcontext(True) if dry_run else packs_to_oneself(vault.git_dir) as is_alone:
        if not is_alone:
            warning = Warning("gc.busy", "another process is merging packs or collecting garbage: nothing was done")
            return GarbageResult(dry_run=dry_run, warnings=(warning,))
        told = listener() or (lambda *_: None)
        told("checking that nothing is missing", 0, 0)
        _check_workspaces(vault)
        if list_unnoted(vault):
            raise VaultError(
                "'avfs/commits' has lost commits that avfs made, and with them their ignored files would go",
                hint="Run `avfs doctor --repair`, then this again.",
            )
        check_connected(vault.store, _roots(vault, in_use), lazy=is_partial(vault.git_dir))
        reach("gc.checked")
        told("looking for what nothing reaches", 0, 0)
        before = 0 if dry_run else disk_usage(Path(vault.store.objects_dir), vault.layout.trash)
        plan = _make_plan(vault, limits, in_use)
        warnings: list[Warning] = []
        if dry_run:
            _shorten_chains(vault, plan, warnings, dry_run=True)
        else:
            reach("gc.planned")
            _keep(vault, plan.missing)
            _shorten_chains(vault, plan, warnings, dry_run=False)
            plan.operations = vault.oplog.expire(lambda records: _choose(vault, records, limits))
            reach("gc.log_shortened")
            vault.oplog.write_index(beyond=INDEXED_ABOVE)
            _empty_trash(vault, plan.trash)
            # What was done meanwhile may count on one of them.
            named = set(_roots(vault, in_use))
            plan.unneeded = {name: oid for name, oid in plan.unneeded.items() if oid not in named}
            plan.forgotten = forget(vault, plan.forgotten, lambda: {*_roots(vault, in_use), *_list_tips(vault)})
            _drop_refs(vault, plan.unneeded, warnings)
            KeptTimes(vault.layout.kept_times).keep_only(vault.refs.list(KEPT))
            remove_leftovers(vault.store, now_s=time.time())
        told("joining packs", 0, 0)
        swept = _sweep(vault, limits, in_use, plan, warnings, dry_run=dry_run, deltas=deltas)
        if dry_run:
            freed = swept.dropped_bytes + disk_usage(*plan.trash)
        else:
            freed = max(0, before - disk_usage(Path(vault.store.objects_dir), vault.layout.trash))
    return GarbageResult(
        dry_run=dry_run,
        operations=plan.operations,
        workspaces=len(plan.trash),
        forks=plan.forks,
        refs=len(plan.unneeded),
        sidecars=len(plan.forgotten),
        objects=swept.dropped,
        waiting=swept.waiting,
        packs_before=swept.packs_before,
        packs_after=swept.packs_after,
        freed_bytes=freed,
        warnings=tuple(warnings),
    )


def _sweep(
    vault: OpenVault,
    limits: Limits,
    in_use: InUse,
    plan: _Plan,
    warnings: list[Warning],
    *,
    dry_run: bool,
    deltas: bool,
) -> Swept:
    lazy = is_partial(vault.git_dir)
    if dry_run:
        going = plan.unneeded.keys() | {SIDECARS + chain.fork for chain in plan.chains}
        refs = [oid for name, oid in vault.refs.list().items() if name not in going]
        places = [place for place in list_workspaces(vault) if place not in plan.trash]
        wanted = [*in_use(), *named_by(plan.records), *named_by_workspaces(places), *plan.missing]
        wanted += [vault.store.read_commit(oid).tree for chain in plan.chains for oid in chain.staying]
        swept = survey(vault.store, wanted, refs, before_s=limits.grace_before_s, lazy=lazy)
    else:
        roots = functools.partial(_roots, vault, in_use)
        swept = sweep(vault.store, roots, before_s=limits.grace_before_s, deltas=deltas, lazy=lazy)
        if vault.layout.search_index.exists():
            from avfs_git.workspace.search import index  # noqa: PLC0415 - few vaults are searched

            index.prune(vault.layout.search_index, vault.store)
        try:
            write_commit_graph(vault.store, vault.refs.list().values())
        except AvfsError as error:
            swept.reasons.append(f"there is no new commit-graph: {error.message}")
    warnings += [Warning("gc.not_swept", reason) for reason in swept.reasons]
    return swept


def _roots(vault: OpenVault, in_use: InUse) -> Iterator[Oid]:
    """List what keeps objects beside what git knows of."""
    yield from in_use()
    yield from named_by(vault.oplog.read())
    yield from named_by_workspaces(list_workspaces(vault))


def _list_tips(vault: OpenVault) -> set[Oid]:
    """List the commits that refs stand for, without refs that only keep something."""
    return peel_all(vault, (oid for name, oid in vault.refs.list().items() if not name.startswith(KEPT)))


def _check_workspaces(vault: OpenVault) -> None:
    """Demand of each workspace that what it begins with is here.

    Raises:
        WorkspaceDamaged: If that is missing.
    """
    for fork in vault.layout.list_workspaces():
        state = None
        with contextlib.suppress(WorkspaceDamaged):  # what such a file said stands in the log
            state = vault.layout.workspace(fork).read_state()
        for text in (state.base, state.sidecar) if state is not None else ():
            if text is not None and not vault.store.exists(oid_of(text)):
                raise WorkspaceDamaged(fork, f"it begins with {text}, which is missing")


# --- what may go -----------------------------------------------------------------------------------------------


def _make_plan(vault: OpenVault, limits: Limits, in_use: InUse) -> _Plan:
    records = list(vault.oplog.read())
    chosen = _choose(vault, records, limits)
    plan = _Plan([each for at, each in enumerate(records) if at < chosen.newest or at in chosen.whole])
    plan.operations = sum(each.is_lost_without() for each in records) - sum(
        each.is_lost_without() for each in plan.records
    )
    plan.records += [each.expired() for at, each in enumerate(records) if at in chosen.spent]
    plan.records += [
        each.without_moves() for at, each in enumerate(records) if at >= chosen.newest and at in chosen.facts
    ]
    named = {str(each.more["trash"]) for each in plan.records if "trash" in each.more}
    plan.trash = [
        place for place in list_trash(vault) if place.name not in named and trashed_ns(place) < limits.before_ns
    ]
    owners = {str(each.more["trash"]): each.fork for each in records if "trash" in each.more}
    plan.forks = tuple(sorted({owners[place.name] for place in plan.trash if place.name in owners}))
    places = [place for place in list_workspaces(vault) if place not in plan.trash]
    refs = vault.refs.list()
    kept = {name: oid for name, oid in refs.items() if name.startswith(KEPT)}
    times = KeptTimes(vault.layout.kept_times).read()
    by_log = set(named_by(plan.records))
    needed = {*in_use(), *by_log, *named_by_workspaces(places)}
    commits = _Walk(vault)
    commits.add(oid for name, oid in refs.items() if name not in kept)
    commits.add(needed)
    staying = _find_staying(
        commits, {*needed, *peel_all(vault, (refs[name] for name in refs.keys() - kept.keys()))}, limits
    )
    if limits.sidecars_before_ns:
        plan.chains = find_chains(vault, commits.sidecars, staying, needed, limits.sidecars_before_ns)
    copied = {oid for chain in plan.chains for oid in chain.staying}
    needed |= {sidecar for commit, sidecar in commits.sidecars.items() if commit in staying and sidecar not in copied}
    for chain in plan.chains:
        del refs[SIDECARS + chain.fork]
    plan.unneeded = {
        name: oid for name, oid in kept.items() if oid not in needed and _made_ns(vault, name, times) < limits.before_ns
    }
    reached = _Walk(vault, sidecars=False)
    reached.add(oid for name, oid in refs.items() if name not in plan.unneeded)
    # the newest keeps those before it
    for oid in sorted(needed & commits.seen, key=commits.age.__getitem__, reverse=True):
        if oid not in reached.seen:
            plan.missing.append(oid)
            reached.add([oid])
    plan.forgotten = {
        commit: sidecar
        for commit, sidecar in commits.sidecars.items()
        if sidecar not in reached.seen and sidecar not in copied
    }
    return plan


def _find_staying(commits: _Walk, named: Collection[Oid], limits: Limits) -> Collection[Oid]:
    """Find the commits whose sidecar stays: all that are not old, and all that something names."""
    if not limits.sidecars_before_ns:
        return commits.seen
    young = {oid for oid, when_s in commits.age.items() if when_s * 10**9 >= limits.sidecars_before_ns}
    return young | set(named)


def _choose(vault: OpenVault, records: list[OpRecord], limits: Limits) -> Chosen:
    """Choose what stays of the log: how much of its end, what else of it, and what else for what it says of a fork."""
    stay = min(len(records), limits.operations)
    for at in range(len(records) - 1, stay - 1, -1):
        if records[at].created_at_ns >= limits.before_ns:
            stay = at + 1
            break
    intents = {
        found for place in list_workspaces(vault) for found in re.findall(r'"intent": *"([^"]+)"', read_state(place))
    }
    living = {*vault.list_heads(), *vault.layout.list_workspaces()} | ({vault.head_fork() or ""} - {""})
    seen: dict[tuple[str, str], set[str]] = {}
    whole: set[int] = set()
    spent: set[int] = set()
    facts: set[int] = set()
    moved: set[str] = set()
    """Branches that newer operations moved."""
    passed: set[str] = set()
    """Forks of which an operation goes: an older one must not be undone alone."""
    lives: list[tuple[int, str]] = []
    """Of which fork, by its name today, an operation is."""
    named = {record.more.get(TRASH) for record in records[:stay]}
    in_trash = [at.name for at in list_trash(vault) if at.name in named or trashed_ns(at) >= limits.before_ns]
    turned = {record.target for record in records[:stay] if record.kind in (UNDO, REDO)}
    """What these have taken back or done again can be done again or taken back."""
    today: dict[str, str] = {}
    """For names given or given up by a rename: today's name of the fork that had the name before; "" for none."""
    for at, record in enumerate(records):
        fork = today.get(record.fork, record.fork)
        known = seen.setdefault((fork, record.fork), set())  # what the log says of a fork begins under its old name
        moves = any(ref == HEADS + record.fork for ref, _, _ in record.moves)
        says = {
            "move": moves,
            "after": record.after is not None,
            "base": "base" in record.more,
            "since": SINCE in record.more,
            "git log": GIT_LOG in record.more,
        }
        news = {key for key, said in says.items() if said} - known
        known |= news
        branches = {ref for ref, _, _ in record.moves if ref.startswith(HEADS)}
        # the old name was given up, and not deleted by git
        is_left = RENAMED_FROM in record.more and not branches <= moved
        moved |= branches
        by = str(record.more.get(BY, record.fork))
        concerned = {fork, today.get(by, by)}
        if RENAMED_FROM in record.more:
            today |= {record.fork: "", str(record.more[RENAMED_FROM]): fork}
        if at < stay:
            continue
        # The last move of a branch tells what git has done to it since (`workspace.vault.gitmoves`).
        is_told = "move" in news or record.more.get(INTENT) in intents or is_left
        is_gone = fork not in living and not any(is_of_fork(name, fork or record.fork) for name in in_trash)
        if not is_gone:
            lives.append((at, fork or record.fork))
        is_turn = record.kind in (UNDO, REDO)  # without its target it turns nothing
        can_turn = record.id in turned or (is_told and not is_turn and not concerned & passed)
        if can_turn and not is_gone:
            whole.add(at)
            continue
        if record.is_lost_without():
            passed |= concerned
        if is_told and not is_gone:
            spent.add(at)
        elif news and not is_gone:
            facts.add(at)
    for group in _find_joined(records):
        if not whole.isdisjoint(group) or min(group, default=stay) < stay:
            whole |= {at for at in group if at >= stay}
    undone, saved = find_undone(records), set[str]()
    for at, fork in lives:
        if at in whole:
            saved.discard(fork)
        elif fork not in saved and records[at].id not in undone and find_saved(vault, records[at]) is not None:
            saved.add(fork)  # the fork is back at that when all that stays is undone
            spent.add(at)
    return Chosen(stay, whole, spent - whole, facts - whole)


def _find_joined(records: list[OpRecord]) -> Iterable[set[int]]:
    """Find where in the log the operations stand that undo takes back together, with all their undos and redos.

    Without one of them, it would take back half of what was one to its user.
    """
    first: dict[int, int] = {}
    for record in reversed(records):
        if (joined := record.more.get(JOINS)) is not None:
            first[record.id] = first[joined] = first.get(joined, joined)
    groups: dict[int, set[int]] = {each: set() for each in first.values()}
    for at, record in enumerate(records):
        begin = first.get(record.target or record.id)
        if begin is not None:
            groups[begin].add(at)
    return groups.values()


class _Walk:
    """The commits that are reached from some, and the sidecars that they name."""

    def __init__(self, vault: OpenVault, *, sidecars: bool = True) -> None:
        self._vault = vault
        self._store = vault.store
        self._shallow = read_shallow(vault.git_dir)
        self._with_sidecars = sidecars
        self.seen: set[Oid] = set()
        self.sidecars: dict[Oid, Oid] = {}
        self.age: dict[Oid, int] = {}

    def add(self, starts: Iterable[Oid]) -> None:
        """Add commits and all that they reach; what stands for none, or is not here, does not count as a start.

        Raises:
            ObjectMissing, ObjectCorrupt: If a commit on the way cannot be read.
        """
        waiting = [*peel_all(self._vault, starts)]
        while waiting:
            oid = waiting.pop()
            if oid in self.seen:
                continue
            self.seen.add(oid)
            commit = self._store.read_commit(oid)
            self.age[oid] = commit.committer.when_s
            if oid not in self._shallow:
                waiting += commit.parents
            if self._with_sidecars and commit.sidecar is not None:
                self.sidecars[oid] = commit.sidecar
                waiting.append(commit.sidecar)


def _made_ns(vault: OpenVault, ref: str, times: Mapping[str, int]) -> int:
    """Tell when a ref was made, or later; `times` has it of those without a file of their own."""
    with contextlib.suppress(FileNotFoundError):
        return (vault.git_dir / ref).stat().st_mtime_ns
    with contextlib.suppress(FileNotFoundError):
        return times.get(ref) or (vault.git_dir / "packed-refs").stat().st_mtime_ns
    return 1 << 63


def find_oldest_ns(vault: OpenVault, limits: Limits) -> int | None:
    """Find the time of the oldest operation or workspace in the trash that age alone would remove.

    Return None if there is no such.

    Reads the whole log.
    """
    times = [trashed_ns(place) for place in list_trash(vault)]
    records = vault.oplog.read()
    if sum(1 for _ in itertools.islice(records, limits.operations)) == limits.operations:
        times += [record.created_at_ns for record in collections.deque(records, maxlen=1)]
    return min(times, default=None)


# --- letting go ------------------------------------------------------------------------------------------------


def _keep(vault: OpenVault, oids: list[Oid]) -> None:
    for start in range(0, len(oids), _AT_ONCE):
        vault.refs.update(vault.hold(*oids[start : start + _AT_ONCE]))
        reach("gc.kept")


def _shorten_chains(vault: OpenVault, plan: _Plan, warnings: list[Warning], *, dry_run: bool) -> None:
    for chain in list(plan.chains):
        reason = ""
        try:
            is_left = is_shown(vault, chain.fork) if dry_run else not shorten(vault, chain)
            if is_left:
                reason = "another process has the fork, or has changed it meanwhile"
        except AvfsError as error:
            reason = error.message
        if reason:
            plan.chains.remove(chain)
            plan.forgotten = {oid: each for oid, each in plan.forgotten.items() if each not in chain.members}
            warnings.append(Warning("gc.sidecars_left", f"old sidecars of fork {quote(chain.fork)} stay: {reason}"))


def _empty_trash(vault: OpenVault, places: list[Path]) -> None:
    going = list_going(vault)
    with host_errors("empty the trash"):
        for place in places:
            # Renamed first: an undo finds it whole, or not at all.
            gone = place.with_name(f"{GOING}{os.urandom(8).hex()}")
            with contextlib.suppress(FileNotFoundError):
                place.rename(gone)
                going.append(gone)
                reach("gc.trash_renamed")
        if going:
            fsync_dir(vault.layout.trash)
        for place in going:
            remove_tree(place)
            reach("gc.trash_removed")


def _drop_refs(vault: OpenVault, refs: dict[str, Oid], warnings: list[Warning]) -> None:
    names = list(refs)
    for start in range(0, len(names), _AT_ONCE):
        changes = [RefChange(name, refs[name], None) for name in names[start : start + _AT_ONCE]]
        try:
            vault.refs.update(changes)
        except (RefConflict, RefLocked) as error:
            warnings.append(Warning("gc.refs_left", f"some refs stay until the next time: {error.message}"))
        reach("gc.refs_dropped")

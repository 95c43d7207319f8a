"""Examining a vault and its workspaces, and mending what can be mended.

Decided here: what is looked at, what counts as a problem, and which problems have a repair. The doctor looks for each
problem twice, because others work in the vault meanwhile, and looks again after a repair. It removes nothing that may
hold a user's work: what is in the way goes into the trash. A workspace in use it notes as such and leaves alone; that
is no fault.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from avfs_git.errors import (
    AuditDamaged,
    AvfsError,
    GitFailed,
    HostError,
    InvalidName,
    RefDamaged,
    VaultError,
    WorkspaceBusy,
    WorkspaceError,
)
from avfs_git.faults import reach
from avfs_git.gitstore.formats.fullindex import read_full_index
from avfs_git.gitstore.formats.index import BadIndex, ForeignIndex
from avfs_git.gitstore.gitcommand import find_bad_lists, fsck
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.objects.packs import is_index_damaged, is_left_hold, is_without_index
from avfs_git.gitstore.refs.refs import BAD_NAME, OWN_REFS, RefChange
from avfs_git.gitstore.repofile import list_worktree_dirs, open_plain_file
from avfs_git.gitstore.worktree import list_half_made, read_log
from avfs_git.model import DoctorReport, Problem
from avfs_git.paths import Oid, fork_of_dir_name, maybe_hex, oid_of, show_path
from avfs_git.patterns import compiled
from avfs_git.vfs.scan.statcache import StatCache
from avfs_git.workspace.capture.requests import CaptureRequest
from avfs_git.workspace.checkpoint.compared import compare_workspace
from avfs_git.workspace.forks.forks import Opener
from avfs_git.workspace.forks.trash import clear_orphan, is_lost, note_deletion, put_away
from avfs_git.workspace.opened.layers import has_lost_upper
from avfs_git.workspace.upkeep.due import MAINTENANCE_WAIT_S, maintenance_held
from avfs_git.workspace.upkeep.files import check_commits, check_files, check_home
from avfs_git.workspace.upkeep.findings import Finding, finding, fixable, removable
from avfs_git.workspace.vault.format import HEADS, KEPT, KNOWN, LABELS, REMOTE_STATE, REMOTES, SIDECARS, WorkspaceLayout
from avfs_git.workspace.vault.gitmoves import PUT_AWAY, open_worktree
from avfs_git.workspace.vault.log.oprecord import REDO, RENAMED_FROM, TRASH, UNDO, OpRecord
from avfs_git.workspace.vault.notes import NOTES
from avfs_git.workspace.vault.vault import OpenVault

STALE_AFTER_S = 3600
"""Temporary files of packs, and locks, may belong to a process that is alive; older ones do not."""
LOCK_HELD_S = 2.0
"""git holds a lock for a moment; a lock that stays for so long is reported."""
_OID = compiled(r"[0-9a-f]{40}")
_AS_MEANT = ("capture.kept_beside", "capture.per_file")
"""What a capture remarks though nothing is missing: a file that stays beside history until added, programs at work."""
_REMEDY = "Copy it elsewhere if it matters."
_REMEDIES = {"workspace.recovered": "Look whether all is there; the next checkpoint ends this warning."}


def examine_vault(vault: OpenVault, open_workspace: Opener, *, home: Path, repair: bool) -> DoctorReport:
    """Look at everything, also at what the home keeps beside its vaults, and mend what can be mended if asked to."""
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "home": lambda: check_home(home),
        "files": lambda: check_files(vault, lambda fork: _has_fork(vault, fork)),
        "refs": lambda: _check_refs(vault),
        "operation log": lambda: _check_log(vault),
        "commits": lambda: check_commits(vault),
        "audit log": lambda: _check_audit(vault),
        "locks": lambda: _check_locks(vault),
        "leftovers": lambda: _check_leftovers(vault),
        "orphans": lambda: _check_orphans(vault),
        "trash": lambda: _check_trash(vault),
        "worktrees": lambda: _check_worktrees(vault, open_workspace),
        "left refs": lambda: _check_left_refs(vault),
        "forks": lambda: _check_forks(vault),
        "workspaces": lambda: _check_workspaces(vault, open_workspace, is_patient=repair),
        "objects": lambda: _check_objects(vault),
    }
    found = (each for name, look in checks.items() for each in _find_lasting(name, look))
    problems = tuple(_treat(each) if repair else each.problem for each in found)
    return DoctorReport(vault.name, tuple(checks), problems)


def _find_lasting(name: str, look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Look twice where something is found, and keep what both looks find: the rest was another process's work."""
    found = _look(name, look)
    if all(each.problem.severity == "note" for each in found):
        return found
    again = {(each.problem.code, each.problem.description) for each in _look(name, look)}
    return [
        each
        for each in found
        if each.problem.severity == "note" or (each.problem.code, each.problem.description) in again
    ]


def _look(name: str, look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(look())
    except (OSError, HostError, InvalidName, VaultError, WorkspaceError) as error:
        told = HostError(f"use '{error.filename}'", error) if isinstance(error, OSError) else error
        remedy = told.hint or "Mend what the message names, then run `avfs doctor` again."
        found.append(finding(told.code, f"the check of the {name} ended early: {told.message}", remedy))
    return found


def _treat(found: Finding) -> Problem:
    problem = found.problem
    if found.repair is None:
        return problem
    try:
        reach("doctor.repairing")
        found.repair()
        fixed = found.is_mended is None or found.is_mended()
    except (AvfsError, OSError):  # the report says that it is still there; that is all a failed repair may do
        fixed = False
    return Problem(problem.code, problem.severity, problem.description, problem.remedy, problem.fixable, fixed)


def _check_log(vault: OpenVault) -> Iterator[Finding]:
    damaged = vault.oplog.count_damaged()
    if damaged:
        lines = "1 line of the operation log is" if damaged == 1 else f"{damaged} lines of the operation log are"
        yield finding(
            "log.damaged",
            f"{lines} damaged: `avfs undo` passes over the operations that they spoke of, and may be refused at "
            "older ones",
            "What the operations saved is reachable all the same: `avfs checkpoint restore` brings a state back.",
            severity="warning",
        )
    elif (
        vault.layout.format.exists()
        and next(vault.oplog.read(), None) is None
        and any(map(vault.refs.list, (KEPT, LABELS, SIDECARS)))
    ):
        path = vault.layout.oplog
        yield finding(
            "log.damaged",
            f"'{path.relative_to(vault.git_dir)}' is gone or has no readable line: nothing that was done can be undone",
            f"Copy '{path}' from a backup. What operations saved is reachable by its id: `git for-each-ref {KEPT}`.",
        )
    else:
        yield from _check_log_end(vault)


def _check_log_end(vault: OpenVault) -> Iterator[Finding]:
    """Compare the last operation of the log with those of the audit log, which is written after it."""
    try:
        audited = list(vault.audit.list_operations())  # before the log, which others go on writing to
    except (AvfsError, OSError):  # told by itself
        return
    newest = next((record.id for record in vault.oplog.read()), 0)
    lost = sorted(number for number in audited if number > newest)
    if lost and newest:
        numbers = f"operation {lost[0]}" if len(lost) == 1 else f"operations {lost[0]} to {lost[-1]}"
        yield finding(
            "log.cut_short",
            f"the operation log ends with operation {newest}, and the audit log has {numbers}: it was cut short, or "
            "an older copy is in its place, and what was done then cannot be undone",
            f"Copy '{vault.layout.oplog}' from a newer backup. `avfs audit` tells what was done; what it saved is "
            f"reachable by its id: `git for-each-ref {KEPT}`.",
            severity="warning",
        )


def _check_refs(vault: OpenVault) -> Iterator[Finding]:
    for error in vault.refs.find_damaged(vault.store.exists):
        name = error.ref
        last = _find_last_value(vault, name)
        if last is not None:
            yield fixable(
                "ref.damaged",
                error.message,
                f"Give it {last.hex()[:12]} again, its last value in the log.",
                lambda name=name, last=last: _give_back(vault, name, last),  # type: ignore[misc]  # a default binds the loop's value
                lambda name=name: _is_whole(vault, name),  # type: ignore[misc]  # as above
                severity="error",
            )
        elif name == "packed-refs":
            yield finding(
                "ref.damaged",
                error.message,
                f"Copy '{vault.git_dir / name}' from a backup, or take out what is named. `avfs undo` then brings back "
                "a fork whose branch is gone.",
            )
        elif name == "HEAD":
            yield finding(
                "ref.damaged", error.message, "Point it to a branch with `git symbolic-ref HEAD refs/heads/NAME`."
            )
        elif error.reason == BAD_NAME:
            yield finding(
                "ref.damaged", error.message, f"Give '{vault.git_dir / name}' a name that git allows, or delete it."
            )
        elif name.startswith((REMOTES, REMOTE_STATE)):
            yield finding("ref.damaged", error.message, "Delete the file, then run `avfs fetch`.")
        else:
            yield finding(
                "ref.damaged",
                error.message,
                f"Give it a commit with `git update-ref {shlex.quote(name)} OID`, or delete '{vault.git_dir / name}'.",
            )

    for name in vault.refs.list(OWN_REFS):
        if _is_out_of_place(name):
            yield finding(
                "ref.damaged",
                f"'{name}' is damaged: avfs makes no ref of that name, and it may be in the way of others",
                f"Delete it with `git update-ref -d {shlex.quote(name)}` in '{vault.git_dir}'.",
            )
    noted = vault.refs.list(NOTES).get(NOTES)
    if noted is not None and vault.store.exists(noted) and (problem := _find_tree_problem(vault, noted)) is not None:
        yield finding(
            "ref.damaged",
            f"'{NOTES}' is damaged, so commits get no notes: {problem}",
            f"Give it an older commit, or delete it with `git update-ref -d {NOTES}` in '{vault.git_dir}'.",
        )


def _is_out_of_place(name: str) -> bool:
    """Tell whether a ref of avfs's own is in the place of a directory of them, or is kept under no id."""
    return (
        f"{name}/" in (OWN_REFS + "/", KEPT, KNOWN, LABELS, REMOTE_STATE, SIDECARS)
        or (name.startswith(KEPT) and not _OID.fullmatch(name.removeprefix(KEPT)))
        or (name.startswith(LABELS) and "/" not in name.removeprefix(LABELS))
    )


def _find_last_value(vault: OpenVault, name: str) -> Oid | None:
    """Tell what a ref stood for: as its name says, or as the log of avfs or that of git has it.

    Return None if that is not here.
    """
    said: str | None = None
    if name.startswith(KEPT):
        said = name.removeprefix(KEPT)
    elif name.startswith(KNOWN):
        with suppress(AvfsError):
            said = maybe_hex(vault.read_head(fork_of_dir_name(name.removeprefix(KNOWN))))
    elif name.startswith(SIDECARS):  # moves with the branch
        with suppress(AvfsError):
            head = vault.read_head(name.removeprefix(SIDECARS))
            said = maybe_hex(vault.store.read_commit(head).sidecar) if head is not None else None
    else:
        said, when_ns = vault.oplog.find_last_value(name)
        logged = read_log(vault.git_dir / "logs" / name)
        if logged and logged[-1].when_s * 1_000_000_000 > when_ns:
            said = logged[-1].new.hex()
    if said is None or not _OID.fullmatch(said):
        return None
    last = oid_of(said)
    return last if vault.store.exists(last) else None


def _has_fork(vault: OpenVault, fork: str) -> bool:
    try:
        return vault.has_fork(fork) or vault.refs.find_bad_packed() is not None
    except RefDamaged:  # told by itself, as what is left of `packed-refs` is: the branch may be there
        return True


def _give_back(vault: OpenVault, name: str, last: Oid) -> None:
    """Give a still damaged ref its last value: another process may have moved or deleted it since it was found."""
    try:
        held = vault.refs.read(name)
    except RefDamaged:
        vault.refs.repair(name, last)
    else:
        if held is not None and not vault.store.exists(held):
            vault.refs.update([RefChange(name, held, last)])


def _is_whole(vault: OpenVault, name: str) -> bool:
    try:
        held = vault.refs.read(name)
    except RefDamaged:
        return False
    return held is None or vault.store.exists(held)


def _check_audit(vault: OpenVault) -> Iterator[Finding]:
    try:
        vault.audit.verify()
        vault.file_audit.verify()
    except AuditDamaged as error:
        yield finding(
            error.code,
            error.message,
            "Compare it with a backup, then move its files elsewhere: avfs begins a new log.",
            severity="warning",
        )
    except HostError as error:  # a vault that this user cannot read whole
        unseen = f"the audit log was not checked: {error.message}"
        yield finding("audit.unreadable", unseen, "Examine the vault as the user who owns it.", severity="note")


def _check_locks(vault: OpenVault) -> Iterator[Finding]:
    """Find lock files that a killed git left; avfs removes its own when it opens the refs."""
    until = time.monotonic() + LOCK_HELD_S
    held = {path: _identify(path) for path in vault.refs.list_locks()}
    while (
        held := {path: known for path, known in held.items() if _identify(path) == known}
    ) and time.monotonic() < until:
        time.sleep(0.05)
    for path in held:
        description = f"'{path.relative_to(vault.git_dir)}' is locked, perhaps by a git that was killed"
        age_s = _age_of(path)
        if age_s is None:
            continue
        # `git commit -a` keeps that one while its editor is open
        is_young = age_s < STALE_AFTER_S or path.name == "index.lock" or path.is_dir()
        if is_young:
            yield finding(
                "lock.left", description, f"If no git is at work in the vault, remove '{path}'.", severity="warning"
            )
        else:
            known = held[path]
            yield fixable(
                "lock.left",
                description,
                "Remove the lock file.",
                lambda path=path, known=known: path.unlink() if _identify(path) == known else None,  # type: ignore[misc]  # as below
                lambda path=path, known=known: _identify(path) != known,  # type: ignore[misc]  # defaults bind the loop's values
            )


def _identify(path: Path) -> tuple[int, int] | None:
    """Tell a file from another of its name; None without a file."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _age_of(path: Path) -> float | None:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return None


def _is_stale(path: Path) -> bool:
    return (_age_of(path) or 0) > STALE_AFTER_S


def _check_leftovers(vault: OpenVault) -> Iterator[Finding]:
    pack_dir = vault.git_dir / "objects" / "pack"
    try:
        found = [path for path in pack_dir.iterdir() if path.name.startswith(("tmp_", ".tmp")) or is_left_hold(path)]
        lost = [(path, "no index") for path in pack_dir.iterdir() if is_without_index(path) and _is_stale(path)]
        lost += [(path, "a damaged index") for path in pack_dir.glob("pack-*.pack") if is_index_damaged(path)]
    except OSError as error:
        yield finding(
            "objects.unreadable",
            f"'{pack_dir}' cannot be read: {error.strerror}",
            "Check the permissions of the vault.",
        )
        return
    for path, what in lost:
        index, pack = (shlex.quote(str(path.with_suffix(suffix))) for suffix in (".idx", ".pack"))
        yield finding(
            "objects.pack_without_index",
            f"'{path.name}' has {what}, so that nothing finds what it holds",
            f"Make the index with `rm -f {index} && git index-pack {pack}`.",
            severity="warning",
        )
    for path in found:
        if _is_stale(path):
            yield removable(
                "objects.leftover", path, f"'{path.name}' was left behind by a process that died", "Remove it."
            )


def _check_orphans(vault: OpenVault) -> Iterator[Finding]:
    for fork in vault.layout.list_workspaces():
        if not _has_fork(vault, fork):
            yield fixable(
                "workspace.orphan",
                f"the workspace of '{fork}' has no branch",
                "Put it into the trash of the vault.",
                lambda fork=fork: _put_orphan_away(vault, fork),  # type: ignore[misc]  # a default binds the loop's value
                lambda fork=fork: not vault.layout.workspace(fork).root.exists(),  # type: ignore[misc]  # as above
            )


def _put_orphan_away(vault: OpenVault, fork: str) -> None:
    with vault.fork_locked(fork):
        note_deletion(vault, fork)
        clear_orphan(vault, fork)


def _take_refs_away(vault: OpenVault, fork: str, changes: list[RefChange]) -> None:
    with vault.fork_locked(fork):
        if not vault.has_fork(fork):  # else it was being made when they were found
            vault.refs.update([*vault.hold(*(each.old for each in changes)), *changes])


def _check_worktrees(vault: OpenVault, open_workspace: Opener) -> Iterator[Finding]:
    for place in list_half_made(vault.git_dir):
        yield fixable(
            "worktree.half_made",
            f"'{place.relative_to(vault.git_dir)}' is incomplete: a mount was cut short",
            "Complete it, if it has an index; else put it into the trash of the vault: the next mount makes it again.",
            lambda place=place: _mend_worktree(vault, open_workspace, place),  # type: ignore[misc]  # a default binds the loop's value
            lambda place=place: place not in list_half_made(vault.git_dir),  # type: ignore[misc]  # as above
        )
    for place in map(Path, list_worktree_dirs(vault.git_dir)):
        index = place / "index"
        try:
            with open_plain_file(index) as file:
                read_full_index(file.read(), place, vault.store.read_tree)
        except (FileNotFoundError, ForeignIndex):
            continue
        except (BadIndex, AvfsError, OSError) as error:
            yield finding(
                "worktree.bad_index",
                f"git's index '{index.relative_to(vault.git_dir)}' cannot be read, and gc deletes nothing: {error}",
                f"Move '{index}' elsewhere, and run `git reset` in that tree: what is staged goes, the files stay.",
            )


def _mend_worktree(vault: OpenVault, open_workspace: Opener, place: Path) -> None:
    fork = fork_of_dir_name(place.name.removesuffix("%avfs"))
    with ExitStack() as stack:
        if has_fork := _has_fork(vault, fork):  # a mount that makes it whole holds the workspace
            stack.enter_context(open_workspace(fork).locked())
        if place not in list_half_made(vault.git_dir):
            return
        tree = open_worktree(vault, fork)
        if has_fork and tree.path == place and tree.has_index:  # what is staged may be nowhere else
            tree.complete(HEADS + fork)
        else:
            away = vault.layout.trash / f"{time.time_ns()}-%worktree"
            away.mkdir(parents=True)
            place.rename(away / PUT_AWAY)


def _check_trash(vault: OpenVault) -> Iterator[Finding]:
    """Find deleted forks whose workspace an undo would not find any more: gc keeps it as long as the log names it."""
    deleted: dict[str, OpRecord] = {}
    passed: set[int | None] = set()
    """Operations whose outcome later ones have changed: they brought the fork back, or took it away again."""
    for record in vault.oplog.read():  # the newest first
        turned = record.target if record.kind in (UNDO, REDO) else record.id
        # a renamed one only passes through
        if turned not in passed and TRASH in record.more and RENAMED_FROM not in record.more:
            deleted.setdefault(record.fork, record)
        passed.add(turned)
    for fork, record in deleted.items():
        if not _has_fork(vault, fork) and is_lost(vault, record):
            yield finding(
                "trash.missing",
                f"the workspace of the deleted fork '{fork}' is not in the trash any more, or not whole "
                f"('{record.more['trash']}')",
                "Put it back, if it was moved; without it, undoing the deletion brings back the commits only.",
                severity="warning",
            )


def _check_left_refs(vault: OpenVault) -> Iterator[Finding]:
    """Find what avfs's refs keep of forks that are gone: a process died, or the disk failed, while it took one away."""
    found: dict[str, list[RefChange]] = {}
    fork_in: dict[str, Callable[[str], str]] = {
        SIDECARS: str,
        LABELS: lambda rest: rest.rpartition("/")[0],
        KNOWN: fork_of_dir_name,
    }
    for prefix, read_fork in fork_in.items():
        for name, oid in vault.refs.list(prefix).items():
            fork = read_fork(name.removeprefix(prefix))
            if not _is_out_of_place(name) and not _has_fork(vault, fork):
                found.setdefault(fork, []).append(RefChange(name, oid, None))
    for fork, changes in found.items():
        yield fixable(
            "fork.left_refs",
            f"labels or sidecars of '{fork}' are left, which has no branch",
            "Take them away; what they name stays reachable.",
            lambda fork=fork, changes=changes: _take_refs_away(vault, fork, changes),  # type: ignore[misc]  # defaults bind the loop's values
            lambda changes=changes: all(vault.refs.read(each.name) is None for each in changes),  # type: ignore[misc]  # as above
        )


def _check_forks(vault: OpenVault) -> Iterator[Finding]:
    for fork, head in vault.list_heads().items():
        try:
            commit = vault.store.read_commit(head)
            vault.store.read_tree(commit.tree)
        except AvfsError as error:
            yield finding(
                "fork.damaged",
                f"the head of '{fork}' cannot be read: {error.message}",
                f"Restore an older state of '{fork}'.",
            )
            continue
        for oid in {commit.sidecar, vault.refs.list(SIDECARS + fork).get(SIDECARS + fork)} - {None}:
            assert oid is not None  # noqa: S101 - just taken out
            problem = _find_tree_problem(vault, oid)
            if problem is not None:
                yield finding(
                    "sidecar.damaged",
                    f"the sidecar of '{fork}' cannot be read: {problem}",
                    "Make a new checkpoint of the fork.",
                )


def _find_tree_problem(vault: OpenVault, oid: Oid) -> str | None:
    try:
        vault.store.read_tree(vault.store.read_commit(oid).tree)
    except AvfsError as error:
        return error.message
    return None


def _check_workspaces(vault: OpenVault, open_workspace: Opener, *, is_patient: bool) -> Iterator[Finding]:
    for fork in vault.layout.list_workspaces():
        if not _has_fork(vault, fork):
            continue
        layout = vault.layout.workspace(fork)
        if has_lost_upper(layout):
            yield fixable(
                "workspace.upper_lost",
                f"the workspace of '{fork}' has lost '{layout.upper}', with every file that changed since the "
                "fork began",
                "Put that directory back; else have the workspace made again, with the files as they were last "
                "recorded.",
                lambda layout=layout: _put_lost_away(vault, layout),  # type: ignore[misc]  # a default binds the loop's value
                lambda layout=layout: not has_lost_upper(layout),  # type: ignore[misc]  # as above
                severity="error",
            )
            continue
        if layout.statcache.is_file() and StatCache.load(layout.statcache) is None:
            remedy = "Remove it; the next checkpoint reads all changed files again."
            yield removable(
                "statcache.unreadable", layout.statcache, f"the stat cache of '{fork}' cannot be read", remedy
            )
        try:
            with open_workspace(fork).locked(to_read=True, is_patient=is_patient) as locked:
                compared = compare_workspace(locked, DryWriter(vault.store), CaptureRequest(skips_unreadable=True))
        except WorkspaceBusy as error:
            unseen = f"{error.message}, and was not looked at"
            yield finding("workspace.busy", unseen, "Examine it again when it is free.", severity="note")
        except AvfsError as error:
            yield finding(
                error.code,
                f"the workspace of '{fork}' cannot be captured: {error.message}",
                error.hint or "Look at the file named.",
            )
        else:
            for warning in compared.captured.warnings:
                if warning.code not in _AS_MEANT:
                    what = f"in '{fork}', {warning.message}"
                    yield finding(warning.code, what, _REMEDIES.get(warning.code, _REMEDY), severity="warning")


def _put_lost_away(vault: OpenVault, layout: WorkspaceLayout) -> None:
    with vault.fork_locked(layout.fork):
        if has_lost_upper(layout):  # else it was put back, or the workspace was made again, and has new work
            put_away(vault, layout.fork)


@contextmanager
def _unmaintained(vault: OpenVault) -> Iterator[None]:
    """Keep maintenance away for a block, where it ever ran: git tells of packs that are joined while it checks them."""
    with ExitStack() as stack:
        if vault.layout.maintenance_lock.exists():
            with suppress(HostError):  # a vault that this user cannot write to
                stack.enter_context(maintenance_held(vault.layout, wait_s=MAINTENANCE_WAIT_S))
        yield


def _check_objects(vault: OpenVault) -> Iterator[Finding]:
    try:
        with _unmaintained(vault):
            for name in find_bad_lists(vault.git_dir):
                path = vault.git_dir / name
                yield fixable(
                    "objects.bad_list",
                    f"'{name}' is damaged: git makes it of objects, and is misled by it",
                    "Remove it: `avfs gc` or git makes it again.",
                    lambda path=path: path.unlink(missing_ok=True),  # type: ignore[misc]  # a default binds the loop's value
                    lambda path=path: not path.exists(),  # type: ignore[misc]  # as above
                    severity="error",
                )
            found = fsck(vault.git_dir)
        for line in found:
            yield finding(
                "objects.fsck",
                show_path(line.encode()),
                "Fetch the object from another copy of the vault, or restore a state before it.",
            )
    except GitFailed as error:
        repair = error.hint or "Mend what it names, or run `git fsck --strict` in the vault by hand."
        yield finding("git.failed", error.message, repair)

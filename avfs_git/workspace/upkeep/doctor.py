"""Examining a vault and its workspaces, and mending what can be mended.

Decided here: what is looked at, in which order, and what becomes of what is found; `checks` has the problems and their
repairs. The doctor looks for each problem twice, because others work in the vault meanwhile, and looks again after a
repair. It removes nothing that may hold a user's work: what is in the way goes into the trash. A workspace in use it
notes as such and leaves alone; that is no fault.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from avfs_git.errors import AvfsError, HostError, InvalidName, VaultError, WorkspaceError
from avfs_git.faults import reach
from avfs_git.model import DoctorReport, Problem
from avfs_git.workspace.forks.forks import Opener
from avfs_git.workspace.upkeep.checks.files import check_commits, check_files, check_home
from avfs_git.workspace.upkeep.checks.findings import Finding, finding
from avfs_git.workspace.upkeep.checks.forks import (
    check_forks,
    check_orphans,
    check_trash,
    check_workspaces,
    check_worktrees,
)
from avfs_git.workspace.upkeep.checks.logs import check_audit, check_log
from avfs_git.workspace.upkeep.checks.objects import check_leftovers, check_locks, check_objects
from avfs_git.workspace.upkeep.checks.refs import check_left_refs, check_refs, has_fork
from avfs_git.workspace.vault.vault import OpenVault


def examine_vault(vault: OpenVault, open_workspace: Opener, *, home: Path, repair: bool) -> DoctorReport:
    """Look at everything, also at what the home keeps beside its vaults, and mend what can be mended if asked to."""
    checks: dict[str, Callable[[], Iterator[Finding]]] = {
        "home": lambda: check_home(home),
        "files": lambda: check_files(vault, lambda fork: has_fork(vault, fork)),
        # before refs, which get an older value where theirs is missing
        "leftovers": lambda: check_leftovers(vault),
        "refs": lambda: check_refs(vault),
        "operation log": lambda: check_log(vault),
        "commits": lambda: check_commits(vault),
        "audit log": lambda: check_audit(vault),
        "locks": lambda: check_locks(vault),
        "orphans": lambda: check_orphans(vault),
        "trash": lambda: check_trash(vault),
        "worktrees": lambda: check_worktrees(vault, open_workspace),
        "left refs": lambda: check_left_refs(vault),
        "forks": lambda: check_forks(vault),
        "workspaces": lambda: check_workspaces(vault, open_workspace, is_patient=repair),
        "objects": lambda: check_objects(vault),
    }
    found = (each for name, look in checks.items() for each in _find_lasting(name, look))
    problems = tuple(_treat(each) if repair else each.problem for each in found)
    return DoctorReport(vault.name, tuple(checks), problems)


def _find_lasting(name: str, look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    """Look twice where something is found, and keep what both looks find: the rest was another process's work."""
    found = _look(name, look)
    if all(each.problem.severity == "note" for each in found):
        return found
    again = {each.key for each in _look(name, look)}
    return [each for each in found if each.problem.severity == "note" or each.key in again]


def _look(name: str, look: Callable[[], Iterator[Finding]]) -> list[Finding]:
    found: list[Finding] = []
    try:
        found.extend(look())
    except (OSError, HostError, InvalidName, VaultError, WorkspaceError) as error:
        told = HostError(f"use '{error.filename}'", error) if isinstance(error, OSError) else error
        remedy = told.hint or "Mend what the message names, then run `avfs doctor` again."
        found.append(finding(told.code, f"the check of the {name} ended early: {told.message}", remedy, place=name))
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

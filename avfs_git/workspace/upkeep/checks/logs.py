"""The logs of a vault: lines that are damaged or lost.

Decided here: what is said of each. Called by the doctor; reads only.
"""

from __future__ import annotations

from collections.abc import Iterator

from avfs_git.errors import AuditDamaged, AvfsError, HostError
from avfs_git.workspace.upkeep.checks.findings import Finding, finding
from avfs_git.workspace.vault.format import KEPT, LABELS, SIDECARS
from avfs_git.workspace.vault.vault import OpenVault


def check_log(vault: OpenVault) -> Iterator[Finding]:
    """Find damage of the operation log."""
    damaged = vault.oplog.count_damaged()
    if damaged:
        lines = "1 line of the operation log is" if damaged == 1 else f"{damaged} lines of the operation log are"
        yield finding(
            "log.damaged",
            f"{lines} damaged: `avfs undo` passes over the operations that they spoke of, and may be refused at "
            "older ones",
            "What the operations saved is reachable all the same: `avfs checkpoint restore` brings a state back.",
            severity="warning",
            place="log",
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
            place="log",
        )


def check_audit(vault: OpenVault) -> Iterator[Finding]:
    """Find damage of the audit logs."""
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

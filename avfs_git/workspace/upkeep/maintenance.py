"""Maintenance: what keeps a vault as fast and as small as it was, however long it is used.

Decided here: the steps, when each of them is due, and what is remembered of the last run. `avfs maintain` calls this,
and a process in the background that `sdk.background` starts. It waits for no workspace, and works beside everything
else: what it cannot do now, the next run does. One process at a time does it. A step that fails is named by a warning,
and stops no other step.

| Step | Due if | What it does | |---|---|---| | `refs` | more than 256 refs have files of their own, untouched for a
minute | `gitstore.refs.packing` | | `packs` | there are more than 16 packs | `gitstore.objects.repack`, then git's
commit-graph | | `oplog` | the log is above 256 KiB, and its index lacks more than 64 KiB of it | `OpLog.write_index` |
| `audit` | asked once a week, if `audit.keep_days` or `audit.files_keep_days` is set: a line is older |
`AuditLog.release` | | `fold` | the upper layer of a fork has more than 2,000 files that its head has, too |
`workspace.upkeep.folding` | | `gc` | asked once a week: something is a week older than `gc.keep_days` or
`sidecar.keep_days` allow | `garbage` |

A crash leaves what a crash in that step leaves; nothing that is acknowledged, or that undo can bring back, depends on a
step. The file `avfs/maintenance.json` tells of the last run. It is not forced to disk: without it, maintenance runs
once more.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress

from avfs_git.errors import AvfsError
from avfs_git.faults import reach
from avfs_git.gitstore.commitgraph import write_commit_graph
from avfs_git.gitstore.objects.packs import remove_leftovers
from avfs_git.gitstore.objects.repack import MANY_PACKS, count_packs, repack
from avfs_git.gitstore.refs.packing import list_packable, pack_refs
from avfs_git.host.files.durable import write_file_atomically
from avfs_git.model import MaintenanceResult, MaintenanceStep, Warning
from avfs_git.workspace.upkeep.due import Last, maintenance_held, measure, read_last
from avfs_git.workspace.upkeep.folding import MANY_ENTRIES, fold_slowly, list_foldable
from avfs_git.workspace.upkeep.garbage import InUse, collect_garbage, find_oldest_ns, read_limits
from avfs_git.workspace.upkeep.kepttimes import KeptTimes
from avfs_git.workspace.upkeep.oldsidecars import find_oldest_sidecar_ns
from avfs_git.workspace.vault.log.audit import AuditLog
from avfs_git.workspace.vault.log.loglines import INDEXED_ABOVE
from avfs_git.workspace.vault.vault import OpenVault

_MANY_REFS = 256
_SETTLED_S = 60.0
_LOG_GROWTH = 64 << 10
_DAY_NS = 86_400 * 10**9
_WEEK_NS = 7 * _DAY_NS


def maintain(
    vault: OpenVault, *, in_use: InUse = tuple, dry_run: bool = False, every_step: bool = False
) -> MaintenanceResult:
    """Do the steps that are due, or only tell which are.

    Args:
        vault: Where.
        in_use: Names further commits that `gc` keeps: those that sessions show.
        dry_run: Change nothing.
        every_step: Do all but `gc`, however little is due.

    Raises:
        NotWritable, HostError: If nothing may be written here.
    """
    last = read_last(vault.layout)
    is_automatic = vault.config.read()["maintenance.auto"] != "0"
    if dry_run or vault.layout.read_format() is None:
        steps = tuple(
            MaintenanceStep(name, amount > 0, amount)
            for name, amount in _measure_steps(vault, last, every_step=every_step)
        )
        return MaintenanceResult(True, is_automatic, steps, last.at_ns or None, last.steps)
    vault.prepare()
    with maintenance_held(vault.layout) as is_alone:
        if is_alone:
            os.utime(vault.layout.maintenance_lock)  # tells when the last run began
        else:
            return MaintenanceResult(False, is_automatic, (), last.at_ns or None, last.steps, is_busy=True)
        return _maintain(vault, in_use, last, is_automatic=is_automatic, every_step=every_step)


def _maintain(
    vault: OpenVault, in_use: InUse, last: Last, *, is_automatic: bool, every_step: bool
) -> MaintenanceResult:
    many = 0 if every_step else MANY_ENTRIES
    works: Mapping[str, Callable[[], int]] = {
        "refs": lambda: _pack_refs(vault, 0.0 if every_step else _SETTLED_S),
        "packs": lambda: _repack(vault, 1 if every_step else MANY_PACKS),
        "oplog": lambda: int(vault.oplog.write_index()),
        "audit": lambda: _release_audit(vault),
        "fold": lambda: fold_slowly(vault, many),
        "gc": lambda: _collect(vault, in_use),
    }
    warnings: list[Warning] = []
    steps: list[MaintenanceStep] = []
    for name, amount in _measure_steps(vault, last, every_step=every_step):
        if not amount:
            steps.append(MaintenanceStep(name, False, 0))
            continue
        start_ns = time.monotonic_ns()
        handled = None
        try:
            handled = works[name]()
        except (AvfsError, OSError) as error:
            reason = error.message if isinstance(error, AvfsError) else error.strerror or str(error)
            warnings.append(Warning("maintain.failed", f"the step '{name}' failed: {reason}"))
        took_ms = (time.monotonic_ns() - start_ns) // 1_000_000
        steps.append(MaintenanceStep(name, True, amount, handled, took_ms))
        reach("maintain.did_one")
    log_bytes, packs = measure(vault.layout)
    clock_ns = vault.clock_ns()
    is_fresh = last.looked_ns and clock_ns - last.looked_ns < _WEEK_NS
    looked_ns = last.looked_ns if is_fresh else clock_ns
    now = Last(time.time_ns(), log_bytes, packs, looked_ns, tuple(step for step in steps if step.is_due))
    write_file_atomically(vault.layout.maintenance, json.dumps(now.as_json()).encode() + b"\n", durable=False)
    return MaintenanceResult(False, is_automatic, tuple(steps), now.at_ns, now.steps, warnings=tuple(warnings))


def _measure_steps(vault: OpenVault, last: Last, *, every_step: bool) -> Iterator[tuple[str, int]]:
    """Tell of each step how much it would handle; 0 where it is not due.

    Each is measured when the one before is done.
    """
    loose = len(list_packable(vault.refs, older_than_s=0.0 if every_step else _SETTLED_S))
    yield "refs", loose if every_step or loose > _MANY_REFS else 0
    packs = count_packs(vault.store)
    yield "packs", packs if packs > (1 if every_step else MANY_PACKS) else 0
    log_bytes, _ = measure(vault.layout)
    growth = vault.oplog.measure_end() if every_step or log_bytes > INDEXED_ABOVE else 0
    yield "oplog", growth if every_step or growth > _LOG_GROWTH else 0
    is_weekly = bool(last.looked_ns) and vault.clock_ns() - last.looked_ns >= _WEEK_NS
    yield "audit", _days_of_audit(vault) if every_step or is_weekly else 0
    yield "fold", sum(entries for _, entries in list_foldable(vault, 0 if every_step else MANY_ENTRIES))
    yield "gc", _days_too_old(vault) if is_weekly else 0


def _days_too_old(vault: OpenVault) -> int:
    """Tell for how many days something has been old enough for `gc`; 0 up to six."""
    limits = read_limits(vault)
    ages_ns = [limits.before_ns - oldest_ns] if (oldest_ns := find_oldest_ns(vault, limits)) is not None else []
    if limits.sidecars_before_ns and (sidecar_ns := find_oldest_sidecar_ns(vault)) is not None:
        ages_ns.append(limits.sidecars_before_ns - sidecar_ns)
    return max((age_ns // _DAY_NS for age_ns in ages_ns if age_ns >= _WEEK_NS), default=0)


def _days_of_audit(vault: OpenVault) -> int:
    """Tell for how many days an audit log has had a line that may go; 0 up to six."""
    oldest = ((log.find_oldest_ns(), keep_days) for log, keep_days in _list_audited(vault))
    days = max(
        ((time.time_ns() - at_ns) // _DAY_NS - keep_days for at_ns, keep_days in oldest if at_ns is not None), default=0
    )
    return days if days >= _WEEK_NS // _DAY_NS else 0


def _release_audit(vault: OpenVault) -> int:
    """Release lines of the audit logs; tells how many."""
    released = [log.release(time.time_ns() - keep_days * _DAY_NS) for log, keep_days in _list_audited(vault)]
    return sum(int(str(entry.details["lines"])) for entry in released if entry is not None)


def _list_audited(vault: OpenVault) -> list[tuple[AuditLog, int]]:
    """List the audit logs whose lines may go, and after how many days."""
    settings = vault.config.read()
    logs = (vault.audit, settings["audit.keep_days"]), (vault.file_audit, settings["audit.files_keep_days"])
    return [(log, int(days)) for log, days in logs if int(days)]


def _pack_refs(vault: OpenVault, older_than_s: float) -> int:
    times = KeptTimes(vault.layout.kept_times)
    return pack_refs(vault.refs, older_than_s=older_than_s, removing=times.note)


def _repack(vault: OpenVault, more_than: int) -> int:
    joined = repack(vault.store, more_than=more_than)
    if joined:
        remove_leftovers(vault.store, now_s=time.time())
        with suppress(AvfsError):  # a cache of git's, with which it finds merge bases faster
            write_commit_graph(vault.store, vault.refs.list().values())
    return joined


def _collect(vault: OpenVault, in_use: InUse) -> int:
    result = collect_garbage(vault, read_limits(vault), in_use=in_use)
    return result.operations + result.workspaces + result.refs + result.objects

"""Which events of the audit log a query wants.

Decided here: what each condition means. An event concerns a path if the operation or the command changed it: its states
before and after are compared, so that a state that `gc` has removed concerns none. A file event names its paths. Reads
only; any thread.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from avfs_git.errors import AvfsError
from avfs_git.paths import TreePath, maybe_oid
from avfs_git.values import replace, value_class
from avfs_git.workspace.history import compare
from avfs_git.workspace.history.opdetails import states_of
from avfs_git.workspace.vault.log.audit import FILE, FORMER, OPERATION, AuditEntry
from avfs_git.workspace.vault.log.lives import Span
from avfs_git.workspace.vault.log.oprecord import OpRecord
from avfs_git.workspace.vault.vault import OpenVault


@value_class
class AuditQuery:
    """What is looked for; an empty condition lets all events in."""

    since_ns: int | None = None
    until_ns: int | None = None
    spans: tuple[Span, ...] = ()
    """Of the fork whose events are wanted, as `lives.read_spans` gives them."""
    events: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    paths: tuple[TreePath, ...] = ()


def choose(vault: OpenVault, newest_first: Iterable[AuditEntry], query: AuditQuery) -> Iterator[AuditEntry]:
    """Yield the events that a query wants."""
    for entry in newest_first:
        if query.since_ns is not None and entry.at_ns < query.since_ns:
            return
        if (
            (query.until_ns is None or entry.at_ns <= query.until_ns)
            and (not query.spans or _is_of(query.spans, entry))
            and (not query.events or entry.event in query.events)
            and (not query.outcomes or entry.outcome in query.outcomes)
            and (not query.paths or _concerns(vault, entry, query.paths))
        ):
            yield entry


def _is_of(spans: tuple[Span, ...], entry: AuditEntry) -> bool:
    number = entry.details.get(OPERATION)
    operation = number if isinstance(number, int) else None
    return any(span.has(entry.fork, entry.at_ns, operation) for span in spans)


def follow_renames(fork: str, oldest_first: Iterable[AuditEntry]) -> str:
    """Name a fork as it is called after some events."""
    for entry in oldest_first:
        if entry.details.get(FORMER) == fork and entry.fork is not None:
            fork = entry.fork
    return fork


def _concerns(vault: OpenVault, entry: AuditEntry, paths: tuple[TreePath, ...]) -> bool:
    """Compare the states before and after an event."""
    told = entry.details
    try:
        if entry.event.startswith(FILE):
            named = [_read_path(told, name) for name in ("path", "old_path")]
            return any(
                top in (b"", path) or path.startswith(top + b"/") for path in named if path is not None for top in paths
            )
        if OPERATION in told:
            facts: dict[str, Any] = dict(told)
            record = OpRecord(0, entry.fork or "", entry.event, "", 0, facts.get("moves", []))
            before, after = states_of(replace(record, before=facts.get("before"), after=facts.get("after")))
        else:
            commit = told.get("commit")
            after = maybe_oid(commit if isinstance(commit, str) else None)
            before = next(iter(vault.store.read_commit(after).parents), None) if after is not None else None
        if after is None:
            return False
        diff = compare.diff_commits(vault, before, after, fork=entry.fork, paths=paths, patches=False)
    except (AvfsError, ValueError, TypeError):  # gc has removed a state, or another program wrote the line
        return False
    return bool(diff.files or diff.sidecar)


def _read_path(told: Mapping[str, object], name: str) -> bytes | None:
    """Read a path of a file event, as `records` spells it."""
    text, exact = told.get(name), told.get(f"{name}_b64")
    if isinstance(exact, str):
        return base64.b64decode(exact)
    return text.encode("utf-8", "surrogatepass").strip(b"/") if isinstance(text, str) else None

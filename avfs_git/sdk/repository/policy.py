"""The policy of a vault: its rules, what waits for a person, and the audit log.

Decided here: nothing; each method is one call of `proxy`. Got from `Vault.policy`; safe from several threads and
processes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.errors import InvalidInput
from avfs_git.paths import PathLike, amount, at_most, list_given, parse_tree_path, show_path
from avfs_git.proxy.policy import decision, gate
from avfs_git.proxy.policy.approvals import Approval
from avfs_git.proxy.policy.decision import Decision
from avfs_git.proxy.policy.policy import Policy
from avfs_git.sdk.given import checked
from avfs_git.sdk.parts import audited, forkinfo
from avfs_git.values import replace
from avfs_git.workspace.vault.log.audit import POLL_S, AuditEntry, AuditLog

if TYPE_CHECKING:
    from avfs_git.workspace.history.audited import AuditQuery
    from avfs_git.workspace.vault.vault import OpenVault

_DAY_NS = 86_400 * 10**9


@checked
class VaultPolicy:
    """The policy for commands in a vault."""

    def __init__(self, core: OpenVault, asked: gate.Gate, find_root: Callable[[str], Path | None]) -> None:
        self._core = core
        self._git_dir = core.git_dir
        self._find_root = find_root
        self.gate = asked
        """The gate that `Workspace.exec` asks."""

    def _check_there(self) -> None:
        self._core.check_there()

    @property
    def vault_file(self) -> Path:
        """The vault's policy file, which need not exist."""
        return self.gate.vault_policy

    def show(self) -> Policy:
        """Read the rules of the user, avfs and the vault.

        Raises:
            PolicyInvalid: If a policy file is invalid.
        """
        return self.gate.policy()

    def check(
        self,
        argv: Sequence[str] = (),
        *,
        shell: str | None = None,
        fork: str = "",
        cwd: PathLike = "",
        env: Mapping[str, str] | None = None,
        terminal: bool = False,
        mountpoint: Path | None = None,
        harness: str | None = None,
        asks_itself: bool = True,
    ) -> Decision:
        """Decide about a command without running it, and explain the decision.

        Nothing is recorded, unless a harness asks.

        Args:
            argv: The program and its arguments.
            shell: Text for a shell instead.
            fork: The fork that the command would run in; without one, paths are judged as in the default fork.
            cwd: Its directory in the workspace.
            env: Variables added to its environment.
            terminal: Whether it would get a terminal, at which anything may be typed.
            mountpoint: The host directory at which it sees the workspace; where `Workspace.exec` shows it if not given.
            harness: The coding agent's harness that heeds the decision: a refusal or a question is in the audit log.
            asks_itself: Whether that harness can ask a person; else what needs approval waits in `approvals`, and the
                same command is let in once when a person has granted it.

        Raises:
            InvalidInput: Unless exactly one of `argv` and `shell` is given.
            PolicyInvalid: If a policy file is invalid.
            HostError: If the audit log or a request cannot be written.
        """
        argv = list_given(argv)
        if (shell is None) == (not argv):
            raise InvalidInput("a command is either a program with arguments or a text for a shell")
        if mountpoint is None:
            mountpoint = self._find_root(fork)
        asked = decision.Request(
            vault=str(self._git_dir),
            fork=fork,
            argv=tuple(map(os.fsdecode, argv)) if argv else None,
            shell=shell,
            cwd="/" + show_path(parse_tree_path(cwd)).lstrip("/"),
            env=tuple(sorted((env or {}).items())),
            options=(decision.AT_TERMINAL,) if terminal else (),
            has_stdin=terminal,
            mountpoint=os.fspath(mountpoint) if mountpoint is not None else None,
        )
        return (
            self.gate.look(asked)
            if harness is None
            else self.gate.consult(asked, harness=harness, asks_itself=asks_itself)
        )

    def approvals(self, *, every: bool = False) -> list[Approval]:
        """List pending and granted requests, newest first; `every` adds requests that are denied, used or expired."""
        return self.gate.approvals.entries(every=every)

    def approval(self, id_: str) -> Approval:
        """Describe a request.

        Raises:
            ApprovalNotFound: If no request has the id.
        """
        return self.gate.approvals.get(id_)

    def grant(self, id_: str) -> Approval:
        """Grant a request, in the name of a person: its command may run once, within an hour.

        Raises:
            ApprovalNotFound: If no request has the id.
            ApprovalRefused: If the request is not pending.
        """
        return self.gate.grant(id_)

    def deny(self, id_: str) -> Approval:
        """Deny a request, or revoke a grant that was not used.

        Raises:
            ApprovalNotFound: If no request has the id.
            ApprovalRefused: If the request is denied, used or expired.
        """
        return self.gate.deny(id_)

    def audit(
        self,
        *,
        limit: int | None = None,
        since_ns: int | None = None,
        until_ns: int | None = None,
        fork: str | None = None,
        events: Sequence[str] = (),
        outcomes: Sequence[str] = (),
        paths: Sequence[PathLike] = (),
        files: bool = False,
    ) -> list[AuditEntry]:
        """List audit log entries, newest first: operations, commands, and what the policy and people said to these.

        Args:
            limit: List at most so many.
            since_ns: List only entries of this time or later, in nanoseconds since the epoch.
            until_ns: List only entries of this time or earlier.
            fork: List only entries of this fork, under each name that it has had.
            events: List only events of these kinds, such as `checkpoint` or `proxy_exec_denied`.
            outcomes: List only events that ended so: `done`, `failed`, `refused`, `asked`, `admitted`.
            paths: List only what changed one of these paths, or something below it.
            files: List file events of live trees instead, where the setting `audit.files` asks for them.

        Raises:
            ForkNotFound: If the fork is not there, and never was as far as the log goes back.
        """
        forkinfo.check_was_there(self._core, fork)
        self._note_missing()
        query = self._query(since_ns, until_ns, fork, events, outcomes, paths)
        chosen = audited.choose(self._core, self._log(files).walk(), query)
        return list(islice(chosen, limit if limit is None else at_most(limit)))

    def follow_audit(
        self,
        *,
        last: int = 0,
        fork: str | None = None,
        events: Sequence[str] = (),
        outcomes: Sequence[str] = (),
        paths: Sequence[PathLike] = (),
        files: bool = False,
    ) -> Iterator[AuditEntry]:
        """Iterate over the `last` entries, the oldest first, then wait for each new one.

        The conditions are those of `audit`.
        """
        self._note_missing()
        query, log = self._query(None, None, fork, events, outcomes, paths), self._log(files)
        stamp, seen = log.stamp(), next((entry.seq for entry in log.walk()), 0)
        old = (entry for entry in log.walk() if entry.seq <= seen)
        yield from reversed(list(islice(audited.choose(self._core, old, query), at_most(last))))
        while True:
            fresh = list(takewhile(partial(_is_after, seen), log.walk()))
            if fresh:
                seen = fresh[0].seq
                if fork is not None and fork != (name := audited.follow_renames(fork, reversed(fresh))):
                    fork, query = name, replace(query, spans=self._core.oplog.read_spans(name))
                yield from reversed(list(audited.choose(self._core, fresh, query)))
            while log.stamp() == stamp:
                time.sleep(POLL_S)
            stamp = log.stamp()

    def verify_audit(self, *, files: bool = False) -> int:
        """Check that no line of the audit log, or of that of file events, was changed or removed.

        Returns the number of lines.

        Raises:
            AuditDamaged: If a line was changed or removed.
        """
        self._note_missing()
        return self._log(files).verify()

    def release_audit(self, *, keep_days: int, dry_run: bool = False, files: bool = False) -> AuditEntry | None:
        """Remove the lines of the audit log that are older than so many days.

        It keeps a line that says which these were.

        Args:
            keep_days: Days of which lines stay; a line stays with a newer one before it.
            dry_run: Only tell which lines would go.
            files: Remove lines of file events instead.

        Returns:
            The event `audit_released`: the first and last number, and the hash of the last line. None if no line is
                older.

        Raises:
            InvalidInput: If the number is negative.
            AuditDamaged: If a line was changed, or removed from between others. Nothing is removed then.
            HostError: If the disk refuses.
        """
        amount(keep_days, "keep_days")
        if not dry_run:
            self._core.prepare()
        return self._log(files).release(time.time_ns() - keep_days * _DAY_NS, dry_run=dry_run)

    def last_release(self, *, files: bool = False) -> AuditEntry | None:
        """Find the event of the last release of old lines, or of lines of file events; None if there was none."""
        return self._log(files).find_release()

    def _log(self, files: bool) -> AuditLog:
        return self._core.file_audit if files else self._core.audit

    def _query(
        self,
        since_ns: int | None,
        until_ns: int | None,
        fork: str | None,
        events: Sequence[str],
        outcomes: Sequence[str],
        paths: Sequence[PathLike],
    ) -> AuditQuery:
        spans = self._core.oplog.read_spans(fork) if fork is not None else ()
        wanted = tuple(map(parse_tree_path, list_given(paths)))
        kinds, ended = tuple(list_given(events)), tuple(list_given(outcomes))
        return audited.AuditQuery(since_ns, until_ns, spans, kinds, ended, wanted)

    def _note_missing(self) -> None:
        self._core.audit.note_missing(self._core.oplog.read(), self._core.clock_ns())


def _is_after(seq: int, entry: AuditEntry) -> bool:
    return entry.seq > seq

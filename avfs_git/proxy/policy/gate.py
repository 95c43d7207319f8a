"""Letting a command in: the policy's decision, the approval that it may need, and a line in the audit log for each.

Decided here: the order of policy, approval and audit, and that a command that cannot be recorded does not run. Whoever
runs commands calls `admit` before anything is mounted or saved, and `completed` when the command has ended; a dry run
calls `look`. One `Gate` serves one vault and any number of threads; what must be exclusive between processes is so in
`approvals` and `audit`.

A crash between the use of an approval and the run leaves the approval used: a person is asked again, and nothing runs
twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.errors import ApprovalNeeded, ApprovalRefused, CommandDenied, PolicyError
from avfs_git.proxy.policy import policy as policies
from avfs_git.proxy.policy.decision import Action, Decision, Request
from avfs_git.values import replace
from avfs_git.workspace.vault.log.audit import AuditLog

if TYPE_CHECKING:
    from avfs_git.host.files.seal import Seal
    from avfs_git.proxy.policy.approvals import Approval, Approvals


class Gate:
    """What stands between a request and its run, for one vault."""

    def __init__(self, git_dir: Path, *, seal: Seal, user_policy: Path | None) -> None:
        self._git_dir = git_dir
        self._seal = seal
        self._user_policy = user_policy
        self._secrets: policies.Secrets | None = None
        root = git_dir / "avfs"
        self.vault_policy = root / "policy.toml"
        self.audit = AuditLog(root)

    @cached_property
    def approvals(self) -> Approvals:
        """What waits for people, and what they said."""
        from avfs_git.proxy.policy.approvals import Approvals  # noqa: PLC0415 - few commands need any

        return Approvals(self._git_dir / "avfs", self._seal)

    def policy(self) -> policies.Policy:
        """Read the rules that hold now."""
        found = policies.load(user=self._user_policy, vault=self.vault_policy, vault_root=self._git_dir)
        self._secrets = found.secrets
        return found

    @property
    def secrets(self) -> policies.Secrets:
        """What the policy that was read last says about secrets; reads it if none was."""
        if self._secrets is None:
            self.policy()
        assert self._secrets is not None  # noqa: S101 - `policy` sets it
        return self._secrets

    def look(self, request: Request) -> Decision:
        """Decide without doing anything about it: nothing is recorded, and no approval is asked for or used."""
        return policies.decide(request, self.policy())

    def consult(self, request: Request, *, harness: str, asks_itself: bool = True, call: str | None = None) -> Decision:
        """Decide about a command that a coding agent's harness runs.

        A refusal, a question or a used yes is in the audit log.

        Args:
            request: The command.
            harness: The harness, which runs the command by itself.
            asks_itself: Whether it can ask a person. Else a request waits for a person's word, as one of `admit` does,
                and the same command is let in once when it was granted, as by `allow_with_checkpoint`.
            call: What names the harness's call of a tool: the hook of one call may run twice, and both get the same
                answer.

        Returns:
            The decision, with the id of the approval that waits or was used.

        Raises:
            PolicyInvalid: If a policy file cannot be understood.
            HostError: If the log or an approval cannot be written.
        """
        # grants for `avfs exec` do not count
        request = replace(request, options=(*request.options, ("harness", harness)))
        decision = self.look(request)
        event = {Action.DENY: "hook_denied", Action.REQUIRE_APPROVAL: "hook_asked"}.get(decision.action)
        if event is None:
            return decision
        if event == "hook_asked" and not asks_itself and len(request.command()) <= self._longest():
            found = self.approvals.find(request, call=call)
            if found is None:
                found, _ = self.approvals.ask(request, decision, is_secret=self.secrets.redactor().is_secret)
            elif self._use_granted(found, call):
                decision, event = replace(decision, action=Action.ALLOW_WITH_CHECKPOINT), "hook_admitted"
            decision = replace(decision, approval=found.id)
        self._record(event, request, decision, {"harness": harness, "call": call})
        return decision

    def admit(self, request: Request, *, token: str | None = None) -> Decision:
        """Let a request in, or refuse it; either is in the audit log when this returns or raises.

        A token that is given where none is needed is left unused.

        Returns:
            The decision: `allow`, `allow_with_checkpoint`, or `require_approval` with the id of the approval that was
            used; before that last one runs, the workspace is saved as for `allow_with_checkpoint`.

        Raises:
            PolicyInvalid: If a policy file cannot be understood.
            CommandDenied: If the policy forbids it; `details` holds the decision.
            ApprovalNeeded: If a person must approve of it and no token was given; `details` holds a fresh token.
            ApprovalRefused: If the token does not let this request in.
            HostError: If the log or an approval cannot be written.
        """
        decision = self.look(request)
        if decision.action is Action.DENY:
            self._record("proxy_exec_denied", request, decision)
            raise CommandDenied(_shown(request), decision.reason, details=_facts(decision))
        if decision.action is Action.REQUIRE_APPROVAL:
            if token is None:
                self._check_length(request, decision)
                approval, fresh = self.approvals.ask(request, decision, is_secret=self.secrets.redactor().is_secret)
                self._record("proxy_exec_pending", request, replace(decision, approval=approval.id))
                raise ApprovalNeeded(
                    _shown(request),
                    decision.reason,
                    fresh,
                    hint=decision.hint,
                    details={**_facts(decision), "approval": approval.id},
                )
            try:
                used = self.approvals.use(token, request)
                self._check_granted(used)
            except PolicyError as error:
                self._record("proxy_exec_refused", request, decision, {"why": error.message})
                raise
            decision = replace(decision, approval=used.id)
        self._record("proxy_exec_requested", request, decision)
        return decision

    def completed(
        self,
        request: Request,
        decision: Decision,
        *,
        exit_code: int,
        duration_ms: int,
        changed_files: int,
        timed_out: bool,
        more: Mapping[str, object] | None = None,
    ) -> None:
        """Record how a run ended."""
        facts = {
            "exit_code": exit_code,
            "duration_ms": duration_ms,
            "changed_files": changed_files,
            "timed_out": timed_out,
            **(more or {}),
        }
        self._record("proxy_exec_completed", request, decision, facts)

    def grant(self, approval: str) -> Approval:
        """Say yes to a request that waits, as `Approvals.grant`, and record it."""
        return self._decide("approval_granted", self.approvals.grant, approval)

    def deny(self, approval: str) -> Approval:
        """Say no to a request that waits, as `Approvals.deny`, and record it."""
        return self._decide("approval_denied", self.approvals.deny, approval)

    @staticmethod
    def _longest() -> int:
        from avfs_git.proxy.policy.approvals import MAX_TEXT  # noqa: PLC0415 - few commands need any

        return MAX_TEXT

    def _use_granted(self, found: Approval, call: str | None) -> bool:
        """Use the grant of a person; False without one, or if another call used it."""
        try:
            used = self.approvals.use_granted(found.id, call=call)
            self._check_granted(used, call)
        except PolicyError:
            return False
        return True

    def _check_length(self, request: Request, decision: Decision) -> None:
        if len(request.command()) > self._longest():
            self._record("proxy_exec_denied", request, decision)
            reason = f"it needs approval, and nobody can read a command of more than {self._longest()} characters"
            raise CommandDenied(_shown(request), reason, details=_facts(decision))

    def _check_granted(self, used: Approval, call: str | None = None) -> None:
        """Find in the audit log that a person granted an approval, and that nothing but the same call used it before.

        Raises:
            ApprovalRefused: If its record is an old one put back, or the log has no grant.
        """
        for entry in self.audit.read(since_ns=used.decided_at_ns):
            if entry.details.get("approval") == used.id:
                if entry.event == "approval_granted" and entry.details.get("fingerprint") == used.fingerprint:
                    return
                is_again = call is not None and entry.details.get("call") == call
                if entry.event in ("proxy_exec_requested", "hook_admitted") and not is_again:
                    raise ApprovalRefused(used.id, "the audit log says that it was used already")
        raise ApprovalRefused(used.id, "the audit log has no grant of it")

    def _decide(self, event: str, decide: Callable[[str], Approval], id_: str) -> Approval:
        import shlex  # noqa: PLC0415 - few commands need it

        redactor = self.secrets.redactor()  # first: without a policy nothing is decided
        approval = decide(id_)
        is_text = approval.command_mode == "shell"
        text = redactor.text(approval.command) if is_text else redactor.argv(shlex.split(approval.command))
        facts = {"approval": approval.id, "command": text, "fingerprint": approval.fingerprint}
        self.audit.append(event, fork=approval.fork, details=facts)
        return approval

    def _record(
        self, event: str, request: Request, decision: Decision, more: Mapping[str, object] | None = None
    ) -> None:
        redactor = self.secrets.redactor()
        facts = {
            "command": redactor.command(request),
            "command_mode": "argv" if request.shell is None else "shell",
            "cwd": request.cwd,
            "env": sorted(name for name, _ in request.env),  # the values may be secrets
            "options": [f"{name}={redactor.text(value)}" for name, value in sorted(request.options)],
            "mountpoint": request.mountpoint,
            "stdin": request.stdin_sha256 or ("stream" if request.has_stdin else None),
            "fingerprint": request.fingerprint(),
            "decision": decision.action,
            "categories": list(decision.categories),
            "reason": redactor.text(decision.reason),
            "approval": decision.approval,
        }
        self.audit.append(event, fork=request.fork, details={**facts, **(more or {})})


def _shown(request: Request) -> str:
    return request.command()[:200]


def _facts(decision: Decision) -> dict[str, object]:
    """What an error tells of a decision."""
    return {"action": decision.action.value, "categories": [category.value for category in decision.categories]}

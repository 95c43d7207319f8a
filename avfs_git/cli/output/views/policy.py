"""What results about the policy of commands look like to people: rules, decisions, approvals, the audit log."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from avfs_git.cli.output.quoting import quote_path, reveal
from avfs_git.proxy.policy.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from avfs_git.cli.output.text import TextOutput
    from avfs_git.cli.results import (
        ApprovalList,
        AuditLines,
        PolicyCheck,
        PolicyPaths,
        PolicyRules,
        ShownRule,
    )
    from avfs_git.proxy.policy.approvals import Approval
    from avfs_git.workspace.vault.log.audit import AuditEntry

_STYLES = {"allow": "green", "allow_with_checkpoint": "cyan", "require_approval": "yellow", "deny": "red"}


def policy_show(text: TextOutput, result: PolicyRules) -> None:
    """List rules in the order in which they are asked."""
    text.table(
        ("Scope", "Rule", "Matches", "Action", "Reason"),
        (
            (rule["scope"], rule["name"], _conditions(rule), rule["action"].value, rule["reason"])
            for rule in result["rules"]
        ),
    )


def _conditions(rule: ShownRule) -> str:
    groups = [
        ("", [category.value for category in rule["categories"]]),
        ("command ", rule["commands"]),
        ("argument ", rule["arguments"]),
        ("path ", rule["paths"]),
    ]
    return " and ".join(name + " or ".join(values) for name, values in groups if values) or "everything"


def policy_check(text: TextOutput, result: PolicyCheck) -> None:
    """Explain a decision."""
    decision = result["decision"]
    text.line((decision.action.value, _STYLES[decision.action.value]), f": {decision.reason}")
    text.line("Categories: ", ", ".join(category.value for category in decision.categories))
    text.line("Found:")
    for finding in decision.findings:
        at = f" ({finding.start}-{finding.end})" if finding.start is not None else ""
        paths = f" [{', '.join(finding.paths)}]" if finding.paths else ""
        text.line("  ", finding.category.value, f": {finding.reason}{paths}, in `{finding.text}`{at}")
    text.line("Rules:")
    for rule in decision.rules:
        mark = "*" if rule.decisive else "+" if rule.matched else "-"
        text.line("  ", mark, f" {rule.scope} '{rule.name}': ", (rule.action.value, _STYLES[rule.action.value]))
    if decision.hint is not None:
        text.hint(decision.hint)


def policy_path(text: TextOutput, result: PolicyPaths) -> None:
    """Say where the files are."""
    text.facts([("user", quote_path(os.fsencode(result["user"]))), ("vault", quote_path(os.fsencode(result["vault"])))])


def approvals_list(text: TextOutput, result: ApprovalList) -> None:
    """List approvals, a line each; a person who decides sees all of one with `avfs approvals grant`."""
    redactor = Redactor()
    rows = (
        (
            found.id,
            found.state.value,
            found.fork,
            text.since(found.expires_at_ns),
            _one_line(redactor.text(found.command)),
        )
        for found in result["approvals"]
    )
    text.table(("Approval", "State", "Fork", "Until", "Command"), rows)


def approvals_grant(text: TextOutput, approval: Approval) -> None:
    """Say until when it counts."""
    text.line("Granted ", (approval.id, "bold"), ", once, until ", text.time(approval.expires_at_ns))


def approvals_deny(text: TextOutput, approval: Approval) -> None:
    """Say what was refused."""
    text.line("Denied ", (approval.id, "bold"), ": ", _one_line(Redactor().text(approval.command)))


def audit(text: TextOutput, result: AuditLines) -> None:
    """List events, the newest first, or tell what was released."""
    released = result["released"]
    if text.request.get("release") is not None:
        word = "Would release" if text.request.get("dry_run") else "Released"
        if released is None:
            text.line("No line of the audit log is that old")
        else:
            facts = released.details
            time = text.time(int(str(facts["newest_ns"])))
            text.line(f"{word} lines {facts['first']} to {facts['last']} of the audit log, the last of {time}")
        return
    rows = (
        (str(entry.seq), text.since(entry.at_ns), *audit_cells(entry, is_short=text.on_terminal))
        for entry in result["entries"]
    )
    text.table(("No", "Time", "Fork", "Event", "Outcome", "What"), rows)
    if not result["entries"]:
        text.note("No event in the audit log is as asked for")
    if result["verified"] is not None:
        text.note(f"{result['verified']} lines, none of them changed")
        if released is not None:
            text.note(f"Released {text.since(released.at_ns)}: the lines up to {released.details['last']}")


def audit_cells(entry: AuditEntry, *, is_short: bool = False) -> tuple[str, str, str, str]:
    """Tell the fork, the event, its outcome, and the command or what was done."""
    outcome = (
        f"{entry.outcome} ({entry.details.get('exit_code', entry.details.get('error'))})"
        if entry.outcome == "failed"
        else entry.outcome
    )
    event = entry.event.removeprefix("proxy_exec_") if is_short else entry.event
    return entry.fork or "-", event, outcome, _one_line(_tell_what(entry.details))


def _tell_what(details: Mapping[str, object]) -> str:
    if "plugin" in details:
        path = f" of {details['path']}" if details.get("path") is not None else ""
        return f"{details['plugin']}: {details.get('operation')}{path}: {details.get('reason')}"
    return str(details.get("command", details.get("text", "-")))


def _one_line(text: str) -> str:
    return " ".join(" ".join(reveal(text)).split())[:120]

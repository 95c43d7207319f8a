"""The gate: policy, approval and audit in their order."""

from __future__ import annotations

from pathlib import Path

import pytest

from avfs_git import faults
from avfs_git.errors import ApprovalNeeded, ApprovalRefused, CommandDenied, HostError, PolicyInvalid
from avfs_git.host.files.seal import Seal
from avfs_git.proxy.policy.decision import Action, Request
from avfs_git.proxy.policy.gate import Gate
from tests.support.failing import FailAt


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    """That of a vault without rules."""
    return Gate(tmp_path / "w.git", seal=Seal(tmp_path / "key"), user_policy=tmp_path / "policy.toml")


def run(argv: str, **more: object) -> Request:
    """Make a request of words."""
    return Request("/v", "f", argv=tuple(argv.split()), **more)  # type: ignore[arg-type]  # as `Request` has them


def events(gate: Gate) -> list[str]:
    """Name what is in the log, the oldest first."""
    return [entry.event for entry in reversed(gate.audit.read())]


def test_what_is_let_in_is_recorded(gate: Gate) -> None:
    """Before it runs and after, with what decides and how it ended."""
    request = run("touch a", env=(("TOKEN", "hidden"),), options=(("readonly", "false"),))
    decision = gate.admit(request)
    gate.completed(
        request, decision, exit_code=3, duration_ms=17, changed_files=1, timed_out=False, more={"commit": "abc"}
    )

    assert decision.action is Action.ALLOW_WITH_CHECKPOINT
    assert events(gate) == ["proxy_exec_requested", "proxy_exec_completed"]
    after, before = gate.audit.read()
    assert before.details["command"] == "touch a"
    assert before.details["decision"] == "allow_with_checkpoint"
    assert before.details["categories"] == ["mutating"]
    assert (after.details["exit_code"], after.details["commit"]) == (3, "abc")
    assert b"hidden" not in gate.audit.path.read_bytes()


def test_what_is_refused_is_recorded(gate: Gate, tmp_path: Path) -> None:
    """A denial is an error that says why, and a line in the log."""
    (tmp_path / "policy.toml").write_text(
        'version=1\n[[rule]]\nname="no"\ncategories=["host_escape_risk"]\naction="deny"\n'
    )
    with pytest.raises(CommandDenied) as caught:
        gate.admit(run("cat /etc/passwd"))

    assert caught.value.details["categories"] == ["host_escape_risk"]
    assert events(gate) == ["proxy_exec_denied"]


def test_the_way_of_an_approval(gate: Gate) -> None:
    """Asked, refused, granted, used; each is in the log."""
    request = run("curl x")
    with pytest.raises(ApprovalNeeded) as caught:
        gate.admit(request)
    token = str(caught.value.details["token"])
    with pytest.raises(ApprovalRefused):
        gate.admit(request, token=token)
    gate.grant(str(caught.value.details["approval"]))

    decision = gate.admit(request, token=token)

    assert (decision.action, decision.approval) == (Action.REQUIRE_APPROVAL, caught.value.details["approval"])
    assert events(gate) == ["proxy_exec_pending", "proxy_exec_refused", "approval_granted", "proxy_exec_requested"]
    with pytest.raises(ApprovalRefused):
        gate.admit(request, token=token)
    assert gate.audit.verify() == 5
    assert token.partition(".")[2].encode() not in gate.audit.path.read_bytes()


def test_a_token_does_not_help_against_a_denial(gate: Gate, tmp_path: Path) -> None:
    """What is forbidden after it was granted stays out, and the token is not used up."""
    request = run("curl x")
    with pytest.raises(ApprovalNeeded) as caught:
        gate.admit(request)
    gate.grant(str(caught.value.details["approval"]))
    (tmp_path / "policy.toml").write_text('version=1\n[[rule]]\nname="no"\ncommands=["curl"]\naction="deny"\n')

    with pytest.raises(CommandDenied):
        gate.admit(request, token=str(caught.value.details["token"]))
    (tmp_path / "policy.toml").unlink()
    assert gate.admit(request, token=str(caught.value.details["token"])).approval


def test_a_token_that_is_not_needed_stays_unused(gate: Gate) -> None:
    """Nothing is taken from it."""
    assert gate.admit(run("ls"), token="nonsense").approval is None


def test_an_old_record_that_is_put_back_counts_no_second_time(gate: Gate, tmp_path: Path) -> None:
    """Its seal is whole; the audit log knows that it was used."""
    request = run("curl x")
    with pytest.raises(ApprovalNeeded) as caught:
        gate.admit(request)
    token = str(caught.value.details["token"])
    gate.grant(str(caught.value.details["approval"]))
    path = tmp_path / "w.git" / "avfs" / "approvals" / f"{caught.value.details['approval']}.json"
    granted = path.read_bytes()
    gate.admit(request, token=token)
    path.write_bytes(granted)

    with pytest.raises(ApprovalRefused, match="used already"):
        gate.admit(request, token=token)


def test_a_record_that_is_put_back_lets_in_no_other_call(gate: Gate, tmp_path: Path) -> None:
    """The audit log names the call that used it."""
    request = run("curl x")

    def consult(call: str | None) -> Action:
        return gate.consult(request, harness="codex", asks_itself=False, call=call).action

    assert consult("s 1") is Action.REQUIRE_APPROVAL
    (asked,) = gate.approvals.entries()
    gate.grant(asked.id)
    path = tmp_path / "w.git" / "avfs" / "approvals" / f"{asked.id}.json"
    granted = path.read_bytes()
    assert (consult("s 2"), consult("s 2")) == (Action.ALLOW_WITH_CHECKPOINT,) * 2
    for call in ("s 3", None):
        path.write_bytes(granted)
        assert consult(call) is Action.REQUIRE_APPROVAL


def test_a_grant_that_nobody_recorded_does_not_count(gate: Gate) -> None:
    """The log that can be checked has every grant."""
    request = run("curl x")
    with pytest.raises(ApprovalNeeded) as caught:
        gate.admit(request)
    gate.approvals.grant(str(caught.value.details["approval"]))

    with pytest.raises(ApprovalRefused, match="no grant"):
        gate.admit(request, token=str(caught.value.details["token"]))


def test_what_nobody_can_read_nobody_approves(gate: Gate) -> None:
    """A text of megabytes is denied and does not wait."""
    with pytest.raises(CommandDenied, match="characters"):
        gate.admit(Request("/v", "f", shell="curl " + "x" * (1 << 18)))

    assert (events(gate), gate.approvals.entries()) == (["proxy_exec_denied"], [])


def test_the_log_has_no_secrets(gate: Gate, tmp_path: Path) -> None:
    """Of no event, also where the user's own pattern says what is one."""
    (tmp_path / "policy.toml").write_text("version = 1\n[redact]\npatterns = ['corp-[0-9]+']\n")
    request = Request("/v", "f", shell="curl -H 'Authorization: Bearer hunter2' https://me:hunter2@x/ corp-42")
    with pytest.raises(ApprovalNeeded) as caught:
        gate.admit(request)
    gate.grant(str(caught.value.details["approval"]))
    decision = gate.admit(request, token=str(caught.value.details["token"]))
    gate.completed(request, decision, exit_code=0, duration_ms=1, changed_files=0, timed_out=False)

    second = Request("/v", "f", argv=("curl", "--token", "a hunter2", "A_TOKEN=a hunter2"))
    with pytest.raises(ApprovalNeeded) as caught:
        gate.admit(second)
    gate.deny(str(caught.value.details["approval"]))

    assert len(events(gate)) == 6
    for secret in (b"hunter2", b"corp-42"):
        assert secret not in gate.audit.path.read_bytes()


def test_looking_leaves_no_trace(gate: Gate, tmp_path: Path) -> None:
    """A dry run writes nothing, and asks for nothing."""
    assert gate.look(run("curl x")).action is Action.REQUIRE_APPROVAL

    assert not (tmp_path / "w.git").exists()


def test_a_policy_that_cannot_be_read_lets_nothing_in(gate: Gate, tmp_path: Path) -> None:
    """Not even what every policy allows."""
    (tmp_path / "policy.toml").write_text("version = 9\n")

    with pytest.raises(PolicyInvalid):
        gate.admit(run("ls"))


def test_what_cannot_be_recorded_does_not_run(gate: Gate) -> None:
    """The log's error comes before the command."""
    faults.arm(FailAt(1, lambda: OSError(28, "full")))

    with pytest.raises(HostError):
        gate.admit(run("ls"))

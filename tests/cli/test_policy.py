"""`avfs policy`, `avfs approvals`, `avfs audit`."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from avfs_git import Avfs
from avfs_git.cli.commands.running.approvals import describe
from avfs_git.cli.output.views.policy import audit_cells
from avfs_git.errors import ApprovalNeeded
from avfs_git.host.processes.descriptors import is_readable
from avfs_git.proxy.policy.decision import Request
from avfs_git.proxy.policy.gate import Gate
from avfs_git.workspace.vault.log.audit import AuditEntry
from tests.support.cli import Cli, Transcript, spawn

Snapshot = Callable[[str, str], None]

RULES = """\
version = 1

[[rule]]
name = "packages"
categories = ["networked"]
commands = ["npm ci"]
action = "allow_with_checkpoint"

[[rule]]
name = "secrets"
paths = ["secrets/**"]
action = "deny"
reason = "secrets stay where they are"
"""


@pytest.fixture
def gate(hermetic: Path, work: str) -> Gate:
    """The gate of the vault."""
    with Avfs(hermetic / "avfs") as avfs, avfs.open_vault(work) as vault:
        return vault.policy.gate


def ask(gate: Gate, *argv: str) -> tuple[str, str]:
    """Let a command ask for approval; gives its id and token."""
    with pytest.raises(ApprovalNeeded) as caught:
        gate.admit(Request(str(gate.vault_policy), "main", argv=argv))
    return str(caught.value.details["approval"]), str(caught.value.details["token"])


def _stable(text: str) -> str:
    seen: dict[str, str] = {}
    text = re.sub(r"\b[0-9a-f]{64}\b", "<hash>", text)
    return re.sub(r"\b[0-9a-f]{12}\b", lambda match: seen.setdefault(match[0], f"<approval {len(seen) + 1}>"), text)


def test_a_check_judges_a_path_on_the_host_as_a_command_is_judged(hermetic: Path, work: str) -> None:
    """Below the place where commands see the workspace, an absolute path is one of the workspace."""
    with Avfs(hermetic / "avfs") as avfs, avfs.open_vault(work) as vault:
        vault.policy.vault_file.write_text(
            'version = 1\n[[rule]]\nname = "s"\npaths = ["secrets/**"]\naction = "deny"\n'
        )
        workspace = vault.workspace()
        secret = f"{workspace.exec_plan('true').mountpoint}/secrets/key"
        assert workspace.exec_plan("cat", secret).decision.action == "deny"
        assert vault.policy.check(["cat", secret], fork=workspace.fork).action == "deny"
        assert vault.policy.check(["cat", secret]).action == "deny"


def test_a_check_at_a_terminal_says_what_exec_does_there(hermetic: Path, work: str) -> None:
    """An interpreter without a program is asked about, by both."""
    with Avfs(hermetic / "avfs") as avfs, avfs.open_vault(work) as vault:
        workspace = vault.workspace()
        for command, action in (("python3 -i", "require_approval"), ("vim README.md", "allow_with_checkpoint")):
            words = command.split()
            assert workspace.exec_plan(*words, stdin=0, terminal=True).decision.action == action
            assert vault.policy.check(words, fork=workspace.fork, terminal=True).action == action


def test_rules_are_shown_and_explained(
    avfs: Transcript, work: str, hermetic: Path, tmp_path: Path, snapshot: Snapshot
) -> None:
    """What holds, and what it says to commands."""
    user = hermetic / ".config/avfs/policy.toml"
    avfs("policy path")
    avfs("policy show")
    user.parent.mkdir(parents=True)
    user.write_text(RULES)
    avfs("policy show")
    avfs("policy check -- ls -l")
    avfs("policy check --shell 'ls; rm -rf build && curl https://example.org'")
    avfs("policy check -- npm ci")
    avfs("policy check -- python3 -i")
    avfs("policy check -t -- python3 -i")
    avfs("policy check --cwd secrets -- cat key")
    avfs("policy check -e 'PAGER=rm -rf a' -- git log")
    avfs("policy check -c '\"unterminated'")
    avfs("policy check", status=2)
    avfs("policy check -c ls -- ls", status=2)
    user.write_text("version = 1\n[[rule]]\nname = 'x'\naktion = 'deny'\n")
    avfs("policy show", status=81)

    snapshot("policy.txt", avfs.text.replace(str(hermetic), "$HERMETIC"))


def test_policy_documents(avfs: Transcript, work: str, hermetic: Path, snapshot: Snapshot) -> None:
    """The same for programs."""
    avfs("policy show --json")
    avfs("policy check --json --shell 'cat < /etc/passwd'")
    avfs("policy check --json -- curl -o out https://example.org")
    avfs("policy path --json")
    user = hermetic / ".config/avfs/policy.toml"
    user.parent.mkdir(parents=True)
    user.write_text("version = 7\n")
    avfs("policy check --json -- ls", status=81)

    snapshot("policy.json.txt", avfs.text.replace(str(hermetic), "$HERMETIC"))


def test_approvals_are_listed_and_denied(avfs: Transcript, gate: Gate, snapshot: Snapshot) -> None:
    """What waits, what a person said to it, and what the log has of it."""
    avfs("approvals list")
    first, _ = ask(gate, "curl", "https://example.org")
    avfs("approvals list")
    avfs(f"approvals grant {first}", status=87)
    avfs(f"approvals deny {first}")
    avfs(f"approvals deny {first}", status=84)
    avfs("approvals list")
    avfs("approvals list --all --json")
    avfs("approvals deny 000000000000", status=85)
    avfs("approvals grant ../lock --json", status=85)
    avfs("audit")
    avfs("audit --limit 1 --json")
    avfs("audit --verify --since 2001-01-01 -n 1")
    avfs("audit --since soon", status=2)
    avfs("audit --until 2d")

    snapshot("approvals.txt", _stable(avfs.text))


def test_a_changed_log_is_found(cli: Cli, gate: Gate) -> None:
    """`--verify` fails where a line was changed."""
    ask(gate, "curl", "a")
    ask(gate, "curl", "b")
    path = gate.audit.path
    path.write_bytes(path.read_bytes().replace(b'"curl a"', b'"curl c"'))

    assert cli("audit", "--verify", "--json").document["error"]["code"] == "audit.damaged"
    assert cli("audit").status == 0
    assert "No event in the audit log is as asked for" in cli("audit", "no/such/path").ok().stderr
    assert "the audit log" in cli("doctor").text


def test_old_lines_are_released(cli: Cli, gate: Gate) -> None:
    """Only when that is asked for; `--verify` says it."""
    ask(gate, "curl", "a")
    lines = cli("audit", "--json").result["entries"]
    assert cli("audit", "--release", "30").text == "No line of the audit log is that old\n"
    planned = cli("audit", "--release", "0", "--dry-run", "--json").result["released"]
    assert len(cli("audit", "--json").result["entries"]) == len(lines) == planned["details"]["lines"]
    assert f"Released lines 1 to {len(lines)} of the audit log" in cli("audit", "--release", "0").text
    assert [entry["event"] for entry in cli("audit", "--json").result["entries"]] == ["audit_released"]
    assert f"the lines up to {len(lines)}" in cli("audit", "--verify").stderr
    assert not [one for one in cli("doctor", "--json").result["problems"] if one["code"].startswith("audit")]
    for wrong in (["--release", "1", "--verify"], ["--release", "1", "a"], ["--dry-run"]):
        assert cli("audit", *wrong).status == 2


def test_operations_are_in_the_audit_log(cli: Cli, work: str) -> None:
    """With their paths; each condition leaves some out."""
    for path in ("a", "b/c"):
        cli("write", path, stdin=b"x").ok()
    cli("checkpoint", "save", "one").ok()
    cli("exec", "--", "false")

    def find(*arguments: str) -> list[str]:
        return [entry["event"] for entry in cli("audit", *arguments, "--json").ok().result["entries"]]

    ran = ["proxy_exec_completed", "proxy_exec_requested"]
    assert find() == [*ran, "checkpoint", "files", "files", "vault_create"]
    assert find("--verify", "b") == ["checkpoint", "files"]
    assert find("--event", "files", "--event", "undo") == ["files"] * 2
    assert find("--outcome", "failed") == ran[:1]
    assert find("--until", "2001-01-01") == []
    assert cli("audit", "--fork", "other").status == 21  # it never was
    assert cli("audit", "--follow", "--since", "2001-01-01").status == 2


def test_a_follower_is_told_of_each_operation(cli: Cli, work: str) -> None:
    """One JSON document a line; the old ones first."""
    cli("write", "a", stdin=b"x").ok()
    command = [sys.executable, "-m", "avfs_git", "audit", "--follow", "--json", "--event", "files"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as follower:
        assert follower.stdout is not None
        assert json.loads(follower.stdout.readline())["details"]["text"] == "write 'a'"
        cli("write", "b", stdin=b"x").ok()
        assert json.loads(follower.stdout.readline())["details"]["text"] == "write 'b'"
        follower.send_signal(signal.SIGINT)
        assert (follower.stdout.read(), follower.wait()) == (b"", 130)


def _answer(arguments: list[str], answer: bytes) -> tuple[int, str]:
    """Run the program at a terminal of its own, and answer when it asks."""
    master, slave = pty.openpty()
    child = subprocess.Popen([sys.executable, "-m", "avfs_git", *arguments], stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    shown = b""
    answered = False
    try:
        while is_readable(master, 60):
            try:
                chunk = os.read(master, 4096)
            except OSError:  # the other end is closed
                break
            if not chunk:
                break
            shown += chunk
            if not answered and b"[y/N]" in shown:
                os.write(master, answer)
                answered = True
        return child.wait(timeout=60), shown.decode()
    finally:
        child.kill()
        child.wait()
        os.close(master)


def test_a_person_grants_at_a_terminal(gate: Gate) -> None:
    """The command is shown, also what would hide it; only a yes counts, and it counts once."""
    approval, token = ask(gate, "curl", "\x1b[2Kharmless\nls")

    status, shown = _answer(["approvals", "grant", approval], b"n\n")
    assert status == 87
    assert "\x1b[2K" not in shown
    assert "harmless" in shown
    status, shown = _answer(["approvals", "grant", approval], b"y\n")

    assert status == 0, shown
    request = Request(str(gate.vault_policy), "main", argv=("curl", "\x1b[2Kharmless\nls"))
    assert gate.admit(request, token=token).approval == approval


def test_the_audit_log_shows_what_a_plugin_refused() -> None:
    """With the plug-in, the path and the reason."""
    details = {"plugin": "guard", "operation": "mkdir", "path": "migrations", "reason": "by hand"}
    entry = AuditEntry(1, 0, "plugin_refused", "main", "refused", details)

    assert audit_cells(entry)[-1] == "guard: mkdir of migrations: by hand"


def test_an_approval_shows_that_the_command_reads_a_terminal(gate: Gate) -> None:
    """Its input is no file, but it is not none."""
    approval, _ = ask(gate, "curl", "x")
    waiting = gate.approvals.get(approval)

    assert "input:      none" in list(describe(waiting))
    assert "input:      typed at the terminal" in list(describe(replace(waiting, options=("terminal=True",))))


def test_audit_lists_all_where_more_is_asked_for_than_can_be_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit goes past what Python counts with."""
    monkeypatch.setenv("AVFS_HOME", str(tmp_path / "home"))
    spawn("vault", "create", "shop").ok()
    few, all_of_them = (spawn("audit", "--json", "-n", count).ok().result["entries"] for count in ("50", str(2**64)))
    assert all_of_them == few


def test_exec_says_where_there_is_a_terminal(cli: Cli, work: str) -> None:
    """A command that may wait for a person is told of before it runs.

    The refusal of other programs' options names `-t`.
    """
    ran = cli("--json", "exec", "--backend", "checkout", "-c", "false && nano README.md")

    assert "exec.no_terminal" in [warning["code"] for warning in ran.document["warnings"]]
    for option in ("-it", "--interactive", "--pty"):
        refused = cli("exec", option, "bash")
        assert (refused.status, "`-t` gives" in refused.stderr) == (125, True)


def test_exec_has_no_terminal_to_give_where_there_is_none(cli: Cli, work: str) -> None:
    """`-t` needs one as its standard input, which is no file then; a dry run needs none."""
    for words in (["-t", "true"], ["--tty", "--stdin", "-", "true"]):
        refused = cli("--json", "exec", *words)
        assert (refused.status, refused.document["error"]["code"]) == (125, "input.usage")
        assert "--stdin" in refused.document["error"]["message"] + refused.document["error"]["hint"]

    cli("exec", "--dry-run", "-t", "vim", "README.md").ok()


def test_exec_refuses_what_can_only_wait_for_a_person(cli: Cli, work: str) -> None:
    """A screen program alone is refused before anything starts; one that may be told what to do is not."""
    for words in (["vim", "README.md"], ["/usr/bin/nano", "a b.txt"], ["top"], ["-c", "vi README.md"]):
        for options in ([], ["--dry-run"]):
            refused = cli("--json", "exec", *options, *words)
            assert (refused.status, refused.document["error"]["code"]) == (125, "exec.terminal_missing")
            assert "exec -t" in refused.document["error"]["hint"]

    for words in (
        ["vim", "-es", "README.md"],
        ["vim", "+wq", "README.md"],
        ["vim", "--version"],
        ["top", "-b", "-n", "1"],
        ["--stdin", "-", "vim", "README.md"],
        ["-e", "EXINIT=wq", "vi", "README.md"],
        ["less", "README.md"],
        ["git", "rebase", "-i", "HEAD"],
        ["./vim", "README.md"],
        ["-c", "true || vim README.md"],
        ["-c", "vim README.md < keys"],
        ["-c", "vim $FILE"],
        ["-c", "vim() { true; }; vim README.md"],
    ):
        cli("--json", "exec", "--dry-run", *words).ok()


def test_a_denied_program_is_the_policys_to_refuse(cli: Cli, work: str, hermetic: Path) -> None:
    """The policy's reason comes first, and the refusal is in the audit log."""
    with Avfs(hermetic / "avfs") as avfs, avfs.open_vault(work) as vault:
        vault.policy.vault_file.write_text(RULES)

    assert cli("--json", "exec", "vim", "secrets/key").document["error"]["code"] == "policy.denied"
    assert [entry["outcome"] for entry in cli("--json", "audit", "-n", "1").ok().result["entries"]] == ["refused"]

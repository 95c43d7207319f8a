"""Two lists of commands: those of an ordinary day need no person, and no hostile one passes for one that only reads."""

from __future__ import annotations

from pathlib import Path

import pytest

from avfs_git.proxy.policy.decision import Action, Category, Decision, Request
from avfs_git.proxy.policy.policy import Policy, decide


def _read(name: str, mark: str) -> list[tuple[str, bool]]:
    lines = (Path(__file__).with_name("corpus") / name).read_text("utf-8").splitlines()
    return [
        (line.removeprefix(mark).replace("⏎", "\n"), line.startswith(mark))
        for line in lines
        if line and not line.startswith("#")
    ]


ORDINARY = _read("ordinary.txt", "n | ")
HOSTILE = _read("hostile.txt", "ask | ")


def _decide(text: str) -> Decision:
    return decide(Request("/v", "f", shell=text), Policy())


def test_the_lists_are_long() -> None:
    """Hundreds of lines each, and none twice."""
    for lines, count in ((ORDINARY, 400), (HOSTILE, 500)):
        assert len(lines) >= count
        assert len(dict(lines)) == len(lines)


@pytest.mark.parametrize(("command", "is_networked"), ORDINARY, ids=[command[:60] for command, _ in ORDINARY])
def test_ordinary_commands_need_no_person(command: str, is_networked: bool) -> None:
    """The default policy refuses none, and asks for those only that use the network."""
    decision = _decide(command)

    if is_networked:
        assert Category.NETWORKED in decision.categories
        assert Category.HOST_ESCAPE_RISK not in decision.categories, decision.reason
        assert decision.action is Action.REQUIRE_APPROVAL
    else:
        assert decision.action in {Action.ALLOW, Action.ALLOW_WITH_CHECKPOINT}, decision.reason


@pytest.mark.parametrize(("command", "asks"), HOSTILE, ids=[command[:60] for command, _ in HOSTILE])
def test_hostile_commands_are_seen(command: str, asks: bool) -> None:
    """None passes for one that only reads; what destroys something unknown, or reaches outside, needs a person."""
    decision = _decide(command)

    assert decision.action is not Action.ALLOW, decision.findings
    if asks:
        assert decision.action is Action.REQUIRE_APPROVAL, decision.findings


def test_a_question_names_what_was_found_and_the_rule_that_allows_it() -> None:
    """The reason says which path, and the hint how to let it in."""
    decision = _decide("ls && cp a /srv/www/b")

    assert "'/srv/www/b'" in decision.reason
    assert decision.hint is not None
    assert 'categories = ["host_escape_risk"] and commands = ["cp"]' in decision.hint

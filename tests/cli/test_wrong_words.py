"""Wrong command lines: refused without a trace, with hints that mean the same vault and fork."""

from __future__ import annotations

import pytest

from tests.support.cli import Cli

REFUSED = [
    ("revert", "nosuch"),
    ("checkout", "nosuch", "--at", "HEAD"),
    ("checkpoint", "restore", "HEAD", "nosuch"),
    ("add", "nosuch"),
]


@pytest.mark.parametrize("words", REFUSED)
def test_a_path_that_is_nowhere_saves_nothing(cli: Cli, work: str, words: tuple[str, ...]) -> None:
    """A command that is refused leaves the branch and the unsaved work as they were."""
    cli("write", "unsaved.txt", stdin=b"mine\n").ok()
    before = cli("--json", "status").ok().result

    assert cli("--json", *words).document["error"]["code"] == "path.not_found"
    assert cli("--json", "status").ok().result == before


def test_undo_names_what_came_back_beside_history(cli: Cli, work: str) -> None:
    """An ignored file that comes back is in the result and in the text."""
    cli("write", ".gitignore", stdin=b".env\n").ok()
    cli("write", ".env", stdin=b"SECRET=1\n").ok()
    cli("checkpoint", "save").ok()
    cli("rm", ".env").ok()

    undone = cli("--json", "undo").ok().result

    assert [(change["kind"], change["path"]) for change in undone["sidecar_changed"]] == [("added", ".env")]
    assert "D\t.env" in cli("redo").ok().text
    assert "A\t.env" in cli("undo").ok().text

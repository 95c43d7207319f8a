"""`avfs stats`: what it counts, and that its parts are the whole."""

from __future__ import annotations

import os

from tests.support.cli import Cli


def test_stats_follow_what_is_done(cli: Cli, work: str) -> None:
    """New contents count as objects or in a workspace, a deleted fork in the trash, and the parts make the total."""
    before = cli("stats", "--json").ok().result
    cli("checkpoint", "save", "v1").ok()
    cli("fork", "create", "task").ok()
    cli("--fork", "task", "write", "big", stdin=os.urandom(1 << 20)).ok()

    written = cli("stats", "--json").ok().result
    assert (written["forks"], written["labels"]) == (before["forks"] + 1, before["labels"] + 1)
    assert written["workspaces"][0]["fork"] == "task"
    assert written["workspaces"][0]["size_bytes"] >= 1 << 20
    assert written["workspaces_bytes"] >= before["workspaces_bytes"] + (1 << 20)

    cli("--fork", "task", "checkpoint", "save").ok()
    saved = cli("stats", "--json").ok().result
    assert saved["objects_bytes"] >= before["objects_bytes"] + (1 << 20)
    assert saved["packed_objects"] > before["packed_objects"]

    cli("fork", "delete", "task").ok()
    deleted = cli("stats", "--json").ok().result
    assert deleted["trash_bytes"] >= 1 << 20
    assert "task" not in [usage["fork"] for usage in deleted["workspaces"]]
    for stats in (before, written, saved, deleted):
        parts = ("objects", "workspaces", "trash", "log", "caches", "other")
        assert sum(stats[f"{part}_bytes"] for part in parts) == stats["total_bytes"]
        assert stats["log_bytes"] > 0


def test_stats_are_facts_and_a_table(cli: Cli, work: str) -> None:
    """A pipe gets a line a fact, then a line a workspace."""
    cells = [line.split("\t") for line in cli("stats").ok().text.splitlines()]

    assert [row[0] for row in cells[:4]] == ["forks", "labels", "packed objects", "objects"]
    assert cells[0] == ["forks", "1"]
    assert cells[-1][0] == "main"

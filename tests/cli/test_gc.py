"""`avfs gc`: what it says of itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.cli import Cli, Transcript

Snapshot = Callable[[str, str], None]

pytestmark = pytest.mark.needs("git", "user-xattrs", "whiteout")


def test_gc_tells_what_goes(avfs: Transcript, work: str, snapshot: Snapshot) -> None:
    """By default nothing goes of what is young; a dry run with other limits tells what would."""
    avfs("fork create task")
    avfs("--fork task write new text")
    avfs("--fork task checkpoint save one")
    avfs("fork delete task")
    avfs("gc --dry-run")
    avfs("gc --dry-run --keep-days 0 --keep-operations 1 --grace-days 14")
    avfs("gc --dry-run --keep-days 0 --keep-operations 1 --json")
    avfs("gc --keep-operations 0", status=2)
    avfs("prune", status=2)
    avfs("prune --keep 1 --dry-run")
    avfs("prune --keep 1 --older-than 1w --max-size 1G --dry-run")
    avfs("prune --max-size 5", status=2)
    avfs("prune --older-than 7x", status=2)

    snapshot("gc.txt", avfs.text)


def test_gc_does_what_it_told(cli: Cli, work: str) -> None:
    """What goes is counted, and a document says so."""
    cli("fork", "create", "task").ok()
    cli("fork", "delete", "task").ok()
    cli("fork", "create", "other").ok()
    document = cli("gc", "--keep-days", "0", "--keep-operations", "1", "--grace-days", "0", "--json").ok().document

    assert document["kind"] == "gc_result"
    assert document["warnings"] == []
    assert document["result"]["operations"] == 2
    assert document["result"]["workspaces"] == 1
    assert document["result"]["packs_after"] == 1
    assert cli("gc", "--compact").ok().text.startswith("Packs: 1 before, 1 now; given back: ")

"""Events of a vault, and avfs in an asyncio program."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from avfs_git import Home, Vault
from avfs_git.errors import CommandDenied, InvalidInput
from avfs_git.model import Event
from avfs_git.sdk.aio import iterate


@pytest.fixture
def vault(tmp_path: Path) -> Iterator[Vault]:
    """A vault with two forks."""
    with Home(tmp_path / "home") as home:
        vault = home.create_vault("v")
        work = vault.workspace()
        work.write_text("a", "1\n")
        work.checkpoint("one")
        vault.fork("side")
        yield vault


def kinds(found: list[Event] | Iterator[Event]) -> list[tuple[str, str | None]]:
    """List kinds and forks."""
    return [(event.kind, event.fork) for event in found]


def test_events_are_the_operations_in_the_order_of_time(vault: Vault) -> None:
    """Each operation is one event, the oldest first; a fork has its own."""
    vault.workspace("side").write_text("b", "2\n")
    vault.workspace("side").checkpoint("two")
    vault.workspace().merge("side")
    vault.workspace().undo()

    found = list(vault.events())

    assert [event.operation.id for event in found if event.operation] == sorted(
        op.id for op in vault.operations(limit=99)
    )
    assert ("checkpoint", "side") in kinds(found)
    assert kinds(found)[-1] == ("undo", "main")
    assert {event.fork for event in vault.workspace("side").events()} == {"side"}
    assert all(event.details == {} for event in found)


def test_a_cursor_goes_on_where_another_reader_ended(vault: Vault) -> None:
    """From each event on, the rest follows, nothing twice and nothing left out; also in a later process."""
    for number in range(100):
        vault.workspace().write_text("n", str(number))
        vault.workspace().checkpoint()
    found = list(vault.events())

    for at in (0, 1, 50, len(found) - 1):
        assert list(vault.events(since=found[at].cursor)) == found[at + 1 :]
    assert list(vault.events(since="end")) == []
    for cursor in ("x", "1", "1.", "-1.0", "1.2.3", "²."):
        with pytest.raises(InvalidInput):
            vault.events(since=cursor)


def test_what_the_policy_says_is_an_event(vault: Vault) -> None:
    """A command that is refused, and an approval, come with what the audit log holds."""
    vault.policy.vault_file.write_text(
        'version = 1\n[[rule]]\nname = "no"\ncommands = ["shutdown"]\naction = "deny"\nreason = "no"\n'
    )
    begin = vault.events(since="end")
    with pytest.raises(CommandDenied):
        vault.workspace().exec("shutdown", "now")

    (event,) = begin
    assert (event.kind, event.fork, event.operation) == ("proxy_exec_denied", "main", None)
    assert "shutdown" in str(event.details)


def test_following_sees_what_other_processes_do(vault: Vault) -> None:
    """A reader that waits is given each new operation, and ends when it is closed."""
    before = {operation.id for operation in vault.operations(limit=999)}
    events = vault.events(since="end", follow=True)
    found: list[Event] = []
    reader = threading.Thread(target=lambda: found.extend(events))
    reader.start()
    code = (
        "import sys; from pathlib import Path; from avfs_git import Home\n"
        "with Home(Path(sys.argv[1])) as home:\n"
        " for n in range(5):\n"
        "  work = home.open_vault('v').workspace('side'); work.write_text('n', str(n)); work.checkpoint(f'n{n}')\n"
    )
    subprocess.run([sys.executable, "-c", code, str(vault.path.parents[1])], check=True)
    expected = {operation.id for operation in vault.operations(limit=999)} - before
    while len(found) < len(expected):
        reader.join(0.05)
        assert reader.is_alive()
    events.close()
    reader.join()

    numbers = [event.operation.id for event in found if event.operation is not None]
    assert (len(numbers), set(numbers)) == (len(expected), expected)
    assert [event.kind for event in found].count("checkpoint") == 5
    assert list(vault.events(since=events.cursor)) == []


def test_a_log_that_gc_has_shortened_goes_on(vault: Vault) -> None:
    """Old operations that are forgotten are no events any more, and a follower gets the new ones."""
    follower = vault.events(since="end", follow=True)
    vault.gc(keep_days=0, keep_operations=1)
    vault.workspace().write_text("z", "1")
    vault.workspace().checkpoint("after")

    assert next(event for event in follower if event.kind == "checkpoint").fork == "main"
    follower.close()


def test_an_event_loop_goes_on(vault: Vault) -> None:
    """While events are waited for, other tasks run; a cancelled iteration ends, and its thread with it."""
    threads = threading.active_count()

    async def watch() -> list[str]:
        found = []
        async for event in iterate(vault.events(since="end", follow=True)):
            found.append(event.kind)
            if event.kind == "checkpoint":
                break
        return found

    async def main() -> list[str]:
        watching = asyncio.create_task(watch())
        forgotten = asyncio.create_task(watch())
        await asyncio.sleep(0.3)
        forgotten.cancel()
        with pytest.raises(asyncio.CancelledError):
            await forgotten
        await asyncio.to_thread(vault.workspace().write_text, "x", "1")
        await asyncio.to_thread(vault.workspace().checkpoint, "x")
        names = [info.path async for info in iterate(vault.workspace().walk())]
        assert names == [b"a", b"x"]
        return await watching

    assert asyncio.run(main())[-1] == "checkpoint"
    assert threading.active_count() <= threads  # one of a test before may have ended

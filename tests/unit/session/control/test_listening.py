"""The stream of file events to a client: bounded, counted, and ended."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from avfs_git.errors import NoFileEvents
from avfs_git.model import FileEvent
from avfs_git.session.control.connections import Client
from avfs_git.session.control.listening import LISTENERS_MAX, QUEUE_MAX, EventQueue, Listeners, read_events

Listener = Callable[[FileEvent], object]


class Tree:
    """Something that tells events."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []

    def add(self, listener: Listener) -> None:
        self.listeners.append(listener)

    def remove(self, listener: Listener) -> None:
        self.listeners.remove(listener)

    def tell(self, number: int) -> None:
        for listener in self.listeners:
            listener(FileEvent(number, "write", b"file", size=number))


@contextmanager
def listening(listeners: Listeners) -> Iterator[socket.socket]:
    """Serve a client that listens; gives its end of the connection."""
    ours, theirs = socket.socketpair()
    client, queued = Client(theirs, is_apart=False), listeners.begin()

    def serve() -> None:
        try:
            listeners.serve(client, queued)
        except OSError:  # it is gone
            pass
        finally:
            client.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield ours
    finally:
        ours.close()
        thread.join()


def read_all(connection: socket.socket) -> list[FileEvent]:
    """Take events up to the end of the stream."""
    found: list[FileEvent] = []
    with connection.makefile("rb") as lines:
        for line in lines:
            events = read_events(line)
            if events is None:
                return found
            found += events
    raise AssertionError("the stream has no end")


def test_a_client_gets_events_in_their_order_and_then_the_end() -> None:
    """Also those that came while it was not reading."""
    tree = Tree()
    listeners = Listeners("work", tree)
    with listening(listeners) as connection:
        for number in range(1000):
            tree.tell(number)
        listeners.close()
        assert [event.size for event in read_all(connection)] == list(range(1000))

    assert tree.listeners == []


@pytest.mark.slow
def test_what_is_too_much_for_a_client_is_counted_where_it_is_missing() -> None:
    """The tree does not wait; each event comes, or is in the count at its place."""
    tree, count = Tree(), 4 * QUEUE_MAX
    listeners = Listeners("work", tree)
    with listening(listeners) as connection:
        for number in range(count):
            tree.tell(number)
        listeners.close()
        at = 0
        for event in read_all(connection):
            if event.op == "dropped":
                assert event.dropped is not None
                at += event.dropped
            else:
                assert event.size == at
                at += 1

    assert at == count


def test_the_last_listener_that_goes_leaves_nothing_behind() -> None:
    """Also one that reads nothing, and goes while the session sends."""
    tree = Tree()
    listeners = Listeners("work", tree)
    with listening(listeners) as connection:
        for number in range(QUEUE_MAX):
            tree.tell(number)
        connection.close()

    assert tree.listeners == []


def test_listeners_are_limited_and_a_session_that_ends_tells_a_late_one() -> None:
    """The session's memory is bounded; without a source there are none."""
    tree = Tree()
    listeners = Listeners("work", tree)
    made = [listeners.begin() for _ in range(LISTENERS_MAX)]
    with pytest.raises(NoFileEvents, match="listeners already"):
        listeners.begin()
    listeners.end(made[0])
    listeners.close()
    with listening(listeners) as connection:
        assert read_all(connection) == []
    with pytest.raises(NoFileEvents, match="tells none"):
        Listeners("work", None).begin()


@pytest.mark.parametrize(("dropped", "told"), [(None, None), (7, 9)])
def test_what_is_left_out_is_counted_only_where_it_is_known(dropped: int | None, told: int | None) -> None:
    """A full queue leaves out a `dropped`, too: of an unknown number, the sum is unknown."""
    queue = EventQueue()
    for number in range(QUEUE_MAX + 1):
        queue.put(FileEvent(number, "write", b"file"))
    queue.put(FileEvent(QUEUE_MAX + 1, "dropped", dropped=dropped))
    queue.put(FileEvent(QUEUE_MAX + 2, "write", b"file"))

    taken = queue.take(0)

    assert taken is not None
    assert (len(taken), taken[-1].op, taken[-1].dropped) == (QUEUE_MAX + 1, "dropped", told)
    queue.put(FileEvent(1, "write", b"file"))
    assert [event.op for event in queue.take(0) or []] == ["write"]

"""Pieces that a thread makes ahead of who takes them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import count

import pytest

from avfs_git.gitstore.objects.ahead import ahead


def helpers() -> list[threading.Thread]:
    """List the threads that are at it."""
    return [thread for thread in threading.enumerate() if thread.name == "avfs-ahead"]


def test_all_pieces_come_in_their_order() -> None:
    """Nothing is lost, and the thread is gone afterwards."""
    assert list(ahead(iter([b"%d" % number for number in range(1000)]))) == [b"%d" % number for number in range(1000)]
    assert list(ahead(iter([]))) == []
    assert helpers() == []


def test_an_error_comes_in_its_place() -> None:
    """What was made before it is taken first."""

    def pieces() -> Iterator[bytes]:
        yield b"one"
        yield b"two"
        raise ValueError("three")

    taken = ahead(pieces())

    assert [next(taken), next(taken)] == [b"one", b"two"]
    with pytest.raises(ValueError, match="three"):
        next(taken)
    assert helpers() == []


def test_only_a_few_are_made_ahead() -> None:
    """Something endless takes little memory, and ends with who takes it."""
    made: list[int] = []
    is_waiting = threading.Event()

    def pieces() -> Iterator[bytes]:
        for number in count():
            made.append(number)
            if len(made) == 6:
                is_waiting.set()
            yield b"piece"

    taken = ahead(pieces())
    assert next(taken) == b"piece"
    assert is_waiting.wait(60)
    assert len(helpers()) == 1
    taken.close()

    assert helpers() == []
    assert len(made) <= 7


def test_without_a_thread_it_goes_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system gives no thread, nothing else changes."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)

    assert list(ahead(iter([b"a", b"b"]))) == [b"a", b"b"]

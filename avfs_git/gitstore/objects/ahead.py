"""Pieces of long content, made by a thread while the caller works on the pieces before.

Decided here: how far ahead the thread goes, and that it ends with the taking. `objects` calls this for big blobs: to inflate one
takes as long as to hash it and to write it down, and all of these let other threads run. Nothing is kept and no lock is held;
each call has a thread of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from queue import SimpleQueue

_AHEAD = 4
"""How many pieces may wait to be taken."""


def ahead(pieces: Iterator[bytes]) -> Generator[bytes, None, None]:
    """Take pieces from a thread that is some of them ahead. What making one raises is raised in its place.

    The thread has ended when this has: at the end, with an error, or when it is closed.
    """
    made: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
    room = threading.Semaphore(_AHEAD)
    given_up = threading.Event()

    def make() -> None:
        try:
            for piece in pieces:
                room.acquire()
                if given_up.is_set():
                    return
                made.put(piece)
            made.put(None)
        except BaseException as error:  # noqa: BLE001 - raised in the taking thread
            made.put(error)

    thread = threading.Thread(target=make, name="avfs-ahead", daemon=True)
    try:
        thread.start()
    except RuntimeError:  # there are as many as the system allows
        yield from pieces
        return
    try:
        while (piece := made.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            room.release()
            yield piece
    finally:
        given_up.set()
        room.release()
        thread.join()

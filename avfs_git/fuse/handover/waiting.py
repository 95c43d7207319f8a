"""Requests that wait for a remote server, and programs that are killed meanwhile.

Decided here: when such a request is given up because its program is gone. The kernel lets go of a killed program only
when its request is answered. It tells (INTERRUPT) once that the program got a signal, which may as well be one that it
handles. So the server looks at the program again and again, and answers EINTR to one that is about to end, which never
sees it. Any other waits on, as on a network file system that is mounted `hard`: few programs expect EINTR from `stat`.

`fuse.server` adds each request before it waits, and marks it while it answers it, so that no request is answered twice.
One thread looks at programs, while any was interrupted. An object that is being fetched is fetched to the end, even if
no program waits for it: the program is mostly run again.

Nothing survives a crash. The next server takes every parked request for interrupted: the kernel does not tell again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from avfs_git.fuse.channel import Request
from avfs_git.host.processes.processes import is_being_killed

_LOOK_S = 0.2
"""How often to check whether a program that got a signal is about to end."""

GiveUp = Callable[[], object]
"""Answers a request whose program is gone; called without any lock."""


class Waiting:
    """The requests that wait, by their numbers. Used by the serving thread and by the one that brings things."""

    def __init__(self) -> None:
        """Begin without any."""
        self._lock = threading.Lock()
        self._wanted: dict[int, tuple[int, GiveUp]] = {}
        """The thread that asks, and what to do when it is about to end."""
        self._answering: set[int] = set()
        self._interrupted: set[int] = set()
        self._looker: threading.Thread | None = None

    def add(self, request: Request, give_up: GiveUp, *, interrupted: bool = False) -> None:
        """Let a request wait; where it may have been interrupted before, its program is checked at once."""
        with self._lock:
            self._wanted[request.unique] = request.thread, give_up
        if interrupted:
            self.interrupt(request.unique)

    def begin_answer(self, request: Request) -> bool:
        """Begin to answer a request; False if it was given up. No other thread answers it until `wait_on`."""
        with self._lock:
            if request.unique not in self._wanted:
                return False
            self._answering.add(request.unique)
            return True

    def wait_on(self, request: Request) -> None:
        """Let a request wait on: it cannot be answered yet."""
        with self._lock:
            self._answering.discard(request.unique)

    def is_wanted(self, request: Request) -> bool:
        """Tell whether a program still waits for the answer."""
        with self._lock:
            return request.unique in self._wanted

    def remove(self, request: Request) -> bool:
        """Forget a request: it is answered; False if it was given up."""
        with self._lock:
            self._answering.discard(request.unique)
            self._interrupted.discard(request.unique)
            return self._wanted.pop(request.unique, None) is not None

    def interrupt(self, unique: int) -> None:
        """Note that the program of a request got a signal, if the request waits."""
        with self._lock:
            if unique not in self._wanted:
                return
            self._interrupted.add(unique)
            if self._looker is None:
                self._looker = threading.Thread(target=self._look, name="avfs-interrupts", daemon=True)
                self._looker.start()

    def _look(self) -> None:
        pause = threading.Event()
        while True:
            with self._lock:
                if not self._interrupted:
                    self._looker = None
                    return
                asked = [(unique, *self._wanted[unique]) for unique in self._interrupted]
            for unique, thread, give_up in asked:
                if is_being_killed(thread) and self._take(unique):
                    give_up()
            pause.wait(_LOOK_S)

    def _take(self, unique: int) -> bool:
        """Take a request that no thread is answering, to give it up."""
        with self._lock:
            if unique in self._answering or unique not in self._wanted:
                return False
            del self._wanted[unique]
            self._interrupted.discard(unique)
            return True

"""Git in a tree on overlayfs: a git that comes while the index is behind waits until it is brought up.

Decided here: how a session learns that a git is about to read its index. Each git opens the file `.git` first, and the
kernel makes it wait there (`host.fanotify`) until the session has checked whether the index is behind its branch, and
has brought it up (`workspace.gitdir`). Where the kernel does not (a container whose root may not ask for it), the index
is brought up after each operation that may have moved the branch. docs/decisions/lazy-index.md says what that costs.

A server of a session makes one `GitWatch` when the tree is there; `start` begins a thread that does all of it. `renew`
may be called from any thread. If the workspace is busy, it is tried again for `_TRIED_S`. Where the index cannot be
brought up, git is refused the file `.git`, as through FUSE: else it would show the way back as staged, or all files as
removed. Where the kernel cannot hold it back, it is tried again for as long whatever fails; after that git sees that
index, and the log says so. A program that has replaced `.git` is not held. Where one has removed that file, it is there
again after the next operation that changes something. Nothing survives: a process that waits for a server that dies
goes on, with the index as it is.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from avfs_git.errors import AvfsError, WorkspaceBusy
from avfs_git.host.fanotify import Openings
from avfs_git.lazy import LazyLogger
from avfs_git.workspace.gitdir import GitDir
from avfs_git.workspace.opened.workspace import OpenWorkspace

_LOG = LazyLogger(__name__)
_TRIED_S: Final = 30.0
_PAUSE_S: Final = 0.2


class GitWatch:
    """Holds back git in one tree, in one server."""

    def __init__(self, opened: OpenWorkspace, link: Path | None) -> None:
        """Watch from now on: a git that comes waits until `start` is called.

        `link` is the file `.git` of the tree, as programs find it.
        """
        self._opened = opened
        self._link = link
        self._is_closing = False
        self._moved = threading.Event()
        self._moved.set()
        self._openings: Openings | None = None
        try:
            self._openings = Openings(link) if link is not None else None
        except OSError:
            _LOG.info("git cannot be held back: the index follows at once", exc_info=True)
        self._thread = threading.Thread(target=self._run, name="avfs-git", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def renew(self) -> None:
        """Look whether the index is behind, if nothing tells when a git comes; else watch the present file `.git`.

        Where a program has removed that file, it is made again.
        """
        self._moved.set()
        if self._link is None:
            return
        try:
            GitDir(self._opened).put_back_link()
        except AvfsError:
            _LOG.exception("git does not work in the tree")
        if self._openings is not None:
            with suppress(OSError):
                self._openings.watch(self._link)

    def close(self) -> None:
        """Let each git that waits go on, and end."""
        self._is_closing = True
        self._moved.set()
        if self._openings is not None:
            self._openings.stop()
        if self._thread.ident is not None:
            self._thread.join()
        if self._openings is not None:
            self._openings.close()

    def _run(self) -> None:
        while not self._is_closing:
            if self._openings is None:
                self._moved.wait()
                self._moved.clear()
                self._bring_up()
                continue
            comers = self._openings.wait()
            is_up = False
            try:
                is_up = self._bring_up()
            finally:
                for comer in comers:
                    self._openings.answer(comer, allow=is_up)

    def _bring_up(self) -> bool:
        """Bring the index up, if it is behind; False if that failed."""
        end = time.monotonic() + _TRIED_S
        while not self._is_closing:
            try:
                git = GitDir(self._opened)
                if git.is_behind():
                    git.bring_up()
            except (AvfsError, OSError) as error:
                may_pass = isinstance(error, WorkspaceBusy) or self._openings is None
                if not may_pass or time.monotonic() >= end:
                    _LOG.exception("the index cannot be brought up")
                    return False
                time.sleep(_PAUSE_S)
            except Exception:  # noqa: BLE001 - git must not wait for ever
                _LOG.exception("the index cannot be brought up")
                return False
            else:
                return True
        return True

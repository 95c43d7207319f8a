"""Looking at a workspace beside what its session, or another process, does to it.

Decided here: which state of a workspace is shown to a reader while an operation is under way, and for what a look has
to wait.

`look_past` is for a workspace that is not mounted: `sdk.dispatch` calls it where another process has the lock. Files
that a command changes are shown as they are. While a restore or merge changes files, it refuses, and its caller tries
again. The client of a session that is stopped or hangs calls it, too: the upper layer on disk is the truth of a mounted
workspace as well.

`look_beside` is for a mounted one. Called by `session.control.control` in a thread of each look; the operation is in
another thread, and has the workspace lock. A look takes no lock but the guard of the tree, for moments, opens the
workspace anew from the disk, and writes nothing.

- While programs go on, what is looked at is one moment of the tree: it is captured as a checkpoint captures it, in
  rounds, of which the last one has the guard (`Following`).
- While an operation keeps programs waiting (`Standstill`) and has not begun to change anything, nothing can change: the
  state before that operation is read without the guard.
- Once it has begun to change files, a look waits for its end, as programs do: half of a restore is no state.

In each case the look is repeated where the branch moved meanwhile, or such an operation came in between: files and
branch belong together. On overlayfs nothing keeps programs waiting for a look: each file is shown as it was at one
moment.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from avfs_git.errors import AvfsError, FileChanging
from avfs_git.paths import ROOT, TreePath
from avfs_git.vfs.scan.scan import DirtySet
from avfs_git.workspace.capture.captured import Captured
from avfs_git.workspace.capture.livecapture import Rounds, capture_live
from avfs_git.workspace.opened.layers import Layers
from avfs_git.workspace.opened.plain import Flush, Plain
from avfs_git.workspace.opened.served import Served
from avfs_git.workspace.opened.standstill import Standstill
from avfs_git.workspace.opened.workspace import OpenWorkspace
from avfs_git.workspace.vault.format import WorkspaceState
from avfs_git.workspace.vault.vault import OpenVault

_TRIES: Final = 5
"""So often a look is repeated; then it waits for its turn."""
_TURN_S: Final = 0.02
_T = TypeVar("_T")


class Disturbed(Exception):
    """What was looked at belongs to no single state."""


class Unsettled(Disturbed):
    """An operation is changing what would be looked at."""


class _State:
    """A state of a workspace that is looked at."""

    def __init__(self, served: OpenWorkspace) -> None:
        """Note where the workspace is now."""
        self._served = served
        self.count = served.standstill.count
        self._head = served.vault.read_head(served.fork)
        self.is_confirmed = False

    def lasts(self) -> bool:
        """Whether nothing but programs has changed the workspace since."""
        standstill = self._served.standstill
        return (
            standstill.count == self.count
            and not standstill.is_moving
            and self._served.vault.read_head(self._served.fork) == self._head
        )

    def confirm(self) -> None:
        """Make sure that it lasts until now.

        Raises:
            Disturbed: If it does not.
        """
        if not self.lasts():
            raise Disturbed
        self.is_confirmed = True


class Following:
    """What changes in a served tree while it is looked at; as a context, the guard of that tree."""

    def __init__(self, served: Served, standstill: Standstill, count: int) -> None:
        """Begin to follow, at a count of the standstill at which nothing kept programs waiting."""
        self._served = served
        self._standstill = standstill
        self._count = count
        self._changed: DirtySet | None = DirtySet()
        served.follow(self.note)

    def close(self) -> None:
        """Follow no longer."""
        self._served.stop_following(self.note)

    def note(self, path: TreePath, deep: bool) -> None:
        """Note that a path changed; called with the guard."""
        if self._changed is not None:
            if deep and path == ROOT:
                self._changed = None
            else:
                self._changed.add(path, deep=deep)

    def begin_capture(self, rounds: Rounds | None = None) -> DirtySet | None:
        """Begin with a look at all that the fork has changed: which of it is recorded, only the operation knows."""
        del rounds
        self.extend_capture()
        return None

    def extend_capture(self) -> DirtySet | None:
        """Take the paths that have changed since the last call; None if only a scan tells."""
        changed, self._changed = self._changed, DirtySet()
        self._served.view.changes.report_anew()
        return changed

    def __enter__(self) -> None:
        guard, standstill = self._served.view.guard, self._standstill
        while not guard.acquire(timeout=_TURN_S):
            if standstill.count != self._count:
                raise Disturbed
        if standstill.count != self._count:
            guard.release()
            raise Disturbed

    def __exit__(self, *_: object) -> None:
        self._served.view.guard.release()


class Beside(Plain):
    """The mode of a workspace that looks at one which another thread serves."""

    def __init__(self, layers: Layers, following: Following) -> None:
        self._following = following
        super().__init__(layers)

    def capture(self, rounds: Rounds, *, lasts: bool, flush: Flush | None) -> Captured:
        """Capture one moment of the served tree, which records nothing."""
        del lasts
        rounds.before_each = self.view.forget_all  # it is told no changes
        return capture_live(self._following, self._following, rounds, flush=flush)


def look_beside(
    served: OpenWorkspace,
    action: Callable[[OpenWorkspace], _T],
    *,
    flush: Flush | None = None,
    discard: Callable[[_T], object],
) -> _T:
    """Do what only looks at a workspace while another thread may be changing it.

    `flush` writes out pages that programs have mapped and changed; `discard` closes what is open in a result that is
    not used.

    Raises:
        Disturbed: If each of some tries was.
    """
    standstill = served.standstill
    for _ in range(_TRIES):
        if standstill.is_moving:
            with served.merged.guard:
                pass
        state = _State(served)
        try:
            with _opened(served, state.count, flush) as looking:
                looking.confirm = state.confirm
                result = action(looking)
        except (Disturbed, FileChanging):
            continue
        except (AvfsError, OSError):
            if state.is_confirmed or standstill.count == state.count:
                raise
            continue
        if state.is_confirmed or state.lasts():
            return result
        discard(result)
    raise Disturbed


def look_past(
    vault: OpenVault,
    fork: str,
    action: Callable[[OpenWorkspace], _T],
    *,
    discard: Callable[[_T], object],
    shown_at: Path | None = None,
) -> _T:
    """Do what only looks at a workspace while another process has its lock, and no session or a hung one serves it.

    `discard` closes what is open in a result that is not used. `shown_at` is where the kernel's overlayfs shows the
    workspace.

    Raises:
        Unsettled: If that process is putting another state into place. `action` was not called.
        Disturbed: If the workspace or its branch came to another state meanwhile.
    """
    with contextlib.closing(OpenWorkspace(vault, fork, recover=lambda _: None, looks_on=True)) as looking:

        def read_mark() -> tuple[object, ...]:
            return looking.lock.epoch, looking.layout.read_state(), vault.read_head(fork)

        def confirm() -> None:
            if read_mark() != mark:
                raise Disturbed

        mark = read_mark()
        if looking.lock.is_moving or (isinstance(mark[1], WorkspaceState) and mark[1].pending is not None):
            raise Unsettled
        if shown_at is not None:
            looking.show_at(shown_at)
        looking.confirm = confirm
        try:
            result = action(looking)
        except (AvfsError, OSError) as error:
            if read_mark() != mark:
                raise Disturbed from error
            raise
        if read_mark() != mark:
            discard(result)
            raise Disturbed
        return result


@contextlib.contextmanager
def _opened(served: OpenWorkspace, count: int, flush: Flush | None) -> Iterator[OpenWorkspace]:
    with contextlib.closing(OpenWorkspace(served.vault, served.fork, recover=lambda _: None, looks_on=True)) as looking:
        if served.shown_at is not None:
            looking.show_at(served.shown_at)
        elif isinstance(served.mode, Served) and not served.standstill.is_held:
            with contextlib.closing(Following(served.mode, served.standstill, count)) as following:
                looking.enter(Beside(looking.layers, following))
                looking.flush_pages = flush
                yield looking
            return
        yield looking

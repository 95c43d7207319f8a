"""Looking at a workspace that its session serves, beside what the session does to it.

Decided here: which state of a workspace is shown to who looks while an operation is under way, and for what a look has to wait.
Called by `session.control.control` in a thread of each look; the operation is in another thread, and has the workspace lock. A
look takes no lock but the guard of the tree, for moments, opens the workspace anew from the disk, and writes nothing.

- While programs go on, what is looked at is one moment of the tree: it is captured as a checkpoint captures it, in rounds,
  of which the last one has the guard (`Following`).
- While an operation keeps programs waiting (`Standstill`) and has not begun to change anything, nothing can change: the state
  before that operation is read without the guard.
- Once it has begun to change files, a look waits for its end, as programs do: half of a restore is no state.

In each case the look is repeated where the branch moved meanwhile, or such an operation came in between: files and branch belong
together. On overlayfs nobody keeps programs waiting, and each file is shown as it was at one moment, as in a checkpoint.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Final, TypeVar

from avfs_git.errors import AvfsError, FileChanging
from avfs_git.paths import ROOT, TreePath
from avfs_git.vfs.scan.scan import DirtySet
from avfs_git.workspace.capture.workspace import OpenWorkspace

_TRIES: Final = 5
"""So often a look is repeated; then it waits for its turn."""
_TURN_S: Final = 0.02
_followers_lock = threading.Lock()
_T = TypeVar("_T")


class Disturbed(Exception):
    """What was looked at belongs to no single state."""


class Following:
    """What changes in a served tree while it is looked at; as a context, the guard of that tree."""

    def __init__(self, served: OpenWorkspace, count: int) -> None:
        """Begin to follow, at a count of `Standstill` at which nobody kept programs waiting."""
        self._served = served
        self._count = count
        self._changed: DirtySet | None = DirtySet()
        with _followers_lock:
            served.followers = (*served.followers, self.note)

    def close(self) -> None:
        """Follow no longer."""
        with _followers_lock:
            served = self._served
            served.followers = tuple(each for each in served.followers if each != self.note)

    def note(self, path: TreePath, deep: bool) -> None:
        """Note that a path changed; called with the guard."""
        if self._changed is not None:
            if deep and path == ROOT:
                self._changed = None
            else:
                self._changed.add(path, deep=deep)

    def begin_capture(self, *, lasts: bool) -> DirtySet | None:
        """Begin with a look at all that the fork has changed: which of it is recorded, only the operation knows."""
        del lasts
        self.extend_capture()
        return None

    def extend_capture(self) -> DirtySet | None:
        """Take the paths that have changed since the last call; None if only a scan tells."""
        changed, self._changed = self._changed, DirtySet()
        self._served.merged.report_anew()
        return changed

    def __enter__(self) -> None:
        guard, standstill = self._served.merged.guard, self._served.standstill
        while not guard.acquire(timeout=_TURN_S):
            if standstill.count != self._count:
                raise Disturbed
        if standstill.count != self._count:
            guard.release()
            raise Disturbed

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._served.merged.guard.release()


def look_beside(
    served: OpenWorkspace,
    action: Callable[[OpenWorkspace], _T],
    *,
    flush: Callable[[], object] | None = None,
    discard: Callable[[_T], object],
) -> _T:
    """Do what only looks at a workspace while another thread may be changing it.

    Args:
        served: The workspace, as the session has it.
        action: What is done, with the workspace as it is opened for that.
        flush: Has pages written out that programs have mapped and changed.
        discard: Closes what is open in a result that is not to be used.

    Raises:
        Disturbed: If each of some tries was.
        AvfsError: What the action raises.
    """
    vault, fork, standstill = served.vault, served.fork, served.standstill
    for _ in range(_TRIES):
        if standstill.is_moving:
            with served.merged.guard:
                pass
        count, head = standstill.count, vault.read_head(fork)
        try:
            with _opened(served, count) as looking:
                if looking.following is not None:
                    looking.flush_pages = flush
                result = action(looking)
        except (Disturbed, FileChanging):
            continue
        except (AvfsError, OSError):
            if standstill.count == count:
                raise
            continue
        if standstill.count == count and not standstill.is_moving and vault.read_head(fork) == head:
            return result
        discard(result)
    raise Disturbed


@contextlib.contextmanager
def _opened(served: OpenWorkspace, count: int) -> Iterator[OpenWorkspace]:
    with contextlib.closing(OpenWorkspace(served.vault, served.fork, recover=lambda _: None, looks_on=True)) as looking:
        if served.shown_at is not None:
            looking.show_at(served.shown_at)
        elif not served.standstill.is_held:
            following = looking.following = Following(served, count)
            try:
                yield looking
            finally:
                following.close()
            return
        yield looking

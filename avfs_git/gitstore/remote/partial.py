"""Objects of a partial clone: missing contents are fetched when they are first read.

Decided here: when something is fetched, what comes along, and what happens while the server cannot be reached. Trees
and commits of such a vault are all here (git's `blob:none` filter). A missing blob is fetched with all others that the
same directory lacks, so that a directory costs one request; a caller that knows more beforehand calls `fetch`. A
program that reads one directory after the other (`grep -r`) gets more and more of what is around with each request, up
to a bound. A size comes with its content: git's protocol tells sizes alone by a request that the git command does not
make.

A server that lacks contents says so of one at a time: the reader of that one gets the error, and all others are fetched
without it. The same holds for contents that are not what they should be. Any other failed fetch is an error for the
reader, never a wrong content; the same error is given again for a moment without asking, so that a program that reads
many files ends soon.

Usable from threads, one of which fetches at a time. A thread that serves others calls `wait_elsewhere` and gets
`NotYetHere` where it would have to wait. What was fetched is on disk and serves all forks; a crash leaves nothing that
is believed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from avfs_git.errors import ObjectMissing, RemoteDataRefused, RemoteError
from avfs_git.gitstore.formats.trees import MODE_GITLINK, MODE_TREE
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.source import NotYetHere, Tree
from avfs_git.paths import Oid, oid_of

Fetch = Callable[[Sequence[Oid]], object]
"""Brings objects into the repository; raises RemoteError where that fails."""

_PATIENCE_S = 3.0
"""So long a failure stands."""
_AT_ONCE = 5_000
"""No more blobs come along in one request."""
_READ_ALONE = 2
"""Directories read before more than one content comes along, which spares a program that opens files here and there."""
_READ_AHEAD, _READ_GROWS = 32, 2
"""So many contents come along then, and how many times more with each further request."""
_READ_MOST = 2_000
"""So many come along at most: sizes are not known, and files have 8 KiB on average."""
_READ_PAUSE_S = 30.0
"""After so long without a request the next one is the first again."""
_LOST_TRIES = 8
"""So often what is wanted is asked for again without what the server has said that it lacks."""
_LOOKED_AT = 50_000
"""So many entries are looked at, at most, to find them."""


class PartialObjectStore(ObjectStore):
    """The objects of a repository that may lack the contents of files, for reading."""

    def __init__(self, git_dir: Path, fetch: Fetch) -> None:
        """Open the objects of a repository; reads nothing yet. `fetch` brings missing objects."""
        super().__init__(git_dir)
        self._fetch = fetch
        self._fetching = threading.Lock()
        self._failed: tuple[float, RemoteError] | None = None
        self._lost: set[Oid] = set()
        """What the server lacks, as it has said.

        Asked for again where it is wanted, and never together with other objects.
        """
        self._reads, self._read_at = 0, 0.0
        self._thread = threading.local()

    def wait_elsewhere(self) -> None:
        """Have this thread never wait for the server: it gets `NotYetHere` instead."""
        self._thread.is_impatient = True

    def read(self, oid: Oid) -> tuple[int, bytes]:
        """Read an object: its kind and content; fetch it if it is missing."""
        try:
            return super().read(oid)
        except ObjectMissing:
            self._fetch_with_siblings(oid)
        return super().read(oid)

    def header(self, oid: Oid) -> tuple[int, int]:
        """Say the kind and size of an object; fetch it if it is missing."""
        try:
            return super().header(oid)
        except ObjectMissing:
            self._fetch_with_siblings(oid)
        return super().header(oid)

    def blob_sizes(self, oids: Iterable[Oid]) -> dict[Oid, int]:
        """Say how long many blobs are; fetch the missing ones in few requests."""
        wanted = list(dict.fromkeys(oids))
        self.fetch(wanted)
        return super().blob_sizes(wanted)

    def stream_blob(self, oid: Oid) -> Iterator[bytes]:
        """Read the content of a blob in pieces of at most 1 MiB; fetch it if it is missing."""
        if not self.exists(oid):
            self._fetch_with_siblings(oid)
        yield from super().stream_blob(oid)

    def expect(self, oids: Iterable[Oid]) -> None:
        """Bring blobs that are read next, in few requests."""
        self.fetch(oids)

    def fetch(self, oids: Iterable[Oid]) -> int:
        """Bring those of some objects that are missing, in few requests; return how many those were.

        Raises:
            ObjectMissing: If the server lacks some; the others have come, unless there are many such.
        """
        missing = [oid for oid in dict.fromkeys(oids) if not self.exists(oid)]
        for start in range(0, len(missing), _AT_ONCE):
            self._wait_for(partial(self._bring_these, missing[start : start + _AT_ONCE]))
        return len(missing)

    # --- contents ----------------------------------------------------------------------------------------

    def _fetch_with_siblings(self, oid: Oid) -> None:
        """Bring an object, and what else the directory lacks that it was found in."""
        self._wait_for(partial(self._bring_around, oid))

    def _bring_around(self, oid: Oid) -> None:
        with self._fetching:
            self.packs.refresh()
            if not self.exists(oid):  # another thread may have been faster
                self._bring_now([oid] if oid in self._lost else self._with_siblings(oid), oid)
                if not self.exists(oid):  # else a caller that cannot wait would ask again and again
                    raise ObjectMissing(oid.hex())

    def _with_siblings(self, oid: Oid) -> list[Oid]:
        """Choose what comes along with a content."""
        now = time.monotonic()
        self._reads = self._reads + 1 if now - self._read_at < _READ_PAUSE_S else 1
        self._read_at = now
        steps = self._reads - _READ_ALONE - 1
        ahead = min(_READ_MOST, _READ_AHEAD * _READ_GROWS ** min(steps, 20)) if steps >= 0 else 0
        return self._choose_around(oid, ahead)

    def _is_missing(self, oid: Oid) -> bool:
        return oid not in self._lost and not self.exists(oid)

    def _find_tree(self, oid: Oid) -> tuple[Oid, Tree] | None:
        """Find a directory that holds an object, among the directories that were listed last."""
        for name, tree in [*self._trees.young.items()][::-1]:
            if any(other == oid for _, other in tree.values()):
                return name, tree
        return None

    def _bring_these(self, oids: Sequence[Oid]) -> None:
        with self._fetching:
            self.packs.refresh()
            missing = [oid for oid in oids if not self.exists(oid)]  # as above
            if missing:
                self._bring_now(missing)

    def _bring_now(self, oids: Sequence[Oid], needed: Oid | None = None) -> None:
        """Bring objects that are missing, with the lock held.

        With `needed`, the others only come along with that one.
        """
        self._check_failed()
        lost: ObjectMissing | None = None
        for tries_left in reversed(range(_LOST_TRIES)):
            try:
                self._fetch(oids)
            except ObjectMissing as error:
                oid = oid_of(str(error.details["oid"]))
                self._lost.add(oid)
                oids = [other for other in oids if other != oid]
                if oid == needed or not oids or not tries_left:
                    raise
                if needed is None:
                    lost = lost or error
                elif tries_left == 1:
                    oids = [needed]
            except RemoteDataRefused:
                if needed is None or len(oids) == 1 or not tries_left:
                    raise
                oids = [needed]  # one of the others may be what is wrong
            except RemoteError as error:
                self._failed = (time.monotonic(), error)
                raise
            else:
                break
        self.packs.refresh()
        if lost is not None:
            raise lost

    def _wait_for(self, bring: Callable[[], None]) -> None:
        if getattr(self._thread, "is_impatient", False):
            self._check_failed()  # else a server thread would try again and again, and never tell
            raise NotYetHere(bring)
        bring()

    def _check_failed(self) -> None:
        failed = self._failed
        if failed is not None:
            since, error = failed
            if time.monotonic() - since < _PATIENCE_S:
                raise error
            self._failed = None

    def _choose_around(self, oid: Oid, ahead: int) -> list[Oid]:
        """Choose what comes with a blob: what its directory lacks, then more below, beside and above, up to `ahead`."""
        found = self._find_tree(oid)
        if found is None:
            return [oid]
        here = {other: None for mode, other in found[1].values() if mode not in (MODE_TREE, MODE_GITLINK)}
        wanted: dict[Oid, None] = {
            oid: None,
            **{other: None for other in here if other != oid and self._is_missing(other)},
        }
        most = max(ahead, len(wanted))
        seen: set[Oid] = set()
        looked_at = 0
        waiting = deque([found[0]])
        top: Oid | None = found[0]
        while top is not None and len(wanted) < most and looked_at < _LOOKED_AT:
            while waiting and len(wanted) < most and looked_at < _LOOKED_AT:
                name = waiting.popleft()
                if name in seen:
                    continue
                seen.add(name)
                tree = self.read_tree(name)
                looked_at += len(tree)
                for mode, other in tree.values():
                    if mode == MODE_TREE:
                        waiting.append(other)
                    elif mode != MODE_GITLINK and other not in wanted and other not in here and self._is_missing(other):
                        wanted[other] = None
            above = self._find_tree(top)
            top = above[0] if above is not None and above[0] not in seen else None
            if top is not None:
                waiting.append(top)
        return list(wanted)[:_AT_ONCE]

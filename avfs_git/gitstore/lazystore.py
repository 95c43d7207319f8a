"""Objects of a vault that was cloned without the contents of files: what is missing is fetched when it is first read.

Decided here: when something is fetched, what comes along, and what happens while the server cannot be reached. The trees and
commits of such a vault are all here (git's `blob:none` filter). A blob that is read and missing is fetched with all others
that the same directory lacks, so that a directory costs one request; who knows more beforehand calls `fetch` with all of it.
Who reads one directory after the other (`grep -r`) gets more and more of what is around with each request, up to a bound in
bytes where sizes are known; who reads a few gets no more than those.

Sizes are asked for without contents where the server tells them (`objectinfo`), those of a whole directory in one request, then
of more and more around it, because who lists one directory mostly lists others; they are kept on disk (`knownsizes`).
Elsewhere, which is found out once, a size comes with its content. So does the first one that a program in a live tree looks up by
name, which mostly opens the file next: asking whether the server tells sizes would only add to what it waits for.

A server that lacks a content says so of one at a time; who wanted that is told, and all others go without it. So do they where
what it sends is not what it should be. Any other failed fetch is an error of whoever wanted the content, never a wrong content;
for a moment afterwards the same error is given without asking again, so that a program that reads many files ends soon, and then
the server is asked again. A size that was told and turns out not to be true is an error of whoever reads that content in this
process, which may have told others; later ones know the right size, because nothing that the server has told is believed any
more.

Usable from threads, one of which fetches at a time. A thread that serves others calls `wait_elsewhere` and gets `NotYetHere`
where it would have to wait. What was fetched is on disk and serves all forks; a crash in the middle leaves nothing that is
believed.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

from avfs_git.errors import ObjectMissing, RemoteDataRefused, RemoteError
from avfs_git.gitstore.knownsizes import KnownSizes
from avfs_git.gitstore.objects import KIND_BLOB, ObjectStore, wrong_kind
from avfs_git.gitstore.source import NotYetHere, Tree
from avfs_git.gitstore.trees import MODE_GITLINK, MODE_TREE
from avfs_git.lazy import LazyLogger
from avfs_git.paths import Oid

_LOG = LazyLogger(__name__)

Fetch = Callable[[Sequence[Oid]], object]
"""Brings objects into the repository; raises RemoteError where that fails."""
AskSizes = Callable[[Sequence[Oid]], Mapping[Oid, int] | None]
"""Asks how long blobs are; None where the server does not tell. Raises RemoteError where it cannot be asked."""

_PATIENCE_S = 3.0
"""So long a failure stands."""
_AT_ONCE = 5_000
"""No more blobs come along in one request."""
_AHEAD_FIRST, _AHEAD_GROWS = 64, 8
"""So many sizes are asked for beyond a directory, and how many times more with each further request."""
_READ_ALONE = 2
"""So many directories are read before more than one comes along, which a program that opens a file here and there is spared."""
_READ_AHEAD, _READ_GROWS = 32, 2
"""So many contents come along then, and how many times more with each further request."""
_READ_BYTES, _READ_BYTES_EACH = 16 << 20, 1 << 20
"""So many bytes come along, and of how large a file at most."""
_READ_GUESS = 8 << 10
"""What a file is taken for whose size is not known."""
_READ_PAUSE_S = 30.0
"""After so long without a request the next one is the first again."""
_LOST_TRIES = 8
"""So often what is wanted is asked for again without what the server has said that it lacks."""
_LOOKED_AT = 50_000
"""So many entries are looked at, at most, to find them."""


class LazyObjectStore(ObjectStore):
    """The objects of a repository that may lack the contents of files, for reading."""

    def __init__(self, git_dir: Path, fetch: Fetch, ask_sizes: AskSizes | None = None, sizes: Path | None = None) -> None:
        """Open the objects of a repository; reads nothing yet.

        Args:
            git_dir: The repository.
            fetch: Brings what is missing.
            ask_sizes: Asks for sizes.
            sizes: The directory that keeps sizes; without it none are asked for.
        """
        super().__init__(git_dir)
        self._fetch = fetch
        self._fetching = threading.Lock()
        self._failed: tuple[float, RemoteError] | None = None
        self._ask = ask_sizes if sizes is not None else None
        self._known = KnownSizes(sizes) if sizes is not None else None
        self._told: dict[Oid, int] = {}
        """The sizes that this process has believed. Never forgotten: each may be known to a kernel, or a program."""
        self._untold: set[Oid] = set()
        """What the server was asked for the sizes of, and knows nothing of."""
        self._lost: set[Oid] = set()
        """What the server lacks, as it has said. Asked for again where it is wanted, and never along with other things."""
        self._ahead = _AHEAD_FIRST
        self._reads, self._read_at = 0, 0.0
        self._is_new = True
        """Whether nothing was asked for or fetched yet."""
        self._thread = threading.local()

    def wait_elsewhere(self) -> None:
        """Have this thread never wait for the server: it gets `NotYetHere` instead."""
        self._thread.is_impatient = True

    def read(self, oid: Oid) -> tuple[int, bytes]:
        """Read an object: its kind and content; fetch it if it is missing.

        Raises:
            ObjectMissing: If it is not there, and the server has none either.
            RemoteError: If it is missing and the server cannot be asked, or is as long as the server did not say.
            ObjectCorrupt: If its content is not what its id says.
        """
        self._check_told(oid)
        try:
            return super().read(oid)
        except ObjectMissing:
            self._fetch_with_siblings(oid)
        self._check_told(oid)
        return super().read(oid)

    def header(self, oid: Oid) -> tuple[int, int]:
        """Say the kind and size of an object; fetch it if it is missing.

        Raises:
            ObjectMissing: If it is not there, and the server has none either.
            RemoteError: If it is missing and the server cannot be asked.
            ObjectCorrupt: If its header makes no sense.
        """
        try:
            return super().header(oid)
        except ObjectMissing:
            self._fetch_with_siblings(oid)
        return super().header(oid)

    def blob_size(self, oid: Oid) -> int:
        """Say how long a blob is; ask the server if it is missing, or fetch it where the server does not tell.

        Raises:
            ObjectMissing: If it is not there, and the server has none either.
            RemoteError: If it is missing and the server cannot be asked.
            ObjectCorrupt: If it is no blob.
        """
        size = self._told.get(oid)
        if size is None:
            size = self._sizes.get(oid)
            if size is None:
                size = self._size_here(oid)
                if size is None:
                    size = self._size_told(oid)
                    if size is None:
                        return super().blob_size(oid)
        return size

    def blob_sizes(self, oids: Iterable[Oid]) -> dict[Oid, int]:
        """Say how long many blobs are, in few requests.

        Raises:
            ObjectMissing, RemoteError: As `blob_size`.
        """
        wanted = list(dict.fromkeys(oids))
        missing = [oid for oid in wanted if oid not in self._told and not self.exists(oid)]
        self._believe_known(missing)
        missing = [oid for oid in missing if oid not in self._told and oid not in self._untold]
        if missing and self._ask is not None:
            self._ask_for(missing)
        told = {oid: self._told[oid] for oid in wanted if oid in self._told}
        rest = [oid for oid in wanted if oid not in told]
        self.fetch(rest)
        return {**super().blob_sizes(rest), **told}

    def stream_blob(self, oid: Oid) -> Iterator[bytes]:
        """Read the content of a blob in pieces of at most 1 MiB; fetch it if it is missing.

        Raises:
            ObjectMissing: If it is not there, and the server has none either.
            RemoteError: If it is missing and the server cannot be asked, or is as long as the server did not say.
            ObjectCorrupt: If its content is not what its id says, or it is no blob.
        """
        if not self.exists(oid):
            self._fetch_with_siblings(oid)
        self._check_told(oid)
        yield from super().stream_blob(oid)

    def expect(self, oids: Iterable[Oid]) -> None:
        """Bring blobs that are read next, in few requests.

        Raises:
            RemoteError: If the server cannot be asked.
        """
        self.fetch(oids)

    def fetch(self, oids: Iterable[Oid]) -> int:
        """Bring those of some objects that are missing, in few requests; return how many those were.

        Raises:
            ObjectMissing: If the server lacks some; the others have come, unless there are many such.
            RemoteError: If the server cannot be asked.
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
                if not self.exists(oid):  # else who cannot wait would come again and again
                    raise ObjectMissing(oid.hex())

    def _with_siblings(self, oid: Oid) -> list[Oid]:
        """Choose what comes along with a content."""
        now = time.monotonic()
        self._reads = self._reads + 1 if now - self._read_at < _READ_PAUSE_S else 1
        self._read_at = now
        steps = self._reads - _READ_ALONE - 1
        ahead = min(_AT_ONCE, _READ_AHEAD * _READ_GROWS ** min(steps, 20)) if steps >= 0 else 0
        room = _READ_BYTES

        def takes(other: Oid) -> bool:
            nonlocal room
            size = self._told.get(other, _READ_GUESS)
            if size > min(_READ_BYTES_EACH, room) or other in self._lost or self.exists(other):
                return False
            room -= size
            return True

        return self._choose_around(oid, ahead, lambda other: other not in self._lost and not self.exists(other), takes)

    def _find_tree(self, oid: Oid) -> tuple[Oid, Tree] | None:
        """Find a directory that holds something, among those that were looked at last."""
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
        """Bring objects that are missing. Called with the lock held.

        Args:
            oids: Which.
            needed: The one of them that the others only come along with; without it, all are needed.
        """
        self._check_failed()
        self._is_new = False
        lost: ObjectMissing | None = None
        for tries_left in reversed(range(_LOST_TRIES)):
            try:
                self._fetch(oids)
            except ObjectMissing as error:
                oid = Oid(bytes.fromhex(str(error.details["oid"])))
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

    def _wait_for(self, bring: Callable[[], None], bring_whole: Callable[[], None] | None = None) -> None:
        if getattr(self._thread, "is_impatient", False):
            self._check_failed()  # else who serves others would try again and again, and never tell
            raise NotYetHere(bring, bring_whole)
        bring()

    def _check_failed(self) -> None:
        failed = self._failed
        if failed is not None:
            since, error = failed
            if time.monotonic() - since < _PATIENCE_S:
                raise error
            self._failed = None

    # --- sizes -------------------------------------------------------------------------------------------

    def _size_here(self, oid: Oid) -> int | None:
        """Tell the size of a blob that is here; None if it is not."""
        try:
            kind, size = super().header(oid)
        except ObjectMissing:
            return None
        if kind != KIND_BLOB:
            raise wrong_kind(oid, kind, KIND_BLOB)
        self._sizes.put(oid, size)
        return size

    def _size_told(self, oid: Oid) -> int | None:
        """Tell a size as the server has told it, now or before; None if it does not."""
        if self._known is None or oid in self._untold:
            return None
        self._believe_known([oid])
        if oid not in self._told and self._ask is not None:
            if self._known.is_silent:
                self._ask = None
                return None
            whole = partial(self._bring_around, oid) if self._is_new and not self._known.is_telling else None
            self._wait_for(partial(self._ask_around, oid), whole)
        return self._told.get(oid)

    def _believe_known(self, oids: Iterable[Oid]) -> None:
        """Take what is kept on disk of what the server has told."""
        if self._known is None:
            return
        for oid in oids:
            size = self._known.find(oid)
            if size is not None:
                self._told[oid] = size

    def _ask_around(self, oid: Oid) -> None:
        with self._fetching:
            if oid not in self._told and oid not in self._untold:  # another thread may have been faster
                ahead = self._ahead
                self._ahead = min(_AT_ONCE, ahead * _AHEAD_GROWS)
                self._ask_now(self._choose_around(oid, ahead, self._lacks_size, self._lacks_size))

    def _lacks_size(self, oid: Oid) -> bool:
        return oid not in self._told and oid not in self._untold and not self.exists(oid)

    def _ask_for(self, oids: Sequence[Oid]) -> None:
        def ask() -> None:
            with self._fetching:
                self._ask_now(oids)

        self._wait_for(ask)

    def _ask_now(self, oids: Sequence[Oid]) -> None:
        """Ask for sizes. Called with the lock held."""
        known, ask = self._known, self._ask
        if known is None or ask is None:
            return
        self._check_failed()
        if known.is_refused or known.is_full:
            self._ask = None
            return
        self._is_new = False
        try:
            sizes = ask(oids)
        except RemoteDataRefused as error:
            _LOG.warning("the server is not asked for sizes any more: %s", error.message)
            sizes = None
        except RemoteError as error:
            self._failed = (time.monotonic(), error)
            raise
        if sizes is None:
            _LOG.info("the server tells no sizes: they come with contents")
            self._ask = None
            known.note_silent()
            return
        known.add(sizes)
        self._told.update(sizes)
        self._untold.update(oid for oid in oids if oid not in sizes)

    def _choose_around(self, oid: Oid, ahead: int, lacks: Callable[[Oid], bool], takes: Callable[[Oid], bool]) -> list[Oid]:
        """Choose what comes along with a blob: what its directory lacks, and so much of what is below, beside and above it."""
        found = self._find_tree(oid)
        if found is None:
            return [oid]
        here = {other: None for mode, other in found[1].values() if mode not in (MODE_TREE, MODE_GITLINK)}
        wanted: dict[Oid, None] = {oid: None, **{other: None for other in here if other != oid and lacks(other)}}
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
                    elif mode != MODE_GITLINK and other not in wanted and other not in here and takes(other):
                        wanted[other] = None
            above = self._find_tree(top)
            top = above[0] if above is not None and above[0] not in seen else None
            if top is not None:
                waiting.append(top)
        return list(wanted)[:_AT_ONCE]

    def _check_told(self, oid: Oid) -> None:
        """Compare what the server has told of the size of a blob with what is here.

        Raises:
            RemoteDataRefused: If it is not true.
        """
        known = self._known
        if known is None:
            return
        told = self._told.get(oid)
        if told is None:
            told = known.find(oid)  # a process before this one may have told it to a kernel
            if told is None:
                return
        try:
            size = super().header(oid)[1]
        except ObjectMissing:
            return
        if size != told:
            self._ask = None
            known.refuse()
            reason = f"it said that {oid.hex()} is {told} bytes long, and it is {size}"
            error = RemoteDataRefused("the server", reason)
            error.hint = "No size that it has told is believed any more: mount again, or start the command again."
            raise error

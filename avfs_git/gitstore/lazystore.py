"""Objects of a vault that was cloned without the contents of files: what is missing is fetched when it is first read.

Decided here: when something is fetched, what comes along, and what happens while the server cannot be reached. The trees and
commits of such a vault are all here (git's `blob:none` filter). A blob that is read and missing is fetched with all others
that the same directory lacks, so that a directory costs one request; who knows more beforehand calls `fetch` with all of it.

A failed fetch is an error of whoever wanted the content, never a wrong content; for a moment afterwards the same error is given
without asking again, so that a program that reads many files ends soon, and then the server is asked again.

Usable from threads, one of which fetches at a time. What was fetched is on disk and serves all forks; a crash in the middle
leaves nothing that is believed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from avfs_git.errors import ObjectMissing, RemoteError
from avfs_git.gitstore.objects import ObjectStore
from avfs_git.gitstore.trees import MODE_GITLINK, MODE_TREE
from avfs_git.paths import Oid

Fetch = Callable[[Sequence[Oid]], object]
"""Brings objects into the repository; raises RemoteError where that fails."""

_PATIENCE_S = 3.0
"""So long a failure stands."""
_AT_ONCE = 5_000
"""No more blobs come along in one request."""


class LazyObjectStore(ObjectStore):
    """The objects of a repository that may lack the contents of files, for reading."""

    def __init__(self, git_dir: Path, fetch: Fetch) -> None:
        """Open the objects of a repository; reads nothing yet.

        Args:
            git_dir: The repository.
            fetch: Brings what is missing.
        """
        super().__init__(git_dir)
        self._fetch = fetch
        self._fetching = threading.Lock()
        self._failed: tuple[float, RemoteError] | None = None

    def read(self, oid: Oid) -> tuple[int, bytes]:
        """Read an object: its kind and content; fetch it if it is missing.

        Raises:
            ObjectMissing: If it is not there, and the server has none either.
            RemoteError: If it is missing and the server cannot be asked.
            ObjectCorrupt: If its content is not what its id says.
        """
        try:
            return super().read(oid)
        except ObjectMissing:
            self._fetch_with_siblings(oid)
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

    def blob_sizes(self, oids: Iterable[Oid]) -> dict[Oid, int]:
        """Say how long many blobs are; fetch those that are missing in one request.

        Raises:
            ObjectMissing, RemoteError: As `header`.
        """
        wanted = list(oids)
        self.fetch(wanted)
        return super().blob_sizes(wanted)

    def fetch(self, oids: Iterable[Oid]) -> int:
        """Bring those of some objects that are missing, in few requests; return how many those were.

        Raises:
            RemoteError: If the server cannot be asked.
        """
        missing = [oid for oid in dict.fromkeys(oids) if not self.exists(oid)]
        for start in range(0, len(missing), _AT_ONCE):
            self._bring(missing[start : start + _AT_ONCE])
        return len(missing)

    def _fetch_with_siblings(self, oid: Oid) -> None:
        """Bring an object, and what else the directory lacks that it was found in."""
        wanted = [oid]
        for tree in [*self._trees.young.values()][::-1]:
            found = [other for mode, other in tree.values() if mode not in (MODE_TREE, MODE_GITLINK)]
            if oid in found:
                wanted += [other for other in found[:_AT_ONCE] if other != oid and not self.exists(other)]
                break
        self._bring(wanted)

    def _bring(self, oids: Sequence[Oid]) -> None:
        with self._fetching:
            if self._failed is not None:
                since, error = self._failed
                if time.monotonic() - since < _PATIENCE_S:
                    raise error
                self._failed = None
            self.packs.refresh()
            missing = [oid for oid in dict.fromkeys(oids) if not self.exists(oid)]  # another thread may have been faster
            if not missing:
                return
            try:
                self._fetch(missing)
            except RemoteError as error:
                self._failed = (time.monotonic(), error)
                raise
            self.packs.refresh()

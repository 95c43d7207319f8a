"""Looking through the workspaces of several forks of a vault: grep, search, find.

Decided here: names and arguments of the public API for them, and that a fork which lacks a path is passed over if
another has it. Callers may use several threads and processes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, TypeVar, Unpack

from avfs_git.errors import ForkNotFound, PathNotFound
from avfs_git.model import FindResult, ForkInfo, GrepHit, GrepQuery, GrepResult, SearchResult
from avfs_git.paths import PathLike, list_given
from avfs_git.sdk.parts import grep, lent
from avfs_git.sdk.workspace.searching import WorkspaceSearch, make_grep_query

if TYPE_CHECKING:
    from avfs_git.sdk.dispatch import Dispatch
    from avfs_git.sdk.options import FindOptions, GrepOptions
    from avfs_git.workspace.vault.vault import OpenVault

_T = TypeVar("_T")


class VaultSearch:
    """Looking through the workspaces of several forks."""

    _core: OpenVault
    _dispatch: Dispatch

    if TYPE_CHECKING:  # these are the vault's own

        def workspace(self, fork: str | None = None) -> WorkspaceSearch: ...  # noqa: D102 - as above
        def list_forks(self) -> list[ForkInfo]: ...  # noqa: D102 - as above

    def grep(
        self,
        pattern: str | bytes,
        paths: Sequence[PathLike] = (),
        *,
        forks: Sequence[str] = (),
        **options: Unpack[GrepOptions],
    ) -> list[GrepResult]:
        """Search the workspaces of several forks, all of them if none is named: `Workspace.grep` of each.

        What the forks have in common is searched once.

        Raises:
            PathNotFound: If nothing is at one of the paths in any of the forks.
        """
        query, objects = make_grep_query(pattern, paths, options), lent.LentObjects(self._core)
        states = self._look(objects, forks, query)
        return grep.grep(objects, states, query)

    def grep_stream(
        self,
        pattern: str | bytes,
        paths: Sequence[PathLike] = (),
        *,
        forks: Sequence[str] = (),
        **options: Unpack[GrepOptions],
    ) -> Generator[GrepHit]:
        """Find what `grep` finds, and give each match as git finds it: `Workspace.grep_stream` of several forks.

        What the forks have in common comes first, each match once for each fork.

        Raises:
            PathNotFound: If nothing is at one of the paths in any of the forks.
        """
        query, objects = make_grep_query(pattern, paths, options), lent.LentObjects(self._core)
        states = self._look(objects, forks, query)
        self._dispatch.tell([warning for state in states for warning in state.warnings])
        yield from grep.stream(objects, states, query)

    def _look(self, objects: lent.LentObjects, forks: Sequence[str], query: GrepQuery) -> list[lent.State]:
        return self._each(forks, lambda workspace: workspace._look(objects, query))  # noqa: SLF001 - one interface

    def search(
        self, words: str, paths: Sequence[PathLike] = (), *, forks: Sequence[str] = (), limit: int = 20
    ) -> list[SearchResult]:
        """Search the workspaces of several forks for words, all forks if none is named: `Workspace.search` of each.

        Raises:
            PathNotFound: If nothing is at one of the paths in any of the forks.
        """
        return self._each(forks, lambda workspace: workspace.search(words, paths, limit=limit))

    def find(
        self, *names: str, paths: Sequence[PathLike] = (), forks: Sequence[str] = (), **options: Unpack[FindOptions]
    ) -> list[FindResult]:
        """Look through the workspaces of several forks, all of them if none is named: `Workspace.find` of each.

        Raises:
            PathNotFound: If nothing is at one of the paths in any of the forks.
        """
        return self._each(forks, lambda workspace: workspace.find(*names, paths=paths, **options))

    def _each(self, forks: Sequence[str], look: Callable[[WorkspaceSearch], _T]) -> list[_T]:
        """Look at each of some forks, or of all; one that lacks a path is passed over if another has it."""
        found: list[_T] = []
        missing: PathNotFound | None = None
        for fork in dict.fromkeys(list_given(forks)) or [info.name for info in self.list_forks()]:
            try:
                found.append(look(self.workspace(fork)))
            except PathNotFound as error:
                missing = error
            except ForkNotFound:
                if forks:
                    raise  # else it was deleted since it was listed
        if missing is not None and not found:
            raise missing
        return found

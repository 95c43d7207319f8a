"""Looking through the files of a workspace: grep, search, find.

Decided here: names and arguments of the public API for them, and what their options mean. `sdk.repository.searching`
does the same for several forks. Each method looks at one state; callers may use several threads and processes. Nothing
is written but the index of `search`, which can be made again.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Unpack

from avfs_git.errors import InvalidInput, quote
from avfs_git.model import (
    FindQuery,
    FindResult,
    GrepHit,
    GrepOutcome,
    GrepQuery,
    GrepResult,
    GrepSyntax,
    HistorySearchResult,
    Kind,
    MetaCondition,
    SearchQuery,
    SearchResult,
)
from avfs_git.paths import PathLike, encode_given, list_given, parse_tree_paths
from avfs_git.sdk.parts import find, grep, lent, removed, revisions, search

if TYPE_CHECKING:
    from avfs_git.sdk.handle import ForkHandle
    from avfs_git.sdk.options import FindOptions, GrepOptions


class WorkspaceSearch:
    """What a workspace is looked through for."""

    _at: ForkHandle
    fork: str
    """The fork."""

    def grep(
        self,
        pattern: str | bytes,
        paths: Sequence[PathLike] = (),
        *,
        at: str | None = None,
        **options: Unpack[GrepOptions],
    ) -> GrepResult:
        """Find the lines of files that match a pattern, in the workspace as it is or in another state.

        Reads no checkout.

        Git searches: what a binary file is, and what the pattern means, is as in `git grep -E`. Symbolic links and
        submodules are not searched.

        Args:
            pattern: A regular expression; several are separated by newlines.
            paths: Search only these files, and files below these directories.
            at: The checkpoint or fork to search, without what is not committed there.
            options: How to search; see `GrepOptions`.

        Raises:
            InvalidInput: If the pattern, a glob or an option cannot mean anything.
            PathNotFound: If nothing is at one of the paths.
            CheckpointNotFound: If no state has the name.
            FileChanging: If a file keeps changing while it is searched.
        """
        query = make_grep_query(pattern, paths, options)
        objects = self._at.make_objects()
        states = [self._look(objects, query, at)]
        return grep.grep(objects, states, query)[0]

    def grep_stream(
        self,
        pattern: str | bytes,
        paths: Sequence[PathLike] = (),
        *,
        at: str | None = None,
        **options: Unpack[GrepOptions],
    ) -> Generator[GrepHit]:
        """Find what `grep` finds, and give each match as git finds it: however many there are, none is kept.

        The workspace is captured at the first match that is asked for; closing the iterator ends the search. What a
        `GrepResult` has as warnings goes to `on_warnings` of the home.

        Args:
            pattern: As for `grep`, as are all others.
            paths: Search only these files, and files below these directories.
            at: The checkpoint or fork to search.
            options: How to search; see `GrepOptions`.

        Raises:
            InvalidInput, PathNotFound, CheckpointNotFound, FileChanging: As `grep`, when the first match is asked for.
        """
        query = make_grep_query(pattern, paths, options)
        objects = self._at.make_objects()
        states = [self._look(objects, query, at)]
        self._at.dispatch.tell(states[0].warnings)
        yield from grep.stream(objects, states, query)

    def _look(self, objects: lent.LentObjects, query: GrepQuery, at: str | None = None) -> lent.State:
        return self._at.look(objects, at, paths=query.paths, ignored=query.ignored)

    def search(
        self, words: str, paths: Sequence[PathLike] = (), *, at: str | None = None, limit: int = 20
    ) -> SearchResult:
        """Find the files that have all of some words, the best first, with a line of each. Reads no checkout.

        A word is letters, digits and underscores; case and accents do not count. The parts of identifiers are words,
        too: `tree` finds `parseTree` and `parse_tree`, and `pars*` finds both. Binary files, symbolic links and ignored
        files are not searched. The vault keeps an index, in which each content stands once for all forks and
        checkpoints.

        Args:
            words: The words.
            paths: Search only these files, and files below these directories.
            at: The checkpoint or fork to search, without what is not committed there.
            limit: Give at most so many files.

        Raises:
            InvalidInput: If there is no word, or more than 32, or the limit is below 1.
            PathNotFound: If nothing is at one of the paths.
            CheckpointNotFound: If no state has the name.
            FileChanging: If a file keeps changing while it is searched.
        """
        query = SearchQuery(words, tuple(parse_tree_paths(paths)), limit)
        search.check_query(query)
        if at is None:
            self._at.indexed = search.prepare(self._at.core, self.fork, indexed=self._at.indexed)
        objects = self._at.make_objects()
        return search.search(self._at.core, objects, self._at.look(objects, at, paths=query.paths), query)

    def search_history(
        self, words: str, paths: Sequence[PathLike] = (), *, at: str | None = None, limit: int = 20
    ) -> HistorySearchResult:
        """Find removed contents with all of some words: which commit removed each, with its author, newest first.

        A content is found where a commit has nothing at its path any more, or a content without the words. Changes that
        are not committed do not count. The first search of a history costs each of its commits, later ones the new
        commits.

        Args:
            words: The words, as for `search`.
            paths: Search only what these files and directories were.
            at: The checkpoint or fork whose history is searched. If not given: this fork.
            limit: Give at most so many contents.

        Raises:
            InvalidInput: If there is no word, or more than 32, or the limit is below 1.
            CheckpointNotFound: If no state has the name.
        """
        query = SearchQuery(words, tuple(parse_tree_paths(paths)), limit)
        head = revisions.resolve_revision(self._at.core, at if at is not None else "HEAD", fork=self.fork)
        return removed.search_history(self._at.core, self.fork, head, query)

    def find(
        self, *names: str, paths: Sequence[PathLike] = (), at: str | None = None, **options: Unpack[FindOptions]
    ) -> FindResult:
        """Find entries by name and other facts, in the workspace as it is or in another state. Reads no checkout.

        Args:
            names: Globs, of which one matches the name or, with a slash, the path; `**` stands for any directories.
            paths: Find only these, and what is below them.
            at: The checkpoint or fork to look through, without what is not committed there.
            options: Other conditions; see `FindOptions`.

        Raises:
            InvalidInput: If a glob or an option cannot mean anything.
            PathNotFound: If nothing is at one of the paths.
            CheckpointNotFound: If no state has the name.
        """
        query = _make_find_query(names, paths, options)
        find.check_query(query)
        objects = self._at.make_objects()
        return find.find(self._at.core, objects, self._at.look(objects, at, paths=query.paths, contents=False), query)


def _make_find_query(names: Sequence[str], paths: Sequence[PathLike], options: FindOptions) -> FindQuery:
    """Make the query of `Workspace.find`.

    Raises:
        InvalidInput: If an option cannot mean anything.
    """
    try:
        kinds = tuple(map(Kind, list_given(options.get("kinds", ()))))
    except ValueError as error:
        raise InvalidInput(str(error), hint=f"Choose of {', '.join(Kind)}.") from None
    meta = options.get("meta", {}).items()
    given = {
        **options,
        "kinds": kinds,
        "tags": tuple(list_given(options.get("tags", ()))),
        "meta": tuple(MetaCondition(key, None if value is None else encode_given(value)) for key, value in meta),
    }
    return FindQuery(tuple(map(encode_given, names)), paths=tuple(parse_tree_paths(paths)), **given)  # type: ignore[arg-type]


def make_grep_query(pattern: str | bytes, paths: Sequence[PathLike], options: GrepOptions) -> GrepQuery:
    """Make the query of a search.

    Raises:
        InvalidInput: If an option cannot mean anything.
    """
    fixed, perl, outcome = (
        options.get("fixed", False),
        options.get("perl", False),
        options.get("outcome", GrepOutcome.LINES),
    )
    if fixed and perl:
        raise InvalidInput("a pattern is either a text or a Perl-compatible regular expression")
    try:
        chosen = GrepOutcome(outcome)
    except ValueError:
        known = ", ".join(GrepOutcome)
        raise InvalidInput(f"a search cannot give {quote(str(outcome))}", hint=f"Choose one of {known}.") from None
    given = {
        **{name: value for name, value in options.items() if name not in ("fixed", "perl")},
        "outcome": chosen,
        "include": tuple(map(encode_given, list_given(options.get("include", ())))),
        "exclude": tuple(map(encode_given, list_given(options.get("exclude", ())))),
        "syntax": GrepSyntax.FIXED if fixed else GrepSyntax.PERL if perl else GrepSyntax.EXTENDED,
    }
    return GrepQuery(encode_given(pattern), paths=tuple(parse_tree_paths(paths)), **given)  # type: ignore[arg-type]

"""Full text search of contents that are gone: which commit removed them, with its author and time.

Decided here: what is gone. A content counts that a commit of the history has at a path where the next commit has
nothing, or a content without the words, unless the searched state has the same content somewhere. A merge counts where
it differs from each parent, as in `git log -c`; a file that a commit moves as it is has not gone. What each commit
removed stands in the index, once for all forks. Takes no lock; called by the SDK. A crash leaves an index with fewer
commits.
"""

from __future__ import annotations

from collections.abc import Iterator

from avfs_git.gitstore.compare.treediff import Entry, find_differences
from avfs_git.gitstore.compare.walk import log
from avfs_git.gitstore.formats.commits import Commit
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.repository import read_shallow
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import HistorySearchResult, RemovedFile, SearchQuery, UnsearchedFile
from avfs_git.paths import Oid, at_most
from avfs_git.workspace.history.blame import describe_commits
from avfs_git.workspace.search.excerpts import Excerpts
from avfs_git.workspace.search.index import Index, Removal, RemovedHit
from avfs_git.workspace.search.search import SKIPPED, ask, bring_up, check_query, prepare, within
from avfs_git.workspace.vault.states import tree_of
from avfs_git.workspace.vault.vault import OpenVault

_BATCH = 200
"""Commits of one transaction: an interrupted search keeps the finished transactions."""


def search_history(vault: OpenVault, fork: str, head: Oid, query: SearchQuery) -> HistorySearchResult:
    """Search the history of a commit for contents that it does not have any more.

    Raises:
        InvalidInput: If the query has no word, or too many.
        ObjectMissing: If the history is damaged.
    """
    terms = check_query(query)
    source = DryWriter(vault.store)
    shallow = read_shallow(vault.git_dir)
    commits = log(vault.store, [head], shallow=shallow)
    order = {oid: number for number, (oid, _) in enumerate(commits)}

    def find(index: Index) -> tuple[list[RemovedHit], list[UnsearchedFile]]:
        lacking = [(oid, commit) for oid, commit in reversed(commits) if index.lacks_commit(oid)]
        for start in range(0, len(lacking), _BATCH):
            batch = lacking[start : start + _BATCH]
            index.add_removals(
                source, {oid: [*_list_removals(source, commit, oid in shallow)] for oid, commit in batch}
            )
        found = None
        while found is None:  # until no other process changes the base meanwhile
            found = index.find_removed(*bring_up(index, source, tree_of(commits[0][1])), terms)
        hits, unsearched = found
        missed = {
            (path, reason) for path, reason, commit in unsearched if commit in order and within(query.paths, path)
        }
        return hits, [UnsearchedFile(path, reason) for path, reason in sorted(missed)]

    prepare(vault, fork)
    found, unsearched = ask(vault.layout.search_index, find)
    found = [hit for hit in found if hit.commit in order and within(query.paths, hit.path)]
    found.sort(key=lambda hit: order[hit.commit], reverse=True)
    latest = {(hit.path, hit.oid): hit for hit in found}
    gone = sorted(latest.values(), key=lambda hit: (order[hit.commit], -hit.score, hit.path))
    shown, excerpts = gone[: at_most(query.limit)], Excerpts(terms)
    makers = {commit.id: commit for commit in describe_commits(vault, dict.fromkeys(hit.commit for hit in shown))}
    removed = tuple(
        RemovedFile(
            hit.path,
            hit.oid.hex(),
            hit.score,
            excerpts.choose(source.read_blob(hit.oid)),
            hit.parent.hex(),
            makers[hit.commit.hex()],
        )
        for hit in shown
    )
    return HistorySearchResult(fork, head.hex(), len(gone), removed, tuple(unsearched))


def _list_removals(source: ObjectSource, commit: Commit, is_shallow: bool) -> Iterator[Removal]:
    """List the contents that a commit removed or replaced, of files that it differs in from each of its parents."""
    if is_shallow or not commit.parents:
        return
    tree = tree_of(commit)
    sides = [find_differences(source, tree_of(source.read_commit(parent)), tree) for parent in commit.parents]
    paths = set(sides[0]).intersection(*sides[1:])
    come = {_content(now) for path in paths for was, now in [sides[0][path]] if _content(was) is None}
    for parent, side in zip(commit.parents, sides, strict=True):
        for path in paths:
            gone, now = map(_content, side[path])
            if gone is not None and gone != now and gone not in come:
                yield Removal(path, gone, now, parent)


def _content(entry: Entry | None) -> Oid | None:
    return entry[1] if entry is not None and entry[0] not in SKIPPED else None

"""Text in files, and looking for files: what `Workspace.read_text`, `edit`, `walk`, `glob` and their like are made of.

Decided here: what an edit needs to be certain, and what a pattern of names means. Each function calls methods of the workspace
and keeps nothing; any thread may call them. An edit is one write: a crash leaves the file as it was, or edited.
"""

from __future__ import annotations

import difflib
import fnmatch
import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from avfs_git.errors import InvalidInput, PathUnsuitable, quote
from avfs_git.model import EditResult, FileInfo, FindQuery, GrepOutcome, GrepQuery, GrepSyntax, Kind
from avfs_git.paths import PathLike, parse_tree_path, parse_tree_paths, show_path

if TYPE_CHECKING:
    from avfs_git.sdk.options import FindOptions, GrepOptions
    from avfs_git.sdk.workspace import Workspace

_ANY = "**"


def read_text(workspace: Workspace, path: PathLike) -> str:
    """Read a file as `Workspace.read_text` does."""
    try:
        return workspace.read(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise PathUnsuitable(parse_tree_path(path), f"is not text in UTF-8, at byte {error.start}") from error


def edit(
    workspace: Workspace, path: PathLike, edits: Sequence[tuple[str, str]], *, replace_all: bool, dry_run: bool
) -> EditResult:
    """Edit a file as `Workspace.edit` does."""
    if not edits:
        raise InvalidInput("an edit needs an old and a new text")
    tree_path = parse_tree_path(path)
    info = workspace.stat(tree_path, with_oid=True, follow=True)
    before = text = read_text(workspace, tree_path)
    replacements = 0
    for old, new in edits:
        found = text.count(old) if old else 0
        if not found:
            raise PathUnsuitable(tree_path, f"does not have the text {quote(old)}; nothing was written")
        if found > 1 and not replace_all:
            raise PathUnsuitable(tree_path, f"has the text {quote(old)} {found} times; nothing was written")
        text = text.replace(old, new)
        replacements += found
    name = show_path(tree_path)
    lines = difflib.unified_diff(before.splitlines(keepends=True), text.splitlines(keepends=True), f"a/{name}", f"b/{name}")
    patch = "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
    file = None if dry_run else workspace.write(tree_path, text.encode(), expect=info.oid)
    return EditResult(tree_path, replacements, patch.encode(), file)


def walk(workspace: Workspace, path: PathLike) -> Iterator[FileInfo]:
    """Visit what is below a directory as `Workspace.walk` does."""
    pending = list(reversed(workspace.list_dir(path)))
    while pending:
        info = pending.pop()
        yield info
        if info.kind is Kind.DIRECTORY:
            pending += reversed(workspace.list_dir(info.path))


def glob(workspace: Workspace, pattern: str, path: PathLike) -> Iterator[FileInfo]:
    """Find what matches a pattern as `Workspace.glob` does."""
    parts = [part for part in pattern.split("/") if part]
    if not parts:
        raise InvalidInput("a pattern of names is empty", hint="Write `**/*.py` for all Python files.")
    if parts[-1] == _ANY:
        parts.append("*")
    matchers = [None if part == _ANY else re.compile(fnmatch.translate(part)) for part in parts]
    pending = [(info, _reach(matchers, {0})) for info in reversed(workspace.list_dir(path))]
    while pending:
        info, states = pending.pop()
        name = info.path.rpartition(b"/")[2].decode("utf-8", "surrogateescape")
        reached = _step(matchers, states, name)
        if len(parts) in reached:
            yield info
        if info.kind is Kind.DIRECTORY and any(state < len(parts) for state in reached):
            pending += [(below, reached) for below in reversed(workspace.list_dir(info.path))]


def make_find_query(names: Sequence[str], paths: Sequence[PathLike], options: FindOptions) -> FindQuery:
    """Make the query of `Workspace.find`.

    Raises:
        InvalidInput: If an option cannot mean anything.
    """
    try:
        kinds = tuple(map(Kind, options.get("kinds", ())))
    except ValueError as error:
        raise InvalidInput(str(error), hint=f"Choose of {', '.join(Kind)}.") from None
    return FindQuery(
        tuple(map(os.fsencode, names)),
        paths=tuple(parse_tree_paths(paths)),
        kinds=kinds,
        ignore_case=options.get("ignore_case", False),
        min_size=options.get("min_size"),
        max_size=options.get("max_size"),
        newer_ns=options.get("newer_ns"),
        older_ns=options.get("older_ns"),
        min_depth=options.get("min_depth"),
        max_depth=options.get("max_depth"),
        changed_since=options.get("changed_since"),
        ignored=options.get("ignored", False),
    )


def make_query(pattern: str | bytes, paths: Sequence[PathLike], options: GrepOptions) -> GrepQuery:
    """Make the query of a search.

    Raises:
        InvalidInput: If an option cannot mean anything.
    """
    fixed, perl, outcome = options.get("fixed", False), options.get("perl", False), options.get("outcome", GrepOutcome.LINES)
    if fixed and perl:
        raise InvalidInput("a pattern is either a text or a Perl-compatible regular expression")
    try:
        chosen = GrepOutcome(outcome)
    except ValueError:
        known = ", ".join(GrepOutcome)
        raise InvalidInput(f"a search cannot give {quote(str(outcome))}", hint=f"Choose one of {known}.") from None
    return GrepQuery(
        os.fsencode(pattern),
        paths=tuple(parse_tree_paths(paths)),
        include=tuple(map(os.fsencode, options.get("include", ()))),
        exclude=tuple(map(os.fsencode, options.get("exclude", ()))),
        syntax=GrepSyntax.FIXED if fixed else GrepSyntax.PERL if perl else GrepSyntax.EXTENDED,
        outcome=chosen,
        ignore_case=options.get("ignore_case", False),
        invert=options.get("invert", False),
        words=options.get("words", False),
        only_matching=options.get("only_matching", False),
        before=options.get("before", 0),
        after=options.get("after", 0),
        max_count=options.get("max_count"),
        ignored=options.get("ignored", False),
        spans=options.get("spans", False),
    )


def _step(matchers: Sequence[re.Pattern[str] | None], states: set[int], name: str) -> set[int]:
    """Give how much of a pattern may be matched behind a name, given how much may be before it."""
    found = set()
    for state in states:
        if state == len(matchers):
            continue
        matcher = matchers[state]
        if matcher is None:
            found.add(state)
        elif matcher.match(name) is not None:
            found.add(state + 1)
    return _reach(matchers, found)


def _reach(matchers: Sequence[re.Pattern[str] | None], states: set[int]) -> set[int]:
    """Add where `**` may match no directory at all."""
    reached = set(states)
    for state in range(len(matchers)):
        if state in reached and matchers[state] is None:
            reached.add(state + 1)
    return reached

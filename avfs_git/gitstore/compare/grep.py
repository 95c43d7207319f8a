"""Searching the files of a tree with `git grep`.

Decided here: how a query becomes options and pathspecs of git; `grepanswer` reads the answer. Git runs in an empty
repository of its own, which borrows the objects of the store: no configuration, attribute or ref of the store has a
say. Objects that are stored nowhere, as those of what is not committed, are lent to it. So one engine searches both.
Usable from threads; a crash leaves a temporary directory.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain
from pathlib import Path

from avfs_git.errors import GitFailed, InvalidInput
from avfs_git.gitstore import gitcommand
from avfs_git.gitstore.compare.grepanswer import Answer, Found, make_colors
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_TREE
from avfs_git.gitstore.formats.trees import MODE_FILE, MODE_GITLINK, MODE_SYMLINK, MODE_TREE, serialize_sorted
from avfs_git.gitstore.objects.drywriter import DryWriter
from avfs_git.gitstore.scratch import put_loose, put_pack, scratch_repository
from avfs_git.globs import PathGlobs, check_glob, is_of_path, quote_for_git, spell_for_git
from avfs_git.model import GrepOutcome, GrepQuery, GrepSyntax
from avfs_git.paths import Oid, TreePath, join, lines_given, whole
from avfs_git.patterns import compiled

_SYNTAX = {GrepSyntax.EXTENDED: "-E", GrepSyntax.FIXED: "-F", GrepSyntax.PERL: "-P"}
_OUTCOME = {
    GrepOutcome.LINES: ("--line-number", "--column"),
    GrepOutcome.COUNT: ("--count",),
    GrepOutcome.FILES: ("--files-with-matches",),
    GrepOutcome.FILES_WITHOUT: ("--files-without-match",),
}
_MAY_BE_EMPTY = compiled(rb"[*?{^$|(\\]|\A\n|\n\n|\n\Z")
"""What one of the patterns must have that match an empty line."""
_THREADS_MAX = 8
"""As many as git takes by itself, on any machine.

Where few run at a time, the others cost more than the search does.
"""
_BAD_PATTERN = compiled(r"fatal: [^\n]*?'[^\n]*': ([^\n]*)|fatal: ([^\n]*(?:PCRE|Perl)[^\n]*)")


def check_query(query: GrepQuery) -> None:
    """Check what can be checked without searching.

    Raises:
        InvalidInput: If the pattern, a glob or a number of lines cannot mean anything.
    """
    if not query.pattern.strip(b"\n"):
        raise InvalidInput("the pattern is empty", hint="To find all files, use `avfs tree`.")
    if b"\0" in query.pattern:
        raise InvalidInput("a pattern cannot hold a NUL byte")
    if query.only_matching and query.invert:
        raise InvalidInput(
            "what does not match has no parts that match: a search takes either `invert` or `only_matching`"
        )
    for glob in (*query.include, *query.exclude):
        check_glob(glob)
    for lines in (query.before, query.after):
        lines_given(lines)
    if query.max_count is not None and whole(query.max_count) < 1:
        raise InvalidInput("at least one match of each file has to be given")


def grep_trees(source: DryWriter, trees: Sequence[Oid], query: GrepQuery) -> Generator[tuple[Oid, Found]]:
    """Search trees, stored or in memory, with one run of git; give what it finds at once.

    The trees come one after the other, the files of each in the order of their paths. Nothing is kept of what was
    given. Git is killed when the generator is closed.

    Raises:
        InvalidInput: If git does not understand the pattern.
        ObjectMissing, RemoteError: If contents of a partial clone are needed and cannot be fetched.
    """
    check_query(query)
    trees = [*dict.fromkeys(trees)]
    if not trees:
        return
    is_colored = query.outcome is GrepOutcome.LINES and (
        query.spans or (query.invert and bool(query.before or query.after))
    )
    answer = Answer(query, colors=make_colors() if is_colored else {})
    options = _spell_options(query, is_colored=is_colored)
    pattern = ["-f", "-"]
    source.store.expect(chain.from_iterable(_list_contents(source, tree, query) for tree in trees))
    is_meant = _make_filter(query)
    with scratch_repository("search") as git_dir:
        if _matches_nothing(git_dir, query, options):
            # Git looks ahead for the next match, and would find one behind the last newline; not so in an expression.
            pattern = ["(", *pattern, ")"]
        put_pack(git_dir, _list_lent(source, trees))
        operands = [*(tree.hex() for tree in trees), "--", *(os.fsdecode(spec) for spec in _make_pathspecs(query))]
        chunks = _run(
            git_dir, [*options, *pattern], operands, query, borrowed=source.store.objects_dir, colors=answer.colors
        )
        with closing(chunks):
            for tree, found in answer.read(chunks):
                if is_meant(found.path):
                    yield tree, found


def _spell_options(query: GrepQuery, *, is_colored: bool) -> list[str]:
    options = [
        *(
            "--color=always" if is_colored else "--no-color",
            "--full-name",
            "--null",
            _SYNTAX[query.syntax],
            *_OUTCOME[query.outcome],
        ),
        *(["-i"] if query.ignore_case else []),
        *(["-w"] if query.words else []),
        *(["-v"] if query.invert else []),
    ]
    if query.outcome is GrepOutcome.LINES:
        options += ["-o"] if query.only_matching else [f"-B{query.before}", f"-A{query.after}"]
    threads = min(_THREADS_MAX, 2 * len(os.sched_getaffinity(0)))
    if query.outcome is GrepOutcome.LINES and (query.before or query.after):
        threads = 1  # several leave out the first file, if it is binary
    return [*options, f"--threads={threads}"]


def _make_filter(query: GrepQuery) -> Callable[[bytes], bool]:
    """Make the condition that the path of a file has to meet by the globs of a query."""
    include, exclude = PathGlobs(query.include), PathGlobs(query.exclude)
    return lambda path: (not query.include or include.match(path)) and not (query.exclude and exclude.match_above(path))


def _run(
    git_dir: Path,
    options: list[str],
    operands: list[str],
    query: GrepQuery,
    *,
    borrowed: Path | None = None,
    colors: Mapping[str, str],
) -> Generator[bytes]:
    # Git takes a carriage return in front of each newline away, but only one.
    given = query.pattern.replace(b"\n", b"\r\n") + b"\r\n"
    return gitcommand.stream(
        git_dir, "grep", options, operands, given=given, borrowed=borrowed, colors=colors, check=_check
    )


def _check(status: int, messages: str) -> None:
    """Tell from the end of git whether it has searched everything."""
    messages = messages.strip()
    if status not in (0, 1):
        last = messages.splitlines()[-1] if messages else f"status {status}"
        if (bad := _BAD_PATTERN.fullmatch(last)) is not None:
            raise InvalidInput(
                f"the pattern is not understood: {(bad[1] or bad[2])[:300]}",
                hint="To search for a text as it is, use `avfs grep -F`.",
            )
        raise GitFailed("grep", last[:300])
    if messages:  # git goes on where it cannot read an object
        raise GitFailed("grep", messages.splitlines()[-1][:300])


def _matches_nothing(git_dir: Path, query: GrepQuery, options: list[str]) -> bool:
    """Whether the pattern matches an empty line."""
    if _MAY_BE_EMPTY.search(query.pattern) is None:
        return False
    blob = put_loose(git_dir, KIND_BLOB, b"\n")
    tree = put_loose(git_dir, KIND_TREE, serialize_sorted({b"empty": (MODE_FILE, blob)}))
    plain = [option for option in [*options, "-f", "-"] if option != "-v"]
    return any(list(_run(git_dir, plain, [tree.hex(), "--"], query, colors={})))


def _list_contents(source: DryWriter, tree: Oid, query: GrepQuery) -> Iterator[Oid]:
    """List the contents that are going to be read; walks only if it is asked, by the store of a partial clone."""
    paths, is_meant = query.paths, _make_filter(query)

    def is_here(oid: Oid) -> bool:
        return source.holds(oid) or source.store.exists(oid)

    pending: list[tuple[TreePath, Oid]] = [(TreePath(b""), tree)]
    while pending:
        above, oid = pending.pop()
        for name, (mode, child) in source.read_tree(oid).items():
            path = join(above, name)
            within = not paths or any(p in (b"", path) or path.startswith(p + b"/") for p in paths)
            if mode == MODE_TREE:
                if within or any(p.startswith(path + b"/") for p in paths):
                    pending.append((path, child))
            elif within and mode not in (MODE_GITLINK, MODE_SYMLINK) and is_meant(path) and not is_here(child):
                yield child


def _list_lent(source: DryWriter, trees: Iterable[Oid]) -> Iterator[tuple[int, bytes]]:
    """List the objects below some trees that are in memory. Whatever is below a stored tree is stored, too."""
    pending, seen = [*trees], set[Oid]()
    while pending:
        oid = pending.pop()
        if oid in seen or not source.holds(oid):
            continue
        seen.add(oid)
        kind, data = source.read(oid)
        yield kind, data
        if kind == KIND_TREE:
            pending += [child for _, child in source.read_tree(oid).values()]


def _make_pathspecs(query: GrepQuery) -> list[bytes]:
    """Spell what is searched, and perhaps more: `_make_filter` decides. It matters only for speed."""
    wanted, globs = list[bytes](), PathGlobs(query.include)
    for path in query.paths or (b"",):
        if not query.include:
            wanted.append(b":(top,literal)" + path)
            continue
        for glob in query.include:
            if path and (is_of_path(glob) or globs.match(path)):
                wanted.append(b":(top,literal)" + path)
            else:
                wanted.append(b":(top,glob)" + quote_for_git(path) + (b"/" if path else b"") + spell_for_git(glob)[0])
    left_out = [spec for spec, is_exact in map(spell_for_git, query.exclude) if is_exact]
    return [*wanted, *(b":(exclude,top,glob)" + spec + below for spec in left_out for below in (b"", b"/**"))]

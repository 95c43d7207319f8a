"""Searching the files of a tree with `git grep`.

Decided here: how a query becomes options and pathspecs of git, and how its answer is read. Git runs in an empty repository of its
own, which borrows the objects of the store: no configuration, attribute or ref of the store has a say. Objects that are stored
nowhere, as those of what is not committed, are lent to it. So one engine searches both. Usable from threads; a crash leaves a
temporary directory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from avfs_git.errors import GitFailed, InvalidInput
from avfs_git.gitstore import gitcommand
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_TREE
from avfs_git.gitstore.formats.trees import MODE_FILE, MODE_GITLINK, MODE_SYMLINK, MODE_TREE, serialize_sorted
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.scratch import put_loose, scratch_repository
from avfs_git.gitstore.source import ObjectSource
from avfs_git.globs import PathGlobs, check_glob, is_of_path, quote_for_git, spell_for_git
from avfs_git.model import GrepFile, GrepLine, GrepOutcome, GrepQuery, GrepSyntax, Span
from avfs_git.paths import Oid, TreePath, join
from avfs_git.patterns import compiled
from avfs_git.values import replace

_SYNTAX = {GrepSyntax.EXTENDED: "-E", GrepSyntax.FIXED: "-F", GrepSyntax.PERL: "-P"}
_OUTCOME = {
    GrepOutcome.LINES: ("--line-number", "--column"),
    GrepOutcome.COUNT: ("--count",),
    GrepOutcome.FILES: ("--files-with-matches",),
    GrepOutcome.FILES_WITHOUT: ("--files-without-match",),
}
_MAY_BE_EMPTY = compiled(rb"[*?{^$|(\\]|\A\n|\n\n|\n\Z")
"""What one of the patterns must have that match an empty line."""
_CONTEXT_MAX = 999_999_999
_BAD_PATTERN = compiled(r"fatal: [^\n]*?'[^\n]*': ([^\n]*)|fatal: ([^\n]*(?:PCRE|Perl)[^\n]*)")


def check_query(query: GrepQuery) -> None:
    """Check what can be checked without searching.

    Raises:
        InvalidInput: If the pattern, a glob or a number of lines cannot mean anything.
    """
    if not query.pattern:
        raise InvalidInput("the pattern is empty", hint="To find all files, use `avfs tree`.")
    if b"\0" in query.pattern:
        raise InvalidInput("a pattern cannot hold a NUL byte")
    if query.only_matching and query.invert:
        raise InvalidInput("what does not match has no parts that match: a search takes either `invert` or `only_matching`")
    for glob in (*query.include, *query.exclude):
        check_glob(glob)
    if not (0 <= query.before <= _CONTEXT_MAX and 0 <= query.after <= _CONTEXT_MAX):
        raise InvalidInput("a number of lines is negative or too large")
    if query.max_count is not None and query.max_count < 1:
        raise InvalidInput("at least one match of each file has to be given")


def grep_tree(store: ObjectStore, source: ObjectSource, tree: Oid, query: GrepQuery) -> list[GrepFile]:
    """Search a tree of `source`, whose stored objects are those of `store`; the files are sorted by path.

    Raises:
        InvalidInput: If git does not understand the pattern.
        ObjectMissing, RemoteError: If contents of a partial clone are needed and cannot be fetched.
        FileChanging: If a program changed a file of a workspace that is read.
    """
    check_query(query)
    if query.invert and query.outcome is GrepOutcome.LINES and (query.before or query.after):
        plain = grep_tree(store, source, tree, replace(query, before=0, after=0, max_count=None))
        lines = _search(store, source, tree, replace(query, max_count=None))
        return [*_tell_context(lines, plain, query)]
    return _search(store, source, tree, query)


def _search(store: ObjectStore, source: ObjectSource, tree: Oid, query: GrepQuery) -> list[GrepFile]:
    """Have git search, and read its answer."""
    is_marked = query.spans and query.outcome is GrepOutcome.LINES and not query.invert
    # No file can have this colour but by chance.
    color = f"#{os.urandom(3).hex()}" if is_marked else None
    options = [
        *(
            "--no-color" if color is None else "--color=always",
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
    pattern = ["-f", "-"]
    store.expect(_list_contents(source, tree, query))
    with scratch_repository("search") as git_dir:
        if _matches_nothing(git_dir, query, options):
            # Git looks ahead for the next match, and would find one behind the last newline; not so in an expression.
            pattern = ["(", *pattern, ")"]
        _lend(git_dir, store, source, tree)
        operands = [tree.hex(), "--", *(os.fsdecode(spec) for spec in _make_pathspecs(query))]
        result = _run(git_dir, [*options, *pattern], operands, query, borrowed=store.objects_dir, color=color)
    if color is not None:
        marked = _Marks(color)
        if not marked.are_clear(result):
            return _search(store, source, tree, replace(query, spans=False))
        files = list(_parse(result, tree, query, marked))
    else:
        is_plain = query.outcome is GrepOutcome.LINES and not (query.before or query.after)
        files = list((_parse_plain if is_plain else _parse)(result, tree, query))
    is_meant = _make_filter(query)
    return sorted((file for file in files if is_meant(file.path)), key=lambda file: file.path)


def _make_filter(query: GrepQuery) -> Callable[[bytes], bool]:
    """Make the condition that the path of a file has to meet by the globs of a query."""
    include, exclude = PathGlobs(query.include), PathGlobs(query.exclude)
    return lambda path: (not query.include or include.match(path)) and not (query.exclude and exclude.match_above(path))


def _tell_context(files: Sequence[GrepFile], plain: Sequence[GrepFile], query: GrepQuery) -> Iterator[GrepFile]:
    """Give lines of context no column: of an inverted search, git gives one for each line.

    `plain` is what the same search finds without context.
    """
    for file, found in zip(files, plain, strict=True):
        meant = {line.number for line in found.lines}
        lines = [line if line.number in meant else replace(line, column=None) for line in file.lines]
        yield _join(file.path, lines, query) if lines else file


def _run(
    git_dir: Path,
    options: list[str],
    operands: list[str],
    query: GrepQuery,
    *,
    borrowed: Path | None = None,
    color: str | None = None,
) -> bytes:
    result = gitcommand.run(git_dir, "grep", options, operands, given=query.pattern + b"\n", borrowed=borrowed, match_color=color)
    messages = result.messages.strip()
    if result.status not in (0, 1):
        last = messages.splitlines()[-1] if messages else f"status {result.status}"
        if (bad := _BAD_PATTERN.fullmatch(last)) is not None:
            raise InvalidInput(
                f"the pattern is not understood: {(bad[1] or bad[2])[:300]}",
                hint="To search for a text as it is, use `avfs grep -F`.",
            )
        raise GitFailed("grep", last[:300])
    if messages:  # git goes on where it cannot read an object
        raise GitFailed("grep", messages.splitlines()[-1][:300])
    return result.output


def _matches_nothing(git_dir: Path, query: GrepQuery, options: list[str]) -> bool:
    """Whether the pattern matches an empty line."""
    if _MAY_BE_EMPTY.search(query.pattern) is None:
        return False
    blob = put_loose(git_dir, KIND_BLOB, b"\n")
    tree = put_loose(git_dir, KIND_TREE, serialize_sorted({b"empty": (MODE_FILE, blob)}))
    return bool(_run(git_dir, [option for option in [*options, "-f", "-"] if option != "-v"], [tree.hex(), "--"], query))


def _list_contents(source: ObjectSource, tree: Oid, query: GrepQuery) -> Iterator[Oid]:
    """List the contents that are going to be read; walks only if it is asked, by the store of a partial clone."""
    paths, is_meant = query.paths, _make_filter(query)
    pending: list[tuple[TreePath, Oid]] = [(TreePath(b""), tree)]
    while pending:
        above, oid = pending.pop()
        for name, (mode, child) in source.read_tree(oid).items():
            path = join(above, name)
            within = not paths or any(p in (b"", path) or path.startswith(p + b"/") for p in paths)
            if mode == MODE_TREE:
                if within or any(p.startswith(path + b"/") for p in paths):
                    pending.append((path, child))
            elif within and mode not in (MODE_GITLINK, MODE_SYMLINK) and is_meant(path) and not source.exists(child):
                yield child


def _lend(git_dir: Path, store: ObjectStore, source: ObjectSource, tree: Oid) -> None:
    """Put into a repository what is below a tree and is not stored. Whatever a stored tree has is stored, too."""
    pending = [(MODE_TREE, tree)]
    seen = set[Oid]()
    while pending:
        mode, oid = pending.pop()
        if oid in seen or mode in (MODE_GITLINK, MODE_SYMLINK) or store.exists(oid):
            continue
        seen.add(oid)
        if mode == MODE_TREE:
            entries = source.read_tree(oid)
            put_loose(git_dir, KIND_TREE, serialize_sorted(entries))
            pending += entries.values()
        else:
            put_loose(git_dir, KIND_BLOB, source.read_blob(oid))


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


class _Marks:
    """How git marks matches in its answer: with two sequences, before and behind each."""

    def __init__(self, color: str) -> None:
        red, green, blue = bytes.fromhex(color[1:])
        self._begin, self._end = b"\x1b[38;2;%d;%d;%dm" % (red, green, blue), b"\x1b[m"

    def are_clear(self, output: bytes) -> bool:
        """Whether no file has marks of its own: then it could not be told which are git's."""
        return output.count(self._begin) == output.count(self._end)

    def take_out(self, text: bytes) -> tuple[bytes, tuple[Span, ...]]:
        """Take the marks out of a line; give it, and where they were."""
        plain, *marked = text.split(self._begin)
        spans = []
        for piece in marked:
            match, _, after = piece.partition(self._end)
            spans.append(Span(len(plain), len(plain) + len(match)))
            plain += match + after
        return plain, tuple(spans)


def _parse(output: bytes, tree: Oid, query: GrepQuery, marks: _Marks | None = None) -> Iterator[GrepFile]:
    """Read what `git grep --null` says, of which each record begins with the tree."""
    name = tree.hex().encode()
    if query.outcome in (GrepOutcome.FILES, GrepOutcome.FILES_WITHOUT):
        for record in output.split(b"\0")[:-1]:
            yield GrepFile(record[len(name) + 1 :])
        return
    prefix, binary = name + b":", b"Binary file " + name + b":"
    ends = compiled(rb" matches\n(?=(?:Binary file )?" + name + rb":|--\n|\Z)")
    at = 0
    path, lines = b"", list[GrepLine]()
    while at < len(output):
        if output.startswith(b"--\n", at):
            at += 3
            continue
        if output.startswith(binary, at):
            end = ends.search(output, at)
            if end is None:
                raise GitFailed("grep", "its answer is not understood")
            if lines:
                yield _join(path, lines, query)
                lines = []
            yield GrepFile(output[at + len(binary) : end.start()], binary=True)
            at = end.end()
            continue
        if not output.startswith(prefix, at):
            raise GitFailed("grep", "its answer is not understood")
        stop = output.index(b"\0", at)
        found, at = output[at + len(prefix) : stop], stop + 1
        end_of_line = output.find(b"\n", at)
        record, at = output[at:end_of_line], end_of_line + 1
        if query.outcome is GrepOutcome.COUNT:
            number = int(record)
            yield GrepFile(found, count=number if query.max_count is None else min(number, query.max_count))
            continue
        if found != path and lines:
            yield _join(path, lines, query)
            lines = []
        path = found
        lines.append(_parse_line(record, marks))
    if lines:
        yield _join(path, lines, query)


def _parse_plain(output: bytes, tree: Oid, query: GrepQuery) -> Iterator[GrepFile]:
    """Read an answer without context and marks as `_parse` does, in half the time: most of it is lines of text files."""
    record = re.compile(rb"(?<![^\n])" + tree.hex().encode() + rb":([^\0]*)\0(\d+)\0(\d+)\0([^\n]*)\n")
    at, path, lines = 0, b"", list[GrepLine]()
    for match in record.finditer(output):
        found, number, column, text = match.groups()
        if found != path or match.start() != at:
            if lines:
                yield _join(path, lines, query)
            if match.start() != at:  # binary files
                yield from _parse(output[at : match.start()], tree, query)
            path, lines = found, []
        lines.append(GrepLine(int(number), int(column), text))
        at = match.end()
    if lines:
        yield _join(path, lines, query)
    yield from _parse(output[at:], tree, query)


_LINE = compiled(rb"(\d+)\0(?:(\d+)\0)?(.*)", 16)


def _parse_line(record: bytes, marks: _Marks | None) -> GrepLine:
    match = _LINE.fullmatch(record)
    if match is None:
        raise GitFailed("grep", "its answer is not understood")
    number, column, text = match.groups()
    text, spans = marks.take_out(text) if marks is not None else (text, ())
    return GrepLine(int(number), int(column) if column is not None else None, text, spans)


def _join(path: bytes, lines: list[GrepLine], query: GrepQuery) -> GrepFile:
    """Make one file of its lines; behind the last match that is wanted, only its context is kept."""
    matching = list(dict.fromkeys([line.number for line in lines if line.column is not None]))
    if query.max_count is not None and len(matching) > query.max_count:
        beyond, last = matching[query.max_count], matching[query.max_count - 1]
        lines = [line for line in lines if line.number < beyond and line.number <= last + query.after]
        matching = matching[: query.max_count]
    return GrepFile(path, count=len(matching), lines=tuple(lines))

"""The tools for files, with the names that clients know from other servers.

Decided here: how much of a file or a directory one answer holds. A file is read in pieces, in bounded memory;
`next_offset` says where the next piece begins. Names of arguments in two cases (`dryRun`) are the names that models
have learnt.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, NotRequired, TypedDict

from pydantic import BaseModel, Field

from avfs_git.errors import AvfsError, InvalidInput, escape
from avfs_git.mcp.answers import BUDGET, Record
from avfs_git.mcp.scope import Call
from avfs_git.mcp.tool import (
    ADDS_ONCE,
    CHANGES,
    CHANGES_ONCE,
    READS,
    ForkName,
    Offset,
    Pattern,
    Toolbox,
    TreePath,
    VaultName,
)
from avfs_git.model import EditResult, FileInfo, GrepResult, Kind, SearchResult
from avfs_git.paths import join, parse_tree_path
from avfs_git.records import is_utf8
from avfs_git.sdk import Workspace
from avfs_git.sdk.workspace.modelpaths import find_path

PIECE = BUDGET - 4000
"""Characters of a file in one answer, as JSON spells them."""
_BINARY_PIECE = 8000
"""Bytes of a file that is no text: they are spelled twice."""
_ENTRIES = 500
_NODES = 1000
_FOUND = 1000
_TEXT = 300
"""Characters of a line that matches: the lines of generated files are long."""
_Excluded = Annotated[
    list[str], Field(description="Names or paths to leave out, with `*`, `?` and `[…]`.", max_length=100)
]

tools = Toolbox()


class TextFile(TypedDict):
    """A file, or a piece of it."""

    path: bytes
    content: bytes
    size: int
    """Of the whole file, in bytes."""
    offset: int
    """Where the content begins in the file, in bytes."""
    next_offset: int | None
    """Where the next piece begins; null if the content goes to the end."""


class Unread(TypedDict):
    """A file that could not be read."""

    path: bytes
    code: str
    message: str


class TextFiles(TypedDict):
    """Several files."""

    files: Sequence[TextFile]
    failed: Sequence[Unread]


class Entry(TypedDict):
    """An entry of a directory."""

    name: bytes
    kind: Kind
    size: int


class Directory(TypedDict):
    """The entries of a directory, sorted by name, or a part of them."""

    path: bytes
    entries: Sequence[Entry]
    total: int
    next_offset: int | None


class Node(TypedDict):
    """An entry with what is below it."""

    name: bytes
    kind: Kind
    children: NotRequired[list[Node]]
    """Of a directory that was read."""


class DirectoryTree(TypedDict):
    """A directory with what is below it."""

    tree: Node
    complete: bool
    """Whether everything that was asked for is there."""


class Found(TypedDict):
    """Paths that match."""

    paths: Sequence[bytes]
    complete: bool


class Edit(BaseModel):
    """One replacement."""

    old_text: str = Field(
        alias="oldText", min_length=1, description="The text to replace, exactly; it occurs once in the file."
    )
    new_text: str = Field(alias="newText", description="The text instead.")


def _content(record: Record) -> str:
    rest = record["next_offset"]
    end = f"\n[{rest} of {record['size']} bytes; go on with offset={rest}]" if rest is not None else ""
    return str(record["content"]) + end


def _contents(record: Record) -> str:
    parts = [f"{escape(file['path'])}:\n{_content(file)}" for file in record["files"]]
    parts += [f"{escape(file['path'])}: {file['code']}: {file['message']}" for file in record["failed"]]
    return "\n---\n".join(parts)


@tools.tool("Read a text file", READS, render=_content)
def read_text_file(
    workspace: Workspace,
    path: TreePath,
    head: Annotated[int | None, Field(ge=1, description="Only the first lines.")] = None,
    tail: Annotated[int | None, Field(ge=1, description="Only the last lines.")] = None,
    offset: Annotated[int, Field(ge=0, description="Begin at this byte; `next_offset` of the answer before.")] = 0,
) -> TextFile:
    """Read a file of a fork as it is now.

    A long file comes in pieces: go on with `offset` = `next_offset`.
    """
    if sum((head is not None, tail is not None, offset > 0)) > 1:
        raise InvalidInput("`head`, `tail` and `offset` exclude each other")
    return _read(workspace, path, head=head, tail=tail, offset=offset, room=PIECE)


@tools.tool("Read several text files", READS, render=_contents)
def read_multiple_files(
    call: Call,
    paths: Annotated[list[str], Field(min_length=1, max_length=50)],
    vault: VaultName = None,
    fork: ForkName = None,
) -> TextFiles:
    """Read several files of a fork at once; each gets an equal share of the answer.

    A file that cannot be read is listed in `failed`, and the others are read.
    """
    workspace = call.workspace(vault, fork)
    files: list[TextFile] = []
    failed: list[Unread] = []
    for path in paths:
        try:
            found = find_path(call.home, workspace, path)
            files.append(_read(workspace, found, head=None, tail=None, offset=0, room=PIECE // len(paths)))
        except AvfsError as error:
            failed.append({"path": path.encode("utf-8", "replace"), "code": error.code, "message": error.message})
    return {"files": files, "failed": failed}


def _read(workspace: Workspace, path: str, *, head: int | None, tail: int | None, offset: int, room: int) -> TextFile:
    """Read a piece of a file."""
    tree_path = parse_tree_path(path)
    size = workspace.stat(tree_path, follow=True).size
    pieces = workspace.open_read(tree_path)
    if tail is not None:
        data, size = _last(pieces, room)
        lines = data.splitlines(keepends=True)
        data = _fit(b"".join(lines[-tail:]), room, at_end=True)
        return {"path": tree_path, "content": data, "size": size, "offset": size - len(data), "next_offset": None}
    data, more = _first(pieces, offset, room)
    if head is not None:
        data = b"".join(data.splitlines(keepends=True)[:head])
    kept = _fit(data, room) if more or len(data) else data
    end = offset + len(kept)
    is_over = head is None and not more and len(kept) == len(data)
    whole = None if is_over or end >= size else end
    return {
        "path": tree_path,
        "content": kept,
        "size": max(size, end) if kept else size,
        "offset": offset,
        "next_offset": whole,
    }


def _first(pieces: Iterator[bytes], offset: int, room: int) -> tuple[bytes, bool]:
    """Read `room` bytes from an offset on; say whether there are more."""
    skip, found = offset, b""
    for piece in pieces:
        if skip >= len(piece):
            skip -= len(piece)
            continue
        found += piece[skip:]
        skip = 0
        if len(found) > room:
            return found[:room], True
    return found, False


def _last(pieces: Iterable[bytes], room: int) -> tuple[bytes, int]:
    """Read the last `room` bytes, and the size."""
    kept: deque[bytes] = deque()
    held = size = 0
    for piece in pieces:
        kept.append(piece)
        held += len(piece)
        size += len(piece)
        while held - len(kept[0]) >= room:
            held -= len(kept.popleft())
    return b"".join(kept)[-room:], size


def _fit(data: bytes, room: int, *, at_end: bool = False) -> bytes:
    """Cut bytes to what has room as JSON, between two characters."""
    count = room
    while data:
        part = data[-count:] if at_end else data[:count]
        part = _whole(part, len(part) < len(data), at_end=at_end)
        if not is_utf8(part):
            return part[-_BINARY_PIECE:] if at_end else part[:_BINARY_PIECE]
        size = len(json.dumps(part.decode(), ensure_ascii=False)) - 2
        if size <= room or len(part) <= 1:
            return part
        count = max(1, len(part) * room // size)
    return data


def _whole(part: bytes, is_cut: bool, *, at_end: bool) -> bytes:
    """Leave out the halves of characters where bytes were cut."""
    if not is_cut:
        return part
    for count in range(4):
        shorter = part[count:] if at_end else part[: len(part) - count]
        if is_utf8(shorter):
            return shorter
    return part


@tools.tool("Write a file", CHANGES_ONCE)
def write_file(
    workspace: Workspace,
    path: TreePath,
    content: Annotated[str, Field(description="The whole new content.")],
    expect: Annotated[
        str | None,
        Field(description="Write only if the file still has this `oid`; an empty text if no file may be there."),
    ] = None,
) -> FileInfo:
    """Write a file, with missing directories. It replaces what was there; `undo` brings it back."""
    return workspace.write_text(path, content, expect=expect)


def _edited(record: Record) -> str:
    return str(record["patch"]) or "no change"


@tools.tool("Edit a file", CHANGES, render=_edited)
def edit_file(
    workspace: Workspace,
    path: TreePath,
    edits: Annotated[list[Edit], Field(min_length=1, max_length=100)],
    dryRun: Annotated[bool, Field(description="Only show what would change.")] = False,  # noqa: N803 - the name models know
) -> EditResult:
    """Replace texts in a file: all of them, in the given order, or none. Each `oldText` occurs exactly once."""
    pairs = [(edit.old_text, edit.new_text) for edit in edits]
    return workspace.edit(path, *pairs, dry_run=dryRun)


@tools.tool("Make a directory", ADDS_ONCE)
def create_directory(workspace: Workspace, path: TreePath) -> FileInfo:
    """Make a directory, with missing parents; an existing directory stays as it is."""
    workspace.make_dir(path, parents=True)
    return workspace.stat(path)


def _names(record: Record) -> str:
    marks = {"directory": "[DIR]", "file": "[FILE]", "symlink": "[LINK]", "gitlink": "[REPO]"}
    lines = [f"{marks.get(entry['kind'], '[OTHER]')} {escape(entry['name'])}" for entry in record["entries"]]
    if record["next_offset"] is not None:
        lines.append(
            f"[{record['next_offset']} of {record['total']} entries; go on with offset={record['next_offset']}]"
        )
    nothing = f"[no entry from there on: {record['total']} in all]" if record["total"] else "[the directory is empty]"
    return "\n".join(lines) or nothing


@tools.tool("List a directory", READS, render=_names)
def list_directory(workspace: Workspace, path: TreePath = "/", offset: Offset = 0) -> Directory:
    """List the entries of a directory, sorted by name; ignored files too."""
    found = workspace.list_dir(path)
    shown = found[offset : offset + _ENTRIES]
    end = offset + len(shown)
    return {
        "path": parse_tree_path(path),
        "entries": [{"name": info.path.rpartition(b"/")[2], "kind": info.kind, "size": info.size} for info in shown],
        "total": len(found),
        "next_offset": end if end < len(found) else None,
    }


def _drawn(record: Record) -> str:
    lines: list[str] = []
    pending = [(record["tree"], 0)]
    while pending:
        node, depth = pending.pop()
        lines.append(f"{'  ' * depth}{escape(node['name'])}{'/' if node['kind'] == 'directory' else ''}")
        pending += [(child, depth + 1) for child in reversed(node.get("children", []))]
    return "\n".join(lines) + ("" if record["complete"] else "\n[there is more: name a directory below]")


@tools.tool("Show a directory tree", READS, render=_drawn)
def directory_tree(
    workspace: Workspace,
    path: TreePath = "/",
    depth: Annotated[int, Field(ge=1, le=64, description="How many levels.")] = 8,
    excludePatterns: _Excluded = [],  # noqa: B006, N803 - pydantic copies it; the name models know
) -> DirectoryTree:
    """Show a directory and what is below it, at most 1,000 entries, those near the top first."""
    top = parse_tree_path(path)
    root: Node = {"name": top or b"/", "kind": Kind.DIRECTORY, "children": []}
    pending, count, complete = deque([(top, root, 1)]), 0, True
    while pending:
        directory, node, level = pending.popleft()
        node["children"] = []
        for info in workspace.list_dir(directory, sizes=False):
            if _is_excluded(info.path[len(top) :].lstrip(b"/"), excludePatterns):
                continue
            if count == _NODES:
                return {"tree": root, "complete": False}
            count += 1
            below: Node = {"name": info.path.rpartition(b"/")[2], "kind": info.kind}
            node["children"].append(below)
            if info.kind is Kind.DIRECTORY:
                if level < depth:
                    pending.append((join(directory, below["name"]), below, level + 1))
                else:
                    complete = False
    return {"tree": root, "complete": complete}


@tools.tool("Move or rename a file or directory", CHANGES)
def move_file(workspace: Workspace, source: TreePath, destination: TreePath) -> FileInfo:
    """Move a file or directory; into the destination if that is a directory. Nothing is overwritten."""
    return workspace.move(source, destination)


@tools.tool("Delete a file or directory", CHANGES)
def delete_file(
    workspace: Workspace,
    path: TreePath,
    recursive: Annotated[bool, Field(description="Also a directory with everything in it.")] = False,
) -> FileInfo:
    """Delete a file, a link or an empty directory; `undo` brings it back. The answer describes what was there."""
    gone = workspace.stat(path)
    workspace.remove(path, recursive=recursive)
    return gone


def _paths(record: Record) -> str:
    lines = list(map(escape, record["paths"])) + (
        [] if record["complete"] else ["[there are more: search below a directory]"]
    )
    return "\n".join(lines) or "nothing matches"


@tools.tool("Find files by name", READS, render=_paths)
def search_files(
    workspace: Workspace,
    pattern: Pattern,
    path: TreePath = "/",
    excludePatterns: _Excluded = [],  # noqa: B006, N803 - as above
) -> Found:
    """Find the entries below a directory whose path from there matches a pattern; at most 1,000."""
    top = parse_tree_path(path)
    found: list[bytes] = []
    for info in workspace.glob(pattern, top):
        if _is_excluded(info.path[len(top) :].lstrip(b"/"), excludePatterns):
            continue
        if len(found) == _FOUND:
            return {"paths": found, "complete": False}
        found.append(info.path)
    return {"paths": found, "complete": True}


def _lines(record: Record) -> str:
    lines = [
        f"{escape(file['path'])}:{line['number']}:{line['text'][:_TEXT]}"
        for file in record["files"]
        for line in file["lines"]
    ]
    return "\n".join(lines) or "nothing matches"


@tools.tool("Find lines in files", READS, render=_lines)
def grep(
    workspace: Workspace,
    pattern: Annotated[str, Field(description="A Perl-compatible regular expression.")],
    path: TreePath = "/",
    include: Annotated[list[str], Field(description="Only files of these names, as in `*.py`.", max_length=100)] = [],  # noqa: B006
    ignore_case: bool = False,
    fixed: Annotated[bool, Field(description="The pattern is plain text.")] = False,
) -> GrepResult:
    """Find the lines that match a pattern in the text files below a directory."""
    return workspace.grep(pattern, [path], perl=not fixed, fixed=fixed, include=include, ignore_case=ignore_case)


def _ranked(record: Record) -> str:
    found = [(hit["path"], hit["line"] or {"number": "", "text": ""}) for hit in record["hits"]]
    lines = [f"{escape(path)}:{line['number']}:{line['text'][:_TEXT]}" for path, line in found]
    rest = record["total"] - len(found)
    unsearched = [f"[not searched: {escape(file['path'])}]" for file in record["unsearched"]]
    return "\n".join([*lines, *([f"[{rest} more]"] if rest else []), *unsearched]) or "nothing matches"


@tools.tool("Find files by words", READS, render=_ranked)
def search(
    workspace: Workspace,
    words: Annotated[str, Field(description="Words that a file must all have; `word*` for a beginning.")],
    path: TreePath = "/",
    limit: Annotated[int, Field(ge=1, le=200, description="At most so many files.")] = 20,
) -> SearchResult:
    """Find the files below a directory that have all words, the best first, with a line of each.

    Case does not count; `tree` also finds `parseTree` and `parse_tree`. Faster than `grep` in a large tree.
    """
    return workspace.search(words, [path], limit=limit)


@tools.tool("Describe a file or directory", READS)
def get_file_info(workspace: Workspace, path: TreePath) -> FileInfo:
    """Describe an entry: kind, mode, size, time, and the `oid` of a file's content, for `expect` of `write_file`."""
    info = workspace.stat(path)
    return workspace.stat(path, with_oid=True) if info.kind is Kind.FILE else info


def _is_excluded(path: bytes, patterns: Sequence[str]) -> bool:
    """Whether a path, or a directory above it, matches: a pattern without a slash any name, else all of a path."""
    text = path.decode("utf-8", "surrogateescape")
    parts = text.split("/")
    above = ["/".join(parts[:count]) for count in range(1, len(parts) + 1)]
    return any(
        fnmatchcase(candidate, pattern.strip("/"))
        for pattern in patterns
        for candidate in (above if "/" in pattern.strip("/") else parts)
    )

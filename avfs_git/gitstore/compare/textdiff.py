r"""How the content of one file differs, in hunks and as the text that `git diff` prints.

Decided here: the text of a patch, which is that of `git diff --no-color --full-index -M --no-textconv`; what is binary,
by its content or by the attribute `diff`; how paths are quoted. A driver (`diff=python`) changes nothing: libgit2 knows
git's patterns for headings only with a repository. Called with what `treediff` and `renames` found. Pure functions over
an `ObjectSource`, safe from any thread.

libgit2 matches the lines: its xdiff is git's. It cuts headings of hunks a little otherwise, and matches lines without
context as it does with context. Headers and quoting are written here, because libgit2 writes them slightly otherwise. A
file above `MAX_TEXT_SIZE` counts as binary, so that one huge log does not take all memory; git does so above 512 MiB.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Final

from avfs_git.gitstore.compare.renames import is_binary
from avfs_git.gitstore.formats.trees import MODE_GITLINK, MODE_SYMLINK
from avfs_git.gitstore.rules.attributes import TreeAttributes, Value
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import ChangedFile, ChangeKind, DiffLine, FileDiff, Hunk
from avfs_git.paths import TreePath, oid_of

MAX_TEXT_SIZE = 16 << 20

_NO_OID: Final = "0" * 40
_GITLINK: Final = b"Subproject commit %b\n"
_NO_NEWLINE: Final = b"\\ No newline at end of file"
_HUNK: Final = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


def file_diff(
    source: ObjectSource,
    change: ChangedFile,
    *,
    context: int = 3,
    text: bool = True,
    attributes: TreeAttributes | None = None,
) -> FileDiff:
    """Compare the two contents of a changed file; without `text`, only count lines. Fills in the `size` of the change.

    A change of type shows as the deletion of one file and the creation of another, as in git; its counts compare the
    two contents all the same, as `git diff --numstat` does.
    """
    paths = (change.old_path or change.path, change.path)
    # once for a path: a file of attributes may have thousands of lines
    shows = {path: attributes.find(TreePath(path), (b"diff",))[b"diff"] if attributes else None for path in set(paths)}
    old = _Side.read(source, change, change.old_mode, change.old_oid, paths[0], shows[paths[0]])
    new = _Side.read(source, change, change.new_mode, change.new_oid, paths[1], shows[paths[1]])
    binary = old.binary or new.binary
    change = replace(change, size=new.size)
    additions = deletions = 0
    body: list[bytes] = []
    if old.oid != new.oid and not binary:
        body = _compare(old.content, new.content, context)
        additions, deletions = _count(body)
    if not text:
        return FileDiff(change, binary, additions, deletions, old_size=old.size, new_size=new.size)
    if change.kind is ChangeKind.TYPE:
        nothing = _Side(change.path)
        halves = [
            (before, after, [] if (before or after).binary else _compare(before.content, after.content, context))
            for before, after in ((old, nothing), (nothing, new))
        ]
        patch = b"".join([_patch(change, before, after, half) for before, after, half in halves])
        hunks = () if binary else tuple(hunk for _, _, half in halves for hunk in _hunks(half))
    else:
        patch = _patch(change, old, new, body)
        hunks = _hunks(body)
    return FileDiff(change, binary, additions, deletions, hunks, patch, old.size, new.size)


@dataclass(frozen=True, slots=True)
class _Side:
    """A file before or after its change; without a mode, no file."""

    path: bytes
    mode: int | None = None
    oid: str = _NO_OID
    content: bytes = b""
    size: int | None = None
    binary: bool = False

    @staticmethod
    def read(
        source: ObjectSource,
        change: ChangedFile,
        mode: int | None,
        oid: str | None,
        path: bytes,
        shows: Value,
    ) -> _Side:
        """Read one side, unless the other has the same content and neither is printed."""
        if mode is None or oid is None:
            return _Side(path)
        if mode == MODE_GITLINK:
            return _Side(path, mode, oid, _GITLINK % oid.encode("ascii"))
        blob = oid_of(oid)
        size = source.blob_size(blob)
        shows = shows if mode != MODE_SYMLINK else None
        if change.old_oid == change.new_oid and change.kind is not ChangeKind.TYPE:
            # Nothing of it is printed; the start tells whether it is binary.
            start = next(iter(source.stream_blob(blob)), b"")
            return _Side(path, mode, oid, b"", size, _is_binary(start, shows))
        if size > MAX_TEXT_SIZE or shows is False:
            return _Side(path, mode, oid, b"", size, binary=True)
        content = source.read_blob(blob)
        return _Side(path, mode, oid, content, size, _is_binary(content, shows))

    def __bool__(self) -> bool:
        return self.mode is not None


def _is_binary(content: bytes, shows: Value) -> bool:
    """Tell whether a file is binary: as the attribute `diff` says, if it is set or unset, or as its content looks."""
    return not shows if isinstance(shows, bool) else is_binary(content)


# --- the patch -------------------------------------------------------------------------------------------


def _patch(change: ChangedFile, old: _Side, new: _Side, body: list[bytes]) -> bytes:
    """Write what git prints for one pair of files."""
    old_name, new_name = quote_path(old.path, b"a/"), quote_path(new.path, b"b/")
    lines = [b"diff --git %b %b" % (old_name, new_name)]
    if not old:
        lines.append(b"new file mode %06o" % (new.mode or 0))
    elif not new:
        lines.append(b"deleted file mode %06o" % (old.mode or 0))
    elif old.mode != new.mode:
        lines += [b"old mode %06o" % (old.mode or 0), b"new mode %06o" % (new.mode or 0)]
    if change.kind is ChangeKind.RENAMED:
        lines.append(b"similarity index %d%%" % (change.similarity or 0))
        lines += [b"rename from " + quote_path(old.path), b"rename to " + quote_path(new.path)]
    if old.oid != new.oid:
        mode = b" %06o" % (new.mode or 0) if old.mode == new.mode else b""
        lines.append(b"index %b..%b%b" % (old.oid.encode("ascii"), new.oid.encode("ascii"), mode))
        old_name = old_name if old else b"/dev/null"
        new_name = new_name if new else b"/dev/null"
        if (old.binary or new.binary) and (old.size or new.size):
            lines.append(b"Binary files %b and %b differ" % (old_name, new_name))
        elif body:
            lines += [b"--- " + _with_tab(old_name), b"+++ " + _with_tab(new_name), *body]
    lines.append(b"")
    return b"\n".join(lines)


def _with_tab(name: bytes) -> bytes:
    """End a name that holds a space as git does, so that patch programs see where it ends."""
    return name + b"\t" if b" " in name else name


def quote_path(path: bytes, prefix: bytes = b"") -> bytes:
    """Write a path as git does under `core.quotePath`: in quotes with escapes if it holds an unusual byte."""
    escaped = _UNUSUAL.sub(_escape, path)
    return prefix + path if escaped == path else b'"' + prefix + escaped + b'"'


_UNUSUAL: Final = re.compile(rb"[^ !#-\[\]-~]")
_ESCAPES: Final = {
    ord(byte): b"\\" + letter.encode("ascii") for byte, letter in zip('\a\b\t\n\v\f\r"\\', 'abtnvfr"\\', strict=True)
}


def _escape(match: re.Match[bytes]) -> bytes:
    byte = match[0][0]
    return _ESCAPES.get(byte) or b"\\%03o" % byte


# --- hunks -----------------------------------------------------------------------------------------------


def _compare(old: bytes, new: bytes, context: int) -> list[bytes]:
    """List the lines of a patch from the first hunk on, without their newlines."""
    if old == new:
        return []
    if not old or not new:
        return _whole(old or new, b"+" if new else b"-")
    import pygit2  # noqa: PLC0415 - it takes longer to import than most commands to run
    from pygit2.enums import DiffOption  # noqa: PLC0415

    flags = DiffOption.INDENT_HEURISTIC | DiffOption.FORCE_TEXT
    data = pygit2.Patch.create_from(old, new, "a", "a", flags, context, 0).data
    start = data.find(b"\n@@ ") + 1
    if not start:
        return []
    lines = data[start:].split(b"\n")
    lines.pop()  # behind the last newline
    return lines


def _whole(content: bytes, origin: bytes) -> list[bytes]:
    """Write content that is added or deleted as a whole."""
    lines = content.split(b"\n")
    unfinished = lines.pop() if lines[-1] else None
    if unfinished is None:
        lines.pop()
    else:
        lines.append(unfinished)
    count = b"1" if len(lines) == 1 else b"1,%d" % len(lines)
    header = b"@@ -0,0 +%b @@" % count if origin == b"+" else b"@@ -%b +0,0 @@" % count
    body = [header, *(origin + line for line in lines)]
    if unfinished is not None:
        body.append(_NO_NEWLINE)
    return body


def _count(body: list[bytes]) -> tuple[int, int]:
    """Count the lines added and deleted."""
    added = sum(line.startswith(b"+") for line in body)
    return added, sum(line.startswith(b"-") for line in body)


def _hunks(body: list[bytes]) -> tuple[Hunk, ...]:
    """Take the lines of a patch apart."""
    hunks: list[Hunk] = []
    starts = [number for number, line in enumerate(body) if line.startswith(b"@@")]
    for start, end in zip(starts, [*starts, len(body)][1:], strict=True):
        match = _HUNK.match(body[start])
        if match is None:
            continue
        old_start, new_start = int(match[1]), int(match[3])
        old_lines = 1 if match[2] is None else int(match[2])
        new_lines = 1 if match[4] is None else int(match[4])
        lines: list[DiffLine] = []
        old_line, new_line = old_start, new_start
        for number in range(start + 1, end):
            line = body[number]
            origin = line[:1]
            if origin == b"\\":
                continue
            unfinished = number + 1 < end and body[number + 1].startswith(b"\\")
            if origin == b"+":
                lines.append(DiffLine("+", line[1:], None, new_line, unfinished))
                new_line += 1
            elif origin == b"-":
                lines.append(DiffLine("-", line[1:], old_line, None, unfinished))
                old_line += 1
            else:
                lines.append(DiffLine(" ", line[1:], old_line, new_line, unfinished))
                old_line += 1
                new_line += 1
        heading = body[start][match.end() + 1 :]
        hunks.append(Hunk(old_start, old_lines, new_start, new_lines, heading, tuple(lines)))
    return tuple(hunks)

"""What git would store of files in another form, by their attributes: avfs stores each file as it is, and warns.

Decided here: for which changed files git's own `git add` would run a filter (`filter=lfs`, `filter=git-crypt`), convert
line ends (`text`, `eol`; in a clone also `core.autocrlf`), characters (`working-tree-encoding`) or keywords (`ident`).
avfs runs no program that an attribute names, and its tree has the bytes of the file: with a clean filter that encrypts,
that is the plain text. `find_shown` tells what a file shows that git has committed in such a form. Called by a
checkpoint, by a fork or import of a directory, with the trees before and after, and where git's commits are recorded.
Costs what changed: attributes are asked for changed paths only, and contents are read where an attribute says that git
looks at them, up to `_READ_MAX` bytes a file and `_FILES_MAX` files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from avfs_git.errors import AvfsError, name_some
from avfs_git.gitstore.compare.treediff import Entry, walk_differences
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_FILE
from avfs_git.gitstore.rules.attributes import TreeAttributes, Value, read_info_attributes
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import ChangedFile, Warning
from avfs_git.paths import Oid, TreePath, maybe_oid, show_path

_ASKED: Sequence[bytes] = (b"filter", b"text", b"eol", b"crlf", b"working-tree-encoding", b"ident")
_REWRITTEN: Sequence[bytes] = (b"filter", b"working-tree-encoding", b"ident")
"""Those by which not only line ends differ."""
_FILES_MAX = 1000
"""Of so many changed files the contents are looked at."""
_READ_MAX = 1 << 20
"""A file above this is not searched for line ends."""
_COMPARED_MAX = 64 << 20
"""A file above this is not compared with what git has committed of it."""
_NAMED_MAX = 3
_PROBE = 8000
"""git looks at so many bytes to tell text from binary files."""
_CLEANED = {b"lfs": b"version https://git-lfs.github.com/spec/", b"git-crypt": b"\0GITCRYPT\0"}
"""How a file begins that holds what the filter would make of it."""


def warn_of_conversions(
    source: ObjectSource,
    before: Oid | None,
    after: Oid | None,
    git_dir: Path,
    changed: Sequence[ChangedFile] | None = None,
    *,
    by_default: bool = False,
) -> list[Warning]:
    """Warn of files of the tree `after`, new or changed since `before`, that git would store in another form.

    `git_dir` has the repository's own `info/attributes`; `changed` is what differs, if the caller knows it. Git
    converts line ends `by_default` where `core.autocrlf` says so. What cannot be read now, as on a server that is away,
    is passed over: a warning is no reason to fail.
    """
    if before == after or after is None:
        return []
    attributes = TreeAttributes(source, after, read_info_attributes(git_dir))
    found: dict[str, list[TreePath]] = {}
    left = _FILES_MAX
    try:
        # Without a list of them: an import has hundreds of thousands.
        for path, was, now in walk_differences(source, before, after) if changed is None else map(_entries_of, changed):
            old = was[1] if was is not None else None
            if now is None or now[1] == old or now[0] not in (MODE_FILE, MODE_EXEC):
                continue
            values = attributes.find(path, _ASKED)
            if by_default and values[b"text"] is values[b"crlf"] is values[b"eol"] is None:
                values = {**values, b"text": b"auto"}
            if left and any(value not in (None, False) for value in values.values()):
                left -= 1
                what = _find_conversion(source, values, old, now[1])
                if what is not None:
                    found.setdefault(what, []).append(path)
    except AvfsError:
        return []
    return [_warn(what, sorted(paths)) for what, paths in sorted(found.items())]


def find_shown(
    source: ObjectSource, attributes: TreeAttributes, path: TreePath, committed: Entry, present: Entry | None
) -> Entry | None:
    """Find what a file shows that git has committed or checked out, as far as that is known; None if it is not.

    What a filter made of it, or of its line ends, replaces no file. Its `present` content may be newer.
    """
    states = [entry for entry in (committed, present) if entry is not None]
    if committed == present or any(mode not in (MODE_FILE, MODE_EXEC) for mode, _ in states):
        return committed
    if any(value not in (None, False) for value in attributes.find(path, _REWRITTEN).values()):
        return present
    if present is None or any(source.blob_size(oid) > _COMPARED_MAX for _, oid in states):
        return committed
    content = source.read_blob(present[1])
    is_same = b"\r\n" in content and content.replace(b"\r\n", b"\n") == source.read_blob(committed[1])
    return present if is_same else committed


def _entries_of(change: ChangedFile) -> tuple[TreePath, Entry | None, Entry | None]:
    """Give the path of a change, and what stands there before and after."""
    old, new = maybe_oid(change.old_oid), maybe_oid(change.new_oid)
    return (
        TreePath(change.path),
        (change.old_mode or 0, old) if old is not None else None,
        (change.new_mode or 0, new) if new is not None else None,
    )


def _find_conversion(source: ObjectSource, values: Mapping[bytes, Value], old: Oid | None, oid: Oid) -> str | None:
    """Name the attribute by which git would store something else than the content; None if it would store that."""
    driver, encoding = values[b"filter"], values[b"working-tree-encoding"]
    size = source.blob_size(oid)
    content = source.read_blob(oid) if size <= _READ_MAX else None
    if isinstance(driver, bytes):
        cleaned = _CLEANED.get(driver)
        if cleaned is None or content is None or not content.startswith(cleaned):
            return f"filter={show_path(driver)}"
        return None
    if isinstance(encoding, bytes) and encoding.upper() not in (b"UTF-8", b"UTF8"):
        return f"working-tree-encoding={show_path(encoding)}"
    if content is None:
        return None
    if _converts_lines(source, values, old, content):
        return "text"
    return "ident" if values[b"ident"] is True and b"$Id:" in content else None


def _converts_lines(source: ObjectSource, values: Mapping[bytes, Value], old: Oid | None, content: bytes) -> bool:
    """Whether git would make the line ends of a file LF."""
    text = values[b"text"] if values[b"text"] is not None else values[b"crlf"]
    if text is False or b"\r\n" not in content:
        return False
    if text == b"auto":
        # Binary files stay, and files of which git has CRLF already.
        if b"\0" in content[:_PROBE]:
            return False
        return old is None or source.blob_size(old) > _READ_MAX or b"\r\n" not in source.read_blob(old)
    return text is True or text == b"input" or values[b"eol"] in (b"lf", b"crlf")


def _warn(what: str, paths: Sequence[TreePath]) -> Warning:
    named = name_some(list(map(show_path, paths)), _NAMED_MAX)
    made = "with LF line ends" if what == "text" else f"as the attribute {what} says"
    text = f"{named}: saved as in the workspace; git would store {made}, and avfs converts no files"
    return Warning("attributes.not_applied", text, paths[0])

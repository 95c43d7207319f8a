"""Names and paths: the one border between what people type and what trees and disks hold.

Decided here: what a path in a workspace looks like (`TreePath`), which names vaults, forks and labels may have, how a
fork's name becomes one directory name, and which texts, lists and limits of callers are refused. Everybody calls it; it
touches no disk and holds no state.

A `TreePath` is bytes, relative to the root of the workspace, without leading or trailing slash, without
`.`, `..` or empty components; the root is `b""`. Host paths are `pathlib.Path`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NewType, TypeVar
from urllib.parse import unquote

from avfs_git.errors import InvalidInput, InvalidName, InvalidPath, PathEscapes, quote
from avfs_git.patterns import compiled

TreePath = NewType("TreePath", bytes)
Oid = NewType("Oid", bytes)
"""A git object id as its 20 raw bytes; `.hex()` is how people see it."""

PathLike = str | bytes | os.PathLike[str]
"""How callers write a path of a workspace."""
_T = TypeVar("_T")

ROOT = TreePath(b"")
_PLAIN = compiled(rb"(?:[^./\0][^/\0]*/)*[^./\0][^/\0]*", re.DOTALL)
"""A path in which nothing needs a second look: no slash at either end, no component that begins with a dot."""
NAME_MAX = 255  # linux/limits.h
_DIR_MAX = 240
"""Bytes of the name of a fork's directory: names of files beside it are some longer."""
_MOST = 2**31 - 1
"""The largest limit that git and SQLite take."""
_LINES_MOST = 999_999_999
"""The largest number of lines that git takes."""
WHOLE_VAULT = "*"
"""What stands for a fork where a mount shows all of a vault: no branch can have that name."""


def text_given(text: str) -> str:
    """Take a text of a caller.

    Raises:
        InvalidInput: If it is a value of another type.
    """
    if not isinstance(text, str):
        raise InvalidInput(f"a text is needed, not a value of type '{type(text).__name__}'")
    return text


def encode_given(text: PathLike) -> bytes:
    """Spell a text of a caller as the bytes that files have.

    Raises:
        InvalidInput: If it holds half of a character, which no file does, or is a value of another type.
    """
    try:
        return os.fsencode(text)
    except TypeError:
        raise InvalidInput(f"a text or a path is needed, not a value of type '{type(text).__name__}'") from None
    except UnicodeEncodeError:
        raise InvalidInput(f"{quote(os.fspath(text))} holds half of a character (a lone surrogate)") from None


def host_path(given: str | os.PathLike[str]) -> Path:
    """Read a path of this machine as callers write it.

    Raises:
        InvalidInput: If it is empty, which would mean the current directory, or if no path can be so.
    """
    raw = encode_given(given)
    if not raw or b"\0" in raw:
        raise InvalidInput("a path of the machine may not be empty or hold a NUL byte")
    return Path(given)


def parse_tree_path(text: PathLike) -> TreePath:
    """Read a path as people write it: from the root of the workspace, leading slash or not.

    `.` and empty components vanish and `..` takes back the component before it, both as text.

    Raises:
        PathEscapes: If `..` leads above the root.
        InvalidPath: If the path holds a NUL byte or a component of more than 255 bytes.
        InvalidInput: If it holds half of a character.
    """
    raw = encode_given(text)
    if _PLAIN.fullmatch(raw) is not None and len(raw) <= NAME_MAX:
        return TreePath(raw)
    if b"\0" in raw:
        raise InvalidPath(raw, "it holds a NUL byte")
    parts: list[bytes] = []
    for part in raw.split(b"/"):
        if part in (b"", b"."):
            continue
        if part == b"..":
            if not parts:
                raise PathEscapes(raw)
            parts.pop()
            continue
        if len(part) > NAME_MAX:
            raise InvalidPath(raw, f"a name in it is longer than {NAME_MAX} bytes")
        parts.append(part)
    return TreePath(b"/".join(parts))


def check_named(path: PathLike) -> None:
    """Refuse an empty path where files are replaced: a program may give one by mistake, and the root is `/`.

    Raises:
        InvalidPath: If it is empty.
    """
    if not encode_given(path):
        raise InvalidPath(b"", "it is empty")


def list_given(given: Iterable[_T]) -> list[_T]:
    """List the names or paths that a caller gives as a sequence.

    Raises:
        InvalidInput: If it is a single text or path, or no list at all. Python iterates over the letters of a text, and
            each letter would be taken for a name.
    """
    if isinstance(given, str | bytes | os.PathLike):
        text = os.fspath(given)
        raise InvalidInput(f"a list is needed, not the single value {quote(text)}", hint="Put it into a list.")
    if not isinstance(given, Iterable):
        raise InvalidInput(f"a list is needed, not a value of type '{type(given).__name__}'")
    return list(given)


def whole(number: int) -> int:
    """Take a whole number of a caller.

    Raises:
        InvalidInput: If it is a value of another type, as 1.5 is.
    """
    if not isinstance(number, int):
        raise InvalidInput(f"a whole number is needed, not a value of type '{type(number).__name__}'")
    return number


def amount(number: int, name: str) -> int:
    """Take a number of a caller that says how much stays, before the rest is removed.

    Raises:
        InvalidInput: If it is negative, as where that would mean no limit elsewhere, or a value of another type.
    """
    if whole(number) < 0:
        raise InvalidInput(f"`{name}` is {number}, which is negative: 0 keeps nothing")
    return number


def at_most(limit: int) -> int:
    """Read how many results a caller wants at most.

    Raises:
        InvalidInput: If it is a negative number, or none.
    """
    if whole(limit) < 0:
        raise InvalidInput(f"at most {limit} results make no sense: a limit is not negative")
    return min(limit, _MOST)


def lines_given(count: int) -> int:
    """Read how many lines a caller wants around others.

    Raises:
        InvalidInput: If it is negative, more than a file can have, or no number.
    """
    if not 0 <= whole(count) <= _LINES_MOST:
        raise InvalidInput("a number of lines is negative or too large")
    return count


def parse_tree_paths(paths: Sequence[PathLike]) -> list[TreePath]:
    """Read several paths; nothing where the root is among them, which is everything."""
    found = [parse_tree_path(path) for path in list_given(paths)]
    return [] if ROOT in found else found


def oid_of(text: str | bytes) -> Oid:
    """Read an object id as people and git write it: 40 hexadecimal digits."""
    return Oid(bytes.fromhex(text if isinstance(text, str) else text.decode("ascii")))


def maybe_oid(text: str | None) -> Oid | None:
    """Read an object id of a record, which may have none."""
    return Oid(bytes.fromhex(text)) if text is not None else None


def maybe_hex(oid: Oid | None) -> str | None:
    """Write an object id, or None, for a record."""
    return oid.hex() if oid is not None else None


def join(directory: TreePath, name: bytes) -> TreePath:
    """Name an entry of a directory."""
    return TreePath(directory + b"/" + name if directory else name)


def split(path: TreePath) -> tuple[TreePath, bytes]:
    """Split a path other than the root into its directory and its name."""
    directory, _, name = path.rpartition(b"/")
    return TreePath(directory), name


def climb(path: bytes) -> Iterator[TreePath]:
    """List a path and the directories that it is in, from the nearest up; without the root."""
    here = TreePath(path)
    while here:
        yield here
        here = split(here)[0]


def list_above(paths: Iterable[bytes]) -> set[TreePath]:
    """List the directories that lead to some paths, the root among them; none for no path."""
    found: set[TreePath] = set()
    for path in paths:
        here = TreePath(path)
        while here:
            here = split(here)[0]
            if here in found:
                break
            found.add(here)
    return found


def components(path: TreePath) -> list[bytes]:
    """List the names that lead to a path; none for the root."""
    return path.split(b"/") if path else []


def show_path(path: bytes) -> str:
    """Show a path to people; bytes that are not UTF-8 are replaced."""
    return path.decode("utf-8", "replace")


# --- names -----------------------------------------------------------------------------------------------

_VAULT_NAME = compiled(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", re.ASCII)
_LABEL_MAX = 240
_LABEL_ESCAPED = compiled(r"[^A-Za-z0-9_+=,.-]|^[-.]|(?<=\.)\.|\.$")
"""Of a label, what is escaped in its ref (git-check-ref-format(1)), and all that is not ASCII."""
_STEPS = compiled(r".+[~^]\d*")
_REF_FORBIDDEN = compiled(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")


def check_vault_name(name: str) -> str:
    """Return the name if a vault may have it.

    Raises:
        InvalidName: Otherwise.
    """
    if not _VAULT_NAME.fullmatch(text_given(name)):
        raise InvalidName("vault", name, "use 1 to 64 letters, digits, '-', '_' and '.', not starting with '-' or '.'")
    if name.endswith((".git", ".lock", ".")):
        raise InvalidName("vault", name, "it may not end in '.git', '.lock' or '.'")
    return name


def suggest_vault_name(directory: str) -> str:
    """Make the name of a vault from that of a directory."""
    letters = (letter if letter.isascii() and (letter.isalnum() or letter in "-_") else "-" for letter in directory)
    return "".join(letters).strip("-")[:50] or "root"


def check_fork_name(name: str) -> str:
    """Return the name if a fork may have it: what git allows for a branch, at most 200 bytes.

    The rules are those of `git check-ref-format --branch`.

    Raises:
        InvalidName: Otherwise.
    """
    if reason := _refuse_ref(name):
        raise InvalidName("fork", name, reason)
    if name == "HEAD":
        raise InvalidName("fork", name, "git keeps it for itself")
    return name


def is_fork_name(name: str) -> bool:
    """Tell whether a fork may have a name."""
    return name != "HEAD" and not _refuse_ref(name)


def check_label(name: str) -> str:
    """Return the name if a checkpoint may be labelled so: one line of text, at most 240 bytes as a ref.

    Raises:
        InvalidName: Otherwise.
    """
    if not text_given(name).strip():
        raise InvalidName("checkpoint", name, "it is empty")
    if not name.isprintable():
        raise InvalidName("checkpoint", name, "it holds a line break or another control character")
    if len(label_ref_name(name)) > _LABEL_MAX:
        raise InvalidName("checkpoint", name, f"it is longer than {_LABEL_MAX} bytes in a ref")
    return name


def check_new_label(name: str) -> str:
    """Return the name if a new checkpoint may have it; not `HEAD`, `two~1` and the like, which the label would hide.

    Raises:
        InvalidName: Otherwise.
    """
    if check_label(name) in ("HEAD", "@"):
        raise InvalidName("checkpoint", name, "it means the newest state")
    if _STEPS.fullmatch(name):
        raise InvalidName("checkpoint", name, "what ends so means a state before another")
    return name


def label_ref_name(label: str) -> str:
    """Encode a label as one component of a ref, reversibly: what git does not allow there is percent-escaped."""
    escaped = _LABEL_ESCAPED.sub(lambda match: "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8")), label)
    if escaped.endswith(".lock"):
        escaped = escaped.removesuffix(".lock") + "%2Elock"
    return escaped


def label_of_ref_name(name: str) -> str:
    """Decode what `label_ref_name` made."""
    return unquote(name)


def _refuse_ref(name: str) -> str | None:
    if not text_given(name):
        return "it is empty"
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    if size > 200:
        return "it is longer than 200 bytes"
    if len(_escape(name).encode()) > _DIR_MAX:
        return f"it is longer than {_DIR_MAX} bytes with each slash as `%2F`, as avfs names a directory"
    if name.startswith("-"):
        return "it starts with '-'"
    if (forbidden := _REF_FORBIDDEN.search(name)) is not None:
        return f"git allows no {forbidden[0]!r} in it"
    if name == "@":
        return "git keeps it for itself"
    for part in name.split("/"):
        if not part:
            return "it has an empty part"
        if part.startswith(".") or part.endswith((".", ".lock")):
            return "a part of it starts or ends with '.', or ends with '.lock'"
    return None


def fork_dir_name(fork: str) -> str:
    """Encode a fork's name as one directory name, reversibly: `%` and `/` are percent-escaped.

    Raises:
        InvalidName: If it would name another directory, or none at all.
    """
    raw = encode_given(fork)
    if raw in (b"", b".", b"..") or b"\0" in raw or len(raw) > NAME_MAX:
        check_fork_name(fork)
    return _escape(fork)


def _escape(fork: str) -> str:
    return fork.replace("%", "%25").replace("/", "%2F")


def fork_of_dir_name(name: str) -> str:
    """Decode what `fork_dir_name` made."""
    return name.replace("%2F", "/").replace("%25", "%")

"""The files of a walk (`tests.support.walks`): what they hold, and what stands for work in them.

Decided here: how a file is spelled as a value: its content, and after that its mode, if that is not the usual one.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable

from avfs_git import Workspace
from avfs_git.model import Kind
from tests.support.faults import read_files

RULES, NO_RULES = b"*.env\n", b"# nothing\n"
"""What `.gitignore` says."""
_TOKEN = re.compile(rb"(?:ours|theirs|secret)-\d+")
MARKS = {"100644": b"", "100755": b"\0executable", "120000": b"\0link"}
"""What stands after the content of a file, by its mode."""

Files = dict[str, bytes]


def tokens_of(files: Files | Iterable[bytes]) -> frozenset[str]:
    """List the tokens in some files."""
    contents = files.values() if isinstance(files, dict) else files
    return frozenset(found.decode() for content in contents for found in _TOKEN.findall(content))


def tokens_in_diff(patch: str, sign: str) -> frozenset[str]:
    """List the tokens in the lines of a patch that are removed (`-`) or added (`+`)."""
    return tokens_of(line.encode() for line in patch.splitlines() if line.startswith(sign))


def tokens_taken(patch: str) -> frozenset[str]:
    """List the tokens that a patch removes, where it puts nothing in their place."""
    hunks = re.split(r"(?m)^@@ .*$|^diff .*$", patch)
    return tokens_of(hunk.encode() for hunk in hunks if not re.search(r"(?m)^\+(?!\+\+)", hunk))


def fresh(name: str, token: str = "") -> bytes:
    """Make up a file, with a line of work."""
    lines = [f"{name} {number}" for number in range(16)]
    lines[8] = "middle"
    return "".join(f"{line}\n" for line in [lines[0], *([token] if token else []), *lines[1:]]).encode()


def is_secret(path: str) -> bool:
    """Tell whether a file is one that the rules ignore."""
    return path.endswith(".env")


def mark(content: bytes, mode: int, *, is_link: bool) -> bytes:
    """Spell a file."""
    return content + MARKS["120000" if is_link else "100755" if mode & 0o100 else "100644"]


def identify(marked: bytes | None) -> tuple[str, str] | None:
    """Give the mode and id that git has for a file."""
    if marked is None:
        return None
    content, zero, mark = marked.partition(b"\0")
    mode = next(mode for mode, known in MARKS.items() if known == zero + mark)
    return mode, hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def read_all(work: Workspace) -> Files:
    """Read the files of a workspace."""
    return {
        os.fsdecode(path): mark(content, mode, is_link=kind is Kind.SYMLINK)
        for path, (kind, mode, content) in read_files(work).items()
        if kind in (Kind.FILE, Kind.SYMLINK)
    }

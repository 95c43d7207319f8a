"""Repositories that were prepared to do harm, made object by object, whatever git thinks of them.

Decided here: the objects of each; which door they come to is for the tests to say.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

Files = Mapping[str, "Files | bytes"]
"""A directory: files and directories by name."""


def put(git_dir: Path, data: bytes, kind: str) -> str:
    """Store an object as it is."""
    argv = ["git", f"--git-dir={git_dir}", "hash-object", "--literally", "-w", "--stdin", "-t", kind]
    return subprocess.run(argv, input=data, check=True, capture_output=True).stdout.decode().strip()


def entry(mode: str, name: bytes, oid: str) -> bytes:
    """Write an entry of a tree."""
    return mode.encode() + b" " + name + b"\0" + bytes.fromhex(oid)


def put_tree(git_dir: Path, files: Files, sign: str = "") -> str:
    """Store a directory as a tree; each name begins with a sign."""
    entries = []
    for name, content in files.items():
        spelled = name if name == "meta" and sign else sign + name
        if isinstance(content, bytes):
            entries.append((spelled.encode(), "100644", put(git_dir, content, "blob")))
        else:
            entries.append((spelled.encode() + b"/", "40000", put_tree(git_dir, content, sign)))
    return put(git_dir, b"".join(entry(mode, name.rstrip(b"/"), oid) for name, mode, oid in sorted(entries)), "tree")


def put_commit(git_dir: Path, tree: str, *, ref: str | None = None, parent: str | None = None, sidecar: str | None = None) -> str:
    """Store a commit, with the header of avfs where a sidecar is named, and have a ref point to it."""
    who = "A <a@b> 1700000000 +0000"
    lines = [f"tree {tree}", *([f"parent {parent}"] if parent else []), f"author {who}", f"committer {who}"]
    lines += [f"avfs-sidecar {sidecar}"] if sidecar else []
    made = put(git_dir, ("\n".join(lines) + "\n\nx\n").encode(), "commit")
    if ref is not None:
        subprocess.run(["git", f"--git-dir={git_dir}", "update-ref", ref, made], check=True)
    return made


def hostile_git_dir(mark: Path) -> Files:
    """Make a `.git` whose configuration has `git status` write a file."""
    config = f'[core]\n\trepositoryformatversion = 0\n\tbare = false\n\tfsmonitor = "touch {mark}; false"\n'
    return {"HEAD": b"ref: refs/heads/main\n", "config": config.encode(), "objects": {}, "refs": {"heads": {}}}

"""Repositories that were prepared to do harm, made object by object, whatever git thinks of them.

Decided here: the objects of each; which door they come to is for the tests to say.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
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


def put_commit(
    git_dir: Path, tree: str, *, ref: str | None = None, parent: str | None = None, sidecar: str | None = None
) -> str:
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


def _entries(*entries: tuple[str, bytes, str]) -> Build:
    """Have a directory of a tree hold entries: mode, name, and which object of `_OBJECTS`."""

    def build(git_dir: Path) -> str:
        known = {
            "blob": put(git_dir, b"x\n", "blob"),
            "tree": put_tree(git_dir, {"in": b"in\n"}),
            "null": "0" * 40,
            "missing": "1" * 40,
        }
        known["commit"] = put_commit(git_dir, known["tree"])
        for name, content in _CONTENTS.items():
            known[name] = put(git_dir, content, "blob")
        below = put(git_dir, b"".join(entry(mode, name, known[oid]) for mode, name, oid in entries), "tree")
        return put(git_dir, entry("40000", b"dir", below) + entry("100644", b"ok", known["blob"]), "tree")

    return build


def _modules(content: str) -> Build:
    def build(git_dir: Path) -> str:
        return put(git_dir, entry("100644", b".gitmodules", put(git_dir, _CONTENTS[content], "blob")), "tree")

    return build


Build = Callable[[Path], str]
"""Stores a tree in a repository, and returns its id."""
_CONTENTS = {
    "url": b'[submodule "a"]\n\tpath = a\n\turl = -u./payload\n',
    "path": b'[submodule "a"]\n\tpath = --upload-pack=x\n\turl = https://example.org\n',
    "name": b'[submodule "../../x"]\n\tpath = a\n\turl = https://example.org\n',
    "update": b'[submodule "a"]\n\tpath = a\n\tupdate = !touch x\n\turl = https://example.org\n',
}
HOSTILE: Mapping[str, Build] = {
    **{
        f"name {name!r}": _entries(("100644", name, "blob"))
        for name in (b".git", b".GIT", b"..", b"", b"a/b", b"git~1", b".git.", b".g\xe2\x80\x8cit")
    },
    "directory .git": _entries(("40000", b".git", "tree")),
    "twice": _entries(("100644", b"a", "blob"), ("100644", b"a", "blob")),
    "file and directory": _entries(("100644", b"a", "blob"), ("40000", b"a", "tree")),
    "unsorted": _entries(("100644", b"b", "blob"), ("100644", b"a", "blob")),
    "null id": _entries(("100644", b"a", "null")),
    "missing": _entries(("100644", b"a", "missing")),
    "missing tree": _entries(("40000", b"a", "missing")),
    "file as a tree": _entries(("40000", b"a", "blob")),
    "linked .gitmodules": _entries(("120000", b".gitmodules", "blob")),
    **{f"mode {mode}": _entries((mode, b"a", "blob")) for mode in ("104755", "100777", "20000", "0")},
    **{f"gitmodules {what}": _modules(what) for what in _CONTENTS},
}
"""Trees that come in by no door."""
HARMLESS: Mapping[str, Build] = {
    "zero-padded": _entries(("040000", b"a", "tree")),
    "submodule": _entries(("160000", b"a", "commit")),
    "linked .gitignore": _entries(("120000", b".gitignore", "blob")),
}
"""Odd trees that come in by every door."""

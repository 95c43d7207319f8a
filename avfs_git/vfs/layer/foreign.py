"""A `.git` in the sidecar of a vault that its user has not made: none that makes git run a program is shown.

Decided here: when a saved `.git` is judged: as the directory that holds it is read, from whichever commit, because a
vault from an archive names sidecars in its log and in states of its workspaces, too. `gitstore.config.nested` says what
is refused. `workspace.vault.vault` gives this to the store of such a vault, so that a directory with such a `.git`
cannot be read: no live tree, restore or export gets any of it. Costs what the `.git` holds, once for each state of it
in a process. Any thread may call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from avfs_git.errors import VaultUntrusted
from avfs_git.gitstore.config import nested
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_GITLINK, MODE_SYMLINK, MODE_TREE
from avfs_git.gitstore.source import ObjectSource, Tree
from avfs_git.vfs.layer.sidecar import Record, SideEntry, find_child, parse_record, parse_records, parse_sidecar

_GIT = b".git"


def make_judge(git_dir: Path, source: ObjectSource) -> Callable[[Tree], None]:
    """Make what a store calls with each tree that it reads; it raises VaultUntrusted for one with a harmful `.git`."""
    harmless: set[SideEntry] = set()

    def judge(tree: Tree) -> None:
        child = find_child(tree, _GIT)
        if child is None or child in harmless:
            return
        reason = _find_harm(source, child)
        if reason is not None:
            raise VaultUntrusted(str(git_dir), f"among its ignored files, {reason}")
        harmless.add(child)

    return judge


def _find_harm(source: ObjectSource, git: SideEntry) -> str | None:
    left: list[tuple[str, SideEntry, Record | None]] = [(nested.GIT, git, None)]
    while left:
        path, entry, record = left.pop()
        if entry.mode == MODE_TREE:
            found = nested.find_in_directory(path)
            children, meta = parse_sidecar(source.read_tree(entry.oid), entry.oid)
            records = parse_records(source.read_blob(meta), meta) if meta is not None else {}
            for name, child in children.items():
                left.append((f"{path}/{name.decode('utf-8', 'surrogateescape')}", child, records.get(name)))
        elif entry.mode == MODE_SYMLINK:
            found = nested.find_in_link(path)
        elif entry.mode == MODE_GITLINK:
            found = None
        else:
            mode = (parse_record(record, entry.oid).mode if record is not None else None) or 0
            is_executable = entry.mode == MODE_EXEC or bool(mode & 0o111)
            found = nested.find_in_file(path, partial(source.read_blob, entry.oid), is_executable=is_executable)
        if found is not None:
            return f"a '{path}' {found}"
    return None

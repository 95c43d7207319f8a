"""How two sidecars differ in what people care about: content, permissions and attributes, not times.

Decided here: what counts as a change of a sidecar. A directory that came or went is one change, whatever it
holds. Reads objects only; equal subtrees are not opened, so that it costs what differs.
"""

from __future__ import annotations

from avfs_git.gitstore.source import ObjectSource
from avfs_git.gitstore.trees import MODE_TREE
from avfs_git.model import ChangedFile, ChangeKind
from avfs_git.paths import ROOT, Oid, TreePath, join
from avfs_git.vfs.sidecar import SELF, Record, SideEntry, differ_beyond_times, parse_record, parse_records, parse_sidecar


def diff_sidecars(source: ObjectSource, old: Oid | None, new: Oid | None) -> list[ChangedFile]:
    """List what two sidecar trees hold differently, sorted by path."""
    found: list[ChangedFile] = []
    stack = [(ROOT, old, new)]
    while stack:
        path, left, right = stack.pop()
        if left == right:
            continue
        left_children, left_meta = _read(source, left)
        right_children, right_meta = _read(source, right)
        for name in sorted(left_children.keys() | right_children.keys()):
            before, after = left_children.get(name), right_children.get(name)
            if before == after:
                continue
            change = _compare(join(path, name), before, after)
            if change is not None:
                found.append(change)
            elif _is_dir(before) or _is_dir(after):
                stack.append((join(path, name), _tree_of(before), _tree_of(after)))
        listed = {change.path for change in found}
        for name in left_meta.keys() | right_meta.keys():
            there = path if name == SELF else join(path, name)
            was, now = left_meta.get(name), right_meta.get(name)
            if there not in listed and differ_beyond_times(was, now):
                found.append(ChangedFile(there, ChangeKind.MODE, old_mode=_mode_of(was), new_mode=_mode_of(now)))
    return sorted(found, key=lambda change: change.path)


def _read(source: ObjectSource, oid: Oid | None) -> tuple[dict[bytes, SideEntry], dict[bytes, Record]]:
    if oid is None:
        return {}, {}
    children, meta = parse_sidecar(source.read_tree(oid), oid)
    return children, parse_records(source.read_blob(meta), meta) if meta is not None else {}


def _is_dir(entry: SideEntry | None) -> bool:
    return entry is not None and entry.mode == MODE_TREE


def _tree_of(entry: SideEntry | None) -> Oid | None:
    return entry.oid if entry is not None and entry.mode == MODE_TREE else None


def _compare(path: TreePath, before: SideEntry | None, after: SideEntry | None) -> ChangedFile | None:
    """Make the change of one child; None if it has to be looked into, or is of no interest."""
    old = before if before is not None and before.untracked else None
    new = after if after is not None and after.untracked else None
    if old is None and new is None:
        return None
    if _is_dir(before) and _is_dir(after):
        return None
    if old is None:
        assert new is not None  # noqa: S101 - one of them is there
        if before is not None and _is_dir(before):
            return None
        return ChangedFile(path, ChangeKind.ADDED, new_oid=new.oid.hex(), new_mode=new.mode)
    if new is None:
        if after is not None and _is_dir(after):
            return None
        return ChangedFile(path, ChangeKind.DELETED, old_oid=old.oid.hex(), old_mode=old.mode)
    kind = ChangeKind.MODIFIED
    if old.oid == new.oid:
        kind = ChangeKind.MODE
    elif old.mode & 0o170000 != new.mode & 0o170000:
        kind = ChangeKind.TYPE
    return ChangedFile(path, kind, old_oid=old.oid.hex(), new_oid=new.oid.hex(), old_mode=old.mode, new_mode=new.mode)


def _mode_of(record: Record | None) -> int | None:
    return parse_record(record, Oid(bytes(20))).mode if record is not None else None

"""How two sidecars differ in what people care about: content, permissions and attributes, not times.

Decided here: what counts as a change of a sidecar. A directory that came or went is one change, with all that it
holds. Reads objects only; equal subtrees are not opened, so that it costs what differs.
"""

from __future__ import annotations

from avfs_git.gitstore.bounds import Bound
from avfs_git.gitstore.formats.trees import MODE_TREE
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import ChangedFile, ChangeKind
from avfs_git.paths import ROOT, Oid, TreePath, join, oid_of
from avfs_git.vfs.layer.sidecar import (
    SELF,
    Record,
    SideEntry,
    differ_beyond_times,
    parse_record,
    parse_records,
    parse_sidecar,
)

_NONE = Oid(bytes(20))


def diff_sidecars(source: ObjectSource, old: Oid | None, new: Oid | None) -> list[ChangedFile]:
    """List what two sidecar trees hold differently, sorted by path."""
    found: dict[TreePath, ChangedFile] = {}
    stack = [(ROOT, old, new)]
    bound = Bound(source, (old, new))
    while stack:
        path, left, right = stack.pop()
        if left == right:
            continue
        (left_children, left_meta), (right_children, right_meta) = _read_differing(source, left, right)
        bound.meet(len(left_children) + len(right_children))
        for name in left_children.keys() | right_children.keys():
            before, after = left_children.get(name), right_children.get(name)
            if before == after:
                continue
            change = _compare(join(path, name), before, after)
            if change is not None:
                found[join(path, name)] = change
            elif _is_dir(before) or _is_dir(after):
                stack.append((join(path, name), _tree_of(before), _tree_of(after)))
        for name in left_meta.keys() | right_meta.keys():
            there = path if name == SELF else join(path, name)
            was, now = left_meta.get(name), right_meta.get(name)
            if there not in found and differ_beyond_times(was, now):
                found[there] = ChangedFile(there, ChangeKind.MODE, old_mode=_mode_of(was), new_mode=_mode_of(now))
    return [found[path] for path in sorted(found)]


def list_added_files(source: ObjectSource, change: ChangedFile) -> list[ChangedFile]:
    """List the files below a directory that a change added, which is one change; any other change alone."""
    if change.new_mode != MODE_TREE or change.new_oid is None or change.new_oid == change.old_oid:
        return [change]
    found: list[ChangedFile] = []
    top = oid_of(change.new_oid)
    stack, bound = [(TreePath(change.path), top)], Bound(source, (None, top))
    while stack:
        path, oid = stack.pop()
        children, _ = parse_sidecar(source.read_tree(oid), oid)
        bound.meet(len(children))
        for name, child in children.items():
            if _is_dir(child):
                stack.append((join(path, name), child.oid))
            else:
                there = join(path, name)
                found.append(ChangedFile(there, ChangeKind.ADDED, new_oid=child.oid.hex(), new_mode=child.mode))
    return found


_Read = tuple[dict[bytes, SideEntry], dict[bytes, Record]]


def _read_differing(source: ObjectSource, left: Oid | None, right: Oid | None) -> tuple[_Read, _Read]:
    """Read two sidecar trees without what they have in common, which is most of them and need not be taken apart."""
    old = source.read_tree(left) if left is not None else {}
    new = source.read_tree(right) if right is not None else {}
    old_children, old_meta = parse_sidecar(
        {name: entry for name, entry in old.items() if new.get(name) != entry}, left or _NONE
    )
    new_children, new_meta = parse_sidecar(
        {name: entry for name, entry in new.items() if old.get(name) != entry}, right or _NONE
    )
    old_data = source.read_blob(old_meta) if old_meta is not None else b""
    new_data = source.read_blob(new_meta) if new_meta is not None else b""
    if old_data[-1:] == new_data[-1:] == b"\0":
        old_records, new_records = old_data[:-1].split(b"\0"), new_data[:-1].split(b"\0")
        common = set(old_records).intersection(new_records)
        old_data = b"".join([record + b"\0" for record in old_records if record not in common])
        new_data = b"".join([record + b"\0" for record in new_records if record not in common])
    return (
        (old_children, parse_records(old_data, old_meta or _NONE)),
        (new_children, parse_records(new_data, new_meta or _NONE)),
    )


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
    return parse_record(record, _NONE).mode if record is not None else None

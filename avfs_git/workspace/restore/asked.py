"""Asking the user's plug-ins before an operation brings a workspace's or another directory's files to another state.

Decided here: what they are told of a plan: each path that changes, as if a program changed it, with the operation as
the cause. A directory that goes is told with all that is in it. All is asked before anything is done, so that a refusal
refuses the whole operation. `intent.announced` calls this, with the workspace lock held; where no plug-in is enabled it
costs a look on disk. What puts a workspace back after a failure or a crash asks nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from avfs_git.gitstore.formats.trees import MODE_SYMLINK
from avfs_git.gitstore.source import ObjectSource
from avfs_git.model import ChangedFile
from avfs_git.paths import TreePath, join, oid_of
from avfs_git.vfs.asked import Change
from avfs_git.vfs.layer.lower import LowerEntry, read_target
from avfs_git.vfs.layer.plan import Plan, Step
from avfs_git.workspace.opened.workspace import OpenWorkspace

_Facts = dict[str, int | str | bool]


def ask_about(opened: OpenWorkspace, plan: Plan, cause: str) -> None:
    """Ask the user's plug-ins about each path of a plan.

    Raises:
        PluginRefused: If one does not want a change.
        PluginFailed: If one cannot be asked.
    """
    check = opened.find_check()
    if check is None:
        return
    uid = os.geteuid()
    try:
        for step in plan.steps:
            for operation, path, facts in _list_changes(plan, step):
                for one in _list_names(opened, path) if operation == "setattr" else (path,):
                    check(Change(operation, one, facts={"cause": cause, **facts}, uid=uid))
    except BaseException:
        opened.forget()  # nothing writes what the caller has prepared in the state
        raise


def ask_to_apply(
    check: Callable[[Change], None], source: ObjectSource, directory: Path, changes: Iterable[ChangedFile]
) -> None:
    """Ask the user's plug-ins about what `apply` is to write into a directory; errors as those of `ask_about`."""
    for change in changes:
        facts: _Facts = {"cause": "apply", "directory": os.fspath(directory)}
        operation = "unlink" if change.new_oid is None else "write"
        if change.new_oid is not None and change.new_mode == MODE_SYMLINK:
            operation, facts["target"] = "symlink", _text(read_target(source, oid_of(change.new_oid)))
        check(Change(operation, TreePath(change.path), facts=facts, uid=os.geteuid()))


def _text(target: bytes) -> str:
    return target.decode("utf-8", "surrogateescape")


def _list_names(opened: OpenWorkspace, path: TreePath) -> list[TreePath]:
    """List the names of the file at a path, whose attributes change in place: content and links are replaced."""
    with contextlib.suppress(FileNotFoundError):
        return opened.merged.nodes.paths_of(opened.merged.resolve(path, follow_last=False))
    return [path]


def _list_changes(plan: Plan, step: Step) -> Iterator[tuple[str, TreePath, _Facts]]:
    path, before, after = step
    is_new = (
        before is None
        or after is None
        or before.is_dir != after.is_dir
        or (not after.is_dir and before.kind != after.kind)
    )
    if before is not None and is_new:
        yield from _list_removed(plan, path, before)
    if after is None:
        return
    is_other = is_new or before is None or before.oid != after.oid
    if after.is_dir:
        if is_new:
            yield "mkdir", path, {}
    elif is_other and after.kind == "symlink":
        yield "symlink", path, {"target": _text(plan.target.read(after))}
    elif is_other:
        yield "write", path, {"size": plan.target.size_of(after)}
    if not is_new and before is not None and (before.mode, before.xattrs) != (after.mode, after.xattrs):
        yield "setattr", path, {}


def _list_removed(plan: Plan, path: TreePath, entry: LowerEntry) -> Iterator[tuple[str, TreePath, _Facts]]:
    pending = [(path, entry)]
    while pending:
        here, gone = pending.pop()
        yield "rmdir" if gone.is_dir else "unlink", here, {}
        if gone.is_dir:
            pending += [(join(here, name), child) for name, child in plan.now.children(gone).items()]

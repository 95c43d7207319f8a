"""The files of a workspace, by path: what `ls`, `cat`, `write`, `cp` and their like do.

Decided here: what each of these does with directories, symbolic links and what is already there, and which
errors callers see: the filesystem's own are translated in one place (`file_errors`). Reading takes no lock;
changing takes the workspace lock for the time of one operation. What is written is durable at the next checkpoint.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from avfs_git.errors import (
    AvfsError,
    HostError,
    InvalidInput,
    PathEscapes,
    PathNotFound,
    PathUnsuitable,
    quote,
)
from avfs_git.host.files.beneath import RENAME_NOREPLACE
from avfs_git.lazy import LazyModule
from avfs_git.model import FileInfo, Kind, MetaEntry, PathMeta, TreeNode
from avfs_git.paths import ROOT, TreePath, join, split, whole
from avfs_git.vfs.tree.merged import MergedTree, Node
from avfs_git.vfs.tree.writing import Content, pieces_of
from avfs_git.workspace.files.asked import ask_before
from avfs_git.workspace.files.describing import describe, describe_listed, describe_tree
from avfs_git.workspace.files.expected import check_expected, content_oid
from avfs_git.workspace.opened.refusal import refusal_explained
from avfs_git.workspace.opened.workspace import LockedWorkspace, OpenWorkspace

if TYPE_CHECKING:
    from avfs_git.workspace.files import metadata
    from avfs_git.workspace.restore import takenout
else:
    metadata = LazyModule("avfs_git.workspace.files.metadata")
    takenout = LazyModule("avfs_git.workspace.restore.takenout")

_T = TypeVar("_T")
_AskAgain = Callable[[MergedTree], None]

_OF_NEW_NAMES = frozenset({errno.EEXIST, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EPERM})
_DISK_FAILED = frozenset({errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS})

_TIMES = (-(2**63), 2**64)
"""The first and the last time that a file can have, in nanoseconds: from 1677 to 2554."""
_REASONS = {
    errno.ENOTDIR: "is below a path that is not a directory",
    errno.EISDIR: "is a directory",
    errno.EEXIST: "is there already",
    errno.ENOTEMPTY: "is a directory that is not empty",
    errno.EINVAL: "cannot be used so",
    errno.EPERM: "may not be changed",
    errno.EACCES: "may not be used by this user",
    errno.EBUSY: "has something mounted in it: take that away first, as with `avfs unmount DIR`",
    errno.ELOOP: "leads through too many symbolic links",
    errno.ENAMETOOLONG: "has a name that is too long",
    errno.ENXIO: "is not a file",
}


@contextmanager
def file_errors(path: TreePath, action: str) -> Iterator[None]:
    """Turn what the filesystem raises into what callers see."""
    try:
        yield
    except OSError as error:
        raise translate_os_error(error, path, action) from error


def translate_os_error(error: OSError, path: TreePath, action: str) -> AvfsError:
    """Make the error that callers see of a filesystem error."""
    if error.errno == errno.ENOENT:
        return PathNotFound(b"/" + path)
    if error.errno == errno.EBUSY and path == ROOT:
        return PathUnsuitable(b"/", "is the root of the workspace")
    if error.errno in _REASONS:
        return PathUnsuitable(b"/" + path, _REASONS[error.errno])
    return HostError(action, error)


class Files:
    """The files of one open workspace."""

    def __init__(self, opened: OpenWorkspace) -> None:
        self._opened = opened

    def _read(self, path: TreePath, action: Callable[[MergedTree], _T]) -> _T:
        opened = self._opened
        while True:
            merged = opened.read_view()
            epoch = opened.epoch
            try:
                return action(merged)
            except OSError as error:
                # Another thread may have dropped the nodes meanwhile, because another process wrote.
                if opened.epoch == epoch:
                    raise translate_os_error(error, path, "read the workspace") from error

    def _change(self, path: TreePath, action: Callable[[MergedTree], _T], ask_again: _AskAgain | None = None) -> _T:
        def act(merged: MergedTree) -> _T:
            if ask_again is None:
                return action(merged)
            with merged.guard:  # a program may have changed where the path leads since the first question
                ask_again(merged)
                return action(merged)

        with refusal_explained(self._opened.layout):
            return self._change_locked(path, act)

    def _change_locked(self, path: TreePath, action: Callable[[MergedTree], _T]) -> _T:
        opened = self._opened
        locked = opened.acquire()
        try:
            locked.begin()
            try:
                return action(opened.changeable)
            finally:
                locked.end()
        except OSError as error:
            if error.errno in _DISK_FAILED:
                opened.forget()  # the disk may have changed without the nodes in memory
            raise translate_os_error(error, path, "write to the workspace") from error
        finally:
            opened.release()

    # --- reading ---------------------------------------------------------------------------------------

    def read(self, path: TreePath) -> bytes:
        """Read a whole file."""
        try:
            return self._opened.read_view().read_file(path)
        except OSError:
            return self._read(path, lambda merged: merged.read_file(path))

    def stream(self, path: TreePath) -> Iterator[bytes]:
        """Read a file in pieces of at most 1 MiB."""

        def begin(merged: MergedTree) -> Iterator[bytes]:
            node = merged.resolve(path)
            if node.is_dir:
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            return merged.contents.stream(node)

        pieces = self._read(path, begin)
        while True:
            with file_errors(path, "read the workspace"):
                piece = next(pieces, None)
            if piece is None:
                return
            yield piece

    def read_link(self, path: TreePath) -> bytes:
        """Read a symbolic link."""
        return self._read(path, lambda merged: merged.attributes.readlink(merged.resolve(path, follow_last=False)))

    def exists(self, path: TreePath) -> bool:
        """Whether anything is at a path, be it a symbolic link to nowhere."""
        try:
            self._read(path, lambda merged: merged.resolve(path, follow_last=False))
        except (PathNotFound, PathUnsuitable, PathEscapes):
            return False
        return True

    def stat(self, path: TreePath, *, with_oid: bool = False, follow: bool = False, sizes: bool = True) -> FileInfo:
        """Describe what is at a path; `sizes` as in `list_dir`."""

        def look(merged: MergedTree) -> FileInfo:
            node = merged.resolve(path, follow_last=follow)
            info = describe(merged, path, node, merged.attributes.getattr(node, sizes=sizes), sizes=sizes)
            return self._with_oid(merged, node, info) if with_oid else info

        return self._read(path, look)

    def list_dir(self, path: TreePath, *, sizes: bool = True) -> list[FileInfo]:
        """Describe what is in a directory, by name; of anything else, itself.

        Without `sizes`, nothing is fetched: sizes and targets of links that only a server knows are 0 and None.
        """

        def look(merged: MergedTree) -> list[FileInfo]:
            node = merged.resolve(path)
            if not node.is_dir:
                return [describe(merged, path, node, merged.attributes.getattr(node, sizes=sizes), sizes=sizes)]
            return [
                describe_listed(
                    merged, join(path, name), attr, entry.oid if entry is not None else None, problem, sizes=sizes
                )
                for name, attr, entry, problem in merged.attributes.list_attrs(node, sizes=sizes)
            ]

        return self._read(path, look)

    def tree(self, path: TreePath, *, depth: int | None = None, sizes: bool = True) -> TreeNode:
        """Describe what is below a path, `depth` levels of it; `sizes` as in `list_dir`."""

        def look(merged: MergedTree) -> TreeNode:
            return describe_tree(merged, path, merged.resolve(path), depth, sizes=sizes)

        return self._read(path, look)

    def _with_oid(self, merged: MergedTree, node: Node, info: FileInfo) -> FileInfo:
        if info.oid is not None or info.kind not in (Kind.FILE, Kind.SYMLINK):
            return info
        return FileInfo(
            info.path,
            info.kind,
            info.mode,
            info.size,
            info.mtime_ns,
            content_oid(merged, node),
            info.target,
            info.nlink,
        )

    def read_meta(self, path: TreePath) -> PathMeta:
        """Read the tags and the metadata of a path."""
        return self._read(path, lambda merged: metadata.read_meta(merged, path))

    # --- changing --------------------------------------------------------------------------------------

    def _ask(
        self,
        operation: str,
        path: TreePath,
        new_path: TreePath | None = None,
        *,
        follow: bool = True,
        **facts: str | bool,
    ) -> _AskAgain | None:
        """Ask the plug-ins.

        Return None without plug-ins, else a function that asks again if the path leads elsewhere by then.
        """
        question = ask_before(self._opened, operation, path, new_path, follow=follow, **facts)
        return None if question is None else partial(question.ask, path=path, new_path=new_path, follow=follow)

    def write(
        self,
        path: TreePath,
        data: Content,
        *,
        append: bool = False,
        expect: str | None = None,
        parents: bool = True,
        executable: bool | None = None,
    ) -> FileInfo:
        """Make a file hold `data` and describe it; see the SDK for the arguments."""
        ask_again = self._ask("write", path)
        if expect is not None or ask_again is not None:
            with file_errors(path, "write to the workspace"), self._opened.locked() as locked:
                # Before a large content is taken in vain.
                seen = None if expect is None else check_expected(locked.merged, path, expect)
                # Programs in a live tree hold no lock of ours: between the last look and the write they have to wait.
                with self._collected(locked, data, append=append) as whole, self._held(locked.merged, path, expect):
                    if ask_again is not None:
                        ask_again(locked.merged)
                    if expect is None:
                        return self._write(path, whole, append=append, parents=parents, executable=executable)
                    check_expected(locked.merged, path, expect, seen)
                    with self._taking(locked, path, expect, follow=True):
                        return self._write(path, whole, append=append, parents=parents, executable=executable)
        return self._write(path, data, append=append, parents=parents, executable=executable)

    def _write(
        self, path: TreePath, data: Content, *, append: bool, parents: bool, executable: bool | None
    ) -> FileInfo:
        def put(merged: MergedTree) -> FileInfo:
            if append:
                node = self._append(merged, path, data)
            else:
                mode = None if executable is None else self._executable_mode(merged, path, executable=executable)
                try:
                    node = merged.write_file(path, data, mode=mode)
                except FileNotFoundError:
                    if not parents:
                        raise
                    merged.make_dir(split(path)[0], parents=True)
                    node = merged.write_file(path, data, mode=mode)
            return describe(merged, path, node, merged.attributes.getattr(node))

        return self._change(path, put)

    @contextmanager
    def _collected(self, locked: LockedWorkspace, data: Content, *, append: bool) -> Iterator[Content]:
        """Take a content whole where programs wait for the guard."""
        if append or not locked.merged.is_shared or self._opened.shown_at is not None:
            yield data
        else:
            with locked.merged.writing.collected(data) as whole:
                yield whole

    def _append(self, merged: MergedTree, path: TreePath, data: Content) -> Node:
        try:
            node = merged.resolve(path)
        except FileNotFoundError:
            merged.make_dir(split(path)[0], parents=True)
            return merged.write_file(path, data)
        for piece in pieces_of(data):
            left = memoryview(piece)
            while left:  # a full disk takes a part, and refuses the next
                left = left[merged.contents.append(node, left) :]
        return node

    @staticmethod
    def _executable_mode(merged: MergedTree, path: TreePath, *, executable: bool) -> int:
        try:
            mode = stat.S_IMODE(merged.attributes.getattr(merged.resolve(path)).mode)
        except FileNotFoundError:
            mode = 0o644
        return mode | (mode & 0o444) >> 2 if executable else mode & ~0o111

    def _held(self, merged: MergedTree, path: TreePath, expect: str | None) -> AbstractContextManager[object]:
        """Keep programs waiting, also such as open a file which is only to go if it is as the caller has seen it."""
        return self._opened.standstill.held(merged.guard, () if expect is None else (path,))

    @contextmanager
    def _taking(self, locked: LockedWorkspace, path: TreePath, expect: str, *, follow: bool) -> Iterator[None]:
        """Compare the replaced file with `expect` afterwards, in a tree whose programs do not wait (overlayfs)."""
        mounted = self._opened.mounted
        if mounted is None:
            yield
            return
        mounted.upper.taking = path
        try:
            yield
        finally:
            mounted.upper.taking = None
            with file_errors(path, "write to the workspace"):
                takenout.check_taken(locked, path, expect, follow=follow)

    def make_dir(self, path: TreePath, *, parents: bool = False) -> None:
        """Make a directory."""
        if path == ROOT and parents:
            return
        ask_again = self._ask("mkdir", path)
        self._change(path, lambda merged: merged.make_dir(path, parents=parents), ask_again)

    def remove(
        self, path: TreePath, *, recursive: bool = False, missing_ok: bool = False, expect: str | None = None
    ) -> None:
        """Remove a file, a symbolic link or, with `recursive`, a directory."""
        ask_again = self._ask("unlink", path, follow=False, recursive=recursive)

        def act(merged: MergedTree) -> None:
            seen = None if expect is None else check_expected(merged, path, expect)
            with self._held(merged, path, expect):
                if expect is not None:
                    check_expected(merged, path, expect, seen)
                merged.remove(path, recursive=recursive)

        try:
            if expect is None:
                self._change(path, act, ask_again)
            else:
                with self._opened.locked() as locked, self._taking(locked, path, expect, follow=False):
                    self._change(path, act, ask_again)
        except PathNotFound:
            if not missing_ok:
                raise

    def move(self, source: TreePath, destination: TreePath, overwrite: bool = False) -> FileInfo:
        """Rename; into the destination if that is a directory. Describes what is there then."""
        ask_again = self._ask("rename", source, destination, follow=False)

        def act(merged: MergedTree) -> TreePath:
            node = merged.resolve(source, follow_last=False)
            target = _into(merged, source, destination, overwrite=overwrite)
            if target == source or (node.is_dir and _is_inside(merged, split(target)[0], node)):
                raise PathUnsuitable(b"/" + source, "cannot be moved into itself")
            with _naming(target):
                merged.move(source, target, flags=0 if overwrite else RENAME_NOREPLACE)
            return target

        return self.stat(self._change(source, act, ask_again))

    def copy(self, source: TreePath, destination: TreePath, recursive: bool) -> FileInfo:
        """Copy, with modes and attributes; into the destination if that is a directory. Nothing is overwritten."""
        ask_again = self._ask("copy", source, destination, follow=False, recursive=recursive)

        def act(merged: MergedTree) -> TreePath:
            node = merged.resolve(source, follow_last=False)
            target = _into(merged, source, destination)
            if node.is_dir and not recursive:
                raise PathUnsuitable(b"/" + source, "is a directory; copy it with `-r`")
            if node.is_dir and _is_inside(merged, split(target)[0], node):
                raise PathUnsuitable(b"/" + source, "cannot be copied into itself")
            with _naming(target):
                _copy_entry(merged, source, node, target)
            return target

        return self.stat(self._change(source, act, ask_again))

    def touch(self, path: TreePath, mtime_ns: int | None) -> FileInfo:
        """Set the time of a file's last change, by default to now; make a missing file."""
        if mtime_ns is not None and not _TIMES[0] <= whole(mtime_ns) <= _TIMES[1]:
            raise InvalidInput(f"no file can have the time {quote(str(mtime_ns))}")
        try:
            self.stat(path, follow=True)
        except PathNotFound:
            ask_again = self._ask("create", path)
        else:
            ask_again = self._ask("setattr", path)

        def act(merged: MergedTree) -> None:
            try:
                node = merged.resolve(path)
            except FileNotFoundError:
                node = merged.write_file(path, b"")
                if mtime_ns is None:
                    return
            when = time.time_ns() if mtime_ns is None else mtime_ns
            merged.attributes.utimens(node, atime_ns=when, mtime_ns=when)

        self._change(path, act, ask_again)
        return self.stat(path, follow=True)

    def chmod(self, path: TreePath, mode: int) -> None:
        """Set permission bits."""
        ask_again = self._ask("setattr", path)
        self._change(path, lambda merged: merged.attributes.chmod(merged.resolve(path), mode & 0o7777), ask_again)

    def change_meta(
        self,
        path: TreePath,
        entries: Sequence[MetaEntry],
        deleted: Sequence[str],
        tags: Sequence[str],
        untagged: Sequence[str],
    ) -> PathMeta:
        """Set `entries`, delete the keys `deleted`, add `tags` and remove `untagged`; return the result."""
        ask_again = self._ask("setxattr", path)
        return self._change(
            path, lambda merged: metadata.change_meta(merged, path, entries, deleted, tags, untagged), ask_again
        )

    def symlink(self, path: TreePath, target: bytes) -> None:
        """Make a symbolic link. Where it leads is not looked at: it is followed inside the workspace only."""
        ask_again = self._ask("symlink", path, follow=False, target=target.decode("utf-8", "surrogateescape"))
        self._change(path, lambda merged: merged.make_symlink(path, target), ask_again)

    def link(self, source: TreePath, destination: TreePath) -> None:
        """Give a file one more name."""
        ask_again = self._ask("link", source, destination, follow=False)

        def act(merged: MergedTree) -> None:
            merged.resolve(source, follow_last=False)
            _check_free(merged, destination)
            with _naming(destination):
                merged.make_link(source, destination)

        self._change(source, act, ask_again)


def _into(merged: MergedTree, source: TreePath, destination: TreePath, *, overwrite: bool = False) -> TreePath:
    with file_errors(destination, "read the workspace"):
        try:
            node = merged.resolve(destination)
        except FileNotFoundError:
            _check_free(merged, destination, overwrite=overwrite)
            return destination
    if not node.is_dir:
        if overwrite:
            return destination
        raise PathUnsuitable(b"/" + destination, "is there already")
    target = join(destination, split(source)[1])
    _check_free(merged, target, overwrite=overwrite)
    return target


def _check_free(merged: MergedTree, path: TreePath, *, overwrite: bool = False) -> None:
    """Refuse a new path whose directory is missing, or that is taken, also by a symbolic link to nowhere."""
    above = split(path)[0]
    with file_errors(above, "read the workspace"):
        merged.resolve(above)
    if overwrite:
        return
    with file_errors(path, "read the workspace"), suppress(FileNotFoundError):
        merged.resolve(path, follow_last=False)
        raise PathUnsuitable(b"/" + path, "is there already")


@contextmanager
def _naming(target: TreePath) -> Iterator[None]:
    """Name the new path instead of the source in errors that only a new name can have."""
    try:
        yield
    except OSError as error:
        if error.errno in _OF_NEW_NAMES:
            raise translate_os_error(error, target, "write to the workspace") from error
        raise


def _is_inside(merged: MergedTree, path: TreePath, outer: Node) -> bool:
    """Tell whether a directory is another one or below it, also where its path goes through symbolic links."""
    place: Node | None = merged.resolve(path)
    while place is not None and place is not outer:
        place = place.parent
    return place is outer


def _copy_entry(merged: MergedTree, source: TreePath, node: Node, target: TreePath) -> None:
    pending = [(source, node, target)]
    bound = merged.nodes.bound_below(node)
    bound.ask()
    closed: list[tuple[Node, int]] = []
    while pending:
        path, here, there = pending.pop()
        attr = merged.attributes.getattr(here)
        if here.is_dir:
            mode = stat.S_IMODE(attr.mode)
            made = merged.make_dir(there, mode=mode | 0o700)
            if mode & 0o700 != 0o700:
                closed.append((made, mode))
            names = merged.nodes.readdir(here)
            bound.meet(len(names))
            pending += [(join(path, name), merged.nodes.lookup(here, name), join(there, name)) for name, _ in names]
        elif here.kind == stat.S_IFLNK:
            merged.make_symlink(there, merged.attributes.readlink(here))
            continue
        elif here.kind == stat.S_IFREG:
            made = merged.write_file(there, merged.contents.stream(here), mode=stat.S_IMODE(attr.mode))
        else:
            raise PathUnsuitable(b"/" + path, "is a device, socket or pipe and cannot be copied")
        for key, value in merged.attributes.read_xattrs(here).items():
            if key.startswith(b"user."):
                merged.attributes.set_xattr(made, key, value)
    for made, mode in reversed(closed):  # last: files come into them
        merged.attributes.chmod(made, mode)

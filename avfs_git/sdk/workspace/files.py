"""The files of a workspace: reading, writing, editing and listing them, and copies in and out.

Decided here: names and arguments of the public API for files, what an edit needs to be certain, what a pattern of names
means. Each method is one operation, which `sdk.dispatch` does here, or in the session that mounts the workspace.
Callers may use several threads and processes. An edit is one write: a crash leaves the file as it was, or edited.
"""

from __future__ import annotations

import fnmatch
import functools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from avfs_git.errors import InvalidInput, PathUnsuitable, WorkspaceBusy, quote
from avfs_git.model import (
    EditResult,
    FileInfo,
    Kind,
    TransferResult,
    TreeNode,
)
from avfs_git.paths import (
    PathLike,
    TreePath,
    encode_given,
    host_path,
    list_given,
    parse_tree_path,
    show_path,
    text_given,
    whole,
)
from avfs_git.sdk.parts import client, content, history, operations, stop, transfer
from avfs_git.values import NamedTuple

if TYPE_CHECKING:
    from avfs_git.sdk.handle import ForkHandle

_ANY = "**"
_MODES = 0o177777
"""The highest mode of a file."""


class WorkspaceFiles:
    """The files of a workspace."""

    _at: ForkHandle
    fork: str
    """The fork."""

    def read(self, path: PathLike) -> bytes:
        """Read a whole file into memory. Symbolic links are followed inside the workspace only.

        Raises:
            PathNotFound: If nothing is at the path.
            PathUnsuitable: If it is no file.
            PathEscapes: If the path or a link leads out of the workspace.
        """
        tree_path = parse_tree_path(path)
        if self._at.opened.lock.session is None:
            with suppress(WorkspaceBusy):  # `_run` reads it beside the other process
                return self._at.files.read(tree_path)
        return b"".join(self._at.run(operations.read_content, tree_path).pieces())

    def open_read(self, path: PathLike, *, version: int | None = None, at: str | None = None) -> Iterator[bytes]:
        """Read a file in pieces of at most 1 MiB, in bounded memory.

        Args:
            path: The file.
            version: An earlier version of the file, by its number in `path_versions`.
            at: The checkpoint or fork to read it from. Without `version` and `at`, the present file is read.
        """
        tree_path = parse_tree_path(path)
        if version is not None:
            at = history.find_version(self._at.core, self.fork, tree_path, version).checkpoint
        if at is not None:
            return history.stream_past(self._at.core, at, tree_path, fork=self.fork)
        if self._at.opened.lock.session is None:
            with suppress(WorkspaceBusy):  # as in `read`
                pieces = self._at.files.stream(tree_path)
                return chain((next(pieces, b""),), pieces)
        return self._at.run(operations.read_content, tree_path).pieces()

    def write(
        self,
        path: PathLike,
        data: bytes,
        *,
        append: bool = False,
        expect: str | None = None,
        parents: bool = True,
        executable: bool | None = None,
    ) -> FileInfo:
        """Write a file: all of `data` or, if that fails, nothing.

        Args:
            path: The file.
            data: Its new content.
            append: Add `data` at the end of the present content.
            expect: Write only if the present content has this id (`stat(..., with_oid=True).oid`); `""` if no file may
                exist.
            parents: Make missing directories.
            executable: Set or clear the executable bits; None keeps them.

        Raises:
            ContentChanged: If `expect` does not hold; nothing is written.
            PathUnsuitable: If the path is no file.
        """
        tree_path = parse_tree_path(path)

        def put() -> FileInfo:
            if self._at.opened.lock.session is None:
                try:
                    return self._at.files.write(
                        tree_path, data, append=append, expect=expect, parents=parents, executable=executable
                    )
                except WorkspaceBusy:
                    if self._at.opened.lock.session is None:
                        raise
            with client.spooled(self._at.opened, data) as content:
                return self._at.run(operations.write, tree_path, content, append, expect, parents, executable)

        return self._at.change(put, "write", path)

    def write_from(
        self, path: PathLike, chunks: Iterable[bytes], *, append: bool = False, expect: str | None = None
    ) -> FileInfo:
        """Write what an iterable yields to a file, in bounded memory; otherwise as `write`.

        All of it is taken first: other processes use the workspace for as long as it takes to arrive.
        """
        tree_path = parse_tree_path(path)
        self._at.dispatch.begin_file_call(self.fork)
        with client.spooled(self._at.opened, chunks) as content:
            return self._at.change(
                lambda: self._at.run(operations.write, tree_path, content, append, expect, True, None), "write", path
            )

    def read_text(self, path: PathLike) -> str:
        """Read a whole file as text.

        Raises:
            PathUnsuitable: If it is no file, or not text in UTF-8.
            PathNotFound, PathEscapes: As `read`.
        """
        try:
            return self.read(path).decode("utf-8")
        except UnicodeDecodeError as error:
            raise PathUnsuitable(parse_tree_path(path), f"is not text in UTF-8, at byte {error.start}") from error

    def write_text(self, path: PathLike, text: str, *, expect: str | None = None) -> FileInfo:
        """Write text to a file, in UTF-8; otherwise as `write`.

        Raises:
            InvalidInput: If the text cannot be written in UTF-8.
            ContentChanged, PathUnsuitable: As `write`.
        """
        try:
            data = text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InvalidInput(f"character {error.start} of the text cannot be written in UTF-8") from error
        return self.write(path, data, expect=expect)

    def edit(
        self, path: PathLike, *edits: tuple[str, str], replace_all: bool = False, dry_run: bool = False
    ) -> EditResult:
        """Replace texts in a file: all of them, in the given order, or none.

        Args:
            path: The file.
            edits: Pairs of an old text and a new text. Each old text occurs exactly once.
            replace_all: Let an old text occur more than once, and replace each occurrence.
            dry_run: Only report the result.

        Raises:
            PathUnsuitable: If an old text does not occur, or occurs more than once; or if the file is not text in
                UTF-8.
            ContentChanged: If another process changed the file meanwhile; nothing is written.
            PathNotFound: If nothing is at the path.
        """
        pairs = [list_given(edit) for edit in edits]
        if not pairs or any(len(pair) != 2 for pair in pairs):
            raise InvalidInput("an edit needs an old and a new text", hint="Write `edit(path, (old, new))`.")
        tree_path = parse_tree_path(path)
        info = self.stat(tree_path, with_oid=True, follow=True)
        before = text = self.read_text(tree_path)
        replacements = 0
        for old, new in pairs:
            found = text.count(old) if old else 0
            if not found:
                raise PathUnsuitable(tree_path, f"does not have the text {quote(old)}; nothing was written")
            if found > 1 and not replace_all:
                raise PathUnsuitable(tree_path, f"has the text {quote(old)} {found} times; nothing was written")
            text = text.replace(old, new)
            replacements += found
        import difflib  # noqa: PLC0415 - only edits need it

        name = show_path(tree_path)
        lines = difflib.unified_diff(
            before.splitlines(keepends=True), text.splitlines(keepends=True), f"a/{name}", f"b/{name}"
        )
        patch = "".join(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n" for line in lines)
        file = None if dry_run else self.write(tree_path, text.encode(), expect=info.oid)
        return EditResult(tree_path, replacements, patch.encode(), file)

    def walk(self, path: PathLike = "/") -> Iterator[FileInfo]:
        """Visit everything below a directory, each directory before its entries; links are not followed.

        Raises:
            PathNotFound, PathUnsuitable: If there is no such directory.
        """
        pending = list(reversed(self.list_dir(path)))
        while pending:
            info = pending.pop()
            yield info
            if info.kind is Kind.DIRECTORY:
                pending += reversed(self.list_dir(info.path))

    def glob(self, pattern: str, path: PathLike = "/") -> Iterator[FileInfo]:
        """Find entries below a directory whose path matches a pattern; only directories that may lead to one are read.

        Args:
            pattern: Names with `*`, `?` and `[…]`, separated by slashes; `**` stands for any number of directories, and
                at the end for everything below.
            path: The directory.

        Raises:
            InvalidInput: If the pattern is empty.
            PathNotFound, PathUnsuitable: If there is no such directory.
        """
        parts = [part for part in text_given(pattern).split("/") if part]
        if not parts:
            raise InvalidInput("a pattern of names is empty", hint="Write `**/*.py` for all Python files.")
        if parts[-1] == _ANY:
            parts.append("*")
        matchers = [None if part == _ANY else re.compile(fnmatch.translate(part)) for part in parts]
        pending = [(info, _reach(matchers, {0})) for info in reversed(self.list_dir(path))]
        while pending:
            info, states = pending.pop()
            name = info.path.rpartition(b"/")[2].decode("utf-8", "surrogateescape")
            reached = _step(matchers, states, name)
            if len(parts) in reached:
                yield info
            if info.kind is Kind.DIRECTORY and any(state < len(parts) for state in reached):
                pending += [(below, reached) for below in reversed(self.list_dir(info.path))]

    def list_dir(self, path: PathLike = "/", *, sizes: bool = True) -> list[FileInfo]:
        """Describe the entries of a directory, sorted by name; of anything else, itself.

        Without `sizes`, a partial clone asks no server: a size that it does not know is 0, and such a link has no
        target.
        """
        return self._at.run(operations.list_dir, parse_tree_path(path), sizes=sizes)

    def stat(self, path: PathLike, *, with_oid: bool = False, follow: bool = False, sizes: bool = True) -> FileInfo:
        """Describe an entry; `with_oid` gives its object id too, for which the file may have to be read.

        `sizes` as for `list_dir`.
        """
        return self._at.run(operations.describe, parse_tree_path(path), with_oid=with_oid, follow=follow, sizes=sizes)

    def tree(self, path: PathLike = "/", *, depth: int | None = None, sizes: bool = True) -> TreeNode:
        """Describe everything below a path, or `depth` levels of it; `sizes` as for `list_dir`."""
        return self._at.run(operations.describe_tree, parse_tree_path(path), depth=depth, sizes=sizes)

    def exists(self, path: PathLike) -> bool:
        """Whether a path exists."""
        return self._at.run(operations.exists, parse_tree_path(path))

    def read_link(self, path: PathLike) -> bytes:
        """Read the target of a symbolic link."""
        return self._at.run(operations.read_link, parse_tree_path(path))

    def make_dir(self, path: PathLike, *, parents: bool = False) -> None:
        """Make a directory; with `parents`, also missing parents, and an existing directory is no error."""
        self._at.change(
            lambda: self._at.run(operations.make_dir, parse_tree_path(path), parents=parents), "make directory", path
        )

    def remove(
        self,
        path: PathLike,
        *,
        recursive: bool = False,
        missing_ok: bool = False,
        expect: str | None = None,
        unrecorded: bool = False,
    ) -> None:
        """Remove a file, a symbolic link, an empty directory or, with `recursive`, any directory.

        With `unrecorded` also where unsaved changes cannot be recorded first, as on a full disk: `undo` does not bring
        these back then.
        """
        tree_path = parse_tree_path(path)
        self._at.change(
            lambda: self._at.run(
                operations.remove, tree_path, recursive=recursive, missing_ok=missing_ok, expect=expect
            ),
            "remove",
            path,
            in_steps=recursive,
            unrecorded=unrecorded,
        )

    def copy(self, source: PathLike, destination: PathLike, *, recursive: bool = False) -> FileInfo:
        """Copy a file or, with `recursive`, a directory; into the destination if that is a directory.

        Nothing is overwritten.
        """
        origin, target = parse_tree_path(source), parse_tree_path(destination)
        return self._at.change(
            lambda: self._at.run(operations.copy, origin, target, recursive), "copy", source, in_steps=recursive
        )

    def move(self, source: PathLike, destination: PathLike, *, overwrite: bool = False) -> FileInfo:
        """Rename a file or directory; into the destination if that is a directory.

        Only with `overwrite`, a file that is there is replaced, in one step.
        """
        origin, target = parse_tree_path(source), parse_tree_path(destination)
        return self._at.change(lambda: self._at.run(operations.move, origin, target, overwrite), "move", source)

    def touch(self, path: PathLike, *, mtime_ns: int | None = None) -> FileInfo:
        """Set the modification time of a file, now by default; make a missing file."""
        return self._at.change(lambda: self._at.run(operations.touch, parse_tree_path(path), mtime_ns), "touch", path)

    def chmod(self, path: PathLike, mode: int) -> None:
        """Set permission bits; those of `stat` may be handed on, with the kind of the file in them."""
        if not 0 <= whole(mode) <= _MODES:
            raise InvalidInput(f"{quote(str(mode))} is no mode of a file")
        self._at.change(lambda: self._at.run(operations.chmod, parse_tree_path(path), mode), "chmod", path)

    def symlink(self, path: PathLike, target: PathLike) -> None:
        """Make a symbolic link."""
        raw = encode_given(target)
        if not raw or b"\0" in raw:
            raise InvalidInput("the target of a link may not be empty or hold a NUL byte")
        self._at.change(lambda: self._at.run(operations.symlink, parse_tree_path(path), raw), "make link", path)

    def link(self, source: PathLike, destination: PathLike) -> None:
        """Make a hard link to a file."""
        self._at.change(
            lambda: self._at.run(operations.link, parse_tree_path(source), parse_tree_path(destination)),
            "link",
            destination,
        )

    def import_path(
        self, source: str | Path, path: PathLike = "/", *, recursive: bool = True, max_depth: int | None = None
    ) -> TransferResult:
        """Copy a file or directory of the host into the workspace.

        Symbolic links that lead out of the source are skipped.
        """
        source, tree_path = host_path(source), parse_tree_path(path)

        def bring() -> TransferResult:
            if self._at.opened.lock.session is None:
                return transfer.import_path(
                    self._at.opened, source, tree_path, recursive=recursive, max_depth=max_depth
                )
            if self._is_below(source, tree_path):
                raise PathUnsuitable(os.fsencode(source), "holds the live tree that it would be copied into")
            with client.opened_source(source) as handle:
                return self._at.run(operations.import_opened, handle, tree_path, recursive, max_depth, str(source))

        return self._at.change(bring, "import", source, in_steps=True)

    def import_tar(self, file: BinaryIO, path: PathLike = "/") -> TransferResult:
        """Unpack a tar archive, compressed or not, into the workspace."""
        tree_path = parse_tree_path(path)

        def unpack() -> TransferResult:
            if self._at.opened.lock.session is None:
                return transfer.import_tar(self._at.opened, file, tree_path)
            with client.spooled_file(self._at.opened, file) as handle:
                return self._at.run(operations.import_tar, handle, tree_path)

        return self._at.change(unpack, "unpack into", path, in_steps=True)

    def export_path(
        self,
        path: PathLike,
        destination: str | Path,
        *,
        recursive: bool = True,
        max_depth: int | None = None,
        overwrite: bool = False,
    ) -> TransferResult:
        """Copy a file or directory of the workspace to the host."""
        tree_path, destination = parse_tree_path(path), host_path(destination)
        if self._at.opened.lock.session is None:
            export = functools.partial(
                transfer.export_path, recursive=recursive, max_depth=max_depth, overwrite=overwrite, is_patient=False
            )
            return self._at.dispatch.look(self._at.opened, lambda opened: export(opened, tree_path, destination))
        place, copied = Path(os.path.realpath(destination)), Path("/", os.fsdecode(tree_path))
        for tree in self._find_trees():
            if place.is_relative_to(tree.directory) and (
                tree.root.is_relative_to(copied) or _is_inside(place, tree.find(copied))
            ):
                raise PathUnsuitable(os.fsencode(destination), "is inside of what would be copied")
        with client.opened_above(destination) as (handle, rest):
            shown = str(destination)
            return self._at.run(
                operations.export_opened, tree_path, handle, rest, recursive, max_depth, overwrite, shown
            )

    def _is_below(self, source: Path, path: TreePath) -> bool:
        """Tell whether a path of the workspace is seen below a directory of the host, or is it."""
        place, wanted = Path(os.path.realpath(source)), Path("/", os.fsdecode(path))
        return any(
            (tree.directory.is_relative_to(place) and wanted.is_relative_to(tree.root))
            or (place.is_relative_to(tree.directory) and _is_inside(tree.find(wanted), place))
            for tree in self._find_trees()
        )

    def _find_trees(self) -> list[_Shown]:
        """List where programs see the workspace, also by `mount --bind`.

        A copy from or to such a place is a copy from or to the workspace itself.

        Only a caller whose own path leads into a tree may look into it: the tree does not answer while a restore holds
        it.
        """
        found = stop.find_sessions(self._at.core.layout.sessions, fork=self.fork)
        mounts = [
            mount for session in found if session.is_workspace and session.is_visible for mount in session.find_mounts()
        ]
        return [_Shown(mount.directory, mount.root) for mount in mounts]

    def export_tar(self, path: PathLike, file: BinaryIO) -> TransferResult:
        """Write a tar archive of a file or directory of the workspace."""
        tree_path = parse_tree_path(path)
        if self._at.opened.lock.session is None:
            return self._at.dispatch.look(
                self._at.opened, lambda opened: transfer.export_tar(opened, tree_path, file, is_patient=False)
            )
        result, handle = self._at.run(operations.export_tar, tree_path)
        file.writelines(content.Content(handle=handle).pieces())
        return result


def _step(matchers: Sequence[re.Pattern[str] | None], states: set[int], name: str) -> set[int]:
    """Give how much of a pattern may be matched behind a name, given how much may be before it."""
    found = set()
    for state in states:
        if state == len(matchers):
            continue
        matcher = matchers[state]
        if matcher is None:
            found.add(state)
        elif matcher.match(name) is not None:
            found.add(state + 1)
    return _reach(matchers, found)


def _reach(matchers: Sequence[re.Pattern[str] | None], states: set[int]) -> set[int]:
    """Add where `**` may match no directory at all."""
    reached = set(states)
    for state in range(len(matchers)):
        if state in reached and matchers[state] is None:
            reached.add(state + 1)
    return reached


class _Shown(NamedTuple):
    """A directory that shows a workspace, or a directory of it."""

    directory: Path
    root: Path
    """The directory of the workspace, from its top."""

    def find(self, path: Path) -> Path | None:
        """Tell where a path of the workspace is seen; None if it is not."""
        return self.directory / path.relative_to(self.root) if path.is_relative_to(self.root) else None


def _is_inside(path: Path | None, outer: Path | None) -> bool:
    """Tell whether a path of the host is a directory or below it; a directory may have several names."""
    if path is None or outer is None or not outer.is_dir():
        return False
    place = Path(os.path.realpath(path))
    return any(above.exists() and above.samefile(outer) for above in (place, *place.parents))

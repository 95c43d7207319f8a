"""Carrying files in and out: directories of the host, and tar archives.

Decided here: what comes along (files, directories, symbolic links, modes, times, the user's attributes) and what does
not: a `.git` that leads out of what is carried, devices, sockets and pipes are left out, with a warning. A symbolic
link that leads out comes along, as in git and in a tar archive, with a warning: nothing here follows it, but a later
program may. On the host's side nothing is written through a symbolic link, and nothing outside the destination; what is
there is replaced by a rename, so that a full disk or a crash leaves it.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, BinaryIO

from avfs_git.errors import AvfsError, HostError, InvalidInput, InvalidPath, PathEscapes, PathUnsuitable, quote
from avfs_git.gitstore.config.outside import (
    POINTER_MAX,
    leads_inside,
    names_other_repository,
    parse_pointer,
    works_elsewhere,
)
from avfs_git.host.files.beneath import Descriptor, open_at
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import host_errors, write_all
from avfs_git.model import TransferResult, Warning
from avfs_git.paths import ROOT, TreePath, components, join, parse_tree_path, show_path, split
from avfs_git.vfs.layer.readers import Directories, PlainDirectory
from avfs_git.vfs.scan.scan import DIRECTORY, FILE, SYMLINK, Found
from avfs_git.vfs.tree.merged import MergedTree, Node
from avfs_git.workspace.checkpoint.prepare import warn_of_state
from avfs_git.workspace.files.asked import Question, ask_before
from avfs_git.workspace.files.files import translate_os_error
from avfs_git.workspace.files.incoming import ask_about_all, is_repository_link, join_below
from avfs_git.workspace.files.staging import check_free, move_into, staging_directory
from avfs_git.workspace.files.tarmember import Member, read_mtime_ns
from avfs_git.workspace.opened.workspace import OpenWorkspace
from avfs_git.workspace.vault.format import find_own

_PIECE = 1 << 20


class _Tally:
    """What has been carried so far.

    Attributes:
        question: Asks the plug-ins before each path changes; None without plug-ins.
        at: The path of the workspace that is changed, or is about to be.
    """

    def __init__(self, question: Question | None = None, at: TreePath = ROOT) -> None:
        self.question = question
        self.at = at
        self.files = self.directories = self.total_bytes = 0
        self.warnings: list[Warning] = []

    def ask(self, merged: MergedTree, path: TreePath, *, follow: bool = True) -> None:
        """Ask about a path that is about to change, unless that was asked."""
        self.at = path
        if self.question is not None:
            self.question.ask(merged, path, follow=follow)

    @contextlib.contextmanager
    def explaining(self, action: str) -> Iterator[None]:
        """Name the path at which an import stops, and say that the rest of what was carried stays."""
        try:
            yield
        except (OSError, AvfsError) as error:
            told = translate_os_error(error, self.at, action) if isinstance(error, OSError) else error
            if self.files or self.directories:
                stays = "What was imported before that stays in the workspace: see it with `avfs status`."
                told.hint = f"{told.hint} {stays}" if told.hint else stays
            raise told from error.__cause__ if told is error else error

    def leave_out(self, path: bytes, reason: str) -> None:
        self.warnings.append(Warning("transfer.left_out", f"'{show_path(path)}' {reason}", path))

    def warn_of_link(self, path: TreePath, target: bytes, where: str) -> None:
        """Name a symbolic link that leads out of what is carried."""
        if leads_out(split(path)[0], target):
            said = f"'{show_path(path)}' is a symbolic link to '{show_path(target)}', which leads out of {where}"
            self.warnings.append(Warning("transfer.leads_out", said, path))

    def result(self, source: str, destination: str) -> TransferResult:
        return TransferResult(source, destination, self.files, self.directories, self.total_bytes, tuple(self.warnings))


def leads_out(directory: TreePath, target: bytes) -> bool:
    """Whether a symbolic link in a directory leads out of the tree that the directory is in."""
    if target.startswith(b"/"):
        return True
    depth = len(components(directory))
    for part in target.split(b"/"):
        depth += -1 if part == b".." else 0 if part in (b"", b".") else 1
        if depth < 0:
            return True
    return False


# --- in -------------------------------------------------------------------------------------------------------


def import_path(
    opened: OpenWorkspace,
    source: Path,
    path: TreePath,
    *,
    recursive: bool,
    max_depth: int | None,
    shown: str | None = None,
) -> TransferResult:
    """Copy a file or directory of the host into a workspace; `shown` is what the caller calls the source."""
    tally = _Tally(ask_before(opened, "import", path, recursive=recursive), path)
    named = Path(shown) if shown is not None else source
    try:
        status = os.stat(source)
    except OSError as error:
        raise HostError(f"read '{named}'", error) from error
    with opened.locked() as locked, locked.changing() as merged, tally.explaining(f"import '{named}'"):
        if stat.S_ISDIR(status.st_mode):
            if not recursive:
                raise InvalidInput(f"{quote(str(named))} is a directory", hint="Import it with `-r`.")
            layer = PlainDirectory(source)
            layer.left_out = find_own(source, opened.vault.git_dir)
            for inside in layer.left_out:
                tally.leave_out(inside, "is avfs's own, with its vaults")
            if tally.question is not None:
                ask_about_all(merged, layer, path, max_depth, tally.question)
            _import_directory(merged, layer, source, path, max_depth, tally)
        elif stat.S_ISREG(status.st_mode):
            _import_file(merged, source, path, tally, os.fsencode(named.name))
        else:
            raise InvalidInput(f"{quote(str(named))} is neither a file nor a directory")
    return tally.result(str(named), show_path(path) or "/")


def _import_file(merged: MergedTree, source: Path, path: TreePath, tally: _Tally, name: bytes) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path == ROOT or merged.resolve(path).is_dir:
            path = join(path, name)
    tally.ask(merged, path)
    with source.open("rb") as file:
        status = os.fstat(file.fileno())
        merged.make_dir(split(path)[0], parents=True)
        node = merged.write_file(path, _pieces(file, tally), mode=stat.S_IMODE(status.st_mode) & 0o777)
        merged.attributes.utimens(node, atime_ns=status.st_mtime_ns, mtime_ns=status.st_mtime_ns)
    tally.files += 1


def _pieces(file: IO[bytes], tally: _Tally) -> Iterator[bytes]:
    while piece := file.read(_PIECE):
        tally.total_bytes += len(piece)
        yield piece


def _import_directory(
    merged: MergedTree, layer: PlainDirectory, source: Path, path: TreePath, max_depth: int | None, tally: _Tally
) -> None:
    made: list[tuple[TreePath, TreePath]] = []
    if path != ROOT:
        with contextlib.suppress(FileExistsError):
            merged.make_dir(split(path)[0], parents=True)
            merged.make_dir(path)
            made.append((ROOT, path))
    stack: list[tuple[TreePath, int]] = [(ROOT, 0)]
    while stack:
        here, depth = stack.pop()
        for found in layer.list_dir(here):
            inside = join(here, found.name)
            there = join_below(path, inside)
            if is_repository_link(here, found, path):
                continue
            if found.name == b".git" and _is_led_out(layer, source, here, found, has_git_dir=path != ROOT):
                tally.leave_out(inside, "names a repository or files outside of what is imported")
                continue
            if found.kind == DIRECTORY:
                if max_depth is None or depth < max_depth:
                    tally.ask(merged, there)
                    merged.make_dir(there, parents=True)
                    tally.directories += 1
                    made.append((inside, there))
                    stack.append((inside, depth + 1))
            elif found.kind == FILE:
                _import_entry(merged, layer, here, found, there, tally)
            elif found.kind == SYMLINK:
                target = layer.read_link(here, found.name)
                tally.ask(merged, there, follow=False)
                tally.warn_of_link(inside, target, "what is imported")
                _put_symlink(merged, there, target, found.stat.st_mtime_ns)
                tally.files += 1
            else:
                tally.leave_out(inside, "is a device, socket or pipe")
    for inside, there in reversed(made):
        # Last: files that come into a directory change its time.
        status = layer.dir_stat(inside)
        node = merged.resolve(there, follow_last=False)
        merged.attributes.chmod(node, stat.S_IMODE(status.st_mode))
        for key, value in layer.dir_xattrs(inside):
            merged.attributes.set_xattr(node, key, value)
        merged.attributes.utimens(node, atime_ns=status.st_mtime_ns, mtime_ns=status.st_mtime_ns)


def _put_symlink(merged: MergedTree, path: TreePath, target: bytes, mtime_ns: int) -> None:
    """Let a symbolic link take the place of what is at a path, once it is made: a full disk leaves what is there."""
    making = join(split(path)[0], b".avfs-%b.tmp" % os.urandom(6).hex().encode("ascii"))
    node = merged.make_symlink(making, target)
    try:
        merged.attributes.utimens(node, atime_ns=mtime_ns, mtime_ns=mtime_ns)
        merged.move(making, path)
    except BaseException:
        merged.remove(making)
        raise


def _is_led_out(layer: PlainDirectory, source: Path, here: TreePath, found: Found, *, has_git_dir: bool) -> bool:
    """Whether git in the workspace would change through a `.git` what is outside of it."""
    if found.kind == DIRECTORY:
        git_dir = os.fsdecode(join(here, found.name))
        return names_other_repository(source, git_dir) or works_elsewhere(source, git_dir)
    if found.kind != FILE:
        return False
    with os.fdopen(layer.open_file(here, found.name), "rb") as file:
        target = parse_pointer(file.read(POINTER_MAX))
    return target is not None and not leads_inside(source, os.fsdecode(here), target, has_git_dir=has_git_dir)


def _import_entry(
    merged: MergedTree, layer: PlainDirectory, here: TreePath, found: Found, there: TreePath, tally: _Tally
) -> None:
    fd = layer.open_file(here, found.name)
    with os.fdopen(fd, "rb", buffering=0) as file:
        tally.ask(merged, there)
        node = merged.write_file(there, _pieces(file, tally), mode=stat.S_IMODE(found.stat.st_mode) & 0o777)
        merged.attributes.utimens(node, atime_ns=found.stat.st_mtime_ns, mtime_ns=found.stat.st_mtime_ns)
        for key, value in layer.file_xattrs(fd, join(here, found.name)):
            merged.attributes.set_xattr(node, key, value)
    tally.files += 1


def import_tar(opened: OpenWorkspace, file: BinaryIO, path: TreePath) -> TransferResult:
    """Unpack a tar archive into a workspace."""
    tally = _Tally(ask_before(opened, "import", path, recursive=True), path)
    directories: dict[TreePath, tarfile.TarInfo] = {}
    with tally.explaining("unpack the archive"):
        try:
            with contextlib.ExitStack() as stack:
                merged = stack.enter_context(stack.enter_context(opened.locked()).changing())
                archive = stack.enter_context(tarfile.open(fileobj=file, mode="r|*", tarinfo=Member))
                for member in archive:
                    try:
                        _unpack(merged, archive, member, path, tally, directories)
                    except PathEscapes:
                        tally.leave_out(
                            os.fsencode(member.name), "goes through a symbolic link that leads out of the workspace"
                        )
                for there in sorted(directories, reverse=True):
                    _finish_directory(merged, there, directories[there])
        except tarfile.TarError as error:
            raise InvalidInput(f"this is no tar archive that can be read: {error}") from error
    return tally.result("-", show_path(path) or "/")


def _finish_directory(merged: MergedTree, path: TreePath, member: tarfile.TarInfo) -> None:
    """Give an unpacked directory its mode and time: last, because files that come into it change its time."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PathEscapes):  # a later member took its place
        node = merged.resolve(path, follow_last=False)
        if node.is_dir:
            merged.attributes.chmod(node, member.mode & 0o777)
            mtime_ns = read_mtime_ns(member)
            merged.attributes.utimens(node, atime_ns=mtime_ns, mtime_ns=mtime_ns)


def _unpack(
    merged: MergedTree,
    archive: tarfile.TarFile,
    member: tarfile.TarInfo,
    path: TreePath,
    tally: _Tally,
    directories: dict[TreePath, tarfile.TarInfo],
) -> None:
    try:
        inside = parse_tree_path(os.fsencode(member.name))
    except (PathEscapes, InvalidPath):
        tally.leave_out(os.fsencode(member.name), "leads out of the archive")
        return
    if not inside:
        return
    there = join_below(path, inside)
    tally.ask(merged, there, follow=member.isreg() or member.isdir())
    directory = split(there)[0]
    if directory:
        merged.make_dir(directory, parents=True)
    mtime_ns = read_mtime_ns(member)
    if member.isdir():
        merged.make_dir(there, parents=True)
        directories[there] = member
        tally.directories += 1
    elif member.isreg():
        content = archive.extractfile(member)
        assert content is not None  # noqa: S101 - regular members have one
        begin = content.read(POINTER_MAX) if split(inside)[1] == b".git" else b""
        if (named := parse_pointer(begin)) is not None and leads_out(split(inside)[0], os.fsencode(named)):
            tally.leave_out(inside, "names a repository outside of the archive")
            return
        tally.total_bytes += len(begin)
        node = merged.write_file(there, chain((begin,), _pieces(content, tally)), mode=member.mode & 0o777)
        merged.attributes.utimens(node, atime_ns=mtime_ns, mtime_ns=mtime_ns)
        tally.files += 1
    elif member.issym():
        target = os.fsencode(member.linkname)
        tally.warn_of_link(inside, target, "the archive")
        _put_symlink(merged, there, target, mtime_ns)
        tally.files += 1
    elif member.islnk():
        try:
            source = TreePath(b"/".join(part for part in (path, parse_tree_path(os.fsencode(member.linkname))) if part))
            merged.resolve(source, follow_last=False)  # before anything goes
            if source != there:  # GNU tar says so of a file that was named twice
                with contextlib.suppress(FileNotFoundError):
                    merged.remove(there)
                merged.make_link(source, there)
            tally.files += 1
        except (PathEscapes, FileNotFoundError):
            tally.leave_out(inside, "is a hard link to something that is not in the archive")
    else:
        tally.leave_out(inside, "is a device or pipe")


# --- out ------------------------------------------------------------------------------------------------------


def _walk(merged: MergedTree, node: Node, max_depth: int | None) -> Iterator[tuple[TreePath, Node]]:
    """Yield what is below a directory by its path from there, directories before what is in them.

    Raises:
        TooManyFiles: If it is a tree bomb, and not only a few levels of it are asked for.
    """
    stack: list[tuple[TreePath, Node, int]] = [(ROOT, node, 0)]
    bound = merged.nodes.bound_below(node)
    if max_depth is None:
        bound.ask()
    while stack:
        here, directory, depth = stack.pop()
        names = sorted(merged.nodes.readdir(directory))
        bound.meet(len(names))
        for name, _ in names:
            child = merged.nodes.lookup(directory, name)
            yield join(here, name), child
            if child.is_dir and (max_depth is None or depth + 1 < max_depth):
                stack.append((join(here, name), child, depth + 1))


def export_path(
    opened: OpenWorkspace,
    path: TreePath,
    destination: Path,
    *,
    recursive: bool,
    max_depth: int | None,
    overwrite: bool,
    shown: str | None = None,
    is_patient: bool = True,
) -> TransferResult:
    """Copy a file or directory of a workspace to the host.

    `shown` is what the caller calls the destination.
    """
    tally = _Tally()
    given = destination
    named = Path(shown) if shown is not None else destination
    with opened.locked(to_read=True, is_patient=is_patient) as locked:
        merged = locked.merged
        try:
            node = merged.resolve(path)
        except OSError as error:
            raise translate_os_error(error, path, "read the workspace") from error
        with host_errors(f"export to '{named}'"):
            if node.is_dir and not recursive:
                raise PathUnsuitable(b"/" + path, "is a directory; export it with `-r`")
            if not node.is_dir and destination.is_dir():
                destination = destination / os.fsdecode(split(path)[1])
                named = named if destination == given else named / destination.name

            def copy(place: Path, *, is_new: bool) -> None:
                if node.is_dir:
                    place.mkdir(parents=True, exist_ok=True)
                    _export_directory(merged, node, place, max_depth, overwrite, tally, is_new=is_new)
                    return
                with closing_fd(os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY)) as directory:
                    _export_file(merged, node, directory, os.fsencode(place.name), os.fsencode(named), overwrite, tally)

            if opened.confirm is None:
                copy(destination, is_new=not destination.exists())
            else:
                _export_staged(
                    opened.confirm, copy, destination, os.fsencode(named), is_dir=node.is_dir, overwrite=overwrite
                )
    tally.warnings += warn_of_state(opened)
    return tally.result(show_path(path) or "/", str(named))


def _export_staged(
    confirm: Callable[[], None],
    copy: Callable[..., None],
    destination: Path,
    named: bytes,
    *,
    is_dir: bool,
    overwrite: bool,
) -> None:
    """Make a copy beside its destination, and move it there once what was read is confirmed."""
    comes_into = is_dir and destination.is_dir()
    if not is_dir:
        with closing_fd(os.open(destination.parent, os.O_RDONLY | os.O_DIRECTORY)) as directory:
            check_free(directory, os.fsencode(destination.name), named, overwrite=overwrite)
    with staging_directory(destination) as staging:
        copy(staging if comes_into else staging / destination.name, is_new=not comes_into)
        confirm()
        target = destination if comes_into else destination.parent
        if is_dir:
            target.mkdir(parents=True, exist_ok=True)
        move_into(staging, target, overwrite=overwrite)


def _export_directory(
    merged: MergedTree,
    node: Node,
    destination: Path,
    max_depth: int | None,
    overwrite: bool,
    tally: _Tally,
    *,
    is_new: bool,
) -> None:
    directories = Directories(Descriptor(os.open(destination, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)))
    made: list[tuple[TreePath, Node]] = [(ROOT, node)] if is_new else []
    for inside, child in _walk(merged, node, max_depth):
        above, name = split(inside)
        directory = directories.get(above)
        if child.is_dir:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, 0o700, dir_fd=directory)
            tally.directories += 1
            made.append((inside, child))
        elif child.kind == stat.S_IFLNK:
            target = merged.attributes.readlink(child)
            tally.warn_of_link(inside, target, "what is exported")
            with _placing(directory, name, inside, overwrite) as making:
                os.symlink(target, making, dir_fd=directory)
                mtime_ns = merged.attributes.getattr(child).mtime_ns
                os.utime(making, ns=(mtime_ns, mtime_ns), dir_fd=directory, follow_symlinks=False)
            tally.files += 1
        elif child.kind == stat.S_IFREG:
            _export_file(merged, child, directory, name, inside, overwrite, tally)
        else:
            tally.leave_out(inside, "is a device, socket or pipe")
    for inside, child in reversed(made):
        # Last: a read-only directory takes no files, and files that come change its times.
        attr = merged.attributes.getattr(child)
        with closing_fd(open_at(directories.get(inside), b".", os.O_RDONLY | os.O_DIRECTORY)) as opened:
            _export_xattrs(merged, child, opened)
            os.fchmod(opened, stat.S_IMODE(attr.mode))
            os.utime(opened, ns=(attr.mtime_ns, attr.mtime_ns))


@contextlib.contextmanager
def _placing(directory: int, name: bytes, path: bytes, overwrite: bool) -> Iterator[bytes]:
    """Give a block the name to make something under, and let it take the place of what is there once it is whole."""
    if check_free(directory, name, path, overwrite=overwrite):
        yield name
        return
    making = b".avfs-%b.tmp" % os.urandom(6).hex().encode("ascii")
    try:
        yield making
        os.rename(making, name, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(making, dir_fd=directory)
        raise


def _export_file(
    merged: MergedTree, node: Node, directory: int, name: bytes, path: bytes, overwrite: bool, tally: _Tally
) -> None:
    attr = merged.attributes.getattr(node)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with (
        _placing(directory, name, path, overwrite) as making,
        closing_fd(os.open(making, flags, 0o600, dir_fd=directory)) as fd,
    ):
        for piece in merged.contents.stream(node, is_open=True):  # the copy gets its mode
            write_all(fd, piece)
            tally.total_bytes += len(piece)
        _export_xattrs(merged, node, fd)
        os.fchmod(fd, stat.S_IMODE(attr.mode) & 0o777)
        os.utime(fd, ns=(attr.mtime_ns, attr.mtime_ns))
    tally.files += 1


def _export_xattrs(merged: MergedTree, node: Node, fd: int) -> None:
    for key, value in merged.attributes.read_xattrs(node).items():
        if key.startswith(b"user."):
            with contextlib.suppress(OSError):  # the destination may know no attributes
                os.setxattr(fd, key, value)


def export_tar(opened: OpenWorkspace, path: TreePath, file: BinaryIO, *, is_patient: bool = True) -> TransferResult:
    """Write a tar archive of a file or directory of a workspace, sorted by path."""
    tally = _Tally()
    with opened.locked(to_read=True, is_patient=is_patient) as locked:
        merged = locked.merged
        try:
            node = merged.resolve(path)
            entries: Iterable[tuple[TreePath, Node]] = (
                _walk(merged, node, None) if node.is_dir else [(TreePath(split(path)[1]), node)]
            )
            with tarfile.open(fileobj=file, mode="w|", format=tarfile.PAX_FORMAT) as archive:
                for inside, child in entries:
                    _pack(merged, archive, inside, child, tally)
        except OSError as error:
            raise translate_os_error(error, path, "write the archive") from error
    tally.warnings += warn_of_state(opened)
    return tally.result(show_path(path) or "/", "-")


class _Pieces(io.RawIOBase):
    """A file of the workspace, as tarfile wants to read it."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        super().__init__()
        self._pieces = pieces
        self._rest = b""

    def readable(self) -> bool:
        """Whether it can be read: it can."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, fewer only at the end."""
        parts = [self._rest]
        have = len(self._rest)
        while size < 0 or have < size:
            piece = next(self._pieces, None)
            if piece is None:
                break
            parts.append(piece)
            have += len(piece)
        data = b"".join(parts)
        size = len(data) if size < 0 else size
        self._rest = data[size:]
        return data[:size]


def _pack(merged: MergedTree, archive: tarfile.TarFile, inside: TreePath, node: Node, tally: _Tally) -> None:
    attr = merged.attributes.getattr(node)
    member = tarfile.TarInfo(os.fsdecode(inside))
    seconds, nanoseconds = divmod(attr.mtime_ns, 1_000_000_000)
    member.mtime = seconds
    if nanoseconds and seconds >= 0:
        member.pax_headers = {"mtime": f"{seconds}.{nanoseconds:09}"}
    member.mode = stat.S_IMODE(attr.mode)
    if node.is_dir:
        member.type = tarfile.DIRTYPE
        archive.addfile(member)
        tally.directories += 1
    elif node.kind == stat.S_IFLNK:
        member.type = tarfile.SYMTYPE
        target = merged.attributes.readlink(node)
        member.linkname = os.fsdecode(target)
        tally.warn_of_link(inside, target, "the archive")
        archive.addfile(member)
        tally.files += 1
    elif node.kind == stat.S_IFREG:
        member.size = attr.size
        archive.addfile(member, _Pieces(merged.contents.stream(node)))
        tally.files += 1
        tally.total_bytes += attr.size
    else:
        tally.leave_out(inside, "is a device, socket or pipe")

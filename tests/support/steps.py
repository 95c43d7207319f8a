"""Steps of a random walk over a tree, and two ways to take them: on a merged tree and on a real directory.

Decided here: what a step is and what it answers. Both ways answer with None or the name of an errno, so that a real
file system, be it a plain directory or the kernel's overlayfs, is the oracle.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

from hypothesis import strategies as st

from avfs_git.errors import PathEscapes
from avfs_git.host.files.beneath import RENAME_EXCHANGE, RENAME_NOREPLACE, rename_at
from avfs_git.host.files.closing import closing_fd
from avfs_git.paths import TreePath, split
from avfs_git.vfs.tree.merged import MergedTree
from tests.support.trees import Described

OLD_NS = 1_000_000_000 * 10**9
"""A time long before any test: what is older than a test must not have changed."""

ESCAPES = "escapes"

Verb = Literal[
    "create", "write_file", "write_at", "truncate", "append", "mkdir", "unlink", "rmdir", "remove_tree", "rename",
    "noreplace", "exchange", "symlink", "link", "chmod", "utime", "set_xattr", "remove_xattr", "mkfifo",
]  # fmt: skip


@dataclass(frozen=True)
class Step:
    """One call."""

    verb: Verb
    path: bytes
    other: bytes = b""
    """The second path of a rename or link, the content of a write, the target of a symbolic link."""
    number: int = 0
    """A mode, an offset, a size."""


NAMES = [b"a", b"b", b"c", b"d e", b"\xff\xfe"]
_DATA = [b"", b"x", b"some content\n"]
_TARGETS = [b"a", b"../b", b"nowhere", b"c/a", b".", b"b/a"]
_NUMBERS = {
    "chmod": [0o644, 0o755, 0o600, 0o700, 0o1777],
    "truncate": [0, 3, 30, 70_000],
    "write_at": [0, 5, 20],
    "utime": [1, 7],
}
_NEW = ("create", "mkdir", "symlink", "mkfifo")
_COMMON = ("rename", "rename", "rename", "exchange", "link", "unlink", "rmdir", "mkdir", "write_file", "write_file")


@dataclass(frozen=True)
class Draft:
    """A step that is still to find its paths among those that are there."""

    verb: Verb
    first: int
    second: int
    name: bytes
    choice: int
    anywhere: bool
    """Whether the first path may be one that is not there."""

    def choose(self, entries: dict[bytes, Described]) -> Step:
        """Choose paths in a tree as it is now."""
        there = sorted(path for path in entries if path)
        dirs = sorted(path for path, entry in entries.items() if entry[0] == stat.S_IFDIR)
        fresh = dirs[self.first % len(dirs)]
        path = fresh + b"/" + self.name if fresh else self.name
        if there and not self.anywhere and self.verb not in _NEW:
            path = there[self.first % len(there)]
        number = _pick(_NUMBERS.get(self.verb, [0]), self.choice)
        match self.verb:
            case "rename" | "noreplace" | "exchange" | "link":
                other = dirs[self.second % len(dirs)]
                target = other + b"/" + self.name if other else self.name
                if there and (self.verb == "exchange" or self.choice % 2):
                    target = there[self.second % len(there)]
                return Step(self.verb, path, target)
            case "symlink":
                return Step(self.verb, path, _pick(_TARGETS, self.choice))
            case "write_file" | "append" | "write_at":
                return Step(self.verb, path, _pick(_DATA, self.choice), number)
        return Step(self.verb, path, number=number)


_T = TypeVar("_T")


def _pick(choices: list[_T], number: int) -> _T:
    return choices[number % len(choices)]


def drafts() -> st.SearchStrategy[Draft]:
    """Generate any step."""
    place = st.integers(0, 40)
    verbs = st.sampled_from([*get_args(Verb), *_COMMON])
    return st.builds(
        Draft,
        verbs,
        place,
        place,
        st.sampled_from(NAMES),
        st.integers(0, 11),
        st.sampled_from([False, False, False, True]),
    )


def _answer(call: Callable[[], object]) -> str | None:
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except PathEscapes:
        return ESCAPES
    return None


def _leads_out(base: bytes, path: bytes, *, follow_last: bool) -> bool:
    """Tell whether a path passes a symbolic link that leads out of a directory, before a test follows it."""
    here: list[bytes] = []
    pending = path.split(b"/")[::-1]
    for _ in range(200):
        if not pending:
            break
        name = pending.pop()
        place = b"/".join([base, *here, name])
        if name == b"..":
            if not here:
                return True
            here.pop()
        elif os.path.islink(place) and (pending or follow_last):
            pending += os.readlink(place).split(b"/")[::-1]
        elif not os.path.isdir(place):
            return False
        elif name != b".":
            here.append(name)
    return False


def take_in_tree(tree: MergedTree, step: Step) -> str | None:
    """Take a step in a merged tree."""
    return _answer(lambda: _in_tree(tree, step))


def _in_tree(tree: MergedTree, step: Step) -> None:  # noqa: PLR0912 - one branch a verb
    path, other = TreePath(step.path), TreePath(step.other)
    parent = tree.resolve(split(path)[0])
    name = split(path)[1]
    if not parent.is_dir:
        raise NotADirectoryError(errno.ENOTDIR, "")
    match step.verb:
        case "create":
            tree.making.create(parent, name, 0o644)
        case "mkdir":
            tree.making.mkdir(parent, name, 0o755)
        case "mkfifo":
            tree.making.mknod(parent, name, stat.S_IFIFO | 0o644)
        case "symlink":
            tree.making.symlink(parent, name, step.other)
        case "unlink":
            tree.namespace.unlink(parent, name)
        case "rmdir":
            tree.namespace.rmdir(parent, name)
        case "remove_tree":
            tree.remove(path, recursive=True)
        case "rename" | "noreplace" | "exchange":
            new_parent, new_name = tree.resolve(split(other)[0]), split(other)[1]
            flags = {"rename": 0, "noreplace": RENAME_NOREPLACE, "exchange": RENAME_EXCHANGE}[step.verb]
            tree.namespace.rename(parent, name, new_parent, new_name, flags=flags)
        case "link":
            node = tree.nodes.lookup(parent, name)
            tree.making.link(node, tree.resolve(split(other)[0]), split(other)[1])
        case "write_file":
            tree.write_file(path, step.other)
        case "append":
            tree.contents.append(tree.nodes.lookup(parent, name), step.other)
        case "write_at":
            tree.contents.write(tree.nodes.lookup(parent, name), step.other, step.number)
        case "truncate":
            tree.contents.truncate(tree.nodes.lookup(parent, name), step.number)
        case "chmod":
            tree.attributes.chmod(tree.nodes.lookup(parent, name), step.number)
        case "utime":
            tree.attributes.utimens(tree.nodes.lookup(parent, name), atime_ns=OLD_NS, mtime_ns=OLD_NS + step.number)
        case "set_xattr":
            tree.attributes.set_xattr(tree.nodes.lookup(parent, name), b"user.note", b"v")
        case "remove_xattr":
            tree.attributes.remove_xattr(tree.nodes.lookup(parent, name), b"user.note")


def take_in_directory(directory: Path, step: Step) -> str | None:
    """Take a step in a real directory, as a program would that may not leave it."""
    base = os.fsencode(directory)
    if _leads_out(base, step.path, follow_last=step.verb == "write_file"):
        return ESCAPES
    has_parent = os.path.isdir(base + b"/" + split(TreePath(step.path))[0])  # else the first path is what fails
    two_paths = step.verb in ("rename", "noreplace", "exchange", "link")
    if has_parent and two_paths and _leads_out(base, step.other, follow_last=False):
        return ESCAPES
    return _answer(lambda: _in_directory(base, step))


def _in_directory(base: bytes, step: Step) -> None:  # noqa: PLR0912 - one branch a verb
    place, there = base + b"/" + step.path, base + b"/" + step.other
    match step.verb:
        case "create":
            os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
        case "mkdir":
            os.mkdir(place, 0o755)
        case "mkfifo":
            os.mkfifo(place, 0o644)
        case "symlink":
            os.symlink(step.other, place)
        case "unlink":
            os.unlink(place)
        case "rmdir":
            os.rmdir(place)
        case "remove_tree":
            if os.path.isdir(place) and not os.path.islink(place):
                shutil.rmtree(place)
            else:
                os.unlink(place)
        case "rename" | "noreplace" | "exchange":
            flags = {"rename": 0, "noreplace": RENAME_NOREPLACE, "exchange": RENAME_EXCHANGE}[step.verb]
            rename_at(0, place, 0, there, flags)
        case "link":
            os.link(place, there, follow_symlinks=False)
        case "write_file":
            _write(place, os.O_CREAT | os.O_TRUNC, step.other, 0)
        case "append" | "write_at" | "truncate":
            if not stat.S_ISREG(os.lstat(place).st_mode):
                raise OSError(errno.EISDIR if os.path.isdir(place) and not os.path.islink(place) else errno.EINVAL, "")
            if step.verb == "truncate":
                _truncate(place, step.number)
            else:
                _write(place, 0, step.other, os.lstat(place).st_size if step.verb == "append" else step.number)
        case "chmod":
            if os.path.islink(place):
                raise OSError(errno.ENOTSUP, "")
            os.chmod(place, step.number)
        case "utime":
            os.utime(place, ns=(OLD_NS, OLD_NS + step.number), follow_symlinks=False)
        case "set_xattr":
            os.setxattr(place, b"user.note", b"v", follow_symlinks=False)
        case "remove_xattr":
            os.removexattr(place, b"user.note", follow_symlinks=False)


def _write(place: bytes, flags: int, data: bytes, offset: int) -> None:
    if flags and os.path.exists(place) and not os.path.isfile(place) and not os.path.isdir(place):
        raise OSError(errno.EINVAL, "")  # a fifo, which would block
    with closing_fd(os.open(place, os.O_WRONLY | flags, 0o666)) as fd:
        os.pwrite(fd, data, offset)


def _truncate(place: bytes, size: int) -> None:
    with closing_fd(os.open(place, os.O_WRONLY)) as fd:
        os.ftruncate(fd, size)


def make_lower(directory: Path) -> None:
    """Fill a directory with one of everything that a base can hold, all of it old."""
    base = os.fsencode(directory)
    for path in (b"a", b"a/b", b"a/b/c", b"b", b"b/d e", b"c", b"c/empty"):
        os.mkdir(base + b"/" + path, 0o755)
    for number, path in enumerate((b"a/a", b"a/b/a", b"a/b/c/a", b"b/a", b"d e", b"b/d e/b", b"c/\xff\xfe")):
        with open(base + b"/" + path, "wb") as file:
            file.write(b"lower %d\n" % number * (1 + number * 20_000 * (number == 5)))
    os.symlink(b"../a/b", base + b"/b/b")
    os.symlink(b"nowhere", base + b"/\xff\xfe")
    os.chmod(base + b"/b/a", 0o755)
    os.chmod(base + b"/c", 0o700)
    os.setxattr(base + b"/a/a", b"user.note", b"low")
    os.setxattr(base + b"/a/b", b"user.note", b"low dir")
    for here, dirs, files in os.walk(base, topdown=False):
        for name in [*dirs, *files, b"."]:
            os.utime(here + b"/" + name, ns=(OLD_NS, OLD_NS), follow_symlinks=False)

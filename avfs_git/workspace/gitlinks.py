"""Repositories inside a live tree that git keeps in the vault: those of submodules, and of linked worktrees.

A file `.git` below the root of a tree names such a directory. Git writes it for one tree at one place: its path is
relative to where the tree is shown, and a fork of the fork holds the same file. Decided here, each time a tree is
shown:

- The repository of a submodule is in `worktrees/FORK/modules` of the vault. Its `core.worktree` and the file `.git` are
  made to name each other. A fork that has the `.git` of another fork's submodule gets a copy of that repository, as the
  fork of a clone does (`workspace.creation.submodules`). Where there is nothing to copy, the fork's `.git` is removed.
- The repository of a submodule that came with a clone is in the tree. It borrows objects from the vault, wherever that
  has been moved to.
- A linked worktree is in `worktrees/NAME`. It belongs to the fork in whose tree git made it; other forks have its files
  alone, without the `.git`: git there would move the branch and the index under the first one's files.

Submodules are found by `.gitmodules`, linked worktrees by what git notes of them in the vault: a tree without either
costs a look at one file and one directory. Everything read here may be hostile. A failure is logged, and the tree is
shown nevertheless. Called before anything is shown; takes the lock of the workspace. A crash leaves work for the next
time.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import AvfsError, NotAVault
from avfs_git.gitstore.config.gitconfig import edit_config, parse_config, read_config
from avfs_git.gitstore.config.outside import POINTER_MAX, parse_pointer
from avfs_git.gitstore.repofile import read_plain_file
from avfs_git.gitstore.worktree import Worktree, list_linked, list_shown_at
from avfs_git.host.files.durable import host_errors, make_dirs_durably, write_file_atomically
from avfs_git.host.files.modes import make_dir, mode_below
from avfs_git.host.locks.making import directory_filled
from avfs_git.lazy import LazyLogger
from avfs_git.paths import ROOT, TreePath, join, parse_tree_path
from avfs_git.vfs.tree.merged import MergedTree
from avfs_git.workspace.opened.workspace import LockedWorkspace, OpenWorkspace
from avfs_git.workspace.vault.format import VaultLayout
from avfs_git.workspace.vault.gitmoves import PUT_AWAY, link_worktree, open_worktree, prepare_worktree

_LOG = LazyLogger(__name__)
_GIT, _MODULES = b".git", b".gitmodules"
_ALTERNATES = b"objects/info/alternates"
"""Where a repository says from which others it borrows objects (gitrepository-layout(5))."""
_MODULES_MAX = 1 << 20
_COUNT_MAX = 10_000
"""Submodules that are looked at."""


def prepare_tree(opened: OpenWorkspace, directory: Path) -> bytes:
    """Make git work in a tree that is shown at a directory, and in the submodules in it.

    Give what its file `.git` has to hold.

    Raises:
        AvfsError: If the disk or git's configuration refuses it for the tree itself.
    """
    before = _find_last_place(opened)
    content = prepare_worktree(opened.vault, opened.fork, directory)
    _settle(opened, directory, before)
    return content


def link_tree(opened: OpenWorkspace, directory: Path) -> Path:
    """Do what `prepare_tree` does, and give a file to be shown as `.git`."""
    before = _find_last_place(opened)
    link = link_worktree(opened.vault, opened.fork, directory)
    _settle(opened, directory, before)
    return link


def _find_last_place(opened: OpenWorkspace) -> Path | None:
    worktree = open_worktree(opened.vault, opened.fork)
    worktree.bring_back(opened.vault.layout.workspace(opened.fork).root / PUT_AWAY)
    return worktree.find_directory()


def _settle(opened: OpenWorkspace, directory: Path, before: Path | None) -> None:
    try:
        with opened.locked() as locked:
            settling = _Settling(locked, directory)
            settling.settle_modules()
            settling.settle_linked(before)
            settling.write()
    except (AvfsError, OSError):
        _LOG.exception("repositories inside the tree of '%s' are as they were", opened.fork)


class _Settling:
    """What the files `.git` in one tree have to be."""

    def __init__(self, locked: LockedWorkspace, directory: Path) -> None:
        self._locked = locked
        self._tree: MergedTree = locked.merged
        self._layout: VaultLayout = locked.vault.layout
        self._git_dir = Path(os.path.realpath(locked.vault.git_dir))
        self._own: Worktree = open_worktree(locked.vault, locked.fork)
        self._directory = directory.absolute()
        self._real = os.path.realpath(directory)
        self._wanted: dict[TreePath, bytes | None] = {}

    def write(self) -> None:
        """Write or remove the files that have to change."""
        if not self._wanted:
            return
        with self._locked.changing() as merged:
            for path, content in self._wanted.items():
                if content is None:
                    _LOG.warning("'%s' named a repository of another fork: it was removed", os.fsdecode(path))
                    merged.remove(path)
                else:
                    merged.write_file(path, content)

    # --- submodules ----------------------------------------------------------------------------------------

    def settle_modules(self) -> None:
        """Let each submodule, and those in it, lead to a repository of this fork."""
        rest, count = [ROOT], 0
        while rest:
            above = rest.pop()
            for path in self._list_modules(above):
                count += 1
                if count <= _COUNT_MAX and self._settle_module(path):
                    rest.append(path)

    def _list_modules(self, above: TreePath) -> list[TreePath]:
        data = self._read(join(above, _MODULES), _MODULES_MAX)
        found: list[TreePath] = []
        for key, values in parse_config(data).items() if data else ():
            if key.startswith("submodule.") and key.endswith(".path"):
                with suppress(AvfsError):
                    path = parse_tree_path(values[-1])
                    if path != ROOT and _GIT not in path.split(b"/"):
                        found.append(TreePath(join(above, path)))
        return found

    def _settle_module(self, path: TreePath) -> bool:
        """Let one submodule lead to a repository of this fork; tell whether it does."""
        borrowing = join(join(path, _GIT), _ALTERNATES)
        borrowed = self._read(borrowing, POINTER_MAX)
        if borrowed:
            if self._is_left(borrowed):
                self._wanted[borrowing] = self._name_objects()
            return True
        target = self._read_pointer(path)
        found = self._find_module(path, target) if target is not None else None
        if target is None or found is None:
            return False
        owner, rest = found
        place = self._git_dir / "worktrees" / self._own.path.name / rest
        if owner != self._own.path.name and not os.path.lexists(place):
            try:
                self._copy(self._git_dir / "worktrees" / owner / rest, place)
            except (AvfsError, OSError) as error:
                _LOG.warning("the repository of '%s' cannot be copied: %s", os.fsdecode(path), error)
                self._wanted[join(path, _GIT)] = None
                return False
        if not _is_plain(place) or not (place / "HEAD").is_file():
            return False
        with suppress(NotAVault, FileNotFoundError):
            borrowing_here = place / os.fsdecode(_ALTERNATES)
            if self._is_left(read_plain_file(borrowing_here, limit=POINTER_MAX)):
                write_file_atomically(borrowing_here, self._name_objects(), mode=mode_below(self._git_dir) & 0o666)
        if self._resolve(path, target) != os.fspath(place):
            self._wanted[join(path, _GIT)] = b"gitdir: %b\n" % os.fsencode(place)
        shown = os.path.join(self._real, os.fsdecode(path))
        held = read_config(place).get("core.worktree", [""])[-1]
        if os.path.normpath(os.path.join(place, held)) != shown:
            edit_config(place, ("--replace-all", "core.worktree", shown))
        return True

    def _is_left(self, borrowed: bytes) -> bool:
        """Tell whether a repository borrows from where a vault was before it was moved, and from nothing else."""
        named, objects = Path(os.fsdecode(borrowed.removesuffix(b"\n"))), self._layout.module_objects
        inside = objects.relative_to(self._layout.git_dir).parts
        was_here = named.is_absolute() and named.parts[-len(inside) :] == inside
        return was_here and not os.path.exists(named) and objects.is_dir()

    def _name_objects(self) -> bytes:
        return os.fsencode(self._layout.module_objects.absolute()) + b"\n"

    def _find_module(self, path: TreePath, target: str) -> tuple[str, Path] | None:
        """Find whose repository in the vault is named, even if the tree was shown elsewhere when git wrote that."""
        parts = target.split("/")
        if self._resolve(path, target).startswith(self._real + "/"):
            return None
        for at, name in enumerate(parts[:-3]):
            if name == "worktrees" and parts[at + 2] == "modules" and not {"", ".", ".."} & set(parts[at:]):
                vault = Path(self._resolve(path, "/".join(parts[:at]) or "/"))
                if not vault.exists() or os.path.realpath(vault) == os.fspath(self._git_dir):
                    return parts[at + 1], Path(*parts[at + 2 :])
        return None

    def _copy(self, source: Path, place: Path) -> None:
        """Make a repository with what another fork's has, and link its objects."""
        if not _is_plain(source):
            raise FileNotFoundError(2, "there is no such directory", os.fspath(source))
        from avfs_git.gitstore.foreign.rebuild import rebuild_git_dir  # noqa: PLC0415 - few trees have submodules of another fork
        from avfs_git.gitstore.foreign.takeover import link_objects  # noqa: PLC0415 - as above

        objects = self._layout.module_objects
        with host_errors(f"make '{place}'"):
            make_dirs_durably(objects / "pack")
            link_objects(source, objects)
            with directory_filled(objects.parent, mode=0o700) as filled:
                made = filled / place.name
                rebuild_git_dir(source, made, objects.absolute())
                mode = mode_below(self._git_dir)  # the server of a tree has no umask
                for directory, _, files in os.walk(made):
                    os.chmod(directory, mode)
                    for name in files:
                        file = Path(directory, name)
                        file.chmod(file.stat().st_mode & mode & 0o666)
                for above in reversed(place.parents):
                    if above.is_relative_to(self._git_dir / "worktrees"):
                        make_dir(above, exist_ok=True)
                os.rename(made, place)

    # --- linked worktrees ----------------------------------------------------------------------------------

    def settle_linked(self, before: Path | None) -> None:
        """Correct git's note of where this fork's linked worktrees are; leave those of other forks out of the tree.

        `before` is where the tree was shown the last time.
        """
        linked = list_linked(self._git_dir)
        others = list_shown_at(self._git_dir, but=self._own.path.name) if linked else []
        for place, where in linked.items():
            if before is not None and where.is_relative_to(before):
                now = self._directory / where.relative_to(before)
                if now != where:
                    data = os.fsencode(now) + b"/.git\n"
                    write_file_atomically(place / "gitdir", data, mode=mode_below(self._git_dir) & 0o666, durable=False)
            elif before is None or any(where.is_relative_to(other) for other in others):
                self._leave_out(place, where)

    def _leave_out(self, place: Path, where: Path) -> None:
        """Leave out a `.git` naming another fork's linked worktree, wherever its fork was shown when git made it."""
        names = where.parts[1:]
        for first in range(len(names)):
            path = TreePath(os.fsencode("/".join(names[first:])))
            target = self._read_pointer(path)
            if target is not None and os.path.realpath(self._resolve(path, target)) == os.fspath(place):
                self._wanted[join(path, _GIT)] = None

    # --- reading -------------------------------------------------------------------------------------------

    def _resolve(self, path: TreePath, target: str) -> str:
        return os.path.normpath(os.path.join(self._real, os.fsdecode(path), target))

    def _read_pointer(self, path: TreePath) -> str | None:
        return parse_pointer(self._read(join(path, _GIT), POINTER_MAX))

    def _read(self, path: TreePath, limit: int) -> bytes:
        """Read a small plain file; empty without a file."""
        try:
            attr = self._tree.attr(path)
            return self._tree.read_file(path) if stat.S_ISREG(attr.mode) and attr.size <= limit else b""
        except (AvfsError, OSError):
            return b""


def _is_plain(place: Path) -> bool:
    """Whether a directory is there, and no symbolic link on the way to it."""
    return place.is_dir() and os.path.realpath(place) == os.fspath(place)

"""Submodules of a clone that is forked, or made a vault of: each gets a repository of its own in the fork.

Git keeps the repository of a submodule in that of the clone (`.git/modules/NAME`), and a file `.git` in the submodule
leads there. In a live tree that file leads nowhere, so that no git works in the whole tree; and led there, a commit in
the fork would move the clone's submodule, which is only read. Decided here: in the fork, `.git` of a submodule is a
directory, as git once made it and still understands. It holds what the clone's repository of the submodule holds at
present, without what could run a program (`gitstore.foreign.rebuild`) and without its objects: these are linked into
`avfs/modules/objects` of the vault, from which all such repositories borrow, so that they stay if the clone's go. What
is committed there is in the workspace, kept by checkpoints as any nested repository.

Any other `.git` that names a git directory which no copy in the fork stands for (that of a linked worktree, of `git
init --separate-git-dir`, a symbolic link, or a directory with a `commondir`) is left out with a warning: git in the
fork would move branches and indexes of the repository that it names. The files beside it are plain files in the fork. A
directory `.git` whose `core.worktree` leads out of the clone is made anew without that setting.

`WithModules` reads a directory as `vfs.layer.readers` does and shows it like that; `workspace.creation.create` captures
it. The copies are made in the vault, and go when it is closed; those of a process that died go with the next one's. One
thread uses it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from avfs_git.errors import FormatUnsupported, HostError, NotAVault
from avfs_git.gitstore.config.outside import (
    POINTER_MAX,
    leads_inside,
    names_other_repository,
    parse_pointer,
    works_elsewhere,
)
from avfs_git.gitstore.foreign.rebuild import rebuild_git_dir
from avfs_git.gitstore.foreign.takeover import link_objects
from avfs_git.host.files.closing import closing_fd
from avfs_git.host.files.durable import host_errors, make_dirs_durably
from avfs_git.host.locks.making import directory_filled, remove_abandoned
from avfs_git.model import Warning
from avfs_git.paths import ROOT, TreePath, join
from avfs_git.vfs.layer.readers import PlainDirectory, Xattrs
from avfs_git.vfs.scan.scan import DIRECTORY, FILE, SYMLINK, Found, Layer
from avfs_git.workspace.vault.format import VaultLayout

_GIT = b".git"


class WithModules:
    """A clone's directory, with the repositories of its submodules in them."""

    def __init__(self, layer: Layer, source: Path, common: Path | None, layout: VaultLayout, place: Path) -> None:
        """Read a clone. `place` is where the vault is when the fork is used: a vault in the making has another name."""
        self._layer = layer
        self._source = source
        self._common = Path(os.path.realpath(common)) if common is not None else None
        self._layout = layout
        self._borrowed = VaultLayout(place).module_objects
        self._scratch: Path | None = None
        self._made = contextlib.ExitStack()
        self._inside: dict[TreePath, PlainDirectory] = {}
        """What is shown at the `.git` of each submodule that was found so far."""
        self.warnings: list[Warning] = []
        """Which repositories are not shown, or without something."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._inside.clear()
        self._made.close()

    @property
    def has_any(self) -> bool:
        """Whether one was found so far whose repository is shown."""
        return bool(self._inside)

    # --- what a capture asks -------------------------------------------------------------------------------

    def list_dir(self, path: TreePath) -> Sequence[Found]:
        """List a directory."""
        layer, below = self._find(path)
        found = layer.list_dir(below)
        if layer is not self._layer or path == ROOT:
            return found
        if all(one.name != _GIT for one in found):
            return found
        shown = (self._show(path, one) if one.name == _GIT else one for one in found)
        return [one for one in shown if one is not None]

    def find(self, path: TreePath, name: bytes) -> Found | None:
        """Look at one entry."""
        layer, below = self._find(path)
        found = layer.find(below, name)
        if found is None or name != _GIT or layer is not self._layer or path == ROOT:
            return found
        return self._show(path, found)

    def open_listed(self, path: TreePath, name: bytes) -> int:
        """Open what was listed as a file."""
        layer, below = self._find(path)
        return layer.open_listed(below, name)

    def read_link(self, path: TreePath, name: bytes) -> bytes:
        """Read a symbolic link."""
        layer, below = self._find(path)
        return layer.read_link(below, name)

    def file_xattrs(self, fd: int, path: TreePath) -> Xattrs:
        """Read the user's attributes of an open file."""
        return self._layer.file_xattrs(fd, path)

    def dir_xattrs(self, path: TreePath) -> Xattrs:
        """Read the user's attributes of a directory."""
        layer, below = self._find(path)
        return layer.dir_xattrs(below)

    def dir_stat(self, path: TreePath) -> os.stat_result:
        """Stat a directory."""
        layer, below = self._find(path)
        return layer.dir_stat(below)

    def forget_dir(self, path: TreePath) -> None:
        """Look a directory up anew."""
        layer, below = self._find(path)
        layer.forget_dir(below)

    # --- submodules ----------------------------------------------------------------------------------------

    def _find(self, path: TreePath) -> tuple[Layer, TreePath]:
        """Say which directory shows what is at a path, and where in it."""
        for place, shown in self._inside.items():
            if path == place:
                return shown, ROOT
            if path.startswith(place + b"/"):
                return shown, TreePath(path[len(place) + 1 :])
        return self._layer, path

    def _show(self, path: TreePath, found: Found) -> Found | None:
        """Show a directory's `.git`: one made anew for a submodule or another user's repository, else what is there.

        None where it cannot be made anew: another user's would become the caller's own, and git would obey it; with a
        pointer, git in the fork would write to what that names.

        Raises:
            HostError: If a submodule cannot be read, which is tracked; another repository is left out.
        """
        place = join(path, _GIT)
        shown = self._inside.get(place)
        is_own = found.stat.st_uid == os.geteuid()
        if shown is None:
            target = self._read_pointer(path, found.kind)
            repository = self._find_module(path, target) if target is not None and found.kind == FILE else None
            is_module = repository is not None
            other = elsewhere = False
            if repository is None and (target is None or leads_inside(self._source, os.fsdecode(path), target)):
                inside = os.path.normpath(os.path.join(os.fsdecode(path), target or ".git"))
                other = names_other_repository(self._source, inside)
                elsewhere = works_elsewhere(self._source, inside)
                if is_own and not other and not elsewhere:
                    return found
                # the pointer of another user is left out
                is_copied = found.kind == DIRECTORY or (is_own and target is not None)
                repository = self._source / inside if is_copied else None
            try:
                if repository is None or other:
                    raise NotAVault(os.fsdecode(place), "it leads elsewhere")
                shown = PlainDirectory(self._copy(repository))
            except (HostError, NotAVault, FormatUnsupported) as error:
                if isinstance(error, HostError) and (is_module or error.errno != errno.EACCES):
                    raise
                what = (
                    "has a repository that cannot be taken along: its '.git' is left out, so that git does not "
                    "work in it"
                )
                self.warnings.append(Warning("fork.submodule", f"'{os.fsdecode(path)}' {what} ({error})", path))
                return None
            why = "has git work outside of the directory" if elsewhere else "" if is_own else "belongs to another user"
            if why:
                what = f"the repository in it {why}: its hooks and settings were left out"
                self.warnings.append(Warning("fork.foreign_repository", f"'{os.fsdecode(path)}': {what}", path))
            self._inside[place] = shown
        return Found(_GIT, shown.dir_stat(ROOT), DIRECTORY, opaque=False)

    def _read_pointer(self, path: TreePath, kind: str) -> str | None:
        """Read which git directory the `.git` of a directory names; None if git finds none in it."""
        try:
            if kind == SYMLINK:
                return os.fsdecode(self._layer.read_link(path, _GIT))
            if kind != FILE:
                return None
            with closing_fd(self._layer.open_listed(path, _GIT)) as fd:
                data = os.read(fd, POINTER_MAX)
        except OSError:
            return None
        return parse_pointer(data)

    def _find_module(self, path: TreePath, target: str) -> Path | None:
        """Find the repository of a submodule in the clone's own that is named; None if something else is."""
        if self._common is None:
            return None
        found = Path(os.path.realpath(self._source / os.fsdecode(path) / target))
        is_module = found.is_relative_to(self._common) and "modules" in found.relative_to(self._common).parts
        with host_errors(f"read '{found}'"):
            return found if is_module and (found / "HEAD").is_file() else None

    def _copy(self, repository: Path) -> Path:
        """Make a git directory with what a repository holds, and link its objects."""
        objects = self._layout.module_objects
        with host_errors(f"make '{objects}'"):
            make_dirs_durably(objects / "pack")
        link_objects(repository, objects)
        if self._scratch is None:
            self._scratch = self._make_scratch()
        with host_errors(f"copy '{repository}'"):
            made = self._scratch / str(len(os.listdir(self._scratch)))
            rebuild_git_dir(repository, made, self._borrowed)
        return made

    def _make_scratch(self) -> Path:
        above = self._layout.module_objects.parent
        remove_abandoned(above)
        return self._made.enter_context(directory_filled(above, mode=0o700))

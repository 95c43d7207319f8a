"""The two layers of an open workspace: the files that its fork changed, over the commit that it began with.

Decided here: what is opened for a workspace's state, also where nothing may be written and there is no upper layer yet,
and how the marks of an upper layer are spelled (`vfs.layer.marks`). In a workspace of root's whose upper layer root
makes, they are those of root's overlayfs, which renames directories of the base; elsewhere those of ordinary users. Two
attributes of the workspace's directory say so, set before there is an upper layer. The marks decide which files there
are, so a process that cannot read them must not read the layer at all. Nor does any, where a copy has lost them (`cp
-r`, `tar`): a file of the workspace tells that it had attributes.

A redirect is a name in the base, so it means nothing over another one: the attribute names the base, and redirects
count only where that is the workspace's. Where `fold` has moved the base, each directory shows what the new base has at
its place, and `drop_redirects` removes the marks before new ones are made.

`OpenWorkspace` has one and opens it anew when the state has moved to another base; the modes make their trees of it.
"""

from __future__ import annotations

import contextlib
import os
import stat

from avfs_git.errors import LayerNotUnderstood, WorkspaceDamaged, WorkspaceMounted
from avfs_git.gitstore.config.trust import is_shared
from avfs_git.host.files.durable import host_errors, make_dirs_durably
from avfs_git.host.files.modes import make_dir, mode_below
from avfs_git.host.files.xattrs import entry_of, read_xattr, remove_xattr, write_xattr
from avfs_git.host.locks.locks import LockFile
from avfs_git.paths import oid_of
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.marks import TRUSTED, USER, Marks
from avfs_git.vfs.layer.upper import UpperLayer
from avfs_git.workspace.vault.format import WorkspaceLayout, WorkspaceState
from avfs_git.workspace.vault.origin import create_workspace
from avfs_git.workspace.vault.vault import OpenVault

_SPELLED = b"user.avfs.marks"
"""An attribute of a workspace: there where only root can read the marks of the upper layer."""
_MARKED = b"user.avfs.marked"
"""An attribute of a workspace that has a file `marked`: without it, neither are the marks there that its files had."""
_MADE = b"upper\n"
"""The content of that file from when the upper layer was made: without that directory, uncommitted work is gone."""
_BASE = b"trusted.avfs.base"
"""An attribute beside it: the base and the sidecar that redirects name directories of. No other user can read it."""


class Layers:
    """The upper and the lower layer."""

    def __init__(self, vault: OpenVault, layout: WorkspaceLayout, state: WorkspaceState, *, is_writable: bool) -> None:
        """Open them; make the directories of the upper layer where that is allowed.

        Raises:
            WorkspaceDamaged: If the upper layer is gone.
        """
        self.vault = vault
        self._config = vault.fork_config(layout.fork)
        self._layout = layout
        self._is_writable = is_writable
        if is_writable:
            if not layout.upper.exists():
                self._check_never_made()
                self._claim_for_root(state)
                self._say_marked()
            with contextlib.suppress(FileExistsError):
                # shown as the root of the workspace, so that its mode is that of any new directory
                os.mkdir(layout.upper)
                self._say_made()
            with contextlib.suppress(FileExistsError):
                make_dir(layout.work)
        self.open(state)

    def open(self, state: WorkspaceState) -> None:
        """Open the layers of a state.

        Raises:
            LayerNotUnderstood: If this user cannot read the marks of the upper layer, or a copy has lost them.
        """
        self._base = _name_base(state)
        self.upper = self._open_upper()
        self.limit()
        self.lower = self._open_lower(state)

    def limit(self) -> None:
        """Hold the upper layer to the quotas that the fork has now."""
        quota, limits = self.upper.quota, self._config.read_limits()
        if limits is not None and limits.vault_bytes and quota.vault is None:
            from avfs_git.workspace.opened.vaultroom import VaultRoom  # noqa: PLC0415 - of few vaults

            quota.vault = VaultRoom(self.vault.layout, self._layout.fork)
        quota.limit(limits)

    def are_of(self, state: WorkspaceState) -> bool:
        """Whether these are still the layers of a state."""
        return self._base == _name_base(state) and self.has_upper and self._read_spelling() == self._spelling

    def drop_redirects(self, state: WorkspaceState) -> None:
        """Remove redirects that meant another base than a state's; new ones may be made then.

        Called with the workspace lock.

        Nothing shows otherwise afterwards, and a kill leaves redirects that mean nothing.

        Raises:
            OSError: If the disk refuses.
        """
        if self.upper.marks.is_trusted and self._read_base() not in (None, _name_base(state)):
            self.upper.clear_redirects()
            write_xattr(os.fsencode(self._layout.root), _BASE, _name_base(state))

    @property
    def has_upper(self) -> bool:
        """Whether there is an upper layer."""
        return self.upper.directory == self._layout.upper

    def is_unused(self) -> bool:
        """Whether the upper layer is empty: nothing was ever changed."""
        if not self.has_upper:
            return True
        try:
            return self._is_empty()
        except FileNotFoundError:  # a look without the lock: the fork was ended meanwhile
            return True

    def _is_empty(self) -> bool:
        with os.scandir(self._layout.upper) as entries:
            return next(entries, None) is None

    def adopt_root(self) -> None:
        """Give the root of an unused upper layer the attributes of the lower one, which it hides."""
        entry = self.lower.root
        with contextlib.suppress(OSError):  # they are a comfort: a capture reads what is there
            passing = mode_below(self._layout.root) & 0o070 if is_shared(self.vault.git_dir) else 0
            os.chmod(self._layout.upper, stat.S_IMODE(entry.mode) | passing & 0o050)
            os.utime(self._layout.upper, ns=(entry.mtime_ns, entry.mtime_ns))
            self.upper.write_user_xattrs(entry_of(self.upper.root.fd, b"."), entry.xattrs)

    def _open_upper(self) -> UpperLayer:
        if not self._is_writable and not (self._layout.upper.is_dir() and self._layout.work.is_dir()):
            from avfs_git.vfs.tree.readonly import NoUpper  # noqa: PLC0415 - of few workspaces

            if not self._layout.upper.is_dir():
                self._check_never_made()
            return NoUpper(self.vault.git_dir)
        is_marked = not self._layout.marked.exists() or read_xattr(os.fsencode(self._layout.root), _MARKED) is not None
        if not is_marked and not self._is_empty():
            refused = LayerNotUnderstood(b"/", "user.avfs.marked", "a copy without extended attributes has lost")
            refused.hint = (
                "Copy the vault again as `cp -a` does, with its attributes, or delete this fork: commits are whole."
            )
            raise refused
        self._spelling = marks, follows = self._read_spelling()
        if marks.is_trusted and not follows and self._read_base() is None and not self._is_empty():
            refused = LayerNotUnderstood(b"/", "trusted.overlay.*", "only root can read")
            refused.hint = "Run this as root, which made the uncommitted changes of this fork."
            raise refused
        return UpperLayer(self._layout.upper, self._layout.work, marks, follows_redirects=follows)

    def _claim_for_root(self, state: WorkspaceState) -> None:
        """Let the marks of the upper layer, which is about to be made, be root's, if this is root with all rights."""
        place = os.fsencode(self._layout.root)
        try:
            if os.geteuid() or os.stat(place).st_uid:
                return
            write_xattr(place, TRUSTED.opaque, b"n")  # not on an overlayfs of an older kernel
            remove_xattr(place, TRUSTED.opaque)
            write_xattr(place, _BASE, _name_base(state))
            write_xattr(place, _SPELLED, b"trusted")
        except OSError:  # not in a container, and not on every file system
            return

    def _say_marked(self) -> None:
        """Mark in an attribute and a file that the workspace has attributes: a copy of only the file lost the marks."""
        with contextlib.suppress(OSError):  # a file system without them has other marks
            write_xattr(os.fsencode(self._layout.root), _MARKED, b"1")
            self._layout.marked.touch(0o600)

    def _say_made(self) -> None:
        """Note beside a new upper layer that it was made."""
        # A file system without marks has no such file.
        with contextlib.suppress(OSError), open(self._layout.marked, "r+b") as file:
            file.write(_MADE)

    def _check_never_made(self) -> None:
        """Refuse a workspace that lost its upper layer: it would show the base, and a checkpoint would commit that.

        Raises:
            WorkspaceDamaged: If so.
        """
        if has_lost_upper(self._layout):
            raise WorkspaceDamaged(
                self._layout.fork,
                f"'{self._layout.upper}' is gone, with every file that changed since the fork began",
                hint="Put that directory back; else `avfs doctor --repair` brings back the files as they were last "
                "recorded.",
            )

    def _read_spelling(self) -> tuple[Marks, bool]:
        """Tell how the marks are spelled, and whether redirects count."""
        if read_xattr(os.fsencode(self._layout.root), _SPELLED) is None:
            return USER, True
        return TRUSTED, self._read_base() == self._base

    def _read_base(self) -> bytes | None:
        return read_xattr(os.fsencode(self._layout.root), _BASE)

    def _open_lower(self, state: WorkspaceState) -> LowerTree:
        store = self.vault.store
        if state.base is None:
            return LowerTree(store, None, None, default_mtime_ns=state.created_at_ns or 0)
        commit = store.read_commit(oid_of(state.base))
        sidecar = store.read_commit(oid_of(state.sidecar)).tree if state.sidecar else None
        return LowerTree(store, commit.tree, sidecar, default_mtime_ns=commit.committer.when_s * 1_000_000_000)


def make_workspace(vault: OpenVault, state: WorkspaceState) -> None:
    """Make the workspace of a new fork whole: else the files are those of the user who looks at it first.

    Called with the lock of the fork's name.

    Raises:
        HostError: If the disk refuses.
    """
    layout = vault.layout.workspace(state.fork)
    vault.prepare()
    with host_errors(f"make the workspace of '{state.fork}'"):
        make_dirs_durably(layout.root)
        Layers(vault, layout, state, is_writable=True).adopt_root()
    create_workspace(vault, layout, state)  # last: without a state, another process waits for that lock


def has_lost_upper(layout: WorkspaceLayout) -> bool:
    """Tell whether the upper layer of a workspace was there and is gone."""
    try:
        return layout.marked.stat().st_size > 0 and not layout.upper.exists()
    except OSError:
        return False


def _name_base(state: WorkspaceState) -> bytes:
    return f"{state.base or '-'} {state.sidecar or '-'}".encode("ascii")


def check_unshown(layout: WorkspaceLayout, lock: LockFile, *, in_sight: bool = False) -> None:
    """Refuse a workspace that the kernel shows, and to which programs write. Called with its lock held.

    A session that serves it says so before (`OpenWorkspace.show_at`), and does not ask. `in_sight` asks only of a mount
    that this process sees, and not of that of a command, which is in its own mount namespace.

    Raises:
        WorkspaceMounted: If the kernel shows it.
    """
    if not (layout.work / "work").exists():  # the kernel makes that when it mounts
        return
    from avfs_git.host.mounts.overlayfs import find_overlay, is_upper_used  # noqa: PLC0415 - of few workspaces

    mounted = find_overlay(layout.upper)
    if mounted is not None or (not in_sight and is_upper_used(layout.upper)):
        where = os.fspath(mounted.directory if mounted is not None else layout.upper)
        raise WorkspaceMounted(
            layout.fork, where, session=lock.session or "", is_ending=mounted is None, is_overlay=True
        )

"""The checkout backend: the files of a workspace copied to a plain directory, compared with it afterwards.

Decided here: what stands in the copy, and how long it does: as long as the command runs. How what the command did to it
comes into the workspace, also after a crash, is said in `workspace.restore.plaincopy`. Works anywhere; costs the whole
tree each time. The workspace lock is held all the while.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from avfs_git.backends.shield import make_readonly, shield_vault
from avfs_git.backends.shown import BackendName, Passed, make_root, prepare_git, start_runner
from avfs_git.errors import HostError
from avfs_git.host.files.durable import host_errors
from avfs_git.host.processes.runner.handle import NamespaceRefused
from avfs_git.model import Warning
from avfs_git.paths import ROOT
from avfs_git.workspace.files.transfer import export_path
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.restore.plaincopy import note_copy, remove_copy, take_in, take_in_left


class CheckoutBackend:
    """A workspace as plain files."""

    name = BackendName.CHECKOUT

    def __init__(self, locked: LockedWorkspace, root: Path, *, readonly: bool) -> None:
        """Copy it out.

        `root` is empty or not there, or what an earlier call left.

        Raises:
            Passed: If there is something else at that place, or it cannot be made read-only here.
        """
        opened = locked.opened
        self.root = root
        self._readonly = readonly
        self._opened = opened
        self._is_taken_in = False
        take_in_left(locked)  # of an earlier command of this process, if its end failed
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise Passed(f"'{root}' is not empty")
        link = prepare_git(opened, root)
        opened.is_copied_out = True
        note_copy(opened.layout, root, is_complete=False)
        try:
            make_root(root)
            # Before the copy is made, which is dear: where nothing can be mounted, none is needed.
            self.runner = start_runner(
                lambda: (*shield_vault(opened, root), *(make_readonly(opened, root) if readonly else ())),
                optional=not readonly,
                held=(opened.lock.fileno(),),
            )
            export_path(opened, ROOT, root, recursive=True, max_depth=None, overwrite=True)
            with host_errors(f"write '{root}'"):
                if link is not None:
                    (root / ".git").write_bytes(link.read_bytes())
                entry = opened.merged.attributes.getattr(opened.merged.root)
                os.chmod(root, stat.S_IMODE(entry.mode))
                os.utime(root, ns=(entry.mtime_ns, entry.mtime_ns))
            note_copy(opened.layout, root, is_complete=not readonly)
        except NamespaceRefused as refused:
            self._remove()
            raise Passed(str(refused)) from refused
        except BaseException:
            if hasattr(self, "runner"):
                self.runner.close()
            with suppress(HostError):
                self._remove()
            raise

    def collect(self, locked: LockedWorkspace) -> list[Warning]:
        """Apply what differs between the directory and the workspace."""
        if self._readonly:
            return []
        warnings, _ = take_in(locked, self.root)
        self._is_taken_in = True
        return warnings

    def close(self) -> None:
        """End what runs in it and remove the copy. A second call does nothing.

        A copy that was not collected, because that failed or the command was given up, stays with its note: it comes
        into the workspace when that is used next.
        """
        self.runner.close()
        if self._readonly or self._is_taken_in:
            self._remove()
        else:
            self._opened.is_copied_out = False
            self._opened.forget()
        self._opened.leave_git()

    def _remove(self) -> None:
        self._opened.is_copied_out = False
        remove_copy(self._opened.layout, self.root)

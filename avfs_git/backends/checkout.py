"""The checkout backend: the files of a workspace copied to a plain directory, compared with it afterwards.

Decided here: how what a command did to the copy comes into the workspace: the directory is captured as an import is, and the
difference to the workspace is applied as a restore does, with the times that files have in the directory, so that build tools
see the same order as there. Works anywhere; costs the whole tree each time.

A note in the workspace says where the copy is and whether it was complete. Whoever shows the workspace in this way next, after
a crash, first brings into it what the command had done.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from avfs_git.backends.shown import BackendName, Passed, make_root, prepare_git, start_runner
from avfs_git.errors import HostError
from avfs_git.gitstore.ignore import Ignorer
from avfs_git.gitstore.packwriter import PackWriter
from avfs_git.host.durable import host_errors, write_file_atomically
from avfs_git.host.removal import remove_tree
from avfs_git.host.runners import NamespaceRefused, readonly_mount
from avfs_git.model import Warning
from avfs_git.paths import ROOT, TreePath, join, split
from avfs_git.vfs.layers import PlainDirectory
from avfs_git.vfs.lower import LowerTree
from avfs_git.vfs.plan import plan_steps
from avfs_git.workspace.capture import Capture
from avfs_git.workspace.checkpoint import take
from avfs_git.workspace.restore import Application
from avfs_git.workspace.transfer import export_path
from avfs_git.workspace.workspace import LockedWorkspace

_COPYING, _COPIED = b"-", b"+"
"""How the note begins: whether the copy was complete, so that a difference is the command's doing."""


class CheckoutBackend:
    """A workspace as plain files."""

    name = BackendName.CHECKOUT

    def __init__(self, locked: LockedWorkspace, root: Path, *, readonly: bool) -> None:
        """Copy it out.

        Args:
            locked: The workspace.
            root: Where: a directory that is empty or not there, or what an earlier call left.
            readonly: Refuse every change.

        Raises:
            Passed: If there is something else at that place, or it cannot be made read-only here.
            HostError: If the disk refuses.
        """
        opened = locked.opened
        self.root = root
        self._readonly = readonly
        self._note = opened.layout.root / "checkout"
        self._left_out: set[bytes] = set()
        self.warnings = self._salvage(locked)
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise Passed(f"'{root}' is not empty")
        link = prepare_git(opened, root)
        self._write_note(_COPYING)
        try:
            make_root(root)
            result = export_path(opened, ROOT, root, recursive=True, max_depth=None, overwrite=True, every_link=True)
            self._left_out = {warning.path for warning in result.warnings if warning.path is not None}
            with host_errors(f"write '{root}'"):
                if link is not None:
                    (root / ".git").write_bytes(link.read_bytes())
                entry = opened.merged.getattr(opened.merged.root)
                os.chmod(root, stat.S_IMODE(entry.mode))
                os.utime(root, ns=(entry.mtime_ns, entry.mtime_ns))
            self._write_note(_COPIED if not readonly else _COPYING)
            self.runner = start_runner(lambda: (readonly_mount(root),) if readonly else (), held=(opened.lock.fileno(),))
        except NamespaceRefused as refused:
            self._clear(root)
            raise Passed(str(refused)) from refused
        except BaseException:
            with suppress(HostError):
                self._clear(root)
            raise

    def _write_note(self, word: bytes) -> None:
        with host_errors(f"write '{self._note}'"):
            write_file_atomically(self._note, word + os.fsencode(self.root), durable=False)

    def _salvage(self, locked: LockedWorkspace) -> list[Warning]:
        """Finish with the copy of a process that died: what its command has done comes into the workspace."""
        try:
            noted = self._note.read_bytes()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise HostError(f"read '{self._note}'", error) from error
        place = Path(os.fsdecode(noted[1:]))
        warnings: list[Warning] = []
        if noted[:1] == _COPIED and place.is_dir():
            warnings = self._apply(locked, place)
            warnings.append(Warning("exec.salvaged", "what a command had changed when avfs died was brought into the workspace"))
        self._clear(place)
        return warnings

    def _clear(self, place: Path) -> None:
        with host_errors(f"clear '{place}'"):
            remove_tree(place)
            self._note.unlink(missing_ok=True)

    def collect(self, locked: LockedWorkspace) -> list[Warning]:
        """Apply what differs between the directory and the workspace."""
        return [] if self._readonly else self._apply(locked, self.root)

    def _apply(self, locked: LockedWorkspace, place: Path) -> list[Warning]:
        vault = locked.vault
        pack = PackWriter(vault.store)
        try:
            before = take(locked, pack).captured
            layer = PlainDirectory(place)

            def read_ignore_file(directory: TreePath) -> bytes | None:
                try:
                    fd = layer.open_file(*split(join(directory, b".gitignore")))
                except OSError:
                    return None
                with os.fdopen(fd, "rb") as file:
                    return file.read()

            rules = Ignorer(read_ignore_file, vault.read_exclude())
            after = Capture(layer, pack, rules, index=before.tree, learn=False).run()
            pack.finish(hold=True)
            now = LowerTree(vault.store, before.tree, before.sidecar, default_mtime_ns=0)
            target = LowerTree(vault.store, after.tree, after.sidecar, default_mtime_ns=0)
            steps = [step for step in plan_steps(now, target) if step.path not in self._left_out]
            change = Application(locked, now, target)
            with locked.changing() as merged:
                change.apply(steps)
                with host_errors("write to the workspace"):
                    for step in reversed(steps):  # directories last: what comes into one changes its time
                        if step.after is not None and step.path not in change.in_the_way:
                            merged.utimens(merged.resolve(step.path, follow_last=False), mtime_ns=step.after.mtime_ns)
        finally:
            pack.discard()
        return [*after.warnings, *change.warnings]

    def close(self) -> None:
        """End what runs in it and remove the copy. A second call does nothing."""
        self.runner.close()
        self._clear(self.root)

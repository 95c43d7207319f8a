"""A copy of a workspace as plain files, in which a command runs: how what it did there comes into the workspace.

Decided here: the directory is captured as an import is, and the difference to the workspace is applied as a restore
does, with the times that files have in the directory, so that build tools see the same order as there. A note in the
workspace says where the copy is, and whether it was complete: only then a difference is the command's doing. The
directory goes in the end, so that a note counts only in the workspace in which avfs wrote it, and in the same boot: in
a copy of the vault it speaks of another one's directory, a stranger's vault may name any, and a power cut may have
taken files of the copy.

`backends.checkout` makes such copies, with the workspace lock held as long as the command runs. Whoever takes the lock
and finds the note met a crash, or a failure such as a full disk: what the command had done comes into the workspace
(`take_in_left`, called by `workspace.restore.recovery`), which says so, and the copy goes. A crash in here leaves the
note, and the next one begins anew.
"""

from __future__ import annotations

import os
from pathlib import Path

from avfs_git.errors import HostError, quote
from avfs_git.faults import reach
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.rules.ignore import Ignorer
from avfs_git.host.files.durable import host_errors, write_file_atomically
from avfs_git.host.files.plainfile import read_plain
from avfs_git.host.files.removal import remove_tree
from avfs_git.host.processes.boot import read_boot_id
from avfs_git.model import Warning
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.plan import plan_steps
from avfs_git.vfs.layer.readers import PlainDirectory
from avfs_git.workspace.capture.capture import Capture
from avfs_git.workspace.capture.placing import Standing
from avfs_git.workspace.checkpoint.compared import capture
from avfs_git.workspace.opened.workspace import LockedWorkspace
from avfs_git.workspace.restore.application import Application
from avfs_git.workspace.vault.format import WorkspaceLayout

_COPYING, _COPIED = b"-", b"+"
"""How the note begins."""


def note_copy(layout: WorkspaceLayout, place: Path, *, is_complete: bool) -> None:
    """Note where a copy is."""
    with host_errors(f"write '{layout.copy_note}'"):
        word = _COPIED if is_complete else _COPYING
        write_file_atomically(layout.copy_note, word + _say_whose(layout) + os.fsencode(place), durable=False)


def _say_whose(layout: WorkspaceLayout) -> bytes:
    return b"%s %d " % (read_boot_id().encode(), layout.lock.lstat().st_ino)


def remove_copy(layout: WorkspaceLayout, place: Path) -> None:
    """Remove a copy and its note."""
    with host_errors(f"clear '{place}'"):
        remove_tree(place)
        reach("plaincopy.removed")
        layout.copy_note.unlink(missing_ok=True)


def take_in(locked: LockedWorkspace, place: Path) -> tuple[list[Warning], bool]:
    """Apply what differs between a copy and its workspace; tell whether anything does."""
    vault = locked.vault
    with PackWriter(vault.store) as pack:
        before = capture(locked, pack)
        layer = PlainDirectory(place, is_own=True)
        standing = Standing((before.sidecar,) if before.sidecar is not None else ())
        rules = Ignorer(layer.read_ignore, vault.read_exclude())
        after = Capture(layer, pack, rules, index=before.tree, standing=standing, learn=False).run()
        pack.finish(hold=True)
        now = LowerTree(vault.store, before.tree, before.sidecar, default_mtime_ns=0)
        target = LowerTree(vault.store, after.tree, after.sidecar, default_mtime_ns=0)
        steps = plan_steps(now, target)
        change = Application(locked, now, target, gives_way=False)
        with locked.changing() as merged:
            change.apply(steps)
            with host_errors("write to the workspace"):
                for step in reversed(steps):  # directories last: what comes into one changes its time
                    if step.after is not None and step.path not in change.in_the_way:
                        merged.attributes.utimens(
                            merged.resolve(step.path, follow_last=False), mtime_ns=step.after.mtime_ns
                        )
    return [*after.warnings, *change.warnings], bool(steps)


def take_in_left(locked: LockedWorkspace) -> None:
    """Finish with the copy of a process that died, or could not take it in.

    What its command had done comes into the workspace, which tells it later.

    Raises:
        AvfsError: If the directory, the vault or the disk fails. Copy and note stay then.
    """
    layout = locked.opened.layout
    try:
        noted = read_plain(layout.copy_note)
    except FileNotFoundError:
        return
    except OSError as error:
        raise HostError(f"read '{layout.copy_note}'", error) from error
    with host_errors(f"look at '{layout.lock}'"):
        whose = _say_whose(layout)
    if not noted[1:].startswith(whose):
        shown = noted[1:].split(b" ", 2)[-1].decode("utf-8", "replace")
        locked.tell_later(f"what a command may have changed in a copy was left where it is: {quote(shown)}")
        locked.write_state()
        with host_errors(f"remove '{layout.copy_note}'"):
            layout.copy_note.unlink(missing_ok=True)
        return
    place = Path(os.fsdecode(noted[1:].removeprefix(whose)))
    with host_errors(f"look at '{place}'"):
        is_there = place.is_dir()
    if noted[:1] == _COPIED and is_there:
        warnings, is_changed = take_in(locked, place)
        if is_changed:
            text = "what a command had changed in a copy when avfs died, or failed, was brought into the workspace"
            locked.tell_later(text, *warnings)
            locked.write_state()
    remove_copy(layout, place)

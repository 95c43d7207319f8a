"""Notes of git on commits (`refs/notes/avfs`): what was run to make them, for `git log --notes=avfs`.

Decided here: how a note is added beside others who add some: one after the other under the flock on `avfs/notes.lock`, and
again when git itself moved the ref meanwhile. A note is a comfort: whoever adds one treats a failure as a warning. Each is one
commit on the ref with one pack, on disk on return. Any process may call this for any commit, also with a workspace locked.
"""

from __future__ import annotations

import fcntl
import os

from avfs_git.errors import RefConflict
from avfs_git.gitstore.commits import Commit, serialize_commit
from avfs_git.gitstore.objects import KIND_BLOB, KIND_COMMIT
from avfs_git.gitstore.packwriter import PackWriter
from avfs_git.gitstore.refs import RefChange
from avfs_git.gitstore.trees import MODE_FILE, edit_tree
from avfs_git.host.durable import host_errors
from avfs_git.paths import Oid, TreePath
from avfs_git.workspace.vault import OpenVault

NOTES = "refs/notes/avfs"
_ATTEMPTS = 5


def add_note(vault: OpenVault, commit: Oid, text: str) -> None:
    """Give a commit a note; one that it has is replaced.

    Raises:
        RefConflict, RefLocked: If somebody else keeps moving the ref.
        HostError: If the disk refuses; nothing has changed then.
    """
    vault.prepare()
    name = commit.hex().encode()
    place = TreePath(name[:2] + b"/" + name[2:])  # git reads any spread; this one keeps trees small
    with host_errors("add a note"):
        lock = os.open(vault.layout.root / "notes.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for attempt in range(_ATTEMPTS):
            held = vault.refs.read(NOTES)
            tree = vault.store.read_commit(held).tree if held is not None else None
            signature = vault.signature()
            pack = PackWriter(vault.store)
            try:
                blob = pack.add(KIND_BLOB, text.encode("utf-8", "replace"))
                noted = edit_tree(pack, pack, tree, {place: (MODE_FILE, blob)})
                assert noted is not None  # noqa: S101 - it holds a note
                parents = (held,) if held is not None else ()
                made = Commit(noted, parents, signature, signature, "Notes added by avfs\n")
                oid = pack.add(KIND_COMMIT, serialize_commit(made))
                pack.finish(hold=True)
                vault.refs.update([RefChange(NOTES, held, oid)])
            except RefConflict:
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return
            finally:
                pack.discard()
    finally:
        os.close(lock)

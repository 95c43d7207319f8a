"""Notes of git on commits (`refs/notes/avfs`): what was run to make them, for `git log --notes=avfs`.

Decided here: how processes add notes at the same time: one after the other under the flock on `avfs/notes.lock`, and
again when git itself moved the ref meanwhile. A note is a comfort: callers treat a failure as a warning. Each is one
commit on the ref, on disk on return. Any process may call this for any commit, also with a workspace locked.

`add_note` gives one to a commit that is there, with a pack of its own. A `Note` goes with the commit that it is for: in
the same pack, and the ref moves together with the branch, right after it, so that it costs one more file to sync and
not five. A death between the two leaves a commit without a note.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from avfs_git.errors import HostError, RefConflict, VaultError
from avfs_git.gitstore.formats.commits import Commit
from avfs_git.gitstore.formats.packfile import KIND_BLOB
from avfs_git.gitstore.formats.trees import MODE_FILE, MODE_TREE, edit_tree
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.gitstore.source import ObjectSource
from avfs_git.host.files.durable import host_errors
from avfs_git.host.files.modes import open_file
from avfs_git.host.locks.flocks import held
from avfs_git.model import ChangedFile
from avfs_git.paths import Oid, TreePath
from avfs_git.values import record_class
from avfs_git.workspace.vault.vault import OpenVault

NOTES = "refs/notes/avfs"
_ATTEMPTS = 5


@record_class
class Note:
    """What a commit that is about to be made gets as its note."""

    write: Callable[[ObjectSource, Oid | None, Sequence[ChangedFile]], str | None]
    """Makes the text, given the objects, the commit before, and what the commit changes; None if it is to get none."""
    is_added: bool = False
    """Whether the commit was made and has its note."""


@contextmanager
def _holding(vault: OpenVault) -> Iterator[None]:
    """Keep others from adding notes."""
    with host_errors("add a note"):
        lock = open_file(vault.layout.root / "notes.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    with held(lock):
        yield


def _put(vault: OpenVault, pack: PackWriter, commit: Oid, text: str) -> RefChange:
    """Write a note's objects; give the move of the ref that makes it one."""
    name = commit.hex().encode()
    place = TreePath(name[:2] + b"/" + name[2:])  # git reads any spread; this one keeps trees small
    held = vault.refs.read(NOTES)
    tree = vault.store.read_commit(held).tree if held is not None else None
    signature = vault.signature()
    blob = pack.add(KIND_BLOB, text.encode("utf-8", "replace"))
    noted = edit_tree(pack, pack, tree, {place: (MODE_FILE, blob)})
    assert noted is not None  # noqa: S101 - it holds a note
    parents = (held,) if held is not None else ()
    made = Commit(noted, parents, signature, signature, "Notes added by avfs\n")
    return RefChange(NOTES, held, pack.add_commit(made), lasting=True)


@contextmanager
def putting(vault: OpenVault, pack: PackWriter, commit: Oid, text: str | None) -> Iterator[list[RefChange]]:
    """Write the note of a commit into the commit's own pack, before that is finished; give the moves that go with it.

    The caller moves the ref in the block: until then, no other process adds a note. Where the notes are damaged or
    locked out there are no moves, as without a text: the commit comes first.
    """
    moves: list[RefChange] = []
    with ExitStack() as stack:
        if text is not None:
            with suppress(HostError):
                stack.enter_context(_holding(vault))
                with suppress(VaultError):
                    moves.append(_put(vault, pack, commit, text))
        yield moves


def read_note(vault: OpenVault, commit: Oid) -> str | None:
    """Read the note of a commit; None if it has none.

    How many letters of an id a directory is named by, git chooses.
    """
    held = vault.refs.read(NOTES)
    tree, name = vault.store.read_commit(held).tree if held is not None else None, commit.hex().encode()
    while tree is not None:
        entries = vault.store.read_tree(tree)
        if name in entries:
            return vault.store.read_blob(entries[name][1]).decode("utf-8", "replace")
        below, name = entries.get(name[:2]), name[2:]
        tree = below[1] if below is not None and below[0] == MODE_TREE else None
    return None


def add_note(vault: OpenVault, commit: Oid, text: str) -> None:
    """Give a commit a note, in place of the note that it has.

    Raises:
        RefConflict, RefLocked: If other processes keep moving the ref.
        HostError: If the disk refuses; nothing has changed then.
    """
    vault.prepare()
    with _holding(vault):
        for attempt in range(_ATTEMPTS):
            pack = PackWriter(vault.store)
            try:
                change = _put(vault, pack, commit, text)
                pack.finish(hold=True)
                vault.refs.update([change])
            except RefConflict:
                if attempt == _ATTEMPTS - 1:
                    raise
            else:
                return
            finally:
                pack.discard()

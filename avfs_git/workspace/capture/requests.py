"""What an operation asks of a capture and of a checkpoint, by name.

Pure values, made by every operation that saves and passed on as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from avfs_git.paths import Oid, TreePath
from avfs_git.values import field, value_class
from avfs_git.vfs.scan.steady import KnownContent

if TYPE_CHECKING:
    from avfs_git.gitstore.objects.packwriter import PackWriter
    from avfs_git.workspace.capture.captured import Captured
    from avfs_git.workspace.capture.placing import IgnoreRules
    from avfs_git.workspace.vault.gitmoves import CommandStart
    from avfs_git.workspace.vault.notes import Note


@value_class
class SidecarLimits:
    """What the sidecar may hold; what it may not is left out and named in a warning."""

    max_file_bytes: int | None = None
    exclude: IgnoreRules | None = None


@value_class
class CaptureRequest:
    """How a capture differs from one of all that changed since the last one.

    Attributes:
        known: What files were made from; those need not be read.
        remember_blobs: Tell where the content of blobs can be found that were read.
        afresh: Read all of the upper layer.
        index: The tree whose paths are tracked, where that is not the one at which the last capture was made.
        beside: A sidecar whose files are beside history, besides those of the last capture.
        added: Files that are tracked from this capture on.
        skips_unreadable: See `Capture`; not for a capture before files are replaced or removed.
        before: What an earlier look has found, whose objects are in the same sink: only what changed since then is
            read.
    """

    known: Mapping[TreePath, KnownContent] | None = None
    remember_blobs: bool = False
    afresh: bool = False
    index: Oid | None = None
    beside: Oid | None = None
    added: AbstractSet[TreePath] = frozenset()
    skips_unreadable: bool = False
    before: Captured | None = None


CHANGED = CaptureRequest()
"""Capture all that changed since the last capture."""


@value_class
class CheckpointRequest:
    """What a checkpoint is called, and which changes are its operation's.

    Attributes:
        label: A name for the checkpoint.
        message: The commit's message.
        kind: The operation in the log.
        description: Its text in the log.
        added: Files that are tracked from this checkpoint on.
        keeps_message: Commit also where nothing changed, if the head has another message.
        note: What the commit gets as a note, if one is made. It gets none while another process holds the ref of the
            notes.
        with_files: Whether the operation made the changes that it saves, as a command did: undo takes them back with
            it. Otherwise they are an operation of their own in the log.
        command: The command that made the changes: where git moved the branch in it, undo takes that back, too. Where
            nothing is left to save, tell `record_changes` the same.
        skips_unreadable: See `CaptureRequest`.
    """

    label: str | None = None
    message: str | None = None
    kind: str = "checkpoint"
    description: str | None = None
    added: AbstractSet[TreePath] = frozenset()
    keeps_message: bool = False
    note: Note | None = None
    with_files: bool = False
    command: CommandStart | None = None
    skips_unreadable: bool = False


@value_class
class Applied:
    """What an operation knows of the files that it changed itself, before it saves them.

    Attributes:
        before: The commit whose state the workspace had.
        known: What files were made from; those need not be read.
        index: Makes the tree whose paths are tracked, where that is not the one of the last capture.
        beside: A sidecar whose files are beside history, besides those of the last capture.
        captured: What the workspace holds, where that is known and its objects are stored; it is not captured then.
        parents: Further parents of the commit.
        concludes_merge: Commit also where nothing changed: the parents are what is recorded.
        more: Facts for the log.
    """

    before: str | None = None
    known: Mapping[TreePath, KnownContent] | None = None
    index: Callable[[PackWriter], Oid | None] | None = None
    beside: Oid | None = None
    captured: Captured | None = None
    parents: Sequence[Oid] = ()
    concludes_merge: bool = False
    more: Mapping[str, object] = field(default_factory=dict)


NOTHING_APPLIED = Applied()
"""Others changed the files."""

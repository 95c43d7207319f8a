"""One line of the operation log: what it says, as a value and as text.

Decided here: the format of a line's text (docs/design/format.md), the names of the facts in it, and under which keys
the index has a line. Pure functions. `workspace.vault.log.oplog` reads and writes the lines.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

from avfs_git.model import Operation, RefMove
from avfs_git.values import field, record_class, replace
from avfs_git.workspace.vault.format import HEADS
from avfs_git.workspace.vault.log.loglines import WITHDRAWN, Key, Line, open_line

UNDO, REDO = "undo", "redo"
FORK_CREATE, FORK_DELETE, FORK_RENAME = "fork_create", "fork_delete", "fork_rename"
OF_FORKS = (FORK_CREATE, FORK_DELETE, FORK_RENAME)
"""The operations on a fork as a whole."""

FILES = "files"
"""The operation that changed files and no branch: see `workspace.checkpoint.changes`."""
SINCE = "since_ns"
"""The name, in `more`, of the time when an operation began to change files, all that was there before being saved."""
SIDECAR = "sidecar_after"
"""The name, in `more`, of the sidecar commit of the state after, where the commit names another."""
SIDECAR_BEFORE = "sidecar_before"
"""Likewise of the state before."""
STATE_BEFORE = "state_before"
"""The name, in `more`, of the commit with all that a workspace held before a merge in progress began."""
BESIDE = "beside"
"""The name, in `more`, of the commit and the sidecar commit of what a fork has saved after an undo, redo or abort."""
SAVED = "saved"
"""The name, in `more`, of the commit that an undo or redo made of what was uncommitted."""
EXPIRED = "expired"
"""The name, in `more`, of whether the operation can no longer be undone, though its line is still there."""
TAKEN_BACK = "undone"
"""The name, in `more`, of whether an expired operation was undone: the line of that undo may be gone."""
EXACT = "exact"
"""The name, in `more`, of whether the commits before and after tell all: one without a sidecar has nothing beside."""
LEFT_AT = "left_at"
"""The name, in `more`, of a fork's file epoch, the commit of all its files and the boot, when undo brought it back."""
WAS_DEFAULT = "was_default"
"""The name, in `more`, of whether the vault's HEAD named the deleted fork: undo lets it name the fork again."""
BASE = "base"
"""The name, in `more`, of the commit with which the workspace of a fork begins.

The other facts of its state are beside it.
"""
BY = "by"
"""The name, in `more`, of the fork at hand when another was made, deleted or renamed: `undo` there takes that back."""
RENAMED_FROM = "fork"
"""The name, in `more`, of the earlier name of the line's fork: so the line belongs to both names, see `fork_key`."""
TRASH = "trash"
"""The name, in `more`, of where in the trash a workspace was put; one of a renamed fork only passes through."""
CAPTURED = "captured_ns"
"""The name, in `more`, of a kernel time: by then, nothing had changed that the state after does not hold."""
INTENT = "intent"
"""The name, in `more`, of the word that ties a line to what was to be done to files (`format.Pending.intent`)."""

FROM = "branch_from"
"""The name, in `more`, of where the branch was before a command in which git moved it: undo takes both moves back."""
GIT_HEAD = "git_head"
"""The name, in `more`, of git's HEAD in the live tree before and after: a ref or commit; null on the fork's branch."""
GIT_LOG = "git_log"
"""The name, in `more`, of the last line of git's branch log that an operation has in it: old, new, time in seconds."""
IN_MERGE = "in_merge"
"""The name, in `more`, of whether files changed while in conflict: that can be undone until the merge ends."""
MERGING = "merging"
"""The name, in `more`, of the merge that was given up, as the state of a workspace has it: undo puts it back there."""
OURS = "ours"
"""The name, in `more`, of the commit that the workspace held where others moved the branch: undo leaves it there."""
UNSEEN = "unseen_since"
"""The name, in `more`, of what the workspace came from, where others moved the branch before git in its tree did.

The files may lack what others brought, also after undo and redo.
"""
IN_COMMAND = "in_command"
"""The name, in `more`, of whether a checkpoint was saved during a live-tree command, whose work it holds in part."""
JOINS = "joins"
"""The name, in `more`, of the previous operation of the same command: undo takes both back, redo does both again."""
UPSTREAM = "followed"
"""The name, in `more`, of the branch of a remote that a fork was updated from before and after.

Null where there was none.
"""

_OF_UNDO = (FROM, MERGING, SAVED, SIDECAR_BEFORE, STATE_BEFORE)
"""What a line says of the state before it."""
FACTS = (BASE, SINCE, GIT_HEAD, GIT_LOG)
"""The names of facts by which lines can be found: see `OpLog.find_last_fact`."""

RefMoveRecord = tuple[str, str | None, str | None]
"""A ref with its old and its new value in hexadecimal; None where it does not exist."""


@record_class
class OpRecord:
    """One line of the log."""

    id: int
    fork: str
    kind: str
    description: str
    created_at_ns: int
    moves: list[RefMoveRecord] = field(default_factory=list)
    before: str | None = None
    """The commit whose state the workspace had, where the operation changed files."""
    after: str | None = None
    target: int | None = None
    """For undo and redo: the operation that they speak of."""
    more: dict[str, Any] = field(default_factory=dict)

    def without_moves(self, *, undone: bool = False) -> OpRecord:
        """Make a record that says of the fork what this one says, and that cannot be undone."""
        return replace(self.expired(undone=undone), moves=[])

    def expired(self, *, undone: bool = False) -> OpRecord:
        """Make the same record, marked as one that cannot be undone, without the states that only undo would need."""
        moves = [(ref, old if None in (old, new) else new, new) for ref, old, new in self.moves]
        more = {name: value for name, value in self.more.items() if name not in _OF_UNDO}
        told = {EXPIRED: True, TAKEN_BACK: True} if undone else {EXPIRED: True}
        return replace(self, moves=moves, before=None, more={**more, **told})

    def is_part_of(self, newer: OpRecord) -> bool:
        """Tell whether it happened if the next line of the log did: it moves no refs, and one call announced both."""
        announced = (newer.id, newer.fork, newer.created_at_ns)
        return not self.moves and announced == (self.id + 1, self.fork, self.created_at_ns)

    def is_lost_without(self) -> bool:
        """Tell whether something can no longer be undone when the record is gone or expired."""
        return (bool(self.moves) or self.before is not None) and EXPIRED not in self.more

    def head(self, ref: str) -> str | None:
        """Tell to which commit it moved a branch."""
        return next(new for name, _, new in self.moves if name == ref)

    def position(self, ref: str) -> str | None:
        """Tell which commit of a branch that it moved the workspace has since: not what others put there before."""
        new = self.more.get(UNSEEN, self.head(ref))
        return self.more.get(OURS, new) if self.kind == UNDO else new  # of an update: only our side again

    def whole_moves(self) -> list[RefMoveRecord]:
        """List what the operation did to refs, with what git did to the branch in it."""
        ref = HEADS + self.fork
        return [(name, self.more.get(FROM, old) if name == ref else old, new) for name, old, new in self.moves]

    def to_operation(self, *, undone: bool = False) -> Operation:
        """Make the value that callers see."""
        moves = tuple(RefMove(ref, old, new) for ref, old, new in self.whole_moves())
        return Operation(
            self.id, self.fork, self.kind, self.description, self.created_at_ns, moves, undone, self.target
        )


def format_line(record: OpRecord, mark: bytes) -> bytes:
    """Write a record as a line with a mark."""
    body = json.dumps(
        {
            "id": record.id,
            "fork": record.fork,
            "kind": record.kind,
            "text": record.description,
            "at": record.created_at_ns,
            "moves": record.moves,
            "before": record.before,
            "after": record.after,
            "target": record.target,
            "more": record.more,
        },
        separators=(",", ":"),
    ).encode()
    return b"%08x%s%s\n" % (zlib.crc32(body), mark, body)


def parse_places(found: Iterable[Line]) -> Iterator[tuple[int, OpRecord, bytes]]:
    """Parse lines with their offsets, without damaged or withdrawn ones."""
    for at, line in found:
        opened = open_line(line)
        if opened is not None and opened[0] != WITHDRAWN:
            record = parse_line(opened[1])
            if record is not None:
                yield at, record, opened[0]


def parse_lines(found: Iterable[Line]) -> Iterator[tuple[OpRecord, bytes]]:
    """Parse lines, without damaged or withdrawn ones."""
    return ((record, mark) for _, record, mark in parse_places(found))


def keys_of(body: bytes) -> list[str]:
    """Tell under which keys the index has a line: its forks, the refs that it moves, and some of its facts."""
    record = parse_line(body)
    if record is None:
        return []
    by = record.more.get(BY)
    facts = [fact_key(record.fork, fact).name for fact in FACTS if fact in record.more]
    names = names_of(record)
    ends = [end_key(name).name for name in names if is_end(name, record)]
    return [
        *names,
        *ends,
        *([by_key(by).name] if isinstance(by, str) else []),
        *(ref for ref, _, _ in record.moves),
        *facts,
    ]


def names_of(record: OpRecord) -> tuple[str, ...]:
    """List the names of the fork that an operation is on: two of a rename, the new one first."""
    old = record.more.get(RENAMED_FROM)
    return (record.fork, old) if isinstance(old, str) else (record.fork,)


def is_end(fork: str, record: OpRecord) -> bool:
    """Tell whether an operation on a fork removed its branch, or renamed it."""
    return fork in names_of(record) and any(ref == HEADS + fork and new is None for ref, _, new in record.moves)


def end_key(fork: str) -> Key:
    """Make the key of lines that remove the branch of their fork."""
    return Key(f"{fork}\0end", json.dumps(HEADS + fork).encode())


def by_key(fork: str) -> Key:
    """Make the key of lines that made or deleted another fork where a fork was at hand."""
    return Key(f"{fork}\0by", f'"{BY}":{json.dumps(fork)}'.encode())


def fork_key(fork: str) -> Key:
    """Make the key of the lines of a fork.

    A line that only names the fork, as the source of another one, does not have it.
    """
    return Key(fork, f'"fork":{json.dumps(fork)}'.encode())


def ref_key(ref: str) -> Key:
    """Make the key of lines that move a ref."""
    return Key(ref, json.dumps(ref).encode())


def fact_key(fork: str, fact: str) -> Key:
    """Make the key of lines that say a fact of a fork, one of `FACTS`."""
    return Key(f"{fork}\0{fact}", json.dumps(fact).encode())


def parse_line(body: bytes) -> OpRecord | None:
    """Read what a line says; None for a line that this program did not write, whose checksum is right all the same."""
    try:
        held = json.loads(body)
        names = ("id", "fork", "kind", "text", "at", "moves", "before", "after", "target", "more")
        id_, fork, kind, text, at_ns, moves, before, after, target, more = [held[name] for name in names]
        texts = [fork, kind, text, *(value for value in (before, after) if value is not None)]
        for ref, *values in moves:
            old, new = values
            texts += [ref, *(value for value in (old, new) if value is not None)]
            bytes.fromhex((old or "") + (new or ""))
        is_sound = all(isinstance(value, str) for value in texts) and isinstance(more, dict)
        is_sound = is_sound and type(id_) is type(at_ns) is int and (target is None or type(target) is int)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not is_sound:
        return None
    return OpRecord(
        id_, fork, kind, text, at_ns, [(ref, old, new) for ref, old, new in moves], before, after, target, more
    )

"""The life of a fork in the operation log: what was done to it, under each of the names that it has had.

Decided here: which lines of a name are those of a fork. A line has the name of its time. A rename is in the life of the
fork that has the new name; what the log says of the new name before it is of another fork, and so is what it says of
the old name after it. Pure functions over a reader of one name's lines. `workspace.vault.log.oplog` calls this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import takewhile

from avfs_git.paths import is_fork_name
from avfs_git.values import replace, value_class
from avfs_git.workspace.vault.format import HEADS, SIDECARS, label_ref
from avfs_git.workspace.vault.log.oprecord import (
    BASE,
    BY,
    FORK_CREATE,
    LEFT_AT,
    REDO,
    RENAMED_FROM,
    UNDO,
    OpRecord,
    RefMoveRecord,
)

Reader = Callable[[str], Iterable[OpRecord]]
"""Yields the operations that concern a name, newest first: those on a fork of that name, and perhaps others."""


def read_life(
    read: Reader, fork: str, *, is_gone: bool = False, before: int | None = None
) -> Iterator[tuple[OpRecord, frozenset[str]]]:
    """Yield what `read` has of a fork, newest first, each with the fork's name then, or the two of its rename.

    Another fork may have a name that this one had before, or gets later. With `is_gone`, the fork is the last to have
    had the name; it may have another name now. With `before`, only what came before that operation counts.
    """
    return ((record, names) for record, names in _walk(read, fork, is_gone=is_gone, before=before) if names)


def read_since_made(records: Iterable[OpRecord]) -> Iterator[OpRecord]:
    """Yield the operations of a fork, newest first, without those of others that had its name before or meanwhile."""
    below: int | None = None
    brought_back: set[int | None] = set()
    for record in records:
        if below is not None and record.id > below:
            continue
        is_gone = any(ref == HEADS + record.fork and new is None for ref, _, new in record.moves)
        if record.kind == FORK_CREATE or (is_gone and not brought_back & {record.id, record.target}):
            return
        if _brings_back(record):
            brought_back.add(record.target)
            below = record.target if _is_of_fork(record) else below
        yield record


def _brings_back(record: OpRecord) -> bool:
    """Tell whether an undo or redo has made a fork's branch again."""
    return record.kind in (UNDO, REDO) and any(
        ref == HEADS + record.fork and old is None for ref, old, _ in record.moves
    )


def _is_of_fork(record: OpRecord) -> bool:
    """Tell of an undo or redo that brings a branch back whether it takes back a deletion, or the undo of the making.

    What the log says of the name in between is of other forks. Else it is of the first checkpoint, or of a rename.
    """
    return RENAMED_FROM not in record.more and (LEFT_AT in record.more or BASE in record.more)


def find_given_back(read: Reader, fork: str) -> int | None:
    """Find since which operation a name that is gone was only that of forks which undo has renamed back.

    Undo takes back what they did under their own names. Return None if the last fork of that name was another.
    """
    since: int | None = None
    while True:
        earlier = (each for each in read(fork) if since is None or each.id < since)
        left = next(earlier, None)
        if left is None or left.kind != UNDO or left.more.get(RENAMED_FROM) != fork:
            return since
        came = next((each for each in earlier if each.fork == fork and RENAMED_FROM in each.more), None)
        if came is None:
            return since
        since = came.id


def _walk(
    read: Reader, fork: str, *, is_gone: bool, before: int | None = None
) -> Iterator[tuple[OpRecord, frozenset[str]]]:
    """Yield what `read_life` does; without names, at the end, the rename by which another fork gave up the name."""
    name: str | None = fork
    below, may_be_away = before, is_gone
    while name is not None:
        at, name = name, None
        for record in read(at):
            if below is not None and record.id >= below:
                continue
            is_away = RENAMED_FROM in record.more and record.more[RENAMED_FROM] == at and record.fork != at
            if is_away and not may_be_away:
                yield record, frozenset()
                return
            may_be_away = False
            if RENAMED_FROM in record.more and record.fork == at:
                name, below = str(record.more[RENAMED_FROM]), record.id
            yield record, frozenset({at} if name is None else {at, name})
            if name is not None:
                break
            if record.fork == at and record.target is not None and _brings_back(record) and _is_of_fork(record):
                below = record.target + 1


@value_class
class Span:
    """A part of the life of a fork in which it had one name: between operations, and between times."""

    name: str
    first: int
    last: int | None
    """The rename that ended it; None of the present name."""
    since_ns: int
    until_ns: int | None

    def has(self, fork: str | None, at_ns: int, operation: int | None) -> bool:
        """Tell whether an event of a fork of some name is of this one: by the operation's number, else by its time."""
        if operation is not None:
            is_within = self.first <= operation and (self.last is None or operation <= self.last)
            return is_within and (fork == self.name or operation == self.last)
        return fork == self.name and self.since_ns <= at_ns and (self.until_ns is None or at_ns <= self.until_ns)


def read_spans(read: Reader, fork: str, *, is_gone: bool) -> tuple[Span, ...]:
    """List the parts of a fork's life, the newest first. `is_gone` as in `read_life`."""
    spans: list[Span] = []
    name, first, since_ns = fork, 0, 0
    last, until_ns = None, None
    for record, names in _walk(read, fork, is_gone=is_gone):
        if RENAMED_FROM not in record.more:
            continue
        if not names:
            first, since_ns = record.id + 1, record.created_at_ns
            continue
        if record.fork == name:
            spans.append(Span(name, record.id, last, record.created_at_ns, until_ns))
            name = str(record.more[RENAMED_FROM])
        last, until_ns = record.id, record.created_at_ns
    return (*spans, Span(name, first, last, since_ns, until_ns))


def under_name(record: OpRecord, names: frozenset[str], fork: str | None) -> OpRecord:
    """Make the record of an operation on a fork, or with it at hand, that says so of the name which the fork has today.

    `names` is what `read_life` gives with it: under any other name the record speaks of another fork. A rename keeps
    both names.
    """
    if fork is None:
        return record
    by = record.more.get(BY)
    if by in names and by != fork:
        record = replace(record, more={**record.more, BY: fork})
    if record.fork == fork or record.fork not in names or RENAMED_FROM in record.more:
        return record
    moves: list[RefMoveRecord] = [(_rename_ref(ref, record.fork, fork), old, new) for ref, old, new in record.moves]
    return replace(record, fork=fork, moves=moves)


def _rename_ref(ref: str, name: str, fork: str) -> str:
    labels = label_ref(name, "")
    if ref.startswith(labels):  # what follows is the label as a ref has it
        return label_ref(fork, "") + ref.removeprefix(labels)
    return {HEADS + name: HEADS + fork, SIDECARS + name: SIDECARS + fork}.get(ref, ref)


def find_last_move(read: Reader, fork: str) -> OpRecord | None:
    """Find the last operation that moved the branch of a fork."""
    return next((each for each in read(fork) if any(ref == HEADS + fork for ref, _, _ in each.moves)), None)


def find_new_name(read: Reader, fork: str, is_taken: Callable[[str], bool]) -> str | None:
    """Find what a fork is called now that had a name; None if it was not renamed, or is gone."""
    name, passed = fork, set[str]()
    while name not in passed and not is_taken(name):
        passed.add(name)
        record = find_last_move(read, name)
        if record is None or record.more.get(RENAMED_FROM) != name or not is_fork_name(record.fork):
            return None
        name = record.fork
    return name if name not in passed and name != fork else None


def find_name_today(read: Reader, name: str, since: int) -> str:
    """Name a fork as it is called today that had a name after an operation."""
    while True:
        later = takewhile(lambda each, since=since: each.id > since, read(name))  # type: ignore[misc]  # a default binds the value
        first = next(
            (each for each in reversed(list(later)) if RENAMED_FROM in each.more or each.kind == FORK_CREATE), None
        )
        if first is None or first.fork == name:
            return name
        name, since = first.fork, first.id

"""Where the state of a workspace comes from, and making workspaces on disk.

Decided here: that the workspace of a fork is made when it is first opened, what is believed where its state file is
missing or damaged (the log, then its branch), and what is forced to disk. It is made under the lock of the fork's name,
which is taken here, or by the holder of the workspace lock. A crash leaves a workspace that is made again, or a state
that is empty.

A commit of git's says nothing of ignored files and attributes. What a fork that is made at it begins with is found here
(`find_beside`); `sidecars.kept` finds what a fork has.

The workspace of a fork that was renamed is brought to its place when the fork is first opened, if the process that
renamed it died in between (`complete_rename`). `workspace.forks.rename` renames forks.
"""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import ForkNotFound, HostError, WorkspaceDamaged
from avfs_git.faults import reach
from avfs_git.gitstore.compare.treediff import find_differences
from avfs_git.gitstore.config.gitconfig import rename_branch_section
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_FILE, MODE_TREE, find_entry
from avfs_git.gitstore.objects.owncommits import find_named
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.host.files.durable import fsync_dir, host_errors, make_dirs_durably
from avfs_git.host.files.modes import make_dir
from avfs_git.host.locks.locks import LOCK_TIMEOUT_S, REFUSED_WRITING, LockFile
from avfs_git.host.processes.boot import read_boot_id
from avfs_git.paths import ROOT, Oid, TreePath, is_fork_name, list_above, oid_of, split
from avfs_git.patterns import compiled
from avfs_git.values import NamedTuple
from avfs_git.vfs.layer.sidecar import Meta, Record, edit_sidecar, find_attributes, format_record, parse_record
from avfs_git.workspace.vault.format import HEADS, WorkspaceLayout, WorkspaceState
from avfs_git.workspace.vault.gitmoves import bring_git_dir_back, open_worktree, put_git_dir_away
from avfs_git.workspace.vault.log import lives
from avfs_git.workspace.vault.log.oprecord import RENAMED_FROM, TRASH, OpRecord
from avfs_git.workspace.vault.states import add_sidecar
from avfs_git.workspace.vault.vault import OpenVault, busy

_FILES = (MODE_FILE, MODE_EXEC)
_COMMITS_ABOVE = 200
"""So many commits of git's on a checkpoint are passed on the way to it: reading them takes some 5 ms."""
_IN_TRASH = compiled(r"[0-9]+-[^/]+")

UNKNOWN_BOOT = ""
"""Stands for the boot in which an upper layer was last written to, where its state did not survive."""


def load_state(vault: OpenVault, layout: WorkspaceLayout, *, has_lock: bool = False) -> WorkspaceState:
    """Read a workspace's state, or make the workspace of a fork that has none yet.

    Only its state if nothing may be written.

    With `has_lock`, no fork of that name ends meanwhile.

    Raises:
        HostError: If the disk refuses, other than because nothing may be written there.
    """
    state = _read_state(layout)[0]
    if state is not None:
        return state
    if not vault.has_fork(layout.fork):
        raise ForkNotFound(layout.fork, vault=vault.name, renamed_to=vault.find_new_name(layout.fork))
    if has_lock:
        return _make_again(vault, layout)
    try:
        with vault.forks_locked(layout.fork, *_former_names(vault, layout.fork)):
            return _make_again(vault, layout)
    except HostError as error:
        if error.errno not in REFUSED_WRITING:
            raise
        return _state_of(vault, layout.fork)[0]


def _read_state(layout: WorkspaceLayout) -> tuple[WorkspaceState | None, bool]:
    """Read the state, if it can be read; tell whether it is damaged while the upper layer may hold something."""
    try:
        return layout.read_state(), False
    except WorkspaceDamaged:  # a power cut left a fresh workspace half written: it holds nothing yet
        return None, layout.upper.is_dir()


def _make_again(vault: OpenVault, layout: WorkspaceLayout) -> WorkspaceState:
    """Make a workspace, or its state.

    Looks again at both: another process may have made it, or ended the fork, meanwhile.
    """
    fork = layout.fork
    state, is_damaged = _read_state(layout)
    if state is not None:
        return state
    if not vault.has_fork(fork):
        raise ForkNotFound(fork, vault=vault.name)
    if not layout.root.is_dir() and complete_rename(vault, fork):
        state, is_damaged = _read_state(layout)
        if state is not None:
            return state
    state, is_recorded = _state_of(vault, fork)
    if layout.upper.is_dir():
        state.boot = UNKNOWN_BOOT
    if is_damaged:
        state.recovered = ["its state file was damaged and was made again from the log"]
    try:
        if not is_recorded and state.sidecar is not None and vault.read_sidecar_ref(fork) is None:
            # What a commit's header names, git does not keep: the workspace needs it from now on.
            vault.prepare()
            vault.refs.update(vault.hold(oid_of(state.sidecar)))
        create_workspace(vault, layout, state, durable=is_damaged or not is_recorded)
    except HostError as error:
        if error.errno not in REFUSED_WRITING:
            raise
    return state


def _state_of(vault: OpenVault, fork: str) -> tuple[WorkspaceState, bool]:
    """Make the state of a workspace that has none, and tell whether the log has it.

    Without a record it is that of a branch of git's, whose upper layer holds every change since: it never was folded.
    """
    state = recall_state(vault, fork)
    return (state, True) if state is not None else (fresh_state(vault, fork, vault.read_head(fork)), False)


def peek_state(vault: OpenVault, fork: str) -> WorkspaceState | None:
    """Read the state of a workspace, or what the log says of it, and change nothing.

    Return None for a branch that was never opened.
    """
    state = read_own_state(vault, fork)
    return state if state is not None else recall_state(vault, fork)


def read_own_state(vault: OpenVault, fork: str) -> WorkspaceState | None:
    """Read the state of a workspace; None if it cannot be read: opening the workspace makes it again, and says so."""
    return _read_state(vault.layout.workspace(fork))[0]


class Beside(NamedTuple):
    """What is beside a commit that perhaps git made: what the nearest checkpoint from it on has."""

    commit: Oid
    """The checkpoint."""
    sidecar: Oid | None


def find_beside(vault: OpenVault, at: Oid) -> Beside | None:
    """Find what a fork made at a commit begins with; None if no checkpoint says that, or what it names is not here."""
    naming = find_naming(vault, at)
    sidecar = vault.store.read_commit(naming).sidecar if naming is not None else None
    return Beside(naming, sidecar) if naming is not None and sidecar is not None else None


def find_naming(vault: OpenVault, oid: Oid, *, until: Oid | None = None, limit: int = _COMMITS_ABOVE) -> Oid | None:
    """Find the nearest commit that names a sidecar, of a commit and its first parents; `until`, if that comes first.

    That is the checkpoint that commits of git's stand on. Where that sidecar is not here, or does not count for the
    commit, what is below says nothing of it. Costs a read of each commit on the way, of at most `limit`.
    """
    store = vault.store
    for _ in range(limit):
        if oid == until:
            return oid
        if not store.exists(oid):
            return None
        commit = store.read_commit(oid)
        if commit.sidecar is not None or find_named(store.read, oid) is not None:
            return oid
        if not commit.parents:
            return None
        oid = commit.parents[0]
    return None


def settle_times(vault: OpenVault, fork: str, beside: Beside | None, at: Oid) -> Oid | None:
    """Give a fork at a commit what is beside it, with the present time for files that git has changed since.

    The recorded one is of what they were: older than what was built from that, which `make` would take for built from
    what they are now. Returns the sidecar commit; a ref keeps a new one. Costs what differs.

    Raises:
        HostError: If the disk refuses.
    """
    if beside is None or beside.sidecar is None or beside.commit == at:
        return beside.sidecar if beside is not None else None
    source, was = vault.store, vault.store.read_commit(beside.sidecar).tree
    before, after = (source.read_commit(oid).tree for oid in (beside.commit, at))
    edits: dict[TreePath, dict[bytes, Record | None]] = {}
    changed = find_differences(source, before, after)
    for path, (old, new) in changed.items():
        if new is not None and new[0] in _FILES:
            directory, name = split(path)
            said = find_attributes(source, was, directory, (name,)).get(name)
            meta = parse_record(said, was) if said is not None and old is not None and old[0] in _FILES else Meta()
            edits.setdefault(directory, {})[name] = format_record(meta._replace(mtime_ns=vault.clock_ns()))
    for path in list_above(path for path, (_, new) in changed.items() if new is not None) - {ROOT}:
        held = find_entry(source, before, path)
        if held is None or held[0] != MODE_TREE:  # a record would be of a file that had the name
            directory, name = split(path)
            edits.setdefault(directory, {})[name] = None
    if not edits:
        return beside.sidecar
    with PackWriter(source) as pack:
        tree = edit_sidecar(pack, was, edits)
        made = add_sidecar(pack, fork, vault.signature(), tree or pack.add_tree({}), beside.sidecar)
        pack.finish(hold=True)
        vault.refs.update(vault.hold(made))
    return made


def _begin_beside(vault: OpenVault, fork: str, head: Oid) -> Oid | None:
    beside = find_beside(vault, head)
    try:
        return settle_times(vault, fork, beside, head)
    except HostError as error:
        if error.errno not in REFUSED_WRITING:
            raise
        return beside.sidecar if beside is not None else None


def fresh_state(vault: OpenVault, fork: str, head: Oid | None) -> WorkspaceState:
    """Make the state of a workspace on a branch that has none."""
    commit = vault.store.read_commit(head) if head is not None else None
    sidecar = commit.sidecar if commit is not None else None
    if sidecar is None:  # a commit of git's names none: what `fork` was about to record when it died stands in the ref
        sidecar = vault.read_sidecar_ref(fork) or (_begin_beside(vault, fork, head) if head is not None else None)
    return WorkspaceState(
        fork=fork,
        base=head.hex() if head is not None else None,
        sidecar=sidecar.hex() if sidecar is not None else None,
        created_at_ns=vault.clock_ns(),
        boot=read_boot_id(),
    )


def recall_state(vault: OpenVault, fork: str) -> WorkspaceState | None:
    """Make the state of a workspace from what the log says of it; None if the log says nothing."""
    return recall_states(vault, {fork}).get(fork)


def recall_states(vault: OpenVault, forks: AbstractSet[str]) -> dict[str, WorkspaceState]:
    """Make the states of workspaces from what the log says of them, in one reading.

    Without those of which it says nothing.
    """
    return {
        fork: WorkspaceState(
            fork=fork,
            base=record.more.get("base"),
            sidecar=record.more.get("sidecar"),
            parent=record.more.get("parent"),
            upstream=record.more.get("upstream"),
            forked_at=record.more.get("forked_at"),
            ephemeral=bool(record.more.get("ephemeral")),
            author=record.more.get("author"),
            created_at_ns=record.created_at_ns,
            # Where nothing was recorded since, a power cut can have taken nothing that was acknowledged.
            boot=None if is_changed else read_boot_id(),
        )
        for fork, (record, is_changed) in vault.oplog.find_bases(forks).items()
    }


def facts_of(state: WorkspaceState) -> dict[str, object]:
    """Tell what the log is to say of a workspace, so that its state can be made again from there."""
    return {
        key: getattr(state, key)
        for key in ("base", "sidecar", "parent", "upstream", "forked_at", "ephemeral", "author")
    }


def create_workspace(vault: OpenVault, layout: WorkspaceLayout, state: WorkspaceState, *, durable: bool = True) -> None:
    """Make a workspace on disk.

    Not `durable` where the log has what its state says, and it is made again from there.
    """
    vault.prepare()
    if durable and state.base is not None:
        vault.refs.update(vault.follow(state.fork, oid_of(state.base)))
    with host_errors(f"make the workspace of '{state.fork}'"):
        if durable or not layout.root.parent.is_dir():
            make_dirs_durably(layout.root)
        else:
            with suppress(FileExistsError):
                make_dir(layout.root)
    layout.write_state(state, durable=durable)


# --- forks that were renamed -------------------------------------------------------------------------------------

LOG_ASIDE = "gitlog"
"""Where in the workspace of a fork that is being renamed git's log of its branch is."""


def find_rename(vault: OpenVault, fork: str) -> OpRecord | None:
    """Find the operation that gave a fork its name.

    Return None if its branch has moved since, or if it was made under that name.
    """
    record = _find_last_move(vault, fork)
    if record is None or record.fork != fork:
        return None
    old, held = record.more.get(RENAMED_FROM), record.more.get(TRASH)
    # A log that a stranger wrote could lead anywhere.
    is_sound = (
        isinstance(old, str) and is_fork_name(old) and isinstance(held, str) and _IN_TRASH.fullmatch(held) is not None
    )
    return record if is_sound else None


def _find_last_move(vault: OpenVault, fork: str) -> OpRecord | None:
    return lives.find_last_move(vault.oplog.read_fork, fork)


def _former_names(vault: OpenVault, fork: str) -> tuple[str, ...]:
    record = find_rename(vault, fork)
    return () if record is None else (record.more[RENAMED_FROM],)


def complete_rename(vault: OpenVault, fork: str) -> bool:
    """Complete the rename that gave a fork its name, if the process that did it has died; tell whether that was so.

    Called with the new and the old name locked, and without a workspace at the new one.

    Raises:
        WorkspaceBusy, RefConflict: If a process works in the fork under the old name.
        HostError: If the disk refuses. The next call goes on.
    """
    record = find_rename(vault, fork)
    if record is None:
        return False
    held = vault.layout.trash / record.more[TRASH]
    if not held.is_dir() and not _put_on_its_way(vault, record, held):
        return False
    place_renamed(vault, record)
    return True


def _put_on_its_way(vault: OpenVault, record: OpRecord, held: Path) -> bool:
    """Move the refs that a rename left, and the workspace away from the old name; tell whether it is under way."""
    old = record.more[RENAMED_FROM]
    layout = vault.layout.workspace(old)
    newest = _find_last_move(vault, old)
    if newest is None or newest.id != record.id or not layout.root.is_dir():
        return False  # another fork has that name by now
    with host_errors(f"lock the workspace of '{old}'"):
        lock = LockFile(layout.lock, owner="avfs")
    with lock:
        if not lock.acquire(LOCK_TIMEOUT_S):
            raise busy(old, lock)
        try:
            gone = [
                RefChange(ref, oid_of(was), None) for ref, was, new in record.moves if new is None and was is not None
            ]
            head = vault.read_head(old)
            if head is not None and not any(change.name == HEADS + old and change.old == head for change in gone):
                return False  # work went on under the old name: these are two forks
            left = [change for change in gone if vault.refs.read(change.name) == change.old]
            vault.refs.update([*vault.follow(old, None), *left])
            lock.retire()
            reach("rename.completing")
            put_git_dir_away(vault, old)
            with host_errors(f"rename fork '{old}'"):
                make_dirs_durably(held.parent, parents=False)
                os.rename(layout.root, held)
                fsync_dir(held.parent)
                fsync_dir(layout.root.parent)
        finally:
            lock.release()
    return True


def find_way_out(vault: OpenVault, fork: str) -> str | None:
    """Find the name in the trash under which a renamed fork's workspace belongs, if it is still at its old place."""
    record = _find_last_move(vault, fork)
    if record is None or record.fork == fork or not is_fork_name(record.fork):
        return None
    renamed = find_rename(vault, record.fork)
    if renamed is None or renamed.id != record.id:
        return None  # its branch has moved since: it has a workspace
    held = str(record.more[TRASH])
    return None if (vault.layout.trash / held).exists() else held


def place_renamed(vault: OpenVault, record: OpRecord) -> None:
    """Bring a workspace from the trash, where the rename of its fork has put it, to the place of the new name.

    Called with both names locked, after the refs have moved. The last step brings it there: until then the next call
    goes on. It gets a new lock: a process that has it open under the old name finds that fork gone.
    """
    fork, old = record.fork, record.more[RENAMED_FROM]
    held = vault.layout.trash / record.more[TRASH]
    root = vault.layout.workspace(fork).root
    passing = WorkspaceLayout(held, fork)
    with suppress(WorkspaceDamaged):
        state = passing.read_state()
        if state is not None and state.fork != fork:
            state.fork, state.upstream = fork, record.more.get("upstream")
            passing.write_state(state)
    reach("rename.state_written")
    with suppress(OSError):  # git goes on without its log
        log = vault.git_dir / "logs" / (HEADS + fork)
        if (held / LOG_ASIDE).exists():
            for above in reversed(log.relative_to(vault.git_dir).parents):
                make_dir(vault.git_dir / above, exist_ok=True)
            os.rename(held / LOG_ASIDE, log)
    rename_branch_section(vault.git_dir, old, fork)
    reach("rename.settings_moved")
    bring_git_dir_back(vault, fork, held)
    open_worktree(vault, fork).follow_rename(HEADS + fork)
    if vault.refs.head() == HEADS + old and vault.read_head(old) is None:
        vault.refs.set_head(HEADS + fork)
    reach("rename.head_moved")
    with host_errors(f"rename fork '{old}'"):
        passing.lock.unlink(missing_ok=True)
        with suppress(OSError), LockFile(passing.lock, owner="avfs") as lock:
            lock.begin_change()  # the first capture marks it clean: at 0, the counters may have been lost
            lock.end_change()
        os.rename(held, root)
        reach("rename.placed")
        fsync_dir(root.parent)
        fsync_dir(held.parent)

"""Where each line of a file came from: git's blame, joined with what avfs knows of the commits.

Decided here: which facts are joined. The command stands in the commit's note, the session of a coding agent in its
message, and the fork in the operation log, of which the newest operations are searched: a commit that no operation
made, as each from before the first fork, has none. Reads only.
"""

from __future__ import annotations

from collections.abc import Iterable

from avfs_git.errors import PathUnsuitable
from avfs_git.gitstore.compare.blame import blame_file
from avfs_git.gitstore.formats.trees import MODE_EXEC, MODE_FILE, MODE_TREE
from avfs_git.gitstore.repository import is_partial
from avfs_git.model import Blame, BlameCommit, BlameLine, Identity
from avfs_git.paths import Oid, TreePath, components
from avfs_git.workspace.checkpoint.bookkeeping import find_session
from avfs_git.workspace.history.history import refuse_path
from avfs_git.workspace.merge.merge import MERGED
from avfs_git.workspace.vault.format import HEADS
from avfs_git.workspace.vault.gitmoves import brings_commit
from avfs_git.workspace.vault.log.oprecord import OF_FORKS, REDO, UNDO, OpRecord
from avfs_git.workspace.vault.notes import read_note
from avfs_git.workspace.vault.vault import OpenVault

_OPERATIONS_SEARCHED = 10_000
_COMMAND = "Command: "


def blame(vault: OpenVault, commit: Oid, path: TreePath) -> Blame:
    """Tell of each line of a file in a state where it came from.

    Raises:
        PathNotFound: If nothing is at the path in that state.
        PathUnsuitable: If it is no file there, or beside history.
        GitFailed: If git cannot read what it needs, such as the old contents of a partial clone.
    """
    _check_file(vault, commit, path)
    found = blame_file(vault.git_dir, commit, path)
    commits = describe_commits(vault, dict.fromkeys(line.commit for line in found))
    lines = tuple(
        BlameLine(number, line.commit.hex(), line.path, line.old_number, line.text)
        for number, line in enumerate(found, 1)
    )
    return Blame(path, commit.hex(), commits, lines)


def describe_commits(vault: OpenVault, oids: Iterable[Oid]) -> tuple[BlameCommit, ...]:
    """Describe some commits: their authors and times, and the commands, sessions and forks that they were made in."""
    order = list(oids)
    forks = _find_forks(vault, set(order))
    return tuple(_describe(vault, oid, forks.get(oid)) for oid in order)


def _check_file(vault: OpenVault, commit: Oid, path: TreePath) -> None:
    entry = (MODE_TREE, vault.store.read_commit(commit).tree)
    for name in components(path):
        below = vault.store.read_tree(entry[1]).get(name) if entry[0] == MODE_TREE else None
        if below is None:
            raise refuse_path(vault, commit, path, commit.hex()[:12])
        entry = below
    if entry[0] not in (MODE_FILE, MODE_EXEC):
        raise PathUnsuitable(b"/" + path, "is no file")
    if is_partial(vault.git_dir):
        vault.store.read(entry[1])  # brings it; git itself brings nothing


def _describe(vault: OpenVault, oid: Oid, fork: str | None) -> BlameCommit:
    commit = vault.store.read_commit(oid)
    note = read_note(vault, oid) or ""
    command = next((line[len(_COMMAND) :] for line in note.splitlines() if line.startswith(_COMMAND)), None)
    author = Identity(commit.author.name, commit.author.email)
    subject = commit.message.partition("\n")[0]
    when_ns = commit.author.when_s * 1_000_000_000
    return BlameCommit(oid.hex(), author, when_ns, subject, command, find_session(commit.message), fork)


def _find_forks(vault: OpenVault, wanted: set[Oid]) -> dict[Oid, str]:
    """Find in which fork each of some commits was made; the oldest operation that made it there counts."""
    names, found = {oid.hex(): oid for oid in wanted}, dict[Oid, str]()
    for record in vault.oplog.read_naming(wanted, _OPERATIONS_SEARCHED):
        for new in _list_made(record):
            if new in names:
                found[names[new]] = record.fork
    return found


def _list_made(record: OpRecord) -> set[str | None]:
    """List the commits that an operation made, not those to which it moved the fork or which it labelled."""
    if record.kind in (*OF_FORKS, UNDO, REDO):
        return set()
    made = {
        record.after,
        *(new for ref, _, new in record.moves if ref == HEADS + record.fork and brings_commit(record)),
    }
    return made - {record.more.get(MERGED)}

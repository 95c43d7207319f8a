"""A vault that is open: its objects, its refs, its log and its settings in one hand.

Decided here: what opening a repository as a vault checks and brings along, and which refs avfs keeps for a
fork. Every function of `workspace` takes an `OpenVault`. It holds no lock; it may be shared by threads.
Opening writes nothing: `prepare` makes avfs's directory when something is first changed.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.errors import (
    AvfsError,
    BranchCheckedOut,
    ForkIsAlias,
    HostError,
    LeftInForce,
    NoForkChosen,
    NoForks,
    NotAVault,
    NotWritable,
    RefDamaged,
    VaultGone,
    WorkspaceBusy,
    quote,
)
from avfs_git.gitstore.config.trust import check_owner
from avfs_git.gitstore.formats.commits import Commit, Signature
from avfs_git.gitstore.merge.bases import is_ancestor
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.refs.refs import OWN_REFS, RefChange, RefStore
from avfs_git.gitstore.repofile import read_plain_file
from avfs_git.gitstore.repository import check_repository, ensure_config, is_partial, read_shallow
from avfs_git.gitstore.rules.ignore import IGNORE_FILE_READ
from avfs_git.gitstore.worktree import Worktree, find_checked_out
from avfs_git.host.files.durable import host_errors
from avfs_git.host.locks.locks import LOCK_TIMEOUT_S, REFUSED_WRITING, LockFile
from avfs_git.host.locks.namelocks import NameLocks
from avfs_git.model import Checkpoint, Identity
from avfs_git.paths import Oid, check_fork_name, fork_dir_name, label_of_ref_name
from avfs_git.workspace.vault.config import Config
from avfs_git.workspace.vault.format import HEADS, KEPT, KNOWN, LABELS, SIDECARS, VaultLayout
from avfs_git.workspace.vault.log.announced import Announced
from avfs_git.workspace.vault.log.audit import AuditLog
from avfs_git.workspace.vault.log.lives import find_new_name
from avfs_git.workspace.vault.log.oplog import OpLog
from avfs_git.workspace.vault.log.oprecord import FORK_DELETE, RENAMED_FROM, UNDO, OpRecord

if TYPE_CHECKING:
    from avfs_git.vfs.layer.blobcache import BlobCache
    from avfs_git.workspace.vault.madeindexes import MadeIndexes

NOBODY = Identity("avfs", "avfs@localhost")
Caller = Identity | Callable[[Path], Identity]
"""The author of commits, or a function that finds it for a vault."""


def busy(fork: str, lock: LockFile) -> WorkspaceBusy:
    """Make the error that another process keeps a workspace's lock."""
    held = lock.holder()
    described, pid = (held.describe(), held.pid) if held is not None else (None, None)
    return WorkspaceBusy(fork, described, pid=pid, is_callers=lock.is_callers)


def name_switch(fork: str) -> str:
    """Name the commands to put HEAD on a fork's branch.

    Git does not switch if uncommitted files differ from HEAD's, or stand where the branch has a file: so it is after a
    checkpoint, also if the files are the branch's by then.
    """
    there = shlex.quote(fork)
    return (
        f"`git switch {there}` (or, if git refuses that, `git symbolic-ref HEAD refs/heads/{there} && git reset`, "
        "which leaves the files as they are)"
    )


class OpenVault:
    """One vault, open."""

    def __init__(
        self,
        git_dir: Path,
        *,
        name: str | None = None,
        identity: Caller | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        remote_environment: Mapping[str, str] | None = None,
        is_trusted: bool = False,
        is_foreign: bool = False,
    ) -> None:
        """Open a bare repository as a vault.

        `identity` is the author of commits, unless the vault's settings name one; a function is called with `git_dir`
        at the first commit. `remote_environment` is where remotes find credentials, ssh and proxies. `is_trusted` says
        that its owner was checked already. `is_foreign` says that nothing in it may run a program: its user has not
        made it, nor trusts it.

        Raises:
            VaultUntrusted: If it belongs to another user than the one of this process.
            NotAVault: If it is no repository that avfs can serve.
            FormatUnsupported: If it, or avfs's state in it, has an unknown format.
        """
        if not is_trusted:
            check_owner(git_dir)
        check_repository(git_dir)
        self.git_dir = git_dir
        self._git_dir_name, self._place = os.fspath(git_dir), os.stat(git_dir)  # each call looks (`check_there`)
        self.name = name or str(git_dir)
        self.layout = VaultLayout(git_dir)
        self.layout.read_format()
        self.refs = RefStore(git_dir, find_missing=self._find_missing)
        self.audit = AuditLog(self.layout.oplog.parent)
        self.file_audit = AuditLog(self.layout.oplog.parent, "audit-files")
        self.oplog = OpLog(self.layout.oplog, self.refs.read, audit=self.audit)
        self.config = Config(self.layout.config)
        self.clock_ns = clock_ns
        self.remote_environment = remote_environment
        self._identity = identity
        self.is_foreign = is_foreign
        self._store: ObjectStore | None = None
        self._lock = threading.Lock()
        self._fork_locks = NameLocks(self.layout.fork_locks)

    def check_there(self) -> None:
        """Make sure that the vault is still where it was opened: what is read or written there would be of no vault.

        Raises:
            VaultGone: If it was deleted or moved, or another one is in its place.
        """
        try:
            now, then = os.stat(self._git_dir_name), self._place
        except PermissionError:
            return
        except (FileNotFoundError, NotADirectoryError):
            now = None
        if now is None or now.st_ino != then.st_ino or now.st_dev != then.st_dev:
            raise VaultGone(self.name, os.fspath(self.git_dir))

    @property
    def store(self) -> ObjectStore:
        """The objects; opened when first asked for, because loading libgit2 takes time."""
        if self._store is None:
            with self._lock:
                if self._store is None:
                    self._store = self._make_store()
        return self._store

    def _find_missing(self, oids: Sequence[Oid]) -> Oid | None:
        self.store.packs.refresh()  # a pack that git has removed can be read while it is open
        return next((oid for oid in oids if not self.store.exists(oid)), None)

    def _make_store(self) -> ObjectStore:
        store = self._open_store()
        if self.is_foreign:
            from avfs_git.vfs.layer.foreign import make_judge  # noqa: PLC0415 - few vaults are

            store.judge = make_judge(self.git_dir, store)
        return store

    def _open_store(self) -> ObjectStore:
        if not is_partial(self.git_dir):
            return ObjectStore(self.git_dir)
        from avfs_git.gitstore.remote.partial import PartialObjectStore  # noqa: PLC0415 - few vaults are
        from avfs_git.gitstore.remote.runner import Access  # noqa: PLC0415 - as above
        from avfs_git.gitstore.remote.transport import fetch_missing  # noqa: PLC0415 - as above

        def fetch(oids: Sequence[Oid]) -> None:
            fetch_missing(self.git_dir, Access(self.remote_environment), oids)

        return PartialObjectStore(self.git_dir, fetch)

    def fork_config(self, fork: str) -> Config:
        """Name the settings of a fork."""
        return Config(self.layout.workspace(fork).config, vault=self.config)

    @property
    def blob_cache(self) -> BlobCache:
        """Where big files are kept in plain, for reading pieces of them; shared by all servers of the vault."""
        from avfs_git.vfs.layer.blobcache import BlobCache  # noqa: PLC0415 - a light command reads no file

        return BlobCache(self.layout.blob_cache, limit_bytes=self._read_cache_limit)

    @property
    def made_indexes(self) -> MadeIndexes:
        """Where indexes of git are kept for forks in which nothing was changed."""
        from avfs_git.workspace.vault.madeindexes import MadeIndexes  # noqa: PLC0415 - few commands run git

        return MadeIndexes(self.layout.made_indexes, limit_bytes=self._read_cache_limit)

    def _read_cache_limit(self) -> int:
        try:
            return int(self.config.read()["cache.max_bytes"])
        except (NotAVault, ValueError):  # a program that reads a file must not fail at a setting
            return 0

    def close(self) -> None:
        """Give up what is open. A second call does nothing."""
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None

    def prepare(self) -> None:
        """Make sure that avfs may write its state here.

        A repository to which avfs never wrote is judged first, which costs its size.

        Raises:
            NotAVault: If it has refs of another vault.
            HostileObjects, ObjectCorrupt, ObjectMissing: If it holds what must not come in, or lacks something.
        """
        if self.layout.read_format() is None:
            self._check_adopted()
            self.layout.prepare()
            ensure_config(self.git_dir)

    def _check_adopted(self) -> None:
        foreign = next(iter(self.refs.list(OWN_REFS + "/")), None)
        if foreign is not None:
            error = NotAVault(self.name, f"its ref {quote(foreign)} was made by another vault")
            create = f"avfs vault create NAME --from {shlex.quote(os.fspath(self.git_dir))}"
            error.hint = f"Make a vault of its branches and tags: `{create}`."
            raise error
        from avfs_git.gitstore.judge import (  # noqa: PLC0415 - once in the life of few vaults, and it takes long
            check_connected,
            judge_objects,
            list_objects,
        )

        objects_dir = self.git_dir / "objects"
        judge_objects(objects_dir, list_objects(objects_dir))
        check_connected(objects_dir, set(self.refs.list().values()), shallow=read_shallow(self.git_dir))

    @contextlib.contextmanager
    def fork_locked(self, fork: str) -> Iterator[None]:
        """Hold a fork's name for a block: no other process creates, ends or restores a fork of that name meanwhile.

        Taken before the lock of the fork's workspace. A thread may take it again. What was read before has to be read
        again.

        Raises:
            WorkspaceBusy: If another thread or process holds the name for 10 s.
            NotWritable: If nothing may be written here.
        """
        self.prepare()
        with contextlib.ExitStack() as stack:
            try:
                with host_errors(f"lock the name of fork '{fork}'"):
                    is_held = stack.enter_context(self._fork_locks.held(fork_dir_name(fork), LOCK_TIMEOUT_S))
            except HostError as error:
                if error.errno not in REFUSED_WRITING:
                    raise
                raise NotWritable(f"change fork '{fork}'", OSError(error.errno, os.strerror(error.errno))) from error
            if not is_held:
                raise WorkspaceBusy(fork, "a process that creates or ends the fork")
            yield

    @contextlib.contextmanager
    def forks_locked(self, *forks: str) -> Iterator[None]:
        """Hold several names for a block, as `fork_locked` does; in one order for all callers, against deadlocks."""
        with contextlib.ExitStack() as stack:
            for fork in sorted(set(forks)):
                stack.enter_context(self.fork_locked(fork))
            yield

    # --- refs -----------------------------------------------------------------------------------

    def read_head(self, fork: str) -> Oid | None:
        """Read the commit that a fork's branch points to."""
        return self.refs.read(HEADS + fork)

    def check_own_branch(self, fork: str) -> None:
        """Refuse a branch that is a symbolic ref: what is written in a fork of it would be saved on another branch.

        Raises:
            ForkIsAlias: If it is one.
        """
        target = self.refs.read_loose(HEADS + fork)
        if isinstance(target, str):
            raise ForkIsAlias(fork, target, os.fspath(self.git_dir.absolute()))

    def has_fork(self, fork: str) -> bool:
        """Whether there is a branch of that name, or an empty vault's first one yet to be born."""
        return self.read_head(fork) is not None or self._is_unborn(fork)

    def _is_unborn(self, fork: str) -> bool:
        """Whether a fork without a branch is the first one of a vault: HEAD names it, and it has no commit yet.

        Where the branch was there and is gone, it was deleted, by git perhaps: an empty one in its place would hide
        that.
        """
        if self.head_fork() != fork:
            return False
        state = self.layout.workspace(fork).read_state()
        records = self.oplog.read_fork(fork)
        moves = ((record, new) for record in records for ref, _, new in record.moves if ref == HEADS + fork)
        record, last = next(moves, (None, None))
        kind = record.kind if record is not None else None
        if last is not None or kind == FORK_DELETE or (record is not None and RENAMED_FROM in record.more):
            return False
        if state is not None and state.base is not None and kind != UNDO:  # of its first checkpoint, after a fold
            return False
        return state is not None or (not self.list_heads() and self.layout.read_origin() is None)

    def list_heads(self) -> dict[str, Oid]:
        """List forks with their heads. A symbolic ref is another name of a branch (`ForkIsAlias`), and no fork."""
        return {name.removeprefix(HEADS): oid for name, oid in self.refs.list(HEADS, symbolic=False).items()}

    def head_fork(self) -> str | None:
        """Name the fork that HEAD points to, whether it is there or not.

        Of a fork that is being renamed, or whose rename a crash has cut short, HEAD may have the old name still.
        """
        head = self.refs.head()
        if head is None or not head.startswith(HEADS):
            return None
        name = head.removeprefix(HEADS)
        return self.find_new_name(name) or name

    def find_new_name(self, fork: str) -> str | None:
        """Find what a fork is called now that had a name; None if it was not renamed, or is gone."""
        return find_new_name(self.oplog.read_fork, fork, self._has_branch)

    def _has_branch(self, fork: str) -> bool:
        try:
            return self.refs.read(HEADS + fork) is not None
        except RefDamaged:
            return True

    def default_fork(self, *, without: str | None = None) -> str | None:
        """Name the fork that is meant where none is named, once `without` is gone: the one of HEAD, else the only one.

        Return None if there is no such fork.

        A fork of a directory is the default only if it is the only fork: HEAD names the first that was made.
        """
        head = self.head_fork()
        if head not in (None, without) and self.has_fork(head) and self.layout.read_origin() is None:
            return head
        heads = [name for name in self.list_heads() if name != without]
        return heads[0] if len(heads) == 1 else None

    def choose_fork(self, fork: str | None = None) -> str:
        """Give the named fork, else the default one.

        Raises:
            NoForkChosen: If none is named, and there are several without a default.
            NoForks: If no fork is named, and the vault has none.
            InvalidName: If the name is empty: the default fork is not what was meant.
        """
        if fork == "":
            check_fork_name(fork)
        chosen = fork or self.default_fork()
        if chosen is not None:
            return chosen
        if heads := sorted(self.list_heads()):
            raise NoForkChosen(self.name, heads)
        origin = self.layout.read_origin()
        raise NoForks(self.name, os.fspath(origin) if origin is not None else None)

    def read_sidecar_ref(self, fork: str) -> Oid | None:
        """Read the newest sidecar commit of a fork that this vault has made."""
        oid = self.refs.read(SIDECARS + fork)
        return oid if oid is not None and self.store.own_commits.has(oid) else None

    def list_labels(self, fork: str) -> dict[str, Oid]:
        """List the labels of a fork's checkpoints."""
        prefix = f"{LABELS}{fork}/"
        found = {name.removeprefix(prefix): oid for name, oid in self.refs.list(prefix).items()}
        return {label_of_ref_name(label): oid for label, oid in found.items() if "/" not in label}

    def hold(self, *oids: Oid | None) -> list[RefChange]:
        """Make the ref changes that hold commits from gc when no other ref does.

        A ref that holds one already is moved to where it is: gc may be about to drop it (`workspace.upkeep.garbage`),
        and finds it new then. It is forced: others may hold or drop the same commit at the same time.
        """
        names = {KEPT + oid.hex(): oid for oid in oids if oid is not None}
        return [RefChange(name, None, oid, lasting=True, forced=True) for name, oid in names.items()]

    def follow(self, fork: str, head: Oid | None, *, came_from: Oid | None = None) -> list[RefChange]:
        """Make the ref changes that keep the commit avfs knows on a fork's branch, even when others move the branch.

        Git's own gc knows neither the log nor workspaces: after a forced push or a deletion by push, only this ref
        leads to it. `came_from` is what the branch holds until now: callers hold that themselves, if `head` does not
        lead to it.
        """
        ref = KNOWN + fork_dir_name(fork)
        last = self.refs.read(ref)
        if last == head:
            return []
        held = self.hold(last) if last != came_from else []
        # Without it the branch is as good as before; there alone it would say that git has deleted the branch.
        return [*held, RefChange(ref, last, head, lasting=last is not None, forced=head is not None)]

    def move_refs(
        self,
        changes: Sequence[RefChange],
        record: OpRecord,
        *,
        after: OpRecord | None = None,
        then: Callable[[], object] | None = None,
    ) -> None:
        """Move refs as an operation that can be undone; on disk, with its line in the log, on return.

        The log says `after` before `record`, if that happens. `then` comes after the refs; if it fails they are moved
        back. A signal that raises may do so when all is done: then the refs, and the log with them, say that it is.

        Raises:
            RefConflict, RefLocked: If the refs cannot be moved.
            BranchCheckedOut: If another working tree has one of the branches checked out.
            LeftInForce: If the disk refuses so late that the new state stays.
            HostError: If the disk refuses; the state is the old one.
        """
        has_worktrees = os.path.isdir(os.path.join(self.git_dir, "worktrees"))  # most vaults were never mounted
        heads = [change for change in changes if has_worktrees and change.name.startswith(HEADS)]
        for change in heads:
            if change.old is not None and change.old != change.new:
                self.check_not_elsewhere(change.name.removeprefix(HEADS))
        for change in heads:
            if change.new is not None:
                # Before it moves: what git in the live tree has staged is to move along, see `workspace.gitdir`.
                self._note_move(change.name.removeprefix(HEADS), change.old)
        changes, lines = self._with_known(changes), list[Announced]()
        announce = partial(self.oplog.announce, *filter(None, (after, record)))

        def close(*, happened: bool | None) -> None:
            for line in lines:
                line.close(happened=happened)

        withdraw = partial(close, happened=False)
        try:
            if changes:
                self.refs.update(changes, announce=lambda: lines.append(announce()), withdraw=withdraw)
            else:  # another process has done it
                self.oplog.append(record)
            if then is not None:
                try:
                    then()
                except BaseException as error:
                    if not isinstance(error, LeftInForce):
                        self._move_back(changes, error)
                        withdraw()
                    raise
            close(happened=True)
        finally:
            close(happened=None)  # the refs tell, where nothing has been said

    def note_seen(self, fork: str, lacked_since: Oid | None = None) -> None:
        """Have git's index follow in a live tree that has by now what others have put on its branch.

        Where its files lacked that, and the index did not, `git add -A` has staged that they did: they had the commit
        `lacked_since`, and what the index has as that one is no longer staged.
        """
        head = self.read_head(fork)
        worktree, followed = Worktree(self.git_dir, fork_dir_name(fork)), self.find_followed(fork, head)
        basis = worktree.basis()[1] or followed
        if lacked_since is not None and worktree.is_there and basis and is_ancestor(self.store, lacked_since, basis):
            worktree.note_basis(lacked_since)
        elif followed != head:
            self._note_move(fork, head)

    def _note_move(self, fork: str, head: Oid | None) -> None:
        Worktree(self.git_dir, fork_dir_name(fork)).note_move(self.find_followed(fork, head))

    def find_followed(self, fork: str, head: Oid | None) -> Oid | None:
        """Tell from which commit git's index is to follow the branch: the last that avfs knows, where others moved it.

        What git in the live tree has done since then, the index has (`workspace.gitdir`).
        """
        name = fork_dir_name(fork)
        known = self.refs.read(KNOWN + name) if Worktree(self.git_dir, name).is_there else None
        return known or head

    def check_not_elsewhere(self, fork: str) -> None:
        """Refuse what would move or delete a branch beneath another working tree than the fork's own, as git does.

        Raises:
            BranchCheckedOut: If there is such a tree.
        """
        own = Worktree(self.git_dir, fork_dir_name(fork)).path
        found = find_checked_out(self.git_dir, HEADS + fork, but=own)
        if found is None:
            return
        where = f"the working tree {quote(os.fspath(found.where or 'unknown'))}"
        if found.under_way == "rebase":
            way_on = "End the rebase there with `git rebase --continue` or `git rebase --abort`"
        elif found.under_way == "bisect":
            way_on = "End the bisection there with `git bisect reset`"
        elif found.owner is not None:
            other = found.owner.removeprefix(HEADS)
            where = f"the live tree of fork {quote(other)}"
            way_on = f"Run {name_switch(other)} in that tree"
        elif found.where is not None and os.path.lexists(found.where / ".git"):
            way_on = f"Run `git -C {shlex.quote(os.fspath(found.where))} switch --detach`"
        else:
            way_on = (
                f"Run `git -C {shlex.quote(os.fspath(self.git_dir.absolute()))} worktree prune`, as that tree is gone"
            )
        raise BranchCheckedOut(fork, where, way_on)

    def _with_known(self, changes: Sequence[RefChange]) -> list[RefChange]:
        """Add what keeps commits of branches: it goes before its branch and comes after it, so it is never alone.

        Of a branch that is gone it would say that git has deleted it (`forkinfo.find_deleted`).
        """
        ordered: dict[str, RefChange] = {}
        for change in changes:
            known: list[RefChange] = []
            if change.name.startswith(HEADS):
                known = self.follow(change.name.removeprefix(HEADS), change.new, came_from=change.old)
            together = [change, *known] if change.new is not None else [*known, change]
            ordered |= {each.name: each for each in together if each.name not in ordered}
        return list(ordered.values())

    def _move_back(self, changes: Sequence[RefChange], cause: BaseException) -> None:
        """Take back refs that were moved before something else failed."""
        back = [RefChange(change.name, change.new, change.old) for change in reversed(changes) if not change.lasting]
        try:
            self.refs.update(back)
        except (AvfsError, OSError) as error:
            left = {change.name: change.old.hex() if change.old else None for change in back}
            raise LeftInForce(f"complete the move of '{changes[0].name}'", error, left) from cause

    # --- commits ----------------------------------------------------------------------------------

    def sidecar_tree(self, commit: Commit | None) -> Oid | None:
        """Find the sidecar tree of a checkpoint; None if it has none."""
        if commit is None or commit.sidecar is None:
            return None
        return self.store.read_commit(commit.sidecar).tree

    def caller(self) -> Identity | None:
        """Find the author of commits where the settings name none; None if git knows none either.

        The first call may run git.
        """
        if callable(self._identity):
            self._identity = self._identity(self.git_dir)
        return self._identity

    def identity(self) -> Identity:
        """Give the author of commits."""
        settings = self.config.read()
        name, email = settings["user.name"], settings["user.email"]
        if name and email:
            return Identity(name, email)
        fallback = self.caller() or NOBODY
        return Identity(name or fallback.name, email or fallback.email)

    def signature(self, author: Identity | None = None) -> Signature:
        """Make the signature of a commit that is made now, by `author` or by `identity()`."""
        identity = author or self.identity()
        return Signature(identity.name, identity.email, self.clock_ns() // 1_000_000_000)

    def describe(self, oid: Oid, *, fork: str | None = None, labels: dict[str, Oid] | None = None) -> Checkpoint:
        """Make the value that callers see of a commit."""
        commit = self.store.read_commit(oid)
        if labels is None:
            labels = self.list_labels(fork) if fork else {}
        return Checkpoint(
            id=oid.hex(),
            labels=tuple(sorted(label for label, held in labels.items() if held == oid)),
            message=commit.message.rstrip("\n"),
            author=Identity(commit.author.name, commit.author.email),
            created_at_ns=commit.committer.when_s * 1_000_000_000,
            parents=tuple(parent.hex() for parent in commit.parents),
            tree=commit.tree.hex(),
            sidecar=commit.sidecar.hex() if commit.sidecar else None,
            fork=fork,
        )

    def read_exclude(self) -> bytes:
        """Read the ignore rules that hold for the whole vault (gitignore(5): info/exclude).

        Raises:
            NotAVault: If they are a link or no file: without them, what they hide would get into the history.
        """
        try:
            return read_plain_file(self.git_dir / "info" / "exclude", limit=IGNORE_FILE_READ)
        except OSError:  # git, too, goes on without it
            return b""

    def created_at_ns(self) -> int:
        """Tell since when this is a vault; of a repository that avfs never wrote to, since when it is one."""
        for path in (self.layout.format, self.git_dir / "config"):
            try:
                return path.stat().st_mtime_ns
            except OSError:  # the next one says it less well
                continue
        return 0

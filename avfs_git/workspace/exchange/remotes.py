"""Remotes: fetching from another repository, and pushing to it.

Decided here: which refs stand for what on the other side, and what moves here when an exchange has gone well. The
exchange itself is `gitstore.remote.transport`'s. Called without a lock: nothing of a workspace is touched. The refs of
a fetch become `refs/remotes/REMOTE/*`, and on request `refs/avfs/remotes/REMOTE/*`; forks move by a merge only.

    here                              there
    refs/heads/FORK              →    refs/heads/FORK                    push
    refs/remotes/REMOTE/FORK     ←    refs/heads/FORK                    fetch
    refs/avfs/checkpoints/FORK/L →    the same                           push --with-checkpoints
    refs/avfs/sidecar/FORK       →    the same                           push --with-sidecar
    refs/avfs/remotes/REMOTE/…   ←    refs/avfs/{checkpoints,sidecar}/…  fetch with the same options

The order: the objects are on disk before a ref here moves; all refs of a fetch move together, those that go before
those that come. A crash before that leaves objects that nothing refers to; the next fetch brings nothing twice. A push
moves the refs of the other side first, and then what is remembered of them: a crash in between is made up for by the
next fetch.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import (
    ForkNotFound,
    InvalidInput,
    InvalidName,
    ObjectCorrupt,
    ObjectMissing,
    PathNotFound,
    PushRejected,
    RefConflict,
    RemoteError,
    RemoteNotFound,
    quote,
)
from avfs_git.faults import reach
from avfs_git.gitstore.compare.walk import count_apart
from avfs_git.gitstore.formats.packfile import KIND_COMMIT
from avfs_git.gitstore.formats.trees import MODE_GITLINK, MODE_TREE, find_entry
from avfs_git.gitstore.holding import objects_held
from avfs_git.gitstore.merge.bases import is_ancestor
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.refs.names import check_ref_name
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.gitstore.remote import remotes, transport
from avfs_git.gitstore.remote.partial import PartialObjectStore
from avfs_git.gitstore.remote.runner import NO_ACCESS, QUIET_RECEIVE_PACK, SHOWING_UPLOAD_PACK, Access
from avfs_git.gitstore.remote.transport import Exchange, Push
from avfs_git.gitstore.repository import is_partial, read_shallow
from avfs_git.gitstore.worktree import append_log
from avfs_git.host.files.durable import host_errors, write_file_atomically
from avfs_git.model import (
    FetchResult,
    PrefetchResult,
    PushedRef,
    PushResult,
    RefMove,
    RemoteBranch,
    RemoteInfo,
    Warning,
)
from avfs_git.paths import ROOT, Oid, TreePath, check_fork_name, maybe_hex, maybe_oid
from avfs_git.progress import Progress
from avfs_git.workspace.exchange.fetchedsidecars import accept_sidecars, pack_newest
from avfs_git.workspace.exchange.outgoing import note_push
from avfs_git.workspace.exchange.source import check_source
from avfs_git.workspace.opened.vaultroom import check_not_full
from avfs_git.workspace.vault.format import HEADS, LABELS, REMOTE_STATE, REMOTES, SIDECARS
from avfs_git.workspace.vault.vault import OpenVault

ORIGIN = "origin"
TAGS = "refs/tags/"
_RULES = (b".gitignore", b".gitattributes")
_LEFT = re.compile(r"warning: rejected refs/remotes/(\S+) because shallow roots are not allowed")
_TRIES = 10


# --- which remotes there are ---------------------------------------------------------------------------------


def list_remotes(vault: OpenVault) -> list[RemoteInfo]:
    """Describe the remotes of a vault, by name."""
    return [_describe(vault, remote) for remote in remotes.list_remotes(vault.git_dir)]


def _describe(vault: OpenVault, remote: remotes.ConfiguredRemote) -> RemoteInfo:
    push = remotes.hide_secret(remote.push_url) if remote.push_url is not None else None
    return RemoteInfo(
        remote.name, remotes.hide_secret(remote.url), push, len(vault.refs.list(f"{REMOTES}{remote.name}/"))
    )


def add_remote(vault: OpenVault, name: str, url: str) -> RemoteInfo:
    """Let a vault know another repository by a name; nothing is fetched.

    Raises:
        InvalidName, InvalidInput: If the name or the address cannot be used.
        RemoteExists: If the name is taken.
    """
    checked = remotes.check_url(url, base=Path.cwd())
    vault.prepare()
    remotes.add_remote(vault.git_dir, name, checked)
    return _describe(vault, remotes.find_remote(vault.git_dir, name))


def set_url(vault: OpenVault, name: str, url: str) -> RemoteInfo:
    """Give a remote another address.

    Raises:
        InvalidName, InvalidInput: If the name or the address cannot be used.
    """
    checked = remotes.check_url(url, base=Path.cwd())
    remotes.set_url(vault.git_dir, name, checked)
    return _describe(vault, remotes.find_remote(vault.git_dir, name))


def remove_remote(vault: OpenVault, name: str) -> RemoteInfo:
    """Forget a remote and what is known of its branches. Forks made from them stay, with all their commits."""
    info = _describe(vault, remotes.find_remote(vault.git_dir, name))
    remotes.remove_remote(vault.git_dir, name)
    known = {**vault.refs.list(f"{REMOTES}{name}/"), **vault.refs.list(f"{REMOTE_STATE}{name}/")}
    vault.refs.update([RefChange(ref, oid, None) for ref, oid in known.items()])
    return info


def list_branches(vault: OpenVault, remote: str | None = None) -> list[RemoteBranch]:
    """Describe the branches of the remotes, or of one, as they were when they were last fetched."""
    names = [remotes.find_remote(vault.git_dir, remote).name] if remote is not None else None
    known = names or sorted({ref.split("/")[2] for ref in vault.refs.list(REMOTES)})
    heads, shallow = vault.list_heads(), read_shallow(vault.git_dir)
    found = []
    for name in known:
        prefix = f"{REMOTES}{name}/"
        for ref, oid in vault.refs.list(prefix).items():
            branch = ref.removeprefix(prefix)
            if branch == "HEAD":
                continue
            here = heads.get(branch)
            ahead = behind = None
            with suppress(ObjectCorrupt, ObjectMissing):  # any user who may push can put anything there
                ahead, behind = (
                    count_apart(vault.store.read_commit, here, oid, shallow) if here is not None else (None, None)
                )
            fork = branch if here is not None else None
            found.append(RemoteBranch(f"{name}/{branch}", name, branch, oid.hex(), fork, ahead, behind))
    return found


def fetch(
    vault: OpenVault,
    name: str | None = None,
    *,
    with_checkpoints: bool = False,
    with_sidecar: bool = False,
    with_git_dirs: bool = False,
    access: Access = NO_ACCESS,
    progress: Progress | None = None,
) -> FetchResult:
    """Bring what a remote has, and remember where its branches are. Forks stay as they are.

    Raises:
        InvalidInput: If `.git` directories are asked for without the ignored files.
        CloneReplaced: If the remote is the clone of the vault's forks, and another repository is there now.
        RemoteError: If the exchange fails; nothing has changed here then.
    """
    if with_git_dirs and not with_sidecar:
        raise InvalidInput("`.git` directories come with the ignored files only", hint="Add `--with-sidecar`.")
    check_not_full(vault)
    remote = choose_remote(vault, name)
    _check_clone(vault, remote.url)
    vault.prepare()
    own = f"{REMOTES}{remote.name}/"
    state = f"{REMOTE_STATE}{remote.name}/"
    specs = [f"+{HEADS}*:{own}*"]
    prefixes = [own]
    for wanted, theirs, ours in ((with_checkpoints, LABELS, "checkpoints/"), (with_sidecar, SIDECARS, "sidecar/")):
        if wanted:
            specs.append(f"+{theirs}*:{state}{ours}*")
            prefixes.append(state + ours)
    # Until refs name it: what came, and what was not sent because it is here already, where perhaps nothing reaches it.
    with objects_held(vault.git_dir):
        before = vault.refs.list()
        lazy = is_partial(vault.git_dir) and remote.lazy
        with transport.open_exchange(
            vault.git_dir, remote.url, _shown(before), access=access, progress=progress, lazy=lazy
        ) as exchange:
            messages = _fetch(exchange, specs, state, with_state=with_checkpoints or with_sidecar)
            vault.store.packs.refresh()
            accepted: list[Warning] = []
            if with_sidecar:
                found = {ref: oid for ref, oid in exchange.read_refs().items() if ref.startswith((own, state))}
                sidecars = {oid for ref, oid in found.items() if ref.startswith(f"{state}sidecar/")}
                tips = set(found.values()) - sidecars
                accepted = accept_sidecars(vault, remote.name, tips, sidecars, with_git_dirs=with_git_dirs)
            moves, warnings = _take_over(vault, exchange, before, tuple(prefixes))
            warnings += [*accepted, *_find_left(messages)]
            if lazy:
                bring_rules(vault.store, [oid for ref, oid in vault.refs.list(own).items() if before.get(ref) != oid])
    return FetchResult(remote.name, remotes.hide_secret(remote.url), moves, server_words(messages), tuple(warnings))


def _find_left(messages: Sequence[str]) -> list[Warning]:
    """Tell which branches git left where they were, because the history that the remote sent begins in the middle."""
    left = [match[1] for line in messages if (match := _LEFT.match(line)) is not None]
    what = "the remote is a shallow repository, and its history begins after what is here"
    return [Warning("fetch.shallow", f"{quote(name)} did not move: {what}") for name in left]


def _fetch(exchange: Exchange, specs: Sequence[str], state: str, *, with_state: bool) -> tuple[str, ...]:
    """Fetch branches, and on request labels and sidecars, which another vault hides unless it is asked for them so."""
    is_local = remotes.local_path(exchange.url) is not None
    messages = exchange.fetch(specs, upload_pack=SHOWING_UPLOAD_PACK if with_state and is_local else None)
    if with_state and remotes.is_ssh(exchange.url) and not any(ref.startswith(state) for ref in exchange.read_refs()):
        with suppress(RemoteError):  # a server that runs nothing but git's own commands is no vault
            messages += exchange.fetch(specs, upload_pack=SHOWING_UPLOAD_PACK)
    return messages


def prefetch(vault: OpenVault, commit: Oid, paths: Sequence[TreePath]) -> PrefetchResult:
    """Bring the contents of a commit's files that a partial clone lacks.

    Raises:
        PathNotFound: If the commit has nothing at a path.
        RemoteError: If the server cannot be asked.
    """
    check_not_full(vault)
    store = vault.store
    root = store.read_commit(commit).tree
    blobs: dict[Oid, None] = {}
    waiting: list[tuple[int, Oid]] = []
    for path in paths or (ROOT,):
        entry = find_entry(store, root, path) if path else (MODE_TREE, root)
        if entry is None:
            raise PathNotFound(path)
        waiting.append(entry)
    seen: set[Oid] = set()
    while waiting:
        mode, oid = waiting.pop()
        if mode == MODE_TREE:
            if oid not in seen:
                seen.add(oid)
                waiting.extend(store.read_tree(oid).values())
        elif mode != MODE_GITLINK:
            blobs[oid] = None
    fetched = store.fetch(blobs) if isinstance(store, PartialObjectStore) else 0
    return PrefetchResult(commit.hex(), len(blobs), fetched)


def bring_rules(store: ObjectStore, commits: Sequence[Oid]) -> None:
    """Bring the rules of ignored files and of attributes of some commits to a partial clone.

    A checkpoint reads them. With them here, it works while the server cannot be reached. Where they do not come now,
    they come when they are read.
    """
    blobs: dict[Oid, None] = {}
    waiting = [store.read_commit(commit).tree for commit in commits]
    seen = set(waiting)
    while waiting:
        for name, (mode, oid) in store.read_tree(waiting.pop()).items():
            if mode == MODE_TREE and oid not in seen:
                seen.add(oid)
                waiting.append(oid)
            elif name in _RULES and mode not in (MODE_TREE, MODE_GITLINK):
                blobs[oid] = None
    with suppress(RemoteError, ObjectMissing):
        store.expect(blobs)


def _shown(refs: dict[str, Oid]) -> dict[str, Oid]:
    """Choose the refs by which the other side is told what is here already."""
    return {ref: oid for ref, oid in refs.items() if ref.startswith((HEADS, TAGS, REMOTES, SIDECARS, REMOTE_STATE))}


def _take_over(
    vault: OpenVault, exchange: Exchange, before: dict[str, Oid], prefixes: tuple[str, ...]
) -> tuple[tuple[RefMove, ...], list[Warning]]:
    """Move the vault's refs to where the exchange has brought them, all together."""
    after: dict[str, Oid] = {}
    warnings: list[Warning] = []
    for ref, oid in exchange.read_refs().items():
        if ref.startswith(prefixes) or (ref.startswith(TAGS) and ref not in before):
            reason = find_unusable(vault.store, ref, oid) if before.get(ref) != oid else None
            if reason is not None:
                warnings.append(reason)
            else:
                after[ref] = oid
    known = {ref: oid for ref, oid in before.items() if ref.startswith(prefixes)}
    gone = [RefChange(ref, oid, None) for ref, oid in known.items() if ref not in after]
    come = [RefChange(ref, known.get(ref), oid) for ref, oid in after.items() if known.get(ref) != oid]
    shallow = exchange.read_shallow()
    if shallow is not None:
        place = vault.git_dir / "shallow"
        if not place.exists() or place.read_bytes() != shallow:
            write_file_atomically(place, shallow)
    # First what goes: `a` may have become `a/b`, and the two cannot be there at once.
    went = _move(vault, gone)
    with host_errors("move the refs of a remote"):
        reach("remotes.pruned")
    came = _move(vault, come)
    moves = [RefMove(each.name, maybe_hex(each.old), maybe_hex(each.new)) for each in (*went, *came)]
    return tuple(sorted(moves, key=lambda move: move.ref)), warnings


def find_unusable(store: ObjectStore, ref: str, oid: Oid) -> Warning | None:
    """Say why a ref that a remote sent cannot be one here; only a tag may name something else than a commit.

    Raises:
        ObjectMissing, ObjectCorrupt: If what it names cannot be read.
    """
    try:
        check_ref_name(ref)
    except InvalidName:
        return Warning("fetch.name_unusable", f"{quote(ref)} was left out: no ref here can have that name")
    if not ref.startswith(TAGS) and store.header(oid)[0] != KIND_COMMIT:
        return Warning("fetch.no_commit", f"{quote(ref)} was left out: what the remote has there is no commit")
    return None


def _move(vault: OpenVault, changes: Sequence[RefChange]) -> list[RefChange]:
    """Move refs that remember a remote; what another exchange has moved meanwhile stays: it knows as much or more.

    Each move stands in git's log of the ref first, for `find_fork_point`: a line too much does no harm.

    Returns:
        What was moved.

    Raises:
        RefConflict: If a name is in the way of another.
    """
    tries = _TRIES
    while True:
        still = [change for change in changes if vault.refs.read(change.name) == change.old]
        for change in still:
            if change.new is not None and change.name.startswith(REMOTES):
                append_log(vault.git_dir, change.name, change.old, change.new, "moved with its remote")
        try:
            vault.refs.update(still)
        except RefConflict:
            tries -= 1
            if not tries:
                raise
        else:
            return still


def choose_remote(vault: OpenVault, name: str | None) -> remotes.ConfiguredRemote:
    """Find the remote that is meant: the named one, the only one, or `origin`.

    Raises:
        RemoteNotFound: If the vault has no remote.
        InvalidInput: If there are several, and none is `origin`.
    """
    if name is not None:
        remote = remotes.find_remote(vault.git_dir, name)
    else:
        found = remotes.list_remotes(vault.git_dir)
        if not found:
            raise RemoteNotFound(ORIGIN)
        remote = next((remote for remote in found if remote.name == ORIGIN), found[0])
        if len(found) > 1 and remote.name != ORIGIN:
            raise InvalidInput(
                "this vault has several remotes", hint=f"Name one of {', '.join(each.name for each in found)}."
            )
    remotes.check_url(remote.url, base=vault.git_dir)  # git, or an agent, may have written it
    if remote.push_url is not None:
        remotes.check_url(remote.push_url, base=vault.git_dir)
    return remote


def server_words(messages: Sequence[str]) -> tuple[str, ...]:
    """Keep what the server said to people."""
    said = [line.removeprefix("remote:").strip() for line in messages if line.startswith("remote:")]
    return tuple(
        line for line in said if line and not line.startswith(("Total ", "Enumerating ", "Counting ", "Compressing "))
    )


# --- pushing -------------------------------------------------------------------------------------------------


def push(
    vault: OpenVault,
    forks: Sequence[str],
    name: str | None = None,
    *,
    with_checkpoints: bool = False,
    with_sidecar: bool = False,
    force_with_lease: bool = False,
    access: Access = NO_ACCESS,
    progress: Progress | None = None,
) -> PushResult:
    """Hand forks to a remote, as branches. What only the remote has is never overwritten, unless it was seen before.

    Raises:
        ForkNotFound: If there is no such fork.
        InvalidInput: If it has no commit yet.
        CloneReplaced: If the remote is the clone of the vault's forks, and another repository is there now.
        PushRejected: If the remote did not take all of it; what it took is in the details.
        RemoteError: If the exchange fails.
    """
    remote = choose_remote(vault, name)
    _check_clone(vault, remote.push_url or remote.url)
    vault.prepare()
    with PackWriter(vault.store) as pack:  # holds what it has written until a ref names it
        sidecars = pack if with_sidecar else None
        wanted = _plan_push(
            vault, remote.name, forks, with_checkpoints=with_checkpoints, pack=sidecars, force=force_with_lease
        )
        pack.finish(hold=True)
        if not wanted:
            return PushResult(remote.name, remotes.hide_secret(remote.push_url or remote.url))
        return push_refs(vault, remote.name, remote.push_url or remote.url, wanted, access=access, progress=progress)


def _check_clone(vault: OpenVault, url: str) -> None:
    """Refuse a repository that was put where the clone was that the vault has forks of. Raises CloneReplaced."""
    place = remotes.local_path(url)
    if place is not None:
        check_source(vault.git_dir, vault.name, Path(place))


def push_refs(
    vault: OpenVault,
    remote: str,
    url: str,
    wanted: Sequence[Push],
    *,
    access: Access = NO_ACCESS,
    progress: Progress | None = None,
    receive_pack: str | None = None,
) -> PushResult:
    """Have refs moved on the other side, and remember what moved.

    Raises:
        PushRejected: If not all of them did.
    """
    with objects_held(vault.git_dir):  # what is sent, until what is remembered of the other side names it
        before = {push.ref: vault.refs.read(tracking_ref(remote, push.ref)) for push in wanted}
        sent = {f"refs/avfs/exchange/{number}": push.new for number, push in enumerate(wanted) if push.new is not None}
        lazy = is_partial(vault.git_dir) and not _complete(vault, remote, url, wanted)
        with transport.open_exchange(vault.git_dir, url, sent, access=access, progress=progress, lazy=lazy) as exchange:
            done, messages = exchange.push(wanted, receive_pack=receive_pack)
        with host_errors("note what was pushed"):
            reach("remotes.pushed")
        new = {push.ref: push.new for push in wanted}
        changes = []
        for ref in done:
            tracking = tracking_ref(remote, ref.ref)
            if ref.outcome != "rejected" and before[ref.ref] != new[ref.ref]:
                changes.append(RefChange(tracking, before[ref.ref], new[ref.ref]))
        _move(vault, changes)
    refs = tuple(
        PushedRef(ref.ref, ref.outcome, maybe_hex(before[ref.ref]), maybe_hex(new[ref.ref]), ref.reason or None)
        for ref in done
    )
    said, shown = server_words(messages), remotes.hide_secret(url)
    note_push(vault, remote, shown, refs)
    if rejected := [ref for ref in refs if ref.outcome == "rejected"]:
        raise PushRejected(
            remote,
            [(_short(ref.ref), ref.reason or "no reason given") for ref in rejected],
            pushed=[ref.ref for ref in refs if ref.outcome not in {"rejected", "unchanged"}],
            hint=_advise(vault, remote, rejected, said),
            details={"messages": list(said)},
        )
    return PushResult(remote, shown, refs, said)


def _complete(vault: OpenVault, remote: str, url: str, wanted: Sequence[Push]) -> bool:
    """Fetch what a partial clone lacks of what it sends to another remote than the one it was cloned from.

    Tells whether it is another one: git sends it everything. Else it sends what was made here, the other side has the
    rest.

    Raises:
        ObjectMissing: If the remote that the vault was cloned from lacks some of it.
        RemoteError: If it cannot be asked. Nothing was sent then.
    """
    server = next((each for each in remotes.list_remotes(vault.git_dir) if each.lazy), None)
    if server is not None and url == server.url:
        return False
    known = [oid for oid in vault.refs.list(f"{REMOTES}{remote}/").values() if vault.store.exists(oid)]
    missing = transport.list_missing(vault.git_dir, [push.new for push in wanted if push.new is not None], known)
    try:
        vault.store.expect(missing)
    except (RemoteError, ObjectMissing) as error:
        name = quote(server.name) if server is not None else "the remote that the vault was cloned from"
        error.hint = (
            f"{quote(remote)} lacks {len(missing)} contents that are not here, only at {name}: push when it answers."
        )
        raise
    return True


def _plan_push(
    vault: OpenVault,
    remote: str,
    forks: Sequence[str],
    *,
    with_checkpoints: bool,
    pack: PackWriter | None,
    force: bool,
) -> list[Push]:
    """List the refs that are to move; with a `pack`, those of the sidecars too, which are made in it."""
    wanted: list[Push] = []

    def add(ref: str, new: Oid) -> None:
        known = vault.refs.read(tracking_ref(remote, ref))
        # A label or a sidecar is no line of development: it moves wherever, if the other side has what was seen there.
        aside = not ref.startswith(HEADS) and known is not None
        wanted.append(Push(ref, new, known, forced=force or aside))

    for fork in dict.fromkeys(forks):
        head = vault.read_head(check_fork_name(fork))
        if head is None and vault.has_fork(fork):
            hint = f"Make one first: `avfs checkpoint save --fork {shlex.quote(fork)}`."
            raise InvalidInput(f"fork {quote(fork)} has no checkpoint yet", hint=hint)
        if head is None:
            raise ForkNotFound(fork, vault=vault.name)
        add(HEADS + fork, head)
        if with_checkpoints:
            for ref, oid in vault.refs.list(f"{LABELS}{fork}/").items():
                add(ref, oid)
        sidecar = pack_newest(vault, fork, head, pack) if pack is not None else None
        if sidecar is not None:
            add(SIDECARS + fork, sidecar)
    return wanted


def tracking_ref(remote: str, ref: str) -> str:
    """Name the ref that remembers what one of a remote holds."""
    if ref.startswith(HEADS):
        return f"{REMOTES}{remote}/{ref.removeprefix(HEADS)}"
    return f"{REMOTE_STATE}{remote}/{ref.removeprefix('refs/avfs/')}"


def _short(ref: str) -> str:
    return ref.removeprefix(HEADS)


def _advise(vault: OpenVault, remote: str, rejected: Sequence[PushedRef], said: Sequence[str]) -> str:
    """Say what to do about a push that was not taken."""
    first = rejected[0]
    reason = (first.reason or "").lower()
    fork, place = shlex.quote(_short(first.ref)), shlex.quote(remote)
    if "non-fast-forward" in reason or "fetch first" in reason or "needs force" in reason:
        pull = f"`avfs pull {fork} --remote {place}`"
        if _took_back(vault, first):
            back = f"`avfs push {fork} --remote {place} --force-with-lease`"
            return f"It has what was taken back here. {back} takes it back there, too; {pull} brings it again."
        return f"Bring in what is there with {pull}, then push again."
    if "stale info" in reason:
        seen = quote(f"{remote}/{_short(first.ref)}")
        return f"It was moved since you last looked: `avfs fetch {place}`, look at {seen}, then push again."
    if "hidden ref" in reason:
        return (
            "That is a vault, which takes branches only: run `avfs fetch --with-sidecar` there, to have the rest "
            "from here."
        )
    if "checked out" in reason or "current branch" in reason:
        return "That branch is checked out there: push a fork of another name, and merge it there."
    return f"The server says: {' '.join(said[:5])[:500]}" if said else "Ask whoever keeps the server."


def _took_back(vault: OpenVault, pushed: PushedRef) -> bool:
    """Whether a fork was where the other side is, as far as the log tells, and is on the way there now."""
    old, new = maybe_oid(pushed.old), maybe_oid(pushed.new)
    if old is None or new is None or not vault.store.exists(old) or not is_ancestor(vault.store, new, old):
        return False
    left = (move for record in vault.oplog.read_life(_short(pushed.ref)) for move in record.moves)
    return any(ref.startswith(HEADS) and was == pushed.old and now is not None for ref, was, now in left)


def push_to_origin(vault: OpenVault, forks: Sequence[str]) -> PushResult:
    """Hand forks, as branches, to this machine's repository that a vault was made from; nothing else there changes.

    Its index, its working tree and its checked-out branch stay as they are, and its hooks do not run.

    Raises:
        RemoteNotFound: If the vault was made from none.
        ForkNotFound: If there is no such fork.
        InvalidInput: If it has no commit yet.
        PushRejected: If a branch is checked out there, or has commits that are not here.
    """
    remote = remotes.find_remote(vault.git_dir, ORIGIN)
    if remotes.local_path(remote.url) is None:
        raise InvalidInput(
            f"the remote {quote(ORIGIN)} is no directory of this machine",
            hint=f"Push to it with `avfs push --remote {ORIGIN} {shlex.join(forks)}`.",
        )
    _check_clone(vault, remote.url)
    vault.prepare()
    wanted = _plan_push(vault, remote.name, forks, with_checkpoints=False, pack=None, force=False)
    return push_refs(vault, remote.name, remote.url, wanted, receive_pack=QUIET_RECEIVE_PACK)

"""Remotes: which they are, and fetching from them; `exchange.pushing` sends.

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
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import (
    InvalidInput,
    InvalidName,
    ObjectCorrupt,
    ObjectMissing,
    PathNotFound,
    RefConflict,
    RemoteAccessDenied,
    RemoteDataRefused,
    RemoteError,
    RemoteNotFound,
    RemoteUnreachable,
    quote,
)
from avfs_git.faults import reach
from avfs_git.gitstore.compare.walk import count_apart
from avfs_git.gitstore.formats.packfile import KIND_COMMIT
from avfs_git.gitstore.formats.trees import MODE_GITLINK, MODE_TREE, find_entry
from avfs_git.gitstore.holding import objects_held
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.refs.logs import append_log
from avfs_git.gitstore.refs.names import check_ref_name
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.gitstore.remote import remotes, transport
from avfs_git.gitstore.remote.partial import PartialObjectStore
from avfs_git.gitstore.remote.runner import NO_ACCESS, SHOWING_UPLOAD_PACK, Access
from avfs_git.gitstore.remote.transport import Exchange
from avfs_git.gitstore.repository import is_partial, read_shallow
from avfs_git.host.files.durable import host_errors, write_file_atomically
from avfs_git.model import (
    FetchResult,
    PrefetchResult,
    RefMove,
    RemoteBranch,
    RemoteInfo,
    Warning,
)
from avfs_git.paths import ROOT, Oid, TreePath, maybe_hex
from avfs_git.progress import Progress
from avfs_git.workspace.exchange.fetchedsidecars import accept_sidecars
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
    check_clone(vault, remote.url)
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
                moved = [oid for ref, oid in vault.refs.list(own).items() if before.get(ref) != oid]
                with suppress(RemoteAccessDenied):  # the first reading of a content says so
                    bring_rules(vault.store, moved)
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

    Raises:
        RemoteAccessDenied: If the server hands out none.
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
    with suppress(RemoteUnreachable, RemoteDataRefused, RemoteNotFound, ObjectMissing):
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
    went = move_tracking(vault, gone)
    with host_errors("move the refs of a remote"):
        reach("remotes.pruned")
    came = move_tracking(vault, come)
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


def move_tracking(vault: OpenVault, changes: Sequence[RefChange]) -> list[RefChange]:
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


def check_clone(vault: OpenVault, url: str) -> None:
    """Refuse a repository that was put where the clone was that the vault has forks of. Raises CloneReplaced."""
    place = remotes.local_path(url)
    if place is not None:
        check_source(vault.git_dir, vault.name, Path(place))


def tracking_ref(remote: str, ref: str) -> str:
    """Name the ref that remembers what one of a remote holds."""
    if ref.startswith(HEADS):
        return f"{REMOTES}{remote}/{ref.removeprefix(HEADS)}"
    return f"{REMOTE_STATE}{remote}/{ref.removeprefix('refs/avfs/')}"

"""Pushing forks to another repository.

Decided here: which refs a push moves there, and what is said where the other side does not take them. Called without a
lock. The other side moves first, then what is remembered of it: a crash in between is made up for by the next fetch
(`exchange.remotes`). What was pushed has a line in the audit log.

Labels and sidecars belong to commits of their fork's branch, so they are pushed when the other side has taken that.
Git's `--atomic` would do it in one step, but not every server has it, and one refused fork would hold up the others.
A sidecar then replaces what was fetched, which is of a commit before. A label replaces only what it named here before:
what another vault labelled so stays, also after a fetch.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from avfs_git.errors import (
    ForkNotFound,
    InvalidInput,
    ObjectMissing,
    PushRejected,
    RemoteError,
    name_some,
    quote,
)
from avfs_git.faults import reach
from avfs_git.gitstore.holding import objects_held
from avfs_git.gitstore.merge.bases import is_ancestor
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.refs.refs import RefChange
from avfs_git.gitstore.remote import remotes, transport
from avfs_git.gitstore.remote.runner import NO_ACCESS, QUIET_RECEIVE_PACK, Access
from avfs_git.gitstore.remote.transport import Exchange, Push
from avfs_git.gitstore.repository import is_partial
from avfs_git.host.files.durable import host_errors
from avfs_git.model import PushedRef, PushResult, Warning
from avfs_git.paths import Oid, check_fork_name, label_of_ref_name, maybe_hex, maybe_oid, show_path
from avfs_git.progress import Progress
from avfs_git.values import replace
from avfs_git.workspace.exchange.fetchedsidecars import find_pushed, list_left_out, pack_named
from avfs_git.workspace.exchange.outgoing import log_push
from avfs_git.workspace.exchange.remotes import (
    ORIGIN,
    check_clone,
    choose_remote,
    move_tracking,
    server_words,
    tracking_ref,
)
from avfs_git.workspace.sidecars.kept import find_kept
from avfs_git.workspace.vault.format import HEADS, LABELS, REMOTES, SIDECARS, VaultLayout
from avfs_git.workspace.vault.vault import OpenVault

_OTHER = ("non-fast-forward", "fetch first", "needs force", "stale info")
"""How git says that the other side has something else."""


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
    check_clone(vault, remote.push_url or remote.url)
    vault.prepare()
    with PackWriter(vault.store) as pack:  # holds what it has written until a ref names it
        sidecars = pack if with_sidecar else None
        wanted = _plan_push(
            vault, remote.name, forks, with_checkpoints=with_checkpoints, pack=sidecars, force=force_with_lease
        )
        pack.finish(hold=True)
        if not wanted:
            return PushResult(remote.name, remotes.hide_secret(remote.push_url or remote.url))
        done = push_refs(vault, remote.name, remote.push_url or remote.url, wanted, access=access, progress=progress)
    return replace(done, warnings=tuple(_warn_of_sidecars(vault, wanted)) if with_sidecar else ())


def _warn_of_sidecars(vault: OpenVault, pushed: Sequence[Push]) -> Iterator[Warning]:
    """Tell of pushed forks without a checkpoint that names a sidecar, though the fork has one."""
    for fork, head in [(push.ref.removeprefix(HEADS), push.new) for push in pushed if push.ref.startswith(HEADS)]:
        kept = find_kept(vault, fork, head) if head is not None else None
        if head is not None and kept is not None and kept.sidecar and find_pushed(vault, fork, head) is None:
            save = f"`avfs checkpoint save --fork {shlex.quote(fork)} -m WORDS`"
            text = f"no checkpoint of {quote(fork)} that is pushed names its newest ignored files: none were pushed"
            yield Warning("push.no_sidecar", f"{text}. {save} makes a commit that does")


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
        sent = {f"refs/avfs/exchange/{number}": push.new for number, push in enumerate(wanted) if push.new is not None}
        lazy = is_partial(vault.git_dir) and not _complete(vault, remote, url, wanted)
        with transport.open_exchange(vault.git_dir, url, sent, access=access, progress=progress, lazy=lazy) as exchange:
            first = [each for each in wanted if each.after is None]
            refs, messages = _send(vault, remote, exchange, first, receive_pack)
            taken = {ref.ref for ref in refs if ref.outcome != "rejected"}
            if due := [each for each in wanted if each.after in taken]:
                more, heard = _send(vault, remote, exchange, due, receive_pack)
                refs, messages = refs + more, messages + heard
    refs += [
        PushedRef(each.ref, "rejected", None, maybe_hex(each.new), "its branch was not taken")
        for each in wanted
        if each.after is not None and each.after not in taken
    ]
    said, shown = server_words(messages), remotes.hide_secret(url)
    if rejected := [ref for ref in refs if ref.outcome == "rejected"]:
        raise PushRejected(
            remote,
            [(_short(ref.ref), ref.reason or "no reason given") for ref in rejected],
            pushed=[ref.ref for ref in refs if ref.outcome not in {"rejected", "unchanged"}],
            hint=_advise(vault, remote, rejected, said),
            details={"messages": list(said)},
        )
    return PushResult(remote, shown, tuple(refs), said)


def _send(
    vault: OpenVault, remote: str, exchange: Exchange, pushes: Sequence[Push], receive_pack: str | None
) -> tuple[list[PushedRef], tuple[str, ...]]:
    """Have refs moved in one step, and remember what moved; say what became of each, and what the server said."""
    before = {push.ref: vault.refs.read(tracking_ref(remote, push.ref)) for push in pushes}
    done, messages = exchange.push(pushes, receive_pack=receive_pack)
    with host_errors("note what was pushed"):
        reach("remotes.pushed")
    new = {push.ref: push.new for push in pushes}
    changes = []
    for ref in done:
        tracking = tracking_ref(remote, ref.ref)
        if ref.outcome != "rejected" and before[ref.ref] != new[ref.ref]:
            changes.append(RefChange(tracking, before[ref.ref], new[ref.ref]))
    move_tracking(vault, changes)
    refs = [
        PushedRef(ref.ref, ref.outcome, maybe_hex(before[ref.ref]), maybe_hex(new[ref.ref]), ref.reason or None)
        for ref in done
    ]
    log_push(vault, remote, remotes.hide_secret(exchange.url), refs)
    return refs, messages


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

    def find_known(ref: str) -> Oid | None:
        return vault.refs.read(tracking_ref(remote, ref))

    for fork in dict.fromkeys(forks):
        head = vault.read_head(check_fork_name(fork))
        if head is None and vault.has_fork(fork):
            hint = f"Make one first: `avfs checkpoint save --fork {shlex.quote(fork)}`."
            raise InvalidInput(f"fork {quote(fork)} has no checkpoint yet", hint=hint)
        if head is None:
            raise ForkNotFound(fork, vault=vault.name)
        branch, aside = HEADS + fork, SIDECARS + fork
        wanted.append(Push(branch, head, find_known(branch), forced=force))
        for ref, oid in vault.refs.list(f"{LABELS}{fork}/").items() if with_checkpoints else ():
            known = find_known(ref)
            named = known if force or known == oid or _has_left(vault, fork, ref, known) else None
            wanted.append(Push(ref, oid, named, forced=True, after=branch))  # git would let it follow another's commit
        naming = find_pushed(vault, fork, head) if pack is not None else None
        sidecar = pack_named(vault, naming, pack) if pack is not None and naming is not None else None
        if sidecar is not None:
            known = find_known(aside)  # it follows nothing
            if known is not None and not force and sidecar != known and list_left_out(vault, known):
                known = None
            wanted.append(Push(aside, sidecar, known, forced=force or known is not None, after=branch))
    return wanted


def _has_left(vault: OpenVault, fork: str, ref: str, commit: Oid | None) -> bool:
    """Whether a ref of a fork named a commit before, as far as the log tells."""
    moves = (move for record in vault.oplog.read_life(fork) for move in record.moves) if commit is not None else ()
    return any(name == ref and was == maybe_hex(commit) for name, was, _ in moves)


def _short(ref: str) -> str:
    return ref.removeprefix(HEADS)


def _advise(vault: OpenVault, remote: str, rejected: Sequence[PushedRef], said: Sequence[str]) -> str:
    """Say what to do about a push that was not taken."""
    first = rejected[0]
    reason = (first.reason or "").lower()
    if "hidden ref" in reason or (not first.ref.startswith(HEADS) and _is_vault(vault, remote)):
        return (
            "That is a vault, which takes branches only: run `avfs fetch --with-sidecar` there, to have the rest "
            "from here."
        )
    if any(words in reason for words in _OTHER):
        return _advise_other(vault, first, remote)
    if "checked out" in reason or "current branch" in reason:
        return "That branch is checked out there: push a fork of another name, and merge it there."
    return f"The server says: {' '.join(said[:5])[:500]}" if said else "Ask whoever keeps the server."


def _is_vault(vault: OpenVault, remote: str) -> bool:
    """Whether a remote is a vault on this machine: it shows its labels and sidecars to a fetch, and to no push."""
    found = choose_remote(vault, remote)
    place = remotes.local_path(found.push_url or found.url)
    return place is not None and VaultLayout(place).format.exists()


def _advise_other(vault: OpenVault, pushed: PushedRef, remote: str) -> str:
    """Say what to do where the other side has something else than what is known here, or than what may be replaced."""
    place = shlex.quote(remote)
    if pushed.ref.startswith(LABELS):
        fork, _, label = pushed.ref.removeprefix(LABELS).rpartition("/")
        theirs = quote(f"{remote}/{fork}@{label_of_ref_name(label)}")
        again = f"`avfs push {shlex.quote(fork)} --remote {place} --with-checkpoints --force-with-lease`"
        return (
            f"It names another commit there: `avfs fetch {place} --with-checkpoints` brings it as {theirs}. Choose "
            f"another label, or replace it there with {again}."
        )
    if pushed.ref.startswith(SIDECARS):
        again = f"`avfs push {shlex.quote(pushed.ref.removeprefix(SIDECARS))} --remote {place} --with-sidecar`"
        fetched = vault.refs.read(tracking_ref(remote, pushed.ref))
        left_out = list_left_out(vault, fetched) if fetched is not None else ()
        if left_out:
            named = name_some([show_path(path) for path in left_out], 3)
            return (
                f"It has repositories that were left out here ({named}): `avfs fetch {place} --with-sidecar "
                f"--with-git-dirs` brings them, {again} then puts what is here in their place."
            )
        return (
            f"It has ignored files that were not fetched: `avfs fetch {place} --with-sidecar` brings them, "
            f"{again} then puts those of here in their place."
        )
    if pushed.reason == "stale info":
        seen = quote(f"{remote}/{_short(pushed.ref)}")
        return f"It was moved since you last looked: `avfs fetch {place}`, look at {seen}, then push again."
    fork = shlex.quote(_short(pushed.ref))
    pull = f"`avfs pull {fork} --remote {place}`"
    if _took_back(vault, pushed):
        back = f"`avfs push {fork} --remote {place} --force-with-lease`"
        return f"It has what was taken back here: {pull} brings it again, {back} takes it from there, others' too."
    return f"Bring in what is there with {pull}, then push again."


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
    check_clone(vault, remote.url)
    vault.prepare()
    wanted = _plan_push(vault, remote.name, forks, with_checkpoints=False, pack=None, force=False)
    return push_refs(vault, remote.name, remote.url, wanted, receive_pack=QUIET_RECEIVE_PACK)

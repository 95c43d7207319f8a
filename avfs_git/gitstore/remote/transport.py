"""Objects and refs to and from other repositories, through git itself.

Decided here: which clone, fetch or push is made, and what is believed of what git says; `runner` runs git. Called by
`workspace.exchange` without any lock; blocks for as long as the other side takes. Usable from threads.

**Git never sees the vault's configuration or refs.** Each exchange is made in a git directory of its own, below
`avfs/exchange/` in the vault: its `config` is written here, its `packed-refs` hold what the other side may learn, and
it borrows the objects of the vault. A fetch receives into that directory and moves only its refs. Packs move to the
vault when they are whole and checked; the caller then moves the vault's refs, all at once. An exchange that is
interrupted, or that fills the disk, leaves a directory that the next one removes, and at most packs that nothing refers
to.

**What arrives** is checked by git as it comes (`fsckObjects`: ids, kinds, hostile names in trees and in `.gitmodules`)
and on disk before the caller is told. Two harmless faults of old histories are let through.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import IO

from avfs_git.errors import (
    ObjectCorrupt,
    ObjectMissing,
    RemoteAccessDenied,
    RemoteDataRefused,
    RemoteFormatUnsupported,
    RemoteNotFound,
    RemoteUnreachable,
    VaultUntrusted,
    quote,
)
from avfs_git.faults import reach
from avfs_git.gitstore.config.gitconfig import quote_value, read_config
from avfs_git.gitstore.config.trust import check_owner, is_private
from avfs_git.gitstore.formats.packedrefs import format_packed
from avfs_git.gitstore.formats.packfile import KIND_COMMIT, KIND_TAG, KIND_TREE
from avfs_git.gitstore.gitcommand import list_reached
from avfs_git.gitstore.judge import judge_objects, list_objects
from avfs_git.gitstore.objects.packset import PackSet
from avfs_git.gitstore.objects.packwriter import hold_pack, release_pack
from avfs_git.gitstore.objects.store import list_loose
from avfs_git.gitstore.refs.refs import RefStore
from avfs_git.gitstore.remote.remotes import check_url, hide_secret, list_remotes, local_path
from avfs_git.gitstore.remote.runner import (
    NO_ACCESS,
    Access,
    Ended,
    Silent,
    check_ended,
    check_received,
    end_noted,
    format_settings,
    read_settings,
    run,
    settings_file,
)
from avfs_git.gitstore.repository import TOLERATED, common_dir, find_git_dir, is_partial
from avfs_git.host.files.durable import fsync_dir, host_errors, make_dirs_durably, sync_file_system
from avfs_git.host.locks.making import directory_filled, remove_abandoned
from avfs_git.model import PushOutcome
from avfs_git.paths import Oid, oid_of
from avfs_git.progress import Progress
from avfs_git.values import value_class

_CONFIG = b"""\
[core]
\trepositoryformatversion = 1
\tbare = true
\tfsync = objects,derived-metadata
\thooksPath = /dev/null
\tfsmonitor = false
[gc]
\tauto = 0
[maintenance]
\tauto = false
[fetch]
\tunpackLimit = 1
\twriteCommitGraph = false
\trecurseSubmodules = false
[transfer]
\tfsckObjects = true
\tbundleURI = false
[push]
\tautoSetupRemote = false
\trecurseSubmodules = no
[submodule]
\trecurse = false
[advice]
\tfetchShowForcedUpdates = false
"""
_STRUCTURE = frozenset({KIND_COMMIT, KIND_TREE, KIND_TAG})
LAZY_REMOTE = "origin"
_LAZY_CONFIG = b"""\
[extensions]
\tpartialClone = origin
[remote "origin"]
\turl = %b
\tpromisor = true
\tpartialCloneFilter = blob:none
"""
_LOST = re.compile(r"(?:not our ref|\bwant) ([0-9a-f]{40})\b")
"""How servers say that they do not have what is wanted: git, an older git, JGit."""
_NOT_HERE = re.compile(r"could not fetch [0-9a-f]{40} from promisor remote")
"""How git says that it lacks what it wants to send."""
_BRANCHES_THERE = "+refs/heads/*:refs/avfs/there/*"
"""What a push fetches, into its own git directory, to know what the other side has."""
_PATIENCE_S = 600.0
"""So long a server may be silent in an exchange that a user asked for.

Today's servers are never silent for more than 5 s.
"""
_LAZY_PATIENCE_S = 60.0
"""So long a program that reads a file of a partial clone waits for a server that says nothing."""


@value_class
class Push:
    """One ref that the other side is to move."""

    ref: str
    """Its name there."""
    new: Oid | None
    """What it is to hold; None: it is removed."""
    expected: Oid | None = None
    """With `forced`: what it must hold for that; None: it must not exist."""
    forced: bool = False
    """Whether it may move to something that does not follow what it holds."""
    after: str | None = None
    """A ref of the same push that the other side has to take before."""


@value_class
class PushedRef:
    """What became of one ref."""

    ref: str
    outcome: PushOutcome
    reason: str = ""


# --- the three exchanges ------------------------------------------------------------------------------------


def clone_into(
    url: str, target: Path, *, access: Access = NO_ACCESS, progress: Progress | None = None, lazy: bool = False
) -> tuple[str, ...]:
    """Have git make a bare clone; return what the server said. Its configuration is git's: replace it.

    The target must not exist. With `lazy` the contents of files are left out, if the server can.

    Raises:
        RemoteError: If that fails; the caller removes what is there then.
    """
    with settings_file(target.parent, url, access) as settings:
        options = ["--bare", "--no-local", "--template=", "--progress" if progress else "--no-progress"]
        overrides = ["protocol.version=0"] if lazy else []  # a round trip less: the refs come with the first answer
        if lazy:
            options.append("--filter=blob:none")
        overrides += [
            "core.fsync=all",
            "core.hooksPath=/dev/null",
            # Of a partial clone git forgives nothing; it is judged below all the same.
            f"transfer.fsckObjects={'false' if lazy else 'true'}",
            "fetch.unpackLimit=1",
            "gc.auto=0",
        ]
        overrides += ["maintenance.auto=false", *(f"fetch.fsck.{name}=ignore" for name in TOLERATED)]
        environment = {"GIT_CONFIG_GLOBAL": os.fspath(settings)}
        command = ["clone", *options]
        with _told_of_silence(url):
            ended = run(
                target.parent,
                command,
                [url, os.fspath(target)],
                access,
                environment,
                overrides=overrides,
                progress=progress,
                patience_s=None if access.is_attended else _PATIENCE_S,
            )
        check_received(ended, url)
    if read_config(target).get("extensions.objectformat", ["sha1"])[-1] != "sha1":
        raise RemoteFormatUnsupported(hide_secret(url))
    _judge(url, target / "objects")
    return ended.messages


class Exchange:
    """A git directory for one exchange with one other repository. Used by one thread.

    Attributes:
        url: The other repository.
        patience_s: How long the other side may be silent before it is given up, in seconds, without a user at a
            terminal.
    """

    def __init__(
        self,
        git_dir: Path,
        place: Path,
        url: str,
        access: Access,
        settings: Sequence[tuple[str, str]],
        progress: Progress | None,
        *,
        lazy: bool,
    ) -> None:
        self._git_dir = git_dir
        self._place = place
        self.url = url
        self._settings = settings
        self._access = access
        self._progress = progress
        self._lazy = lazy
        self._held: list[Path] = []
        """Marks that keep git from collecting what came and no ref names yet."""
        self.patience_s = _PATIENCE_S

    def fetch(self, specs: Sequence[str], *, upload_pack: str | None = None) -> tuple[str, ...]:
        """Have git fetch; return what the server said.

        Then objects are judged and on disk in the vault, refs in `read_refs`.

        Refs that the other side no longer has are removed. `upload_pack` is the program that answers there.
        """
        options = ["--prune", "--no-write-fetch-head", "--no-auto-maintenance"]
        options += ["--no-recurse-submodules", "--no-show-forced-updates"]
        options += ["--filter=blob:none"] if self._lazy else []
        if upload_pack is not None:
            options.append(f"--upload-pack={upload_pack}")
        ended = self._git("fetch", [*options, self._progress_option()], [self._source(), *specs])
        check_received(ended, self.url)
        _judge(self.url, self._place / "objects")
        self._take_in()
        return ended.messages

    def fetch_objects(self, oids: Sequence[Oid]) -> None:
        """Have git bring single objects into a partial clone; they are then on disk.

        Raises:
            ObjectMissing: If the server says that it does not have one of them; then none has come.
        """
        options = [
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--no-recurse-submodules",
            "--filter=blob:none",
        ]
        with tempfile.TemporaryFile() as wanted:
            wanted.write(b"".join(oid.hex().encode("ascii") + b"\n" for oid in oids))
            wanted.seek(0)
            options += ["--stdin", self._progress_option()]
            # A server with a bitmap leaves out what the commits lead to that a client has: git tells of none here, too.
            overrides = ["fetch.negotiationAlgorithm=noop"]
            ended = self._git("fetch", options, [self._source()], given=wanted, overrides=overrides)
        if ended.status:
            _check_lost(ended, oids, self.url)
        check_received(ended, self.url)
        if not _holds_only_blobs(self._place / "objects" / "pack", set(oids)):  # mostly nothing else comes
            _judge(self.url, self._place / "objects")
        self._take_in()

    def _take_in(self) -> None:
        """Give the vault what a fetch has brought, in git's order: a pack is there when its index is.

        It is then on disk.
        """
        came, packs = self._place / "objects" / "pack", self._git_dir / "objects" / "pack"
        with host_errors("store what was fetched"):
            self._take_in_loose()
            packs.mkdir(exist_ok=True)
            for name in sorted(os.listdir(came), key=lambda name: name.endswith(".idx")):
                if name.endswith(".idx") and hold_pack(keep := (packs / name).with_suffix(".keep")):
                    self._held.append(keep)
                if name.startswith("pack-"):
                    os.replace(came / name, packs / name)
            reach("transport.fetched")
        fsync_dir(packs)  # git syncs no directory: the packs that arrived would be lost with their names

    def release(self) -> None:
        """Let git collect what came, once refs name it."""
        while self._held:
            release_pack(self._held.pop())

    def _take_in_loose(self) -> None:
        """Give the vault the loose objects that came: a web server that runs no git (gitprotocol-http) sends such."""
        source, target = self._place / "objects", self._git_dir / "objects"
        names = [oid.hex() for oid in list_loose(source)]
        if not names:
            return
        sync_file_system(source)  # git has not synced them
        for name in names:
            (target / name[:2]).mkdir(exist_ok=True)
            os.replace(source / name[:2] / name[2:], target / name[:2] / name[2:])
            reach("transport.took_loose")
        for name in {name[:2] for name in names}:
            fsync_dir(target / name)
        fsync_dir(target)

    def push(
        self, pushes: Sequence[Push], *, receive_pack: str | None = None
    ) -> tuple[list[PushedRef], tuple[str, ...]]:
        """Have git push; say what became of each ref, and what the server said."""
        self._check_receiver()
        options = ["--porcelain", "--no-verify", "--no-signed", "--no-follow-tags", "--recurse-submodules=no"]
        leases = [(push.ref, push.expected.hex() if push.expected else "") for push in pushes if push.forced]
        options += [f"--force-with-lease={ref}:{expected}" for ref, expected in leases]
        if receive_pack is not None:
            options.append(f"--receive-pack={receive_pack}")
        specs = [f"{push.new.hex() if push.new else ''}:{push.ref}" for push in pushes]
        # Old contents may not be here. A thin pack says how a content differs from one: without a window git looks for
        # none, for http it knows no `--no-thin`.
        overrides = ["pack.window=0"] if is_partial(self._git_dir) else []
        operands = [self.url, *specs]
        ended = self._git("push", [*options, self._progress_option()], operands, overrides=overrides)
        if self._lazy and any(_NOT_HERE.search(line) for line in ended.messages):
            self.fetch([_BRANCHES_THERE])  # git sends what it does not know the other side to have: now it does
            ended = self._git("push", [*options, self._progress_option()], operands, overrides=overrides)
        told = _parse_pushed(ended.output)
        found = [_find_pushed(push, told) for push in pushes]
        done = [ref for ref in found if ref is not None]
        if len(done) < len(pushes) or not any(ref.outcome == "rejected" for ref in done):
            check_ended(ended, self.url)  # a server can fail as a whole, and still say of each ref that all is well
        # Git says nothing of a ref that is gone on both sides.
        done += [PushedRef(push.ref, "unchanged") for push, ref in zip(pushes, found, strict=True) if ref is None]
        return done, ended.messages

    def _check_receiver(self) -> None:
        """Refuse to push into another user's repository on this machine, unless the caller's own git trusts it.

        What takes the push runs here and obeys its configuration and hooks. Newer versions of git refuse it by
        themselves.
        """
        path = local_path(self.url)
        git_dir = find_git_dir(path) if path is not None else None
        trusted = {value for key, value in self._settings if key == "safe.directory"}
        if path is None or git_dir is None or trusted & {"*", os.fspath(path), os.fspath(git_dir)}:
            return
        try:
            check_owner(common_dir(git_dir))
        except VaultUntrusted as error:
            reason = str(error.details["reason"])
            raise RemoteAccessDenied(hide_secret(self.url), reason, place=os.fspath(path)) from error

    def read_refs(self) -> dict[str, Oid]:
        """Return all refs as they are now."""
        return RefStore(self._place, recover=False).list("refs/")

    def read_shallow(self) -> bytes | None:
        """Return the content of `shallow`; None without a file."""
        with suppress(FileNotFoundError):
            return (self._place / "shallow").read_bytes()
        return None

    def _source(self) -> str:
        """Name the other side: by its URL, or as a remote where git must know that it has all that is missing here."""
        return LAZY_REMOTE if self._lazy else self.url

    def _progress_option(self) -> str:
        return "--progress" if self._progress is not None else "--no-progress"

    def _git(
        self,
        verb: str,
        options: Sequence[str],
        operands: Sequence[str],
        *,
        given: IO[bytes] | None = None,
        overrides: Sequence[str] = (),
    ) -> Ended:
        environment = {
            "GIT_DIR": os.fspath(self._place),
            "GIT_CONFIG_GLOBAL": os.fspath(self._place / "settings"),
        }
        patience_s = None if self._access.is_attended else self.patience_s
        with _told_of_silence(self.url):
            return run(
                self._place,
                [verb, *options],
                operands,
                self._access,
                environment,
                overrides=overrides,
                progress=self._progress,
                given=given,
                patience_s=patience_s,
                noted=True,
            )


def _holds_only_blobs(directory: Path, oids: AbstractSet[Oid]) -> bool:
    """Tell whether packs hold nothing but contents that were asked for. Costs reading the header of each entry."""
    with closing(PackSet(directory)) as packs:
        for pack in packs.packs():
            # A delta is of the kind of what it applies to, which is in the same pack.
            kinds = {pack.entry(offset)[0] for offset in pack.index.offsets()}
            if kinds & _STRUCTURE or not oids >= set(pack.index.oids()):
                return False
    return True


def _judge(url: str, objects_dir: Path) -> None:
    """Refuse what has come if it must not come in."""
    try:
        judge_objects(objects_dir, list_objects(objects_dir))
    except ObjectCorrupt as error:
        refused = RemoteDataRefused(hide_secret(url), error.message)
        refused.details.update(error.details)
        raise refused from error


def _check_lost(ended: Ended, oids: Sequence[Oid], url: str) -> None:
    """Say which object the server does not have any more, if it was asked for one and says so.

    Raises:
        ObjectMissing: If it does.
        RemoteAccessDenied: If it hands out no single objects.
    """
    if any("unadvertised object" in line for line in ended.messages):
        denied = RemoteAccessDenied(hide_secret(url), "it hands out no single objects, as lazy clones need them")
        denied.hint = (
            "A clone without `--lazy` works. For a lazy one the server has to let git's protocol 2 through (`AcceptEnv "
            "GIT_PROTOCOL` in sshd_config), or to have the setting `uploadpack.allowAnySHA1InWant`."
        )
        raise denied
    named = {match[1] for line in ended.messages for match in _LOST.finditer(line)}
    lost = next((oid for oid in oids if oid.hex() in named), None)
    if lost is not None:
        error = ObjectMissing(lost.hex())
        error.hint = "The server that the vault was cloned from does not have it any more."
        raise error


@contextmanager
def _told_of_silence(url: str) -> Iterator[None]:
    try:
        yield
    except Silent as error:
        raise RemoteUnreachable(hide_secret(url), error.reason) from error


@contextmanager
def open_exchange(
    git_dir: Path,
    url: str,
    refs: Mapping[str, Oid],
    *,
    access: Access = NO_ACCESS,
    progress: Progress | None = None,
    lazy: bool = False,
) -> Iterator[Exchange]:
    """Make a git directory for one exchange between a vault and the repository at a URL; it is gone afterwards.

    Git knows of the vault's refs only `refs`. With `lazy` the vault may lack contents of files, which that repository
    has.
    """
    parent = git_dir.absolute() / "avfs" / "exchange"
    with ExitStack() as stack:
        with host_errors(f"prepare an exchange in '{parent}'"):
            make_dirs_durably(parent)
            remove_abandoned(parent, "", first=_end_started)
            place = stack.enter_context(directory_filled(parent, ""))
            (place / "refs").mkdir()
            (place / "objects" / "pack").mkdir(parents=True)
            (place / "objects" / "info").mkdir()
            (place / "objects" / "info" / "alternates").write_bytes(
                quote_value(os.fsencode(git_dir.absolute() / "objects")) + b"\n"
            )
            config = _CONFIG + b'[fetch "fsck"]\n' + b"".join(b"\t%b = ignore\n" % name.encode() for name in TOLERATED)
            config += b"[core]\n\tsharedRepository = %b\n" % (b"0600" if is_private(git_dir) else b"group")
            if lazy:
                config = config.replace(b"fsckObjects = true", b"fsckObjects = false")  # as in `clone_into`
                config += _LAZY_CONFIG % quote_value(os.fsencode(url))
            (place / "config").write_bytes(config)
            (place / "packed-refs").write_bytes(format_packed(refs))
            with suppress(FileNotFoundError):
                shutil.copyfile(git_dir / "shallow", place / "shallow")
            (place / "HEAD").write_bytes(b"ref: refs/heads/avfs-has-none\n")
            settings = read_settings(place, url, access)
            (place / "settings").write_bytes(format_settings(settings))
        exchange = Exchange(git_dir, place, url, access, settings, progress, lazy=lazy)
        try:
            yield exchange
        finally:
            exchange.release()


def _end_started(place: Path) -> None:
    """End what a process that died had started for its exchange, and what may wait for a silent server for ever."""
    with suppress(OSError, ValueError):
        end_noted(place)


def _find_pushed(push: Push, told: Sequence[tuple[str, PushedRef]]) -> PushedRef | None:
    """Find what became of a ref: the first line about it counts.

    A server may store what it is sent under another name.
    """
    for _, ref in told:
        if ref.ref == push.ref:
            return ref
    for source, ref in told:
        if push.new is not None and source == push.new.hex():
            return PushedRef(push.ref, "rejected", f"the server stored it as {quote(ref.ref)}")
    return None


def _parse_pushed(output: bytes) -> list[tuple[str, PushedRef]]:
    """Read what `git push --porcelain` says: what was pushed, and what became of the ref.

    The server chooses some of the text.
    """
    outcomes: dict[str, PushOutcome] = {
        " ": "updated",
        "+": "forced",
        "-": "deleted",
        "*": "new",
        "!": "rejected",
        "=": "unchanged",
    }
    found = []
    for line in output.decode("utf-8", "replace").split("\n"):
        flag, _, rest = line.partition("\t")
        names, tab, summary = rest.partition("\t")
        if flag in outcomes and tab:
            reason = summary.rpartition("(")[2].rstrip(")") if flag == "!" and "(" in summary else ""
            source, _, ref = names.rpartition(":")
            found.append((source, PushedRef(ref, outcomes[flag], reason or (summary if flag == "!" else ""))))
    return found


def list_missing(git_dir: Path, tips: Sequence[Oid], known: Sequence[Oid]) -> list[Oid]:
    """List the objects that a partial clone lacks of what `tips` reach and `known` do not. Costs a walk over that.

    Raises:
        GitFailed: If there is no git, or a commit is missing.
    """
    listed = list_reached(git_dir, tips, known, "--no-object-names", "--missing=print").split()
    return [oid_of(line[1:]) for line in listed if line.startswith(b"?")]


def fetch_missing(git_dir: Path, access: Access, oids: Sequence[Oid]) -> None:
    """Bring objects that a partial clone lacks from the remote that it was cloned from.

    Raises:
        ObjectMissing: If that lacks one of them; then none has come.
        RemoteError: If that fails, or the vault knows no such remote any more.
    """
    remote = next((remote for remote in list_remotes(git_dir) if remote.lazy), None)
    if remote is None:
        raise RemoteNotFound(LAZY_REMOTE)
    check_url(remote.url, base=git_dir)
    with open_exchange(git_dir, remote.url, {}, access=access, lazy=True) as exchange:
        exchange.patience_s = _LAZY_PATIENCE_S
        exchange.fetch_objects(oids)

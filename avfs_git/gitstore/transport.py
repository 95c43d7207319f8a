"""Objects and refs to and from other repositories, through git itself.

Decided here: how git is run for clone, fetch and push, what of the user's own settings it gets, and what is believed of what it
says. Called by `workspace.remotes` without any lock; blocks for as long as the other side takes. Usable from threads.

**Git never sees the vault's configuration or refs.** Each exchange is made in a git directory of its own, below
`avfs/exchange/` in the vault: its `config` is written here, its `packed-refs` hold what the other side may learn of, and its
objects are those of the vault. What a fetch brings moves refs of that directory only; the caller reads them there and moves
the vault's own, all at once. So an exchange that is interrupted leaves objects that nothing refers to, and a directory that the
next one removes.

**What arrives** is checked by git as it comes (`fsckObjects`: ids, kinds, hostile names in trees and in `.gitmodules`) and on
disk before the caller is told. Two faults that old histories have and that harm nothing are let through.

**The user's settings** that an exchange needs (credentials, ssh, proxies, certificates, `insteadOf`) are taken by name from the
environment that the caller hands over and from the user's own git configuration; nothing else of either reaches git.
For a directory of this machine none is needed, and none is read.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

from avfs_git.errors import (
    AvfsError,
    GitFailed,
    InternalError,
    RemoteAccessDenied,
    RemoteDataRefused,
    RemoteError,
    RemoteUnreachable,
)
from avfs_git.faults import reach
from avfs_git.gitstore.refs import RefStore
from avfs_git.gitstore.remotes import PROTOCOLS, hide_secret, local_path
from avfs_git.gitstore.repository import quote_value
from avfs_git.host.durable import fsync_dir, host_errors, make_dirs_durably, sync_file_system
from avfs_git.host.removal import remove_tree
from avfs_git.paths import Oid
from avfs_git.values import value_class

Progress = Callable[[str, int, int], None]
"""Told what git is doing, how far it is, and of how much; 0 where that is not known."""

QUIET_RECEIVE_PACK = (
    "git -c core.hooksPath=/dev/null -c receive.denyCurrentBranch=refuse -c receive.denyDeleteCurrent=refuse"
    " -c receive.autogc=false receive-pack"
)
"""What takes a push into a repository of this machine without running its hooks or touching its working tree."""
_OPTIONS: Mapping[str, re.Pattern[str]] = {
    "clone": re.compile(r"--bare|--no-local|--template=|--no-progress|--progress|--no-tags|--filter=blob:none"),
    "fetch": re.compile(
        r"--no-write-fetch-head|--no-auto-maintenance|--no-recurse-submodules|--prune|--progress|--no-progress|--no-tags"
        r"|--filter=blob:none|--stdin|--refmap=|--no-show-forced-updates"
    ),
    "push": re.compile(
        r"--porcelain|--progress|--no-progress|--no-verify|--no-signed|--no-follow-tags|--atomic|--recurse-submodules=no"
        r"|--force-with-lease=refs/[^\s:]+:[0-9a-f]{0,40}"
        r"|--receive-pack=" + re.escape(QUIET_RECEIVE_PACK)
    ),
    "config": re.compile(r"--list|-z|--includes|--show-scope"),
}
"""The commands that are run here, and their options."""

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
"""
LAZY_REMOTE = "origin"
_LAZY_CONFIG = b"""\
[extensions]
\tpartialClone = origin
[remote "origin"]
\turl = %b
\tpromisor = true
\tpartialCloneFilter = blob:none
"""
_TOLERATED = ("badTimezone", "zeroPaddedFilemode")
"""What well-known histories hold, and what nothing here stumbles over."""
PROMPT = "GIT_TERMINAL_PROMPT"
"""Whether git may ask on the terminal, in its environment."""
_ENVIRONMENT: Mapping[str, str] = {
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": ":".join(PROTOCOLS),
    "GIT_PROTOCOL_FROM_USER": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_ADVICE": "0",
    PROMPT: "0",
}
_FROM_USER = re.compile(
    r"HOME|XDG_CONFIG_HOME|XDG_CACHE_HOME|XDG_RUNTIME_DIR|USER|LOGNAME|PATH|TERM|SSH_AUTH_SOCK|SSH_AGENT_PID|SSH_ASKPASS|SSH_ASKPASS_REQUIRE"
    r"|GIT_ASKPASS|GIT_SSH|GIT_SSH_COMMAND|GIT_SSH_VARIANT|GIT_PROXY_COMMAND|GIT_SSL_(?:CAINFO|CAPATH|CERT|KEY|NO_VERIFY|VERSION)"
    r"|GIT_HTTP_(?:USER_AGENT|LOW_SPEED_LIMIT|LOW_SPEED_TIME|PROXY_AUTHMETHOD)|SSL_CERT_(?:FILE|DIR)|GIT_TERMINAL_PROMPT"
    r"|https?_proxy|HTTPS?_PROXY|all_proxy|ALL_PROXY|no_proxy|NO_PROXY|DISPLAY|WAYLAND_DISPLAY|DBUS_SESSION_BUS_ADDRESS"
    r"|KRB5CCNAME|KRB5_CONFIG|GPG_TTY|GNUPGHOME"
)
"""What of the caller's environment git, ssh and credential helpers get."""
_FOR_CONFIG = re.compile(r"HOME|XDG_CONFIG_HOME|GIT_CONFIG_(?:GLOBAL|SYSTEM|NOSYSTEM|COUNT|KEY_\d+|VALUE_\d+)")
"""What says where the user's own configuration is."""
_SETTINGS = re.compile(
    r"credential\..*|http\..*|core\.(?:sshcommand|askpass|gitproxy)|ssh\.variant|url\..*\.(?:insteadof|pushinsteadof)|protocol\.version"
    r"|safe\.directory",
    re.DOTALL,
)
"""What of the user's own configuration an exchange gets."""
_OWN_SCOPES = frozenset({"system", "global", "command"})

_PROGRESS = re.compile(r"(?:remote: )?([A-Za-z][A-Za-z ]+):\s+(?:\d+% \((\d+)/(\d+)\)|(\d+))")
_MESSAGES_KEPT = 200
_LINE_MAX = 2000


class Access:
    """What of its user's own an exchange may use. Immutable; shared by threads."""

    __slots__ = ("environment",)

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """Use an environment.

        Args:
            environment: Where credentials, ssh and proxies are named, as git has them; of the rest nothing is used. Git asks
                for a user and a password on the terminal only where this holds `GIT_TERMINAL_PROMPT=1`.
        """
        names = [name for name in environment or () if _FROM_USER.fullmatch(name) or _FOR_CONFIG.fullmatch(name)]
        self.environment: Mapping[str, str] = {name: environment[name] for name in names} if environment is not None else {}

    def without_prompts(self) -> Mapping[str, str]:
        """Give the environment for a process that nobody sits before: git asks nothing on its terminal."""
        return {name: value for name, value in self.environment.items() if name != PROMPT}


NO_ACCESS = Access()


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


@value_class
class PushedRef:
    """What became of one ref."""

    ref: str
    outcome: str
    """`new`, `updated`, `forced`, `deleted`, `unchanged` or `rejected`."""
    reason: str = ""


@value_class
class Ended:
    """How a command of git ended."""

    status: int
    output: bytes
    messages: tuple[str, ...]
    """What it said, progress left out."""


# --- the three exchanges ------------------------------------------------------------------------------------


def clone_into(
    url: str, target: Path, *, access: Access = NO_ACCESS, progress: Progress | None = None, lazy: bool = False
) -> tuple[str, ...]:
    """Have git make a bare clone: objects, branches, tags and HEAD. Its configuration is git's: replace it.

    Args:
        url: From where, as `check_url` gave it.
        target: A directory that is not there yet.
        access: What of the user's own may be used.
        progress: Told how far it is.
        lazy: Leave out the contents of files, if the server can.

    Returns:
        What the server said.

    Raises:
        RemoteError: If that fails; what is there then is to be removed.
    """
    with _settings_file(target.parent, url, access) as settings:
        options = ["--bare", "--no-local", "--template=", "--progress" if progress else "--no-progress"]
        overrides = ["protocol.version=0"] if lazy else []  # a round trip less: the refs come with the first answer
        if lazy:
            options.append("--filter=blob:none")
        overrides += [
            "core.fsync=all",
            "core.hooksPath=/dev/null",
            "transfer.fsckObjects=true",
            "fetch.unpackLimit=1",
            "gc.auto=0",
        ]
        overrides += ["maintenance.auto=false", *(f"fetch.fsck.{name}=ignore" for name in _TOLERATED)]
        environment = {"GIT_CONFIG_GLOBAL": os.fspath(settings)}
        command = ["clone", *options]
        ended = _run(
            target.parent, command, [url, os.fspath(target)], access, environment, overrides=overrides, progress=progress
        )
        _check_ended(ended, url)
    return ended.messages


class Exchange:
    """A git directory for one exchange with one other repository. Used by one thread."""

    def __init__(self, git_dir: Path, place: Path, url: str, access: Access, progress: Progress | None, *, lazy: bool) -> None:
        self._git_dir = git_dir
        self._place = place
        self._url = url
        self._access = access
        self._progress = progress
        self._lazy = lazy

    def fetch(self, specs: Sequence[str], *, prune: bool = True) -> tuple[str, ...]:
        """Have git fetch; its objects are then in the vault, on disk, and the refs in `read_refs`.

        Returns:
            What the server said.

        Raises:
            RemoteError: If that fails.
        """
        options = ["--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules", "--no-show-forced-updates"]
        options += ["--prune"] if prune else []
        options += ["--filter=blob:none"] if self._lazy else []
        ended = self._git("fetch", [*options, self._progress_option()], [self._source(), *specs])
        _check_ended(ended, self._url)
        with host_errors("store what was fetched"):
            reach("transport.fetched")
        fsync_dir(self._git_dir / "objects" / "pack")  # git does not: the packs that arrived would be lost with their names
        return ended.messages

    def fetch_objects(self, oids: Sequence[Oid]) -> None:
        """Have git bring single objects into a lazy vault; they are then on disk.

        Raises:
            RemoteError: If that fails.
        """
        options = ["--no-tags", "--no-write-fetch-head", "--no-auto-maintenance", "--no-recurse-submodules", "--filter=blob:none"]
        with tempfile.TemporaryFile() as wanted:
            wanted.write(b"".join(oid.hex().encode("ascii") + b"\n" for oid in oids))
            wanted.seek(0)
            ended = self._git("fetch", [*options, "--stdin", self._progress_option()], [self._source()], given=wanted)
        _check_ended(ended, self._url)
        with host_errors("store what was fetched"):
            reach("transport.fetched")
        fsync_dir(self._git_dir / "objects" / "pack")

    def push(self, pushes: Sequence[Push], *, receive_pack: str | None = None) -> tuple[list[PushedRef], tuple[str, ...]]:
        """Have git push; say what became of each ref, and what the server said.

        Raises:
            RemoteError: If the exchange as a whole fails.
        """
        options = ["--porcelain", "--no-verify", "--no-signed", "--no-follow-tags", "--recurse-submodules=no"]
        leases = [(push.ref, push.expected.hex() if push.expected else "") for push in pushes if push.forced]
        options += [f"--force-with-lease={ref}:{expected}" for ref, expected in leases]
        if receive_pack is not None:
            options.append(f"--receive-pack={receive_pack}")
        specs = [f"{push.new.hex() if push.new else ''}:{push.ref}" for push in pushes]
        ended = self._git("push", [*options, self._progress_option()], [self._url, *specs])
        done = _parse_pushed(ended.output)
        if {push.ref for push in pushes} - {ref.ref for ref in done}:
            _check_ended(ended, self._url)
            # Git says nothing of a ref that is gone on both sides.
            known = {ref.ref for ref in done}
            done += [PushedRef(push.ref, "unchanged") for push in pushes if push.ref not in known]
        return done, ended.messages

    def read_refs(self) -> dict[str, Oid]:
        """Return all refs as they are now."""
        return RefStore(self._place, recover=False).list("refs/")

    def read_shallow(self) -> bytes | None:
        """Return what `shallow` holds; None if there is none."""
        with suppress(FileNotFoundError):
            return (self._place / "shallow").read_bytes()
        return None

    def _source(self) -> str:
        """Name the other side: by its address, or where git is to know that it has all that is missing here, as a remote."""
        return LAZY_REMOTE if self._lazy else self._url

    def _progress_option(self) -> str:
        return "--progress" if self._progress is not None else "--no-progress"

    def _git(self, verb: str, options: Sequence[str], operands: Sequence[str], *, given: IO[bytes] | None = None) -> Ended:
        environment = {
            "GIT_DIR": os.fspath(self._place),
            "GIT_OBJECT_DIRECTORY": os.fspath(self._git_dir.absolute() / "objects"),
            "GIT_CONFIG_GLOBAL": os.fspath(self._place / "settings"),
        }
        return _run(self._place, [verb, *options], operands, self._access, environment, progress=self._progress, given=given)


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
    """Make a git directory for one exchange; it is gone afterwards.

    Args:
        git_dir: The vault, whose objects are sent and to which objects are added.
        url: The other repository, as `check_url` gave it.
        refs: What git is to know of the vault's refs.
        access: What of the user's own may be used.
        progress: Told how far it is.
        lazy: Whether the vault may lack contents of files, which this repository has.

    Raises:
        HostError: If the disk refuses.
    """
    parent = git_dir.absolute() / "avfs" / "exchange"
    make_dirs_durably(parent)
    remove_abandoned(parent)
    place = parent / f"{os.getpid()}-{os.urandom(4).hex()}"
    try:
        with host_errors(f"prepare an exchange in '{parent}'"):
            (place / "refs").mkdir(parents=True)
            config = _CONFIG + b"".join(b'[fetch "fsck"]\n\t%b = ignore\n' % name.encode() for name in _TOLERATED)
            if lazy:
                config += _LAZY_CONFIG % quote_value(os.fsencode(url))
            (place / "config").write_bytes(config)
            lines = sorted((os.fsencode(name), oid.hex().encode("ascii")) for name, oid in refs.items())
            packed = b"# pack-refs with: sorted \n" + b"".join(b"%b %b\n" % (oid, name) for name, oid in lines)
            (place / "packed-refs").write_bytes(packed)
            with suppress(FileNotFoundError):
                shutil.copyfile(git_dir / "shallow", place / "shallow")
            (place / "HEAD").write_bytes(b"ref: refs/heads/avfs-has-none\n")
            (place / "settings").write_bytes(_format_settings(_read_settings(place, url, access)))
        yield Exchange(git_dir, place, url, access, progress, lazy=lazy)
    finally:
        with suppress(OSError, AvfsError):  # what stays is removed by the next one
            remove_tree(place)


def remove_abandoned(parent: Path) -> None:
    """Remove the exchanges of processes that died."""
    with suppress(OSError):
        for entry in list(parent.iterdir()):
            pid = entry.name.partition("-")[0]
            if pid.isascii() and pid.isdigit() and not _is_alive(int(pid)):
                with suppress(OSError, AvfsError):
                    remove_tree(entry)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's
        return True
    return True


# --- the user's settings -------------------------------------------------------------------------------------


@contextmanager
def _settings_file(directory: Path, url: str, access: Access) -> Iterator[Path]:
    place = directory / f".settings-{os.getpid()}-{os.urandom(4).hex()}"
    with host_errors(f"write '{place}'"):
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(_format_settings(_read_settings(directory, url, access)))
    try:
        yield place
    finally:
        with suppress(OSError):
            place.unlink()


def _read_settings(directory: Path, url: str, access: Access) -> list[tuple[str, str]]:
    """Read what of the user's own configuration an exchange needs, in order."""
    path = local_path(url)
    with suppress(OSError):
        if path is not None and path.stat().st_uid == os.geteuid():
            return []
    if not access.environment.get("HOME") and not access.environment.get("GIT_CONFIG_GLOBAL"):
        return []
    environment = {name: value for name, value in access.environment.items() if _FOR_CONFIG.fullmatch(name)}
    # A git directory that is none: git must not find a repository of somebody's above the place where it runs.
    environment |= {"GIT_DIR": os.fspath(directory / "none")}
    ended = _run(directory, ["config", "--list", "-z", "--includes", "--show-scope"], [], NO_ACCESS, environment, own_config=True)
    if ended.status:
        return []
    words = ended.output.decode("utf-8", "surrogateescape").split("\0")
    found = []
    for scope, setting in zip(words[::2], words[1::2], strict=False):
        key, newline, value = setting.partition("\n")
        if scope in _OWN_SCOPES and _SETTINGS.fullmatch(key):
            found.append((key, value if newline else "true"))
    return found


def _format_settings(settings: Sequence[tuple[str, str]]) -> bytes:
    lines = [b"[safe]\n\tbareRepository = explicit\n"]
    for key, value in settings:
        section, _, rest = key.partition(".")
        subsection, _, name = rest.rpartition(".")
        head = section.encode()
        if subsection:
            inner = os.fsencode(subsection).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
            head += b' "%b"' % inner
        lines.append(b"[%b]\n\t%b = %b\n" % (head, name.encode(), quote_value(os.fsencode(value))))
    return b"".join(lines)


# --- running git ---------------------------------------------------------------------------------------------


def _run(
    directory: Path,
    command: Sequence[str],
    operands: Sequence[str],
    access: Access,
    environment: Mapping[str, str],
    *,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
    own_config: bool = False,
    given: IO[bytes] | None = None,
) -> Ended:
    """Run git, with its environment made anew; operands stand where none can be taken for an option."""
    verb, *options = command
    allowed = _OPTIONS[verb]
    if not all(allowed.fullmatch(option) for option in options):
        raise InternalError(f"git {verb} is not to be run with {options!r}")
    names = {name: value for name, value in access.environment.items() if _FROM_USER.fullmatch(name)}
    program = shutil.which("git", path=names.get("PATH") or None)
    if program is None:
        raise GitFailed(verb, "git is not installed")
    program = os.path.abspath(program)
    try:
        import git  # noqa: PLC0415 - its import runs git, and takes longer than most commands
    except ImportError as error:
        raise GitFailed(verb, str(error).strip().splitlines()[0]) from error

    wanted = {"PATH": f"{os.path.dirname(program)}:{os.defpath}", **_ENVIRONMENT, **names, **environment}
    if own_config:
        wanted = {name: value for name, value in wanted.items() if name != "GIT_CONFIG_NOSYSTEM" or name in environment}
    # GitPython adds to the environment that it inherits. `env -u` takes all of that away, and no value, which may be a
    # password, stands on a command line.
    inherited = [name for name in os.environ if name not in wanted]  # noqa: TID251 - names only, to take them away
    argv = ["env", *(f"-u{name}" for name in inherited), program]
    for override in overrides:
        argv += ["-c", override]
    argv += [verb, *options]
    if operands:
        argv += ["--end-of-options", *operands]
    with host_errors(f"run git {verb}"):
        held = git.Git(directory).execute(argv, as_process=True, env=wanted, istream=cast("BinaryIO | None", given))
        process: Any = held.proc  # a Popen; GitPython is not sure of that
        try:
            return _follow(process, progress)
        except BaseException:
            # Ctrl-C, or a progress that failed: nothing of git may go on. Its own children end with their pipes.
            with suppress(OSError):
                process.terminate()
            with suppress(Exception):
                process.wait(10)
            raise


def _follow(process: Any, progress: Progress | None) -> Ended:
    """Read what git says until it ends."""
    output: list[bytes] = []
    reader = threading.Thread(target=lambda: output.append(process.stdout.read()), name="git-output", daemon=True)
    reader.start()
    messages: list[str] = []
    pending = b""
    while chunk := os.read(process.stderr.fileno(), 65536):
        *lines, pending = re.split(rb"[\r\n]", pending + chunk)
        pending = pending[-_LINE_MAX:]
        for line in lines:
            _note(line, messages, progress)
    _note(pending, messages, progress)
    reader.join()
    status = process.wait()
    process.stdout.close()
    process.stderr.close()
    return Ended(int(status), b"".join(output), tuple(messages))


def _note(line: bytes, messages: list[str], progress: Progress | None) -> None:
    text = line.decode("utf-8", "replace").removesuffix("\x1b[K").rstrip()[:_LINE_MAX]
    if not text:
        return
    match = _PROGRESS.match(text)
    if match is not None:
        if progress is not None:
            done, total = (int(match[2]), int(match[3])) if match[2] else (int(match[4]), 0)
            progress(match[1].strip(), done, total)
        return
    messages.append(text)
    del messages[:-_MESSAGES_KEPT]


def _parse_pushed(output: bytes) -> list[PushedRef]:
    """Read what `git push --porcelain` says of each ref."""
    outcomes = {" ": "updated", "+": "forced", "-": "deleted", "*": "new", "!": "rejected", "=": "unchanged"}
    found = []
    for line in output.decode("utf-8", "surrogateescape").splitlines():
        flag, _, rest = line.partition("\t")
        names, tab, summary = rest.partition("\t")
        if flag in outcomes and tab:
            reason = summary.rpartition("(")[2].rstrip(")") if flag == "!" and "(" in summary else ""
            found.append(PushedRef(names.rpartition(":")[2], outcomes[flag], reason or (summary if flag == "!" else "")))
    return found


_DENIED = re.compile(
    r"Authentication failed|could not read (?:Username|Password)|Permission denied|Host key verification failed"
    r"|requested URL returned error: 40[13]|terminal prompts disabled|dubious ownership",
    re.IGNORECASE,
)
_BAD_DATA = re.compile(
    r"fsck|index-pack (?:died|failed|abnormal)|invalid index-pack|did not send all necessary objects"
    r"|unpack-objects (?:died|failed)|pack has bad|unresolved delta|missing necessary objects|inflate|bad object|hash mismatch"
    r"|repository corruption|bad pack header",
    re.IGNORECASE,
)
_UNREACHABLE = re.compile(
    r"could not read from remote|unable to access|unable to connect|not appear to be a git repository|repository .* not found"
    r"|early EOF|hung up|could not resolve|connection (?:refused|reset|timed out|closed)|not found|does not exist"
    r"|unable to look up|returned error|Broken pipe|expected flush|protocol error|service not enabled|no such remote"
    r"|transport .* not allowed|remote error|RPC failed|invalid server response|unexpected disconnect",
    re.IGNORECASE,
)


def _check_ended(ended: Ended, url: str) -> None:
    """Say what went wrong, if something did, by what git said."""
    if not ended.status:
        return
    said = [line for line in ended.messages if not line.startswith(("hint: ", "warning: "))]
    own = [line.removeprefix("fatal: ").removeprefix("error: ") for line in said if not line.startswith("remote: ")]
    shown = hide_secret(url)
    text = "\n".join(said)
    for pattern, kind in ((_BAD_DATA, RemoteDataRefused), (_DENIED, RemoteAccessDenied), (_UNREACHABLE, RemoteUnreachable)):
        line = next((line for line in own if pattern.search(line)), None)
        if line is None and pattern.search(text):
            line = next(line for line in said if pattern.search(line))
        if line is not None:
            raise kind(shown, hide_secret(line)[:300])
    reason = hide_secret(own[-1])[:300] if own else f"git ended with status {ended.status}"
    raise RemoteError(f"the exchange with '{shown}' failed: {reason}", details={"url": shown, "reason": reason})


def sync_clone(target: Path) -> None:
    """Put a whole clone on disk.

    Raises:
        HostError: If the disk refuses.
    """
    sync_file_system(target)
    if sys.platform != "linux":
        fsync_dir(target)

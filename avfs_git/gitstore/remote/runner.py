"""Running git against other repositories: what it and what it starts get, and what their words mean.

Decided here: which commands are run, in which surroundings, what of the user's own settings and environment they see,
how long a silent server is waited for, and which error a message stands for. Called by `transport`, from any thread,
without any lock; blocks for as long as the other side takes.

**What git takes of memory** is bounded for each process, because a server chooses what git has to hold: a pack of some
kilobytes can hold a delta that makes gigabytes.

**The user's settings** that an exchange needs (credentials, ssh, proxies, certificates, `insteadOf`) are taken by name
from the environment that the caller hands over and from the user's own git configuration; nothing else of either
reaches git. For a directory of this machine none is needed, and none is read.

Nothing is kept here. A crash leaves children, most of which end with their pipes. A git that waits for a silent server
does not: where a caller wants that, what is started is noted in the directory where it runs, and the process that finds
that directory abandoned ends it (`end_noted`).
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from avfs_git.errors import (
    NO_SPACE,
    GitFailed,
    HostError,
    InternalError,
    RemoteAccessDenied,
    RemoteDataRefused,
    RemoteError,
    RemoteFormatUnsupported,
    RemoteUnreachable,
    hide_user,
)
from avfs_git.gitstore.config.gitconfig import format_config
from avfs_git.gitstore.gitcommand import find_full
from avfs_git.gitstore.remote.remotes import PROTOCOLS, hide_secret, local_path
from avfs_git.host.files.durable import host_errors, write_all
from avfs_git.host.processes.descriptors import is_readable
from avfs_git.host.processes.processes import await_end, list_family, measure_work, send_signal, start_time
from avfs_git.progress import Progress
from avfs_git.values import value_class

QUIET_RECEIVE_PACK = (
    "git -c core.hooksPath=/dev/null -c core.alternateRefsCommand=true -c receive.denyCurrentBranch=refuse"
    " -c receive.denyDeleteCurrent=refuse -c receive.autogc=false receive-pack"
)
"""What takes a push into a repository of this machine without running its hooks or touching its working tree."""
SHOWING_UPLOAD_PACK = (
    "git -c 'transfer.hideRefs=!refs/avfs/sidecar' -c 'transfer.hideRefs=!refs/avfs/checkpoints' upload-pack"
)
"""What answers a fetch from a vault that is asked for labels and sidecars: these are hidden from all others."""
_OPTIONS: Mapping[str, re.Pattern[str]] = {
    "clone": re.compile(r"--bare|--no-local|--template=|--no-progress|--progress|--no-tags|--filter=blob:none"),
    "fetch": re.compile(
        r"--no-write-fetch-head|--no-auto-maintenance|--no-recurse-submodules|--prune|--progress|--no-progress|--no-tags"
        r"|--filter=blob:none|--stdin|--refmap=|--no-show-forced-updates"
        r"|--upload-pack=" + re.escape(SHOWING_UPLOAD_PACK)
    ),
    "push": re.compile(
        r"--porcelain|--progress|--no-progress|--no-verify|--no-signed|--no-follow-tags|--atomic|--recurse-submodules=no"
        r"|--force-with-lease=refs/[^\s:]+:[0-9a-f]{0,40}"
        r"|--receive-pack=" + re.escape(QUIET_RECEIVE_PACK)
    ),
    "config": re.compile(r"--list|-z|--includes|--show-scope"),
}
"""The commands that are run here, and their options."""

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
_LOOK_S = 5.0
"""How often it is looked whether git does anything."""
_END_S = 10.0
_NOTED = "started-"
_BOUNDED = 'ulimit -S -d "$0" 2>/dev/null; exec "$@"'
"""Starts a program that may take so many KiB of memory of its own; mapped packs do not count."""
_importing = threading.Lock()
_MEMORY_MIN = 1 << 30
_MEMORY_SHARE = 2
"""The part of the machine's memory that one process of an exchange may take: a half."""


class Access:
    """What of its user's own an exchange may use. Immutable; shared by threads."""

    __slots__ = ("environment",)

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """Take from an environment what names credentials, ssh and proxies; nothing else of it is used.

        Git asks for a user and a password on the terminal only where the environment holds `GIT_TERMINAL_PROMPT=1`.
        """
        names = [name for name in environment or () if _FROM_USER.fullmatch(name) or _FOR_CONFIG.fullmatch(name)]
        self.environment: Mapping[str, str] = (
            {name: environment[name] for name in names} if environment is not None else {}
        )

    @property
    def is_attended(self) -> bool:
        """Whether a user at a terminal can be asked, and sees when nothing happens."""
        return self.environment.get(PROMPT) == "1"

    def without_prompts(self) -> Mapping[str, str]:
        """Give the environment for a process without a user: git asks nothing on its terminal."""
        return {name: value for name, value in self.environment.items() if name != PROMPT}


NO_ACCESS = Access()


@value_class
class Ended:
    """How a command of git ended."""

    status: int
    output: bytes
    messages: tuple[str, ...]
    """What it said, progress left out."""


# --- the user's settings -------------------------------------------------------------------------------------


@contextmanager
def settings_file(directory: Path, url: str, access: Access) -> Iterator[Path]:
    """Write what an exchange gets of the user's own configuration to a file, which is gone afterwards."""
    place = directory / f".settings-{os.getpid()}-{os.urandom(4).hex()}"
    with host_errors(f"write '{place}'"):
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(format_settings(read_settings(directory, url, access)))
    try:
        yield place
    finally:
        with suppress(OSError):
            place.unlink()


def read_settings(directory: Path, url: str, access: Access) -> list[tuple[str, str]]:
    """Read what of the user's own configuration an exchange needs, in order."""
    path = local_path(url)
    with suppress(OSError):
        if path is not None and path.stat().st_uid == os.geteuid():
            return []
    if not access.environment.get("HOME") and not access.environment.get("GIT_CONFIG_GLOBAL"):
        return []
    environment = {name: value for name, value in access.environment.items() if _FOR_CONFIG.fullmatch(name)}
    # A missing git directory: git must not find a repository above the directory where it runs.
    environment |= {"GIT_DIR": os.fspath(directory / "none")}
    ended = run(
        directory, ["config", "--list", "-z", "--includes", "--show-scope"], [], NO_ACCESS, environment, own_config=True
    )
    if ended.status:
        return []
    words = ended.output.decode("utf-8", "surrogateescape").split("\0")
    found = []
    for scope, setting in zip(words[::2], words[1::2], strict=False):
        key, newline, value = setting.partition("\n")
        if scope in _OWN_SCOPES and _SETTINGS.fullmatch(key):
            found.append((key, value if newline else "true"))
    return found


def format_settings(settings: Sequence[tuple[str, str]]) -> bytes:
    """Write settings as git reads them."""
    return b"[safe]\n\tbareRepository = explicit\n" + format_config(settings)


# --- running git ---------------------------------------------------------------------------------------------


def run(
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
    patience_s: float | None = None,
    noted: bool = False,
) -> Ended:
    """Run git, with its environment made anew; operands stand where none can be taken for an option.

    The command holds only options that avfs uses; `overrides` are settings for this run. After `patience_s` seconds in
    which neither side did anything git is ended. The other arguments are those of `start`.

    Raises:
        Silent: If nothing was heard or done for too long.
    """
    verb, *options = command
    allowed = _OPTIONS[verb]
    if not all(allowed.fullmatch(option) for option in options):
        raise InternalError(f"git {verb} is not to be run with {options!r}")
    words = ["git", *(word for override in overrides for word in ("-c", override)), verb, *options]
    if operands:
        words += ["--end-of-options", *operands]
    with host_errors(f"run git {verb}"):
        process = start(directory, words, access, environment, own_config=own_config, given=given, noted=noted)
        try:
            return _follow(process, progress, _Patience(process.pid, patience_s) if patience_s is not None else None)
        except BaseException:
            # Ctrl-C, or a progress that failed: nothing of git may go on.
            end(process)
            raise


def start(
    directory: Path,
    words: Sequence[str],
    access: Access,
    environment: Mapping[str, str],
    *,
    own_config: bool = False,
    given: IO[bytes] | int | None = None,
    noted: bool = False,
) -> subprocess.Popen[bytes]:
    """Start git, or another program that it would start, with an environment made anew and a bound on its memory.

    `access` and `environment` are all that it gets; with `own_config` it sees the system's configuration, too. `given`
    is its standard input. With `noted` it is noted in the directory, for `end_noted`.
    """
    names = {name: value for name, value in access.environment.items() if _FROM_USER.fullmatch(name)}
    program = shutil.which("git", path=names.get("PATH") or None)
    if program is None:
        raise GitFailed(words[1], "git is not installed")
    program = os.path.abspath(program)
    wanted = {"PATH": f"{os.path.dirname(program)}:{os.defpath}", **_ENVIRONMENT, **names, **environment}
    if own_config:
        wanted = {name: value for name, value in wanted.items() if name != "GIT_CONFIG_NOSYSTEM" or name in environment}
    # GitPython adds to the environment that it inherits. `env -u` takes all of that away, and no value, which may be a
    # password, stands on a command line.
    inherited = [name for name in os.environ if name not in wanted]  # noqa: TID251 - names only, to take them away
    bounded = [
        "/bin/sh",
        "-c",
        _BOUNDED,
        str(_most_memory() >> 10),
        program if words[0] == "git" else words[0],
        *words[1:],
    ]
    argv = ["env", *(f"-u{name}" for name in inherited), *bounded]
    held = _import_gitpython().Git(directory).execute(argv, as_process=True, env=wanted, istream=given)
    process: subprocess.Popen[bytes] = held.proc
    held.proc = None  # else it ends with GitPython's wrapper object
    if noted:
        try:
            (directory / f"{_NOTED}{process.pid}").write_bytes(_describe_start(directory, process.pid))
        except OSError:
            end(process)
            raise
    return process


def _import_gitpython() -> Any:
    """Import GitPython, whose import runs `git version` in the environment of this process, but writes no traces."""
    with _importing:
        names = [] if "git" in sys.modules else [name for name in os.environ if name.startswith("GIT_TRACE")]  # noqa: TID251 - see above
        traces = {name: os.environ.pop(name) for name in names}  # noqa: TID251 - as above
        try:
            import git  # noqa: PLC0415 - takes longer than most commands
        except ImportError as error:
            raise GitFailed("version", str(error).strip().splitlines()[0]) from error
        finally:
            os.environ.update(traces)  # noqa: TID251 - as above
    return git


def _most_memory() -> int:
    """Say how many bytes of memory a process may take: never more than the user allows."""
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    allowed = resource.getrlimit(resource.RLIMIT_DATA)[0]
    most = max(whole // _MEMORY_SHARE, _MEMORY_MIN)
    return most if allowed == resource.RLIM_INFINITY else min(most, allowed)


def _describe_start(directory: Path, pid: int) -> bytes:
    """Return start time and the directory's inode number, so that a note in a copied directory does not match."""
    return b"%d %d" % (start_time(pid) or 0, directory.stat().st_ino)


def end_noted(directory: Path) -> None:
    """End what was started in a directory by a process that is gone, with all that it started. Does not wait for it.

    A note in a copy of the directory says nothing.

    Raises:
        OSError, ValueError: If what is noted cannot be read.
    """
    if directory.stat().st_uid != os.geteuid():  # root ends no process because of another user's file
        return
    for note_of in directory.glob(f"{_NOTED}*"):
        pid = int(note_of.name.removeprefix(_NOTED))
        if note_of.read_bytes() == _describe_start(directory, pid):
            family = [(each, start_time(each)) for each in list_family(pid)]
            for each, started in family:
                if started is not None:
                    send_signal(each, started, signal.SIGTERM)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a program with all that it started."""
    for pid in list_family(process.pid) if process.poll() is None else ():
        with suppress(OSError):
            os.kill(pid, signal.SIGTERM)
    if not await_end(process, _END_S):
        process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        with suppress(OSError, ValueError):
            if pipe is not None:
                pipe.close()


class Silent(Exception):
    """Nothing was heard from the other side, and nothing done here, for too long."""

    def __init__(self, seconds: float) -> None:
        self.reason = f"it has said nothing for {seconds:.0f} s"
        super().__init__(self.reason)


class _Patience:
    """How long git, with every git that it started, may go on without reading, writing or computing.

    What ssh does does not count: it keeps a connection alive to a server that hangs.
    """

    def __init__(self, pid: int, limit_s: float) -> None:
        self._pid = pid
        self._limit_s = limit_s
        self._work: list[object] = []
        self._since = time.monotonic()

    def wait(self, fd: int) -> None:
        """Wait until something can be read."""
        while not is_readable(fd, min(_LOOK_S, self._limit_s / 4)):
            done = [(pid, measure_work(pid)) for pid in list_family(self._pid)]
            work: list[object] = [each for each in done if each[1] is not None and each[1][0].startswith(b"git")]
            if not done or done[0][1] is None:  # a system that does not tell
                return
            if work != self._work:
                self._work, self._since = work, time.monotonic()
            elif time.monotonic() - self._since > self._limit_s:
                raise Silent(self._limit_s)


def _follow(process: subprocess.Popen[bytes], progress: Progress | None, patience: _Patience | None) -> Ended:
    """Read what git says until it ends."""
    source, said = process.stdout, process.stderr
    assert source is not None and said is not None  # noqa: S101, PT018 - `start` asks for both
    output: list[bytes] = []
    reader = threading.Thread(target=lambda: output.append(source.read()), name="git-output", daemon=True)
    reader.start()
    messages: list[str] = []
    pending = b""
    fd = said.fileno()
    while True:
        if patience is not None:
            patience.wait(fd)
        chunk = os.read(fd, 65536)
        if not chunk:
            break
        *lines, pending = re.split(rb"[\r\n]", pending + chunk)
        pending = pending[-_LINE_MAX:]
        for line in lines:
            note(line, messages, progress)
    note(pending, messages, progress)
    reader.join()
    status = process.wait()
    source.close()
    said.close()
    return Ended(int(status), b"".join(output), tuple(messages))


def note(line: bytes, messages: list[str], progress: Progress | None = None) -> None:
    """Keep a line that git said, or tell its progress."""
    text = hide_user(line.decode("utf-8", "replace").removesuffix("\x1b[K").rstrip()[:_LINE_MAX])
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


_DENIED = re.compile(
    r"Authentication failed|could not read (?:Username|Password)|Permission denied|Host key verification failed"
    r"|requested URL returned error: 40[13]|terminal prompts disabled",
    re.IGNORECASE,
)
_OF_ANOTHER = re.compile(r"dubious ownership in repository at '(.+)'")
_BAD_DATA = re.compile(
    r"object [0-9a-f]{40}: |fsck|did not send all necessary objects|pack has bad|unresolved delta"
    r"|missing necessary objects|inflate|bad object|hash mismatch|repository corruption|bad pack header|out of memory",
    re.IGNORECASE,
)
_CUT = re.compile(r"unexpected disconnect")
"""The connection ended in the middle; what reads the pack then ends, too."""
_NOT_READ = re.compile(
    r"index-pack (?:died|failed|abnormal)|invalid index-pack|unpack-objects (?:died|failed)", re.IGNORECASE
)
_UNREACHABLE = re.compile(
    r"could not read from remote|unable to access|unable to connect|not appear to be a git repository"
    r"|repository .* not found"
    r"|early EOF|hung up|could not resolve|connection (?:refused|reset|timed out|closed)|not found|does not exist"
    r"|unable to look up|returned error|Broken pipe|expected flush|protocol error|service not enabled|no such remote"
    r"|transport .* not allowed|remote error|RPC failed|invalid server response|unexpected disconnect",
    re.IGNORECASE,
)
_UNWRITTEN = re.compile(r"couldn't write '(/.+\.lock)'")
_OTHER_IDS = re.compile(r"mismatched algorithms|does not support this repository's hash algorithm")
_BLOCK = 4096


def check_received(ended: Ended, url: str) -> None:
    """The same as `check_ended`, of something that stores objects here.

    Raises:
        HostError: If the disk took no more.
        RemoteError: If anything else went wrong.
    """
    if ended.status:
        here = "\n".join(line for line in ended.messages if not line.startswith("remote: "))
        if (full := find_full(here)) is not None:
            raise HostError("store what was fetched", full)
        if (unwritten := _UNWRITTEN.search(here)) is not None:
            _check_room(os.path.dirname(unwritten[1]))
    check_ended(ended, url)


def _check_room(directory: str) -> None:
    """Try to write a block where git could not write the file of a ref: git does not say why."""
    try:
        with open(os.open(directory, os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600), "wb", buffering=0) as file:
            write_all(file.fileno(), bytes(_BLOCK))
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno in NO_SPACE:
            raise HostError("store what was fetched", error) from error


def check_ended(ended: Ended, url: str) -> None:
    """Say what went wrong, if something did, by what git said."""
    if not ended.status:
        return
    said = [line for line in ended.messages if not line.startswith(("hint: ", "warning: "))]
    own = [line.removeprefix("fatal: ").removeprefix("error: ") for line in said if not line.startswith("remote: ")]
    shown = hide_secret(url)
    text = "\n".join(said)
    if any(_OTHER_IDS.search(line) for line in own):  # the other messages follow from it
        raise RemoteFormatUnsupported(shown)
    if (anothers := _OF_ANOTHER.search(text)) is not None:
        is_here = url.startswith(("/", "file:///"))  # another machine could name any directory of this one
        raise RemoteAccessDenied(shown, anothers[0][:300], place=anothers[1] if is_here else None)
    for pattern, kind in (
        (_BAD_DATA, RemoteDataRefused),
        (_CUT, RemoteUnreachable),
        (_NOT_READ, RemoteDataRefused),
        (_DENIED, RemoteAccessDenied),
        (_UNREACHABLE, RemoteUnreachable),
    ):
        line = next((line for line in own if pattern.search(line)), None)
        if line is None and pattern.search(text):
            line = next(line for line in said if pattern.search(line))
        if line is not None:
            raise kind(shown, line[:300])
    # the first is the cause of the others
    failed = [line[7:] for line in said if line.startswith(("error: ", "fatal: "))]
    reason = (failed[:1] or own[-1:] or [f"git ended with status {ended.status}"])[0][:300]
    raise RemoteError(f"the exchange with '{shown}' failed: {reason}", details={"url": shown, "reason": reason})

"""Running git on a repository: checking, listing, packing, collecting garbage.

Decided here: which commands of git avfs runs, with which options and environment. Blocks until git is done, or the
result is no longer wanted (`host.processes.ended`). Usable from threads.

Git's configuration and environment can make it run programs. So the environment is made anew for each run, options come
from a list of known ones, names from outside stand after `--end-of-options`, and git is not started in a repository
whose configuration holds a key that is not known to be harmless, or to mean nothing to these commands
(`gitstore.config.settings`): an override on the command line would have to name every dangerous one.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avfs_git.errors import FREE_SPACE, NO_SPACE, GitFailed, InternalError
from avfs_git.gitstore.config.gitconfig import quote_value
from avfs_git.gitstore.config.trust import find_harmful_setting, is_private
from avfs_git.gitstore.formats.trees import EMPTY_TREE
from avfs_git.gitstore.repofile import find_no_file
from avfs_git.host.files.durable import host_errors
from avfs_git.host.processes.ended import end_watch
from avfs_git.paths import Oid

_OPTIONS: Mapping[str, str] = {
    "fsck": "--strict --full --no-dangling --no-progress",
    "commit-graph": "write --stdin-commits --no-progress verify",
    "multi-pack-index": "verify --no-progress",
    "pack-objects": "--revs --reflog --indexed-objects --local --non-empty --delta-base-offset --quiet --window=0 "
    "--stdin-packs"
    " --depth=20 --window-memory=128m --threads=1 --missing=allow-any",
    "rev-list": "--objects --no-object-names --reflog --indexed-objects --stdin --missing=allow-any --missing=print"
    " --filter=blob:none --quiet",
    "grep": "--no-color --color=always --full-name --null --line-number --column -E -F -P -i -w -v -o"
    " --files-with-matches --files-without-match --count -f - ( )",
    "blame": "--porcelain --no-textconv",
    "log": "--no-show-signature --no-ext-diff --no-textconv --patch --graph --stat --name-status --color=always "
    "--no-color"
    " --decorate=short --no-decorate --invert-grep",
    "index-pack": "",
    "reflog": "expire --all",
    "merge-base": "--all",
    "merge-tree": "--write-tree -z",
}
"""The commands that may be run, and their options."""
_OPTIONS_WITH_VALUE = {
    "pack-objects": re.compile(r"--keep-pack=pack-[0-9a-f]+\.pack"),
    "grep": re.compile(r"-[AB]\d{1,9}|--threads=[1-8]"),
    "log": re.compile(r"--max-count=\d{1,18}|--decorate-refs=refs/[a-z/]+/\*|--(format|grep)=.*", re.DOTALL),
}
_COLORED_PARTS = ("match", "selected", "context", "filename", "lineNumber", "column", "separator", "function")
"""What of an answer of `git grep` may have a colour."""
_CHUNK = 1 << 16

_OVERRIDES = (
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.pager=cat",
    *(f"gpg.{kind}program=false" for kind in ("", "openpgp.", "x509.", "ssh.")),
    "gc.autoDetach=false",
    "maintenance.auto=false",
    "safe.bareRepository=explicit",
    "transfer.fsckObjects=true",
    "protocol.allow=never",
)
_ENVIRONMENT: Mapping[str, str] = {
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_ADVICE": "0",
}


_OUT_OF_SPACE = "Out of diskspace"
"""What git says of a full disk while it writes a pack or an index of a pack."""
_LOOK_S = 0.2
"""How often to ask whether git is still waited for."""


@dataclass(frozen=True, slots=True)
class GitResult:
    """How a git command ended."""

    status: int
    output: bytes
    messages: str
    """What it said on standard error."""


def run(
    git_dir: Path,
    verb: str,
    options: Sequence[str] = (),
    operands: Sequence[str] = (),
    *,
    given: bytes = b"",
    work_tree: Path | None = None,
    borrowed: Path | None = None,
) -> GitResult:
    """Run one command of git on a repository; the caller judges how it ended.

    `given` is its standard input; the objects of the directory `borrowed` count as the repository's own.

    Raises:
        GitFailed: If there is no git, or the repository's configuration is not known to be harmless, or a pipe stands
            in it.
    """
    command, environment = _spell(git_dir, verb, options, operands, work_tree=work_tree, borrowed=borrowed)
    with host_errors(f"run git {verb}"), tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as sink:
        source.write(given)
        source.seek(0)
        # Into a file: git passes over a failed write to a pipe, and ends with status 0 after half an answer.
        with subprocess.Popen(
            command, cwd=work_tree or git_dir, env=environment, stdin=source, stdout=sink, stderr=subprocess.PIPE
        ) as process:
            try:
                messages = _attend(process, verb)
            except BaseException:
                process.kill()
                raise
        sink.seek(0)
        return GitResult(process.returncode, sink.read(), messages.decode("utf-8", "replace"))


def stream(
    git_dir: Path,
    verb: str,
    options: Sequence[str],
    operands: Sequence[str],
    *,
    given: bytes,
    borrowed: Path | None,
    colors: Mapping[str, str],
    check: Callable[[int, str], object],
) -> Generator[bytes]:
    """Run one command of git as `run` does; give its answer as it comes.

    Git is killed when the caller closes the generator.

    `check` is called at the end, with git's status and what it said on standard error. `colors` are those of the parts
    of an answer of `git grep`. Where the system has `setpriv`, git also ends when the thread that reads the answer is
    killed.

    Raises:
        GitFailed: As `run`.
    """
    command, environment = _spell(git_dir, verb, options, operands, borrowed=borrowed, colors=colors)
    if (leash := shutil.which("setpriv", path=os.defpath)) is not None:
        command = [leash, "--pdeathsig", "KILL", *command]
    with host_errors(f"run git {verb}"), tempfile.TemporaryFile() as source, tempfile.TemporaryFile() as messages:
        source.write(given)
        source.seek(0)
        with subprocess.Popen(
            command, cwd=git_dir, env=environment, stdin=source, stdout=subprocess.PIPE, stderr=messages
        ) as process:
            try:
                assert process.stdout is not None  # noqa: S101 - it is a pipe
                while chunk := os.read(process.stdout.fileno(), _CHUNK):
                    yield chunk
            except BaseException:
                process.kill()
                raise
        messages.seek(0)
        check(process.returncode, messages.read().decode("utf-8", "replace"))


def _spell(
    git_dir: Path,
    verb: str,
    options: Sequence[str],
    operands: Sequence[str],
    *,
    work_tree: Path | None = None,
    borrowed: Path | None = None,
    colors: Mapping[str, str] = {},
) -> tuple[list[str], dict[str, str]]:
    """Spell a command of git, and its environment."""
    with_value = _OPTIONS_WITH_VALUE.get(verb)
    plain = [option for option in options if with_value is None or not with_value.fullmatch(option)]
    if verb not in _OPTIONS or not set(_OPTIONS[verb].split()).issuperset(plain):
        raise InternalError(f"git {verb} is not to be run with {list(options)!r}")
    if (reason := find_harmful_setting(git_dir, for_own_git=True)) is not None:
        error = GitFailed(verb, reason)
        listing = f"git --git-dir={shlex.quote(str(git_dir))} config --list --show-origin"
        error.hint = (
            f"See it with `{listing}`; if it is yours, move it to your own configuration (`git config --global`)."
        )
        raise error
    for place in (git_dir, *([borrowed.parent] if borrowed is not None else [])):
        with host_errors(f"look at '{place}'"):
            if (odd := find_no_file(place)) is not None:
                raise GitFailed(verb, f"'{odd}' is a pipe, socket or device, and git would wait for it")
    program, environment = find_git(verb)
    overrides = [*_OVERRIDES, *(["core.sharedRepository=0600"] if is_private(git_dir) else [])]
    # Each is judged by the objects, not by what else git has made of them (`find_bad_lists`).
    overrides += ["core.commitGraph=false"] if verb == "fsck" else []
    overrides += ["core.multiPackIndex=false"] if verb in ("fsck", "commit-graph") else []
    if verb == "grep":  # what a letter is, and its other case
        environment["LC_ALL"] = "C.UTF-8"
    if verb == "log":
        environment["GIT_LITERAL_PATHSPECS"] = "1"
    if borrowed is not None:
        environment["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = os.fsdecode(quote_value(os.fsencode(borrowed.absolute())))
    command = [program, f"--git-dir={git_dir.absolute()}"]
    if work_tree is not None:
        command.append(f"--work-tree={work_tree.absolute()}")
    for override in overrides:
        command += ["-c", override]
    for part in _COLORED_PARTS if colors else ():
        command += ["-c", f"color.grep.{part}={colors.get(part, 'normal')}"]
    command += [verb, *options]
    # four know no such mark: their first operand is an absolute path, or an object's id with `--` behind it
    if operands:
        command += [*(("--end-of-options",) if verb not in ("index-pack", "grep", "blame", "log") else ()), *operands]
    return command, environment


def _attend(process: subprocess.Popen[bytes], verb: str) -> bytes:
    """Wait for the end of git; give what it says on standard error."""
    has_ended = end_watch()
    while True:
        try:
            return process.communicate(timeout=None if has_ended is None else _LOOK_S)[1]
        except subprocess.TimeoutExpired:
            if has_ended is not None and has_ended():
                raise GitFailed(verb, "the program that asked for it has ended") from None


def output_of(
    git_dir: Path,
    verb: str,
    options: Sequence[str] = (),
    operands: Sequence[str] = (),
    *,
    given: bytes = b"",
    borrowed: Path | None = None,
) -> bytes:
    """Run one command of git as `run` does, and give its answer.

    Raises:
        GitFailed: As `run`, and if the command fails.
    """
    result = run(git_dir, verb, options, operands, given=given, borrowed=borrowed)
    check_status(result.status, result.messages, verb)
    return result.output


def list_reached(git_dir: Path, tips: Iterable[Oid], known: Iterable[Oid], *options: str) -> bytes:
    """Have git list what commits and other objects reach, and known ones do not (git-rev-list(1)).

    Raises:
        GitFailed: As `output_of`.
    """
    given = "".join([*(f"{oid.hex()}\n" for oid in tips), *(f"^{oid.hex()}\n" for oid in known)])
    return output_of(git_dir, "rev-list", ["--objects", "--stdin", *options], given=given.encode())


def check_status(status: int, messages: str, verb: str) -> None:
    """Raise GitFailed if a command of git failed."""
    if status:
        lines = messages.strip().splitlines()
        error = GitFailed(verb, lines[-1][:300] if lines else f"status {status}")
        error.hint = FREE_SPACE if find_full(messages) is not None else "Run `avfs doctor` to see what is affected."
        raise error


def find_full(messages: str) -> OSError | None:
    """Make the error of a full disk out of what git says; None if it says nothing of that."""
    if _OUT_OF_SPACE in messages:
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    # git speaks as the C library does, and as Python
    found = (number for number in NO_SPACE if os.strerror(number) in messages)
    return next((OSError(number, os.strerror(number)) for number in found), None)


def find_git(verb: str) -> tuple[str, dict[str, str]]:
    """Find git, and make the environment in which it obeys no configuration but the repository's."""
    program = shutil.which("git")
    if program is None:
        raise GitFailed(verb, "git is not installed")
    program = os.path.abspath(program)
    return program, {**_ENVIRONMENT, "PATH": f"{os.path.dirname(program)}:{os.defpath}"}


_LISTS = {"objects/info/commit-graph": "commit-graph", "objects/pack/multi-pack-index": "multi-pack-index"}
"""What git makes of the objects and reads in their place, and the command that verifies it."""
_EMPTY_TREE_MISSING = f"missing tree {EMPTY_TREE.hex()}"
"""What `git fsck` says of a tree that git has built in, as after `git rebase --root`: nothing is missing."""


def fsck(git_dir: Path) -> list[str]:
    """Have git check every object and ref; return what it finds fault with, at most 1000 lines."""
    result = run(git_dir, "fsck", ["--strict", "--full", "--no-dangling", "--no-progress"])
    lines = [*result.output.decode("utf-8", "replace").splitlines(), *result.messages.splitlines()]
    # Under --strict git's warnings are errors; what it still calls a warning is information, as on a `.gitignore` that
    # is a symbolic link, which plain git commits without a word.
    found = [line for line in lines if line and not line.startswith(("notice: ", "dangling ", "warning in "))]
    if _EMPTY_TREE_MISSING in found:
        found = [line for line in found if line != _EMPTY_TREE_MISSING]
    elif result.status and not found:
        found = [f"git fsck ended with status {result.status}"]
    return found[:1000]


def index_pack(git_dir: Path, pack: Path) -> None:
    """Have git make the index of a pack; it makes none where anything in the pack is damaged."""
    run(git_dir, "index-pack", operands=[os.fspath(pack.absolute())])


def find_bad_lists(git_dir: Path) -> list[str]:
    """Name the files of a repository that git makes of its objects and refs, and that are damaged."""
    return [
        name
        for name, verb in _LISTS.items()
        if (git_dir / name).exists() and run(git_dir, verb, ["verify", "--no-progress"]).status != 0
    ]

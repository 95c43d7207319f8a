"""Options that several methods take by name: those of a command, a search, a fetch, a list of commits.

Decided here: their names, meanings and defaults for callers. `sdk.workspace.commands` makes a `Command` of them, which
checks nothing but their names; `proxy.exec.given` checks their values. `sdk.workspace.files` makes a `GrepQuery` of
those of a search. All are types for callers and type checkers, and hold no state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from avfs_git.model import GrepOutcome, Kind
from avfs_git.paths import PathLike


class ExecOptions(TypedDict, total=False):
    """The options of one command; all are optional."""

    shell: str | None
    """Run this text with `bash`, or `sh` if there is no `bash`, instead of a program."""
    cwd: PathLike
    """The command's directory in the workspace; the root by default."""
    env: Mapping[str, str] | None
    """Variables to add to the environment of this process."""
    let_in: Sequence[str]
    """Variables of this process to pass on although they look like secrets, or although the command is isolated."""
    stdin: bytes | int | None
    """Standard input: bytes, or a descriptor; empty by default."""
    terminal: bool
    """Give the command a terminal.

    `stdin` is typed there; if that is a terminal itself, it is in raw mode meanwhile. `stdout` is what the terminal
    shows, and `stderr` is empty.
    """
    timeout_ms: int | None
    """Time limit in milliseconds; 300,000 by default, None for no limit.

    At the limit, all processes of the command are ended.
    """
    grace_ms: int
    """Time between SIGTERM and SIGKILL in milliseconds; 2,000 by default."""
    readonly: bool
    """Refuse every change to files."""
    writable: bool
    """Let the command change files although the policy sees only reads."""
    checkpoint: bool
    """Save uncommitted changes before the command, if the policy says so; on by default."""
    commit: bool
    """Commit the command's changes; on by default."""
    commit_failed: bool
    """Commit them also if the command's status is not 0; on by default."""
    message: str | None
    """Message of that commit; by default it names the command. Refused where `commit` is off."""
    max_output: int
    """Bytes of each stream to keep in the result, 1 MiB by default; a longer stream is in a file."""
    max_output_file: int
    """Bytes of a longer stream to keep in its file, the first ones; 1 GiB by default."""
    backend: str
    """How to show the workspace: `overlay`, `fuse`, `checkout`, or `auto` (the default), the best that works here."""
    root: Path | None
    """Where the command sees the workspace, an absolute path; for `overlay` and `checkout`."""
    approve: str | None
    """Token of an approval."""
    isolate: bool
    """Run the command under bubblewrap: it sees its workspace and the system's programs, no home and no network."""
    network: bool
    """Give an isolated command the network. Refused without `isolate`: other commands have it."""


class FetchOptions(TypedDict, total=False):
    """What to fetch beside branches; all are optional."""

    with_checkpoints: bool
    """Fetch pushed labels, too."""
    with_sidecar: bool
    """Fetch pushed ignored files, too; programs may run them, so trust the remote."""
    with_git_dirs: bool
    """Fetch ignored directories with a `.git`, too, whose hooks and settings run programs."""
    progress: Callable[[str, int, int], None] | None
    """Called with the step, how much of it is done, and its total (0 if unknown)."""


class FindOptions(TypedDict, total=False):
    """Conditions of entries that are looked for; all are optional."""

    kinds: Sequence[Kind | str]
    """`file`, `directory`, `symlink` or `gitlink`; all by default."""
    ignore_case: bool
    """Ignore case in names."""
    min_size: int | None
    """Find only files of at least so many bytes."""
    max_size: int | None
    """Find only files of at most so many bytes."""
    newer_ns: int | None
    """Find only what changed at this time or later, in nanoseconds since the epoch."""
    older_ns: int | None
    """Find only what changed at this time or earlier, in nanoseconds since the epoch."""
    min_depth: int | None
    """Leave out what is fewer than so many levels below; an entry of the root has depth 1."""
    max_depth: int | None
    """Leave out what is more than so many levels below."""
    changed_since: str | None
    """Find only what is new or differs since this checkpoint or fork."""
    ignored: bool
    """Find ignored files, nested repositories and empty directories, too.

    A condition on tags or metadata includes them.
    """
    tags: Sequence[str]
    """Find only what has all of these tags."""
    meta: Mapping[str, str | bytes | None]
    """Find only what has all of these keys of metadata with these values; None stands for any value."""


class GrepOptions(TypedDict, total=False):
    """The options of a search; all are optional."""

    fixed: bool
    """Search for a text, not for a regular expression."""
    perl: bool
    """Read the pattern as a Perl-compatible regular expression, instead of a POSIX extended one."""
    ignore_case: bool
    """Ignore case."""
    words: bool
    """Match whole words only."""
    invert: bool
    """Find the lines that do not match."""
    only_matching: bool
    """Give only the parts of a line that match, each on its own."""
    outcome: GrepOutcome | str
    """What to tell of each file: `lines` (the default), `count`, `files` or `files_without`."""
    before: int
    """Lines to give before each match; 0 by default."""
    after: int
    """Lines to give after each match; 0 by default."""
    max_count: int | None
    """Stop in each file after so many matching lines; no limit by default."""
    include: Sequence[str]
    """Search only files whose name or, with a slash, whose path matches one of these globs."""
    exclude: Sequence[str]
    """Leave out files and directories whose name or, with a slash, whose path matches one of these globs."""
    ignored: bool
    """Search ignored files and nested repositories, too."""
    spans: bool
    """Also tell where in its line each match is."""


class LogOptions(TypedDict, total=False):
    """Which commits to list; all are optional."""

    limit: int
    """List at most so many; 50 by default."""
    with_files: bool
    """List the files that each commit changed, too."""
    with_bookkeeping: bool
    """Include commits that avfs made to save files before an operation; on by default."""
    session: str | None
    """List only checkpoints of this session of a coding agent: its id, or the beginning of that."""
    paths: Sequence[PathLike]
    """List only commits that changed one of these, or what is below it."""

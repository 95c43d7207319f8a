"""The `config` file of a repository: read as git reads it, and changed by git.

Decided here: that only git interprets the file. What `git config` and avfs write has one plain form, a subset of the
syntax in which a line has one meaning; that is read here, because opening a vault must not start a process. Any other
file goes to `git config --list`, and is refused if git refuses it. Includes are never followed. Safe from any thread.

`git config` makes a change in a copy, which replaces the file under git's lock, `config.lock` (`refs.locks`). A crash
leaves the old file or the new one, and the copy, which may hold a password, in a private directory that the next
process removes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from avfs_git.errors import GitFailed, NotAVault, RefLocked
from avfs_git.gitstore.refs.refs import RefStore
from avfs_git.gitstore.repofile import read_plain_file
from avfs_git.host.files.durable import host_errors
from avfs_git.host.lockedplace import locked_directory
from avfs_git.lazy import LazyModule
from avfs_git.patterns import compiled

if TYPE_CHECKING:
    import shutil
    import subprocess
else:
    # Opening a vault, which every command does, needs none of them.
    shutil = LazyModule("shutil")
    subprocess = LazyModule("subprocess")

_PLAIN_LINE = compiled(
    rb'\[([A-Za-z][A-Za-z0-9-]*)(?: "([^"\\\x00-\x1f\x7f]*)")?\]'
    rb'|\t([A-Za-z][A-Za-z0-9-]*) = (?:"((?:[^"\\\x00-\x1f\x7f]|\\["\\])*)"'
    rb'|([^"\\#;\x00-\x20\x7f](?:[^"\\#;\x00-\x1f\x7f]*[^"\\#;\x00-\x20\x7f])?))'
)
"""A section or a key with its value: no comments, continued lines, or blanks that count in some places only.

Of escapes, it has those of quotes and backslashes in a value that is quoted as a whole.
"""
_ESCAPED = compiled(rb'\\(["\\])')
_MAX_BYTES = 16 << 20
_ENVIRONMENT: Mapping[str, str] = {
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_DIR": "/dev/null/none",  # no repository: git must not read the configuration of one around it
}

Config = Mapping[str, Sequence[str]]
"""The values of each `section.key` or `section.subsection.key`, in order; sections and keys in lower case."""


def read_config(git_dir: Path, name: str = "config") -> Config:
    """Read a configuration file of a repository, without what it includes; empty without a file.

    Raises:
        NotAVault: If the file is a link, or git cannot read it.
        GitFailed: If it is not of the plain form, and there is no git to ask.
    """
    with host_errors(f"open '{git_dir}'"):
        try:
            data = read_plain_file(git_dir / name, limit=_MAX_BYTES + 1)
        except FileNotFoundError:
            return {}
    if len(data) > _MAX_BYTES:
        raise NotAVault(str(git_dir), f"its '{name}' is larger than {_MAX_BYTES >> 20} MiB")
    values = parse_plain(data)
    if values is None:
        values, reason = _ask_git(data)
        if reason is not None:
            error = NotAVault(str(git_dir), f"git cannot read its '{name}': {reason}")
            if (git_dir / "avfs" / "format").exists():
                error.hint = f"Correct '{git_dir / name}', or copy it from a backup."
            raise error
    return values


def parse_plain(data: bytes) -> dict[str, list[str]] | None:
    """Read a configuration file of the plain form; None if a line of it is not of that form."""
    values: dict[str, list[str]] = {}
    prefix: str | None = None
    *lines, rest = data.split(b"\n")
    if rest:
        return None
    for line in lines:
        match = _PLAIN_LINE.fullmatch(line)
        if match is None:
            return None
        section, subsection, key, quoted, bare = match.groups()
        if section is not None:
            prefix = _text(section).lower() + "." + (_text(subsection) + "." if subsection is not None else "")
        elif prefix is None:
            return None
        else:
            value = bare if quoted is None else _ESCAPED.sub(rb"\1", quoted)
            values.setdefault(prefix + _text(key).lower(), []).append(_text(value))
    return values


def parse_config(data: bytes) -> Config:
    """Read a file in the form of git's configuration; empty if git cannot read it."""
    values = parse_plain(data)
    return _ask_git(data)[0] if values is None else values


@lru_cache(maxsize=8)
def _ask_git(data: bytes) -> tuple[dict[str, list[str]], str | None]:
    """Have git read a configuration file; also say why it could not."""
    ended = _run_git(["--file", "-", "--no-includes", "--list", "-z"], data)
    if ended.returncode:
        return {}, _last_line(ended)
    values: dict[str, list[str]] = {}
    for item in _text(ended.stdout).split("\0")[:-1]:
        key, newline, value = item.partition("\n")
        values.setdefault(key, []).append(value if newline else "true")
    return values, None


def rename_branch_section(git_dir: Path, old: str, new: str) -> None:
    """Give the settings of a branch (`branch.NAME.*`, such as its upstream) to the branch that it was renamed to.

    What git refuses stays under the old name: a fork without these settings can be used.
    """
    with suppress(GitFailed, NotAVault, RefLocked):
        values = read_config(git_dir)
        before, after = (f"branch.{name}." for name in (old, new))
        kept = [
            (f"{after}{key.removeprefix(before)}", each)
            for key in values
            if key.startswith(before)
            for each in values[key]
        ]
        if kept:
            gone = [("--remove-section", f"branch.{new}")] if any(key.startswith(after) for key in values) else []
            edit_config(git_dir, *gone, *(("--add", *each) for each in kept), ("--remove-section", f"branch.{old}"))


def edit_config(git_dir: Path, *edits: tuple[str, str] | tuple[str, str, str]) -> None:
    """Change the configuration of a repository by `git config`; on disk on return.

    Each edit is an option, a key or section, and a value where the option takes one: `("--add", "remote.x.url", url)`.

    Raises:
        RefLocked: If another program keeps the file locked for 5 s.
        GitFailed: If git refuses an edit; nothing has changed then.
    """

    def change(data: bytes) -> bytes:
        values: dict[bytes, bytes] = {}
        with locked_directory() as directory:
            copy = directory / "config"
            copy.write_bytes(data)
            for option, key, *value in edits:
                # Other users can read a command line, and an URL may hold a password: git gets a word that stands for
                # the value.
                words = [f"avfs{os.urandom(16).hex()}" for _ in value]
                values.update(
                    {word.encode(): quote_value(os.fsencode(each)) for word, each in zip(words, value, strict=True)}
                )
                ended = _run_git(["--file", os.fspath(copy), option, key, *words])
                if ended.returncode:
                    raise GitFailed("config", _last_line(ended))
            changed = copy.read_bytes()
        for word, quoted in values.items():
            changed = changed.replace(word, quoted)
        return changed

    RefStore(git_dir, recover=False).replace_config(change)


def quote_value(value: bytes) -> bytes:
    """Quote a value for git's configuration."""
    for plain, escaped in ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n"), (b"\t", b"\\t")):
        value = value.replace(plain, escaped)
    return b'"' + value + b'"'


def format_config(settings: Iterable[tuple[str, str]]) -> bytes:
    """Write settings as git reads them, in their order."""
    lines = []
    for key, value in settings:
        section, _, rest = key.partition(".")
        subsection, _, name = rest.rpartition(".")
        head = section.encode()
        if subsection:
            head += b' "%b"' % os.fsencode(subsection).replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        lines.append(b"[%b]\n\t%b = %b\n" % (head, name.encode(), quote_value(os.fsencode(value))))
    return b"".join(lines)


def _run_git(arguments: Sequence[str], given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    program = shutil.which("git")
    if program is None:
        raise GitFailed("config", "git is not installed")
    program = os.path.abspath(program)
    environment = {**_ENVIRONMENT, "PATH": f"{os.path.dirname(program)}:{os.defpath}"}
    with host_errors("run git config"):
        return subprocess.run(
            [program, "config", *arguments], input=given, capture_output=True, cwd="/", env=environment, check=False
        )


def _last_line(ended: subprocess.CompletedProcess[bytes]) -> str:
    lines = ended.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1].removeprefix("fatal: ").removeprefix("error: ")[:300] if lines else f"status {ended.returncode}"


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def is_true(value: str) -> bool:
    """Tell whether git takes a value for true."""
    return value.lower() in {"true", "yes", "on"} or (value.isdigit() and int(value) != 0)

"""Remotes of a repository: which URLs are accepted, and how remotes are kept.

Decided here: what a URL may look like before git sees it, and that remotes stand in the repository's own `config`, so
that plain git knows them, too. Of what else the configuration says about a remote (programs to run, refspecs) nothing
is obeyed.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from avfs_git.errors import InvalidInput, InvalidName, RemoteExists, RemoteNotFound, hide_user, quote
from avfs_git.gitstore.config.gitconfig import edit_config, read_config
from avfs_git.values import value_class

PROTOCOLS = ("file", "git", "http", "https", "ssh")
"""What git may speak."""
_SCHEMES = frozenset({*PROTOCOLS, "git+ssh", "ssh+git"})
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}", re.ASCII)
_HELPER = re.compile(r"[A-Za-z0-9]+::")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
_FILTER = "avfs.partialclonefilter"
"""The filter of a partial clone while the remote that it was cloned from is removed."""
_SCP_SECRET = re.compile(r"^(?![A-Za-z][A-Za-z0-9+.-]*://)[^/\s]*:[^/\s]*@")
"""A user and a password before the host of an address without a scheme, in which there can be none."""


@value_class
class ConfiguredRemote:
    """A remote as the configuration has it."""

    name: str
    url: str
    push_url: str | None = None
    """Where pushes go, where that is another place."""
    lazy: bool = False
    """Whether contents that are not here are fetched from it when they are needed."""


def check_remote_name(name: str) -> str:
    """Return the name if a remote may have it.

    Raises:
        InvalidName: Otherwise.
    """
    if not _NAME.fullmatch(name) or ".." in name or name.endswith((".lock", ".")):
        raise InvalidName("remote", name, "use letters, digits, '-', '_' and '.', not starting with '-' or '.'")
    return name


def check_url(url: str, *, base: Path) -> str:
    """Return the URL for git: `scheme://…`, `[user@]host:path` for ssh, or a path, made absolute from `base`.

    Raises:
        InvalidInput: If git, or a program that it starts, could take it for something else than a URL.
    """
    if not url or not url.isprintable():
        raise _refused(url, "it is empty or holds control characters")
    if url.startswith("-"):
        raise _refused(url, "it begins with '-'")
    if _HELPER.match(url):
        raise _refused(url, "it names a program to run")
    match = _SCHEME.fullmatch(url)
    if match is not None:
        scheme, rest = match[1].lower(), match[2]
        if scheme not in _SCHEMES:
            raise _refused(url, f"avfs speaks {', '.join(PROTOCOLS)} only")
        if scheme == "file":
            if not rest.startswith("/"):
                raise _refused(url, "a file:// address holds an absolute path")
            return url
        authority = unquote(rest.partition("/")[0])
        user, at, host = authority.rpartition("@")
        if not host.partition(":")[0] or host.startswith("-") or (at and user.startswith("-")):
            raise _refused(url, "its host is empty or begins with '-'")
        return url
    colon, slash = url.find(":"), url.find("/")
    if colon >= 0 and (slash < 0 or colon < slash):  # as git tells ssh from a path
        host, path = url[:colon], url[colon + 1 :]
        user, at, machine = host.rpartition("@")
        if not machine or machine.startswith("-") or (at and user.startswith("-")) or not path or path.startswith("-"):
            raise _refused(url, "its host or path is empty or begins with '-'")
        return url
    return os.path.abspath(base / url)


def local_path(url: str) -> Path | None:
    """Tell which directory of this machine an address means; None of any other."""
    if url.startswith("/"):
        return Path(url)
    return Path(unquote(url[7:])) if url.lower().startswith("file:///") else None


def is_ssh(url: str) -> bool:
    """Tell whether an address that `check_url` gave leads over ssh."""
    scheme, colon, _ = url.partition("://")
    return "ssh" in scheme.lower().split("+") if colon else not url.startswith("/")


def hide_secret(url: str) -> str:
    """Show an address without what may be a secret: user information and queries.

    The user of `user@host:path` is no secret.
    """
    return _SCP_SECRET.sub("", hide_user(url))


def _refused(url: str, reason: str) -> InvalidInput:
    return InvalidInput(f"{quote(hide_secret(url))} is not a usable address: {reason}", details={"reason": reason})


# --- the configuration -----------------------------------------------------------------------------------


def list_remotes(git_dir: Path) -> list[ConfiguredRemote]:
    """Read the remotes of a repository, by name.

    Those without an address, or with a name that is not allowed, are left out.
    """
    values = read_config(git_dir)
    found = []
    for key, urls in values.items():
        if key.startswith("remote.") and key.endswith(".url"):
            name = key[len("remote.") : -len(".url")]
            if _NAME.fullmatch(name) and ".." not in name:
                push = values.get(f"remote.{name}.pushurl")
                lazy = values.get(f"remote.{name}.promisor", ["false"])[-1].lower() == "true"
                found.append(ConfiguredRemote(name, urls[-1], push[-1] if push else None, lazy))
    return sorted(found, key=lambda remote: remote.name)


def find_remote(git_dir: Path, name: str) -> ConfiguredRemote:
    """Read one remote."""
    check_remote_name(name)
    for remote in list_remotes(git_dir):
        if remote.name == name:
            return remote
    raise RemoteNotFound(name)


def add_remote(git_dir: Path, name: str, url: str) -> None:
    """Add a remote; on disk on return. A removed one from which a partial clone fetched what it lacks serves it again.

    Raises:
        InvalidName: If none may have that name.
        RemoteExists: If a remote has the name, or a name that differs in case only: where file names do not, the two
            would share their refs.
    """
    check_remote_name(name)
    for remote in list_remotes(git_dir):
        if remote.name.casefold() == name.casefold():
            raise RemoteExists(remote.name)
    spec = f"+refs/heads/*:refs/remotes/{name}/*"
    edits = [("--add", f"remote.{name}.url", url), ("--add", f"remote.{name}.fetch", spec)]
    forgotten: list[tuple[str, str]] = []
    values = read_config(git_dir)
    if values.get("extensions.partialclone", [""])[-1] == name:
        kept = values.get(_FILTER, ["blob:none"])[-1]
        edits += [("--add", f"remote.{name}.promisor", "true"), ("--add", f"remote.{name}.partialclonefilter", kept)]
        forgotten = [("--unset-all", _FILTER)] if _FILTER in values else []
    edit_config(git_dir, *edits, *forgotten)


def remove_remote(git_dir: Path, name: str) -> None:
    """Remove a remote from the configuration; its refs stay, and a partial clone's filter for `add_remote`.

    On disk on return.
    """
    find_remote(git_dir, name)
    values = read_config(git_dir)
    is_server = values.get("extensions.partialclone", [""])[-1] == name
    kept = values.get(f"remote.{name}.partialclonefilter", [])[-1:] if is_server else []
    edit_config(git_dir, *(("--replace-all", _FILTER, each) for each in kept), ("--remove-section", f"remote.{name}"))


def set_url(git_dir: Path, name: str, url: str) -> None:
    """Give a remote another address, for pushing too; on disk on return."""
    remote = find_remote(git_dir, name)
    edit_config(git_dir, ("--replace-all", f"remote.{name}.url", url))
    if remote.push_url is not None:
        edit_config(git_dir, ("--unset-all", f"remote.{name}.pushurl"))

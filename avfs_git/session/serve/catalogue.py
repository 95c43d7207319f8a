"""What a mount of a whole vault shows: every state of it, by name.

    forks/NAME                  a symbolic link to where the fork is mounted, for reading and writing
    checkpoints/FORK/LABEL      the checkpoint of that label
    commits/ID                  any commit; listed are the heads of the forks. A shortened id, of seven letters or more,
                                is a symbolic link to the whole one

Decided here: these names. A fork's name may hold `/`: then it stands in directories. A label that cannot be a file's
name is spelled as in its ref. Everything else is read-only: a fork is written to where it is mounted, by the session
that holds its workspace, so that checkpoints, locks and open files have one master. The link of a fork that is not
mounted leads through `.live/NAME`, which no directory lists: the kernel looks it up only to follow the link, and that
mounts the fork. So `ls -l forks` mounts nothing. Where no fork can be mounted, such a fork is its head, read-only.

`fuse.composite` asks here each time the kernel asks, on its one thread; each answer is read from the vault, and nothing
is remembered.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from avfs_git.errors import AvfsError
from avfs_git.fuse.composite import Entrance, Entry, Folder, Link
from avfs_git.paths import NAME_MAX, Oid, fork_dir_name, label_ref_name
from avfs_git.session.serve.doors import find_mounted
from avfs_git.workspace.vault.commits import open_commit
from avfs_git.workspace.vault.revisions import resolve_revision
from avfs_git.workspace.vault.vault import OpenVault

_ID = re.compile(rb"[0-9a-f]{7,40}")
_LIVE = b".live"


def open_catalogue(vault: OpenVault, enter: Callable[[str], Path] | None = None) -> Folder:
    """Make what a mount of a whole vault shows, for `fuse.composite.CompositeServer`.

    `enter` mounts a fork that a program walks into, and gives the directory; None where that cannot be done.
    """
    entries: dict[bytes, Entry] = {
        b"forks": _Forks(vault, partial(_show_fork, vault, has_door=enter is not None)),
        b"checkpoints": _Forks(vault, partial(_Labels, vault)),
        b"commits": _Commits(vault),
    }
    return _Fixed(entries, {_LIVE: _Doors(vault, enter)} if enter is not None else {})


def reopen(vault: OpenVault, identity: bytes) -> Entrance | None:
    """Find a tree by its identity, which is the id of a commit, for the same; None if that is gone."""
    oid = Oid(identity)
    return _entrance(vault, oid) if vault.store.exists(oid) else None


def _entrance(vault: OpenVault, oid: Oid) -> Entrance:
    return Entrance(oid, lambda first_ino: open_commit(vault, oid, first_ino=first_ino))


class _Fixed:
    """A folder that never changes, with names that it lists and others that it does not."""

    def __init__(self, entries: dict[bytes, Entry], unlisted: dict[bytes, Entry]) -> None:
        self._entries = entries
        self._unlisted = unlisted

    def names(self) -> Iterable[bytes]:
        return self._entries

    def find(self, name: bytes) -> Entry | None:
        return self._entries.get(name) or self._unlisted.get(name)


class _Doors:
    """The way into each fork that is not mounted: looking its name up mounts it."""

    def __init__(self, vault: OpenVault, enter: Callable[[str], Path]) -> None:
        self._vault = vault
        self._enter = enter

    def names(self) -> Iterable[bytes]:
        return ()

    def find(self, name: bytes) -> Entry | None:
        fork = next((fork for fork in self._vault.list_heads() if fork_dir_name(fork).encode() == name), None)
        return None if fork is None else Link(os.fsencode(self._enter(fork)))


class _Forks:
    """The forks, or those whose names begin with a prefix, by the next part of their names."""

    def __init__(self, vault: OpenVault, show: Callable[[str], Entry | None], prefix: str = "") -> None:
        self._vault = vault
        self._show = show
        self._prefix = prefix

    def _rests(self) -> list[str]:
        prefix = self._prefix
        return [fork.removeprefix(prefix) for fork in self._vault.list_heads() if fork.startswith(prefix)]

    def names(self) -> Iterable[bytes]:
        return {rest.partition("/")[0].encode() for rest in self._rests()}

    def find(self, name: bytes) -> Entry | None:
        try:
            text = name.decode()
        except UnicodeDecodeError:
            return None
        rests = self._rests()
        if text in rests:
            return self._show(self._prefix + text)
        if any(rest.startswith(text + "/") for rest in rests):
            return _Forks(self._vault, self._show, f"{self._prefix}{text}/")
        return None


def _show_fork(vault: OpenVault, fork: str, *, has_door: bool) -> Entry | None:
    session = find_mounted(vault, fork)
    if session is not None:
        return Link(os.fsencode(session.directory))
    if has_door:
        up = b"../" * (fork.count("/") + 1)
        return Link(up + _LIVE + b"/" + fork_dir_name(fork).encode())
    head = vault.read_head(fork)
    return None if head is None else _entrance(vault, head)


class _Labels:
    """The labelled checkpoints of a fork."""

    def __init__(self, vault: OpenVault, fork: str) -> None:
        self._vault = vault
        self._fork = fork

    def _labels(self) -> dict[bytes, Oid]:
        return {_file_name(label): oid for label, oid in self._vault.list_labels(self._fork).items()}

    def names(self) -> Iterable[bytes]:
        return self._labels()

    def find(self, name: bytes) -> Entry | None:
        oid = self._labels().get(name)
        return None if oid is None else _entrance(self._vault, oid)


def _file_name(label: str) -> bytes:
    name = label.encode()
    return label_ref_name(label).encode() if b"/" in name or name in (b".", b"..") or len(name) > NAME_MAX else name


class _Commits:
    """All commits by their ids, of which only the heads of forks are listed."""

    def __init__(self, vault: OpenVault) -> None:
        self._vault = vault

    def names(self) -> Iterable[bytes]:
        return {oid.hex().encode() for oid in self._vault.list_heads().values()}

    def find(self, name: bytes) -> Entry | None:
        if _ID.fullmatch(name) is None:
            return None
        text = name.decode()
        try:
            oid = resolve_revision(self._vault, text, fork=None)
        except AvfsError:  # there is none, or several begin so
            return None
        if not oid.hex().startswith(text):  # a fork with a name like an id
            return None
        return _entrance(self._vault, oid) if len(text) == 40 else Link(oid.hex().encode())

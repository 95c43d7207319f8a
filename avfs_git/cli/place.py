"""Which vault and fork a directory shows, and where in its tree the directory is.

Decided here: four kinds of directory show a fork: a mount of a fork, a mount of a whole vault, the tree of a command
that `avfs exec` runs, and a clone or folder whose forks a vault has. The innermost one around the directory counts.
`context.State` calls it once a run. It reads the table of mounts and one small file for each vault, and asks no server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from avfs_git.errors import DirectoryGone, InvalidName
from avfs_git.paths import WHOLE_VAULT, TreePath
from avfs_git.values import NamedTuple


class Place(NamedTuple):
    """What a directory shows."""

    vault: Path
    """The bare repository."""
    fork: str | None
    """None if the directory shows no single fork: a clone, or the top of a mount of a whole vault."""
    top: Path
    """The directory that shows the root of the tree."""
    prefix: TreePath
    """Where in the tree the current directory is."""
    is_mount: bool


def find_place(home: Path, command: Place | None, directory: Path | None = None) -> Place | None:
    """Find what a directory shows; None if it shows nothing of any vault.

    `command` is the root of the tree of the command that this process belongs to: not everywhere is it a mount.

    Raises:
        CloneReplaced: If a vault has forks of a clone around the directory, and another repository is there now.
        DirectoryGone: If the current directory was removed, or is in a mount that has ended: what it showed is not
            known.
        MountInPart: If `mount --bind` shows a part of a live tree there.
    """
    try:
        here = Path.cwd() if directory is None else directory.resolve()
    except OSError as err:
        raise DirectoryGone(err) from err
    # If one directory is both, the mount counts: `max` takes the first, and the mount hides the rest.
    found = [*_find_mount(here), *_find_command(command, here), *_find_origins(home, here)]
    place = max(found, key=lambda place: len(place.top.parts), default=None)
    if place is None or place.is_mount or place.fork is not None:
        return place
    return _find_own(found, place.top)


def _find_own(found: Sequence[Place], top: Path) -> Place:
    """Choose the vault of the clone that is at a directory now: others have forks of a clone that was there before.

    Raises:
        CloneReplaced: If none has forks of this one.
    """
    from avfs_git.workspace.exchange.source import check_source, is_source  # noqa: PLC0415 - only in a clone with forks

    places = [place for place in found if place.top == top]
    own = next((place for place in places if is_source(place.vault, top)), None)
    if own is None:
        check_source(places[0].vault, places[0].vault.stem, top)
    return own or places[0]


def _tree_path(parts: Sequence[str]) -> TreePath:
    return TreePath(os.fsencode("/".join(parts)))


def _find_mount(here: Path) -> Iterator[Place]:
    try:
        if os.major(here.stat().st_dev):  # on a disk: most commands need not load what knows mounts
            return
    except OSError:  # its server is gone
        pass
    from avfs_git.host.mounts.mounts import find_cover  # noqa: PLC0415 - only where something is mounted
    from avfs_git.session.life.mountsource import find_mount_around, fork_of_source, vault_of_source  # noqa: PLC0415 - the same

    try:
        mounted = find_mount_around(here)
    except OSError:  # there is no table of mounts here
        return
    vault = vault_of_source(mounted.source) if mounted is not None else None
    if mounted is None or vault is None or find_cover(mounted) is not None:  # what stands over it is in no fork
        return
    fork, parts = fork_of_source(mounted.source), here.relative_to(mounted.directory).parts
    used = 0
    if fork == WHOLE_VAULT:
        fork, used = _read_whole(vault, parts)
    yield Place(vault, fork, mounted.directory.joinpath(*parts[:used]), _tree_path(parts[used:]), is_mount=True)


def _read_whole(vault: Path, parts: Sequence[str]) -> tuple[str | None, int]:
    """Tell the fork of a directory in a mount of a whole vault, and how many of the names lead to that fork's tree.

    See `session.serve.catalogue`.
    """
    if parts[:1] == ("commits",):
        return None, min(len(parts), 2)
    if parts[:1] in (("forks",), ("checkpoints",)):
        from avfs_git.gitstore.refs.refs import RefStore  # noqa: PLC0415 - only there
        from avfs_git.workspace.vault.format import HEADS  # noqa: PLC0415 - the same

        refs = RefStore(vault, recover=False)
        for count in range(2, len(parts) + 1):  # a name of a fork may hold slashes
            fork = "/".join(parts[1:count])
            with suppress(InvalidName):
                if refs.read(HEADS + fork) is not None:
                    return fork, min(len(parts), count + (parts[0] == "checkpoints"))
    return None, len(parts)


def _find_command(root: Place | None, here: Path) -> Iterator[Place]:
    if root is not None and here.is_relative_to(root.top):
        yield root._replace(prefix=_tree_path(here.relative_to(root.top).parts))


def _find_origins(home: Path, here: Path) -> Iterator[Place]:
    """Find the clones and folders around a directory of which vaults have forks, the innermost first."""
    from avfs_git.workspace.vault.format import VaultLayout  # noqa: PLC0415 - not for the help

    try:
        names = sorted((entry.name for entry in (home / "vaults").iterdir()), key=lambda name: (len(name), name))
    except OSError:
        return
    for name in names:
        if name.endswith(".git") and not name.startswith("."):
            vault = home / "vaults" / name
            top = VaultLayout(vault).read_origin()
            if top is not None and here.is_relative_to(top):
                yield Place(vault, None, top, _tree_path(here.relative_to(top).parts), is_mount=False)

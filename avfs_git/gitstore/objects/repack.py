"""Joining packs, and storing what changed little as differences: what keeps a repository small while it is in use.

Decided here: which packs are joined, and when. Called by maintenance; beside readers, writers, git and
`gitstore.objects.sweep`, which excludes this by `holding.packs_to_oneself`.

git makes one pack of all objects of the chosen ones, whether anything reaches them or not, and looks for differences
between them. So no object goes, and none becomes older: an operation that relies on one does not notice. The chosen
packs are the smallest, as long as each is at most as big as those before it together, so that an object is copied a
logarithmic number of times. The new pack holds all of their objects, is on disk and was read back before the first of
them goes; its index goes before a pack does, and a reader that misses an object looks at the directory again. A crash
leaves both.

Packs that git or a server marked stay (`.keep`, `.promisor`). No multi-pack-index is written: an index that lists a
pack which goes would be wrong, and with a dozen packs it finds nothing faster. Where git keeps one, nothing is joined.
"""

from __future__ import annotations

from contextlib import suppress

from avfs_git import faults
from avfs_git.errors import GitFailed
from avfs_git.gitstore.holding import packs_to_oneself
from avfs_git.gitstore.objects.packs import find_bar, remove_pack
from avfs_git.gitstore.objects.packset import Pack
from avfs_git.gitstore.objects.store import ObjectStore
from avfs_git.gitstore.objects.sweep import make_pack

MANY_PACKS = 16
_LEFT = 8
"""So many packs are left, or fewer."""
_BIG_PACK = 2 << 30
"""Bytes above which a pack is left alone."""
_OPTIONS = ("--stdin-packs", "--depth=20", "--window-memory=128m", "--threads=1", "--missing=allow-any")
"""How git packs. Chains of differences are short: avfs follows them each time that it reads an object. What only
the server of a partial clone has is missing, and is not fetched."""


def count_packs(store: ObjectStore) -> int:
    """Count the packs that may be joined; 0 where none may go."""
    return 0 if find_bar(store) is not None else len(_list_candidates(store))


def repack(store: ObjectStore, *, more_than: int = MANY_PACKS) -> int:
    """Join packs if there are more than so many; return how many became one. 0 if another process joins packs.

    Raises:
        GitFailed: If there is no git, or a pack is damaged. Nothing is gone.
        HostError: If the disk refuses; the old packs are then all there.
    """
    if count_packs(store) <= more_than:
        return 0
    with packs_to_oneself(store.git_dir) as is_alone:
        candidates = _list_candidates(store) if is_alone else []
        if len(candidates) <= more_than:
            return 0
        chosen = _choose_packs(candidates, 2 * max(len(candidates) - min(_LEFT, more_than), 1))
        return _join(store, chosen) if len(chosen) > 1 else 0


def _list_candidates(store: ObjectStore) -> list[tuple[int, Pack]]:
    """List the packs that may be joined, with their sizes, the smallest first."""
    found: list[tuple[int, Pack]] = []
    for pack in store.packs.packs():
        with suppress(OSError):
            size = pack.path.stat().st_size
            marked = any(
                pack.path.with_suffix(suffix).exists() for suffix in (".keep", ".promisor", ".mtimes", ".bitmap")
            )
            if size <= _BIG_PACK and not marked:
                found.append((size, pack))
    return sorted(found, key=lambda item: (item[0], item[1].path.name))


def _choose_packs(candidates: list[tuple[int, Pack]], more_than: int) -> list[Pack]:
    """Choose the packs to join: at least half of the surplus."""
    total = 0
    chosen: list[Pack] = []
    for size, pack in candidates:
        if size > total and len(chosen) > max(more_than // 2, 1):
            break
        total += size
        chosen.append(pack)
    return chosen


def _join(store: ObjectStore, chosen: list[Pack]) -> int:
    names = "".join(f"{pack.path.name}\n" for pack in chosen).encode()
    made = make_pack(store, _OPTIONS, names)
    held = set(() if made is None else made.index.oids())
    if made is None or not all(held.issuperset(old.index.oids()) for old in chosen):
        raise GitFailed("pack-objects", "it left objects out")
    faults.reach("repack.installed")
    for old in chosen:
        if old.path != made.path:
            remove_pack(old)
            faults.reach("repack.removed_one")
    store.packs.refresh()
    return len(chosen)

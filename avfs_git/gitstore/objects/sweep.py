"""Packing what is reachable into one pack, and dropping what is unreachable.

Decided here: what counts as reachable, how long an unreachable object stays, and in which order files come and go.
Called by `workspace.upkeep.garbage`. One process at a time does it; readers, writers and git go on meanwhile.

Git finds what is reachable (from the refs at the start, from what the caller names, from the indexes and logs of its
working trees) and writes it as one pack. An unreachable object stays for a grace time since its pack or file was last
touched; of packs that go away it is put into a pack of its own, which is as old as they. Then files go:

- A pack whose objects are all in packs that stay can go at any time: a reader that misses an object looks at the
  directory again.
- Objects are dropped only while no process holds any (`gitstore.holding`). By then refs may have moved: what they reach
  now, and
the starting points did not, is asked for once more, and a pack that holds any of it stays.

In a partial clone (`remote.partial`), `gc` sweeps only objects made here. Packs that came from the server (`.promisor`)
stay with all they hold, joined when they are many, and so does all that anything in them names: a server that has
promised an object may have forgotten it. What of the rest is reached is listed, because `pack-objects` would leave out
what the server is said to have. Missing contents are no fault there; a missing commit or tree is one.

New packs are complete and on disk before the first old one goes, and the index of an old one goes before its pack. A
crash leaves old and new.

**Nothing goes unless what stays was counted and found whole.** One command of git lists what is reached (`rev-list`),
another packs it (`pack-objects`), and the new pack has to hold all of the list. Each pack that stays is read back from
the disk and compared with its checksum. A ref whose file holds no id, or that names a missing object, stops the sweep:
nobody can tell what it kept.

Git's commit-graph, which may name commits that go, is removed before they are.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from avfs_git import faults
from avfs_git.errors import GitFailed, HostError
from avfs_git.gitstore.config.gitconfig import is_true, read_config
from avfs_git.gitstore.formats.index import SPARSE, SPLIT, BadIndex, GitIndex
from avfs_git.gitstore.formats.packfile import BadPack
from avfs_git.gitstore.formats.packindex import read_back
from avfs_git.gitstore.gitcommand import list_reached, output_of
from avfs_git.gitstore.holding import objects_to_oneself
from avfs_git.gitstore.objects.packs import find_bar, remove_pack
from avfs_git.gitstore.objects.packset import Pack
from avfs_git.gitstore.objects.store import ObjectStore, list_loose
from avfs_git.gitstore.refs.refs import RefStore
from avfs_git.host.files.durable import fsync_dir, host_errors, make_dirs_durably, sync_path
from avfs_git.paths import Oid, oid_of

_PROMISED = ".promisor"
_MARKS = (".keep", _PROMISED)
_MANY = 10
"""So many packs that came from a server are joined, all but the largest."""
_HEX = re.compile(rb"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])")
_LOOSE = re.compile(r"[0-9a-f]{2}")
_WORKSHOP = "avfs/sweep"
_PIECE = 1 << 20
_CHECKSUM = 20
"""Bytes at the end of a pack."""
_INDEXES = ("index", "sharedindex.")
_WAIT_S = 10.0
"""How long the sweep waits for writers."""


@dataclass(slots=True)
class Swept:
    """What sweeping did, or would do."""

    packs_before: int = 0
    packs_after: int = 0
    dropped: int = 0
    """Unreachable objects that are gone."""
    dropped_bytes: int = 0
    """Their size on disk, as far as a survey can tell: an object whose difference another one holds becomes larger."""
    waiting: int = 0
    """Unreachable objects that stay for now: they are too young, or a writer was at work."""
    reasons: list[str] = field(default_factory=list)
    """Why less was done than could be."""


@dataclass(slots=True)
class _Unreached:
    """Unreachable objects, by where they are."""

    packs: dict[Pack, list[Oid]] = field(default_factory=dict)
    """Of each pack that was there at the start, perhaps none."""
    loose: dict[Oid, Path] = field(default_factory=dict)
    double: list[Path] = field(default_factory=list)
    """Loose objects that are in a pack as well."""


def sweep(
    store: ObjectStore, roots: Callable[[], Iterable[Oid]], *, before_s: float, deltas: bool = False, lazy: bool = False
) -> Swept:
    """Pack what is reachable, and drop what is not and was not touched since `before_s`, in seconds since the epoch.

    The caller has the packs to itself (`holding.packs_to_oneself`). `roots` names what stays beside what refs, indexes
    and logs reach; it is called twice. With `deltas` git looks for differences between objects: smaller, and slower to
    read. With `lazy` the contents of files may be on a server.

    Raises:
        GitFailed: If there is no git, or it finds the repository broken. Nothing is gone.
        HostError: If the disk refuses. Nothing that is reachable is gone.
    """
    swept = Swept()
    if (reason := _find_bar(store)) is not None:
        swept.reasons.append(reason)
        return swept
    old, kept = _list_packs(store)
    swept.packs_before = len(old) + len(kept)
    tips = find_tips(store, roots())
    for pack in kept:
        check_whole(pack.path)
    if lazy:
        kept = _join_promised(store, kept)
        wanted = _list_here(store, old, _list_partly(store, tips, kept), kept)
        written = _write_pack(store, wanted, kept, deltas=deltas, revs=False)
    else:
        wanted = _list_here(store, old, _list_reachable(store, tips), kept)
        written = _write_pack(store, tips, kept, deltas=deltas)
    if not wanted <= set(() if written is None else written.index.oids()):
        raise GitFailed("pack-objects", "it left objects out")
    made = _same_as(written, [] if deltas else old)
    faults.reach("sweep.packed")
    reached = {oid for pack in kept for oid in pack.index.oids()}
    if made is not None:
        reached.update(made.index.oids())
    unreached = _find_unreached(store, [pack for pack in old if made is None or pack.path != made.path], reached)
    spared = _find_spared(store, unreached, tips, before_s)
    carried = _carry(store, unreached, spared, before_s)
    faults.reach("sweep.carried")
    for path in unreached.double:
        path.unlink(missing_ok=True)
    for pack in [pack for pack, lost in unreached.packs.items() if not lost]:
        remove_pack(pack)
        del unreached.packs[pack]
    if unreached.packs or unreached.loose:
        with objects_to_oneself(store.git_dir, wait_s=_WAIT_S) as is_alone:
            if is_alone:
                again = _list_reachable(store, find_tips(store, roots()), without=tips, whole=not lazy)
                _drop(store, unreached, again | spared, before_s, swept)
            else:
                swept.reasons.append("somebody was at work all the time: what nobody reaches is dropped another time")
    swept.waiting = sum(map(len, unreached.packs.values())) + len(unreached.loose) + len(carried)
    _remove_empty_directories(store)
    store.packs.refresh()
    swept.packs_after = len(store.packs.packs())
    faults.reach("sweep.dropped")
    return swept


def survey(
    store: ObjectStore, roots: Iterable[Oid], refs: Iterable[Oid], *, before_s: float, lazy: bool = False
) -> Swept:
    """Tell what `sweep` would do, if these were all refs; changes nothing."""
    if (reason := _find_bar(store)) is not None:
        return Swept(reasons=[reason])
    old, kept = _list_packs(store)
    tips = {oid for oid in (*roots, *refs, *_read_git_files(store.git_dir)) if store.exists(oid)}
    reached = _list_partly(store, tips, kept) if lazy else _list_reachable(store, tips)
    unreached = _find_unreached(store, old, reached)
    spared = _find_spared(store, unreached, tips, before_s)
    swept = Swept(len(old) + len(kept), len(kept) + bool(_list_here(store, old, reached, kept)))
    swept.packs_after += bool(_choose_carried(unreached, spared, before_s))
    for pack, lost in unreached.packs.items():
        going = [] if pack.path.stat().st_mtime >= before_s else [oid for oid in lost if oid not in spared]
        swept.packs_after += bool(lost) and not going and len(lost) == pack.index.count
        swept.waiting += len(lost) - len(going)
        if going:
            swept.dropped += len(going)
            sizes = _measure_entries(pack)
            swept.dropped_bytes += sum(sizes[oid] for oid in going)
    for oid, path in unreached.loose.items():
        found = path.stat()
        is_going = found.st_mtime < before_s and oid not in spared
        swept.dropped += is_going
        swept.dropped_bytes += found.st_blocks * 512 * is_going
        swept.waiting += not is_going
    return swept


def _find_bar(store: ObjectStore) -> str | None:
    """Tell why no object of a repository may go, where that is so."""
    if (reason := find_bar(store)) is not None:
        return reason
    if is_true(read_config(store.git_dir).get("extensions.preciousobjects", ["false"])[-1]):
        return "the repository keeps all its objects (extensions.preciousObjects)"
    return None


def _measure_entries(pack: Pack) -> dict[Oid, int]:
    """Tell how many bytes of a pack each of its objects takes."""
    offsets = pack.index.offsets()
    starts = sorted(offsets)
    ends = dict(zip(starts, [*starts[1:], pack.path.stat().st_size - _CHECKSUM], strict=True))
    return {oid: ends[offset] - offset for oid, offset in zip(pack.index.oids(), offsets, strict=True)}


# --- what is reachable -----------------------------------------------------------------------------------------


def find_tips(store: ObjectStore, roots: Iterable[Oid]) -> set[Oid]:
    """List the objects from which everything that stays is reached: of what the caller names, what is there.

    Raises:
        RefDamaged: If a ref does not say what it stands for, or that is not here.
    """
    refs = RefStore(store.git_dir, recover=False)
    for damaged in refs.find_damaged(store.exists):
        raise damaged
    return {*refs.list().values(), *(oid for oid in (*roots, *_read_git_files(store.git_dir)) if store.exists(oid))}


def check_connected(store: ObjectStore, roots: Iterable[Oid], *, lazy: bool = False) -> None:
    """Demand that all that is to stay is here; changes nothing. Costs a walk through the whole history.

    Raises:
        RefDamaged: If a ref does not say what it stands for, or that is not here.
    """
    tips = find_tips(store, roots)
    partly = "--filter=blob:none" if lazy else "--indexed-objects"
    list_reached(store.git_dir, tips, (), "--reflog", "--quiet", partly)


def _read_git_files(git_dir: Path) -> Iterator[Oid]:
    """Read the ids in git's files beside refs, of all working trees: HEAD, ORIG_HEAD, a begun merge or rebase, logs."""
    yield from _ids_in(git_dir.glob("*HEAD*"))
    yield from read_ids_below(git_dir / "worktrees", indexes=False)  # git knows those


def read_ids_below(directory: Path, *, indexes: bool = True) -> Iterator[Oid]:
    """Read the ids in the files of git directories, and in their indexes unless told not to."""
    for place, _, names in os.walk(directory):
        paths = [Path(place, name) for name in names]
        yield from _ids_in(path for path in paths if not path.name.startswith(_INDEXES))
        for path in paths:
            if indexes and path.name.startswith(_INDEXES):
                with host_errors(f"read '{path}'"), suppress(FileNotFoundError, BadIndex):  # a broken one keeps nothing
                    if not stat.S_ISREG(path.lstat().st_mode):
                        continue
                    index = GitIndex(path.read_bytes(), understood=frozenset({SPLIT, SPARSE}))
                    yield from (index.entry(number).oid for number in range(len(index)))


def _ids_in(paths: Iterable[Path]) -> Iterator[Oid]:
    """Read the ids in files of text."""
    for path in paths:
        with host_errors(f"read '{path}'"), suppress(FileNotFoundError):
            if not stat.S_ISREG(path.lstat().st_mode):
                continue
            with path.open("rb") as file:
                end = b""
                while piece := file.read(_PIECE):
                    for found in _HEX.findall(end + piece):
                        yield oid_of(found)
                    end = piece[-64:]  # an id may lie across two pieces; finding it twice does no harm


def _list_reachable(
    store: ObjectStore, tips: set[Oid], *, without: AbstractSet[Oid] = frozenset(), whole: bool = True
) -> set[Oid]:
    """List what is reached from tips, and from the indexes and logs of working trees, and not from others.

    Missing objects matter only if the list must be whole.
    """
    missing = () if whole else ("--missing=allow-any",)
    known = [oid for oid in without if store.exists(oid)]
    options = ("--no-object-names", "--reflog", "--indexed-objects", *missing)
    listed = {oid_of(line) for line in list_reached(store.git_dir, tips - without, known, *options).split()}
    if not without and not listed >= tips:  # what git packs later is compared with this list alone
        raise GitFailed("rev-list", "it left objects out")
    return listed


def _list_partly(store: ObjectStore, tips: set[Oid], kept: list[Pack]) -> set[Oid]:
    """List what is here and reached, from tips or from anything in packs that stay, where contents may be missing.

    Raises:
        GitFailed: If anything else is missing.
    """
    reached = _list_reachable(store, tips, whole=False)
    others = {oid for pack in kept for oid in pack.index.oids()} - reached
    return reached | others | (_list_reachable(store, others, without=tips, whole=False) if others else set())


def _list_here(store: ObjectStore, old: list[Pack], reached: set[Oid], kept: list[Pack]) -> set[Oid]:
    """List the reached objects that are loose or in packs that may go, and in no pack that stays."""
    found = {oid for pack in old for oid in pack.index.oids() if oid in reached}
    found.update(oid for oid, _ in _loose_objects(store) if oid in reached)
    return found.difference(*(pack.index.oids() for pack in kept))


def check_whole(path: Path) -> None:
    """Read a pack that is to stay back from the disk.

    Raises:
        GitFailed: If it is damaged, or another git has joined it with others meanwhile.
        HostError: If the disk refuses.
    """
    with host_errors(f"read '{path}'"):
        try:
            read_back(path)
        except FileNotFoundError as error:
            failed = GitFailed("pack-objects", f"another git has removed the pack '{path.name}' meanwhile")
            failed.hint = "Run `avfs gc` again."
            raise failed from error
        except BadPack as error:
            failed = GitFailed("pack-objects", f"the pack '{path.name}' is damaged: {error}")
            failed.hint = "Run `avfs doctor` to see what is affected."
            raise failed from error


def _find_unreached(store: ObjectStore, packs: list[Pack], reached: set[Oid]) -> _Unreached:
    found = _Unreached({pack: [oid for oid in pack.index.oids() if oid not in reached] for pack in packs})
    for oid, path in _loose_objects(store):
        if oid in reached:
            found.double.append(path)
        else:
            found.loose[oid] = path
    return found


def _loose_objects(store: ObjectStore) -> Iterator[tuple[Oid, Path]]:
    for oid in list_loose(store.objects_dir):
        name = oid.hex()
        yield oid, store.objects_dir / name[:2] / name[2:]


# --- packs -----------------------------------------------------------------------------------------------------


def _list_packs(store: ObjectStore) -> tuple[list[Pack], list[Pack]]:
    """List the packs that may go, and the packs with a `.keep`."""
    old: list[Pack] = []
    kept: list[Pack] = []
    for pack in store.packs.packs():
        (kept if any(pack.path.with_suffix(mark).exists() for mark in _MARKS) else old).append(pack)
    return old, kept


def _write_pack(
    store: ObjectStore,
    tips: set[Oid],
    kept: list[Pack],
    *,
    deltas: bool = False,
    revs: bool = True,
    mtime_s: float | None = None,
    is_promised: bool = False,
) -> Pack | None:
    """Have git write what is reached from tips, or just these, as a pack; on disk on return.

    Return None if it would be empty.
    """
    if not tips:
        return None
    options = ["--local", *([] if deltas else ["--window=0"])]
    if revs:
        options += ["--revs", "--reflog", "--indexed-objects", *(f"--keep-pack={pack.path.name}" for pack in kept)]
    lines = "".join(oid.hex() + "\n" for oid in sorted(tips))
    return make_pack(store, options, lines.encode(), mtime_s, is_promised=is_promised)


def make_pack(
    store: ObjectStore, options: Sequence[str], given: bytes, mtime_s: float | None = None, *, is_promised: bool = False
) -> Pack | None:
    """Have git make a pack of what is given on its input; on disk, and read back, on return.

    Return None if it would be empty.
    """
    directory = _clear_workshop(store)
    options = ["--non-empty", "--delta-base-offset", "--quiet", *options]
    try:
        names = output_of(
            store.git_dir, "pack-objects", options, [str((directory / "new").absolute())], given=given
        ).split()
        if len(names) > 1:
            raise GitFailed("pack-objects", "it wrote more than one pack")
        with host_errors("write a pack"):
            return (
                _install_pack(store, directory, names[0].decode("ascii"), mtime_s, is_promised=is_promised)
                if names
                else None
            )
    finally:
        with suppress(HostError):  # else the next one clears it
            _clear_workshop(store)


def _clear_workshop(store: ObjectStore) -> Path:
    """Make room for a new pack outside git's pack directory, where git takes anything with an index for a pack."""
    directory = store.git_dir / _WORKSHOP
    with host_errors("make room for a pack"):
        make_dirs_durably(directory, parents=False)  # a repository that was removed does not come back
        for path in directory.iterdir():
            path.unlink()
    return directory


def _install_pack(store: ObjectStore, directory: Path, name: str, mtime_s: float | None, *, is_promised: bool) -> Pack:
    """Give a pack that git wrote its name among the others; on disk, and read back, on return."""
    final = store.objects_dir / "pack" / f"pack-{name}.pack"
    if mtime_s is not None:
        with suppress(FileNotFoundError):
            mtime_s = max(mtime_s, final.stat().st_mtime)
    parts = [suffix for suffix in (".pack", ".rev", ".idx") if (directory / f"new-{name}{suffix}").exists()]
    for suffix in parts:
        path = directory / f"new-{name}{suffix}"
        if mtime_s is not None:
            os.utime(path, (mtime_s, mtime_s))
        sync_path(path)
    check_whole(directory / f"new-{name}.pack")
    faults.reach("sweep.synced")
    if is_promised:  # before it is one: else what it names and is not here would be missing
        final.with_suffix(_PROMISED).touch()
    # the index last: with it the pack is one. What is there by that name holds the same, or is damaged.
    for suffix in parts:
        os.rename(directory / f"new-{name}{suffix}", final.with_suffix(suffix))
    fsync_dir(final.parent)
    store.packs.refresh()
    return next(pack for pack in store.packs.packs() if pack.path == final)


def _join_promised(store: ObjectStore, kept: list[Pack]) -> list[Pack]:
    """Join the packs that came from a server, if they are many; give the packs that stay then."""
    promised = [
        pack
        for pack in kept
        if pack.path.with_suffix(_PROMISED).exists() and not pack.path.with_suffix(".keep").exists()
    ]
    promised.sort(key=lambda pack: pack.index.count, reverse=True)
    stay = [pack for pack in kept if pack not in promised]
    if len(promised) > _MANY:
        oids = {oid for pack in promised[1:] for oid in pack.index.oids()}
        made = _write_pack(store, oids, [], revs=False, is_promised=True)
        if made is None or not oids <= set(made.index.oids()):
            raise GitFailed("pack-objects", "it left objects out")
        faults.reach("sweep.joined")
        promised = [made, *(pack for pack in promised if pack.path != made.path)]
    held: set[Oid] = set()
    for pack in promised:  # packs that were joined, now or by a process that died before they were gone
        if held.issuperset(pack.index.oids()):
            remove_pack(pack)
        else:
            held.update(pack.index.oids())
            stay.append(pack)
    return stay


def _same_as(made: Pack | None, old: list[Pack]) -> Pack | None:
    """Take an existing pack for the new one if it holds the same: nothing has changed since the last time."""
    for pack in old:
        if made is None or pack.path == made.path or pack.index.count != made.index.count:
            continue
        if pack.index.oids() == made.index.oids():
            with suppress(GitFailed):
                check_whole(pack.path)
                remove_pack(made)
                return pack
    return made


def _find_spared(store: ObjectStore, unreached: _Unreached, tips: set[Oid], before_s: float) -> set[Oid]:
    """List what is reached from unreachable objects that stay: they must stay whole."""
    young: set[Oid] = set()
    with suppress(FileNotFoundError):
        for pack, lost in unreached.packs.items():
            if lost and pack.path.stat().st_mtime >= before_s:
                young.update(lost)
    for oid, path in unreached.loose.items():
        with suppress(FileNotFoundError):
            if path.stat().st_mtime >= before_s:
                young.add(oid)
    return _list_reachable(store, young, without=tips, whole=False) if young else young


def _choose_carried(unreached: _Unreached, spared: set[Oid], before_s: float) -> dict[Pack, set[Oid]]:
    """Choose what of packs stays though nothing reaches it, where other objects of the pack do not stay there."""
    taken: dict[Pack, set[Oid]] = {}
    for pack, lost in unreached.packs.items():
        with suppress(FileNotFoundError):
            staying = set(lost) if pack.path.stat().st_mtime >= before_s else spared.intersection(lost)
            if 0 < len(staying) < pack.index.count:
                taken[pack] = staying
    return taken


def _carry(store: ObjectStore, unreached: _Unreached, spared: set[Oid], before_s: float) -> set[Oid]:
    """Move unreachable objects that are still within the grace time from mixed packs into a pack of their own."""
    taken = _choose_carried(unreached, spared, before_s)
    carried = set[Oid]().union(*taken.values())
    if carried:
        mtime_s = before_s
        for pack in taken:
            with suppress(FileNotFoundError):
                mtime_s = max(mtime_s, pack.path.stat().st_mtime)
        made = _write_pack(store, carried, [], revs=False, mtime_s=mtime_s)
        if made is None or not carried <= set(made.index.oids()):
            raise GitFailed("pack-objects", "it left objects out")
        for pack, staying in taken.items():
            unreached.packs[pack] = [oid for oid in unreached.packs[pack] if oid not in staying]
    return carried


def _drop(store: ObjectStore, unreached: _Unreached, spared: set[Oid], before_s: float, swept: Swept) -> None:
    """Drop what is old enough, but for what is reached again, or by what stays."""
    faults.reach("sweep.alone")
    _remove_commit_graph(store)
    for pack, lost in list(unreached.packs.items()):
        with suppress(FileNotFoundError):
            is_marked = any(pack.path.with_suffix(mark).exists() for mark in _MARKS)
            # Looked at only now: a process that relies on one of its objects touches the pack.
            if is_marked or pack.path.stat().st_mtime >= before_s or not spared.isdisjoint(lost):
                continue
            remove_pack(pack)
            swept.dropped += len(lost)
            del unreached.packs[pack]
            faults.reach("sweep.dropped_pack")
    for oid, path in list(unreached.loose.items()):
        with suppress(FileNotFoundError):
            if oid not in spared and path.stat().st_mtime < before_s:
                path.unlink()
                swept.dropped += 1
                del unreached.loose[oid]


def _remove_commit_graph(store: ObjectStore) -> None:
    """Remove git's graph, which may name commits that go."""
    info = store.objects_dir / "info"
    for path in (info / "commit-graph", *(info / "commit-graphs").glob("*")):
        path.unlink(missing_ok=True)
    faults.reach("sweep.graph_removed")


def _remove_empty_directories(store: ObjectStore) -> None:
    for directory in os.listdir(store.objects_dir):
        if _LOOSE.fullmatch(directory):
            with suppress(OSError):
                (store.objects_dir / directory).rmdir()

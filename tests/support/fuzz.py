"""Feed damaged and hostile bytes to everything that reads bytes of others: only typed errors may come out.

    python -m tests.support.fuzz SECONDS [SEED [READER]]

Each case is a good document, changed in a few places, given to the reader of its kind. The process has 1 GiB of memory,
and a reader that takes more than a minute is ended. Prints the seed first; a case that fails is written to a file, and
is the same again with the same seed.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from avfs_git.errors import AvfsError
from avfs_git.gitstore.formats import index as gitindex
from avfs_git.gitstore.formats import packfile
from avfs_git.gitstore.formats.commits import Commit, Signature, parse_commit, parse_links, serialize_commit
from avfs_git.gitstore.formats.index import BadIndex, ForeignIndex, GitIndex, IndexWriter, Move, make_stat, move_entries
from avfs_git.gitstore.formats.packfile import KIND_BLOB, KIND_COMMIT, KIND_TREE
from avfs_git.gitstore.formats.trees import parse_tree, serialize_tree
from avfs_git.gitstore.objects.packwriter import PackWriter
from avfs_git.gitstore.objects.store import ObjectStore, hash_object
from avfs_git.gitstore.repository import init_vault_repo
from avfs_git.gitstore.rules.attributes import TreeAttributes
from avfs_git.gitstore.rules.ignore import IgnoreRules
from avfs_git.paths import ROOT, Oid, TreePath
from avfs_git.session.control import wire
from avfs_git.vfs.layer.lower import LowerTree
from avfs_git.vfs.layer.sidecar import (
    Meta,
    SideEntry,
    compose_sidecar,
    edit_records,
    find_record,
    format_record,
    parse_differing_records,
    parse_record,
    parse_records,
    parse_sidecar,
    serialize_records,
)
from avfs_git.vfs.scan.statcache import StatCache
from avfs_git.workspace.vault.config import Config
from avfs_git.workspace.vault.format import WorkspaceState, parse_state, serialize_state
from avfs_git.workspace.vault.log.oplog import OpLog
from tests.support.objects import MemorySource

MEMORY = 1 << 30
CASE_S = 60
OID = Oid(bytes(range(20)))
_ODD: Sequence[bytes] = (
    b"\0", b"\xff", b" ", b"\n", b"/", b"..", b".git", b"-", b"-1", b"9" * 30, b"9" * 5000, b"\x80" * 12, b"\xff\xff\xff\xff",
    b"[" * 5000, b"{\"a\":" * 3000, b"null", b"true", b"1e999", b"\\ud800", b"\xf0\x9f", b"=", b"%5C%25",
    b"*" * 40, b"a*" * 300, b"[!a]" * 50, b"**/" * 50,
)  # fmt: skip


class Reader(NamedTuple):
    """Something that reads bytes."""

    seeds: Sequence[bytes]
    read: Callable[[bytes], object]
    allowed: tuple[type[Exception], ...] = (AvfsError,)
    """What it may raise, as it documents."""


def change(data: bytes, chance: random.Random) -> bytes:
    """Change a document in a few places."""
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((1, 1, 2, 4, 8, 20, 100)))
        how = chance.randrange(7)
        if how == 0 and data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
        elif how == 1:
            data = data[:at] + data[end:]
        elif how == 2:
            data = data[:at]
        elif how == 3:
            data = data[:at] + chance.choice(_ODD) + data[at:]
        elif how == 4:
            data = data[:at] + chance.choice(_ODD) + data[end:]
        elif how == 5:
            data = data[:at] + data[at:end] * chance.choice((2, 3, 200)) + data[end:]
        else:
            data = data[:at] + chance.randbytes(chance.choice((1, 4, 8))) + data[end:]
    return data


# --- what is read ------------------------------------------------------------------------------------------------


def _commit() -> bytes:
    who = Signature("Ada", "ada@example.org", 1_700_000_000, 60)
    return serialize_commit(
        Commit(OID, (OID, OID), who, who, "subject\n\nbody\n", OID, ((b"encoding", b"latin-1"), (b"gpgsig", b"a\nb")))
    )


def _tree() -> bytes:
    return serialize_tree(
        {b"a": (0o100644, OID), b"dir": (0o40000, OID), b"link": (0o120000, OID), b"x\xff": (0o100755, OID)}
    )


def _records() -> bytes:
    metas = {b"a b": Meta(10**18, 0o750, ((b"user.x", b"value"),)), b".": Meta(None, None), b"z": Meta(-5, None)}
    return serialize_records({name: format_record(meta) for name, meta in metas.items()})


def _read_sidecar(data: bytes) -> None:
    tree = parse_tree(data, OID)
    parse_sidecar(tree, OID)
    source = MemorySource()
    for _, oid in tree.values():
        source.objects[oid] = (KIND_BLOB, b"")
    side = source.add(KIND_TREE, data)
    lower = LowerTree(source, None, side, default_mtime_ns=0)
    for entry in lower.children(lower.root).values():
        lower.size_of(entry)


def _read_records(data: bytes) -> None:
    with suppress(AvfsError):
        for record in parse_records(data, OID).values():
            meta = parse_record(record, OID)
            assert meta.mtime_ns is None or abs(meta.mtime_ns) < 2**64
    with suppress(AvfsError):
        find_record(data, b"a b", OID)
    with suppress(AvfsError):
        parse_differing_records(_records(), OID, data, OID)
    edit_records(data, {b"a b": b"1 - -", b"n": b"2 - -", b"z": None}, OID)


def _index(version: int = 2) -> bytes:
    writer = IndexWriter()
    for name in (b"a", b"b/c", b"b/d", b"e" * 300):
        writer.add(name, 0o100644, OID, make_stat(0o100644, 5, 10**18))
    cached = gitindex.CachedTree(OID, 4)
    cached.below[b"b"] = gitindex.CachedTree(OID, 2)
    data = writer.finish(cached)
    return data[:4] + version.to_bytes(4, "big") + data[8:]


def _read_index(data: bytes) -> None:
    for whole in (data, data[:-20] + bytes(20)):  # without a checksum, so that all of it is taken apart
        with suppress(BadIndex, ForeignIndex):
            index = GitIndex(whole)
            for number in range(len(index)):
                index.entry(number)
            move_entries(index, [Move(b"b/c", (0o100644, OID), None), Move(b"n", None, (0o100644, OID))])


def _read_files(files: Mapping[str, bytes], read: Callable[[Path], object]) -> None:
    with tempfile.TemporaryDirectory() as place:
        for name, data in files.items():
            Path(place, name).parent.mkdir(parents=True, exist_ok=True)
            Path(place, name).write_bytes(data)
        read(Path(place))


class _Packs:
    """A repository with a pack, of which one file at a time is damaged."""

    def __init__(self, place: Path) -> None:
        self.git_dir = place / "v.git"
        init_vault_repo(self.git_dir)
        with ObjectStore(self.git_dir) as store:
            writer = PackWriter(store)
            self.oids = [writer.add(KIND_BLOB, b"%d" % number * 700) for number in range(4)]
            self.oids += [
                writer.add(KIND_TREE, serialize_tree({b"f": (0o100644, self.oids[0])})),
                writer.add(KIND_COMMIT, _commit()),
            ]
            writer.finish()
        self.pack = next((self.git_dir / "objects" / "pack").glob("*.pack"))
        self.index = self.pack.with_suffix(".idx")
        self.whole = {path: path.read_bytes() for path in (self.pack, self.index)}
        loose = zlib.compress(b"blob 6\0loose\n")
        self.loose_oid = hash_object(KIND_BLOB, b"loose\n")
        name = self.loose_oid.hex()
        self.loose = self.git_dir / "objects" / name[:2] / name[2:]
        self.loose.parent.mkdir(exist_ok=True)
        self.whole[self.loose] = loose

    def reader(self, path: Path) -> Reader:
        """Read with one file damaged."""

        def read(data: bytes) -> None:
            for other, whole in self.whole.items():
                other.unlink(missing_ok=True)
                other.write_bytes(data if other == path else whole)
            with ObjectStore(self.git_dir) as store:
                for oid in (*self.oids, self.loose_oid):
                    for ask in (
                        store.read,
                        store.header,
                        store.blob_size,
                        store.exists,
                        lambda oid: list(store.stream_blob(oid)),
                    ):
                        with suppress(AvfsError):
                            ask(oid)
                with suppress(AvfsError):
                    store.blob_sizes(self.oids[:3])
                store.learn_sizes(self.oids)
                store.find_by_prefix(self.oids[0].hex()[:6])

        return Reader([self.whole[path]], read)


def _oplog() -> bytes:
    return json.dumps(
        {
            "id": 1, "fork": "main", "kind": "checkpoint", "text": "a", "at": 10**18,
            "moves": [["refs/heads/main", None, OID.hex()]], "before": None, "after": None, "target": None, "more": {},
        }
    ).encode()  # fmt: skip


def _read_oplog(body: bytes) -> None:
    """Read a log whose last line is whole by its checksum, and says something odd."""
    body = body.replace(b"\n", b" ")
    data = b"".join(
        b"%08x%b%b\n" % (zlib.crc32(text), mark, text) for mark in (b" ", b"?") for text in (_oplog(), body)
    )

    def read(place: Path) -> None:
        log = OpLog(place / "oplog", lambda _: None)
        list(log.read())
        log.find_unconfirmed("main")
        log.find_last_value("refs/heads/main")
        log.list_operations("main", 10)
        log.find_undoable("main")

    _read_files({"oplog": data}, read)


def _read_wire(data: bytes) -> None:
    into = wire.Incoming()
    message = wire.unpack_message(data, into)
    body = wire.body_of(message, "body", into)
    for hint in (bytes, TreePath, str, int, list[str], tuple[str, int], bytes | None):
        with suppress(wire.NotUnderstood):
            wire.codec_of(hint)[1](body, into)
    with suppress(wire.NotUnderstood):
        wire.decode_error(body)


def _read_attributes(data: bytes) -> None:
    source = MemorySource()
    blob = source.add(KIND_BLOB, data)
    tree = source.add(KIND_TREE, serialize_tree({b".gitattributes": (0o100644, blob)}))
    TreeAttributes(source, tree).find(TreePath(b"dir/a.txt"), [b"text", b"merge", b"diff"])


@contextmanager
def readers() -> Iterator[dict[str, Reader]]:
    """Make all readers."""
    state = serialize_state(WorkspaceState("main", OID.hex(), None))
    with tempfile.TemporaryDirectory() as place:
        packs = _Packs(Path(place))
        yield {
            "tree": Reader([_tree(), b""], lambda data: parse_tree(data, OID)),
            "commit": Reader([_commit()], lambda data: parse_commit(data, OID)),
            "links": Reader([_commit()], lambda data: parse_links(data, OID)),
            "sidecar": Reader(
                [
                    serialize_tree(
                        compose_sidecar(
                            {b"a%\\": SideEntry(0o100644, OID, True), b"d": SideEntry(0o40000, OID, False)}, OID
                        )
                    )
                ],
                _read_sidecar,
            ),
            "records": Reader([_records()], _read_records),
            "index": Reader([_index(), _index(3), _index(4)], _read_index),
            "cached tree": Reader([b"\x003 1\n" + OID + b"b\x001 0\n" + OID], gitindex.parse_cached_tree, (BadIndex,)),
            "pack": packs.reader(packs.pack),
            "pack index": packs.reader(packs.index),
            "loose object": packs.reader(packs.loose),
            "entry header": Reader([packfile.entry_header(3, 10**9)], packfile.parse_entry_header, (packfile.BadPack,)),
            "operation": Reader([_oplog()], _read_oplog),
            "control message": Reader(
                [b'{"v": %d, "body": ["a", 1, {"b64": "YQ=="}]}' % wire.VERSION], _read_wire, (wire.NotUnderstood,)
            ),
            "settings": Reader(
                [b'{"exec.notes": "1"}'],
                lambda data: _read_files({"c": data}, lambda place: Config(place / "c").read()),
            ),
            "workspace state": Reader([state], lambda data: parse_state(data, "main")),
            "stat cache": Reader(
                [b"", b"avfs"], lambda data: _read_files({"s": data}, lambda place: StatCache.load(place / "s"))
            ),
            "ignore rules": Reader(
                [b"*.log\n!keep\n/a/**/b\n[a-z]?x\n\\#\n"],
                lambda data: IgnoreRules.parse(data, ROOT, git_version=(2, 40)).decide(
                    TreePath(b"a/" * 40 + b"b"), b"a" * 200, is_dir=False
                ),
            ),
            "attributes": Reader([b'[attr]bin -text\n*.txt text eol=lf\n"a b" bin\nx !merge\n'], _read_attributes),
        }


# --- the run -----------------------------------------------------------------------------------------------------


def run(seconds: float, seed: int, only: str | None = None) -> int:
    """Read for so long; gives how many cases there were."""
    count = 0
    end = time.monotonic() + seconds
    with readers() as known:
        chosen = {only: known[only]} if only is not None else known
        chances = {name: random.Random(f"{seed} {name}") for name in chosen}
        while time.monotonic() < end:
            for name, reader in chosen.items():
                chance = chances[name]
                data = change(chance.choice(reader.seeds), chance)
                faulthandler.dump_traceback_later(CASE_S, exit=True)
                try:
                    reader.read(data)
                except reader.allowed:
                    pass
                except BaseException:
                    case = Path(tempfile.gettempdir(), f"avfs-case-{os.getpid()}")
                    case.write_bytes(data)
                    print(f"{name}: failed with seed {seed}; the case is in {case}: {data[:300]!r}", file=sys.stderr)
                    raise
                count += 1
        faulthandler.cancel_dump_traceback_later()
    return count


if __name__ == "__main__":
    given = sys.argv[1:]
    number = int(given[1]) if len(given) > 1 else random.SystemRandom().randrange(10**9)
    print(f"seed {number}", flush=True)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    print(f"{run(float(given[0]), number, given[2] if len(given) > 2 else None)} cases", flush=True)

"""Git directories that live for one git command: empty, with a configuration of ours, borrowing another's objects.

For questions about objects that are not part of a vault, or must not become part of it. A crash leaves a temporary
directory, which goes as `host.lockedplace` says.
"""

from __future__ import annotations

import hashlib
import zlib
from array import array
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from avfs_git.gitstore.formats.deflate import deflate
from avfs_git.gitstore.formats.packfile import KIND_NAMES, PACK_HEADER, entry_header
from avfs_git.gitstore.formats.packindex import build_index
from avfs_git.gitstore.objects.store import hash_object
from avfs_git.host.files.durable import host_errors
from avfs_git.host.lockedplace import locked_directory
from avfs_git.paths import Oid

_CONFIG = b"""[core]
\trepositoryformatversion = 0
\tbare = %b
\tcommitGraph = %b
\tmultiPackIndex = false
\tfsync = none
"""
"""What came along to make git faster is not believed where objects are judged: it could contradict the objects."""


@contextmanager
def scratch_repository(
    purpose: str, *, is_bare: bool = True, is_trusting: bool = False, config: bytes = b""
) -> Iterator[Path]:
    """Make an empty repository for the time of a block; give its git directory.

    An error says that `purpose` failed. With `is_trusting`, git believes the commit-graph of the repository whose
    objects are borrowed.
    """
    with host_errors(purpose), locked_directory() as git_dir:
        for name in ("objects", "refs", "info"):
            (git_dir / name).mkdir()
        words = [b"true" if each else b"false" for each in (is_bare, is_trusting)]
        (git_dir / "config").write_bytes(_CONFIG % tuple(words) + config)
        (git_dir / "HEAD").write_bytes(b"ref: refs/heads/none\n")
        yield git_dir


def put_loose(git_dir: Path, kind: int, data: bytes) -> Oid:
    """Write an object into a repository that no other process uses; not durably."""
    oid = hash_object(kind, data)
    name = oid.hex()
    (git_dir / "objects" / name[:2]).mkdir(exist_ok=True)
    content = zlib.compress(b"%b %d\0" % (KIND_NAMES[kind], len(data)) + data, 1)
    (git_dir / "objects" / name[:2] / name[2:]).write_bytes(content)
    return oid


def put_pack(git_dir: Path, objects: Iterable[tuple[int, bytes]]) -> None:
    """Write objects into a repository that no other process uses, as one pack; not durably.

    Holds one of them in memory.
    """
    offsets: dict[Oid, int] = {}
    crcs = array("I")
    directory = git_dir / "objects" / "pack"
    directory.mkdir()
    with (directory / "pack-lent.pack").open("w+b") as file:
        at = file.write(PACK_HEADER.pack(b"PACK", 2, 0))
        for kind, data in objects:
            oid = hash_object(kind, data)
            if oid not in offsets:
                entry = entry_header(kind, len(data)) + deflate(data, 1)
                offsets[oid] = at
                crcs.append(zlib.crc32(entry))
                at += file.write(entry)
        file.seek(0)
        file.write(PACK_HEADER.pack(b"PACK", 2, len(offsets)))
        file.seek(0)
        checksum = hashlib.file_digest(file, lambda: hashlib.sha1(usedforsecurity=False)).digest()
        file.write(checksum)
    (directory / "pack-lent.idx").write_bytes(build_index(list(offsets), list(offsets.values()), crcs, checksum))

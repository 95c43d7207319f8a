"""Names that git refuses for what they are, judged by git itself."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
import zlib
from pathlib import Path

from avfs_git.gitstore.formats.trees import MODE_FILE, MODE_SYMLINK, MODE_TREE, is_forbidden_kind, is_forbidden_name
from tests.support.oracle import git

_STEMS = [
    b".gitmodules", b".GITmodules", b"gitmod~1", b"GITMOD~4", b"gitmod~5", b"gi7eba~1", b"gi7eb~12", b"g~123456", b"~1234567",
    b"gi7eba~0", b"gi7ebb~1", b"gitmodules", b".gitmodule", b".g\xe2\x80\x8citmodules", b"\xef\xbb\xbf.gitmodules",
    b".gitattributes", b"gitatt~1", b"gi7d29~1", b"gi7d2~99", b".gitignore", b"gitign~1", b".mailmap", b"plain",
    b".git\xffmodules",
]  # fmt: skip
_ENDS = [b"", b" ", b". .", b":stream", b"x", b"\xe2\x80\x8d", b"\xe2\x80"]


def test_refuses_what_fsck_refuses(tmp_path: Path) -> None:
    """A symbolic link or directory is refused exactly where `git fsck --strict` calls the tree with it an error."""
    git("init", "-q", "--bare", tmp_path)
    blob = _hash(tmp_path, "blob", b"x")
    names = [stem + end for stem, end in itertools.product(_STEMS, _ENDS)]
    made: dict[str, tuple[bytes, int]] = {}
    for name, (mode, oid) in itertools.product(names, [(MODE_FILE, blob), (MODE_SYMLINK, blob), (MODE_TREE, b"")]):
        if is_forbidden_name(name):
            continue
        inner = oid or _hash(tmp_path, "tree", b"100644 x%d\0%b" % (len(made), blob))
        tree = _hash(tmp_path, "tree", b"%o %b\0%b" % (mode, name, inner))
        made[tree.hex()] = (name, mode)
        if mode == MODE_TREE:
            made[inner.hex()] = (name, mode)  # git names the directory in this case
    done = subprocess.run(
        ["git", "fsck", "--strict", "--no-dangling"],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
        errors="replace",
    )
    refused = {line.split()[3].rstrip(":") for line in done.stderr.splitlines() if line.startswith("error in tree")}
    bad = {made[tree] for tree in refused}
    wrong = {entry for entry in made.values() if (entry in bad) != is_forbidden_kind(*entry)}
    assert not wrong
    assert refused


def _hash(git_dir: Path, kind: str, data: bytes) -> bytes:
    whole = b"%b %d\0%b" % (kind.encode(), len(data), data)
    name = hashlib.sha1(whole).hexdigest()
    place = git_dir / "objects" / name[:2] / name[2:]
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(zlib.compress(whole))
    return bytes.fromhex(name)
